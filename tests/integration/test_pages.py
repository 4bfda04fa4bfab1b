"""Long conversations, lists and exports: the same bytes as short ones, page by page, and bounded memory."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from sqlalchemy import insert, update

from baio_adapters.sql.database import SqlDatabase
from baio_adapters.sql.tables import answers, conversations
from baio_domain.entities import NOWHERE, Act, Role
from baio_domain.ports import PAGE_ROWS, Transaction
from tests.integration.answers import ended, said, send
from tests.integration.conftest import NewDatabase, once, server_on
from tests.integration.scripted_provider import ScriptedProvider, answer, gated
from tests.integration.servers import Server, User, Wire, until
from tests.integration.test_follow import follow

NOW = datetime(2026, 1, 31, 10, 0, 0, 1, UTC)
MIB = 2**20


def write(server: Server, work: Callable[[Transaction], None]) -> None:
    """Store something at once, for which requests would take long."""
    database = SqlDatabase(server.database)
    asyncio.run(database.write(work))
    database.close()


def owner_of(user: User) -> int:
    """The user's id."""
    found: int = user.http.get("/user/exportData/").json()["account"]["id"]
    return found


def get(user: User, path: str) -> Wire:
    """A request on a socket of its own, of which nothing is read yet."""
    return Wire(user.server, "GET", path, headers={"Authorization": f"Bearer {user.access}"})


def fill(user: User, conversation: int, *contents: str) -> None:
    """Messages, stored at once."""
    owner = owner_of(user)

    def work(tx: Transaction) -> None:
        for each in contents:
            tx.messages.add(conversation, Role.USER, each, NOW, owner=owner)

    write(user.server, work)


TEXTS = ["a" * 100_000, '\N{DNA DOUBLE HELIX}"\\\n' * 50_000, "", "µ" * 700_000, *("short" for _ in range(2_000))]


def test_a_long_conversation_has_the_same_form_as_a_short_one_and_comes_in_pieces(user: User) -> None:
    short, long = user.begin("Short"), user.begin('A "long" one')
    fill(user, long, *TEXTS)
    read = user.http.get("/chat/getConversation/", params={"conversation_id": long})
    assert read.headers["content-type"] == "application/json"
    assert "content-length" not in read.headers
    document = read.json()
    assert list(document) == ["id", "title", "messages"]
    assert (document["id"], document["title"]) == (long, 'A "long" one')
    assert [each["content"] for each in document["messages"][1:]] == TEXTS
    assert document["messages"][1] == {
        "role": "user", "content": TEXTS[0], "created_at": "2026-01-31T10:00:00.000001Z",
    }  # fmt: skip
    compact = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    assert read.text == compact
    brief = user.http.get("/chat/getConversation/", params={"conversation_id": short})
    assert brief.headers["content-length"] == str(len(brief.content))
    assert list(brief.json()) == list(document)


def test_long_lists_are_complete_and_in_their_order(user: User) -> None:
    owner, many = owner_of(user), 2 * PAGE_ROWS + 1
    first = user.begin()
    question = user.begin()

    def work(tx: Transaction) -> None:
        for number in range(many):
            tx.conversations.add(owner, str(number), NOW + timedelta(seconds=number // 3))
        asked = tx.messages.add(question, Role.USER, "?", NOW, owner=owner)
        connection = tx.answers._connection  # type: ignore[attr-defined]  # all at once
        row = {
            "conversation_id": question, "question_id": asked.id, "state": "failed", "requested_model": "gpt-4o",
            "started_at": NOW, "left_out": 0, "provider_id": 1, "lease_until": NOW, "stopping": False,
            "user_id": owner, "slot": 1,
        }  # fmt: skip
        connection.execute(insert(answers), [row] * many)
        for number in range(many):
            tx.audit.add((Act.SIGNED_IN, Act.SIGNED_OUT)[number % 2], owner, NOWHERE, NOW)
            tx.idempotency.remember(owner, f"key {number}", b"mark", 1, datetime.now(UTC))
        connection.execute(update(conversations).where(conversations.c.id == question).values(stored_bytes=10**6))

    write(user.server, work)
    listed = user.http.get("/chat/getConversations/").json()
    assert {each["title"] for each in listed} == {"New Research Topic", *(str(number) for number in range(many))}
    order = [(each["created_at"], each["id"]) for each in listed]
    assert order == sorted(order, reverse=True)
    assert len(set(order)) == many + 2
    records = user.http.get("/chat/getAnswers/", params={"conversation_id": question}).json()
    assert [each["id"] for each in records] == sorted({each["id"] for each in records})
    assert len(records) == many
    exported = user.http.get("/user/exportData/").json()
    assert [each["id"] for each in exported["conversations"]] == [each["id"] for each in listed]
    by_id = {each["id"]: each for each in exported["conversations"]}
    assert len(by_id[question]["answers"]) == many
    assert by_id[first]["answers"] == []
    assert len(exported["audit"]) == many + 4
    assert [each["key"] for each in exported["idempotency_keys"]] == sorted(f"key {each}" for each in range(many))


def begun(user: User, path: str) -> Wire:
    """A long response of which one chunk is read, and whose server waits for the client."""
    wire = get(user, path)
    assert wire.chunk()
    return wire


def test_a_conversation_that_is_deleted_while_it_is_read_is_cut(user: User) -> None:
    conversation = user.begin()
    fill(user, conversation, *["x" * 500_000] * 60)
    with begun(user, f"/chat/getConversation/?conversation_id={conversation}") as wire:
        assert user.http.post("/chat/deleteConversation/", json={"conversation_id": conversation}).status_code == 200
        chunks, properly = wire.chunks()
        assert not properly
        assert sum(map(len, chunks)) < 30_000_000


@pytest.mark.parametrize("path", ["/chat/getConversation/?conversation_id={}", "/user/exportData/"])
def test_what_is_read_is_cut_when_its_session_ends(path: str, user: User) -> None:
    conversation = user.begin()
    fill(user, conversation, *["x" * 500_000] * 60)
    with begun(user, path.format(conversation)) as wire:
        assert user.http.post("/user/logout/", json={"refresh": user.refresh}).status_code == 200
        _, properly = wire.chunks()
        assert not properly


def test_readers_that_do_not_read_keep_nobody_waiting(user: User, other: User, provider: ScriptedProvider) -> None:
    conversation = user.begin()
    fill(user, conversation, *["x" * 500_000] * 60)
    other.add_key()
    provider.always(answer("Yes."))
    with ExitStack() as stack:
        # More of them than there are threads and connections to read with.
        wires = [stack.enter_context(begun(user, "/user/exportData/")) for _ in range(10)]
        wires += [
            stack.enter_context(begun(user, f"/chat/getConversation/?conversation_id={conversation}"))
            for _ in range(10)
        ]
        theirs = other.begin()
        assert other.ask(theirs).text == "Yes."
        assert said(other, theirs)[-1] == ("baio", "Yes.")
        assert user.http.post("/user/updateInfo/", json={"country": "Sweden"}).status_code == 200
        assert wires[0].chunks()[1]


@pytest.fixture
def account(new_server: Server) -> Iterator[User]:
    """A researcher at a server that has done nothing yet."""
    someone = User(new_server)
    someone.add_key()
    yield someone
    someone.http.close()


def test_twenty_exports_at_once_cost_bounded_memory(
    account: User, record_property: Callable[[str, object], None]
) -> None:
    conversation = account.begin()
    for _ in range(4):
        fill(account, conversation, *["ACGT" * 65_536] * 6, *["µ" * 2_000] * 50)
    whole = len(account.http.get("/user/exportData/").content)
    assert whole > 6 * MIB
    process = psutil.Process(account.server.process.pid)
    before = highest = process.memory_info().rss
    stopped = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not stopped.wait(0.01):
            highest = max(highest, process.memory_info().rss)

    def export(_: int) -> int:
        with get(account, "/user/exportData/") as wire:
            assert wire.status == 200
            total = 0
            while chunk := wire.chunk():
                total += len(chunk)
            assert chunk == b""
            return total

    watching = threading.Thread(target=watch)
    watching.start()
    with ThreadPoolExecutor(20) as threads:
        sizes = list(threads.map(export, range(20)))
    stopped.set()
    watching.join()
    grown = (highest - before) / MIB
    record_property("MiB by which the server has grown", round(grown, 1))
    assert all(size >= whole for size in sizes)
    assert grown < 60


def test_twelve_clients_that_never_read_cost_bounded_memory(
    account: User, provider: ScriptedProvider, record_property: Callable[[str, object], None]
) -> None:
    conversation = account.begin()
    provider.script(answer(*["µ" * 1000] * 999))
    account.ask(conversation)
    long = account.begin()
    fill(account, long, *["x" * 1_000_000] * 30)
    process = psutil.Process(account.server.process.pid)
    before = process.memory_info().rss
    with ExitStack() as stack:
        for number in range(12):
            stack.enter_context(follow(account, conversation))
            if number % 2:
                stack.enter_context(begun(account, f"/chat/getConversation/?conversation_id={long}"))
        grown = (process.memory_info().rss - before) / MIB
    record_property("MiB by which the server has grown", round(grown, 1))
    assert grown < 60


@once
def test_a_client_that_does_not_read_is_cut_and_the_answer_goes_on(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, url = tmp_path_factory.mktemp("stalled"), new_database.prepared()
    with server_on(folder, url, provider, BAIO_STALLED_CLIENT_SECONDS="1", BAIO_MAX_ANSWER_CHARS="10000000") as server:
        user = User(server)
        user.add_key()
        conversation = user.begin()
        gate = threading.Event()
        provider.script(gated(gate, ("x" * 100_000,) * 90, (" is.",)))
        with send(user, conversation) as wire:
            assert wire.chunk()
            until(lambda: "client stalled" in server.log)
            chunks, properly = wire.chunks()
            assert not properly
            assert sum(map(len, chunks)) < 9_000_000
        gate.set()
        assert ended(user, conversation)["state"] == "complete"
        assert said(user, conversation)[-1][1].endswith("x is.")
        with begun(user, f"/chat/getConversation/?conversation_id={conversation}") as wire:
            until(lambda: server.log.count("client stalled") == 2)
            assert not wire.chunks()[1]
        user.http.close()
