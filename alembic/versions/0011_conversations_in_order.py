"""When a conversation was last active, its tags, whether it is pinned or archived, and its texts by their words."""

import logging

import sqlalchemy as sa
from alembic import op

from baio_adapters.sql.tables import Id, UtcDateTime
from baio_domain.finding import words_of

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

logger = logging.getLogger("baio.database")

BATCH = 1000
"""Texts that are indexed at once."""

SET_ACTIVITY = """
    UPDATE conversations SET updated_at = coalesce(
        (SELECT created_at FROM messages WHERE conversation_id = conversations.id ORDER BY id DESC LIMIT 1), created_at)
"""


# The number of its user stands before each word, so that a search reads nothing of other users.
ON_SQLITE = (
    "CREATE VIRTUAL TABLE text_index USING fts5(words, content='', columnsize=0, detail=none, tokenize='ascii')",
    """
    CREATE TRIGGER index_text AFTER INSERT ON indexed_texts BEGIN
        INSERT INTO text_index (rowid, words)
        VALUES (new.id, new.user_id || 'x' || replace(new.words, ' ', ' ' || new.user_id || 'x'));
    END
    """,
    """
    CREATE TRIGGER leave_text_out AFTER DELETE ON indexed_texts BEGIN
        INSERT INTO text_index (text_index, rowid, words)
        VALUES ('delete', old.id, old.user_id || 'x' || replace(old.words, ' ', ' ' || old.user_id || 'x'));
    END
    """,
    # How many deletions there were, and after how many of them the index was merged.
    "CREATE TABLE text_index_deletions (noted INTEGER NOT NULL, purged INTEGER NOT NULL)",
    "INSERT INTO text_index_deletions VALUES (0, 0)",
)
ON_POSTGRESQL = (
    """
    CREATE INDEX ix_indexed_texts_words ON indexed_texts USING gin (
        array_to_tsvector(string_to_array(
            user_id::text || 'x' || replace(words, ' ', ' ' || user_id::text || 'x'), ' '
        ))
    ) WITH (gin_pending_list_limit = 256)
    """,
)

TITLES = """
    SELECT id, user_id, id AS conversation_id, NULL AS message_id, title AS content FROM conversations
    WHERE id > :after ORDER BY id LIMIT :batch
"""
MESSAGES = """
    SELECT messages.id, user_id, conversation_id, messages.id AS message_id, substr(content, 1, 100000) AS content
    FROM messages JOIN conversations ON conversations.id = conversation_id
    WHERE messages.id > :after AND role <> 'system' ORDER BY messages.id LIMIT :batch
"""
INDEXED = ("user_id", "conversation_id", "message_id", "words")
ADD = """
    INSERT INTO indexed_texts (user_id, conversation_id, message_id, words)
    VALUES (:user_id, :conversation_id, :message_id, :words)
"""


def index_all(texts: str, name: str) -> None:
    """Index what is there, and say how far it is."""
    connection, after, done = op.get_bind(), 0, 0
    while rows := connection.execute(sa.text(texts), {"after": after, "batch": BATCH}).fetchall():
        found = [(*ids, words_of(content)) for _, *ids, content in rows]
        if indexed := [dict(zip(INDEXED, row, strict=True)) for row in found if row[-1]]:
            connection.execute(sa.text(ADD), indexed)
        after, done = rows[-1].id, done + len(rows)
        logger.info("indexing texts", extra={"texts": name, "done": done})


def upgrade() -> None:
    op.add_column("conversations", sa.Column("updated_at", UtcDateTime()))
    op.add_column("conversations", sa.Column("pinned", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("conversations", sa.Column("archived", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute(SET_ACTIVITY)
    op.create_index("ix_conversations_activity", "conversations", ["user_id", "archived", "pinned", "updated_at", "id"])
    op.create_table(
        "conversation_tags",
        sa.Column("user_id", Id, nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("conversation_id", Id, nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_conversation_tags_user_id_users"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name=op.f("fk_conversation_tags_conversation_id_conversations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("user_id", "tag", "conversation_id", name=op.f("pk_conversation_tags")),
    )
    op.create_index(op.f("ix_conversation_tags_conversation_id"), "conversation_tags", ["conversation_id"])
    op.create_table(
        "indexed_texts",
        sa.Column("id", Id, nullable=False),
        sa.Column("user_id", Id, nullable=False),
        sa.Column("conversation_id", Id, nullable=False),
        sa.Column("message_id", Id),
        sa.Column("words", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_indexed_texts_user_id_users"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name=op.f("fk_indexed_texts_conversation_id_conversations"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.id"], name=op.f("fk_indexed_texts_message_id_messages"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_indexed_texts")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_indexed_texts_conversation_id_id"), "indexed_texts", ["conversation_id", "id"])
    op.create_index(op.f("ix_indexed_texts_message_id"), "indexed_texts", ["message_id"])
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    if on_sqlite:
        for statement in ON_SQLITE:
            op.execute(statement)
    index_all(TITLES, "titles")
    index_all(MESSAGES, "messages")
    if not on_sqlite:
        for statement in ON_POSTGRESQL:
            op.execute(statement)


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER leave_text_out")
        op.execute("DROP TABLE text_index")
        op.execute("DROP TABLE text_index_deletions")
    op.drop_table("indexed_texts")
    op.drop_table("conversation_tags")
    op.drop_index("ix_conversations_activity", "conversations")
    for column in ("archived", "pinned", "updated_at"):
        op.drop_column("conversations", column)
