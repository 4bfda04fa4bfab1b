"""Metrics: what a process counts and times, for the people who monitor an installation."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol, final

from baio_domain.entities import AnswerState, Usage
from baio_domain.tools import ToolState

Level = Literal["running_answers", "open_streams", "waiting_passwords", "tool_processes"]
"""Gauges: running answers, long responses being read, waiting passwords, processes of tools."""


@dataclass(frozen=True, slots=True)
class EndedAnswer:
    """How an answer ended, so many seconds after it was asked for. The model is the one that was asked for."""

    provider: str
    model: str
    state: AnswerState
    seconds: float
    first_text_seconds: float | None
    usage: Usage | None


class Metrics(Protocol):
    """Notes what has happened. Each method returns at once, raises nothing, and may be called in any thread.

    Nothing here says who did it, or what was said. Every name comes from the catalogue, from a route or from an
    installed tool, so that their number is limited.
    """

    @abstractmethod
    def request_ended(self, method: str, route: str, status: int, start_seconds: float) -> None:
        """A response has ended. ``route`` is the template of the path; ``start_seconds`` passed before its head."""

    @abstractmethod
    def answer_ended(self, answer: EndedAnswer) -> None:
        """An answer has ended, and its end is stored."""

    @abstractmethod
    def checkpoint_stored(self, seconds: float) -> None:
        """The new text of all running answers was stored."""

    @abstractmethod
    def transaction_ended(self, kind: Literal["read", "write"], seconds: float) -> None:
        """A unit of work was committed, so many seconds after it was handed over."""

    @abstractmethod
    def password_hashed(self, seconds: float) -> None:
        """A password was hashed or verified, so many seconds after that was asked for."""

    @abstractmethod
    def tool_called(self, tool: str, state: ToolState, seconds: float) -> None:
        """A call of a tool has ended, or reading or writing a file of sequences."""

    @abstractmethod
    def tool_process_started(self) -> None:
        """The process in which tools run was started."""

    @abstractmethod
    def watching(self, levels: Mapping[Level, Callable[[], int]]) -> AbstractContextManager[object]:
        """Inside, read the gauges now and then. The functions are called in another thread."""


@final
class NoMetrics(Metrics):
    """Notes nothing."""

    def request_ended(self, method: str, route: str, status: int, start_seconds: float) -> None:
        """Do nothing."""

    def answer_ended(self, answer: EndedAnswer) -> None:
        """Do nothing."""

    def checkpoint_stored(self, seconds: float) -> None:
        """Do nothing."""

    def transaction_ended(self, kind: Literal["read", "write"], seconds: float) -> None:
        """Do nothing."""

    def password_hashed(self, seconds: float) -> None:
        """Do nothing."""

    def tool_called(self, tool: str, state: ToolState, seconds: float) -> None:
        """Do nothing."""

    def tool_process_started(self) -> None:
        """Do nothing."""

    def watching(self, levels: Mapping[Level, Callable[[], int]]) -> AbstractContextManager[object]:
        """Do nothing."""
        del levels
        return nullcontext()


NO_METRICS = NoMetrics()
