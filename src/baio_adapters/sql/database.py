"""The SQL database: transactions are plain functions, and run in worker threads."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import MappingProxyType
from typing import TypeVar, final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.pool import NullPool

from baio_adapters.sql import migrations
from baio_adapters.sql.poolers import configure, marked
from baio_adapters.sql.repositories import SqlTransaction
from baio_adapters.sql.repositories.indexed_texts import delete_all_texts
from baio_adapters.sql.repositories.repository import DELETED, begin_deletion
from baio_adapters.sql.shared_commits import BUSY_SECONDS, SharedCommitExecutor
from baio_adapters.sql.tables import metadata, models, providers
from baio_adapters.sql.transactions import ParallelExecutor, TransactionExecutor
from baio_adapters.sql.trouble import DAMAGED
from baio_adapters.sql.write_ahead_log import WriteAheadLog
from baio_domain.errors import Unavailable
from baio_domain.ports import NO_METRICS, Database, Metrics, Transaction

T = TypeVar("T")

READERS = 4
"""Threads that read, each with its own connection. More would only wait for the interpreter lock."""

WRITERS = 4
"""Threads that write on PostgreSQL, each with its own connection."""

CONNECTING = {"connect_timeout": "5", "application_name": "baio"}
"""Parameters of libpq, where the URL has no others."""

SESSION = {
    "timezone": "UTC",
    "datestyle": "ISO",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
"""Settings of PostgreSQL's sessions. Those of the role and the server are for others: a migration takes long, say."""

UNIT_OF_WORK = {
    "lock_timeout": "5s",
    "statement_timeout": "10s",
    "idle_in_transaction_session_timeout": "30s",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
}
"""Unlike a migration, a unit of work may not take as long as it likes. One that does nothing is a frozen process's, or
its machine is gone: others wait for the rows that it has locked. To start helpers for one of its short statements, or
to compile it, takes PostgreSQL longer than to run it.
"""

WRITE_CHECK_SECONDS = 1.0
"""How long after a write ``check_writable`` makes none of its own."""


def engine_for(
    url: str | URL,
    *,
    begin: str | None = "BEGIN IMMEDIATE",
    foreign_keys: bool = True,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Engine:
    """An engine for SQLite or PostgreSQL without a connection pool.

    On SQLite, transactions begin with ``begin``, or by a listener of the caller's. The write-ahead log keeps readers
    and the writer from waiting for each other. Every commit is on disk before ``write`` returns (``synchronous=FULL``),
    so that a power cut loses nothing that was reported as stored. On PostgreSQL, ``options`` are libpq's.
    """
    url = make_url(url)
    if url.get_backend_name() != "sqlite":
        engine = create_engine(
            url.set(drivername="postgresql+psycopg").difference_update_query(["options"]),
            poolclass=NullPool,
            hide_parameters=True,  # they hold questions, answers and keys, which no error message may show
            isolation_level="REPEATABLE READ",
            connect_args={
                **{name: value for name, value in CONNECTING.items() if name not in url.query},
                "client_encoding": "UTF8",
                "options": marked(" ".join(url.normalized_query.get("options", ()))),
            },
        )
        configure(engine, {**SESSION, **settings})
        return engine
    engine = create_engine(
        url,
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"check_same_thread": False, "timeout": BUSY_SECONDS},
    )

    @event.listens_for(engine, "connect")
    def connect(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # no implicit BEGIN: the listener below sends it
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten, whatever SQLite's default
        connection.execute("PRAGMA cache_size=-512")
        connection.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")

    if begin is not None:
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))

    return engine


@final
class SqlDatabase(Database):
    """SQLite or PostgreSQL, by URL.

    SQLite is written by one thread, which commits together what waits: several would wait for each other, at random and
    for long. PostgreSQL runs units of work at the isolation level REPEATABLE READ, and again after a conflict.
    """

    def __init__(self, url: str, metrics: Metrics = NO_METRICS) -> None:
        self._metrics = metrics
        self._log: WriteAheadLog | None = None
        self._written_at = -WRITE_CHECK_SECONDS
        if make_url(url).get_backend_name() == "sqlite":
            self._log = WriteAheadLog(engine_for(url))
            self._writer: TransactionExecutor = SharedCommitExecutor(engine_for(url, begin=None))
            self._reader = ParallelExecutor(engine_for(url, begin="BEGIN"), READERS, "baio-read")
        else:
            engine = engine_for(url, settings=UNIT_OF_WORK)
            self._writer = ParallelExecutor(engine, WRITERS, "baio-write")
            self._reader = ParallelExecutor(engine.execution_options(postgresql_readonly=True), READERS, "baio-read")

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` in a thread, on one snapshot."""
        began_at = time.perf_counter()
        result = await self._reader.run(lambda connection: work(SqlTransaction(connection)))
        self._metrics.transaction_ended("read", time.perf_counter() - began_at)
        return result

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` in a thread and commit."""

        def run(connection: Connection) -> tuple[T, bool]:
            return work(SqlTransaction(connection)), connection.info.pop(DELETED, False)

        began_at = time.perf_counter()
        result, deleted = await self._writer.run(run)
        self._metrics.transaction_ended("write", time.perf_counter() - began_at)
        self._written_at = time.monotonic()
        if deleted and self._log:
            self._log.truncate_soon()
        return result

    async def delete_all_data(self) -> int:
        """Delete table by table, referring tables first, so that no row is deleted by a cascade and not counted."""

        def work(connection: Connection) -> int:
            begin_deletion(connection)
            delete_all_texts(connection)  # first, and uncounted: the messages have them
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


def _is_damaged(connection: Connection) -> bool:
    """Whether SQLite finds damage anywhere in the file."""
    return connection.exec_driver_sql("PRAGMA quick_check(1)").scalar() != "ok"


def _write_something(connection: Connection) -> None:
    connection.execute(text("UPDATE alembic_version SET version_num = version_num"))
