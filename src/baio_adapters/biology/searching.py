"""The tool that finds a motif in a nucleotide sequence."""

from typing import NamedTuple

from baio_adapters.biology.definitions import SEQUENCE, STRAND, TOPOLOGY, excerpt, parameters
from baio_adapters.biology.molecules import Molecule, starts
from baio_domain.sequences import nucleotides, pattern, reverse_complement
from baio_domain.tools import Computed, Tool, ToolSpec

MAX_HITS = 1_000
"""Hits that are listed."""


class Hit(NamedTuple):
    """Where a motif begins, and the strand that reads it: +, - or both."""

    start: int
    strand: str


def find_motif(sequence: str, motif: str, strand: str, topology: str) -> Computed:
    """Where a motif occurs, overlapping ones too."""
    read, sought = nucleotides(sequence), pattern(motif)
    molecule = Molecule(read.dna, topology == "circular", bool(read.ambiguous))
    searched = _searched(sought.dna, strand)
    hits = sorted(Hit(start, each) for each, site in searched.items() for start in starts(molecule, site))
    length = len(read.letters)
    result = {
        "motif": sought.letters,
        "count": len(hits),
        "hits": [
            {"start": start + 1, "end": (start + len(sought.letters) - 1) % length + 1, "strand": each}
            for start, each in hits[:MAX_HITS]
        ],
        **({"shown": MAX_HITS} if len(hits) > MAX_HITS else {}),
        "possible": _possible(molecule, searched) - len(hits) if read.ambiguous else 0,
        "length": length,
        "topology": topology,
        "note": "the motif is its own reverse complement: counted once" if "both" in searched else None,
    }
    places = ", ".join(f"{hit.start + 1:,}{'' if hit.strand == 'both' else f' ({hit.strand})'}" for hit in hits[:10])
    at = f", at {places}{', …' if len(hits) > 10 else ''}" if hits else ""
    line = f"{excerpt(sought.letters)} in {read.title} ({read.size}, {topology}): **{len(hits):,}**{at}"
    return Computed(result, line, (read.input(), sought.input("motif")))


def _searched(motif: str, strand: str) -> dict[str, str]:
    """What is searched on the strand given, by the strand that it stands for."""
    other = reverse_complement(motif)
    if strand == "both":
        return {"both": motif} if motif == other else {"+": motif, "-": other}
    return {strand: motif if strand == "+" else other}


def _possible(molecule: Molecule, searched: dict[str, str]) -> int:
    return sum(1 for site in searched.values() for _ in starts(molecule, site, possible=True))


FIND_MOTIF = Tool(
    ToolSpec(
        "find_motif",
        1,
        "Occurrences of a motif (IUPAC codes) in DNA or RNA. For enzymes use restriction_sites.",
        "All places, overlapping ones too, where every base of the sequence is one of the motif's; a motif that is its"
        " own reverse complement counts once; possible: places that ambiguous bases may hide.",
        parameters(
            {
                "sequence": SEQUENCE,
                "motif": {"type": "string"},
                "strand": STRAND,
                "topology": TOPOLOGY,
            },
            ["sequence", "motif"],
        ),
        sequences=("sequence",),
    ),
    find_motif,
)
