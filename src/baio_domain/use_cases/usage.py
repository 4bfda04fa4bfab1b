"""What answers cost: in tokens and in money, for their user and for the administrator."""

from dataclasses import dataclass
from datetime import date

from baio_domain.entities import Caller, DayOfUsage, refuse
from baio_domain.errors import FieldError, InvalidInput
from baio_domain.ports import Clock, Database, Transaction
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
    """What the answers of all accounts cost, or those of one, per account, day (UTC), provider and model."""

    database: Database
    clock: Clock
    prices: PriceList

    async def __call__(
        self, first: date | None = None, last: date | None = None, *, username: str | None = None
    ) -> list[tuple[str, PricedUsage]]:
        """Return each record with its account's username. Raises InvalidInput naming ``first`` or ``username``."""
        since, until = _days(first, last, self.clock)

        def read(tx: Transaction) -> list[tuple[str, DayOfUsage]]:
            if username is None:
                return tx.ledger.of_all(since, until)
            user = tx.users.by_username(username.strip())
            if user is None:
                raise InvalidInput.of(FieldError("username", "there is no such account"))
            return [(user.username, day) for day in tx.ledger.of(user.id, since, until)]

        return [(name, self.prices.priced(day)) for name, day in await self.database.read(read)]


def _days(first: date | None, last: date | None, clock: Clock) -> tuple[date, date]:
    until = last or clock.now().date()
    since = first or date.fromordinal(max(1, until.toordinal() - (DEFAULT_DAYS - 1)))
    if since > until:
        refuse([FieldError("first", "is after the last day")])
    return since, until
