"""The JSON of finding and organizing conversations."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import msgspec

from baio_api.bodies import Body
from baio_api.schemas.answers import UsageInfo
from baio_api.schemas.common import Count, Examples, Id, SentId, Time
from baio_api.schemas.conversations import ConversationListItem
from baio_domain.entities import tag_problems, tidy_tags
from baio_domain.errors import FieldError
from baio_domain.use_cases import filing


class FilingInfo(msgspec.Struct, frozen=True):
    """How a conversation is organized. ``updated_at`` is the time of its last activity."""

    examples: ClassVar[Examples] = {
        "contract": {
            "updated_at": "2024-01-15T10:05:00.000001Z",
            "tags": ["BRCA1"],
            "pinned": True,
            "archived": False,
        }
    }

    updated_at: Time
    tags: list[str]
    pinned: bool
    archived: bool


class SuggestTitleRequest(Body, frozen=True):
    """The conversation to find a title for. Without key or model, those of the conversation's settings are used."""

    examples: ClassVar[Examples] = {
        "contract": {"conversation_id": 1},
        "model": {"conversation_id": 1, "apikey_nickname": "OpenAI Key", "model": "gpt-4o-mini"},
    }

    conversation_id: SentId
    apikey_nickname: str | None = None
    model: str | None = None


class SuggestedTitleInfo(msgspec.Struct, frozen=True):
    """A title, and the tokens that it cost; null if the provider did not count them."""

    examples: ClassVar[Examples] = {
        "contract": {"title": "Founder variants of BRCA1", "usage": {"prompt_tokens": 61, "completion_tokens": 7}},
    }

    title: str
    usage: UsageInfo | None


class FoundConversation(msgspec.Struct, frozen=True):
    """A conversation that was found."""

    examples: ClassVar[Examples] = {
        "contract": {
            **ConversationListItem.examples["contract"],
            **FilingInfo.examples["contract"],
            "snippet": "…are genomics",
        }
    }

    id: Id
    title: str
    created_at: Time
    updated_at: Time
    tags: list[str]
    pinned: bool
    archived: bool
    snippet: str | None

    @classmethod
    def of(cls, found: filing.FoundConversation) -> "FoundConversation":
        """One of the use case's."""
        conversation, order = found.conversation, found.filing
        return cls(
            conversation.id,
            conversation.title,
            conversation.created_at,
            order.updated_at,
            list(order.tags),
            order.pinned,
            order.archived,
            found.snippet,
        )


class FoundPage(msgspec.Struct, frozen=True):
    """Conversations, and the ``before`` to request the next ones, or null if there are no more."""

    examples: ClassVar[Examples] = {
        "contract": {
            "conversations": [FoundConversation.examples["contract"]],
            "next": "W3RydWUsIjIwMjQtMDEtMTVUMTA6MDU6MDAuMDAwMDAxKzAwOjAwIiwxXQ",
        }
    }

    conversations: list[FoundConversation]
    next: str | None


class TagCount(msgspec.Struct, frozen=True):
    """A tag, and how many conversations have it."""

    examples: ClassVar[Examples] = {"contract": {"tag": "BRCA1", "conversations": 3}}

    tag: str
    conversations: Count


class TagConversationRequest(Body, frozen=True):
    """The conversation, and its new tags, which replace all earlier ones."""

    examples: ClassVar[Examples] = {"contract": {"conversation_id": 1, "tags": ["BRCA1"]}}

    conversation_id: SentId
    tags: list[str]

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """The rule for tags."""
        yield from tag_problems(tidy_tags(fields.get("tags", ())))


class PinConversationRequest(Body, frozen=True):
    """The conversation, and whether to pin it."""

    examples: ClassVar[Examples] = {"contract": {"conversation_id": 1, "pinned": True}}

    conversation_id: SentId
    pinned: bool


class ArchiveConversationRequest(Body, frozen=True):
    """The conversation, and whether to archive it."""

    examples: ClassVar[Examples] = {"contract": {"conversation_id": 1, "archived": True}}

    conversation_id: SentId
    archived: bool


class DeleteConversationsRequest(Body, frozen=True):
    """The conversations to delete: those with these ids, or all archived ones."""

    examples: ClassVar[Examples] = {
        "contract": {"conversation_ids": [1, 2]},
        "archived": {"archived": True},
    }

    conversation_ids: list[SentId] | None = None
    archived: bool = False


class DeletedConversationsInfo(msgspec.Struct, frozen=True):
    """How many conversations were deleted, and the ids that belong to none of the caller's."""

    examples: ClassVar[Examples] = {"contract": {"deleted": 2, "not_found": []}}

    deleted: Count
    not_found: list[int]
