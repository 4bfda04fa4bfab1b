"""Password hashes with Argon2id, and the list of common passwords."""

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

COMMON_PASSWORD_COUNT = 3000
"""How many of the most common passwords are refused, counting only those that are long enough (ASVS 5.0, 6.2.4)."""


@final
class Argon2Hasher(PasswordHasher):
    """Argon2id with OWASP's parameters: one iteration over 46 MiB with one lane.

    One thread of the process computes all hashes, and Argon2 releases the GIL, so a burst of sign-ins delays neither
    the event loop nor running answers. At most ``max_pending`` hashes may be pending: the next one is refused with
    Unavailable, as a flood would make everybody wait for minutes.
    """

    def __init__(self, *, max_pending: int = 200) -> None:
        self._max_pending = max_pending
        self._pending = 0
        self._argon2 = Argon2(time_cost=1, memory_cost=46 * 1024, parallelism=1, type=Type.ID)
        self._executor = ThreadPoolExecutor(1, "baio-passwords")
        # Verified when there is no such account, so that the response takes the same time.
        self._dummy_hash = self._argon2.hash("nobody has this password")

    async def hash(self, password: str) -> str:
        """Hash on the hashing thread."""
        return await self._run(self._argon2.hash, password)

    async def verify(self, password: str, password_hash: str | None) -> bool:
        """Verify on the hashing thread; a malformed hash counts as a wrong password."""
        return await self._run(self._verify, password, password_hash)

    def outdated(self, password_hash: str) -> bool:
        """Compare the parameters in the hash with today's."""
        return self._argon2.check_needs_rehash(password_hash)

    async def _run(self, work: Callable[P, T], *arguments: P.args, **_: P.kwargs) -> T:
        if self._pending >= self._max_pending:
            raise Unavailable("Too many sign-ins at once.", retry_after=5)
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)
        finally:
            self._pending -= 1

    def _verify(self, password: str, password_hash: str | None) -> bool:
        try:
            self._argon2.verify(self._dummy_hash if password_hash is None else password_hash, password)
        except (VerificationError, InvalidHashError):
            return False
        return password_hash is not None


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
