"""The process in which tools run, one call after the other: ``python -I -m baio_adapters.biology.worker``.

Standard input brings a line of JSON for each call, with ``tool`` and its complete ``arguments``. Standard output brings
"ready" as a line, and then a line of JSON for each call, with ``state``, ``result``, ``inputs`` and ``line``. The
process ends when standard input is closed, which also happens when its parent dies, and even in the middle of a call.
"""

import ctypes
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from queue import SimpleQueue
from typing import BinaryIO

from baio_adapters.biology import installed_tools
from baio_domain.tool_calls import Arguments, perform
from baio_domain.tools import Tool

MEMORY_BYTES = 1024**3
"""The address space that a tool may use, with the interpreter and its libraries."""

NICENESS = 5
"""How much less urgent than the server a tool is: it gets a third of a core that both want."""

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""What makes numerical libraries compute in one thread: a thread for each core would need more memory than there is,
and sums would depend on the number of cores."""

_PR_SET_PDEATHSIG = 1


def main(tools: Mapping[str, Tool] | None = None) -> None:
    """Perform calls until standard input is closed."""
    _end_with_parent()
    requests, replies = _own_pipes()
    lines: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read, args=(requests, lines), daemon=True).start()
    _limit_memory()
    _yield_to_others()
    os.environ.update(ONE_THREAD)
    known = installed_tools() if tools is None else tools
    _write(replies, b"ready")
    while True:
        request = json.loads(lines.get())
        outcome = perform(known[request["tool"]], Arguments(request["arguments"]))
        inputs = [asdict(each) for each in outcome.inputs]
        reply = {"state": outcome.state, "result": outcome.result, "inputs": inputs, "line": outcome.line}
        _write(replies, json.dumps(reply, ensure_ascii=False).encode())


def _end_with_parent() -> None:
    """Let the kernel kill this process with its parent; nobody but the parent ends it otherwise.

    The kernel means the thread that started this process: the event loop's, which lives as long as the server.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for calls alone: what a tool prints goes nowhere, and it has nothing to read."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    return requests, replies


def _read(requests: BinaryIO, lines: SimpleQueue[bytes]) -> None:
    for line in requests:
        lines.put(line)
    os._exit(0)


def _limit_memory() -> None:
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 - not on every platform

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _yield_to_others() -> None:
    """Let the server go first where there are fewer cores than work: nobody's stream waits for somebody's tool."""
    if sys.platform != "win32":
        os.nice(NICENESS)


def _write(replies: BinaryIO, line: bytes) -> None:
    replies.write(line + b"\n")
    replies.flush()


if __name__ == "__main__":
    main()
