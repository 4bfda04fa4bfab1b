"""Two server processes on one database: what one has begun, the other can follow, stop, refuse and delete."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx2
import pytest

from tests.integration.answers import ended, last, said, send, stop
from tests.integration.conftest import NewDatabase, lasting_server_on, server_on
from tests.integration.scripted_provider import Exchange, ScriptedProvider, answer, gated
from tests.integration.servers import Server, User, eventually
from tests.integration.test_follow import AFTER, BEFORE, EVENTS, SHOWN, WHOLE, events_of, follow, text_of


@pytest.fixture(scope="module")
def workers(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Server]]:
    """Two servers on one database."""
    url = new_database.prepared()
    with (
        lasting_server_on(tmp_path_factory.mktemp("here"), url, provider) as here,
        server_on(tmp_path_factory.mktemp("there"), url, provider) as there,
    ):
        yield here, there


def test_A3_another_workers_answer_is_followed_live_from_any_character_on(
    here: User, there: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = here.begin()
    provider.script(gated(gate, BEFORE, AFTER))
    with send(here, conversation) as wire, ExitStack() as stack:
        read = b""
        while read.decode() != SHOWN:
            read += wire.chunk() or b""
        # At once: what was shown here may not be stored yet, and still nothing past the end is asked for there.
        followers = [stack.enter_context(follow(there, conversation, offset)) for offset in range(len(SHOWN) + 1)]
        for offset, follower in enumerate(followers[:-1]):
            seen = b""
            while seen.decode() != SHOWN[offset:]:
                seen += follower.chunk() or b""
            assert follower.headers["x-answer-id"] == wire.headers["x-answer-id"]
        gate.set()
        assert [text_of(follower) for follower in followers] == ["".join(AFTER)] * len(followers)
        assert text_of(wire) == "".join(AFTER)
    with follow(there, conversation) as later:
        assert text_of(later) == WHOLE


def test_A3_another_workers_text_arrives_while_the_answer_is_written(
    here: User, there: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = here.begin()
    provider.script(gated(gate, ("First.",), ("Second.",)))
    with send(here, conversation) as wire:
        assert wire.chunk() == b"First."
        with follow(there, conversation) as follower:
            assert follower.chunk() == b"First."
            gate.set()
            assert text_of(follower) == text_of(wire) == "Second."


def test_A3_events_from_another_worker_resume_where_the_others_stopped(
    here: User, there: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = here.begin()
    provider.script(gated(gate, (SHOWN,), AFTER))
    with send(here, conversation, **EVENTS) as wire:
        assert wire.chunk()
        with follow(there, conversation, **EVENTS, **{"Last-Event-ID": "2"}) as follower:
            gate.set()
            *deltas, end = events_of(follower)
        ours = events_of(wire)
    assert "".join(event.data["text"] for event in deltas) == WHOLE[2:]
    assert deltas[-1].id == len(WHOLE)
    assert end == ours[-1]
    assert end.data["state"] == "complete"


def test_A3_an_answer_that_is_cut_here_is_cut_there(
    here: User, there: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = here.begin()

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.text(SHOWN)
        await exchange.wait_for(gate)
        exchange.cut()

    provider.script(behave)
    with send(here, conversation) as wire:
        assert wire.chunk() == SHOWN.encode()
        with follow(there, conversation) as follower:
            assert follower.chunk() == SHOWN.encode()
            gate.set()
            assert wire.chunks() == follower.chunks() == ([], False)
    with follow(there, conversation, **EVENTS) as later:
        delta, error = events_of(later)
    assert (delta.data["text"], error.name, error.data["status"]) == (SHOWN, "error", 502)


def test_A4_a_stop_at_another_worker_closes_the_providers_connection(
    here: User,
    there: User,
    provider: ScriptedProvider,
    gate: threading.Event,
    record_property: Callable[[str, object], None],
) -> None:
    for shown in ((), (SHOWN,)):
        conversation = here.begin()
        provider.forget()
        provider.script(gated(gate, shown, AFTER))
        with send(here, conversation) as wire:
            provider.wait_for_requests(1)
            if shown:
                assert wire.chunk() == SHOWN.encode()
            asked_at = time.monotonic()
            stopped = stop(there, conversation)
            took = provider.wait_until_left() - asked_at
            record = last(here, conversation)
            assert stopped.json() == {"answer_id": record["id"], "state": "stopped"}
            assert record["state"] == "stopped"
            assert wire.chunks() == ([], True)
        record_property("milliseconds until the provider's connection was closed", round(took * 1000))
        assert said(there, conversation)[1:] == [("baio", text) for text in shown]


def test_A4_stops_that_race_at_both_workers_agree(
    here: User, there: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = here.begin()
    provider.script(gated(gate, (SHOWN,), AFTER))
    with send(here, conversation) as wire, ThreadPoolExecutor(6) as threads:
        assert wire.chunk() == SHOWN.encode()
        stops = list(threads.map(lambda number: stop((here, there)[number % 2], conversation), range(6)))
        assert wire.chunks() == ([], True)
    # One that comes when it is over finds nothing that runs.
    assert {each.status_code for each in stops} <= {200, 404}
    told = {each.text for each in stops if each.status_code == 200}
    assert told == {f'{{"answer_id":{last(here, conversation)["id"]},"state":"stopped"}}'}


def test_A5_of_eight_questions_at_two_workers_exactly_one_wins_twenty_times(
    here: User, there: User, provider: ScriptedProvider
) -> None:
    conversation = here.begin()
    for round_ in range(20):
        gate, start = threading.Event(), threading.Barrier(8)
        provider.always(gated(gate, (), (f"Answer {round_}.",)))
        refused = threading.Semaphore(0)

        def ask(
            number: int,
            *,
            round_: int = round_,
            start: threading.Barrier = start,
            refused: threading.Semaphore = refused,
        ) -> tuple[int, int]:
            start.wait(10)
            with send((here, there)[number % 2], conversation, f"Question {round_}.{number}") as wire:
                if wire.status == 200:
                    assert text_of(wire) == f"Answer {round_}."
                    return 200, int(wire.headers["x-answer-id"])
                problem = httpx2.Response(wire.status, content=wire.rest()).json()
                refused.release()
                return wire.status, problem["answer_id"]

        with ThreadPoolExecutor(8) as threads:
            asking = [threads.submit(ask, number) for number in range(8)]
            assert all(refused.acquire(timeout=20) for _ in range(7))
            gate.set()
            results = [each.result() for each in asking]
        assert sorted(status for status, _ in results) == [200] + [409] * 7
        assert len({answer_id for _, answer_id in results}) == 1
        winner = next(number for number, (status, _) in enumerate(results) if status == 200)
        assert said(there, conversation)[2 * round_ :] == [
            ("user", f"Question {round_}.{winner}"),
            ("baio", f"Answer {round_}."),
        ]
    assert len(provider.requests) == 20


def test_A5_deleting_at_another_worker_ends_the_answer_and_leaves_no_row(
    here: User, there: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    before, logged = here.server.rows(), len(here.server.log)
    conversation = here.begin()
    provider.script(gated(gate, (SHOWN,), AFTER))
    with send(here, conversation) as wire:
        assert wire.chunk() == SHOWN.encode()
        assert eventually(lambda: here.server.rows()["answer_parts"] > before["answer_parts"])
        deleted = there.http.post("/chat/deleteConversation/", json={"conversation_id": conversation})
        assert deleted.status_code == 200
        provider.wait_until_left()
        wire.chunks()
    assert here.server.rows() == before
    assert "rror" not in here.server.log[logged:]


def test_A6_one_key_at_two_workers_makes_one_request_to_the_provider(
    here: User, there: User, provider: ScriptedProvider
) -> None:
    conversation = here.begin()
    provider.always(answer(*BEFORE, *AFTER, delay=0.2))
    start = threading.Barrier(8)

    def ask(number: int) -> tuple[int, str, str]:
        start.wait(10)
        with send((here, there)[number % 2], conversation, **{"Idempotency-Key": "once"}) as wire:
            return wire.status, wire.headers["x-answer-id"], text_of(wire)

    with ThreadPoolExecutor(8) as threads:
        results = set(threads.map(ask, range(8)))
    assert results == {(200, str(last(here, conversation)["id"]), WHOLE)}
    assert len(provider.requests) == 1
    assert said(here, conversation) == [("user", "What is a codon?"), ("baio", WHOLE)]


def test_A6_a_repeated_question_goes_on_at_another_worker_after_what_was_seen_and_is_not_stored_yet(
    here: User, there: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = here.begin()
    provider.script(gated(gate, (SHOWN,), AFTER))
    key = {"Accept": "text/event-stream", "Idempotency-Key": "once"}
    with send(here, conversation, **key) as wire:
        assert wire.chunk()
        with send(there, conversation, **key, **{"Last-Event-ID": str(len(SHOWN))}) as again:
            gate.set()
            text = "".join(event.data["text"] for event in events_of(again)[:-1])
            assert again.headers["x-answer-id"] == wire.headers["x-answer-id"]
    assert text == "".join(AFTER)
    assert len(provider.requests) == 1


def test_A10_a_users_answers_are_counted_over_all_workers(
    here: User, there: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    provider.always(gated(gate, (SHOWN,), AFTER))
    with ExitStack() as stack:
        running = [stack.enter_context(send(each, each.begin())) for each in (here, there, here)]
        assert [wire.chunk() for wire in running] == [SHOWN.encode()] * 3
        assert there.ask(there.begin()).status_code == 429
        gate.set()
        assert [text_of(wire) for wire in running] == ["".join(AFTER)] * 3


def test_A11_an_answer_given_again_at_another_worker_replaces_the_old_one(
    here: User, there: User, provider: ScriptedProvider
) -> None:
    conversation = here.begin()
    provider.script(answer("First."), answer("Second."))
    here.ask(conversation)
    body = {"conversation_id": conversation, "apikey_nickname": "OpenAI Key", "model": "gpt-4o"}
    assert there.http.post("/chat/regenerateAnswer/", json=body).text == "Second."
    assert said(here, conversation) == [("user", "What is a codon?"), ("baio", "Second.")]
    assert ended(here, conversation)["requested_model"] == "gpt-4o"
