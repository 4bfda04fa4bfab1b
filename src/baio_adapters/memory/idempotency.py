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

    def forget_oldest(self, owner: int, *, keep: int) -> None:
        table = self._tables.idempotency
        mine = sorted((row[1].created_at for (user_id, _), row in table.items() if user_id == owner), reverse=True)
        oldest = mine[:keep][-1]
        self._tables.idempotency = {k: v for k, v in table.items() if k[0] != owner or v[1].created_at >= oldest}

    def page(self, owner: int, *, after: str, limit: int) -> list[tuple[str, IdempotencyRecord]]:
        mine = sorted((key, row[1]) for (user_id, key), row in self._tables.idempotency.items() if user_id == owner)
        return [each for each in mine if each[0] > after][:limit]

    def forget(self, before: datetime, now: datetime) -> None:
        self._tables.idempotency = {
            key: (fingerprint, replace(record, created_at=min(record.created_at, now)), conversation)
            for key, (fingerprint, record, conversation) in self._tables.idempotency.items()
            if record.created_at >= before
        }
