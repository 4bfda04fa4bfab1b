"""The rules that complete the contract, each proved against a running server, on SQLite and on PostgreSQL."""

import itertools
import re
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from sqlalchemy import create_engine, make_url, select, update

from baio_adapters.sql.tables import api_keys, users
from baio_adapters.tokens import JwtIssuer
from baio_domain.entities import Session
from tests.integration.conftest import NewDatabase, server_on
from tests.integration.scripted_provider import (
    Behaviour,
    ScriptedProvider,
    answer,
    cut_after,
    gated,
    raw,
    refuse,
    reset_after,
    silence,
)
from tests.integration.servers import KEY, PASSWORD, SECRET, Server, User, named, problem, registration, until

SYSTEM = "You are BAiO, a chat bot who is an expert on biology and genomic data."
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.(\d{3}|\d{6})Z")

_numbers = itertools.count(1)


def every_call(user: User) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """One call that succeeds for each operation of the contract: method, path without slash, and what is sent."""
    number = next(_numbers)
    conversation, doomed = user.begin(), user.begin()
    yield "POST", "/user/register", {"json": registration()}
    yield "POST", "/user/auth", {"json": {"username": user.account["username"], "password": PASSWORD}}
    yield "POST", "/user/refresh", {"json": {"refresh": user.refresh}}
    yield "POST", "/user/validateToken", {"json": {"token": user.access}}
    yield "GET", "/user/getInfo", {}
    yield "POST", "/user/updateInfo", {"json": {"country": "Sweden"}}
    yield "GET", "/user/getSessions", {}
    yield "GET", "/user/getTwoFactor", {}
    yield "GET", "/user/exportData", {}
    yield "POST", "/user/enrollTwoFactor", {"json": {"password": PASSWORD}}
    yield "GET", "/chat/getConversations", {}
    yield "GET", "/chat/getConversation", {"params": {"conversation_id": conversation}}
    yield "POST", "/chat/createConversation", {"json": {"title": "New Research Topic"}}
    yield "POST", "/chat/renameConversation", {"json": {"conversation_id": conversation, "title": "Updated"}}
    yield "POST", "/chat/addAPIKey", {"json": {"key": "sk-0123456789", "nickname": f"Key {number}"}}
    yield "GET", "/chat/getApiKeys", {}
    yield "GET", "/chat/getLLMProviders", {}
    yield "POST", "/chat/sendMessage", {"json": user.question(conversation, apikey_nickname=f"Key {number}")}
    key = {"nickname": f"Key {number}", "new_nickname": f"Renamed {number}"}
    yield "POST", "/chat/renameAPIKey", {"json": key}
    yield "POST", "/chat/testAPIKey", {"json": {"nickname": f"Renamed {number}"}}
    yield "POST", "/chat/deleteAPIKey", {"json": {"nickname": f"Renamed {number}"}}
    yield "GET", "/chat/getUsage", {}
    yield "POST", "/chat/deleteConversation", {"json": {"conversation_id": doomed}}


CREATES = {"/user/register", "/chat/createConversation", "/chat/addAPIKey"}
OPEN = {"/user/register", "/user/auth", "/user/refresh", "/user/validateToken"}


# -- Form --------------------------------------------------------------------------------------------------------------


def test_R1_every_path_answers_with_and_without_its_trailing_slash_and_never_by_a_redirect(user: User) -> None:
    for slash in ("", "/"):
        for method, path, sent in every_call(user):
            answered = user.http.request(method, path + slash, follow_redirects=False, **sent)
            assert answered.status_code == (201 if path in CREATES else 200), (path + slash, answered.text)


def test_R2_json_responses_have_exactly_the_keys_of_the_contract_in_its_order(user: User) -> None:
    account = ["first_name", "last_name", "username", "email", "country", "affiliation", "position", "field_of_study"]
    profile = [name for name in account if name not in ("username", "email")]
    conversation, message = ["id", "title", "messages"], ["role", "content", "created_at"]
    provider, model = ["id", "name", "models"], ["id", "name"]
    answers = {path: user.http.request(method, path, **sent) for method, path, sent in every_call(user)}
    found = {path: answer.json() for path, answer in answers.items() if path != "/chat/sendMessage"}
    assert list(found["/user/register"]) == account
    assert list(found["/user/auth"]) == ["refresh", "access"]
    assert list(found["/user/refresh"]) == ["access"]
    assert found["/user/validateToken"] == {"valid": True}
    assert list(found["/user/getInfo"]) == account
    assert list(found["/user/updateInfo"]) == profile
    assert [list(each) for each in found["/chat/getConversations"]] == [["id", "title", "created_at"]] * 2
    for path in ("/chat/getConversation", "/chat/createConversation"):
        assert list(found[path]) == conversation
        assert [list(each) for each in found[path]["messages"]] == [message]
    assert list(found["/chat/addAPIKey"]) == ["nickname", "user"]
    assert [list(each) for each in found["/chat/getApiKeys"]] == [["nickname", "provider", "created_at"]]
    for each in (found["/chat/getApiKeys"][0]["provider"], *found["/chat/getLLMProviders"]):
        assert list(each) == provider
        assert all(list(one) == model for one in each["models"])


def test_R2_what_was_registered_comes_back_as_it_was_sent(visitor: httpx2.Client) -> None:
    account = registration()
    registered = visitor.post("/user/register/", json=account)
    assert registered.json() == {name: text for name, text in account.items() if name != "password"}


def test_R3_times_are_utc_to_the_millisecond_or_microsecond_and_end_in_Z(user: User) -> None:
    before = datetime.now(UTC)
    user.add_key()
    conversation = user.begin()
    user.ask(conversation)
    after = datetime.now(UTC)
    thread = user.http.get("/chat/getConversation/", params={"conversation_id": conversation}).json()
    records = user.http.get("/chat/getAnswers/", params={"conversation_id": conversation}).json()
    times = [
        *(message["created_at"] for message in thread["messages"]),
        *(each["created_at"] for each in user.http.get("/chat/getConversations/").json()),
        *(each["created_at"] for each in user.http.get("/chat/getApiKeys/").json()),
        *(record[name] for record in records for name in ("started_at", "ended_at")),
    ]
    assert len(times) == 7
    for each in times:
        assert TIME.fullmatch(each)
        assert before <= datetime.fromisoformat(each) <= after


def test_R4_a_response_that_is_a_string_is_a_json_string(user: User) -> None:
    conversation = user.begin()
    title = 'Ærlig "talt" \\ ☃'
    renamed = user.http.post("/chat/renameConversation/", json={"conversation_id": conversation, "title": title})
    deleted = user.http.post("/chat/deleteConversation/", json={"conversation_id": conversation})
    assert renamed.headers["content-type"].startswith("application/json")
    assert renamed.json() == f"Conversation successfully renamed to {title}"
    assert deleted.headers["content-type"].startswith("application/json")
    assert deleted.text == f'"Conversation with id={conversation} successfully deleted"'


def test_R5_an_error_is_a_problem_that_names_every_bad_field_at_once(visitor: httpx2.Client) -> None:
    bad = registration(
        first_name=" ", last_name="x" * 151, username="", email="nobody", password="123", position="y" * 151
    )
    everything = {"first_name", "last_name", "username", "email", "password", "position"}
    assert named(visitor.post("/user/register/", json=bad)) == everything


def test_R5_wrong_types_missing_fields_and_wrong_meanings_are_named_together(
    visitor: httpx2.Client, user: User
) -> None:
    mixed = {"first_name": 7, "username": "x" * 151, "email": "nobody", "password": None, "country": "a\0b"}
    every = {"first_name", "last_name", "username", "email", "password", "country"}
    assert named(visitor.post("/user/register/", json=mixed)) == every
    question = {"conversation_id": "1", "apikey_nickname": [], "content": " "}
    asked = user.http.post("/chat/sendMessage/", json=question)
    assert named(asked) == {"conversation_id", "apikey_nickname", "content", "model"}


def test_R9_a_taken_name_is_only_named_when_everything_else_is_right(visitor: httpx2.Client, user: User) -> None:
    wrong = {**user.account, "first_name": "", "password": "12345678"}
    assert named(visitor.post("/user/register/", json=wrong)) == {"first_name", "password"}
    assert named(visitor.post("/user/register/", json=user.account)) == {"username", "email"}


def test_R5_every_response_carries_a_request_id_of_its_own_or_the_clients(user: User) -> None:
    ids = [user.http.request(method, path, **sent).headers["x-request-id"] for method, path, sent in every_call(user)]
    ids += [user.http.get(path).headers["x-request-id"] for path in ("/nowhere", "/docs", "/health/live")]
    ids.append(user.http.put("/user/getInfo/").headers["x-request-id"])
    assert len(set(ids)) == len(ids)
    mine = user.http.get("/user/getInfo/", headers={"X-Request-ID": "a-1.B_2"})
    assert mine.headers["x-request-id"] == "a-1.B_2"
    strange = user.http.get("/user/getInfo/", headers={"X-Request-ID": "a b"})
    assert re.fullmatch(r"[0-9a-f]{32}", strange.headers["x-request-id"])


def test_R5_an_error_shows_no_stack_trace_no_sql_and_nothing_of_another_user(user: User, other: User) -> None:
    title = "Something that only its owner knows"
    conversation = other.begin(title)
    errors = [
        user.http.get("/chat/getConversation/", params={"conversation_id": conversation}),
        user.http.get("/chat/getConversation/", params={"conversation_id": "1' OR '1'='1"}),
        user.http.post("/chat/renameConversation/", json={"conversation_id": conversation, "title": "mine"}),
        user.http.post("/chat/deleteConversation/", json={"conversation_id": 2**62}),
        user.http.post("/chat/sendMessage/", content=b"{"),
        user.http.get("/chat/"),
    ]
    for error in errors:
        problem(error, error.status_code)
        assert not re.search(r"Traceback|File \"|SELECT|sqlite|psycopg|sqlalchemy|litestar", error.text, re.IGNORECASE)
        assert title not in error.text
        assert other.account["username"] not in error.text


def test_R6_unknown_keys_are_ignored(visitor: httpx2.Client, user: User) -> None:
    odd = {"is_admin": True, "id": 1, "": None}
    assert visitor.post("/user/register/", json={**registration(), **odd}).status_code == 201
    assert user.http.post("/chat/createConversation/", json={"title": "T", **odd}).json()["title"] == "T"
    changed = user.http.post("/user/updateInfo/", json={"country": "Sweden", **odd})
    assert (changed.status_code, changed.json()["country"]) == (200, "Sweden")


@pytest.mark.parametrize("fixed", ["username", "email", "password"])
@pytest.mark.parametrize("rest", [{}, {"country": "Sweden"}, {"country": 7, "first_name": ""}])
def test_R6_updateInfo_refuses_what_needs_a_second_factor_whatever_else_the_body_holds(
    user: User, fixed: str, rest: dict[str, Any]
) -> None:
    for value in ("something else", None, 7, user.account[fixed]):
        assert named(user.http.post("/user/updateInfo/", json={**rest, fixed: value}), 403) == {fixed}
    del user.account["password"]
    assert user.http.get("/user/getInfo/").json() == user.account


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[]", b'"text"', b"1", b"\xff", b"[" * 100_000, b'{"title": "a\\u0000b"}']
)
def test_R7_a_body_that_is_no_object_or_holds_NUL_is_400(user: User, body: bytes) -> None:
    problem(user.http.post("/chat/renameConversation/", content=body), 400)


def test_R7_a_body_of_more_than_1_MiB_is_413_and_one_of_just_that_is_read(user: User) -> None:
    frame = len(b'{"title":""}')
    fits = user.http.post("/chat/createConversation/", content=b'{"title":"%b"}' % (b"x" * (2**20 - frame)))
    assert named(fits) == {"title"}
    problem(user.http.post("/chat/createConversation/", content=b'{"title":"%b"}' % (b"x" * 2**20)), 413)


# -- Status codes ------------------------------------------------------------------------------------------------------


def test_R8_what_creates_answers_201_and_every_other_success_200(user: User) -> None:
    for method, path, sent in every_call(user):
        answered = user.http.request(method, f"{path}/", **sent)
        assert answered.status_code == (201 if path in CREATES else 200), path


@pytest.mark.parametrize("field", ["username", "email"])
def test_R9_a_taken_username_or_email_is_refused_without_regard_to_case(
    visitor: httpx2.Client, user: User, field: str
) -> None:
    for taken in (user.account[field], user.account[field].upper(), f" {user.account[field].title()} "):
        refused = visitor.post("/user/register/", json=registration(**{field: taken}))
        assert named(refused) == {field}


@pytest.mark.parametrize("field", ["first_name", "last_name", "username", "email", "password"])
def test_R9_a_required_field_that_is_missing_or_blank_is_refused(visitor: httpx2.Client, field: str) -> None:
    missing = registration()
    del missing[field]
    assert named(visitor.post("/user/register/", json=missing)) == {field}
    assert named(visitor.post("/user/register/", json=registration(**{field: ""}))) == {field}
    blank = registration(**{field: " \t "})
    assert named(visitor.post("/user/register/", json=blank)) == {field}


def test_R9_the_other_four_may_be_missing_or_empty(visitor: httpx2.Client) -> None:
    optional = ("country", "affiliation", "position", "field_of_study")
    missing = {name: text for name, text in registration().items() if name not in optional}
    for account in (missing, registration(**dict.fromkeys(optional, ""))):
        registered = visitor.post("/user/register/", json=account)
        assert registered.status_code == 201
        assert [registered.json()[name] for name in optional] == [""] * 4


@pytest.mark.parametrize(
    "email", ["nobody", "a@b", "@example.no", "a@", "a@@example.no", "a b@example.no", "a@exa mple.no", "a@example..no"]
)
def test_R9_a_malformed_email_is_refused(visitor: httpx2.Client, email: str) -> None:
    assert named(visitor.post("/user/register/", json=registration(email=email))) == {"email"}


def test_R9_texts_as_long_as_allowed_pass_and_one_character_more_does_not(visitor: httpx2.Client) -> None:
    number = next(_numbers)
    names = ("first_name", "last_name", "country", "affiliation", "position", "field_of_study")
    longest = {
        **dict.fromkeys(names, "ø" * 150),
        "username": f"{'u' * 140}{number:010}",
        "email": f"{number:010}@{'.'.join(['e' * 59] * 3)}.{'e' * 60}.no",
        "password": "pW3" + "ß" * 1021,
    }
    assert len(longest["email"]) == 254
    too_long = {name: f"{text}x" for name, text in longest.items()}
    assert named(visitor.post("/user/register/", json=too_long)) == set(longest)
    assert visitor.post("/user/register/", json=longest).status_code == 201
    signed_in = visitor.post("/user/auth/", json={key: longest[key] for key in ("username", "password")})
    assert signed_in.status_code == 200


@pytest.mark.parametrize(
    "password",
    ["aB3$xyz", "73920184650192", "Trustno1", "PASSWORD1", "grunewald7", "Hallgrim1", "grunewald.h", "x" * 1025],
)
def test_R9_a_weak_password_is_refused(visitor: httpx2.Client, password: str) -> None:
    account = registration(
        first_name="Hallgrim", last_name="Sørensen", username=f"grunewald{next(_numbers)}", password=password
    )
    account["email"] = f"grunewald.hs{next(_numbers)}@example.no"
    assert named(visitor.post("/user/register/", json=account)) == {"password"}


def disable(user: User) -> None:
    """Disable the account, as an administrator would."""
    with user.server.engine() as engine, engine.begin() as connection:
        connection.execute(
            update(users).where(users.c.username == user.account["username"]).values(disabled_at=datetime.now(UTC))
        )


def test_R10_a_failed_sign_in_is_one_and_the_same_400_in_the_same_time(server: Server, user: User, other: User) -> None:
    disable(other)
    attempts = {
        "username": {"username": "nobody-has-this-name", "password": PASSWORD},
        "password": {"username": user.account["username"], "password": "oleFeilPassord123"},
        "disabled": {"username": other.account["username"], "password": PASSWORD},
    }
    took = dict.fromkeys(attempts, 0.0)  # seconds of the server's CPU
    bodies = set()
    for attempted in range(1, 100):
        for name, attempt in attempts.items():
            with server.client() as visitor:  # from another address each time: one alone may not guess that often
                visitor.get("/health/live")
                before = server.cpu_seconds()
                refused = visitor.post("/user/auth/", json=attempt)
                took[name] += server.cpu_seconds() - before
            problem(refused, 400)
            bodies.add(refused.content)
        if attempted >= 11 and max(took.values()) < 1.5 * min(took.values()):
            break
    assert len(bodies) == 1
    assert max(took.values()) < 1.5 * min(took.values()), took


def test_R10_the_username_counts_in_any_case_and_the_password_does_not(visitor: httpx2.Client, user: User) -> None:
    shouted = {"username": user.account["username"].upper(), "password": PASSWORD}
    assert visitor.post("/user/auth/", json=shouted).status_code == 200
    problem(visitor.post("/user/auth/", json={**shouted, "password": PASSWORD.upper()}), 400)


def bearer_calls(user: User) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every call that needs a token."""
    return (call for call in every_call(user) if call[1] not in OPEN)


def test_R10_401_is_for_bad_access_tokens_and_says_Bearer(user: User) -> None:
    now = datetime.now(UTC)
    issuer = JwtIssuer(lambda: [SECRET.encode()], access_seconds=-1, refresh_seconds=-1)
    expired = issuer.issue(Session(1, 1, now, now, "", "a" * 32), "access", now)
    bad = [None, "", "Bearer", "Bearer x", f"Basic {user.access}", f"Bearer {expired}", f"Bearer {user.access}x"]
    calls = list(bearer_calls(user))
    assert len(calls) == 19
    del user.http.headers["Authorization"]
    for method, path, sent in calls:
        for header in bad:
            headers = {} if header is None else {"Authorization": header}
            refused = user.http.request(method, path, headers=headers, **sent)
            problem(refused, 401)
            assert refused.headers["www-authenticate"] == "Bearer"


def test_R10_a_bad_token_wins_over_a_bad_body(user: User) -> None:
    headers = {"Authorization": "Bearer x"}
    problem(user.http.post("/chat/sendMessage/", content=b"{", headers=headers), 401)
    problem(user.http.get("/chat/getConversation/", headers=headers), 401)
    problem(user.http.post("/user/updateInfo/", json={"username": "x"}, headers=headers), 401)


def test_R10_a_disabled_account_gets_401_from_refresh_and_validateToken(user: User) -> None:
    disable(user)
    problem(user.http.post("/user/refresh/", json={"refresh": user.refresh}), 401)
    verdict = user.http.post("/user/validateToken/", json={"token": user.access})
    assert (verdict.status_code, verdict.json()["valid"]) == (401, False)


def test_R10_the_token_of_a_disabled_account_is_revoked_on_every_Bearer_endpoint(user: User) -> None:
    calls = list(bearer_calls(user))
    disable(user)
    statuses = {path: user.http.request(method, path, **sent).status_code for method, path, sent in calls}
    assert statuses == {path: 401 for _, path, _ in calls}


def test_R11_what_is_somebody_elses_is_the_same_404_as_what_does_not_exist(user: User, other: User) -> None:
    mine, theirs = user.begin(), other.begin("Theirs")
    user.add_key("Mine")
    other.add_key("Theirs")

    def refusals(conversation: int, nickname: str) -> list[dict[str, Any]]:
        read = [
            user.http.get(path, params={"conversation_id": conversation})
            for path in ("/chat/getConversation/", "/chat/getAnswers/", "/chat/followAnswer/")
        ]
        renamed = user.http.post("/chat/renameConversation/", json={"conversation_id": conversation, "title": "mine"})
        deleted = user.http.post("/chat/deleteConversation/", json={"conversation_id": conversation})
        stopped = user.http.post("/chat/stopAnswer/", json={"conversation_id": conversation})
        again = {"conversation_id": conversation, "apikey_nickname": "Mine", "model": "gpt-4o"}
        regenerated = user.http.post("/chat/regenerateAnswer/", json=again)
        sent = user.ask(conversation, apikey_nickname="Mine")
        keyed = user.ask(mine, apikey_nickname=nickname)
        return [problem(each, 404) for each in (*read, renamed, deleted, stopped, regenerated, sent, keyed)]

    assert refusals(theirs, "Theirs") == refusals(2**62, "Nobody's")
    assert other.messages(theirs) == [("system", SYSTEM)]
    assert other.http.get("/chat/getConversations/").json()[0]["title"] == "Theirs"
    assert user.messages(mine) == [("system", SYSTEM)]


def test_R12_a_nickname_that_the_user_has_already_is_400_and_another_users_is_not(user: User, other: User) -> None:
    user.add_key("Mine")
    again = user.http.post("/chat/addAPIKey/", json={"key": "sk-other", "nickname": " Mine "})
    assert named(again) == {"nickname"}
    spelt = user.http.post("/chat/addAPIKey/", json={"apiKey": "sk-other", "name": "Mine", "apiProvider": "1"})
    assert named(spelt) == {"name"}
    other.add_key("Mine")
    assert len(user.http.get("/chat/getApiKeys/").json()) == 1


@pytest.mark.parametrize(
    "query", ["", "conversation_id=", "conversation_id=one", "conversation_id=1.5", "conversation_id=1e3"]
)
def test_R13_getConversation_without_an_integer_is_400(user: User, query: str) -> None:
    assert named(user.http.get(f"/chat/getConversation/?{query}")) == {"conversation_id"}


# -- Meaning -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [None, b"", b"{}", b'{"unknown": 1}'])
def test_R14_a_conversation_may_begin_without_title_or_body(user: User, body: bytes | None) -> None:
    headers = {} if body is None else {"Content-Type": "application/json"}
    created = user.http.post("/chat/createConversation/", content=body, headers=headers)
    assert created.status_code == 201
    assert created.json()["title"] == ""
    assert [message["content"] for message in created.json()["messages"]] == [SYSTEM]


def test_R14_a_title_has_at_most_255_characters(user: User) -> None:
    conversation = user.begin("🧬" * 255)
    assert user.http.get("/chat/getConversations/").json()[0]["title"] == "🧬" * 255
    rename = {"conversation_id": conversation, "title": "x" * 256}
    assert named(user.http.post("/chat/createConversation/", json={"title": "x" * 256})) == {"title"}
    assert named(user.http.post("/chat/renameConversation/", json=rename)) == {"title"}


def test_R15_conversations_are_listed_newest_first(user: User) -> None:
    begun = [user.begin(f"Topic {number}") for number in range(12)]
    listed = user.http.get("/chat/getConversations/").json()
    assert [each["id"] for each in listed] == begun[::-1]
    assert [each["created_at"] for each in listed] == sorted((each["created_at"] for each in listed), reverse=True)


def test_R15_messages_come_in_the_order_they_were_written_the_system_message_first(user: User) -> None:
    user.add_key()
    conversation = user.begin()
    answers = [user.ask(conversation, f"Question {number}").text for number in range(3)]
    expected = [("system", SYSTEM)]
    for number, text in enumerate(answers):
        expected += [("user", f"Question {number}"), ("baio", text)]
    assert user.messages(conversation) == expected


def test_R16_OpenAI_has_id_1_and_its_first_four_models_their_ids(user: User) -> None:
    openai = user.http.get("/chat/getLLMProviders/").json()[0]
    assert (openai["id"], openai["name"]) == (1, "OpenAI")
    assert openai["models"][:4] == [
        {"id": 1, "name": "GPT-4o"},
        {"id": 2, "name": "GPT-4o mini"},
        {"id": 3, "name": "OpenAI o1-preview"},
        {"id": 4, "name": "OpenAI o1-mini"},
    ]
    user.add_key()
    assert user.http.get("/chat/getApiKeys/").json()[0]["provider"] == openai


def test_R16_another_model_is_400_with_the_accepted_identifiers_in_detail(user: User) -> None:
    user.add_key()
    conversation = user.begin()
    for model in ("gpt-5", "", "GPT-4o  mini"):
        refused = user.ask(conversation, model=model)
        assert named(refused) == {"model"}
        detail = refused.json()["detail"]
        assert all(each in detail for each in ("gpt-4o", "gpt-4o-mini", "o1-preview", "o1-mini"))
    assert user.messages(conversation) == [("system", SYSTEM)]


def test_R16_a_model_is_named_by_identifier_or_display_name_without_regard_to_case(
    user: User, provider: ScriptedProvider
) -> None:
    user.add_key()
    conversation = user.begin()
    names = ["gpt-4o-mini", "GPT-4o mini", "gpt-4O MINI", " GPT-4O-Mini ", "GPT-4o", "OpenAI o1-preview", "o1-mini"]
    asked = ["gpt-4o-mini"] * 4 + ["gpt-4o", "o1-preview", "o1-mini"]
    for name in names:
        assert user.ask(conversation, model=name).status_code == 200
    assert [request.body["model"] for request in provider.requests] == asked


@pytest.mark.parametrize("named", [None, 1, "1", "OpenAI", "openai", " OPENAI "])
def test_R17_a_key_is_OpenAIs_unless_another_provider_is_named(user: User, named: object) -> None:
    spellings = [
        {"key": "sk-0123456789", "nickname": "Mine", "provider": named},
        {"apiKey": "sk-0123456789", "name": "Also mine", "apiProvider": named},
    ]
    for body, nickname in zip(spellings, ("Mine", "Also mine"), strict=True):
        added = user.http.post("/chat/addAPIKey/", json=body)
        assert (added.status_code, added.json()["nickname"]) == (201, nickname)
    stored = user.http.get("/chat/getApiKeys/").json()
    assert [(each["nickname"], each["provider"]["name"]) for each in stored] == [
        ("Mine", "OpenAI"),
        ("Also mine", "OpenAI"),
    ]


def test_R17_an_unknown_provider_is_400_under_the_name_it_was_sent_by(user: User) -> None:
    for unknown in (2**62, 10**30, 0, -1, "99", "Nobody", "", "²"):
        theirs = {"apiKey": "sk-0123456789", "name": "Mine", "apiProvider": unknown}
        assert named(user.http.post("/chat/addAPIKey/", json=theirs)) == {"apiProvider"}, unknown
        ours = {"key": "sk-0123456789", "nickname": "Mine", "provider": unknown}
        assert named(user.http.post("/chat/addAPIKey/", json=ours)) == {"provider"}, unknown
    assert user.http.get("/chat/getApiKeys/").json() == []


def test_R17_nickname_and_key_are_trimmed_bounded_and_not_blank(user: User) -> None:
    def add(key: str, nickname: str) -> httpx2.Response:
        return user.http.post("/chat/addAPIKey/", json={"key": key, "nickname": nickname})

    assert named(add(" \t", "\n")) == {"key", "nickname"}
    assert named(add("k" * 4097, "n" * 256)) == {"key", "nickname"}
    assert named(add("sk-a b", "Mine")) == {"key"}
    assert named(add("sk-\r\nX-Header: 1", "Mine")) == {"key"}
    assert named(add("sk-ø", "Mine")) == {"key"}
    assert named(user.http.post("/chat/addAPIKey/", json={"name": " ", "apiKey": ""})) == {"name", "apiKey"}
    assert named(user.http.post("/chat/addAPIKey/", json={})) == {"key", "nickname"}
    assert add(f" {'k' * 4096} ", f" {'ñ' * 255} ").json()["nickname"] == "ñ" * 255


def test_R18_a_key_is_shown_by_no_endpoint_and_no_log_line_and_is_encrypted_at_rest(
    user: User, provider: ScriptedProvider
) -> None:
    key = "sk-canary-5f0c2b7e91d84a6f"
    user.add_key("Canary", key)
    provider.script(refuse(401), answer("Yes."))
    refused, answered = (user.ask(user.begin(), apikey_nickname="Canary") for _ in range(2))
    responses = [user.http.request(method, path, **sent) for method, path, sent in every_call(user)]
    again = user.http.post("/chat/addAPIKey/", json={"key": key, "nickname": "Canary"})
    assert [refused.status_code, answered.status_code, again.status_code] == [424, 200, 400]
    for response in (refused, answered, again, *responses):
        assert key[-12:] not in response.text + str(response.headers)
    assert key[-12:] not in user.server.log
    with user.server.engine() as engine, engine.connect() as connection:
        sealed = connection.execute(select(api_keys.c.sealed).where(api_keys.c.nickname == "Canary")).scalar_one()
    assert len(sealed) >= len(key)
    assert key[-12:].encode() not in sealed


def test_R19_validateToken_knows_good_bad_and_missing(user: User) -> None:
    good = user.http.post("/user/validateToken/", json={"token": user.access})
    assert (good.status_code, good.json()) == (200, {"valid": True})
    for token in ("", "x", user.refresh, user.access[:-2]):
        bad = user.http.post("/user/validateToken/", json={"token": token})
        assert bad.status_code == 401
        assert bad.headers["content-type"].startswith("application/json")
        assert list(bad.json()) == ["valid", "error"]
        assert bad.json()["valid"] is False
        assert bad.json()["error"]
    for missing in ({}, {"token": None}, {"access": user.access}):
        assert named(user.http.post("/user/validateToken/", json=missing)) == {"token"}


def test_R19_validateToken_needs_no_authentication(visitor: httpx2.Client, user: User) -> None:
    asked = visitor.post("/user/validateToken/", json={"token": user.access})
    assert asked.json() == {"valid": True}


def test_R20_each_kind_of_token_is_refused_in_the_place_of_the_other(user: User) -> None:
    assert problem(user.http.post("/user/refresh/", json={"refresh": user.access}), 401)
    problem(user.http.get("/user/getInfo/", headers={"Authorization": f"Bearer {user.refresh}"}), 401)
    new = user.http.post("/user/refresh/", json={"refresh": user.refresh}).json()["access"]
    assert new != user.access
    assert user.http.get("/user/getInfo/", headers={"Authorization": f"Bearer {new}"}).status_code == 200


def claims_of(token: str) -> dict[str, Any]:
    """What a token of the server's says."""
    key = JwtIssuer(lambda: [SECRET.encode()], access_seconds=1, refresh_seconds=1).keys()[0]
    claims: dict[str, Any] = jwt.decode(token, key, algorithms=["HS256"])
    return claims


def test_R20_tokens_are_HS256_with_the_promised_claims_and_lifetimes(user: User) -> None:
    for token, kind, lifetime in ((user.access, "access", 15 * 60), (user.refresh, "refresh", 24 * 60 * 60)):
        assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
        claims = claims_of(token)
        assert claims.keys() == {"sub", "sid", "exp", "iat", "jti", "token_type"}
        assert (claims["token_type"], claims["exp"] - claims["iat"]) == (kind, lifetime)
        assert claims["sub"].isdecimal()
        assert abs(claims["iat"] - time.time()) < 60
    assert claims_of(user.access)["jti"] != claims_of(user.refresh)["jti"]


def test_R20_a_token_of_another_algorithm_key_or_shape_is_refused(user: User) -> None:
    key = JwtIssuer(lambda: [SECRET.encode()], access_seconds=1, refresh_seconds=1).keys()[0]
    claims = claims_of(user.access)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the key is short for this algorithm; what matters is that it is the key
        another_algorithm = jwt.encode(claims, key, algorithm="HS512")
    forged = {
        "no algorithm": jwt.encode(claims, "", algorithm="none"),
        "another algorithm": another_algorithm,
        "the secret itself": jwt.encode(claims, SECRET, algorithm="HS256"),
        "another key": jwt.encode(claims, "x" * 32, algorithm="HS256"),
        "no end": jwt.encode({name: claims[name] for name in claims if name != "exp"}, key, algorithm="HS256"),
        "a far end": jwt.encode({**claims, "exp": claims["exp"] + 10**9}, key, algorithm="HS256"),
        "no kind": jwt.encode({name: claims[name] for name in claims if name != "token_type"}, key, algorithm="HS256"),
        "nobody": jwt.encode({**claims, "sub": str(2**62)}, key, algorithm="HS256"),
        "no number": jwt.encode({**claims, "sub": "1 OR 1=1"}, key, algorithm="HS256"),
        "a huge number": jwt.encode({**claims, "sub": "9" * 5000}, key, algorithm="HS256"),
    }
    for name, token in forged.items():
        refused = user.http.get("/user/getInfo/", headers={"Authorization": f"Bearer {token}"})
        assert refused.status_code == 401, name
    again = jwt.encode({**claims, "jti": "another"}, key, algorithm="HS256")
    assert user.http.get("/user/getInfo/", headers={"Authorization": f"Bearer {again}"}).status_code == 200


# -- sendMessage -------------------------------------------------------------------------------------------------------


def test_R21_the_first_delta_reaches_the_client_before_the_provider_sends_its_second(
    user: User, provider: ScriptedProvider
) -> None:
    gate = threading.Event()
    provider.script(gated(gate, ("A codon is ",), ("three nucleotides.",)))
    user.add_key()
    with user.wire("/chat/sendMessage/", user.question(user.begin())) as wire:
        assert (wire.status, wire.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert (wire.headers["cache-control"], wire.headers["x-accel-buffering"]) == ("no-store", "no")
        assert wire.headers["transfer-encoding"] == "chunked"
        assert wire.chunk() == b"A codon is "
        gate.set()
        assert wire.chunks() == ([b"three nucleotides."], True)


def test_R21_bytes_are_valid_utf_8_at_the_end_of_every_chunk(user: User, provider: ScriptedProvider) -> None:
    text = "Ærlig talt: 🧬 og 東京."
    event = f'data: {{"choices": [{{"index": 0, "delta": {{"content": "{text}"}}}}]}}\n\n'.encode()
    half = 'data: {"choices": [{"index": 0, "delta": {"content": "%s"}}]}\n\n'
    halves = [(half % escaped).encode() for escaped in ("\\ud83e", "\\uddec")]
    end = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
    provider.script(raw(*(event[at : at + 1] for at in range(len(event))), *halves, end))
    user.add_key()
    with user.wire("/chat/sendMessage/", user.question(user.begin())) as wire:
        chunks, ended = wire.chunks()
    assert ended
    assert "".join(chunk.decode() for chunk in chunks) == f"{text}🧬"


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        (refuse(401, code="invalid_api_key"), 424),
        (refuse(403), 424),
        (refuse(404, code="model_not_found"), 400),
        (refuse(400, code="context_length_exceeded"), 400),
        (refuse(429, code="rate_limit_exceeded", retry_after=7), 429),
        (refuse(500), 502),
        (refuse(503, page=True), 502),
        (reset_after(), 502),
        (refuse(504), 504),
    ],
    ids=["key", "forbidden", "model", "length", "rate", "broken", "down", "reset", "slow"],
)
def test_R22_an_error_before_the_first_text_is_a_problem_with_a_status_of_its_own(
    user: User, provider: ScriptedProvider, behaviour: Behaviour, status: int
) -> None:
    provider.script(behaviour)
    user.add_key()
    conversation = user.begin()
    refused = user.ask(conversation)
    said = problem(refused, status)
    assert "secret-things" not in str(said)
    assert refused.headers.get("retry-after") == ("7" if status == 429 else None)
    assert user.messages(conversation) == [("system", SYSTEM), ("user", "What is a codon?")]


def test_R22_a_provider_that_says_nothing_in_time_is_504(
    sqlite: NewDatabase, provider: ScriptedProvider, tmp_path: Path
) -> None:
    provider.script(silence())
    with server_on(tmp_path, sqlite.prepared(), provider, BAIO_FIRST_TEXT_SECONDS="0.5") as server:
        someone = User(server)
        someone.add_key()
        problem(someone.ask(someone.begin()), 504)
        someone.http.close()


def test_R22_a_content_that_does_not_fit_into_a_body_is_413(user: User, provider: ScriptedProvider) -> None:
    user.add_key()
    problem(user.ask(user.begin(), "x" * 2**20), 413)
    assert provider.requests == []


def test_R23_an_error_after_the_first_byte_cuts_the_connection_and_keeps_what_had_arrived(
    user: User, provider: ScriptedProvider
) -> None:
    user.add_key()
    for fault in (cut_after("A codon ", "is"), reset_after("A codon ", "is")):
        conversation = user.begin()
        provider.script(fault)
        with user.wire("/chat/sendMessage/", user.question(conversation)) as wire:
            chunks, ended = wire.chunks()
        assert (wire.status, b"".join(chunks), ended) == (200, b"A codon is", False)
        assert user.messages(conversation)[1:] == [("user", "What is a codon?"), ("baio", "A codon is")]
        provider.script(cut_after("A codon ", "is"))
        with pytest.raises(httpx2.RemoteProtocolError):
            user.ask(conversation)


def test_R23_a_finished_answer_ends_with_the_closing_chunk(user: User) -> None:
    user.add_key()
    with user.wire("/chat/sendMessage/", user.question(user.begin())) as wire:
        chunks, ended = wire.chunks()
    assert (b"".join(chunks), ended) == (b"A codon is three nucleotides.", True)


def test_R24_the_question_is_stored_before_the_provider_is_called_and_the_answer_when_it_ends(
    user: User, provider: ScriptedProvider
) -> None:
    gate = threading.Event()
    provider.script(gated(gate, (), ("Three ", "nucleotides.")))
    user.add_key()
    conversation = user.begin()
    question = [("system", SYSTEM), ("user", "What is a codon?")]
    with user.wire("/chat/sendMessage/", user.question(conversation)) as wire:
        provider.wait_for_requests(1)
        assert user.messages(conversation) == question
        gate.set()
        wire.chunks()
    assert user.messages(conversation) == [*question, ("baio", "Three nucleotides.")]


def test_R24_an_answer_without_text_is_not_shown(user: User, provider: ScriptedProvider) -> None:
    provider.script(refuse(500), answer())
    user.add_key()
    conversation = user.begin()
    problem(user.ask(conversation, "One"), 502)
    problem(user.ask(conversation, "Two"), 502)
    user.ask(conversation, "Three")
    roles = [role for role, _ in user.messages(conversation)]
    assert roles == ["system", "user", "user", "user", "baio"]


def test_R25_no_connection_and_no_transaction_is_held_while_20_answers_stream(
    server: Server, visitor: httpx2.Client, provider: ScriptedProvider
) -> None:
    gate = threading.Event()
    provider.always(gated(gate, ("A codon is ",), ("three nucleotides.",)))
    with ExitStack() as stack:
        researchers = [User(server) for _ in range(7)]
        for each in researchers:
            stack.callback(each.http.close)
            each.add_key()
        asking = [each for each in researchers for _ in range(3)][:20]
        wires = [stack.enter_context(each.wire("/chat/sendMessage/", each.question(each.begin()))) for each in asking]
        assert [wire.chunk() for wire in wires] == [b"A codon is "] * 20
        # More answers stream than the server has connections, and there is one for everybody else.
        assert visitor.post("/user/register/", json=registration()).status_code == 201
        nothing_is_held(server)
        gate.set()
        assert [wire.chunks() for wire in wires] == [([b"three nucleotides."], True)] * 20


def nothing_is_held(server: Server) -> None:
    """Check in the database that nothing is under way; what is stored now and then may be, for a moment."""
    url = make_url(server.database)
    if url.get_backend_name() == "sqlite":
        with server.engine() as engine, engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout=1000")
            connection.execute(update(users).values(country=users.c.country))
            connection.commit()
        return
    active = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE application_name = 'baio' AND datname = current_database() AND state <> 'idle'"
    )
    engine = create_engine(url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        until(lambda: connection.exec_driver_sql(active).scalar_one() == 0)
    engine.dispose()


def test_R26_the_provider_is_sent_the_system_message_and_the_conversation_in_order(
    user: User, provider: ScriptedProvider
) -> None:
    provider.script(answer("First answer."), refuse(500), answer("Third ", "answer."))
    user.add_key()
    conversation = user.begin()
    for question in ("First?", "Second?", "Third?", "Fourth?"):
        user.ask(conversation, question)
    assert provider.requests[-1].body["messages"] == [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": "First?"},
        {"role": "assistant", "content": "First answer."},
        {"role": "user", "content": "Second?\n\nThird?"},
        {"role": "assistant", "content": "Third answer."},
        {"role": "user", "content": "Fourth?"},
    ]
    assert provider.requests[-1].headers["authorization"] == f"Bearer {KEY}"


def test_R26_what_a_cut_answer_has_said_is_sent_too(user: User, provider: ScriptedProvider) -> None:
    provider.script(cut_after("A codon is"))
    user.add_key()
    conversation = user.begin()
    with pytest.raises(httpx2.RemoteProtocolError):
        user.ask(conversation)
    user.ask(conversation, "Go on.")
    said = [(message["role"], message["content"]) for message in provider.requests[-1].body["messages"]]
    assert said[1:] == [("user", "What is a codon?"), ("assistant", "A codon is"), ("user", "Go on.")]


# -- Headers -----------------------------------------------------------------------------------------------------------


def test_every_response_says_what_it_is_and_lets_nothing_be_loaded_or_framed_from_it(user: User) -> None:
    user.add_key()
    responses = [
        user.http.get("/chat/getConversations/"),
        user.http.get("/nowhere"),
        user.http.get("/chat/getConversation/"),
        user.ask(user.begin()),
        user.http.options("/chat/sendMessage/", headers={"Origin": "http://localhost:3000"}),
        user.http.get("/docs/openapi.json"),
        user.http.get("/health/live"),
    ]
    for response in responses:
        assert response.headers["x-content-type-options"] == "nosniff", response.url
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["content-security-policy"].startswith("default-src 'none'; ")
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
        assert "server" not in response.headers
    assert "script-src" not in responses[0].headers["content-security-policy"]
