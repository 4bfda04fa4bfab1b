"""The Python and the commands of docs/clients.md, taken from the page and run against a server."""

import contextlib
import json
import os
import re
import socket
import subprocess
import threading
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, Self, cast
from urllib.parse import urlsplit

import httpx
import pytest

from baio_api.errors import HTTP_ERRORS, PROBLEM_TYPES, status_of
from baio_domain.api_tokens import is_well_formed, new_token
from baio_domain.errors import NEVER_RAISED, every_error
from baio_domain.one_time_codes import counter_at, one_time_code
from tests.integration.answers import last, paced, said
from tests.integration.scripted_provider import ScriptedProvider, answer, cut_after, gated
from tests.integration.servers import PASSWORD, Server, User, eventually

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"

PIECES = [f"{number} µ🧬e\u0301 " for number in range(120)]
WHOLE = "".join(PIECES)


class Example(Protocol):
    """What the page defines."""

    def sign_in(self, address: str, username: str, password: str, ask_for_code: Callable[[], str]) -> httpx.Client: ...

    def ask(self, baio: httpx.Client, question: dict[str, Any]) -> str: ...

    def follow(self, baio: httpx.Client, conversation_id: int, answer_id: int, text: str = "") -> str: ...

    def stop(self, baio: httpx.Client, conversation_id: int) -> str: ...

    def is_token(self, text: str) -> bool: ...


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
    module = types.ModuleType("example")
    for source in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        exec(compile(source, str(PAGE), "exec"), module.__dict__)
    module.__dict__["time"] = types.SimpleNamespace(sleep=lambda seconds: time.sleep(seconds / 100))
    return cast(Example, module)


def test_the_page_recognizes_api_tokens_as_baio_does(example: Example) -> None:
    tokens = [new_token() for _ in range(100)]
    changed = [each[:-1] + ("0" if each[-1] != "0" else "1") for each in tokens]
    for text in (*tokens, *changed, "baio_", "", tokens[0] + "0", tokens[0].upper()):
        assert example.is_token(text) == is_well_formed(text) == (text in tokens)


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


def test_the_pages_example_survives_any_number_of_cuts_as_long_as_there_is_progress(
    example: Example, baio: httpx.Client, user: User, proxy: CuttingProxy, provider: ScriptedProvider
) -> None:
    conversation = user.begin()
    provider.script(paced(*PIECES, delay=0.002))
    proxy.cut_after(*[500] * 9)
    assert example.ask(baio, user.question(conversation)) == WHOLE
    assert proxy.connections == 10
    assert len(provider.requests) == 1


def test_the_pages_example_follows_an_answer_of_which_a_reloaded_page_knows_the_beginning(
    example: Example, baio: httpx.Client, user: User, provider: ScriptedProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    conversation, gate = user.begin(), threading.Event()
    provider.script(gated(gate, ("Half an",), (" answer.",)))
    with user.wire("/chat/sendMessage/", user.question(conversation)) as page:
        assert page.chunk() == b"Half an"
        answer_id = int(page.headers["x-answer-id"])
    gate.set()
    assert example.follow(baio, conversation, answer_id, "Half an") == "Half an answer."
    assert capsys.readouterr().out == " answer."


def test_the_pages_example_signs_in_with_a_code_and_renews_its_token(
    example: Example, user: User, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    user.add_key()
    secret = user.http.post("/user/enrollTwoFactor/", json={"password": PASSWORD}).json()["secret"]
    step = counter_at(datetime.now(UTC))
    confirmed = user.http.post("/user/confirmTwoFactor/", json={"code": one_time_code(secret, step)})
    recovery, *_ = confirmed.json()["recovery_codes"]
    name = user.account["username"]
    with pytest.raises(RuntimeError, match="wrong"):
        example.sign_in(user.server.address, name, "another password", lambda: recovery)
    with example.sign_in(user.server.address, name, PASSWORD, lambda: recovery) as baio:
        cast(Any, baio.auth).access = "expired"
        assert example.ask(baio, user.question(user.begin())) == "A codon is three nucleotides."
        assert len(provider.requests) == 1


def test_a_session_that_ends_in_mid_stream_is_refused_and_the_next_one_follows_the_answer(
    example: Example, user: User, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    user.add_key()
    conversation, gate, name = user.begin(), threading.Event(), user.account["username"]
    provider.script(gated(gate, ("Half an",), (" answer.",)))
    with example.sign_in(user.server.address, name, PASSWORD, str) as baio, ThreadPoolExecutor(1) as threads:
        asking = threads.submit(example.ask, baio, user.question(conversation))
        assert eventually(lambda: len(provider.requests) == 1)
        answer_id = last(user, conversation)["id"]
        user.http.post("/user/logoutEverywhere/")
        with pytest.raises(RuntimeError):
            asking.result()
    gate.set()
    with example.sign_in(user.server.address, name, PASSWORD, str) as baio:
        assert example.follow(baio, conversation, answer_id) == "Half an answer."


def test_the_pages_example_stops(example: Example, baio: httpx.Client, user: User, provider: ScriptedProvider) -> None:
    conversation, gate = user.begin(), threading.Event()
    provider.script(gated(gate, ("Half an",), (" answer.",)))
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(example.ask, baio, user.question(conversation))
        assert eventually(lambda: len(provider.requests) == 1)
        assert example.stop(baio, conversation) == "stopped"
        assert asking.result() in {"Half an", ""}
    assert last(user, conversation)["state"] == "stopped"


# -- The commands ------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(user: User, tmp_path: Path) -> Callable[..., str]:
    """Runs commands of the page in a shell, and returns what they print."""

    def run(*blocks: str, **variables: str) -> str:
        known = {"BAIO": user.server.address, "ACCESS": user.access, "NO_PROXY": "*", "PATH": os.environ["PATH"]}
        script = "\n".join(["set -eu", *blocks]).replace("olenor", user.account["username"])
        done = subprocess.run(
            ["bash", "-c", script],
            env={**known, **variables},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


COMMANDS = re.findall(r"(?m)(?:^    .+\n)+", re.sub(r"(?s)```.*?```", "", PAGE.read_text("utf-8")))


def test_the_pages_commands_do_what_the_page_says(
    run: Callable[..., str], user: User, provider: ScriptedProvider, tmp_path: Path
) -> None:
    ask, resume, events, stop, find, tag, archive, bring, enroll, confirm, sign_in, *of_tokens = COMMANDS
    make, use, listed, revoke, *_of_other_programs, administer = of_tokens
    user.add_key()
    conversation, text, gate = user.begin(), "Splicing. " * 20, threading.Event()
    provider.script(answer(text), gated(gate, ("Half an",), (" answer.",)))
    known = {"CONVERSATION": str(conversation)}
    printed = run(ask, "echo", resume, "echo", events, **known)
    assert printed.startswith(f"{text}\n{text[100:]}\nevent: delta\nid: 200\n")
    assert "event: end\n" in printed
    assert len(provider.requests) == 1

    with user.wire("/chat/sendMessage/", user.question(conversation)) as wire:
        assert wire.chunk() == b"Half an"
        assert json.loads(run(stop, **known))["state"] == "stopped"

    [found] = json.loads(run(find.replace("NM_007294 ex", "half a"), **known))["conversations"]
    assert (found["id"], found["snippet"]) == (conversation, "Half an")
    assert json.loads(run(tag, **known))["tags"] == ["PCR"]
    assert json.loads(run(archive, **known))["archived"]
    said = [{"sender": "human", "text": "What is a codon?"}]
    (tmp_path / "conversations.json").write_text(json.dumps([{"name": "Codons", "chat_messages": said}]))
    assert json.loads(run(bring))["imported"] == 1

    token = json.loads(run(make))["token"]
    assert {each["id"] for each in json.loads(run(use, BAIO_TOKEN=token))} >= {conversation}
    assert [token.endswith(each["ending"]) for each in json.loads(run(listed))] == [True]
    assert "revoked" in run(revoke)
    assert json.loads(run(use, BAIO_TOKEN=token))["status"] == 401

    run(enroll)
    secret = json.loads((tmp_path / "enrolment.json").read_text("utf-8"))["secret"]
    step = counter_at(datetime.now(UTC))
    first, second = (one_time_code(secret, each) for each in (step, step + 1))  # the next step's is accepted too
    assert len(json.loads(run(confirm.replace("492039", first)))["recovery_codes"]) == 10
    assert json.loads(run(sign_in.replace('"code": "492039"', '"other": 1')))["type"].endswith("second-factor-required")
    assert set(json.loads(run(sign_in.replace("492039", second)))) == {"refresh", "access"}
    assert json.loads(run(administer))["type"].endswith("not-administrator")


# -- The errors --------------------------------------------------------------------------------------------------------


def test_the_pages_table_has_every_error_with_its_status_and_no_other() -> None:
    rows = re.findall(r"(?m)^\| `([a-z-]+)` \| (\d+) \| (.+) \| (.+) \| (.+) \|$", PAGE.read_text("utf-8"))
    expected = {(kind.slug, str(int(status_of(kind)))) for kind in every_error()}
    expected |= {(slug, str(int(status))) for status, (slug, _) in HTTP_ERRORS.items()}
    assert {(slug, status) for slug, status, *_ in rows} == expected
    assert len(rows) == len(expected)
    assert sorted(f"urn:baio:error:{slug}" for slug, *_ in rows) == PROBLEM_TYPES
    assert {again for *_, again in rows} == {"yes", "no", "regenerate"}


def test_kinds_that_only_group_errors_are_never_raised() -> None:
    source = "\n".join(path.read_text("utf-8") for path in (PAGE.parents[1] / "src").rglob("*.py"))
    for kind in NEVER_RAISED:
        assert not re.search(rf"(?<!class )\b{kind.__name__}\(|raise {kind.__name__}\b", source), kind
