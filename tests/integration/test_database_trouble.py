"""A database that is locked, away or full in mid-answer: streams go on, ends are stored, and nothing hangs."""

import contextlib
import itertools
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, make_url, text

from tests.integration.answers import ended, last, paced, said, send
from tests.integration.conftest import NewDatabase, server_on
from tests.integration.scripted_provider import ScriptedProvider, gated
from tests.integration.servers import Server, User, Wire, eventually

PIECES = [f"{number} xyzzy-µ🧬 " for number in range(60)]
WHOLE = "".join(PIECES)

PATIENCE = 25
"""Seconds that a request may take at most, whatever the database does."""

STALL = 5
"""Seconds between two pieces of a stream that the database held up: they are sent 20 a second."""

FULL = """
CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER full_messages BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION disk_full();
CREATE TRIGGER full_parts BEFORE INSERT ON answer_parts FOR EACH ROW EXECUTE FUNCTION disk_full();
"""
EMPTIED = "DROP FUNCTION disk_full() CASCADE"


@dataclass
class Read:
    """What a client has read: each piece with its time, and whether the end was proper."""

    pieces: list[tuple[float, str]]
    properly: bool

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(piece for _, piece in self.pieces)

    @property
    def longest_gap(self) -> float:
        """The most seconds between two pieces."""
        times = [moment for moment, _ in self.pieces]
        return max(later - earlier for earlier, later in itertools.pairwise(times))


def read(wire: Wire) -> Read:
    """Read to the end, and note when each piece came."""
    pieces = []
    while chunk := wire.chunk():
        pieces.append((time.monotonic(), chunk.decode()))
    return Read(pieces, chunk == b"")


def timed_send(user: User, conversation: int) -> tuple[int, float, float, str]:
    """Ask: the status, when it was there and after how many seconds, and when to try again."""
    begun = time.monotonic()
    with send(user, conversation, "plugh-question?") as wire:
        status = wire.status
        now = time.monotonic()
        wire.rest()
        return status, now, now - begun, wire.headers.get("retry-after", "")


@pytest.fixture(scope="module")
def server(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory, given_up: "GivenUp"
) -> Iterator[Server]:
    """The server of this file's tests."""
    del given_up  # is to begin before them
    url, folder = new_database.prepared(), tmp_path_factory.mktemp("troubled")
    with server_on(folder, url, provider, BAIO_ANSWERS_PER_USER="100") as running:
        yield running


@pytest.fixture
def embedded(server: Server) -> bool:
    """Whether this is SQLite."""
    return server.database.startswith("sqlite")


@contextlib.contextmanager
def locked(server: Server) -> Iterator[None]:
    """Another process writes for a long time: the whole file on SQLite, the tables of answers on PostgreSQL."""
    with server.engine() as engine, engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("LOCK TABLE messages, answers, answer_parts IN ACCESS EXCLUSIVE MODE"))
        yield


@contextlib.contextmanager
def administrator(database: str) -> Iterator[Engine]:
    """PostgreSQL's superuser, in another database of the same server."""
    url = make_url(database).set(drivername="postgresql+psycopg", database="postgres")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        yield engine
    finally:
        engine.dispose()


def throw_out(engine: Engine, database: str) -> None:
    """End every connection to the database."""
    statement = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
    with engine.connect() as connection:
        connection.execute(statement, {"name": make_url(database).database})


@contextlib.contextmanager
def full_disk(server: Server) -> Iterator[None]:
    """No byte more can be stored."""
    if server.database.startswith("sqlite"):
        path = make_url(server.database).database
        size = Path(f"{path}-wal").stat().st_size
        # The log is a file too; it must have room below what the database has already.
        assert size > 3 * len(server.log) + 100_000
        usual = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, usual[1]))
        try:
            yield
        finally:
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, usual)
        return
    with server.engine() as engine:
        with engine.begin() as connection:
            connection.exec_driver_sql(FULL)
        try:
            yield
        finally:
            with engine.begin() as connection:
                connection.exec_driver_sql(EMPTIED)


@dataclass
class GivenUp:
    """An answer whose end can't be stored at all: begun before this file's tests, looked at after them."""

    user: User
    conversation: int
    reading: "Future[Read]"
    ended_at: float
    disk: ExitStack


linux = pytest.mark.skipif(sys.platform != "linux", reason="only there a running process can be given a full disk")


@pytest.fixture(scope="module")
def given_up(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GivenUp]:
    """Its disk is full from mid-answer on, on a server of its own, while other tests run elsewhere."""
    url, folder, gate = new_database.prepared(), tmp_path_factory.mktemp("full"), threading.Event()
    with server_on(folder, url, provider) as server, ThreadPoolExecutor(1) as threads, ExitStack() as stack:
        user = User(server)
        stack.callback(user.http.close)
        stack.callback(gate.set)
        user.add_key()
        for _ in range(10):
            user.ask(user.begin())
        conversation = user.begin()
        before = server.rows()["answer_parts"]
        provider.script(gated(gate, ("xyzzy-first, ",), ("xyzzy-second.",)))
        wire = stack.enter_context(send(user, conversation, "plugh-question?"))
        assert wire.status == 200
        assert eventually(lambda: server.rows()["answer_parts"] > before)
        disk = stack.enter_context(ExitStack())
        disk.enter_context(full_disk(server))
        gate.set()
        yield GivenUp(user, conversation, threads.submit(read, wire), time.monotonic(), disk)


def test_A9_a_stream_goes_on_while_the_database_is_locked_for_8_seconds_and_its_end_is_stored_afterwards(
    asker: User, server: Server, provider: ScriptedProvider, record_property: Callable[[str, object], None]
) -> None:
    conversation, elsewhere = asker.begin(), asker.begin()
    provider.always(paced(*PIECES, delay=0.05))
    with send(asker, conversation) as wire, ThreadPoolExecutor(2) as threads:
        first = wire.chunk()
        reading = threads.submit(read, wire)
        with locked(server):
            locked_at = time.monotonic()
            sending = threads.submit(timed_send, asker, elsewhere)
            assert not eventually(reading.done, 8)
            unlocked_at = time.monotonic()
        done = reading.result()
        status, answered_at, seconds, retry_after = sending.result()
    record_property("milliseconds between two pieces at most", round(done.longest_gap * 1000))
    assert (first or b"").decode() + done.text == WHOLE
    assert done.properly
    assert done.longest_gap < STALL
    assert locked_at < done.pieces[-1][0] < unlocked_at
    assert ended(asker, conversation)["state"] == "complete"
    assert said(asker, conversation)[-1] == ("baio", WHOLE)
    # A new question is refused meanwhile, or answered once that is possible; it never waits for long.
    record_property("seconds until a new question was refused", round(seconds, 1))
    assert seconds < PATIENCE
    if answered_at < unlocked_at:
        assert (status, int(retry_after) > 0) == (503, True)
    assert eventually(lambda: asker.ask(asker.begin()).status_code == 200)
    assert "xyzzy" not in server.log
    assert "plugh" not in server.log


def test_A9_new_questions_are_refused_while_the_database_is_locked_and_none_hangs_behind_the_others(
    asker: User, server: Server, provider: ScriptedProvider, record_property: Callable[[str, object], None]
) -> None:
    conversations = [asker.begin() for _ in range(6)]
    with ThreadPoolExecutor(6) as threads:
        with locked(server):
            sending = [threads.submit(timed_send, asker, conversation) for conversation in conversations]
            eventually(lambda: all(each.done() for each in sending), PATIENCE + 1)
            unlocked_at = time.monotonic()
        results = [each.result() for each in sending]
    record_property("seconds until the refusals", sorted(round(seconds, 1) for _, _, seconds, _ in results))
    assert all(answered_at < unlocked_at for _, answered_at, _, _ in results)
    assert {status for status, _, _, _ in results} == {503}
    assert all(int(retry_after) > 0 for _, _, _, retry_after in results)
    assert max(seconds for _, _, seconds, _ in results) < PATIENCE
    assert provider.requests == []
    assert eventually(lambda: asker.ask(conversations[0]).status_code == 200)
    assert [said(asker, conversation) for conversation in conversations[1:]] == [[]] * 5


# SQLite is no server that could throw out connections, or be away.
on_postgresql = pytest.mark.parametrize("new_database", ["postgresql"], indirect=True)


@on_postgresql
def test_A9_a_stream_survives_its_connections_being_thrown_out_again_and_again(
    asker: User, server: Server, provider: ScriptedProvider
) -> None:
    conversation = asker.begin()
    provider.always(paced(*PIECES, delay=0.05))
    statuses = set()
    with send(asker, conversation) as wire, ThreadPoolExecutor(1) as threads, administrator(server.database) as engine:
        first = wire.chunk()
        reading = threads.submit(read, wire)
        while not reading.done():
            throw_out(engine, server.database)
            status, _, seconds, _ = timed_send(asker, 0)
            statuses.add(status)
            assert seconds < PATIENCE
        done = reading.result()
    assert (first or b"").decode() + done.text == WHOLE
    assert done.properly
    assert done.longest_gap < STALL
    assert statuses <= {404, 503}
    assert eventually(lambda: asker.ask(asker.begin()).status_code == 200)
    assert last(asker, conversation)["state"] == "complete"
    assert said(asker, conversation)[-1] == ("baio", WHOLE)
    assert "xyzzy" not in server.log


@on_postgresql
def test_A9_a_stream_goes_on_while_the_database_is_away_for_10_seconds_and_its_end_is_stored_afterwards(
    asker: User, server: Server, provider: ScriptedProvider, record_property: Callable[[str, object], None]
) -> None:
    conversation, elsewhere = asker.begin(), asker.begin()
    provider.always(paced(*PIECES, delay=0.05))
    name = make_url(server.database).database
    with send(asker, conversation) as wire, ThreadPoolExecutor(2) as threads, administrator(server.database) as engine:
        first = wire.chunk()
        reading = threads.submit(read, wire)
        with engine.connect() as connection:
            connection.execute(text(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false"))
            try:
                throw_out(engine, server.database)
                away_at = time.monotonic()
                sending = threads.submit(timed_send, asker, elsewhere)
                assert not eventually(reading.done, 10)
                back_at = time.monotonic()
            finally:
                connection.execute(text(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true"))
        done = reading.result()
        status, _, seconds, retry_after = sending.result()
    assert (first or b"").decode() + done.text == WHOLE
    assert done.properly
    assert done.longest_gap < STALL
    assert away_at < done.pieces[-1][0] < back_at
    record_property("seconds until a new question was refused", round(seconds, 1))
    assert (status, int(retry_after) > 0) == (503, True)
    assert seconds < PATIENCE
    assert eventually(lambda: asker.ask(asker.begin()).status_code == 200)
    assert last(asker, conversation)["state"] == "complete"
    assert said(asker, conversation)[-1] == ("baio", WHOLE)
    assert "xyzzy" not in server.log


@linux
def test_A9_an_answer_that_ends_while_the_disk_is_full_is_stored_when_there_is_room_again(
    asker: User, server: Server, provider: ScriptedProvider
) -> None:
    for _ in range(10):
        asker.ask(asker.begin())
    conversation, elsewhere, gate = asker.begin(), asker.begin(), threading.Event()
    provider.script(gated(gate, ("xyzzy-first, ",), ("xyzzy-second.",)))
    with send(asker, conversation, "plugh-question?") as wire:
        assert wire.chunk() == b"xyzzy-first, "
        with full_disk(server):
            gate.set()
            assert wire.chunk() == b"xyzzy-second."
            status, _, seconds, retry_after = timed_send(asker, elsewhere)
            assert (status, int(retry_after) > 0) == (503, True)
            assert seconds < PATIENCE
            assert last(asker, conversation)["state"] == "running"
        assert wire.chunks() == ([], True)
    assert last(asker, conversation)["state"] == "complete"
    assert said(asker, conversation) == [("user", "plugh-question?"), ("baio", "xyzzy-first, xyzzy-second.")]
    assert said(asker, elsewhere) == []
    assert "xyzzy" not in server.log
    assert "plugh" not in server.log


@linux
def test_A9_what_can_not_be_saved_in_the_end_is_logged_without_its_text_and_its_stream_is_cut(
    given_up: GivenUp, record_property: Callable[[str, object], None]
) -> None:
    user, conversation = given_up.user, given_up.conversation
    done = given_up.reading.result(timeout=60)
    record_property("seconds until it was given up", round(time.monotonic() - given_up.ended_at, 1))
    assert done.text == "xyzzy-first, xyzzy-second."
    assert not done.properly
    assert eventually(lambda: "answer not stored" in user.server.log)
    assert "xyzzy" not in user.server.log
    assert "plugh" not in user.server.log
    given_up.disk.close()
    # The conversation goes on, with what had been stored before.
    assert ended(user, conversation, 30)["state"] == "interrupted"
    assert said(user, conversation) == [("user", "plugh-question?"), ("baio", "xyzzy-first, ")]
    assert user.ask(conversation).text == "A codon is three nucleotides."
