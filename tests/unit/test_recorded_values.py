"""Tools against what other programs have said: Primer3's temperatures, and EMBOSS's values."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.recorded.emboss import RECORDED, cases, of_tool
from tests.unit.tools import computed

PRIMER3 = Path(__file__).parents[1] / "recorded" / "primer3.tsv"
EMBOSS: list[dict[str, Any]] = json.loads(RECORDED.read_text())["cases"]


def test_tm_equals_primer3s_for_200_oligos_and_their_conditions() -> None:
    with PRIMER3.open(newline="") as file:
        rows = list(csv.DictReader((line for line in file if not line.startswith("#")), delimiter="\t"))
    assert len(rows) == 200
    for row in rows:
        expected = float(row.pop("tm_celsius"))
        assert computed("melting_temperature", **row)["tm_celsius"] == pytest.approx(expected, abs=0.01), row


def test_what_is_recorded_of_emboss_are_its_cases() -> None:
    assert [{"tool": each["tool"], "arguments": each["arguments"]} for each in EMBOSS] == cases()


@pytest.mark.parametrize("tool", sorted({each["tool"] for each in EMBOSS}))
def test_a_tool_says_what_emboss_says(tool: str) -> None:
    for case in EMBOSS:
        if case["tool"] == tool:
            found: Any = of_tool(case, computed(tool, **case["arguments"]))
            expected = case["emboss"]
            if tool == "protein_properties":  # its masses of residues have other last digits
                assert found.pop(0) == pytest.approx(expected[0], rel=2e-5)
                expected = expected[1:]
            assert found == expected, case["arguments"]
