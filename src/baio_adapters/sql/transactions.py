"""Transactions: units of work, run in threads, and again after a conflict."""

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TypeVar, final

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError

from baio_adapters.sql.repositories.constraints import RACES, constraint_name, refusal
from baio_adapters.sql.trouble import DAMAGED, UNREACHABLE, unavailable
from baio_domain.errors import Unavailable

T = TypeVar("T")

QUEUE_SECONDS = 5
"""How long a unit of work waits for a free thread, so that the queue stays short while the database is locked."""

ATTEMPTS = 50
"""How often a unit of work is run at most, when it conflicts with others."""

_CONFLICTS = {"40001", "40P01"}  # serialization_failure, deadlock_detected


class TransactionExecutor(ABC):
    """Runs units of work in threads. Connections stay open from one to the next."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.met_damage = False
        """Whether a unit of work has found the database damaged."""
        self._idle: list[Connection] = []  # SQLAlchemy's pool checks and resets: that costs as much as a small read

    @abstractmethod
    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a transaction in a thread. Raises Unavailable if it can't begin in time.

        Only work that has not begun is given up, because work that has begun may still commit.
        """

    @abstractmethod
    def close(self) -> None:
        """Wait for running transactions, then close every connection."""

    @contextmanager
    def reconnected(self) -> Iterator[None]:
        """Inside, units of work run on new connections. Those that were idle before are closed afterwards.

        Not before, because SQLite removes the write-ahead log when the last connection is closed.
        """
        stale, self._idle = self._idle, []
        try:
            yield
        finally:
            for connection in stale:
                connection.close()

    def _run(self, work: Callable[[Connection], T]) -> T:
        """Run a unit of work in a transaction, and again after a conflict or a dropped connection."""
        for attempt in range(1, ATTEMPTS + 1):
            connection, committing = None, False
            try:
                connection = self._acquire()
                with connection.begin():
                    result = work(connection)
                    committing = True
            except IntegrityError as error:
                refused = refusal(error)
                # Even a refusal is tried once more: a request repeated with its idempotency key then finds its result.
                if constraint_name(error) not in RACES and (refused is None or attempt > 1):
                    raise refused or error from None
            except DBAPIError as error:
                # If COMMIT was sent on a dropped connection, it may have succeeded, so the work is not run again.
                self._raise_unless_transient(error, connection, reconnect=not committing and attempt == 1)
            else:
                committing = False
                return result
            finally:
                self._release(connection, reuse=not committing)
            time.sleep(random.uniform(0, 0.005 * attempt))  # noqa: S311 - not for secrets
        raise Unavailable("Too much is happening at once.", retry_after=1)

    def _raise_unless_transient(self, error: DBAPIError, connection: Connection | None, *, reconnect: bool) -> None:
        """Return if the work can be run again, after a conflict or on a new connection."""
        if getattr(error.orig, "sqlstate", None) in _CONFLICTS:
            return
        dropped = error.connection_invalidated
        trouble = Unavailable(UNREACHABLE, retry_after=5) if dropped else unavailable(error)
        if trouble is None:
            raise error
        # A restarted server has dropped every connection. Those that are open may stay read-only, or with a file that
        # was replaced, after the trouble has ended.
        self._close_idle()
        if connection is not None:
            connection.close()
        self.met_damage = self.met_damage or trouble.detail == DAMAGED
        if not (dropped and reconnect):
            raise trouble from error

    def _acquire(self) -> Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self.engine.connect()

    def _release(self, connection: Connection | None, *, reuse: bool = True) -> None:
        """Keep the connection for the next unit of work, unless its transaction may still be open."""
        if connection is None or connection.closed:
            return
        if not reuse or connection.invalidated or connection.in_transaction():
            connection.close()
        else:
            self._idle.append(connection)

    def _close_idle(self) -> None:
        with suppress(IndexError):  # other threads take connections meanwhile
            while True:
                self._idle.pop().close()


@final
class ParallelExecutor(TransactionExecutor):
    """Several threads, each with a connection."""

    def __init__(self, engine: Engine, threads: int, name: str) -> None:
        super().__init__(engine)
        self._threads = ThreadPoolExecutor(threads, name)

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in the next thread that is free."""
        queued = self._threads.submit(self._run, work)
        timer = asyncio.get_running_loop().call_later(QUEUE_SECONDS, queued.cancel)
        try:
            return await asyncio.wrap_future(queued)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if queued.cancelled() and (task is None or not task.cancelling()):
                raise Unavailable(UNREACHABLE, retry_after=5) from None
            raise
        finally:
            timer.cancel()

    def close(self) -> None:
        """Wait for running transactions, then close every connection."""
        self._threads.shutdown()
        self._close_idle()
