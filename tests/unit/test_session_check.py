"""The check of a caller's session: what it refuses, and in which words."""

import pytest

from baio_adapters.memory import MemoryDatabase
from baio_domain.entities import Caller, Profile
from baio_domain.errors import NotAuthenticated
from baio_domain.ports import Transaction
from baio_domain.session_check import session_checked
from tests.unit.world import PASSWORD, START, BAiO

NOBODY = 999
GONE = "The account is disabled, or does not exist any more."
OVER = "The session is over. Sign in again."


def make(tx: Transaction) -> Caller:
    user = tx.users.add("ole", "ole@example.no", Profile("Ole", "N"), "hash", START)
    return Caller(user.id, tx.sessions.open(user.id, "", START).token_id)


async def refusal(database: MemoryDatabase, caller: Caller) -> str:
    def work(_: Transaction) -> None:
        raise AssertionError("the work must not begin")

    with pytest.raises(NotAuthenticated) as refused:
        await database.read(session_checked(caller, work))
    return refused.value.detail


async def test_an_active_session_and_a_caller_without_one_are_let_in() -> None:
    database = MemoryDatabase()
    caller = await database.write(make)
    for each in (caller, Caller(caller.user_id)):
        assert await database.read(session_checked(each, lambda _: "done")) == "done"


async def test_a_session_that_is_unknown_or_somebody_elses_is_over() -> None:
    database = MemoryDatabase()
    caller = await database.write(make)
    assert await refusal(database, Caller(caller.user_id, "0" * 32)) == OVER
    assert await refusal(database, Caller(NOBODY, caller.session_id)) == OVER


async def test_an_account_that_is_disabled_or_gone_is_refused_with_and_without_a_session() -> None:
    database = MemoryDatabase()
    caller = await database.write(make)
    await database.write(lambda tx: tx.users.disable(caller.user_id, START))
    assert await refusal(database, caller) == OVER
    assert await refusal(database, Caller(caller.user_id)) == GONE
    await database.write(lambda tx: tx.users.delete(caller.user_id))
    assert await refusal(database, caller) == OVER
    assert await refusal(database, Caller(caller.user_id)) == GONE


@pytest.mark.usefixtures("caller")
async def test_a_refresh_in_a_session_that_has_ended_says_so(baio: BAiO) -> None:
    tokens = await baio.sign_in("olenor", PASSWORD)
    await baio.sign_out(tokens.refresh)
    with pytest.raises(NotAuthenticated) as refused:
        await baio.refresh(tokens.refresh)
    assert refused.value.detail == OVER
