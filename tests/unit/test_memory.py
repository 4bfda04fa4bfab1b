"""The database in memory: what it promises besides its port."""

import pytest

from baio_adapters.memory import MemoryDatabase
from baio_domain.entities import Profile
from baio_domain.ports import Transaction
from tests.unit.world import START


def add(tx: Transaction) -> int:
    return tx.users.add("ole", "ole@example.no", Profile("Ole", "N"), "hash", START).id


async def test_what_a_read_writes_is_dropped() -> None:
    database = MemoryDatabase()
    user_id = await database.read(add)
    assert await database.read(lambda tx: tx.users.by_username("ole")) is None
    assert await database.write(add) == user_id


async def test_a_write_that_raises_leaves_everything_as_it_was() -> None:
    database = MemoryDatabase()
    await database.write(add)
    before = repr(database._tables)

    def fail(tx: Transaction) -> None:
        tx.conversations.add(1, "lost", START)
        tx.users.save_profile(1, Profile("Lost", "N"))
        raise LookupError

    with pytest.raises(LookupError):
        await database.write(fail)
    assert repr(database._tables) == before


async def test_there_is_nothing_to_reach_and_nothing_to_let_go_of() -> None:
    database = MemoryDatabase()
    await database.write(add)
    await database.check()
    await database.check_writable()
    database.close()
    assert await database.read(lambda tx: tx.users.by_username("ole")) is not None
