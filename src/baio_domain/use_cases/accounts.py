"""Accounts: register, read, change, export and delete one."""

from collections.abc import AsyncIterator, Container, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from baio_domain.answering import Answering
from baio_domain.authentication import Authenticated, Authenticator, Credentials
from baio_domain.entities import (
    NOWHERE,
    PROFILE_FIELDS,
    Act,
    Answer,
    AuditEntry,
    Caller,
    Conversation,
    Message,
    Origin,
    Profile,
    Session,
    User,
    account_problems,
    new_password_problems,
    refuse,
    refuse_fixed,
)
from baio_domain.errors import FieldError, InvalidInput, SecondFactorMissing, name_taken
from baio_domain.one_time_codes import digest_of
from baio_domain.pages import PAGE_SIZE, by_id, one_page, pages
from baio_domain.ports import PAGE_ROWS, Clock, Database, PasswordHasher, Transaction
from baio_domain.quotas import Quotas
from baio_domain.session_check import session_checked
from baio_domain.use_cases.api_keys import StoredKey, stored_keys


@dataclass(frozen=True, slots=True)
class Register:
    """Create an account.

    - first_name, last_name, username, email and password are required; the other four may be empty.
    - At most 150 characters each, an email 254; surrounding spaces are dropped. A password has 8 to 1,024 characters
      and is taken as it is.
    - A password is refused when it is all digits, too similar to the user's own username, name or email, or among the
      most common passwords.
    - A username or email that another account has, in any case, is refused.
    - Every bad field is named at once.
    """

    database: Database
    hasher: PasswordHasher
    clock: Clock
    common_passwords: Container[str]

    async def __call__(
        self, *, username: str, email: str, password: str, profile: Profile, origin: Origin = NOWHERE
    ) -> User:
        """Create the account and return it, or raise InvalidInput naming every bad field."""
        username, email, profile = username.strip(), email.strip(), _trimmed(profile)
        fields = {name: str(getattr(profile, name)) for name in PROFILE_FIELDS}
        fields |= {"username": username, "email": email, "password": password}
        problems = list(account_problems(fields, self.common_passwords))
        named = {problem.field for problem in problems}
        taken = await self.database.read(lambda tx: tx.users.taken(username, email))
        problems += [name_taken(field) for field in taken if field not in named]
        refuse(problems)
        password_hash = await self.hasher.hash(password)
        now = self.clock.now()

        def add(tx: Transaction) -> User:
            user = tx.users.add(username, email, profile, password_hash, now)
            tx.audit.add(Act.REGISTERED, user.id, origin, now)
            return user

        return await self.database.write(add)


@dataclass(frozen=True, slots=True)
class GetInfo:
    """Read one's own account."""

    database: Database

    async def __call__(self, caller: Caller) -> User:
        """Return the caller's account, or raise NotAuthenticated when it is gone."""
        return await self.database.read(session_checked(caller, lambda tx: tx.users.get(caller.user_id)))


@dataclass(frozen=True, slots=True)
class UpdateInfo:
    """Change one's own profile.

    - A field that is missing stays as it is; first_name and last_name can't be made blank.
    - username, email and password are refused here, whatever else the request contains: they need a second factor.
    - How often keys and the profile are changed in a day is limited.
    """

    database: Database
    clock: Clock
    quotas: Quotas

    async def __call__(self, caller: Caller, changes: Mapping[str, str]) -> User:
        """Apply the changes and return the account; raise Forbidden, InvalidInput or TooManyChanges."""
        refuse_fixed(changes)
        refuse(account_problems(changes, frozenset()))
        now = self.clock.now()

        def update(tx: Transaction) -> User:
            self.quotas.check_changes(tx, caller.user_id, now)
            user = tx.users.get(caller.user_id)
            current = Profile(*(getattr(user, name) for name in PROFILE_FIELDS))
            profile = _trimmed(replace(current, **changes))
            tx.users.save_profile(caller.user_id, profile)
            tx.audit.add(Act.PROFILE_CHANGED, caller.user_id, caller.origin, now)
            return tx.users.get(caller.user_id)

        return await self.database.write(session_checked(caller, update))


@dataclass(frozen=True, slots=True)
class UpdateCredentials:
    """Change one's username, email or password.

    - The current password and a code are both needed for any change. An account without two-factor authentication is
      refused.
    - The rules are those of a registration. A missing field stays as it is; at least one of the three is required.
    - All other sessions end.
    """

    database: Database
    hasher: PasswordHasher
    authenticator: Authenticator
    clock: Clock
    common_passwords: Container[str]

    async def __call__(self, caller: Caller, *, password: str, code: str, changes: Mapping[str, str]) -> User:
        """Change them and return the account.

        Raises InvalidInput naming every bad field, SecondFactorMissing, BadCredentials, WrongCode or TooManyAttempts.
        """
        user = await self.database.read(session_checked(caller, lambda tx: _with_second_factor(tx, caller)))
        given = {name: text if name == "password" else text.strip() for name, text in changes.items()}
        if not given:
            raise InvalidInput("Send a username, an email or a password to change.")
        stated = {name: str(getattr(user, name)) for name in ("username", "email", "first_name", "last_name")} | given
        refuse(each for each in account_problems(stated, self.common_passwords) if each.field in given)
        password_hash = await self.hasher.hash(given["password"]) if "password" in given else None
        now = self.clock.now()

        def change(tx: Transaction, authenticated: Authenticated) -> User:
            owner = authenticated.user.id
            tx.users.save_names(
                owner, given.get("username", authenticated.user.username), given.get("email", authenticated.user.email)
            )
            if password_hash is not None:
                tx.users.save_password_hash(owner, password_hash)
            tx.sessions.end_all(owner, except_id=caller.session_id)
            tx.audit.add(Act.CREDENTIALS_CHANGED, owner, caller.origin, now, " ".join(sorted(given)))
            return tx.users.get(owner)

        return await self.authenticator(Credentials(caller, password, code, caller.origin, "always"), change)


@dataclass(frozen=True, slots=True)
class RedeemReset:
    """Set a new password with the secret of a link that the administrator has made.

    - The secret works once, within an hour.
    - The rules are those of a registration. All sessions end; two-factor authentication stays as it is.
    """

    database: Database
    hasher: PasswordHasher
    clock: Clock
    common_passwords: Container[str]

    async def __call__(self, secret: str, password: str, origin: Origin) -> None:
        """Set it, or raise InvalidInput naming ``token`` or ``password``."""
        digest = digest_of(secret)
        user = await self.database.read(lambda tx: tx.users.by_password_reset(digest, self.clock.now()))
        if user is None:
            raise InvalidInput.of(FieldError("token", "is unknown, expired or used already"))
        refuse(new_password_problems(user, password, self.common_passwords))
        password_hash = await self.hasher.hash(password)
        now = self.clock.now()

        def reset(tx: Transaction) -> None:
            owner = tx.users.by_password_reset(digest, now)
            if owner is None:
                raise InvalidInput.of(FieldError("token", "was used in the meantime"))
            tx.users.save_password_hash(owner.id, password_hash)
            tx.sessions.end_all(owner.id)
            tx.audit.add(Act.PASSWORD_RESET, owner.id, origin, now)

        await self.database.write(reset)


@dataclass(frozen=True, slots=True)
class KeptText:
    """The text of an answer that is in no message: a later answer replaced it, or it is still being written."""

    answer_id: int
    content: str


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A remembered idempotency key, the id of what its request created, and when."""

    key: str
    result_id: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ExportedConversation:
    """A conversation with ``pages`` of its messages, of the records of its answers, and of texts in no message."""

    conversation: Conversation
    messages: AsyncIterator[list[Message]]
    answers: AsyncIterator[list[Answer]]
    kept_texts: AsyncIterator[list[KeptText]]


@dataclass(frozen=True, slots=True)
class AccountExport:
    """Everything that is stored about one user, except what nobody may read: hashes, seeds and keys."""

    account: User
    two_factor_enabled_at: datetime | None
    sessions: list[Session]
    api_keys: list[StoredKey]
    conversations: AsyncIterator[list[ExportedConversation]]
    audit: AsyncIterator[list[AuditEntry]]
    idempotency_keys: AsyncIterator[list[IdempotencyKey]]


@dataclass(frozen=True, slots=True)
class ExportData:
    """Export everything that is stored about oneself: the account, the keys by nickname, every conversation.

    - Secrets are left out: the password's hash, the seed and the recovery codes of two-factor authentication, and the
      API keys.
    - It is sent as it is read, page by page: each page is as of its own moment, and a conversation of up to 256 KiB is
      in one page.
    - Its pages must be read in their order. How often data is exported in a day is limited.
    """

    database: Database
    clock: Clock
    quotas: Quotas

    async def __call__(self, caller: Caller) -> AccountExport:
        """Record the export, and return what ``pages`` yield. Raises TooManyChanges."""
        owner, now = caller.user_id, self.clock.now()

        def record(tx: Transaction) -> None:
            self.quotas.check_changes(tx, owner, now)
            tx.audit.add(Act.DATA_EXPORTED, owner, caller.origin, now)

        def begin(tx: Transaction) -> AccountExport:
            factor = tx.second_factors.get(owner)
            return AccountExport(
                tx.users.get(owner),
                factor.enabled_at if factor else None,
                tx.sessions.of(owner),
                stored_keys(tx, owner),
                self._conversations(caller),
                self._audit(caller),
                self._idempotency_keys(caller),
            )

        await self.database.write(session_checked(caller, record))
        return await self.database.read(session_checked(caller, begin))

    def _conversations(self, caller: Caller) -> AsyncIterator[list[ExportedConversation]]:
        owner = caller.user_id

        def whole(tx: Transaction, conversation: Conversation) -> ExportedConversation:
            texts, after = [], 0
            while (text := _next_text(tx, conversation.id, owner, after)) is not None:
                texts.append(text)
                after = text.answer_id
            return ExportedConversation(
                conversation,
                one_page(tx.messages.of(conversation.id, owner=owner)),
                one_page(tx.answers.page(conversation.id, owner=owner)),
                one_page(texts),
            )

        def read(tx: Transaction, before: Conversation | None) -> list[ExportedConversation]:
            found: list[ExportedConversation] = []
            room = PAGE_SIZE
            for each in tx.conversations.page(owner, before=before, limit=CONVERSATIONS_AT_ONCE):
                if found and each.stored_bytes > room:
                    break
                room -= each.stored_bytes
                found.append(whole(tx, each) if each.stored_bytes <= PAGE_SIZE else self._long(caller, each))
            return found

        return pages(self.database, caller, read, None, lambda each: each.conversation)

    def _long(self, caller: Caller, conversation: Conversation) -> ExportedConversation:
        owner, id_ = caller.user_id, conversation.id

        def messages(tx: Transaction, after: int) -> list[Message]:
            return tx.messages.page(id_, owner=owner, after=after, size=PAGE_SIZE)

        def answers(tx: Transaction, after: int) -> list[Answer]:
            return tx.answers.page(id_, owner=owner, after=after, limit=PAGE_ROWS)

        def texts(tx: Transaction, after: int) -> list[KeptText]:
            found = _next_text(tx, id_, owner, after)
            return [found] if found else []

        return ExportedConversation(
            conversation,
            pages(self.database, caller, messages, 0, by_id),
            pages(self.database, caller, answers, 0, by_id, limit=PAGE_ROWS),
            pages(self.database, caller, texts, 0, lambda each: each.answer_id),
        )

    def _audit(self, caller: Caller) -> AsyncIterator[list[AuditEntry]]:
        def read(tx: Transaction, after: int) -> list[AuditEntry]:
            return tx.audit.page(caller.user_id, after=after, limit=PAGE_ROWS)

        return pages(self.database, caller, read, 0, by_id, limit=PAGE_ROWS)

    def _idempotency_keys(self, caller: Caller) -> AsyncIterator[list[IdempotencyKey]]:
        def read(tx: Transaction, after: str) -> list[IdempotencyKey]:
            found = tx.idempotency.page(caller.user_id, after=after, limit=PAGE_ROWS)
            return [IdempotencyKey(key, record.result_id, record.created_at) for key, record in found]

        return pages(self.database, caller, read, "", lambda each: each.key, limit=PAGE_ROWS)


CONVERSATIONS_AT_ONCE = 100
"""Conversations in a page of an export, if their text fits into it."""


def _next_text(tx: Transaction, conversation_id: int, owner: int, after: int) -> KeptText | None:
    found = tx.answers.next_text(conversation_id, owner=owner, after=after)
    return KeptText(*found) if found else None


@dataclass(frozen=True, slots=True)
class DeleteAccount:
    """Delete one's own account and everything that belongs to it, at once and for good.

    - The password is required again, and a code where two-factor authentication is enabled.
    - Running answers are stopped. Every token of the account is invalid from then on.
    - The audit keeps its entries, without the account and the address.
    """

    authenticator: Authenticator
    clock: Clock
    answering: Answering

    async def __call__(self, caller: Caller, password: str, code: str | None = None) -> None:
        """Delete it, or raise BadCredentials, SecondFactorRequired, WrongCode or TooManyAttempts."""
        now = self.clock.now()

        def delete(tx: Transaction, authenticated: Authenticated) -> list[int]:
            running = tx.users.delete(authenticated.user.id)
            tx.audit.add(Act.ACCOUNT_DELETED, None, Origin(request_id=caller.origin.request_id), now)
            return running

        for answer_id in await self.authenticator(Credentials(caller, password, code, caller.origin), delete):
            self.answering.stop(answer_id)  # other processes notice the deletion with their next checkpoint


def _with_second_factor(tx: Transaction, caller: Caller) -> User:
    factor = tx.second_factors.get(caller.user_id)
    if factor is None or not factor.enabled:
        raise SecondFactorMissing
    return tx.users.get(caller.user_id)


def _trimmed(profile: Profile) -> Profile:
    return Profile(*(str(getattr(profile, name)).strip() for name in PROFILE_FIELDS))
