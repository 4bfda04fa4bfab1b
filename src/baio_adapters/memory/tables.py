"""The tables: a dict of rows each."""

from collections.abc import Collection
from dataclasses import dataclass, field, fields, replace
from datetime import datetime

from baio_domain.entities import (
    Answer,
    ApiKey,
    AuditEntry,
    Conversation,
    Message,
    Model,
    Role,
    SecondFactor,
    SequenceContent,
    Session,
    StoredSequence,
    ToolCall,
    User,
    stored_size,
)
from baio_domain.errors import AccountNotFound
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
    second_factors: dict[int, SecondFactor] = field(default_factory=dict)
    recovery_codes: dict[tuple[int, bytes], None] = field(default_factory=dict)
    failed_attempts: dict[bytes, datetime] = field(default_factory=dict)
    known_networks: dict[tuple[int, bytes], datetime] = field(default_factory=dict)
    invitations: dict[bytes, tuple[str | None, datetime]] = field(default_factory=dict)
    audit: dict[int, AuditEntry] = field(default_factory=dict)
    conversations: dict[int, Conversation] = field(default_factory=dict)
    messages: dict[int, Message] = field(default_factory=dict)
    answers: dict[int, AnswerRow] = field(default_factory=dict)
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
        return sum(len(getattr(self, each.name)) for each in fields(self) if each.name != "last_ids")

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

    def delete_sequences(self, ids: Collection[int]) -> None:
        """Delete these sequences, and take them from their conversations."""
        self.sequences = {k: v for k, v in self.sequences.items() if k not in ids}
        self.conversation_sequences = {k: None for k in self.conversation_sequences if k[1] not in ids}
        self.sequence_mentions = {k: v for k, v in self.sequence_mentions.items() if v[1] not in ids}

    def count_bytes(self, conversation_id: int, more: int) -> None:
        """Count what is stored for a conversation that exists."""
        conversation = self.conversations[conversation_id]
        self.conversations[conversation_id] = replace(conversation, stored_bytes=conversation.stored_bytes + more)

    def add_message(self, conversation_id: int, role: Role, content: str, now: datetime) -> Message:
        """Append a message to a conversation that exists."""
        self.count_bytes(conversation_id, stored_size(content))
        message = Message(self.next_id("messages"), conversation_id, role, content, now)
        self.messages[message.id] = message
        return message
