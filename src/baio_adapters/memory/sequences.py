"""Stored sequences."""

from dataclasses import replace
from typing import final

from baio_adapters.memory.repository import Repository
from baio_adapters.memory.tables import SequenceRow
from baio_domain.entities import InputSource, Message, SequenceContent, StoredSequence
from baio_domain.errors import ConversationNotFound, InvalidInput, SequenceNotFound, sequence_taken
from baio_domain.ports import PAGE_ROWS, NewSequence, SequenceMention, Sequences


@final
class MemorySequences(Repository, Sequences):
    """Sequences in ``Tables.sequences``, their conversations in ``Tables.conversation_sequences``."""

    def add(self, new: NewSequence) -> StoredSequence:
        self._tables.user(new.owner)
        found = self.find(new.sha256, new.topology, new.name, owner=new.owner)
        if found is None:
            found = StoredSequence(
                self._tables.next_id("sequences"),
                new.owner,
                new.name,
                new.description,
                new.molecule,
                new.topology,
                new.length,
                new.features,
                new.sha256,
                new.format,
                new.origin,
                new.now,
            )
            self._tables.sequences[found.id] = SequenceRow(found, new.content, new.stored_bytes)
        elif new.origin.source is InputSource.FILE:
            found = replace(found, origin=new.origin)
            self._change(found)
        if new.conversation_id is not None:
            self.attach(found.id, new.conversation_id, owner=new.owner)
        return found

    def get(self, sequence_id: int, *, owner: int) -> StoredSequence:
        return self._row(sequence_id, owner).sequence

    def content(self, sequence_id: int, *, owner: int) -> SequenceContent:
        return self._row(sequence_id, owner).content

    def find(self, sha256: str, topology: str, name: str, *, owner: int) -> StoredSequence | None:
        key = (sha256, topology, name)
        return next((each for each in self._of(owner) if (each.sha256, each.topology, each.name) == key), None)

    def named(self, name: str, conversation_id: int, *, owner: int) -> list[StoredSequence]:
        links = self._tables.conversation_sequences
        return [each for each in self._of(owner) if each.name == name and (conversation_id, each.id) in links][:2]

    def page(
        self, owner: int, *, conversation_id: int | None = None, before: int | None = None, limit: int = PAGE_ROWS
    ) -> list[StoredSequence]:
        links = self._tables.conversation_sequences
        newest_first = reversed(self._of(owner))
        return [
            each
            for each in newest_first
            if (before is None or each.id < before) and (conversation_id is None or (conversation_id, each.id) in links)
        ][:limit]

    def attach(self, sequence_id: int, conversation_id: int, *, owner: int) -> None:
        self._row(sequence_id, owner)
        if not self._tables.owns(conversation_id, owner):
            raise ConversationNotFound
        self._tables.conversation_sequences[(conversation_id, sequence_id)] = None

    def mention(self, message: Message, sequence_id: int, span: tuple[int, int] | None, *, owner: int) -> None:
        self.attach(sequence_id, message.conversation_id, owner=owner)
        mention = (message.id, sequence_id, span)
        self._tables.sequence_mentions[self._tables.next_id("sequence_mentions")] = mention

    def mentions(self, conversation_id: int, *, owner: int) -> list[SequenceMention]:
        if not self._tables.owns(conversation_id, owner):
            return []
        its = {each.id for each in self._tables.messages.values() if each.conversation_id == conversation_id}
        return [
            SequenceMention(message_id, self._tables.sequences[sequence_id].sequence, *(span or (None, None)))
            for message_id, sequence_id, span in self._tables.sequence_mentions.values()
            if message_id in its
        ]

    def rename(self, sequence_id: int, name: str, *, owner: int) -> None:
        sequence = self.get(sequence_id, owner=owner)
        same = self.find(sequence.sha256, sequence.topology, name, owner=owner)
        if same is not None and same.id != sequence_id:
            raise InvalidInput.of(sequence_taken())
        self._change(replace(sequence, name=name))

    def delete(self, sequence_id: int, *, owner: int) -> None:
        self._row(sequence_id, owner)
        self._tables.delete_sequences({sequence_id})

    def stored(self, owner: int) -> tuple[int, int]:
        sizes = [row.stored_bytes for row in self._tables.sequences.values() if row.sequence.user_id == owner]
        return len(sizes), sum(sizes)

    def _of(self, owner: int) -> list[StoredSequence]:
        rows = self._tables.sequences.values()
        return [row.sequence for row in rows if row.sequence.user_id == owner]

    def _row(self, sequence_id: int, owner: int) -> SequenceRow:
        row = self._tables.sequences.get(sequence_id)
        if row is None or row.sequence.user_id != owner:
            raise SequenceNotFound
        return row

    def _change(self, sequence: StoredSequence) -> None:
        row = self._tables.sequences[sequence.id]
        self._tables.sequences[sequence.id] = replace(row, sequence=sequence)
