"""Stored sequences, and the conversations that they belong to."""

import sqlalchemy as sa
from alembic import op

from baio_adapters.sql.tables import Id, UtcDateTime

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sequences",
        sa.Column("id", Id, nullable=False),
        sa.Column("user_id", Id, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("molecule", sa.Text(), nullable=False),
        sa.Column("topology", sa.Text(), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.Column("feature_count", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("origin_id", sa.BigInteger()),
        sa.Column("origin_start", sa.Integer()),
        sa.Column("origin_end", sa.Integer()),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("stored_bytes", sa.Integer(), nullable=False),
        sa.Column("letters", sa.LargeBinary(), nullable=False),
        sa.Column("features", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_sequences_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sequences")),
        sa.UniqueConstraint(
            "user_id", "sha256", "topology", "name", name=op.f("uq_sequences_user_id_sha256_topology_name")
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_sequences_user_id_id"), "sequences", ["user_id", "id"])
    op.create_index(op.f("ix_sequences_user_id_stored_bytes"), "sequences", ["user_id", "stored_bytes"])
    op.create_table(
        "conversation_sequences",
        sa.Column("conversation_id", Id, autoincrement=False, nullable=False),
        sa.Column("sequence_id", Id, autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name=op.f("fk_conversation_sequences_conversation_id_conversations"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["sequence_id"],
            ["sequences.id"],
            name=op.f("fk_conversation_sequences_sequence_id_sequences"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("conversation_id", "sequence_id", name=op.f("pk_conversation_sequences")),
    )
    op.create_index(op.f("ix_conversation_sequences_sequence_id"), "conversation_sequences", ["sequence_id"])
    op.create_table(
        "sequence_mentions",
        sa.Column("id", Id, nullable=False),
        sa.Column("message_id", Id, nullable=False),
        sa.Column("sequence_id", Id, nullable=False),
        sa.Column("start", sa.Integer()),
        sa.Column("end", sa.Integer()),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.id"], name=op.f("fk_sequence_mentions_message_id_messages"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["sequence_id"],
            ["sequences.id"],
            name=op.f("fk_sequence_mentions_sequence_id_sequences"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sequence_mentions")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_sequence_mentions_message_id"), "sequence_mentions", ["message_id"])
    op.create_index(op.f("ix_sequence_mentions_sequence_id"), "sequence_mentions", ["sequence_id"])


def downgrade() -> None:
    op.drop_table("sequence_mentions")
    op.drop_table("conversation_sequences")
    op.drop_table("sequences")
