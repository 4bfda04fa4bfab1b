"""What administrators of an installation do with accounts.

People who work on the server itself can do everything here, and administrators' accounts some of it: use cases that
take an ``Administrator``. See ``administrator_checked``.
"""

import secrets
from collections.abc import AsyncIterator, Container
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import partial

from baio_domain.administrators import Administrator, account_named, administrator_checked, administrator_pages
from baio_domain.entities import (
    INVITATION_LIFETIME,
    MAX_EMAIL_LENGTH,
    PASSWORD_RESET_LIFETIME,
    Act,
    AuditEntry,
    Origin,
    User,
    account_problems,
    new_password_problems,
    refuse,
)
from baio_domain.errors import FieldError, InvalidInput, OwnAccount
from baio_domain.one_time_codes import digest_of
from baio_domain.pages import by_id
from baio_domain.ports import PAGE_ROWS, AuditFilter, Clock, Database, PasswordHasher, Transaction
from baio_domain.session_check import end_all_sessions
from baio_domain.text import has_control_characters

MAX_ACCOUNTS = 1_000
"""Accounts in one page of the list."""


@dataclass(frozen=True, slots=True)
class ListedAccount:
    """An account, and whether a sign-in to it needs a code."""

    user: User
    two_factor: bool


@dataclass(frozen=True, slots=True)
class AccountPage:
    """Accounts, and ``after`` for the next page, or None on the last one."""

    accounts: list[ListedAccount]
    next: int | None


@dataclass(frozen=True, slots=True)
class ListUsers:
    """List the accounts, oldest first, in pages.

    - An account keeps its place, so no account is missed or listed twice, whatever changes between two pages.
    - A query finds the accounts whose username or email address begins with it, without regard to case.
    - The only thing that it says about an account's security is whether two-factor authentication is enabled.
    """

    database: Database
    clock: Clock

    async def __call__(
        self, by: Administrator, *, query: str | None = None, after: int = 0, limit: int = MAX_ACCOUNTS
    ) -> AccountPage:
        """Return the accounts after the one with id ``after``. Raises InvalidInput naming every bad parameter."""
        prefix = (query or "").strip()
        refuse(_page_problems(prefix, after, limit))

        def read(tx: Transaction, _: Origin) -> AccountPage:
            found = tx.users.page(after=after, limit=limit + 1, prefix=prefix)
            shown = found[:limit]
            return AccountPage(_listed(tx, shown), shown[-1].id if len(found) > limit else None)

        return await self.database.read(administrator_checked(by, self.clock.now(), read))


def _page_problems(prefix: str, after: int, limit: int) -> list[FieldError]:
    problems = []
    if len(prefix) > MAX_EMAIL_LENGTH:
        problems.append(FieldError("query", f"must have at most {MAX_EMAIL_LENGTH} characters"))
    elif has_control_characters(prefix):
        problems.append(FieldError("query", "must not contain line breaks or control characters"))
    if after < 0:
        problems.append(FieldError("after", "is not the `next` of another page"))
    if not 1 <= limit <= MAX_ACCOUNTS:
        problems.append(FieldError("limit", f"must be 1 to {MAX_ACCOUNTS:,}"))
    return problems


def _listed(tx: Transaction, users: list[User]) -> list[ListedAccount]:
    with_factor = tx.second_factors.enabled_for([each.id for each in users])
    return [ListedAccount(each, each.id in with_factor) for each in users]


@dataclass(frozen=True, slots=True)
class DisableUser:
    """Disable an account from its next request on. Its sessions end, its running answers stop, nothing is deleted.

    Administrators can't disable their own account, so one administrator always remains who can enable the others.
    """

    database: Database
    clock: Clock

    async def __call__(self, username: str, by: Administrator) -> ListedAccount:
        """Disable it, or leave it disabled, and return it. Raises OwnAccount or InvalidInput naming ``username``."""
        now = self.clock.now()

        def disable(tx: Transaction, origin: Origin) -> ListedAccount:
            if origin.operator_id is not None:
                tx.users.lock(origin.operator_id)  # of two administrators who disable each other, one is refused
            user = account_named(tx, username)
            if user.id == origin.operator_id:
                raise OwnAccount
            if user.disabled_at is None:
                tx.users.disable(user.id, now)
                end_all_sessions(tx, user.id)
                tx.audit.add(Act.ACCOUNT_DISABLED, user.id, origin, now)
            return _listed(tx, [tx.users.get(user.id)])[0]

        return await self.database.write(administrator_checked(by, now, disable))


@dataclass(frozen=True, slots=True)
class EnableUser:
    """Enable a disabled account again. The user has to sign in again."""

    database: Database
    clock: Clock

    async def __call__(self, username: str, by: Administrator) -> ListedAccount:
        """Enable it, or leave it enabled, and return it. Raises InvalidInput naming an unknown ``username``."""
        now = self.clock.now()

        def enable(tx: Transaction, origin: Origin) -> ListedAccount:
            user = account_named(tx, username)
            if user.disabled_at is not None:
                tx.users.enable(user.id)
                tx.audit.add(Act.ACCOUNT_ENABLED, user.id, origin, now)
            return _listed(tx, [tx.users.get(user.id)])[0]

        return await self.database.write(administrator_checked(by, now, enable))


@dataclass(frozen=True, slots=True)
class GrantAdmin:
    """Make an account an administrator's. Only people who work on the server itself can do this."""

    database: Database
    clock: Clock

    async def __call__(self, username: str, origin: Origin) -> ListedAccount:
        """Mark it, or leave it marked, and return it. Raises InvalidInput naming an unknown ``username``."""
        return await self.database.write(partial(_mark, username, origin, self.clock.now(), administrator=True))


@dataclass(frozen=True, slots=True)
class RevokeAdmin:
    """Stop an account from being an administrator's, from its next request on."""

    database: Database
    clock: Clock

    async def __call__(self, username: str, origin: Origin) -> ListedAccount:
        """Take it, and return the account. Raises InvalidInput naming an unknown ``username``."""
        return await self.database.write(partial(_mark, username, origin, self.clock.now(), administrator=False))


def _mark(username: str, origin: Origin, now: datetime, tx: Transaction, *, administrator: bool) -> ListedAccount:
    user = account_named(tx, username)
    if user.administrator != administrator:
        tx.users.mark_administrator(user.id, administrator=administrator)
        act = Act.ADMINISTRATOR_GRANTED if administrator else Act.ADMINISTRATOR_REVOKED
        tx.audit.add(act, user.id, origin, now)
    return _listed(tx, [tx.users.get(user.id)])[0]


@dataclass(frozen=True, slots=True)
class ResetPassword:
    """Give an account a new password, under the usual rules. All its sessions end."""

    database: Database
    hasher: PasswordHasher
    clock: Clock
    common_passwords: Container[str]

    async def __call__(self, username: str, password: str, origin: Origin) -> User:
        """Replace it and return the account. Raises InvalidInput naming ``username`` or ``password``."""
        user = await self.database.read(lambda tx: account_named(tx, username))
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
            user = account_named(tx, username)
            tx.users.save_password_reset(user.id, digest_of(secret), now + PASSWORD_RESET_LIFETIME)
            tx.audit.add(Act.PASSWORD_LINK_MADE, user.id, origin, now)

        await self.database.write(offer)
        return secret


@dataclass(frozen=True, slots=True)
class Invitation:
    """The code of an invitation, the email address that it is for (None for any), and when it expires."""

    code: str = field(repr=False)
    email: str | None
    until: datetime


@dataclass(frozen=True, slots=True)
class Invite:
    """Make an invitation for one registration within seven days.

    - The code is returned once, and only its digest is stored.
    - With an email address, only an account with that address can be registered.
    """

    database: Database
    clock: Clock

    async def __call__(self, email: str | None, by: Administrator) -> Invitation:
        """Return it. Raises InvalidInput naming ``email``."""
        if email is not None:
            refuse(account_problems({"email": email}, frozenset()))
            email = email.strip()
        now = self.clock.now()
        made = Invitation(secrets.token_hex(32), email, now + INVITATION_LIFETIME)

        def invite(tx: Transaction, origin: Origin) -> Invitation:
            tx.invitations.forget(now)
            tx.invitations.add(digest_of(made.code), made.email, made.until)
            tx.audit.add(Act.INVITED, None, origin, now)
            return made

        return await self.database.write(administrator_checked(by, now, invite))


@dataclass(frozen=True, slots=True)
class ResetTwoFactor:
    """Disable an account's two-factor authentication, for a user who has lost the app and all recovery codes.

    All its sessions end. The administrator must make sure that the account's owner asks for it.
    """

    database: Database
    clock: Clock

    async def __call__(self, username: str, origin: Origin) -> User:
        """Disable it and return the account. Raises InvalidInput naming ``username``, also where it was not enabled."""
        now = self.clock.now()

        def reset(tx: Transaction) -> User:
            user = account_named(tx, username)
            if not tx.second_factors.remove(user.id):
                raise InvalidInput.of(FieldError("username", "this account has no two-factor authentication"))
            end_all_sessions(tx, user.id)
            tx.audit.add(Act.TWO_FACTOR_DISABLED, user.id, origin, now)
            return user

        return await self.database.write(reset)


@dataclass(frozen=True, slots=True)
class ReadAudit:
    """Read the audit log, oldest entry first: all of it, or entries about one account, of one kind, or of some days.

    - Entries appear in the order of their ids: no entry with a lower id appears after one that was read.
    - BAiO reads it page by page; each page shows the data at the moment when it is read. Old entries may be deleted
      meanwhile.
    - It has no secrets, and nothing of users' questions, answers and stored data.
    """

    database: Database
    clock: Clock

    async def __call__(
        self,
        by: Administrator,
        *,
        username: str | None = None,
        act: str | None = None,
        first: date | None = None,
        last: date | None = None,
        after: int = 0,
    ) -> AsyncIterator[list[AuditEntry]]:
        """Yield pages of the entries after the one with id ``after``; both days (UTC) are included.

        Raises InvalidInput naming ``username``, ``act``, ``first`` or ``after``.
        """
        refuse(_audit_problems(act, first, last, after))

        def choose(tx: Transaction, _: Origin) -> AuditFilter:
            return AuditFilter(
                None if username is None else account_named(tx, username).id,
                None if act is None else Act(act),
                None if first is None else _start_of(first),
                None if last is None or last == date.max else _start_of(last + timedelta(1)),
            )

        chosen = await self.database.read(administrator_checked(by, self.clock.now(), choose))

        def read(tx: Transaction, after: int) -> list[AuditEntry]:
            return tx.audit.page(chosen, after=after, limit=PAGE_ROWS)

        async for page in administrator_pages(self.database, self.clock, by, read, after, by_id):
            yield page


def _audit_problems(act: str | None, first: date | None, last: date | None, after: int) -> list[FieldError]:
    problems = []
    if act is not None and act not in set(Act):
        problems.append(FieldError("act", f"is not one of {', '.join(Act)}"))
    if first is not None and last is not None and first > last:
        problems.append(FieldError("first", "is after the last day"))
    if after < 0:
        problems.append(FieldError("after", "is not the id of an entry"))
    return problems


def _start_of(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
