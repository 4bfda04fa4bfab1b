"""Conversations and their messages."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, final

from sqlalchemy import bindparam, delete, exists, func, insert, select, update

from baio_adapters.sql.repositories.repository import ID, OWNER, Repository, insert_for_owner
from baio_adapters.sql.tables import conversations, messages
from baio_domain.entities import Conversation, Message, Role
from baio_domain.errors import AccountNotFound, ConversationNotFound
from baio_domain.ports import Conversations, Messages

PAGE = 100
"""Messages that are fetched at once when they are read newest first."""


_BY_ID_AND_OWNER = (conversations.c.id == ID, conversations.c.user_id == OWNER)
_OWNED = exists().where(*_BY_ID_AND_OWNER)


_ADD_CONVERSATION = insert_for_owner(conversations, "title", "created_at")
_CONVERSATION = select(conversations).where(*_BY_ID_AND_OWNER)
_CONVERSATIONS = (
    select(conversations)
    .where(conversations.c.user_id == OWNER)
    .order_by(conversations.c.created_at.desc(), conversations.c.id.desc())
)
_RENAME = update(conversations).where(*_BY_ID_AND_OWNER).values(title=bindparam("new"))
_DELETE_CONVERSATION = delete(conversations).where(*_BY_ID_AND_OWNER)

_ADD_MESSAGE = (
    insert(messages)
    .from_select(
        ["conversation_id", "role", "content", "created_at"],
        select(
            conversations.c.id,
            bindparam("role", type_=messages.c.role.type),
            bindparam("content", type_=messages.c.content.type),
            bindparam("now", type_=messages.c.created_at.type),
        ).where(*_BY_ID_AND_OWNER),
    )
    .returning(messages.c.id)
)
_MESSAGES = select(messages).where(messages.c.conversation_id == ID, _OWNED).order_by(messages.c.id)
_SYSTEM_MESSAGE = _MESSAGES.where(messages.c.role == Role.SYSTEM.value).limit(1)
_COUNT_MESSAGES = select(func.count()).where(
    messages.c.conversation_id == ID, messages.c.id <= bindparam("last"), messages.c.role != Role.SYSTEM.value, _OWNED
)
_MESSAGES_BEFORE = (
    select(messages)
    .where(messages.c.conversation_id == ID, messages.c.id < bindparam("before"), _OWNED)
    .order_by(messages.c.id.desc())
    .limit(PAGE)
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

    def of(self, owner: int) -> list[Conversation]:
        """Read by the index that has this order."""
        return [Conversation(*row) for row in self._connection.execute(_CONVERSATIONS, {"owner": owner}).fetchall()]

    def rename(self, conversation_id: int, title: str, *, owner: int) -> None:
        """Update by id and owner."""
        self._change(_RENAME, {"id_": conversation_id, "owner": owner, "new": title})

    def delete(self, conversation_id: int, *, owner: int) -> None:
        """Delete by id and owner; foreign keys cascade to the rest."""
        self._change(_DELETE_CONVERSATION, {"id_": conversation_id, "owner": owner})
        self._note_deletion()

    def _change(self, statement: Any, values: dict[str, object]) -> None:  # noqa: ANN401 - UPDATE or DELETE
        if not self._connection.execute(statement, values).rowcount:
            raise ConversationNotFound


@final
class SqlMessages(Repository, Messages):
    """Messages in ``messages``."""

    def add(self, conversation_id: int, role: Role, content: str, now: datetime, *, owner: int) -> Message:
        """Insert, if the conversation is the owner's."""
        values = {"id_": conversation_id, "owner": owner, "role": role.value, "content": content, "now": now}
        message_id = self._connection.execute(_ADD_MESSAGE, values).scalar()
        if message_id is None:
            raise ConversationNotFound
        return Message(message_id, conversation_id, role, content, now)

    def of(self, conversation_id: int, *, owner: int) -> list[Message]:
        """Read in the order of ids."""
        return _messages(self._connection.execute(_MESSAGES, {"id_": conversation_id, "owner": owner}).fetchall())

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
            if len(rows) < PAGE:
                return
            before = rows[-1][0]


_ROLES = {role.value: role for role in Role}


def _messages(rows: Iterable[Sequence[Any]]) -> list[Message]:
    return [Message(row[0], row[1], _ROLES[row[2]], row[3], row[4]) for row in rows]
