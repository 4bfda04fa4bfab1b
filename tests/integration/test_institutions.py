"""Signing in with an institution, as a client does and as attackers would, at either of two workers."""

import json
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import select, update

from baio_adapters.sql.tables import audit, identities, sessions, sign_ins, tickets
from baio_domain.identities import MAX_STARTED
from baio_domain.one_time_codes import counter_at, one_time_code
from tests.integration.conftest import once
from tests.integration.institution_clients import RETURN_TO, Client, fragment_of
from tests.integration.scripted_institution import CLIENT_SECRET, Institution, ScriptedInstitutions
from tests.integration.servers import PASSWORD, Server, User, named, problem, until

pytestmark = pytest.mark.two_workers


@pytest.fixture
def uni(institutions: ScriptedInstitutions) -> Iterator[Institution]:
    found = institutions.institution("uni")
    yield found
    keys = found.keys
    found.begin_anew()
    found.keys = keys


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with server.client() as http:
        yield Client(server, http)


@pytest.fixture
def subject() -> str:
    return f"subject-{secrets.token_hex(6)}"


def kind_of(response: httpx2.Response, status: int) -> str:
    return str(problem(response, status)["type"]).removeprefix("urn:baio:error:")


def info(client: Client, headers: dict[str, str]) -> dict[str, str]:
    found = client.http.get("/user/getInfo/", headers=headers)
    assert found.status_code == 200
    return dict(found.json())


def linked(client: Client, headers: dict[str, str]) -> list[dict[str, Any]]:
    return list(client.http.get("/user/getIdentities/", headers=headers).json())


# -- In ----------------------------------------------------------------------------------------------------------------


@once
def test_the_ways_in_are_listed(client: Client) -> None:
    assert client.http.get("/user/getSignInProviders/").json() == {
        "passwords": True,
        "providers": [{"provider": "uni", "label": "Uni"}, {"provider": "other", "label": "Other"}],
    }


def test_somebody_new_gets_an_account_and_comes_back_to_it(client: Client, uni: Institution, subject: str) -> None:
    email = f"{subject}@example.no"
    uni.people[subject] = {
        "preferred_username": email, "given_name": " Åse \u200b", "family_name": "de la\nCour", "email": email,
        "email_verified": False,
    }  # fmt: skip
    headers = client.sign_in(uni, subject)
    assert info(client, headers) == {
        "first_name": "Åse", "last_name": "de la Cour", "username": subject, "email": email,
        **dict.fromkeys(("country", "affiliation", "position", "field_of_study"), ""),
    }  # fmt: skip
    [identity] = linked(client, headers)
    assert (identity["provider"], identity["label"], identity["subject"]) == ("uni", "Uni", subject)
    assert identity["issuer"] == uni.issuer
    # Whatever the institution calls them next time, it is the same account, and its profile is theirs.
    uni.people[subject] = {"preferred_username": "admin", "email": "admin@example.no"}
    again = client.sign_in(uni, subject)
    assert info(client, again)["username"] == subject
    [later] = linked(client, again)
    assert later["last_used_at"] > identity["last_used_at"]
    assert len(client.http.get("/user/getSessions/", headers=again).json()) == 2
    exported = client.http.get("/user/exportData/", headers=again).json()
    assert exported["identities"] == [
        {name: later[name] for name in ("issuer", "subject", "created_at", "last_used_at")}
    ]
    acts = [(act["act"], act["note"]) for act in exported["audit"]]
    assert acts[:3] == [
        ("registered", "institution uni"),
        ("signed-in", "institution uni"),
        ("signed-in", "institution uni"),
    ]


def test_a_session_of_an_institution_is_refreshed_and_ended_like_any_other(
    client: Client, uni: Institution, subject: str
) -> None:
    tokens = client.redeem(client.ticket(uni, subject)).json()
    renewed = client.http.post("/user/refresh/", json={"refresh": tokens["refresh"]}).json()["access"]
    assert info(client, {"Authorization": f"Bearer {renewed}"})["username"]
    assert client.http.post("/user/logout/", json={"refresh": tokens["refresh"]}).status_code == 200
    problem(client.http.get("/user/getInfo/", headers={"Authorization": f"Bearer {renewed}"}), 401)


@pytest.mark.parametrize(
    ("people", "username"),
    [
        ({}, "user"),
        ({"name": "Ada"}, "Ada"),
        ({"preferred_username": "\u200b\u3164", "email": "no address"}, "user"),
        ({"preferred_username": [7, "Kari Nordmann"], "email": ["kari@x"], "given_name": None}, "Kari Nordmann"),
        ({"preferred_username": "x" * 400, "name": "y" * 4000}, "x" * 100),
        ({"preferred_username": "李小龍@example.tw", "email": "not@valid@address"}, "李小龍"),
        ({"preferred_username": "</script>\r\nSet-Cookie: a=b"}, "</script> Set-Cookie: a=b"),
    ],
)
def test_an_account_is_made_of_whatever_the_institution_says(
    client: Client, uni: Institution, subject: str, people: dict[str, Any], username: str
) -> None:
    uni.people[subject] = people
    found = info(client, client.sign_in(uni, subject))
    assert found["username"].startswith(username)
    assert found["first_name"]
    assert found["email"].endswith("@no-email.invalid")
    other = f"{subject}-2"
    uni.people[other] = people
    assert info(client, client.sign_in(uni, other))["username"] not in ("", found["username"])


def test_a_name_that_somebody_has_is_made_unique(client: Client, uni: Institution, subject: str, user: User) -> None:
    taken = user.account["username"]
    for number in range(2, 4):
        uni.people[f"{subject}{number}"] = {"preferred_username": f"{taken.upper()}@example.no"}
        found = info(client, client.sign_in(uni, f"{subject}{number}"))
        assert found["username"] == f"{taken.upper()}{number}"


def test_no_account_is_taken_over_by_an_equal_email_address(
    client: Client, uni: Institution, subject: str, user: User
) -> None:
    mine = user.account["email"]
    uni.people[subject] = {
        "email": mine.upper(),
        "email_verified": True,
        "preferred_username": user.account["username"],
    }
    ticket = client.ticket(uni, subject)
    assert kind_of(client.redeem(ticket), 409) == "email-taken"
    assert linked(client, user.http.headers) == []  # type: ignore[arg-type]
    # Who has the password of that account links the identity to it, with the same ticket.
    body = {"ticket": ticket, "verifier": client.verifier, "password": PASSWORD}
    made = user.http.post("/user/linkIdentity/", json=body)
    assert made.status_code == 200
    assert made.json()["subject"] == subject
    assert info(client, client.sign_in(uni, subject))["username"] == user.account["username"]


def test_an_institution_can_refuse_or_be_out_of_order(client: Client, uni: Institution, subject: str) -> None:
    expected = {
        "access_denied": "sign-in-refused",
        "login_required": "sign-in-refused",
        "<script>": "sign-in-refused",
        "server_error": "institution-unavailable",
        "temporarily_unavailable": "institution-unavailable",
    }
    for error, slug in expected.items():
        more = {"error": error, "error_description": "\r\nLocation: https://evil.example"}
        assert client.at(uni, subject, code=None, **more) == {"error": slug}
    uni.answers["/token"] = lambda: (500, b"{}")
    assert client.at(uni, subject) == {"error": "institution-unavailable"}
    uni.answers["/token"] = lambda: (400, b'{"error": "invalid_grant"}')
    assert client.at(uni, subject) == {"error": "sign-in-invalid"}


# -- Attacks -----------------------------------------------------------------------------------------------------------


def test_a_beginning_is_used_once(client: Client, uni: Institution, subject: str) -> None:
    url = client.start().json()["url"]
    back = uni.signs_in(url, subject)
    # A program that looks at links, or a browser that does before the person, uses nothing up.
    looks = [("HEAD", {}), ("GET", {"Sec-Purpose": "prefetch;prerender"}), ("GET", {"Purpose": "prefetch"})]
    for method, headers in (*looks, ("GET", {"X-Moz": "prefetch"})):
        seen = client.http.request(method, "/user/finishSignIn/", params=back, headers=headers)
        assert (seen.status_code, seen.headers["cache-control"]) == (400, "no-store")
    assert "ticket" in fragment_of(client.came_back(back))
    asked = len(uni.requests)
    for query in (back, {**back, "code": "another"}, {**back, "error": "access_denied"}):
        assert kind_of(client.came_back(query), 400) == "sign-in-expired"
    for state in (None, "", "0" * 64, "x", "\u0661" * 64, "x" * 9_000, back["state"].upper(), f"{back['state']} "):
        assert kind_of(client.came_back({**back, "state": state}), 400) == "sign-in-expired"
    assert len(uni.requests) == asked


def test_a_code_of_another_institution_is_sent_nowhere(
    client: Client, uni: Institution, institutions: ScriptedInstitutions, subject: str
) -> None:
    """Mix-up: the browser is made to bring an honest institution's code to a sign-in that began with another one."""
    other = institutions.institution("other")
    honest = uni.signs_in(client.start("uni").json()["url"], subject)
    mixed = other.signs_in(client.start("other").json()["url"], subject) | {"code": honest["code"]}
    assert fragment_of(client.came_back({**mixed, "iss": honest["iss"]})) == {"error": "sign-in-invalid"}
    mixed["state"] = other.signs_in(client.start("other").json()["url"], subject)["state"]
    assert fragment_of(client.came_back({**mixed, "iss": None})) == {"error": "sign-in-invalid"}
    assert "/token" not in [path for path, *_ in other.requests]
    other.begin_anew()


def test_a_code_of_another_beginning_is_worth_nothing(client: Client, uni: Institution, subject: str) -> None:
    """Somebody's code is put into another sign-in with the same institution: nonce and verifier are not its own."""
    stolen = uni.signs_in(client.start().json()["url"], subject)["code"]
    assert client.at(uni, "attacker", code=stolen) == {"error": "sign-in-invalid"}
    uni.id_token = lambda claims: uni.sign({**claims, "nonce": "0" * 64})
    assert client.at(uni, subject) == {"error": "sign-in-invalid"}


def test_a_ticket_works_once_for_the_client_that_began_and_at_either_worker(
    client: Client, server: Server, uni: Institution, subject: str
) -> None:
    ticket = client.ticket(uni, subject)
    with server.client() as http:
        other = Client(server, http)
        theirs = other.ticket(uni, f"{subject}-other")
        # A ticket that is swapped signs nobody in, and stays its owner's.
        for one, its in ((client, theirs), (other, ticket)):
            assert kind_of(one.redeem(its), 400) == "sign-in-expired"
        for verifier in ("", "x" * 43, client.verifier[:-1], client.verifier + "A", "x" * 129, "é" * 50):
            body = {"ticket": ticket, "verifier": verifier}
            assert kind_of(other.http.post("/user/redeemSignIn/", json=body), 400) == "sign-in-expired"
        assert other.redeem(theirs).status_code == 200
    assert client.redeem(ticket).status_code == 200
    for each in (ticket, "", "0" * 64, "x" * 10_000):
        assert kind_of(client.redeem(each), 400) == "sign-in-expired"


@once
def test_what_is_too_old_or_from_a_clock_that_was_ahead_is_worth_nothing(
    client: Client, server: Server, uni: Institution, subject: str
) -> None:
    for until_ in (timedelta(0), timedelta(hours=1)):
        back = uni.signs_in(client.start().json()["url"], subject)
        ticket = client.ticket(uni, subject)
        with server.engine() as engine, engine.begin() as connection:
            for table in (sign_ins, tickets):
                connection.execute(update(table).values(until=datetime.now(UTC) + until_))
        assert kind_of(client.came_back(back), 400) == "sign-in-expired"
        assert kind_of(client.redeem(ticket), 400) == "sign-in-expired"
    assert client.start().status_code == 200
    with server.engine() as engine, engine.connect() as connection:
        assert len(connection.execute(select(tickets)).all()) <= 1  # those from the future go when their time comes


@once
@pytest.mark.parametrize(
    "return_to",
    [
        "https://evil.example/", "http://localhost.evil.example/", "http://localhost:3000@evil.example/",
        "http://localhost:3000\\@evil.example/", "//evil.example/", "/signed-in", "javascript:alert(1)",
        "http://evil.example#http://localhost:3000/", "http://localhost:3000/#a", "http://localhost:3000/\r\nX: y",
        "http://localhost:3000/ /", "http://127.0.0.1.evil.example/", "http://2130706433/", "http://[::2]/",
        "data:text/html,x", "http://localhost:3000/\u2028", "http://ⓛocalhost/", "http://user@localhost:3000/",
        "ftp://localhost/", "http:///x", "http://localhost:3000evil.example/", "", "http://0.0.0.0:3000/",
        "http://localhost:3000/" + "x" * 2_000, "http://localhost:999999/", "http:localhost:3000/",
    ],
)  # fmt: skip
def test_a_browser_is_sent_back_only_to_where_the_administrator_allows(client: Client, return_to: str) -> None:
    assert named(client.start(return_to=return_to)) == {"return_to"}


@once
@pytest.mark.parametrize(
    "return_to",
    ["http://localhost:3000", "http://LOCALHOST:3000/a/b?c=d&e=%0A", "http://127.0.0.1:51234/x", "http://[::1]:5/"],
)
def test_a_browser_is_sent_back_below_an_origin_or_to_any_port_of_its_own_machine(
    client: Client, uni: Institution, subject: str, return_to: str
) -> None:
    url = client.start(return_to=return_to).json()["url"]
    sent = client.came_back(uni.signs_in(url, subject)).headers["location"]
    assert sent.startswith(f"{return_to}#ticket=")


@once
def test_every_bad_field_of_a_beginning_is_named(client: Client) -> None:
    assert named(client.start("nobody", return_to="x", challenge="")) == {"provider", "return_to", "challenge"}
    for challenge in ("x" * 42, "x" * 44, "=" * 43, "\u0661" * 43, client.verifier):
        assert named(client.start(challenge=challenge)) == {"challenge"}


@once
def test_beginnings_are_limited_in_total(client: Client, server: Server) -> None:
    now = datetime.now(UTC)
    with server.engine() as engine, engine.begin() as connection:
        rows = [
            {"digest": b"%d" % number, "institution": "uni", "return_to": RETURN_TO, "challenge": "c", "until": until_}
            for number, until_ in enumerate([now + timedelta(minutes=9)] * MAX_STARTED)
        ]
        connection.execute(sign_ins.insert(), rows)
    try:
        refused = client.start()
        assert kind_of(refused, 429) == "too-many-sign-ins"
        assert refused.headers["retry-after"] == "60"
    finally:
        with server.engine() as engine, engine.begin() as connection:
            connection.execute(update(sign_ins).values(until=now - timedelta(minutes=1)))
    assert client.start().status_code == 200
    with server.engine() as engine, engine.connect() as connection:
        left = len(connection.execute(select(sign_ins)).all())
    assert left < MAX_STARTED  # a thousand fewer, besides those of other tests


def test_nothing_secret_is_in_the_log_the_audit_or_the_database(
    client: Client, server: Server, uni: Institution, subject: str
) -> None:
    logged = len(server.log)
    back = uni.signs_in(client.start().json()["url"], subject)
    ticket = fragment_of(client.came_back(back))["ticket"]
    signed_in = client.redeem(ticket).json()
    client.at(uni, subject, code="a-code-that-is-wrong")
    # A path of the log has no query.
    until(lambda: server.log[logged:].count('"/user/finishSignIn"') == 2)
    verifiers = [form["code_verifier"] for path, _, form in uni.requests if path == "/token"]
    secret = [back["code"], back["state"], ticket, client.verifier, *verifiers, *uni.nonces, CLIENT_SECRET]
    secret += [*signed_in.values(), "a-code-that-is-wrong", *uni.tokens]
    with server.engine() as engine, engine.connect() as connection:
        stored = repr(
            [connection.execute(select(each)).all() for each in (sign_ins, tickets, identities, audit, sessions)]
        )
    for each in secret:
        assert each not in server.log[logged:]
        assert each not in stored
    assert "sign-in with uni failed: the code was refused: invalid_grant (400)" in server.log[logged:]


# -- The second factor -------------------------------------------------------------------------------------------------


def test_a_code_is_needed_where_two_factor_authentication_is_enabled_and_can_be_sent_again(
    client: Client, uni: Institution, subject: str, user: User
) -> None:
    body = {"ticket": client.ticket(uni, subject), "verifier": client.verifier, "password": PASSWORD}
    assert user.http.post("/user/linkIdentity/", json=body).status_code == 200
    secret = user.http.post("/user/enrollTwoFactor/", json={"password": PASSWORD}).json()["secret"]
    step = counter_at(datetime.now(UTC))
    first, second = (one_time_code(secret, each) for each in (step, step + 1))
    recovery = user.http.post("/user/confirmTwoFactor/", json={"code": first}).json()["recovery_codes"]
    ticket = client.ticket(uni, subject)
    assert kind_of(client.redeem(ticket), 400) == "second-factor-required"
    assert kind_of(client.redeem(ticket, code=first), 400) == "wrong-code"
    assert kind_of(client.redeem(ticket, code="no code"), 400) == "wrong-code"
    assert client.redeem(ticket, code=second).status_code == 200
    assert client.sign_in(uni, subject, code=recovery[0])
    # Codes are guessed no faster than after a password.
    ticket = client.ticket(uni, subject)
    refused = [kind_of(each, each.status_code) for each in (client.redeem(ticket, code="000000") for _ in range(7))]
    assert refused[-1] == "too-many-attempts"
    assert set(refused) == {"wrong-code", "too-many-attempts"}


# -- Linking -----------------------------------------------------------------------------------------------------------


def test_an_identity_is_linked_with_password_and_ticket_and_belongs_to_one_account(
    client: Client, uni: Institution, subject: str, user: User, other: User
) -> None:
    ticket = client.ticket(uni, subject)
    body = {"ticket": ticket, "verifier": client.verifier, "password": PASSWORD}
    assert kind_of(user.http.post("/user/linkIdentity/", json={**body, "password": "wrong"}), 400) == "bad-credentials"
    assert kind_of(user.http.post("/user/linkIdentity/", json={**body, "password": ""}), 400) == "bad-credentials"
    swapped = {**body, "verifier": "x" * 43}
    assert kind_of(user.http.post("/user/linkIdentity/", json=swapped), 400) == "sign-in-expired"
    made = user.http.post("/user/linkIdentity/", json=body)
    assert made.status_code == 200
    assert user.http.get("/user/getIdentities/").json() == [made.json()]
    assert kind_of(user.http.post("/user/linkIdentity/", json=body), 400) == "sign-in-expired"
    for again in (other, user):
        body["ticket"] = client.ticket(uni, subject)
        assert kind_of(again.http.post("/user/linkIdentity/", json=body), 409) == "identity-taken"
    assert other.http.get("/user/getIdentities/").json() == []


def test_an_identity_that_is_unlinked_signs_in_no_more_and_its_other_sessions_end(
    client: Client, uni: Institution, subject: str, user: User, other: User
) -> None:
    body = {"ticket": client.ticket(uni, subject), "verifier": client.verifier, "password": PASSWORD}
    identity = user.http.post("/user/linkIdentity/", json=body).json()["id"]
    there = client.sign_in(uni, subject)
    unlink = {"identity_id": identity, "password": PASSWORD}
    assert kind_of(other.http.post("/user/unlinkIdentity/", json=unlink), 404) == "identity-not-found"
    assert kind_of(user.http.post("/user/unlinkIdentity/", json={**unlink, "password": "x"}), 400) == "bad-credentials"
    assert info(client, there)
    assert user.http.post("/user/unlinkIdentity/", json=unlink).json() == "Identity unlinked"
    problem(client.http.get("/user/getInfo/", headers=there), 401)
    assert user.http.get("/user/getInfo/").status_code == 200
    assert info(client, client.sign_in(uni, subject))["username"] != user.account["username"]
    acts = [each["act"] for each in user.http.get("/user/exportData/").json()["audit"]]
    assert {"identity-linked", "identity-unlinked"} <= set(acts)


# -- Accounts without a password ---------------------------------------------------------------------------------------


def later(server: Server, minutes: int) -> None:
    """Let the newest session have begun so many minutes ago."""
    with server.engine() as engine, engine.begin() as connection:
        newest = connection.execute(select(sessions.c.id).order_by(sessions.c.id.desc()).limit(1)).scalar_one()
        when = datetime.now(UTC) - timedelta(minutes=minutes)
        connection.execute(update(sessions).where(sessions.c.id == newest).values(created_at=when))


def test_an_account_without_password_proves_itself_by_a_recent_sign_in(
    client: Client, server: Server, uni: Institution, institutions: ScriptedInstitutions, subject: str
) -> None:
    headers = client.sign_in(uni, subject)
    username = info(client, headers)["username"]
    for password in ("", PASSWORD):
        refused = client.http.post("/user/auth/", json={"username": username, "password": password})
        assert kind_of(refused, 400) == "bad-credentials"
    [identity] = linked(client, headers)
    other = institutions.institution("other")
    ticket = client.ticket(other, subject)
    asked: list[tuple[str, dict[str, Any]]] = [
        ("linkIdentity", {"ticket": ticket, "verifier": client.verifier}),
        ("unlinkIdentity", {"identity_id": identity["id"]}),
        ("enrollTwoFactor", {"password": ""}),
        ("deleteAccount", {"password": ""}),
    ]
    later(server, 6)
    for name, body in asked:
        refused = client.http.post(f"/user/{name}/", json=body, headers=headers)
        assert kind_of(refused, 409) == "recent-sign-in-required", name
    later(server, 4)
    unlink = client.http.post("/user/unlinkIdentity/", json=asked[1][1], headers=headers)
    assert kind_of(unlink, 409) == "last-way-in"
    assert client.http.post("/user/linkIdentity/", json=asked[0][1], headers=headers).status_code == 200
    # A password is set as any account's credentials are changed: with two-factor authentication.
    secret = client.http.post("/user/enrollTwoFactor/", json=asked[2][1], headers=headers).json()["secret"]
    step = counter_at(datetime.now(UTC))
    first, second = (one_time_code(secret, each) for each in (step, step + 1))
    recovery = client.http.post("/user/confirmTwoFactor/", json={"code": first}, headers=headers)
    change = {"current_password": "", "code": second, "password": PASSWORD}
    assert client.http.post("/user/updateCredentials/", json=change, headers=headers).status_code == 200
    code = recovery.json()["recovery_codes"][0]
    sent = {"username": username, "password": PASSWORD, "code": code}
    assert client.http.post("/user/auth/", json=sent).status_code == 200
    # With a password, that is what proves it.
    gone = client.http.post("/user/deleteAccount/", json={"password": ""}, headers=headers)
    assert kind_of(gone, 400) == "bad-credentials"
    sent = {"password": PASSWORD, "code": recovery.json()["recovery_codes"][1]}
    assert client.http.post("/user/deleteAccount/", json=sent, headers=headers).status_code == 200
    other.begin_anew()


def test_a_deleted_account_leaves_no_identity_and_the_next_sign_in_makes_another(
    client: Client, uni: Institution, subject: str, server: Server
) -> None:
    headers = client.sign_in(uni, subject)
    assert client.http.post("/user/deleteAccount/", json={"password": ""}, headers=headers).status_code == 200
    with server.engine() as engine, engine.connect() as connection:
        assert connection.execute(select(identities).where(identities.c.subject == subject)).first() is None
    assert len(linked(client, client.sign_in(uni, subject))) == 1


# -- Signed out there --------------------------------------------------------------------------------------------------


def sign_out(client: Client, token: str, **more: Any) -> httpx2.Response:
    return client.http.post("/user/backchannelLogout/", data={"logout_token": token}, **more)


def test_a_logout_at_the_institution_ends_the_sessions_of_the_identity_with_their_next_request(
    client: Client, uni: Institution, subject: str, user: User
) -> None:
    body = {"ticket": client.ticket(uni, subject), "verifier": client.verifier, "password": PASSWORD}
    assert user.http.post("/user/linkIdentity/", json=body).status_code == 200
    uni.id_token = lambda claims: uni.sign({**claims, "sid": "first"})
    first = client.sign_in(uni, subject)
    uni.id_token = lambda claims: uni.sign({**claims, "sid": "second"})
    second, stranger = client.sign_in(uni, subject), client.sign_in(uni, f"{subject}-stranger")
    ticket = client.ticket(uni, subject)
    token = uni.logout_token(subject, "first")
    ended = sign_out(client, token)
    assert (ended.status_code, ended.headers["cache-control"]) == (200, "no-store")
    problem(client.http.get("/user/getInfo/", headers=first), 401)
    assert info(client, second)
    assert kind_of(sign_out(client, token), 400) == "sign-in-invalid"  # it has counted
    assert sign_out(client, uni.logout_token(subject)).status_code == 200
    problem(client.http.get("/user/getInfo/", headers=second), 401)
    assert kind_of(client.redeem(ticket), 400) == "sign-in-expired"  # a ticket of before is over, too
    assert info(client, stranger)
    assert user.http.get("/user/getInfo/").status_code == 200  # it was opened with the password
    acts = [each["act"] for each in user.http.get("/user/exportData/").json()["audit"]]
    assert acts.count("signed-out-by-institution") == 2


def test_only_the_institution_signs_anybody_out(client: Client, uni: Institution, subject: str) -> None:
    headers = client.sign_in(uni, subject)
    forged = (
        uni.logout_token(subject, key="ec"),
        uni.logout_token(subject, nonce="n"),
        uni.logout_token(subject, iss="https://login.example.org"),
        uni.sign(uni.claims(subject, "n")),
        "",
        "x",
    )
    for token in forged:
        assert kind_of(sign_out(client, token), 400) == "sign-in-invalid"
    assert sign_out(client, uni.logout_token("nobody")).status_code == 200
    assert info(client, headers)
    where = "/user/backchannelLogout/"
    problem(client.http.post(where, json={"logout_token": uni.logout_token(subject)}), 415)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for content in (b"", b"logout_token", b"logout_token=\xff", b"a=1&" * 50, b"logout_token=x&logout_token=y"):
        problem(client.http.post(where, content=content, headers=form), 400)
    problem(client.http.post(where, content=b"x" * (3 * 2**20), headers=form), 413)
    assert info(client, headers)


def test_every_failure_is_in_the_audit_and_of_nobody_unless_it_is_known_whose(
    client: Client, server: Server, uni: Institution, subject: str
) -> None:
    with server.engine() as engine:
        with engine.connect() as connection:
            before = len(connection.execute(select(audit).where(audit.c.act == "sign-in-failed")).all())
        assert client.at(uni, subject, code=None, error="access_denied") == {"error": "sign-in-refused"}
        with engine.connect() as connection:
            rows = connection.execute(select(audit).where(audit.c.act == "sign-in-failed").order_by(audit.c.id)).all()
    assert len(rows) == before + 1
    assert (rows[-1].user_id, rows[-1].note) == (None, "sign-in-refused")
    assert subject not in json.dumps(rows[-1]._asdict(), default=str)
