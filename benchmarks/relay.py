"""The floor of the streaming benchmarks: a relay that only decodes events and forwards their text.

It has one asyncio protocol for each direction, on uvloop. For each request it opens a connection to the provider,
decodes each event into a struct, and writes its text as a chunk. It has no accounts, no storage, no deadlines, no error
handling and no framework.
"""

import asyncio
import sys
from typing import Literal, cast

import msgspec
import uvloop

from benchmarks.process import print_json, stdin_lines

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
_REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: provider\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
    b"\r\n{}"
)


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta


class _Event(msgspec.Struct, gc=False):
    choices: list[_Choice]


_decode = msgspec.json.Decoder(_Event).decode


class _Upstream(asyncio.Protocol):
    def __init__(self, downstream: asyncio.Transport) -> None:
        self._downstream = downstream
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop has types of its own
        self._transport.write(_REQUEST)
        self._downstream.write(_HEAD)

    def data_received(self, data: bytes) -> None:
        # The provider never splits an event over chunks, so the lines of the chunked encoding can be skipped.
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            if not line.startswith(b"data: "):
                continue
            if line.startswith(b"data: [DONE]"):
                self._downstream.write(b"0\r\n\r\n")
                self._transport.close()
                return
            for choice in _decode(line[6:]).choices:
                if choice.delta.content:
                    text = choice.delta.content.encode()
                    self._downstream.write(b"%x\r\n%s\r\n" % (len(text), text))


class _Downstream(asyncio.Protocol):
    def __init__(self, provider: int) -> None:
        self._provider = provider
        self._received = b""
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop has types of its own

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if separator and len(body) >= int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]):
            self._received = b""
            self._task = asyncio.create_task(self._relay())

    async def _relay(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: _Upstream(self._transport), "127.0.0.1", self._provider)


async def main(provider: int) -> Literal[0]:
    server = await asyncio.get_running_loop().create_server(lambda: _Downstream(provider), "127.0.0.1", 0, backlog=2048)
    print_json({"port": server.sockets[0].getsockname()[1]})
    async for _ in stdin_lines():
        pass
    return 0


if __name__ == "__main__":
    sys.exit(uvloop.run(main(int(sys.argv[1]))))
