"""Usernames and emails that differ only in spaces or invisible characters are the same name.

Two accounts that already have such names keep the forms that they were found by: neither is locked out.
"""

from collections.abc import Callable

import sqlalchemy as sa
from alembic import op

from baio_domain.text import folded, name_key

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

users = sa.table("users", *(sa.column(name) for name in ("id", "username", "email", "username_folded", "email_folded")))


def upgrade() -> None:
    refold(name_key)


def downgrade() -> None:
    refold(folded)


def refold(fold: Callable[[str], str]) -> None:
    connection = op.get_bind()
    for name in ("username", "email"):
        column = users.c[f"{name}_folded"]
        for user_id, text, before in connection.execute(sa.select(users.c.id, users.c[name], column)).fetchall():
            now = fold(text)
            taken = sa.select(users.c.id).where(column == now)
            if now != before and connection.execute(taken).first() is None:
                connection.execute(sa.update(users).where(users.c.id == user_id).values({column.name: now}))
