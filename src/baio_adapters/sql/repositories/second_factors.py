"""Authenticator apps and recovery codes."""

from collections.abc import Sequence
from datetime import datetime
from typing import final

from sqlalchemy import bindparam, delete, func, insert, select, update

from baio_adapters.sql.repositories.repository import ID, Repository, insert_for_owner
from baio_adapters.sql.tables import recovery_codes, second_factors
from baio_domain.entities import SecondFactor
from baio_domain.errors import AccountNotFound, SecondFactorOn
from baio_domain.ports import SecondFactors

_FACTOR = select(second_factors).where(second_factors.c.user_id == ID)
_ENROLL = insert_for_owner(second_factors, "sealed", "enabled_at", "last_counter")
_FORGET_FACTOR = delete(second_factors).where(second_factors.c.user_id == ID)
_THE_FACTOR = update(second_factors).where(second_factors.c.user_id == ID, second_factors.c.sealed == bindparam("seen"))
_ENABLE_FACTOR = _THE_FACTOR.where(second_factors.c.enabled_at.is_(None)).values(
    enabled_at=bindparam("now"), last_counter=bindparam("counter")
)
_SPEND = _THE_FACTOR.where(second_factors.c.last_counter < bindparam("counter")).values(
    last_counter=bindparam("counter")
)
_RESEAL_FACTOR = _THE_FACTOR.values(sealed=bindparam("new"))
_FACTORS_AFTER = (
    select(second_factors)
    .where(second_factors.c.user_id > ID)
    .order_by(second_factors.c.user_id)
    .limit(bindparam("limit"))
)
_ADD_RECOVERY_CODES = insert(recovery_codes)
_SPEND_RECOVERY = delete(recovery_codes).where(
    recovery_codes.c.user_id == ID, recovery_codes.c.digest == bindparam("digest")
)
_RECOVERY_LEFT = select(func.count()).where(recovery_codes.c.user_id == ID)
_FORGET_RECOVERY_CODES = delete(recovery_codes).where(recovery_codes.c.user_id == ID)


@final
class SqlSecondFactors(Repository, SecondFactors):
    """Authenticator apps in ``second_factors``, digests of recovery codes in ``recovery_codes``."""

    def get(self, user_id: int) -> SecondFactor | None:
        """Read by account."""
        row = self._connection.execute(_FACTOR, {"the_id": user_id}).first()
        return None if row is None else SecondFactor(*row)

    def enroll(self, user_id: int, sealed: bytes) -> None:
        """Insert in place of what was not enabled."""
        factor = self.get(user_id)
        if factor is not None and factor.enabled:
            raise SecondFactorOn
        self._connection.execute(_FORGET_FACTOR, {"the_id": user_id})
        values = {"owner": user_id, "sealed": sealed, "enabled_at": None, "last_counter": 0}
        if self._connection.execute(_ENROLL, values).scalar() is None:
            raise AccountNotFound

    def enable(self, factor: SecondFactor, counter: int, recovery: Sequence[bytes], now: datetime) -> bool:
        """Update what is still as it was seen, and insert the digests."""
        values = {"the_id": factor.user_id, "seen": factor.sealed, "counter": counter, "now": now}
        if not self._connection.execute(_ENABLE_FACTOR, values).rowcount:
            return False
        rows = [{"user_id": factor.user_id, "digest": digest} for digest in recovery]
        if rows:
            self._connection.execute(_ADD_RECOVERY_CODES, rows)
        return True

    def use_code(self, factor: SecondFactor, counter: int) -> bool:
        """Update the counter where it is smaller."""
        values = {"the_id": factor.user_id, "seen": factor.sealed, "counter": counter}
        return bool(self._connection.execute(_SPEND, values).rowcount)

    def use_recovery_code(self, user_id: int, digest: bytes) -> bool:
        """Delete by digest."""
        return bool(self._connection.execute(_SPEND_RECOVERY, {"the_id": user_id, "digest": digest}).rowcount)

    def count_recovery_codes(self, user_id: int) -> int:
        """Count by account."""
        return int(self._connection.execute(_RECOVERY_LEFT, {"the_id": user_id}).scalar_one())

    def remove(self, user_id: int) -> bool:
        """Delete from both."""
        self._connection.execute(_FORGET_RECOVERY_CODES, {"the_id": user_id})
        return bool(self._connection.execute(_FORGET_FACTOR, {"the_id": user_id}).rowcount)

    def after(self, user_id: int, limit: int) -> list[SecondFactor]:
        """Read in the order of accounts."""
        rows = self._connection.execute(_FACTORS_AFTER, {"the_id": user_id, "limit": limit}).fetchall()
        return [SecondFactor(*row) for row in rows]

    def save_sealed(self, factor: SecondFactor, sealed: bytes) -> None:
        """Update what is still as it was seen."""
        values = {"the_id": factor.user_id, "seen": factor.sealed, "new": sealed}
        self._connection.execute(_RESEAL_FACTOR, values)
