"""Long lists are read page by page: when they are asked for, and never by way of the writer."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from baio_adapters.memory import MemoryDatabase
from baio_domain.entities import Caller, Role
from baio_domain.pages import PAGE_SIZE
from baio_domain.ports import Transaction
from baio_domain.use_cases.accounts import AccountExport
from tests.unit.world import OPENAI, OTHER, BAiO, Link


@pytest.fixture
def link() -> Link:
    """The way to a new database."""
    return Link(MemoryDatabase())


@pytest.fixture
async def process(link: Link) -> BAiO:
    """A process on it."""
    process = BAiO(link)
    await process.load_catalogue([OPENAI, OTHER])
    return process


@pytest.fixture
async def caller(process: BAiO) -> Caller:
    """Somebody with a conversation of ten pages."""
    caller = await process.someone()
    conversation = await process.begin(caller)

    def fill(tx: Transaction) -> None:
        for _ in range(10):
            tx.messages.add(conversation, Role.USER, "x" * PAGE_SIZE, process.clock.now(), owner=caller.user_id)

    await process.database.write(fill)
    return caller


async def count(pages: AsyncIterator[list[Any]]) -> int:
    """How many items there are."""
    return sum([len(page) async for page in pages])


async def test_an_export_needs_the_writer_only_to_record_it(process: BAiO, caller: Caller, link: Link) -> None:
    exported: AccountExport = await process.export_data(caller)
    link.held = asyncio.Event()
    async with asyncio.timeout(60):
        [[conversation]] = [page async for page in exported.conversations]
        assert await count(conversation.messages) == 11
        assert (await count(conversation.answers), await count(conversation.kept_texts)) == (0, 0)
        assert await count(exported.audit) == 3
        assert await count(exported.idempotency_keys) == 0


async def test_conversations_lists_and_answers_never_need_the_writer(process: BAiO, caller: Caller, link: Link) -> None:
    link.held = asyncio.Event()
    async with asyncio.timeout(60):
        [conversation] = await process.get_conversations(caller)
        assert len(await process.messages(caller, conversation.id)) == 10
        assert await process.get_answers(caller, conversation.id) == []


async def test_a_page_is_read_when_it_is_asked_for(process: BAiO, caller: Caller, link: Link) -> None:
    [conversation] = await process.get_conversations(caller)
    before = link.reads
    pages = (await process.get_conversation(caller, conversation.id)).pages()
    assert link.reads == before + 1
    for number in range(1, 11):
        page = await anext(pages)
        assert sum(len(message.content) for message in page) <= 2 * PAGE_SIZE
        assert link.reads == before + 1 + number
        await asyncio.sleep(60)
        assert link.reads == before + 1 + number
