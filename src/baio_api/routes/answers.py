"""Endpoints of answers: ask, follow, stop, list."""

from typing import Annotated

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import HeaderParameter, QueryParameter

from baio_api.auth import Authenticated
from baio_api.errors import renamed_fields
from baio_api.openapi import operation
from baio_api.query import Flag, Integer
from baio_api.responses import AnswerStream, LongJSON, accepts_events, as_pages, open_stream
from baio_api.routes.parameters import NO, ConversationId, IdempotencyKey
from baio_api.schemas.answers import (
    AnswerRecord,
    AnswerRecordWithAll,
    AnswerRecordWithContext,
    AnswerRecordWithSettings,
    RegenerateAnswerRequest,
    SendMessageRequest,
    StopAnswerRequest,
    StoppedAnswer,
)
from baio_domain.entities import Scope
from baio_domain.errors import FieldError, InvalidInput
from baio_domain.use_cases.messaging import (
    FollowAnswer,
    GetAnswers,
    RegenerateAnswer,
    SendMessage,
    StopAnswer,
)

START = Integer(0)

HEADER_FIELDS = {"idempotency_key": "Idempotency-Key", "offset": "Last-Event-ID"}
"""The headers that errors can name, by the domain's parameter."""

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

WithSettings = Annotated[Flag, QueryParameter(description="Whether each record has the `settings` of its answer.")]

RECORDS: dict[tuple[bool, bool], type[AnswerRecord]] = {
    (False, False): AnswerRecord,
    (True, False): AnswerRecordWithContext,
    (False, True): AnswerRecordWithSettings,
    (True, True): AnswerRecordWithAll,
}
"""What an answer's record has: with its context, and with its settings."""

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
    **operation(
        "sendMessage",
        SendMessage,
        *_ASKING,
        example="AI is applied in genomics to variant calling, ...",
        scope=Scope.ASK,
    ),
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
            sequence_ids=data.sequence_ids,
            idempotency_key=idempotency_key,
            offset=offset,
        )
        return await AnswerStream.begin(request, answer, offset, stream, asking=True)


@post(
    "/regenerateAnswer",
    status_code=200,
    **operation(
        "regenerateAnswer",
        RegenerateAnswer,
        *_ASKING,
        example="AI is applied in genomics to variant calling, ...",
        scope=Scope.ASK,
    ),
)
async def ask_again(
    request: Authenticated,
    data: RegenerateAnswerRequest,
    regenerate_answer: NamedDependency[RegenerateAnswer],
    idempotency_key: IdempotencyKey = None,
    last_event_id: ResumedEventID = None,
) -> AnswerStream:
    """Ask a question again, and stream the new answer."""
    with renamed_fields(HEADER_FIELDS), open_stream(request, asking=True) as stream:
        offset = _offset_after(last_event_id) if last_event_id and accepts_events(request) else START
        answer = await regenerate_answer(
            request.user,
            conversation_id=data.conversation_id,
            apikey_nickname=data.apikey_nickname,
            model=data.model,
            message_id=data.message_id,
            idempotency_key=idempotency_key,
            offset=offset,
        )
        return await AnswerStream.begin(request, answer, offset, stream, asking=True)


@get(
    "/followAnswer",
    **operation(
        "followAnswer", FollowAnswer, 404, 424, 429, 502, 504, example="to variant calling, ...", scope=Scope.READ
    ),
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


@post("/stopAnswer", status_code=200, **operation("stopAnswer", StopAnswer, 404, scope=Scope.ASK))
async def stop(
    data: StopAnswerRequest, request: Authenticated, stop_answer: NamedDependency[StopAnswer]
) -> StoppedAnswer:
    """Stop the running answer."""
    answer = await stop_answer(request.user, data.conversation_id)
    return StoppedAnswer(answer.id, answer.state)


@get("/getAnswers", **operation("getAnswers", GetAnswers, 404, 429, scope=Scope.READ))
async def list_answers(
    conversation_id: ConversationId,
    request: Authenticated,
    get_answers: NamedDependency[GetAnswers],
    context: WithContext = NO,
    settings: WithSettings = NO,
) -> LongJSON[
    list[AnswerRecordWithAll] | list[AnswerRecordWithSettings] | list[AnswerRecordWithContext] | list[AnswerRecord]
]:
    """Read how a conversation's answers were made."""
    record = RECORDS[bool(context), bool(settings)]
    answers = get_answers(request.user, conversation_id, settings=bool(settings))
    return await LongJSON.begin(as_pages(record, answers), request)


HANDLERS = [
    ask,
    ask_again,
    follow,
    stop,
    list_answers,
]
