"""The limits of connections, byte by byte and in virtual time: it drives BAiO's protocol as uvicorn and its loop do."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import httptools
import pytest
from litestar import Litestar, Request, get, post
from litestar.datastructures import Headers
from litestar.exceptions import HTTPException
from litestar.response import Stream
from uvicorn.server import ServerState

from baio_api.errors import http_error_response
from baio_api.middleware import API_HEADERS, RequestLogMiddleware, SecurityHeadersMiddleware
from baio_api.protocol import (
    LINGER_SECONDS,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_WAITING_REQUESTS,
    Config,
    LimitedProtocol,
    Limits,
)  # fmt: skip
from tests.unit.world import VirtualTimeLoop

PIECE_SECONDS = 20.0


@post("/length")
async def length(request: Request[Any, Any, Any]) -> dict[str, int]:
    return {"length": len(await request.body())}


@get("/headers")
async def headers(headers: Headers) -> list[str]:
    return sorted(headers)


@get("/stream", sync_to_thread=False)
def stream() -> Stream:
    async def pieces() -> AsyncIterator[str]:
        for number in range(5):
            await asyncio.sleep(PIECE_SECONDS)
            yield str(number)

    return Stream(pieces)


class Connection(asyncio.Transport):
    """A client's connection: what the protocol gets as its transport."""

    def __init__(self, *, descriptor: int = 20, half_close: bool = True) -> None:
        super().__init__()
        limits = Limits(head_seconds=10, body_seconds=30, descriptors=1024, half_close=half_close)
        app = Litestar(
            [length, headers, stream], exception_handlers={HTTPException: http_error_response}, logging_config=None
        )
        whole: Any = SecurityHeadersMiddleware(RequestLogMiddleware(app))
        config = Config(
            stalled_client_seconds=60,
            app=whole,
            limits=limits,
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=75,
        )
        config.load()
        self.descriptor = descriptor
        self.received = b""
        self.closed_at: float | None = None
        self.shut_down = False
        self.paused = False
        self.protocol = LimitedProtocol(config, ServerState(), {})
        self.protocol.connection_made(self)

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self if name == "socket" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: this client takes everything at once."""

    def fileno(self) -> int:
        return self.descriptor

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 8000

    def getpeername(self) -> tuple[str, int]:
        return "127.0.0.1", 40_000

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.shut_down
        self.received += data

    def write_eof(self) -> None:
        self.shut_down = True

    def is_closing(self) -> bool:
        return self.closed_at is not None

    def close(self) -> None:
        if self.closed_at is None:
            self.closed_at = now()
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    async def send(self, data: bytes, read: int = 262_144) -> None:
        """Send it in reads of this size, and let the server do what it can at once."""
        for start in range(0, len(data), read):
            if self.is_closing():
                return
            self.protocol.data_received(data[start : start + read])
        await asyncio.sleep(0.001)

    async def end(self) -> None:
        """Close the client's side."""
        if not self.protocol.eof_received():
            self.close()
        await asyncio.sleep(0.001)

    @property
    def statuses(self) -> list[int]:
        """The statuses of all responses."""
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", self.received)]

    @property
    def body(self) -> Any:  # noqa: ANN401 - JSON
        """The JSON of the last response."""
        return json.loads(self.received.rpartition(b"\r\n\r\n")[2])


@pytest.fixture(autouse=True)
def _no_error_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []


def now() -> float:
    return asyncio.get_running_loop().time()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(test())


def refused(connection: Connection, status: int) -> None:
    """Check that the last response is a refusal in the one form, after which the server closes."""
    assert connection.statuses[-1] == status
    head, _, _ = connection.received[connection.received.rindex(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert b"content-type: application/problem+json" in lines
    assert b"connection: close" in lines
    assert any(line.startswith(b"x-request-id: ") for line in lines)
    for name, value in API_HEADERS:
        assert name + b": " + value.lower() in lines
    assert connection.body["status"] == status
    assert list(connection.body) == ["type", "title", "status", "detail"]
    assert connection.shut_down or connection.is_closing()


def head(size: int) -> bytes:
    """A head of so many bytes."""
    begin, end = b"GET /headers HTTP/1.1\r\nHost: x\r\nX: ", b"\r\n\r\n"
    return begin + b"a" * (size - len(begin) - len(end)) + end


# -- The head ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [1000, MAX_HEAD_BYTES, 262_144])
def test_a_head_has_at_most_64_KiB(read: int) -> None:
    async def test() -> None:
        connection = Connection()
        for _ in range(2):
            await connection.send(head(MAX_HEAD_BYTES), read)
        assert connection.statuses == [200, 200]
        await connection.send(head(MAX_HEAD_BYTES + 1), read)
        refused(connection, 431)

    run(test)


def test_a_head_has_at_most_100_headers() -> None:
    async def test() -> None:
        connection = Connection()
        begin = b"GET /headers HTTP/1.1\r\nHost: x\r\n"
        await connection.send(begin + b"".join(b"a%d:\r\n" % each for each in range(MAX_HEADERS - 1)) + b"\r\n")
        assert len(connection.body) == MAX_HEADERS
        await connection.send(begin + b"a:\r\n" * MAX_HEADERS + b"\r\n")
        refused(connection, 431)

    run(test)


@pytest.mark.parametrize(
    "endless",
    [
        b"GET /headers HTTP/1.1\r\nHost: x\r\nX: ",
        b"GET /headers HTTP/1.1\r\nHost: x\r\nX",
        b"GET /",
        b"POST /length HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: ",
        b"POST /length HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;",
    ],
    ids=["value", "name", "target", "trailer", "chunk-extension"],
)
def test_whatever_is_endless_is_parsed_up_to_64_KiB_and_then_discarded(endless: bytes) -> None:
    async def test() -> None:
        connection = Connection()
        parsed = 0

        class CountingParser(httptools.HttpRequestParser):
            def feed_data(self, data: memoryview) -> None:  # type: ignore[override]
                nonlocal parsed
                parsed += len(data)
                super().feed_data(data)

        connection.protocol.parser = CountingParser(connection.protocol)
        await connection.send(endless)
        begun = parsed
        for _ in range(64):
            await connection.send(b"a" * 2**20)
        refused(connection, 431)
        assert parsed - begun <= MAX_HEAD_BYTES
        await asyncio.sleep(LINGER_SECONDS)
        assert connection.is_closing()

    run(test)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /headers HTTP/1.1\r\nHost: x\r\nAccept: ",
        b"G",
        b"GET /headers HTTP/1.1\r\nHost: x\r\n",
    ],
)
def test_a_head_has_10_seconds_however_slowly_it_arrives(request_bytes: bytes) -> None:
    async def test() -> None:
        connection = Connection()
        await connection.send(request_bytes[:-1])
        await asyncio.sleep(9.9)
        assert not connection.received
        await connection.send(request_bytes[-1:])
        await asyncio.sleep(0.1)
        refused(connection, 408)

    run(test)


def test_a_client_that_says_nothing_is_left_after_10_seconds() -> None:
    async def test() -> None:
        silent, blank = Connection(), Connection()
        for _ in range(12):
            await blank.send(b"\r\n")
            await asyncio.sleep(1)
        assert silent.received == blank.received == b""
        assert silent.closed_at == blank.closed_at == 10

    run(test)


def test_an_idle_connection_is_closed_after_75_seconds_and_a_half_next_head_has_10() -> None:
    async def test() -> None:
        idle, half = Connection(), Connection()
        for connection in (idle, half):
            await connection.send(head(100))
        await asyncio.sleep(70)
        await half.send(b"GET")
        await asyncio.sleep(9)
        assert half.statuses == [200]
        assert idle.statuses == [200]
        assert idle.is_closing()
        await asyncio.sleep(1.1)
        refused(half, 408)

    run(test)


# -- The body ----------------------------------------------------------------------------------------------------------

UPLOAD = b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n"


def test_a_slow_but_live_upload_works() -> None:
    async def test() -> None:
        connection = Connection()
        await connection.send(UPLOAD)
        for _ in range(20):
            await asyncio.sleep(29)
            await connection.send(b"a")
        assert connection.statuses == [201]
        assert connection.body == {"length": 20}
        await connection.send(head(100))
        assert connection.statuses == [201, 200]

    run(test)


def test_30_seconds_between_two_pieces_of_a_body_are_408() -> None:
    async def test() -> None:
        connection = Connection()
        await connection.send(UPLOAD)
        await connection.send(b"a")
        await asyncio.sleep(29.9)
        assert not connection.received
        await asyncio.sleep(0.1)
        refused(connection, 408)

    run(test)


def test_a_body_that_nobody_reads_has_30_seconds_after_its_response() -> None:
    async def test() -> None:
        connection = Connection()
        await connection.send(UPLOAD.replace(b"/length", b"/nothing"))
        assert connection.statuses == [404]
        for _ in range(10):
            await asyncio.sleep(4)
            await connection.send(b"a")
        assert connection.statuses == [404]
        assert connection.closed_at is not None
        assert 30 <= connection.closed_at < 31

    run(test)


def test_trailers_are_no_headers() -> None:
    async def test() -> None:
        connection = Connection()
        chunked = b"POST /length HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        await connection.send(chunked)
        scope = connection.protocol.scope
        await connection.send(b"0\r\nAuthorization: Bearer x\r\n\r\n")
        assert connection.body == {"length": 5}
        assert [name for name, _ in scope["headers"]] == [b"host", b"transfer-encoding"]
        await connection.send(chunked + b"0\r\n" + b"a: b\r\n" * (MAX_HEADERS + 1) + b"\r\n")
        refused(connection, 431)

    run(test)


# -- Streams and pipelines ---------------------------------------------------------------------------------------------

STREAM = b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("after", [b"", b"GET", b"\r\n"])
def test_no_deadline_touches_a_stream(after: bytes) -> None:
    async def test() -> None:
        connection = Connection()
        await connection.send(STREAM)
        await connection.send(after)
        await asyncio.sleep(6 * PIECE_SECONDS)
        assert connection.received.split(b"\r\n\r\n", 1)[1].startswith(
            b"1\r\n0\r\n1\r\n1\r\n1\r\n2\r\n1\r\n3\r\n1\r\n4\r\n0\r\n\r\n"
        )

    run(test)


def test_a_get_with_half_a_body_still_streams() -> None:
    async def test() -> None:
        connection = Connection()
        await connection.send(b"GET /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\na")
        await asyncio.sleep(6 * PIECE_SECONDS)
        assert connection.received.endswith(b"1\r\n4\r\n0\r\n\r\n")

    run(test)


@pytest.mark.parametrize("bad", [b"GARBAGE\r\n\r\n", head(MAX_HEAD_BYTES + 1), b"GET /\0"])
def test_a_refusal_waits_for_the_response_before_it(bad: bytes) -> None:
    async def test() -> None:
        connection = Connection()
        await connection.send(STREAM)
        await connection.send(bad)
        await asyncio.sleep(4.5 * PIECE_SECONDS)
        assert connection.statuses == [200]
        await asyncio.sleep(PIECE_SECONDS)
        assert b"1\r\n4\r\n0\r\n\r\nHTTP/1.1 4" in connection.received
        refused(connection, 431 if len(bad) > 100 else 400)

    run(test)


def test_at_most_100_pipelined_requests_wait() -> None:
    async def test() -> None:
        connection = Connection()
        await connection.send(head(60) * (MAX_WAITING_REQUESTS + 1))
        assert connection.statuses == [200] * (MAX_WAITING_REQUESTS + 1)
        await connection.send(head(60) * (MAX_WAITING_REQUESTS + 2))
        assert connection.statuses == [200] * 2 * (MAX_WAITING_REQUESTS + 1) + [400]
        refused(connection, 400)

    run(test)


# -- Clients that close their side -------------------------------------------------------------------------------------


def test_a_client_that_closes_its_side_after_its_request_gets_the_response() -> None:
    async def test() -> None:
        connection = Connection()
        connection.protocol.data_received(STREAM)
        await connection.end()
        await asyncio.sleep(6 * PIECE_SECONDS)
        assert connection.received.endswith(b"1\r\n4\r\n0\r\n\r\n")
        assert connection.closed_at == pytest.approx(5 * PIECE_SECONDS, abs=0.1)

    run(test)


def test_a_client_that_closes_its_side_while_a_response_is_sent_has_left() -> None:
    async def test() -> None:
        for more in (b"", b"GET /hea"):
            connection = Connection()
            await connection.send(STREAM + more)
            await connection.end()
            assert connection.is_closing()

    run(test)


def test_where_leaving_stops_an_answer_a_client_that_closes_its_side_has_left() -> None:
    async def test() -> None:
        connection = Connection(half_close=False)
        connection.protocol.data_received(STREAM)
        await connection.end()
        assert connection.is_closing()

    run(test)


@pytest.mark.parametrize("half", [b"GET /hea", UPLOAD + b"a"])
def test_half_a_request_and_the_end_are_400(half: bytes) -> None:
    async def test() -> None:
        connection = Connection()
        await connection.send(half)
        await connection.end()
        refused(connection, 400)
        assert connection.is_closing()

    run(test)


def test_an_idle_client_that_closes_its_side_is_left_at_once() -> None:
    async def test() -> None:
        for sent in (b"", head(100)):
            connection = Connection()
            await connection.send(sent)
            await connection.end()
            assert connection.is_closing()

    run(test)


# -- Upgrades ----------------------------------------------------------------------------------------------------------

UPGRADE = b"Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: %b\r\nHTTP2-Settings: AAMAAABk\r\n"


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0"])
@pytest.mark.parametrize("read", [1, 7, 262_144])
def test_an_upgrade_is_ignored_and_neither_the_body_nor_the_next_request_is_lost(protocol: bytes, read: int) -> None:
    async def test() -> None:
        connection = Connection()
        upgrade = UPGRADE % protocol
        await connection.send(
            b"POST /length HTTP/1.1\r\n" + upgrade + b"Content-Length: 5\r\n\r\nhello"
            b"POST /length HTTP/1.1\r\n" + upgrade + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            b"GET /headers HTTP/1.1\r\n" + upgrade + b"\r\n",
            read,
        )  # fmt: skip
        await asyncio.sleep(0.1)
        assert connection.statuses == [201, 201, 200]
        assert b'{"length":5}HTTP' in connection.received
        assert b'{"length":3}HTTP' in connection.received
        assert connection.body == ["connection", "host", "http2-settings"]
        await connection.send(head(100))
        assert connection.statuses == [201, 201, 200, 200]

    run(test)


# -- Descriptors -------------------------------------------------------------------------------------------------------


def test_connections_are_refused_while_a_quarter_of_the_descriptors_is_left() -> None:
    async def test() -> None:
        accepted, polite, hard = (Connection(descriptor=number) for number in (767, 768, 896))
        await asyncio.sleep(0.001)
        assert not accepted.received
        refused(polite, 503)
        assert b"\r\nretry-after: 5\r\n" in polite.received
        assert polite.body["type"] == "urn:baio:error:unavailable"
        await accepted.send(head(100))
        assert accepted.statuses == [200]
        await polite.send(head(100))
        assert polite.statuses == [503]
        assert hard.is_closing()
        assert not hard.received

    run(test)
