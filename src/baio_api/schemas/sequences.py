"""The JSON of stored sequences."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from baio_api.bodies import Body
from baio_api.schemas.common import Count, Examples, Id, SentId, Time
from baio_api.schemas.tools import InputOriginInfo
from baio_domain.use_cases.sequences import SequencePart

_INFO: dict[str, Any] = {
    "id": 17,
    "handle": "seq_17",
    "name": "pUC19",
    "description": "Cloning vector pUC19, complete sequence",
    "molecule": "DNA",
    "topology": "circular",
    "length": 2686,
    "features": 12,
    "sha256": "a3b1e54c60d5a0c6f2d8a1f7a3f1bb2f3b57d1c3c7b9a7f0a1d2c3b4e5f60718",
    "format": "genbank",
    "origin": {"source": "message", "id": 12, "start": 19, "end": 6230},
    "created_at": "2024-01-15T10:00:00.000001Z",
}


class AddSequencesRequest(Body, frozen=True):
    """A file of sequences, as text. BAiO detects missing fields from the contents."""

    examples: ClassVar[Examples] = {
        "contract": {"content": ">lacZ\nATGACCATGATTACGCCAAGC\n"},
        "inConversation": {"content": "ATGACCATGATTACGCC", "name": "lacZ", "topology": "linear", "conversation_id": 1},
    }

    content: str
    format: str | None = None
    name: str | None = None
    molecule: str | None = None
    topology: str | None = None
    conversation_id: SentId | None = None


class SequenceInfo(msgspec.Struct, frozen=True):
    """A stored sequence without its letters. ``features`` counts them; ``sha256`` is that of the upper-case letters."""

    examples: ClassVar[Examples] = {"contract": _INFO}

    id: Id
    handle: str
    name: str
    description: str
    molecule: Literal["DNA", "RNA", "protein"]
    topology: Literal["linear", "circular"]
    length: Count
    features: Count
    sha256: str
    format: str
    origin: InputOriginInfo
    created_at: Time


_Qualifier = Annotated[tuple[str, str], Meta(extra_json_schema={"items": False})]  # tools want ``items`` of each array


class FeatureInfo(msgspec.Struct, frozen=True):
    """A feature, with its location and qualifiers as in the file."""

    kind: str
    location: str
    qualifiers: list[_Qualifier]


class SequencePartInfo(msgspec.Struct, frozen=True):
    """A part of a sequence: from ``start`` to ``end``. ``letters`` is null unless a part was asked for."""

    examples: ClassVar[Examples] = {
        "contract": {
            "sequence": _INFO,
            "start": 1,
            "end": 6,
            "letters": "GAATTC",
            "features": [{"kind": "misc_feature", "location": "1..6", "qualifiers": [["label", "EcoRI"]]}],
            "features_total": 1,
        }
    }

    sequence: SequenceInfo
    start: Count
    end: Count
    letters: str | None
    features: list[FeatureInfo]
    features_total: Count

    @staticmethod
    def encoded(part: SequencePart) -> bytes:
        """The JSON of a part whose letters and features are JSON already."""
        info = msgspec.convert(part.sequence, SequenceInfo, from_attributes=True)
        head = {"sequence": info, "start": part.part.start, "end": part.part.end}
        return msgspec.json.encode(head)[:-1] + b"," + part.text[1:]


class RenameSequenceRequest(Body, frozen=True):
    """The sequence and its new name."""

    examples: ClassVar[Examples] = {"contract": {"sequence_id": 17, "name": "pUC19 wild type"}}

    sequence_id: SentId
    name: str


class DeleteSequenceRequest(Body, frozen=True):
    """The sequence."""

    examples: ClassVar[Examples] = {"contract": {"sequence_id": 17}}

    sequence_id: SentId
