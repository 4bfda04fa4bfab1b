"""Password hashes with Argon2id, and the list of common passwords."""

import ast
import asyncio
import contextlib
import importlib.util
import itertools
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, final

from argon2 import PasswordHasher as Argon2
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from baio_domain.entities import MIN_PASSWORD_LENGTH
from baio_domain.errors import Unavailable
from baio_domain.ports import NO_METRICS, Metrics, PasswordHasher
from baio_domain.text import composed, folded

T = TypeVar("T")

COMMON_PASSWORD_COUNT = 3000
"""How many of the most common passwords are refused, counting only those that are long enough (ASVS 5.0, 6.2.4)."""


@final
class Argon2Hasher(PasswordHasher):
    """Argon2id with OWASP's parameters: one iteration over 46 MiB with one lane.

    One thread hashes for the whole process: a burst of sign-ins waits in a queue, and neither the event loop nor the
    running answers notice. Argon2 releases the interpreter lock. At most ``max_pending`` requests wait.
    """

    def __init__(self, *, max_pending: int = 200, metrics: Metrics = NO_METRICS) -> None:
        self.waiting = 0
        """How many passwords wait to be hashed or verified, with the one in work."""
        self._metrics = metrics
        self._queue = FairQueue(max_pending)
        self._argon2 = Argon2(time_cost=1, memory_cost=46 * 1024, parallelism=1, type=Type.ID)
        # Verified for a username that nobody has, so that it takes as long as any other. No password has this hash.
        costs = f"m={self._argon2.memory_cost},t={self._argon2.time_cost},p={self._argon2.parallelism}"
        self._dummy_hash = f"$argon2id$v=19${costs}${'A' * 22}${'A' * 43}"
        self._slowest_failure = 0.0

    async def hash(self, password: str, *, network: str = "") -> str:
        """Hash in the thread."""
        return await self._in_turn(network, lambda: self._argon2.hash(composed(password)))

    async def verify(self, password: str, password_hash: str | None, *, network: str = "") -> bool:
        """Verify in the thread; a malformed hash counts as a wrong password."""
        verified, seconds = await self._in_turn(network, lambda: self._verify(password, password_hash))
        if not verified:
            # A hash with other parameters takes another time, which would tell that the account exists.
            await asyncio.sleep(self._slowest_failure - seconds)
        return verified

    def outdated(self, password_hash: str) -> bool:
        """Compare the parameters in the hash."""
        return self._argon2.check_needs_rehash(password_hash)

    async def _in_turn(self, network: str, work: Callable[[], T]) -> T:
        began_at = time.perf_counter()
        self.waiting += 1
        try:
            result = await self._queue.run(network, work)
        finally:
            self.waiting -= 1
        self._metrics.password_hashed(time.perf_counter() - began_at)
        return result

    def _verify(self, password: str, password_hash: str | None) -> tuple[bool, float]:
        """Whether it is the password, and how many seconds it took to find out.

        Older hashes are of the password as it was typed.
        """
        started, verified, outdated = time.perf_counter(), False, False
        for spelling in dict.fromkeys((composed(password), password)):
            with contextlib.suppress(VerificationError, InvalidHashError):
                outdated = password_hash is not None and self.outdated(password_hash)
                self._argon2.verify(self._dummy_hash if password_hash is None else password_hash, spelling)
                verified = password_hash is not None
                break
        seconds = time.perf_counter() - started
        if outdated:
            self._slowest_failure = max(self._slowest_failure, seconds)
        return verified, seconds


class FairQueue:
    """Runs one job at a time in a thread; the networks that wait take turns.

    When ``limit`` jobs are waiting, the newest job of the network with the most of them is refused with Unavailable: a
    network that floods the queue only displaces itself.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._thread = ThreadPoolExecutor(1, "baio-passwords")
        self._waiting: dict[str, deque[_Job]] = {}
        self._running: Future[Any] | None = None

    async def run(self, network: str, work: Callable[[], T]) -> T:
        """Wait for a turn, run ``work`` in the thread, and return its result."""
        job = _Job(work, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(network, deque()).append(job)
        self._refuse_excess()
        self._run_next()
        result: T = await job.result
        return result

    def _refuse_excess(self) -> None:
        if sum(map(len, self._waiting.values())) <= self._limit:
            return
        for jobs in self._waiting.values():
            still_wanted = [job for job in jobs if not job.result.done()]  # the clients of the others have left
            jobs.clear()
            jobs.extend(still_wanted)
        if sum(map(len, self._waiting.values())) > self._limit:
            most = max(self._waiting.values(), key=len)
            most.pop().result.set_exception(Unavailable("Too many sign-ins at the same time.", retry_after=5))

    def _run_next(self) -> None:
        if self._running is not None and not self._running.done():
            return
        while self._waiting:
            network, jobs = next(iter(self._waiting.items()))
            del self._waiting[network]
            job = jobs.popleft() if jobs else None
            if jobs:
                self._waiting[network] = jobs  # behind the others
            if job is not None and not job.result.done():
                self._running = self._thread.submit(job.work)
                self._running.add_done_callback(partial(self._hand_over, job))
                return

    def _hand_over(self, job: "_Job", done: Future[Any]) -> None:
        """Called in the thread: go on in the event loop, if it still runs."""
        with contextlib.suppress(RuntimeError):
            job.result.get_loop().call_soon_threadsafe(self._finish, job, done)

    def _finish(self, job: "_Job", done: Future[Any]) -> None:
        if not job.result.done():
            if (error := done.exception()) is not None:
                job.result.set_exception(error)
            else:
                job.result.set_result(done.result())
        self._run_next()


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[], Any]
    result: asyncio.Future[Any]


def common_passwords() -> frozenset[str]:
    """The most common passwords of zxcvbn's list that are long enough to be allowed, case-folded."""
    # Read from the source file: importing the package would take 10 MB in every worker, and the other lists another 5.
    package = importlib.util.find_spec("zxcvbn")
    if package is None or package.origin is None:
        raise LookupError("zxcvbn is not installed")
    with Path(package.origin).with_name("frequency_lists.py").open(encoding="utf-8") as source:
        assignment = next(line for line in source if line.strip().startswith('"passwords": '))
    passwords = ast.literal_eval(assignment.partition(": ")[2].rpartition(".split(")[0]).split(",")
    long_enough = (password for password in passwords if len(password) >= MIN_PASSWORD_LENGTH)
    return frozenset(folded(password) for password in itertools.islice(long_enough, COMMON_PASSWORD_COUNT))
