"""The schema's versions: upgrade a database to the newest one, and check that it has it.

Alembic is imported only by functions that change a schema: a worker, which only checks the version, runs without it.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from baio_adapters.sql.trouble import reported

if TYPE_CHECKING:
    from alembic.config import Config

_IN_WHEEL = Path(__file__).with_name("alembic_scripts")
_IN_CHECKOUT = Path(__file__).parents[3] / "alembic"


def _scripts() -> Path:
    # In a checkout, alembic/ takes precedence over a copy that an editable install has left beside this file.
    return _IN_CHECKOUT if (_IN_CHECKOUT / "env.py").exists() else _IN_WHEEL


def config(url: str) -> "Config":
    """Alembic's configuration for this database, without a file."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    made.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    made.attributes["url"] = url
    return made


def head() -> str:
    """The newest version. Versions are numbered, and the names of their files begin with the number."""
    return max((path.name for path in (_scripts() / "versions").glob("*.py")), default="0").partition("_")[0]


def current(connection: Connection) -> str | None:
    """The version of this database, or None if it is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if version is None else str(version)


def encoding_problem(connection: Connection) -> str | None:
    """Why this database can't store every text, or None if it can."""
    if connection.dialect.name == "sqlite":
        return None
    driver = connection.connection.driver_connection
    assert driver is not None  # noqa: S101 - tells the type checker
    encoding = driver.info.parameter_status("server_encoding")
    if encoding == "UTF8":
        return None
    return f"The database has the encoding {encoding}, BAiO needs UTF8: create it with ENCODING 'UTF8'."


def problem(connection: Connection) -> str | None:
    """Why this code can't use this database, or None if it can."""
    if wrong := encoding_problem(connection):
        return wrong
    has, needs = current(connection), head()
    if has == needs:
        return None
    return f"The database has schema {has or 'none'}, this version needs {needs}: run `baio migrate`."


def upgrade(url: str, revision: str = "head") -> None:
    """Upgrade the database to this version. Several processes may try at once; it is done once.

    Raises Unavailable if the database can't be used.
    """
    from alembic import command

    with reported():
        command.upgrade(config(url), revision)


def downgrade(url: str, revision: str) -> None:
    """Downgrade the database to this version; "base" removes all tables."""
    from alembic import command

    command.downgrade(config(url), revision)


def revise(url: str, message: str) -> list[Path]:
    """Write a migration from the database's schema to tables.py; return its files, none if nothing differs."""
    from alembic import command

    number = int(head()) + 1
    made = command.revision(config(url), message=message, autogenerate=True, rev_id=f"{number:04}")
    scripts = [each for each in (made if isinstance(made, list) else [made]) if each is not None]
    return [Path(script.path) for script in scripts]
