"""OpenAI's chat completions: openai's client for requests and errors, the stream decoded from its raw bytes.

The client's own iterator builds pydantic models, at a hundred times the cost of the structs below; per chunk nothing
else matters as much.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from json import JSONDecodeError, loads
from typing import Any, final

import aiohttp
import httpx2
import msgspec
import openai
from openai._vendor.httpx_aiohttp import AiohttpTransport
from openai.types.chat import ChatCompletionChunk

from baio_domain.entities import Model, ModelSpec, ProviderSpec, Usage
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
from baio_domain.ports import Finished, GatewayOptions, LLMGateway
from baio_domain.prompts import Turn

logger = logging.getLogger("baio.providers")

LONGEST_LINE = 1024 * 1024
"""Bytes of one event; a provider that sends more on one line is broken."""

LONGEST_ERROR = 64 * 1024
"""Bytes of an error's body that are read."""

LAST_WORDS_SECONDS = 5.0
"""How long the token counts are waited for once the answer is finished."""

LAST_BYTES_SECONDS = 0.1
"""How long the end of the response is waited for once the provider has said that it is done."""

LONGEST_BODY = 8 * 1024 * 1024
"""Bytes of an answer that comes in one piece, and of a list of models."""

GUESSED_WINDOW = 8_192
"""Tokens that a model is believed to read when nobody says how many."""

QUIRKS = frozenset({"no-stream-options", "no-keep-alive", "public-models"})
"""What can be peculiar about a server: it refuses ``stream_options``; it closes, or spoils, a connection that was used;
it lists its models to everybody, so that the list tells nothing about a key."""

OPENAI = ProviderSpec(
    "OpenAI",
    (
        ModelSpec("gpt-4o", "GPT-4o", context_window=128_000, longest_answer=16_384, tools=True),
        ModelSpec("gpt-4o-mini", "GPT-4o mini", context_window=128_000, longest_answer=16_384, tools=True),
        ModelSpec("o1-preview", "OpenAI o1-preview", 128_000, 32_768, system_role=False),
        ModelSpec("o1-mini", "OpenAI o1-mini", 128_000, 65_536, system_role=False),
    ),
)

_RESPONSE = "baio_response"

_SENT_HEADERS = {b"host", b"accept", b"authorization", b"content-type", b"content-length", b"user-agent"}


@final
class OpenAIGateway(LLMGateway):
    """OpenAI, or a server that speaks its protocol at ``base_url``. One HTTP client for all users, a key per call."""

    def __init__(self, options: GatewayOptions) -> None:
        if unknown := options.quirks - QUIRKS:
            raise ValueError(f"no such quirk: {', '.join(sorted(unknown))}; there are {', '.join(sorted(QUIRKS))}")
        self.provider = options.provider or OPENAI
        self._quirks = options.quirks
        self._client = openai.AsyncOpenAI(
            # The client wants a key of its own; each call brings the user's, and this one is refused everywhere.
            api_key="no-key-of-this-server",
            base_url=options.base_url or "https://api.openai.com/v1",
            max_retries=0,
            timeout=httpx2.Timeout(None, connect=options.connect_seconds),
            http_client=openai.DefaultAioHttpClient(
                transport=_Transport(keep_alive="no-keep-alive" not in options.quirks),
                follow_redirects=False,
                trust_env=False,
            ),
        )

    async def stream(self, *, key: str, model: Model, prompt: Sequence[Turn]) -> AsyncGenerator[str | Finished, None]:
        """Ask for a completion and decode it as it arrives."""
        body: dict[str, object] = {
            "model": model.identifier,
            "messages": [{"role": turn.role, "content": turn.content} for turn in prompt],
        }
        if model.streaming:
            body["stream"] = True
            if "no-stream-options" not in self._quirks:
                body["stream_options"] = {"include_usage": True}
        try:
            # post, as create would walk through every message to transform what needs no transforming.
            answered = await self._client.post(
                "/chat/completions",
                body=body,
                options={"headers": {"Authorization": f"Bearer {key}"}},
                cast_to=ChatCompletionChunk,
                stream=True,
                stream_cls=openai.AsyncStream[ChatCompletionChunk],
            )
        except openai.OpenAIError as error:
            raise _refusal(error) from None
        except (httpx2.HTTPError, aiohttp.ClientError, OSError, ValueError) as error:
            raise _broken(error) from None
        # Only this is needed from here on; what the client has built around it goes, for as long as the answer takes.
        response: aiohttp.ClientResponse = answered.response.extensions[_RESPONSE]
        del answered, body
        try:
            if model.streaming:
                async for item in _events(response.content):
                    yield item
            else:
                for item in _whole(await _body(response.content)):
                    yield item
        except (aiohttp.ClientError, OSError) as error:
            raise _broken(error) from None
        finally:
            response.close()

    async def check_key(self, *, key: str) -> bool:
        """Ask for the models, which most servers give only to those who may use them."""
        await self.list_models(key=key)
        return "public-models" not in self._quirks

    async def list_models(self, *, key: str) -> list[ModelSpec] | None:
        """Ask for the models; some servers say how much each can read."""
        try:
            response = await self._client.get(
                "/models", options={"headers": {"Authorization": f"Bearer {key}"}}, cast_to=httpx2.Response
            )
            return [each.spec() for each in msgspec.json.decode(response.content, type=_Models).data]
        except openai.OpenAIError as error:
            raise _refusal(error) from None
        except (httpx2.HTTPError, aiohttp.ClientError, OSError, ValueError) as error:  # msgspec's among the last
            raise _broken(error) from None

    async def aclose(self) -> None:
        """Close the HTTP client."""
        await self._client.close()


def gateway(options: GatewayOptions) -> LLMGateway:
    """OpenAI's gateway."""
    return OpenAIGateway(options)


# -- The models --------------------------------------------------------------------------------------------------------


class _Meta(msgspec.Struct):
    n_ctx_train: int | None = None


class _Listed(msgspec.Struct):
    """A model as a server lists it; how much it can read has a name of its own with each kind of server."""

    id: str
    context_length: int | None = None  # OpenRouter
    context_window: int | None = None  # Groq
    max_model_len: int | None = None  # vLLM
    max_context_length: int | None = None  # Mistral
    meta: _Meta | None = None  # llama.cpp

    def spec(self) -> ModelSpec:
        of_llama = self.meta.n_ctx_train if self.meta else None
        stated = self.context_length or self.context_window or self.max_model_len or self.max_context_length or of_llama
        window = stated or GUESSED_WINDOW
        return ModelSpec(self.id, self.id, context_window=window, longest_answer=window // 4)


class _Models(msgspec.Struct):
    data: list[_Listed]


# -- The stream --------------------------------------------------------------------------------------------------------


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    finish_reason: str | None = None
    index: int = 0


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Event(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    model: str | None = None
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Event).decode


class _State:
    """What has been learnt from the events so far."""

    __slots__ = ("done", "finish_reason", "give_up_at", "half", "model", "usage")

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.model: str | None = None
        self.usage: Usage | None = None
        self.done = False
        self.give_up_at: float | None = None
        self.half = ""  # the first half of a character that was sent in two events

    def read_lines(self, lines: Iterable[bytes]) -> str:
        """The text of these lines of the stream, up to the one that ends it."""
        text = ""
        for line in () if self.done else lines:
            if line.startswith(b"data:"):
                data = line[5:].strip()
                if data == b"[DONE]":
                    self.done = True
                    break
                text += self.read(data)
        return text

    def read(self, data: bytes) -> str:
        """The text of one event, after keeping what else it says."""
        try:
            event = _decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            event = self._decode_leniently(data)
        if event.error is not None:
            raise _refusal_of(None, event.error, None)
        if event.usage is not None:
            self.usage = Usage(event.usage.prompt_tokens, event.usage.completion_tokens)
        if event.model:
            self.model = event.model
        text = ""
        for choice in event.choices or ():
            if choice.index == 0:
                if choice.delta is not None:
                    text += choice.delta.content or choice.delta.refusal or ""
                self.finish_reason = choice.finish_reason or self.finish_reason
        return text

    def _decode_leniently(self, data: bytes) -> _Event:
        # Some servers escape a character outside the basic plane as two halves, even in two events.
        try:
            event = msgspec.convert(loads(data), _Event)
        except (JSONDecodeError, UnicodeDecodeError, RecursionError, msgspec.ValidationError):
            raise ProviderBroken("The provider sent what is not an event.") from None
        for choice in event.choices or ():
            if choice.delta is not None and choice.delta.content:
                content = self.half + choice.delta.content
                self.half = content[-1] if "\ud800" <= content[-1] <= "\udbff" else ""
                content = content.removesuffix(self.half) if self.half else content
                choice.delta.content = content.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return event


async def _events(reader: aiohttp.StreamReader) -> AsyncGenerator[str | Finished, None]:
    """The text of a server-sent event stream, joined over what one read brought, then how it finished."""
    state, pending = _State(), bytearray()
    while chunk := await (reader.readany() if state.finish_reason is None else _last_words(reader, state)):
        if pending or not chunk.endswith(b"\n"):
            pending += chunk
            end = pending.rfind(b"\n", len(pending) - len(chunk)) + 1
            if len(pending) - end > LONGEST_LINE:
                raise ProviderBroken("The provider sent a line that is too long.")
            chunk = bytes(pending[:end])
            del pending[:end]
        text = state.read_lines(chunk.split(b"\n"))
        if text:
            yield text
    text = state.read_lines([bytes(pending)])  # a last line that nothing ended
    if text:
        yield text
    if state.finish_reason is not None:
        yield Finished(state.finish_reason, state.model, state.usage)


class _Message(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _WholeChoice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Whole(msgspec.Struct):
    choices: list[_WholeChoice]
    model: str | None = None
    usage: _Usage | None = None


def _whole(body: bytes) -> Iterator[str | Finished]:
    """The text of an answer that came in one piece, then how it finished."""
    try:
        whole = msgspec.json.decode(body, type=_Whole)
        choice = whole.choices[0]
    except (msgspec.MsgspecError, UnicodeDecodeError, IndexError):
        raise ProviderBroken("The provider sent what is not an answer.") from None
    if text := choice.message.content or choice.message.refusal:
        yield text
    if choice.finish_reason is not None:
        usage = Usage(whole.usage.prompt_tokens, whole.usage.completion_tokens) if whole.usage else None
        yield Finished(choice.finish_reason, whole.model, usage)


async def _body(reader: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    while chunk := await reader.readany():
        body += chunk
        if len(body) > LONGEST_BODY:
            raise ProviderBroken("The provider sent too much.")
    return bytes(body)


async def _last_words(reader: aiohttp.StreamReader, state: _State) -> bytes:
    """What follows a finished answer: token counts, and the end of the body, after which the connection is free again.

    Neither is worth a long wait, and nothing that goes wrong here changes the answer.
    """
    now = asyncio.get_running_loop().time()
    soon = now + (LAST_BYTES_SECONDS if state.done else LAST_WORDS_SECONDS)
    state.give_up_at = min(soon, state.give_up_at or soon)
    try:
        async with asyncio.timeout_at(state.give_up_at):
            return await reader.readany()
    except (TimeoutError, aiohttp.ClientError, OSError):
        return b""


# -- The transport -----------------------------------------------------------------------------------------------------


class _Transport(httpx2.AsyncBaseTransport):
    """openai's aiohttp transport, with what is shared between users taken out of it and the answer's size bounded.

    No cookie is kept (one user's would be sent with the next user's key), no header but the needed ones is sent (the
    client adds some from the environment), and a compressed answer is refused (a small one can be any size inside).
    """

    def __init__(self, *, keep_alive: bool) -> None:
        self._inner = AiohttpTransport(client=self._session)
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
        kept = [(name, value) for name, value in request.headers.raw if name.lower() in _SENT_HEADERS]
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
        # The bytes are read where aiohttp has them: the layers between add nothing but time to each chunk.
        body: Any = response.stream
        response.extensions[_RESPONSE] = body._aiohttp_response  # noqa: SLF001
        # What is not a stream of events, the client reads whole before it looks at it.
        if response.status_code >= HTTPStatus.MULTIPLE_CHOICES:
            response.stream = _Shortened(response.stream, LONGEST_ERROR)  # type: ignore[arg-type]
        elif request.method == "GET":
            response.stream = _Shortened(response.stream, LONGEST_BODY)  # type: ignore[arg-type]
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


def _refusal(error: openai.OpenAIError) -> BaioError:
    if isinstance(error, openai.APITimeoutError):
        logger.info("provider too slow", extra={"cause": type(error).__name__})
        return ProviderTooSlow("The provider can't be reached in time.")
    if not isinstance(error, openai.APIStatusError):
        return _broken(error)
    logger.info(
        "provider refused",
        extra={"status": error.status_code, "code": _word(error.code), "provider_request_id": _word(error.request_id)},
    )
    return _refusal_of(error.status_code, error.body, error.response.headers)


def _broken(error: Exception) -> BaioError:
    # Its class only: the text of an exception can hold the key.
    logger.info("provider broken", extra={"cause": type(error).__name__})
    return ProviderBroken("The provider can't be reached, or broke off.")


_MEANING_OF_CODE: dict[str, type[BaioError]] = {
    "context_length_exceeded": PromptTooLong,
    "exceed_context_size_error": PromptTooLong,  # llama.cpp
    "invalid_api_key": KeyRefused,
    "model_not_found": ModelRefused,
    "insufficient_quota": ProviderRateLimited,
    "rate_limit_exceeded": ProviderRateLimited,
}
_MEANING_OF_STATUS: dict[int | None, type[BaioError]] = {
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


def _refusal_of(status: int | None, body: object, headers: httpx2.Headers | None) -> BaioError:
    """What a status, or an error event in the stream, means to the user; in our words, never in the provider's.

    Source: OpenAI's error codes; the code says more than the status.
    """
    code = _word(body.get("code")) or _word(body.get("type")) if isinstance(body, dict) else None
    kind = _MEANING_OF_CODE.get(code or "") or _MEANING_OF_STATUS.get(status, ProviderBroken)
    if kind is not ProviderRateLimited:
        return kind()
    detail = "This key's quota with the provider is used up." if code == "insufficient_quota" else None
    return kind(detail, retry_after=_retry_after(headers))


def _word(value: object) -> str | None:
    """A code that a program wrote, as far as it looks like one: free text could hold anything."""
    plain = isinstance(value, str) and len(value) <= 64 and value.replace("_", "").replace("-", "").isalnum()
    return str(value) if plain else None


def _retry_after(headers: httpx2.Headers | None) -> float | None:
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
