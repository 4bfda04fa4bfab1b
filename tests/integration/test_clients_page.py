"""The Python of docs/clients.md, taken from the page and run against a server, over a network that breaks."""

import contextlib
import re
import socket
import threading
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, Self, cast
from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration.answers import last, paced, said
from tests.integration.scripted_provider import ScriptedProvider, cut_after, gated
from tests.integration.servers import Server, User, eventually

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"

PIECES = [f"{number} µ🧬e\u0301 " for number in range(120)]
WHOLE = "".join(PIECES)


class Example(Protocol):
    """What the page defines."""

    def ask(self, baio: httpx.Client, question: dict[str, Any]) -> str: ...

    def stop(self, baio: httpx.Client, conversation_id: int) -> str: ...


class CuttingProxy:
    """Passes bytes on to a server, and cuts each connection after as many bytes of the response as it was told to."""

    def __init__(self, server: Server) -> None:
        where = urlsplit(server.address)
        self._target = (where.hostname or "", where.port or 0)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._cuts: list[int] = []
        self._threads: list[threading.Thread] = []
        self.connections = 0
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def cut_after(self, *sizes: int) -> None:
        """Cut the next connections after so many bytes, one each; later ones are not cut."""
        self._cuts.extend(sizes)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(10)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(self._target)
            room = self._cuts.pop(0) if self._cuts else 2**60
            self._start(_pass_on, client, server, 2**60)
            self._start(_pass_on, server, client, room)


def _pass_on(source: socket.socket, target: socket.socket, room: int) -> None:
    with contextlib.suppress(OSError):
        while room > 0 and (data := source.recv(65_536)):
            target.sendall(data[:room])
            room -= len(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


@pytest.fixture
def proxy(server: Server) -> Iterator[CuttingProxy]:
    """A network that breaks when it is told to."""
    with CuttingProxy(server) as running:
        yield running


@pytest.fixture
def baio(user: User, proxy: CuttingProxy) -> Iterator[httpx.Client]:
    """The client that the page's reader would have, over that network."""
    user.add_key()
    headers = {"Authorization": f"Bearer {user.access}", "Connection": "close"}
    with httpx.Client(base_url=proxy.address, headers=headers, trust_env=False) as client:
        yield client


@pytest.fixture
def example() -> Example:
    """The page's functions; their pauses are shortened."""
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    module = types.ModuleType("example")
    exec(compile(source, str(PAGE), "exec"), module.__dict__)
    module.__dict__["time"] = types.SimpleNamespace(sleep=lambda seconds: time.sleep(seconds / 10))
    return cast(Example, module)


def test_the_pages_example_prints_and_returns_the_answer(
    example: Example, baio: httpx.Client, user: User, provider: ScriptedProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    conversation = user.begin()
    provider.script(paced(*PIECES, delay=0.005))
    assert example.ask(baio, user.question(conversation)) == WHOLE
    assert capsys.readouterr().out == WHOLE
    assert len(provider.requests) == 1


def test_the_pages_example_comes_back_for_the_rest_when_the_connection_breaks(
    example: Example,
    baio: httpx.Client,
    user: User,
    proxy: CuttingProxy,
    provider: ScriptedProvider,
    capsys: pytest.CaptureFixture[str],
) -> None:
    conversation = user.begin()
    provider.script(paced(*PIECES, delay=0.01))
    # In mid-answer three times, wherever that is: in a character, in the frame of a chunk.
    proxy.cut_after(500, 517, 533)
    assert example.ask(baio, user.question(conversation)) == WHOLE
    assert capsys.readouterr().out == WHOLE
    assert proxy.connections == 4
    assert len(provider.requests) == 1
    assert said(user, conversation) == [("user", "What is a codon?"), ("baio", WHOLE)]


@pytest.mark.parametrize("size", [1, 200], ids=["nothing had come", "only part of the headers had come"])
def test_the_pages_example_asks_once_when_the_connection_breaks_before_the_answer(
    example: Example, baio: httpx.Client, user: User, proxy: CuttingProxy, provider: ScriptedProvider, size: int
) -> None:
    conversation = user.begin()
    provider.script(paced(*PIECES, delay=0.002))
    proxy.cut_after(size)
    assert example.ask(baio, user.question(conversation)) == WHOLE
    assert proxy.connections == 2
    assert len(provider.requests) == 1
    assert len(said(user, conversation)) == 2


def test_the_pages_example_says_what_the_server_refuses_with(
    example: Example, baio: httpx.Client, user: User, provider: ScriptedProvider
) -> None:
    with pytest.raises(RuntimeError, match="no such model"):
        example.ask(baio, user.question(user.begin(), model="gpt-1"))
    assert provider.requests == []


def test_the_pages_example_gives_up_on_an_answer_that_the_provider_cut(
    example: Example, baio: httpx.Client, user: User, provider: ScriptedProvider
) -> None:
    conversation = user.begin()
    provider.script(cut_after("Half an"))
    with pytest.raises(RuntimeError):
        example.ask(baio, user.question(conversation))
    assert len(provider.requests) == 1
    assert last(user, conversation)["state"] == "failed"


def test_the_pages_example_stops(example: Example, baio: httpx.Client, user: User, provider: ScriptedProvider) -> None:
    conversation, gate = user.begin(), threading.Event()
    provider.script(gated(gate, ("Half an",), (" answer.",)))
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(example.ask, baio, user.question(conversation))
        assert eventually(lambda: len(provider.requests) == 1)
        assert example.stop(baio, conversation) == "stopped"
        assert asking.result() in {"Half an", ""}
    assert last(user, conversation)["state"] == "stopped"
