"""The export of a conversation as .eln: The ELN Consortium's file format, an RO-Crate 1.1 in a ZIP file.

    baio-conversation-12/
        ro-crate-metadata.json      what the files are, with the SHA-256 and the size of each
        conversation/
            conversation.md         the export as Markdown
            conversation.json       the export as JSON
            sequences/              each sequence that a call was given: stored as GenBank, pasted as FASTA
            tables/                 the lists in the results of calls, as CSV

The metadata is written last, when the hashes of the files are known; what it says about each is kept in a temporary
file until then. Source: github.com/TheELNConsortium/TheELNFileFormat, SPECIFICATION.md, and w3id.org/ro/crate/1.1.
"""

import hashlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from datetime import datetime
from tempfile import SpooledTemporaryFile
from typing import ClassVar

from baio_api.exports.document import JSON_TYPE, document_pieces, software
from baio_api.exports.markdown import MARKDOWN_TYPE, markdown_pieces
from baio_api.exports.tables import tables
from baio_api.exports.zips import File, ZipWriter
from baio_domain.entities import CallInput, CallState, ToolCall
from baio_domain.sequence_files import Part
from baio_domain.text import printable
from baio_domain.tool_records import letters_of
from baio_domain.use_cases.exports import ConversationExport

ELN_TYPE = "application/vnd.eln+zip"
METADATA = "ro-crate-metadata.json"
DATASET = "conversation"
GENBANK_TYPE = "chemical/seq-na-genbank"
FASTA_TYPE = "text/x-fasta"
CSV_TYPE = "text/csv;charset=utf-8"  # without a space, as the RO-Crate validator reads media types

SLICE = 65_536
"""Characters that are compressed at once: about a millisecond."""

IN_MEMORY = 2**20
"""Bytes of metadata that are kept in memory."""

LINE = 70
"""Letters of a line of FASTA."""

_UNSAFE = re.compile(r"[^A-Za-z0-9]+")
_CONFORMS_TO = "https://w3id.org/ro/crate/1.1"
_CONTEXT = [f"{_CONFORMS_TO}/context", {"sha256": "https://schema.org/sha256"}]
"""RO-Crate 1.1 itself has no term for the hash that the format wants of each file."""
_AUTHOR = {"@id": "#author"}


async def archive_pieces(export: ConversationExport) -> AsyncGenerator[bytes, None]:
    """The archive in pieces, as it is read."""
    root = f"baio-conversation-{export.conversation.id}"
    with ZipWriter() as archive, _spool() as entities, _spool() as parts, _spool() as mentions, _spool() as values:
        crate = _Crate(export, entities, parts, mentions, values)
        written = (
            _document(archive, root, crate, "conversation.md", MARKDOWN_TYPE, markdown_pieces(export)),
            _document(archive, root, crate, "conversation.json", JSON_TYPE, document_pieces(export)),
            _stored_sequences(archive, root, crate, export),
            _of_calls(archive, root, crate, export),
        )
        for each in written:
            async for piece in each:
                yield piece
        async for page in export.messages():
            crate.saw(page[-1].created_at)
        with archive.file(f"{root}/{METADATA}") as file:
            for text in crate.pieces():
                file.write(text)
                yield archive.take()
        archive.close()
        yield archive.take()


async def _document(
    archive: ZipWriter, root: str, crate: "_Crate", name: str, media_type: str, pieces: AsyncIterator[str]
) -> AsyncIterator[bytes]:
    with archive.file(f"{root}/{DATASET}/{name}") as file:
        async for piece in pieces:
            for start in range(0, len(piece), SLICE):
                file.write(piece[start : start + SLICE])
                yield archive.take()
    crate.add_file(file.file, name, media_type, "The conversation with its methods and the records of its calls.")


async def _stored_sequences(
    archive: ZipWriter, root: str, crate: "_Crate", export: ConversationExport
) -> AsyncIterator[bytes]:
    """The sequences that have handles: nucleotides as GenBank, which keeps topology and features, proteins as FASTA."""
    async for page in export.sequences():
        cited = page.pop()
        sequence, is_protein = cited.sequence, cited.sequence.molecule == "protein"
        name = f"sequences/{sequence.handle}.{'fasta' if is_protein else 'gb'}"
        part = Part("fasta" if is_protein else "genbank", 1, sequence.length)
        text = await export.files.write(sequence, cited.content, part)
        with archive.file(f"{root}/{DATASET}/{name}") as file:
            for start in range(0, len(text), SLICE):
                file.write(text[start : start + SLICE])
                yield archive.take()
        about = f"{sequence.name}, {sequence.length} letters; the SHA-256 of the letters alone is {sequence.sha256}."
        crate.add_file(file.file, name, FASTA_TYPE if is_protein else GENBANK_TYPE, printable(about))
        crate.stored[sequence.id] = f"{DATASET}/{name}"


async def _of_calls(archive: ZipWriter, root: str, crate: "_Crate", export: ConversationExport) -> AsyncIterator[bytes]:
    """The sequences and tables of all calls. A sequence is written once, however many calls were given it."""
    known: set[str] = set()
    async for page in export.tool_calls():
        for call in page:
            ids = (each.sequence_id for each in call.inputs if each.sequence_id is not None)
            objects, results = [crate.stored[each] for each in ids if each in crate.stored], []
            for each, letters in _sequences(call):
                name = f"sequences/{each.sha256[:32]}.fasta"
                objects.append(f"{DATASET}/{name}")
                if name not in known:
                    known.add(name)
                    with archive.file(f"{root}/{DATASET}/{name}") as file:
                        for text in _fasta(each, letters):
                            file.write(text)
                            yield archive.take()
                    about = f"{each.length} letters; the SHA-256 of the letters alone is {each.sha256}."
                    crate.add_file(file.file, name, FASTA_TYPE, about)
            for place, (of, text) in enumerate(_tables(call)):
                name = f"tables/call-{call.id}-{place + 1}-{_UNSAFE.sub('-', of)[:40].strip('-')}.csv"
                results.append(f"{DATASET}/{name}")
                with archive.file(f"{root}/{DATASET}/{name}") as file:
                    file.write(text)
                    yield archive.take()
                crate.add_file(file.file, name, CSV_TYPE, f"From the result of call {call.id}.")
            crate.add_call(call, objects, results)


def _sequences(call: ToolCall) -> Iterator[tuple[CallInput, str]]:
    arguments = json.loads(call.arguments or "{}")
    for each in call.inputs:
        letters = None if each.sequence_id else letters_of(each, arguments)  # a stored one has a file of its own
        if letters and hashlib.sha256(letters.encode()).hexdigest() == each.sha256:
            yield each, letters


def _tables(call: ToolCall) -> Iterator[tuple[str, str]]:
    if call.state is CallState.DONE:
        yield from tables(json.loads(call.result or "{}"))


def _fasta(each: CallInput, letters: str) -> Iterator[str]:
    yield f">{printable(each.name or each.argument)}\n"
    for start in range(0, len(letters), LINE * 1000):
        part = letters[start : start + LINE * 1000]
        yield "".join(f"{part[at : at + LINE]}\n" for at in range(0, len(part), LINE))


def _spool() -> SpooledTemporaryFile[str]:
    return SpooledTemporaryFile(IN_MEMORY, "w+", encoding="utf-8")


class _Crate:
    """What the metadata says, collected as the files are written."""

    _root: ClassVar = "./"

    def __init__(
        self,
        export: ConversationExport,
        entities: SpooledTemporaryFile[str],
        parts: SpooledTemporaryFile[str],
        mentions: SpooledTemporaryFile[str],
        values: SpooledTemporaryFile[str],
    ) -> None:
        self._export = export
        self._latest = export.conversation.created_at
        self.stored: dict[int, str] = {}  # the files of stored sequences, by their ids
        self._tools: dict[tuple[str, str, str, str], str] = {}
        self._entities, self._parts, self._mentions, self._values = entities, parts, mentions, values
        self._add_value("#software", "Software", "Software", software())

    def saw(self, moment: datetime) -> None:
        """Something happened then: the crate is as new as the newest."""
        self._latest = max(self._latest, moment)

    def add_file(self, file: File, name: str, media_type: str, about: str) -> None:
        """Describe a file of the dataset. It names the author, or SampleDB would attribute it to whoever imports it."""
        id_ = f"./{DATASET}/{name}"
        self._parts.write(f",{json.dumps({'@id': id_})}")
        self._add(
            {
                "@id": id_,
                "@type": "File",
                "name": name.rpartition("/")[2],
                "description": about,
                "encodingFormat": media_type,
                "contentSize": str(file.size),
                "sha256": file.sha256,
                "author": _AUTHOR,
            }
        )

    def add_call(self, call: ToolCall, objects: list[str], results: list[str]) -> None:
        """Describe a call: an action, by the tool as an instrument, on sequences, with tables as its result.

        Notebooks show no actions, so what came of it is a value of the dataset as well.
        """
        self.saw(call.ended_at or call.started_at)
        key = (call.tool, call.version, call.library, call.definition)
        tool = self._tools.setdefault(key, f"#tool-{len(self._tools) + 1}")
        id_ = f"#call-{call.id}"
        self._mentions.write(f",{json.dumps({'@id': id_})}")
        name = f"Call {call.id} of {call.tool}"
        outcome = call.line.replace("**", "") or f"{call.state.value}: {call.error or ''}"
        self._add_value(f"#value-{call.id}", f"Call {call.id}", name, f"{call.tool}: {outcome}")
        self._add(
            {
                "@id": id_,
                "@type": "CreateAction",
                "name": name,
                "description": outcome,
                "instrument": {"@id": tool},
                "object": [{"@id": f"./{each}"} for each in objects],
                "result": [{"@id": f"./{each}"} for each in results],
                "startTime": _iso(call.started_at),
                **({"endTime": _iso(call.ended_at)} if call.ended_at else {}),
                **({"identifier": f"sha256:{call.result_sha256}"} if call.result_sha256 else {}),
            }
        )

    def pieces(self) -> Iterator[str]:
        """The metadata, piece by piece."""
        conversation, author = self._export.conversation, self._export.author
        title = printable(conversation.title.strip()) or f"Conversation {conversation.id}"
        created, latest = _iso(conversation.created_at), _iso(self._latest)
        about = f"Conversation {conversation.id} with BAiO, with the records of its tools' calls."
        common = {"name": title, "description": about, "author": _AUTHOR}
        yield f'{{"@context":{_json(_CONTEXT)},"@graph":['
        descriptor = {
            "@id": METADATA,
            "@type": "CreativeWork",
            "about": {"@id": self._root},
            "conformsTo": {"@id": _CONFORMS_TO},
            "dateCreated": latest,
            "version": "1.0",
            "sdPublisher": {"@id": "#baio"},
        }
        yield _json(descriptor)
        # Only here: eLabFTW shows the licence of an entry as a link, and this one leads nowhere.
        rights = {"license": {"@id": "#rights"}}
        root = {"@id": self._root, "@type": "Dataset", **common, **rights, "datePublished": latest}
        yield f',{_json(root)[:-1]},"hasPart":[{{"@id":"./{DATASET}/"}}],"mentions":['
        yield from _spooled(self._mentions, skip=1)
        dataset = {
            "@id": f"./{DATASET}/",
            "@type": "Dataset",
            **common,
            "genre": "experiment",
            "dateCreated": created,
            "dateModified": latest,
            "text": "<p>The files conversation.md and conversation.json have all of it.</p>",
        }
        yield f']}},{_json(dataset)[:-1]},"variableMeasured":['
        yield from _spooled(self._values, skip=1)
        yield '],"hasPart":['
        yield from _spooled(self._parts, skip=1)
        yield "]}"
        for entity in (
            {**_AUTHOR, "@type": "Person", "name": printable(author)},
            {"@id": "#baio", "@type": "Organization", "name": "BAiO", "description": software()},
            {"@id": "#rights", "@type": "CreativeWork", "name": "No licence is stated: ask the author."},
            *(_tool(id_, *key) for key, id_ in self._tools.items()),
        ):
            yield f",{_json(entity)}"
        yield from _spooled(self._entities)
        yield "]}\n"

    def _add_value(self, id_: str, label: str, name: str, value: str) -> None:
        """Add a value that notebooks show as a field of the entry, under its label."""
        self._values.write(f",{json.dumps({'@id': id_})}")
        self._add({"@id": id_, "@type": "PropertyValue", "propertyID": label, "name": name, "value": value})

    def _add(self, entity: dict[str, object]) -> None:
        self._entities.write(f",{_json(entity)}")


def _tool(id_: str, name: str, version: str, library: str, definition: str) -> dict[str, str]:
    about = {"version": version, "softwareRequirements": library, "description": definition}
    return {
        "@id": id_,
        "@type": "SoftwareApplication",
        "name": name,
        **{key: text for key, text in about.items() if text},
    }


def _spooled(file: SpooledTemporaryFile[str], skip: int = 0) -> Iterator[str]:
    """What was written to the file, piece by piece, without the first characters."""
    file.seek(0)
    file.read(skip)
    while text := file.read(SLICE):
        yield text


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
