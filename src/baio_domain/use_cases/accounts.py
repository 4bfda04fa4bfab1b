"""Accounts: register, read, change, export and delete one."""

from collections.abc import AsyncIterator, Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Literal

from baio_domain.answering import Answering
from baio_domain.authentication import Authenticated, Authenticator, Credentials
from baio_domain.entities import (
    INVITATION_LIFETIME,
    NOWHERE,
    PASSWORD_RESET_LIFETIME,
    PROFILE_FIELDS,
    Act,
    Answer,
    ApiToken,
    AuditEntry,
    Caller,
    ChatSettings,
    Conversation,
    DayOfUsage,
    Filing,
    Message,
    Origin,
    Preset,
    Profile,
    Retention,
    RetentionPolicy,
    Session,
    StoredSequence,
    ToolCall,
    User,
    account_problems,
    new_password_problems,
    refuse,
    refuse_fixed,
)
from baio_domain.errors import (
    BaioError,
    FieldError,
    InvalidInput,
    InvitationInvalid,
    InvitationRequired,
    RegistrationClosed,
    SecondFactorMissing,
    TooManyRegistrations,
    name_taken,
)
from baio_domain.identities import Identity
from baio_domain.one_time_codes import digest_of
from baio_domain.pages import PAGE_SIZE, by_id, one_page, pages
from baio_domain.ports import PAGE_ROWS, AuditFilter, Clock, Database, PasswordHasher, SecretBox, Transaction
from baio_domain.rate_limits import network_of, per_hour
from baio_domain.retention import STEP_BYTES, STEP_ROWS, Keeper
from baio_domain.session_check import end_all_sessions, session_checked
from baio_domain.use_cases.api_keys import StoredKey, stored_keys
from baio_domain.use_cases.messaging import answers_with_settings

Registration = Literal["open", "invited", "closed"]
"""Who may register: anybody, somebody with an invitation, or nobody."""


@dataclass(frozen=True, slots=True)
class RegistrationPolicy:
    """Who may register, and how often: in an hour from one network, and in an hour in total (0 means no limit)."""

    mode: Registration = "open"
    per_hour_and_network: int = 100
    per_hour: int = 1000


@dataclass(frozen=True, slots=True)
class Register:
    """Create one's own account.

    - first_name, last_name, username, email and password are required; the other four may be empty.
    - At most 150 characters each, an email 254; surrounding spaces are dropped. A password has 8 to 1,024 characters
      and is never changed.
    - A password is refused when it is all digits, too similar to the user's own username, name or email, or among the
      most common passwords.
    - Every bad field is named at once. A username or email that another account has, in any case, is refused only when
      all fields are valid.
    - The server may require an invitation, or be closed.
    - Registrations are limited per network and in total, whether they succeed or not.
    """

    database: Database
    hasher: PasswordHasher
    box: SecretBox
    clock: Clock
    common_passwords: Container[str]
    policy: RegistrationPolicy

    async def __call__(
        self,
        *,
        username: str,
        email: str,
        password: str,
        profile: Profile,
        invitation: str | None = None,
        origin: Origin = NOWHERE,
    ) -> User:
        """Create the account and return it.

        Raises InvalidInput naming every bad field, RegistrationClosed, InvitationRequired, InvitationInvalid or
        TooManyRegistrations.
        """
        self._refuse_by_mode(invitation)
        account = _NewAccount.of(username, email, password, profile)
        refuse(account.problems(self.common_passwords))
        now, network = self.clock.now(), network_of(origin.address)
        digest = digest_of(invitation) if invitation is not None and self.policy.mode == "invited" else None
        error = await self.database.write(lambda tx: self._admit(tx, account, digest, network, now))
        if error is not None:
            raise error
        password_hash = await self.hasher.hash(password, network=network)
        made_at = self.clock.now()

        def add(tx: Transaction) -> User:
            if digest is not None and not tx.invitations.use(digest):
                raise InvitationInvalid
            return account.add(tx, password_hash, origin, made_at)

        return await self.database.write(add)

    def _refuse_by_mode(self, invitation: str | None) -> None:
        if self.policy.mode == "closed":
            raise RegistrationClosed
        if self.policy.mode == "invited" and invitation is None:
            raise InvitationRequired

    def _admit(
        self, tx: Transaction, account: "_NewAccount", invitation: bytes | None, network: str, now: datetime
    ) -> BaioError | None:
        """Count the registration, and return the error it is refused with, if it is.

        Names that are taken are an error that is counted, too: otherwise it would tell who exists, without limit.
        """
        limits = {
            self.box.fingerprint("registrations", network): per_hour(self.policy.per_hour_and_network),
            self.box.fingerprint("registrations"): per_hour(self.policy.per_hour),
        }
        known = tx.failed_attempts.arrival_times(list(limits))
        wait = max(limit.wait(known.get(key), now) if limit else timedelta(0) for key, limit in limits.items())
        if wait:
            return TooManyRegistrations(retry_after=wait.total_seconds())
        for key, limit in limits.items():
            if limit is not None:
                tx.failed_attempts.save_arrival_time(key, limit.after_failure(known.get(key), now))
        if invitation is not None:
            latest = now + INVITATION_LIFETIME
            if not tx.invitations.is_valid(invitation, account.email, now, latest):
                return InvitationInvalid()
        taken = tx.users.taken(account.username, account.email)
        return InvalidInput.of(*map(name_taken, taken)) if taken else None


@dataclass(frozen=True, slots=True)
class _NewAccount:
    """What a registration asks for, with surrounding spaces dropped."""

    username: str
    email: str
    password: str = field(repr=False)
    profile: Profile

    @classmethod
    def of(cls, username: str, email: str, password: str, profile: Profile) -> "_NewAccount":
        return cls(username.strip(), email.strip(), password, _trimmed(profile))

    def problems(self, common_passwords: Container[str]) -> Iterator[FieldError]:
        fields = {name: str(getattr(self.profile, name)) for name in PROFILE_FIELDS}
        fields |= {"username": self.username, "email": self.email, "password": self.password}
        yield from account_problems(fields, common_passwords)

    def add(self, tx: Transaction, password_hash: str, origin: Origin, now: datetime) -> User:
        user = tx.users.add(self.username, self.email, self.profile, password_hash, now)
        tx.audit.add(Act.REGISTERED, user.id, origin, now)
        return user


@dataclass(frozen=True, slots=True)
class CreateUser:
    """Create an account as the administrator: the rules of a registration, without its limits and invitations."""

    database: Database
    hasher: PasswordHasher
    clock: Clock
    common_passwords: Container[str]

    async def __call__(
        self, *, username: str, email: str, password: str, profile: Profile, origin: Origin = NOWHERE
    ) -> User:
        """Create the account and return it, or raise InvalidInput naming every bad field."""
        account, now = _NewAccount.of(username, email, password, profile), self.clock.now()
        refuse(account.problems(self.common_passwords))
        refuse(map(name_taken, await self.database.read(lambda tx: tx.users.taken(account.username, account.email))))
        password_hash = await self.hasher.hash(password)
        return await self.database.write(lambda tx: account.add(tx, password_hash, origin, now))


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

    - A missing field stays as it is; first_name and last_name can't be made blank.
    - username, email and password are refused here, whatever else the request contains: changing them needs a second
      factor.
    """

    database: Database
    clock: Clock

    async def __call__(self, caller: Caller, changes: Mapping[str, str]) -> User:
        """Apply the changes and return the account; raise Forbidden or InvalidInput."""
        refuse_fixed(changes)
        refuse(account_problems(changes, frozenset()))
        now = self.clock.now()

        def update(tx: Transaction) -> User:
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
        now, network, password_hash = self.clock.now(), network_of(caller.origin.address), ""

        async def hash_new_password() -> None:
            nonlocal password_hash
            if "password" in given:
                password_hash = await self.hasher.hash(given["password"], network=network)

        def change(tx: Transaction, authenticated: Authenticated) -> User:
            owner = authenticated.user.id
            tx.users.save_names(
                owner, given.get("username", authenticated.user.username), given.get("email", authenticated.user.email)
            )
            if password_hash:
                tx.users.save_password_hash(owner, password_hash)
            end_all_sessions(tx, owner, except_token_id=caller.session_id)
            tx.audit.add(Act.CREDENTIALS_CHANGED, owner, caller.origin, now, " ".join(sorted(given)))
            return tx.users.get(owner)

        credentials = Credentials(caller, password, code, caller.origin, "always")
        return await self.authenticator(credentials, change, prepare=hash_new_password)


@dataclass(frozen=True, slots=True)
class RedeemReset:
    """Set a new password with the secret of an administrator's link.

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
        user = await self.database.read(lambda tx: _reset_by(tx, digest, self.clock.now()))
        if user is None:
            raise InvalidInput.of(FieldError("token", "is unknown, expired or used already"))
        refuse(new_password_problems(user, password, self.common_passwords))
        password_hash = await self.hasher.hash(password, network=network_of(origin.address))
        now = self.clock.now()

        def reset(tx: Transaction) -> None:
            owner = _reset_by(tx, digest, now)
            if owner is None:
                raise InvalidInput.of(FieldError("token", "was used in the meantime"))
            tx.users.save_password_hash(owner.id, password_hash)
            end_all_sessions(tx, owner.id)
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
    """A conversation with ``pages`` of its messages, of its answers' records, of texts in no message, and of calls.

    ``goes_at`` is when it is deleted if nothing happens in it; None for never. The records are AnswerWithSettings.
    """

    conversation: Conversation
    filing: Filing
    retention: Retention
    goes_at: datetime | None
    settings: ChatSettings
    messages: AsyncIterator[list[Message]]
    answers: AsyncIterator[list[Answer]]
    kept_texts: AsyncIterator[list[KeptText]]
    tool_calls: AsyncIterator[list[ToolCall]]


@dataclass(frozen=True, slots=True)
class AccountExport:
    """Everything that is stored about one user, except hashes, seeds and keys, which nobody may read."""

    account: User
    two_factor_enabled_at: datetime | None
    sessions: list[Session]
    api_tokens: list[ApiToken]
    api_keys: list[StoredKey]
    conversations: AsyncIterator[list[ExportedConversation]]
    audit: AsyncIterator[list[AuditEntry]]
    idempotency_keys: AsyncIterator[list[IdempotencyKey]]
    tool_calls: AsyncIterator[list[ToolCall]]
    sequences: AsyncIterator[list[StoredSequence]]
    usage: list[DayOfUsage]
    presets: list[Preset]
    identities: list[Identity]


@dataclass(frozen=True, slots=True)
class ExportData:
    """Export everything that is stored about the caller: account, keys by nickname, every conversation, usage.

    - Secrets are left out: the password's hash, the seed and the recovery codes of two-factor authentication, and the
      API keys.
    - Sequences are listed without their letters and features, which can be larger than all the rest:
      `getSequence?format=genbank` returns those of each.
    - BAiO sends it while reading it, page by page. Each page shows the data at the moment when it is read, and a
      conversation of up to 256 KiB is in one page.
    - Its pages must be read in their order.
    """

    database: Database
    clock: Clock
    policy: RetentionPolicy

    async def __call__(self, caller: Caller) -> AccountExport:
        """Record the export, and return what ``pages`` yield."""
        owner, now = caller.user_id, self.clock.now()

        def begin(tx: Transaction) -> AccountExport:
            factor = tx.second_factors.get(owner)
            return AccountExport(
                tx.users.get(owner),
                factor.enabled_at if factor else None,
                tx.sessions.of(owner),
                tx.api_tokens.of(owner),
                stored_keys(tx, owner),
                self._conversations(caller),
                self._audit(caller),
                self._idempotency_keys(caller),
                self._tool_calls(caller, None),
                self._sequences(caller),
                tx.ledger.of(owner, date.min, date.max),
                tx.presets.of(owner),
                tx.identities.of(owner),
            )

        await self.database.write(
            session_checked(caller, lambda tx: tx.audit.add(Act.DATA_EXPORTED, owner, caller.origin, now))
        )
        return await self.database.read(session_checked(caller, begin))

    def _conversations(self, caller: Caller) -> AsyncIterator[list[ExportedConversation]]:
        owner = caller.user_id

        def whole(tx: Transaction, conversation: Conversation) -> ExportedConversation:
            texts, after = [], 0
            while (text := _next_text(tx, conversation.id, owner, after)) is not None:
                texts.append(text)
                after = text.answer_id
            retention = tx.retentions.get(conversation.id, owner=owner)
            return ExportedConversation(
                conversation,
                tx.filings.of(conversation.id, owner=owner),
                retention,
                self.policy.goes_at(retention),
                tx.settings.opening(conversation.id, owner=owner).settings,
                one_page(tx.messages.of(conversation.id, owner=owner)),
                one_page(answers_with_settings(tx, conversation.id, owner)),
                one_page(texts),
                one_page(tx.tool_calls.page(owner=owner, conversation_id=conversation.id, size=2 * PAGE_SIZE)),
            )

        def read(tx: Transaction, before: Conversation | None) -> list[ExportedConversation]:
            found: list[ExportedConversation] = []
            room = PAGE_SIZE
            for each in tx.conversations.page(owner, before=before, limit=CONVERSATIONS_AT_ONCE):
                if found and each.stored_bytes > room:
                    break
                room -= each.stored_bytes
                found.append(whole(tx, each) if each.stored_bytes <= PAGE_SIZE else self._long(tx, caller, each))
            return found

        return pages(self.database, caller, read, None, lambda each: each.conversation)

    def _long(self, tx: Transaction, caller: Caller, conversation: Conversation) -> ExportedConversation:
        owner, id_ = caller.user_id, conversation.id

        def messages(tx: Transaction, after: int) -> list[Message]:
            return tx.messages.page(id_, owner=owner, after=after, size=PAGE_SIZE)

        def answers(tx: Transaction, after: int) -> list[Answer]:
            return answers_with_settings(tx, id_, owner, after)

        def texts(tx: Transaction, after: int) -> list[KeptText]:
            found = _next_text(tx, id_, owner, after)
            return [found] if found else []

        retention = tx.retentions.get(id_, owner=owner)
        return ExportedConversation(
            conversation,
            tx.filings.of(id_, owner=owner),
            retention,
            self.policy.goes_at(retention),
            tx.settings.opening(id_, owner=owner).settings,
            pages(self.database, caller, messages, 0, by_id),
            pages(self.database, caller, answers, 0, by_id, limit=PAGE_ROWS),
            pages(self.database, caller, texts, 0, lambda each: each.answer_id),
            self._tool_calls(caller, id_),
        )

    def _tool_calls(self, caller: Caller, conversation_id: int | None) -> AsyncIterator[list[ToolCall]]:
        def read(tx: Transaction, after: int) -> list[ToolCall]:
            return tx.tool_calls.page(
                owner=caller.user_id, conversation_id=conversation_id, after=after, size=PAGE_SIZE
            )

        return pages(self.database, caller, read, 0, by_id)

    def _sequences(self, caller: Caller) -> AsyncIterator[list[StoredSequence]]:
        def read(tx: Transaction, before: int | None) -> list[StoredSequence]:
            return tx.sequences.page(caller.user_id, before=before)

        return pages(self.database, caller, read, None, lambda each: each.id, limit=PAGE_ROWS)

    def _audit(self, caller: Caller) -> AsyncIterator[list[AuditEntry]]:
        def read(tx: Transaction, after: int) -> list[AuditEntry]:
            found = tx.audit.page(AuditFilter(caller.user_id), after=after, limit=PAGE_ROWS)
            # Where an administrator acted, the address is the administrator's.
            return [each if each.operator_id is None else replace(each, address="") for each in found]

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

    A large account is gone at once, too, for everybody. Its remains on the disk are deleted bit by bit (``Keeper``), so
    that nobody waits for it.

    - The password is required again, and a code if two-factor authentication is enabled. For an account without a
      password it is empty: instead, the sign-in with the institution must be at most five minutes ago.
    - Running answers are stopped. Every token of the account is invalid from then on.
    - The audit keeps its entries, without the account and the address.
    """

    authenticator: Authenticator
    clock: Clock
    answering: Answering
    keeper: Keeper

    async def __call__(self, caller: Caller, password: str, code: str | None = None) -> None:
        """Delete it.

        Raises BadCredentials, RecentSignInRequired, SecondFactorRequired, WrongCode or TooManyAttempts.
        """
        now = self.clock.now()

        def delete(tx: Transaction, authenticated: Authenticated) -> list[int]:
            user_id = authenticated.user.id
            conversations, size = tx.conversations.stored(user_id)
            sequences, more = tx.sequences.stored(user_id)
            if max(conversations, sequences) <= STEP_ROWS and size + more <= STEP_BYTES:
                running = tx.users.delete(user_id)
            else:
                running = tx.users.begin_deletion(user_id, now)
            tx.audit.add(Act.ACCOUNT_DELETED, None, Origin(request_id=caller.origin.request_id), now)
            return running

        for answer_id in await self.authenticator(Credentials(caller, password, code, caller.origin), delete):
            self.answering.stop(answer_id)  # other processes notice the deletion with their next checkpoint
        self.keeper.wake()


def _reset_by(tx: Transaction, digest: bytes, now: datetime) -> User | None:
    return tx.users.by_password_reset(digest, now, latest=now + PASSWORD_RESET_LIFETIME)


def _with_second_factor(tx: Transaction, caller: Caller) -> User:
    factor = tx.second_factors.get(caller.user_id)
    if factor is None or not factor.enabled:
        raise SecondFactorMissing
    return tx.users.get(caller.user_id)


def _trimmed(profile: Profile) -> Profile:
    return Profile(*(str(getattr(profile, name)).strip() for name in PROFILE_FIELDS))
