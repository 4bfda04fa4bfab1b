"""When a conversation was last active, its tags, and whether it is pinned or archived."""

import sqlalchemy as sa
from alembic import op

from baio_adapters.sql.tables import Id, UtcDateTime

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SET_ACTIVITY = """
    UPDATE conversations SET updated_at = coalesce(
        (SELECT created_at FROM messages WHERE conversation_id = conversations.id ORDER BY id DESC LIMIT 1), created_at)
"""


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


def downgrade() -> None:
    op.drop_table("conversation_tags")
    op.drop_index("ix_conversations_activity", "conversations")
    for column in ("archived", "pinned", "updated_at"):
        op.drop_column("conversations", column)
