"""The tables. Columns have the order of the entity's fields, followed by columns that only storage needs."""

from datetime import UTC, datetime
from typing import Any, final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.types import TypeEngine

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


@final
class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC. SQLite has no such type: there it is text in ISO 8601, of a fixed width, so that it sorts."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text on SQLite, a timestamp with time zone elsewhere."""
        return dialect.type_descriptor(String(32) if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | str | None:
        """Convert to UTC. A time without a time zone is a bug."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time needs its time zone")
        value = value.astimezone(UTC)
        return value.isoformat(timespec="microseconds") if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | str | None, dialect: Dialect) -> datetime | None:
        """Return the time in UTC."""
        del dialect
        if value is None:
            return None
        return datetime.fromisoformat(value) if isinstance(value, str) else value.astimezone(UTC)


# SQLite assigns ids only to an INTEGER primary key; AUTOINCREMENT keeps it from using an id again.
Id = BigInteger().with_variant(Integer(), "sqlite")


def _table(name: str, *columns: Column[Any] | Index | UniqueConstraint) -> Table:
    return Table(name, metadata, Column("id", Id, primary_key=True), *columns, sqlite_autoincrement=True)


def _owner(table: str) -> Column[int]:
    return Column(f"{table.removesuffix('s')}_id", Id, ForeignKey(f"{table}.id", ondelete="CASCADE"), nullable=False)


users = _table(
    "users",
    Column("username", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("first_name", Text, nullable=False),
    Column("last_name", Text, nullable=False),
    Column("country", Text, nullable=False),
    Column("affiliation", Text, nullable=False),
    Column("position", Text, nullable=False),
    Column("field_of_study", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("disabled_at", UtcDateTime),
    Column("administrator", Boolean, nullable=False, server_default=false()),
    # Names are unique without regard to case, and neither database folds case as Python does.
    Column("username_folded", Text, nullable=False),
    Column("email_folded", Text, nullable=False),
    # What is stored for the account in no conversation, kept up to date as there.
    Column("stored_bytes", BigInteger, nullable=False, server_default="0"),
    # Set while what is left of a deleted account is deleted bit by bit.
    Column("deleted_at", UtcDateTime),
    UniqueConstraint("username_folded"),
    UniqueConstraint("email_folded"),
)
_IS_DELETED = users.c.deleted_at.is_not(None)
Index(None, users.c.deleted_at, sqlite_where=_IS_DELETED, postgresql_where=_IS_DELETED)

password_resets = Table(
    "password_resets",
    metadata,
    Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("digest", LargeBinary, nullable=False),
    Column("until", UtcDateTime, nullable=False),
    UniqueConstraint("digest"),
)

sessions = _table(
    "sessions",
    _owner("users"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("last_used_at", UtcDateTime, nullable=False),
    Column("user_agent", Text, nullable=False),
    # What tokens name the session by: random, because ids are given again after a restored backup.
    Column("token_id", Text, nullable=False),
    UniqueConstraint("token_id"),
)
Index(None, sessions.c.user_id, sessions.c.id)
Index(None, sessions.c.last_used_at)
Index(None, sessions.c.created_at)

api_tokens = _table(
    "api_tokens",
    _owner("users"),
    Column("name", Text, nullable=False),
    # Separated by spaces.
    Column("scopes", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    Column("ending", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    UniqueConstraint("digest"),
    UniqueConstraint("user_id", "name"),
)
Index(None, api_tokens.c.user_id, api_tokens.c.id)

identities = _table(
    "identities",
    _owner("users"),
    Column("issuer", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("last_used_at", UtcDateTime, nullable=False),
    UniqueConstraint("issuer", "subject"),
)
Index(None, identities.c.user_id, identities.c.id)

identity_sessions = Table(
    "identity_sessions",
    metadata,
    Column("session_id", Id, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("identity_id", Id, ForeignKey("identities.id", ondelete="CASCADE"), nullable=False),
    # What the institution calls its own session, in which this one was opened.
    Column("their_session", Text),
    Index(None, "identity_id"),
    Index(None, "their_session"),
)

sign_ins = Table(
    "sign_ins",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("institution", Text, nullable=False),
    Column("return_to", Text, nullable=False),
    Column("challenge", Text, nullable=False),
    Column("until", UtcDateTime, nullable=False),
    Index(None, "until"),
)

tickets = Table(
    "tickets",
    metadata,
    Column("institution", Text, nullable=False),
    Column("issuer", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("their_session", Text),
    Column("username", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("first_name", Text, nullable=False),
    Column("last_name", Text, nullable=False),
    Column("digest", LargeBinary, primary_key=True),
    Column("challenge", Text, nullable=False),
    Column("until", UtcDateTime, nullable=False),
    Index(None, "until"),
)

second_factors = Table(
    "second_factors",
    metadata,
    Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("enabled_at", UtcDateTime),
    # The time step of the last code that was accepted: only a later one is accepted.
    Column("last_counter", BigInteger, nullable=False),
)

recovery_codes = Table(
    "recovery_codes",
    metadata,
    Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("digest", LargeBinary, primary_key=True),
)

guesses = Table(
    "guesses",
    metadata,
    # A keyed digest, which reveals neither an account nor an address.
    Column("key", LargeBinary, primary_key=True),
    Column("until", UtcDateTime, nullable=False),
    Index(None, "until"),
)

known_networks = Table(
    "known_networks",
    metadata,
    Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    # A keyed digest of the account and a network from which its owner has signed in.
    Column("digest", LargeBinary, primary_key=True),
    Column("last_used_at", UtcDateTime, nullable=False),
)

invitations = Table(
    "invitations",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    # Null where anybody may use it.
    Column("email_folded", Text),
    Column("until", UtcDateTime, nullable=False),
)

audit = _table(
    "audit",
    Column("at", UtcDateTime, nullable=False),
    Column("act", Text, nullable=False),
    # The account that it is about. The entry outlives it.
    Column("user_id", Id, ForeignKey("users.id", ondelete="SET NULL")),
    Column("operator", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("note", Text, nullable=False),
    # The account of the administrator who acted. No foreign key: the entry still tells them apart when it is deleted.
    Column("operator_id", BigInteger),
)
Index(None, audit.c.user_id, audit.c.id)
Index(None, audit.c.user_id, audit.c.act, audit.c.id)
Index(None, audit.c.at)
_BY_ACCOUNTS = text("operator_id IS NOT NULL")
Index("ix_audit_operator", audit.c.operator_id, sqlite_where=_BY_ACCOUNTS, postgresql_where=_BY_ACCOUNTS)

conversations = _table(
    "conversations",
    _owner("users"),
    Column("title", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # Kept up to date by whatever stores text, so that nothing has to be summed up over all messages.
    Column("stored_bytes", BigInteger, nullable=False, server_default="0"),
    # Always set. SQLite adds no column without a default that can't be null, unless the whole table is made anew.
    Column("updated_at", UtcDateTime),
    Column("pinned", Boolean, nullable=False, server_default=false()),
    Column("archived", Boolean, nullable=False, server_default=false()),
    Column("kept", Boolean, nullable=False, server_default=false()),
    Column("temporary", Boolean, nullable=False, server_default=false()),
    # Both only for a conversation that was imported. The digest is that of its messages.
    Column("imported_at", UtcDateTime),
    Column("import_digest", LargeBinary),
)
Index("ix_conversations_retention", conversations.c.updated_at)
_TEMPORARY = text("temporary")
Index(
    "ix_conversations_temporary",
    conversations.c.updated_at,
    sqlite_where=_TEMPORARY,
    postgresql_where=_TEMPORARY,
)
_IMPORTED = text("import_digest IS NOT NULL")
Index(
    "uq_conversations_import",
    conversations.c.user_id,
    conversations.c.import_digest,
    unique=True,
    sqlite_where=_IMPORTED,
    postgresql_where=_IMPORTED,
)
Index(None, conversations.c.user_id, conversations.c.created_at.desc(), conversations.c.id.desc())
Index(None, conversations.c.user_id, conversations.c.stored_bytes)  # summed with each question
Index(
    "ix_conversations_activity",
    conversations.c.user_id,
    conversations.c.archived,
    conversations.c.pinned,
    conversations.c.updated_at,
    conversations.c.id,
)

conversation_tags = Table(
    "conversation_tags",
    metadata,
    Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("tag", Text, primary_key=True),
    Column(
        "conversation_id",
        Id,
        ForeignKey("conversations.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Index(None, "conversation_id"),
)

messages = _table(
    "messages",
    _owner("conversations"),
    Column("role", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
Index(None, messages.c.conversation_id, messages.c.id)

providers = Table(
    "providers",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    UniqueConstraint("name"),
)

models = Table(
    "models",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("provider_id", Id, ForeignKey("providers.id"), nullable=False),
    Column("identifier", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("context_window", Integer, nullable=False),
    Column("longest_answer", Integer, key="max_output_tokens", nullable=False),
    Column("system_role", Boolean, nullable=False),
    Column("tools", Boolean, nullable=False),
    Column("streaming", Boolean, nullable=False),
    Column("retired", Boolean, nullable=False),
    UniqueConstraint("provider_id", "identifier"),
)

api_keys = _table(
    "api_keys",
    _owner("users"),
    Column("provider_id", Id, ForeignKey("providers.id"), nullable=False),
    Column("nickname", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("user_id", "nickname"),
)
Index(None, api_keys.c.user_id, api_keys.c.id)


def _chosen() -> tuple[Column[Any] | Index, ...]:
    """The columns of ``ChatSettings``."""
    return (
        Column("system", Text),
        Column("model", Text),
        Column("api_key_id", Id, ForeignKey("api_keys.id", ondelete="SET NULL")),
        Column("parameters", Text, nullable=False),  # JSON, as are the tools
        Column("tools", Text),
        Index(None, "api_key_id"),
    )


settings = Table(
    "settings",
    metadata,
    Column(
        "conversation_id",
        Id,
        ForeignKey("conversations.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    *_chosen(),
)

presets = _table(
    "presets",
    _owner("users"),
    Column("name", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    *_chosen(),
    UniqueConstraint("user_id", "name"),
)
Index(None, presets.c.user_id, presets.c.id)

answers = _table(
    "answers",
    # Both are null for an answer in no conversation. Its row has no text, and is deleted when it ends.
    Column("conversation_id", Id, ForeignKey("conversations.id", ondelete="CASCADE")),
    Column("question_id", Id, ForeignKey("messages.id", ondelete="CASCADE")),
    Column("state", Text, nullable=False),
    Column("requested_model", Text, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finish_reason", Text),
    Column("model", Text),
    Column("prompt_tokens", BigInteger),
    Column("completion_tokens", BigInteger),
    Column("reason", Text),
    Column("ended_at", UtcDateTime),
    Column("left_out", Integer, nullable=False),
    Column("thinking_seconds", Double),
    Column("thinking_tokens", BigInteger),
    # Used if the provider does not count tokens. Null in rows that older versions stored.
    Column("prompt_estimate", BigInteger),
    Column("completion_estimate", BigInteger),
    Column("api_key_id", Id, ForeignKey("api_keys.id", ondelete="SET NULL")),
    Column("message_id", Id, ForeignKey("messages.id", ondelete="SET NULL")),
    # Null where BAiO answers without asking a provider.
    Column("provider_id", Id, ForeignKey("providers.id")),
    Column("lease_until", UtcDateTime, nullable=False),
    Column("stopping", Boolean, nullable=False),
    # Running answers of one owner have different slots, from 1 to their limit: the unique index below enforces it.
    Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("slot", Integer, nullable=False),
    # The number under which its worker holds a lock. Null where the worker could not have one.
    Column("worker", BigInteger),
    # JSON. Null where nothing was set, and where nothing was left out.
    Column("settings", Text),
    Column("unused_parameters", Text),
)
Index(None, answers.c.conversation_id, answers.c.id)
Index(None, answers.c.user_id, answers.c.started_at)
Index(None, answers.c.question_id)
Index(None, answers.c.message_id)
Index(None, answers.c.api_key_id)
_RUNNING = text("state = 'running'")
# The lock: a conversation has at most one running answer, across all processes.
Index("uq_answers_running", answers.c.conversation_id, unique=True, sqlite_where=_RUNNING, postgresql_where=_RUNNING)
Index(
    "uq_answers_slot",
    answers.c.user_id,
    answers.c.slot,
    unique=True,
    sqlite_where=_RUNNING,
    postgresql_where=_RUNNING,
)
Index("ix_answers_lease", answers.c.lease_until, sqlite_where=_RUNNING, postgresql_where=_RUNNING)
Index("ix_answers_worker", answers.c.worker, sqlite_where=_RUNNING, postgresql_where=_RUNNING)

# Titles, where there is no message, questions and answers, by their words. On SQLite, triggers copy them into the
# virtual table text_index; on PostgreSQL, the index ix_indexed_texts_words has them. Both are made by a migration.
indexed_texts = _table(
    "indexed_texts",
    _owner("users"),
    _owner("conversations"),
    Column("message_id", Id, ForeignKey("messages.id", ondelete="CASCADE")),
    Column("words", Text, nullable=False),
    Index(None, "user_id"),  # not read to find texts, but whenever an account is deleted
    Index(None, "conversation_id", "id"),
    Index(None, "message_id"),
)


def is_ours(name: str | None, kind: str, _parents: object = None) -> bool:
    """Whether a table or an index is one of ``metadata``, and not of the full-text index, which it can't describe."""
    return name is None or kind not in ("table", "index") or not name.startswith(_TEXT_INDEX)


_TEXT_INDEX = ("text_index", "ix_indexed_texts_words")

answer_parts = Table(
    "answer_parts",
    metadata,
    Column("answer_id", Id, ForeignKey("answers.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    # In characters, from the start of the answer.
    Column("offset", Integer, primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False),
)

usage = Table(
    "usage",
    metadata,
    Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    # In UTC, as YYYY-MM-DD.
    Column("day", Text, primary_key=True),
    Column("provider_id", Id, ForeignKey("providers.id"), primary_key=True, autoincrement=False),
    Column("model", Text, primary_key=True),
    Column("answers", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
)

tool_calls = _table(
    "tool_calls",
    _owner("users"),
    # Null for a call in no conversation.
    Column("conversation_id", Id, ForeignKey("conversations.id", ondelete="CASCADE")),
    # Null for a call that no answer has made.
    Column("answer_id", Id, ForeignKey("answers.id", ondelete="CASCADE")),
    Column("round", Integer, nullable=False),
    Column("tool", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("library", Text, nullable=False),
    Column("definition", Text, nullable=False),
    Column("raw_arguments", Text, nullable=False),
    Column("offset", Integer, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("state", Text, nullable=False),
    # JSON as text: a result's hash is that of this very text.
    Column("arguments", Text),
    Column("inputs", Text, nullable=False),
    Column("result", Text),
    Column("result_sha256", Text),
    Column("shown", Text),
    Column("error", Text),
    Column("line", Text, nullable=False),
    Column("length", Integer, nullable=False),
    Column("quoted", Boolean, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("stored_bytes", Integer, nullable=False),
    Index(None, "user_id", "conversation_id", "id"),
    Index(None, "conversation_id", "id"),
    Index(None, "answer_id", "id"),
)

sequences = _table(
    "sequences",
    _owner("users"),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("molecule", Text, nullable=False),
    Column("topology", Text, nullable=False),
    Column("length", Integer, nullable=False),
    Column("feature_count", Integer, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("origin", Text, nullable=False),
    # The message's or the call's id, and the span in a message. No foreign keys: the sequence may outlive both.
    Column("origin_id", BigInteger),
    Column("origin_start", Integer),
    Column("origin_end", Integer),
    Column("created_at", UtcDateTime, nullable=False),
    Column("stored_bytes", Integer, nullable=False),
    # Compressed. Last, so that nothing else has to be read across them.
    Column("letters", LargeBinary, nullable=False),
    Column("features", LargeBinary, nullable=False),
    UniqueConstraint("user_id", "sha256", "topology", "name"),
    Index(None, "user_id", "id"),
    Index(None, "user_id", "stored_bytes"),
)

conversation_sequences = Table(
    "conversation_sequences",
    metadata,
    Column(
        "conversation_id",
        Id,
        ForeignKey("conversations.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("sequence_id", Id, ForeignKey("sequences.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Index(None, "sequence_id"),
)

sequence_mentions = _table(
    "sequence_mentions",
    _owner("messages"),
    Column("sequence_id", Id, ForeignKey("sequences.id", ondelete="CASCADE"), nullable=False),
    # The span in the message. Null for a sequence that is attached to it.
    Column("start", Integer),
    Column("end", Integer),
    Index(None, "message_id"),
    Index(None, "sequence_id"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    # The id of the record that the request created. The kind of request tells the table.
    Column("led_to", Id, key="result_id", nullable=False),
    # The conversation that the request was about; this row is deleted with it.
    Column("conversation_id", Id, ForeignKey("conversations.id", ondelete="CASCADE")),
    Column("created_at", UtcDateTime, nullable=False),
    Index(None, "created_at"),
    Index(None, "user_id", "created_at"),
    Index(None, "conversation_id"),
)
