"""What one user may have, over HTTP and across workers: each limit, at it and beyond it."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx2
import pytest

from tests.integration.answers import said, send
from tests.integration.conftest import NewDatabase, lasting_server_on, server_on
from tests.integration.scripted_provider import Exchange, ScriptedProvider, gated, models
from tests.integration.servers import KEY, PASSWORD, Server, User, eventually, problem
from tests.integration.test_follow import follow, text_of

LIMITS = {
    "BAIO_STORED_BYTES_PER_USER": "20000",
    "BAIO_CONVERSATIONS_PER_USER": "4",
    "BAIO_API_KEYS_PER_USER": "3",
    "BAIO_API_TOKENS_PER_USER": "2",
    "BAIO_SESSIONS_PER_USER": "3",
    "BAIO_STREAMS_PER_USER": "2",
    "BAIO_KEY_TESTS_PER_USER": "2",
}


@pytest.fixture(scope="module")
def workers(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Server]]:
    """Two servers on one database, with small quotas."""
    url = new_database.prepared()
    with (
        lasting_server_on(tmp_path_factory.mktemp("here"), url, provider, **LIMITS) as here,
        server_on(tmp_path_factory.mktemp("there"), url, provider, **LIMITS) as there,
    ):
        yield here, there


def kind(response: httpx2.Response, status: int) -> str:
    """The type of this refusal, which says what to do."""
    found = problem(response, status)
    assert any(word in found["detail"] for word in ("Delete", "Revoke", "close one", "wait for one"))
    return str(found["type"]).removeprefix("urn:baio:error:")


def test_beyond_the_stored_text_a_question_is_refused_and_not_stored(here: User, there: User) -> None:
    conversation = here.begin()
    assert here.ask(conversation, "x" * 15_000).status_code == 200
    before = said(here, conversation)
    for each in (here, there):
        assert kind(each.ask(conversation, "x" * 5_000), 409) == "storage-full"
    assert said(here, conversation) == before
    assert here.ask(conversation, "x" * 100).status_code == 200
    assert here.http.post("/chat/deleteConversation/", json={"conversation_id": conversation}).status_code == 200
    assert there.ask(there.begin(), "x" * 15_000).status_code == 200


def create(user: User) -> httpx2.Response:
    """Create a conversation."""
    return user.http.post("/chat/createConversation/", json={"title": "x"})


def add(user: User, nickname: str) -> httpx2.Response:
    """Store a key."""
    return user.http.post("/chat/addAPIKey/", json={"key": KEY, "nickname": nickname})


def test_beyond_the_conversations_and_keys_another_one_is_refused(here: User, there: User) -> None:
    assert [create(each).status_code for each in (here, there) * 2] == [201] * 4
    assert [kind(create(each), 409) for each in (here, there)] == ["too-many-conversations"] * 2
    assert [add(there, name).status_code for name in "ab"] == [201] * 2
    assert [kind(add(each, "c"), 409) for each in (here, there)] == ["too-many-api-keys"] * 2
    assert there.http.post("/chat/deleteAPIKey/", json={"nickname": "a"}).status_code == 200
    assert add(here, "c").status_code == 201


def test_beyond_the_api_tokens_another_one_is_refused_and_a_revoked_one_makes_room(here: User, there: User) -> None:
    def make(user: User, name: str) -> httpx2.Response:
        return user.http.post("/user/createToken/", json={"name": name, "scopes": ["read"], "password": PASSWORD})

    assert [make(each, name).status_code for each, name in ((here, "a"), (there, "b"))] == [201] * 2
    assert [kind(make(each, "c"), 409) for each in (here, there)] == ["too-many-api-tokens"] * 2
    assert here.http.post("/user/revokeToken/", json={"name": "a"}).status_code == 200
    assert make(there, "c").status_code == 201


def test_beyond_the_stored_text_a_tool_of_mcp_has_a_result_that_the_model_can_read(here: User) -> None:
    arguments = {"sequence": "ACGT" * 4_000}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "gc_content", "arguments": arguments}}
    results = [here.http.post("/mcp", json=call).json()["result"] for _ in range(2)]
    assert [each["isError"] for each in results] == [False, True]
    assert results[1]["content"][0]["text"].endswith("Delete conversations that you no longer need.")


def test_of_requests_that_race_for_the_last_place_exactly_one_gets_it(here: User, there: User) -> None:
    def race(act: Callable[[User, int], httpx2.Response]) -> list[int]:
        start = threading.Barrier(8)

        def one(number: int) -> int:
            start.wait(30)
            return act((here, there)[number % 2], number).status_code

        with ThreadPoolExecutor(8) as threads:
            return sorted(threads.map(one, range(8)))

    for _ in range(3):
        create(here)
    for round_ in range(8):
        assert race(lambda user, _: create(user)) == [201] + [409] * 7
        conversations = here.http.get("/chat/getConversations/").json()
        assert len(conversations) == 4
        here.http.post("/chat/deleteConversation/", json={"conversation_id": conversations[0]["id"]})
        if round_ < 5:
            add(here, "second")
            assert race(lambda user, number: add(user, str(number))) == [201] + [409] * 7
            keys = here.http.get("/chat/getApiKeys/").json()
            assert len(keys) == 3
            here.http.post("/chat/deleteAPIKey/", json={"nickname": keys[2]["nickname"]})


def test_with_one_more_session_the_oldest_ends_on_every_worker(here: User, there: User) -> None:
    first = here.access
    others = []
    for _ in range(2):
        here.sign_in()
        others.append(here.access)
    assert there.http.get("/user/getInfo/", headers={"Authorization": f"Bearer {first}"}).status_code == 200
    here.sign_in()
    problem(there.http.get("/user/getInfo/", headers={"Authorization": f"Bearer {first}"}), 401)
    for access in (*others, here.access):
        assert there.http.get("/user/getInfo/", headers={"Authorization": f"Bearer {access}"}).status_code == 200


def test_beyond_the_streams_nothing_more_is_followed_but_questions_are_asked(
    here: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    provider.always(gated(gate, ("A codon",), (" is.",)))
    conversation = here.begin()
    with ExitStack() as stack:
        asking = stack.enter_context(send(here, conversation))
        assert asking.chunk() == b"A codon"
        first = stack.enter_context(follow(here, conversation))
        assert first.chunk() == b"A codon"
        params = {"conversation_id": conversation}
        refused = here.http.get("/chat/followAnswer/", params=params)
        assert kind(refused, 429) == "too-many-streams"
        assert refused.headers["Retry-After"] == "1"
        more = stack.enter_context(send(here, here.begin()))
        assert more.chunk() == b"A codon"
        first.close()
        # The server has noticed that it left when there is room again.
        more.close()
        assert eventually(lambda: status_of(here, conversation) == 200)
        gate.set()
        assert text_of(asking) == " is."


def test_of_questions_that_race_for_the_last_bytes_only_those_that_fit_are_stored(here: User, there: User) -> None:
    conversations = [here.begin() for _ in range(3)]

    def ask(number: int) -> int:
        return (here, there)[number % 2].ask(conversations[number], "x" * 12_000).status_code

    with ThreadPoolExecutor(3) as threads:
        assert sorted(threads.map(ask, range(3))) == [200, 409, 409]


def status_of(user: User, conversation: int) -> int:
    """Whether another follower is accepted."""
    with follow(user, conversation) as wire:
        return wire.status


def test_beyond_the_tests_at_once_a_key_is_not_tested(
    here: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    waiting = threading.Semaphore(0)

    async def behave(exchange: Exchange) -> None:
        waiting.release()
        while not gate.is_set():
            await exchange.pause(0.002)
        await models("gpt-4o")(exchange)

    provider.models = behave

    def test(_: int) -> httpx2.Response:
        return here.http.post("/chat/testAPIKey/", json={"nickname": "OpenAI Key"})

    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(test, number) for number in range(2)]
        assert all(waiting.acquire(timeout=30) for _ in running)
        refused = test(2)
        gate.set()
        assert kind(refused, 429) == "too-many-key-tests"
        assert [each.result().status_code for each in running] == [200] * 2
    assert test(3).status_code == 200
