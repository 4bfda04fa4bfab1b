"""Secrets: password hashes, tokens, and encryption of what is stored."""

from abc import abstractmethod
from datetime import datetime
from typing import Literal, Protocol

from baio_domain.entities import Caller, Session


class PasswordHasher(Protocol):
    """One-way hashes of passwords. Both methods are slow on purpose and run off the event loop.

    Both raise Unavailable when too many wait already.
    """

    @abstractmethod
    async def hash(self, password: str) -> str:
        """The hash to store, with its own salt and parameters in it."""

    @abstractmethod
    async def verify(self, password: str, password_hash: str | None) -> bool:
        """Whether this is the password. With None (no such account) False, after the same time."""

    @abstractmethod
    def outdated(self, password_hash: str) -> bool:
        """Whether the hash was made with other parameters than today's."""


class TokenIssuer(Protocol):
    """Signed tokens that say who is asking. A refresh token is no access token, nor the other way round."""

    @abstractmethod
    def issue(self, session: Session, kind: Literal["access", "refresh"], until: datetime) -> str:
        """A new token of this kind, valid from now on for as long as its kind lives, and never beyond ``until``."""

    @abstractmethod
    def verify(self, token: str, kind: Literal["access", "refresh"]) -> Caller:
        """Whom the token speaks for, in which session, or raise NotAuthenticated."""


SecretKind = Literal["api key", "two-factor seed"]
"""What is kept encrypted."""


class SecretBox(Protocol):
    """Encryption of what is kept, bound to what it is, its owner and its row: in another place it does not open."""

    @abstractmethod
    def seal(self, secret: str, *, owner: int, key_id: int, what: SecretKind = "api key") -> bytes:
        """The ciphertext to store."""

    @abstractmethod
    def fingerprint(self, *parts: str) -> bytes:
        """A keyed digest of these texts: equal for equal parts, and telling nothing about them."""

    @abstractmethod
    def open(self, sealed: bytes, *, owner: int, key_id: int, what: SecretKind = "api key") -> str:
        """The secret, or raise ApiKeyUnreadable."""

    @abstractmethod
    def is_current(self, sealed: bytes) -> bool:
        """Whether this was sealed under the master key that ``seal`` uses now."""
