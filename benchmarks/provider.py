"""A provider that costs almost nothing: it streams the same precomputed answer to every client, at a steady pace.

One timer serves all streams. Their phases are spread evenly over the interval between two chunks, so that a relay gets
one chunk at a time. With a barrier of n, the answers pause after their first chunk until n of them have started: then
all streams are open, and none starts or ends while they are measured. Each line of standard input is a ``Pacing``.
"""

import asyncio
import time
from typing import cast

import msgspec
import uvloop

from benchmarks.process import print_json, stdin_lines

SLOT_SECONDS = 0.001
"""The timer's step: streams in the same slot get their chunks together."""


class Pacing(msgspec.Struct):
    """The number of chunks per answer, the seconds between them, and the barrier; 0 means no barrier.

    Before an answer, a tool is called in so many rounds, at once.
    """

    chunks: int
    interval_seconds: float
    barrier: int = 0
    rounds: int = 0


def text_of(chunk: int) -> str:
    """The text of one chunk: as long as a word, and unique, so that swapped chunks are noticed."""
    return f"{chunk:05d} "


def answer_of(chunks: int) -> str:
    """The complete text of an answer."""
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


def _call(number: int) -> bytes:
    """A response that calls a tool, each time with other arguments."""
    function = f'{{"name":"gc_content","arguments":"{{\\"sequence\\":\\"{"ACGT" * (number + 1)}\\"}}"}}'
    call = f'"tool_calls":[{{"index":0,"id":"call_{number}","type":"function","function":{function}}}]'
    return _HEAD + _ROLE + _delta(call) + _delta("", '"tool_calls"') + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


class _Ticker:
    """Sends each stream its next chunk when its slot is due."""

    def __init__(self, pacing: Pacing) -> None:
        self.chunks = [_delta(f'"content":"{text_of(chunk)}"') for chunk in range(pacing.chunks)]
        self.rounds = pacing.rounds
        self._barrier = pacing.barrier
        self._slots: list[set[_Stream]] = [set() for _ in range(max(1, round(pacing.interval_seconds / SLOT_SECONDS)))]
        self._waiting: list[_Stream] = []
        self._count = 0
        self._loop = asyncio.get_running_loop()
        self._started_at = self._loop.time()
        self._ticks = 0
        self._timer = self._loop.call_later(SLOT_SECONDS, self._tick)

    def add(self, stream: "_Stream") -> None:
        stream.send(_HEAD + _ROLE + self.chunks[0])
        self._waiting.append(stream)
        if len(self._waiting) >= self._barrier:
            for started in self._waiting:
                # Spread the streams evenly over the slots.
                slot = self._count * len(self._slots) // max(self._barrier, 1) if self._barrier else self._count * 37
                self._slots[slot % len(self._slots)].add(started)
                self._count += 1
            self._waiting.clear()

    def stop(self) -> None:
        self._timer.cancel()

    def _tick(self) -> None:
        due = int((self._loop.time() - self._started_at) / SLOT_SECONDS)
        for tick in range(self._ticks, due):
            streams = self._slots[tick % len(self._slots)]
            for stream in list(streams):
                if not stream.advance(self.chunks):
                    streams.discard(stream)
        self._ticks = due
        self._timer = self._loop.call_later(SLOT_SECONDS, self._tick)


class _Stream(asyncio.Protocol):
    """A connection, which gets one answer at a time."""

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
            done = body.rpartition(b'"role":"user"')[2].count(b'"role":"tool"')
            if done < self.ticker.rounds:
                self.send(_call(done))
                return
            self._sent = 1
            self.ticker.add(self)

    def send(self, data: bytes) -> None:
        self._transport.write(data)

    def advance(self, chunks: list[bytes]) -> bool:
        """Send the next chunk or the end; whether there is more to send."""
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
    print_json({"port": server.sockets[0].getsockname()[1]})
    async for line in stdin_lines():
        if hasattr(_Stream, "ticker"):
            _Stream.ticker.stop()
        _Stream.ticker = _Ticker(msgspec.json.decode(line, type=Pacing))
        print_json({"since": time.time()})


if __name__ == "__main__":
    uvloop.run(main())
