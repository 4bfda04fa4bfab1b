"""The JSON of the export of an account."""

from typing import ClassVar

import msgspec

from baio_api.schemas.accounts import SessionInfo, UserInfo
from baio_api.schemas.answers import AnswerRecordWithAll
from baio_api.schemas.api_tokens import TokenInfo
from baio_api.schemas.common import Count, Examples, Id, Time
from baio_api.schemas.conversations import ConversationInfo, MessageInfo
from baio_api.schemas.filing import FilingInfo
from baio_api.schemas.identities import IdentityInfo
from baio_api.schemas.sequences import SequenceInfo
from baio_api.schemas.settings import PresetInfo, SettingsInfo
from baio_api.schemas.tools import ToolCallRecord
from baio_api.schemas.usage import UsageOfDay


class ExportedAccount(UserInfo, frozen=True):
    """An account as it is stored, except for the password's hash."""

    examples: ClassVar[Examples] = {
        "contract": {
            **UserInfo.examples["contract"],
            "id": 1,
            "created_at": "2024-01-15T09:30:00.000001Z",
            "administrator": False,
        }
    }

    id: Id
    created_at: Time
    administrator: bool


class ExportedSession(msgspec.Struct, frozen=True):
    """A session."""

    examples: ClassVar[Examples] = {
        "contract": {name: value for name, value in SessionInfo.examples["contract"].items() if name != "current"}
    }

    id: Id
    created_at: Time
    last_used_at: Time
    user_agent: str


class ExportedAct(msgspec.Struct, frozen=True):
    """What was done to the account, when, and from where. ``operator`` is empty if the owner did it."""

    examples: ClassVar[Examples] = {
        "contract": {
            "at": "2024-01-15T10:00:00.000001Z",
            "act": "signed-in",
            "operator": "",
            "address": "192.0.2.7",
            "request_id": "5f0c9a1e2b7d4c3f8a6e",
            "note": "",
        }
    }

    at: Time
    act: str
    operator: str
    address: str
    request_id: str
    note: str


class ExportedKey(msgspec.Struct, frozen=True):
    """A stored API key, by its nickname and provider."""

    examples: ClassVar[Examples] = {
        "contract": {"nickname": "OpenAI Key", "provider": "OpenAI", "created_at": "2024-10-27T14:23:35.321000Z"}
    }

    nickname: str
    provider: str
    created_at: Time


class ExportedText(msgspec.Struct, frozen=True):
    """The text of an answer that is in no message: a later answer replaced it, or it is still being written."""

    examples: ClassVar[Examples] = {"contract": {"answer_id": 6, "content": "Key aspects include"}}

    answer_id: Id
    content: str


class ExportedIdempotencyKey(msgspec.Struct, frozen=True):
    """An idempotency key that is remembered, and the id of what its request created."""

    examples: ClassVar[Examples] = {
        "contract": {"key": "6c1d0e5a", "result_id": 7, "created_at": "2024-01-15T10:01:00.000001Z"}
    }

    key: str
    result_id: Id
    created_at: Time


class ExportedIdentity(msgspec.Struct, frozen=True):
    """An identity at an institution that signs in to the account."""

    examples: ClassVar[Examples] = {
        "contract": {
            name: value
            for name, value in IdentityInfo.examples["contract"].items()
            if name not in ("id", "provider", "label")
        }
    }

    issuer: str
    subject: str
    created_at: Time
    last_used_at: Time


class ExportedConversation(msgspec.Struct, frozen=True):
    """A conversation with its messages, the records of its answers and of its tools' calls, and texts in no message.

    ``goes_at`` is when it is deleted if nothing happens in it, null for never.
    """

    examples: ClassVar[Examples] = {
        "contract": {
            **ConversationInfo.examples["contract"],
            "created_at": "2024-01-15T10:00:00.000001Z",
            **FilingInfo.examples["contract"],
            "kept": False,
            "temporary": False,
            "goes_at": "2025-01-14T10:02:00.000001Z",
            "answers": [AnswerRecordWithAll.examples["contract"]],
            "kept_texts": [ExportedText.examples["contract"]],
            "tool_calls": [ToolCallRecord.examples["contract"]],
            "settings": SettingsInfo.examples["contract"],
        }
    }

    id: Id
    title: str
    created_at: Time
    updated_at: Time
    tags: list[str]
    pinned: bool
    archived: bool
    kept: bool
    temporary: bool
    goes_at: Time | None
    messages: list[MessageInfo]
    answers: list[AnswerRecordWithAll]
    kept_texts: list[ExportedText]
    tool_calls: list[ToolCallRecord]
    settings: SettingsInfo


class ExportedUsage(UsageOfDay, frozen=True, kw_only=True):
    """What the account's answers of one day cost in tokens, also those of conversations that are deleted."""

    examples: ClassVar[Examples] = {"contract": {**UsageOfDay.examples["contract"], "cached_tokens": 0}}

    cached_tokens: Count


class ExportedData(msgspec.Struct, frozen=True):
    """Everything that is stored about a user."""

    examples: ClassVar[Examples] = {
        "contract": {
            "account": ExportedAccount.examples["contract"],
            "two_factor_enabled_at": "2024-01-15T09:45:00.000001Z",
            "sessions": [ExportedSession.examples["contract"]],
            "api_tokens": [TokenInfo.examples["contract"]],
            "api_keys": [ExportedKey.examples["contract"]],
            "conversations": [ExportedConversation.examples["contract"]],
            "audit": [ExportedAct.examples["contract"]],
            "idempotency_keys": [ExportedIdempotencyKey.examples["contract"]],
            "tool_calls": [ToolCallRecord.examples["contract"]],
            "sequences": [SequenceInfo.examples["contract"]],
            "usage": [ExportedUsage.examples["contract"]],
            "presets": [PresetInfo.examples["contract"]],
            "identities": [ExportedIdentity.examples["contract"]],
        }
    }

    account: ExportedAccount
    two_factor_enabled_at: Time | None
    sessions: list[ExportedSession]
    api_tokens: list[TokenInfo]
    api_keys: list[ExportedKey]
    conversations: list[ExportedConversation]
    audit: list[ExportedAct]
    idempotency_keys: list[ExportedIdempotencyKey]
    tool_calls: list[ToolCallRecord]
    sequences: list[SequenceInfo]
    usage: list[ExportedUsage]
    presets: list[PresetInfo]
    identities: list[ExportedIdentity]
