"""Sessions: sign in, refresh, validate, list and sign out."""

from dataclasses import dataclass

from baio_domain.authentication import Authenticated, Authenticator, Credentials
from baio_domain.entities import NOWHERE, Act, Caller, Origin, Session, SessionLimits, User
from baio_domain.errors import FieldError, InvalidInput, NotAuthenticated, PasswordSignInOff
from baio_domain.ports import Clock, Database, PasswordHasher, TokenIssuer, Transaction
from baio_domain.rate_limits import network_of
from baio_domain.session_check import end_all_sessions, session_checked, session_over
from baio_domain.session_opening import SessionOpener, SignedIn


@dataclass(frozen=True, slots=True)
class SignIn:
    """Sign in with username and password, and with a code if two-factor authentication is enabled.

    - The case of the username does not matter.
    - A wrong username, a wrong password and a disabled account get the same error, after the same time.
    - A missing code gets its own error if the password is correct. A code is from the authenticator app, or an unused
      recovery code, and works once.
    - It opens a session, and returns an access token for requests and a refresh token for new access tokens.
    - If a user has more sessions than allowed, the oldest end.
    - Failed attempts are limited per account and network, per network, and in total.
    - The server may refuse every password: then people sign in only with an institution.
    """

    database: Database
    hasher: PasswordHasher
    authenticator: Authenticator
    clock: Clock
    opener: SessionOpener
    passwords: bool = True

    async def __call__(
        self, username: str, password: str, code: str | None = None, origin: Origin = NOWHERE
    ) -> SignedIn:
        """Return the tokens.

        Raises PasswordSignInOff, BadCredentials, SecondFactorRequired, WrongCode or TooManyAttempts.
        """
        if not self.passwords:
            raise PasswordSignInOff
        now = self.clock.now()

        def open_session(tx: Transaction, authenticated: Authenticated) -> tuple[Authenticated, Session]:
            return authenticated, self.opener.open(tx, authenticated.user, origin, now, authenticated.method)

        authenticated, session = await self.authenticator(Credentials(username, password, code, origin), open_session)
        await self._renew_hash(authenticated.user, password, network_of(origin.address))
        return self.opener.signed_in(session)

    async def _renew_hash(self, user: User, password: str, network: str) -> None:
        """Replace a hash that was made with other parameters, unless the password has changed in the meantime."""
        if self.hasher.outdated(user.password_hash):
            renewed = await self.hasher.hash(password, network=network)
            await self.database.write(lambda tx: tx.users.renew_password_hash(user.id, user.password_hash, renewed))


@dataclass(frozen=True, slots=True)
class Refresh:
    """Get a new access token for a valid refresh token, which stays valid. An access token is refused here.

    This counts as using the session. By default a session ends after a day without use, and after 30 days.
    """

    database: Database
    tokens: TokenIssuer
    clock: Clock
    limits: SessionLimits

    async def __call__(self, refresh_token: str) -> str:
        """Return a new access token, or raise NotAuthenticated."""
        caller = self.tokens.verify(refresh_token, "refresh")
        session_id, now = _session_of(caller), self.clock.now()
        session = await self.database.write(
            lambda tx: tx.sessions.use(
                session_id,
                now,
                owner=caller.user_id,
                used_since=now - self.limits.idle,
                opened_since=now - self.limits.whole,
            )
        )
        if session is None:
            raise session_over()
        return self.tokens.issue(session, "access", session.created_at + self.limits.whole)


@dataclass(frozen=True, slots=True)
class ValidateToken:
    """Check an access token: signed here, not expired, and its session and account still active."""

    database: Database
    tokens: TokenIssuer

    async def __call__(self, access_token: str) -> None:
        """Return when it is valid, or raise NotAuthenticated."""
        caller = self.tokens.verify(access_token, "access")
        await self.database.read(session_checked(caller, lambda _: None))


@dataclass(frozen=True, slots=True)
class SignOut:
    """End the session of a refresh token. Its tokens are invalid from the next request on.

    Running answers continue: they belong to their conversations. A session that has already ended is not an error.
    """

    database: Database
    tokens: TokenIssuer
    clock: Clock

    async def __call__(self, refresh_token: str, origin: Origin = NOWHERE) -> None:
        """End it, or raise InvalidInput naming ``refresh``."""
        try:
            caller = self.tokens.verify(refresh_token, "refresh")
        except NotAuthenticated:
            raise InvalidInput.of(FieldError("refresh", "is not a valid refresh token")) from None
        session_id, now = _session_of(caller), self.clock.now()

        def end(tx: Transaction) -> None:
            if tx.sessions.end(session_id, owner=caller.user_id):
                tx.audit.add(Act.SIGNED_OUT, caller.user_id, origin, now)

        await self.database.write(end)


@dataclass(frozen=True, slots=True)
class SignOutEverywhere:
    """End all of one's sessions, this one included."""

    database: Database
    clock: Clock

    async def __call__(self, caller: Caller) -> None:
        """End them."""
        now = self.clock.now()

        def end(tx: Transaction) -> None:
            end_all_sessions(tx, caller.user_id)
            tx.audit.add(Act.SIGNED_OUT_EVERYWHERE, caller.user_id, caller.origin, now)

        await self.database.write(session_checked(caller, end))


@dataclass(frozen=True, slots=True)
class GetSessions:
    """List one's sessions, newest first. A session counts as used when it is refreshed."""

    database: Database
    clock: Clock
    limits: SessionLimits

    async def __call__(self, caller: Caller) -> list[Session]:
        """Return those that have not expired."""
        sessions = await self.database.read(session_checked(caller, lambda tx: tx.sessions.of(caller.user_id)))
        now = self.clock.now()
        return [
            each
            for each in sessions
            if each.last_used_at >= now - self.limits.idle and each.created_at >= now - self.limits.whole
        ]


def _session_of(caller: Caller) -> str:
    if caller.session_id is None:
        raise NotAuthenticated("The token is not valid.")
    return caller.session_id
