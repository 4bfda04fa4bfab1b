"""Can requests be served?"""

from dataclasses import dataclass

from baio_domain.answering import Answering
from baio_domain.ports import Database


@dataclass(frozen=True, slots=True)
class CheckReadiness:
    """Whether requests can be served.

    The database is reachable, its schema is the one this version needs, and no shutdown is under way.
    """

    database: Database
    answering: Answering

    async def __call__(self) -> None:
        """Return when ready, or raise Unavailable saying why not."""
        self.answering.refuse_when_closing()
        await self.database.check()
