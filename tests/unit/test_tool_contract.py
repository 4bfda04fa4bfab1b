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
