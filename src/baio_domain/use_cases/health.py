"""Readiness: whether a process can start, and whether it can serve requests."""

from dataclasses import dataclass

from baio_domain.answering import Answering
from baio_domain.errors import CatalogueEmpty
from baio_domain.ports import Database


@dataclass(frozen=True, slots=True)
class CheckStartup:
    """Whether a server can start: the database can be read and written, its schema is current, and there are models."""

    database: Database

    async def __call__(self) -> None:
        """Return when it can. Raises Unavailable saying why not, or CatalogueEmpty."""
        await self.database.check()
        await self.database.check_writable()
        if not await self.database.read(lambda tx: tx.catalogue.providers()):
            raise CatalogueEmpty


@dataclass(frozen=True, slots=True)
class CheckReadiness:
    """Whether requests can be served.

    The database can be read and written, its schema is the one this version needs, and no shutdown is under way.
    """

    database: Database
    answering: Answering

    async def __call__(self) -> None:
        """Return when ready, or raise Unavailable saying why not."""
        self.answering.refuse_when_closing()
        await self.database.check()
        await self.database.check_writable()
