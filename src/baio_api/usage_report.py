"""The report of the command ``usage``: what answers cost, as lines for people or as CSV."""

import csv
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TextIO

from baio_domain.prices import PricedUsage, Totals

COLUMNS = (
    "user", "day", "provider", "model", "answers", "prompt_tokens", "cached_tokens", "completion_tokens", "estimated",
    "cost", "currency",
)  # fmt: skip


def as_csv(rows: Sequence[tuple[str, PricedUsage]], file: TextIO) -> None:
    """Write a line for each row, after the names of the columns. A cost that is not known is empty, and never 0."""
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    writer.writerows([_cell(text) for text in _texts(name, each)] for name, each in rows)


def as_text(rows: Sequence[tuple[str, PricedUsage]]) -> Iterator[str]:
    """A line for each row, then the sum of each currency, and what is in none."""
    for name, each in rows:
        user, day, provider, model, answers, prompt, cached, completion, estimated, cost, currency = _texts(name, each)
        about = " (estimated)" if estimated else ""
        tokens = f"{prompt} tokens in, {cached} of them cached, {completion} out{about}"
        yield f"{day}  {user}  {provider}  {model}  {answers} answers, {tokens}: {f'{cost} {currency}'.strip() or '?'}"
    totals = Totals(each for _, each in rows)
    for total in totals.sums:
        yield f"total: {total.text} {total.currency}"
    if totals.unpriced_answers:
        yield f"in no total, because no price is known: {totals.unpriced_answers} answers"


def _texts(name: str, each: PricedUsage) -> tuple[str, ...]:
    """The texts of ``COLUMNS``."""
    usage, cost = each.usage, each.cost
    counts = (usage.answers, usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
    money = ("", "") if cost is None else (cost.text, cost.currency)
    texts = (name, str(usage.date), usage.provider, usage.model)
    return (*texts, *map(str, counts), "estimated" if usage.estimated else "", *money)


def _cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula. Source: OWASP, "CSV Injection"."""
    first = unicodedata.normalize("NFKC", text[:1])  # full-width signs, too
    return f"'{text}" if first and first in "=+-@\t\r\n" else text
