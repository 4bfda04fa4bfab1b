"""Whether a caller may still act: checked inside every transaction, not only when the token was verified."""

from collections.abc import Callable
from typing import TypeVar

from baio_domain.entities import Caller, Scope, UsedToken
from baio_domain.errors import NotAuthenticated, ScopeMissing
from baio_domain.ports import Transaction

T = TypeVar("T")


def session_checked(caller: Caller, work: Callable[[Transaction], T]) -> Callable[[Transaction], T]:
    """Wrap ``work``: NotAuthenticated is raised first if the caller's session is over or the account is disabled.

    An access token lives for minutes, but a user who signs out or is disabled is shut out with the very next request,
    on every process, because every transaction asks the database. The session's maximum age is not checked here: no
    access token outlives its session.

    A caller with an API token is refused as soon as it is revoked, and with ScopeMissing without the scope. Whether it
    has expired is not checked here: it was when the request came, and streams end when it expires.
    """

    def checked(tx: Transaction) -> T:
        if caller.token is not None:
            _check_token(tx, caller.user_id, caller.token)
        elif caller.session_id is None:
            if not tx.users.is_enabled(caller.user_id):
                raise NotAuthenticated("The account is disabled, or does not exist any more.")
        elif not tx.sessions.is_active(caller.session_id, owner=caller.user_id):
            raise session_over()
        return work(tx)

    return checked


def _check_token(tx: Transaction, user_id: int, used: UsedToken) -> None:
    found = tx.api_tokens.find(used.digest)
    if found is None or found.user_id != user_id:
        raise token_over()
    if used.scope not in found.scopes:
        raise scope_missing(used.scope)


def end_all_sessions(tx: Transaction, owner: int, *, except_token_id: str | None = None) -> None:
    """End all sessions of the owner, except the one with this token id, and revoke all API tokens.

    The reason for ending all sessions is that a stranger may have one, and may have made a token with it.
    """
    tx.sessions.end_all(owner, except_token_id=except_token_id)
    tx.api_tokens.revoke_all(owner)


def session_over() -> NotAuthenticated:
    """The refusal of a caller whose session has ended."""
    return NotAuthenticated("The session is over. Sign in again.")


def token_over() -> NotAuthenticated:
    """The refusal of a caller with an API token that is unknown, revoked or expired."""
    return NotAuthenticated("The API token is unknown, was revoked, or has expired.")


def scope_missing(scope: Scope) -> ScopeMissing:
    """The refusal of an API token without this scope."""
    return ScopeMissing(f"This needs an API token with the scope `{scope}`.", scope=scope)
