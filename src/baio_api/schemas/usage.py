"""The JSON of usage and costs."""

from datetime import date
from typing import Annotated, ClassVar, Self

import msgspec
from msgspec import Meta

from baio_api.schemas.common import Count, Examples
from baio_domain import prices

Amount = Annotated[str, Meta(pattern=r"^\d+(\.\d+)?$")]
"""An amount of money: all of its digits, as text, because a JSON number would be rounded."""


class UsageOfDay(msgspec.Struct, frozen=True):
    """The tokens used by the caller's own answers from one model on one day."""

    examples: ClassVar[Examples] = {
        "contract": {
            "date": "2026-01-31",
            "provider": "OpenAI",
            "model": "gpt-4o-mini",
            "answers": 12,
            "prompt_tokens": 5210,
            "completion_tokens": 3904,
            "estimated": False,
        }
    }

    date: date
    provider: str
    model: str
    answers: Count
    prompt_tokens: Count
    completion_tokens: Count
    estimated: bool


class Cost(msgspec.Struct, frozen=True):
    """An exact amount of money. ``currency`` is a code of ISO 4217."""

    examples: ClassVar[Examples] = {"contract": {"amount": "0.0031239", "currency": "USD"}}

    amount: Amount
    currency: str

    @classmethod
    def of(cls, money: prices.Money) -> Self:
        """An amount as clients get it."""
        return cls(money.text, money.currency)


class PricedUsageOfDay(UsageOfDay, frozen=True, kw_only=True):
    """The same, with its cost. ``cost`` is null if no price is known for the model on that day.

    ``cached_tokens`` are those prompt tokens that the provider said it has read from its cache.
    """

    cached_tokens: Count
    cost: Cost | None

    @classmethod
    def of(cls, priced: prices.PricedUsage, **more: str) -> Self:
        """A record as clients get it, with ``more`` fields of a subclass."""
        usage = priced.usage
        return cls(
            date=usage.date,
            provider=usage.provider,
            model=usage.model,
            answers=usage.answers,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            estimated=usage.estimated,
            cached_tokens=usage.cached_tokens,
            cost=None if priced.cost is None else Cost.of(priced.cost),
            **more,
        )


class PricedUsage(msgspec.Struct, frozen=True):
    """The usage of all days with its cost, and the sum of each currency.

    ``unpriced_answers`` are those whose cost is in no sum, because no price is known.
    """

    examples: ClassVar[Examples] = {
        "contract": {
            "days": [{**UsageOfDay.examples["contract"], "cached_tokens": 0, "cost": Cost.examples["contract"]}],
            "totals": [Cost.examples["contract"]],
            "unpriced_answers": 0,
        }
    }

    days: list[PricedUsageOfDay]
    totals: list[Cost]
    unpriced_answers: Count
