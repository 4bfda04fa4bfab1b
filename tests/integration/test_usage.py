"""What answers cost, as the provider said it or as it is estimated, and what their models were not sent."""

import csv
import io
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from baio_adapters.sql.tables import usage as ledger
from baio_domain.prompts import estimated_tokens
from tests.integration.conftest import once
from tests.integration.scripted_provider import Exchange, ScriptedProvider, answer, delta, events, refuse
from tests.integration.servers import SECRET, User, baio, named

KEYS = ["date", "provider", "model", "answers", "prompt_tokens", "completion_tokens", "estimated"]


@pytest.fixture
def asker(user: User) -> User:
    """Somebody with a key."""
    user.add_key()
    return user


def usage(user: User, **days: str) -> list[dict[str, Any]]:
    found = user.http.get("/chat/getUsage/", params=days)
    assert found.status_code == 200, found.text
    listed: list[dict[str, Any]] = found.json()
    assert all(list(each) == KEYS for each in listed)
    return listed


async def without_usage(exchange: Exchange) -> None:
    """Answer as a server does that never counts."""
    await exchange.head()
    await exchange.text("A codon is three nucleotides.")
    await exchange.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    await exchange.end()


def test_tokens_are_those_that_the_provider_counted(asker: User) -> None:
    assert usage(asker) == []
    for _ in range(2):
        assert asker.ask(asker.begin()).status_code == 200
    assert asker.ask(asker.begin(), model="gpt-4o").status_code == 200
    day, row = str(datetime.now(UTC).date()), {"provider": "OpenAI", "estimated": False}
    assert usage(asker) == [
        {"date": day, "model": "gpt-4o", "answers": 1, "prompt_tokens": 11, "completion_tokens": 7, **row},
        {"date": day, "model": "gpt-4o-mini", "answers": 2, "prompt_tokens": 22, "completion_tokens": 14, **row},
    ]


def test_tokens_that_nobody_counted_are_estimated_and_marked(asker: User, provider: ScriptedProvider) -> None:
    provider.script(without_usage)
    conversation = asker.begin()
    assert asker.ask(conversation).status_code == 200
    [row] = usage(asker)
    assert row["estimated"] is True
    said = [content for _, content in asker.messages(conversation)]
    assert row["prompt_tokens"] == estimated_tokens(said[0]) + estimated_tokens(said[1])
    assert row["completion_tokens"] == estimated_tokens(said[2])
    record = asker.http.get("/chat/getAnswers/", params={"conversation_id": conversation}).json()[0]
    assert (record["prompt_tokens"], record["completion_tokens"]) == (None, None)
    asker.ask(conversation)
    [row] = usage(asker)
    assert (row["answers"], row["estimated"]) == (2, True)


@pytest.mark.parametrize("impossible", [-1, 2**31, 2**63 - 1, 2**64 - 1])
def test_metadata_that_no_database_can_hold_costs_neither_the_text_nor_the_usage(
    asker: User, provider: ScriptedProvider, impossible: int
) -> None:
    end = {
        "model": "m\0del \ud800",
        "choices": [{"index": 0, "delta": {}, "finish_reason": "st\0p \udfff"}],
        "usage": {"prompt_tokens": impossible, "completion_tokens": impossible},
    }
    provider.script(*2 * [events(delta(content="A codon is "), delta(content="three nucleotides."), end)])
    conversation = asker.begin()
    for _ in range(2):
        assert asker.ask(conversation).text == "A codon is three nucleotides."
    record = asker.http.get("/chat/getAnswers/", params={"conversation_id": conversation}).json()[-1]
    assert (record["state"], record["prompt_tokens"], record["completion_tokens"]) == ("complete", None, None)
    assert (record["finish_reason"], record["model"]) == ("st\ufffdp \ufffd", "m\ufffddel \ufffd")
    [row] = usage(asker)
    assert (row["answers"], row["estimated"]) == (2, True)


def test_a_question_that_the_provider_refused_costs_nothing(asker: User, provider: ScriptedProvider) -> None:
    provider.script(refuse(401))
    assert asker.ask(asker.begin()).status_code == 424
    assert usage(asker) == []


def test_only_ones_own_answers_count_also_those_of_deleted_conversations(asker: User, other: User) -> None:
    conversation = asker.begin()
    asker.ask(conversation)
    assert usage(other) == []
    before = usage(asker)
    assert len(before) == 1
    asker.http.post("/chat/deleteConversation/", json={"conversation_id": conversation})
    assert usage(asker) == before
    exported = asker.http.get("/user/exportData/").json()
    assert exported["conversations"] == []
    assert exported["usage"] == [{**before[0], "cached_tokens": 0}]


async def with_cached_tokens(exchange: Exchange) -> None:
    """Answer as a server does that has read half of the prompt from its cache."""
    await exchange.head()
    await exchange.text("Three.")
    counts = {"prompt_tokens": 2000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 1000}}
    await exchange.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": counts})
    await exchange.end()


@once
def test_money_is_exact_and_what_has_no_price_says_so(asker: User, provider: ScriptedProvider) -> None:
    provider.script(with_cached_tokens, with_cached_tokens, with_cached_tokens)
    for model in ("gpt-4o-mini", "gpt-4o", "o1-mini"):
        assert asker.ask(asker.begin(), model=model).status_code == 200
    found = asker.http.get("/chat/getUsage/", params={"money": "true"}).json()
    assert [(row["model"], row["cached_tokens"], row["cost"]) for row in found["days"]] == [
        ("gpt-4o", 1000, {"amount": "0.00475", "currency": "USD"}),
        ("gpt-4o-mini", 1000, {"amount": "0.000285", "currency": "USD"}),
        ("o1-mini", 1000, None),
    ]
    assert found["totals"] == [{"amount": "0.005035", "currency": "USD"}]
    assert found["unpriced_answers"] == 1
    plain = [{name: row[name] for name in KEYS} for row in found["days"]]
    assert plain == usage(asker)
    assert named(asker.http.get("/chat/getUsage/", params={"money": "1"})) == {"money"}


@once
def test_the_administrator_sees_what_all_accounts_cost(asker: User) -> None:
    asker.ask(asker.begin())
    environment = {"BAIO_DATABASE_URL": asker.server.database, "BAIO_SECRET_KEY": SECRET}
    name = asker.account["username"]
    told = baio(environment, "usage", "--user", name).stdout
    assert f"{name}  OpenAI  gpt-4o-mini  1 answers, 11 tokens in, 0 of them cached, 7 out: 0.00000585 USD" in told
    assert told.splitlines()[-1] == "total: 0.00000585 USD"
    rows = list(csv.DictReader(io.StringIO(baio(environment, "usage", "--csv").stdout)))
    [row] = [row for row in rows if row["user"] == name]
    assert (row["model"], row["answers"], row["cost"], row["currency"]) == ("gpt-4o-mini", "1", "0.00000585", "USD")
    refused = baio(environment, "usage", "--user", "nobody-at-all")
    assert refused.returncode == 2
    assert "there is no such account" in refused.stderr


def test_days_are_those_asked_for_the_first_and_the_last_included(asker: User) -> None:
    today = datetime.now(UTC).date()
    owner = asker.http.get("/user/exportData/").json()["account"]["id"]
    ages = [400, 30, 29, 1, 0]
    for age in ages:
        asker.ask(asker.begin())
        with asker.server.engine() as engine, engine.begin() as connection:
            connection.execute(
                update(ledger)
                .where(ledger.c.day == str(today), ledger.c.user_id == owner)
                .values(day=str(today - timedelta(days=age)))
            )

    def found(**days: str) -> list[int]:
        return [(today - date.fromisoformat(each["date"])).days for each in usage(asker, **days)]

    assert found() == [29, 1, 0]
    assert found(**{"from": "2000-01-01"}) == [400, 30, 29, 1, 0]
    day = str(today - timedelta(days=30))
    assert found(**{"from": day, "to": day}) == [30]
    assert found(to=str(today - timedelta(days=2))) == [30, 29]
    assert found(to="0001-01-01") == []


@pytest.mark.parametrize("bad", ["", "x", "2026-02-30", "20260131", "2026-1-31", "2026-01-31T00:00", "9999-99-99"])
def test_a_day_that_is_none_is_named(asker: User, bad: str) -> None:
    for name in ("from", "to"):
        assert named(asker.http.get("/chat/getUsage/", params={name: bad})) == {name}
    assert named(asker.http.get("/chat/getUsage/", params={"from": bad, "to": bad})) == {"from", "to"}
    backwards = asker.http.get("/chat/getUsage/", params={"from": "2026-02-01", "to": "2026-01-31"})
    assert named(backwards) == {"from"}


# -- What a model was not sent -----------------------------------------------------------------------------------------


def left_out(user: User, conversation: int) -> list[int]:
    found = user.http.get("/chat/getAnswers/", params={"conversation_id": conversation, "context": "true"}).json()
    plain = user.http.get("/chat/getAnswers/", params={"conversation_id": conversation}).json()
    assert [{name: value for name, value in each.items() if name != "left_out"} for each in found] == plain
    assert all(list(each)[-1] == "left_out" for each in found)
    return [each["left_out"] for each in found]


def test_a_prompt_that_is_too_long_is_tried_once_more_with_half_of_it(asker: User, provider: ScriptedProvider) -> None:
    conversation = asker.begin()
    for number in range(4):
        asker.ask(conversation, f"Question {number}? " + "Why? " * 50)
    provider.forget()
    provider.script(refuse(400, code="context_length_exceeded"), answer("Three."))
    asked = asker.ask(conversation, "And now?")
    assert (asked.status_code, asked.text) == (200, "Three.")
    first, second = ([each["content"] for each in request.body["messages"]] for request in provider.requests)
    assert len(first) == 10
    assert second[0] == first[0]
    assert second[1:] == first[len(first) - len(second) + 1 :]
    sizes = [sum(map(estimated_tokens, sent)) for sent in (first, second)]
    assert sizes[1] <= sizes[0] // 2
    assert left_out(asker, conversation) == [0, 0, 0, 0, len(first) - len(second)]


def test_a_prompt_that_stays_too_long_is_refused_and_nothing_is_asked_a_third_time(
    asker: User, provider: ScriptedProvider
) -> None:
    conversation = asker.begin()
    asker.ask(conversation, "Before? " * 50)
    provider.forget()
    too_long = refuse(400, code="context_length_exceeded")
    provider.script(too_long, too_long)
    assert asker.ask(conversation, "And now?").status_code == 400
    assert len(provider.requests) == 2


def test_a_question_that_alone_is_too_long_is_not_asked_twice(asker: User, provider: ScriptedProvider) -> None:
    provider.script(refuse(400, code="context_length_exceeded"))
    assert asker.ask(asker.begin(), "Why? " * 1000).status_code == 400
    assert len(provider.requests) == 1


def test_what_does_not_fit_the_models_window_is_counted(asker: User) -> None:
    conversation = asker.begin()
    long = "nucleotide " * 20_000
    for _ in range(3):
        asker.ask(conversation, long)
    # Such a question is 73,337 tokens, and there is room for 111,616: each pushes out those before it, and their
    # answers with them.
    assert left_out(asker, conversation) == [0, 2, 4]


def test_a_context_that_is_neither_true_nor_false_is_named(asker: User) -> None:
    conversation = asker.begin()
    refused = asker.http.get("/chat/getAnswers/", params={"conversation_id": conversation, "context": "yes"})
    assert named(refused) == {"context"}
