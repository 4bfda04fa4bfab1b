"""The tables: a dict of rows each."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime

from baio_domain.entities import (
    Answer,
    ApiKey,
    ApiToken,
    AuditEntry,
    ChatSettings,
    Conversation,
    DayOfUsage,
    Filing,
    Message,
    Model,
    Preset,
    Retention,
    Role,
    SecondFactor,
    SequenceContent,
    Session,
    StoredSequence,
    ToolCall,
    UsedTokens,
    User,
    stored_size,
)
from baio_domain.errors import AccountNotFound
from baio_domain.identities import Assertion, Identity, StartedSignIn
from baio_domain.ports import IdempotencyRecord, NewAnswer


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """An answer, and what only storage needs of it."""

    answer: Answer
    new: NewAnswer
    lease_until: datetime
    worker: int | None
    text: str = ""
    stopping: bool = False
    message_id: int | None = None
    completion_estimate: int = 0
    unused_parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SequenceRow:
    """A sequence, and what only storage needs of it."""

    sequence: StoredSequence
    content: SequenceContent
    stored_bytes: int


@dataclass(slots=True)
class Tables:
    """All rows. Entities are frozen, so a copy of the dicts is a snapshot."""

    users: dict[int, User] = field(default_factory=dict)
    password_resets: dict[int, tuple[bytes, datetime]] = field(default_factory=dict)
    sessions: dict[int, Session] = field(default_factory=dict)
    api_tokens: dict[int, ApiToken] = field(default_factory=dict)
    identities: dict[int, Identity] = field(default_factory=dict)
    identity_sessions: dict[int, tuple[int, str | None]] = field(default_factory=dict)
    sign_ins: dict[bytes, tuple[StartedSignIn, datetime]] = field(default_factory=dict)
    tickets: dict[bytes, tuple[Assertion, str, datetime]] = field(default_factory=dict)
    second_factors: dict[int, SecondFactor] = field(default_factory=dict)
    recovery_codes: dict[tuple[int, bytes], None] = field(default_factory=dict)
    failed_attempts: dict[bytes, datetime] = field(default_factory=dict)
    known_networks: dict[tuple[int, bytes], datetime] = field(default_factory=dict)
    invitations: dict[bytes, tuple[str | None, datetime]] = field(default_factory=dict)
    audit: dict[int, AuditEntry] = field(default_factory=dict)
    conversations: dict[int, Conversation] = field(default_factory=dict)
    filings: dict[int, Filing] = field(default_factory=dict)
    retentions: dict[int, Retention] = field(default_factory=dict)
    imports: dict[int, bytes] = field(default_factory=dict)
    messages: dict[int, Message] = field(default_factory=dict)
    answers: dict[int, AnswerRow] = field(default_factory=dict)
    settings: dict[int, tuple[ChatSettings, int | None]] = field(default_factory=dict)
    presets: dict[int, tuple[Preset, int | None]] = field(default_factory=dict)
    usage: dict[tuple[int, date, int, str], DayOfUsage] = field(default_factory=dict)
    api_keys: dict[int, ApiKey] = field(default_factory=dict)
    providers: dict[int, str] = field(default_factory=dict)
    models: dict[int, Model] = field(default_factory=dict)
    idempotency: dict[tuple[int, str], tuple[bytes, IdempotencyRecord, int | None]] = field(default_factory=dict)
    tool_calls: dict[int, ToolCall] = field(default_factory=dict)
    sequences: dict[int, SequenceRow] = field(default_factory=dict)
    conversation_sequences: dict[tuple[int, int], None] = field(default_factory=dict)
    sequence_mentions: dict[int, tuple[int, int, tuple[int, int] | None]] = field(default_factory=dict)
    last_ids: dict[str, int] = field(default_factory=dict)

    def copy(self) -> "Tables":
        """A snapshot."""
        return Tables(*(getattr(self, each.name).copy() for each in fields(self)))

    @property
    def rows(self) -> int:
        """How many rows there are in all tables."""
        beside_others = ("last_ids", "filings", "retentions", "imports")
        return sum(len(getattr(self, each.name)) for each in fields(self) if each.name not in beside_others)

    def next_id(self, table: str) -> int:
        """An id that this table has never used."""
        self.last_ids[table] = self.last_ids.get(table, 0) + 1
        return self.last_ids[table]

    def user(self, user_id: int) -> User:
        """The account, or raise AccountNotFound."""
        try:
            return self.users[user_id]
        except KeyError:
            raise AccountNotFound from None

    def owns(self, conversation_id: int, owner: int) -> bool:
        """Whether the conversation exists and is this user's."""
        conversation = self.conversations.get(conversation_id)
        return conversation is not None and conversation.user_id == owner

    def keep_sessions(self, rule: Callable[[Session], bool]) -> None:
        """Delete all other sessions, and what is known of them."""
        self.sessions = {k: v for k, v in self.sessions.items() if rule(v)}
        self.identity_sessions = {k: v for k, v in self.identity_sessions.items() if k in self.sessions}

    def delete_sequences(self, ids: Collection[int]) -> None:
        """Delete these sequences, and take them from their conversations."""
        self.sequences = {k: v for k, v in self.sequences.items() if k not in ids}
        self.conversation_sequences = {k: None for k in self.conversation_sequences if k[1] not in ids}
        self.sequence_mentions = {k: v for k, v in self.sequence_mentions.items() if v[1] not in ids}

    def count_bytes(self, conversation_id: int, more: int) -> None:
        """Count what is stored for a conversation that exists."""
        conversation = self.conversations[conversation_id]
        self.conversations[conversation_id] = replace(conversation, stored_bytes=conversation.stored_bytes + more)

    def note_activity(self, conversation_id: int, now: datetime) -> None:
        """Note that something was said or has ended in a conversation that exists."""
        self.filings[conversation_id] = replace(self.filings[conversation_id], updated_at=now)
        self.retentions[conversation_id] = replace(self.retentions[conversation_id], updated_at=now)

    def count_usage(self, used: UsedTokens) -> None:
        """Count an answer in the ledger."""
        key = (used.owner, used.day, used.provider_id, used.model)
        none = DayOfUsage(used.day, self.providers[used.provider_id], used.model, 0, 0, 0, estimated=False)
        before = self.usage.get(key, none)
        self.usage[key] = replace(
            before,
            answers=before.answers + 1,
            prompt_tokens=before.prompt_tokens + used.usage.prompt_tokens,
            completion_tokens=before.completion_tokens + used.usage.completion_tokens,
            estimated=before.estimated or used.estimated,
            cached_tokens=before.cached_tokens + (used.usage.cached_tokens or 0),
        )

    def add_message(self, conversation_id: int, role: Role, content: str, now: datetime) -> Message:
        """Append a message to a conversation that exists."""
        self.count_bytes(conversation_id, stored_size(content))
        self.note_activity(conversation_id, now)
        message = Message(self.next_id("messages"), conversation_id, role, content, now)
        self.messages[message.id] = message
        return message
