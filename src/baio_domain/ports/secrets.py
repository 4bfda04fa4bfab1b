"""Secrets: password hashes, tokens, and encryption at rest."""

from abc import abstractmethod
from collections.abc import Mapping
from datetime import datetime
from typing import Literal, Protocol

from baio_domain.entities import Caller, Session
from baio_domain.errors import ApiKeyUnreadable, SecondFactorUnreadable, SecretUnreadable


class PasswordHasher(Protocol):
    """One-way hashes of passwords. ``hash`` and ``verify`` are slow on purpose and run off the event loop.

    ``network`` is where the request came from. Requests wait fairly: networks take turns, and when too many requests
    are waiting, those of the network with the most of them get Unavailable.
    """

    @abstractmethod
    async def hash(self, password: str, *, network: str = "") -> str:
        """The hash to store, including its salt and parameters."""

    @abstractmethod
    async def verify(self, password: str, password_hash: str | None, *, network: str = "") -> bool:
        """Whether this is the password. Every False takes the same time, also with None (no such account)."""

    @abstractmethod
    def outdated(self, password_hash: str) -> bool:
        """Whether the hash was made with other parameters than today's."""


class TokenIssuer(Protocol):
    """Signed access and refresh tokens. Neither kind is accepted in place of the other."""

    @abstractmethod
    def issue(self, session: Session, kind: Literal["access", "refresh"], until: datetime) -> str:
        """A new token of this kind, valid from now on for the lifetime of its kind, and never beyond ``until``."""

    @abstractmethod
    def verify(self, token: str, kind: Literal["access", "refresh"]) -> Caller:
        """The user and session of the token, or raise NotAuthenticated."""


SecretKind = Literal["api key", "two-factor seed"]
"""What is stored encrypted."""

UNREADABLE: Mapping[SecretKind, type[SecretUnreadable]] = {
    "api key": ApiKeyUnreadable,
    "two-factor seed": SecondFactorUnreadable,
}
"""The error for each kind of secret that can't be decrypted any more."""


class SecretBox(Protocol):
    """Authenticated encryption of stored secrets.

    A ciphertext is bound to its kind, its owner and the id of its row: moved anywhere else, it does not decrypt.
    """

    @abstractmethod
    def seal(self, secret: str, *, kind: SecretKind, owner: int, row_id: int) -> bytes:
        """The ciphertext to store."""

    @abstractmethod
    def open(self, sealed: bytes, *, kind: SecretKind, owner: int, row_id: int) -> str:
        """The secret. Raises the error that ``UNREADABLE`` has for its kind."""

    @abstractmethod
    def is_current(self, sealed: bytes) -> bool:
        """Whether this was sealed under the master key that ``seal`` uses now."""

    @abstractmethod
    def fingerprint(self, *parts: str) -> bytes:
        """A keyed digest: equal for equal parts, and disclosing nothing about them."""
