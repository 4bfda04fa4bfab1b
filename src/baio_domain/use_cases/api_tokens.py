"""API tokens: create, list, revoke, and admit the requests of scripts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from baio_domain.api_tokens import ENDING_LENGTH, LastUses, is_well_formed, new_token, token_digest
from baio_domain.authentication import Authenticated, Authenticator, Credentials
from baio_domain.entities import Act, ApiToken, Caller, Scope, UsedToken, refuse, token_end_problems, token_problems
from baio_domain.errors import NotAuthenticated, SessionRequired
from baio_domain.ports import Clock, Database, Transaction
from baio_domain.quotas import Quotas
from baio_domain.session_check import scope_missing, session_checked, token_over


@dataclass(frozen=True, slots=True)
class CreatedToken:
    """A new token: the stored part, and the token itself, which is shown only now."""

    stored: ApiToken
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CreateToken:
    """Create an API token, with which a script acts for its user, within the token's scopes.

    - The password is required again, and a code if two-factor authentication is enabled.
    - `scopes` are some of `read`, `ask`, `edit` and `tools`. No token can change the account, its password, keys,
      sessions or tokens.
    - The name is unique among the user's tokens and has at most 100 characters.
    - Without `expires_at` the token lasts as long as the server allows, by default 366 days. Expired tokens are deleted
      when the next one is created.
    - The response shows the token; no later response does.
    """

    database: Database
    authenticator: Authenticator
    clock: Clock
    quotas: Quotas
    longest: timedelta | None

    async def __call__(
        self,
        caller: Caller,
        *,
        name: str,
        scopes: Sequence[str],
        password: str,
        expires_at: datetime | None = None,
        code: str | None = None,
    ) -> CreatedToken:
        """Create it.

        Raises InvalidInput naming every bad field, TooManyApiTokens, BadCredentials, SecondFactorRequired, WrongCode or
        TooManyAttempts.
        """
        now = self.clock.now()
        refuse([*token_problems(name, scopes), *token_end_problems(expires_at, now, self.longest)])
        if expires_at is None and self.longest is not None:
            expires_at = now + self.longest
        token, chosen = new_token(), tuple(scope for scope in Scope if scope in scopes)

        def create(tx: Transaction, authenticated: Authenticated) -> ApiToken:
            owner = authenticated.user.id
            tx.api_tokens.forget_expired(now, owner=owner)
            self.quotas.check_api_tokens(tx, owner)
            stored = tx.api_tokens.add(
                owner,
                name.strip(),
                chosen,
                now,
                expires_at,
                ending=token[-ENDING_LENGTH:],
                digest=token_digest(token),
            )
            tx.audit.add(Act.TOKEN_CREATED, owner, caller.origin, now, " ".join(chosen))
            return stored

        stored = await self.authenticator(Credentials(caller, password, code, caller.origin), create)
        return CreatedToken(stored, token)


@dataclass(frozen=True, slots=True)
class GetTokens:
    """List one's API tokens, newest first: with their scopes, when they were last used, and how they end.

    The time of the last use is stored once a minute.
    """

    database: Database

    async def __call__(self, caller: Caller) -> list[ApiToken]:
        """Return them."""
        return await self.database.read(session_checked(caller, lambda tx: tx.api_tokens.of(caller.user_id)))


@dataclass(frozen=True, slots=True)
class RevokeToken:
    """Revoke an API token. It is invalid from the next request on, and its streams end within a second."""

    database: Database
    clock: Clock

    async def __call__(self, caller: Caller, name: str) -> None:
        """Revoke it, or raise ApiTokenNotFound."""
        now = self.clock.now()

        def revoke(tx: Transaction) -> None:
            tx.api_tokens.revoke(name.strip(), owner=caller.user_id)
            tx.audit.add(Act.TOKEN_REVOKED, caller.user_id, caller.origin, now)

        await self.database.write(session_checked(caller, revoke))


@dataclass(frozen=True, slots=True)
class AdmitToken:
    """Find out whose API token a request was sent with, and whether it has the scope that the request needs."""

    database: Database
    clock: Clock
    uses: LastUses

    async def __call__(self, token: str, scope: Scope | None) -> Caller:
        """Return the caller.

        Raises NotAuthenticated, ScopeMissing, or SessionRequired where no scope is enough.
        """
        if not is_well_formed(token):
            raise NotAuthenticated("This is no API token: it is misspelled or incomplete.")
        digest, now = token_digest(token), self.clock.now()
        found = await self.database.read(lambda tx: tx.api_tokens.find(digest))
        if found is None or found.has_expired(now):
            raise token_over()
        if scope is None:
            raise SessionRequired
        if scope not in found.scopes:
            raise scope_missing(scope)
        self.uses.note(found, now)
        return Caller(found.user_id, token=UsedToken(digest, scope))
