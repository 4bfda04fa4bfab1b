"""The tool that estimates the melting temperature of an oligonucleotide."""

import math

from baio_adapters.biology.definitions import BIOPYTHON, SEQUENCE, parameters
from baio_domain.sequences import Nucleotides, first_position, nucleotides, reverse_complement
from baio_domain.tools import Computed, Tool, ToolRefused, ToolSpec

MAX_NEAREST_NEIGHBOR = 60
"""Bases of the longest duplex that melts in two states (Primer3's limit)."""

Conditions = dict[str, float]


def melting_temperature(
    sequence: str, method: str, oligo_nm: float, na_mm: float, mg_mm: float, dntp_mm: float
) -> Computed:
    """The melting temperature of an oligonucleotide and its perfect complement."""
    read = nucleotides(sequence)
    letters = read.letters
    _refuse_all_but_acgt(read)
    conditions = {"oligo_nm": oligo_nm, "na_mm": na_mm, "mg_mm": mg_mm, "dntp_mm": dntp_mm}
    used = _USED[method]
    for name in used:
        if conditions[name] <= 0 and name in ("oligo_nm", "na_mm"):
            raise ToolRefused("out-of-range", f"{name} must be above 0, not {conditions[name]}.")
    symmetric = letters == reverse_complement(letters)
    celsius, note = _METHODS[method](letters, symmetric, conditions)
    result = {
        "tm_celsius": round(celsius, 2),
        "method": method,
        "table": "SantaLucia 1998 (Allawi & SantaLucia 1997)" if method == "nearest_neighbor" else None,
        **{name: value if name in used else None for name, value in conditions.items()},
        "self_complementary": symmetric,
        "length": len(letters),
        "note": note,
    }
    under = ", ".join(f"{conditions[name]:g} {label}" for name, label in _LABELS.items() if name in used)
    how = f"{method.replace('_', ' ')}{', ' if under else ''}{under}"
    return Computed(result, f"Tm of {read.title} ({read.size}): **{celsius:.2f} °C** ({how})", (read.input(),))


def _refuse_all_but_acgt(read: Nucleotides) -> None:
    if read.molecule == "RNA":
        position = first_position(read.letters, "U")
        raise ToolRefused("rna-not-melted", f"The methods are for DNA; this is RNA (U at position {position}).")
    if read.ambiguous:
        position = next(index + 1 for index, letter in enumerate(read.letters) if letter not in "ACGT")
        raise ToolRefused(
            "ambiguous-sequence",
            f"{read.letters[position - 1]} at position {position} stands for several bases; the methods need A, C, G"
            " and T. Ask for each sequence that it stands for.",
        )


def _nearest_neighbor(letters: str, symmetric: bool, conditions: Conditions) -> tuple[float, str | None]:  # noqa: FBT001
    from Bio.SeqUtils.MeltingTemp import DNA_NN3, Tm_NN  # noqa: PLC0415 - never in the server

    if len(letters) > MAX_NEAREST_NEIGHBOR:
        raise ToolRefused(
            "too-long",
            f"The oligonucleotide has {len(letters):,} nt; nearest_neighbor is for at most {MAX_NEAREST_NEIGHBOR}."
            " Use the method gc.",
        )
    if len(letters) < 2:
        raise ToolRefused("out-of-range", "One base has no neighbor. Give at least 2 nt.")
    # Biopython's concentrations are of the two strands: in equal halves, they give the total/4 that Primer3 takes.
    oligo = conditions["oligo_nm"]
    strands = (oligo, 0) if symmetric else (oligo / 2, oligo / 2)
    celsius: float = Tm_NN(  # type: ignore[no-untyped-call]
        letters,
        nn_table=DNA_NN3,
        dnac1=strands[0],
        dnac2=strands[1],
        selfcomp=symmetric,
        Na=conditions["na_mm"],
        Mg=conditions["mg_mm"],
        dNTPs=conditions["dntp_mm"],
        saltcorr=5,
    )
    return celsius, None


def _wallace(letters: str, symmetric: bool, conditions: Conditions) -> tuple[float, str | None]:  # noqa: FBT001
    del symmetric, conditions
    strong = letters.count("G") + letters.count("C")
    note = "the Wallace rule is meant for at most 20 nt" if len(letters) > 20 else None
    return 2.0 * (len(letters) - strong) + 4.0 * strong, note


def _gc(letters: str, symmetric: bool, conditions: Conditions) -> tuple[float, str | None]:  # noqa: FBT001
    del symmetric
    percent = 100 * (letters.count("G") + letters.count("C")) / len(letters)
    return 81.5 + 16.6 * math.log10(conditions["na_mm"] / 1000) + 0.41 * percent - 675 / len(letters), None


_METHODS = {"nearest_neighbor": _nearest_neighbor, "wallace": _wallace, "gc": _gc}
_USED: dict[str, tuple[str, ...]] = {
    "nearest_neighbor": ("oligo_nm", "na_mm", "mg_mm", "dntp_mm"),
    "wallace": (),
    "gc": ("na_mm",),
}
_LABELS = {"oligo_nm": "nM oligo", "na_mm": "mM Na⁺", "mg_mm": "mM Mg²⁺", "dntp_mm": "mM dNTPs"}


MELTING_TEMPERATURE = Tool(
    ToolSpec(
        "melting_temperature",
        1,
        "Tm of a DNA oligo (nearest_neighbor: up to 60 nt) with its perfect complement. Not for RNA or mismatches.",
        "nearest_neighbor: SantaLucia 1998, salt correction of SantaLucia 1998 with Na + 120*sqrt(Mg - dNTP), equal to"
        " Primer3; wallace: 2(A+T)+4(G+C); gc: 81.5+16.6*log10[Na]+0.41*%GC-675/N.",
        parameters(
            {
                "sequence": SEQUENCE,
                "method": {
                    "type": "string",
                    "enum": list(_METHODS),
                    "default": "nearest_neighbor",
                },
                "oligo_nm": {"type": "number", "minimum": 0, "default": 50},
                "na_mm": {"type": "number", "minimum": 0, "default": 50},
                "mg_mm": {"type": "number", "minimum": 0, "default": 1.5},
                "dntp_mm": {"type": "number", "minimum": 0, "default": 0.6},
            },
            ["sequence"],
        ),
        BIOPYTHON,
        sequences=("sequence",),
    ),
    melting_temperature,
)
