import asyncio
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
from benchmarks import picture

from baio_adapters.sql.tables import metadata
from baio_api.settings import Settings

ROOT = Path(__file__).parents[2]
COMMANDS = (
    "baio",
    "python",
    "curl",
    "export",
    "openssl",
    "pip",
    "psql",
    "pg_dump",
    "pg_restore",
    "cat",
    r"\.venv/bin/\S+",
)
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def test_the_table_of_settings_names_every_setting_with_its_default() -> None:
    rows = re.findall(r"(?m)^\| `(BAIO_\w+)` \| (.+?) \|", (ROOT / "docs/operations.md").read_text())
    written = {name: default.strip("`") for name, default in rows}
    fields = {f"BAIO_{field.name.upper()}": field.default for field in msgspec.structs.fields(Settings)}
    assert written.keys() == fields.keys()
    for name, default in fields.items():
        if default == "":
            continue  # what stands for nothing is said in words
        plain = str(default).lower() if isinstance(default, bool) else str(default).removesuffix(".0")
        assert written[name] == plain


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize(("page", "letter", "last"), [("contract.md", "R", 26), ("answers.md", "A", 12)])
def test_every_rule_is_written_down_and_has_a_test_of_its_name(page: str, letter: str, last: int) -> None:
    written = re.findall(rf"\*\*({letter}\d+)\*\*", (ROOT / "docs" / page).read_text())
    tested = {
        rule
        for file in (ROOT / "tests/integration").glob("test_*.py")
        for rule in re.findall(rf"def test_({letter}\d+)_", file.read_text())
    }
    assert written == [f"{letter}{number}" for number in range(1, last + 1)]
    assert tested == set(written)


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_path_that_a_page_names_exists(page: str) -> None:
    named = re.findall(r"`([\w./-]+(?:\.py|\.toml|/))`", (ROOT / page).read_text())
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists() and not (ROOT / "src" / name).exists()] == []


def test_the_page_for_it_departments_says_of_every_table_how_long_it_is_kept() -> None:
    page = (ROOT / "docs/institution.md").read_text()
    table = page.split("### What is stored, where, and for how long")[1].split("###")[0]
    rows = [row.split(" | ") for row in re.findall(r"(?m)^\| (.+) \|$", table)][1:]
    named = [name for _, names, _ in rows for name in re.findall(r"`(\w+)`", names)]
    assert sorted(named) == sorted(metadata.tables)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_command_has_a_comment_after_it(page: Path) -> None:
    """Shells such as zsh pass a comment on as arguments when a command is pasted."""
    commands = re.findall(rf"(?m)^    (?:{'|'.join(COMMANDS)})\b.*", page.read_text())
    assert [each for each in commands if " #" in each] == []


def test_every_test_that_security_md_names_exists() -> None:
    page = (ROOT / "docs/security.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", page))
    written = {
        name for file in (ROOT / "tests").rglob("*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    assert named
    assert named - written == set()


def test_every_item_of_asvs_level_2_is_in_security_md_once() -> None:
    table, rest = (ROOT / "docs/security.md").read_text().split("## Item by item")[1].split("Not applicable:")
    proved = re.findall(r"\d+\.\d+\.\d+", " ".join(re.findall(r"(?m)^\| ([\d., ]+) \|", table)))
    set_apart = re.findall(r"\d+\.\d+\.\d+", re.sub(r"6\.8\.1 to 6\.8\.4", "6.8.1 6.8.2 6.8.3 6.8.4", rest))
    assert len(proved) == len(set(proved))
    sections = {
        "6.1": 3, "6.2": 12, "6.3": 4, "6.4": 4, "6.5": 5, "6.6": 3, "6.8": 4, "7.1": 3, "7.2": 4, "7.3": 2, "7.4": 5,
        "7.5": 2, "7.6": 2, "8.1": 2, "8.2": 3, "8.3": 1, "8.4": 1, "9.1": 3, "9.2": 4, "11.1": 2, "11.2": 3,
        "11.3": 3, "11.4": 4, "11.5": 1, "11.6": 1, "16.1": 1, "16.2": 5, "16.3": 4, "16.4": 3, "16.5": 3,
    }  # fmt: skip
    items = {f"{section}.{number}" for section, last in sections.items() for number in range(1, last + 1)}
    assert {*proved, *set_apart} == items


def test_the_project_layout_in_the_readme_names_what_exists() -> None:
    named = re.findall(r"(?m)^    ([\w./]+) ", (ROOT / "README.md").read_text().split("## Project layout")[1])
    assert len(named) > 8
    for name in named:
        assert (ROOT / name).exists(), name


def test_the_picture_of_an_arriving_answer_comes_from_a_run_that_lost_no_text(tmp_path: Path) -> None:
    run = asyncio.run(picture.record(tmp_path))
    assert 0 < len("".join(piece.text for piece in run.first)) < len(picture.ANSWER)
    assert run.received == run.stored == picture.ANSWER
    assert run.state == "complete"
    for drawn in (picture.draw(run), picture.PICTURE.read_text("utf-8")):
        texts = " ".join(ET.fromstring(drawn).itertext())
        assert "336 characters written, 336 received, 336 stored" in texts
        assert "<script" not in drawn
        assert len(drawn) < 16_384
