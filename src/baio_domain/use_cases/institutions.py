"""Sign-in with an institution: start it, come back from there, and redeem the ticket.

The browser carries nothing that is useful by itself. A client keeps a verifier to itself and sends its challenge at the
start; the ticket at the end works once, for a minute, and only with that verifier. So nobody can sign a client in with
their own ticket, and nobody can use a ticket that they have seen.
"""

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from baio_domain.authentication import Attempt, Authenticator, enabled_factor
from baio_domain.entities import NOWHERE, Act, Origin, SecondFactor, Session, refuse
from baio_domain.errors import (
    AccountDisabled,
    AccountRequired,
    BaioError,
    EmailTaken,
    FieldError,
    IdentityNotAllowed,
    InstitutionUnavailable,
    InvalidInput,
    SignInExpired,
    SignInInvalid,
    SignInRefused,
    TooManySignIns,
)
from baio_domain.identities import (
    MAX_STARTED,
    STARTED_LIFETIME,
    TICKET_LIFETIME,
    Assertion,
    Identity,
    Institution,
    Logout,
    StartedSignIn,
    challenge_of,
    challenge_problems,
    is_verifier,
    return_to_problems,
    username_candidates,
)
from baio_domain.one_time_codes import digest_of
from baio_domain.ports import Clock, Database, IdentityProviders, SecretBox, Transaction
from baio_domain.rate_limits import START_LIMIT, networks_of
from baio_domain.session_opening import SessionOpener, SignedIn
from baio_domain.text import one_line

logger = logging.getLogger("baio.sign_in")


@dataclass(frozen=True, slots=True)
class WaysIn:
    """Whether people can sign in with a password, and the institutions that they can sign in with."""

    passwords: bool
    institutions: Sequence[Institution]


@dataclass(frozen=True, slots=True)
class GetSignInProviders:
    """List the ways to sign in: whether passwords are accepted, and the institutions."""

    providers: IdentityProviders
    passwords: bool = True

    async def __call__(self) -> WaysIn:
        """Return them."""
        return WaysIn(self.passwords, self.providers.institutions)


@dataclass(frozen=True, slots=True)
class StartSignIn:
    """Begin to sign in with an institution: get the address where the client sends the browser.

    - The browser comes back to `return_to`, with `#ticket=...` or with `#error=...`, the last part of an error's type.
    - `return_to` must be below an origin that the administrator has allowed, or on the user's own machine.
    - `challenge` is the S256 challenge of a verifier that the client keeps (RFC 7636).
    - It expires after ten minutes. The number of sign-ins that begin is limited per network and in total.
    """

    database: Database
    providers: IdentityProviders
    box: SecretBox
    clock: Clock
    origins: Sequence[str]

    async def __call__(self, provider: str, return_to: str, challenge: str, origin: Origin = NOWHERE) -> str:
        """Return the address.

        Raises InvalidInput naming every bad field, TooManySignIns or InstitutionUnavailable.
        """
        institution = _named(self.providers, provider)
        problems = [*return_to_problems(return_to, self.origins), *challenge_problems(challenge)]
        if institution is None:
            raise InvalidInput.of(FieldError("provider", "is not one of getSignInProviders"), *problems)
        refuse(problems)
        state = secrets.token_hex(32)
        proof = _Proof.of(state, self.box)
        address = await self.providers.sign_in_url(
            institution, state=state, nonce=proof.nonce, challenge=challenge_of(proof.verifier)
        )
        started, now = StartedSignIn(institution.name, return_to, challenge), self.clock.now()
        error = await self.database.write(lambda tx: self._start(tx, digest_of(state), started, origin, now))
        if error is not None:
            raise error
        return address

    def _start(
        self, tx: Transaction, digest: bytes, started: StartedSignIn, origin: Origin, now: datetime
    ) -> TooManySignIns | None:
        """Count it, and return the error it is refused with, if it is."""
        limits = {
            self.box.fingerprint("sign-ins started", network): START_LIMIT.scaled(factor)
            for network, factor in networks_of(origin.address)
        }
        known = tx.failed_attempts.arrival_times(list(limits))
        if wait := max(limit.wait(known.get(key), now) for key, limit in limits.items()):
            return TooManySignIns(retry_after=wait.total_seconds())
        for key, limit in limits.items():
            tx.failed_attempts.save_arrival_time(key, limit.after_failure(known.get(key), now))
        tx.sign_ins.forget(now)
        if tx.sign_ins.count() >= MAX_STARTED:
            return TooManySignIns(retry_after=STARTED_LIFETIME.total_seconds() / 10)
        tx.sign_ins.start(digest, started, now + STARTED_LIFETIME)
        return None


@dataclass(frozen=True, slots=True)
class FinishSignIn:
    """The institution sends the browser back to this address, which redirects to the client's `return_to` at once.

    - It is called by browsers, not by clients. `state` works once.
    - BAiO checks the issuer, the audience and the time of the token, and that it belongs to this sign-in.
    - The address ends in `#ticket=...`, or in `#error=` and the last part of an error's type.
    """

    database: Database
    providers: IdentityProviders
    box: SecretBox
    clock: Clock

    async def __call__(self, *, state: str, code: str, issuer: str | None, error: str, origin: Origin = NOWHERE) -> str:
        """Return the address to send the browser to, or raise SignInExpired if nobody knows where that is."""
        digest, now = digest_of(state), self.clock.now()
        started = await self.database.write(
            lambda tx: tx.sign_ins.take(digest, now, latest=now + STARTED_LIFETIME) if state else None
        )
        institution = _named(self.providers, started.institution) if started else None
        if started is None or institution is None:
            raise SignInExpired
        try:
            assertion = await self._assertion(institution, _Proof.of(state, self.box), code, issuer, error)
        except BaioError as refusal:
            slug, then = refusal.slug, self.clock.now()
            await self.database.write(lambda tx: tx.audit.add(Act.SIGN_IN_FAILED, None, origin, then, slug))
            return f"{started.return_to}#error={slug}"
        ticket, challenge, until = secrets.token_hex(32), started.challenge, self.clock.now() + TICKET_LIFETIME
        await self.database.write(lambda tx: tx.sign_ins.add_ticket(digest_of(ticket), challenge, assertion, until))
        return f"{started.return_to}#ticket={ticket}"

    async def _assertion(
        self, institution: Institution, proof: "_Proof", code: str, issuer: str | None, error: str
    ) -> Assertion:
        if issuer not in (None, institution.issuer):
            raise SignInInvalid
        if error:
            raise InstitutionUnavailable if error in _TEMPORARY else SignInRefused
        if not code:
            raise SignInInvalid
        claims = await self.providers.claims(
            institution, code=code, issuer=issuer, nonce=proof.nonce, verifier=proof.verifier
        )
        if not institution.admits(claims):
            asked, sent = ", ".join(institution.allowed), one_line(", ".join(sorted(claims.values)), 1000)
            logger.warning(
                "sign-in with %s refused: no allowed value of %s; it sends %s", institution.name, asked, sent
            )
            raise IdentityNotAllowed
        return institution.assertion(claims)


_TEMPORARY = {"server_error", "temporarily_unavailable"}
"""Errors that are the institution's own (RFC 6749, section 4.1.2.1)."""


@dataclass(frozen=True, slots=True)
class RedeemSignIn:
    """Sign in with the ticket of an institution, and with a code if two-factor authentication is enabled.

    - The ticket works once, for a minute, and only with the verifier of the client that began.
    - People without an account get one, if the server makes accounts for this institution: without a password, and with
      a username that nobody has. An existing account with the same email address is never taken over: link the
      institution to it instead.
    - It opens a session, like a sign-in with a password. A missing or wrong code leaves the ticket as it is.
    """

    database: Database
    providers: IdentityProviders
    authenticator: Authenticator
    box: SecretBox
    clock: Clock
    opener: SessionOpener

    async def __call__(self, ticket: str, verifier: str, code: str | None = None, origin: Origin = NOWHERE) -> SignedIn:
        """Return the tokens.

        Raises SignInExpired, AccountDisabled, AccountRequired, EmailTaken, SecondFactorRequired, WrongCode,
        SecondFactorUnreadable or TooManyAttempts.
        """
        for attempts_left in (2, 1, 0):
            try:
                return await self._redeem(ticket, verifier, code, origin)
            except InvalidInput as error:
                # Somebody else got the username, or the email, in the same moment.
                if not attempts_left or not any(each.field in ("username", "email") for each in error.errors):
                    raise
        raise SignInExpired

    async def _redeem(self, ticket: str, verifier: str, code: str | None, origin: Origin) -> SignedIn:
        now = self.clock.now()
        factor = await self.database.read(lambda tx: self._factor(tx, ticket, verifier, now))
        step = self.authenticator.second_step(code, factor, now)

        def decide(tx: Transaction) -> Session | BaioError:
            assertion = ticket_of(tx, ticket, verifier, now)
            identity = tx.identities.find(assertion.issuer, assertion.subject)
            try:
                identity = identity or self._new_account(tx, assertion, origin, now)
                user = tx.users.get(identity.user_id)
                if user.disabled_at is not None:
                    raise AccountDisabled  # noqa: TRY301 - recorded with the others
            except (AccountDisabled, AccountRequired, EmailTaken) as refusal:
                tx.audit.add(Act.SIGN_IN_FAILED, identity.user_id if identity else None, origin, now, refusal.slug)
                return refusal
            attempt = Attempt.of(tx, user.username, user, origin, self.box)
            waiting = attempt.refusal(tx, now, *step.factors) if step.factors else attempt.too_often(tx, now)
            if waiting is not None:
                return waiting
            method = f"institution {assertion.institution}"
            if step.factor is not None or enabled_factor(tx, user) is not None:
                used = step.take(tx, attempt, user, now)
                if isinstance(used, BaioError):
                    return used
                method = f"{method} {used}"
            tx.sign_ins.use_ticket(digest_of(ticket))
            tx.identities.use(identity.id, now, owner=user.id)
            attempt.succeeded(tx, now, user, self.box)
            session = self.opener.open(tx, user, origin, now, method)
            tx.identities.opened(session, identity.id, assertion.session)
            return session

        result = await self.database.write(decide)
        if isinstance(result, BaioError):
            raise result
        return self.opener.signed_in(result)

    @staticmethod
    def _factor(tx: Transaction, ticket: str, verifier: str, now: datetime) -> SecondFactor | None:
        assertion = ticket_of(tx, ticket, verifier, now)
        identity = tx.identities.find(assertion.issuer, assertion.subject)
        return enabled_factor(tx, tx.users.get(identity.user_id)) if identity else None

    def _new_account(self, tx: Transaction, assertion: Assertion, origin: Origin, now: datetime) -> Identity:
        institution = _named(self.providers, assertion.institution)
        if institution is None or not institution.new_accounts:
            raise AccountRequired
        email, password_hash = assertion.stored_email, ""
        candidates = list(username_candidates(assertion.username, secrets.token_hex(4)))
        free = (each for each in candidates if "username" not in tx.users.taken(each, email))
        username = next(free, candidates[-1])
        if tx.users.taken(username, email):
            raise EmailTaken
        user = tx.users.add(username, email, assertion.profile, password_hash, now)
        tx.audit.add(Act.REGISTERED, user.id, origin, now, f"institution {institution.name}")
        return tx.identities.add(user.id, assertion.issuer, assertion.subject, now)


@dataclass(frozen=True, slots=True)
class EndSignIn:
    """Back-channel logout: an institution says that somebody has signed out there, or must be signed out.

    - The sessions that were opened with that identity end with their next request; running answers continue.
    - The body is a form with the institution's signed `logout_token`, which works once.
    """

    database: Database
    providers: IdentityProviders
    box: SecretBox
    clock: Clock

    async def __call__(self, token: str, origin: Origin = NOWHERE) -> None:
        """End them, or raise SignInInvalid or InstitutionUnavailable."""
        logout, now = await self.providers.logout(token), self.clock.now()
        key = self.box.fingerprint("logout token", logout.issuer, logout.token_id)

        def end(tx: Transaction) -> None:
            if tx.failed_attempts.arrival_times([key]):
                raise SignInInvalid
            tx.failed_attempts.save_arrival_time(key, logout.until)  # forgotten with the failures of that time
            self._end(tx, logout, origin, now)

        await self.database.write(end)

    @staticmethod
    def _end(tx: Transaction, logout: Logout, origin: Origin, now: datetime) -> None:
        tx.sign_ins.cancel(logout.issuer, logout.subject, logout.session)
        for owner in tx.identities.end_sessions_at(logout.issuer, logout.subject, logout.session):
            tx.audit.add(Act.SIGNED_OUT_BY_INSTITUTION, owner, replace(origin, user_agent=""), now)


@dataclass(frozen=True, slots=True)
class _Proof:
    """What ties an answer of an institution to its beginning. It is derived from the state, and stored nowhere."""

    nonce: str
    verifier: str

    @classmethod
    def of(cls, state: str, box: SecretBox) -> "_Proof":
        return cls(
            box.fingerprint("sign-in", "nonce", state).hex(), box.fingerprint("sign-in", "verifier", state).hex()
        )


def ticket_of(tx: Transaction, ticket: str, verifier: str, now: datetime) -> Assertion:
    """The person that the ticket is about.

    Raises SignInExpired, which does not say whether the ticket or the verifier was wrong.
    """
    found = None
    if is_verifier(verifier):
        digest, challenge = digest_of(ticket), challenge_of(verifier)
        found = tx.sign_ins.ticket(digest, challenge, now, latest=now + TICKET_LIFETIME)
    if found is None:
        raise SignInExpired
    return found


def _named(providers: IdentityProviders, name: str) -> Institution | None:
    return next((each for each in providers.institutions if each.name == name), None)
