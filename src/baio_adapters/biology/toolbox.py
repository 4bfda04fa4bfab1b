"""The toolbox that runs tools in a child process, where neither time nor memory nor a crash costs the server."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, final

import msgspec

from baio_adapters.biology import installed_tools
from baio_domain.tool_calls import Arguments, complete_arguments, unknown_tool
from baio_domain.tools import (
    Tool,
    Toolbox,
    ToolInput,
    ToolOutcome,
    ToolRefused,
    ToolSpec,
    ToolState,
    error_result,
)

CALL_SECONDS = 10.0
"""How long a call may compute."""

QUEUE = 32
"""How many calls may wait while one computes."""

START_SECONDS = 60.0
"""How long the child process may take to start; it takes a third of a second."""

MAX_REPLY_BYTES = 4 * 1024 * 1024

COMMAND = (sys.executable, "-I", "-m", "baio_adapters.biology.worker")

logger = logging.getLogger("baio.tools")


class Reply(msgspec.Struct):
    """What the child process says of a call."""

    state: ToolState
    result: dict[str, Any]
    inputs: tuple[ToolInput, ...]
    line: str


@final
class WorkerToolbox(Toolbox):
    """Runs the installed tools in one child process, one call at a time.

    The process is started by the first call. It is killed when a call takes too long or nobody waits for it any more,
    and started again by the next call. It inherits no environment.
    """

    def __init__(
        self,
        tools: Mapping[str, Tool] | None = None,
        command: Sequence[str] = COMMAND,
        *,
        call_seconds: float = CALL_SECONDS,
        queue: int = QUEUE,
    ) -> None:
        self._tools = installed_tools() if tools is None else tools
        self._command = command
        self._call_seconds = call_seconds
        self._queue = queue
        self._calls = 0
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._ending: set[asyncio.Task[int]] = set()
        self._closed = False

    def specs(self) -> Sequence[ToolSpec]:
        """The installed tools' specs: BAiO's own first."""
        return [tool.spec for tool in self._tools.values()]

    async def run(self, name: str, arguments: Mapping[str, object]) -> ToolOutcome:
        """Call a tool in the child process, after the calls that came before."""
        tool = self._tools.get(name)
        if tool is None:
            return unknown_tool(name, self._tools, arguments)
        try:
            complete = complete_arguments(tool.spec.parameters, arguments)
        except ToolRefused as refused:
            return _ended(ToolState.REFUSED, refused.error, refused.detail, tool, Arguments(dict(arguments)))
        if self._calls > self._queue:
            detail = "Too many computations are waiting. Call again in some seconds."
            return _ended(ToolState.BUSY, "busy", detail, tool, complete)
        self._calls += 1
        try:
            async with self._turn:
                return await self._perform(tool, complete)
        finally:
            self._calls -= 1

    async def aclose(self) -> None:
        """Kill the child process; calls that run or wait are cancelled."""
        self._closed = True
        self._kill()
        if self._ending:
            await asyncio.wait(self._ending)

    async def _perform(self, tool: Tool, arguments: Arguments) -> ToolOutcome:
        """Have the child process perform a call, and kill it if it does not end well."""
        try:
            process = await self._started()
            async with asyncio.timeout(self._call_seconds):
                reply = await _ask(process, tool.spec.name, arguments)
        except TimeoutError:
            self._kill()
            logger.warning("tool took too long", extra={"tool": tool.spec.name})
            detail = (
                f"The computation took more than {self._call_seconds:g} seconds and was ended. Ask for less at once."
            )
            return _ended(ToolState.FAILED, "time-limit", detail, tool, arguments)
        except (OSError, EOFError, ValueError) as error:
            self._kill()
            if self._closed:
                return _ended(ToolState.CANCELLED, "cancelled", "The server is shutting down.", tool, arguments)
            logger.error("tool's process died", extra={"tool": tool.spec.name, "why": type(error).__name__})  # noqa: TRY400
            detail = "The computation ended early, perhaps for lack of memory. Ask for less at once."
            return _ended(ToolState.FAILED, "worker-died", detail, tool, arguments)
        except asyncio.CancelledError:
            self._kill()
            raise
        return ToolOutcome(
            reply.state,
            arguments.values,
            reply.result,
            reply.inputs,
            reply.line,
            tool.spec.library,
            arguments.coerced,
        )

    async def _started(self) -> asyncio.subprocess.Process:
        """The child process, ready for a call. Raises OSError or EOFError if it does not start."""
        if self._closed:
            raise EOFError
        if self._process is not None and self._process.returncode is None:
            return self._process
        self._process = process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=subprocess.PIPE,  # when this process ends in any way, the pipe closes and the child ends
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ},  # Windows needs that one
            limit=MAX_REPLY_BYTES,
            start_new_session=True,  # a tool's own child processes end with it
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                await _line(process)  # it says that it is ready
        except TimeoutError:
            raise EOFError from None
        return process

    def _kill(self) -> None:
        """Kill the child process, without waiting for its end."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            if sys.platform == "win32":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
        ending = asyncio.create_task(process.wait())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


async def _ask(process: asyncio.subprocess.Process, name: str, arguments: Arguments) -> Reply:
    """Send a call and wait for its reply. Raises OSError or EOFError if the process ends, ValueError for nonsense."""
    assert process.stdin is not None  # noqa: S101 - tells the type checker
    process.stdin.write(msgspec.json.encode({"tool": name, "arguments": arguments.values}) + b"\n")
    await process.stdin.drain()
    return msgspec.json.decode(await _line(process), type=Reply)


async def _line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None  # noqa: S101 - tells the type checker
    line = await process.stdout.readline()
    if not line:
        raise EOFError
    return line


def _ended(state: ToolState, error: str, detail: str, tool: Tool, arguments: Arguments) -> ToolOutcome:
    result = error_result(error, detail)
    return ToolOutcome(state, arguments.values, result, library=tool.spec.library, coerced=arguments.coerced)
