"""A gateway to a server with a protocol of JSON lines: one line asks, and each line of the answer is [kind, value]."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from urllib.parse import urlsplit

from baio_domain import errors
from baio_domain.entities import Model, ModelSpec, ProviderSpec, Usage
from baio_domain.ports import Finished, GatewayOptions, LLMGateway
from baio_domain.prompts import Turn

SHOUTING = ProviderSpec("Shouting", (ModelSpec("loud-1", "Loud One", context_window=8_000, max_output_tokens=2_000),))

MAX_LINE_BYTES = 2**20  # a long text would break at the 64 KiB that asyncio allows

ERRORS: dict[str, type[errors.BaioError]] = {
    "unknown key": errors.KeyRefused,
    "unknown model": errors.ModelRefused,
    "prompt too long": errors.PromptTooLong,
    "prompt refused": errors.PromptRefused,
    "rate limited": errors.ProviderRateLimited,
    "timed out": errors.ProviderTooSlow,
}


class ShoutingGateway(LLMGateway):
    def __init__(self, options: GatewayOptions) -> None:
        self.provider = options.provider or SHOUTING
        self.server = urlsplit(options.base_url or "tcp://127.0.0.1:7777")

    async def stream(self, *, key: str, model: Model, prompt: Sequence[Turn]) -> AsyncGenerator[str | Finished, None]:
        writer = None
        try:
            reader, writer = await asyncio.open_connection(self.server.hostname, self.server.port, limit=MAX_LINE_BYTES)
            writer.write(json.dumps([key, model.identifier, [turn.content for turn in prompt]]).encode() + b"\n")
            async for line in reader:
                kind, value = json.loads(line)
                if kind == "text" and value:
                    yield value
                elif kind == "error":
                    raise ERRORS.get(value, errors.ProviderBroken)
                elif kind == "end":
                    yield Finished("stop", model.identifier, Usage(*value))
        except (OSError, ValueError):
            raise errors.ProviderBroken from None
        finally:
            if writer is not None:
                writer.close()

    async def aclose(self) -> None:
        pass


def gateway(options: GatewayOptions) -> LLMGateway:
    return ShoutingGateway(options)
