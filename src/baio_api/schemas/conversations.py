"""The JSON of conversations and their messages."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import msgspec

from baio_api.bodies import Body
from baio_api.schemas.common import EXAMPLE_SYSTEM_MESSAGE, Examples, Id, SentId, Time
from baio_domain.entities import AnswerState, Role, title_problems
from baio_domain.errors import FieldError


class MessageInfo(msgspec.Struct, frozen=True):
    """A message. ``role`` is system, user or baio."""

    examples: ClassVar[Examples] = {"system": EXAMPLE_SYSTEM_MESSAGE}

    role: Role
    content: str
    created_at: Time


class ConversationInfo(msgspec.Struct, frozen=True):
    """A conversation with its messages, in the order they were written."""

    examples: ClassVar[Examples] = {
        "contract": {
            "id": 1,
            "title": "Research Discussion",
            "messages": [
                EXAMPLE_SYSTEM_MESSAGE,
                {
                    "role": "user",
                    "content": "What are the key aspects of AI in genomics?",
                    "created_at": "2024-01-15T10:01:00.000001Z",
                },
                {
                    "role": "baio",
                    "content": "Key aspects include predictive analysis, data integration, etc.",
                    "created_at": "2024-01-15T10:02:00.000001Z",
                },
            ],
        },
        "new": {"id": 3, "title": "New Research Topic", "messages": [EXAMPLE_SYSTEM_MESSAGE]},
    }

    id: Id
    title: str
    messages: list[MessageInfo]


class AnsweredMessageInfo(MessageInfo, frozen=True):
    """A message, and what is known of the answer whose text it is. ``answer_id`` and ``state`` are null for others.

    A running answer is a message with its text so far. ``reason`` says why an answer did not end well.
    """

    answer_id: Id | None
    state: AnswerState | None
    reason: str | None


class NumberedMessageInfo(MessageInfo, frozen=True):
    """A message with its id."""

    id: Id


class NumberedAnsweredMessageInfo(AnsweredMessageInfo, frozen=True):
    """A message with its id and its answer. ``id`` is null for an answer that runs, or has ended without text."""

    id: Id | None


class AnsweredConversation(msgspec.Struct, frozen=True):
    """A conversation with its messages and the records of its answers."""

    examples: ClassVar[Examples] = {
        "contract": ConversationInfo.examples["contract"],  # of a request without answers
        "answers": {
            **ConversationInfo.examples["contract"],
            "messages": [
                {**message, "answer_id": answer_id, "state": state, "reason": None}
                for message, answer_id, state in zip(
                    ConversationInfo.examples["contract"]["messages"],
                    (None, None, 7),
                    (None, None, "running"),
                    strict=True,
                )
            ],
        },
        "ids": {
            **ConversationInfo.examples["contract"],
            "messages": [
                {**message, "id": number}
                for number, message in enumerate(ConversationInfo.examples["contract"]["messages"], 11)
            ],
        },
    }

    id: Id
    title: str
    messages: list[AnsweredMessageInfo]


class NumberedConversation(msgspec.Struct, frozen=True):
    """A conversation with its messages and their ids."""

    id: Id
    title: str
    messages: list[NumberedMessageInfo]


class NumberedAnsweredConversation(msgspec.Struct, frozen=True):
    """A conversation with its messages, their ids and the records of its answers."""

    id: Id
    title: str
    messages: list[NumberedAnsweredMessageInfo]


class ConversationListItem(msgspec.Struct, frozen=True):
    """A conversation in a list."""

    examples: ClassVar[Examples] = {
        "contract": {"id": 1, "title": "Research Discussion", "created_at": "2024-01-15T10:00:00.000001Z"},
        "older": {"id": 2, "title": "Project Meeting", "created_at": "2024-01-14T11:30:00.000001Z"},
    }

    id: Id
    title: str
    created_at: Time


class _Titled(Body, frozen=True):
    """A body with a title."""

    title: str = ""

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """The rule for titles."""
        yield from title_problems(fields.get("title", ""))


class CreateConversationRequest(_Titled, frozen=True):
    """A new conversation. The body may be empty. With the name of a ``preset``, it has the preset's settings.

    A temporary one is deleted a day after its last activity.
    """

    examples: ClassVar[Examples] = {
        "contract": {"title": "New Research Topic"},
        "preset": {"title": "New Research Topic", "preset": "For clinicians"},
        "temporary": {"title": "Only a question", "temporary": True},
    }

    temporary: bool = False
    preset: str | None = None


class RenameConversationRequest(_Titled, frozen=True, kw_only=True):
    """The conversation to rename, and its new title."""

    examples: ClassVar[Examples] = {"contract": {"conversation_id": 1, "title": "Updated Discussion"}}

    conversation_id: SentId
    title: str

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """The rule for titles."""
        yield from title_problems(fields.get("title", ""))


class DeleteConversationRequest(Body, frozen=True):
    """The conversation to delete."""

    examples: ClassVar[Examples] = {"contract": {"conversation_id": 1}}

    conversation_id: SentId
