"""Processes that are told what to do by lines of JSON, and the processor time and memory they take."""

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
    """A child process; used as a context it ends with it.

    The first line on its standard output that names a port says that it is ready. Standard error goes to a file, as a
    server's log would.
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
        self.port = self._port()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.terminate()  # a server passes that on to its workers, which would outlive it if it were killed
        try:
            self._child.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.communicate()

    def ask(self, question: object) -> Any:  # noqa: ANN401 - whatever its protocol says
        """Write one line of JSON and read one."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(question) + "\n")
        self._child.stdin.flush()
        return json.loads(self._line())

    def _line(self) -> str:
        assert self._child.stdout is not None
        if line := self._child.stdout.readline():
            return line
        raise RuntimeError(f"a process ended early:\n{self._log.read_text()}")

    def _port(self) -> int:
        while True:
            if found := re.search(r'(?:http://127\.0\.0\.1:|"port": ?)(\d+)', self._line()):
                return int(found[1])


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children."""
    root = psutil.Process(pid)
    return sum(map(_cpu_seconds, (root, *root.children(recursive=True))))


def _cpu_seconds(process: psutil.Process) -> float:
    if platform.system() == "Linux":
        # The kernel's clock for another process, in nanoseconds; what psutil reads from /proc comes in hundredths of a
        # second. Its number is that of MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) in linux/posix-timers.h.
        return time.clock_gettime((~process.pid << 3) | 2)
    times = process.cpu_times()
    return float(times.user + times.system)


def memory_bytes(pid: int) -> int:
    """Resident memory of a process and its children."""
    root = psutil.Process(pid)
    return sum(int(process.memory_info().rss) for process in (root, *root.children(recursive=True)))


def say(answer: object) -> None:
    """Write one line of JSON, for ``Process.ask``."""
    print(json.dumps(answer), flush=True)


async def read_lines() -> AsyncIterator[bytes]:
    """Standard input, line by line."""
    reader = asyncio.StreamReader(limit=2**26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line
