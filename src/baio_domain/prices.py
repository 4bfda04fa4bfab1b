"""The cost of tokens: prices with the day from which they apply, and exact sums of money."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, localcontext

from baio_domain.entities import DayOfUsage
from baio_domain.text import folded

PER = 1_000_000
"""A price is for this many tokens."""

DIGITS = 60
"""Digits of a computation: more than any count of tokens and any price have together, so nothing is rounded."""

MAX_PRICE = Decimal(1_000_000)
"""No price is higher."""

MAX_PRICE_DECIMALS = 9
"""No price has more digits after its point."""


@dataclass(frozen=True, slots=True)
class Price:
    """The price of a million tokens of a model from the day ``since`` (UTC) on, until a later price applies.

    ``currency`` is the code of ISO 4217. ``cached`` is for prompt tokens that the provider has read from its cache;
    None if they cost the same as others.
    """

    provider: str
    model: str
    since: date
    currency: str
    prompt: Decimal
    completion: Decimal
    cached: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Money:
    """An exact amount in one currency."""

    amount: Decimal
    currency: str

    @property
    def text(self) -> str:
        """The amount in digits without an exponent, and without zeros at the end."""
        with localcontext(prec=DIGITS):
            return f"{self.amount.normalize():f}"


@dataclass(frozen=True, slots=True)
class PricedUsage:
    """The usage of one day, and what it cost; None if there is no price for that day."""

    usage: DayOfUsage
    cost: Money | None


class PriceList:
    """The known prices. Of two for the same model from the same day, the later one in the list counts."""

    def __init__(self, prices: Iterable[Price]) -> None:
        self._prices: defaultdict[tuple[str, str], dict[date, Price]] = defaultdict(dict)
        for price in prices:
            self._prices[_key(price.provider, price.model)][price.since] = price

    def price(self, provider: str, model: str, day: date) -> Price | None:
        """The price that applies on this day, or None."""
        known = self._prices.get(_key(provider, model), {})
        since = max((each for each in known if each <= day), default=None)
        return None if since is None else known[since]

    def priced(self, usage: DayOfUsage) -> PricedUsage:
        """The usage with its cost."""
        price = self.price(usage.provider, usage.model, usage.date)
        return PricedUsage(usage, None if price is None else _cost(usage, price))


class Totals:
    """The sum of each currency. Usage without a price is in no sum, and its answers count as ``unpriced_answers``."""

    def __init__(self, priced: Iterable[PricedUsage] = ()) -> None:
        self.unpriced_answers = 0
        self._sums: defaultdict[str, Decimal] = defaultdict(Decimal)
        self.add(priced)

    def add(self, priced: Iterable[PricedUsage]) -> None:
        """Add more."""
        with localcontext(prec=DIGITS):
            for each in priced:
                if each.cost is None:
                    self.unpriced_answers += each.usage.answers
                else:
                    self._sums[each.cost.currency] += each.cost.amount

    @property
    def sums(self) -> list[Money]:
        """The sums so far, in the order of their currencies' codes."""
        return [Money(self._sums[currency], currency) for currency in sorted(self._sums)]


def price_problems(price: Price) -> Iterator[str]:
    """Why this can't be a price."""
    if not (len(price.currency) == 3 and price.currency.isascii() and price.currency.isalpha()):
        yield "currency must be three letters, such as USD"
    amounts = {"in": price.prompt, "out": price.completion, "cached_in": price.cached}
    for name, amount in amounts.items():
        if amount is None:
            continue
        if not (amount.is_finite() and 0 <= amount <= MAX_PRICE):
            yield f"{name} must be 0 to {MAX_PRICE:,}"
        elif amount != round(amount, MAX_PRICE_DECIMALS):
            yield f"{name} must have at most {MAX_PRICE_DECIMALS} digits after the point"


def _key(provider: str, model: str) -> tuple[str, str]:
    return folded(provider), folded(model)


def _cost(usage: DayOfUsage, price: Price) -> Money:
    cached = min(usage.cached_tokens, usage.prompt_tokens)
    with localcontext(prec=DIGITS):
        amount = (
            (usage.prompt_tokens - cached) * price.prompt
            + cached * (price.prompt if price.cached is None else price.cached)
            + usage.completion_tokens * price.completion
        ) / PER
    return Money(amount, price.currency)
