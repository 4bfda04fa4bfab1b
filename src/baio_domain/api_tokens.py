"""API tokens: their form, and when each was last used.

A token is ``baio_``, 32 random characters and a checksum of 6, all of them letters and digits::

    baio_ + 32 x [0-9A-Za-z] + CRC-32 of these 32, in base 62, padded with "0" to 6

The checksum lets a program that searches files for secrets recognize a token without asking BAiO, and lets BAiO refuse
a misspelled one without asking the database. 32 characters of 62 are 190 bits: nobody can guess one.
"""

import asyncio
import hashlib
import logging
import re
import secrets
import string
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from baio_domain.entities import ApiToken
from baio_domain.errors import Unavailable
from baio_domain.ports import Database

logger = logging.getLogger("baio.tokens")

TOKEN_PREFIX = "baio_"  # noqa: S105 - what every token begins with
RANDOM_LENGTH = 32
CHECKSUM_LENGTH = 6
ENDING_LENGTH = 4
"""Characters of a token that BAiO shows its owner, to tell which one it is. They belong to the checksum."""

NOTED_EVERY = timedelta(minutes=1)
"""The precision with which the last use of a token is stored."""

NOTE_SECONDS = 5.0
"""How often a process stores the uses of tokens."""

_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_FORM = re.compile(rf"{TOKEN_PREFIX}([0-9A-Za-z]{{{RANDOM_LENGTH}}})([0-9A-Za-z]{{{CHECKSUM_LENGTH}}})", re.ASCII)


def new_token() -> str:
    """A new token. Anyone who has it can use it, so it is shown once and never stored."""
    random = "".join(secrets.choice(_DIGITS) for _ in range(RANDOM_LENGTH))
    return TOKEN_PREFIX + random + checksum(random)


def checksum(random: str) -> str:
    """The CRC-32 of these characters in base 62."""
    number, digits = zlib.crc32(random.encode()), ""
    while number:
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits.rjust(CHECKSUM_LENGTH, _DIGITS[0])


def is_well_formed(token: str) -> bool:
    """Whether this has the form of a token, and its checksum is right."""
    found = _FORM.fullmatch(token)
    return found is not None and checksum(found[1]) == found[2]


def token_digest(token: str) -> bytes:
    """The stored digest of a token. It needs no salt and no key: there are too many tokens to try."""
    return hashlib.sha256(token.encode()).digest()


class LastUses:
    """When each token was last used: stored in the background, so that no request waits for it.

    There is one instance per process, active inside ``running``.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._met: dict[bytes, datetime] = {}

    def note(self, token: ApiToken, now: datetime) -> None:
        """Store soon that this token is used now, unless what is stored is exact enough."""
        if token.last_used_at is None or abs(now - token.last_used_at) >= NOTED_EVERY:
            self._met[token.digest] = now

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Store what is noted while inside, and the rest at the end."""
        storing = asyncio.create_task(self._store_forever())
        try:
            yield
        finally:
            storing.cancel()
            await asyncio.gather(storing, return_exceptions=True)
            await self._store()

    async def _store_forever(self) -> None:
        while True:
            await asyncio.sleep(NOTE_SECONDS)
            await self._store()

    async def _store(self) -> None:
        if not self._met:
            return
        met, self._met = self._met, {}
        try:
            await self._database.write(lambda tx: tx.api_tokens.note_used(met))
        except Unavailable:
            pass  # the next request with the token notes it again
        except Exception:
            logger.exception("storing when tokens were last used failed")
