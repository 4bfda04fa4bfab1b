"""Keys, all their life: renamed, deleted, tested with their provider, and encrypted anew while the server runs."""

import contextlib
import copy
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import jwt
import pytest

from baio_adapters.tokens import JwtIssuer
from baio_domain.one_time_codes import counter_at, one_time_code
from tests.integration.conftest import NewDatabase, settings_for
from tests.integration.scripted_provider import (
    ScriptedProvider,
    answer,
    gated,
    models,
    redirect,
    refuse,
    silence,
    whole,
)
from tests.integration.servers import KEY, PASSWORD, SECRET, Server, User, baio, named, problem, running_server

NEW_SECRET = "pX4vLq8Zt2Wm6Ks9Rb3Yc7Nd1Hj5Fg0Ue"


@pytest.fixture
def owner(user: User) -> User:
    """Somebody with a key."""
    user.add_key("Mine")
    return user


def nicknames(user: User) -> list[str]:
    return [each["nickname"] for each in user.http.get("/chat/getApiKeys/").json()]


def asked_with(provider: ScriptedProvider) -> str:
    return provider.requests[-1].headers["authorization"].removeprefix("Bearer ")


# -- Renaming and deleting ---------------------------------------------------------------------------------------------


def test_a_renamed_key_is_asked_with_under_its_new_nickname(owner: User, provider: ScriptedProvider) -> None:
    renamed = owner.http.post("/chat/renameAPIKey/", json={"nickname": " Mine ", "new_nickname": " The lab's "})
    assert (renamed.status_code, renamed.json()) == (200, "API key successfully renamed to The lab's")
    assert nicknames(owner) == ["The lab's"]
    conversation = owner.begin()
    problem(owner.ask(conversation, apikey_nickname="Mine"), 404)
    assert owner.ask(conversation, apikey_nickname="The lab's").status_code == 200
    assert asked_with(provider) == KEY


def test_a_nickname_that_is_taken_too_long_or_blank_is_refused_by_name_and_changes_nothing(owner: User) -> None:
    owner.add_key("Another")
    for new in ("Another", " Another ", "", "   ", "x" * 256):
        refused = owner.http.post("/chat/renameAPIKey/", json={"nickname": "Mine", "new_nickname": new})
        assert named(refused) == {"new_nickname"}, new
    assert nicknames(owner) == ["Mine", "Another"]
    same = owner.http.post("/chat/renameAPIKey/", json={"nickname": "Mine", "new_nickname": "Mine"})
    assert same.status_code == 200


def test_a_deleted_key_is_gone_and_its_nickname_is_free(owner: User, provider: ScriptedProvider) -> None:
    deleted = owner.http.post("/chat/deleteAPIKey/", json={"nickname": "Mine"})
    assert (deleted.status_code, deleted.json()) == (200, "API key Mine successfully deleted")
    assert nicknames(owner) == []
    problem(owner.http.post("/chat/deleteAPIKey/", json={"nickname": "Mine"}), 404)
    problem(owner.ask(owner.begin(), apikey_nickname="Mine"), 404)
    assert provider.requests == []
    owner.add_key("Mine", "sk-another")
    assert owner.ask(owner.begin(), apikey_nickname="Mine").status_code == 200
    assert asked_with(provider) == "sk-another"


@pytest.mark.parametrize("path", ["deleteAPIKey", "renameAPIKey", "testAPIKey"])
def test_somebody_elses_key_and_none_are_the_same_404(owner: User, other: User, path: str) -> None:
    answers = [
        other.http.post(f"/chat/{path}/", json={"nickname": nickname, "new_nickname": "x"})
        for nickname in ("Mine", "nothing")
    ]
    assert problem(answers[0], 404) == problem(answers[1], 404)
    assert nicknames(owner) == ["Mine"]


def test_deleting_a_key_stops_the_answers_that_use_it_and_keeps_their_text(
    owner: User, provider: ScriptedProvider
) -> None:
    owner.add_key("Another")
    gate, conversation, elsewhere = threading.Event(), owner.begin(), owner.begin()
    provider.script(gated(gate, ("A codon",), (" is",)), gated(gate, ("Another",), (" goes on",)))
    with owner.wire("/chat/sendMessage/", owner.question(conversation, apikey_nickname="Mine")) as stopped:
        assert stopped.chunk() == b"A codon"
        with owner.wire("/chat/sendMessage/", owner.question(elsewhere, apikey_nickname="Another")) as going_on:
            assert going_on.chunk() == b"Another"
            assert owner.http.post("/chat/deleteAPIKey/", json={"nickname": "Mine"}).status_code == 200
            assert stopped.chunks() == ([], True)
            gate.set()
            assert going_on.chunks() == ([b" goes on"], True)
    assert owner.messages(conversation)[1:] == [("user", "What is a codon?"), ("baio", "A codon")]
    states = [
        owner.http.get("/chat/getAnswers/", params={"conversation_id": each}).json()[0]["state"]
        for each in (conversation, elsewhere)
    ]
    assert states == ["stopped", "complete"]


# -- Testing -----------------------------------------------------------------------------------------------------------


def checked(user: User) -> tuple[bool | None, str]:
    found = user.http.post("/chat/testAPIKey/", json={"nickname": "Mine"})
    assert found.status_code == 200
    assert list(found.json()) == ["nickname", "valid", "reason"]
    assert found.json()["nickname"] == "Mine"
    return found.json()["valid"], found.json()["reason"]


def test_a_key_is_tested_by_asking_for_the_models_which_costs_nothing(owner: User, provider: ScriptedProvider) -> None:
    provider.models = models("gpt-4o")
    assert checked(owner) == (True, "OpenAI accepts the key.")
    assert [(each.method, each.path) for each in provider.requests] == [("GET", "/v1/models")]
    assert asked_with(provider) == KEY


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_the_provider_refuses_is_not_valid(owner: User, provider: ScriptedProvider, status: int) -> None:
    provider.models = refuse(status)
    assert checked(owner) == (False, "OpenAI refuses the key.")


NO_SCOPE = {
    "error": {"message": "Missing scopes: api.model.read.", "code": "missing_scope", "type": "x", "param": None}
}
UNKNOWN = {
    "no list": whole({"detail": "Not Found"}, 404),
    "no such method": whole({"detail": "Method Not Allowed"}, 405),
    "a key that may only ask": whole(NO_SCOPE, 403),
    "limited": refuse(429, retry_after=7),
    "broken": refuse(500),
    "elsewhere": redirect("http://127.0.0.1:1/"),
    "nonsense": answer("not a list of models"),
}


@pytest.mark.parametrize("cause", UNKNOWN)
def test_where_nobody_can_say_whether_a_key_is_valid_the_reason_says_why(
    owner: User, provider: ScriptedProvider, cause: str
) -> None:
    provider.models = UNKNOWN[cause]
    valid, reason = checked(owner)
    assert valid is None
    assert len(reason) > 10
    assert KEY not in reason
    assert "this model" not in reason


def test_a_provider_that_says_nothing_is_not_waited_for_for_ever(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path
) -> None:
    environment = {**settings_for(new_database.prepared(), provider), "BAIO_FIRST_TEXT_SECONDS": "0.3"}
    with running_server(tmp_path, environment) as running, owner_at(running) as someone:
        provider.models = silence()
        assert checked(someone) == (None, "OpenAI did not answer in time.")


@contextlib.contextmanager
def owner_at(server: Server) -> Iterator[User]:
    """Somebody with a key at this server."""
    someone = User(server)
    someone.add_key("Mine")
    yield someone
    someone.http.close()


@contextlib.contextmanager
def moved(user: User, server: Server) -> Iterator[User]:
    """The same person, still signed in, at another server."""
    there = copy.copy(user)
    there.server, there.http = server, server.client()
    there.http.headers["Authorization"] = f"Bearer {user.access}"
    yield there
    there.http.close()


# -- Encrypting anew ---------------------------------------------------------------------------------------------------


def rotated(environment: dict[str, str]) -> tuple[int, int]:
    """How many keys were encrypted anew, and how many were already."""
    done = baio(environment, "rotate_keys")
    assert done.returncode == 0, done.stderr
    counts = re.search(r"Re-encrypted (\d+) keys; (\d+) were already under the newest", done.stdout)
    assert counts is not None, done.stdout
    assert KEY not in done.stdout + done.stderr
    return int(counts[1]), int(counts[2])


def can_ask(user: User, provider: ScriptedProvider) -> bool:
    answered = user.ask(user.begin(), apikey_nickname="Mine").status_code == 200
    return answered and asked_with(provider) == KEY


def test_keys_are_encrypted_anew_while_the_servers_run_and_then_do_without_the_old_secret(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path
) -> None:
    before = settings_for(new_database.prepared(), provider)
    both = {**before, "BAIO_SECRET_KEY": NEW_SECRET, "BAIO_PREVIOUS_SECRET_KEYS": SECRET}
    after = {**before, "BAIO_SECRET_KEY": NEW_SECRET}
    with running_server(tmp_path / "before", before) as server, owner_at(server) as one, owner_at(server) as another:
        assert baio(before, "rotate_keys").returncode == 2
    with running_server(tmp_path / "both", both) as server, moved(one, server) as there, owner_at(server) as late:
        assert can_ask(there, provider)  # still signed in, too
        assert rotated(both) == (2, 1)
        assert can_ask(there, provider)
        there.add_key("Later")
        assert rotated(both) == (0, 4)
    with running_server(tmp_path / "after", after) as server:
        with moved(late, server) as there:
            assert can_ask(there, provider)
        with moved(another, server) as there:
            problem(there.http.get("/user/getInfo/"), 401)


def test_seeds_of_second_factors_are_encrypted_anew_as_keys_are(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path
) -> None:
    before = settings_for(new_database.prepared(), provider)
    both = {**before, "BAIO_SECRET_KEY": NEW_SECRET, "BAIO_PREVIOUS_SECRET_KEYS": SECRET}
    after = {**before, "BAIO_SECRET_KEY": NEW_SECRET}
    with running_server(tmp_path / "before", before) as server, owner_at(server) as someone:
        seed = someone.http.post("/user/enrollTwoFactor/", json={"password": PASSWORD}).json()["secret"]
        first = counter_at(datetime.now(UTC)) - 1
        confirmed = someone.http.post("/user/confirmTwoFactor/", json={"code": one_time_code(seed, first)})
        [recovery, *_] = confirmed.json()["recovery_codes"]
    assert rotated(both) == (2, 0)
    with running_server(tmp_path / "after", after) as server, moved(someone, server) as there:
        there.sign_in(code=one_time_code(seed, first + 1))
        there.sign_in(code=recovery)
        assert can_ask(there, provider)


def test_keys_under_a_secret_that_nobody_knows_any_more_are_counted_and_refused_in_words(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path
) -> None:
    before = settings_for(new_database.prepared(), provider)
    lost = {**before, "BAIO_SECRET_KEY": NEW_SECRET, "BAIO_PREVIOUS_SECRET_KEYS": "qW5eR8tY2uI6oP9aS3dF7gH1jK4lZ0xC"}
    with running_server(tmp_path / "before", before) as server, owner_at(server) as someone:
        pass
    done = baio(lost, "rotate_keys")
    assert "1 keys can't be decrypted with any of the secrets" in done.stdout
    with running_server(tmp_path / "lost", lost) as server, moved(someone, server) as again:
        known = {name: someone.account[name] for name in ("username", "password")}
        again.http.headers["Authorization"] = f"Bearer {again.http.post('/user/auth/', json=known).json()['access']}"
        for refused in (
            again.ask(again.begin(), apikey_nickname="Mine"),
            again.http.post("/chat/testAPIKey/", json={"nickname": "Mine"}),
        ):
            assert problem(refused, 409)["type"] == "urn:baio:error:api-key-unreadable"
        assert again.http.post("/chat/deleteAPIKey/", json={"nickname": "Mine"}).status_code == 200


@pytest.fixture
def embedded(provider: ScriptedProvider, tmp_path: Path) -> Iterator[tuple[Server, dict[str, str]]]:
    """A server with no configuration but where its provider is."""
    environment = {
        "BAIO_OPENAI_BASE_URL": provider.base_url,
        "BAIO_DATA_DIR": str(tmp_path / "data"),
    }
    with running_server(tmp_path / "server", environment) as running:
        yield running, environment


def test_the_embedded_secret_is_exchanged_under_a_running_server(
    embedded: tuple[Server, dict[str, str]], provider: ScriptedProvider, tmp_path: Path
) -> None:
    server, environment = embedded
    file = tmp_path / "data" / "secret_key"
    old = file.read_text()
    with owner_at(server) as someone:
        assert rotated(environment) == (1, 0)
        assert file.read_text().splitlines()[1:] == [old]
        assert file.stat().st_mode & 0o777 == 0o600
        assert can_ask(someone, provider)
        assert rotated(environment) == (0, 1)
        forgotten = baio(environment, "rotate_keys", "--forget-old")
        assert "Dropped 1 old secrets" in forgotten.stdout
        assert old not in file.read_text()
        someone.sign_in()
        assert can_ask(someone, provider)


@pytest.fixture
def two_embedded(
    embedded: tuple[Server, dict[str, str]], tmp_path: Path
) -> Iterator[tuple[list[Server], dict[str, str]]]:
    """Two servers on one data folder, so that a request reaches a certain process."""
    server, environment = embedded
    with running_server(tmp_path / "another", environment) as another:
        yield [server, another], environment


def signing_key(secret: str) -> bytes:
    """What tokens are signed with under this secret."""
    return JwtIssuer(lambda: [secret.encode()], access_seconds=1, refresh_seconds=1).keys()[0]


def signed_under(token: str, secret: str) -> bool:
    """Whether the token was signed under this secret."""
    try:
        jwt.decode(token, signing_key(secret), algorithms=["HS256"])
    except jwt.InvalidSignatureError:
        return False
    return True


def statuses(user: User, servers: list[Server]) -> list[int]:
    """How each server answers the user's access token, and then the refresh token."""
    found = []
    for server in servers:
        with moved(user, server) as there:
            found.append(there.http.get("/user/getInfo/").status_code)
            found.append(there.http.post("/user/refresh/", json={"refresh": user.refresh}).status_code)
    return found


def test_every_running_process_signs_and_encrypts_under_an_exchanged_secret_at_once(
    two_embedded: tuple[list[Server], dict[str, str]], provider: ScriptedProvider, tmp_path: Path
) -> None:
    servers, environment = two_embedded
    with owner_at(servers[0]) as someone:
        assert statuses(someone, servers) == [200] * 4
        assert rotated(environment) == (1, 0)
        assert statuses(someone, servers) == [200] * 4
        newest = (tmp_path / "data" / "secret_key").read_text().splitlines()[0]
        for server in servers:
            with moved(someone, server) as there:
                refreshed = there.http.post("/user/refresh/", json={"refresh": someone.refresh}).json()["access"]
                assert signed_under(refreshed, newest)
                assert not signed_under(someone.access, newest)
                there.add_key(f"Added at {server.address}")
        assert rotated(environment) == (0, 3)
        assert can_ask(someone, provider)


def test_forget_old_ends_at_every_running_process_what_the_old_secret_signed(
    two_embedded: tuple[list[Server], dict[str, str]], provider: ScriptedProvider, tmp_path: Path
) -> None:
    servers, environment = two_embedded
    leaked = (tmp_path / "data" / "secret_key").read_text()
    with owner_at(servers[0]) as victim, owner_at(servers[1]) as someone:
        assert rotated(environment) == (2, 0)
        someone.sign_in()
        assert baio(environment, "rotate_keys", "--forget-old").returncode == 0
        assert statuses(victim, servers) == [401] * 4
        assert statuses(someone, servers) == [200] * 4
        claims = jwt.decode(someone.access, options={"verify_signature": False})
        forged = copy.copy(someone)
        forged.access = jwt.encode(claims, signing_key(leaked), algorithm="HS256")
        forged.refresh = jwt.encode({**claims, "token_type": "refresh"}, signing_key(leaked), algorithm="HS256")
        assert statuses(forged, servers) == [401] * 4
        victim.sign_in()
        assert can_ask(victim, provider)
        assert statuses(victim, servers) == [200] * 4


def test_a_secret_file_that_is_away_is_503_until_it_is_back(
    embedded: tuple[Server, dict[str, str]], tmp_path: Path
) -> None:
    server, _ = embedded
    file = tmp_path / "data" / "secret_key"
    with owner_at(server) as someone:
        file.rename(tmp_path / "away")
        assert problem(someone.http.get("/user/getInfo/"), 503)["type"] == "urn:baio:error:unavailable"
        assert not file.exists()
        (tmp_path / "away").rename(file)
        assert someone.http.get("/user/getInfo/").status_code == 200


def test_a_leaked_secret_of_the_environment_is_worth_nothing_after_the_restart(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path
) -> None:
    before = settings_for(new_database.prepared(), provider)
    after = {**before, "BAIO_SECRET_KEY": NEW_SECRET}
    with running_server(tmp_path / "before", before, "--workers", "2") as server, owner_at(server) as someone:
        server.stop()
    assert rotated({**after, "BAIO_PREVIOUS_SECRET_KEYS": SECRET}) == (1, 0)
    refused = baio({**after, "BAIO_PREVIOUS_SECRET_KEYS": SECRET}, "rotate_keys", "--forget-old")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "remove BAIO_PREVIOUS_SECRET_KEYS instead" in refused.stderr
    with running_server(tmp_path / "after", after, "--workers", "2") as server, moved(someone, server) as there:
        assert statuses(someone, [server] * 10) == [401] * 20
        there.sign_in()
        assert statuses(there, [server] * 10) == [200] * 20
        assert can_ask(there, provider)
