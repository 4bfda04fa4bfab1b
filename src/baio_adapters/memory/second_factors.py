"""Authenticator apps and recovery codes."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import final

from baio_adapters.memory.repository import Repository
from baio_domain.entities import SecondFactor
from baio_domain.errors import SecondFactorOn
from baio_domain.ports import SecondFactors


@final
class MemorySecondFactors(Repository, SecondFactors):
    """Authenticator apps in ``Tables.second_factors``, digests in ``Tables.recovery_codes``."""

    def get(self, user_id: int) -> SecondFactor | None:
        return self._tables.second_factors.get(user_id)

    def enroll(self, user_id: int, sealed: bytes) -> None:
        factor = self.get(user_id)
        if factor is not None and factor.enabled:
            raise SecondFactorOn
        user = self._tables.user(user_id)
        self._tables.second_factors[user.id] = SecondFactor(user.id, sealed, None, 0)

    def enable(self, factor: SecondFactor, counter: int, recovery: Sequence[bytes], now: datetime) -> bool:
        current = self.get(factor.user_id)
        if current is None or current.enabled or current.sealed != factor.sealed:
            return False
        self._tables.second_factors[factor.user_id] = replace(current, enabled_at=now, last_counter=counter)
        self._tables.recovery_codes.update({(factor.user_id, digest): None for digest in recovery})
        return True

    def use_code(self, factor: SecondFactor, counter: int, latest: int) -> bool:
        current = self.get(factor.user_id)
        if current is None or current.sealed != factor.sealed or counter <= current.last_counter <= latest:
            return False
        self._tables.second_factors[factor.user_id] = replace(current, last_counter=counter)
        return True

    def use_recovery_code(self, user_id: int, digest: bytes) -> bool:
        there = (user_id, digest) in self._tables.recovery_codes
        self._tables.recovery_codes.pop((user_id, digest), None)
        return there

    def enabled_for(self, user_ids: Collection[int]) -> frozenset[int]:
        return frozenset(k for k, v in self._tables.second_factors.items() if k in user_ids and v.enabled)

    def count_recovery_codes(self, user_id: int) -> int:
        return sum(owner == user_id for owner, _ in self._tables.recovery_codes)

    def remove(self, user_id: int) -> bool:
        self._tables.recovery_codes = {k: None for k in self._tables.recovery_codes if k[0] != user_id}
        return self._tables.second_factors.pop(user_id, None) is not None

    def after(self, user_id: int, limit: int) -> list[SecondFactor]:
        later = (self._tables.second_factors[k] for k in sorted(self._tables.second_factors) if k > user_id)
        return list(later)[:limit]

    def save_sealed(self, factor: SecondFactor, sealed: bytes) -> None:
        current = self.get(factor.user_id)
        if current is not None and current.sealed == factor.sealed:
            self._tables.second_factors[factor.user_id] = replace(current, sealed=sealed)
