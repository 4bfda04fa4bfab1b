"""Nucleic acids, linear or circular, and where a site or motif occurs in them. Indices begin at 0."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from baio_domain.sequences import BASES


@dataclass(frozen=True, slots=True)
class Molecule:
    """Double-stranded DNA; ``ambiguous`` if some of its letters stand for several bases."""

    letters: str
    circular: bool
    ambiguous: bool = False

    def wrapped(self, index: int) -> int | None:
        """A cut's index between 1 and the length; on a linear molecule None unless bases lie on both sides of it."""
        if self.circular:
            return (index - 1) % len(self.letters) + 1
        return index if 0 < index < len(self.letters) else None

    def span(self, start: int, end: int) -> str:
        """The letters from one index to another, over the origin of a circle; a linear molecule's ends cut it short."""
        length = len(self.letters)
        if self.circular:
            return "".join(self.letters[index % length] for index in range(start, end))
        return self.letters[max(start, 0) : max(end, 0)]


def starts(molecule: Molecule, site: str, *, possible: bool = False) -> Iterator[int]:
    """The indices where a site begins, overlapping ones too; with ``possible``, where it may begin."""
    letters = molecule.letters
    if len(site) > len(letters):
        return
    text = letters + letters[: len(site) - 1] if molecule.circular else letters
    if possible or not set(site) <= set("ACGT"):
        # What follows the first letter is looked ahead at: the search goes on behind that letter.
        first, *others = (_letters_for(letter, possible=possible) for letter in site)
        yield from (match.start() for match in re.finditer(f"{first}(?={''.join(others)})", text))
        return
    yield from every(text, site)


def every(text: str, letters: str) -> Iterator[int]:
    """The indices where these very letters begin in a text, overlapping ones too."""
    index = text.find(letters)
    while index >= 0:
        yield index
        index = text.find(letters, index + 1)


def _letters_for(letter: str, *, possible: bool) -> str:
    """A regular expression for the letters of a molecule that match a letter of a site."""
    bases = set(BASES[letter])
    matching = [code for code, its in BASES.items() if (bases & set(its) if possible else bases >= set(its))]
    return f"[{''.join(matching)}]"
