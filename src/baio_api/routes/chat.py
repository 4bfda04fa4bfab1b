"""/chat/: conversations, answers, providers and keys."""

from typing import Annotated

import msgspec
from litestar import Router, get, post
from litestar.di import NamedDependency
from litestar.params import HeaderParameter, QueryParameter
from litestar.types import BeforeRequestHookHandler

from baio_api.auth import SECURITY, Authenticated
from baio_api.errors import renamed_fields
from baio_api.openapi import operation
from baio_api.query import Day, Flag, Integer
from baio_api.responses import (
    AnswerStream,
    JSONString,
    LongJSON,
    accepts_events,
    as_pages,
    open_stream,
    tool_call_pages,
)
from baio_api.schemas import (
    AddApiKeyRequest,
    AddedApiKey,
    AnsweredConversation,
    AnsweredMessageInfo,
    AnswerRecord,
    AnswerRecordWithContext,
    ApiKeyInfo,
    CheckedApiKey,
    ConversationInfo,
    ConversationListItem,
    CreateConversationRequest,
    DeleteApiKeyRequest,
    DeleteConversationRequest,
    MessageInfo,
    ProviderInfo,
    RegenerateAnswerRequest,
    RenameApiKeyRequest,
    RenameConversationRequest,
    RunToolRequest,
    SendMessageRequest,
    StopAnswerRequest,
    StoppedAnswer,
    TestApiKeyRequest,
    ToolCallRecord,
    ToolCallRequest,
    ToolInfo,
    UsageOfDay,
    VerifiedToolCall,
)
from baio_domain.errors import FieldError, InvalidInput
from baio_domain.idempotency import MAX_IDEMPOTENCY_KEY_LENGTH
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
    RegenerateAnswer,
    SendMessage,
    StopAnswer,
)
from baio_domain.use_cases.tools import DeleteToolCall, GetToolCalls, GetTools, RunTool, VerifyToolCall

# Defaults of optional bodies and parameters.
UNTITLED = CreateConversationRequest()
START = Integer(0)
NO = Flag(0)

HEADER_FIELDS = {"idempotency_key": "Idempotency-Key", "offset": "Last-Event-ID"}
"""The headers that errors can name, by the domain's parameter."""

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="Up to 255 characters. A request that is repeated with its key within 24 hours takes effect once.",
        schema_extra={"max_length": MAX_IDEMPOTENCY_KEY_LENGTH},
    ),
]
WithAnswers = Annotated[
    Flag,
    QueryParameter(description="Whether each message has its answer's id and state, and running answers are included."),
]
AnswerId = Annotated[
    Integer | None, QueryParameter(description="The answer to follow, as in X-Answer-ID. By default, the newest one.")
]
LastEventID = Annotated[
    str | None, HeaderParameter(name="Last-Event-ID", description="The id of the last event received; replaces offset.")
]
ResumedEventID = Annotated[
    str | None,
    HeaderParameter(
        name="Last-Event-ID",
        description="The id of the last event received, if a request for events is repeated with its Idempotency-Key.",
    ),
]

ConversationId = Annotated[
    Integer, QueryParameter(description="The conversation's id, as in getConversations and createConversation.")
]
Offset = Annotated[
    Integer,
    QueryParameter(
        description="How many Unicode characters of the answer to leave out. At most the length of the text so far.",
        schema_extra={"minimum": 0},
    ),
]
WithContext = Annotated[
    Flag, QueryParameter(description="Whether each record has `left_out`: how many messages the model was not sent.")
]

CallsOfConversation = Annotated[
    Integer | None, QueryParameter(description="The conversation. By default, the calls in no conversation.")
]
CallsOfAnswer = Annotated[
    Integer | None, QueryParameter(description="The answer, as in X-Answer-ID. By default, all of the conversation's.")
]

FirstDay = Annotated[
    Day | None,
    QueryParameter(name="from", description="The first day (UTC). By default, the 29th day before the last one."),
]
LastDay = Annotated[
    Day | None, QueryParameter(name="to", description="The last day (UTC), included. By default, today.")
]


# -- Conversations -----------------------------------------------------------------------------------------------------


@get(
    "/getConversation",
    **operation("getConversation", GetConversation, 404, 429),
)
async def read_conversation(
    conversation_id: ConversationId,
    request: Authenticated,
    get_conversation: NamedDependency[GetConversation],
    answers: WithAnswers = NO,
) -> LongJSON[AnsweredConversation | ConversationInfo]:
    """Read one conversation."""
    thread = await get_conversation(request.user, conversation_id, answers=bool(answers))
    messages = as_pages(AnsweredMessageInfo if answers else MessageInfo, thread.pages())
    document = {"id": thread.id, "title": thread.title, "messages": messages}
    return await LongJSON.begin(document, request)


@get(
    "/getConversations",
    **operation("getConversations", GetConversations, 429),
)
async def list_conversations(
    request: Authenticated,
    get_conversations: NamedDependency[GetConversations],
) -> LongJSON[list[ConversationListItem]]:
    """List the caller's conversations."""
    conversations = as_pages(ConversationListItem, get_conversations(request.user))
    return await LongJSON.begin(conversations, request)


@post("/createConversation", **operation("createConversation", CreateConversation, 409, 422))
async def new_conversation(
    request: Authenticated,
    create_conversation: NamedDependency[CreateConversation],
    data: CreateConversationRequest = UNTITLED,
    idempotency_key: IdempotencyKey = None,
) -> ConversationInfo:
    """Create a conversation."""
    with renamed_fields(HEADER_FIELDS):
        thread = await create_conversation(request.user, data.title, idempotency_key)
    return msgspec.convert(thread, ConversationInfo, from_attributes=True)


@post(
    "/renameConversation",
    status_code=200,
    **operation(
        "renameConversation", RenameConversation, 404, example="Conversation successfully renamed to Updated Discussion"
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
    **operation("deleteConversation", DeleteConversation, 404, example="Conversation with id=1 successfully deleted"),
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

_ASKING = (404, 409, 422, 424, 429, 502, 504)


def _offset_after(last_event_id: str) -> Integer:
    """The offset at which the stream of events goes on. Raises InvalidInput naming ``offset``."""
    try:
        return Integer.parse(last_event_id)
    except ValueError as error:
        raise InvalidInput.of(FieldError("offset", str(error))) from None


@post(
    "/sendMessage",
    status_code=200,
    **operation("sendMessage", SendMessage, *_ASKING, example="AI is applied in genomics to variant calling, ..."),
)
async def ask(
    request: Authenticated,
    data: SendMessageRequest,
    send_message: NamedDependency[SendMessage],
    idempotency_key: IdempotencyKey = None,
    last_event_id: ResumedEventID = None,
) -> AnswerStream:
    """Ask a question, and stream the answer."""
    with renamed_fields(HEADER_FIELDS), open_stream(request, asking=True) as stream:
        offset = _offset_after(last_event_id) if last_event_id and accepts_events(request) else START
        answer = await send_message(
            request.user,
            conversation_id=data.conversation_id,
            apikey_nickname=data.apikey_nickname,
            content=data.content,
            model=data.model,
            idempotency_key=idempotency_key,
            offset=offset,
        )
        return await AnswerStream.begin(request, answer, offset, stream, asking=True)


@post(
    "/regenerateAnswer",
    status_code=200,
    **operation(
        "regenerateAnswer", RegenerateAnswer, *_ASKING, example="AI is applied in genomics to variant calling, ..."
    ),
)
async def ask_again(
    request: Authenticated,
    data: RegenerateAnswerRequest,
    regenerate_answer: NamedDependency[RegenerateAnswer],
    idempotency_key: IdempotencyKey = None,
    last_event_id: ResumedEventID = None,
) -> AnswerStream:
    """Ask the last question again, and stream the new answer."""
    with renamed_fields(HEADER_FIELDS), open_stream(request, asking=True) as stream:
        offset = _offset_after(last_event_id) if last_event_id and accepts_events(request) else START
        answer = await regenerate_answer(
            request.user,
            conversation_id=data.conversation_id,
            apikey_nickname=data.apikey_nickname,
            model=data.model,
            idempotency_key=idempotency_key,
            offset=offset,
        )
        return await AnswerStream.begin(request, answer, offset, stream, asking=True)


@get(
    "/followAnswer",
    **operation("followAnswer", FollowAnswer, 404, 424, 429, 502, 504, example="to variant calling, ..."),
)
async def follow(
    request: Authenticated,
    conversation_id: ConversationId,
    follow_answer: NamedDependency[FollowAnswer],
    answer_id: AnswerId = None,
    offset: Offset = START,
    last_event_id: LastEventID = None,
) -> AnswerStream:
    """Stream an answer, beginning at a character."""
    with renamed_fields(HEADER_FIELDS if last_event_id else {}), open_stream(request) as stream:
        if last_event_id:
            # A browser's EventSource reconnects to its first URL, and adds this header.
            offset = _offset_after(last_event_id)
        answer = await follow_answer(request.user, conversation_id=conversation_id, answer_id=answer_id, offset=offset)
        return await AnswerStream.begin(request, answer, offset, stream)


@post("/stopAnswer", status_code=200, **operation("stopAnswer", StopAnswer, 404))
async def stop(
    data: StopAnswerRequest, request: Authenticated, stop_answer: NamedDependency[StopAnswer]
) -> StoppedAnswer:
    """Stop the running answer."""
    answer = await stop_answer(request.user, data.conversation_id)
    return StoppedAnswer(answer.id, answer.state)


@get("/getAnswers", **operation("getAnswers", GetAnswers, 404, 429))
async def list_answers(
    conversation_id: ConversationId,
    request: Authenticated,
    get_answers: NamedDependency[GetAnswers],
    context: WithContext = NO,
) -> LongJSON[list[AnswerRecordWithContext] | list[AnswerRecord]]:
    """Read how a conversation's answers were made."""
    answers = as_pages(AnswerRecordWithContext if context else AnswerRecord, get_answers(request.user, conversation_id))
    return await LongJSON.begin(answers, request)


@get("/getUsage", **operation("getUsage", GetUsage))
async def read_usage(
    request: Authenticated,
    get_usage: NamedDependency[GetUsage],
    first: FirstDay = None,
    last: LastDay = None,
) -> list[UsageOfDay]:
    """Read how many tokens the caller's own answers used."""
    with renamed_fields({"first": "from", "last": "to"}):
        days = await get_usage(request.user, first, last)
    return msgspec.convert(days, list[UsageOfDay], from_attributes=True)


# -- Tools -------------------------------------------------------------------------------------------------------------


@get("/getTools", **operation("getTools", GetTools))
async def list_tools(request: Authenticated, get_tools: NamedDependency[GetTools]) -> list[ToolInfo]:
    """List the tools."""
    return [ToolInfo.of(spec) for spec in await get_tools(request.user)]


@post("/runTool", **operation("runTool", RunTool, 404, 409, 429))
async def use_tool(data: RunToolRequest, request: Authenticated, run_tool: NamedDependency[RunTool]) -> ToolCallRecord:
    """Run a tool."""
    return ToolCallRecord.of(await run_tool(request.user, data.tool, data.arguments, data.conversation_id))


@get("/getToolCalls", **operation("getToolCalls", GetToolCalls, 404, 429))
async def list_tool_calls(
    request: Authenticated,
    get_tool_calls: NamedDependency[GetToolCalls],
    conversation_id: CallsOfConversation = None,
    answer_id: CallsOfAnswer = None,
) -> LongJSON[list[ToolCallRecord]]:
    """Read the records of tools' calls."""
    calls = get_tool_calls(request.user, conversation_id=conversation_id, answer_id=answer_id)
    return await LongJSON.begin(tool_call_pages(calls), request)


@post("/verifyToolCall", status_code=200, **operation("verifyToolCall", VerifyToolCall, 404, 429))
async def compute_again(
    data: ToolCallRequest, request: Authenticated, verify_tool_call: NamedDependency[VerifyToolCall]
) -> VerifiedToolCall:
    """Compute a call again."""
    return msgspec.convert(await verify_tool_call(request.user, data.id), VerifiedToolCall, from_attributes=True)


@post(
    "/deleteToolCall",
    status_code=200,
    **operation("deleteToolCall", DeleteToolCall, 404, example="Call with id=41 successfully deleted"),
)
async def remove_tool_call(
    data: ToolCallRequest, request: Authenticated, delete_tool_call: NamedDependency[DeleteToolCall]
) -> JSONString:
    """Delete the record of a call."""
    await delete_tool_call(request.user, data.id)
    return JSONString(f"Call with id={data.id} successfully deleted")


# -- Providers and keys ------------------------------------------------------------------------------------------------


@get("/getLLMProviders", **operation("getLLMProviders", GetProviders))
async def list_providers(request: Authenticated, get_providers: NamedDependency[GetProviders]) -> list[ProviderInfo]:
    """List the providers and their models."""
    return msgspec.convert(await get_providers(request.user), list[ProviderInfo], from_attributes=True)


@post("/addAPIKey", **operation("addAPIKey", AddApiKey, 409, 422))
async def store_key(
    request: Authenticated,
    data: AddApiKeyRequest,
    add_api_key: NamedDependency[AddApiKey],
    idempotency_key: IdempotencyKey = None,
) -> AddedApiKey:
    """Store an API key."""
    # Each part comes under one of two names, and errors use the one that the client has used.
    sent_as = {
        part: other if getattr(data, part) is msgspec.UNSET and getattr(data, other) is not msgspec.UNSET else part
        for part, other in (("key", "apiKey"), ("nickname", "name"), ("provider", "apiProvider"))
    }
    key, nickname, provider = (getattr(data, name) for name in sent_as.values())
    with renamed_fields(sent_as | HEADER_FIELDS):
        stored = await add_api_key(
            request.user,
            key=key or "",
            nickname=nickname or "",
            provider=None if provider is msgspec.UNSET else provider,
            idempotency_key=idempotency_key,
        )
    return AddedApiKey(nickname=stored.nickname, user=stored.user_id)


@get("/getApiKeys", **operation("getApiKeys", GetApiKeys))
async def list_keys(request: Authenticated, get_api_keys: NamedDependency[GetApiKeys]) -> list[ApiKeyInfo]:
    """List the caller's API keys."""
    return msgspec.convert(await get_api_keys(request.user), list[ApiKeyInfo], from_attributes=True)


@post(
    "/deleteAPIKey",
    status_code=200,
    **operation("deleteAPIKey", DeleteApiKey, 404, example="API key OpenAI Key successfully deleted"),
)
async def remove_key(
    data: DeleteApiKeyRequest, request: Authenticated, delete_api_key: NamedDependency[DeleteApiKey]
) -> JSONString:
    """Delete an API key."""
    return JSONString(f"API key {await delete_api_key(request.user, data.nickname)} successfully deleted")


@post(
    "/renameAPIKey",
    status_code=200,
    **operation("renameAPIKey", RenameApiKey, 404, example="API key successfully renamed to Lab Key"),
)
async def change_nickname(
    data: RenameApiKeyRequest, request: Authenticated, rename_api_key: NamedDependency[RenameApiKey]
) -> JSONString:
    """Rename an API key."""
    nickname = await rename_api_key(request.user, data.nickname, data.new_nickname)
    return JSONString(f"API key successfully renamed to {nickname}")


@post("/testAPIKey", status_code=200, **operation("testAPIKey", CheckApiKey, 404, 409, 429))
async def test_key(
    data: TestApiKeyRequest, request: Authenticated, check_api_key: NamedDependency[CheckApiKey]
) -> CheckedApiKey:
    """Ask the provider whether it accepts an API key."""
    return msgspec.convert(await check_api_key(request.user, data.nickname), CheckedApiKey, from_attributes=True)


def chat_router(bearer: BeforeRequestHookHandler) -> Router:
    """The endpoints under /chat/. All need a token."""
    return Router(
        "/chat",
        route_handlers=[
            read_conversation,
            list_conversations,
            new_conversation,
            change_title,
            remove_conversation,
            ask,
            ask_again,
            follow,
            stop,
            list_answers,
            read_usage,
            list_tools,
            use_tool,
            list_tool_calls,
            compute_again,
            remove_tool_call,
            list_providers,
            store_key,
            list_keys,
            remove_key,
            change_nickname,
            test_key,
        ],
        before_request=bearer,
        security=SECURITY,
        tags=["chat"],
    )
