"""Results of requests with an idempotency key."""

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

    def forget(self, before: datetime) -> None:
        kept = self._tables.idempotency.items()
        self._tables.idempotency = {key: value for key, value in kept if value[1].created_at >= before}
