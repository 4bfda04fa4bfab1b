"""Files of sequences: FASTA, GenBank, EMBL, FASTQ and bare letters are read, FASTA and GenBank are written.

A file is read as a whole or refused as a whole, with the line and the reason. Reading and writing take CPU time in
proportion to the file; both are run where that costs no other request (``SequenceFiles``).
"""

import hashlib
import json
import re
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import Protocol

from baio_domain.entities import SequenceContent, StoredSequence, UnstoredSequence
from baio_domain.errors import FieldError, SequenceFileRefused, TooManyFeatures, TooManyRecords
from baio_domain.sequences import MAX_LENGTH, MAX_NAME_LENGTH, bare_letters, molecule_of, unstored, why_no_sequence
from baio_domain.text import one_line

FORMATS = ("fasta", "genbank", "embl", "fastq", "letters")
MOLECULES = ("DNA", "RNA", "protein")
TOPOLOGIES = ("linear", "circular")

MAX_RECORDS = 1_000
"""Sequences of one file."""

MAX_FEATURES = 200_000
"""Features of one file."""

MAX_DESCRIPTION_LENGTH = 255

_LINE_LETTERS = 60

_AS_LETTERS = "read as letters alone, as it begins with no > (FASTA), LOCUS (GenBank), ID (EMBL) or @ (FASTQ)"


@dataclass(frozen=True, slots=True)
class SequenceFile:
    """A file to read. What is None is found out from the contents.

    ``name`` and ``topology`` are those of its only sequence, in place of what the file says. ``molecule`` is that of
    every sequence.
    """

    content: str
    format: str | None = None
    name: str | None = None
    molecule: str | None = None
    topology: str | None = None


@dataclass(frozen=True, slots=True)
class Feature:
    """An annotated part of a sequence, as in GenBank's and EMBL's feature table.

    ``location`` is as in the file, such as ``complement(join(1..9,20..30))``. Of the qualifiers, ``translation`` is not
    kept.
    """

    kind: str
    location: str
    qualifiers: Sequence[Sequence[str]] = ()

    @property
    def names(self) -> list[str]:
        """What it is called: the values of ``gene``, ``locus_tag``, ``label`` and ``product``, in this order."""
        return [value for wanted in _NAMES for key, value in self.qualifiers if key == wanted]


_NAMES = ("gene", "locus_tag", "label", "product")


@dataclass(frozen=True, slots=True)
class FileContents:
    """What was read from a file: its format, the SHA-256 of its text, and its sequences."""

    format: str
    sha256: str
    sequences: Sequence[UnstoredSequence]


class SequenceFiles(Protocol):
    """Reads and writes files of sequences without keeping anybody else waiting."""

    @abstractmethod
    async def read(self, file: SequenceFile) -> FileContents:
        """What ``read_file`` returns. Raises what it raises, or Unavailable if too much is waiting."""

    @abstractmethod
    async def write(self, sequence: StoredSequence, content: SequenceContent, part: "Part") -> bytes:
        """What ``write_part`` returns. Raises Unavailable if too much is waiting."""


def read_file(file: SequenceFile) -> FileContents:
    """The sequences of a file, in its order.

    Raises SequenceFileRefused, TooManyRecords or TooManyFeatures. A second sequence is refused where the file's name or
    topology is given, which belong to one.
    """
    # DOS programs end their files with a sign of their own.
    text = file.content.removeprefix("\ufeff").rstrip("\x1a\0").replace("\r\n", "\n").replace("\r", "\n")
    format_ = file.format or _format_of(text)
    sequences: list[UnstoredSequence] = []
    features = 0
    for record in _READERS[format_](text):
        if len(sequences) == MAX_RECORDS:
            raise TooManyRecords.at(record.line, f"more than {MAX_RECORDS:,} sequences; divide the file")
        if sequences and (file.name is not None or file.topology is not None):
            raise SequenceFileRefused.at(record.line, "a second sequence; a name or a topology is that of one")
        features += len(record.features)
        if features > MAX_FEATURES:
            raise TooManyFeatures.at(record.line, f"more than {MAX_FEATURES:,} features; divide the file")
        try:
            sequences.append(_checked(record, file, text))
        except SequenceFileRefused as refused:
            if format_ != "letters" or file.format is not None:
                raise
            raise SequenceFileRefused.at(refused.line, f"{refused.reason}; {_AS_LETTERS}") from None
    if not sequences:
        raise SequenceFileRefused.at(1, f"no sequence in a file of the format {format_}")
    return FileContents(format_, hashlib.sha256(text.encode()).hexdigest(), sequences)


@dataclass(slots=True)
class _Record:
    """A sequence as it stands in a file.

    ``line`` is that of its first line. ``letters`` are upper case, with whatever is none between them; they come from
    the text between ``start`` and ``end``.
    """

    line: int
    name: str
    description: str
    letters: str
    start: int
    end: int
    topology: str = "linear"
    length: int | None = None
    protein: bool | None = None
    features: Sequence[Feature] = ()


def _format_of(text: str) -> str:
    first = text.lstrip()
    if first.startswith(("LOCUS ", "LOCUS\t")):
        return "genbank"
    if re.match(r"ID[ \t]{2,}\S", first):
        return "embl"
    if first.startswith((";", "#")) and _GREATER.search(first):
        return "fasta"
    return {">": "fasta", ";": "fasta", "@": "fastq"}.get(first[:1], "letters")


def _line_at(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


def _checked(record: _Record, file: SequenceFile, text: str) -> UnstoredSequence:
    """The sequence, if its letters are some, and as many as the file says."""
    letters = record.letters
    if not letters:
        raise SequenceFileRefused.at(record.line, "a sequence without letters")
    if record.length is not None and record.length != len(letters):
        said = f"the record says {record.length:,} letters, and has {len(letters):,}"
        raise SequenceFileRefused.at(record.line, said)
    if len(letters) > MAX_LENGTH:
        said = f"a sequence of {len(letters):,} letters; at most {MAX_LENGTH:,} are possible"
        raise SequenceFileRefused.at(record.line, said)
    molecule = file.molecule or ("protein" if record.protein else None)
    if molecule is None:
        molecule = molecule_of(letters, may_be_protein=record.protein is None)
    if molecule == "protein" and letters.endswith("*"):
        letters = letters[:-1]
    wrong = why_no_sequence(letters, molecule)
    if wrong is not None:
        index, reason = wrong
        raise SequenceFileRefused.at(_line_of_letter(text, record, index), reason)
    return unstored(
        letters,
        file.name or one_line(record.name, MAX_NAME_LENGTH) or "sequence",
        molecule,
        file.topology or record.topology,
        description=one_line(record.description, MAX_DESCRIPTION_LENGTH),
        features=_features_json(record.features),
        feature_count=len(record.features),
    )


def _line_of_letter(text: str, record: _Record, index: int) -> int:
    """The line of a letter, by its index in the record's letters."""
    passed = 0
    for number, line in enumerate(text[record.start : record.end].split("\n"), _line_at(text, record.start)):
        passed += len(bare_letters(line))
        if passed > index:
            return number
    return record.line


def _features_json(features: Sequence[Feature]) -> bytes:
    plain = [{"kind": each.kind, "location": each.location, "qualifiers": each.qualifiers} for each in features]
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()


# -- FASTA, FASTQ, letters ---------------------------------------------------------------------------------------------


def _fasta(text: str) -> Iterator[_Record]:
    if _GREATER.search(text):
        # Other lines with a sign are comments. Blanks in their place keep the lines and the places of all letters.
        text = _COMMENT.sub(lambda found: " " * len(found[0]), text)
    first = _HEADER.search(text)
    if text[: first.start() if first else None].strip():
        raise SequenceFileRefused.at(_line_at(text, _blanks(text)), "letters before the first header")
    line, counted = 1, 0
    for header, following in pairwise(chain(_HEADER.finditer(text), [None])):
        assert header is not None  # noqa: S101 - only the last one is; this tells the type checker
        line, counted = line + text.count("\n", counted, header.start()), header.start()
        start, end = header.end(), following.start() if following else len(text)
        name, description = _name_and_rest(header[1])
        topology = "circular" if _CIRCULAR.search(description) else "linear"
        yield _Record(line, name, description, bare_letters(text[start:end]), start, end, topology)


_CIRCULAR = re.compile(r"\b(?:topology=circular|circular=(?:true|yes))\b", re.IGNORECASE)
_HEADER = re.compile(r"^[ \t]*[>;](.*)$", re.MULTILINE)
_GREATER = re.compile(r"^[ \t]*>", re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*[;#].*$", re.MULTILINE)


def _name_and_rest(header: str) -> tuple[str, str]:
    """The first word of a header, and what follows it; some programs put a tab between them."""
    name, *rest = header.split(maxsplit=1) or [""]
    return name, "".join(rest).strip()


def _fastq(text: str) -> Iterator[_Record]:
    """Records of four lines; letters and qualities may also have several lines each, as some programs write them."""
    lines = text.rstrip().split("\n")
    starts = list(accumulate((len(line) + 1 for line in lines), initial=0))
    number = 0
    while number < len(lines):
        begin = end = number + 1
        while end < len(lines) and not lines[end].startswith(("+", "@")):
            end += 1
        if not lines[number].startswith("@") or end == len(lines) or lines[end][0] != "+":
            raise SequenceFileRefused.at(number + 1, "no FASTQ record of @name, letters, +, qualities")
        letters = bare_letters("".join(lines[begin:end]))
        name, description = _name_and_rest(lines[number][1:])
        yield _Record(number + 1, name, description, letters, starts[begin], starts[end])
        number = _behind_qualities(lines, end + 1, len(letters))


def _behind_qualities(lines: Sequence[str], first: int, wanted: int) -> int:
    """The index behind the lines of a record's qualities, which are as many as its letters."""
    found, behind = 0, first
    while behind < len(lines):
        line = lines[behind]
        more = len(line.strip())
        if behind > first and line.startswith("@") and found + more > wanted:
            break  # the sign is a quality, too: here the next record begins
        found, behind = found + more, behind + 1
        if found >= wanted:
            break
    if found != wanted:
        raise SequenceFileRefused.at(behind, f"{found} qualities for {wanted} letters")
    return behind


def _letters_alone(text: str) -> Iterator[_Record]:
    if text.strip():
        line = _line_at(text, _blanks(text))
        yield _Record(line, "", "", bare_letters(text), 0, len(text))


# -- GenBank and EMBL --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _FlatFile:
    """What tells the two flat files apart: where the features are, and where the letters begin."""

    first_line: re.Pattern[str]
    features: re.Pattern[str]
    origin: re.Pattern[str]
    description: re.Pattern[str]
    prefix: str
    wanted: str


_GENBANK = _FlatFile(
    re.compile(r"LOCUS\s+(?P<name>.*?)(?P<gap>\s*)(?P<length>\d+)\s+(?P<unit>bp|aa|rc)\b(?P<rest>.*)", re.IGNORECASE),
    re.compile(r"^FEATURES\b.*\n", re.MULTILINE),
    re.compile(r"^ORIGIN\b.*\n?", re.MULTILINE),
    re.compile(r"^DEFINITION +((?:.*\n)(?: {12}.*\n)*)", re.MULTILINE),
    " ",
    "LOCUS       name  length bp  DNA  linear",
)
_EMBL = _FlatFile(
    re.compile(r"ID\s+(?P<name>[^;\s]+)(?P<gap>[;\s])(?P<rest>.*?)(?P<length>\d+)\s+(?P<unit>bp|aa)\b", re.IGNORECASE),
    re.compile(r"^(?=FT   \S)", re.MULTILINE),
    re.compile(r"^SQ\b.*\n?", re.MULTILINE),
    re.compile(r"^DE +((?:.*\n)(?:DE .*\n)*)", re.MULTILINE),
    "FT",
    "ID   name; SV 1; linear; DNA; STD; class; length BP.",
)
_END = re.compile(r"^//[^\n]*$", re.MULTILINE)

_FIRST_LINE = 1_000
"""Characters of a record's first line that are read: the time to find its length grows with their square."""


def _genbank(text: str) -> Iterator[_Record]:
    return _flat_file(text, _GENBANK)


def _embl(text: str) -> Iterator[_Record]:
    return _flat_file(text, _EMBL)


def _flat_file(text: str, layout: _FlatFile) -> Iterator[_Record]:
    begin = 0
    for mark in _END.finditer(text):
        at = begin + _blanks(text[begin : mark.start()])
        if at < mark.start():
            yield _flat_record(text, layout, _line_at(text, at), at, mark.start())
        begin = mark.end()
    if text[begin:].strip():
        why = "the last record does not end with //; the file may be cut off"
        raise SequenceFileRefused.at(_line_at(text, len(text.rstrip())), why)


def _blanks(text: str) -> int:
    """How many blank characters it begins with."""
    return len(text) - len(text.lstrip())


def _flat_record(text: str, layout: _FlatFile, line: int, start: int, end: int) -> _Record:
    first = text[start : text.find("\n", start)][:_FIRST_LINE]
    head = layout.first_line.match(first)
    if head is None:
        raise SequenceFileRefused.at(line, f"no first line such as {layout.wanted!r}")
    origin = layout.origin.search(text, start, end)
    if origin is None:
        raise SequenceFileRefused.at(line, "a record without letters (no ORIGIN or SQ); download it with its sequence")
    table = layout.features.search(text, start, origin.start())
    above = text[start : table.start() if table else origin.start()]
    words = head["rest"].replace(";", " ").split()
    letters = bare_letters(text[origin.end() : end])
    name, length = head["name"], head["length"]
    if not head["gap"] and length.endswith(str(len(letters))):
        # Some programs leave no space between a long name and the length.
        name, length = name + length.removesuffix(str(len(letters))), str(len(letters))
    return _Record(
        line,
        name,
        _described(above, layout),
        letters,
        origin.end(),
        end,
        "circular" if "circular" in (word.lower() for word in words) else "linear",
        int(length),
        head["unit"].lower() == "aa",
        _features(text[table.end() : origin.start()], layout.prefix) if table else (),
    )


def _described(above: str, layout: _FlatFile) -> str:
    """The record's description, from the lines above its features."""
    found = layout.description.search(above)
    lines = found[1].splitlines() if found else []
    return " ".join(line.removeprefix("DE").strip() for line in lines).removesuffix(".")


def _features(table: str, prefix: str) -> list[Feature]:
    """The features of a table, whose lines have a feature's kind from column 6 and everything else from column 22.

    Other columns are taken as well: kinds are longer in some programs' files, and qualifiers begin elsewhere. What is
    no line of the table ends it, unless it is blank or stands in the middle of a quoted value.
    """
    found: list[tuple[str, list[str], list[list[str]]]] = []
    still_open = False
    for line in table.expandtabs().split("\n"):
        inside = line.startswith(prefix)
        if not line.strip():
            continue
        if not inside and not still_open:
            break
        body = (line[len(prefix) :] if inside else line).strip()
        if inside and line[len(prefix) : 21].strip() and not body.startswith("/"):
            kind, _, where = body.partition(" ")
            found.append((kind, [where.strip()], []))
            still_open = False
        elif not found:
            continue
        elif body.startswith("/") and (not still_open or _is_next(body, found[-1][2][-1][-1])):
            found[-1][2].append([body])
            still_open = _is_open(body)
        elif found[-1][2]:
            found[-1][2][-1].append(body)
            if still_open:
                still_open = body.count('"') % 2 == 0
        else:
            found[-1][1].append(body)
    return [_feature(*each) for each in found]


def _is_next(body: str, before: str) -> bool:
    """Whether a qualifier begins behind one that ends with a mark and has others, which some programs don't double."""
    return before.endswith('"') and not before.endswith('""') and bool(_QUALIFIER.match(body))


_QUALIFIER = re.compile(r"/\w+(?:=|$)")


def _is_open(body: str) -> bool:
    return body.count('"') % 2 == 1


def _feature(kind: str, where: Sequence[str], pieces: Sequence[Sequence[str]]) -> Feature:
    qualifiers = _qualifiers(pieces)
    old = _FROM_TO.fullmatch(" ".join(where))
    if old:
        note = [("note", old[3])] if old[3] else []
        return Feature(kind, f"{old[1]}..{old[2]}", note + qualifiers)
    return Feature(kind, "".join("".join(where).split()), qualifiers)


_FROM_TO = re.compile(r"([<>?]?\d+|\?) +([<>?]?\d+|\?)(?: +(.*))?")
"""A location and a description in UniProt's files of before 2020, in columns."""


def _qualifiers(pieces: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    read = []
    for lines in pieces:
        key, _, value = (part.strip() for part in " ".join(lines)[1:].partition("="))
        if key == "translation":
            continue
        if value.startswith('"'):
            value = value[1:].removesuffix('"').replace('""', '"')
        read.append((key, value))
    return read


_READERS = {"fasta": _fasta, "genbank": _genbank, "embl": _embl, "fastq": _fastq, "letters": _letters_alone}


# -- Writing -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a sequence to write: from ``start`` to ``end``, 1-based and inclusive, over the origin if start > end.

    ``features_after`` skips that many features of the part. It and ``with_letters`` are for JSON alone.
    """

    format: str
    start: int
    end: int
    features_after: int = 0
    with_letters: bool = True

    def size(self, length: int) -> int:
        """How many letters it has, of a sequence of this length."""
        return self.end - self.start + 1 if self.start <= self.end else length - self.start + 1 + self.end


FEATURES_SHOWN = 500
"""Features of a part that are written as JSON."""


def features_of(content: SequenceContent) -> list[Feature]:
    """The features of a stored sequence."""
    return read_features(zlib.decompress(content.features))


def read_features(stored: bytes) -> list[Feature]:
    """Features from their JSON."""
    return [Feature(each["kind"], each["location"], each["qualifiers"]) for each in json.loads(stored)]


def write_part(sequence: StoredSequence, content: SequenceContent, part: Part) -> bytes:
    """The part as UTF-8: FASTA, GenBank, or the JSON of its ``letters`` and ``features``.

    Features that lie in the part as a whole are written, with positions in the part for FASTA and GenBank, and in the
    sequence for JSON.
    """
    letters = part_of(zlib.decompress(content.letters).decode(), part.start, part.end)
    if part.format == "fasta":
        return _written_fasta(sequence, letters, part)
    features = features_of(content)
    whole = part.start == 1 and part.end == sequence.length
    if part.format == "genbank":
        moved = features if whole else [f for each in features if (f := _moved(each, part, sequence.length))]
        return _written_genbank(sequence, letters, moved, part)
    inside = features if whole else [each for each in features if _moved(each, part, sequence.length)]
    shown = inside[part.features_after : part.features_after + FEATURES_SHOWN]
    listed = [
        {"kind": each.kind, "location": each.location, "qualifiers": [list(pair) for pair in each.qualifiers]}
        for each in shown
    ]
    shown_letters = letters if part.with_letters else None
    return json.dumps({"letters": shown_letters, "features": listed, "features_total": len(inside)}).encode()


def part_of(letters: str, start: int, end: int) -> str:
    """The letters from start to end, over the origin if start > end."""
    return letters[start - 1 : end] if start <= end else letters[start - 1 :] + letters[:end]


def _moved(feature: Feature, part: Part, length: int) -> Feature | None:
    """The feature with positions in the part, or None if it is not wholly in it."""
    if _NO_PLACE.search(feature.location):
        return None
    size, inside = part.size(length), True

    def move(piece: re.Match[str]) -> str:
        nonlocal inside
        first, between, last = piece[1], piece[2] or "", piece[3] or piece[1]
        start, end = ((int(place) - part.start) % length + 1 for place in (first, last))
        # A piece that begins and ends in a part over the origin can lie around what the part leaves out.
        inside = inside and start <= end <= size
        return f"{start}{between}{end}" if between else str(start)

    location = re.sub(r"(\d+)(?:(\.\.[<>]?|[.^])(\d+))?", move, feature.location)
    return Feature(feature.kind, location, feature.qualifiers) if inside else None


def _written_fasta(sequence: StoredSequence, letters: str, part: Part) -> bytes:
    whole = len(letters) == sequence.length and part.start == 1
    where = "" if whole else f" {part.start}..{part.end}"
    header = " ".join(filter(None, [sequence.name.replace(" ", "_"), sequence.description]))
    lines = [letters[index : index + _LINE_LETTERS] for index in range(0, len(letters), _LINE_LETTERS)]
    return "\n".join([f">{header}{where}", *lines, ""]).encode()


def _written_genbank(sequence: StoredSequence, letters: str, features: Sequence[Feature], part: Part) -> bytes:
    whole = len(letters) == sequence.length and part.start == 1
    topology = sequence.topology if whole else "linear"
    unit = "aa" if sequence.molecule == "protein" else "bp"
    molecule = "   " if sequence.molecule == "protein" else sequence.molecule
    name, day = sequence.name.replace(" ", "_"), f"{sequence.created_at:%d-%b-%Y}".upper()
    lines = [
        f"LOCUS       {name:<16} {len(letters):>11} {unit}    {molecule:<6}  {topology:<8} UNK {day}",
        f"DEFINITION  {sequence.description or sequence.name}.",
        "FEATURES             Location/Qualifiers",
    ]
    for feature in features:
        lines += _wrapped(f"     {feature.kind:<15} ", feature.location, ",")
        for key, value in feature.qualifiers:
            escaped = value.replace('"', '""')
            said = f"/{key}" if not value else f"/{key}={value}" if value.isdecimal() else f'/{key}="{escaped}"'
            lines += _wrapped(" " * 21, said, " ")
    lines.append("ORIGIN")
    lower = letters.lower()
    for index in range(0, len(lower), _LINE_LETTERS):
        line = lower[index : index + _LINE_LETTERS]
        lines.append(f"{index + 1:>9} " + " ".join(line[place : place + 10] for place in range(0, len(line), 10)))
    lines += ["//", ""]
    return "\n".join(lines).encode()


def _wrapped(first: str, text: str, at: str) -> list[str]:
    """Lines of at most 80 columns, divided only behind ``at``: every program reads a divided word as two."""
    width, place, lines = 80 - 21, 0, []
    while len(text) - place > width:
        cut = text.rfind(at, place + 1, place + width) + 1 or text.find(at, place + width) + 1 or len(text)
        lines.append(text[place:cut].rstrip())
        place = cut
    lines += [text[place:]] if place < len(text) else []
    return [f"{first if not number else ' ' * 21}{line}" for number, line in enumerate(lines)]


# -- Locations ---------------------------------------------------------------------------------------------------------

Span = tuple[int, int, str]
"""Start, end and strand of one piece of a feature, 1-based and inclusive on the + strand."""

_PIECE = re.compile(r"[<>]?(\d{1,12})(?:\.\.[<>]?(\d{1,12})|\^\d+)?")
_NO_PLACE = re.compile(r":|\d{13}")
_MAX_DEPTH = 8
"""Parentheses in each other; a location has three at most."""


def spans_of(location: str, depth: int = 0) -> list[Span] | None:
    """The pieces of a location in the order in which they are read; None if it is on another sequence, or unclear."""
    if depth > _MAX_DEPTH:
        return None
    inner = _inside("complement", location)
    if inner is not None:
        spans = spans_of(inner, depth + 1)
        return None if spans is None else [(start, end, _OTHER[strand]) for start, end, strand in reversed(spans)]
    for word in ("join", "order"):
        inner = _inside(word, location)
        if inner is not None:
            parts = [spans_of(each, depth + 1) for each in _divided(inner)]
            return None if None in parts else [span for part in parts for span in part or ()]
    piece = _PIECE.fullmatch(location)
    if piece is None or "^" in location:
        return None
    start = int(piece[1])
    return [(start, int(piece[2] or start), "+")]


_OTHER = {"+": "-", "-": "+"}


def _inside(word: str, location: str) -> str | None:
    return location[len(word) + 1 : -1] if location.startswith(f"{word}(") and location.endswith(")") else None


def _divided(text: str) -> list[str]:
    """The parts between the commas that are in no parentheses."""
    places, depth = [-1], 0
    for found in re.finditer(r"[(),]", text):
        depth += (found[0] == "(") - (found[0] == ")")
        if found[0] == "," and not depth:
            places.append(found.start())
    return [text[start + 1 : end] for start, end in pairwise([*places, len(text)])]


def name_problems(name: str) -> Iterator[FieldError]:
    """Why a sequence can't have this name, which is on its way to a model: one line of text that can be shown."""
    if not name.strip():
        yield FieldError("name", "must not be blank")
    elif len(name) > MAX_NAME_LENGTH:
        yield FieldError("name", f"must have at most {MAX_NAME_LENGTH} characters")
    elif not name.isprintable() or name != name.strip():
        yield FieldError("name", "must be one line of printable characters, without spaces around it")
