"""The schema's history: bring a database to the newest version, or say that it isn't."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

_IN_WHEEL = Path(__file__).with_name("alembic_scripts")
_IN_CHECKOUT = Path(__file__).parents[3] / "alembic"


def _scripts() -> Path:
    # In a checkout the source counts, even where an editable install has left a copy beside this file.
    return _IN_CHECKOUT if (_IN_CHECKOUT / "env.py").exists() else _IN_WHEEL


def config(url: str) -> Config:
    """Alembic's configuration for this database; no file is needed."""
    made = Config()
    made.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    made.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    made.attributes["url"] = url
    return made


def head() -> str:
    """The newest version's name."""
    newest = ScriptDirectory.from_config(config("")).get_current_head()
    if newest is None:
        raise LookupError("there are no migrations")
    return newest


def current(connection: Connection) -> str | None:
    """The version that this database has, None when it is empty."""
    return MigrationContext.configure(connection).get_current_revision()


def problem(connection: Connection) -> str | None:
    """Why this database can't be used by this code, or None when it can."""
    has, needs = current(connection), head()
    if has == needs:
        return None
    return f"The database has schema {has or 'none'}, this version needs {needs}: run `baio migrate`."


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database to this version; several processes may do so at once, and it happens once."""
    command.upgrade(config(url), revision)


def downgrade(url: str, revision: str) -> None:
    """Take the database back to this version; "base" empties it."""
    command.downgrade(config(url), revision)


def revise(url: str, message: str) -> list[Path]:
    """Write a migration for what tables.py has and the database has not; the files, none where nothing differs."""
    number = len(list(ScriptDirectory.from_config(config(url)).walk_revisions())) + 1
    made = command.revision(config(url), message=message, autogenerate=True, rev_id=f"{number:04}")
    scripts = [each for each in (made if isinstance(made, list) else [made]) if each is not None]
    return [Path(script.path) for script in scripts]
