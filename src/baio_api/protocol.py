"""uvicorn's HTTP protocol with limits: for the head of a request, for slow clients, and for connections.

It relies on the inside of uvicorn's ``HttpToolsProtocol``, as ``stalled_clients`` does. So the dependency is bounded to
one minor version, and ``tests/unit/test_protocol.py`` drives this class.
"""

import asyncio
import enum
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

import httptools
import msgspec
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, HTTPReceiveMessage, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from baio_api import stalled_clients
from baio_api.errors import MEDIA_TYPE, is_openai_path, problem_of, problem_of_status
from baio_api.middleware import RequestLogMiddleware, SecurityHeadersMiddleware
from baio_api.stalled_clients import StalledClients
from baio_domain.errors import Unavailable

MAX_HEADERS = 100
"""The largest number of headers of a request, and of its trailers."""

MAX_HEAD_BYTES = 65_536
"""The largest head of a request. Also bounds everything else that is not body: trailers, chunk extensions, empty lines.

A head that begins in the same read as the end of the request before it counts from the next read on.
"""

MAX_WAITING_REQUESTS = 100
"""How many pipelined requests may wait for the response before theirs."""

LINGER_SECONDS = 2.0
"""How long a refused client may take to read the refusal. Meanwhile whatever it sends is read and discarded.

Closing at once would make the kernel reset the connection, and the client might lose the response.
"""

RETRY_AFTER_SECONDS = 5

_WITHOUT_BODY = ("GET", "HEAD", "OPTIONS", "")
"""The methods whose bodies the application does not read. The empty one stands for a refused head."""

logger = logging.getLogger("baio.http")


def _without_chunks(cycle: RequestResponseCycle, app: ASGIApp) -> ASGIApp:
    """The application, whose streams end with the connection: a client of HTTP/1.0 knows no chunks.

    uvicorn sends them all the same, and the client takes their sizes for text.
    """

    def run(scope: Scope, receive: Receive, send: Send) -> Any:  # noqa: ANN401 - a coroutine
        is_stream = False

        async def send_as_it_is(message: Message) -> None:
            nonlocal is_stream
            if message["type"] == "http.response.start":
                is_stream = all(name.lower() != b"content-length" for name, _ in message["headers"])
                cycle.chunked_encoding = False if is_stream else None
            elif message["type"] == "http.response.body" and is_stream:
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        return app(scope, receive, send_as_it_is)

    return run


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a client.

    ``head_seconds`` is the time for a whole head, ``body_seconds`` the time between two pieces of a body.
    ``descriptors`` is the process's limit of open files: a quarter of them is not given to clients, but kept for the
    database and providers. ``half_close`` says whether a client that ends its side right after its request still
    receives the response. Otherwise it counts as a client that has left.
    """

    head_seconds: float
    body_seconds: float
    descriptors: int
    half_close: bool


class Config(stalled_clients.Config):
    """uvicorn's configuration of a server with these limits.

    ``reports`` goes to the application's factory, in each worker.
    """

    def __init__(self, *, limits: Limits, reports: Callable[[], object] | None = None, **options: Any) -> None:
        super().__init__(http=LimitedProtocol, ws="none", **options)
        self.limits = limits
        self.reports = reports

    def load_app(self) -> Callable[..., object]:
        """The application or its factory."""
        app: Callable[..., object] = super().load_app()
        return partial(app, self.reports) if self.factory else app


class _Part(enum.Enum):
    """The part of a request that is being received."""

    NONE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()
    REST = enum.auto()
    """What the client still sends of a body after its response. It is discarded."""


class _Refusal(Exception):
    """Raised by the parser's callbacks, which also stops the parser."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def _head_too_large() -> _Refusal:
    return _Refusal(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        f"The head of a request may have at most {MAX_HEADERS} headers and {MAX_HEAD_BYTES} bytes.",
    )


class LimitedProtocol(StalledClients):
    """One connection of a client.

    A refusal is a response of its own: it waits for the responses of earlier requests, has the one form of errors, is
    logged like a request, and closes the connection. ``Upgrade`` is ignored (RFC 9110, 7.8), because there is nothing
    to upgrade to.

    Nothing here runs when a piece of a response is sent, except to a client of HTTP/1.0.
    """

    config: Config

    _receiving = _Part.NONE
    _bytes_without_progress = 0
    _progress = False
    _upgrading = False
    _refusal: _Refusal | None = None
    _body_refused = False
    _lingering = False
    _half_closed = False

    _deadline: float | None = None
    _deadline_of = _Part.NONE
    _timer: asyncio.TimerHandle | None = None

    # -- The connection ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head, or refuse the connection."""
        super().connection_made(transport)
        # The kernel assigns the lowest free number, so this many descriptors are open.
        descriptor = transport.get_extra_info("socket").fileno()
        limit = self.config.limits.descriptors
        if descriptor >= limit - limit // 8:
            logger.warning("connection aborted: no descriptors left")
            transport.abort()
        elif descriptor >= limit - limit // 4:
            self._refuse(_Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "There are too many connections. Try again later."))
        else:
            self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel every timer: a timer would keep the connection's objects until it fires."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]  # as asyncio.Protocol has it
        """Whether the connection stays open: a client that ends its side after its request still gets the response.

        TCP does not tell such a client from one that has left. While a response is being sent, it has left. At a path
        of OpenAI's API it has left in any case: the answer would be made, and paid for, for nobody.
        """
        self._half_closed = True
        if self._lingering:
            return False
        if self._refusal is not None:
            return True
        if not self._answered and self.cycle.response_started:
            return False
        if self._receiving is not _Part.NONE:
            self._refuse(_Refusal(HTTPStatus.BAD_REQUEST, "The request is incomplete."))
            return True
        if self._answered or not self.config.limits.half_close or is_openai_path(self.cycle.scope["path"]):
            return False
        self.cycle.keep_alive = False
        return True

    @property
    def _answered(self) -> bool:
        """Whether no request waits for its response, or for the rest of it."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    # -- Receiving -----------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parse the next bytes, in pieces that end where the limit of the head does."""
        if self._refusal is not None:
            return
        self._unset_keepalive_if_required()
        rest = memoryview(data)
        try:
            while rest:
                piece = rest[: MAX_HEAD_BYTES - self._bytes_without_progress]
                if not piece:
                    raise _head_too_large()
                rest = rest[self._parse(piece) :]
        except httptools.HttpParserError as error:
            self._refuse(_refusal_for(error))
        except _Refusal as refusal:
            self._refuse(refusal)
        else:
            self._set_deadline()

    def _parse(self, piece: memoryview) -> int:
        """Parse this piece, and return how many bytes of it are done."""
        self._progress = False
        done = len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            [done] = upgrade.args
            # The parser takes whatever follows as another protocol. It gets the head again, without the upgrade.
            self._upgrading = False
            self.parser.feed_data(self._head_without_upgrade())
        self._bytes_without_progress = 0 if self._progress else self._bytes_without_progress + done
        return done

    def _head_without_upgrade(self) -> bytes:
        request_line = b"%b %b HTTP/%b" % (
            self.parser.get_method(), self.url, self.parser.get_http_version().encode(),
        )  # fmt: skip
        lines = [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([request_line, *lines, b"", b""])

    # The parser's callbacks.

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._receiving = _Part.HEAD

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer."""
        if len(self.headers) >= MAX_HEADERS:
            raise _head_too_large()
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check what the parser does not, and start the application."""
        version = self.parser.get_http_version()
        names = [name for name, _ in self.headers]
        if version not in ("1.0", "1.1"):
            raise _Refusal(HTTPStatus.BAD_REQUEST, "The version of HTTP is neither 1.0 nor 1.1.")
        if names.count(b"host") != 1 and (version == "1.1" or b"host" in names):
            raise _Refusal(HTTPStatus.BAD_REQUEST, "The request must have one Host header.")
        if b"transfer-encoding" in names and dict(self.headers)[b"transfer-encoding"].lower() != b"chunked":
            raise _Refusal(HTTPStatus.BAD_REQUEST, "The only Transfer-Encoding that is supported is chunked.")
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise _Refusal(HTTPStatus.BAD_REQUEST, "This server is no proxy.")
            self._upgrading = True
            return
        if not self._answered and len(self.pipeline) >= MAX_WAITING_REQUESTS:
            raise _Refusal(HTTPStatus.BAD_REQUEST, "Too many requests wait for their responses on this connection.")
        if not self.url.startswith(b"/"):
            self.url = _with_path(self.url)
        self._progress = True
        self._receiving = _Part.BODY
        super().on_headers_complete()
        self.headers = []  # for trailers: the application's list of headers does not get them (RFC 9110, 6.5.1)

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._progress = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        if not self._upgrading:
            self._progress = True
            self._receiving = _Part.NONE
            super().on_message_complete()

    # -- Responding ----------------------------------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401 - uvicorn's own types
        if cycle.scope["method"] not in _WITHOUT_BODY:
            app = self._stopping_at_refusal(cycle, app)
        if cycle.scope["http_version"] == "1.0":
            app = _without_chunks(cycle, app)
        super()._start_asgi_task(cycle, app)

    def _stopping_at_refusal(self, cycle: RequestResponseCycle, app: ASGIApp) -> ASGIApp:
        """The application, to which a refusal of the rest of the body is an error while it receives the body."""

        def run(scope: Scope, receive: Receive, send: Send) -> Any:  # noqa: ANN401 - a coroutine
            async def receive_unless_refused() -> HTTPReceiveMessage:
                message = await receive()
                if self._body_refused and self._refusal is not None and cycle is self.cycle:
                    raise HTTPException(self._refusal.detail, status_code=self._refusal.status)
                return message  # type: ignore[return-value]

            return app(scope, receive_unless_refused, send)

        return run

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if self._refusal is None and not self.transport.is_closing():
            self._set_deadline()

    def _refuse(self, refusal: _Refusal) -> None:
        """Receive nothing more, respond with this after all earlier responses, and close the connection."""
        self._refusal = refusal.with_traceback(None)  # whose frames would keep the connection's objects
        self._deadline = None
        if self._receiving is not _Part.BODY:
            self._respond_with(refusal)
            return
        # The application has the request already.
        self.cycle.transport = _LingeringTransport(self.transport, self._linger)
        self.cycle.keep_alive = False
        if self.cycle.response_complete:
            self._linger()
        elif self._application_waits_for_body:
            self._body_refused = True
            self.cycle.message_event.set()

    @property
    def _application_waits_for_body(self) -> bool:
        return not self.cycle.response_started and self.cycle.scope["method"] not in _WITHOUT_BODY

    def _respond_with(self, refusal: _Refusal) -> None:
        headers = self.headers if self._receiving is _Part.HEAD else []
        answered = self._answered
        super().on_message_begin()
        self.headers += headers
        self.scope["method"] = self.scope["path"] = ""
        self.scope["raw_path"] = self.scope["query_string"] = b""
        self.cycle = RequestResponseCycle(
            scope=self.scope,
            transport=_LingeringTransport(self.transport, self._linger),
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=False,
            on_response=self.on_response_complete,
        )
        app = SecurityHeadersMiddleware(RequestLogMiddleware(_refusing(refusal)))
        if answered:
            self._start_asgi_task(self.cycle, app)
        else:
            self.pipeline.appendleft((self.cycle, app))  # type: ignore[arg-type]

    def _linger(self) -> None:
        """Close the connection, but let the client read the refusal first."""
        self._lingering = True
        if self._half_closed or self.transport.is_closing():
            self.transport.close()
            return
        self.flow.resume_reading()
        self.transport.write_eof()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    # -- Deadlines -----------------------------------------------------------------------------------------------------

    def _set_deadline(self) -> None:
        """Decide what the client must send until when. Called whenever it has sent something, and after a response."""
        if self._receiving is _Part.BODY:
            part = _Part.REST if self._answered else _Part.BODY
        elif not self._answered:
            part = _Part.NONE  # the next head waits for the response before it
        elif self._receiving is _Part.NONE and self.timeout_keep_alive_task is not None:
            part = _Part.NONE  # idle: uvicorn closes the connection
        else:
            part = _Part.HEAD
            self._unset_keepalive_if_required()
        if part is _Part.NONE:
            self._deadline = None
        elif part is _Part.BODY or part is not self._deadline_of:  # each piece of a body has a deadline of its own
            limits = self.config.limits
            self._wait(limits.head_seconds if part is _Part.HEAD else limits.body_seconds)
        self._deadline_of = part

    def _wait(self, seconds: float) -> None:
        self._deadline = self.loop.time() + seconds
        # A timer that fires earlier stays, because an upload sets a deadline with every piece.
        if self._timer is None or self._timer.when() > self._deadline:
            self._start_timer(self._deadline)

    def _start_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(at, self._look_at_deadline)

    def _look_at_deadline(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self.loop.time() < self._deadline:
            self._start_timer(self._deadline)
        elif self._deadline_of is _Part.HEAD and self._receiving is _Part.HEAD:
            self._refuse(_Refusal(HTTPStatus.REQUEST_TIMEOUT, "The head of the request did not arrive in time."))
        elif self._deadline_of is not _Part.BODY:
            self.transport.close()
        elif self.flow.read_paused or not self._application_waits_for_body:
            self._wait(self.config.limits.body_seconds)
        else:
            self._refuse(_Refusal(HTTPStatus.REQUEST_TIMEOUT, "The body of the request did not arrive in time."))


class _LingeringTransport(asyncio.Transport):
    """The transport of a response after which the connection lingers before it is closed."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        super().__init__()
        self._transport = transport
        self._close = close

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._close()


def _refusing(refusal: _Refusal) -> ASGIApp:
    """An application that responds with a refusal."""
    full = refusal.status is HTTPStatus.SERVICE_UNAVAILABLE
    problem = problem_of(Unavailable(refusal.detail)) if full else problem_of_status(refusal.status, refusal.detail)
    body = msgspec.json.encode(problem)
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(body))]
    if full:
        headers.append((b"retry-after", b"%d" % RETRY_AFTER_SECONDS))
    start: Any = {"type": "http.response.start", "status": int(refusal.status), "headers": headers}
    end: Message = {"type": "http.response.body", "body": body, "more_body": False}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await send(start)
        await send(end)

    return app


def _refusal_for(error: httptools.HttpParserError) -> _Refusal:
    """The refusal for an error of the parser, or the one that a callback has raised."""
    cause = error.__context__
    if isinstance(cause, _Refusal):
        return cause
    if not isinstance(error, httptools.HttpParserCallbackError):
        return _Refusal(HTTPStatus.BAD_REQUEST, f"The request is not valid HTTP: {error}.")  # one of the parser's texts
    if not isinstance(cause, httptools.HttpParserInvalidURLError):
        logger.error("unexpected error", exc_info=error)
    return _Refusal(HTTPStatus.BAD_REQUEST, "The request is not valid HTTP.")


def _with_path(url: bytes) -> bytes:
    """The target of a request in absolute form (RFC 9112, 3.2.2), with the path ``/`` if it has none."""
    parsed = httptools.parse_url(url)
    path: bytes | None = parsed.path
    return b"/?" + (parsed.query or b"") if path is None else url
