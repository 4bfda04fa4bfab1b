"""Settings of conversations and presets over HTTP: what providers are sent, and what records say."""

from typing import Any

import pytest

from tests.integration.conftest import once
from tests.integration.scripted_provider import ScriptedProvider, refuse
from tests.integration.servers import User, named, problem

CHOSEN: dict[str, Any] = {
    "system": "Be brief.",
    "model": "gpt-4o-mini",
    "apikey_nickname": "OpenAI Key",
    "parameters": {"temperature": 0.2, "max_output_tokens": 99, "seed": 7},
    "tools": None,
}


@pytest.fixture
def asker(user: User) -> User:
    """Somebody with a key."""
    user.add_key()
    return user


def change(user: User, conversation: int, **changes: Any) -> dict[str, Any]:
    changed = user.http.post("/chat/changeSettings/", json={"conversation_id": conversation, **changes})
    assert changed.status_code == 200, changed.text
    settings: dict[str, Any] = changed.json()
    assert user.http.get("/chat/getSettings/", params={"conversation_id": conversation}).json() == settings
    return settings


def test_a_question_is_asked_with_the_settings_and_the_record_and_the_export_have_them(
    asker: User, provider: ScriptedProvider
) -> None:
    conversation = asker.begin()
    assert change(asker, conversation) == {**dict.fromkeys(CHOSEN), "parameters": {}}
    assert change(asker, conversation, **CHOSEN) == CHOSEN
    provider.script(refuse(400, says="Unsupported value: 'temperature' does not support 0.2 with this model."))
    question = {"conversation_id": conversation, "content": "What is a codon?"}
    assert asker.http.post("/chat/sendMessage/", json=question).status_code == 200
    sent = [request.body for request in provider.requests]
    assert [body["messages"][0]["content"] for body in sent] == ["Be brief.", "Be brief."]
    assert [body.get("temperature") for body in sent] == [0.2, None]
    assert [(body["max_completion_tokens"], body["seed"]) for body in sent] == [(99, 7)] * 2
    used = {"system": "Be brief.", "parameters": CHOSEN["parameters"], "tools": None, "left_out": ["temperature"]}
    for context in ("true", "false"):
        asked = {"conversation_id": str(conversation), "settings": "true", "context": context}
        [record] = asker.http.get("/chat/getAnswers/", params=asked).json()
        assert list(record)[-1] == "settings"
        assert record["settings"] == used
        assert ("left_out" in record) == (context == "true")
    [plain] = asker.http.get("/chat/getAnswers/", params={"conversation_id": conversation}).json()
    assert "settings" not in plain
    exported = asker.http.get("/user/exportData/").json()["conversations"][0]
    assert (exported["settings"], exported["answers"][0]["settings"]) == (CHOSEN, used)
    assert asker.messages(conversation)[0][1].startswith("You are BAiO")


def test_presets_are_created_listed_used_and_deleted(asker: User) -> None:
    made = asker.http.post("/chat/createPreset/", json={"name": "Brief", **CHOSEN})
    assert made.status_code == 201
    assert list(made.json()) == ["system", "model", "apikey_nickname", "parameters", "tools", "name", "created_at"]
    assert asker.http.get("/chat/getPresets/").json() == [made.json()]
    assert asker.http.get("/user/exportData/").json()["presets"] == [made.json()]
    assert named(asker.http.post("/chat/createPreset/", json={"name": "Brief"})) == {"name"}
    begun = asker.http.post("/chat/createConversation/", json={"preset": "Brief"})
    assert begun.status_code == 201
    assert change(asker, begun.json()["id"]) == CHOSEN
    deleted = asker.http.post("/chat/deletePreset/", json={"name": "Brief"})
    assert deleted.json() == "Preset Brief successfully deleted"
    problem(asker.http.post("/chat/deletePreset/", json={"name": "Brief"}), 404)
    problem(asker.http.post("/chat/createConversation/", json={"preset": "Brief"}), 404)


@once
def test_every_bad_field_of_settings_is_named_at_once(asker: User) -> None:
    conversation = asker.begin()
    wrong = {"conversation_id": conversation, "system": "x" * 32_001, "parameters": {"seed": 0.5}, "tools": ["fly"]}
    assert named(asker.http.post("/chat/changeSettings/", json=wrong)) == {"system", "parameters.seed", "tools"}
    shapeless = {"conversation_id": "1", "system": "x" * 32_001, "parameters": {"seed": [7]}, "tools": [7], "model": 7}
    found = named(asker.http.post("/chat/changeSettings/", json=shapeless))
    assert found == {"conversation_id", "system", "parameters", "tools", "model"}
    assert named(asker.http.post("/chat/createPreset/", json={"name": " ", "model": 7})) == {"name", "model"}
