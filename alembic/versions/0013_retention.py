"""How long a conversation is kept, and which one was imported."""

import sqlalchemy as sa
from alembic import op

from baio_adapters.sql.tables import UtcDateTime

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TEMPORARY = sa.text("temporary")
IMPORTED = sa.text("import_digest IS NOT NULL")


def upgrade() -> None:
    op.add_column("conversations", sa.Column("kept", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("conversations", sa.Column("temporary", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("conversations", sa.Column("imported_at", UtcDateTime()))
    op.add_column("conversations", sa.Column("import_digest", sa.LargeBinary()))
    op.create_index("ix_conversations_retention", "conversations", ["updated_at"])
    op.create_index(
        "ix_conversations_temporary",
        "conversations",
        ["updated_at"],
        sqlite_where=TEMPORARY,
        postgresql_where=TEMPORARY,
    )
    op.create_index(
        "uq_conversations_import",
        "conversations",
        ["user_id", "import_digest"],
        unique=True,
        sqlite_where=IMPORTED,
        postgresql_where=IMPORTED,
    )


def downgrade() -> None:
    op.drop_index("uq_conversations_import", "conversations")
    op.drop_index("ix_conversations_temporary", "conversations")
    op.drop_index("ix_conversations_retention", "conversations")
    for column in ("import_digest", "imported_at", "temporary", "kept"):
        op.drop_column("conversations", column)
