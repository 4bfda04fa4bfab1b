"""Invitations to register."""

from datetime import datetime
from typing import final

from baio_adapters.memory.repository import Repository
from baio_domain.ports import Invitations
from baio_domain.text import name_key


@final
class MemoryInvitations(Repository, Invitations):
    """Digests of codes in ``Tables.invitations``, each with the folded email address and the expiry."""

    def add(self, digest: bytes, email: str | None, until: datetime) -> None:
        self._tables.invitations[digest] = (None if email is None else name_key(email), until)

    def is_valid(self, digest: bytes, email: str, now: datetime, latest: datetime) -> bool:
        invited, until = self._tables.invitations.get(digest, (None, now))
        return now < until <= latest and invited in (None, name_key(email))

    def use(self, digest: bytes) -> bool:
        return self._tables.invitations.pop(digest, None) is not None

    def forget(self, before: datetime) -> None:
        self._tables.invitations = {k: v for k, v in self._tables.invitations.items() if v[1] > before}
