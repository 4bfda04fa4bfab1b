"""API tokens over HTTP, with two workers on each database: what they may do, what ends them, what is kept of them."""

import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute
from sqlalchemy import select

from baio_adapters.sql.tables import api_tokens, metadata
from baio_api.app import create_app
from baio_api.container import Container
from baio_api.settings import Settings
from baio_domain.api_tokens import new_token, token_digest
from baio_domain.entities import Scope
from baio_domain.one_time_codes import counter_at, one_time_code
from tests.integration.conftest import once
from tests.integration.operations import OPERATIONS
from tests.integration.scripted_provider import ScriptedProvider, gated
from tests.integration.servers import PASSWORD, SECRET, User, baio, named, problem, until
from tests.integration.test_bad_input import FIELDS

pytestmark = pytest.mark.two_workers  # what one of them has done, the other must know with the very next request

ROOT = Path(__file__).parents[2]
ALL = [scope.value for scope in Scope]


def create(user: User, name: str = "notebook", scopes: list[str] | None = None, **more: Any) -> str:
    """A new token."""
    body = {"name": name, "scopes": ALL if scopes is None else scopes, "password": PASSWORD, **more}
    made = user.http.post("/user/createToken/", json=body)
    assert made.status_code == 201, made.text
    token: str = made.json()["token"]
    return token


def call(user: User, token: str, path: str, body: dict[str, Any] | None = None) -> httpx2.Response:
    """Get or post with this token, on a connection of its own, so that either worker may get it."""
    address = user.http.headers["X-Forwarded-For"]
    with user.server.client(headers={"Authorization": f"Bearer {token}", "X-Forwarded-For": address}) as client:
        return client.get(path) if body is None else client.post(path, json=body)


def admitted(user: User, token: str) -> bool:
    """Whether the token is, with several requests in a row."""
    said = {call(user, token, "/user/getInfo/").status_code for _ in range(3)}
    assert len(said) == 1
    return said == {200}


def kind(response: httpx2.Response, status: int) -> str:
    """The kind of a refusal."""
    return str(problem(response, status)["type"]).removeprefix("urn:baio:error:")


# -- What a token may do -----------------------------------------------------------------------------------------------


def test_a_script_asks_reads_and_runs_tools_with_a_token(user: User) -> None:
    user.add_key()
    token = create(user)
    conversation = call(user, token, "/chat/createConversation/", {"title": "By a script"}).json()["id"]
    answered = call(user, token, "/chat/sendMessage/", user.question(conversation))
    assert answered.text == "A codon is three nucleotides."
    computed = call(user, token, "/chat/runTool/", {"tool": "gc_content", "arguments": {"sequence": "ACGT"}})
    assert computed.status_code == 201
    assert [role for role, _ in user.messages(conversation)] == ["system", "user", "baio"]
    read = call(user, token, f"/chat/getConversation/?conversation_id={conversation}")
    assert read.json() == user.http.get(f"/chat/getConversation/?conversation_id={conversation}").json()
    # The scheme has any case, and spaces around the token don't count, as with access tokens.
    for header in (f"bearer {token}", f"BEARER  {token}"):
        assert user.http.get("/user/getInfo/", headers={"Authorization": header}).status_code == 200


def documented_scopes() -> dict[str, set[str]]:
    """The table of docs/clients.md: for each scope, and for none, the operations."""
    lines = (ROOT / "docs" / "clients.md").read_text().splitlines()
    rows = [line.strip("|").split("|") for line in lines if re.match(r"\| (`(read|ask|edit|tools)`|none) \|", line)]
    return {name.strip(" `"): set(re.findall(r"`(\w+)`", listed)) for name, _, listed in rows}


def test_the_table_of_scopes_has_every_operation_that_needs_a_token() -> None:
    found: dict[str, set[str]] = {name: set() for name in (*ALL, "none")}
    for operation in OPERATIONS.values():
        if operation.bearer:
            found[operation.scope or "none"].add(operation.name)
    assert documented_scopes() == found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Litestar's about itself
def test_every_route_of_the_application_is_an_operation_or_needs_no_token_but_mcp() -> None:
    app: Any = create_app(Container(settings=Settings(secret_key=SECRET)))
    while not isinstance(app, Litestar):
        app = app._app
    every = [each for route in app.routes if isinstance(route, HTTPRoute) for each in route.route_handlers]
    handlers = [each for each in every if "OPTIONS" not in each.http_methods]
    others = [each for each in handlers if each.operation_id not in OPERATIONS and each.resolve_security()]
    assert {(path, each.opt["scope"]) for each in others for path in each.paths} == {("/mcp", Scope.TOOLS)}
    assert {each.operation_id for each in handlers} >= OPERATIONS.keys()


def test_no_operation_on_accounts_sessions_keys_or_tokens_can_be_done_with_a_token() -> None:
    # Also those that will be added: in these modules a scope is an exception, and these are all.
    allowed = {"getInfo", "getRetention", "getApiKeys", "getLLMProviders"}
    for operation in OPERATIONS.values():
        if operation.path.startswith("/user/") or "APIKey" in operation.name:
            assert operation.scope is None or operation.name in allowed


@once
def test_every_operation_asks_for_its_scope_before_it_looks_at_anything_else(user: User) -> None:
    everything, tokens = create(user, "all"), {}
    for scope in ALL:
        tokens[scope] = create(user, f"all but {scope}", [each for each in ALL if each != scope])
    before = user.server.rows()
    for operation in OPERATIONS.values():
        if not operation.bearer:
            continue
        body = None if operation.method == "GET" else {"this": "is not looked at"}
        if operation.scope is None:
            refused = call(user, everything, operation.path, body)
            assert kind(refused, 403) == "session-required", operation.name
            continue
        refused = call(user, tokens[operation.scope], operation.path, body)
        assert kind(refused, 403) == "scope-missing", operation.name
        assert f"`{operation.scope}`" in refused.text
        if not operation.path.startswith("/v1/"):  # whose errors have OpenAI's form
            assert refused.json()["scope"] == operation.scope
        assert refused.headers["WWW-Authenticate"] == f'Bearer error="insufficient_scope", scope="{operation.scope}"'
    after = user.server.rows()
    assert after == before


@once
def test_with_the_right_scope_alone_an_operation_is_done(user: User) -> None:
    tokens = {scope: create(user, scope, [scope]) for scope in ALL}
    for operation in OPERATIONS.values():
        if operation.scope is not None and not operation.takes_file and not FIELDS.get(operation.path):
            response = call(user, tokens[operation.scope], operation.path, None if operation.method == "GET" else {})
            # 400 where a parameter is missing, and no key has a model.
            assert response.status_code in (200, 400) or operation.name == "retrieveModel", operation.name


def test_a_token_is_no_access_token_and_no_refresh_token(user: User, visitor: httpx2.Client) -> None:
    token = create(user)
    assert visitor.post("/user/validateToken/", json={"token": token}).status_code == 401
    problem(visitor.post("/user/refresh/", json={"refresh": token}), 401)
    problem(visitor.post("/user/logout/", json={"refresh": token}), 400)
    problem(visitor.get(f"/user/getInfo/?token={token}"), 401)
    problem(visitor.get("/user/getInfo/", headers={"X-API-Key": token}), 401)
    problem(visitor.get("/user/getInfo/", headers={"Authorization": f"Basic {token}"}), 401)
    assert admitted(user, token)


def test_what_is_no_token_is_401(user: User) -> None:
    token = create(user)
    for wrong in ("baio_", "baio_" + "0" * 38, new_token(), token[:-1], token + "0", token.upper(), f"B{token[1:]}"):
        for path in ("/user/getInfo/", "/user/getTokens/"):
            refused = call(user, wrong, path)
            problem(refused, 401)
            assert refused.headers["WWW-Authenticate"] == "Bearer"
    problem(user.http.get("/user/getInfo/", headers={"Authorization": f"Bearer {token}, Bearer {token}"}), 401)


# -- Making, listing, revoking -----------------------------------------------------------------------------------------


def test_a_token_is_shown_once_and_listed_with_what_is_stored_of_it(user: User, other: User) -> None:
    until_when = (datetime.now(UTC) + timedelta(days=30)).replace(microsecond=0)
    made = user.http.post(
        "/user/createToken/",
        json={
            "name": " Lab notebook \N{DNA DOUBLE HELIX} ",
            "scopes": ["tools", "read", "read"],
            "expires_at": until_when.isoformat(),
            "password": PASSWORD,
        },
    )
    assert made.status_code == 201
    assert list(made.json()) == ["name", "scopes", "created_at", "expires_at", "token"]
    shown = made.json()
    assert shown["scopes"] == ["read", "tools"]
    assert shown["expires_at"] == until_when.isoformat().replace("+00:00", "Z")
    token = shown["token"]
    second = create(user, "second", ["ask"])
    listed = user.http.get("/user/getTokens/").json()
    assert [list(each) for each in listed] == [
        ["name", "scopes", "created_at", "expires_at", "last_used_at", "ending"]
    ] * 2
    assert [each["name"] for each in listed] == ["second", "Lab notebook \N{DNA DOUBLE HELIX}"]
    assert [each["ending"] for each in listed] == [second[-4:], token[-4:]]
    assert [each["last_used_at"] for each in listed] == [None, None]
    assert other.http.get("/user/getTokens/").json() == []
    exported = user.http.get("/user/exportData/")
    assert exported.json()["api_tokens"] == listed
    for secret in (token, token[5:37], second[5:37], token_digest(token).hex()):
        assert secret not in exported.text
        assert secret not in user.server.log
    with user.server.engine() as engine, engine.connect() as connection:
        rows = connection.execute(select(api_tokens.c.digest).where(api_tokens.c.ending == token[-4:])).scalars().all()
        assert token_digest(token) in rows
        for table in metadata.sorted_tables:
            assert token[5:37] not in repr(connection.execute(table.select()).fetchall())
    acts = [entry for entry in exported.json()["audit"] if entry["act"] == "token-created"]
    assert len(acts) == 2


def test_when_a_token_was_last_used_is_shown_soon(user: User) -> None:
    token = create(user)
    assert admitted(user, token)
    until(lambda: user.http.get("/user/getTokens/").json()[0]["last_used_at"] is not None)
    used = datetime.fromisoformat(user.http.get("/user/getTokens/").json()[0]["last_used_at"])
    assert timedelta(0) <= datetime.now(UTC) - used < timedelta(minutes=5)


def test_a_revoked_token_is_refused_with_the_next_request(user: User, other: User) -> None:
    token, kept = create(user), create(user, "kept")
    problem(other.http.post("/user/revokeToken/", json={"name": "notebook"}), 404)
    assert admitted(user, token)
    revoked = user.http.post("/user/revokeToken/", json={"name": "notebook"})
    assert (revoked.status_code, revoked.json()) == (200, "API token notebook successfully revoked")
    assert not admitted(user, token)
    assert admitted(user, kept)
    problem(user.http.post("/user/revokeToken/", json={"name": "notebook"}), 404)
    assert not admitted(user, token)


def test_bad_fields_are_named_at_once_and_the_password_is_asked_last(user: User) -> None:
    body = {"name": "n" * 101, "scopes": ["admin"], "expires_at": "2020-01-01T00:00:00Z", "password": "wrong"}
    assert named(user.http.post("/user/createToken/", json=body)) == {"name", "scopes", "expires_at"}
    body |= {"expires_at": "2020-01-01T00:00:00"}  # whose midnight?
    assert named(user.http.post("/user/createToken/", json=body)) == {"name", "scopes", "expires_at"}
    for end in ("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"):
        assert named(user.http.post("/user/createToken/", json={**body, "expires_at": end})) >= {"expires_at"}
    good = {"name": "n", "scopes": ["read"], "password": "wrong"}
    assert kind(user.http.post("/user/createToken/", json=good), 400) == "bad-credentials"
    assert user.http.get("/user/getTokens/").json() == []


def test_with_two_factor_authentication_a_token_needs_a_code(user: User) -> None:
    secret = user.http.post("/user/enrollTwoFactor/", json={"password": PASSWORD}).json()["secret"]
    code = one_time_code(secret, counter_at(datetime.now(UTC)))
    [recovery, *_] = user.http.post("/user/confirmTwoFactor/", json={"code": code}).json()["recovery_codes"]
    body = {"name": "n", "scopes": ["read"], "password": PASSWORD}
    assert kind(user.http.post("/user/createToken/", json=body), 400) == "second-factor-required"
    assert kind(user.http.post("/user/createToken/", json={**body, "code": "0" * 6}), 400) == "wrong-code"
    token = create(user, "n", ["read"], code=recovery)
    assert admitted(user, token)


# -- What ends one -----------------------------------------------------------------------------------------------------


def disable(user: User) -> None:
    environment = {"BAIO_DATABASE_URL": user.server.database, "BAIO_SECRET_KEY": SECRET}
    baio(environment, "disableuser", user.account["username"])
    baio(environment, "enableuser", user.account["username"])


def test_what_ends_all_sessions_ends_all_tokens_on_every_worker(user: User, other: User) -> None:
    theirs, mine = create(other), create(user)
    assert admitted(user, mine)
    assert user.http.post("/user/logoutEverywhere/").status_code == 200
    assert not admitted(user, mine)
    user.sign_in()
    mine = create(user)  # the name is free
    disable(user)
    assert not admitted(user, mine)
    assert admitted(other, theirs)


def test_a_stream_ends_with_its_token_and_the_answer_goes_on(
    user: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    user.add_key()
    token, conversation = create(user), user.begin()
    provider.script(gated(gate, ("A codon ",), ("is a triplet.",)))
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
    with user.server.client(headers=headers) as client:
        with client.stream("POST", "/chat/sendMessage/", json=user.question(conversation)) as response:
            pieces = response.iter_text()
            assert "A codon " in next(pieces)
            assert user.http.post("/user/revokeToken/", json={"name": "notebook"}).status_code == 200
            rest = "".join(pieces)
        assert '"urn:baio:error:not-authenticated"' in rest
        problem(client.post("/chat/stopAnswer/", json={"conversation_id": conversation}), 401)
    gate.set()
    until(lambda: user.messages(conversation)[-1] == ("baio", "A codon is a triplet."))
