"""The connections to providers, on real sockets: what proxies and servers do to them costs no question."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from baio_adapters.llm.http import KEEP_ALIVE_SECONDS
from baio_adapters.llm.openai import OpenAIGateway
from baio_domain.entities import Model, ModelSpec, ProviderSpec
from baio_domain.ports import GatewayOptions
from baio_domain.testing import KEY, PROMPT
from tests.integration.scripted_provider import Exchange, ScriptedProvider

pytestmark = pytest.mark.anyio

MODEL = ModelSpec("x", "X", 8_192, 2_048)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def gateway(provider: ScriptedProvider) -> AsyncIterator[OpenAIGateway]:
    options = GatewayOptions(base_url=provider.base_url, provider=ProviderSpec("Elsewhere", (MODEL,)))
    made = OpenAIGateway(options)
    yield made
    await made.aclose()


async def text(gateway: OpenAIGateway) -> str:
    async with aclosing(gateway.stream(key=KEY, model=Model.of(1, 1, MODEL), prompt=PROMPT)) as stream:
        return "".join([item async for item in stream if isinstance(item, str)])


async def test_a_long_header_costs_neither_an_answer_nor_a_list(
    gateway: OpenAIGateway, provider: ScriptedProvider
) -> None:
    policy = "https://example.org " * 3_000  # 60 KB

    async def answering(exchange: Exchange) -> None:
        await exchange.head(content_security_policy=policy)
        await exchange.text("A codon.")
        await exchange.finish()

    async def listing(exchange: Exchange) -> None:
        await exchange.head(200, "application/json", content_security_policy=policy)
        await exchange.chunk(b'{"data": [{"id": "x"}]}')
        await exchange.end()

    provider.script(answering)
    assert await text(gateway) == "A codon."
    provider.models = listing
    assert [spec.identifier for spec in await gateway.list_models(key=KEY) or ()] == ["x"]


async def test_a_connection_that_its_server_is_about_to_close_is_not_used_again(
    gateway: OpenAIGateway, provider: ScriptedProvider
) -> None:
    clients: list[Any] = []

    async def noting(exchange: Exchange) -> None:
        clients.append(exchange.writer.get_extra_info("peername"))
        await exchange.head()
        await exchange.text("A codon.")
        await exchange.finish()

    provider.script(noting, noting)
    for _ in range(2):
        assert await text(gateway) == "A codon."
        await asyncio.sleep(KEEP_ALIVE_SECONDS + 0.2)
    assert KEEP_ALIVE_SECONDS < 5  # after which servers on uvicorn or Node close an unused connection
    assert len(set(clients)) == 2
