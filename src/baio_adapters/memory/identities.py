"""Identities at institutions, and the sessions that were opened with them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import final

from baio_adapters.memory.repository import Repository
from baio_domain.entities import Session
from baio_domain.errors import IdentityNotFound
from baio_domain.identities import Identity
from baio_domain.ports import Identities


@final
class MemoryIdentities(Repository, Identities):
    """Identities in ``Tables.identities``, what their sessions are in ``Tables.identity_sessions``."""

    def add(self, owner: int, issuer: str, subject: str, now: datetime) -> Identity:
        user = self._tables.user(owner)
        identity = Identity(self._tables.next_id("identities"), user.id, issuer, subject, now, now)
        self._tables.identities[identity.id] = identity
        return identity

    def find(self, issuer: str, subject: str) -> Identity | None:
        identities = self._tables.identities.values()
        return next((each for each in identities if (each.issuer, each.subject) == (issuer, subject)), None)

    def of(self, owner: int) -> list[Identity]:
        return [each for each in self._tables.identities.values() if each.user_id == owner]

    def use(self, identity_id: int, now: datetime, *, owner: int) -> None:
        identity = self._own(identity_id, owner)
        if identity is not None:
            self._tables.identities[identity_id] = replace(identity, last_used_at=now)

    def remove(self, identity_id: int, *, owner: int) -> None:
        if self._own(identity_id, owner) is None:
            raise IdentityNotFound
        del self._tables.identities[identity_id]
        known = self._tables.identity_sessions
        self._tables.identity_sessions = {k: v for k, v in known.items() if v[0] != identity_id}

    def opened(self, session: Session, identity_id: int, their_session: str | None) -> None:
        self._tables.identity_sessions[session.id] = identity_id, their_session

    def opened_at(self, token_id: str, *, owner: int) -> datetime | None:
        sessions = (self._tables.sessions[each] for each in self._tables.identity_sessions)
        mine = (each for each in sessions if (each.token_id, each.user_id) == (token_id, owner))
        return next((each.created_at for each in mine), None)

    def end_sessions(self, identity_id: int, *, owner: int, except_token_id: str | None = None) -> None:
        self._end(
            lambda session, identity, _: (
                identity.id == identity_id and session.user_id == owner and session.token_id != except_token_id
            )
        )

    def end_sessions_at(self, issuer: str, subject: str | None, their_session: str | None) -> list[int]:
        def ended(_: Session, identity: Identity, theirs: str | None) -> bool:
            return identity.issuer == issuer and is_over(identity.subject, theirs, subject, their_session)

        return self._end(ended)

    def _own(self, identity_id: int, owner: int) -> Identity | None:
        identity = self._tables.identities.get(identity_id)
        return identity if identity is not None and identity.user_id == owner else None

    def _end(self, ended: Callable[[Session, Identity, str | None], bool]) -> list[int]:
        tables = self._tables
        over = {
            session_id: tables.sessions[session_id].user_id
            for session_id, (identity_id, theirs) in tables.identity_sessions.items()
            if ended(tables.sessions[session_id], tables.identities[identity_id], theirs)
        }
        tables.keep_sessions(lambda each: each.id not in over)
        return sorted(set(over.values()))


def is_over(subject: str, theirs: str | None, named: str | None, their_session: str | None) -> bool:
    """Whether what was opened by ``subject`` in the session ``theirs`` is among what an institution says has ended."""
    if named is None:
        return their_session is not None and theirs == their_session
    return subject == named and (their_session is None or theirs in (None, their_session))
