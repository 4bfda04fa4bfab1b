"""GC content, reverse complement, translation and melting temperature, each against a second way or by hand."""

import math
import random

import pytest
from Bio.Data.CodonTable import unambiguous_dna_by_id
from hypothesis import given
from hypothesis import strategies as st

from baio_domain.sequences import BASES
from tests.unit.tools import TOOLS, call, computed, refused

# --- all of them


@pytest.mark.parametrize("name", ["gc_content", "reverse_complement", "translate", "melting_temperature"])
def test_case_spaces_numbers_and_a_header_change_nothing(name: str) -> None:
    letters = "ATGGCCATTGTAATGGGC"
    pasted = ">x y\n  1 atggccattg\n 11 taatgggc\n"
    assert computed(name, sequence=pasted) == computed(name, sequence=letters)


@pytest.mark.parametrize("name", ["gc_content", "reverse_complement", "translate", "melting_temperature"])
@pytest.mark.parametrize(
    ("sequence", "error"),
    [
        ("", "empty-sequence"),
        (">a\nAC\n>b\nAC", "several-sequences"),
        ("seq_3", "unknown-handle"),
        ("MEEPQSDPSV", "not-a-nucleotide-sequence"),
        ("MKVSTAGRNDH", "ambiguous-sequence"),
        ("ACGTU", "mixed-dna-rna"),
        ("AC.GT", "gaps"),
    ],
)
def test_what_is_no_sequence_is_refused(name: str, sequence: str, error: str) -> None:
    assert refused(name, sequence=sequence)[0] == error


def test_inputs_arguments_and_library_say_how_a_value_came_about() -> None:
    outcome = call("gc_content", sequence=">pUC19\nacgt")
    assert outcome.arguments == {"sequence": ">pUC19\nacgt", "ambiguous": "remove", "window": None, "step": None}
    assert [(each.argument, each.name, each.length) for each in outcome.inputs] == [("sequence", "pUC19", 4)]
    assert outcome.library.startswith("Biopython 1.8")
    assert outcome.line == "GC content of pUC19 (4 nt): **50.00 %** (2 of 4)"


# --- gc_content


def test_gc_content_counts_what_the_definition_counts() -> None:
    assert computed("gc_content", sequence="acgtacgtGGCCaatt") == {
        "gc_percent": 50.0, "gc": 8, "counted": 16, "length": 16, "ambiguous": 0, "g": 4, "c": 4, "gc_skew": 0.0,
        "windows": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ambiguous", "percent", "gc", "counted"),
    [("remove", 66.67, 4, 6), ("ignore", 36.36, 4, 11), ("weighted", 59.09, 6.5, 11)],
)
def test_ambiguous_letters_are_left_out_or_counted_or_weighed(
    ambiguous: str, percent: float, gc: float, counted: int
) -> None:
    # By hand: G G C and S count; A and T don't; N five times is half a base each.
    result = computed("gc_content", sequence="GGCNNNNNATS", ambiguous=ambiguous)
    assert (result["gc_percent"], result["gc"], result["counted"]) == (percent, gc, counted)
    assert (result["ambiguous"], result["length"], result["gc_skew"]) == (6, 11, 0.3333)


def test_without_a_letter_that_counts_there_is_no_percentage() -> None:
    result = computed("gc_content", sequence="NNNN")
    assert (result["gc_percent"], result["gc"], result["counted"], result["gc_skew"]) == (None, 0, 0, None)
    assert computed("gc_content", sequence="NNNN", ambiguous="weighted")["gc_percent"] == 50
    assert "not defined" in call("gc_content", sequence="NNNN").line


def test_windows_begin_every_step_and_the_last_ends_with_the_sequence() -> None:
    windows = computed("gc_content", sequence="GGGGAAAACC", window=4, step=2)["windows"]
    assert windows == [
        {"start": 1, "end": 4, "gc_percent": 100.0, "gc": 4, "counted": 4},
        {"start": 3, "end": 6, "gc_percent": 50.0, "gc": 2, "counted": 4},
        {"start": 5, "end": 8, "gc_percent": 0.0, "gc": 0, "counted": 4},
        {"start": 7, "end": 10, "gc_percent": 50.0, "gc": 2, "counted": 4},
    ]
    spans = [(each["start"], each["end"]) for each in computed("gc_content", sequence="A" * 10, window=4)["windows"]]
    assert spans == [(1, 4), (5, 8), (9, 10)]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_windows_cover_every_letter_if_no_step_is_longer_than_a_window(length: int, window: int, step: int) -> None:
    window = min(window, length)
    spans = [
        (each["start"], each["end"])
        for each in computed("gc_content", sequence="A" * length, window=window, step=step)["windows"]
    ]
    assert spans[0] == (1, window)
    assert all(0 <= end - start < window for start, end in spans)
    if step <= window:
        assert {position for start, end in spans for position in range(start, end + 1)} == set(range(1, length + 1))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"window": 5}, "out-of-range"),
        ({"window": 0}, "out-of-range"),
        ({"step": 1}, "bad-arguments"),
        ({"ambiguous": "skip"}, "out-of-range"),
    ],
)
def test_windows_that_do_not_fit_are_refused(arguments: dict[str, object], error: str) -> None:
    assert refused("gc_content", sequence="ACGT", **arguments)[0] == error


def test_more_windows_than_anybody_reads_are_refused() -> None:
    error, detail = refused("gc_content", sequence="A" * 3_000, window=10, step=1)
    assert (error, "2,991 windows" in detail) == ("out-of-range", True)


# --- reverse_complement


def test_rna_stays_rna() -> None:
    assert computed("reverse_complement", sequence="AUGGCCUAA") == {
        "sequence": "UUAGGCCAU", "length": 9, "molecule": "RNA",
    }  # fmt: skip


def test_ambiguity_codes_have_their_complements() -> None:
    result = computed("reverse_complement", sequence="A" * 30 + "RYSWKMBDHVN")
    assert result["sequence"] == "NBDHVKMWSRY" + "T" * 30


def test_a_headline_shows_the_ends_of_a_long_sequence() -> None:
    assert call("reverse_complement", sequence="ACGT").line == (
        "Reverse complement of the sequence (4 nt, DNA): **`ACGT`**"
    )
    assert len(call("reverse_complement", sequence="A" * 5_000).line) < 120


# --- translate


def test_a_frame_spells_its_protein() -> None:
    assert computed("translate", sequence="ATGGCCATTGTAATGGGCCGCTGAAAGGGTGCCCGATAG") == {
        "protein": "MAIVMGR*KGAR*", "length": 13, "stops": 2, "trailing_bases": 0, "genetic_code": 1, "frame": 1,
        "start_codon": "ATG",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("frame", "protein", "trailing"),
    # By hand, from ATGGCCATTG and from CAATGGCCAT, its other strand.
    [(1, "MAI", 1), (2, "WPL", 0), (3, "GH", 2), (-1, "QWP", 1), (-2, "NGH", 0), (-3, "MA", 2)],
)
def test_a_negative_frame_begins_at_the_last_base(frame: int, protein: str, trailing: int) -> None:
    result = computed("translate", sequence="ATGGCCATTG", frame=frame)
    assert (result["protein"], result["trailing_bases"]) == (protein, trailing)


def test_every_codon_of_every_genetic_code_is_as_ncbi_has_it() -> None:
    triplets = [a + b + c for a in "TCAG" for b in "TCAG" for c in "TCAG"]
    for number, table in unambiguous_dna_by_id.items():
        protein = computed("translate", sequence="".join(triplets), genetic_code=number)["protein"]
        for codon, residue in zip(triplets, protein, strict=True):
            assert residue == table.forward_table.get(codon, "*")


def test_the_vertebrate_mitochondrial_code_reads_tga_as_tryptophan() -> None:
    result = computed("translate", sequence="ATGATAAGATGA", genetic_code=2)
    assert (result["protein"], result["stops"]) == ("MM*W", 1)


@pytest.mark.parametrize(
    ("codon", "residue"),
    [
        ("GCN", "A"), ("TAR", "*"), ("RAY", "B"), ("SAR", "Z"), ("MTT", "J"), ("NNN", "X"), ("TRA", "*"), ("YTA", "L"),
        ("ATH", "I"), ("TGN", "X"), ("---", "-"),
    ],
)  # fmt: skip
def test_an_ambiguous_codon_is_the_residue_that_all_its_codons_have(codon: str, residue: str) -> None:
    assert computed("translate", sequence="A" * 12 + codon)["protein"] == "KKKK" + residue


def test_a_codon_that_is_partly_gap_is_refused_with_its_positions() -> None:
    expected = ("gap-in-codon", "Codon 2 (positions 4-6) is '-CC'.")
    assert refused("translate", sequence="ATG-CCGCC") == expected
    assert refused("translate", sequence="GGCGG-CAT", frame=-1) == expected


def test_to_stop_ends_before_the_first_stop_codon() -> None:
    result = computed("translate", sequence="ATGGCCTGAATGTAA", to_stop=True)
    assert (result["protein"], result["stops"], result["length"]) == ("MA", 1, 2)
    unstopped = computed("translate", sequence="ATGGCC", to_stop=True)
    assert (unstopped["protein"], unstopped["stops"]) == ("MA", 0)


def test_a_coding_sequence_begins_with_methionine_and_loses_its_stop() -> None:
    result = computed("translate", sequence="TTGGCCTGA", cds=True)
    assert result == {
        "protein": "MA", "length": 2, "stops": 1, "trailing_bases": 0, "genetic_code": 1, "frame": 1,
        "start_codon": "TTG",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sequence", "detail"),
    [
        ("GCCGCCTGA", "Codon 1 (positions 1-3), GCC, is no start codon of genetic code 1 (ATG, CTG, TTG)."),
        ("ATGTAAGCCTGA", "Codon 2 (positions 4-6), TAA, is a stop codon before the end."),
        ("ATGGCCGCC", "Codon 3 (positions 7-9), GCC, is no stop codon of genetic code 1 (TAA, TAG, TGA)."),
        ("ATGGCCTGAA", "1 base is left after codon 3, which ends at position 9."),
        ("ATGGCCTGAAC", "2 bases are left after codon 3"),
        ("ATG", "One codon is no coding sequence."),
        ("AUGUAAGCCUGA", "Codon 2 (positions 4-6), UAA, is a stop codon before the end."),
    ],
)
def test_what_is_no_coding_sequence_is_refused_with_the_codon(sequence: str, detail: str) -> None:
    error, said = refused("translate", sequence=sequence, cds=True)
    assert (error, detail in said) == ("not-a-cds", True), said


def test_a_gap_is_nothing_in_a_coding_sequence() -> None:
    assert refused("translate", sequence="ATG---TGA", cds=True)[0] == "gaps"


@pytest.mark.parametrize(
    ("arguments", "detail"),
    [
        ({"genetic_code": 99}, "no genetic code 99. NCBI's are 1, 2, 3"),
        ({"frame": 0}, "1, 2, 3, -1, -2 or -3"),
        ({"frame": 4}, "-3 to 3"),
    ],
)
def test_a_code_or_frame_that_does_not_exist_is_refused(arguments: dict[str, object], detail: str) -> None:
    error, said = refused("translate", sequence="ATG", **arguments)
    assert (error, detail in said) == ("out-of-range", True)


def test_less_than_a_codon_spells_nothing() -> None:
    result = computed("translate", sequence="A", frame=3)
    assert (result["protein"], result["trailing_bases"], result["start_codon"]) == ("", 0, None)


@given(st.text(st.sampled_from("ACGTN"), min_size=3, max_size=40), st.sampled_from([1, 2, 3]))
def test_a_negative_frame_is_the_frame_of_the_reverse_complement(sequence: str, frame: int) -> None:
    other = computed("reverse_complement", sequence=sequence)["sequence"]
    forward = computed("translate", sequence=other, frame=frame)
    backward = computed("translate", sequence=sequence, frame=-frame)
    assert forward | {"frame": -frame} == backward


# --- melting_temperature

PRIMER3 = [
    # sequence, oligo nM, Na mM, Mg mM, dNTP mM, and what primer3-py 2.4.0 says
    ("AACCAACGCGCGTTGGTT", 500, 50, 2, 0.8, 66.66),
    ("GCGTCTTTATGTGTTATACCCAGTC", 50, 50, 1.5, 0.6, 59.77),
    ("TAATGTCC", 250, 100, 0, 0, 7.73),
    ("CGGCGTTG", 25, 20, 3, 3.5, 16.98),
    ("GTCATTTA", 250, 100, 0, 0, 3.82),
    ("GAATATTC", 25, 20, 3, 3.5, -8.8),
    ("AATATCTGAAAGTTGAGTGATTAGTACGCTGGCGTGAGCGACATGCGAGGTTATAACTCC", 250, 100, 0, 0, 74.58),
    ("TCATCGTTAGGCGGCATCAAGCATC", 500, 50, 2, 0.8, 68.83),
    ("CAGTCTCGCCTTTTCTATGTCATGT", 500, 50, 2, 0.8, 64.31),
    ("AT", 25, 20, 3, 3.5, -220.96),
    ("GTAC", 25, 20, 3, 3.5, -61.03),
    ("TTTTACGTTGTACCCTATGG", 25, 20, 3, 3.5, 41.7),
    ("CGTAGCGCGGCTCCTACCTT", 500, 50, 2, 0.8, 68.21),
    ("TTTTCGTGGTGGACTCCACG", 250, 100, 0, 0, 60.35),
    ("CTGTCCTGCCGAAGACAG", 25, 20, 3, 3.5, 46.61),
    ("GGGGTTATCTACGTAGATAACCCC", 500, 50, 2, 0.8, 63.7),
    ("CGTTCCAAAGATGTGGGCATGAGCTTAC", 500, 50, 2, 0.8, 69.22),
    ("CGTTCCAAAGATGTGGGCATGAGCTTAC", 50, 50, 1.5, 0.6, 66.31),
]


@pytest.mark.parametrize(("sequence", "oligo", "na", "mg", "dntp", "celsius"), PRIMER3)
def test_tm_equals_primer3s(sequence: str, oligo: float, na: float, mg: float, dntp: float, celsius: float) -> None:
    result = computed("melting_temperature", sequence=sequence, oligo_nm=oligo, na_mm=na, mg_mm=mg, dntp_mm=dntp)
    assert result["tm_celsius"] == celsius


# SantaLucia 1998, table 2: kcal/mol and cal/(mol K) of a step and its reverse complement.
STEPS = {
    "AA": (-7.9, -22.2), "AT": (-7.2, -20.4), "TA": (-7.2, -21.3), "CA": (-8.5, -22.7), "GT": (-8.4, -22.4),
    "CT": (-7.8, -21.0), "GA": (-8.2, -22.2), "CG": (-10.6, -27.2), "GC": (-9.8, -24.4), "GG": (-8.0, -19.9),
}  # fmt: skip


def santalucia(letters: str, oligo_nm: float, na_mm: float, mg_mm: float, dntp_mm: float) -> float:
    """Tm in °C, written from the paper."""
    other = letters.translate(str.maketrans("ACGT", "TGCA"))[::-1]
    enthalpy = entropy = 0.0
    for index in range(len(letters) - 1):
        step = letters[index : index + 2]
        turned = step.translate(str.maketrans("ACGT", "TGCA"))[::-1]
        enthalpy += STEPS.get(step, STEPS.get(turned, (0, 0)))[0]
        entropy += STEPS.get(step, STEPS.get(turned, (0, 0)))[1]
    for end in letters[0], letters[-1]:
        enthalpy += 2.3 if end in "AT" else 0.1
        entropy += 4.1 if end in "AT" else -2.8
    entropy += -1.4 if other == letters else 0
    salt = na_mm + (120 * math.sqrt(mg_mm - dntp_mm) if mg_mm > dntp_mm else 0)
    entropy += 0.368 * (len(letters) - 1) * math.log(salt / 1000)
    strands = oligo_nm * 1e-9 / (1 if other == letters else 4)
    return 1000 * enthalpy / (entropy + 1.987 * math.log(strands)) - 273.15


def test_tm_is_the_one_of_santalucia_1998() -> None:
    chance = random.Random(15)
    for _ in range(200):
        sequence = "".join(chance.choice("ACGT") for _ in range(chance.randint(2, 60)))
        conditions = {
            "oligo_nm": chance.choice([10, 50, 500]),
            "na_mm": 50,
            "mg_mm": chance.choice([0, 3]),
            "dntp_mm": 1,
        }
        celsius = computed("melting_temperature", sequence=sequence, **conditions)["tm_celsius"]
        assert celsius == pytest.approx(santalucia(sequence, **conditions), abs=0.0051)


def test_symmetry_is_found_without_being_told() -> None:
    assert computed("melting_temperature", sequence="GAATATTC")["self_complementary"] is True
    assert computed("melting_temperature", sequence="GAATATTA")["self_complementary"] is False


def test_the_result_names_method_table_and_all_conditions_that_were_used() -> None:
    result = computed("melting_temperature", sequence="ACGTACGTTC")
    assert result == {
        "tm_celsius": result["tm_celsius"], "method": "nearest_neighbor",
        "table": "SantaLucia 1998 (Allawi & SantaLucia 1997)", "oligo_nm": 50, "na_mm": 50, "mg_mm": 1.5,
        "dntp_mm": 0.6, "self_complementary": False, "length": 10, "note": None,
    }  # fmt: skip
    assert call("melting_temperature", sequence=">p\nACGTACGTTC").line == (
        f"Tm of p (10 nt): **{result['tm_celsius']:.2f} °C**"
        " (nearest neighbor, 50 nM oligo, 50 mM Na⁺, 1.5 mM Mg²⁺, 0.6 mM dNTPs)"
    )


def test_wallace_is_two_degrees_for_weak_and_four_for_strong_pairs() -> None:
    result = computed("melting_temperature", sequence="ACGTTGCAAC", method="wallace")
    assert (result["tm_celsius"], result["na_mm"], result["note"]) == (30, None, None)
    assert "20 nt" in computed("melting_temperature", sequence="A" * 21, method="wallace")["note"]


def test_the_gc_formula_needs_salt_alone() -> None:
    # By hand: 81.5 + 16.6 log10(0.05) + 0.41 x 50 - 675/20 = 46.65.
    result = computed("melting_temperature", sequence="ACGT" * 5, method="gc")
    assert (result["tm_celsius"], result["na_mm"], result["oligo_nm"]) == (46.65, 50, None)


@pytest.mark.parametrize(
    ("arguments", "error", "detail"),
    [
        ({"sequence": "A" * 61}, "too-long", "at most 60"),
        ({"sequence": "A"}, "out-of-range", "at least 2 nt"),
        ({"sequence": "ACGTN"}, "ambiguous-sequence", "N at position 5"),
        ({"sequence": "ACGU"}, "rna-not-melted", "U at position 4"),
        ({"sequence": "ACGT", "na_mm": 0}, "out-of-range", "na_mm must be above 0"),
        ({"sequence": "ACGT", "oligo_nm": 0}, "out-of-range", "oligo_nm must be above 0"),
        ({"sequence": "ACGT", "mg_mm": -1}, "out-of-range", "mg_mm must be at least 0"),
        ({"sequence": "ACGT", "method": "breslauer"}, "out-of-range", "nearest_neighbor, wallace, gc"),
    ],
)
def test_what_the_methods_are_not_for_is_refused(arguments: dict[str, object], error: str, detail: str) -> None:
    said = refused("melting_temperature", **arguments)
    assert (said[0], detail in said[1]) == (error, True), said


# --- definitions


def test_definitions_are_small() -> None:
    """All tools together may take 2,200 tokens (cl100k); a token is 4.1 characters of their JSON, as measured."""
    import json

    shown = [[each.spec.name, each.spec.description, each.spec.parameters] for each in TOOLS.values()]
    assert len(json.dumps(shown)) < 9_000


def test_every_letter_of_the_code_is_read() -> None:
    assert computed("gc_content", sequence="".join(BASES).replace("U", "") + "ACGT" * 10)["length"] == 55
