"""Conversations and their messages."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, final

from sqlalchemy import bindparam, delete, exists, func, insert, select, tuple_, update

from baio_adapters.sql.repositories.repository import ID, OWNER, Repository, begin_deletion, insert_for_owner
from baio_adapters.sql.tables import conversation_sequences, conversations, messages, sequences, users
from baio_domain.entities import Conversation, InputSource, Message, Role, stored_size
from baio_domain.errors import AccountNotFound, ConversationNotFound
from baio_domain.ports import PAGE_ROWS, Conversations, Messages

FETCHED = 16
"""Messages that are fetched at once when they are read newest first: few, because each can be long."""


_BY_ID_AND_OWNER = (conversations.c.id == ID, conversations.c.user_id == OWNER)
_OWNED = exists().where(*_BY_ID_AND_OWNER)


_ADD_CONVERSATION = insert_for_owner(conversations, "title", "created_at")
_CONVERSATION = select(conversations).where(*_BY_ID_AND_OWNER)
_CONVERSATIONS = (
    select(conversations)
    .where(conversations.c.user_id == OWNER)
    .order_by(conversations.c.created_at.desc(), conversations.c.id.desc())
    .limit(bindparam("limit"))
)
_CONVERSATIONS_BEFORE = _CONVERSATIONS.where(
    tuple_(conversations.c.created_at, conversations.c.id)
    < tuple_(bindparam("before", type_=conversations.c.created_at.type), ID)
)
_STORED = select(
    func.count(),
    func.coalesce(func.sum(conversations.c.stored_bytes), 0),
    func.coalesce(select(users.c.stored_bytes).where(users.c.id == OWNER).scalar_subquery(), 0),
).where(conversations.c.user_id == OWNER)
_COUNT_BYTES = (
    update(conversations).where(*_BY_ID_AND_OWNER).values(stored_bytes=conversations.c.stored_bytes + bindparam("more"))
)
_RENAME = update(conversations).where(*_BY_ID_AND_OWNER).values(title=bindparam("new"))
_DELETE_CONVERSATION = delete(conversations).where(*_BY_ID_AND_OWNER)
_ELSEWHERE = conversation_sequences.alias()
# What was pasted or computed in this conversation alone.
_DELETE_ITS_SEQUENCES = delete(sequences).where(
    sequences.c.user_id == OWNER,
    sequences.c.origin != InputSource.FILE.value,
    sequences.c.id.in_(
        select(conversation_sequences.c.sequence_id).where(conversation_sequences.c.conversation_id == ID)
    ),
    ~exists().where(_ELSEWHERE.c.sequence_id == sequences.c.id, _ELSEWHERE.c.conversation_id != ID),
)

_ADD_MESSAGE = insert(messages).returning(messages.c.id)
_MESSAGES = select(messages).where(messages.c.conversation_id == ID, _OWNED).order_by(messages.c.id)
_MESSAGES_AFTER = _MESSAGES.where(messages.c.id > bindparam("after")).limit(PAGE_ROWS)
_BYTES = func.octet_length(messages.c.content)
_BEFORE = func.sum(_BYTES).over(order_by=messages.c.id) - _BYTES
_SIZED = _MESSAGES_AFTER.add_columns(_BEFORE.label("before")).subquery()
_PAGE = {
    "sqlite": _MESSAGES_AFTER,  # hands out one row at a time
    # sends all rows at once, and knows their sizes without reading them
    "postgresql": select(*(_SIZED.c[each.name] for each in messages.c))
    .where(_SIZED.c.before < bindparam("size"))
    .order_by(_SIZED.c.id),
}
_SYSTEM_MESSAGE = _MESSAGES.where(messages.c.role == Role.SYSTEM.value).limit(1)
_COUNT_MESSAGES = select(func.count()).where(
    messages.c.conversation_id == ID, messages.c.id <= bindparam("last"), messages.c.role != Role.SYSTEM.value, _OWNED
)
_MESSAGES_BEFORE = (
    select(messages)
    .where(messages.c.conversation_id == ID, messages.c.id < bindparam("before"), _OWNED)
    .order_by(messages.c.id.desc())
    .limit(FETCHED)
)


@final
class SqlConversations(Repository, Conversations):
    """Conversations in ``conversations``."""

    def add(self, owner: int, title: str, now: datetime) -> Conversation:
        """Insert, if the user exists."""
        values = {"owner": owner, "title": title, "created_at": now}
        conversation_id = self._connection.execute(_ADD_CONVERSATION, values).scalar()
        if conversation_id is None:
            raise AccountNotFound
        return Conversation(conversation_id, owner, title, now)

    def get(self, conversation_id: int, *, owner: int) -> Conversation:
        """Read by id and owner."""
        row = self._connection.execute(_CONVERSATION, {"id_": conversation_id, "owner": owner}).first()
        if row is None:
            raise ConversationNotFound
        return Conversation(*row)

    def page(self, owner: int, *, before: Conversation | None = None, limit: int = PAGE_ROWS) -> list[Conversation]:
        """Read by the index that has this order."""
        values: dict[str, object] = {"owner": owner, "limit": limit}
        statement = _CONVERSATIONS
        if before is not None:
            statement = _CONVERSATIONS_BEFORE
            values |= {"before": before.created_at, "id_": before.id}
        return [Conversation(*row) for row in self._connection.execute(statement, values).fetchall()]

    def stored(self, owner: int) -> tuple[int, int]:
        """Sum by owner, and add what is counted for the account."""
        count, size, loose = self._connection.execute(_STORED, {"owner": owner}).one()
        return int(count), int(size) + int(loose)

    def rename(self, conversation_id: int, title: str, *, owner: int) -> None:
        """Update by id and owner."""
        self._change(_RENAME, {"id_": conversation_id, "owner": owner, "new": title})

    def delete(self, conversation_id: int, *, owner: int) -> None:
        """Delete by id and owner; foreign keys cascade to the rest."""
        begin_deletion(self._connection)
        values: dict[str, object] = {"id_": conversation_id, "owner": owner}
        self._connection.execute(_DELETE_ITS_SEQUENCES, values)
        self._change(_DELETE_CONVERSATION, values)

    def _change(self, statement: Any, values: dict[str, object]) -> None:  # noqa: ANN401 - UPDATE or DELETE
        if not self._connection.execute(statement, values).rowcount:
            raise ConversationNotFound


@final
class SqlMessages(Repository, Messages):
    """Messages in ``messages``."""

    def add(self, conversation_id: int, role: Role, content: str, now: datetime, *, owner: int) -> Message:
        """Count the bytes, if the conversation is the owner's, then insert."""
        counted = {"id_": conversation_id, "owner": owner, "more": stored_size(content)}
        if not self._connection.execute(_COUNT_BYTES, counted).rowcount:
            raise ConversationNotFound
        values = {"conversation_id": conversation_id, "role": role.value, "content": content, "created_at": now}
        message_id = self._connection.execute(_ADD_MESSAGE, values).scalar_one()
        return Message(message_id, conversation_id, role, content, now)

    def of(self, conversation_id: int, *, owner: int) -> list[Message]:
        """Read in the order of ids."""
        return _messages(self._connection.execute(_MESSAGES, {"id_": conversation_id, "owner": owner}).fetchall())

    def page(self, conversation_id: int, *, owner: int, after: int, size: int) -> list[Message]:
        """Fetch one by one until there is enough."""
        rows = []
        values = {"id_": conversation_id, "owner": owner, "after": after, "size": size}
        with self._connection.execute(_PAGE[self._connection.dialect.name], values) as result:
            while size > 0 and (row := result.fetchone()) is not None:
                rows.append(row)
                size -= len(row.content)
        return _messages(rows)

    def system(self, conversation_id: int, *, owner: int) -> Message | None:
        """Read the first message with that role."""
        rows = self._connection.execute(_SYSTEM_MESSAGE, {"id_": conversation_id, "owner": owner}).fetchall()
        return next(iter(_messages(rows)), None)

    def count(self, conversation_id: int, *, owner: int, up_to: int) -> int:
        """Count by the index on conversations."""
        values = {"id_": conversation_id, "owner": owner, "last": up_to}
        return int(self._connection.execute(_COUNT_MESSAGES, values).scalar_one())

    def iter_newest_first(self, conversation_id: int, *, owner: int, up_to: int | None = None) -> Iterator[Message]:
        """Read page by page."""
        before = 2**63 - 1 if up_to is None else up_to + 1
        while True:
            values = {"id_": conversation_id, "owner": owner, "before": before}
            rows = self._connection.execute(_MESSAGES_BEFORE, values).fetchall()
            yield from _messages(rows)
            if len(rows) < FETCHED:
                return
            before = rows[-1][0]


_ROLES = {role.value: role for role in Role}


def _messages(rows: Iterable[Sequence[Any]]) -> list[Message]:
    return [Message(row[0], row[1], _ROLES[row[2]], row[3], row[4]) for row in rows]
