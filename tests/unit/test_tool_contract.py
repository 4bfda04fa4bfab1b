"""BAiO's own tools fulfil the contract of all tools."""

import pytest

from baio_adapters.biology import installed_tools
from baio_domain.testing import ToolContract
from tests.unit.tools import TOOLS

LETTERS = ">pUC19\nGAATTCGGCATGAAATGA"


class TestGcContent(ToolContract):
    tool = TOOLS["gc_content"]
    calls = ({"sequence": LETTERS}, {"sequence": "NNNN"}, {"sequence": LETTERS, "window": 5, "step": 2})


class TestReverseComplement(ToolContract):
    tool = TOOLS["reverse_complement"]
    calls = ({"sequence": LETTERS}, {"sequence": "AUG"}, {"sequence": "ACGT" * 1_000})


class TestTranslate(ToolContract):
    tool = TOOLS["translate"]
    calls = ({"sequence": LETTERS}, {"sequence": "ATGAAATGA", "cds": True}, {"sequence": "A", "frame": -2})


class TestRestrictionSites(ToolContract):
    tool = TOOLS["restriction_sites"]
    calls = ({"sequence": LETTERS, "enzymes": ["EcoRI", "BsaI"]}, {"sequence": LETTERS, "enzymes": ["commercial"]})


class TestRestrictionDigest(ToolContract):
    tool = TOOLS["restriction_digest"]
    calls = ({"sequence": LETTERS, "enzymes": ["EcoRI"]}, {"sequence": LETTERS, "enzymes": "AluI, BcgI"})


class TestDescribeSequence(ToolContract):
    tool = TOOLS["describe_sequence"]
    calls = ({"sequence": LETTERS}, {"sequence": "MKWL*"})


class TestExtract(ToolContract):
    tool = TOOLS["extract"]
    calls = (
        {"sequence": LETTERS, "start": 2, "end": 5},
        {"sequence": LETTERS, "start": 15, "end": 2, "topology": "circular", "strand": "-"},
    )


class TestTranscribe(ToolContract):
    tool = TOOLS["transcribe"]
    calls = ({"sequence": LETTERS}, {"sequence": "AUG", "direction": "rna_to_dna"})


class TestFindOrfs(ToolContract):
    tool = TOOLS["find_orfs"]
    calls = ({"sequence": LETTERS, "min_length": 1}, {"sequence": LETTERS, "topology": "circular", "partial": True})


class TestFindMotif(ToolContract):
    tool = TOOLS["find_motif"]
    calls = ({"sequence": LETTERS, "motif": "RAAT"}, {"sequence": LETTERS, "motif": "GAATTC", "topology": "circular"})


class TestApplyMutation(ToolContract):
    tool = TOOLS["apply_mutation"]
    calls = (
        {"sequence": "ATGGAATTCTAA", "codon": 2, "to": "GAC"},
        {"sequence": "ATGGAATTCTAA", "position": 5, "to": "-"},
    )


class TestMolecularWeight(ToolContract):
    tool = TOOLS["molecular_weight"]
    calls = ({"sequence": LETTERS, "strands": 2}, {"sequence": "MKWL", "molecule": "protein"})


class TestProteinProperties(ToolContract):
    tool = TOOLS["protein_properties"]
    calls = ({"sequence": ">p\nMKWLC*"}, {"sequence": "G"})


class TestSimulatePcr(ToolContract):
    tool = TOOLS["simulate_pcr"]
    calls = (
        {"template": "TTACGTAGGGGCCATGAA", "forward": "TTACGT", "reverse": "TTCATG", "annealing_length": 6},
        {"template": "TTACGTAGGGGCCATGAA", "forward": "CATGAA", "reverse": "ACGTAA", "topology": "circular"},
    )


class TestPairwiseAlign(ToolContract):
    tool = TOOLS["pairwise_align"]
    calls = ({"a": LETTERS, "b": "GAATCGG"}, {"a": "MKWL", "b": "MKL", "mode": "local"})


class TestDilution(ToolContract):
    tool = TOOLS["dilution"]
    calls = (
        {"c1": "100 uM", "c2": "10 uM", "v2": "50 uL"},
        {"c1": "10x", "v1": {"value": 5, "unit": "µl"}, "c2": "1x"},
    )


class TestMolarAmount(ToolContract):
    tool = TOOLS["molar_amount"]
    calls = (
        {"mass": "1 ug", "length": 1000},
        {"concentration": "20 ng/uL", "volume": "2 uL", "sequence": LETTERS, "topology": "circular"},
    )


class TestCheckPrimer(ToolContract):
    tool = TOOLS["check_primer"]
    calls = ({"sequence": "CGTTCCAAAGATGTGGGCATGAGC"}, {"sequence": "AAAAAAAAAA"})


class TestCodonUsage(ToolContract):
    tool = TOOLS["codon_usage"]
    calls = ({"sequence": LETTERS}, {"sequence": LETTERS, "reference": "e_coli"})


class TestMeltingTemperature(ToolContract):
    tool = TOOLS["melting_temperature"]
    calls = ({"sequence": LETTERS}, {"sequence": "ACGT", "method": "gc"}, {"sequence": "ACGT", "method": "wallace"})


def test_every_tool_is_in_this_file() -> None:
    tested = {each.tool.spec.name for each in ToolContract.__subclasses__() if each.__module__ == __name__}
    assert tested == set(TOOLS)


def test_a_tool_that_can_not_be_used_costs_no_other(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path_factory.mktemp("installed")
    (folder / "labs_own.py").write_text(
        "from baio_adapters.biology.nucleotides import GC_CONTENT\nnot_a_tool = 1\n", "utf-8"
    )
    (folder / "labs_broken.py").write_text("raise RuntimeError('not on this machine')\n", "utf-8")
    info = folder / "labs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: labs\nVersion: 1.0\n", "utf-8")
    (info / "entry_points.txt").write_text(
        "[baio.tools]\nbroken = labs_broken:TOOL\ngc_content = labs_own:GC_CONTENT\nmissing = labs_own:TOOL\n"
        "not_a_tool = labs_own:not_a_tool\nother_name = labs_own:GC_CONTENT\n",
        "utf-8",
    )
    monkeypatch.syspath_prepend(folder)
    assert list(installed_tools()) == list(TOOLS)
    left_out = {record.tool: record.why for record in caplog.records}  # type: ignore[attr-defined]
    assert left_out == {
        "broken": "RuntimeError: not on this machine",
        "gc_content": "ValueError: another tool has this name",
        "missing": "AttributeError: module 'labs_own' has no attribute 'TOOL'",
        "not_a_tool": "TypeError: labs_own:not_a_tool is no Tool",
        "other_name": "ValueError: its name is 'gc_content'",
    }
