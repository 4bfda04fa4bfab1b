"""The SQL database: transactions are plain functions, and run in worker threads."""

import asyncio
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import TypeVar, final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import NullPool

from baio_adapters.sql import migrations
from baio_adapters.sql.repositories import SqlTransaction
from baio_adapters.sql.repositories.constraints import RACES, constraint_name, refusal
from baio_adapters.sql.repositories.repository import DELETED
from baio_adapters.sql.tables import metadata, models, providers
from baio_adapters.sql.trouble import DAMAGED, UNREACHABLE, unavailable
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

WRITE_CHECK_SECONDS = 1.0
"""How long after a write ``check_writable`` makes none of its own."""

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
        self._written_at = -WRITE_CHECK_SECONDS
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
        self._written_at = time.monotonic()
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
        """Compare the schema with the newest migration; on SQLite, look for damage if a request has met any."""
        with ExitStack() as stack:
            if self._log:
                # A connection that is open reads from its cache what the file may no longer have.
                stack.enter_context(self._reader.reconnected())
                stack.enter_context(self._writer.reconnected())
            problem = await self._reader.run(migrations.problem)
            if self._log and (self._reader.met_damage or self._writer.met_damage):
                if await self._reader.run(_is_damaged):
                    raise Unavailable(DAMAGED, retry_after=5)
                self._reader.met_damage = self._writer.met_damage = False
        if problem is not None:
            raise Unavailable(problem)

    async def check_writable(self) -> None:
        """Write the version of the schema again, unless something was written just now."""
        if time.monotonic() - self._written_at >= WRITE_CHECK_SECONDS:
            await self._writer.run(_write_something)
            self._written_at = time.monotonic()

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
        self.met_damage = False
        """Whether a unit of work has found the database damaged."""
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
                raise Unavailable(UNREACHABLE, retry_after=5) from None
            raise
        finally:
            timer.cancel()

    def close(self) -> None:
        """Wait for running transactions, then close every connection."""
        self._threads.shutdown()
        self._close_idle()

    @contextmanager
    def reconnected(self) -> Iterator[None]:
        """Inside, units of work run on new connections. Those that were idle before are closed afterwards.

        Not before, because SQLite removes the write-ahead log when the last connection is closed.
        """
        stale, self._idle = self._idle, []
        try:
            yield
        finally:
            for connection in stale:
                connection.close()

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
                # If COMMIT was sent on a dropped connection, it may have succeeded, so the work is not run again.
                self._raise_unless_transient(error, connection, reconnect=not committing and attempt == 1)
            else:
                return result
            finally:
                self._release(connection)
            time.sleep(random.uniform(0, 0.005 * attempt))  # noqa: S311 - not for secrets
        raise Unavailable("Too much is happening at once.", retry_after=1)

    def _raise_unless_transient(self, error: DBAPIError, connection: Connection | None, *, reconnect: bool) -> None:
        """Return if the work can be run again, after a conflict or on a new connection."""
        if getattr(error.orig, "sqlstate", None) in _CONFLICTS:
            return
        dropped = error.connection_invalidated
        trouble = Unavailable(UNREACHABLE, retry_after=5) if dropped else unavailable(error)
        if trouble is None:
            raise error
        # A restarted server has dropped every connection. Those that are open may stay read-only, or with a file that
        # was replaced, after the trouble has ended.
        self._close_idle()
        if connection is not None:
            connection.close()
        self.met_damage = self.met_damage or trouble.detail == DAMAGED
        if not (dropped and reconnect):
            raise trouble from error

    def _acquire(self) -> Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self.engine.connect()

    def _release(self, connection: Connection | None) -> None:
        if connection is None or connection.closed:
            return
        if connection.invalidated or connection.in_transaction():
            connection.close()
        else:
            self._idle.append(connection)

    def _close_idle(self) -> None:
        with suppress(IndexError):  # other threads take connections meanwhile
            while True:
                self._idle.pop().close()


def _is_damaged(connection: Connection) -> bool:
    """Whether SQLite finds damage anywhere in the file."""
    return connection.exec_driver_sql("PRAGMA quick_check(1)").scalar() != "ok"


def _write_something(connection: Connection) -> None:
    connection.execute(text("UPDATE alembic_version SET version_num = version_num"))
