"""The conversations in a long JSON document, cut out one by one, so that only one of them is in memory.

No call into C takes long, so other threads get their turn: a regular expression sees one piece of the file at a time.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

MAX_ITEM_BYTES = 16_777_216
"""The longest conversation that is read. What it becomes in memory is about ten times as large."""

PIECE_BYTES = 65_536

LISTED_AS = b"conversations"
"""The field of an object that has the conversations, where the document is no array of them."""

_INSIDE = rb'(?:[^"\\]++|\\.)*+'
_REST_OF_STRING = re.compile(_INSIDE, re.DOTALL)
_TOKEN = re.compile(rb'[{}\[\]]|"' + _INSIDE + rb'(")?', re.DOTALL)
"""A bracket, or a string; without its group, the string goes on in the next piece."""

_QUOTE, _OPENING = ord('"'), frozenset(b"[{")


@dataclass(frozen=True, slots=True)
class TooLong:
    """Stands for a conversation that is not read; ``reason`` says why if it is not its length."""

    reason: str = ""


class Readable(Protocol):
    """A file that can be read, or a part of one."""

    def read(self, size: int, /) -> bytes:
        """At most so many of the next bytes; none at the end."""


def items(file: Readable) -> Iterator[bytes | TooLong]:
    """Yield each item of the array of conversations as JSON text.

    The document is that array, an object that has it as ``conversations``, or a single conversation. Raises ValueError
    if it is none of them. If it ends too early, that is the last item.
    """
    cutter = _Cutter()
    while piece := file.read(PIECE_BYTES):
        yield from cutter.feed(piece)
        if cutter.done:
            return
    yield from cutter.end()


class _Cutter:
    """Follows strings and brackets, and keeps the bytes of the item that it is in."""

    def __init__(self) -> None:
        self.done = False
        self._kept = bytearray()
        self._at = 0
        self._depth = 0
        self._level: int | None = None  # of the brackets around items; None while the array is looked for
        self._item: int | None = None  # where the item in which we are begins
        self._skipping = False
        self._string: int | None = None  # where the string in which we are begins
        self._name = b""  # the last string of the outermost object

    def feed(self, piece: bytes) -> Iterator[bytes | TooLong]:
        """The items that end in this piece."""
        if not self._depth and not self._kept:
            piece = piece.removeprefix(b"\xef\xbb\xbf").lstrip()
        self._kept += piece
        if not self._depth and self._kept and self._kept[0] not in _OPENING:
            raise ValueError("is not a file of JSON with conversations")
        while self._at < len(self._kept) and not self.done:
            if self._string is None:
                yield from self._pass_tokens()
            elif not self._pass_string(self._string):
                break
        self._forget()

    def end(self) -> Iterator[bytes | TooLong]:
        """What there is to say at the end of the file."""
        if not self._depth and self._level is None and self._kept and not self._skipping:
            yield bytes(self._kept)  # an object that is a conversation itself
        elif self._skipping and self._level is None:
            yield TooLong()
        elif not self._depth and not self._kept:
            raise ValueError("is empty")
        else:
            yield TooLong("is incomplete: the file ends in the middle")

    def _pass_string(self, begin: int) -> bool:
        """Go on to the end of the string; False if that is not there yet."""
        inside = _REST_OF_STRING.match(self._kept, self._at)
        self._at = inside.end() if inside else self._at
        if self._kept[self._at : self._at + 1] != b'"':  # nothing, or a backslash alone
            return False
        self._at += 1
        self._note_name(begin, self._at)
        self._string = None
        return True

    def _pass_tokens(self) -> Iterator[bytes | TooLong]:
        """Go on to the end of what there is, or into a string that ends later."""
        kept = self._kept
        for found in _TOKEN.finditer(kept, self._at):
            begin, sign = found.start(), kept[found.start()]
            self._at = found.end()
            if sign == _QUOTE:
                if found.lastindex is None:
                    self._string = begin
                    return
                self._note_name(begin, self._at)
            elif sign in _OPENING:
                self._open(begin)
            else:
                self._depth -= 1
                if self._depth == self._level and self._item is not None:
                    yield TooLong() if self._skipping else bytes(kept[self._item : begin + 1])
                    self._item, self._skipping = None, False
                elif self._level is not None and self._depth < self._level:
                    self.done = True
                    return
        self._at = len(kept)

    def _note_name(self, begin: int, end: int) -> None:
        if self._depth == 1 and self._level is None:
            self._name = bytes(self._kept[begin + 1 : end - 1])

    def _open(self, at: int) -> None:
        if self._depth == self._level:
            self._item = at
        elif self._level is None and self._kept[at] == ord("[") and (not self._depth or self._is_listed):
            self._level, self._skipping = self._depth + 1, False
        self._depth += 1

    @property
    def _is_listed(self) -> bool:
        return self._depth == 1 and self._name == LISTED_AS

    def _forget(self) -> None:
        """Drop the bytes that nobody needs any more."""
        begin = self._item
        if self._level is None:  # the whole document may be one conversation
            begin = 0
        if begin is not None and (self._skipping or len(self._kept) - begin > MAX_ITEM_BYTES):
            self._skipping = True
            begin = None
        gone = self._at if begin is None else begin
        if self._string is not None and begin is None:
            self._string = 0  # its beginning is of no interest
        elif self._string is not None:
            self._string -= gone
        del self._kept[:gone]
        self._at -= gone
        if self._item is not None:
            self._item = 0
