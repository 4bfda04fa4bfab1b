"""Both gateways keep the one contract: the scripted one, and OpenAI's against a provider on a real socket."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, final

import pytest

from baio_adapters.llm.openai import OpenAIGateway
from baio_adapters.llm.scripted import ScriptedGateway, Step
from baio_domain.entities import Usage
from baio_domain.ports import Finished, GatewayOptions
from tests.gateway_contract import PROMISED, Bench, GatewayContract
from tests.integration.scripted_provider import (
    Behaviour,
    ScriptedProvider,
    answer,
    cut_after,
    error_event,
    hang_after,
    refuse,
    unfinished,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {}


@final
class ScriptedBench(Bench):
    """The scripted gateway, which is its own provider."""

    def __init__(self) -> None:
        self.gateway = self._scripted = ScriptedGateway()

    @property
    def asked(self) -> Sequence[tuple[str, str, Sequence[str]]]:
        asked = self._scripted.asked
        return [(each.key, each.model.identifier, [turn.content for turn in each.prompt]) for each in asked]

    def answer(self, *texts: str) -> None:
        self._script(*texts, Finished("stop", "scripted-1", Usage(11, 7)))

    def hang_after(self, *texts: str) -> None:
        self._script(*texts, asyncio.Event())

    def stop_after(self, *texts: str) -> None:
        self._script(*texts)

    def fail_after(self, failure: str, *texts: str) -> bool:
        self._script(*texts, PROMISED[failure]())
        return True

    async def closed(self) -> bool:
        return self._scripted.closed == 1

    def _script(self, *steps: Step) -> None:
        self._scripted.script(*(step for step in steps if step != ""))


REFUSALS: dict[str, Behaviour] = {
    "key": refuse(401, code="invalid_api_key"),
    "model": refuse(404, code="model_not_found"),
    "too long": refuse(400, code="context_length_exceeded"),
    "prompt": refuse(400),
    "rate": refuse(429, retry_after=7),
    "broken": refuse(500),
    "slow": refuse(408),
}


@final
class OpenAIBench(Bench):
    """OpenAI's gateway and the scripted provider."""

    def __init__(self, provider: ScriptedProvider) -> None:
        self.gateway = OpenAIGateway(GatewayOptions(base_url=provider.base_url))
        self._provider = provider

    @property
    def asked(self) -> Sequence[tuple[str, str, Sequence[str]]]:
        return [
            (
                request.headers["authorization"].removeprefix("Bearer "),
                request.body["model"],
                [message["content"] for message in request.body["messages"]],
            )
            for request in self._provider.requests
        ]

    def answer(self, *texts: str) -> None:
        self._provider.script(answer(*texts))

    def hang_after(self, *texts: str) -> None:
        self._provider.script(hang_after(*texts))

    def stop_after(self, *texts: str) -> None:
        self._provider.script(unfinished(*texts))

    def fail_after(self, failure: str, *texts: str) -> bool:
        if not texts:
            self._provider.script(REFUSALS[failure])
        elif failure == "broken":
            self._provider.script(cut_after(*texts))
        else:
            self._provider.script(error_event(*texts, code="rate_limit_exceeded"))
        return True

    async def closed(self) -> bool:
        try:
            await asyncio.to_thread(self._provider.wait_until_left, -1, 1)
        except TimeoutError:
            return False
        return True


class TestScriptedGateway(GatewayContract):
    """The scripted gateway keeps the contract."""

    @pytest.fixture
    def bench(self) -> Bench:
        return ScriptedBench()


class TestOpenAIGateway(GatewayContract):
    """OpenAI's gateway keeps the contract."""

    @pytest.fixture
    async def bench(self, provider: ScriptedProvider) -> AsyncIterator[Bench]:
        made = OpenAIBench(provider)
        yield made
        await made.gateway.aclose()
