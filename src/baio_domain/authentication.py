"""Authentication by password and second factor, with limits on failed attempts that hold for all processes.

A failure is counted in the database for the account together with the network, for the network, and for the service as
a whole (``rate_limits``). Networks from which an account's owner has signed in are limited only by their own failures,
so no stranger can lock the owner out. While the service as a whole sees too many failures, each network may fail only
once at a time: a client that has not failed still gets in.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeVar

from baio_domain.entities import MAX_NAME_LENGTH, Act, Caller, Origin, SecondFactor, User
from baio_domain.errors import (
    BadCredentials,
    BaioError,
    RecentSignInRequired,
    SecondFactorMissing,
    SecondFactorRequired,
    TooManyAttempts,
    WrongCode,
)
from baio_domain.identities import PROOF_LIFETIME
from baio_domain.one_time_codes import counter_of, digest_of, is_one_time, latest_counter
from baio_domain.ports import Clock, Database, PasswordHasher, SecretBox, Transaction
from baio_domain.rate_limits import (
    CLOCK_TOLERANCE,
    CODE_LIMIT,
    CODE_LIMIT_ALL_NETWORKS,
    NETWORK_LIMIT,
    NETWORK_LIMIT_UNDER_ATTACK,
    PASSWORD_LIMIT,
    PASSWORD_LIMIT_UNKNOWN_NETWORKS,
    SERVICE_LIMIT,
    SIGN_IN_LIMIT,
    RateLimit,
    network_of,
    networks_of,
)
from baio_domain.session_check import session_checked
from baio_domain.text import name_key

T = TypeVar("T")

Factor = Literal["password", "one-time code", "recovery code"]
"""What an attempt presents, and what its failure counts for."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to authenticate: how the audit records a failure, and the keys under which it is counted.

    The keys are keyed digests: they disclose neither the account nor the network. Where there is one for each network
    that the address belongs to, it comes with the factor for its limit (``rate_limits.networks_of``). ``known_network``
    is whether the account's owner has signed in from this network before.
    """

    act: Act
    origin: Origin
    service: bytes
    networks: tuple[tuple[bytes, int], ...]
    passwords: tuple[tuple[bytes, int], ...]
    codes: tuple[tuple[bytes, int], ...]
    codes_all_networks: bytes
    passwords_unknown_networks: bytes
    sign_ins: bytes
    known_network: bool

    @classmethod
    def of(cls, tx: Transaction, who: str | Caller, user: User | None, origin: Origin, box: SecretBox) -> "Attempt":
        """The attempt to sign in as ``who``, or of a caller who confirms an action; ``user`` is that account."""
        name = name_key(user.username) if user else _folded_username(who) if isinstance(who, str) else ""
        networks = networks_of(origin.address)
        return cls(
            Act.PROOF_FAILED if isinstance(who, Caller) else Act.SIGN_IN_FAILED,
            origin,
            service=box.fingerprint("guesses", "service"),
            networks=tuple((box.fingerprint("guesses", "address", each), factor) for each, factor in networks),
            passwords=tuple((box.fingerprint("guesses", "passwords", name, each), factor) for each, factor in networks),
            codes=tuple((box.fingerprint("guesses", "codes", name, each), factor) for each, factor in networks),
            codes_all_networks=box.fingerprint("guesses", "codes", name),
            passwords_unknown_networks=box.fingerprint("guesses", "passwords", name),
            sign_ins=box.fingerprint("guesses", "sign-ins", name),
            known_network=isinstance(who, Caller)
            or (user is not None and tx.known_networks.is_known(user.id, _network_digest(user, origin, box))),
        )

    def refusal(self, tx: Transaction, now: datetime, *factors: Factor) -> TooManyAttempts | None:
        """The error when one of these factors may not be tried now; None when all may."""
        limits = dict(pair for factor in factors for pair in self._limits(factor))
        known = tx.failed_attempts.arrival_times([*limits, *dict(self.networks), self.service, self.sign_ins])
        under_attack = bool(SERVICE_LIMIT.wait(known.get(self.service), now))
        network_limit = NETWORK_LIMIT_UNDER_ATTACK if under_attack else NETWORK_LIMIT
        limits |= {key: network_limit.scaled(factor) for key, factor in self.networks}
        limits[self.sign_ins] = SIGN_IN_LIMIT
        wait = max(limit.wait(known.get(key), now) for key, limit in limits.items())
        return TooManyAttempts(retry_after=wait.total_seconds()) if wait else None

    def too_often(self, tx: Transaction, now: datetime) -> TooManyAttempts | None:
        """The error when the account has signed in too often, whatever else has failed here; None otherwise."""
        known = tx.failed_attempts.arrival_times([self.sign_ins])
        wait = SIGN_IN_LIMIT.wait(known.get(self.sign_ins), now)
        return TooManyAttempts(retry_after=wait.total_seconds()) if wait else None

    def failed(
        self, tx: Transaction, now: datetime, user_id: int | None, error: BaioError, factor: Factor
    ) -> BaioError:
        """Count the failure and record it in the audit. Returns the error, to raise after the commit."""
        limits = dict(self._limits(factor))
        limits |= {key: NETWORK_LIMIT.scaled(scale) for key, scale in self.networks}
        limits[self.service] = SERVICE_LIMIT
        self._count(tx, now, limits)
        tx.audit.add(self.act, user_id, self.origin, now, error.slug)
        return error

    def succeeded(self, tx: Transaction, now: datetime, user: User, box: SecretBox) -> None:
        """Forget the account's failures from this network, and remember the network as the owner's."""
        forgotten = [*dict(self.passwords), *dict(self.codes), self.passwords_unknown_networks]
        tx.failed_attempts.forget(forgotten, now)
        self._count(tx, now, {self.sign_ins: SIGN_IN_LIMIT})
        tx.known_networks.remember(user.id, _network_digest(user, self.origin, box), now)

    def _limits(self, factor: Factor) -> Iterator[tuple[bytes, RateLimit]]:
        if factor == "password":
            yield from ((key, PASSWORD_LIMIT.scaled(scale)) for key, scale in self.passwords)
            if not self.known_network:
                yield self.passwords_unknown_networks, PASSWORD_LIMIT_UNKNOWN_NETWORKS
        else:
            yield from ((key, CODE_LIMIT.scaled(scale)) for key, scale in self.codes)
        if factor == "one-time code":
            yield self.codes_all_networks, CODE_LIMIT_ALL_NETWORKS

    @staticmethod
    def _count(tx: Transaction, now: datetime, limits: Mapping[bytes, RateLimit]) -> None:
        known = tx.failed_attempts.arrival_times(list(limits))
        for key, limit in limits.items():
            tx.failed_attempts.save_arrival_time(key, limit.after_failure(known.get(key), now))


def _folded_username(username: str) -> str:
    """The username in the form that accounts are found by, "" for one that is too long to be anybody's."""
    return name_key(username.strip()) if len(username.strip()) <= MAX_NAME_LENGTH else ""


def _network_digest(user: User, origin: Origin, box: SecretBox) -> bytes:
    return box.fingerprint("known network", str(user.id), network_of(origin.address))


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request presents to authenticate.

    ``who`` is a username, or a signed-in caller who confirms an action. ``second_factor`` says when a code is needed:
    if the account has enabled it, always, or never.
    """

    who: str | Caller
    password: str = field(repr=False)
    code: str | None = field(repr=False)
    origin: Origin
    second_factor: Literal["if enabled", "always", "never"] = "if enabled"


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The credentials' account, and the method: ``password``, ``one-time-code``, ``recovery-code``, ``sign-in``."""

    user: User
    method: str


@dataclass(frozen=True, slots=True)
class _Lookup:
    """What the database says before the password is verified."""

    attempt: Attempt
    user: User | None
    second_factor: SecondFactor | None
    refusal: TooManyAttempts | None
    by_sign_in: bool


@dataclass(frozen=True, slots=True)
class SecondStep:
    """The code of somebody whose password, or institution, is right already.

    ``counter`` is the time step of a one-time code that may be accepted, None for every other code. ``factor`` is the
    second factor that it was compared with, None if the account had none.
    """

    code: str = field(repr=False)
    factor: SecondFactor | None
    counter: int | None

    @property
    def factors(self) -> list[Factor]:
        """What it presents: nothing if no code is needed, or none was sent."""
        if self.factor is None or not self.code:
            return []
        return ["one-time code" if is_one_time(self.code) else "recovery code"]

    def take(self, tx: Transaction, attempt: Attempt, user: User, now: datetime) -> str | BaioError:
        """Use the code up and return the method, or the error, which is counted and recorded."""
        if self.factor is None or not self.code:
            tx.audit.add(attempt.act, user.id, attempt.origin, now, SecondFactorRequired.slug)
            return SecondFactorRequired()
        if self.counter is not None and tx.second_factors.use_code(self.factor, self.counter, latest_counter(now)):
            return "one-time-code"
        if not is_one_time(self.code) and tx.second_factors.use_recovery_code(user.id, digest_of(self.code)):
            tx.audit.add(Act.RECOVERY_CODE_USED, user.id, attempt.origin, now)
            return "recovery-code"
        return attempt.failed(tx, now, user.id, WrongCode(), self.factors[0])


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Verifies credentials, and runs the authenticated work in the same transaction that uses up the code.

    A caller whose account has no password proves their identity with a recent sign-in at the institution: the session
    must have been opened with one at most ``PROOF_LIFETIME`` ago. Any password in the request is then ignored.

    An unknown username, a wrong password and a disabled account are refused alike, after the same work. Limits are
    checked before the password is verified and again in the deciding transaction: many guesses at the same time learn
    no more than guesses one after the other.
    """

    database: Database
    hasher: PasswordHasher
    box: SecretBox
    clock: Clock

    async def __call__(
        self,
        credentials: Credentials,
        work: Callable[[Transaction, Authenticated], T],
        *,
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> T:
        """Run ``work`` for the account that the credentials belong to, and return its result.

        ``prepare`` is awaited between the verification of the password and the transaction of ``work``: for slow work
        that only an authenticated caller may cause.

        Raises BadCredentials, RecentSignInRequired, SecondFactorRequired, WrongCode, SecondFactorMissing,
        SecondFactorUnreadable, TooManyAttempts, or whatever ``work`` raises; a code is then not used up.
        """
        who = credentials.who
        lookup = await self.database.read(_session_checked(who, lambda tx: self._look_up(tx, credentials)))
        if credentials.second_factor == "always" and lookup.second_factor is None:
            raise SecondFactorMissing
        if lookup.refusal is not None:
            raise lookup.refusal
        # The empty hash of an account without password must take as long as that of an account that nobody has.
        password_hash = (lookup.user.password_hash or None) if lookup.user else None
        network = network_of(credentials.origin.address)
        verified = lookup.by_sign_in or await self.hasher.verify(credentials.password, password_hash, network=network)
        if verified and prepare is not None:
            await prepare()
        decide = self._decision(credentials, lookup, work, password_verified=verified)
        result = await self.database.write(_session_checked(who, decide))
        if isinstance(result, BaioError):
            raise result
        return result

    def counter(self, factor: SecondFactor, code: str, now: datetime) -> int | None:
        """The time step of this one-time code if it may still be accepted, or None.

        Raises SecondFactorUnreadable.
        """
        seed = self.box.open(factor.sealed, kind="two-factor seed", owner=factor.user_id, row_id=factor.user_id)
        return counter_of(code, seed, now, after=factor.last_counter)

    def second_step(self, code: str | None, factor: SecondFactor | None, now: datetime) -> SecondStep:
        """Compare a code with the second factor, before the transaction that uses it up.

        Raises SecondFactorUnreadable.
        """
        given = (code or "").strip()
        counter = self.counter(factor, given, now) if factor and given and is_one_time(given) else None
        return SecondStep(given, factor, counter)

    def _look_up(self, tx: Transaction, credentials: Credentials) -> _Lookup:
        who, now = credentials.who, self.clock.now()
        user: User | None = None
        if isinstance(who, Caller):
            user = tx.users.get(who.user_id)
        elif len(who.strip()) <= MAX_NAME_LENGTH:
            user = tx.users.by_username(who.strip())
        attempt = Attempt.of(tx, who, user, credentials.origin, self.box)
        second_factor = enabled_factor(tx, user) if credentials.second_factor != "never" else None
        refusal = attempt.refusal(tx, now, "password")
        by_sign_in = False
        if isinstance(who, Caller) and user is not None and not user.password_hash:
            if not _signed_in_lately(tx, who, now):
                raise RecentSignInRequired
            by_sign_in = True
        return _Lookup(attempt, user, second_factor, refusal, by_sign_in)

    def _decision(
        self,
        credentials: Credentials,
        lookup: _Lookup,
        work: Callable[[Transaction, Authenticated], T],
        *,
        password_verified: bool,
    ) -> Callable[[Transaction], T | BaioError]:
        """The deciding transaction: it returns an error instead of raising it, so that the failure is stored."""
        now, attempt = self.clock.now(), lookup.attempt
        step = self.second_step(credentials.code if password_verified else None, lookup.second_factor, now)

        def decide(tx: Transaction) -> T | BaioError:
            refusal = attempt.refusal(tx, now, "password", *step.factors)
            if refusal is not None:
                return refusal
            user = tx.users.by_username(lookup.user.username) if lookup.user else None
            if (
                not (password_verified and user and lookup.user)
                or user.disabled_at is not None
                or user.password_hash != lookup.user.password_hash
            ):
                wrong = BadCredentials("The password is wrong." if isinstance(credentials.who, Caller) else None)
                return attempt.failed(tx, now, user.id if user else None, wrong, "password")
            method: str | BaioError = "sign-in" if lookup.by_sign_in else "password"
            # It may have been enabled while the password was verified.
            needed = credentials.second_factor != "never" and enabled_factor(tx, user) is not None
            if step.factor is not None or needed:
                method = step.take(tx, attempt, user, now)
            if isinstance(method, BaioError):
                return method
            attempt.succeeded(tx, now, user, self.box)
            return work(tx, Authenticated(user, method))

        return decide


def _session_checked(who: str | Caller, work: Callable[[Transaction], T]) -> Callable[[Transaction], T]:
    return session_checked(who, work) if isinstance(who, Caller) else work


def enabled_factor(tx: Transaction, user: User | None) -> SecondFactor | None:
    """The second factor that a sign-in to this account needs, None if it needs none."""
    factor = tx.second_factors.get(user.id) if user else None
    return factor if factor and factor.enabled else None


def _signed_in_lately(tx: Transaction, who: Caller, now: datetime) -> bool:
    """Whether the caller's session was opened with an institution a short time ago."""
    opened = tx.identities.opened_at(who.session_id, owner=who.user_id) if who.session_id else None
    return opened is not None and now - PROOF_LIFETIME <= opened <= now + CLOCK_TOLERANCE
