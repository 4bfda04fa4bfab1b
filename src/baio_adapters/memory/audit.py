"""The audit log."""

from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import final

from baio_adapters.memory.repository import Repository
from baio_domain.entities import Act, AuditEntry, Origin
from baio_domain.ports import MAX_AUDIT_ENTRIES, Audit, AuditFilter


@final
class MemoryAudit(Repository, Audit):
    """Entries in ``Tables.audit``."""

    def add(self, act: Act, user_id: int | None, origin: Origin, now: datetime, note: str = "") -> None:
        entry_id = self._tables.next_id("audit")
        self._tables.audit[entry_id] = AuditEntry(
            entry_id,
            now,
            act,
            user_id,
            origin.operator,
            origin.address,
            origin.request_id,
            note,
            origin.operator_id,
        )
        if user_id is not None and len(self._tables.audit) > MAX_AUDIT_ENTRIES:
            alike = [k for k, v in self._tables.audit.items() if (v.user_id, v.act) == (user_id, act)]
            for excess in alike[:-MAX_AUDIT_ENTRIES]:
                del self._tables.audit[excess]

    def page(self, chosen: AuditFilter, *, after: int, limit: int) -> list[AuditEntry]:
        found = (each for each in self._tables.audit.values() if each.id > after and _is_chosen(each, chosen))
        return [self._named(each) for each in islice(found, limit)]

    def forget(self, before: datetime) -> None:
        self._tables.audit = {k: v for k, v in self._tables.audit.items() if v.at >= before}

    def _named(self, entry: AuditEntry) -> AuditEntry:
        user = self._tables.users.get(entry.user_id) if entry.user_id is not None else None
        return replace(entry, username=user.username if user else None)


def _is_chosen(entry: AuditEntry, chosen: AuditFilter) -> bool:
    return (
        chosen.user_id in (None, entry.user_id)
        and chosen.act in (None, entry.act)
        and (chosen.since is None or entry.at >= chosen.since)
        and (chosen.until is None or entry.at < chosen.until)
    )
