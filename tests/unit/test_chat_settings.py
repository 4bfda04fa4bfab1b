"""How a conversation is answered: settings, presets, and what stands in the answer's record."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from baio_adapters.llm.scripted import ScriptedGateway
from baio_domain.entities import (
    MAX_SYSTEM_LENGTH,
    UNCHANGED,
    Answer,
    AnswerState,
    AnswerWithSettings,
    Caller,
    ChatSettings,
    Model,
    ModelSpec,
    ProviderSpec,
    UsedSettings,
)
from baio_domain.errors import (
    ApiKeyNotFound,
    ConversationNotFound,
    InvalidInput,
    ParametersRefused,
    PresetNotFound,
    TooManyPresets,
)
from baio_domain.parameters import Accepted
from baio_domain.ports import Called, Finished, GatewayStream, LLMGateway
from baio_domain.prompts import SYSTEM_PROMPT, Turn
from baio_domain.use_cases.settings import MAX_PRESETS
from tests.unit.world import OPENAI, OTHER, QUESTION, BAiO, heard, text_of

pytestmark = pytest.mark.anyio

PROVIDER = replace(
    OPENAI,
    models=(
        replace(OPENAI.models[0], tools=True),
        replace(OPENAI.models[1], parameters={"reasoning_effort": None}),
        replace(OPENAI.models[2], parameters={"temperature": None, "top_p": None}),
    ),
)


@pytest.fixture
async def baio() -> AsyncIterator[BAiO]:
    """A process whose models take different parameters."""
    one = BAiO()
    one.openai.provider = PROVIDER.with_defaults(ScriptedGateway.provider.parameters)
    await one.load_catalogue([PROVIDER, OTHER])
    async with one.answering.running(1):
        yield one


@pytest.fixture
async def caller(baio: BAiO) -> Caller:
    return await baio.someone()


@pytest.fixture
async def conversation(baio: BAiO, caller: Caller) -> int:
    return await baio.begin(caller)


async def change(baio: BAiO, caller: Caller, conversation: int, **changes: object) -> ChatSettings:
    settings: ChatSettings = await baio.change_settings(caller, conversation, changes)
    return settings


async def ask(baio: BAiO, caller: Caller, conversation: int, **named: str) -> str:
    asked = await baio.send_message(caller, conversation_id=conversation, content=QUESTION, **named)
    return await text_of(asked)


async def used(baio: BAiO, caller: Caller, conversation: int) -> UsedSettings:
    """With what the newest answer was made."""
    records: list[Answer] = [
        each async for page in baio.get_answers_of(caller, conversation, settings=True) for each in page
    ]
    assert isinstance(records[-1], AnswerWithSettings)
    return records[-1].settings


async def refused(baio: BAiO, caller: Caller, conversation: int, **changes: object) -> dict[str, str]:
    before = await baio.get_settings(caller, conversation)
    with pytest.raises(InvalidInput) as raised:
        await change(baio, caller, conversation, **changes)
    assert await baio.get_settings(caller, conversation) == before
    return {each.field: each.message for each in raised.value.errors}


USUAL = {"apikey_nickname": "OpenAI Key", "model": "gpt-4o-mini"}


async def test_null_takes_a_value_away_and_what_is_not_sent_stays(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    assert await baio.get_settings(caller, conversation) == UNCHANGED
    parameters = {"temperature": 0.2, "seed": 7}
    await change(baio, caller, conversation, system="Be brief.", **USUAL, parameters=parameters, tools=["echo"])
    after = await change(baio, caller, conversation, parameters={"seed": None, "top_p": 1}, system=None)
    tools = ("echo",)
    assert after == ChatSettings(None, "gpt-4o-mini", "OpenAI Key", {"temperature": 0.2, "top_p": 1}, tools)
    assert await change(baio, caller, conversation) == after
    assert await baio.get_settings(caller, conversation) == after
    gone = dict.fromkeys(("system", "model", "apikey_nickname", "parameters", "tools"))
    assert await change(baio, caller, conversation, **gone) == UNCHANGED


async def test_zero_is_a_value_and_null_is_none(baio: BAiO, caller: Caller, conversation: int) -> None:
    await change(baio, caller, conversation, **USUAL, parameters={"temperature": 0, "seed": 0, "top_p": None})
    await ask(baio, caller, conversation)
    assert baio.openai.asked[-1].parameters == {"temperature": 0, "seed": 0}
    await change(baio, caller, conversation, parameters={"temperature": None})
    await text_of(await baio.regenerate_answer(caller, conversation_id=conversation))
    assert baio.openai.asked[-1].parameters == {"seed": 0}


async def test_every_bad_field_is_named_at_once_with_what_is_possible(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    found = await refused(
        baio,
        caller,
        conversation,
        system="x" * (MAX_SYSTEM_LENGTH + 1),
        apikey_nickname="OpenAI Key",
        model="gpt-5",
        parameters={"temperature": 3, "top_k": 1},
        tools=["echo", "fly"],
    )
    assert list(found) == ["system", "model", "parameters.temperature", "parameters", "tools"]
    assert found["system"] == "must have at most 32,000 characters"
    assert "accepted: gpt-4o, gpt-4o-mini, o1-preview" in found["model"]
    assert found["parameters"].endswith("(accepted: temperature, top_p, max_output_tokens, reasoning_effort, seed)")
    assert found["tools"] == "has names of no tool; available: echo"
    await change(baio, caller, conversation, system="x" * MAX_SYSTEM_LENGTH)


async def test_what_the_model_does_not_take_is_refused_with_the_names_it_takes(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    await change(baio, caller, conversation, parameters={"temperature": 1.5})  # nobody knows the model yet
    found = await refused(baio, caller, conversation, apikey_nickname="OpenAI Key", model="o1-preview")
    message = "temperature is not accepted (accepted: max_output_tokens, reasoning_effort, seed)"
    assert found == {"parameters.temperature": message}
    await change(baio, caller, conversation, **USUAL)
    found = await refused(baio, caller, conversation, parameters={"max_output_tokens": 16_385})
    assert found == {"parameters.max_output_tokens": "must be from 1 to 16384"}
    await change(baio, caller, conversation, system="Be brief.")


async def test_a_model_without_a_key_is_one_that_some_provider_has(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    await change(baio, caller, conversation, model="ModelX")
    assert await refused(baio, caller, conversation, model="gpt-5") == {"model": "no provider has such a model"}
    found = await refused(baio, caller, conversation, apikey_nickname="OpenAI Key")
    assert found["model"].startswith("OpenAI has no such model; accepted: ")


async def test_somebody_elses_conversation_and_key_do_not_exist(baio: BAiO, conversation: int) -> None:
    other = await baio.someone("kari", key=False)
    for work in (baio.get_settings(other, conversation), change(baio, other, conversation, system="x")):
        with pytest.raises(ConversationNotFound):
            await work
    with pytest.raises(ApiKeyNotFound):
        await change(baio, other, await baio.begin(other), apikey_nickname="OpenAI Key")


async def test_a_question_is_asked_with_the_settings_and_its_record_says_so(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    parameters = {"temperature": 0.2, "max_output_tokens": 99}
    await change(baio, caller, conversation, system="Be brief.", **USUAL, parameters=parameters)
    assert await ask(baio, caller, conversation) == QUESTION
    [asked] = baio.openai.asked
    assert asked.model.identifier == "gpt-4o-mini"
    assert asked.parameters == parameters
    assert [turn.content for turn in asked.prompt] == ["Be brief.", QUESTION]
    assert await used(baio, caller, conversation) == UsedSettings("Be brief.", parameters)
    thread = await baio.get_conversation(caller, conversation)
    assert thread.messages[0].content == SYSTEM_PROMPT  # the message stays
    await text_of(await baio.regenerate_answer(caller, conversation_id=conversation))
    assert baio.openai.asked[-1].parameters == parameters


async def test_without_settings_a_question_is_asked_as_before(baio: BAiO, caller: Caller, conversation: int) -> None:
    await ask(baio, caller, conversation, **USUAL)
    [asked] = baio.openai.asked
    assert asked.parameters == {}
    assert asked.prompt[0].content == SYSTEM_PROMPT
    assert await used(baio, caller, conversation) == UsedSettings()


async def test_a_blank_system_message_is_none(baio: BAiO, caller: Caller, conversation: int) -> None:
    await change(baio, caller, conversation, system=" ")
    await ask(baio, caller, conversation, **USUAL)
    assert [turn.role for turn in baio.openai.asked[-1].prompt] == ["user"]


async def test_what_is_neither_named_nor_set_is_required_beside_what_else_is_wrong(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    async def named(**question: str) -> list[str]:
        with pytest.raises(InvalidInput) as raised:
            await baio.send_message(caller, conversation_id=conversation, **{"content": QUESTION, **question})
        return [each.field for each in raised.value.errors]

    assert await named() == ["apikey_nickname", "model"]
    assert await named(model="gpt-4o") == ["apikey_nickname"]
    assert await named(content=" ") == ["content", "apikey_nickname", "model"]
    assert await named(content=" ", **USUAL) == ["content"]
    await change(baio, caller, conversation, model="gpt-4o")
    assert await named(content=" ") == ["content", "apikey_nickname"]
    assert await baio.messages(caller, conversation) == []


async def test_a_command_needs_neither_key_nor_model(baio: BAiO, caller: Caller, conversation: int) -> None:
    answer = await baio.send_message(caller, conversation_id=conversation, content="/echo ACGT")
    text, error = await heard(answer)
    assert (bool(text), error) == (True, None)


async def test_what_another_model_does_not_take_is_left_out_and_noted(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    await change(baio, caller, conversation, **USUAL, parameters={"temperature": 0.2, "seed": 7})
    await ask(baio, caller, conversation, model="o1-preview")
    assert baio.openai.asked[-1].parameters == {"seed": 7}
    assert await used(baio, caller, conversation) == UsedSettings(parameters={"seed": 7}, left_out=("temperature",))


async def test_what_only_the_provider_refuses_is_left_out_and_noted(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    await change(baio, caller, conversation, **USUAL, parameters={"temperature": 0.2, "seed": 7})
    baio.openai.script(ParametersRefused(parameters="seed"))
    baio.openai.script("A codon.", Finished("stop"))
    assert await ask(baio, caller, conversation) == "A codon."
    assert [asked.parameters for asked in baio.openai.asked] == [{"temperature": 0.2, "seed": 7}, {"temperature": 0.2}]
    noted = await used(baio, caller, conversation)
    assert noted.left_out == ("seed",)
    assert (await baio.newest(caller, conversation)).state is AnswerState.COMPLETE


async def test_what_was_refused_is_not_sent_again_in_later_rounds_of_the_answer(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    await change(baio, caller, conversation, **USUAL, parameters={"seed": 7, "top_p": 1})
    baio.openai.script(ParametersRefused(parameters="seed"))
    baio.openai.script(ParametersRefused(parameters="top_p"))
    baio.openai.script(Called("echo", '{"text": "ACGT"}'), Finished("tool_calls"))
    baio.openai.script("Half.", Finished("stop"))
    await ask(baio, caller, conversation, model="gpt-4o")
    assert [dict(asked.parameters) for asked in baio.openai.asked] == [{"seed": 7, "top_p": 1}, {"top_p": 1}, {}, {}]
    assert (await used(baio, caller, conversation)).left_out == ("seed", "top_p")


async def test_a_refusal_of_what_was_not_sent_is_an_error_and_asks_nothing_again(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    await change(baio, caller, conversation, **USUAL, parameters={"seed": 7})
    baio.openai.script(ParametersRefused(parameters="top_p"))
    answer = await baio.send_message(caller, conversation_id=conversation, content=QUESTION)
    _, error = await heard(answer)
    assert isinstance(error, ParametersRefused)
    assert len(baio.openai.asked) == 1


async def test_a_conversation_is_offered_the_tools_that_it_names(baio: BAiO, caller: Caller, conversation: int) -> None:
    every = [spec.name for spec in baio.toolbox.specs()]

    async def offered(tools: list[str] | None) -> list[str]:
        await change(baio, caller, conversation, tools=tools)
        await ask(baio, caller, conversation, apikey_nickname="OpenAI Key", model="gpt-4o")
        return [tool.name for tool in baio.openai.asked[-1].tools]

    assert await offered([every[-1], every[-1]]) == [every[-1]]
    assert await offered([]) == []
    assert (await used(baio, caller, conversation)).tools == ()
    assert await offered(None) == every


class PlainGateway(LLMGateway):
    """A gateway of another package, which knows neither tools nor parameters."""

    provider = ProviderSpec("OtherProvider", (ModelSpec("x", "ModelX", 8_000, 2_000),))

    async def stream(self, *, key: str, model: Model, prompt: Sequence[Turn]) -> GatewayStream:
        """Answer."""
        del key, model, prompt
        yield "Yes."
        yield Finished("stop")

    async def aclose(self) -> None:
        """Do nothing."""


async def test_a_gateway_that_knows_no_parameters_works_unchanged(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    baio.gateways["OtherProvider"] = PlainGateway()
    await baio.add_api_key(caller, key="sk-0123456789", nickname="Other", provider="OtherProvider")
    found = await refused(baio, caller, conversation, apikey_nickname="Other", parameters={"seed": 7})
    assert found == {"parameters.seed": "seed is not accepted (accepted: none)"}
    await change(baio, caller, conversation, parameters={"seed": 7})
    assert await ask(baio, caller, conversation, apikey_nickname="Other", model="x") == "Yes."
    assert await used(baio, caller, conversation) == UsedSettings(left_out=("seed",))


async def test_a_new_conversation_has_the_settings_of_its_preset(baio: BAiO, caller: Caller) -> None:
    chosen = {"system": "Be brief.", **USUAL, "parameters": {"seed": 7}, "tools": []}
    made = await baio.create_preset(caller, " Brief ", chosen)
    assert (made.name, made.settings.system) == ("Brief", "Be brief.")
    first = await baio.create_conversation(caller, "", preset="Brief")
    assert await baio.get_settings(caller, first.id) == made.settings
    await baio.delete_preset(caller, "Brief")
    assert await baio.get_settings(caller, first.id) == made.settings
    assert await baio.get_presets(caller) == []
    with pytest.raises(PresetNotFound):
        await baio.create_conversation(caller, "", preset="Brief")
    assert len(await baio.get_conversations(caller)) == 1


async def test_the_same_idempotency_key_with_another_preset_is_another_request(baio: BAiO, caller: Caller) -> None:
    await baio.create_preset(caller, "Brief", {"system": "Be brief."})
    first = await baio.create_conversation(caller, "T", "key", preset="Brief")
    assert (await baio.create_conversation(caller, "T", "key", preset="Brief")).id == first.id


async def test_presets_are_checked_and_limited_and_belong_to_one_user(baio: BAiO, caller: Caller) -> None:
    with pytest.raises(InvalidInput) as raised:
        await baio.create_preset(caller, " ", {"parameters": {"seed": 0.5}, "tools": ["fly"]})
    assert [each.field for each in raised.value.errors] == ["name", "parameters.seed", "tools"]
    for number in range(MAX_PRESETS):
        await baio.create_preset(caller, str(number), {})
    with pytest.raises(TooManyPresets):
        await baio.create_preset(caller, "one more", {})
    other = await baio.someone("kari")
    assert await baio.get_presets(other) == []
    with pytest.raises(PresetNotFound):
        await baio.delete_preset(other, "1")


async def test_nobody_is_asked_with_ranges_that_no_model_has() -> None:
    accepted = PROVIDER.with_defaults({"temperature": Accepted(most=1)}).accepted("gpt-4o")
    assert accepted == {"temperature": Accepted(most=1)}
