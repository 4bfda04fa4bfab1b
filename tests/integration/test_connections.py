"""Connections on real sockets: invalid HTTP, endless heads, halves of requests, idlers, and too many clients."""

import contextlib
import json
import re
import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import psutil
import pytest

from baio_api.middleware import API_HEADERS
from baio_api.protocol import MAX_HEAD_BYTES, MAX_HEADERS
from tests.integration.conftest import NewDatabase, on_sqlite, once, server_on, settings_for
from tests.integration.scripted_provider import ScriptedProvider, gated
from tests.integration.servers import Server, User, running_server, until

MIB = 2**20


class Raw:
    """A connection to a server, byte by byte."""

    def __init__(self, server: Server, data: bytes = b"") -> None:
        where = urlsplit(server.address)
        self.socket = socket.create_connection((where.hostname, where.port), timeout=30)
        self.socket.sendall(data)

    def rest(self) -> bytes:
        """Everything until the server closes."""
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while more := self.socket.recv(65_536):
                received += more
        return received

    def end(self) -> bytes:
        """Close this side, and read everything."""
        self.socket.shutdown(socket.SHUT_WR)
        return self.rest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def refusal(received: bytes, status: int) -> str:
    """Check that this is one refusal in the one form, and return what it says."""
    head, _, body = received.partition(b"\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 %d " % status), received[:300]
    assert received.count(b"HTTP/1.1 ") == 1
    lines = head.lower().split(b"\r\n")
    assert b"content-type: application/problem+json" in lines
    assert b"connection: close" in lines
    assert any(re.fullmatch(rb"x-request-id: \S+", line) for line in lines)
    for name, value in API_HEADERS:
        assert name + b": " + value.lower() in lines
    problem = json.loads(body)
    assert list(problem) == ["type", "title", "status", "detail"]
    assert problem["status"] == status
    found: str = problem["detail"]
    return found


def request_id_of(received: bytes) -> str:
    found = re.search(rb"x-request-id: (\S+)", received)
    assert found
    return found[1].decode()


def memory(server: Server) -> int:
    return int(psutil.Process(server.process.pid).memory_info().rss)


HEALTH = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
AUTH = b"POST /user/auth/ HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED = AUTH + b"Transfer-Encoding: chunked\r\n"


# -- What is no HTTP ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_bytes",
    {
        "duplicate Content-Length": AUTH + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "conflicting Content-Length": AUTH + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "a list as Content-Length": AUTH + b"Content-Length: 5, 5\r\n\r\nhello",
        "a signed Content-Length": AUTH + b"Content-Length: +5\r\n\r\nhello",
        "an empty Content-Length": AUTH + b"Content-Length:\r\n\r\nhello",
        "an overflowing Content-Length": AUTH + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
        "Content-Length and Transfer-Encoding": AUTH + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "Transfer-Encoding and Content-Length": CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding twice": CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "an unknown Transfer-Encoding": AUTH + b"Transfer-Encoding: gzip\r\n\r\nhello",
        "a compressed Transfer-Encoding": AUTH + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "no number as chunk size": CHUNKED + b"\r\nzz\r\nhello\r\n0\r\n\r\n",
        "a negative chunk size": CHUNKED + b"\r\n-5\r\nhello\r\n0\r\n\r\n",
        "a prefixed chunk size": CHUNKED + b"\r\n0x5\r\nhello\r\n0\r\n\r\n",
        "an overflowing chunk size": CHUNKED + b"\r\nfffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "a chunk that is longer than its size": CHUNKED + b"\r\n3\r\nhello\r\n0\r\n\r\n",
        "a chunk size that ends with LF": CHUNKED + b"\r\n5\nhello\r\n0\r\n\r\n",
        "Content-Length as a trailer": CHUNKED + b"\r\n2\r\n{}\r\n0\r\nContent-Length: 3\r\n\r\n",
        "NUL in the target": b"GET /health/live\0 HTTP/1.1\r\nHost: x\r\n\r\n",
        "NUL in a header's name": HEALTH + b"X\0: a\r\n\r\n",
        "NUL in a header's value": HEALTH + b"X: a\0b\r\n\r\n",
        "a folded header": HEALTH + b"X: a\r\n b\r\n\r\n",
        "a folded first header": b"GET /health/live HTTP/1.1\r\n X: a\r\nHost: x\r\n\r\n",
        "lines that end with LF": b"GET /health/live HTTP/1.1\nHost: x\n\n",
        "lines that end with CR": b"GET /health/live HTTP/1.1\rHost: x\r\r",
        "a space before the colon": HEALTH + b"X : a\r\n\r\n",
        "a header without name": HEALTH + b": a\r\n\r\n",
        "a target with a space": b"GET /health/ live HTTP/1.1\r\nHost: x\r\n\r\n",
        "a target beyond ASCII": b"GET /\xc3\xa6 HTTP/1.1\r\nHost: x\r\n\r\n",
        "a target without slash": b"GET health/live HTTP/1.1\r\nHost: x\r\n\r\n",
        "an absolute target without host": b"GET http:///health/live HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT": b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        "no Host": b"GET /health/live HTTP/1.1\r\n\r\n",
        "two Hosts": HEALTH + b"Host: y\r\n\r\n",
        "an unknown version": b"GET /health/live HTTP/1.2\r\nHost: x\r\n\r\n",
        "HTTP/2 in the clear": b"GET /health/live HTTP/2.0\r\nHost: x\r\n\r\n",
        "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "an unknown method": b"FOO /health/live HTTP/1.1\r\nHost: x\r\n\r\n",
        "the start of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "half a head": HEALTH,
        "half a body": AUTH + b"Content-Length: 50\r\n\r\n{}",
    }.items(),
    ids=lambda case: case[0],
)  # fmt: skip
@once
def test_what_is_not_valid_http_is_400_in_the_one_form(server: Server, request_bytes: tuple[str, bytes]) -> None:
    with Raw(server, request_bytes[1]) as connection:
        received = connection.end()
    assert refusal(received, 400)
    until(lambda: request_id_of(received) in server.log)
    [line] = [line for line in server.log.splitlines() if request_id_of(received) in line]
    assert {name: value for name, value in json.loads(line).items() if name in ("event", "status", "finished")} == {
        "event": "request", "status": 400, "finished": True,
    }  # fmt: skip
    assert "Traceback" not in server.log


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://elsewhere.example/health/live", 200),
        ("https://x:1/health/live?a=b", 200),
        ("http://x", 200),
        ("http://x?a", 200),
        ("*", 404),
        ("//health/live", 200),
        ("/health/live#a", 200),
        ("/" + "a" * 60_000, 404),
        ("/health/live?" + "a" * 60_000, 200),
        ("/" + "a" * MAX_HEAD_BYTES, 431),
    ],
    ids=range(10),
)
@once
def test_every_form_of_a_target_has_a_clear_answer(server: Server, target: str, status: int) -> None:
    with Raw(server, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()) as connection:
        received = connection.rest()
    assert received.startswith(b"HTTP/1.1 %d " % status), received[:300]
    assert "Traceback" not in server.log


@once
def test_garbage_after_a_request_does_not_spoil_its_streamed_answer(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    provider.script(gated(gate, ("A codon ",), ("is ...",)))
    with asker.wire("/chat/sendMessage/", asker.question(asker.begin()), Connection="keep-alive") as wire:
        assert wire.chunk() == b"A codon "
        wire._socket.sendall(b"GARBAGE\r\n\r\n")
        gate.set()
        assert wire.chunks() == ([b"is ..."], True)
        assert refusal(wire.rest(), 400)


# -- The size of heads -------------------------------------------------------------------------------------------------


def of_size(size: int) -> bytes:
    begin, end = HEALTH + b"X: ", b"\r\n\r\n"
    return begin + b"a" * (size - len(begin) - len(end)) + end


@once
def test_a_head_of_64_KiB_and_100_headers_is_served_and_more_is_431(server: Server) -> None:
    for served in (of_size(MAX_HEAD_BYTES), HEALTH + b"a:\r\n" * (MAX_HEADERS - 1) + b"\r\n"):
        with Raw(server, served) as connection:
            assert connection.end().startswith(b"HTTP/1.1 200 ")
    for beyond in (of_size(MAX_HEAD_BYTES + 1), HEALTH + b"a:\r\n" * MAX_HEADERS + b"\r\n"):
        with Raw(server, beyond) as connection:
            assert "100 headers and 65536 bytes" in refusal(connection.rest(), 431)


def pour(connection: Raw, piece: bytes, mebibytes: int) -> None:
    """Send so much, unless the server closes before."""
    with contextlib.suppress(ConnectionError):
        for _ in range(mebibytes * MIB // len(piece)):
            connection.socket.sendall(piece)


@pytest.mark.parametrize("piece", [b"a:\r\n" * 65_536, b"a" * 262_144], ids=["tiny headers", "one header"])
@on_sqlite
def test_an_endless_head_costs_no_memory(new_server: Server, piece: bytes) -> None:
    with Raw(new_server, HEALTH + b"\r\n") as warm:
        assert warm.end()
    before = memory(new_server)
    for _ in range(4):
        with Raw(new_server, HEALTH + b"X: ") as connection:
            pour(connection, piece, 16)
    assert memory(new_server) - before < 4 * MIB


# -- Slow and idle clients ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hasty(
    sqlite: NewDatabase, provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server that waits for one second."""
    with server_on(
        tmp_path_factory.mktemp("hasty"),
        sqlite.prepared(),
        provider,
        BAIO_REQUEST_HEAD_SECONDS="1",
        BAIO_BETWEEN_BODY_SECONDS="1",
        BAIO_KEEP_ALIVE_SECONDS="1",
    ) as server:
        yield server


def test_half_a_head_and_half_a_body_are_408(hasty: Server) -> None:
    for half in (HEALTH, AUTH + b"Content-Length: 50\r\n\r\n{", CHUNKED + b"\r\n5\r\n"):
        with Raw(hasty, half) as connection:
            assert "in time" in refusal(connection.rest(), 408)
    assert "Traceback" not in hasty.log


def test_idle_connections_are_closed_without_a_word(hasty: Server) -> None:
    with Raw(hasty) as silent, Raw(hasty, HEALTH + b"\r\n") as used:
        assert silent.rest() == b""
        assert used.rest().count(b"HTTP/1.1 ") == 1


def test_a_stream_that_pauses_longer_than_every_deadline_is_complete(
    hasty: Server, provider: ScriptedProvider, gate: threading.Event
) -> None:
    user = User(hasty)
    user.add_key()
    provider.script(gated(gate, ("A codon ",), ("is ...",)))
    with user.wire("/chat/sendMessage/", user.question(user.begin()), Connection="keep-alive") as wire:
        assert wire.chunk() == b"A codon "
        with Raw(hasty, HEALTH) as half:
            refusal(half.rest(), 408)  # more than a second has passed
        gate.set()
        assert wire.chunks() == ([b"is ..."], True)
    user.http.close()


@once
def test_a_client_that_closes_its_side_after_its_question_gets_the_whole_answer(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    provider.script(gated(gate, (), ("A codon ", "is ...")))
    with asker.wire("/chat/sendMessage/", asker.question(asker.begin())) as wire:
        wire._socket.shutdown(socket.SHUT_WR)
        provider.wait_for_requests(1)
        gate.set()
        chunks, complete = wire.chunks()
    assert (b"".join(chunks), complete) == (b"A codon is ...", True)


def plainly(server: Server, method: str, path: str, user: User, body: object = None) -> tuple[list[str], bytes]:
    """What a client of HTTP/1.0 reads until the connection ends: the lines of the head, and all that follows."""
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.0\r\nAuthorization: {user.http.headers['authorization']}\r\n"
    sent = "" if body is None else f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    with Raw(server, f"{head}{sent}\r\n".encode() + content) as client:
        lines, _, rest = client.rest().partition(b"\r\n\r\n")
    return lines.decode().lower().split("\r\n"), rest


@once
def test_a_client_of_http_1_0_reads_the_text_and_no_sizes_of_chunks(server: Server, asker: User) -> None:
    conversation = asker.begin()
    head, text = plainly(server, "POST", "/chat/sendMessage/", asker, asker.question(conversation))
    assert (head[0], text) == ("http/1.1 200 ok", b"A codon is three nucleotides.")
    assert "connection: close" in head
    assert not [line for line in head if line.startswith(("transfer-encoding", "content-length"))]
    follow = f"/chat/followAnswer/?conversation_id={conversation}"
    assert plainly(server, "GET", follow, asker)[1] == text
    assert plainly(server, "HEAD", follow, asker)[1] == b""
    _, whole = plainly(server, "GET", "/user/exportData/", asker)
    assert json.loads(whole)["conversations"]
    head, info = plainly(server, "GET", "/user/getInfo/", asker)
    assert f"content-length: {len(info)}" in head


# -- Upgrades ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
@once
def test_a_question_with_an_upgrade_is_answered_as_if_it_had_none(asker: User, protocol: str) -> None:
    upgrade = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": protocol, "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    with asker.wire("/chat/sendMessage/", asker.question(asker.begin()), **upgrade) as wire:
        assert wire.status == 200
        assert "upgrade" not in wire.headers
        assert b"".join(wire.chunks()[0]) == b"A codon is three nucleotides."
    assert "Unsupported upgrade" not in asker.server.log


# -- More connections than descriptors ---------------------------------------------------------------------------------


@contextlib.contextmanager
def connections(server: Server, number: int, data: bytes) -> Iterator[list[Raw]]:
    """So many connections at once, each of which has sent this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, number + 1000)), hard))
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Raw(server, data)) for _ in range(number)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def server_of(
    folder: Path, url: str, provider: ScriptedProvider, descriptors: tuple[int, int]
) -> contextlib.AbstractContextManager[Server]:
    """A server that starts with these limits of descriptors, and gives a head all the time that it needs."""
    return running_server(
        folder, {**settings_for(url, provider), "BAIO_REQUEST_HEAD_SECONDS": "600"}, descriptors=descriptors
    )


@on_sqlite
def test_1100_half_requests_keep_nobody_out_at_a_soft_limit_of_1024(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path
) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with (
        server_of(tmp_path, new_database.prepared(), provider, (1024, hard)) as server,
        connections(server, 1100, HEALTH) as halves,
        server.client() as client,
    ):
        assert client.get("/health/ready").status_code == 200
        assert refusal(halves[-1].end(), 400)


def test_beyond_the_hard_limit_new_connections_are_503_and_the_others_are_served(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path
) -> None:
    with server_of(tmp_path, new_database.prepared(), provider, (128, 256)) as server:
        user = User(server)
        user.add_key()
        with connections(server, 300, HEALTH) as halves:
            until(lambda: '"status": 503' in server.log)
            assert user.ask(user.begin()).text == "A codon is three nucleotides."
            assert all(user.http.get("/health/ready").status_code == 200 for _ in range(20))
            polite = [received for half in halves if (received := received_so_far(half))]
            assert polite
            for received in polite:
                assert refusal(received, 503)
                assert b"\r\nretry-after: " in received
        until(lambda: is_served(server))
        user.http.close()
    assert "Traceback" not in server.log


def received_so_far(connection: Raw) -> bytes:
    connection.socket.settimeout(0)
    try:
        return connection.socket.recv(65_536)
    except (BlockingIOError, ConnectionError):
        return b""


def is_served(server: Server) -> bool:
    with Raw(server, HEALTH + b"Connection: close\r\n\r\n") as connection:
        return connection.rest().startswith(b"HTTP/1.1 200 ")
