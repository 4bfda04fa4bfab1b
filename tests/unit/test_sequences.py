"""What is cleaned away from a pasted sequence, and what is refused."""

import hashlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baio_domain.sequences import BASES, MAX_LENGTH, nucleotides, reverse_complement
from baio_domain.tools import ToolInput, ToolRefused

GENBANK = """\
        1 gatcctccat atacaacggt
       21 atctccacct
"""


@pytest.mark.parametrize(
    ("pasted", "letters", "cleaned"),
    [
        ("ACGT", "ACGT", ()),
        ("acgtN", "ACGTN", ("case",)),
        (" ACG T\t", "ACGT", ("spaces",)),
        ("AC\u00a0GT\u200b", "ACGT", ("spaces",)),
        ("ACG\r\nT\n", "ACGT", ("line-breaks",)),
        ("1 ACGT 4", "ACGT", ("spaces", "digits")),
        (GENBANK, "GATCCTCCATATACAACGGTATCTCCACCT", ("line-breaks", "spaces", "digits", "case")),
        (">pUC19\nACGT", "ACGT", ("header", "line-breaks")),
        ("\ufeff\n >pUC19\r\nACGU", "ACGU", ("header", "line-breaks")),
    ],
)
def test_what_surrounds_the_letters_is_cleaned_away_and_named(
    pasted: str, letters: str, cleaned: tuple[str, ...]
) -> None:
    read = nucleotides(pasted)
    assert (read.letters, read.cleaned) == (letters, cleaned)


def test_the_input_has_the_name_and_the_hash_of_the_clean_letters() -> None:
    read = nucleotides(">pUC19  cloning\tvector\nacgt")
    assert read.input("a") == ToolInput(
        "a", "pUC19 cloning vector", 4, hashlib.sha256(b"ACGT").hexdigest(), ("header", "line-breaks", "case")
    )


@pytest.mark.parametrize(
    ("header", "name", "title"),
    [
        (">", None, "the sequence"),
        (">sp|P04637.4|P53_HUMAN Tumor antigen", "sp|P04637.4|P53_HUMAN Tumor antigen", "sp|P04637.4|P53_HUMAN"),
        (">**x**<b>[y](z) `q`", "**x**<b>[y](z) `q`", "xby(z)"),
        (">" + "n" * 300, "n" * 100, "n" * 40),
        (">a\u202eb", "a\ufffdb", "ab"),
    ],
)
def test_a_name_is_short_and_can_be_shown_and_a_headline_takes_no_markup_from_it(
    header: str, name: str | None, title: str
) -> None:
    read = nucleotides(f"{header}\nACGT")
    assert (read.name, read.title) == (name, title)


@pytest.mark.parametrize(
    ("text", "error", "detail"),
    [
        ("", "empty-sequence", "no letter"),
        (" 12 \n", "empty-sequence", "no letter"),
        (">pUC19 ACGT", "empty-sequence", "lines after the header"),
        (">a\nACGT\n>b\nACGT", "several-sequences", "more than one"),
        ("ACGT\n>b\nACGT", "several-sequences", "more than one"),
        (">a\rACGT\r  >b\rACGT", "several-sequences", "more than one"),
        ("\n" * 200_000 + "A>", "not-a-nucleotide-sequence", "> at position 2"),
        ("seq_17", "unknown-handle", "no sequence seq_17"),
        ("MEEPQSDPSV", "not-a-nucleotide-sequence", "E at position 2 is no nucleotide code; 5 of 10 letters are none."),
        ("ACGT J", "not-a-nucleotide-sequence", "J at position 5 is no nucleotide code; 1 of 5 letters is none."),
        ("5'-ACGT-3'", "not-a-nucleotide-sequence", "' at position 1 is no"),
        ("ACGTAÇGT", "not-a-nucleotide-sequence", "Ç at position 6"),
        ("AC-GT", "gaps", "(-) at position 3"),
        ("AC..GT", "gaps", "(.) at position 3"),
        ("ACGU\nACGT", "mixed-dna-rna", "T (first at position 8) and U (first at position 4)"),
        ("MKVSTAGRNDH", "ambiguous-sequence", "7 of 11"),
        ("A" * (MAX_LENGTH + 1), "too-long", "10,000,001"),
    ],
    ids=lambda value: value[:12],
)
def test_what_is_no_single_nucleotide_sequence_is_refused_with_the_reason(text: str, error: str, detail: str) -> None:
    with pytest.raises(ToolRefused) as refused:
        nucleotides(text)
    assert refused.value.error == error
    assert detail in refused.value.detail


def test_a_protein_is_called_one_and_other_text_is_not() -> None:
    for text, is_protein in [("MEEPQSDPSV*", True), ("ACGT/ACGT", False)]:
        with pytest.raises(ToolRefused) as refused:
            nucleotides(text)
        assert ("looks like a protein" in refused.value.detail) is is_protein


def test_a_quarter_of_ambiguity_codes_is_accepted_and_any_number_of_n() -> None:
    assert nucleotides("ACGR").letters == "ACGR"
    assert nucleotides("NNNN").letters == "NNNN"
    assert nucleotides("NNNNN" + "AAR").ambiguous == 6


def test_gaps_are_letters_where_they_are_asked_for() -> None:
    assert nucleotides("ac-g", gaps=True).letters == "AC-G"


@given(st.text(st.sampled_from("ACGTRYSWKMBDHVN"), max_size=50))
def test_the_other_strand_of_the_other_strand_is_the_sequence(letters: str) -> None:
    assert reverse_complement(reverse_complement(letters)) == letters
    rna = letters.replace("T", "U")
    assert reverse_complement(reverse_complement(rna, "RNA"), "RNA") == rna


def test_a_letter_and_its_complement_stand_for_complementary_bases() -> None:
    for letter, bases in BASES.items():
        assert {reverse_complement(base) for base in bases} == set(BASES[reverse_complement(letter)])


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(ToolRefused):
        assert set(nucleotides(text).letters) <= BASES.keys()
