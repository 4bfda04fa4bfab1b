"""The export of a conversation as JSON: the schema is ``schemas.exports.ExportedDocument``."""

from collections.abc import AsyncGenerator, AsyncIterator
from importlib.metadata import version

import msgspec

from baio_api.responses import as_pages, json_pieces, tool_call_pages
from baio_api.schemas.answers import AnswerRecordWithContext
from baio_api.schemas.exports import FORMAT, FORMAT_VERSION, CitedMessageInfo, CitedSequenceInfo
from baio_domain.use_cases.exports import CitedMessage, CitedSequence, ConversationExport

JSON_TYPE = "application/json"


def software() -> str:
    """What writes the exports, with its version."""
    return f"BAiO {version('baio')}"


def document_pieces(export: ConversationExport) -> AsyncGenerator[str, None]:
    """The document in pieces, as it is read."""
    conversation = export.conversation
    return json_pieces(
        {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "software": software(),
            "id": conversation.id,
            "title": conversation.title,
            "created_at": msgspec.to_builtins(conversation.created_at),
            "messages": _messages(export.messages()),
            "answers": as_pages(AnswerRecordWithContext, export.answers()),
            "tool_calls": tool_call_pages(export.tool_calls()),
            "sequences": _sequences(export.sequences()),
        }
    )


async def _messages(messages: AsyncIterator[list[CitedMessage]]) -> AsyncIterator[list[CitedMessageInfo]]:
    async for page in messages:
        converted = [
            CitedMessageInfo(each.id, each.role, each.content, each.created_at, each.answer.id if each.answer else None)
            for each in page
        ]
        page.clear()
        yield converted


async def _sequences(sequences: AsyncIterator[list[CitedSequence]]) -> AsyncIterator[list[CitedSequenceInfo]]:
    async for page in sequences:
        yield [_sequence(page.pop())]


def _sequence(cited: CitedSequence) -> CitedSequenceInfo:
    names = ("id", "handle", "name", "description", "molecule", "topology", "length", "sha256")
    return CitedSequenceInfo(
        **{name: getattr(cited.sequence, name) for name in names},
        letters=cited.letters,
        features=msgspec.Raw(cited.features),
    )
