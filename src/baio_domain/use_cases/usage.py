"""What answers cost: in tokens and in money, for their user and for the administrator."""

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

    - An answer counts for the day on which it began. Both limits are included; without them it is the last 30 days.
    - Tokens are the provider's count. Where it sent none they are estimated from the text, and ``estimated`` is true.
    - Answers of deleted conversations count. An answer that was still running when its conversation was deleted does
      not.
    - With ``money``, each row has its ``cost``, exactly, by the price that held on that day. It is null where no price
      is known. Currencies are never added up.
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
    """What the answers of all accounts cost, per account, day (UTC), provider and model, oldest account first.

    - The counts are those that users see of their own answers. They hold no text.
    - The cost is exact, by the price that held on that day, and null where no price is known. Currencies are never
      added up.
    - It is read page by page, each as of its own moment.
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
