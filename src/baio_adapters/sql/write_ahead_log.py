"""SQLite's write-ahead log: it holds deleted text until it is truncated."""

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import final

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

logger = logging.getLogger("baio.database")

DELAY_SECONDS = 0.2
"""From a deletion to the truncation, so that many deletions at once cost one."""

RETRY_SECONDS = 2.0
"""The pause after a truncation that failed, because a long read was running or the database was not available."""

INTERVAL_SECONDS = 60.0
"""How often the log is truncated without a deletion: for text that was overwritten, and for other processes' deletions
that they could not truncate before they ended."""

BUSY_SECONDS = 0.1
"""How long a truncation may keep writers waiting while it waits for running reads. New reads never wait."""

VACUUM_BUSY_SECONDS = 5.0
"""How long a VACUUM waits for the write of another process."""


@final
class WriteAheadLog:
    """Truncates the log in a thread of its own, so that neither a deletion nor a read waits for it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._path = Path(f"{engine.url.database}-wal")
        self._due, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="baio-wal", daemon=True)
        self._thread.start()

    def truncate_soon(self) -> None:
        """Truncate the log shortly, or as soon as no long read prevents it. Called after a deletion."""
        self._due.set()

    def vacuum(self) -> None:
        """Write the database anew, without its free space, where copies of deleted text may remain."""
        try:
            with self._connection(VACUUM_BUSY_SECONDS) as connection:
                connection.execute("VACUUM")
        except (sqlite3.Error, DBAPIError) as error:
            logger.warning("database not vacuumed", extra={"cause": str(error)})

    def close(self) -> None:
        """Truncate a last time, and end the thread."""
        self._closing.set()
        self._due.set()
        self._thread.join()

    def _run(self) -> None:
        pause = INTERVAL_SECONDS
        while not self._closing.is_set():
            self._due.wait(pause)
            self._closing.wait(DELAY_SECONDS)
            self._due.clear()
            pause = INTERVAL_SECONDS if self._truncate() else RETRY_SECONDS

    def _truncate(self) -> bool:
        """Truncate the log. Returns whether it is empty now."""
        try:
            if not self._path.exists() or not self._path.stat().st_size:
                return True
            with self._connection(BUSY_SECONDS) as connection:
                # PASSIVE copies most of the log and keeps nobody waiting; TRUNCATE has only the rest to copy.
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                busy: int = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except (OSError, sqlite3.Error, DBAPIError):
            return False  # requests say what is wrong with the database
        return not busy

    @contextlib.contextmanager
    def _connection(self, busy_seconds: float) -> Iterator[sqlite3.Connection]:
        raw = self._engine.raw_connection()
        try:
            connection = raw.driver_connection
            assert isinstance(connection, sqlite3.Connection)  # noqa: S101 - tells the type checker
            connection.execute(f"PRAGMA busy_timeout={int(busy_seconds * 1000)}")
            yield connection
        finally:
            raw.close()
