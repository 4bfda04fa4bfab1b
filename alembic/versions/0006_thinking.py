"""How long the model of an answer has thought, and how many tokens that took."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("answers", sa.Column("thinking_seconds", sa.Double()))
    op.add_column("answers", sa.Column("thinking_tokens", sa.BigInteger()))


def downgrade() -> None:
    op.drop_column("answers", "thinking_tokens")
    op.drop_column("answers", "thinking_seconds")
