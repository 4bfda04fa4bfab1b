"""The samples are built, installed and tested as a third party's, and are what the pages show."""

import os
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PAGES = {"shouting": "providers.md", "barcodes": "biology.md"}
"""The samples: a gateway and a tool, each with the page that shows it."""


def run(*command: str, folder: Path, installed: Path) -> str:
    """Run Python in a folder, with what was installed into another; what it says."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the samples are installed, from their wheels."""
    source = tmp_path_factory.mktemp("source")
    for name in PAGES:
        shutil.copytree(EXAMPLES / name, source / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    target = tmp_path_factory.mktemp("installed")
    pip = ("-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps")
    run(
        *pip,
        "--no-build-isolation",
        "--target",
        str(target),
        *(f"./{name}" for name in PAGES),
        folder=source,
        installed=target,
    )
    return target


def test_the_samples_own_tests_pass_on_what_is_installed(installed: Path, tmp_path: Path) -> None:
    for name in PAGES:
        shutil.copy(EXAMPLES / name / f"test_{name}.py", tmp_path)
    said = run(
        "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "-p", "no:llmock", folder=tmp_path, installed=installed
    )
    assert " passed" in said


def test_the_samples_gateway_is_found_beside_baios_own(installed: Path, tmp_path: Path) -> None:
    listed = run(
        "-c",
        "from baio_adapters.llm import installed_gateways; print(*installed_gateways())",
        folder=tmp_path,
        installed=installed,
    ).split()
    assert {"openai", "anthropic", "shouting"} <= set(listed)


CALL = """
import asyncio
from baio_adapters.biology.toolbox import WorkerToolbox

async def main():
    toolbox = WorkerToolbox()
    print(*(spec.name for spec in toolbox.specs()))
    print((await toolbox.run("barcode_distance", {"first": "ACGT", "second": "ACCA"})).line)
    await toolbox.aclose()

asyncio.run(main())
"""


def test_the_samples_tool_runs_in_baios_process_beside_baios_own(installed: Path, tmp_path: Path) -> None:
    # An environment of its own, since the process of the tools is isolated from PYTHONPATH.
    venv.create(tmp_path, symlinks=True)
    packages = sysconfig.get_path("purelib", "venv", {"base": str(tmp_path)})
    folders = sysconfig.get_path("purelib"), str(installed)
    (Path(packages) / "baio.pth").write_text(f"import site; list(map(site.addsitedir, {folders!r}))\n")
    python = Path(sysconfig.get_path("scripts", "venv", {"base": str(tmp_path)})) / "python"
    done = subprocess.run([python, "-I", "-c", CALL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names, line = done.stdout.splitlines()
    assert names.split()[-1] == "barcode_distance"
    assert "gc_content" in names.split()
    assert line == "Distance of the sequence and the sequence: **2 of 4 nt**"


def test_what_is_installed_are_the_samples_alone(installed: Path) -> None:
    assert sorted(path.name for path in installed.glob("*.py")) == ["barcodes.py", "shouting.py"]


@pytest.mark.parametrize("name", PAGES)
def test_the_page_shows_the_sample_as_it_is(name: str) -> None:
    page = (ROOT / "docs" / PAGES[name]).read_text()
    for file in (f"{name}.py", "pyproject.toml", f"test_{name}.py"):
        assert textwrap.indent((EXAMPLES / name / file).read_text(), "    ") in page
