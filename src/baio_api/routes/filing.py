"""Endpoints that find conversations and keep them in order."""

from typing import Annotated

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from baio_api.auth import Authenticated
from baio_api.openapi import operation
from baio_api.query import Flag, Integer
from baio_api.routes.parameters import NO
from baio_api.schemas.filing import (
    ArchiveConversationRequest,
    DeleteConversationsRequest,
    DeletedConversationsInfo,
    FilingInfo,
    FoundConversation,
    FoundPage,
    PinConversationRequest,
    SuggestedTitleInfo,
    SuggestTitleRequest,
    TagConversationRequest,
    TagCount,
)
from baio_domain.entities import Filing, Scope
from baio_domain.use_cases.filing import (
    MAX_FOUND,
    ArchiveConversation,
    DeleteConversations,
    FindConversations,
    GetTags,
    PinConversation,
    TagConversation,
)
from baio_domain.use_cases.titles import SuggestTitle

FIFTY = Integer(50)

Query = Annotated[
    str | None,
    QueryParameter(name="query", description="Words that the conversations have. By default, all are found."),
]
Before = Annotated[
    str | None,
    QueryParameter(
        description="`next` of the response with the conversations before these. By default, the first ones."
    ),
]
Limit = Annotated[
    Integer,
    QueryParameter(
        description="How many conversations the response has at most.",
        schema_extra={"minimum": 1, "maximum": MAX_FOUND},
    ),
]
Archived = Annotated[Flag, QueryParameter(description="Whether archived conversations are found instead of others.")]
Tag = Annotated[str | None, QueryParameter(description="A tag that the conversations have. By default, any or none.")]


@get("/findConversations", **operation("findConversations", FindConversations, scope=Scope.READ))
async def find(
    request: Authenticated,
    find_conversations: NamedDependency[FindConversations],
    words: Query = None,
    before: Before = None,
    limit: Limit = FIFTY,
    archived: Archived = NO,
    tag: Tag = None,
) -> FoundPage:
    """Find conversations."""
    found = await find_conversations(
        request.user, query=words, before=before, limit=limit, archived=bool(archived), tag=tag
    )
    return FoundPage([FoundConversation.of(each) for each in found.conversations], found.next)


@post("/tagConversation", status_code=200, **operation("tagConversation", TagConversation, 404, scope=Scope.EDIT))
async def replace_tags(
    data: TagConversationRequest, request: Authenticated, tag_conversation: NamedDependency[TagConversation]
) -> FilingInfo:
    """Replace the tags of a conversation."""
    return _info(await tag_conversation(request.user, data.conversation_id, data.tags))


@post("/pinConversation", status_code=200, **operation("pinConversation", PinConversation, 404, scope=Scope.EDIT))
async def pin(
    data: PinConversationRequest, request: Authenticated, pin_conversation: NamedDependency[PinConversation]
) -> FilingInfo:
    """Pin a conversation, or undo that."""
    return _info(await pin_conversation(request.user, data.conversation_id, pinned=data.pinned))


@post(
    "/archiveConversation",
    status_code=200,
    **operation("archiveConversation", ArchiveConversation, 404, scope=Scope.EDIT),
)
async def archive(
    data: ArchiveConversationRequest, request: Authenticated, archive_conversation: NamedDependency[ArchiveConversation]
) -> FilingInfo:
    """Archive a conversation, or undo that."""
    return _info(await archive_conversation(request.user, data.conversation_id, archived=data.archived))


@post(
    "/deleteConversations", status_code=200, **operation("deleteConversations", DeleteConversations, scope=Scope.EDIT)
)
async def delete_many(
    data: DeleteConversationsRequest, request: Authenticated, delete_conversations: NamedDependency[DeleteConversations]
) -> DeletedConversationsInfo:
    """Delete many conversations."""
    done = await delete_conversations(request.user, data.conversation_ids, archived=data.archived)
    return msgspec.convert(done, DeletedConversationsInfo, from_attributes=True)


@get("/getTags", **operation("getTags", GetTags, scope=Scope.READ))
async def list_tags(request: Authenticated, get_tags: NamedDependency[GetTags]) -> list[TagCount]:
    """List the caller's tags."""
    return [TagCount(tag, count) for tag, count in (await get_tags(request.user)).items()]


@post(
    "/suggestTitle",
    status_code=200,
    **operation("suggestTitle", SuggestTitle, 404, 409, 422, 424, 429, 502, 504, scope=Scope.ASK),
)
async def suggest(
    data: SuggestTitleRequest, request: Authenticated, suggest_title: NamedDependency[SuggestTitle]
) -> SuggestedTitleInfo:
    """Ask a model for a title."""
    found = await suggest_title(request.user, data.conversation_id, data.apikey_nickname, data.model)
    return msgspec.convert(found, SuggestedTitleInfo, from_attributes=True)


def _info(filing: Filing) -> FilingInfo:
    return msgspec.convert(filing, FilingInfo, from_attributes=True)


HANDLERS = [find, replace_tags, pin, archive, delete_many, list_tags, suggest]
