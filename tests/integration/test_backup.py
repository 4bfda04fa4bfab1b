"""An administrator's backups while the server writes, their restoration, and the move to PostgreSQL."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from baio_adapters.sql import migrations
from tests.integration.conftest import NewDatabase, settings_for
from tests.integration.scripted_provider import ScriptedProvider
from tests.integration.servers import PASSWORD, SECRET, Server, User, baio, problem, running_server

BACKUPS = 20
ANSWER = "A codon is three nucleotides."


class Installation:
    """An embedded BAiO: a data folder with its database and its own secret."""

    def __init__(self, folder: Path, provider: ScriptedProvider) -> None:
        folder.mkdir(mode=0o700)
        self.folder = folder
        self.environment = {
            **{
                name: value
                for name, value in settings_for("", provider).items()
                if name not in ("BAIO_DATABASE_URL", "BAIO_SECRET_KEY")
            },
            "BAIO_DATA_DIR": str(folder),
        }

    @property
    def database(self) -> Path:
        """Its database."""
        return self.folder / "baio.sqlite3"

    def run(self, *arguments: object, **changes: str) -> tuple[int, str]:
        """Run a command: the exit status, and all that it says."""
        done = baio({**self.environment, **changes}, *map(str, arguments))
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def installation(tmp_path: Path, provider: ScriptedProvider) -> Installation:
    """One that has not been started yet."""
    return Installation(tmp_path / "data", provider)


@pytest.fixture
def running(installation: Installation) -> Iterator[Server]:
    """Its server, with two workers."""
    with running_server(installation.folder, installation.environment, "--workers", "2") as server:
        yield server


@pytest.fixture
def new_user() -> Iterator[Callable[[Server], User]]:
    """Makes accounts with a key, whose connections end with the test."""
    users: list[User] = []

    def make(server: Server) -> User:
        user = User(server)
        users.append(user)
        user.add_key()
        return user

    yield make
    for user in users:
        user.http.close()


def asked(user: User) -> int:
    """A conversation with an answer."""
    conversation = user.begin()
    assert user.ask(conversation).text == ANSWER
    return conversation


def sign_in_again(server: Server, user: User) -> User:
    """The same account on another server; sessions don't outlive a restoration."""
    user.http.close()
    user.server, user.http = server, server.client()
    user.sign_in()
    return user


def test_backups_under_writes_are_whole_and_hold_all_that_was_stored_before_them(
    installation: Installation,
    running: Server,
    tmp_path: Path,
    new_user: Callable[[Server], User],
    provider: ScriptedProvider,
) -> None:
    user = new_user(running)
    stored, over = [asked(user)], threading.Event()

    def go_on() -> None:
        while not over.is_set():
            stored.append(asked(user))

    writer = threading.Thread(target=go_on)
    writer.start()
    known = []
    try:
        for number in range(BACKUPS):
            before = len(stored)
            status, said = installation.run("backup", tmp_path / f"{number}.backup")
            assert (status, "without the secret" in said) == (0, True), said
            known.append((before, len(stored) + 1))
    finally:
        over.set()
        writer.join()
    assert known[-1][0] > known[0][0]  # it did write meanwhile
    for number, (least, most) in enumerate(known):
        restored = Installation(tmp_path / f"restored-{number}", provider)
        assert restored.run("restore", tmp_path / f"{number}.backup")[0] == 0
        connection = sqlite3.connect(restored.database)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        asked_in = dict(connection.execute("SELECT conversation_id, content FROM messages WHERE role = 'baio'"))
        running_now = connection.execute("SELECT count(*) FROM answers WHERE state = 'running'").fetchone()[0]
        connection.close()
        assert least <= len(asked_in) <= most
        assert set(stored[:least]) <= set(asked_in)
        assert set(asked_in.values()) == {ANSWER}
        assert running_now <= 1


def test_a_restored_backup_is_as_it_was_and_everybody_signs_in_again(
    installation: Installation, provider: ScriptedProvider, tmp_path: Path, new_user: Callable[[Server], User]
) -> None:
    file = tmp_path / "with-secret.backup"
    with running_server(installation.folder, installation.environment) as server:
        user = new_user(server)
        first = asked(user)
        body = {"name": "notebook", "scopes": ["read"], "password": PASSWORD}
        token = user.http.post("/user/createToken/", json=body).json()["token"]
        secret = (installation.folder / "secret_key").read_text()
        status, said = installation.run("backup", file, "--with-secret")
        assert (status, "with the secret" in said) == (0, True), said
        second = asked(user)
        status, said = installation.run("restore", file)
        assert (status, said) == (2, "baio: a server or a command is using the database: stop it first\n")
        assert user.messages(second)[-1] == ("baio", ANSWER)
    assert file.stat().st_mode & 0o777 == 0o600
    status, said = installation.run("restore", file)
    assert status == 0, said
    (before,) = installation.folder.glob("baio.sqlite3.before-*Z")
    assert str(before) in said
    elsewhere = Installation(tmp_path / "elsewhere", provider)
    assert elsewhere.run("restore", file)[0] == 0
    assert (elsewhere.folder / "secret_key").read_text() == secret
    for each in (installation, elsewhere):
        with running_server(each.folder, each.environment) as server:
            with server.client(headers={"Authorization": f"Bearer {user.access}"}) as client:
                problem(client.get("/user/getInfo/"), 401)
                problem(client.post("/user/refresh/", json={"refresh": user.refresh}), 401)
                problem(client.get("/user/getInfo/", headers={"Authorization": f"Bearer {token}"}), 401)
            sign_in_again(server, user)
            assert user.messages(first)[-1] == ("baio", ANSWER)
            problem(user.http.get("/chat/getConversation/", params={"conversation_id": second}), 404)
            assert asked(user) == second  # the stored key can be decrypted
        with sqlite3.connect(each.database) as connection:
            assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name LIKE 'backup%'").fetchone()


def test_a_backup_without_the_secret_says_what_that_means(
    installation: Installation, tmp_path: Path, provider: ScriptedProvider
) -> None:
    file = tmp_path / "plain.backup"
    with running_server(installation.folder, installation.environment):
        assert installation.run("backup", file)[0] == 0
    assert (installation.folder / "secret_key").read_bytes() not in file.read_bytes()
    elsewhere = Installation(tmp_path / "elsewhere", provider)
    status, said = elsewhere.run("restore", file)
    assert status == 0
    assert "baio: the backup does not include its secret: stored API keys can't be decrypted" in said


def test_a_secret_of_the_environment_must_be_the_one_of_the_backup(
    installation: Installation, running: Server, tmp_path: Path, provider: ScriptedProvider
) -> None:
    del running
    file = tmp_path / "secret.backup"
    assert installation.run("backup", file, "--with-secret")[0] == 0
    elsewhere = Installation(tmp_path / "elsewhere", provider)
    status, said = elsewhere.run("restore", file, BAIO_SECRET_KEY=SECRET)
    assert (status, "BAIO_SECRET_KEY is not the secret of this backup" in said) == (0, True)
    assert not (elsewhere.folder / "secret_key").exists()


def test_what_is_no_whole_backup_of_this_version_changes_nothing(
    installation: Installation, tmp_path: Path, new_user: Callable[[Server], User]
) -> None:
    file = tmp_path / "good.backup"
    with running_server(installation.folder, installation.environment) as server:
        user = new_user(server)
        asked(user)
        assert installation.run("backup", file)[0] == 0
    before = installation.database.read_bytes()
    good = file.read_bytes()
    bad = tmp_path / "bad.backup"
    half, flipped = good[: len(good) // 2], bytearray(good)
    flipped[len(good) // 2 : len(good) // 2 + 4096 * 8] = b"\xff" * 4096 * 8
    for content in (b"", b"no database", half, bytes(flipped)):
        bad.write_bytes(content)
        status, said = installation.run("restore", bad)
        assert (status, said.count("\n"), said[:6]) == (2, 1, "baio: "), said
    bad.write_bytes(good)
    with sqlite3.connect(bad) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    newer = f"has schema 9999, and this version of BAiO {migrations.head()}: install the newer version\n"
    status, said = installation.run("restore", bad)
    assert (status, said.endswith(newer)) == (2, True), said
    assert installation.run("restore", tmp_path / "missing")[0] == 2
    assert installation.database.read_bytes() == before
    assert [each.name for each in installation.folder.iterdir() if each.name.startswith(".")] == []


def test_a_backup_overwrites_nothing_and_names_what_is_in_its_way(
    installation: Installation, running: Server, tmp_path: Path, new_database: NewDatabase
) -> None:
    del running
    taken, missing = tmp_path / "taken", tmp_path / "missing" / "file"
    taken.write_text("precious")
    assert installation.run("backup", taken) == (2, f"baio: {taken} exists: choose another name\n")
    assert taken.read_text() == "precious"
    assert installation.run("backup", missing) == (
        2,
        f"baio: can't write to the folder {missing.parent}: no such file or directory\n",
    )
    if new_database().startswith("postgresql"):
        url = {"BAIO_DATABASE_URL": new_database(), "BAIO_SECRET_KEY": SECRET}
        status, said = installation.run("backup", tmp_path / "new", **url)
        assert (status, "use pg_dump and pg_restore with PostgreSQL" in said) == (2, True)


def test_everything_is_copied_to_postgresql_under_its_ids(
    installation: Installation,
    provider: ScriptedProvider,
    postgresql: NewDatabase,
    tmp_path: Path,
    new_user: Callable[[Server], User],
) -> None:
    target = make_url(postgresql()).set(drivername="postgresql").render_as_string(hide_password=False)
    with running_server(installation.folder, installation.environment) as server:
        user = new_user(server)
        conversations = [asked(user) for _ in range(3)]
        newest = user.begin("deleted before the copy")
        assert user.http.post("/chat/deleteConversation/", json={"conversation_id": newest}).status_code in (200, 204)
    status, said = installation.run("copy", "--to", target)
    assert status == 0, said
    assert "Copied and compared" in said
    with sqlite3.connect(installation.database) as connection:
        for table in ("users", "messages", "answers", "audit", "api_keys"):
            rows = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            assert f"\n{table:<20}{rows:>10}\n" in f"\n{said}"
    status, again = installation.run("copy", "--to", target)
    assert (status, again) == (2, "baio: the target holds accounts already: name an empty database\n")
    secret = {"BAIO_SECRET_KEY_FILE": str(installation.folder / "secret_key"), "BAIO_DATABASE_URL": target}
    environment = {**settings_for(target, provider), **secret}
    del environment["BAIO_SECRET_KEY"]
    with running_server(tmp_path / "moved", environment) as server:
        sign_in_again(server, user)
        for conversation in conversations:
            assert user.messages(conversation)[-1] == ("baio", ANSWER)
        assert asked(user) == newest + 1
