"""The sample notebook runs as it is, and is kept without outputs."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import once
from tests.integration.scripted_provider import ScriptedProvider, answer
from tests.integration.servers import User
from tests.integration.test_api_tokens import create

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"


@pytest.fixture(scope="module")
def notebook() -> dict[str, Any]:
    """The notebook."""
    read: dict[str, Any] = json.loads(NOTEBOOK.read_text("utf-8"))
    return read


@once
def test_every_cell_runs_in_order(
    notebook: dict[str, Any],
    asker: User,
    provider: ScriptedProvider,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    provider.script(answer("Three nucleotides."), answer("It is ", "57.1 %."))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BAIO_URL", asker.server.address)
    monkeypatch.setenv("BAIO_TOKEN", create(asker, scopes=["ask", "read"]))
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
            printed[cell["id"]] = capsys.readouterr().out
    names["client"].close()
    assert "OpenAI Key/gpt-4o-mini" in printed["models"].splitlines()
    assert printed["ask"].startswith("Three nucleotides.\n")
    assert printed["stream"].startswith("It is 57.1 %.\n")
    [conversation] = asker.http.get("/chat/getConversations/").json()
    assert f"conversation {conversation['id']}." in printed["stream"]
    assert "It is 57.1 %." in printed["export"]
    assert len(printed["cite"].splitlines()) > 3


def test_it_is_kept_as_jupyter_writes_it_without_outputs(notebook: dict[str, Any]) -> None:
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids) > 8
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
    assert NOTEBOOK.read_text("utf-8") == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
