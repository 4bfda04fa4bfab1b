"""Endpoints of conversations."""

from typing import Annotated

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from baio_api.auth import Authenticated
from baio_api.errors import renamed_fields
from baio_api.openapi import operation
from baio_api.query import Flag
from baio_api.responses import JSONString, LongJSON, as_pages
from baio_api.routes.answers import HEADER_FIELDS
from baio_api.routes.parameters import NO, ConversationId, IdempotencyKey
from baio_api.schemas.conversations import (
    AnsweredConversation,
    AnsweredMessageInfo,
    ConversationInfo,
    ConversationListItem,
    CreateConversationRequest,
    DeleteConversationRequest,
    MessageInfo,
    NumberedAnsweredConversation,
    NumberedAnsweredMessageInfo,
    NumberedConversation,
    NumberedMessageInfo,
    RenameConversationRequest,
)
from baio_domain.entities import Scope
from baio_domain.use_cases.conversations import (
    CreateConversation,
    DeleteConversation,
    GetConversation,
    GetConversations,
    RenameConversation,
)

UNTITLED = CreateConversationRequest()

WithAnswers = Annotated[
    Flag,
    QueryParameter(description="Whether each message has its answer's id and state, and running answers are included."),
]

WithIds = Annotated[Flag, QueryParameter(description="Whether each message has its id, for branchConversation.")]

MESSAGES: dict[tuple[bool, bool], type[MessageInfo]] = {
    (False, False): MessageInfo,
    (True, False): AnsweredMessageInfo,
    (False, True): NumberedMessageInfo,
    (True, True): NumberedAnsweredMessageInfo,
}
"""The form of messages, by whether they have their answers and their ids."""


@get(
    "/getConversation",
    **operation("getConversation", GetConversation, 404, 429, scope=Scope.READ),
)
async def read_conversation(
    conversation_id: ConversationId,
    request: Authenticated,
    get_conversation: NamedDependency[GetConversation],
    answers: WithAnswers = NO,
    ids: WithIds = NO,
) -> LongJSON[AnsweredConversation | ConversationInfo | NumberedConversation | NumberedAnsweredConversation]:
    """Read one conversation."""
    thread = await get_conversation(request.user, conversation_id, answers=bool(answers))
    messages = as_pages(MESSAGES[bool(answers), bool(ids)], thread.pages())
    document = {"id": thread.id, "title": thread.title, "messages": messages}
    return await LongJSON.begin(document, request)


@get(
    "/getConversations",
    **operation("getConversations", GetConversations, 429, scope=Scope.READ),
)
async def list_conversations(
    request: Authenticated,
    get_conversations: NamedDependency[GetConversations],
) -> LongJSON[list[ConversationListItem]]:
    """List the caller's conversations."""
    conversations = as_pages(ConversationListItem, get_conversations(request.user))
    return await LongJSON.begin(conversations, request)


@post("/createConversation", **operation("createConversation", CreateConversation, 404, 409, 422, scope=Scope.ASK))
async def new_conversation(
    request: Authenticated,
    create_conversation: NamedDependency[CreateConversation],
    data: CreateConversationRequest = UNTITLED,
    idempotency_key: IdempotencyKey = None,
) -> ConversationInfo:
    """Create a conversation."""
    with renamed_fields(HEADER_FIELDS):
        thread = await create_conversation(
            request.user, data.title, idempotency_key, preset=data.preset, temporary=data.temporary
        )
    return msgspec.convert(thread, ConversationInfo, from_attributes=True)


@post(
    "/renameConversation",
    status_code=200,
    **operation(
        "renameConversation",
        RenameConversation,
        404,
        example="Conversation successfully renamed to Updated Discussion",
        scope=Scope.EDIT,
    ),
)
async def change_title(
    data: RenameConversationRequest,
    request: Authenticated,
    rename_conversation: NamedDependency[RenameConversation],
) -> JSONString:
    """Rename a conversation."""
    await rename_conversation(request.user, data.conversation_id, data.title)
    return JSONString(f"Conversation successfully renamed to {data.title}")


@post(
    "/deleteConversation",
    status_code=200,
    **operation(
        "deleteConversation",
        DeleteConversation,
        404,
        example="Conversation with id=1 successfully deleted",
        scope=Scope.EDIT,
    ),
)
async def remove_conversation(
    data: DeleteConversationRequest,
    request: Authenticated,
    delete_conversation: NamedDependency[DeleteConversation],
) -> JSONString:
    """Delete a conversation."""
    await delete_conversation(request.user, data.conversation_id)
    return JSONString(f"Conversation with id={data.conversation_id} successfully deleted")


HANDLERS = [
    read_conversation,
    list_conversations,
    new_conversation,
    change_title,
    remove_conversation,
]
