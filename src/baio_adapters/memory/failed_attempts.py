"""Failed sign-ins and codes."""

from collections.abc import Collection
from datetime import datetime
from typing import final

from baio_adapters.memory.repository import Repository
from baio_domain.ports import FailedAttempts


@final
class MemoryFailedAttempts(Repository, FailedAttempts):
    """Theoretical arrival times in ``Tables.failed_attempts``."""

    def arrival_times(self, keys: Collection[bytes]) -> dict[bytes, datetime]:
        return {key: self._tables.failed_attempts[key] for key in keys if key in self._tables.failed_attempts}

    def save_arrival_time(self, key: bytes, time: datetime) -> None:
        self._tables.failed_attempts[key] = time

    def forget(self, keys: Collection[bytes], before: datetime) -> None:
        kept = {k: v for k, v in self._tables.failed_attempts.items() if k not in keys and v >= before}
        self._tables.failed_attempts = kept
