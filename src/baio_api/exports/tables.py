"""Results of tools as CSV (RFC 4180) that spreadsheets open without running or changing anything.

A spreadsheet takes a text that begins with a sign for a formula (OWASP, CSV injection), and turns what looks like a
date or a number into one: the gene SEPT2 into 2 September (Ziemann et al. 2016). Such a text gets an apostrophe before
it. Numbers are written as numbers.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping

_FORMULA = re.compile(r"[\s\u200b-\u200f\ufeff]*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20\u2212]|[\t\r\n]")
_NOT_LETTERS = re.compile(r"[\W\d_]+")
_MONTHS = frozenset(
    """
    january february march april may june july august sept september october november december
    januar februar märz maerz mai juni juli oktober dezember jänner
    janvier février fevrier mars avril juin juillet août aout septembre octobre novembre décembre decembre
    enero febrero marzo abril mayo junio julio agosto septiembre setiembre octubre noviembre diciembre
    gennaio febbraio aprile maggio giugno luglio settembre ottobre novembre dicembre
    janeiro fevereiro março marco maio junho julho setembro outubro novembro dezembro
    januari februari maart mei augustus
    """.split()  # noqa: SIM905 - a list of strings would be a page
)
"""In the languages of spreadsheets: a date may have the first letters of one, three or more."""
_OF_NUMBERS = {"", "e", "am", "pm", "usd", "eur"}
_SIGNS = frozenset(" .,:/-+%$€£()")
"""What stands between the letters and digits of a date or a number. A text with anything else is neither."""


def tables(result: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """The lists of objects in a result, each with its name and as CSV."""
    for name, value in result.items():
        if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            yield name, _csv(value)


def _csv(rows: list[dict[str, object]]) -> str:
    flat = [dict(_flat(row)) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(map(safe, columns))
    writer.writerows([_cell(row.get(name)) for name in columns] for row in flat)
    return written.getvalue()


def _flat(row: Mapping[str, object], before: str = "") -> Iterator[tuple[str, object]]:
    """The values of a row; those of an object inside it are named ``outer.inner``."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, str):
        return safe(value)
    if isinstance(value, bool | list):
        return safe(json.dumps(value, ensure_ascii=False))
    return value


def safe(text: str) -> str:
    """The text with an apostrophe before it if a spreadsheet would run it or change it."""
    return f"'{text}" if _FORMULA.match(text) or _looks_like_date_or_number(text) else text


def _looks_like_date_or_number(text: str) -> bool:
    if not any(character.isdigit() for character in text):
        return False
    if any(not (character.isalnum() or character in _SIGNS) for character in text):
        return False
    letters = _NOT_LETTERS.sub("", text).casefold()
    return letters in _OF_NUMBERS or (len(letters) >= 3 and any(month.startswith(letters) for month in _MONTHS))
