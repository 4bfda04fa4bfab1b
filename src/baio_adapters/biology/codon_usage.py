"""The tool that counts the codons of a coding sequence and computes its codon adaptation index."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from math import exp, log

from baio_adapters.biology.definitions import BIOPYTHON, GENETIC_CODE, SEQUENCE, parameters
from baio_adapters.biology.translation import GeneticCode
from baio_domain.sequences import nucleotides
from baio_domain.tools import Computed, Tool, ToolInput, ToolRefused, ToolSpec

E_COLI = "e_coli"

ABSENT = 0.5
"""The count of a codon that the reference does not have (Sharp & Li 1987)."""

SHARP_LI_E_COLI = {
    "TTT": 0.296, "TTC": 1, "TTA": 0.02, "TTG": 0.02, "TCT": 1, "TCC": 0.744, "TCA": 0.077, "TCG": 0.017, "TAT": 0.239,
    "TAC": 1, "TGT": 0.5, "TGC": 1, "CTT": 0.042, "CTC": 0.037, "CTA": 0.007, "CTG": 1, "CCT": 0.07, "CCC": 0.012,
    "CCA": 0.135, "CCG": 1, "CAT": 0.291, "CAC": 1, "CAA": 0.124, "CAG": 1, "CGT": 1, "CGC": 0.356, "CGA": 0.004,
    "CGG": 0.004, "ATT": 0.185, "ATC": 1, "ATA": 0.003, "ACT": 0.965, "ACC": 1, "ACA": 0.076, "ACG": 0.099,
    "AAT": 0.051, "AAC": 1, "AAA": 1, "AAG": 0.253, "AGT": 0.085, "AGC": 0.41, "AGA": 0.004, "AGG": 0.002, "GTT": 1,
    "GTC": 0.066, "GTA": 0.495, "GTG": 0.221, "GCT": 1, "GCC": 0.122, "GCA": 0.586, "GCG": 0.424, "GAT": 0.434,
    "GAC": 1, "GAA": 1, "GAG": 0.259, "GGT": 1, "GGC": 0.724, "GGA": 0.01, "GGG": 0.019,
}  # fmt: skip
"""Relative adaptiveness of codons in highly expressed genes of E. coli (Sharp & Li 1987, table 1)."""


def codon_usage(sequence: str, genetic_code: int, reference: str | None) -> Computed:
    """How often a coding sequence has each codon, and how well they suit a reference."""
    code = GeneticCode(genetic_code)
    read = nucleotides(sequence)
    counts, ambiguous = _counted(read.dna)
    families = _families(code)
    inputs: tuple[ToolInput, ...] = (read.input(),)
    index, used, name = None, 0, None
    if reference is not None:
        weights, name, more = _weights(reference, genetic_code, families)
        inputs += more
        index, used = _adaptation(counts, weights, families)
    total = sum(counts.values())
    result = {
        "codons": [
            {
                "codon": codon,
                "residue": residue,
                "count": counts[codon],
                "per_thousand": round(1000 * counts[codon] / total, 2) if total else None,
                "rscu": _rscu(counts, codon, family),
            }
            for residue, family in families.items()
            for codon in family
        ],
        "total": total,
        "ambiguous": ambiguous,
        "trailing_bases": len(read.letters) % 3,
        "genetic_code": genetic_code,
        "cai": index,
        "cai_codons": used,
        "reference": name,
    }
    said = "" if name is None else f", CAI **{'not defined' if index is None else f'{index:.4f}'}** ({name})"
    return Computed(result, f"Codon usage of {read.title} ({read.size}): **{total:,} codons**{said}", inputs)


def _counted(letters: str) -> tuple[Counter[str], int]:
    """The codons of frame 1, and how many are ambiguous, which count for none."""
    found = Counter([letters[start : start + 3] for start in range(0, len(letters) - 2, 3)])
    plain = Counter({codon: number for codon, number in found.items() if set(codon) <= set("ACGT")})
    return plain, sum(found.values()) - sum(plain.values())


def _families(code: GeneticCode) -> dict[str, list[str]]:
    """The codons of each residue, and of the stop, in order."""
    families: dict[str, list[str]] = defaultdict(list)
    for codon in sorted(first + second + third for first in "ACGT" for second in "ACGT" for third in "ACGT"):
        families[code[codon]].append(codon)
    return dict(sorted(families.items()))


def _rscu(counts: Mapping[str, int], codon: str, family: list[str]) -> float | None:
    """Relative synonymous codon usage: the count by the mean of the residue's codons."""
    together = sum(counts[each] for each in family)
    return round(counts[codon] * len(family) / together, 4) if together else None


def _weights(
    reference: str, genetic_code: int, families: Mapping[str, list[str]]
) -> tuple[Mapping[str, float], str, tuple[ToolInput, ...]]:
    """The relative adaptiveness of each codon, what it is of, and the sequence that it was counted in."""
    if reference.strip().lower() == E_COLI:
        if genetic_code not in (1, 11):
            raise ToolRefused("out-of-range", "e_coli has genetic code 1 or 11. Give a reference of coding sequences.")
        return SHARP_LI_E_COLI, "E. coli, Sharp & Li 1987", ()
    try:
        read = nucleotides(reference)
    except ToolRefused as refused:
        raise ToolRefused(refused.error, f"{refused.detail} The only reference by name is e_coli.") from None
    counts, _ = _counted(read.dna)
    weights: dict[str, float] = {}
    for family in families.values():
        most = max(counts[codon] or ABSENT for codon in family)
        weights |= {codon: (counts[codon] or ABSENT) / most for codon in family}
    return weights, f"{read.title}, {sum(counts.values()):,} codons", (read.input("reference"),)


def _adaptation(
    counts: Mapping[str, int], weights: Mapping[str, float], families: Mapping[str, list[str]]
) -> tuple[float | None, int]:
    """The geometric mean of the weights, and of how many codons: not of stop codons, nor of a residue's only codon."""
    chosen = [codon for residue, family in families.items() if residue != "*" and len(family) > 1 for codon in family]
    used = sum(counts[codon] for codon in chosen)
    if not used:
        return None, 0
    return round(exp(sum(counts[codon] * log(weights[codon]) for codon in chosen) / used), 4), used


CODON_USAGE = Tool(
    ToolSpec(
        "codon_usage",
        1,
        "Codon counts, RSCU and CAI of a coding sequence. It does not optimise codons.",
        "Codons of frame 1; RSCU: count by the mean of the residue's codons; CAI: geometric mean of the relative"
        " adaptiveness (Sharp & Li 1987; 0.5 for an absent codon), without stop codons and single-codon residues.",
        parameters(
            {
                "sequence": SEQUENCE,
                "genetic_code": GENETIC_CODE,
                "reference": {"type": "string", "description": "For CAI: e_coli, or letters of coding sequences."},
            },
            ["sequence"],
        ),
        BIOPYTHON,
        sequences=("sequence",),
    ),
    codon_usage,
)
