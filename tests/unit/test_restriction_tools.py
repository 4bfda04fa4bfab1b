"""Restriction sites and digests: by hand, against Biopython's search, and on circles in every rotation."""

import random
from collections import Counter
from typing import Any

import pytest
from Bio.Restriction import AllEnzymes  # type: ignore[attr-defined]
from Bio.Seq import Seq
from hypothesis import given, settings
from hypothesis import strategies as st

from baio_adapters.biology.enzymes import hits, rebase
from baio_adapters.biology.molecules import Molecule
from baio_domain.sequences import reverse_complement
from baio_domain.tools import MAX_RESULT_BYTES, canonical_json
from tests.unit.tools import call, computed, refused

PLASMID = "AATTCTTTTGGTCTCAACCCCGATGCATATGCTTGCATGCTTACGGAGACCTTGAATTCAAGCAAAAAAATCGTTTTTTTTTTTTTTTTTTTTTCGGGATGCATTTG"
"""A circle with sites of EcoRI, BsaI on both strands, and BcgI; one of EcoRI's lies over the origin."""


def digest(letters: str, *enzymes: str, topology: str = "circular") -> list[dict[str, Any]]:
    fragments = computed("restriction_digest", sequence=letters, enzymes=list(enzymes), topology=topology)["fragments"]
    assert isinstance(fragments, list)
    return fragments


def spelt(letters: str, fragment: dict[str, Any]) -> str:
    """The letters of a fragment's top strand."""
    start = fragment["start"] - 1
    return (letters + letters)[start : start + fragment["length"]]


# --- digests


def test_a_linear_double_digest_has_the_fragments_between_the_cuts() -> None:
    result = computed("restriction_digest", sequence="AAAAGAATTCAAAAACCCCCGGATCCTTTTTTTT", enzymes=["EcoRI", "BamHI"])
    ecori = {"enzyme": "EcoRI", "overhang": "5'", "overhang_sequence": "AATT"}
    bamhi = {"enzyme": "BamHI", "overhang": "5'", "overhang_sequence": "GATC"}
    assert result["cuts"] == 2
    assert result["fragments"] == [
        {"start": 1, "end": 5, "length": 5, "crosses_origin": False, "left": None, "right": ecori},
        {"start": 6, "end": 21, "length": 16, "crosses_origin": False, "left": ecori, "right": bamhi},
        {"start": 22, "end": 34, "length": 13, "crosses_origin": False, "left": bamhi, "right": None},
    ]
    assert result["sites"] == [
        {"enzyme": "EcoRI", "site_start": 5, "strand": "both", "cut_after": 5, "cut_after_bottom": 9},
        {"enzyme": "BamHI", "site_start": 21, "strand": "both", "cut_after": 21, "cut_after_bottom": 25},
    ]
    assert (result["note"], result["non_cutters"], result["rebase"]) == (None, [], "404")


def test_a_headline_has_the_sizes_from_the_largest() -> None:
    assert call("restriction_digest", sequence=">p\nAAAAGAATTCAAAAACCCCCGGATCC", enzymes="EcoRI,BamHI").line == (
        "EcoRI + BamHI digest of p (26 bp, linear): **3 fragments** (16, 5, 5 bp)"
    )
    assert call("restriction_digest", sequence="AAAA", enzymes="EcoRI").line.endswith("**not cut**")


def test_one_cut_makes_one_fragment_of_a_circle() -> None:
    result = computed("restriction_digest", sequence="TTCAAAACCCCGGGGTTTTGAA", enzymes=["EcoRI"], topology="circular")
    end = {"enzyme": "EcoRI", "overhang": "5'", "overhang_sequence": "AATT"}
    assert result["fragments"] == [
        {"start": 21, "end": 20, "length": 22, "crosses_origin": True, "left": end, "right": end}
    ]
    assert (result["cuts"], result["note"]) == (1, "one cut linearises the circle")


def test_a_circle_that_is_not_cut_has_no_fragment_and_a_linear_molecule_one() -> None:
    result = computed("restriction_digest", sequence="A" * 20, enzymes=["EcoRI"], topology="circular")
    assert (result["cuts"], result["fragments"], result["non_cutters"]) == (0, [], ["EcoRI"])
    assert result["note"] == "no cut: the circle stays closed"
    assert [(each["start"], each["end"]) for each in digest("A" * 20, "EcoRI", topology="linear")] == [(1, 20)]


def test_a_cut_at_the_origin_makes_the_fragments_that_it_makes_elsewhere() -> None:
    # Biopython's own digestion gives 38 and 0.
    fragments = digest("AATTCAAAACCCCGAATTCTTTTG", "EcoRI")
    assert [(each["start"], each["end"], each["length"]) for each in fragments] == [(1, 14, 14), (15, 24, 10)]
    assert not any(each["crosses_origin"] for each in fragments)


@pytest.mark.parametrize(
    "enzymes", [["EcoRI"], ["BsaI"], ["BcgI"], ["EcoRI", "BsaI", "BcgI"], ["NsiI", "SphI"]], ids="+".join
)
def test_every_rotation_of_a_circle_has_the_same_fragments(enzymes: list[str]) -> None:
    expected = Counter(spelt(PLASMID, each) for each in digest(PLASMID, *enzymes))
    assert len(expected) > 1
    for turn in range(len(PLASMID)):
        rotated = PLASMID[turn:] + PLASMID[:turn]
        fragments = digest(rotated, *enzymes)
        assert Counter(spelt(rotated, each) for each in fragments) == expected
        assert all((each["end"] < each["start"]) == each["crosses_origin"] for each in fragments)
        assert [each["start"] for each in fragments] == sorted(each["start"] for each in fragments)


CUTTERS = {
    "EcoRI": "GAATTC", "BsaI": "GGTCTC", "BcgI": "CGATTACATTGC", "BamHI": "GGATCC", "HindIII": "AAGCTT",
    "PstI": "CTGCAG",
    "EcoRV": "GATATC", "SmaI": "CCCGGG", "KpnI": "GGTACC", "SacI": "GAGCTC", "SphI": "GCATGC", "XbaI": "TCTAGA",
    "NotI": "GCGGCCGC", "SapI": "GCTCTTC", "BsmBI": "CGTCTC", "BbsI": "GAAGAC", "FokI": "GGATG", "MlyI": "GAGTC",
    "AlwNI": "CAGATTCTG", "BglI": "GCCATTATGGC", "XcmI": "CCAATATATATATGG", "BaeI": "ACATTAGTACC", "AcuI": "CTGAAG",
}  # fmt: skip
"""Enzymes of every kind, each with letters that it recognises: palindromes, one-sided cutters, cuts on both sides."""


@pytest.mark.parametrize("enzyme", CUTTERS)
def test_fragments_join_to_the_circle_in_every_rotation(enzyme: str) -> None:
    site = CUTTERS[enzyme]
    circle = f"{site}TTATTAATTATAATATTTAATATTAATA{reverse_complement(site)}AATTTATAATTATTAAT"
    expected: Counter[str] | None = None
    for turn in range(len(circle)):
        rotated = circle[turn:] + circle[:turn]
        fragments = digest(rotated, enzyme)
        assert len(fragments) >= 2
        assert sum(each["length"] for each in fragments) == len(circle)
        starts = [each["start"] for each in fragments]
        joined = "".join(spelt(rotated, each) for each in fragments)
        assert joined == rotated[starts[0] - 1 :] + rotated[: starts[0] - 1]
        found = Counter(spelt(rotated, each) for each in fragments)
        assert expected in (None, found)
        expected = found


SITES = ["GAATTC", "GGTCTC", "GAGACC", "CGATTTTTTTGC", "GCAAAAAAATCG", "CTGCAG", "GATATC", "GGATG"]


@given(
    parts=st.lists(st.sampled_from([*SITES, "A", "C", "T", "GG", "ACCA"]), min_size=1, max_size=14),
    enzymes=st.lists(
        st.sampled_from(["EcoRI", "BsaI", "BcgI", "PstI", "EcoRV", "FokI", "BamHI"]), min_size=1, unique=True
    ),
    turn=st.integers(0, 200),
    topology=st.sampled_from(["linear", "circular"]),
)
@settings(max_examples=60, deadline=None)
def test_fragments_join_to_the_molecule_and_the_other_strand_has_as_many(
    parts: list[str], enzymes: list[str], turn: int, topology: str
) -> None:
    letters = "".join(parts)
    letters = letters[turn % len(letters) :] + letters[: turn % len(letters)]
    fragments = digest(letters, *enzymes, topology=topology)
    if fragments:
        joined = "".join(spelt(letters, each) for each in fragments)
        assert sorted(joined) == sorted(letters)
        assert joined in letters + letters
    other = computed("restriction_digest", sequence=reverse_complement(letters), enzymes=enzymes, topology=topology)
    if topology == "circular":  # at the end of a linear molecule, one strand's cut can lie beyond it
        cut = computed("restriction_digest", sequence=letters, enzymes=enzymes, topology=topology)
        assert len(cut["sites"]) == len(other["sites"])


def test_an_enzyme_that_cuts_on_both_sides_cuts_its_site_out() -> None:
    letters = "A" * 20 + "CGACCCCCCTGC" + "T" * 20  # (10/12)CGANNNNNNTGC(12/10)
    result = computed("restriction_digest", sequence=letters, enzymes=["BcgI"])
    assert [(each["start"], each["end"]) for each in result["fragments"]] == [(1, 10), (11, 44), (45, 52)]
    assert result["sites"] == [
        {
            "enzyme": "BcgI", "site_start": 21, "strand": "+", "cut_after": 10, "cut_after_bottom": 8,
            "second_cut_after": 44, "second_cut_after_bottom": 42,
        }
    ]  # fmt: skip
    other = computed("restriction_digest", sequence=reverse_complement(letters), enzymes=["BcgI"])
    assert [(each["start"], each["end"]) for each in other["fragments"]] == [(1, 10), (11, 44), (45, 52)]
    assert other["sites"][0]["strand"] == "-"


def test_a_cut_beyond_the_end_of_a_linear_molecule_is_none_and_is_noted() -> None:
    result = computed("restriction_digest", sequence="AAAGGTCTCA", enzymes=["BsaI"])  # GGTCTC(1/5)
    assert (result["cuts"], len(result["fragments"])) == (0, 1)
    assert result["sites"][0] | {"cut_after": 0} == {
        "enzyme": "BsaI", "site_start": 4, "strand": "+", "cut_after": 0, "cut_after_bottom": None,
    }  # fmt: skip
    assert result["note"] == "BsaI at 4 would cut beyond the end"


def test_overlapping_sites_are_noted_also_over_the_origin() -> None:
    note = "the sites of EcoRI at 4 and ApoI at 4 overlap"
    assert note not in str(computed("restriction_digest", sequence="AAAGAATTCAAA", enzymes=["EcoRI"])["note"])
    overlapping = "AAAGAATTCGATCGAAAA"  # EcoRI's GAATTC and TaqI's TCGA share TC
    noted = "the sites of EcoRI at 4 and TaqI at 8 overlap: cutting one can prevent the other"
    assert noted in computed("restriction_digest", sequence=overlapping, enzymes=["EcoRI", "TaqI"])["note"]
    turned = overlapping[8:] + overlapping[:8]
    result = computed("restriction_digest", sequence=turned, enzymes=["EcoRI", "TaqI"], topology="circular")
    assert "the sites of EcoRI at 14 and TaqI at 18 overlap" in result["note"]


def test_enzymes_of_one_site_and_cut_cut_once() -> None:
    result = computed("restriction_digest", sequence="AAAGATCAAA", enzymes=["MboI", "DpnII"])
    assert (result["cuts"], result["note"]) == (1, None)


def test_ambiguous_bases_that_may_hide_a_site_are_noted() -> None:
    result = computed("restriction_digest", sequence="AAAGAATTCAAAGAANTCAAA", enzymes=["EcoRI"])
    assert result["cuts"] == 1
    assert result["note"] == "further sites of EcoRI that the ambiguous bases may hide: 1"


def test_a_long_list_of_fragments_is_cut_and_says_so() -> None:
    result = computed("restriction_digest", sequence="GATC" * 600, enzymes=["MboI"], topology="circular")
    assert (result["cuts"], len(result["fragments"])) == (600, 500)
    assert (result["fragments_total"], result["fragments_shown"]) == (600, 500)
    assert (result["sites_total"], result["sites_shown"], len(result["sites"])) == (600, 500, 500)
    assert len(canonical_json(result)) < MAX_RESULT_BYTES


# --- sites


def test_sites_have_both_cuts_in_positions_of_the_given_strand() -> None:
    letters = "AAAGGTCTCAAAAACCCCGATCGAATTCTTTTTTGAGACC"
    result = computed("restriction_sites", sequence=letters, enzymes=["BsaI", "EcoRI", "PstI"])
    assert result["enzymes"] == [
        {
            "enzyme": "BsaI", "site": "GGTCTC", "count": 2, "overhang": "5'", "overhang_sequence": "NNNN",
            "positions": [
                {"site_start": 4, "strand": "+", "cut_after": 10, "cut_after_bottom": 14, "methylation": []},
                {"site_start": 35, "strand": "-", "cut_after": 29, "cut_after_bottom": 33, "methylation": []},
            ],
        },
        {
            "enzyme": "EcoRI", "site": "GAATTC", "count": 1, "overhang": "5'", "overhang_sequence": "AATT",
            "positions": [
                {"site_start": 23, "strand": "both", "cut_after": 23, "cut_after_bottom": 27, "methylation": ["CpG"]}
            ],
        },
        {
            "enzyme": "PstI", "site": "CTGCAG", "count": 0, "overhang": "3'", "overhang_sequence": "TGCA",
            "positions": [],
        },
    ]  # fmt: skip
    assert result["non_cutters"] == ["PstI"]


def test_overlaps_with_sequences_of_methylases_are_facts() -> None:
    def overlaps(letters: str, enzyme: str, topology: str = "linear") -> object:
        result = computed("restriction_sites", sequence=letters, enzymes=[enzyme], topology=topology)
        return result["enzymes"][0]["positions"][0]["methylation"]

    assert overlaps("AAATCTAGATCAA", "XbaI") == ["Dam"]  # TCTAGATC
    assert overlaps("AAATCTAGAACAA", "XbaI") == []
    assert overlaps("AACCTGGATCCAA", "BamHI") == ["Dam", "Dcm"]
    assert overlaps("ATCAAATCTAG", "XbaI", "circular") == ["Dam"]  # ...TCTAGATCA..., over the origin


@pytest.mark.parametrize(
    "spelling",
    [
        "EcoRI", "ecori", "Eco RI", "ECORI-HF", "EcoRI-HFv2", "EcoRI HF", "ecori-v2", " EcoRI ",
        "EcoR\N{ROMAN NUMERAL ONE}", "EcoRI-HF®", "EcoRI™", "EcoRI-HF®v2", "EcoRI\u200b",
        "\N{FULLWIDTH LATIN CAPITAL LETTER E}coRI",
    ],
)  # fmt: skip
def test_the_name_of_an_enzyme_is_read_whatever_its_case_spaces_and_suffix(spelling: str) -> None:
    result = computed("restriction_sites", sequence="GAATTC", enzymes=[spelling])
    assert [each["enzyme"] for each in result["enzymes"]] == ["EcoRI"]


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("EcoR1", "Did you mean EcoRI?"),
        ("Hind 3", "Did you mean HindIII?"),
        ("BamIH", "BamHI"),
        ("Taq polymerase", "There is no enzyme"),
        ("Nt.BspQI", "is a nicking enzyme"),
        ("I-Sce I", "is a homing endonuclease"),
        ("", "There is no enzyme"),
    ],
)
def test_an_unknown_enzyme_is_refused_with_the_nearest_names(name: str, detail: str) -> None:
    error, said = refused("restriction_digest", sequence="ACGT", enzymes=[name])
    assert (error, detail in said) == ("unknown-enzyme", True), said


@pytest.mark.parametrize(
    "names", ["EcoRI + BamHI", "EcoRI; BamHI;", "EcoRI and BamHI", "EcoRI/BamHI", "EcoRI\u3001BamHI"]
)
def test_enzymes_in_one_text_are_each_found(names: str) -> None:
    for enzymes in (names, [names]):
        result = computed("restriction_digest", sequence="AGAATTCAAGGATCCA", enzymes=enzymes)
        assert [each["length"] for each in result["fragments"]] == [2, 8, 6]


def test_an_enzyme_is_asked_once_however_often_it_is_named() -> None:
    result = computed("restriction_sites", sequence="GAATTC", enzymes=["EcoRI", "ecori"])
    assert len(result["enzymes"]) == 1


@pytest.mark.parametrize("name", ["restriction_sites", "restriction_digest"])
@pytest.mark.parametrize(
    ("sequence", "error", "detail"),
    [
        ("AAGAAUUCAA", "rna-not-cut", "Restriction enzymes cut DNA; this is RNA (U at position 6)."),
        ("MEEPQSDPSV", "not-a-nucleotide-sequence", "E at position 2"),
        ("AC--GT", "gaps", "position 3"),
        ("", "empty-sequence", "no letter"),
    ],
)
def test_what_no_enzyme_cuts_is_refused(name: str, sequence: str, error: str, detail: str) -> None:
    said = refused(name, sequence=sequence, enzymes=["ecori"])
    assert (said[0], detail in said[1]) == (error, True)


def test_a_digest_with_an_enzyme_whose_cut_nobody_knows_is_refused_and_its_sites_are_found() -> None:
    unknown = next(each for each in rebase()[1].values() if not each.cuts and set(each.site) <= set("ACGT"))
    assert refused("restriction_digest", sequence=unknown.site, enzymes=[unknown.name])[0] == "cut-unknown"
    result = computed("restriction_sites", sequence=unknown.site, enzymes=[unknown.name])
    assert (result["enzymes"][0]["count"], result["enzymes"][0]["overhang"]) == (1, "unknown")


def test_n_in_a_site_is_no_claim_that_it_is_not_cut() -> None:
    whole = computed("restriction_sites", sequence="AAGAANTCAA", enzymes=["EcoRI", "PstI"])
    result = whole["enzymes"][0]
    assert (result["count"], result["possible"], whole["non_cutters"]) == (0, 1, ["PstI"])
    assert computed("restriction_digest", sequence="AAGAANTCAA", enzymes=["EcoRI", "PstI"])["non_cutters"] == ["PstI"]
    certain = computed("restriction_sites", sequence="AAAAAAGTYRACAA", enzymes=["HincII"])["enzymes"][0]  # GTYRAC
    assert (certain["count"], "possible" in certain) == (1, False)


def test_enzymes_can_be_chosen_by_their_number_of_sites() -> None:
    letters = "GAATTCAAGGATCCAAGGATCC"
    for cuts, names in [("1", ["EcoRI"]), ("2", ["BamHI"]), ("0", ["PstI"]), ("any", ["EcoRI", "BamHI", "PstI"])]:
        result = computed("restriction_sites", sequence=letters, enzymes=["EcoRI", "BamHI", "PstI"], cuts=cuts)
        assert [each["enzyme"] for each in result["enzymes"]] == names
        assert result["non_cutters"] == ["PstI"]


def test_all_commercial_enzymes_fit_into_a_result() -> None:
    chance = random.Random(7)
    letters = "".join(chance.choice("ACGT") for _ in range(10_000))
    outcome = call("restriction_sites", sequence=letters, enzymes="commercial", topology="circular")
    assert outcome.state == "done"
    result = outcome.result
    assert len(result["enzymes"]) + len(result["non_cutters"]) == 623  # type: ignore[arg-type]
    assert all(len(each["positions"]) == min(each["count"], each.get("shown", 10**9)) for each in result["enzymes"])  # type: ignore[attr-defined]
    assert "of 623 enzymes" in outcome.line


def test_commercial_enzymes_are_not_searched_in_a_genome() -> None:
    error, detail = refused("restriction_sites", sequence="A" * 1_000_001, enzymes=["commercial"])
    assert (error, "Name the enzymes" in detail) == ("too-long", True)


READ_BY_BOTH_STRANDS = {"SgrTI", "SgeI", "MspJI", "LpnPI"}
"""Biopython finds one site where both strands have one at the same place, and SgeI's on one strand only."""

CUT_BEFORE_THE_SECOND_BASE = {"BmeDI", "HpyUM037X"}
"""Biopython drops that cut of a linear molecule; and the second enzyme has two sites, of which it finds neither."""


@pytest.mark.parametrize("circular", [False, True], ids=["linear", "circular"])
def test_every_enzyme_of_rebase_cuts_where_biopythons_search_says(circular: bool) -> None:  # noqa: FBT001
    chance = random.Random(404)
    letters = "".join(chance.choice("ACGT") for _ in range(1_500))
    molecule = Molecule(letters, circular)
    tried = 0
    for theirs in AllEnzymes:
        if str(theirs) in READ_BY_BOTH_STRANDS | CUT_BEFORE_THE_SECOND_BASE:
            continue
        enzyme = rebase()[1][str(theirs).lower()]
        cuts = [molecule.wrapped(top) for hit in hits(molecule, enzyme) for top, _ in enzyme.cuts_at(hit)]
        if enzyme.cuts:
            tried += bool(cuts)
            found = {(first - 2) % len(letters) + 1 for first in theirs.search(Seq(letters), linear=not circular)}
            assert {cut for cut in cuts if cut} == found, enzyme.name
    assert tried > 400


def test_a_site_that_both_strands_read_at_one_place_is_found_on_both() -> None:
    result = computed("restriction_sites", sequence="A" * 30 + "CCGG" + "A" * 30, enzymes=["LpnPI"])  # CCDG(10/14)
    assert [(each["strand"], each["cut_after"]) for each in result["enzymes"][0]["positions"]] == [("+", 44), ("-", 16)]
