"""What the definitions of BAiO's own tools share: schemas of parameters, the library's name, headlines."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version

BIOPYTHON = f"Biopython {version('biopython')}"
"""The library and its version, read from its metadata: the server never imports it."""

SEQUENCE = {"type": "string"}
TOPOLOGY = {"type": "string", "enum": ["linear", "circular"], "default": "linear"}
GENETIC_CODE = {"type": "integer", "default": 1}
STRAND = {"type": "string", "enum": ["both", "+", "-"], "default": "both"}
ENZYMES = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 50}

SHOWN_LETTERS = 60
"""Letters of the longest sequence that a headline shows whole."""

MAX_RESULT_LETTERS = 200_000
"""Letters of the longest product that is part of the result as well: a longer one is only stored."""


def parameters(properties: Mapping[str, object], required: list[str]) -> dict[str, object]:
    """The JSON Schema of a tool's parameters."""
    return {"type": "object", "properties": properties, "required": required}


def listed(key: str, items: Sequence[object], limit: int) -> dict[str, object]:
    """A list in a result; one that is too long is cut, and the result says so."""
    if len(items) <= limit:
        return {key: items}
    return {key: items[:limit], f"{key}_total": len(items), f"{key}_shown": limit}


def excerpt(letters: str) -> str:
    """A sequence as a headline shows it: code, so that no Markdown changes it, and short."""
    return f"`{letters}`" if len(letters) <= SHOWN_LETTERS else f"`{letters[:20]}…{letters[-10:]}`"


def kept_letters(letters: str) -> str | None:
    """A product as its result has it, None if it is too long for that."""
    return letters if len(letters) <= MAX_RESULT_LETTERS else None
