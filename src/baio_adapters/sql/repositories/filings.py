"""How conversations are kept in order."""

import json
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any, final

from sqlalchemy import Select, bindparam, delete, exists, func, insert, select, text, tuple_, update

from baio_adapters.sql.repositories.indexed_texts import PROPOSED, looked_up, occurs_in
from baio_adapters.sql.repositories.repository import ID, OWNER, Repository, columns, in_json
from baio_adapters.sql.tables import conversation_tags, conversations, indexed_texts, messages
from baio_domain.entities import Conversation, FiledConversation, Filing
from baio_domain.errors import ConversationNotFound
from baio_domain.finding import MAX_CHARACTERS
from baio_domain.ports import PAGE_ROWS, Filings

NEWEST = 2000
"""How many texts are compared before the index is asked: words that are common are found in the newest ones."""

MAX_COMPARED = 16_000
"""How many are compared at most, if enough of the newest ones have the word. Else the index is quicker."""

MAX_COMPARED_FOR_PHRASE = 100_000
"""The same for several words: the index proposes every text that has all of them, wherever they stand."""

_BY_ID_AND_OWNER = (conversations.c.id == ID, conversations.c.user_id == OWNER)
_FILING = columns(conversations, "updated_at", "archived")
_PLACE = (conversations.c.pinned, conversations.c.updated_at, conversations.c.id)
_IN_ORDER = tuple(column.desc() for column in _PLACE)
_COMES_AFTER = tuple_(*_PLACE) < tuple_(
    bindparam("pinned", type_=conversations.c.pinned.type),
    bindparam("before", type_=conversations.c.updated_at.type),
    ID,
)
_HAS_TAG = exists().where(
    conversation_tags.c.user_id == OWNER,
    conversation_tags.c.tag == bindparam("tag"),
    conversation_tags.c.conversation_id == conversations.c.id,
)
_FOUND = select(*columns(conversations, "id", "stored_bytes"), *_FILING).order_by(*_IN_ORDER).limit(bindparam("limit"))
_TEXTS = (
    select(conversations.c.id, indexed_texts.c.message_id, indexed_texts.c.words)
    .join(indexed_texts, indexed_texts.c.conversation_id == conversations.c.id)
    .order_by(*_IN_ORDER, indexed_texts.c.id.desc())
    .limit(bindparam("newest"))
)
_CONVERSATION_IN_JSON = in_json(conversations.c.id, "BIGINT")
# Materialised, so that no database reads all texts in the order of conversations instead.
_WITH_WORDS = {
    dialect: select(indexed_texts.c.conversation_id, indexed_texts.c.message_id)
    .where(proposed, occurs_in(indexed_texts.c.words, dialect), indexed_texts.c.user_id == OWNER)
    .cte("with_words")
    .prefix_with("MATERIALIZED")
    for dialect, proposed in PROPOSED.items()
}
# PostgreSQL keeps 4 MB of what its index proposes, and of the rest only the pages, all of whose texts it then compares.
_KEEP_PROPOSED = text("SET LOCAL work_mem = '64MB'")
_PROPOSED = {
    dialect: select(texts.c.conversation_id, func.max(texts.c.message_id)).group_by(texts.c.conversation_id)
    for dialect, texts in _WITH_WORDS.items()
}
_SAID = {
    dialect: select(messages.c.conversation_id, func.substr(messages.c.content, 1, MAX_CHARACTERS)).where(
        listed, exists().where(conversations.c.id == messages.c.conversation_id, conversations.c.user_id == OWNER)
    )
    for dialect, listed in in_json(messages.c.id, "BIGINT").items()
}


@cache
def _find(dialect: str, *, newest: bool, listed: bool, tag: bool, before: bool) -> Select[Any]:
    """The conversations that are wanted, or of the newest ones those with a text that has the words."""
    statement = (_TEXTS if newest else _FOUND).where(
        # Of those that are listed, none is looked for among all of the owner's.
        (conversations.c.user_id + 0 if listed else conversations.c.user_id) == OWNER,
        conversations.c.archived == bindparam("archived", type_=conversations.c.archived.type),
        *([_CONVERSATION_IN_JSON[dialect]] if listed else []),
        *([_HAS_TAG] if tag else []),
        *([_COMES_AFTER] if before else []),
    )
    if not newest:
        return statement
    texts = statement.subquery()
    return select(texts.c.id, texts.c.message_id).where(occurs_in(texts.c.words, dialect))


_FILED = select(*_FILING).where(*_BY_ID_AND_OWNER)
_TAGS_OF = {
    dialect: select(conversation_tags.c.conversation_id, conversation_tags.c.tag).where(
        listed,
        exists().where(conversations.c.id == conversation_tags.c.conversation_id, conversations.c.user_id == OWNER),
    )
    for dialect, listed in in_json(conversation_tags.c.conversation_id, "BIGINT").items()
}
_TAGS = (
    select(conversation_tags.c.tag, func.count())
    .where(conversation_tags.c.user_id == OWNER)
    .group_by(conversation_tags.c.tag)
)
_PIN = update(conversations).where(*_BY_ID_AND_OWNER).values(pinned=bindparam("new"))
_ARCHIVE = update(conversations).where(*_BY_ID_AND_OWNER).values(archived=bindparam("new"))
# Changes nothing, but conflicts with a transaction that replaces the tags, or deletes the conversation, just then.
_TOUCH = update(conversations).where(*_BY_ID_AND_OWNER).values(pinned=conversations.c.pinned)
_DELETE_TAGS = delete(conversation_tags).where(conversation_tags.c.conversation_id == ID)
_ADD_TAG = insert(conversation_tags)


@final
class SqlFilings(Repository, Filings):
    """Filings in ``conversations`` and ``conversation_tags``."""

    def find(
        self,
        owner: int,
        *,
        archived: bool = False,
        tag: str | None = None,
        query: str | None = None,
        before: FiledConversation | None = None,
        limit: int = PAGE_ROWS,
    ) -> list[FiledConversation]:
        """Read by the index on activity, then the tags of all that were found."""
        wanted = {"tag": tag is not None, "before": before is not None}
        values: dict[str, object] = {"owner": owner, "archived": archived, "limit": limit, "tag": tag}
        if before is not None:
            filing = before.filing
            values |= {"pinned": filing.pinned, "before": filing.updated_at, "id_": before.conversation.id}
        said: dict[int, str] = {}
        if query is not None:
            hits = self._hits(query, {**values, "sought": f" {query}"}, wanted)
            values["listed"] = json.dumps(list(hits))
        statement = _find(self._dialect, newest=False, listed=query is not None, **wanted)
        rows = self._connection.execute(statement, values).fetchall()
        if query is not None:
            said = self._said([hits[row.id] for row in rows], owner)
        tags = self._tags_of([row.id for row in rows], owner)
        return [
            FiledConversation(Conversation(*row[:-3]), _filing(row[-3:], tags.get(row.id, ())), said.get(row.id))
            for row in rows
        ]

    def of(self, conversation_id: int, *, owner: int) -> Filing:
        """Read by id and owner, then its tags."""
        row = self._connection.execute(_FILED, {"id_": conversation_id, "owner": owner}).first()
        if row is None:
            raise ConversationNotFound
        return _filing(row, self._tags_of([conversation_id], owner).get(conversation_id, ()))

    def pin(self, conversation_id: int, *, pinned: bool, owner: int) -> None:
        """Update by id and owner."""
        self._change(_PIN, {"id_": conversation_id, "owner": owner, "new": pinned})

    def archive(self, conversation_id: int, *, archived: bool, owner: int) -> None:
        """Update by id and owner."""
        self._change(_ARCHIVE, {"id_": conversation_id, "owner": owner, "new": archived})

    def tag(self, conversation_id: int, tags: Collection[str], *, owner: int) -> None:
        """Delete all, if the conversation is the owner's, then insert."""
        self._change(_TOUCH, {"id_": conversation_id, "owner": owner})
        self._connection.execute(_DELETE_TAGS, {"id_": conversation_id})
        if tags:
            rows = [{"user_id": owner, "tag": tag, "conversation_id": conversation_id} for tag in tags]
            self._connection.execute(_ADD_TAG, rows)

    def tags(self, owner: int) -> dict[str, int]:
        """Count by the primary key. They are sorted here, because databases sort texts in different ways."""
        return dict(sorted((tag, count) for tag, count in self._connection.execute(_TAGS, {"owner": owner})))

    def _hits(self, query: str, values: dict[str, Any], wanted: dict[str, bool]) -> dict[int, int | None]:
        """The conversations in which the words occur, each with the newest message that has them.

        They are those among the newest ones, if these are enough, or all.
        """
        limit = values["limit"]
        hits = self._newest_hits(values | {"newest": NEWEST}, wanted)
        if 0 < len(hits) < limit:
            likely = NEWEST * limit * 5 // (4 * len(hits))  # a quarter more than would do if the rest is like them
            if likely <= (MAX_COMPARED_FOR_PHRASE if " " in query else MAX_COMPARED):
                hits = self._newest_hits(values | {"newest": likely}, wanted)
        if len(hits) >= limit:
            return hits
        if self._dialect == "postgresql":
            self._connection.execute(_KEEP_PROPOSED)
        values["looked_up"] = looked_up(query, values["owner"], self._dialect)
        return {row[0]: row[1] for row in self._connection.execute(_PROPOSED[self._dialect], values).fetchall()}

    def _newest_hits(self, values: dict[str, Any], wanted: dict[str, bool]) -> dict[int, int | None]:
        """At most ``limit`` of those among the newest texts."""
        hits: dict[int, int | None] = {}
        with self._connection.execute(_find(self._dialect, newest=True, listed=False, **wanted), values) as rows:
            for conversation_id, message_id in rows:
                if conversation_id not in hits and len(hits) == values["limit"]:
                    break
                hits[conversation_id] = hits.get(conversation_id) or message_id
        return hits

    def _said(self, ids: list[int | None], owner: int) -> dict[int, str]:
        values = {"listed": json.dumps([each for each in ids if each is not None]), "owner": owner}
        return {row[0]: row[1] for row in self._connection.execute(_SAID[self._dialect], values)}

    def _tags_of(self, ids: list[int], owner: int) -> dict[int, tuple[str, ...]]:
        if not ids:
            return {}
        statement = _TAGS_OF[self._dialect]
        tags: dict[int, tuple[str, ...]] = {}
        rows = self._connection.execute(statement, {"listed": json.dumps(ids), "owner": owner})
        for conversation_id, tag in sorted((row[0], row[1]) for row in rows):
            tags[conversation_id] = (*tags.get(conversation_id, ()), tag)
        return tags

    @property
    def _dialect(self) -> str:
        return self._connection.dialect.name

    def _change(self, statement: Any, values: dict[str, object]) -> None:  # noqa: ANN401 - an UPDATE
        if not self._connection.execute(statement, values).rowcount:
            raise ConversationNotFound


def _filing(row: Sequence[Any], tags: tuple[str, ...]) -> Filing:
    updated_at, pinned, archived = row
    return Filing(updated_at, pinned, archived, tags)
