"""Lists of models as the world's servers send them: one odd entry costs only itself."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import pytest

from baio_adapters.llm.anthropic import AnthropicGateway
from baio_adapters.llm.openai import OpenAIGateway
from baio_adapters.llm.scripted import ScriptedGateway
from baio_domain.entities import Model, ModelSpec, ProviderSpec
from baio_domain.errors import ProviderBroken
from baio_domain.ports import Finished, GatewayOptions, LLMGateway
from baio_domain.prompts import Turn
from baio_domain.testing import KEY, check_nothing_leaks
from baio_domain.use_cases.catalogue import ListModels
from tests.integration.scripted_provider import ScriptedProvider, whole

pytestmark = pytest.mark.anyio

GOOD = [{"id": "good-1"}, {"id": "good-2"}]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["OpenAI's", "Anthropic's"])
async def gateway(provider: ScriptedProvider, request: pytest.FixtureRequest) -> AsyncIterator[LLMGateway]:
    """A gateway of each protocol, whose models only the provider knows."""
    options = GatewayOptions(base_url=provider.base_url, provider=ProviderSpec("Lab", (), open_ended=True))
    made: LLMGateway = OpenAIGateway(options) if request.param == "OpenAI's" else AnthropicGateway(options)
    yield made
    await made.aclose()


async def listed(gateway: LLMGateway) -> list[str]:
    """The identifiers that it lists."""
    return [spec.identifier for spec in await gateway.list_models(key=KEY) or ()]


@pytest.mark.parametrize(
    "body",
    [
        {"object": "list", "data": GOOD},
        GOOD,  # Together
        ["good-1", "good-2"],
        {"models": GOOD},
        {"data": [GOOD[0], GOOD[1], GOOD[0]]},
    ],
    ids=["OpenAI", "bare", "only ids", "models", "twice the same"],
)
async def test_a_list_is_read_in_each_of_its_shapes(
    gateway: LLMGateway, provider: ScriptedProvider, body: object
) -> None:
    provider.models = whole(body)
    assert await listed(gateway) == ["good-1", "good-2"]


@pytest.mark.parametrize(
    "odd",
    [
        None, 7, [], {}, {"id": None}, {"id": 7}, {"id": ""}, {"id": " "}, {"id": " x"}, {"id": "x\0"},
        {"id": "x\ud800"}, {"id": "x" * 501}, {"id": "good-1"}, {"id": ["x"]}, {"name": "x"},
    ],
    ids=str,
)  # fmt: skip
async def test_an_entry_that_can_not_be_read_is_skipped_and_named_in_one_line(
    gateway: LLMGateway, provider: ScriptedProvider, caplog: pytest.LogCaptureFixture, odd: object
) -> None:
    provider.models = whole({"data": [GOOD[0], odd, GOOD[1]]})
    assert await listed(gateway) == ["good-1", "good-2"]
    [line] = [record.getMessage() for record in caplog.records if record.name == "baio.providers"]
    assert line.startswith("models skipped: ")
    assert "2" in line or "good-1 is listed twice" in line
    assert len(line) < 200


async def test_a_list_of_odd_entries_is_still_one_line(
    gateway: LLMGateway, provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.models = whole({"data": [{"id": "good-1"}] * 10_000})
    assert await listed(gateway) == ["good-1"]
    [line] = [record.getMessage() for record in caplog.records if record.name == "baio.providers"]
    assert line.endswith("; and 9989 more")


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (131_072, 131_072), ("131072", 131_072), (131_072.0, 131_072), (None, 8_192), (0, 8_192), (-1, 8_192),
        (2**63, 8_192), (2**64, 8_192), (1e300, 8_192), ("a lot", 8_192), ("", 8_192), ([131_072], 8_192),
        (True, 8_192), ({}, 8_192), (1, 1),
    ],
    ids=str,
)  # fmt: skip
async def test_a_window_is_read_where_it_is_a_number_and_else_guessed(
    gateway: LLMGateway, provider: ScriptedProvider, window: object, expected: int
) -> None:
    name = "max_model_len" if isinstance(gateway, OpenAIGateway) else "max_input_tokens"
    provider.models = whole({"data": [{"id": "x", name: window, "display_name": [], "meta": [], "max_tokens": {}}]})
    assert await gateway.list_models(key=KEY) == [ModelSpec("x", "x", expected, max(1, expected // 4))]


@pytest.mark.parametrize("body", [{"data": None}, {"data": []}, [], None], ids=str)
async def test_an_empty_list_is_empty(gateway: LLMGateway, provider: ScriptedProvider, body: object) -> None:
    provider.models = whole(body)
    assert await listed(gateway) == []


@pytest.mark.parametrize(
    "body", [{}, 7, {"data": 7}, {"data": {}}, {"data": [{}, 7]}, "<html>", '{"data": [', "[" * 5_000, ""]
)
async def test_a_body_in_which_nothing_can_be_read_is_the_providers_failure_and_no_empty_list(
    gateway: LLMGateway, provider: ScriptedProvider, body: object
) -> None:
    provider.models = whole(body)
    with pytest.raises(ProviderBroken) as raised:
        await listed(gateway)
    check_nothing_leaks(raised.value)


async def test_one_providers_failure_and_one_odd_model_cost_no_other_its_models(
    gateway: LLMGateway, provider: ScriptedProvider
) -> None:
    class Lister(LLMGateway):
        """A gateway that answers no questions."""

        def stream(self, *, key: str, model: Model, prompt: Sequence[Turn]) -> AsyncGenerator[str | Finished, None]:
            raise NotImplementedError

        async def aclose(self) -> None:
            """Nothing is open."""

    class Odd(Lister):
        """A gateway of a third party that lists what it should not."""

        provider = ProviderSpec("Odd", (), open_ended=True)

        async def list_models(self, *, key: str) -> list[ModelSpec] | None:
            del key
            good = ModelSpec("odd-1", "Odd One", 8_192, 2_048)
            return [good, ModelSpec("odd-2", "Odd Two", 2**64, 1), ModelSpec("", "", 1, 1), good, good]

    class Failing(Lister):
        """A gateway of a third party with a bug."""

        provider = ProviderSpec("Failing", (), open_ended=True)

        async def list_models(self, *, key: str) -> list[ModelSpec] | None:
            raise KeyError(key)

    provider.models = whole({"data": [{}, GOOD[0]]})
    gateways: dict[str, LLMGateway] = {
        "Failing": Failing(),
        "Odd": Odd(),
        "Scripted": ScriptedGateway(),
        "Lab": gateway,
    }
    found = await ListModels(gateways)({})
    assert [(spec.name, [model.identifier for model in spec.models]) for spec in found.specs] == [
        ("Failing", []),
        ("Odd", ["odd-1"]),
        ("Scripted", ["scripted-1", "scripted-mute"]),
        ("Lab", ["good-1"]),
    ]
    failing, odd = found.remarks
    assert failing == "Failing could not be asked for its models: its gateway failed"
    assert odd == (
        "Odd lists models that are skipped: number 2: its context window must be 1 to 100000000 tokens; "
        "number 3: its id must have 1 to 500 characters; number 4: odd-1 is listed twice; "
        "number 5: odd-1 is listed twice"
    )
