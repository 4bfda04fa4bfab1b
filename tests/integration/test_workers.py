"""The contract of workers that share a database, for each kind of lock; and what only such a lock can do."""

import os
from collections.abc import Iterator

import pytest

from baio_adapters.memory import MemoryWorkers
from baio_adapters.sql.workers import PostgresqlWorkers, SqliteWorkers, workers_of
from baio_domain.ports import Workers
from tests.integration.conftest import NewDatabase

pytest.register_assert_rewrite("tests.workers_contract")

from tests.workers_contract import (  # noqa: E402 - not before its asserts can speak
    Kill,
    New,
    WorkersContract,
)


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


@pytest.fixture(scope="module")
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
        worker._thread.submit(worker._release)  # type: ignore[attr-defined]
        worker._thread.shutdown()  # type: ignore[attr-defined]


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


class TestSql(WorkersContract):
    @pytest.fixture
    def kill(self) -> Kill:
        return close
