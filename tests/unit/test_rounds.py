"""An answer in which the model calls tools."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from baio_adapters.llm.scripted import Step
from baio_domain.answering import CHECKPOINT_SECONDS, Followable
from baio_domain.entities import AnswerState, Caller, CallState, ProviderSpec, Usage
from baio_domain.errors import PromptTooLong, ToolsRefused
from baio_domain.ports import Called, Finished, Thinking
from baio_domain.prompts import ENDED_ON_RESULTS
from baio_domain.rounds import ALL_CALLS_SECONDS, ANSWER_NOW, CALL_SECONDS, MAX_CALLS, MAX_ROUNDS
from tests.unit.world import OPENAI, QUESTION, BAiO, later, seconds

A, B = Called("echo", '{"text":"A"}'), Called("echo", '{"text":"B"}')
LINE_A = "> echo: **done**. echo 1 [call 1]"
DONE = Finished("stop", "gpt-4o-mini", Usage(20, 3))


def calling(*calls: Called, said: Sequence[str] = ()) -> tuple[Step, ...]:
    """A round that says something and then calls tools."""
    return (*said, *calls, Finished("tool_calls", "gpt-4o-mini", Usage(10, 5)))


async def someone(baio: BAiO) -> Caller:
    """A new account, in a catalogue whose models call tools."""
    models = tuple(replace(spec, tools=True) for spec in OPENAI.models)
    await baio.load_catalogue([ProviderSpec("OpenAI", models)])
    return await baio.someone()


async def ended(answer: Followable) -> str:
    """The whole text of an answer that is not cut."""
    return "".join([text async for text in answer.follow()])


async def test_the_answer_has_the_models_text_and_a_line_for_each_call_and_is_stored_as_it_was_streamed() -> None:
    baio = BAiO()
    async with baio.answering.running(1):
        caller = await someone(baio)
        thread = await baio.begin(caller)
        baio.openai.script(*calling(A, said=["Let me ", "see."]))
        baio.openai.script(*calling(B))
        baio.openai.script("It is ", "A and B.", DONE)
        answer = await baio.ask(caller, thread)
        text = await ended(answer)
        line_b = "> echo: **done**. echo 1 [call 2]"
        assert text == f"Let me see.\n\n{LINE_A}\n\n{line_b}\n\nIt is A and B."
        assert (await baio.messages(caller, thread))[-1] == ("baio", text)
        assert answer.outcome is not None
        assert answer.outcome.state is AnswerState.COMPLETE
        assert answer.outcome.usage == Usage(40, 13)
        first, second = await baio.get_tool_calls(caller, answer_id=answer.answer.id)
        for call, line, round_ in ((first, LINE_A, 1), (second, line_b, 2)):
            assert (call.state, call.round) == (CallState.DONE, round_)
            assert text[call.offset : call.offset + call.length] == line


async def test_the_model_gets_back_what_it_said_and_called_with_the_results() -> None:
    baio = BAiO()
    async with baio.answering.running(1):
        caller = await someone(baio)
        baio.openai.script("See:", Called("echo", '{"text":"A"}', "sign"), B, Finished("stop", opaque="signed"))
        baio.openai.script("A.", DONE)
        await ended(await baio.ask(caller, await baio.begin(caller)))
        first, second = baio.openai.asked
        assert [tool.name for tool in first.tools] == ["echo"]
        assert second.tools == first.tools
        assert tuple(second.prompt[:-1]) == tuple(first.prompt)
        turn = second.prompt[-1]
        assert (turn.role, turn.content, turn.opaque) == ("assistant", "See:", "signed")
        assert [(call.arguments, call.result, call.failed, call.opaque) for call in turn.calls] == [
            ('{"text":"A"}', '{"text":"A"}', False, "sign"),
            ('{"text":"B"}', '{"text":"B"}', False, None),
        ]
        assert len({call.id for call in turn.calls if len(call.id) == 9 and call.id.isalnum()}) == 2


async def test_a_record_says_whether_the_models_text_behind_its_line_repeats_the_value() -> None:
    baio = BAiO()
    async with baio.answering.running(1):
        caller = await someone(baio)
        baio.openai.script(*calling(A, said=["When it is done, I will say so."]))
        baio.openai.script(*calling(B, said=["It is ", "done."]))
        baio.openai.script("That was B.", DONE)
        answer = await baio.ask(caller, await baio.begin(caller))
        await ended(answer)
        records = await baio.get_tool_calls(caller, answer_id=answer.answer.id)
        assert [(record.raw_arguments, record.quoted) for record in records] == [
            ('{"text":"A"}', True),
            ('{"text":"B"}', False),
        ]


async def test_a_call_that_was_made_already_is_answered_from_its_result() -> None:
    baio = BAiO()
    async with baio.answering.running(1):
        caller = await someone(baio)
        baio.openai.script(*calling(A))
        baio.openai.script(*calling(Called("echo", ' { "text" : "A" } ')))
        baio.openai.script("A.", DONE)
        assert await ended(await baio.ask(caller, await baio.begin(caller))) == f"{LINE_A}\n\nA."
        assert len(baio.toolbox.asked) == 1
        assert baio.openai.asked[-1].prompt[-1].calls[0].result == '{"text":"A"}'


async def test_the_next_question_has_the_calls_and_results_of_earlier_answers() -> None:
    baio = BAiO()
    async with baio.answering.running(1):
        caller = await someone(baio)
        thread = await baio.begin(caller)
        baio.openai.script(*calling(A, said=["See:"]))
        baio.openai.script("A.", DONE)
        await ended(await baio.ask(caller, thread))
        await ended(await baio.ask(caller, thread, "/echo B"))
        baio.openai.script("Yes.", DONE)
        await ended(await baio.ask(caller, thread, "Sure?"))
        asked = baio.openai.asked[-1].prompt[1:]
        assert [(turn.role, turn.content) for turn in asked] == [
            ("user", QUESTION),
            ("assistant", "See:"),
            ("assistant", "A."),
            ("user", "/echo B"),
            ("assistant", ""),
            ("assistant", ENDED_ON_RESULTS),
            ("user", "Sure?"),
        ]
        calls = [call for turn in asked for call in turn.calls]
        assert [(call.name, call.arguments, call.result) for call in calls] == [
            ("echo", each.arguments, each.arguments) for each in (A, B)
        ]
        assert len({call.id for call in calls if len(call.id) == 9 and call.id.isalnum()}) == 2


async def test_the_next_question_to_a_model_that_takes_no_tools_has_the_text_with_the_lines() -> None:
    baio = BAiO()
    async with baio.answering.running(1):
        caller = await someone(baio)
        thread = await baio.begin(caller)
        baio.openai.script(*calling(A))
        baio.openai.script("A.", DONE)
        text = await ended(await baio.ask(caller, thread))
        for error in (ToolsRefused(), None):  # it refuses them now, and is offered none later
            if error:
                baio.openai.script(error)
            baio.openai.script("Yes.", DONE)
            await ended(await baio.ask(caller, thread, "Sure?"))
            asked = baio.openai.asked[-1]
            assert asked.tools == ()
            assert not any(turn.calls for turn in asked.prompt)
            assert asked.prompt[2].content == text


async def test_a_call_that_was_stopped_is_told_as_cancelled_with_a_turn_behind_it() -> None:
    baio = BAiO()
    async with baio.answering.running(1):
        caller = await someone(baio)
        thread = await baio.begin(caller)
        baio.toolbox.script(asyncio.Event())
        baio.openai.script(*calling(A, said=["See:"]))
        await baio.ask(caller, thread)
        await asyncio.sleep(5)  # of the loop's own time
        await baio.stop_answer(caller, thread)
        baio.openai.script("Yes.", DONE)
        assert await ended(await baio.ask(caller, thread, "And?")) == "Yes."
        _, _, calling_turn, closing, _ = baio.openai.asked[-1].prompt
        (call,) = calling_turn.calls
        assert (call.failed, '"cancelled"' in call.result) == (True, True)
        assert (calling_turn.content, closing.content) == ("See:", ENDED_ON_RESULTS)


@pytest.mark.parametrize("call", [Called("blast", "{}"), Called("echo", '{"text":'), Called("echo", "[]")])
async def test_a_call_that_is_wrong_has_an_error_result_for_the_model_and_no_line(call: Called) -> None:
    baio = BAiO()
    async with baio.answering.running(1):
        caller = await someone(baio)
        baio.openai.script(*calling(call))
        baio.openai.script("I can't.", DONE)
        answer = await baio.ask(caller, await baio.begin(caller))
        assert await ended(answer) == "I can't."
        (used,) = baio.openai.asked[-1].prompt[-1].calls
        assert used.failed
        assert '"detail"' in used.result
        (record,) = await baio.get_tool_calls(caller, answer_id=answer.answer.id)
        assert (record.state, record.length) == (CallState.REFUSED, 0)


@pytest.mark.parametrize("at_last", [calling(B), ("It is A.", DONE)])
async def test_after_the_last_round_the_model_is_asked_once_without_tools(at_last: tuple[Step, ...]) -> None:
    baio = BAiO()
    async with baio.answering.running(1):
        caller = await someone(baio)
        for _ in range(MAX_ROUNDS):
            baio.openai.script(*calling(A))
        baio.openai.script(*at_last)
        answer = await baio.ask(caller, await baio.begin(caller))
        text = await ended(answer)
        assert len(baio.openai.asked) == MAX_ROUNDS + 1
        last = baio.openai.asked[-1]
        assert last.tools == ()
        assert not any(turn.calls for turn in last.prompt)
        assert last.prompt[-1].content.endswith(ANSWER_NOW)
        assert '= {"text":"A"}' in last.prompt[-1].content
        assert answer.outcome is not None
        truncated = len(at_last) == len(calling(B)) and not isinstance(at_last[0], str)
        state = (AnswerState.TRUNCATED, "tool-rounds") if truncated else (AnswerState.COMPLETE, None)
        assert (answer.outcome.state, answer.outcome.reason) == state
        assert text.startswith(LINE_A)


async def test_no_more_than_so_many_calls_of_a_round_are_run() -> None:
    baio = BAiO()
    async with baio.answering.running(1):
        caller = await someone(baio)
        baio.openai.script(*calling(*(Called("echo", f'{{"text":"{number}"}}') for number in range(MAX_CALLS + 4))))
        baio.openai.script("Many.", DONE)
        await ended(await baio.ask(caller, await baio.begin(caller)))
        assert len(baio.toolbox.asked) == MAX_CALLS
        assert len(baio.openai.asked[-1].prompt[-1].calls) == MAX_CALLS


async def test_one_call_and_all_calls_of_an_answer_have_a_limit_in_time() -> None:
    baio = BAiO()
    async with baio.answering.running(1):
        caller = await someone(baio)
        calls = [Called("echo", f'{{"text":"{number}"}}') for number in range(5)]
        for _ in calls:
            baio.toolbox.script(asyncio.Event())
        baio.openai.script(*calling(*calls))
        baio.openai.script("Too slow.", DONE)
        began = seconds()
        answer = await baio.ask(caller, await baio.begin(caller))
        assert await ended(answer) == "Too slow."
        assert ALL_CALLS_SECONDS <= seconds() - began < ALL_CALLS_SECONDS + CALL_SECONDS
        records = await baio.get_tool_calls(caller, answer_id=answer.answer.id)
        assert [record.error for record in records] == ["time-limit"] * 5


async def test_stopping_the_answer_ends_a_running_call_at_once() -> None:
    baio = BAiO()
    async with baio.answering.running(1):
        caller = await someone(baio)
        thread = await baio.begin(caller)
        baio.toolbox.script(asyncio.Event())
        baio.openai.script(*calling(A, said=["See:"]))
        answer = await baio.ask(caller, thread)
        await asyncio.sleep(5)  # of the loop's own time
        assert len(baio.toolbox.asked) == 1
        began = seconds()
        await baio.stop_answer(caller, thread)
        assert seconds() - began < 1 + CHECKPOINT_SECONDS
        assert baio.toolbox.cancelled == 1
        assert answer.outcome is not None
        assert answer.outcome.state is AnswerState.STOPPED
        (record,) = await baio.get_tool_calls(caller, answer_id=answer.answer.id)
        assert record.state is CallState.CANCELLED


async def test_a_model_whose_provider_refuses_tools_is_asked_again_without_and_never_with_them() -> None:
    baio = BAiO()
    async with baio.answering.running(1):
        caller = await someone(baio)
        thread = await baio.begin(caller)
        baio.openai.script(ToolsRefused())
        baio.openai.script("Yes.", DONE)
        assert await ended(await baio.ask(caller, thread)) == "Yes."
        baio.openai.script("Again.", DONE)
        assert await ended(await baio.ask(caller, thread)) == "Again."
        assert [bool(asked.tools) for asked in baio.openai.asked] == [True, False, False]
        records = await baio.get_answers(caller, thread)
        assert [(each.state, each.reason) for each in records] == [(AnswerState.COMPLETE, "tools-refused")] * 2


WRITTEN = (
    '<tool_call>\n{"name": "echo", "arguments": {"text": "A"}}\n</tool_call>',
    '<function_calls>\n<invoke name="echo">\n<parameter name="text">A</parameter></invoke></function_calls>',
    "<function=echo><parameter=text>A</parameter></function>",
    '[TOOL_CALLS][{"name": "echo", "arguments": {"text": "A"}}]',
    '<|python_tag|>{"name": "echo", "parameters": {"text": "A"}}',
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.echo:0<|tool_call_argument_begin|>{}",
    '```json\n{ "name" : "echo", "arguments" : {"text": "A"} }\n```',
)


@pytest.mark.parametrize("written", WRITTEN)
async def test_a_call_that_the_model_writes_as_text_is_shown_never_run_and_noted(written: str) -> None:
    baio = BAiO()
    async with baio.answering.running(1):
        caller = await someone(baio)
        thread = await baio.begin(caller)
        baio.openai.script(written[:9], written[9:], DONE)
        answer = await baio.ask(caller, thread)
        assert await ended(answer) == written
        assert baio.toolbox.asked == []
        (record,) = await baio.get_answers(caller, thread)
        assert (record.state, record.reason) == (AnswerState.COMPLETE, "tool-call-as-text")


@pytest.mark.parametrize("text", ["The echo is <b>loud</b>.", 'A record: {"name": "echo", "length": 4}', "<tool_call>"])
async def test_text_that_names_a_tool_is_no_call(text: str) -> None:
    baio = BAiO()
    async with baio.answering.running(1):
        caller = await someone(baio)
        thread = await baio.begin(caller)
        baio.openai.script(text, DONE)
        await ended(await baio.ask(caller, thread))
        assert (await baio.newest(caller, thread)).reason is None


async def test_results_that_are_too_long_for_the_model_cost_half_of_the_conversation_and_no_call() -> None:
    baio = BAiO()
    async with baio.answering.running(1):
        caller = await someone(baio)
        thread = await baio.begin(caller)
        baio.openai.script("First.", DONE)
        await ended(await baio.ask(caller, thread, "first?"))
        baio.openai.script(*calling(A))
        baio.openai.script(PromptTooLong())
        baio.openai.script("A.", DONE)
        assert await ended(await baio.ask(caller, thread)) == f"{LINE_A}\n\nA."
        last = baio.openai.asked[-1]
        assert "first?" not in [turn.content for turn in last.prompt]
        assert last.prompt[-1].calls
        assert len(baio.toolbox.asked) == 1


async def test_notes_can_be_left_out() -> None:
    baio = BAiO(tool_notes="off")
    async with baio.answering.running(1):
        caller = await someone(baio)
        baio.openai.script(*calling(A, said=["See."]))
        baio.openai.script("A.", DONE)
        assert await ended(await baio.ask(caller, await baio.begin(caller))) == "See.\n\nA."


async def test_arguments_that_grow_for_long_are_no_silence() -> None:
    baio = BAiO()
    async with baio.answering.running(1):
        caller = await someone(baio)
        growing = [step for number in range(1, 5) for step in (later(25 * number), Thinking())]
        baio.openai.script("See:", *growing, A, DONE)
        baio.openai.script("A.", DONE)
        answer = await baio.ask(caller, await baio.begin(caller))
        assert (await ended(answer)).endswith("A.")
