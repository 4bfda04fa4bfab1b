"""One database for all workers: transactions as plain functions, run in worker threads."""

import asyncio
import random
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar, final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import NullPool, QueuePool

from baio_adapters.sql import migrations
from baio_adapters.sql.repositories import RACES, SqlTransaction, constraint_name, refusal
from baio_adapters.sql.tables import metadata, models, providers
from baio_domain.errors import Unavailable
from baio_domain.ports import Database, Transaction

T = TypeVar("T")

READERS = 4
"""Threads that read SQLite at once; more only wait for the interpreter lock."""

CONNECTIONS = 8
"""Threads, and connections, per process for PostgreSQL."""

BUSY_SECONDS = 5
"""How long a write waits for another process's write on SQLite."""

QUEUE_SECONDS = 5
"""How long a unit of work waits for a free thread: while the database is locked, nobody waits for everybody else."""

ATTEMPTS = 50
"""How often a unit of work is run when another one was in its way."""

_IN_THE_WAY = {"40001", "40P01"}  # serialization_failure, deadlock_detected


def engine_for(url: str | URL, *, begin: str = "BEGIN IMMEDIATE", foreign_keys: bool = True, pool: int = 0) -> Engine:
    """An engine for SQLite or PostgreSQL. On SQLite transactions begin with ``begin``; ``pool`` 0 keeps no connection.

    SQLite: write-ahead log, so that readers and the writer don't wait for each other; every commit is on disk before
    it is answered (``synchronous=FULL``): a power cut loses no answer that was shown as stored.
    """
    url = make_url(url)
    # Parameters hold questions, answers and keys: no error's text shows them.
    options: dict[str, object] = {"poolclass": NullPool, "hide_parameters": True}
    if pool:
        options |= {"poolclass": QueuePool, "pool_size": pool, "max_overflow": 0, "pool_timeout": 10}
    if url.get_backend_name() != "sqlite":
        return create_engine(
            url.set(drivername="postgresql+psycopg"),
            # A connection that the server has dropped is noticed before it is used, not by the user's request.
            pool_pre_ping=True,
            isolation_level="REPEATABLE READ",
            connect_args={
                "connect_timeout": 5,
                # A migration, which has no pool, may wait and work for as long as it takes.
                "options": "-c timezone=UTC" + (" -c lock_timeout=5s -c statement_timeout=10s" if pool else ""),
                "application_name": "baio",
            },
            **options,
        )
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": BUSY_SECONDS}, **options)

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself; the listener below does
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
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
        self._url = url
        if make_url(url).get_backend_name() == "sqlite":
            self._writer, self._write_threads = engine_for(url, pool=1), ThreadPoolExecutor(1, "baio-write")
            self._reader, self._read_threads = (
                engine_for(url, begin="BEGIN", pool=READERS),
                ThreadPoolExecutor(READERS, "baio-read"),
            )
        else:
            self._writer = engine_for(url, pool=CONNECTIONS)
            self._reader = self._writer.execution_options(postgresql_readonly=True)
            self._read_threads = self._write_threads = ThreadPoolExecutor(CONNECTIONS, "baio-database")

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` in a thread, on one snapshot."""
        return await _in_thread(self._read_threads, partial(_run, self._reader, work))

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` in a thread and commit."""
        return await _in_thread(self._write_threads, partial(_run, self._writer, work))

    async def check(self) -> None:
        """Compare the schema with the newest migration."""
        problem = await asyncio.get_running_loop().run_in_executor(self._read_threads, self._problem)
        if problem is not None:
            raise Unavailable(problem)

    def clear(self) -> int:
        """Delete every row but the catalogue's, now, and return how many. Ids are not used again."""
        with self._writer.begin() as connection:
            return sum(
                connection.execute(table.delete()).rowcount
                for table in reversed(metadata.sorted_tables)
                if table not in (providers, models)
            )

    def close(self) -> None:
        """Wait for what runs, then close every connection."""
        for threads in (self._read_threads, self._write_threads):
            threads.shutdown()
        for engine in (self._reader, self._writer):
            engine.dispose()

    def _problem(self) -> str | None:
        try:
            with self._reader.connect() as connection:
                return migrations.problem(connection)
        except (DBAPIError, PoolTimeoutError):
            return "The database can't be reached."


async def _in_thread(threads: ThreadPoolExecutor, run: Callable[[], T]) -> T:
    """Run in a thread, or raise Unavailable when none has become free in time.

    Only what has not begun is given up: what has begun may still commit.
    """
    queued = threads.submit(run)
    timer = asyncio.get_running_loop().call_later(QUEUE_SECONDS, queued.cancel)
    try:
        return await asyncio.wrap_future(queued)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if queued.cancelled() and (task is None or not task.cancelling()):
            raise Unavailable("The database is not available at the moment.", retry_after=5) from None
        raise
    finally:
        timer.cancel()


def _run(engine: Engine, work: Callable[[Transaction], T]) -> T:
    """Run a unit of work in a transaction, and again when another one was in its way."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with engine.begin() as connection:
                return work(SqlTransaction(connection))
        except IntegrityError as error:
            refused = refusal(error)
            # Even where it has a name of its own: a request repeated under an idempotency key finds what it led to.
            if constraint_name(error) not in RACES and (refused is None or attempt > 1):
                raise refused or error from None
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) not in _IN_THE_WAY:
                raise Unavailable("The database is not available at the moment.", retry_after=5) from error
        except (DBAPIError, PoolTimeoutError) as error:
            if isinstance(error, DBAPIError) and not error.connection_invalidated:
                raise
            raise Unavailable("The database is not available at the moment.", retry_after=5) from error
        time.sleep(random.uniform(0, 0.005 * attempt))  # noqa: S311 - not for secrets
    raise Unavailable("Too much is happening at once.", retry_after=1)
