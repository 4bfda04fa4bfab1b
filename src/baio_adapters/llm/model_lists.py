"""Reading a provider's list of models, in which one odd entry costs only itself."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from baio_adapters.llm.refusals import translate_error, unreadable
from baio_domain.entities import MAX_MODEL_TOKENS, ModelSpec, model_spec_problems
from baio_domain.errors import BaioError, KeyRefused, ProviderBroken

logger = logging.getLogger("baio.providers")

Entry = Mapping[str, Any]
"""One model of a list, as the provider describes it."""


def read_models(body: bytes, read: Callable[[str, Entry], ModelSpec | None]) -> list[ModelSpec]:
    """The models of a list; ``read`` makes one of an entry and its id, or None where it is not to be offered.

    The entries are the body, or its ``data`` or ``models``, null for none. What can't be read, and what comes a second
    time, is skipped and named in one line of the log. Raises ProviderBroken if nothing can be read.
    """
    found: dict[str, ModelSpec] = {}
    skipped: list[str] = []
    number = 0
    for number, entry in enumerate(_entries(body), 1):
        described: Entry = entry if isinstance(entry, dict) else {"id": entry}
        identifier = described.get("id")
        if not isinstance(identifier, str):
            skipped.append(f"entry {number} has no id")
        elif identifier in found:
            skipped.append(f"{_shown(identifier, number)} is listed twice")
        elif (spec := read(identifier, described)) is not None:
            if problems := list(model_spec_problems(spec)):
                skipped.append(f"{_shown(identifier, number)}: {problems[0]}")
            else:
                found[identifier] = spec
    if skipped:
        more = f"; and {len(skipped) - 10} more" if len(skipped) > 10 else ""
        logger.warning("models skipped: %s", "; ".join(skipped[:10]) + more)
    if number and len(skipped) == number:
        raise ProviderBroken("The provider's list of models can't be read.")
    return list(found.values())


def list_refusal(error: Exception, provider: str) -> BaioError:
    """The domain's error where the list was refused, which need not mean that the key or a model is."""
    translated, status = translate_error(error, provider), getattr(error, "status_code", None)
    if status in _NO_LIST:
        return ProviderBroken("The provider has no list of models at its address.")
    if isinstance(translated, KeyRefused) and getattr(error, "code", None) == "missing_scope":  # OpenAI
        return ProviderBroken("This key may not list the provider's models; whether it may ask them is not known.")
    return translated


_NO_LIST = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED})


def _entries(body: bytes) -> Iterator[object]:
    try:
        listed = json.loads(body)  # unlike msgspec, it reads half a surrogate pair, and numbers of any size
    except (ValueError, RecursionError) as error:
        raise unreadable(error, "The provider's list of models can't be read.") from None
    if isinstance(listed, dict):
        listed = next((listed[name] for name in ("data", "models") if name in listed), ...)
    if listed is not None and not isinstance(listed, list):
        raise ProviderBroken("The provider's list of models can't be read.")
    yield from listed or ()


def _shown(identifier: str, number: int) -> str:
    return identifier if re.fullmatch(r"[\w./:@+-]{1,100}", identifier) else f"entry {number}"


def tokens(entry: Entry, *names: str) -> int | None:
    """The first of these fields that is a possible number of tokens, also where it is written as text or a float."""
    for name in names:
        value = entry.get(name)
        if isinstance(value, str) and re.fullmatch(r"\d{1,12}", value.strip()):
            value = int(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= MAX_MODEL_TOKENS:
            return int(value)
    return None


def text(entry: Entry, name: str) -> str | None:
    """The field if it is a text with something in it."""
    value = entry.get(name)
    return value.strip() or None if isinstance(value, str) else None
