"""Shared by the gateways over HTTP: a client that keeps users apart, and the meaning of errors."""

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, final

import aiohttp
import httpx2
from openai._vendor.httpx_aiohttp import AiohttpTransport

from baio_domain.errors import (
    BaioError,
    KeyRefused,
    ModelRefused,
    PromptRefused,
    PromptTooLong,
    ProviderBroken,
    ProviderRateLimited,
    ProviderTooSlow,
)

logger = logging.getLogger("baio.providers")

MAX_ERROR_BODY_BYTES = 64 * 1024
"""How many bytes of an error's body are read."""

MAX_BODY_BYTES = 8 * 1024 * 1024
"""The longest body of an answer that is not streamed, or of a list of models, in bytes."""

DEFAULT_CONTEXT_WINDOW = 8_192
"""The context window, in tokens, that is assumed for a model when the provider does not state it."""

REQUEST_ERRORS = (httpx2.HTTPError, aiohttp.ClientError, OSError, ValueError)
"""What a request can raise besides the SDK's own errors; ValueError includes a body that isn't JSON."""


def reject_unknown_quirks(quirks: frozenset[str], known: frozenset[str]) -> None:
    """Raise ValueError for a quirk that the gateway does not know."""
    if unknown := quirks - known:
        available = ", ".join(sorted(known)) or "none"
        raise ValueError(f"unknown quirk {', '.join(map(repr, sorted(unknown)))}; available: {available}")


# -- The transport -----------------------------------------------------------------------------------------------------

_RAW_RESPONSE = "baio_raw_response"

_UNCOMPRESSED = frozenset({"", "identity", "none", "utf-8"})
"""The values of Content-Encoding with which servers send uncompressed bodies; only the second is valid."""


def new_client(allowed_headers: frozenset[bytes], *, keep_alive: bool = True) -> httpx2.AsyncClient:
    """An HTTP client for all users, which sends only these headers (in lower case) and those HTTP needs."""
    needed = {b"host", b"accept", b"content-type", b"content-length", b"user-agent"}
    transport = _StatelessTransport(allowed_headers | needed, keep_alive=keep_alive)
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

    def __init__(self, allowed_headers: frozenset[bytes], *, keep_alive: bool) -> None:
        self._inner = AiohttpTransport(client=self._session)
        self._allowed_headers = allowed_headers
        self._keep_alive = keep_alive

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=httpx2.create_ssl_context(), force_close=not self._keep_alive),
            cookie_jar=aiohttp.DummyCookieJar(),
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
            raise httpx2.ConnectError("no connection") from None
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


# -- Errors ------------------------------------------------------------------------------------------------------------

ERROR_BY_STATUS: Mapping[int | None, type[BaioError]] = {
    HTTPStatus.BAD_REQUEST: PromptRefused,
    HTTPStatus.UNAUTHORIZED: KeyRefused,
    HTTPStatus.PAYMENT_REQUIRED: KeyRefused,
    HTTPStatus.FORBIDDEN: KeyRefused,
    HTTPStatus.NOT_FOUND: ModelRefused,
    HTTPStatus.REQUEST_TIMEOUT: ProviderTooSlow,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: PromptTooLong,
    HTTPStatus.UNPROCESSABLE_ENTITY: PromptRefused,
    HTTPStatus.TOO_MANY_REQUESTS: ProviderRateLimited,
    HTTPStatus.GATEWAY_TIMEOUT: ProviderTooSlow,
}
"""What a status means when the body does not say more; any other status is ProviderBroken."""

ErrorMapper = Callable[[int | None, object, httpx2.Headers | None], BaioError]
"""Maps a protocol's error to the domain's, from status, body and headers; in mid-stream only the body is not None."""


def translate_error(error: Exception, map_error: ErrorMapper) -> BaioError:
    """The domain's error for an SDK's, logged without any of the provider's own words.

    The SDKs of OpenAI and Anthropic come from the same generator: an error response has a ``response`` and a ``body``.
    """
    response = getattr(error, "response", None)
    if isinstance(response, httpx2.Response):
        code = safe_code(getattr(error, "code", None)) or safe_code(getattr(error, "type", None))
        request_id = safe_code(getattr(error, "request_id", None))
        logger.info(
            "provider refused",
            extra={"status": response.status_code, "code": code, "provider_request_id": request_id},
        )
        return map_error(response.status_code, getattr(error, "body", None), response.headers)
    # Only its class is logged: the text of an exception can contain the key.
    if isinstance(error.__cause__, httpx2.TimeoutException):
        logger.info("provider too slow", extra={"cause": type(error).__name__})
        return ProviderTooSlow("Connecting to the provider took too long.")
    logger.info("provider broken", extra={"cause": type(error).__name__})
    return ProviderBroken("The provider can't be reached, or closed the connection early.")


def safe_code(value: object) -> str | None:
    """The value if it looks like a machine-readable code, else None: free text could contain anything."""
    safe = isinstance(value, str) and len(value) <= 64 and value.replace("_", "").replace("-", "").isalnum()
    return str(value) if safe else None


def retry_after(headers: httpx2.Headers | None) -> float | None:
    """The ``Retry-After`` header in seconds, at most a day; None if it is missing or not valid."""
    value = headers.get("retry-after", "") if headers is not None else ""
    try:
        seconds = (
            float(value)
            if value.replace(".", "", 1).isdecimal()
            else parsedate_to_datetime(value).timestamp() - time.time()
        )
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), 86_400.0)
