"""A page that was reloaded: getConversation with answers shows everything, and which answer to follow."""

import threading
from typing import Any

import pytest

from baio_domain.pages import PAGE_SIZE
from tests.integration.answers import ended, last, records, send, stop
from tests.integration.scripted_provider import ScriptedProvider, answer, cut_after, gated, refuse
from tests.integration.servers import User, named, problem
from tests.integration.test_follow import AFTER, BEFORE, SHOWN, WHOLE, follow, text_of
from tests.integration.test_pages import fill
from tests.integration.test_survival import again

KEYS = ["role", "content", "created_at", "answer_id", "state", "reason"]

Shown = tuple[str, str, str | None, str | None]


def reload(user: User, conversation: int, answers: str = "true") -> dict[str, Any]:
    """What the page reads."""
    query: dict[str, str | int] = {"conversation_id": conversation, "answers": answers}
    response = user.http.get("/chat/getConversation/", params=query)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


def shown(user: User, conversation: int) -> list[Shown]:
    """What the page shows after the system message: role, text, state and reason."""
    document = reload(user, conversation)
    assert list(document) == ["id", "title", "messages"]
    assert all(list(message) == KEYS for message in document["messages"])
    found = [(each["role"], each["content"], each["state"], each["reason"]) for each in document["messages"]]
    assert found[0][0] == "system"
    return found[1:]


def ids(user: User, conversation: int) -> list[int]:
    """The answers that the page knows, in its order."""
    return [each["answer_id"] for each in reload(user, conversation)["messages"] if each["answer_id"] is not None]


def asked(content: str) -> Shown:
    """A question, as the page shows it."""
    return ("user", content, None, None)


def test_every_message_of_baios_has_its_answer_and_a_running_one_its_text_so_far(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = asker.begin()
    provider.script(answer("First."), cut_after("Half a"), gated(gate, BEFORE, AFTER))
    asker.ask(conversation, "1?")
    with send(asker, conversation, "2?") as cut:
        assert not cut.chunks()[1]
    with send(asker, conversation, "3?") as wire:
        read = b""
        while read.decode() != SHOWN:
            read += wire.chunk() or b""
        before = [
            asked("1?"), ("baio", "First.", "complete", None),
            asked("2?"), ("baio", "Half a", "failed", "provider-broken"),
            asked("3?"),
        ]  # fmt: skip
        assert shown(asker, conversation) == [*before, ("baio", SHOWN, "running", None)]
        assert ids(asker, conversation) == [each["id"] for each in records(asker, conversation)]
        *_, running = reload(asker, conversation)["messages"]
        assert running["created_at"] == last(asker, conversation)["started_at"]
        with follow(asker, conversation, f"{len(running['content'])}&answer_id={running['answer_id']}") as follower:
            gate.set()
            assert text_of(follower) == "".join(AFTER)
    assert shown(asker, conversation) == [*before, ("baio", WHOLE, "complete", None)]


def test_an_answer_that_ended_without_text_is_shown_after_its_question(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = asker.begin()
    provider.script(refuse(401), answer("Two."), gated(gate, (), AFTER), refuse(500), answer("Four."))
    assert asker.ask(conversation, "1?").status_code == 424
    asker.ask(conversation, "2?")
    with send(asker, conversation, "3?") as wire:
        provider.wait_for_requests(3)
        assert shown(asker, conversation)[-1] == ("baio", "", "running", None)
        assert stop(asker, conversation).json()["state"] == "stopped"
        assert wire.chunks() == ([], True)
    assert asker.ask(conversation, "4?").status_code == 502
    failed = [
        asked("1?"), ("baio", "", "failed", "key-refused"),
        asked("2?"), ("baio", "Two.", "complete", None),
        asked("3?"), ("baio", "", "stopped", None),
        asked("4?"), ("baio", "", "failed", "provider-broken"),
    ]  # fmt: skip
    assert shown(asker, conversation) == failed
    assert ids(asker, conversation) == [each["id"] for each in records(asker, conversation)]
    # The next answer with text replaces it, as it would replace one with text.
    assert again(asker, conversation).text == "Four."
    assert shown(asker, conversation) == [*failed[:-1], ("baio", "Four.", "complete", None)]


def test_a_regenerated_answer_comes_after_the_one_that_it_will_replace(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = asker.begin()
    provider.script(answer("First."), refuse(500), gated(gate, BEFORE, AFTER))
    asker.ask(conversation, "1?")
    old = [asked("1?"), ("baio", "First.", "complete", None)]
    assert again(asker, conversation).status_code == 502
    assert shown(asker, conversation) == [*old, ("baio", "", "failed", "provider-broken")]
    body = {"conversation_id": conversation, "apikey_nickname": "OpenAI Key", "model": "gpt-4o"}
    with asker.wire("/chat/regenerateAnswer/", body) as wire:
        assert wire.chunk()
        assert [each[2] for each in shown(asker, conversation)] == [None, "complete", "running"]
        first, _, running = (each["id"] for each in records(asker, conversation))
        assert ids(asker, conversation) == [first, running]
        gate.set()
        assert wire.chunks()[1]
    assert shown(asker, conversation) == [asked("1?"), ("baio", WHOLE, "complete", None)]
    assert ids(asker, conversation) == [running]


def test_a_long_conversation_with_answers_comes_in_pages_and_is_complete(
    asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    conversation = asker.begin()
    long = "ACGT" * (PAGE_SIZE // 4)
    provider.script(refuse(401), answer(long), refuse(401), answer("Short."), gated(gate, (long, SHOWN), AFTER))
    # Each of these questions or answers fills a page, so what belongs to a question comes with a later page.
    for question in (long, "2?", long + "3?", "4?"):
        asker.ask(conversation, question)
    fill(asker, conversation, long)
    with send(asker, conversation, "5?") as wire:
        read = ""
        while not read.endswith(SHOWN):
            read += (wire.chunk() or b"").decode()
        found = shown(asker, conversation)
        assert found == [
            asked(long), ("baio", "", "failed", "key-refused"),
            asked("2?"), ("baio", long, "complete", None),
            asked(long + "3?"), ("baio", "", "failed", "key-refused"),
            asked("4?"), ("baio", "Short.", "complete", None),
            asked(long),
            asked("5?"), ("baio", long + SHOWN, "running", None),
        ]  # fmt: skip
        gate.set()
    ended(asker, conversation)
    plain = asker.http.get("/chat/getConversation/", params={"conversation_id": conversation}).json()
    kept = [{name: each[name] for name in KEYS[:3]} for each in reload(asker, conversation)["messages"]]
    assert plain["messages"] == [each for each in kept if each["content"]]


def test_without_the_parameter_the_response_is_what_it_was(asker: User, provider: ScriptedProvider) -> None:
    conversation = asker.begin()
    provider.script(answer("First."), refuse(401))
    asker.ask(conversation, "1?")
    asker.ask(conversation, "2?")
    for query in ({}, {"answers": "false"}):
        read = asker.http.get("/chat/getConversation/", params={"conversation_id": conversation, **query}).json()
        assert [list(each) for each in read["messages"]] == [["role", "content", "created_at"]] * 4
        assert [each["content"] for each in read["messages"]][1:] == ["1?", "First.", "2?"]


@pytest.mark.parametrize("value", ["", "1", "yes", "True", "null"])
def test_answers_is_true_or_false(asker: User, value: str) -> None:
    query: dict[str, str | int] = {"conversation_id": asker.begin(), "answers": value}
    assert named(asker.http.get("/chat/getConversation/", params=query)) == {"answers"}


def test_somebody_elses_conversation_does_not_exist_with_answers_either(asker: User, other: User) -> None:
    query: dict[str, str] = {"conversation_id": str(asker.begin()), "answers": "true"}
    problem(other.http.get("/chat/getConversation/", params=query), 404)
