"""What gateways over HTTP share: requests that nothing of another user's gets into, and answers read at little cost.

A client's own iterator over a stream builds pydantic models, at a hundred times the cost of the structs that a
``Reading`` decodes into; per chunk nothing else matters as much.
"""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, final

import aiohttp
import httpx2
from openai._vendor.httpx_aiohttp import AiohttpTransport

from baio_domain.entities import Usage
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
from baio_domain.ports import Finished

logger = logging.getLogger("baio.providers")

MAX_LINE_BYTES = 1024 * 1024
"""Bytes of one event; a provider that sends more on one line is broken."""

MAX_ERROR_BODY_BYTES = 64 * 1024
"""Bytes of an error's body that are read."""

USAGE_TIMEOUT_SECONDS = 5.0
"""How long the token counts are waited for once the answer is finished."""

END_OF_BODY_TIMEOUT_SECONDS = 0.1
"""How long the end of the response is waited for once the provider has said that it is done."""

MAX_BODY_BYTES = 8 * 1024 * 1024
"""Bytes of an answer that comes in one piece, and of a list of models."""

DEFAULT_CONTEXT_WINDOW = 8_192
"""Tokens that a model is believed to read when nobody says how many."""

UNREACHABLE = (httpx2.HTTPError, aiohttp.ClientError, OSError, ValueError)
"""What goes wrong between here and a provider, besides the errors of its client; a body that isn't JSON among it."""


def require_known(quirks: frozenset[str], known: frozenset[str]) -> None:
    """Raise ValueError for a quirk that the gateway does not know."""
    if unknown := quirks - known:
        there_are = ", ".join(sorted(known)) or "none"
        raise ValueError(f"no such quirk: {', '.join(sorted(unknown))}; there are {there_are}")


# -- The stream --------------------------------------------------------------------------------------------------------


class Reading(ABC):
    """What has been learnt from a stream's events so far. A protocol's own says what an event means."""

    __slots__ = ("done", "finish_reason", "give_up_at", "model", "usage")

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.model: str | None = None
        self.usage: Usage | None = None
        self.done = False
        self.give_up_at: float | None = None

    @abstractmethod
    def read(self, data: bytes) -> str:
        """The text of one event, after keeping what else it says; ``done`` is True from the last one on."""

    def read_lines(self, lines: Iterable[bytes]) -> str:
        """The text of these lines of the stream, up to the one that ends it."""
        text = ""
        for line in () if self.done else lines:
            if line.startswith(b"data:"):
                text += self.read(line[5:].strip())
                if self.done:
                    break
        return text


async def events(reader: aiohttp.StreamReader, reading: Reading) -> AsyncGenerator[str | Finished, None]:
    """The text of a server-sent event stream, joined over what one read brought, then how it finished."""
    pending = bytearray()
    while chunk := await (reader.readany() if reading.finish_reason is None else _last_words(reader, reading)):
        if pending or not chunk.endswith(b"\n"):
            pending += chunk
            end = pending.rfind(b"\n", len(pending) - len(chunk)) + 1
            if len(pending) - end > MAX_LINE_BYTES:
                raise ProviderBroken("The provider sent a line that is too long.")
            chunk = bytes(pending[:end])
            del pending[:end]
        text = reading.read_lines(chunk.split(b"\n"))
        if text:
            yield text
    text = reading.read_lines([bytes(pending)])  # a last line that nothing ended
    if text:
        yield text
    if reading.finish_reason is not None:
        yield Finished(reading.finish_reason, reading.model, reading.usage)


async def _last_words(reader: aiohttp.StreamReader, reading: Reading) -> bytes:
    """What follows a finished answer: token counts, and the end of the body, after which the connection is free again.

    Neither is worth a long wait, and nothing that goes wrong here changes the answer.
    """
    now = asyncio.get_running_loop().time()
    soon = now + (END_OF_BODY_TIMEOUT_SECONDS if reading.done else USAGE_TIMEOUT_SECONDS)
    reading.give_up_at = min(soon, reading.give_up_at or soon)
    try:
        async with asyncio.timeout_at(reading.give_up_at):
            return await reader.readany()
    except (TimeoutError, aiohttp.ClientError, OSError):
        return b""


# -- The transport -----------------------------------------------------------------------------------------------------

_RESPONSE = "baio_response"


def client(sent_headers: frozenset[bytes], *, keep_alive: bool = True) -> httpx2.AsyncClient:
    """An HTTP client for all users at once, which sends these headers (in lower case) and no others."""
    needed = {b"host", b"accept", b"content-type", b"content-length", b"user-agent"}
    transport = _Transport(sent_headers | needed, keep_alive=keep_alive)
    return httpx2.AsyncClient(transport=transport, follow_redirects=False, trust_env=False)


def body_of(response: httpx2.Response) -> aiohttp.ClientResponse:
    """Where the bytes of a response come in: the layers between add nothing but time to each chunk."""
    answered: aiohttp.ClientResponse = response.extensions[_RESPONSE]
    return answered


@final
class _Transport(httpx2.AsyncBaseTransport):
    """openai's aiohttp transport, with what is shared between users taken out of it and the answer's size bounded.

    No cookie is kept (one user's would be sent with the next user's key), no header but the needed ones is sent (the
    client adds some from the environment), and a compressed answer is refused (a small one can be any size inside).
    """

    def __init__(self, sent_headers: frozenset[bytes], *, keep_alive: bool) -> None:
        self._inner = AiohttpTransport(client=self._session)
        self._sent_headers = sent_headers
        self._keep_alive = keep_alive

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=httpx2.create_ssl_context(), force_close=not self._keep_alive),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send what is needed, and take what is bearable."""
        kept = [(name, value) for name, value in request.headers.raw if name.lower() in self._sent_headers]
        request.headers = httpx2.Headers([*kept, (b"accept-encoding", b"identity")])
        try:
            response = await self._inner.handle_async_request(request)
        except httpx2.TimeoutException as error:
            # The inner transport calls every failure to connect a time-out, a refused connection included.
            if isinstance(error.__cause__, TimeoutError):
                raise
            raise httpx2.ConnectError("no connection") from None
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise httpx2.RemoteProtocolError("a compressed answer was not asked for")
        body: Any = response.stream
        response.extensions[_RESPONSE] = body._aiohttp_response  # noqa: SLF001
        # What is not a stream of events, the client reads whole before it looks at it.
        if response.status_code >= HTTPStatus.MULTIPLE_CHOICES:
            response.stream = _Shortened(response.stream, MAX_ERROR_BODY_BYTES)  # type: ignore[arg-type]
        elif request.method == "GET":
            response.stream = _Shortened(response.stream, MAX_BODY_BYTES)  # type: ignore[arg-type]
        return response

    async def aclose(self) -> None:
        """Close the session."""
        await self._inner.aclose()


class _Shortened(httpx2.AsyncByteStream):
    """The first bytes of a body."""

    def __init__(self, whole: httpx2.AsyncByteStream, longest: int) -> None:
        self._whole = whole
        self._longest = longest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        room = self._longest
        async for chunk in self._whole:
            yield chunk[:room]
            room -= len(chunk)
            if room <= 0:
                return

    async def aclose(self) -> None:
        await self._whole.aclose()


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
"""What a refusal means whose body does not say more; any other status is ProviderBroken."""

ErrorReader = Callable[[int | None, object, httpx2.Headers | None], BaioError]
"""What a protocol's refusal means to the user: of its status and headers, None in mid-stream, and of its body."""


def failure(error: Exception, read_error: ErrorReader) -> BaioError:
    """What an error of a provider's client means to the user, logged without a word of the provider's own.

    The clients of OpenAI and Anthropic come from one generator: what answered has a ``response`` and its ``body``.
    """
    response = getattr(error, "response", None)
    if isinstance(response, httpx2.Response):
        code = word(getattr(error, "code", None)) or word(getattr(error, "type", None))
        request_id = word(getattr(error, "request_id", None))
        logger.info(
            "provider refused",
            extra={"status": response.status_code, "code": code, "provider_request_id": request_id},
        )
        return read_error(response.status_code, getattr(error, "body", None), response.headers)
    # Its class only: the text of an exception can hold the key.
    if isinstance(error.__cause__, httpx2.TimeoutException):
        logger.info("provider too slow", extra={"cause": type(error).__name__})
        return ProviderTooSlow("The provider can't be reached in time.")
    logger.info("provider broken", extra={"cause": type(error).__name__})
    return ProviderBroken("The provider can't be reached, or broke off.")


def word(value: object) -> str | None:
    """A code that a program wrote, as far as it looks like one: free text could hold anything."""
    plain = isinstance(value, str) and len(value) <= 64 and value.replace("_", "").replace("-", "").isalnum()
    return str(value) if plain else None


def retry_after(headers: httpx2.Headers | None) -> float | None:
    """The seconds that the provider asks to wait, a day at most; None where it says nothing of use."""
    said = headers.get("retry-after", "") if headers is not None else ""
    try:
        seconds = (
            float(said)
            if said.replace(".", "", 1).isdecimal()
            else parsedate_to_datetime(said).timestamp() - time.time()
        )
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), 86_400.0)
