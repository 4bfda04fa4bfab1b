"""The identities of an account: list them, link one, unlink one."""

from dataclasses import dataclass

from baio_domain.authentication import Authenticated, Authenticator, Credentials
from baio_domain.entities import Act, Caller
from baio_domain.errors import IdentityNotFound, IdentityTaken, LastWayIn, TooManyIdentities
from baio_domain.identities import MAX_IDENTITIES, Identity, Institution
from baio_domain.one_time_codes import digest_of
from baio_domain.ports import Clock, Database, IdentityProviders, Transaction
from baio_domain.session_check import session_checked
from baio_domain.use_cases.institutions import ticket_of


@dataclass(frozen=True, slots=True)
class LinkedIdentity:
    """An identity, and its institution; None if nobody can sign in with that any more."""

    identity: Identity
    institution: Institution | None

    @classmethod
    def of(cls, identity: Identity, providers: IdentityProviders) -> "LinkedIdentity":
        """The identity with its institution."""
        of_issuer = (each for each in providers.institutions if each.issuer == identity.issuer)
        return cls(identity, next(of_issuer, None))


@dataclass(frozen=True, slots=True)
class GetIdentities:
    """List the identities at institutions that sign in to one's account, oldest first."""

    database: Database
    providers: IdentityProviders

    async def __call__(self, caller: Caller) -> list[LinkedIdentity]:
        """Return them."""
        found = await self.database.read(session_checked(caller, lambda tx: tx.identities.of(caller.user_id)))
        return [LinkedIdentity.of(each, self.providers) for each in found]


@dataclass(frozen=True, slots=True)
class LinkIdentity:
    """Link an identity at an institution to one's account: from now on it signs in there.

    - It takes the ticket of a sign-in that this client began, like `redeemSignIn`, and uses it up.
    - The password is required, and a code if two-factor authentication is enabled. Instead of the password, an account
      without one must have signed in with an institution within the last five minutes.
    - An identity belongs to one account. Email addresses are not compared.
    """

    authenticator: Authenticator
    providers: IdentityProviders
    clock: Clock

    async def __call__(
        self, caller: Caller, ticket: str, verifier: str, *, password: str, code: str | None = None
    ) -> LinkedIdentity:
        """Link it and return it.

        Raises SignInExpired, IdentityTaken, TooManyIdentities, BadCredentials, RecentSignInRequired,
        SecondFactorRequired, WrongCode or TooManyAttempts.
        """
        now, owner = self.clock.now(), caller.user_id

        def link(tx: Transaction, _: Authenticated) -> Identity:
            assertion = ticket_of(tx, ticket, verifier, now)
            tx.users.lock(owner)
            if tx.identities.find(assertion.issuer, assertion.subject) is not None:
                raise IdentityTaken
            if len(tx.identities.of(owner)) >= MAX_IDENTITIES:
                raise TooManyIdentities
            tx.sign_ins.use_ticket(digest_of(ticket))
            tx.audit.add(Act.IDENTITY_LINKED, owner, caller.origin, now, assertion.institution)
            return tx.identities.add(owner, assertion.issuer, assertion.subject, now)

        linked = await self.authenticator(Credentials(caller, password, code, caller.origin), link)
        return LinkedIdentity.of(linked, self.providers)


@dataclass(frozen=True, slots=True)
class UnlinkIdentity:
    """Unlink an identity from one's account. The other sessions that were opened with it end.

    - The password and a code are required, as for linking.
    - The last way in can't be unlinked: a password counts only if the server accepts passwords, an identity only if its
      institution is configured.
    """

    authenticator: Authenticator
    providers: IdentityProviders
    clock: Clock
    passwords: bool = True

    async def __call__(self, caller: Caller, identity_id: int, *, password: str, code: str | None = None) -> None:
        """Unlink it.

        Raises IdentityNotFound, LastWayIn, BadCredentials, RecentSignInRequired, SecondFactorRequired, WrongCode or
        TooManyAttempts.
        """
        now, owner = self.clock.now(), caller.user_id

        def unlink(tx: Transaction, authenticated: Authenticated) -> None:
            tx.users.lock(owner)
            identities = tx.identities.of(owner)
            if identity_id not in (each.id for each in identities):
                raise IdentityNotFound
            linked = (LinkedIdentity.of(each, self.providers) for each in identities if each.id != identity_id)
            others = [each for each in linked if each.institution is not None]
            if not others and not (self.passwords and authenticated.user.password_hash):
                raise LastWayIn
            tx.identities.end_sessions(identity_id, owner=owner, except_token_id=caller.session_id)
            tx.identities.remove(identity_id, owner=owner)
            tx.audit.add(Act.IDENTITY_UNLINKED, owner, caller.origin, now)

        await self.authenticator(Credentials(caller, password, code, caller.origin), unlink)
