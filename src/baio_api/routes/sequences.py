"""Endpoints of stored sequences."""

from typing import Annotated, Any, Self, TypeVar

import msgspec
from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.openapi.spec import Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.params import QueryParameter

from baio_api.auth import Authenticated
from baio_api.errors import renamed_fields
from baio_api.openapi import operation
from baio_api.query import Integer, QueryValue
from baio_api.responses import JSONString, LongJSON, as_pages
from baio_api.routes.answers import HEADER_FIELDS
from baio_api.routes.parameters import IdempotencyKey
from baio_api.schemas.sequences import (
    AddSequencesRequest,
    DeleteSequenceRequest,
    RenameSequenceRequest,
    SequenceInfo,
    SequencePartInfo,
)
from baio_domain.entities import Scope
from baio_domain.sequence_files import SequenceFile
from baio_domain.use_cases.sequences import AddSequences, DeleteSequence, GetSequence, GetSequences, RenameSequence


class SequenceFormat(QueryValue, str):
    """The format in which a sequence is read."""

    __slots__ = ()

    schema = Schema(type=OpenAPIType.STRING, enum=["json", "fasta", "genbank"])

    @classmethod
    def parse(cls, text: str) -> Self:
        """One of the formats."""
        if text not in MEDIA_TYPES:
            raise ValueError(f"is not one of {', '.join(MEDIA_TYPES)}")
        return cls(text)


SequencesOfConversation = Annotated[
    Integer | None, QueryParameter(description="The conversation. By default, all sequences of the caller.")
]

SequenceId = Annotated[Integer, QueryParameter(description="The sequence, as in getSequences.")]

Start = Annotated[Integer | None, QueryParameter(description="The first position, counted from 1. By default, 1.")]

End = Annotated[Integer | None, QueryParameter(description="The last position, included. By default, the last one.")]

AsFormat = Annotated[
    SequenceFormat | None, QueryParameter(name="format", description="json, fasta or genbank. By default, json.")
]

AfterFeature = Annotated[Integer, QueryParameter(description="How many features of the part to skip, in JSON.")]

FIRST = Integer(0)

T = TypeVar("T")

JSON = "json"
_TEXT = "text/plain; charset=utf-8"
MEDIA_TYPES = {JSON: "application/json", "fasta": _TEXT, "genbank": _TEXT}


class Written(Response[T]):
    """A part of a sequence, which is encoded already."""

    def render(self, content: Any, *_: Any, **__: Any) -> bytes:  # noqa: ANN401 - Litestar's signature
        """Return it as it is."""
        written: bytes = content
        return written


@post("/addSequences", **operation("addSequences", AddSequences, 404, 409, 422, 429, scope=Scope.ASK))
async def add(
    request: Authenticated,
    data: AddSequencesRequest,
    add_sequences: NamedDependency[AddSequences],
    idempotency_key: IdempotencyKey = None,
) -> list[SequenceInfo]:
    """Store the sequences of a file."""
    file = SequenceFile(data.content, data.format, data.name, data.molecule, data.topology)
    with renamed_fields(HEADER_FIELDS):
        added = await add_sequences(
            request.user, file, conversation_id=data.conversation_id, idempotency_key=idempotency_key
        )
    return msgspec.convert(added, list[SequenceInfo], from_attributes=True)


@get("/getSequences", **operation("getSequences", GetSequences, 404, 429, scope=Scope.READ))
async def list_sequences(
    request: Authenticated,
    get_sequences: NamedDependency[GetSequences],
    conversation_id: SequencesOfConversation = None,
) -> LongJSON[list[SequenceInfo]]:
    """List the caller's sequences."""
    sequences = as_pages(SequenceInfo, get_sequences(request.user, conversation_id))
    return await LongJSON.begin(sequences, request)


@get("/getSequence", **operation("getSequence", GetSequence, 404, 429, scope=Scope.READ))
async def read_sequence(
    request: Authenticated,
    sequence_id: SequenceId,
    get_sequence: NamedDependency[GetSequence],
    start: Start = None,
    end: End = None,
    format_: AsFormat = None,
    features_after: AfterFeature = FIRST,
) -> Written[SequencePartInfo]:
    """Read a sequence."""
    wanted = format_ or JSON
    part = await get_sequence(
        request.user, sequence_id, start=start, end=end, format_=wanted, features_after=features_after
    )
    content = SequencePartInfo.encoded(part) if wanted == JSON else part.text
    return Written(content, media_type=MEDIA_TYPES[wanted])  # type: ignore[arg-type]


@post(
    "/renameSequence",
    status_code=200,
    **operation(
        "renameSequence",
        RenameSequence,
        404,
        example="Sequence successfully renamed to pUC19 wild type",
        scope=Scope.EDIT,
    ),
)
async def change_name(
    data: RenameSequenceRequest, request: Authenticated, rename_sequence: NamedDependency[RenameSequence]
) -> JSONString:
    """Rename a sequence."""
    await rename_sequence(request.user, data.sequence_id, data.name)
    return JSONString(f"Sequence successfully renamed to {data.name}")


@post(
    "/deleteSequence",
    status_code=200,
    **operation(
        "deleteSequence", DeleteSequence, 404, example="Sequence with id=17 successfully deleted", scope=Scope.EDIT
    ),
)
async def remove_sequence(
    data: DeleteSequenceRequest, request: Authenticated, delete_sequence: NamedDependency[DeleteSequence]
) -> JSONString:
    """Delete a sequence."""
    await delete_sequence(request.user, data.sequence_id)
    return JSONString(f"Sequence with id={data.sequence_id} successfully deleted")


HANDLERS = [
    list_sequences,
    read_sequence,
    change_name,
    remove_sequence,
]


def uploads(max_bytes: int) -> Router:
    """The endpoint whose body may be larger than others': a file of sequences."""
    return Router("/", route_handlers=[add], request_max_body_size=max_bytes)
