"""Tools that say what a sequence is, and that take a part of it."""

from collections.abc import Sequence

from baio_adapters.biology.definitions import SEQUENCE, TOPOLOGY, excerpt, kept_letters, parameters
from baio_domain.sequence_files import Feature, Span, part_of, read_features, spans_of
from baio_domain.sequences import (
    MAX_NAME_LENGTH,
    KnownSequence,
    Nucleotides,
    Protein,
    count,
    nucleotides_or_protein,
    reverse_complement,
)
from baio_domain.text import one_line, quoted
from baio_domain.tools import Computed, Product, Tool, ToolRefused, ToolSpec

MAX_NAMED = 10
"""Features that a refusal names."""


MAX_FEATURES = 50
"""Features that are listed."""


def describe_sequence(sequence: str) -> Computed:
    """What a sequence is: its molecule, length and letters, and what else is known of a stored one."""
    read = nucleotides_or_protein(sequence)
    percent = _gc_percent(read) if isinstance(read, Nucleotides) else None
    features = _features(sequence)
    topology = sequence.topology if isinstance(sequence, KnownSequence) else "linear"
    result = {
        "molecule": read.molecule,
        "topology": topology,
        "length": len(read.letters),
        "counts": {letter: read.letters.count(letter) for letter in sorted(set(read.letters))},
        "ambiguous": read.ambiguous,
        "gc_percent": percent,
        "name": read.name,
        "features": [_listed(each) for each in features[:MAX_FEATURES]],
        "features_total": len(features),
        "sha256": read.input().sha256,
    }
    gc = "" if percent is None else f", {percent:.2f} % GC"
    line = f"Description of {read.title}: **{read.molecule}, {read.size}**{gc}, {read.ambiguous:,} ambiguous"
    return Computed(result, line, (read.input(),))


def extract(
    sequence: str, start: int | None, end: int | None, strand: str, topology: str, feature: str | None
) -> Computed:
    """The letters from one position to another, of a circle perhaps over its origin, or those of a feature."""
    read = nucleotides_or_protein(sequence)
    if feature is not None:
        if start is not None or end is not None:
            raise ToolRefused("bad-arguments", "Give either a feature, or start and end.")
        return _of_feature(read, _features(sequence), feature, topology)
    if start is None or end is None:
        raise ToolRefused("bad-arguments", "Give start and end, or the name of a feature.")
    _refuse_outside(read, start, end, topology)
    return _extracted(read, [(start, end, strand)], f"{start}..{end}")


def _of_feature(read: Nucleotides | Protein, features: Sequence[Feature], wanted: str, topology: str) -> Computed:
    """The letters of the one feature that is meant, as its location joins and complements them."""
    found = _meant(features, wanted)
    if len({each.location for each in found}) != 1:
        candidates = [
            one_line(f"{each.kind} {_name(each)} at {each.location}", MAX_NAME_LENGTH)
            for each in (found or features)[:MAX_NAMED]
        ]
        say = "Several features are meant; give kind and name, such as CDS lacZ" if found else "The features begin with"
        listed = "; ".join(candidates)
        raise ToolRefused(
            "unknown-feature" if not found else "ambiguous-feature",
            f"{'No' if not found else f'{len(found)}'} feature is called {quoted(wanted)}. {say}: {listed}."
            if features
            else "The sequence has no features. Give start and end.",
        )
    spans = spans_of(found[0].location)
    length = len(read.letters)
    outside = spans is None or any(not 1 <= place <= length for span in spans for place in span[:2])
    if spans is None or outside or (topology != "circular" and any(start > end for start, end, _ in spans)):
        raise ToolRefused(
            "out-of-range", f"The location {quoted(found[0].location)} can't be read. Give start and end."
        )
    return _extracted(read, spans, _name(found[0]))


def _extracted(read: Nucleotides | Protein, spans: Sequence[Span], name: str) -> Computed:
    """The letters of these spans, one after the other."""
    strands = {strand for _, _, strand in spans}
    if isinstance(read, Protein) and "-" in strands:
        raise ToolRefused("out-of-range", "A protein has no other strand. Give strand=+.")
    letters = "".join(_span(read, *span) for span in spans)
    first, last = (spans[0], spans[-1]) if spans[0][2] == "+" else (spans[-1], spans[0])
    start, end, strand = first[0], last[1], "-" if strands == {"-"} else "+"
    result = {
        "name": read.name,
        "start": start,
        "end": end,
        "strand": strand,
        "parts": [{"start": start, "end": end, "strand": strand} for start, end, strand in spans],
        "crosses_origin": start > end,
        "length": len(letters),
        "letters": kept_letters(letters),
    }
    where = f"{start:,} to {end:,}{', other strand' if strand == '-' else ''}"
    line = f"Positions {where} of {read.title} ({read.size}): **{excerpt(letters)}** ({len(letters):,} letters)"
    product = Product(("letters",), f"{read.title} {name}", letters, read.molecule)
    return Computed(result, line, (read.input(),), (product,))


def _span(read: Nucleotides | Protein, start: int, end: int, strand: str) -> str:
    letters = part_of(read.letters, start, end)
    return letters if strand == "+" else reverse_complement(letters, read.molecule)


def _features(sequence: str) -> Sequence[Feature]:
    return read_features(sequence.features) if isinstance(sequence, KnownSequence) else ()


def _meant(features: Sequence[Feature], wanted: str) -> list[Feature]:
    """The features with this name, exactly; or with this kind and name."""
    found = [each for each in features if wanted in each.names]
    kind, _, name = wanted.partition(" ")
    return found or [each for each in features if each.kind == kind and name in each.names]


def _name(feature: Feature) -> str:
    return one_line(next(iter(feature.names), feature.kind), MAX_NAME_LENGTH)


def _listed(feature: Feature) -> dict[str, object]:
    spans = spans_of(feature.location)
    return {
        "kind": one_line(feature.kind, MAX_NAME_LENGTH),
        "name": _name(feature),
        "start": min(start for start, _, _ in spans) if spans else None,
        "end": max(end for _, end, _ in spans) if spans else None,
        "strand": "-" if spans and all(strand == "-" for _, _, strand in spans) else "+",
    }


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
        "What a sequence is: molecule, length, letter counts, GC, features, SHA-256. All tools take letters or a handle"
        " (seq_17).",
        "Counts of the cleaned letters; protein if a letter is no nucleotide code, RNA if there is U, else DNA; letters"
        " alone are linear, stored sequences as their record says; SHA-256 of the upper-case letters.",
        parameters({"sequence": SEQUENCE}, ["sequence"]),
        sequences=("sequence",),
    ),
    describe_sequence,
)

EXTRACT = Tool(
    ToolSpec(
        "extract",
        1,
        "Part of a sequence: start to end, or a feature.",
        "Letters from start to end, 1-based and inclusive on the strand given; start > end goes over the origin of a"
        " circle; strand - is the reverse complement of that part. A feature is joined and complemented as its record"
        " says.",
        parameters(
            {
                "sequence": SEQUENCE,
                "start": {"type": "integer", "minimum": 1},
                "end": {"type": "integer", "minimum": 1},
                "strand": {"type": "string", "enum": ["+", "-"], "default": "+"},
                "topology": TOPOLOGY,
                "feature": {"type": "string", "description": "Gene, locus_tag or label."},
            },
            ["sequence"],
        ),
        sequences=("sequence",),
    ),
    extract,
)
