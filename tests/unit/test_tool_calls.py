"""The arguments of calls, and what becomes of whatever a tool does."""

from collections.abc import Mapping

import pytest

from baio_domain.tool_calls import Arguments, complete_arguments, perform, unknown_tool
from baio_domain.tools import (
    MAX_RESULT_BYTES,
    Computed,
    Tool,
    ToolOutcome,
    ToolRefused,
    ToolSpec,
    ToolState,
    canonical_json,
    canonical_sha256,
)

PARAMETERS: Mapping[str, object] = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "description": "A text."},
        "way": {"type": "string", "enum": ["any", "1"], "default": "any", "description": "A way."},
        "count": {"type": "integer", "minimum": 1, "maximum": 9, "description": "A count."},
        "amount": {"type": "number", "minimum": 0, "default": 1.5, "description": "An amount."},
        "flag": {"type": "boolean", "default": False, "description": "A flag."},
        "names": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3, "description": "Names."},
    },
    "required": ["text"],
}


def complete(**given: object) -> Arguments:
    return complete_arguments(PARAMETERS, given)


def test_arguments_are_completed_with_defaults_and_with_none() -> None:
    assert complete(text="x", count=2) == Arguments(
        {"text": "x", "way": "any", "count": 2, "amount": 1.5, "flag": False, "names": None}
    )


def test_null_is_as_good_as_nothing() -> None:
    assert complete(text="x", way=None, count=None) == complete(text="x")


@pytest.mark.parametrize(
    ("name", "given", "meant"),
    [
        ("count", "3", 3),
        ("count", 3.0, 3),
        ("amount", "2.5", 2.5),
        ("flag", "true", True),
        ("flag", "False", False),
        ("names", '["a", "b"]', ["a", "b"]),
        ("names", "EcoRI", ["EcoRI"]),
        ("names", "EcoRI, Bam HI", ["EcoRI", "Bam HI"]),
        ("way", 1, "1"),
    ],
)
def test_a_value_in_another_json_type_is_converted_and_that_is_noted(name: str, given: object, meant: object) -> None:
    arguments = complete(text="x", **{name: given})
    assert arguments.values[name] == meant
    assert type(arguments.values[name]) is type(meant)
    assert arguments.coerced == (name,)


@pytest.mark.parametrize("text", ["1", "true", '["a"]', '{"a": 1}', "null", '"x"'])
def test_a_text_is_never_taken_apart(text: str) -> None:
    assert complete(text=text) == complete(text=text)
    assert complete(text=text).values["text"] == text
    assert complete(text=text).coerced == ()


@pytest.mark.parametrize(
    ("given", "error", "detail"),
    [
        ({}, "bad-arguments", "Missing: text. text: A text."),
        ({"text": None}, "bad-arguments", "Missing: text"),
        ({"text": "x", "txt": 1, "b\n": 2}, "bad-arguments", "no parameter txt, b\ufffd. The parameters are: text,"),
        ({"text": ["x"]}, "bad-arguments", "text must be of type string, not ['x']"),
        ({"text": "\ud800"}, "bad-arguments", "text must be of type string"),
        ({"text": "x", "way": "none"}, "out-of-range", "way must be one of any, 1, not none"),
        ({"text": "x", "count": 0}, "out-of-range", "count must be 1 to 9, not 0"),
        ({"text": "x", "count": 1.5}, "bad-arguments", "count must be of type integer, not 1.5"),
        ({"text": "x", "count": True}, "bad-arguments", "type integer, not True"),
        ({"text": "x", "amount": -1}, "out-of-range", "amount must be at least 0, not -1"),
        ({"text": "x", "amount": float("nan")}, "bad-arguments", "type number"),
        ({"text": "x", "amount": 1e300}, "bad-arguments", "type number"),
        ({"text": "x", "flag": 1}, "bad-arguments", "type boolean"),
        ({"text": "x", "names": []}, "out-of-range", "names must have 1 to 3 items, not 0"),
        ({"text": "x", "names": ["a"] * 4}, "out-of-range", "not 4"),
        ({"text": "x", "names": [["a"]]}, "bad-arguments", "an item of names must be of type string"),
        ({"text": "x", "names": {"a": 1}}, "bad-arguments", "names must be of type array"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused_and_the_detail_says_what_fits(
    given: dict[str, object], error: str, detail: str
) -> None:
    with pytest.raises(ToolRefused) as refused:
        complete_arguments(PARAMETERS, given)
    assert refused.value.error == error
    assert detail in refused.value.detail


def test_a_refusal_repeats_only_the_beginning_of_a_long_value() -> None:
    with pytest.raises(ToolRefused) as refused:
        complete(text="x", way="y" * 10_000)
    assert len(refused.value.detail) < 200


def test_deep_nesting_in_place_of_a_list_is_a_name_like_any_other() -> None:
    assert complete(text="x", names="[" * 100_000).values["names"] == ["[" * 100_000]


def outcome(function: object, **values: object) -> ToolOutcome:
    spec = ToolSpec("t", 1, "d", "d", PARAMETERS, "Library 1")
    return perform(Tool(spec, function), Arguments(values, ("a",)))  # type: ignore[arg-type]


def test_what_a_function_computes_is_done() -> None:
    done = outcome(lambda a: Computed({"twice": 2 * a}, f"Twice: **{2 * a}**"), a=2)
    assert done == ToolOutcome(
        ToolState.DONE, {"a": 2}, {"twice": 4}, (), "Twice: **4**", library="Library 1", coerced=("a",)
    )


@pytest.mark.parametrize(
    ("raised", "state", "error"),
    [
        (ToolRefused("too-long", "Give less."), "refused", "too-long"),
        (MemoryError(), "failed", "out-of-memory"),
        (KeyError("secret letters"), "failed", "tool-error"),
        (RecursionError(), "failed", "tool-error"),
    ],
)
def test_what_a_function_raises_is_an_outcome_that_repeats_no_words_of_an_error(
    raised: Exception, state: str, error: str
) -> None:
    def function(a: int) -> Computed:
        del a
        raise raised

    ended = outcome(function, a=2)
    assert (ended.state, ended.result["error"], ended.line) == (state, error, "")
    assert ended.result["detail"]
    assert "secret" not in str(ended.result["detail"])


@pytest.mark.parametrize("result", [{"a": float("nan")}, {"a": {1, 2}}, {1: 2, "a": 3}])
def test_a_result_that_json_does_not_have_is_a_mistake_of_the_tool(result: dict[str, object]) -> None:
    assert outcome(lambda: Computed(result, "")).result["error"] == "tool-error"


def test_a_result_that_is_too_long_to_keep_is_refused() -> None:
    ended = outcome(lambda: Computed({"a": "x" * MAX_RESULT_BYTES}, ""))
    assert (ended.state, ended.result["error"]) == ("refused", "too-long")


def test_an_unknown_tool_is_refused_with_the_names_of_the_tools() -> None:
    ended = unknown_tool("gc\n", ["gc_content", "translate"], {"a": 1})
    assert ended.state == "refused"
    assert ended.result == {
        "error": "unknown-tool",
        "detail": "There is no tool gc\ufffd. The tools are: gc_content, translate.",
    }


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "µ"}) == '{"a":"µ","b":[1,2.5,null]}'
    assert canonical_sha256({"b": 1, "a": 2}) == canonical_sha256({"a": 2, "b": 1})
    # printf '{"a":2,"b":1}' | sha256sum
    assert canonical_sha256({"a": 2, "b": 1}) == "d3626ac30a87e6f7a6428233b3c68299976865fa5508e4267c5415c76af7a772"
