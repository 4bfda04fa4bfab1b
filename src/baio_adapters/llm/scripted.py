"""A gateway that says what it is told to: for tests of everything but the provider."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import final

from baio_domain.entities import Model, ModelSpec, ProviderSpec
from baio_domain.errors import BaioError
from baio_domain.ports import Finished, GatewayOptions, LLMGateway
from baio_domain.prompts import Turn

Step = str | Finished | BaioError | asyncio.Event
"""One step of a script: text to yield, the end, a failure to raise, or an event to wait for."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a gateway was asked. The key does not show in its repr."""

    key: str = field(repr=False)
    model: Model
    prompt: Sequence[Turn]


@final
class ScriptedGateway(LLMGateway):
    """Plays one script per question, in order; with none left, it repeats the question's last turn."""

    provider = ProviderSpec(
        "Scripted",
        (
            ModelSpec("scripted-1", "Scripted One", context_window=8_000, max_output_tokens=2_000),
            ModelSpec("scripted-mute", "Scripted Mute", 8_000, 2_000, system_role=False),
        ),
    )

    def __init__(self, provider: ProviderSpec | None = None) -> None:
        if provider is not None:
            self.provider = provider
        self.asked: list[Asked] = []
        self.checked: list[str] = []
        self.closed = 0
        self._scripts: deque[tuple[Step, ...]] = deque()

    def script(self, *steps: Step) -> None:
        """Queue what the next unscripted question gets."""
        self._scripts.append(steps)

    async def stream(self, *, key: str, model: Model, prompt: Sequence[Turn]) -> AsyncGenerator[str | Finished, None]:
        """Play the next script."""
        self.asked.append(Asked(key, model, tuple(prompt)))
        steps = self._scripts.popleft() if self._scripts else (prompt[-1].content, Finished("stop", model.identifier))
        try:
            for step in steps:
                await asyncio.sleep(0)  # a provider is never there at once
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, BaioError):
                    raise step
                else:
                    yield step
        finally:
            self.closed += 1

    async def check_key(self, *, key: str) -> bool:
        """Take every key, or fail as the next script does."""
        self.checked.append(key)
        for step in self._scripts.popleft() if self._scripts else ():
            if isinstance(step, BaioError):
                raise step
        return True

    async def list_models(self, *, key: str) -> list[ModelSpec] | None:
        """Its own, after ``check_key``."""
        await self.check_key(key=key)
        return list(self.provider.models)

    async def aclose(self) -> None:
        """Nothing is open."""


def gateway(options: GatewayOptions) -> LLMGateway:
    """A scripted gateway, built like any other."""
    del options
    return ScriptedGateway()
