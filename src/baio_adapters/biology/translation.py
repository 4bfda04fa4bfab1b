"""The tool that translates a nucleotide sequence by one of NCBI's genetic codes."""

import itertools

from baio_adapters.biology.definitions import BIOPYTHON, GENETIC_CODE, SEQUENCE, excerpt, kept_letters, parameters
from baio_domain.sequences import BASES, Nucleotides, nucleotides, reverse_complement
from baio_domain.tools import Computed, Product, Tool, ToolRefused, ToolSpec

_EITHER = {frozenset("DN"): "B", frozenset("EQ"): "Z", frozenset("IL"): "J"}
"""IUPAC's letters for one of two residues."""


class GeneticCode(dict[str, str]):
    """One of NCBI's genetic codes: the residue of each codon, also of ambiguous ones.

    Raises ToolRefused, ``out-of-range``, for a number that NCBI has not given.
    """

    def __init__(self, number: int) -> None:
        from Bio.Data.CodonTable import unambiguous_dna_by_id  # noqa: PLC0415 - never in the server

        if number not in unambiguous_dna_by_id:
            numbers = ", ".join(map(str, sorted(unambiguous_dna_by_id)))
            raise ToolRefused("out-of-range", f"There is no genetic code {number}. NCBI's are {numbers}.")
        table = unambiguous_dna_by_id[number]
        # In some codes a codon is both: it is read as its residue, and can still end a coding sequence.
        super().__init__(dict.fromkeys(table.stop_codons, "*") | table.forward_table | {"---": "-"})
        self.stops = frozenset(table.stop_codons)
        self.starts = frozenset(table.start_codons)

    def __missing__(self, codon: str) -> str:
        """The residue of an ambiguous codon: the one that all its codons have, else B, Z, J or X."""
        residues = frozenset(self[each] for each in codons(codon))
        self[codon] = next(iter(residues)) if len(residues) == 1 else _EITHER.get(residues, "X")
        return self[codon]


def codons(codon: str) -> list[str]:
    """The codons that an ambiguous codon stands for."""
    return ["".join(bases) for bases in itertools.product(*(BASES[letter] for letter in codon))]


class Reading:
    """The codons of a sequence in one frame; a negative frame begins at the last base of the other strand."""

    def __init__(self, read: Nucleotides, frame: int) -> None:
        strand = read.letters if frame > 0 else reverse_complement(read.letters, read.molecule)
        self.frame = frame
        self.offset = abs(frame) - 1
        self.total = len(strand)
        self.trailing = max(0, self.total - self.offset) % 3
        whole = strand[self.offset : self.total - self.trailing]
        self.spelt = [whole[start : start + 3] for start in range(0, len(whole), 3)]
        self.codons = self.spelt if read.molecule == "DNA" else [codon.replace("U", "T") for codon in self.spelt]

    def positions(self, index: int) -> str:
        """The positions of a codon on the strand that was given."""
        first = self.offset + 3 * index + 1
        if self.frame < 0:
            first = self.total - first - 1
        return f"{first}-{first + 2}"

    def spelling(self, index: int) -> str:
        """The number and the positions of a codon, for a refusal."""
        return f"Codon {index + 1} (positions {self.positions(index)})"


def translate(sequence: str, genetic_code: int, frame: int, to_stop: bool, cds: bool) -> Computed:  # noqa: FBT001
    """The protein that one frame of a sequence spells."""
    code = GeneticCode(genetic_code)
    read = nucleotides(sequence, gaps=not cds)
    if frame == 0:
        raise ToolRefused("out-of-range", "frame must be 1, 2, 3, -1, -2 or -3, not 0.")
    reading = Reading(read, frame)
    _refuse_gaps(reading)
    protein = "".join([code[codon] for codon in reading.codons])
    if cds:
        _refuse_all_but_a_cds(reading, code, genetic_code)
        protein = f"M{protein[1:-1]}"
    elif to_stop:
        protein = protein.partition("*")[0]
    stopped = cds or (to_stop and len(protein) < len(reading.codons))
    first = reading.spelt[0] if reading.spelt else ""
    result = {
        "protein": kept_letters(protein),
        "length": len(protein),
        "stops": protein.count("*") + stopped,
        "trailing_bases": reading.trailing,
        "genetic_code": genetic_code,
        "frame": frame,
        "start_codon": first if _is_one_of(first, code.starts) else None,
    }
    shown = f"**{excerpt(protein)}** ({len(protein):,} aa)" if protein else "**no residue**"
    line = f"Translation of {read.title} ({read.size}, frame {frame}, genetic code {genetic_code}): {shown}"
    product = Product(("protein",), f"{read.title} translation, frame {frame}", protein, "protein")
    return Computed(result, line, (read.input(),), (product,))


def _refuse_gaps(reading: Reading) -> None:
    for index, codon in enumerate(reading.spelt):
        if "-" in codon and codon != "---":
            raise ToolRefused("gap-in-codon", f"{reading.spelling(index)} is '{codon}'.")


def _is_one_of(codon: str, wanted: frozenset[str]) -> bool:
    """Whether a codon, or everything that it can stand for, is one of these."""
    return bool(codon) and "-" not in codon and wanted.issuperset(codons(codon))


def _refuse_all_but_a_cds(reading: Reading, code: GeneticCode, number: int) -> None:
    """Refuse what is no coding sequence: a start codon, whole codons, and one stop codon, which is the last."""
    last = len(reading.codons) - 1
    if reading.trailing:
        left = f"{reading.trailing} {'base is' if reading.trailing == 1 else 'bases are'} left"
        end = reading.total - reading.trailing
        raise ToolRefused(
            "not-a-cds",
            f"{left} after codon {last + 1}, which ends at position {end}. Give whole codons, start to stop.",
        )
    if last < 1:
        raise ToolRefused("not-a-cds", "One codon is no coding sequence. Give it from its start to its stop codon.")
    for index, codon in enumerate(reading.codons):
        what = None
        if index == 0 and not _is_one_of(codon, code.starts):
            what = f"no start codon of genetic code {number} ({', '.join(sorted(code.starts))})"
        elif index == last and not _is_one_of(codon, code.stops):
            what = f"no stop codon of genetic code {number} ({', '.join(sorted(code.stops))})"
        elif index < last and code[codon] == "*":
            what = "a stop codon before the end"
        if what:
            raise ToolRefused("not-a-cds", f"{reading.spelling(index)}, {reading.spelt[index]}, is {what}.")


TRANSLATE = Tool(
    ToolSpec(
        "translate",
        1,
        "Protein of one reading frame of DNA or RNA. It does not look for reading frames.",
        "Translation by NCBI's genetic code; an ambiguous codon gives the residue that all its codons have, else B, Z,"
        " J or X; cds=true needs a start codon (read as M), whole codons and one stop codon, the last (dropped).",
        parameters(
            {
                "sequence": SEQUENCE,
                "genetic_code": GENETIC_CODE,
                "frame": {
                    "type": "integer",
                    "minimum": -3,
                    "maximum": 3,
                    "default": 1,
                    "description": "1, 2, 3; -1 begins at the last base of the other strand.",
                },
                "to_stop": {"type": "boolean", "default": False},
                "cds": {"type": "boolean", "default": False, "description": "Check that it is a coding sequence."},
            },
            ["sequence"],
        ),
        BIOPYTHON,
        sequences=("sequence",),
    ),
    translate,
)
