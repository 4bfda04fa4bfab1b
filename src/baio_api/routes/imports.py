"""The endpoint of imports."""

import tempfile

from litestar import Router, post
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.status_codes import HTTP_415_UNSUPPORTED_MEDIA_TYPE

from baio_api.auth import Authenticated
from baio_api.bodies import media_type_of
from baio_api.errors import renamed_fields
from baio_api.openapi import operation
from baio_api.routes.answers import HEADER_FIELDS
from baio_api.routes.parameters import IdempotencyKey
from baio_api.schemas.imports import ImportReport
from baio_domain.entities import Scope
from baio_domain.errors import Unavailable
from baio_domain.use_cases.imports import ImportConversations

JSON = "application/json"

FILES = {
    JSON: [{"name": "Codons", "chat_messages": [{"sender": "human", "text": "What is a codon?"}]}],
    **dict.fromkeys(("application/zip", "application/x-zip-compressed", "application/octet-stream"), "PK..."),
}
"""The media types of exports, as programs send them, with examples. What a file is, is seen in the file."""

IN_MEMORY = 1_048_576
"""Bytes of a file that are held in memory; a longer one is written to a file without a name."""


@post(
    "/importConversations",
    status_code=200,
    **operation("importConversations", ImportConversations, 400, 413, 415, 422, 429, files=FILES, scope=Scope.EDIT),
)
async def import_file(
    request: Authenticated,
    import_conversations: NamedDependency[ImportConversations],
    idempotency_key: IdempotencyKey = None,
) -> ImportReport:
    """Import conversations of another service, or of BAiO."""
    kind = media_type_of(request, JSON)
    if kind not in FILES:
        raise HTTPException(
            f"Send the file itself with one of the types {', '.join(FILES)}.",
            status_code=HTTP_415_UNSUPPORTED_MEDIA_TYPE,
        )
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as file, renamed_fields({**HEADER_FIELDS, "file": "body"}):
        async for piece in request.stream():
            try:
                file.write(piece)
            except OSError:
                raise Unavailable("The server has no room for this file at the moment.", retry_after=60) from None
        file.seek(0)
        found = import_conversations(request.user, file, idempotency_key)  # type: ignore[arg-type]  # it has what is used
        return ImportReport.of([each async for each in found])


def import_router(max_bytes: int) -> Router:
    """The endpoint, with the limit of its body."""
    return Router("/", route_handlers=[import_file], request_max_body_size=max_bytes)
