"""Conversations whose time is over, and what deleted accounts have left, are deleted a little at a time."""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial

from baio_domain.entities import NOWHERE, Act, RetentionPolicy
from baio_domain.errors import Unavailable
from baio_domain.ports import Clock, Database, Transaction
from baio_domain.rate_limits import CLOCK_TOLERANCE

logger = logging.getLogger("baio.retention")

ROUND_SECONDS = 60.0
"""How often BAiO looks for data to delete."""

STEP_ROWS = 32
"""Conversations that are deleted in one transaction at most, or other rows that may be large."""

STEP_BYTES = 1_048_576
"""About how much is deleted in one transaction; a larger conversation gets its own."""

PAUSE_SECONDS = 0.1
"""Between two transactions, so that others get their turn."""

DISTRUST_SECONDS = 3600.0
"""How long nothing is deleted after the clock was set: time to set it right."""


class Keeper:
    """Keeps conversations as long as the policy says, and goes on with the deletion of large accounts.

    There is one instance per process, active inside ``running``.

    Several processes may do so at once: each conversation is deleted by one of them. The audit says how many were
    deleted, and nothing else.
    """

    def __init__(
        self, database: Database, clock: Clock, policy: RetentionPolicy, distrust_seconds: float = DISTRUST_SECONDS
    ) -> None:
        self._database = database
        self._clock = clock
        self._policy = policy
        self._distrust_seconds = distrust_seconds
        self._seen: tuple[datetime, float]
        self._trusted_from = 0.0
        self._woken = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Delete while inside."""
        self._seen = self._clock.now(), asyncio.get_running_loop().time()
        keeping = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    def wake(self) -> None:
        """Begin the next round now."""
        self._woken.set()

    async def _keep(self) -> None:
        # Not all processes at the same moment.
        await self._rest(random.uniform(0, ROUND_SECONDS))  # noqa: S311 - not for secrets
        while True:
            for work in (self._continue_deletions, self._delete_due):
                try:
                    await work()
                except Unavailable:
                    pass  # the next round finds the same
                except Exception:
                    logger.exception("deleting conversations failed")
            await self._rest(ROUND_SECONDS)

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()

    async def _continue_deletions(self) -> None:
        while await self._database.read(lambda tx: tx.users.any_deletion()):
            await self._database.write(lambda tx: tx.users.continue_deletion(count=STEP_ROWS, size=STEP_BYTES))
            await asyncio.sleep(PAUSE_SECONDS)

    async def _delete_due(self) -> None:
        while self._trusts_clock():
            now = self._clock.now()
            if not await self._database.read(partial(self._any_due, now)):
                return
            await self._database.write(partial(self._step, now))
            await asyncio.sleep(PAUSE_SECONDS)

    def _any_due(self, now: datetime, tx: Transaction) -> bool:
        return tx.retentions.any_due(self._policy, now, latest=now + CLOCK_TOLERANCE)

    def _step(self, now: datetime, tx: Transaction) -> None:
        tx.retentions.correct_future(now + CLOCK_TOLERANCE)
        deleted = tx.retentions.delete_due(self._policy, now, count=STEP_ROWS, size=STEP_BYTES)
        if deleted:
            tx.audit.add(Act.CONVERSATIONS_EXPIRED, None, NOWHERE, now, f"{deleted} conversations")

    def _trusts_clock(self) -> bool:
        """Whether the time of day has passed as the loop's time has, for long enough.

        A clock that leaps into the future would have everything deleted. What is deleted too late can still go.
        """
        now, loop_time = self._clock.now(), asyncio.get_running_loop().time()
        passed = timedelta(seconds=loop_time - self._seen[1])
        if abs(now - self._seen[0] - passed) > CLOCK_TOLERANCE:
            self._trusted_from = loop_time + self._distrust_seconds
        self._seen = now, loop_time
        return loop_time >= self._trusted_from
