"""Leaving: everything that is stored about oneself in one document, and nothing of it left."""

import threading
from typing import Any

import pytest
from sqlalchemy import select

from baio_adapters.sql.tables import audit
from baio_domain.retention import STEP_ROWS
from tests.integration.answers import send
from tests.integration.scripted_provider import ScriptedProvider, answer, gated
from tests.integration.servers import KEY, PASSWORD, User, problem, until


@pytest.fixture
def someone(user: User) -> User:
    """Somebody with a key and a conversation."""
    user.add_key()
    user.ask(user.begin("Codons"))
    user.begin("Nothing yet")
    return user


def test_the_document_has_everything_but_what_nobody_may_read(someone: User, other: User) -> None:
    other.begin("somebody else's")
    exported = someone.http.get("/user/exportData/")
    assert exported.status_code == 200
    document = exported.json()
    assert list(document) == [
        "account", "two_factor_enabled_at", "sessions", "api_tokens", "api_keys", "conversations", "audit",
        "idempotency_keys", "tool_calls", "sequences", "usage", "presets", "identities",
    ]  # fmt: skip
    assert document["two_factor_enabled_at"] is None
    [session] = document["sessions"]
    assert session["user_agent"] == someone.http.headers["User-Agent"]
    assert [entry["act"] for entry in document["audit"]] == [
        "registered", "signed-in", "api-key-added", "data-exported",
    ]  # fmt: skip
    assert {entry["address"] for entry in document["audit"]} == {someone.http.headers["X-Forwarded-For"]}
    beyond = {name: document["account"].pop(name) for name in ("id", "created_at", "administrator")}
    assert document["account"] == someone.http.get("/user/getInfo/").json()
    assert beyond["administrator"] is False
    assert [(each["nickname"], each["provider"]) for each in document["api_keys"]] == [("OpenAI Key", "OpenAI")]
    assert [each["title"] for each in document["conversations"]] == ["Nothing yet", "Codons"]
    _, codons = document["conversations"]
    assert [(each["role"], each["content"]) for each in codons["messages"]] == someone.messages(codons["id"])
    [record] = codons["answers"]
    of_answer = someone.http.get(
        "/chat/getAnswers/", params={"conversation_id": codons["id"], "context": "true", "settings": "true"}
    )
    assert record == of_answer.json()[0]
    for secret in (KEY, PASSWORD, "argon2", "somebody else's"):
        assert secret not in exported.text


def test_the_document_has_every_text_that_is_kept_and_every_key_that_is_remembered(
    someone: User, other: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = someone.begin("Twice")
    provider.script(*(answer(text) for text in ("First.", "Second.", "Third.")), gated(gate, ("Half",), (" of it",)))
    asked = {"Idempotency-Key": "asked"}
    someone.http.post("/chat/sendMessage/", json=someone.question(conversation), headers=asked)
    again = {"conversation_id": conversation, "apikey_nickname": "OpenAI Key", "model": "gpt-4o-mini"}
    for _ in range(2):
        assert someone.http.post("/chat/regenerateAnswer/", json=again).status_code == 200
    begun = {"Idempotency-Key": "begun"}
    someone.http.post("/chat/createConversation/", json={"title": "By key"}, headers=begun)
    other.http.post("/chat/createConversation/", headers={"Idempotency-Key": "theirs"})
    someone.sign_in()
    with send(someone, conversation) as wire:
        assert wire.chunk() == b"Half"
        until(lambda: len(_export(someone)["conversations"][1]["kept_texts"]) == 3)
        document = _export(someone)
    gate.set()
    by_key, twice, *_ = document["conversations"]
    first, second, third, running = twice["answers"]
    assert twice["kept_texts"] == [
        {"answer_id": first["id"], "content": "First."},
        {"answer_id": second["id"], "content": "Second."},
        {"answer_id": running["id"], "content": "Half"},
    ]
    assert [each["content"] for each in twice["messages"] if each["role"] == "baio"] == ["Third."]
    assert (third["state"], running["state"]) == ("complete", "running")
    keys = [(each["key"], each["result_id"]) for each in document["idempotency_keys"]]
    assert keys == [("asked", first["id"]), ("begun", by_key["id"])]
    assert len(document["sessions"]) == 2
    assert [each["act"] for each in document["audit"]].count("signed-in") == 2


def _export(user: User) -> dict[str, Any]:
    found: dict[str, Any] = user.http.get("/user/exportData/").json()
    return found


@pytest.mark.parametrize("conversations", [2, 2 + STEP_ROWS], ids=["small", "large"])
def test_leaving_leaves_no_row_in_any_table(
    someone: User, other: User, provider: ScriptedProvider, conversations: int
) -> None:
    other.add_key("Mine")
    conversation = other.begin()
    before = other.server.rows()
    leaver = User(other.server)
    leaver.add_key()
    assert leaver.http.post("/chat/createConversation/", headers={"Idempotency-Key": "k"}).status_code == 201
    asked = leaver.http.post(
        "/chat/sendMessage/", json=leaver.question(leaver.begin()), headers={"Idempotency-Key": "q"}
    )
    assert asked.status_code == 200
    for _ in range(conversations - 2):
        leaver.begin()
    gate = threading.Event()
    provider.script(gated(gate, ("A codon",), (" is",)))
    with leaver.wire("/chat/sendMessage/", leaver.question(leaver.begin())) as wire:
        assert wire.chunk() == b"A codon"
        gone = leaver.http.post("/user/deleteAccount/", json={"password": PASSWORD})
        assert (gone.status_code, gone.json()) == (200, "Account deleted")
        provider.wait_until_left(-1, 5)
        wire.chunks()
    gate.set()
    if conversations <= STEP_ROWS:
        assert other.server.rows() == before
    else:  # bit by bit
        until(lambda: other.server.rows() == before)
    with other.server.engine() as engine, engine.connect() as connection:
        acts = connection.execute(select(audit.c.act, audit.c.user_id, audit.c.address).order_by(audit.c.id)).all()
    assert [row.act for row in acts[-4:]] == ["registered", "signed-in", "api-key-added", "account-deleted"]
    assert leaver.http.headers["X-Forwarded-For"] not in [row.address for row in acts]
    assert all(row.user_id is None for row in acts[-4:])
    problem(leaver.http.get("/user/getInfo/"), 401)
    problem(leaver.http.post("/user/refresh/", json={"refresh": leaver.refresh}), 401)
    known = {name: leaver.account[name] for name in ("username", "password")}
    problem(leaver.http.post("/user/auth/", json=known), 400)
    assert leaver.http.post("/user/register/", json=leaver.account).status_code == 201
    assert other.ask(conversation, apikey_nickname="Mine").status_code == 200
    assert len(someone.http.get("/chat/getConversations/").json()) == 2
    leaver.http.close()


def test_a_wrong_password_deletes_nothing(someone: User) -> None:
    before = someone.server.rows()
    problem(someone.http.post("/user/deleteAccount/", json={"password": PASSWORD + "x"}), 400)
    problem(someone.http.post("/user/deleteAccount/", json={"password": ""}), 400)
    assert someone.server.rows() == before
