"""Which workers of a database live: an OS lock each beside SQLite, an advisory lock each on PostgreSQL."""

import asyncio
import contextlib
import logging
import os
import secrets
import sys
import time
from abc import abstractmethod
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, final

from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import DBAPIError

from baio_adapters.sql.database import engine_for
from baio_domain.ports import RollCall, Workers

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

logger = logging.getLogger("baio.workers")

T = TypeVar("T")

FREE_SECONDS = 0.9
"""How long an advisory lock must have been free before its worker counts as dead.

A living worker whose connection was cut notices that within half a second, and takes a lock again.
"""

RECONNECTED_SECONDS = 10.0
"""How long nobody counts as dead after the connection of this worker was cut, because others' may have been, too."""


def workers_of(url: str) -> Workers:
    """The workers of the database at this URL."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return SqliteWorkers(Path(str(parsed.database)))
    return PostgresqlWorkers(url)


class _Threaded(Workers):
    """Workers whose calls to the system run one after the other in a thread, so that none keeps the event loop."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "baio-workers")
        self._has_lock = True

    async def enroll(self) -> int | None:
        """Take the lock, unless it is still held."""
        return await self._run(self._enroll)

    async def judge(self, numbers: Collection[int]) -> RollCall:
        """Try whose lock is free."""
        return await self._run(lambda: self._judge(numbers))

    def leave(self) -> None:
        """Wait for a call that runs, then release the lock."""
        self._thread.submit(self._release)
        self._thread.shutdown()

    @abstractmethod
    def _enroll(self) -> int | None: ...

    @abstractmethod
    def _judge(self, numbers: Collection[int]) -> RollCall: ...

    @abstractmethod
    def _release(self) -> None: ...

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _note(self, trouble: str | None) -> None:
        """Log the first of several failures to take the lock."""
        if trouble is not None and self._has_lock:
            logger.warning("no lock for this worker", extra={"cause": trouble})
        self._has_lock = trouble is None


# -- SQLite ------------------------------------------------------------------------------------------------------------


@final
class SqliteWorkers(_Threaded):
    """Each worker locks a file of its own in a folder beside the database; the file's name is the worker's number.

    It is a lock of ``flock``: it belongs to the open file, so no other use of the file in the same process releases it,
    and the descriptor is closed in programs that this process starts. If a file is missing, nothing is known of its
    worker. Every error is therefore on the safe side.
    """

    def __init__(self, database: Path) -> None:
        super().__init__()
        self._folder = Path(f"{database.resolve()}-workers")  # beside the database itself, not beside a link to it
        self._number = 0
        self._descriptor: int | None = None

    def _enroll(self) -> int | None:
        if self._descriptor is not None and self._is_in_place(self._descriptor):
            return self._number
        self._release()
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._number = secrets.randbits(62) + 1
            self._descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            _lock(self._descriptor)
        except OSError as error:  # the disk is full, say, or this file system has no locks
            self._release()
            self._note(error.strerror)
            return None
        self._note(None)
        # Somebody who clears up may have removed the file before it was locked: then the next call tries again.
        return self._number if self._is_in_place(self._descriptor) else None

    def _judge(self, numbers: Collection[int]) -> RollCall:
        others = [file for file in self._files() if int(file.name) != self._number]
        # The file of a dead worker stays until its answers have ended.
        free = {number: _is_free(file, remove=number not in numbers) for file in others if (number := int(file.name))}
        return RollCall(
            alive=frozenset(number for number in numbers if free.get(number) is False),
            dead=frozenset(number for number in numbers if free.get(number)),
        )

    def _release(self) -> None:
        if self._descriptor is not None:
            if sys.platform == "win32":  # which removes no open file
                os.close(self._descriptor)
            self._file.unlink(missing_ok=True)
            if sys.platform != "win32":
                os.close(self._descriptor)
            self._descriptor = None

    @property
    def _file(self) -> Path:
        return self._folder / str(self._number)

    def _is_in_place(self, descriptor: int) -> bool:
        """Whether others find the file that is open here."""
        try:
            return os.path.samestat(self._file.stat(), os.fstat(descriptor))
        except OSError:
            return False

    def _files(self) -> list[Path]:
        try:
            return [file for file in self._folder.iterdir() if file.name.isdecimal()]
        except OSError:
            return []


def _lock(descriptor: int, *, shared: bool = False) -> None:
    """Lock the file. Raises OSError at once if another has locked it, or if it can't be locked."""
    if sys.platform == "win32":
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


def _is_free(file: Path, *, remove: bool) -> bool | None:
    """Whether nobody has locked the file; None if that can't be known. A free one is removed on request."""
    try:
        descriptor = os.open(file, os.O_RDWR)
    except OSError:
        return None
    try:
        _lock(descriptor, shared=True)  # so that two who try it at once are not in each other's way
        if remove:
            with contextlib.suppress(PermissionError):  # Windows removes no open file: there it stays
                file.unlink(missing_ok=True)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    else:
        return True
    finally:
        os.close(descriptor)


# -- PostgreSQL --------------------------------------------------------------------------------------------------------

# The time at which the server started is half of a number: on another server, after a restart or a failover, that lock
# was never taken, and says nothing. The other half is random.
_SESSION = text(
    "SELECT pg_backend_pid(),"
    " CAST(extract(epoch FROM pg_postmaster_start_time()) * 1000000 AS BIGINT) & 2147483647"
)  # fmt: skip
_LOCK = text("SELECT pg_try_advisory_lock(:number)")
# Released with the statement, which is a transaction of its own.
_FREE = text(
    "SELECT number, pg_try_advisory_xact_lock_shared(number) FROM unnest(CAST(:numbers AS BIGINT[])) AS number"
)


@final
class PostgresqlWorkers(_Threaded):
    """Each worker holds a session-level advisory lock on a connection of its own; its key is the worker's number.

    A lock can be free although its worker lives: its connection was cut. So it must be free for a while, in which a
    living worker takes another one and says so in its answers. The server itself notices within 20 seconds that a
    worker's machine is gone.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        noticed = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
        engine = engine_for(
            make_url(url).update_query_dict({"tcp_user_timeout": "5000"}),
            settings={"statement_timeout": "5s", **noticed},
        )
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._session: Connection | None = None
        self._is_shared = False
        self._process_id = self._server = self._number = 0
        self._free_since: dict[int, float] = {}
        self._judges_from = 0.0

    def _enroll(self) -> int | None:
        if self._session is not None and not self._is_session_kept(self._session):
            self._lose()
        if self._is_shared:
            self._note("pooled connection")
            return None
        try:
            if self._session is None:
                self._session = self._engine.connect()
                self._number = self._take_lock(self._session)
        except DBAPIError as error:
            self._note(type(error.orig).__name__)
            self._release()
            return None
        self._note(None)
        return self._number

    def _is_session_kept(self, session: Connection) -> bool:
        try:
            kept = session.execute(_SESSION).one() == (self._process_id, self._server)
        except DBAPIError:
            return False  # the connection was cut, and the lock released
        self._is_shared = not kept  # by a connection pooler: what such a session locks is nobody's lock
        return kept

    def _take_lock(self, session: Connection) -> int:
        self._process_id, self._server = session.execute(_SESSION).one()
        while True:
            number: int = self._server << 31 | secrets.randbits(31)
            if session.execute(_LOCK, {"number": number}).scalar_one():
                return number

    def _judge(self, numbers: Collection[int]) -> RollCall:
        judged = [number for number in numbers if number >> 31 == self._server]
        if self._session is None or not judged or time.monotonic() < self._judges_from:
            self._free_since.clear()
            return RollCall()
        try:
            rows = self._session.execute(_FREE, {"numbers": judged}).fetchall()
        except DBAPIError:
            self._lose()
            return RollCall()
        free, now = {number for number, is_free in rows if is_free}, time.monotonic()
        self._free_since = {number: self._free_since.get(number, now) for number in free}
        dead = [number for number, since in self._free_since.items() if now - since >= FREE_SECONDS]
        return RollCall(alive=frozenset(judged) - free, dead=frozenset(dead))

    def _lose(self) -> None:
        self._judges_from = time.monotonic() + RECONNECTED_SECONDS
        self._release()

    def _release(self) -> None:
        if self._session is not None:
            with contextlib.suppress(DBAPIError):
                self._session.close()
            self._session = None
