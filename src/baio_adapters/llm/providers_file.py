"""The providers file, in TOML, in which an administrator adds providers, and says what tokens cost.

[[provider]]
name = "Lab server"
base_url = "http://gpu1.example.org:8080/v1"
protocol = "openai"                             # the default
models = [{ id = "llama-3.1-8b", name = "Llama 3.1 8B", context = 131072 }]    # or "ask"
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
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from baio_domain.entities import ModelSpec, ProviderSpec
from baio_domain.prices import Price, price_problems
from baio_domain.text import folded

PRESETS = Path(__file__).with_name("presets.toml")
"""A providers file that comes with BAiO; its providers are enabled by name."""

Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^\S(.*\S)?$")]
TokenCount = Annotated[int, Meta(ge=256, le=100_000_000)]


class _Model(msgspec.Struct, forbid_unknown_fields=True):
    id: Name
    name: Name | None = None
    context: TokenCount = 8_192
    answer: TokenCount | None = None
    system_role: bool = True
    tools: bool = False
    streaming: bool = True

    def spec(self) -> ModelSpec:
        return ModelSpec(
            self.id,
            self.name or self.id,
            self.context,
            self.answer or self.context // 4,
            self.system_role,
            self.tools,
            self.streaming,
        )


_FIELDS: dict[str, Any] = {
    "name": Name,
    "base_url": str,
    "protocol": Name,
    "models": Annotated[list[_Model], Meta(min_length=1)] | Literal["ask"],
    "quirks": list[str],
    "proxy": bool,
}
_REQUIRED = ("name", "base_url", "models")


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


def _load(path: Path) -> tuple[str, dict[str, Any]]:
    """The file's text and its tables, with a list of each kind of entry."""
    try:
        text = path.read_text("utf-8")
        tables = tomllib.loads(text, parse_float=Decimal)
    except (OSError, UnicodeDecodeError) as error:
        raise ProvidersFileError(f"{path} can't be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    except tomllib.TOMLDecodeError as error:
        last = f"at line {max(1, len(text.splitlines()))}"
        raise ProvidersFileError(f"{path}: {str(error).replace('at end of document', last)}") from None
    for name in ("provider", "price"):
        listed = tables.setdefault(name, [])
        if not isinstance(listed, list) or not all(isinstance(table, dict) for table in listed):
            raise ProvidersFileError(f"{path} line {_line_of(text, name)}: write [[{name}]] with two brackets")
    return text, tables


def _read(path: Path) -> _File:
    text, tables = _load(path)
    errors = [
        f"line {_line_of(text, name)}: unknown name {name!r}; only [[provider]] and [[price]] are allowed at the top"
        " level"
        for name in tables
        if name not in ("provider", "price")
    ]
    file = _File([], [])
    first_lines: dict[str, int] = {}
    for table, position in zip(tables["provider"], _positions(text, "provider"), strict=False):
        found = list(_entry_errors(table, position))
        name = table.get("name")
        if isinstance(name, str) and (first := first_lines.setdefault(folded(name), position.line)) != position.line:
            found.append((position.line_of("name"), f"provider {name!r} is already defined on line {first}"))
        errors += [f"line {line}: {message}" for line, message in found]
        if not found:
            file.providers.append(_parse_entry(table, position.line))
    for table, position in zip(tables["price"], _positions(text, "price"), strict=False):
        found = list(_price_errors(table, position))
        errors += [f"line {line}: {message}" for line, message in found]
        if not found:
            file.prices.append(_parse_price(table))
    if errors:
        raise ProvidersFileError("\n".join(f"{path} {error}" for error in errors))
    return file


@dataclass(frozen=True, slots=True)
class _Position:
    """The line on which an entry begins, and the lines of its fields."""

    line: int
    fields: Mapping[str, int]

    def line_of(self, field: str) -> int:
        return self.fields.get(field, self.line)


def _positions(text: str, kind: str) -> list[_Position]:
    """The positions of the entries of this kind, which tomllib does not report."""
    found: list[tuple[str, int, dict[str, int]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if entry := re.match(r"\s*\[\[\s*(\w+)\s*\]\]", line):
            found.append((entry[1], number, {}))
        elif found and (field := re.match(r"\s*[\"']?([\w-]+)[\"']?\s*=", line)):
            found[-1][2].setdefault(field[1], number)
    return [_Position(line, fields) for name, line, fields in found if name == kind]


def _line_of(text: str, name: str) -> int:
    lines = enumerate(text.splitlines(), 1)
    return next((number for number, line in lines if re.match(rf"\s*\[*\s*[\"']?{re.escape(name)}\b", line)), 1)


def _entry_errors(table: Mapping[str, Any], position: _Position) -> Iterator[tuple[int, str]]:
    for name in _REQUIRED:
        if name not in table:
            yield position.line, f"{name} is missing"
    for name, value in table.items():
        if name not in _FIELDS:
            yield position.line_of(name), f"unknown field {name!r}; available: {', '.join(_FIELDS)}"
            continue
        if name == "models" and isinstance(value, str) and value != "ask":
            yield position.line_of(name), 'models must be a list or "ask"'
            continue
        try:
            msgspec.convert(value, _FIELDS[name])
        except msgspec.ValidationError as error:
            yield position.line_of(name), f"{name}: {str(error)[:1].lower()}{str(error)[1:]}"
    if isinstance(url := table.get("base_url"), str) and not _is_http_url(url):
        yield position.line_of("base_url"), "base_url must be an http or https URL without user, query and fragment"


def _parse_entry(table: Mapping[str, Any], line: int) -> ProviderEntry:
    models = msgspec.convert(table["models"], _FIELDS["models"])
    open_ended = models == "ask"
    specs = () if open_ended else tuple(model.spec() for model in models)
    return ProviderEntry(
        ProviderSpec(table["name"], specs, open_ended=open_ended),
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


def _price_errors(table: Mapping[str, Any], position: _Position) -> Iterator[tuple[int, str]]:
    wrong = False
    for name in _PRICE_FIELDS:
        if name not in table and name != "cached_in":
            wrong = True
            yield position.line, f"{name} is missing"
    for name, value in table.items():
        if problem := _price_field_problem(name, value):
            wrong = True
            yield position.line_of(name), problem
    if not wrong:
        yield from ((position.line, problem) for problem in price_problems(_parse_price(table)))


def _price_field_problem(name: str, value: object) -> str | None:
    if name not in _PRICE_FIELDS:
        return f"unknown field {name!r}; available: {', '.join(_PRICE_FIELDS)}"
    if name in _AMOUNTS:
        return None if isinstance(value, int | Decimal) and not isinstance(value, bool) else f"{name}: write a number"
    if name == "from":
        is_day = isinstance(value, date) and not isinstance(value, datetime)
        return None if is_day else "from: write a date such as 2026-01-31, without quotes"
    try:
        msgspec.convert(value, _PRICE_FIELDS[name])
    except msgspec.ValidationError as error:
        return f"{name}: {str(error)[:1].lower()}{str(error)[1:]}"
    return None


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
