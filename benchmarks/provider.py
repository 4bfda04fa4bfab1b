"""A provider that costs next to nothing: it streams the same precomputed answer to everybody, at a steady pace.

One ticker serves all streams; their phases are spread evenly over the interval between two chunks, so that a relay sees
one chunk at a time. With a gate, every answer waits after its first chunk until that many have begun: then all streams
are open at once, and nothing starts or ends while they are measured. Standard input takes one profile per line.
"""

import asyncio
import time
from typing import cast

import msgspec
import uvloop

from benchmarks.process import read_lines, say

SLOT_SECONDS = 0.001
"""The ticker's step: streams in the same slot get their chunks together."""


class Profile(msgspec.Struct):
    """How answers are streamed from now on; ``gate`` 0 waits for nobody."""

    chunks: int
    seconds: float
    gate: int = 0


def text_of(chunk: int) -> str:
    """The text of one chunk: about as long as a word, and different for each so that nothing can be swapped."""
    return f"{chunk:05d} "


def answer_of(chunks: int) -> str:
    """The whole text of an answer."""
    return "".join(map(text_of, range(chunks)))


_EVENT = (
    b'data: {"id":"chatcmpl-9pZxkQ2YbTq7hV3nJm5sRd8uWf0a","object":"chat.completion.chunk","created":1730000000,'
    b'"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_0ba0d124f1","choices":[%s]%s}\n\n'
)


def _event(choices: str, rest: str = "") -> bytes:
    event = _EVENT % (choices.encode(), rest.encode())
    return b"%x\r\n%s\r\n" % (len(event), event)


def _delta(delta: str, finish_reason: str = "null") -> bytes:
    return _event(f'{{"index":0,"delta":{{{delta}}},"logprobs":null,"finish_reason":{finish_reason}}}')


_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
_ROLE = _delta('"role":"assistant","content":"","refusal":null')
_END = (
    _delta("", '"stop"')
    + _event("", ',"usage":{"prompt_tokens":20,"completion_tokens":60,"total_tokens":80}')
    + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
)


class _Ticker:
    """Sends every stream its next chunk when its slot is due."""

    def __init__(self, profile: Profile) -> None:
        self.chunks = [_delta(f'"content":"{text_of(chunk)}"') for chunk in range(profile.chunks)]
        self._gate = profile.gate
        self._slots: list[set[_Stream]] = [set() for _ in range(max(1, round(profile.seconds / SLOT_SECONDS)))]
        self._begun: list[_Stream] = []
        self._count = 0
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._ticks = 0
        self._timer = self._loop.call_later(SLOT_SECONDS, self._tick)

    def add(self, stream: "_Stream") -> None:
        stream.send(_HEAD + _ROLE + self.chunks[0])
        self._begun.append(stream)
        if len(self._begun) >= self._gate:
            for begun in self._begun:
                # Neighbours in time are far apart in phase, whether there are more slots than streams or fewer.
                slot = self._count * len(self._slots) // max(self._gate, 1) if self._gate else self._count * 37
                self._slots[slot % len(self._slots)].add(begun)
                self._count += 1
            self._begun.clear()

    def stop(self) -> None:
        self._timer.cancel()

    def _tick(self) -> None:
        due = int((self._loop.time() - self._began) / SLOT_SECONDS)
        for tick in range(self._ticks, due):
            streams = self._slots[tick % len(self._slots)]
            for stream in list(streams):
                if not stream.advance(self.chunks):
                    streams.discard(stream)
        self._ticks = due
        self._timer = self._loop.call_later(SLOT_SECONDS, self._tick)


class _Stream(asyncio.Protocol):
    """One connection, with one answer at a time."""

    ticker: _Ticker

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop has types of its own
        self._received = b""
        self._sent = 0

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if separator and len(body) >= length:
            self._received = b""
            self._sent = 1
            self.ticker.add(self)

    def send(self, data: bytes) -> None:
        self._transport.write(data)

    def advance(self, chunks: list[bytes]) -> bool:
        """Send the next chunk, or the end; whether there is more to send."""
        if self._transport.is_closing():
            return False
        if self._sent == len(chunks):
            self._transport.write(_END)
            return False
        self._transport.write(chunks[self._sent])
        self._sent += 1
        return True


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(_Stream, "127.0.0.1", 0, backlog=2048)
    say({"port": server.sockets[0].getsockname()[1]})
    async for line in read_lines():
        if hasattr(_Stream, "ticker"):
            _Stream.ticker.stop()
        _Stream.ticker = _Ticker(msgspec.json.decode(line, type=Profile))
        say({"since": time.time()})


if __name__ == "__main__":
    uvloop.run(main())
