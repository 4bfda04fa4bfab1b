"""Sequences in questions: those that are pasted into the text, and those that are attached.

The stored message stays as it was written. The model reads it with handles: after short sequences, in place of long
ones, and in one line for each attached sequence.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from baio_domain.entities import UnstoredSequence
from baio_domain.errors import SequenceFileRefused
from baio_domain.handles import label
from baio_domain.ports import SequenceMention
from baio_domain.sequence_files import SequenceFile, read_file
from baio_domain.sequences import INVISIBLE, bare_letters

MIN_RUN = 60
"""Letters of the shortest run that is a sequence without a header."""

MIN_FASTA = {"DNA": 10, "RNA": 10, "protein": 30}
"""Letters of the shortest sequence below a header: "> see you" above a word is a quotation."""

MIN_RESIDUES = 5
"""Different letters of a run that is a protein; it is written in capitals. Other long words are not proteins."""

MAX_PASTED = 100
"""Sequences of one question that are stored."""

MAX_TOLD_LETTERS = 1_000
"""Letters of the longest pasted sequence that a model reads as letters."""

_LINE_END = r"[ \t]*(?:\r?\n|$)"
_GENBANK = r"^LOCUS[ \t][^\n]*\n(?:(?!LOCUS[ \t]|//)[^\n]*\n)*+//[ \t]*$"
_IUPAC_LINES = rf"(?:[ \t]*+(?:[ACGTURYSWKMBDHVNacgtun]++[ \t]*+)++{_LINE_END})++"
_RESIDUE_LINES = rf"(?:[ \t]*+(?:[A-Z*]++[ \t]*+)++{_LINE_END})++"
_BLANK = r"[ \t]*\r?\n"
# In text with double line spacing, a blank line follows the header, too; elsewhere it ends the sequence.
_FASTA = (
    rf"^>[^\n]*\n(?:{_IUPAC_LINES}|{_RESIDUE_LINES}"
    rf"|{_BLANK}(?:(?:{_IUPAC_LINES}(?:{_BLANK})?)++|(?:{_RESIDUE_LINES}(?:{_BLANK})?)++))"
)
_BETWEEN = rf"[\s\d{INVISIBLE}]"
_RUN = (
    rf"(?<![A-Za-z])[ACGTUNacgtun]{{10,}}+(?:{_BETWEEN}++[ACGTUNacgtun]{{10,}}+(?![A-Za-z]))*+"
    rf"(?:[ \t]*\n{_BETWEEN}*+[ACGTUNacgtun]{{1,9}}+(?={_LINE_END}))?(?![A-Za-z])"
)
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*(?=[A-Za-z])")
"""Blank lines between letters; where a number follows, the sequence goes on."""

_WORDS = (
    r"(?<![A-Za-z])[A-Za-z]{40,}+(?:[ \t]*\r?\n[ \t]*[A-Z]{40,}+)*+"
    rf"(?:[ \t]*\r?\n[ \t]*[A-Z]++(?={_LINE_END}))?"
)
_PLACES = re.compile(f"(?P<genbank>{_GENBANK})|(?P<fasta>{_FASTA})|(?P<run>{_RUN})|(?P<words>{_WORDS})", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pasted:
    """A sequence in a text, from character ``start`` to ``end``, the end excluded."""

    start: int
    end: int
    format: str
    sequence: UnstoredSequence


def find_pasted(text: str) -> list[Pasted]:
    """The sequences in a question: GenBank records, FASTA, and runs of ``MIN_RUN`` letters or more.

    Text that looks like one but can't be read is left as it is.
    """
    found: list[Pasted] = []
    for place in _PLACES.finditer(text):
        found += _read(place)
        if len(found) >= MAX_PASTED:
            break
    return found[:MAX_PASTED]


def told(content: str, mentions: Sequence[SequenceMention]) -> str:
    """A question as the model reads it, with the handles of the pasted and attached sequences."""
    pieces, place = [], 0
    for mention in sorted((each for each in mentions if each.start is not None), key=lambda each: each.start or 0):
        start, end = mention.start or 0, mention.end or 0
        if mention.sequence.length <= MAX_TOLD_LETTERS:
            pieces.append(f"{content[place:end].rstrip()} = {mention.sequence.handle}")
        else:
            pieces.append(f"{content[place:start]}[{label(mention.sequence)}]")
        trailing = content[place:end]
        pieces.append(trailing[len(trailing.rstrip()) :])
        place = end
    pieces.append(content[place:])
    attached = [f"[{label(each.sequence)}]" for each in mentions if each.start is None]
    return "\n".join(filter(None, ["".join(pieces), *attached]))


def _read(place: re.Match[str]) -> Iterator[Pasted]:
    kind = str(place.lastgroup)
    for start, text in _blocks(place) if kind == "run" else [(place.start(), place[0])]:
        yield from _read_one(kind, text, start)


def _blocks(place: re.Match[str]) -> Iterator[tuple[int, str]]:
    """Where the sequences in a run begin, and their text: blank lines lie between them.

    Lines of one length with a blank line behind each, more than two, are one sequence with double line spacing.
    """
    text = place[0]
    cuts = list(_BLANK_LINE.finditer(text))
    bounds = [0, *(cut.end() for cut in cuts), len(text)]
    blocks = [(place.start() + start, text[start:end].rstrip()) for start, end in pairwise(bounds)]
    *lines, last = (len(block) for _, block in blocks)
    if len(lines) > 1 and len(set(lines)) == 1 and last <= lines[0] and "\n" not in blocks[0][1]:
        yield place.start(), text
    else:
        yield from blocks


def _read_one(kind: str, text: str, start: int) -> Iterator[Pasted]:
    letters = bare_letters(text) if kind in ("run", "words") else ""
    if letters and len(letters) < MIN_RUN:
        return
    name = "pasted" if letters else None
    try:
        contents = read_file(SequenceFile(text, "letters" if letters else kind, name))
    except SequenceFileRefused:
        return
    [sequence] = contents.sequences  # each place has one record
    if letters and sequence.molecule == "protein" and (text != text.upper() or len(set(letters)) < MIN_RESIDUES):
        return
    if kind == "fasta" and sequence.length < MIN_FASTA[sequence.molecule]:
        return
    yield Pasted(start, start + len(text.rstrip()), contents.format, sequence)


def mentions_by_message(mentions: Iterable[SequenceMention]) -> dict[int, list[SequenceMention]]:
    """The mentions of each message."""
    found: dict[int, list[SequenceMention]] = {}
    for each in mentions:
        found.setdefault(each.message_id, []).append(each)
    return found
