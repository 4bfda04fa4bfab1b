"""Sessions are named by random bits in their tokens; networks that owners sign in from, and invitations, are stored.

Sessions that are open end: their tokens name them by a number, which a restored backup gives again.
"""

import sqlalchemy as sa
from alembic import op

from baio_adapters.sql.tables import Id, UtcDateTime

revision = "0005"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("DELETE FROM sessions")
    with op.batch_alter_table("sessions") as sessions:
        sessions.add_column(sa.Column("token_id", sa.Text(), nullable=False))
        sessions.create_unique_constraint(op.f("uq_sessions_token_id"), ["token_id"])
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
    op.execute("DELETE FROM sessions")
    with op.batch_alter_table("sessions") as sessions:
        sessions.drop_constraint(op.f("uq_sessions_token_id"), type_="unique")
        sessions.drop_column("token_id")
