"""Tools for the bench: dilutions, and how much of a molecule a mass is."""

from fractions import Fraction

from baio_adapters.biology.definitions import BIOPYTHON, SEQUENCE, TOPOLOGY, parameters
from baio_adapters.biology.mass import Chains, nucleic_acid_mass, protein_mass
from baio_adapters.biology.quantities import (
    AMOUNT,
    CONCENTRATIONS,
    COPIES,
    COPIES_PER_VOLUME,
    LENGTH,
    MASS,
    MASS_CONCENTRATION,
    MOLAR,
    VOLUME,
    Quantity,
    in_unit,
    of_kind,
    significant,
    volume_of,
)
from baio_domain.sequences import nucleotides, protein
from baio_domain.tools import Computed, Tool, ToolInput, ToolRefused, ToolSpec

AVOGADRO = Fraction("6.02214076e23")

PER_UNIT = {
    "dsDNA": (Fraction("617.96"), Fraction("36.04"), "617.96 g/mol per bp + 36.04"),
    "ssDNA": (Fraction("308.97"), Fraction("18.02"), "308.97 g/mol per nt + 18.02"),
    "RNA": (Fraction("321.47"), Fraction("18.02"), "321.47 g/mol per nt + 18.02"),
}
"""Average masses with a phosphate at each 5' end, as New England Biolabs has them."""

MEASURES = {
    "mass": (MASS,),
    "amount": (AMOUNT,),
    "copies": (COPIES,),
    "concentration": (MOLAR, MASS_CONCENTRATION, COPIES_PER_VOLUME),
}
"""What can be given of a molecule, and the kinds of quantities that it may be."""

SMALL = Fraction(1, 2_000_000)
"""Half a microlitre: less can hardly be pipetted."""

DIGITS = 4
"""Significant digits of what follows from a molar mass."""


def dilution(c1: str | None, v1: str | None, c2: str | None, v2: str | None) -> Computed:
    """The one of C1, V1, C2 and V2 that is not given, and the diluent."""
    given = {name: text for name, text in (("c1", c1), ("v1", v1), ("c2", c2), ("v2", v2)) if text is not None}
    if len(given) != 3:
        raise ToolRefused("bad-arguments", "Give three of c1, v1, c2 and v2, each with its unit.")
    read = {name: of_kind(name, text, *_kinds(name)) for name, text in given.items()}
    _refuse_two_kinds(read)
    missing = next(name for name in ("c1", "v1", "c2", "v2") if name not in read)
    read[missing] = _solved(read, missing)
    if read["c2"].value > read["c1"].value or read["v1"].value > read["v2"].value:
        raise ToolRefused(
            "out-of-range",
            f"c1 is {read['c1']}, c2 {read['c2']}, v1 {read['v1']}, v2 {read['v2']}: diluting lowers a concentration"
            " and raises a volume. c1 and v1 are the stock's.",
        )
    diluent = volume_of(read["v2"].value - read["v1"].value)
    factor = significant(read["c1"].value / read["c2"].value)
    result = {
        **{name: read[name].written for name in ("c1", "v1", "c2", "v2")},
        "diluent": diluent.written,
        "factor": factor,
        "computed": missing,
        "note": "v1 is below 0.5 µL: dilute in two steps" if read["v1"].value < SMALL else None,
    }
    fold = f"{read['c1']} to {read['c2']}, {factor:g}-fold"
    line = f"Dilution ({fold}): **{read['v1']} + {diluent} diluent** = {read['v2']}"
    return Computed(result, line)


def molar_amount(  # noqa: PLR0913 - as the definition has them
    *,
    mass: str | None,
    amount: str | None,
    copies: str | None,
    concentration: str | None,
    volume: str | None,
    sequence: str | None,
    length: str | None,
    molecule: str,
    topology: str,
) -> Computed:
    """A mass, an amount or a number of molecules as each of the others."""
    dalton, formula, inputs = _molar_mass(sequence, length, molecule, circular=topology == "circular")
    given = {"mass": mass, "amount": amount, "copies": copies, "concentration": concentration}
    name, text = _one_of(given)
    read = of_kind(name, text, *MEASURES[name])
    per_litre = name == "concentration"
    moles = _moles(read, dalton)
    result: dict[str, object] = {
        "molecular_weight": significant(dalton, 8),
        "formula": formula,
        "molecule": molecule,
    }
    said = []
    if per_litre:
        result |= {
            "concentration_nm": significant(moles * 10**9, DIGITS),
            "ng_per_ul": significant(moles * dalton * 1_000, DIGITS),
            "copies_per_ul": _whole(moles * AVOGADRO / 10**6),
        }
        said.append(f"{result['concentration_nm']:g} nM, {result['ng_per_ul']:g} ng/µL")
        moles = moles * of_kind("volume", volume, VOLUME).value if volume is not None else Fraction(0)
    elif volume is not None:
        raise ToolRefused("bad-arguments", "volume needs a concentration. Give concentration, or leave volume out.")
    if moles:
        result |= {
            "pmol": significant(moles * 10**12, DIGITS),
            "ng": significant(moles * dalton * 10**9, DIGITS),
            "copies": _whole(moles * AVOGADRO),
        }
        said.append(f"{result['pmol']:g} pmol, {result['ng']:g} ng, {result['copies']:.4g} copies")
    line = f"{read} of {molecule} ({float(dalton):,.0f} g/mol): **{'; '.join(said)}** ({formula})"
    return Computed(result, line, inputs)


def _kinds(name: str) -> tuple[str, ...]:
    return CONCENTRATIONS if name.startswith("c") else (VOLUME,)


def _refuse_two_kinds(read: dict[str, Quantity]) -> None:
    kinds = {read[name].kind for name in ("c1", "c2") if name in read}
    if len(kinds) > 1:
        raise ToolRefused(
            "units-differ",
            f"c1 is a {read['c1'].kind}, and c2 a {read['c2'].kind}. Convert one with molar_amount, or give both in one"
            " kind of unit.",
        )


def _solved(read: dict[str, Quantity], missing: str) -> Quantity:
    """C1 V1 = C2 V2."""
    of, other = missing[0], "2" if missing[1] == "1" else "1"
    across = "v" if of == "c" else "c"
    value = read[f"{of}{other}"].value * read[f"{across}{other}"].value / read[f"{across}{missing[1]}"].value
    if of == "v":
        return volume_of(value)
    return in_unit(read[f"c{other}"].kind, value, read[f"c{other}"].unit)


def _one_of(given: dict[str, str | None]) -> tuple[str, str]:
    present = [(name, text) for name, text in given.items() if text is not None]
    if len(present) != 1:
        raise ToolRefused("bad-arguments", f"Give exactly one of {', '.join(given)}.")
    return present[0]


def _molar_mass(
    sequence: str | None, length: str | None, molecule: str, *, circular: bool
) -> tuple[Fraction, str, tuple[ToolInput, ...]]:
    """The mass of a mole in g, how it came about, and the sequence that it is of."""
    if (sequence is None) == (length is None):
        raise ToolRefused("bad-arguments", "Give either sequence or length.")
    if length is not None:
        if molecule == "protein":
            raise ToolRefused("bad-arguments", "The mass of a protein follows from its sequence alone. Give sequence.")
        each, end, formula = PER_UNIT[molecule]
        letters = of_kind("length", length, LENGTH).value
        if letters.denominator != 1:
            raise ToolRefused("out-of-range", "length must be a whole number of letters.")
        return letters * each + end, formula, ()
    if molecule == "protein":
        chain = protein(sequence or "")
        mass, formula = protein_mass(chain, circular=circular), "exact mass of the sequence"
        return Fraction(mass.dalton), formula, (chain.input(),)
    read = nucleotides(sequence or "")
    other = "T" if molecule == "RNA" else "U"
    if other in read.letters:
        raise ToolRefused("wrong-molecule", f"{other} does not occur in {molecule}. Give another molecule.")
    chains = Chains(molecule[-3:], 2 if molecule == "dsDNA" else 1, None if circular else "OH")
    formula = f"exact mass of the sequence{', circular' if circular else ', OH at each end'}"
    return Fraction(nucleic_acid_mass(read, chains).dalton), formula, (read.input(),)


def _moles(read: Quantity, dalton: Fraction) -> Fraction:
    """mol, or mol/L of a concentration."""
    if read.kind in (MASS, MASS_CONCENTRATION):
        return read.value / dalton
    return read.value / AVOGADRO if read.kind in (COPIES, COPIES_PER_VOLUME) else read.value


def _whole(copies: Fraction) -> float:
    """A number of molecules; a whole one unless it is below 1."""
    rounded = significant(copies, DIGITS)
    return int(rounded) if rounded >= 1 else rounded


QUANTITY = {"type": "string"}

DILUTION = Tool(
    ToolSpec(
        "dilution",
        1,
        "Volumes for a dilution; give three of c1, v1 (stock), c2, v2 (final).",
        "C1 V1 = C2 V2, exact; both concentrations of one kind; diluent is v2 - v1.",
        parameters(
            {
                "c1": QUANTITY | {"description": "Stock, as 10 mM."},
                "v1": QUANTITY,
                "c2": QUANTITY,
                "v2": QUANTITY,
            },
            [],
        ),
    ),
    dilution,
)

MOLAR_AMOUNT = Tool(
    ToolSpec(
        "molar_amount",
        1,
        "Convert mass, pmol, copies or concentration of DNA, RNA or protein. Give one, and sequence or length.",
        "Exact mass of the sequence with OH at its 5' ends; by length 617.96 g/mol per bp + 36.04 (ssDNA 308.97 per nt"
        " + 18.02, RNA 321.47 per nt + 18.02); four significant digits.",
        parameters(
            {
                "mass": QUANTITY | {"description": "As 1 ug."},
                "amount": QUANTITY | {"description": "As 2 pmol."},
                "copies": QUANTITY,
                "concentration": QUANTITY | {"description": "As 20 ng/uL or 5 nM."},
                "volume": QUANTITY,
                "sequence": SEQUENCE,
                "length": QUANTITY | {"description": "As 3 kb."},
                "molecule": {
                    "type": "string",
                    "enum": [*PER_UNIT, "protein"],
                    "default": "dsDNA",
                },
                "topology": TOPOLOGY,
            },
            [],
        ),
        BIOPYTHON,
        sequences=("sequence",),
    ),
    molar_amount,
)
