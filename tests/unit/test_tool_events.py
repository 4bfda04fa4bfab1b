"""Who follows an answer as events is told of the calls of tools in it, wherever and whenever it begins."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from baio_domain.answering import CHECKPOINT_SECONDS, POLL_SECONDS, AnswerItem, Followable
from baio_domain.entities import Caller, CallState, ToolCall
from baio_domain.ports import Called
from tests.unit.test_rounds import DONE, LINE_A, A, B, calling, someone
from tests.unit.world import BAiO, later

Heard = str | tuple[int, str]

LINE_B = "> echo: **done**. echo 1 [call 2]"
WHOLE = f"See:\n\n{LINE_A}\n\n{LINE_B}\n\nA and B."
FIRST, SECOND = WHOLE.index(LINE_A), WHOLE.index(LINE_B)
RUNNING_A, DONE_A, RUNNING_B, DONE_B = (1, "running"), (1, "done"), (2, "running"), (2, "done")


def told(item: AnswerItem) -> Heard:
    """A call as its id and state, everything else as it is."""
    return (item.id, item.state.value) if isinstance(item, ToolCall) else str(item)


async def heard(answer: Followable, offset: int = 0) -> list[Heard]:
    """What a follower of events hears, with neighbouring texts joined."""
    found: list[Heard] = []
    async for item in answer.follow_events(offset):
        each = told(item)
        if isinstance(each, str) and found and isinstance(found[-1], str):
            found[-1] += each
        else:
            found.append(each)
    return found


@pytest.fixture
async def baio() -> AsyncIterator[BAiO]:
    baio = BAiO(roll={})
    async with baio.answering.running(1):
        yield baio


async def asked(baio: BAiO, hold: asyncio.Event | None = None) -> tuple[Caller, int, Followable]:
    """An answer with two calls in two rounds, of which the second waits for the event."""
    caller = await someone(baio)
    thread = await baio.begin(caller)
    baio.openai.script(*calling(A, said=["See:"]))
    baio.openai.script(*calling(B))
    baio.openai.script("A and B.", DONE)
    baio.toolbox.script()
    if hold is not None:
        baio.toolbox.script(hold)
    return caller, thread, await baio.ask(caller, thread)


async def test_calls_come_in_their_place_when_they_begin_and_when_they_end(baio: BAiO) -> None:
    _, _, answer = await asked(baio)
    assert await heard(answer) == [
        "See:\n\n", RUNNING_A, DONE_A, f"{LINE_A}\n\n", RUNNING_B, DONE_B, f"{LINE_B}\n\nA and B.",
    ]  # fmt: skip


@pytest.mark.parametrize("process", ["the same", "another"])
@pytest.mark.parametrize(
    ("offset", "calls"), [(0, [DONE_A, RUNNING_B]), (FIRST + 5, [DONE_A, RUNNING_B]), (SECOND, [RUNNING_B])]
)
async def test_who_joins_is_first_told_the_calls_whose_lines_end_beyond_as_they_are(
    process: str, offset: int, calls: list[Heard], baio: BAiO
) -> None:
    hold = later(5)
    caller, thread, _ = await asked(baio, hold)
    await later(2).wait()
    here = baio if process == "the same" else BAiO(baio.database, roll={})
    found = await heard(await here.follow(caller, thread, offset), offset)
    before = [WHOLE[offset:SECOND]] if offset < SECOND else []
    assert found == [*calls, *before, DONE_B, WHOLE[SECOND:]]


@pytest.mark.parametrize(
    ("offset", "calls"), [(0, [DONE_A, DONE_B]), (FIRST + len(LINE_A), [DONE_B]), (SECOND + len(LINE_B), [])]
)
async def test_who_follows_an_answer_that_has_ended_is_told_each_call_once_and_then_the_text(
    offset: int, calls: list[Heard], baio: BAiO
) -> None:
    caller, thread, answer = await asked(baio)
    await heard(answer)
    assert await heard(await baio.follow(caller, thread, offset), offset) == [*calls, WHOLE[offset:]]
    assert await heard(answer, offset) == [*calls, WHOLE[offset:]]


async def test_a_call_that_ends_while_another_process_is_followed_is_told_there(baio: BAiO) -> None:
    caller, thread, _ = await asked(baio, later(5))
    other = BAiO(baio.database, roll={})
    found = [told(item) async for item in (await other.follow(caller, thread)).follow_events()]
    calls = [each for each in found if isinstance(each, tuple)]
    assert calls[-1] == DONE_B
    assert len(calls) == len(set(calls))
    assert "".join(each for each in found if isinstance(each, str)) == WHOLE


async def test_a_call_is_told_where_it_stands_by_a_slow_follower_too(baio: BAiO) -> None:
    _, _, answer = await asked(baio)
    offset = 0
    async for item in answer.follow_events():
        await later(3 * CHECKPOINT_SECONDS + POLL_SECONDS).wait()
        if isinstance(item, str):
            offset += len(item)
        elif isinstance(item, ToolCall):
            assert item.offset == offset
    assert offset == len(WHOLE)


@pytest.mark.parametrize("process", ["the same", "another"])
async def test_a_call_that_runs_when_the_answer_is_stopped_is_told_as_cancelled(process: str, baio: BAiO) -> None:
    caller, thread, _ = await asked(baio, asyncio.Event())
    await later(2).wait()
    here = baio if process == "the same" else BAiO(baio.database, roll={})
    following = asyncio.create_task(heard(await here.follow(caller, thread)))
    await later(2).wait()
    await baio.stop_answer(caller, thread)
    assert (await following)[-1] == (2, CallState.CANCELLED.value)
    assert (await heard(await baio.follow(caller, thread)))[1] == (2, CallState.CANCELLED.value)


async def test_calls_without_lines_are_told_to_who_begins_where_they_stand(baio: BAiO) -> None:
    caller = await someone(baio)
    thread = await baio.begin(caller)
    baio.openai.script(*calling(Called("blast", "{}")))
    baio.openai.script("No.", DONE)
    await heard(await baio.ask(caller, thread))
    assert await heard(await baio.follow(caller, thread)) == [(1, "refused"), "No."]
    assert await heard(await baio.follow(caller, thread, 1), 1) == ["o."]


async def test_a_command_is_told_as_a_call(baio: BAiO) -> None:
    caller = await someone(baio)
    answer = await baio.ask(caller, await baio.begin(caller), "/echo A")
    assert await heard(answer) == [RUNNING_A, DONE_A, LINE_A]


async def test_plain_text_has_no_calls_and_comes_whole_from_any_character(baio: BAiO) -> None:
    _, _, answer = await asked(baio, later(2))
    assert "".join([text async for text in answer.follow()]) == WHOLE
