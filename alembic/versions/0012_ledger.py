"""A ledger of what answers cost, which outlives them."""

import sqlalchemy as sa
from alembic import op

from baio_adapters.sql.tables import Id

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "usage",
        sa.Column("user_id", Id, autoincrement=False, nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("provider_id", Id, autoincrement=False, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("answers", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("estimated", sa.Boolean(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_usage_user_id_users"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["provider_id"], ["providers.id"], name=op.f("fk_usage_provider_id_providers")),
        sa.PrimaryKeyConstraint("user_id", "day", "provider_id", "model", name=op.f("pk_usage")),
    )
    # Whatever is left of conversations that were deleted before is not known any more.
    op.execute(
        "INSERT INTO usage (user_id, day, provider_id, model, answers, prompt_tokens, completion_tokens, estimated,"
        " cached_tokens)"
        " SELECT user_id, substr(CAST(started_at AS TEXT), 1, 10), provider_id, requested_model, count(*),"
        " sum(CASE WHEN counted THEN prompt_tokens ELSE coalesce(prompt_estimate, 0) END),"
        " sum(CASE WHEN counted THEN completion_tokens ELSE completion_estimate END),"
        " max(CASE WHEN counted THEN 0 ELSE 1 END) = 1, 0"
        " FROM (SELECT *, prompt_tokens IS NOT NULL AND completion_tokens IS NOT NULL AS counted FROM answers)"
        " AS ended WHERE provider_id IS NOT NULL AND (counted OR completion_estimate > 0)"
        " GROUP BY user_id, substr(CAST(started_at AS TEXT), 1, 10), provider_id, requested_model"
    )


def downgrade() -> None:
    op.drop_table("usage")
