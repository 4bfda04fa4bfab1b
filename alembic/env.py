"""How Alembic reaches the database: one transaction for the whole way, and one process at a time."""

from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Connection, text

from baio_adapters.sql.database import engine_for
from baio_adapters.sql.migrations import encoding_problem
from baio_adapters.sql.tables import Id, UtcDateTime, is_ours, metadata
from baio_domain.errors import Unavailable

MIGRATION_LOCK = 0x6261696F  # "baio": any number that nobody else locks


def migrate(connection: Connection) -> None:
    """Run what is asked for inside the connection's transaction."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_name=is_ours,
        render_as_batch=True,  # SQLite changes a table by making it anew
        compare_type=True,
        compare_server_default=True,
        process_revision_directives=skip_empty,
        render_item=render_item,
    )
    context.run_migrations()


def render_item(kind: str, item: object, autogen_context: AutogenContext) -> str | Literal[False]:
    """Write our own column types by their short names."""
    if kind != "type" or not (item is Id or isinstance(item, UtcDateTime)):
        return False
    name = "Id" if item is Id else "UtcDateTime"
    autogen_context.imports.add(f"from baio_adapters.sql.tables import {name}")
    return name


def skip_empty(_context: object, _revision: object, directives: list[object]) -> None:
    """Write no migration when nothing differs."""
    script = directives[0]
    if getattr(context.config.cmd_opts, "autogenerate", True) and script.upgrade_ops.is_empty():  # type: ignore[attr-defined]
        directives.clear()


# Foreign keys are off: on SQLite a table that is made anew is dropped first, which would take its children along.
engine = engine_for(context.config.attributes["url"], foreign_keys=False)
# Not on one snapshot: who has waited for the lock must see what the process before it has done.
level = "READ COMMITTED" if engine.dialect.name == "postgresql" else "SERIALIZABLE"
with engine.execution_options(isolation_level=level).begin() as connection:
    if wrong := encoding_problem(connection):
        raise Unavailable(wrong)
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
    migrate(connection)
    if connection.dialect.name == "sqlite":
        broken = connection.execute(text("PRAGMA foreign_key_check")).fetchall()
        if broken:
            raise RuntimeError(f"the migration broke {len(broken)} references")
