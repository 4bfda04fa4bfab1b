"""Answers in no conversation."""

import sqlalchemy as sa
from alembic import op

from baio_adapters.sql.tables import Id

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    make_conversation_of_answers(nullable=True)


def downgrade() -> None:
    # They are of answers that run at the moment, and hold no text.
    op.execute("DELETE FROM answers WHERE conversation_id IS NULL")
    make_conversation_of_answers(nullable=False)


def make_conversation_of_answers(*, nullable: bool) -> None:
    """Let answers be without conversation and question, or not."""
    connection = op.get_bind()
    columns = ("conversation_id", "question_id")
    if connection.dialect.name == "postgresql":
        for column in columns:
            op.alter_column("answers", column, nullable=nullable)
        return
    # SQLite makes the table anew. It would forget the last id that was given, and so give it again.
    last = sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'answers'")
    newest = connection.execute(last).scalar()
    with op.batch_alter_table("answers", table_kwargs={"sqlite_autoincrement": True}) as batch:
        for column in columns:
            batch.alter_column(column, existing_type=Id, nullable=nullable)
    if newest is not None:
        connection.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = 'answers'"))
        connection.execute(
            sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES ('answers', :newest)"), {"newest": newest}
        )
