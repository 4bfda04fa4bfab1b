"""The providers that a server's administrator names in a file, in TOML.

[[provider]]
name = "Lab server"
base_url = "http://gpu1.example.org:8080/v1"
protocol = "openai"                             # the default
models = [{ id = "llama-3.1-8b", name = "Llama 3.1 8B", context = 131072 }]    # or "ask"
quirks = ["no-stream-options"]
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from baio_domain.entities import ModelSpec, ProviderSpec, folded

READY = Path(__file__).with_name("ready.toml")
"""Providers that need but be switched on by name."""

Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^\S(.*\S)?$")]
Tokens = Annotated[int, Meta(ge=256, le=100_000_000)]


class _Model(msgspec.Struct, forbid_unknown_fields=True):
    id: Name
    name: Name | None = None
    context: Tokens = 8_192
    answer: Tokens | None = None
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
}
_REQUIRED = ("name", "base_url", "models")


@dataclass(frozen=True, slots=True)
class Entry:
    """One provider of the file: whom to speak to and for, where, in which protocol, and what is peculiar there."""

    provider: ProviderSpec
    base_url: str
    protocol: str
    quirks: frozenset[str]
    line: int


class MistakesInFile(Exception):
    """Everything that is wrong with a providers file, a line each with the number of its line in the file."""


def read_providers(path: Path) -> list[Entry]:
    """The providers of this file, or raise MistakesInFile naming all that is wrong."""
    try:
        text = path.read_text("utf-8")
        tables = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise MistakesInFile(f"{path} can't be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from None
    except tomllib.TOMLDecodeError as error:
        last = f"at line {max(1, len(text.splitlines()))}"
        raise MistakesInFile(f"{path}: {str(error).replace('at end of document', last)}") from None
    listed = tables.get("provider", [])
    mistakes = [f"line {_line_of(text, name)}: {name} is not known here" for name in tables if name != "provider"]
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise MistakesInFile(f"{path} line {_line_of(text, 'provider')}: write [[provider]] with two brackets")
    places = _places(text)
    entries: list[Entry] = []
    names: dict[str, int] = {}
    for table, place in zip(listed, places, strict=False):
        found = list(_mistakes(table, place))
        name = table.get("name")
        if isinstance(name, str) and (before := names.setdefault(folded(name), place.first)) != place.first:
            found.append((place.of("name"), f"{name} stands in line {before} already"))
        mistakes += [f"line {line}: {what}" for line, what in found]
        if not found:
            entries.append(_entry(table, place.first))
    if mistakes:
        raise MistakesInFile("\n".join(f"{path} {each}" for each in mistakes))
    return entries


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one entry stands in the file, and on which lines its fields do."""

    first: int
    lines: Mapping[str, int]

    def of(self, field: str) -> int:
        return self.lines.get(field, self.first)


def _places(text: str) -> list[_Place]:
    """Where the entries stand: TOML's own parser does not say."""
    found: list[tuple[int, dict[str, int]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"\s*\[\[\s*provider\s*\]\]", line):
            found.append((number, {}))
        elif found and (field := re.match(r"\s*[\"']?([\w-]+)[\"']?\s*=", line)):
            found[-1][1].setdefault(field[1], number)
    return [_Place(first, lines) for first, lines in found]


def _line_of(text: str, name: str) -> int:
    lines = enumerate(text.splitlines(), 1)
    return next((number for number, line in lines if re.match(rf"\s*\[*\s*[\"']?{re.escape(name)}\b", line)), 1)


def _mistakes(table: Mapping[str, Any], place: _Place) -> Iterator[tuple[int, str]]:
    for name in _REQUIRED:
        if name not in table:
            yield place.first, f"{name} is missing"
    for name, value in table.items():
        if name not in _FIELDS:
            yield place.of(name), f"{name} is not known here; there are {', '.join(_FIELDS)}"
            continue
        if name == "models" and isinstance(value, str) and value != "ask":
            yield place.of(name), 'models is a list, or "ask"'
            continue
        try:
            msgspec.convert(value, _FIELDS[name])
        except msgspec.ValidationError as error:
            yield place.of(name), f"{name}: {str(error)[:1].lower()}{str(error)[1:]}"
    if isinstance(url := table.get("base_url"), str) and not is_http(url):
        yield place.of("base_url"), "base_url is not an http(s) URL without user, query and fragment"


def _entry(table: Mapping[str, Any], line: int) -> Entry:
    models = msgspec.convert(table["models"], _FIELDS["models"])
    asks = models == "ask"
    specs = () if asks else tuple(model.spec() for model in models)
    return Entry(
        ProviderSpec(table["name"], specs, open_ended=asks),
        table["base_url"],
        table.get("protocol", "openai"),
        frozenset(table.get("quirks", ())),
        line,
    )


def is_http(url: str) -> bool:
    """Whether this is a URL of HTTP that can be called as it is."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    extra = parts.username or parts.password or parts.query or parts.fragment or not url.isascii() or " " in url
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not extra and (port is None or port > 0)
