"""The cost of answers, in tokens and in money, for their user and for the administrator."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date

from baio_domain.administrators import Administrator, account_named, administrator_checked, administrator_pages
from baio_domain.entities import Caller, DayOfUsage, Origin, refuse
from baio_domain.errors import FieldError
from baio_domain.ports import PAGE_ROWS, Clock, Database, PlaceInLedger, Transaction, UsageOfAccount
from baio_domain.prices import PricedUsage, PriceList
from baio_domain.session_check import session_checked

DEFAULT_DAYS = 30
"""How many days are counted where the caller names no first one."""


@dataclass(frozen=True, slots=True)
class GetUsage:
    """Read the token usage of one's own answers per day (UTC), provider and model, oldest day first.

    - An answer counts for the day on which it began. Both days are included; without them, it covers the last 30 days.
    - Tokens are the provider's count. If it sent none, they are estimated from the text, and ``estimated`` is true.
    - Answers of deleted conversations count. An answer that was still running when its conversation was deleted does
      not.
    - With ``money``, each row has its exact ``cost``, by the price that applied on that day. It is null if no price is
      known. Currencies are never added up.
    """

    database: Database
    clock: Clock
    prices: PriceList

    async def __call__(self, caller: Caller, first: date | None, last: date | None) -> list[PricedUsage]:
        """Return one record per day, provider and model, or raise InvalidInput naming ``first``."""
        since, until = _days(first, last, self.clock)
        read = session_checked(caller, lambda tx: tx.ledger.of(caller.user_id, since, until))
        return [self.prices.priced(day) for day in await self.database.read(read)]


@dataclass(frozen=True, slots=True)
class ReportUsage:
    """The costs of the answers of all accounts, per account, day (UTC), provider and model, oldest account first.

    - Users see the same counts for their own answers. They contain no text.
    - The cost is exact, by the price that applied on that day, and null if no price is known. Currencies are never
      added up.
    - BAiO reads it page by page; each page shows the data at the moment when it is read.
    """

    database: Database
    clock: Clock
    prices: PriceList

    async def __call__(
        self, by: Administrator, first: date | None = None, last: date | None = None, *, username: str | None = None
    ) -> AsyncIterator[list[tuple[str, PricedUsage]]]:
        """Yield pages of records, each with a username. Raises InvalidInput naming ``first`` or ``username``."""
        since, until = _days(first, last, self.clock)

        def read(tx: Transaction, after: PlaceInLedger) -> list[UsageOfAccount]:
            return tx.ledger.page(since, until, after=after, limit=PAGE_ROWS)

        def read_one(tx: Transaction, _: Origin) -> tuple[str, list[DayOfUsage]]:
            user = account_named(tx, str(username))
            return user.username, tx.ledger.of(user.id, since, until)

        if username is not None:
            name, days = await self.database.read(administrator_checked(by, self.clock.now(), read_one))
            yield [(name, self.prices.priced(day)) for day in days]
            return

        start = PlaceInLedger()
        async for page in administrator_pages(self.database, self.clock, by, read, start, lambda row: row.place):
            yield [(row.username, self.prices.priced(row.usage)) for row in page]


def _days(first: date | None, last: date | None, clock: Clock) -> tuple[date, date]:
    until = last or clock.now().date()
    since = first or date.fromordinal(max(1, until.toordinal() - (DEFAULT_DAYS - 1)))
    if since > until:
        refuse([FieldError("first", "is after the last day")])
    return since, until
