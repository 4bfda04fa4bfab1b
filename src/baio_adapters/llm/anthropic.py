"""Anthropic's messages: anthropic's SDK for requests and errors, and a decoder of our own for the stream.

The SDK takes more than a second to import, so it is imported in a thread at the first request.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, final

import aiohttp
import httpx2
import msgspec

from baio_adapters.llm import http, model_lists
from baio_adapters.llm.refusals import error_in, translate_error, unreadable
from baio_adapters.llm.refusals import map_error as _map_error
from baio_domain.entities import Model, ModelSpec, ProviderSpec, Usage
from baio_domain.errors import ProviderBroken
from baio_domain.ports import Finished, GatewayOptions, LLMGateway
from baio_domain.prompts import Turn

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

if find_spec("anthropic") is None:
    raise ModuleNotFoundError("No module named 'anthropic'", name="anthropic")

# At DEBUG, which an environment variable can set, the SDK logs whole requests.
logging.getLogger("anthropic").setLevel(logging.WARNING)

ANTHROPIC = ProviderSpec(
    "Anthropic",
    (
        ModelSpec("claude-sonnet-5-5", "Claude Sonnet 5.5", 1_000_000, 128_000, tools=True),
        ModelSpec("claude-opus-5-5", "Claude Opus 5.5", 1_000_000, 128_000, tools=True),
        ModelSpec("claude-haiku-5-5", "Claude Haiku 5.5", 1_000_000, 128_000, tools=True),
    ),
)
"""Source of the numbers: the models' pages on platform.claude.com."""

MODELS_PAGE_SIZE = 1000
"""The largest page of Anthropic's list of models, which holds all of them."""


@final
class AnthropicGateway(LLMGateway):
    """Anthropic, or a server with the same protocol at ``base_url`` (which may end in ``/v1``).

    One HTTP client for all users; each call has a key. Every server with this protocol can stream, so every answer is
    streamed.
    """

    def __init__(self, options: GatewayOptions) -> None:
        http.reject_unknown_quirks(options.quirks, frozenset())
        self.provider = options.provider or ANTHROPIC
        self._options = options
        self._sdk_client: AsyncAnthropic | None = None

    async def _client(self) -> "tuple[AsyncAnthropic, Any]":
        """The SDK's client and the SDK, both loaded at the first call."""
        package = sys.modules.get("anthropic.types") and sys.modules["anthropic"]
        if package is None:
            package = await asyncio.to_thread(import_module, "anthropic")
        options = self._options
        self._sdk_client = self._sdk_client or package.AsyncAnthropic(
            # Without a key the SDK would look for one in this server's environment. This one is never sent.
            api_key="no-key-of-this-server",
            base_url=(options.base_url or "https://api.anthropic.com").removesuffix("/").removesuffix("/v1"),
            max_retries=0,
            timeout=httpx2.Timeout(None, connect=options.connect_seconds),
            http_client=http.new_client(frozenset({b"x-api-key", b"anthropic-version"}), proxy=options.proxy),
            open_telemetry=False,
        )
        return self._sdk_client, package

    async def stream(self, *, key: str, model: Model, prompt: Sequence[Turn]) -> AsyncGenerator[str | Finished, None]:
        """Request a message and decode it as it arrives."""
        client, package = await self._client()
        try:
            # Not create(): it would look through every message for something to transform, and there is nothing.
            response = await client.post(
                "/v1/messages",
                body=_request_body(model, prompt),
                options={"headers": {"X-Api-Key": key}},
                cast_to=package.types.Message,
                stream=True,
                stream_cls=package.AsyncStream[package.types.RawMessageStreamEvent],
            )
        except (package.AnthropicError, *http.REQUEST_ERRORS) as error:
            raise translate_error(error, self.provider.name) from None
        # Only the raw response is needed from here on; the SDK's objects would take memory for as long as it streams.
        raw = http.raw_response(response.response)
        del response
        try:
            whole, reader = await http.peek(raw)
            if whole:
                for item in _decode_message(await http.read_body(reader)):
                    yield item
            else:
                async for item in http.decode_stream(reader, _EventDecoder()):
                    yield item
        except (aiohttp.ClientError, OSError) as error:
            raise translate_error(error, self.provider.name) from None
        finally:
            raw.close()

    async def check_key(self, *, key: str) -> bool:
        """List the models, which Anthropic does only for a valid key."""
        await self.list_models(key=key)
        return True

    async def list_models(self, *, key: str) -> list[ModelSpec] | None:
        """List the models with their context windows and longest answers."""
        client, package = await self._client()
        try:
            response = await client.get(
                "/v1/models",
                options={"headers": {"X-Api-Key": key}, "params": {"limit": MODELS_PAGE_SIZE}},
                cast_to=httpx2.Response,
            )
        except (package.AnthropicError, *http.REQUEST_ERRORS) as error:
            raise translate_error(error, self.provider.name) from None
        return model_lists.read_models(response.content, _read_model)

    async def aclose(self) -> None:
        """Close the HTTP client."""
        if self._sdk_client is not None:
            await self._sdk_client.close()


def gateway(options: GatewayOptions) -> LLMGateway:
    """Anthropic's gateway."""
    return AnthropicGateway(options)


def _request_body(model: Model, prompt: Sequence[Turn]) -> dict[str, object]:
    """The body of a request for a message. The system message has a field of its own."""
    body: dict[str, object] = {
        "model": model.identifier,
        "max_tokens": model.max_output_tokens,
        "messages": [{"role": turn.role, "content": turn.content} for turn in prompt if turn.role != "system"],
        "stream": True,
    }
    if prompt[0].role == "system":
        body["system"] = prompt[0].content
    return body


# -- The models --------------------------------------------------------------------------------------------------------


def _read_model(identifier: str, entry: model_lists.Entry) -> ModelSpec | None:
    if entry.get("lifecycle") == "retired":
        return None
    window = model_lists.tokens(entry, "max_input_tokens") or http.DEFAULT_CONTEXT_WINDOW
    longest_answer = model_lists.tokens(entry, "max_tokens") or max(1, window // 4)
    return ModelSpec(identifier, model_lists.text(entry, "display_name") or identifier, window, longest_answer)


# -- The stream --------------------------------------------------------------------------------------------------------


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None


class _Delta(msgspec.Struct, gc=False):
    """The changes to a text block or to the message; other blocks, such as thinking, use other fields."""

    text: str | None = None
    stop_reason: str | None = None


class _MessageStart(msgspec.Struct, gc=False):
    model: str | None = None
    usage: _Usage | None = None


class _Event(msgspec.Struct, gc=False):
    type: str
    delta: _Delta | None = None
    content_block: _Delta | None = None
    message: _MessageStart | None = None
    usage: _Usage | None = None
    error: Any = None


_decode_event = msgspec.json.Decoder(_Event).decode

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
    "tool_use": "tool_calls",
}
"""Anthropic's stop reasons as OpenAI's finish reasons."""


class _EventDecoder(http.StreamDecoder):
    __slots__ = ()

    def decode_event(self, data: bytes) -> str:
        """The text of one event, after keeping its model, usage and stop reason."""
        try:
            event = _decode_event(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise ProviderBroken("The provider sent an event that is not valid.") from None
        if event.type == "content_block_delta":
            return event.delta.text or "" if event.delta is not None else ""
        if event.error is not None:
            raise _map_error(None, {"error": event.error}, None)
        if event.message is not None:
            self.model = event.message.model
            self._update_usage(event.message.usage)
        self._update_usage(event.usage)
        if event.delta is not None and event.delta.stop_reason is not None:
            self.finish_reason = _FINISH_REASONS.get(event.delta.stop_reason, event.delta.stop_reason)
        self.done = event.type == "message_stop"
        return event.content_block.text or "" if event.content_block is not None else ""

    def _update_usage(self, usage: _Usage | None) -> None:
        """Keep the newest counts, which are cumulative. Tokens read from or written to a cache belong to the prompt."""
        if usage is None:
            return
        previous = self.usage or Usage(0, 0)
        prompt_tokens, completion_tokens = previous.prompt_tokens, previous.completion_tokens
        if usage.input_tokens is not None:
            cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
            prompt_tokens = usage.input_tokens + cached
        if usage.output_tokens is not None:
            completion_tokens = usage.output_tokens
        self.usage = Usage(prompt_tokens, completion_tokens)


class _Message(msgspec.Struct):
    content: list[_Delta]
    model: str | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None


def _decode_message(body: bytes) -> Iterator[str | Finished]:
    """The text of a message that was not streamed, and then how it finished."""
    if (refusal := error_in(body)) is not None:
        raise refusal
    try:
        message = msgspec.json.decode(body, type=_Message)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise unreadable(error, "The provider sent an answer that is not valid.") from None
    if text := "".join(block.text or "" for block in message.content):
        yield text
    if message.stop_reason is not None:
        decoder = _EventDecoder()
        decoder._update_usage(message.usage)  # noqa: SLF001 - of this module
        reason = _FINISH_REASONS.get(message.stop_reason, message.stop_reason)
        yield Finished(reason, message.model, decoder.usage)
