"""The clients: raw protocols in one process that write down when what arrived, and look at it only afterwards.

Standard input takes one task per line: ``Streams`` opens answers and follows them to their end, ``Requests`` sends
requests over connections that stay open. At the moments that bound what is measured, it reads the processor time (and
memory) of the processes it is told to watch.
"""

import asyncio
import itertools
import statistics
import time
from collections.abc import Sequence
from typing import cast

import msgspec
import uvloop

from benchmarks.process import cpu_seconds, memory_bytes, read_lines, say


class Streams(msgspec.Struct, tag=True):
    """Open one answer per request, ``at_once`` of them at a time: the next is opened when one has begun.

    With ``meanwhile``, these requests are sent together once all have begun.
    """

    port: int
    requests: list[str]
    expected: str
    watch: dict[str, int]
    meanwhile: list[str] = []
    at_once: int = 16


class Requests(msgspec.Struct, tag=True):
    """Send a request ``count`` times over so many connections."""

    port: int
    request: str
    count: int
    connections: int
    watch: dict[str, int]


class Reading(msgspec.Struct):
    """Time, and of each watched process the processor time in seconds and the memory in bytes."""

    at: float
    cpu: dict[str, float]
    memory: dict[str, int]

    @classmethod
    def of(cls, processes: dict[str, int]) -> "Reading":
        """What stands now."""
        return cls(
            time.monotonic(),
            {name: cpu_seconds(pid) for name, pid in processes.items()},
            {name: memory_bytes(pid) for name, pid in processes.items()},
        )


class Streamed(msgspec.Struct):
    """What became of ``Streams``: before the first began, when all had begun, when the first ended, after the last.

    ``chunks`` and ``gap`` (seconds between two arrivals of one stream) are those between the second and the third;
    ``first`` is how many seconds after its request a stream's first text was there.
    """

    before: Reading
    begun: Reading
    ending: Reading
    after: Reading
    chunks: int
    whole: int
    gap_p50: float
    gap_p99: float
    gap_longest: float
    first_p50: float
    first_p99: float
    meanwhile: list[int] = []
    meanwhile_seconds: float = 0.0


class Requested(msgspec.Struct):
    """What became of ``Requests``: processor time and latency per request, and the last body."""

    seconds: float
    cpu: dict[str, float]
    latency_p50: float
    latency_p99: float
    body: str


class _Follower(asyncio.Protocol):
    """One answer. While it arrives nothing is looked at but whether it has begun and ended."""

    def __init__(self, request: bytes, begun: "asyncio.Future[None]", ended: "asyncio.Future[None]") -> None:
        self.arrivals: list[tuple[float, bytes]] = []
        self.first_after = 0.0
        self._request = request
        self._begun = begun
        self._ended = ended
        self._time = time.monotonic

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop has types of its own
        self._transport.write(self._request)
        self._sent_at = self._time()

    def data_received(self, data: bytes) -> None:
        self.arrivals.append((self._time(), data))
        if data.endswith(b"0\r\n\r\n"):
            self._transport.close()
        elif not self._begun.done() and self.text():
            self.first_after = self._time() - self._sent_at
            self._begun.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        for future in (self._begun, self._ended):
            if not future.done():
                future.set_result(None)

    def text(self) -> str:
        """What has arrived as far as it is whole chunks."""
        rest = b"".join(data for _, data in self.arrivals).partition(b"\r\n\r\n")[2]
        text = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            text += rest[: int(size or b"0", 16)]
            rest = rest[int(size or b"0", 16) + 2 :]
        return text.decode()


async def follow(task: Streams) -> Streamed:
    """Carry out ``Streams``."""
    loop = asyncio.get_running_loop()
    before = Reading.of(task.watch)
    followers = [_Follower(each.encode(), loop.create_future(), loop.create_future()) for each in task.requests]
    waiting = iter(followers)

    async def open_some() -> None:
        for follower in waiting:
            await loop.create_connection(lambda follower=follower: follower, "127.0.0.1", task.port)  # type: ignore[misc]
            await follower._begun  # noqa: SLF001

    await asyncio.gather(*(open_some() for _ in range(task.at_once)))
    begun = Reading.of(task.watch)
    statuses: list[int] = []
    if task.meanwhile:
        await asyncio.sleep(0.5)
        sent_at = time.monotonic()
        statuses = await asyncio.gather(*(_send_once(task.port, each.encode()) for each in task.meanwhile))
        meanwhile_seconds = time.monotonic() - sent_at
    else:
        meanwhile_seconds = 0.0
    ends = [follower._ended for follower in followers]  # noqa: SLF001
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    ending = Reading.of(task.watch)
    await asyncio.wait(ends)
    await asyncio.sleep(0.3)  # the ends are stored
    after = Reading.of(task.watch)
    chunks, gaps = 0, []
    for follower in followers:
        inside = [(at, data) for at, data in follower.arrivals if begun.at < at < ending.at]
        chunks += sum(data.count(b"\r\n") // 2 for _, data in inside)
        gaps += [later - earlier for (earlier, _), (later, _) in itertools.pairwise(inside)]
    return Streamed(
        before,
        begun,
        ending,
        after,
        chunks,
        sum(follower.text() == task.expected for follower in followers),
        *_quantiles(gaps),
        max(gaps, default=0.0),
        *_quantiles([follower.first_after for follower in followers]),
        statuses,
        meanwhile_seconds,
    )


class _Asker(asyncio.Protocol):
    """A connection that stays open, for one response of known length after the other."""

    def __init__(self) -> None:
        self._received = b""
        self._response: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop has types of its own

    async def ask(self, request: bytes) -> bytes:
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
    _, asker = await asyncio.get_running_loop().create_connection(_Asker, "127.0.0.1", port)
    response = await asker.ask(request)
    asker.transport.close()
    return int(response.split(b" ", 2)[1])


async def request(task: Requests) -> Requested:
    """Carry out ``Requests``."""
    loop = asyncio.get_running_loop()
    body = task.request.encode()
    askers = [(await loop.create_connection(_Asker, "127.0.0.1", task.port))[1] for _ in range(task.connections)]
    left = iter(range(task.count))
    latencies: list[float] = []
    response = b""

    async def ask_some(asker: _Asker) -> None:
        nonlocal response
        for _ in left:
            sent_at = time.monotonic()
            response = await asker.ask(body)
            latencies.append(time.monotonic() - sent_at)
            if not response.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(response.decode())

    before = Reading.of(task.watch)
    await asyncio.gather(*map(ask_some, askers))
    after = Reading.of(task.watch)
    for asker in askers:
        asker.transport.close()
    return Requested(
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
    say({"port": 0})
    async for line in read_lines():
        task = msgspec.json.decode(line, type=Streams | Requests)
        done = await (follow(task) if isinstance(task, Streams) else request(task))
        say(msgspec.to_builtins(done))


if __name__ == "__main__":
    uvloop.run(main())
