"""The records of tools' calls, and answers that no provider was asked for."""

import sqlalchemy as sa
from alembic import op

from baio_adapters.sql.tables import Id, UtcDateTime

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("stored_bytes", sa.BigInteger(), nullable=False, server_default="0"))
    make_provider_of_answers(nullable=True)
    op.create_table(
        "tool_calls",
        sa.Column("id", Id, nullable=False),
        sa.Column("user_id", Id, nullable=False),
        sa.Column("conversation_id", Id),
        sa.Column("answer_id", Id),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("tool", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("library", sa.Text(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("raw_arguments", sa.Text(), nullable=False),
        sa.Column("offset", sa.Integer(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("arguments", sa.Text()),
        sa.Column("inputs", sa.Text(), nullable=False),
        sa.Column("result", sa.Text()),
        sa.Column("result_sha256", sa.Text()),
        sa.Column("shown", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.Column("quoted", sa.Boolean(), nullable=False),
        sa.Column("ended_at", UtcDateTime()),
        sa.Column("stored_bytes", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_tool_calls_user_id_users"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name=op.f("fk_tool_calls_conversation_id_conversations"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["answer_id"], ["answers.id"], name=op.f("fk_tool_calls_answer_id_answers"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tool_calls")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_tool_calls_user_id_conversation_id_id"), "tool_calls", ["user_id", "conversation_id", "id"]
    )
    op.create_index(op.f("ix_tool_calls_conversation_id_id"), "tool_calls", ["conversation_id", "id"])
    op.create_index(op.f("ix_tool_calls_answer_id_id"), "tool_calls", ["answer_id", "id"])


def downgrade() -> None:
    op.drop_table("tool_calls")
    # Any provider will do for an answer that none was asked for; without tokens it counts for nothing.
    op.execute(
        "UPDATE answers SET provider_id = (SELECT min(id) FROM providers), completion_estimate = 0"
        " WHERE provider_id IS NULL"
    )
    make_provider_of_answers(nullable=False)
    op.drop_column("users", "stored_bytes")


def make_provider_of_answers(*, nullable: bool) -> None:
    """Let answers be without provider, or not."""
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        op.alter_column("answers", "provider_id", nullable=nullable)
        return
    # SQLite makes the table anew. It would forget the last id that was given, and so give it again.
    last = sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'answers'")
    newest = connection.execute(last).scalar()
    with op.batch_alter_table("answers", table_kwargs={"sqlite_autoincrement": True}) as batch:
        batch.alter_column("provider_id", existing_type=Id, nullable=nullable)
    if newest is not None:
        connection.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = 'answers'"))
        connection.execute(
            sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES ('answers', :newest)"), {"newest": newest}
        )
