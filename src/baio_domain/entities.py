"""The entities and their rules, which hold wherever they are stored.

Entities are frozen; their fields stand in the order of their table's columns, so that an adapter can build one from a
row by position. A rule that a caller can break is a function that returns every ``FieldError`` it finds.
"""

import difflib
import json
import re
import secrets
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import StrEnum

from baio_domain.errors import FieldError, Forbidden, InvalidInput
from baio_domain.parameters import Accepted, Parameters, Rules, rules_over, taken
from baio_domain.text import composed, folded, has_control_characters, has_invisible_characters, name_key

MAX_NAME_LENGTH = 150
MAX_EMAIL_LENGTH = 254
MIN_PASSWORD_LENGTH = 8
MAX_PASSWORD_LENGTH = 1024
MAX_TITLE_LENGTH = 255
MAX_NICKNAME_LENGTH = 255
MAX_API_KEY_LENGTH = 4096

MAX_PASSWORD_SIMILARITY = 0.7
"""A password at least this similar (difflib's ratio) to the user's own words is refused; Django's figure."""

_EMAIL = re.compile(r"[^@\s]{1,64}@(?:[^@\s.](?:[^@\s.]*[^@\s.])?\.)+[^@\s.]{2,}")


def refuse(errors: Iterable[FieldError]) -> None:
    """Raise InvalidInput naming all of these errors, if there are any."""
    found = tuple(errors)
    if found:
        raise InvalidInput.of(*found)


# -- Accounts ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Profile:
    """What a user says about themselves; the last four may be empty."""

    first_name: str
    last_name: str
    country: str = ""
    affiliation: str = ""
    position: str = ""
    field_of_study: str = ""


PROFILE_FIELDS = tuple(Profile.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class User:
    """An account. ``password_hash`` is empty for one that only signs in with an institution."""

    id: int
    username: str
    email: str
    first_name: str
    last_name: str
    country: str
    affiliation: str
    position: str
    field_of_study: str
    password_hash: str = field(repr=False)
    created_at: datetime
    disabled_at: datetime | None
    administrator: bool = False


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from, for the audit and for rate limits.

    ``user_agent`` is the client's name for itself. ``operator`` is the administrator who acts, and empty for everybody
    else: the operating-system account of one who works on the server itself, or the username of one who has signed in.
    Only the latter has an ``operator_id``, the account's id.
    """

    address: str = ""
    user_agent: str = ""
    request_id: str = ""
    operator: str = ""
    operator_id: int | None = None


NOWHERE = Origin()
"""The origin of events that no request caused."""


class Scope(StrEnum):
    """What an API token may be used for. Each endpoint needs one of these, or a session."""

    READ = "read"
    ASK = "ask"
    EDIT = "edit"
    TOOLS = "tools"


@dataclass(frozen=True, slots=True)
class UsedToken:
    """The API token of a request: the digest by which it is found, and the scope that the request needs."""

    digest: bytes = field(repr=False)
    scope: Scope


@dataclass(frozen=True, slots=True)
class Caller:
    """The user on whose behalf a use case runs, taken from a token and never from a request's body.

    ``session_id`` is the token id of the session that an access token belongs to. ``token`` is the API token, where
    the request was sent with one. A user of this machine has neither.
    """

    user_id: int
    session_id: str | None = None
    origin: Origin = NOWHERE
    token: UsedToken | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """Opened by a sign-in; all its tokens end with it. It counts as used when it is refreshed.

    Its tokens name it by ``token_id``: 128 random bits in hexadecimal. Row ids can be reused after a backup was
    restored; random ids can't, so no token opens somebody else's session.
    """

    id: int
    user_id: int
    created_at: datetime
    last_used_at: datetime
    user_agent: str
    token_id: str = field(repr=False)


def new_token_id() -> str:
    """A new random name for a session."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token with which a script acts for its user, within its scopes, until it expires or is revoked.

    ``expires_at`` is None if it never expires, and ``last_used_at`` if it was never used. ``ending`` is the end of the
    token, by which its owner recognizes it. BAiO finds it by its ``digest``, and never stores the token itself.
    """

    id: int
    user_id: int
    name: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    ending: str
    digest: bytes = field(repr=False)

    def has_expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now


MAX_TOKEN_NAME_LENGTH = 100

_A_CENTURY = timedelta(days=36_500)


def token_problems(name: str, scopes: Sequence[str]) -> Iterator[FieldError]:
    """Why a token can't have this name, which is checked after trimming, or these scopes."""
    yield from _name_problems(name, MAX_TOKEN_NAME_LENGTH)
    if not scopes:
        yield FieldError("scopes", "must not be empty")
    elif not set(scopes) <= set(Scope):
        yield FieldError("scopes", f"must be among {', '.join(Scope)}")


def token_end_problems(expires_at: datetime | None, now: datetime, longest: timedelta | None) -> Iterator[FieldError]:
    """Why a token can't end then.

    ``longest`` is the longest lifetime of a token, None for no limit: it may never expire.
    """
    if expires_at is not None and expires_at <= now:
        yield FieldError("expires_at", "must be in the future")
    elif expires_at is not None and expires_at > now + (longest or _A_CENTURY):
        yield FieldError("expires_at", f"must be within {(longest or _A_CENTURY).days:,} days")


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How long a session lasts without being used (``idle``), and at most (``whole``)."""

    idle: timedelta
    whole: timedelta


PASSWORD_RESET_LIFETIME = timedelta(hours=1)
"""How long a link to set a new password works."""

INVITATION_LIFETIME = timedelta(days=7)
"""How long an invitation to register works."""


@dataclass(frozen=True, slots=True)
class SecondFactor:
    """An account's authenticator app. ``sealed`` is the ciphertext of its seed.

    It is not ``enabled`` until its first code was confirmed. ``last_counter`` is the time step of the last accepted
    code; only a later one is accepted.
    """

    user_id: int
    sealed: bytes = field(repr=False)
    enabled_at: datetime | None
    last_counter: int

    @property
    def enabled(self) -> bool:
        """Whether a sign-in needs a code."""
        return self.enabled_at is not None


class Act(StrEnum):
    """The kinds of action that the audit log records."""

    INVITED = "invited"
    REGISTERED = "registered"
    SIGNED_IN = "signed-in"
    SIGN_IN_FAILED = "sign-in-failed"
    SIGNED_OUT = "signed-out"
    SIGNED_OUT_EVERYWHERE = "signed-out-everywhere"
    SIGNED_OUT_BY_INSTITUTION = "signed-out-by-institution"
    PROOF_FAILED = "proof-failed"
    RECOVERY_CODE_USED = "recovery-code-used"
    PROFILE_CHANGED = "profile-changed"
    CREDENTIALS_CHANGED = "credentials-changed"
    IDENTITY_LINKED = "identity-linked"
    IDENTITY_UNLINKED = "identity-unlinked"
    TWO_FACTOR_ENABLED = "two-factor-enabled"
    TWO_FACTOR_DISABLED = "two-factor-disabled"
    PASSWORD_LINK_MADE = "password-link-made"  # noqa: S105 - not a password
    PASSWORD_RESET = "password-reset"  # noqa: S105 - as above
    TOKEN_CREATED = "token-created"  # noqa: S105 - as above
    TOKEN_REVOKED = "token-revoked"  # noqa: S105 - as above
    API_KEY_ADDED = "api-key-added"
    API_KEY_RENAMED = "api-key-renamed"
    API_KEY_DELETED = "api-key-deleted"
    DATA_EXPORTED = "data-exported"
    DATA_IMPORTED = "data-imported"
    ACCOUNT_DISABLED = "account-disabled"
    ACCOUNT_ENABLED = "account-enabled"
    ACCOUNT_DELETED = "account-deleted"
    ADMINISTRATOR_GRANTED = "administrator-granted"
    ADMINISTRATOR_REVOKED = "administrator-revoked"
    KEYS_ROTATED = "keys-rotated"
    FLUSHED = "flushed"
    CONVERSATIONS_EXPIRED = "conversations-expired"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action: the account, the act, the time and the origin. ``note`` has details, and never a secret.

    ``user_id`` and ``username`` are None where there is no such account (any more). ``operator`` is the administrator
    who acted, and empty where it was the user; see ``Origin``. The address is that of the person who acted.
    """

    id: int
    at: datetime
    act: Act
    user_id: int | None
    operator: str
    address: str
    request_id: str
    note: str
    operator_id: int | None = None
    username: str | None = None


DELETED_OPERATOR = "(deleted)"
"""The ``operator`` of entries about what an administrator did whose account has been deleted since."""


MAX_USER_AGENT_LENGTH = 300
"""Characters of a client's user agent that are kept."""


def account_problems(fields: Mapping[str, str], common_passwords: Container[str]) -> Iterator[FieldError]:
    """Everything that is wrong with the fields of a registration or a profile.

    ``fields`` may hold any of username, email, password and the profile's fields; absent ones are not checked. A
    password is refused when it is shorter than 8 or longer than 1,024 code points, all digits, too similar to the
    user's own words, or among ``common_passwords`` (folded); it is never trimmed. The length of a text is checked
    before anything else about it, and a text that is too long is not compared with the password.
    """
    trimmed = {name: text.strip() for name, text in fields.items() if name != "password"}
    for name in ("first_name", "last_name", "username", "email"):
        if name in trimmed and not name_key(trimmed[name]):
            yield FieldError(name, "must not be blank")
    for name, text in trimmed.items():
        if len(text) > _max_length(name):
            yield FieldError(name, f"must have at most {_max_length(name)} characters")
        elif has_control_characters(text):
            yield FieldError(name, "must not contain line breaks or control characters")
        elif name == "email" and text and (has_invisible_characters(text) or not _EMAIL.fullmatch(text)):
            yield FieldError(name, "is not an email address")
    if "password" in fields:
        stated = [(name, trimmed.get(name, "")) for name in ("username", "email", "first_name", "last_name")]
        own_words = [text for name, text in stated if len(text) <= _max_length(name)]
        yield from password_problems(fields["password"], own_words, common_passwords)


def _max_length(name: str) -> int:
    return MAX_EMAIL_LENGTH if name == "email" else MAX_NAME_LENGTH


def new_password_problems(user: User, password: str, common_passwords: Container[str]) -> Iterator[FieldError]:
    """Why this account can't have this password."""
    fields = {name: str(getattr(user, name)) for name in ("username", "email", "first_name", "last_name")}
    problems = account_problems({**fields, "password": password}, common_passwords)
    yield from (problem for problem in problems if problem.field == "password")


def refuse_fixed(changes: Container[str]) -> None:
    """Raise Forbidden when the changes to a profile include a field that a second factor protects."""
    fixed = [name for name in ("username", "email", "password") if name in changes]
    if fixed:
        raise Forbidden(
            "username, email and password can't be changed here: they need a second factor.",
            errors=tuple(FieldError(name, "can't be changed here") for name in fixed),
        )


def password_problems(
    password: str, own_words: Iterable[str], common_passwords: Container[str]
) -> Iterator[FieldError]:
    """Why this password is refused for a user whose ``own_words`` are username, email and names, of valid length.

    Source of the rules: NIST SP 800-63B 5.1.1.2 and OWASP ASVS 5.0 6.2 (length, common passwords, context words).
    Similarity is measured as in Django's UserAttributeSimilarityValidator.
    """
    if len(password) < MIN_PASSWORD_LENGTH:
        yield FieldError("password", f"must have at least {MIN_PASSWORD_LENGTH} characters")
    elif len(password) > MAX_PASSWORD_LENGTH:
        yield FieldError("password", f"must have at most {MAX_PASSWORD_LENGTH} characters")
    elif password.isdigit():
        yield FieldError("password", "must not consist of digits only")
    elif (compared := folded(password)) in common_passwords:
        yield FieldError("password", "is one of the most common passwords")
    elif any(_similar(compared, word) for own in own_words for word in _words(folded(own))):
        yield FieldError("password", "is too close to your username, name or email")


def _words(text: str) -> Iterator[str]:
    yield text
    yield from re.split(r"\W+", text)


def _similar(password: str, word: str) -> bool:
    # A word much shorter than the password can't reach the ratio; skipping it keeps a long password cheap.
    if len(word) < 3 or len(word) * 10 < len(password):
        return False
    matcher = difflib.SequenceMatcher(a=password, b=word, autojunk=False)
    return matcher.real_quick_ratio() >= MAX_PASSWORD_SIMILARITY and matcher.quick_ratio() >= MAX_PASSWORD_SIMILARITY


# -- Conversations -----------------------------------------------------------------------------------------------------


class Role(StrEnum):
    """The author of a message."""

    SYSTEM = "system"
    USER = "user"
    BAIO = "baio"


@dataclass(frozen=True, slots=True)
class Conversation:
    """A list of messages that belongs to one user.

    ``stored_bytes`` counts all text that is kept for it, as UTF-8, and ``RECORD_BYTES`` for each message and answer.
    A running answer counts when it ends.
    """

    id: int
    user_id: int
    title: str
    created_at: datetime
    stored_bytes: int = 0


MAX_TAGS = 20
"""Tags of one conversation."""

MAX_TAG_LENGTH = 50


@dataclass(frozen=True, slots=True)
class Filing:
    """How the owner organizes a conversation. ``updated_at`` is the time of its last message or end of an answer.

    ``tags`` are sorted by their code points.
    """

    updated_at: datetime
    pinned: bool = False
    archived: bool = False
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FiledConversation:
    """A conversation, and how its owner organizes it.

    ``said`` is the beginning of the newest message that has the words of a query, at least as much of it as the search
    covers. It is None without a query, and if only the title has the words.
    """

    conversation: Conversation
    filing: Filing
    said: str | None = field(default=None, compare=False)


def tidy_tags(tags: Iterable[str]) -> list[str]:
    """The tags as they are stored: each once, sorted, composed (NFC), without spaces around it."""
    return sorted({composed(tag.strip()) for tag in tags})


def tag_problems(tags: Sequence[str], field: str = "tags") -> Iterator[FieldError]:
    """Why a conversation can't have these tags, which are tidy."""
    if len(tags) > MAX_TAGS:
        yield FieldError(field, f"must be at most {MAX_TAGS}")
    if not all(tags):
        yield FieldError(field, "must not be blank")
    if any(len(tag) > MAX_TAG_LENGTH for tag in tags):
        yield FieldError(field, f"must have at most {MAX_TAG_LENGTH} characters each")
    if any(has_control_characters(tag) for tag in tags):
        yield FieldError(field, "must not contain line breaks or control characters")


TEMPORARY = timedelta(days=1)
"""How long a temporary conversation is kept after its last activity."""


@dataclass(frozen=True, slots=True)
class Retention:
    """The facts that decide how long a conversation is kept.

    ``updated_at`` is the time of its last activity: of its beginning, its last message, the end of its last answer, or
    the last time that a question was asked again. ``imported_at`` is None unless it was imported.
    """

    updated_at: datetime
    kept: bool = False
    temporary: bool = False
    imported_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How long conversations are kept after their last activity; ``period`` is None for forever.

    ``keeping_allowed`` says whether users may exempt conversations. Where they may not, none is exempt.
    """

    period: timedelta | None = None
    keeping_allowed: bool = True

    def goes_at(self, retention: Retention) -> datetime | None:
        """When the conversation is deleted if nothing happens in it, or None for never.

        An imported one is as active as on the day of its import.
        """
        if retention.kept and self.keeping_allowed:
            return None
        periods = [each for each in (self.period, TEMPORARY if retention.temporary else None) if each is not None]
        if not periods:
            return None
        return max(retention.updated_at, retention.imported_at or retention.updated_at) + min(periods)


RECORD_BYTES = 256
"""Bytes that each message and each answer counts for, in addition to its text, because its record is stored too."""


def stored_size(text: str) -> int:
    """What a message counts for."""
    return len(text.encode()) + RECORD_BYTES


@dataclass(frozen=True, slots=True)
class Message:
    """One message. Ids give the order; times only inform."""

    id: int
    conversation_id: int
    role: Role
    content: str
    created_at: datetime


def title_problems(title: str) -> Iterator[FieldError]:
    """Why a conversation can't have this title; an empty title is valid."""
    if len(title) > MAX_TITLE_LENGTH:
        yield FieldError("title", f"must have at most {MAX_TITLE_LENGTH} characters")


def content_problems(content: str) -> Iterator[FieldError]:
    """Why this is not a valid question. The model decides how long is too long."""
    if not content.strip():
        yield FieldError("content", "must not be blank")


MAX_SYSTEM_LENGTH = 32_000

MAX_PRESET_NAME_LENGTH = 100


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """The settings of a conversation that differ from the usual ones; None for those that don't.

    ``system`` replaces the system message for the model; a blank one stands for none. ``tools`` are the names of the
    tools that the model is offered.
    """

    system: str | None = None
    model: str | None = None
    apikey_nickname: str | None = None
    parameters: Parameters = field(default_factory=dict, hash=False)
    tools: tuple[str, ...] | None = None

    @property
    def stored_bytes(self) -> int:
        """What it counts for, in bytes."""
        return len((self.system or "").encode())


UNCHANGED = ChatSettings()
"""The settings of a conversation for which nothing was set."""


@dataclass(frozen=True, slots=True)
class UsedSettings:
    """The settings of an answer. ``system`` and ``tools`` are None if they were as usual.

    ``left_out`` are the parameters that were set, but that the model or its provider does not accept.
    """

    system: str | None = None
    parameters: Parameters = field(default_factory=dict, hash=False)
    tools: tuple[str, ...] | None = None
    left_out: tuple[str, ...] = ()

    @property
    def text(self) -> str | None:
        """The settings as JSON in ASCII, except ``left_out``; None if everything is as usual."""
        if self.system is None and not self.parameters and self.tools is None:
            return None
        chosen = {"system": self.system, "parameters": dict(self.parameters), "tools": self.tools}
        return json.dumps(chosen)

    @classmethod
    def of(cls, text: str | None, left_out: Iterable[str]) -> "UsedSettings":
        """The settings with this ``text``."""
        chosen = json.loads(text) if text else {"system": None, "parameters": {}, "tools": None}
        tools = chosen["tools"]
        return cls(chosen["system"], chosen["parameters"], None if tools is None else tuple(tools), tuple(left_out))


USUAL = UsedSettings()
"""With what an answer is made where nothing is set."""


@dataclass(frozen=True, slots=True)
class Preset:
    """Settings under a name, for new conversations."""

    id: int
    user_id: int
    name: str
    created_at: datetime
    settings: ChatSettings


def system_problems(system: str | None) -> Iterator[FieldError]:
    """Why this can't be what a model is told first."""
    if system is not None and len(system) > MAX_SYSTEM_LENGTH:
        yield FieldError("system", f"must have at most {MAX_SYSTEM_LENGTH:,} characters")


def preset_name_problems(name: str) -> Iterator[FieldError]:
    """Why a preset can't have this name, which is checked after trimming."""
    yield from _name_problems(name, MAX_PRESET_NAME_LENGTH)


def _name_problems(name: str, longest: int) -> Iterator[FieldError]:
    if not name_key(name.strip()):
        yield FieldError("name", "must not be blank")
    elif len(name.strip()) > longest:
        yield FieldError("name", f"must have at most {longest} characters")
    elif has_control_characters(name.strip()):
        yield FieldError("name", "must not contain line breaks or control characters")


# -- Answers -----------------------------------------------------------------------------------------------------------


class AnswerState(StrEnum):
    """The state of an answer: running, then exactly one of the others for good."""

    RUNNING = "running"
    COMPLETE = "complete"
    TRUNCATED = "truncated"
    STOPPED = "stopped"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Usage:
    """The cost of an answer in tokens, as the provider counted them.

    ``thinking_tokens`` are among the completion tokens, ``cached_tokens`` among the prompt tokens: the provider has
    read them from its cache. None if the provider does not count them.
    """

    prompt_tokens: int
    completion_tokens: int
    thinking_tokens: int | None = None
    cached_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The record of one answer: which model was asked, and how the answer ended; None where that is not known.

    ``reason`` is a short machine-readable cause where the answer did not end well, mostly an error's slug. ``left_out``
    is the number of messages that the model was not sent because they did not fit its context window.

    An answer in no conversation has 0 for ``conversation_id`` and ``question_id``, which are nobody's. Once it has
    ended, only its cost is stored.
    """

    id: int
    conversation_id: int
    question_id: int
    state: AnswerState
    requested_model: str
    started_at: datetime
    finish_reason: str | None = None
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reason: str | None = None
    ended_at: datetime | None = None
    left_out: int = 0
    thinking_seconds: float | None = None
    thinking_tokens: int | None = None

    @property
    def stored(self) -> bool:
        """Whether its text becomes a message."""
        return self.conversation_id > 0

    @property
    def cut(self) -> bool:
        """Whether the text was cut off by a failure."""
        return self.state in (AnswerState.FAILED, AnswerState.INTERRUPTED)


@dataclass(frozen=True, slots=True)
class AnswerWithSettings(Answer):
    """The record of an answer, and with what it was made."""

    settings: UsedSettings = USUAL

    @classmethod
    def of(cls, answer: Answer, settings: UsedSettings) -> "AnswerWithSettings":
        """The record with these settings."""
        known = {name: getattr(answer, name) for name in Answer.__dataclass_fields__}
        return cls(**known, settings=settings)


@dataclass(frozen=True, slots=True)
class AnsweredMessage:
    """A message as a client shows it: one of BAiO's with its answer's record, ``answer_id`` being None otherwise.

    An answer that runs, or has ended without text, is stored as no message, and is one here: with its text so far, from
    the time when it began. Its ``id`` is None.
    """

    role: Role
    content: str
    created_at: datetime
    answer_id: int | None = None
    state: AnswerState | None = None
    reason: str | None = None
    id: int | None = None

    @classmethod
    def of(cls, message: Message, answer: Answer | None = None) -> "AnsweredMessage":
        """A stored message; ``answer`` is the one whose text it is."""
        if answer is None:
            return cls(message.role, message.content, message.created_at, id=message.id)
        return cls(
            message.role, message.content, message.created_at, answer.id, answer.state, answer.reason, message.id
        )

    @classmethod
    def unsaid(cls, answer: Answer, text: str) -> "AnsweredMessage":
        """An answer that is stored as no message, with its text so far."""
        return cls(Role.BAIO, text, answer.started_at, answer.id, answer.state, answer.reason)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an answer ended. The fields are those of ``Answer``; None keeps what was known before."""

    state: AnswerState
    finish_reason: str | None = None
    model: str | None = None
    usage: Usage | None = None
    reason: str | None = None
    left_out: int | None = None
    thinking_seconds: float | None = None
    unused_parameters: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class DayOfUsage:
    """The cost in tokens of one user's answers of one day (UTC) by one model.

    ``estimated`` is True where the provider did not count all of them, so the sums include BAiO's estimates.
    ``cached_tokens`` are the prompt tokens that the provider said it has read from its cache.
    """

    date: date
    provider: str
    model: str
    answers: int
    prompt_tokens: int
    completion_tokens: int
    estimated: bool
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class UsedTokens:
    """Tokens that an answer of a model has cost, whose text belongs to no conversation.

    ``estimated`` says that BAiO has estimated them, because the provider did not count.
    """

    owner: int
    day: date
    provider_id: int
    model: str
    usage: Usage
    estimated: bool


# -- Calls of tools ----------------------------------------------------------------------------------------------------


class CallState(StrEnum):
    """The state of a tool's call: running, then exactly one of the others for good.

    ``REFUSED``: the arguments can't be computed with. ``FAILED``: the tool did not finish, or too many calls waited.
    ``CANCELLED``: the answer ended before the call.
    """

    RUNNING = "running"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"


class InputSource(StrEnum):
    """Where the letters of a call's input were found.

    ``REQUEST``: the user gave them with the call itself. ``FILE``: in a file that the user has added. ``MESSAGE``: in a
    message of the user. ``CALL``: in the result of an earlier call. ``MODEL``: nowhere, so the model wrote them.
    """

    REQUEST = "request"
    FILE = "file"
    MESSAGE = "message"
    CALL = "call"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class InputOrigin:
    """Where an input comes from.

    ``id`` is the message's or the call's. ``start`` and ``end`` are the span in the message, in characters from 0, the
    end excluded. They are None for the other sources.
    """

    source: InputSource
    id: int | None = None
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class CallInput:
    """A sequence that a call was given: that of ``tools.ToolInput``, and where it comes from.

    ``sequence_id`` is that of a stored sequence, which the call's arguments named by its handle.
    """

    argument: str
    name: str | None
    length: int
    sha256: str
    cleaned: tuple[str, ...]
    origin: InputOrigin
    sequence_id: int | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The record of one call of a tool, so that a value can be cited and computed again.

    ``conversation_id`` is None for a call in no conversation, ``answer_id`` for one that no answer made.
    Ids give the order of an answer's calls; ``round`` counts from 1 how often its model was asked.

    ``raw_arguments`` is the text that was sent, ``arguments`` the complete arguments and ``result`` the result, both as
    canonical JSON; ``shown`` is what a model gets to read. ``error`` is the slug of a call that is not done, ``line``
    the headline of one that is. The call stands at ``offset`` of its answer's text, where BAiO wrote ``length``
    characters about it, both counted in characters. ``quoted`` says whether the model's own text repeats the value.
    """

    id: int
    user_id: int
    conversation_id: int | None
    answer_id: int | None
    round: int
    tool: str
    version: str
    library: str
    definition: str
    raw_arguments: str
    offset: int
    started_at: datetime
    state: CallState = CallState.RUNNING
    arguments: str | None = None
    inputs: tuple[CallInput, ...] = ()
    result: str | None = None
    result_sha256: str | None = None
    shown: str | None = None
    error: str | None = None
    line: str = ""
    length: int = 0
    quoted: bool = False
    ended_at: datetime | None = None

    @property
    def stored_bytes(self) -> int:
        """What it counts for."""
        texts = (self.raw_arguments, self.definition, self.arguments, self.result, self.shown, self.line)
        return RECORD_BYTES + sum(len(text.encode()) for text in texts if text)


@dataclass(frozen=True, slots=True)
class EndedCall:
    """How a call ended. The fields are those of ``ToolCall``."""

    state: CallState
    arguments: str | None
    inputs: tuple[CallInput, ...]
    result: str
    result_sha256: str
    shown: str
    error: str | None = None
    line: str = ""
    length: int = 0

    def of(self, call: ToolCall, now: datetime) -> ToolCall:
        """The record of a call that has ended like this."""
        return replace(call, **{name: getattr(self, name) for name in self.__dataclass_fields__}, ended_at=now)


@dataclass(frozen=True, slots=True)
class PastCall:
    """What the prompt of a later question needs of a call. ``message_id`` is that of its answer's text."""

    id: int
    message_id: int
    round: int
    tool: str
    raw_arguments: str
    state: CallState
    shown: str | None
    offset: int
    length: int


# -- Sequences ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredSequence:
    """A stored sequence, without its letters. ``handle`` is what tools and models call it.

    ``molecule`` is ``DNA``, ``RNA`` or ``protein``, ``topology`` ``linear`` or ``circular``. ``length`` counts letters,
    ``features`` how many there are. ``sha256`` is that of the upper-case letters. ``format`` is that of the file it
    comes from, "" for none. ``origin`` is a file, a user's message or a call of a tool.
    """

    id: int
    user_id: int
    name: str
    description: str
    molecule: str
    topology: str
    length: int
    features: int
    sha256: str
    format: str
    origin: InputOrigin
    created_at: datetime

    @property
    def handle(self) -> str:
        """Its name in arguments of tools, such as ``seq_17``."""
        return f"seq_{self.id}"

    @property
    def unit(self) -> str:
        """What its letters are: ``aa`` or ``nt``."""
        return "aa" if self.molecule == "protein" else "nt"


@dataclass(frozen=True, slots=True)
class SequenceContent:
    """What a sequence holds: its upper-case letters in ASCII, and its features as JSON, both compressed by zlib."""

    letters: bytes = field(repr=False)
    features: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class UnstoredSequence:
    """A sequence that may be stored: what a file has, or a tool has made. ``stored_bytes`` is what it counts for."""

    name: str
    description: str
    molecule: str
    topology: str
    length: int
    features: int
    sha256: str
    stored_bytes: int
    content: SequenceContent


# -- Providers and keys ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as its gateway describes it.

    ``identifier`` is what the provider's API calls it, ``name`` what people read. ``context_window`` and
    ``max_output_tokens`` are in tokens. ``system_role`` is False for models that refuse a system message. ``tools`` is
    True for models that can call tools, ``streaming`` False for models that only answer in one piece. ``parameters``
    says where it takes others than its provider's other models.
    """

    identifier: str
    name: str
    context_window: int
    max_output_tokens: int
    system_role: bool = True
    tools: bool = False
    streaming: bool = True
    parameters: Rules = field(default_factory=dict, hash=False)


MAX_MODEL_NAME_LENGTH = 500
MAX_MODEL_TOKENS = 100_000_000
"""The largest context window or longest answer that is plausible."""


def model_spec_problems(spec: ModelSpec) -> Iterator[str]:
    """Why a model can't be offered: its names must be printable, and its numbers of tokens possible."""
    texts: tuple[tuple[str, object], ...] = (("id", spec.identifier), ("name", spec.name))
    for name, text in texts:
        if not isinstance(text, str) or not text.isprintable() or text != text.strip():
            yield f"its {name} is not printable text"
        elif not 0 < len(text) <= MAX_MODEL_NAME_LENGTH:
            yield f"its {name} must have 1 to {MAX_MODEL_NAME_LENGTH} characters"
    for name, count in (("context window", spec.context_window), ("longest answer", spec.max_output_tokens)):
        if type(count) is not int or not 1 <= count <= MAX_MODEL_TOKENS:
            yield f"its {name} must be 1 to {MAX_MODEL_TOKENS} tokens"


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """A provider as its gateway describes it: its permanent name, and its models in the order of display.

    ``open_ended`` is True where only the provider knows its models: ``LLMGateway.list_models`` asks for them.
    ``parameters`` says which parameters of requests it takes.
    """

    name: str
    models: tuple[ModelSpec, ...]
    open_ended: bool = False
    parameters: Rules = field(default_factory=dict, hash=False)

    def with_defaults(self, parameters: Rules) -> "ProviderSpec":
        """The same provider, which takes these parameters, too, unless it says otherwise."""
        return replace(self, parameters=rules_over(self.parameters, parameters))

    def accepted(self, model: str | None = None) -> dict[str, Accepted]:
        """The parameters that the model with this identifier takes, or most of the provider's."""
        special = next((each.parameters for each in self.models if each.identifier == model), {})
        return taken(self.parameters, special)


@dataclass(frozen=True, slots=True)
class Model:
    """A model in the catalogue, with a permanent id. A retired model is kept for the record and can't be asked."""

    id: int
    provider_id: int
    identifier: str
    name: str
    context_window: int
    max_output_tokens: int
    system_role: bool
    tools: bool
    streaming: bool
    retired: bool

    @classmethod
    def of(cls, model_id: int, provider_id: int, spec: ModelSpec) -> "Model":
        """The model that a gateway describes, under these ids."""
        return cls(
            model_id,
            provider_id,
            spec.identifier,
            spec.name,
            spec.context_window,
            spec.max_output_tokens,
            spec.system_role,
            spec.tools,
            spec.streaming,
            retired=False,
        )


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider in the catalogue, with its models."""

    id: int
    name: str
    models: tuple[Model, ...]

    def model(self, wanted: str) -> Model:
        """The model with this identifier or display name in any case. Raises InvalidInput naming ``model``."""
        key = folded(wanted.strip())
        meant = [model for model in self.models if key in (folded(model.identifier), folded(model.name))]
        for model in meant:
            if not model.retired:
                return model
        accepted = ", ".join(model.identifier for model in self.models if not model.retired) or "none at the moment"
        why = f"{meant[0].name} is no longer offered" if meant else f"{self.name} has no such model"
        raise InvalidInput.of(FieldError("model", f"{why}; accepted: {accepted}"))


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored key. ``sealed`` is its ciphertext; the key itself is never part of an entity."""

    id: int
    user_id: int
    provider_id: int
    nickname: str
    sealed: bytes = field(repr=False)
    created_at: datetime


def key_problems(key: str, nickname: str) -> Iterator[FieldError]:
    """Why this key or this nickname can't be stored; both are checked after trimming.

    A key must be printable ASCII without spaces: providers accept nothing else.
    """
    nickname, key = nickname.strip(), key.strip()
    if not nickname:
        yield FieldError("nickname", "must not be blank")
    elif len(nickname) > MAX_NICKNAME_LENGTH:
        yield FieldError("nickname", f"must have at most {MAX_NICKNAME_LENGTH} characters")
    if not key:
        yield FieldError("key", "must not be blank")
    elif len(key) > MAX_API_KEY_LENGTH:
        yield FieldError("key", f"must have at most {MAX_API_KEY_LENGTH} characters")
    elif not all("!" <= character <= "~" for character in key):
        yield FieldError("key", "must be printable ASCII characters without spaces")
