"""Leaving: everything that is stored about oneself in one document, and nothing of it left."""

import threading

import pytest
from sqlalchemy import select

from baio_adapters.sql.tables import audit
from tests.integration.scripted_provider import ScriptedProvider, gated
from tests.integration.servers import KEY, PASSWORD, User, problem


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
        "account", "two_factor_enabled_at", "sessions", "api_keys", "conversations", "audit",
    ]  # fmt: skip
    assert document["two_factor_enabled_at"] is None
    [session] = document["sessions"]
    assert session["user_agent"] == someone.http.headers["User-Agent"]
    assert [entry["act"] for entry in document["audit"]] == [
        "registered", "signed-in", "api-key-added", "data-exported",
    ]  # fmt: skip
    assert {entry["address"] for entry in document["audit"]} == {someone.http.headers["X-Forwarded-For"]}
    account = {name: value for name, value in document["account"].items() if name not in ("id", "created_at")}
    assert account == someone.http.get("/user/getInfo/").json()
    assert [(each["nickname"], each["provider"]) for each in document["api_keys"]] == [("OpenAI Key", "OpenAI")]
    assert [each["title"] for each in document["conversations"]] == ["Nothing yet", "Codons"]
    _, codons = document["conversations"]
    assert [(each["role"], each["content"]) for each in codons["messages"]] == someone.messages(codons["id"])
    [record] = codons["answers"]
    of_answer = someone.http.get("/chat/getAnswers/", params={"conversation_id": codons["id"], "context": "true"})
    assert record == of_answer.json()[0]
    for secret in (KEY, PASSWORD, "argon2", "somebody else's"):
        assert secret not in exported.text


def test_leaving_leaves_no_row_in_any_table(someone: User, other: User, provider: ScriptedProvider) -> None:
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
    gate = threading.Event()
    provider.script(gated(gate, ("A codon",), (" is",)))
    with leaver.wire("/chat/sendMessage/", leaver.question(leaver.begin())) as wire:
        assert wire.chunk() == b"A codon"
        gone = leaver.http.post("/user/deleteAccount/", json={"password": PASSWORD})
        assert (gone.status_code, gone.json()) == (200, "Account deleted")
        provider.wait_until_left(-1, 5)
        wire.chunks()
    gate.set()
    assert other.server.rows() == before
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
