"""The questions of ``baio benchmark-model``: for each tool two, on sequences made from fixed seeds."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

VARIANTS = 2
"""How many questions there are for each tool."""

_CODONS = [first + second + third for first in "ACGT" for second in "ACGT" for third in "ACGT"]
_SENSE = [codon for codon in _CODONS if codon not in ("TAA", "TAG", "TGA")]


@dataclass(frozen=True, slots=True)
class Question:
    """A question, the call that answers it, and what an answer must say: values of the call's result."""

    tool: str
    text: str
    arguments: Mapping[str, object]
    values: Callable[[dict[str, Any]], list[object]]


def questions() -> list[Question]:
    """All questions, always the same. The first ones have every tool once."""
    return [
        make(random.Random(f"baio{make.__name__} {seed}"))  # noqa: S311 - nothing secret
        for seed in range(VARIANTS)
        for make in _MAKERS
    ]


def _dna(source: random.Random, length: int) -> str:
    return "".join(source.choices("ACGT", k=length))


def _coding(source: random.Random, codons: int) -> str:
    return "ATG" + "".join(source.choices(_SENSE, k=codons - 1))


def _protein(source: random.Random, length: int) -> str:
    return "M" + "".join(source.choices("ACDEFGHIKLMNPQRSTVWY", k=length - 1))


def _with(source: random.Random, length: int, *parts: str) -> str:
    """Random letters around these parts, at least ``length`` before each."""
    return "".join(_dna(source, length + source.randint(0, 9)) + part for part in parts) + _dna(source, length)


def _one(*path: str | int) -> Callable[[dict[str, Any]], list[object]]:
    """The one value at this place of the result."""

    def found(result: dict[str, Any]) -> list[object]:
        value: Any = result
        for step in path:
            value = value[step]
        return [value]

    return found


def _gc_content(source: random.Random) -> Question:
    letters = _dna(source, source.randint(80, 200))
    text = f"What is the GC content, in percent with two decimals, of {letters}?"
    return Question("gc_content", text, {"sequence": letters}, _one("gc_percent"))


def _reverse_complement(source: random.Random) -> Question:
    letters = _dna(source, source.randint(40, 80))
    text = f"Write the reverse complement of {letters}."
    return Question("reverse_complement", text, {"sequence": letters}, _one("sequence"))


def _transcribe(source: random.Random) -> Question:
    letters = _dna(source, source.randint(40, 80))
    text = f"Transcribe this coding strand to RNA: {letters}"
    return Question("transcribe", text, {"sequence": letters}, _one("sequence"))


def _translate(source: random.Random) -> Question:
    letters = _coding(source, source.randint(20, 40))
    text = f"Translate this DNA in frame 1 with the standard genetic code: {letters}"
    return Question("translate", text, {"sequence": letters}, _one("protein"))


def _describe_sequence(source: random.Random) -> Question:
    letters = _dna(source, source.randint(120, 240))
    text = f"How many letters does this sequence have? {letters}"
    return Question("describe_sequence", text, {"sequence": letters}, _one("length"))


def _extract(source: random.Random) -> Question:
    letters = _dna(source, 150)
    start = source.randint(40, 80)
    end = start + source.randint(15, 25)
    text = f"Which letters are at positions {start} to {end} (1-based, inclusive) of {letters}?"
    return Question("extract", text, {"sequence": letters, "start": start, "end": end}, _one("letters"))


def _find_motif(source: random.Random) -> Question:
    letters = _with(source, source.randint(15, 30), "GATC", "GATC", "GATC")
    text = f"At which positions (1-based) does the motif GATC begin in this linear DNA? {letters}"
    arguments = {"sequence": letters, "motif": "GATC"}
    return Question("find_motif", text, arguments, lambda found: [each["start"] for each in found["hits"]])


def _find_orfs(source: random.Random) -> Question:
    letters = f"{_dna(source, 20)}TAA{_coding(source, source.randint(35, 60))}TAA{_dna(source, 20)}"
    text = f"How many amino acids has the longest open reading frame (ATG to stop, both strands) of {letters}?"
    return Question("find_orfs", text, {"sequence": letters}, _one("orfs", 0, "length_aa"))


def _restriction_sites(source: random.Random) -> Question:
    letters = _with(source, source.randint(20, 40), *["GAATTC"] * source.randint(2, 4))
    text = f"After which positions (1-based) of its top strand does EcoRI cut this linear DNA? {letters}"

    def cuts(found: dict[str, Any]) -> list[object]:
        return [each["cut_after"] for each in found["enzymes"][0]["positions"]]

    return Question("restriction_sites", text, {"sequence": letters, "enzymes": ["EcoRI"]}, cuts)


def _restriction_digest(source: random.Random) -> Question:
    letters = _with(source, source.randint(20, 40), "GAATTC", "GGATCC", "GAATTC")
    text = f"Which fragment lengths does a digest of this circular plasmid with EcoRI and BamHI give? {letters}"
    arguments = {"sequence": letters, "enzymes": ["EcoRI", "BamHI"], "topology": "circular"}

    def lengths(found: dict[str, Any]) -> list[object]:
        return [each["length"] for each in found["fragments"]]

    return Question("restriction_digest", text, arguments, lengths)


def _melting_temperature(source: random.Random) -> Question:
    letters = _dna(source, source.randint(18, 26))
    text = (
        f"What is the nearest-neighbour melting temperature in °C of the primer {letters} at 250 nM, 50 mM Na+,"
        " 2 mM Mg2+ and 0.8 mM dNTPs?"
    )
    arguments = {"sequence": letters, "oligo_nm": 250, "na_mm": 50, "mg_mm": 2, "dntp_mm": 0.8}
    return Question("melting_temperature", text, arguments, _one("tm_celsius"))


def _molecular_weight(source: random.Random) -> Question:
    letters = _protein(source, source.randint(40, 90))
    text = f"What is the average molecular weight in Da of the protein {letters}?"
    return Question("molecular_weight", text, {"sequence": letters, "molecule": "protein"}, _one("molecular_weight"))


def _protein_properties(source: random.Random) -> Question:
    letters = _protein(source, source.randint(40, 90))
    text = f"What is the theoretical isoelectric point (ProtParam) of the protein {letters}?"
    return Question("protein_properties", text, {"sequence": letters}, _one("isoelectric_point"))


def _pairwise_align(source: random.Random) -> Question:
    a = _dna(source, 60)
    at = source.randint(20, 40)
    b = a[:at] + a[at + source.randint(2, 5) :].replace("AC", "GT", source.randint(1, 3))
    text = f"Align these two DNA sequences globally with EDNAFULL, gaps -10 and -0.5. What is the score?\n{a}\n{b}"
    return Question("pairwise_align", text, {"a": a, "b": b}, _one("score"))


def _simulate_pcr(source: random.Random) -> Question:
    template = _dna(source, source.randint(180, 260))
    first, end = source.randint(5, 40), source.randint(130, 175)
    forward, last = template[first : first + 20], template[end - 20 : end]
    reverse = last[::-1].translate(str.maketrans("ACGT", "TGCA"))
    text = f"How long is the PCR product of the primers {forward} and {reverse} on this linear template? {template}"
    arguments = {"template": template, "forward": forward, "reverse": reverse}
    return Question("simulate_pcr", text, arguments, _one("products", 0, "length"))


def _check_primer(source: random.Random) -> Question:
    letters = _dna(source, source.randint(18, 24))
    text = f"Check the primer {letters} for PCR and give its melting temperature in °C."
    return Question("check_primer", text, {"sequence": letters}, _one("tm_celsius"))


def _apply_mutation(source: random.Random) -> Question:
    letters = _coding(source, 30)
    codon = source.randint(8, 25)
    new = source.choice([each for each in _SENSE if each[1] != letters[3 * codon - 2]])
    text = (
        f"Codon {codon} of this coding sequence becomes {new}. Name the change of the protein in HGVS form. {letters}"
    )
    arguments = {"sequence": letters, "codon": codon, "to": new}
    return Question("apply_mutation", text, arguments, lambda found: [found["protein_change"][3:-1]])


def _codon_usage(source: random.Random) -> Question:
    letters = _coding(source, 60)
    text = f"What is the codon adaptation index (CAI) for E. coli of {letters}?"
    return Question("codon_usage", text, {"sequence": letters, "reference": "e_coli"}, _one("cai"))


def _dilution(source: random.Random) -> Question:
    c1, c2, v2 = source.choice([50, 80, 100]), source.choice([0.4, 1.5, 2.5]), source.choice([30, 75, 120])
    text = f"How many µL of a {c1} µM primer stock make {v2} µL at {c2} µM?"
    arguments = {"c1": f"{c1} µM", "c2": f"{c2} µM", "v2": f"{v2} µL"}
    return Question("dilution", text, arguments, _one("v1", "value"))


def _molar_amount(source: random.Random) -> Question:
    ng, length = source.choice([35, 50, 120]), source.randint(2_000, 9_000)
    text = f"How many pmol are {ng} ng of double-stranded DNA of {length} bp?"
    return Question("molar_amount", text, {"mass": f"{ng} ng", "length": str(length)}, _one("pmol"))


_MAKERS = (
    _gc_content, _reverse_complement, _translate, _restriction_digest, _melting_temperature, _find_orfs,
    _molecular_weight, _simulate_pcr, _apply_mutation, _dilution, _transcribe, _describe_sequence, _extract,
    _find_motif, _restriction_sites, _protein_properties, _pairwise_align, _check_primer, _codon_usage, _molar_amount,
)  # fmt: skip
