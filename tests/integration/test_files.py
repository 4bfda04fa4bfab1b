"""Files: only the account that runs BAiO can read what BAiO writes."""

import shutil
import signal
import stat
from pathlib import Path

import pytest

from tests.integration.processes import run
from tests.integration.scripted_provider import ScriptedProvider
from tests.integration.servers import KEY, User, baio, running_server

DATABASE = ("baio.sqlite3", "baio.sqlite3-wal", "baio.sqlite3-shm")
WORKERS = "baio.sqlite3-workers"


def modes(folder: Path) -> dict[str, int]:
    """The permissions of everything in the folder, by relative name."""
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}


def assert_private(folder: Path) -> None:
    """Check that everything in the folder belongs to its owner only."""
    wrong = {name: oct(mode) for name, mode in modes(folder).items() if mode & 0o077}
    assert not wrong


def wide_open(folder: Path, provider: ScriptedProvider) -> Path:
    """A data folder as earlier versions left it after a crash: a database with its log, readable by everybody."""
    data = folder / "data"
    environment = {"BAIO_DATA_DIR": str(data), "BAIO_OPENAI_BASE_URL": provider.base_url}
    with running_server(folder / "server", environment) as server:
        user = User(server)
        user.http.close()
        asked = baio({**environment, "A_KEY": KEY}, "chat", "--model", "gpt-4o-mini", "--key-env", "A_KEY", "And?")
        assert asked.returncode == 0, asked.stderr
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(10)
    shutil.rmtree(data / WORKERS)  # they had none
    data.chmod(0o755)
    for path in data.iterdir():
        path.chmod(0o644)
    assert {*DATABASE, "secret_key"} < modes(data).keys()
    assert len(modes(data)) == 5  # and the file of the terminal's user
    return data


@pytest.fixture(scope="module")
def left_behind(provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wide_open(tmp_path_factory.mktemp("files"), provider)


def copy_of(left_behind: Path, folder: Path) -> Path:
    return Path(shutil.copytree(left_behind, folder / "data"))


def one_line(said: str, folder: Path) -> None:
    """Check that one line names the folder."""
    assert said.count(f"baio: other users can enter the folder {folder} (mode 0755)") == 1
    assert said.count("other users") == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_files_of_a_wider_mode_are_narrowed_when_the_server_starts_and_their_folder_is_named(
    left_behind: Path, tmp_path: Path, workers: str
) -> None:
    data = copy_of(left_behind, tmp_path)
    with running_server(tmp_path / "server", {"BAIO_DATA_DIR": str(data)}, "--workers", workers) as server:
        User(server).http.close()
        assert {*DATABASE, "secret_key"} < modes(data).keys()
        assert modes(data)[WORKERS] == 0o700
        assert {mode for name, mode in modes(data).items() if name != WORKERS} == {0o600}
        one_line(server.log, data)
    assert stat.S_IMODE(data.stat().st_mode) == 0o755


COMMANDS = [
    ("chat", "--model", "gpt-4o-mini", "--key-env", "A_KEY", "What is a codon?"),
    ("migrate",),
    ("flush", "--yes"),
    ("rotate_keys",),
    ("listusers",),
]


@pytest.mark.parametrize("command", COMMANDS, ids=[command[0] for command in COMMANDS])
def test_files_of_a_wider_mode_are_narrowed_by_each_command(
    left_behind: Path, tmp_path: Path, provider: ScriptedProvider, command: tuple[str, ...]
) -> None:
    data = copy_of(left_behind, tmp_path)
    environment = {"BAIO_DATA_DIR": str(data), "BAIO_OPENAI_BASE_URL": provider.base_url, "A_KEY": KEY}
    done = baio(environment, *command)
    assert done.returncode == 0, done.stderr
    assert_private(data)
    one_line(done.stderr, data)


@pytest.mark.parametrize("command", COMMANDS, ids=[command[0] for command in COMMANDS])
def test_what_a_command_writes_into_a_new_folder_is_private(
    tmp_path: Path, provider: ScriptedProvider, command: tuple[str, ...]
) -> None:
    environment = {"BAIO_DATA_DIR": str(tmp_path / "a" / "b"), "BAIO_OPENAI_BASE_URL": provider.base_url, "A_KEY": KEY}
    if command[0] != "chat":
        assert baio(environment, "migrate").returncode == 0
    done = baio(environment, *command)
    assert done.returncode == 0, done.stderr
    assert "baio.sqlite3" in modes(tmp_path / "a" / "b")
    assert_private(tmp_path)
    assert "other users" not in done.stderr


def test_what_the_server_writes_into_a_folder_that_others_can_enter_is_private(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o755)
    url = f"sqlite:///{data / 'elsewhere.sqlite3'}"
    environment = {"BAIO_DATA_DIR": str(tmp_path / "private"), "BAIO_DATABASE_URL": url}
    with running_server(tmp_path / "server", environment, "--workers", "2") as server:
        User(server).http.close()
        written = {path.name for path in data.iterdir()}
        assert written == {f"elsewhere.sqlite3{suffix}" for suffix in ("", "-wal", "-shm", "-workers")}
        assert_private(data)
        assert_private(tmp_path / "private")
        one_line(server.log, data)


def test_a_database_behind_a_link_is_narrowed_where_it_is(left_behind: Path, tmp_path: Path) -> None:
    data = copy_of(left_behind, tmp_path)
    (tmp_path / "disk").mkdir(mode=0o700)
    for name in DATABASE:
        (data / name).rename(tmp_path / "disk" / name)
    (data / DATABASE[0]).symlink_to(tmp_path / "disk" / DATABASE[0])
    assert baio({"BAIO_DATA_DIR": str(data)}, "listusers").returncode == 0
    assert_private(tmp_path / "disk")


def test_a_data_folder_that_can_not_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(["migrate"], env={"BAIO_DATA_DIR": str(tmp_path / "file" / "data")})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"baio: can't create the folder {tmp_path / 'file' / 'data'}: ")
    assert done.stderr.count("\n") == 1
