"""Which of the processes that share a database live."""

from abc import abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RollCall:
    """What is known of some workers. Of a worker in neither set, nothing is known."""

    alive: frozenset[int] = frozenset()
    dead: frozenset[int] = frozenset()


class Workers(Protocol):
    """The workers of one database. Each holds a lock for as long as its process lives.

    The system releases the lock when the process ends, in whatever way. Whoever can take the lock of a worker knows
    that the worker is dead. A worker that is frozen still holds its lock.
    """

    @abstractmethod
    async def enroll(self) -> int | None:
        """The number under which this worker holds its lock, at least 1; None if it can't have a lock.

        Call it again and again: a lock that was lost is taken anew, under another number. No number is used twice.
        """

    @abstractmethod
    async def judge(self, numbers: Collection[int]) -> RollCall:
        """Which of these workers live, and which are certainly dead. Call it after ``enroll``."""

    @abstractmethod
    def leave(self) -> None:
        """Release the lock. Nothing else is called afterwards."""
