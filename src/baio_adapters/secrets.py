"""Encryption of stored secrets (API keys and seeds of second factors) with AES-256-GCM."""

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple, final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from baio_domain.ports import UNREADABLE, SecretBox, SecretKind

_VERSION = b"\x01"
_KEY_ID = slice(1, 5)
_NONCE = slice(5, 17)
_CIPHERTEXT = slice(17, None)


@final
class AesGcmBox(SecretBox):
    """Encrypts under the first secret, decrypts under any.

    A sealed secret is version (1 byte), key id (4), nonce (12), ciphertext and tag. Its kind, owner and row are the
    associated data: copied into another row, or read for another user, it does not decrypt. The key id names the master
    key it needs. Each use calls ``secrets`` again, so that secrets can be exchanged while the server runs.
    """

    def __init__(self, secrets: Callable[[], Sequence[bytes]]) -> None:
        self._secrets = secrets
        self._derived: _Keys | None = None

    def _keys(self) -> "_Keys":
        """The keys derived from the present secrets."""
        present, keys = self._secrets(), self._derived
        if keys is None or present != keys.secrets:
            keys = self._derived = _Keys.derived_from(present)
        return keys

    def seal(self, secret: str, *, kind: SecretKind, owner: int, row_id: int) -> bytes:
        """Encrypt under a nonce of its own."""
        keys, nonce = self._keys(), os.urandom(12)
        cipher = keys.ciphers[keys.current]
        ciphertext = cipher.encrypt(nonce, secret.encode(), _associated_data(kind, owner, row_id))
        return _VERSION + keys.current + nonce + ciphertext

    def fingerprint(self, *parts: str) -> bytes:
        """HMAC-SHA-256 over the parts, each with its length, under a key of their own."""
        digest = HMAC(self._keys().fingerprint, SHA256())
        for part in parts:
            digest.update(len(part.encode()).to_bytes(8, "big") + part.encode())
        return digest.finalize()

    def open(self, sealed: bytes, *, kind: SecretKind, owner: int, row_id: int) -> str:
        """Decrypt, whichever of the secrets it was sealed under."""
        cipher = self._keys().ciphers.get(sealed[_KEY_ID])
        if sealed[:1] != _VERSION or cipher is None:
            raise UNREADABLE[kind]
        try:
            return cipher.decrypt(sealed[_NONCE], sealed[_CIPHERTEXT], _associated_data(kind, owner, row_id)).decode()
        except (InvalidTag, ValueError):
            raise UNREADABLE[kind] from None

    def is_current(self, sealed: bytes) -> bool:
        """Compare the key id with the first secret's."""
        return sealed[:1] == _VERSION and sealed[_KEY_ID] == self._keys().current


class _Keys(NamedTuple):
    """What is derived from the secrets: a cipher for each by key id, the id of the first, and the fingerprints' key."""

    secrets: Sequence[bytes]
    ciphers: dict[bytes, AESGCM]
    current: bytes
    fingerprint: bytes

    @classmethod
    def derived_from(cls, secrets: Sequence[bytes]) -> "_Keys":
        ciphers: dict[bytes, AESGCM] = {}
        for secret in secrets:
            key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"baio stored api keys").derive(secret)
            digest = Hash(SHA256())
            digest.update(b"baio key id" + key)
            ciphers.setdefault(digest.finalize()[:4], AESGCM(key))
        # The oldest secret: as long as it is kept, a request repeated after an exchange is recognised.
        oldest = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"baio requests").derive(secrets[-1])
        return cls(secrets, ciphers, next(iter(ciphers)), oldest)


def _associated_data(kind: SecretKind, owner: int, row_id: int) -> bytes:
    return f"baio {kind} of user {owner} in row {row_id}".encode()
