"""The base of all repositories: a connection, and what most statements share."""

from typing import Any

from sqlalchemy import (
    BindParameter,
    Column,
    Connection,
    Delete,
    Table,
    TextClause,
    bindparam,
    delete,
    insert,
    select,
    text,
    tuple_,
)
from sqlalchemy.sql.dml import ReturningInsert

from baio_adapters.sql.tables import users


def columns(table: Table, first: str, last: str) -> list[Any]:
    """The columns from ``first`` to ``last``, which are the fields of an entity in their order."""
    names = list(table.c.keys())
    return [table.c[name] for name in names[names.index(first) : names.index(last) + 1]]


# Statements are built once, at import. SQLAlchemy caches their SQL, but building one costs more than executing it.
OWNER: BindParameter[int] = bindparam("owner")
ID: BindParameter[int] = bindparam("id_")


def insert_for_owner(table: Table, *names: str) -> ReturningInsert[Any]:
    """An INSERT of these columns for the user ``OWNER``, returning the primary key; no row if there is no such user."""
    values = [bindparam(name, type_=table.c[name].type) for name in names]
    row = select(users.c.id, *values).where(users.c.id == OWNER)
    return insert(table).from_select(["user_id", *names], row).returning(*table.primary_key)


MAX_FORGOTTEN = 1_000
"""Rows that one unit of work deletes because their time is over. The next ones delete the rest, and nobody waits."""


def delete_before(time: Column[Any], before: str = "before") -> Delete:
    """A DELETE of rows with an earlier ``time`` than this parameter: the oldest, and at most ``MAX_FORGOTTEN``."""
    key = list(time.table.primary_key)
    oldest = select(*key).where(time < bindparam(before)).order_by(time).limit(MAX_FORGOTTEN)
    return delete(time.table).where(tuple_(*key).in_(oldest) if len(key) > 1 else key[0].in_(oldest))


DELETED = "deleted"
"""Set in the ``info`` of a connection that has deleted what its owner wants gone from the disk, too."""

SHARED = "shared"
"""Set in the ``info`` of a connection while units of work share its transaction."""


class RunAlone(Exception):
    """Raised by a unit of work that must not share its transaction. It is run again, by itself."""


# On PostgreSQL nobody waits for a deletion except those who ask for it.
_TAKE_TIME = text("SET LOCAL statement_timeout = '10min'")


def begin_deletion(connection: Connection) -> None:
    """Call this before much is deleted. Raises RunAlone in a shared transaction.

    Behind a savepoint, SQLite would keep a copy of all that is deleted, in memory or in a temporary file.
    """
    if connection.info.get(SHARED):
        raise RunAlone
    connection.info[DELETED] = True
    if connection.dialect.name == "postgresql":
        connection.execute(_TAKE_TIME)


# A list of any length is sent as one JSON parameter, not as that many parameters.
_IN_JSON = {
    "sqlite": "{column} IN (SELECT value FROM json_each(:listed))",
    "postgresql": "{column} = ANY (ARRAY(SELECT CAST(value AS {type})"
    " FROM json_array_elements_text(CAST(:listed AS JSON))))",
}


def in_json(column: Column[Any], postgresql_type: str) -> dict[str, TextClause]:
    """By dialect, the condition that the column's value is in the JSON array ``:listed``."""
    return {dialect: text(sql.format(column=column, type=postgresql_type)) for dialect, sql in _IN_JSON.items()}


class Repository:
    """A part of a transaction on one connection."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
