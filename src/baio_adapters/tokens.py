"""Access and refresh tokens: JSON Web Tokens signed with HS256."""

import contextlib
import hashlib
import re
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal, final

import jwt
import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from baio_domain.entities import Caller, Session
from baio_domain.errors import NotAuthenticated
from baio_domain.ports import TokenIssuer

Kind = Literal["access", "refresh"]

MAX_VERIFIED = 10_000
"""How many verified tokens are remembered."""

IAT_LEEWAY_SECONDS = 60
"""How far the clock of the server that issued a token may be ahead of this one's."""

_TOKEN_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_JWT_PATTERN = re.compile(r"[\w-]{1,64}\.[\w-]{1,1024}\.[\w-]{43}", re.ASCII)


class Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All claims of a token; a token with other claims is refused."""

    sub: str
    sid: str
    token_type: Kind
    iat: int
    exp: int
    jti: str


@final
class JwtIssuer(TokenIssuer):
    """Signs with a key derived from the first secret, and verifies with all. Lifetimes are in seconds.

    Each use calls ``secrets`` again, so that secrets can be exchanged while the server runs.
    """

    def __init__(self, secrets: Callable[[], Sequence[bytes]], *, access_seconds: int, refresh_seconds: int) -> None:
        self._secrets = secrets
        self._derived: tuple[Sequence[bytes], list[bytes]] = ((), [])
        self._lifetimes: dict[Kind, int] = {"access": access_seconds, "refresh": refresh_seconds}
        self._verified: dict[tuple[Kind, bytes], tuple[int, Caller]] = {}  # by digest; each until when, for whom

    def keys(self) -> list[bytes]:
        """The keys derived from the present secrets. The first one signs."""
        secrets, keys = self._derived
        if (present := self._secrets()) != secrets:
            keys = [
                HKDF(algorithm=SHA256(), length=32, salt=None, info=b"baio access and refresh tokens").derive(secret)
                for secret in present
            ]
            self._derived = present, keys
            self._verified.clear()
        return keys

    def issue(self, session: Session, kind: Kind, until: datetime) -> str:
        """Sign a token that is valid from now on, with a ``jti`` of its own."""
        now = int(time.time())
        expires = min(now + self._lifetimes[kind], int(until.timestamp()))
        claims = Claims(str(session.user_id), session.token_id, kind, now, expires, uuid.uuid4().hex)
        return jwt.encode(msgspec.to_builtins(claims), self.keys()[0], algorithm="HS256")

    def verify(self, token: str, kind: Kind) -> Caller:
        """Check signature, algorithm and times, and that every claim has the form that ``issue`` writes.

        What was verified is remembered until the token ends or a secret is exchanged. It says nothing about the
        session, which can end at any time.
        """
        keys = self.keys()  # first, because it forgets what an earlier secret has signed
        digest = kind, hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        until, caller = self._verified.get(digest, (0, None))
        if caller is not None and time.time() < until:
            return caller
        until, caller = self._verify(token, kind, keys)
        self._verified.pop(digest, None)
        if len(self._verified) >= MAX_VERIFIED:
            del self._verified[next(iter(self._verified))]
        self._verified[digest] = until, caller
        return caller

    def _verify(self, token: str, kind: Kind, keys: list[bytes]) -> tuple[int, Caller]:
        """When the token ends, and whose it is."""
        if not _JWT_PATTERN.fullmatch(token):  # only one spelling of a token is valid: no base64 padding
            raise NotAuthenticated("The token is not valid.")
        try:
            # PyJWT checks signature and exp. Claims checks types, token_type and unknown claims; iat is checked below.
            decoded = _decode_with_any_key(token, keys)
            if decoded["header"] != {"alg": "HS256", "typ": "JWT"}:
                raise jwt.InvalidTokenError("unexpected header")
            claims = msgspec.convert(decoded["payload"], Claims)
            user_id = _parse_id(claims.sub)
            if not _TOKEN_ID.fullmatch(claims.sid):
                raise ValueError("not the id of a session")  # noqa: TRY301 - handled with the rest
        except jwt.ExpiredSignatureError:
            raise NotAuthenticated("The token has expired.") from None
        except (jwt.PyJWTError, msgspec.ValidationError, ValueError, OverflowError, RecursionError):
            raise NotAuthenticated("The token is not valid.") from None
        if claims.token_type != kind:
            raise NotAuthenticated(f"{'An' if kind == 'access' else 'A'} {kind} token is required.")
        if claims.exp - claims.iat > self._lifetimes[kind] or claims.iat > time.time() + IAT_LEEWAY_SECONDS:
            raise NotAuthenticated("The token is not valid.")
        return claims.exp, Caller(user_id, claims.sid)


def _parse_id(text: str) -> int:
    """A positive id in the form that ``issue`` writes, or raise ValueError."""
    number = int(text)
    if str(number) != text or not 0 < number < 2**63:
        raise ValueError("not an id")
    return number


def _decode_with_any_key(token: str, keys: list[bytes]) -> dict[str, Any]:
    *others, last = keys
    for key in others:
        with contextlib.suppress(jwt.InvalidSignatureError):
            return _decode(token, key)
    return _decode(token, last)


def _decode(token: str, key: bytes) -> dict[str, Any]:
    return jwt.decode_complete(
        token, key, algorithms=["HS256"], options={"require": ["exp", "iat"], "verify_iat": False}
    )
