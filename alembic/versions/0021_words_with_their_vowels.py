"""Texts are found by other words: points and invisible characters no longer end one, and Indian vowel signs count."""

import logging

import sqlalchemy as sa
from alembic import op

from baio_domain.finding import words_of

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

logger = logging.getLogger("baio.database")

BATCH = 1000
"""Texts that are looked at at once."""

TEXTS = """
    SELECT indexed_texts.id, indexed_texts.user_id, indexed_texts.conversation_id, message_id, words,
        substr(coalesce(content, title), 1, 100000) AS content
    FROM indexed_texts JOIN conversations ON conversations.id = indexed_texts.conversation_id
    LEFT JOIN messages ON messages.id = message_id
    WHERE indexed_texts.id > :after ORDER BY indexed_texts.id LIMIT :batch
"""
# Not an update, which the triggers of SQLite's index would not see.
REMOVE = "DELETE FROM indexed_texts WHERE id = :id"
ADD = """
    INSERT INTO indexed_texts (id, user_id, conversation_id, message_id, words)
    VALUES (:id, :user_id, :conversation_id, :message_id, :words)
"""


def upgrade() -> None:
    connection, after, done = op.get_bind(), 0, 0
    while rows := connection.execute(sa.text(TEXTS), {"after": after, "batch": BATCH}).mappings().fetchall():
        found = [{**row, "words": words_of(row["content"])} for row in rows]
        changed = [new for old, new in zip(rows, found, strict=True) if new["words"] != old["words"]]
        if changed:
            connection.execute(sa.text(REMOVE), [{"id": each["id"]} for each in changed])
        if added := [each for each in changed if each["words"]]:
            connection.execute(sa.text(ADD), added)
        after, done = rows[-1]["id"], done + len(rows)
        logger.info("indexing texts again", extra={"done": done})
    if connection.dialect.name == "sqlite":
        op.execute("UPDATE text_index_deletions SET noted = noted + 1")


def downgrade() -> None:
    """Leave the words: most are the same, and the version before finds by them what it did."""
