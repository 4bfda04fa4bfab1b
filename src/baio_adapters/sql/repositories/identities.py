"""Identities at institutions, and the sessions that were opened with them."""

from datetime import datetime
from typing import final

from sqlalchemy import bindparam, delete, insert, select, update

from baio_adapters.sql.repositories.repository import ID, OWNER, Repository, insert_for_owner
from baio_adapters.sql.tables import identities, identity_sessions, sessions
from baio_domain.entities import Session
from baio_domain.errors import AccountNotFound, IdentityNotFound
from baio_domain.identities import Identity
from baio_domain.ports import Identities

_OWN = (identities.c.id == ID, identities.c.user_id == OWNER)
_SUBJECT = bindparam("subject", type_=identities.c.subject.type)
_THEIRS = bindparam("their_session", type_=identity_sessions.c.their_session.type)

_ADD = insert_for_owner(identities, "issuer", "subject", "created_at", "last_used_at")
_FIND = select(identities).where(identities.c.issuer == bindparam("issuer"), identities.c.subject == _SUBJECT)
_OF = select(identities).where(identities.c.user_id == OWNER).order_by(identities.c.id)
_USE = update(identities).where(*_OWN).values(last_used_at=bindparam("now"))
_REMOVE = delete(identities).where(*_OWN)
_OPENED = insert(identity_sessions)
_OPENED_AT = (
    select(sessions.c.created_at)
    .join(identity_sessions)
    .where(sessions.c.token_id == bindparam("token"), sessions.c.user_id == OWNER)
)
_END = delete(sessions).where(
    sessions.c.user_id == OWNER,
    sessions.c.token_id != bindparam("except_token_id"),
    sessions.c.id.in_(select(identity_sessions.c.session_id).where(identity_sessions.c.identity_id == ID)),
)
_AT = select(identity_sessions.c.session_id).join(identities).where(identities.c.issuer == bindparam("issuer"))
_IN_THEIRS = identity_sessions.c.their_session == _THEIRS
_END_AT = {
    (True, False): _AT.where(identities.c.subject == _SUBJECT),
    (False, True): _AT.where(_IN_THEIRS),
    (True, True): _AT.where(identities.c.subject == _SUBJECT, _IN_THEIRS | identity_sessions.c.their_session.is_(None)),
}
"""The sessions that an institution can say have ended: by whether it names a subject, and a session of its own."""


@final
class SqlIdentities(Repository, Identities):
    """Identities in ``identities``, what their sessions are in ``identity_sessions``."""

    def add(self, owner: int, issuer: str, subject: str, now: datetime) -> Identity:
        """Insert, if the user exists. If two transactions insert at once, the unique constraint rejects one."""
        values = {"owner": owner, "issuer": issuer, "subject": subject, "created_at": now, "last_used_at": now}
        identity_id = self._connection.execute(_ADD, values).scalar()
        if identity_id is None:
            raise AccountNotFound
        return Identity(identity_id, owner, issuer, subject, now, now)

    def find(self, issuer: str, subject: str) -> Identity | None:
        """Read by both."""
        row = self._connection.execute(_FIND, {"issuer": issuer, "subject": subject}).first()
        return None if row is None else Identity(*row)

    def of(self, owner: int) -> list[Identity]:
        """Read in the order of ids."""
        return [Identity(*row) for row in self._connection.execute(_OF, {"owner": owner}).fetchall()]

    def use(self, identity_id: int, now: datetime, *, owner: int) -> None:
        """Update by id and owner."""
        self._connection.execute(_USE, {"id_": identity_id, "owner": owner, "now": now})

    def remove(self, identity_id: int, *, owner: int) -> None:
        """Delete by id and owner."""
        if not self._connection.execute(_REMOVE, {"id_": identity_id, "owner": owner}).rowcount:
            raise IdentityNotFound

    def opened(self, session: Session, identity_id: int, their_session: str | None) -> None:
        """Insert."""
        values = {"session_id": session.id, "identity_id": identity_id, "their_session": their_session}
        self._connection.execute(_OPENED, values)

    def opened_at(self, token_id: str, *, owner: int) -> datetime | None:
        """Read by token id and owner."""
        opened: datetime | None = self._connection.execute(_OPENED_AT, {"token": token_id, "owner": owner}).scalar()
        return opened

    def end_sessions(self, identity_id: int, *, owner: int, except_token_id: str | None = None) -> None:
        """Delete the owner's by the index on identities."""
        values = {"id_": identity_id, "owner": owner, "except_token_id": except_token_id or ""}
        self._connection.execute(_END, values)

    def end_sessions_at(self, issuer: str, subject: str | None, their_session: str | None) -> list[int]:
        """Delete by the indexes on subjects or on sessions of the institution."""
        ended = _END_AT.get((subject is not None, their_session is not None))
        if ended is None:
            return []
        values = {"issuer": issuer, "subject": subject, "their_session": their_session}
        statement = delete(sessions).where(sessions.c.id.in_(ended)).returning(sessions.c.user_id)
        return sorted(set(self._connection.execute(statement, values).scalars().all()))
