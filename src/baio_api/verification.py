"""``baio verify``: computes the calls of an exported conversation again, and checks the files of the archive.

An export may come from anybody. Its size is checked before it is read, and nothing in it is trusted.
"""

import hashlib
import json
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import msgspec

from baio_api.exports.eln import DATASET, METADATA
from baio_api.schemas.exports import FORMAT_VERSION
from baio_domain.entities import (
    CallState,
    EndedCall,
    InputOrigin,
    InputSource,
    SequenceContent,
    StoredSequence,
)
from baio_domain.handles import handle_id
from baio_domain.tool_records import ended_call
from baio_domain.tools import GivenSequence, Toolbox, ToolSpec, ToolState, canonical_sha256

MAX_DOCUMENT_BYTES = 256 * 2**20
"""The longest document that is read."""

MAX_FILE_BYTES = 2**30
"""The largest file that is opened, and all files of an archive together when they are unpacked."""

MAX_DIRECTORY_BYTES = 16 * 2**20
"""The longest directory of an archive: about 100,000 files."""

BLOCK = 2**20

_END = struct.Struct("<4s4H2IH")
_END_64 = struct.Struct("<4sIQI")


_OF_THE_SERVER = ("unknown-handle", "ambiguous-name")
"""Refusals that depend on the sequences that a user has stored."""


class ExportError(Exception):
    """The file is not an export that can be verified; the message says why."""


class Verdict(StrEnum):
    """The outcome for a call or a file."""

    SAME = "same"
    DIFFERENT = "DIFFERENT"
    MISSING = "MISSING"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Finding:
    """A call or a file, its outcome, and why."""

    subject: str
    verdict: Verdict
    remarks: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return self.verdict in (Verdict.SAME, Verdict.LEFT_OUT)


class Input(msgspec.Struct):
    """A sequence that a call was given."""

    argument: str
    sha256: str


class Record(msgspec.Struct):
    """What is needed of the record of a call."""

    id: int
    tool: str
    version: str
    library: str
    state: CallState
    arguments: dict[str, Any] | None
    result: dict[str, Any] | None
    result_sha256: str | None
    error: str = ""
    inputs: list[Input] = []


class Stored(msgspec.Struct):
    """A stored sequence, which calls name by its handle."""

    id: Annotated[int, msgspec.Meta(ge=1)]
    name: str
    description: str
    molecule: Literal["DNA", "RNA", "protein"]
    topology: Literal["linear", "circular"]
    letters: str
    features: list[Any]

    def given(self) -> GivenSequence:
        """It as a tool is given it."""
        letters, features = self.letters.encode(), msgspec.json.encode(self.features)
        sequence = StoredSequence(
            self.id,
            0,
            self.name,
            self.description,
            self.molecule,
            self.topology,
            len(letters),
            len(self.features),
            hashlib.sha256(letters).hexdigest(),
            "",
            InputOrigin(InputSource.FILE),
            datetime.fromtimestamp(0, UTC),
        )
        return GivenSequence(sequence, SequenceContent(zlib.compress(letters, 1), zlib.compress(features, 1)))


class Document(msgspec.Struct):
    """What is needed of an export."""

    format: Literal["baio-conversation"]
    version: int
    tool_calls: list[Record]
    sequences: list[Stored] = []


class _Entity(msgspec.Struct):
    id: Annotated[str, msgspec.Meta(max_length=4096)] = msgspec.field(name="@id")
    sha256: str | None = None


class _Metadata(msgspec.Struct):
    graph: list[_Entity] = msgspec.field(name="@graph")


@dataclass(frozen=True, slots=True)
class Export:
    """A file that was read: its document, and what is wrong with the other files of an archive."""

    document: Document
    files: tuple[Finding, ...] = ()


def read_export(path: Path) -> Export:
    """Read an export as JSON or .eln. Raises ExportError."""
    try:
        if not path.is_file():
            raise ExportError("there is no such file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ExportError(f"it is larger than {MAX_FILE_BYTES // 2**20:,} MiB")
        with path.open("rb") as file:
            start = file.read(4)
            file.seek(0)
            if start == b"PK\x03\x04":
                return _read_archive(file)
            return Export(_document(_limited(file, path.stat().st_size)))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ExportError(f"it is no archive that can be read ({error})") from None
    except OSError as error:
        raise ExportError(error.strerror or str(error)) from None


def _limited(file: IO[bytes], size: int) -> bytes:
    if size > MAX_DOCUMENT_BYTES:
        raise ExportError(f"its document is longer than {MAX_DOCUMENT_BYTES // 2**20:,} MiB")
    return file.read(size)


def _document(data: bytes) -> Document:
    try:
        document = msgspec.json.decode(data, type=Document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        hint = " Markdown can't be verified: export the conversation as json or eln." if data[:2] == b"# " else ""
        raise ExportError(f"it is no exported conversation: {why}.{hint}") from None
    if document.version != FORMAT_VERSION:
        raise ExportError(f"it has version {document.version} of the format; this BAiO reads {FORMAT_VERSION}")
    return document


def _read_archive(file: IO[bytes]) -> Export:
    _refuse_long_directory(file)
    with zipfile.ZipFile(file) as archive:
        members = {each.filename: each for each in archive.infolist()}
        if len(members) < len(archive.infolist()):
            raise ExportError("two of its files have the same name")
        if sum(each.file_size for each in members.values()) > MAX_FILE_BYTES:
            raise ExportError(f"its files have more than {MAX_FILE_BYTES // 2**20:,} MiB")
        root = next(iter(members)).partition("/")[0]
        document = _document(_member(archive, members, f"{root}/{DATASET}/conversation.json"))
        try:
            metadata = msgspec.json.decode(_member(archive, members, f"{root}/{METADATA}"), type=_Metadata)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ExportError(f"its {METADATA} can't be read: {error}") from None
        return Export(document, tuple(_files(archive, members, root, metadata)))


def _refuse_long_directory(file: IO[bytes]) -> None:
    """An archive's directory is held in memory when it is opened: how long it is stands at the end of the file."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END.size - 20))
    tail = file.read()
    if len(tail) < _END.size or not tail[-_END.size :].startswith(b"PK\x05\x06"):
        raise ExportError("it is no archive that can be read (its end is missing)")
    length = _END.unpack(tail[-_END.size :])[5]
    if tail.startswith(b"PK\x06\x07") or length > MAX_DIRECTORY_BYTES:
        raise ExportError("it has more files than an export has")
    file.seek(0)


def _member(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str) -> bytes:
    if name not in members:
        raise ExportError(f"it has no file {name}")
    with archive.open(members[name]) as entry:
        return _limited(entry, members[name].file_size)


def _files(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], root: str, metadata: _Metadata
) -> Iterator[Finding]:
    """Whether each file that the metadata describes is there as it was written."""
    for entity in metadata.graph:
        if entity.sha256 is None:
            continue
        name = f"{root}/{entity.id.removeprefix('./')}"
        if name not in members:
            yield Finding(f"file {entity.id}", Verdict.MISSING, ("it is not in the archive",))
            continue
        digest = hashlib.sha256()
        with archive.open(members[name]) as entry:
            while block := entry.read(BLOCK):
                digest.update(block)
        if digest.hexdigest() != entity.sha256:
            yield Finding(f"file {entity.id}", Verdict.DIFFERENT, ("its SHA-256 is not the one in the metadata",))


async def verified_calls(document: Document, toolbox: Toolbox) -> AsyncIterator[Finding]:
    """Compute each call again, in their order."""
    specs = {spec.name: spec for spec in toolbox.specs()}
    stored = {each.id: each for each in document.sequences}
    for record in document.tool_calls:
        yield await _verified(record, specs.get(record.tool), toolbox, stored)


async def _verified(record: Record, spec: ToolSpec | None, toolbox: Toolbox, stored: Mapping[int, Stored]) -> Finding:
    subject = f"call {record.id}, {record.tool} {record.version}".rstrip()
    if record.state not in (CallState.DONE, CallState.REFUSED):
        return Finding(subject, Verdict.LEFT_OUT, (f"it was {record.state.value}",))
    if record.state is CallState.REFUSED and (not record.arguments or record.error in _OF_THE_SERVER):
        return Finding(subject, Verdict.LEFT_OUT, (f"it was refused before it was run ({record.error})",))
    if spec is None:
        return Finding(subject, Verdict.MISSING, ("there is no such tool here",))
    arguments = record.arguments or {}
    ids = {name: found for name, value in arguments.items() if (found := handle_id(value)) is not None}
    missing = sorted(f"seq_{each}" for each in ids.values() if each not in stored)
    if missing:
        return Finding(subject, Verdict.MISSING, (f"the file has no sequence {', '.join(missing)}",))
    given = {name: stored[each].given() for name, each in ids.items()}
    outcome = await toolbox.run(record.tool, arguments, given)
    others = (*_other_letters(record, given), *_other_versions(record, spec))
    if outcome.state not in (ToolState.DONE, ToolState.REFUSED):
        return Finding(subject, Verdict.MISSING, (f"it can't be computed here: {outcome.result['detail']}", *others))
    differences = tuple(_differences(record, ended_call(outcome)))
    return Finding(subject, Verdict.DIFFERENT if differences else Verdict.SAME, (*differences, *others))


def _differences(record: Record, computed: EndedCall) -> Iterator[str]:
    """How the result in the file differs from its own hash, and from what is computed now."""
    if _hash(record.result) != record.result_sha256:
        yield "the result in the file is not the one that was recorded"
    if computed.result_sha256 != record.result_sha256:
        then, now = record.result or {}, json.loads(computed.result)
        names = sorted(name for name in {**then, **now} if then.get(name) != now.get(name))
        yield f"another result: {', '.join(names)}" if names else "the recorded SHA-256 is of another result"


def _other_letters(record: Record, given: Mapping[str, GivenSequence]) -> Iterator[str]:
    for each in record.inputs:
        sequence = given[each.argument].sequence if each.argument in given else None
        if sequence is not None and sequence.sha256 != each.sha256:
            yield f"the letters of {sequence.handle} in the file are not those that were given then"


def _other_versions(record: Record, spec: ToolSpec) -> Iterator[str]:
    if record.version != str(spec.version):
        yield f"version {record.version} of the tool then, {spec.version} here"
    if record.library != spec.library:
        yield f"{record.library or 'no library'} then, {spec.library or 'none'} here"


def _hash(result: object) -> str | None:
    try:
        return None if result is None else canonical_sha256(result)
    except ValueError:  # a number that JSON has not
        return ""
