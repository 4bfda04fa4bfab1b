"""Sequences as people paste them: how they are cleaned, and why they are refused.

A sequence is letters in IUPAC's code of nucleotides or of residues, perhaps with one FASTA header, spaces, line breaks
and the numbers of GenBank's and EMBL's files. Positions in refusals are 1-based and count the cleaned letters.
"""

import hashlib
import re
import string
import zlib
from dataclasses import dataclass
from functools import cached_property

from baio_domain.entities import SequenceContent, UnstoredSequence
from baio_domain.text import printable, quoted
from baio_domain.tools import ToolInput, ToolRefused

MAX_LENGTH = 10_000_000
"""Letters of the longest sequence."""

MAX_NAME_LENGTH = 100
"""Characters of a FASTA header that are kept."""

BASES = {
    "A": "A", "C": "C", "G": "G", "T": "T", "U": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT",
    "M": "AC", "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT",
}  # fmt: skip
"""The bases that each letter of the nucleotide code stands for (NC-IUB 1984), with T for U."""

_DNA_COMPLEMENT = str.maketrans("ACGTURYSWKMBDHVN", "TGCAAYRSWMKVHDBN")
_RNA_COMPLEMENT = str.maketrans("ACGTURYSWKMBDHVN", "UGCAAYRSWMKVHDBN")

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
"""The 20 residues that every genetic code has, by their letters."""

_AMBIGUOUS_RESIDUES = "BJXZ"
_PROTEIN = frozenset(RESIDUES + _AMBIGUOUS_RESIDUES + "UO*")
_GAPS = "-."
_HANDLE = re.compile(r"\s*seq_\d+\s*", re.IGNORECASE)
_HEADER = re.compile(r"\s*>([^\r\n]*)")
_RECORD = re.compile(r"(?:^|[\r\n])[ \t]*>")
_LINE_BREAKS = "\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_SPACES = "\t\x1f \xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
INVISIBLE = "\xad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
"""What pages and PDF files put where a line may be divided, and other signs that nobody sees."""

_KNOWN = str.maketrans("", "", "".join(BASES) + _GAPS)
_RESIDUES = str.maketrans("", "", "".join(sorted(_PROTEIN - {"*"})))
# Translation is ten times as fast as a regular expression or counting.
_UNWANTED = {
    "line-breaks": str.maketrans("", "", _LINE_BREAKS),
    "spaces": str.maketrans("", "", _SPACES + INVISIBLE),
    "digits": str.maketrans("", "", string.digits),
}
"""What lies between the letters, by the word for it in ``cleaned``."""

_UPPER = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)
_MARKUP = re.compile(r"[^\w.:|+()/-]+")


class KnownSequence(str):
    """The letters of a stored sequence, as a tool is given them, with what else is known of it.

    ``features`` is JSON as ``sequence_files.read_features`` reads it.
    """

    __slots__ = ("features", "molecule", "name", "topology")

    name: str
    molecule: str
    topology: str
    features: bytes

    @classmethod
    def of(cls, letters: str, name: str, molecule: str, topology: str, features: bytes = b"[]") -> "KnownSequence":
        """These letters with these facts."""
        known = cls(letters)
        known.name, known.molecule, known.topology, known.features = name, molecule, topology, features
        return known


@dataclass(frozen=True)
class Cleaned:
    """A cleaned sequence: upper-case letters, its name from the FASTA header, and what was cleaned."""

    letters: str
    name: str | None
    cleaned: tuple[str, ...]

    @property
    def title(self) -> str:
        """What a headline calls it: the first word of its name, as text that no Markdown changes."""
        words = (self.name or "").split()
        return (_MARKUP.sub("", words[0])[:40] if words else "") or "the sequence"

    def input(self, argument: str = "sequence") -> ToolInput:
        """It as the input of a call."""
        digest = hashlib.sha256(self.letters.encode()).hexdigest()
        return ToolInput(argument, self.name, len(self.letters), digest, self.cleaned)


@dataclass(frozen=True)
class Nucleotides(Cleaned):
    """A cleaned nucleotide sequence."""

    @property
    def molecule(self) -> str:
        """RNA if it has a U, else DNA."""
        return "RNA" if "U" in self.letters else "DNA"

    @property
    def dna(self) -> str:
        """Its letters with T for U."""
        return self.letters.replace("U", "T")

    @property
    def size(self) -> str:
        """Its length as a headline shows it."""
        return f"{len(self.letters):,} nt"

    @cached_property
    def ambiguous(self) -> int:
        """How many letters stand for more than one base."""
        return len(self.letters) - count(self.letters, "ACGTU")


@dataclass(frozen=True)
class Protein(Cleaned):
    """A cleaned protein; J is I or L, U selenocysteine, O pyrrolysine."""

    molecule = "protein"

    @property
    def size(self) -> str:
        """Its length as a headline shows it."""
        return f"{len(self.letters):,} aa"

    @property
    def ambiguous(self) -> int:
        """How many letters stand for more than one residue."""
        return count(self.letters, _AMBIGUOUS_RESIDUES)


def unstored(
    letters: str,
    name: str,
    molecule: str,
    topology: str,
    *,
    description: str = "",
    features: bytes = b"[]",
    feature_count: int = 0,
) -> UnstoredSequence:
    """A sequence as it is stored. This compresses its letters."""
    data = letters.encode()
    return UnstoredSequence(
        name,
        description,
        molecule,
        topology,
        len(letters),
        feature_count,
        hashlib.sha256(data).hexdigest(),
        len(data) + len(features),
        SequenceContent(zlib.compress(data, 1), zlib.compress(features, 1)),
    )


def nucleotides(text: str, *, gaps: bool = False) -> Nucleotides:
    """Read a nucleotide sequence; with ``gaps``, "-" is a letter of it.

    Raises ToolRefused: ``empty-sequence``, ``several-sequences``, ``unknown-handle``, ``too-long``,
    ``not-a-nucleotide-sequence``, ``gaps``, ``mixed-dna-rna``, or ``ambiguous-sequence`` if more than a quarter of the
    letters are none of A, C, G, T, U and N: many peptides are spelt with the letters of the code. What is stored is
    what its record says.
    """
    stored_as = text.molecule if isinstance(text, KnownSequence) else None
    if stored_as == "protein":
        raise ToolRefused("not-a-nucleotide-sequence", "The sequence is stored as a protein. Give DNA or RNA.")
    sequence = Nucleotides(*_letters(text))
    letters = sequence.letters
    _refuse_other_letters(letters, gaps=gaps)
    _refuse_mixture(letters)
    plain = count(letters, "ACGTUN-")
    if stored_as is None and (len(letters) - plain) * 4 > len(letters):
        raise ToolRefused(
            "ambiguous-sequence",
            f"{len(letters) - plain} of {len(letters)} letters are none of A, C, G, T, U and N, more than a quarter."
            " It may be a peptide. Give a nucleotide sequence.",
        )
    return sequence


def cleaned_letters(text: str) -> str:
    """The upper-case letters that cleaning leaves of a text, whatever they are.

    Text that can be no sequence, such as several FASTA records, is left as it is.
    """
    try:
        return _letters(text)[0]
    except ToolRefused:
        return text


def pattern(text: str) -> Nucleotides:
    """Read a motif or a primer in IUPAC's code, however many of its letters stand for several bases.

    Raises ToolRefused as ``nucleotides`` does, except ``ambiguous-sequence``.
    """
    sequence = Nucleotides(*_letters(text))
    _refuse_other_letters(sequence.letters, gaps=False)
    _refuse_mixture(sequence.letters)
    return sequence


def protein(text: str) -> Protein:
    """Read a protein; one stop sign at its end is cleaned away.

    Raises ToolRefused: ``empty-sequence``, ``several-sequences``, ``unknown-handle``, ``too-long``, ``gaps``, or
    ``not-a-protein-sequence``.
    """
    if isinstance(text, KnownSequence) and text.molecule != "protein":
        raise ToolRefused(
            "not-a-protein-sequence",
            f"The sequence is stored as {text.molecule}. Translate it; or if it is a protein, add it with"
            " molecule=protein.",
        )
    letters, name, cleaned = _letters(text)
    if letters.endswith("*"):
        letters, cleaned = letters[:-1], (*cleaned, "stop")
    if not letters:
        raise ToolRefused("empty-sequence", "There is a stop sign and no residue before it. Give the residues.")
    gap = first_position(letters, _GAPS)
    if gap:
        raise ToolRefused("gaps", _gap(letters, gap))
    other = letters.translate(_RESIDUES)
    if other:
        what = "is a stop inside of the protein" if other[0] == "*" else "is no residue"
        raise ToolRefused(
            "not-a-protein-sequence",
            f"{quoted(other[0])} at position {letters.index(other[0]) + 1} {what}. Give one protein, one letter each.",
        )
    return Protein(letters, name, cleaned)


def nucleotides_or_protein(text: str) -> Nucleotides | Protein:
    """Read a sequence of either kind: a protein if a letter of it is no nucleotide code.

    Raises ToolRefused as ``nucleotides`` and ``protein`` do.
    """
    if isinstance(text, KnownSequence) and text.molecule == "protein":
        return protein(text)
    try:
        return nucleotides(text)
    except ToolRefused as refused:
        if refused.error != "not-a-nucleotide-sequence":
            raise
        return protein(text)


def bare_letters(text: str) -> str:
    """What is left of a text without spaces, line breaks and digits, in upper case."""
    for unwanted in _UNWANTED.values():
        text = text.translate(unwanted)
    return text.translate(_UPPER)


def molecule_of(letters: str, *, may_be_protein: bool = True) -> str:
    """What upper-case letters are most likely: a protein if many of them are no usual nucleotides, else RNA or DNA."""
    plain = count(letters, "ACGTUN-.")
    if may_be_protein and (letters.translate(_KNOWN) or (len(letters) - plain) * 4 > len(letters)):
        return "protein"
    return "RNA" if "U" in letters and "T" not in letters else "DNA"


def why_no_sequence(letters: str, molecule: str) -> tuple[int, str] | None:
    """The index of the first letter that such a molecule has not, and why; None if all are right."""
    other = letters.translate(_RESIDUES if molecule == "protein" else _KNOWN)
    if other:
        what = "residue" if molecule == "protein" else "nucleotide code"
        return letters.index(other[0]), f"{quoted(other[0])} is no {what}"
    gap = first_position(letters, _GAPS)
    if gap:
        return gap - 1, f"a gap ({letters[gap - 1]}); remove the gaps"
    absent = {"DNA": "U", "RNA": "T"}.get(molecule, "")
    if absent and absent in letters:
        return letters.index(absent), f"{absent} in {molecule}"
    return None


def reverse_complement(letters: str, molecule: str = "DNA") -> str:
    """The other strand of a cleaned sequence, from its 5' end; RNA stays RNA."""
    return letters.translate(_RNA_COMPLEMENT if molecule == "RNA" else _DNA_COMPLEMENT)[::-1]


def count(letters: str, wanted: str) -> int:
    """How many letters are one of these letters of ASCII."""
    encoded = letters.encode("utf-8", "surrogatepass")
    return len(encoded) - len(encoded.translate(None, wanted.encode()))


def first_position(letters: str, wanted: str) -> int:
    """The position of the first letter that is one of those wanted, 0 if there is none."""
    found = [letters.find(letter) + 1 for letter in wanted if letter in letters]
    return min(found, default=0)


def _letters(text: str) -> tuple[str, str | None, tuple[str, ...]]:
    """The letters of a text, its name, and what was cleaned; refused if there is no letter, or too many."""
    if isinstance(text, KnownSequence):
        return str(text), text.name, ()
    if _HANDLE.fullmatch(text):
        raise ToolRefused("unknown-handle", f"There is no sequence {quoted(text.strip())}. Give its letters.")
    cleaned = []
    name = None
    body = text.lstrip("\ufeff")
    header = _HEADER.match(body)
    if header:
        cleaned.append("header")
        body = body[header.end() :]
        name = printable(" ".join(header[1].split())[:MAX_NAME_LENGTH].strip()) or None
    if ">" in body and _RECORD.search(body):
        raise ToolRefused("several-sequences", "There is more than one FASTA record. Give one sequence for each call.")
    for what, unwanted in _UNWANTED.items():
        before, body = len(body), body.translate(unwanted)
        if len(body) < before:
            cleaned.append(what)
    upper = body.translate(_UPPER)
    if upper != body:
        cleaned.append("case")
    if not upper:
        raise ToolRefused("empty-sequence", _nothing(cleaned))
    if len(upper) > MAX_LENGTH:
        raise ToolRefused("too-long", f"The sequence has {len(upper):,} letters; at most {MAX_LENGTH:,} are possible.")
    return upper, name, tuple(cleaned)


def _nothing(cleaned: list[str]) -> str:
    if "header" in cleaned:
        return "There is a FASTA header and no letter below it. Put the sequence on the lines after the header."
    return "The sequence has no letter. Give its letters."


def _refuse_other_letters(letters: str, *, gaps: bool) -> None:
    other = letters.translate(_KNOWN)
    gap = first_position(letters, "." if gaps else _GAPS)
    if other:
        position = letters.index(other[0]) + 1
        are = "letter is" if len(letters) == 1 else "letters is" if len(other) == 1 else "letters are"
        hint = " It looks like a protein." if _PROTEIN.issuperset(letters) else " Give letters of the IUPAC code alone."
        how_many = f"{len(other)} of {len(letters)} {are} none."
        raise ToolRefused(
            "not-a-nucleotide-sequence",
            f"{quoted(other[0])} at position {position} is no nucleotide code; {how_many}{hint}",
        )
    if gap:
        raise ToolRefused("gaps", _gap(letters, gap))


def _gap(letters: str, position: int) -> str:
    return f"There is a gap ({letters[position - 1]}) at position {position}. Give the sequence without gaps."


def _refuse_mixture(letters: str) -> None:
    if "T" in letters and "U" in letters:
        raise ToolRefused(
            "mixed-dna-rna",
            f"There is T (first at position {first_position(letters, 'T')}) and U (first at position"
            f" {first_position(letters, 'U')}). Give DNA with T or RNA with U.",
        )
