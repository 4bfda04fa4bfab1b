"""Changes of coding sequences, and their codons: by hand, and against the other tools and Biopython."""

import random
import re

import pytest
from Bio.SeqUtils import CodonAdaptationIndex
from hypothesis import given, settings
from hypothesis import strategies as st

from baio_adapters.biology.codon_usage import SHARP_LI_E_COLI
from tests.unit.tools import call, computed, refused

CDS = "ATGGCCGAATTCAAATAA"  # M A E F K, stop


def changed(**arguments: object) -> tuple[str, str, str]:
    result = computed("apply_mutation", **{"sequence": CDS, **arguments})
    return result["effect"], result["cds_change"], result["protein_change"]


@pytest.mark.parametrize(
    ("arguments", "effect", "cds_change", "protein_change"),
    [
        ({"codon": 2, "to": "GTC"}, "missense", "c.5C>T", "p.(Ala2Val)"),
        ({"codon": 2, "to": "gct"}, "synonymous", "c.6C>T", "p.(Ala2=)"),
        ({"codon": 2, "to": "AUC"}, "missense", "c.4_5delinsAT", "p.(Ala2Ile)"),
        ({"position": 7, "to": "T"}, "nonsense", "c.7G>T", "p.(Glu3Ter)"),
        ({"codon": 5, "to": "TTT"}, "missense", "c.13_15inv", "p.(Lys5Phe)"),
        ({"codon": 6, "to": "CAA"}, "stop-lost", "c.16T>C", "p.(Ter6GlnextTer?)"),
        ({"codon": 6, "to": "CAATGA"}, "stop-lost", "c.16_17delinsCAATG", "p.(Ter6GlnextTer1)"),
        ({"codon": 6, "to": "TAG"}, "synonymous", "c.18A>G", "p.(Ter6=)"),
        ({"codon": 1, "to": "ACG"}, "start-lost", "c.2T>C", "p.(Met1?)"),
        ({"codon": 3, "to": "-"}, "inframe-deletion", "c.7_9del", "p.(Glu3del)"),
        ({"codon": 3, "to": "GAAGAA"}, "inframe-insertion", "c.7_9dup", "p.(Glu3dup)"),
        ({"codon": 3, "to": "GAATGG"}, "inframe-insertion", "c.10_11insGGT", "p.(Glu3_Phe4insTrp)"),
        ({"codon": 3, "to": "TGGTGG"}, "inframe-indel", "c.7_9delinsTGGTGG", "p.(Glu3delinsTrpTrp)"),
        ({"position": 5, "to": "-"}, "frameshift", "c.6del", "p.(Glu3AsnfsTer?)"),
        ({"position": 13, "to": "-"}, "frameshift", "c.15del", "p.(Lys5AsnfsTer?)"),
        ({"position": 7, "to": "TG"}, "nonsense", "c.6_7insT", "p.(Glu3Ter)"),
    ],
)
def test_a_change_has_its_effect_and_its_names(
    arguments: dict[str, object], effect: str, cds_change: str, protein_change: str
) -> None:
    assert changed(**arguments) == (effect, cds_change, protein_change)


@pytest.mark.parametrize(
    ("arguments", "effect", "cds_change", "protein_change"),
    [
        # A stop codon behind new residues is none of the residues that are gone.
        ({"codon": 2, "to": "TTTTAA"}, "nonsense", "c.4delinsTTTT", "p.(Lys2delinsPheTer)"),
        ({"codon": 3, "to": "CTTTTTTGA"}, "nonsense", "c.9_10insTTTTGA", "p.(Leu3_Val4insPheTer)"),
        ({"codon": 4, "to": "TTTTAG"}, "nonsense", "c.10_12delinsTTTTAG", "p.(Val4delinsPheTer)"),
        # The old stop codon, moved by whole codons, is neither new nor lost.
        ({"codon": 4, "to": "-"}, "inframe-deletion", "c.10_12del", "p.(Val4del)"),
        ({"codon": 4, "to": "GTTGTT"}, "inframe-insertion", "c.10_12dup", "p.(Val4dup)"),
        ({"codon": 4, "to": "GTTAAA"}, "inframe-insertion", "c.12_13insAAA", "p.(Val4_Ter5insLys)"),
        # What changes the stop codon first is an extension, whatever it does to the frame.
        ({"position": 13, "to": "-"}, "stop-lost", "c.13del", "p.(Ter5LysextTer?)"),
        ({"position": 14, "to": "CA"}, "stop-lost", "c.13_14insC", "p.(Ter5SerextTer?)"),
        ({"codon": 5, "to": "-"}, "stop-lost", "c.13_15del", "p.(Ter5AlaextTer1)"),
        ({"codon": 5, "to": "CAATAACAA"}, "stop-lost", "c.13delinsCAATAAC", "p.(Ter5GlnextTer1)"),
        # Behind the stop codon, bases have numbers of their own.
        ({"position": 15, "to": "AC"}, "synonymous", "c.15_*1insC", "p.(Ter5=)"),
        ({"position": 14, "to": "-", "sequence": "ATGAAACTTGTTTAAAAAGC"}, "synonymous", "c.*3del", "p.(Ter5=)"),
        # An alternative start codon is read as M.
        ({"codon": 1, "to": "ATG", "sequence": "GTGAAATAA"}, "synonymous", "c.1G>A", "p.(Met1=)"),
        ({"codon": 1, "to": "TTG", "sequence": "GTGAAATAA"}, "start-lost", "c.1G>T", "p.(Met1?)"),
        # Behind the last codon nothing is known.
        ({"codon": 2, "to": "AAACTT", "sequence": "ATGAAA"}, "inframe-insertion", "c.6_7insCTT", "p.?"),
        ({"codon": 2, "to": "AAATAA", "sequence": "ATGAAA"}, "nonsense", "c.6_7insTAA", "p.?"),
    ],
)
def test_changes_at_stop_codons_and_at_the_ends_have_their_names(
    arguments: dict[str, object], effect: str, cds_change: str, protein_change: str
) -> None:
    letters = "ATGAAACTTGTTTAAGCATAG"  # M K L V, stop, A, stop
    found = changed(**{"sequence": letters, "genetic_code": 11, **arguments})
    assert found == (effect, cds_change, protein_change)


def test_a_shifted_frame_is_counted_to_its_new_stop() -> None:
    # Without the second base: ATG GCG ATT GAG CGT AAC; without the fifth: ATG GGA TTG AGC GTA AC.
    result = computed("apply_mutation", sequence="ATGGCGATTGAGCGTAACTGA", position=5, to="-")
    assert (result["cds_change"], result["protein_change"]) == ("c.5del", "p.(Ala2GlyfsTer?)")
    stopped = computed("apply_mutation", sequence="ATGGCATTGAATTTTTAA", position=4, to="-")  # ATG CAT TGA
    assert (stopped["effect"], stopped["protein_change"]) == ("frameshift", "p.(Ala2HisfsTer2)")


def test_the_result_has_both_codons_the_new_sequence_and_the_sites() -> None:
    result = computed("apply_mutation", sequence=f">cds\n{CDS}", codon=4, to="TCC")
    assert (result["codon"], result["from_codon"], result["to_codon"]) == (4, "TTC", "TCC")
    assert (result["sequence"], result["length"]) == ("ATGGCCGAATCCAAATAA", 18)
    assert {"EcoRI", "ApoI"} <= set(result["sites_lost"])
    assert "TfiI" in result["sites_gained"]  # GAWTC
    assert "HaeIII" not in result["sites_lost"]
    assert call("apply_mutation", sequence=f">cds\n{CDS}", codon=4, to="TCC").line == (
        "c.11T>C in cds (18 nt): **missense**, p.(Phe4Ser)"
    )


def test_rna_stays_rna_and_has_no_restriction_site() -> None:
    result = computed("apply_mutation", sequence=CDS.replace("T", "U"), codon=4, to="UCC")
    assert (result["sequence"], result["from_codon"]) == ("AUGGCCGAAUCCAAAUAA", "TTC")
    assert (result["sites_lost"], result["sites_gained"]) == ([], [])


def applied(letters: str, cds_change: str) -> str:
    """A sequence after a change that is given by its HGVS name, written from HGVS's pages."""
    match = re.fullmatch(r"c\.(-?\d+)(?:_(\*?\d+))?(?:([ACGT])>([ACGT])|(del|dup|ins|inv|delins)([ACGT]*))", cds_change)
    assert match, cds_change
    start = int(match[1])
    end = len(letters) + 1 if (match[2] or "").startswith("*") else int(match[2] or start)
    there = letters[max(start, 1) - 1 : end]
    if match[4]:
        assert there == match[3]
        return letters[: start - 1] + match[4] + letters[start:]
    if match[5] == "ins":
        return letters[: max(start, 0)] + match[6] + letters[max(start, 0) :]
    other = there[::-1].translate(str.maketrans("ACGT", "TGCA"))
    new = {"del": "", "dup": there * 2, "inv": other, "delins": match[6]}[match[5]]
    return letters[: start - 1] + new + letters[end:]


@given(
    st.text("ACG", min_size=9, max_size=24),  # without T, no stop comes early
    st.integers(1, 1_000),
    st.one_of(st.just("-"), st.text("ACGT", min_size=1, max_size=4)),
)
@settings(max_examples=50, deadline=None)
def test_the_name_of_a_change_makes_the_new_sequence(letters: str, position: int, to: str) -> None:
    position = position % (len(letters) // 3 * 3) + 1
    outcome = call("apply_mutation", sequence=letters, position=position, to=to)
    if outcome.state == "refused":
        assert letters[position - 1] == to or outcome.result["error"] == "not-a-cds"
        return
    after = outcome.result["sequence"]
    assert after == letters[: position - 1] + to.strip("-") + letters[position:]
    assert applied(letters, str(outcome.result["cds_change"])) == after


def test_every_codon_in_place_of_another_has_the_effect_that_translation_says() -> None:
    chance = random.Random(16)
    for _ in range(30):
        codon, number = "".join(chance.choices("ACGT", k=3)), chance.randint(2, 5)
        if codon == CDS[3 * number - 3 : 3 * number]:
            continue
        result = computed("apply_mutation", sequence=CDS, codon=number, to=codon)
        before = computed("translate", sequence=CDS)["protein"][number - 1]
        after = computed("translate", sequence=result["sequence"])["protein"][number - 1]
        expected = "synonymous" if before == after else "nonsense" if after == "*" else "missense"
        assert result["effect"] == expected


@pytest.mark.parametrize(
    ("arguments", "error", "detail"),
    [
        ({"to": "GTC"}, "bad-arguments", "either codon or position"),
        ({"codon": 2, "position": 4, "to": "GTC"}, "bad-arguments", "either codon or position"),
        ({"codon": 7, "to": "GTC"}, "out-of-range", "6 whole codons"),
        ({"position": 19, "to": "G"}, "out-of-range", "18 bases"),
        ({"codon": 2, "to": "GCC"}, "no-change", "GCC is there already"),
        ({"codon": 2, "to": "GCN"}, "ambiguous-sequence", "one of its codons"),
        ({"codon": 2, "to": "E"}, "not-a-nucleotide-sequence", "E at position 1"),
        ({"codon": 2, "to": ""}, "empty-sequence", "no letter"),
        ({"codon": 3, "to": "GTC", "sequence": "ATGTAAGCC"}, "not-a-cds", "the protein ends at codon 2"),
        ({"codon": 2, "to": "GTC", "genetic_code": 99}, "out-of-range", "no genetic code 99"),
        ({"codon": 2, "to": "GTC", "sequence": "A" * 200_001}, "too-long", "200,000"),
    ],
)
def test_what_is_no_change_is_refused(arguments: dict[str, object], error: str, detail: str) -> None:
    said = refused("apply_mutation", **{"sequence": CDS, **arguments})
    assert (said[0], detail in said[1]) == (error, True), said


# --- codon_usage


def test_codons_are_counted_and_compared_with_their_synonyms() -> None:
    # By hand: CTG three times and CTA once of six codons for leucine: 3 x 6 / 4 and 1 x 6 / 4.
    result = computed("codon_usage", sequence="ATGCTGCTGCTACTGNNNTAAGC")
    rows = {each["codon"]: each for each in result["codons"]}
    assert rows["CTG"] == {"codon": "CTG", "residue": "L", "count": 3, "per_thousand": 500.0, "rscu": 4.5}
    assert (rows["CTA"]["rscu"], rows["TTA"]["rscu"], rows["GCC"]["rscu"]) == (1.5, 0.0, None)
    assert (len(rows), result["total"], result["ambiguous"], result["trailing_bases"]) == (64, 6, 1, 2)
    assert (result["cai"], result["reference"]) == (None, None)


@given(st.lists(st.sampled_from(sorted(SHARP_LI_E_COLI)), min_size=20, max_size=40), st.integers(0, 10))
@settings(max_examples=25, deadline=None)
def test_cai_with_a_reference_is_biopythons(codons: list[str], seed: int) -> None:
    reference = "".join(random.Random(seed).choices(sorted(SHARP_LI_E_COLI), k=100))
    sequence = "".join(codons)
    theirs = CodonAdaptationIndex([reference]).calculate(sequence)  # type: ignore[no-untyped-call]
    result = computed("codon_usage", sequence=sequence, reference=reference)
    assert result["cai"] == pytest.approx(theirs, abs=0.0001)
    assert result["cai_codons"] == sum(codon not in ("ATG", "TGG") for codon in codons)


def test_cai_in_e_coli_is_the_geometric_mean_of_sharp_and_lis_weights() -> None:
    # By hand: (0.122 x 0.259 x 1)^(1/3), for GCC GAG CTG; ATG, TGG and the stop don't count.
    result = computed("codon_usage", sequence="ATGGCCGAGCTGTGGTAA", reference="E_coli")
    assert (result["cai"], result["cai_codons"], result["reference"]) == (0.3161, 3, "E. coli, Sharp & Li 1987")
    assert (
        "CAI **0.3161** (E. coli, Sharp & Li 1987)"
        in call("codon_usage", sequence="ATGGCCGAGCTGTGGTAA", reference="e_coli").line
    )


def test_each_amino_acid_has_a_best_codon_in_e_coli() -> None:
    families: dict[str, list[float]] = {}
    for codon, weight in SHARP_LI_E_COLI.items():
        families.setdefault(computed("translate", sequence=codon)["protein"], []).append(weight)
    assert sorted(families) == sorted("ACDEFGHIKLNPQRSTVY")
    assert all(max(weights) == 1 for weights in families.values())


def test_cai_needs_codons_that_have_synonyms_and_a_reference_of_the_code() -> None:
    assert computed("codon_usage", sequence="ATGTGGTAA", reference="e_coli")["cai"] is None
    assert refused("codon_usage", sequence="ATG", reference="e_coli", genetic_code=2)[0] == "out-of-range"
    assert refused("codon_usage", sequence="ATG", reference="human")[0] == "ambiguous-sequence"
    assert "reference by name is e_coli" in refused("codon_usage", sequence="ATG", reference="human")[1]
