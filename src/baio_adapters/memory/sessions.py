"""Sessions."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import final

from baio_adapters.memory.repository import Repository
from baio_domain.entities import Session, new_token_id
from baio_domain.ports import Sessions


@final
class MemorySessions(Repository, Sessions):
    """Sessions in ``Tables.sessions``."""

    def open(self, owner: int, user_agent: str, now: datetime) -> Session:
        user = self._tables.user(owner)
        session = Session(self._tables.next_id("sessions"), user.id, now, now, user_agent, new_token_id())
        self._tables.sessions[session.id] = session
        return session

    def is_active(self, token_id: str, *, owner: int) -> bool:
        return self._active(token_id, owner) is not None

    def use(
        self, token_id: str, now: datetime, *, owner: int, used_since: datetime, opened_since: datetime
    ) -> Session | None:
        session = self._active(token_id, owner)
        if session is None or session.last_used_at < used_since or session.created_at < opened_since:
            return None
        used = replace(session, last_used_at=now, created_at=min(session.created_at, now))
        self._tables.sessions[session.id] = used
        return used

    def of(self, owner: int) -> list[Session]:
        return [each for each in reversed(self._tables.sessions.values()) if each.user_id == owner]

    def end(self, token_id: str, *, owner: int) -> bool:
        session = self._by_token_id(token_id, owner)
        if session is None:
            return False
        self._tables.keep_sessions(lambda each: each.id != session.id)
        return True

    def end_all(self, owner: int, *, except_token_id: str | None = None) -> None:
        self._tables.keep_sessions(lambda each: each.user_id != owner or each.token_id == except_token_id)

    def end_oldest(self, owner: int, *, keep: int) -> None:
        newest = {each.id for each in self.of(owner)[:keep]}
        self._tables.keep_sessions(lambda each: each.user_id != owner or each.id in newest)

    def active(self, token_ids: Collection[str]) -> frozenset[str]:
        named = (each for each in self._tables.sessions.values() if each.token_id in token_ids)
        return frozenset(each.token_id for each in named if self._active(each.token_id, each.user_id))

    def forget(self, *, used_before: datetime, opened_before: datetime) -> None:
        self._tables.keep_sessions(lambda each: each.last_used_at >= used_before and each.created_at >= opened_before)

    def _by_token_id(self, token_id: str, owner: int) -> Session | None:
        sessions = self._tables.sessions.values()
        return next((each for each in sessions if (each.token_id, each.user_id) == (token_id, owner)), None)

    def _active(self, token_id: str, owner: int) -> Session | None:
        user = self._tables.users.get(owner)
        return None if user is None or user.disabled_at is not None else self._by_token_id(token_id, owner)
