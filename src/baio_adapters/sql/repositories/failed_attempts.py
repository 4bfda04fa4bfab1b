"""Failed sign-ins and codes."""

from collections.abc import Collection
from datetime import datetime
from typing import final

from sqlalchemy import bindparam, delete, insert, select, update

from baio_adapters.sql.repositories.repository import Repository
from baio_adapters.sql.tables import guesses
from baio_domain.ports import FailedAttempts

_UNTIL = select(guesses.c.key, guesses.c.until).where(guesses.c.key.in_(bindparam("keys", expanding=True)))
_ADD_GUESS = insert(guesses)
_SAVE_GUESS = update(guesses).where(guesses.c.key == bindparam("name")).values(until=bindparam("new"))
_FORGET_GUESSES = delete(guesses).where(guesses.c.key.in_(bindparam("keys", expanding=True)))
_FORGET_OLD_GUESSES = delete(guesses).where(guesses.c.until < bindparam("before"))


@final
class SqlFailedAttempts(Repository, FailedAttempts):
    """Failures in ``guesses``: a time for each key."""

    def arrival_times(self, keys: Collection[bytes]) -> dict[bytes, datetime]:
        """Read them at once."""
        rows = self._connection.execute(_UNTIL, {"keys": list(keys)}).fetchall()
        return {bytes(key): until for key, until in rows}

    def save_arrival_time(self, key: bytes, time: datetime) -> None:
        """Update, or insert; of two who insert at once, the primary key lets one pass."""
        if not self._connection.execute(_SAVE_GUESS, {"name": key, "new": time}).rowcount:
            self._connection.execute(_ADD_GUESS, {"key": key, "until": time})

    def forget(self, keys: Collection[bytes], before: datetime) -> None:
        """Delete by key, and by the index over times."""
        self._connection.execute(_FORGET_GUESSES, {"keys": list(keys)})
        self._connection.execute(_FORGET_OLD_GUESSES, {"before": before})
