"""The JSON of the export of a conversation, which programs read that have nothing else of BAiO."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from baio_api.schemas.answers import AnswerRecordWithContext
from baio_api.schemas.common import Count, Examples, Id, Time
from baio_api.schemas.tools import ToolCallRecord
from baio_domain.entities import Role

FORMAT: Literal["baio-conversation"] = "baio-conversation"
FORMAT_VERSION: Literal[1] = 1
"""It changes when a reader of the earlier version could not read the new one."""

JSONArray = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "array", "items": {"type": "object"}})]
"""An array of JSON that is encoded already."""

SCHEMA_ID = "urn:baio:conversation-export:1"


class CitedMessageInfo(msgspec.Struct, frozen=True):
    """A message. Its id is what the origin of a call's input names. ``answer_id`` is null for the others' messages."""

    examples: ClassVar[Examples] = {
        "answer": {
            "id": 13,
            "role": "baio",
            "content": ToolCallRecord.examples["contract"]["line"],
            "created_at": "2024-01-15T10:02:00.000001Z",
            "answer_id": 7,
        }
    }

    id: Id
    role: Role
    content: str
    created_at: Time
    answer_id: Id | None


class CitedSequenceInfo(msgspec.Struct, frozen=True):
    """A stored sequence as tools were given it by its ``handle``. ``sha256`` is that of its upper-case letters."""

    examples: ClassVar[Examples] = {
        "contract": {
            "id": 17,
            "handle": "seq_17",
            "name": "pUC19",
            "description": "Cloning vector pUC19",
            "molecule": "DNA",
            "topology": "circular",
            "length": 8,
            "sha256": "5e2a6b1e1cd1d2bcd1a1d9b1d7a0e2f3a4b5c6d7e8f90123456789abcdef0123",
            "letters": "ACGTTGCA",
            "features": [],
        }
    }

    id: Id
    handle: str
    name: str
    description: str
    molecule: str
    topology: str
    length: Count
    sha256: str
    letters: str
    features: JSONArray


class ExportedDocument(msgspec.Struct, frozen=True):
    """A conversation with everything that documents it: its messages, and the records of its answers and calls.

    ``software`` is what has written it.
    """

    examples: ClassVar[Examples] = {
        "contract": {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "software": "BAiO 0.1.0",
            "id": 1,
            "title": "Plasmid design",
            "created_at": "2024-01-15T10:00:00.000001Z",
            "messages": [CitedMessageInfo.examples["answer"]],
            "answers": [AnswerRecordWithContext.examples["contract"]],
            "tool_calls": [ToolCallRecord.examples["contract"]],
            "sequences": [CitedSequenceInfo.examples["contract"]],
        }
    }

    format: Literal["baio-conversation"]
    version: Literal[1]
    software: str
    id: Id
    title: str
    created_at: Time
    messages: list[CitedMessageInfo]
    answers: list[AnswerRecordWithContext]
    tool_calls: list[ToolCallRecord]
    sequences: list[CitedSequenceInfo]


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of an export, as it is published in the documentation."""
    schema = msgspec.json.schema(ExportedDocument)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID, **schema}
