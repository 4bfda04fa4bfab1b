"""Processes that die: killed at random moments, or asked to end, while answers stream."""

import asyncio
import contextlib
import copy
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from baio_adapters.sql.tables import answers, messages
from tests.integration.answers import ended, last, paced, said, send
from tests.integration.conftest import NewDatabase, once, server_on
from tests.integration.scripted_provider import Behaviour, Exchange, ScriptedProvider
from tests.integration.servers import Server, User, Wire, eventually
from tests.integration.test_follow import EVENTS, follow, parsed

# The tests look at what one series of kills has left, at first at once, and then later; the last one asks further
# questions.
pytestmark = pytest.mark.written_order

KILLS = 3
"""How many processes are killed on each database."""

ANSWERS = 4
"""How many answers each of them gives."""

ENDED = (0, -signal.SIGTERM)
"""A process that was asked to end may say that it was."""

PIECES = [f"{number} µ🧬 " for number in range(3000)]
WHOLE = "".join(PIECES)
"""An answer that takes minutes: no process that is to be killed gives all of it."""

SHORT = PIECES[:30]

BRIEF = "What is a codon, in short?"
SILENCE = "Say nothing for a while."


@dataclass(eq=False)
class Asked:
    """One question: what was shown of its answer and when, and when the process that gave it was killed."""

    user: User
    conversation: int
    question: str = "What is a codon?"
    shown: list[tuple[float, str]] = field(default_factory=list)
    properly: bool | None = None
    killed_at: float = 0.0
    killed_when: datetime | None = None

    @property
    def text(self) -> str:
        """All that was shown."""
        return "".join(text for _, text in self.shown)

    def ask_and_read(self) -> None:
        """Ask, and note what is shown and when until the end or the cut."""
        with contextlib.suppress(OSError, IndexError), send(self.user, self.conversation, self.question) as wire:
            assert wire.status == 200
            while chunk := wire.chunk():
                self.shown.append((time.monotonic(), chunk.decode()))
            self.properly = chunk == b""
        self.properly = bool(self.properly)


@dataclass
class Silent:
    """An answer that has begun and waits for the gate, as events."""

    conversation: int
    wire: Wire


@dataclass
class Aftermath:
    """The database after the servers were killed, before any other process has opened it.

    One process was spared and gave answers meanwhile; another one was frozen before the first kill, and still is.
    """

    user: User
    victims: list[Asked]
    survivors: list[Asked]
    bystander: Silent
    frozen: Silent
    thaw: Callable[[], None]
    gate: threading.Event
    began_at: float


@pytest.fixture(scope="module")
def aftermath(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Aftermath]:
    """Processes on one database that were killed at random moments under running answers, and two that were not."""
    url, gate, chance = new_database.prepared(), threading.Event(), random.Random(64)
    settings = {"BAIO_ANSWERS_PER_USER": "100", "BAIO_DRAIN_SECONDS": "0"}
    settings |= {"BAIO_BETWEEN_TEXT_SECONDS": "3600", "BAIO_ANSWER_SECONDS": "3600"}  # however long this takes

    async def behave(exchange: Exchange) -> None:
        question = exchange.request.body["messages"][-1]["content"]
        if question == SILENCE:
            await exchange.head()
            await exchange.text("Hold on. ")
            await exchange.wait_for(gate)
            await exchange.text("Done.")
            await exchange.finish()
        else:
            await paced(*(SHORT if question == BRIEF else PIECES), delay=0.1)(exchange)

    provider.always(behave)
    with ExitStack() as stack:
        names = ["spared", "frozen", *(f"doomed {number}" for number in range(KILLS))]
        spared, frozen, *doomed = [
            stack.enter_context(server_on(tmp_path_factory.mktemp(name), url, provider, **settings)) for name in names
        ]
        user = User(spared)
        user.add_key()
        stack.callback(user.http.close)
        stack.callback(gate.set)
        began_at = time.monotonic()

        def ask_silently(server: Server) -> Silent:
            conversation = user.begin()
            wire = stack.enter_context(send(at(user, server), conversation, SILENCE, **EVENTS))
            assert wire.chunk()
            return Silent(conversation, wire)

        def thaw() -> None:
            os.kill(frozen.process.pid, signal.SIGCONT)

        bystander, held = ask_silently(spared), ask_silently(frozen)
        stack.callback(thaw)
        _freeze(frozen, user)
        survivors = [Asked(user, user.begin(), BRIEF) for _ in range(ANSWERS)]
        victims = {server: [Asked(at(user, server), user.begin()) for _ in range(ANSWERS)] for server in doomed}
        with ThreadPoolExecutor(ANSWERS * (KILLS + 1)) as threads:
            for one in [*survivors, *(each for asked in victims.values() for each in asked)]:
                threads.submit(one.ask_and_read)
            for server, asked in victims.items():
                assert eventually(lambda: all(len(one.shown) > 5 for one in asked))  # noqa: B023 - called at once
                time.sleep(chance.uniform(0, 0.4))
                _kill(server, asked)
        everybody = [each for asked in victims.values() for each in asked]
        yield Aftermath(user, everybody, survivors, bystander, held, thaw, gate, began_at)


def at(user: User, server: Server) -> User:
    """The same user, who asks at that server and looks for everything at the first one."""
    same = copy.copy(user)
    same.server = server
    return same


def _freeze(server: Server, user: User) -> None:
    """Hold the process still, but not within a transaction, in which it would keep everybody else from writing."""
    while True:
        server.process.send_signal(signal.SIGSTOP)
        if user.http.post("/chat/createConversation/", json={"title": "Free"}).status_code == 201:
            return
        server.process.send_signal(signal.SIGCONT)


def _kill(server: Server, asked: list[Asked]) -> None:
    # Held still first, so that nothing is shown between the look at the clock and the end.
    server.process.send_signal(signal.SIGSTOP)
    for each in asked:
        each.killed_at, each.killed_when = time.monotonic(), datetime.now(UTC)
    server.process.kill()


def stored(user: User, conversation: int) -> str:
    """The text of the conversation's first answer, whatever state it is in."""
    return next((text for role, text in said(user, conversation) if role == "baio"), "")


# A7


def test_A7_every_kill_hit_running_answers_and_cut_their_streams(
    aftermath: Aftermath, record_property: Callable[[str, object], None]
) -> None:
    record_property("answers under way in killed processes", len(aftermath.victims))
    assert len(aftermath.victims) == KILLS * ANSWERS
    for each in aftermath.victims:
        assert each.properly is False
        assert WHOLE.startswith(each.text)


def test_A7_the_question_of_every_answer_is_there(aftermath: Aftermath) -> None:
    for each in aftermath.victims:
        assert said(each.user, each.conversation)[:1] == [("user", "What is a codon?")]


def test_A7_every_answer_of_a_killed_process_is_interrupted_long_before_its_lease_is_over(
    aftermath: Aftermath, record_property: Callable[[str, object], None]
) -> None:
    longest = 0.0
    for each in aftermath.victims:
        record = ended(each.user, each.conversation, 30)
        assert (record["state"], record["reason"]) == ("interrupted", "lost")
        assert each.killed_when is not None
        took = datetime.fromisoformat(record["ended_at"]) - each.killed_when
        longest = max(longest, took.total_seconds())
    record_property("seconds until the last was interrupted", round(longest, 2))
    with aftermath.user.server.engine() as engine, engine.connect() as connection:
        lost = select(answers.c.ended_at, answers.c.lease_until).where(answers.c.reason == "lost")
        times = connection.execute(lost).fetchall()
    assert len(times) == len(aftermath.victims)
    assert all(ended_at < lease_until for ended_at, lease_until in times)


def test_A7_an_answer_of_a_frozen_process_still_runs_when_those_of_the_dead_have_been_ended(
    aftermath: Aftermath,
) -> None:
    assert last(aftermath.user, aftermath.frozen.conversation)["state"] == "running"
    aftermath.thaw()


def test_A7_all_that_was_shown_but_at_most_the_last_second_is_stored_and_nothing_else(
    aftermath: Aftermath, record_property: Callable[[str, object], None]
) -> None:
    longest = 0.0
    for each in aftermath.victims:
        text = stored(each.user, each.conversation)
        assert WHOLE.startswith(text)
        length = 0
        for moment, piece in each.shown:
            length += len(piece)
            if length > len(text):
                longest = max(longest, each.killed_at - moment)
    record_property("milliseconds of text lost at most", round(longest * 1000))
    assert longest <= 1.0


def test_A7_no_other_processs_answers_were_ended_by_those_deaths(aftermath: Aftermath) -> None:
    for each in aftermath.survivors:
        assert each.properly
        assert each.text == "".join(SHORT)
        assert last(each.user, each.conversation)["state"] == "complete"
        assert stored(each.user, each.conversation) == each.text


def test_A7_the_conversations_go_on_and_the_model_is_sent_the_partial_answers_as_they_are(
    aftermath: Aftermath, provider: ScriptedProvider
) -> None:
    user = aftermath.user
    for each in aftermath.victims[::ANSWERS]:
        before = said(user, each.conversation)
        with follow(user, each.conversation) as cut:
            assert b"".join(cut.chunks()[0]).decode() == before[1][1]
        assert user.ask(each.conversation, "Go on.").text == "A codon is three nucleotides."
        sent = [(turn["role"], turn["content"]) for turn in provider.requests[-1].body["messages"][1:]]
        assert sent == [("user", before[0][1]), ("assistant", before[1][1]), ("user", "Go on.")]
        assert said(user, each.conversation) == [
            *before,
            ("user", "Go on."),
            ("baio", "A codon is three nucleotides."),
        ]


def test_A7_a_server_that_is_killed_and_started_again_goes_on_at_once(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path
) -> None:
    url = new_database.prepared()
    provider.script(paced(*PIECES, delay=0.1))
    with server_on(tmp_path / "before", url, provider) as server:
        user = User(server)
        user.add_key()
        conversation = user.begin()
        wire = send(user, conversation)
        assert wire.chunk()
        assert eventually(lambda: server.rows()["answer_parts"] > 0)
        server.process.kill()
        user.http.close()
        wire.close()
    with server_on(tmp_path / "after", url, provider) as server:
        user.server = server
        with server.client(headers={"Authorization": f"Bearer {user.access}"}) as user.http:
            record = ended(user, conversation, 30)
            assert (record["state"], record["reason"]) == ("interrupted", "lost")
            assert WHOLE.startswith(stored(user, conversation) or "nothing")
            assert user.ask(conversation, "Go on.").text == "A codon is three nucleotides."
        with server.engine() as engine, engine.connect() as connection:
            first = connection.execute(select(answers.c.ended_at, answers.c.lease_until).order_by(answers.c.id)).first()
    assert first is not None
    assert first.ended_at < first.lease_until


# A8


def four_ways(gate: threading.Event) -> Behaviour:
    """Answers to be running at the end: one that ends when the gate opens, one without text, and two that never end."""

    async def behave(exchange: Exchange) -> None:
        question = exchange.request.body["messages"][-1]["content"]
        await exchange.head()
        if question == "short":
            await exchange.text("Short ")
            await exchange.wait_for(gate)
            await exchange.text("answer.")
            await exchange.finish()
        elif question == "silent":
            await exchange.hang()
        else:
            while not exchange.reader.at_eof():
                await exchange.text("more µ🧬 " * (300 if question == "unread" else 1))
                await asyncio.sleep(0.02)

    return behave


@pytest.mark.parametrize(
    ("new_database", "arguments"),
    [("sqlite", ()), ("postgresql", ("--workers", "2"))],
    ids=["sqlite-one process", "postgresql-two workers"],
    indirect=["new_database"],
)
def test_A8_a_server_that_is_asked_to_end_drains_and_loses_nothing_that_was_shown(
    new_database: NewDatabase,
    provider: ScriptedProvider,
    tmp_path: Path,
    arguments: tuple[str, ...],
    record_property: Callable[[str, object], None],
) -> None:
    gate = threading.Event()
    provider.always(four_ways(gate))
    settings = {"BAIO_DRAIN_SECONDS": "5", "BAIO_ANSWERS_PER_USER": "10"}
    url, names = new_database.prepared(), ("short", "long", "unread", "silent")
    with server_on(tmp_path, url, provider, *arguments, **settings) as server, ExitStack() as stack:
        stack.callback(gate.set)
        user = User(server)
        stack.callback(user.http.close)
        user.add_key()
        conversations = {name: user.begin(name) for name in names}
        elsewhere = user.begin()
        wires = {name: stack.enter_context(send(user, conversations[name], name)) for name in names}
        assert wires["short"].chunk() == b"Short "
        assert wires["unread"].status == 200
        provider.wait_for_requests(4)

        def refused() -> bool:
            with send(user, elsewhere) as wire:
                return wire.status == 503 and int(wire.headers["retry-after"]) > 0

        with ThreadPoolExecutor(1) as threads:
            reading = threads.submit(wires["long"].chunks)
            asked_at = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert eventually(refused, 4)
            gate.set()
            assert wires["short"].chunks() == ([b"answer."], True)
            assert server.process.wait(60) in ENDED
            took = time.monotonic() - asked_at
            shown, properly = reading.result()
        record_property("seconds from SIGTERM to the exit, with 5 to drain", round(took, 2))
        assert not properly
        assert wires["silent"].status == 503
        found = finals(server)
    assert found[conversations["short"]] == ("complete", "Short answer.")
    assert found[conversations["silent"]] == ("interrupted", "")
    assert found[conversations["long"]] == ("interrupted", b"".join(shown).decode())
    state, text = found[conversations["unread"]]
    assert state == "interrupted"
    assert text.startswith("more µ🧬 " * 300)


def finals(server: Server) -> dict[int, tuple[str, str]]:
    """What the database of a server that has ended has of each conversation's answer: its state and its text."""
    with server.engine() as engine, engine.connect() as connection:
        of = answers.join(messages, messages.c.id == answers.c.message_id, isouter=True)
        rows = connection.execute(
            select(answers.c.conversation_id, answers.c.state, messages.c.content).select_from(of)
        )
        return {row[0]: (row[1], row[2] or "") for row in rows}


# A7, once the bystanders have been silent for long


@once
def test_A7_a_stream_of_events_that_is_silent_for_long_is_kept_alive_by_comments(aftermath: Aftermath) -> None:
    comment = aftermath.bystander.wire.chunk()
    assert comment is not None
    assert comment.startswith(b": ")
    assert time.monotonic() - aftermath.began_at > 15


def test_A7_answers_of_processes_that_live_go_on_whether_they_were_frozen_or_not(aftermath: Aftermath) -> None:
    for each in (aftermath.bystander, aftermath.frozen):
        assert last(aftermath.user, each.conversation)["state"] == "running"
    aftermath.gate.set()
    for each in (aftermath.bystander, aftermath.frozen):
        chunks, properly = each.wire.chunks()
        assert properly
        events = b"".join(chunk for chunk in chunks if not chunk.startswith(b": "))
        assert [event.data["text"] for event in parsed(events.decode())[:-1]] == ["Done."]
        assert last(aftermath.user, each.conversation)["state"] == "complete"
