"""Quotas: how much one user may store, and do at once, so that nobody uses up what all users share."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from baio_domain.errors import (
    SequencesFull,
    StorageFull,
    TooMany,
    TooManyApiKeys,
    TooManyApiTokens,
    TooManyConversations,
    TooManySequences,
)
from baio_domain.ports import Transaction

NEAR = 4_194_304
"""Bytes: a user's questions that come closer than this to the quota are stored one after another."""


@dataclass(frozen=True, slots=True)
class Quotas:
    """The limits of one user; 0 means no limit.

    ``stored_bytes``, ``conversations``, ``api_keys``, ``api_tokens``, ``sequences`` and ``sequence_bytes`` are what is
    stored; a refusal says what to delete. Of more than so many ``sessions`` the oldest end.
    """

    stored_bytes: int = 268_435_456
    conversations: int = 10_000
    api_keys: int = 100
    api_tokens: int = 100
    sessions: int = 50
    sequences: int = 10_000
    sequence_bytes: int = 104_857_600

    def check_text(self, tx: Transaction, owner: int, content: str = "", *, stores: bool = True) -> None:
        """Raise StorageFull if the user's text and ``content`` together are more than the quota.

        A unit of work that only reads, before there is anything to store, says that it ``stores`` nothing yet.
        An answer that has begun is never cut for the quota, so what is stored can exceed it by the running answers.
        """
        if self.stored_bytes:
            _, stored = tx.conversations.stored(owner)
            needed = stored + len(content.encode())
            if stores and self.stored_bytes - NEAR < needed <= self.stored_bytes:
                tx.users.lock(owner)  # another question may be taking the same room
            if needed > self.stored_bytes:
                raise StorageFull(
                    f"You may store {self.stored_bytes:,} bytes of text, and have stored {stored:,}. Delete"
                    " conversations that you no longer need."
                )

    def check_conversations(self, tx: Transaction, owner: int) -> None:
        """Raise TooManyConversations if the user has no room for another one."""
        if self.conversations:
            tx.users.lock(owner)
            if tx.conversations.stored(owner)[0] >= self.conversations:
                raise TooManyConversations(
                    f"You may have {self.conversations:,} conversations. Delete some that you no longer need."
                )

    def check_sequences(self, tx: Transaction, owner: int, more: int, more_bytes: int) -> None:
        """Raise TooManySequences or SequencesFull if the user has no room for so many more."""
        if not (self.sequences or self.sequence_bytes):
            return
        tx.users.lock(owner)
        count, size = tx.sequences.stored(owner)
        if self.sequences and count + more > self.sequences:
            raise TooManySequences(
                f"You may have {self.sequences:,} sequences, and have {count:,}. Delete some that you no longer need."
            )
        if self.sequence_bytes and size + more_bytes > self.sequence_bytes:
            raise SequencesFull(
                f"Your sequences may have {self.sequence_bytes:,} bytes of letters and features, and have {size:,}."
                " Delete some that you no longer need."
            )

    def check_api_keys(self, tx: Transaction, owner: int) -> None:
        """Raise TooManyApiKeys if the user has no room for another one."""
        if self.api_keys:
            tx.users.lock(owner)
            if len(tx.api_keys.of(owner)) >= self.api_keys:
                raise TooManyApiKeys(f"You may have {self.api_keys:,} API keys. Delete one that you no longer need.")

    def check_api_tokens(self, tx: Transaction, owner: int) -> None:
        """Raise TooManyApiTokens if the user has no room for another one."""
        if self.api_tokens:
            tx.users.lock(owner)
            if len(tx.api_tokens.of(owner)) >= self.api_tokens:
                raise TooManyApiTokens(
                    f"You may have {self.api_tokens:,} API tokens. Revoke one that you no longer need."
                )


class AtOnce:
    """Limits how many things each user does at once in this process; with the limit 0, nothing is refused."""

    def __init__(self, limit: int, refusal: type[TooMany]) -> None:
        self._limit = limit
        self._refusal = refusal
        self._running: Counter[int] = Counter()

    def begin(self, user_id: int, *, beyond: int = 0) -> None:
        """Count one more, or raise the refusal if there are more than ``beyond`` above the limit then."""
        if self._limit and self._running[user_id] >= self._limit + beyond:
            raise self._refusal(f"{self._refusal.title}: {self._limit:,} are allowed.", retry_after=1)
        self._running[user_id] += 1

    def end(self, user_id: int) -> None:
        """Count one less."""
        self._running[user_id] -= 1
        if not self._running[user_id]:
            del self._running[user_id]

    @contextmanager
    def one(self, user_id: int) -> Iterator[None]:
        """Count one more while inside, or raise the refusal."""
        self.begin(user_id)
        try:
            yield
        finally:
            self.end(user_id)
