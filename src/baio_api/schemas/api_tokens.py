"""The JSON of API tokens."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import msgspec

from baio_api.bodies import Body
from baio_api.schemas.common import EXAMPLE_CODE, EXAMPLE_PASSWORD, Examples, Time
from baio_domain.entities import ApiToken, Scope, token_problems
from baio_domain.errors import FieldError

_EXAMPLE: dict[str, Any] = {
    "name": "Notebook on the lab's server",
    "scopes": ["read", "ask"],
    "created_at": "2024-01-15T10:00:00.000001Z",
    "expires_at": "2025-01-15T10:00:00.000001Z",
}


class CreateTokenRequest(Body, frozen=True, kw_only=True):
    """A name, what the token is for, until when, and the account's password; a code if two-factor authentication is on.

    Without ``expires_at`` the token lasts as long as the server allows.
    """

    examples: ClassVar[Examples] = {
        "contract": {"name": _EXAMPLE["name"], "scopes": _EXAMPLE["scopes"], "password": EXAMPLE_PASSWORD},
        "withTwoFactor": {
            "name": _EXAMPLE["name"],
            "scopes": _EXAMPLE["scopes"],
            "expires_at": "2026-06-30T00:00:00Z",
            "password": EXAMPLE_PASSWORD,
            "code": EXAMPLE_CODE,
        },
    }

    name: str
    scopes: list[str]
    password: str
    expires_at: Time | None = None
    code: str | None = None

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """The rules for names and scopes."""
        found = token_problems(fields.get("name", ""), fields.get("scopes", ()))
        yield from (error for error in found if error.field in fields)


class CreatedTokenInfo(msgspec.Struct, frozen=True):
    """A new token. Nothing ever shows ``token`` again."""

    examples: ClassVar[Examples] = {"contract": {**_EXAMPLE, "token": "%API_TOKEN%"}}

    name: str
    scopes: list[Scope]
    created_at: Time
    expires_at: Time | None
    token: str

    @classmethod
    def of(cls, stored: ApiToken, token: str) -> "CreatedTokenInfo":
        """The JSON of a new token."""
        return cls(stored.name, list(stored.scopes), stored.created_at, stored.expires_at, token)


class TokenInfo(msgspec.Struct, frozen=True):
    """An API token. ``expires_at`` is null if it never expires, ``last_used_at`` if it was never used.

    ``ending`` has the last characters of the token, to tell which one it is.
    """

    examples: ClassVar[Examples] = {
        "contract": {**_EXAMPLE, "last_used_at": "2024-01-15T10:45:00.000001Z", "ending": "x7Rq"}
    }

    name: str
    scopes: list[Scope]
    created_at: Time
    expires_at: Time | None
    last_used_at: Time | None
    ending: str

    @classmethod
    def of(cls, token: ApiToken) -> "TokenInfo":
        """The JSON of a stored token."""
        return msgspec.convert(token, cls, from_attributes=True)


class RevokeTokenRequest(Body, frozen=True):
    """The token to revoke."""

    examples: ClassVar[Examples] = {"contract": {"name": _EXAMPLE["name"]}}

    name: str
