"""The life of one answer: its end in exactly one state, its deadlines, its followers, and what a crash leaves."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import cast, final

import pytest

from baio_adapters.memory import MemoryDatabase
from baio_adapters.memory.answers import MemoryAnswers
from baio_domain.answering import (
    CHECKPOINT_SECONDS,
    FROZEN,
    LEASE,
    MAX_METADATA_LENGTH,
    MAX_TOKEN_COUNT,
    REAP_SECONDS,
    ROLL_CALL_SECONDS,
    SAVE_TIMEOUT_SECONDS,
    AnswerLimits,
)
from baio_domain.entities import AnswerState, Caller, Model, Outcome, Usage
from baio_domain.errors import (
    AnswerInterrupted,
    AnswerRunning,
    BaioError,
    ConversationNotFound,
    KeyRefused,
    ModelRefused,
    PromptRefused,
    PromptTooLong,
    ProviderBroken,
    ProviderRateLimited,
    ProviderTooSlow,
    Unavailable,
)
from baio_domain.ports import Finished, LLMGateway
from baio_domain.prompts import Turn
from tests.unit.world import OPENAI, QUESTION, START, BAiO, Link, heard, later, seconds, text_of

STOP = Finished("stop")


@final
class OneStream(LLMGateway):
    """A gateway that answers with this one stream."""

    provider = OPENAI

    def __init__(self, stream: AsyncGenerator[str | Finished, None]) -> None:
        self._stream = stream

    def stream(self, *, key: str, model: Model, prompt: Sequence[Turn]) -> AsyncGenerator[str | Finished, None]:
        """The stream."""
        del key, model, prompt
        return self._stream

    async def aclose(self) -> None:
        """Nothing is open."""


# -- Ends --------------------------------------------------------------------------------------------------------------


async def test_an_answer_that_its_provider_finishes_is_complete_and_stored(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("Three ", "nucleotides.", Finished("stop", "gpt-4o-mini-2024-07-18", Usage(31, 4)))
    assert await text_of(await baio.ask(caller, conversation)) == "Three nucleotides."
    assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", "Three nucleotides.")]
    record = await baio.newest(caller, conversation)
    assert (record.state, record.finish_reason, record.reason) == (AnswerState.COMPLETE, "stop", None)
    assert (record.requested_model, record.model) == ("gpt-4o-mini", "gpt-4o-mini-2024-07-18")
    assert (record.prompt_tokens, record.completion_tokens) == (31, 4)
    assert record.ended_at is not None
    assert START < record.started_at <= record.ended_at


@pytest.mark.parametrize("reason", ["stop", "tool_calls", "end_turn"])
async def test_a_finish_reason_that_means_nothing_is_missing_makes_it_complete(
    reason: str, baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("All of it.", Finished(reason))
    assert await text_of(await baio.ask(caller, conversation)) == "All of it."
    record = await baio.newest(caller, conversation)
    assert (record.state, record.finish_reason) == (AnswerState.COMPLETE, reason)


@pytest.mark.parametrize("reason", ["length", "max_tokens", "content_filter"])
async def test_a_finish_reason_that_means_something_is_missing_makes_it_truncated(
    reason: str, baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("A part of", Finished(reason))
    assert await text_of(await baio.ask(caller, conversation)) == "A part of"
    record = await baio.newest(caller, conversation)
    assert (record.state, record.finish_reason, record.cut) == (AnswerState.TRUNCATED, reason, False)
    assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", "A part of")]


async def test_an_answer_ends_at_our_longest_and_its_provider_is_let_go() -> None:
    baio = BAiO(limits=AnswerLimits(max_chars=10))
    await baio.load_catalogue([OPENAI])
    async with baio.answering.running(drain_seconds=0):
        caller = await baio.someone()
        conversation = await baio.begin(caller)
        baio.openai.script("12345", "67890abc", "never", STOP)
        assert await text_of(await baio.ask(caller, conversation)) == "1234567890"
        record = await baio.newest(caller, conversation)
        assert (record.state, record.reason) == (AnswerState.TRUNCATED, "longest-answer")
        assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", "1234567890")]
        assert baio.openai.closed == 1


async def test_a_stream_that_stops_without_being_finished_is_failed_and_its_text_kept(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("Three nuc")
    text, error = await heard(await baio.ask(caller, conversation))
    assert text == "Three nuc"
    assert isinstance(error, ProviderBroken)
    record = await baio.newest(caller, conversation)
    assert (record.state, record.reason) == (AnswerState.FAILED, "provider-broken")
    assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", "Three nuc")]


@pytest.mark.parametrize("script", [(), (STOP,), (Finished("length"),)])
async def test_an_answer_without_text_is_failed_whatever_its_provider_calls_it(
    script: tuple[Finished, ...], baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script(*script)
    text, error = await heard(await baio.ask(caller, conversation))
    assert text == ""
    assert isinstance(error, ProviderBroken)
    record = await baio.newest(caller, conversation)
    assert (record.state, record.reason) == (AnswerState.FAILED, "provider-broken")
    assert await baio.messages(caller, conversation) == [("user", QUESTION)]


REFUSALS = [
    KeyRefused(),
    ModelRefused(),
    PromptTooLong(),
    PromptRefused(),
    ProviderRateLimited(retry_after=7),
    ProviderBroken(),
    ProviderTooSlow(),
]
by_slug = pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.slug)


@by_slug
async def test_what_the_provider_refuses_with_is_raised_and_recorded_and_leaves_no_message(
    refusal: BaioError, baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script(refusal)
    assert await heard(await baio.ask(caller, conversation)) == ("", refusal)
    record = await baio.newest(caller, conversation)
    assert (record.state, record.reason) == (AnswerState.FAILED, refusal.slug)
    assert await baio.messages(caller, conversation) == [("user", QUESTION)]


@by_slug
async def test_a_failure_after_the_first_text_is_raised_after_the_last_and_the_text_is_kept(
    refusal: BaioError, baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("Three ", "nuc", refusal)
    assert await heard(await baio.ask(caller, conversation)) == ("Three nuc", refusal)
    record = await baio.newest(caller, conversation)
    assert (record.state, record.reason, record.cut) == (AnswerState.FAILED, refusal.slug, True)
    assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", "Three nuc")]


async def broken(*texts: str) -> AsyncGenerator[str | Finished, None]:
    for text in texts:
        yield text
    raise RuntimeError("401 for sk-live-secret")


async def test_an_exception_that_a_gateway_must_not_raise_is_a_broken_provider_and_goes_to_the_log_alone(
    baio: BAiO, caller: Caller, conversation: int, caplog: pytest.LogCaptureFixture
) -> None:
    baio.gateways["OpenAI"] = OneStream(broken("Three nuc"))
    text, error = await heard(await baio.ask(caller, conversation))
    assert text == "Three nuc"
    assert type(error) is ProviderBroken
    assert error.detail == ProviderBroken.title
    assert (await baio.newest(caller, conversation)).state is AnswerState.FAILED
    assert [record.levelno for record in caplog.records if record.exc_info] == [logging.ERROR]


@pytest.mark.parametrize("text", ["", "Three nuc"])
async def test_who_follows_later_hears_the_same_end_as_who_asked(
    text: str, baio: BAiO, caller: Caller, conversation: int
) -> None:
    scripts: list[tuple[str | Finished | BaioError, ...]] = [(refusal,) for refusal in REFUSALS]
    for script in [*scripts, (), (STOP,), (Finished("length"),)]:
        baio.openai.script(*([text] if text else []), *script)
        at_once = await heard(await baio.ask(caller, conversation))
        afterwards = await heard(await baio.follow(caller, conversation))
        assert afterwards[0] == at_once[0]
        assert type(afterwards[1]) is type(at_once[1])


@pytest.mark.parametrize(
    "finished",
    [Finished("stop"), Finished("stop", "gpt-4o-mini-2024-07-18", Usage(31, 4)), Finished("length", usage=Usage(0, 0))],
)
async def test_who_follows_later_is_told_the_same_of_how_it_went(
    finished: Finished, baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("All of it.", finished)
    at_once = await baio.ask(caller, conversation)
    await text_of(at_once)
    afterwards = await baio.follow(caller, conversation)
    await text_of(afterwards)
    assert afterwards is not at_once
    assert afterwards.outcome == at_once.outcome
    assert at_once.outcome is not None
    assert (at_once.outcome.finish_reason, at_once.outcome.usage) == (finished.reason, finished.usage)


async def test_who_follows_later_hears_the_same_end_where_a_gateway_broke_its_promise(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.gateways["OpenAI"] = OneStream(broken("Three nuc"))
    at_once = await heard(await baio.ask(caller, conversation))
    afterwards = await heard(await baio.follow(caller, conversation))
    assert afterwards[0] == at_once[0]
    assert type(afterwards[1]) is type(at_once[1])


async def test_what_no_database_can_hold_is_replaced_before_anybody_sees_it(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("nul\0", "lone \ud83d", "\ude00", " pair \ud83d\ude00", STOP)
    expected = "nul\ufffdlone \ufffd\ufffd pair \N{GRINNING FACE}"
    assert await text_of(await baio.ask(caller, conversation)) == expected
    assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", expected)]


async def test_metadata_that_no_database_can_hold_is_made_storable_and_never_costs_the_text(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("All of it.", Finished("st\0p\ud800", "m\0del\udfff" + "x" * 1_000_000, Usage(31, 4)))
    assert await text_of(await baio.ask(caller, conversation)) == "All of it."
    record = await baio.newest(caller, conversation)
    assert record.state is AnswerState.COMPLETE
    assert record.finish_reason == "st\ufffdp\ufffd"
    assert record.model == "m\ufffddel\ufffd" + "x" * (MAX_METADATA_LENGTH - 6)
    assert (record.prompt_tokens, record.completion_tokens) == (31, 4)


@pytest.mark.parametrize("impossible", [-1, MAX_TOKEN_COUNT + 1, 2**63 - 1, 2**64 - 1, 10**30, 7.0, "7", True])
async def test_impossible_token_counts_are_dropped_and_the_answer_counts_by_its_text(
    impossible: object, baio: BAiO, caller: Caller, conversation: int
) -> None:
    for usage in (Usage(cast("int", impossible), 4), Usage(31, cast("int", impossible))):
        baio.openai.script("All of it.", Finished("stop", "gpt-4o-mini", usage))
        assert await text_of(await baio.ask(caller, conversation)) == "All of it."
        record = await baio.newest(caller, conversation)
        assert (record.state, record.model) == (AnswerState.COMPLETE, "gpt-4o-mini")
        assert (record.prompt_tokens, record.completion_tokens) == (None, None)
    (day,) = await baio.get_usage(caller, None, None)
    assert (day.usage.answers, day.usage.estimated) == (2, True)


async def test_where_the_whole_end_can_not_be_stored_the_text_is_stored_without_the_metadata(
    baio: BAiO,
    caller: Caller,
    conversation: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    end = MemoryAnswers.end

    def refuse_names(answers: MemoryAnswers, answer_id: int, outcome: Outcome, text: str, now: datetime) -> bool:
        if outcome.model is not None:
            raise OverflowError
        return end(answers, answer_id, outcome, text, now)

    monkeypatch.setattr(MemoryAnswers, "end", refuse_names)
    baio.openai.script("All ", "of it.", Finished("stop", "gpt-4o-mini", Usage(31, 4)))
    assert await text_of(await baio.ask(caller, conversation)) == "All of it."
    assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", "All of it.")]
    record = await baio.newest(caller, conversation)
    assert (record.state, record.model, record.prompt_tokens) == (AnswerState.COMPLETE, None, None)
    assert await text_of(await baio.ask(caller, conversation, "And then?")) == "And then?"
    assert "answer not stored" in [record.getMessage() for record in caplog.records]


async def closing_slowly(delay: float) -> AsyncGenerator[str | Finished, None]:
    try:
        yield "All of it."
        yield Finished("stop", "gpt-4o-mini")
    finally:
        await asyncio.sleep(delay)


async def test_an_answer_is_complete_once_its_provider_has_finished_however_long_closing_takes(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.gateways["OpenAI"] = OneStream(closing_slowly(3 * AnswerLimits().between_text_seconds))
    assert await text_of(await baio.ask(caller, conversation)) == "All of it."
    assert (await baio.newest(caller, conversation)).state is AnswerState.COMPLETE


# -- Deadlines ---------------------------------------------------------------------------------------------------------

LIMITS = AnswerLimits()


async def test_a_provider_without_a_first_text_in_time_is_too_slow_and_let_go(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script(asyncio.Event(), "too late", STOP)
    answer, begun = await baio.ask(caller, conversation), seconds()
    text, error = await heard(answer)
    assert text == ""
    assert isinstance(error, ProviderTooSlow)
    assert seconds() - begun == pytest.approx(LIMITS.first_text_seconds)
    assert baio.openai.closed == 1
    record = await baio.newest(caller, conversation)
    assert (record.state, record.reason) == (AnswerState.FAILED, "provider-too-slow")


async def test_a_first_text_just_in_time_is_in_time(baio: BAiO, caller: Caller, conversation: int) -> None:
    baio.openai.script(later(LIMITS.first_text_seconds - 0.1), "Just", STOP)
    assert await text_of(await baio.ask(caller, conversation)) == "Just"


async def test_a_provider_that_falls_silent_is_too_slow_so_long_after_its_last_text(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("Three", later(20), " nuc", asyncio.Event(), "leotides.", STOP)
    answer, begun = await baio.ask(caller, conversation), seconds()
    text, error = await heard(answer)
    assert text == "Three nuc"
    assert isinstance(error, ProviderTooSlow)
    assert seconds() - begun == pytest.approx(20 + LIMITS.between_text_seconds)
    assert baio.openai.closed == 1
    assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", "Three nuc")]


async def test_a_provider_that_falls_silent_after_its_first_text_is_not_given_the_time_of_a_first_text(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("Three", asyncio.Event())
    answer, begun = await baio.ask(caller, conversation), seconds()
    text, error = await heard(answer)
    assert text == "Three"
    assert isinstance(error, ProviderTooSlow)
    assert seconds() - begun == pytest.approx(LIMITS.between_text_seconds)


async def test_a_provider_may_pause_again_and_again_as_long_as_each_pause_is_short(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    pause = LIMITS.between_text_seconds - 0.1
    pauses = [later(pause * number) for number in range(1, 11)]
    baio.openai.script(*(step for pause in pauses for step in (pause, ".")), STOP)
    assert await text_of(await baio.ask(caller, conversation)) == "." * 10
    assert (await baio.newest(caller, conversation)).state is AnswerState.COMPLETE


async def test_an_answer_that_never_ends_is_ended_at_the_limit_for_the_whole(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    ticks = [later(number) for number in range(1, 1000)]
    baio.openai.script(*(step for tick in ticks for step in (tick, ".")), STOP)
    answer, begun = await baio.ask(caller, conversation), seconds()
    text, error = await heard(answer)
    assert len(text) == pytest.approx(LIMITS.answer_seconds, abs=1)
    assert isinstance(error, ProviderTooSlow)
    assert seconds() - begun == pytest.approx(LIMITS.answer_seconds)
    assert baio.openai.closed == 1
    assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", text)]


# -- Followers ---------------------------------------------------------------------------------------------------------


async def test_text_is_handed_on_while_the_answer_still_grows(baio: BAiO, caller: Caller, conversation: int) -> None:
    baio.openai.script("one", later(5), " two", later(10), " three", STOP)
    answer, begun = await baio.ask(caller, conversation), seconds()
    arrived = [(text, round(seconds() - begun)) async for text in answer.follow()]
    assert arrived == [("one", 0), (" two", 5), (" three", 10)]


async def test_who_joins_late_gets_what_is_there_at_once_and_the_rest_as_it_comes(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("one", " two", later(10), " three", STOP)
    await baio.ask(caller, conversation)
    begun = seconds()
    await later(5).wait()
    answer = await baio.follow(caller, conversation)
    arrived = [(text, round(seconds() - begun)) async for text in answer.follow()]
    assert arrived == [("one two", 5), (" three", 10)]


@pytest.mark.parametrize("offset", range(14))
async def test_who_joins_at_a_character_gets_exactly_the_rest(
    offset: int, baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("one", " two", later(3), " thr", later(7), "ee", STOP)
    live = await baio.ask(caller, conversation)
    assert await heard(live, offset) == ("one two three"[offset:], None)
    assert await heard(await baio.follow(caller, conversation, offset), offset) == ("one two three"[offset:], None)


async def test_two_followers_get_the_same_text_from_where_each_began(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("one", later(3), " two", later(7), " three", STOP)
    answer = await baio.ask(caller, conversation)
    assert list(await asyncio.gather(text_of(answer), text_of(answer, 4))) == ["one two three", "two three"]


async def test_a_follower_that_leaves_changes_nothing(baio: BAiO, caller: Caller, conversation: int) -> None:
    baio.openai.script("one", later(3), " two", later(7), " three", STOP)
    answer = await baio.ask(caller, conversation)
    async with aclosing(answer.follow()) as texts:
        assert await anext(texts) == "one"
    waiting = asyncio.create_task(heard(answer))
    await later(1).wait()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert await text_of(answer) == "one two three"
    assert (await baio.newest(caller, conversation)).state is AnswerState.COMPLETE


async def test_an_answer_that_nobody_follows_is_finished_and_stored(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("one", later(5), " two", STOP)
    await baio.ask(caller, conversation)
    await later(6).wait()
    assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", "one two")]


async def test_a_slow_reader_is_never_handed_more_than_64_thousand_characters_at_once(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    text = "".join(chr(0x4E00 + number % 997) for number in range(200_000))
    baio.openai.script(*(text[start : start + 50_000] for start in range(0, 200_000, 50_000)), STOP)
    live = await baio.ask(caller, conversation)
    await later(1).wait()
    stored = await baio.follow(caller, conversation)
    for answer in (live, stored):
        pieces = [piece async for piece in answer.follow()]
        assert "".join(pieces) == text
        assert max(map(len, pieces)) <= 65_536


# -- Checkpoints, leases and crashes -----------------------------------------------------------------------------------


async def test_text_that_is_a_checkpoint_old_is_stored(baio: BAiO, caller: Caller, conversation: int) -> None:
    baio.openai.script("one", later(5), " two", asyncio.Event())
    answer = await baio.ask(caller, conversation)
    answer_id, owner = answer.answer.id, caller.user_id

    async def stored() -> str:
        return await baio.database.read(lambda tx: tx.answers.text(answer_id, 0, owner=owner))

    await later(CHECKPOINT_SECONDS + 0.01).wait()
    assert await stored() == "one"
    await later(5).wait()
    assert await stored() == "one two"


async def test_an_answer_that_takes_long_keeps_its_lease(baio: BAiO, caller: Caller, conversation: int) -> None:
    ticks = [later(number * 25) for number in range(1, 9)]
    baio.openai.script(*(step for tick in ticks for step in (tick, ".")), STOP)
    assert await text_of(await baio.ask(caller, conversation)) == "." * 8
    assert (await baio.newest(caller, conversation)).state is AnswerState.COMPLETE


async def test_an_answer_whose_process_is_gone_is_ended_by_another_with_the_text_of_its_last_checkpoint() -> None:
    store = MemoryDatabase()
    link = Link(store)
    gone, other = BAiO(link), BAiO(store)
    await gone.load_catalogue([OPENAI])
    async with gone.answering.running(0), other.answering.running(0):
        caller = await gone.someone()
        conversation = await gone.begin(caller)
        gone.openai.script("stored", later(2), " and lost", asyncio.Event())
        await gone.ask(caller, conversation)
        await later(1).wait()
        link.is_cut, cut_at = True, seconds()

        while (record := await other.newest(caller, conversation)).state is AnswerState.RUNNING:
            await later(0.1).wait()
        assert LEASE.total_seconds() - 1 < seconds() - cut_at < LEASE.total_seconds() + REAP_SECONDS + 1
        assert (record.state, record.reason, record.cut) == (AnswerState.INTERRUPTED, "lost", True)
        assert await other.messages(caller, conversation) == [("user", QUESTION), ("baio", "stored")]
        text, error = await heard(await other.follow(caller, conversation))
        assert text == "stored"
        assert isinstance(error, AnswerInterrupted)

        assert await text_of(await other.ask(caller, conversation, "And now?")) == "And now?"


async def test_an_answer_whose_process_has_died_is_ended_by_another_within_a_second() -> None:
    store, roll = MemoryDatabase(), dict[int, bool]()
    link = Link(store)
    dead, other = BAiO(link, roll=roll), BAiO(store, roll=roll)
    await dead.load_catalogue([OPENAI])
    async with dead.answering.running(0), other.answering.running(0):
        caller = await dead.someone()
        conversation, there = await dead.begin(caller), await dead.begin(caller)
        dead.openai.script("stored", later(2), " and lost", asyncio.Event())
        other.openai.script("one", later(9), " two", STOP)
        await dead.ask(caller, conversation)
        alive = await other.ask(caller, there)
        await later(1).wait()
        link.is_cut = True
        dead.workers.leave()  # as the system does for it
        await later(ROLL_CALL_SECONDS + 0.1).wait()
        record = await other.newest(caller, conversation)
        assert (record.state, record.reason) == (AnswerState.INTERRUPTED, "lost")
        assert await other.messages(caller, conversation) == [("user", QUESTION), ("baio", "stored")]
        assert await text_of(await other.ask(caller, conversation, "And now?")) == "And now?"
        assert await text_of(alive) == "one two"


async def test_the_answers_of_a_process_that_has_died_have_ended_before_its_successor_serves() -> None:
    store, roll = MemoryDatabase(), dict[int, bool]()
    link = Link(store)
    dead, successor = BAiO(link, roll=roll), BAiO(store, roll=roll)
    await dead.load_catalogue([OPENAI])
    async with dead.answering.running(0):
        caller = await dead.someone()
        conversation = await dead.begin(caller)
        dead.openai.script("stored", later(2), " and lost", asyncio.Event())
        await dead.ask(caller, conversation)
        await later(1).wait()
        link.is_cut = True
        dead.workers.leave()
        async with successor.answering.running(0):
            assert (await successor.newest(caller, conversation)).state is AnswerState.INTERRUPTED
            assert await successor.messages(caller, conversation) == [("user", QUESTION), ("baio", "stored")]


@pytest.mark.parametrize("silent", [timedelta(seconds=25), FROZEN - timedelta(seconds=1), FROZEN + LEASE])
async def test_a_process_that_is_frozen_and_holds_its_lock_keeps_its_answers_for_a_minute(silent: timedelta) -> None:
    store, roll = MemoryDatabase(), dict[int, bool]()
    link = Link(store)
    frozen, other = BAiO(link, roll=roll), BAiO(store, roll=roll)
    frozen.openai.script("one", later(29), " two", later(58), " three", later(87), " four", STOP)
    await frozen.load_catalogue([OPENAI])
    async with frozen.answering.running(0), other.answering.running(0):
        caller = await frozen.someone()
        conversation = await frozen.begin(caller)
        answer = await frozen.ask(caller, conversation)
        await later(1).wait()
        link.is_cut = True
        await later(silent.total_seconds()).wait()
        link.is_cut = False
        if silent < FROZEN:
            assert await heard(answer) == ("one two three four", None)
        else:
            assert isinstance((await heard(answer))[1], AnswerInterrupted)
            assert (await other.newest(caller, conversation)).reason == "lost"


async def test_a_process_whose_lock_was_lost_goes_on_under_another_number() -> None:
    store, roll = MemoryDatabase(), dict[int, bool]()
    baio = BAiO(store, roll=roll)
    await baio.load_catalogue([OPENAI])
    async with baio.answering.running(0):
        caller = await baio.someone()
        conversation = await baio.begin(caller)
        baio.openai.script("one", later(5), " two", STOP)
        answer = await baio.ask(caller, conversation)
        before = baio.answering.worker
        assert await store.read(lambda tx: tx.answers.workers()) == {before}
        roll.clear()
        await later(ROLL_CALL_SECONDS + 0.1).wait()
        assert baio.answering.worker != before
        assert await store.read(lambda tx: tx.answers.workers()) == {baio.answering.worker}
        assert await heard(answer) == ("one two", None)


async def test_a_process_that_was_frozen_itself_gives_all_others_time_to_go_on() -> None:
    store = MemoryDatabase()
    link = Link(store)
    frozen, other = BAiO(link), BAiO(store)
    frozen.openai.script("one", later(40), " two", STOP)
    await frozen.load_catalogue([OPENAI])
    async with frozen.answering.running(0), other.answering.running(0):
        caller = await frozen.someone()
        conversation = await frozen.begin(caller)
        baio_answer = await frozen.ask(caller, conversation)
        await later(1).wait()
        # The machine sleeps for an hour, and the other process is the first to wake up.
        link.held = asyncio.Event()
        for each in (frozen, other):
            each.clock.skipped = timedelta(hours=1)
        await later(REAP_SECONDS + 1).wait()
        link.held.set()
        link.held = None
        await later(REAP_SECONDS * 3).wait()
        assert (await other.newest(caller, conversation)).state is AnswerState.RUNNING
        frozen.answering.stop(baio_answer.answer.id)


async def test_a_process_that_was_taken_for_dead_cuts_its_followers_and_stores_nothing_more() -> None:
    store = MemoryDatabase()
    link = Link(store)
    away, other = BAiO(link), BAiO(store)
    await away.load_catalogue([OPENAI])
    async with away.answering.running(0), other.answering.running(0):
        caller = await away.someone()
        conversation = await away.begin(caller)
        away.openai.script("one", *(step for n in range(2, 60) for step in (later(n), ".")), STOP)
        answer = await away.ask(caller, conversation)
        await later(3.75).wait()
        link.is_cut = True
        await later(30).wait()
        link.is_cut = False
        text, error = await heard(answer)
        assert text.startswith("one..")
        assert isinstance(error, AnswerInterrupted)
        assert seconds() < 40
        assert away.openai.closed == 1
        assert (await other.newest(caller, conversation)).reason == "lost"
        assert await other.messages(caller, conversation) == [("user", QUESTION), ("baio", "one..")]


async def test_the_end_of_an_answer_waits_for_a_database_that_is_away_for_a_while() -> None:
    link = Link(MemoryDatabase())
    baio = BAiO(link)
    await baio.load_catalogue([OPENAI])
    async with baio.answering.running(0):
        caller = await baio.someone()
        conversation = await baio.begin(caller)
        baio.openai.script("one", later(1), " two", STOP)
        answer = await baio.ask(caller, conversation)
        link.is_cut = True
        asyncio.get_running_loop().call_later(15, setattr, link, "is_cut", False)  # noqa: FBT003 - setattr's order
        assert await text_of(answer) == "one two"
        assert link.refused > 3
        assert 15 < seconds() < 18
        assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", "one two")]
        assert (await baio.newest(caller, conversation)).state is AnswerState.COMPLETE


async def test_once_its_provider_has_finished_nothing_can_change_how_an_answer_ends() -> None:
    link = Link(MemoryDatabase())
    baio = BAiO(link, AnswerLimits(between_text_seconds=5, answer_seconds=8))
    await baio.load_catalogue([OPENAI])
    async with baio.answering.running(0):
        caller = await baio.someone()
        conversation = await baio.begin(caller)
        baio.openai.script("one", later(1), " two", STOP)
        answer = await baio.ask(caller, conversation)
        link.is_cut = True
        await later(12).wait()
        baio.answering.stop(answer.answer.id)
        baio.answering.stop_all(conversation)
        draining = asyncio.create_task(baio.answering.drain(0))
        await later(3).wait()
        link.is_cut = False
        assert await heard(answer) == ("one two", None)
        await draining
        assert (await baio.newest(caller, conversation)).state is AnswerState.COMPLETE
        assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", "one two")]


@pytest.mark.parametrize("away", [19.9, 24.6, 24.9, 29.0])
async def test_a_process_that_is_alive_does_not_take_its_own_answers_for_lost_after_the_database_was_away(
    away: float,
) -> None:
    link = Link(MemoryDatabase())
    baio = BAiO(link)
    await baio.load_catalogue([OPENAI])
    caller = await baio.someone()
    conversation = await baio.begin(caller)
    async with baio.answering.running(0):
        baio.openai.script("one", later(1), " two", later(30.5), " three", STOP)
        answer, begun = await baio.ask(caller, conversation), seconds()
        await later(0.1).wait()
        link.is_cut = True
        asyncio.get_running_loop().call_at(begun + away, setattr, link, "is_cut", False)  # noqa: FBT003 - setattr's order
        assert await heard(answer) == ("one two three", None)
        assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", "one two three")]


async def test_an_end_that_could_not_be_stored_is_no_end_to_its_followers() -> None:
    link = Link(MemoryDatabase())
    baio = BAiO(link)
    await baio.load_catalogue([OPENAI])
    async with baio.answering.running(0):
        caller = await baio.someone()
        conversation = await baio.begin(caller)
        baio.openai.script("one", later(1), " two", STOP)
        answer = await baio.ask(caller, conversation)
        await later(0.9).wait()
        link.is_cut, cut_at = True, seconds()
        text, error = await heard(answer)
        assert text == "one two"
        assert isinstance(error, Unavailable)
        assert SAVE_TIMEOUT_SECONDS - 2 < seconds() - cut_at < SAVE_TIMEOUT_SECONDS + 2
        link.is_cut = False
        await later(LEASE.total_seconds() + REAP_SECONDS).wait()
        assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", "one")]
        assert (await baio.newest(caller, conversation)).state is AnswerState.INTERRUPTED


async def slowly(*texts: str, pause: float) -> AsyncGenerator[str | Finished, None]:
    for text in texts:
        yield text
        await asyncio.sleep(pause)
    yield STOP


async def test_a_short_time_without_the_database_costs_an_answer_nothing(caplog: pytest.LogCaptureFixture) -> None:
    link = Link(MemoryDatabase())
    baio = BAiO(link)
    await baio.load_catalogue([OPENAI])
    async with baio.answering.running(0):
        caller = await baio.someone()
        conversation = await baio.begin(caller)
        baio.gateways["OpenAI"] = OneStream(slowly("one", " two", pause=LEASE.total_seconds() + REAP_SECONDS))
        answer = await baio.ask(caller, conversation)
        link.is_cut = True
        await later(3).wait()
        link.is_cut = False
        assert await heard(answer) == ("one two", None)
    assert "database unavailable" in [record.getMessage() for record in caplog.records]


async def test_a_database_that_is_away_is_logged_again_and_again_but_not_twice_a_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    link = Link(MemoryDatabase())
    baio = BAiO(link)
    async with baio.answering.running(0):
        link.is_cut = True
        await later(60).wait()
        link.is_cut = False
    assert link.refused > 100
    assert 10 <= len(caplog.records) <= 13


async def test_an_end_that_fails_to_be_stored_for_no_known_reason_is_no_end_to_its_followers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    link = Link(MemoryDatabase())
    link.failure = LookupError("a bug")
    baio = BAiO(link)
    await baio.load_catalogue([OPENAI])
    async with baio.answering.running(0):
        caller = await baio.someone()
        conversation = await baio.begin(caller)
        baio.openai.script("one", later(1), " two", STOP)
        answer = await baio.ask(caller, conversation)
        link.is_cut = True
        text, error = await heard(answer)
        assert text == "one two"
        assert isinstance(error, Unavailable)
        link.is_cut = False
    assert any(record.exc_info for record in caplog.records)


# -- One answer at a time ----------------------------------------------------------------------------------------------


async def test_a_second_question_is_refused_with_the_id_of_the_answer_in_the_way_and_is_not_stored(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("one", later(5), STOP)
    answer = await baio.ask(caller, conversation)
    with pytest.raises(AnswerRunning) as refused:
        await baio.ask(caller, conversation, "And another one?")
    assert refused.value.members == {"answer_id": answer.answer.id}
    assert await baio.messages(caller, conversation) == [("user", QUESTION)]
    await text_of(answer)
    assert await text_of(await baio.ask(caller, conversation, "And another one?")) == "And another one?"


async def test_of_many_questions_at_once_one_is_asked(baio: BAiO, caller: Caller, conversation: int) -> None:
    questions = [baio.ask(caller, conversation, f"Question {number}?") for number in range(20)]
    results = await asyncio.gather(*questions, return_exceptions=True)
    assert [type(result) for result in results].count(AnswerRunning) == 19
    await later(1).wait()
    messages = await baio.messages(caller, conversation)
    assert [role for role, _ in messages] == ["user", "baio"]
    assert len(baio.openai.asked) == 1


async def test_two_conversations_are_answered_at_the_same_time(baio: BAiO, caller: Caller, conversation: int) -> None:
    second = await baio.begin(caller)
    baio.openai.script("one", later(5), " two", STOP)
    baio.openai.script("three", later(5), " four", STOP)
    answers = [await baio.ask(caller, conversation), await baio.ask(caller, second)]
    begun = seconds()
    assert list(await asyncio.gather(*(text_of(answer) for answer in answers))) == ["one two", "three four"]
    assert seconds() - begun == pytest.approx(5)


# -- Stopping ----------------------------------------------------------------------------------------------------------


async def test_stopping_ends_an_answer_properly_with_its_text_so_far(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("one", asyncio.Event(), " two", STOP)
    answer = await baio.ask(caller, conversation)
    await later(3).wait()
    baio.answering.stop_all(conversation)
    assert await heard(answer) == ("one", None)
    record = await baio.newest(caller, conversation)
    assert (record.state, record.cut) == (AnswerState.STOPPED, False)
    assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", "one")]
    assert baio.openai.closed == 1


async def test_stopping_an_answer_that_has_ended_changes_nothing(baio: BAiO, caller: Caller, conversation: int) -> None:
    answer = await baio.ask(caller, conversation)
    assert await text_of(answer) == QUESTION
    baio.answering.stop(answer.answer.id)
    baio.answering.stop_all(conversation)
    await later(1).wait()
    assert (await baio.newest(caller, conversation)).state is AnswerState.COMPLETE


async def test_the_first_reason_to_end_an_answer_counts(baio: BAiO, caller: Caller, conversation: int) -> None:
    baio.openai.script("one", asyncio.Event())
    answer = await baio.ask(caller, conversation)
    await later(3).wait()
    baio.answering.stop(answer.answer.id)
    await baio.answering.drain(0)
    assert (await baio.newest(caller, conversation)).state is AnswerState.STOPPED


async def test_an_answer_that_is_stopped_before_its_task_has_begun_is_stopped(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    answer = await baio.ask(caller, conversation)
    baio.answering.stop(answer.answer.id)
    async with asyncio.timeout(10):
        assert await heard(answer) == ("", None)
    assert (await baio.newest(caller, conversation)).state is AnswerState.STOPPED
    assert await text_of(await baio.ask(caller, conversation, "Again?")) == f"{QUESTION}\n\nAgain?"


async def test_deleting_a_conversation_stops_its_answer_and_leaves_nothing(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("one", asyncio.Event(), " two", STOP)
    answer = await baio.ask(caller, conversation)
    await later(3).wait()
    deleted_at = seconds()
    await baio.delete_conversation(caller, conversation)
    text, error = await heard(answer)
    assert text == "one"
    assert seconds() == deleted_at
    assert isinstance(error, AnswerInterrupted)
    assert baio.openai.closed == 1
    with pytest.raises(ConversationNotFound):
        await baio.get_conversation(caller, conversation)
    assert isinstance(baio.database, MemoryDatabase)
    tables = baio.database._tables
    assert (tables.conversations, tables.messages, tables.answers) == ({}, {}, {})


async def test_deleting_a_conversation_stops_an_answer_of_another_process(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    other = BAiO(baio.database)
    baio.openai.script("one", asyncio.Event(), " two", STOP)
    answer, begun = await baio.ask(caller, conversation), seconds()
    await other.delete_conversation(caller, conversation)
    text, error = await heard(answer)
    assert text == "one"
    assert isinstance(error, AnswerInterrupted)
    assert seconds() - begun <= CHECKPOINT_SECONDS + 0.1
    assert baio.openai.closed == 1


# -- Shutting down -----------------------------------------------------------------------------------------------------


async def test_draining_lets_answers_finish_and_begins_none(baio: BAiO, caller: Caller, conversation: int) -> None:
    second = await baio.begin(caller)
    baio.openai.script("one", later(10), " two", STOP)
    answer = await baio.ask(caller, conversation)
    draining, begun = asyncio.create_task(baio.answering.drain(30)), seconds()
    await later(1).wait()
    with pytest.raises(Unavailable) as refused:
        await baio.ask(caller, second)
    assert refused.value.retry_after is not None
    with pytest.raises(Unavailable):
        await baio.regenerate(caller, second)
    with pytest.raises(Unavailable):
        await baio.check_readiness()
    await draining
    assert seconds() - begun == pytest.approx(10)
    assert await heard(answer) == ("one two", None)
    assert (await baio.newest(caller, conversation)).state is AnswerState.COMPLETE
    assert await baio.messages(caller, second) == []


async def test_draining_interrupts_what_does_not_finish_in_time_and_stores_it(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script("one", later(5), " two", asyncio.Event(), STOP)
    answer, begun = await baio.ask(caller, conversation), seconds()
    await baio.answering.drain(20)
    assert seconds() - begun == pytest.approx(20)
    text, error = await heard(answer)
    assert text == "one two"
    assert isinstance(error, AnswerInterrupted)
    record = await baio.newest(caller, conversation)
    assert (record.state, record.reason) == (AnswerState.INTERRUPTED, "restart")
    assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", "one two")]


async def test_a_question_on_its_way_when_draining_begins_has_the_same_time_to_be_answered() -> None:
    link = Link(MemoryDatabase())
    baio = BAiO(link)
    await baio.load_catalogue([OPENAI])
    caller = await baio.someone()
    conversations = [await baio.begin(caller), await baio.begin(caller)]
    async with baio.answering.running(0):
        baio.openai.script("one", later(2), " two", STOP)
        baio.openai.script("three", later(6), " four", STOP)
        await baio.ask(caller, conversations[0])
        link.held = later(1)
        asking = asyncio.create_task(baio.ask(caller, conversations[1]))
        await asyncio.sleep(0)
        await baio.answering.drain(20)
        await asking
        assert [await baio.messages(caller, each) for each in conversations] == [
            [("user", QUESTION), ("baio", "one two")],
            [("user", QUESTION), ("baio", "three four")],
        ]


async def test_leaving_the_process_drains_it_and_leaves_no_task_behind() -> None:
    store = MemoryDatabase()
    first, second = BAiO(store), BAiO(store)
    await first.load_catalogue([OPENAI])
    caller = await first.someone()
    conversation = await first.begin(caller)
    before = asyncio.all_tasks()
    async with first.answering.running(drain_seconds=20):
        first.openai.script("one", later(10), " two", STOP)
        await first.ask(caller, conversation)
        assert asyncio.all_tasks() > before
    assert asyncio.all_tasks() == before
    assert await second.messages(caller, conversation) == [("user", QUESTION), ("baio", "one two")]
