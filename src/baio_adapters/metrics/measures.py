"""What Prometheus is shown: every metric with its labels, added up over all workers."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any, Literal, final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from baio_adapters.metrics.reports import Receiver, Report
from baio_domain.entities import AnswerState
from baio_domain.ports import EndedAnswer
from baio_domain.tools import ToolState

MAX_NAMES = 300
"""How many different names a label has at most: routes, providers with models, tools. All further ones are OTHER."""

OTHER = "other"

_FINAL = [state.value for state in AnswerState if state is not AnswerState.RUNNING]

_METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS"})

_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_HUMAN = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ANSWERS = (0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600, 1200)
"""Upper bounds of buckets, in seconds."""


class Names:
    """The names of a label, of which there are only so many."""

    def __init__(self) -> None:
        self._known: set[tuple[str, ...]] = set()

    def __call__(self, *names: str) -> Sequence[str]:
        """These names, or OTHER for each of them."""
        if names not in self._known:
            if len(self._known) >= MAX_NAMES:
                return [OTHER] * len(names)
            self._known.add(names)
        return names


@final
class Measures(Receiver):
    """Adds up the reports of all workers.

    Whatever only grows is kept when a worker ends, and what goes up and down goes with it.
    """

    def __init__(self, version: str) -> None:
        # Otherwise each of ours has a second series, with the time at which it began.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._levels: dict[object, dict[str, int]] = {}
        self._routes, self._models, self._tools = Names(), Names(), Names()
        self._requests = Counter(
            "baio_http_requests", "Responses that have ended.", ["method", "route", "status"], registry=registry
        )
        self._starts = Histogram(
            "baio_http_response_start_seconds",
            "Time from a request's head to its response's; for a streamed answer, to its first text.",
            ["route"],
            buckets=_HUMAN,
            registry=registry,
        )
        self._answers = Counter(
            "baio_answers", "Answers that have ended, by final state.", ["provider", "state"], registry=registry
        )
        self._first_texts = Histogram(
            "baio_answer_first_text_seconds",
            "Time from the request to a provider to the first text of the answer.",
            ["provider"],
            buckets=_ANSWERS,
            registry=registry,
        )
        self._answer_seconds = Histogram(
            "baio_answer_seconds",
            "Time from the request to a provider to the stored end of the answer.",
            ["provider"],
            buckets=_ANSWERS,
            registry=registry,
        )
        self._tokens = Counter(
            "baio_answer_tokens",
            "Tokens that providers have counted for answers: of prompts (in) and of answers (out).",
            ["provider", "model", "direction"],
            registry=registry,
        )
        self._checkpoints = Histogram(
            "baio_checkpoint_seconds",
            "Time to store the new text of all running answers of a worker.",
            buckets=_FAST,
            registry=registry,
        )
        self._transactions = Histogram(
            "baio_transaction_seconds",
            "Time of a unit of work in the database, from the queue to the commit.",
            ["kind"],
            buckets=_FAST,
            registry=registry,
        )
        self._passwords = Histogram(
            "baio_password_hash_seconds",
            "Time to hash or verify a password, with the time in the queue.",
            buckets=_HUMAN,
            registry=registry,
        )
        self._calls = Counter(
            "baio_tool_calls",
            "Calls of tools that have ended, and files of sequences read or written, by state.",
            ["tool", "state"],
            registry=registry,
        )
        self._call_seconds = Histogram(
            "baio_tool_call_seconds",
            "Time of a call of a tool, with the time in the queue.",
            buckets=_HUMAN,
            registry=registry,
        )
        self._tool_starts = Counter(
            "baio_tool_process_starts", "Starts of the processes in which tools run.", registry=registry
        )
        self._missed = Counter(
            "baio_metrics_missed", "Events that are missing in all other metrics.", registry=registry
        )
        self._cpu = Counter("baio_worker_cpu_seconds", "Processor time of all workers.", registry=registry)
        self._level("baio_running_answers", "Answers that are being written.", "running_answers")
        self._level("baio_open_streams", "Long responses that clients read: answers, lists, exports.", "open_streams")
        self._level("baio_waiting_passwords", "Passwords that wait to be hashed or verified.", "waiting_passwords")
        self._level("baio_tool_processes", "Processes in which tools run.", "tool_processes")
        self._level("baio_worker_memory_bytes", "Resident memory of all workers.", "memory_bytes")
        workers = Gauge("baio_workers", "Workers that report.", registry=registry)
        workers.set_function(lambda: len(self._levels))
        Gauge("baio_info", "The version that runs.", ["version"], registry=registry).labels(version).set(1)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All metrics in a format that the client accepts, and its content type."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is none
            encode, content_type = choose_encoder("")
        return encode(self._registry), content_type

    def take(self, worker: object, report: Report) -> None:
        """Add it up."""
        with self._lock:
            self._levels[worker] = {**report.levels, "memory_bytes": report.memory_bytes}
        self._missed.inc(report.missed)
        self._cpu.inc(max(0.0, report.cpu_seconds))
        for name, given in report.notes:
            getattr(self, f"_note_{name}")(*given)

    def gone(self, worker: object) -> None:
        """Forget what went up and down there."""
        with self._lock:
            self._levels.pop(worker, None)

    def _level(self, name: str, description: str, level: str) -> None:
        gauge = Gauge(name, description, registry=self._registry)
        gauge.set_function(lambda: sum(self._of_workers(level)))

    def _of_workers(self, level: str) -> Iterator[int]:
        with self._lock:
            found = list(self._levels.values())
        return (each.get(level, 0) for each in found)

    # -- The notes of a report, each under the name of the method of ``Metrics`` ---------------------------------------

    def _note_request_ended(self, method: str, route: str, status: int, start_seconds: float) -> None:
        [route] = self._routes(route)
        self._requests.labels(method if method in _METHODS else OTHER, route, str(status)).inc()
        self._starts.labels(route).observe(start_seconds)

    def _note_answer_ended(self, answer: dict[str, Any]) -> None:
        ended = msgspec.convert(answer, EndedAnswer)
        provider, model = self._models(ended.provider, ended.model)
        for each in _FINAL:
            self._answers.labels(provider, each)  # Prometheus sees no rise in a series that begins with 1
        self._answers.labels(provider, ended.state).inc()
        self._answer_seconds.labels(provider).observe(ended.seconds)
        if ended.first_text_seconds is not None:
            self._first_texts.labels(provider).observe(ended.first_text_seconds)
        if ended.usage is not None:
            self._tokens.labels(provider, model, "in").inc(ended.usage.prompt_tokens)
            self._tokens.labels(provider, model, "out").inc(ended.usage.completion_tokens)

    def _note_checkpoint_stored(self, seconds: float) -> None:
        self._checkpoints.observe(seconds)

    def _note_transaction_ended(self, kind: Literal["read", "write"], seconds: float) -> None:
        self._transactions.labels(kind).observe(seconds)

    def _note_password_hashed(self, seconds: float) -> None:
        self._passwords.observe(seconds)

    def _note_tool_called(self, tool: str, state: ToolState, seconds: float) -> None:
        [tool] = self._tools(tool)
        for each in ToolState:
            self._calls.labels(tool, each.value)  # as above
        self._calls.labels(tool, state).inc()
        self._call_seconds.observe(seconds)

    def _note_tool_process_started(self) -> None:
        self._tool_starts.inc()
