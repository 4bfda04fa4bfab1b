"""Single values of exports, of any type."""

import re
from datetime import UTC, datetime
from typing import Any

from baio_domain.entities import MAX_TITLE_LENGTH
from baio_domain.text import storable

MAX_MODEL_LENGTH = 200
_MILLISECONDS = 100_000_000_000
"""Seconds since 1970 are fewer until the year 5138."""


def text_of(value: object) -> str:
    """The text, or an empty one if it is none."""
    return storable(value) if isinstance(value, str) else ""


def title_of(thread: Any) -> str:  # noqa: ANN401 - whatever JSON has
    """The title of a conversation in one line, as long as a title may be."""
    fields = thread if isinstance(thread, dict) else {}
    title = text_of(fields.get("title")) or text_of(fields.get("name"))
    return " ".join(title.split())[:MAX_TITLE_LENGTH]


def model_of(value: object) -> str | None:
    """The name of a model, if it is one."""
    return text_of(value).strip()[:MAX_MODEL_LENGTH] or None


def time_of(value: object) -> datetime | None:
    """A time from seconds or milliseconds since 1970, or from ISO 8601; None if it is no time from then on."""
    try:
        if isinstance(value, str):
            time = datetime.fromisoformat(value)
            time = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            time = datetime.fromtimestamp(value / 1000 if value > _MILLISECONDS else value, UTC)
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    return time if time.year >= 1970 else None


def document_of(name: object, text: object, *, is_code: bool) -> str:
    """A document that was written beside the conversation, with its name; empty if it has no text."""
    body = text_of(text).strip("\n")
    if not body.strip():
        return ""
    named = f": {text_of(name)[:MAX_TITLE_LENGTH]}" if text_of(name) else ""
    return f"[document{named}]\n\n{fenced(body) if is_code else body}"


def fenced(code: str) -> str:
    """A block of code in Markdown, whatever backticks are in it."""
    longest = max(map(len, re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{code}\n{fence}"


def dict_of(value: object) -> dict[str, Any]:
    """The object, or an empty one if it is none."""
    return value if isinstance(value, dict) else {}


def list_of(value: object) -> list[Any]:
    """The array, or an empty one if it is none."""
    return value if isinstance(value, list) else []
