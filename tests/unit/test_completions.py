"""Chat completions: which key and model are meant, what gateways are given, and what is left of an answer."""

from collections.abc import Sequence
from typing import Any

import pytest

from baio_domain.answering import Followable, LiveAnswer
from baio_domain.entities import AnswerState, Caller
from baio_domain.errors import BaioError, InvalidInput, ModelNotFound, PromptTooLong, TooManyAnswers
from baio_domain.ports import Called, Finished
from baio_domain.prompts import Turn, UsedTool
from baio_domain.tools import ToolSpec
from baio_domain.use_cases.completions import ChatRequest
from tests.unit.world import QUESTION, BAiO, heard, later

STOP = Finished("stop")
ASKED = (Turn("user", QUESTION),)
TOOL = ToolSpec("weather", "", "The weather.", "", {"type": "object", "properties": {}})


async def complete(baio: BAiO, caller: Caller, model: str = "gpt-4o-mini", **more: Any) -> Followable:
    """Ask, and return the answer to follow."""
    request = ChatRequest(model, more.pop("turns", ASKED), **more)
    answer: Followable = await baio.complete_chat(caller, request)
    return answer


async def refusal(baio: BAiO, caller: Caller, model: str = "gpt-4o-mini", **more: Any) -> BaioError:
    """The error with which a request is refused."""
    with pytest.raises(BaioError) as raised:
        await complete(baio, caller, model, **more)
    return raised.value


async def names(baio: BAiO, caller: Caller) -> Sequence[str]:
    """The names of all models."""
    return [each.id for each in await baio.get_chat_models(caller)]


async def test_the_longest_nickname_that_fits_decides_and_slashes_are_part_of_names(baio: BAiO, caller: Caller) -> None:
    for nickname, provider in (("lab", "OpenAI"), ("lab/x", "OtherProvider"), ("y", "OpenAI")):
        await baio.add_api_key(caller, key=f"sk-{nickname}-12345678", nickname=nickname, provider=provider)
    found = {}
    for name in ("lab/gpt-4o", "lab/x/y", "lab/x/MODELX", " y/GPT-4o mini ", "y"):
        model = await baio.get_chat_model(caller, name)
        found[name] = model.id
    assert found == {
        "lab/gpt-4o": "lab/gpt-4o",
        "lab/x/y": "lab/x/y",
        "lab/x/MODELX": "lab/x/x",
        " y/GPT-4o mini ": "y/gpt-4o-mini",
        "y": "lab/x/y",
    }
    assert [name for name in await names(baio, caller) if name.startswith("lab/x")] == ["lab/x/x", "lab/x/y"]


async def test_nobody_elses_keys_are_found(baio: BAiO, caller: Caller, other: Caller) -> None:
    await baio.rename_api_key(caller, "OpenAI Key", "mine")
    for name in ("mine/gpt-4o", "OpenAI Key/gpt-9", "x", "/", "gpt-4o/OpenAI Key"):
        assert isinstance(await refusal(baio, other, name), ModelNotFound)
    assert await names(baio, Caller((await baio.someone("eva", key=False)).user_id)) == []


async def test_nothing_is_left_of_an_answer_but_its_tokens(baio: BAiO, caller: Caller) -> None:
    baio.openai.script("one", later(10), " two", STOP)
    answer = await complete(baio, caller)
    assert (answer.answer.stored, answer.answer.state) == (False, AnswerState.RUNNING)
    await later(5).wait()  # checkpoints have come and gone
    assert await heard(answer) == ("one two", None)
    assert await baio.get_conversations(caller) == []
    [row] = [each.usage for each in await baio.get_usage(caller, None, None)]
    assert (row.answers, row.model, row.estimated) == (1, "gpt-4o-mini", True)
    assert isinstance(answer, LiveAnswer)
    assert answer.outcome is not None
    assert answer.outcome.state is AnswerState.COMPLETE


async def test_calls_of_the_clients_tools_are_an_answer_without_text(baio: BAiO, caller: Caller) -> None:
    baio.openai.script(Called("weather", '{"city": "Bergen"}'), Finished("stop"))
    answer = await complete(baio, caller, tools=[TOOL])
    assert await heard(answer) == ("", None)
    assert isinstance(answer, LiveAnswer)
    assert answer.called == [Called("weather", '{"city": "Bergen"}')]
    assert answer.outcome is not None
    assert answer.outcome.state is AnswerState.COMPLETE
    assert baio.openai.asked[-1].tools == (TOOL,)


async def test_calls_come_with_their_results_or_as_text_where_there_are_no_tools(baio: BAiO, caller: Caller) -> None:
    used = UsedTool("c00000001", "weather", "{}", "rain")
    turns: tuple[Turn, ...] = (*ASKED, Turn("assistant", "Let me look.", (used,)))
    await heard(await complete(baio, caller, turns=turns, tools=[TOOL]))
    assert baio.openai.asked[-1].prompt == turns
    await heard(await complete(baio, caller, turns=turns))
    assert baio.openai.asked[-1].prompt == (
        *ASKED,
        Turn("assistant", "Let me look."),
        Turn("user", "The tools' results:\nweather({}) = rain"),
    )


async def test_a_prompt_that_is_too_long_is_not_halved(baio: BAiO, caller: Caller) -> None:
    baio.openai.script(PromptTooLong())
    turns = (*ASKED, Turn("assistant", "long " * 1000), *ASKED)
    _, error = await heard(await complete(baio, caller, turns=turns))
    assert isinstance(error, PromptTooLong)
    assert len(baio.openai.asked) == 1


async def test_what_a_gateway_does_not_take_is_refused(baio: BAiO, caller: Caller) -> None:
    error = await refusal(baio, caller, parameters={"temperature": 3.0}, extras={"verbosity": "low"})
    assert isinstance(error, InvalidInput)
    assert {each.field for each in error.errors} == {"parameters.temperature", "verbosity"}
    await heard(await complete(baio, caller, parameters={"seed": 7}, extras={"stop": ["a"]}))
    assert (baio.openai.asked[-1].parameters, baio.openai.asked[-1].extras) == ({"seed": 7}, {"stop": ["a"]})


async def test_what_is_stored_offers_baios_tools_unless_the_answer_has_a_form(baio: BAiO, caller: Caller) -> None:
    for extras in ({}, {"response_format": {"type": "json_object"}}, {"tool_choice": "none"}):
        answer = await complete(baio, caller, store=True, extras=extras)
        await heard(answer)
        settings = await baio.get_settings(caller, answer.answer.conversation_id)
        assert settings.tools == (() if extras else None)
        assert "tool_choice" not in baio.openai.asked[-1].extras
    assert len(await baio.get_conversations(caller)) == 3


async def test_one_answer_too_many_is_refused_whatever_is_stored(baio: BAiO, caller: Caller) -> None:
    gate = later(10)
    for _ in range(3):
        baio.openai.script(gate, "one", STOP)
    running = [await complete(baio, caller, store=store) for store in (False, True, False)]
    assert isinstance(await refusal(baio, caller), TooManyAnswers)
    for answer in running:
        assert await heard(answer) == ("one", None)
    await heard(await complete(baio, caller))
