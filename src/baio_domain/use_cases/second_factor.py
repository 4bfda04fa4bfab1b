"""Two-factor authentication: an authenticator app, and recovery codes in case it is lost."""

from dataclasses import dataclass, field

from baio_domain.authentication import Attempt, Authenticated, Authenticator, Credentials
from baio_domain.entities import Act, Caller, SecondFactor
from baio_domain.errors import BaioError, NotEnrolled, SecondFactorOn, TooManyAttempts, WrongCode
from baio_domain.one_time_codes import digest_of, enrolment_uri, is_one_time, new_seed, recovery_codes
from baio_domain.ports import Clock, Database, SecretBox, Transaction
from baio_domain.session_check import session_checked


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an authenticator app needs: the seed in Base32, and the same as an ``otpauth`` URI."""

    secret: str = field(repr=False)
    otpauth_uri: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class EnrollTwoFactor:
    """Start to set up two-factor authentication: get a secret for an authenticator app. Needs the password.

    - Nothing changes until the first code has been confirmed; starting again replaces the secret.
    - If two-factor authentication is enabled, it must be disabled first.
    """

    authenticator: Authenticator
    box: SecretBox

    async def __call__(self, caller: Caller, password: str) -> Enrolment:
        """Return the secret, once. Raises BadCredentials, TooManyAttempts or SecondFactorOn."""
        seed = new_seed()
        sealed = self.box.seal(seed, kind="two-factor seed", owner=caller.user_id, row_id=caller.user_id)

        def enroll(tx: Transaction, authenticated: Authenticated) -> Enrolment:
            tx.second_factors.enroll(caller.user_id, sealed)
            return Enrolment(seed, enrolment_uri(seed, authenticated.user.username))

        return await self.authenticator(Credentials(caller, password, None, caller.origin, "never"), enroll)


@dataclass(frozen=True, slots=True)
class ConfirmTwoFactor:
    """Enable two-factor authentication with the first code of the app, and get ten recovery codes, once.

    From now on a sign-in needs a code. Each recovery code works once instead of a code of the app.
    """

    database: Database
    authenticator: Authenticator
    clock: Clock

    async def __call__(self, caller: Caller, code: str) -> list[str]:
        """Return the recovery codes. Raises NotEnrolled, SecondFactorOn, WrongCode or TooManyAttempts."""

        def look(tx: Transaction) -> tuple[Attempt, SecondFactor | None, TooManyAttempts | None]:
            user = tx.users.get(caller.user_id)
            attempt = Attempt.of(tx, caller, user, caller.origin, self.authenticator.box)
            return (
                attempt,
                tx.second_factors.get(caller.user_id),
                attempt.refusal(tx, self.clock.now(), "one-time code"),
            )

        attempt, factor, refusal = await self.database.read(session_checked(caller, look))
        if refusal is not None:
            raise refusal
        if factor is None:
            raise NotEnrolled
        if factor.enabled:
            raise SecondFactorOn
        now = self.clock.now()
        counter = self.authenticator.counter(factor, code, now) if is_one_time(code) else None
        codes = recovery_codes()
        digests = [digest_of(each) for each in codes]

        def confirm(tx: Transaction) -> BaioError | None:
            waiting = attempt.refusal(tx, now, "one-time code")
            if waiting is not None:
                return waiting
            if counter is None or not tx.second_factors.enable(factor, counter, digests, now):
                return attempt.failed(tx, now, caller.user_id, WrongCode(), "one-time code")
            tx.audit.add(Act.TWO_FACTOR_ENABLED, caller.user_id, caller.origin, now)
            return None

        error = await self.database.write(session_checked(caller, confirm))
        if error is not None:
            raise error
        return codes


@dataclass(frozen=True, slots=True)
class DisableTwoFactor:
    """Disable two-factor authentication, with the password and a code. The recovery codes become invalid."""

    authenticator: Authenticator
    clock: Clock

    async def __call__(self, caller: Caller, password: str, code: str) -> None:
        """Disable it. Raises SecondFactorMissing, BadCredentials, WrongCode or TooManyAttempts."""
        now = self.clock.now()

        def disable(tx: Transaction, authenticated: Authenticated) -> None:
            tx.second_factors.remove(authenticated.user.id)
            tx.audit.add(Act.TWO_FACTOR_DISABLED, authenticated.user.id, caller.origin, now)

        await self.authenticator(Credentials(caller, password, code, caller.origin, "always"), disable)


@dataclass(frozen=True, slots=True)
class TwoFactorState:
    """Whether a sign-in needs a code, and how many recovery codes are unused."""

    enabled: bool
    recovery_codes_left: int


@dataclass(frozen=True, slots=True)
class GetTwoFactor:
    """Read whether two-factor authentication is enabled, and how many recovery codes are left."""

    database: Database

    async def __call__(self, caller: Caller) -> TwoFactorState:
        """Return both."""

        def read(tx: Transaction) -> TwoFactorState:
            factor = tx.second_factors.get(caller.user_id)
            left = tx.second_factors.count_recovery_codes(caller.user_id)
            return TwoFactorState(enabled=factor is not None and factor.enabled, recovery_codes_left=left)

        return await self.database.read(session_checked(caller, read))
