"""The time of day."""

from abc import abstractmethod
from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """The time of day."""

    @abstractmethod
    def now(self) -> datetime:
        """Now, in UTC, with its time zone."""
