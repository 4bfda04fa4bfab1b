"""Asking, following, stopping and asking again; what the provider is sent, and what a request may repeat."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from baio_adapters.memory import MemoryDatabase
from baio_domain.answering import (
    CATCH_UP_TIMEOUT_SECONDS,
    LEASE,
    STOP_TIMEOUT_SECONDS,
    StoredAnswer,
)
from baio_domain.entities import AnswerState, Caller, Role
from baio_domain.errors import (
    AnswerInterrupted,
    AnswerNotFound,
    AnswerRunning,
    ApiKeyNotFound,
    ApiKeyUnreadable,
    BaioError,
    ConversationNotFound,
    IdempotencyKeyReused,
    InvalidInput,
    KeyRefused,
    PromptTooLong,
    QuestionNotFound,
    TooManyAnswers,
    Unavailable,
)
from baio_domain.idempotency import IDEMPOTENCY_KEY_LIFETIME
from baio_domain.ports import Finished, NewAnswer, Transaction
from baio_domain.prompts import SYSTEM_PROMPT, Turn
from baio_domain.use_cases.messaging import LeaveAnswer
from tests.unit.world import KEY, OPENAI, OTHER, QUESTION, BAiO, Link, heard, later, seconds, text_of

STOP = Finished("stop")

# -- Asking ------------------------------------------------------------------------------------------------------------


async def test_the_question_is_stored_before_the_provider_answers_and_the_answer_when_it_ends(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script(later(5), "one", later(10), " two", STOP)
    answer = await baio.ask(caller, conversation)
    assert await baio.messages(caller, conversation) == [("user", QUESTION)]
    await later(7).wait()
    assert await baio.messages(caller, conversation) == [("user", QUESTION)]
    await text_of(answer)
    assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", "one two")]


async def test_r26_the_provider_is_sent_the_system_message_and_the_conversation_in_order(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("One.", STOP)
    baio.openai.script(KeyRefused())
    baio.openai.script("Thr", KeyRefused())
    for question in ("first?", "second?", "third?", "fourth?"):
        await heard(await baio.ask(caller, conversation, question))
    asked = baio.openai.asked[-1]
    assert asked.prompt == (
        Turn("system", SYSTEM_PROMPT),
        Turn("user", "first?"),
        Turn("assistant", "One."),
        Turn("user", "second?\n\nthird?"),
        Turn("assistant", "Thr"),
        Turn("user", "fourth?"),
    )
    assert (asked.key, asked.model.identifier) == (KEY, "gpt-4o-mini")


async def test_roles_alternate_after_half_of_the_prompt_was_dropped_and_the_left_out_messages_are_counted(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    for question in ("first?", "second?"):
        baio.openai.script("A long answer. " * 10, STOP)
        await text_of(await baio.ask(caller, conversation, question))
    baio.openai.script(PromptTooLong())
    baio.openai.script("Short.", STOP)
    assert await text_of(await baio.ask(caller, conversation, "third?")) == "Short."
    assert baio.openai.asked[-1].prompt == (Turn("system", SYSTEM_PROMPT), Turn("user", "third?"))
    assert (await baio.newest(caller, conversation)).left_out == 4


async def test_where_a_model_has_no_system_role_the_system_message_is_the_beginning_of_the_first_question(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    for question in ("first?", "second?"):
        baio.openai.script("One.", STOP)
        answer = await baio.send_message(
            caller, conversation_id=conversation, apikey_nickname="OpenAI Key", content=question, model="o1-mini"
        )
        await text_of(answer)
    assert baio.openai.asked[-1].prompt == (
        Turn("user", f"{SYSTEM_PROMPT}\n\nfirst?"),
        Turn("assistant", "One."),
        Turn("user", "second?"),
    )


async def test_nothing_of_another_conversation_is_sent(
    baio: BAiO, caller: Caller, other: Caller, conversation: int
) -> None:
    for owner in (caller, other):
        await text_of(await baio.ask(owner, await baio.begin(owner), "elsewhere"))
    await text_of(await baio.ask(caller, conversation, "here"))
    assert baio.openai.asked[-1].prompt == (Turn("system", SYSTEM_PROMPT), Turn("user", "here"))


@pytest.mark.parametrize("model", ["gpt-4o", "GPT-4O", " gpt-4o ", "GPT-4o", "gpt-4o\n"])
async def test_r16_the_model_is_named_by_identifier_or_display_name_in_any_spelling(
    model: str, baio: BAiO, caller: Caller, conversation: int
) -> None:
    answer = await baio.send_message(
        caller, conversation_id=conversation, apikey_nickname="OpenAI Key", content=QUESTION, model=model
    )
    assert await text_of(answer) == QUESTION
    assert [asked.model.id for asked in baio.openai.asked] == [1]
    assert (await baio.newest(caller, conversation)).requested_model == "gpt-4o"


@pytest.mark.parametrize("model", ["gpt-5", "", "x", "ModelX", "gpt-4o-min", "1"])
async def test_r16_another_model_is_refused_with_those_of_the_keys_provider(
    model: str, baio: BAiO, caller: Caller, conversation: int
) -> None:
    with pytest.raises(InvalidInput) as refused:
        await baio.send_message(
            caller, conversation_id=conversation, apikey_nickname="OpenAI Key", content=QUESTION, model=model
        )
    assert [error.field for error in refused.value.errors] == ["model"]
    for accepted in OPENAI.models:
        assert accepted.identifier in refused.value.detail
    assert await baio.messages(caller, conversation) == []


async def test_a_key_is_asked_with_at_its_own_provider(baio: BAiO, caller: Caller, conversation: int) -> None:
    await baio.add_api_key(caller, key="other-key", nickname="Second", provider="otherprovider")
    baio.gateways["OtherProvider"] = gateway = type(baio.openai)(OTHER)
    answer = await baio.send_message(
        caller, conversation_id=conversation, apikey_nickname=" Second ", content=QUESTION, model="modelx"
    )
    assert await text_of(answer) == QUESTION
    assert [(asked.key, asked.model.identifier) for asked in gateway.asked] == [("other-key", "x")]
    assert baio.openai.asked == []


@pytest.mark.parametrize("content", ["", " ", "\n\t\r\n", "\u3000"])
async def test_a_blank_question_is_refused(content: str, baio: BAiO, caller: Caller, conversation: int) -> None:
    with pytest.raises(InvalidInput) as refused:
        await baio.ask(caller, conversation, content)
    assert [error.field for error in refused.value.errors] == ["content"]
    assert await baio.messages(caller, conversation) == []


async def test_a_question_is_stored_and_sent_as_it_was_written(baio: BAiO, caller: Caller, conversation: int) -> None:
    content = "  A\u030a\r\n\tACGT \N{DNA DOUBLE HELIX}  "
    await text_of(await baio.ask(caller, conversation, content))
    assert (await baio.messages(caller, conversation))[0] == ("user", content)
    assert baio.openai.asked[-1].prompt[-1] == Turn("user", content)


async def test_r11_a_conversation_of_somebody_elses_cannot_be_asked_in(
    baio: BAiO, caller: Caller, other: Caller, conversation: int
) -> None:
    assert caller != other
    refusals = []
    for asked in (conversation, conversation + 1000):
        with pytest.raises(ConversationNotFound) as refused:
            await baio.ask(other, asked)
        refusals.append((refused.value.detail, refused.value.members))
    assert refusals[0] == refusals[1]
    assert await baio.messages(caller, conversation) == []
    assert baio.openai.asked == []


async def test_r11_a_key_of_somebody_elses_cannot_be_asked_with(
    baio: BAiO, caller: Caller, other: Caller, conversation: int
) -> None:
    await baio.add_api_key(other, key="sk-theirs", nickname="Theirs", provider=None)
    for nickname in ("Theirs", "No such key"):
        with pytest.raises(ApiKeyNotFound):
            await baio.send_message(
                caller, conversation_id=conversation, apikey_nickname=nickname, content=QUESTION, model="gpt-4o"
            )
    assert await baio.messages(caller, conversation) == []
    assert baio.openai.asked == []


async def test_a_key_that_no_longer_opens_is_said_to_be_unreadable(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    stored = await baio.add_api_key(caller, key=KEY, nickname="Old", provider=None)
    await baio.database.write(
        lambda tx: tx.api_keys.save_sealed(stored.id, b"under another secret", owner=caller.user_id)
    )
    with pytest.raises(ApiKeyUnreadable):
        await baio.send_message(
            caller, conversation_id=conversation, apikey_nickname="Old", content=QUESTION, model="gpt-4o"
        )
    assert await baio.messages(caller, conversation) == []


async def test_a_provider_without_a_gateway_here_is_unavailable(baio: BAiO, caller: Caller, conversation: int) -> None:
    del baio.gateways["OpenAI"]
    with pytest.raises(Unavailable, match="OpenAI"):
        await baio.ask(caller, conversation)
    assert await baio.messages(caller, conversation) == []


async def test_a_user_has_only_so_many_running_answers_and_others_do_not_count(
    baio: BAiO, caller: Caller, other: Caller
) -> None:
    assert baio._container.starter().answers_per_user == 3
    for owner in (caller, other):
        for _ in range(3):
            baio.openai.script("one", later(5), STOP)
            await baio.ask(owner, await baio.begin(owner))
    fourth = await baio.begin(caller)
    with pytest.raises(TooManyAnswers) as refused:
        await baio.ask(caller, fourth)
    assert refused.value.retry_after is not None
    assert await baio.messages(caller, fourth) == []
    await later(6).wait()
    assert await text_of(await baio.ask(caller, fourth)) == QUESTION


# -- Asking once -------------------------------------------------------------------------------------------------------


async def test_the_same_request_under_the_same_key_asks_once_and_gives_the_same_answer_from_its_start(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("one", later(5), " two", STOP)
    first = await baio.ask(caller, conversation, idempotency_key="k-1")
    await later(2).wait()
    second = await baio.ask(caller, conversation, idempotency_key="k-1")
    assert second.answer.id == first.answer.id
    assert list(await asyncio.gather(text_of(first), text_of(second))) == ["one two", "one two"]
    third = await baio.ask(caller, conversation, idempotency_key="k-1")
    assert await text_of(third) == "one two"
    assert len(baio.openai.asked) == 1
    assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", "one two")]


async def test_the_same_request_to_another_process_gives_the_same_answer(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    process = BAiO(baio.database)
    baio.openai.script("one", later(5), " two", STOP)
    first = await baio.ask(caller, conversation, idempotency_key="k-1")
    second = await process.ask(caller, conversation, idempotency_key="k-1")
    assert second.answer.id == first.answer.id
    assert list(await asyncio.gather(text_of(first), text_of(second))) == ["one two", "one two"]
    assert process.openai.asked == []


async def test_a_request_that_failed_fails_again_under_its_key_and_is_not_asked_again(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script(KeyRefused())
    for _ in range(2):
        text, error = await heard(await baio.ask(caller, conversation, idempotency_key="k-1"))
        assert (text, type(error)) == ("", KeyRefused)
    assert len(baio.openai.asked) == 1


async def test_another_request_under_the_same_key_is_refused(baio: BAiO, caller: Caller, conversation: int) -> None:
    await text_of(await baio.ask(caller, conversation, idempotency_key="k-1"))
    second = await baio.begin(caller)
    with pytest.raises(IdempotencyKeyReused):
        await baio.ask(caller, conversation, "Another question?", idempotency_key="k-1")
    with pytest.raises(IdempotencyKeyReused):
        await baio.ask(caller, second, idempotency_key="k-1")
    with pytest.raises(IdempotencyKeyReused):
        await baio.create_conversation(caller, "", "k-1")
    assert len(baio.openai.asked) == 1


async def test_idempotency_keys_are_ones_own(baio: BAiO, caller: Caller, other: Caller, conversation: int) -> None:
    theirs = await baio.begin(other)
    mine = await baio.ask(caller, conversation, "Mine?", idempotency_key="k-1")
    his = await baio.ask(other, theirs, "Theirs?", idempotency_key="k-1")
    assert list(await asyncio.gather(text_of(mine), text_of(his))) == ["Mine?", "Theirs?"]


async def test_a_request_that_was_refused_leaves_its_key_free(baio: BAiO, caller: Caller, conversation: int) -> None:
    baio.openai.script("one", later(5), STOP)
    await baio.ask(caller, conversation)
    with pytest.raises(AnswerRunning):
        await baio.ask(caller, conversation, "Next?", idempotency_key="k-1")
    await later(6).wait()
    assert await text_of(await baio.ask(caller, conversation, "Next?", idempotency_key="k-1")) == "Next?"


async def test_an_idempotency_key_is_forgotten_after_a_day() -> None:
    baio = BAiO()
    await baio.load_catalogue([OPENAI])
    caller = await baio.someone()
    conversation = await baio.begin(caller)
    assert isinstance(baio.database, MemoryDatabase)

    def age(by: timedelta) -> None:
        # A day of this loop's time would be a day of checkpoints.
        kept = baio.database._tables.idempotency  # type: ignore[attr-defined]
        for key, (mark, remembered, about) in kept.items():
            kept[key] = (mark, replace(remembered, created_at=remembered.created_at - by), about)

    async with baio.answering.running(0):
        first = await baio.ask(caller, conversation, idempotency_key="k-1")
        await text_of(first)
        age(IDEMPOTENCY_KEY_LIFETIME - timedelta(minutes=1))
        assert (await baio.ask(caller, conversation, idempotency_key="k-1")).answer.id == first.answer.id
        age(timedelta(minutes=2))
        second = await baio.ask(caller, conversation, idempotency_key="k-1")
        assert second.answer.id != first.answer.id
        await text_of(second)
        age(IDEMPOTENCY_KEY_LIFETIME + timedelta(minutes=1))
        await later(6).wait()
        assert baio.database._tables.idempotency == {}


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "a\nb", "a\0b"])
async def test_an_idempotency_key_that_is_none_is_refused(
    key: str, baio: BAiO, caller: Caller, conversation: int
) -> None:
    with pytest.raises(InvalidInput) as refused:
        await baio.ask(caller, conversation, "", idempotency_key=key)
    assert [error.field for error in refused.value.errors] == ["content", "idempotency_key"]


# -- Asking again ------------------------------------------------------------------------------------------------------


async def test_regenerating_asks_the_last_question_again_and_puts_the_new_answer_in_the_old_ones_place(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("One.", STOP)
    baio.openai.script("Two.", STOP)
    baio.openai.script("Two again.", STOP)
    await text_of(await baio.ask(caller, conversation, "first?"))
    await text_of(await baio.ask(caller, conversation, "second?"))
    assert await text_of(await baio.regenerate(caller, conversation, "gpt-4o")) == "Two again."
    assert await baio.messages(caller, conversation) == [
        ("user", "first?"),
        ("baio", "One."),
        ("user", "second?"),
        ("baio", "Two again."),
    ]
    asked = baio.openai.asked
    assert asked[2].prompt == asked[1].prompt
    assert [each.model.identifier for each in asked] == ["gpt-4o-mini", "gpt-4o-mini", "gpt-4o"]
    records = await baio.get_answers(caller, conversation)
    assert [record.state for record in records] == [AnswerState.COMPLETE] * 3
    assert records[1].question_id == records[2].question_id


@pytest.mark.parametrize("script", [(KeyRefused(),), (), (STOP,)])
async def test_regenerating_in_vain_keeps_the_old_answer(
    script: tuple[BaioError | Finished, ...], baio: BAiO, caller: Caller, conversation: int
) -> None:
    await text_of(await baio.ask(caller, conversation))
    baio.openai.script(*script)
    text, error = await heard(await baio.regenerate(caller, conversation))
    assert text == ""
    assert error is not None
    assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", QUESTION)]


async def test_the_old_answer_stands_until_the_new_one_has_ended(baio: BAiO, caller: Caller, conversation: int) -> None:
    await text_of(await baio.ask(caller, conversation))
    baio.openai.script("new", later(5), STOP)
    answer = await baio.regenerate(caller, conversation)
    await later(2).wait()
    assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", QUESTION)]
    await text_of(answer)
    assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", "new")]


async def test_a_question_whose_answer_failed_can_be_asked_again(baio: BAiO, caller: Caller, conversation: int) -> None:
    baio.openai.script(KeyRefused())
    await heard(await baio.ask(caller, conversation))
    assert await text_of(await baio.regenerate(caller, conversation)) == QUESTION
    assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", QUESTION)]


async def test_regenerating_needs_a_question_and_ones_own_conversation(
    baio: BAiO, caller: Caller, other: Caller, conversation: int
) -> None:
    with pytest.raises(QuestionNotFound):
        await baio.regenerate(caller, conversation)
    await text_of(await baio.ask(caller, conversation))
    with pytest.raises(ConversationNotFound):
        await baio.regenerate(other, conversation)
    with pytest.raises(InvalidInput):
        await baio.regenerate(caller, conversation, "gpt-5")


async def test_regenerating_is_refused_while_an_answer_runs(baio: BAiO, caller: Caller, conversation: int) -> None:
    baio.openai.script("one", later(5), STOP)
    answer = await baio.ask(caller, conversation)
    with pytest.raises(AnswerRunning) as refused:
        await baio.regenerate(caller, conversation)
    assert refused.value.members == {"answer_id": answer.answer.id}


# -- Following ---------------------------------------------------------------------------------------------------------


async def test_an_answer_can_be_followed_from_another_process_while_it_grows(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    process = BAiO(baio.database)
    baio.openai.script("one", later(3), " two", later(6), " three", STOP)
    await baio.ask(caller, conversation)
    begun = seconds()
    answer = await process.follow(caller, conversation)
    arrived = [(text, seconds() - begun) async for text in answer.follow()]
    assert "".join(text for text, _ in arrived) == "one two three"
    assert [text for text, _ in arrived] == ["one", " two", " three"]
    for (_, at), spoken_at in zip(arrived, (0, 3, 6), strict=True):
        assert spoken_at <= at < spoken_at + 1
    assert answer.outcome is not None
    assert answer.outcome.state is AnswerState.COMPLETE


async def test_from_another_process_a_cut_answer_is_cut_too(baio: BAiO, caller: Caller, conversation: int) -> None:
    process = BAiO(baio.database)
    baio.openai.script("one", later(3), KeyRefused())
    await baio.ask(caller, conversation)
    text, error = await heard(await process.follow(caller, conversation))
    assert (text, type(error)) == ("one", KeyRefused)


async def test_what_is_followed_is_the_newest_answer(baio: BAiO, caller: Caller, conversation: int) -> None:
    for question in ("first?", "second?"):
        await text_of(await baio.ask(caller, conversation, question))
    assert await text_of(await baio.follow(caller, conversation)) == "second?"


async def test_there_is_nothing_to_follow_without_an_answer_or_in_somebody_elses_conversation(
    baio: BAiO, caller: Caller, other: Caller, conversation: int
) -> None:
    with pytest.raises(AnswerNotFound):
        await baio.follow(caller, conversation)
    await text_of(await baio.ask(caller, conversation))
    for asked in (conversation, conversation + 1000):
        with pytest.raises(AnswerNotFound):
            await baio.follow(other, asked)


@pytest.mark.parametrize("offset", [-1, len(QUESTION) + 1, 2**40])
async def test_an_offset_outside_the_text_is_refused(
    offset: int, baio: BAiO, caller: Caller, conversation: int
) -> None:
    await text_of(await baio.ask(caller, conversation))
    with pytest.raises(InvalidInput) as refused:
        await baio.follow(caller, conversation, offset)
    assert [error.field for error in refused.value.errors] == ["offset"]
    assert str(len(QUESTION)) in refused.value.detail


async def test_an_offset_outside_the_text_of_a_running_answer_is_refused(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("one", later(5), STOP)
    await baio.ask(caller, conversation)
    await later(1).wait()
    with pytest.raises(InvalidInput):
        await baio.follow(caller, conversation, 4)
    assert await text_of(await baio.follow(caller, conversation, 3), 3) == ""


async def test_who_has_seen_more_than_is_stored_yet_may_go_on_in_another_process(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    process = BAiO(baio.database)
    baio.openai.script("one", " two", later(5), " three", STOP)
    answer = await baio.ask(caller, conversation)
    seen = await anext(answer.follow())
    follower = await process.follow(caller, conversation, len(seen))
    assert seen + await text_of(follower, len(seen)) == "one two three"


async def test_who_claims_to_have_seen_what_never_comes_is_refused_in_time(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    process = BAiO(baio.database)
    baio.openai.script("one", later(60), STOP)
    await baio.ask(caller, conversation)
    begun = seconds()
    with pytest.raises(InvalidInput):
        await process.follow(caller, conversation, 100)
    assert seconds() - begun < CATCH_UP_TIMEOUT_SECONDS + 1


async def test_an_offset_counts_characters_not_bytes_nor_utf_16(baio: BAiO, caller: Caller, conversation: int) -> None:
    text = "\N{DNA DOUBLE HELIX}a\u030a\N{DNA DOUBLE HELIX}"
    baio.openai.script(text, later(2), STOP)
    live = await baio.ask(caller, conversation)
    await later(1).wait()
    elsewhere = await BAiO(baio.database).follow(caller, conversation, 2)
    assert list(await asyncio.gather(text_of(live, 2), text_of(elsewhere, 2))) == [text[2:], text[2:]]
    assert await text_of(await baio.follow(caller, conversation, 3), 3) == text[3:]


# -- Stopping ----------------------------------------------------------------------------------------------------------


async def test_stopping_returns_the_final_record_with_the_text_kept(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("one", asyncio.Event(), " two", STOP)
    answer = await baio.ask(caller, conversation)
    await later(3).wait()
    record = await baio.stop_answer(caller, conversation)
    assert (record.id, record.state) == (answer.answer.id, AnswerState.STOPPED)
    assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", "one")]
    assert await heard(answer) == ("one", None)
    assert await text_of(await baio.follow(caller, conversation)) == "one"


async def test_an_answer_can_be_stopped_before_its_first_text(baio: BAiO, caller: Caller, conversation: int) -> None:
    baio.openai.script(asyncio.Event())
    answer = await baio.ask(caller, conversation)
    await later(3).wait()
    assert (await baio.stop_answer(caller, conversation)).state is AnswerState.STOPPED
    assert await heard(answer) == ("", None)
    assert await baio.messages(caller, conversation) == [("user", QUESTION)]


async def test_an_answer_can_be_stopped_from_the_moment_its_question_is_stored(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script(asyncio.Event())
    await baio.ask(caller, conversation)
    async with asyncio.timeout(10):
        assert (await baio.stop_answer(caller, conversation)).state is AnswerState.STOPPED


async def test_an_answer_can_be_stopped_from_another_process(baio: BAiO, caller: Caller, conversation: int) -> None:
    process = BAiO(baio.database)
    baio.openai.script("one", asyncio.Event(), " two", STOP)
    answer, begun = await baio.ask(caller, conversation), seconds()
    record = await process.stop_answer(caller, conversation)
    assert record.state is AnswerState.STOPPED
    assert seconds() - begun < 1.5
    assert await heard(answer) == ("one", None)
    assert baio.openai.closed == 1


async def test_an_answer_whose_process_is_gone_counts_as_stopped_once_its_lease_is_over() -> None:
    store = MemoryDatabase()
    link = Link(store)
    gone, process = BAiO(link), BAiO(store)
    await gone.load_catalogue([OPENAI])
    async with gone.answering.running(0), process.answering.running(0):
        caller = await gone.someone()
        conversation = await gone.begin(caller)
        gone.openai.script("one", asyncio.Event())
        await gone.ask(caller, conversation)
        await later(1).wait()
        link.is_cut, begun = True, seconds()
        record = await process.stop_answer(caller, conversation)
        assert record.state is AnswerState.INTERRUPTED
        assert LEASE.total_seconds() - 1 < seconds() - begun < STOP_TIMEOUT_SECONDS
        assert await process.messages(caller, conversation) == [("user", QUESTION), ("baio", "one")]


async def test_a_request_to_stop_that_nobody_heeds_is_given_up(baio: BAiO, caller: Caller, conversation: int) -> None:
    owner, now = caller.user_id, baio.clock.now()

    def begin_for_a_process_that_hangs(tx: Transaction) -> None:
        question = tx.messages.add(conversation, Role.USER, QUESTION, now, owner=owner)
        tx.answers.begin(NewAnswer(question, owner, 1, "gpt-4o", now, now + timedelta(seconds=75), max_running=3))

    await baio.database.write(begin_for_a_process_that_hangs)
    begun = seconds()
    with pytest.raises(Unavailable) as refused:
        await baio.stop_answer(caller, conversation)
    assert STOP_TIMEOUT_SECONDS <= seconds() - begun < STOP_TIMEOUT_SECONDS + 1
    assert refused.value.retry_after is not None


async def test_an_answer_that_ends_by_itself_meanwhile_keeps_its_own_end(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    process = BAiO(baio.database)
    baio.openai.script("one", later(0.3), " two", STOP)
    await baio.ask(caller, conversation)
    await later(0.2).wait()
    assert (await process.stop_answer(caller, conversation)).state is AnswerState.COMPLETE


async def test_there_is_nothing_to_stop_where_nothing_runs_or_somebody_elses_answer_does(
    baio: BAiO, caller: Caller, other: Caller, conversation: int
) -> None:
    with pytest.raises(AnswerNotFound):
        await baio.stop_answer(caller, conversation)
    baio.openai.script("one", later(3), " two", STOP)
    answer = await baio.ask(caller, conversation)
    for asked in (conversation, conversation + 1000):
        with pytest.raises(AnswerNotFound):
            await baio.stop_answer(other, asked)
    assert await text_of(answer) == "one two"
    with pytest.raises(AnswerNotFound):
        await baio.stop_answer(caller, conversation)


# -- Records, and leaving ----------------------------------------------------------------------------------------------


async def test_the_records_of_answers_are_read_oldest_first_by_their_owner_alone(
    baio: BAiO, caller: Caller, other: Caller, conversation: int
) -> None:
    assert await baio.get_answers(caller, conversation) == []
    for question in ("first?", "second?"):
        await text_of(await baio.ask(caller, conversation, question))
    records = await baio.get_answers(caller, conversation)
    assert [record.id for record in records] == sorted(record.id for record in records)
    assert len(records) == 2
    for asked in (conversation, conversation + 1000):
        with pytest.raises(ConversationNotFound):
            await baio.get_answers(other, asked)


@pytest.mark.parametrize(("stops", "state"), [(False, AnswerState.COMPLETE), (True, AnswerState.STOPPED)])
async def test_leaving_changes_nothing_or_stops_the_answer_as_the_installation_has_it(
    stops: bool,  # noqa: FBT001 - a parameter of the test
    state: AnswerState,
    baio: BAiO,
    caller: Caller,
    conversation: int,
) -> None:
    baio.openai.script("one", later(5), " two", STOP)
    answer = await baio.ask(caller, conversation)
    await later(2).wait()
    LeaveAnswer(baio.answering, stops)(answer)
    await answer_ended(baio, caller, conversation)
    assert (await baio.newest(caller, conversation)).state is state


async def test_leaving_an_answer_of_another_process_does_not_disturb(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    process = BAiO(baio.database)
    baio.openai.script("one", later(5), " two", STOP)
    await baio.ask(caller, conversation)
    answer = await process.follow(caller, conversation)
    assert isinstance(answer, StoredAnswer)
    LeaveAnswer(process.answering, stops=True)(answer)
    await answer_ended(baio, caller, conversation)
    assert (await baio.newest(caller, conversation)).state is AnswerState.COMPLETE


async def answer_ended(baio: BAiO, caller: Caller, conversation: int) -> None:
    while (await baio.newest(caller, conversation)).state is AnswerState.RUNNING:
        await later(0.1).wait()


async def test_an_interrupted_answer_tells_its_followers_that_this_service_cut_it(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("one", asyncio.Event())
    answer = await baio.ask(caller, conversation)
    await later(1).wait()
    await baio.answering.drain(0)
    for follower in (answer, await baio.follow(caller, conversation)):
        text, error = await heard(follower)
        assert text == "one"
        assert type(error) is AnswerInterrupted
