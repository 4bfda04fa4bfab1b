"""The responses that clients are reading: how many each user may read at once, and that they end with their session."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from baio_domain.entities import Caller
from baio_domain.errors import BaioError, TooManyStreams, Unavailable
from baio_domain.ports import Clock, Database, Transaction
from baio_domain.quotas import AtOnce
from baio_domain.session_check import session_over, token_over

logger = logging.getLogger("baio.streams")

CHECK_SECONDS = 0.3
"""How often the sessions of all open streams are checked, in one look-up."""

GRACE_SECONDS = 0.6
"""How long a stream goes on after that.

Whatever disables an account stops its answers, too, and a process notices that with its next checkpoint. Streams of
these answers then end as those of stopped answers, and are not cut.
"""


class Stream:
    """One response that a client is reading, until ``close``. Inside ``with``, an exception closes it."""

    __slots__ = ("_close", "_end", "caller", "error")

    def __init__(self, caller: Caller, close: Callable[["Stream"], None]) -> None:
        self.caller = caller
        self.error: BaioError | None = None
        self._close: Callable[[Stream], None] | None = close
        self._end: Callable[[], object] | None = None

    def when_over(self, end: Callable[[], object] | None) -> None:
        """Call ``end`` when the caller's session is over, and ``error`` says so; at once if it is over already."""
        self._end = end
        if end is not None and self.error is not None:
            end()

    def over(self, error: BaioError) -> None:
        """End it with this error."""
        self.error = error
        if self._end is not None:
            self._end()

    def close(self) -> None:
        """Count it no longer. Closing it again does nothing."""
        self._end = None
        if self._close is not None:
            close, self._close = self._close, None
            close(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.close()


class Streams:
    """The open streams of this process. There is one instance per process, active inside ``running``."""

    def __init__(self, database: Database, clock: Clock, per_user: int, answers_per_user: int) -> None:
        self._database = database
        self._clock = clock
        self._answers_per_user = answers_per_user
        self._at_once = AtOnce(per_user, TooManyStreams)
        self._open: set[Stream] = set()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._open)

    def open(self, caller: Caller, *, asking: bool = False) -> Stream:
        """Count one more stream, or raise TooManyStreams.

        For those who are ``asking`` there are places that nothing else takes, as many as answers that can run.
        """
        self._at_once.begin(caller.user_id, beyond=self._answers_per_user if asking else 0)
        stream = Stream(caller, self._closed)
        self._open.add(stream)
        return stream

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """End streams whose session is over while inside."""
        checking = asyncio.create_task(self._check_forever())
        try:
            yield
        finally:
            checking.cancel()
            await asyncio.gather(checking, return_exceptions=True)

    def _closed(self, stream: Stream) -> None:
        self._open.discard(stream)
        self._at_once.end(stream.caller.user_id)

    async def _check_forever(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                await self._check()
            except Unavailable:
                pass  # answers go on while the database is unavailable (A9), and so do those who read them
            except Exception:
                logger.exception("checking sessions of streams failed")

    async def _check(self) -> None:
        sessions = {stream.caller.session_id for stream in self._open if stream.caller.session_id is not None}
        digests = {stream.caller.token.digest for stream in self._open if stream.caller.token is not None}
        if not sessions and not digests:
            return
        now = self._clock.now()

        def active(tx: Transaction) -> frozenset[str | bytes]:
            found: frozenset[str | bytes] = tx.sessions.active(sessions) if sessions else frozenset()
            return found | (tx.api_tokens.active(digests, now) if digests else frozenset())

        ended = (sessions | digests) - await self._database.read(active)
        for stream in list(self._open):
            caller = stream.caller
            if (caller.token.digest if caller.token else caller.session_id) in ended:
                self._open.discard(stream)
                error = token_over() if caller.token else session_over()
                asyncio.get_running_loop().call_later(GRACE_SECONDS, stream.over, error)
