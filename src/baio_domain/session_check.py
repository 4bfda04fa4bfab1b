"""Whether a caller may still act: asked inside every transaction, not only when the token was checked."""

from collections.abc import Callable
from typing import TypeVar

from baio_domain.entities import Caller
from baio_domain.ports import Transaction

T = TypeVar("T")


def session_checked(caller: Caller, work: Callable[[Transaction], T]) -> Callable[[Transaction], T]:
    """The unit of work, refused with NotAuthenticated when the caller's session is over or the account disabled.

    An access token lives for minutes; whoever signs out, or is disabled, is shut out with the very next request, on
    every process, because they all ask the database. How long a session lasts is not asked here: no access token
    outlives it.
    """

    def checked(tx: Transaction) -> T:
        if caller.session_id is None:
            tx.users.require_enabled(caller.user_id)
        else:
            tx.sessions.require(caller.session_id, owner=caller.user_id)
        return work(tx)

    return checked
