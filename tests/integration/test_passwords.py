"""Passwords as they are stored and refused: Argon2id's parameters, and the list of the most common ones."""

import asyncio
import threading
from functools import partial

import argon2
import pytest

from baio_adapters.passwords import Argon2Hasher, FairQueue, common_passwords
from baio_domain.entities import password_problems
from baio_domain.errors import Unavailable


@pytest.fixture(scope="module")
def common() -> frozenset[str]:
    return common_passwords()


def test_a_hash_is_argon2id_with_the_parameters_that_asvs_asks_for_and_a_salt_of_its_own() -> None:
    hasher = Argon2Hasher()
    one, two = (asyncio.run(hasher.hash("oleSterktPassord123")) for _ in range(2))
    assert one != two
    found = argon2.extract_parameters(one)
    assert (found.type, found.version) == (argon2.Type.ID, 19)
    assert (found.memory_cost, found.time_cost, found.parallelism) == (46 * 1024, 1, 1)
    assert (found.salt_len, found.hash_len) == (16, 32)


def test_a_hash_with_other_parameters_is_right_and_outdated() -> None:
    hasher = Argon2Hasher()
    weaker = argon2.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash("oleSterktPassord123")
    assert asyncio.run(hasher.verify("oleSterktPassord123", weaker))
    assert hasher.outdated(weaker)
    assert not hasher.outdated(asyncio.run(hasher.hash("oleSterktPassord123")))


@pytest.mark.parametrize(
    "password", ["x" * 1024, "\N{DNA DOUBLE HELIX}" * 1024, " leading and trailing ", "a\0b\0c\0d\0"]
)
def test_a_password_counts_whole_and_to_the_letter(password: str) -> None:
    hasher = Argon2Hasher()
    stored = asyncio.run(hasher.hash(password))
    assert asyncio.run(hasher.verify(password, stored))
    for other in (password[:-1], f"{password}x", password.strip() + "\t"):
        assert not asyncio.run(hasher.verify(other, stored))


def test_no_more_wait_than_can_be_served_soon() -> None:
    hasher = Argon2Hasher(max_pending=2)

    async def at_once(number: int) -> list[object]:
        return await asyncio.gather(
            *(hasher.hash("oleSterktPassord123") for _ in range(number)), return_exceptions=True
        )

    kinds = [type(each) for each in asyncio.run(at_once(5))]
    assert (kinds.count(str), kinds.count(Unavailable)) == (3, 2)
    assert [type(each) for each in asyncio.run(at_once(3))] == [str] * 3


def test_networks_that_wait_take_turns_and_a_flood_only_displaces_itself() -> None:
    queue, order = FairQueue(limit=20), list[str]()

    async def job(network: str, number: int) -> None:
        await queue.run(network, lambda: order.append(f"{network} {number}"))

    async def flood() -> list[object]:
        gate = threading.Event()
        first = asyncio.ensure_future(queue.run("flood", gate.wait))
        flooding = [asyncio.ensure_future(job("flood", number)) for number in range(300)]
        await asyncio.sleep(0)
        others = [asyncio.ensure_future(job(network, number)) for network in ("a", "b") for number in range(3)]
        await asyncio.sleep(0)
        gate.set()
        await first
        return await asyncio.gather(*flooding, *others, return_exceptions=True)

    results = asyncio.run(flood())
    assert results[300:] == [None] * 6
    assert [type(each) for each in results[:300]].count(Unavailable) == 300 - (20 - 6)
    # Of three networks that wait, each has every third turn, although one had filled the queue before.
    assert {each.split()[0] for each in order[:3]} == {"flood", "a", "b"}
    assert sorted(each for each in order[:9] if not each.startswith("flood")) == [
        "a 0", "a 1", "a 2", "b 0", "b 1", "b 2",
    ]  # fmt: skip


def test_whoever_has_left_takes_no_place_and_no_turn() -> None:
    queue, done = FairQueue(limit=2), list[int]()

    async def leave() -> None:
        gate = threading.Event()
        first = asyncio.ensure_future(queue.run("a", gate.wait))
        waiting = [asyncio.ensure_future(queue.run("a", partial(done.append, number))) for number in range(2)]
        await asyncio.sleep(0)
        for each in waiting:
            each.cancel()
        await asyncio.sleep(0)
        stays = asyncio.ensure_future(queue.run("a", partial(done.append, 7)))
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(first, stays)

    asyncio.run(leave())
    assert done == [7]


def test_every_failure_takes_as_long_as_one_with_the_slowest_outdated_hash() -> None:
    hasher = Argon2Hasher()
    slower = argon2.PasswordHasher(time_cost=8, memory_cost=46 * 1024, parallelism=1).hash("oleSterktPassord123")

    async def failure(stored: str | None) -> float:
        started = asyncio.get_running_loop().time()
        assert not await hasher.verify("wrong", stored)
        return asyncio.get_running_loop().time() - started

    async def compare() -> tuple[float, float, float]:
        outdated = await failure(slower)  # the hasher learns from the first one
        return hasher._slowest_failure, min(outdated, await failure(None)), await failure(await hasher.hash("x"))

    learnt, nobody, current = asyncio.run(compare())
    assert min(nobody, current) >= learnt - 0.001


@pytest.mark.parametrize("stored", [None, "", "nonsense", "$argon2id$v=19$m=1,t=1,p=1$x$y"])
def test_what_is_no_hash_is_never_right(stored: str | None) -> None:
    assert not asyncio.run(Argon2Hasher().verify("nobody has this password", stored))


def test_the_3000_most_common_passwords_of_8_or_more_characters_are_refused(common: frozenset[str]) -> None:
    assert len(common) == 3000
    assert min(map(len, common)) == 8
    refused = [password for password in common if list(password_problems(password, [], common))]
    assert len(refused) == 3000
    assert {"password", "iloveyou", "trustno1", "baseball"} <= common
    assert "oleSterktPassord123".casefold() not in common
