"""A clock that was ahead, or behind: nothing that it has stored is believed for longer than it could be right."""

import asyncio
from datetime import timedelta

import pytest

from baio_domain.answering import LEASE
from baio_domain.entities import NOWHERE, AnswerState, Caller, Origin
from baio_domain.errors import BadCredentials, BaioError, InvalidInput, TooManyAttempts
from baio_domain.one_time_codes import counter_at, one_time_code
from baio_domain.rate_limits import PASSWORD_LIMIT
from tests.unit.world import PASSWORD, BAiO, later, text_of

JUMPS = [timedelta(hours=1), timedelta(days=365)]
HERE = Origin("10.0.0.1")


async def refusal(baio: BAiO, password: str = PASSWORD, code: str | None = None) -> type[BaioError] | None:
    try:
        await baio.sign_in("olenor", password, code, HERE)
    except BaioError as error:
        return type(error)
    return None


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.usefixtures("caller")
async def test_failures_from_the_future_are_forgotten(jump: timedelta, baio: BAiO) -> None:
    baio.clock.skipped = jump
    for _ in range(PASSWORD_LIMIT.burst):
        assert await refusal(baio, "wrong") is BadCredentials
    assert await refusal(baio) is TooManyAttempts
    baio.clock.skipped = timedelta(0)
    assert await refusal(baio) is None


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.usefixtures("caller")
async def test_a_clock_that_is_corrected_shuts_nobody_out(
    jump: timedelta,
    ahead: bool,  # noqa: FBT001 - a case of the table
    baio: BAiO,
) -> None:
    baio.clock.skipped = timedelta(days=400) + (jump if ahead else -jump)
    assert await refusal(baio) is None
    baio.clock.skipped = timedelta(days=400)
    assert await refusal(baio) is None


@pytest.mark.parametrize("jump", JUMPS)
async def test_a_code_that_was_used_in_the_future_does_not_shut_out_those_of_today(
    jump: timedelta, baio: BAiO, caller: Caller
) -> None:
    baio.clock.skipped = jump
    seed = (await baio.enroll_two_factor(caller, PASSWORD)).secret
    await baio.confirm_two_factor(caller, one_time_code(seed, counter_at(baio.clock.now())))
    baio.clock.skipped = timedelta(0)
    code = one_time_code(seed, counter_at(baio.clock.now()))
    assert await refusal(baio, code=code) is None
    assert await refusal(baio, code=code) is not None  # once, as ever


@pytest.mark.parametrize("jump", JUMPS)
async def test_an_answer_whose_lease_lies_far_ahead_is_ended(
    jump: timedelta, baio: BAiO, caller: Caller, conversation: int
) -> None:
    dead = BAiO(baio.database)
    dead.clock.skipped = jump
    dead.openai.script("Half an ", asyncio.Event())
    running = asyncio.ensure_future(text_of(await dead.ask(caller, conversation)))  # without its keeper: it is dead
    await later(LEASE.total_seconds()).wait()
    assert (await baio.newest(caller, conversation)).state is AnswerState.INTERRUPTED
    running.cancel()
    assert await text_of(await baio.ask(caller, conversation))


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.usefixtures("caller")
async def test_a_session_that_was_opened_in_the_future_lasts_no_longer_than_any(
    jump: timedelta, baio: BAiO, caller: Caller
) -> None:
    baio.clock.skipped = jump
    tokens = await baio.sign_in("olenor", PASSWORD)
    baio.clock.skipped = timedelta(0)
    await baio.refresh(tokens.refresh)
    [session] = await baio.get_sessions(caller)
    assert session.created_at <= baio.clock.now()


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.usefixtures("caller")
async def test_a_link_that_was_made_in_the_future_does_not_work_until_then(jump: timedelta, baio: BAiO) -> None:
    baio.clock.skipped = jump + timedelta(minutes=1)
    link = await baio.offer_password_reset("olenor", NOWHERE)
    baio.clock.skipped = timedelta(0)
    with pytest.raises(InvalidInput):
        await baio.redeem_reset(link, "anotherPassword1", NOWHERE)


@pytest.mark.parametrize("jump", JUMPS)
async def test_a_request_that_is_repeated_after_a_correction_is_recognised_for_a_day(
    jump: timedelta, baio: BAiO, caller: Caller
) -> None:
    baio.clock.skipped = jump
    first = await baio.create_conversation(caller, "once", "key")
    baio.clock.skipped = timedelta(0)
    assert (await baio.create_conversation(caller, "once", "key")).id == first.id
    await later(10).wait()  # the keeper has passed
    baio.clock.skipped = timedelta(hours=25)
    assert (await baio.create_conversation(caller, "once", "key")).id != first.id
