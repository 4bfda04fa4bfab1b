"""The gateways against ``llmock``, an independent implementation of OpenAI's and Anthropic's APIs.

It can't share a misreading of the APIs with the gateways, as the scripted provider of the other tests could.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest
from llmock.scenarios import Fail, Reply, StreamFault
from llmock.testing import LLMockServer

from baio_adapters.llm.anthropic import AnthropicGateway
from baio_adapters.llm.openai import OpenAIGateway
from baio_domain.entities import Model
from baio_domain.errors import (
    BaioError,
    KeyRefused,
    ModelRefused,
    PromptRefused,
    ProviderBroken,
    ProviderRateLimited,
)
from baio_domain.ports import Finished, GatewayItem, GatewayOptions, LLMGateway
from baio_domain.testing import KEY, PROMPT, check_nothing_leaks

pytestmark = pytest.mark.anyio

ANSWER = "A codon is three nucleotides, as in „AUG“ 🧬."


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server() -> Iterator[LLMockServer]:
    """llmock on a real socket."""
    with LLMockServer() as running:
        yield running


@pytest.fixture
def peer(server: LLMockServer) -> LLMockServer:
    """llmock in its initial state."""
    server.state.reset()
    return server


@pytest.fixture(params=["openai", "anthropic"])
async def gateway(request: pytest.FixtureRequest, peer: LLMockServer) -> AsyncIterator[LLMGateway]:
    """Each gateway over HTTP."""
    protocol: str = request.param
    make = {"openai": OpenAIGateway, "anthropic": AnthropicGateway}[protocol]
    made = make(GatewayOptions(base_url=peer.base_url(protocol)))
    yield made
    await made.aclose()


async def items(gateway: LLMGateway) -> list[GatewayItem]:
    """Everything that the stream yields."""
    model = Model.of(1, 1, gateway.provider.models[0])
    async with aclosing(gateway.stream(key=KEY, model=model, prompt=PROMPT)) as stream:
        return [item async for item in stream]


async def test_an_answer_arrives_complete_and_finished(gateway: LLMGateway, peer: LLMockServer) -> None:
    peer.state.scenarios.add(Reply(text=ANSWER))
    *texts, last = await items(gateway)
    assert "".join(str(text) for text in texts) == ANSWER
    assert isinstance(last, Finished)
    assert (last.reason, last.model) == ("stop", gateway.provider.models[0].identifier)
    assert last.usage is not None
    assert last.usage.prompt_tokens > 0
    assert last.usage.completion_tokens > 0


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, PromptRefused),
        (401, KeyRefused),
        (403, KeyRefused),
        (404, ModelRefused),
        (429, ProviderRateLimited),
        (500, ProviderBroken),
        (503, ProviderBroken),
    ],
)
async def test_a_refusal_becomes_the_right_error(
    gateway: LLMGateway, peer: LLMockServer, status: int, kind: type[BaioError]
) -> None:
    peer.state.scenarios.add(Fail(status, retry_after=7 if status == 429 else None))
    with pytest.raises(BaioError) as raised:
        await items(gateway)
    assert type(raised.value) is kind
    assert raised.value.retry_after == (7 if status == 429 else None)
    check_nothing_leaks(raised.value)
    assert len(peer.state.journal.records()) == 1


@pytest.mark.parametrize("fault", ["disconnect", "malformed"])
async def test_a_broken_stream_is_a_broken_provider(gateway: LLMGateway, peer: LLMockServer, fault: str) -> None:
    peer.state.scenarios.add(Reply(text=ANSWER), StreamFault(fault, after_chunks=5))  # type: ignore[arg-type]
    with pytest.raises(ProviderBroken) as raised:
        await items(gateway)
    check_nothing_leaks(raised.value)


async def test_a_stream_that_ends_early_is_not_finished(gateway: LLMGateway, peer: LLMockServer) -> None:
    peer.state.scenarios.add(Reply(text=ANSWER), StreamFault("truncate", after_chunks=5))
    texts = await items(gateway)
    assert texts
    assert ANSWER.startswith("".join(str(text) for text in texts))


async def test_the_models_are_listed_and_the_key_is_accepted(gateway: LLMGateway) -> None:
    listed = await gateway.list_models(key=KEY)
    assert listed
    assert all(spec.identifier and spec.context_window > 0 and spec.max_output_tokens > 0 for spec in listed)
    assert await gateway.check_key(key=KEY)
