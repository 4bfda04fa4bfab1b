"""PostgreSQL behind a connection pooler that shares sessions, such as PgBouncer with ``pool_mode = transaction``.

There each transaction may run in another session. What one transaction prepares or sets, the next one finds missing, or
finds somebody else's: a prepared statement could even be another one of the same name.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, event

if TYPE_CHECKING:
    import psycopg  # a server on SQLite does not load it

_MARK = "baio.direct"


def options_of(settings: Mapping[str, str]) -> str:
    """Options of libpq for these settings of a session, with a mark that tells whether they have arrived."""
    return " ".join(f"-c {name}={value}" for name, value in {**settings, _MARK: "on"}.items())


def allow_for_pooler(engine: Engine, settings: Mapping[str, str]) -> None:
    """Apply the settings in each transaction, and prepare no statements, where a pooler has dropped the options.

    No pooler passes all options on, so the mark is missing behind every one. Direct connections cost one query more at
    their start.
    """
    local = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())

    @event.listens_for(engine, "connect")
    def look(connection: "psycopg.Connection[tuple[object]]", _: object) -> None:
        row = connection.execute("SELECT current_setting(%s, true)", [_MARK], prepare=False).fetchone()
        connection.rollback()
        if row != ("on",):
            connection.prepare_threshold = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.connection.prepare_threshold is None:
            connection.exec_driver_sql(f"SELECT {local}")
