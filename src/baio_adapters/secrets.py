"""Encryption of stored secrets (API keys and seeds of second factors) with AES-256-GCM."""

import os
from collections.abc import Callable, Sequence
from typing import final

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
    key it needs, so master keys can be exchanged while the server runs: ``secrets`` is called again for an unknown id.
    """

    def __init__(self, secrets: Callable[[], Sequence[bytes]]) -> None:
        self._secrets = secrets
        self._ciphers: dict[bytes, AESGCM] = {}
        self._load()
        # The oldest secret: as long as it is kept, a request repeated after an exchange is recognised.
        oldest = secrets()[-1]
        self._fingerprint_key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"baio requests").derive(oldest)

    def _load(self) -> None:
        ciphers: dict[bytes, AESGCM] = {}
        for secret in self._secrets():
            key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"baio stored api keys").derive(secret)
            digest = Hash(SHA256())
            digest.update(b"baio key id" + key)
            ciphers.setdefault(digest.finalize()[:4], AESGCM(key))
        self._ciphers, self._current = ciphers, next(iter(ciphers))

    def seal(self, secret: str, *, kind: SecretKind, owner: int, row_id: int) -> bytes:
        """Encrypt under a nonce of its own."""
        nonce = os.urandom(12)
        ciphertext = self._ciphers[self._current].encrypt(nonce, secret.encode(), _associated_data(kind, owner, row_id))
        return _VERSION + self._current + nonce + ciphertext

    def fingerprint(self, *parts: str) -> bytes:
        """HMAC-SHA-256 over the parts, each with its length, under a key of their own."""
        digest = HMAC(self._fingerprint_key, SHA256())
        for part in parts:
            digest.update(len(part.encode()).to_bytes(8, "big") + part.encode())
        return digest.finalize()

    def open(self, sealed: bytes, *, kind: SecretKind, owner: int, row_id: int) -> str:
        """Decrypt, whichever of the secrets it was sealed under."""
        if sealed[_KEY_ID] not in self._ciphers:
            self._load()  # the secrets may have been exchanged since they were read
        cipher = self._ciphers.get(sealed[_KEY_ID])
        if sealed[:1] != _VERSION or cipher is None:
            raise UNREADABLE[kind]
        try:
            return cipher.decrypt(sealed[_NONCE], sealed[_CIPHERTEXT], _associated_data(kind, owner, row_id)).decode()
        except (InvalidTag, ValueError):
            raise UNREADABLE[kind] from None

    def is_current(self, sealed: bytes) -> bool:
        """Compare the key id with the first secret's."""
        return sealed[:1] == _VERSION and sealed[_KEY_ID] == self._current


def _associated_data(kind: SecretKind, owner: int, row_id: int) -> bytes:
    return f"baio {kind} of user {owner} in row {row_id}".encode()
