"""Access and refresh tokens as JSON Web Tokens, signed with HS256."""

import contextlib
import re
import time
import uuid
from collections.abc import Sequence
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

_FORM = re.compile(r"[\w-]{1,64}\.[\w-]{1,1024}\.[\w-]{43}", re.ASCII)


class Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a token of ours says, and nothing else."""

    sub: str
    sid: str
    token_type: Kind
    iat: int
    exp: int
    jti: str


@final
class JwtIssuer(TokenIssuer):
    """Signs with a key derived from the first secret, accepts what any of them signed. Lifetimes are in seconds."""

    def __init__(self, secrets: Sequence[bytes], *, access_seconds: int, refresh_seconds: int) -> None:
        self._keys = [
            HKDF(algorithm=SHA256(), length=32, salt=None, info=b"baio access and refresh tokens").derive(secret)
            for secret in secrets
        ]
        self._lifetimes: dict[Kind, int] = {"access": access_seconds, "refresh": refresh_seconds}

    def issue(self, session: Session, kind: Kind, until: datetime) -> str:
        """Sign a token that is valid from now on."""
        now = int(time.time())
        expires = min(now + self._lifetimes[kind], int(until.timestamp()))
        claims = Claims(str(session.user_id), str(session.id), kind, now, expires, uuid.uuid4().hex)
        return jwt.encode(msgspec.to_builtins(claims), self._keys[0], algorithm="HS256")

    def verify(self, token: str, kind: Kind) -> Caller:
        """Check signature, algorithm, times, and that every claim is exactly as ``issue`` writes it."""
        if not _FORM.fullmatch(token):  # a token has one spelling: base64 with and without padding would be two
            raise NotAuthenticated("The token is not valid.")
        try:
            # PyJWT checks signature, exp and iat; what it leaves open (kinds, types, further claims) stands in Claims.
            decoded = self._decoded(token)
            if decoded["header"] != {"alg": "HS256", "typ": "JWT"}:
                raise jwt.InvalidTokenError("unexpected header")
            claims = msgspec.convert(decoded["payload"], Claims)
            user_id, session_id = _id(claims.sub), _id(claims.sid)
        except jwt.ExpiredSignatureError:
            raise NotAuthenticated("The token has expired.") from None
        except (jwt.PyJWTError, msgspec.ValidationError, ValueError, OverflowError, RecursionError):
            raise NotAuthenticated("The token is not valid.") from None
        if claims.token_type != kind:
            raise NotAuthenticated(
                f"This needs an {kind} token." if kind == "access" else f"This needs a {kind} token."
            )
        if claims.exp - claims.iat > self._lifetimes[kind]:
            raise NotAuthenticated("The token is not valid.")
        return Caller(user_id, session_id)

    def _decoded(self, token: str) -> dict[str, Any]:
        for key in self._keys[:-1]:
            with contextlib.suppress(jwt.InvalidSignatureError):
                return _decode(token, key)
        return _decode(token, self._keys[-1])


def _id(text: str) -> int:
    """A positive id, written as ``issue`` writes it; or raise ValueError."""
    number = int(text)
    if str(number) != text or not 0 < number < 2**63:
        raise ValueError("not an id")
    return number


def _decode(token: str, key: bytes) -> dict[str, Any]:
    return jwt.decode_complete(token, key, algorithms=["HS256"], options={"require": ["exp", "iat"]})
