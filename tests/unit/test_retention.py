"""How long conversations are kept: the rounds that delete them, what is exempt, and what is said about it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from baio_domain.entities import Act, Caller, Retention, RetentionPolicy
from baio_domain.errors import ConversationNotFound, IdempotencyKeyReused, KeepingNotAllowed
from baio_domain.ports import Database, Finished
from baio_domain.retention import ROUND_SECONDS, STEP_ROWS, Keeper
from tests.unit.world import OPENAI, START, BAiO, Link, heard, later, text_of

STOP = Finished("stop")


@asynccontextmanager
async def keeping(**settings: Any) -> AsyncIterator[tuple[BAiO, Caller]]:
    """BAiO with one user, and its keeper at work."""
    baio = BAiO(**settings)
    await baio.load_catalogue([OPENAI])
    async with baio.answering.running(0), keeper_of(baio).running():
        yield baio, await baio.someone()


DISTRUST = 120.0
"""Seconds. An hour after each day that passes is more than a test may wait."""


def keeper_of(process: BAiO, database: Database | None = None) -> Keeper:
    policy: RetentionPolicy = process._container.retention_policy()
    return Keeper(database or process.database, process.clock, policy, DISTRUST)


async def days_pass(baio: BAiO, days: float) -> None:
    """Days in which nothing happens, and the time and the rounds after which the clock is trusted again."""
    baio.clock.skipped += timedelta(days=days)
    await later(DISTRUST + 3 * ROUND_SECONDS).wait()


async def there(baio: BAiO, caller: Caller) -> list[int]:
    return sorted(each.id for each in await baio.get_conversations(caller))


async def test_without_a_period_only_temporary_conversations_go() -> None:
    async with keeping() as (baio, caller):
        lasting = await baio.begin(caller)
        temporary = (await baio.create_conversation(caller, "A question", temporary=True)).id
        await days_pass(baio, 0.9)
        assert await there(baio, caller) == [lasting, temporary]
        await days_pass(baio, 0.2)
        assert await there(baio, caller) == [lasting]
        await days_pass(baio, 10_000)
        assert await there(baio, caller) == [lasting]


async def test_a_conversation_goes_when_nothing_has_happened_in_it_for_the_period() -> None:
    async with keeping(keep_days=90) as (baio, caller):
        quiet, asked, again, kept = [await baio.begin(caller) for _ in range(4)]
        await text_of(await baio.ask(caller, again))
        await baio.keep_conversation(caller, kept)
        await days_pass(baio, 80)
        await text_of(await baio.ask(caller, asked))
        await text_of(await baio.regenerate(caller, again))
        await baio.rename_conversation(caller, quiet, "Still here")
        await days_pass(baio, 20)
        assert await there(baio, caller) == [asked, again, kept]
        await days_pass(baio, 75)
        assert await there(baio, caller) == [kept]
        await baio.keep_conversation(caller, kept, kept=False)
        await later(2 * ROUND_SECONDS).wait()
        assert await there(baio, caller) == []


async def test_a_conversation_that_is_answered_stays_and_its_answer_counts_as_activity() -> None:
    async with keeping(keep_days=1) as (baio, caller):
        conversation = await baio.begin(caller)
        ended = later(500)
        baio.openai.script(*[step for number in range(20) for step in (f"{number} ", later(25 * number))], STOP)
        answer = await baio.ask(caller, conversation)
        baio.clock.skipped += timedelta(days=3)
        await ended.wait()
        await heard(answer)
        assert await there(baio, caller) == [conversation]


async def test_many_go_in_small_steps_and_the_audit_has_their_number_alone() -> None:
    async with keeping(keep_days=30) as (baio, caller):
        for _ in range(2 * STEP_ROWS + 5):
            await baio.begin(caller, "My secret")
        await days_pass(baio, 31)
        assert await there(baio, caller) == []
        entries = [each for each in await baio.read_audit(None) if each.act is Act.CONVERSATIONS_EXPIRED]
        assert [each.note for each in entries] == ["32 conversations", "32 conversations", "5 conversations"]
        assert {(each.user_id, each.address, each.operator) for each in entries} == {(None, "", "")}


async def test_two_processes_delete_each_conversation_once() -> None:
    async with keeping(keep_days=30) as (baio, caller):
        other = BAiO(baio.database, keep_days=30)
        async with keeper_of(other).running():
            for _ in range(3 * STEP_ROWS):
                await baio.begin(caller)
            other.clock.skipped += timedelta(days=31)
            await days_pass(baio, 31)
        assert await there(baio, caller) == []
        counted = [each for each in await baio.read_audit(None) if each.act is Act.CONVERSATIONS_EXPIRED]
        assert sum(int(each.note.split()[0]) for each in counted) == 3 * STEP_ROWS


async def test_nothing_goes_for_a_while_after_the_clock_was_set() -> None:
    async with keeping(keep_days=30) as (baio, caller):
        conversation = await baio.begin(caller)
        await later(2 * ROUND_SECONDS).wait()
        baio.clock.skipped += timedelta(days=365)
        await later(DISTRUST - 2 * ROUND_SECONDS).wait()
        baio.clock.skipped -= timedelta(days=365)  # somebody has noticed
        await later(DISTRUST + 3 * ROUND_SECONDS).wait()
        assert await there(baio, caller) == [conversation]


async def test_activity_in_the_future_is_not_activity_for_ever() -> None:
    async with keeping(keep_days=30) as (baio, caller):
        baio.clock.skipped += timedelta(days=3_650)
        conversation = await baio.begin(caller)
        baio.clock.skipped -= timedelta(days=3_650)
        await days_pass(baio, 1)
        assert await there(baio, caller) == [conversation]
        await days_pass(baio, 31)
        assert await there(baio, caller) == []


async def test_the_rounds_go_on_after_the_database_was_unavailable() -> None:
    baio = BAiO(keep_days=30)
    await baio.load_catalogue([OPENAI])
    caller = await baio.someone()
    link = Link(baio.database)
    async with keeper_of(baio, link).running():
        await baio.begin(caller)
        link.is_cut = True
        await days_pass(baio, 31)
        assert link.refused
        link.failure = RuntimeError("a bug")
        await later(2 * ROUND_SECONDS).wait()
        assert len(await there(baio, caller)) == 1
        link.is_cut = False
        await later(2 * ROUND_SECONDS).wait()
        assert await there(baio, caller) == []


async def test_what_holds_is_said_and_when_each_goes() -> None:
    async with keeping(keep_days=90) as (baio, caller):
        lasting = await baio.begin(caller)
        temporary = (await baio.create_conversation(caller, "", temporary=True)).id
        assert await baio.get_retention(caller) == (RetentionPolicy(timedelta(days=90)), None)
        for each, days in ((lasting, 90), (temporary, 1)):
            _, told = await baio.get_retention(caller, each)
            assert told.goes_at == told.retention.updated_at + timedelta(days=days)
        kept = await baio.keep_conversation(caller, temporary)
        assert (kept.id, kept.retention.kept, kept.retention.temporary, kept.goes_at) == (temporary, True, True, None)
        data = await baio.export_data(caller)
        exported = [each async for page in data.conversations for each in page]
        assert [(each.conversation.id, each.goes_at is None) for each in exported] == [
            (temporary, True),
            (lasting, False),
        ]
        undone = await baio.keep_conversation(caller, temporary, kept=False)
        assert undone.goes_at is not None
        with pytest.raises(ConversationNotFound):
            await baio.get_retention(await baio.someone("kari"), lasting)


async def test_where_keeping_is_not_allowed_nothing_is_exempt_any_more() -> None:
    async with keeping(keep_days=30) as (baio, caller):
        conversation = await baio.begin(caller)
        await baio.keep_conversation(caller, conversation)
        strict = BAiO(baio.database, keep_days=30, keep_allowed=False)
        with pytest.raises(KeepingNotAllowed):
            await strict.keep_conversation(caller, conversation)
        with pytest.raises(ConversationNotFound):
            await strict.keep_conversation(caller, conversation + 1)
        policy, told = await strict.get_retention(caller, conversation)
        assert not policy.keeping_allowed
        assert (told.retention.kept, told.goes_at) == (True, told.retention.updated_at + timedelta(days=30))
        assert not (await strict.keep_conversation(caller, conversation, kept=False)).retention.kept


async def test_a_branch_of_a_temporary_conversation_is_temporary_and_active_now(baio: BAiO, caller: Caller) -> None:
    conversation = (await baio.create_conversation(caller, "", temporary=True)).id
    await text_of(await baio.ask(caller, conversation))
    await baio.keep_conversation(caller, conversation)
    await later(5).wait()
    branch = await baio.branch_conversation(caller, conversation)
    _, told = await baio.get_retention(caller, branch.id)
    assert told.retention == Retention(baio.clock.now(), temporary=True)


async def test_a_temporary_conversation_is_another_request_than_a_lasting_one(baio: BAiO, caller: Caller) -> None:
    first = await baio.create_conversation(caller, "", "key", temporary=True)
    assert (await baio.create_conversation(caller, "", "key", temporary=True)).id == first.id
    with pytest.raises(IdempotencyKeyReused):
        await baio.create_conversation(caller, "", "key")


def test_the_shorter_period_counts_and_an_import_is_activity() -> None:
    day = timedelta(days=1)
    week = RetentionPolicy(7 * day)
    assert RetentionPolicy().goes_at(Retention(START)) is None
    assert week.goes_at(Retention(START)) == START + 7 * day
    assert week.goes_at(Retention(START, temporary=True)) == START + day
    assert week.goes_at(Retention(START, kept=True, temporary=True)) is None
    assert week.goes_at(Retention(START, imported_at=START + 30 * day)) == START + 37 * day
    assert week.goes_at(Retention(START + 40 * day, imported_at=START)) == START + 47 * day
