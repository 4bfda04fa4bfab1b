"""Streams end with the session that opened them: soon, with one question for all, and only those."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from baio_adapters.memory import MemoryDatabase
from baio_domain.entities import Caller, Origin
from baio_domain.errors import NotAuthenticated
from baio_domain.ports import Finished
from baio_domain.streams import CHECK_SECONDS, Stream, Streams
from tests.unit.world import OPENAI, OTHER, PASSWORD, BAiO, Link, heard, seconds, text_of


@pytest.fixture
def link() -> Link:
    """The way to a new database."""
    return Link(MemoryDatabase())


@pytest.fixture
async def two(link: Link) -> tuple[BAiO, BAiO]:
    """Two processes on it, with an account."""
    here, there = BAiO(link), BAiO(link)
    await here.load_catalogue([OPENAI, OTHER])
    await here.someone()
    return here, there


async def session(baio: BAiO, username: str = "olenor") -> tuple[Caller, str]:
    """A caller in a new session, and its refresh token."""
    tokens = await baio.sign_in(username, PASSWORD)
    return baio.tokens.verify(tokens.access, "access"), tokens.refresh


def streams_of(baio: BAiO) -> Streams:
    """The process's streams."""
    found: Streams = baio.open_stream.streams
    return found


def watched(stream: Stream) -> asyncio.Event:
    """An event that happens when the stream's session is over."""
    event = asyncio.Event()
    stream.when_over(event.set)
    return event


End = Callable[[BAiO, Caller, str], Awaitable[object]]
ENDS: dict[str, End] = {
    "logout": lambda baio, _caller, refresh: baio.sign_out(refresh),
    "logoutEverywhere": lambda baio, caller, _refresh: baio.sign_out_everywhere(caller),
    "disable": lambda baio, _caller, _refresh: baio.disable_user("olenor", Origin(operator="root")),
    "reset": lambda baio, _caller, _refresh: baio.reset_password(
        "olenor", "another long password", Origin(operator="root")
    ),
    "deleteAccount": lambda baio, caller, _refresh: baio.delete_account(caller, PASSWORD),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
async def test_a_stream_ends_within_a_second_of_its_session_on_any_process(end: End, two: tuple[BAiO, BAiO]) -> None:
    here, there = two
    caller, refresh = await session(here)
    async with streams_of(here).running(), streams_of(there).running():
        overs = [watched(baio.open_stream(caller)) for baio in two for _ in range(2)]
        await asyncio.sleep(7.3)
        assert not any(over.is_set() for over in overs)
        await end(here, caller, refresh)
        ended_at = seconds()
        for over in overs:
            await over.wait()
        assert seconds() - ended_at < 1


async def test_other_sessions_go_on_and_so_does_the_answer(two: tuple[BAiO, BAiO]) -> None:
    here, _ = two
    await here.someone("kari")
    (caller, refresh), (same, _), (other, _) = await session(here), await session(here), await session(here, "kari")
    nobody = Caller(caller.user_id)  # without a session, as in a terminal
    async with streams_of(here).running(), here.answering.running(drain_seconds=0):
        gate = asyncio.Event()
        here.openai.script("All ", gate, "of it.", Finished("stop", "gpt-4o"))
        answer = await here.ask(caller, await here.begin(caller))
        stream, others = here.open_stream(caller), [here.open_stream(each) for each in (same, other, nobody)]
        await here.sign_out(refresh)
        await watched(stream).wait()
        assert isinstance(stream.error, NotAuthenticated)
        assert [each.error for each in others] == [None] * 3
        gate.set()
        assert await text_of(answer) == "All of it."


async def test_streams_of_a_disabled_account_end_as_those_of_stopped_answers_on_any_process(
    two: tuple[BAiO, BAiO],
) -> None:
    here, there = two
    caller, _ = await session(here)
    async with streams_of(here).running(), streams_of(there).running(), AsyncExitStack() as stack:
        for baio in two:
            await stack.enter_async_context(baio.answering.running(drain_seconds=0))
        here.openai.script("All ", asyncio.Event())
        conversation = await here.begin(caller)
        answers = [await here.ask(caller, conversation), await there.follow(caller, conversation)]
        overs = [watched(baio.open_stream(caller)) for baio in two]
        hearing = [asyncio.create_task(heard(answer)) for answer in answers]
        await asyncio.sleep(7.3)
        await here.disable_user("olenor", Origin(operator="root"))
        assert await asyncio.gather(*hearing) == [("All ", None)] * 2
        assert not any(over.is_set() for over in overs)


async def test_whoever_asks_when_it_is_over_already_is_told_at_once(two: tuple[BAiO, BAiO]) -> None:
    here, _ = two
    caller, refresh = await session(here)
    async with streams_of(here).running():
        stream = here.open_stream(caller)
        await here.sign_out(refresh)
        await asyncio.sleep(1)
        assert watched(stream).is_set()


async def test_all_streams_cost_one_look_up_and_none_when_none_is_open(two: tuple[BAiO, BAiO], link: Link) -> None:
    here, _ = two
    callers = [(await session(here))[0] for _ in range(3)]
    async with streams_of(here).running():
        before = link.reads
        await asyncio.sleep(60)
        assert link.reads == before
        open_ones = [here.open_stream(caller) for caller in callers for _ in range(3)]
        await asyncio.sleep(100.5 * CHECK_SECONDS)
        assert link.reads - before == 100
        for stream in open_ones:
            stream.close()
        before = link.reads
        await asyncio.sleep(60)
        assert link.reads == before


async def test_while_the_database_is_away_streams_go_on_and_end_when_it_is_back(
    two: tuple[BAiO, BAiO], link: Link
) -> None:
    here, _ = two
    caller, refresh = await session(here)
    async with streams_of(here).running():
        stream = here.open_stream(caller)
        await here.sign_out(refresh)
        link.is_cut = True
        await asyncio.sleep(30)
        assert stream.error is None
        assert link.refused > 10
        link.is_cut = False
        await asyncio.sleep(1)
        assert stream.error is not None
