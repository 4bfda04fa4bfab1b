"""Exports of a conversation: Markdown for a supplement, JSON for programs, and an archive for lab notebooks."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from baio_api.exports.document import JSON_TYPE, document_pieces
from baio_api.exports.eln import ELN_TYPE, archive_pieces
from baio_api.exports.markdown import MARKDOWN_TYPE, markdown_pieces
from baio_domain.use_cases.exports import ConversationExport


@dataclass(frozen=True, slots=True)
class Format:
    """A format: its media type, the end of its files' names, and how it is written, piece by piece."""

    media_type: str
    suffix: str
    pieces: Callable[[ConversationExport], AsyncGenerator[str | bytes, None]]


FORMATS = {
    "markdown": Format(MARKDOWN_TYPE, "md", markdown_pieces),
    "json": Format(JSON_TYPE, "json", document_pieces),
    "eln": Format(ELN_TYPE, "eln", archive_pieces),
}
"""By the name that a request gives."""


def file_name(export: ConversationExport, form: Format) -> str:
    """The name of the downloaded file. It has nothing of the title, so it is valid everywhere."""
    return f"baio-conversation-{export.conversation.id}.{form.suffix}"
