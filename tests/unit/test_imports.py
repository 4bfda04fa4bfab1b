"""Importing conversations: what is stored of them, once, within the quotas, and what is said about each."""

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

import pytest

from baio_domain.entities import Act, AnswerState, Caller, Origin, Role
from baio_domain.errors import IdempotencyKeyReused, InvalidInput, TooManyImports
from baio_domain.use_cases.imports import MAX_MESSAGES, ImportedConversation, ImportOutcome
from tests.unit.world import OPENAI, BAiO, text_of

IMPORTED, PRESENT, SKIPPED = ImportOutcome


def message(sender: str, text: str, at: str | None = None, **more: Any) -> dict[str, Any]:
    return {"sender": sender, "text": text, "created_at": at, **more}


def claude(*messages: dict[str, Any], name: str = "Codons", at: str | None = "2023-05-01T10:00:00Z") -> dict[str, Any]:
    return {"name": name, "created_at": at, "chat_messages": list(messages)}


def file_of(*threads: Any) -> BinaryIO:
    return io.BytesIO(json.dumps(list(threads)).encode())


TALK = claude(
    message("human", "What is a codon?", "2023-05-01T10:00:01Z"),
    message("assistant", "Three bases.", "2023-05-01T10:00:02Z", model="claude-3"),
    message("human", "And a stop codon?", "2023-05-01T10:00:03Z"),
    message("assistant", "It ends translation.", "2023-05-01T10:00:04Z"),
)


async def bring(baio: BAiO, caller: Caller, file: BinaryIO, key: str | None = None) -> list[ImportedConversation]:
    return [each async for each in baio.import_conversations(caller, file, key)]


async def whole(baio: BAiO, caller: Caller, conversation: int) -> list[Any]:
    thread = await baio.get_conversation(caller, conversation, answers=True)
    return [each async for page in thread.pages() for each in page]


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[tuple[BAiO, Caller]]:
    baio = BAiO(**settings)
    await baio.load_catalogue([OPENAI])
    async with baio.answering.running(0):
        yield baio, await baio.someone()


async def test_an_imported_conversation_keeps_order_times_and_models(baio: BAiO, caller: Caller) -> None:
    [done] = await bring(baio, caller, file_of(TALK))
    assert (done.outcome, done.title, done.source, done.messages, done.reason) == (IMPORTED, "Codons", "Claude", 4, "")
    [listed] = await baio.get_conversations(caller)
    assert (listed.id, listed.created_at) == (done.conversation_id, datetime(2023, 5, 1, 10, tzinfo=UTC))
    shown = await whole(baio, caller, listed.id)
    assert [(each.role.value, each.content) for each in shown[1:]] == [
        ("user", "What is a codon?"), ("baio", "Three bases."),
        ("user", "And a stop codon?"), ("baio", "It ends translation."),
    ]  # fmt: skip
    assert [each.created_at.second for each in shown[1:]] == [1, 2, 3, 4]
    assert shown[0].role is Role.SYSTEM
    records = await baio.get_answers(caller, listed.id)
    assert [(each.model, each.requested_model) for each in records] == [("claude-3", "claude-3"), (None, "Claude")]
    assert {(each.state, each.finish_reason) for each in records} == {(AnswerState.COMPLETE, "imported")}
    assert [each.answer_id for each in shown[2::2]] == [each.id for each in records]
    assert await baio.get_usage(caller, datetime(2023, 1, 1, tzinfo=UTC).date(), None) == []


async def test_an_imported_conversation_goes_on(baio: BAiO, caller: Caller) -> None:
    [done] = await bring(baio, caller, file_of(TALK))
    await text_of(await baio.ask(caller, done.conversation_id or 0, "And then?"))
    assert [turn.content for turn in baio.openai.asked[-1].prompt][1:] == [
        "What is a codon?", "Three bases.", "And a stop codon?", "It ends translation.", "And then?",
    ]  # fmt: skip
    await text_of(await baio.regenerate(caller, done.conversation_id or 0))


async def test_the_same_file_twice_changes_nothing_until_what_it_brought_is_deleted(
    baio: BAiO, caller: Caller, other: Caller
) -> None:
    [first] = await bring(baio, caller, file_of(TALK))
    renamed = {**TALK, "name": "Another name"}
    [again] = await bring(baio, caller, file_of(renamed))
    assert (again.outcome, again.conversation_id) == (PRESENT, first.conversation_id)
    assert [each.title for each in await baio.get_conversations(caller)] == ["Codons"]
    [theirs] = await bring(baio, other, file_of(TALK))
    assert theirs.outcome is IMPORTED
    longer = {**TALK, "chat_messages": TALK["chat_messages"][:2]}
    assert [each.outcome for each in await bring(baio, caller, file_of(TALK, TALK, longer))] == [
        PRESENT, PRESENT, IMPORTED,
    ]  # fmt: skip
    await baio.delete_conversation(caller, first.conversation_id)
    assert [each.outcome for each in await bring(baio, caller, file_of(TALK))] == [IMPORTED]


async def test_neighbours_are_one_answer_and_an_answer_without_question_has_no_record(
    baio: BAiO, caller: Caller
) -> None:
    thread = claude(
        message("assistant", "Hello."), message("human", "q1"), message("human", "q2"),
        message("assistant", "one"), message("assistant", "two"), message("human", "q3"), name="",
    )  # fmt: skip
    [done] = await bring(baio, caller, file_of(thread))
    shown = await whole(baio, caller, done.conversation_id or 0)
    assert [each.content for each in shown[1:]] == ["Hello.", "q1", "q2", "one\n\ntwo", "q3"]
    assert [each.answer_id is not None for each in shown[1:]] == [False, False, False, True, False]


async def test_times_that_are_missing_or_ahead_are_those_of_the_message_before(baio: BAiO, caller: Caller) -> None:
    known, ahead = "2023-05-01T10:00:01Z", "2090-01-01T00:00:00Z"
    thread = claude(message("human", "q1", ahead), message("assistant", "a1", known), message("human", "q2"), at=None)
    [done] = await bring(baio, caller, file_of(thread))
    shown = await whole(baio, caller, done.conversation_id or 0)
    now = baio.clock.now()
    first = datetime(2023, 5, 1, 10, 0, 1, tzinfo=UTC)
    assert [each.created_at for each in shown] == [now, now, first, first]


async def test_an_export_of_baio_is_imported_into_another_account(baio: BAiO, caller: Caller, other: Caller) -> None:
    conversation = await baio.begin(caller, "Codons")
    await text_of(await baio.ask(caller, conversation))
    messages = [each async for page in (await baio.get_conversation(caller, conversation)).pages() for each in page]
    records = await baio.get_answers(caller, conversation)
    exported = {
        "conversations": [
            {
                "title": "Codons",
                "created_at": messages[0].created_at.isoformat(),
                "messages": [
                    {"role": each.role.value, "content": each.content, "created_at": each.created_at.isoformat()}
                    for each in messages
                ],
                "answers": [
                    {"state": each.state.value, "model": each.model, "ended_at": each.ended_at.isoformat()}
                    for each in records
                    if each.ended_at
                ],
            }
        ]
    }
    [done] = await bring(baio, other, io.BytesIO(json.dumps(exported).encode()))
    copied = await whole(baio, other, done.conversation_id or 0)
    assert [(each.role, each.content, each.created_at) for each in copied] == [
        (each.role, each.content, each.created_at) for each in messages
    ]
    assert [each.model for each in await baio.get_answers(other, done.conversation_id or 0)] == [records[0].model]


async def test_what_can_not_be_read_or_has_no_room_is_skipped_with_a_reason() -> None:
    async with running(stored_bytes_per_user=5_000, conversations_per_user=3) as (baio, caller):
        small = [claude(message("human", f"q{number}")) for number in range(4)]
        large = claude(message("human", "x" * 6_000), name="Large")
        many = claude(*[message("human", "?")] * (MAX_MESSAGES + 1), name="Many")
        done = await bring(baio, caller, file_of(small[0], {}, large, many, *small[1:]))
        assert [each.outcome for each in done] == [IMPORTED, SKIPPED, SKIPPED, SKIPPED, IMPORTED, IMPORTED, SKIPPED]
        assert [each.reason.split(".")[0] for each in done if each.reason] == [
            "is no conversation of a known export",
            "You may store 5,000 bytes of text, and have stored 584",
            "has more than 5,000 messages",
            "You may have 3 conversations",
        ]
        assert len(await baio.get_conversations(caller)) == 3
        [entry] = [each for each in await baio.read_audit(None) if each.act is Act.DATA_IMPORTED]
        assert (entry.user_id, entry.note) == (caller.user_id, "3 imported, 0 present, 4 skipped")


async def test_a_file_that_is_no_export_is_refused_and_nothing_is_stored(baio: BAiO, caller: Caller) -> None:
    for raw in (b"", b"text", b"PK\x03\x04"):
        with pytest.raises(InvalidInput) as refused:
            await bring(baio, caller, io.BytesIO(raw))
        assert [each.field for each in refused.value.errors] == ["file"]
    assert await baio.get_conversations(caller) == []


async def test_a_key_belongs_to_one_file(baio: BAiO, caller: Caller) -> None:
    [first] = await bring(baio, caller, file_of(TALK), "key")
    [again] = await bring(baio, caller, file_of(TALK), "key")
    assert again.conversation_id == first.conversation_id
    with pytest.raises(IdempotencyKeyReused):
        await bring(baio, caller, file_of(TALK, TALK), "key")
    with pytest.raises(InvalidInput):
        await bring(baio, caller, file_of(TALK), "\n")


async def test_one_user_imports_one_file_at_a_time(baio: BAiO, caller: Caller, other: Caller) -> None:
    held = baio.import_conversations(caller, file_of(TALK, claude(message("human", "q1"))))
    assert (await anext(held)).outcome is IMPORTED
    with pytest.raises(TooManyImports):
        await bring(baio, caller, file_of(TALK))
    assert len(await bring(baio, other, file_of(TALK))) == 1
    assert (await anext(held)).outcome is IMPORTED
    assert [each async for each in held] == []
    assert [each.outcome for each in await bring(baio, caller, file_of(TALK))] == [PRESENT]


async def test_an_administrator_imports_for_a_user_by_name(baio: BAiO, caller: Caller) -> None:
    origin = Origin(operator="root")
    [done] = [each async for each in baio.import_for_user("OLENOR", file_of(TALK), origin)]
    assert [each.id for each in await baio.get_conversations(caller)] == [done.conversation_id]
    [entry] = [each for each in await baio.read_audit("olenor") if each.act is Act.DATA_IMPORTED]
    assert entry.operator == "root"
    with pytest.raises(InvalidInput) as refused:
        [each async for each in baio.import_for_user("nobody", file_of(TALK), origin)]
    assert [each.field for each in refused.value.errors] == ["username"]


async def test_an_old_conversation_is_kept_from_the_day_of_its_import_on() -> None:
    async with running(keep_days=90) as (baio, caller):
        [done] = await bring(baio, caller, file_of(TALK))
        _, told = await baio.get_retention(caller, done.conversation_id)
        assert told.goes_at == baio.clock.now() + timedelta(days=90)
        assert told.retention.updated_at.year == 2023
