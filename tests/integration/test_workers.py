"""The contract of workers that share a database, for each kind of lock; and what only such a lock can do."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import make_url, text

from baio_adapters.memory import MemoryWorkers
from baio_adapters.sql.database import engine_for
from baio_adapters.sql.workers import FREE_SECONDS, PostgresqlWorkers, SqliteWorkers, workers_of
from baio_domain.ports import RollCall, Workers
from tests.integration.conftest import NewDatabase, on_postgresql, on_sqlite
from tests.integration.servers import until

pytest.register_assert_rewrite("tests.workers_contract")

from tests.workers_contract import Kill, New, WorkersContract, number_of  # noqa: E402 - not before its asserts can speak


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


class TestMemory(WorkersContract):
    @pytest.fixture
    def new(self) -> New:
        roll = dict[int, bool]()
        return lambda: MemoryWorkers(roll)

    @pytest.fixture
    def kill(self) -> Kill:
        return lambda worker: worker.leave()


@pytest.fixture
def shared_url(new_database: NewDatabase) -> str:
    return new_database()


@pytest.fixture
def new(shared_url: str) -> Iterator[New]:
    made: list[Workers] = []

    def make() -> Workers:
        made.append(workers_of(shared_url))
        return made[-1]

    yield make
    for worker in made:
        with contextlib.suppress(RuntimeError):  # it has left
            worker.leave()


def close(worker: Workers) -> None:
    """Close what holds the lock, as the system does for a process that dies."""
    if isinstance(worker, SqliteWorkers):
        assert worker._descriptor is not None
        os.close(worker._descriptor)
        worker._descriptor = None
    else:
        assert isinstance(worker, PostgresqlWorkers)
        assert worker._session is not None
        driver = worker._session.connection.driver_connection
        assert driver is not None
        driver.close()


@pytest.fixture
def kill() -> Kill:
    return close


class TestSql(WorkersContract):
    """On SQLite and on PostgreSQL."""


# -- What only one kind of lock can do ---------------------------------------------------------------------------------

LOCKED = """
import asyncio, sys
from baio_adapters.sql.workers import workers_of
worker = workers_of(sys.argv[1])
print(asyncio.run(worker.enroll()), flush=True)
sys.stdin.read()
"""


@on_sqlite
def test_a_lock_ends_with_its_process_and_not_with_one_that_it_has_started(new: New, shared_url: str) -> None:
    other, child = new(), LOCKED + "import subprocess; subprocess.run(['sleep', '60'])"
    command = [sys.executable, "-c", child, shared_url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        number = int(process.stdout.readline())
        assert asyncio.run(other.judge([number])).alive == {number}
        process.stdin.close()
        parent = psutil.Process(process.pid)
        until(lambda: any(each.name() == "sleep" for each in parent.children()))
        [orphan] = parent.children()
        process.kill()
        process.wait()
        assert asyncio.run(other.judge([number])).dead == {number}
        assert orphan.is_running()
        orphan.kill()


@on_sqlite
async def test_nothing_is_known_of_a_worker_whose_file_was_removed_and_it_takes_another_lock(
    new: New, shared_url: str
) -> None:
    careless, other = new(), new()
    before = await number_of(careless)
    await number_of(other)
    (folder_of(shared_url) / str(before)).unlink()
    assert await other.judge([before]) == RollCall()
    now = await number_of(careless)
    assert now != before
    assert (await other.judge([now])).alive == {now}


@on_sqlite
async def test_the_files_of_the_dead_are_removed_once_nobody_asks_for_them(
    new: New, kill: Kill, shared_url: str
) -> None:
    one, dead, left = new(), new(), new()
    numbers = [await number_of(worker) for worker in (one, dead, left)]
    kill(dead)
    left.leave()
    assert (await one.judge([numbers[1]])).dead == {numbers[1]}
    assert files_of(shared_url) == {numbers[0], numbers[1]}
    assert await one.judge([]) == RollCall()
    assert files_of(shared_url) == {numbers[0]}
    one.leave()
    assert files_of(shared_url) == set()


async def test_where_there_can_be_no_lock_there_is_no_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "baio.sqlite3-workers").write_text("no folder")
    worker = SqliteWorkers(tmp_path / "baio.sqlite3")
    assert [await worker.enroll() for _ in range(3)] == [None] * 3
    assert await worker.judge([1]) == RollCall()
    assert len(caplog.records) == 1  # and not one each time
    (tmp_path / "baio.sqlite3-workers").unlink()
    await number_of(worker)
    worker.leave()


@on_postgresql
async def test_a_worker_whose_connection_was_cut_is_not_dead_while_it_takes_another_lock(
    new: New, shared_url: str
) -> None:
    cut, other = new(), new()
    before, _ = await number_of(cut), await number_of(other)
    engine = engine_for(shared_url)
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        assert connection.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid_of(cut)}).scalar_one()
    engine.dispose()
    assert await other.judge([before]) == RollCall()  # free, and no sign of death yet
    now = await number_of(cut)
    assert now != before
    assert (await other.judge([now, before])).alive == {now}
    # Whoever has lost a connection does not judge others, who may have lost theirs.
    assert await cut.judge([await number_of(other)]) == RollCall()


@on_postgresql
async def test_a_lock_of_another_server_says_nothing(new: New) -> None:
    here, elsewhere = new(), new()
    number = await number_of(here)
    await number_of(elsewhere)
    assert isinstance(elsewhere, PostgresqlWorkers)
    elsewhere._server += 1
    for _ in range(3):
        assert await elsewhere.judge([number]) == RollCall()
        await asyncio.sleep(FREE_SECONDS / 2)


@on_postgresql
async def test_a_lock_in_another_database_of_the_server_says_nothing_about_this_one(
    new: New, new_database: NewDatabase
) -> None:
    here, there = new(), workers_of(new_database())
    number = await number_of(here)
    await number_of(there)
    assert number not in (await there.judge([number])).alive
    there.leave()


@on_postgresql
async def test_behind_a_pooler_that_shares_sessions_there_is_no_number(new: New) -> None:
    pooled = new()
    await number_of(pooled)
    assert isinstance(pooled, PostgresqlWorkers)
    pooled._process_id += 1  # the next statement has found another session
    assert [await pooled.enroll() for _ in range(3)] == [None] * 3


async def test_without_a_server_there_is_no_number() -> None:
    worker = workers_of("postgresql://baio@127.0.0.1:1/baio")
    assert await worker.enroll() is None
    assert await worker.judge([1]) == RollCall()
    worker.leave()


def pid_of(worker: Workers) -> int:
    assert isinstance(worker, PostgresqlWorkers)
    return worker._process_id


def folder_of(url: str) -> Path:
    return Path(f"{make_url(url).database}-workers")


def files_of(url: str) -> set[int]:
    return {int(file.name) for file in folder_of(url).iterdir()}
