"""Deleted is gone: no file of the data folder has a deleted conversation's, key's or account's text any more."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from baio_adapters.sql import write_ahead_log
from baio_adapters.sql.database import engine_for
from baio_adapters.sql.write_ahead_log import WriteAheadLog
from tests.integration.conftest import NewDatabase, on_sqlite, server_on, settings_for
from tests.integration.scripted_provider import ScriptedProvider, answer
from tests.integration.servers import Server, User, baio, eventually

pytestmark = on_sqlite

WORD = "xyzzyword"
QUESTION = f"{WORD} {'xyzzy-question ' * 1000}"
ANSWER = "xyzzy-answer"
TITLE = "xyzzy-title"
NICKNAME = "xyzzy-nickname"
KEPT = "plugh-kept"


@pytest.fixture
def server(new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path) -> Iterator[Server]:
    provider.always(answer(ANSWER))
    with server_on(tmp_path, new_database.prepared(), provider, "--workers", "2") as running:
        yield running


def owner(server: Server) -> User:
    """A user who has a key."""
    user = User(server)
    user.add_key()
    return user


def folder_of(server: Server) -> Path:
    """The data folder."""
    return Path(str(make_url(server.database).database)).parent


def found(server: Server, text: str) -> bool:
    """Whether any file of the data folder has this text."""
    files = [path for path in folder_of(server).rglob("*") if path.is_file()]
    assert f"{make_url(server.database).database}-wal" in map(str, files)
    return any(text.encode() in path.read_bytes() for path in files)


def fill(user: User) -> int:
    """Ask in a new conversation, between those of others; its id."""
    conversation = user.begin(TITLE)
    assert user.ask(conversation, QUESTION).status_code == 200
    assert user.ask(user.begin(KEPT)).status_code == 200
    assert user.ask(conversation, f"{TITLE} again").status_code == 200
    return conversation


def gone(server: Server, *texts: str) -> bool:
    """Whether these texts soon are in no file."""
    return eventually(lambda: not any(found(server, text) for text in texts), 20)


def test_a_deleted_conversation_is_in_no_file_of_the_data_folder(server: Server) -> None:
    user = owner(server)
    conversation = fill(user)
    assert found(server, "xyzzy-question")
    deleted = user.http.post("/chat/deleteConversation/", json={"conversation_id": conversation})
    assert deleted.status_code == 200
    assert gone(server, "xyzzy-question", TITLE, WORD, "zyword")
    assert found(server, KEPT)
    user.http.close()


def test_a_deleted_key_is_in_no_file_of_the_data_folder(server: Server) -> None:
    user = owner(server)
    user.add_key(NICKNAME)
    with server.engine() as engine, engine.connect() as connection:
        statement = "SELECT sealed FROM api_keys WHERE nickname = ?"
        [sealed] = connection.exec_driver_sql(statement, (NICKNAME,)).one()
    assert user.http.post("/chat/deleteAPIKey/", json={"nickname": NICKNAME}).status_code == 200
    assert gone(server, NICKNAME)
    assert not any(sealed in path.read_bytes() for path in folder_of(server).iterdir() if path.is_file())
    assert found(server, "OpenAI Key")
    user.http.close()


def test_a_deleted_account_is_in_no_file_of_the_data_folder(server: Server) -> None:
    user, other = owner(server), owner(server)
    fill(user)
    assert user.http.post("/user/deleteAccount/", json={"password": user.account["password"]}).status_code == 200
    assert gone(
        server, "xyzzy-question", ANSWER, TITLE, WORD, "zyword", user.account["username"], user.account["email"]
    )
    assert found(server, other.account["username"])
    for each in (user, other):
        each.http.close()


def test_after_a_flush_nothing_of_anybody_is_in_a_file_of_the_data_folder(
    server: Server, provider: ScriptedProvider
) -> None:
    user = owner(server)
    fill(user)
    done = baio(settings_for(server.database, provider), "flush", "--yes")
    assert done.returncode == 0, done.stderr
    assert gone(server, "xyzzy-question", ANSWER, TITLE, KEPT, WORD, "zyword", user.account["username"])
    user.http.close()


def test_a_long_read_delays_the_truncation_but_neither_the_deletion_nor_another_write(server: Server) -> None:
    user = owner(server)
    conversation = fill(user)
    path = str(make_url(server.database).database)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM messages").fetchall()
    deleted = user.http.post("/chat/deleteConversation/", json={"conversation_id": conversation})
    assert deleted.status_code == 200
    assert user.ask(user.begin(KEPT)).status_code == 200
    assert found(server, "xyzzy-question")
    reader.execute("COMMIT")
    reader.close()
    assert gone(server, "xyzzy-question", TITLE)
    user.http.close()


def test_what_a_killed_server_had_deleted_is_gone_when_the_next_one_has_run(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path
) -> None:
    url = new_database.prepared()
    provider.always(answer(ANSWER))
    with server_on(tmp_path / "killed", url, provider) as server:
        user = owner(server)
        conversation = fill(user)
        reader = sqlite3.connect(
            str(make_url(url).database), isolation_level=None
        )  # keeps the log from being truncated
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM messages").fetchall()
        user.http.post("/chat/deleteConversation/", json={"conversation_id": conversation})
        user.http.close()
        server.process.kill()
    assert found(server, "xyzzy-question")
    reader.close()
    with server_on(tmp_path / "next", url, provider) as server:
        server.stop()
    assert not any(b"xyzzy-question" in path.read_bytes() for path in folder_of(server).iterdir() if path.is_file())


def test_the_log_is_truncated_after_a_while_without_any_deletion(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_ahead_log, "INTERVAL_SECONDS", 0.1)
    url = new_database.prepared()
    engine = engine_for(url)
    path = Path(f"{make_url(url).database}-wal")
    with engine.connect() as connection:  # keeps SQLite from removing the log when the other connections are closed
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")
        connection.commit()
        assert path.stat().st_size > 0
        log = WriteAheadLog(engine_for(url))
        assert eventually(lambda: path.stat().st_size == 0, 20)
        log.close()
    engine.dispose()
