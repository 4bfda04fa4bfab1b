"""What one user may have: each limit at it and beyond it, and that what is refused changes nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from baio_adapters.memory import MemoryDatabase
from baio_domain.entities import RECORD_BYTES, Caller, stored_size
from baio_domain.errors import (
    BaioError,
    KeyRefused,
    NotAuthenticated,
    StorageFull,
    TooManyApiKeys,
    TooManyConversations,
    TooManyKeyTests,
    TooManyStreams,
)
from baio_domain.idempotency import MAX_IDEMPOTENCY_KEYS
from baio_domain.prompts import SYSTEM_PROMPT
from tests.unit.world import OPENAI, OTHER, PASSWORD, BAiO, heard, text_of


@asynccontextmanager
async def with_quotas(**settings: Any) -> AsyncIterator[tuple[BAiO, Caller]]:
    """A process with these settings, and somebody with an account and a key."""
    process = BAiO(**settings)
    await process.load_catalogue([OPENAI, OTHER])
    async with process.answering.running(drain_seconds=0):
        yield process, await process.someone()


async def refused(baio: BAiO, kind: type[BaioError], act: Awaitable[object]) -> BaioError:
    """Check that this is refused and changes nothing; the refusal."""
    assert isinstance(baio.database, MemoryDatabase)
    before = repr(baio.database._tables)
    with pytest.raises(kind) as raised:
        await act
    assert repr(baio.database._tables) == before
    assert type(raised.value) is kind
    return raised.value


async def stored(baio: BAiO, caller: Caller) -> int:
    """The bytes that count for the caller."""
    return (await baio.database.read(lambda tx: tx.conversations.stored(caller.user_id)))[1]


NEW = stored_size(SYSTEM_PROMPT)
"""What a new conversation counts for."""


async def test_text_is_stored_up_to_the_quota_and_no_byte_beyond_it() -> None:
    async with with_quotas(stored_bytes_per_user=NEW + 1000) as (baio, caller):
        conversation = await baio.begin(caller)
        refusal = await refused(baio, StorageFull, baio.ask(caller, conversation, "µ" * 501))
        assert f"{NEW + 1000:,} bytes" in refusal.detail
        assert "Delete" in refusal.detail
        await text_of(await baio.ask(caller, conversation, "µ" * 500))
        # What has begun is never cut, so the answer and its record are beyond the quota.
        assert await stored(baio, caller) == NEW + 1000 + 2 * RECORD_BYTES + RECORD_BYTES + 1000
        await refused(baio, StorageFull, baio.ask(caller, conversation, "x"))
        await refused(baio, StorageFull, baio.regenerate(caller, conversation))
        await baio.delete_conversation(caller, conversation)
        assert await stored(baio, caller) == 0
        await text_of(await baio.ask(caller, await baio.begin(caller), "µ" * 500))


async def test_questions_that_the_provider_refuses_count_and_so_do_replaced_answers() -> None:
    async with with_quotas() as (baio, caller):
        conversation = await baio.begin(caller)
        baio.openai.script(KeyRefused())
        await heard(await baio.ask(caller, conversation, "x y " * 25))
        assert await stored(baio, caller) == NEW + 100 + 2 * RECORD_BYTES
        baio.openai.script(KeyRefused())
        await heard(await baio.regenerate(caller, conversation))
        assert await stored(baio, caller) == NEW + 100 + 3 * RECORD_BYTES
        await text_of(await baio.regenerate(caller, conversation))
        await text_of(await baio.regenerate(caller, conversation))
        assert await stored(baio, caller) == NEW + 300 + 7 * RECORD_BYTES


async def test_the_quota_of_one_user_is_nobody_elses() -> None:
    async with with_quotas(stored_bytes_per_user=NEW + 10, conversations_per_user=1) as (baio, caller):
        other = await baio.someone("kari")
        await text_of(await baio.ask(caller, await baio.begin(caller), "x" * 10))
        await text_of(await baio.ask(other, await baio.begin(other), "x" * 10))


async def test_conversations_are_created_up_to_the_quota_and_again_after_one_is_deleted() -> None:
    async with with_quotas(conversations_per_user=2) as (baio, caller):
        first, _ = await baio.begin(caller), await baio.create_conversation(caller, "", "k")
        refusal = await refused(baio, TooManyConversations, baio.begin(caller))
        assert refusal.detail == "You may have 2 conversations. Delete some that you no longer need."
        await baio.create_conversation(caller, "", "k")  # creates nothing
        await baio.delete_conversation(caller, first)
        await baio.begin(caller)


async def test_keys_are_stored_up_to_the_quota_and_again_after_one_is_deleted() -> None:
    async with with_quotas(api_keys_per_user=2) as (baio, caller):
        await baio.add_api_key(caller, key="sk", nickname="second", provider=None)
        refusal = await refused(
            baio, TooManyApiKeys, baio.add_api_key(caller, key="sk", nickname="third", provider=None)
        )
        assert refusal.detail == "You may have 2 API keys. Delete one that you no longer need."
        await baio.delete_api_key(caller, "second")
        await baio.add_api_key(caller, key="sk", nickname="third", provider=None)


async def test_when_one_more_session_opens_than_one_may_have_the_oldest_ends() -> None:
    async with with_quotas(sessions_per_user=3) as (baio, caller):
        await baio.someone("kari")
        theirs = await baio.sign_in("kari", PASSWORD)
        tokens = [await baio.sign_in("olenor", PASSWORD) for _ in range(3)]
        for each in tokens:
            await baio.validate_token(each.access)
        tokens.append(await baio.sign_in("olenor", PASSWORD))
        with pytest.raises(NotAuthenticated):
            await baio.validate_token(tokens[0].access)
        for each in (*tokens[1:], theirs):
            await baio.validate_token(each.access)
        assert len(await baio.get_sessions(caller)) == 3


async def test_only_the_newest_idempotency_keys_of_a_user_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_IDEMPOTENCY_KEYS == 10_000
    monkeypatch.setattr("baio_domain.idempotency.MAX_IDEMPOTENCY_KEYS", 3)
    async with with_quotas() as (baio, caller):
        other = await baio.someone("kari")
        theirs = (await baio.create_conversation(other, "", "k0")).id
        created = []
        for number in range(4):
            created.append((await baio.create_conversation(caller, "", f"k{number}")).id)
            await asyncio.sleep(1)
        again = [(await baio.create_conversation(caller, "", f"k{number}")).id for number in (3, 2, 1)]
        assert again == created[:0:-1]
        assert (await baio.create_conversation(caller, "", "k0")).id > created[-1]
        assert (await baio.create_conversation(other, "", "k0")).id == theirs


async def test_so_many_keys_are_tested_at_once_and_others_notice_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with with_quotas() as (baio, caller):
        other, answers = await baio.someone("kari"), asyncio.Event()

        async def check_key(*, key: str) -> bool:
            del key
            await answers.wait()
            return True

        monkeypatch.setattr(baio.openai, "check_key", check_key)
        running = [asyncio.create_task(baio.check_api_key(caller, "OpenAI Key")) for _ in range(2)]
        await asyncio.sleep(0)
        refusal = await refused(baio, TooManyKeyTests, baio.check_api_key(caller, "OpenAI Key"))
        assert refusal.retry_after
        running.append(asyncio.create_task(baio.check_api_key(other, "OpenAI Key")))
        await asyncio.sleep(0)
        answers.set()
        assert [(await each).valid for each in running] == [True] * 3
        assert (await baio.check_api_key(caller, "OpenAI Key")).valid


async def test_so_many_streams_are_open_at_once_and_asking_has_places_of_its_own() -> None:
    async with with_quotas(streams_per_user=2, answers_per_user=1) as (baio, caller):
        other = await baio.someone("kari")
        first, second = baio.open_stream(caller), baio.open_stream(caller)
        with pytest.raises(TooManyStreams) as refusal:
            baio.open_stream(caller)
        assert refusal.value.retry_after
        asking = baio.open_stream(caller, asking=True)
        with pytest.raises(TooManyStreams):
            baio.open_stream(caller, asking=True)
        baio.open_stream(other).close()
        for _ in range(2):
            first.close()
        with pytest.raises(TooManyStreams):
            baio.open_stream(caller)
        asking.close()
        baio.open_stream(caller).close()
        with pytest.raises(LookupError), baio.open_stream(caller):
            raise LookupError
        with baio.open_stream(caller) as kept:
            pass
        with pytest.raises(TooManyStreams):
            baio.open_stream(caller)
        for each in (kept, second):
            each.close()


async def test_zero_is_no_limit() -> None:
    names = ("stored_bytes", "conversations", "api_keys", "sessions", "streams", "key_tests")
    settings = {f"{name}_per_user": 0 for name in names}
    async with with_quotas(**settings) as (baio, caller):
        conversation = await baio.begin(caller)
        await text_of(await baio.ask(caller, conversation, "x" * 10_000))
        for number in range(3):
            await baio.add_api_key(caller, key="sk", nickname=str(number), provider=None)
            await baio.check_api_key(caller, "OpenAI Key")
            baio.open_stream(caller)
            await baio.sign_in("olenor", PASSWORD)
        assert len(await baio.get_sessions(caller)) == 3
