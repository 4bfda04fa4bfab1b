"""The JSON of how long conversations are kept."""

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from baio_api.bodies import Body
from baio_api.schemas.common import Examples, Id, SentId, Time
from baio_domain.entities import TEMPORARY, RetentionPolicy
from baio_domain.use_cases.retention import KeptConversation


class KeepConversationRequest(Body, frozen=True):
    """The conversation to exempt, or, with ``kept`` false, to exempt no longer."""

    examples: ClassVar[Examples] = {
        "contract": {"conversation_id": 1},
        "undone": {"conversation_id": 1, "kept": False},
    }

    conversation_id: SentId
    kept: bool = True


class ConversationRetention(msgspec.Struct, frozen=True):
    """How long a conversation is kept: ``goes_at`` is when it is deleted if nothing happens in it, null for never."""

    examples: ClassVar[Examples] = {
        "contract": {"conversation_id": 1, "kept": False, "temporary": True, "goes_at": "2024-01-16T10:02:00.000001Z"}
    }

    conversation_id: Id
    kept: bool
    temporary: bool
    goes_at: Time | None

    @classmethod
    def of(cls, kept: KeptConversation) -> "ConversationRetention":
        """As clients get it."""
        return cls(kept.id, kept.retention.kept, kept.retention.temporary, kept.goes_at)


Days = Annotated[int, Meta(extra_json_schema={"minimum": 1})]


class RetentionInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """How long conversations are kept after their last activity, in days; ``keep_days`` is null for forever.

    ``keep_allowed`` says whether one can be exempted. ``conversation`` is there if the request names one.
    """

    examples: ClassVar[Examples] = {
        "contract": {"keep_days": 365, "keep_allowed": True, "temporary_days": 1},
        "conversation": {
            "keep_days": 365,
            "keep_allowed": True,
            "temporary_days": 1,
            "conversation": ConversationRetention.examples["contract"],
        },
    }

    keep_days: Days | None
    keep_allowed: bool
    temporary_days: Days
    conversation: ConversationRetention | None = None

    @classmethod
    def of(cls, policy: RetentionPolicy, kept: KeptConversation | None) -> "RetentionInfo":
        """As clients get it."""
        return cls(
            policy.period.days if policy.period else None,
            policy.keeping_allowed,
            TEMPORARY.days,
            ConversationRetention.of(kept) if kept else None,
        )
