"""``baio benchmark-model`` against a provider on a real socket."""

import json
from pathlib import Path

from baio_api.model_questions import questions
from tests.integration.processes import run
from tests.integration.scripted_provider import Behaviour, Exchange, ScriptedProvider, answer, call_tools

RIGHT, WRONG, MUTE = questions()[:3]


def behaviour(exchange: Exchange) -> Behaviour:
    """A model that uses the tool well for one question, badly for the next, and not at all for the third."""
    sent = exchange.request.body
    asked = next(each["content"] for each in reversed(sent["messages"]) if each["role"] == "user")
    results = [json.loads(each["content"]) for each in sent["messages"] if each["role"] == "tool"]
    if results or "tools" not in sent or asked.startswith(MUTE.text[:20]):
        said = results[0].get("gc_percent", "no idea") if results else "no idea"
        return answer(f"It is {said}.")
    if asked.startswith(RIGHT.text[:20]):
        return call_tools([(RIGHT.tool, json.dumps(RIGHT.arguments))])
    return call_tools([(WRONG.tool, '{"sequence": "ACGTACGTACGT"}')])


def test_a_model_is_asked_with_and_without_tools_and_the_table_says_what_came_of_it(
    provider: ScriptedProvider, tmp_path: Path
) -> None:
    async def behave(exchange: Exchange) -> None:
        await behaviour(exchange)(exchange)

    provider.always(behave)
    environment = {
        "BAIO_OPENAI_BASE_URL": provider.base_url,
        "BAIO_DATA_DIR": str(tmp_path / "data"),
        "KEY": "sk-test-1",
    }
    command = ["benchmark-model", "--model", "gpt-4o-mini", "--key-env", "KEY", "--questions", "3"]
    done = run([*command, "--yes"], env=environment)
    assert done.returncode == 0, done.stderr
    rows = [line.split("  ") for line in done.stdout.splitlines()]
    counts = {row[0]: [cell.strip() for cell in row[1:] if cell.strip()] for row in rows[2:]}
    assert counts == {
        RIGHT.tool: ["0 of 1", "1 of 1", "1 of 1", "1 of 1", "1 of 1"],
        WRONG.tool: ["0 of 1", "1 of 1", "0 of 1", "0 of 1", "0 of 1"],
        MUTE.tool: ["0 of 1", "0 of 1", "0 of 1", "0 of 1", "0 of 1"],
        "all": ["0 of 3", "2 of 3", "1 of 3", "1 of 3", "1 of 3"],
    }
    assert "3 requests without tools, and with tools usually 6, at most 27" in done.stderr
    assert f"with tools, 1 of 3, {RIGHT.tool}: right" in done.stderr
    assert "sk-test" not in done.stdout + done.stderr
    assert len(provider.requests) == 8
    assert not (tmp_path / "data").exists()
