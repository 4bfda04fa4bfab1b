"""The ledger of what answers cost."""

from datetime import date
from typing import final

from baio_adapters.memory.repository import Repository
from baio_domain.entities import DayOfUsage, UsedTokens
from baio_domain.ports import Ledger, PlaceInLedger, UsageOfAccount


@final
class MemoryLedger(Repository, Ledger):
    """Counts in ``Tables.usage``."""

    def add(self, used: UsedTokens) -> None:
        self._tables.count_usage(used)

    def of(self, owner: int, first: date, last: date) -> list[DayOfUsage]:
        return [row for key, row in sorted(self._tables.usage.items()) if key[0] == owner and first <= key[1] <= last]

    def page(self, first: date, last: date, *, after: PlaceInLedger, limit: int) -> list[UsageOfAccount]:
        found = [
            (key, row) for key, row in sorted(self._tables.usage.items()) if key > after and first <= key[1] <= last
        ]
        return [
            UsageOfAccount(PlaceInLedger(*key), self._tables.user(key[0]).username, row) for key, row in found[:limit]
        ]
