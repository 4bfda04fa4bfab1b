"""The ledger of what answers cost."""

from datetime import date
from typing import final

from baio_adapters.memory.repository import Repository
from baio_domain.entities import DayOfUsage, UsedTokens
from baio_domain.ports import Ledger


@final
class MemoryLedger(Repository, Ledger):
    """Counts in ``Tables.usage``."""

    def add(self, used: UsedTokens) -> None:
        self._tables.count_usage(used)

    def of(self, owner: int, first: date, last: date) -> list[DayOfUsage]:
        return [row for key, row in sorted(self._tables.usage.items()) if key[0] == owner and first <= key[1] <= last]

    def of_all(self, first: date, last: date) -> list[tuple[str, DayOfUsage]]:
        names = {user.id: user.username for user in self._tables.users.values()}
        return [(names[key[0]], row) for key, row in sorted(self._tables.usage.items()) if first <= key[1] <= last]
