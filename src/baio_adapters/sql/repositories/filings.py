"""How conversations are kept in order."""

import json
from collections.abc import Collection, Sequence
from typing import Any, final

from sqlalchemy import bindparam, delete, exists, func, insert, select, tuple_, update

from baio_adapters.sql.repositories.repository import ID, OWNER, Repository, columns, in_json
from baio_adapters.sql.tables import conversation_tags, conversations
from baio_domain.entities import Conversation, FiledConversation, Filing
from baio_domain.errors import ConversationNotFound
from baio_domain.ports import PAGE_ROWS, Filings

_BY_ID_AND_OWNER = (conversations.c.id == ID, conversations.c.user_id == OWNER)
_FILING = columns(conversations, "updated_at", "archived")
_PLACE = (conversations.c.pinned, conversations.c.updated_at, conversations.c.id)
_FOUND = (
    select(*columns(conversations, "id", "stored_bytes"), *_FILING)
    .where(
        conversations.c.user_id == OWNER,
        conversations.c.archived == bindparam("archived", type_=conversations.c.archived.type),
    )
    .order_by(*(column.desc() for column in _PLACE))
    .limit(bindparam("limit"))
)
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
_FILED = select(*_FILING).where(*_BY_ID_AND_OWNER)
_TAGS_OF = {
    dialect: select(conversation_tags.c.conversation_id, conversation_tags.c.tag).where(
        listed, conversation_tags.c.user_id == OWNER
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
        before: FiledConversation | None = None,
        limit: int = PAGE_ROWS,
    ) -> list[FiledConversation]:
        """Read by the index on activity, then the tags of all that were found."""
        values: dict[str, object] = {"owner": owner, "archived": archived, "limit": limit}
        statement = _FOUND
        if tag is not None:
            statement = statement.where(_HAS_TAG)
            values |= {"tag": tag}
        if before is not None:
            statement = statement.where(_COMES_AFTER)
            filing = before.filing
            values |= {"pinned": filing.pinned, "before": filing.updated_at, "id_": before.conversation.id}
        rows = self._connection.execute(statement, values).fetchall()
        tags = self._tags_of([row.id for row in rows], owner)
        return [FiledConversation(Conversation(*row[:-3]), _filing(row[-3:], tags.get(row.id, ()))) for row in rows]

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

    def _tags_of(self, ids: list[int], owner: int) -> dict[int, tuple[str, ...]]:
        if not ids:
            return {}
        statement = _TAGS_OF[self._connection.dialect.name]
        tags: dict[int, tuple[str, ...]] = {}
        rows = self._connection.execute(statement, {"listed": json.dumps(ids), "owner": owner})
        for conversation_id, tag in sorted((row[0], row[1]) for row in rows):
            tags[conversation_id] = (*tags.get(conversation_id, ()), tag)
        return tags

    def _change(self, statement: Any, values: dict[str, object]) -> None:  # noqa: ANN401 - an UPDATE
        if not self._connection.execute(statement, values).rowcount:
            raise ConversationNotFound


def _filing(row: Sequence[Any], tags: tuple[str, ...]) -> Filing:
    updated_at, pinned, archived = row
    return Filing(updated_at, pinned, archived, tags)
