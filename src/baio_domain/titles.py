"""A title for a conversation that has none: the beginning of its first question."""

import re

from baio_domain.text import printable

TITLE_LENGTH = 60
"""Characters of such a title at most."""

_CLAUSE = re.compile(r"[^\S\n]*(.*?)(?:[.!:;](?=\s|$)|(?<=[?\u3002\uff1f\uff01])|\n|$)", re.DOTALL)
"""A clause ends with a mark before a space, so that ``snp.vcf.gz`` and ``c.68_69del`` are whole, or with its line."""

_MARKS = re.compile(r"^[\s#>*`_~-]+|[\s*`_~]+$")
"""What Markdown puts around a line."""


def title_of(question: str) -> str:
    """Its first clause in one line, in whole words. It is "" where the question has nothing that can be shown."""
    lines = (_MARKS.sub("", line) for line in question[: 100 * TITLE_LENGTH].splitlines())
    line = next((line for line in lines if any(map(str.isalnum, line))), "")
    found = _CLAUSE.match(line)
    clause = printable(" ".join((found[1] if found else line).split()))
    if len(clause) <= TITLE_LENGTH:
        return clause
    cut = clause[: TITLE_LENGTH - 1]
    return f"{cut if clause[TITLE_LENGTH - 1].isspace() else cut.rpartition(' ')[0] or cut}…"
