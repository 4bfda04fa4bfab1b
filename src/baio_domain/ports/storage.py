"""Storage: transactions, and the repositories in them."""

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol, TypeVar

from baio_domain.entities import (
    Act,
    Answer,
    ApiKey,
    AuditEntry,
    Conversation,
    DayOfUsage,
    Message,
    Model,
    ModelSpec,
    Origin,
    Outcome,
    Profile,
    Provider,
    Role,
    SecondFactor,
    Session,
    User,
)

T = TypeVar("T")


class Users(Protocol):
    """Accounts. Usernames and emails are unique without regard to case (``entities.folded``)."""

    @abstractmethod
    def add(self, username: str, email: str, profile: Profile, password_hash: str, now: datetime) -> User:
        """Store a new account, or raise InvalidInput naming ``username`` or ``email`` when taken."""

    @abstractmethod
    def taken(self, username: str, email: str) -> list[str]:
        """Which of ``username`` and ``email`` belong to an account already, by these names."""

    @abstractmethod
    def get(self, user_id: int) -> User:
        """The account, or raise AccountNotFound."""

    @abstractmethod
    def is_enabled(self, user_id: int) -> bool:
        """Whether the account exists and is not disabled."""

    @abstractmethod
    def by_username(self, username: str) -> User | None:
        """The account with this username in any spelling, or None."""

    @abstractmethod
    def save_profile(self, user_id: int, profile: Profile) -> None:
        """Replace the user's profile, or raise AccountNotFound."""

    @abstractmethod
    def all(self) -> list[User]:
        """Every account, in the order they were made."""

    @abstractmethod
    def disable(self, user_id: int, now: datetime) -> None:
        """Shut the account out from now on, and mark its running answers for their processes to stop.

        Raises AccountNotFound.
        """

    @abstractmethod
    def enable(self, user_id: int) -> None:
        """Let the account in again, or raise AccountNotFound."""

    @abstractmethod
    def delete(self, user_id: int) -> list[int]:
        """Delete the account and everything that belongs to it; return the ids of its answers that were running.

        Raises AccountNotFound.
        """

    @abstractmethod
    def save_password_hash(self, user_id: int, password_hash: str) -> None:
        """Replace the password's hash and void a pending password reset, or raise AccountNotFound."""

    @abstractmethod
    def save_names(self, user_id: int, username: str, email: str) -> None:
        """Replace both; raise AccountNotFound, or InvalidInput naming ``username`` or ``email`` when taken."""

    @abstractmethod
    def save_password_reset(self, user_id: int, digest: bytes, until: datetime) -> None:
        """Let whoever holds the secret with this digest set another password, once; earlier offers are void.

        Raises AccountNotFound.
        """

    @abstractmethod
    def by_password_reset(self, digest: bytes, now: datetime) -> User | None:
        """Whose password may be set with the secret of this digest, if it was offered and the offer stands."""


class Sessions(Protocol):
    """Sessions, each asked for on behalf of its owner."""

    @abstractmethod
    def open(self, owner: int, user_agent: str, now: datetime) -> Session:
        """Store a new one, or raise AccountNotFound."""

    @abstractmethod
    def is_active(self, session_id: int, *, owner: int) -> bool:
        """Whether the session exists and its account is enabled. Costs one look-up."""

    @abstractmethod
    def use(
        self, session_id: int, now: datetime, *, owner: int, used_since: datetime, opened_since: datetime
    ) -> Session | None:
        """Record that it is used now, and return it.

        None if it is not active (see ``is_active``), was last used before ``used_since``, or was opened before
        ``opened_since``.
        """

    @abstractmethod
    def of(self, owner: int) -> list[Session]:
        """All of the owner's, newest first."""

    @abstractmethod
    def end(self, session_id: int, *, owner: int) -> bool:
        """End it; False when it had ended already."""

    @abstractmethod
    def end_all(self, owner: int, *, except_id: int | None = None) -> None:
        """End all of the owner's, or all but one."""

    @abstractmethod
    def forget(self, *, used_before: datetime, opened_before: datetime) -> None:
        """Drop those whose time is over, whoever owns them."""


class SecondFactors(Protocol):
    """Authenticator apps and recovery codes: at most one app to an account. Whatever is accepted is accepted once."""

    @abstractmethod
    def get(self, user_id: int) -> SecondFactor | None:
        """The account's, enabled or not yet."""

    @abstractmethod
    def enroll(self, user_id: int, sealed: bytes) -> None:
        """Store a new one in place of one that was never enabled.

        Raises SecondFactorOn if one is enabled, or AccountNotFound.
        """

    @abstractmethod
    def enable(self, factor: SecondFactor, counter: int, recovery: Sequence[bytes], now: datetime) -> bool:
        """Enable it, with the code of this step as used, and store the digests of recovery codes.

        False when it is enabled already, or not the account's any more.
        """

    @abstractmethod
    def use_code(self, factor: SecondFactor, counter: int) -> bool:
        """Accept the code of this step: False when it, or a later one, was accepted before."""

    @abstractmethod
    def use_recovery_code(self, user_id: int, digest: bytes) -> bool:
        """Accept the recovery code with this digest, and drop it: False when there is none."""

    @abstractmethod
    def count_recovery_codes(self, user_id: int) -> int:
        """How many recovery codes are unused."""

    @abstractmethod
    def remove(self, user_id: int) -> bool:
        """Drop the account's, with its recovery codes; False when there was none."""

    @abstractmethod
    def after(self, user_id: int, limit: int) -> list[SecondFactor]:
        """The next by account, whoever owns them: for sealing them anew."""

    @abstractmethod
    def save_sealed(self, factor: SecondFactor, sealed: bytes) -> None:
        """Replace the ciphertext, unless it has changed meanwhile."""


class FailedAttempts(Protocol):
    """How many wrong passwords and codes there were lately: for each key a time at which they will be forgotten."""

    @abstractmethod
    def arrival_times(self, keys: Collection[bytes]) -> dict[bytes, datetime]:
        """The times of those that have one."""

    @abstractmethod
    def save_arrival_time(self, key: bytes, time: datetime) -> None:
        """Set the time. Of two at once one commits, and the other runs again."""

    @abstractmethod
    def forget(self, keys: Collection[bytes], before: datetime) -> None:
        """Drop these, and all whose time is over."""


class Audit(Protocol):
    """What was done to accounts, by whom and from where. Entries are added and read; none is ever changed.

    Two exceptions: they are forgotten when they are old, and when an account is deleted (``Users.delete``) its entries
    keep the act and lose whom it concerned and the address.
    """

    @abstractmethod
    def add(self, act: Act, user_id: int | None, origin: Origin, now: datetime, note: str = "") -> None:
        """Append an entry."""

    @abstractmethod
    def of(self, user_id: int) -> list[AuditEntry]:
        """All that concern this account, oldest first."""

    @abstractmethod
    def after(self, entry_id: int, limit: int) -> list[AuditEntry]:
        """The next by id."""

    @abstractmethod
    def forget(self, before: datetime) -> None:
        """Drop everything that is older."""


class Conversations(Protocol):
    """Conversations, each asked for on behalf of its owner; somebody else's raises ConversationNotFound."""

    @abstractmethod
    def add(self, owner: int, title: str, now: datetime) -> Conversation:
        """Store a new one, or raise AccountNotFound. Ids are never used again."""

    @abstractmethod
    def get(self, conversation_id: int, *, owner: int) -> Conversation:
        """The conversation, or raise ConversationNotFound."""

    @abstractmethod
    def of(self, owner: int) -> list[Conversation]:
        """All of the owner's, newest first, ties by id, newest first."""

    @abstractmethod
    def rename(self, conversation_id: int, title: str, *, owner: int) -> None:
        """Give it another title, or raise ConversationNotFound."""

    @abstractmethod
    def delete(self, conversation_id: int, *, owner: int) -> None:
        """Remove it with its messages and answers, or raise ConversationNotFound."""


class Messages(Protocol):
    """What was said."""

    @abstractmethod
    def add(self, conversation_id: int, role: Role, content: str, now: datetime, *, owner: int) -> Message:
        """Append to the conversation, or raise ConversationNotFound."""

    @abstractmethod
    def of(self, conversation_id: int, *, owner: int) -> list[Message]:
        """The messages in the order they were written; empty for what is not the owner's."""

    @abstractmethod
    def system(self, conversation_id: int, *, owner: int) -> Message | None:
        """The conversation's system message, or None where it has none."""

    @abstractmethod
    def count(self, conversation_id: int, *, owner: int, up_to: int) -> int:
        """How many there are up to the one with this id, without the system message."""

    @abstractmethod
    def iter_newest_first(self, conversation_id: int, *, owner: int, up_to: int | None = None) -> Iterator[Message]:
        """The messages from the newest (or the one with id ``up_to``) back, fetched as the iterator is read."""


@dataclass(frozen=True, slots=True)
class AnswerPart:
    """A piece of a running answer's text that is new since the last checkpoint; ``offset`` counts characters."""

    answer_id: int
    offset: int
    text: str


@dataclass(frozen=True, slots=True)
class CheckpointResult:
    """What the database says of answers that a process believes to run: those that do, and which of them to stop."""

    running: frozenset[int]
    stopping: frozenset[int]


@dataclass(frozen=True, slots=True)
class NewAnswer:
    """A question about to be answered.

    ``max_running`` is how many running answers its owner may have with this one. ``left_out`` is how many messages the
    model is not sent, ``prompt_estimate`` about how many tokens it is sent.
    """

    question: Message
    owner: int
    provider_id: int
    model: str
    now: datetime
    lease_until: datetime
    max_running: int
    left_out: int = 0
    prompt_estimate: int = 0
    api_key_id: int | None = None


@dataclass(frozen=True, slots=True)
class IdempotencyRecord:
    """What a request under an idempotency key led to, and when."""

    result_id: int
    created_at: datetime


class Answers(Protocol):
    """The records of answers. A state once final never changes, and one conversation has one running answer at most."""

    @abstractmethod
    def begin(self, new: NewAnswer) -> Answer:
        """Record that the question is being answered.

        Raises AnswerRunning with the id of the one that runs in this conversation, or TooManyAnswers.
        """

    @abstractmethod
    def checkpoint(
        self, parts: Sequence[AnswerPart], running: Sequence[int], lease_until: datetime
    ) -> CheckpointResult:
        """Append text to running answers and prolong the leases of ``running``; what the database says of them.

        An answer that was deleted, or ended by somebody else, does not run: its text is not stored.
        """

    @abstractmethod
    def end(self, answer_id: int, outcome: Outcome, text: str, now: datetime) -> bool:
        """End a running answer and append ``text`` to its conversation as BAiO's message, unless it is empty.

        With text, it takes the place of what BAiO had answered to the same question before: that leaves the
        conversation, and stays what the earlier answer's ``text`` gives. Returns whether this call
        ended it: False when it had ended already or is gone, and then nothing is stored. About how many tokens the
        text is (``prompts.estimated_completion_tokens``) is kept, for where the provider does not say it.
        """

    @abstractmethod
    def end_expired(self, now: datetime, *, except_ids: Collection[int]) -> list[int]:
        """End every running answer whose lease is over, but for ``except_ids``; their ids.

        They end as interrupted, with the text of their checkpoints.
        """

    @abstractmethod
    def request_stop(self, conversation_id: int, *, owner: int) -> int:
        """Mark the conversation's running answer for its process to stop; its id, or raise AnswerNotFound."""

    @abstractmethod
    def newest(self, conversation_id: int, *, owner: int) -> Answer:
        """The newest answer of the conversation, or raise AnswerNotFound."""

    @abstractmethod
    def of(self, conversation_id: int, *, owner: int) -> list[Answer]:
        """All answers of the conversation, oldest first; none for what is not the owner's."""

    @abstractmethod
    def get(self, answer_id: int, *, owner: int) -> Answer:
        """The record, or raise AnswerNotFound."""

    @abstractmethod
    def text(self, answer_id: int, offset: int, *, owner: int) -> str:
        """The stored text from this character on; empty where there is none."""

    @abstractmethod
    def length(self, answer_id: int, *, owner: int) -> int:
        """How many characters ``text`` would have from the start."""

    @abstractmethod
    def usage(self, owner: int, first: date, last: date) -> list[DayOfUsage]:
        """What the owner's answers begun on these days and between cost, by day, the provider's id and the model.

        Answers that cost nothing anybody knows of, because they ended without text or counts, are left out.
        """


class Idempotency(Protocol):
    """What requests under an idempotency key have led to. Keys are per user."""

    @abstractmethod
    def find(self, owner: int, key: str, fingerprint: bytes, since: datetime) -> IdempotencyRecord | None:
        """What this request led to, None when it is new or older than ``since``.

        Raises IdempotencyKeyReused when the key belongs to a request with another fingerprint.
        """

    @abstractmethod
    def remember(
        self,
        owner: int,
        key: str,
        fingerprint: bytes,
        result_id: int,
        now: datetime,
        *,
        conversation: int | None = None,
    ) -> None:
        """Keep which record (its id) the request led to, until ``conversation``, if it was about one, is deleted.

        Of two at once one commits, and the other runs again.
        """

    @abstractmethod
    def forget(self, before: datetime) -> None:
        """Drop everything that is older."""


class ApiKeys(Protocol):
    """Stored keys, each asked for on behalf of its owner. Nicknames are unique per owner."""

    @abstractmethod
    def add(self, owner: int, provider_id: int, nickname: str, now: datetime) -> ApiKey:
        """Reserve a row, still without its ciphertext, or raise InvalidInput naming ``nickname`` when taken."""

    @abstractmethod
    def save_sealed(self, key_id: int, sealed: bytes, *, owner: int) -> None:
        """Store the ciphertext, or raise ApiKeyNotFound."""

    @abstractmethod
    def get(self, nickname: str, *, owner: int) -> ApiKey:
        """The key, or raise ApiKeyNotFound."""

    @abstractmethod
    def of(self, owner: int) -> list[ApiKey]:
        """All of the owner's, in the order they were added."""

    @abstractmethod
    def rename(self, nickname: str, new: str, *, owner: int) -> None:
        """Give a key another nickname; raise ApiKeyNotFound, or InvalidInput naming ``new_nickname`` when taken."""

    @abstractmethod
    def delete(self, nickname: str, *, owner: int) -> list[int]:
        """Remove a key, or raise ApiKeyNotFound; the ids of the running answers that use it, now marked to stop."""

    @abstractmethod
    def after(self, key_id: int, limit: int) -> list[ApiKey]:
        """The next keys by id, whoever owns them: for sealing them anew."""


class Catalogue(Protocol):
    """Providers and their models. Ids are given once, from 1 on in the order of adding, and kept for ever."""

    @abstractmethod
    def providers(self, *, retired: bool = False) -> list[Provider]:
        """All providers by id, each with its models by id; the retired models only on request."""

    @abstractmethod
    def get(self, provider_id: int) -> Provider:
        """One provider with all of its models; LookupError when there is none, which is a bug of the caller."""

    @abstractmethod
    def add_provider(self, name: str) -> Provider:
        """Add a provider without models."""

    @abstractmethod
    def add_model(self, provider_id: int, spec: ModelSpec) -> Model:
        """Add a model to a provider."""

    @abstractmethod
    def save_model(self, model: Model) -> None:
        """Replace everything but the ids of a model."""


class Transaction(Protocol):
    """One unit of work: everything in it happens, or nothing."""

    users: Users
    sessions: Sessions
    second_factors: SecondFactors
    failed_attempts: FailedAttempts
    audit: Audit
    conversations: Conversations
    messages: Messages
    answers: Answers
    api_keys: ApiKeys
    catalogue: Catalogue
    idempotency: Idempotency


class Database(Protocol):
    """Runs units of work. ``work`` may run twice, so it touches nothing but the transaction it is given."""

    @abstractmethod
    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` on one consistent snapshot. Raises Unavailable when the database can't be reached."""

    @abstractmethod
    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` and commit, or roll back and raise what it raised. Raises Unavailable as ``read`` does."""

    @abstractmethod
    async def check(self) -> None:
        """Raise Unavailable, saying why, unless the database is reachable and its schema is the one this code needs."""

    @abstractmethod
    def close(self) -> None:
        """Let go of every connection."""
