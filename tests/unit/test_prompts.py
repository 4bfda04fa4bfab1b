"""What a model is asked: the system message and the newest that fits, in order and without gaps."""

import itertools
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from baio_domain.entities import CallState, Message, Model, ModelSpec, PastCall, Role
from baio_domain.prompts import (
    BYTES_PER_TOKEN,
    ENDED_ON_RESULTS,
    TOKENS_PER_TURN,
    Prompt,
    Told,
    Turn,
    UsedTool,
    build_prompt,
    estimated_tokens,
)
from tests.unit.world import START

SYSTEM = Message(1, 1, Role.SYSTEM, "You are BAiO.", START)


def model(window: int, max_output_tokens: int, *, system_role: bool = True) -> Model:
    return Model.of(1, 1, ModelSpec("m", "M", window, max_output_tokens, system_role))


models = st.builds(
    model,
    st.integers(0, 400) | st.integers(1_000, 200_000),
    st.integers(0, 200) | st.integers(1_000, 100_000),
    system_role=st.booleans(),
)
texts = st.text(max_size=60) | st.integers(0, 900).map(lambda size: "x" * size)
said = st.lists(st.tuples(st.sampled_from([Role.USER, Role.BAIO]), texts), max_size=30)


def messages(conversation: list[tuple[Role, str]]) -> list[Message]:
    return [Message(number, 1, role, text, START) for number, (role, text) in enumerate(conversation, 2)]


def room(asked: Model, system: Message | None) -> int:
    left = asked.context_window - min(asked.max_output_tokens, asked.context_window // 4)
    return left - (estimated_tokens(system.content) if system else 0)


class Reading:
    """Messages that know how far they were read."""

    def __init__(self, of: list[Message]) -> None:
        self._of = of
        self.read = 0

    def __iter__(self) -> Iterator[Message]:
        for message in self._of:
            self.read += 1
            yield message


@given(said, models, st.sampled_from([SYSTEM, None]))
def test_a_prompt_is_the_system_message_and_as_much_of_the_newest_as_fits(
    conversation: list[tuple[Role, str]], asked: Model, system: Message | None
) -> None:
    oldest_first = messages(conversation)
    reading = Reading(oldest_first[::-1])
    turns = [told.text for told in build_prompt(system, reading, asked).messages]

    if system is not None:
        assert turns.pop(0) == Turn("system" if asked.system_role else "user", system.content)
    kept = oldest_first[len(oldest_first) - len(turns) :]
    assert turns == [Turn("user" if each.role is Role.USER else "assistant", each.content) for each in kept]

    cost = sum(estimated_tokens(each.content) for each in kept)
    assert cost <= room(asked, system) or len(kept) <= 1
    assert len(kept) >= min(1, len(oldest_first))
    assert len(kept) <= 1 or kept[0].role is Role.USER
    dropped = oldest_first[: len(oldest_first) - len(kept)]
    answers = list(itertools.takewhile(lambda message: message.role is Role.BAIO, dropped[::-1]))
    fitting = [each for each in answers if (cost := cost + estimated_tokens(each.content)) <= room(asked, system)]
    if len(fitting) < len(dropped):
        first_too_many = dropped[-len(fitting) - 1]
        if first_too_many not in answers:
            cost += estimated_tokens(first_too_many.content)
        assert cost > room(asked, system)
    assert reading.read == min(len(kept) + len(fitting) + 1, len(oldest_first))


@given(said, models, st.sampled_from([SYSTEM, None]), st.integers(0, 3))
def test_a_provider_gets_the_system_turn_and_then_the_users_and_the_assistants_in_turn_without_blank_ones(
    conversation: list[tuple[Role, str]], asked: Model, system: Message | None, halvings: int
) -> None:
    question = (Role.USER, "What is a codon?")
    prompt = build_prompt(system, messages([question, *conversation, question])[::-1], asked)
    for _ in range(halvings):
        prompt = prompt.halved() or prompt
    turns = list(prompt.sent)
    assert all(turn.content.strip() for turn in turns)
    if turns[0].role == "system":
        assert turns.pop(0).content == SYSTEM.content
    roles = [turn.role for turn in turns]
    assert roles == [("user", "assistant")[place % 2] for place in range(len(turns))]
    assert roles[-1] == "user"
    said = [told.text for told in prompt.messages]
    said = [turn for turn in said if turn.role != "system" and turn.content.strip()]
    wanted = [turn.content for turn in itertools.dropwhile(lambda turn: turn.role == "assistant", said)]
    assert "\n\n".join(turn.content for turn in turns) == "\n\n".join(wanted)


def test_an_answer_to_a_blank_question_is_not_sent_first() -> None:
    turns = Turn("system", "Be brief."), Turn("user", " "), Turn("assistant", "A."), Turn("user", "B?")
    assert Prompt(tuple(map(Told, turns)), 1).sent == (Turn("system", "Be brief."), Turn("user", "B?"))


@given(said, st.integers(0, 30))
def test_system_messages_further_on_are_not_sent(conversation: list[tuple[Role, str]], place: int) -> None:
    plain = messages(conversation)
    mixed = [*plain[:place], SYSTEM, *plain[place:], SYSTEM]
    asked = model(200_000, 1_000)
    assert build_prompt(SYSTEM, mixed[::-1], asked) == build_prompt(SYSTEM, plain[::-1], asked)


def test_room_for_an_answer_is_kept_free_but_no_more_than_a_quarter_of_the_window() -> None:
    # Each of these turns is estimated at 10 tokens.
    turns = messages([(Role.USER, "x" * (10 - TOKENS_PER_TURN) * BYTES_PER_TOKEN)] * 100)[::-1]
    assert len(build_prompt(None, turns, model(400, 50)).messages) == 35
    assert len(build_prompt(None, turns, model(400, 100)).messages) == 30
    assert len(build_prompt(None, turns, model(400, 100_000)).messages) == 30


def test_a_question_that_alone_is_too_long_is_sent_all_the_same() -> None:
    long = messages([(Role.USER, "before"), (Role.BAIO, "before"), (Role.USER, "x" * 10_000)])
    asked = build_prompt(SYSTEM, long[::-1], model(100, 10))
    assert asked.sent == (Turn("system", SYSTEM.content), Turn("user", "x" * 10_000))


@given(st.text(), st.text())
def test_an_estimate_grows_with_the_text_and_counts_bytes_not_characters(text: str, more: str) -> None:
    assert estimated_tokens(text) >= TOKENS_PER_TURN
    assert estimated_tokens(text + more) >= estimated_tokens(text)
    assert estimated_tokens(text) == len(text.encode()) // 3 + 4


def test_lone_surrogates_can_be_estimated_too() -> None:
    assert estimated_tokens("\ud800" * 9) == 3 + 4


# -- Calls of earlier answers ------------------------------------------------------------------------------------------


def past(message_id: int, round_: int, offset: int = 0, length: int = 0, shown: str | None = '{"n":1}') -> PastCall:
    """A call, whose id says where it stands."""
    state = CallState.DONE if shown else CallState.RUNNING
    id_ = 10_000 * message_id + 100 * round_ + offset
    return PastCall(id_, message_id, round_, "count", '{ "sequence": "ACGT" }', state, shown, offset, length)


def used(call: PastCall, *, failed: bool = False) -> UsedTool:
    return UsedTool(f"p{call.id:08x}", "count", '{"sequence":"ACGT"}', call.shown or "", failed)


def test_an_earlier_answer_is_told_with_its_calls_and_without_the_lines_about_them() -> None:
    text = "See:\n\n> one\n\n> two\n\nAnd:\n\n> three\n\nThree."
    made = [
        past(3, 1, text.index("> one"), 5),
        past(3, 1, text.index("> two"), 5),
        past(3, 2, text.index("> three"), 7),
    ]
    said = messages([(Role.USER, "How many?"), (Role.BAIO, text), (Role.USER, "Sure?")])
    assert build_prompt(None, said[::-1], model(16_000, 100), made[::-1]).sent == (
        Turn("user", "How many?"),
        Turn("assistant", "See:", (used(made[0]), used(made[1]))),
        Turn("assistant", "And:", (used(made[2]),)),
        Turn("assistant", "Three."),
        Turn("user", "Sure?"),
    )
    assert build_prompt(None, said[::-1], model(16_000, 100), made[::-1]).as_text.sent[1] == Turn("assistant", text)


def test_a_call_that_was_cut_off_has_the_result_cancelled_and_a_turn_behind_it() -> None:
    said = messages([(Role.USER, "How many?"), (Role.BAIO, "See:"), (Role.USER, "Well?")])
    made = past(3, 1, 4, 0, None)
    _, calling, closing, question = build_prompt(None, said[::-1], model(16_000, 100), [made]).sent
    (call,) = calling.calls
    assert (call.failed, "cancelled" in call.result) == (True, True)
    assert (closing, question) == (Turn("assistant", ENDED_ON_RESULTS), Turn("user", "Well?"))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 400), st.integers(0, 4))
def test_calls_are_told_with_their_answer_or_not_at_all_however_often_the_prompt_is_halved(
    rounds: list[int], window: int, halvings: int
) -> None:
    conversation, calls = [], []
    for place, made in enumerate(rounds):
        text = "".join(f"say {place} {number}" for number in range(made)) + "end"
        conversation += [(Role.USER, f"question {place}"), (Role.BAIO, text)]
        calls += [past(2 * place + 3, number + 1, 7 * number + 7) for number in range(made)]
    said = messages([*conversation, (Role.USER, "last")])
    prompt = build_prompt(None, said[::-1], model(window, 0), calls[::-1])
    assert prompt.tokens <= window or len(prompt.messages) == 1
    for _ in range(halvings):
        prompt = prompt.halved() or prompt
    assert prompt.messages[0].text.role == "user"
    kept = {call.id for call in calls}
    for told, message in zip(prompt.messages[::-1], said[::-1], strict=False):
        ids = [call.id for turn in told.turns for call in turn.calls]
        whole = [f"p{call.id:08x}" for call in calls if call.message_id == message.id and call.id in kept]
        assert ids in (whole, [])
        assert told.turns[-1].calls == ()
    assert prompt.sent[-1] == Turn("user", "last")


def test_no_call_is_read_for_a_conversation_without_an_answer() -> None:
    calls = iter([past(3, 1)])
    build_prompt(SYSTEM, messages([(Role.USER, "What?")]), model(16_000, 100), calls)
    assert len(list(calls)) == 1


def test_an_answer_whose_calls_do_not_fit_is_told_as_text() -> None:
    said = messages([(Role.USER, "How many?"), (Role.BAIO, "> n: 1"), (Role.USER, "Sure?")])
    made = past(3, 1, 0, 6, "x" * 4_000)
    assert build_prompt(None, said[::-1], model(1_000, 0), [made]).sent == tuple(
        Turn("assistant" if each.role is Role.BAIO else "user", each.content) for each in said
    )
