"""The catalogue of models, and the keys to ask them with."""

from dataclasses import replace

import pytest

from baio_adapters.memory import MemoryDatabase
from baio_domain.entities import Caller, ModelSpec, ProviderSpec
from baio_domain.errors import FieldError, IdempotencyKeyReused, InvalidInput
from tests.unit.world import KEY, OPENAI, OTHER, BAiO, later, text_of

# -- The catalogue -----------------------------------------------------------------------------------------------------


async def shown(baio: BAiO) -> list[tuple[int, str, list[tuple[int, str]]]]:
    return [
        (provider.id, provider.name, [(model.id, model.name) for model in provider.models])
        for provider in await baio.database.read(lambda tx: tx.catalogue.providers())
    ]


CONTRACT = [
    (1, "OpenAI", [(1, "GPT-4o"), (2, "GPT-4o mini"), (3, "OpenAI o1-preview"), (4, "OpenAI o1-mini")]),
    (2, "OtherProvider", [(5, "ModelX"), (6, "ModelY")]),
]


async def test_r16_providers_and_models_have_the_ids_of_the_contract() -> None:
    baio = BAiO()
    assert await shown(baio) == []
    changes = await baio.load_catalogue([OPENAI, OTHER])
    assert len(changes) == 8
    assert "added provider OpenAI (id 1)" in changes
    assert await shown(baio) == CONTRACT
    listed = await baio.get_providers(await baio.someone())
    assert listed == await baio.database.read(lambda tx: tx.catalogue.providers())


async def test_loading_again_changes_nothing(baio: BAiO) -> None:
    assert await baio.load_catalogue([OPENAI, OTHER]) == []
    assert await shown(baio) == CONTRACT


async def test_a_model_that_nobody_names_any_more_is_retired_and_comes_back_under_its_id(baio: BAiO) -> None:
    without = replace(OPENAI, models=(OPENAI.models[0], *OPENAI.models[2:]))
    assert await baio.load_catalogue([without, OTHER]) == ["retired model OpenAI GPT-4o mini (id 2)"]
    assert await baio.load_catalogue([without, OTHER]) == []
    assert (await shown(baio))[0][2] == [CONTRACT[0][2][0], *CONTRACT[0][2][2:]]
    assert await baio.load_catalogue([OPENAI, OTHER]) == ["changed model OpenAI GPT-4o mini (id 2)"]
    assert await shown(baio) == CONTRACT


async def test_a_new_model_gets_a_new_id_even_where_others_are_retired(baio: BAiO) -> None:
    new = ModelSpec("z", "ModelZ", 8_000, 2_000)
    await baio.load_catalogue([OPENAI, replace(OTHER, models=(new,))])
    assert (await shown(baio))[1] == (2, "OtherProvider", [(7, "ModelZ")])
    await baio.load_catalogue([OPENAI, replace(OTHER, models=(new, *OTHER.models))])
    assert (await shown(baio))[1] == (2, "OtherProvider", [(5, "ModelX"), (6, "ModelY"), (7, "ModelZ")])


async def test_a_provider_that_is_gone_keeps_its_id_without_models(baio: BAiO) -> None:
    await baio.load_catalogue([OTHER])
    assert await shown(baio) == [(1, "OpenAI", []), CONTRACT[1]]
    await baio.load_catalogue([OTHER, OPENAI])
    assert await shown(baio) == CONTRACT


async def test_what_a_gateway_says_of_a_model_now_replaces_what_it_said_before(baio: BAiO, caller: Caller) -> None:
    changed = ModelSpec("gpt-4o", "GPT-4o (new)", 200_000, 20_000, system_role=False)
    changes = await baio.load_catalogue([replace(OPENAI, models=(changed, *OPENAI.models[1:])), OTHER])
    assert changes == ["changed model OpenAI GPT-4o (new) (id 1)"]
    model = (await baio.get_providers(caller))[0].models[0]
    assert (model.id, model.provider_id, model.identifier, model.name) == (1, 1, "gpt-4o", "GPT-4o (new)")
    assert (model.context_window, model.max_output_tokens, model.system_role) == (200_000, 20_000, False)


async def test_a_retired_model_cannot_be_asked_and_its_conversation_stays(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    await text_of(await baio.ask(caller, conversation))
    await baio.load_catalogue([replace(OPENAI, models=OPENAI.models[:1]), OTHER])
    with pytest.raises(InvalidInput, match=r"accepted: gpt-4o$"):
        await baio.ask(caller, conversation)
    assert len(await baio.messages(caller, conversation)) == 2


async def test_a_provider_without_models_says_that_there_is_none_at_the_moment(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    await baio.load_catalogue([replace(OPENAI, models=()), OTHER])
    with pytest.raises(InvalidInput, match="none at the moment"):
        await baio.ask(caller, conversation)


# -- Keys --------------------------------------------------------------------------------------------------------------


async def test_r17_key_and_nickname_alone_add_an_openai_key(baio: BAiO, caller: Caller) -> None:
    before = await baio.get_api_keys(caller)
    stored = await baio.add_api_key(caller, key="sk-2", nickname="Second API Key", provider=None)
    assert (stored.nickname, stored.user_id) == ("Second API Key", caller.user_id)
    listed = await baio.get_api_keys(caller)
    assert listed[:-1] == before
    assert (listed[-1].nickname, listed[-1].created_at) == ("Second API Key", baio.clock.now())
    assert listed[-1].provider == (await baio.get_providers(caller))[0]


@pytest.mark.parametrize("provider", [2, "2", " 2 ", "OtherProvider", "OTHERPROVIDER", " otherprovider "])
async def test_r17_a_provider_is_named_by_id_or_by_name_in_any_spelling(
    provider: int | str, baio: BAiO, caller: Caller
) -> None:
    await baio.add_api_key(caller, key="k", nickname="Other", provider=provider)
    assert (await baio.get_api_keys(caller))[-1].provider.name == "OtherProvider"


@pytest.mark.parametrize("provider", [0, 3, -1, 2**70, "3", "", " ", "NoSuchProvider", "²", "-1", "1.0", "9" * 5000])
async def test_r17_another_provider_is_refused(provider: int | str, baio: BAiO, caller: Caller) -> None:
    with pytest.raises(InvalidInput) as refused:
        await baio.add_api_key(caller, key="k", nickname="Other", provider=provider)
    assert [error.field for error in refused.value.errors] == ["provider"]
    assert len(await baio.get_api_keys(caller)) == 1


async def test_r17_key_and_nickname_are_trimmed(baio: BAiO, caller: Caller, conversation: int) -> None:
    await baio.add_api_key(caller, key=" \tsk-trimmed\n", nickname=" \tTrimmed\n", provider=None)
    assert [key.nickname for key in await baio.get_api_keys(caller)] == ["OpenAI Key", "Trimmed"]
    answer = await baio.send_message(
        caller, conversation_id=conversation, apikey_nickname="Trimmed", content="?", model="gpt-4o"
    )
    await text_of(answer)
    assert baio.openai.asked[0].key == "sk-trimmed"


async def test_r17_every_bad_field_is_named_at_once(baio: BAiO, caller: Caller) -> None:
    with pytest.raises(InvalidInput) as refused:
        await baio.add_api_key(caller, key=" ", nickname="\t", provider="nobody", idempotency_key="")
    assert sorted(error.field for error in refused.value.errors) == ["idempotency_key", "key", "nickname", "provider"]


async def test_r12_a_nickname_is_unique_among_ones_own_keys_alone(baio: BAiO, caller: Caller, other: Caller) -> None:
    assert [key.nickname for key in await baio.get_api_keys(other)] == ["OpenAI Key"]
    with pytest.raises(InvalidInput) as refused:
        await baio.add_api_key(caller, key="sk-2", nickname=" OpenAI Key ", provider=2)
    assert [error.field for error in refused.value.errors] == ["nickname"]
    assert [key.provider.id for key in await baio.get_api_keys(caller)] == [1]


async def test_keys_are_listed_in_the_order_of_adding_for_their_owner_alone(
    baio: BAiO, caller: Caller, other: Caller
) -> None:
    for nickname in ("z", "a", "m"):
        await baio.add_api_key(caller, key="sk", nickname=nickname, provider=None)
    assert [key.nickname for key in await baio.get_api_keys(caller)] == ["OpenAI Key", "z", "a", "m"]
    assert [key.nickname for key in await baio.get_api_keys(other)] == ["OpenAI Key"]


async def test_r18_a_key_is_stored_sealed_for_its_owner_and_row_and_shown_by_nothing(
    baio: BAiO, caller: Caller
) -> None:
    stored = await baio.add_api_key(caller, key="sk-live-secret", nickname="Secret", provider=None)
    kept = await baio.database.read(lambda tx: tx.api_keys.get("Secret", owner=caller.user_id))
    assert baio.box.open(kept.sealed, kind="api key", owner=caller.user_id, row_id=kept.id) == "sk-live-secret"
    assert isinstance(baio.database, MemoryDatabase)
    everything = repr((stored, kept, await baio.get_api_keys(caller), baio.database._tables))
    assert "sk-live-secret" not in everything
    assert KEY not in everything


async def test_r18_a_key_that_is_refused_is_not_repeated(baio: BAiO, caller: Caller) -> None:
    with pytest.raises(InvalidInput) as refused:
        await baio.add_api_key(caller, key="sk-live secret", nickname="Bad", provider=None)
    assert refused.value.errors == (FieldError("key", "must be printable ASCII characters without spaces"),)
    assert "sk-live" not in refused.value.detail


async def test_the_same_request_under_the_same_key_stores_one_key(baio: BAiO, caller: Caller) -> None:
    first = await baio.add_api_key(caller, key="sk-2", nickname="Once", provider=None, idempotency_key="k-1")
    await later(60).wait()
    again = await baio.add_api_key(caller, key="sk-2", nickname="Once", provider=None, idempotency_key="k-1")
    assert (again.id, again.user_id, again.nickname) == (first.id, first.user_id, first.nickname)
    assert [key.nickname for key in await baio.get_api_keys(caller)] == ["OpenAI Key", "Once"]


@pytest.mark.parametrize("change", [{"key": "sk-3"}, {"nickname": "Twice"}, {"provider": 2}])
async def test_another_request_under_the_same_key_is_refused(
    change: dict[str, str | int], baio: BAiO, caller: Caller
) -> None:
    request: dict[str, str | int | None] = {"key": "sk-2", "nickname": "Once", "provider": None}
    await baio.add_api_key(caller, **request, idempotency_key="k-1")
    with pytest.raises(IdempotencyKeyReused):
        await baio.add_api_key(caller, **request | change, idempotency_key="k-1")
    assert len(await baio.get_api_keys(caller)) == 2


async def test_a_provider_of_somebody_elses_making_is_asked_like_any_other(baio: BAiO, caller: Caller) -> None:
    third = ProviderSpec("Third", (ModelSpec("t", "T", 100, 10),))
    await baio.load_catalogue([OPENAI, OTHER, third])
    baio.gateways["Third"] = gateway = type(baio.openai)(third)
    await baio.add_api_key(caller, key="third", nickname="Third", provider="third")
    answer = await baio.send_message(
        caller, conversation_id=await baio.begin(caller), apikey_nickname="Third", content="Hi", model="T"
    )
    assert await text_of(answer) == "Hi"
    assert [asked.key for asked in gateway.asked] == ["third"]
