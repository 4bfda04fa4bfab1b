"""The audit log."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, final

from sqlalchemy import bindparam, case, delete, insert, select, text, update

from baio_adapters.sql.repositories.repository import ID, OWNER, Repository, delete_before
from baio_adapters.sql.tables import audit, users
from baio_domain.entities import DELETED_OPERATOR, Act, AuditEntry, Origin
from baio_domain.ports import MAX_AUDIT_ENTRIES, Audit, AuditFilter

_ADD_ENTRY = insert(audit)
# On PostgreSQL, ids are given before transactions end, which they may do in another order: who has read entry 8 would
# miss 7. So one transaction at a time is between its first entry and its end. SQLite has one writer anyway.
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(:lock)")
_LOCK = 0x6175646974  # "audit": any number that nobody else locks
_PAGE = (
    select(audit, users.c.username)
    .select_from(audit.outerjoin(users))
    .where(audit.c.id > bindparam("after"))
    .order_by(audit.c.id)
    .limit(bindparam("limit"))
)
_TOO_OLD = (
    select(audit.c.id)
    .where(audit.c.user_id == ID, audit.c.act == bindparam("of_act"))
    .order_by(audit.c.id.desc())
    .limit(1)
    .offset(MAX_AUDIT_ENTRIES)
    .scalar_subquery()
)
_DELETE_EXCESS = delete(audit).where(audit.c.user_id == ID, audit.c.act == bindparam("of_act"), audit.c.id <= _TOO_OLD)
_DELETE_OLD_ENTRIES = delete_before(audit.c.at)
# The address is that of whoever acted: of an entry about the account, an administrator's stays.
ANONYMISE_ENTRIES = (
    update(audit)
    .where(audit.c.user_id == OWNER)
    .values(user_id=None, address=case((audit.c.operator_id.is_(None), ""), else_=audit.c.address))
)
ANONYMISE_OPERATOR = update(audit).where(audit.c.operator_id == OWNER).values(operator=DELETED_OPERATOR, address="")


@final
class SqlAudit(Repository, Audit):
    """Entries in ``audit``."""

    def add(self, act: Act, user_id: int | None, origin: Origin, now: datetime, note: str = "") -> None:
        """Insert, and delete what is too much."""
        values = {
            "at": now, "act": act.value, "user_id": user_id, "operator": origin.operator, "address": origin.address,
            "request_id": origin.request_id, "note": note, "operator_id": origin.operator_id,
        }  # fmt: skip
        if self._connection.dialect.name == "postgresql":
            self._connection.execute(_ONE_AT_A_TIME, {"lock": _LOCK})
        self._connection.execute(_ADD_ENTRY, values)
        if user_id is not None:
            self._connection.execute(_DELETE_EXCESS, {"id_": user_id, "of_act": act.value})

    def page(self, chosen: AuditFilter, *, after: int, limit: int) -> list[AuditEntry]:
        """Read from the entry after that one on."""
        statement = _PAGE
        if chosen.user_id is not None:
            statement = statement.where(audit.c.user_id == chosen.user_id)
        if chosen.act is not None:
            statement = statement.where(audit.c.act == chosen.act.value)
        if chosen.since is not None:
            statement = statement.where(audit.c.at >= chosen.since)
        if chosen.until is not None:
            statement = statement.where(audit.c.at < chosen.until)
        return _entries(self._connection.execute(statement, {"after": after, "limit": limit}).fetchall())

    def forget(self, before: datetime) -> None:
        """Delete by the index on times."""
        self._connection.execute(_DELETE_OLD_ENTRIES, {"before": before})


def _entries(rows: Iterable[Sequence[Any]]) -> list[AuditEntry]:
    return [AuditEntry(row[0], row[1], Act(row[2]), *row[3:]) for row in rows]
