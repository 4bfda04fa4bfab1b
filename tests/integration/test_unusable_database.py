"""A damaged, full or read-only database: one line at the start, 503 afterwards, and all is well when it is over."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import make_url, text

from baio_adapters.sql.trouble import DAMAGED, DISK, FORBIDDEN, NOT_OPENED, READ_ONLY, UNREACHABLE
from baio_api.cli import CHECKOUT
from tests.integration.answers import ended, said, send
from tests.integration.conftest import NewDatabase, on_postgresql, on_sqlite, server_on, settings_for
from tests.integration.scripted_provider import ScriptedProvider, gated
from tests.integration.servers import Server, User, baio, eventually, problem
from tests.integration.test_database_trouble import administrator, full_disk, throw_out

linux = pytest.mark.skipif(sys.platform != "linux", reason="only there the limits of a running process can be set")


@contextlib.contextmanager
def read_only_database(url: str) -> Iterator[None]:
    """New connections to this PostgreSQL database can't write, and those that were open are ended."""
    name = make_url(url).database
    with administrator(url) as engine, engine.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
        throw_out(engine, url)
        try:
            yield
        finally:
            connection.execute(text(f"ALTER DATABASE {name} RESET default_transaction_read_only"))


# -- At the start ------------------------------------------------------------------------------------------------------


def damage(file: Path, kind: str) -> None:
    """Damage a database that nobody has open."""
    if kind == "another file":
        file.write_bytes(os.urandom(50_000))
    elif kind == "truncated":
        os.truncate(file, 20_000)
    else:
        at, length = {"header": (0, 100), "pages": (4096, 40_000)}[kind]
        with file.open("r+b") as opened:
            opened.seek(at)
            opened.write(b"\xa5" * length)


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a command prints that does not start."""
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("baio: ").strip()


START = ("runserver", "--port", "0")


def start_under(wrapper: list[str], environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    """Run this command, or start the server; the wrapper is a command that runs its arguments as another command."""
    return subprocess.run(
        [*wrapper, sys.executable, "-m", "baio_api.cli", *(command or START)],
        # Bytecode that a full disk cuts off would break every later import of this checkout.
        env={"PATH": os.environ["PATH"], "BAIO_LOCAL_MODEL": "off", "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def embedded(new_database: NewDatabase, tmp_path: Path) -> dict[str, str]:
    """The environment of an installation with a database and a secret, which no server has open."""
    folder = tmp_path / "data"
    folder.mkdir(0o700)
    shutil.copy(str(make_url(new_database.prepared()).database), folder / "baio.sqlite3")
    (folder / "secret_key").write_text("kT7xw2Qm9Lf4Zs8Rb1Vc6Nd3Hj5Pg0Ya")
    for file in folder.iterdir():
        file.chmod(0o600)
    return {"BAIO_DATA_DIR": str(folder)}


@on_sqlite
@pytest.mark.parametrize("kind", ["another file", "truncated", "header", "pages"])
def test_a_damaged_database_is_one_line_at_the_start(embedded: dict[str, str], kind: str) -> None:
    damage(Path(embedded["BAIO_DATA_DIR"]) / "baio.sqlite3", kind)
    assert refusal(baio(embedded, *START)) == DAMAGED
    assert refusal(baio(embedded, "listusers")) == DAMAGED


@on_sqlite
def test_a_full_disk_is_one_line_at_the_start(embedded: dict[str, str]) -> None:
    assert refusal(start_under(["sh", "-c", 'ulimit -f 1; exec "$@"', "sh"], embedded)) == DISK


def test_a_full_disk_is_one_line_at_the_first_start_and_leaves_no_half_secret(tmp_path: Path) -> None:
    done = start_under(["sh", "-c", 'ulimit -f 0; exec "$@"', "sh"], {"BAIO_DATA_DIR": str(tmp_path)})
    assert refusal(done) == f"can't write {tmp_path / 'secret_key'}: File too large"
    assert list(tmp_path.iterdir()) == []


AS_OWNER = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
"""Gives up root's right to write everywhere, where the tests run as root."""


OWNED = f"mode {{}}, owner uid {os.geteuid()}) as uid {os.geteuid()}"


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing in the folder can be written or created."""
    paths = [folder, *folder.iterdir()]
    for path in paths:
        path.chmod(0o500 if path.is_dir() else 0o400)
    yield
    for path in paths:
        path.chmod(0o700 if path.is_dir() else 0o600)


@on_sqlite
def test_a_read_only_folder_is_one_line_at_the_start(embedded: dict[str, str], tmp_path: Path) -> None:
    with read_only(tmp_path / "data"):
        done = start_under(AS_OWNER, embedded)
        assert refusal(done) == f"can't read and write in the folder {tmp_path / 'data'} ({OWNED.format('0500')}"


@contextlib.contextmanager
def out_of_reach(folder: Path) -> Iterator[None]:
    """Nothing in the folder can be seen, as if it were another user's."""
    folder.chmod(0)
    yield
    folder.chmod(0o700)


@on_sqlite
def test_a_data_folder_that_can_not_be_entered_is_one_line(embedded: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with out_of_reach(folder):
        said = refusal(start_under(AS_OWNER, embedded, "rotate_keys"))
        assert said == f"can't read and write in the folder {folder} ({OWNED.format('0000')}"
        checked = start_under(AS_OWNER, embedded, "doctor")
        assert (checked.returncode, checked.stderr) == (1, "")
        assert [line for line in checked.stdout.splitlines() if "WRONG" in line] == [f"WRONG  data folder       {said}"]
    with out_of_reach(tmp_path):
        said = refusal(start_under(AS_OWNER, embedded, "migrate"))
    assert said == f"can't use the folder {folder}: Permission denied"


@on_sqlite
def test_files_that_belong_to_another_user_are_one_line_that_names_them(
    embedded: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    with out_of_reach(folder / "secret_key"):
        assert refusal(start_under(AS_OWNER, embedded)) == f"can't read {folder / 'secret_key'}: Permission denied"
    with out_of_reach(folder / "baio.sqlite3"):
        assert refusal(start_under(AS_OWNER, embedded)) == NOT_OPENED
        said = refusal(start_under(AS_OWNER, embedded, "backup", str(tmp_path / "backup")))
    assert said == f"can't read {folder / 'baio.sqlite3'}: unable to open database file"
    assert not (tmp_path / "backup").exists()


@on_postgresql
def test_a_read_only_database_is_one_line_at_the_start(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path
) -> None:
    url = new_database.prepared()
    with read_only_database(url):
        said = refusal(baio({"BAIO_DATA_DIR": str(tmp_path), **settings_for(url, provider)}, *START))
    assert said == f"{READ_ONLY} (cannot execute UPDATE in a read-only transaction)"


# -- While the server runs ---------------------------------------------------------------------------------------------


@pytest.fixture
def server(new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path) -> Iterator[Server]:
    """A server of this test's own."""
    with server_on(tmp_path, new_database.prepared(), provider) as running:
        yield running


def not_ready(server: Server, detail: str) -> bool:
    """Whether the server says within seconds that it is not ready, for this reason; the answer is checked."""

    def is_so() -> bool:
        with server.client() as visitor:
            answered = visitor.get("/health/ready")
        return answered.status_code == 503 and problem(answered, 503)["detail"] == detail

    return eventually(is_so, 20)


def ready(server: Server) -> bool:
    """Whether the server is ready within seconds."""
    return eventually(lambda: httpx2.get(f"{server.address}/health/ready", trust_env=False).status_code == 200, 20)


@contextlib.contextmanager
def damaged(server: Server, marker: str = "") -> Iterator[None]:
    """Bytes of the file are overwritten: all, or those of the page that has the marker. Later they are put back."""
    path = Path(str(make_url(server.database).database))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    good = path.read_bytes()
    at, length = 0, len(good)
    if marker:
        at, length = good.index(marker.encode()) // 4096 * 4096, 4096
    with path.open("r+b", buffering=0) as file:
        file.seek(at)
        file.write(b"\xa5" * length)
        try:
            yield
        finally:
            file.seek(at)
            file.write(good[at : at + length])


@on_sqlite
def test_a_damaged_file_is_503_until_it_is_whole_again(asker: User, server: Server) -> None:
    conversation = asker.begin()
    assert asker.ask(conversation).status_code == 200
    before = said(asker, conversation)
    with damaged(server):
        assert not_ready(server, DAMAGED)
        assert problem(asker.http.get("/user/getInfo/"), 503)["detail"] == DAMAGED
        refused = asker.ask(conversation)
        assert problem(refused, 503)["detail"] == DAMAGED
        assert int(refused.headers["retry-after"]) > 0
    assert ready(server)
    assert said(asker, conversation) == before
    assert asker.ask(conversation).status_code == 200
    assert "Traceback" not in server.log


@on_sqlite
def test_damage_that_only_some_requests_meet_is_known_to_the_readiness_check(asker: User, server: Server) -> None:
    conversation = asker.begin()
    for _ in range(10):
        assert asker.ask(conversation, "xyzzy-question " * 20).status_code == 200
    with damaged(server, "xyzzy-question"):
        assert ready(server)  # reconnects, and reads nothing of that page
        refused = asker.http.get("/chat/getConversation/", params={"conversation_id": conversation})
        assert problem(refused, 503)["detail"] == DAMAGED
        assert not_ready(server, DAMAGED)
    assert ready(server)
    assert len(said(asker, conversation)) == 20


@on_sqlite
def test_an_answer_that_ends_while_the_file_is_damaged_is_stored_when_it_is_whole_again(
    asker: User, server: Server, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = asker.begin()
    provider.script(gated(gate, ("xyzzy-first, ",), ("xyzzy-second.",)))
    with send(asker, conversation) as wire:
        assert wire.chunk() == b"xyzzy-first, "
        with damaged(server):
            assert not_ready(server, DAMAGED)
            gate.set()
            assert wire.chunk() == b"xyzzy-second."
            assert not_ready(server, DAMAGED)
        assert wire.chunks() == ([], True)
    assert ended(asker, conversation)["state"] == "complete"
    assert said(asker, conversation)[-1] == ("baio", "xyzzy-first, xyzzy-second.")


@linux
@on_sqlite
def test_a_full_disk_is_503_until_there_is_room_again(asker: User, server: Server) -> None:
    for _ in range(6):  # as much as the log has before SQLite begins it anew
        assert asker.ask(asker.begin()).status_code == 200
    conversation = asker.begin()
    with full_disk(server):
        assert not_ready(server, DISK)
        assert problem(asker.ask(conversation), 503)["detail"] == DISK
        assert asker.http.get("/user/getInfo/").status_code == 200
    assert ready(server)
    assert asker.ask(conversation).status_code == 200
    assert "Traceback" not in server.log


@on_postgresql
def test_a_read_only_database_is_503_on_writes_until_it_can_be_written_again(asker: User, server: Server) -> None:
    conversation = asker.begin()
    with read_only_database(server.database):
        assert not_ready(server, READ_ONLY)
        assert problem(asker.ask(conversation), 503)["detail"] == READ_ONLY
        assert eventually(lambda: asker.http.get("/user/getInfo/").status_code == 200, 20)
    # The server has connections that PostgreSQL goes on calling read-only.
    assert ready(server)
    assert asker.ask(conversation).status_code == 200
    assert "Traceback" not in server.log


@pytest.mark.parametrize("reason", [DAMAGED, DISK, READ_ONLY, NOT_OPENED, FORBIDDEN, UNREACHABLE])
def test_the_docs_say_what_to_do(reason: str) -> None:
    assert f"| `{reason}` |" in (CHECKOUT / "docs" / "operations.md").read_text()
