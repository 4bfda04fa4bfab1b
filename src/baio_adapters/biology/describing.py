"""Tools that say what a sequence is, and that take a part of it."""

from baio_adapters.biology.definitions import SEQUENCE, TOPOLOGY, excerpt, parameters
from baio_domain.sequences import Nucleotides, Protein, count, nucleotides_or_protein, reverse_complement
from baio_domain.tools import Computed, Tool, ToolRefused, ToolSpec


def describe_sequence(sequence: str) -> Computed:
    """What a sequence is: its molecule, length and letters."""
    read = nucleotides_or_protein(sequence)
    percent = _gc_percent(read) if isinstance(read, Nucleotides) else None
    result = {
        "molecule": read.molecule,
        "topology": "linear",
        "length": len(read.letters),
        "counts": {letter: read.letters.count(letter) for letter in sorted(set(read.letters))},
        "ambiguous": read.ambiguous,
        "gc_percent": percent,
        "name": read.name,
        "features": [],
        "features_total": 0,
        "sha256": read.input().sha256,
    }
    gc = "" if percent is None else f", {percent:.2f} % GC"
    line = f"Description of {read.title}: **{read.molecule}, {read.size}**{gc}, {read.ambiguous:,} ambiguous"
    return Computed(result, line, (read.input(),))


def extract(sequence: str, start: int, end: int, strand: str, topology: str) -> Computed:
    """The letters from one position to another; of a circle, perhaps over its origin."""
    read = nucleotides_or_protein(sequence)
    length = len(read.letters)
    _refuse_outside(read, start, end, topology)
    letters = read.letters[start - 1 : end] if start <= end else read.letters[start - 1 :] + read.letters[:end]
    if strand == "-":
        if isinstance(read, Protein):
            raise ToolRefused("out-of-range", "A protein has no other strand. Give strand=+.")
        letters = reverse_complement(letters, read.molecule)
    result = {
        "name": read.name,
        "start": start,
        "end": end,
        "strand": strand,
        "crosses_origin": start > end,
        "length": len(letters),
        "letters": letters,
    }
    where = f"{start:,} to {end:,}{', other strand' if strand == '-' else ''}"
    line = f"Positions {where} of {read.title} ({length:,} letters): **{excerpt(letters)}** ({len(letters):,} letters)"
    return Computed(result, line, (read.input(),))


def _gc_percent(read: Nucleotides) -> float | None:
    """The GC content as ``gc_content`` has it by default."""
    counted = count(read.letters, "ACGTUSW")
    return round(100 * count(read.letters, "GCS") / counted, 2) if counted else None


def _refuse_outside(read: Nucleotides | Protein, start: int, end: int, topology: str) -> None:
    length = len(read.letters)
    for name, position in (("start", start), ("end", end)):
        if position > length:
            raise ToolRefused("out-of-range", f"{name} is {position:,}, and the sequence has {length:,} letters.")
    if start > end and topology != "circular":
        raise ToolRefused(
            "out-of-range",
            f"start ({start:,}) is behind end ({end:,}), which only a circle has. Give topology=circular, or the lower"
            " position as start and strand=- for the other strand.",
        )


DESCRIBE_SEQUENCE = Tool(
    ToolSpec(
        "describe_sequence",
        1,
        "What a sequence is: molecule, length, letter counts, GC, SHA-256.",
        "Counts of the cleaned letters; protein if a letter is no nucleotide code, RNA if there is U, else DNA; letters"
        " alone are linear; SHA-256 of the upper-case letters.",
        parameters({"sequence": SEQUENCE}, ["sequence"]),
        sequences=("sequence",),
    ),
    describe_sequence,
)

EXTRACT = Tool(
    ToolSpec(
        "extract",
        1,
        "Part of a sequence between two positions.",
        "Letters from start to end, 1-based and inclusive on the strand given; start > end goes over the origin of a"
        " circle; strand - is the reverse complement of that part.",
        parameters(
            {
                "sequence": SEQUENCE,
                "start": {"type": "integer", "minimum": 1},
                "end": {"type": "integer", "minimum": 1},
                "strand": {"type": "string", "enum": ["+", "-"], "default": "+"},
                "topology": TOPOLOGY,
            },
            ["sequence", "start", "end"],
        ),
        sequences=("sequence",),
    ),
    extract,
)
