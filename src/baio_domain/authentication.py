"""Proving who one is, by password and second factor, while guessing is limited alike on every process.

A failure is counted in the database against the account at that address, against the address, and against the service
as a whole. Each may fail so often at once, and once more with each interval that passes. An account is limited together
with an address alone, so that no stranger can lock its owner out. When the service as a whole sees too many failures,
each address is left one at a time: whoever has not failed still gets in.
"""

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, TypeVar

from baio_domain.entities import Act, Caller, Origin, SecondFactor, User, folded
from baio_domain.errors import (
    ApiKeyUnreadable,
    BadCredentials,
    BaioError,
    SecondFactorMissing,
    SecondFactorRequired,
    SecondFactorUnreadable,
    TooManyAttempts,
    WrongCode,
)
from baio_domain.one_time_codes import counter_of, digest_of, is_one_time
from baio_domain.ports import Clock, Database, PasswordHasher, SecretBox, Transaction
from baio_domain.session_check import session_checked

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """So many failures ``burst``, and one more whenever ``interval`` has passed (a leaky bucket, as in GCRA)."""

    burst: int
    interval: timedelta

    def wait(self, until: datetime | None, now: datetime) -> timedelta:
        """How long to wait before the next attempt; ``until`` is when the failures so far will be forgotten."""
        full = self.interval * (self.burst - 1)
        return timedelta(0) if until is None else max(timedelta(0), until - now - full)

    def after_failure(self, until: datetime | None, now: datetime) -> datetime:
        """When the failures will be forgotten that there are with one more."""
        return max(until or now, now) + self.interval


PASSWORDS = RateLimit(20, timedelta(minutes=1))
"""For one account, from one address."""
CODES = RateLimit(5, timedelta(minutes=1))
"""For one account, from one address: one-time codes and recovery codes."""
CODE_LIMIT_ALL_ADDRESSES = RateLimit(10, timedelta(minutes=10))
"""One-time codes for one account: six digits are not many, and only who knows the password gets so far. The owner gets
in with a recovery code meanwhile."""
ADDRESS = RateLimit(100, timedelta(seconds=6))
ADDRESS_LIMIT_UNDER_ATTACK = RateLimit(1, timedelta(seconds=6))
SERVICE = RateLimit(1000, timedelta(seconds=1))

Factor = Literal["password", "one-time code", "recovery code"]
"""What a failure is about."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to prove who one is: what it is recorded as, and the keys that a failure is counted under."""

    act: Act
    origin: Origin
    address: bytes
    service: bytes
    passwords: bytes
    codes: bytes
    codes_all_addresses: bytes

    @classmethod
    def by(cls, who: str | Caller, username: str, origin: Origin, box: SecretBox) -> "Attempt":
        """The attempt of whoever says this username, or is signed in under it. The keys tell neither name nor place."""
        network, name = _network(origin.address), folded(username.strip())
        return cls(
            Act.PROOF_FAILED if isinstance(who, Caller) else Act.SIGN_IN_FAILED,
            origin,
            address=box.fingerprint("guesses", "address", network),
            service=box.fingerprint("guesses", "service"),
            passwords=box.fingerprint("guesses", "passwords", name, network),
            codes=box.fingerprint("guesses", "codes", name, network),
            codes_all_addresses=box.fingerprint("guesses", "codes", name),
        )

    def refusal(self, tx: Transaction, now: datetime, *brought: Factor) -> TooManyAttempts | None:
        """Why it may not be made now with what it brings."""
        own = dict(pair for each in brought for pair in self._own(each))
        until = tx.failed_attempts.arrival_times([*own, self.address, self.service])
        address = ADDRESS_LIMIT_UNDER_ATTACK if SERVICE.wait(until.get(self.service), now) else ADDRESS
        limits = {**own, self.address: address}
        wait = max(limit.wait(until.get(key), now) for key, limit in limits.items())
        return TooManyAttempts(retry_after=wait.total_seconds()) if wait else None

    def failed(
        self, tx: Transaction, now: datetime, user_id: int | None, error: BaioError, brought: Factor
    ) -> BaioError:
        """Count and record a failure; the error, to be raised once that is stored."""
        against = {**dict(self._own(brought)), self.address: ADDRESS, self.service: SERVICE}
        until = tx.failed_attempts.arrival_times(against)
        for key, limit in against.items():
            tx.failed_attempts.save_arrival_time(key, limit.after_failure(until.get(key), now))
        tx.audit.add(self.act, user_id, self.origin, now, error.slug)
        return error

    def succeeded(self, tx: Transaction, now: datetime) -> None:
        """Forget the failures of this account at this address."""
        tx.failed_attempts.forget([self.passwords, self.codes], now)

    def _own(self, brought: Factor) -> Iterator[tuple[bytes, RateLimit]]:
        if brought == "password":
            yield self.passwords, PASSWORDS
        else:
            yield self.codes, CODES
        if brought == "one-time code":
            yield self.codes_all_addresses, CODE_LIMIT_ALL_ADDRESSES


@dataclass(frozen=True, slots=True)
class Credentials:
    """What somebody brings to prove who they are.

    ``who`` is a username, or a caller who proves it once more. ``second_factor`` says whether a code is needed:
    where the account has it on, always, or never.
    """

    who: str | Caller
    password: str = field(repr=False)
    code: str | None = field(repr=False)
    origin: Origin
    second_factor: Literal["where on", "always", "never"] = "where on"


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Who it is, and by what that is known: ``password``, ``one-time-code`` or ``recovery-code``."""

    user: User
    by: str


@dataclass(frozen=True, slots=True)
class _Seen:
    attempt: Attempt
    user: User | None
    factor: SecondFactor | None
    refusal: TooManyAttempts | None


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Checks passwords and codes, and does what they are needed for in the transaction that uses the code up.

    An unknown name, a wrong password and a disabled account are refused alike, after the same work. Limits are looked
    at before the work and once more after it, so that many guesses at once learn no more than one after the other.
    """

    database: Database
    hasher: PasswordHasher
    box: SecretBox
    clock: Clock

    async def __call__(self, claim: Credentials, work: Callable[[Transaction, Authenticated], T]) -> T:
        """Run ``work`` for whom the claim proves, and return what it returns.

        Raises BadCredentials, SecondFactorRequired, WrongCode, SecondFactorMissing, TooManyAttempts, or what ``work``
        raises; then the code is not used up.
        """
        seen = await self.database.read(_acting(claim.who, lambda tx: self._look(tx, claim)))
        if claim.second_factor == "always" and seen.factor is None:
            raise SecondFactorMissing
        if seen.refusal is not None:
            raise seen.refusal
        right = await self.hasher.verify(claim.password, seen.user.password_hash if seen.user else None)
        result = await self.database.write(_acting(claim.who, self._settle(claim, seen, work, right=right)))
        if isinstance(result, BaioError):
            raise result
        return result

    def counter(self, factor: SecondFactor, code: str, now: datetime) -> int | None:
        """The step whose one-time code this is, as far as it may still be accepted; or raise SecondFactorUnreadable."""
        try:
            seed = self.box.open(factor.sealed, owner=factor.user_id, key_id=factor.user_id, what="two-factor seed")
        except ApiKeyUnreadable:
            raise SecondFactorUnreadable from None
        return counter_of(code, seed, now, after=factor.last_counter)

    def _look(self, tx: Transaction, claim: Credentials) -> _Seen:
        if isinstance(claim.who, Caller):
            user: User | None = tx.users.get(claim.who.user_id)
        else:
            user = tx.users.by_username(claim.who.strip())
        name = user.username if user else str(claim.who)
        attempt = Attempt.by(claim.who, name, claim.origin, self.box)
        factor = _enabled_factor(tx, user, claim)
        return _Seen(attempt, user, factor, attempt.refusal(tx, self.clock.now(), "password"))

    def _settle(
        self, claim: Credentials, seen: _Seen, work: Callable[[Transaction, Authenticated], T], *, right: bool
    ) -> Callable[[Transaction], T | BaioError]:
        """What to do once it is known whether the password is right: refuse, which is stored as well, or work."""
        now = self.clock.now()
        code, factor, attempt = (claim.code or "").strip(), seen.factor, seen.attempt
        brought: list[Factor] = ["password"]
        counter = None
        if factor is not None and right and code:
            brought.append("one-time code" if is_one_time(code) else "recovery code")
            if is_one_time(code):
                counter = self.counter(factor, code, now)

        def settle(tx: Transaction) -> T | BaioError:
            refusal = attempt.refusal(tx, now, *brought)
            if refusal is not None:
                return refusal
            user = tx.users.by_username(seen.user.username) if seen.user else None
            if (
                not (right and user and seen.user)
                or user.disabled_at is not None
                or user.password_hash != seen.user.password_hash
            ):
                wrong = BadCredentials("The password is not right." if isinstance(claim.who, Caller) else None)
                return attempt.failed(tx, now, user.id if user else None, wrong, "password")
            by = "password"
            if (
                factor is not None or _enabled_factor(tx, user, claim) is not None
            ):  # it may have been turned on meanwhile
                if not code or factor is None:
                    tx.audit.add(attempt.act, user.id, claim.origin, now, SecondFactorRequired.slug)
                    return SecondFactorRequired()
                if counter is not None and tx.second_factors.use_code(factor, counter):
                    by = "one-time-code"
                elif not is_one_time(code) and tx.second_factors.use_recovery_code(user.id, digest_of(code)):
                    by = "recovery-code"
                    tx.audit.add(Act.RECOVERY_CODE_USED, user.id, claim.origin, now)
                else:
                    return attempt.failed(tx, now, user.id, WrongCode(), brought[-1])
            attempt.succeeded(tx, now)
            return work(tx, Authenticated(user, by))

        return settle


def _acting(who: str | Caller, work: Callable[[Transaction], T]) -> Callable[[Transaction], T]:
    return session_checked(who, work) if isinstance(who, Caller) else work


def _enabled_factor(tx: Transaction, user: User | None, claim: Credentials) -> SecondFactor | None:
    factor = tx.second_factors.get(user.id) if user and claim.second_factor != "never" else None
    return factor if factor and factor.enabled else None


def _network(address: str) -> str:
    """What counts as one address: an IPv6 network of 64 bits belongs to one customer (RFC 6177)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
