"""Nothing the client or the network does loses an answer: leaving, stopping, a second click, and what is remembered."""

import asyncio
import contextlib
import itertools
import random
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest
from sqlalchemy import delete, insert, select
from sqlalchemy.exc import OperationalError

from baio_adapters.sql.tables import answers, messages, users
from tests.integration.answers import ORDINARY, ended, last, paced, records, said, send, stop
from tests.integration.conftest import NewDatabase, lasting_server_on
from tests.integration.scripted_provider import (
    Exchange,
    ScriptedProvider,
    answer,
    cut_after,
    gated,
    refuse,
)
from tests.integration.servers import KEY, Server, User, Wire, eventually, problem

# A1


def test_A1_the_question_and_its_running_record_are_stored_before_the_provider_is_called(
    asker: User, server: Server, provider: ScriptedProvider
) -> None:
    conversation = asker.begin()
    seen: list[tuple[str, str]] = []

    def look() -> None:
        with server.engine() as engine, engine.connect() as connection:
            asked = select(messages.c.content, answers.c.state).join(answers, answers.c.question_id == messages.c.id)
            seen.extend((row[0], row[1]) for row in connection.execute(asked.where(messages.c.role == "user")))

    async def behave(exchange: Exchange) -> None:
        await asyncio.to_thread(look)
        await ORDINARY(exchange)

    provider.script(behave)
    assert asker.ask(conversation, "Is it stored yet?").text == "A codon is three nucleotides."
    assert ("Is it stored yet?", "running") in seen
    assert last(asker, conversation)["state"] == "complete"


def test_A1_clients_see_the_question_and_the_running_record_while_the_provider_is_silent(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = asker.begin()
    provider.script(gated(gate, (), ("Yes.",)))
    with send(asker, conversation) as wire:
        provider.wait_for_requests(1)
        assert said(asker, conversation) == [("user", "What is a codon?")]
        record = last(asker, conversation)
        assert (record["state"], record["ended_at"], record["finish_reason"]) == ("running", None, None)
        gate.set()
        assert wire.chunks() == ([b"Yes."], True)
    record = last(asker, conversation)
    assert record["state"] == "complete"
    assert record["started_at"] <= record["ended_at"]


def test_A1_an_end_and_a_stop_that_race_make_one_final_state_that_never_changes(
    asker: User, provider: ScriptedProvider
) -> None:
    outcomes = set()
    for round_ in range(10):
        conversation, gate = asker.begin(), threading.Event()
        provider.script(gated(gate, ("One ",), ("two.",)))
        with send(asker, conversation) as wire, ThreadPoolExecutor(1) as threads:
            assert wire.chunk() == b"One "
            stopping = threads.submit(stop, asker, conversation)
            time.sleep(round_ * 0.002)  # the race at another moment each time
            gate.set()
            rest, properly = wire.chunks()
            stopped = stopping.result()
        record = last(asker, conversation)
        text = "One " + b"".join(rest).decode()
        assert properly
        assert record["state"] in {"complete", "stopped"}
        assert text in {"One ", "One two."}
        assert said(asker, conversation) == [("user", "What is a codon?"), ("baio", text)]
        if stopped.status_code == 200:
            assert stopped.json() == {"answer_id": record["id"], "state": record["state"]}
        else:
            assert (stopped.status_code, record["state"]) == (404, "complete")
        assert stop(asker, conversation).status_code == 404
        assert records(asker, conversation) == [record]
        outcomes.add(record["state"])
    assert outcomes


# A2


def test_A2_a_client_that_leaves_before_the_first_text_changes_nothing(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = asker.begin()
    provider.script(gated(gate, (), ("All ", "of it.")))
    with send(asker, conversation):
        provider.wait_for_requests(1)
    gate.set()
    assert ended(asker, conversation)["state"] == "complete"
    assert said(asker, conversation) == [("user", "What is a codon?"), ("baio", "All of it.")]


def test_A2_a_client_that_leaves_in_mid_answer_changes_nothing(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = asker.begin()
    provider.script(gated(gate, ("All ",), ("of ", "it.")))
    with send(asker, conversation) as wire:
        assert wire.chunk() == b"All "
    gate.set()
    assert ended(asker, conversation)["state"] == "complete"
    assert said(asker, conversation) == [("user", "What is a codon?"), ("baio", "All of it.")]


def test_A2_of_200_answers_cut_at_random_every_one_that_had_begun_is_stored_in_full(
    server: Server, provider: ScriptedProvider, record_property: Callable[[str, object], None]
) -> None:
    texts = [f"{number} µ🧬" for number in range(20)]
    whole = "".join(texts)
    provider.always(paced(*texts, delay=0.005, first=0.05))
    chance = random.Random(2024)
    plans = [[(chance.choice(["early", "late"]), chance.random()) for _ in range(20)] for _ in range(10)]

    def cuts_of_one_user(plan: list[tuple[str, float]]) -> int:
        user = User(server)
        user.add_key()
        conversation = user.begin()
        for number, (kind, moment) in enumerate(plan):
            request_id = f"cut-{conversation}-{number}"
            with send(user, conversation, f"Question {number}", **{"X-Request-ID": request_id}) as wire:
                if kind == "early":
                    time.sleep(moment * 0.1)
                else:
                    assert wire.status == 200
                    read = 0
                    while read < moment * 0.9 * len(whole.encode()):
                        chunk = wire.chunk()
                        assert chunk
                        read += len(chunk)
            assert eventually(lambda: f'"request_id": "{request_id}"' in server.log)  # noqa: B023 - called right here
            # Cut before the server had read it, a question was never asked; none is asked by half.
            known = ("user", f"Question {number}") in said(user, conversation)
            assert known or kind == "early"
            if known:
                assert ended(user, conversation)["state"] == "complete"
        history = said(user, conversation)
        assert [role for role, _ in history] == ["user", "baio"] * (len(history) // 2)
        assert {text for role, text in history if role == "baio"} == {whole}
        finals = records(user, conversation)
        assert [record["state"] for record in finals] == ["complete"] * (len(history) // 2)
        user.http.close()
        return len(finals)

    with ThreadPoolExecutor(10) as threads:
        stored = sum(threads.map(cuts_of_one_user, plans))
    record_property("answers that had begun, of 200 cut", stored)
    assert stored >= 150


def test_A2_a_client_that_leaves_in_the_middle_of_its_request_is_no_error(asker: User, server: Server) -> None:
    conversation, logged = asker.begin(), len(server.log)
    where = urlsplit(server.address)
    with socket.create_connection((where.hostname or "", where.port or 0)) as half:
        head = f"Host: x\r\nAuthorization: Bearer {asker.access}\r\nX-Request-ID: half-{conversation}\r\n"
        body = "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        half.sendall(f"POST /chat/sendMessage/ HTTP/1.1\r\n{head}{body}".encode())
    assert eventually(lambda: f"half-{conversation}" in server.log[logged:])
    assert "rror" not in server.log[logged:]
    assert said(asker, conversation) == []


@pytest.fixture(scope="module")
def impatient_server(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server that stops an answer when its asker leaves."""
    folder, url = tmp_path_factory.mktemp("impatient"), new_database.prepared()
    with lasting_server_on(folder, url, provider, BAIO_ON_DISCONNECT="stop") as running:
        yield running


@pytest.fixture
def impatient(impatient_server: Server) -> Iterator[User]:
    """A researcher there, with a key."""
    someone = User(impatient_server)
    someone.add_key()
    yield someone
    someone.http.close()


@pytest.mark.parametrize("shown", [(), ("All ", "of ")], ids=["before the first text", "in mid-answer"])
def test_A2_leaving_can_mean_stopping_which_closes_the_providers_connection_and_keeps_the_text(
    impatient: User,
    provider: ScriptedProvider,
    gate: threading.Event,
    shown: tuple[str, ...],
    record_property: Callable[[str, object], None],
) -> None:
    conversation = impatient.begin()
    provider.script(gated(gate, shown, ("it.",)))
    with send(impatient, conversation) as wire:
        provider.wait_for_requests(1)
        read = b""
        while read != "".join(shown).encode():
            read += wire.chunk() or b""
        left = time.monotonic()
    took = provider.wait_until_left() - left
    record_property("milliseconds until the provider's connection was closed", round(took * 1000))
    assert ended(impatient, conversation)["state"] == "stopped"
    kept = [("baio", "All of ")] if shown else []
    assert said(impatient, conversation) == [("user", "What is a codon?"), *kept]
    assert impatient.ask(conversation, "And now?").text == "A codon is three nucleotides."


def test_A2_where_leaving_stops_a_follower_that_leaves_still_changes_nothing(
    impatient: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = impatient.begin()
    provider.script(gated(gate, ("All ",), ("of it.",)))
    with send(impatient, conversation) as wire:
        assert wire.chunk() == b"All "
        path = f"/chat/followAnswer/?conversation_id={conversation}"
        with Wire(impatient.server, "GET", path, headers={"Authorization": f"Bearer {impatient.access}"}) as follower:
            assert follower.chunk() == b"All "
        assert not eventually(lambda: last(impatient, conversation)["state"] != "running", 0.7)
        gate.set()
        assert wire.chunks() == ([b"of it."], True)
    assert last(impatient, conversation)["state"] == "complete"


# A4


@pytest.mark.parametrize("shown", [(), ("All ", "of ")], ids=["before the first text", "in mid-answer"])
def test_A4_stopping_returns_the_stored_final_state_keeps_the_text_and_closes_the_providers_connection(
    asker: User,
    provider: ScriptedProvider,
    gate: threading.Event,
    shown: tuple[str, ...],
    record_property: Callable[[str, object], None],
) -> None:
    conversation = asker.begin()
    provider.script(gated(gate, shown, ("it.",)))
    with send(asker, conversation) as wire:
        provider.wait_for_requests(1)
        read = b""
        while read != "".join(shown).encode():
            read += wire.chunk() or b""
        asked_at = time.monotonic()
        stopped = stop(asker, conversation)
        record = last(asker, conversation)
        assert stopped.json() == {"answer_id": record["id"], "state": "stopped"}
        assert record["state"] == "stopped"
        took = provider.wait_until_left() - asked_at
        assert wire.status == 200
        assert wire.headers["x-answer-id"] == str(record["id"])
        assert wire.chunks() == ([], True)
    record_property("milliseconds until the provider's connection was closed", round(took * 1000))
    kept = [("baio", "All of ")] if shown else []
    assert said(asker, conversation) == [("user", "What is a codon?"), *kept]
    assert asker.ask(conversation, "And now?").text == "A codon is three nucleotides."


def test_A4_at_most_two_further_chunks_are_read_from_the_provider(asker: User, provider: ScriptedProvider) -> None:
    conversation = asker.begin()
    written: list[float] = []

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        while not exchange.reader.at_eof():
            await exchange.text(f"{len(written)} ")
            written.append(time.monotonic())
            await asyncio.sleep(0.1)
        exchange.stays_open = False

    provider.script(behave)
    with send(asker, conversation) as wire:
        shown = [wire.chunk() for _ in range(5)]
        stopped_at = time.monotonic()
        assert stop(asker, conversation).json()["state"] == "stopped"
        further, properly = wire.chunks()
    assert properly
    provider.wait_until_left()
    assert shown == [b"%d " % number for number in range(5)]
    assert len([moment for moment in written if moment > stopped_at]) <= 2
    assert len(further) <= 2
    assert said(asker, conversation)[-1] == ("baio", "".join(f"{number} " for number in range(5 + len(further))))


def test_A4_stops_that_race_all_return_the_one_final_state(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = asker.begin()
    provider.script(gated(gate, ("All ",), ()))
    with send(asker, conversation) as wire, ThreadPoolExecutor(6) as threads:
        assert wire.chunk() == b"All "
        stops = list(threads.map(lambda _: stop(asker, conversation), range(6)))
        assert wire.chunks() == ([], True)
    record = last(asker, conversation)
    # One that comes when it is over finds nothing that runs.
    assert {response.status_code for response in stops} <= {200, 404}
    assert next(each.json() for each in stops if each.status_code == 200) == {
        "answer_id": record["id"],
        "state": "stopped",
    }
    assert len({each.text for each in stops if each.status_code == 200}) == 1
    assert said(asker, conversation) == [("user", "What is a codon?"), ("baio", "All ")]


def test_A4_where_nothing_runs_or_the_conversation_is_somebody_elses_there_is_nothing_to_stop(
    asker: User, other: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = asker.begin()
    assert stop(asker, conversation).status_code == 404
    asker.ask(conversation)
    assert stop(asker, conversation).status_code == 404
    provider.script(gated(gate, ("All ",), ("of it.",)))
    with send(asker, conversation) as wire:
        assert wire.chunk() == b"All "
        assert stop(other, conversation).status_code == 404
        gate.set()
        assert wire.chunks() == ([b"of it."], True)


# A5


def test_A5_a_second_question_is_refused_with_the_id_of_the_running_answer_and_not_stored(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = asker.begin()
    provider.script(gated(gate, ("All ",), ("of it.",)))
    with send(asker, conversation) as wire:
        assert wire.chunk() == b"All "
        refused = asker.ask(conversation, "And another thing?")
        regenerating = {"conversation_id": conversation, "apikey_nickname": "OpenAI Key", "model": "gpt-4o-mini"}
        again = asker.http.post("/chat/regenerateAnswer/", json=regenerating)
        gate.set()
        assert wire.chunks() == ([b"of it."], True)
        running = int(wire.headers["x-answer-id"])
    for response in (refused, again):
        assert response.status_code == 409
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["answer_id"] == running
    assert said(asker, conversation) == [("user", "What is a codon?"), ("baio", "All of it.")]
    assert len(provider.requests) == 1


def test_A5_of_eight_questions_at_once_exactly_one_wins_twenty_times(
    server: Server, provider: ScriptedProvider
) -> None:
    user = User(server)
    user.add_key()
    conversation = user.begin()
    for round_ in range(20):
        gate, start = threading.Event(), threading.Barrier(8)
        provider.always(gated(gate, (f"Answer {round_}",), (".",)))

        def ask(
            number: int,
            *,
            round_: int = round_,
            gate: threading.Event = gate,
            start: threading.Barrier = start,
            refused: "itertools.count[int]" = itertools.count(1),  # noqa: B008 - one for all of a round's questions
        ) -> tuple[int, int, str]:
            start.wait(10)
            with send(user, conversation, f"Question {round_}.{number}") as wire:
                if wire.status != 200:
                    if next(refused) == 7:
                        gate.set()
                    problem = httpx2.Response(wire.status, content=wire.rest()).json()
                    return wire.status, problem["answer_id"], ""
                text = b"".join(wire.chunks()[0]).decode()
                return 200, int(wire.headers["x-answer-id"]), f"{number}:{text}"

        with ThreadPoolExecutor(8) as threads:
            results = list(threads.map(ask, range(8)))
        assert sorted(status for status, _, _ in results) == [200] + [409] * 7
        assert len({answer_id for _, answer_id, _ in results}) == 1
        number, _, text = next(each for status, _, each in results if status == 200).partition(":")
        assert text == f"Answer {round_}."
        assert said(user, conversation)[2 * round_ :] == [("user", f"Question {round_}.{number}"), ("baio", text)]
    assert len(provider.requests) == 20
    user.http.close()


def test_A5_deleting_a_conversation_stops_its_answer_and_leaves_no_row_in_any_table(
    asker: User, server: Server, provider: ScriptedProvider, gate: threading.Event
) -> None:
    before, logged = server.rows(), len(server.log)
    conversation = asker.begin()
    provider.script(gated(gate, ("All ",), ("of it.",)))
    with send(asker, conversation) as wire:
        assert wire.chunk() == b"All "
        assert eventually(lambda: server.rows()["answer_parts"] > before["answer_parts"])
        deleted = asker.http.post("/chat/deleteConversation/", json={"conversation_id": conversation})
        assert deleted.status_code == 200
        provider.wait_until_left()
        wire.chunks()
    assert server.rows() == before
    # Nor does one come back with a checkpoint that was on its way.
    assert not eventually(lambda: server.rows() != before, 1.2)
    assert "rror" not in server.log[logged:]


def vanish(server: Server, user: User) -> bool:
    """Delete the account; whether no checkpoint was in the way."""
    with contextlib.suppress(OperationalError), server.engine() as engine, engine.begin() as connection:
        connection.execute(delete(users).where(users.c.username == user.account["username"]))
        return True
    return False


def test_A5_when_the_account_vanishes_its_answer_ends_and_leaves_no_row(
    asker: User, server: Server, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation, logged = asker.begin(), len(server.log)
    provider.script(gated(gate, ("All ",), ("of it.",)))
    with send(asker, conversation) as wire:
        assert wire.chunk() == b"All "
        assert eventually(lambda: vanish(server, asker))
        provider.wait_until_left(seconds=3)
        assert wire.chunks() == ([], False)
        answer_id = int(wire.headers["x-answer-id"])
    with server.engine() as engine, engine.connect() as connection:
        assert connection.execute(select(answers).where(answers.c.id == answer_id)).all() == []
        of_conversation = select(messages).where(messages.c.conversation_id == conversation)
        assert connection.execute(of_conversation).all() == []
    assert "rror" not in server.log[logged:]


# A6


def test_A6_a_repeated_question_follows_the_same_answer_while_it_runs_and_after(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = asker.begin()
    key = {"Idempotency-Key": "k" * 255}
    provider.script(gated(gate, ("All ",), ("of it.",)))
    with send(asker, conversation, **key) as wire, send(asker, conversation, **key) as again:
        assert wire.chunk() == b"All "
        assert again.chunk() == b"All "
        gate.set()
        assert b"".join(wire.chunks()[0]) == b"of it."
        assert b"".join(again.chunks()[0]) == b"of it."
        assert again.headers["x-answer-id"] == wire.headers["x-answer-id"]
        with send(asker, conversation, **key) as later:
            assert later.headers["x-answer-id"] == wire.headers["x-answer-id"]
            assert b"".join(later.chunks()[0]) == b"All of it."
    assert len(provider.requests) == 1
    assert said(asker, conversation) == [("user", "What is a codon?"), ("baio", "All of it.")]


def test_A6_eight_questions_at_once_with_one_key_make_one_request_to_the_provider(
    asker: User, provider: ScriptedProvider
) -> None:
    conversation = asker.begin()
    provider.always(paced("All ", "of ", "it.", delay=0.1, first=0.1))
    start = threading.Barrier(8)

    def ask(_: int) -> tuple[int, str, bytes]:
        start.wait(10)
        with send(asker, conversation, **{"Idempotency-Key": "once"}) as wire:
            return wire.status, wire.headers["x-answer-id"], b"".join(wire.chunks()[0])

    with ThreadPoolExecutor(8) as threads:
        results = set(threads.map(ask, range(8)))
    assert results == {(200, str(last(asker, conversation)["id"]), b"All of it.")}
    assert len(provider.requests) == 1
    assert said(asker, conversation) == [("user", "What is a codon?"), ("baio", "All of it.")]


def test_A6_the_same_key_with_another_body_is_refused_and_does_nothing(asker: User, provider: ScriptedProvider) -> None:
    conversation, elsewhere = asker.begin(), asker.begin()
    key = {"Idempotency-Key": "same"}
    asker.http.headers.update(key)
    asker.ask(conversation)
    for changed in (
        asker.question(conversation, "What is an intron?"),
        asker.question(elsewhere),
        asker.question(conversation, model="gpt-4o"),
    ):
        assert asker.http.post("/chat/sendMessage/", json=changed).status_code == 422
    # The key belongs to that request, whichever endpoint it is sent to.
    assert asker.http.post("/chat/createConversation/", json={"title": "Other"}).status_code == 422
    added = asker.http.post("/chat/addAPIKey/", json={"key": KEY, "nickname": "Other"})
    assert added.status_code == 422
    assert added.headers["content-type"] == "application/problem+json"
    assert len(provider.requests) == 1
    assert len(said(asker, conversation)) == 2
    assert said(asker, elsewhere) == []


def test_A6_an_answer_is_regenerated_once_under_one_key_and_another_request_under_it_is_refused(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation, elsewhere = asker.begin(), asker.begin()
    provider.script(answer("First."), answer("Elsewhere."), gated(gate, ("Sec",), ("ond.",)), answer("Third."))
    asker.ask(conversation)
    asker.ask(elsewhere)
    body = {"conversation_id": conversation, "apikey_nickname": "OpenAI Key", "model": "gpt-4o"}
    path, key = "/chat/regenerateAnswer/", {"Idempotency-Key": "once"}
    with asker.wire(path, body, **key) as wire, asker.wire(path, body, **key) as again_at_once:
        assert (wire.chunk(), again_at_once.chunk()) == (b"Sec", b"Sec")
        gate.set()
        assert wire.chunks() == again_at_once.chunks() == ([b"ond."], True)
    assert asker.http.post(path, json=body, headers=key).text == "Second."
    changes = ({"model": "gpt-4o-mini"}, {"conversation_id": elsewhere}, {"apikey_nickname": "Another"})
    for changed in changes:
        problem(asker.http.post(path, json={**body, **changed}, headers=key), 422)
    problem(asker.http.post("/chat/sendMessage/", json={**body, "content": "What?"}, headers=key), 422)
    assert len(provider.requests) == 3
    # The key's answer stays the same one when a later one has replaced it.
    assert asker.http.post(path, json=body).text == "Third."
    assert asker.http.post(path, json=body, headers=key).text == "Second."
    assert said(asker, conversation) == [("user", "What is a codon?"), ("baio", "Third.")]


def test_A6_two_users_may_choose_the_same_key(asker: User, other: User, provider: ScriptedProvider) -> None:
    other.add_key()
    mine, theirs = asker.begin(), other.begin()
    with (
        send(asker, mine, **{"Idempotency-Key": "1"}) as wire,
        send(other, theirs, **{"Idempotency-Key": "1"}) as others,
    ):
        assert wire.status == others.status == 200
        assert wire.headers["x-answer-id"] != others.headers["x-answer-id"]
        assert wire.chunks()[1]
        assert others.chunks()[1]
    assert len(provider.requests) == 2


@pytest.mark.parametrize(
    ("path", "body", "changed"),
    [
        ("/chat/createConversation/", {"title": "Once"}, {"title": "Twice"}),
        ("/chat/addAPIKey/", {"key": KEY, "nickname": "Once"}, {"key": KEY, "nickname": "Twice"}),
        ("/chat/addAPIKey/", {"key": KEY, "nickname": "Once"}, {"key": KEY + "x", "nickname": "Once"}),
    ],
    ids=["createConversation", "addAPIKey", "addAPIKey with another key"],
)
def test_A6_creating_eight_times_at_once_with_one_key_creates_once(
    user: User, server: Server, path: str, body: dict[str, str], changed: dict[str, str]
) -> None:
    before, start = server.rows(), threading.Barrier(8)
    headers = {"Idempotency-Key": "once"}

    def create(_: int) -> tuple[int, str]:
        with server.client(headers=user.http.headers) as client:
            start.wait(10)
            response = client.post(path, json=body, headers=headers)
            return response.status_code, response.text

    with ThreadPoolExecutor(8) as threads:
        results = set(threads.map(create, range(8)))
    assert len(results) == 1
    assert {status for status, _ in results} == {201}
    after = server.rows()
    table = "conversations" if "Conversation" in path else "api_keys"
    assert after[table] == before[table] + 1
    assert user.http.post(path, json=changed, headers=headers).status_code == 422
    assert server.rows() == after


def test_A6_a_key_that_is_too_long_is_refused(asker: User, provider: ScriptedProvider) -> None:
    asker.http.headers["Idempotency-Key"] = "k" * 256
    conversation = asker.begin
    assert asker.http.post("/chat/createConversation/", json={"title": "Once"}).status_code == 400
    del asker.http.headers["Idempotency-Key"]
    with send(asker, conversation(), **{"Idempotency-Key": "k" * 256}) as wire:
        assert wire.status == 400
    assert provider.requests == []


def test_A6_a_repeated_question_of_a_deleted_conversation_asks_nobody(asker: User, provider: ScriptedProvider) -> None:
    conversation = asker.begin()
    with send(asker, conversation, **{"Idempotency-Key": "gone"}) as wire:
        assert wire.chunks()[1]
    asker.http.post("/chat/deleteConversation/", json={"conversation_id": conversation})
    with send(asker, conversation, **{"Idempotency-Key": "gone"}) as wire:
        assert wire.status == 404
    assert len(provider.requests) == 1


# A10


MANY = 999_000
"""Characters of a long answer, below where BAiO truncates it."""


@pytest.mark.parametrize("letter", ["A", "µ"])
def test_A10_a_client_that_does_not_read_costs_bounded_memory(
    new_server: Server,
    provider: ScriptedProvider,
    letter: str,
    record_property: Callable[[str, object], None],
) -> None:
    asker = User(new_server)
    asker.add_key()
    provider.always(answer(*[letter * 1000] * (MANY // 1000)))
    # The first answers of this length leave the process with memory that it will use again.
    grown = [growth_while_nobody_reads(asker, letter) for _ in range(3)]
    record_property("MiB by which the server has grown", grown)
    assert min(grown[1:]) < 12
    asker.http.close()


def growth_while_nobody_reads(asker: User, letter: str) -> float:
    """By how many MiB the server grows during an answer that its client reads only at the end, when all is there."""
    process = psutil.Process(asker.server.process.pid)
    conversation = asker.begin()
    highest = before = process.memory_info().rss
    with send(asker, conversation) as wire:
        assert wire.status == 200
        give_up_at = time.monotonic() + 120
        while last(asker, conversation)["state"] == "running":
            highest = max(highest, process.memory_info().rss)
            assert time.monotonic() < give_up_at
        highest = max(highest, process.memory_info().rss)
        chunks, properly = wire.chunks()
    assert properly
    assert b"".join(chunks).decode() == letter * MANY
    grown: float = round((highest - before) / 2**20, 1)
    return grown


def test_A10_a_fourth_answer_at_once_is_refused_and_nobody_else_is_affected(
    asker: User, other: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    other.add_key()
    provider.always(gated(gate, ("All ",), ("of it.",)))
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(send(asker, asker.begin())) for _ in range(3)]
        assert [wire.chunk() for wire in running] == [b"All "] * 3
        fourth = asker.begin()
        refused = asker.ask(fourth)
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        assert int(refused.headers["Retry-After"]) >= 1
        assert said(asker, fourth) == []
        theirs = stack.enter_context(send(other, other.begin()))
        assert theirs.chunk() == b"All "
        gate.set()
        assert [wire.chunks() for wire in (*running, theirs)] == [([b"of it."], True)] * 4
    assert asker.ask(fourth).text == "All of it."


# A11


def again(user: User, conversation_id: int) -> httpx2.Response:
    """Have the last question answered again."""
    body = {"conversation_id": conversation_id, "apikey_nickname": "OpenAI Key", "model": "gpt-4o"}
    return user.http.post("/chat/regenerateAnswer/", json=body)


def test_A11_regenerating_asks_the_last_question_again_and_replaces_its_answer_at_the_end(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = asker.begin()
    provider.script(answer("Zero."), answer("First."), gated(gate, ("Sec",), ("ond.",)))
    asker.ask(conversation, "Earlier?")
    asker.ask(conversation, "Really?")
    earlier = [("user", "Earlier?"), ("baio", "Zero."), ("user", "Really?")]
    body = {"conversation_id": conversation, "apikey_nickname": "OpenAI Key", "model": "gpt-4o"}
    with asker.wire("/chat/regenerateAnswer/", body) as wire:
        assert wire.chunk() == b"Sec"
        assert said(asker, conversation) == [*earlier, ("baio", "First.")]
        gate.set()
        assert wire.chunks() == ([b"ond."], True)
        new = int(wire.headers["x-answer-id"])
    assert said(asker, conversation) == [*earlier, ("baio", "Second.")]
    sent = [(turn["role"], turn["content"]) for turn in provider.requests[-1].body["messages"]]
    assert sent[1:] == [("user", "Earlier?"), ("assistant", "Zero."), ("user", "Really?")]
    listed = records(asker, conversation)
    assert [record["state"] for record in listed] == ["complete"] * 3
    assert listed[-1]["id"] == new
    assert listed[-1]["requested_model"] == "gpt-4o"
    followed = asker.http.get("/chat/followAnswer/", params={"conversation_id": conversation})
    assert followed.text == "Second."


def test_A11_a_new_answer_that_fails_without_text_leaves_the_old_one(asker: User, provider: ScriptedProvider) -> None:
    conversation = asker.begin()
    provider.script(answer("First."), refuse(500), cut_after())
    asker.ask(conversation)
    for _ in range(2):
        assert again(asker, conversation).status_code == 502
        assert said(asker, conversation) == [("user", "What is a codon?"), ("baio", "First.")]
    assert [record["state"] for record in records(asker, conversation)] == ["complete", "failed", "failed"]


def test_A11_a_new_answer_that_is_stopped_with_text_replaces_the_old_one(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = asker.begin()
    provider.script(answer("First."), gated(gate, ("Sec",), ("ond.",)))
    asker.ask(conversation)
    body = {"conversation_id": conversation, "apikey_nickname": "OpenAI Key", "model": "gpt-4o"}
    with asker.wire("/chat/regenerateAnswer/", body) as wire:
        assert wire.chunk() == b"Sec"
        assert stop(asker, conversation).json()["state"] == "stopped"
        assert wire.chunks() == ([], True)
    assert said(asker, conversation) == [("user", "What is a codon?"), ("baio", "Sec")]


def test_A11_where_nothing_was_asked_nothing_can_be_answered_again(
    asker: User, other: User, provider: ScriptedProvider
) -> None:
    conversation = asker.begin()
    assert again(asker, conversation).status_code == 404
    asker.ask(conversation)
    other.add_key()
    assert again(other, conversation).status_code == 404
    assert len(provider.requests) == 1


def test_A11_a_conversation_of_10000_messages_opens_quickly_and_is_trimmed_to_what_the_model_can_read(
    asker: User, server: Server, provider: ScriptedProvider, record_property: Callable[[str, object], None]
) -> None:
    conversation = asker.begin()
    now = datetime.now(UTC)
    rows = [
        {
            "conversation_id": conversation,
            "role": ("baio", "user")[number % 2],  # the last one is an answer, so that the question stands alone
            "content": f"{number:05} " + "codon " * 60,
            "created_at": now,
        }
        for number in range(9_999)
    ]
    with server.engine() as engine, engine.begin() as connection:
        connection.execute(insert(messages), rows)
    process, times = psutil.Process(server.process.pid), []
    for _ in range(5):
        before = sum(process.cpu_times()[:2])
        opened = asker.http.get("/chat/getConversation/", params={"conversation_id": conversation})
        times.append(sum(process.cpu_times()[:2]) - before)
        assert len(opened.json()["messages"]) == 10_000
    record_property("milliseconds of CPU to open 10,000 messages", round(statistics.median(times) * 1000))
    assert min(times) < 0.5

    assert asker.ask(conversation, "Summarise.").status_code == 200
    turns = provider.requests[-1].body["messages"]
    assert turns[0]["role"] == "system"
    assert turns[-1] == {"role": "user", "content": "Summarise."}
    kept = [int(turn["content"][:5]) for turn in turns[1:-1]]
    assert kept == list(range(9_999 - len(kept), 9_999))
    characters = sum(len(turn["content"]) for turn in turns)
    # The model reads 128,000 tokens, its answer included: at 3 to 4 characters each, much and not too much.
    assert 200_000 < characters < 4 * (128_000 - 16_384)


# A12


def test_A12_the_record_says_how_each_answer_came_about(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = asker.begin()
    provider.script(
        answer("Complete."),
        gated(gate, ("Stop",), ("ped.",)),
        cut_after("Fail"),
        refuse(401),
        answer("Trunc", finish="length"),
        answer("Filt", finish="content_filter"),
    )
    asker.ask(conversation, model="GPT-4o MINI")
    with send(asker, conversation) as wire:
        assert wire.chunk() == b"Stop"
        stop(asker, conversation)
    with send(asker, conversation) as wire:
        assert wire.chunks() == ([b"Fail"], False)
    assert asker.ask(conversation).status_code == 424
    assert asker.ask(conversation).text == "Trunc"
    assert asker.ask(conversation).text == "Filt"

    listed = records(asker, conversation)
    keys = ["id", "state", "requested_model", "model", "finish_reason", "prompt_tokens", "completion_tokens"]
    assert {tuple(record) for record in listed} == {(*keys, "started_at", "ended_at", "reason")}
    assert [record["id"] for record in listed] == sorted(record["id"] for record in listed)
    assert {record["requested_model"] for record in listed} == {"gpt-4o-mini"}
    told = ["state", "model", "finish_reason", "prompt_tokens", "completion_tokens", "reason"]
    assert [tuple(record[name] for name in told) for record in listed] == [
        ("complete", "scripted-2024", "stop", 11, 7, None),
        ("stopped", None, None, None, None, None),
        ("failed", None, None, None, None, "provider-broken"),
        ("failed", None, None, None, None, "key-refused"),
        ("truncated", "scripted-2024", "length", 11, 7, None),
        ("truncated", "scripted-2024", "content_filter", 11, 7, None),
    ]
    assert all(record["started_at"] <= record["ended_at"] for record in listed)
    assert all(record["ended_at"].endswith("Z") for record in listed)
    assert asker.http.get("/chat/getAnswers/", params={"conversation_id": asker.begin()}).json() == []


def test_A12_somebody_elses_records_do_not_exist(asker: User, other: User) -> None:
    conversation = asker.begin()
    asker.ask(conversation)
    response = other.http.get("/chat/getAnswers/", params={"conversation_id": conversation})
    assert response.status_code == 404
