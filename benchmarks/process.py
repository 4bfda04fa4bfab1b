"""Child processes that take commands as lines of JSON, and the processor time and memory that they use."""

import asyncio
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Self

import psutil

ROOT = Path(__file__).parents[1]


class Process:
    """A child process that runs a Python module; as a context manager, it terminates the process at the end.

    The process is ready when it prints a line with its port. Its standard error goes to a file, like a server's log.
    """

    def __init__(self, folder: Path, *module: str, environment: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BAIO_", "OPENAI_"))}
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._log = folder / f"{module[0]}.log"
        with self._log.open("w") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", *module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env={**inherited, "PYTHONPATH": path, **(environment or {})},
                text=True,
            )
        self.pid = self._child.pid
        self.port = self._wait_for_port()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.terminate()  # not kill(): a server stops its workers only on SIGTERM
        try:
            self._child.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.communicate()

    def ask(self, command: object) -> Any:  # noqa: ANN401 - any JSON
        """Send a command as a line of JSON and return the answer."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(command) + "\n")
        self._child.stdin.flush()
        return json.loads(self._read_line())

    def _read_line(self) -> str:
        assert self._child.stdout is not None
        if line := self._child.stdout.readline():
            return line
        raise RuntimeError(f"the process ended early:\n{self._log.read_text()}")

    def _wait_for_port(self) -> int:
        while True:
            if found := re.search(r'(?:http://127\.0\.0\.1:|"port": ?)(\d+)', self._read_line()):
                return int(found[1])


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its descendants."""
    root = psutil.Process(pid)
    return sum(map(_cpu_seconds, (root, *root.children(recursive=True))))


def _cpu_seconds(process: psutil.Process) -> float:
    if platform.system() == "Linux":
        # The process's CPU clock counts nanoseconds; psutil reads /proc, which counts hundredths of a second. The clock
        # id is MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of linux/posix-timers.h.
        return time.clock_gettime((~process.pid << 3) | 2)
    times = process.cpu_times()
    return float(times.user + times.system)


def memory_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants."""
    root = psutil.Process(pid)
    return sum(int(process.memory_info().rss) for process in (root, *root.children(recursive=True)))


def print_json(answer: object) -> None:
    """Print a line of JSON, which answers ``Process.ask``."""
    print(json.dumps(answer), flush=True)


async def stdin_lines() -> AsyncIterator[bytes]:
    """The lines of standard input."""
    reader = asyncio.StreamReader(limit=2**26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line
