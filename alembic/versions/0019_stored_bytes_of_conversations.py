"""An index that sums what a user stores: each question did so by reading every conversation of its user."""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

NAME = "ix_conversations_user_id_stored_bytes"


def upgrade() -> None:
    op.create_index(NAME, "conversations", ["user_id", "stored_bytes"])


def downgrade() -> None:
    op.drop_index(NAME, "conversations")
