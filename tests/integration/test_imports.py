"""Importing conversations, over HTTP and by command."""

import http.client
import io
import json
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.integration.conftest import once
from tests.integration.scripted_provider import ScriptedProvider
from tests.integration.servers import SECRET, User, baio, problem

PATH = "/chat/importConversations/"


def claude(number: int) -> dict[str, Any]:
    said = [("human", f"Question {number}?"), ("assistant", "An answer.")]
    return {
        "name": f"Imported {number}",
        "created_at": "2023-05-01T10:00:00Z",
        "chat_messages": [{"sender": who, "text": text, "created_at": "2023-05-01T10:00:01Z"} for who, text in said],
    }


EXPORT = json.dumps([claude(1), {"title": "Odd"}, claude(2)]).encode()


def outcomes(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["outcome"], each["title"]) for each in report["conversations"]]


def test_a_file_and_the_archive_that_it_comes_in_bring_the_same_conversations(user: User) -> None:
    first = user.http.post(PATH, content=EXPORT, headers={"Content-Type": "application/json"})
    assert first.status_code == 200
    report = first.json()
    assert outcomes(report) == [("imported", "Imported 1"), ("skipped", "Odd"), ("imported", "Imported 2")]
    assert (report["imported"], report["present"], report["skipped"]) == (2, 0, 1)
    listed = user.http.get("/chat/getConversations/").json()
    assert [(each["title"], each["created_at"]) for each in listed] == [
        ("Imported 2", "2023-05-01T10:00:00Z"), ("Imported 1", "2023-05-01T10:00:00Z"),
    ]  # fmt: skip
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("conversations.json", EXPORT)
    again = user.http.post(PATH, content=packed.getvalue(), headers={"Content-Type": "application/zip"}).json()
    assert (again["imported"], again["present"]) == (0, 2)
    ids = [each["conversation_id"] for each in report["conversations"]]
    assert [each["conversation_id"] for each in again["conversations"]] == ids
    [answer] = user.http.get("/chat/getAnswers/", params={"conversation_id": ids[0]}).json()
    assert (answer["requested_model"], answer["finish_reason"], answer["state"]) == ("Claude", "imported", "complete")


def test_what_one_exports_another_imports(user: User, other: User, provider: ScriptedProvider) -> None:
    del provider
    user.add_key()
    conversation = user.begin("Codons")
    assert user.ask(conversation, "What is a codon?").status_code == 200
    exported = user.http.get("/user/exportData/").content
    report = other.http.post(PATH, content=exported).json()
    [done] = report["conversations"]
    assert (done["outcome"], done["title"], done["source"], done["messages"]) == ("imported", "Codons", "BAiO", 2)
    assert other.messages(done["conversation_id"]) == user.messages(conversation)
    where = {"conversation_id": conversation}, {"conversation_id": done["conversation_id"]}
    mine, theirs = (
        each.http.get("/chat/getConversation/", params=which).json()["messages"]
        for each, which in zip((user, other), where, strict=True)
    )
    assert mine == theirs


def test_what_is_no_export_is_refused(user: User) -> None:
    for content in (b"", b"no JSON", b"PK\x03\x04"):
        refused = problem(user.http.post(PATH, content=content), 400)
        assert [each["field"] for each in refused["errors"]] == ["body"]
    problem(user.http.post(PATH, content=EXPORT, headers={"Content-Type": "text/plain"}), 415)
    key = {"Idempotency-Key": "once"}
    assert user.http.post(PATH, content=EXPORT, headers=key).status_code == 200
    problem(user.http.post(PATH, content=b"[]", headers=key), 422)
    assert user.http.post(PATH, content=EXPORT, headers=key).json()["present"] == 2


@once
def test_a_file_may_be_larger_than_other_bodies_but_not_endless(user: User) -> None:
    padded = EXPORT.replace(b"[", b"[" + b" " * 2_000_000, 1)
    assert user.http.post(PATH, content=padded).status_code == 200
    connection = http.client.HTTPConnection(urlsplit(str(user.http.base_url)).netloc, timeout=30)
    connection.putrequest("POST", PATH)
    connection.putheader("Authorization", f"Bearer {user.access}")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(2**40))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


@once
def test_a_command_imports_for_a_user(user: User, tmp_path: Path) -> None:
    file, name = tmp_path / "conversations.json", user.account["username"]
    file.write_bytes(EXPORT)
    settings = {"BAIO_DATABASE_URL": user.server.database, "BAIO_SECRET_KEY": SECRET}
    done = baio(settings, "import", str(file), "--user", name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "imported      2 messages  Imported 1",
        "skipped       0 messages  Odd  is no conversation of a known export",
        "imported      2 messages  Imported 2",
        "2 imported, 0 already there, 1 skipped.",
    ]
    assert len(user.http.get("/chat/getConversations/").json()) == 2
    for arguments, said in (
        (("import", str(tmp_path / "none"), "--user", name), "can't read"),
        (("import", str(file), "--user", "nobody at all"), "username"),
    ):
        refused = baio(settings, *arguments)
        assert refused.returncode == 2
        assert said in refused.stderr
        assert refused.stderr.count("\n") == 1
