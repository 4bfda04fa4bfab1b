"""Titles of conversations: the beginning of a first question, or a model's suggestion."""

import re
import unicodedata

from baio_domain.text import printable

TITLE_LENGTH = 60
"""Characters of such a title at most."""

_ABBREVIATED = r"(?<!\b\w)(?<!\b(?:al|ca|cf|Dr|no|sp|vs))(?<!\b(?:Fig|fig|spp|var))"
"""Before a full stop that ends no clause, as in ``E. coli``, ``e.g.`` and ``1.``."""

_CLAUSE = re.compile(
    rf"[^\S\n]*(.*?)(?:{_ABBREVIATED}\.(?=\s|$)|[!:;](?=\s|$)|(?<=[?\u061f\u0964])(?=\s|$)|(?<=[\u3002\uff1f\uff01])|\n|$)",
    re.DOTALL,
)
"""A clause ends with a mark before a space, so that ``snp.vcf.gz``, ``c.68_69del`` and addresses are whole, or with its
line. Chinese and Japanese have no space there."""

_FENCE = re.compile(r"\s*(?:`{3,}|~{3,})[ \t]*[\w+#.-]*\s*")
"""A line that begins code, and names its language."""

_MARKS = re.compile(r"^[\s#>*`_~-]+|[\s*`_~]+$")
"""What Markdown puts around a line."""

_JOINERS = "\u200c\u200d"
"""Without them words of Persian are misspelt, and emoji fall apart."""

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
    lines = (_MARKS.sub("", line) for line in text[: 100 * TITLE_LENGTH].splitlines() if not _FENCE.fullmatch(line))
    return next((line for line in lines if any(map(str.isalnum, line))), "")


def _shortened(line: str) -> str:
    title = "".join(map(_shown, " ".join(line.split()))).strip()
    if len(title) <= TITLE_LENGTH:
        return title
    end = TITLE_LENGTH - 1
    if not title[end].isspace() and " " in title[:end]:
        end = title.rindex(" ", 0, end)
    while end > 1 and _goes_on(title, end):
        end -= 1
    return f"{title[:end]}…"


def _shown(character: str) -> str:
    """The character, or a sign if it can't be shown; nothing if nobody sees it, except for joiners."""
    if character in _JOINERS:
        return character
    return "" if unicodedata.category(character) == "Cf" else printable(character)


def _goes_on(text: str, at: int) -> bool:
    """Whether the character here belongs to the one before it, as an accent does."""
    return unicodedata.category(text[at])[0] == "M" or "\u200d" in text[at - 1 : at + 1]
