"""Who is asking: the Bearer token, checked before anything else of a request is looked at."""

from dataclasses import replace
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from baio_api.logs import bind_user, request_id
from baio_domain.entities import Caller, Origin
from baio_domain.errors import NotAuthenticated
from baio_domain.ports import TokenIssuer

Authenticated = Request[Caller, Any, Any]
"""A request that the guard has let pass: its ``user`` is the caller."""

SECURITY = [{"Bearer": list[str]()}]
"""What the OpenAPI document says of an endpoint that needs a token."""


def bearer_guard(tokens: TokenIssuer) -> Guard:
    """A guard that lets a request pass when it brings a valid access token; others get 401."""

    # async, though it waits for nothing: a plain function would be sent to a thread and back.
    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        # Of two headers a proxy may have read the other one.
        [given, *others] = connection.headers.getall("authorization", [""])
        scheme, _space, token = given.partition(" ")
        if scheme.lower() != "bearer" or not token.strip(" ") or others:
            raise NotAuthenticated("Send one access token: `Authorization: Bearer ...`.")
        caller = tokens.verify(token.strip(" "), "access")
        bind_user(caller.user_id)
        connection.scope["user"] = replace(caller, origin=origin_of(connection))

    return guard


def origin_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Origin:
    """Where a request comes from: the client's address, behind trusted proxies the one that they name."""
    return Origin(
        address=connection.client.host if connection.client else "",
        user_agent=connection.headers.get("user-agent", ""),
        request_id=request_id(),
    )
