"""Thinking is work: it prolongs the deadlines, reaches those who follow events, and is recorded but never stored."""

import asyncio

import pytest

from baio_adapters.llm.scripted import Step
from baio_domain.answering import MAX_PIECE_LENGTH, AnswerItem, AnswerLimits, Followable
from baio_domain.entities import AnswerState, Caller, Usage
from baio_domain.errors import BaioError, PromptRefused, ProviderBroken, ProviderTooSlow
from baio_domain.ports import Finished, Thinking, openai_finish_reason
from tests.unit.world import OPENAI, QUESTION, BAiO, heard, later, seconds, text_of

LIMITS = AnswerLimits()
STOP = Finished("stop")


def thinking(start: int, end: int, every: int = 1) -> list[Step]:
    """A sign of thinking at each of these seconds, in script order."""
    return [step for at in range(start, end, every) for step in (later(at), Thinking(f"{at}. "))]


async def items_of(answer: Followable) -> tuple[list[AnswerItem], BaioError | None]:
    """All that a follower of the thinking gets."""
    found: list[AnswerItem] = []
    try:
        async for item in answer.follow_events():
            found.append(item)  # noqa: PERF401 - what came before an error counts
    except BaioError as error:
        return found, error
    return found, None


# -- Deadlines ---------------------------------------------------------------------------------------------------------


async def test_a_model_that_thinks_for_minutes_and_says_so_is_not_too_slow(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script(*thinking(1, 301), later(302), "Three.", STOP)
    assert await text_of(await baio.ask(caller, conversation)) == "Three."
    record = await baio.newest(caller, conversation)
    assert record.state is AnswerState.COMPLETE
    assert record.thinking_seconds == pytest.approx(301)


async def test_thinking_in_the_middle_of_an_answer_is_no_silence(baio: BAiO, caller: Caller, conversation: int) -> None:
    baio.openai.script("One ", *thinking(10, 200, 10), later(205), "two.", STOP)
    assert await text_of(await baio.ask(caller, conversation)) == "One two."
    assert (await baio.newest(caller, conversation)).thinking_seconds == pytest.approx(195)


@pytest.mark.parametrize(
    ("before", "silence"), [((), LIMITS.first_text_seconds), (("One ",), LIMITS.between_text_seconds)]
)
async def test_a_model_that_stops_thinking_is_too_slow_so_long_after_its_last_sign(
    before: tuple[str, ...], silence: float, baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script(*before, *thinking(10, 101, 10), asyncio.Event())
    answer, begun = await baio.ask(caller, conversation), seconds()
    text, error = await heard(answer)
    assert text == "".join(before)
    assert isinstance(error, ProviderTooSlow)
    assert seconds() - begun == pytest.approx(100 + silence)
    assert (await baio.newest(caller, conversation)).thinking_seconds == pytest.approx(90 + silence)


async def test_a_model_that_never_stops_thinking_is_ended_at_the_limit_for_thinking(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script(*thinking(1, 1000), STOP)
    answer, begun = await baio.ask(caller, conversation), seconds()
    _, error = await heard(answer)
    assert isinstance(error, ProviderTooSlow)
    assert error.detail == "The model thought for too long."
    assert seconds() - begun == pytest.approx(1 + LIMITS.thinking_seconds)
    assert baio.openai.closed == 1


async def test_the_limit_for_thinking_counts_all_of_it(baio: BAiO, caller: Caller, conversation: int) -> None:
    rounds = [step for at in range(0, 1000, 20) for step in (*thinking(at, at + 19), later(at + 19), ".")]
    baio.openai.script(*rounds, STOP)
    answer, begun = await baio.ask(caller, conversation), seconds()
    _, error = await heard(answer)
    assert isinstance(error, ProviderTooSlow)
    assert error.detail == "The model thought for too long."
    assert seconds() - begun == pytest.approx(LIMITS.thinking_seconds * 20 / 19, abs=20)


async def test_the_limit_for_the_whole_answer_is_besides_its_thinking(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    thinks = thinking(1, 401, 20)
    talks = [step for at in range(401, 2000) for step in (later(at), ".")]
    baio.openai.script(*thinks, *talks, STOP)
    answer, begun = await baio.ask(caller, conversation), seconds()
    text, error = await heard(answer)
    assert isinstance(error, ProviderTooSlow)
    assert seconds() - begun == pytest.approx(LIMITS.answer_seconds + 400)
    assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", text)]


async def test_a_short_limit_for_thinking_is_kept() -> None:
    baio = BAiO(limits=AnswerLimits(thinking_seconds=2))
    await baio.load_catalogue([OPENAI])
    async with baio.answering.running(drain_seconds=0):
        caller = await baio.someone()
        baio.openai.script(later(7), Thinking(), asyncio.Event())
        answer, begun = await baio.ask(caller, await baio.begin(caller)), seconds()
        _, error = await heard(answer)
        assert isinstance(error, ProviderTooSlow)
        assert seconds() - begun == pytest.approx(9)


# -- Followers ---------------------------------------------------------------------------------------------------------


async def test_thinking_reaches_who_follows_it_as_it_comes_and_nobody_else(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script(
        Thinking("Hm. "), later(5), Thinking("A\0 \ud800"), "Three", Thinking(), Thinking("So."), ".", STOP
    )
    answer = await baio.ask(caller, conversation)
    with_thinking, without = await asyncio.gather(items_of(answer), heard(answer))
    items, error = with_thinking
    assert error is None
    assert without == ("Three.", None)
    assert "".join(item for item in items if isinstance(item, str)) == "Three."
    thoughts = [item.text for item in items if isinstance(item, Thinking)]
    assert thoughts[0] == "Hm. "
    assert "".join(thoughts) == "Hm. A\ufffd \ufffdSo."
    assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", "Three.")]
    afterwards = await baio.follow(caller, conversation)
    assert await items_of(afterwards) == (["Three."], None)
    assert afterwards.outcome == answer.outcome


async def test_who_joins_later_gets_no_earlier_thinking(baio: BAiO, caller: Caller, conversation: int) -> None:
    baio.openai.script(Thinking("Before. "), later(10), Thinking("After. "), "Three.", STOP)
    await baio.ask(caller, conversation)
    await later(5).wait()
    items, _ = await items_of(await baio.follow(caller, conversation))
    assert items == [Thinking("After. "), "Three."]


async def test_a_follower_who_does_not_read_holds_the_end_of_what_was_thought_and_no_more(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    thoughts = [Thinking(f"{number:05} ") for number in range(50_000)]
    baio.openai.script(Thinking("First. "), *thoughts, later(10), "Three.", STOP)
    items = (await baio.ask(caller, conversation)).follow_events()
    assert await anext(items) == Thinking("First. ")
    await later(5).wait()
    kept = await anext(items)
    assert isinstance(kept, Thinking)
    assert len(kept.text) == MAX_PIECE_LENGTH
    assert kept.text.endswith("49999 ")
    assert await anext(items) == "Three."
    await items.aclose()


# -- Records -----------------------------------------------------------------------------------------------------------


async def test_the_record_says_how_long_and_how_many_tokens(baio: BAiO, caller: Caller, conversation: int) -> None:
    baio.openai.script(later(3), Thinking("Hm."), later(10), "Three.", Finished("stop", usage=Usage(31, 90, 80)))
    await text_of(await baio.ask(caller, conversation))
    record = await baio.newest(caller, conversation)
    assert record.thinking_seconds == pytest.approx(7)
    assert (record.completion_tokens, record.thinking_tokens) == (90, 80)


async def test_without_thinking_the_record_says_nothing_of_it(baio: BAiO, caller: Caller, conversation: int) -> None:
    baio.openai.script("Three.", Finished("stop", usage=Usage(31, 4)))
    await text_of(await baio.ask(caller, conversation))
    record = await baio.newest(caller, conversation)
    assert (record.thinking_seconds, record.thinking_tokens) == (None, None)


async def test_an_answer_that_is_stopped_while_the_model_thinks_says_how_long_it_thought(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.openai.script(Thinking("Hm."), asyncio.Event())
    answer = await baio.ask(caller, conversation)
    await later(4).wait()
    baio.answering.stop(answer.answer.id)
    assert await heard(answer) == ("", None)
    assert (await baio.newest(caller, conversation)).thinking_seconds == pytest.approx(4)


# -- Ends --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "term", "state"),
    [
        ("STOP", "stop", AnswerState.COMPLETE),
        ("end_turn", "stop", AnswerState.COMPLETE),
        ("eos", "stop", AnswerState.COMPLETE),
        ("toolCalls", "tool_calls", AnswerState.COMPLETE),
        ("brand_new", "brand_new", AnswerState.COMPLETE),
        ("MAX_TOKENS", "length", AnswerState.TRUNCATED),
        ("maxTokens", "length", AnswerState.TRUNCATED),
        ("model_length", "length", AnswerState.TRUNCATED),
        ("model_context_window_exceeded", "length", AnswerState.TRUNCATED),
        ("FINISH_REASON_MAX_TOKENS", "length", AnswerState.TRUNCATED),
        ("Content-Filter", "content_filter", AnswerState.TRUNCATED),
        ("SAFETY", "content_filter", AnswerState.TRUNCATED),
        ("RECITATION", "content_filter", AnswerState.TRUNCATED),
        ("refusal", "content_filter", AnswerState.TRUNCATED),
        ("pause_turn", "pause_turn", AnswerState.TRUNCATED),
        ("error", "error", AnswerState.FAILED),
        ("ERROR", "ERROR", AnswerState.FAILED),
        ("abort", "abort", AnswerState.FAILED),
        ("insufficient_system_resource", "insufficient_system_resource", AnswerState.FAILED),
        ("MALFORMED_FUNCTION_CALL", "MALFORMED_FUNCTION_CALL", AnswerState.FAILED),
    ],
)
async def test_a_finish_reason_means_what_its_provider_means(
    reason: str, term: str, state: AnswerState, baio: BAiO, caller: Caller, conversation: int
) -> None:
    assert openai_finish_reason(reason) == term
    baio.openai.script("Three nuc", Finished(reason))
    text, error = await heard(await baio.ask(caller, conversation))
    record = await baio.newest(caller, conversation)
    assert (text, record.state, record.finish_reason) == ("Three nuc", state, reason)
    assert (type(error) is ProviderBroken) is (state is AnswerState.FAILED)
    assert await baio.messages(caller, conversation) == [("user", QUESTION), ("baio", "Three nuc")]


@pytest.mark.parametrize(
    ("reason", "kind", "word"),
    [
        ("content_filter", PromptRefused, "filter"),
        ("SAFETY", PromptRefused, "filter"),
        ("refusal", PromptRefused, "refuses"),
        ("length", ProviderBroken, "thinking"),
        ("MAX_TOKENS", ProviderBroken, "thinking"),
        ("stop", ProviderBroken, "without any text"),
        ("error", ProviderBroken, "could not finish"),
    ],
)
@pytest.mark.parametrize("thoughts", [(), (Thinking("Hm."),)])
async def test_an_answer_without_text_says_why_at_once_and_to_who_follows_later(
    reason: str,
    kind: type[BaioError],
    word: str,
    thoughts: tuple[Thinking, ...],
    baio: BAiO,
    caller: Caller,
    conversation: int,
) -> None:
    baio.openai.script(*thoughts, Finished(reason))
    _, at_once = await heard(await baio.ask(caller, conversation))
    _, afterwards = await heard(await baio.follow(caller, conversation))
    for error in (at_once, afterwards):
        assert type(error) is kind
        assert word in error.detail
    record = await baio.newest(caller, conversation)
    assert (record.state, record.reason, record.finish_reason) == (AnswerState.FAILED, kind.slug, reason)
