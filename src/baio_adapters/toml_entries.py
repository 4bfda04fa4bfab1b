"""Files of entries in TOML, such as ``[[provider]]``, whose mistakes are named with their lines."""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec


class EntriesFileError(Exception):
    """A file that is no file of entries: one line of text, with the file and the line."""


@dataclass(frozen=True, slots=True)
class Position:
    """The line on which an entry begins, and the lines of its fields."""

    line: int
    fields: Mapping[str, int]

    def line_of(self, field: str) -> int:
        """The line of this field, or that of the entry."""
        return self.fields.get(field, self.line)


def load(path: Path, kinds: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The file's text and its tables, with a list of each kind of entry. Raises EntriesFileError."""
    try:
        text = path.read_text("utf-8-sig")  # Windows' editors write a byte order mark
        tables = tomllib.loads(text, parse_float=Decimal)
    except (OSError, UnicodeDecodeError) as error:
        raise EntriesFileError(f"{path} can't be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    except tomllib.TOMLDecodeError as error:
        last = f"at line {max(1, len(text.splitlines()))}"
        raise EntriesFileError(f"{path}: {str(error).replace('at end of document', last)}") from None
    for name in kinds:
        listed = tables.setdefault(name, [])
        if not isinstance(listed, list) or not all(isinstance(table, dict) for table in listed):
            raise EntriesFileError(f"{path} line {_line_of(text, name)}: write [[{name}]] with two brackets")
    return text, tables


def unknown_kinds(text: str, tables: Mapping[str, Any], kinds: Sequence[str]) -> Iterator[str]:
    """What is wrong with the names at the top level."""
    allowed = " and ".join(f"[[{name}]]" for name in kinds)
    for name in tables:
        if name not in kinds:
            verb = "is" if len(kinds) == 1 else "are"
            line = _line_of(text, name)
            yield f"line {line}: unknown name {name!r}; only {allowed} {verb} allowed at the top level"


def positions(text: str, kind: str) -> list[Position]:
    """The positions of the entries of this kind, which tomllib does not report."""
    found: list[tuple[str, int, dict[str, int]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if entry := re.match(r"\s*\[\[\s*(\w+)\s*\]\]", line):
            found.append((entry[1], number, {}))
        elif found and (field := re.match(r"\s*(?:\[\s*\w+\.)?[\"']?([\w-]+)[\"']?\s*[=\]]", line)):
            found[-1][2].setdefault(field[1], number)
    return [Position(line, fields) for name, line, fields in found if name == kind]


def entry_problems(
    table: Mapping[str, Any],
    position: Position,
    fields: Mapping[str, object],
    required: Sequence[str],
    problem_of: Callable[[str, Any], str | None],
) -> Iterator[tuple[int, str]]:
    """What is missing, unknown or wrong in an entry, each with its line. ``problem_of`` judges a known field."""
    for name in required:
        if name not in table:
            yield position.line, f"{name} is missing"
    for name, value in table.items():
        known = name in fields
        problem = problem_of(name, value) if known else f"unknown field {name!r}; available: {', '.join(fields)}"
        if problem is not None:
            yield position.line_of(name), problem


def type_problem(name: str, value: object, kind: Any) -> str | None:  # noqa: ANN401 - whatever msgspec takes as a type
    """Why the field does not have this type, or None if it has."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return f"{name}: {str(error)[:1].lower()}{str(error)[1:]}"
    return None


def _line_of(text: str, name: str) -> int:
    lines = enumerate(text.splitlines(), 1)
    return next((number for number, line in lines if re.match(rf"\s*\[*\s*[\"']?{re.escape(name)}\b", line)), 1)
