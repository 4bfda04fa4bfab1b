"""How long conversations are kept."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import final

from baio_adapters.memory.conversations import delete_conversation
from baio_adapters.memory.repository import Repository
from baio_domain.entities import AnswerState, Retention, RetentionPolicy
from baio_domain.errors import ConversationNotFound
from baio_domain.ports import Retentions


@final
class MemoryRetentions(Repository, Retentions):
    """In ``Tables.retentions``."""

    def get(self, conversation_id: int, *, owner: int) -> Retention:
        if not self._tables.owns(conversation_id, owner):
            raise ConversationNotFound
        return self._tables.retentions[conversation_id]

    def keep(self, conversation_id: int, *, kept: bool, owner: int) -> None:
        self._tables.retentions[conversation_id] = replace(self.get(conversation_id, owner=owner), kept=kept)

    def make_temporary(self, conversation_id: int, *, owner: int) -> None:
        self._tables.retentions[conversation_id] = replace(self.get(conversation_id, owner=owner), temporary=True)

    def note_activity(self, conversation_id: int, now: datetime, *, owner: int) -> None:
        self.get(conversation_id, owner=owner)
        self._tables.note_activity(conversation_id, now)

    def any_due(self, policy: RetentionPolicy, now: datetime, latest: datetime) -> bool:
        ahead = (each.updated_at > latest for each in self._tables.retentions.values())
        return any(self._due(policy, now)) or any(ahead)

    def delete_due(self, policy: RetentionPolicy, now: datetime, *, count: int, size: int) -> int:
        ids = []
        for conversation_id in list(self._due(policy, now))[:count]:
            if size <= 0:
                break
            ids.append(conversation_id)
            size -= self._tables.conversations[conversation_id].stored_bytes
        for conversation_id in ids:
            delete_conversation(self._tables, conversation_id)
        return len(ids)

    def correct_future(self, latest: datetime) -> None:
        for conversation_id, retention in list(self._tables.retentions.items()):
            if retention.updated_at > latest:
                self._tables.note_activity(conversation_id, latest)

    def _due(self, policy: RetentionPolicy, now: datetime) -> Iterator[int]:
        """Ids, those without activity for longest first."""
        rows = self._tables.answers.values()
        answered = {row.answer.conversation_id for row in rows if row.answer.state is AnswerState.RUNNING}
        for conversation_id, retention in sorted(
            self._tables.retentions.items(), key=lambda each: (not each[1].temporary, each[1].updated_at)
        ):
            goes_at = policy.goes_at(retention)
            if conversation_id not in answered and goes_at is not None and goes_at < now:
                yield conversation_id
