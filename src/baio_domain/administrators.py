"""The check for administrators, inside every transaction, like that of the session."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from baio_domain.entities import Caller, Origin, User
from baio_domain.errors import FieldError, InvalidInput, NotAdministrator, SecondFactorMissing, SignedInWithoutCode
from baio_domain.pages import admitted_pages
from baio_domain.ports import PAGE_ROWS, Clock, Database, Transaction
from baio_domain.session_check import session_checked
from baio_domain.text import has_control_characters

T = TypeVar("T")
K = TypeVar("K")

Administrator = Caller | Origin
"""Who acts: an account that has signed in, or somebody who works on the server itself, who needs no account."""


def administrator_checked(
    by: Administrator, now: datetime, work: Callable[[Transaction, Origin], T]
) -> Callable[[Transaction], T]:
    """Wrap ``work``, which gets the origin to record: it runs only for an administrator.

    A caller needs a session and an administrator's account. The session must have been opened with an institution, or
    with a code after two-factor authentication was enabled. Otherwise this raises NotAdministrator, SecondFactorMissing
    or SignedInWithoutCode, after the errors of ``session_checked``. ``RevokeAdmin`` takes effect with the next
    transaction, on every process.
    """
    if isinstance(by, Origin):
        return lambda tx: work(tx, by)

    def checked(tx: Transaction) -> T:
        user = _admitted(tx, by, now)
        return work(tx, replace(by.origin, operator=user.username, operator_id=user.id))

    return session_checked(by, checked)


def administrator_pages(
    database: Database,
    clock: Clock,
    by: Administrator,
    read: Callable[[Transaction, K], list[T]],
    after: K,
    key: Callable[[T], K],
) -> AsyncIterator[list[T]]:
    """Pages of ``PAGE_ROWS`` items for an administrator, who is checked before each; see ``admitted_pages``."""

    def admit(work: Callable[[Transaction], list[T]]) -> Callable[[Transaction], list[T]]:
        return administrator_checked(by, clock.now(), lambda tx, _: work(tx))

    return admitted_pages(database, admit, read, after, key, limit=PAGE_ROWS)


def _admitted(tx: Transaction, caller: Caller, now: datetime) -> User:
    """The administrator's account."""
    # Whatever has no session, such as a token of a script, administers nothing.
    session = next((each for each in tx.sessions.of(caller.user_id) if each.token_id == caller.session_id), None)
    user = tx.users.get(caller.user_id)
    if session is None or not user.administrator:
        raise NotAdministrator
    if tx.identities.opened_at(session.token_id, owner=user.id) is not None:
        return user  # how an institution verifies somebody is its administrator's choice
    factor = tx.second_factors.get(user.id)
    if factor is None or factor.enabled_at is None:
        raise SecondFactorMissing("Administrators need two-factor authentication: enable it, then sign in again.")
    # A time in the future comes from a clock that was ahead, and says nothing about which was first.
    if session.created_at < factor.enabled_at <= now:
        raise SignedInWithoutCode
    return user


def account_named(tx: Transaction, username: str) -> User:
    """The account with this username, without regard to case, or raise InvalidInput naming ``username``."""
    # Control characters are in no name, and some are more than a database takes.
    user = None if has_control_characters(username) else tx.users.by_username(username.strip())
    if user is None:
        raise InvalidInput.of(FieldError("username", "there is no such account"))
    return user
