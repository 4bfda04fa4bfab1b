"""The calls of tools in providers' streams, with every quirk that servers are known for, and how they are sent back."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from baio_adapters.llm import anthropic, openai
from baio_adapters.llm.event_stream import StreamDecoder
from baio_adapters.llm.growing_calls import MAX_ARGUMENTS, MAX_CALLS
from baio_domain.entities import Model, ModelSpec
from baio_domain.ports import Called, Finished, Thinking
from baio_domain.prompts import Turn, UsedTool
from baio_domain.testing import OFFERED

Fragment = dict[str, Any]


def fragment(name: str | None = None, arguments: object = None, **members: object) -> Fragment:
    """One of OpenAI's fragments of a call."""
    function = {"name": name, "arguments": arguments}
    return {"function": {key: value for key, value in function.items() if value is not None}, **members}


def chunk(finish: str | None = None, **delta: object) -> bytes:
    """One of OpenAI's events."""
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).encode()


def decoded(decoder: StreamDecoder, *events: bytes) -> tuple[str, list[Called | Finished]]:
    """The text of a stream and its ending."""
    for event in events:
        decoder.decode(event)
    text = "".join(item for item in decoder.take() if isinstance(item, str))
    return text, decoder.ending()


def calls_of(*fragments: Fragment, finish: str | None = "tool_calls") -> list[tuple[str, str]]:
    """The calls of an OpenAI stream with one fragment in each event."""
    events = [chunk(tool_calls=[each]) for each in fragments]
    _, ending = decoded(openai._decoder(OFFERED), *events, chunk(finish), b"[DONE]")
    *calls, last = ending
    assert isinstance(last, Finished)
    return [(call.name, call.arguments) for call in calls if isinstance(call, Called)]


A, B = ('{"sequence":"ACGT"}', '{"sequence":"GG"}')

QUIRKS: Mapping[str, tuple[Sequence[Fragment], Sequence[tuple[str, str]]]] = {
    "as the protocol says": (
        [
            fragment("f", "", index=0, id="a"),
            fragment(None, A[:7], index=0),
            fragment(None, A[7:], index=0),
            fragment("g", "", index=1, id="b"),
            fragment(None, B, index=1),
        ],
        [("f", A), ("g", B)],
    ),
    "interleaved": (
        [
            fragment("f", "", index=0, id="a"),
            fragment("g", "", index=1, id="b"),
            fragment(None, A[:7], index=0),
            fragment(None, B, index=1),
            fragment(None, A[7:], index=0),
        ],
        [("f", A), ("g", B)],
    ),
    "no index": (
        [fragment("f", A[:7], id="a"), fragment(None, A[7:]), fragment("f", B, id="b")],
        [("f", A), ("f", B)],
    ),
    "neither index nor id": (
        [fragment("f", A), fragment("f", B), fragment("g", "")],
        [("f", A), ("f", B), ("g", "{}")],
    ),
    "the same index": (
        [fragment("f", A, index=0, id="a"), fragment("f", B[:5], index=0, id="b"), fragment(None, B[5:], index=0)],
        [("f", A), ("f", B)],
    ),
    "the index inside of the function": (
        [
            {"id": "a", "function": {"name": "f", "arguments": A, "index": 0}},
            {"id": "b", "function": {"name": "g", "arguments": B, "index": 1}},
        ],
        [("f", A), ("g", B)],
    ),
    "the id with every fragment, and an empty name": (
        [
            fragment("f", "", index=0, id="0"),
            fragment("", A[:7], index=0, id="0"),
            fragment("", A[7:], index=0, id="0"),
        ],
        [("f", A)],
    ),
    "one id for all calls": (
        [fragment("f", A, index=0, id="0"), fragment("f", B, index=0, id="0"), fragment("g", "", index=1, id="0")],
        [("f", A), ("f", B), ("g", "{}")],
    ),
    "id and name with every fragment": (
        [fragment("f", A[:7], index=0, id="a"), fragment("f", A[7:], index=0, id="a")],
        [("f", A)],
    ),
    "an empty id": ([fragment("f", A, index=0, id=""), fragment("g", B, index=1, id="")], [("f", A), ("g", B)]),
    "null in the last fragment": (
        [fragment("f", A, index=0, id="a"), {"index": 0, "id": None, "type": None, "function": {"name": None}}],
        [("f", A)],
    ),
    "all arguments so far": (
        [
            fragment("f", A[:2], index=0, id="a"),
            fragment(None, A[:9], index=0),
            fragment(None, A, index=0),
            fragment(None, A, index=0),
        ],
        [("f", A)],
    ),
    "all arguments once more": (
        [fragment("f", A[:7], index=0, id="a"), fragment(None, A[7:]), fragment(None, A)],
        [("f", A)],
    ),
    "no arguments": (
        [fragment("f", "", index=0, id="a"), fragment("g", None, index=1, id="b")],
        [("f", "{}"), ("g", "{}")],
    ),
    "blank arguments": ([fragment("f", " \n", index=0, id="a")], [("f", "{}")]),
    "null as arguments": ([fragment("f", "null", index=0, id="a")], [("f", "{}")]),
    "an object as arguments": ([fragment("f", {"sequence": "ACGT"}, id="a")], [("f", '{"sequence": "ACGT"}')]),
    "the beginning of the arguments is valid": (
        [fragment("f", '{"a":1}', index=0, id="a"), fragment(None, " ,", index=0)],
        [("f", '{"a":1} ,')],
    ),
    "arguments that were cut": ([fragment("f", A[:9], index=0, id="a")], [("f", A[:9])]),
    "the name in pieces": (
        [
            fragment("count", "", index=0, id="a"),
            fragment("_bases", "", index=0),
            fragment(None, A, index=0),
            fragment("now", "", index=0),
            fragment("count_", "", index=0, id="c"),
            fragment("bases", "", index=0, id="c"),
        ],
        [("count_bases", A), ("now", "{}"), ("count_bases", "{}")],
    ),
    "all of the name so far": (
        [fragment(name, "", index=0, id="a") for name in ("count_", "count_bas", "count_bases", "count_bases")],
        [("count_bases", "{}")],
    ),
    "the beginning of a call at the index of the one before": (
        [
            fragment("f", A, index=0, id="a"),
            fragment("g", "", index=0, id="b"),
            fragment(None, B[:5], index=1),
            fragment(None, B[5:], index=1),
        ],
        [("f", A), ("g", B)],
    ),
    "a name in the model's own format": (
        [
            fragment("functions.count_bases:0", A, index=0, id="a"),
            fragment("functions:now", "", index=1, id="b"),
            fragment("count_bases<|channel|>commentary", B, index=2, id="c"),
            fragment("functions.rm:3", B, index=3, id="d"),
        ],
        [("count_bases", A), ("now", "{}"), ("count_bases", B), ("functions.rm:3", B)],
    ),
    "no name": ([fragment(None, A, index=0, id="a")], []),
    "no function": ([{"index": 0, "id": "a"}], []),
}


@pytest.mark.parametrize("quirk", QUIRKS)
def test_calls_are_put_together_whatever_the_server_leaves_out_or_repeats(quirk: str) -> None:
    fragments, expected = QUIRKS[quirk]
    assert calls_of(*fragments) == list(expected)


@pytest.mark.parametrize("finish", ["stop", "tool_calls", "length", None])
def test_calls_count_whatever_the_finish_reason_says(finish: str | None) -> None:
    assert calls_of(fragment("f", A, index=0, id="a"), finish=finish) == [("f", A)]


def test_a_finish_reason_that_comes_too_early_ends_nothing() -> None:
    first, second = fragment("f", "", index=0, id="a"), fragment(None, A, index=0)
    events = (chunk("tool_calls", tool_calls=[first]), chunk(tool_calls=[second]), chunk("tool_calls"), b"[DONE]")
    _, ending = decoded(openai._decoder(OFFERED), *events)
    assert [item.arguments for item in ending if isinstance(item, Called)] == [A]


def test_a_stream_that_was_cut_has_no_calls() -> None:
    _, ending = decoded(openai._decoder(OFFERED), chunk(tool_calls=[fragment("f", A, index=0, id="a")]))
    assert ending == []


def test_text_around_calls_stays_text_and_a_call_in_the_text_is_only_text() -> None:
    said = '<tool_call>{"name": "f"}</tool_call>'
    call = fragment("f", A, index=0, id="a")
    text, ending = decoded(
        openai._decoder(OFFERED),
        chunk(content="before "), chunk(content="amid ", tool_calls=[call]), chunk(content=said), chunk("stop"),
    )  # fmt: skip
    assert text == f"before amid {said}"
    assert len(ending) == 2


def test_arguments_that_grow_are_a_sign_of_life_and_an_empty_fragment_is_none() -> None:
    decoder = openai._decoder(OFFERED)
    for each in (fragment("f", "", index=0, id="a"), fragment(None, A, index=0), fragment(None, "", index=0)):
        decoder.decode(chunk(tool_calls=[each]))
    assert decoder.take() == [Thinking(), Thinking()]


def test_a_call_is_whole_in_an_answer_that_is_not_streamed() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [fragment("f", A, id="a")]}
    body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}).encode()
    items = list(openai._decode_completion(body, openai._decoder(OFFERED)))
    assert [item for item in items if isinstance(item, Called)] == [Called("f", A)]


def test_no_more_than_so_many_calls_of_one_stream_are_kept_on_both_protocols() -> None:
    fragments = [fragment("f", "{}", index=number, id=f"call{number}") for number in range(MAX_CALLS + 50)]
    assert len(calls_of(*fragments)) == MAX_CALLS
    uses = [each for number in range(anthropic.MAX_BLOCKS + 50) for each in tool_use(number, "f", "{}")]
    _, ending = decoded(anthropic._decoder(OFFERED), *uses, *message_end("tool_use"))
    assert len(ending) == anthropic.MAX_BLOCKS + 1


def test_arguments_without_end_are_not_kept_on_either_protocol() -> None:
    piece, count = "x" * 1000, MAX_ARGUMENTS // 1000 + 100
    [(_, arguments)] = calls_of(*[fragment("f", piece, index=0, id="a") for _ in range(count)])
    assert len(arguments) <= MAX_ARGUMENTS + len(piece)
    _, (call, _) = decoded(anthropic._decoder(OFFERED), *tool_use(0, "f", *[piece] * count), *message_end("tool_use"))
    assert isinstance(call, Called)
    assert len(call.arguments) <= MAX_ARGUMENTS + len(piece)


def test_without_tools_no_call_is_kept() -> None:
    _, ending = decoded(openai._decoder(()), chunk(tool_calls=[fragment("f", A, index=0, id="a")]), chunk("stop"))
    assert ending == [Finished("stop")]


# -- What goes back ----------------------------------------------------------------------------------------------------


def used(call: Called, id_: str = "Ab3dEf7h9") -> UsedTool:
    """A call with a result."""
    return UsedTool(id_, call.name, call.arguments, "4", opaque=call.opaque)


def test_signatures_and_reasoning_go_back_to_an_openai_server_as_they_came() -> None:
    signature = {"google": {"thought_signature": "c2lnbmVk"}}
    _, (call, end) = decoded(
        openai._decoder(OFFERED),
        chunk(reasoning_content="I must "), chunk(reasoning_content="count."),
        chunk(tool_calls=[fragment("f", A, index=0, id="a")]),
        chunk(tool_calls=[{"index": 0, "extra_content": signature}]),
        chunk("tool_calls"),
    )  # fmt: skip
    assert isinstance(call, Called)
    assert isinstance(end, Finished)
    turn = Turn("assistant", "", (used(call),), end.opaque)
    asked, answered = openai._messages(turn, echo=True)
    function = {"name": "f", "arguments": A}
    assert asked == {
        "role": "assistant",
        "reasoning_content": "I must count.",
        "tool_calls": [{"id": "Ab3dEf7h9", "type": "function", "function": function, "extra_content": signature}],
    }
    assert answered == {"role": "tool", "tool_call_id": "Ab3dEf7h9", "content": "4"}
    assert "reasoning_content" not in next(openai._messages(turn, echo=False))


def event(kind: str, index: int, **fields: object) -> bytes:
    """One of Anthropic's events of a block."""
    return json.dumps({"type": f"content_block_{kind}", "index": index, **fields}).encode()


def tool_use(index: int, name: str, *pieces: str, given: object = None) -> list[bytes]:
    """The events of a call in Anthropic's protocol."""
    block = {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": given or {}}
    deltas = [event("delta", index, delta={"type": "input_json_delta", "partial_json": piece}) for piece in pieces]
    return [event("start", index, content_block=block), *deltas, event("stop", index)]


def message_end(reason: str | None) -> list[bytes]:
    """The end of a message in Anthropic's protocol."""
    return [
        json.dumps({"type": "message_delta", "delta": {"stop_reason": reason}}).encode(),
        b'{"type":"message_stop"}',
    ]


@pytest.mark.parametrize("reason", ["tool_use", "end_turn", "max_tokens", None])
@pytest.mark.parametrize(
    ("events", "arguments"),
    [
        (tool_use(1, "f", A[:7], A[7:]), A),
        (tool_use(1, "f", ""), "{}"),
        (tool_use(1, "f"), "{}"),
        (tool_use(1, "f", given={"a": 1}), '{"a": 1}'),
        (tool_use(1, "f", A[:9]), A[:9]),
    ],
)
def test_anthropics_calls_are_put_together(events: list[bytes], arguments: str, reason: str | None) -> None:
    _, ending = decoded(anthropic._decoder(OFFERED), *events, *message_end(reason))
    assert [(item.name, item.arguments) for item in ending if isinstance(item, Called)] == [("f", arguments)]


def test_signed_thinking_goes_back_to_anthropic_in_its_place_byte_for_byte() -> None:
    blocks = [
        {"type": "thinking", "thinking": "", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "cmVk"},
        {"type": "text", "text": "Let me count."},
    ]
    events = [
        event("start", 0, content_block={"type": "thinking", "thinking": "", "signature": ""}),
        event("delta", 0, delta={"type": "signature_delta", "signature": "c2"}),
        event("delta", 0, delta={"type": "signature_delta", "signature": "ln"}),
        event("start", 1, content_block=blocks[1]),
        event("start", 2, content_block={"type": "text", "text": ""}),
        event("delta", 2, delta={"type": "text_delta", "text": "Let me count."}),
        event("start", 3, content_block={"type": "text", "text": " "}),
        *tool_use(4, "f", A),
        *tool_use(5, "g"),
        *message_end("tool_use"),
    ]
    _, (first, second, end) = decoded(anthropic._decoder(OFFERED), *events)
    assert isinstance(first, Called)
    assert isinstance(second, Called)
    assert isinstance(end, Finished)
    turn = Turn("assistant", "Let me count.", (used(first, "a"), used(second, "b")), end.opaque)
    asked, answered = anthropic._messages(turn)
    uses = [
        {"type": "tool_use", "id": "a", "name": "f", "input": {"sequence": "ACGT"}},
        {"type": "tool_use", "id": "b", "name": "g", "input": {}},
    ]
    assert asked == {"role": "assistant", "content": [*blocks, *uses]}
    assert answered["role"] == "user"
    results = answered["content"]
    assert isinstance(results, list)
    assert [(each["type"], each["tool_use_id"]) for each in results] == [("tool_result", "a"), ("tool_result", "b")]


def test_no_request_has_a_field_that_some_server_refuses() -> None:
    model = Model.of(1, 1, ModelSpec("m-1", "M 1", 32_000, 4_000, tools=True))
    body = anthropic._request_body(model, [Turn("user", "Count.")], OFFERED)
    sent = json.dumps([body, *map(openai._offer, OFFERED)])
    for field in ("parallel_tool_calls", "strict", "tool_choice"):
        assert field not in sent
