"""Accounts of administrators, and which of them did something."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

BY_ACCOUNTS = sa.text("operator_id IS NOT NULL")


def upgrade() -> None:
    op.add_column("users", sa.Column("administrator", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("audit", sa.Column("operator_id", sa.BigInteger()))
    op.create_index(
        "ix_audit_operator", "audit", ["operator_id"], sqlite_where=BY_ACCOUNTS, postgresql_where=BY_ACCOUNTS
    )


def downgrade() -> None:
    op.drop_index("ix_audit_operator", "audit")
    op.drop_column("audit", "operator_id")
    op.drop_column("users", "administrator")
