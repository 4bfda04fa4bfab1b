"""How many bytes are stored for each conversation; indexes on what is kept only up to a number."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

RECORD_BYTES = 256

BYTES = {"sqlite": "length(CAST({} AS BLOB))", "postgresql": "octet_length({})"}

COUNT = """
    UPDATE conversations SET stored_bytes =
        (SELECT coalesce(sum({content} + :record), 0) FROM messages WHERE conversation_id = conversations.id)
        + (SELECT count(*) * :record FROM answers
            WHERE conversation_id = conversations.id AND state <> 'running')
        + (SELECT coalesce(sum({text} + :record), 0)
            FROM answer_parts JOIN answers ON answers.id = answer_parts.answer_id
            WHERE answers.conversation_id = conversations.id AND answers.state <> 'running')
"""


def upgrade() -> None:
    op.add_column("conversations", sa.Column("stored_bytes", sa.BigInteger(), nullable=False, server_default="0"))
    length = BYTES[op.get_bind().dialect.name]
    count = sa.text(COUNT.format(content=length.format("content"), text=length.format("answer_parts.text")))
    op.get_bind().execute(count, {"record": RECORD_BYTES})
    op.create_index(op.f("ix_idempotency_keys_user_id_created_at"), "idempotency_keys", ["user_id", "created_at"])
    op.create_index(op.f("ix_audit_user_id_act_id"), "audit", ["user_id", "act", "id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_audit_user_id_act_id"), "audit")
    op.drop_index(op.f("ix_idempotency_keys_user_id_created_at"), "idempotency_keys")
    op.drop_column("conversations", "stored_bytes")
