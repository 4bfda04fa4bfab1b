"""OpenID Connect against institutions on a real socket that attack, break rules, are slow, or have gone."""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from baio_adapters.oidc import http, server
from baio_adapters.oidc.providers import OidcProviders
from baio_adapters.oidc.sign_in_file import read_institutions
from baio_domain.errors import BaioError, InstitutionUnavailable, SignInInvalid
from baio_domain.identities import Claims, challenge_of
from tests.integration.scripted_institution import (
    CALLBACK,
    CLIENT_ID,
    CLIENT_SECRET,
    KEYS,
    RSA,
    Institution,
    ScriptedInstitutions,
    jwk_of,
)

NONCE, VERIFIER = "n" * 64, "v" * 64
Forge = Callable[[Institution, dict[str, Any]], str]


@pytest.fixture(scope="module")
def peer() -> Iterator[ScriptedInstitutions]:
    with ScriptedInstitutions() as running:
        yield running


@pytest.fixture
def uni(peer: ScriptedInstitutions) -> Institution:
    found = peer.institution("uni")
    found.begin_anew()
    return found


class Party:
    """BAiO's side, over a file of its own, which remembers nothing of other tests."""

    def __init__(self, peer: ScriptedInstitutions, file: Path) -> None:
        self._peer, self._file, self.more = peer, file, ""

    async def _with(self, act: Callable[[OidcProviders], Awaitable[Any]]) -> Any:  # noqa: ANN401 - whatever it returns
        file = self._peer.write(self._file, "uni", "other", more=self.more)
        providers = OidcProviders(read_institutions(file), CALLBACK, lambda _: None)
        try:
            return await act(providers)
        finally:
            await providers.aclose()

    def run(self, act: Callable[[OidcProviders], Awaitable[Any]]) -> Any:  # noqa: ANN401 - whatever it returns
        return asyncio.run(self._with(act))

    async def sign_in(self, providers: OidcProviders, subject: str = "ole", **changes: Any) -> Claims:
        [here, _] = providers.institutions
        url = await providers.sign_in_url(here, state="s", nonce=NONCE, challenge=challenge_of(VERIFIER))
        back = self._peer.institution("uni").signs_in(url, subject) | changes
        return await providers.claims(here, code=back["code"], issuer=back["iss"], nonce=NONCE, verifier=VERIFIER)

    def claims(self, subject: str = "ole", **changes: Any) -> Claims:
        """What is known of a person who signs in, or the refusal."""
        found: Claims = self.run(lambda providers: self.sign_in(providers, subject, **changes))
        return found

    def refused(self, kind: type[BaioError] = SignInInvalid, **changes: Any) -> None:
        """Check that nobody gets in."""
        with pytest.raises(kind) as refusal:
            self.claims(**changes)
        assert type(refusal.value) is kind
        assert refusal.value.detail == kind.title


@pytest.fixture
def party(peer: ScriptedInstitutions, tmp_path: Path) -> Party:
    return Party(peer, tmp_path / "sign-in.toml")


# -- As it should be ---------------------------------------------------------------------------------------------------


def test_a_person_signs_in_and_what_userinfo_says_is_known_after_what_is_signed(uni: Institution, party: Party) -> None:
    uni.people["ole"] = {"name": "Ole Normann", "nonce": "another", "email_verified": False}
    found = party.claims()
    assert (found.issuer, found.subject, found.session) == (uni.issuer, "ole", "session of ole")
    assert found.values["name"] == "Ole Normann"
    assert found.values["nonce"] == NONCE
    assert [path for path, *_ in uni.requests] == ["/.well-known/openid-configuration", "/token", "/keys", "/userinfo"]


def test_the_address_has_all_that_was_asked_for_and_keeps_the_query_of_the_endpoint(
    party: Party, uni: Institution
) -> None:
    party.more = 'scopes = ["openid", "https://example.no/scope"]'
    url: str = party.run(
        lambda each: each.sign_in_url(each.institutions[0], state="s", nonce="n", challenge=challenge_of(VERIFIER))
    )
    assert {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()} == {
        "kept": "1",
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": CALLBACK,
        "scope": "openid https://example.no/scope",
        "state": "s",
        "nonce": "n",
        "code_challenge": challenge_of(VERIFIER),
        "code_challenge_method": "S256",
    }
    assert CLIENT_SECRET not in url
    assert uni.codes == {}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("key_id", ["1", None])
def test_each_of_the_four_algorithms_is_accepted_with_and_without_the_id_of_a_key(
    uni: Institution, party: Party, key: str, key_id: str | None
) -> None:
    algorithm, private = KEYS[key]
    uni.keys = [jwk_of(RSA[1], "RS256", key_id and "0"), jwk_of(private, algorithm, key_id)]
    uni.id_token = lambda claims: uni.sign(claims, key, kid=key_id)
    assert party.claims().subject == "ole"


@pytest.mark.parametrize(
    ("supported", "chosen", "in_header"),
    [
        (None, "", True),
        (["client_secret_post", "client_secret_basic"], "", True),
        (["private_key_jwt", "client_secret_post"], "", False),
        (["client_secret_basic"], 'client_auth = "client_secret_post"', False),
    ],
)
def test_the_secret_is_sent_as_the_institution_takes_it_and_any_character_arrives(
    uni: Institution, party: Party, *, supported: list[str] | None, chosen: str, in_header: bool
) -> None:
    del uni.document["token_endpoint_auth_methods_supported"]
    uni.document |= {} if supported is None else {"token_endpoint_auth_methods_supported": supported}
    party.more = chosen
    assert party.claims().subject == "ole"
    [(_, headers, form)] = [each for each in uni.requests if each[0] == "/token"]
    assert ("authorization" in headers) is in_header
    assert ("client_secret" in form) is not in_header


def test_what_else_a_set_of_keys_holds_is_left_out(uni: Institution, party: Party) -> None:
    weak = rsa.generate_private_key(65537, 1024)
    rest: list[Any] = [
        {"kty": "AKP", "alg": "ML-DSA-44", "kid": "1", "pub": "x"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "1"},
        {"kty": "EC", "crv": "P-521", "x": "A", "y": "A", "kid": "1"},
        {"kty": "RSA", "n": "!", "e": "AQAB", "kid": "1"},
        {**jwk_of(RSA[1], "RS256", "1"), "use": "enc"},
        {**jwk_of(RSA[1], "RS256", "1"), "alg": "RSA-OAEP"},
        jwk_of(weak, "RS256", "1"),
        {"kid": "1"}, None, 7, "key", [],
    ]  # fmt: skip
    uni.keys = [*rest, *uni.keys]
    assert party.claims().subject == "ole"


@pytest.mark.parametrize(
    "changes", [{"use": "enc"}, {"alg": "RSA-OAEP"}, {"alg": "PS256"}, {"kid": "2"}, {"kty": "oct"}]
)
def test_a_key_for_something_else_signs_nothing(uni: Institution, party: Party, changes: dict[str, str]) -> None:
    uni.keys = [{**uni.keys[0], **changes}]
    party.refused()


@pytest.mark.parametrize("audience", [[CLIENT_ID], ["account", CLIENT_ID]])
def test_an_audience_may_be_a_list(uni: Institution, party: Party, audience: list[str]) -> None:
    uni.id_token = lambda claims: uni.sign({**claims, "aud": audience, "azp": CLIENT_ID})
    assert party.claims().subject == "ole"


@pytest.mark.parametrize("seconds", [-50, 50])
def test_a_clock_may_be_almost_a_minute_off(uni: Institution, party: Party, seconds: int) -> None:
    def off(claims: dict[str, Any]) -> str:
        return uni.sign(
            {
                **claims,
                "iat": claims["iat"] + seconds,
                "nbf": claims["iat"] + seconds,
                "exp": int(time.time()) + seconds,
            }
        )

    uni.id_token = off
    assert party.claims().subject == "ole"


def test_an_issuer_with_a_slash_at_its_end_is_that_issuer(peer: ScriptedInstitutions, tmp_path: Path) -> None:
    slashed = Institution("slashed", peer.institution("slashed").issuer + "/")
    slashed.document |= {
        name: value.replace("slashed//", "slashed/")
        for name, value in slashed.document.items()
        if isinstance(value, str)
    }
    slashed.document["issuer"] = slashed.issuer
    peer.institutions["slashed"] = slashed
    file = peer.write(tmp_path / "slashed.toml", "slashed")
    registrations = read_institutions(file)
    assert registrations[0].institution.issuer.endswith("/slashed/")

    async def address() -> str:
        providers = OidcProviders(registrations, CALLBACK, lambda _: None)
        url = await providers.sign_in_url(providers.institutions[0], state="s", nonce="n", challenge="c")
        await providers.aclose()
        return url

    assert asyncio.run(address()).startswith(f"{slashed.issuer}authorize?")


# -- Lies --------------------------------------------------------------------------------------------------------------


def b64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def unsigned(_: Institution, claims: dict[str, Any]) -> str:
    return jwt.encode(claims, "", "none")


def unsigned_with_a_signature(uni: Institution, claims: dict[str, Any]) -> str:
    _, _, signature = uni.sign(claims).split(".")
    return f"{b64(json.dumps({'alg': 'none', 'kid': '1'}).encode())}.{b64(json.dumps(claims).encode())}.{signature}"


def signed_with_the_public_key_as_a_secret(_: Institution, claims: dict[str, Any]) -> str:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    public = RSA[0].public_key().public_bytes(serialization.Encoding.PEM, spki)
    head = f"{b64(json.dumps({'alg': 'HS256', 'typ': 'JWT', 'kid': '1'}).encode())}.{b64(json.dumps(claims).encode())}"
    return f"{head}.{b64(hmac.digest(public, head.encode(), 'sha256'))}"


def signed_with_the_client_secret(_: Institution, claims: dict[str, Any]) -> str:
    return jwt.encode(claims, CLIENT_SECRET.ljust(64, "x"), "HS256", {"kid": "1"})


def signed_by_somebody_else(_: Institution, claims: dict[str, Any]) -> str:
    return jwt.encode(claims, RSA[1], "RS256", {"kid": "1"})


def signed_by_a_key_that_it_brings(_: Institution, claims: dict[str, Any]) -> str:
    return jwt.encode(claims, RSA[1], "RS256", {"kid": "2", "jwk": jwk_of(RSA[1], "RS256", "2")})


def signed_with_a_longer_hash(_: Institution, claims: dict[str, Any]) -> str:
    return jwt.encode(claims, RSA[0], "RS512", {"kid": "1"})


def changed_after_it_was_signed(uni: Institution, claims: dict[str, Any]) -> str:
    head, _, signature = uni.sign(claims).split(".")
    return f"{head}.{b64(json.dumps({**claims, 'sub': 'admin'}).encode())}.{signature}"


def with_what_must_be_understood(uni: Institution, claims: dict[str, Any]) -> str:
    return uni.sign(claims, crit=["exp2"], exp2=1)


def with_a_detached_payload(_: Institution, claims: dict[str, Any]) -> str:
    head, body, _signature = jwt.encode(claims, RSA[0], "RS256", {"kid": "1"}).split(".")
    return f"{head}.{body}."


def of_a_logout(uni: Institution, claims: dict[str, Any]) -> str:
    return uni.sign(claims, typ="logout+jwt")


def of_an_access(uni: Institution, claims: dict[str, Any]) -> str:
    return uni.sign(claims, typ="at+jwt")


def encrypted(_: Institution, claims: dict[str, Any]) -> str:
    return ".".join(
        b64(json.dumps(each).encode()) for each in ({"alg": "RSA-OAEP", "enc": "A256GCM"}, {}, {}, claims, {})
    )


def with_a_list_for_claims(_: Institution, claims: dict[str, Any]) -> str:
    return jwt.api_jws.encode(json.dumps([claims]).encode(), RSA[0], "RS256", {"kid": "1"})


def with_deep_claims(_: Institution, claims: dict[str, Any]) -> str:
    nested = b'{"a":' * 5_000 + json.dumps(claims).encode() + b"}" * 5_000
    return jwt.api_jws.encode(nested, RSA[0], "RS256", {"kid": "1"})


FORGED: list[Forge] = [
    unsigned, unsigned_with_a_signature, signed_with_the_public_key_as_a_secret, signed_with_the_client_secret,
    signed_by_somebody_else, signed_by_a_key_that_it_brings, signed_with_a_longer_hash, changed_after_it_was_signed,
    with_what_must_be_understood, with_a_detached_payload, of_a_logout, of_an_access, encrypted, with_a_list_for_claims,
    with_deep_claims,
]  # fmt: skip


@pytest.mark.parametrize("forge", FORGED)
def test_a_token_that_the_institution_did_not_sign_for_this_is_refused(
    uni: Institution, party: Party, forge: Forge
) -> None:
    uni.id_token = lambda claims: forge(uni, claims)
    party.refused()


HOURS = 3600
WRONG: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://login.example.org"},
    "the issuer with a slash": {"iss": "SLASH"},
    "no issuer": {"iss": None},
    "another audience": {"aud": "somebody"},
    "no audience": {"aud": None},
    "no audience in a list": {"aud": []},
    "another presenter": {"azp": "somebody"},
    "another nonce": {"nonce": "n" * 63 + "m"},
    "no nonce": {"nonce": None},
    "expired": {"exp": -61},
    "no end": {"exp": None},
    "an end that is a text": {"exp": "TEXT"},
    "an end that is no number": {"exp": float("nan")},
    "an end beyond all times": {"exp": float("inf")},
    "from the future": {"iat": 2 * HOURS, "exp": 3 * HOURS},
    "not yet": {"nbf": 2 * HOURS},
    "no time of issue": {"iat": None},
    "no subject": {"sub": None},
    "an empty subject": {"sub": ""},
    "a subject that is a number": {"sub": 7},
    "a subject that is a list": {"sub": ["ole"]},
    "a subject that is too long": {"sub": "x" * 256},
    "a session that is too long": {"sid": "x" * 501},
}  # fmt: skip


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_a_token_that_says_something_wrong_is_refused(uni: Institution, party: Party, changes: dict[str, Any]) -> None:
    def lie(claims: dict[str, Any]) -> str:
        told = {**claims, **changes}
        for name in ("exp", "iat", "nbf"):
            if isinstance(changes.get(name), int):
                told[name] = int(time.time()) + changes[name]
        if told["iss"] == "SLASH":
            told["iss"] = f"{uni.issuer}/"
        return uni.sign({name: value for name, value in told.items() if value is not None})

    uni.id_token = lie
    party.refused()


@pytest.mark.parametrize("issuer", [None, "", "https://login.example.org"])
def test_who_came_back_without_the_right_issuer_is_refused_before_the_code_is_sent_anywhere(
    uni: Institution, party: Party, issuer: str | None
) -> None:
    if issuer is None:
        party.refused(iss=None)
        assert "/token" not in [path for path, *_ in uni.requests]
    uni.document["authorization_response_iss_parameter_supported"] = False
    assert party.claims(iss=None).subject == "ole"  # it does not say that it names itself


def test_a_code_works_once_and_one_that_is_too_long_is_sent_nowhere(uni: Institution, party: Party) -> None:
    async def twice(providers: OidcProviders) -> None:
        [here, _] = providers.institutions
        url = await providers.sign_in_url(here, state="s", nonce=NONCE, challenge=challenge_of(VERIFIER))
        code = uni.signs_in(url, "ole")["code"]
        asked = {"issuer": uni.issuer, "nonce": NONCE, "verifier": VERIFIER}
        assert (await providers.claims(here, code=code, **asked)).subject == "ole"
        for each in (code, "x" * 8_193):
            with pytest.raises(SignInInvalid):
                await providers.claims(here, code=each, **asked)

    party.run(twice)
    assert [path for path, *_ in uni.requests].count("/token") == 2


@pytest.mark.parametrize(
    "userinfo",
    [{"sub": "kari"}, {}, {"sub": None}, {"sub": ["ole"]}],
)
def test_userinfo_about_somebody_else_is_refused(uni: Institution, party: Party, userinfo: dict[str, Any]) -> None:
    uni.userinfo = lambda _: userinfo
    party.refused()


def test_userinfo_that_is_not_wanted_is_not_asked_for(uni: Institution, party: Party) -> None:
    party.more = "userinfo = false"
    uni.userinfo = lambda _: {"sub": "kari"}
    assert party.claims().subject == "ole"
    assert "/userinfo" not in [path for path, *_ in uni.requests]


# -- Documents, keys and answers that are not as they should be --------------------------------------------------------

DOCUMENTS: dict[str, dict[str, Any]] = {
    "of another issuer": {"issuer": "https://login.example.org"},
    "with a slash too many": {"issuer": "SLASH"},
    "without an issuer": {"issuer": None},
    "without keys": {"jwks_uri": None},
    "with an endpoint of another kind": {"token_endpoint": 7},
    "with an endpoint without TLS": {"token_endpoint": "http://192.0.2.1/token"},
    "with a page of another kind": {"authorization_endpoint": "javascript:alert(1)"},
    "with a file for keys": {"jwks_uri": "file:///etc/passwd"},
    "with an endpoint nowhere": {"token_endpoint": "https:///token"},
}


@pytest.mark.parametrize("changes", DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_document_that_is_not_in_order_signs_nobody_in(
    uni: Institution, party: Party, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    told = {**uni.document, **changes}
    if told["issuer"] == "SLASH":
        told["issuer"] = f"{uni.issuer}/"
    uni.document = {name: value for name, value in told.items() if value is not None}
    party.refused(InstitutionUnavailable)
    assert "sign-in with uni failed: its document" in caplog.text
    assert [path for path, *_ in uni.requests] == ["/.well-known/openid-configuration"]


def huge() -> tuple[int, bytes]:
    return 200, b'{"keys": [' + b"1," * (http.MAX_BODY_BYTES // 2) + b"1]}"


ANSWERS: dict[str, Callable[[], tuple[int, bytes]]] = {
    "huge": huge,
    "no JSON": lambda: (200, b"<html>Sign in</html>"),
    "nothing": lambda: (200, b""),
    "a list": lambda: (200, b"[]"),
    "deeply nested": lambda: (200, b'{"a":' * 20_000),
    "no UTF-8": lambda: (200, b'{"a": "\xff"}'),
    "an error": lambda: (500, b'{"error": "server_error"}'),
    "a page instead of an error": lambda: (503, b"<html>Gateway</html>"),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/keys", "/token", "/userinfo"])
def test_an_answer_that_cannot_be_used_signs_nobody_in(
    uni: Institution, party: Party, path: str, answer: Callable[[], tuple[int, bytes]]
) -> None:
    uni.answers[path] = answer
    with pytest.raises((InstitutionUnavailable, SignInInvalid)):
        party.claims()


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/keys"])
def test_no_redirect_is_followed(uni: Institution, party: Party, path: str) -> None:
    whole = {"/.well-known/openid-configuration": uni.document, "/keys": {"keys": uni.keys}}
    uni.answers[path] = lambda: (302, f"{uni.issuer}/moved".encode())
    uni.answers["/moved"] = lambda: (200, json.dumps(whole[path]).encode())
    party.refused(InstitutionUnavailable)
    assert "/moved" not in [each for each, *_ in uni.requests]


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/keys", "/token", "/userinfo"])
def test_an_institution_that_is_too_slow_is_not_waited_for(
    uni: Institution, party: Party, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "SECONDS", 0.5)

    def slow() -> tuple[int, bytes]:
        time.sleep(1.5)
        return 200, b"{}"

    uni.answers[path] = slow
    party.refused(InstitutionUnavailable)


def test_an_institution_that_is_down_is_asked_once_whoever_waits_and_again_when_it_may_be_back(
    uni: Institution, party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def many(providers: OidcProviders) -> None:
        [here, _] = providers.institutions

        async def address() -> str:
            return await providers.sign_in_url(here, state="s", nonce="n", challenge="c")

        uni.answers["/.well-known/openid-configuration"] = lambda: (503, b"")
        failed = await asyncio.gather(*(address() for _ in range(20)), return_exceptions=True)
        assert {type(each) for each in failed} == {InstitutionUnavailable}
        assert len(uni.requests) == 1
        uni.answers.clear()
        monkeypatch.setattr(server, "RETRY_SECONDS", 0.0)
        assert len(set(await asyncio.gather(*(address() for _ in range(20))))) == 1
        assert len(uni.requests) == 2
        # A document that is not current any more does where there is no newer one.
        monkeypatch.setattr(server, "KEPT_SECONDS", 0.0)
        uni.answers["/.well-known/openid-configuration"] = lambda: (503, b"")
        assert await address()

    party.run(many)


def test_a_new_key_is_fetched_once_and_a_forged_one_not_again_and_again(
    uni: Institution, party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetched() -> int:
        return [path for path, *_ in uni.requests].count("/keys")

    async def rotate(providers: OidcProviders) -> None:
        assert (await party.sign_in(providers)).subject == "ole"
        uni.keys = [jwk_of(RSA[1], "RS256", "2"), *uni.keys]
        uni.id_token = lambda claims: jwt.encode(claims, RSA[1], "RS256", {"kid": "2"})
        with pytest.raises(SignInInvalid):  # the keys are only just there
            await party.sign_in(providers)
        monkeypatch.setattr(server, "NEW_KEY_SECONDS", 0.0)
        assert (await party.sign_in(providers)).subject == "ole"
        assert fetched() == 2
        monkeypatch.setattr(server, "NEW_KEY_SECONDS", 30.0)
        uni.id_token = lambda claims: jwt.encode(claims, RSA[1], "RS256", {"kid": "3"})
        for _ in range(5):
            with pytest.raises(SignInInvalid):
                await party.sign_in(providers)
        assert fetched() == 2

    party.run(rotate)


def test_a_key_that_has_gone_signs_nobody_in_when_the_keys_are_fetched_again(
    uni: Institution, party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def withdraw(providers: OidcProviders) -> None:
        assert (await party.sign_in(providers)).subject == "ole"
        uni.keys = [jwk_of(RSA[1], "RS256", "2")]
        monkeypatch.setattr(server, "KEPT_SECONDS", 0.0)
        with pytest.raises(SignInInvalid):
            await party.sign_in(providers)
        uni.answers["/keys"] = lambda: (404, b"")
        with pytest.raises(InstitutionUnavailable):
            await party.sign_in(providers)

    party.run(withdraw)


# -- Logout ------------------------------------------------------------------------------------------------------------


def test_a_logout_token_says_what_has_ended(uni: Institution, party: Party) -> None:
    for subject, session in (("ole", None), (None, "s"), ("ole", "s")):
        token = uni.logout_token(subject, session)
        found = party.run(lambda providers, token=token: providers.logout(token))  # type: ignore[misc]
        assert (found.issuer, found.subject, found.session) == (uni.issuer, subject, session)
        assert found.until > datetime.now(UTC)


LOGOUTS: dict[str, dict[str, Any]] = {
    "of nobody": {"sub": None},
    "with a nonce": {"nonce": "n"},
    "without an event": {"events": {}},
    "with another event": {"events": {"http://schemas.openid.net/event/other": {}}},
    "with an event that is a text": {"events": {"http://schemas.openid.net/event/backchannel-logout": "yes"}},
    "without an id": {"jti": None},
    "for somebody else": {"aud": "somebody"},
    "of another issuer": {"iss": "https://login.example.org"},
    "of nobody's issuer": {"iss": None},
    "that has expired": {"exp": -61},
    "that is old": {"iat": -661, "exp": None},
    "from the future": {"iat": 2 * HOURS, "exp": 3 * HOURS},
}


@pytest.mark.parametrize("changes", LOGOUTS.values(), ids=LOGOUTS)
def test_a_logout_token_that_is_none_ends_nothing(uni: Institution, party: Party, changes: dict[str, Any]) -> None:
    told = {
        name: int(time.time()) + value if name in ("iat", "exp") and value is not None else value
        for name, value in changes.items()
    }
    with pytest.raises(SignInInvalid):
        party.run(lambda providers: providers.logout(uni.logout_token("ole", **told)))


def test_neither_an_id_token_nor_one_of_another_institution_nor_rubbish_is_a_logout_token(
    uni: Institution, party: Party, peer: ScriptedInstitutions
) -> None:
    tokens = [
        uni.sign(uni.claims("ole", "n")),
        uni.logout_token("ole", key="ec"),
        peer.institution("other").logout_token("ole", iss=uni.issuer, aud="other"),
        jwt.encode({"iss": uni.issuer}, "", "none"),
        "", "x", "a.b.c", "\ud800", "x" * 70_000, ".." * 40_000, f"{b64(b'{')}.{b64(b'{}')}.x",
    ]  # fmt: skip
    for token in tokens:
        with pytest.raises(SignInInvalid):
            party.run(lambda providers, token=token: providers.logout(token))  # type: ignore[misc]
