"""The questions to models, and how answers to them are counted."""

import json
import re
from typing import Any

import pytest

from baio_adapters.llm.scripted import ScriptedGateway
from baio_api.model_benchmark import Asked, find_model, run_benchmark, says, table
from baio_api.model_questions import questions
from baio_domain.errors import InvalidInput
from tests.unit.tools import TOOLS, computed
from tests.unit.world import BAiO

CODE = dict(
    zip(
        [a + b + c for a in "TCAG" for b in "TCAG" for c in "TCAG"],
        "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
        strict=True,
    )
)
COMPLEMENT = str.maketrans("ACGT", "TGCA")


def test_there_are_forty_questions_two_for_each_tool_and_always_the_same() -> None:
    asked = questions()
    assert len(asked) == 40
    assert [each.text for each in asked] == [each.text for each in questions()]
    assert len({each.text for each in asked}) == 40
    assert {each.tool for each in asked[:20]} == {each.tool for each in asked[20:]} == set(TOOLS)


def test_every_question_is_answered_by_its_call() -> None:
    for each in questions():
        values = each.values(computed(each.tool, **each.arguments))
        assert values
        assert all(isinstance(value, int | float | str) for value in values)
        assert not says(values, "I don't know, perhaps 1, 2, 3, 12 or 99.")
        for argument in each.arguments.values():  # whatever the model needs is in the question
            if isinstance(argument, str) and re.fullmatch("[ACGT]{10,}", argument):
                assert argument in each.text


def independent(tool: str, arguments: dict[str, Any]) -> list[object] | None:
    """The values without the tool, where that takes a line."""
    letters: str = arguments.get("sequence", "")

    def number(argument: str) -> float:
        return float(arguments[argument].split()[0])

    by_tool: dict[str, Any] = {
        "gc_content": lambda: [round(100 * sum(map(letters.count, "GC")) / len(letters), 2)],
        "reverse_complement": lambda: [letters[::-1].translate(COMPLEMENT)],
        "transcribe": lambda: [letters.replace("T", "U")],
        "translate": lambda: ["".join(CODE[letters[at : at + 3]] for at in range(0, len(letters), 3))],
        "describe_sequence": lambda: [len(letters)],
        "extract": lambda: [letters[arguments["start"] - 1 : arguments["end"]]],
        "find_motif": lambda: [found.start() + 1 for found in re.finditer(arguments["motif"], letters)],
        "restriction_sites": lambda: [found.start() + 1 for found in re.finditer("GAATTC", letters)],
        "restriction_digest": lambda: fragments(letters),
        "simulate_pcr": lambda: [product(**arguments)],
        "apply_mutation": lambda: [mutation(letters, arguments["codon"], arguments["to"])],
        "dilution": lambda: [number("c2") * number("v2") / number("c1")],
        "molar_amount": lambda: [float(f"{number('mass') * 1000 / (617.96 * number('length') + 36.04):.4g}")],
    }
    return by_tool[tool]() if tool in by_tool else None


def fragments(circle: str) -> list[object]:
    cuts = sorted(found.start() + 1 for site in ("GAATTC", "GGATCC") for found in re.finditer(site, circle))
    return [(after - cut) % len(circle) for cut, after in zip(cuts, [*cuts[1:], cuts[0]], strict=True)]


def product(template: str, forward: str, reverse: str) -> int:
    return template.index(reverse[::-1].translate(COMPLEMENT)) + len(reverse) - template.index(forward)


def mutation(letters: str, codon: int, new: str) -> str:
    names = "AlaArgAsnAspCysGlnGluGlyHisIleLeuLysMetPheProSerThrTrpTyrVal"
    three = {letter: names[3 * at : 3 * at + 3] for at, letter in enumerate("ARNDCQEGHILKMFPSTWYV")}
    return f"{three[CODE[letters[3 * codon - 3 : 3 * codon]]]}{codon}{three[CODE[new]]}"


def test_where_it_is_simple_the_right_values_come_from_other_code_as_well() -> None:
    checked = 0
    for each in questions():
        values = independent(each.tool, dict(each.arguments))
        if values is not None:
            assert sorted(map(str, each.values(computed(each.tool, **each.arguments)))) == sorted(map(str, values)), (
                each
            )
            checked += 1
    assert checked == 26


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([47.62], "It is 47.62 %."), ([47.62], "about 47.6 percent"), ([6901.11], "6,901.1 Da"), ([165], "165 letters"),
        ([37, 68], "68 bp, and 37 bp"), (["ACGU"], "acg\nu"), ([100.0], "100"), ([256.0], "The score: 256.0"),
    ],
)  # fmt: skip
def test_an_answer_is_right_that_says_the_value(values: list[object], text: str) -> None:
    assert says(values, text)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([47.62], "48"), ([47.62], "47.7"), ([165], "1,165"), ([37, 68], "37 and 67"), (["ACGU"], "ACGT"), ([0.5], ""),
        ([165], "-165"), ([165], "\u2212165"), ([17], "seq_17"),
    ],
)  # fmt: skip
def test_an_answer_is_not_right_that_says_another(values: list[object], text: str) -> None:
    assert not says(values, text)


def test_a_model_is_found_by_its_names_and_any_model_of_a_known_provider() -> None:
    gateway = ScriptedGateway()
    for name in ("scripted-1", "Scripted One", "scripted/SCRIPTED-1"):
        assert find_model([gateway], name)[1].identifier == "scripted-1"
    assert find_model([gateway], "Scripted/new-model")[1].identifier == "new-model"
    for gateways, name in (([gateway], "gpt-9"), ([gateway], "Scripted/"), ([gateway, gateway], "scripted-1")):
        with pytest.raises(InvalidInput):
            find_model(gateways, name)


async def test_nothing_is_asked_before_the_user_has_agreed_to_the_number_of_requests() -> None:
    baio, told = BAiO(), list[str]()

    def agreed(costs: str) -> bool:
        told.append(costs)
        return False

    container = baio._container
    assert await run_benchmark(container, "gpt-4o-mini", "sk-1", None, agreed, told.append) is None
    assert len(told) == 1
    assert "40 questions twice: 40 requests without tools, and with tools usually 80, at most 360" in told[0]
    assert baio.openai.asked == []


def test_the_table_counts_by_tool_and_altogether() -> None:
    without = [Asked("gc_content", answered=True), Asked("translate"), Asked("translate", error="Too slow.")]
    used = [
        Asked("gc_content", called=True, arguments=True, value=True, answered=True),
        Asked("translate", called=True, arguments=True),
        Asked("translate", answered=True),
    ]
    assert [re.split(r"\s{2,}", line.strip()) for line in table(without, used).splitlines()[1:]] == [
        ["tool", "answered", "called", "arguments", "value", "quoted"],
        ["gc_content", "1 of 1", "1 of 1", "1 of 1", "1 of 1", "1 of 1"],
        ["translate", "0 of 2", "1 of 2", "1 of 2", "0 of 2", "0 of 2"],
        ["all", "1 of 3", "2 of 3", "2 of 3", "1 of 3", "1 of 3"],
    ]
    assert json.dumps(without[2].told) == '"translate: Too slow."'
