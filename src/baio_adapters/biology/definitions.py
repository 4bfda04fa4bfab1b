"""What the definitions of BAiO's own tools share: schemas of parameters, the library's name, headlines."""

from collections.abc import Mapping
from importlib.metadata import version

BIOPYTHON = f"Biopython {version('biopython')}"
"""The library and its version, read from its metadata: the server never imports it."""

SEQUENCE = {"type": "string", "description": "Letters of the sequence, plain or as FASTA."}
TOPOLOGY = {"type": "string", "enum": ["linear", "circular"], "default": "linear", "description": "Plasmids: circular."}
ENZYMES = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 50}

SHOWN_LETTERS = 60
"""Letters of the longest sequence that a headline shows whole."""


def parameters(properties: Mapping[str, object], required: list[str]) -> dict[str, object]:
    """The JSON Schema of a tool's parameters."""
    return {"type": "object", "properties": properties, "required": required}


def excerpt(letters: str) -> str:
    """A sequence as a headline shows it: code, so that no Markdown changes it, and short."""
    return f"`{letters}`" if len(letters) <= SHOWN_LETTERS else f"`{letters[:30]}…{letters[-15:]}`"
