"""The tool that computes the mass of a nucleic acid or a protein."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from baio_adapters.biology.definitions import BIOPYTHON, SEQUENCE, TOPOLOGY, parameters
from baio_domain.sequences import Nucleotides, Protein, first_position, nucleotides, protein, reverse_complement
from baio_domain.tools import Computed, Tool, ToolRefused, ToolSpec

PHOSPHATES = {"OH": -1, "phosphate": 0, "triphosphate": 2}
"""HPO3 groups at a 5' end, beyond the one that every nucleotide has."""

_HPO3 = {"average": 79.9799, "monoisotopic": 79.966331}
"""Average by IUPAC's atomic weights of H 1.00794, O 15.9994, P 30.973762, which Biopython's masses have, too."""


class Chains(NamedTuple):
    """Strands of DNA or RNA; what is at each 5' end, None for circles."""

    molecule: str
    strands: int
    five_prime: str | None


class Mass(NamedTuple):
    """A mass in Da, and the terms that it is the sum of: how many of each, and the mass of one."""

    dalton: float
    terms: dict[str, dict[str, float]]

    @property
    def shown(self) -> str:
        """As a headline shows it."""
        return f"{self.dalton:,.{2 if self.dalton < 10_000 else 1}f}"

    @property
    def rounded(self) -> float:
        """To 0.01 Da below 10 kDa, else to 0.1 Da."""
        return round(self.dalton, 2 if self.dalton < 10_000 else 1)


def molecular_weight(
    sequence: str, molecule: str | None, strands: int, five_prime: str, topology: str, isotopes: str
) -> Computed:
    """The mass of a molecule with this sequence."""
    read = protein(sequence) if molecule == "protein" else _nucleotides(sequence, molecule)
    kind = molecule or read.molecule
    circular = topology == "circular"
    about: dict[str, object] = {"molecule": kind, "length": len(read.letters), "topology": topology}
    if isinstance(read, Protein):
        if strands == 2:
            raise ToolRefused("out-of-range", "A protein has one strand. Give strands=1.")
        weighed = protein_mass(read, isotopes, circular=circular)
        ends = ""
    else:
        chains = Chains(kind, strands, None if circular else five_prime)
        weighed = nucleic_acid_mass(read, chains, isotopes)
        with_phosphate = nucleic_acid_mass(read, chains._replace(five_prime="phosphate"), isotopes)
        about |= chains._asdict() | {"with_5_prime_phosphate": None if circular else with_phosphate.rounded}
        ends = (", two strands" if strands == 2 else "") + ("" if circular else f", 5'-{five_prime}")
    result = {"molecular_weight": weighed.rounded, **about, "isotopes": isotopes, "terms": weighed.terms}
    what = f"{read.size}, {kind}, {topology}{ends}, {isotopes}"
    line = f"Molecular weight of {read.title} ({what}): **{weighed.shown} Da**"
    return Computed(result, line, (read.input(),))


def nucleic_acid_mass(read: Nucleotides, chains: Chains, isotopes: str = "average") -> Mass:
    """The mass of DNA or RNA.

    Raises ToolRefused, ``ambiguous-sequence``, for letters that stand for several bases.
    """
    if read.ambiguous:
        position = next(index for index, letter in enumerate(read.letters) if letter not in "ACGTU") + 1
        raise ToolRefused(
            "ambiguous-sequence",
            f"{read.letters[position - 1]} at position {position} stands for several bases, which differ in mass. Ask"
            " for each sequence that it stands for.",
        )
    from Bio.Data import IUPACData  # noqa: PLC0415 - never in the server

    prefix = "monoisotopic_" if isotopes == "monoisotopic" else ""
    weights = getattr(IUPACData, f"{prefix}unambiguous_{chains.molecule.lower()}_weights")
    counts = _counts(read.letters)
    if chains.strands == 2:
        counts.update(_counts(reverse_complement(read.letters, chains.molecule)))
    ends = chains.strands if chains.five_prime else 0
    return _sum(counts, weights, isotopes, ends, PHOSPHATES[chains.five_prime] * ends if chains.five_prime else 0)


def protein_mass(read: Protein, isotopes: str = "average", *, circular: bool = False) -> Mass:
    """The mass of an unmodified protein. Raises ToolRefused, ``ambiguous-residues``."""
    refuse_ambiguous_residues(read)
    from Bio.Data import IUPACData  # noqa: PLC0415 - never in the server

    weights = getattr(IUPACData, "monoisotopic_protein_weights" if isotopes == "monoisotopic" else "protein_weights")
    return _sum(_counts(read.letters), weights, isotopes, 0 if circular else 1, 0)


def refuse_ambiguous_residues(read: Protein, letters: str = "BJXZ", why: str = "stands for several residues") -> None:
    """Refuse a protein with one of these letters."""
    for index, letter in enumerate(read.letters):
        if letter in letters:
            raise ToolRefused(
                "ambiguous-residues",
                f"{letter} at position {index + 1} {why}. Give the residue that it is, or leave it out.",
            )


def _nucleotides(sequence: str, molecule: str | None) -> Nucleotides:
    try:
        read = nucleotides(sequence)
    except ToolRefused as refused:
        if molecule is None and refused.error in ("not-a-nucleotide-sequence", "ambiguous-sequence"):
            raise ToolRefused(refused.error, f"{refused.detail} For a protein, give molecule=protein.") from None
        raise
    other = {"DNA": "U", "RNA": "T"}.get(molecule or "", "")
    if other and other in read.letters:
        position = first_position(read.letters, other)
        raise ToolRefused(
            "wrong-molecule", f"{other} at position {position} does not occur in {molecule}. Give another molecule."
        )
    return read


def _counts(letters: str) -> Counter[str]:
    return Counter({letter: letters.count(letter) for letter in set(letters)})


def _sum(counts: Mapping[str, int], weights: Mapping[str, float], isotopes: str, ends: int, phosphates: int) -> Mass:
    """Residues, water for each chain that has ends, and phosphates."""
    water = 18.010565 if isotopes == "monoisotopic" else 18.0153
    terms: dict[str, dict[str, float]] = {
        letter: {"count": count, "mass": round(weights[letter] - water, 6)} for letter, count in sorted(counts.items())
    }
    if ends:
        terms["H2O"] = {"count": ends, "mass": water}
    if phosphates:
        terms["HPO3"] = {"count": phosphates, "mass": _HPO3[isotopes]}
    return Mass(sum((each["count"] * each["mass"] for each in terms.values()), 0.0), terms)


MOLECULAR_WEIGHT = Tool(
    ToolSpec(
        "molecular_weight",
        1,
        "Molecular weight of DNA, RNA or (molecule=protein) a protein. For pmol or copies use molar_amount.",
        "Residue masses (Biopython's) and H2O for each linear strand; five_prime=OH is one HPO3 less than phosphate,"
        " triphosphate two more; a circle has no ends.",
        parameters(
            {
                "sequence": SEQUENCE,
                "molecule": {
                    "type": "string",
                    "enum": ["DNA", "RNA", "protein"],
                },
                "strands": {"type": "integer", "minimum": 1, "maximum": 2, "default": 1, "description": "2: duplex."},
                "five_prime": {
                    "type": "string",
                    "enum": list(PHOSPHATES),
                    "default": "OH",
                },
                "topology": TOPOLOGY,
                "isotopes": {
                    "type": "string",
                    "enum": ["average", "monoisotopic"],
                    "default": "average",
                },
            },
            ["sequence"],
        ),
        BIOPYTHON,
        sequences=("sequence",),
    ),
    molecular_weight,
)
