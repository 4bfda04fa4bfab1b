"""The tool that finds open reading frames."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import product
from typing import NamedTuple

from baio_adapters.biology.definitions import BIOPYTHON, GENETIC_CODE, SEQUENCE, STRAND, TOPOLOGY, parameters
from baio_adapters.biology.molecules import Molecule, every
from baio_adapters.biology.translation import GeneticCode, codons
from baio_domain.sequences import Nucleotides, nucleotides, pattern, reverse_complement
from baio_domain.text import quoted
from baio_domain.tools import Computed, Tool, ToolRefused, ToolSpec

MAX_ORFS = 500
"""Reading frames that are listed."""

MAX_RESIDUES = 150_000
"""Residues of all proteins that are listed."""

OF_THE_CODE = "code"


class Orf(NamedTuple):
    """An open reading frame on one strand: indices of its first base and behind its last one, and how it ends."""

    strand: str
    start: int
    end: int
    partial: str | None

    @property
    def residues(self) -> int:
        """Residues of its protein: the stop codon is none."""
        return (self.end - self.start) // 3 - (self.partial not in ("3'", "both"))


class Codons(NamedTuple):
    """Where one frame of a strand has start and stop codons."""

    starts: list[int]
    stops: list[int]


def find_orfs(
    sequence: str,
    genetic_code: int,
    min_length: int,
    start_codons: list[str],
    strand: str,
    topology: str,
    partial: bool,  # noqa: FBT001
) -> Computed:
    """The open reading frames of a sequence, the longest first."""
    code = GeneticCode(genetic_code)
    read = nucleotides(sequence)
    begin = _start_codons(start_codons, code)
    circular = topology == "circular"
    found = []
    for each in ("+", "-") if strand == "both" else (strand,):
        letters = read.dna if each == "+" else reverse_complement(read.dna)
        frames = _frames(letters, begin, code.stops, circular=circular, ambiguous=bool(read.ambiguous))
        orfs = _circular(frames, len(letters)) if circular else _linear(frames, len(letters), partial=partial)
        found += [Orf(each, *orf) for orf in orfs]
    found = [orf for orf in found if orf.residues >= min_length]
    rows = sorted(((orf, _span(orf, len(read.letters))) for orf in found), key=lambda row: (-row[0].residues, row[1]))
    result = {
        "orfs": list(_rows(read, rows[:MAX_ORFS], code)),
        "total": len(rows),
        **({"shown": MAX_ORFS} if len(rows) > MAX_ORFS else {}),
        "genetic_code": genetic_code,
        "start_codons": sorted(begin),
        "min_length": min_length,
        "topology": topology,
        "length": len(read.letters),
    }
    longest = ""
    if rows:
        orf, (start, end) = rows[0]
        longest = f", the longest {orf.residues:,} aa at {start:,}-{end:,} ({orf.strand})"
    line = f"ORFs of {min_length:,} aa or more in {read.title} ({read.size}, {topology}): **{len(rows):,}**{longest}"
    return Computed(result, line, (read.input(),))


def _start_codons(names: list[str], code: GeneticCode) -> frozenset[str]:
    """The start codons that were asked for; the word ``code`` means those of the genetic code."""
    if [name.strip().lower() for name in names] == [OF_THE_CODE]:
        return code.starts
    found: set[str] = set()
    for name in names:
        codon = pattern(name).dna
        if len(codon) != 3 or not code.stops.isdisjoint(codons(codon)):
            raise ToolRefused("out-of-range", f"{quoted(name)} is no start codon. Give codons such as ATG, or code.")
        found.update(codons(codon))
    return frozenset(found)


def _frames(
    letters: str, begin: frozenset[str], stop: frozenset[str], *, circular: bool, ambiguous: bool
) -> list[Codons]:
    """The start and stop codons of the three frames; of a circle, through two turns."""
    text = letters + letters + letters[:2] if circular else letters
    frames = [Codons([], []) for _ in range(3)]
    present = set(letters) if ambiguous else set("ACGT")
    for index in _indices(text, begin, present):
        frames[index % 3].starts.append(index)
    for index in _indices(text, stop, present):
        frames[index % 3].stops.append(index)
    return frames


def _indices(text: str, wanted: frozenset[str], present: Iterable[str]) -> list[int]:
    """Where codons begin that are certainly one of those wanted, in order."""
    spellings = ["".join(letters) for letters in product(sorted(present), repeat=3)]
    certain = [each for each in spellings if wanted.issuperset(codons(each))]
    return sorted(index for codon in certain for index in every(text, codon))


def _linear(frames: list[Codons], length: int, *, partial: bool) -> Iterator[tuple[int, int, str | None]]:
    """Start, end and how it is partial, of each stretch between stop codons that has a start codon."""
    for frame, (begin, stops) in enumerate(frames):
        behind = frame
        whole_end = length - (length - frame) % 3
        for stop in [*stops, None]:
            place = bisect_left(begin, behind)
            last = whole_end if stop is None else stop
            start = begin[place] if place < len(begin) and begin[place] < last else None
            open_start = partial and behind == frame and start != frame
            first = frame if open_start else start
            if stop is not None and first is not None:
                yield first, stop + 3, "5'" if open_start else None
            elif stop is None and partial and first is not None and first < whole_end:
                yield first, whole_end, "both" if open_start else "3'"
            behind = last + 3


def _circular(frames: list[Codons], length: int) -> Iterator[tuple[int, int, str | None]]:
    """Start and end of each frame that ends in the second turn; it is at most once around the circle."""
    for begin, stops in frames:
        behind = 0
        for stop in stops:
            if length <= stop < 2 * length:
                place = bisect_left(begin, max(behind, stop + 3 - length))
                if place < len(begin) and begin[place] < stop:
                    yield begin[place], stop + 3, None
            behind = stop + 3


def _span(orf: Orf, length: int) -> tuple[int, int]:
    """Its first and last position on the strand given; on a circle, over the origin if the first is behind."""
    first, last = (orf.start, orf.end - 1) if orf.strand == "+" else (length - orf.end, length - 1 - orf.start)
    return first % length + 1, last % length + 1


def _rows(read: Nucleotides, rows: list[tuple[Orf, tuple[int, int]]], code: GeneticCode) -> Iterator[dict[str, object]]:
    strands = {"+": Molecule(read.dna, circular=True), "-": Molecule(reverse_complement(read.dna), circular=True)}
    left = MAX_RESIDUES
    for orf, (start, end) in rows:
        left -= orf.residues
        first = orf.start % len(read.letters)
        yield {
            "strand": orf.strand,
            "frame": (first % 3 + 1) * (1 if orf.strand == "+" else -1),
            "start": start,
            "end": end,
            "length_aa": orf.residues,
            "crosses_origin": end < start,
            "partial": orf.partial,
            "protein": _protein(strands[orf.strand], orf, code) if left >= 0 else None,
        }


def _protein(strand: Molecule, orf: Orf, code: GeneticCode) -> str:
    """Its protein; a start codon is read as M."""
    letters = strand.span(orf.start, orf.start + 3 * orf.residues)
    residues = "".join([code[letters[index : index + 3]] for index in range(0, len(letters), 3)])
    return residues if orf.partial in ("5'", "both") else f"M{residues[1:]}"


FIND_ORFS = Tool(
    ToolSpec(
        "find_orfs",
        1,
        "Open reading frames of DNA or RNA in six frames. Not gene prediction; no introns.",
        "From the first start codon behind a stop codon to the next stop codon in frame, both inside; nested starts are"
        " not listed; on a circle at most one turn; partial frames may run off an end of a linear sequence.",
        parameters(
            {
                "sequence": SEQUENCE,
                "genetic_code": GENETIC_CODE,
                "min_length": {"type": "integer", "minimum": 1, "default": 30, "description": "Residues."},
                "start_codons": {
                    "type": "array",
                    "items": {"type": "string"},
                    "minItems": 1,
                    "default": ["ATG"],
                    "description": "Codons, or code for the genetic code's.",
                },
                "strand": STRAND,
                "topology": TOPOLOGY,
                "partial": {"type": "boolean", "default": False, "description": "May run off an end."},
            },
            ["sequence"],
        ),
        BIOPYTHON,
        sequences=("sequence",),
    ),
    find_orfs,
)
