"""Forged and odd tokens: none of them is accepted anywhere, by two workers on either database."""

import base64
import contextlib
import copy
import functools
import hashlib
import hmac
import itertools
import json
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import update

from baio_adapters.sql.tables import users
from baio_adapters.tokens import JwtIssuer
from tests.integration.conftest import NewDatabase, once, settings_for
from tests.integration.scripted_provider import ScriptedProvider
from tests.integration.servers import PASSWORD, SECRET, Server, User, named, problem, running_server

Claims = dict[str, Any]
Forge = Callable[[Claims], str]

NEW_SECRET = "vB6nM1kJ8hG4fD2sA9pO5iU3yT7rE0wQ"
UNKNOWN_SECRET = "pL3mN8bV5cX2zQ7wE4rT9yU6iO1aS0dF"


def key_of(secret: str) -> bytes:
    """What a server with this secret signs with."""
    return JwtIssuer(lambda: [secret.encode()], access_seconds=1, refresh_seconds=1).keys()[0]


KEY = key_of(SECRET)
"""What the server signs with: everything below has it, so that a signature is never what refuses the token."""

HEADER = {"alg": "HS256", "typ": "JWT"}


pytestmark = pytest.mark.two_workers  # either of which may get a token


def part(content: bytes) -> str:
    """A segment of a token."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def signed(head: str, payload: str, key: bytes = KEY, digest: str = "sha256") -> str:
    """A token of these segments, with the signature that they need."""
    return f"{head}.{payload}.{part(hmac.digest(key, f'{head}.{payload}'.encode(), digest))}"


def token(claims: object, header: object = HEADER, key: bytes = KEY, digest: str = "sha256") -> str:
    """A token that says this, signed."""
    return signed(part(json.dumps(header).encode()), part(json.dumps(claims).encode()), key, digest)


def raw(payload: str) -> str:
    """A token with this text as its claims, signed."""
    return signed(part(json.dumps(HEADER).encode()), part(payload.encode()))


def header(**changes: object) -> Forge:
    """Another header; None takes a member away."""
    head = {name: value for name, value in {**HEADER, **changes}.items() if value is not None}
    return lambda claims: token(claims, head)


def claim(**changes: Any) -> Forge:
    """Other claims; a function makes one from the good one."""

    def forge(claims: Claims) -> str:
        made = {name: value(claims[name]) if callable(value) else value for name, value in changes.items()}
        return token({**claims, **made})

    return forge


def without(name: str) -> Forge:
    """One claim less."""
    return lambda claims: token({each: value for each, value in claims.items() if each != name})


def twice(name: str, value: object) -> Forge:
    """A claim twice, the first or the last of them right: parsers differ in which they take."""

    def forge(claims: Claims) -> str:
        return raw(json.dumps(claims)[:-1] + f", {json.dumps(name)}: {json.dumps(value)}}}")

    return forge


def altered(change: Callable[[str], str]) -> Forge:
    """A good token, changed afterwards."""
    return lambda claims: change(token(claims))


def signature(change: Callable[[str], str]) -> Forge:
    """A good token, whose signature is written in another way."""

    def forge(claims: Claims) -> str:
        content, _, good = token(claims).rpartition(".")
        return f"{content}.{change(good)}"

    return forge


def segment(number: int, change: Callable[[str], str]) -> Forge:
    """A header or payload that is written in another way, and signed like that."""

    def forge(claims: Claims) -> str:
        segments = [part(json.dumps(HEADER).encode()), part(json.dumps(claims).encode())]
        segments[number] = change(segments[number])
        return signed(segments[0], segments[1])

    return forge


def raw_header(text: str) -> Forge:
    """A token with this text as its header, signed."""
    return lambda claims: signed(part(text.encode()), part(json.dumps(claims).encode()))


def number(name: str, text: str) -> Forge:
    """A claim with a number that Python would not write like that."""
    return lambda claims: raw(json.dumps(claims).replace(f'"{name}": {claims[name]}', f'"{name}": {text}'))


def next_letter(text: str) -> str:
    """The text with a last letter whose bits differ where they do not count."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + letters[letters.index(text[-1]) ^ 1]


def derived(info: bytes) -> bytes:
    """A key that the same secret gives for something else."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(SECRET.encode())


def flipped(text: str) -> str:
    """The token with one bit of its signature turned."""
    head, payload, signature = text.split(".")
    raw_signature = bytearray(base64.urlsafe_b64decode(signature + "="))
    raw_signature[0] ^= 1
    return f"{head}.{payload}.{part(bytes(raw_signature))}"


def swapped(claims: Claims, others: Claims) -> str:
    """The other claims, under the signature of these."""
    head, _, signature = token(claims).split(".")
    return f"{head}.{part(json.dumps(others).encode())}.{signature}"


@functools.cache  # to make one takes longer than to try it
def public_key(kind: str) -> bytes:
    """A public key, for the old trick of signing with it as if it were a secret."""
    made = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())
    return made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def unsigned(spelling: str, *, signature: bool = False) -> Forge:
    """No algorithm, in some spelling, without or with a signature."""

    def forge(claims: Claims) -> str:
        head, payload = part(json.dumps({**HEADER, "alg": spelling}).encode()), part(json.dumps(claims).encode())
        return signed(head, payload) if signature else f"{head}.{payload}."

    return forge


ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
WIDE = str.maketrans("0123456789", "".join(chr(0xFF10 + digit) for digit in range(10)))  # of East Asian writing
NAMES = ("sub", "sid", "exp", "iat", "jti", "token_type")
OTHER_TYPES: dict[str, Callable[[Any], object]] = {
    "null": lambda _: None,
    "true": lambda _: True,
    "a fraction": lambda _: 1.5,
    "a list": lambda good: [good],
    "nested": lambda good: {"value": good},
}

FORGED: dict[str, Forge] = {
    # Algorithms.
    "no algorithm": unsigned("none"),
    "no algorithm, shouted": unsigned("NONE"),
    "no algorithm, mixed": unsigned("nOnE"),
    "no algorithm, but a signature": unsigned("none", signature=True),
    "an empty algorithm": unsigned("", signature=True),
    "the algorithm in small letters": header(alg="hs256"),
    "an algorithm that is a list": header(alg=["HS256"]),
    "an algorithm that is missing": header(alg=None),
    "HS384 with the right key": lambda claims: token(claims, {**HEADER, "alg": "HS384"}, digest="sha384"),
    "HS512 with the right key": lambda claims: token(claims, {**HEADER, "alg": "HS512"}, digest="sha512"),
    "SHA-512 that says it is SHA-256": lambda claims: token(claims, digest="sha512"),
    "RS256 over a shared secret": header(alg="RS256"),
    "RS256 with a public key as the secret": lambda claims: token(
        claims, {**HEADER, "alg": "RS256"}, public_key("rsa")
    ),
    "ES256 with a public key as the secret": lambda claims: token(claims, {**HEADER, "alg": "ES256"}, public_key("ec")),
    # Headers.
    "a key's id": header(kid="../../../../dev/null"),
    "a key of its own": header(jwk={"kty": "oct", "k": part(KEY)}),
    "a place to get a key from": header(jku="http://127.0.0.1:9/keys.json"),
    "a certificate's place": header(x5u="http://127.0.0.1:9/certificate.pem"),
    "an extension that must be understood": header(crit=["exp"]),
    "a payload that is not encoded": header(b64=False, crit=["b64"]),
    "another type": header(typ="at+jwt"),
    "the type in small letters": header(typ="jwt"),
    "no type": header(typ=None),
    "a token within": header(cty="JWT"),
    "a key's id that is null": raw_header('{"alg": "HS256", "typ": "JWT", "kid": null}'),
    "a key's id that is a number": header(kid=1),
    "a certificate": header(x5c=["MIIB"]),
    "compressed, it says": header(zip="DEF"),
    "encrypted, it says": header(enc="A256GCM"),
    "an encoded payload, in so many words": header(b64=True, crit=["b64"]),
    "an algorithm with a space": header(alg="HS256 "),
    "an algorithm that is a number": header(alg=256),
    "an algorithm that is nested": header(alg={"name": "HS256"}),
    "a header that is null": raw_header("null"),
    "a header that is no JSON": raw_header("alg=HS256"),
    "a header that is nested without end": raw_header('{"alg":' * 5_000),
    "a header that is a list": lambda claims: token(claims, ["HS256"]),
    # Claims.
    **{f"no {name}": without(name) for name in NAMES},
    **{f"{name} that is {kind}": claim(**{name: make}) for name in NAMES for kind, make in OTHER_TYPES.items()},
    "sub that is a number": claim(sub=int),
    "sid that is a number": claim(sid=lambda good: int(good, 16) % 2**31),
    "sub of nobody": claim(sub=str(2**62)),
    "sid of no session": claim(sid="f" * 32),
    "sub that is negative": claim(sub="-1"),
    "sub that is nothing": claim(sub="0"),
    "sub with zeros in front": claim(sub=lambda good: f"00{good}"),
    "sub with a plus": claim(sub=lambda good: f"+{good}"),
    "sub with a space": claim(sub=lambda good: f" {good}"),
    "sub with an underscore": claim(sub=lambda good: f"0_{good}"),  # which int() reads as the good one
    "sub in other digits": claim(sub=lambda good: good.translate(ARABIC)),
    "sub that is SQL": claim(sub="1 OR 1=1"),
    "sub that is empty": claim(sub=""),
    "sub that is huge": claim(sub="9" * 5000),
    "sub beyond 64 bits": claim(sub=str(2**63)),
    "sub in wide digits": claim(sub=lambda good: good.translate(WIDE)),
    "sub with a line break": claim(sub=lambda good: f"{good}\n"),
    "sub with a space that does not break": claim(sub=lambda good: f"\u00a0{good}"),
    "sub as a power of ten": claim(sub=lambda good: f"{good}e0"),
    "sub as a fraction": claim(sub=lambda good: f"{good}.0"),
    "sub in sixteens": claim(sub=lambda good: hex(int(good))),
    "sid with a space": claim(sid=lambda good: f"{good} "),
    "sid that is nothing": claim(sid="0"),
    "sid that is negative": claim(sid=lambda good: f"-{good}"),
    "sid with zeros in front": claim(sid=lambda good: f"00{good}"),
    "sid with a plus": claim(sid=lambda good: f"+{good}"),
    "sid in other digits": claim(sid=lambda good: good[:-1] + "\N{ARABIC-INDIC DIGIT ONE}"),
    "sid in capitals": claim(sid=lambda good: good[:-1].upper() + "F"),
    "sid that is a row's id": claim(sid="1"),
    "sid beyond 64 bits": claim(sid=str(2**63)),
    "jti that is a number": claim(jti=1),
    "a kind that is a number": claim(token_type=1),
    "a kind with a space": claim(token_type=lambda good: f"{good} "),
    "a kind in capitals": claim(token_type=str.upper),
    "a kind that is unknown": claim(token_type="id"),
    "both kinds": claim(token_type=["access", "refresh"]),
    "an audience": claim(aud="baio"),
    "an issuer": claim(iss="https://accounts.example.org"),
    "a further right": claim(admin=True),
    "no audience, in so many words": claim(aud=None),
    "a subject in capitals, too": claim(SUB="1"),
    "a claim without name": claim(**{"": None}),
    "a further claim that is a huge number": lambda claims: raw(json.dumps(claims)[:-1] + f', "x": {"9" * 5000}}}'),
    "claims that are a list": lambda claims: token([claims]),
    "claims that are a text": lambda claims: token(json.dumps(claims)),
    # Lifetimes.
    "expired by a second": claim(exp=lambda _: int(time.time()) - 1),
    "from the future": claim(iat=lambda _: int(time.time()) + 3600, exp=lambda _: int(time.time()) + 4000),
    "an end before its beginning": claim(exp=lambda good: good - 10**6),
    "a life that is too long": claim(exp=lambda good: good + 1),
    "a life without end": claim(exp=2**62),
    "expired this very second": claim(exp=lambda _: int(time.time())),
    "an end before there was time": claim(exp=-1),
    "a beginning before there was time": claim(iat=-1),
    "a beginning that is nothing": claim(iat=0),
    "a beginning that is a text": claim(iat=str),
    "a beginning that is no number": number("iat", "NaN"),
    "a beginning that is minus infinity": number("iat", "-Infinity"),
    "a beginning with a decimal point": claim(iat=float),
    "an end with a decimal point": claim(exp=float),
    "an end beyond 64 bits": claim(exp=2**200),
    "an end of 5,000 digits": number("exp", "9" * 5000),
    "an end that is a text": claim(exp=str),
    "an end that is half a second": claim(exp=lambda good: good - 0.5),
    "an end that is no number": number("exp", "NaN"),
    "an end that is infinite": number("exp", "Infinity"),
    "an end beyond every number": number("exp", "1e400"),
    "not before tomorrow": claim(nbf=2**40),
    "not before long ago": claim(nbf=1),
    "not before a text": claim(nbf="now"),
    # Duplicates.
    "sub twice, the last of nobody": twice("sub", str(2**62)),
    "sid twice, the last of no session": twice("sid", "f" * 32),
    "kind twice, the last another": twice("token_type", "id"),
    "exp twice, the last expired": twice("exp", 1),
    "algorithm twice, the last none": raw_header('{"alg": "HS256", "alg": "none", "typ": "JWT"}'),
    # Form.
    "nothing": lambda _: "",
    "a dot": lambda _: ".",
    "dots": lambda _: "..",
    "two segments": altered(lambda good: good.rpartition(".")[0]),
    "four segments": altered(lambda good: f"{good}.{good.split('.')[1]}"),
    "five segments, as if encrypted": altered(lambda good: f"{good}.x.y"),
    "no header": altered(lambda good: f".{good.partition('.')[2]}"),
    "no signature": altered(lambda good: good.rpartition(".")[0] + "."),
    "a bit of the signature": altered(flipped),
    "half of the signature": altered(lambda good: good[:-20]),
    "a longer signature": altered(lambda good: f"{good}AAAA"),
    "other letters in the signature": altered(lambda good: good.rpartition(".")[0] + "." + "!" * 43),
    "a signature without its last letter": signature(lambda good: good[:-1]),
    "a letter after the signature": signature(lambda good: f"{good}A"),
    "a signature whose last letter has other bits that do not count": signature(next_letter),
    "a padded signature": signature(lambda good: f"{good}="),
    "padded claims": altered(lambda good: "=.".join(good.rsplit(".", 1))),
    "too much padding of the signature": signature(lambda good: f"{good}=="),
    "something after the padding of the signature": signature(lambda good: f"{good}=AAA"),
    "letters in the signature that decoders skip": signature(lambda good: f"{good[:5]}!!!!{good[5:]}"),
    "spaces in the signature that decoders skip": signature(lambda good: f"{good[:5]}    {good[5:]}"),
    "a line break after the signature": signature(lambda good: f"{good}\n"),
    "a letter of no alphabet in the signature": signature(lambda good: f"{good[:4]}\u00e9\u00e9{good[4:]}"),
    "letters in the header that decoders skip": segment(0, lambda good: f"{good[:4]}!!!!{good[4:]}"),
    "spaces in the claims that decoders skip": segment(1, lambda good: f"{good[:4]}    {good[4:]}"),
    "needless padding of the header": segment(0, lambda good: f"{good}===="),
    "needless padding of the claims": segment(1, lambda good: f"{good}===="),
    "a line break in front": altered(lambda good: f"\n{good}"),
    "a space in front": altered(lambda good: f" {good}"),
    "a space at the end": altered(lambda good: f"{good} "),
    "a space of no width at the end": altered(lambda good: f"{good}\u200b"),
    "a byte order mark in front": altered(lambda good: f"\ufeff{good}"),
    "a space within": altered(lambda good: good.replace(".", ". ", 1)),
    "twice, with a comma": altered(lambda good: f"{good},{good}"),
    "twice, with a space": altered(lambda good: f"{good} {good}"),
    "another's claims under its signature": lambda claims: swapped(claims, {**claims, "sub": "1", "sid": "1"}),
    "claims that are no JSON": lambda _: raw("sub=1"),
    "claims that are nothing": lambda _: raw(""),
    "claims that are null": lambda _: raw("null"),
    "claims with something after them": lambda claims: raw(json.dumps(claims) + "{}"),
    "claims that are nested objects without end": lambda _: raw('{"sub":' * 20_000),
    "claims that are nested without end": lambda _: raw("[" * 20_000),
    "claims that are no UTF-8": lambda _: signed(part(json.dumps(HEADER).encode()), part(b'{"sub": "\xff"}')),
    "half a megabyte more": altered(lambda good: good + "A" * 500_000),
    "a megabyte more": altered(lambda good: good + "A" * 1_000_000),
    "a claim of half a megabyte": claim(note="x" * 500_000),
    # Another service's, and keys of something else.
    "another service's": lambda claims: token(claims, key=b"x" * 32),
    "another service's of its own form": lambda _: jwt.encode(
        {"sub": "1", "scope": "openid", "exp": int(time.time()) + 60}, "y" * 32, algorithm="HS256"
    ),
    "an empty key": lambda claims: token(claims, key=b""),
    "the secret itself": lambda claims: token(claims, key=SECRET.encode()),
    "the secret's digest": lambda claims: token(claims, key=hashlib.sha256(SECRET.encode()).digest()),
    "the key of stored API keys": lambda claims: token(claims, key=derived(b"baio stored api keys")),
    "the key of fingerprints": lambda claims: token(claims, key=derived(b"baio requests")),
    "an old secret's": lambda claims: token(claims, key=key_of(UNKNOWN_SECRET)),
    "the secret with a line break": lambda claims: token(claims, key=f"{SECRET}\n".encode()),
    "the key of nothing in particular": lambda claims: token(claims, key=derived(b"")),
}

RIGHT: dict[str, Forge] = {
    # What makes the tokens above, asked for nothing odd: were one of these refused, those would prove nothing.
    "token": token,
    "header": header(),
    "claim": claim(sub=str, exp=int),
    "altered": altered(str),
    "signature": signature(str),
    "segment": segment(1, str),
    "unsigned": unsigned("HS256", signature=True),
    "derived": lambda claims: token(claims, key=derived(b"baio access and refresh tokens")),
    "raw": lambda claims: raw(json.dumps(claims, indent=1)),
    "raw_header": raw_header(json.dumps(dict(reversed(HEADER.items())))),
    "number": lambda claims: number("exp", str(claims["exp"]))(claims),
    "another order": lambda claims: token(dict(reversed(claims.items()))),
    "from a server whose clock is ahead": claim(iat=lambda good: good + 50, exp=lambda good: good + 50),
    "another jti": claim(jti=lambda _: uuid.uuid4().hex),
}

ABSENT = (
    "sub of nobody",
    "sid of no session",
    "sub twice, the last of nobody",
    "sid twice, the last of no session",
)
"""Of these, logout says that they have signed out: a session that is not there has ended, and that is no error."""


@pytest.fixture(scope="module")
def account(server: Server) -> Iterator[User]:
    """One account for the whole table: a registration for each token would be what takes the time."""
    with signed_in(server) as made:
        yield made


@pytest.fixture
def someone(account: User) -> User:
    """Somebody who is signed in, even if a token before was accepted and has ended the session."""
    if as_bearer(account, account.access) != 200:
        account.sign_in()
    return account


@contextlib.contextmanager
def signed_in(server: Server) -> Iterator[User]:
    """Somebody with an account of their own."""
    made = User(server)
    try:
        yield made
    finally:
        made.http.close()


def claims_of(good: str) -> Claims:
    """What a token of the server's says."""
    claims: Claims = jwt.decode(good, KEY, algorithms=["HS256"])
    return claims


def fits_header(text: str) -> bool:
    """Whether a client can send it in a header at all, and the server gets it as it is."""
    return len(text) < 10_000 and text == text.strip() != "" and min(text) >= " "


def as_bearer(user: User, access: str) -> int:
    """What a request with this access token gets."""
    answered = user.http.get("/user/getInfo/", headers={b"Authorization": f"Bearer {access}".encode()})
    if answered.status_code != 200:
        problem(answered, 401)
        assert answered.headers["www-authenticate"] == "Bearer"
    return answered.status_code


def as_verdict(user: User, access: str) -> int:
    """What the server thinks of this access token."""
    answered = user.http.post("/user/validateToken/", json={"token": access})
    if answered.status_code == 200:
        assert answered.json() == {"valid": True}
    else:
        assert list(answered.json()) == ["valid", "error"]
        assert answered.json()["valid"] is False
        assert answered.json()["error"]
    return answered.status_code


def as_refresh(user: User, refresh: str) -> int:
    """What this refresh token gets."""
    answered = user.http.post("/user/refresh/", json={"refresh": refresh})
    if answered.status_code != 200:
        problem(answered, 401)
    return answered.status_code


def as_logout(user: User, refresh: str) -> int:
    """Whether this refresh token ends a session."""
    answered = user.http.post("/user/logout/", json={"refresh": refresh})
    if answered.status_code != 200:
        assert named(answered) == {"refresh"}
    return answered.status_code


def everywhere(user: User, access: str, refresh: str) -> tuple[int, int, int, int]:
    """What the four places that take a token say, the one that ends the session last."""
    bearer = as_bearer(user, access) if fits_header(access) else 401
    return bearer, as_verdict(user, access), as_refresh(user, refresh), as_logout(user, refresh)


ACCEPTED = (200, 200, 200, 200)
REFUSED = (401, 401, 401, 400)


def refused_everywhere(name: str, user: User) -> bool:
    """Whether this token of the table is, as an access and as a refresh token, and signs nobody out."""
    access, refresh = (FORGED[name](copy.deepcopy(claims_of(each))) for each in (user.access, user.refresh))
    expected = (401, 401, 401, 200) if name in ABSENT else REFUSED
    return everywhere(user, access, refresh) == expected and as_bearer(user, user.access) == 200


# What is looked for in a database; all else is refused before one is asked.
LOOKED_UP = [name for name in FORGED if name.startswith(("sub ", "sid "))]


@pytest.mark.parametrize("name", RIGHT)
@once
def test_a_token_of_the_same_making_without_anything_odd_is_accepted(name: str, someone: User) -> None:
    access, refresh = (RIGHT[name](claims_of(each)) for each in (someone.access, someone.refresh))
    assert everywhere(someone, access, refresh) == ACCEPTED
    assert as_bearer(someone, access) == 401  # its session has ended with the last of them


@pytest.mark.parametrize("name", [name for name in FORGED if name not in LOOKED_UP])
@once
def test_no_forged_or_odd_token_is_accepted(name: str, someone: User) -> None:
    assert refused_everywhere(name, someone)


@pytest.mark.parametrize("name", LOOKED_UP)
def test_no_token_that_names_other_rows_is_accepted(name: str, someone: User) -> None:
    assert refused_everywhere(name, someone)


def test_a_session_is_its_owners_alone(someone: User) -> None:
    with signed_in(someone.server) as other:
        mine, theirs = claims_of(someone.access), claims_of(other.access)
        for claims in ({**mine, "sid": theirs["sid"]}, {**mine, "sub": theirs["sub"]}):
            refresh = {**claims_of(someone.refresh), "sub": claims["sub"], "sid": claims["sid"]}
            # logout ends nothing here, and says so to nobody
            assert everywhere(someone, token(claims), token(refresh)) == (401, 401, 401, 200)
            assert as_bearer(other, other.access) == as_bearer(someone, someone.access) == 200


@once
def test_each_kind_of_token_is_refused_in_the_place_of_the_other(someone: User) -> None:
    assert everywhere(someone, someone.refresh, someone.access) == REFUSED
    access, refresh = (token(claims_of(each)) for each in (someone.access, someone.refresh))
    assert everywhere(someone, refresh, access) == REFUSED


@once
def test_what_the_server_has_signed_is_not_accepted_in_pieces(someone: User) -> None:
    with signed_in(someone.server) as other:
        whole = [each.split(".") for each in (someone.access, someone.refresh, other.access, other.refresh)]
        for one, another in itertools.permutations(whole, 2):
            mixed = ".".join([*one[:2], another[2]])
            assert everywhere(someone, mixed, mixed) == REFUSED
        assert as_bearer(other, other.access) == as_bearer(someone, someone.access) == 200


@once
def test_of_two_headers_with_tokens_neither_counts(someone: User) -> None:
    bad = token({**claims_of(someone.access), "exp": 1})
    for both in itertools.product((bad, someone.access), repeat=2):
        headers = [("Authorization", f"Bearer {each}") for each in both]
        with someone.server.client() as client:
            refused = client.get("/user/getInfo/", headers=headers)
        problem(refused, 401)
        assert refused.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "form",
    [
        "{}",
        "Token {}",
        "Basic {}",
        "Bearer,{}",
        "Bearer:{}",
        "Bearer\t{}",
        'Bearer "{}"',
        "Bearer token={}",
        "Bearer Bearer {}",
        "Bearer {0} {0}",
        "Bearer {0},{0}",
        "Bearer {0}, {0}",
        "Bearer {0},Bearer {0}",
        "Bearer {0}, Bearer {0}",
    ],
)
@once
def test_a_good_token_in_another_form_of_header_is_refused(form: str, someone: User) -> None:
    with someone.server.client() as client:
        for headers, status in (
            ({"Authorization": form.format(someone.access)}, 401),
            ({"Authorization": f"Bearer {someone.access}"}, 200),
        ):
            assert client.get("/user/getInfo/", headers=headers).status_code == status


# -- Secrets of before -------------------------------------------------------------------------------------------------


def test_a_token_of_an_old_secret_is_accepted_for_as_long_as_the_server_has_that(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path
) -> None:
    after = {**settings_for(new_database.prepared(), provider), "BAIO_SECRET_KEY": NEW_SECRET}
    both = {**after, "BAIO_PREVIOUS_SECRET_KEYS": SECRET}

    def at(server: Server, secret: str, claims: tuple[Claims, Claims]) -> tuple[int, int, int, int]:
        access, refresh = (token(each, key=key_of(secret)) for each in claims)
        with server.client() as client:
            visitor = copy.copy(someone)
            visitor.http = client
            return everywhere(visitor, access, refresh)

    def opened() -> tuple[Claims, Claims]:
        someone.sign_in()
        access, refresh = (jwt.decode(each, new, algorithms=["HS256"]) for each in (someone.access, someone.refresh))
        return access, refresh

    def old_session() -> None:
        someone.access, someone.refresh = (token(each) for each in opened())

    new = key_of(NEW_SECRET)
    with running_server(tmp_path / "both", both) as server, signed_in(server) as someone:
        for secret, expected in ((SECRET, ACCEPTED), (NEW_SECRET, ACCEPTED), (UNKNOWN_SECRET, REFUSED)):
            assert at(server, secret, opened()) == expected
        # The table is signed with what is the old secret here: to try two keys must not make anything of it good.
        accepted = []
        old_session()
        for name in FORGED:
            if not refused_everywhere(name, someone):
                accepted.append(name)
                old_session()
        assert accepted == []
        claims = opened()
    with running_server(tmp_path / "after", after) as server:
        for secret, expected in ((SECRET, REFUSED), (UNKNOWN_SECRET, REFUSED), (NEW_SECRET, ACCEPTED)):
            assert at(server, secret, claims) == expected


# -- Sessions that have ended ------------------------------------------------------------------------------------------


def sign_out(user: User) -> None:
    assert as_logout(user, user.refresh) == 200


def sign_out_everywhere(user: User) -> None:
    assert user.http.post("/user/logoutEverywhere/").status_code == 200


def delete(user: User) -> None:
    assert user.http.post("/user/deleteAccount/", json={"password": PASSWORD}).status_code == 200


def disable(user: User) -> None:
    """Disable the account, as an administrator would."""
    with user.server.engine() as engine, engine.begin() as connection:
        connection.execute(
            update(users).where(users.c.username == user.account["username"]).values(disabled_at=datetime.now(UTC))
        )


@pytest.mark.parametrize("end", [sign_out, sign_out_everywhere, delete, disable])
def test_the_tokens_of_a_session_that_has_ended_are_worthless(end: Callable[[User], None], server: Server) -> None:
    with signed_in(server) as user:
        pairs = [
            (user.access, user.refresh),
            (token(claims_of(user.access)), token(claims_of(user.refresh))),
            tuple(token({**claims_of(each), "jti": uuid.uuid4().hex}) for each in (user.access, user.refresh)),
        ]
        for access, refresh in pairs:
            assert (as_bearer(user, access), as_verdict(user, access), as_refresh(user, refresh)) == (200, 200, 200)
        end(user)
        for access, refresh in pairs:
            # only logout does not mind: a session that has ended already is no error
            assert everywhere(user, access, refresh) == (401, 401, 401, 200)


def test_to_sign_out_leaves_the_tokens_of_ones_other_sessions_good(server: Server) -> None:
    with signed_in(server) as user:
        access, refresh = user.access, user.refresh
        user.sign_in()
        sign_out(user)
        assert as_bearer(user, user.access) == 401
        assert everywhere(user, access, refresh) == ACCEPTED


def test_the_table_has_more_than_40_kinds() -> None:
    assert len(FORGED) > 40
