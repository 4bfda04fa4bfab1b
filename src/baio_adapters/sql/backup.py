"""Backups of the SQLite database, their restoration, and the move of everything to PostgreSQL.

A backup is one SQLite file: any tool can read it. It is a snapshot, taken while servers write. Secrets are part of it
only on request; they stand in a table of their own.
"""

import contextlib
import itertools
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, Table, func, insert, select, text
from sqlalchemy.exc import SQLAlchemyError

from baio_adapters.sql import migrations
from baio_adapters.sql.database import engine_for
from baio_adapters.sql.tables import metadata

Progress = Callable[[str, int, int], None]
"""Told what is done at the moment, how much of it is done, and of how much: bytes or rows."""

SECRETS_TABLE = "backup_secrets"

PAGE_ROWS = 100
"""Rows of a table that are copied at once: the longest texts decide how much memory that takes."""

_POLL_SECONDS = 0.2


class BackupError(Exception):
    """It can't be done; the message is one line that says why and what to do."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restoration has done: where the database of before is now (if there was one), and the backup's secrets."""

    before: Path | None
    secrets: list[str]


def back_up(database: Path, file: Path, secrets: Sequence[str], progress: Progress) -> int:
    """Write a snapshot of the database to a new file of mode 0600, and return the file's size in bytes.

    Servers may write meanwhile, and wait for nothing. The file appears complete or not at all. ``secrets`` become part
    of it. Raises BackupError.
    """
    if not database.is_file():
        raise BackupError(f"there is no database {database}")
    if file.exists():
        raise BackupError(f"{file} exists: choose another name")
    with _one_line_errors(f"can't read {database}"), contextlib.closing(_connect(database, "ro")) as source:
        source.execute("PRAGMA schema_version")
    with _new_file_beside(file) as draft, _one_line_errors(f"can't write {file}"):
        with contextlib.closing(_connect(database, "ro")) as source, ThreadPoolExecutor(1) as thread:
            pages, size = (source.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
            copying = thread.submit(source.execute, "VACUUM INTO ?", (str(draft),))
            while not _done(copying.result):
                progress("writing", min(draft.stat().st_size, pages * size), pages * size)
        if secrets:
            with contextlib.closing(_connect(draft, "rw")) as copy:
                copy.execute(f"CREATE TABLE {SECRETS_TABLE} (place INTEGER PRIMARY KEY, secret TEXT NOT NULL)")
                copy.executemany(f"INSERT INTO {SECRETS_TABLE} VALUES (?, ?)", enumerate(secrets))  # noqa: S608
        progress("checking", 0, 1)
        _check(draft)
        _sync(draft)
        draft.replace(file)
        _sync(file.parent)
    progress("checking", 1, 1)
    return file.stat().st_size


def restore(file: Path, database: Path, progress: Progress) -> Restored:
    """Put a backup in the place of the database. All sessions end, and all API tokens.

    The schema becomes this version's. The database of before is kept beside the new one, under another name. A process
    that is killed meanwhile leaves one of the two databases, whole. Raises BackupError where a server runs on the
    database, the file is damaged or no backup, or a newer version has made it.
    """
    if not file.is_file():
        raise BackupError(f"there is no file {file}")
    _refuse_newer(file)
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _new_file_beside(database) as draft, _one_line_errors(f"can't restore {file}"):
        progress("checking", 0, 1)
        with contextlib.closing(_connect(file, "ro")) as source, contextlib.closing(_connect(draft, "rw")) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
        _check(draft)
        if database.exists():
            _refuse_used(database)
        secrets = _take_secrets(draft)
        migrations.upgrade(f"sqlite:///{draft}")
        with contextlib.closing(_connect(draft, "rw")) as copy:
            # Some may have ended since.
            for table in (
                "identity_sessions",
                "sessions",
                "sign_ins",
                "tickets",
                "api_tokens",
            ):
                copy.execute(f"DELETE FROM {table}")  # noqa: S608 - names of tables
            copy.execute("PRAGMA journal_mode=DELETE")
        progress("checking", 1, 1)
        before = _replace(database, draft)
    return Restored(before, secrets)


def copy_to(source_url: str, target_url: str, progress: Progress) -> dict[str, int]:
    """Copy everything of a database to an empty one, and return the number of rows of each table.

    Ids stay, and none is given again. The target gets this version's schema first. All rows are written in one
    transaction, then read again and compared. Raises BackupError where the target holds accounts, or differs after all.
    """
    source, target = engine_for(source_url, begin="BEGIN"), engine_for(target_url, foreign_keys=False)
    try:
        with _one_line_errors("can't copy"), source.connect() as reading:
            if problem := migrations.problem(reading):
                raise BackupError(problem)
            migrations.upgrade(target_url)
            with target.begin() as writing:
                rows = _copy_tables(reading, writing, progress)
    finally:
        source.dispose()
        target.dispose()
    return rows


# -- Backing up and restoring ------------------------------------------------------------------------------------------


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False, timeout=5
    )
    connection.execute("PRAGMA secure_delete=ON")
    return connection


@contextlib.contextmanager
def _new_file_beside(file: Path) -> Iterator[Path]:
    """An empty file in the folder of another, of mode 0600. It is removed in the end unless it was renamed."""
    try:
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    except OSError as error:
        raise BackupError(f"can't write to the folder {file.parent}: {(error.strerror or '').lower()}") from None
    os.close(handle)
    try:
        yield Path(name)
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            Path(f"{name}{suffix}").unlink(missing_ok=True)


@contextlib.contextmanager
def _one_line_errors(task: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackupError(f"{task}: {error.strerror or error}") from None
    except (sqlite3.Error, SQLAlchemyError) as error:
        cause = getattr(error, "orig", None) or error
        raise BackupError(f"{task}: {str(cause).strip().partition(chr(10))[0]}") from None


def _done(result: Callable[[float], object]) -> bool:
    try:
        result(_POLL_SECONDS)
    except NotYet:
        return False
    return True


def _check(file: Path) -> None:
    with contextlib.closing(_connect(file, "rw")) as connection:
        found = [row[0] for row in connection.execute("PRAGMA integrity_check(1)")]
        if found != ["ok"] or connection.execute("PRAGMA foreign_key_check").fetchone():
            raise BackupError("the database is damaged: restore an older backup")


def _refuse_newer(file: Path) -> None:
    try:
        with contextlib.closing(_connect(file, "ro")) as connection:
            version = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    except (sqlite3.Error, TypeError):
        raise BackupError(f"{file} is no backup of BAiO, or damaged") from None
    if version > migrations.head():
        raise BackupError(
            f"{file} has schema {version}, and this version of BAiO {migrations.head()}: install the newer version"
        )


def _take_secrets(file: Path) -> list[str]:
    with contextlib.closing(_connect(file, "rw")) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (SECRETS_TABLE,)).fetchone():
            return []
        found = [row[0] for row in connection.execute(f"SELECT secret FROM {SECRETS_TABLE} ORDER BY place")]  # noqa: S608
        connection.execute(f"DROP TABLE {SECRETS_TABLE}")
    return found


def _refuse_used(database: Path) -> None:
    """Raise BackupError if another process has the database open."""
    with contextlib.closing(_connect(database, "rw")) as connection:
        try:
            connection.execute("PRAGMA journal_mode=DELETE")  # only the one connection can leave the write-ahead log
        except sqlite3.OperationalError:
            raise BackupError("a server or a command is using the database: stop it first") from None
        except sqlite3.DatabaseError:
            pass  # it is damaged, which may be why a backup is restored


def _replace(database: Path, draft: Path) -> Path | None:
    """Put the draft in the place of the database, and return the name that the database of before has now."""
    before = None
    if database.exists() and database.stat().st_size:
        _refuse_used(database)
        before = database.with_name(f"{database.name}.before-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}")
        _link(database, before)
        for suffix in ("-wal", "-shm", "-journal"):  # of a damaged one; SQLite would apply them to the new one
            if (left := Path(f"{database}{suffix}")).exists():
                left.replace(f"{before}{suffix}")
    _sync(draft)
    draft.replace(database)
    _sync(database.parent)
    return before


def _link(file: Path, name: Path) -> None:
    """Give the file one more name, or make a copy where the file system has no hard links."""
    try:
        os.link(file, name)
    except OSError:
        shutil.copy2(file, name)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# -- Moving to PostgreSQL ----------------------------------------------------------------------------------------------


def _copy_tables(reading: Connection, writing: Connection, progress: Progress) -> dict[str, int]:
    tables = metadata.sorted_tables
    if writing.execute(select(func.count()).select_from(metadata.tables["users"])).scalar_one():
        raise BackupError("the target holds accounts already: name an empty database")
    for table in reversed(tables):
        writing.execute(table.delete())  # a catalogue that was loaded, say
    rows = {table.name: reading.execute(select(func.count()).select_from(table)).scalar_one() for table in tables}
    total, done = 2 * sum(rows.values()), 0
    for table in tables:
        for page in _pages(reading, table):
            writing.execute(insert(table), [dict(zip(table.columns.keys(), row, strict=True)) for row in page])
            progress("copying", done := done + len(page), total)
    for table in tables:
        for one, other in itertools.zip_longest(_pages(reading, table), _pages(writing, table)):
            if one != other:
                raise BackupError(f"the copy of the table {table.name} differs: nothing was written")
            progress("comparing", done := done + len(one), total)
    _keep_ids_used(reading, writing)
    return rows


def _pages(connection: Connection, table: Table) -> Iterator[Sequence[Row[Any]]]:
    rows = connection.execution_options(yield_per=PAGE_ROWS).execute(select(table).order_by(*table.primary_key))
    yield from rows.partitions()


def _keep_ids_used(reading: Connection, writing: Connection) -> None:
    """Go on counting ids where the source would: what was deleted has used ids, too."""
    for name, newest in reading.execute(text("SELECT name, seq FROM sqlite_sequence")).fetchall():
        if name in metadata.tables and newest:
            sequence = text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :newest)")
            writing.execute(sequence, {"name": name, "newest": newest})
