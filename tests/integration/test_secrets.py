"""Secrets stay where they belong: out of logs, errors, the database and reprs."""

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from sqlalchemy import inspect, make_url, select, text, update

from baio_adapters.llm.scripted import RecordedRequest
from baio_adapters.sql.tables import api_keys, users
from baio_api.container import Container
from baio_api.settings import Settings
from baio_domain.authentication import Credentials
from baio_domain.entities import NOWHERE, ApiKey, Model, ModelSpec, SecondFactor
from baio_domain.entities import User as Account
from baio_domain.one_time_codes import counter_at, one_time_code
from baio_domain.session_opening import SignedIn
from baio_domain.use_cases.second_factor import Enrolment
from tests.integration.conftest import NewDatabase, settings_for
from tests.integration.scripted_provider import (
    ScriptedProvider,
    answer,
    cut_after,
    error_event,
    garbage,
    refuse,
    reset_after,
    silence,
)
from tests.integration.servers import Server, User, baio, running_server

DATABASE_PASSWORD = "canary-database-4a1f7b"
SERVER_SECRET = "canary-server-Qm9Lf4Zs8Rb1Vc6Nd3Hj5Pg0Yx"
KEY = "sk-canary-key-81c5e2f09b7d"
PROMPT = "canary-prompt-6f0d2a: what is a codon?"
ANSWER = "canary-answer-93be17"


@dataclass
class Run:
    """Everything done once with one server: its secrets, the responses, and who did it."""

    server: Server
    user: User
    password: str
    tokens: list[str]
    responses: list[httpx2.Response]
    seed: str = ""
    recovery: list[str] = field(default_factory=list)
    link: str = ""
    printed: str = ""

    @property
    def errors(self) -> list[httpx2.Response]:
        """The refusals."""
        return [each for each in self.responses if each.status_code >= 400]

    def call(self, method: str, path: str, **sent: Any) -> httpx2.Response:
        """Send something, and keep what comes back."""
        response = self.user.http.request(method, path, **sent)
        self.responses.append(response)
        return response


@pytest.fixture(scope="module")
def run(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    """A server that logs all it can, after every endpoint was called, well and badly."""
    url = make_url(new_database.prepared())
    if url.get_backend_name() != "sqlite":
        url = url.set(password=DATABASE_PASSWORD)  # it asks for none on a local socket, and the server must not tell
    environment = {
        **settings_for(url.render_as_string(hide_password=False), provider),
        "BAIO_SECRET_KEY": SERVER_SECRET,
        "BAIO_LOG_LEVEL": "DEBUG",
        "BAIO_FIRST_TEXT_SECONDS": "2",
        "OPENAI_LOG": "debug",
    }
    with running_server(tmp_path_factory.mktemp("canaries"), environment, "--workers", "2") as server:
        user = User(server)
        done = Run(server, user, user.account["password"], [user.access, user.refresh], [])
        try:
            everything(done, provider)
            yield done
        finally:
            user.http.close()


def everything(run: Run, provider: ScriptedProvider) -> None:
    """Call every endpoint, well and badly, with every kind of failure of the provider."""
    provider.forget()
    accounts(run)
    conversation = keys_and_conversations(run)
    answers(run, provider, conversation)
    statuses = {each.status_code for each in run.responses}
    assert statuses >= {200, 201, 400, 401, 403, 404, 409, 413, 422, 424, 429, 502, 504}
    assert not statuses & {500}


def accounts(run: Run) -> None:
    """Register, sign in and out, and fail at it."""
    user, call = run.user, run.call
    run.password = "canary-password-" + secrets.token_hex(8)
    name = "canary" + secrets.token_hex(4)
    account = {**user.account, "username": name, "email": f"{name}@example.no", "password": run.password}
    for body in (account, account, {**account, "email": "nobody"}, {**account, "password": [run.password]}):
        call("POST", "/user/register/", json=body)
    signed_in = call("POST", "/user/auth/", json={"username": name, "password": run.password}).json()
    run.tokens += [signed_in["access"], signed_in["refresh"]]
    user.http.headers["Authorization"] = f"Bearer {signed_in['access']}"
    call("POST", "/user/auth/", json={"username": name, "password": f"{run.password}x"})
    call("POST", "/user/auth/", json={"username": run.password, "password": [run.password]})
    call("POST", "/user/refresh/", json={"refresh": signed_in["refresh"]})
    call("POST", "/user/refresh/", json={"refresh": signed_in["access"]})
    call("POST", "/user/refresh/", json={"refresh": f"{signed_in['refresh']}x"})
    call("POST", "/user/validateToken/", json={"token": signed_in["access"]})
    call("POST", "/user/validateToken/", json={"token": signed_in["refresh"]})
    call("GET", "/user/getInfo/")
    call("GET", "/user/getInfo/", headers={"Authorization": f"Bearer {signed_in['refresh']}"})
    call("GET", "/user/getInfo/", headers={"Authorization": f"Basic {run.password}"})
    call("GET", f"/user/getInfo/?token={signed_in['access']}&password={run.password}")
    second_factor(run, name)
    call("POST", "/user/updateInfo/", json={"password": run.password})
    call("POST", "/user/updateInfo/", json={"country": "Sweden"})


def second_factor(run: Run, name: str) -> None:
    """Turn two-factor authentication on, use and misuse codes, and get a link from the administrator."""
    call, known = run.call, {"username": name, "password": run.password}
    enrolled = run.user.http.post("/user/enrollTwoFactor/", json={"password": run.password}).json()
    run.seed = enrolled["secret"]
    code = one_time_code(run.seed, counter_at(datetime.now(UTC)))
    call("POST", "/user/enrollTwoFactor/", json={"password": f"{run.password}x"})
    call("POST", "/user/confirmTwoFactor/", json={"code": [code]})
    confirmed = run.user.http.post("/user/confirmTwoFactor/", json={"code": code})
    run.recovery = confirmed.json()["recovery_codes"]
    call("POST", "/user/enrollTwoFactor/", json={"password": run.password})
    for more in ({}, {"code": code}, {"code": run.recovery[0]}, {"code": run.recovery[0]}, {"code": [run.recovery[1]]}):
        answered = run.user.http.post("/user/auth/", json={**known, **more})
        if answered.status_code == 200:
            run.tokens += answered.json().values()
        else:
            run.responses.append(answered)
    call("GET", "/user/getTwoFactor/")
    call("GET", "/user/getSessions/")
    change = {"current_password": f"{run.password}x", "code": run.recovery[1], "password": run.password}
    call("POST", "/user/updateCredentials/", json=change)
    environment = {"BAIO_DATABASE_URL": run.server.database, "BAIO_SECRET_KEY": SERVER_SECRET}
    linked = baio(environment, "resetpassword", name, "--link")
    assert linked.returncode == 0, linked.stderr
    run.link = linked.stdout.strip().rpartition("#")[2]
    call("POST", "/user/resetPassword/", json={"token": run.link, "password": name})
    run.printed = baio(environment, "audit").stdout + baio(environment, "listusers").stdout
    call("GET", "/user/exportData/")


def keys_and_conversations(run: Run) -> int:
    """Store keys and begin conversations, and fail at it; a conversation."""
    call = run.call
    conversation: int = call("POST", "/chat/createConversation/", json={}).json()["id"]
    for title in ("One", "Another"):
        call("POST", "/chat/createConversation/", json={"title": title}, headers={"Idempotency-Key": "once"})
    for body in (
        {"key": KEY, "nickname": "Mine"},
        {"key": KEY, "nickname": "Mine"},
        {"key": f"{KEY}\n\nx", "nickname": "Another"},
        {"key": [KEY], "nickname": "Another"},
        {"key": KEY, "nickname": "Another", "provider": "nobody"},
    ):
        call("POST", "/chat/addAPIKey/", json=body)
        call("POST", "/chat/addAPIKey/", json=body, headers={"Idempotency-Key": "once"})
    call("GET", "/chat/getApiKeys/")
    call("GET", "/chat/getLLMProviders/")
    call("POST", "/chat/stopAnswer/", json={"conversation_id": conversation})
    return conversation


def answers(run: Run, provider: ScriptedProvider, conversation: int) -> None:
    """Ask, and fail at it in every way."""
    user, call = run.user, run.call
    question = {"conversation_id": conversation, "apikey_nickname": "Mine", "content": PROMPT, "model": "gpt-4o"}
    provider.script(
        answer(ANSWER), refuse(401), refuse(403, page=True), refuse(400), refuse(429), refuse(500), garbage(),
        reset_after(), silence(), error_event(), error_event(ANSWER), cut_after(ANSWER),
    )  # fmt: skip
    for _ in range(10):
        call("POST", "/chat/sendMessage/", json=question)
    for _ in range(2):
        with pytest.raises(httpx2.RemoteProtocolError):
            user.http.post("/chat/sendMessage/", json=question)
    assert len(provider.requests) == 12
    call("POST", "/chat/sendMessage/", json={**question, "model": PROMPT})
    call("POST", "/chat/sendMessage/", json={**question, "content": [PROMPT]})
    call("POST", "/chat/sendMessage/", content=f'{{"content": "{PROMPT}"'.encode())
    call("POST", "/chat/sendMessage/", json={**question, "content": PROMPT * 50_000})
    call("POST", "/chat/regenerateAnswer/", json={name: question[name] for name in question if name != "content"})
    call("POST", "/chat/stopAnswer/", json={"conversation_id": conversation})
    for path in ("getConversation", "getAnswers", "followAnswer"):
        try:
            call("GET", f"/chat/{path}/", params={"conversation_id": conversation})
        except httpx2.RemoteProtocolError:
            continue
    call("POST", "/chat/renameConversation/", json={"conversation_id": conversation, "title": PROMPT})
    call("GET", "/chat/getConversations/")


def canaries(run: Run) -> dict[str, str]:
    """Every secret, by what it is."""
    named = {
        "password": run.password,
        "first password": run.user.account["password"],
        "key": KEY,
        "tail of the key": KEY[-8:],
        "prompt": PROMPT[:20],
        "answer": ANSWER,
        "database's password": DATABASE_PASSWORD,
        "server's secret": SERVER_SECRET,
        "provider's words": "secret-things",
        "seed": run.seed,
        "link": run.link,
        **{f"recovery code {number}": code for number, code in enumerate(run.recovery)},
        **{f"recovery code {number}, bare": code.replace("-", "") for number, code in enumerate(run.recovery)},
    }
    return {**named, **{f"token {number}": token[-40:] for number, token in enumerate(run.tokens)}}


def test_no_secret_is_in_the_servers_log_even_when_it_logs_all_it_can(run: Run) -> None:
    log = run.server.log
    assert '"path": "/chat/sendMessage' in log
    assert [name for name, secret in canaries(run).items() if secret in log] == []


def test_no_secret_is_in_any_error(run: Run) -> None:
    assert len(run.errors) > 25
    for error in run.errors:
        shown = error.text + str(error.headers)
        assert [name for name, secret in canaries(run).items() if secret in shown] == [], error.text


def test_no_secret_is_in_the_audit_or_in_what_the_commands_print(run: Run) -> None:
    assert "two-factor-enabled" in run.printed
    assert [name for name, secret in canaries(run).items() if secret in run.printed] == []


def test_the_key_and_the_password_are_in_no_response_at_all(run: Run) -> None:
    for response in run.responses:
        assert KEY[-8:] not in response.text
        assert run.password not in response.text
        assert run.seed not in response.text
        assert not [code for code in run.recovery if code in response.text]


def everything_stored(server: Server) -> bytes:
    """All that is in the database: the files' bytes, or every row of every table."""
    url = make_url(server.database)
    if url.get_backend_name() == "sqlite":
        assert url.database
        files = [each for each in Path(url.database).parent.rglob("*") if each.is_file()]
        assert any(file.name.endswith("-wal") for file in files)
        return b"".join(file.read_bytes() for file in files)
    with server.engine() as engine, engine.connect() as connection:
        tables = inspect(engine).get_table_names()
        assert "api_keys" in tables
        rows = [row for table in tables for row in connection.execute(text(f'SELECT * FROM "{table}"')).fetchall()]
    cells = [
        bytes(cell) if isinstance(cell, (bytes, memoryview)) else str(cell).encode() for row in rows for cell in row
    ]
    return b"\n".join(cells)


def test_neither_key_nor_password_nor_token_is_in_the_database(run: Run) -> None:
    stored = everything_stored(run.server)
    assert PROMPT.encode() in stored  # else this test would look in the wrong place
    for name, secret in canaries(run).items():
        if name not in ("prompt", "answer"):
            assert secret.encode() not in stored, name


def test_a_key_does_not_open_in_another_users_row(run: Run, provider: ScriptedProvider) -> None:
    one, two = User(run.server), User(run.server)
    for user, key in ((one, "sk-of-user-one"), (two, "sk-of-user-two")):
        user.add_key("Mine", key)
    with run.server.engine() as engine, engine.begin() as connection:
        sealed = {}
        for user in (one, two):
            owner = select(users.c.id).where(users.c.username == user.account["username"]).scalar_subquery()
            sealed[user] = connection.execute(select(api_keys.c.sealed).where(api_keys.c.user_id == owner)).scalar_one()
        assert sealed[one] != sealed[two]
        owner = select(users.c.id).where(users.c.username == two.account["username"]).scalar_subquery()
        connection.execute(update(api_keys).where(api_keys.c.user_id == owner).values(sealed=sealed[one]))
    refused = two.ask(two.begin(), apikey_nickname="Mine")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:baio:error:api-key-unreadable")
    assert one.ask(one.begin(), apikey_nickname="Mine").status_code == 200
    assert [request.headers["authorization"] for request in provider.requests] == ["Bearer sk-of-user-one"]
    for user in (one, two):
        user.http.close()


def test_a_key_does_not_open_in_another_row_of_the_same_user(run: Run) -> None:
    user = User(run.server)
    user.add_key("One", "sk-of-row-one")
    user.add_key("Two", "sk-of-row-two")
    with run.server.engine() as engine, engine.begin() as connection:
        owner = select(users.c.id).where(users.c.username == user.account["username"]).scalar_subquery()
        mine = api_keys.c.user_id == owner
        sealed = connection.execute(select(api_keys.c.sealed).where(mine, api_keys.c.nickname == "One")).scalar_one()
        connection.execute(update(api_keys).where(mine, api_keys.c.nickname == "Two").values(sealed=sealed))
    assert user.ask(user.begin(), apikey_nickname="Two").status_code == 409
    assert user.ask(user.begin(), apikey_nickname="One").status_code == 200
    user.http.close()


def test_reprs_hold_no_secret() -> None:
    now = datetime.now(UTC)
    names = ("username", "email", "first", "last", "country", "affiliation", "position", "field")
    account = Account(1, *names, password_hash="canary-hash", created_at=now, disabled_at=None)
    stored = ApiKey(1, 1, 1, "Mine", b"canary-sealed", now)
    model = Model.of(1, 1, ModelSpec("gpt-4o", "GPT-4o", 1, 1))
    settings = Settings(database_url=f"postgresql://baio:{DATABASE_PASSWORD}@localhost/baio", secret_key=SERVER_SECRET)
    container = Container(settings=settings)
    shown = [
        *(repr(each) for each in (account, stored, RecordedRequest(KEY, model, ()), settings, container.settings())),
        repr(Credentials("olenor", "canary-password", "canary-code", NOWHERE)),
        repr(SignedIn("canary-refresh", "canary-access")),
        repr(Enrolment("canary-seed", "otpauth://totp/BAiO:olenor?secret=canary-seed")),
        repr(SecondFactor(1, b"canary-sealed", now, 1)),
        *(repr(each) + str(each) for each in (container, container.tokens(), container.box(), container.gateways())),
        *(repr(value) for value in vars(container.tokens()).values() if not isinstance(value, bytes)),
        str(settings),
        f"{settings!r:>20}",
    ]
    assert not [each for each in shown if re.search("canary", each)]
    assert "canary" in str(msgspec.to_builtins(settings))  # else this test would look for the wrong word
