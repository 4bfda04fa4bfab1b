"""Authentication: the Bearer token is checked before anything else in a request."""

from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.types import BeforeRequestHookHandler

from baio_api.logs import bind_user, request_id
from baio_domain.entities import Caller, Origin
from baio_domain.errors import NotAuthenticated
from baio_domain.ports import TokenIssuer

Authenticated = Request[Caller, Any, Any]
"""A request that has passed the guard. Its ``user`` is the caller."""

SECURITY = [{"Bearer": list[str]()}]
"""Marks an endpoint that needs a token in the OpenAPI document."""


def bearer_guard(tokens: TokenIssuer) -> BeforeRequestHookHandler:
    """Make a guard that admits requests with a valid access token; all others get 401.

    It is a hook before the request, because for one of its own guards Litestar copies the handler.
    """

    # async although it awaits nothing: Litestar would run a plain function in a thread.
    async def guard(connection: Request[Any, Any, Any]) -> None:
        # With two headers, a proxy might have checked the other one.
        [header, *others] = connection.headers.getall("authorization", [""])
        scheme, _space, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip(" ") or others:
            raise NotAuthenticated("Send one access token: `Authorization: Bearer ...`.")
        caller = tokens.verify(token.strip(" "), "access")
        bind_user(caller.user_id)
        connection.scope["user"] = Caller(caller.user_id, caller.session_id, origin_of(connection))

    return guard


def origin_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Origin:
    """Where a request comes from. Behind trusted proxies the address is the one in ``X-Forwarded-For``."""
    return Origin(
        address=connection.client.host if connection.client else "",
        user_agent=connection.headers.get("user-agent", ""),
        request_id=request_id(),
    )
