"""The JSON of answers: asking, records, events."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from baio_api.bodies import Body
from baio_api.schemas.common import Count, Examples, Id, JSONObject, SentId, Time
from baio_api.schemas.problems import Problem
from baio_api.schemas.settings import UsedSettingsInfo
from baio_domain.entities import AnswerState, CallState, ToolCall, content_problems
from baio_domain.errors import FieldError
from baio_domain.tool_records import readable_arguments


class SendMessageRequest(Body, frozen=True):
    """A question. ``model`` is the identifier or the display name of a model of the key's provider.

    Without key or model, those of the conversation's settings are used.
    """

    examples: ClassVar[Examples] = {
        "contract": {
            "conversation_id": 1,
            "apikey_nickname": "OpenAI Key",
            "content": "What are the applications of AI in genomics?",
            "model": "gpt-4o-mini",
        },
        "aboutSequences": {
            "conversation_id": 1,
            "apikey_nickname": "OpenAI Key",
            "content": "What is the GC content of this plasmid?",
            "model": "gpt-4o-mini",
            "sequence_ids": [17],
        },
    }

    nonblank_fields: ClassVar = frozenset({"content"})
    excused_by: ClassVar = {"apikey_nickname": "conversation_id", "model": "conversation_id"}

    conversation_id: SentId
    content: str
    apikey_nickname: str | None = None
    model: str | None = None
    sequence_ids: Annotated[list[SentId], Meta(max_length=100)] = msgspec.field(default_factory=list)

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """The rule for questions."""
        if "content" in fields:
            yield from content_problems(fields["content"])


class RegenerateAnswerRequest(Body, frozen=True):
    """The conversation whose question to ask again, and the key and model to use.

    ``message_id`` is the question, or its answer. Without it, the last question is asked. Without key or model, those
    of the conversation's settings are used.
    """

    examples: ClassVar[Examples] = {
        "contract": {"conversation_id": 1, "apikey_nickname": "OpenAI Key", "model": "gpt-4o"},
        "earlier": {"conversation_id": 1, "apikey_nickname": "OpenAI Key", "model": "gpt-4o", "message_id": 12},
    }

    excused_by: ClassVar = {"apikey_nickname": "conversation_id", "model": "conversation_id"}

    conversation_id: SentId
    apikey_nickname: str | None = None
    model: str | None = None
    message_id: SentId | None = None


class StopAnswerRequest(Body, frozen=True):
    """The conversation whose running answer to stop."""

    examples: ClassVar[Examples] = {"contract": {"conversation_id": 1}}

    conversation_id: SentId


class StoppedAnswer(msgspec.Struct, frozen=True):
    """The answer and its final state. It may have ended by itself before it was stopped."""

    examples: ClassVar[Examples] = {"contract": {"answer_id": 7, "state": "stopped"}}

    answer_id: Id
    state: AnswerState


class AnswerRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an answer was made. What is unknown is null.

    Only the record of an answer whose model was seen thinking has ``thinking_seconds``, and only one whose provider
    counted the tokens of it has ``thinking_tokens``, which are among the completion tokens.
    """

    examples: ClassVar[Examples] = {
        "contract": {
            "id": 7,
            "state": "truncated",
            "requested_model": "gpt-4o-mini",
            "model": "gpt-4o-mini-2024-07-18",
            "finish_reason": "length",
            "prompt_tokens": 42,
            "completion_tokens": 120,
            "started_at": "2024-01-15T10:01:00.000001Z",
            "ended_at": "2024-01-15T10:02:00.000001Z",
            "reason": "longest-answer",
        }
    }

    id: Id
    state: AnswerState
    requested_model: str
    model: str | None
    finish_reason: str | None
    prompt_tokens: Count | None
    completion_tokens: Count | None
    started_at: Time
    ended_at: Time | None
    reason: str | None
    thinking_seconds: float | None = None
    thinking_tokens: Count | None = None


class AnswerRecordWithContext(AnswerRecord, frozen=True, kw_only=True):
    """How an answer was made, and how many of the conversation's messages its model was not sent."""

    examples: ClassVar[Examples] = {"contract": {**AnswerRecord.examples["contract"], "left_out": 0}}

    left_out: Count


class AnswerRecordWithSettings(AnswerRecord, frozen=True, kw_only=True):
    """How an answer was made, and with which settings."""

    examples: ClassVar[Examples] = {
        "contract": {**AnswerRecord.examples["contract"], "settings": UsedSettingsInfo.examples["contract"]}
    }

    settings: UsedSettingsInfo


class AnswerRecordWithAll(AnswerRecordWithContext, frozen=True, kw_only=True):
    """How an answer was made, how many messages its model was not sent, and with which settings."""

    examples: ClassVar[Examples] = {
        "contract": {**AnswerRecordWithContext.examples["contract"], "settings": UsedSettingsInfo.examples["contract"]}
    }

    settings: UsedSettingsInfo


class Delta(msgspec.Struct, frozen=True):
    """The data of a ``delta`` event: the next piece of the answer's text."""

    text: str


class Thoughts(msgspec.Struct, frozen=True):
    """The data of a ``thinking`` event."""

    text: str


class ToolProgress(msgspec.Struct, frozen=True):
    """The data of a ``tool`` event: a call as it is now.

    ``arguments`` are complete once the call has ended. ``result`` is the part that the model reads, null while the call
    runs; the record in getToolCalls has the whole result.
    """

    call_id: Id
    tool: str
    state: CallState
    arguments: JSONObject
    result: JSONObject | None

    @classmethod
    def of(cls, call: ToolCall) -> "ToolProgress":
        """The call as clients get it."""
        arguments = call.arguments or readable_arguments(call.raw_arguments)
        result = None if call.shown is None else msgspec.Raw(call.shown)
        return cls(call.id, call.tool, call.state, msgspec.Raw(arguments), result)


class UsageInfo(msgspec.Struct, frozen=True):
    """Tokens, as counted by the provider."""

    prompt_tokens: Count
    completion_tokens: Count


class End(msgspec.Struct, frozen=True):
    """The data of an ``end`` event: how the answer ended. The stream ends after it."""

    state: AnswerState
    finish_reason: str | None
    usage: UsageInfo | None


Offset = Annotated[int, Meta(extra_json_schema={"format": "int64", "minimum": 0, "maximum": 2**63 - 1})]
"""The id of an event that stands at a character of the answer."""


class DeltaEvent(msgspec.Struct, frozen=True, tag_field="event", tag="delta"):
    """A piece of an answer. ``id`` is the offset after it: the ``Last-Event-ID`` to continue with."""

    id: Id
    data: Delta


class ThinkingEvent(msgspec.Struct, frozen=True, tag_field="event", tag="thinking"):
    """The model's thoughts before and between pieces of its answer. It is not stored, and has no ``id``."""

    data: Thoughts


class ToolEvent(msgspec.Struct, frozen=True, tag_field="event", tag="tool"):
    """A call of a tool that begins or has ended.

    ``id`` is the offset of the call; you can't continue from it. A later event with the same ``call_id`` replaces it. A
    follower first gets the calls whose lines end beyond the offset.
    """

    id: Offset
    data: ToolProgress


class EndEvent(msgspec.Struct, frozen=True, tag_field="event", tag="end"):
    """The last event of an answer that is not cut."""

    data: End


class ErrorEvent(msgspec.Struct, frozen=True, tag_field="event", tag="error"):
    """The last event of an answer that is cut, or of a stream whose session ended."""

    data: Problem


AnswerEvent = DeltaEvent | ThinkingEvent | ToolEvent | EndEvent | ErrorEvent
"""For the OpenAPI document. On the wire each is the fields of a server-sent event, with its ``data`` as JSON."""
