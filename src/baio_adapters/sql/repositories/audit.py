"""Failures to prove who one is, and what was done to accounts."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, final

from sqlalchemy import bindparam, delete, insert, select, update

from baio_adapters.sql.repositories.repository import ID, OWNER, Repository
from baio_adapters.sql.tables import audit, guesses, users
from baio_domain.entities import Act, AuditEntry, Origin
from baio_domain.ports import Audit, FailedAttempts

_UNTIL = select(guesses.c.key, guesses.c.until).where(guesses.c.key.in_(bindparam("keys", expanding=True)))
_ADD_GUESS = insert(guesses)
_SAVE_GUESS = update(guesses).where(guesses.c.key == bindparam("name")).values(until=bindparam("new"))
_FORGET_GUESSES = delete(guesses).where(guesses.c.key.in_(bindparam("keys", expanding=True)))
_FORGET_OLD_GUESSES = delete(guesses).where(guesses.c.until < bindparam("before"))

_ADD_ENTRY = insert(audit)
_ENTRIES = select(audit, users.c.username).select_from(audit.outerjoin(users)).order_by(audit.c.id)
_ENTRIES_OF = _ENTRIES.where(audit.c.user_id == ID)
_ENTRIES_AFTER = _ENTRIES.where(audit.c.id > ID).limit(bindparam("limit"))
_FORGET_ENTRIES = delete(audit).where(audit.c.at < bindparam("before"))
ANONYMISE = update(audit).where(audit.c.user_id == OWNER).values(user_id=None, address="")


@final
class SqlFailedAttempts(Repository, FailedAttempts):
    """Failures in ``guesses``: a time for each key."""

    def until(self, keys: Collection[bytes]) -> dict[bytes, datetime]:
        """Read them at once."""
        rows = self._connection.execute(_UNTIL, {"keys": list(keys)}).fetchall()
        return {bytes(key): until for key, until in rows}

    def save(self, key: bytes, until: datetime) -> None:
        """Update, or insert; of two who insert at once, the primary key lets one pass."""
        if not self._connection.execute(_SAVE_GUESS, {"name": key, "new": until}).rowcount:
            self._connection.execute(_ADD_GUESS, {"key": key, "until": until})

    def forget(self, keys: Collection[bytes], before: datetime) -> None:
        """Delete by key, and by the index over times."""
        self._connection.execute(_FORGET_GUESSES, {"keys": list(keys)})
        self._connection.execute(_FORGET_OLD_GUESSES, {"before": before})


@final
class SqlAudit(Repository, Audit):
    """Entries in ``audit``."""

    def add(self, act: Act, user_id: int | None, origin: Origin, now: datetime, note: str = "") -> None:
        """Insert."""
        values = {
            "at": now, "act": act.value, "user_id": user_id, "operator": origin.operator, "address": origin.address,
            "request_id": origin.request_id, "note": note,
        }  # fmt: skip
        self._connection.execute(_ADD_ENTRY, values)

    def of(self, user_id: int) -> list[AuditEntry]:
        """Read by the index over whom they concern."""
        return _entries(self._connection.execute(_ENTRIES_OF, {"the_id": user_id}).fetchall())

    def after(self, entry_id: int, limit: int) -> list[AuditEntry]:
        """Read in the order of ids."""
        return _entries(self._connection.execute(_ENTRIES_AFTER, {"the_id": entry_id, "limit": limit}).fetchall())

    def forget(self, before: datetime) -> None:
        """Delete by the index over times."""
        self._connection.execute(_FORGET_ENTRIES, {"before": before})


def _entries(rows: Iterable[Sequence[Any]]) -> list[AuditEntry]:
    return [AuditEntry(row[0], row[1], Act(row[2]), *row[3:]) for row in rows]
