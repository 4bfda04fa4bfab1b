"""Dilutions and molar amounts, and quantities in every unit that people write: by hand."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.tools import call, computed, refused


def volumes(**arguments: object) -> list[tuple[float, str]]:
    result: dict[str, Any] = computed("dilution", **arguments)
    return [(result[name]["value"], result[name]["unit"]) for name in ("v1", "diluent")]


@pytest.mark.parametrize(
    "stock",
    [
        "100 uM", "100 µM", "100 μM", "100uM", "0.1mM", ".1 mM", "100 um", "100 UM", "1e-4 M", "10^-4 M", "1x10^-4 M",
        "1 \N{MULTIPLICATION SIGN} 10⁻⁴ mol/L",
        "100 umol/L", "100 pmol/µL", "100 pmoles/ul", "100 pmol µL⁻¹", "100 nmol per mL",
        "1e-4 mol dm-3", "1e-4 mol/dm³", "100 nmol cm⁻³", "100 nmol/cc",
        "100,000 nM", "100 micromolar", {"value": 100, "unit": "uM"}, {"value": "0.1", "unit": "mM"},
    ],
)  # fmt: skip
def test_a_molar_concentration_is_read_however_it_is_written(stock: object) -> None:
    assert volumes(c1=stock, c2="10 uM", v2="50 uL") == [(5, "µL"), (45, "µL")]


@pytest.mark.parametrize(
    "stock",
    [
        "1 ng/ul", "1 ng/uL", "1 ng/µl", "1 ng/μL", "1ng/ul", "1 NG/UL", "1 ng·µL⁻¹", "1 ng uL^-1", "1 ng per ul",
        "1 ug/ml", "1 µg/mL", "1 mcg/mL", "1 mg/L", "1,000 pg/uL", "0.001 g/L", "1 microgram/milliliter",
    ],
)  # fmt: skip
def test_a_mass_concentration_is_read_however_it_is_written(stock: str) -> None:
    assert volumes(c1=stock, c2="0.1 ng/uL", v2="1 ml") == [(100, "µL"), (900, "µL")]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("1,5 uM", "not-a-quantity"), ("-5 uM", "not-a-quantity"), ("uM", "not-a-quantity"), ("", "not-a-quantity"),
        ("5" * 70, "not-a-quantity"), ("0 uM", "out-of-range"), ("5 parsec", "unknown-unit"),
        ("5 uM/L", "unknown-unit"),
        ("5 uL/ng", "unknown-unit"), ("5 uL", "units-differ"), ("5", "units-differ"), ("5 ng", "units-differ"),
        ("5 ng/uL", "units-differ"),
    ],
)  # fmt: skip
def test_what_is_no_concentration_of_that_kind_is_refused(text: str, error: str) -> None:
    assert refused("dilution", c1=text, c2="1 uM", v2="50 uL")[0] == error


def test_volumes_may_be_cubes_of_a_length() -> None:
    assert [volumes(c1="10 mM", c2="1 mM", v2=each)[0] for each in ("1 dm3", "1 cm³", "1 cc", "10 mm^3")] == [
        (100, "mL"), (100, "µL"), (100, "µL"), (1, "µL"),
    ]  # fmt: skip


def test_lengths_are_those_of_nucleic_acids_up_to_genomes() -> None:
    assert computed("molar_amount", mass="6.577 pg", length="6.4 Gbp")["copies"] == pytest.approx(1, abs=0.01)
    assert refused("molar_amount", mass="1 ng", length="100 aa")[0] == "unknown-unit"


def test_any_one_of_the_four_is_computed() -> None:
    # By hand: 10 mM x 5 µL = 1 mM x 50 µL.
    whole = {"c1": "10 mM", "v1": "5 uL", "c2": "1 mM", "v2": "50 uL"}
    expected = {"c1": (10, "mM"), "v1": (5, "µL"), "c2": (1, "mM"), "v2": (50, "µL")}
    for missing, (value, _) in expected.items():
        result = computed("dilution", **{name: text for name, text in whole.items() if name != missing})
        assert result["computed"] == missing
        assert result["factor"] == 10
        assert result["diluent"] == {"value": 45, "unit": "µL"}
        assert result[missing]["value"] == value
    assert call("dilution", c1="10 mM", c2="1 mM", v2="50 uL").line == (
        "Dilution (10 mM to 1 mM, 10-fold): **5 µL + 45 µL diluent** = 50 uL"
    )


def test_units_may_differ_in_size_and_folds_and_percentages_are_concentrations() -> None:
    assert volumes(c1="10 mM", c2="10 uM", v2="1 mL") == [(1, "µL"), (999, "µL")]
    assert volumes(c1="10x", c2="1X", v2="1 L") == [(100, "mL"), (900, "mL")]
    assert volumes(c1="70 %", c2="10%", v2="70 mL") == [(10, "mL"), (60, "mL")]
    assert volumes(c1="5 U/uL", c2="0.1 U/µL", v2="50 µL") == [(1, "µL"), (49, "µL")]
    note = computed("dilution", c1="1 M", c2="1 uM", v2="1 mL")["note"]
    assert note == "v1 is below 0.5 µL: dilute in two steps"


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 10**6))
@settings(max_examples=25, deadline=None)
def test_the_product_of_concentration_and_volume_stays(stock: int, final: int, volume: int) -> None:
    if final > stock:
        assert refused("dilution", c1=f"{stock} nM", c2=f"{final} nM", v2=f"{volume} nL")[0] == "out-of-range"
        return
    result: dict[str, Any] = computed("dilution", c1=f"{stock} nM", c2=f"{final} nM", v2=f"{volume} nL")
    in_nl = {"µL": 1e3, "mL": 1e6, "L": 1e9}
    first, diluent = (result[name]["value"] * in_nl[result[name]["unit"]] for name in ("v1", "diluent"))
    assert first * stock == pytest.approx(final * volume, rel=1e-5)
    assert first + diluent == pytest.approx(volume, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "detail"),
    [
        ({"c1": "1 M"}, "bad-arguments", "three of"),
        ({"c1": "1 M", "c2": "1 mM", "v1": "1 mL", "v2": "1 L"}, "bad-arguments", "three of"),
        ({"c1": "1 mM", "c2": "1 M", "v2": "1 mL"}, "out-of-range", "the stock's"),
        ({"c1": "1 M", "c2": "1 M", "v1": "2 mL", "v2": "1 mL"}, "bad-arguments", "three of"),
        ({"c1": "1 M", "c2": "5 ng/uL", "v2": "1 mL"}, "units-differ", "molar_amount"),
        ({"c1": "1 M", "c2": "1 mM", "v2": "1 g"}, "units-differ", "must be a volume"),
    ],
)
def test_a_dilution_that_is_none_is_refused(arguments: dict[str, object], error: str, detail: str) -> None:
    said = refused("dilution", **arguments)
    assert (said[0], detail in said[1]) == (error, True), said


# --- molar_amount


def test_a_mass_of_a_known_length_is_an_amount_and_a_number() -> None:
    # By hand: 10^6 pg / (1000 x 617.96 + 36.04) = 1.6181 pmol, times 6.02214076e11.
    for mass in ("1 ug", "1 µg", "1000 ng", {"value": 1, "unit": "ug"}, {"value": 1000, "unit": "ng"}):
        result = computed("molar_amount", mass=mass, length=1000, molecule="dsDNA")
        assert result == {
            "molecular_weight": 617996.04, "formula": "617.96 g/mol per bp + 36.04", "molecule": "dsDNA",
            "pmol": 1.618, "ng": 1000.0, "copies": 974500000000,
        }  # fmt: skip
    assert call("molar_amount", mass="1 ug", length="1 kb").line == (
        "1 ug of dsDNA (617,996 g/mol): **1.618 pmol, 1000 ng, 9.745e+11 copies** (617.96 g/mol per bp + 36.04)"
    )


@pytest.mark.parametrize(
    ("molecule", "per_unit", "end"), [("dsDNA", 617.96, 36.04), ("ssDNA", 308.97, 18.02), ("RNA", 321.47, 18.02)]
)
def test_amount_mass_and_copies_are_each_others_inverse(molecule: str, per_unit: float, end: float) -> None:
    for length in (20, "3 kb", "5,000 bp", {"value": 1500, "unit": "bp"}):
        of = {"length": length, "molecule": molecule}
        first = computed("molar_amount", amount="2 pmol", **of)
        bases = {20: 20, "3 kb": 3_000, "5,000 bp": 5_000}.get(str(length) if length != 20 else 20, 1_500)
        assert first["ng"] == pytest.approx(2e-3 * (bases * per_unit + end), rel=1e-3)
        assert computed("molar_amount", mass=f"{first['ng']} ng", **of)["pmol"] == pytest.approx(2, rel=1e-3)
        assert computed("molar_amount", copies=first["copies"], **of)["pmol"] == pytest.approx(2, rel=1e-3)


def test_a_sequence_has_its_exact_mass() -> None:
    letters = "CGTTCCAAAGATGTGGGCATGAGCTTAC"
    for molecule, strands, topology in (("ssDNA", 1, "linear"), ("dsDNA", 2, "linear"), ("dsDNA", 2, "circular")):
        weight = computed("molecular_weight", sequence=letters, strands=strands, topology=topology)["molecular_weight"]
        result = computed("molar_amount", mass="1 ug", sequence=letters, molecule=molecule, topology=topology)
        assert result["molecular_weight"] == pytest.approx(weight, abs=0.05)
        assert result["pmol"] == pytest.approx(1e6 / weight, rel=1e-3)
    protein = computed("molar_amount", mass="1 mg", sequence="MEEPQSDPSV*", molecule="protein")
    weight = computed("molecular_weight", sequence="MEEPQSDPSV", molecule="protein")["molecular_weight"]
    assert protein["pmol"] == pytest.approx(1e9 / weight, rel=1e-3)
    assert computed("molar_amount", mass="1 ug", sequence="ACG", molecule="RNA")["formula"].startswith("exact mass")


def test_a_concentration_is_molar_by_mass_and_by_number_and_with_a_volume_an_amount() -> None:
    # By hand: 20 ng/µL / 1,853,916.04 g/mol = 10.788 nM; in 2 µL there are 0.021576 pmol.
    for concentration in ("20 ng/uL", "20 µg/mL"):
        result = computed("molar_amount", concentration=concentration, length=3000, volume="2 uL")
        assert (result["concentration_nm"], result["ng_per_ul"]) == (10.79, 20)
        assert (result["pmol"], result["ng"]) == (0.02158, 40)
        assert result["copies"] == pytest.approx(2 * result["copies_per_ul"], rel=1e-3)
    molar = computed("molar_amount", concentration="10 nM", length=3000)
    assert (molar["ng_per_ul"], "pmol" in molar) == (18.54, False)
    assert computed("molar_amount", concentration="6022 copies/uL", length=3000)["concentration_nm"] == 1e-5


@pytest.mark.parametrize(
    ("arguments", "error", "detail"),
    [
        ({"length": 10}, "bad-arguments", "exactly one of mass, amount, copies, concentration"),
        ({"length": 10, "mass": "1 g", "copies": "5"}, "bad-arguments", "exactly one"),
        ({"mass": "1 g"}, "bad-arguments", "either sequence or length"),
        ({"mass": "1 g", "length": 5, "sequence": "ACG"}, "bad-arguments", "either sequence or length"),
        ({"mass": "1 g", "length": 5, "molecule": "protein"}, "bad-arguments", "sequence alone"),
        ({"mass": "1 g", "length": "1.5 bp"}, "out-of-range", "whole number"),
        ({"mass": "1 g", "length": 5, "volume": "1 uL"}, "bad-arguments", "needs a concentration"),
        ({"mass": "1 pmol", "length": 5}, "units-differ", "must be a mass"),
        ({"mass": "1", "length": 5}, "units-differ", "must be a mass"),
        ({"mass": "1 g", "sequence": "ACGU"}, "wrong-molecule", "U does not occur in dsDNA"),
        ({"mass": "1 g", "sequence": "ACGN"}, "ambiguous-sequence", "N at position 4"),
        ({"mass": "1 g", "sequence": "MEX", "molecule": "protein"}, "ambiguous-residues", "X at position 3"),
    ],
)
def test_what_has_no_amount_is_refused(arguments: dict[str, object], error: str, detail: str) -> None:
    said = refused("molar_amount", **arguments)
    assert (said[0], detail in said[1]) == (error, True), said
