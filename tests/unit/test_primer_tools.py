"""PCR and primers: against slices of the template, and by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baio_domain.sequences import reverse_complement
from tests.unit.tools import call, computed, refused

TEMPLATE = "TTTTACGTACGGATCCATGCAAAACCCCGGGGTTTTACGATCGTTAGCCATAAAA"
FORWARD, REVERSE = "ACGTACGGATCCATG", "ATGGCTAACGATCGT"


def test_a_product_lies_between_the_primers() -> None:
    result = computed("simulate_pcr", template=f">t\n{TEMPLATE.lower()}", forward=FORWARD, reverse=REVERSE)
    assert result["products"] == [
        {
            "start": 5, "end": 51, "length": 47, "crosses_origin": False, "primers": ["forward", "reverse"],
            "tails": [0, 0], "mismatches": 0, "sequence": "ACGTACGGATCCATGCAAAACCCCGGGGTTTTACGATCGTTAGCCAT",
        }
    ]  # fmt: skip
    assert (result["total"], result["other_sites"]) == (1, [])
    assert call("simulate_pcr", template=TEMPLATE, forward=FORWARD, reverse=REVERSE).line == (
        "PCR on the sequence (55 bp, linear): **1 product** (47 bp)"
    )


def test_the_primers_may_be_exchanged() -> None:
    (product,) = computed("simulate_pcr", template=TEMPLATE, forward=REVERSE, reverse=FORWARD)["products"]
    assert (product["start"], product["end"], product["primers"]) == (5, 51, ["reverse", "forward"])


@given(
    st.text("ACGT", min_size=40, max_size=80),
    st.integers(0, 200),
    st.integers(0, 200),
    st.sampled_from(["linear", "circular"]),
)
@settings(max_examples=60, deadline=None)
def test_a_product_is_the_slice_of_the_template(letters: str, first: int, size: int, topology: str) -> None:
    length = len(letters)
    size = 24 + size % (length - 24)
    first %= length if topology == "circular" else length - size
    wanted = (letters + letters)[first : first + size]
    result = computed(
        "simulate_pcr",
        template=letters,
        forward=wanted[:12],
        reverse=reverse_complement(wanted[-12:]),
        topology=topology,
        annealing_length=12,
    )
    found = [(each["start"], each["end"], each["length"], each["sequence"]) for each in result["products"]]
    assert (first + 1, (first + size - 1) % length + 1, size, wanted) in found


def test_tails_belong_to_the_product_and_not_to_the_template() -> None:
    result = computed("simulate_pcr", template=TEMPLATE, forward=f"GGGGGG{FORWARD}", reverse=f"CCC{REVERSE}")
    (product,) = result["products"]
    assert (product["start"], product["end"], product["length"], product["tails"]) == (5, 51, 56, [6, 3])
    assert product["sequence"] == f"GGGGGG{TEMPLATE[4:51]}GGG"


def test_mismatches_are_allowed_but_not_at_the_3_prime_end() -> None:
    one_off = "ACGTACGCATCCATG"

    def products(forward: str, mismatches: int) -> list[dict[str, object]]:
        arguments = {"template": TEMPLATE, "forward": forward, "reverse": REVERSE, "max_mismatches": mismatches}
        found = computed("simulate_pcr", **arguments)["products"]
        assert isinstance(found, list)
        return found

    assert products(one_off, 0) == []
    (product,) = products(one_off, 1)
    assert (product["mismatches"], product["length"]) == (1, 47)
    assert str(product["sequence"]).startswith(one_off)
    assert products("ACGTACGGATCCATC", 2) == []


def mismatches_by_hand(template: str, primer: str, most: int) -> list[tuple[int, int]]:
    found = []
    for start in range(len(template) - len(primer) + 1):
        pairs = list(zip(template[start:], primer, strict=False))
        differing = sum(one != other for one, other in pairs)
        if differing <= most and pairs[-1][0] == pairs[-1][1]:
            found.append((start + 1, differing))
    return found


@given(st.text("ACGT", min_size=10, max_size=60), st.text("ACGT", min_size=5, max_size=8), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_primers_bind_where_a_comparison_letter_by_letter_says(template: str, primer: str, most: int) -> None:
    result = computed(
        "simulate_pcr", template=template, forward=primer, reverse=primer, max_mismatches=most, annealing_length=8
    )
    sites = {
        (each["start"], each["mismatches"])
        for each in result["other_sites"]
        if (each["strand"], each["primer"]) == ("+", "forward")
    }
    expected = set(mismatches_by_hand(template, primer, most))
    assert sites <= expected
    if not result["products"]:
        assert sites == expected


def test_a_circle_is_amplified_over_its_origin_and_all_around() -> None:
    turned = TEMPLATE[20:] + TEMPLATE[:20]
    (product,) = computed("simulate_pcr", template=turned, forward=FORWARD, reverse=REVERSE, topology="circular")[
        "products"
    ]
    assert (product["start"], product["end"], product["crosses_origin"]) == (40, 31, True)
    assert product["sequence"] == TEMPLATE[4:51]
    assert computed("simulate_pcr", template=turned, forward=FORWARD, reverse=REVERSE)["products"] == []
    outwards = {"forward": reverse_complement(FORWARD), "reverse": reverse_complement(REVERSE), "annealing_length": 15}
    (product,) = computed("simulate_pcr", template=TEMPLATE, topology="circular", **outwards)["products"]
    assert product["sequence"] == TEMPLATE[36:] + TEMPLATE[:19]


def test_primers_that_are_each_others_complement_amplify_the_whole_circle() -> None:
    pair = {"forward": FORWARD, "reverse": reverse_complement(FORWARD)}
    products = computed("simulate_pcr", template=TEMPLATE, topology="circular", **pair)["products"]
    assert [each["length"] for each in products] == [15, 70]
    assert products[1]["sequence"] == TEMPLATE[4:] + TEMPLATE[:19]


def test_binding_sites_without_a_partner_are_listed() -> None:
    result = computed("simulate_pcr", template=f"{TEMPLATE}CC{FORWARD}", forward=FORWARD, reverse=REVERSE)
    assert result["other_sites"] == [{"primer": "forward", "strand": "+", "start": 58, "end": 72, "mismatches": 0}]


@pytest.mark.parametrize(
    ("arguments", "error", "detail"),
    [
        ({"forward": "ACGU"}, "rna-not-amplified", "forward has U at position 4"),
        ({"template": "ACGU"}, "rna-not-amplified", "template has U"),
        ({"forward": ""}, "empty-sequence", "no letter"),
        ({"reverse": "MEEP"}, "not-a-nucleotide-sequence", "E at position 2"),
        ({"template": "AC-GT"}, "gaps", "position 3"),
        ({"forward": "A", "template": "A" * 2_000}, "out-of-range", "places"),
        ({"max_mismatches": 5, "annealing_length": 5}, "out-of-range", "less than"),
    ],
)
def test_what_can_not_be_amplified_is_refused(arguments: dict[str, object], error: str, detail: str) -> None:
    said = refused("simulate_pcr", **{"template": TEMPLATE, "forward": FORWARD, "reverse": REVERSE, **arguments})
    assert (said[0], detail in said[1]) == (error, True), said


# --- check_primer


def test_a_usual_primer_has_no_warning() -> None:
    result = computed("check_primer", sequence="CGTTCCAAAGATGTGGGCATGAGC")
    celsius = computed("melting_temperature", sequence="CGTTCCAAAGATGTGGGCATGAGC")
    assert {key: celsius[key] for key in ("tm_celsius", "method", "oligo_nm", "na_mm", "mg_mm", "dntp_mm")}.items() <= (
        result.items()
    )
    # By hand: CATG pairs with CATG, and GC at the 3' end with GC.
    assert (result["length"], result["gc"], result["gc_percent"], result["gc_in_last_5"]) == (24, 13, 54.17, 3)
    assert (result["three_prime"], result["longest_run"], result["self_dimer"]) == ("C", "AAA", 4)
    assert (result["self_dimer_3_prime"], result["warnings"]) == (2, [])


@pytest.mark.parametrize(
    ("sequence", "warning"),
    [
        ("ACGTTGCA", "8 nt; usual are 18 to 30"),
        ("ATTATTATATTAATATTATAAT", "0 % GC; usual are 40 to 60 %"),
        ("GCCGGCGCCAGGCCGGGCGCG", "5 of the last 5 bases are G or C"),
        ("ACGGAAAAAACGTCAGTCAGC", "a run of 6 A"),
        ("ACTGACTGACTGACTGAATTC", "the last 6 bases can pair with another copy"),
        ("TTGGATCCGGATCCAAACTGA", "two copies can form 16 base pairs in a row"),
    ],
)
def test_what_is_unusual_is_said(sequence: str, warning: str) -> None:
    assert any(warning in each for each in computed("check_primer", sequence=sequence)["warnings"])


def test_what_is_no_primer_is_refused() -> None:
    assert refused("check_primer", sequence="A" * 61)[0] == "too-long"
    assert refused("check_primer", sequence="ACGTN" * 4)[0] == "ambiguous-sequence"
    assert refused("check_primer", sequence="ACGU")[0] == "rna-not-melted"
