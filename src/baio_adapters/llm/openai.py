"""OpenAI's chat completions: openai's client for requests and errors, the stream decoded from its raw bytes."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from json import JSONDecodeError, loads
from typing import Any, final

import aiohttp
import httpx2
import msgspec
import openai
from openai.types.chat import ChatCompletionChunk

from baio_adapters.llm import http
from baio_domain.entities import Model, ModelSpec, ProviderSpec, Usage
from baio_domain.errors import (
    BaioError,
    KeyRefused,
    ModelRefused,
    PromptTooLong,
    ProviderBroken,
    ProviderRateLimited,
)
from baio_domain.ports import Finished, GatewayOptions, LLMGateway
from baio_domain.prompts import Turn

QUIRKS = frozenset({"no-stream-options", "no-keep-alive", "public-models"})
"""What can be peculiar about a server: it refuses ``stream_options``; it closes, or spoils, a connection that was used;
it lists its models to everybody, so that the list tells nothing about a key."""

OPENAI = ProviderSpec(
    "OpenAI",
    (
        ModelSpec("gpt-4o", "GPT-4o", context_window=128_000, max_output_tokens=16_384, tools=True),
        ModelSpec("gpt-4o-mini", "GPT-4o mini", context_window=128_000, max_output_tokens=16_384, tools=True),
        ModelSpec("o1-preview", "OpenAI o1-preview", 128_000, 32_768, system_role=False),
        ModelSpec("o1-mini", "OpenAI o1-mini", 128_000, 65_536, system_role=False),
    ),
)


@final
class OpenAIGateway(LLMGateway):
    """OpenAI, or a server that speaks its protocol at ``base_url``. One HTTP client for all users, a key per call."""

    def __init__(self, options: GatewayOptions) -> None:
        http.require_known(options.quirks, QUIRKS)
        self.provider = options.provider or OPENAI
        self._quirks = options.quirks
        self._client = openai.AsyncOpenAI(
            # The client wants a key of its own; each call brings the user's, and this one is refused everywhere.
            api_key="no-key-of-this-server",
            base_url=options.base_url or "https://api.openai.com/v1",
            max_retries=0,
            timeout=httpx2.Timeout(None, connect=options.connect_seconds),
            http_client=http.client(frozenset({b"authorization"}), keep_alive="no-keep-alive" not in options.quirks),
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
        except (openai.OpenAIError, *http.UNREACHABLE) as error:
            raise http.failure(error, _refusal) from None
        # Only this is needed from here on; what the client has built around it goes, for as long as the answer takes.
        response = http.body_of(answered.response)
        del answered, body
        try:
            if model.streaming:
                async for item in http.events(response.content, _Reading()):
                    yield item
            else:
                for item in _whole(await _body(response.content)):
                    yield item
        except (aiohttp.ClientError, OSError) as error:
            raise http.failure(error, _refusal) from None
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
        except (openai.OpenAIError, *http.UNREACHABLE) as error:
            raise http.failure(error, _refusal) from None

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
        window = stated or http.DEFAULT_CONTEXT_WINDOW
        return ModelSpec(self.id, self.id, context_window=window, max_output_tokens=window // 4)


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


class _Reading(http.Reading):
    __slots__ = ("half",)

    def __init__(self) -> None:
        super().__init__()
        self.half = ""  # the first half of a character that was sent in two events

    def read(self, data: bytes) -> str:
        """The text of one event, after keeping what else it says."""
        if data == b"[DONE]":
            self.done = True
            return ""
        try:
            event = _decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            event = self._decode_leniently(data)
        if event.error is not None:
            raise _refusal(None, event.error, None)
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
        if len(body) > http.MAX_BODY_BYTES:
            raise ProviderBroken("The provider sent too much.")
    return bytes(body)


# -- Errors ------------------------------------------------------------------------------------------------------------

_ERROR_BY_CODE: dict[str, type[BaioError]] = {
    "context_length_exceeded": PromptTooLong,
    "exceed_context_size_error": PromptTooLong,  # llama.cpp
    "invalid_api_key": KeyRefused,
    "model_not_found": ModelRefused,
    "insufficient_quota": ProviderRateLimited,
    "rate_limit_exceeded": ProviderRateLimited,
}


def _refusal(status: int | None, body: object, headers: httpx2.Headers | None) -> BaioError:
    """What a status, or an error event in the stream, means to the user; in our words, never in the provider's.

    Source: OpenAI's error codes; the code says more than the status.
    """
    code = http.word(body.get("code")) or http.word(body.get("type")) if isinstance(body, dict) else None
    kind = _ERROR_BY_CODE.get(code or "") or http.ERROR_BY_STATUS.get(status, ProviderBroken)
    if kind is not ProviderRateLimited:
        return kind()
    detail = "This key's quota with the provider is used up." if code == "insufficient_quota" else None
    return kind(detail, retry_after=http.retry_after(headers))
