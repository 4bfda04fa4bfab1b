"""Authentication: the Bearer token is checked before anything else in a request."""

from dataclasses import replace
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.types import BeforeRequestHookHandler

from baio_api.logs import bind_token, bind_user, request_id
from baio_domain.api_tokens import TOKEN_PREFIX
from baio_domain.entities import Caller, Origin
from baio_domain.errors import NotAuthenticated
from baio_domain.ports import TokenIssuer
from baio_domain.use_cases.api_tokens import AdmitToken

Authenticated = Request[Caller, Any, Any]
"""A request that has passed the guard. Its ``user`` is the caller."""

SECURITY = [{"Bearer": list[str]()}]
"""Marks an endpoint that needs a token in the OpenAPI document."""


def bearer_guard(tokens: TokenIssuer, admit_token: AdmitToken) -> BeforeRequestHookHandler:
    """Make a guard that admits requests with a valid access token, or an API token; all others get 401.

    An API token needs the scope that ``operation`` says of the route. Where that says none, it gets 403.

    It is a hook before the request, because for one of its own guards Litestar copies the handler.
    """

    async def guard(connection: Request[Any, Any, Any]) -> None:
        # With two headers, a proxy might have checked the other one.
        [header, *others] = connection.headers.getall("authorization", [""])
        scheme, _space, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip(" ") or others:
            raise NotAuthenticated("Send one access token: `Authorization: Bearer ...`.")
        token = token.strip(" ")
        if token.startswith(TOKEN_PREFIX):
            caller = await admit_token(token, connection.route_handler.opt.get("scope"))
            bind_token(token)
        else:
            caller = tokens.verify(token, "access")
        bind_user(caller.user_id)
        connection.scope["user"] = replace(caller, origin=origin_of(connection))

    return guard


def origin_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Origin:
    """Where a request comes from. Behind trusted proxies the address is the one in ``X-Forwarded-For``."""
    return Origin(
        address=connection.client.host if connection.client else "",
        user_agent=connection.headers.get("user-agent", ""),
        request_id=request_id(),
    )
