"""ASGI middleware around the whole application: security headers, request ids and the access log."""

import re
import time
import uuid

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from baio_api.logs import access_logger, begin_request

_CLIENT_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

_COMMON = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
API_HEADERS = (
    *_COMMON,
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
_SAME_ORIGIN = (
    b"script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'"
)
DOCS_HEADERS = (
    *_COMMON,
    (b"content-security-policy", b"default-src 'none'; %b; connect-src 'self'; frame-ancestors 'none'" % _SAME_ORIGIN),
)
"""The documentation page loads its own files and has inline scripts."""


class SecurityHeadersMiddleware:
    """Adds security headers to every response; a header that the response sets itself is kept."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        headers = DOCS_HEADERS if scope.get("path", "").startswith("/docs") else API_HEADERS

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(each for each in headers if each[0] not in present)]
            await send(message)

        await self._app(scope, receive, send_with_headers)


class RequestLogMiddleware:
    """Gives every request an id, and logs one line per request when its response has ended.

    The id is the client's ``X-Request-ID`` if that is well-formed, otherwise a new one. The response returns it in
    ``X-Request-ID``, and everything logged during the request carries it. Bodies, query strings and headers are never
    logged.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        from_client = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = from_client if _CLIENT_ID.fullmatch(from_client) else uuid.uuid4().hex.encode()
        status = 0
        finished = False

        async def send_with_id(message: Message) -> None:
            nonlocal status, finished
            if message["type"] == "http.response.body":
                finished = not message.get("more_body", False)
            elif message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        begin_request(request_id.decode())
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            access_logger.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                finished=finished,
                milliseconds=round((time.perf_counter() - started) * 1000, 1),
            )
