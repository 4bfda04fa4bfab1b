"""Which conversations were imported."""

from dataclasses import replace
from datetime import datetime
from typing import final

from baio_adapters.memory.repository import Repository
from baio_domain.errors import ConversationNotFound
from baio_domain.ports import Imports


@final
class MemoryImports(Repository, Imports):
    """Digests in ``Tables.imports``, by conversation; times in ``Tables.retentions``."""

    def find(self, digest: bytes, *, owner: int) -> int | None:
        found = (each for each, known in self._tables.imports.items() if known == digest)
        return next((each for each in found if self._tables.owns(each, owner)), None)

    def mark(self, conversation_id: int, digest: bytes, now: datetime, *, owner: int) -> None:
        if not self._tables.owns(conversation_id, owner):
            raise ConversationNotFound
        self._tables.imports[conversation_id] = digest
        retentions = self._tables.retentions
        retentions[conversation_id] = replace(retentions[conversation_id], imported_at=now)
