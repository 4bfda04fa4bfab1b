"""What the administrator of an installation does with accounts, from the command line; no client of the API can."""

import secrets
from collections.abc import Container, Iterator
from dataclasses import dataclass
from datetime import timedelta

from baio_domain.entities import Act, AuditEntry, Origin, User, new_password_problems, refuse
from baio_domain.errors import FieldError, InvalidInput
from baio_domain.one_time_codes import digest_of
from baio_domain.ports import Clock, Database, PasswordHasher, Transaction

LINK_LASTS = timedelta(hours=1)
"""How long a link to set another password works."""

PAGE = 1000
"""Audit entries that are read at once."""


@dataclass(frozen=True, slots=True)
class ListUsers:
    """List all accounts, in the order they were made."""

    database: Database

    async def __call__(self) -> list[User]:
        """Return them."""
        return await self.database.read(lambda tx: tx.users.all())


@dataclass(frozen=True, slots=True)
class DisableUser:
    """Shut an account out with its very next request; its sessions end, its running answers stop, nothing is lost."""

    database: Database
    clock: Clock

    async def __call__(self, username: str, origin: Origin) -> User:
        """Disable it, or leave it disabled, and return it; InvalidInput naming ``username`` where there is none."""
        now = self.clock.now()

        def disable(tx: Transaction) -> User:
            user = _named(tx, username)
            if user.disabled_at is None:
                tx.users.disable(user.id, now)
                tx.sessions.end_all(user.id)
                tx.audit.add(Act.ACCOUNT_DISABLED, user.id, origin, now)
            return tx.users.get(user.id)

        return await self.database.write(disable)


@dataclass(frozen=True, slots=True)
class EnableUser:
    """Let a disabled account in again."""

    database: Database
    clock: Clock

    async def __call__(self, username: str, origin: Origin) -> User:
        """Enable it, or leave it enabled, and return it; InvalidInput naming ``username`` where there is none."""
        now = self.clock.now()

        def enable(tx: Transaction) -> User:
            user = _named(tx, username)
            if user.disabled_at is not None:
                tx.users.enable(user.id)
                tx.audit.add(Act.ACCOUNT_ENABLED, user.id, origin, now)
            return tx.users.get(user.id)

        return await self.database.write(enable)


@dataclass(frozen=True, slots=True)
class ResetPassword:
    """Give an account another password, by the rules for passwords. All of its sessions end."""

    database: Database
    hasher: PasswordHasher
    clock: Clock
    common_passwords: Container[str]

    async def __call__(self, username: str, password: str, origin: Origin) -> User:
        """Replace it and return the account; InvalidInput naming ``username`` or ``password``."""
        user = await self.database.read(lambda tx: _named(tx, username))
        refuse(new_password_problems(user, password, self.common_passwords))
        password_hash = await self.hasher.hash(password)
        now = self.clock.now()

        def reset(tx: Transaction) -> None:
            tx.users.save_password_hash(user.id, password_hash)
            tx.sessions.end_all(user.id)
            tx.audit.add(Act.PASSWORD_RESET, user.id, origin, now)

        await self.database.write(reset)
        return user


@dataclass(frozen=True, slots=True)
class OfferPasswordReset:
    """Make a secret with which the user sets another password: it works once, for an hour. Earlier ones are void."""

    database: Database
    clock: Clock

    async def __call__(self, username: str, origin: Origin) -> str:
        """Return the secret, which is stored as a digest alone; InvalidInput naming ``username``."""
        secret = secrets.token_hex(32)
        now = self.clock.now()

        def offer(tx: Transaction) -> None:
            user = _named(tx, username)
            tx.users.save_password_reset(user.id, digest_of(secret), now + LINK_LASTS)
            tx.audit.add(Act.PASSWORD_LINK_MADE, user.id, origin, now)

        await self.database.write(offer)
        return secret


@dataclass(frozen=True, slots=True)
class ResetTwoFactor:
    """Turn an account's two-factor authentication off, for somebody who has lost the app and every recovery code.

    All of its sessions end. Whether it is the account's owner who asks, the administrator has to make sure.
    """

    database: Database
    clock: Clock

    async def __call__(self, username: str, origin: Origin) -> User:
        """Turn it off and return the account; InvalidInput naming ``username``, also where it was not on."""
        now = self.clock.now()

        def reset(tx: Transaction) -> User:
            user = _named(tx, username)
            if not tx.second_factors.remove(user.id):
                raise InvalidInput.of(FieldError("username", "this account has no two-factor authentication"))
            tx.sessions.end_all(user.id)
            tx.audit.add(Act.TWO_FACTOR_DISABLED, user.id, origin, now)
            return user

        return await self.database.write(reset)


@dataclass(frozen=True, slots=True)
class ReadAudit:
    """Read what was done to accounts, oldest first."""

    database: Database

    async def __call__(self, username: str | None = None) -> list[AuditEntry]:
        """Return every entry, or those that concern one account; InvalidInput naming ``username``."""
        if username is not None:
            return await self.database.read(lambda tx: tx.audit.of(_named(tx, username).id))
        return await self.database.read(lambda tx: list(_all(tx)))


@dataclass(frozen=True, slots=True)
class RecordAdminAction:
    """Record an act of the administrator's that concerns no single account."""

    database: Database
    clock: Clock

    async def __call__(self, act: Act, origin: Origin, note: str) -> None:
        """Record it."""
        now = self.clock.now()
        await self.database.write(lambda tx: tx.audit.add(act, None, origin, now, note))


def _all(tx: Transaction) -> Iterator[AuditEntry]:
    last = 0
    while page := tx.audit.after(last, PAGE):
        yield from page
        last = page[-1].id


def _named(tx: Transaction, username: str) -> User:
    user = tx.users.by_username(username.strip())
    if user is None:
        raise InvalidInput.of(FieldError("username", "there is no such account"))
    return user
