"""What a terminal shows beside the answer's characters: dim status lines, lines that break at words, a sign of waiting.

On anything but a terminal none of this happens: the answer's text goes out unchanged. Nothing but the dim lines needs
escape sequences; there are none with ``NO_COLOR`` (no-color.org) or ``TERM=dumb``.
"""

import asyncio
import contextlib
import itertools
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import AsyncIterator

FRAME_SECONDS = 0.2
_FRAMES = "|/-\\"
_WORDS = re.compile(r"\n|[^\S\n]+|\S+")


def print_status(text: str) -> None:
    """Print something that is not part of the answer, on standard error."""
    dim = sys.stderr.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM", "dumb") != "dumb"
    print(f"\x1b[2m{text}\x1b[0m" if dim else text, file=sys.stderr, flush=True)


@contextlib.asynccontextmanager
async def waiting() -> AsyncIterator[None]:
    """Something moves on standard error meanwhile, if that is a terminal. It leaves no trace."""
    if not sys.stderr.isatty():
        yield
        return
    turning = asyncio.create_task(_turn())
    try:
        yield
    finally:
        turning.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await turning


async def _turn() -> None:
    try:
        for frame in itertools.cycle(_FRAMES):
            print(f"\r{frame}", end="", file=sys.stderr, flush=True)
            await asyncio.sleep(FRAME_SECONDS)
    finally:
        print("\r \r", end="", file=sys.stderr, flush=True)


class Wrapped:
    """Breaks lines between words, though each piece is shown at once: a word that grows too long moves to a new line.

    ``width`` is the terminal's, in columns.
    """

    def __init__(self, width: int) -> None:
        self._width = width - 1  # at the last column terminals differ in where a backspace leads
        self._column = 0
        self._space = ""
        self._word = ""

    @classmethod
    def for_stdout(cls) -> "Wrapped | None":
        """For the terminal that standard output is, or None if it is none."""
        return cls(shutil.get_terminal_size().columns) if sys.stdout.isatty() else None

    def feed(self, text: str) -> str:
        """What to print for the next piece of the text."""
        return "".join(map(self._placed, _WORDS.findall(text)))

    def _placed(self, piece: str) -> str:
        if piece == "\n":
            self._column, self._space, self._word = 0, "", ""
            return piece
        if piece.isspace():
            self._space, self._word = self._space + piece, ""
            return ""
        before, space, self._space = self._word, self._space, ""
        self._word += piece
        self._column += columns(space + piece)
        if self._column <= self._width:
            return space + piece
        shown, whole = columns(before), columns(self._word)
        if self._column == whole:  # the word begins its line, and fits on none
            return space + piece
        self._column = whole
        return "\b" * shown + " " * shown + f"\n{self._word}"


def columns(text: str) -> int:
    """How many columns of a terminal the text takes: wide characters take two, combining and invisible ones none."""
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Cf", "Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
