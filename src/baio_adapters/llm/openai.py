"""OpenAI's chat completions: openai's SDK for lists of models, and what is done for each answer without it."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, cast, final

import httpx2
import msgspec

from baio_adapters.llm import http, model_lists
from baio_adapters.llm.event_stream import (
    READ_ERRORS,
    Count,
    EventStream,
    StreamDecoder,
    UnreadableEventError,
    count_of,
    text_of,
)
from baio_adapters.llm.growing_calls import GrowingCalls
from baio_adapters.llm.refusals import error_in, translate_error
from baio_adapters.llm.refusals import map_error as _map_error
from baio_domain.entities import Model, ModelSpec, ProviderSpec, Usage
from baio_domain.errors import ProviderBroken
from baio_domain.parameters import Accepted, Parameters, Rules, fields_of, sent_names
from baio_domain.ports import (
    NO_EXTRAS,
    NO_PARAMETERS,
    Called,
    Extras,
    ExtrasGateway,
    Finished,
    GatewayOptions,
    GatewayStream,
    LLMGateway,
    Thinking,
)
from baio_domain.prompts import Turn
from baio_domain.tools import ToolSpec

if TYPE_CHECKING:
    from openai import AsyncOpenAI

QUIRKS = frozenset({"no-stream-options", "no-keep-alive", "public-models", "no-reasoning-echo"})
"""Deviations of a server from the protocol: it rejects ``stream_options``; it fails on a reused connection; it lists
its models without checking the key, so that the list says nothing about the key; it rejects a turn that has the
reasoning beside the calls of tools, which DeepSeek wants back."""

PARAMETERS: Rules = {
    "temperature": Accepted(),
    "top_p": Accepted(),
    "max_output_tokens": Accepted(sent_as="max_tokens"),
    "reasoning_effort": Accepted(),
    "seed": Accepted(),
}
"""What most servers with this protocol take. Ollama, vLLM and others know only the older ``max_tokens``."""

EXTRAS = frozenset(
    {
        "frequency_penalty", "logit_bias", "parallel_tool_calls", "presence_penalty", "response_format", "stop",
        "tool_choice", "verbosity",
    }
)  # fmt: skip
"""The fields that are sent as they are. What a server makes of them, it says itself."""

_NO_THINKING: Rules = {"reasoning_effort": None}
_ONLY_EFFORT: Rules = {"temperature": None, "top_p": None}
_NO_SAMPLING: Rules = {**_ONLY_EFFORT, **_NO_THINKING}

OPENAI = ProviderSpec(
    "OpenAI",
    (
        ModelSpec("gpt-4o", "GPT-4o", 128_000, 16_384, tools=True, parameters=_NO_THINKING),
        ModelSpec("gpt-4o-mini", "GPT-4o mini", 128_000, 16_384, tools=True, parameters=_NO_THINKING),
        ModelSpec("o1-preview", "OpenAI o1-preview", 128_000, 32_768, system_role=False, parameters=_NO_SAMPLING),
        ModelSpec("o1-mini", "OpenAI o1-mini", 128_000, 65_536, system_role=False, parameters=_NO_SAMPLING),
        ModelSpec("gpt-5-mini", "GPT-5 mini", 400_000, 128_000, tools=True, parameters=_ONLY_EFFORT),
        ModelSpec("gpt-5.5", "GPT-5.5", 1_050_000, 128_000, parameters=_ONLY_EFFORT),
    ),
    parameters={"max_output_tokens": Accepted(sent_as="max_completion_tokens")},
)
"""The first four keep their ids. OpenAI refuses tools for GPT-5.5 in this protocol (BerriAI/litellm#34569 for its
successor, charmbracelet/crush#2913), so it is not marked. Its numbers are from docs.oxen.ai/inference-api, those of
GPT-5 mini from picksbymodel.com/models/openai-gpt-5-mini."""


@final
class OpenAIGateway(ExtrasGateway):
    """OpenAI, or a server with its protocol at ``base_url``. One HTTP client for all users; each call has a key."""

    extras = EXTRAS

    def __init__(self, options: GatewayOptions) -> None:
        http.reject_unknown_quirks(options.quirks, QUIRKS)
        self.provider = (options.provider or OPENAI).with_defaults(PARAMETERS)
        self._quirks = options.quirks
        keep_alive = "no-keep-alive" not in options.quirks
        self._client = http.Client(
            frozenset({"authorization"}),
            connect_seconds=options.connect_seconds,
            keep_alive=keep_alive,
            proxy=options.proxy,
        )
        self._base_url = options.base_url or "https://api.openai.com/v1"
        self._headers = http.sdk_headers("openai", "AsyncOpenAI")
        self._completions = http.url_of(self._base_url, "chat/completions")
        self._sdk: AsyncOpenAI | None = None

    async def stream(
        self,
        *,
        key: str,
        model: Model,
        prompt: Sequence[Turn],
        tools: Sequence[ToolSpec] = (),
        parameters: Parameters = NO_PARAMETERS,
        extras: Extras = NO_EXTRAS,
    ) -> GatewayStream:
        """Request a completion and decode it as it arrives."""
        accepted = self.provider.accepted(model.identifier) if parameters else {}
        echo = "no-reasoning-echo" not in self._quirks
        body: dict[str, object] = {
            "model": model.identifier,
            "messages": [message for turn in prompt for message in _messages(turn, echo=echo)],
            **fields_of(parameters, accepted),
            **extras,
        }
        if tools:
            body["tools"] = [_offer(tool) for tool in tools]
        if model.streaming:
            body["stream"] = True
            if "no-stream-options" not in self._quirks:
                body["stream_options"] = {"include_usage": True}
        headers = {**self._headers, "authorization": f"Bearer {key}"}
        response = await self._client.post(
            self._completions,
            headers,
            body,
            provider=self.provider.name,
            # Others are words that a refusal can have for another reason.
            sent={**sent_names(parameters, accepted), **{name: name for name in extras if "_" in name}},
        )
        del body, headers  # which would take memory for as long as it streams
        try:
            whole, reader = await http.peek(response)
            if not whole:  # whatever was asked for
                events = EventStream(reader, _decoder(tools))
                while items := await events.read():
                    for item in items:
                        yield item
            else:
                for item in _decode_completion(await http.read_body(reader), _decoder(tools)):
                    yield item
        except READ_ERRORS as error:
            raise translate_error(error, self.provider.name) from None
        finally:
            response.close()

    async def check_key(self, *, key: str) -> bool:
        """List the models, which most servers do only for a valid key."""
        await self.list_models(key=key)
        return "public-models" not in self._quirks

    async def list_models(self, *, key: str) -> list[ModelSpec] | None:
        """List the models; some servers include their context windows."""
        openai = await http.load_sdk("openai")
        if self._sdk is None:
            self._sdk = openai.AsyncOpenAI(
                # The SDK requires a key. Each call overrides it with the user's, and no server accepts this one.
                api_key="no-key-of-this-server",
                base_url=self._base_url,
                **self._client.sdk_options(),
            )
        try:
            response = await self._sdk.get(
                "/models", options={"headers": {"Authorization": f"Bearer {key}"}}, cast_to=httpx2.Response
            )
        except (openai.OpenAIError, *http.REQUEST_ERRORS) as error:
            raise model_lists.list_refusal(error, self.provider.name) from None
        return model_lists.read_models(response.content, _read_model)

    async def aclose(self) -> None:
        """Close the HTTP client."""
        await self._client.aclose()


def gateway(options: GatewayOptions) -> LLMGateway:
    """OpenAI's gateway."""
    return OpenAIGateway(options)


# -- The request -------------------------------------------------------------------------------------------------------


def _offer(tool: ToolSpec) -> dict[str, object]:
    """A tool as models get it. Of the optional fields, each is refused by some server, so there is none unasked."""
    function: dict[str, object] = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def _messages(turn: Turn, *, echo: bool) -> Iterator[dict[str, object]]:
    """A turn, and a message for each result that belongs to it."""
    if not turn.calls:
        yield {"role": turn.role, "content": turn.content}
        return
    calls = [
        {
            **cast("dict[str, object]", call.opaque or {}),
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in turn.calls
    ]
    # Some servers refuse empty content beside calls.
    content = {"content": turn.content} if turn.content.strip() else {}
    kept = turn.opaque if echo and isinstance(turn.opaque, dict) else {}
    yield {"role": "assistant", **content, **kept, "tool_calls": calls}
    for call in turn.calls:
        yield {"role": "tool", "tool_call_id": call.id, "content": call.result}


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
    reasoning_content: str | None = None  # DeepSeek, vLLM, SGLang, xAI, Qwen, Kimi, GLM
    reasoning: str | None = None  # OpenRouter, Groq, Ollama, vLLM
    reasoning_details: Any = None  # OpenRouter, besides or instead
    tool_calls: Any = None
    extra_content: Any = None  # Gemini's signature of a text


class _TokenDetails(msgspec.Struct, gc=False):
    reasoning_tokens: Count | None = None


class _PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: Count | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    completion_tokens_details: _TokenDetails | None = None
    prompt_tokens_details: _PromptDetails | None = None
    prompt_cache_hit_tokens: Count | None = None  # DeepSeek
    cached_tokens: Count | None = None  # Kimi

    def counts(self, before: Usage | None) -> Usage:
        """The counts, which are cumulative. A zero counts nothing: some servers end with zeros."""
        said, read = self.completion_tokens_details, self.prompt_tokens_details
        cached = read.cached_tokens if read else None, self.prompt_cache_hit_tokens, self.cached_tokens
        known = before or Usage(0, 0)
        return Usage(
            self.prompt_tokens or known.prompt_tokens,
            self.completion_tokens or known.completion_tokens,
            said.reasoning_tokens if said and said.reasoning_tokens is not None else known.thinking_tokens,
            next((count for count in cached if count is not None), known.cached_tokens),
        )


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    message: _Delta | None = None  # of an answer that is not streamed
    finish_reason: str | None = None
    finishReason: str | None = None  # noqa: N815 - Gemini's spelling, which its server has sent beside or instead
    index: int = 0
    usage: _Usage | None = None  # Kimi


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    model: str | None = None
    usage: _Usage | None = None
    error: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


class _ChunkDecoder(StreamDecoder):
    __slots__ = ()

    def decode_object(self, data: bytes) -> None:
        """Note one chunk's text and thinking, model, usage and finish reason."""
        try:
            chunk = _decode_chunk(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            chunk = _chunk_of(self.parse_object(data))
        usage = chunk.usage
        for choice in chunk.choices or ():
            if choice.index == 0:
                # A whole message after the text, which some servers send last, repeats it.
                delta = choice.message if choice.delta is None and not self.begun else choice.delta
                if delta is not None:
                    self._note_delta(delta)
                if choice.finish_reason is not None or choice.finishReason is not None:
                    self.note_finish(choice.finish_reason or choice.finishReason)
                usage = usage or choice.usage
        if usage is not None:
            self.usage = usage.counts(self.usage)
        if chunk.model:
            self.model = chunk.model
        if chunk.error:
            raise _map_error(None, chunk.error, None)
        if not chunk.choices and chunk.usage is None:
            self._raise_bare_error(data)

    def _note_delta(self, delta: _Delta) -> None:
        if thought := delta.reasoning_content or delta.reasoning:
            self.note_thinking(thought)
        elif delta.reasoning_details or delta.tool_calls:
            thought = _details_text(delta.reasoning_details)
            if thought or delta.reasoning_details or _grows(delta.tool_calls):
                self.note_thinking(thought)
        if text := delta.content or delta.refusal:
            self.note_text(text)

    def _raise_bare_error(self, data: bytes) -> None:
        """Raise the error of an event that is one, as vLLM's before 0.10, instead of having one."""
        event = self.parse_object(data)
        if "error" in (event.get("object"), event.get("type")):
            raise _map_error(None, event, None)


class _ToolChunkDecoder(_ChunkDecoder):
    """Keeps the calls, too, and what servers want back beside them."""

    __slots__ = ("_calls", "_kept")

    def __init__(self, tools: Sequence[ToolSpec]) -> None:
        super().__init__()
        self._calls = GrowingCalls({tool.name for tool in tools})
        self._kept: dict[str, list[Any]] = {}  # the pieces of each field, joined only at the end

    def _note_delta(self, delta: _Delta) -> None:
        self._calls.add(delta.tool_calls)
        for name in ("reasoning_content", "reasoning", "reasoning_details"):
            if piece := getattr(delta, name):
                pieces = self._kept.setdefault(name, [])
                if not (pieces and isinstance(pieces[-1], type(piece)) and isinstance(piece, str | list)):
                    pieces.clear()  # of another type, or of one that can't be joined: the last one counts
                pieces.append(piece)
        if isinstance(delta.extra_content, dict):
            self._kept["extra_content"] = [delta.extra_content]
        super()._note_delta(delta)

    def ending(self) -> list[Called | Finished]:
        """The calls, then how the stream finished. Calls are a reason to finish, where a server gives none."""
        calls, kept = self._calls.whole(), {name: _joined(pieces) for name, pieces in self._kept.items()}
        reason = self.finish_reason or ("tool_calls" if calls and self.done else None)
        return [] if reason is None else [*calls, Finished(reason, self.model, self.counted(), kept or None)]


def _joined(pieces: list[Any]) -> object:
    if isinstance(pieces[0], str):
        return "".join(pieces)
    return list(chain.from_iterable(pieces)) if isinstance(pieces[0], list) else pieces[-1]


def _decoder(tools: Sequence[ToolSpec]) -> _ChunkDecoder:
    return _ToolChunkDecoder(tools) if tools else _ChunkDecoder()


def _details_text(details: object) -> str:
    """The text of OpenRouter's reasoning details; encrypted ones have none."""
    found = [each for each in details if isinstance(each, dict)] if isinstance(details, list) else []
    return "".join(text for each in found if isinstance(text := each.get("text") or each.get("summary"), str))


def _grows(tool_calls: object) -> bool:
    """Whether a tool call was begun, or has more arguments than before."""
    calls = (
        [call.get("function") for call in tool_calls if isinstance(call, dict)] if isinstance(tool_calls, list) else []
    )
    return any(isinstance(call, dict) and (call.get("name") or call.get("arguments")) for call in calls)


# -- What is not as the protocol says ----------------------------------------------------------------------------------


def _chunk_of(event: dict[str, Any]) -> _Chunk:
    """A chunk with fields of other types than OpenAI's. Only what could be text is judged."""
    choices = event.get("choices")
    if choices and not isinstance(choices, list):
        raise UnreadableEventError
    model = event.get("model")
    return _Chunk(
        [_choice_of(choice) for choice in choices or ()],
        model if isinstance(model, str) else None,
        _usage_of(event.get("usage")),
        event.get("error"),
    )


def _choice_of(choice: object) -> _Choice:
    if not isinstance(choice, dict):
        raise UnreadableEventError
    reasons = choice.get("finish_reason"), choice.get("finishReason")
    return _Choice(
        _delta_of(choice.get("delta")),
        _delta_of(choice.get("message")),
        next((reason for reason in reasons if reason and isinstance(reason, str)), None),
        index=count_of(choice.get("index")) or 0,
        usage=_usage_of(choice.get("usage")),
    )


def _delta_of(delta: object) -> _Delta | None:
    if not delta:
        return None
    if not isinstance(delta, dict):
        raise UnreadableEventError
    content = delta.get("content")
    thoughts = delta.get("reasoning_content"), delta.get("reasoning"), _thinking_of(content)
    return _Delta(
        text_of(content),
        text_of(delta.get("refusal")),
        next((thought for thought in thoughts if thought and isinstance(thought, str)), None),
        reasoning_details=delta.get("reasoning_details"),
        tool_calls=delta.get("tool_calls"),
        extra_content=delta.get("extra_content"),
    )


def _thinking_of(content: object) -> str:
    """The text of Mistral's thinking parts, which are lists of parts."""
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return "".join(text_of(part.get("thinking")) for part in parts)


def _usage_of(usage: object) -> _Usage | None:
    if not isinstance(usage, dict):
        return None
    prompt, completion = count_of(usage.get("prompt_tokens")), count_of(usage.get("completion_tokens"))
    if prompt is None and completion is None:
        return None
    details, read = usage.get("completion_tokens_details"), usage.get("prompt_tokens_details")
    thought = count_of(details.get("reasoning_tokens")) if isinstance(details, dict) else None
    cached = count_of(read.get("cached_tokens")) if isinstance(read, dict) else None
    besides = (count_of(usage.get(name)) for name in ("prompt_cache_hit_tokens", "cached_tokens"))
    return _Usage(prompt or 0, completion or 0, _TokenDetails(thought), _PromptDetails(cached), *besides)


def _decode_completion(body: bytes, decoder: _ChunkDecoder) -> Iterator[str | Thinking | Called | Finished]:
    """The text of a completion that was not streamed, and then its ending."""
    if (refusal := error_in(body)) is not None:
        raise refusal
    decoder.decode(body)
    decoder.note_end()
    yield from decoder.take()
    yield from decoder.ending()
    if decoder.finish_reason is None and not decoder.begun:
        raise ProviderBroken("The provider sent an answer that is not valid.")
