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


def stored(sequence: UnstoredSequence) -> StoredSequence:
    facts = (
        sequence.name, sequence.description, sequence.molecule, sequence.topology, sequence.length, sequence.features,
        sequence.sha256,
    )  # fmt: skip
    return StoredSequence(1, 1, *facts, "genbank", InputOrigin(InputSource.FILE), START)


@pytest.mark.parametrize("kind", ["genbank", "embl"])
def test_a_flat_file_is_read_as_biopython_reads_it(kind: str) -> None:
    record, text = made(kind)
    for spelt in (text, text.replace("\n", "\r\n"), f"\n\n{text}\n\n"):
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
    assert only(">cp28 [topology=circular]\nACGT").topology == "circular"


GENBANK = made("genbank")[1]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", 1, "no sequence in a file of the format letters"),
        (">a\nACGT\n>b\n\n>c\nAC", 3, "a sequence without letters"),
        ("ACGT\n\nAC!T", 3, "! is no residue"),
        (">a\nACGT\nAC-T", 3, "a gap (-); remove the gaps"),
        (">a\nACGU\nT", 2, "U in DNA"),
        ("x\n>a\nACGT", 1, "letters before the first header"),
        ("@r\nACGT\n+\nIII", 4, "3 qualities for 4 letters"),
        ("@r\nACGT\nIIII", 1, "no FASTQ record of four lines"),
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
