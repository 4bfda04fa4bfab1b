"""A running answer's text: however it arrives and wherever a follower begins, everybody hears exactly the rest."""

import asyncio
from datetime import timedelta
from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st

from baio_domain.answering import BLOCK, MAX_PIECE_LENGTH, LiveAnswer
from baio_domain.entities import Answer, AnswerState, Outcome
from baio_domain.text import storable
from tests.unit.world import START, heard

COMPLETE = Outcome(AnswerState.COMPLETE)


def running() -> LiveAnswer:
    return LiveAnswer(Answer(1, 1, 1, AnswerState.RUNNING, "gpt-4o", START + timedelta(seconds=1)))


LETTERS = "".join(map(chr, range(0x4E00, 0x4E00 + 2999)))


def pieces(*lengths: int) -> list[str]:
    """Texts of these lengths, in which every place is told from its neighbours."""
    whole = LETTERS * (sum(lengths) // len(LETTERS) + 1)
    ends = list(accumulate(lengths))
    return [whole[end - length : end] for end, length in zip(ends, lengths, strict=True)]


lengths = st.integers(1, 40) | st.sampled_from([1000, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, MAX_PIECE_LENGTH + 1])
splits = st.lists(lengths, min_size=1, max_size=8)


@given(splits, st.data())
def test_text_from_any_character_is_the_rest_whatever_the_pieces_were(split: list[int], data: st.DataObject) -> None:
    live, texts = running(), pieces(*split)
    whole = "".join(texts)
    for text in texts:
        live.append(text)
    assert live.text == whole
    assert live.length == len(whole)
    for offset in {0, len(whole), *data.draw(st.lists(st.integers(0, len(whole)), max_size=8))}:
        assert live.text_from(offset) == whole[offset:]


@settings(max_examples=50)
@given(splits, st.data())
async def test_every_follower_hears_exactly_the_rest_from_where_it_begins(
    split: list[int], data: st.DataObject
) -> None:
    live, texts = running(), pieces(*split)
    whole = "".join(texts)
    joins = st.tuples(st.integers(0, len(texts)), st.integers(0, len(whole)), st.integers(0, 3))
    waiting: list[tuple[int, asyncio.Task[str]]] = []
    joining = data.draw(st.lists(joins, max_size=6))

    async def follow(offset: int, rests: int) -> str:
        # It pauses between reads, so that text piles up.
        got: list[str] = []
        async for text in live.follow(offset):
            assert text
            assert len(text) <= MAX_PIECE_LENGTH
            got.append(text)
            for _ in range(rests):
                await asyncio.sleep(0)
        return "".join(got)

    for number in range(len(texts) + 1):
        for at, offset, rests in joining:
            if at == number:
                waiting.append((offset, asyncio.create_task(follow(offset, rests))))
        await asyncio.sleep(0)
        if number < len(texts):
            live.append(texts[number])
    live.end(COMPLETE, None)
    for offset, follower in waiting:
        assert await follower == whole[offset:]
    assert await heard(live) == (whole, None)


async def test_a_follower_that_was_cancelled_while_it_waited_does_not_keep_the_others_from_hearing() -> None:
    live = running()
    followers = [asyncio.create_task(heard(live)) for _ in range(3)]
    await asyncio.sleep(0)
    followers[1].cancel()
    await asyncio.sleep(0)
    live.append("one")
    live.end(COMPLETE, None)
    assert [await followers[0], await followers[2]] == [("one", None)] * 2


async def test_whoever_waits_for_the_end_waits_through_the_text() -> None:
    live = running()
    ended = asyncio.create_task(live.ended())
    for _ in range(3):
        await asyncio.sleep(0)
        live.append("text")
        assert not ended.done()
    await asyncio.sleep(0)
    assert not ended.done()
    live.end(COMPLETE, None)
    await ended
    await live.ended()


# -- What can be stored ------------------------------------------------------------------------------------------------

raw = st.text(st.characters() | st.sampled_from(["\0", "\ud83d", "\ude00", "\ud800", "\udfff", "\ufffd"]))


@given(raw)
def test_what_is_stored_has_no_nul_can_be_encoded_and_is_the_same_when_stored_again(text: str) -> None:
    stored = storable(text)
    assert "\0" not in stored
    assert stored.encode().decode() == stored
    assert storable(stored) == stored


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_good_text_is_stored_as_it_is(text: str) -> None:
    assert storable(text) == text


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_each_bad_character_is_replaced_by_itself(before: str, after: str) -> None:
    good = (before + after).replace("\0", "\ufffd")
    place = len(before)
    for bad in ("\0", "\ud800", "\udfff", "\ud83d"):
        assert storable(before + bad + after) == good[:place] + "\ufffd" + good[place:]


def test_the_two_halves_of_one_character_are_put_together() -> None:
    assert storable("\ud83e\uddec") == "\N{DNA DOUBLE HELIX}"
