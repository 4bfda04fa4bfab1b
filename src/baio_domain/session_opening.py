"""How every kind of sign-in opens a session."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from baio_domain.entities import MAX_USER_AGENT_LENGTH, Act, Origin, Session, SessionLimits, User
from baio_domain.ports import TokenIssuer, Transaction
from baio_domain.quotas import Quotas


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The two tokens of a sign-in."""

    refresh: str = field(repr=False)
    access: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SessionOpener:
    """Opens sessions. If a user has more than allowed, the oldest end; each sign-in also deletes old rows."""

    tokens: TokenIssuer
    limits: SessionLimits
    quotas: Quotas
    keep_audit: timedelta

    def open(self, tx: Transaction, user: User, origin: Origin, now: datetime, method: str) -> Session:
        """Open a session, and record the sign-in with its method."""
        tx.sessions.forget(used_before=now - self.limits.idle, opened_before=now - self.limits.whole)
        tx.audit.forget(now - self.keep_audit)
        tx.users.lock(user.id)
        session = tx.sessions.open(user.id, origin.user_agent[:MAX_USER_AGENT_LENGTH], now)
        if self.quotas.sessions:
            tx.sessions.end_oldest(user.id, keep=self.quotas.sessions)
        tx.audit.add(Act.SIGNED_IN, user.id, origin, now, method)
        return session

    def signed_in(self, session: Session) -> SignedIn:
        """The tokens of a new session."""
        until = session.created_at + self.limits.whole
        return SignedIn(
            refresh=self.tokens.issue(session, "refresh", until), access=self.tokens.issue(session, "access", until)
        )
