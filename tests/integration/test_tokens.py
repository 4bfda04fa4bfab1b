"""Forged and odd tokens: none of them is accepted anywhere, by two workers on either database."""

import base64
import copy
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from baio_adapters.tokens import JwtIssuer
from tests.integration.servers import SECRET, Server, User, problem

Claims = dict[str, Any]
Forge = Callable[[Claims], str]

KEY = JwtIssuer([SECRET.encode()], access_seconds=1, refresh_seconds=1)._keys[0]
"""What the server signs with: everything below has it, so that a signature is never what refuses the token."""

HEADER = {"alg": "HS256", "typ": "JWT"}


@pytest.fixture(scope="module")
def server(two_workers: Server) -> Server:
    """Two workers, either of which may get a token."""
    return two_workers


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
    "a header that is a list": lambda claims: token(claims, ["HS256"]),
    # Claims.
    **{f"no {name}": without(name) for name in ("sub", "sid", "exp", "iat", "jti", "token_type")},
    **{f"{name} that is null": claim(**{name: None}) for name in ("sub", "sid", "exp", "iat", "jti", "token_type")},
    "sub that is a number": claim(sub=int),
    "sid that is a number": claim(sid=int),
    "sub of nobody": claim(sub=str(2**62)),
    "sid of no session": claim(sid=str(2**62)),
    "sub that is negative": claim(sub="-1"),
    "sub that is nothing": claim(sub="0"),
    "sub with zeros in front": claim(sub=lambda good: f"00{good}"),
    "sub with a plus": claim(sub=lambda good: f"+{good}"),
    "sub with a space": claim(sub=lambda good: f" {good}"),
    "sub with an underscore": claim(sub=lambda good: f"{good[0]}_{good[1:] or 0}"),
    "sub in other digits": claim(sub=lambda good: good.translate(ARABIC)),
    "sub that is SQL": claim(sub="1 OR 1=1"),
    "sub that is empty": claim(sub=""),
    "sub that is huge": claim(sub="9" * 5000),
    "sub beyond 64 bits": claim(sub=str(2**63)),
    "sub that is a list": claim(sub=lambda good: [good]),
    "sub that is true": claim(sub=True),
    "sid with a space": claim(sid=lambda good: f"{good} "),
    "a kind in capitals": claim(token_type=str.upper),
    "a kind that is unknown": claim(token_type="id"),
    "both kinds": claim(token_type=["access", "refresh"]),
    "an audience": claim(aud="baio"),
    "an issuer": claim(iss="https://accounts.example.org"),
    "a further right": claim(admin=True),
    "claims that are a list": lambda claims: token([claims]),
    "claims that are a text": lambda claims: token(json.dumps(claims)),
    # Lifetimes.
    "expired by a second": claim(exp=lambda _: int(time.time()) - 1),
    "from the future": claim(iat=lambda _: int(time.time()) + 3600, exp=lambda _: int(time.time()) + 4000),
    "an end before its beginning": claim(exp=lambda good: good - 10**6),
    "a life that is too long": claim(exp=lambda good: good + 1),
    "a life without end": claim(exp=2**62),
    "an end that is a text": claim(exp=str),
    "an end that is half a second": claim(exp=lambda good: good - 0.5),
    "an end that is no number": lambda claims: raw(json.dumps({**claims, "exp": float("nan")})),
    "an end that is infinite": lambda claims: raw(json.dumps({**claims, "exp": float("inf")})),
    "an end beyond every number": lambda claims: raw(json.dumps(claims).replace(str(claims["exp"]), "1e400")),
    "not before tomorrow": claim(nbf=2**40),
    # Duplicates.
    "sub twice, the last of nobody": twice("sub", str(2**62)),
    "sid twice, the last of no session": twice("sid", str(2**62)),
    "kind twice, the last another": twice("token_type", "id"),
    "exp twice, the last expired": twice("exp", 1),
    # Form.
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
    "a space within": altered(lambda good: good.replace(".", ". ", 1)),
    "twice, with a comma": altered(lambda good: f"{good},{good}"),
    "twice, with a space": altered(lambda good: f"{good} {good}"),
    "another's claims under its signature": lambda claims: swapped(claims, {**claims, "sub": "1", "sid": "1"}),
    "claims that are no JSON": lambda _: raw("sub=1"),
    "claims that are nested without end": lambda _: raw("[" * 20_000),
    "claims that are no UTF-8": lambda _: signed(part(json.dumps(HEADER).encode()), part(b'{"sub": "\xff"}')),
    "half a megabyte more": altered(lambda good: good + "A" * 500_000),
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
    "an old secret's": lambda claims: token(
        claims, key=JwtIssuer([b"pL3mN8bV5cX2zQ7wE4rT9yU6iO1aS0dF"], access_seconds=1, refresh_seconds=1)._keys[0]
    ),
}


@pytest.fixture(scope="module")
def someone(server: Server) -> Iterator[User]:
    """Somebody who is signed in."""
    made = User(server)
    yield made
    made.http.close()


def claims_of(good: str) -> Claims:
    """What a token of the server's says."""
    claims: Claims = jwt.decode(good, KEY, algorithms=["HS256"])
    return claims


def as_bearer(user: User, access: str) -> int:
    """What a request with this access token gets."""
    answered = user.http.get("/user/getInfo/", headers={"Authorization": f"Bearer {access}"})
    if answered.status_code == 401:
        assert answered.headers["www-authenticate"] == "Bearer"
        problem(answered, 401)
    return answered.status_code


def as_verdict(user: User, access: str) -> tuple[int, bool]:
    """What the server thinks of this access token."""
    answered = user.http.post("/user/validateToken/", json={"token": access})
    return answered.status_code, answered.json()["valid"]


def as_refresh(user: User, refresh: str) -> int:
    """What this refresh token gets."""
    return user.http.post("/user/refresh/", json={"refresh": refresh}).status_code


def as_logout(user: User, refresh: str) -> int:
    """Whether this refresh token ends a session."""
    return user.http.post("/user/logout/", json={"refresh": refresh}).status_code


def test_a_token_of_the_same_making_without_anything_odd_is_accepted(server: Server) -> None:
    user = User(server)
    access, refresh = ({**claims_of(each), "jti": uuid.uuid4().hex} for each in (user.access, user.refresh))
    for made in (token(access), token(dict(reversed(access.items()))), raw(json.dumps(access, indent=1))):
        assert as_bearer(user, made) == 200
        assert as_verdict(user, made) == (200, True)
    assert as_refresh(user, token(refresh)) == 200
    assert as_logout(user, token(refresh)) == 200
    assert as_bearer(user, token(access)) == 401
    user.http.close()


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED.keys())
def test_no_forged_or_odd_token_is_accepted(forge: Forge, someone: User) -> None:
    access, refresh = (forge(copy.deepcopy(claims_of(each))) for each in (someone.access, someone.refresh))
    if len(access) < 10_000:  # more than that is no header for a server
        assert as_bearer(someone, access) == 401
    assert as_verdict(someone, access) == (401, False)
    assert as_refresh(someone, refresh) == 401
    # A session that is not there has ended; saying so tells nobody anything, and ends nothing.
    absent = {forge_of for name, forge_of in FORGED.items() if name.endswith(("of nobody", "of no session"))}
    assert as_logout(someone, refresh) == (200 if forge in absent else 400)
    assert as_bearer(someone, someone.access) == 200  # nobody was signed out by it


def test_a_session_is_its_owners_alone(someone: User) -> None:
    other = User(someone.server)
    mine, theirs = claims_of(someone.access), claims_of(other.access)
    for claims in ({**mine, "sid": theirs["sid"]}, {**mine, "sub": theirs["sub"]}):
        assert as_bearer(someone, token(claims)) == 401
        assert as_refresh(someone, token({**claims, "token_type": "refresh"})) == 401
    foreign = {**claims_of(someone.refresh), "sid": theirs["sid"]}
    assert as_logout(someone, token(foreign)) == 200  # it ends nothing, and says so to nobody
    assert as_bearer(other, other.access) == 200
    other.http.close()


def test_two_headers_with_tokens_are_not_better_than_one(someone: User) -> None:
    bad = token({**claims_of(someone.access), "exp": 1})
    for first, second in ((bad, someone.access), (bad, bad)):
        headers = [("Authorization", f"Bearer {first}"), ("Authorization", f"Bearer {second}")]
        with someone.server.client() as client:
            statuses = {client.get("/user/getInfo/", headers=headers).status_code}
        assert statuses <= {400, 401}


def test_the_table_has_more_than_40_kinds() -> None:
    assert len(FORGED) > 40
