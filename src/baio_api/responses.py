"""Response classes that Litestar lacks: a JSON string, long JSON, and an answer as text or server-sent events."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self, TypeVar

import msgspec
from litestar import Request, Response
from litestar.enums import MediaType
from litestar.response.base import ASGIResponse
from litestar.types import Message, Receive, Scope, Send

from baio_api.errors import problem_of
from baio_api.middleware import direct_send, is_head
from baio_api.schemas.answers import Delta, End, Thoughts, ToolProgress, UsageInfo
from baio_api.schemas.tools import ToolCallRecord
from baio_domain.answering import MAX_PIECE_LENGTH, Followable
from baio_domain.entities import AnswerState, Caller, ToolCall
from baio_domain.errors import BaioError
from baio_domain.ports import Thinking
from baio_domain.streams import Stream

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

HEARTBEAT_SECONDS = 15.0
"""The longest silence of an event stream, so that no proxy closes it as idle."""

UNBUFFERED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

EVENTS = "text/event-stream"

NDJSON = "application/x-ndjson"


class JSONString(Response[str]):
    """A JSON string. Litestar would send a ``str`` without quotes."""

    def __init__(self, content: str) -> None:
        super().__init__(content, media_type=MediaType.JSON)

    def render(self, content: Any, *_: Any, **__: Any) -> bytes:  # noqa: ANN401 - Litestar's signature
        """Encode as JSON."""
        return msgspec.json.encode(content)


class LongJSON(Response[T]):
    """JSON that is encoded and sent as it is read, if it is long. Short JSON is sent in one piece.

    ``T`` is the Struct, or the list, that it has the form of. Create it with ``begin``. After an error in mid-stream
    the response has no closing chunk, so that nobody mistakes it for a whole one.
    """

    kind: ClassVar[str] = MediaType.JSON

    def __init__(self, first: str, rest: AsyncGenerator[str, None] | None, stream: Stream | None) -> None:
        super().__init__(first, media_type=self.kind)  # type: ignore[arg-type]  # encoded already
        self._rest = rest
        self._stream = stream

    @classmethod
    async def begin(cls, content: object, request: Request[Caller, Any, Any]) -> Self:
        """Encode ``content`` until it is clear whether it is long; only then it is a stream.

        ``content`` is anything that JSON has, in which a dict can have ``AsyncIterator`` as values, and these yield
        lists of items, which become one array. A value can also be a function, which is called when all before it is
        encoded. An error in the first piece is raised.
        """
        return await cls._begin(json_pieces(content), request)

    @classmethod
    async def _begin(cls, pieces: AsyncGenerator[str, None], request: Request[Caller, Any, Any]) -> Self:
        first = await anext(pieces, "")
        second = await anext(pieces, None)
        if second is None:
            return cls(first, None, None)
        with open_stream(request) as stream:
            return cls(first + second, pieces, stream)

    def render(self, content: Any, *_: Any, **__: Any) -> bytes:  # noqa: ANN401 - Litestar's signature
        """Return what is encoded already."""
        encoded: bytes = content.encode()
        return encoded

    def to_asgi_response(self, app: None, request: Request[Any, Any, Any], **options: Any) -> ASGIResponse:  # type: ignore[override]
        """The ASGI response."""
        if self._rest is None or self._stream is None:
            return super().to_asgi_response(app, request, **options)
        first, self.content = str(self.content), ""  # type: ignore[assignment]
        return _Streaming(first, self._rest, self._stream, media_type=self.media_type)


class JSONLines(LongJSON[T]):
    """Lines of JSON (NDJSON), sent as they are read. ``T`` is the Struct of each line. Create it with ``begin``.

    The last line, too, ends with a line break: a line without one was cut.
    """

    kind = NDJSON

    @classmethod
    async def begin(cls, content: AsyncIterator[list[Any]], request: Request[Caller, Any, Any]) -> Self:  # type: ignore[override]
        """Encode ``content``, which yields lists of Structs. An error in the first piece is raised."""
        return await cls._begin(_joined(_lines(content)), request)


async def _lines(pages: AsyncIterator[list[Any]]) -> AsyncIterator[str]:
    encoder = msgspec.json.Encoder()
    async for page in pages:
        text = encoder.encode_lines(page).decode()
        page.clear()
        yield text


class Download(Response[bytes]):
    """A file that is written as it is read, and sent as an attachment. Create it with ``begin``.

    After an error in mid-stream the response has no closing chunk, so that nobody mistakes it for a whole one.
    """

    def __init__(
        self,
        first: str | bytes,
        rest: AsyncGenerator[str | bytes, None],
        stream: Stream,
        media_type: str,
        file_name: str,
    ) -> None:
        super().__init__(b"", media_type=media_type)
        self._first = first
        self._rest = rest
        self._stream = stream
        self._disposition = f'attachment; filename="{file_name}"'

    @classmethod
    async def begin(
        cls,
        pieces: AsyncGenerator[str | bytes, None],
        request: Request[Caller, Any, Any],
        media_type: str,
        file_name: str,
    ) -> Self:
        """Wait for the first piece, and stream from there. An error in the first piece is raised.

        ``file_name`` is in ASCII, without quotation marks.
        """
        with open_stream(request) as stream:
            return cls(await anext(pieces, ""), pieces, stream, media_type, file_name)

    def to_asgi_response(self, app: None, request: Request[Any, Any, Any], **_: Any) -> ASGIResponse:  # type: ignore[override]
        """The ASGI response. Settings of routes and routers do not apply to it."""
        del app, request
        headers = {"Content-Disposition": self._disposition}
        return _Streaming(self._first, self._rest, self._stream, media_type=self.media_type, headers=headers)


def open_stream(request: Request[Caller, Any, Any], *, asking: bool = False) -> Stream:
    """Count one more response that the caller reads, or raise TooManyStreams; see ``OpenStream``.

    The use case is in the application's state: for a second dependency, Litestar would start a group of tasks for each
    request.
    """
    stream: Stream = request.app.state.open_stream(request.user, asking=asking)
    return stream


async def as_pages(struct: type[S], entities: AsyncIterator[list[Any]]) -> AsyncIterator[list[S]]:
    """The pages of entities, each entity as this Struct."""
    async for page in entities:
        converted = msgspec.convert(page, list[struct], from_attributes=True)  # type: ignore[valid-type]
        page.clear()  # the reader would hold it while the client reads
        yield converted


async def tool_call_pages(calls: AsyncIterator[list[ToolCall]]) -> AsyncIterator[list[ToolCallRecord]]:
    """The pages of calls as clients get them."""
    async for page in calls:
        converted = [ToolCallRecord.of(call) for call in page]
        page.clear()
        yield converted


def json_pieces(content: object) -> AsyncGenerator[str, None]:
    """What ``LongJSON.begin`` is given as JSON, in pieces as it is read."""
    return _joined(_encoded(content))


async def _encoded(content: object) -> AsyncIterator[str]:
    if isinstance(content, dict):
        before = "{"
        for name, value in content.items():
            yield f'{before}"{name}":'
            before = ","
            async for piece in _encoded(value):
                yield piece
        yield "}"
    elif isinstance(content, AsyncIterator):
        async for piece in _array(content):
            yield piece
    elif callable(content):
        async for piece in _encoded(content()):
            yield piece
    else:
        yield msgspec.json.encode(content).decode()


async def _array(pages: AsyncIterator[list[Any]]) -> AsyncIterator[str]:
    before = "["
    async for page in pages:
        if not isinstance(page[0], dict):
            text = [before + str(memoryview(msgspec.json.encode(page))[1:-1], "utf-8")]
            before = ","
            page.clear()  # nothing long is held twice while the client reads
            yield text.pop()
            continue
        for item in page:
            yield before
            before = ","
            async for piece in _encoded(item):
                yield piece
    yield "[]" if before == "[" else "]"


async def _joined(pieces: AsyncIterator[str]) -> AsyncGenerator[str, None]:
    """The same text in pieces of ``MAX_PIECE_LENGTH``, and a shorter one where it would be waste to join more."""
    held, length = [], 0
    async for piece in pieces:
        held.append(piece)
        length += len(piece)
        if length >= MAX_PIECE_LENGTH:
            text, piece, length = "".join(held), "", 0  # noqa: PLW2901 - nothing long is held while the client reads
            held.clear()
            for start in range(0, len(text), MAX_PIECE_LENGTH):
                yield text[start : start + MAX_PIECE_LENGTH]
            del text
    if held:
        yield "".join(held)


def accepts_events(request: Request[Any, Any, Any]) -> bool:
    """Whether the client prefers an answer as server-sent events to plain text (RFC 9110, 12.5.1).

    The greater weight decides, then the more specific media range, then the order. A client that wants neither is sent
    plain text.
    """
    accept = _QUOTED.sub("", ",".join(request.headers.getall("accept", []))).lower()
    return _preference(accept, EVENTS) > _preference(accept, MediaType.TEXT.value)


_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"?')
_WEIGHT = re.compile(r"\s*q\s*=\s*([0-9]*\.?[0-9]+|[0-9]+\.)\s*", re.ASCII)
_NOT_ACCEPTABLE = (0.0, 0, 0)


def _preference(accept: str, media_type: str) -> tuple[float, int, int]:
    """Weight, specificity and place of the most specific range that this media type is in."""
    specificity_of = {media_type: 3, f"{media_type.partition('/')[0]}/*": 2, "*/*": 1, "*": 1}
    found = _NOT_ACCEPTABLE
    for place, each in enumerate(accept.split(",")):
        name, *parameters = each.split(";")
        specificity = specificity_of.get(name.strip(), 0)
        if specificity > found[1]:
            weights = (_WEIGHT.fullmatch(parameter) for parameter in parameters)
            weight = next((float(weight[1]) for weight in weights if weight), 1.0)
            found = (min(weight, 1.0), specificity, -place)
    return found if found[0] else _NOT_ACCEPTABLE


class AnswerStream(Response[str]):
    """An answer, streamed as it arrives: as plain text, or as server-sent events if the client accepts them.

    Plain text ends with the closing chunk only if the answer is complete; a response without it tells the client that
    the answer was cut (R23). Events end with ``end`` or ``error``. Create it with ``begin``.
    """

    description: ClassVar = (
        "The answer's text as it arrives. As plain text the body has its closing chunk only if the answer is complete:"
        " a response without it was cut. With `Accept: text/event-stream` it is a stream of events:"
        ' `delta` (`{"text"}`, with the offset after it as id), `thinking` (`{"text"}`) while the model thinks,'
        ' `tool` (`{"call_id", "tool", "state", "arguments", "result"}`, with the offset of the call as id), and'
        ' `end` (`{"state", "finish_reason", "usage"}`) or `error` (a problem).'
    )
    example_events: ClassVar = (
        'event: delta\nid: 24\ndata: {"text":"AI is applied in genomic"}\n\n'
        ": still here\n\n"
        'event: tool\nid: 24\ndata: {"call_id":41,"tool":"gc_content","state":"running",'
        '"arguments":{"sequence":"ACGT"},"result":null}\n\n'
        'event: delta\nid: 49\ndata: {"text":"s to variant calling, ..."}\n\n'
        'event: end\ndata: {"state":"complete","finish_reason":"stop",'
        '"usage":{"prompt_tokens":42,"completion_tokens":11}}\n\n'
    )
    """Both for the OpenAPI document."""

    def __init__(
        self,
        answer: Followable,
        first: str,
        pieces: AsyncGenerator[str, None],
        leave: "Leave",
        stream: Stream,
        watching: asyncio.Task[None],
        form: "EventForm | None",
    ) -> None:
        media_type = EVENTS if form else MediaType.TEXT
        super().__init__("", media_type=media_type, headers={**headers_of(answer), **UNBUFFERED})
        self._answer = answer
        self._first = first
        self._pieces = pieces
        self._leave = leave
        self._stream = stream
        self._watching = watching
        self._form = form

    @classmethod
    async def begin(
        cls, request: Request[Any, Any, Any], answer: Followable, offset: int, stream: Stream, *, asking: bool = False
    ) -> "AnswerStream":
        """Wait for the first text, so that an earlier failure becomes an error response, and stream from there.

        Events begin with the first thinking or call if that comes first. ``asking`` says whether the answer is left if
        the client disconnects before it has ended; see ``LeaveAnswer``. The response closes ``stream``.
        """
        leave: Leave = request.app.state.leave_answer if asking else _stay
        if accepts_events(request):
            return await cls._begin(request, answer, _events(answer, offset), leave, stream, _FORM)
        return await cls._begin(request, answer, answer.follow(offset), leave, stream, None)

    @classmethod
    async def begin_events(
        cls,
        request: Request[Any, Any, Any],
        answer: Followable,
        events: AsyncGenerator[str, None],
        form: "EventForm",
        stream: Stream,
    ) -> "AnswerStream":
        """As ``begin`` for a client that is asking, with events of another form."""
        return await cls._begin(request, answer, events, request.app.state.leave_answer, stream, form)

    @classmethod
    async def _begin(
        cls,
        request: Request[Any, Any, Any],
        answer: Followable,
        pieces: AsyncGenerator[str, None],
        leave: "Leave",
        stream: Stream,
        form: "EventForm | None",
    ) -> "AnswerStream":
        waits = not (is_head(request) and answer.answer.state is AnswerState.RUNNING)
        watching = asyncio.create_task(_disconnected(request.receive))
        try:
            first = await _first(anext(pieces, ""), watching, partial(leave, answer), stream) if waits else ""
        except BaseException:
            watching.cancel()
            _abandon(answer, leave)
            raise
        return cls(answer, first, pieces, leave, stream, watching, form)

    def to_asgi_response(self, app: None, request: Request[Any, Any, Any], **_: Any) -> ASGIResponse:  # type: ignore[override]
        """The ASGI response. Settings of routes and routers do not apply to it."""
        del app, request
        return _Streaming(
            self._first,
            self._pieces,
            self._stream,
            self._watching,
            partial(self._leave, self._answer),
            partial(_abandon, self._answer, self._leave),
            form=self._form,
            headers=self.headers,
            media_type=self.media_type,
        )


Leave = Callable[[Followable], None]


@dataclass(frozen=True, slots=True)
class EventForm:
    """What a stream of events needs besides its events: the one of an error from outside, and the sign of life."""

    error_event: Callable[[BaioError], str]
    heartbeat: str = ": still here\n\n"


def headers_of(answer: Followable) -> dict[str, str]:
    """The headers that say which answer of which conversation it is, and none for one in no conversation."""
    record = answer.answer
    if not record.stored:
        return {}
    return {"X-Answer-ID": str(record.id), "X-Conversation-ID": str(record.conversation_id)}


async def whole_answer(request: Request[Any, Any, Any], answer: Followable, said: Awaitable[T], stream: Stream) -> T:
    """Wait for the whole answer, for a client that is asking, and close ``stream``."""
    leave: Leave = request.app.state.leave_answer
    watching = asyncio.create_task(_disconnected(request.receive))
    try:
        return await _first(said, watching, partial(leave, answer), stream)
    finally:
        watching.cancel()
        _abandon(answer, leave)
        stream.close()


def _abandon(answer: Followable, leave: Leave) -> None:
    """A response has ended, for whatever reason. Nobody else can read an answer in no conversation."""
    if not answer.answer.stored:
        leave(answer)


def _stay(_: Followable) -> None:
    """Do nothing: a client that only follows an answer does not end it by leaving."""


async def _first(first: Awaitable[T], watching: asyncio.Task[None], leave: Callable[[], object], stream: Stream) -> T:
    """Wait for the first item. If the client disconnects first, call ``leave`` and keep waiting.

    Raises the error of the stream if the client's session ends first.
    """
    waiting = asyncio.current_task()
    assert waiting is not None  # noqa: S101 - tells the type checker
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = waiting.cancel()

    def gone(_: object) -> None:
        leave()

    watching.add_done_callback(gone)
    stream.when_over(interrupt)
    try:
        return await first
    except asyncio.CancelledError:
        if stream.error is None or not interrupted or waiting.uncancel():
            raise  # cancelled from outside
        raise stream.error from None
    finally:
        stream.when_over(None)
        watching.remove_done_callback(gone)


async def _events(answer: Followable, offset: int) -> AsyncGenerator[str, None]:
    """The events from this character on. The error of an answer that is cut before the first of them is raised."""
    begun, held = False, ""
    try:
        async for item in answer.follow_events(offset):
            if isinstance(item, str):
                offset += len(item)
                event = _event("delta", Delta(item), offset)
            elif isinstance(item, Thinking):
                event = _event("thinking", Thoughts(item.text))
            else:
                event = _event("tool", ToolProgress.of(item), item.offset)
                if item.offset != offset:
                    # Some clients resume from any id: this one is followed at once by the id of the text behind it.
                    held += event
                    continue
            if held and not isinstance(item, Thinking):
                event, held = held + event, ""
            yield event
            begun = True
    except BaioError as error:
        if not begun:
            raise
        yield held + _error_event(error)
        return
    outcome = answer.outcome
    if outcome is not None:
        usage = UsageInfo(outcome.usage.prompt_tokens, outcome.usage.completion_tokens) if outcome.usage else None
        yield held + _event("end", End(outcome.state, outcome.finish_reason, usage))


def _event(name: str, data: msgspec.Struct, offset: int | None = None) -> str:
    number = "" if offset is None else f"id: {offset}\n"
    return f"event: {name}\n{number}data: {event_json(data)}\n\n"


def event_json(data: object) -> str:
    """This as JSON in one line, whatever a client takes for the end of a line."""
    text = msgspec.json.encode(data).decode()
    if not text.isascii():
        # To many clients these end a line, as in Python's str.splitlines. JSON has escaped all others.
        text = text.replace("\x85", "\\u0085").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return text


def _error_event(error: BaioError) -> str:
    return _event("error", problem_of(error))


_FORM = EventForm(_error_event)


class _Streaming(ASGIResponse):
    __slots__ = (
        "_end", "_first", "_form", "_leave", "_pieces", "_send_piece", "_sent_at", "_stream", "_watching",
    )  # fmt: skip

    _should_set_content_length = False

    def __init__(
        self,
        first: str | bytes,
        pieces: AsyncGenerator[str, None] | AsyncGenerator[str | bytes, None],
        stream: Stream,
        watching: asyncio.Task[None] | None = None,
        leave: Callable[[], object] = lambda: None,
        end: Callable[[], object] = lambda: None,
        *,
        form: EventForm | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._first = first
        self._pieces = pieces
        self._stream = stream
        self._leave = leave
        self._end = end
        self._form = form
        self._sent_at = 0.0
        self._watching = watching

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, and close the stream whatever happens."""
        self._send_piece = direct_send(scope)
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._end()
            self._stream.close()

    async def send_body(self, send: Send, receive: Receive) -> None:
        """Send each piece at once, until all is sent or cut, the client disconnects, or its session ends."""
        # A task of its own streams: to resume the request's task with each piece, Python would enter every layer of the
        # application. One more task watches for the disconnect. It and the end of the session cancel the first.
        watching = self._watching or asyncio.create_task(_disconnected(receive))
        streaming = asyncio.create_task(self._send_pieces(send))
        interrupted = False

        def interrupt() -> None:
            nonlocal interrupted
            interrupted = streaming.cancel() or interrupted

        def gone(_: object) -> None:
            self._leave()
            interrupt()

        watching.add_done_callback(gone)
        beating = asyncio.create_task(self._beat(self._form.heartbeat)) if self._form else None
        self._stream.when_over(interrupt)
        try:
            await streaming
        except asyncio.CancelledError:
            request = asyncio.current_task()
            if not interrupted or (request is not None and request.cancelling()):
                raise  # cancelled from outside
            if self._form and self._stream.error is not None:
                await send(_body(self._form.error_event(self._stream.error), more=False))
        finally:
            watching.remove_done_callback(gone)
            watching.cancel()
            if beating is not None:
                beating.cancel()

    async def _send_pieces(self, send: Send) -> None:
        loop, send_piece = asyncio.get_running_loop(), self._send_piece
        self._sent_at = loop.time()
        if self._first:
            await send_piece(_body(self._first))
            self._first = ""
        try:
            async for piece in self._pieces:
                self._sent_at = loop.time()
                await send_piece(_body(piece))
        except BaioError:
            return  # without the closing chunk; the reason is in the answer's record and in the log
        await send(_body("", more=False))

    async def _beat(self, heartbeat: str) -> None:
        loop = asyncio.get_running_loop()
        self._sent_at = loop.time()
        while True:
            await asyncio.sleep(self._sent_at + HEARTBEAT_SECONDS - loop.time())
            if loop.time() >= self._sent_at + HEARTBEAT_SECONDS:
                self._sent_at = loop.time()
                await self._send_piece(_body(heartbeat))


def _body(piece: str | bytes, *, more: bool = True) -> Message:
    body = piece.encode() if isinstance(piece, str) else piece
    return {"type": "http.response.body", "body": body, "more_body": more}


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
