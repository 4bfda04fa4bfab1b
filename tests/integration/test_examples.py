"""The sample gateway is built, installed and tested as a third party's, and is what docs/providers.md shows."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "shouting"


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
    """Where the sample is installed, from its wheel."""
    source = tmp_path_factory.mktemp("source") / "shouting"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    target = tmp_path_factory.mktemp("installed")
    pip = ("-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps")
    run(*pip, "--no-build-isolation", "--target", str(target), ".", folder=source, installed=target)
    return target


def test_the_samples_own_tests_pass_on_what_is_installed(installed: Path, tmp_path: Path) -> None:
    shutil.copy(EXAMPLE / "test_shouting.py", tmp_path)
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


def test_what_is_installed_is_the_gateway_alone(installed: Path) -> None:
    assert [path.name for path in installed.glob("*.py")] == ["shouting.py"]


@pytest.mark.parametrize("name", ["shouting.py", "pyproject.toml", "test_shouting.py"])
def test_the_page_on_gateways_shows_the_sample_as_it_is(name: str) -> None:
    page = (ROOT / "docs" / "providers.md").read_text()
    assert textwrap.indent((EXAMPLE / name).read_text(), "    ") in page
