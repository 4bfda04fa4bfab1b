"""Files of sequences: what is read, what is refused and where, and what is written."""

# mypy: disallow-untyped-calls=False

import io
import json
import random
import zlib

import pytest
from Bio import SeqIO
from Bio.Seq import Seq
from Bio.SeqFeature import CompoundLocation, SeqFeature, SimpleLocation
from Bio.SeqRecord import SeqRecord

from baio_domain.entities import InputOrigin, InputSource, StoredSequence, UnstoredSequence
from baio_domain.errors import SequenceFileRefused, TooManyFeatures, TooManyRecords
from baio_domain.sequence_files import (
    MAX_RECORDS,
    Part,
    SequenceFile,
    features_of,
    part_of,
    read_file,
    spans_of,
    write_part,
)
from baio_domain.sequences import reverse_complement
from tests.unit.world import START

LETTERS = "".join(random.Random(1).choices("ACGT", k=5_000))


def made(kind: str) -> tuple[SeqRecord, str]:
    """A record with features of all shapes, and the file that Biopython writes of it."""
    record = SeqRecord(Seq(LETTERS), id="pMade.1", name="pMade", description="A made plasmid, complete sequence")
    record.annotations = {"molecule_type": "DNA", "topology": "circular"}
    places = [
        SimpleLocation(9, 300, 1),
        SimpleLocation(299, 900, -1),
        CompoundLocation([SimpleLocation(1000, 1100, 1), SimpleLocation(1200, 1300, 1)]),
        CompoundLocation([SimpleLocation(2200, 2300, -1), SimpleLocation(2000, 2100, -1)]),
        CompoundLocation([SimpleLocation(4900, 5000, 1), SimpleLocation(0, 50, 1)]),
    ]
    for number, place in enumerate(places):
        text = f'the "{number}" of /them, which is long enough that it takes more than one line of the file'
        said = {"gene": [f"gene{number}"], "note": [text], "codon_start": [1], "pseudo": [""]}
        said |= {"translation": ["MKV" * 30]}
        record.features.append(SeqFeature(place, type="CDS", qualifiers=said))
    written = io.StringIO()
    SeqIO.write(record, written, kind)
    return record, written.getvalue()


def only(text: str, **more: str) -> UnstoredSequence:
    [sequence] = read_file(SequenceFile(text, **more)).sequences
    return sequence


def letters_of(sequence: UnstoredSequence) -> str:
    return zlib.decompress(sequence.content.letters).decode()


def annotated(table: str, topology: str = "circular") -> str:
    """A GenBank record with this table of features."""
    first = f"LOCUS       x 12 bp DNA {topology}\nFEATURES             Location/Qualifiers\n"
    return f"{first}{table}ORIGIN\n 1 acgtacgtacgt\n//\n"


def stored(sequence: UnstoredSequence) -> StoredSequence:
    facts = (
        sequence.name, sequence.description, sequence.molecule, sequence.topology, sequence.length, sequence.features,
        sequence.sha256,
    )  # fmt: skip
    return StoredSequence(1, 1, *facts, "genbank", InputOrigin(InputSource.FILE), START)


@pytest.mark.parametrize("kind", ["genbank", "embl"])
def test_a_flat_file_is_read_as_biopython_reads_it(kind: str) -> None:
    record, text = made(kind)
    for spelt in (text, text.replace("\n", "\r\n"), f"\n\n{text}\n\n", f"{text}\x1a"):
        sequence = only(spelt)
        assert (sequence.description, sequence.molecule, sequence.topology) == (record.description, "DNA", "circular")
        assert letters_of(sequence) == LETTERS
        for feature, other in zip(features_of(sequence.content), record.features, strict=True):
            spans = spans_of(feature.location)
            assert spans is not None
            parts = [
                part if strand == "+" else reverse_complement(part)
                for start, end, strand in spans
                for part in [part_of(LETTERS, start, end)]
            ]
            assert "".join(parts) == str(other.extract(record.seq))
            said = {key: [str(value) for value in values] for key, values in other.qualifiers.items()}
            del said["translation"]
            assert {key: [value] for key, value in feature.qualifiers} == said


def test_what_is_written_as_genbank_is_read_by_biopython_and_again_by_baio() -> None:
    record, text = made("genbank")
    sequence = only(text)
    written = write_part(stored(sequence), sequence.content, Part("genbank", 1, 5_000)).decode()
    other = SeqIO.read(io.StringIO(written), "genbank")
    assert (str(other.seq), other.annotations["topology"], other.description) == (
        LETTERS, "circular", record.description,
    )  # fmt: skip
    assert [str(each.location) for each in other.features] == [str(each.location) for each in record.features]
    assert only(written) == sequence
    part = SeqIO.read(
        io.StringIO(write_part(stored(sequence), sequence.content, Part("genbank", 4_801, 400)).decode()), "genbank"
    )
    assert str(part.seq) == LETTERS[4_800:] + LETTERS[:400]
    assert [str(each.location) for each in part.features] == ["[209:500](+)", "join{[100:200](+), [200:250](+)}"]
    shown = json.loads(write_part(stored(sequence), sequence.content, Part("json", 1, 1_000, 1)))
    assert (shown["letters"], shown["features_total"], len(shown["features"])) == (LETTERS[:1_000], 2, 1)


def test_fasta_fastq_and_letters_are_told_apart() -> None:
    contents = read_file(SequenceFile("\ufeff>one first\nacgt\nAC GT\n\n>two\nMKVL*\n>three\nACGU\n"))
    assert contents.format == "fasta"
    assert [(each.name, each.description, each.molecule, letters_of(each)) for each in contents.sequences] == [
        ("one", "first", "DNA", "ACGTACGT"),
        ("two", "", "protein", "MKVL"),
        ("three", "", "RNA", "ACGU"),
    ]
    reads = read_file(SequenceFile("@r1 lane\nACGT\n+\nIIII\n@r2\nNNAC\n+r2\n@@@@\n"))
    assert (reads.format, [letters_of(each) for each in reads.sequences]) == ("fastq", ["ACGT", "NNAC"])
    alone = only("        1 acgtac gtacgt\n       13 ac\n", name="my oligo", topology="circular")
    assert (alone.name, alone.topology, letters_of(alone)) == ("my oligo", "circular", "ACGTACGTACGTAC")
    assert only("GGAC", molecule="protein").molecule == "protein"
    assert only("ACGT").name == "sequence"


def test_first_lines_that_programs_get_wrong_are_read_where_they_can_only_mean_one_thing() -> None:
    for first, name, topology in (
        ("LOCUS       pEH010                  4 bp    DNA     circular", "pEH010", "circular"),
        ("LOCUS       meta@Chunk_14 bp    DNA     linear       01-JAN-2019", "meta@Chunk_1", "linear"),
        ("locus x 4 BP".replace("locus", "LOCUS"), "x", "linear"),
    ):
        sequence = only(f"{first}\nORIGIN\n        1 acgt\n//\n")
        assert (sequence.name, sequence.topology, sequence.length) == (name, topology, 4)
    for header in ("cp28 [topology=circular]", "1 length=4 depth=1.00x circular=true", "ctg circular=yes"):
        assert only(f">{header}\nACGT").topology == "circular"
    assert only(">a circular=false\nACGT").topology == "linear"


def test_a_header_ends_its_name_with_a_space_or_a_tab_and_comments_are_no_letters() -> None:
    text = "; from the freezer\n# made by hand\n>one\tfirst  try\nACGT\n;half of it\nAC\n>two\nGG!"
    [one, two] = read_file(SequenceFile(text.removesuffix("!"))).sequences
    assert (one.name, one.description, letters_of(one), two.name) == ("one", "first try", "ACGTAC", "two")
    with pytest.raises(SequenceFileRefused, match="line 8: ! is no residue"):
        read_file(SequenceFile(text))
    old = only(";LCBO - Prolactin precursor\nMDSKGSSQ*\n")
    assert (old.name, letters_of(old)) == ("LCBO", "MDSKGSSQ")


def test_letters_and_qualities_of_fastq_may_have_several_lines() -> None:
    reads = read_file(SequenceFile("@r1 lane\nACGT\nAC\n+\n@II\n+@I\n@r2\nACGTAC\n+r2\n@@@\n@II\n\n")).sequences
    assert [(each.name, letters_of(each)) for each in reads] == [("r1", "ACGTAC"), ("r2", "ACGTAC")]
    for text, line, reason in (
        ("@r1\nACGT\n+\n@II\n@r2\nAC\n+\nII", 4, "3 qualities for 4 letters"),
        ("@r1\nACGT\n+\nII\nIII\n@r2\nAC\n+\nII", 5, "5 qualities for 4 letters"),
        ("@r1\nACGT\n+\nIIII\n@r2\nAC\nGT", 5, "no FASTQ record"),
        ("@r1\nACGT\n@r2\nAC\n+\nII", 1, "no FASTQ record"),
        ("@r1\nACGT\n+", 3, "0 qualities for 4 letters"),
    ):
        with pytest.raises(SequenceFileRefused) as refused:
            read_file(SequenceFile(text))
        assert (refused.value.line, reason in refused.value.reason) == (line, True), refused.value


@pytest.mark.parametrize(
    ("first", "name", "molecule", "topology"),
    [
        ("U87107     standard; circular DNA; SYN; 12 BP.", "U87107", "DNA", "circular"),
        ("HLA00001; SV 1; standard; DNA; HUM; 12 BP.", "HLA00001", "DNA", "linear"),
        ("A04195 IMGT/LIGM annotation : by annotators; RNA; SYN; 12 BP.", "A04195", "DNA", "linear"),
        ("CLD1_HUMAN              Reviewed;          12 AA.", "CLD1_HUMAN", "protein", "linear"),
        ("CALM_HUMAN     STANDARD;      PRT;    12 AA.", "CALM_HUMAN", "protein", "linear"),
    ],
)
def test_first_lines_of_old_embl_and_of_uniprot_are_read(first: str, name: str, molecule: str, topology: str) -> None:
    sequence = only(f"ID   {first}\nDE   A thing.\nSQ   SEQUENCE   12 AA;\n     ACGTACGTAC GT\n//\n")
    assert (sequence.name, sequence.molecule, sequence.topology) == (name, molecule, topology)
    assert (sequence.description, letters_of(sequence)) == ("A thing", "ACGTACGTACGT")


def test_features_of_uniprot_are_read_in_both_of_its_layouts() -> None:
    table = (
        "FT   SIGNAL        1      3       Potential.\n"
        "FT   CONFLICT      4      5       MK -> VL (in\nFT                                Ref. 2).\n"
        'FT   CHAIN           6..>10\nFT                   /note="A chain"\nFT                   /id="PRO_1"\n'
    )
    sequence = only(f"ID   X   Reviewed;  10 AA.\n{table}SQ   SEQUENCE\n     MKVLMKVLMK\n//\n")
    assert [(each.kind, each.location, each.qualifiers) for each in features_of(sequence.content)] == [
        ("SIGNAL", "1..3", [["note", "Potential."]]),
        ("CONFLICT", "4..5", [["note", "MK -> VL (in Ref. 2)."]]),
        ("CHAIN", "6..>10", [["note", "A chain"], ["id", "PRO_1"]]),
    ]


def test_no_feature_is_lost_to_what_programs_write_into_their_tables() -> None:
    table = (
        "     source          1..12\n"
        "     a_kind_of_many_letters 1..\n                     3, 5..6\n"
        '                             /label="far to the right"\n'
        '             /note= "near, with a space\n                     behind the sign"\n'
        '                     /label="the 3" end"\n'
        '                     /note="a line break\nin it\n\nand a blank line"\n'
        "                     /color=red\n"
        "\n"
        "     CDS             complement(2..<9)\n"
        '                     /note="the ""last"" one /gene=no\n                     /gene=no"\n'
        "\tmisc\t3..4\n\t\t\t/label=tabs\n"
        "BASE COUNT     3 a\n     not_a_feature   1..2\n"
    )
    text = annotated(table)
    for spelt in (text, text.replace("\n", "\r\n"), text.replace("\n", "\r\r\n")):
        found = features_of(only(spelt).content)
        assert [(each.kind, each.location, each.qualifiers) for each in found] == [
            ("source", "1..12", []),
            (
                "a_kind_of_many_letters",
                "1..3,5..6",
                [
                    ["label", "far to the right"],
                    ["note", "near, with a space behind the sign"],
                    ["label", 'the 3" end'],
                    ["note", "a line break in it and a blank line"],
                    ["color", "red"],
                ],
            ),
            ("CDS", "complement(2..<9)", [["note", 'the "last" one /gene=no /gene=no']]),
            ("misc", "3..4", [["label", "tabs"]]),
        ]


def test_long_words_and_kinds_are_written_as_they_were_read() -> None:
    word = "ACGT" * 40
    begin = " " * 21
    table = f'     misc_feature    1..12\n{begin}/note="{word}"\n{begin}/note="see {word} or {word}"\n'
    text = annotated(table, "linear")
    sequence = only(text)
    written = write_part(stored(sequence), sequence.content, Part("genbank", 1, 12)).decode()
    assert features_of(only(written).content) == features_of(sequence.content)
    long = only(annotated(f"     {'kind' * 5} 1..12\n"))
    again = only(write_part(stored(long), long.content, Part("genbank", 1, 12)).decode())
    assert features_of(again.content) == features_of(long.content)
    assert [value for _, value in features_of(sequence.content)[0].qualifiers] == [word, f"see {word} or {word}"]
    [feature] = SeqIO.read(io.StringIO(written), "genbank").features
    assert feature.qualifiers["note"] == [word, f"see {word} or {word}"]


def test_a_part_over_the_origin_has_no_feature_that_lies_around_what_it_leaves_out() -> None:
    table = "".join(
        f"     gene            {place}\n" for place in ("1..12", "3..9", "join(11..12,1..2)", "9^10", "11..2")
    )
    text = annotated(table)
    sequence = only(text)

    def locations(start: int, end: int) -> list[str]:
        part = write_part(stored(sequence), sequence.content, Part("genbank", start, end)).decode()
        return [each.location for each in features_of(only(part).content)]

    assert locations(8, 6) == ["join(4..5,6..7)", "2^3", "4..7"]
    assert locations(8, 7) == ["join(4..5,6..7)", "2^3", "4..7"]
    assert locations(2, 10) == ["2..8", "8^9"]


def test_what_is_far_too_long_for_a_record_costs_no_more_than_its_length() -> None:
    for first in ("LOCUS       " + "1" * 10**6, f"LOCUS       x{' ' * 10**6}4 bp", f"LOCUS       x {'9' * 5_000} bp"):
        with pytest.raises(SequenceFileRefused, match="no first line such as"):
            read_file(SequenceFile(f"{first}\nORIGIN\n1 acgt\n//\n"))
    with pytest.raises(SequenceFileRefused, match="no first line such as"):
        read_file(SequenceFile(f"ID   x; {'1' * 10**6} x\nSQ\n acgt\n//\n"))
    assert spans_of("1" * 10**6) is None
    assert spans_of("join(" * 10**5 + "1..2" + ")" * 10**5) is None
    assert spans_of(f"1..{'9' * 5_000}") is None
    text = "word " * 500_000
    sequence = only(annotated(f'     gene            1..{"9" * 5_000}\n{" " * 21}/note="{text}"\n'))
    written = write_part(stored(sequence), sequence.content, Part("genbank", 1, 12)).decode()
    assert features_of(only(written).content) == features_of(sequence.content)
    assert (
        features_of(only(write_part(stored(sequence), sequence.content, Part("genbank", 2, 9)).decode()).content) == []
    )


GENBANK = made("genbank")[1]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", 1, "no sequence in a file of the format letters"),
        (">a\nACGT\n>b\n\n>c\nAC", 3, "a sequence without letters"),
        ("ACGT\n\nAC!T", 3, "! is no residue; read as letters alone, as it begins with no > (FASTA)"),
        (">a\nACGT\nAC-T", 3, "a gap (-); remove the gaps"),
        (">a\nACGU\nT", 2, "U in DNA"),
        ("x\n>a\nACGT", 1, "letters before the first header"),
        ("@r\nACGT\n+\nIII", 4, "3 qualities for 4 letters"),
        ("@r\nACGT\nIIII", 1, "no FASTQ record of @name"),
        (GENBANK.replace("5000 bp", "5001 bp"), 1, "the record says 5,001 letters, and has 5,000"),
        (GENBANK.replace("ORIGIN", "CONTIG"), 1, "a record without letters"),
        (GENBANK.rstrip().removesuffix("//"), GENBANK.count("\n") - 1, "does not end with //"),
        (GENBANK.replace("5000 bp", "5000"), 1, "no first line such as"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line_and_the_reason(text: str, line: int, reason: str) -> None:
    with pytest.raises(SequenceFileRefused) as refused:
        read_file(SequenceFile(text, "fasta" if reason.startswith("letters before") else None))
    assert (refused.value.line, reason in refused.value.reason) == (line, True), refused.value


def test_a_second_record_is_refused_where_one_is_wanted() -> None:
    for more in ({"name": "x"}, {"topology": "circular"}):
        with pytest.raises(SequenceFileRefused, match="line 3: a second sequence"):
            read_file(SequenceFile(">a\nAC\n>b\nGT", **more))


def test_a_file_has_so_many_records_and_features_and_no_more() -> None:
    one = ">x\nAC\n"
    assert len(read_file(SequenceFile(one * MAX_RECORDS)).sequences) == MAX_RECORDS
    with pytest.raises(TooManyRecords, match=f"line {2 * MAX_RECORDS + 1:,}"):
        read_file(SequenceFile(one * (MAX_RECORDS + 1)))
    feature = "     CDS             1..4\n"
    table = f"FEATURES             Location/Qualifiers\n{feature * 200_001}ORIGIN\n1 acgt\n//\n"
    with pytest.raises(TooManyFeatures):
        read_file(SequenceFile(f"LOCUS       x  4 bp DNA linear\n{table}"))


def test_names_from_files_are_one_line_without_what_nobody_sees() -> None:
    sequence = only(f">x\u202e\u200b\x1b{'y' * 300} some\tthing\x00\nACGT")
    assert sequence.name == f"x{'y' * 99}"
    assert sequence.description == "some thing"


@pytest.mark.parametrize(
    ("location", "spans"),
    [
        ("7", [(7, 7, "+")]),
        ("<1..>9", [(1, 9, "+")]),
        ("complement(3..5)", [(3, 5, "-")]),
        ("join(1..2,complement(4..5),7)", [(1, 2, "+"), (4, 5, "-"), (7, 7, "+")]),
        ("complement(order(1..2,4..5))", [(4, 5, "-"), (1, 2, "-")]),
        ("J00194.1:100..202", None),
        ("102.110", None),
        ("5^6", None),
        ("join(1..2,one-of(3,4)..9)", None),
    ],
)
def test_a_location_is_read_piece_by_piece(location: str, spans: object) -> None:
    assert spans_of(location) == spans
