"""Sending a message: what reaches the client and when, what the provider is sent, and what every fault of its does."""

import asyncio
import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import NewDatabase, once, settings_for
from tests.integration.scripted_provider import (
    Behaviour,
    Exchange,
    ScriptedProvider,
    answer,
    cut_after,
    delta,
    dribble,
    echo,
    encoded,
    endless,
    endless_error,
    endless_line,
    error_event,
    events,
    finished,
    framed,
    garbage,
    gated,
    gzip_bomb,
    hang_after,
    html,
    huge_token,
    keep_alives,
    raw,
    redirect,
    refuse,
    reset_after,
    silence,
    thoughtful,
    unfinished,
    with_cookie,
)
from tests.integration.servers import KEY, Server, User, running_server, until

SYSTEM = {"role": "system", "content": "You are BAiO, a chat bot who is an expert on biology and genomic data."}
QUESTION = "What is a codon?"
PATIENCE = 30.0
"""Seconds by which a fault is over, however busy the machine: before any deadline of the server that all share."""

pytestmark = once  # what providers do wrong is about no database; what is stored of it is in the rules and the contract


def stepwise(texts: Sequence[str], gates: Sequence[threading.Event]) -> Behaviour:
    """Send each text, and wait after it until its gate is open."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        for text, gate in zip(texts, gates, strict=True):
            await exchange.text(text)
            while not gate.is_set():  # noqa: ASYNC110 - it is another thread that opens it
                await asyncio.sleep(0.002)
        await exchange.finish()

    return behave


@pytest.fixture(scope="module")
def asker(server: Server) -> Iterator[User]:
    """Somebody with a key; every test begins conversations of its own."""
    someone = User(server)
    someone.add_key()
    yield someone
    someone.http.close()


@pytest.fixture(scope="module")
def bystander(server: Server) -> Iterator[User]:
    """Somebody else."""
    someone = User(server)
    yield someone
    someone.http.close()


def state_of(user: User, conversation: int) -> str:
    """How the conversation's newest answer is, or has ended."""
    found = user.http.get("/chat/getAnswers/", params={"conversation_id": conversation}).json()
    return str(found[-1]["state"])


# -- Streaming ---------------------------------------------------------------------------------------------------------


def test_every_text_reaches_the_client_before_the_provider_sends_the_next(
    asker: User, provider: ScriptedProvider
) -> None:
    texts, gates = ["A codon ", "is ", "three ", "nucleotides."], [threading.Event() for _ in range(4)]
    provider.script(stepwise(texts, gates))
    with asker.wire("/chat/sendMessage/", asker.question(asker.begin())) as wire:
        for text, gate in zip(texts, gates, strict=True):
            assert wire.chunk() == text.encode()
            gate.set()
        assert wire.chunk() == b""


def test_an_answer_says_what_it_is_and_may_not_be_kept_or_held_back(asker: User, provider: ScriptedProvider) -> None:
    with asker.wire("/chat/sendMessage/", asker.question(asker.begin())) as wire:
        assert wire.status == 200
        assert wire.headers["content-type"] == "text/plain; charset=utf-8"
        assert wire.headers["cache-control"] == "no-store"
        assert wire.headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in wire.headers
        assert wire.headers["x-answer-id"].isdecimal()
        assert wire.chunks()[1]
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    "text", ["Ærlig talt: 🧬 og 東京", "\r\n\r\ndata: x\n\n", "e\u0301 \ufeff\u2028\u0085 e\u0301"]
)
def test_text_arrives_and_is_stored_to_the_letter(asker: User, provider: ScriptedProvider, text: str) -> None:
    provider.script(answer(*text), answer(text))
    for _ in range(2):
        conversation = asker.begin()
        with asker.wire("/chat/sendMessage/", asker.question(conversation, text)) as wire:
            chunks, ended = wire.chunks()
        assert ended
        assert "".join(chunk.decode() for chunk in chunks) == text
        assert asker.messages(conversation)[1:] == [("user", text), ("baio", text)]


def test_what_no_database_can_hold_is_replaced_alike_on_the_way_and_in_the_store(
    asker: User, provider: ScriptedProvider
) -> None:
    provider.script(events(delta(content="a\0b"), delta(content="\ud83e"), delta(content="c"), finished()))
    conversation = asker.begin()
    shown = asker.ask(conversation).text
    assert re.fullmatch("a\ufffdb\ufffd?c", shown)
    assert asker.messages(conversation)[-1] == ("baio", shown)


def test_the_answer_is_stored_when_it_ends_with_how_it_came_about(asker: User) -> None:
    conversation = asker.begin()
    asked = asker.ask(conversation)
    assert asked.text == "A codon is three nucleotides."
    assert asker.messages(conversation)[1:] == [("user", QUESTION), ("baio", asked.text)]
    records = asker.http.get("/chat/getAnswers/", params={"conversation_id": conversation}).json()
    expected = {
        "id": int(asked.headers["x-answer-id"]),
        "state": "complete",
        "requested_model": "gpt-4o-mini",
        "model": "scripted-2024",
        "finish_reason": "stop",
        "prompt_tokens": 11,
        "completion_tokens": 7,
        "reason": None,
    }
    assert {name: records[0][name] for name in expected} == expected
    assert len(records) == 1


@pytest.mark.parametrize("before", [(), ("A codon is ",)], ids=["before the first text", "after it"])
def test_a_client_that_leaves_changes_nothing(asker: User, provider: ScriptedProvider, before: tuple[str, ...]) -> None:
    gate = threading.Event()
    provider.script(gated(gate, before, ("three ", "nucleotides.")))
    conversation = asker.begin()
    name = f"left-{len(before)}-{conversation}"
    headers = {"X-Request-ID": name}
    with asker.wire("/chat/sendMessage/", asker.question(conversation), **headers) as wire:
        provider.wait_for_requests(1)
        if before:
            assert wire.chunk() == b"A codon is "
    if before:
        until(lambda: name in asker.server.log)  # the server has noticed
    assert state_of(asker, conversation) == "running"
    gate.set()
    until(lambda: state_of(asker, conversation) == "complete")
    assert asker.messages(conversation)[1:] == [("user", QUESTION), ("baio", "".join([*before, "three nucleotides."]))]


def test_a_second_question_while_the_first_is_answered_is_409_and_stores_nothing(
    asker: User, provider: ScriptedProvider
) -> None:
    gate = threading.Event()
    provider.script(gated(gate, ("A codon ",), ("is ...",)))
    conversation = asker.begin()
    with asker.wire("/chat/sendMessage/", asker.question(conversation)) as wire:
        assert wire.chunk() == b"A codon "
        refused = asker.ask(conversation, "And now?")
        assert (refused.status_code, refused.json()["answer_id"]) == (409, int(wire.headers["x-answer-id"]))
        gate.set()
        wire.chunks()
    assert asker.messages(conversation)[1:] == [("user", QUESTION), ("baio", "A codon is ...")]
    assert len(provider.requests) == 1


def test_a_fourth_running_answer_is_429_until_one_of_the_three_has_ended(
    asker: User, provider: ScriptedProvider
) -> None:
    gate = threading.Event()
    provider.script(*[gated(gate, ("A codon ",), ("is ...",))] * 3)
    fourth = asker.begin()
    with ExitStack() as stack:
        wires = [stack.enter_context(asker.wire("/chat/sendMessage/", asker.question(asker.begin()))) for _ in range(3)]
        assert [wire.chunk() for wire in wires] == [b"A codon "] * 3
        refused = asker.ask(fourth)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert len(asker.messages(fourth)) == 1
        gate.set()
        assert [wire.chunks()[1] for wire in wires] == [True] * 3
    assert asker.ask(fourth).status_code == 200


# -- Faults ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """What a provider does, and what a client then gets: a status, the text, and how it ended."""

    behaviour: Behaviour
    status: int = 200
    shown: str = ""
    state: str = "failed"


def stopping(text: str) -> dict[str, Any]:
    """The event of a text that claims to be the last."""
    return {**delta(), "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]}


SLOW = {
    "silence": Fault(silence(), 504),
    "only headers": Fault(hang_after(), 504),
    "only keep-alives": Fault(keep_alives(), 504),
    "silence after text": Fault(hang_after("A codon ", "is"), 200, "A codon is"),
    "keep-alives after text": Fault(keep_alives("A codon ", "is"), 200, "A codon is"),
}


FAULTS = {
    "one byte at a time": Fault(dribble("A codon is ø.", delay=0.001), 200, "A codon is ø.", "complete"),
    "reset": Fault(reset_after(), 502),
    "reset after text": Fault(reset_after("A codon ", "is"), 200, "A codon is"),
    "cut": Fault(cut_after(), 502),
    "cut after text": Fault(cut_after("A codon ", "is"), 200, "A codon is"),
    "no finish": Fault(unfinished(), 502),
    "no finish, but done": Fault(unfinished(done=True), 502),
    "no finish after text": Fault(unfinished("A codon ", "is"), 200, "A codon is"),
    "no finish, but done, after text": Fault(unfinished("A codon ", "is", done=True), 200, "A codon is"),
    "no text": Fault(answer(), 502),
    "empty texts": Fault(answer("", ""), 502),
    "garbage": Fault(garbage(), 502),
    "a page": Fault(html(), 502),
    "error event": Fault(error_event(), 502),
    "error event after text": Fault(error_event("A codon ", "is"), 200, "A codon is"),
    "rate limit as an event": Fault(error_event(code="rate_limit_exceeded"), 429),
    "refused key as an event": Fault(error_event(code="invalid_api_key"), 424),
    "too long as an event": Fault(error_event(code="context_length_exceeded"), 400),
    "text and an error in one read": Fault(
        raw(framed(delta(content="A codon is")) + framed({"error": {"code": "server_error"}})), 200, "A codon is"
    ),
    "text and half an event in one read": Fault(
        raw(framed(delta(content="A codon is")) + b'data: {"choices": [{"delta": {"con\n\n'), 200, "A codon is"
    ),
    "text that is cut before its blank line": Fault(raw(framed(delta(content="A codon is"))[:-2]), 200, "A codon is"),
    "a byte order mark and carriage returns": Fault(
        raw(b"\xef\xbb\xbf" + (framed(delta(content="A codon is.")) + framed(finished())).replace(b"\n", b"\r")),
        200,
        "A codon is.",
        "complete",
    ),
    "stop with every text": Fault(
        events(*(stopping(text) for text in ("A codon ", "is."))),
        200,
        "A codon is.",
        "complete",
    ),
    "thinking": Fault(thoughtful(["Hm. "], "A codon."), 200, "A codon.", "complete"),
    "a finish reason that is a failure": Fault(answer("A codon", finish="error"), 200, "A codon"),
    "no text, and a filter": Fault(answer(finish="content_filter"), 400),
    "no text, and the length used up": Fault(answer(finish="MAX_TOKENS"), 502),
    "no compression, by another name": Fault(encoded(answer("A codon."), "none"), 200, "A codon.", "complete"),
    "huge text": Fault(huge_token(), 502),
    "large text": Fault(huge_token(500_000), 200, "A" * 500_000, "complete"),
    "endless line": Fault(endless_line(), 502),
    "gzip bomb": Fault(gzip_bomb(), 502),
    "endless error": Fault(endless_error(), 502),
    "endless refusal": Fault(endless_error(401), 424),
    "redirect": Fault(redirect("http://127.0.0.1:9/v1/chat/completions"), 502),
    "empty 200": Fault(events(), 502),
    "no choices": Fault(events({"choices": []}, {"choices": None}, {}), 502),
    "wrong shapes": Fault(events({"choices": "x"}), 502),
    "wrong shapes after text": Fault(events(delta(content="A codon is"), {"choices": [7]}), 200, "A codon is"),
    "length": Fault(answer("A codon", finish="length"), 200, "A codon", "truncated"),
    "filter": Fault(answer("A codon", finish="content_filter"), 200, "A codon", "truncated"),
    "another finish": Fault(answer("A codon", finish="tool_calls"), 200, "A codon", "complete"),
    **{f"status {status}": Fault(refuse(status), 502) for status in (418, 500, 501, 502, 503, 529)},
    **{f"status {status}": Fault(refuse(status), 424) for status in (401, 402, 403)},
    **{f"status {status}": Fault(refuse(status), 400) for status in (400, 404, 413, 422)},
    **{f"status {status}": Fault(refuse(status), 504) for status in (408, 504)},
    "status 429": Fault(refuse(429, retry_after="7"), 429),
    "a page with 401": Fault(refuse(401, page=True), 424),
    "a page with 503": Fault(refuse(503, page=True), 502),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_ends_in_time_is_told_from_success_and_leaves_everything_working(
    asker: User, bystander: User, provider: ScriptedProvider, name: str
) -> None:
    meets_with(FAULTS[name], asker, bystander, provider)


def meets_with(fault: Fault, asker: User, bystander: User, provider: ScriptedProvider) -> None:
    """Ask a provider with this fault, and check all that then has to be."""
    provider.script(fault.behaviour)
    conversation = asker.begin()
    began = time.monotonic()
    with asker.wire("/chat/sendMessage/", asker.question(conversation)) as wire:
        provider.wait_for_requests(1)
        assert bystander.http.get("/user/getInfo/").status_code == 200
        assert wire.status == fault.status
        if fault.status == 200:
            chunks, ended = wire.chunks()
            assert b"".join(chunks).decode() == fault.shown
            assert ended == (fault.state in ("complete", "truncated"))
        else:
            assert wire.headers["content-type"] == "application/problem+json"
            assert b"secret-things" not in wire.rest()
    assert time.monotonic() - began < PATIENCE
    said = [("user", QUESTION), *([("baio", fault.shown)] if fault.shown else [])]
    assert asker.messages(conversation)[1:] == said
    assert state_of(asker, conversation) == fault.state
    assert len(provider.requests) == 1
    assert asker.ask(conversation, "Go on.").status_code == 200
    expected = [*said, ("user", "Go on."), ("baio", "A codon is three nucleotides.")]
    assert asker.messages(conversation)[1:] == expected


@pytest.fixture(scope="module")
def hurried(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with deadlines that a test can wait for."""
    settings = settings_for(new_database.prepared(), provider)
    settings |= {"BAIO_FIRST_TEXT_SECONDS": "2", "BAIO_BETWEEN_TEXT_SECONDS": "1", "BAIO_ANSWER_SECONDS": "3"}
    with running_server(tmp_path_factory.mktemp("hurried"), settings) as running:
        yield running


@pytest.fixture(scope="module")
def hurried_user(hurried: Server) -> Iterator[User]:
    """Somebody on that server, with a key."""
    someone = User(hurried)
    someone.add_key()
    yield someone
    someone.http.close()


@pytest.mark.parametrize("name", SLOW)
def test_a_provider_that_is_too_slow_is_no_longer_waited_for(
    hurried_user: User, provider: ScriptedProvider, name: str
) -> None:
    meets_with(SLOW[name], hurried_user, hurried_user, provider)
    provider.wait_until_left(0)


def test_an_endless_answer_is_cut_at_its_deadline(hurried_user: User, provider: ScriptedProvider) -> None:
    provider.script(endless("more ", delay=0.05))
    conversation = hurried_user.begin()
    began = time.monotonic()
    with hurried_user.wire("/chat/sendMessage/", hurried_user.question(conversation)) as wire:
        chunks, ended = wire.chunks()
    assert 2.9 < time.monotonic() - began < PATIENCE
    assert not ended
    assert hurried_user.messages(conversation)[-1] == ("baio", b"".join(chunks).decode())
    provider.wait_until_left(-1)


def largest_memory(server: Server) -> int:
    """The most memory that the server has ever had, in MiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{server.process.pid}/status").read_text())
    assert found
    return int(found[1]) // 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says how much memory a process has had")
@pytest.mark.parametrize("name", ["endless line", "gzip bomb", "endless error", "huge text"])
def test_a_provider_that_sends_too_much_costs_no_memory(
    new_server: Server, provider: ScriptedProvider, name: str
) -> None:
    asker = User(new_server)
    asker.add_key()
    for _ in range(10):
        asker.ask(asker.begin())
    before = largest_memory(asker.server)
    provider.script(FAULTS[name].behaviour)
    assert asker.ask(asker.begin()).status_code == 502
    assert largest_memory(asker.server) - before < 32
    asker.http.close()


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("7", "7"),
        ("0", "0"),
        ("6.2", "7"),
        ("1e9", None),
        ("-3", None),
        ("soon", None),
        ("9" * 400, "86400"),
        (None, None),
    ],
)
def test_a_rate_limits_retry_after_is_the_providers_as_far_as_it_makes_sense(
    asker: User, provider: ScriptedProvider, said: str | None, heard: str | None
) -> None:
    provider.script(refuse(429, code="rate_limit_exceeded", retry_after=said))
    refused = asker.ask(asker.begin())
    assert (refused.status_code, refused.headers.get("retry-after")) == (429, heard)


def test_a_retry_after_may_be_a_date(asker: User, provider: ScriptedProvider) -> None:
    provider.script(refuse(429, retry_after=formatdate(time.time() + 600, usegmt=True)))
    assert 540 < int(asker.ask(asker.begin()).headers["retry-after"]) <= 600


@pytest.mark.parametrize(
    ("code", "status", "slug"),
    [
        ("invalid_api_key", 424, "key-refused"),
        ("model_not_found", 400, "model-refused"),
        ("context_length_exceeded", 400, "prompt-too-long"),
        ("insufficient_quota", 429, "provider-rate-limited"),
        ("something_else", 400, "prompt-refused"),
    ],
)
def test_the_providers_code_says_more_than_its_status(
    asker: User, provider: ScriptedProvider, code: str, status: int, slug: str
) -> None:
    provider.script(refuse(400, code=code))
    refused = asker.ask(asker.begin())
    assert (refused.status_code, refused.json()["type"]) == (status, f"urn:baio:error:{slug}")


@pytest.mark.parametrize(
    "behaviour",
    [refuse(429, retry_after=1), refuse(500), refuse(503), refuse(408), refuse(409), reset_after(), cut_after()],
    ids=["429", "500", "503", "408", "409", "reset", "cut"],
)
def test_nothing_is_asked_twice(asker: User, provider: ScriptedProvider, behaviour: Behaviour) -> None:
    provider.script(behaviour)
    assert asker.ask(asker.begin()).status_code >= 400
    assert len(provider.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(asker: User, provider: ScriptedProvider, status: int) -> None:
    with ScriptedProvider() as elsewhere:
        provider.script(redirect(f"{elsewhere.base_url}/chat/completions", status))
        assert asker.ask(asker.begin()).status_code == 502
        assert elsewhere.requests == []
    assert len(provider.requests) == 1


# -- What the provider is sent -----------------------------------------------------------------------------------------


def test_the_provider_is_sent_the_users_key_the_models_identifier_and_nothing_needless(
    asker: User, provider: ScriptedProvider
) -> None:
    asker.ask(asker.begin(), model="GPT-4o mini")
    request = provider.requests[0]
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    tools = request.body["tools"]
    assert all(tool.keys() == {"type", "function"} for tool in tools)
    assert {"gc_content", "translate"} <= {tool["function"]["name"] for tool in tools}
    assert request.body == {
        "tools": tools,
        "model": "gpt-4o-mini",
        "messages": [SYSTEM, {"role": "user", "content": QUESTION}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["accept-encoding"] == "identity"
    needed = {"host", "accept", "accept-encoding", "authorization", "content-type", "content-length", "user-agent"}
    assert set(request.headers) <= {*needed, "connection"}


@pytest.mark.parametrize("model", ["OpenAI o1-preview", "o1-mini"])
def test_o1_models_get_no_system_role_and_no_bound_on_tokens(
    asker: User, provider: ScriptedProvider, model: str
) -> None:
    asker.ask(asker.begin(), model=model)
    body = provider.requests[0].body
    assert body["model"] == model.removeprefix("OpenAI ")
    assert body["messages"] == [{"role": "user", "content": f"{SYSTEM['content']}\n\n{QUESTION}"}]
    assert not [name for name in body if "max" in name]


def test_a_cookie_of_the_provider_is_not_sent_with_anybodys_next_question(
    asker: User, other: User, provider: ScriptedProvider
) -> None:
    other.add_key("OpenAI Key", "sk-another-key-of-another-user")
    provider.script(*[with_cookie(answer("Yes."), "session=of-the-first-user; Path=/")] * 2)
    for someone in (asker, other, asker):
        assert someone.ask(someone.begin()).status_code == 200
    assert [request.headers.get("cookie") for request in provider.requests] == [None] * 3


def test_a_long_history_is_trimmed_from_the_oldest_without_gaps(asker: User, provider: ScriptedProvider) -> None:
    conversation = asker.begin()
    questions = [f"{number} " + "word" * 25_000 for number in range(5)]
    for question in questions:
        assert asker.ask(conversation, question).status_code == 200
    said = [part for question in questions for part in (question, "A codon is three nucleotides.")][:-1]
    sent = [message["content"] for message in provider.requests[-1].body["messages"]]
    assert sent[0] == SYSTEM["content"]
    assert len(sent) < len(said) + 1
    assert sent[1:] == said[-len(sent) + 1 :]
    assert sum(len(text) for text in sent) > 250_000


# -- A server in an environment that would lead others astray ----------------------------------------------------------


@pytest.fixture(scope="module")
def trap() -> Iterator[ScriptedProvider]:
    """Where nothing may go."""
    with ScriptedProvider() as running:
        yield running


@pytest.fixture(scope="module")
def misled(
    new_database: NewDatabase,
    provider: ScriptedProvider,
    trap: ScriptedProvider,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    """A server in an environment with a key, an organisation, headers and proxies; many short answers a user."""
    proxy = trap.base_url.removesuffix("/v1")
    environment = {
        **settings_for(new_database.prepared(), provider),
        "BAIO_ANSWERS_PER_USER": "50",
        "BAIO_MAX_ANSWER_CHARS": "1000",
        "OPENAI_API_KEY": "sk-of-the-server-itself",
        "OPENAI_ADMIN_KEY": "sk-of-its-admin",
        "OPENAI_ORG_ID": "org-of-the-server",
        "OPENAI_PROJECT_ID": "project-of-the-server",
        "OPENAI_BASE_URL": trap.base_url,
        "OPENAI_CUSTOM_HEADERS": "X-Led-Astray: yes\nAuthorization: Bearer sk-astray",
        "OPENAI_LOG": "debug",
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"), proxy),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), ""),
    }
    with running_server(tmp_path_factory.mktemp("misled"), environment) as running:
        yield running


@pytest.fixture
def misled_user(misled: Server) -> Iterator[User]:
    """Somebody on that server, with a key."""
    someone = User(misled)
    someone.add_key()
    yield someone
    someone.http.close()


def test_the_environments_key_organisation_headers_and_proxies_have_no_effect(
    misled_user: User, provider: ScriptedProvider, trap: ScriptedProvider
) -> None:
    assert misled_user.ask(misled_user.begin()).text == "A codon is three nucleotides."
    request = provider.requests[0]
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert not re.search("astray|of-the-server|of-its-admin|^openai", str(request.headers), re.MULTILINE)
    assert not [name for name in request.headers if name.startswith(("openai-", "x-led"))]
    assert (trap.requests, trap.open_connections) == ([], 0)
    assert not re.search("sk-of|sk-astray|org-of|project-of", misled_user.server.log)


def test_an_endless_answer_is_truncated_at_its_length_and_the_provider_is_left(
    misled_user: User, provider: ScriptedProvider
) -> None:
    provider.script(endless("more ", delay=0.001))
    conversation = misled_user.begin()
    with misled_user.wire("/chat/sendMessage/", misled_user.question(conversation)) as wire:
        chunks, ended = wire.chunks()
    text = b"".join(chunks).decode()
    assert (len(text), ended, state_of(misled_user, conversation)) == (1000, True, "truncated")
    assert misled_user.messages(conversation)[-1] == ("baio", text)
    provider.wait_until_left(-1)


def test_200_questions_at_once_are_each_asked_with_the_key_that_belongs_to_them(
    misled: Server, provider: ScriptedProvider
) -> None:
    provider.always(echo())
    with ExitStack() as stack:
        questions: list[tuple[User, dict[str, Any], str]] = []
        for each in range(4):
            someone = User(misled)
            stack.callback(someone.http.close)
            for number in range(50):
                key, nickname = f"sk-user-{each}-key-{number}", f"Key {number}"
                someone.add_key(nickname, key)
                content = f"Question {number} of user {each}"
                question = someone.question(someone.begin(), content, apikey_nickname=nickname)
                questions.append((someone, question, f"{key} {content}"))
        random.Random(7).shuffle(questions)
        wires = [stack.enter_context(user.wire("/chat/sendMessage/", body)) for user, body, _ in questions]
        for wire, (user, body, expected) in zip(wires, questions, strict=True):
            while wire.status == 503:  # on a busy machine some have to ask again
                wire = stack.enter_context(user.wire("/chat/sendMessage/", body))  # noqa: PLW2901
            chunks, ended = wire.chunks()
            assert (wire.status, b"".join(chunks).decode(), ended) == (200, expected, True)
    asked = [
        f"{request.headers['authorization'].removeprefix('Bearer ')} {request.body['messages'][-1]['content']}"
        for request in provider.requests
    ]
    assert sorted(asked) == sorted(expected for _, _, expected in questions)
