"""The machine's clock."""

from datetime import UTC, datetime
from typing import final

from baio_domain.ports import Clock


@final
class SystemClock(Clock):
    """The time of day, in UTC."""

    def now(self) -> datetime:
        """Now, but never with zero microseconds, which ``isoformat`` would omit: every time on the wire has them."""
        now = datetime.now(UTC)
        return now.replace(microsecond=now.microsecond or 1)
