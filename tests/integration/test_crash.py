"""Processes that die: killed at random moments, or asked to end, while answers stream."""

import asyncio
import contextlib
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

import httpx2
import psutil
import pytest
from sqlalchemy import select

from baio_adapters.sql.tables import answers, messages
from tests.integration.answers import ended, last, paced, said, send
from tests.integration.conftest import NewDatabase, server_on
from tests.integration.scripted_provider import Behaviour, Exchange, ScriptedProvider
from tests.integration.servers import Server, User, Wire, eventually
from tests.integration.test_follow import EVENTS, follow, parsed

# The tests look at what one series of kills has left, at first within the 30 seconds of the leases, and then later; the
# last one asks further questions.
pytestmark = pytest.mark.written_order

KILLS = 10
"""How many processes are killed on each database, each under several answers: some 20 answers are hit."""

WORKERS = 5
"""The bystander's is spared, and the fifth to be killed is a whole server: no kill waits for a successor."""

ENDED = (0, -signal.SIGTERM)
"""A process that was asked to end may say that it was."""

PIECES = [f"{number} µ🧬 " for number in range(80)]
WHOLE = "".join(PIECES)

SILENCE = "Say nothing for a while."


@dataclass(eq=False)
class Asked:
    """One question: what was shown of its answer and when, and what became of the process that gave it."""

    user: User
    conversation: int
    port: int = 0
    shown: list[tuple[float, str]] = field(default_factory=list)
    properly: bool | None = None
    killed_at: float | None = None
    killed_when: datetime | None = None

    @property
    def text(self) -> str:
        """All that was shown."""
        return "".join(text for _, text in self.shown)

    def ask_and_read(self) -> None:
        """Ask, and note what is shown and when until the end or the cut."""
        with contextlib.suppress(OSError, IndexError), send(self.user, self.conversation) as wire:
            self.port = wire._socket.getsockname()[1]
            assert wire.status == 200
            while chunk := wire.chunk():
                self.shown.append((time.monotonic(), chunk.decode()))
            self.properly = chunk == b""
        self.properly = bool(self.properly)


@dataclass
class Aftermath:
    """What is left when the killing is over, before anybody has looked."""

    server: Server
    asked: list[Asked]
    by_the_dead: list[Asked]
    bystander: Wire
    bystanders_conversation: int
    user: User
    gate: threading.Event
    began_at: float
    kills: int = 0

    @property
    def victims(self) -> list[Asked]:
        """The answers that were under way in a process when it was killed."""
        return [each for each in (*self.asked, *self.by_the_dead) if each.killed_at is not None]


@pytest.fixture(scope="module")
def aftermath(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Aftermath]:
    """Workers of one server that were killed at random moments under running answers, and another whole server."""
    url, gate = new_database.prepared(), threading.Event()
    many = {"BAIO_ANSWERS_PER_USER": "100", "BAIO_DRAIN_SECONDS": "0"}
    many |= {"BAIO_BETWEEN_TEXT_SECONDS": "3600", "BAIO_ANSWER_SECONDS": "3600"}  # however long this takes
    crowd = server_on(tmp_path_factory.mktemp("crowd"), url, provider, "--workers", str(WORKERS), **many)
    alone = server_on(tmp_path_factory.mktemp("alone"), url, provider, **many)
    with crowd as server, alone as doomed, ExitStack() as stack:
        stack.callback(server.stop)
        user, there = User(server), User(doomed)
        for each in (user, there):
            each.add_key()
            stack.callback(each.http.close)

        async def behave(exchange: Exchange) -> None:
            if exchange.request.body["messages"][-1]["content"] == SILENCE:
                await exchange.head()
                await exchange.text("Hold on. ")
                await exchange.wait_for(gate)
                await exchange.text("Done.")
                await exchange.finish()
            else:
                await paced(*PIECES, delay=0.1)(exchange)

        provider.always(behave)
        stack.callback(gate.set)
        waiting = user.begin()
        began_at = time.monotonic()
        bystander = stack.enter_context(send(user, waiting, SILENCE, **EVENTS))
        assert bystander.status == 200
        dead = [Asked(there, there.begin()) for _ in range(4)]
        found = Aftermath(server, [], dead, bystander, waiting, user, gate, began_at)
        with ThreadPoolExecutor(24) as threads:
            over = threading.Event()
            askers = [threads.submit(_keep_asking, user, found.asked, over) for _ in range(20)]
            for one in dead:
                threads.submit(one.ask_and_read)
            assert eventually(lambda: all(len(one.shown) > 5 for one in dead), 60)
            _kill(doomed.process.pid, lambda: dead)
            # Whoever asked there looks for the answer at the other server.
            there.server, there.http.base_url = server, httpx2.URL(server.address)
            found.kills = _kill_at_random(found, random.Random(64))
            over.set()
            for asker in askers:
                asker.result()
        yield found


def _keep_asking(user: User, asked: list[Asked], over: threading.Event) -> None:
    while not over.is_set():
        conversation = None
        while conversation is None:  # the request may meet a process as it is killed
            with contextlib.suppress(httpx2.TransportError):
                conversation = user.begin()
        one = Asked(user, conversation)
        asked.append(one)
        one.ask_and_read()


def _kill_at_random(found: Aftermath, chance: random.Random) -> int:
    spared = _ports_of(found.server).get(found.bystander._socket.getsockname()[1])
    assert spared is not None
    for kill in range(KILLS - 1):
        time.sleep(chance.uniform(0.2, 1.2))
        give_up_at = time.monotonic() + 120
        while True:
            assert time.monotonic() < give_up_at, f"nothing to kill any more after {kill} kills"
            ports = _ports_of(found.server)
            running = [each for each in found.asked if each.properly is None and each.shown and each.port in ports]
            hosts = sorted({ports[each.port] for each in running} - {spared})
            if hosts:
                break
            time.sleep(0.05)
        pid = chance.choice(hosts)

        def hit(pid: int = pid) -> list[Asked]:
            ports = _ports_of(found.server)
            return [
                each for each in found.asked if each.properly is None and each.shown and ports.get(each.port) == pid
            ]

        _kill(pid, hit)
    return KILLS


def _kill(pid: int, victims: Callable[[], list[Asked]]) -> None:
    # Held still first, so that nobody's answer begins there between being looked for and the end.
    os.kill(pid, signal.SIGSTOP)
    moment, when = time.monotonic(), datetime.now(UTC)
    time.sleep(0.1)
    for each in victims():
        each.killed_at, each.killed_when = moment, when
    os.kill(pid, signal.SIGKILL)


def _ports_of(server: Server) -> dict[int, int]:
    """Which worker serves the client at which port."""
    found = {}
    for worker in psutil.Process(server.process.pid).children():
        with contextlib.suppress(psutil.Error):
            for connection in worker.net_connections("tcp"):
                if connection.raddr and connection.status == psutil.CONN_ESTABLISHED:
                    found[connection.raddr.port] = worker.pid
    return found


def stored(user: User, conversation: int) -> str:
    """The text of the conversation's first answer, whatever state it is in."""
    return next((text for role, text in said(user, conversation) if role == "baio"), "")


def test_A7_every_kill_hit_running_answers_and_cut_their_streams(
    aftermath: Aftermath, record_property: Callable[[str, object], None]
) -> None:
    record_property("processes killed", aftermath.kills)
    record_property("answers under way in them", len(aftermath.victims))
    assert aftermath.kills == KILLS
    assert len(aftermath.victims) >= 2 * KILLS
    assert not any(each.properly for each in aftermath.victims)


def test_A7_the_question_of_every_answer_is_there(aftermath: Aftermath) -> None:
    for each in aftermath.victims:
        assert said(each.user, each.conversation)[:1] == [("user", "What is a codon?")]


def test_A7_an_answer_of_another_process_still_runs_when_those_of_the_dead_have_been_ended(
    aftermath: Aftermath,
) -> None:
    mine = aftermath.user, aftermath.bystanders_conversation
    for dead in aftermath.by_the_dead:
        assert ended(dead.user, dead.conversation, 30)["state"] == "interrupted"
    record = last(*mine)
    assert record["state"] == "running", record
    # It was silent all the time, but for the comments that keep its connection alive.
    aftermath.gate.set()
    chunks, properly = aftermath.bystander.chunks()
    assert properly
    stream = b"".join(chunks).decode()
    assert [event.data["text"] for event in parsed(stream)[:-1]] == ["Hold on. ", "Done."]
    comments = [block for block in stream.split("\n\n") if block.startswith(":")]
    assert 1 <= len(comments) <= (time.monotonic() - aftermath.began_at) / 15
    assert last(*mine)["state"] == "complete"


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


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["one process", "two workers"])
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


# A7, once the leases are over


def test_A7_every_answer_of_a_killed_process_is_interrupted_within_30_seconds(
    aftermath: Aftermath, record_property: Callable[[str, object], None]
) -> None:
    longest = 0.0
    for each in aftermath.victims:
        user = each.user
        assert each.killed_at is not None
        assert each.killed_when is not None
        left = each.killed_at + 30 - time.monotonic()
        assert eventually(lambda: last(user, each.conversation)["state"] != "running", max(left, 0.0))  # noqa: B023
        record = last(user, each.conversation)
        assert (record["state"], record["reason"]) == ("interrupted", "lost")
        longest = max(longest, (datetime.fromisoformat(record["ended_at"]) - each.killed_when).total_seconds())
    record_property("seconds until the last was interrupted", round(longest, 1))
    assert longest < 30


def test_A7_all_that_was_shown_but_at_most_the_last_second_is_stored_and_nothing_else(
    aftermath: Aftermath, record_property: Callable[[str, object], None]
) -> None:
    longest = 0.0
    for each in aftermath.victims:
        assert each.killed_at is not None
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
    survivors = [each for each in aftermath.asked if each.killed_at is None and each.shown and each.properly]
    assert survivors
    for each in survivors:
        assert each.text == WHOLE
        assert last(each.user, each.conversation)["state"] == "complete"
        assert stored(each.user, each.conversation) == WHOLE
    # No stream was cut but those of processes that were killed.
    assert [each for each in aftermath.asked if each.killed_at is None and each.shown and not each.properly] == []


def test_A7_the_conversations_go_on_and_the_model_is_sent_the_partial_answers_as_they_are(
    aftermath: Aftermath, provider: ScriptedProvider
) -> None:
    for each in [aftermath.by_the_dead[0], *aftermath.victims[:5]]:
        user = each.user
        before = said(user, each.conversation)
        with follow(user, each.conversation) as cut:
            if len(before) == 2:
                assert b"".join(cut.chunks()[0]).decode() == before[1][1]
        assert user.ask(each.conversation, "Go on.").text == "A codon is three nucleotides."
        sent = [(turn["role"], turn["content"]) for turn in provider.requests[-1].body["messages"][1:]]
        if len(before) == 2:
            assert sent == [("user", before[0][1]), ("assistant", before[1][1]), ("user", "Go on.")]
        else:  # killed before its first text; no two questions are sent in a row
            assert sent == [("user", f"{before[0][1]}\n\nGo on.")]
        assert said(user, each.conversation) == [
            *before,
            ("user", "Go on."),
            ("baio", "A codon is three nucleotides."),
        ]
