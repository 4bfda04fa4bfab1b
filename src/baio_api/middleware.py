"""ASGI middleware around the whole application: headers, request ids, access log, HEAD, preflights, trusted proxies."""

import ipaddress
import re
import time
import uuid
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, cast

from litestar.connection import ASGIConnection
from litestar.enums import HttpMethod, ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from baio_api.errors import error_body, problem_of_status
from baio_api.logs import access_logger, begin_request
from baio_domain.ports import Metrics

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


_DIRECT_SEND = "direct_send"


def direct_send(scope: Scope) -> Send:
    """The server's own ``send``, for pieces of a body with more to follow.

    The layers around the application look only at the beginning and the end of a response, and each takes time for
    each piece.
    """
    send: Send = scope["state"][_DIRECT_SEND]
    return send


class SecurityHeadersMiddleware:
    """Adds security headers to every response; a header that the response sets itself is kept.

    It is the outermost layer, so ``direct_send`` is what it was given.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        headers = DOCS_HEADERS if scope["path"].startswith("/docs") else API_HEADERS
        scope.setdefault("state", {})[_DIRECT_SEND] = send

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


UNMATCHED = "unmatched"
"""The route of a request that no route takes: its path is the client's, and never a metric's label."""


class RequestMetricsMiddleware:
    """Notes the route, the status and the time of every request when its response has ended.

    It is the innermost layer: only there the route is known.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        began_at = time.perf_counter()
        status, seconds = 0, 0.0

        async def send_noted(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status, seconds = message["status"], time.perf_counter() - began_at
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            route = scope.get("path_template") or UNMATCHED
            self._metrics.request_ended(scope["method"], route, status, seconds)


_IS_HEAD = "is_head"


def is_head(connection: ASGIConnection[Any, Any, Any, Any]) -> bool:
    """Whether the client wants only the headers of the response."""
    return bool(connection.state.get(_IS_HEAD))


class HeadMiddleware:
    """Answers HEAD as GET, without the body (RFC 9110, 9.3.2).

    The response is complete after its headers, so a long one ends at once, as if its client had left.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] != ScopeType.HTTP or scope["method"] != HttpMethod.HEAD:
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        # A copy: the server must know that it is HEAD.
        state = {**scope["state"], _IS_HEAD: True, _DIRECT_SEND: send_head}
        as_get = cast("Scope", {**scope, "method": "GET", "state": state})
        await self._app(as_get, receive, send_head)


class PreflightMiddleware:
    """Gives a refused CORS preflight the form of all errors. Litestar explains it in plain text."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] != ScopeType.HTTP or scope["method"] != HttpMethod.OPTIONS:
            await self._app(scope, receive, send)
            return
        headers: list[tuple[bytes, bytes]] | None = None

        async def send_problem(message: Message) -> None:
            nonlocal headers
            if message["type"] == "http.response.start" and message["status"] == HTTPStatus.BAD_REQUEST:
                headers = [each for each in message["headers"] if each[0] not in (b"content-type", b"content-length")]
            elif message["type"] == "http.response.body" and headers is not None:
                what = message["body"].decode().removeprefix("Disallowed CORS ")
                detail = f"This server does not allow cross-origin requests like this one. Not allowed: {what}."
                body, media_type = error_body(scope["path"], problem_of_status(HTTPStatus.BAD_REQUEST, detail))
                headers += [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
                await send({"type": "http.response.start", "status": HTTPStatus.BAD_REQUEST, "headers": headers})
                await send({"type": "http.response.body", "body": body, "more_body": False})
            else:
                await send(message)

        await self._app(scope, receive, send_problem)


MAX_HOPS = 32
"""How many entries of ``X-Forwarded-For`` are looked at, from the last one on."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class TrustedProxiesMiddleware:
    """Takes the client's address and the scheme from trusted proxies, and from nobody else.

    Each proxy appends the address of its own client to ``X-Forwarded-For``, so an entry is only as credible as the hop
    to its right. The client is the nearest hop that is not one of the proxies, and nothing to the left of it counts,
    because the client may have written that.

    - Where every hop is one of the proxies, the client has an address in a trusted network. Then it is the last entry,
      the only one that the nearest proxy itself wrote. The first entry may be forged.
    - An entry that is no address (``unknown``, an empty one, garbage) ends the search at the proxy that wrote it.
    - An entry may have a port: ``192.0.2.7:5678``, ``[2001:db8::1]:443``.

    A client in a trusted network that is not a proxy can still state any address outside of these networks: it looks
    like one more proxy. Name proxies, not networks with users.
    """

    def __init__(self, app: ASGIApp, proxies: Sequence[str]) -> None:
        self._app = app
        self._networks = [ipaddress.ip_network(proxy) for proxy in proxies]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] == ScopeType.HTTP and scope["client"] is not None:
            peer = _address(scope["client"][0])
            if peer is not None and self._trusted(peer):
                headers = scope["headers"]
                client = self._client(peer, b",".join(value for name, value in headers if name == b"x-forwarded-for"))
                if client != peer:
                    scope["client"] = (str(client), 0)
                schemes = [value.strip() for name, value in headers if name == b"x-forwarded-proto"]
                if schemes and schemes[-1] in (b"http", b"https"):
                    scope["scheme"] = schemes[-1].decode()
        await self._app(scope, receive, send)

    def _client(self, peer: Address, forwarded: bytes) -> Address:
        """The client of a request that this proxy has sent with these entries."""
        if not forwarded:
            return peer
        hops: list[Address] = []
        for entry in reversed(forwarded.decode("latin-1").rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
            hop = _address(entry.strip())
            if hop is None:
                return hops[-1] if hops else peer
            if not self._trusted(hop):
                return hop
            hops.append(hop)
        return hops[0]

    def _trusted(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


_WITH_PORT = re.compile(r"\[(?P<ipv6>[^\[\]]*)\](?::\d{1,5})?|(?P<ipv4>[\d.]+):\d{1,5}", re.ASCII)


def _address(text: str) -> Address | None:
    """The address in this text without port and zone, or None. An IPv4 address within IPv6 is an IPv4 address."""
    with_port = _WITH_PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address(with_port["ipv6"] or with_port["ipv4"] if with_port else text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or ipaddress.IPv6Address(int(address))
    return address
