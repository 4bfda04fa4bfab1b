"""The sign-in of institutions."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

from baio_domain.identities import Claims, Institution, Logout


class IdentityProviders(Protocol):
    """The institutions that an administrator has configured, and their servers, which speak OpenID Connect.

    Every method raises InstitutionUnavailable where a server can't be reached, is too slow, or is misconfigured, and
    SignInInvalid for messages that can't be trusted. Neither repeats a server's words.
    """

    @property
    @abstractmethod
    def institutions(self) -> Sequence[Institution]:
        """All of them, in the administrator's order."""

    @abstractmethod
    async def sign_in_url(self, institution: Institution, *, state: str, nonce: str, challenge: str) -> str:
        """The address at which a person signs in. Afterwards the browser comes back with ``state`` and a code.

        ``challenge`` is the S256 challenge of the verifier without which the code is worth nothing.
        """

    @abstractmethod
    async def claims(
        self, institution: Institution, *, code: str, issuer: str | None, nonce: str, verifier: str
    ) -> Claims:
        """The institution's claims about the person who came back with this code.

        ``issuer`` is whom the browser brought the code from, where the institution says so (RFC 9207). Everything is
        checked: issuer, audience, time, and that it belongs to ``nonce``.
        """

    @abstractmethod
    async def logout(self, token: str) -> Logout:
        """The sessions that a logout token of any institution ends (OpenID Connect Back-Channel Logout 1.0)."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close all connections."""
