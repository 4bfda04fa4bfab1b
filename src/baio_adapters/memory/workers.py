"""Workers that share a dict instead of locks."""

import itertools
from collections.abc import Collection
from typing import final

from baio_domain.ports import RollCall, Workers

_numbers = itertools.count(1)


@final
class MemoryWorkers(Workers):
    """A worker on the same ``roll`` as others: a dict that says of each number whether its worker lives."""

    def __init__(self, roll: dict[int, bool] | None = None) -> None:
        self._roll = {} if roll is None else roll
        self._number = 0

    async def enroll(self) -> int:
        if not self._roll.get(self._number):
            self._number = next(_numbers)
            self._roll[self._number] = True
        return self._number

    async def judge(self, numbers: Collection[int]) -> RollCall:
        known = {number: lives for number, lives in self._roll.items() if number in numbers}
        return RollCall(
            alive=frozenset(number for number, lives in known.items() if lives),
            dead=frozenset(number for number, lives in known.items() if not lives),
        )

    def leave(self) -> None:
        self._roll[self._number] = False
