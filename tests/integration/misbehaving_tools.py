"""A worker whose tools misbehave: a script in place of BAiO's own, which tests also import for the list of its tools.

Some tools take the path of a named pipe. They write their process's id to it and keep it open: who reads it learns that
the tool has begun, and at the end of the pipe that every process that it ran in has ended.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable

from baio_adapters.biology import worker
from baio_domain.tools import Computed, Tool, ToolSpec


def hold(pipe: str) -> Computed:
    """Compute for ever."""
    _announce(pipe)
    while True:
        pass


def wait(pipe: str) -> Computed:
    """Start a process of its own, and wait for it, for ever."""
    announced = _announce(pipe)
    with subprocess.Popen([sys.executable, "-I", "-c", "import time; time.sleep(600)"], pass_fds=[announced]):
        pass
    return Computed({}, "")


def sleep(seconds: float) -> Computed:
    """Take some time."""
    time.sleep(seconds)
    return Computed({"seconds": seconds}, "Slept")


def eat() -> Computed:
    """Need more memory than there is."""
    return Computed({"bytes": len(bytearray(worker.MEMORY_BYTES))}, "Ate")


def die() -> Computed:
    """Crash."""
    os.abort()


def talk() -> Computed:
    """Print, and read what nobody has sent; tell what the process has."""
    print('{"state": "done"}', flush=True)  # noqa: T201
    os.write(1, b"noise\n")
    read = sys.stdin.read()
    return Computed({"read": read, "environment": dict(os.environ), "pid": os.getpid()}, "Talked")


def load() -> Computed:
    """Use a large library, as a tool may."""
    import numpy as np

    return Computed({"sum": int(np.ones((500, 500)).dot(np.ones(500)).sum())}, "Loaded")


def shout() -> Computed:
    """Say more in one line than anybody reads."""
    return Computed({}, "!" * 5_000_000)


def _announce(pipe: str) -> int:
    opened = os.open(pipe, os.O_WRONLY)
    os.write(opened, f"{os.getpid()}\n".encode())
    return opened


def _tool(function: Callable[..., Computed], **properties: str) -> Tool:
    described = {name: {"type": kind, "description": name} for name, kind in properties.items()}
    parameters = {"type": "object", "properties": described, "required": list(properties)}
    return Tool(ToolSpec(function.__name__, 1, "Misbehaves.", "Nothing.", parameters), function)


TOOLS = {
    tool.spec.name: tool
    for tool in (
        _tool(hold, pipe="string"),
        _tool(wait, pipe="string"),
        _tool(sleep, seconds="number"),
        _tool(eat),
        _tool(die),
        _tool(talk),
        _tool(load),
        _tool(shout),
    )
}

if __name__ == "__main__":
    worker.main(TOOLS)
