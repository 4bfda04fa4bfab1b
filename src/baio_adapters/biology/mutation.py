"""The tool that changes a coding sequence and says what that does to its protein."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from baio_adapters.biology.definitions import BIOPYTHON, GENETIC_CODE, SEQUENCE, kept_letters, parameters
from baio_adapters.biology.enzymes import Enzyme, commercial_enzymes, hits
from baio_adapters.biology.molecules import Molecule
from baio_adapters.biology.translation import GeneticCode
from baio_domain.sequences import KnownSequence, Nucleotides, nucleotides, pattern, reverse_complement
from baio_domain.tools import Computed, Product, Tool, ToolRefused, ToolSpec

MAX_LETTERS = 200_000
"""Letters of the longest coding sequence: twice titin's."""

MIN_BASES = 4
"""Bases that a site names; the enzymes with fewer cut modified DNA, nearly everywhere."""

NEIGHBORHOOD = 40
"""Letters on both sides of a change in which sites of enzymes can overlap with it."""

_THREE = {
    "A": "Ala", "B": "Asx", "C": "Cys", "D": "Asp", "E": "Glu", "F": "Phe", "G": "Gly", "H": "His", "I": "Ile",
    "J": "Xle", "K": "Lys", "L": "Leu", "M": "Met", "N": "Asn", "P": "Pro", "Q": "Gln", "R": "Arg", "S": "Ser",
    "T": "Thr", "V": "Val", "W": "Trp", "X": "Xaa", "Y": "Tyr", "Z": "Glx", "*": "Ter",
}  # fmt: skip


class Change(NamedTuple):
    """The shortest difference of two texts, as far to their end as it can lie (HGVS's 3' rule)."""

    start: int
    deleted: str
    inserted: str


def apply_mutation(sequence: str, codon: int | None, position: int | None, to: str, genetic_code: int) -> Computed:
    """A coding sequence after a change, and what the change does to the protein."""
    code = GeneticCode(genetic_code)
    read = nucleotides(sequence)
    before = read.dna
    if len(before) > MAX_LETTERS:
        raise ToolRefused(
            "too-long", f"The sequence has {len(before):,} letters; at most {MAX_LETTERS:,} are possible."
        )
    start, end = _replaced(before, codon, position)
    after = before[:start] + _letters(to) + before[end:]
    if after == before:
        raise ToolRefused("no-change", f"{before[start:end]} is there already. Give other letters.")
    change = _change(before, after)
    starts = before[:3] in code.starts
    proteins = _protein(before, code, starts=starts), _protein(after, code, starts=starts and before[:3] == after[:3])
    asked = start - start % 3
    if asked // 3 >= len(proteins[0]):
        raise ToolRefused(
            "not-a-cds",
            f"The change is in codon {asked // 3 + 1}, and the protein ends at codon {len(proteins[0])}. Give a coding"
            " sequence whose first base is the first one of its start codon.",
        )
    effect, protein_change = _effect(proteins, change, starts=starts)
    lost, gained = _sites(read, before, after, change)
    stop = 3 * len(proteins[0]) if "*" in proteins[0] else None
    cds_change = f"c.{_of_bases(change, before, stop)}"
    mutated = after.replace("T", "U") if read.molecule == "RNA" else after
    result = {
        "codon": asked // 3 + 1,
        "from_codon": before[asked : asked + 3],
        "to_codon": after[asked : asked + 3],
        "effect": effect,
        "protein_change": protein_change,
        "cds_change": cds_change,
        "sites_lost": lost,
        "sites_gained": gained,
        "genetic_code": genetic_code,
        "length": len(after),
        "sequence": kept_letters(mutated),
    }
    line = f"{cds_change} in {read.title} ({read.size}): **{effect}**, {protein_change}"
    topology = sequence.topology if isinstance(sequence, KnownSequence) else "linear"
    product = Product(("sequence",), f"{read.title} {cds_change}", mutated, read.molecule, topology)
    return Computed(result, line.replace("*", "\\*").replace("\\*\\*", "**"), (read.input(),), (product,))


def _replaced(letters: str, codon: int | None, position: int | None) -> tuple[int, int]:
    """The indices of what is replaced: a codon, or a base of a whole codon."""
    if (codon is None) == (position is None):
        raise ToolRefused("bad-arguments", "Give either codon or position, counted from 1.")
    whole = len(letters) // 3
    number = codon if codon is not None else ((position or 1) + 2) // 3
    if number > whole:
        what = "codon" if codon is not None else "position"
        value = codon if codon is not None else position
        raise ToolRefused(
            "out-of-range", f"{what} is {value:,}, and the sequence has {whole:,} whole codons ({3 * whole:,} bases)."
        )
    if codon is not None:
        return 3 * codon - 3, 3 * codon
    return (position or 1) - 1, position or 1


def _letters(to: str) -> str:
    if to.strip().lower() in ("-", "del"):
        return ""
    read = pattern(to)
    if read.ambiguous:
        raise ToolRefused(
            "ambiguous-sequence",
            f"to has letters that stand for several bases ({read.letters[:20]}). Give the bases; for a residue, one of"
            " its codons.",
        )
    return read.dna


def _change(before: str, after: str) -> Change:
    same = _common(before, after)
    rest, other = before[same:], after[same:]
    tail = _common(rest[::-1], other[::-1])
    return Change(same, rest[: len(rest) - tail], other[: len(other) - tail])


def _common(a: str, b: str) -> int:
    """How many letters two texts begin with together."""
    return bisect_right(range(1, min(len(a), len(b)) + 1), 0, key=lambda size: a[:size] != b[:size])


def _protein(letters: str, code: GeneticCode, *, starts: bool) -> str:
    """The residues up to the first stop codon, with it; M for the first one if its codon is one that starts."""
    residues = []
    for index in range(0, len(letters) - 2, 3):
        residues.append(code[letters[index : index + 3]])
        if residues[-1] == "*":
            break
    return f"M{''.join(residues[1:])}" if starts else "".join(residues)


def _effect(proteins: tuple[str, str], change: Change, *, starts: bool) -> tuple[str, str]:
    """The kind of a change, and its protein in HGVS's form."""
    before, after = proteins
    number = min(change.start // 3, len(before) - 1)
    if number == 0 and starts and after[:1] != "M":
        return "start-lost", "p.(Met1?)"
    if before == after:
        return "synonymous", f"p.({_residue(before, number)}=)"
    if (len(change.deleted) - len(change.inserted)) % 3:
        return _shifted(before, after)
    return _in_frame(before, after, change)


def _shifted(before: str, after: str) -> tuple[str, str]:
    """A frameshift, unless its first new codon is a stop, or the first one that it changes was the stop."""
    first = _common(before, after)
    if first >= len(after) or first >= len(before):
        return "frameshift", "p.?"  # the sequence ends before a residue differs
    if after[first] == "*":
        return "nonsense", f"p.({_residue(before, first)}Ter)"
    if before[first] == "*":
        return _extended(before, after, first)
    return "frameshift", f"p.({_residue(before, first)}{_THREE[after[first]]}fsTer{_distance(after, first, 1)})"


def _in_frame(before: str, after: str, change: Change) -> tuple[str, str]:
    first = _common(before, after)
    end = change.start + len(change.deleted)
    if before[first : first + 1] == "*" and end > 3 * first:
        return _extended(before, after, first)
    longer = (len(change.inserted) - len(change.deleted)) // 3
    if after.endswith("*") and (not before.endswith("*") or len(after) < len(before) + longer):
        return "nonsense", _stopped(before, after, first, -(-end // 3))
    residues = _change(before, after)
    if len(residues.deleted) == len(residues.inserted) == 1:
        return "missense", f"p.({_residue(before, first)}{_THREE[after[first]]})"
    kind = "insertion" if not residues.deleted else "deletion" if not residues.inserted else "indel"
    known = first < len(before)  # else the sequence ends before a residue differs
    return f"inframe-{kind}", f"p.({_of_residues(residues, before)})" if known else "p.?"


def _stopped(before: str, after: str, first: int, behind: int) -> str:
    """A new stop codon: alone, or behind new residues, in the place of those up to the last changed codon."""
    if first >= len(before):
        return "p.?"
    if after[first] == "*":
        return f"p.({_residue(before, first)}Ter)"
    return f"p.({_of_residues(Change(first, before[first:behind], after[first:]), before)})"


def _extended(before: str, after: str, first: int) -> tuple[str, str]:
    new = _THREE[after[first]] if first < len(after) else "?"
    return "stop-lost", f"p.({_residue(before, first)}{new}extTer{_distance(after, first, 0)})"


def _residue(protein: str, index: int) -> str:
    return f"{_THREE[protein[index]]}{index + 1}" if 0 <= index < len(protein) else "?"


def _distance(protein: str, first: int, base: int) -> str:
    """How far the new stop is, or ? if the sequence ends before it."""
    return str(protein.index("*", first) - first + base) if "*" in protein[first:] else "?"


def _of_bases(change: Change, before: str, stop: int | None) -> str:
    """The change of bases; those behind the stop codon, if it ends at ``stop``, are *1, *2 and so on."""
    start, deleted, inserted = change
    if len(deleted) == len(inserted) == 1:
        return f"{start + 1}{deleted}>{inserted}"

    def place(index: int) -> str:
        inside = stop is None or index < stop
        return "-1" if index < 0 else f"{index + 1}" if inside else f"*{index - (stop or 0) + 1}"

    if len(deleted) > 1 and inserted == reverse_complement(deleted):
        return f"{_places(start, len(deleted), place)}inv"
    return _described(change, before, inserted, place)


def _of_residues(change: Change, before: str) -> str:
    inserted = "".join(_THREE[residue] for residue in change.inserted)
    return _described(change, before, inserted, lambda index: _residue(before, index))


def _described(change: Change, before: str, inserted: str, place: Callable[[int], str]) -> str:
    """A deletion, duplication, insertion or both in HGVS's form."""
    start, deleted, _ = change
    if deleted:
        return f"{_places(start, len(deleted), place)}del{f'ins{inserted}' if inserted else ''}"
    size = len(change.inserted)
    if start >= size and before[start - size : start] == change.inserted:
        return f"{_places(start - size, size, place)}dup"
    return f"{place(start - 1)}_{place(start)}ins{inserted}"


def _places(start: int, size: int, place: Callable[[int], str]) -> str:
    return place(start) if size == 1 else f"{place(start)}_{place(start + size - 1)}"


def _sites(read: Nucleotides, before: str, after: str, change: Change) -> tuple[list[str], list[str]]:
    """The enzymes that have a site over the changed bases only before, and only after the change; RNA has none."""
    if read.molecule == "RNA":
        return [], []
    had = _over(before, change.start, len(change.deleted))
    has = _over(after, change.start, len(change.inserted))
    return sorted(had - has), sorted(has - had)


def _over(letters: str, start: int, size: int) -> set[str]:
    """The enzymes with a site over some letters, or over the place between two of them."""
    low = max(0, start - NEIGHBORHOOD)
    around = Molecule(letters[low : start + size + NEIGHBORHOOD], circular=False)
    first, last = start - low, start - low + max(size, 1)
    inside = 0 if size else 1  # between two letters, a site must have both
    return {
        enzyme.name
        for alike in _enzymes_by_site()
        if any(hit.start < last - inside and hit.start + len(alike[0].site) > first for hit in hits(around, alike[0]))
        for enzyme in alike
    }


@cache
def _enzymes_by_site() -> list[list[Enzyme]]:
    """The commercial enzymes, those with the same site together."""
    alike: dict[object, list[Enzyme]] = defaultdict(list)
    for enzyme in commercial_enzymes():
        if len(enzyme.site) - enzyme.site.count("N") >= MIN_BASES:
            alike[enzyme.site, enzyme.symmetric].append(enzyme)
    return list(alike.values())


APPLY_MUTATION = Tool(
    ToolSpec(
        "apply_mutation",
        1,
        "Replace a codon or a base (position) of a coding sequence: effect, HGVS, sites lost and gained.",
        "The sequence is coding from its first base; names by HGVS with the 3' rule, the protein's predicted, hence in"
        " parentheses; sites are those of REBASE's commercial enzymes (four bases or more) over the change.",
        parameters(
            {
                "sequence": SEQUENCE,
                "codon": {"type": "integer", "minimum": 1},
                "position": {"type": "integer", "minimum": 1},
                "to": {"type": "string", "description": "Bases in its place; - deletes."},
                "genetic_code": GENETIC_CODE,
            },
            ["sequence", "to"],
        ),
        BIOPYTHON,
        sequences=("sequence",),
    ),
    apply_mutation,
)
