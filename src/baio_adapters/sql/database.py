"""One database for all workers: transactions as plain functions, run in worker threads."""

import asyncio
import random
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.pool import NullPool

from baio_adapters.sql import migrations
from baio_adapters.sql.repositories import SqlTransaction
from baio_adapters.sql.repositories.constraints import RACES, constraint_name, refusal
from baio_adapters.sql.tables import metadata, models, providers
from baio_domain.errors import Unavailable
from baio_domain.ports import Database, Transaction

T = TypeVar("T")

READERS = 4
"""Threads that read at once, each with its connection; more only wait for the interpreter lock."""

WRITERS = 4
"""Threads that write PostgreSQL at once."""

BUSY_SECONDS = 5
"""How long a write waits for another process's write on SQLite."""

QUEUE_SECONDS = 5
"""How long a unit of work waits for a free thread: while the database is locked, nobody waits for everybody else."""

ATTEMPTS = 50
"""How often a unit of work is run when another one was in its way."""

_IN_THE_WAY = {"40001", "40P01"}  # serialization_failure, deadlock_detected


def engine_for(
    url: str | URL, *, begin: str = "BEGIN IMMEDIATE", foreign_keys: bool = True, options: str = ""
) -> Engine:
    """An engine for SQLite or PostgreSQL that keeps no connection: whoever connects holds on to it, or doesn't.

    SQLite: transactions begin with ``begin``; write-ahead log, so that readers and the writer don't wait for each
    other; every commit is on disk before it is answered (``synchronous=FULL``): a power cut loses no answer that was
    shown as stored. PostgreSQL: ``options`` are libpq's.
    """
    url = make_url(url)
    if url.get_backend_name() != "sqlite":
        return create_engine(
            url.set(drivername="postgresql+psycopg"),
            poolclass=NullPool,
            hide_parameters=True,  # they hold questions, answers and keys: no error's text shows them
            isolation_level="REPEATABLE READ",
            connect_args={
                "connect_timeout": 5,
                "options": f"-c timezone=UTC {options}",
                "application_name": "baio",
            },
        )
    engine = create_engine(
        url,
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"check_same_thread": False, "timeout": BUSY_SECONDS},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself; the listener below does
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA cache_size=-512")
        connection.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


@final
class SqlDatabase(Database):
    """SQLite or PostgreSQL, by URL.

    SQLite is written by one thread: several would only wait for each other, at random and for long. PostgreSQL runs
    units of work at repeatable read, and again when they were in each other's way.
    """

    def __init__(self, url: str) -> None:
        if make_url(url).get_backend_name() == "sqlite":
            self._writer = ThreadLane(engine_for(url), 1, "baio-write")
            self._reader = ThreadLane(engine_for(url, begin="BEGIN"), READERS, "baio-read")
        else:
            # A migration may wait and work for as long as it takes; a unit of work may not.
            engine = engine_for(url, options="-c lock_timeout=5s -c statement_timeout=10s")
            self._writer = ThreadLane(engine, WRITERS, "baio-write")
            self._reader = ThreadLane(engine.execution_options(postgresql_readonly=True), READERS, "baio-read")

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` in a thread, on one snapshot."""
        return await self._reader.run(lambda connection: work(SqlTransaction(connection)))

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` in a thread and commit."""
        return await self._writer.run(lambda connection: work(SqlTransaction(connection)))

    async def delete_all_data(self) -> int:
        """Delete table by table, those that refer to others first, so that every row is counted."""

        def work(connection: Connection) -> int:
            tables = [table for table in reversed(metadata.sorted_tables) if table not in (providers, models)]
            return sum(connection.execute(table.delete()).rowcount for table in tables)

        return await self._writer.run(work)

    async def check(self) -> None:
        """Compare the schema with the newest migration."""
        try:
            problem = await self._reader.run(migrations.problem)
        except Unavailable:
            problem = "The database can't be reached."
        if problem is not None:
            raise Unavailable(problem)

    def close(self) -> None:
        """Wait for what runs, then close every connection."""
        self._reader.close()
        self._writer.close()


@final
class ThreadLane:
    """Some threads that run units of work, and a connection for each that stays open from one to the next."""

    def __init__(self, engine: Engine, threads: int, name: str) -> None:
        self.engine = engine
        self._threads = ThreadPoolExecutor(threads, name)
        self._idle: list[Connection] = []  # a pool proper, with its checks and resets, costs as much as a small read

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a transaction in a thread; Unavailable when no thread has become free in time.

        Only what has not begun is given up: what has begun may still commit.
        """
        queued = self._threads.submit(self._run, work)
        timer = asyncio.get_running_loop().call_later(QUEUE_SECONDS, queued.cancel)
        try:
            return await asyncio.wrap_future(queued)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if queued.cancelled() and (task is None or not task.cancelling()):
                raise _unavailable() from None
            raise
        finally:
            timer.cancel()

    def close(self) -> None:
        """Wait for what runs, then close every connection."""
        self._threads.shutdown()
        self._forget_connections()

    def _run(self, work: Callable[[Connection], T]) -> T:
        """Run a unit of work in a transaction, and again when another one, or a dropped connection, was in its way."""
        for attempt in range(1, ATTEMPTS + 1):
            connection, done = None, False
            try:
                connection = self._connection()
                with connection.begin():
                    result = work(connection)
                    done = True
            except IntegrityError as error:
                refused = refusal(error)
                # Even where it has a name of its own: a request repeated under an idempotency key finds what it led to.
                if constraint_name(error) not in RACES and (refused is None or attempt > 1):
                    raise refused or error from None
            except DBAPIError as error:
                if error.connection_invalidated:
                    self._forget_connections()
                    # A server that was restarted has dropped every connection, and is back. What was sent to be
                    # committed may have been, and is not sent again.
                    if done or attempt > 1:
                        raise _unavailable() from error
                elif not isinstance(error, OperationalError):
                    raise
                elif getattr(error.orig, "sqlstate", None) not in _IN_THE_WAY:
                    raise _unavailable() from error
            else:
                return result
            finally:
                self._give_back(connection)
            time.sleep(random.uniform(0, 0.005 * attempt))  # noqa: S311 - not for secrets
        raise Unavailable("Too much is happening at once.", retry_after=1)

    def _connection(self) -> Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self.engine.connect()

    def _give_back(self, connection: Connection | None) -> None:
        if connection is None:
            return
        if connection.invalidated or connection.in_transaction():
            connection.close()
        else:
            self._idle.append(connection)

    def _forget_connections(self) -> None:
        while self._idle:
            self._idle.pop().close()


def _unavailable() -> Unavailable:
    return Unavailable("The database is not available at the moment.", retry_after=5)
