"""/chat/: conversations, answers, providers and keys."""

import re
from datetime import date
from typing import Annotated

import msgspec
from litestar import Router, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, HeaderParameter, QueryParameter
from litestar.types import Guard

from baio_api.auth import SECURITY, Authenticated
from baio_api.openapi import operation
from baio_api.responses import AnswerStream, JSONString
from baio_api.schemas import (
    AddApiKeyRequest,
    AddedApiKey,
    AnswerRecord,
    AnswerRecordWithContext,
    ApiKeyInfo,
    CheckedApiKey,
    ConversationInfo,
    ConversationListItem,
    CreateConversationRequest,
    DeleteApiKeyRequest,
    DeleteConversationRequest,
    ProviderInfo,
    RegenerateAnswerRequest,
    RenameApiKeyRequest,
    RenameConversationRequest,
    SendMessageRequest,
    StopAnswerRequest,
    StoppedAnswer,
    TestApiKeyRequest,
    UsageOfDay,
)
from baio_domain.answering import Followable
from baio_domain.errors import FieldError, InvalidInput
from baio_domain.use_cases.api_keys import AddApiKey, CheckApiKey, DeleteApiKey, GetApiKeys, RenameApiKey
from baio_domain.use_cases.catalogue import GetProviders
from baio_domain.use_cases.conversations import (
    CreateConversation,
    DeleteConversation,
    GetConversation,
    GetConversations,
    RenameConversation,
)
from baio_domain.use_cases.messaging import (
    FollowAnswer,
    GetAnswers,
    GetUsage,
    LeaveAnswer,
    RegenerateAnswer,
    SendMessage,
    StopAnswer,
)

Integer = FromQuery[str]
"""An integer in a query. Litestar's own decoding would take 1e3 for one; openapi.complete says what it is."""

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)

UNTITLED = CreateConversationRequest()
NO_KEY = AddApiKeyRequest()

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="Up to 255 characters. The same key and request within 24 hours has the same outcome, once.",
    ),
]
LastEventID = Annotated[
    str | None, HeaderParameter(name="Last-Event-ID", description="The id of the last event seen, in place of offset.")
]


def _number(name: str, text: str) -> int:
    """An integer from a query, or InvalidInput. What no database can hold is the id of nothing, and past any end."""
    if not _INTEGER.fullmatch(text):
        raise InvalidInput.of(FieldError(name, "is not an integer"))
    return int(text) if len(text) < 19 else -1


# -- Conversations -----------------------------------------------------------------------------------------------------


@get(
    "/getConversation",
    **operation("getConversation", GetConversation, 401, 400, 404),
)
async def read_conversation(
    conversation_id: Integer, request: Authenticated, get_conversation: NamedDependency[GetConversation]
) -> ConversationInfo:
    """Read one conversation."""
    thread = await get_conversation(request.user, _number("conversation_id", conversation_id))
    return msgspec.convert(thread, ConversationInfo, from_attributes=True)


@get(
    "/getConversations",
    **operation("getConversations", GetConversations, 401),
)
async def list_conversations(
    request: Authenticated, get_conversations: NamedDependency[GetConversations]
) -> list[ConversationListItem]:
    """List one's own conversations."""
    return msgspec.convert(await get_conversations(request.user), list[ConversationListItem], from_attributes=True)


@post("/createConversation", **operation("createConversation", CreateConversation, 401, 400, 422, body=True))
async def begin_conversation(
    request: Authenticated,
    create_conversation: NamedDependency[CreateConversation],
    data: CreateConversationRequest = UNTITLED,
    idempotency_key: IdempotencyKey = None,
) -> ConversationInfo:
    """Begin a conversation."""
    thread = await create_conversation(request.user, data.title, idempotency_key)
    return msgspec.convert(thread, ConversationInfo, from_attributes=True)


@post(
    "/renameConversation",
    status_code=200,
    **operation("renameConversation", RenameConversation, 401, 400, 404, body=True),
)
async def change_title(
    data: RenameConversationRequest,
    request: Authenticated,
    rename_conversation: NamedDependency[RenameConversation],
) -> JSONString:
    """Give a conversation another title."""
    await rename_conversation(request.user, data.conversation_id, data.title)
    return JSONString(f"Conversation successfully renamed to {data.title}")


@post(
    "/deleteConversation",
    status_code=200,
    **operation("deleteConversation", DeleteConversation, 401, 400, 404, body=True),
)
async def remove_conversation(
    data: DeleteConversationRequest,
    request: Authenticated,
    delete_conversation: NamedDependency[DeleteConversation],
) -> JSONString:
    """Delete a conversation."""
    await delete_conversation(request.user, data.conversation_id)
    return JSONString(f"Conversation with id={data.conversation_id} successfully deleted")


# -- Answers -----------------------------------------------------------------------------------------------------------

_ASKING = (401, 400, 404, 409, 424, 429, 502, 504)


@post("/sendMessage", status_code=200, **operation("sendMessage", SendMessage, *_ASKING, 422, body=True))
async def ask(
    request: Authenticated,
    data: SendMessageRequest,
    send_message: NamedDependency[SendMessage],
    leave_answer: NamedDependency[LeaveAnswer],
    idempotency_key: IdempotencyKey = None,
) -> AnswerStream:
    """Ask a question and stream the answer."""
    answer = await send_message(
        request.user,
        conversation_id=data.conversation_id,
        apikey_nickname=data.apikey_nickname,
        content=data.content,
        model=data.model,
        idempotency_key=idempotency_key,
    )
    return await AnswerStream.begin(request, answer, 0, leave_answer)


@post("/regenerateAnswer", status_code=200, **operation("regenerateAnswer", RegenerateAnswer, *_ASKING, body=True))
async def ask_again(
    request: Authenticated,
    data: RegenerateAnswerRequest,
    regenerate_answer: NamedDependency[RegenerateAnswer],
    leave_answer: NamedDependency[LeaveAnswer],
) -> AnswerStream:
    """Ask the last question again and stream the new answer."""
    answer = await regenerate_answer(
        request.user, conversation_id=data.conversation_id, apikey_nickname=data.apikey_nickname, model=data.model
    )
    return await AnswerStream.begin(request, answer, 0, leave_answer)


@get("/followAnswer", **operation("followAnswer", FollowAnswer, 401, 400, 404, 424, 429, 502, 504))
async def follow(
    request: Authenticated,
    conversation_id: Integer,
    follow_answer: NamedDependency[FollowAnswer],
    offset: Integer = "0",
    last_event_id: LastEventID = None,
) -> AnswerStream:
    """Stream the newest answer from a character on."""
    # A browser's EventSource connects again with the address it had first, and with this header.
    start = _number("offset", last_event_id or offset)
    number = _number("conversation_id", conversation_id)
    answer = await follow_answer(request.user, conversation_id=number, offset=start)
    return await AnswerStream.begin(request, answer, start, _stay)


def _stay(_: Followable) -> None:
    """Leave without consequence: who follows has not asked."""


@post("/stopAnswer", status_code=200, **operation("stopAnswer", StopAnswer, 401, 400, 404, body=True))
async def stop(
    data: StopAnswerRequest, request: Authenticated, stop_answer: NamedDependency[StopAnswer]
) -> StoppedAnswer:
    """Stop the running answer."""
    answer = await stop_answer(request.user, data.conversation_id)
    return StoppedAnswer(answer.id, answer.state)


@get("/getAnswers", **operation("getAnswers", GetAnswers, 401, 400, 404))
async def list_answers(
    conversation_id: Integer,
    request: Authenticated,
    get_answers: NamedDependency[GetAnswers],
    context: FromQuery[str] = "false",
) -> list[AnswerRecord] | list[AnswerRecordWithContext]:
    """Read how a conversation's answers came about."""
    number = _number("conversation_id", conversation_id)
    if context not in ("true", "false"):
        raise InvalidInput.of(FieldError("context", "is neither true nor false"))
    answers = await get_answers(request.user, number)
    if context == "true":
        return msgspec.convert(answers, list[AnswerRecordWithContext], from_attributes=True)
    return msgspec.convert(answers, list[AnswerRecord], from_attributes=True)


@get("/getUsage", **operation("getUsage", GetUsage, 401, 400))
async def read_usage(
    request: Authenticated,
    get_usage: NamedDependency[GetUsage],
    from_: Annotated[str | None, QueryParameter(name="from", description="The first day, 2026-01-31.")] = None,
    to: Annotated[str | None, QueryParameter(description="The last day, 2026-01-31.")] = None,
) -> list[UsageOfDay]:
    """Read what one's own answers cost."""
    days, problems = {}, []
    for name, text in (("from", from_), ("to", to)):
        try:
            days[name] = None if text is None else date.fromisoformat(text if _DATE.fullmatch(text) else "")
        except ValueError:
            problems.append(FieldError(name, "is not a date such as 2026-01-31"))
    if problems:
        raise InvalidInput.of(*problems)
    return msgspec.convert(
        await get_usage(request.user, days["from"], days["to"]), list[UsageOfDay], from_attributes=True
    )


# -- Providers and keys ------------------------------------------------------------------------------------------------


@get("/getLLMProviders", **operation("getLLMProviders", GetProviders, 401))
async def list_providers(request: Authenticated, get_providers: NamedDependency[GetProviders]) -> list[ProviderInfo]:
    """List the providers and their models."""
    return msgspec.convert(await get_providers(request.user), list[ProviderInfo], from_attributes=True)


@post("/addAPIKey", **operation("addAPIKey", AddApiKey, 401, 400, 422, body=True))
async def store_key(
    request: Authenticated,
    add_api_key: NamedDependency[AddApiKey],
    data: AddApiKeyRequest = NO_KEY,
    idempotency_key: IdempotencyKey = None,
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
            request.user,
            key=key or "",
            nickname=nickname or "",
            provider=None if provider is msgspec.UNSET else provider,
            idempotency_key=idempotency_key,
        )
    except InvalidInput as refusal:
        raise InvalidInput.of(
            *(FieldError(spelt.get(each.field, each.field), each.message) for each in refusal.errors)
        ) from None
    return AddedApiKey(nickname=stored.nickname, user=stored.user_id)


@get("/getApiKeys", **operation("getApiKeys", GetApiKeys, 401))
async def list_keys(request: Authenticated, get_api_keys: NamedDependency[GetApiKeys]) -> list[ApiKeyInfo]:
    """List one's own keys."""
    return msgspec.convert(await get_api_keys(request.user), list[ApiKeyInfo], from_attributes=True)


@post("/deleteAPIKey", status_code=200, **operation("deleteAPIKey", DeleteApiKey, 401, 400, 404, body=True))
async def remove_key(
    data: DeleteApiKeyRequest, request: Authenticated, delete_api_key: NamedDependency[DeleteApiKey]
) -> JSONString:
    """Delete one of one's own keys."""
    return JSONString(f"API key {await delete_api_key(request.user, data.nickname)} successfully deleted")


@post("/renameAPIKey", status_code=200, **operation("renameAPIKey", RenameApiKey, 401, 400, 404, body=True))
async def change_nickname(
    data: RenameApiKeyRequest, request: Authenticated, rename_api_key: NamedDependency[RenameApiKey]
) -> JSONString:
    """Give one of one's own keys another nickname."""
    nickname = await rename_api_key(request.user, data.nickname, data.new_nickname)
    return JSONString(f"API key successfully renamed to {nickname}")


@post("/testAPIKey", status_code=200, **operation("testAPIKey", CheckApiKey, 401, 400, 404, 409, body=True))
async def test_key(
    data: TestApiKeyRequest, request: Authenticated, check_api_key: NamedDependency[CheckApiKey]
) -> CheckedApiKey:
    """Ask the provider whether it takes one of one's own keys."""
    return msgspec.convert(await check_api_key(request.user, data.nickname), CheckedApiKey, from_attributes=True)


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
            ask_again,
            follow,
            stop,
            list_answers,
            read_usage,
            list_providers,
            store_key,
            list_keys,
            remove_key,
            change_nickname,
            test_key,
        ],
        guards=[bearer],
        security=SECURITY,
        tags=["chat"],
    )
