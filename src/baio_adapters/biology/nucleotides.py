"""Tools on the letters of one nucleotide sequence: its GC content, reverse complement, transcript."""

from baio_adapters.biology.definitions import BIOPYTHON, SEQUENCE, excerpt, kept_letters, parameters
from baio_domain.sequences import KnownSequence, count, first_position, nucleotides
from baio_domain.sequences import reverse_complement as other_strand
from baio_domain.tools import Computed, Product, Tool, ToolRefused, ToolSpec

MAX_WINDOWS = 2_000
MAX_WINDOW_LETTERS = 20_000_000
"""Letters of all windows together: about a fifth of a second."""


def gc_content(sequence: str, ambiguous: str, window: int | None, step: int | None) -> Computed:
    """The share of G and C in a sequence, and in windows of it."""
    read = nucleotides(sequence)
    letters = read.letters
    g, c = count(letters, "G"), count(letters, "C")
    whole = _gc(letters, ambiguous)
    result = {
        **whole,
        "length": len(letters),
        "ambiguous": read.ambiguous,
        "g": g,
        "c": c,
        "gc_skew": _skew(g, c),
        "windows": [
            {"start": start + 1, "end": end, **_gc(letters[start:end], ambiguous)}
            for start, end in _windows(len(letters), window, step)
        ],
    }
    percent = "not defined" if whole["gc_percent"] is None else f"{whole['gc_percent']:.2f} %"
    share = f"{whole['gc']:,} of {whole['counted']:,}"
    return Computed(result, f"GC content of {read.title} ({read.size}): **{percent}** ({share})", (read.input(),))


def reverse_complement(sequence: str) -> Computed:
    """The other strand of a sequence, from its 5' end."""
    read = nucleotides(sequence)
    other = other_strand(read.letters, read.molecule)
    result = {"sequence": kept_letters(other), "length": len(other), "molecule": read.molecule}
    line = f"Reverse complement of {read.title} ({read.size}, {read.molecule}): **{excerpt(other)}**"
    topology = sequence.topology if isinstance(sequence, KnownSequence) else "linear"
    product = Product(("sequence",), f"{read.title} reverse complement", other, read.molecule, topology)
    return Computed(result, line, (read.input(),), (product,))


def transcribe(sequence: str, direction: str) -> Computed:
    """The RNA of a coding strand, or the coding strand of an RNA."""
    read = nucleotides(sequence)
    given, wanted, molecule = ("T", "U", "RNA") if direction == "dna_to_rna" else ("U", "T", "DNA")
    if wanted in read.letters:
        other = "rna_to_dna" if molecule == "RNA" else "dna_to_rna"
        raise ToolRefused(
            "wrong-molecule",
            f"The sequence is {molecule} already ({wanted} at position {first_position(read.letters, wanted)}). For the"
            f" other direction, give direction={other}.",
        )
    letters = read.letters.replace(given, wanted)
    result = {"sequence": kept_letters(letters), "length": len(letters), "molecule": molecule}
    what = "Transcript" if molecule == "RNA" else "Coding strand"
    line = f"{what} of {read.title} ({read.size}): **{excerpt(letters)}**"
    product = Product(("sequence",), f"{read.title} {what.lower()}", letters, molecule)
    return Computed(result, line, (read.input(),), (product,))


def _gc(letters: str, ambiguous: str) -> dict[str, float | None]:
    """Percentage, G and C, and the letters that count; no percentage where no letter counts."""
    strong = count(letters, "GCS")
    counted = count(letters, "GCSATUW") if ambiguous == "remove" else len(letters)
    fraction = strong / counted if counted else 0
    gc: float = strong
    if ambiguous == "weighted":
        from Bio.SeqUtils import gc_fraction  # noqa: PLC0415 - never in the server

        fraction = gc_fraction(letters, ambiguous)  # type: ignore[no-untyped-call]
        gc = round(fraction * counted, 2)
    return {"gc_percent": round(100 * fraction, 2) if counted else None, "gc": gc, "counted": counted}


def _skew(g: int, c: int) -> float | None:
    return round((g - c) / (g + c), 4) if g + c else None


def _windows(length: int, window: int | None, step: int | None) -> list[tuple[int, int]]:
    """Start and end of each window: at 1, 1 + step and so on; the last one ends with the sequence."""
    if window is None:
        if step is not None:
            raise ToolRefused("bad-arguments", "step needs a window. Give the window's length in letters.")
        return []
    if window > length:
        raise ToolRefused("out-of-range", f"window is {window:,}, and the sequence has {length:,} letters. Give less.")
    step = step or window
    number = -(-(length - window) // step) + 1
    if number > MAX_WINDOWS or number * window > MAX_WINDOW_LETTERS:
        raise ToolRefused(
            "out-of-range",
            f"These are {number:,} windows; at most {MAX_WINDOWS:,} windows, with {MAX_WINDOW_LETTERS:,} letters"
            " together, are possible. Give a larger step.",
        )
    return [(start, min(start + window, length)) for start in range(0, number * step, step) if start < length]


GC_CONTENT = Tool(
    ToolSpec(
        "gc_content",
        1,
        "GC content and GC skew of DNA or RNA, also in windows.",
        "GC content: (G+C+S)/(A+C+G+T+U+S+W) with ambiguous=remove, (G+C+S)/length with ignore, the expected value"
        " with weighted (Biopython's gc_fraction); GC skew: (G-C)/(G+C).",
        parameters(
            {
                "sequence": SEQUENCE,
                "ambiguous": {
                    "type": "string",
                    "enum": ["remove", "ignore", "weighted"],
                    "default": "remove",
                },
                "window": {"type": "integer", "minimum": 1},
                "step": {"type": "integer", "minimum": 1},
            },
            ["sequence"],
        ),
        BIOPYTHON,
        sequences=("sequence",),
    ),
    gc_content,
)

REVERSE_COMPLEMENT = Tool(
    ToolSpec(
        "reverse_complement",
        1,
        "Reverse complement of DNA or RNA. RNA stays RNA.",
        "Reverse complement: the IUPAC complement of every letter, in reverse order.",
        parameters({"sequence": SEQUENCE}, ["sequence"]),
        sequences=("sequence",),
    ),
    reverse_complement,
)

TRANSCRIBE = Tool(
    ToolSpec(
        "transcribe",
        1,
        "Transcript of the coding strand, or back. Not splicing.",
        "Transcription of the coding strand: T becomes U, or U becomes T, and nothing else.",
        parameters(
            {
                "sequence": SEQUENCE,
                "direction": {
                    "type": "string",
                    "enum": ["dna_to_rna", "rna_to_dna"],
                    "default": "dna_to_rna",
                },
            },
            ["sequence"],
        ),
        sequences=("sequence",),
    ),
    transcribe,
)
