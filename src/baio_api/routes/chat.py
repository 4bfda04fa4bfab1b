"""/chat/: conversations, answers, providers and keys."""

import msgspec
from litestar import Router, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery
from litestar.types import Guard

from baio_api.auth import SECURITY
from baio_api.openapi import operation
from baio_api.responses import AnswerStream, JSONString
from baio_api.schemas import (
    AddApiKeyRequest,
    AddedApiKey,
    ApiKeyInfo,
    ConversationInfo,
    ConversationListItem,
    CreateConversationRequest,
    DeleteConversationRequest,
    ProviderInfo,
    RenameConversationRequest,
    SendMessageRequest,
)
from baio_domain.entities import Caller
from baio_domain.errors import ConversationNotFound, FieldError, InvalidInput
from baio_domain.use_cases.conversations import (
    CreateConversation,
    DeleteConversation,
    GetConversation,
    GetConversations,
    RenameConversation,
)
from baio_domain.use_cases.messaging import SendMessage
from baio_domain.use_cases.providers import AddApiKey, GetApiKeys, GetProviders

LARGEST_ID = 2**63 - 1
UNTITLED = CreateConversationRequest()

# -- Conversations -----------------------------------------------------------------------------------------------------


@get(
    "/getConversation",
    **operation("getConversation", GetConversation, 401, 400, 404),
)
async def read_conversation(
    conversation_id: FromQuery[int], caller: NamedDependency[Caller], get_conversation: NamedDependency[GetConversation]
) -> ConversationInfo:
    """Read one conversation."""
    if abs(conversation_id) > LARGEST_ID:
        raise ConversationNotFound
    thread = await get_conversation(caller, conversation_id)
    return msgspec.convert(thread, ConversationInfo, from_attributes=True)


@get(
    "/getConversations",
    **operation("getConversations", GetConversations, 401),
)
async def list_conversations(
    caller: NamedDependency[Caller], get_conversations: NamedDependency[GetConversations]
) -> list[ConversationListItem]:
    """List one's own conversations."""
    return msgspec.convert(await get_conversations(caller), list[ConversationListItem], from_attributes=True)


@post(
    "/createConversation",
    **operation("createConversation", CreateConversation, 401, 400, body=True),
)
async def begin_conversation(
    caller: NamedDependency[Caller],
    create_conversation: NamedDependency[CreateConversation],
    data: CreateConversationRequest = UNTITLED,
) -> ConversationInfo:
    """Begin a conversation."""
    thread = await create_conversation(caller, data.title)
    return msgspec.convert(thread, ConversationInfo, from_attributes=True)


@post(
    "/renameConversation",
    status_code=200,
    **operation("renameConversation", RenameConversation, 401, 400, 404, body=True),
)
async def change_title(
    data: RenameConversationRequest,
    caller: NamedDependency[Caller],
    rename_conversation: NamedDependency[RenameConversation],
) -> JSONString:
    """Give a conversation another title."""
    await rename_conversation(caller, data.conversation_id, data.title)
    return JSONString(f"Conversation successfully renamed to {data.title}")


@post(
    "/deleteConversation",
    status_code=200,
    **operation("deleteConversation", DeleteConversation, 401, 400, 404, body=True),
)
async def remove_conversation(
    data: DeleteConversationRequest,
    caller: NamedDependency[Caller],
    delete_conversation: NamedDependency[DeleteConversation],
) -> JSONString:
    """Delete a conversation."""
    await delete_conversation(caller, data.conversation_id)
    return JSONString(f"Conversation with id={data.conversation_id} successfully deleted")


# -- Answers -----------------------------------------------------------------------------------------------------------


@post(
    "/sendMessage",
    status_code=200,
    **operation("sendMessage", SendMessage, 401, 400, 404, 409, 424, 429, 502, 504, body=True),
)
async def ask(
    data: SendMessageRequest, caller: NamedDependency[Caller], send_message: NamedDependency[SendMessage]
) -> AnswerStream:
    """Ask a question and stream the answer."""
    answer = await send_message(
        caller,
        conversation_id=data.conversation_id,
        apikey_nickname=data.apikey_nickname,
        content=data.content,
        model=data.model,
    )
    return AnswerStream(answer)


# -- Providers and keys ------------------------------------------------------------------------------------------------


@get("/getLLMProviders", **operation("getLLMProviders", GetProviders, 401))
async def list_providers(get_providers: NamedDependency[GetProviders]) -> list[ProviderInfo]:
    """List the providers and their models."""
    return msgspec.convert(await get_providers(), list[ProviderInfo], from_attributes=True)


@post("/addAPIKey", **operation("addAPIKey", AddApiKey, 401, 400, body=True))
async def store_key(
    data: AddApiKeyRequest, caller: NamedDependency[Caller], add_api_key: NamedDependency[AddApiKey]
) -> AddedApiKey:
    """Store an API key."""
    # Either spelling of each part; a refusal speaks the one that was used.
    spelt = {
        part: theirs if getattr(data, theirs) is not msgspec.UNSET and getattr(data, part) is msgspec.UNSET else part
        for part, theirs in (("key", "apiKey"), ("nickname", "name"), ("provider", "apiProvider"))
    }
    key, nickname, provider = (getattr(data, name) for name in spelt.values())
    try:
        stored = await add_api_key(
            caller, key=key or "", nickname=nickname or "", provider=None if provider is msgspec.UNSET else provider
        )
    except InvalidInput as refusal:
        raise InvalidInput.of(*(FieldError(spelt[each.field], each.message) for each in refusal.errors)) from None
    return AddedApiKey(nickname=stored.nickname, user=stored.user_id)


@get("/getApiKeys", **operation("getApiKeys", GetApiKeys, 401))
async def list_keys(caller: NamedDependency[Caller], get_api_keys: NamedDependency[GetApiKeys]) -> list[ApiKeyInfo]:
    """List one's own keys."""
    return msgspec.convert(await get_api_keys(caller), list[ApiKeyInfo], from_attributes=True)


def chat_router(bearer: Guard) -> Router:
    """The endpoints under /chat/, all behind the guard."""
    return Router(
        "/chat",
        route_handlers=[
            read_conversation,
            list_conversations,
            begin_conversation,
            change_title,
            remove_conversation,
            ask,
            list_providers,
            store_key,
            list_keys,
        ],
        guards=[bearer],
        security=SECURITY,
        tags=["chat"],
    )
