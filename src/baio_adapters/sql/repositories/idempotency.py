"""Results of requests with an idempotency key."""

from datetime import datetime
from typing import final

from sqlalchemy import bindparam, delete, insert, select, update

from baio_adapters.sql.repositories.repository import OWNER, Repository, delete_before
from baio_adapters.sql.tables import idempotency_keys
from baio_domain.errors import IdempotencyKeyReused
from baio_domain.ports import Idempotency, IdempotencyRecord

_FIND = select(idempotency_keys.c.fingerprint, idempotency_keys.c.result_id, idempotency_keys.c.created_at).where(
    idempotency_keys.c.user_id == OWNER,
    idempotency_keys.c.key == bindparam("name"),
    idempotency_keys.c.created_at >= bindparam("since"),
)
_DELETE = delete(idempotency_keys).where(
    idempotency_keys.c.user_id == OWNER, idempotency_keys.c.key == bindparam("name")
)
_OLDEST_KEPT = (
    select(idempotency_keys.c.created_at)
    .where(idempotency_keys.c.user_id == OWNER)
    .order_by(idempotency_keys.c.created_at.desc())
    .limit(1)
    .offset(bindparam("others"))
    .scalar_subquery()
)
_DELETE_OLDEST = delete(idempotency_keys).where(
    idempotency_keys.c.user_id == OWNER, idempotency_keys.c.created_at < _OLDEST_KEPT
)
_PAGE = (
    select(idempotency_keys.c.key, idempotency_keys.c.result_id, idempotency_keys.c.created_at)
    .where(idempotency_keys.c.user_id == OWNER, idempotency_keys.c.key > bindparam("after"))
    .order_by(idempotency_keys.c.key)
    .limit(bindparam("limit"))
)
_CORRECT_FUTURE = (
    update(idempotency_keys).where(idempotency_keys.c.created_at > bindparam("now")).values(created_at=bindparam("now"))
)
_DELETE_OLD = delete_before(idempotency_keys.c.created_at)


@final
class SqlIdempotency(Repository, Idempotency):
    """Results in ``idempotency_keys``."""

    def find(self, owner: int, key: str, fingerprint: bytes, since: datetime) -> IdempotencyRecord | None:
        """Read by owner and key, then compare the fingerprints."""
        row = self._connection.execute(_FIND, {"owner": owner, "name": key, "since": since}).first()
        if row is None:
            return None
        if bytes(row[0]) != fingerprint:
            raise IdempotencyKeyReused
        return IdempotencyRecord(row[1], row[2])

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
        """Delete an expired result, then insert. If two transactions insert at once, the primary key rejects one."""
        self._connection.execute(_DELETE, {"owner": owner, "name": key})
        values = {
            "user_id": owner, "key": key, "fingerprint": fingerprint, "result_id": result_id, "created_at": now,
            "conversation_id": conversation,
        }  # fmt: skip
        self._connection.execute(insert(idempotency_keys), values)

    def forget_oldest(self, owner: int, *, keep: int) -> None:
        """Delete those that are older than the oldest that is kept."""
        self._connection.execute(_DELETE_OLDEST, {"owner": owner, "others": keep - 1})

    def page(self, owner: int, *, after: str, limit: int) -> list[tuple[str, IdempotencyRecord]]:
        """Read by the primary key."""
        rows = self._connection.execute(_PAGE, {"owner": owner, "after": after, "limit": limit}).fetchall()
        return [(key, IdempotencyRecord(result_id, created_at)) for key, result_id, created_at in rows]

    def forget(self, before: datetime, now: datetime) -> None:
        """Delete and update by the index on times."""
        self._connection.execute(_CORRECT_FUTURE, {"now": now})
        self._connection.execute(_DELETE_OLD, {"before": before})
