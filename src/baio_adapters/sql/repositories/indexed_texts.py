"""The full-text index: titles, questions and answers, by their words (``baio_domain.finding``).

``indexed_texts`` has the words. On SQLite, triggers copy them into ``text_index`` (FTS5); on PostgreSQL, a GIN index
has them. In both, the number of its user stands before each word: a search reads nothing of other users, however many
there are. An index only proposes texts; whether the words follow each other is compared in the texts themselves, in the
same way on both databases.
"""

from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, insert, literal, select, text

from baio_adapters.sql.repositories.repository import ID, OWNER
from baio_adapters.sql.tables import answers, indexed_texts
from baio_domain.finding import words_of

MAX_LOOKED_UP = 16
"""Words of a query that are looked up in the index. All of them are compared."""

PROPOSED = {
    "sqlite": text("indexed_texts.id IN (SELECT rowid FROM text_index WHERE text_index MATCH :looked_up)"),
    "postgresql": text(
        # The expression of the index ix_indexed_texts_words, to the letter.
        "array_to_tsvector(string_to_array(indexed_texts.user_id::text || 'x' ||"
        " replace(indexed_texts.words, ' ', ' ' || indexed_texts.user_id::text || 'x'), ' '))"
        " @@ CAST(:looked_up AS tsquery)"
    ),
}
"""By dialect, the condition that the index proposes a text."""

_LOOKED_UP = {"sqlite": ('"%dx%s"', "*", " AND "), "postgresql": ("'%dx%s'", ":*", " & ")}

_ADD = insert(indexed_texts)
_ADD_ANSWER = insert(indexed_texts).from_select(
    ["user_id", "conversation_id", "message_id", "words"],
    select(answers.c.user_id, answers.c.conversation_id, answers.c.message_id, bindparam("words")).where(
        answers.c.id == ID
    ),
)
_DELETE_TITLE = delete(indexed_texts).where(
    indexed_texts.c.conversation_id == ID, indexed_texts.c.message_id.is_(None), indexed_texts.c.user_id == OWNER
)
_DELETE_ALL = text("INSERT INTO text_index (text_index) VALUES ('delete-all')")
_NOTE_DELETION = text("UPDATE text_index_deletions SET noted = noted + 1")


def occurs_in(words: ColumnElement[str], dialect: str) -> ColumnElement[bool]:
    """The condition that ``:sought``, the words of a query after a space, occurs in a text: see ``finding.occurs``."""
    position = func.instr if dialect == "sqlite" else func.strpos
    return position(literal(" ").concat(words), bindparam("sought")) > 0


def looked_up(query: str, owner: int, dialect: str) -> str:
    """What to look up in the index for these words of a query."""
    word, beginning, and_ = _LOOKED_UP[dialect]
    words = query.split()
    terms = [word % (owner, each) for each in words[:MAX_LOOKED_UP]]
    if len(words) <= MAX_LOOKED_UP:
        terms[-1] += beginning
    return and_.join(dict.fromkeys(terms))


def index_text(
    connection: Connection, content: str, *, owner: int, conversation_id: int, message_id: int | None = None
) -> None:
    """Index a message, or the title where there is no ``message_id``."""
    if words := words_of(content):
        values = {"user_id": owner, "conversation_id": conversation_id, "message_id": message_id, "words": words}
        connection.execute(_ADD, values)


def index_answer(connection: Connection, content: str, answer_id: int) -> None:
    """Index the message of an answer that has ended."""
    if words := words_of(content):
        connection.execute(_ADD_ANSWER, {"id_": answer_id, "words": words})


def index_new_title(connection: Connection, title: str, *, owner: int, conversation_id: int) -> None:
    """Index a title in place of the one before."""
    connection.execute(_DELETE_TITLE, {"id_": conversation_id, "owner": owner})
    index_text(connection, title, owner=owner, conversation_id=conversation_id)
    note_deletion(connection)


def delete_all_texts(connection: Connection) -> None:
    """Delete every text, and all that FTS5 has of it."""
    connection.execute(delete(indexed_texts))
    if connection.dialect.name == "sqlite":
        connection.execute(_DELETE_ALL)


def note_deletion(connection: Connection) -> None:
    """Note that texts are deleted that nobody shall find in the file. FTS5 deletes only when it merges."""
    if connection.dialect.name == "sqlite":
        connection.execute(_NOTE_DELETION)
