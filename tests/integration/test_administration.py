"""What an administrator does with accounts, while the server runs."""

import subprocess
import threading

import pytest

from tests.integration.scripted_provider import ScriptedProvider, gated
from tests.integration.servers import PASSWORD, SECRET, User, baio
from tests.integration.test_bad_input import problem

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


def test_an_account_is_made_and_signs_in(user: User) -> None:
    options = ("--email", "kari@example.no", "--first-name", "Kari", "--last-name", "Normann")
    made = administer(user, "createuser", "kari", *options, typed=f"{ANOTHER}\n")
    assert (made.returncode, made.stdout) == (0, "Made the account kari.\n"), made.stderr
    known = {"username": "kari", "password": ANOTHER}
    assert user.http.post("/user/auth/", json=known).status_code == 200
    again = administer(user, "createuser", "Kari", *options, typed=f"{ANOTHER}\n")
    assert again.returncode == 2
    assert "username: is taken already; email: is taken already" in again.stderr
    listed = administer(user, "listusers").stdout
    assert "kari  <kari@example.no>" in listed
    assert ANOTHER not in listed


@pytest.mark.parametrize("command", ["disableuser", "enableuser", "resetpassword"])
def test_an_account_that_is_not_there_is_one_line(user: User, command: str) -> None:
    refused = administer(user, command, "nobody", typed=f"{ANOTHER}\n")
    assert (refused.returncode, refused.stderr) == (2, "baio: username: there is no such account\n")
