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
FORBIDDEN = "The database does not permit this to BAiO's user."
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
    "25P03": UNREACHABLE,  # idle_in_transaction_session_timeout
    "25P04": UNREACHABLE,  # transaction_timeout
    "25006": READ_ONLY,  # read_only_sql_transaction
    "42501": FORBIDDEN,  # insufficient_privilege
    "3F000": FORBIDDEN,  # invalid_schema_name: none of those that new tables could be in can be used
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
    """What PostgreSQL or libpq said of the trouble, in one line for the administrator; "" if nothing.

    It names the address, the user, the parameter or the table, and no password.
    """
    cause = error.__cause__
    if not isinstance(cause, DBAPIError) or isinstance(cause.orig, sqlite3.Error):
        return ""
    diagnosis = getattr(cause.orig, "diag", None)  # of the server; libpq's own errors have none
    return " ".join((getattr(diagnosis, "message_primary", None) or str(cause.orig)).split())
