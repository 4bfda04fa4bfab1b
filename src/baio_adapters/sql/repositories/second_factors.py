"""Authenticator apps and recovery codes."""

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import final

from sqlalchemy import bindparam, delete, func, insert, select, update

from baio_adapters.sql.repositories.repository import ID, Repository, in_json, insert_for_owner
from baio_adapters.sql.tables import recovery_codes, second_factors
from baio_domain.entities import SecondFactor
from baio_domain.errors import AccountNotFound, SecondFactorOn
from baio_domain.ports import SecondFactors

_FACTOR = select(second_factors).where(second_factors.c.user_id == ID)
_ENROLL = insert_for_owner(second_factors, "sealed", "enabled_at", "last_counter")
_DELETE_FACTOR = delete(second_factors).where(second_factors.c.user_id == ID)
_UPDATE_UNCHANGED = update(second_factors).where(
    second_factors.c.user_id == ID, second_factors.c.sealed == bindparam("old_sealed")
)
_ENABLE_FACTOR = _UPDATE_UNCHANGED.where(second_factors.c.enabled_at.is_(None)).values(
    enabled_at=bindparam("now"), last_counter=bindparam("counter")
)
_USE_CODE = _UPDATE_UNCHANGED.where(
    (second_factors.c.last_counter < bindparam("counter")) | (second_factors.c.last_counter > bindparam("latest"))
).values(last_counter=bindparam("counter"))
_SAVE_SEALED = _UPDATE_UNCHANGED.values(sealed=bindparam("new"))
_FACTORS_AFTER = (
    select(second_factors)
    .where(second_factors.c.user_id > ID)
    .order_by(second_factors.c.user_id)
    .limit(bindparam("limit"))
)
_ENABLED_FOR = {
    dialect: select(second_factors.c.user_id).where(listed, second_factors.c.enabled_at.is_not(None))
    for dialect, listed in in_json(second_factors.c.user_id, "BIGINT").items()
}
_ADD_RECOVERY_CODES = insert(recovery_codes)
_USE_RECOVERY_CODE = delete(recovery_codes).where(
    recovery_codes.c.user_id == ID, recovery_codes.c.digest == bindparam("digest")
)
_COUNT_RECOVERY_CODES = select(func.count()).where(recovery_codes.c.user_id == ID)
_DELETE_RECOVERY_CODES = delete(recovery_codes).where(recovery_codes.c.user_id == ID)


@final
class SqlSecondFactors(Repository, SecondFactors):
    """Authenticator apps in ``second_factors``, digests of recovery codes in ``recovery_codes``."""

    def get(self, user_id: int) -> SecondFactor | None:
        """Read by user id."""
        row = self._connection.execute(_FACTOR, {"id_": user_id}).first()
        return None if row is None else SecondFactor(*row)

    def enroll(self, user_id: int, sealed: bytes) -> None:
        """Delete an earlier one that is not enabled, then insert."""
        factor = self.get(user_id)
        if factor is not None and factor.enabled:
            raise SecondFactorOn
        self._connection.execute(_DELETE_FACTOR, {"id_": user_id})
        values = {"owner": user_id, "sealed": sealed, "enabled_at": None, "last_counter": 0}
        if self._connection.execute(_ENROLL, values).scalar() is None:
            raise AccountNotFound

    def enable(self, factor: SecondFactor, counter: int, recovery: Sequence[bytes], now: datetime) -> bool:
        """Update if the ciphertext is unchanged, then insert the digests."""
        values = {"id_": factor.user_id, "old_sealed": factor.sealed, "counter": counter, "now": now}
        if not self._connection.execute(_ENABLE_FACTOR, values).rowcount:
            return False
        rows = [{"user_id": factor.user_id, "digest": digest} for digest in recovery]
        if rows:
            self._connection.execute(_ADD_RECOVERY_CODES, rows)
        return True

    def use_code(self, factor: SecondFactor, counter: int, latest: int) -> bool:
        """Update the counter, if it is smaller or from a wrong clock."""
        values = {"id_": factor.user_id, "old_sealed": factor.sealed, "counter": counter, "latest": latest}
        return bool(self._connection.execute(_USE_CODE, values).rowcount)

    def use_recovery_code(self, user_id: int, digest: bytes) -> bool:
        """Delete by user id and digest."""
        return bool(self._connection.execute(_USE_RECOVERY_CODE, {"id_": user_id, "digest": digest}).rowcount)

    def enabled_for(self, user_ids: Collection[int]) -> frozenset[int]:
        """Read all by user id."""
        statement = _ENABLED_FOR[self._connection.dialect.name]
        return frozenset(self._connection.execute(statement, {"listed": json.dumps(list(user_ids))}).scalars().all())

    def count_recovery_codes(self, user_id: int) -> int:
        """Count by user id."""
        return int(self._connection.execute(_COUNT_RECOVERY_CODES, {"id_": user_id}).scalar_one())

    def remove(self, user_id: int) -> bool:
        """Delete from both tables."""
        self._connection.execute(_DELETE_RECOVERY_CODES, {"id_": user_id})
        return bool(self._connection.execute(_DELETE_FACTOR, {"id_": user_id}).rowcount)

    def after(self, user_id: int, limit: int) -> list[SecondFactor]:
        """Read in the order of user ids."""
        rows = self._connection.execute(_FACTORS_AFTER, {"id_": user_id, "limit": limit}).fetchall()
        return [SecondFactor(*row) for row in rows]

    def save_sealed(self, factor: SecondFactor, sealed: bytes) -> None:
        """Update if the ciphertext is unchanged."""
        values = {"id_": factor.user_id, "old_sealed": factor.sealed, "new": sealed}
        self._connection.execute(_SAVE_SEALED, values)
