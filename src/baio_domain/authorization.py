"""Whether a caller may still act: asked inside every transaction, not only when the token was checked."""

from collections.abc import Callable
from typing import TypeVar

from baio_domain.entities import Caller
from baio_domain.ports import Transaction

T = TypeVar("T")


def acting(caller: Caller, work: Callable[[Transaction], T]) -> Callable[[Transaction], T]:
    """The unit of work, refused with NotAuthenticated when the caller's account is gone or disabled.

    An access token lives for minutes; an account that is disabled meanwhile is shut out with its very next request.
    """

    def checked(tx: Transaction) -> T:
        tx.users.require_enabled(caller.user_id)
        return work(tx)

    return checked
