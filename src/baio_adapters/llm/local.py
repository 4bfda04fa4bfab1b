"""The embedded model: answers without an API key and without internet access.

The model runs in a child process and is asked through OpenAIGateway. A crash there does not affect the process that
holds the users' keys.
"""

import asyncio
import json
import logging
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import aclosing
from importlib.util import find_spec
from pathlib import Path
from typing import final

from baio_adapters.llm.openai import EXTRAS, PARAMETERS, OpenAIGateway
from baio_adapters.llm.weights import FILE_NAME
from baio_domain.entities import Model, ModelSpec, ProviderSpec
from baio_domain.errors import ProviderBroken
from baio_domain.parameters import Parameters
from baio_domain.ports import (
    NO_EXTRAS,
    NO_PARAMETERS,
    Extras,
    ExtrasGateway,
    GatewayOptions,
    GatewayStream,
    LLMGateway,
)
from baio_domain.prompts import Turn
from baio_domain.tools import ToolSpec

logger = logging.getLogger("baio.local")

# The window leaves about a thousand tokens for the prompt, which the model takes some seconds to read.
DEMO_MODEL = ModelSpec("smollm2-135m", "SmolLM2 135M (demo, often wrong about biology)", 1_400, 512)


def provider_for(model_file: str) -> ProviderSpec:
    """The provider of this file's model: the demo model, or any other GGUF file under its own name."""
    name = Path(model_file).stem
    other = ModelSpec(name, name, context_window=4_096, max_output_tokens=1_024)
    return ProviderSpec("BAiO local (demo)", (DEMO_MODEL if Path(model_file).name == FILE_NAME else other,))


START_TIMEOUT_SECONDS = 60.0
"""How long the child process may take to start; it takes one or two seconds."""

EXIT_TIMEOUT_SECONDS = 0.5
"""How long a crashed process may take to exit after its connections have closed."""

_SERVER_SCRIPT = Path(__file__).with_name("local_server.py")
_INHERITED_ENVIRONMENT = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "TMPDIR", "TEMP")


@final
class LocalGateway(ExtrasGateway):
    """Starts the child process at the first request, and again after it has died. Accepts any key."""

    extras = EXTRAS

    def __init__(self, options: GatewayOptions) -> None:
        if options.model_file is None:
            raise LookupError("no model file is configured")
        if find_spec("xllamacpp") is None:
            raise LookupError("the embedded model needs an extra: pip install 'baio[local]'")
        self.provider = (options.provider or provider_for(options.model_file)).with_defaults(PARAMETERS)
        self._model_file = options.model_file
        self._server: _ServerProcess | None = None
        self._starting: asyncio.Task[_ServerProcess] | None = None

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
        """Ask the child process, starting it if needed. The user's key is not passed on."""
        del key
        for attempt in range(2):
            server, answering = await self._ensure_running(), False
            try:
                stream = server.gateway.stream(
                    key=server.key, model=model, prompt=prompt, tools=tools, parameters=parameters, extras=extras
                )
                async with aclosing(stream) as answer:
                    async for item in answer:
                        answering = True
                        yield item
            except ProviderBroken:
                # If the process died before its first text, a second attempt is safe and costs nothing.
                if answering or attempt or not await asyncio.to_thread(server.wait_for_exit):
                    raise
            else:
                return

    async def check_key(self, *, key: str) -> bool:
        """Accept every key that is not blank."""
        return bool(key.strip())

    async def aclose(self) -> None:
        """End the child process."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait({self._starting})
        if self._server is not None:
            await self._server.gateway.aclose()
            await asyncio.to_thread(self._server.kill)

    async def _ensure_running(self) -> "_ServerProcess":
        if self._server is not None and self._server.alive:
            return self._server
        # All waiting requests share one start. It is shielded: cancelling one request must not cancel it for all.
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._start())
        return await asyncio.shield(self._starting)

    async def _start(self) -> "_ServerProcess":
        if self._server is not None:
            logger.warning("embedded model died")
            await self._server.gateway.aclose()
        self._server = server = await asyncio.to_thread(_ServerProcess, self._model_file, self.provider)
        logger.info("embedded model ready")
        return server


class _ServerProcess:
    """The child process, ready for requests. Raises ProviderBroken if it does not start."""

    def __init__(self, model_file: str, provider: ProviderSpec) -> None:
        self.key = secrets.token_urlsafe(32)
        self._process = subprocess.Popen(  # noqa: S603 - our own file
            [sys.executable, "-I", str(_SERVER_SCRIPT)],
            stdin=subprocess.PIPE,  # when this process ends in any way, the pipe closes and the child exits
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _INHERITED_ENVIRONMENT if name in os.environ},
            text=True,
            start_new_session=True,  # Ctrl-C in this process's terminal is not meant for the child
        )
        model = provider.models[0]
        request = {
            "model": model_file,
            "key": self.key,
            "alias": model.identifier,
            # Tokens are only estimated, so this leaves room for estimates that are too low.
            "context": model.context_window * 3 // 2,
            "answer": model.max_output_tokens,
        }
        self.base_url = self._start(request) + "/v1"
        self.gateway = OpenAIGateway(
            GatewayOptions(self.base_url, connect_seconds=5, provider=provider, quirks=frozenset({"no-keep-alive"}))
        )

    @property
    def alive(self) -> bool:
        """Whether it is running."""
        return self._process.poll() is None

    def wait_for_exit(self) -> bool:
        """Wait a moment for the process to exit; whether it did."""
        try:
            self._process.wait(EXIT_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """Kill the process and wait until it has ended."""
        self._process.kill()
        self._process.communicate()

    def _start(self, request: dict[str, object]) -> str:
        """Send the request over the pipe (every user can read a process's arguments) and wait for the server's URL."""
        assert self._process.stdin is not None  # noqa: S101 - tells the type checker
        assert self._process.stdout is not None  # noqa: S101 - as above
        timeout = threading.Timer(START_TIMEOUT_SECONDS, self._process.kill)  # which also ends the loop below
        timeout.start()
        url = ""
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            for line in self._process.stdout:
                if line.startswith("http://127.0.0.1:"):
                    url = line.strip()
                    return url
        except BrokenPipeError:
            pass
        finally:
            timeout.cancel()
            if not url:
                self.kill()
        logger.error("embedded model did not start", extra={"status": self._process.returncode})
        raise ProviderBroken("The embedded model did not start.")


def gateway(options: GatewayOptions) -> LLMGateway:
    """Build the embedded model's gateway. Raises LookupError without a model file or without the extra."""
    return LocalGateway(options)
