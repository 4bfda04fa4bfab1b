"""Shared commits: units of work that wait for SQLite's one writer are committed together."""

import asyncio
import random
import sqlite3
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Generic, TypeVar, final

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError

from baio_adapters.sql.repositories.repository import SHARED, RunAlone
from baio_adapters.sql.transactions import QUEUE_SECONDS, TransactionExecutor
from baio_adapters.sql.trouble import UNREACHABLE
from baio_domain.errors import Unavailable

T = TypeVar("T")

JOIN_SECONDS = 0.02
"""For how long units of work join a transaction, so that the first does not wait long for its commit."""

BUSY_SECONDS = 5.0
"""How long a transaction waits for the write of another process."""

RETRY_SECONDS = (0.0005, 0.002)
"""The shortest and the longest pause between two attempts to get the write lock."""

TURN_SECONDS = 0.003
"""The pause after a transaction while another process writes too: longer than ``RETRY_SECONDS``, so that it gets in."""

LATELY_SECONDS = 1.0
"""How long another process counts as writing after its last commit."""

_BEGIN = "BEGIN IMMEDIATE"
_SEEN = "data_version"


@final
class SharedCommitExecutor(TransactionExecutor):
    """One thread that runs units of work on SQLite. Those that wait share a transaction and its commit.

    Each runs behind a savepoint, so that one that fails takes nobody along. If the transaction fails, each runs again
    by itself. Callers are answered after the commit.

    SQLite's busy handler waits longer and longer, so that a process can miss every pause of another one that writes
    all the time. Here a process tries often, and leaves a pause after its turn while another process writes, too.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._thread = ThreadPoolExecutor(1, "baio-write")
        self._waiting: deque[_Unit[Any]] = deque()
        self._turn_ended_at = self._others_wrote_at = -LATELY_SECONDS
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", self._begin)

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in the thread. Work that was given up or cancelled before it began does not run."""
        unit = _Unit(work)
        self._waiting.append(unit)
        self._thread.submit(self._commit_waiting)
        return await unit.outcome()

    def close(self) -> None:
        """Run what waits, then close every connection."""
        self._thread.shutdown()
        self._close_idle()

    def _commit_waiting(self) -> None:
        """Run some of what waits, at least one unit. It is called once for each."""
        if len(self._waiting) > 1 and self._commit_together():
            return
        if unit := self._next():
            self._commit_alone(unit)

    def _next(self) -> "_Unit[Any] | None":
        while self._waiting:
            unit = self._waiting.popleft()
            if unit.take():
                return unit
        return None

    def _commit_alone(self, unit: "_Unit[T]") -> None:
        unit.settle(lambda: self._run(unit.work))
        self._turn_ended_at = time.monotonic()
        _tell([unit])

    def _commit_together(self) -> bool:
        """Run what waits in one transaction. False if none could begin; then nothing has been run."""
        begun: list[_Unit[Any]] = []
        connection = None
        try:
            connection = self._acquire()
            connection.info[SHARED] = True
            with connection.begin():
                self._run_waiting(connection, begun)
            connection.info[SHARED] = False
        except Exception:  # noqa: BLE001 - the units meet it again, each by itself, and their callers are told
            self._release(connection, reuse=False)
            alone = begun
        else:
            self._release(connection)
            alone = [unit for unit in begun if not unit.settled]
            _tell(unit for unit in begun if unit.settled)
        self._turn_ended_at = time.monotonic()
        give_up_at = time.monotonic() + QUEUE_SECONDS
        for unit in alone:
            if time.monotonic() < give_up_at:
                self._commit_alone(unit)
            else:
                unit.settle(_unreachable)
                _tell([unit])
        return bool(begun)

    def _run_waiting(self, connection: Connection, begun: "list[_Unit[Any]]") -> None:
        """Run what waits, and what arrives meanwhile, each unit behind a savepoint."""
        driver = _driver(connection)
        until = time.monotonic() + JOIN_SECONDS
        while time.monotonic() < until and (unit := self._next()):
            begun.append(unit)
            # These fail if the transaction is gone, as it is when the disk is full.
            driver.execute("SAVEPOINT unit")
            if not unit.run(connection):
                driver.execute("ROLLBACK TO unit")
            driver.execute("RELEASE unit")

    def _begin(self, connection: Connection) -> None:
        """Begin a transaction, after a pause if it is another process's turn."""
        now = time.monotonic()
        if now - self._others_wrote_at < LATELY_SECONDS:
            time.sleep(max(0.0, self._turn_ended_at + TURN_SECONDS - now))
        driver, give_up_at = _driver(connection), now + BUSY_SECONDS
        while time.monotonic() < give_up_at:
            try:
                driver.execute(_BEGIN)
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
                    break
                time.sleep(random.uniform(*RETRY_SECONDS))  # noqa: S311 - not for secrets
            else:
                self._notice_others(connection, driver)
                return
        connection.exec_driver_sql(_BEGIN)  # most likely raises the error once more, as one of SQLAlchemy's

    def _notice_others(self, connection: Connection, driver: sqlite3.Connection) -> None:
        version = driver.execute("PRAGMA data_version").fetchone()[0]  # changes with commits of other connections only
        if connection.info.setdefault(_SEEN, version) != version:
            connection.info[_SEEN] = version
            self._others_wrote_at = time.monotonic()


class _Unit(Generic[T]):
    """A unit of work in the queue, and the caller who waits for its outcome."""

    def __init__(self, work: Callable[[Connection], T]) -> None:
        self.work = work
        self.loop = asyncio.get_running_loop()
        self.settled = False
        self._ended = self.loop.create_future()
        self._ticket = threading.Lock()
        self._result: T
        self._error: BaseException | None = None

    def take(self) -> bool:
        """Decide about this unit: True for the first caller only, who runs it or gives it up."""
        return self._ticket.acquire(blocking=False)

    async def outcome(self) -> T:
        """The result, or raise the error. Raises Unavailable if the unit does not begin in time."""
        timer = self.loop.call_later(QUEUE_SECONDS, self._give_up)
        try:
            await self._ended
        except asyncio.CancelledError:
            self.take()
            raise
        finally:
            timer.cancel()
        try:
            if self._error is not None:
                raise self._error
            return self._result
        finally:
            self._error = None  # its traceback refers to this frame

    def settle(self, run: Callable[[], T]) -> None:
        """Note the result or the error."""
        try:
            self._result, self._error = run(), None
        except BaseException as error:  # noqa: BLE001 - raised where the caller waits
            self._error = error
        self.settled = True

    def run(self, connection: Connection) -> bool:
        """Run in a transaction with others. False if it failed; it is not settled if it has to run alone."""
        try:
            self._result = self.work(connection)
        except (DBAPIError, RunAlone):
            return False
        except BaseException as error:  # noqa: BLE001 - raised where the caller waits
            self._error = error
        self.settled = True
        return self._error is None

    def end(self) -> None:
        """Wake the caller, in its own thread."""
        if not self._ended.done():
            self._ended.set_result(None)

    def _give_up(self) -> None:
        if self.take():
            self.settle(_unreachable)
            self.end()


def _tell(units: "Iterable[_Unit[Any]]") -> None:
    """Wake the callers of these units, with one call for each event loop."""
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[_Unit[Any]]] = defaultdict(list)
    for unit in units:
        by_loop[unit.loop].append(unit)
    for loop, ended in by_loop.items():
        with suppress(RuntimeError):  # it is closed, and nobody waits
            loop.call_soon_threadsafe(_end, ended)


def _end(units: "list[_Unit[Any]]") -> None:
    for unit in units:
        unit.end()


def _unreachable() -> Any:  # noqa: ANN401 - no result
    raise Unavailable(UNREACHABLE, retry_after=5)


def _driver(connection: Connection) -> sqlite3.Connection:
    """SQLite's own connection. SQLAlchemy's way of sending a savepoint costs more than the savepoint."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - tells the type checker
    return driver


def _configure(driver: sqlite3.Connection, _: object) -> None:
    driver.execute("PRAGMA busy_timeout=0")
    driver.execute("PRAGMA temp_store=MEMORY")  # what a savepoint would bring back, beyond 64 KiB
