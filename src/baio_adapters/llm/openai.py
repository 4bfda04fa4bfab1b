"""OpenAI's chat completions: openai's SDK for requests and errors, and a decoder of our own for the stream."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from json import JSONDecodeError, loads
from typing import Any, final

import aiohttp
import httpx2
import msgspec
import openai
from openai.types.chat import ChatCompletionChunk

from baio_adapters.llm import http, model_lists
from baio_adapters.llm.refusals import error_in, translate_error, unreadable
from baio_adapters.llm.refusals import map_error as _map_error
from baio_domain.entities import Model, ModelSpec, ProviderSpec, Usage
from baio_domain.errors import ProviderBroken
from baio_domain.ports import Finished, GatewayOptions, LLMGateway
from baio_domain.prompts import Turn

QUIRKS = frozenset({"no-stream-options", "no-keep-alive", "public-models"})
"""Deviations of a server from the protocol: it rejects ``stream_options``; it fails on a reused connection; it lists
its models without checking the key, so that the list says nothing about the key."""

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
    """OpenAI, or a server with its protocol at ``base_url``. One HTTP client for all users; each call has a key."""

    def __init__(self, options: GatewayOptions) -> None:
        http.reject_unknown_quirks(options.quirks, QUIRKS)
        self.provider = options.provider or OPENAI
        self._quirks = options.quirks
        keep_alive = "no-keep-alive" not in options.quirks
        self._client = openai.AsyncOpenAI(
            # The SDK requires a key. Each call overrides it with the user's, and no server accepts this one.
            api_key="no-key-of-this-server",
            base_url=options.base_url or "https://api.openai.com/v1",
            max_retries=0,
            timeout=httpx2.Timeout(None, connect=options.connect_seconds),
            http_client=http.new_client(frozenset({b"authorization"}), keep_alive=keep_alive, proxy=options.proxy),
        )

    async def stream(self, *, key: str, model: Model, prompt: Sequence[Turn]) -> AsyncGenerator[str | Finished, None]:
        """Request a completion and decode it as it arrives."""
        body: dict[str, object] = {
            "model": model.identifier,
            "messages": [{"role": turn.role, "content": turn.content} for turn in prompt],
        }
        if model.streaming:
            body["stream"] = True
            if "no-stream-options" not in self._quirks:
                body["stream_options"] = {"include_usage": True}
        try:
            # Not create(): it would look through every message for something to transform, and there is nothing.
            response = await self._client.post(
                "/chat/completions",
                body=body,
                options={"headers": {"Authorization": f"Bearer {key}"}},
                cast_to=ChatCompletionChunk,
                stream=True,
                stream_cls=openai.AsyncStream[ChatCompletionChunk],
            )
        except (openai.OpenAIError, *http.REQUEST_ERRORS) as error:
            raise translate_error(error, self.provider.name) from None
        # Only the raw response is needed from here on; the SDK's objects would take memory for as long as it streams.
        raw = http.raw_response(response.response)
        del response, body
        try:
            whole, reader = await http.peek(raw)
            if model.streaming and not whole:
                async for item in http.decode_stream(reader, _ChunkDecoder()):
                    yield item
            else:
                for item in _decode_completion(await http.read_body(reader)):
                    yield item
        except (aiohttp.ClientError, OSError) as error:
            raise translate_error(error, self.provider.name) from None
        finally:
            raw.close()

    async def check_key(self, *, key: str) -> bool:
        """List the models, which most servers do only for a valid key."""
        await self.list_models(key=key)
        return "public-models" not in self._quirks

    async def list_models(self, *, key: str) -> list[ModelSpec] | None:
        """List the models; some servers include their context windows."""
        try:
            response = await self._client.get(
                "/models", options={"headers": {"Authorization": f"Bearer {key}"}}, cast_to=httpx2.Response
            )
        except (openai.OpenAIError, *http.REQUEST_ERRORS) as error:
            raise translate_error(error, self.provider.name) from None
        return model_lists.read_models(response.content, _read_model)

    async def aclose(self) -> None:
        """Close the HTTP client."""
        await self._client.close()


def gateway(options: GatewayOptions) -> LLMGateway:
    """OpenAI's gateway."""
    return OpenAIGateway(options)


# -- The models --------------------------------------------------------------------------------------------------------


_WINDOWS = (
    "context_length",  # OpenRouter
    "context_window",  # Groq
    "max_model_len",  # vLLM
    "max_context_length",  # Mistral
)
"""Each kind of server has its own name for the context window."""


def _read_model(identifier: str, entry: model_lists.Entry) -> ModelSpec:
    meta = entry.get("meta")  # llama.cpp
    window = (
        model_lists.tokens(entry, *_WINDOWS)
        or (model_lists.tokens(meta, "n_ctx_train") if isinstance(meta, dict) else None)
        or http.DEFAULT_CONTEXT_WINDOW
    )
    return ModelSpec(identifier, identifier, context_window=window, max_output_tokens=max(1, window // 4))


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


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    model: str | None = None
    usage: _Usage | None = None
    error: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


class _ChunkDecoder(http.StreamDecoder):
    __slots__ = ("high_surrogate",)

    def __init__(self) -> None:
        super().__init__()
        self.high_surrogate = ""  # of a character whose low surrogate comes in the next chunk

    def decode_event(self, data: bytes) -> str:
        """The text of one chunk, after keeping its model, usage and finish reason."""
        if data == b"[DONE]":
            self.done = True
            return ""
        try:
            chunk = _decode_chunk(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            chunk = self._decode_surrogates(data)
        if chunk.error is not None:
            raise _map_error(None, chunk.error, None)
        if chunk.usage is not None:
            self.usage = Usage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
        if chunk.model:
            self.model = chunk.model
        text = ""
        for choice in chunk.choices or ():
            if choice.index == 0:
                if choice.delta is not None:
                    text += choice.delta.content or choice.delta.refusal or ""
                self.finish_reason = choice.finish_reason or self.finish_reason
        return text

    def _decode_surrogates(self, data: bytes) -> _Chunk:
        """Decode a chunk with an unpaired surrogate: some servers split a pair over two chunks."""
        try:
            chunk = msgspec.convert(loads(data), _Chunk)
        except (JSONDecodeError, UnicodeDecodeError, RecursionError, msgspec.ValidationError):
            raise ProviderBroken("The provider sent an event that is not valid.") from None
        for choice in chunk.choices or ():
            if choice.delta is not None and choice.delta.content:
                content = self.high_surrogate + choice.delta.content
                self.high_surrogate = content[-1] if "\ud800" <= content[-1] <= "\udbff" else ""
                content = content.removesuffix(self.high_surrogate) if self.high_surrogate else content
                choice.delta.content = content.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return chunk


class _Message(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _CompletionChoice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_CompletionChoice]
    model: str | None = None
    usage: _Usage | None = None


def _decode_completion(body: bytes) -> Iterator[str | Finished]:
    """The text of a completion that was not streamed, and then how it finished."""
    if (refusal := error_in(body)) is not None:
        raise refusal
    try:
        completion = msgspec.json.decode(body, type=_Completion)
        choice = completion.choices[0]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, IndexError) as error:
        raise unreadable(error, "The provider sent an answer that is not valid.") from None
    if text := choice.message.content or choice.message.refusal:
        yield text
    if choice.finish_reason is not None:
        counts = completion.usage
        usage = Usage(counts.prompt_tokens, counts.completion_tokens) if counts else None
        yield Finished(choice.finish_reason, completion.model, usage)
