"""Key rotation: all encrypted data is re-encrypted under the newest master key."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

from baio_domain.entities import Act, ApiKey, Origin, SecondFactor
from baio_domain.errors import ApiKeyNotFound, SecretUnreadable
from baio_domain.ports import Clock, Database, SecretBox, SecretKind

PAGE = 100
"""Rows that one transaction reads."""

_Result = Literal["renewed", "current", "unreadable"]


@dataclass(frozen=True, slots=True)
class KeyRotationResult:
    """How many secrets were re-encrypted, were already current, and could not be decrypted."""

    renewed: int
    current: int
    unreadable: int


@dataclass(frozen=True, slots=True)
class RotateKeys:
    """Re-encrypt all API keys and all seeds of second factors under the newest master key.

    Servers may run meanwhile, and running it again is safe.
    """

    database: Database
    box: SecretBox
    clock: Clock

    async def __call__(self, origin: Origin) -> KeyRotationResult:
        """Do so page by page. A secret that no master key decrypts stays as it is."""
        counts: dict[_Result, int] = {"renewed": 0, "current": 0, "unreadable": 0}
        async for stored in _stored_secrets(self.database):
            renew = self._renew_key(stored) if isinstance(stored, ApiKey) else self._renew_seed(stored)
            counts[await renew] += 1
        now, note = self.clock.now(), f"{counts['renewed']} renewed"
        await self.database.write(lambda tx: tx.audit.add(Act.KEYS_ROTATED, None, origin, now, note))
        return KeyRotationResult(counts["renewed"], counts["current"], counts["unreadable"])

    async def _renew_key(self, key: ApiKey) -> _Result:
        result, sealed = self._resealed(key.sealed, "api key", key.user_id, key.id)
        if sealed is not None:
            with contextlib.suppress(ApiKeyNotFound):  # deleted meanwhile
                await self.database.write(lambda tx: tx.api_keys.save_sealed(key.id, sealed, owner=key.user_id))
        return result

    async def _renew_seed(self, factor: SecondFactor) -> _Result:
        result, sealed = self._resealed(factor.sealed, "two-factor seed", factor.user_id, factor.user_id)
        if sealed is not None:
            await self.database.write(lambda tx: tx.second_factors.save_sealed(factor, sealed))
        return result

    def _resealed(self, sealed: bytes, kind: SecretKind, owner: int, row_id: int) -> tuple[_Result, bytes | None]:
        if self.box.is_current(sealed):
            return "current", None
        try:
            secret = self.box.open(sealed, kind=kind, owner=owner, row_id=row_id)
        except SecretUnreadable:
            return "unreadable", None
        return "renewed", self.box.seal(secret, kind=kind, owner=owner, row_id=row_id)


@dataclass(frozen=True, slots=True)
class CountUnreadableSecrets:
    """How many API keys and seeds of second factors none of the master keys decrypts."""

    database: Database
    box: SecretBox

    async def __call__(self) -> int:
        """Try each, page by page."""
        return sum([not self._opens(stored) async for stored in _stored_secrets(self.database)])

    def _opens(self, stored: ApiKey | SecondFactor) -> bool:
        kind: SecretKind = "api key" if isinstance(stored, ApiKey) else "two-factor seed"
        row_id = stored.id if isinstance(stored, ApiKey) else stored.user_id
        try:
            self.box.open(stored.sealed, kind=kind, owner=stored.user_id, row_id=row_id)
        except SecretUnreadable:
            return False
        return True


async def _stored_secrets(database: Database) -> AsyncIterator[ApiKey | SecondFactor]:
    """Everything that is stored encrypted, read page by page."""
    last = 0
    while keys := await database.read(lambda tx, last=last: tx.api_keys.after(last, PAGE)):  # type: ignore[misc]
        for key in keys:
            yield key
        last = keys[-1].id
    last = 0
    while factors := await database.read(lambda tx, last=last: tx.second_factors.after(last, PAGE)):  # type: ignore[misc]
        for factor in factors:
            yield factor
        last = factors[-1].user_id
