"""Idempotency keys: the same request under the same key has the same outcome, and is carried out once."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from baio_domain.errors import FieldError
from baio_domain.ports import IdempotencyRecord, Transaction

MAX_IDEMPOTENCY_KEY_LENGTH = 255

IDEMPOTENCY_KEY_LIFETIME = timedelta(hours=24)
"""How long a key is remembered."""

MAX_IDEMPOTENCY_KEYS = 10_000
"""Keys of one user that are remembered; with one more, the oldest is forgotten."""


def idempotency_problems(key: str | None) -> Iterator[FieldError]:
    """Why this can't be an idempotency key; None, for a request without one, is valid."""
    if key is not None and not (len(key) <= MAX_IDEMPOTENCY_KEY_LENGTH and key.strip() and key.isprintable()):
        yield FieldError("idempotency_key", f"must have 1 to {MAX_IDEMPOTENCY_KEY_LENGTH} printable characters")


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """A request of ``owner``'s under an idempotency key. With the key None nothing is found and nothing recorded.

    ``fingerprint`` is equal for equal requests.
    """

    owner: int
    key: str | None
    fingerprint: bytes
    now: datetime

    def find(self, tx: Transaction) -> IdempotencyRecord | None:
        """What this request resulted in before, or None. Raises IdempotencyKeyReused when the request was another."""
        if self.key is None:
            return None
        return tx.idempotency.find(self.owner, self.key, self.fingerprint, since=self.now - IDEMPOTENCY_KEY_LIFETIME)

    def record(self, tx: Transaction, result_id: int, *, conversation: int | None = None) -> None:
        """Record the id of the result, until ``conversation``, if the request was about one, is deleted."""
        if self.key is not None:
            tx.idempotency.remember(
                self.owner,
                self.key,
                self.fingerprint,
                result_id,
                self.now,
                conversation=conversation,
            )
            tx.idempotency.forget_oldest(self.owner, keep=MAX_IDEMPOTENCY_KEYS)
