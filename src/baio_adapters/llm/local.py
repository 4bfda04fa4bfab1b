"""The embedded model: an answer without anybody's key and without the internet, from a process of its own.

The model runs in a child process behind the ordinary gateway for OpenAI's protocol: what crashes there does not touch
the process that holds users' keys.
"""

import asyncio
import json
import logging
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from importlib.util import find_spec
from pathlib import Path
from typing import final

from baio_adapters.llm.openai import OpenAIGateway
from baio_adapters.llm.weights import NAME
from baio_domain.entities import Model, ModelSpec, ProviderSpec
from baio_domain.errors import ProviderBroken
from baio_domain.ports import Finished, GatewayOptions, LLMGateway
from baio_domain.prompts import Turn

logger = logging.getLogger("baio.local")

# Three quarters of the window are for what is asked: about a thousand tokens of history, which it takes some seconds to
# read.
DEMONSTRATION = ModelSpec("smollm2-135m", "SmolLM2 135M (demo, often wrong about biology)", 1_400, 512)


def provider_of(model_file: str) -> ProviderSpec:
    """The provider that offers this file's model: the demonstration, or whatever somebody has put in its place."""
    name = Path(model_file).stem
    other = ModelSpec(name, name, context_window=4_096, max_output_tokens=1_024)
    return ProviderSpec("BAiO local (demo)", (DEMONSTRATION if Path(model_file).name == NAME else other,))


START_TIMEOUT_SECONDS = 60.0
"""Seconds by which the child listens; it takes one or two."""

EXIT_TIMEOUT_SECONDS = 0.5
"""Seconds from the end of a process's connections to its own."""

_SERVER = Path(__file__).with_name("local_server.py")
_NEEDED_FROM_ENVIRONMENT = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "TMPDIR", "TEMP")


@final
class LocalGateway(LLMGateway):
    """Starts the child when the first question is asked, and again after it has died. Any key will do."""

    def __init__(self, options: GatewayOptions) -> None:
        if options.model_file is None:
            raise LookupError("There is no file with a model's weights.")
        if find_spec("xllamacpp") is None:
            raise LookupError("The embedded model needs an extra: pip install 'baio[local]'")
        self.provider = options.provider or provider_of(options.model_file)
        self._model_file = options.model_file
        self._child: _Child | None = None
        self._starting: asyncio.Task[_Child] | None = None

    async def stream(self, *, key: str, model: Model, prompt: Sequence[Turn]) -> AsyncGenerator[str | Finished, None]:
        """Start the child unless it runs, and ask it; the caller's key stays here."""
        del key
        for attempt in range(2):
            child, begun = await self._running(), False
            try:
                async with aclosing(child.gateway.stream(key=child.key, model=model, prompt=prompt)) as answer:
                    async for item in answer:
                        begun = True
                        yield item
            except ProviderBroken:
                # Where it has just died, nobody has answered yet, and asking again costs nobody anything.
                if begun or attempt or not await asyncio.to_thread(child.has_died):
                    raise
            else:
                return

    async def check_key(self, *, key: str) -> bool:
        """Every key will do."""
        return bool(key.strip())

    async def aclose(self) -> None:
        """End the child."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait({self._starting})
        if self._child is not None:
            await self._child.gateway.aclose()
            await asyncio.to_thread(self._child.end)

    async def _running(self) -> "_Child":
        if self._child is not None and self._child.alive:
            return self._child
        # One start for all who wait, and whoever leaves meanwhile leaves it to the others.
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._start())
        return await asyncio.shield(self._starting)

    async def _start(self) -> "_Child":
        if self._child is not None:
            logger.warning("embedded model died")
            await self._child.gateway.aclose()
        self._child = child = await asyncio.to_thread(_Child, self._model_file, self.provider)
        logger.info("embedded model ready")
        return child


class _Child:
    """The child process, listening. Raises ProviderBroken when it doesn't get that far."""

    def __init__(self, model_file: str, provider: ProviderSpec) -> None:
        self.key = secrets.token_urlsafe(32)
        self._process = subprocess.Popen(  # noqa: S603 - our own file
            [sys.executable, "-I", str(_SERVER)],
            stdin=subprocess.PIPE,  # when this process ends, however it does, the pipe closes and the child ends
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _NEEDED_FROM_ENVIRONMENT if name in os.environ},
            text=True,
        )
        model = provider.models[0]
        request = {
            "model": model_file,
            "key": self.key,
            "alias": model.identifier,
            # Tokens are estimated, so that there is some room beyond the window for where the estimate is too low.
            "context": model.context_window * 3 // 2,
            "answer": model.max_output_tokens,
        }
        self.base_url = self._begin(request) + "/v1"
        self.gateway = OpenAIGateway(
            GatewayOptions(self.base_url, connect_seconds=5, provider=provider, quirks=frozenset({"no-keep-alive"}))
        )

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def has_died(self) -> bool:
        """Whether it has ended, or is just about to."""
        try:
            self._process.wait(EXIT_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def _begin(self, request: dict[str, object]) -> str:
        """Say what is wanted, over the pipe: anybody can read a process's arguments. The address it listens on."""
        assert self._process.stdin is not None  # noqa: S101 - tells the type checker
        assert self._process.stdout is not None  # noqa: S101 - as above
        too_late = threading.Timer(START_TIMEOUT_SECONDS, self._process.kill)  # which ends its output
        too_late.start()
        address = ""
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            for line in self._process.stdout:
                if line.startswith("http://127.0.0.1:"):
                    address = line.strip()
                    return address
        except BrokenPipeError:
            pass
        finally:
            too_late.cancel()
            if not address:
                self.end()
        logger.error("embedded model did not start", extra={"status": self._process.returncode})
        raise ProviderBroken("The embedded model did not start.")


def gateway(options: GatewayOptions) -> LLMGateway:
    """The embedded model's gateway; LookupError where there is none to run, or nothing to run it."""
    return LocalGateway(options)
