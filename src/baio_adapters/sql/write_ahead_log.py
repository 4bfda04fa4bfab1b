"""SQLite's write-ahead log and full-text index: they hold deleted text until they are truncated, and merged."""

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

RETRY_SECONDS = 2.0
"""The pause after a truncation that failed, because a long read was running or the database was not available."""

INTERVAL_SECONDS = 60.0
"""How often the log is truncated without a deletion: for text that was overwritten, and for other processes' deletions
that they could not truncate before they ended."""

BUSY_SECONDS = 0.1
"""How long a truncation may keep writers waiting while it waits for running reads. New reads never wait."""

MERGED_PAGES = 64
"""Pages of the full-text index that are merged in one transaction: some milliseconds, so that nobody waits for long."""

MERGE_BUSY_SECONDS = 1.0
"""How long a step of the merge waits for another write."""

REST = 10
"""After a merge, the next one begins no sooner than after so many times its duration."""

MERGE_PAUSE_SECONDS = 0.005
"""The pause between two steps of the merge, in which others write."""

LAST_MERGE_SECONDS = 2.0
"""How long a merge goes on when the database is closed. The next process finishes it."""

VACUUM_BUSY_SECONDS = 5.0
"""How long a VACUUM waits for the write of another process."""


_DELETIONS = "SELECT noted, purged FROM text_index_deletions"
_MERGE = "INSERT INTO text_index (text_index, rank) VALUES ('merge', ?)"
_PURGED = "UPDATE text_index_deletions SET purged = ? WHERE purged < ?"


@final
class WriteAheadLog:
    """Truncates the log in a thread of its own, so that neither a deletion nor a read waits for it.

    Before that, it merges the full-text index after a deletion: FTS5 keeps what was deleted until all of its segments
    have become one. Deletions are counted in the database, so that what one process leaves undone another one does.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._path = Path(f"{engine.url.database}-wal")
        self._due, self._closing = threading.Event(), threading.Event()
        self._rested_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="baio-wal", daemon=True)
        self._thread.start()

    def truncate_soon(self) -> None:
        """Merge the index and truncate the log shortly, or once no long read prevents it. Called after a deletion."""
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
            merged = self._merge()
            pause = INTERVAL_SECONDS if self._truncate() and merged else RETRY_SECONDS

    def _merge(self) -> bool:
        """Merge the index if anything was deleted. Returns whether it holds nothing now that was deleted before."""
        if time.monotonic() < self._rested_at and not self._closing.is_set():
            return False
        began, give_up_at = time.monotonic(), None
        try:
            with self._connection(MERGE_BUSY_SECONDS) as connection:
                noted, purged = connection.execute(_DELETIONS).fetchone()
                if noted == purged:
                    return True
                pages = -MERGED_PAGES  # the first step makes all segments part of one merge, later ones go on with it
                while _changes(connection, _MERGE, pages) > 1:
                    pages = MERGED_PAGES
                    if self._closing.is_set():
                        give_up_at = give_up_at or time.monotonic() + LAST_MERGE_SECONDS
                        if time.monotonic() > give_up_at:
                            return False
                    time.sleep(MERGE_PAUSE_SECONDS)
                connection.execute(_PURGED, (noted, noted))
        except (sqlite3.Error, DBAPIError):
            return False  # another process writes, or requests say what is wrong with the database
        self._rested_at = time.monotonic() + REST * (time.monotonic() - began)
        return True

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


def _changes(connection: sqlite3.Connection, statement: str, value: int) -> int:
    """Execute the statement, and return how many rows it has changed, in tables of FTS5 too."""
    before = connection.total_changes
    connection.execute(statement, (value,))
    return connection.total_changes - before
