"""The ``baio`` command as an installation uses it: starting, refusing to start, migrating, stopping, and its log."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from sqlalchemy import select

from baio_adapters.llm.openai import OPENAI
from baio_adapters.sql.tables import answers, messages
from baio_api.settings import Settings
from tests.integration.conftest import NewDatabase, on_postgresql, on_sqlite, server_on, settings_for
from tests.integration.processes import run
from tests.integration.scripted_provider import ScriptedProvider, gated, hang_after
from tests.integration.servers import SECRET, Server, User, running_server, until

ROOT = Path(__file__).parents[2]
BAIO = Path(sys.executable).with_name("baio")
COMMANDS = (
    "runserver", "chat", "check", "test", "flush", "makemigrations", "migrate", "rotate_keys", "createuser",
    "listusers", "disableuser", "enableuser", "resetpassword", "resettwofactor", "audit", "load_llm_data",
)  # fmt: skip

ENDED = (0, -signal.SIGTERM)
"""How a server ends that was told to: with 0, or, once all is done, by the signal itself."""


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """This environment with a home of its own, without the embedded model, and of BAiO's only these settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BAIO_", "OPENAI_", "XDG_"))}
    return {**inherited, "HOME": str(folder), "BAIO_LOCAL_MODEL": "off", **settings}


def baio(folder: Path, *arguments: str, said: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return run(arguments, env=environment(folder, **settings), cwd=folder, typed=said)


def started(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command that an installation has to its end, as a shell would."""
    command = [str(BAIO), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=60, check=False
    )


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line with which a command refuses."""
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("baio: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


# -- Help --------------------------------------------------------------------------------------------------------------


def test_help_explains_every_command(tmp_path: Path) -> None:
    for arguments in ((), ("--help",)):
        shown = started(tmp_path, *arguments)
        assert (shown.returncode, shown.stderr) == (0, "")
        for command in COMMANDS:
            assert re.search(rf"^ +{command}\s+\w+", shown.stdout, re.MULTILINE), command
    for command in COMMANDS:
        explained = started(tmp_path, command, "--help")
        assert (explained.returncode, explained.stderr) == (0, "")
        assert f"baio {command}" in explained.stdout
    assert list(tmp_path.iterdir()) == []


def test_help_loads_nothing_that_is_slow() -> None:
    look = (
        "import sys\n"
        "from baio_api.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(*(name for name in sys.modules if '.' not in name))"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "argparse" in loaded
    assert not loaded & {"litestar", "openai", "sqlalchemy", "msgspec", "alembic", "uvicorn", "aiohttp", "asyncio"}


def test_the_server_loads_nothing_for_show() -> None:
    look = (
        "import sys, baio_api.app\n"
        "show = {'alembic', 'anthropic', 'fastapi', 'openai', 'pygments', 'rich', 'werkzeug', 'zxcvbn'}\n"
        "print(sorted(show & sys.modules.keys()))\n"
        "import rich"  # which is not in anybody else's way
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("runserver", "--port", "70000"), ("runserver", "--workers", "0")]
)
def test_a_command_line_that_is_none_is_explained(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = started(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert "usage: baio" in done.stderr


# -- Embedded ----------------------------------------------------------------------------------------------------------


def mode(path: Path) -> int:
    """A file's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def test_without_any_configuration_it_starts_says_where_everything_is_and_starts_again(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": "", "BAIO_DATA_DIR": ""}
    data = tmp_path / ".local/share/baio"
    with running_server(tmp_path / "first", home) as server:
        assert f"BAiO listens on {server.address}/\n" in server.log
        assert f"documentation  {server.address}/docs\n" in server.log
        assert f"data           {data / 'baio.sqlite3'}\n" in server.log
        with server.client() as client:
            assert client.get("/docs").status_code == 200
        server.settings = Settings.from_environment({"BAIO_DATA_DIR": str(data)})
        user = User(server)
        assert len(user.http.get("/chat/getLLMProviders/").json()[0]["models"]) == len(OPENAI.models)
        user.http.close()
        assert mode(data / "secret_key") == 0o600
        assert mode(data) == 0o700
        assert server.stop() in ENDED
    secret = (data / "secret_key").read_text()
    assert len(secret) >= 32
    assert secret not in server.log
    with running_server(tmp_path / "second", home) as again:
        with again.client(headers={"Authorization": f"Bearer {user.access}"}) as client:
            assert client.get("/user/getInfo/").json()["username"] == user.account["username"]
        assert again.stop() in ENDED
    assert (data / "secret_key").read_text() == secret


def test_data_goes_where_it_is_told(tmp_path: Path) -> None:
    with running_server(tmp_path / "server", {"BAIO_DATA_DIR": str(tmp_path / "data"), "HOME": str(tmp_path)}):
        assert {path.name for path in (tmp_path / "data").iterdir()} >= {"baio.sqlite3", "secret_key"}
    assert {path.name for path in tmp_path.iterdir()} == {"server", "data"}


def test_a_damaged_secret_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_text("short")
    refused = refusal(baio(tmp_path, "runserver", "--port", "0", BAIO_DATA_DIR=str(tmp_path)))
    assert "secret_key is damaged" in refused
    assert (tmp_path / "secret_key").read_text() == "short"


# -- Refusals ----------------------------------------------------------------------------------------------------------

POSTGRESQL = "postgresql://baio:canary-password@127.0.0.1:9/baio"
BAD: list[tuple[dict[str, str], str]] = [
    ({"BAIO_DATABSE_URL": POSTGRESQL}, "BAIO_DATABSE_URL"),
    ({"BAIO_DATABASE_URL": "mysql://root:canary-password@localhost/baio"}, "BAIO_DATABASE_URL"),
    ({"BAIO_DATABASE_URL": "postgresql://baio:canary-password@localhost:x/y"}, "BAIO_DATABASE_URL"),
    ({"BAIO_DATABASE_URL": POSTGRESQL}, "BAIO_SECRET_KEY"),
    ({"BAIO_DATABASE_URL": POSTGRESQL, "BAIO_SECRET_KEY": SECRET}, "can't be reached"),
    ({"BAIO_SECRET_KEY": "canary-changeme-0123456789-abcdefghijk"}, "BAIO_SECRET_KEY"),
    ({"BAIO_CORS_ORIGINS": "*", "BAIO_CORS_CREDENTIALS": "true"}, "BAIO_CORS_ORIGINS"),
    ({"BAIO_OPENAI_BASE_URL": "ftp://canary-password@x"}, "BAIO_OPENAI_BASE_URL"),
]


@pytest.mark.parametrize(("settings", "named"), BAD, ids=[f"{number}-{named}" for number, (_, named) in enumerate(BAD)])
def test_bad_settings_are_refused_in_one_line_that_names_them_and_shows_no_secret(
    tmp_path: Path, settings: dict[str, str], named: str
) -> None:
    refused = refusal(baio(tmp_path, "runserver", "--port", "0", **settings))
    assert named in refused
    assert "canary" not in refused
    assert SECRET not in refused


def test_all_bad_settings_are_named_at_once(tmp_path: Path) -> None:
    bad = {"BAIO_LOG_LEVEL": "LOUD", "BAIO_DRAIN_SECONDS": "x", "BAIO_NONSENSE": "1", "BAIO_SECRET_KEY": "canary"}
    refused = refusal(baio(tmp_path, "runserver", **bad))
    assert all(name in refused for name in bad)


def test_a_port_that_is_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = refusal(baio(tmp_path, "runserver", "--port", str(port), BAIO_DATA_DIR=str(tmp_path)))
    assert f"can't listen on 127.0.0.1:{port}" in refused
    assert "in use" in refused


@on_postgresql
def test_postgresql_is_not_migrated_by_itself_and_each_refusal_names_the_command(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    settings = {"BAIO_DATABASE_URL": new_database(), "BAIO_SECRET_KEY": SECRET}
    assert "BAIO_SECRET_KEY" in refusal(baio(tmp_path, "migrate", BAIO_DATABASE_URL=settings["BAIO_DATABASE_URL"]))
    assert "baio migrate" in refusal(baio(tmp_path, "runserver", "--port", "0", **settings))
    assert baio(tmp_path, "migrate", **settings).returncode == 0
    assert "baio load_llm_data" in refusal(baio(tmp_path, "runserver", "--port", "0", **settings))
    assert baio(tmp_path, "load_llm_data", **settings).returncode == 0
    with running_server(tmp_path / "server", settings) as server:
        assert "data           as set by BAIO_DATABASE_URL" in server.log
        User(server).http.close()
        assert server.stop() in ENDED
    assert not (tmp_path / "server" / "secret_key").exists()


# -- Commands ----------------------------------------------------------------------------------------------------------


@on_sqlite
def test_migrate_and_load_llm_data_can_be_said_twice(new_database: NewDatabase, tmp_path: Path) -> None:
    settings = {"BAIO_DATABASE_URL": new_database(), "BAIO_SECRET_KEY": SECRET}
    for _ in range(2):
        migrated = baio(tmp_path, "migrate", **settings)
        assert (migrated.returncode, migrated.stderr.count("Traceback")) == (0, 0)
        assert "newest" in migrated.stdout
    first, second = (baio(tmp_path, "load_llm_data", **settings) for _ in range(2))
    assert "added provider OpenAI (id 1)" in first.stdout
    assert first.stdout.count("added model OpenAI ") == len(OPENAI.models)
    assert second.stdout == "The catalogue is up to date.\n"


@pytest.mark.parametrize("arguments", [("load_llm_data",), ("flush", "--yes")], ids=" ".join)
def test_a_command_that_needs_the_schema_names_the_command_that_makes_it(
    new_database: NewDatabase, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    settings = {"BAIO_DATABASE_URL": new_database(), "BAIO_SECRET_KEY": SECRET}
    assert "baio migrate" in refusal(baio(tmp_path, *arguments, **settings))


def test_flush_deletes_all_but_the_catalogue_and_asks_first(new_database: NewDatabase, tmp_path: Path) -> None:
    settings = {"BAIO_DATABASE_URL": new_database.prepared(), "BAIO_SECRET_KEY": SECRET}
    with running_server(tmp_path / "server", settings) as server:
        user = User(server)
        user.add_key()
        first = user.begin()
        before = server.rows()
        assert (before["users"], before["conversations"], before["api_keys"]) == (1, 1, 1)
        asked = baio(tmp_path, "flush", said="y\n", **settings)
        assert asked.returncode == 1
        assert "Type yes" in asked.stdout
        assert server.rows() == before
        assert baio(tmp_path, "flush", said="yes\n", **settings).returncode == 0
        after = server.rows()
        assert {table for table, count in after.items() if count} == {"providers", "models"}
        # What is left of it all is that it was deleted.
        assert baio(tmp_path, "flush", "--yes", **settings).stdout.startswith("Deleted 1 rows")
        assert "flushed" in baio(tmp_path, "audit", **settings).stdout
        assert user.http.get("/user/getInfo/").status_code == 401
        user.http.close()
        again = User(server)
        assert again.begin() > first
        again.http.close()


@on_sqlite
def test_flush_without_anybody_to_ask_deletes_nothing(new_database: NewDatabase, tmp_path: Path) -> None:
    settings = {"BAIO_DATABASE_URL": new_database.prepared(), "BAIO_SECRET_KEY": SECRET}
    unanswered = baio(tmp_path, "flush", **settings)
    assert unanswered.returncode == 1
    assert "Nothing was deleted." in unanswered.stdout
    assert "Traceback" not in unanswered.stderr


def test_makemigrations_finds_nothing_to_do(tmp_path: Path) -> None:
    before = sorted((ROOT / "alembic/versions").glob("*.py"))
    done = started(tmp_path, "makemigrations")
    assert (done.returncode, done.stdout) == (0, "The tables have not changed.\n")
    assert sorted((ROOT / "alembic/versions").glob("*.py")) == before


# -- Stopping ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def stoppable(new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path) -> Iterator[Server]:
    """A server that gives running answers 3 seconds."""
    settings = {**settings_for(new_database.prepared(), provider), "BAIO_DRAIN_SECONDS": "3"}
    with running_server(tmp_path, {**settings, "BAIO_BETWEEN_TEXT_SECONDS": "20"}) as running:
        yield running


def stored(server: Server) -> tuple[str, str]:
    """The state of the only answer, and the last message."""
    with server.engine() as engine, engine.connect() as connection:
        state = connection.execute(select(answers.c.state)).scalar_one()
        last = connection.execute(select(messages.c.content).order_by(messages.c.id.desc()).limit(1)).scalar_one()
    return state, last


def test_on_SIGTERM_a_running_answer_finishes_and_a_new_question_gets_503(
    stoppable: Server, provider: ScriptedProvider
) -> None:
    gate = threading.Event()
    provider.script(gated(gate, ("A codon ",), ("is ...",)))
    user = User(stoppable)
    user.add_key()
    conversation, another = user.begin(), user.begin()
    with user.wire("/chat/sendMessage/", user.question(conversation)) as wire:
        assert wire.chunk() == b"A codon "
        stoppable.process.send_signal(signal.SIGTERM)
        until(lambda: user.http.get("/health/ready").status_code == 503, 2)
        refused = user.ask(another)
        assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
        assert int(refused.headers["retry-after"]) > 0
        assert user.http.get("/user/getInfo/").status_code == 200
        assert len(user.messages(another)) == 1
        gate.set()
        assert wire.chunks() == ([b"is ..."], True)
    user.http.close()
    assert stoppable.process.wait(60) in ENDED
    assert stored(stoppable) == ("complete", "A codon is ...")
    assert len(provider.requests) == 1


def test_what_does_not_finish_in_time_is_interrupted_and_its_text_stored(
    stoppable: Server, provider: ScriptedProvider
) -> None:
    provider.script(hang_after("A codon ", "is"))
    user = User(stoppable)
    user.add_key()
    with user.wire("/chat/sendMessage/", user.question(user.begin())) as wire:
        seen = b""
        while seen != b"A codon is":
            seen += wire.chunk() or b"?"
        began = time.monotonic()
        stoppable.process.send_signal(signal.SIGTERM)
        assert wire.chunks() == ([], False)
        assert stoppable.process.wait(60) in ENDED
        assert time.monotonic() - began > 2.9
    user.http.close()
    assert stored(stoppable) == ("interrupted", "A codon is")
    assert "Traceback" not in stoppable.log


def test_without_anything_running_it_stops_at_once(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path
) -> None:
    with server_on(tmp_path, new_database.prepared(), provider, BAIO_DRAIN_SECONDS="600") as server:
        assert server.stop(60) in ENDED


# -- Workers -----------------------------------------------------------------------------------------------------------


def test_two_workers_share_one_database_and_a_sign_in_on_one_holds_on_the_other(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path
) -> None:
    with running_server(tmp_path, settings_for(new_database.prepared(), provider), "--workers", "2") as server:
        user = User(server)
        user.add_key()
        conversations = []
        for _ in range(10):
            # Each on a connection of its own, which either worker takes.
            with server.client(headers={"Authorization": f"Bearer {user.access}"}) as client:
                created = client.post("/chat/createConversation/", json={})
                assert created.status_code == 201
                conversations.append(created.json()["id"])
        assert len(user.http.get("/chat/getConversations/").json()) == 10
        assert user.ask(conversations[0]).status_code == 200
        user.http.close()
        assert len(server.workers()) == 2
        assert server.log.count("BAiO listens on") == 1
        assert server.stop() in ENDED


@on_sqlite
def test_workers_start_also_where_temporary_files_take_no_socket(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path
) -> None:
    far = tmp_path / ("far" * 40)
    far.mkdir()
    settings = {**settings_for(new_database.prepared(), provider), "TMPDIR": str(far)}
    with running_server(tmp_path, settings, "--workers", "2") as server:
        assert server.workers() == []  # each imports for itself
        user = User(server)
        assert user.begin()
        user.http.close()
        assert server.stop() in ENDED
        assert "Traceback" not in server.log


def test_workers_end_with_the_process_that_has_started_them_and_store_what_was_shown(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path, gate: threading.Event
) -> None:
    url = new_database.prepared()
    with running_server(tmp_path / "1", settings_for(url, provider), "--workers", "2") as server:
        user = User(server)
        user.add_key()
        conversation = user.begin()
        provider.script(gated(gate, ("A codon",), (" is three.",)))
        with user.wire("/chat/sendMessage/", user.question(conversation)) as wire:
            assert wire.chunk() == b"A codon"
            workers = server.workers()
            os.kill(server.process.pid, signal.SIGKILL)
            gate.set()
            assert wire.chunks() == ([b" is three."], True)
        until(lambda: not any(worker.is_running() for worker in workers))
        port = urlsplit(server.address).port
        with running_server(tmp_path / "2", settings_for(url, provider), "--port", str(port)) as again:
            same = again.client(headers={"Authorization": f"Bearer {user.access}"})
            said = same.get("/chat/getConversation/", params={"conversation_id": conversation}).json()["messages"]
            assert (said[-1]["role"], said[-1]["content"]) == ("baio", "A codon is three.")
            same.close()
        user.http.close()


# -- The log -----------------------------------------------------------------------------------------------------------


def lines(server: Server) -> list[dict[str, Any]]:
    """The lines of the log, without what is said at the start."""
    return [json.loads(line) for line in server.log.splitlines()[4:]]


def test_the_log_is_one_line_of_json_per_request_with_its_id_and_without_its_query(user: User) -> None:
    requests = [
        ("GET", "/user/getInfo/?secret=canary-query", 200, "log-1"),
        ("GET", "/chat/getConversation/?conversation_id=x", 400, "log-2"),
        ("POST", "/user/auth/?canary-query", 400, "log-3"),
        ("GET", "/nowhere?canary-query=1", 404, "log-4"),
    ]
    for method, path, status, name in requests:
        assert user.http.request(method, path, headers={"X-Request-ID": name}).status_code == status
    until(lambda: "log-4" in user.server.log)
    written = [line for line in lines(user.server) if str(line.get("request_id", "")).startswith("log-")]
    assert [(line["method"], line["path"], line["status"], line["request_id"]) for line in written] == [
        (method, path.partition("?")[0].rstrip("/"), status, name) for method, path, status, name in requests
    ]
    for line in written:
        assert (line["event"], line["finished"], line["level"]) == ("request", True, "info")
        assert 0 < line["milliseconds"] < 10_000
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", line["timestamp"])
    assert "canary-query" not in user.server.log


def test_a_bug_is_logged_once_and_disclosed_to_nobody(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path
) -> None:
    with running_server(tmp_path, settings_for(new_database.prepared(), provider)) as server:
        user = User(server)
        asked = {"conversation_id": user.begin("canary-title")}
        with server.engine() as engine, engine.begin() as connection:
            connection.execute(messages.update().values(role="canary-role"))  # which the code takes for impossible
        failed = user.http.get("/chat/getConversation/", params=asked, headers={"X-Request-ID": "the-bug"})
        assert (failed.status_code, failed.headers["content-type"]) == (500, "application/problem+json")
        assert failed.json() == {
            "type": "urn:baio:error:internal",
            "title": "Internal server error",
            "status": 500,
            "detail": "This is a bug in the server. Its log has the details under the X-Request-ID of this response.",
        }
        until(lambda: "getConversation" in server.log)
        [logged] = [line for line in lines(server) if line["event"] == "unexpected error"]
        assert (logged["level"], logged["request_id"]) == ("error", "the-bug")
        assert "Traceback" in logged["exception"]
        assert user.http.get("/chat/getConversations/").json()[0]["title"] == "canary-title"
        user.http.close()


def test_nobody_has_an_account_before_the_first_registration(new_database: NewDatabase, tmp_path: Path) -> None:
    settings = {"BAIO_DATABASE_URL": new_database.prepared(), "BAIO_SECRET_KEY": SECRET}
    with running_server(tmp_path, settings) as server:
        assert server.rows()["users"] == 0
        assert baio(tmp_path, "listusers", **settings).stdout == ""


def test_a_strange_path_cannot_write_lines_of_its_own_into_the_log(user: User) -> None:
    with httpx2.Client(base_url=user.server.address, trust_env=False, verify=False) as client:
        client.get("/%0a%7b%22event%22:%22forged%22%7d", headers={"X-Request-ID": "forged-1"})
    until(lambda: "forged-1" in user.server.log)
    assert all(line["event"] != "forged" for line in lines(user.server))
