"""Failed sign-ins and codes."""

from collections.abc import Collection
from datetime import datetime
from typing import final

from sqlalchemy import bindparam, delete, insert, select, update

from baio_adapters.sql.repositories.repository import Repository, delete_before
from baio_adapters.sql.tables import guesses
from baio_domain.ports import FailedAttempts

_ARRIVAL_TIMES = select(guesses.c.key, guesses.c.until).where(guesses.c.key.in_(bindparam("keys", expanding=True)))
_ADD_ARRIVAL_TIME = insert(guesses)
_UPDATE_ARRIVAL_TIME = update(guesses).where(guesses.c.key == bindparam("name")).values(until=bindparam("new"))
_DELETE_KEYS = delete(guesses).where(guesses.c.key.in_(bindparam("keys", expanding=True)))
_DELETE_OLD_KEYS = delete_before(guesses.c.until)


@final
class SqlFailedAttempts(Repository, FailedAttempts):
    """Theoretical arrival times in ``guesses``."""

    def arrival_times(self, keys: Collection[bytes]) -> dict[bytes, datetime]:
        """Read all in one statement."""
        rows = self._connection.execute(_ARRIVAL_TIMES, {"keys": list(keys)}).fetchall()
        return {bytes(key): time for key, time in rows}

    def save_arrival_time(self, key: bytes, time: datetime) -> None:
        """Update, or insert. If two transactions insert at once, the primary key rejects one."""
        if not self._connection.execute(_UPDATE_ARRIVAL_TIME, {"name": key, "new": time}).rowcount:
            self._connection.execute(_ADD_ARRIVAL_TIME, {"key": key, "until": time})

    def forget(self, keys: Collection[bytes], before: datetime) -> None:
        """Delete by key, and by the index on times."""
        self._connection.execute(_DELETE_KEYS, {"keys": list(keys)})
        self._connection.execute(_DELETE_OLD_KEYS, {"before": before})
