"""SQLite's write-ahead log: it holds deleted text until it is truncated."""

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import final

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

logger = logging.getLogger("baio.database")

DELAY_SECONDS = 0.2
"""From a deletion to the truncation, so that many deletions at once cost one."""

RETRY_SECONDS = (0.5, 10.0)
"""The first and the longest pause between attempts while somebody is reading or the database is not available."""

INTERVAL_SECONDS = 60.0
"""How often the log is truncated anyway: for what was overwritten, and for what an ended process has deleted."""

BUSY_SECONDS = 0.25
"""How long an attempt may keep writers waiting for running reads to end. New reads never wait."""

CLOSE_SECONDS = 2.0
"""How long a process that ends waits for its last truncation."""

VACUUM_BUSY_SECONDS = 5.0
"""How long a VACUUM waits for the write of another process."""


@final
class WriteAheadLog:
    """Truncates the log in a thread of its own, so that neither a deletion nor a read waits for it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._path = Path(f"{engine.url.database}-wal")
        self._due = False
        self._woken, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="baio-wal", daemon=True)
        self._thread.start()

    def truncate_soon(self) -> None:
        """Truncate the log shortly. Called after a deletion."""
        self._due = True
        self._woken.set()

    def vacuum(self) -> None:
        """Write the database anew, without its free space, which may hold remains of text that was deleted."""
        try:
            with self._connection(VACUUM_BUSY_SECONDS) as connection:
                connection.execute("VACUUM")
        except (sqlite3.Error, DBAPIError) as error:
            logger.warning("database not vacuumed", extra={"cause": str(error)})

    def close(self) -> None:
        """End the thread, after a last truncation if one is due."""
        self._closing.set()
        self._woken.set()
        self._thread.join()

    def _run(self) -> None:
        pause, (first, longest) = INTERVAL_SECONDS, RETRY_SECONDS
        while not self._closing.is_set():
            self._woken.wait(pause)
            if self._closing.wait(DELAY_SECONDS):
                break
            self._woken.clear()
            self._due = False
            if self._truncated():
                pause = INTERVAL_SECONDS
            else:
                self._due = True
                pause = first if pause == INTERVAL_SECONDS else min(2 * pause, longest)
        give_up_at = time.monotonic() + CLOSE_SECONDS
        while self._due and not self._truncated() and time.monotonic() < give_up_at:
            time.sleep(DELAY_SECONDS)

    def _truncated(self) -> bool:
        """Whether the log is empty now."""
        try:
            if not self._path.exists() or not self._path.stat().st_size:
                return True
            with self._connection(BUSY_SECONDS) as connection:
                # First what can take long, which keeps nobody waiting; then only what was written meanwhile is left.
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
