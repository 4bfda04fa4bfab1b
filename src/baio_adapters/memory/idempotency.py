"""Results of requests with an idempotency key."""

from dataclasses import replace
from datetime import datetime
from typing import final

from baio_adapters.memory.repository import Repository
from baio_domain.errors import IdempotencyKeyReused
from baio_domain.ports import Idempotency, IdempotencyRecord


@final
class MemoryIdempotency(Repository, Idempotency):
    """Results in ``Tables.idempotency``."""

    def find(self, owner: int, key: str, fingerprint: bytes, since: datetime) -> IdempotencyRecord | None:
        kept = self._tables.idempotency.get((owner, key))
        if kept is None or kept[1].created_at < since:
            return None
        if kept[0] != fingerprint:
            raise IdempotencyKeyReused
        return kept[1]

    def remember(
        self,
        owner: int,
        key: str,
        fingerprint: bytes,
        result_id: int,
        now: datetime,
        *,
        conversation: int | None = None,
    ) -> None:
        self._tables.idempotency[owner, key] = (fingerprint, IdempotencyRecord(result_id, now), conversation)

    def forget(self, before: datetime, now: datetime) -> None:
        self._tables.idempotency = {
            key: (fingerprint, replace(record, created_at=min(record.created_at, now)), conversation)
            for key, (fingerprint, record, conversation) in self._tables.idempotency.items()
            if record.created_at >= before
        }
