"""What an administrator does with accounts, while the server runs."""

import getpass
import re
import subprocess
import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from baio_adapters.sql.tables import users
from baio_domain.one_time_codes import counter_at, one_time_code
from tests.integration.scripted_provider import ScriptedProvider, gated
from tests.integration.servers import PASSWORD, SECRET, User, baio, problem

ANOTHER = "enHeltAnnenSetning7"


def administer(user: User, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command on the server's database."""
    return baio({"BAIO_DATABASE_URL": user.server.database, "BAIO_SECRET_KEY": SECRET}, *arguments, typed=typed)


def sign_in(user: User, password: str = PASSWORD) -> int:
    known = {"username": user.account["username"], "password": password}
    return user.http.post("/user/auth/", json=known, headers={"Authorization": ""}).status_code


def test_a_disabled_account_is_shut_out_at_once_and_its_answers_stop(user: User, provider: ScriptedProvider) -> None:
    user.add_key()
    gate, conversation, name = threading.Event(), user.begin(), user.account["username"]
    provider.script(gated(gate, ("A codon",), (" is",)))
    with user.wire("/chat/sendMessage/", user.question(conversation)) as wire:
        assert wire.chunk() == b"A codon"
        done = administer(user, "disableuser", name.upper())
        assert (done.returncode, done.stdout) == (0, f"Disabled {name}.\n"), done.stderr
        assert wire.chunks() == ([], True)
        provider.wait_until_left(-1, 5)
    gate.set()
    problem(user.http.get("/user/getInfo/"), 401)
    problem(user.http.post("/user/refresh/", json={"refresh": user.refresh}), 401)
    assert sign_in(user) == 400
    assert "disabled 20" in next(line for line in administer(user, "listusers").stdout.splitlines() if name in line)
    assert administer(user, "enableuser", name).stdout == f"Enabled {name}.\n"
    problem(user.http.get("/user/getInfo/"), 401)  # its sessions have ended, for good
    user.sign_in()
    assert user.messages(conversation)[-1] == ("baio", "A codon")


def test_a_password_is_reset_by_the_rules_and_is_no_argument(user: User) -> None:
    name = user.account["username"]
    for bad in ("short", name, "12345678901", "password"):
        refused = administer(user, "resetpassword", name, typed=f"{bad}\n")
        assert refused.returncode == 2
        assert refused.stderr.startswith("baio: password: ")
        assert refused.stderr.count("\n") == 1
    assert sign_in(user) == 200
    assert administer(user, "resetpassword", name, typed=f"{ANOTHER}\n").stdout == f"{name} has a new password.\n"
    assert (sign_in(user), sign_in(user, ANOTHER)) == (400, 200)


def test_a_reset_ends_every_session(user: User) -> None:
    administer(user, "resetpassword", user.account["username"], typed=f"{ANOTHER}\n")
    problem(user.http.get("/user/getInfo/"), 401)
    problem(user.http.post("/user/refresh/", json={"refresh": user.refresh}), 401)


def test_a_link_sets_a_password_once(user: User) -> None:
    name = user.account["username"]
    made = administer(user, "resetpassword", name, "--link", "https://baio.example.org/")
    assert (made.returncode, made.stderr.count("\n")) == (0, 1)
    page, _, token = made.stdout.strip().partition("#")
    assert page == "https://baio.example.org/resetPassword"
    assert len(token) == 64
    opened = user.http.get("/resetPassword")
    assert (opened.status_code, opened.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = opened.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert (sign_in(user), user.http.get("/user/getInfo/").status_code) == (200, 200)
    for bad in ({"token": token, "password": name}, {"token": token[1:], "password": ANOTHER}):
        problem(user.http.post("/user/resetPassword/", json=bad), 400)
    done = user.http.post("/user/resetPassword/", json={"token": token, "password": ANOTHER})
    assert (done.status_code, done.json()) == (200, "Password changed")
    problem(user.http.post("/user/resetPassword/", json={"token": token, "password": PASSWORD}), 400)
    problem(user.http.get("/user/getInfo/"), 401)
    assert (sign_in(user), sign_in(user, ANOTHER)) == (400, 200)
    assert administer(user, "resetpassword", name, "--link").stdout.startswith("http://localhost:8000/resetPassword#")


def test_a_second_factor_that_is_lost_is_turned_off(user: User) -> None:
    name = user.account["username"]
    refused = administer(user, "resettwofactor", name)
    assert (refused.returncode, refused.stderr) == (
        2,
        "baio: username: this account has no two-factor authentication\n",
    )
    secret = user.http.post("/user/enrollTwoFactor/", json={"password": PASSWORD}).json()["secret"]
    code = one_time_code(secret, counter_at(datetime.now(UTC)))
    assert user.http.post("/user/confirmTwoFactor/", json={"code": code}).status_code == 200
    assert sign_in(user) == 400
    done = administer(user, "resettwofactor", name)
    assert (done.returncode, done.stdout) == (0, f"{name} now signs in with only the password.\n")
    problem(user.http.get("/user/getInfo/"), 401)
    assert sign_in(user) == 200


def audit_of(user: User, *arguments: str) -> list[list[str]]:
    """The lines of the audit, by columns."""
    shown = administer(user, "audit", *arguments)
    assert (shown.returncode, shown.stderr) == (0, "")
    return [re.split(r" {2,}", line) for line in shown.stdout.splitlines()]


def test_the_audit_tells_who_did_what_when_from_where_and_in_which_request(user: User) -> None:
    name, address = user.account["username"], user.http.headers["X-Forwarded-For"]
    user.http.headers["X-Request-ID"] = "the-request"
    assert sign_in(user, "wrong") == 400
    user.add_key()
    administer(user, "disableuser", name)
    lines = audit_of(user, "--user", name.upper())
    assert [line[1] for line in lines] == [
        "registered", "signed-in", "sign-in-failed", "api-key-added", "account-disabled",
    ]  # fmt: skip
    for line in lines:
        assert abs(datetime.fromisoformat(line[0]) - datetime.now(UTC)) < timedelta(minutes=2)
        assert line[2] == name
    assert lines[2][3:] == [address, "the-request", "bad-credentials"]
    assert lines[3][3:] == [address, "the-request", "OpenAI"]
    assert lines[4][3:] == [f"administrator {getpass.getuser()}", "-"]
    assert audit_of(user, "--user", name, "--last", "2") == lines[-2:]
    assert lines[-1] in audit_of(user)
    assert administer(user, "audit", "--user", "nobody").returncode == 2


def test_a_line_break_in_what_somebody_says_is_one_line_of_the_audit(user: User) -> None:
    before = len(audit_of(user))
    forged = "olenor\n2024-01-15T10:00:00.000000Z  signed-in  root\x1b[2J\u2028"
    assert user.http.post("/user/auth/", json={"username": forged, "password": "x"}).status_code == 400
    # A name as no registration lets it through.
    with user.server.engine() as engine, engine.begin() as connection:
        mine = users.c.username == user.account["username"]
        connection.execute(update(users).where(mine).values(username=forged))
    lines = audit_of(user)
    assert len(lines) == before + 1
    [name] = {line[2] for line in lines if "olenor\\n" in line[2]}
    assert name.isprintable()
    assert "\\x1b" in "".join(map(str, lines))


def test_an_account_is_made_and_signs_in(user: User) -> None:
    options = ("--email", "kari@example.no", "--first-name", "Kari", "--last-name", "Normann")
    made = administer(user, "createuser", "kari", *options, typed=f"{ANOTHER}\n")
    assert (made.returncode, made.stdout) == (0, "Created the account kari.\n"), made.stderr
    known = {"username": "kari", "password": ANOTHER}
    assert user.http.post("/user/auth/", json=known).status_code == 200
    again = administer(user, "createuser", "Kari", *options, typed=f"{ANOTHER}\n")
    assert again.returncode == 2
    assert "username: is already taken; email: is already taken" in again.stderr
    listed = administer(user, "listusers").stdout
    assert "kari  <kari@example.no>" in listed
    assert ANOTHER not in listed


@pytest.mark.parametrize("command", ["disableuser", "enableuser", "resetpassword", "resettwofactor"])
def test_an_account_that_is_not_there_is_one_line(user: User, command: str) -> None:
    refused = administer(user, command, "nobody", typed=f"{ANOTHER}\n")
    assert (refused.returncode, refused.stderr) == (2, "baio: username: there is no such account\n")
