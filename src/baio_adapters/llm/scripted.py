"""A gateway that plays scripted answers, for tests of everything except the providers."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

from baio_domain.entities import Model, ModelSpec, ProviderSpec
from baio_domain.errors import BaioError
from baio_domain.parameters import PARAMETERS, Accepted, Parameters
from baio_domain.ports import (
    NO_EXTRAS,
    NO_PARAMETERS,
    Called,
    Extras,
    ExtrasGateway,
    Finished,
    GatewayOptions,
    GatewayStream,
    LLMGateway,
    Thinking,
)
from baio_domain.prompts import Turn
from baio_domain.tools import ToolSpec

Step = str | Thinking | Called | Finished | BaioError | asyncio.Event
"""One step of a script: text, thinking or a call to yield, the end, an error to raise, or an event to wait for."""


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request to the gateway. Its repr does not show the key."""

    key: str = field(repr=False)
    model: Model
    prompt: Sequence[Turn]
    tools: Sequence[ToolSpec] = ()
    parameters: Parameters = field(default_factory=dict)
    extras: Extras = field(default_factory=dict)


@final
class ScriptedGateway(ExtrasGateway):
    """Plays one script for each request, in order; without a script, it echoes the last turn of the prompt."""

    extras = frozenset({"response_format", "stop", "tool_choice"})

    provider = ProviderSpec(
        "Scripted",
        (
            ModelSpec("scripted-1", "Scripted One", context_window=8_000, max_output_tokens=2_000),
            ModelSpec("scripted-mute", "Scripted Mute", 8_000, 2_000, system_role=False),
        ),
    ).with_defaults({name: Accepted() for name in PARAMETERS})

    def __init__(self, provider: ProviderSpec | None = None) -> None:
        if provider is not None:
            self.provider = provider.with_defaults(self.provider.parameters)
        self.asked: list[RecordedRequest] = []
        self.checked_keys: list[str] = []
        self.closed = 0
        self._scripts: deque[tuple[Step, ...]] = deque()

    def script(self, *steps: Step) -> None:
        """Queue a script for the next request that has none yet."""
        self._scripts.append(steps)

    async def stream(
        self,
        *,
        key: str,
        model: Model,
        prompt: Sequence[Turn],
        tools: Sequence[ToolSpec] = (),
        parameters: Parameters = NO_PARAMETERS,
        extras: Extras = NO_EXTRAS,
    ) -> GatewayStream:
        """Play the next script."""
        self.asked.append(RecordedRequest(key, model, tuple(prompt), tuple(tools), dict(parameters), dict(extras)))
        steps = self._scripts.popleft() if self._scripts else (prompt[-1].content, Finished("stop", model.identifier))
        try:
            for step in steps:
                await asyncio.sleep(0)  # like a real provider, never answer immediately
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, BaioError):
                    raise step
                else:
                    yield step
        finally:
            self.closed += 1

    async def check_key(self, *, key: str) -> bool:
        """Accept every key, or raise the next script's error."""
        self.checked_keys.append(key)
        for step in self._scripts.popleft() if self._scripts else ():
            if isinstance(step, BaioError):
                raise step
        return True

    async def list_models(self, *, key: str) -> list[ModelSpec] | None:
        """Check the key and list the provider's models."""
        await self.check_key(key=key)
        return list(self.provider.models)

    async def aclose(self) -> None:
        """Do nothing: no connection is open."""


def gateway(options: GatewayOptions) -> LLMGateway:
    """Build a scripted gateway."""
    del options
    return ScriptedGateway()
