"""The load generator: asyncio protocols that record what arrives and when, and evaluate it only afterwards.

Each line of standard input is a task: ``StreamTask`` opens answers and reads them to their end, ``RequestTask`` sends
requests over persistent connections. At the start and the end of each measurement it samples the processor time and the
memory of the watched processes.
"""

import asyncio
import itertools
import statistics
import time
from collections.abc import Sequence
from typing import cast

import msgspec
import uvloop

from benchmarks.process import cpu_seconds, memory_bytes, print_json, stdin_lines


class StreamTask(msgspec.Struct, tag=True):
    """Open one stream for each request. At most ``concurrency`` of them wait for their first text at the same time.

    The requests of ``burst`` are sent together once all streams are open.
    """

    port: int
    requests: list[str]
    expected: str
    watch: dict[str, int]
    burst: list[str] = []
    concurrency: int = 16


class RequestTask(msgspec.Struct, tag=True):
    """Send a request ``count`` times, over this number of connections."""

    port: int
    request: str
    count: int
    connections: int
    watch: dict[str, int]


class Sample(msgspec.Struct):
    """The time, and for each watched process its processor time in seconds and its memory in bytes."""

    at: float
    cpu: dict[str, float]
    memory: dict[str, int]

    @classmethod
    def of(cls, processes: dict[str, int]) -> "Sample":
        """A sample of these processes (name to pid), taken now."""
        return cls(
            time.monotonic(),
            {name: cpu_seconds(pid) for name, pid in processes.items()},
            {name: memory_bytes(pid) for name, pid in processes.items()},
        )


class StreamResult(msgspec.Struct):
    """The result of a ``StreamTask``, with a sample before it, when all are open, when the first ends, and after it.

    ``chunks`` and the gaps (seconds between two arrivals in one stream) are counted from ``all_open`` to ``first_end``.
    ``first_text`` is the number of seconds from a request to its first text, ``seconds`` that from the first connection
    to the last byte.
    """

    before: Sample
    all_open: Sample
    first_end: Sample
    after: Sample
    chunks: int
    complete: int
    gap_p50: float
    gap_p99: float
    gap_max: float
    first_text_p50: float
    first_text_p99: float
    seconds: float
    burst_statuses: list[int] = []
    burst_seconds: float = 0.0


class RequestResult(msgspec.Struct):
    """The result of a ``RequestTask``: processor time and latency per request, and the last body."""

    seconds: float
    cpu: dict[str, float]
    latency_p50: float
    latency_p99: float
    body: str


class _StreamClient(asyncio.Protocol):
    """Reads one stream. While data arrives, it only checks whether the stream has started or ended."""

    def __init__(self, request: bytes, started: "asyncio.Future[None]", ended: "asyncio.Future[None]") -> None:
        self.arrivals: list[tuple[float, bytes]] = []
        self.first_text_seconds = 0.0
        self.started = started
        self.ended = ended
        self._request = request
        self._time = time.monotonic

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop has types of its own
        self._transport.write(self._request)
        self._sent_at = self._time()

    def data_received(self, data: bytes) -> None:
        self.arrivals.append((self._time(), data))
        if data.endswith(b"0\r\n\r\n"):
            self._transport.close()
        elif not self.started.done() and self.text():
            self.first_text_seconds = self._time() - self._sent_at
            self.started.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        for future in (self.started, self.ended):
            if not future.done():
                future.set_result(None)

    def text(self) -> str:
        """The text of the complete chunks that have arrived."""
        rest = b"".join(data for _, data in self.arrivals).partition(b"\r\n\r\n")[2]
        text = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            text += rest[: int(size or b"0", 16)]
            rest = rest[int(size or b"0", 16) + 2 :]
        return text.decode()


async def run_streams(task: StreamTask) -> StreamResult:
    """Run a ``StreamTask``."""
    loop = asyncio.get_running_loop()
    before = Sample.of(task.watch)
    clients = [_StreamClient(each.encode(), loop.create_future(), loop.create_future()) for each in task.requests]
    waiting = iter(clients)

    async def open_some() -> None:
        for client in waiting:
            await loop.create_connection(lambda client=client: client, "127.0.0.1", task.port)  # type: ignore[misc]
            await client.started

    await asyncio.gather(*(open_some() for _ in range(task.concurrency)))
    all_open = Sample.of(task.watch)
    statuses: list[int] = []
    burst_seconds = 0.0
    if task.burst:
        await asyncio.sleep(0.5)
        sent_at = time.monotonic()
        statuses = await asyncio.gather(*(_send_once(task.port, each.encode()) for each in task.burst))
        burst_seconds = time.monotonic() - sent_at
    ends = [client.ended for client in clients]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    first_end = Sample.of(task.watch)
    await asyncio.wait(ends)
    seconds = time.monotonic() - before.at
    await asyncio.sleep(0.3)  # the server stores the answers
    after = Sample.of(task.watch)
    chunks, gaps = 0, []
    for client in clients:
        inside = [(at, data) for at, data in client.arrivals if all_open.at < at < first_end.at]
        chunks += sum(data.count(b"\r\n") // 2 for _, data in inside)
        gaps += [later - earlier for (earlier, _), (later, _) in itertools.pairwise(inside)]
    return StreamResult(
        before,
        all_open,
        first_end,
        after,
        chunks,
        sum(client.text() == task.expected for client in clients),
        *_quantiles(gaps),
        max(gaps, default=0.0),
        *_quantiles([client.first_text_seconds for client in clients]),
        seconds,
        statuses,
        burst_seconds,
    )


class _RequestClient(asyncio.Protocol):
    """A persistent connection for one request at a time; every response needs a Content-Length."""

    def __init__(self) -> None:
        self._received = b""
        self._response: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop has types of its own

    async def send(self, request: bytes) -> bytes:
        self._response = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._response

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if separator and len(body) >= length and self._response is not None:
            response, self._received = self._received, b""
            self._response.set_result(response)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._response is not None and not self._response.done():
            self._response.set_exception(exc or ConnectionResetError())


async def _send_once(port: int, request: bytes) -> int:
    _, client = await asyncio.get_running_loop().create_connection(_RequestClient, "127.0.0.1", port)
    response = await client.send(request)
    client.transport.close()
    return int(response.split(b" ", 2)[1])


async def run_requests(task: RequestTask) -> RequestResult:
    """Run a ``RequestTask``."""
    loop = asyncio.get_running_loop()
    request = task.request.encode()
    clients = [
        (await loop.create_connection(_RequestClient, "127.0.0.1", task.port))[1] for _ in range(task.connections)
    ]
    remaining = iter(range(task.count))
    latencies: list[float] = []
    response = b""

    async def send_some(client: _RequestClient) -> None:
        nonlocal response
        for _ in remaining:
            sent_at = time.monotonic()
            response = await client.send(request)
            latencies.append(time.monotonic() - sent_at)
            if not response.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(response.decode())

    before = Sample.of(task.watch)
    await asyncio.gather(*map(send_some, clients))
    after = Sample.of(task.watch)
    for client in clients:
        client.transport.close()
    return RequestResult(
        (after.at - before.at) / task.count,
        {name: (after.cpu[name] - before.cpu[name]) / task.count for name in task.watch},
        *_quantiles(latencies),
        response.partition(b"\r\n\r\n")[2].decode(),
    )


def _quantiles(values: Sequence[float]) -> tuple[float, float]:
    """The median and the 99th percentile."""
    if len(values) < 2:
        return 0.0, 0.0
    return statistics.median(values), statistics.quantiles(values, n=100)[98]


async def main() -> None:
    print_json({"port": 0})
    async for line in stdin_lines():
        task = msgspec.json.decode(line, type=StreamTask | RequestTask)
        result = await (run_streams(task) if isinstance(task, StreamTask) else run_requests(task))
        print_json(msgspec.to_builtins(result))


if __name__ == "__main__":
    uvloop.run(main())
