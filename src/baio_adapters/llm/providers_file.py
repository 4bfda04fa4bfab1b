"""The providers file, in TOML, in which an administrator adds providers, and says what tokens cost.

[[provider]]
name = "Lab server"
base_url = "http://gpu1.example.org:8080/v1"
protocol = "openai"                             # the default
models = [{ id = "llama-3.1-8b", name = "Llama 3.1 8B", context = 131072 }]    # or "ask"
parameters = { seed = { sent_as = "random_seed" }, reasoning_effort = false }  # a model can have some of its own
quirks = ["no-stream-options"]
proxy = false                                   # reach it directly, whatever BAIO_PROXY is

[[price]]
provider = "OpenAI"                             # any provider, also one that is not in this file
model = "gpt-4o-mini"
from = 2026-01-01                               # the first day (UTC) on which it holds
currency = "USD"
in = 0.15                                       # for a million tokens, as are these
out = 0.60
cached_in = 0.075                               # optional
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from baio_adapters.toml_entries import (
    EntriesFileError,
    Position,
    entry_problems,
    load,
    positions,
    type_problem,
    unknown_kinds,
)
from baio_domain.entities import ModelSpec, ProviderSpec
from baio_domain.parameters import Accepted
from baio_domain.prices import Price, price_problems
from baio_domain.text import folded

PRESETS = Path(__file__).with_name("presets.toml")
"""A providers file that comes with BAiO; its providers are enabled by name."""

Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^\S(.*\S)?$")]
TokenCount = Annotated[int, Meta(ge=256, le=100_000_000)]


class _Accepted(msgspec.Struct, forbid_unknown_fields=True):
    sent_as: Annotated[str, Meta(pattern=r"^\w+(\.\w+)*$")] | None = None
    least: Decimal | None = None
    most: Decimal | None = None
    levels: Annotated[list[str], Meta(min_length=1)] | None = None

    def rule(self) -> Accepted:
        least, most = (None if number is None else float(number) for number in (self.least, self.most))
        return Accepted(self.sent_as, least, most, None if self.levels is None else tuple(self.levels))


_Parameters = dict[Literal["temperature", "top_p", "max_output_tokens", "reasoning_effort", "seed"], _Accepted | bool]


def _rules(parameters: _Parameters) -> dict[str, Accepted | None]:
    accepted = {name: Accepted() if rule is True else rule for name, rule in parameters.items()}
    return {name: rule.rule() if isinstance(rule, _Accepted) else rule or None for name, rule in accepted.items()}


class _Model(msgspec.Struct, forbid_unknown_fields=True):
    id: Name
    name: Name | None = None
    context: TokenCount = 8_192
    answer: TokenCount | None = None
    system_role: bool = True
    tools: bool = False
    streaming: bool = True
    parameters: _Parameters = {}

    def spec(self) -> ModelSpec:
        return ModelSpec(
            self.id,
            self.name or self.id,
            self.context,
            self.answer or self.context // 4,
            self.system_role,
            self.tools,
            self.streaming,
            _rules(self.parameters),
        )


_FIELDS: dict[str, Any] = {
    "name": Name,
    "base_url": str,
    "protocol": Name,
    "models": Annotated[list[_Model], Meta(min_length=1)] | Literal["ask"],
    "quirks": list[str],
    "proxy": bool,
    "parameters": _Parameters,
}
_REQUIRED = ("name", "base_url", "models")
_OWN = ("openai", "anthropic")  # a gateway of somebody else may want any address


@dataclass(frozen=True, slots=True)
class ProviderEntry:
    """One provider of the file: its models, and how to reach it. ``line`` is where it begins in the file.

    ``proxy`` is False if the provider is reached directly, whatever proxy is set.
    """

    provider: ProviderSpec
    base_url: str
    protocol: str
    quirks: frozenset[str]
    proxy: bool
    line: int


class ProvidersFileError(Exception):
    """Every error in a providers file: a line of text for each, with its line number in the file."""


def read_providers(path: Path) -> list[ProviderEntry]:
    """The providers in this file. Raises ProvidersFileError, which names every error."""
    return _read(path).providers


def read_prices(path: Path) -> list[Price]:
    """The prices in this file, in their order. Raises ProvidersFileError, which names every error."""
    return _read(path).prices


@dataclass(frozen=True, slots=True)
class _File:
    providers: list[ProviderEntry]
    prices: list[Price]


def _read(path: Path) -> _File:
    try:
        text, tables = load(path, ("provider", "price"))
    except EntriesFileError as error:
        raise ProvidersFileError(str(error)) from None
    errors = list(unknown_kinds(text, tables, ("provider", "price")))
    file = _File([], [])
    first_lines: dict[str, int] = {}
    for table, position in zip(tables["provider"], positions(text, "provider"), strict=False):
        found = list(_entry_errors(table, position))
        name = table.get("name")
        if isinstance(name, str) and (first := first_lines.setdefault(folded(name), position.line)) != position.line:
            found.append((position.line_of("name"), f"provider {name!r} is already defined on line {first}"))
        errors += [f"line {line}: {message}" for line, message in found]
        if not found:
            file.providers.append(_parse_entry(table, position.line))
    for table, position in zip(tables["price"], positions(text, "price"), strict=False):
        found = list(_price_errors(table, position))
        errors += [f"line {line}: {message}" for line, message in found]
        if not found:
            file.prices.append(_parse_price(table))
    if errors:
        raise ProvidersFileError("\n".join(f"{path} {error}" for error in errors))
    return file


def _entry_errors(table: Mapping[str, Any], position: Position) -> Iterator[tuple[int, str]]:
    yield from entry_problems(table, position, _FIELDS, _REQUIRED, _field_problem)
    if isinstance(url := table.get("base_url"), str):
        if not _is_http_url(url):
            yield position.line_of("base_url"), "base_url must be an http or https URL without user, query and fragment"
        elif (end := re.search(r"/(?:chat/completions|messages)/?$", url)) and table.get("protocol", "openai") in _OWN:
            yield position.line_of("base_url"), f"base_url must end before {end[0]}, which BAiO adds"


def _field_problem(name: str, value: object) -> str | None:
    if name == "models" and isinstance(value, str) and value != "ask":
        return 'models must be a list or "ask"'
    return type_problem(name, value, _FIELDS[name])


def _parse_entry(table: Mapping[str, Any], line: int) -> ProviderEntry:
    models = msgspec.convert(table["models"], _FIELDS["models"])
    open_ended = models == "ask"
    specs = () if open_ended else tuple(model.spec() for model in models)
    return ProviderEntry(
        ProviderSpec(
            table["name"],
            specs,
            open_ended=open_ended,
            parameters=_rules(msgspec.convert(table.get("parameters", {}), _Parameters)),
        ),
        table["base_url"],
        table.get("protocol", "openai"),
        frozenset(table.get("quirks", ())),
        table.get("proxy", True),
        line,
    )


_AMOUNTS = ("in", "out", "cached_in")
_PRICE_FIELDS: dict[str, Any] = {
    "provider": Name,
    "model": Name,
    "from": date,
    "currency": str,
    **dict.fromkeys(_AMOUNTS, Decimal),
}


def _price_errors(table: Mapping[str, Any], position: Position) -> Iterator[tuple[int, str]]:
    required = [name for name in _PRICE_FIELDS if name != "cached_in"]
    wrong = list(entry_problems(table, position, _PRICE_FIELDS, required, _price_field_problem))
    yield from wrong or ((position.line, problem) for problem in price_problems(_parse_price(table)))


def _price_field_problem(name: str, value: object) -> str | None:
    if name in _AMOUNTS:
        return None if isinstance(value, int | Decimal) and not isinstance(value, bool) else f"{name}: write a number"
    if name == "from":
        is_day = isinstance(value, date) and not isinstance(value, datetime)
        return None if is_day else "from: write a date such as 2026-01-31, without quotes"
    return type_problem(name, value, _PRICE_FIELDS[name])


def _parse_price(table: Mapping[str, Any]) -> Price:
    amounts = [None if name not in table else Decimal(table[name]) for name in _AMOUNTS]
    return Price(table["provider"], table["model"], table["from"], table["currency"].upper(), *amounts)  # type: ignore[arg-type]


def _is_http_url(url: str) -> bool:
    """Whether this is an HTTP URL that can be used unchanged."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    extra = parts.username or parts.password or parts.query or parts.fragment or not url.isascii() or " " in url
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not extra and (port is None or port > 0)
