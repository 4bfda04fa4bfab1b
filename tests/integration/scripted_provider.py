"""A provider of OpenAI's and Anthropic's protocols on a real socket that says what it is told to, faults included.

    with ScriptedProvider() as provider:
        provider.script(answer("Three ", "nucleotides."), refuse(429, retry_after=7))
        ...  # the next request gets the first behaviour, the one after it the second, later ones an ordinary answer

A behaviour is an asynchronous function of one exchange; the functions below make them. Texts, ends and errors are said
in the protocol of the request; what is written out below as an event is OpenAI's. What waits here waits in the calling
thread: an asynchronous test does so with ``asyncio.to_thread``.
"""

import asyncio
import contextlib
import functools
import itertools
import json
import socket
import ssl
import struct
import threading
import time
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Self

MAX_EXCHANGE_SECONDS = 1800.0
"""Seconds after which an exchange that never ends does."""

MAX_CHUNKS = 200_000


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked. Header names are in lower case; ``body`` is the parsed JSON, None where there is none."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    arrived_at: float


class Closed(NamedTuple):
    """How an exchange was left: so many seconds after the request arrived, so many chunks into the body."""

    seconds: float
    chunks: int


@dataclass(slots=True)
class Exchange:
    """One request and the response under way. ``left`` is set as soon as the client closes or resets the connection."""

    request: Request
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    chunks: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)
    left_at: float | None = None
    stays_open: bool = True
    extra_headers: tuple[tuple[str, str], ...] = field(default=())

    async def head(self, status: int = 200, content_type: str = "text/event-stream", **headers: str) -> None:
        """Send the status and the headers of a chunked response."""
        lines = [f"HTTP/1.1 {status} Status", f"content-type: {content_type}", "transfer-encoding: chunked"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in (*headers.items(), *self.extra_headers)]
        await self.send("\r\n".join([*lines, "", ""]).encode())

    async def chunk(self, data: bytes) -> None:
        """Send one chunk of the body."""
        self.chunks += 1
        if self.chunks > MAX_CHUNKS:
            raise ConnectionResetError("enough")
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def event(self, data: object) -> None:
        """Send one event."""
        await self.chunk(framed(data))

    @property
    def speaks_anthropic(self) -> bool:
        """Whether the request was made in Anthropic's protocol."""
        return self.request.path == "/v1/messages"

    async def text(self, content: str | None) -> None:
        """Send one piece of an answer."""
        if self.speaks_anthropic:
            await self._begin_message()
            await self.event(text_delta(content))
        else:
            await self.event(delta(content=content))

    async def think(self, thought: str) -> None:
        """Send a piece of what a model thinks."""
        if self.speaks_anthropic:
            await self._begin_message()
            await self.event(thinking_delta(thought))
        else:
            await self.event(delta(reasoning_content=thought))

    async def call(self, place: int, name: str, arguments: str) -> None:
        """Send a call of a tool, its arguments in pieces."""
        pieces = [arguments[start : start + 5] for start in range(0, len(arguments), 5)]
        if self.speaks_anthropic:
            await self._begin_message()
            use: dict[str, Any] = {"type": "tool_use", "id": f"toolu_{place}", "name": name, "input": {}}
            await self.event({**block_start(place + 1), "content_block": use})
            for piece in pieces:
                arrived = {"type": "input_json_delta", "partial_json": piece}
                await self.event({"type": "content_block_delta", "index": place + 1, "delta": arrived})
            await self.event(block_stop(place + 1))
            return
        fragments: list[dict[str, Any]] = [{"function": {"arguments": piece}} for piece in pieces]
        begun = {"id": f"call_{place}", "type": "function", "function": {"name": name, "arguments": ""}}
        for fragment in (begun, *fragments):
            await self.event(delta(content=None, tool_calls=[{"index": place, **fragment}]))

    async def finish(self, reason: str = "stop") -> None:
        """Send the finish reason, the usage (OpenAI's where it was asked for), the last event, and the body's end."""
        if self.speaks_anthropic:
            await self._begin_message()
            for event in (block_stop(), message_delta(reason), {"type": "message_stop"}):
                await self.event(event)
            await self.end()
            return
        await self.event({**delta(), "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        if (self.request.body or {}).get("stream_options", {}).get("include_usage"):
            usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
            await self.event({**delta(), "choices": [], "usage": usage})
        await self.chunk(b"data: [DONE]\n\n")
        await self.end()

    async def _begin_message(self) -> None:
        if self.chunks == 0:
            for event in (message_start(), block_start(), {"type": "ping"}):
                await self.event(event)

    async def end(self) -> None:
        """End the body properly."""
        await self.send(b"0\r\n\r\n")

    async def send(self, data: bytes) -> None:
        """Send bytes, and wait until they are out."""
        self.writer.write(data)
        await self.writer.drain()

    async def wait_for(self, gate: threading.Event) -> None:
        """Wait until the gate is open, however long a busy machine takes to open it."""
        while not gate.is_set():  # a thread's event can't be awaited, and a thread that did would outlive the client
            await self.pause(0.01)

    async def pause(self, seconds: float) -> None:
        """Wait so long; if the client leaves meanwhile, the exchange is over at once."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.left.wait()
        if self.left.is_set():
            raise ConnectionResetError("the client has left")

    async def hang(self) -> None:
        """Do nothing until the client leaves."""
        await self.left.wait()
        self.stays_open = False

    def reset(self) -> None:
        """Break the connection with a TCP reset."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        self.stays_open = False

    def cut(self) -> None:
        """Close the connection in the middle of the body."""
        self.writer.close()
        self.stays_open = False


Behaviour = Callable[[Exchange], Awaitable[None]]


def delta(**content: object) -> dict[str, Any]:
    """The event of a piece of an answer."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "scripted-2024",
        "choices": [{"index": 0, "delta": content, "finish_reason": None}],
    }


def framed(data: object) -> bytes:
    """An event as it is sent; one with a type, as all of Anthropic's have, is named by it."""
    name = f"event: {data['type']}\n" if isinstance(data, dict) and "type" in data else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


def message_start(**usage: int) -> dict[str, Any]:
    """Anthropic's first event."""
    usage = {"input_tokens": 11, "output_tokens": 1, **usage}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "scripted-2024"}
    return {"type": "message_start", "message": {**message, "stop_reason": None, "usage": usage}}


def block_start(index: int = 0, **block: str) -> dict[str, Any]:
    """Anthropic's event at the beginning of a block, of text unless it is another."""
    return {"type": "content_block_start", "index": index, "content_block": block or {"type": "text", "text": ""}}


def text_delta(text: str | None, index: int = 0) -> dict[str, Any]:
    """Anthropic's event of a piece of an answer."""
    return {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}


def thinking_delta(thinking: str, index: int = 0) -> dict[str, Any]:
    """Anthropic's event of a piece of what the model thinks."""
    return {"type": "content_block_delta", "index": index, "delta": {"type": "thinking_delta", "thinking": thinking}}


def block_stop(index: int = 0) -> dict[str, Any]:
    """Anthropic's event at the end of a block."""
    return {"type": "content_block_stop", "index": index}


def message_delta(reason: str, **usage: int) -> dict[str, Any]:
    """Anthropic's event of a finished answer."""
    reason = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}.get(reason, reason)
    usage = {"output_tokens": 7, **usage}
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}


class ScriptedProvider:
    """The provider, in a thread of its own. ``requests`` and ``exchanges`` have what has happened, in order.

    ``models`` is what ``GET /v1/models`` gets. With ``tls``, it speaks HTTPS.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.requests: list[Request] = []
        self.exchanges: list[Exchange] = []
        self.base_url = ""
        self.models: Behaviour = models()
        self._scripts: deque[Behaviour] = deque()
        self._always: Behaviour = answer("A codon is ", "three nucleotides", ".")
        self._loop = asyncio.new_event_loop()
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def script(self, *behaviours: Behaviour) -> None:
        """Queue what the next requests get, one each."""
        with self._changed:
            self._scripts.extend(behaviours)

    def always(self, behaviour: Behaviour) -> None:
        """What a request gets when nothing is queued."""
        self._always = behaviour

    def forget(self) -> None:
        """Forget what has happened and what is queued."""
        with self._changed:
            self._scripts.clear()
            self.models = models()
            self.requests.clear()
            self.exchanges.clear()

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._connections)

    def wait_for_requests(self, count: int, seconds: float = 60) -> None:
        """Wait until so many requests have come since the last ``forget``, or raise TimeoutError."""
        self._wait_until(lambda: len(self.requests) >= count, seconds)

    def wait_until_left(self, index: int = -1, seconds: float = 60) -> float:
        """Wait until the client has left an exchange; when, by ``time.monotonic``. TimeoutError if it stays."""
        exchange = self.exchanges[index]
        self._wait_until(lambda: exchange.left_at is not None, seconds)
        return exchange.left_at or 0.0

    def wait_closed(self, seconds: float = 10, index: int = -1) -> Closed:
        """Wait until the client has left an exchange before its end; how far it was. TimeoutError if it stays."""
        exchange = self.exchanges[index]
        left_at = self.wait_until_left(index, seconds)
        return Closed(left_at - exchange.request.arrived_at, exchange.chunks)

    def _wait_until(self, true: Callable[[], bool], seconds: float) -> None:
        with self._changed:
            if not self._changed.wait_for(true, seconds):
                raise TimeoutError

    def __enter__(self) -> Self:
        self._thread.start()
        self._wait_until(lambda: bool(self.base_url), 10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, ssl=self._tls)
        )
        with self._changed:
            self.base_url = f"{'https' if self._tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            self._changed.notify_all()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(asyncio.gather(*self._connections, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _stop(self) -> None:
        for connection, writer in self._connections.items():
            connection.cancel()
            writer.transport.abort()  # a close would wait for a client that does not read
        self._loop.stop()

    def _begin(self, exchange: Exchange) -> Behaviour:
        """Note an exchange; what to do in it."""
        with self._changed:
            self.requests.append(exchange.request)
            self.exchanges.append(exchange)
            self._changed.notify_all()
            match exchange.request.method, exchange.request.path:
                case "POST", "/v1/chat/completions" | "/v1/messages":
                    return self._scripts.popleft() if self._scripts else self._always
                case "GET", path if path.partition("?")[0] == "/v1/models":
                    return self.models
                case _:
                    return refuse(404)

    def _note_left(self, exchange: Exchange) -> None:
        """Note that an exchange was left."""
        with self._changed:
            exchange.left.set()
            exchange.left_at = exchange.left_at or time.monotonic()
            self._changed.notify_all()

    async def _serve(
        self, connection: "_Connection", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer the requests of one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while (request := await _read_request(reader)) is not None:
                exchange = connection.exchange = Exchange(request, reader, writer)
                behaviour = self._begin(exchange)
                try:
                    async with asyncio.timeout(MAX_EXCHANGE_SECONDS):
                        await behaviour(exchange)
                finally:
                    if not exchange.stays_open or writer.is_closing():
                        self._note_left(exchange)
                connection.exchange = None
                if not exchange.stays_open:
                    return
        except (OSError, EOFError, TimeoutError):
            pass  # the client has left, or the exchange took too long
        except asyncio.CancelledError:
            pass  # the provider is being stopped
        finally:
            del self._connections[task]
            writer.close()


class _Connection(asyncio.StreamReaderProtocol):
    """A connection that notices at once that the client leaves, whatever the behaviour waits for."""

    def __init__(self, provider: ScriptedProvider) -> None:
        super().__init__(asyncio.StreamReader(limit=2**24), functools.partial(provider._serve, self))
        self.exchange: Exchange | None = None
        self._provider = provider

    def eof_received(self) -> bool | None:
        self._note()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._note()
        super().connection_lost(exc)

    def _note(self) -> None:
        if self.exchange is not None:
            self._provider._note_left(self.exchange)


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, json.loads(body) if body else None, time.monotonic())


# -- Answers -----------------------------------------------------------------------------------------------------------


def answer(*texts: str, delay: float = 0.0, finish: str = "stop") -> Behaviour:
    """Send these texts, so many seconds apart, and finish.

    What is not ASCII is escaped in the JSON, so a text may be half a surrogate pair or hold a NUL.
    """

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        for number, text in enumerate(texts):
            if number and delay:
                await exchange.pause(delay)
            await exchange.text(text)
        await exchange.finish(finish)

    return behave


def thoughtful(thoughts: Iterable[str], *texts: str, delay: float = 0.0) -> Behaviour:
    """Send these thoughts, so many seconds apart, then these texts, and finish."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        for thought in thoughts:
            await exchange.think(thought)
            await exchange.pause(delay)
        for text in texts:
            await exchange.text(text)
        await exchange.finish()

    return behave


def call_tools(
    calls: Iterable[tuple[str, str]], *texts: str, reason: str = "tool_calls", cut: bool = False
) -> Behaviour:
    """Send these texts, then calls of tools, and finish unless the stream is cut."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        for text in texts:
            await exchange.text(text)
        for place, (name, arguments) in enumerate(calls):
            await exchange.call(place, name, arguments)
        await (exchange.end() if cut else exchange.finish(reason))

    return behave


def gated(gate: threading.Event, before: tuple[str, ...], after: tuple[str, ...]) -> Behaviour:
    """Send some texts, wait until the gate is open, and send the others."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        for text in before:
            await exchange.text(text)
        await exchange.wait_for(gate)
        for text in after:
            await exchange.text(text)
        await exchange.finish()

    return behave


def echo() -> Behaviour:
    """Answer with the key that was sent and the last question: who asked what is in the answer."""

    async def behave(exchange: Exchange) -> None:
        question = exchange.request.body["messages"][-1]["content"]
        await answer(exchange.request.headers["authorization"].removeprefix("Bearer "), " ", question)(exchange)

    return behave


def with_cookie(behaviour: Behaviour, cookie: str) -> Behaviour:
    """Set a cookie, and behave."""

    async def behave(exchange: Exchange) -> None:
        exchange.extra_headers = (("set-cookie", cookie),)
        await behaviour(exchange)

    return behave


def encoded(behaviour: Behaviour, encoding: str) -> Behaviour:
    """Behave, and name this Content-Encoding."""

    async def behave(exchange: Exchange) -> None:
        exchange.extra_headers = (("content-encoding", encoding),)
        await behaviour(exchange)

    return behave


# -- Faults ------------------------------------------------------------------------------------------------------------


def silence() -> Behaviour:
    """Accept the request and say nothing."""
    return Exchange.hang


def hang_after(*texts: str) -> Behaviour:
    """Send these texts, and then nothing."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        for text in texts:
            await exchange.text(text)
        await exchange.hang()

    return behave


def keep_alives(*texts: str) -> Behaviour:
    """Send these texts, and then comments for ever."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        for text in texts:
            await exchange.text(text)
        while True:
            await exchange.chunk(b": ping\n\n")
            await exchange.pause(0.02)

    return behave


def dribble(text: str, delay: float = 0.005) -> Behaviour:
    """Send an ordinary answer one byte at a time."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        whole = b"data: " + json.dumps(delta(content=text), ensure_ascii=False).encode() + b"\n\n"
        for byte in whole:
            await exchange.chunk(bytes([byte]))
            await exchange.pause(delay)
        await exchange.finish()

    return behave


def endless(text: str = "more ", delay: float = 0.01) -> Behaviour:
    """Never end."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        while True:
            await exchange.text(text)
            await exchange.pause(delay)

    return behave


def reset_after(*texts: str) -> Behaviour:
    """Send these texts, and reset the connection; without any, before the response begins."""

    async def behave(exchange: Exchange) -> None:
        if texts:
            await exchange.head()
        for text in texts:
            await exchange.text(text)
        await exchange.pause(0.05)  # a reset overtakes what was sent just before it
        exchange.reset()

    return behave


def cut_after(*texts: str) -> Behaviour:
    """Send these texts, and close the connection without the end of the body."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        for text in texts:
            await exchange.text(text)
        exchange.cut()

    return behave


def unfinished(*texts: str, done: bool = False) -> Behaviour:
    """Send these texts and end the body properly, without a finish reason."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        for text in texts:
            await exchange.text(text)
        if done:
            await exchange.chunk(b"data: [DONE]\n\n")
        await exchange.end()

    return behave


def raw(*chunks: bytes, content_type: str = "text/event-stream") -> Behaviour:
    """Send these bytes as they are, a chunk each, and end the body."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head(content_type=content_type)
        for chunk in chunks:
            await exchange.chunk(chunk)
            await exchange.pause(0.01)  # so that each is read by itself
        await exchange.end()

    return behave


def events(*data: object) -> Behaviour:
    """Send these events, and end the body."""
    return raw(*(framed(each) for each in data))


def finished(reason: str = "stop") -> dict[str, Any]:
    """The event of a finished answer."""
    return {**delta(), "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


def empty_choices(*texts: str) -> Behaviour:
    """Send these texts, each after an event without choices, and finish."""
    nothing = {**delta(), "choices": []}
    return events(*(event for text in texts for event in (nothing, delta(content=text))), nothing, finished())


def null_content(*texts: str) -> Behaviour:
    """Send these texts, each after an event whose content is null, and finish."""
    nothing = delta(role="assistant", content=None)
    return events(*(event for text in texts for event in (nothing, delta(content=text))), nothing, finished())


def two_choices(*texts: str, other: str) -> Behaviour:
    """Send each text as the first choice, in one event with another text as the second, and finish both."""

    def both(reason: str | None, **content: str) -> dict[str, Any]:
        second = {"index": 1, "delta": {"content": other}, "finish_reason": reason}
        return {**delta(), "choices": [second, {"index": 0, "delta": content, "finish_reason": reason}]}

    return events(*(both(None, content=text) for text in texts), both("stop"))


def refusal(*texts: str) -> Behaviour:
    """Refuse to answer, as OpenAI's models do, with these texts."""
    return events(*(delta(content=None, refusal=text) for text in texts), finished())


def tool_calls(*texts: str) -> Behaviour:
    """Send these texts, and call a tool that nobody offered."""
    parts = [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "blast", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"sequence": '}},
        {"index": 0, "function": {"arguments": '"ACGT"}'}},
    ]
    return events(
        *(delta(content=text) for text in texts),
        *(delta(content=None, tool_calls=[part]) for part in parts),
        finished("tool_calls"),
    )


def crlf(*texts: str) -> Behaviour:
    """Send these texts and finish, with lines that end as HTTP's do."""
    said = (*(json.dumps(delta(content=text)) for text in texts), json.dumps(finished()), "[DONE]")
    return raw(*(f"data: {each}\r\n\r\n".encode() for each in said))


def split_characters(text: str) -> Behaviour:
    """Send a text unescaped, its every byte beyond ASCII apart from the next, and finish."""
    whole = b"data: " + json.dumps(delta(content=text), ensure_ascii=False).encode() + b"\n\n"
    cuts = [0, *(index for index, byte in enumerate(whole) if byte >= 0x80), len(whole)]
    parts = [whole[start:end] for start, end in itertools.pairwise(cuts)]
    return raw(*parts, b"data: " + json.dumps(finished()).encode() + b"\n\ndata: [DONE]\n\n")


def wrong_json(*texts: str) -> Behaviour:
    """Send these texts, and then an event that is not JSON."""
    said = (*(json.dumps(delta(content=text)) for text in texts), '{"choices": [{"delta": {"content"')
    return raw(*(f"data: {each}\n\n".encode() for each in said))


def garbage() -> Behaviour:
    """Send bytes that are nothing."""
    return raw(b"\xff\xfe\x00garbage\n\n", b"data: \xff\xfe\n\n")


def html() -> Behaviour:
    """Send a page with 200."""
    return raw(b"<!DOCTYPE html><html><body>Welcome to the hotel's network</body></html>", content_type="text/html")


def error_event(*texts: str, code: str = "server_error") -> Behaviour:
    """Send these texts, and then an error as an event."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        for text in texts:
            await exchange.text(text)
            await exchange.pause(0.01)  # so that each is read by itself
        error = {"message": "provider-says-secret-things", "type": code, "code": code}
        await exchange.event({"type": "error", "error": error} if exchange.speaks_anthropic else {"error": error})
        await exchange.end()

    return behave


def huge_token(size: int = 8 * 2**20) -> Behaviour:
    """Send one text of this size."""
    return events(delta(content="A" * size), finished())


def endless_line(size: int = 64 * 2**20) -> Behaviour:
    """Send this many bytes without a line's end."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.chunk(b"data: ")
        for _ in range(size // 65_536):
            await exchange.chunk(b"A" * 65_536)
        await exchange.end()

    return behave


def gzip_bomb(size: int = 200 * 2**20) -> Behaviour:
    """Send a small compressed body that is this large inside, unasked."""

    async def behave(exchange: Exchange) -> None:
        bomb = await asyncio.to_thread(_bomb, size)  # other exchanges go on meanwhile
        await exchange.head(content_encoding="gzip")
        for start in range(0, len(bomb), 65_536):
            await exchange.chunk(bomb[start : start + 65_536])
        await exchange.end()

    return behave


@functools.cache
def _bomb(size: int) -> bytes:
    packer = zlib.compressobj(1, wbits=31)
    block = bytes(2**20)
    packed = [packer.compress(b": "), *(packer.compress(block) for _ in range(size // len(block)))]
    return b"".join([*packed, packer.compress(b"\n\n"), packer.flush()])


def redirect(location: str, status: int = 307) -> Behaviour:
    """Send the client elsewhere."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head(status, "text/plain", location=location)
        await exchange.end()

    return behave


def refuse(
    status: int,
    *,
    code: str | None = None,
    says: str = "",
    retry_after: str | float | None = None,
    page: bool = False,
) -> Behaviour:
    """Answer with an error status, as the provider words it (with the tail of the key), or with a page.

    ``code`` is OpenAI's code, or Anthropic's type.
    """

    async def behave(exchange: Exchange) -> None:
        key = exchange.request.headers.get("x-api-key") or exchange.request.headers.get("authorization", "")
        message = f"provider-says-secret-things about {key[-8:]} {says}"
        problem: dict[str, Any] = {"error": {"message": message, "type": "some_error", "param": None, "code": code}}
        if exchange.speaks_anthropic:
            problem = {"type": "error", "error": {"type": code, "message": message}, "request_id": "req_1"}
        headers = {} if retry_after is None else {"retry_after": str(retry_after)}
        await exchange.head(status, "text/html" if page else "application/json", **headers)
        await exchange.chunk(b"<html>provider-says-secret-things</html>" if page else json.dumps(problem).encode())
        await exchange.end()

    return behave


def endless_error(status: int = 500) -> Behaviour:
    """Answer with an error whose body never ends."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head(status, "application/json")
        while True:
            await exchange.chunk(b"x" * 65_536)

    return behave


def models(*ids: str, **more: object) -> Behaviour:
    """List these models, and say this of each of them."""

    async def behave(exchange: Exchange) -> None:
        listed = [
            {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "scripted", **more}
            for name in ids or ["scripted-2024"]
        ]
        await exchange.head(content_type="application/json")
        await exchange.chunk(json.dumps({"object": "list", "data": listed}).encode())
        await exchange.end()

    return behave


def whole(body: object, status: int = 200) -> Behaviour:
    """Answer with this body in one piece: as JSON, or as it is if it is text."""

    async def behave(exchange: Exchange) -> None:
        plain = isinstance(body, str)
        await exchange.head(status, "text/plain" if plain else "application/json")
        if data := str(body).encode() if plain else json.dumps(body).encode():
            await exchange.chunk(data)
        await exchange.end()

    return behave
