"""Invitations to register."""

from datetime import datetime
from typing import final

from sqlalchemy import bindparam, delete, insert, select

from baio_adapters.sql.repositories.repository import Repository
from baio_adapters.sql.tables import invitations
from baio_domain.ports import Invitations
from baio_domain.text import name_key

_ADD = insert(invitations)
_VALID = select(invitations.c.digest).where(
    invitations.c.digest == bindparam("code"),
    invitations.c.until > bindparam("now"),
    invitations.c.until <= bindparam("latest"),
    invitations.c.email_folded.is_(None) | (invitations.c.email_folded == bindparam("email")),
)
_USE = delete(invitations).where(invitations.c.digest == bindparam("code"))
_DELETE_EXPIRED = delete(invitations).where(invitations.c.until <= bindparam("before"))


@final
class SqlInvitations(Repository, Invitations):
    """Digests of codes in ``invitations``."""

    def add(self, digest: bytes, email: str | None, until: datetime) -> None:
        """Insert."""
        values = {"digest": digest, "email_folded": None if email is None else name_key(email), "until": until}
        self._connection.execute(_ADD, values)

    def is_valid(self, digest: bytes, email: str, now: datetime, latest: datetime) -> bool:
        """Read by digest."""
        values = {"code": digest, "email": name_key(email), "now": now, "latest": latest}
        return self._connection.execute(_VALID, values).first() is not None

    def use(self, digest: bytes) -> bool:
        """Delete by digest."""
        return bool(self._connection.execute(_USE, {"code": digest}).rowcount)

    def forget(self, before: datetime) -> None:
        """Delete those that have expired."""
        self._connection.execute(_DELETE_EXPIRED, {"before": before})
