"""Whatever a provider sends, and however its bytes are cut: the text is kept, and the truth is told about the end.

Hypothesis draws the events from an alphabet of what providers send, their line ends, the cuts and the failure. What has
to come of it is judged by another library's framing and by a table of what each event means.
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from httpx_sse._decoders import SSEDecoder, SSELineDecoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baio_adapters.llm.event_stream import MAX_EVENT_BYTES, EventParser
from baio_domain.errors import ProviderBroken
from tests.unit.provider_streams import Ending, Protocol, play

EXAMPLES = 200

# -- Framing -----------------------------------------------------------------------------------------------------------


def framed_elsewhere(stream: bytes) -> list[str]:
    """The data of the stream's events as httpx-sse reads them. It does not know the byte order mark."""
    lines, events = SSELineDecoder(), SSEDecoder()
    text = stream.removeprefix(b"\xef\xbb\xbf").decode(errors="replace")
    found = [event for line in [*lines.decode(text), *lines.flush()] if (event := _event(events, line))]
    return [data for data, _ in found]


def _event(events: SSEDecoder, line: str) -> tuple[str, str] | None:
    # WHATWG's event needs a data line; the other library also gives out events without one.
    has_data = bool(events._data)
    event = events.decode(line)
    return (event.data, event.event) if event is not None and has_data else None


def framed(*pieces: bytes) -> list[str]:
    parser = EventParser()
    found: list[bytes] = []
    for piece in pieces:
        parser.feed(piece, found.append)
    return [data.decode(errors="replace") for data in found]


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """The stream in pieces."""
    ends = sorted({min(place, len(stream)) for place in places} | {0, len(stream)})
    return [stream[start:end] for start, end in itertools.pairwise(ends)] or [stream]


LINES = st.sampled_from(
    ["data: a", "data:b", "data:  c ", "data", "data:", "datax: d", ": comment", ":", "", "", "event: e", "id: 7",
     "retry: 3", " data: f", "data: ø🧬\u2028\x0b\x85", "data : g", "d", "data: : h",
     "\ufeffdata: i"]
)  # fmt: skip
STARTS = [b"", b"\xef\xbb\xbf"]
ENDS = st.sampled_from(["\n", "\r", "\r\n"])


@settings(max_examples=EXAMPLES)
@given(
    st.lists(st.tuples(LINES, ENDS), max_size=12), st.sampled_from(STARTS), st.lists(st.integers(0, 200), max_size=12)
)
def test_events_are_framed_as_by_a_well_kept_library_wherever_the_bytes_are_cut(
    lines: list[tuple[str, str]], start: bytes, places: list[int]
) -> None:
    stream = start + "".join(line + end for line, end in lines).encode()
    assert framed(*cut(stream, places)) == framed_elsewhere(stream)
    assert framed(*(bytes([byte]) for byte in stream)) == framed(stream)


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 8000, b"data: x\n" * 1000, b"data\n" * 1000, b":" * 8000])
def test_an_endless_event_is_refused_before_it_takes_much_memory(piece: bytes) -> None:
    parser = EventParser()
    found: list[bytes] = []
    allowed = MAX_EVENT_BYTES // len(piece)
    for _ in range(allowed):
        parser.feed(piece, found.append)
    with pytest.raises(ProviderBroken):
        parser.feed(piece, found.append)
    assert found == []


@pytest.mark.parametrize("size", [MAX_EVENT_BYTES - 6, MAX_EVENT_BYTES - 5])
def test_the_longest_event_is_the_same_at_every_cut(size: int) -> None:
    stream = b"data: " + b"x" * size + b"\n\n"
    for pieces in ([stream], [stream[:7], stream[7:]], [stream[:-1], stream[-1:]], [stream[:-2], stream[-2:]]):
        if size + 6 > MAX_EVENT_BYTES:
            with pytest.raises(ProviderBroken):
                framed(*pieces)
        else:
            assert len(framed(*pieces)[0]) == size


def test_endless_keep_alives_take_no_memory() -> None:
    parser = EventParser()
    found: list[bytes] = []
    for _ in range(1000):
        parser.feed(b": still here\n" * 1000, found.append)
    assert found == []
    assert (len(parser._line), parser._data, parser._size) == (0, [], 0)


# -- The alphabet ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """What a provider sends, and what it means."""

    data: str
    text: str = ""
    thinking: str | None = None
    finish: str | None = None
    usage: tuple[int, int, int | None] | None = None
    error: str | None = None
    last: bool = False


def openai(**fields: object) -> str:
    return json.dumps({"id": "c-1", "object": "chat.completion.chunk", **fields})


def chunk(delta: object, finish: object = None, **more: object) -> str:
    return openai(choices=[{"index": 0, "delta": delta, "finish_reason": finish, **more}])


NOISE = [
    Event(data)
    for data in ("ping", "null", ": x", "", "[]", "7", '"text"', "[1, {}]", "PROCESSING", "[DONE", "DONE", "true")
]  # fmt: skip

OPENAI = [
    *NOISE,
    Event(chunk({"content": "A codon "}), "A codon "),
    Event(chunk({"content": "is ø 🧬"}), "is ø 🧬"),
    Event(json.dumps({"choices": [{"delta": {"content": "æ\u2028"}}]}, ensure_ascii=False), "æ\u2028"),
    Event(chunk({"content": "NUL\0"}), "NUL\ufffd"),
    Event(json.dumps({"choices": [{"delta": {"content": "over\ntwo"}}]}, indent=1), "over\ntwo"),
    Event(chunk({"content": "more"}, "stop"), "more", finish="stop"),
    Event(chunk({"content": "no "}, "null"), "no "),
    Event(chunk({"content": "none "}, "None"), "none "),
    Event(chunk({"content": "", "role": "assistant"}, "")),
    Event(chunk({"content": None})),
    Event(chunk({"content": []})),
    Event(chunk([])),
    Event(chunk(None)),
    Event(chunk({"content": [{"type": "text", "text": "part"}, "s", {"type": "image_url", "image_url": {}}]}), "parts"),
    Event(chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]}), thinking="Hm"),
    Event(chunk({"content": "refused", "refusal": None}, index=None), "refused"),
    Event(chunk({"refusal": "I can't. "}, index="0"), "I can't. "),
    Event(chunk({"content": "the second choice"}, index=1)),
    Event(chunk({"reasoning_content": "First, "}), thinking="First, "),
    Event(chunk({"content": "", "reasoning": "second, "}), thinking="second, "),
    Event(chunk({"reasoning_details": [{"type": "reasoning.text", "text": "third. "}]}), thinking="third. "),
    Event(chunk({"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}), thinking=""),
    Event(chunk({"reasoning_content": "Then ", "content": "both. "}), "both. ", thinking="Then "),
    Event(chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a'}}]}), thinking=""),
    Event(chunk({"tool_calls": [{"index": 0, "function": {"arguments": ""}}]})),
    Event(chunk({}, "stop"), finish="stop"),
    Event(chunk({}, "MAX_TOKENS"), finish="length"),
    Event(chunk({}, "SAFETY"), finish="content_filter"),
    Event(chunk({}, "insufficient_system_resource"), finish="insufficient_system_resource"),
    Event(chunk({}, "brand_new"), finish="brand_new"),
    Event(openai(choices=[], usage={"prompt_tokens": 11, "completion_tokens": 7}), usage=(11, 7, None)),
    Event(
        openai(
            choices=[],
            usage={"prompt_tokens": 12, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 5}},
        ),
        usage=(12, 9, 5),
    ),
    Event(openai(choices=[], usage={"prompt_tokens": 13.0, "completion_tokens": "8"}), usage=(13, 8, None)),
    Event(openai(choices=[], usage={"prompt_tokens": 2**64 - 1, "completion_tokens": 4}), usage=(0, 4, None)),
    Event(openai(choices=[], usage={"prompt_tokens": -1, "completion_tokens": 1e308})),
    Event(openai(choices=None, usage=None)),
    Event(openai(choices=[], usage=[])),
    Event(openai(choices=[], usage="many", model=7)),
    Event(openai(choices=[], error={})),
    Event(openai(error=False, usage={"prompt_tokens": None, "completion_tokens": None})),
    Event(openai(choices=[], prompt_filter_results=[{}], error="")),
    Event('{"choices": [{"delta": {"content"', error="provider-broken"),
    Event('{"choices": "x"}', error="provider-broken"),
    Event(chunk({"content": 7}), error="provider-broken"),
    Event('{"error": {"code": "rate_limit_exceeded"}}', error="provider-rate-limited"),
    Event('[{"error": {"code": "context_length_exceeded"}}]', error="prompt-too-long"),
    Event(openai(choices=[{"delta": {"content": "its "}}], error={"message": "x"}), "its ", error="provider-broken"),
    Event('{"object": "error", "message": "x", "code": 400}', error="prompt-refused"),
    Event("[DONE]", last=True),
    Event('"[DONE]"', last=True),
]  # fmt: skip


def anthropic(kind: str, **fields: object) -> str:
    return json.dumps({"type": kind, **fields})


def block(**delta: object) -> str:
    return anthropic("content_block_delta", index=0, delta=delta)


ANTHROPIC = [
    *NOISE,
    Event(anthropic("ping")),
    Event(anthropic("weather", delta={"rain": 7})),
    Event(anthropic("message_start", message={"usage": {"input_tokens": 11, "output_tokens": 1}}), usage=(11, 1, None)),
    Event(anthropic("message_start", message=None)),
    Event(anthropic("content_block_start", content_block={"type": "text", "text": ""})),
    Event(anthropic("content_block_start", content_block={"type": "text", "text": "begin "}), "begin "),
    Event(anthropic("content_block_start", content_block={"type": "thinking", "thinking": "", "signature": ""})),
    Event(anthropic("content_block_start", content_block={"type": "redacted_thinking", "data": "x"}), thinking=""),
    Event(block(type="text_delta", text="A codon "), "A codon "),
    Event(block(type="text_delta", text="is ø 🧬"), "is ø 🧬"),
    Event(block(type="text_delta", text=None)),
    Event(block(type="text_delta", text=[{"type": "text", "text": "part"}]), "part"),
    Event(block(type="thinking_delta", thinking="Hm. "), thinking="Hm. "),
    Event(block(type="signature_delta", signature="Eq"), thinking=""),
    Event(block(type="input_json_delta", partial_json='{"a'), thinking=""),
    Event(block(type="input_json_delta", partial_json="")),
    Event(anthropic("content_block_delta", delta=[])),
    Event(anthropic("content_block_stop", index=None)),
    Event(anthropic("message_delta", delta={"stop_reason": None}, usage={"output_tokens": 3.0}), usage=(-1, 3, None)),
    Event(anthropic("message_delta", delta={"stop_reason": "end_turn"}, usage=None), finish="stop"),
    Event(anthropic("message_delta", delta={"stop_reason": "max_tokens"}, usage=[]), finish="length"),
    Event(anthropic("message_delta", delta={"stop_reason": "pause_turn"}), finish="pause_turn"),
    Event(anthropic("message_delta", delta={"stop_reason": "refusal"}), finish="content_filter"),
    Event(anthropic("message_delta", delta={}, error={})),
    Event(anthropic("content_block_delta", delta={"text": 7}), error="provider-broken"),
    Event('{"type": "content_b', error="provider-broken"),
    Event("{}", error="provider-broken"),
    Event(anthropic("error", error={"type": "rate_limit_error", "message": "x"}), error="provider-rate-limited"),
    Event(anthropic("error", error={"type": "overloaded_error", "message": "x"}), error="provider-broken"),
    Event(anthropic("message_stop"), last=True),
    Event("[DONE]", last=True),
]  # fmt: skip

ALPHABET: dict[Protocol, list[Event]] = {"openai": OPENAI, "anthropic": ANTHROPIC}
STATES = {"stop": "complete", "brand_new": "complete", "length": "truncated", "content_filter": "truncated"} | {
    "pause_turn": "truncated", "insufficient_system_resource": "failed",
}  # fmt: skip


# -- What has to come of it --------------------------------------------------------------------------------------------


@dataclass
class Expected:
    """An answer, told event by event."""

    text: str = ""
    thinking: str = ""
    finish: str | None = None
    certain: bool = False
    usage: tuple[int, int, int | None] | None = None
    error: str | None = None
    done: bool = False
    withdrawn: bool = False
    begun: bool = False

    def tell(self, event: Event) -> None:
        """Go on, unless it has ended."""
        if self.done or self.error:
            return
        if (event.text or event.thinking is not None) and self.finish:
            self.finish, self.certain, self.withdrawn = None, False, True
        self.text += event.text
        self.thinking += event.thinking or ""
        if event.finish:
            self.finish, self.certain = event.finish, self.begun and not self.withdrawn
        if event.text or event.thinking is not None:
            self.begun = True
        if event.usage:
            prompt, completion, thinking = event.usage
            before = self.usage or (0, 0, None)
            thinking = before[2] if thinking is None else thinking
            self.usage = (before[0] if prompt <= 0 else prompt, completion or before[1], thinking)
        self.error = event.error
        if event.last:
            self.done = self.certain = True

    def outcome(self, ending: Ending, rest: list[Event]) -> tuple[object, ...]:
        """How it has to end: what the client saw, what is stored, the end, and the usage."""
        too_slow = ending == "silent" and not self.certain
        if not too_slow:
            for event in rest:
                if event.error == "provider-broken" and (self.certain or ending == "reset") and event not in KNOWN:
                    continue  # the beginning of an event whose end is missing
                self.tell(event)
        finish = self.finish
        if self.error is None and too_slow:
            self.error = "provider-too-slow"
        if self.error is None and (finish is None or (ending == "reset" and not self.certain)):
            self.error = "provider-broken"
        if self.error:
            return (
                self.text,
                self.thinking,
                self.error,
                self.text,
                ("failed", None, self.error, None),
                (None, None, None),
            )
        assert finish is not None
        state, reason = STATES[finish], None
        if not self.text or state == "failed":
            state, reason = "failed", "prompt-refused" if finish == "content_filter" else "provider-broken"
        usage = self.usage or (None, None, None)
        if not usage[0] or (self.begun and not usage[1]):  # a count that can't be true
            usage = (None, None, None)
        return self.text, self.thinking, reason, self.text, (state, finish, reason, None), usage


KNOWN = {*OPENAI, *ANTHROPIC}


def events_of(protocol: Protocol, datas: list[str]) -> Iterator[Event]:
    """What these events mean; the beginning of an object means that it can't be read, other beginnings nothing."""
    by_data = {event.data: event for event in ALPHABET[protocol]}
    for data in datas:
        yield by_data.get(data, Event(data, error="provider-broken" if data.lstrip().startswith("{") else None))


def written(data: str, end: str) -> bytes:
    """An event as it is sent, on several lines of data where it has several."""
    lines = "".join(f"data: {line}{end}" for line in data.split("\n"))
    return f"{lines}{end}".encode()


BETWEEN = st.sampled_from([b"", b"", b": keep-alive\n\n", b"event: unheard-of\nid: 7\nretry: 3\n", b"\r\n"])


@dataclass(frozen=True)
class Scene:
    """What a provider sends, how the connection ends, and where the bytes are cut."""

    protocol: Protocol
    stream: bytes
    ending: Ending
    places: list[int]


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    protocol: Protocol = draw(st.sampled_from(["openai", "anthropic"]))
    stream = draw(st.sampled_from(STARTS))
    for event in draw(st.lists(st.sampled_from(ALPHABET[protocol]), max_size=7)):
        stream += draw(BETWEEN) + written(event.data, draw(ENDS))
    length = draw(st.just(len(stream)) | st.integers(0, len(stream)))
    ending: Ending = draw(st.sampled_from(["closed", "reset", "silent"]))
    return Scene(protocol, stream[:length], ending, draw(st.lists(st.integers(0, length), max_size=6)))


# All is drawn before the test runs: what Hypothesis raises in a coroutine to give up an example ends anyio's runner.
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(scenes())
async def test_whatever_is_sent_and_however_it_is_cut_the_text_is_kept_and_the_end_is_true(scene: Scene) -> None:
    complete = framed_elsewhere(scene.stream)
    rest = framed_elsewhere(scene.stream + b"\n\n")[len(complete) :]
    expected = Expected()
    for event in events_of(scene.protocol, complete):
        expected.tell(event)
    outcome = expected.outcome(scene.ending, list(events_of(scene.protocol, rest)))
    for pieces in ([scene.stream], cut(scene.stream, scene.places), [bytes([byte]) for byte in scene.stream]):
        result = await play(scene.protocol, pieces, scene.ending)
        assert result.shown == result.stored
        assert result.outcome == outcome


# -- Time --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1, 7, 25])
async def test_a_server_that_says_stop_with_every_text_is_heard_to_the_end(seconds: int) -> None:
    pieces = [written(chunk({"content": text}, "stop"), "\n") for text in ("A codon ", "is ", "three.")]
    result = await play("openai", [*pieces, b"data: [DONE]\n\n"], pause=seconds)
    assert (result.stored, result.record.state, result.record.finish_reason) == (
        "A codon is three.",
        "complete",
        "stop",
    )


async def test_a_server_that_says_stop_with_every_text_and_disconnects_has_not_finished() -> None:
    pieces = [written(chunk({"content": text}, "stop"), "\n") for text in ("A codon ", "is ")]
    result = await play("openai", pieces, "reset")
    assert (result.stored, result.record.state, result.record.reason) == ("A codon is ", "failed", "provider-broken")


@pytest.mark.parametrize("ending", ["reset", "silent"])
async def test_an_answer_that_has_finished_needs_no_end_of_the_connection(ending: Ending) -> None:
    pieces = [written(chunk({"content": "A codon."}), "\n"), written(chunk({}, "stop"), "\n")]
    result = await play("openai", pieces, ending)
    assert (result.stored, result.record.state) == ("A codon.", "complete")


@pytest.mark.parametrize("halves", [("\ud83e", "\uddec"), ("a\ud83e", "\uddecb")])
async def test_a_character_split_over_two_events_is_joined(halves: tuple[str, str]) -> None:
    stream = b"".join(written(chunk({"content": half}), "\n") for half in halves)
    result = await play("openai", [stream + written(chunk({}, "stop"), "\n")])
    assert result.shown == "".join(halves).encode("utf-16", "surrogatepass").decode("utf-16")


async def test_half_a_character_spoils_no_other_text() -> None:
    stream = b"".join(written(chunk({"content": text}), "\n") for text in ("a\ud83e", "b", "c\ud83e", "d"))
    result = await play("openai", [stream + written(chunk({}, "stop"), "\n")])
    assert result.shown == result.stored == "a\ufffdbc\ufffdd"


async def test_events_without_a_blank_line_between_them_are_read() -> None:
    lines = [chunk({"content": "A codon "}), chunk({"content": "is three."}), chunk({}, "stop"), "[DONE]"]
    result = await play("openai", ["".join(f"data: {line}\n" for line in lines).encode()])
    assert (result.stored, result.record.state) == ("A codon is three.", "complete")


async def test_a_whole_message_after_the_text_is_not_shown_twice() -> None:
    last = openai(choices=[{"message": {"content": "A codon."}, "finish_reason": "stop"}])
    result = await play("openai", [written(chunk({"content": "A codon."}), "\n") + written(last, "\n")])
    assert result.stored == "A codon."


async def test_bytes_that_are_not_utf_8_are_replaced() -> None:
    result = await play("openai", [b'data: {"choices":[{"delta":{"content":"a\xffb"},"finish_reason":"stop"}]}\n\n'])
    assert (result.stored, result.record.state) == ("a\ufffdb", "complete")


DEEP = 100_000


@pytest.mark.parametrize(
    "data",
    [
        '{"error": ' + "[" * DEEP + "]" * DEEP + "}",
        '{"choices": [{"delta": {"reasoning_details": ' + "[" * DEEP + "]" * DEEP + "}}]}",
        '{"choices": [{"delta": {"content": ' + "[" * DEEP + "]" * DEEP + "}}]}",
        '{"choices": [{"delta": {"content": [{"text": [{"text": "deep"}]}]}}]}',
        '{"choices": [{"delta": {"content": [7]}}]}',
    ],
)
async def test_an_event_that_could_have_been_text_and_is_too_odd_costs_no_text_before_it(data: str) -> None:
    stream = written(chunk({"content": "A codon "}), "\n") + written(data, "\n")
    result = await play("openai", [stream])
    assert (result.stored, result.record.state, result.record.reason) == ("A codon ", "failed", "provider-broken")


async def test_what_follows_the_last_event_changes_nothing() -> None:
    stream = written(chunk({"content": "A codon."}), "\n") + written(chunk({}, "stop"), "\n") + b"data: [DONE]\n\n"
    for pieces in ([stream, b"x" * (MAX_EVENT_BYTES + 1)], [stream, written(chunk({"content": "More."}), "\n")]):
        result = await play("openai", pieces)
        assert (result.stored, result.record.state) == ("A codon.", "complete")


# -- The world's shapes ------------------------------------------------------------------------------------------------

CORPUS = [
    pytest.param(path.read_bytes(), id=path.stem)
    for path in sorted((Path(__file__).parents[1] / "provider_streams").glob("*.sse"))
]
"""One stream per server and quirk, with invented contents. The first line says which, the second what must come of it.

Both are comments, which no decoder reads.
"""


@pytest.mark.parametrize("stream", CORPUS)
async def test_a_stream_of_the_world_becomes_the_answer_that_was_meant(stream: bytes) -> None:
    expected = json.loads(stream.split(b"\n")[1].removeprefix(b": "))
    protocol = expected.pop("protocol")
    for pieces in ([stream], stream.splitlines(keepends=True), [bytes([byte]) for byte in stream]):
        result = await play(protocol, pieces)
        record = result.record
        assert result.shown == result.stored
        assert {
            "text": result.stored,
            "thinking": result.thinking,
            "state": record.state,
            "finish_reason": record.finish_reason,
            "reason": record.reason,
            "model": record.model,
            "usage": [record.prompt_tokens, record.completion_tokens, record.thinking_tokens],
        } == expected
