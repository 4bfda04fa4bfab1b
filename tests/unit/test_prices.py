"""What tokens cost: which price holds, exact sums, and the administrator's report."""

import io
from datetime import date
from decimal import Decimal

import pytest

from baio_api.usage_report import COLUMNS, as_csv, as_text
from baio_domain.entities import DayOfUsage
from baio_domain.prices import Money, Price, PricedUsage, PriceList, Totals

JANUARY, MARCH = date(2026, 1, 1), date(2026, 3, 1)
CHEAP = Price("OpenAI", "gpt-4o", JANUARY, "USD", Decimal("0.1"), Decimal("0.7"), Decimal("0.03"))
DEAR = Price("OpenAI", "gpt-4o", MARCH, "USD", Decimal(10), Decimal(20))


def used(
    day: date = JANUARY, model: str = "gpt-4o", prompt: int = 0, completion: int = 0, cached: int = 0
) -> DayOfUsage:
    return DayOfUsage(day, "OpenAI", model, 1, prompt, completion, estimated=False, cached_tokens=cached)


def cost(usage: DayOfUsage, *prices: Price) -> str | None:
    found = PriceList(prices).priced(usage).cost
    return None if found is None else f"{found.text} {found.currency}"


def test_a_price_holds_from_its_day_on_until_the_next_one() -> None:
    prices = [DEAR, CHEAP]
    assert cost(used(date(2025, 12, 31), prompt=1_000_000), *prices) is None
    assert cost(used(JANUARY, prompt=1_000_000), *prices) == "0.1 USD"
    assert cost(used(date(2026, 2, 28), prompt=1_000_000), *prices) == "0.1 USD"
    assert cost(used(MARCH, prompt=1_000_000), *prices) == "10 USD"
    assert cost(used(date(2030, 1, 1), prompt=1_000_000), *prices) == "10 USD"


def test_an_unknown_price_is_unknown_and_a_price_of_nothing_is_nothing() -> None:
    assert cost(used(model="other", prompt=7), CHEAP) is None
    free = Price("OpenAI", "gpt-4o", JANUARY, "EUR", Decimal(0), Decimal(0))
    assert cost(used(prompt=7), free) == "0 EUR"


def test_of_two_prices_from_one_day_the_later_in_the_list_counts_and_names_are_in_any_case() -> None:
    own = Price("openai", "GPT-4o", JANUARY, "NOK", Decimal(1), Decimal(1))
    assert cost(used(prompt=1), CHEAP, own) == "0.000001 NOK"


def test_cached_tokens_have_their_own_price_or_that_of_others() -> None:
    assert cost(used(JANUARY, prompt=3_000_000, cached=1_000_000), CHEAP) == "0.23 USD"
    assert cost(used(MARCH, prompt=3_000_000, cached=1_000_000), DEAR) == "30 USD"
    assert cost(used(JANUARY, prompt=1_000_000, cached=5_000_000), CHEAP) == "0.03 USD"  # more than there were


def test_sums_are_exact_however_many_and_however_small() -> None:
    tiny = Price("OpenAI", "gpt-4o", JANUARY, "USD", Decimal("0.000000001"), Decimal(999_999))
    prices = PriceList([tiny])
    rows = [prices.priced(used(prompt=1, completion=10**15)) for _ in range(10)]
    assert [total.text for total in Totals(rows).sums] == ["9999990000000000.00000000000001"]
    tenth = PriceList([CHEAP])
    assert [total.text for total in Totals([tenth.priced(used(prompt=1)) for _ in range(10)]).sums] == ["0.000001"]


def test_currencies_are_not_added_up() -> None:
    rows = [PricedUsage(used(), Money(Decimal(1), currency)) for currency in ("USD", "EUR", "USD")]
    rows.append(PricedUsage(used(), None))
    assert Totals(rows).sums == [Money(Decimal(1), "EUR"), Money(Decimal(2), "USD")]


def test_the_report_says_what_has_no_price() -> None:
    rows = [("olenor", PriceList([CHEAP]).priced(used(prompt=10))), ("kari", PricedUsage(used(), None))]
    assert list(as_text(rows)) == [
        "2026-01-01  olenor  OpenAI  gpt-4o  1 answers, 10 tokens in, 0 of them cached, 0 out: 0.000001 USD",
        "2026-01-01  kari  OpenAI  gpt-4o  1 answers, 0 tokens in, 0 of them cached, 0 out: ?",
        "total: 0.000001 USD",
        "in no total, because no price is known: 1 answers",
    ]


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_no_cell_of_the_csv_is_a_formula(begin: str) -> None:
    file = io.StringIO()
    as_csv([(f'{begin}cmd|" /C calc"!A0', PricedUsage(used(model=f"{begin}1+1"), None))], file)
    head, row = file.getvalue().split("\r\n", 1)
    assert head == ",".join(COLUMNS)
    assert row.startswith(("'", "\"'"))
    assert f"'{begin}1+1" in row
