"""Sequences in questions: those that are pasted into the text, and those that are attached.

The stored message stays as it was written. The model reads it with handles: after short sequences, in place of long
ones, and in one line for each attached sequence.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from baio_domain.entities import UnstoredSequence
from baio_domain.errors import SequenceFileRefused
from baio_domain.handles import label
from baio_domain.ports import SequenceMention
from baio_domain.sequence_files import SequenceFile, read_file
from baio_domain.sequences import bare_letters

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
_FASTA = rf"^>[^\n]*\n(?:{_IUPAC_LINES}|{_RESIDUE_LINES})"
_RUN = (
    r"(?<![A-Za-z])[ACGTUNacgtun]{10,}+(?:[\s\d]++[ACGTUNacgtun]{10,}+(?![A-Za-z]))*+"
    rf"(?:[ \t]*\n[\s\d]*+[ACGTUNacgtun]{{1,9}}+(?={_LINE_END}))?(?![A-Za-z])"
)
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
        if len(found) == MAX_PASTED:
            break
        found += _read(place)
    return found


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
    letters = bare_letters(place[0]) if kind in ("run", "words") else ""
    if letters and len(letters) < MIN_RUN:
        return
    name = "pasted" if letters else None
    try:
        contents = read_file(SequenceFile(place[0], "letters" if letters else kind, name))
    except SequenceFileRefused:
        return
    [sequence] = contents.sequences  # each place has one record
    if (
        letters
        and sequence.molecule == "protein"
        and (place[0] != place[0].upper() or len(set(letters)) < MIN_RESIDUES)
    ):
        return
    if kind == "fasta" and sequence.length < MIN_FASTA[sequence.molecule]:
        return
    end = place.start() + len(place[0].rstrip())
    yield Pasted(place.start(), end, contents.format, sequence)


def mentions_by_message(mentions: Iterable[SequenceMention]) -> dict[int, list[SequenceMention]]:
    """The mentions of each message."""
    found: dict[int, list[SequenceMention]] = {}
    for each in mentions:
        found.setdefault(each.message_id, []).append(each)
    return found
