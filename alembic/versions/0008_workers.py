"""Which worker gives an answer, so that the answers of one that died can be ended at once."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

RUNNING = sa.text("state = 'running'")


def upgrade() -> None:
    op.add_column("answers", sa.Column("worker", sa.BigInteger()))
    op.create_index("ix_answers_worker", "answers", ["worker"], sqlite_where=RUNNING, postgresql_where=RUNNING)


def downgrade() -> None:
    op.drop_index("ix_answers_worker", "answers")
    op.drop_column("answers", "worker")
