"""Sessions."""

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime
from typing import final

from baio_adapters.memory.repository import Repository
from baio_domain.entities import Session
from baio_domain.ports import Sessions


@final
class MemorySessions(Repository, Sessions):
    """Sessions in ``Tables.sessions``."""

    def open(self, owner: int, user_agent: str, now: datetime) -> Session:
        user = self._tables.user(owner)
        session = Session(self._tables.next_id("sessions"), user.id, now, now, user_agent)
        self._tables.sessions[session.id] = session
        return session

    def is_active(self, session_id: int, *, owner: int) -> bool:
        return self._active(session_id, owner) is not None

    def use(
        self, session_id: int, now: datetime, *, owner: int, used_since: datetime, opened_since: datetime
    ) -> Session | None:
        session = self._active(session_id, owner)
        if session is None or session.last_used_at < used_since or session.created_at < opened_since:
            return None
        self._tables.sessions[session_id] = replace(session, last_used_at=now)
        return self._tables.sessions[session_id]

    def of(self, owner: int) -> list[Session]:
        return [each for each in reversed(self._tables.sessions.values()) if each.user_id == owner]

    def end(self, session_id: int, *, owner: int) -> bool:
        session = self._tables.sessions.get(session_id)
        if session is None or session.user_id != owner:
            return False
        del self._tables.sessions[session_id]
        return True

    def end_all(self, owner: int, *, except_id: int | None = None) -> None:
        self._keep(lambda each: each.user_id != owner or each.id == except_id)

    def end_oldest(self, owner: int, *, keep: int) -> None:
        newest = {each.id for each in self.of(owner)[:keep]}
        self._keep(lambda each: each.user_id != owner or each.id in newest)

    def active(self, session_ids: Collection[int]) -> frozenset[int]:
        sessions = (self._tables.sessions.get(each) for each in session_ids)
        return frozenset(each.id for each in sessions if each and self._active(each.id, each.user_id))

    def forget(self, *, used_before: datetime, opened_before: datetime) -> None:
        self._keep(lambda each: each.last_used_at >= used_before and each.created_at >= opened_before)

    def _active(self, session_id: int, owner: int) -> Session | None:
        session, user = self._tables.sessions.get(session_id), self._tables.users.get(owner)
        if session is None or session.user_id != owner or user is None or user.disabled_at is not None:
            return None
        return session

    def _keep(self, rule: Callable[[Session], bool]) -> None:
        self._tables.sessions = {k: v for k, v in self._tables.sessions.items() if rule(v)}
