"""Whether a caller may still act: checked inside every transaction, not only when the token was verified."""

from collections.abc import Callable
from typing import TypeVar

from baio_domain.entities import Caller
from baio_domain.errors import NotAuthenticated
from baio_domain.ports import Transaction

T = TypeVar("T")


def session_checked(caller: Caller, work: Callable[[Transaction], T]) -> Callable[[Transaction], T]:
    """Wrap ``work``: NotAuthenticated is raised first if the caller's session is over or the account is disabled.

    An access token lives for minutes, but a user who signs out or is disabled is shut out with the very next request,
    on every process, because every transaction asks the database. The session's maximum age is not checked here: no
    access token outlives its session.
    """

    def checked(tx: Transaction) -> T:
        if caller.session_id is None:
            if not tx.users.is_enabled(caller.user_id):
                raise NotAuthenticated("The account is disabled, or does not exist any more.")
        elif not tx.sessions.is_active(caller.session_id, owner=caller.user_id):
            raise session_over()
        return work(tx)

    return checked


def session_over() -> NotAuthenticated:
    """The refusal of a caller whose session has ended."""
    return NotAuthenticated("The session is over. Sign in again.")
