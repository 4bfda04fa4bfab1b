"""Reports: how what happens in a worker gets to the process that started it."""

import contextlib
import logging
import mmap
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, Protocol, final

import msgspec

from baio_domain.ports import EndedAnswer, Level, Metrics
from baio_domain.tools import ToolState

REPORT_SECONDS = 0.5
"""How often a worker reports. What happened since the last report is lost with a worker that is killed."""

MAX_NOTES = 20_000
"""How many notes a worker keeps while nobody takes its reports. The oldest are given up."""

MAX_REPORT_BYTES = 64 * 1024 * 1024

GOODBYE_SECONDS = 2.0
"""How long the last report may take."""

Note = tuple[str, tuple[Any, ...]]
"""The name of a method of ``Metrics``, and what it was given."""

logger = logging.getLogger("baio.metrics")


class Report(msgspec.Struct):
    """What has happened in a worker since its last report, and how things stand there.

    ``missed`` notes were given up. ``cpu_seconds`` is the processor time since the last report.
    """

    notes: list[tuple[str, list[Any]]]
    levels: dict[str, int]
    missed: int
    cpu_seconds: float
    memory_bytes: int


class Receiver(Protocol):
    """Takes reports. It is called in several threads."""

    def take(self, worker: object, report: Report) -> None:
        """A report of this worker."""

    def gone(self, worker: object) -> None:
        """This worker reports no more."""


@final
class Reporter(Metrics):
    """Notes what happens in this process, and inside ``watching`` reports it, in a thread of its own.

    A note is one entry in a queue. Nobody waits for a report, even if its receiver is frozen or has died.
    """

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._notes: deque[Note] = deque(maxlen=MAX_NOTES)
        self._noted = self._taken = 0
        self._ending = threading.Event()
        self._cpu_seconds = 0.0

    def request_ended(self, method: str, route: str, status: int, start_seconds: float) -> None:
        """Note it."""
        self._note("request_ended", method, route, status, start_seconds)

    def answer_ended(self, answer: EndedAnswer) -> None:
        """Note it."""
        self._note("answer_ended", answer)

    def checkpoint_stored(self, seconds: float) -> None:
        """Note it."""
        self._note("checkpoint_stored", seconds)

    def transaction_ended(self, kind: Literal["read", "write"], seconds: float) -> None:
        """Note it."""
        self._note("transaction_ended", kind, seconds)

    def password_hashed(self, seconds: float) -> None:
        """Note it."""
        self._note("password_hashed", seconds)

    def tool_called(self, tool: str, state: ToolState, seconds: float) -> None:
        """Note it."""
        self._note("tool_called", tool, state, seconds)

    def tool_process_started(self) -> None:
        """Note it."""
        self._note("tool_process_started")

    @contextlib.contextmanager
    def watching(self, levels: Mapping[Level, Callable[[], int]]) -> Iterator[None]:
        """Report while inside, and once more at the end. This can be done once."""
        thread = threading.Thread(target=self._report_until_the_end, args=(levels,), name="baio-metrics", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ending.set()
            thread.join(GOODBYE_SECONDS)

    def _note(self, name: str, *given: object) -> None:
        self._notes.append((name, given))
        self._noted += 1  # afterwards: what is counted is in the queue, or was given up

    def _report_until_the_end(self, levels: Mapping[Level, Callable[[], int]]) -> None:
        try:
            over = False
            while not over:
                over = self._ending.wait(REPORT_SECONDS)
                if content := self._encoded(levels):
                    self._connection.send_bytes(content)
        except OSError:
            logger.warning("metrics not reported: nobody takes them")
        finally:
            self._notes = deque(maxlen=0)
            with contextlib.suppress(OSError):
                self._connection.close()

    def _encoded(self, levels: Mapping[Level, Callable[[], int]]) -> bytes:
        """The next report; empty if there is something in it that can't be reported."""
        try:
            return msgspec.json.encode(self._report({name: level() for name, level in levels.items()}))
        except Exception:
            logger.exception("metrics not reported")
            return b""

    def _report(self, levels: dict[str, int]) -> Report:
        noted = self._noted
        notes: list[Note] = []
        with contextlib.suppress(IndexError):  # there are no more
            while len(notes) < MAX_NOTES:
                notes.append(self._notes.popleft())
        self._taken += len(notes)
        missed = max(0, noted - self._taken)
        self._taken += missed
        cpu_seconds, self._cpu_seconds = self._cpu_seconds, time.process_time()
        spent = self._cpu_seconds - cpu_seconds
        return Report([(name, list(given)) for name, given in notes], levels, missed, spent, _resident_bytes())


def _resident_bytes() -> int:
    """The memory of this process that is in use; 0 where the system has no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * mmap.PAGESIZE


@final
class Reports:
    """Where workers' reports arrive. There is one instance, in the process that starts the workers.

    Each call makes a pipe, and returns the end to report through. A worker process calls what it has unpickled:
    pickling, which happens once for each worker that starts, makes the pipe. Where a pipe ends, its worker has.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._newest: _Worker | None = None

    def __call__(self) -> "Connection":
        """The end of a new pipe, for this process."""
        return self._open()[1]

    def __reduce__(self) -> "tuple[type[GivenConnection], tuple[Connection]]":
        """For a worker process that is being started: the end of a new pipe."""
        if self._newest is not None:
            self._newest.close_our_end()  # that worker has started
        self._newest, sending = self._open()
        self._newest.opened = sending
        return GivenConnection, (sending,)

    def _open(self) -> "tuple[_Worker, Connection]":
        receiving, sending = Pipe(duplex=False)
        return self._listen(receiving), sending

    def _listen(self, connection: "Connection") -> "_Worker":
        worker = _Worker()
        threading.Thread(target=self._receive, args=(worker, connection), name="baio-metrics", daemon=True).start()
        return worker

    def _receive(self, worker: "_Worker", connection: "Connection") -> None:
        decoder = msgspec.json.Decoder(Report)
        try:
            while True:
                content = connection.recv_bytes(MAX_REPORT_BYTES)
                worker.close_our_end()
                self._receiver.take(worker, decoder.decode(content))
        except (EOFError, OSError):
            pass  # the worker has ended
        except Exception:
            logger.exception("metrics of a worker not taken")
        finally:
            self._receiver.gone(worker)
            connection.close()


class _Worker:
    """A worker that reports."""

    def __init__(self) -> None:
        self.opened: Connection | None = None
        """The worker's end of the pipe, as long as this process has it open, too: then the pipe does not end."""
        self._lock = threading.Lock()

    def close_our_end(self) -> None:
        """Close it: the worker has it by now."""
        with self._lock:
            opened, self.opened = self.opened, None
        if opened is not None:
            opened.close()


class GivenConnection:
    """What a worker gets of ``Reports``."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection

    def __call__(self) -> "Connection":
        """The end of the worker's pipe."""
        return self._connection
