"""What the workers of every database must know of each other: one test suite for the port, run for each adapter.

Subclass ``WorkersContract`` and give it fixtures: ``new`` makes a worker of one database, and ``kill`` releases a
worker's lock as the system does when the worker's process dies.
"""

import asyncio
from collections.abc import Callable

from baio_domain.ports import RollCall, Workers

New = Callable[[], Workers]
Kill = Callable[[Workers], None]

NOBODY = 2**61


async def number_of(worker: Workers) -> int:
    """The worker's number; it must have a lock."""
    number = await worker.enroll()
    assert number is not None
    return number


async def judged(worker: Workers, number: int, true: Callable[[RollCall], object]) -> RollCall:
    """What the worker knows of that other one, once this is true: a database takes a moment to release a lock."""
    async with asyncio.timeout(30):
        while True:
            if true(found := await worker.judge([number])):
                return found
            await asyncio.sleep(0.05)


async def died(worker: Workers, number: int) -> RollCall:
    """What the worker knows once that other one counts as dead."""
    return await judged(worker, number, lambda found: found.dead)


class WorkersContract:
    """The obligations of ``Workers``."""

    async def test_a_worker_keeps_its_number_and_no_two_have_the_same(self, new: New) -> None:
        one, two = new(), new()
        numbers = [await number_of(worker) for worker in (one, two, one, two)]
        assert numbers[:2] == numbers[2:]
        assert 0 < min(numbers) < max(numbers) < 2**63

    async def test_who_holds_a_lock_lives(self, new: New) -> None:
        one, two = new(), new()
        first, second = await number_of(one), await number_of(two)
        for _ in range(3):
            assert await one.judge([second]) == RollCall(alive=frozenset({second}))
            assert await two.judge([first]) == RollCall(alive=frozenset({first}))

    async def test_who_has_died_is_dead_to_everybody_and_others_live(self, new: New, kill: Kill) -> None:
        one, two, victim = new(), new(), new()
        _, second, dead = [await number_of(worker) for worker in (one, two, victim)]
        kill(victim)
        await asyncio.gather(died(one, dead), died(two, dead))
        assert await one.judge([second, dead]) == RollCall(alive=frozenset({second}), dead=frozenset({dead}))

    async def test_a_successor_knows_who_has_died_before_it_began(self, new: New, kill: Kill) -> None:
        victim = new()
        dead = await number_of(victim)
        kill(victim)
        successor = new()
        assert await number_of(successor) != dead
        await died(successor, dead)

    async def test_nothing_is_known_of_somebody_who_was_never_there(self, new: New) -> None:
        worker = new()
        await number_of(worker)
        for _ in range(3):
            assert await worker.judge([NOBODY]) == RollCall()
            assert await worker.judge([]) == RollCall()

    async def test_a_lock_that_was_lost_is_taken_again_under_another_number(self, new: New, kill: Kill) -> None:
        one, other = new(), new()
        before = await number_of(one)
        await number_of(other)
        kill(one)
        while (now := await one.enroll()) in (None, before):
            pass
        assert now is not None
        assert (await other.judge([now])).alive == {now}

    async def test_who_has_left_does_not_live(self, new: New) -> None:
        leaving, other = new(), new()
        number = await number_of(leaving)
        await number_of(other)
        leaving.leave()
        await judged(other, number, lambda found: not found.alive)
