"""What is wrong with a database that can't be used, in words."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, OperationalError

from baio_domain.errors import Unavailable

DAMAGED = "The database is damaged."
READ_ONLY = "The database is read-only."
DISK = "The disk of the database is full or fails."
NOT_OPENED = "The files of the database can't be opened."
UNREACHABLE = "The database can't be reached, or is busy for too long."

_BY_RESULT_CODE = {
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_FULL: DISK,
    sqlite3.SQLITE_IOERR: DISK,
    sqlite3.SQLITE_CANTOPEN: NOT_OPENED,
    sqlite3.SQLITE_PERM: NOT_OPENED,
}
"""By SQLite's primary result code: https://www.sqlite.org/rescode.html."""

_BY_SQLSTATE = {
    "XX001": DAMAGED,  # data_corrupted
    "XX002": DAMAGED,  # index_corrupted
    "25006": READ_ONLY,  # read_only_sql_transaction
    "53100": DISK,  # disk_full
    "58030": DISK,  # io_error
}


def unavailable(error: DBAPIError) -> Unavailable | None:
    """What is wrong with the database, or None if the statement is: that is a bug."""
    if isinstance(error.orig, sqlite3.Error):
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF  # errors of the sqlite3 module itself have none
        detail = _BY_RESULT_CODE.get(code)
    else:
        detail = _BY_SQLSTATE.get(getattr(error.orig, "sqlstate", None) or "")
    if detail is None and not isinstance(error, OperationalError):
        return None
    return Unavailable(detail or UNREACHABLE, retry_after=5)


@contextmanager
def reported() -> Iterator[None]:
    """Inside, Unavailable is raised when the database can't be used."""
    try:
        yield
    except DBAPIError as error:
        trouble = unavailable(error)
        if trouble is None:
            raise
        raise trouble from error


def servers_words(error: BaseException) -> str:
    """What PostgreSQL or libpq said of a connection that failed, in one line for the administrator; "" if nothing.

    It names the address, the user or the parameter, and no password.
    """
    cause = error.__cause__
    if not isinstance(cause, OperationalError) or isinstance(cause.orig, sqlite3.Error):
        return ""
    return " ".join(str(cause.orig).split())
