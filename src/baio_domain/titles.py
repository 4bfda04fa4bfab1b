"""Titles of conversations: the beginning of a first question, or a model's suggestion."""

import re

from baio_domain.text import printable

TITLE_LENGTH = 60
"""Characters of such a title at most."""

_CLAUSE = re.compile(r"[^\S\n]*(.*?)(?:[.!:;](?=\s|$)|(?<=[?\u3002\uff1f\uff01])|\n|$)", re.DOTALL)
"""A clause ends with a mark before a space, so that ``snp.vcf.gz`` and ``c.68_69del`` are whole, or with its line."""

_MARKS = re.compile(r"^[\s#>*`_~-]+|[\s*`_~]+$")
"""What Markdown puts around a line."""

_QUOTATION_MARKS = "\"'\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb "


def title_of(question: str) -> str:
    """Its first clause in one line, in whole words. It is "" where the question has nothing that can be shown."""
    line = _first_line(question)
    found = _CLAUSE.match(line)
    return _shortened(found[1] if found else line)


def title_in(answer: str) -> str:
    """The title that a model has answered with: the first line without quotation marks; "" where there is none."""
    return _shortened(_first_line(answer).strip(_QUOTATION_MARKS))


def _first_line(text: str) -> str:
    lines = (_MARKS.sub("", line) for line in text[: 100 * TITLE_LENGTH].splitlines())
    return next((line for line in lines if any(map(str.isalnum, line))), "")


def _shortened(line: str) -> str:
    title = printable(" ".join(line.split()))
    if len(title) <= TITLE_LENGTH:
        return title
    cut = title[: TITLE_LENGTH - 1]
    return f"{cut if title[TITLE_LENGTH - 1].isspace() else cut.rpartition(' ')[0] or cut}…"
