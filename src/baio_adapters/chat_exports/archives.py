"""Zip archives as services hand them out: their contents are checked before they are unpacked."""

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, BinaryIO, final

from baio_adapters.chat_exports.json_items import Readable
from baio_domain.errors import FieldError, InvalidInput
from baio_domain.ports import UnreadableThread

MAX_UNPACKED_BYTES = 1_073_741_824
"""The most that the files with conversations may have together."""

MAX_DIRECTORY_BYTES = 8_388_608
"""The longest list of the archive's files. It is read as a whole; an archive with 50,000 pictures has half of that."""

_CONVERSATIONS = re.compile(
    r"(?!__MACOSX/)(?:.*[/\\])?conversations[-_ ()\d]*(?:chunk|part)?[-_ ()\d]*\.json", re.IGNORECASE
)
"""Numbered by the service, or by the system that has made a copy; some programs write folders with a backslash. What a
Mac packs beside each file is none of them."""
_END = struct.Struct("<4s4H2LH")
_LOCATOR_BYTES = 20
_MAX_COMMENT = 65_535


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A file with conversations, and its name in the archive."""

    name: str
    file: Readable


def is_archive(file: BinaryIO) -> bool:
    """Whether the file begins as a zip archive does."""
    file.seek(0)
    begins = file.read(4)
    file.seek(0)
    return begins[:2] == b"PK"


def unpacked(file: BinaryIO) -> Iterator[Unpacked | UnreadableThread]:
    """The archive's files with conversations, in the order of their names. Each is unpacked as it is read.

    Raises InvalidInput naming ``file`` if there are none, or if they are too large.
    """
    _check_directory(file)
    try:
        with zipfile.ZipFile(file) as archive:
            named = [each for each in archive.infolist() if _CONVERSATIONS.fullmatch(each.filename)]
            if not named:
                raise _refusal("has no conversations.json in it")
            if sum(each.file_size for each in named) > MAX_UNPACKED_BYTES:
                raise _refusal(f"has conversations of more than {MAX_UNPACKED_BYTES:,} bytes in it")
            room = _Room(MAX_UNPACKED_BYTES)
            for each in sorted(named, key=lambda each: each.filename):
                yield from _opened(archive, each, room)
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, struct.error):
        raise _refusal("is a damaged zip archive") from None


def _opened(archive: zipfile.ZipFile, each: zipfile.ZipInfo, room: "_Room") -> Iterator[Unpacked | UnreadableThread]:
    try:
        with archive.open(each) as opened:
            yield Unpacked(re.split(r"[/\\]", each.filename)[-1], _Bounded(opened, room))
    except (RuntimeError, NotImplementedError):
        yield UnreadableThread("", f"{each.filename[:100]} is encrypted, or packed in an unusual way")


@dataclass(slots=True)
class _Room:
    """How much more may be unpacked: what an archive says of its sizes need not be true."""

    left: int


@final
class _Bounded:
    """A file in an archive. Damage, or more than there is room for, is its end."""

    def __init__(self, file: IO[bytes], room: _Room) -> None:
        self._file = file
        self._room = room

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        if self._room.left <= 0:
            return b""
        try:
            piece = self._file.read(size)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError):
            return b""
        self._room.left -= len(piece)
        return piece


def _check_directory(file: BinaryIO) -> None:
    """Judge the list of files, which zipfile reads at once, by the record at the archive's end."""
    file.seek(0, 2)
    length = file.tell()
    start = max(0, length - _END.size - _MAX_COMMENT)
    file.seek(start)
    tail = file.read()
    at = len(tail) - _END.size
    if at < 0 or tail[at : at + 4] != b"PK\x05\x06":
        at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + _END.size:
        raise _refusal("is a damaged zip archive")
    size = _END.unpack_from(tail, at)[5]
    # The larger form has these numbers elsewhere.
    is_large = tail[max(0, at - _LOCATOR_BYTES) : at].startswith(b"PK\x06\x07")
    if is_large or size > MAX_DIRECTORY_BYTES:
        raise _refusal("is too large an archive: unpack it, and send conversations.json alone")
    file.seek(0)


def _refusal(why: str) -> InvalidInput:
    return InvalidInput.of(FieldError("file", why))
