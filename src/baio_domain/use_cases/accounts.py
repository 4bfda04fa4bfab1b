"""Register, sign in, stay signed in, and say who one is."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace

from baio_domain.answering import Answering
from baio_domain.authorization import acting
from baio_domain.entities import (
    PROFILE_FIELDS,
    Answer,
    Caller,
    Conversation,
    Message,
    Profile,
    User,
    account_problems,
    refuse,
    refuse_fixed,
)
from baio_domain.errors import BadCredentials, FieldError
from baio_domain.ports import Clock, Database, PasswordHasher, TokenIssuer, Transaction
from baio_domain.use_cases.providers import StoredKey, stored_keys


@dataclass(frozen=True, slots=True)
class Register:
    """Create an account.

    - first_name, last_name, username, email and password are required; the other four may be empty.
    - At most 150 characters each, an email 254; surrounding spaces are dropped. A password has 8 to 1,024 characters
      and is taken as it is.
    - A password is refused when it is all digits, too close to the user's own username, name or email, or among the
      most common passwords.
    - A username or email that belongs to an account in any spelling is refused.
    - Every bad field is named at once.
    """

    database: Database
    hasher: PasswordHasher
    clock: Clock
    common_passwords: Container[str]

    async def __call__(self, *, username: str, email: str, password: str, profile: Profile) -> User:
        """Create the account and return it, or raise InvalidInput naming every bad field."""
        username, email, profile = username.strip(), email.strip(), _trimmed(profile)
        fields = {name: str(getattr(profile, name)) for name in PROFILE_FIELDS}
        fields |= {"username": username, "email": email, "password": password}
        problems = list(account_problems(fields, self.common_passwords))
        named = {problem.field for problem in problems}
        taken = await self.database.read(lambda tx: tx.users.taken(username, email))
        problems += [FieldError(field, "is taken already") for field in taken if field not in named]
        refuse(problems)
        password_hash = await self.hasher.hash(password)
        now = self.clock.now()
        return await self.database.write(lambda tx: tx.users.add(username, email, profile, password_hash, now))


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The two tokens of a sign-in."""

    refresh: str
    access: str


@dataclass(frozen=True, slots=True)
class SignIn:
    """Sign in with username and password.

    - The username counts in any spelling of its case.
    - A wrong username, a wrong password and a disabled account get one and the same refusal, after the same time.
    - Gives an access token for requests and a refresh token for new access tokens.
    """

    database: Database
    hasher: PasswordHasher
    tokens: TokenIssuer

    async def __call__(self, username: str, password: str) -> SignedIn:
        """Return the tokens, or raise BadCredentials."""
        user = await self.database.read(lambda tx: tx.users.by_username(username.strip()))
        right = await self.hasher.verify(password, user.password_hash if user else None)
        if user is None or not right or user.disabled_at is not None:
            raise BadCredentials
        if self.hasher.outdated(user.password_hash):
            user_id, password_hash = user.id, await self.hasher.hash(password)
            await self.database.write(lambda tx: tx.users.save_password_hash(user_id, password_hash))
        caller = Caller(user.id)
        return SignedIn(refresh=self.tokens.issue(caller, "refresh"), access=self.tokens.issue(caller, "access"))


@dataclass(frozen=True, slots=True)
class Refresh:
    """Get a new access token for a valid refresh token, which stays valid itself. An access token is refused here."""

    database: Database
    tokens: TokenIssuer

    async def __call__(self, refresh_token: str) -> str:
        """Return a new access token, or raise NotAuthenticated."""
        caller = self.tokens.verify(refresh_token, "refresh")
        await self.database.read(lambda tx: tx.users.require_enabled(caller.user_id))
        return self.tokens.issue(caller, "access")


@dataclass(frozen=True, slots=True)
class ValidateToken:
    """Ask whether an access token holds: signed here, not expired, and of an account that is there and enabled."""

    database: Database
    tokens: TokenIssuer

    async def __call__(self, access_token: str) -> None:
        """Return when it holds, or raise NotAuthenticated."""
        caller = self.tokens.verify(access_token, "access")
        await self.database.read(lambda tx: tx.users.require_enabled(caller.user_id))


@dataclass(frozen=True, slots=True)
class GetInfo:
    """Read one's own account."""

    database: Database

    async def __call__(self, caller: Caller) -> User:
        """Return the caller's account, or raise NotAuthenticated when it is gone."""
        return await self.database.read(acting(caller, lambda tx: tx.users.get(caller.user_id)))


@dataclass(frozen=True, slots=True)
class UpdateInfo:
    """Change what one says about oneself.

    - A field that is missing stays as it is; first_name and last_name can't be made blank.
    - username, email and password are refused here, whatever else the request holds: they need a second factor.
    """

    database: Database

    async def __call__(self, caller: Caller, changes: Mapping[str, str]) -> User:
        """Apply the changes and return the account; raise Forbidden or InvalidInput."""
        refuse_fixed(changes)
        refuse(account_problems(changes, frozenset()))

        def update(tx: Transaction) -> User:
            user = tx.users.get(caller.user_id)
            current = Profile(*(getattr(user, name) for name in PROFILE_FIELDS))
            profile = _trimmed(replace(current, **changes))
            tx.users.save_profile(caller.user_id, profile)
            return tx.users.get(caller.user_id)

        return await self.database.write(acting(caller, update))


@dataclass(frozen=True, slots=True)
class KeptConversation:
    """A conversation with all that was said, and how each answer came about."""

    conversation: Conversation
    messages: list[Message]
    answers: list[Answer]


@dataclass(frozen=True, slots=True)
class Belongings:
    """Everything that is stored about one user, but for what nobody may read: the password's hash and the keys."""

    account: User
    api_keys: list[StoredKey]
    conversations: list[KeptConversation]


@dataclass(frozen=True, slots=True)
class ExportData:
    """Get everything that is stored about oneself: the account, the keys by nickname, every conversation.

    What nobody may read is left out: the password, which is stored as a hash alone, and the keys themselves.
    """

    database: Database

    async def __call__(self, caller: Caller) -> Belongings:
        """Return it all, as it stands at one moment."""
        owner = caller.user_id

        def read(tx: Transaction) -> Belongings:
            conversations = [
                KeptConversation(each, tx.messages.of(each.id, owner=owner), tx.answers.of(each.id, owner=owner))
                for each in tx.conversations.of(owner)
            ]
            return Belongings(tx.users.get(owner), stored_keys(tx, owner), conversations)

        return await self.database.read(acting(caller, read))


@dataclass(frozen=True, slots=True)
class DeleteAccount:
    """Delete one's own account with all that belongs to it, at once and for good.

    - The password is asked for once more; a wrong one is refused.
    - Running answers are stopped. Every token of the account is worthless from then on.
    """

    database: Database
    hasher: PasswordHasher
    answering: Answering

    async def __call__(self, caller: Caller, password: str) -> None:
        """Delete it, or raise BadCredentials."""
        user = await self.database.read(acting(caller, lambda tx: tx.users.get(caller.user_id)))
        if not await self.hasher.verify(password, user.password_hash):
            raise BadCredentials("The password is not right.")
        for answer_id in await self.database.write(acting(caller, lambda tx: tx.users.delete(caller.user_id))):
            self.answering.stop(answer_id)  # those in other processes see with their next checkpoint that they are gone


def _trimmed(profile: Profile) -> Profile:
    return Profile(*(str(getattr(profile, name)).strip() for name in PROFILE_FIELDS))
