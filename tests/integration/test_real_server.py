"""The gateways of both protocols against llama.cpp's own server, which nobody wrote for these tests."""

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest

from baio_adapters.llm.anthropic import AnthropicGateway
from baio_adapters.llm.openai import OpenAIGateway
from baio_domain.entities import Model, ModelSpec, ProviderSpec, model_spec_problems
from baio_domain.errors import BaioError, KeyRefused, PromptTooLong
from baio_domain.ports import Finished, GatewayItem, GatewayOptions, LLMGateway, Thinking
from baio_domain.prompts import Turn
from tests.integration.local_model import LocalModel

pytestmark = pytest.mark.anyio

QUESTION = [Turn("system", "You are brief."), Turn("user", "What is a codon?")]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server() -> Iterator[LocalModel]:
    """The server."""
    with LocalModel() as running:
        yield running


@pytest.fixture(params=["OpenAI's", "Anthropic's"])
async def gateway(server: LocalModel, request: pytest.FixtureRequest) -> AsyncIterator[LLMGateway]:
    """A gateway of each protocol; the server speaks both."""
    lab = ProviderSpec("Lab", (ModelSpec(server.alias, "Small", 2_048, 64),))
    options = GatewayOptions(base_url=server.base_url, provider=lab, quirks=frozenset())
    made: LLMGateway = OpenAIGateway(options) if request.param == "OpenAI's" else AnthropicGateway(options)
    yield made
    await made.aclose()


async def items(gateway: LLMGateway, key: str, prompt: list[Turn], *, streaming: bool = True) -> list[GatewayItem]:
    """Everything that a stream yields, except thinking."""
    spec = ModelSpec(gateway.provider.models[0].identifier, "Small", 2_048, 64, streaming=streaming)
    async with aclosing(gateway.stream(key=key, model=Model.of(1, 1, spec), prompt=prompt)) as stream:
        return [item async for item in stream if not isinstance(item, Thinking)]


async def refused(gateway: LLMGateway, key: str, prompt: list[Turn], *, streaming: bool = True) -> type[BaioError]:
    """The error that a request raises."""
    with pytest.raises(BaioError) as raised:
        await items(gateway, key, prompt, streaming=streaming)
    return type(raised.value)


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_question_is_answered_and_counted(gateway: LLMGateway, server: LocalModel, *, streaming: bool) -> None:
    *texts, last = await items(gateway, server.key, QUESTION, streaming=streaming)
    assert "codon" in "".join(str(text) for text in texts).lower()
    assert isinstance(last, Finished)
    assert last.reason in {"stop", "length"}
    assert last.usage is not None
    assert last.usage.prompt_tokens > 5
    assert last.usage.completion_tokens > 5


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_prompt_that_is_too_long_is_refused_as_such(
    gateway: LLMGateway, server: LocalModel, *, streaming: bool
) -> None:
    prompt = [Turn("user", "nucleotide " * 20_000)]
    assert await refused(gateway, server.key, prompt, streaming=streaming) is PromptTooLong


async def test_a_wrong_key_is_refused_as_such(gateway: LLMGateway) -> None:
    assert await refused(gateway, "sk-of-somebody-else", QUESTION) is KeyRefused


async def test_its_model_is_listed(gateway: LLMGateway, server: LocalModel) -> None:
    listed = await gateway.list_models(key=server.key)
    assert listed is not None
    [spec] = listed
    assert spec.identifier == server.alias
    assert list(model_spec_problems(spec)) == []
    assert spec.context_window == 8_192
