"""The tool that aligns two sequences."""

from typing import Any, NamedTuple

from baio_adapters.biology.definitions import BIOPYTHON, SEQUENCE, parameters
from baio_domain.sequences import Nucleotides, Protein, nucleotides, nucleotides_or_protein, protein
from baio_domain.tools import Computed, Tool, ToolRefused, ToolSpec

MAX_CELLS = 100_000_000
"""Length times length: a second, and 220 MB."""

MAX_COLUMNS = 2_000
"""Columns of the alignment that are shown."""

NUCLEOTIDE_MATRIX = "EDNAFULL"
PROTEIN_MATRICES = ("BLOSUM62", "BLOSUM45", "BLOSUM80")


class Scores(NamedTuple):
    """How columns and gaps count."""

    matrix: str | None
    match: float | None
    mismatch: float | None
    gap_open: float
    gap_extend: float


class Aligned(NamedTuple):
    """The rows of an alignment with their gaps, and the first and last index of each sequence in it."""

    score: float
    rows: tuple[str, str]
    spans: tuple[tuple[int, int], tuple[int, int]]


def pairwise_align(  # noqa: PLR0913 - as the definition has them
    *,
    a: str,
    b: str,
    mode: str,
    matrix: str | None,
    match: float | None,
    mismatch: float | None,
    gap_open: float,
    gap_extend: float,
    end_gaps: str,
) -> Computed:
    """One best alignment of two sequences."""
    first, second = _read(a, b, matrix)
    cells = len(first.letters) * len(second.letters)
    if cells > MAX_CELLS:
        raise ToolRefused(
            "too-long",
            f"The lengths are {first.size} and {second.size}: {cells:,} cells; at most {MAX_CELLS:,} are possible."
            " Align parts of them.",
        )
    scores = _scores(first, matrix, match, mismatch, -abs(gap_open), -abs(gap_extend))
    letters = tuple(each.dna if isinstance(each, Nucleotides) else each.letters for each in (first, second))
    aligned = _align(letters[0], letters[1], mode, scores, free=end_gaps == "free")
    result = _result(aligned) | {"mode": mode, "molecule": first.molecule, **scores._asdict()}
    result["end_gaps"] = end_gaps if mode == "global" else None
    by = scores.matrix or f"match {scores.match:g}, mismatch {scores.mismatch:g}"
    how = f"{mode}, {by}, gaps {scores.gap_open:g} and {scores.gap_extend:g}"
    columns = len(aligned.rows[0])
    share = "no pair" if not columns else f"{result['identity_percent']:.2f} % identity"
    counts = f"{result['identities']:,} of {columns:,} columns"
    pair = f"{first.title} ({first.size}) and {second.title} ({second.size})"
    line = f"Alignment of {pair}, {how}: **{share}** ({counts}), score {aligned.score:g}"
    return Computed(result, line, (first.input("a"), second.input("b")))


def _read(a: str, b: str, matrix: str | None) -> tuple[Nucleotides | Protein, Nucleotides | Protein]:
    """Both as nucleotides or both as proteins, as the matrix says; without one, proteins if one of them is none."""
    if matrix is not None:
        read = nucleotides if matrix == NUCLEOTIDE_MATRIX else protein
        return read(a), read(b)
    kinds = set()
    for text in (a, b):
        try:
            kinds.add(nucleotides_or_protein(text).molecule)
        except ToolRefused as refused:
            if refused.error != "ambiguous-sequence":
                raise
            kinds.add("ambiguous")
    if "protein" in kinds:
        return protein(a), protein(b)
    if "ambiguous" in kinds:
        raise ToolRefused(
            "ambiguous-sequence",
            "The letters are those of peptides and of ambiguous DNA. Give matrix=BLOSUM62 or matrix=EDNAFULL.",
        )
    return nucleotides(a), nucleotides(b)


def _scores(
    read: Nucleotides | Protein,
    matrix: str | None,
    match: float | None,
    mismatch: float | None,
    *gaps: float,
) -> Scores:
    if match is None and mismatch is None:
        default = NUCLEOTIDE_MATRIX if isinstance(read, Nucleotides) else PROTEIN_MATRICES[0]
        return Scores(matrix or default, None, None, *gaps)
    if matrix is not None or match is None or mismatch is None:
        raise ToolRefused("bad-arguments", "Give a matrix, or match and mismatch together.")
    return Scores(None, match, mismatch, *gaps)


def _align(a: str, b: str, mode: str, scores: Scores, *, free: bool) -> Aligned:
    from Bio.Align import PairwiseAligner  # noqa: PLC0415 - never in the server

    # Defaults have changed between versions: nothing is left to them.
    aligner = PairwiseAligner(mode=mode)  # type: ignore[no-untyped-call]
    if scores.matrix is None:
        aligner.match_score, aligner.mismatch_score = scores.match, scores.mismatch
        aligner.wildcard = None
    else:
        aligner.substitution_matrix = _matrix(scores.matrix, a, b)
    aligner.open_gap_score, aligner.extend_gap_score = scores.gap_open, scores.gap_extend
    if free and mode == "global":
        aligner.open_end_gap_score = aligner.extend_end_gap_score = 0
    # The alignments are never counted: their number can be beyond every integer of the machine.
    best = next(iter(aligner.align(a, b)), None)  # type: ignore[no-untyped-call]
    if best is None:
        return Aligned(0.0, ("", ""), ((0, 0), (0, 0)))
    coordinates = [[int(each) for each in row] for row in best.coordinates]
    spans = tuple((row[0], row[-1]) for row in coordinates)
    return Aligned(float(best.score), (str(best[0]), str(best[1])), (spans[0], spans[1]))


def _matrix(name: str, a: str, b: str) -> Any:  # noqa: ANN401 - Biopython's array
    from Bio.Align import substitution_matrices  # noqa: PLC0415 - never in the server

    matrix = substitution_matrices.load("NUC.4.4" if name == NUCLEOTIDE_MATRIX else name)  # type: ignore[no-untyped-call]
    unknown = sorted(set(a + b) - set(matrix.alphabet))
    if unknown:
        raise ToolRefused(
            "ambiguous-residues", f"{', '.join(unknown)} has no score in {name}. Give match and mismatch instead."
        )
    return matrix


def _result(aligned: Aligned) -> dict[str, Any]:
    a, b = aligned.rows
    columns = len(a)
    identities = sum(map(str.__eq__, a, b))
    spans = {
        name: {"start": start + 1, "end": end} if columns else None
        for name, (start, end) in zip("ab", aligned.spans, strict=True)
    }
    shown_a, shown_b = a[:MAX_COLUMNS], b[:MAX_COLUMNS]
    signs = (" " if "-" in pair else "|" if pair[0] == pair[1] else "." for pair in zip(shown_a, shown_b, strict=True))
    return {
        "score": round(aligned.score, 4),
        "identities": identities,
        "columns": columns,
        "identity_percent": round(100 * identities / columns, 2) if columns else None,
        "gaps": a.count("-") + b.count("-"),
        "spans": spans,
        "alignment": {"a": shown_a, "matches": "".join(signs), "b": shown_b},
        **({"shown": MAX_COLUMNS} if columns > MAX_COLUMNS else {}),
    }


PAIRWISE_ALIGN = Tool(
    ToolSpec(
        "pairwise_align",
        1,
        "Align two DNA, RNA or protein sequences. Not a database search, not multiple alignment.",
        "One best alignment by Needleman-Wunsch (global) or Smith-Waterman (local) with affine gaps (Gotoh); a gap of n"
        " costs gap_open + (n-1)*gap_extend; identity is identities by columns.",
        parameters(
            {
                "a": SEQUENCE,
                "b": SEQUENCE,
                "mode": {
                    "type": "string",
                    "enum": ["global", "local"],
                    "default": "global",
                },
                "matrix": {
                    "type": "string",
                    "enum": [NUCLEOTIDE_MATRIX, *PROTEIN_MATRICES],
                    "description": "Default: EDNAFULL or BLOSUM62.",
                },
                "match": {"type": "number"},
                "mismatch": {"type": "number"},
                "gap_open": {"type": "number", "default": -10},
                "gap_extend": {"type": "number", "default": -0.5},
                "end_gaps": {
                    "type": "string",
                    "enum": ["penalised", "free"],
                    "default": "penalised",
                },
            },
            ["a", "b"],
        ),
        BIOPYTHON,
        sequences=("a", "b"),
    ),
    pairwise_align,
)
