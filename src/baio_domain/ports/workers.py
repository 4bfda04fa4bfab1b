"""Which of the processes that share a database are alive."""

from abc import abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RollCall:
    """Knowledge about some workers. About a worker in neither set, nothing is known."""

    alive: frozenset[int] = frozenset()
    dead: frozenset[int] = frozenset()


class Workers(Protocol):
    """The workers of one database. Each holds a lock while its process lives.

    The system releases the lock however the process ends. A process that can take a worker's lock knows that the worker
    is dead. A worker that is frozen still holds its lock.
    """

    @abstractmethod
    async def enroll(self) -> int | None:
        """The number under which this worker holds its lock, at least 1; None if it can't have a lock.

        Call it repeatedly: a lock that was lost is taken again, under another number. No number is used twice.
        """

    @abstractmethod
    async def judge(self, numbers: Collection[int]) -> RollCall:
        """Which of these workers are alive, and which are certainly dead. Call it after ``enroll``."""

    @abstractmethod
    def leave(self) -> None:
        """Release the lock. Nothing else is called afterwards."""
