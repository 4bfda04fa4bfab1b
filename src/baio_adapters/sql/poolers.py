"""Settings of PostgreSQL's sessions, also behind a pooler that shares them (PgBouncer's ``pool_mode = transaction``).

There each transaction may run in another session. What one transaction prepares or sets, the next one finds missing, or
finds somebody else's: a prepared statement could even be another one of the same name.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, event

if TYPE_CHECKING:
    import psycopg  # a server on SQLite does not load it

_MARK = "baio.direct"


def marked(options: str = "") -> str:
    """These options of libpq, with a mark that tells whether they have arrived."""
    return f"{options} -c {_MARK}=on".strip()


def configure(engine: Engine, settings: Mapping[str, str]) -> None:
    """Apply the settings to each session, whatever its role, its database and the environment have set.

    Where a pooler has dropped the mark, they are applied in each transaction, and no statements are prepared. No pooler
    passes all options on, so the mark is missing behind every one.
    """
    values = ", ".join(f"('{name}', '{value}')" for name, value in settings.items())
    # Not as options: those of the environment, such as PGTZ, take precedence over them. Older servers lack some.
    apply = (
        f"SELECT set_config(name, value, {{local}}) FROM (VALUES {values}) AS wanted (name, value)"  # noqa: S608
        " WHERE current_setting(name, true) IS NOT NULL"
    )
    look = f"{apply.format(local=False)} AND current_setting('{_MARK}', true) = 'on'"
    begin_with = apply.format(local=True)

    @event.listens_for(engine, "connect")
    def connect(connection: "psycopg.Connection[tuple[object]]", _: object) -> None:
        is_direct = connection.execute(look, prepare=False).fetchone() is not None
        connection.commit()
        if not is_direct:
            connection.prepare_threshold = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.connection.prepare_threshold is None:
            connection.exec_driver_sql(begin_with)
