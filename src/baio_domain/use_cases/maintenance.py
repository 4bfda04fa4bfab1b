"""Maintenance of a whole installation by its administrator."""

from dataclasses import dataclass

from baio_domain.entities import Act, Origin
from baio_domain.ports import Clock, Database


@dataclass(frozen=True, slots=True)
class DeleteAllData:
    """Delete every account, key and conversation (flush). The catalogue stays, and ids are not used again."""

    database: Database
    clock: Clock

    async def __call__(self, origin: Origin) -> int:
        """Delete them and return how many rows that were."""
        rows = await self.database.delete_all_data()
        now = self.clock.now()
        await self.database.write(lambda tx: tx.audit.add(Act.FLUSHED, None, origin, now, f"{rows} rows"))
        return rows
