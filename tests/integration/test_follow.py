"""Following an answer: from any character on, live and afterwards, as text and as events."""

import asyncio
import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from tests.integration.answers import ended, last, paced, records, said, send, stop
from tests.integration.scripted_provider import (
    Exchange,
    ScriptedProvider,
    answer,
    cut_after,
    gated,
    reset_after,
    thoughtful,
)
from tests.integration.servers import User, Wire, eventually

EVENTS = {"Accept": "text/event-stream"}

BEFORE = ("A🧬", "e\u0301", "👩\u200d🔬 ")
AFTER = ("ночь ", "🧫", "end")
SHOWN, WHOLE = "".join(BEFORE), "".join(BEFORE + AFTER)


class Event(NamedTuple):
    """One server-sent event."""

    name: str
    id: int | None
    data: dict[str, Any]


def follow(user: User, conversation_id: int, offset: object = None, **headers: str) -> Wire:
    """Follow on a socket of its own."""
    query = "" if offset is None else f"&offset={offset}"
    path = f"/chat/followAnswer/?conversation_id={conversation_id}{query}"
    return Wire(user.server, "GET", path, headers={"Authorization": f"Bearer {user.access}", **headers})


def text_of(wire: Wire) -> str:
    """The rest of an answer that must end properly."""
    chunks, properly = wire.chunks()
    assert properly
    return b"".join(chunks).decode()


def events_of(wire: Wire) -> list[Event]:
    """The rest of an event stream, which must end properly."""
    assert wire.status == 200
    assert wire.headers["content-type"].startswith("text/event-stream")
    return parsed(text_of(wire))


def parsed(stream: str) -> list[Event]:
    """Events as a browser understands them."""
    *blocks, rest = stream.split("\n\n")
    assert rest == ""
    found = []
    for block in blocks:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if fields:
            number = fields.get("id")
            found.append(Event(fields["event"], None if number is None else int(number), json.loads(fields["data"])))
    return found


def test_A3_the_answers_id_comes_before_its_text_is_complete(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = asker.begin()
    provider.script(gated(gate, BEFORE, AFTER))
    with send(asker, conversation) as wire:
        assert wire.status == 200
        assert wire.headers["x-answer-id"] == str(last(asker, conversation)["id"])
        assert last(asker, conversation)["state"] == "running"
        gate.set()
        assert text_of(wire) == WHOLE


def test_A3_followers_get_what_is_there_at_once_then_the_rest_live_from_any_character_on(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = asker.begin()
    provider.script(gated(gate, BEFORE, AFTER))
    with send(asker, conversation) as wire, ExitStack() as stack:
        read = b""
        while read.decode() != SHOWN:
            read += wire.chunk() or b""
        followers = [stack.enter_context(follow(asker, conversation, offset)) for offset in range(len(SHOWN) + 1)]
        for offset, follower in enumerate(followers[:-1]):
            there = b""
            while there.decode() != SHOWN[offset:]:
                there += follower.chunk() or b""
            assert follower.headers["x-answer-id"] == wire.headers["x-answer-id"]
        gate.set()
        assert [text_of(follower) for follower in followers] == ["".join(AFTER)] * len(followers)
        assert text_of(wire) == "".join(AFTER)


def test_A3_after_its_end_an_answer_can_be_followed_from_any_character_on(
    asker: User, provider: ScriptedProvider
) -> None:
    conversation = asker.begin()
    provider.script(answer(*BEFORE, *AFTER))
    asker.ask(conversation)
    for offset in range(len(WHOLE) + 1):
        with follow(asker, conversation, offset) as follower:
            assert follower.status == 200
            assert follower.headers["content-type"] == "text/plain; charset=utf-8"
            assert follower.headers["cache-control"] == "no-store"
            assert text_of(follower) == WHOLE[offset:]


def test_A3_every_chunk_ends_on_a_whole_character(asker: User, provider: ScriptedProvider) -> None:
    conversation = asker.begin()
    long = WHOLE * 20_000
    provider.script(answer(*[WHOLE * 100] * 200))
    assert asker.ask(conversation).text == long
    with follow(asker, conversation, 7) as follower:
        chunks, properly = follower.chunks()
    assert properly
    assert "".join(chunk.decode() for chunk in chunks) == long[7:]


def test_A3_followers_who_join_at_different_times_all_see_the_same_bytes(
    asker: User, provider: ScriptedProvider
) -> None:
    conversation = asker.begin()
    pieces = [f"{number} µ🧬e\u0301\r\n" for number in range(60)]
    provider.script(paced(*pieces, delay=0.01))
    chance = random.Random(7)
    waits = [chance.random() * 0.5 for _ in range(12)]

    def join_after(seconds: float) -> bytes:
        threading.Event().wait(seconds)
        with follow(asker, conversation) as follower:
            chunks, properly = follower.chunks()
            assert properly
            return b"".join(chunks)

    with send(asker, conversation) as wire, ThreadPoolExecutor(len(waits)) as threads:
        assert wire.status == 200
        seen = list(threads.map(join_after, waits))
        assert text_of(wire) == "".join(pieces)
    assert set(seen) == {"".join(pieces).encode()}
    assert said(asker, conversation)[-1] == ("baio", "".join(pieces))


def test_A3_the_newest_answer_is_the_one_that_is_followed(asker: User, provider: ScriptedProvider) -> None:
    conversation = asker.begin()
    provider.script(answer("First."), answer("Second."))
    asker.ask(conversation)
    asker.ask(conversation)
    with follow(asker, conversation) as follower:
        assert text_of(follower) == "Second."
        assert follower.headers["x-answer-id"] == str(last(asker, conversation)["id"])


def test_A3_an_answer_is_followed_by_its_id_whatever_was_asked_since(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = asker.begin()
    provider.script(answer(WHOLE), answer("Replaced."), answer("Replacing."), gated(gate, (SHOWN,), AFTER))
    body = {"conversation_id": conversation, "apikey_nickname": "OpenAI Key", "model": "gpt-4o"}
    asker.ask(conversation, "First?")
    asker.ask(conversation, "Second?")
    assert asker.http.post("/chat/regenerateAnswer/", json=body).status_code == 200
    with send(asker, conversation, "Third?") as wire:
        assert wire.chunk() == SHOWN.encode()
        first, second, regenerated, running = (record["id"] for record in records(asker, conversation))
        assert str(running) == wire.headers["x-answer-id"]
        for answer_id, text in ((first, WHOLE), (second, "Replaced."), (regenerated, "Replacing.")):
            for offset in (0, 2, len(text)):
                with follow(asker, conversation, f"{offset}&answer_id={answer_id}") as follower:
                    assert text_of(follower) == text[offset:]
                    assert follower.headers["x-answer-id"] == str(answer_id)
        with follow(asker, conversation, f"{len(SHOWN)}&answer_id={running}") as follower:
            gate.set()
            assert text_of(follower) == "".join(AFTER)
    with follow(asker, conversation, f"0&answer_id={first}", **EVENTS, **{"Last-Event-ID": "3"}) as follower:
        assert "".join(event.data["text"] for event in events_of(follower)[:-1]) == WHOLE[3:]
    with follow(asker, conversation, f"{len(WHOLE) + 1}&answer_id={first}") as refused:
        assert refused.status == 400


def test_A3_an_answer_of_another_conversation_or_of_somebody_else_or_none_is_not_found_by_its_id(
    asker: User, other: User
) -> None:
    other.add_key()
    conversation, elsewhere, theirs = asker.begin(), asker.begin(), other.begin()
    for user, each in ((asker, conversation), (asker, elsewhere), (other, theirs)):
        assert user.ask(each).status_code == 200
    here, there, his = last(asker, conversation)["id"], last(asker, elsewhere)["id"], last(other, theirs)["id"]
    wrong = [(conversation, there), (conversation, his), (theirs, his), (theirs, here), (elsewhere, here)]
    wrong += [(conversation, number) for number in (0, -1, 2**63 - 1, 2**63, 10**30)]
    refusals = set()
    for conversation_id, answer_id in wrong:
        with follow(asker, conversation_id, f"0&answer_id={answer_id}") as refused:
            assert refused.status == 404
            refusals.add(refused.rest())
    assert len(refusals) == 1
    for not_an_id in ("", "one", "1.0", "null"):
        with follow(asker, conversation, f"0&answer_id={not_an_id}") as refused:
            assert refused.status == 400
            assert [each["field"] for each in json.loads(refused.rest())["errors"]] == ["answer_id"]


@pytest.mark.parametrize("running", [True, False], ids=["running", "ended"])
def test_A3_an_offset_past_the_end_is_refused(
    asker: User, provider: ScriptedProvider, gate: threading.Event, *, running: bool
) -> None:
    conversation = asker.begin()
    provider.script(gated(gate, (SHOWN,), ()))
    with send(asker, conversation) as wire:
        assert wire.chunk() == SHOWN.encode()
        if not running:
            gate.set()
            ended(asker, conversation)
        for offset in (len(SHOWN) + 1, 10**9, 2**70, -1, "one"):
            with follow(asker, conversation, offset) as refused:
                assert refused.status == 400
                assert refused.headers["content-type"] == "application/problem+json"
                assert json.loads(refused.rest())["errors"][0]["field"] == "offset"


def test_A3_where_there_is_no_answer_yet_or_it_is_somebody_elses_there_is_nothing_to_follow(
    asker: User, other: User
) -> None:
    conversation = asker.begin()
    with follow(asker, conversation) as follower:
        assert follower.status == 404
    asker.ask(conversation)
    with follow(other, conversation) as follower:
        assert follower.status == 404
    with follow(asker, conversation + 10**6) as follower:
        assert follower.status == 404


def test_A3_a_follower_before_the_first_text_waits_for_it(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = asker.begin()
    provider.script(gated(gate, (), AFTER))
    with send(asker, conversation) as wire:
        provider.wait_for_requests(1)
        with follow(asker, conversation) as follower:
            gate.set()
            assert text_of(follower) == "".join(AFTER)
        assert text_of(wire) == "".join(AFTER)


def test_A3_a_stop_ends_every_follower_properly(asker: User, provider: ScriptedProvider, gate: threading.Event) -> None:
    conversation = asker.begin()
    provider.script(gated(gate, (SHOWN,), AFTER))
    with send(asker, conversation) as wire:
        assert wire.chunk() == SHOWN.encode()
        with follow(asker, conversation, 2) as follower:
            assert follower.chunk() == SHOWN[2:].encode()
            assert stop(asker, conversation).status_code == 200
            assert wire.chunks() == follower.chunks() == ([], True)


# Events


def test_A3_events_carry_the_text_with_the_offset_after_it_and_then_the_end(
    asker: User, provider: ScriptedProvider
) -> None:
    conversation = asker.begin()
    provider.script(answer(*BEFORE, *AFTER, delay=0.01))
    with send(asker, conversation, **EVENTS) as wire:
        *deltas, end = events_of(wire)
        assert wire.headers["x-answer-id"] == str(last(asker, conversation)["id"])
        assert wire.headers["cache-control"] == "no-store"
    text = ""
    for event in deltas:
        text += event.data["text"]
        assert event == Event("delta", len(text), {"text": event.data["text"]})
        assert event.data["text"]
    assert text == WHOLE
    usage = {"prompt_tokens": 11, "completion_tokens": 7}
    assert end == Event("end", None, {"state": "complete", "finish_reason": "stop", "usage": usage})


def test_A3_events_carry_what_the_model_thinks_and_the_record_how_long(asker: User, provider: ScriptedProvider) -> None:
    conversation = asker.begin()
    provider.script(thoughtful(["The user ", "asks. "], "Three.", delay=0.05))
    with send(asker, conversation, **EVENTS) as wire:
        *thoughts, delta, end = events_of(wire)
    assert {(event.name, event.id) for event in thoughts} == {("thinking", None)}
    assert "".join(event.data["text"] for event in thoughts) == "The user asks. "
    assert delta == Event("delta", 6, {"text": "Three."})
    assert (end.name, end.data["state"]) == ("end", "complete")
    assert said(asker, conversation)[-1] == ("baio", "Three.")
    assert last(asker, conversation)["thinking_seconds"] > 0.05
    with follow(asker, conversation, **EVENTS) as later:
        assert [event.name for event in events_of(later)] == ["delta", "end"]


def test_A3_plain_text_has_nothing_of_what_the_model_thinks(asker: User, provider: ScriptedProvider) -> None:
    conversation = asker.begin()
    provider.script(thoughtful(["The user asks. "], "Three."))
    with send(asker, conversation) as wire:
        assert text_of(wire) == "Three."


def test_A3_thinking_begins_an_event_stream_and_a_later_failure_is_its_error(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    async def think_and_fail(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.think("Hm. ")
        while not gate.is_set():  # noqa: ASYNC110 - another thread opens it
            await asyncio.sleep(0.002)
        exchange.cut()

    conversation = asker.begin()
    provider.script(think_and_fail)
    with send(asker, conversation, **EVENTS) as wire:
        assert parsed((wire.chunk() or b"").decode()) == [Event("thinking", None, {"text": "Hm. "})]
        gate.set()
        (error,) = events_of(wire)
    assert (error.name, error.data["type"]) == ("error", "urn:baio:error:provider-broken")


def test_A3_regenerating_gives_events_to_who_accepts_them(asker: User, provider: ScriptedProvider) -> None:
    conversation = asker.begin()
    asker.ask(conversation)
    provider.script(answer("Again.", finish="length"))
    body = {"conversation_id": conversation, "apikey_nickname": "OpenAI Key", "model": "gpt-4o"}
    with asker.wire("/chat/regenerateAnswer/", body, **EVENTS) as wire:
        delta, end = events_of(wire)
    assert delta == Event("delta", 6, {"text": "Again."})
    assert (end.name, end.data["state"], end.data["finish_reason"]) == ("end", "truncated", "length")


@pytest.mark.parametrize(
    "accept",
    [
        "text/event-stream",
        "text/event-stream, */*;q=0.1",
        "TEXT/EVENT-STREAM",
        "text/event-stream, */*",
        "*/*, text/event-stream",
        "text/event-stream, text/plain",
        "text/plain;q=0.5, text/event-stream;q=0.9",
        "application/json, text/event-stream",
        "text/plain; q=0, */*",
        "text/event-stream; charset=utf-8",
        'text/html;title="a,b;q=0", text/event-stream',
        "text/event-stream;q=much",
        ", ,text/event-stream,",
        "text/event-stream;q=.2",
        "application/json\r\nAccept: text/event-stream",
    ],
)
def test_A3_what_accepts_events_is_given_events(asker: User, accept: str) -> None:
    conversation = asker.begin()
    asker.ask(conversation)
    with follow(asker, conversation, Accept=accept) as wire:
        assert [event.name for event in events_of(wire)] == ["delta", "end"]


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "text/*",
        "text/plain",
        "application/json",
        "",
        "text/event-stream;q=0",
        "text/event-stream ; Q = 0.000, */*",
        "text/plain, text/event-stream",
        "text/plain, text/event-stream;q=0.9",
        "text/*;q=0.9, text/event-stream;q=0.5",
        "text/plain;q=0, text/event-stream;q=0",
        'text/html;title="text/event-stream"',
        "application/x-text/event-stream, xtext/event-streams",
        "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
        "x/y," * 9_000,
        '"' * 30_000,
    ],
    ids=lambda accept: accept[:40],
)
def test_A3_everybody_else_is_given_text(asker: User, accept: str) -> None:
    conversation = asker.begin()
    asker.ask(conversation)
    with follow(asker, conversation, Accept=accept) as wire:
        assert wire.headers["content-type"] == "text/plain; charset=utf-8"
        assert text_of(wire) == "A codon is three nucleotides."


def test_A3_no_text_ends_a_line_of_the_events(asker: User, provider: ScriptedProvider) -> None:
    conversation = asker.begin()
    text = "".join(map(chr, range(1, 0xA1))) + "\u2028\u2029\ufeff\\u2028 \U0001f9ec"
    provider.script(answer(text))
    asker.ask(conversation)
    with follow(asker, conversation, **EVENTS) as wire:
        stream = text_of(wire)
    assert stream.splitlines() == stream.split("\n")[:-1]
    delta, end = parsed(stream)
    assert delta == Event("delta", len(text), {"text": text})
    assert end.name == "end"


def test_A3_events_from_an_offset_are_numbered_from_there(asker: User, provider: ScriptedProvider) -> None:
    conversation = asker.begin()
    provider.script(answer(WHOLE))
    asker.ask(conversation)
    for offset in range(len(WHOLE)):
        with follow(asker, conversation, offset, **EVENTS) as wire:
            assert events_of(wire)[:-1] == [Event("delta", len(WHOLE), {"text": WHOLE[offset:]})]
    with follow(asker, conversation, len(WHOLE), **EVENTS) as wire:
        (end,) = events_of(wire)
    assert (end.name, end.data["state"]) == ("end", "complete")


def test_A3_the_last_event_id_resumes_live_and_after_the_end(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = asker.begin()
    provider.script(gated(gate, (SHOWN,), AFTER))
    with send(asker, conversation, **EVENTS) as wire:
        seen = parsed((wire.chunk() or b"").decode())[-1].id
    assert seen == len(SHOWN)
    # A browser asks again with the address it had, offset and all.
    with follow(asker, conversation, 1, **EVENTS, **{"Last-Event-ID": str(seen)}) as live:
        gate.set()
        assert "".join(event.data["text"] for event in events_of(live)[:-1]) == "".join(AFTER)
    ended(asker, conversation)
    with follow(asker, conversation, 1, **EVENTS, **{"Last-Event-ID": str(seen + 2)}) as later:
        assert "".join(event.data["text"] for event in events_of(later)[:-1]) == WHOLE[seen + 2 :]
    for wrong in ("one", "-1", str(len(WHOLE) + 1), "1.0", "9" * 30):
        with follow(asker, conversation, **EVENTS, **{"Last-Event-ID": wrong}) as refused:
            assert refused.status == 400
            assert [each["field"] for each in json.loads(refused.rest())["errors"]] == ["Last-Event-ID"]


AGAIN = ("/chat/sendMessage/", "/chat/regenerateAnswer/")


def repeatable(user: User, path: str, conversation_id: int) -> dict[str, Any]:
    """The body for this path. Regenerating needs a question, which is asked first."""
    question = user.question(conversation_id)
    if path == "/chat/regenerateAnswer/":
        user.ask(conversation_id)
        del question["content"]
    return question


@pytest.mark.parametrize("path", AGAIN)
def test_A6_a_repeated_request_goes_on_after_the_last_event_while_the_answer_runs_and_after(
    path: str, asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = asker.begin()
    body = repeatable(asker, path, conversation)
    asked = len(provider.requests)
    provider.script(gated(gate, (SHOWN,), AFTER))
    key = {**EVENTS, "Idempotency-Key": "once"}
    with asker.wire(path, body, **key) as wire:
        seen = parsed((wire.chunk() or b"").decode())[-1].id
        assert seen == len(SHOWN)
        with asker.wire(path, body, **key, **{"Last-Event-ID": str(seen)}) as again:
            gate.set()
            *deltas, end = events_of(again)
            assert again.headers["x-answer-id"] == wire.headers["x-answer-id"]
        assert "".join(event.data["text"] for event in deltas) == "".join(AFTER)
        assert deltas[-1].id == len(WHOLE)
        assert end.data["state"] == "complete"
    for offset in range(len(WHOLE) + 1):
        with asker.wire(path, body, **key, **{"Last-Event-ID": str(offset)}) as later:
            *deltas, end = events_of(later)
            assert later.headers["x-answer-id"] == wire.headers["x-answer-id"]
        assert "".join(event.data["text"] for event in deltas) == WHOLE[offset:]
        assert end.data["state"] == "complete"
    assert len(provider.requests) == asked + 1


@pytest.mark.parametrize("path", AGAIN)
def test_A6_only_events_go_on_from_the_last_event(path: str, asker: User, provider: ScriptedProvider) -> None:
    conversation = asker.begin()
    body = repeatable(asker, path, conversation)
    provider.script(answer(WHOLE))
    for last_event in ("", "3", "no number"):
        headers = {"Idempotency-Key": "once", "Last-Event-ID": last_event}
        with asker.wire(path, body, **headers) as wire:
            assert text_of(wire) == WHOLE
    with asker.wire(path, body, **EVENTS, **{"Idempotency-Key": "once", "Last-Event-ID": ""}) as wire:
        assert "".join(event.data["text"] for event in events_of(wire)[:-1]) == WHOLE


@pytest.mark.parametrize("path", AGAIN)
def test_A6_a_last_event_that_the_answer_does_not_have_is_refused_and_asks_nothing(
    path: str, asker: User, provider: ScriptedProvider
) -> None:
    conversation = asker.begin()
    body = repeatable(asker, path, conversation)
    provider.script(answer(WHOLE))
    with asker.wire(path, body, **EVENTS, **{"Idempotency-Key": "known"}) as wire:
        events_of(wire)
    asked, said_before = len(provider.requests), said(asker, conversation)
    unknown = [(number, {"Idempotency-Key": "unknown"}) for number in ("1", "-1", "one", "9" * 30)]
    nothing_to_go_on_with: list[tuple[str, dict[str, str]]] = [("1", {})]
    beyond = [(number, {"Idempotency-Key": "known"}) for number in (str(len(WHOLE) + 1), "-1", "one", "1.0", "9" * 30)]
    for number, key in [*unknown, *nothing_to_go_on_with, *beyond]:
        with asker.wire(path, body, **EVENTS, **key, **{"Last-Event-ID": number}) as refused:
            assert refused.status == 400
            assert [each["field"] for each in json.loads(refused.rest())["errors"]] == ["Last-Event-ID"]
    assert len(provider.requests) == asked
    assert said(asker, conversation) == said_before


def test_A6_a_repeated_answer_that_was_cut_is_cut_after_the_last_event_again(
    asker: User, provider: ScriptedProvider
) -> None:
    conversation = asker.begin()
    provider.script(reset_after(SHOWN))
    key = {**EVENTS, "Idempotency-Key": "once"}
    with send(asker, conversation, **key) as wire:
        assert [event.name for event in events_of(wire)] == ["delta", "error"]
    with send(asker, conversation, **key, **{"Last-Event-ID": "2"}) as again:
        delta, error = events_of(again)
    assert (delta.data["text"], error.data["type"]) == (SHOWN[2:], "urn:baio:error:provider-broken")
    with send(asker, conversation, **key, **{"Last-Event-ID": str(len(SHOWN))}) as at_the_end:
        assert at_the_end.status == 502
    assert len(provider.requests) == 1


def test_A3_a_stopped_answer_ends_its_events_with_its_state(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = asker.begin()
    provider.script(gated(gate, (SHOWN,), AFTER))
    with send(asker, conversation, **EVENTS) as wire:
        assert wire.chunk()
        stop(asker, conversation)
        assert events_of(wire) == [Event("end", None, {"state": "stopped", "finish_reason": None, "usage": None})]


# Answers that fail


def test_A3_a_cut_answer_ends_its_events_with_the_problem_live_and_when_followed(
    asker: User, provider: ScriptedProvider
) -> None:
    conversation = asker.begin()
    provider.script(reset_after(SHOWN))
    with send(asker, conversation, **EVENTS) as wire:
        live = events_of(wire)
    with follow(asker, conversation, **EVENTS) as follower:
        later = events_of(follower)
    for delta, error in (live, later):
        assert delta == Event("delta", len(SHOWN), {"text": SHOWN})
        assert (error.name, error.id) == ("error", None)
        assert (error.data["type"], error.data["status"]) == ("urn:baio:error:provider-broken", 502)
        assert error.data["title"]
        assert error.data["detail"]


def test_A3_a_cut_answer_is_cut_again_when_it_is_followed(asker: User, provider: ScriptedProvider) -> None:
    conversation = asker.begin()
    provider.script(cut_after(SHOWN))
    with send(asker, conversation) as wire:
        assert wire.chunks() == ([SHOWN.encode()], False)
    assert last(asker, conversation)["state"] == "failed"
    for offset in range(len(SHOWN)):
        with follow(asker, conversation, offset) as follower:
            assert follower.chunks() == ([SHOWN[offset:].encode()], False)
    with follow(asker, conversation, len(SHOWN)) as follower:
        assert follower.status == 502
        assert json.loads(follower.rest())["type"] == "urn:baio:error:provider-broken"


def test_A3_an_answer_that_failed_without_text_is_an_error_for_its_followers_too(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = asker.begin()

    async def behave(exchange: Exchange) -> None:
        await exchange.wait_for(gate)
        exchange.reset()

    provider.script(behave)
    with send(asker, conversation, **EVENTS) as wire:
        provider.wait_for_requests(1)
        with follow(asker, conversation) as follower:
            gate.set()
            assert wire.status == follower.status == 502
            assert wire.headers["content-type"] == "application/problem+json"
    assert last(asker, conversation)["state"] == "failed"
    for headers in ({}, EVENTS):
        with follow(asker, conversation, **headers) as later:
            assert later.status == 502
            assert json.loads(later.rest())["type"] == "urn:baio:error:provider-broken"


def test_A3_the_servers_side_of_a_follower_that_leaves_ends_at_once(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation, logged = asker.begin(), len(asker.server.log)
    provider.script(gated(gate, (SHOWN,), AFTER))
    with send(asker, conversation) as wire:
        assert wire.chunk() == SHOWN.encode()
        for _ in range(20):
            with follow(asker, conversation) as follower:
                assert follower.chunk() == SHOWN.encode()
        assert eventually(lambda: asker.server.log[logged:].count("/chat/followAnswer") == 20)
        gate.set()
        assert text_of(wire) == "".join(AFTER)
