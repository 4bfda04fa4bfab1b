"""Anthropic's messages: anthropic's SDK for lists of models, and what is done for each answer without it."""

import json
import logging
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
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
from baio_adapters.llm.growing_calls import MAX_ARGUMENTS
from baio_adapters.llm.refusals import error_in, translate_error, unreadable
from baio_adapters.llm.refusals import map_error as _map_error
from baio_domain.entities import Model, ModelSpec, ProviderSpec, Usage
from baio_domain.errors import ParametersRefused
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
    openai_finish_reason,
)
from baio_domain.prompts import Turn
from baio_domain.tools import ToolSpec

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

if find_spec("anthropic") is None:
    raise ModuleNotFoundError("No module named 'anthropic'", name="anthropic")

# At DEBUG, which an environment variable can set, the SDK logs whole requests.
logging.getLogger("anthropic").setLevel(logging.WARNING)

PARAMETERS: Rules = {
    "temperature": Accepted(most=1),
    "top_p": Accepted(),
    "max_output_tokens": Accepted(sent_as="max_tokens"),
    "reasoning_effort": Accepted(sent_as="output_config.effort", levels=("low", "medium", "high", "xhigh", "max")),
}

ANTHROPIC = ProviderSpec(
    "Anthropic",
    (
        ModelSpec("claude-sonnet-5-5", "Claude Sonnet 5.5", 1_000_000, 128_000, tools=True),
        ModelSpec("claude-opus-5-5", "Claude Opus 5.5", 1_000_000, 128_000, tools=True),
        ModelSpec("claude-haiku-5-5", "Claude Haiku 5.5", 1_000_000, 128_000, tools=True),
    ),
    parameters={"temperature": None, "top_p": None},  # removed with Claude Opus 4.7
)
"""Source of the numbers: the models' pages on platform.claude.com."""

MAX_BLOCKS = 256
"""Blocks of a message that are kept for its calls; what is in more of them is shown, but not run or sent back."""

MODELS_PAGE_SIZE = 1000
"""The largest page of Anthropic's list of models, which holds all of them."""


@final
class AnthropicGateway(ExtrasGateway):
    """Anthropic, or a server with the same protocol at ``base_url`` (which may end in ``/v1``).

    One HTTP client for all users; each call has a key. Every server with this protocol can stream, so every answer is
    streamed.
    """

    extras = frozenset({"parallel_tool_calls", "response_format", "stop", "tool_choice"})

    def __init__(self, options: GatewayOptions) -> None:
        http.reject_unknown_quirks(options.quirks, frozenset())
        self.provider = (options.provider or ANTHROPIC).with_defaults(PARAMETERS)
        self._base_url = (options.base_url or "https://api.anthropic.com").removesuffix("/").removesuffix("/v1")
        self._client = http.Client(
            frozenset({"x-api-key", "anthropic-version"}),
            connect_seconds=options.connect_seconds,
            proxy=options.proxy,
        )
        self._headers = {**http.sdk_headers("anthropic", "AsyncAnthropic"), "anthropic-version": "2023-06-01"}
        self._messages = http.url_of(self._base_url, "v1/messages")
        self._sdk: AsyncAnthropic | None = None

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
        """Request a message and decode it as it arrives."""
        accepted = self.provider.accepted(model.identifier) if parameters else {}
        response = await self._client.post(
            self._messages,
            {**self._headers, "x-api-key": key},
            _joined(_request_body(model, prompt, tools), fields_of(parameters, accepted), _extras(extras)),
            provider=self.provider.name,
            sent={**sent_names(parameters, accepted), **{_SENT_AS.get(name, name): name for name in extras}},
        )
        try:
            whole, reader = await http.peek(response)
            if whole:
                for part in _decode_message(await http.read_body(reader), _decoder(tools)):
                    yield part
            else:
                events = EventStream(reader, _decoder(tools))
                while items := await events.read():
                    for item in items:
                        yield item
        except READ_ERRORS as error:
            raise translate_error(error, self.provider.name) from None
        finally:
            response.close()

    async def check_key(self, *, key: str) -> bool:
        """List the models, which Anthropic does only for a valid key."""
        await self.list_models(key=key)
        return True

    async def list_models(self, *, key: str) -> list[ModelSpec] | None:
        """List the models with their context windows and longest answers."""
        anthropic = await http.load_sdk("anthropic")
        if self._sdk is None:
            self._sdk = anthropic.AsyncAnthropic(
                # Without a key the SDK would look for one in this server's environment. This one is never sent.
                api_key="no-key-of-this-server",
                base_url=self._base_url,
                open_telemetry=False,
                **self._client.sdk_options(),
            )
        try:
            response = await self._sdk.get(
                "/v1/models",
                options={"headers": {"X-Api-Key": key}, "params": {"limit": MODELS_PAGE_SIZE}},
                cast_to=httpx2.Response,
            )
        except (anthropic.AnthropicError, *http.REQUEST_ERRORS) as error:
            raise model_lists.list_refusal(error, self.provider.name) from None
        return model_lists.read_models(response.content, _read_model)

    async def aclose(self) -> None:
        """Close the HTTP client."""
        await self._client.aclose()


def gateway(options: GatewayOptions) -> LLMGateway:
    """Anthropic's gateway."""
    return AnthropicGateway(options)


def _request_body(model: Model, prompt: Sequence[Turn], tools: Sequence[ToolSpec]) -> dict[str, object]:
    """The body of a request for a message. The system message has a field of its own."""
    body: dict[str, object] = {
        "model": model.identifier,
        "max_tokens": model.max_output_tokens,
        "messages": [message for turn in prompt if turn.role != "system" for message in _messages(turn)],
        "stream": True,
    }
    if prompt[0].role == "system":
        body["system"] = prompt[0].content
    if tools:
        body["tools"] = [
            {
                "name": tool.name,
                "description": tool.description,
                "input_schema": tool.parameters,
                **({"strict": True} if tool.strict else {}),
            }
            for tool in tools
        ]
    return body


_SENT_AS = {"stop": "stop_sequences", "response_format": "output_config.format"}
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}


def _extras(extras: Extras) -> dict[str, object]:
    """What fields of OpenAI's protocol say, in Anthropic's. Raises ParametersRefused for what it can't say."""
    body: dict[str, object] = {}
    if "stop" in extras:
        stop = extras["stop"]
        body["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    form = extras.get("response_format")
    if isinstance(form, dict):
        schema = form.get("json_schema")
        if not isinstance(schema, dict) or "schema" not in schema:
            raise ParametersRefused(
                "Anthropic has no JSON without a schema: send a json_schema.", parameters="response_format"
            )
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema["schema"]}}
    choice, parallel = extras.get("tool_choice"), extras.get("parallel_tool_calls")
    if choice is None and parallel is False:
        choice = "auto"
    if isinstance(choice, str):
        body["tool_choice"] = {"type": _CHOICES[choice]}
    elif isinstance(choice, dict):
        body["tool_choice"] = {"type": "tool", "name": choice["function"]["name"]}
    if parallel is False and choice != "none":
        cast("dict[str, object]", body["tool_choice"])["disable_parallel_tool_use"] = True
    return body


def _joined(*bodies: dict[str, object]) -> dict[str, object]:
    """The fields of all bodies, and of the objects in them."""
    joined: dict[str, object] = {}
    for name, value in (field for body in bodies for field in body.items()):
        before = joined.get(name)
        joined[name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return joined


def _messages(turn: Turn) -> Iterator[dict[str, object]]:
    """A turn, and the user's turn with all results that belong to it."""
    if not turn.calls:
        yield {"role": turn.role, "content": turn.content}
        return
    blocks: list[object] = [*turn.opaque] if isinstance(turn.opaque, tuple) else []
    if not blocks and turn.content.strip():
        blocks = [{"type": "text", "text": turn.content}]
    uses = [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments)}
        for call in turn.calls
    ]
    yield {"role": "assistant", "content": [*_with_uses(blocks, uses)]}
    results = [
        {
            "type": "tool_result",
            "tool_use_id": call.id,
            "content": call.result,
            **({"is_error": True} if call.failed else {}),
        }
        for call in turn.calls
    ]
    yield {"role": "user", "content": results}


def _with_uses(blocks: Sequence[object], uses: Sequence[object]) -> Iterator[object]:
    """The blocks of a turn with its calls, which stand where None is, and else at the end."""
    left = iter(uses)
    for block in blocks:
        if block is not None:
            yield block
        elif (use := next(left, None)) is not None:
            yield use
    yield from left


# -- The models --------------------------------------------------------------------------------------------------------


def _read_model(identifier: str, entry: model_lists.Entry) -> ModelSpec | None:
    if entry.get("lifecycle") == "retired":
        return None
    window = model_lists.tokens(entry, "max_input_tokens") or http.DEFAULT_CONTEXT_WINDOW
    longest_answer = model_lists.tokens(entry, "max_tokens") or max(1, window // 4)
    return ModelSpec(identifier, model_lists.text(entry, "display_name") or identifier, window, longest_answer)


# -- The stream --------------------------------------------------------------------------------------------------------


class _TokenDetails(msgspec.Struct, gc=False):
    thinking_tokens: Count | None = None


class _Usage(msgspec.Struct, gc=False):
    input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    output_tokens: Count | None = None
    output_tokens_details: _TokenDetails | None = None


class _Delta(msgspec.Struct, gc=False):
    """The changes to a block or to the message."""

    text: str | None = None
    stop_reason: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None  # of encrypted thinking
    partial_json: str | None = None


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


class _EventDecoder(StreamDecoder):
    __slots__ = ("_counts",)

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, int] = {}

    def decode_object(self, data: bytes) -> None:
        """Note one event's text and thinking, model, usage and stop reason."""
        try:
            event = _decode_event(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            event = _event_of(self.parse_object(data))
        block = event.delta if event.delta is not None else event.content_block
        if block is not None:
            if block.thinking or block.signature or block.data or block.partial_json:
                self.note_thinking(block.thinking or "")
            if block.text:
                self.note_text(block.text)
            if block.stop_reason is not None:
                self.note_finish(block.stop_reason)
        if event.message is not None:
            self.model = event.message.model
            self._update_usage(event.message.usage)
        self._update_usage(event.usage)
        if event.error:
            raise _map_error(None, {"error": event.error}, None)
        if event.type == "message_stop":
            self.note_end()

    def _update_usage(self, usage: _Usage | None) -> None:
        """Keep the newest counts, which are cumulative. Tokens read from or written to a cache belong to the prompt.

        A zero counts nothing: some servers send one in the place of what they told before.
        """
        if usage is None:
            return
        for name in (*_PROMPT_COUNTS, "output_tokens"):
            count = getattr(usage, name)
            if count is not None:
                self._counts[name] = count or self._counts.get(name, 0)
        thinking = self.usage.thinking_tokens if self.usage else None
        if usage.output_tokens_details is not None:
            thinking = usage.output_tokens_details.thinking_tokens
        completion, cached = self._counts.get("output_tokens", 0), self._counts.get("cache_read_input_tokens")
        prompt = sum(self._counts.get(name, 0) for name in _PROMPT_COUNTS)
        self.usage = Usage(prompt, completion, thinking, cached)


_PROMPT_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


class _ToolEventDecoder(_EventDecoder):
    """Keeps the blocks, too: calls, and signed thinking, which must come back unchanged."""

    __slots__ = ("_blocks",)

    def __init__(self) -> None:
        super().__init__()
        self._blocks: list[_GrowingBlock] = []

    def decode_object(self, data: bytes) -> None:
        """Note one event, and what it adds to a block."""
        self._note_block(_loads(data))
        super().decode_object(data)

    def note_content(self, content: object) -> None:
        """Note the blocks of a message that is not streamed."""
        for block in content if isinstance(content, list) else ():
            self._note_block({"content_block": block})

    def ending(self) -> list[Called | Finished]:
        """The calls, then how the stream finished. Calls are a reason to finish, where a server gives none."""
        blocks = [block.whole() for block in self._blocks]
        calls = [Called(block["name"], _arguments_of(block)) for block in blocks if _is_use(block)]
        reason = self.finish_reason or ("tool_calls" if calls and self.done else None)
        return [] if reason is None else [*calls, Finished(reason, self.model, self.counted(), _signed(blocks))]

    def _note_block(self, event: dict[str, Any]) -> None:
        index = event.get("index")
        if isinstance(block := event.get("content_block"), dict):
            self._add(_GrowingBlock(index, block))
        if isinstance(delta := event.get("delta"), dict) and event.get("type") == "content_block_delta":
            grown = next((block for block in reversed(self._blocks) if block.index == index), None)
            if grown is None:
                kind = "text" if "text" in delta else "thinking" if "thinking" in delta else None
                if kind is None:
                    return
                grown = _GrowingBlock(index, {"type": kind})
                self._add(grown)
            grown.grow(delta)

    def _add(self, block: "_GrowingBlock") -> None:
        if len(self._blocks) < MAX_BLOCKS:
            self._blocks.append(block)


class _GrowingBlock:
    """A block of a message, as far as it has arrived. Its pieces are joined only at the end."""

    __slots__ = ("_beginning", "_length", "_pieces", "index")

    def __init__(self, index: object, beginning: dict[str, Any]) -> None:
        self.index = index
        self._beginning = beginning
        self._pieces: dict[str, list[str]] = {}
        self._length = 0

    def grow(self, delta: dict[str, Any]) -> None:
        """Note the pieces of fields that a delta brings."""
        for name, piece in delta.items():
            if name != "type" and isinstance(piece, str):
                pieces = self._pieces.setdefault(name, [])
                if name != "partial_json" or self._length < MAX_ARGUMENTS:
                    pieces.append(piece)
                    self._length += len(piece)

    def whole(self) -> dict[str, Any]:
        """The block; a field that does not begin as text is what its pieces say."""
        block = dict(self._beginning)
        for name, pieces in self._pieces.items():
            before = block.get(name)
            block[name] = "".join([before if isinstance(before, str) else "", *pieces])
        return block


def _signed(blocks: Sequence[dict[str, Any]]) -> tuple[object, ...] | None:
    """All blocks in order, with None for each call, if there is thinking among them."""
    kept = [block for block in blocks if block.get("type") != "text" or block.get("text", "").strip()]
    if not any(block.get("type") in _THINKING for block in kept):
        return None
    return tuple(
        None if _is_use(block) else block for block in kept if _is_use(block) or block.get("type") != "tool_use"
    )


_THINKING = frozenset({"thinking", "redacted_thinking"})


def _is_use(block: dict[str, Any]) -> bool:
    return block.get("type") == "tool_use" and isinstance(block.get("name"), str) and bool(block["name"])


def _arguments_of(block: dict[str, Any]) -> str:
    """The arguments of a call: those that were streamed, else those of its beginning."""
    streamed = block.get("partial_json") or ""
    if streamed.strip() not in ("", "null"):
        return str(streamed)
    return json.dumps(block.get("input") or {}, ensure_ascii=False)


def _loads(data: bytes) -> dict[str, Any]:
    """An event's object, empty where it is none: whether that matters is judged elsewhere."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _decoder(tools: Sequence[ToolSpec]) -> _EventDecoder:
    return _ToolEventDecoder() if tools else _EventDecoder()


# -- What is not as the protocol says ----------------------------------------------------------------------------------


def _event_of(event: dict[str, Any]) -> _Event:
    """An event with fields of other types than Anthropic's. Only what could be text is judged."""
    kind = event.get("type")
    if not isinstance(kind, str):
        raise UnreadableEventError
    message = event.get("message")
    return _Event(
        kind,
        _delta_of(event.get("delta")),
        _delta_of(event.get("content_block")),
        _MessageStart(_string(message, "model"), _usage_of(message.get("usage")))
        if isinstance(message, dict)
        else None,
        _usage_of(event.get("usage")),
        event.get("error"),
    )


def _delta_of(delta: object) -> _Delta | None:
    if not delta:
        return None
    if not isinstance(delta, dict):
        raise UnreadableEventError
    others = (_string(delta, name) for name in ("stop_reason", "thinking", "signature", "data", "partial_json"))
    return _Delta(text_of(delta.get("text")), *others)


def _usage_of(usage: object) -> _Usage | None:
    if not isinstance(usage, dict):
        return None
    details = usage.get("output_tokens_details")
    thinking = count_of(details.get("thinking_tokens")) if isinstance(details, dict) else None
    counts = {name: count_of(usage.get(name)) for name in (*_PROMPT_COUNTS, "output_tokens")}
    return _Usage(**counts, output_tokens_details=_TokenDetails(thinking))


def _string(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) else None


def _decode_message(body: bytes, decoder: _EventDecoder) -> Iterator[str | Called | Finished]:
    """The text of a message that was not streamed, and then its ending."""
    if (refusal := error_in(body)) is not None:
        raise refusal
    try:
        message = decoder.parse_object(body)
        text = text_of(message["content"])
    except (UnreadableEventError, KeyError) as error:
        raise unreadable(error, "The provider sent an answer that is not valid.") from None
    if text:
        yield text
    decoder._update_usage(_usage_of(message.get("usage")))  # noqa: SLF001 - of this module
    if (reason := _string(message, "stop_reason")) is not None:
        decoder.finish_reason, decoder.model = openai_finish_reason(reason), _string(message, "model")
    if isinstance(decoder, _ToolEventDecoder):
        decoder.note_content(message["content"])
    yield from decoder.ending()
