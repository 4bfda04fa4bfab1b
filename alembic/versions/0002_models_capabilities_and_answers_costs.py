"""What models can do; what an answer left out, cost and was asked with; what a request was about."""

import sqlalchemy as sa
from alembic import op

from baio_adapters.sql.tables import Id

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# SQLite changes a table by making it anew; ids are not used again there either.
KEEP_IDS = {"sqlite_autoincrement": True}


def _ids_of_answers() -> int | None:
    if op.get_bind().dialect.name != "sqlite":
        return None
    return op.get_bind().execute(sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'answers'")).scalar()


def _go_on_from(ids: int | None) -> None:
    if ids is not None:
        op.get_bind().execute(sa.text("UPDATE sqlite_sequence SET seq = :ids WHERE name = 'answers'"), {"ids": ids})
        op.get_bind().execute(
            sa.text(
                "INSERT INTO sqlite_sequence (name, seq) SELECT 'answers', :ids"
                " WHERE NOT EXISTS (SELECT * FROM sqlite_sequence WHERE name = 'answers')"
            ),
            {"ids": ids},
        )


def upgrade() -> None:
    # What is stored already gets a value; from then on each row brings its own.
    with op.batch_alter_table("models") as models:
        models.add_column(sa.Column("tools", sa.Boolean(), nullable=False, server_default=sa.false()))
        models.add_column(sa.Column("streaming", sa.Boolean(), nullable=False, server_default=sa.true()))
    with op.batch_alter_table("models") as models:
        models.alter_column("tools", server_default=None)
        models.alter_column("streaming", server_default=None)

    ids = _ids_of_answers()
    with op.batch_alter_table("answers", table_kwargs=KEEP_IDS) as answers:
        answers.add_column(sa.Column("left_out", sa.Integer(), nullable=False, server_default="0"))
        answers.add_column(sa.Column("prompt_estimate", sa.BigInteger()))
        answers.add_column(sa.Column("completion_estimate", sa.BigInteger()))
        answers.add_column(sa.Column("api_key_id", Id))
        answers.create_index(op.f("ix_answers_api_key_id"), ["api_key_id"])
        answers.create_index(op.f("ix_answers_user_id_started_at"), ["user_id", "started_at"])
        answers.create_foreign_key(
            op.f("fk_answers_api_key_id_api_keys"), "api_keys", ["api_key_id"], ["id"], ondelete="SET NULL"
        )
    with op.batch_alter_table("answers", table_kwargs=KEEP_IDS) as answers:
        answers.alter_column("left_out", server_default=None)
    _go_on_from(ids)

    with op.batch_alter_table("idempotency_keys") as keys:
        keys.add_column(sa.Column("conversation_id", Id))
        keys.create_index(op.f("ix_idempotency_keys_conversation_id"), ["conversation_id"])
        keys.create_foreign_key(
            op.f("fk_idempotency_keys_conversation_id_conversations"),
            "conversations",
            ["conversation_id"],
            ["id"],
            ondelete="CASCADE",
        )


def downgrade() -> None:
    with op.batch_alter_table("idempotency_keys") as keys:
        keys.drop_constraint(op.f("fk_idempotency_keys_conversation_id_conversations"), type_="foreignkey")
        keys.drop_index(op.f("ix_idempotency_keys_conversation_id"))
        keys.drop_column("conversation_id")

    ids = _ids_of_answers()
    with op.batch_alter_table("answers", table_kwargs=KEEP_IDS) as answers:
        answers.drop_constraint(op.f("fk_answers_api_key_id_api_keys"), type_="foreignkey")
        answers.drop_index(op.f("ix_answers_user_id_started_at"))
        answers.drop_index(op.f("ix_answers_api_key_id"))
        answers.drop_column("api_key_id")
        answers.drop_column("completion_estimate")
        answers.drop_column("prompt_estimate")
        answers.drop_column("left_out")
    _go_on_from(ids)

    with op.batch_alter_table("models") as models:
        models.drop_column("streaming")
        models.drop_column("tools")
