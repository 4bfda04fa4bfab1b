"""Shared by the gateways over HTTP: a client that keeps users apart, and bounds of what is read."""

import asyncio
import codecs
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import partial
from http import HTTPStatus
from importlib import import_module
from importlib.metadata import version
from types import MappingProxyType, ModuleType
from typing import Any, final

import aiohttp
import httpx2
import msgspec
from aiohttp.client_proto import ResponseHandler

from baio_adapters.llm.refusals import refusal, translate_error
from baio_domain.errors import ProviderBroken

MAX_ERROR_BODY_BYTES = 64 * 1024
"""How many bytes of an error's body are read."""

MAX_BODY_BYTES = 8 * 1024 * 1024
"""The longest body of an answer that is not streamed, or of a list of models, in bytes."""

MAX_LEADING_BYTES = 64 * 1024
"""How many blank bytes are read to find out whether a body is an event stream."""

MAX_HEADER_BYTES = 64 * 1024
"""The longest header of a response: proxies and firewalls send policies and cookies of more than aiohttp's 8 KiB."""

KEEP_ALIVE_SECONDS = 4.0
"""How long an unused connection is kept. Servers that run on uvicorn or Node close theirs after 5 seconds, and a
question that is sent in that moment is lost: it can't be sent again, for it may cost twice."""

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


# -- The SDKs ----------------------------------------------------------------------------------------------------------


async def load_sdk(name: str) -> ModuleType:
    """The SDK of this name. It takes 20 MiB and more to import, and no answer needs it."""
    return await asyncio.to_thread(import_module, name)


def sdk_headers(package: str, client: str) -> dict[str, str]:
    """The headers with which an SDK sends JSON, for the same requests without it."""
    return {
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "user-agent": f"{client}/Python {version(package)}",
    }


def url_of(base_url: str, path: str) -> str:
    """The URL of a path under a base URL, which may have a query. What is percent-encoded in it stays so."""
    base = httpx2.URL(base_url)
    before, mark, query = base.raw_path.partition(b"?")
    return str(base.copy_with(raw_path=before.rstrip(b"/") + b"/" + path.encode() + mark + query))


# -- The client --------------------------------------------------------------------------------------------------------

_UNCOMPRESSED = frozenset({"", "identity", "none", "utf-8"})
"""The values of Content-Encoding with which servers send uncompressed bodies; only the second is valid."""

_NEEDED = frozenset({"host", "accept", "content-type", "content-length", "user-agent"})
"""The headers that HTTP needs, and those which say what is sent."""


@final
class Client:
    """The connections to one provider, which all users share without any state.

    It keeps no cookies (one user's would be sent with the next user's key), follows no redirects, refuses compressed
    responses (a small one can decompress to any size), and sends only what HTTP needs and ``allowed_headers`` (in
    lower case), no others: the SDKs add some from the environment. Only connecting has a time limit.

    It trusts the certificate authorities of the machine, or only those in ``SSL_CERT_FILE``. No other variable of the
    environment changes what it does.
    """

    def __init__(
        self,
        allowed_headers: frozenset[str],
        *,
        connect_seconds: float,
        keep_alive: bool = True,
        proxy: str | None = None,
    ) -> None:
        self._allowed_headers = allowed_headers | _NEEDED
        self._connect_seconds = connect_seconds
        self._keep_alive = keep_alive
        self._proxy = proxy
        self._open: aiohttp.ClientSession | None = None

    def sdk_options(self) -> dict[str, Any]:
        """The options with which an SDK sends its requests over these connections."""
        from openai._vendor.httpx_aiohttp import AiohttpTransport  # noqa: PLC0415 - see load_sdk

        transport = _Transport(AiohttpTransport(client=self._session), self._allowed_headers)
        return {
            "http_client": httpx2.AsyncClient(transport=transport, follow_redirects=False, trust_env=False),
            "timeout": httpx2.Timeout(None, connect=self._connect_seconds),
            "max_retries": 0,
        }

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: object,
        *,
        provider: str,
        sent: Mapping[str, str] = MappingProxyType({}),
    ) -> aiohttp.ClientResponse:
        """Send the body as JSON, and return the response before its body, which the caller reads and closes.

        The SDKs would take longer for this than BAiO for everything else about an answer. Raises the domain's error
        if there is no response or if it is a refusal. ``sent`` has the parameters that the server can refuse, by the
        names that it knows.
        """
        try:
            response = await self._session().post(
                url,
                data=msgspec.json.encode(body),
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(sock_connect=self._connect_seconds),
            )
            try:
                _refuse_compressed(response.headers.getall("content-encoding", []))
                if HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
                    return response
                said = await _beginning(response.content, MAX_ERROR_BODY_BYTES)
            except BaseException:
                response.close()
                raise
        except REQUEST_ERRORS as error:
            raise translate_error(error, provider) from None
        response.release()
        raise refusal(response.status, response.headers, said, provider, sent)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._open is not None:
            await self._open.close()

    def _session(self) -> aiohttp.ClientSession:
        if self._open is None:
            connector = aiohttp.TCPConnector(
                limit=0,
                ssl=httpx2.create_ssl_context(),
                force_close=not self._keep_alive,
                keepalive_timeout=KEEP_ALIVE_SECONDS if self._keep_alive else None,
            )
            connector._factory = partial(_Connection, loop=asyncio.get_running_loop())  # type: ignore[assignment]  # noqa: SLF001
            self._open = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                proxy=self._proxy,
                trust_env=False,
                auto_decompress=False,
                max_line_size=MAX_HEADER_BYTES,
                max_field_size=MAX_HEADER_BYTES,
            )
        return self._open


class _Connection(ResponseHandler):
    """aiohttp's protocol, which would resume reading after every read, whether it was paused or not."""

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's signature
        if self._reading_paused:
            super().resume_reading(resume_parser)


def _refuse_compressed(encodings: Iterable[str]) -> None:
    if not _UNCOMPRESSED.issuperset(each.strip().lower() for value in encodings for each in value.split(",")):
        raise httpx2.RemoteProtocolError("the response is compressed, which was not requested")


async def _beginning(reader: ByteReader, max_bytes: int) -> bytes:
    body = b""
    while len(body) < max_bytes and (chunk := await reader.readany()):
        body += chunk
    return body[:max_bytes]


@final
class _Transport(httpx2.AsyncBaseTransport):
    """openai's aiohttp transport for an SDK, with the client's limits."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, allowed_headers: frozenset[str]) -> None:
        self._inner = inner
        self._allowed_headers = allowed_headers

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send only the allowed headers, and limit how much of the response is read."""
        kept = [(name, value) for name, value in request.headers.items() if name in self._allowed_headers]
        request.headers = httpx2.Headers([*kept, ("accept-encoding", "identity")])
        try:
            response = await self._inner.handle_async_request(request)
        except httpx2.TimeoutException as error:
            # The inner transport reports every failed connection as a timeout, even a refused one.
            if isinstance(error.__cause__, TimeoutError):
                raise
            raise httpx2.ConnectError("no connection") from error.__cause__
        try:
            _refuse_compressed(response.headers.get_list("content-encoding"))
        except httpx2.RemoteProtocolError:
            await response.aclose()
            raise
        # The SDK reads every response to its end.
        refused = response.status_code >= HTTPStatus.MULTIPLE_CHOICES
        response.stream = _TruncatedStream(
            response.stream,  # type: ignore[arg-type]
            MAX_ERROR_BODY_BYTES if refused else MAX_BODY_BYTES,
        )
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
