"""Settings of conversations, presets, and with what answers were made."""

import sqlalchemy as sa
from alembic import op

from baio_adapters.sql.tables import Id, UtcDateTime

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("answers", sa.Column("settings", sa.Text()))
    op.add_column("answers", sa.Column("unused_parameters", sa.Text()))
    op.create_table(
        "settings",
        sa.Column("conversation_id", Id, autoincrement=False, nullable=False),
        *chosen(),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name=op.f("fk_settings_conversation_id_conversations"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["api_key_id"], ["api_keys.id"], name=op.f("fk_settings_api_key_id_api_keys"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("conversation_id", name=op.f("pk_settings")),
    )
    op.create_index(op.f("ix_settings_api_key_id"), "settings", ["api_key_id"])
    op.create_table(
        "presets",
        sa.Column("id", Id, nullable=False),
        sa.Column("user_id", Id, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        *chosen(),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_presets_user_id_users"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["api_key_id"], ["api_keys.id"], name=op.f("fk_presets_api_key_id_api_keys"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_presets")),
        sa.UniqueConstraint("user_id", "name", name=op.f("uq_presets_user_id_name")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_presets_api_key_id"), "presets", ["api_key_id"])
    op.create_index(op.f("ix_presets_user_id_id"), "presets", ["user_id", "id"])


def chosen() -> tuple[sa.Column, ...]:
    """The columns of settings in both tables."""
    return (
        sa.Column("system", sa.Text()),
        sa.Column("model", sa.Text()),
        sa.Column("api_key_id", Id),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("tools", sa.Text()),
    )


def downgrade() -> None:
    op.drop_table("presets")
    op.drop_table("settings")
    op.drop_column("answers", "unused_parameters")
    op.drop_column("answers", "settings")
