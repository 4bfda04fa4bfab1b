"""When an account was deleted of which something is left: a large one is deleted bit by bit.

And an index of texts by their users: without it, the deletion of any account reads the texts of all.
"""

import sqlalchemy as sa
from alembic import op

from baio_adapters.sql.tables import UtcDateTime

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

NAME = "ix_users_deleted_at"
TEXTS = "ix_indexed_texts_user_id"
IS_DELETED = sa.text("deleted_at IS NOT NULL")


def upgrade() -> None:
    op.add_column("users", sa.Column("deleted_at", UtcDateTime()))
    op.create_index(NAME, "users", ["deleted_at"], sqlite_where=IS_DELETED, postgresql_where=IS_DELETED)
    op.create_index(TEXTS, "indexed_texts", ["user_id"])


def downgrade() -> None:
    op.execute("DELETE FROM users WHERE deleted_at IS NOT NULL")
    op.drop_index(TEXTS, "indexed_texts")
    op.drop_index(NAME, "users")
    op.drop_column("users", "deleted_at")
