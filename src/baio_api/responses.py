"""Response classes that Litestar lacks: a JSON string, and an answer streamed as text or server-sent events."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, ClassVar, TypeVar

import msgspec
from litestar import Request, Response
from litestar.enums import MediaType
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Send

from baio_api.errors import problem_of
from baio_api.schemas import Delta, End, Thoughts, UsageInfo
from baio_domain.answering import Followable
from baio_domain.errors import BaioError
from baio_domain.ports import Thinking

T = TypeVar("T")

HEARTBEAT_SECONDS = 15.0
"""The longest silence of an event stream, so that no proxy closes it as idle."""

UNBUFFERED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

EVENTS = "text/event-stream"


class JSONString(Response[str]):
    """A JSON string. Litestar would send a ``str`` without quotes."""

    def __init__(self, content: str) -> None:
        super().__init__(content, media_type=MediaType.JSON)

    def render(self, content: Any, *_: Any, **__: Any) -> bytes:  # noqa: ANN401 - Litestar's signature
        """Encode as JSON."""
        return msgspec.json.encode(content)


class AnswerStream(Response[str]):
    """An answer, streamed as it arrives: as plain text, or as server-sent events if the client accepts them.

    Plain text ends with the closing chunk only if the answer is complete; a response without it tells the client that
    the answer was cut (R23). Events end with ``end`` or ``error``. Create it with ``begin``.
    """

    description: ClassVar = (
        "The answer's text as it arrives. As plain text the body has its closing chunk only if the answer is complete:"
        " a response without it was cut. With `Accept: text/event-stream` it is a stream of events:"
        ' `delta` (`{"text"}`, with the offset after it as id), `thinking` (`{"text"}`) while the model thinks, and'
        ' `end` (`{"state", "finish_reason", "usage"}`) or `error` (a problem).'
    )
    """For the OpenAPI document."""

    def __init__(
        self, answer: Followable, first: str, pieces: AsyncGenerator[str, None], media_type: str, leave: "Leave"
    ) -> None:
        headers = {"X-Answer-ID": str(answer.answer.id), **UNBUFFERED}
        super().__init__("", media_type=media_type, headers=headers)
        self._answer = answer
        self._first = first
        self._pieces = pieces
        self._leave = leave

    @classmethod
    async def begin(
        cls, request: Request[Any, Any, Any], answer: Followable, offset: int, leave: "Leave"
    ) -> "AnswerStream":
        """Wait for the first text, so that an earlier failure becomes an error response, and stream from there.

        Events begin with the first thinking if that comes first. ``leave`` is called if the client disconnects before
        the answer has ended.
        """

        def gone() -> None:
            leave(answer)

        if EVENTS not in request.headers.get("accept", "").lower():
            texts = answer.follow(offset)
            text = await _first(anext(texts, ""), request.receive, gone)
            return cls(answer, text, texts, MediaType.TEXT, leave)
        items = answer.follow_thinking(offset)
        first = await _first(anext(items, ""), request.receive, gone)
        offset += 0 if isinstance(first, Thinking) else len(first)
        return cls(answer, _event_of(first, offset) if first else "", _events(answer, items, offset), EVENTS, leave)

    def to_asgi_response(self, app: None, request: Request[Any, Any, Any], **_: Any) -> ASGIResponse:  # type: ignore[override]
        """The ASGI response. Settings of routes and routers do not apply to it."""
        del app, request
        return _Streaming(
            self._first,
            self._pieces,
            lambda: self._leave(self._answer),
            heartbeat=self.media_type == EVENTS,
            headers=self.headers,
            media_type=self.media_type,
        )


Leave = Callable[[Followable], None]


async def _first(first: Coroutine[Any, Any, T], receive: Receive, leave: Callable[[], None]) -> T:
    """Wait for the first item. If the client disconnects first, call ``leave`` and keep waiting."""
    waiting, watching = asyncio.ensure_future(first), asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({waiting, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            leave()
        return await waiting
    finally:
        waiting.cancel()
        watching.cancel()


async def _events(
    answer: Followable, items: AsyncGenerator[str | Thinking, None], offset: int
) -> AsyncGenerator[str, None]:
    try:
        async for item in items:
            if isinstance(item, str):
                offset += len(item)
            yield _event_of(item, offset)
    except BaioError as error:
        yield _event("error", problem_of(error))
        return
    outcome = answer.outcome
    if outcome is not None:
        usage = UsageInfo(outcome.usage.prompt_tokens, outcome.usage.completion_tokens) if outcome.usage else None
        yield _event("end", End(outcome.state, outcome.finish_reason, usage))


def _event_of(item: str | Thinking, offset: int) -> str:
    return _event("delta", Delta(item), offset) if isinstance(item, str) else _event("thinking", Thoughts(item.text))


def _event(name: str, data: msgspec.Struct, offset: int | None = None) -> str:
    number = "" if offset is None else f"id: {offset}\n"
    return f"event: {name}\n{number}data: {msgspec.json.encode(data).decode()}\n\n"


class _Streaming(ASGIResponse):
    __slots__ = ("_first", "_heartbeat", "_leave", "_pieces", "_sent_at")

    _should_set_content_length = False

    def __init__(
        self,
        first: str,
        pieces: AsyncGenerator[str, None],
        leave: Callable[[], None],
        *,
        heartbeat: bool,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._first = first
        self._pieces = pieces
        self._leave = leave
        self._heartbeat = heartbeat
        self._sent_at = 0.0

    async def send_body(self, send: Send, receive: Receive) -> None:
        """Send each piece at once, until the answer ends or is cut, or the client disconnects."""
        # The request's own task streams; a second task watches for the disconnect and cancels the first. A third task,
        # for the stream alone, would cost memory for every open stream.
        streaming = asyncio.current_task()
        assert streaming is not None  # noqa: S101 - tells the type checker
        watching = asyncio.ensure_future(_disconnected(receive))
        gone = False

        def stop(_: object) -> None:
            nonlocal gone
            gone = True
            self._leave()
            streaming.cancel()

        watching.add_done_callback(stop)
        beating = asyncio.ensure_future(self._beat(send)) if self._heartbeat else None
        try:
            await self._stream(send)
        except asyncio.CancelledError:
            if not gone or streaming.uncancel():
                raise  # cancelled from outside
        finally:
            watching.remove_done_callback(stop)
            watching.cancel()
            if beating is not None:
                beating.cancel()

    async def _stream(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        self._sent_at = loop.time()
        if self._first:
            await send({"type": "http.response.body", "body": self._first.encode(), "more_body": True})
        try:
            async for piece in self._pieces:
                self._sent_at = loop.time()
                await send({"type": "http.response.body", "body": piece.encode(), "more_body": True})
        except BaioError:
            return  # without the closing chunk; the reason is in the answer's record and in the log
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _beat(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        self._sent_at = loop.time()
        while True:
            await asyncio.sleep(self._sent_at + HEARTBEAT_SECONDS - loop.time())
            if loop.time() >= self._sent_at + HEARTBEAT_SECONDS:
                self._sent_at = loop.time()
                await send({"type": "http.response.body", "body": b": still here\n\n", "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
