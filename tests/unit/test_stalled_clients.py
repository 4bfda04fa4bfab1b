"""When a client counts as stalled: over a transport that takes what a test lets it take."""

import asyncio
from typing import Any

import pytest
from uvicorn.server import ServerState

from baio_api.stalled_clients import Config, StalledClients
from tests.unit.world import seconds

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Connection(asyncio.Transport):
    """A connection whose client reads only what a test says; the kernel takes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.unread = 0
        self.aborted_at: float | None = None
        self.protocol: StalledClients | None = None
        self._high = 65_536
        self._paused = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        del low
        assert high is not None
        self._high = high

    def get_write_buffer_size(self) -> int:
        return self.unread

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.unread += len(data)
        if self.unread > self._high and not self._paused:
            assert self.protocol is not None
            self._paused = True
            self.protocol.pause_writing()

    def read(self, count: int) -> None:
        """Read as the client."""
        self.unread -= count
        if not self.unread and self._paused:
            assert self.protocol is not None
            self._paused = False
            self.protocol.resume_writing()

    def abort(self) -> None:
        self.aborted_at = seconds()

    def close(self) -> None:
        """Wait for what is unread, as asyncio does: for ever."""

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: object = None) -> Any:  # noqa: ANN401 - asyncio's
        del name
        return default


async def hello(_scope: object, _receive: object, send: Any) -> None:  # noqa: ANN401 - ASGI's
    """An application."""
    headers = [(b"content-length", b"1000")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"x" * 1000})


@pytest.fixture
async def connection() -> Connection:
    """A connection to an application, which may stall for 60 seconds."""
    config = Config(
        http=StalledClients, app=hello, stalled_client_seconds=60, log_config=None, lifespan="off", ws="none"
    )
    found = Connection()
    found.protocol = StalledClients(config, ServerState(), {}, asyncio.get_running_loop())
    found.protocol.connection_made(found)
    return found


async def ask(connection: Connection) -> None:
    """Send a request, and let the application answer as far as it can."""
    assert connection.protocol is not None
    connection.protocol.data_received(REQUEST)
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_client_that_reads_nothing_for_60_seconds_is_cut(connection: Connection) -> None:
    await asyncio.sleep(7)
    await ask(connection)
    await asyncio.sleep(200)
    assert connection.aborted_at == 67


async def test_a_client_is_cut_for_what_is_left_of_a_response_that_has_ended(connection: Connection) -> None:
    await ask(connection)
    connection.read(connection.unread)
    for _ in range(10):
        await asyncio.sleep(0)
    assert 0 < connection.unread <= 1000  # all is said, and waits in this process
    await asyncio.sleep(100)
    assert connection.aborted_at == 60


async def test_a_client_that_reads_however_slowly_is_not_cut(connection: Connection) -> None:
    await ask(connection)
    for _ in range(100):
        await asyncio.sleep(50)
        connection.read(1)
        assert connection.aborted_at is None
    await asyncio.sleep(200)
    assert connection.aborted_at is not None


async def test_a_client_that_has_read_everything_is_not_cut(connection: Connection) -> None:
    await ask(connection)
    while connection.unread:
        connection.read(connection.unread)
        for _ in range(10):
            await asyncio.sleep(0)
    await asyncio.sleep(1000)
    assert connection.aborted_at is None


@pytest.mark.parametrize("reason", [None, ConnectionResetError()])
async def test_nothing_waits_for_a_client_that_has_gone(reason: Exception | None, connection: Connection) -> None:
    await ask(connection)
    connection.read(connection.unread)
    for _ in range(10):
        await asyncio.sleep(0)
    assert connection.protocol is not None
    timer = connection.protocol.timeout_keep_alive_task
    assert timer is not None
    connection.protocol.connection_lost(reason)
    assert timer.cancelled()
    await asyncio.sleep(1000)
    assert connection.aborted_at is None
