"""The endpoints of how long conversations are kept."""

from typing import Annotated

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from baio_api.auth import Authenticated
from baio_api.openapi import operation
from baio_api.query import Integer
from baio_api.schemas.retention import ConversationRetention, KeepConversationRequest, RetentionInfo
from baio_domain.entities import Scope
from baio_domain.use_cases.retention import GetRetention, KeepConversation

OneConversation = Annotated[
    Integer | None,
    QueryParameter(name="conversation_id", description="A conversation to include. By default, none."),
]


@post(
    "/keepConversation", status_code=200, **operation("keepConversation", KeepConversation, 403, 404, scope=Scope.EDIT)
)
async def keep(
    data: KeepConversationRequest, request: Authenticated, keep_conversation: NamedDependency[KeepConversation]
) -> ConversationRetention:
    """Exempt a conversation from being deleted, or undo that."""
    return ConversationRetention.of(await keep_conversation(request.user, data.conversation_id, kept=data.kept))


@get("/getRetention", **operation("getRetention", GetRetention, 404, scope=Scope.READ))
async def read_retention(
    request: Authenticated, get_retention: NamedDependency[GetRetention], conversation: OneConversation = None
) -> RetentionInfo:
    """Read how long conversations are kept."""
    return RetentionInfo.of(*await get_retention(request.user, conversation))


HANDLERS = [keep]

USER_HANDLERS = [read_retention]
