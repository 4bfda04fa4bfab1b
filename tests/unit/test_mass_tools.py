"""Masses and properties of molecules: from their atoms, by hand, and as ExPASy has them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.tools import call, computed, refused

AVERAGE = {"C": 12.0107, "H": 1.00794, "N": 14.0067, "O": 15.9994, "P": 30.973762, "S": 32.065, "Se": 78.96}
MONOISOTOPIC = {
    "C": 12.0, "H": 1.00782503207, "N": 14.0030740048, "O": 15.99491461956, "P": 30.97376163, "S": 31.97207100,
    "Se": 79.9165213,
}  # fmt: skip

Atoms = dict[str, int]

PROTEIN: dict[str, Atoms] = {
    # The atoms of a residue: the amino acid without water.
    "A": {"C": 3, "H": 5, "N": 1, "O": 1}, "R": {"C": 6, "H": 12, "N": 4, "O": 1},
    "N": {"C": 4, "H": 6, "N": 2, "O": 2}, "D": {"C": 4, "H": 5, "N": 1, "O": 3},
    "C": {"C": 3, "H": 5, "N": 1, "O": 1, "S": 1}, "E": {"C": 5, "H": 7, "N": 1, "O": 3},
    "Q": {"C": 5, "H": 8, "N": 2, "O": 2}, "G": {"C": 2, "H": 3, "N": 1, "O": 1},
    "H": {"C": 6, "H": 7, "N": 3, "O": 1}, "I": {"C": 6, "H": 11, "N": 1, "O": 1},
    "L": {"C": 6, "H": 11, "N": 1, "O": 1}, "K": {"C": 6, "H": 12, "N": 2, "O": 1},
    "M": {"C": 5, "H": 9, "N": 1, "O": 1, "S": 1}, "F": {"C": 9, "H": 9, "N": 1, "O": 1},
    "P": {"C": 5, "H": 7, "N": 1, "O": 1}, "S": {"C": 3, "H": 5, "N": 1, "O": 2},
    "T": {"C": 4, "H": 7, "N": 1, "O": 2}, "W": {"C": 11, "H": 10, "N": 2, "O": 1},
    "Y": {"C": 9, "H": 9, "N": 1, "O": 2}, "V": {"C": 5, "H": 9, "N": 1, "O": 1},
    "U": {"C": 3, "H": 5, "N": 1, "O": 1, "Se": 1}, "O": {"C": 12, "H": 19, "N": 3, "O": 2},
}  # fmt: skip
DNA: dict[str, Atoms] = {
    # The atoms of a nucleotide in a chain: the monophosphate without water.
    "A": {"C": 10, "H": 12, "N": 5, "O": 5, "P": 1}, "C": {"C": 9, "H": 12, "N": 3, "O": 6, "P": 1},
    "G": {"C": 10, "H": 12, "N": 5, "O": 6, "P": 1}, "T": {"C": 10, "H": 13, "N": 2, "O": 7, "P": 1},
}  # fmt: skip
RNA: dict[str, Atoms] = {
    "A": {"C": 10, "H": 12, "N": 5, "O": 6, "P": 1}, "C": {"C": 9, "H": 12, "N": 3, "O": 7, "P": 1},
    "G": {"C": 10, "H": 12, "N": 5, "O": 7, "P": 1}, "U": {"C": 9, "H": 11, "N": 2, "O": 8, "P": 1},
}  # fmt: skip
WATER: Atoms = {"H": 2, "O": 1}
HPO3: Atoms = {"H": 1, "P": 1, "O": 3}


def weigh(parts: list[tuple[int, Atoms]], isotopes: str) -> float:
    weights = AVERAGE if isotopes == "average" else MONOISOTOPIC
    return sum(times * weights[atom] * number for times, atoms in parts for atom, number in atoms.items())


@pytest.mark.parametrize("isotopes", ["average", "monoisotopic"])
@pytest.mark.parametrize(("molecule", "atoms"), [("protein", PROTEIN), ("DNA", DNA), ("RNA", RNA)])
def test_the_mass_is_that_of_the_atoms(molecule: str, atoms: dict[str, Atoms], isotopes: str) -> None:
    for letter in atoms:
        sequence = letter * 3 + "".join(sorted(atoms)[:4])
        chain = [(1, atoms[each]) for each in sequence] + [(1, WATER)]
        ends = [] if molecule == "protein" else [(-1, HPO3)]
        result = computed("molecular_weight", sequence=sequence, molecule=molecule, isotopes=isotopes)
        assert result["molecular_weight"] == pytest.approx(weigh(chain + ends, isotopes), abs=0.011)
        circle = computed(
            "molecular_weight", sequence=sequence, molecule=molecule, isotopes=isotopes, topology="circular"
        )
        assert circle["molecular_weight"] == pytest.approx(weigh(chain[:-1], isotopes), abs=0.011)


def test_the_end_of_an_oligo_is_oh_unless_said_otherwise() -> None:
    oligo = "CGTTCCAAAGATGTGGGCATGAGCTTAC"  # from its atoms 8628.57, with a phosphate 8708.55
    result = computed("molecular_weight", sequence=oligo)
    assert (result["molecular_weight"], result["with_5_prime_phosphate"]) == (8628.57, 8708.55)
    assert computed("molecular_weight", sequence=oligo, five_prime="phosphate")["molecular_weight"] == 8708.55
    triphosphate = computed("molecular_weight", sequence=oligo, five_prime="triphosphate")["molecular_weight"]
    assert triphosphate == pytest.approx(8708.55 + 2 * 79.98, abs=0.02)


@given(st.text("ACGT", min_size=1, max_size=20), st.sampled_from(["linear", "circular"]))
@settings(max_examples=25, deadline=None)
def test_a_duplex_weighs_what_its_strands_weigh_and_the_terms_what_the_whole_weighs(
    letters: str, topology: str
) -> None:
    other = computed("reverse_complement", sequence=letters)["sequence"]
    asked = {"molecule": "DNA", "topology": topology}
    duplex = computed("molecular_weight", sequence=letters, strands=2, **asked)
    alone = [computed("molecular_weight", sequence=each, **asked)["molecular_weight"] for each in (letters, other)]
    assert duplex["molecular_weight"] == pytest.approx(sum(alone), abs=0.12)
    terms = sum(each["count"] * each["mass"] for each in duplex["terms"].values())
    assert duplex["molecular_weight"] == pytest.approx(terms, abs=0.051)


@pytest.mark.parametrize(
    ("arguments", "error", "detail"),
    [
        ({"sequence": "ACGN"}, "ambiguous-sequence", "N at position 4"),
        ({"sequence": "MEEPQ"}, "not-a-nucleotide-sequence", "give molecule=protein"),
        ({"sequence": "MKVSTAGRNDH"}, "ambiguous-sequence", "give molecule=protein"),
        ({"sequence": "ACGU", "molecule": "DNA"}, "wrong-molecule", "U at position 4"),
        ({"sequence": "ACGT", "molecule": "RNA"}, "wrong-molecule", "T at position 4"),
        ({"sequence": "MEXP", "molecule": "protein"}, "ambiguous-residues", "X at position 3"),
        ({"sequence": "MEEP", "molecule": "protein", "strands": 2}, "out-of-range", "one strand"),
        ({"sequence": "ME*P", "molecule": "protein"}, "not-a-protein-sequence", "'*' at position 3 is a stop"),
        ({"sequence": "*", "molecule": "protein"}, "empty-sequence", "no residue"),
        ({"sequence": "M-P", "molecule": "protein"}, "gaps", "position 2"),
    ],
)
def test_what_has_no_mass_is_refused(arguments: dict[str, object], error: str, detail: str) -> None:
    said = refused("molecular_weight", **arguments)
    assert (said[0], detail.replace("'", "") in said[1].replace("'", "")) == (error, True), said


LYSOZYME = (
    "KVFGRCELAAAMKRHGLDNYRGYSLGNWVCAAKFESNFNTQATNRNTDGSTDYGILQINSRWWCNDGRTPGSRNLCNIPCSALLSSDITASVNCAKKIVSDGNGMNAWVAWRNR"
    "CKGTDVQAWIRGCRL"
)


def test_lysozyme_has_the_properties_that_expasy_gives() -> None:
    result = computed("protein_properties", sequence=f">P00698\n{LYSOZYME}*")
    assert result | {"counts": {}} == {
        "length": 129, "molecular_weight": 14313.0, "isoelectric_point": 9.32, "pk_set": "Bjellqvist",
        "extinction_reduced": 37470, "extinction_cystines": 37970, "abs_0_1_percent": 2.618,
        "abs_0_1_percent_cystines": 2.653, "gravy": -0.472, "aromaticity": 0.093, "instability": 16.09, "counts": {},
        "note": None,
    }  # fmt: skip
    assert result["counts"] == {residue: LYSOZYME.count(residue) for residue in "ACDEFGHIKLMNPQRSTVWY"}
    assert call("protein_properties", sequence=LYSOZYME).line == (
        "Properties of the sequence (129 aa): **14,313.0 Da, pI 9.32** (Bjellqvist),"
        " ε280 37,470 M⁻¹cm⁻¹ reduced, 37,970 with cystines"
    )


HYDROPATHY = {
    # Kyte & Doolittle 1982.
    "A": 1.8, "R": -4.5, "N": -3.5, "D": -3.5, "C": 2.5, "Q": -3.5, "E": -3.5, "G": -0.4, "H": -3.2, "I": 4.5,
    "L": 3.8, "K": -3.9, "M": 1.9, "F": 2.8, "P": -1.6, "S": -0.8, "T": -0.7, "W": -0.9, "Y": -1.3, "V": 4.2,
}  # fmt: skip


@given(st.text(sorted(HYDROPATHY), min_size=1, max_size=60))
@settings(max_examples=25, deadline=None)
def test_hydropathy_aromaticity_and_extinction_follow_from_the_residues(letters: str) -> None:
    result = computed("protein_properties", sequence=letters)
    assert result["gravy"] == pytest.approx(sum(HYDROPATHY[each] for each in letters) / len(letters), abs=0.00051)
    assert result["aromaticity"] == pytest.approx(
        sum(letters.count(each) for each in "FWY") / len(letters), abs=0.00051
    )
    reduced = 1490 * letters.count("Y") + 5500 * letters.count("W")
    assert (result["extinction_reduced"], result["extinction_cystines"]) == (
        reduced,
        reduced + 125 * (letters.count("C") // 2),
    )
    weight = computed("molecular_weight", sequence=letters, molecule="protein")["molecular_weight"]
    assert result["molecular_weight"] == weight


def test_the_isoelectric_point_is_where_bjellqvists_groups_have_no_charge() -> None:
    # Bjellqvist 1993, with alanine at the N-terminus.
    basic, acid = {"K": 10.0, "R": 12.0, "H": 5.98}, {"D": 4.05, "E": 4.45, "C": 9.0, "Y": 10.0}

    def charge(letters: str, ph: float) -> float:
        positive = [7.59, *(basic[each] for each in letters if each in basic)]
        negative = [3.55, *(acid[each] for each in letters if each in acid)]
        return sum(1 / (1 + 10 ** (ph - pk)) for pk in positive) - sum(1 / (1 + 10 ** (pk - ph)) for pk in negative)

    for letters in ("AKRHDECYL", "AKKKKL", "ADDDEL", "AHHCL", "ARRRRRRRRRRL"):
        point = computed("protein_properties", sequence=letters)["isoelectric_point"]
        assert charge(letters, point - 0.006) > 0 > charge(letters, point + 0.006), letters


@pytest.mark.parametrize(
    ("sequence", "error", "detail"),
    [
        ("MKXL", "ambiguous-residues", "X at position 3 stands for several residues"),
        ("MKBL", "ambiguous-residues", "B at position 3"),
        ("MUL", "ambiguous-residues", "U at position 2 has no value"),
        ("MK1L?", "not-a-protein-sequence", "? at position 4 is no residue"),
        ("", "empty-sequence", "no letter"),
        (">a\nMK\n>b\nMK", "several-sequences", "more than one"),
        ("seq_4", "unknown-handle", "seq_4"),
    ],
)
def test_what_has_no_properties_is_refused(sequence: str, error: str, detail: str) -> None:
    said = refused("protein_properties", sequence=sequence)
    assert (said[0], detail in said[1]) == (error, True), said


def test_a_protein_of_bases_alone_is_noted() -> None:
    assert computed("protein_properties", sequence="ACGTACGT")["note"] == "all letters are bases: is it DNA?"
