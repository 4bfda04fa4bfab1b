"""The JSON of chat completions, which is OpenAI's: requests, completions, chunks, models and errors."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from baio_api.bodies import Body
from baio_api.schemas.common import Count, Examples
from baio_domain.entities import Usage, refuse
from baio_domain.errors import FieldError
from baio_domain.parameters import Value
from baio_domain.ports import Called
from baio_domain.prompts import Turn, UsedTool
from baio_domain.tool_records import MAX_DEPTH, depth_of
from baio_domain.tools import ToolSpec
from baio_domain.use_cases.completions import ChatRequest, OfferedModel

MAX_MESSAGES = 2_048
"""Messages of one request."""

MAX_TOOLS = 128
"""Tools of one request."""

MAX_STOPS = 16

MAX_BIASES = 1_024

StopText = Annotated[str, Meta(max_length=1_000)]

_EXAMPLE: dict[str, Any] = {
    "model": "OpenAI Key/gpt-4o-mini",
    "messages": [
        {"role": "system", "content": "Answer in two sentences."},
        {"role": "user", "content": "What is a codon?"},
    ],
}


class SentFunction(msgspec.Struct, frozen=True):
    """The function of a call."""

    name: str
    arguments: str = "{}"


class SentCall(msgspec.Struct, frozen=True):
    """A call that the model has made, as its completion had it."""

    id: str
    function: SentFunction
    extra_content: dict[str, Any] | None = None


class SentPart(msgspec.Struct, frozen=True):
    """A part of a message. Only texts are accepted."""

    type: str
    text: str | None = None
    refusal: str | None = None


class SentMessage(msgspec.Struct, frozen=True):
    """A message. ``tool_call_id`` names the call whose result a message of a tool is."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[SentPart] | None = None
    tool_calls: list[SentCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None


class DescribedFunction(msgspec.Struct, frozen=True):
    """A function as the model reads it. ``parameters`` are a JSON Schema."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class SentTool(msgspec.Struct, frozen=True):
    """A tool that the client runs itself."""

    type: Literal["function"]
    function: DescribedFunction


class NamedFunction(msgspec.Struct, frozen=True):
    """A function by its name."""

    name: str


class NamedTool(msgspec.Struct, frozen=True):
    """The tool that the model has to call."""

    type: Literal["function"]
    function: NamedFunction


class ResponseFormat(msgspec.Struct, frozen=True):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    """Whether the last chunk has the token counts."""

    include_usage: bool | None = None


class ChatCompletionRequest(Body, frozen=True, kw_only=True):
    """Messages to answer. Fields that are not named here are ignored; null stands for a field that is not sent.

    ``model`` is one of the list of models. ``store`` makes a conversation of it.
    """

    examples: ClassVar[Examples] = {
        "contract": _EXAMPLE,
        "streamed": {**_EXAMPLE, "stream": True, "stream_options": {"include_usage": True}},
        "stored": {**_EXAMPLE, "store": True},
    }
    names_places: ClassVar = True

    model: str
    messages: Annotated[list[SentMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    reasoning_effort: str | None = None
    seed: int | None = None
    n: int | None = None
    tools: Annotated[list[SentTool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    stop: StopText | Annotated[list[StopText], Meta(max_length=MAX_STOPS)] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Annotated[dict[str, float], Meta(max_length=MAX_BIASES)] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    logprobs: bool | None = None
    modalities: list[str] | None = None
    audio: Any = None
    functions: Any = None
    function_call: Any = None

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """The fields whose values would require an answer that BAiO can't give."""
        if fields.get("n") not in (None, 1):
            yield FieldError("n", "must be 1")
        if fields.get("logprobs"):
            yield FieldError("logprobs", "must be false: probabilities are not passed on")
        if fields.get("audio") is not None:
            yield FieldError("audio", "is not accepted: BAiO answers only with text")
        if set(fields.get("modalities") or ()) - {"text"}:
            yield FieldError("modalities", "must be text: only that is answered")
        for name in ("functions", "function_call"):
            if fields.get(name) is not None:
                yield FieldError(name, "is not accepted: use tools and tool_choice")

    @property
    def with_usage(self) -> bool:
        """Whether the last chunk has the token counts."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def domain_names(self) -> dict[str, str]:
        """The fields that errors name, by the domain's parameter."""
        length = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        names = {f"parameters.{name}": name for name in ("temperature", "top_p", "reasoning_effort", "seed")}
        lengths = {"parameters.max_output_tokens": length, "max_output_tokens": length}
        return {**names, **lengths, "idempotency_key": "Idempotency-Key"}

    def request(self) -> ChatRequest:
        """What is asked. Raises InvalidInput."""
        refuse(self._refused())
        return ChatRequest(
            self.model,
            tuple(_turns(self.messages)),
            [_tool(each.function) for each in self.tools or ()],
            self._parameters(),
            self._extras(),
            store=bool(self.store),
        )

    def _refused(self) -> Iterator[FieldError]:
        """What is wrong with the values besides."""
        yield from self.rule_errors(msgspec.structs.asdict(self))
        schemas = [each.function.parameters for each in self.tools or ()]
        for name, value in (("tools", schemas), ("response_format", _as_sent(self.response_format))):
            if depth_of(value) > MAX_DEPTH:
                yield FieldError(name, f"is nested deeper than {MAX_DEPTH} levels")
        if self.response_format and self.response_format.type == "json_schema" and not self.response_format.json_schema:
            yield FieldError("response_format.json_schema", "is required")

    def _parameters(self) -> dict[str, Value]:
        length = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        sent = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_output_tokens": length,
            "reasoning_effort": self.reasoning_effort,
            "seed": self.seed,
        }
        return {name: value for name, value in sent.items() if value is not None}

    def _extras(self) -> dict[str, object]:
        """The fields that are passed on. What says nothing, as many clients always send it, is left out."""
        form = self.response_format
        extras: dict[str, object] = {
            "stop": self.stop or None,
            "response_format": None if form and form.type == "text" else _as_sent(form),
            "frequency_penalty": self.frequency_penalty or None,
            "presence_penalty": self.presence_penalty or None,
            "logit_bias": self.logit_bias or None,
            "verbosity": self.verbosity,
            "tool_choice": self._tool_choice(),
            "parallel_tool_calls": self.parallel_tool_calls if self.tools else None,
        }
        return {name: value for name, value in extras.items() if value is not None}

    def _tool_choice(self) -> object:
        choice = self.tool_choice
        if isinstance(choice, NamedTool):
            return {"type": "function", "function": {"name": choice.function.name}}
        return None if choice == "auto" or (choice == "none" and not (self.tools or self.store)) else choice


def _as_sent(struct: msgspec.Struct | None) -> object:
    if struct is None:
        return None
    return {name: value for name, value in msgspec.structs.asdict(struct).items() if value is not None}


def _tool(function: DescribedFunction) -> ToolSpec:
    parameters = function.parameters or {"type": "object", "properties": {}}
    return ToolSpec(function.name, "", function.description or "", "", parameters, strict=bool(function.strict))


# -- Messages as turns -------------------------------------------------------------------------------------------------


def _turns(messages: Sequence[SentMessage]) -> Iterator[Turn]:
    """The messages as turns: those of the system first, and calls together with their results.

    Raises InvalidInput naming the first message that is wrong.
    """
    system = [(place, each) for place, each in enumerate(messages) if each.role in ("system", "developer")]
    if told := "\n\n".join(filter(str.strip, (_text(place, message) for place, message in system))):
        yield Turn("system", told)
    count, place = 0, 0
    while place < len(messages):
        message = messages[place]
        here, place = place, place + 1
        if message.role == "tool":
            _refuse(here, "tool_call_id", "names no call of the message before")
        elif message.role == "assistant" and message.tool_calls:
            results: dict[str, list[str]] = {}
            while place < len(messages) and messages[place].role == "tool":
                results.setdefault(messages[place].tool_call_id or "", []).append(_text(place, messages[place]))
                place += 1
            calls = []
            for call in message.tool_calls:
                count += 1
                if not results.get(call.id):
                    _refuse(here, "tool_calls", "must be followed by a message of a tool for each call, with its id")
                calls.append(_used(call, count, results[call.id].pop(0)))
            if any(results.values()):
                _refuse(place - 1, "tool_call_id", "names no call of the message before")
            yield Turn("assistant", _text(here, message), tuple(calls), _opaque(message))
        elif message.role in ("user", "assistant"):
            yield Turn("user" if message.role == "user" else "assistant", _text(here, message))


def _used(call: SentCall, number: int, result: str) -> UsedTool:
    """A call with its result. Its id is made anew: some providers take only nine letters and digits."""
    opaque = {"extra_content": call.extra_content} if call.extra_content else None
    arguments = call.function.arguments if _is_object(call.function.arguments) else "{}"
    return UsedTool(f"c{number:08}", call.function.name, arguments, result, opaque=opaque)


def _is_object(arguments: str) -> bool:
    """Whether this is an object of JSON: some models write others, which no provider wants back."""
    try:
        value = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return False
    return isinstance(value, dict) and depth_of(value) <= MAX_DEPTH


def _opaque(message: SentMessage) -> object:
    """What some servers want back with calls: what the model has thought."""
    return {"reasoning_content": message.reasoning_content} if message.reasoning_content else None


def _text(place: int, message: SentMessage) -> str:
    content = message.content
    if isinstance(content, list):
        for number, part in enumerate(content):
            if part.type not in ("text", "refusal"):
                _refuse(place, f"content[{number}]", "must be text: no model gets images, sounds or files")
        content = "\n".join(part.text or part.refusal or "" for part in content)
    if content is None and message.role != "assistant":
        _refuse(place, "content", "is required")
    if "\0" in (content or ""):
        _refuse(place, "content", "must not contain NUL")
    return content or ""


def _refuse(place: int, field: str, message: str) -> None:
    refuse([FieldError(f"messages[{place}].{field}", message)])


# -- Responses ---------------------------------------------------------------------------------------------------------


class CachedTokens(msgspec.Struct, frozen=True):
    """Tokens of the prompt that the provider has read from its cache."""

    cached_tokens: Count


class ReasoningTokens(msgspec.Struct, frozen=True):
    """Tokens of the completion with which the model has thought."""

    reasoning_tokens: Count


class CompletionUsage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens, as counted by the provider."""

    examples: ClassVar[Examples] = {"contract": {"prompt_tokens": 31, "completion_tokens": 9, "total_tokens": 40}}

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count
    prompt_tokens_details: CachedTokens | None = None
    completion_tokens_details: ReasoningTokens | None = None

    @classmethod
    def of(cls, usage: Usage | None) -> "CompletionUsage | None":
        """The counts; None if the provider has not counted."""
        if usage is None:
            return None
        return cls(
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.prompt_tokens + usage.completion_tokens,
            None if usage.cached_tokens is None else CachedTokens(usage.cached_tokens),
            None if usage.thinking_tokens is None else ReasoningTokens(usage.thinking_tokens),
        )


class CalledFunction(msgspec.Struct, frozen=True):
    """The function of a call. ``arguments`` is the text that the model wrote."""

    name: str
    arguments: str


class CompletionCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call of a tool of the client. In a chunk it has an ``index``.

    Some providers want ``extra_content`` back with the call.
    """

    id: str
    type: Literal["function"]
    function: CalledFunction
    index: int | UnsetType = UNSET
    extra_content: dict[str, Any] | UnsetType = UNSET

    @classmethod
    def of(cls, id_: str, call: Called, index: int | UnsetType = UNSET) -> "CompletionCall":
        """A call under a new id."""
        opaque = call.opaque if isinstance(call.opaque, dict) else {}
        extra = opaque.get("extra_content")
        function = CalledFunction(call.name, call.arguments)
        return cls(id_, "function", function, index, extra if isinstance(extra, dict) else UNSET)


class CompletionMessage(msgspec.Struct, frozen=True):
    """The answer. ``content`` is null where the model only calls tools."""

    role: Literal["assistant"]
    content: str | None
    refusal: None = None
    tool_calls: list[CompletionCall] | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET


FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]


class CompletionChoice(msgspec.Struct, frozen=True):
    """The only choice."""

    index: int
    message: CompletionMessage
    finish_reason: FinishReason
    logprobs: None = None


class ChatCompletion(msgspec.Struct, frozen=True):
    """A completion. ``usage`` is null if the provider has not counted."""

    examples: ClassVar[Examples] = {
        "contract": {
            "id": "chatcmpl-6f0b0a3f3ad34a3ca3f2f3b1b1e0a5c7",
            "object": "chat.completion",
            "created": 1_705_312_860,
            "model": "OpenAI Key/gpt-4o-mini",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": "A codon is three nucleotides.",
                        "refusal": None,
                    },
                    "finish_reason": "stop",
                    "logprobs": None,
                }
            ],
            "usage": CompletionUsage.examples["contract"],
        }
    }

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: CompletionUsage | None


_CHUNK = (
    'data: {"id":"chatcmpl-6f0b","object":"chat.completion.chunk","created":1705312860,"model":"OpenAI Key/gpt-4o",'
    '"choices":[{"index":0,"delta":%s,"logprobs":null,"finish_reason":%s}]}\n\n'
)

EXAMPLE_CHUNKS = "".join(
    (
        _CHUNK % ('{"role":"assistant","content":"","refusal":null}', "null"),
        _CHUNK % ('{"content":"A codon is three nucleotides."}', "null"),
        _CHUNK % ("{}", '"stop"'),
        "data: [DONE]\n\n",
    )
)
"""For the OpenAPI document."""


class ModelEntry(msgspec.Struct, frozen=True):
    """A model of one of the caller's keys. ``created`` is when the key was added, in seconds since 1970."""

    examples: ClassVar[Examples] = {
        "contract": {
            "id": "OpenAI Key/gpt-4o-mini",
            "object": "model",
            "created": 1_705_312_860,
            "owned_by": "OpenAI",
        }
    }

    id: str
    object: Literal["model"]
    created: int
    owned_by: str

    @classmethod
    def of(cls, offered: OfferedModel) -> "ModelEntry":
        """The model as clients get it."""
        return cls(offered.id, "model", int(offered.key.created_at.timestamp()), offered.provider.name)


class ModelEntries(msgspec.Struct, frozen=True):
    """The models of all keys of the caller."""

    examples: ClassVar[Examples] = {"contract": {"object": "list", "data": [ModelEntry.examples["contract"]]}}

    object: Literal["list"]
    data: list[ModelEntry]


class OpenAIError(msgspec.Struct, frozen=True):
    """An error in OpenAI's form. ``param`` is the first field that is wrong."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIErrorBody(msgspec.Struct, frozen=True):
    """The body of a response that is an error."""

    error: OpenAIError
