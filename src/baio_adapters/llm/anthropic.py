"""Anthropic's messages: anthropic's client for requests and errors, the stream decoded from its raw bytes.

The package takes more than a second to import: that happens when somebody first asks, beside the event loop.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, final

import aiohttp
import httpx2
import msgspec

from baio_adapters.llm import http
from baio_domain.entities import Model, ModelSpec, ProviderSpec, Usage
from baio_domain.errors import (
    BaioError,
    KeyRefused,
    ModelRefused,
    PromptTooLong,
    ProviderBroken,
    ProviderRateLimited,
    ProviderTooSlow,
)
from baio_domain.ports import Finished, GatewayOptions, LLMGateway
from baio_domain.prompts import Turn

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

if find_spec("anthropic") is None:
    raise ModuleNotFoundError("No module named 'anthropic'", name="anthropic")

# At DEBUG, which the environment can ask for, the client writes whole requests.
logging.getLogger("anthropic").setLevel(logging.WARNING)

ANTHROPIC = ProviderSpec(
    "Anthropic",
    (
        ModelSpec("claude-sonnet-5-5", "Claude Sonnet 5.5", 1_000_000, 128_000, tools=True),
        ModelSpec("claude-opus-5-5", "Claude Opus 5.5", 1_000_000, 128_000, tools=True),
        ModelSpec("claude-haiku-5-5", "Claude Haiku 5.5", 1_000_000, 128_000, tools=True),
    ),
)
"""Source of the figures: the models' pages on platform.claude.com."""

MODELS_PAGE_SIZE = 1000
"""How many models one page of Anthropic's list can hold, which is more than there are."""


@final
class AnthropicGateway(LLMGateway):
    """Anthropic, or a server that speaks its protocol at ``base_url`` (with or without ``/v1`` at its end).

    One HTTP client for all users, a key per call. Every server of this protocol can stream, so every model does.
    """

    def __init__(self, options: GatewayOptions) -> None:
        http.require_known(options.quirks, frozenset())
        self.provider = options.provider or ANTHROPIC
        self._options = options
        self._made: AsyncAnthropic | None = None

    async def _client(self) -> "tuple[AsyncAnthropic, Any]":
        """The client, and its package."""
        package = sys.modules.get("anthropic.types") and sys.modules["anthropic"]
        if package is None:
            package = await asyncio.to_thread(import_module, "anthropic")
        options = self._options
        self._made = self._made or package.AsyncAnthropic(
            # Without a key of its own the client would look for one on this server; it is never sent.
            api_key="no-key-of-this-server",
            base_url=(options.base_url or "https://api.anthropic.com").removesuffix("/").removesuffix("/v1"),
            max_retries=0,
            timeout=httpx2.Timeout(None, connect=options.connect_seconds),
            http_client=http.client(frozenset({b"x-api-key", b"anthropic-version"})),
            open_telemetry=False,
        )
        return self._made, package

    async def stream(self, *, key: str, model: Model, prompt: Sequence[Turn]) -> AsyncGenerator[str | Finished, None]:
        """Ask for a message and decode it as it arrives."""
        client, package = await self._client()
        try:
            # post, as create would walk through every message to transform what needs no transforming.
            answered = await client.post(
                "/v1/messages",
                body=_question(model, prompt),
                options={"headers": {"X-Api-Key": key}},
                cast_to=package.types.Message,
                stream=True,
                stream_cls=package.AsyncStream[package.types.RawMessageStreamEvent],
            )
        except (package.AnthropicError, *http.UNREACHABLE) as error:
            raise http.failure(error, _refusal) from None
        # Only this is needed from here on; what the client has built around it goes, for as long as the answer takes.
        response = http.body_of(answered.response)
        del answered
        try:
            async for item in http.events(response.content, _Reading()):
                yield item
        except (aiohttp.ClientError, OSError) as error:
            raise http.failure(error, _refusal) from None
        finally:
            response.close()

    async def check_key(self, *, key: str) -> bool:
        """Ask for the models, which Anthropic gives only to those who may use them."""
        await self.list_models(key=key)
        return True

    async def list_models(self, *, key: str) -> list[ModelSpec] | None:
        """Ask for the models, and how much each can read and write."""
        client, package = await self._client()
        try:
            response = await client.get(
                "/v1/models",
                options={"headers": {"X-Api-Key": key}, "params": {"limit": MODELS_PAGE_SIZE}},
                cast_to=httpx2.Response,
            )
            listed = msgspec.json.decode(response.content, type=_Models).data
        except (package.AnthropicError, *http.UNREACHABLE) as error:
            raise http.failure(error, _refusal) from None
        return [each.spec() for each in listed if each.lifecycle != "retired"]

    async def aclose(self) -> None:
        """Close the HTTP client."""
        if self._made is not None:
            await self._made.close()


def gateway(options: GatewayOptions) -> LLMGateway:
    """Anthropic's gateway."""
    return AnthropicGateway(options)


def _question(model: Model, prompt: Sequence[Turn]) -> dict[str, object]:
    """The body of a request.

    The system message has a field of its own; the others begin with a user's, take turns, and are not blank.
    """
    system: list[str] = []
    messages: list[dict[str, str]] = []
    for turn in prompt:
        if not turn.content.strip():
            continue
        if turn.role == "system":
            system.append(turn.content)
        elif messages and messages[-1]["role"] == turn.role:
            messages[-1]["content"] += "\n\n" + turn.content
        elif messages or turn.role == "user":
            messages.append({"role": turn.role, "content": turn.content})
    body: dict[str, object] = {
        "model": model.identifier,
        "max_tokens": model.max_output_tokens,
        "messages": messages,
        "stream": True,
    }
    if system:
        body["system"] = "\n\n".join(system)
    return body


# -- The models --------------------------------------------------------------------------------------------------------


class _Listed(msgspec.Struct):
    id: str
    display_name: str | None = None
    lifecycle: str | None = None
    max_input_tokens: int | None = None
    max_tokens: int | None = None

    def spec(self) -> ModelSpec:
        window = self.max_input_tokens or http.DEFAULT_CONTEXT_WINDOW
        return ModelSpec(
            self.id, self.display_name or self.id, window, max_output_tokens=self.max_tokens or window // 4
        )


class _Models(msgspec.Struct):
    data: list[_Listed]


# -- The stream --------------------------------------------------------------------------------------------------------


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None


class _Delta(msgspec.Struct, gc=False):
    """Of a block of text or of the message; what other blocks bring, such as thinking, has other names."""

    text: str | None = None
    stop_reason: str | None = None


class _Start(msgspec.Struct, gc=False):
    model: str | None = None
    usage: _Usage | None = None


class _Event(msgspec.Struct, gc=False):
    type: str
    delta: _Delta | None = None
    content_block: _Delta | None = None
    message: _Start | None = None
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Event).decode

_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
    "tool_use": "tool_calls",
}
"""Anthropic's reasons in OpenAI's terms."""


class _Reading(http.Reading):
    __slots__ = ()

    def read(self, data: bytes) -> str:
        """The text of one event, after keeping what else it says."""
        try:
            event = _decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise ProviderBroken("The provider sent what is not an event.") from None
        if event.type == "content_block_delta":
            return event.delta.text or "" if event.delta is not None else ""
        if event.error is not None:
            raise _refusal(None, {"error": event.error}, None)
        if event.message is not None:
            self.model = event.message.model
            self._count(event.message.usage)
        self._count(event.usage)
        if event.delta is not None and event.delta.stop_reason is not None:
            self.finish_reason = _REASONS.get(event.delta.stop_reason, event.delta.stop_reason)
        self.done = event.type == "message_stop"
        return event.content_block.text or "" if event.content_block is not None else ""

    def _count(self, usage: _Usage | None) -> None:
        """Keep the newest counts, which are cumulative; what a cache has read or written is part of the prompt."""
        if usage is None:
            return
        before = self.usage or Usage(0, 0)
        asked = (usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens)
        said = before.completion_tokens if usage.output_tokens is None else usage.output_tokens
        self.usage = Usage(before.prompt_tokens if asked[0] is None else sum(each or 0 for each in asked), said)


# -- Errors ------------------------------------------------------------------------------------------------------------

_ERROR_BY_CODE: dict[str | None, type[BaioError]] = {
    "authentication_error": KeyRefused,
    "permission_error": KeyRefused,
    "billing_error": KeyRefused,
    "organization_on_hold": KeyRefused,
    "not_found_error": ModelRefused,
    "request_too_large": PromptTooLong,
    "rate_limit_error": ProviderRateLimited,
    "timeout_error": ProviderTooSlow,
    "api_error": ProviderBroken,
    "overloaded_error": ProviderBroken,
}

_ERROR_BY_WORDS: dict[str, type[BaioError]] = {
    "prompt is too long": PromptTooLong,
    "exceed context limit": PromptTooLong,
    "credit balance is too low": KeyRefused,
    "api usage limits": KeyRefused,
}
"""Some of what an ``invalid_request_error`` can mean has no code, and only its message says it."""

_USED_UP = {"enforced_spend_limit_reached", "contract_spend_limit_reached"}


class _Details(msgspec.Struct):
    error_code: str | None = None


class _Error(msgspec.Struct):
    type: str | None = None
    message: str = ""
    details: _Details | None = None


class _Refused(msgspec.Struct):
    error: _Error


def _refusal(status: int | None, body: object, headers: httpx2.Headers | None) -> BaioError:
    """What a status, or an error event in the stream, means to the user; in our words, never in the provider's.

    Source: Anthropic's error types and codes; they say more than the status, and a code more than a type.
    """
    try:
        error = msgspec.convert(body, _Refused).error
    except msgspec.ValidationError:
        error = _Error()
    code = error.details.error_code if error.details is not None else None
    said = error.message.lower()
    kind = (
        _ERROR_BY_CODE.get(code)
        or next((kind for words, kind in _ERROR_BY_WORDS.items() if words in said), None)
        or _ERROR_BY_CODE.get(error.type)
        or http.ERROR_BY_STATUS.get(status, ProviderBroken)
    )
    if kind is not ProviderRateLimited:
        return kind()
    detail = "This key's quota with the provider is used up." if code in _USED_UP else None
    return kind(detail, retry_after=http.retry_after(headers))
