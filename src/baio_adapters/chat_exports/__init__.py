"""Exports of BAiO, ChatGPT and Claude: a file of JSON, or a zip archive with such files."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from json.scanner import py_make_scanner  # type: ignore[attr-defined]  # the stubs lack it
from typing import Any, BinaryIO, final

from baio_adapters.chat_exports.archives import Unpacked, is_archive, unpacked
from baio_adapters.chat_exports.baio import baio_thread
from baio_adapters.chat_exports.chatgpt import chatgpt_threads
from baio_adapters.chat_exports.claude import claude_threads
from baio_adapters.chat_exports.json_items import MAX_ITEM_BYTES, TooLong, items
from baio_adapters.chat_exports.values import title_of
from baio_domain.errors import FieldError, InvalidInput
from baio_domain.ports import ExportedThread, ExportReader, UnreadableThread

Found = ExportedThread | UnreadableThread

READERS: tuple[tuple[str, type, Callable[[dict[str, Any]], Iterator[Found]]], ...] = (
    ("mapping", dict, chatgpt_threads),
    ("chat_messages", list, claude_threads),
    ("messages", list, baio_thread),
)
"""By the field, and its type, that only this service's conversations have."""


MAX_PARTS = 500_000
"""Values in a conversation: what costs memory and time is their number, not their length."""

QUICK_PARTS = 20_000
"""A conversation with more values is decoded in Python: one call into C would keep all other threads waiting."""


class _PatientDecoder(json.JSONDecoder):
    """Decodes in Python, so that other threads get their turn. It is slower by a factor of ten."""

    def __init__(self) -> None:
        super().__init__()
        self.scan_once = py_make_scanner(self)


_PATIENT = _PatientDecoder()

PIECE_BYTES = 262_144
"""Bytes of a file that are read at once for its digest."""


@final
class FileReader(ExportReader):
    """Reads in threads, so that the event loop goes on."""

    async def read(self, file: BinaryIO) -> AsyncIterator[Found]:
        """Read each conversation when it is asked for."""
        found = threads_in(file)
        while (each := await asyncio.to_thread(next, found, None)) is not None:
            yield each

    async def digest(self, file: BinaryIO) -> str:
        """SHA-256, in hexadecimal."""
        return await asyncio.to_thread(digest_of, file)


def digest_of(file: BinaryIO) -> str:
    """The SHA-256 of the whole file, in hexadecimal."""
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest()


def threads_in(file: BinaryIO) -> Iterator[Found]:
    """The conversations of a file, each at most ``MAX_ITEM_BYTES`` long. Raises what ``ExportReader.read`` raises."""
    for part in unpacked(file) if is_archive(file) else [Unpacked("", file)]:
        if isinstance(part, UnreadableThread):
            yield part
            continue
        try:
            for item in items(part.file):
                yield from _threads(item)
        except ValueError as error:
            if not part.name:
                raise InvalidInput.of(FieldError("file", str(error))) from None
            yield UnreadableThread("", f"{part.name} {error}")  # which costs no other file of the archive


def _threads(item: bytes | TooLong) -> Iterator[Found]:
    if isinstance(item, TooLong):
        yield UnreadableThread("", item.reason or f"is longer than {MAX_ITEM_BYTES:,} bytes")
        return
    parts = item.count(b",")
    if parts > MAX_PARTS:
        yield UnreadableThread("", f"has more than {MAX_PARTS:,} parts")
        return
    try:
        text = item.decode()
        thread = json.loads(text) if parts <= QUICK_PARTS else _PATIENT.decode(text)
    except (ValueError, RecursionError):
        yield UnreadableThread("", "is not valid JSON")
        return
    if isinstance(thread, dict):
        for field, kind, read in READERS:
            if isinstance(thread.get(field), kind):
                yield from _guarded(read, thread)
                return
    yield UnreadableThread(title_of(thread), "is no conversation of a known export")


def _guarded(read: Callable[[dict[str, Any]], Iterator[Found]], thread: dict[str, Any]) -> Iterator[Found]:
    found = False
    for each in read(thread):
        found = True
        yield each
    if not found:
        yield UnreadableThread(title_of(thread), "has no messages")
