import re
from pathlib import Path

import msgspec
import pytest

from baio_api.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]


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


def test_every_rule_of_the_contract_is_written_down_and_has_a_test_of_its_name() -> None:
    rules = {f"R{number}" for number in range(1, 27)}
    written = set(re.findall(r"\*\*(R\d+)\*\*", (ROOT / "docs/contract.md").read_text()))
    tested = set(re.findall(r"def test_(R\d+)_", (ROOT / "tests/integration/test_rules.py").read_text()))
    assert written == rules
    assert tested >= rules


def test_the_tree_in_the_readme_is_the_tree() -> None:
    tree = (ROOT / "README.md").read_text().split("## The tree")[1]
    for name in re.findall(r"(?m)^    ([\w./]+) ", tree):
        assert (ROOT / name).exists(), name
