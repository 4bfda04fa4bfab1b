"""Branches: what a copy of a conversation has, what it leaves out, and what it costs."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from baio_domain.entities import (
    Answer,
    AnswerState,
    AnswerWithSettings,
    Caller,
    CallState,
    InputSource,
    Message,
    Role,
    Usage,
    UsedSettings,
)
from baio_domain.errors import (
    AnswerRunning,
    ConversationNotFound,
    IdempotencyKeyReused,
    InvalidInput,
    MessageNotFound,
    QuestionNotFound,
    StorageFull,
    TooManyConversations,
)
from baio_domain.ports import Finished
from baio_domain.tools import ToolInput, ToolOutcome, ToolState
from tests.unit.world import OPENAI, BAiO, heard, later, text_of

STOP = Finished("stop", model="gpt-4o-2024", usage=Usage(30, 4))
LETTERS = "ACGTTGCAACGT"
SEQUENCE = ToolInput("text", "pUC19", 12, hashlib.sha256(LETTERS.encode()).hexdigest(), ())
GC = ToolOutcome(ToolState.DONE, {"text": LETTERS}, {"gc": 6}, (SEQUENCE,), "GC: **50.00 %**", "Lib 2")


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[tuple[BAiO, Caller]]:
    baio = BAiO(**settings)
    await baio.load_catalogue([OPENAI])
    async with baio.answering.running(0):
        yield baio, await baio.someone()


async def whole(baio: BAiO, caller: Caller, conversation: int) -> list[Message]:
    found: list[Message] = [
        each async for page in (await baio.get_conversation(caller, conversation)).pages() for each in page
    ]
    return found


async def talk(baio: BAiO, caller: Caller, conversation: int, *questions: str) -> list[Message]:
    for question in questions:
        baio.openai.script(f"{question} Yes.", STOP)
        await text_of(await baio.ask(caller, conversation, question))
        await later(1).wait()
    return await whole(baio, caller, conversation)


def timeless(answer: Answer) -> tuple[object, ...]:
    """A record without its ids."""
    return (
        answer.state, answer.requested_model, answer.model, answer.finish_reason, answer.prompt_tokens,
        answer.completion_tokens, answer.started_at, answer.ended_at, answer.left_out, answer.thinking_seconds,
    )  # fmt: skip


async def test_a_branch_has_everything_with_its_records_and_times_and_the_old_one_stays(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    before = await talk(baio, caller, conversation, "1?", "2?")
    branch = await baio.branch_conversation(caller, conversation)
    assert (branch.title, branch.created_at) == ("New Research Topic", baio.clock.now())
    copied = await whole(baio, caller, branch.id)
    assert [(each.role, each.content, each.created_at) for each in copied] == [
        (each.role, each.content, each.created_at) for each in before
    ]
    assert await whole(baio, caller, conversation) == before
    records = [await baio.get_answers(caller, each) for each in (conversation, branch.id)]
    assert [timeless(each) for each in records[1]] == [timeless(each) for each in records[0]]
    shown = await baio.get_conversation(caller, branch.id, answers=True)
    assert [each.answer_id async for page in shown.pages() for each in page][2::2] == [each.id for each in records[1]]
    sizes = {each.id: each.stored_bytes for each in await baio.get_conversations(caller)}
    assert sizes[branch.id] == sizes[conversation]


async def test_a_branch_ends_before_the_message_that_is_named(baio: BAiO, caller: Caller, conversation: int) -> None:
    said = await talk(baio, caller, conversation, "1?", "2?")
    for number, message in enumerate(said):
        branch = await baio.branch_conversation(caller, conversation, message.id, "Another way")
        assert branch.title == "Another way"
        copied = await whole(baio, caller, branch.id)
        assert [each.content for each in copied] == [each.content for each in said[: max(number, 1)]]
    # What ends with a question can be asked again.
    before_the_answer = await baio.branch_conversation(caller, conversation, said[4].id)
    baio.openai.script("another", STOP)
    await text_of(await baio.regenerate(caller, before_the_answer.id))
    assert (await baio.messages(caller, before_the_answer.id))[-2:] == [("user", "2?"), ("baio", "another")]


async def test_a_copy_counts_for_no_usage(baio: BAiO, caller: Caller, conversation: int) -> None:
    await talk(baio, caller, conversation, "1?")
    usage = await baio.get_usage(caller, None, None)
    await baio.branch_conversation(caller, conversation)
    assert await baio.get_usage(caller, None, None) == usage
    assert sum(day.usage.answers for day in usage) == 1


async def test_answers_that_run_or_were_replaced_or_have_no_text_are_left_out(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    await talk(baio, caller, conversation, "1?")
    baio.openai.script("second try", STOP)
    await text_of(await baio.regenerate(caller, conversation))
    baio.openai.script(Finished("content_filter"))
    await heard(await baio.ask(caller, conversation, "2?"))
    baio.openai.script("half", later(5), " done", STOP)
    answer = await baio.ask(caller, conversation, "3?")
    await later(2).wait()
    branch = await baio.branch_conversation(caller, conversation)
    said = [("user", "1?"), ("baio", "second try"), ("user", "2?"), ("user", "3?")]
    assert await baio.messages(caller, branch.id) == said
    assert [each.state for each in await baio.get_answers(caller, branch.id)] == [AnswerState.COMPLETE]
    baio.openai.script("at once", STOP)
    assert await text_of(await baio.regenerate(caller, branch.id)) == "at once"  # while the old one is answered
    assert await text_of(answer) == "half done"


async def test_the_records_of_calls_are_copied_and_the_copy_cites_its_own() -> None:
    async with running() as (baio, caller):
        conversation = await baio.begin(caller)
        baio.toolbox.script(GC)
        loose = await baio.run_tool(caller, "echo", {"text": LETTERS}, conversation)
        for _ in range(9):  # so that the copies' ids have another length
            baio.toolbox.script(GC)
            await baio.run_tool(caller, "echo", {"text": LETTERS})
        baio.toolbox.script(GC)
        text = await text_of(await baio.ask(caller, conversation, f"/echo {LETTERS}"))
        await later(1).wait()
        [_, old] = await baio.get_tool_calls(caller, conversation_id=conversation)
        baio.openai.script(f"It is 50 %, see [call {old.id}] and [call 7].", STOP)
        await text_of(await baio.ask(caller, conversation, f"Is [call {old.id}] right?"))
        branch = await baio.branch_conversation(caller, conversation)
        [first, new] = await baio.get_tool_calls(caller, conversation_id=branch.id)
        assert (first.answer_id, first.result) == (None, loose.result)
        assert (new.result_sha256, new.started_at, new.ended_at, new.state, new.arguments) == (
            old.result_sha256, old.started_at, old.ended_at, CallState.DONE, old.arguments,
        )  # fmt: skip
        said = await whole(baio, caller, branch.id)
        line = said[2].content[new.offset : new.offset + new.length]
        assert line == text[old.offset : old.offset + old.length].replace(f"call {old.id}", f"call {new.id}")
        assert line.endswith(f"[call {new.id}]")
        assert [each.content for each in said[3:]] == [
            f"Is [call {old.id}] right?", f"It is 50 %, see [call {new.id}] and [call 7].",
        ]  # fmt: skip
        assert (old.inputs[0].origin.source, new.inputs[0].origin.source) == (InputSource.MESSAGE,) * 2
        assert new.inputs[0].origin.id == said[1].id
        again = await baio.branch_conversation(caller, branch.id)
        [_, newest] = await baio.get_tool_calls(caller, conversation_id=again.id)
        assert [each.content.count(f"[call {newest.id}]") for each in await whole(baio, caller, again.id)] == [
            0, 0, 1, 0, 1,
        ]  # fmt: skip
        # It needs nothing of the old one.
        await baio.delete_conversation(caller, conversation)
        assert len(await baio.get_tool_calls(caller, conversation_id=branch.id)) == 2


async def test_calls_that_began_after_the_message_are_left_out() -> None:
    async with running() as (baio, caller):
        conversation = await baio.begin(caller)
        said = await talk(baio, caller, conversation, "1?")
        await baio.run_tool(caller, "echo", {"text": LETTERS}, conversation)
        branch = await baio.branch_conversation(caller, conversation, said[1].id)
        assert await baio.get_tool_calls(caller, conversation_id=branch.id) == []


async def test_what_is_not_there_is_not_branched(baio: BAiO, caller: Caller, other: Caller, conversation: int) -> None:
    said = await talk(baio, caller, conversation, "1?")
    theirs = await baio.begin(other)
    for message_id in (0, -1, 2**63 - 1, said[-1].id + 1, (await whole(baio, other, theirs))[0].id):
        with pytest.raises(MessageNotFound):
            await baio.branch_conversation(caller, conversation, message_id)
    for where in (theirs, 2**62):
        with pytest.raises(ConversationNotFound):
            await baio.branch_conversation(caller, where)
    with pytest.raises(InvalidInput) as refused:
        await baio.branch_conversation(caller, conversation, None, "x" * 256, "\n")
    assert [each.field for each in refused.value.errors] == ["title", "idempotency_key"]
    assert len(await baio.get_conversations(caller)) == 1


async def test_a_branch_that_is_repeated_with_its_key_is_made_once(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    said = await talk(baio, caller, conversation, "1?")
    asked = (caller, conversation, said[1].id, None, "key")
    first = await baio.branch_conversation(*asked)
    assert (await baio.branch_conversation(*asked)).id == first.id
    with pytest.raises(IdempotencyKeyReused):
        await baio.branch_conversation(caller, conversation, None, None, "key")
    assert len(await baio.get_conversations(caller)) == 2


async def test_a_branch_needs_room() -> None:
    async with running(stored_bytes_per_user=3_000, conversations_per_user=2) as (baio, caller):
        conversation = await baio.begin(caller)
        await talk(baio, caller, conversation, "1" * 400)
        with pytest.raises(StorageFull):
            await baio.branch_conversation(caller, conversation)
        assert len(await baio.get_conversations(caller)) == 1
        await baio.begin(caller)
        with pytest.raises(TooManyConversations):
            await baio.branch_conversation(caller, conversation)


# -- Asking an earlier question again ----------------------------------------------------------------------------------


async def again(baio: BAiO, caller: Caller, conversation: int, message: int, key: str | None = None) -> Any:  # noqa: ANN401 - an answer to follow
    return await baio.regenerate_answer(
        caller,
        conversation_id=conversation,
        apikey_nickname="OpenAI Key",
        model="gpt-4o",
        message_id=message,
        idempotency_key=key,
    )


async def test_the_last_question_is_asked_again_in_place_by_whichever_of_its_messages_is_named(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    for place in (-2, -1):
        said = await talk(baio, caller, conversation, "1?", "2?")
        baio.openai.script("again", STOP)
        answer = await again(baio, caller, conversation, said[place].id)
        assert answer.answer.conversation_id == conversation
        await text_of(answer)
        assert [each.content for each in await whole(baio, caller, conversation)] == [
            *(each.content for each in said[:-1]), "again",
        ]  # fmt: skip
    assert len(await baio.get_conversations(caller)) == 1


async def test_an_earlier_question_is_asked_again_in_a_branch_and_the_old_conversation_stays(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    said = await talk(baio, caller, conversation, "1?", "2?", "3?")
    for named in said[3:5]:
        baio.openai.script("again", STOP)
        key = f"key {named.id}"
        answer = await again(baio, caller, conversation, named.id, key)
        branch = answer.answer.conversation_id
        assert branch != conversation
        assert await text_of(answer) == "again"
        assert [each.content for each in await whole(baio, caller, branch)] == [
            *(each.content for each in said[:4]), "again",
        ]  # fmt: skip
        assert baio.openai.asked[-1].prompt[-1].content == "2?"
        assert (await again(baio, caller, conversation, named.id, key)).answer.id == answer.answer.id
    assert await whole(baio, caller, conversation) == said
    assert len(await baio.get_conversations(caller)) == 3


async def test_only_a_question_or_an_answer_of_the_conversation_can_be_named(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    said = await talk(baio, caller, conversation, "1?")
    with pytest.raises(QuestionNotFound):
        await again(baio, caller, conversation, said[0].id)
    with pytest.raises(MessageNotFound):
        await again(baio, caller, conversation, said[-1].id + 1)
    baio.openai.script("half", later(5), STOP)
    running_one = await baio.ask(caller, conversation, "2?")
    await later(1).wait()
    with pytest.raises(AnswerRunning):
        await again(baio, caller, conversation, (await whole(baio, caller, conversation))[-1].id)
    await heard(running_one)


async def test_messages_have_their_ids(baio: BAiO, caller: Caller, conversation: int) -> None:
    said = await talk(baio, caller, conversation, "1?")
    baio.openai.script("half", later(5), STOP)
    answer = await baio.ask(caller, conversation, "2?")
    await later(1).wait()
    thread = await baio.get_conversation(caller, conversation, answers=True)
    shown = [each async for page in thread.pages() for each in page]
    assert [each.id for each in shown[:3]] == [each.id for each in said]
    assert (shown[-1].id, shown[-1].role) == (None, Role.BAIO)
    await heard(answer)


async def test_a_branch_has_the_settings_and_those_that_its_answers_were_made_with(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    await baio.change_settings(caller, conversation, {"system": "Be brief."})
    await talk(baio, caller, conversation, "1?")
    branch = await baio.branch_conversation(caller, conversation)
    threads = (conversation, branch.id)
    first, second = [await baio.get_settings(caller, each) for each in threads]
    assert first == second
    assert first.system == "Be brief."
    made = []
    for each in threads:
        pages = baio.get_answers_of(caller, each, settings=True)
        made.append([record async for page in pages for record in page])
    used = [[each.settings for each in records if isinstance(each, AnswerWithSettings)] for records in made]
    assert used[0] == used[1] == [UsedSettings(system="Be brief.")]


async def test_a_branch_has_the_sequences_and_tells_models_their_handles(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    letters = "GATTACAGCT" * 200
    await text_of(await baio.ask(caller, conversation, f"What is this?\n{letters}"))
    branch = await baio.branch_conversation(caller, conversation)
    [stored] = [each async for page in baio.get_sequences(caller, branch.id) for each in page]
    await text_of(await baio.ask(caller, branch.id, "And its length?"))
    told = "".join(turn.content for turn in baio.openai.asked[-1].prompt)
    assert stored.handle in told
    assert letters[:30] not in told
