"""Stored sequences."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, final

from sqlalchemy import bindparam, delete, func, insert, select, update

from baio_adapters.sql.repositories.repository import ID, OWNER, Repository, begin_deletion, columns, insert_for_owner
from baio_adapters.sql.tables import conversation_sequences, conversations, messages, sequence_mentions, sequences
from baio_domain.entities import InputOrigin, InputSource, Message, SequenceContent, StoredSequence
from baio_domain.errors import AccountNotFound, ConversationNotFound, InvalidInput, SequenceNotFound, sequence_taken
from baio_domain.ports import PAGE_ROWS, NewSequence, SequenceMention, Sequences

_COLUMNS = columns(sequences, "id", "created_at")
_STORED = [each.name for each in columns(sequences, "name", "features")]
_OWNED = sequences.c.user_id == OWNER
_BY_ID = (sequences.c.id == ID, _OWNED)
_OF_CONVERSATION = conversation_sequences.c.conversation_id == bindparam("conversation")

_ADD = insert_for_owner(sequences, *_STORED)
_GET = select(*_COLUMNS).where(*_BY_ID)
_CONTENT = select(sequences.c.letters, sequences.c.features).where(*_BY_ID)
_SAME = select(*_COLUMNS).where(
    _OWNED,
    sequences.c.sha256 == bindparam("sha256"),
    sequences.c.topology == bindparam("topology"),
    sequences.c.name == bindparam("name"),
)
_PAGE = (
    select(*_COLUMNS)
    .where(_OWNED, sequences.c.id < bindparam("before"))
    .order_by(sequences.c.id.desc())
    .limit(bindparam("limit"))
)
_JOINED = select(*_COLUMNS).join_from(
    conversation_sequences, sequences, conversation_sequences.c.sequence_id == sequences.c.id
)
_PAGE_OF_CONVERSATION = (
    _JOINED.where(_OF_CONVERSATION, _OWNED, conversation_sequences.c.sequence_id < bindparam("before"))
    .order_by(conversation_sequences.c.sequence_id.desc())
    .limit(bindparam("limit"))
)
_NAMED = (
    _JOINED.where(_OF_CONVERSATION, _OWNED, sequences.c.name == bindparam("name"))
    .order_by(conversation_sequences.c.sequence_id)
    .limit(2)
)
_IS_ATTACHED = select(conversation_sequences.c.sequence_id).where(
    _OF_CONVERSATION, conversation_sequences.c.sequence_id == ID
)
_ATTACH = (
    insert(conversation_sequences)
    .from_select(
        ["conversation_id", "sequence_id"],
        select(conversations.c.id, bindparam("id_", type_=sequences.c.id.type)).where(
            conversations.c.id == bindparam("conversation"), conversations.c.user_id == OWNER
        ),
    )
    .returning(conversation_sequences.c.sequence_id)
)
_MENTION = insert(sequence_mentions)
# By conversation: only messages have an index on it, and they alone know whose they are.
_MENTIONS = (
    select(*_COLUMNS, sequence_mentions.c.message_id, sequence_mentions.c.start, sequence_mentions.c.end)
    .join_from(
        conversation_sequences,
        sequence_mentions,
        conversation_sequences.c.sequence_id == sequence_mentions.c.sequence_id,
    )
    .join(sequences, sequences.c.id == sequence_mentions.c.sequence_id)
    .join(messages, messages.c.id == sequence_mentions.c.message_id)
    .where(_OF_CONVERSATION, _OWNED, messages.c.conversation_id == bindparam("conversation"))
    .order_by(sequence_mentions.c.id)
)
_COMES_FROM_FILE = (
    update(sequences)
    .where(*_BY_ID)
    .values(origin=InputSource.FILE.value, origin_id=None, origin_start=None, origin_end=None)
)
_RENAME = update(sequences).where(*_BY_ID).values(name=bindparam("new"))
_DELETE = delete(sequences).where(*_BY_ID)
_SIZE = select(func.count(), func.coalesce(func.sum(sequences.c.stored_bytes), 0)).where(_OWNED)


@final
class SqlSequences(Repository, Sequences):
    """Sequences in ``sequences``, their conversations in ``conversation_sequences``."""

    def add(self, new: NewSequence) -> StoredSequence:
        """Look for the same one, and insert it if there is none. Of two at once, one breaks a unique constraint."""
        found = self.find(new.sha256, new.topology, new.name, owner=new.owner)
        if found is None:
            found = self.get(self._insert(new), owner=new.owner)
        elif new.origin.source is InputSource.FILE and found.origin.source is not InputSource.FILE:
            self._connection.execute(_COMES_FROM_FILE, {"id_": found.id, "owner": new.owner})
            found = self.get(found.id, owner=new.owner)
        if new.conversation_id is not None:
            self.attach(found.id, new.conversation_id, owner=new.owner)
        return found

    def get(self, sequence_id: int, *, owner: int) -> StoredSequence:
        """Read by id and owner, without the letters."""
        return _sequence(self._one(_GET, sequence_id, owner))

    def content(self, sequence_id: int, *, owner: int) -> SequenceContent:
        """Read by id and owner."""
        return SequenceContent(*self._one(_CONTENT, sequence_id, owner))

    def find(self, sha256: str, topology: str, name: str, *, owner: int) -> StoredSequence | None:
        """Read by the unique constraint."""
        values = {"owner": owner, "sha256": sha256, "topology": topology, "name": name}
        row = self._connection.execute(_SAME, values).first()
        return None if row is None else _sequence(row)

    def named(self, name: str, conversation_id: int, *, owner: int) -> list[StoredSequence]:
        """Read by conversation, and compare names."""
        values = {"owner": owner, "conversation": conversation_id, "name": name}
        return [_sequence(row) for row in self._connection.execute(_NAMED, values).fetchall()]

    def page(
        self, owner: int, *, conversation_id: int | None = None, before: int | None = None, limit: int = PAGE_ROWS
    ) -> list[StoredSequence]:
        """Read in the order of ids, backwards."""
        values: dict[str, object] = {"owner": owner, "before": 2**63 - 1 if before is None else before, "limit": limit}
        statement = _PAGE
        if conversation_id is not None:
            statement = _PAGE_OF_CONVERSATION
            values["conversation"] = conversation_id
        return [_sequence(row) for row in self._connection.execute(statement, values).fetchall()]

    def attach(self, sequence_id: int, conversation_id: int, *, owner: int) -> None:
        """Insert the pair, unless it is there. Of two at once, one breaks the primary key."""
        self.get(sequence_id, owner=owner)
        values = {"id_": sequence_id, "conversation": conversation_id, "owner": owner}
        if self._connection.execute(_IS_ATTACHED, values).first() is not None:
            return
        if self._connection.execute(_ATTACH, values).first() is None:
            raise ConversationNotFound

    def mention(self, message: Message, sequence_id: int, span: tuple[int, int] | None, *, owner: int) -> None:
        """Attach it, and insert."""
        self.attach(sequence_id, message.conversation_id, owner=owner)
        start, end = span or (None, None)
        values = {"message_id": message.id, "sequence_id": sequence_id, "start": start, "end": end}
        self._connection.execute(_MENTION, values)

    def mentions(self, conversation_id: int, *, owner: int) -> list[SequenceMention]:
        """Read those of the conversation's sequences."""
        rows = self._connection.execute(_MENTIONS, {"conversation": conversation_id, "owner": owner}).fetchall()
        return [SequenceMention(row[-3], _sequence(row[:-3]), *row[-2:]) for row in rows]

    def rename(self, sequence_id: int, name: str, *, owner: int) -> None:
        """Check that the new name is free, then update by id and owner."""
        sequence = self.get(sequence_id, owner=owner)
        same = self.find(sequence.sha256, sequence.topology, name, owner=owner)
        if same is not None and same.id != sequence_id:
            raise InvalidInput.of(sequence_taken())
        self._connection.execute(_RENAME, {"id_": sequence_id, "owner": owner, "new": name})

    def delete(self, sequence_id: int, *, owner: int) -> None:
        """Delete by id and owner."""
        begin_deletion(self._connection)
        if not self._connection.execute(_DELETE, {"id_": sequence_id, "owner": owner}).rowcount:
            raise SequenceNotFound

    def stored(self, owner: int) -> tuple[int, int]:
        """Sum by an index that holds what is summed."""
        count, size = self._connection.execute(_SIZE, {"owner": owner}).one()
        return int(count), int(size)

    def _insert(self, new: NewSequence) -> int:
        origin, content = new.origin, new.content
        row = {name: getattr(new, name, None) for name in _STORED}
        row |= {"owner": new.owner, "feature_count": new.features, "created_at": new.now}
        row |= {
            "origin": origin.source.value,
            "origin_id": origin.id,
            "origin_start": origin.start,
            "origin_end": origin.end,
        }
        row |= {"letters": content.letters, "features": content.features}
        sequence_id = self._connection.execute(_ADD, row).scalar()
        if sequence_id is None:
            raise AccountNotFound
        return int(sequence_id)

    def _one(self, statement: Any, sequence_id: int, owner: int) -> Sequence[Any]:  # noqa: ANN401 - a SELECT
        row: Sequence[Any] | None = self._connection.execute(statement, {"id_": sequence_id, "owner": owner}).first()
        if row is None:
            raise SequenceNotFound
        return row


def _sequence(row: Sequence[Any]) -> StoredSequence:
    facts = dict(zip((each.name for each in fields(StoredSequence)), row, strict=False))
    source, *where, created_at = row[10:]
    return StoredSequence(**facts | {"origin": InputOrigin(InputSource(source), *where), "created_at": created_at})
