"""A real model calls a real tool: llama.cpp's server, with weights that a template leads to calls, and BAiO's tools."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import NewDatabase
from tests.integration.local_model import weights
from tests.integration.servers import SECRET, Server, User, running_server

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The model's address."""
    command = [sys.executable, "-I", str(HERE / "tool_calling_server.py"), str(weights())]
    command.append(str(HERE / "tool_calling.jinja"))
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        yield next(line.strip() for line in process.stdout if line.startswith("http"))
        process.kill()


@pytest.fixture(scope="module")
def backed(address: str, sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes it for OpenAI: it accepts any model's name."""
    folder = tmp_path_factory.mktemp("backed")
    environment = {
        "BAIO_DATABASE_URL": sqlite.prepared(),
        "BAIO_SECRET_KEY": SECRET,
        "BAIO_OPENAI_BASE_URL": f"{address}/v1",
    }
    with running_server(folder, environment) as running:
        yield running


@pytest.fixture
def asker(backed: Server) -> Iterator[User]:
    """A user with a key for it."""
    someone = User(backed)
    someone.add_key()
    yield someone
    someone.http.close()


def test_a_real_model_calls_a_real_tool_and_the_exact_value_stands_in_the_answer(asker: User) -> None:
    conversation = asker.begin()
    settings = {"conversation_id": conversation, "tools": ["gc_content"]}
    assert asker.http.post("/chat/changeSettings/", json=settings).status_code == 200
    question = "What is the GC content of ACGTGGGCCA?"
    answered = asker.ask(conversation, question)
    assert answered.status_code == 200, answered.text
    [call] = asker.http.get("/chat/getToolCalls/", params={"conversation_id": conversation}).json()
    assert (call["tool"], call["state"], call["arguments"]["sequence"]) == ("gc_content", "done", "ACGTGGGCCA")
    [used] = call["inputs"]
    assert used["origin"]["source"] == "message"
    assert "**70.00 %** (7 of 10)" in call["line"]
    assert call["line"] in answered.text
    [record] = asker.http.get("/chat/getAnswers/", params={"conversation_id": conversation}).json()
    assert record["prompt_tokens"] > 400  # of two requests: the second one brought the result
    assert asker.messages(conversation)[-1] == ("baio", answered.text)
