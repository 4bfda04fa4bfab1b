"""The audit log."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, final

from sqlalchemy import bindparam, delete, insert, select, update

from baio_adapters.sql.repositories.repository import ID, OWNER, Repository
from baio_adapters.sql.tables import audit, users
from baio_domain.entities import Act, AuditEntry, Origin
from baio_domain.ports import MAX_AUDIT_ENTRIES, Audit

_ADD_ENTRY = insert(audit)
_ENTRIES = select(audit, users.c.username).select_from(audit.outerjoin(users)).order_by(audit.c.id)
_ENTRIES_OF = _ENTRIES.where(audit.c.user_id == ID)
_ENTRIES_AFTER = _ENTRIES.where(audit.c.id > ID).limit(bindparam("limit"))
_PAGE = _ENTRIES_OF.where(audit.c.id > bindparam("after")).limit(bindparam("limit"))
_TOO_OLD = (
    select(audit.c.id)
    .where(audit.c.user_id == ID, audit.c.act == bindparam("of_act"))
    .order_by(audit.c.id.desc())
    .limit(1)
    .offset(MAX_AUDIT_ENTRIES)
    .scalar_subquery()
)
_DELETE_EXCESS = delete(audit).where(audit.c.user_id == ID, audit.c.act == bindparam("of_act"), audit.c.id <= _TOO_OLD)
_DELETE_OLD_ENTRIES = delete(audit).where(audit.c.at < bindparam("before"))
ANONYMISE_ENTRIES = update(audit).where(audit.c.user_id == OWNER).values(user_id=None, address="")


@final
class SqlAudit(Repository, Audit):
    """Entries in ``audit``."""

    def add(self, act: Act, user_id: int | None, origin: Origin, now: datetime, note: str = "") -> None:
        """Insert, and delete what is too much."""
        values = {
            "at": now, "act": act.value, "user_id": user_id, "operator": origin.operator, "address": origin.address,
            "request_id": origin.request_id, "note": note,
        }  # fmt: skip
        self._connection.execute(_ADD_ENTRY, values)
        if user_id is not None:
            self._connection.execute(_DELETE_EXCESS, {"id_": user_id, "of_act": act.value})

    def of(self, user_id: int) -> list[AuditEntry]:
        """Read by the index on user ids."""
        return _entries(self._connection.execute(_ENTRIES_OF, {"id_": user_id}).fetchall())

    def page(self, user_id: int, *, after: int, limit: int) -> list[AuditEntry]:
        """Read from the entry after that one on."""
        values = {"id_": user_id, "after": after, "limit": limit}
        return _entries(self._connection.execute(_PAGE, values).fetchall())

    def after(self, entry_id: int, limit: int) -> list[AuditEntry]:
        """Read in the order of ids."""
        return _entries(self._connection.execute(_ENTRIES_AFTER, {"id_": entry_id, "limit": limit}).fetchall())

    def forget(self, before: datetime) -> None:
        """Delete by the index on times."""
        self._connection.execute(_DELETE_OLD_ENTRIES, {"before": before})


def _entries(rows: Iterable[Sequence[Any]]) -> list[AuditEntry]:
    return [AuditEntry(row[0], row[1], Act(row[2]), *row[3:]) for row in rows]
