"""Conversations that are found and kept in order."""

import asyncio
import base64
import json

import pytest

from baio_domain.entities import Caller
from baio_domain.errors import AnswerInterrupted, InvalidInput
from baio_domain.use_cases.filing import MAX_FOUND, DeletedConversations, FoundConversation, FoundConversations
from tests.unit.world import BAiO, heard, later, text_of


def ids_of(found: FoundConversations) -> list[int]:
    return [each.conversation.id for each in found.conversations]


async def pages(baio: BAiO, caller: Caller, limit: int) -> list[list[FoundConversation]]:
    """All conversations, page by page."""
    found = [await baio.find_conversations(caller, limit=limit)]
    while found[-1].next is not None:
        found.append(await baio.find_conversations(caller, limit=limit, before=found[-1].next))
    return [each.conversations for each in found]


async def test_what_was_asked_last_comes_first(baio: BAiO, caller: Caller) -> None:
    first, second = await baio.begin(caller), await baio.begin(caller)
    await later(1).wait()
    await text_of(await baio.ask(caller, first))
    assert ids_of(await baio.find_conversations(caller)) == [first, second]
    await later(1).wait()
    await text_of(await baio.ask(caller, second))
    assert ids_of(await baio.find_conversations(caller)) == [second, first]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 100])
async def test_the_pages_have_every_conversation_once(limit: int, baio: BAiO, caller: Caller) -> None:
    ids = [await baio.begin(caller) for _ in range(7)]
    await baio.pin_conversation(caller, ids[2], pinned=True)
    found = await pages(baio, caller, limit)
    assert [each.conversation.id for page in found for each in page] == [ids[2], *ids[:2:-1], ids[1], ids[0]]
    assert [len(page) for page in found[:-1]] == [limit] * (len(found) - 1)
    assert found[-1] != []


async def test_a_cursor_goes_on_where_it_was_whatever_is_added_and_deleted(baio: BAiO, caller: Caller) -> None:
    ids = [await baio.begin(caller) for _ in range(6)]
    found = await baio.find_conversations(caller, limit=3)
    await baio.delete_conversation(caller, ids[3])
    await baio.delete_conversation(caller, ids[2])
    await baio.begin(caller)
    assert ids_of(await baio.find_conversations(caller, limit=3, before=found.next)) == ids[1::-1]


def cursor(*place: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


UNPINNED = False
TIME = "2024-01-15T10:00:00+00:00"
WRONG_CURSORS = {
    "",
    "x",
    "MQ",
    "%00",
    "é",
    "null",
    "[]",
    "A" * 9000,
    "A" * 9001,
    cursor(),
    cursor(UNPINNED, TIME),
    cursor(0, TIME, 1),
    cursor(UNPINNED, 1, 1),
    cursor(UNPINNED, TIME, "1"),
    cursor(UNPINNED, TIME, UNPINNED),
    cursor(UNPINNED, TIME, 0),
    cursor(UNPINNED, TIME, 2**63),
    cursor(UNPINNED, "2024-01-15T10:00:00", 1),
    cursor(UNPINNED, "0001-01-01T00:00:00+23:00", 1),
    cursor(UNPINNED, "9999-12-31T23:59:59-23:00", 1),
    cursor(UNPINNED, TIME, 1, 1),
    cursor(UNPINNED, "2024-01-15", 1),
    cursor(UNPINNED, "2024-01-15T12:00:00+02:00", 1),
    cursor({"a": 1}, TIME, 1),
    "W1tb" * 5000,
}


@pytest.mark.parametrize("before", sorted(WRONG_CURSORS), ids=range(len(WRONG_CURSORS)))
async def test_what_is_no_cursor_is_named(before: str, baio: BAiO, caller: Caller) -> None:
    with pytest.raises(InvalidInput) as refused:
        await baio.find_conversations(caller, before=before)
    assert [error.field for error in refused.value.errors] == ["before"]


async def test_every_bad_parameter_is_named_at_once(baio: BAiO, caller: Caller) -> None:
    for limit in (0, -1, 101, 2**63):
        with pytest.raises(InvalidInput) as refused:
            await baio.find_conversations(caller, before="?", limit=limit, tag="x\0" * 60)
        assert {error.field for error in refused.value.errors} == {"before", "limit", "tag"}
    assert ids_of(await baio.find_conversations(caller, before=cursor(UNPINNED, TIME, 1), limit=1, tag="x")) == []


async def test_archived_conversations_are_found_apart_and_can_still_be_asked(baio: BAiO, caller: Caller) -> None:
    kept, archived = await baio.begin(caller), await baio.begin(caller)
    assert (await baio.archive_conversation(caller, archived, archived=True)).archived
    assert ids_of(await baio.find_conversations(caller)) == [kept]
    assert ids_of(await baio.find_conversations(caller, archived=True)) == [archived]
    await text_of(await baio.ask(caller, archived))
    assert ids_of(await baio.find_conversations(caller, archived=True)) == [archived]
    assert not (await baio.archive_conversation(caller, archived, archived=False)).archived
    assert ids_of(await baio.find_conversations(caller)) == [archived, kept]


async def test_a_pin_is_taken_away_again(baio: BAiO, caller: Caller) -> None:
    first, second = await baio.begin(caller), await baio.begin(caller)
    assert (await baio.pin_conversation(caller, first, pinned=True)).pinned
    assert ids_of(await baio.find_conversations(caller)) == [first, second]
    assert not (await baio.pin_conversation(caller, first, pinned=False)).pinned
    assert ids_of(await baio.find_conversations(caller)) == [second, first]


async def test_tags_are_trimmed_composed_and_kept_once(baio: BAiO, caller: Caller, conversation: int) -> None:
    tags = [" PCR", "PCR ", "A\u030as", "Ås", "pcr"]
    assert (await baio.tag_conversation(caller, conversation, tags)).tags == ("PCR", "pcr", "Ås")
    assert await baio.get_tags(caller) == {"PCR": 1, "pcr": 1, "Ås": 1}
    assert ids_of(await baio.find_conversations(caller, tag=" A\u030as")) == [conversation]
    assert (await baio.tag_conversation(caller, conversation, [])).tags == ()
    assert await baio.get_tags(caller) == {}


@pytest.mark.parametrize(
    "tags", [["x" * 51], [str(number) for number in range(21)], [" "], ["a\nb"], ["\0"], ["\ud800"]]
)
async def test_tags_that_cannot_be_are_refused(tags: list[str], baio: BAiO, caller: Caller, conversation: int) -> None:
    await baio.tag_conversation(caller, conversation, ["x" * 50, *(str(number) for number in range(19))])
    before = await baio.get_tags(caller)
    assert len(before) == 20
    with pytest.raises(InvalidInput) as refused:
        await baio.tag_conversation(caller, conversation, tags)
    assert [error.field for error in refused.value.errors] == ["tags"]
    assert await baio.get_tags(caller) == before


async def test_many_are_deleted_at_once_and_what_is_not_ones_own_is_named(baio: BAiO, caller: Caller) -> None:
    other = await baio.someone("kari")
    ids, theirs = [await baio.begin(caller) for _ in range(3)], await baio.begin(other)
    wanted = [ids[0], theirs, ids[1], 2**40, -1, ids[0]]
    assert await baio.delete_conversations(caller, wanted) == DeletedConversations(2, [theirs, 2**40, -1])
    assert ids_of(await baio.find_conversations(caller)) == [ids[2]]
    assert ids_of(await baio.find_conversations(other)) == [theirs]
    assert await baio.delete_conversations(caller, []) == DeletedConversations(0, [])


async def test_all_archived_ones_are_deleted_and_their_answers_stopped(baio: BAiO, caller: Caller) -> None:
    ids = [await baio.begin(caller) for _ in range(2 * MAX_FOUND + 1)]
    for conversation in ids[1:]:
        await baio.archive_conversation(caller, conversation, archived=True)
    baio.openai.script("half", asyncio.Event())
    answer = await baio.ask(caller, ids[1])
    assert await baio.delete_conversations(caller, archived=True) == DeletedConversations(2 * MAX_FOUND, [])
    assert isinstance((await heard(answer))[1], AnswerInterrupted)
    assert ids_of(await baio.find_conversations(caller)) == [ids[0]]
    assert await baio.delete_conversations(caller, archived=True) == DeletedConversations(0, [])


async def test_what_is_to_be_deleted_must_be_clear(baio: BAiO, caller: Caller, conversation: int) -> None:
    for ids, archived in ((None, False), ([conversation], True), ([], True)):
        with pytest.raises(InvalidInput) as refused:
            await baio.delete_conversations(caller, ids, archived=archived)
        assert {error.field for error in refused.value.errors} == {"conversation_ids", "archived"}
    with pytest.raises(InvalidInput) as refused:
        await baio.delete_conversations(caller, [conversation] * 1001)
    assert [error.field for error in refused.value.errors] == ["conversation_ids"]
    assert ids_of(await baio.find_conversations(caller)) == [conversation]
