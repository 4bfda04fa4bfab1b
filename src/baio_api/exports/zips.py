"""A ZIP file that is written as it is sent, so that it needs the memory of one piece."""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, final

LEVEL = 1
"""How hard is compressed: the fastest, because the server's other streams wait meanwhile."""


class _Sink(io.RawIOBase):
    """What is written, until it is taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(memoryview(data))  # type: ignore[arg-type]  # a buffer
        self._pieces.append(piece)
        return len(piece)

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


@dataclass(slots=True)
class File:
    """A file in the archive. Size and SHA-256 are right when it has been written."""

    name: str
    size: int = 0
    sha256: str = ""


@final
@dataclass(slots=True)
class ZipWriter:
    """Writes a ZIP file, and gives what it has written so far. Use it inside ``with``.

    Every file has the same date, so that the same contents give the same bytes.
    """

    _sink: _Sink = field(default_factory=_Sink)
    _zip: zipfile.ZipFile = field(init=False)

    def __post_init__(self) -> None:
        self._zip = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL)

    def __enter__(self) -> "ZipWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write the directory of the files. Closing it again does nothing."""
        self._zip.close()

    def take(self) -> bytes:
        """What was written since the last time."""
        return self._sink.take()

    @contextmanager
    def file(self, name: str) -> Iterator["FileWriter"]:
        """Write a file, inside ``with``. One at a time."""
        with self._zip.open(name, "w") as entry:
            writer = FileWriter(File(name), entry)
            yield writer
        writer.end()


@final
class FileWriter:
    """Writes one file of a ZIP file."""

    def __init__(self, file: File, entry: IO[bytes]) -> None:
        self.file = file
        self._entry = entry
        self._digest = hashlib.sha256()

    def write(self, text: str | bytes) -> None:
        """Append text, in UTF-8, or bytes."""
        data = text.encode() if isinstance(text, str) else text
        self._digest.update(data)
        self.file.size += len(data)
        self._entry.write(data)

    def end(self) -> None:
        """Note the file's SHA-256."""
        self.file.sha256 = self._digest.hexdigest()
