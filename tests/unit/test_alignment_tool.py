"""Alignments: their score against a small dynamic programme, and their rows against their own score."""

from collections.abc import Callable

import pytest
from Bio.Align import substitution_matrices
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.tools import computed, refused

LOWEST = float("-inf")


def best_score(a: str, b: str, pair: Callable[[str, str], float], gaps: tuple[float, float], mode: str) -> float:
    """Gotoh 1982, from the paper; ``mode`` is global, free (ends) or local."""
    first, further = gaps
    free = mode != "global"
    row: list[tuple[float, float, float]] = []
    best = 0.0 if mode == "local" else LOWEST
    for i in range(len(a) + 1):
        new: list[tuple[float, float, float]] = []
        for j in range(len(b) + 1):
            if i == j == 0:
                cell = (0.0, LOWEST, LOWEST)
            else:
                end_a, end_b = j in (0, len(b)) and mode == "free", i in (0, len(a)) and mode == "free"
                match = max(row[j - 1]) + pair(a[i - 1], b[j - 1]) if i and j else LOWEST
                if mode == "local":
                    match = max(match, 0.0 if not i or not j else pair(a[i - 1], b[j - 1]), 0.0 if free else LOWEST)
                down, across = LOWEST, LOWEST
                if i:
                    start, extend = (0.0, 0.0) if end_a else (first, further)
                    down = max(row[j][0] + start, row[j][2] + start, row[j][1] + extend)
                if j:
                    start, extend = (0.0, 0.0) if end_b else (first, further)
                    across = max(new[j - 1][0] + start, new[j - 1][1] + start, new[j - 1][2] + extend)
                cell = (match, down, across)
            new.append(cell)
            if mode == "local":
                best = max(best, *cell)
        row = new
    return best if mode == "local" else max(row[-1])


def rescored(a: str, b: str, pair: Callable[[str, str], float], gaps: tuple[float, float], *, free: bool) -> float:
    """The score of two rows, column by column."""
    first_a, last_a = len(a) - len(a.lstrip("-")), len(a.rstrip("-"))
    first_b, last_b = len(b) - len(b.lstrip("-")), len(b.rstrip("-"))
    score, before = 0.0, ""
    for column, (one, other) in enumerate(zip(a, b, strict=True)):
        state = "a" if one == "-" else "b" if other == "-" else ""
        inside = first_a <= column < last_a and first_b <= column < last_b
        if not state:
            score += pair(one, other)
        elif inside or not free:
            score += gaps[1] if state == before else gaps[0]
        before = state
    return score


@given(
    st.text("ACGT", min_size=1, max_size=12),
    st.text("ACGT", min_size=1, max_size=12),
    st.sampled_from(["global", "free", "local"]),
    st.sampled_from([(-10, -0.5), (-2, -1), (-3, -3)]),
)
@settings(max_examples=100, deadline=None)
def test_the_score_is_the_best_one_and_the_rows_have_it(a: str, b: str, mode: str, gaps: tuple[float, float]) -> None:
    asked = {"mode": "local" if mode == "local" else "global", "end_gaps": "free" if mode == "free" else "penalised"}
    result = computed("pairwise_align", a=a, b=b, match=2, mismatch=-3, gap_open=gaps[0], gap_extend=gaps[1], **asked)

    def pair(one: str, other: str) -> float:
        return 2 if one == other else -3

    rows = result["alignment"]
    assert result["score"] == best_score(a, b, pair, gaps, mode)
    assert result["score"] == rescored(rows["a"], rows["b"], pair, gaps, free=mode == "free")
    for name, letters in (("a", a), ("b", b)):
        span = result["spans"][name]
        start, end = (span["start"], span["end"]) if span else (1, 0)
        assert rows[name].replace("-", "") == letters[start - 1 : end]
    assert result["identities"] == rows["matches"].count("|")
    assert result["gaps"] == rows["matches"].count(" ")
    assert result["columns"] == len(rows["a"]) == len(rows["b"])


@pytest.mark.parametrize("matrix", ["BLOSUM62", "BLOSUM45", "BLOSUM80", "EDNAFULL"])
def test_matrices_are_used_with_embosss_gap_costs(matrix: str) -> None:
    scores = substitution_matrices.load("NUC.4.4" if matrix == "EDNAFULL" else matrix)  # type: ignore[no-untyped-call]
    a, b = ("GATTACAGATTACA", "GATACAGGATTAA") if matrix == "EDNAFULL" else ("MEEPQSDPSVEPPLSQ", "MEESQSDISLELPLSQ")
    result = computed("pairwise_align", a=a, b=b, matrix=matrix)
    assert result["score"] == best_score(a, b, lambda one, other: float(scores[one, other]), (-10, -0.5), "global")
    assert (result["matrix"], result["gap_open"], result["gap_extend"]) == (matrix, -10, -0.5)


def test_the_kind_of_the_sequences_chooses_the_matrix() -> None:
    dna = computed("pairwise_align", a=">x\ngaattc", b="GAAUUC")
    assert (dna["matrix"], dna["molecule"], dna["identity_percent"], dna["score"]) == ("EDNAFULL", "DNA", 100.0, 30)
    protein = computed("pairwise_align", a="MEEPQ", b="MEEPQ*")
    assert (protein["matrix"], protein["molecule"], protein["score"]) == ("BLOSUM62", "protein", 5 + 5 + 5 + 7 + 5)
    assert computed("pairwise_align", a="MKVSTAGRNDH", b="MEEPQ")["matrix"] == "BLOSUM62"
    assert refused("pairwise_align", a="MKVSTAGRNDH", b="ACGT")[0] == "ambiguous-sequence"


def test_a_gap_is_a_cost_whatever_its_sign() -> None:
    arguments = {"a": "GAATTCAAAC", "b": "GATTCAAC"}
    negative = computed("pairwise_align", **arguments)
    assert computed("pairwise_align", **arguments, gap_open=10, gap_extend=0.5) == negative


def test_without_any_pair_a_local_alignment_is_empty() -> None:
    result = computed("pairwise_align", a="AAAA", b="CCCC", mode="local")
    assert (result["score"], result["columns"], result["identity_percent"]) == (0, 0, None)
    assert result["spans"] == {"a": None, "b": None}


def test_a_long_alignment_is_cut_and_says_so_and_has_more_solutions_than_can_be_counted() -> None:
    letters = "ACGGT" * 500
    result = computed("pairwise_align", a=letters, b="ACGT" * 500)
    assert (result["shown"], len(result["alignment"]["a"])) == (2_000, 2_000)
    assert result["columns"] >= 2_500


@pytest.mark.parametrize(
    ("arguments", "error", "detail"),
    [
        ({"a": ""}, "empty-sequence", "no letter"),
        ({"a": "AC-GT"}, "gaps", "position 3"),
        ({"a": "ACGTU"}, "mixed-dna-rna", "T"),
        ({"a": "MEEPQ", "matrix": "EDNAFULL"}, "not-a-nucleotide-sequence", "E at position 2"),
        ({"a": "MEEPU"}, "ambiguous-residues", "U has no score in BLOSUM62"),
        ({"match": 1}, "bad-arguments", "match and mismatch together"),
        ({"match": 1, "mismatch": -1, "matrix": "EDNAFULL"}, "bad-arguments", "Give a matrix, or"),
        ({"matrix": "PAM9"}, "out-of-range", "BLOSUM62"),
        ({"a": "A" * 10_001, "b": "A" * 10_000}, "too-long", "100,010,000 cells"),
    ],
)
def test_what_can_not_be_aligned_is_refused(arguments: dict[str, object], error: str, detail: str) -> None:
    said = refused("pairwise_align", **{"a": "ACGT", "b": "ACGT", **arguments})
    assert (said[0], detail in said[1]) == (error, True), said
