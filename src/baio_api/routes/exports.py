"""Endpoint of the export of a conversation."""

from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from baio_api.auth import Authenticated
from baio_api.exports import FORMATS, file_name
from baio_api.openapi import operation
from baio_api.query import ExportFormat
from baio_api.responses import Download
from baio_api.routes.parameters import ConversationId
from baio_domain.entities import Scope
from baio_domain.use_cases.exports import ExportConversation

MARKDOWN = ExportFormat("markdown")

AsFormat = Annotated[ExportFormat, QueryParameter(name="format", description="The format: markdown, json or eln.")]


@get("/exportConversation", **operation("exportConversation", ExportConversation, 404, 429, scope=Scope.READ))
async def export_conversation_(
    conversation_id: ConversationId,
    request: Authenticated,
    export_conversation: NamedDependency[ExportConversation],
    format_: AsFormat = MARKDOWN,
) -> Download:
    """Export one conversation."""
    form = FORMATS[format_]
    export = await export_conversation(request.user, conversation_id)
    return await Download.begin(form.pieces(export), request, form.media_type, file_name(export, form))


HANDLERS = [export_conversation_]
