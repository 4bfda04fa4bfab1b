"""Beginning, finding, reading, renaming and deleting conversations, each only for its owner."""

from collections.abc import Awaitable, Callable

import pytest

from baio_domain.entities import AnsweredMessage, AnswerState, Caller, Message, Role
from baio_domain.errors import BaioError, ConversationNotFound, IdempotencyKeyReused, InvalidInput, KeyRefused
from baio_domain.ports import Finished
from baio_domain.prompts import SYSTEM_PROMPT
from baio_domain.use_cases.conversations import Thread
from tests.unit.world import BAiO, heard, later, text_of

STOP = Finished("stop")

TITLES = ["", " ", "New Research Topic", "x" * 255, "\N{DNA DOUBLE HELIX}" * 255, "a\u030a\n"]


@pytest.mark.parametrize("title", TITLES)
async def test_r14_a_conversation_begins_with_the_system_message_and_any_title_of_at_most_255_characters(
    title: str, baio: BAiO, caller: Caller
) -> None:
    created = await baio.create_conversation(caller, title)
    assert created.title == title
    assert [(message.role, message.content) for message in created.messages] == [(Role.SYSTEM, SYSTEM_PROMPT)]
    assert created.messages[0].created_at == baio.clock.now()
    assert await baio.get_conversation(caller, created.id) == created


async def test_r14_a_longer_title_is_refused(baio: BAiO, caller: Caller, conversation: int) -> None:
    with pytest.raises(InvalidInput) as created:
        await baio.create_conversation(caller, "x" * 256)
    with pytest.raises(InvalidInput) as renamed:
        await baio.rename_conversation(caller, conversation, "x" * 256)
    for refused in (created, renamed):
        assert [error.field for error in refused.value.errors] == ["title"]
    assert [each.title for each in await baio.get_conversations(caller)] == ["New Research Topic"]


async def test_r15_conversations_are_listed_newest_first_and_ties_by_id(baio: BAiO, caller: Caller) -> None:
    created = []
    for batch in range(3):
        created += [await baio.begin(caller, f"{batch}.{number}") for number in range(3)]
        await later(1).wait()
    listed = await baio.get_conversations(caller)
    assert [each.id for each in listed] == created[::-1]
    assert [each.title for each in listed][:4] == ["2.2", "2.1", "2.0", "1.2"]
    times = [each.created_at for each in listed]
    assert times == sorted(times, reverse=True)
    assert len(set(times)) == 3


async def test_r15_messages_are_read_in_the_order_they_were_written_the_system_message_first(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    for question in ("first?", "second?"):
        await text_of(await baio.ask(caller, conversation, question))
        await later(1).wait()
    messages = (await baio.get_conversation(caller, conversation)).messages
    assert [message.role.value for message in messages] == ["system", "user", "baio", "user", "baio"]
    assert [message.content for message in messages[1:]] == ["first?", "first?", "second?", "second?"]
    assert [message.id for message in messages] == sorted(message.id for message in messages)


async def test_an_answer_that_ends_between_two_pages_is_shown_once_and_as_it_ended(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    for script in (("one", later(5), " two", STOP), (later(5), KeyRefused()), ("three", later(5), STOP)):
        baio.openai.script(*script)
    for question in ("1?", "2?"):
        answer = await baio.ask(caller, conversation, question)
        await later(2).wait()
        thread: Thread = await baio.get_conversation(caller, conversation, answers=True)
        pages = thread.pages()
        shown: list[Message | AnsweredMessage] = list(await anext(pages))
        await heard(answer)
        shown += [each async for page in pages for each in page]
        newest = await baio.newest(caller, conversation)
        assert [(each.role, each.content) for each in shown[-2:]] == [
            (Role.USER, question),
            (Role.BAIO, {"1?": "one two", "2?": ""}[question]),
        ]
        last = shown[-1]
        assert isinstance(last, AnsweredMessage)
        assert (last.answer_id, last.state, last.reason) == (newest.id, newest.state, newest.reason)
    # A failed answer that another one replaces meanwhile is not shown any more.
    thread = await baio.get_conversation(caller, conversation, answers=True)
    pages = thread.pages()
    shown = list(await anext(pages))
    await text_of(await baio.regenerate(caller, conversation))
    shown += [each async for page in pages for each in page]
    assert [each.content for each in shown[1:]] == ["1?", "one two", "2?", "three"]


async def test_a_running_answer_of_another_process_has_its_stored_text(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    process = BAiO(baio.database)
    baio.openai.script("one", later(5), " two", STOP)
    answer = await baio.ask(caller, conversation)
    await later(2).wait()
    for each in (baio, process):
        thread: Thread = await each.get_conversation(caller, conversation, answers=True)
        shown = [message async for page in thread.pages() for message in page]
        assert isinstance(shown[-1], AnsweredMessage)
        assert (shown[-1].content, shown[-1].answer_id, shown[-1].state) == (
            "one",
            answer.answer.id,
            AnswerState.RUNNING,
        )
    await text_of(answer)


async def test_renaming_changes_the_title_and_nothing_else(baio: BAiO, caller: Caller, conversation: int) -> None:
    second = await baio.begin(caller, "Second")
    before = await baio.get_conversation(caller, conversation)
    await baio.rename_conversation(caller, conversation, "Updated Discussion")
    after = await baio.get_conversation(caller, conversation)
    assert (after.id, after.title, after.messages) == (conversation, "Updated Discussion", before.messages)
    assert (await baio.get_conversation(caller, second)).title == "Second"
    await baio.rename_conversation(caller, conversation, "")
    assert (await baio.get_conversation(caller, conversation)).title == ""


async def test_a_deleted_conversation_is_gone_for_good_and_its_id_with_it(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    kept = await baio.begin(caller, "Kept")
    await text_of(await baio.ask(caller, conversation))
    newest = await baio.begin(caller, "Newest")
    for gone in (conversation, newest):
        await baio.delete_conversation(caller, gone)
        with pytest.raises(ConversationNotFound):
            await baio.get_conversation(caller, gone)
        with pytest.raises(ConversationNotFound):
            await baio.delete_conversation(caller, gone)
    assert [each.id for each in await baio.get_conversations(caller)] == [kept]
    assert await baio.begin(caller) > newest


Act = Callable[[BAiO, Caller, int], Awaitable[object]]
ACTS: dict[str, Act] = {
    "get": lambda baio, caller, conversation: baio.get_conversation(caller, conversation),
    "rename": lambda baio, caller, conversation: baio.rename_conversation(caller, conversation, "Mine now"),
    "delete": lambda baio, caller, conversation: baio.delete_conversation(caller, conversation),
    "ask": lambda baio, caller, conversation: baio.ask(caller, conversation),
    "regenerate": lambda baio, caller, conversation: baio.regenerate(caller, conversation),
    "follow": lambda baio, caller, conversation: baio.follow(caller, conversation),
    "stop": lambda baio, caller, conversation: baio.stop_answer(caller, conversation),
    "answers": lambda baio, caller, conversation: baio.get_answers(caller, conversation),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS.keys())
async def test_r11_what_is_somebody_elses_does_not_exist(
    act: Act, baio: BAiO, caller: Caller, other: Caller, conversation: int
) -> None:
    await text_of(await baio.ask(caller, conversation))
    before = await baio.get_conversation(caller, conversation)
    refusals = []
    for asked in (conversation, conversation + 1000, 0, -1, 2**63 - 1):
        with pytest.raises(BaioError) as refused:
            await act(baio, other, asked)
        error = refused.value
        refusals.append((type(error), error.detail, error.errors, error.retry_after, error.members))
    assert len({repr(refusal) for refusal in refusals}) == 1
    assert await baio.get_conversation(caller, conversation) == before
    assert await baio.get_conversations(other) == []


# -- Idempotency -------------------------------------------------------------------------------------------------------


async def test_the_same_request_under_the_same_key_creates_one_conversation(baio: BAiO, caller: Caller) -> None:
    first = await baio.create_conversation(caller, "Once", "k-1")
    await later(60).wait()
    again = await baio.create_conversation(caller, "Once", "k-1")
    assert (again.id, again.title) == (first.id, first.title)
    assert [(each.role, each.content, each.created_at) for each in again.messages] == [
        (each.role, each.content, each.created_at) for each in first.messages
    ]
    assert len(await baio.get_conversations(caller)) == 1


async def test_the_response_under_a_key_is_the_first_one_whatever_has_become_of_the_conversation(
    baio: BAiO, caller: Caller
) -> None:
    first = await baio.create_conversation(caller, "Once", "k-1")
    await baio.rename_conversation(caller, first.id, "Renamed")
    await text_of(await baio.ask(caller, first.id))
    again = await baio.create_conversation(caller, "Once", "k-1")
    assert (again.id, again.title, len(again.messages)) == (first.id, "Once", 1)
    await baio.delete_conversation(caller, first.id)
    assert (await baio.create_conversation(caller, "Once", "k-1")).id == first.id
    assert await baio.get_conversations(caller) == []


async def test_another_title_under_the_same_key_is_refused_and_without_a_key_nothing_is_remembered(
    baio: BAiO, caller: Caller, other: Caller
) -> None:
    first = await baio.create_conversation(caller, "Once", "k-1")
    with pytest.raises(IdempotencyKeyReused):
        await baio.create_conversation(caller, "Twice", "k-1")
    assert (await baio.create_conversation(other, "Twice", "k-1")).id != first.id
    assert (await baio.create_conversation(caller, "Once", "k-2")).id != first.id
    assert (await baio.create_conversation(caller, "Once")).id != (await baio.create_conversation(caller, "Once")).id


async def test_a_bad_idempotency_key_is_named_beside_a_bad_title(baio: BAiO, caller: Caller) -> None:
    with pytest.raises(InvalidInput) as refused:
        await baio.create_conversation(caller, "x" * 256, "\n")
    assert [error.field for error in refused.value.errors] == ["title", "idempotency_key"]
