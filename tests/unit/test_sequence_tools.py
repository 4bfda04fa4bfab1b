"""Descriptions, parts, transcripts, motifs and reading frames: by hand, and against searches without any skill."""

import hashlib
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baio_domain.sequences import BASES, reverse_complement
from tests.unit.tools import call, computed, refused

TOPOLOGIES = st.sampled_from(["linear", "circular"])
FEW = settings(max_examples=40, deadline=None)

ARGUMENTS: dict[str, dict[str, object]] = {
    "describe_sequence": {},
    "extract": {"start": 1, "end": 3},
    "transcribe": {},
    "find_orfs": {"min_length": 1},
    "find_motif": {"motif": "ATG"},
    "apply_mutation": {"codon": 2, "to": "GAC"},
    "molecular_weight": {},
    "molar_amount": {"mass": "1 ug"},
    "codon_usage": {},
    "check_primer": {},
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_case_spaces_numbers_and_a_header_change_nothing(name: str) -> None:
    letters = "ATGGCCATTGTAATGGGC"
    pasted = ">x y\n  1 atggccattg\n 11 taatgggc\n"
    expected = computed(name, sequence=letters, **ARGUMENTS[name])
    found = computed(name, sequence=pasted, **ARGUMENTS[name])
    assert found | {"name": None} == expected | {"name": None}


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize(
    ("sequence", "error"),
    [
        ("", "empty-sequence"),
        (">a\nAC\n>b\nAC", "several-sequences"),
        ("seq_3", "unknown-handle"),
        ("MKVSTAGRNDH", "ambiguous-sequence"),
        ("ACGTU", "mixed-dna-rna"),
        ("AC-GT", "gaps"),
    ],
)
def test_what_is_no_sequence_is_refused(name: str, sequence: str, error: str) -> None:
    assert refused(name, sequence=sequence, **ARGUMENTS[name])[0] == error


# --- describe_sequence


def test_a_description_counts_every_letter() -> None:
    assert computed("describe_sequence", sequence=">pUC19 vector\nacgtNNgg") == {
        "molecule": "DNA", "topology": "linear", "length": 8, "counts": {"A": 1, "C": 1, "G": 3, "N": 2, "T": 1},
        "ambiguous": 2, "gc_percent": 66.67, "name": "pUC19 vector", "features": [], "features_total": 0,
        "sha256": hashlib.sha256(b"ACGTNNGG").hexdigest(),
    }  # fmt: skip
    assert computed("describe_sequence", sequence="NNNN")["gc_percent"] is None


@pytest.mark.parametrize(("sequence", "molecule"), [("ACGU", "RNA"), ("ACG", "DNA"), ("MEEPQSDPSV*", "protein")])
def test_the_molecule_follows_from_the_letters(sequence: str, molecule: str) -> None:
    result = computed("describe_sequence", sequence=sequence)
    assert (result["molecule"], result["length"]) == (molecule, len(sequence.rstrip("*")))


# --- extract


@given(st.text("ACGT", min_size=1, max_size=30), st.data())
@FEW
def test_a_part_is_the_slice_and_its_other_strand_the_reverse_complement(letters: str, data: st.DataObject) -> None:
    start, end = data.draw(st.integers(1, len(letters))), data.draw(st.integers(1, len(letters)))
    asked: dict[str, Any] = {"sequence": letters, "start": start, "end": end, "topology": "circular"}
    result = computed("extract", **asked)
    turned = letters[start - 1 :] + letters[: start - 1]
    assert result["letters"] == turned[: (end - start) % len(letters) + 1]
    assert (result["length"], result["crosses_origin"]) == (len(result["letters"]), start > end)
    assert computed("extract", **asked, strand="-")["letters"] == reverse_complement(result["letters"])


@pytest.mark.parametrize(
    ("arguments", "detail"),
    [
        ({"start": 5, "end": 2}, "Give topology=circular"),
        ({"start": 1, "end": 9}, "end is 9, and the sequence has 8 letters"),
        ({"start": 0, "end": 2}, "at least 1"),
    ],
)
def test_positions_that_do_not_exist_are_refused(arguments: dict[str, object], detail: str) -> None:
    error, said = refused("extract", sequence="ACGTACGT", **arguments)
    assert (error, detail in said) == ("out-of-range", True), said


def test_a_part_of_a_protein_has_one_strand() -> None:
    assert computed("extract", sequence="MEEPQ", start=2, end=3)["letters"] == "EE"
    assert refused("extract", sequence="MEEPQ", start=2, end=3, strand="-")[0] == "out-of-range"


# --- transcribe


def test_the_transcript_of_the_coding_strand_has_u_for_t() -> None:
    assert computed("transcribe", sequence="atgttn") == {"sequence": "AUGUUN", "length": 6, "molecule": "RNA"}
    assert computed("transcribe", sequence="AUGUUN", direction="rna_to_dna")["sequence"] == "ATGTTN"
    assert refused("transcribe", sequence="AUG") == (
        "wrong-molecule",
        "The sequence is RNA already (U at position 2). For the other direction, give direction=rna_to_dna.",
    )


# --- find_motif


def hits_by_hand(letters: str, motif: str, topology: str) -> list[tuple[int, int, str]]:
    """Every place and strand, letter by letter."""
    size = len(motif)
    places = range(len(letters) if topology == "circular" else len(letters) - size + 1) if size <= len(letters) else ()
    found = []
    for place in places:
        there = "".join(letters[(place + offset) % len(letters)] for offset in range(size))
        strands = [
            strand
            for strand, text in (("+", there), ("-", reverse_complement(there)))
            if all(set(BASES[one]) <= set(BASES[other]) for one, other in zip(text, motif, strict=True))
        ]
        if strands and motif == reverse_complement(motif):
            strands = ["both"]
        found += [(place + 1, (place + size - 1) % len(letters) + 1, strand) for strand in strands]
    return sorted(found)


@given(st.text("ACGTN", min_size=4, max_size=30), st.text("ACGTRYN", min_size=1, max_size=5), TOPOLOGIES)
@FEW
def test_motifs_are_found_where_a_search_without_skill_finds_them(letters: str, motif: str, topology: str) -> None:
    result = computed("find_motif", sequence=letters, motif=motif, topology=topology)
    assert [(each["start"], each["end"], each["strand"]) for each in result["hits"]] == hits_by_hand(
        letters, motif, topology
    )
    assert result["count"] == len(result["hits"])


def test_a_palindromic_motif_counts_once() -> None:
    result = computed("find_motif", sequence="AAAAAAGATCAAAA", motif="gatc")
    assert (result["count"], result["hits"]) == (1, [{"start": 7, "end": 10, "strand": "both"}])
    assert result["note"] == "the motif is its own reverse complement: counted once"


def test_overlapping_hits_rna_and_one_strand_are_searched() -> None:
    assert computed("find_motif", sequence="AUAUAU", motif="ATA", strand="+")["count"] == 2
    assert computed("find_motif", sequence="TTTGCC", motif="GGC", strand="-")["hits"] == [
        {"start": 4, "end": 6, "strand": "-"}
    ]


def test_ambiguous_bases_may_hide_a_motif() -> None:
    result = computed("find_motif", sequence="AAGNTCAAGATC", motif="GATC")
    assert (result["count"], result["possible"]) == (1, 1)


def test_a_long_list_of_hits_is_cut_and_says_so() -> None:
    result = computed("find_motif", sequence="A" * 1_500, motif="A", strand="+")
    assert (result["count"], result["shown"], len(result["hits"])) == (1_500, 1_000, 1_000)


@pytest.mark.parametrize(("motif", "error"), [("", "empty-sequence"), ("MEEPQ", "not-a-nucleotide-sequence")])
def test_what_is_no_motif_is_refused(motif: str, error: str) -> None:
    assert refused("find_motif", sequence="ACGT", motif=motif)[0] == error


# --- find_orfs


def orfs_by_hand(letters: str, topology: str) -> set[tuple[str, int, int, str]]:
    """Strand, start, end and protein of every frame, codon by codon from every ATG."""
    length = len(letters)
    best: dict[tuple[str, int], tuple[str, int, int, str]] = {}
    for strand, text in (("+", letters), ("-", reverse_complement(letters))):
        unrolled = text * 2 if topology == "circular" else text
        for start in range(length):
            if unrolled[start : start + 3] != "ATG":
                continue
            room = unrolled[start : start + length] if topology == "circular" else unrolled[start:]
            protein = computed("translate", sequence=room)["protein"]
            if "*" not in protein:
                continue
            size = 3 * (protein.index("*") + 1)
            first, last = start % length, (start + size - 1) % length
            if strand == "-":
                first, last = length - 1 - last, length - 1 - first
            orf = (strand, first + 1, last + 1, protein.partition("*")[0])
            ends = (strand, (start + size) % length)
            if ends not in best or len(best[ends][3]) < len(orf[3]):
                best[ends] = orf
    return set(best.values())


@given(
    st.lists(st.sampled_from(["ATG", "TAA", "CAT", "TTA", "A", "C", "GG", "GCC"]), min_size=2, max_size=20), TOPOLOGIES
)
@settings(max_examples=100, deadline=None)
def test_reading_frames_are_those_that_a_search_without_skill_finds(parts: list[str], topology: str) -> None:
    letters = "".join(parts)
    result = computed("find_orfs", sequence=letters, min_length=1, topology=topology)
    found = {(each["strand"], each["start"], each["end"], each["protein"]) for each in result["orfs"]}
    assert found == orfs_by_hand(letters, topology)
    assert result["total"] == len(result["orfs"]) == len(found)
    for each in result["orfs"]:
        assert each["length_aa"] == len(each["protein"])
        assert each["crosses_origin"] == (each["end"] < each["start"])
        first = each["start"] if each["strand"] == "+" else len(letters) + 1 - each["end"]
        assert each["frame"] == ((first - 1) % 3 + 1) * (1 if each["strand"] == "+" else -1)


def test_a_frame_is_named_with_its_stop_codon_and_the_longest_comes_first() -> None:
    result = computed("find_orfs", sequence="CCATGAAATTTTAGCCTTACATATGTAA", min_length=1)
    assert result["orfs"][0] == {
        "strand": "+", "frame": 3, "start": 3, "end": 14, "length_aa": 3, "crosses_origin": False, "partial": None,
        "protein": "MKF",
    }  # fmt: skip
    assert [(each["strand"], each["start"], each["end"], each["protein"]) for each in result["orfs"][1:]] == [
        ("-", 17, 22, "M"),
        ("+", 23, 28, "M"),
    ]
    assert call("find_orfs", sequence="CCATGAAATTTTAGCC", min_length=1).line == (
        "ORFs of 1 aa or more in the sequence (16 nt, linear): **1**, the longest 3 aa at 3-14 (+)"
    )


def test_the_shortest_protein_counts_residues_without_the_stop() -> None:
    letters = "ATG" + "GCC" * 29 + "TAA"
    assert computed("find_orfs", sequence=letters)["total"] == 1
    assert computed("find_orfs", sequence=letters, min_length=31)["total"] == 0


def test_start_codons_can_be_others_and_are_read_as_methionine() -> None:
    letters = "TTGGCCTAA"
    assert computed("find_orfs", sequence=letters, min_length=1)["total"] == 0
    for start_codons in (["ttg"], "code", ["UUG"], ["YTG"]):
        result = computed("find_orfs", sequence=letters, min_length=1, strand="+", start_codons=start_codons)
        assert [each["protein"] for each in result["orfs"]] == ["MA"]
    for start_codons in (["TAA"], ["AT"], ["TRA"]):
        assert refused("find_orfs", sequence=letters, start_codons=start_codons)[0] == "out-of-range"


def test_partial_frames_may_run_off_an_end() -> None:
    def partial(letters: str, **more: object) -> list[tuple[object, ...]]:
        result = computed("find_orfs", sequence=letters, min_length=1, strand="+", partial=True, **more)
        frames = [each for each in result["orfs"] if each["frame"] == 1]
        return [(each["start"], each["end"], each["partial"], each["protein"]) for each in frames]

    assert partial("GCCGCCTAAGCC") == [(1, 9, "5'", "AA")]
    assert partial("GCCTAAATGGCCG") == [(7, 12, "3'", "MA"), (1, 6, "5'", "A")]
    assert partial("GCCGCCGC") == [(1, 6, "both", "AA")]
    assert partial("ATGGCCTAA") == [(1, 9, None, "MA")]
    assert partial("GCCTAAATGGCC", topology="circular") == [(7, 6, None, "MAA")]


def test_another_code_has_other_stops_and_ambiguous_codons_are_stops_only_if_certain() -> None:
    letters = "ATGTGAGCCTAA"
    assert computed("find_orfs", sequence=letters, min_length=1)["orfs"][0]["protein"] == "M"
    mitochondrial = computed("find_orfs", sequence=letters, min_length=1, genetic_code=2)
    assert mitochondrial["orfs"][0]["protein"] == "MWA"
    ambiguous = "ATGTANGCCTARGCCGCC"
    assert computed("find_orfs", sequence=ambiguous, min_length=1, strand="+")["orfs"][0]["protein"] == "MXA"


def test_rna_has_the_frames_of_its_dna() -> None:
    result = computed("find_orfs", sequence="AUGGCCUAA", min_length=1)
    assert [each["protein"] for each in result["orfs"]] == ["MA"]


def test_a_long_list_of_frames_is_cut_and_says_so() -> None:
    chance = random.Random(16)
    letters = "".join(chance.choices("ACGT", k=60_000))
    result = computed("find_orfs", sequence=letters, min_length=5)
    assert (result["shown"], len(result["orfs"])) == (500, 500)
    assert result["total"] > 500
    endless = computed("find_orfs", sequence="GCC" * 160_000, min_length=5, partial=True, strand="+")
    assert [each["protein"] for each in endless["orfs"]] == [None, None, None]
