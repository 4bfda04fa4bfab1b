"""Responses that Litestar has no class for: a JSON string, and an answer that streams."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.enums import MediaType
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Send

from baio_domain.answering import LiveAnswer
from baio_domain.errors import BaioError


class JSONString(Response[str]):
    """A text as a JSON string; Litestar would send it unquoted."""

    def __init__(self, content: str) -> None:
        super().__init__(content, media_type=MediaType.JSON)

    def render(self, content: Any, *_: Any, **__: Any) -> bytes:  # noqa: ANN401 - Litestar's signature
        """Quote it."""
        return msgspec.json.encode(content)


class AnswerStream(Response[str]):
    """An answer's text as it arrives.

    The body ends properly only when the answer did: a cut answer leaves the response without its closing chunk, so
    that a client can tell one from the other (R23). Nothing on the way may buffer or keep it.
    """

    def __init__(self, answer: LiveAnswer) -> None:
        super().__init__(
            "",
            media_type=MediaType.TEXT,
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self.answer = answer

    def to_asgi_response(self, app: None, request: Request[Any, Any, Any], **_: Any) -> ASGIResponse:  # type: ignore[override]
        """The response that the server calls; there is nothing in it that a route or a router could set."""
        del app, request
        return _Streaming(self.answer.follow(), headers=self.headers, media_type=self.media_type)


class _Streaming(ASGIResponse):
    __slots__ = ("_texts",)

    _should_set_content_length = False

    def __init__(self, texts: AsyncGenerator[str, None], **options: Any) -> None:
        super().__init__(**options)
        self._texts = texts

    async def send_body(self, send: Send, receive: Receive) -> None:
        """Send each text at once, until the end, the cut, or the client's leaving."""
        streaming = asyncio.ensure_future(self._stream(send))
        leaving = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({streaming, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not streaming.done():
                streaming.cancel()
        await asyncio.gather(streaming, leaving, return_exceptions=True)
        if streaming.done() and not streaming.cancelled():
            streaming.result()

    async def _stream(self, send: Send) -> None:
        try:
            async for text in self._texts:
                await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
        except BaioError:
            return  # without the closing chunk; why is in the answer's record and in the log
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
