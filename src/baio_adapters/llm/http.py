"""Shared by the gateways over HTTP: a client that keeps users apart, and the meaning of errors."""

import codecs
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any, final

import aiohttp
import httpx2
from openai._vendor.httpx_aiohttp import AiohttpTransport

from baio_domain.errors import ProviderBroken

MAX_ERROR_BODY_BYTES = 64 * 1024
"""How many bytes of an error's body are read."""

MAX_BODY_BYTES = 8 * 1024 * 1024
"""The longest body of an answer that is not streamed, or of a list of models, in bytes."""

MAX_LEADING_BYTES = 64 * 1024
"""How many blank bytes are read to find out whether a body is an event stream."""

DEFAULT_CONTEXT_WINDOW = 8_192
"""The context window, in tokens, that is assumed for a model when the provider does not state it."""

REQUEST_ERRORS = (httpx2.HTTPError, aiohttp.ClientError, OSError, ValueError)
"""What a request can raise besides the SDK's own errors; ValueError includes a body that isn't JSON."""


def reject_unknown_quirks(quirks: frozenset[str], known: frozenset[str]) -> None:
    """Raise ValueError for a quirk that the gateway does not know."""
    if unknown := quirks - known:
        available = ", ".join(sorted(known)) or "none"
        raise ValueError(f"unknown quirk {', '.join(map(repr, sorted(unknown)))}; available: {available}")


# -- The body ----------------------------------------------------------------------------------------------------------


class RewoundReader:
    """A reader whose first bytes were read already."""

    __slots__ = ("_first", "_reader")

    def __init__(self, first: bytes, reader: aiohttp.StreamReader) -> None:
        self._first = first
        self._reader = reader

    async def readany(self) -> bytes:
        """The first bytes once, and then what the reader has."""
        first, self._first = self._first, b""
        return first or await self._reader.readany()

    def _read_nowait(self, size: int) -> bytes:
        """What has arrived, as aiohttp's readers give it out after a failure."""
        return self._reader._read_nowait(size)  # noqa: SLF001


ByteReader = aiohttp.StreamReader | RewoundReader


async def peek(response: aiohttp.ClientResponse) -> tuple[bool, ByteReader]:
    """Whether the body is JSON instead of an event stream, and a reader of the whole body.

    Some servers answer a request for a stream with a whole completion, or with an error and status 200.
    """
    if response.content_type == "text/event-stream":
        return False, response.content
    first = b""
    while not first.strip() and len(first) < MAX_LEADING_BYTES and (chunk := await response.content.readany()):
        first += chunk
    begin = first.removeprefix(codecs.BOM_UTF8).lstrip()
    return begin.startswith((b"{", b"[")), RewoundReader(first, response.content)


async def read_body(reader: ByteReader) -> bytes:
    """The whole body of an answer that is not streamed."""
    body = bytearray()
    while chunk := await reader.readany():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise ProviderBroken("The provider sent an answer that is too long.")
    return bytes(body)


# -- The transport -----------------------------------------------------------------------------------------------------

_RAW_RESPONSE = "baio_raw_response"

_UNCOMPRESSED = frozenset({"", "identity", "none", "utf-8"})
"""The values of Content-Encoding with which servers send uncompressed bodies; only the second is valid."""


def new_client(
    allowed_headers: frozenset[bytes], *, keep_alive: bool = True, proxy: str | None = None
) -> httpx2.AsyncClient:
    """An HTTP client for all users, which sends only these headers (in lower case) and those HTTP needs.

    It trusts the certificate authorities of the machine, or only those in ``SSL_CERT_FILE``. No other variable of the
    environment changes what it does.
    """
    needed = {b"host", b"accept", b"content-type", b"content-length", b"user-agent"}
    transport = _StatelessTransport(allowed_headers | needed, keep_alive=keep_alive, proxy=proxy)
    return httpx2.AsyncClient(transport=transport, follow_redirects=False, trust_env=False)


def raw_response(response: httpx2.Response) -> aiohttp.ClientResponse:
    """The response of aiohttp, whose bytes are read directly: the layers above it only cost time for each chunk."""
    raw: aiohttp.ClientResponse = response.extensions[_RAW_RESPONSE]
    return raw


@final
class _StatelessTransport(httpx2.AsyncBaseTransport):
    """openai's aiohttp transport, without any state that users would share, and with bounded responses.

    It keeps no cookies (one user's would be sent with the next user's key), sends only the allowed headers (the SDK
    adds some from the environment), and refuses compressed responses (a small one can decompress to any size).
    """

    def __init__(self, allowed_headers: frozenset[bytes], *, keep_alive: bool, proxy: str | None) -> None:
        self._inner = AiohttpTransport(client=self._session)
        self._allowed_headers = allowed_headers
        self._keep_alive = keep_alive
        self._proxy = proxy

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=httpx2.create_ssl_context(), force_close=not self._keep_alive),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=self._proxy,
            trust_env=False,
            auto_decompress=False,
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send only the allowed headers, and limit how much of the response is read."""
        kept = [(name, value) for name, value in request.headers.raw if name.lower() in self._allowed_headers]
        request.headers = httpx2.Headers([*kept, (b"accept-encoding", b"identity")])
        try:
            response = await self._inner.handle_async_request(request)
        except httpx2.TimeoutException as error:
            # The inner transport reports every failed connection as a timeout, even a refused one.
            if isinstance(error.__cause__, TimeoutError):
                raise
            raise httpx2.ConnectError("no connection") from error.__cause__
        encodings = response.headers.get_list("content-encoding", split_commas=True)
        if not _UNCOMPRESSED.issuperset(encoding.strip().lower() for encoding in encodings):
            await response.aclose()
            raise httpx2.RemoteProtocolError("the response is compressed, which was not requested")
        stream: Any = response.stream
        response.extensions[_RAW_RESPONSE] = stream._aiohttp_response  # noqa: SLF001
        # The SDK reads every response that is not an event stream to its end.
        if response.status_code >= HTTPStatus.MULTIPLE_CHOICES:
            response.stream = _TruncatedStream(response.stream, MAX_ERROR_BODY_BYTES)  # type: ignore[arg-type]
        elif request.method == "GET":
            response.stream = _TruncatedStream(response.stream, MAX_BODY_BYTES)  # type: ignore[arg-type]
        return response

    async def aclose(self) -> None:
        """Close the session."""
        await self._inner.aclose()


class _TruncatedStream(httpx2.AsyncByteStream):
    """The first bytes of a stream."""

    def __init__(self, stream: httpx2.AsyncByteStream, max_bytes: int) -> None:
        self._stream = stream
        self._max_bytes = max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        remaining = self._max_bytes
        async for chunk in self._stream:
            yield chunk[:remaining]
            remaining -= len(chunk)
            if remaining <= 0:
                return

    async def aclose(self) -> None:
        await self._stream.aclose()
