"""The process in which tools run, one job after the other: ``python -I -m baio_adapters.biology.worker``.

Standard input brings a message for each job, standard output "ready" as a line and then a message for each job. A
message is a line of JSON, whose ``blobs`` are the sizes of what follows as bytes: letters and features of sequences,
and files. So the server never has to decode these. A job is

- a call: ``tool``, its complete ``arguments``, and ``given``, the stored sequences by their parameters;
- a file to ``read``, with its contents as a blob;
- a sequence of which to ``write`` a part.

The process ends when standard input is closed, which also happens when its parent dies, and even in the middle of a
job.
"""

import ctypes
import json
import os
import signal
import sys
import threading
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from datetime import datetime
from queue import SimpleQueue
from typing import Any, BinaryIO

from baio_adapters.biology import installed_tools
from baio_domain.entities import SequenceContent, StoredSequence, UnstoredSequence
from baio_domain.errors import SequenceFileRefused
from baio_domain.sequence_files import Part, SequenceFile, read_file, write_part
from baio_domain.sequences import KnownSequence
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

Message = tuple[dict[str, Any], Sequence[bytes]]
"""What is sent as JSON, and as bytes."""


def main(tools: Mapping[str, Tool] | None = None) -> None:
    """Perform calls until standard input is closed."""
    _end_with_parent()
    requests, replies = _own_pipes()
    messages: SimpleQueue[Message] = SimpleQueue()
    threading.Thread(target=_read, args=(requests, messages), daemon=True).start()
    _limit_memory()
    _yield_to_others()
    os.environ.update(ONE_THREAD)
    known = installed_tools() if tools is None else tools
    replies.write(b"ready\n")
    replies.flush()
    while True:
        _write(replies, *_done(known, *messages.get()))


def _done(tools: Mapping[str, Tool], job: dict[str, Any], blobs: Sequence[bytes]) -> Message:
    if "read" in job:
        return _read_file(SequenceFile(blobs[0].decode(), **job["read"]))
    if "write" in job:
        sequence = StoredSequence(**job["write"] | {"created_at": datetime.fromisoformat(job["write"]["created_at"])})
        return {}, [write_part(sequence, SequenceContent(*blobs), Part(**job["part"]))]
    return _called(tools[job["tool"]], job, blobs)


def _called(tool: Tool, job: dict[str, Any], blobs: Sequence[bytes]) -> Message:
    pairs = zip(job.get("given", {}).items(), blobs[::2], blobs[1::2], strict=True)
    known = {
        parameter: KnownSequence.of(zlib.decompress(letters).decode(), features=zlib.decompress(features), **facts)
        for (parameter, facts), letters, features in pairs
    }
    outcome = perform(tool, Arguments(job["arguments"]), known)
    reply = {
        "state": outcome.state,
        "result": outcome.result,
        "line": outcome.line,
        "inputs": [asdict(each) for each in outcome.inputs],
        "places": list(outcome.products),
    }
    return _with_sequences(reply, outcome.products.values())


def _read_file(file: SequenceFile) -> Message:
    try:
        contents = read_file(file)
    except SequenceFileRefused as refused:
        return {"refused": refused.slug, "line": refused.line, "reason": refused.reason}, []
    except MemoryError:
        return {"refused": SequenceFileRefused.slug, "line": 1, "reason": "too much for one file; divide it"}, []
    return _with_sequences({"format": contents.format, "sha256": contents.sha256}, contents.sequences)


def _with_sequences(reply: dict[str, Any], sequences: Iterable[UnstoredSequence]) -> Message:
    """The reply with sequences, whose contents are its blobs."""
    listed: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for each in sequences:
        facts = {field.name: getattr(each, field.name) for field in fields(each)}
        content = facts.pop("content")
        listed.append(facts)
        blobs += [content.letters, content.features]
    return reply | {"sequences": listed}, blobs


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
    """Standard input and output only for calls: what a tool prints goes nowhere, and it has nothing to read."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    return requests, replies


def _read(requests: BinaryIO, messages: SimpleQueue[Message]) -> None:
    for line in requests:
        job = json.loads(line)
        messages.put((job, [requests.read(size) for size in job.get("blobs", ())]))
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


def _write(replies: BinaryIO, reply: dict[str, Any], blobs: Sequence[bytes]) -> None:
    line = json.dumps(reply | {"blobs": [len(each) for each in blobs]}, ensure_ascii=False)
    replies.write(line.encode() + b"\n")
    replies.writelines(blobs)
    replies.flush()


if __name__ == "__main__":
    main()
