"""Logs say why a provider could not be used: the kind of failure and its errno or field, and nothing secret."""

import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from baio_adapters.llm.anthropic import AnthropicGateway
from baio_adapters.llm.openai import OpenAIGateway
from baio_domain.entities import Model, ModelSpec, ProviderSpec
from baio_domain.errors import BaioError, ProviderBroken, ProviderTooSlow
from baio_domain.ports import GatewayOptions, LLMGateway
from baio_domain.testing import KEY, PROMPT, PROVIDER_TEXT, check_nothing_leaks
from tests.integration.scripted_provider import (
    Behaviour,
    ScriptedProvider,
    cut_after,
    gzip_bomb,
    reset_after,
    whole,
)

pytestmark = pytest.mark.anyio

LAB = ProviderSpec("Lab", (ModelSpec("x", "X", 8_192, 2_048, streaming=False),))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=[OpenAIGateway, AnthropicGateway])
def protocol(request: pytest.FixtureRequest) -> type[OpenAIGateway | AnthropicGateway]:
    """The gateway of each protocol."""
    kind: type[OpenAIGateway | AnthropicGateway] = request.param
    return kind


@pytest.fixture
def full_socket() -> Iterator[str]:
    """The URL of a server that accepts no connection any more."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        address = server.getsockname()
        waiting = [socket.socket() for _ in range(8)]
        for each in waiting:
            each.settimeout(0)
            each.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}/v1"
        for each in waiting:
            each.close()


async def failed(gateway: LLMGateway) -> BaioError:
    """The error that a question raises, which leaks nothing."""
    model = Model.of(1, 1, gateway.provider.models[0])
    async with aclosing(gateway.stream(key=KEY, model=model, prompt=PROMPT)) as stream:
        with pytest.raises(BaioError) as raised:
            await anext(stream)
    check_nothing_leaks(raised.value)
    await gateway.aclose()
    return raised.value


def logged(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """What the only line about a provider says besides its message; no line of any level says anything secret."""
    written = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    for secret in (KEY, KEY[-8:], "canary-of-the-prompt", PROVIDER_TEXT):
        assert secret not in written
    [record] = [record for record in caplog.records if record.name == "baio.providers"]
    names = ("provider", "why", "cause", "errno", "field", "status")
    return {name: value for name, value in vars(record).items() if name in names}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "http://no-such-host.invalid/v1",
            {"why": "dns", "cause": "ClientConnectorDNSError"},
        ),
        (
            "http://127.0.0.1:9/v1",
            {"why": "refused", "cause": "ConnectionRefusedError", "errno": "ECONNREFUSED"},
        ),
    ],
    ids=["dns", "refused"],
)
async def test_a_provider_that_can_not_be_reached_is_logged_with_the_reason(
    protocol: type[OpenAIGateway], caplog: pytest.LogCaptureFixture, url: str, said: dict[str, str]
) -> None:
    caplog.set_level(logging.DEBUG)
    assert type(await failed(protocol(GatewayOptions(base_url=url, provider=LAB)))) is ProviderBroken
    found = logged(caplog)
    if said["why"] == "dns":
        assert found.pop("errno").startswith(("EAI_", "-"))  # which one depends on the resolver
    assert found == {"provider": "Lab", **said}


async def test_a_connection_that_takes_too_long_is_logged_as_a_timeout(
    protocol: type[OpenAIGateway], caplog: pytest.LogCaptureFixture, full_socket: str
) -> None:
    caplog.set_level(logging.DEBUG)
    options = GatewayOptions(base_url=full_socket, connect_seconds=0.2, provider=LAB)
    assert type(await failed(protocol(options))) is ProviderTooSlow
    assert logged(caplog)["why"] == "timeout"


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (reset_after(), {"why": "reset", "errno": "ECONNRESET"}),
        (cut_after(), {"why": "reset"}),
        (gzip_bomb(), {"why": "encoding", "cause": "RemoteProtocolError"}),
    ],
    ids=["reset", "cut", "compressed"],
)
async def test_a_connection_that_breaks_is_logged_with_the_reason(
    protocol: type[OpenAIGateway],
    provider: ScriptedProvider,
    caplog: pytest.LogCaptureFixture,
    behaviour: Behaviour,
    said: dict[str, str],
) -> None:
    caplog.set_level(logging.DEBUG)
    provider.script(behaviour)
    assert type(await failed(protocol(GatewayOptions(base_url=provider.base_url, provider=LAB)))) is ProviderBroken
    found = logged(caplog)
    assert {name: found.get(name) for name in said} == said


async def test_an_answer_that_can_not_be_read_is_logged_with_the_field(
    provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    provider.script(whole({"choices": [{"message": 7, "finish_reason": f"{PROVIDER_TEXT}"}]}))
    gateway = OpenAIGateway(GatewayOptions(base_url=provider.base_url, provider=LAB))
    assert type(await failed(gateway)) is ProviderBroken
    assert logged(caplog) == {"why": "field", "cause": "ValidationError", "field": "$.choices[0].message"}


@pytest.fixture
async def lab(provider: ScriptedProvider) -> AsyncIterator[OpenAIGateway]:
    """A gateway to the scripted provider."""
    made = OpenAIGateway(GatewayOptions(base_url=provider.base_url, provider=LAB))
    yield made
    await made.aclose()


async def test_a_list_of_models_that_is_no_json_is_logged_as_such(
    lab: OpenAIGateway, provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    provider.models = whole(f"<html>{PROVIDER_TEXT}</html>")
    with pytest.raises(ProviderBroken):
        await lab.list_models(key=KEY)
    assert logged(caplog) == {"why": "json", "cause": "JSONDecodeError"}
