"""Sessions are named by random bits in their tokens; networks that owners sign in from, and invitations, are stored.

Sessions that are open end: their tokens name them by a number, which a restored backup gives again.
"""

import sqlalchemy as sa
from alembic import op

from baio_adapters.sql.tables import Id, UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The rows are deleted last: SQLite copies them to the new table, and with them the last id, which is never reused.
    op.add_column("sessions", sa.Column("token_id", sa.Text()))
    op.execute("UPDATE sessions SET token_id = CAST(id AS TEXT)")
    with op.batch_alter_table("sessions", table_kwargs={"sqlite_autoincrement": True}) as sessions:
        sessions.alter_column("token_id", nullable=False)
        sessions.create_unique_constraint(op.f("uq_sessions_token_id"), ["token_id"])
    op.execute("DELETE FROM sessions")
    op.create_table(
        "known_networks",
        sa.Column("user_id", Id, autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("last_used_at", UtcDateTime, nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_known_networks_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "digest", name=op.f("pk_known_networks")),
    )
    op.create_table(
        "invitations",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("email_folded", sa.Text()),
        sa.Column("until", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_invitations")),
    )


def downgrade() -> None:
    op.drop_table("invitations")
    op.drop_table("known_networks")
    with op.batch_alter_table("sessions", table_kwargs={"sqlite_autoincrement": True}) as sessions:
        sessions.drop_constraint(op.f("uq_sessions_token_id"), type_="unique")
        sessions.drop_column("token_id")
    op.execute("DELETE FROM sessions")
