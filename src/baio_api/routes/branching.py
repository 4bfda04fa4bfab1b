"""The endpoint of branches."""

import msgspec
from litestar import post
from litestar.di import NamedDependency

from baio_api.auth import Authenticated
from baio_api.errors import renamed_fields
from baio_api.openapi import operation
from baio_api.routes.answers import HEADER_FIELDS
from baio_api.routes.parameters import IdempotencyKey
from baio_api.schemas.branching import BranchConversationRequest
from baio_api.schemas.conversations import ConversationListItem
from baio_domain.entities import Scope
from baio_domain.use_cases.branching import BranchConversation


@post("/branchConversation", **operation("branchConversation", BranchConversation, 404, 409, 422, scope=Scope.ASK))
async def branch(
    data: BranchConversationRequest,
    request: Authenticated,
    branch_conversation: NamedDependency[BranchConversation],
    idempotency_key: IdempotencyKey = None,
) -> ConversationListItem:
    """Copy a conversation up to a message into a new one."""
    with renamed_fields(HEADER_FIELDS):
        made = await branch_conversation(
            request.user, data.conversation_id, data.message_id, data.title, idempotency_key
        )
    return msgspec.convert(made, ConversationListItem, from_attributes=True)


HANDLERS = [branch]
