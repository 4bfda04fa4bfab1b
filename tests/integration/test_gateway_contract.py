"""All gateways fulfil one contract: the scripted one, and the others against a provider on a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import pytest

from baio_adapters.llm import local
from baio_adapters.llm.anthropic import AnthropicGateway
from baio_adapters.llm.openai import OpenAIGateway
from baio_adapters.llm.scripted import ScriptedGateway, Step
from baio_domain.entities import ModelSpec, ProviderSpec, Usage
from baio_domain.errors import ParametersRefused, ToolsRefused
from baio_domain.parameters import Parameters
from baio_domain.ports import Called, Finished, GatewayOptions, ParameterGateway, Thinking
from baio_domain.testing import FAILURES, PROMPT, Bench, ParameterBench, ParameterGatewayContract, Sent
from tests.integration.scripted_provider import (
    Behaviour,
    ScriptedProvider,
    answer,
    call_tools,
    cut_after,
    error_event,
    hang_after,
    refuse,
    thoughtful,
    unfinished,
)


@final
class ScriptedBench(ParameterBench):
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
        self._script(*texts, FAILURES[failure]())
        return True

    def think(self, thoughts: Sequence[str], *texts: str) -> bool:
        self._script(*map(Thinking, thoughts), *texts, Finished("stop", "scripted-1", Usage(11, 7)))
        return True

    @property
    def offered(self) -> Sequence[Sequence[str]]:
        return [[tool.name for tool in each.tools] for each in self._scripted.asked]

    @property
    def sent(self) -> Sequence[Sent]:
        calls = [call for turn in self._scripted.asked[-1].prompt for call in turn.calls]
        return [(call.name, json.loads(call.arguments), call.result) for call in calls]

    def call(self, calls: Sequence[tuple[str, str]], *texts: str) -> None:
        made = [Called(name, arguments or "{}") for name, arguments in calls]
        self._script(*texts, *(Thinking() for _ in made), *made, Finished("tool_calls", "scripted-1", Usage(11, 7)))

    def call_half(self, *texts: str) -> None:
        self._script(*texts, Thinking())

    def refuse_tools(self) -> None:
        self._script(ToolsRefused())

    @property
    def parameters(self) -> Parameters:
        return self._scripted.asked[-1].parameters

    def refuse_parameter(self, name: str) -> None:
        self._script(ParametersRefused(parameters=name))

    async def closed(self) -> bool:
        return self._scripted.closed == 1

    def _script(self, *steps: Step) -> None:
        self._scripted.script(*(step for step in steps if step != ""))


OPENAI: dict[str, Behaviour] = {
    "key": refuse(401, code="invalid_api_key"),
    "model": refuse(404, code="model_not_found"),
    "too long": refuse(400, code="context_length_exceeded"),
    "prompt": refuse(400),
    "rate": refuse(429, retry_after=7),
    "broken": refuse(500),
    "slow": refuse(408),
}

ANTHROPIC: dict[str, Behaviour] = {
    "key": refuse(401, code="authentication_error"),
    "model": refuse(404, code="not_found_error"),
    "too long": refuse(400, code="invalid_request_error", says="prompt is too long: 9000 tokens > 8000 maximum"),
    "prompt": refuse(400, code="invalid_request_error"),
    "rate": refuse(429, code="rate_limit_error", retry_after=7),
    "broken": refuse(529, code="overloaded_error"),
    "slow": refuse(504, code="timeout_error"),
}


WIRE = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning_effort",
    "output_config.effort": "reasoning_effort",
    "seed": "seed",
}
"""What the parameters are called in requests."""


@final
class HttpBench(ParameterBench):
    """A gateway and the scripted provider, with its error responses and the code of its rate limit in mid-stream."""

    def __init__(
        self, provider: ScriptedProvider, gateway: ParameterGateway, refusals: Mapping[str, Behaviour], rate_limit: str
    ) -> None:
        self.gateway = gateway
        self._provider = provider
        self._refusals = refusals
        self._rate_limit = rate_limit

    @property
    def asked(self) -> Sequence[tuple[str, str, Sequence[str]]]:
        return [
            (
                request.headers.get("x-api-key") or request.headers["authorization"].removeprefix("Bearer "),
                request.body["model"],
                [
                    *([request.body["system"]] if "system" in request.body else []),
                    *(message["content"] for message in request.body["messages"]),
                ],
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
            self._provider.script(self._refusals[failure])
        elif failure == "broken":
            self._provider.script(cut_after(*texts))
        else:
            self._provider.script(error_event(*texts, code=self._rate_limit))
        return True

    def think(self, thoughts: Sequence[str], *texts: str) -> bool:
        self._provider.script(thoughtful(thoughts, *texts))
        return True

    @property
    def offered(self) -> Sequence[Sequence[str]]:
        tools = [request.body.get("tools", []) for request in self._provider.requests]
        return [[tool.get("function", tool)["name"] for tool in each] for each in tools]

    @property
    def sent(self) -> Sequence[Sent]:
        return sent_calls(self._provider.requests[-1].body["messages"])

    def call(self, calls: Sequence[tuple[str, str]], *texts: str) -> None:
        self._provider.script(call_tools(calls, *texts))

    def call_half(self, *texts: str) -> None:
        self._provider.script(call_tools([("now", '{"a": 1}')], *texts, cut=True))

    def refuse_tools(self) -> None:
        self._provider.script(refuse(400, says="llama-3 does not support tools"))

    @property
    def parameters(self) -> Parameters:
        body = self._provider.requests[-1].body
        body |= {f"output_config.{name}": value for name, value in body.get("output_config", {}).items()}
        if body.get("max_tokens") == 128_000:  # which Anthropic requires
            del body["max_tokens"]
        return {WIRE[name]: value for name, value in body.items() if name in WIRE}

    def refuse_parameter(self, name: str) -> None:
        accepted = self.gateway.provider.accepted(self.gateway.provider.models[0].identifier)
        told = accepted[name].sent_as or name
        self._provider.script(refuse(400, says=f"Unsupported parameter: '{told}' is not supported with this model."))

    async def closed(self) -> bool:
        try:
            await asyncio.to_thread(self._provider.wait_until_left, -1, 1)
        except TimeoutError:
            return False
        return True


def sent_calls(messages: Sequence[Mapping[str, Any]]) -> list[Sent]:
    """The calls in a request of either protocol. Each is answered before anything else is said."""
    sent: list[Sent] = []
    for number, message in enumerate(messages):
        blocks = message["content"] if isinstance(message.get("content"), list) else []
        calls = [
            *(
                (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
                for call in message.get("tool_calls", ())
            ),
            *((block["id"], block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"),
        ]
        if calls:
            after = messages[number + 1 : number + 1 + len(calls)]
            results = {each["tool_call_id"]: each["content"] for each in after if each["role"] == "tool"}
            if not results:
                results = {block["tool_use_id"]: block["content"] for block in after[0]["content"]}
            sent += [(name, arguments, results[id_]) for id_, name, arguments in calls]
    return sent


class TestScriptedGateway(ParameterGatewayContract):
    """The scripted gateway fulfils the contract."""

    @pytest.fixture
    def bench(self) -> Bench:
        return ScriptedBench()


class TestOpenAIGateway(ParameterGatewayContract):
    """OpenAI's gateway fulfils the contract."""

    @pytest.fixture
    async def bench(self, provider: ScriptedProvider) -> AsyncIterator[Bench]:
        gateway = OpenAIGateway(GatewayOptions(base_url=provider.base_url))
        yield HttpBench(provider, gateway, OPENAI, "rate_limit_exceeded")
        await gateway.aclose()


class TestOpenAICompatibleGateway(ParameterGatewayContract):
    """It also does for another provider with OpenAI's protocol."""

    @pytest.fixture
    async def bench(self, provider: ScriptedProvider) -> AsyncIterator[Bench]:
        elsewhere = ProviderSpec("Elsewhere", (ModelSpec("llama-3", "Llama 3", 8_192, 2_048),))
        gateway = OpenAIGateway(
            GatewayOptions(base_url=provider.base_url, provider=elsewhere, quirks=frozenset({"no-keep-alive"}))
        )
        yield HttpBench(provider, gateway, OPENAI, "rate_limit_exceeded")
        await gateway.aclose()


class TestLocalGateway(ParameterGatewayContract):
    """The embedded model's gateway does, with a child process that only prints the scripted provider's URL."""

    @pytest.fixture
    async def bench(
        self, provider: ScriptedProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[Bench]:
        child = tmp_path / "child.py"
        url = provider.base_url.removesuffix("/v1")
        child.write_text(f"import sys; print({url!r}, flush=True); sys.stdin.read()")
        monkeypatch.setattr(local, "_SERVER_SCRIPT", child)
        gateway = local.LocalGateway(GatewayOptions(model_file="a.gguf"))
        yield HttpBench(provider, gateway, OPENAI, "rate_limit_exceeded")
        await gateway.aclose()

    async def test_each_request_carries_its_key_its_model_and_its_prompt(self, bench: Bench) -> None:
        """Except the user's key, which is not passed on: the child process has its own."""
        await asyncio.gather(*(self.items(bench, f"sk-of-user-{number}") for number in range(10)))
        assert len({key for key, _, _ in bench.asked}) == 1
        assert not any(key.startswith("sk-of-user") for key, _, _ in bench.asked)
        model = bench.gateway.provider.models[0].identifier
        assert {(asked, tuple(texts)) for _, asked, texts in bench.asked} == {
            (model, tuple(turn.content for turn in PROMPT))
        }


class TestAnthropicGateway(ParameterGatewayContract):
    """Anthropic's gateway fulfils the contract."""

    @pytest.fixture
    async def bench(self, provider: ScriptedProvider) -> AsyncIterator[Bench]:
        gateway = AnthropicGateway(GatewayOptions(base_url=provider.base_url.removesuffix("/v1")))
        yield HttpBench(provider, gateway, ANTHROPIC, "rate_limit_error")
        await gateway.aclose()
