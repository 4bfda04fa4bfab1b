"""The SQL database: transactions are plain functions, and run in worker threads."""

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
from baio_adapters.sql.repositories.repository import DELETED
from baio_adapters.sql.tables import metadata, models, providers
from baio_adapters.sql.write_ahead_log import WriteAheadLog
from baio_domain.errors import Unavailable
from baio_domain.ports import Database, Transaction

T = TypeVar("T")

READERS = 4
"""Threads that read, each with its own connection. More would only wait for the interpreter lock."""

WRITERS = 4
"""Threads that write on PostgreSQL, each with its own connection."""

BUSY_SECONDS = 5
"""How long a write on SQLite waits for the write of another process."""

QUEUE_SECONDS = 5
"""How long a unit of work waits for a free thread, so that the queue stays short while the database is locked."""

ATTEMPTS = 50
"""How often a unit of work is run at most, when it conflicts with others."""

_CONFLICTS = {"40001", "40P01"}  # serialization_failure, deadlock_detected


def engine_for(
    url: str | URL, *, begin: str = "BEGIN IMMEDIATE", foreign_keys: bool = True, options: str = ""
) -> Engine:
    """An engine for SQLite or PostgreSQL without a connection pool.

    On SQLite, transactions begin with ``begin``. The write-ahead log keeps readers and the writer from waiting for each
    other. Every commit is on disk before ``write`` returns (``synchronous=FULL``), so that a power cut loses nothing
    that was reported as stored. On PostgreSQL, ``options`` are libpq's.
    """
    url = make_url(url)
    if url.get_backend_name() != "sqlite":
        return create_engine(
            url.set(drivername="postgresql+psycopg"),
            poolclass=NullPool,
            hide_parameters=True,  # they hold questions, answers and keys, which no error message may show
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
        connection.isolation_level = None  # no implicit BEGIN: the listener below sends it
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten, whatever SQLite's default
        connection.execute("PRAGMA cache_size=-512")
        connection.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


@final
class SqlDatabase(Database):
    """SQLite or PostgreSQL, by URL.

    SQLite is written by one thread: several would wait for each other, at random and for long. PostgreSQL runs units of
    work at the isolation level REPEATABLE READ, and again after a conflict.
    """

    def __init__(self, url: str) -> None:
        self._log: WriteAheadLog | None = None
        if make_url(url).get_backend_name() == "sqlite":
            self._log = WriteAheadLog(engine_for(url))
            self._writer = TransactionExecutor(engine_for(url), 1, "baio-write")
            self._reader = TransactionExecutor(engine_for(url, begin="BEGIN"), READERS, "baio-read")
        else:
            # Unlike a migration, a unit of work may not take as long as it likes.
            engine = engine_for(url, options="-c lock_timeout=5s -c statement_timeout=10s")
            self._writer = TransactionExecutor(engine, WRITERS, "baio-write")
            self._reader = TransactionExecutor(engine.execution_options(postgresql_readonly=True), READERS, "baio-read")

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` in a thread, on one snapshot."""
        return await self._reader.run(lambda connection: work(SqlTransaction(connection)))

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` in a thread and commit."""

        def run(connection: Connection) -> tuple[T, bool]:
            return work(SqlTransaction(connection)), connection.info.pop(DELETED, False)

        result, deleted = await self._writer.run(run)
        if deleted and self._log:
            self._log.truncate_soon()
        return result

    async def delete_all_data(self) -> int:
        """Delete table by table, referring tables first, so that no row is deleted by a cascade and not counted."""

        def work(connection: Connection) -> int:
            tables = [table for table in reversed(metadata.sorted_tables) if table not in (providers, models)]
            return sum(connection.execute(table.delete()).rowcount for table in tables)

        rows = await self._writer.run(work)
        if self._log:
            await asyncio.to_thread(self._log.vacuum)
            self._log.truncate_soon()
        return rows

    async def check(self) -> None:
        """Compare the schema with the newest migration."""
        try:
            problem = await self._reader.run(migrations.problem)
        except Unavailable:
            problem = "The database can't be reached."
        if problem is not None:
            raise Unavailable(problem)

    def close(self) -> None:
        """Wait for running transactions, then close every connection."""
        self._reader.close()
        self._writer.close()
        if self._log:
            self._log.close()


@final
class TransactionExecutor:
    """A pool of threads that run units of work. Connections stay open from one to the next."""

    def __init__(self, engine: Engine, threads: int, name: str) -> None:
        self.engine = engine
        self._threads = ThreadPoolExecutor(threads, name)
        self._idle: list[Connection] = []  # SQLAlchemy's pool checks and resets: that costs as much as a small read

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a transaction in a thread. Raises Unavailable if no thread becomes free in time.

        Only work that has not begun is given up, because work that has begun may still commit.
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
        """Wait for running transactions, then close every connection."""
        self._threads.shutdown()
        self._close_idle()

    def _run(self, work: Callable[[Connection], T]) -> T:
        """Run a unit of work in a transaction, and again after a conflict or a dropped connection."""
        for attempt in range(1, ATTEMPTS + 1):
            connection, committing = None, False
            try:
                connection = self._acquire()
                with connection.begin():
                    result = work(connection)
                    committing = True
            except IntegrityError as error:
                refused = refusal(error)
                # Even a refusal is tried once more: a request repeated with its idempotency key then finds its result.
                if constraint_name(error) not in RACES and (refused is None or attempt > 1):
                    raise refused or error from None
            except DBAPIError as error:
                if error.connection_invalidated:
                    self._close_idle()
                    # A restarted server has dropped every connection. If COMMIT was sent, it may have succeeded, so
                    # the work is not run again.
                    if committing or attempt > 1:
                        raise _unavailable() from error
                elif not isinstance(error, OperationalError):
                    raise
                elif getattr(error.orig, "sqlstate", None) not in _CONFLICTS:
                    raise _unavailable() from error
            else:
                return result
            finally:
                self._release(connection)
            time.sleep(random.uniform(0, 0.005 * attempt))  # noqa: S311 - not for secrets
        raise Unavailable("Too much is happening at once.", retry_after=1)

    def _acquire(self) -> Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self.engine.connect()

    def _release(self, connection: Connection | None) -> None:
        if connection is None:
            return
        if connection.invalidated or connection.in_transaction():
            connection.close()
        else:
            self._idle.append(connection)

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()


def _unavailable() -> Unavailable:
    return Unavailable("The database is not available at the moment.", retry_after=5)
