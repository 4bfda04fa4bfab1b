"""manage.py: from nothing to a running command, again and again, and the locks that it installs from.

Nothing here reaches the network: the installations are real ones, of small packages that are made here.
"""

import ast
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCKS = ["requirements.txt", "requirements-test.txt"]

posix = pytest.mark.skipif(sys.platform == "win32", reason="its baio is a shell script")


def load(folder: Path) -> ModuleType:
    """Import a folder's manage.py without running it."""
    spec = importlib.util.spec_from_file_location("manage_under_test", folder / "manage.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def locked(name: str) -> list[str]:
    """Read a lock's requirements, one to an item with all its hashes."""
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / name).read_text("utf-8"))
    return text.replace("\\\n", "").splitlines()


# Which Python is needed


@pytest.mark.parametrize("version", [(2, 7), (3, 6), (3, 10), (3, 14)])
def test_a_python_that_will_not_do_gets_one_line_that_says_which_is_needed(version: tuple[int, int]) -> None:
    message = load(ROOT).objection(*version)
    assert message.startswith("BAiO needs Python 3.11, 3.12 or 3.13")
    assert "{}.{}".format(*version) in message
    assert "\n" not in message


def test_the_pythons_that_will_do_are_those_of_the_project() -> None:
    objection, asked = load(ROOT).objection, SpecifierSet(PROJECT["requires-python"])
    assert [n for n in range(40) if not objection(3, n)] == [n for n in range(40) if f"3.{n}" in asked]


def test_python_3_6_can_read_the_whole_file_and_an_older_one_stops_at_the_line_that_says_which_is_needed() -> None:
    source = (ROOT / "manage.py").read_text("utf-8")
    ast.parse(source, feature_version=(3, 6))
    with pytest.raises(SyntaxError) as stopped:
        ast.parse(source, feature_version=(3, 5))
    assert stopped.value.lineno is not None
    assert "BAiO needs Python 3.11" in source.splitlines()[stopped.value.lineno - 1]


# The locks


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_pinned_by_hash_and_names_no_registry_and_no_path(lock: str) -> None:
    pinned = re.compile(r"[a-z0-9-]+==[a-z0-9.]+( ; [a-z_]+ [^#/@]+?)?( +--hash=sha256:[0-9a-f]{64})+ *")
    requirements = locked(lock)
    assert len(requirements) > len(PROJECT["dependencies"])
    assert [line for line in requirements if not pinned.fullmatch(line)] == []
    assert not re.search(r"://|@|\s[/~]", (ROOT / lock).read_text("utf-8"))


def test_the_lock_for_the_tests_holds_all_of_the_other() -> None:
    assert set(locked("requirements-test.txt")) > set(locked("requirements.txt"))


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_holds_what_the_project_asks_for(lock: str) -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["build-system"]["requires"]
    wanted = [*PROJECT["dependencies"], *build, "editables"]
    if lock == "requirements-test.txt":
        wanted += PROJECT["optional-dependencies"]["test"]
    versions = dict(line.split(" ", 1)[0].split("==") for line in locked(lock))
    for requirement in map(Requirement, wanted):
        assert versions.get(requirement.name, "none") in requirement.specifier, requirement


# What an installation rests on


def test_a_change_of_the_lock_or_of_the_project_is_noticed_and_one_of_a_tool_is_none(tmp_path: Path) -> None:
    for name in ["manage.py", "pyproject.toml", *LOCKS]:
        shutil.copy(ROOT / name, tmp_path)
    manage, pyproject, lock = load(tmp_path), tmp_path / "pyproject.toml", tmp_path / "requirements.txt"
    stamps = [manage.stamp(lock)]

    pyproject.write_text(pyproject.read_text("utf-8").replace("line-length = 120", "line-length = 100"), "utf-8")
    assert manage.stamp(lock) == stamps[0]

    pyproject.write_text(pyproject.read_text("utf-8").replace("baio_api.cli:main", "baio_api.cli:other"), "utf-8")
    stamps.append(manage.stamp(lock))
    lock.write_text(lock.read_text("utf-8").replace("==", "==9", 1), "utf-8")
    stamps.append(manage.stamp(lock))
    stamps.append(manage.stamp(tmp_path / "requirements-test.txt"))
    assert len(set(stamps)) == 4


# Handing over, and real installations


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a Python whose environment has nothing, wherever the tests themselves run."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    return folder / "bin" / "python"


@posix
def test_inside_an_environment_that_has_baio_that_one_is_used_and_nothing_is_installed(tmp_path: Path) -> None:
    shutil.copy(ROOT / "manage.py", tmp_path)  # no lock is there: to install anything would fail
    venv.create(tmp_path / "active", symlinks=True)
    baio = tmp_path / "active" / "bin" / "baio"
    baio.write_text('#!/bin/sh\necho "$@"\nexit 5\n')
    baio.chmod(0o755)
    command = [str(baio.with_name("python")), str(tmp_path / "manage.py"), "test", "-k", "two words"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("test -k two words\n", "", 5)
    assert not (tmp_path / ".venv").exists()


def write_wheel(folder: Path, name: str, version: str, code: str = "", script: str = "") -> Path:
    """Make an installable package of one module."""
    about = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": code,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": f"[console_scripts]\n{script}\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{about}/RECORD"])
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(zipfile.ZipInfo(file), text)  # without a date: the hash is the same each time
    return path


BAIO = """
import sys
from importlib.metadata import PackageNotFoundError, version

def main():
    print(*sys.argv[1:])
    for name in ["useful", "checking"]:
        try:
            print(name, version(name))
        except PackageNotFoundError:
            print("no", name)
"""

BACKEND = """
import shutil

def build_editable(folder, config_settings=None, metadata_directory=None):
    shutil.copy("baio-1-py3-none-any.whl", folder)
    return "baio-1-py3-none-any.whl"
"""

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "baio"
version = "1"
"""


class Checkout:
    """A project as small as can be, with the real manage.py in it."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder = folder / "a project"
        self.folder.mkdir()
        self.links = folder / "links"
        self.links.mkdir()
        self.command = [str(python), str(self.folder / "manage.py")]
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        self.environ |= {"HOME": "", "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
        self.environ |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.links)}
        shutil.copy(ROOT / "manage.py", self.folder)
        (self.folder / "pyproject.toml").write_text(PYPROJECT)
        (self.folder / "backend.py").write_text(BACKEND)
        write_wheel(self.folder, "baio", "1", BAIO, "baio = baio:main")
        self.write_locks()

    def write_locks(self) -> None:
        """Write the locks that every test begins with."""
        self.lock("requirements.txt", useful="1")
        self.lock("requirements-test.txt", useful="1", checking="1")

    def lock(self, name: str, **versions: str) -> None:
        """Write a lock of packages that exist from then on."""
        lines = []
        for package, version in versions.items():
            digest = hashlib.sha256(write_wheel(self.links, package, version).read_bytes()).hexdigest()
            lines.append(f"{package}=={version} --hash=sha256:{digest}\n")
        (self.folder / name).write_text("".join(lines))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Call manage.py from another folder, and do not wait."""
        command = [*self.command, *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.links, env=self.environ, stdout=pipe, stderr=pipe, text=True)

    def call(self, *arguments: str) -> tuple[str, str, int]:
        """Call manage.py, and give what it printed, what it said besides, and its exit code."""
        with self.start(*arguments) as process:
            return *process.communicate(), process.returncode


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, python: Path) -> Checkout:
    """Give one project for all tests: making its .venv is what takes the time."""
    return Checkout(tmp_path_factory.mktemp("checkout"), python)


@pytest.fixture
def checkout(shared: Checkout) -> Checkout:
    """Give the project as it was checked out; its .venv is as the test before has left it."""
    shared.write_locks()
    return shared


@posix
def test_what_was_killed_half_way_is_made_anew_by_one_of_two_calls_and_both_go_on(checkout: Checkout) -> None:
    shutil.rmtree(checkout.folder / ".venv", ignore_errors=True)
    with checkout.start("flush") as killed:
        assert killed.stderr is not None
        assert killed.stderr.readline().startswith("Making .venv from requirements.txt")
        killed.kill()
    (checkout.folder / ".venv" / "half").mkdir()

    with checkout.start("flush") as one, checkout.start("migrate") as other:
        outputs = [one.communicate(), other.communicate()]
    assert [one.returncode, other.returncode] == [0, 0]
    assert [printed for printed, _ in outputs] == ["flush\nuseful 1\nno checking\n", "migrate\nuseful 1\nno checking\n"]
    said = "".join(said for _, said in outputs)
    assert said.count("Making .venv from requirements.txt") == 1
    assert said.count("Another call is installing") >= 1
    assert "[1/1] Processing " in said
    assert not (checkout.folder / ".venv" / "half").exists()


@posix
def test_once_installed_it_starts_without_a_word_and_without_arguments_it_asks_for_help(checkout: Checkout) -> None:
    checkout.call("flush")
    printed, said, code = checkout.call()
    assert printed.startswith("--help\nuseful 1\n")
    assert (said, code) == ("", 0)


@posix
def test_a_venv_that_was_moved_or_whose_python_is_gone_is_not_used(checkout: Checkout, tmp_path: Path) -> None:
    checkout.call("flush")
    manage = load(checkout.folder)
    assert manage.ready(manage.RUNTIME)
    assert manage.usable()

    moved = load(shutil.copytree(checkout.folder, tmp_path / "moved", symlinks=True))
    assert not moved.ready(moved.RUNTIME)
    assert not moved.usable()

    link = checkout.folder / ".venv" / "bin" / "python"
    there = link.readlink()
    link.unlink()
    link.symlink_to(tmp_path / "gone")
    try:
        assert not manage.ready(manage.RUNTIME)
        assert not manage.usable()
    finally:
        link.unlink()
        link.symlink_to(there)


@posix
def test_only_the_tests_install_what_they_need_and_then_nothing_is_installed_again(checkout: Checkout) -> None:
    checkout.call("flush")
    assert "Bringing .venv up to date with requirements-test.txt" in checkout.call("test", "-x")[1]
    assert checkout.call("test", "-x") == ("test -x\nuseful 1\nchecking 1\n", "", 0)
    assert checkout.call("runserver") == ("runserver\nuseful 1\nchecking 1\n", "", 0)


@posix
def test_the_embedded_models_server_is_added_only_for_what_may_ask_it_and_is_missed_in_one_line(
    checkout: Checkout,
) -> None:
    checkout.call("flush")
    lock = checkout.folder / "requirements-local.txt"
    checkout.lock(lock.name, checking="1")
    adding = "Adding the embedded model's server from requirements-local.txt"
    try:
        assert adding not in checkout.call("migrate")[1]
        assert adding not in checkout.call("runserver", "--no-local-model")[1]
        printed, said, code = checkout.call("chat", "hello")
        assert (printed, code) == ("chat hello\nuseful 1\nchecking 1\n", 0)
        assert adding in said
        assert checkout.call("runserver") == ("runserver\nuseful 1\nchecking 1\n", "", 0)

        lock.write_text("nothing-like-this==1 --hash=sha256:" + "0" * 64)
        printed, said, code = checkout.call("runserver")
        assert (printed, code) == ("runserver\nuseful 1\nchecking 1\n", 0)
        assert "Going on without the embedded model" in said
        assert checkout.call("runserver")[1] == ""
    finally:
        lock.unlink()


@posix
def test_a_changed_lock_is_installed_by_the_next_call(checkout: Checkout) -> None:
    checkout.call("flush")
    checkout.lock("requirements.txt", useful="2")
    printed, said, code = checkout.call("flush")
    assert "Bringing .venv up to date with requirements.txt" in said
    assert "useful 2\n" in printed
    assert code == 0


@posix
def test_a_package_that_is_not_the_locked_one_ends_it_in_pips_words_and_nothing_counts_as_installed(
    checkout: Checkout,
) -> None:
    checkout.lock("requirements.txt", useful="3")
    write_wheel(checkout.links, "useful", "3", "print('other code')")
    printed, said, code = checkout.call("flush")
    assert (printed, code) == ("", 1)
    assert "THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE" in said
    assert re.search(r"Got +[0-9a-f]{64}", said)
    assert said.splitlines()[-1].startswith("pip failed and says why above")
    assert load(checkout.folder).noted() == ["unfinished"]
