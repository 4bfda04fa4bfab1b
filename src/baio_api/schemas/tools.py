"""The JSON of tools and of the records of their calls."""

from typing import Any, ClassVar

import msgspec

from baio_api.bodies import Body
from baio_api.schemas.common import Count, Examples, Id, JSONObject, SentId, Time
from baio_domain.entities import CallState, InputSource, ToolCall
from baio_domain.tool_records import line_of
from baio_domain.tools import ToolSpec

_SHA256 = "a3b1e54c60d5a0c6f2d8a1f7a3f1bb2f3b57d1c3c7b9a7f0a1d2c3b4e5f60718"


class ToolInfo(msgspec.Struct, frozen=True):
    """An installed tool. ``parameters`` is the JSON Schema of its arguments; ``library`` computes, or is empty."""

    examples: ClassVar[Examples] = {
        "contract": {
            "name": "reverse_complement",
            "version": "1",
            "description": "The other strand of a DNA or RNA sequence, from its 5' end.",
            "definition": "IUPAC complements in reverse order; RNA stays RNA.",
            "parameters": {
                "type": "object",
                "properties": {"sequence": {"type": "string", "description": "Letters of IUPAC's code, or FASTA."}},
                "required": ["sequence"],
            },
            "library": "",
        }
    }

    name: str
    version: str
    description: str
    definition: str
    parameters: dict[str, Any]
    library: str

    @classmethod
    def of(cls, spec: ToolSpec) -> "ToolInfo":
        """The tool as clients get it."""
        return cls(spec.name, str(spec.version), spec.description, spec.definition, dict(spec.parameters), spec.library)


class RunToolRequest(Body, frozen=True):
    """A call of a tool. Its record belongs to the conversation, if one is named."""

    examples: ClassVar[Examples] = {
        "contract": {"tool": "gc_content", "arguments": {"sequence": ">pUC19\nACGTTGCA"}},
        "inConversation": {"tool": "gc_content", "arguments": {"sequence": "ACGT"}, "conversation_id": 1},
    }

    tool: str
    arguments: dict[str, Any]
    conversation_id: SentId | None = None


class InputOriginInfo(msgspec.Struct, frozen=True):
    """Where an input comes from.

    ``request``: the user gave it with the call. ``file``: it is a stored sequence from a file. ``message``: it is in a
    message of the user, ``id``, from character ``start`` to ``end``. ``call``: it is in the result of the call ``id``.
    ``model``: nobody gave it, so the model wrote it. Fields that don't apply are null.
    """

    source: InputSource
    id: Id | None
    start: Count | None
    end: Count | None


class CallInputInfo(msgspec.Struct, frozen=True):
    """A sequence that a call was given. Length and SHA-256 are those of its cleaned upper-case letters.

    ``sequence_id`` is that of a stored sequence, which was given by its handle, and null for letters.
    """

    argument: str
    name: str | None
    length: Count
    sha256: str
    cleaned: list[str]
    origin: InputOriginInfo
    sequence_id: Id | None


class ToolCallRecord(msgspec.Struct, frozen=True):
    """The record of a tool's call. Missing values are null, and missing texts are empty.

    ``result_sha256`` is that of the result as JSON with sorted keys, without spaces, in UTF-8. ``shown`` is the part
    that the model reads. ``line`` is BAiO's line about a call that is done. It stands in the answer's text if
    ``length`` is not 0: ``length`` characters, from ``offset`` on. ``quoted`` says whether the model's own text repeats
    the value.
    """

    examples: ClassVar[Examples] = {
        "contract": {
            "id": 41,
            "conversation_id": 1,
            "answer_id": 7,
            "tool": "gc_content",
            "version": "1",
            "library": "Biopython 1.88",
            "definition": "(G + C + S) / (A + C + G + T + U + S + W).",
            "arguments": {"ambiguous": "remove", "sequence": ">pUC19\nACGTTGCA", "step": 4, "window": 4},
            "inputs": [
                {
                    "argument": "sequence",
                    "name": "pUC19",
                    "length": 8,
                    "sha256": _SHA256,
                    "cleaned": ["header", "line-breaks"],
                    "origin": {"source": "message", "id": 12, "start": 19, "end": 27},
                    "sequence_id": 17,
                }
            ],
            "result": {"counted": 8, "gc": 4, "gc_percent": 50.0, "length": 8},
            "result_sha256": _SHA256,
            "shown": '{"counted":8,"gc":4,"gc_percent":50.0,"length":8}',
            "state": "done",
            "error": "",
            "line": "> GC content of pUC19 (8 nt): **50.00 %** (4 of 8). gc_content 1, Biopython 1.88 [call 41]",
            "offset": 0,
            "length": 89,
            "quoted": False,
            "started_at": "2024-01-15T10:01:00.000001Z",
            "ended_at": "2024-01-15T10:01:00.010001Z",
        }
    }

    id: Id
    conversation_id: Id | None
    answer_id: Id | None
    tool: str
    version: str
    library: str
    definition: str
    arguments: JSONObject | None
    inputs: list[CallInputInfo]
    result: JSONObject | None
    result_sha256: str | None
    shown: str | None
    state: CallState
    error: str
    line: str
    offset: Count
    length: Count
    quoted: bool
    started_at: Time
    ended_at: Time | None

    @classmethod
    def of(cls, call: ToolCall) -> "ToolCallRecord":
        """The record as clients get it."""
        values = {name: getattr(call, name) for name in cls.__struct_fields__}
        values |= {
            "arguments": None if call.arguments is None else msgspec.Raw(call.arguments),
            "inputs": msgspec.convert(call.inputs, list[CallInputInfo], from_attributes=True),
            "result": None if call.result is None else msgspec.Raw(call.result),
            "error": call.error or "",
            "line": line_of(call) if call.state is CallState.DONE else "",
        }
        return cls(**values)


class ToolCallRequest(Body, frozen=True):
    """The call."""

    examples: ClassVar[Examples] = {"contract": {"id": 41}}

    id: SentId


class VerifiedToolCall(msgspec.Struct, frozen=True):
    """Whether the call has the same result when it is computed again, and what computed it now."""

    examples: ClassVar[Examples] = {"contract": {"equal": True, "result_sha256": _SHA256, "library": "Biopython 1.88"}}

    equal: bool
    result_sha256: str
    library: str
