"""Storage: transactions, and the repositories in them.

``owner`` is the id of the user a method acts for. Another user's data is treated as if it did not exist.
"""

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple, Protocol, TypeVar

from baio_domain.entities import (
    USUAL,
    Act,
    Answer,
    ApiKey,
    ApiToken,
    AuditEntry,
    ChatSettings,
    Conversation,
    DayOfUsage,
    EndedCall,
    FiledConversation,
    Filing,
    InputOrigin,
    Message,
    Model,
    ModelSpec,
    Origin,
    Outcome,
    PastCall,
    Preset,
    Profile,
    Provider,
    Retention,
    RetentionPolicy,
    Role,
    Scope,
    SecondFactor,
    SequenceContent,
    Session,
    StoredSequence,
    ToolCall,
    UsedSettings,
    UsedTokens,
    User,
)
from baio_domain.identities import Assertion, Identity, StartedSignIn

T = TypeVar("T")

PAGE_ROWS = 1_024
"""Rows in a page, where a caller asks for no other number."""

MAX_AUDIT_ENTRIES = 2_000
"""Entries of one kind that the audit keeps for one account."""

MAX_KNOWN_NETWORKS = 50
"""Networks that are remembered for one account."""


class Users(Protocol):
    """Accounts. Usernames and emails are unique without regard to case (``entities.folded``)."""

    @abstractmethod
    def add(self, username: str, email: str, profile: Profile, password_hash: str, now: datetime) -> User:
        """Store a new account, or raise InvalidInput naming ``username`` or ``email`` if it is taken."""

    @abstractmethod
    def taken(self, username: str, email: str) -> list[str]:
        """Which of the fields ``username`` and ``email`` hold a name that belongs to an account already."""

    @abstractmethod
    def get(self, user_id: int) -> User:
        """The account, or raise AccountNotFound."""

    @abstractmethod
    def is_enabled(self, user_id: int) -> bool:
        """Whether the account exists and is not disabled. Costs one look-up."""

    @abstractmethod
    def lock(self, user_id: int) -> None:
        """Let no other unit of work that locks this account take effect before this one ends.

        Of two at once, one runs again and sees what the other has stored, so limits on an account are exact.
        """

    @abstractmethod
    def by_username(self, username: str) -> User | None:
        """The account with this username, without regard to case, or None."""

    @abstractmethod
    def save_profile(self, user_id: int, profile: Profile) -> None:
        """Replace the user's profile, or raise AccountNotFound."""

    @abstractmethod
    def page(self, *, after: int, limit: int, prefix: str = "") -> list[User]:
        """The next accounts after the one with id ``after``, in the order of ids.

        With a ``prefix``, only those whose username or email begins with it, without regard to case.
        """

    @abstractmethod
    def mark_administrator(self, user_id: int, *, administrator: bool) -> None:
        """Say whether the account is an administrator's, or raise AccountNotFound."""

    @abstractmethod
    def disable(self, user_id: int, now: datetime) -> None:
        """Disable the account from now on, and request a stop of its running answers.

        Raises AccountNotFound.
        """

    @abstractmethod
    def enable(self, user_id: int) -> None:
        """Enable the account again, or raise AccountNotFound."""

    @abstractmethod
    def delete(self, user_id: int) -> list[int]:
        """Delete the account and everything that belongs to it; return the ids of its answers that were running.

        Raises AccountNotFound.
        """

    @abstractmethod
    def begin_deletion(self, user_id: int, now: datetime) -> list[int]:
        """Delete the account, and leave its conversations, sequences and tool calls to ``continue_deletion``.

        From then on nobody finds, lists or reads any of it, and its names are free. Returns the ids of its running
        answers, after requesting their stop. Raises AccountNotFound.
        """

    @abstractmethod
    def any_deletion(self) -> bool:
        """Whether ``continue_deletion`` would find something. Costs one look-up."""

    @abstractmethod
    def continue_deletion(self, *, count: int, size: int) -> None:
        """Delete some of what an account has left: at most ``count`` rows of one kind.

        Only until they are ``size`` bytes together: so no more than one exceeds that.
        """

    @abstractmethod
    def save_password_hash(self, user_id: int, password_hash: str) -> None:
        """Replace the password's hash and void a pending password reset, or raise AccountNotFound."""

    @abstractmethod
    def renew_password_hash(self, user_id: int, old: str, new: str) -> bool:
        """Replace the hash ``old`` by ``new``, of the same password; a pending password reset stays.

        False if the account's hash is not ``old`` any more.
        """

    @abstractmethod
    def save_names(self, user_id: int, username: str, email: str) -> None:
        """Replace both names.

        Raises AccountNotFound, or InvalidInput naming ``username`` or ``email`` if another account has it.
        """

    @abstractmethod
    def save_password_reset(self, user_id: int, digest: bytes, until: datetime) -> None:
        """Store a pending password reset, by the digest of its secret, in place of an earlier one.

        Raises AccountNotFound.
        """

    @abstractmethod
    def by_password_reset(self, digest: bytes, now: datetime, latest: datetime) -> User | None:
        """The account with a pending password reset of this digest.

        None if there is none, it has expired, or it expires after ``latest``, which only a wrong clock can have set.
        """


class Sessions(Protocol):
    """Sessions."""

    @abstractmethod
    def open(self, owner: int, user_agent: str, now: datetime) -> Session:
        """Store a new session under a new ``token_id``, or raise AccountNotFound."""

    @abstractmethod
    def is_active(self, token_id: str, *, owner: int) -> bool:
        """Whether the session exists and its account is enabled. Costs one look-up."""

    @abstractmethod
    def use(
        self, token_id: str, now: datetime, *, owner: int, used_since: datetime, opened_since: datetime
    ) -> Session | None:
        """Record that the session is used now, and return it.

        None if it is not active (see ``is_active``), was last used before ``used_since``, or was opened before
        ``opened_since``. A session that was opened in the future, by a clock that was ahead, counts as opened now.
        """

    @abstractmethod
    def of(self, owner: int) -> list[Session]:
        """All sessions of the owner, newest first."""

    @abstractmethod
    def end(self, token_id: str, *, owner: int) -> bool:
        """End the session; False if it had ended already."""

    @abstractmethod
    def end_all(self, owner: int, *, except_token_id: str | None = None) -> None:
        """End all sessions of the owner, except the one with this token id."""

    @abstractmethod
    def end_oldest(self, owner: int, *, keep: int) -> None:
        """End all sessions of the owner except the newest ``keep``."""

    @abstractmethod
    def active(self, token_ids: Collection[str]) -> frozenset[str]:
        """Which of these sessions, of any users, are active (see ``is_active``). Costs one look-up for all."""

    @abstractmethod
    def forget(self, *, used_before: datetime, opened_before: datetime) -> None:
        """Delete the sessions of all users that were last used, or opened, before these times.

        Like every ``forget``, it may leave the rest of many rows to the next calls.
        """


class ApiTokens(Protocol):
    """API tokens. Each is found by its digest, and named by its owner."""

    @abstractmethod
    def add(
        self,
        owner: int,
        name: str,
        scopes: tuple[Scope, ...],
        now: datetime,
        expires_at: datetime | None,
        *,
        ending: str,
        digest: bytes,
    ) -> ApiToken:
        """Store a new token. Raises InvalidInput if the owner has one of this name, or AccountNotFound."""

    @abstractmethod
    def find(self, digest: bytes) -> ApiToken | None:
        """The token, even if it has expired; None if there is none, or its account is disabled. Costs one look-up."""

    @abstractmethod
    def of(self, owner: int) -> list[ApiToken]:
        """All tokens of the owner, newest first."""

    @abstractmethod
    def revoke(self, name: str, *, owner: int) -> None:
        """Delete the token, or raise ApiTokenNotFound."""

    @abstractmethod
    def revoke_all(self, owner: int) -> None:
        """Delete all tokens of the owner."""

    @abstractmethod
    def forget_expired(self, now: datetime, *, owner: int) -> None:
        """Delete the tokens of the owner that have expired."""

    @abstractmethod
    def active(self, digests: Collection[bytes], now: datetime) -> frozenset[bytes]:
        """Which of these tokens, of any users, ``find`` finds, and have not expired. Costs one look-up for all."""

    @abstractmethod
    def note_used(self, times: Mapping[bytes, datetime]) -> None:
        """Store when these tokens were last used. Those that are gone are left out."""


class SecondFactors(Protocol):
    """Authenticator apps, at most one for each account, and recovery codes. Every code is accepted only once."""

    @abstractmethod
    def get(self, user_id: int) -> SecondFactor | None:
        """The account's second factor, whether it is enabled or not."""

    @abstractmethod
    def enroll(self, user_id: int, sealed: bytes) -> None:
        """Store a new second factor that is not enabled yet, in place of an earlier one that never was.

        Raises SecondFactorOn if the earlier one is enabled, or AccountNotFound.
        """

    @abstractmethod
    def enable(self, factor: SecondFactor, counter: int, recovery: Sequence[bytes], now: datetime) -> bool:
        """Enable it, mark the code of time step ``counter`` as used, and store the recovery codes' digests.

        False if it is enabled already, or has been replaced or removed.
        """

    @abstractmethod
    def use_code(self, factor: SecondFactor, counter: int, latest: int) -> bool:
        """Use up the code of time step ``counter``; False if it, or a later one up to ``latest``, was used before.

        A used step after ``latest`` can only come from a clock that was ahead, and does not count.
        """

    @abstractmethod
    def use_recovery_code(self, user_id: int, digest: bytes) -> bool:
        """Use up the recovery code with this digest, and delete it; False if there is none."""

    @abstractmethod
    def enabled_for(self, user_ids: Collection[int]) -> frozenset[int]:
        """Which of these accounts have an enabled one. Costs one look-up for all."""

    @abstractmethod
    def count_recovery_codes(self, user_id: int) -> int:
        """How many recovery codes are unused."""

    @abstractmethod
    def remove(self, user_id: int) -> bool:
        """Delete the account's second factor and recovery codes; False if there was no second factor."""

    @abstractmethod
    def after(self, user_id: int, limit: int) -> list[SecondFactor]:
        """The next second factors of all users, in the order of user ids, for key rotation."""

    @abstractmethod
    def save_sealed(self, factor: SecondFactor, sealed: bytes) -> None:
        """Replace the ciphertext, unless it is no longer the one in ``factor``."""


class FailedAttempts(Protocol):
    """Failed attempts to authenticate, as rate limiting by GCRA counts them: a time for each key.

    The time is the algorithm's theoretical arrival time (TAT). Each failure moves it further into the future; once it
    has passed, all failures under that key are forgotten.
    """

    @abstractmethod
    def arrival_times(self, keys: Collection[bytes]) -> dict[bytes, datetime]:
        """The stored times of these keys. A key without failures is missing."""

    @abstractmethod
    def save_arrival_time(self, key: bytes, time: datetime) -> None:
        """Store the time, in place of an earlier one. Of two concurrent transactions, one is run again."""

    @abstractmethod
    def forget(self, keys: Collection[bytes], before: datetime) -> None:
        """Delete these keys, and keys whose time is before ``before``."""


class KnownNetworks(Protocol):
    """Networks from which the owners of accounts have signed in, by keyed digests."""

    @abstractmethod
    def is_known(self, user_id: int, digest: bytes) -> bool:
        """Whether the owner has signed in from this network."""

    @abstractmethod
    def remember(self, user_id: int, digest: bytes, now: datetime) -> None:
        """Remember that the owner signs in from this network now. Only the last ``MAX_KNOWN_NETWORKS`` are kept."""


class Invitations(Protocol):
    """Invitations to register, by the digests of their codes."""

    @abstractmethod
    def add(self, digest: bytes, email: str | None, until: datetime) -> None:
        """Store an invitation until it is used or expires, for this email address or for anybody."""

    @abstractmethod
    def is_valid(self, digest: bytes, email: str, now: datetime, latest: datetime) -> bool:
        """Whether there is such an invitation for this email address.

        It must expire after ``now`` and by ``latest``; later times can only come from a wrong clock.
        """

    @abstractmethod
    def use(self, digest: bytes) -> bool:
        """Use the invitation up; False if it was used before."""

    @abstractmethod
    def forget(self, before: datetime) -> None:
        """Delete the invitations that expired before this time."""


class Identities(Protocol):
    """Identities at institutions, each of one account, and the sessions that were opened with them."""

    @abstractmethod
    def add(self, owner: int, issuer: str, subject: str, now: datetime) -> Identity:
        """Store an identity that no account has (see ``find``), or raise AccountNotFound.

        Of two concurrent transactions, one is run again.
        """

    @abstractmethod
    def find(self, issuer: str, subject: str) -> Identity | None:
        """The identity, of any account. Both are compared exactly."""

    @abstractmethod
    def of(self, owner: int) -> list[Identity]:
        """All identities of the owner, oldest first."""

    @abstractmethod
    def use(self, identity_id: int, now: datetime, *, owner: int) -> None:
        """Record that the owner signs in with the identity now."""

    @abstractmethod
    def remove(self, identity_id: int, *, owner: int) -> None:
        """Delete the identity, or raise IdentityNotFound."""

    @abstractmethod
    def opened(self, session: Session, identity_id: int, their_session: str | None) -> None:
        """Note that the session was opened with an identity, and what the institution calls its own session."""

    @abstractmethod
    def opened_at(self, token_id: str, *, owner: int) -> datetime | None:
        """When the session was opened with an identity; None if there is no such session, or it was not."""

    @abstractmethod
    def end_sessions(self, identity_id: int, *, owner: int, except_token_id: str | None = None) -> None:
        """End the sessions that were opened with the identity, except the one with this token id."""

    @abstractmethod
    def end_sessions_at(self, issuer: str, subject: str | None, their_session: str | None) -> list[int]:
        """End the sessions that an institution says have ended; return the ids of their accounts.

        With only a subject, those are all of that identity. With a session of the institution, those that were opened
        in it, and with both also those of the identity of which no such session is known.
        """


class SignIns(Protocol):
    """Sign-ins with institutions that have begun, and the tickets of those that succeeded, by digests."""

    @abstractmethod
    def start(self, digest: bytes, started: StartedSignIn, until: datetime) -> None:
        """Store the beginning of a sign-in."""

    @abstractmethod
    def count(self) -> int:
        """How many have begun, and are not forgotten."""

    @abstractmethod
    def take(self, digest: bytes, now: datetime, latest: datetime) -> StartedSignIn | None:
        """The beginning of a sign-in, which is deleted; None if there is none, or it has expired.

        It must expire after ``now`` and by ``latest``; later times can only come from a wrong clock.
        """

    @abstractmethod
    def add_ticket(self, digest: bytes, challenge: str, assertion: Assertion, until: datetime) -> None:
        """Store a ticket for the client that knows the verifier of the challenge."""

    @abstractmethod
    def ticket(self, digest: bytes, challenge: str, now: datetime, latest: datetime) -> Assertion | None:
        """The ticket's person; None if there is no ticket with this challenge, or it has expired (see ``take``)."""

    @abstractmethod
    def use_ticket(self, digest: bytes) -> bool:
        """Delete the ticket; False if it was used before."""

    @abstractmethod
    def cancel(self, issuer: str, subject: str | None, their_session: str | None) -> None:
        """Delete the tickets for what an institution says has ended (see ``Identities.end_sessions_at``)."""

    @abstractmethod
    def forget(self, before: datetime) -> None:
        """Delete sign-ins and tickets that expired before this time."""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries of the audit log are read: about an account, of a kind, from ``since`` on, before ``until``."""

    user_id: int | None = None
    act: Act | None = None
    since: datetime | None = None
    until: datetime | None = None


EVERYTHING = AuditFilter()


class Audit(Protocol):
    """The audit log: what was done to accounts, by whom and from where. Entries are added and read, never changed.

    There are two exceptions. Old entries are deleted, and so are those beyond ``MAX_AUDIT_ENTRIES``; and when an
    account is deleted (``Users.delete``), its entries lose the account and the address, and those about what it did as
    an administrator lose its name and the address.
    """

    @abstractmethod
    def add(self, act: Act, user_id: int | None, origin: Origin, now: datetime, note: str = "") -> None:
        """Append an entry. Of more than ``MAX_AUDIT_ENTRIES`` of this kind about this account, delete the oldest.

        Entries become visible in the order of their ids: a reader who has read up to one has missed none before it.
        """

    @abstractmethod
    def page(self, chosen: AuditFilter, *, after: int, limit: int) -> list[AuditEntry]:
        """The next of these entries after the one with id ``after``, in the order of ids."""

    @abstractmethod
    def forget(self, before: datetime) -> None:
        """Delete older entries."""


class Conversations(Protocol):
    """Conversations."""

    @abstractmethod
    def add(self, owner: int, title: str, now: datetime) -> Conversation:
        """Store a new conversation, or raise AccountNotFound. Ids are never used again."""

    @abstractmethod
    def get(self, conversation_id: int, *, owner: int) -> Conversation:
        """The conversation, or raise ConversationNotFound."""

    @abstractmethod
    def page(self, owner: int, *, before: Conversation | None = None, limit: int = PAGE_ROWS) -> list[Conversation]:
        """The owner's conversations, newest first; those of the same time by id, also newest first.

        They begin with the one that comes after ``before`` in this order, whether or not that still exists.
        """

    @abstractmethod
    def stored(self, owner: int) -> tuple[int, int]:
        """How many conversations the owner has, and how many bytes are stored for the owner.

        These are the ``stored_bytes`` of the conversations and of the calls of tools that belong to none.
        """

    @abstractmethod
    def rename(self, conversation_id: int, title: str, *, owner: int) -> None:
        """Replace the title, or raise ConversationNotFound."""

    @abstractmethod
    def entitle(self, conversation_id: int, title: str, *, owner: int) -> None:
        """Give the conversation this title if it has none and no more than one question."""

    @abstractmethod
    def delete(self, conversation_id: int, *, owner: int) -> None:
        """Delete the conversation with its messages and answers, or raise ConversationNotFound."""


class Filings(Protocol):
    """How conversations are organized: by activity, pinned, archived and with tags."""

    @abstractmethod
    def find(
        self,
        owner: int,
        *,
        archived: bool = False,
        tag: str | None = None,
        query: str | None = None,
        before: FiledConversation | None = None,
        limit: int = PAGE_ROWS,
    ) -> list[FiledConversation]:
        """The owner's conversations that are archived, or those that are not: pinned ones first, then by activity.

        The newest activity comes first; of the same time, the highest id. With ``tag``, only those with this tag. With
        ``query``, which has at least one of the words of ``finding.words_of``, only those where it occurs in the title,
        a question or an answer. They begin with the one that comes after ``before`` in this order, whether or not that
        still exists; only its id, its ``updated_at`` and ``pinned`` are read.
        """

    @abstractmethod
    def of(self, conversation_id: int, *, owner: int) -> Filing:
        """The conversation's filing, or raise ConversationNotFound."""

    @abstractmethod
    def pin(self, conversation_id: int, *, pinned: bool, owner: int) -> None:
        """Pin it, or undo that, or raise ConversationNotFound."""

    @abstractmethod
    def archive(self, conversation_id: int, *, archived: bool, owner: int) -> None:
        """Archive it, or undo that, or raise ConversationNotFound."""

    @abstractmethod
    def tag(self, conversation_id: int, tags: Collection[str], *, owner: int) -> None:
        """Replace its tags, which are all different, or raise ConversationNotFound."""

    @abstractmethod
    def tags(self, owner: int) -> dict[str, int]:
        """Each tag of the owner's conversations, and how many have it, sorted by code points."""


class Retentions(Protocol):
    """How long conversations are kept, and the end of those whose time is over.

    Every method that stores a message or ends an answer notes the time as that of the conversation's last activity.
    """

    @abstractmethod
    def get(self, conversation_id: int, *, owner: int) -> Retention:
        """The facts that decide how long it is kept, or raise ConversationNotFound."""

    @abstractmethod
    def keep(self, conversation_id: int, *, kept: bool, owner: int) -> None:
        """Exempt it, or undo that, or raise ConversationNotFound."""

    @abstractmethod
    def make_temporary(self, conversation_id: int, *, owner: int) -> None:
        """Make it temporary, or raise ConversationNotFound."""

    @abstractmethod
    def note_activity(self, conversation_id: int, now: datetime, *, owner: int) -> None:
        """Note that something happens in it now that stores nothing yet, or raise ConversationNotFound.

        Of this and ``delete_due`` at once, one is run again and sees the other.
        """

    @abstractmethod
    def any_due(self, policy: RetentionPolicy, now: datetime, latest: datetime) -> bool:
        """Whether ``delete_due`` or ``correct_future(latest)`` would find something. Costs a look-up for each."""

    @abstractmethod
    def delete_due(self, policy: RetentionPolicy, now: datetime, *, count: int, size: int) -> int:
        """Delete conversations whose time is over, with all that belongs to them; return how many.

        Those without activity for longest come first. There are at most ``count``, and only until their
        ``stored_bytes`` are ``size`` together: so no more than one exceeds that. One with a running answer stays.
        """

    @abstractmethod
    def correct_future(self, latest: datetime) -> None:
        """Activity after ``latest``, which a wrong clock has noted, counts as activity then."""


class Imports(Protocol):
    """Which conversations were imported, by the digests of their messages. Each owner has a digest once."""

    @abstractmethod
    def find(self, digest: bytes, *, owner: int) -> int | None:
        """The id of the owner's conversation that was imported under this digest, or None if there is none (any more).

        Of two concurrent transactions that mark the same, one is run again.
        """

    @abstractmethod
    def mark(self, conversation_id: int, digest: bytes, now: datetime, *, owner: int) -> None:
        """Note that it was imported now, or raise ConversationNotFound."""


class Messages(Protocol):
    """The messages of conversations."""

    @abstractmethod
    def add(self, conversation_id: int, role: Role, content: str, now: datetime, *, owner: int) -> Message:
        """Append a message to the conversation, or raise ConversationNotFound."""

    @abstractmethod
    def of(self, conversation_id: int, *, owner: int) -> list[Message]:
        """All messages of the conversation, oldest first."""

    @abstractmethod
    def page(self, conversation_id: int, *, owner: int, after: int, size: int) -> list[Message]:
        """The next messages after the one with id ``after``, oldest first.

        No more than ``PAGE_ROWS``, and only until their text has ``size`` characters, or as many bytes, together: so no
        more than one message exceeds that.
        """

    @abstractmethod
    def count(self, conversation_id: int, *, owner: int, up_to: int) -> int:
        """How many messages there are up to and including the one with id ``up_to``, without the system message."""

    @abstractmethod
    def iter_newest_first(self, conversation_id: int, *, owner: int, up_to: int | None = None) -> Iterator[Message]:
        """The messages, newest first, starting at the one with id ``up_to``. They are fetched as they are consumed."""


@dataclass(frozen=True, slots=True)
class Opening:
    """The data that an answer begins with: the conversation's system message, and its settings.

    ``sequences`` and ``calls`` say whether the conversation may have sequences and calls of tools, which are read by
    themselves.
    """

    system: Message | None
    settings: ChatSettings
    sequences: bool
    calls: bool


class Settings(Protocol):
    """The settings of conversations, which go with them. They name API keys, and lose those that are deleted."""

    @abstractmethod
    def opening(self, conversation_id: int, *, owner: int) -> Opening:
        """The system message and the settings, or raise ConversationNotFound."""

    @abstractmethod
    def save(self, conversation_id: int, settings: ChatSettings, *, owner: int) -> None:
        """Replace the settings, and count what they store.

        Raises ConversationNotFound, or ApiKeyNotFound if they name a key that the owner does not have.
        """


class Presets(Protocol):
    """Presets. Names are unique for each owner."""

    @abstractmethod
    def add(self, owner: int, name: str, settings: ChatSettings, now: datetime) -> Preset:
        """Store a preset.

        Raises AccountNotFound, InvalidInput naming ``name`` if it is taken, or ApiKeyNotFound as ``Settings.save``.
        """

    @abstractmethod
    def get(self, name: str, *, owner: int) -> Preset:
        """The preset, or raise PresetNotFound."""

    @abstractmethod
    def of(self, owner: int) -> list[Preset]:
        """All presets of the owner, oldest first."""

    @abstractmethod
    def delete(self, name: str, *, owner: int) -> None:
        """Delete the preset, or raise PresetNotFound."""


@dataclass(frozen=True, slots=True)
class AnswerPart:
    """A piece of a running answer's text; ``offset`` is its first character's place in the whole text."""

    answer_id: int
    offset: int
    text: str


@dataclass(frozen=True, slots=True)
class CheckpointResult:
    """Which of a checkpoint's answers are still running, and which of those shall stop."""

    running: frozenset[int]
    stopping: frozenset[int]


@dataclass(frozen=True, slots=True)
class NewAnswer:
    """A question that is about to be answered.

    ``max_running`` is how many running answers its owner may have, this one included. ``left_out`` is the number of
    messages that are not sent to the model, ``prompt_estimate`` about how many tokens are sent. ``provider_id`` is None
    where BAiO answers without asking a provider. ``question`` is None for an answer in no conversation. ``worker`` is
    the number under which its process holds a lock (``Workers``). ``settings`` are those with which it is made.
    """

    question: Message | None
    owner: int
    provider_id: int | None
    model: str
    now: datetime
    lease_until: datetime
    max_running: int
    left_out: int = 0
    prompt_estimate: int = 0
    api_key_id: int | None = None
    worker: int | None = None
    settings: UsedSettings = USUAL


@dataclass(frozen=True, slots=True)
class IdempotencyRecord:
    """The id of the record that a request with an idempotency key created, and when."""

    result_id: int
    created_at: datetime


class Answers(Protocol):
    """The records of answers. A final state never changes, and a conversation has at most one running answer."""

    @abstractmethod
    def begin(self, new: NewAnswer) -> Answer:
        """Store a running answer to the question.

        Raises AnswerRunning with the id of the one that runs in this conversation, or TooManyAnswers.
        """

    @abstractmethod
    def checkpoint(
        self, parts: Sequence[AnswerPart], running: Sequence[int], lease_until: datetime, worker: int | None = None
    ) -> CheckpointResult:
        """Append text to running answers, and extend the leases of ``running``, which are this ``worker``'s.

        An answer that was deleted, or ended by another process, does not run: its text is not stored.
        """

    @abstractmethod
    def end(self, answer_id: int, outcome: Outcome, text: str, now: datetime) -> bool:
        """End a running answer and append ``text`` to its conversation as BAiO's message, unless it is empty.

        This message replaces the one of an earlier answer to the same question, whose text is still returned by
        ``text``. Its tokens are added to the ledger; those that the provider did not count are estimated
        (``prompts.estimated_completion_tokens``).

        A call of a tool that still runs for the answer becomes cancelled.

        Of an answer in no conversation, nothing is left but its tokens in the ledger.

        Returns False, and stores nothing, if the answer had ended already or does not exist any more.
        """

    @abstractmethod
    def end_expired(
        self, now: datetime, latest: datetime, *, except_ids: Collection[int], except_workers: Collection[int] = ()
    ) -> list[int]:
        """End every running answer whose lease has expired, except these; return the ids of those that it ended.

        A lease that ends after ``latest`` was set by a wrong clock and counts as expired. The answers end as
        interrupted, with the text of their checkpoints.
        """

    @abstractmethod
    def workers(self) -> frozenset[int]:
        """The workers that have running answers, as far as they hold locks."""

    @abstractmethod
    def end_of_workers(self, workers: Collection[int], now: datetime, *, except_ids: Collection[int]) -> list[int]:
        """End every running answer of these workers, except these answers, in the same way; return the ids."""

    @abstractmethod
    def request_stop(self, conversation_id: int, *, owner: int) -> int:
        """Mark the conversation's running answer for its process to stop; return its id, or raise AnswerNotFound."""

    @abstractmethod
    def newest(self, conversation_id: int, *, owner: int) -> Answer:
        """The newest answer of the conversation, or raise AnswerNotFound."""

    @abstractmethod
    def page(self, conversation_id: int, *, owner: int, after: int = 0, limit: int = PAGE_ROWS) -> list[Answer]:
        """The conversation's answers after the one with id ``after``, oldest first."""

    @abstractmethod
    def settings(self, conversation_id: int, *, owner: int, first: int, last: int) -> dict[int, UsedSettings]:
        """The settings of the conversation's answers from id ``first`` to ``last``, by the answer's id.

        One that was made as usual is missing.
        """

    @abstractmethod
    def of_messages(self, conversation_id: int, *, owner: int, first: int, last: int) -> dict[int, Answer]:
        """The answers that belong to the conversation's messages from id ``first`` to ``last``, by the message's id.

        To one of BAiO's messages it is the answer whose text it is, to a question its newest answer.
        """

    @abstractmethod
    def next_text(self, conversation_id: int, *, owner: int, after: int) -> tuple[int, str] | None:
        """The next answer's id and kept text, of those after ``after`` whose text is in no message; or None.

        Such an answer was replaced by a later one, or is still running.
        """

    @abstractmethod
    def get(self, answer_id: int, *, owner: int) -> Answer:
        """The record, or raise AnswerNotFound."""

    @abstractmethod
    def text(self, answer_id: int, offset: int, *, owner: int) -> str:
        """The stored text from this character on, or the empty string if there is none."""

    @abstractmethod
    def length(self, answer_id: int, *, owner: int) -> int:
        """How many characters the whole stored text has."""


class PlaceInLedger(NamedTuple):
    """The place of a row in the ledger of all accounts."""

    user_id: int = 0
    day: date = date.min
    provider_id: int = 0
    model: str = ""


@dataclass(frozen=True, slots=True)
class UsageOfAccount:
    """A row of the ledger, its place, and whose it is."""

    place: PlaceInLedger
    username: str
    usage: DayOfUsage


class Ledger(Protocol):
    """The costs of answers, as counts without any text. It outlives conversations, and is deleted with the account.

    ``Answers.end`` adds to it, and ``add`` does for answers of which nothing is stored. Answers without text or token
    counts are left out, and those that no provider was asked for.
    """

    @abstractmethod
    def add(self, used: UsedTokens) -> None:
        """Count one more answer."""

    @abstractmethod
    def of(self, owner: int, first: date, last: date) -> list[DayOfUsage]:
        """The tokens of the owner's answers, by the day they began (UTC), provider and model; both days are included.

        The list is sorted by day, provider id and model.
        """

    @abstractmethod
    def page(self, first: date, last: date, *, after: PlaceInLedger, limit: int) -> list[UsageOfAccount]:
        """The next rows of all accounts after that place, in the order of their places."""


@dataclass(frozen=True, slots=True)
class NewToolCall:
    """A call of a tool that begins. The fields are those of ``ToolCall``.

    A call of an answer belongs to the answer's conversation.
    """

    owner: int
    tool: str
    version: str
    library: str
    definition: str
    raw_arguments: str
    now: datetime
    conversation_id: int | None = None
    answer_id: int | None = None
    round: int = 1
    offset: int = 0


class ToolCalls(Protocol):
    """The records of tool calls. They are deleted with their answer, conversation or account; a final state stays."""

    @abstractmethod
    def begin(self, new: NewToolCall) -> ToolCall:
        """Store a running call.

        Raises AnswerNotFound if its answer does not run (any more), ConversationNotFound, or AccountNotFound.
        """

    @abstractmethod
    def end(self, call: ToolCall, ended: EndedCall, now: datetime) -> bool:
        """End a running call that ``begin`` has returned.

        Returns False, and stores nothing, if it had ended already or does not exist any more.
        """

    @abstractmethod
    def note_quoted(self, call_ids: Collection[int]) -> None:
        """Note that the models' own texts repeat the values of these calls."""

    @abstractmethod
    def get(self, call_id: int, *, owner: int) -> ToolCall:
        """The record, or raise ToolCallNotFound."""

    @abstractmethod
    def page(
        self,
        *,
        owner: int,
        conversation_id: int | None = None,
        answer_id: int | None = None,
        after: int = 0,
        size: int,
    ) -> list[ToolCall]:
        """The next calls after the one with id ``after``, oldest first.

        They are those of the answer, else of the conversation, else those of the owner that belong to no conversation.
        There are no more than ``PAGE_ROWS``, and only until their ``stored_bytes`` are ``size`` together: so no more
        than one record exceeds that.
        """

    @abstractmethod
    def past(self, conversation_id: int, *, owner: int, up_to: int) -> Iterator[PastCall]:
        """The calls of the answers in the conversation's messages up to the one with id ``up_to``, newest first.

        They are in the order of the messages, so both can be read side by side, and are fetched as they are consumed.
        """

    @abstractmethod
    def results(self, conversation_id: int, *, owner: int) -> Iterator[tuple[int, str]]:
        """The ids and results of the conversation's done calls, newest first, fetched as they are consumed."""

    @abstractmethod
    def delete(self, call_id: int, *, owner: int) -> None:
        """Delete a record that belongs to no conversation, or raise ToolCallNotFound."""


@dataclass(frozen=True, slots=True)
class NewSequence:
    """A sequence to store. The fields are those of ``StoredSequence``.

    ``stored_bytes`` is what it counts for: its letters and the JSON of its features. With ``conversation_id`` it
    belongs to that conversation, too.
    """

    owner: int
    name: str
    description: str
    molecule: str
    topology: str
    length: int
    features: int
    sha256: str
    format: str
    origin: InputOrigin
    now: datetime
    content: SequenceContent
    stored_bytes: int
    conversation_id: int | None = None


@dataclass(frozen=True, slots=True)
class SequenceMention:
    """A sequence in a message, from character ``start`` to ``end``; None for one that is attached to it."""

    message_id: int
    sequence: StoredSequence
    start: int | None = None
    end: int | None = None


class Sequences(Protocol):
    """Stored sequences. The same letters, topology and name of one owner are one sequence.

    A sequence belongs to its owner, and to any number of the owner's conversations. One that does not come from a file
    is deleted with the last of its conversations.
    """

    @abstractmethod
    def add(self, new: NewSequence) -> StoredSequence:
        """Store it, or return the one that is the same; either way, it belongs to the new one's conversation then.

        A sequence that comes from a file, too, has that origin from then on. Raises AccountNotFound or
        ConversationNotFound.
        """

    @abstractmethod
    def get(self, sequence_id: int, *, owner: int) -> StoredSequence:
        """The sequence, or raise SequenceNotFound."""

    @abstractmethod
    def content(self, sequence_id: int, *, owner: int) -> SequenceContent:
        """Its letters and features, or raise SequenceNotFound."""

    @abstractmethod
    def find(self, sha256: str, topology: str, name: str, *, owner: int) -> StoredSequence | None:
        """The owner's sequence with these letters, topology and name, or None."""

    @abstractmethod
    def named(self, name: str, conversation_id: int, *, owner: int) -> list[StoredSequence]:
        """The conversation's sequences with exactly this name, oldest first; of many, the first two."""

    @abstractmethod
    def page(
        self, owner: int, *, conversation_id: int | None = None, before: int | None = None, limit: int = PAGE_ROWS
    ) -> list[StoredSequence]:
        """The owner's sequences, or those of one conversation, with ids below ``before``, newest first."""

    @abstractmethod
    def attach(self, sequence_id: int, conversation_id: int, *, owner: int) -> None:
        """Let it belong to this conversation as well; raise SequenceNotFound or ConversationNotFound."""

    @abstractmethod
    def mention(self, message: Message, sequence_id: int, span: tuple[int, int] | None, *, owner: int) -> None:
        """Note that the message has this sequence, in this span or attached; it belongs to its conversation then.

        Raises SequenceNotFound or ConversationNotFound.
        """

    @abstractmethod
    def mentions(self, conversation_id: int, *, owner: int) -> list[SequenceMention]:
        """All mentions in the conversation's messages, in the order in which they were noted."""

    @abstractmethod
    def rename(self, sequence_id: int, name: str, *, owner: int) -> None:
        """Replace the name.

        Raises SequenceNotFound, or InvalidInput naming ``name`` if the same sequence exists under that name.
        """

    @abstractmethod
    def delete(self, sequence_id: int, *, owner: int) -> None:
        """Delete it, or raise SequenceNotFound."""

    @abstractmethod
    def stored(self, owner: int) -> tuple[int, int]:
        """How many sequences the owner has, and their ``stored_bytes`` together."""


class Idempotency(Protocol):
    """The results of requests with an idempotency key. Each user has separate keys."""

    @abstractmethod
    def find(self, owner: int, key: str, fingerprint: bytes, since: datetime) -> IdempotencyRecord | None:
        """The result of this request, or None if there is none since ``since``.

        Raises IdempotencyKeyReused if the key belongs to a request with another fingerprint.
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
        """Store the id of the record that the request created. It is deleted together with ``conversation``, if given.

        Of two concurrent transactions, one is run again.
        """

    @abstractmethod
    def forget_oldest(self, owner: int, *, keep: int) -> None:
        """Delete all results of the owner except the newest ``keep``, and those of the same time."""

    @abstractmethod
    def page(self, owner: int, *, after: str, limit: int) -> list[tuple[str, IdempotencyRecord]]:
        """The owner's next keys and their results, after this key in the database's order of texts."""

    @abstractmethod
    def forget(self, before: datetime, now: datetime) -> None:
        """Records from the future, which a wrong clock has made, count as made now.

        Delete older results.
        """


class ApiKeys(Protocol):
    """Stored API keys. Nicknames are unique for each owner."""

    @abstractmethod
    def add(self, owner: int, provider_id: int, nickname: str, now: datetime) -> ApiKey:
        """Store a key, still without its ciphertext, which depends on the id.

        Raises AccountNotFound, or InvalidInput naming ``nickname`` if it is taken.
        """

    @abstractmethod
    def save_sealed(self, key_id: int, sealed: bytes, *, owner: int) -> None:
        """Store the ciphertext, or raise ApiKeyNotFound."""

    @abstractmethod
    def get(self, nickname: str, *, owner: int) -> ApiKey:
        """The key, or raise ApiKeyNotFound."""

    @abstractmethod
    def with_provider(self, nickname: str, model: str, *, owner: int) -> tuple[ApiKey, Provider]:
        """The key and its provider, or raise ApiKeyNotFound.

        If the provider offers a model with exactly this identifier, the provider has only this one; otherwise it has
        all of its models. Some providers have hundreds.
        """

    @abstractmethod
    def of(self, owner: int) -> list[ApiKey]:
        """All keys of the owner, oldest first."""

    @abstractmethod
    def rename(self, nickname: str, new: str, *, owner: int) -> None:
        """Give the key a new nickname; raise ApiKeyNotFound, or InvalidInput naming ``new_nickname`` if it is taken."""

    @abstractmethod
    def delete(self, nickname: str, *, owner: int) -> list[int]:
        """Delete the key and request a stop of the running answers that use it; return their ids.

        Raises ApiKeyNotFound.
        """

    @abstractmethod
    def after(self, key_id: int, limit: int) -> list[ApiKey]:
        """The next keys of all users, in the order of ids, for key rotation."""


class Catalogue(Protocol):
    """Providers and their models. Ids count from 1 in the order of adding, and are never changed or deleted."""

    @abstractmethod
    def providers(self, *, retired: bool = False) -> list[Provider]:
        """All providers with their models, both in the order of ids; retired models only on request."""

    @abstractmethod
    def get(self, provider_id: int) -> Provider:
        """One provider with all of its models. An unknown id is a bug of the caller, and raises LookupError."""

    @abstractmethod
    def add_provider(self, name: str) -> Provider:
        """Add a provider without models."""

    @abstractmethod
    def add_model(self, provider_id: int, spec: ModelSpec) -> Model:
        """Add a model to a provider."""

    @abstractmethod
    def save_model(self, model: Model) -> None:
        """Replace everything except the ids of a model."""


class Transaction(Protocol):
    """A unit of work: all of its changes are stored, or none."""

    users: Users
    sessions: Sessions
    api_tokens: ApiTokens
    second_factors: SecondFactors
    failed_attempts: FailedAttempts
    known_networks: KnownNetworks
    invitations: Invitations
    identities: Identities
    sign_ins: SignIns
    audit: Audit
    conversations: Conversations
    filings: Filings
    retentions: Retentions
    imports: Imports
    messages: Messages
    settings: Settings
    presets: Presets
    answers: Answers
    ledger: Ledger
    api_keys: ApiKeys
    catalogue: Catalogue
    idempotency: Idempotency
    tool_calls: ToolCalls
    sequences: Sequences


class Database(Protocol):
    """Runs units of work. ``work`` may run twice, so it must change nothing but the transaction it is given."""

    @abstractmethod
    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` on one consistent snapshot. Raises Unavailable if the database can't be reached."""

    @abstractmethod
    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` and commit; if it raises, roll back and raise the same. Raises Unavailable as ``read`` does."""

    @abstractmethod
    async def delete_all_data(self) -> int:
        """Delete every row except those of the catalogue; return how many. Ids are not used again.

        Raises Unavailable as ``read`` does.
        """

    @abstractmethod
    async def check(self) -> None:
        """Raise Unavailable, with the reason, unless the database is reachable and has the schema this code needs."""

    @abstractmethod
    async def check_writable(self) -> None:
        """Raise Unavailable, with the reason, unless the database can be written. Call it after ``check``."""

    @abstractmethod
    def close(self) -> None:
        """Close every connection."""
