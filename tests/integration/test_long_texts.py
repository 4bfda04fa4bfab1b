"""Every text field of every endpoint with a text of almost 1 MiB: the length is judged before anything else is done."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import psutil
import pytest

from tests.integration.conftest import once
from tests.integration.servers import SECRET, Server, User, baio, named, problem
from tests.integration.test_bad_input import FIELDS, Body, good

SIZE = 1_048_576 - 2_000
"""Bytes of the text: the rest of the body has room in what BAIO_MAX_BODY_BYTES leaves."""

CPU_SECONDS = 0.5
"""What a request may cost the server, Argon2 included. Work that is quadratic in the text costs minutes."""

TEXTS = {
    "alternating combining marks": "\u0315\u0300" * (SIZE // 4),
    "a letter and combining marks": "a" + "\u0316\u0301" * (SIZE // 4),
    "many words": "olenor " * (SIZE // 7) + ".",
    "one letter": "a" * SIZE,
    "digits": "9" * SIZE,
    "dashes": "-" * SIZE,
    "letters that become eighteen": "\ufdfa" * (SIZE // 3),
}

FIELDS_OF_TEXT = [
    (path, field)
    for path, fields in FIELDS.items()
    for field, kinds in fields.items()
    if str in (kinds if isinstance(kinds, tuple) else (kinds,))
]

# The kinds of refusal where it is not invalid input that names the field.
REFUSED = {
    ("/user/auth/", "username"): "bad-credentials",
    ("/user/auth/", "password"): "bad-credentials",
    ("/user/auth/", "code"): "wrong-code",
    ("/user/refresh/", "refresh"): "not-authenticated",
    ("/user/updateCredentials/", "current_password"): "bad-credentials",
    ("/user/updateCredentials/", "code"): "wrong-code",
    ("/user/enrollTwoFactor/", "password"): "bad-credentials",
    ("/user/confirmTwoFactor/", "code"): "second-factor-on",
    ("/user/disableTwoFactor/", "password"): "bad-credentials",
    ("/user/disableTwoFactor/", "code"): "wrong-code",
    ("/user/deleteAccount/", "password"): "bad-credentials",
    ("/user/deleteAccount/", "code"): "wrong-code",
    ("/user/createToken/", "password"): "bad-credentials",
    ("/user/createToken/", "code"): "wrong-code",
    ("/user/revokeToken/", "name"): "api-token-not-found",
    ("/v1/chat/completions/", "model"): "model-not-found",
    **{("/user/redeemSignIn/", field): "sign-in-expired" for field in ("ticket", "verifier", "code")},
    **{("/user/linkIdentity/", field): "second-factor-required" for field in ("ticket", "verifier")},
    ("/user/linkIdentity/", "password"): "bad-credentials",
    ("/user/linkIdentity/", "code"): "wrong-code",
    ("/user/unlinkIdentity/", "password"): "bad-credentials",
    ("/user/unlinkIdentity/", "code"): "wrong-code",
    ("/chat/deleteAPIKey/", "nickname"): "api-key-not-found",
    ("/chat/renameAPIKey/", "nickname"): "api-key-not-found",
    ("/chat/testAPIKey/", "nickname"): "api-key-not-found",
    ("/chat/sendMessage/", "apikey_nickname"): "api-key-not-found",
    ("/chat/regenerateAnswer/", "apikey_nickname"): "api-key-not-found",
    ("/chat/suggestTitle/", "apikey_nickname"): "api-key-not-found",
    ("/chat/createConversation/", "preset"): "preset-not-found",
    ("/chat/changeSettings/", "apikey_nickname"): "api-key-not-found",
    ("/chat/createPreset/", "apikey_nickname"): "api-key-not-found",
    ("/chat/addSequences/", "content"): "sequence-file-refused",
    ("/chat/deletePreset/", "name"): "preset-not-found",
}


@pytest.fixture(scope="module")
def asker(server: Server) -> Iterator[User]:
    """An administrator with a key and a question. Codes are looked at too, as administrators need them."""
    someone = User(server)
    someone.add_key()
    someone.ask(someone.begin())
    someone.become_administrator()
    yield someone
    someone.http.close()


@pytest.fixture(scope="module")
def reset_token(asker: User) -> str:
    """The token of a link with which the user could set a new password."""
    environment = {"BAIO_DATABASE_URL": asker.server.database, "BAIO_SECRET_KEY": SECRET}
    made = baio(environment, "resetpassword", asker.account["username"], "--link", "https://baio.example.org")
    return made.stdout.strip().partition("#")[2]


@contextmanager
def alive(server: Server) -> Iterator[None]:
    """Check that the server answers others all the time."""
    ended = threading.Event()
    failures: list[object] = []

    def ask() -> None:
        with server.client() as client:
            while not ended.wait(0.05):
                try:
                    client.get("/health/live", timeout=10).raise_for_status()
                except httpx2.HTTPError as error:
                    failures.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        ended.set()
        asking.join()
    assert failures == []


def sent(user: User, path: str, body: Body) -> httpx2.Response:
    """The response to this body, from an address that has not failed before."""
    content = json.dumps(body, ensure_ascii=False).encode()
    assert len(content) < 1_048_576
    with user.server.client() as client:
        address = client.headers["X-Forwarded-For"]
    headers = {"Content-Type": "application/json", "X-Forwarded-For": address}
    return user.http.post(path, content=content, headers=headers)


@once
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_of_almost_1_MiB_costs_no_more_than_its_refusal(
    server: Server, asker: User, reset_token: str, text: str
) -> None:
    process = psutil.Process(server.process.pid)

    def spent() -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    cost: dict[tuple[str, str], float] = {}
    with alive(server):
        for path, field in FIELDS_OF_TEXT:
            body: Body = {**good(asker, path), field: text}
            if path == "/user/resetPassword/" and field != "token":
                body["token"] = reset_token
            before = spent()
            response = sent(asker, path, body)
            cost[path, field] = spent() - before
            if (path, field) == ("/chat/sendMessage/", "content"):  # how long is too long is for the model to say
                assert response.status_code == 200
                assert asker.messages(body["conversation_id"])[-2] == ("user", text)
            elif field == "invitation":  # where none is required, none is looked at
                assert response.status_code == 201
            elif path == "/user/validateToken/":
                assert (response.status_code, response.json()["valid"]) == (401, False)
            elif (path, field) == ("/chat/addSequences/", "content") and set(text) <= set("ACGTacgt"):
                assert response.status_code == 201
            elif (path, field) in REFUSED:
                refused = problem(response, response.status_code)
                assert refused["type"] == f"urn:baio:error:{REFUSED[path, field]}", (path, field)
            else:
                assert named(response) == {field}, (path, field)
    assert {each: seconds for each, seconds in cost.items() if seconds > CPU_SECONDS} == {}


def test_the_table_names_fields_that_exist() -> None:
    assert REFUSED.keys() <= set(FIELDS_OF_TEXT)
