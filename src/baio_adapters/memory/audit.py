"""The audit log."""

from dataclasses import replace
from datetime import datetime
from typing import final

from baio_adapters.memory.repository import Repository
from baio_domain.entities import Act, AuditEntry, Origin
from baio_domain.ports import MAX_AUDIT_ENTRIES, Audit


@final
class MemoryAudit(Repository, Audit):
    """Entries in ``Tables.audit``."""

    def add(self, act: Act, user_id: int | None, origin: Origin, now: datetime, note: str = "") -> None:
        entry_id = self._tables.next_id("audit")
        self._tables.audit[entry_id] = AuditEntry(
            entry_id, now, act, user_id, origin.operator, origin.address, origin.request_id, note
        )
        if user_id is not None and len(self._tables.audit) > MAX_AUDIT_ENTRIES:
            alike = [k for k, v in self._tables.audit.items() if (v.user_id, v.act) == (user_id, act)]
            for excess in alike[:-MAX_AUDIT_ENTRIES]:
                del self._tables.audit[excess]

    def of(self, user_id: int) -> list[AuditEntry]:
        return [self._named(each) for each in self._tables.audit.values() if each.user_id == user_id]

    def page(self, user_id: int, *, after: int, limit: int) -> list[AuditEntry]:
        return [each for each in self.of(user_id) if each.id > after][:limit]

    def after(self, entry_id: int, limit: int) -> list[AuditEntry]:
        return [self._named(each) for each in self._tables.audit.values() if each.id > entry_id][:limit]

    def forget(self, before: datetime) -> None:
        self._tables.audit = {k: v for k, v in self._tables.audit.items() if v.at >= before}

    def _named(self, entry: AuditEntry) -> AuditEntry:
        user = self._tables.users.get(entry.user_id) if entry.user_id is not None else None
        return replace(entry, username=user.username if user else None)
