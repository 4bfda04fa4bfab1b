"""A real model answers through BAiO: llama.cpp's server with SmolLM2-135M, which accepts any model's name."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import NewDatabase
from tests.integration.local_model import LocalModel
from tests.integration.servers import SECRET, Server, User, running_server


@pytest.fixture(scope="module")
def model() -> Iterator[LocalModel]:
    """The model."""
    with LocalModel() as running:
        yield running


@pytest.fixture(scope="module")
def backed(model: LocalModel, sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with this model as its provider."""
    environment = {
        "BAIO_DATABASE_URL": sqlite.prepared(),
        "BAIO_SECRET_KEY": SECRET,
        "BAIO_OPENAI_BASE_URL": model.base_url,
    }
    folder: Path = tmp_path_factory.mktemp("backed")
    with running_server(folder, environment) as running:
        yield running


@pytest.fixture
def asker(backed: Server, model: LocalModel) -> Iterator[User]:
    """A user with the model's key."""
    someone = User(backed)
    someone.add_key(key=model.key)
    yield someone
    someone.http.close()


def test_a_real_model_answers_in_many_chunks_and_its_answer_is_stored(asker: User) -> None:
    conversation = asker.begin()
    with asker.wire("/chat/sendMessage/", asker.question(conversation, "What is a codon?")) as wire:
        assert wire.status == 200
        chunks, ended = wire.chunks()
    assert ended
    assert len(chunks) > 5
    text = b"".join(chunks).decode()
    assert "codon" in text.lower()
    assert asker.messages(conversation)[1:] == [("user", "What is a codon?"), ("baio", text)]
    record = asker.http.get("/chat/getAnswers/", params={"conversation_id": conversation}).json()[0]
    assert record["state"] in {"complete", "truncated"}
    assert record["completion_tokens"] > 5
    assert record["prompt_tokens"] > 20


def test_a_real_server_refuses_a_wrong_key(asker: User) -> None:
    asker.add_key("Wrong", "sk-of-somebody-else")
    conversation = asker.begin()
    refused = asker.ask(conversation, apikey_nickname="Wrong")
    assert (refused.status_code, refused.json()["type"]) == (424, "urn:baio:error:key-refused")
    assert len(asker.messages(conversation)) == 2


def test_disconnecting_while_a_real_model_writes_changes_nothing(asker: User) -> None:
    conversation = asker.begin()
    with asker.wire("/chat/sendMessage/", asker.question(conversation, "Tell me about DNA.")) as wire:
        seen = wire.chunk()
        assert seen
    followed = asker.http.get("/chat/followAnswer/", params={"conversation_id": conversation})
    assert followed.text.startswith(seen.decode())
    assert asker.messages(conversation)[-1] == ("baio", followed.text)
