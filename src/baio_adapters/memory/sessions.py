"""Sessions."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import final

from baio_adapters.memory.repository import Repository
from baio_domain.entities import Session
from baio_domain.errors import NotAuthenticated
from baio_domain.ports import Sessions


@final
class MemorySessions(Repository, Sessions):
    """Sessions in ``Tables.sessions``."""

    def open(self, owner: int, user_agent: str, now: datetime) -> Session:
        if owner not in self._tables.users:
            raise NotAuthenticated("The account does not exist any more.")
        session = Session(self._tables.next_id("sessions"), owner, now, now, user_agent)
        self._tables.sessions[session.id] = session
        return session

    def require(self, session_id: int, *, owner: int) -> None:
        self._standing(session_id, owner)

    def use(
        self, session_id: int, now: datetime, *, owner: int, used_since: datetime, opened_since: datetime
    ) -> Session:
        session = self._standing(session_id, owner)
        if session.last_used_at < used_since or session.created_at < opened_since:
            raise NotAuthenticated("The session is over. Sign in again.")
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

    def end_all(self, owner: int, *, but: int | None = None) -> None:
        self._keep(lambda each: each.user_id != owner or each.id == but)

    def forget(self, *, used_before: datetime, opened_before: datetime) -> None:
        self._keep(lambda each: each.last_used_at >= used_before and each.created_at >= opened_before)

    def _standing(self, session_id: int, owner: int) -> Session:
        session, user = self._tables.sessions.get(session_id), self._tables.users.get(owner)
        if session is None or session.user_id != owner or user is None or user.disabled_at is not None:
            raise NotAuthenticated("The session is over. Sign in again.")
        return session

    def _keep(self, rule: Callable[[Session], bool]) -> None:
        self._tables.sessions = {k: v for k, v in self._tables.sessions.items() if rule(v)}
