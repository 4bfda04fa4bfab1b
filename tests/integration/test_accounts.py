"""Sessions, two-factor authentication and limits on guessing, over HTTP with two workers on each database."""

import time
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from baio_adapters.secrets import AesGcmBox
from baio_adapters.sql.tables import guesses, sessions, users
from baio_domain.one_time_codes import counter_at, one_time_code
from tests.integration.conftest import NewDatabase, settings_for
from tests.integration.scripted_provider import ScriptedProvider
from tests.integration.servers import PASSWORD, SECRET, Server, User, problem, registration, running_server

ANOTHER = "enHeltAnnenSetning7"


pytestmark = pytest.mark.two_workers  # what one of them has done, the other must know with the very next request


class Session:
    """One sign-in of a user's, on connections of its own, so that either worker may get each request."""

    def __init__(self, user: User, **more: str) -> None:
        known = {name: user.account[name] for name in ("username", "password")}
        answered = user.http.post("/user/auth/", json={**known, **more}, headers={"Authorization": ""})
        assert answered.status_code == 200, answered.text
        self.server, self.user = user.server, user
        self.access: str = answered.json()["access"]
        self.refresh: str = answered.json()["refresh"]

    def call(self, path: str, body: dict[str, Any] | None = None) -> httpx2.Response:
        """Get, or post."""
        headers = {
            "Authorization": f"Bearer {self.access}",
            "X-Forwarded-For": self.user.http.headers["X-Forwarded-For"],
        }
        with self.server.client(headers=headers) as client:
            return client.get(path) if body is None else client.post(path, json=body)

    def stands(self) -> bool:
        """Whether its access token, its refresh token and a look at the token all say so, several times over."""
        said = set()
        for _ in range(3):
            said.add(self.call("/user/getInfo/").status_code)
            said.add(self.call("/user/refresh/", {"refresh": self.refresh}).status_code)
            said.add(self.call("/user/validateToken/", {"token": self.access}).status_code)
        assert len(said) == 1, said
        return said == {200}


# -- Sessions ----------------------------------------------------------------------------------------------------------


def test_sessions_are_listed_with_the_one_that_asks(user: User) -> None:
    with user.server.client(headers={"User-Agent": "Firefox \N{LATIN SMALL LETTER E WITH ACUTE}".encode()}) as client:
        known = {name: user.account[name] for name in ("username", "password")}
        tokens = client.post("/user/auth/", json=known).json()
    found = user.http.get("/user/getSessions/", headers={"Authorization": f"Bearer {tokens['access']}"}).json()
    assert [list(each) for each in found] == [["id", "created_at", "last_used_at", "user_agent", "current"]] * 2
    assert [each["current"] for each in found] == [True, False]
    assert found[0]["id"] > found[1]["id"]
    assert found[0]["user_agent"].startswith("Firefox ")
    assert found[1]["user_agent"] == user.http.headers["User-Agent"]
    assert found[0]["created_at"].endswith("Z")


def test_a_refresh_is_a_use_and_does_not_rotate(user: User) -> None:
    before = user.http.get("/user/getSessions/").json()[0]
    for _ in range(2):
        renewed = user.http.post("/user/refresh/", json={"refresh": user.refresh})
        assert list(renewed.json()) == ["access"]
    after = user.http.get("/user/getSessions/").json()[0]
    assert after["last_used_at"] > before["last_used_at"]
    assert after["created_at"] == before["created_at"]


def test_signing_out_ends_that_session_with_the_very_next_request(user: User) -> None:
    one, another = Session(user), Session(user)
    done = one.call("/user/logout/", {"refresh": one.refresh})
    assert (done.status_code, done.json()) == (200, "Signed out")
    assert not one.stands()
    assert another.stands()
    again = one.call("/user/logout/", {"refresh": one.refresh})
    assert (again.status_code, again.json()) == (200, "Signed out")
    problem(one.call("/user/logout/", {"refresh": another.access}), 400)


def test_signing_out_everywhere_ends_all_sessions_of_that_account_alone(user: User, other: User) -> None:
    mine, theirs = [Session(user) for _ in range(3)], Session(other)
    done = mine[0].call("/user/logoutEverywhere/", {})
    assert (done.status_code, done.json()) == (200, "Signed out everywhere")
    assert [each.stands() for each in mine] == [False] * 3
    assert theirs.stands()
    problem(mine[0].call("/user/logoutEverywhere/", {}), 401)


@pytest.mark.parametrize("column", ["last_used_at", "created_at"])
def test_a_session_that_is_unused_or_too_old_gives_no_more_access(column: str, user: User, other: User) -> None:
    one = Session(user)
    days = {"last_used_at": 1, "created_at": 30}[column]
    with user.server.engine() as engine, engine.begin() as connection:
        owner = connection.execute(users.select().where(users.c.username == user.account["username"])).one().id
        long_ago = datetime.now(UTC) - timedelta(days=days, seconds=5)
        connection.execute(update(sessions).where(sessions.c.user_id == owner).values({column: long_ago}))
    problem(one.call("/user/refresh/", {"refresh": one.refresh}), 401)
    assert one.call("/user/getSessions/").json() == []
    Session(other)  # anybody's sign-in clears them away
    assert not one.stands()


def test_every_request_of_an_ended_session_is_refused_and_changes_nothing(user: User) -> None:
    one = Session(user)
    user.http.post("/user/logout/", json={"refresh": one.refresh})
    before = user.server.rows()
    for path, body in (
        ("/user/updateInfo/", {"country": "Sweden"}),
        ("/user/enrollTwoFactor/", {"password": PASSWORD}),
        ("/user/deleteAccount/", {"password": PASSWORD}),
        ("/chat/createConversation/", {}),
        ("/chat/addAPIKey/", {"key": "sk-stolen", "nickname": "Stolen"}),
        ("/chat/getApiKeys/", None),
        ("/user/exportData/", None),
    ):
        problem(one.call(path, body), 401)
    assert user.server.rows() == before


# -- Two-factor authentication -----------------------------------------------------------------------------------------


class App:
    """An authenticator app that gives each code once, as its server takes each once.

    A code of the step to come is accepted too, so that a test needs to wait for the clock rarely.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        enrolled = session.call("/user/enrollTwoFactor/", {"password": PASSWORD})
        assert enrolled.status_code == 200, enrolled.text
        self.enrolment: dict[str, str] = enrolled.json()
        self.seed = self.enrolment["secret"]
        self.used = counter_at(datetime.now(UTC)) - 2
        confirmed = session.call("/user/confirmTwoFactor/", {"code": self.code()})
        assert confirmed.status_code == 200, confirmed.text
        self.recovery: list[str] = confirmed.json()["recovery_codes"]

    def code(self) -> str:
        """The earliest code that will still be accepted in ten seconds; the next one is another."""
        while True:
            now = datetime.now(UTC)
            step = max(self.used + 1, counter_at(now + timedelta(seconds=10)) - 1)  # on a busy machine, too
            if step <= counter_at(now) + 1:
                self.used = step
                return one_time_code(self.seed, step)
            time.sleep(0.2)

    def wrong(self) -> str:
        """A code of no step nearby."""
        now = counter_at(datetime.now(UTC))
        near = {one_time_code(self.seed, now + step) for step in range(-5, 6)}
        return next(text for number in range(20) if (text := f"{number:06}") not in near)


@pytest.fixture
def app(user: User) -> App:
    """Somebody's app, with two-factor authentication on."""
    return App(Session(user))


def refused(response: httpx2.Response, status: int, slug: str) -> None:
    """It is this very problem."""
    assert problem(response, status)["type"] == f"urn:baio:error:{slug}"


def sign_in(user: User, password: str = PASSWORD, **more: str) -> httpx2.Response:
    """One more sign-in, from the user's address, on whichever worker."""
    with user.server.client(headers={"X-Forwarded-For": user.http.headers["X-Forwarded-For"]}) as client:
        return client.post("/user/auth/", json={"username": user.account["username"], "password": password, **more})


def test_enrolment_gives_a_secret_a_uri_and_a_picture(user: User) -> None:
    session = Session(user)
    assert session.call("/user/getTwoFactor/").json() == {"enabled": False, "recovery_codes_left": 0}
    app = App(session)
    assert list(app.enrolment) == ["secret", "otpauth_uri", "qr_svg"]
    assert app.enrolment["otpauth_uri"].startswith(f"otpauth://totp/BAiO:{user.account['username']}?secret={app.seed}&")
    picture = ET.fromstring(app.enrolment["qr_svg"])
    assert picture.tag.endswith("svg")
    assert len(set(app.recovery)) == 10
    assert session.call("/user/getTwoFactor/").json() == {"enabled": True, "recovery_codes_left": 10}


def test_a_sign_in_needs_a_code_after_the_right_password_alone(user: User, app: App) -> None:
    refused(sign_in(user), 400, "second-factor-required")
    refused(sign_in(user, "wrong"), 400, "bad-credentials")
    refused(sign_in(user, "wrong", code=app.code()), 400, "bad-credentials")
    refused(sign_in(user, code=app.wrong()), 400, "wrong-code")
    signed_in = sign_in(user, code=app.code())
    assert (signed_in.status_code, list(signed_in.json())) == (200, ["refresh", "access"])


def test_codes_from_any_keyboard_are_what_the_person_meant(user: User, app: App) -> None:
    code = "".join(unicodedata.lookup(f"FULLWIDTH {unicodedata.name(digit)}") for digit in app.code())
    assert sign_in(user, code=f"\u200b{code[:3]}\u2013{code[3:]}\u3000").status_code == 200
    assert sign_in(user, code=app.recovery[0].upper().replace("-", " — ")).status_code == 200


def test_a_code_is_accepted_once_and_none_before_it_after_it(user: User, app: App) -> None:
    previous, current = app.code(), app.code()
    assert sign_in(user, code=current).status_code == 200
    refused(sign_in(user, code=current), 400, "wrong-code")
    refused(sign_in(user, code=previous), 400, "wrong-code")
    assert sign_in(user, code=app.recovery[3]).status_code == 200
    refused(sign_in(user, code=app.recovery[3]), 400, "wrong-code")
    assert app.session.call("/user/getTwoFactor/").json()["recovery_codes_left"] == 9


@pytest.mark.parametrize("kind", ["one-time", "recovery"])
def test_of_uses_of_one_code_that_race_one_is_accepted(kind: str, user: User, app: App) -> None:
    code = app.code() if kind == "one-time" else app.recovery[0]
    with ThreadPoolExecutor(4) as threads:
        answered = list(threads.map(lambda _: sign_in(user, code=code), range(4)))
    assert sorted(each.status_code for each in answered) == [200, 400, 400, 400]


def test_six_wrong_codes_are_too_many_and_the_owner_elsewhere_still_gets_in(user: User, app: App) -> None:
    answered = [sign_in(user, code=app.wrong()) for _ in range(6)]
    assert [each.status_code for each in answered] == [400] * 5 + [429]
    assert 0 < int(answered[-1].headers["retry-after"]) <= 60
    refused(sign_in(user, code=app.recovery[0]), 429, "too-many-attempts")
    with user.server.client() as elsewhere:
        known = {"username": user.account["username"], "password": PASSWORD, "code": app.recovery[0]}
        assert elsewhere.post("/user/auth/", json=known).status_code == 200


def test_it_is_turned_off_with_password_and_code(user: User, app: App) -> None:
    refused(app.session.call("/user/enrollTwoFactor/", {"password": PASSWORD}), 409, "second-factor-on")
    refused(
        app.session.call("/user/disableTwoFactor/", {"password": "wrong", "code": app.code()}), 400, "bad-credentials"
    )
    refused(app.session.call("/user/disableTwoFactor/", {"password": PASSWORD, "code": app.wrong()}), 400, "wrong-code")
    done = app.session.call("/user/disableTwoFactor/", {"password": PASSWORD, "code": app.recovery[0]})
    assert (done.status_code, done.json()) == (200, "Two-factor authentication disabled")
    assert sign_in(user).status_code == 200
    refused(
        app.session.call("/user/disableTwoFactor/", {"password": PASSWORD, "code": "1"}), 403, "second-factor-missing"
    )
    refused(app.session.call("/user/confirmTwoFactor/", {"code": "123456"}), 409, "not-enrolled")


def test_credentials_change_with_password_and_code_and_end_all_other_sessions(user: User) -> None:
    session, another = Session(user), Session(user)
    body = {"current_password": PASSWORD, "code": "123456", "email": "new@example.no"}
    for none in (body, {"current_password": PASSWORD}, {**body, "email": "nobody"}):
        refused(session.call("/user/updateCredentials/", none), 403, "second-factor-missing")
    app = App(session)
    new = registration()
    for wrong, slug in (
        ({"current_password": "wrong", "code": app.recovery[0]}, "bad-credentials"),
        ({"code": app.wrong()}, "wrong-code"),
        ({"code": ""}, "second-factor-required"),
        ({"email": "nobody", "code": app.recovery[0]}, "invalid-input"),
    ):
        refused(session.call("/user/updateCredentials/", {**body, **wrong}), 400, slug)
    assert another.stands()
    changes = {"username": new["username"], "email": new["email"], "password": ANOTHER}
    changed = session.call("/user/updateCredentials/", {**body, "code": app.recovery[0], **changes})
    assert changed.status_code == 200, changed.text
    assert changed.json() == session.call("/user/getInfo/").json()
    assert (changed.json()["username"], changed.json()["email"]) == (new["username"], new["email"])
    assert session.stands()
    assert not another.stands()
    user.account |= {"username": new["username"]}
    refused(sign_in(user, code=app.recovery[1]), 400, "bad-credentials")
    assert sign_in(user, ANOTHER, code=app.recovery[1]).status_code == 200


def test_a_stolen_access_token_neither_changes_credentials_nor_survives_their_change(user: User, app: App) -> None:
    stolen = Session(user, code=app.recovery[0])
    for code in (app.wrong(), "", "000000-000000"):
        answered = stolen.call(
            "/user/updateCredentials/", {"current_password": "guessed", "code": code, "password": ANOTHER}
        )
        refused(answered, 400, "bad-credentials")
    mine = {"current_password": PASSWORD, "code": app.recovery[1], "password": ANOTHER}
    assert app.session.call("/user/updateCredentials/", mine).status_code == 200
    assert not stolen.stands()


def test_an_account_with_it_on_is_deleted_with_a_code(app: App) -> None:
    refused(app.session.call("/user/deleteAccount/", {"password": PASSWORD}), 400, "second-factor-required")
    done = app.session.call("/user/deleteAccount/", {"password": PASSWORD, "code": app.recovery[0]})
    assert (done.status_code, done.json()) == (200, "Account deleted")
    assert not app.session.stands()


# -- Guessing ----------------------------------------------------------------------------------------------------------


def test_guessing_at_an_account_is_limited_on_both_workers_and_locks_nobody_out(user: User) -> None:
    answered = [sign_in(user, "wrong") for _ in range(24)]
    assert [each.status_code for each in answered] == [400] * 20 + [429] * 4
    assert 0 < int(answered[-1].headers["retry-after"]) <= 60
    refused(sign_in(user), 429, "too-many-attempts")
    with user.server.client() as elsewhere:
        known = {"username": user.account["username"], "password": PASSWORD}
        assert elsewhere.post("/user/auth/", json=known).status_code == 200


def test_guesses_at_once_are_counted_as_one_by_one(user: User) -> None:
    with ThreadPoolExecutor(40) as threads:
        answered = list(threads.map(lambda _: sign_in(user, "wrong"), range(40)))
    statuses = [each.status_code for each in answered]
    assert (statuses.count(400), statuses.count(429)) == (20, 20)


@contextmanager
def counted(server: Server, attempts: timedelta, *named: str) -> Iterator[None]:
    """Count so many failures, as far as they still count against the named account, without their passwords."""
    key = AesGcmBox(lambda: [SECRET.encode()]).fingerprint("guesses", *named)
    with server.engine() as engine, engine.begin() as connection:
        connection.execute(guesses.delete().where(guesses.c.key == key))
        connection.execute(guesses.insert().values(key=key, until=datetime.now(UTC) + attempts))
    try:
        yield
    finally:
        with server.engine() as engine, engine.begin() as connection:
            connection.execute(guesses.delete().where(guesses.c.key == key))


def test_an_address_is_limited_whatever_accounts_it_guesses_at(server: Server) -> None:
    begun = time.monotonic()
    with server.client() as client, ThreadPoolExecutor(4) as threads:

        def guess(number: int) -> int:
            known = {"username": f"nobody{number}", "password": "wrong"}
            return client.post("/user/auth/", json=known).status_code

        with counted(server, timedelta(seconds=6 * 92), "address", client.headers["X-Forwarded-For"]):
            statuses = list(threads.map(guess, range(24)))
    # One more is allowed whenever six seconds have passed.
    assert 8 <= statuses.count(400) <= 9 + (time.monotonic() - begun) / 6
    assert statuses.count(429) == 24 - statuses.count(400) > 0


def test_while_the_service_is_attacked_who_has_not_failed_gets_in(user: User, other: User) -> None:
    with counted(user.server, timedelta(seconds=1050), "service"):
        refused(sign_in(user, "wrong"), 400, "bad-credentials")
        refused(sign_in(user), 429, "too-many-attempts")
        assert sign_in(other).status_code == 200


def last_address(user: User) -> str:
    """From where the user has signed in last, as the audit has it."""
    entries = user.http.get("/user/exportData/").json()["audit"]
    return [str(entry["address"]) for entry in entries if entry["act"] == "signed-in"][-1]


def test_an_address_is_believed_from_trusted_proxies_only(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for proxies, believed in (("10.0.0.0/8, 192.0.2.1", False), ("127.0.0.0/8,2001:db8::/32", True)):
        settings = {**settings_for(new_database.prepared(), provider), "BAIO_TRUSTED_PROXIES": proxies}
        with running_server(tmp_path_factory.mktemp("proxies"), settings) as server:
            user = User(server)
            user.http.headers["X-Forwarded-For"] = "198.51.100.7, 2001:db8::1, 127.0.0.9"
            user.sign_in()
            # The nearest that is not one of the proxies: what stands before it, anybody can write.
            assert last_address(user) == ("198.51.100.7" if believed else "127.0.0.1")
            user.http.headers["X-Forwarded-For"] = "203.0.113.1, 198.51.100.7"
            user.sign_in()
            assert last_address(user) == ("198.51.100.7" if believed else "127.0.0.1")
            # A user inside of a trusted network, who forges an address.
            user.http.headers["X-Forwarded-For"] = "127.66.66.66, 127.1.1.1"
            user.sign_in()
            assert last_address(user) == ("127.1.1.1" if believed else "127.0.0.1")
            user.http.close()


def test_the_three_failed_sign_ins_take_the_same_time(server: Server, user: User, other: User) -> None:
    with server.engine() as engine, engine.begin() as connection:
        mine = users.c.username == other.account["username"]
        connection.execute(update(users).where(mine).values(disabled_at=datetime.now(UTC)))
    attempts = {
        "nobody": {"username": "nobody-has-this-name", "password": PASSWORD},
        "wrong": {"username": user.account["username"], "password": "oleFeilPassord123"},
        "disabled": {"username": other.account["username"], "password": PASSWORD},
    }
    took = dict.fromkeys(attempts, 0.0)  # seconds of the server's CPU
    bodies = set()
    for _ in range(5):
        for _ in range(15):
            for name, attempt in attempts.items():
                with server.client() as client:
                    client.get("/health/live")
                    before = server.cpu_seconds()
                    answered = client.post("/user/auth/", json=attempt)
                    took[name] += server.cpu_seconds() - before
                bodies.add((answered.status_code, answered.text))
        if max(took.values()) < 1.25 * min(took.values()):
            break
    assert len(bodies) == 1
    assert max(took.values()) < 1.25 * min(took.values()), took
