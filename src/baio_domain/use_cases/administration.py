"""What only the administrator of an installation can do with accounts."""

import secrets
from collections.abc import Container, Iterator
from dataclasses import dataclass

from baio_domain.entities import (
    INVITATION_LIFETIME,
    PASSWORD_RESET_LIFETIME,
    Act,
    AuditEntry,
    Origin,
    User,
    account_problems,
    new_password_problems,
    refuse,
)
from baio_domain.errors import FieldError, InvalidInput
from baio_domain.one_time_codes import digest_of
from baio_domain.ports import Clock, Database, PasswordHasher, Transaction
from baio_domain.session_check import end_all_sessions

PAGE = 1000
"""Audit entries that one statement reads."""


@dataclass(frozen=True, slots=True)
class ListUsers:
    """List all accounts, oldest first."""

    database: Database

    async def __call__(self) -> list[User]:
        """Return them."""
        return await self.database.read(lambda tx: tx.users.all())


@dataclass(frozen=True, slots=True)
class DisableUser:
    """Disable an account from its next request on. Its sessions end, its running answers stop, nothing is deleted."""

    database: Database
    clock: Clock

    async def __call__(self, username: str, origin: Origin) -> User:
        """Disable it, or leave it disabled, and return it. Raises InvalidInput naming an unknown ``username``."""
        now = self.clock.now()

        def disable(tx: Transaction) -> User:
            user = _named(tx, username)
            if user.disabled_at is None:
                tx.users.disable(user.id, now)
                end_all_sessions(tx, user.id)
                tx.audit.add(Act.ACCOUNT_DISABLED, user.id, origin, now)
            return tx.users.get(user.id)

        return await self.database.write(disable)


@dataclass(frozen=True, slots=True)
class EnableUser:
    """Enable a disabled account again."""

    database: Database
    clock: Clock

    async def __call__(self, username: str, origin: Origin) -> User:
        """Enable it, or leave it enabled, and return it. Raises InvalidInput naming an unknown ``username``."""
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
    """Give an account a new password, under the usual rules. All its sessions end."""

    database: Database
    hasher: PasswordHasher
    clock: Clock
    common_passwords: Container[str]

    async def __call__(self, username: str, password: str, origin: Origin) -> User:
        """Replace it and return the account. Raises InvalidInput naming ``username`` or ``password``."""
        user = await self.database.read(lambda tx: _named(tx, username))
        refuse(new_password_problems(user, password, self.common_passwords))
        password_hash = await self.hasher.hash(password)
        now = self.clock.now()

        def reset(tx: Transaction) -> None:
            tx.users.save_password_hash(user.id, password_hash)
            end_all_sessions(tx, user.id)
            tx.audit.add(Act.PASSWORD_RESET, user.id, origin, now)

        await self.database.write(reset)
        return user


@dataclass(frozen=True, slots=True)
class OfferPasswordReset:
    """Make a secret with which the user sets a new password once, within an hour. Earlier secrets become invalid."""

    database: Database
    clock: Clock

    async def __call__(self, username: str, origin: Origin) -> str:
        """Return the secret; only its digest is stored. Raises InvalidInput naming ``username``."""
        secret = secrets.token_hex(32)
        now = self.clock.now()

        def offer(tx: Transaction) -> None:
            user = _named(tx, username)
            tx.users.save_password_reset(user.id, digest_of(secret), now + PASSWORD_RESET_LIFETIME)
            tx.audit.add(Act.PASSWORD_LINK_MADE, user.id, origin, now)

        await self.database.write(offer)
        return secret


@dataclass(frozen=True, slots=True)
class Invite:
    """Make an invitation with which somebody registers once, within seven days."""

    database: Database
    clock: Clock

    async def __call__(self, email: str | None, origin: Origin) -> str:
        """Return its code; only the digest is stored. Raises InvalidInput naming ``email``.

        With an email address only an account with that address can be registered.
        """
        if email is not None:
            refuse(account_problems({"email": email}, frozenset()))
        code, now = secrets.token_hex(32), self.clock.now()

        def invite(tx: Transaction) -> None:
            tx.invitations.forget(now)
            tx.invitations.add(digest_of(code), email and email.strip(), now + INVITATION_LIFETIME)
            tx.audit.add(Act.INVITED, None, origin, now)

        await self.database.write(invite)
        return code


@dataclass(frozen=True, slots=True)
class ResetTwoFactor:
    """Disable an account's two-factor authentication, for a user who has lost the app and all recovery codes.

    All its sessions end. The administrator must make sure that it is the account's owner who asks.
    """

    database: Database
    clock: Clock

    async def __call__(self, username: str, origin: Origin) -> User:
        """Disable it and return the account. Raises InvalidInput naming ``username``, also where it was not enabled."""
        now = self.clock.now()

        def reset(tx: Transaction) -> User:
            user = _named(tx, username)
            if not tx.second_factors.remove(user.id):
                raise InvalidInput.of(FieldError("username", "this account has no two-factor authentication"))
            end_all_sessions(tx, user.id)
            tx.audit.add(Act.TWO_FACTOR_DISABLED, user.id, origin, now)
            return user

        return await self.database.write(reset)


@dataclass(frozen=True, slots=True)
class ReadAudit:
    """Read the audit, oldest entry first."""

    database: Database

    async def __call__(self, username: str | None = None) -> list[AuditEntry]:
        """Return all entries, or those of one account. Raises InvalidInput naming ``username``."""
        if username is not None:
            return await self.database.read(lambda tx: tx.audit.of(_named(tx, username).id))
        return await self.database.read(lambda tx: list(_all(tx)))


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
