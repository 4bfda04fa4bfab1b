"""Units of work that wait for SQLite's writer share a commit. What fails takes nobody along; processes take turns."""

import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection, event

from baio_adapters.sql import shared_commits
from baio_adapters.sql.database import SqlDatabase
from baio_domain.entities import Role
from baio_domain.errors import ConversationNotFound, InvalidInput, Unavailable
from baio_domain.ports import Transaction
from tests.integration.conftest import NewDatabase
from tests.store_contract import NOW, add_key, conversation_of, delete, say, someone, spoken

T = TypeVar("T")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def url(sqlite: NewDatabase) -> str:
    return sqlite.prepared()


@pytest.fixture
def database(url: str) -> Iterator[SqlDatabase]:
    opened = SqlDatabase(url)
    yield opened
    opened.close()


@pytest.fixture
def commits(database: SqlDatabase, monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """One entry for each commit from now on, in which everything that waits joins, however slow the machine is."""
    monkeypatch.setattr(shared_commits, "JOIN_SECONDS", 60.0)
    noted: list[Connection] = []
    event.listen(database._writer.engine, "commit", noted.append)
    return noted


@contextlib.asynccontextmanager
async def writer_held(database: SqlDatabase) -> AsyncIterator[None]:
    """What is written inside waits until the end."""
    begun, go_on = threading.Event(), threading.Event()

    def hold(_: Transaction) -> None:
        begun.set()
        go_on.wait()

    holding = asyncio.create_task(database.write(hold))
    await asyncio.to_thread(begun.wait)
    yield
    await asyncio.sleep(0)  # every task of the test sends its unit of work
    go_on.set()
    await holding


async def together(database: SqlDatabase, *works: Callable[[Transaction], T]) -> list[T | BaseException]:
    """The results and errors of units of work that wait at the same time."""
    async with writer_held(database):
        tasks = [asyncio.create_task(database.write(work)) for work in works]
    return await asyncio.gather(*tasks, return_exceptions=True)


def saying(content: str, conversation: int, owner: int) -> Callable[[Transaction], int]:
    return lambda tx: tx.messages.add(conversation, Role.USER, content, NOW, owner=owner).id


async def test_what_waits_shares_one_commit(database: SqlDatabase, commits: list[Connection]) -> None:
    owner = await someone(database)
    conversation = await conversation_of(database, owner)
    commits.clear()
    done = await together(database, *(saying(str(number), conversation, owner) for number in range(5)))
    assert len(commits) == 2  # of what held the writer, and of the five
    assert done == sorted(done)  # type: ignore[type-var]
    assert await spoken(database, owner, conversation) == [("user", str(number)) for number in range(5)]


async def test_what_fails_takes_nobody_along(database: SqlDatabase) -> None:
    owner = await someone(database)
    conversation = await conversation_of(database, owner)
    await add_key(database, owner, "taken")

    def after_saying(fail: Callable[[Transaction], object]) -> Callable[[Transaction], int]:
        def work(tx: Transaction) -> int:
            saying("never", conversation, owner)(tx)
            fail(tx)
            return 0

        return work

    first, refused, taken, bug, stop, last = await together(
        database,
        saying("first", conversation, owner),
        after_saying(lambda tx: tx.conversations.get(0, owner=owner)),
        after_saying(lambda tx: tx.api_keys.add(owner, 1, "taken", NOW)),
        after_saying(lambda _: 1 // 0),
        after_saying(lambda _: next(iter(()))),
        saying("last", conversation, owner),
    )
    errors = [type(error) for error in (refused, taken, bug, stop)]
    assert errors == [ConversationNotFound, InvalidInput, ZeroDivisionError, RuntimeError]
    assert {type(first), type(last)} == {int}
    assert await spoken(database, owner, conversation) == [("user", "first"), ("user", "last")]


def of_connection(tx: Transaction) -> Connection:
    """The connection of a unit of work that does what no repository does."""
    found = tx.messages._connection  # type: ignore[attr-defined]
    assert isinstance(found, Connection)
    return found


def break_the_commit(tx: Transaction) -> None:
    """Leave behind what is checked only by the commit, and fails."""
    connection = of_connection(tx)
    connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
    connection.exec_driver_sql("INSERT INTO conversations (user_id, title, created_at) VALUES (999, '', '')")


def fill_the_disk(tx: Transaction) -> None:
    """Need more pages than there are, which ends the transaction."""
    connection = of_connection(tx)
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    try:
        connection.exec_driver_sql("UPDATE users SET affiliation = hex(zeroblob(100000))")
    finally:
        connection.exec_driver_sql("PRAGMA max_page_count=4294967294")


def lose_the_transaction(tx: Transaction) -> None:
    """End the transaction, as SQLite does after some errors."""
    of_connection(tx).exec_driver_sql("ROLLBACK")


@pytest.mark.parametrize("breaks", [break_the_commit, fill_the_disk, lose_the_transaction])
async def test_what_shared_a_transaction_that_failed_runs_again_alone(
    breaks: Callable[[Transaction], None], database: SqlDatabase
) -> None:
    owner = await someone(database)
    conversation = await conversation_of(database, owner)
    first, broken, last = await together(
        database, saying("first", conversation, owner), breaks, saying("last", conversation, owner)
    )
    assert {type(first), type(last)} == {int}
    assert isinstance(broken, Exception) or breaks is lose_the_transaction  # alone, it ends what nobody else shares
    assert isinstance(broken, Unavailable) == (breaks is fill_the_disk)
    assert sorted(await spoken(database, owner, conversation)) == [("user", "first"), ("user", "last")]
    await say(database, owner, conversation, "afterwards")


async def test_a_deletion_runs_alone(database: SqlDatabase, commits: list[Connection]) -> None:
    owner = await someone(database)
    kept, gone = await conversation_of(database, owner), await conversation_of(database, owner)
    commits.clear()
    async with writer_held(database):
        tasks = [
            asyncio.create_task(delete(database, owner, gone)),
            asyncio.create_task(say(database, owner, kept, "first")),
            asyncio.create_task(say(database, owner, kept, "last")),
        ]
    await asyncio.gather(*tasks)
    assert len(commits) == 3  # of what held the writer, of the two, and of the deletion
    assert [each.id for each in await database.read(lambda tx: tx.conversations.page(owner))] == [kept]
    assert await spoken(database, owner, kept) == [("user", "first"), ("user", "last")]


async def test_what_is_cancelled_before_it_begins_is_never_run(database: SqlDatabase) -> None:
    owner = await someone(database)
    conversation = await conversation_of(database, owner)
    async with writer_held(database):
        said = [asyncio.create_task(say(database, owner, conversation, str(number))) for number in range(3)]
        await asyncio.sleep(0)
        said[1].cancel()
    results = await asyncio.gather(*said, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [False, True, False]
    assert await spoken(database, owner, conversation) == [("user", "0"), ("user", "2")]


async def test_what_is_cancelled_while_it_runs_is_stored_and_disturbs_nobody(database: SqlDatabase) -> None:
    owner = await someone(database)
    conversation = await conversation_of(database, owner)
    begun, go_on = threading.Event(), threading.Event()

    def slow(tx: Transaction) -> None:
        saying("slow", conversation, owner)(tx)
        begun.set()
        go_on.wait()

    async with writer_held(database):
        tasks = [
            asyncio.create_task(database.write(slow)),
            asyncio.create_task(say(database, owner, conversation, "another")),
        ]
    await asyncio.to_thread(begun.wait)
    tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    go_on.set()
    await tasks[1]
    assert await spoken(database, owner, conversation) == [("user", "slow"), ("user", "another")]


async def test_event_loops_that_share_a_commit_are_all_told_and_a_closed_one_is_not_missed(
    database: SqlDatabase,
) -> None:
    owner = await someone(database)
    conversation = await conversation_of(database, owner)

    async def leave() -> None:
        asyncio.create_task(say(database, owner, conversation, "left")).add_done_callback(lambda _: None)
        await asyncio.sleep(0)

    async with writer_held(database):
        elsewhere = asyncio.to_thread(lambda: asyncio.run(say(database, owner, conversation, "elsewhere")))
        there = asyncio.create_task(elsewhere)
        await asyncio.to_thread(lambda: asyncio.run(leave()))
        here = asyncio.create_task(say(database, owner, conversation, "here"))
    await asyncio.gather(there, here)
    assert {content for _, content in await spoken(database, owner, conversation)} >= {"here", "elsewhere"}


# -- Two processes -----------------------------------------------------------------------------------------------------

WRITES = 400

WRITER = """
import asyncio, json, sys, time
from sqlalchemy import event
from baio_adapters.sql.database import SqlDatabase
from baio_domain.entities import Role
from tests.store_contract import NOW

async def write(url, owner, conversation, writes):
    database, turns, left = SqlDatabase(url), [], iter(range(writes))
    event.listen(database._writer.engine, "commit", lambda _: turns.append(time.monotonic()))

    async def go_on():
        for number in left:
            await database.write(lambda tx: tx.messages.add(conversation, Role.USER, "", NOW, owner=owner))

    await database.read(lambda tx: tx.users.get(owner))
    print(flush=True)
    sys.stdin.readline()
    await asyncio.gather(*(go_on() for _ in range(8)))
    database.close()
    print(json.dumps(turns))

asyncio.run(write(sys.argv[1], *map(int, sys.argv[2:])))
"""


def test_of_two_processes_that_write_all_the_time_none_is_refused_while_the_other_gets_many_turns(
    url: str, database: SqlDatabase
) -> None:
    owner = asyncio.run(someone(database))
    conversation = asyncio.run(conversation_of(database, owner))
    command = [sys.executable, "-c", WRITER, url, str(owner), str(conversation), str(WRITES)]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(2)
        ]
        for process in processes:
            assert process.stdout
            process.stdout.readline()
        for process in processes:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        turns = [json.loads(process.communicate()[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    order = [who for _, who in sorted((at, who) for who in (0, 1) for at in turns[who])]
    while order[-1] == order[-2]:  # the other one has ended
        order.pop()
    streaks = [len(list(streak)) for _, streak in itertools.groupby(order)]
    assert len(order) < 5 * len(streaks), streaks
    assert len(asyncio.run(spoken(database, owner, conversation))) == 2 * WRITES
