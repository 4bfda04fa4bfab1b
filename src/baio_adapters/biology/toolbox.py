"""The toolbox that runs tools in a child process, where neither time nor memory nor a crash costs the server."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, final

import msgspec

from baio_adapters.biology import installed_tools
from baio_domain.entities import SequenceContent, StoredSequence, UnstoredSequence
from baio_domain.errors import SequenceFileRefused, TooManyFeatures, TooManyRecords, Unavailable
from baio_domain.ports import NO_METRICS, Metrics
from baio_domain.sequence_files import FileContents, Part, SequenceFile, SequenceFiles
from baio_domain.tool_calls import Arguments, complete_arguments, unknown_tool
from baio_domain.tools import (
    NOTHING_GIVEN,
    GivenSequence,
    Place,
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

CHUNK_BYTES = 262_144
"""How much of a file is sent to the child process at once."""

MAX_REPLY_BYTES = 4 * 1024 * 1024

COMMAND = (sys.executable, "-I", "-m", "baio_adapters.biology.worker")

logger = logging.getLogger("baio.tools")


class SequenceFacts(msgspec.Struct):
    """A sequence in a reply, without its content."""

    name: str
    description: str
    molecule: str
    topology: str
    length: int
    features: int
    sha256: str
    stored_bytes: int


class Reply(msgspec.Struct):
    """What the child process says of a job. What its kind of job has not is missing."""

    blobs: list[int]
    state: ToolState = ToolState.DONE
    result: dict[str, Any] = {}
    inputs: tuple[ToolInput, ...] = ()
    line: str | int = ""
    places: list[Place] = []
    sequences: list[SequenceFacts] = []
    format: str = ""
    sha256: str = ""
    refused: str = ""
    reason: str = ""

    def contents(self, blobs: Sequence[bytes]) -> list[UnstoredSequence]:
        """The sequences with their contents."""
        pairs = map(SequenceContent, blobs[::2], blobs[1::2])
        return [
            UnstoredSequence(**msgspec.structs.asdict(facts), content=content)
            for facts, content in zip(self.sequences, pairs, strict=True)
        ]


class NotDone(Exception):
    """A job was not done: ``state``, ``error`` and ``detail`` say why, as for a call of a tool."""

    def __init__(self, state: ToolState, error: str, detail: str) -> None:
        super().__init__(error)
        self.state = state
        self.error = error
        self.detail = detail


@final
class WorkerToolbox(Toolbox, SequenceFiles):
    """Runs the installed tools, and reads and writes files of sequences, in one child process: one job at a time.

    The process is started by the first job. It is killed when a job takes too long or nobody waits for it any more, and
    started again by the next job. It inherits no environment.
    """

    def __init__(
        self,
        tools: Mapping[str, Tool] | None = None,
        command: Sequence[str] = COMMAND,
        *,
        call_seconds: float = CALL_SECONDS,
        queue: int = QUEUE,
        metrics: Metrics = NO_METRICS,
    ) -> None:
        self._tools = installed_tools() if tools is None else tools
        self._command = command
        self._call_seconds = call_seconds
        self._queue = queue
        self._metrics = metrics
        self._jobs = 0
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._ending: set[asyncio.Task[int]] = set()
        self._closed = False

    @property
    def processes(self) -> int:
        """How many child processes run: none or one."""
        return int(self._process is not None and self._process.returncode is None)

    def specs(self) -> Sequence[ToolSpec]:
        """The installed tools' specs: BAiO's own first."""
        return [tool.spec for tool in self._tools.values()]

    async def run(
        self, name: str, arguments: Mapping[str, object], given: Mapping[str, GivenSequence] = NOTHING_GIVEN
    ) -> ToolOutcome:
        """Call a tool in the child process, after the jobs that came before."""
        tool = self._tools.get(name)
        if tool is None:
            return unknown_tool(name, self._tools, arguments)
        try:
            complete = complete_arguments(tool.spec.parameters, arguments)
        except ToolRefused as refused:
            self._metrics.tool_called(name, ToolState.REFUSED, 0.0)
            return _ended(ToolState.REFUSED, refused.error, refused.detail, tool, Arguments(dict(arguments)))
        job = {"tool": name, "arguments": complete.values, "given": {key: _facts(each) for key, each in given.items()}}
        blobs = [blob for each in given.values() for blob in (each.content.letters, each.content.features)]
        try:
            reply, contents = await self._done(name, job, blobs)
        except NotDone as error:
            return _ended(error.state, error.error, error.detail, tool, complete)
        return ToolOutcome(
            reply.state,
            complete.values,
            reply.result,
            reply.inputs,
            str(reply.line),
            tool.spec.library,
            complete.coerced,
            dict(zip(reply.places, reply.contents(contents), strict=True)),
        )

    async def read(self, file: SequenceFile) -> FileContents:
        """Have the child process read it."""
        job = {name: getattr(file, name) for name in ("format", "name", "molecule", "topology")}
        reply, contents = await self._done_or_unavailable("read", {"read": job}, [file.content.encode()])
        if reply.refused:
            kinds = {kind.slug: kind for kind in (SequenceFileRefused, TooManyRecords, TooManyFeatures)}
            raise kinds[reply.refused].at(int(reply.line), reply.reason)
        return FileContents(reply.format, reply.sha256, reply.contents(contents))

    async def write(self, sequence: StoredSequence, content: SequenceContent, part: Part) -> bytes:
        """Have the child process write it."""
        job = {"write": sequence, "part": part}
        _, [written] = await self._done_or_unavailable("write", job, [content.letters, content.features])
        return written

    async def aclose(self) -> None:
        """Kill the child process; jobs that run or wait are cancelled."""
        self._closed = True
        self._kill()
        if self._ending:
            await asyncio.wait(self._ending)

    async def _done_or_unavailable(self, name: str, job: object, blobs: Sequence[bytes]) -> tuple[Reply, list[bytes]]:
        try:
            return await self._done(name, job, blobs)
        except NotDone as error:
            raise Unavailable(error.detail, retry_after=1) from None

    async def _done(self, name: str, job: object, blobs: Sequence[bytes]) -> tuple[Reply, list[bytes]]:
        """Have the child process do a job, after those that came before. Raises NotDone."""
        began_at, state = time.perf_counter(), ToolState.CANCELLED
        try:
            reply, contents = await self._in_turn(name, job, blobs)
            state = reply.state
        except NotDone as error:
            state = error.state
            raise
        finally:
            self._metrics.tool_called(name, state, time.perf_counter() - began_at)
        return reply, contents

    async def _in_turn(self, name: str, job: object, blobs: Sequence[bytes]) -> tuple[Reply, list[bytes]]:
        if self._jobs > self._queue:
            raise NotDone(ToolState.BUSY, "busy", "Too many computations are waiting. Call again in some seconds.")
        self._jobs += 1
        try:
            async with self._turn:
                return await self._perform(name, job, blobs)
        finally:
            self._jobs -= 1

    async def _perform(self, name: str, job: object, blobs: Sequence[bytes]) -> tuple[Reply, list[bytes]]:
        """Have the child process do a job, and kill it if it does not end well."""
        try:
            process = await self._started()
            async with asyncio.timeout(self._call_seconds):
                return await _ask(process, job, blobs)
        except TimeoutError:
            self._kill()
            logger.warning("tool took too long", extra={"tool": name})
            detail = (
                f"The computation took more than {self._call_seconds:g} seconds and was ended. Ask for less at once."
            )
            raise NotDone(ToolState.FAILED, "time-limit", detail) from None
        except (OSError, EOFError, ValueError) as error:
            self._kill()
            if self._closed:
                raise NotDone(ToolState.CANCELLED, "cancelled", "The server is shutting down.") from None
            logger.error("tool's process died", extra={"tool": name, "why": type(error).__name__})  # noqa: TRY400
            detail = "The computation ended early, perhaps for lack of memory. Ask for less at once."
            raise NotDone(ToolState.FAILED, "worker-died", detail) from None
        except asyncio.CancelledError:
            self._kill()
            raise

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
        self._metrics.tool_process_started()
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


async def _ask(process: asyncio.subprocess.Process, job: object, blobs: Sequence[bytes]) -> tuple[Reply, list[bytes]]:
    """Send a job and wait for its reply. Raises OSError or EOFError if the process ends, ValueError for nonsense."""
    assert process.stdin is not None  # noqa: S101 - tells the type checker
    assert process.stdout is not None  # noqa: S101 - tells the type checker
    message = msgspec.to_builtins(job) | {"blobs": [len(each) for each in blobs]}
    process.stdin.write(msgspec.json.encode(message) + b"\n")
    for each in blobs:
        for place in range(0, len(each), CHUNK_BYTES):  # the loop has others to serve, too
            process.stdin.write(memoryview(each)[place : place + CHUNK_BYTES])
            await process.stdin.drain()
    await process.stdin.drain()
    reply = msgspec.json.decode(await _line(process), type=Reply)
    return reply, [await process.stdout.readexactly(size) for size in reply.blobs]


async def _line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None  # noqa: S101 - tells the type checker
    line = await process.stdout.readline()
    if not line:
        raise EOFError
    return line


def _facts(given: GivenSequence) -> dict[str, str]:
    return {name: getattr(given.sequence, name) for name in ("name", "molecule", "topology")}


def _ended(state: ToolState, error: str, detail: str, tool: Tool, arguments: Arguments) -> ToolOutcome:
    result = error_result(error, detail)
    return ToolOutcome(state, arguments.values, result, library=tool.spec.library, coerced=arguments.coerced)
