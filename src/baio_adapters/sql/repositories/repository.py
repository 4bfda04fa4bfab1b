"""What every repository has: its connection, and the parameters that most statements share."""

from typing import Any

from sqlalchemy import BindParameter, Connection, Table, bindparam, insert, select
from sqlalchemy.sql.dml import ReturningInsert

from baio_adapters.sql.tables import users


def columns(table: Table, first: str, last: str) -> list[Any]:
    """The columns of an entity, in the order of its fields."""
    names = list(table.c.keys())
    return [table.c[name] for name in names[names.index(first) : names.index(last) + 1]]


# Statements are built once: SQLAlchemy caches what it compiles by their shape, and building one anew costs more than
# sending it.
OWNER: BindParameter[int] = bindparam("owner")
ID: BindParameter[int] = bindparam("the_id")


def insert_for_owner(table: Table, *names: str) -> ReturningInsert[Any]:
    """An INSERT of these columns for the user ``OWNER``, returning the primary key; no row if there is no such user."""
    values = [bindparam(name, type_=table.c[name].type) for name in names]
    row = select(users.c.id, *values).where(users.c.id == OWNER)
    return insert(table).from_select(["user_id", *names], row).returning(*table.primary_key)


class Repository:
    """Part of a transaction over one connection."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
