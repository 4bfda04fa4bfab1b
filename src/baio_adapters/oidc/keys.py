"""The public keys of an institution, and what they have signed (RFC 7515, RFC 7517, RFC 7519)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from baio_adapters.oidc.http import Fault

ALGORITHMS = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}
"""The algorithms that are accepted, with the type of their keys. A secret that both sides know signs nothing here."""

LEEWAY_SECONDS = 60
"""How far the clocks of an institution and of this server may differ."""

MAX_KEYS = 100

MAX_TOKEN_LENGTH = 65_536

MIN_RSA_BITS = 2048

_COMPACT = re.compile(r"[\w-]{1,4096}\.[\w-]{1,65536}\.[\w-]{1,4096}", re.ASCII)


class UnknownKey(Fault):
    """A token that no known key has signed. The institution may have got a new one."""


@dataclass(frozen=True, slots=True)
class Key:
    """A public key, by its id, if it has one, and type; only for ``algorithm``, if it says so."""

    id: str | None
    type: str
    algorithm: str | None
    jwk: Mapping[str, Any]

    def fits(self, key_id: object, algorithm: str) -> bool:
        """Whether it can have signed a token that names this key, if it names one, and this algorithm."""
        named = key_id is None or self.id is None or key_id == self.id
        return named and self.type == ALGORITHMS[algorithm] and self.algorithm in (None, algorithm)


def keys_in(document: Mapping[str, Any]) -> list[Key]:
    """The usable keys of a JWK Set.

    What is unknown, or for something else, is left out: a set may have that beside good keys.
    """
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise Fault("the keys are no JWK Set")
    found = []
    for each in listed[:MAX_KEYS]:
        if not isinstance(each, dict) or each.get("kty") not in ALGORITHMS.values() or each.get("use", "sig") != "sig":
            continue
        key_id, algorithm = each.get("kid"), each.get("alg")
        if not isinstance(key_id, str | None) or algorithm not in (None, *ALGORITHMS):
            continue
        found.append(Key(key_id, each["kty"], algorithm, {k: v for k, v in each.items() if k != "alg"}))
    return found


def verified(token: str, keys: list[Key]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a token that one of these keys has signed, within its times.

    ``exp`` is checked where there is one. Raises UnknownKey, or Fault for everything else.
    """
    header = _header(token)
    algorithm = header["alg"]
    fitting = [key for key in keys if key.fits(header.get("kid"), algorithm)]
    if not fitting:
        raise UnknownKey("a token names a key that the institution does not have", temporary=False)
    for key in fitting:
        try:
            public = jwt.PyJWK(dict(key.jwk), algorithm)
            if isinstance(public.key, RSAPublicKey) and public.key.key_size < MIN_RSA_BITS:
                continue
            decoded = jwt.decode_complete(
                token, public, algorithms=[algorithm], leeway=LEEWAY_SECONDS, options={"verify_aud": False}
            )
        except (jwt.InvalidSignatureError, jwt.PyJWKError, jwt.InvalidKeyError):
            continue
        except jwt.ExpiredSignatureError:
            raise Fault("a token has expired: compare the clocks", temporary=False) from None
        except jwt.ImmatureSignatureError:
            raise Fault("a token is from the future: compare the clocks", temporary=False) from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise Fault("a token is malformed", temporary=False) from None
        return decoded["header"], decoded["payload"]
    # The institution may have another key by now, even under the same id.
    raise UnknownKey("the signature of a token is wrong", temporary=False)


def unverified_issuer(token: str) -> str:
    """Whom a token says that it is from: to choose the keys with which it is verified, and for nothing else."""
    _header(token)
    try:
        claims = jwt.decode(token, options={"verify_signature": False, "verify_exp": False, "verify_aud": False})
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
        raise Fault("a token is malformed", temporary=False) from None
    issuer = claims.get("iss")
    return issuer if isinstance(issuer, str) else ""


def _header(token: str) -> dict[str, Any]:
    if len(token) > MAX_TOKEN_LENGTH or not _COMPACT.fullmatch(token):
        raise Fault("a token is malformed, too long or encrypted", temporary=False)
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise Fault("a token is malformed", temporary=False) from None
    if header.get("alg") not in ALGORITHMS:
        raise Fault("a token is signed with an algorithm that is not accepted", temporary=False)
    return header
