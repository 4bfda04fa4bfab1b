"""/v1/: chat completions and models, in the form of OpenAI's API, for its clients."""

import secrets
from collections.abc import AsyncGenerator
from typing import Annotated

import msgspec
from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter
from litestar.types import BeforeRequestHookHandler

from baio_api.auth import SECURITY, Authenticated
from baio_api.errors import openai_error_of, problem_of, renamed_fields
from baio_api.openapi import operation
from baio_api.responses import AnswerStream, EventForm, event_json, headers_of, open_stream, whole_answer
from baio_api.routes.parameters import IdempotencyKey
from baio_api.schemas.completions import (
    ChatCompletion,
    ChatCompletionRequest,
    CompletionCall,
    CompletionChoice,
    CompletionMessage,
    CompletionUsage,
    FinishReason,
    ModelEntries,
    ModelEntry,
)
from baio_domain.answering import Followable, LiveAnswer
from baio_domain.entities import AnswerState, Scope
from baio_domain.errors import BaioError
from baio_domain.ports import Called, Thinking, openai_finish_reason
from baio_domain.use_cases.completions import CompleteChat, GetChatModel, GetChatModels

UNUSED_PARAMETERS = "X-Unused-Parameters"
"""The header that names the parameters which the provider has refused, and which were left out."""

SDK_HEADERS = [
    "OpenAI-Organization",
    "OpenAI-Project",
    *(
        f"X-Stainless-{name}"
        for name in (
            "Arch", "Async", "Custom-Poll-Interval", "Helper-Method", "Lang", "OS", "Package-Version", "Poll-Helper",
            "Retry-Count", "Runtime", "Runtime-Version", "Timeout",
        )
    ),
]  # fmt: skip
"""The headers that OpenAI's client sends from a page in a browser."""

ModelName = Annotated[str, PathParameter(description="A model, as in the list of models. It can have slashes.")]


@get("/models", **operation("listModels", GetChatModels, scope=Scope.ASK))
async def list_models(request: Authenticated, get_chat_models: NamedDependency[GetChatModels]) -> ModelEntries:
    """List the models of the caller's keys."""
    return ModelEntries("list", [ModelEntry.of(each) for each in await get_chat_models(request.user)])


@get("/models/{model:path}", **operation("retrieveModel", GetChatModel, 404, scope=Scope.ASK))
async def retrieve_model(
    request: Authenticated, model: ModelName, get_chat_model: NamedDependency[GetChatModel]
) -> ModelEntry:
    """Read one model."""
    return ModelEntry.of(await get_chat_model(request.user, str(model).strip("/")))


@post(
    "/chat/completions",
    status_code=200,
    **operation("createChatCompletion", CompleteChat, 404, 409, 422, 424, 429, 502, 504, scope=Scope.ASK),
)
async def complete(
    request: Authenticated,
    data: ChatCompletionRequest,
    complete_chat: NamedDependency[CompleteChat],
    idempotency_key: IdempotencyKey = None,
) -> Response[ChatCompletion]:
    """Answer messages, whole or as a stream of chunks."""
    with renamed_fields(data.domain_names), open_stream(request, asking=True) as stream:
        asked = data.request()
        answer = await complete_chat(request.user, asked, idempotency_key=idempotency_key)
        said = _Said(answer, data)
        if data.stream:
            response = await AnswerStream.begin_events(request, answer, said.chunks(), CHUNKS, stream)
            response.headers.update(_unused(answer))
            return response  # type: ignore[return-value]
        completion = await whole_answer(request, answer, said.whole(), stream)
        return Response(completion, headers={**headers_of(answer), **_unused(answer)})


def completions_router(bearer: BeforeRequestHookHandler, max_bytes: int = 8_388_608) -> Router:
    """The endpoints under /v1/. All need a token. A request for a completion may have so many bytes."""
    return Router(
        "/v1",
        route_handlers=[
            list_models,
            retrieve_model,
            Router("/", route_handlers=[complete], request_max_body_size=max_bytes),
        ],
        before_request=bearer,
        security=SECURITY,
        tags=["v1"],
    )


def _unused(answer: Followable) -> dict[str, str]:
    unused = answer.unused if isinstance(answer, LiveAnswer) else ()
    return {UNUSED_PARAMETERS: ", ".join(unused)} if unused else {}


def _error_event(error: BaioError) -> str:
    """The error of a stream that has begun, which OpenAI's clients raise."""
    return f"data: {event_json(openai_error_of(problem_of(error)))}\n\n"


CHUNKS = EventForm(_error_event, ": still here\n")
"""Without a blank line behind it: some clients take that for the end of an event without data."""


class _Said:
    """What is said of an answer: all at once, or in chunks."""

    def __init__(self, answer: Followable, asked: ChatCompletionRequest) -> None:
        self._answer = answer
        self._model = asked.model
        self._with_usage = asked.with_usage
        self._id = f"chatcmpl-{secrets.token_hex(16)}"
        self._created = int(answer.answer.started_at.timestamp())

    async def whole(self) -> ChatCompletion:
        """The completion, when the answer has ended. Raises the error of one that was cut."""
        texts, thoughts = list[str](), list[str]()
        async for item in self._answer.follow_events():
            if isinstance(item, str):
                texts.append(item)
            elif isinstance(item, Thinking):
                thoughts.append(item.text)
        calls = [CompletionCall.of(_call_id(), call) for call in self._called]
        message = CompletionMessage(
            "assistant",
            "".join(texts) or None,
            tool_calls=calls or msgspec.UNSET,
            reasoning_content="".join(thoughts) or msgspec.UNSET,
        )
        choice = CompletionChoice(0, message, self._finish_reason)
        return ChatCompletion(self._id, "chat.completion", self._created, self._model, [choice], self._usage)

    async def chunks(self) -> AsyncGenerator[str, None]:
        """The events of the stream. An error before the first of them is raised."""
        envelope = {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": self._model}
        begin = event_json(envelope)[:-1]
        usage = ',"usage":null' if self._with_usage else ""

        def chunk(delta: str, finish_reason: str = "null") -> str:
            choice = f'{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish_reason}}}'
            return f'data: {begin},"choices":[{choice}]{usage}}}\n\n'

        before, _, after = chunk('{"content":\0}').partition("\0")  # what is around each text
        first = chunk('{"role":"assistant","content":"","refusal":null}')
        try:
            async for item in self._answer.follow_events():
                if isinstance(item, str):
                    yield f"{first}{before}{event_json(item)}{after}"
                elif isinstance(item, Thinking):
                    yield first + chunk(event_json({"reasoning_content": item.text}))
                else:
                    continue
                first = ""
        except BaioError as error:
            if first:
                raise
            yield _error_event(error)
            return
        pieces = [first]
        for index, call in enumerate(self._called):
            pieces.append(chunk(event_json({"tool_calls": [CompletionCall.of(_call_id(), call, index)]})))
        pieces.append(chunk("{}", f'"{self._finish_reason}"'))
        if self._with_usage and self._usage:
            pieces.append(f'data: {begin},"choices":[],"usage":{event_json(self._usage)}}}\n\n')
        yield "".join([*pieces, "data: [DONE]\n\n"])

    @property
    def _called(self) -> list[Called]:
        return self._answer.called if isinstance(self._answer, LiveAnswer) else []

    @property
    def _usage(self) -> CompletionUsage | None:
        return CompletionUsage.of(self._answer.outcome.usage) if self._answer.outcome else None

    @property
    def _finish_reason(self) -> FinishReason:
        """OpenAI's term; clients know no others. Some providers say that an answer with calls has just stopped."""
        if self._called:
            return "tool_calls"
        reason = openai_finish_reason((self._answer.outcome and self._answer.outcome.finish_reason) or "stop")
        if reason in ("length", "content_filter"):
            return reason  # type: ignore[return-value]
        truncated = self._answer.outcome is not None and self._answer.outcome.state is AnswerState.TRUNCATED
        return "length" if truncated else "stop"


def _call_id() -> str:
    return f"call_{secrets.token_hex(12)}"
