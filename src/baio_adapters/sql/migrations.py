"""The schema's history: bring a database to the newest version, or say that it isn't.

Alembic is imported by what changes a schema, not by what looks whether that is needed: a worker does without it.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

if TYPE_CHECKING:
    from alembic.config import Config

_IN_WHEEL = Path(__file__).with_name("alembic_scripts")
_IN_CHECKOUT = Path(__file__).parents[3] / "alembic"


def _scripts() -> Path:
    # In a checkout the source counts, even where an editable install has left a copy beside this file.
    return _IN_CHECKOUT if (_IN_CHECKOUT / "env.py").exists() else _IN_WHEEL


def config(url: str) -> "Config":
    """Alembic's configuration for this database; no file is needed."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    made.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    made.attributes["url"] = url
    return made


def head() -> str:
    """The newest version's name: versions are numbered, and their files' names begin with the number."""
    return max((path.name for path in (_scripts() / "versions").glob("*.py")), default="0").partition("_")[0]


def current(connection: Connection) -> str | None:
    """The version that this database has, None when it is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if version is None else str(version)


def problem(connection: Connection) -> str | None:
    """Why this database can't be used by this code, or None when it can."""
    has, needs = current(connection), head()
    if has == needs:
        return None
    return f"The database has schema {has or 'none'}, this version needs {needs}: run `baio migrate`."


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database to this version; several processes may do so at once, and it happens once."""
    from alembic import command

    command.upgrade(config(url), revision)


def downgrade(url: str, revision: str) -> None:
    """Take the database back to this version; "base" empties it."""
    from alembic import command

    command.downgrade(config(url), revision)


def revise(url: str, message: str) -> list[Path]:
    """Write a migration for what tables.py has and the database has not; the files, none where nothing differs."""
    from alembic import command

    number = int(head()) + 1
    made = command.revision(config(url), message=message, autogenerate=True, rev_id=f"{number:04}")
    scripts = [each for each in (made if isinstance(made, list) else [made]) if each is not None]
    return [Path(script.path) for script in scripts]
