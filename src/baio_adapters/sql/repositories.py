"""The domain's repositories as SQL. Ownership stands in the WHERE clause of every read and every write."""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, final

from sqlalchemy import (
    BindParameter,
    Connection,
    Executable,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    literal,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError

from baio_adapters.sql.tables import (
    answer_parts,
    answers,
    api_keys,
    audit,
    conversations,
    guesses,
    idempotency_keys,
    messages,
    metadata,
    models,
    password_resets,
    providers,
    recovery_codes,
    second_factors,
    sessions,
    users,
)
from baio_domain.entities import (
    PROFILE_FIELDS,
    Act,
    Answer,
    AnswerState,
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
    folded,
)
from baio_domain.errors import (
    AnswerNotFound,
    AnswerRunning,
    ApiKeyNotFound,
    BaioError,
    ConversationNotFound,
    FieldError,
    IdempotencyKeyReused,
    InvalidInput,
    NotAuthenticated,
    SecondFactorOn,
    TooManyAnswers,
)
from baio_domain.ports import (
    Answers,
    ApiKeys,
    Appended,
    Audit,
    Begin,
    Catalogue,
    Conversations,
    Guesses,
    Idempotency,
    Messages,
    Remembered,
    SecondFactors,
    Sessions,
    Standing,
    Transaction,
    Users,
)
from baio_domain.prompts import estimated_tokens

PAGE = 100
"""Messages fetched at once while a prompt is put together from the newest back."""

LEASE_SLACK = timedelta(seconds=5)
"""A lease is written again only when it would gain more than this: not a row per answer and second."""

# -- Constraints -------------------------------------------------------------------------------------------------------

_TAKEN = {
    "uq_users_username_folded": FieldError("username", "is taken already"),
    "uq_users_email_folded": FieldError("email", "is taken already"),
    "uq_api_keys_user_id_nickname": FieldError("nickname", "is taken already by another of your keys"),
}


RACES = frozenset({"uq_answers_running", "uq_answers_slot", "pk_idempotency_keys", "pk_second_factors", "pk_guesses"})
"""Constraints that are broken only when somebody else was first: run again, the unit of work sees what they did."""


def refusal(error: IntegrityError) -> BaioError | None:
    """What a broken constraint means to the caller, or None where it can only be a bug."""
    taken = _TAKEN.get(constraint_name(error))
    return InvalidInput.of(taken) if taken else None


def constraint_name(error: IntegrityError) -> str:
    """The name of the constraint that was broken; SQLite only tells its columns."""
    diagnostics = getattr(error.orig, "diag", None)
    if diagnostics is not None:
        return str(diagnostics.constraint_name)
    return _UNIQUE_BY_COLUMNS.get(str(error.orig).removeprefix("UNIQUE constraint failed: "), "")


def _unique_by_columns() -> Iterator[tuple[str, str]]:
    for table in metadata.tables.values():
        constraints = [each for each in table.constraints if isinstance(each, UniqueConstraint | PrimaryKeyConstraint)]
        indexes = [each for each in table.indexes if each.unique]
        for rule in (*constraints, *indexes):
            yield ", ".join(f"{table.name}.{column.name}" for column in rule.columns), str(rule.name)


_UNIQUE_BY_COLUMNS = dict(_unique_by_columns())

# -- Statements, built once --------------------------------------------------------------------------------------------
# SQLAlchemy caches what it compiles by the statement's shape; building the statement anew costs more than sending it.


def _columns(table: Table, first: str, last: str) -> list[Any]:
    names = list(table.c.keys())
    return [table.c[name] for name in names[names.index(first) : names.index(last) + 1]]


_OWNER: BindParameter[int] = bindparam("owner")
_ID: BindParameter[int] = bindparam("the_id")
_OWNS = exists().where(conversations.c.id == _ID, conversations.c.user_id == _OWNER)

_USER = _columns(users, "id", "disabled_at")
_USER_BY_ID = select(*_USER).where(users.c.id == _ID)
_ENABLED_USER = select(users.c.id).where(users.c.id == _ID, users.c.disabled_at.is_(None))
_USER_BY_NAME = select(*_USER).where(users.c.username_folded == bindparam("folded"))
_USERS_TAKEN = select(users.c.username_folded, users.c.email_folded).where(
    (users.c.username_folded == bindparam("username")) | (users.c.email_folded == bindparam("email"))
)
_ADD_USER = insert(users).returning(users.c.id)
_SAVE_PROFILE = (
    update(users).where(users.c.id == _ID).values({name: bindparam(f"new_{name}") for name in PROFILE_FIELDS})
)
_USERS = select(*_USER).order_by(users.c.id)
_SAVE_DISABLED_AT = update(users).where(users.c.id == _ID).values(disabled_at=bindparam("new"))
_DELETE_USER = delete(users).where(users.c.id == _ID)
_SAVE_PASSWORD_HASH = update(users).where(users.c.id == _ID).values(password_hash=bindparam("new"))

_SAVE_NAMES = (
    update(users)
    .where(users.c.id == _ID)
    .values({name: bindparam(f"new_{name}") for name in ("username", "email", "username_folded", "email_folded")})
)
_OFFER_RESET = insert(password_resets)
_WITHDRAW_RESET = delete(password_resets).where(password_resets.c.user_id == _ID)
_OFFERED_RESET = (
    select(*_USER)
    .join(password_resets)
    .where(password_resets.c.digest == bindparam("digest"), password_resets.c.until > bindparam("now"))
)

_SESSION_STANDS = (sessions.c.id == _ID, sessions.c.user_id == _OWNER)
_REQUIRE_SESSION = select(sessions.c.id).join(users).where(*_SESSION_STANDS, users.c.disabled_at.is_(None))
_OPEN_SESSION = (
    insert(sessions)
    .from_select(
        ["user_id", "created_at", "last_used_at", "user_agent"],
        select(
            users.c.id,
            bindparam("now", type_=sessions.c.created_at.type),
            bindparam("now", type_=sessions.c.created_at.type),
            bindparam("agent", type_=sessions.c.user_agent.type),
        ).where(users.c.id == _OWNER),
    )
    .returning(sessions.c.id)
)
_USE_SESSION = (
    update(sessions)
    .where(
        *_SESSION_STANDS,
        sessions.c.last_used_at >= bindparam("used_since"),
        sessions.c.created_at >= bindparam("opened_since"),
        exists().where(users.c.id == sessions.c.user_id, users.c.disabled_at.is_(None)),
    )
    .values(last_used_at=bindparam("now"))
    .returning(*sessions.c)
)
_SESSIONS = select(sessions).where(sessions.c.user_id == _OWNER).order_by(sessions.c.id.desc())
_END_SESSION = delete(sessions).where(*_SESSION_STANDS)
_END_SESSIONS = delete(sessions).where(sessions.c.user_id == _OWNER, sessions.c.id != bindparam("but"))
_FORGET_SESSIONS = delete(sessions).where(
    (sessions.c.last_used_at < bindparam("used_before")) | (sessions.c.created_at < bindparam("opened_before"))
)

_FACTOR = select(second_factors).where(second_factors.c.user_id == _ID)
_ENROLL = insert(second_factors)
_FORGET_FACTOR = delete(second_factors).where(second_factors.c.user_id == _ID)
_THE_FACTOR = update(second_factors).where(
    second_factors.c.user_id == _ID, second_factors.c.sealed == bindparam("seen")
)
_ENABLE_FACTOR = _THE_FACTOR.where(second_factors.c.enabled_at.is_(None)).values(
    enabled_at=bindparam("now"), last_counter=bindparam("counter")
)
_SPEND = _THE_FACTOR.where(second_factors.c.last_counter < bindparam("counter")).values(
    last_counter=bindparam("counter")
)
_RESEAL_FACTOR = _THE_FACTOR.values(sealed=bindparam("new"))
_FACTORS_AFTER = (
    select(second_factors)
    .where(second_factors.c.user_id > _ID)
    .order_by(second_factors.c.user_id)
    .limit(bindparam("most"))
)
_ADD_RECOVERY_CODES = insert(recovery_codes)
_SPEND_RECOVERY = delete(recovery_codes).where(
    recovery_codes.c.user_id == _ID, recovery_codes.c.digest == bindparam("digest")
)
_RECOVERY_LEFT = select(func.count()).where(recovery_codes.c.user_id == _ID)
_FORGET_RECOVERY_CODES = delete(recovery_codes).where(recovery_codes.c.user_id == _ID)

_UNTIL = select(guesses.c.key, guesses.c.until).where(guesses.c.key.in_(bindparam("keys", expanding=True)))
_ADD_GUESS = insert(guesses)
_SAVE_GUESS = update(guesses).where(guesses.c.key == bindparam("name")).values(until=bindparam("new"))
_FORGET_GUESSES = delete(guesses).where(guesses.c.key.in_(bindparam("keys", expanding=True)))
_FORGET_OLD_GUESSES = delete(guesses).where(guesses.c.until < bindparam("before"))

_ADD_ENTRY = insert(audit)
_ENTRIES = select(audit, users.c.username).select_from(audit.outerjoin(users)).order_by(audit.c.id)
_ENTRIES_OF = _ENTRIES.where(audit.c.user_id == _ID)
_ENTRIES_AFTER = _ENTRIES.where(audit.c.id > _ID).limit(bindparam("most"))
_FORGET_ENTRIES = delete(audit).where(audit.c.at < bindparam("before"))
_ANONYMISE = update(audit).where(audit.c.user_id == _OWNER).values(user_id=None, address="")

_ADD_CONVERSATION = (
    insert(conversations)
    .from_select(
        ["user_id", "title", "created_at"],
        select(
            users.c.id,
            bindparam("title", type_=conversations.c.title.type),
            bindparam("now", type_=conversations.c.created_at.type),
        ).where(users.c.id == _OWNER),
    )
    .returning(conversations.c.id)
)
_CONVERSATION = select(conversations).where(conversations.c.id == _ID, conversations.c.user_id == _OWNER)
_CONVERSATIONS = (
    select(conversations)
    .where(conversations.c.user_id == _OWNER)
    .order_by(conversations.c.created_at.desc(), conversations.c.id.desc())
)
_RENAME = (
    update(conversations)
    .where(conversations.c.id == _ID, conversations.c.user_id == _OWNER)
    .values(title=bindparam("new"))
)
_DELETE_CONVERSATION = delete(conversations).where(conversations.c.id == _ID, conversations.c.user_id == _OWNER)

_ADD_MESSAGE = (
    insert(messages)
    .from_select(
        ["conversation_id", "role", "content", "created_at"],
        select(
            conversations.c.id,
            bindparam("role", type_=messages.c.role.type),
            bindparam("content", type_=messages.c.content.type),
            bindparam("now", type_=messages.c.created_at.type),
        ).where(conversations.c.id == _ID, conversations.c.user_id == _OWNER),
    )
    .returning(messages.c.id)
)
_MESSAGES = select(messages).where(messages.c.conversation_id == _ID, _OWNS).order_by(messages.c.id)
_SYSTEM_MESSAGE = _MESSAGES.where(messages.c.role == Role.SYSTEM.value).limit(1)
_COUNT_MESSAGES = select(func.count()).where(
    messages.c.conversation_id == _ID, messages.c.id <= bindparam("last"), messages.c.role != Role.SYSTEM.value, _OWNS
)
_MESSAGES_BEFORE = (
    select(messages)
    .where(messages.c.conversation_id == _ID, messages.c.id < bindparam("before"), _OWNS)
    .order_by(messages.c.id.desc())
    .limit(PAGE)
)

# Written out, not as a parameter: a partial index serves only a condition that is known when the query is planned.
_RUNNING = answers.c.state == literal_column(f"'{AnswerState.RUNNING.value}'")
_OWNED = answers.c.user_id == _OWNER
_STOP_ALL_OF_OWNER = update(answers).where(_OWNED, _RUNNING).values(stopping=True)
_RUNNING_OF_OWNER = select(answers.c.id, answers.c.conversation_id, answers.c.slot).where(_OWNED, _RUNNING)
_BEGIN = insert(answers).returning(answers.c.id)

# A checkpoint is about hundreds of answers at once: each list goes to the database as one parameter, not as hundreds.
_LISTED = {
    "sqlite": "answers.id IN (SELECT value FROM json_each(:ids))",
    "postgresql": "answers.id = ANY (ARRAY(SELECT CAST(value AS BIGINT)"
    " FROM json_array_elements_text(CAST(:ids AS JSON))))",
}
_PIECES = {
    "sqlite": "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')"
    " FROM json_each(:pieces) WHERE true",
    "postgresql": "SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS INTEGER), value ->> 2"
    " FROM json_array_elements(CAST(:pieces AS JSON))",
}


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """The statements of a checkpoint in one database's SQL."""

    still_running: Executable
    prolong: Executable
    touch: Executable
    append: Executable

    @classmethod
    def of(cls, dialect: str) -> "_Checkpoint":
        listed = text(_LISTED[dialect])
        return cls(
            still_running=select(answers.c.id, answers.c.stopping).where(listed, _RUNNING),
            prolong=update(answers)
            .where(listed, _RUNNING, answers.c.lease_until < bindparam("older"))
            .values(lease_until=bindparam("lease")),
            # Changes nothing, but is in the way of an end at the same time: one of the two then runs again and sees
            # the other.
            touch=update(answers).where(listed, _RUNNING).values(stopping=answers.c.stopping),
            # A checkpoint of which nobody knows whether it was stored is stored again, and may have grown.
            append=text(
                f'INSERT INTO answer_parts (answer_id, "offset", text) {_PIECES[dialect]}'
                ' ON CONFLICT (answer_id, "offset") DO UPDATE SET text = excluded.text'
            ),
        )


_CHECKPOINT = {dialect: _Checkpoint.of(dialect) for dialect in _LISTED}
_OLD = answers.alias()
_KEEP_EARLIER_ANSWER = insert(answer_parts).from_select(
    ["answer_id", "offset", "text"],
    select(_OLD.c.id, literal(0), messages.c.content)
    .join(messages, messages.c.id == _OLD.c.message_id)
    .join(answers, answers.c.question_id == _OLD.c.question_id)
    .where(answers.c.id == _ID, _RUNNING),
)
_FORGET_EARLIER_ANSWER = delete(messages).where(
    messages.c.id.in_(
        select(_OLD.c.message_id)
        .join(answers, answers.c.question_id == _OLD.c.question_id)
        .where(answers.c.id == _ID, _RUNNING, _OLD.c.message_id.is_not(None))
    )
)
_ADD_ANSWER_MESSAGE = (
    insert(messages)
    .from_select(
        ["conversation_id", "role", "content", "created_at"],
        select(
            answers.c.conversation_id,
            literal(Role.BAIO.value),
            bindparam("content", type_=messages.c.content.type),
            bindparam("now", type_=messages.c.created_at.type),
        ).where(answers.c.id == _ID, _RUNNING),
    )
    .returning(messages.c.id)
)
_END = (
    update(answers)
    .where(answers.c.id == _ID, _RUNNING)
    .values(
        {
            name: bindparam(f"new_{name}")
            for name in (
                "state", "finish_reason", "model", "prompt_tokens", "completion_tokens", "reason", "ended_at",
                "message_id", "completion_estimate",
            )
        }
        | {"left_out": func.coalesce(bindparam("new_left_out"), answers.c.left_out)}
    )
)  # fmt: skip
_FORGET_PARTS = delete(answer_parts).where(answer_parts.c.answer_id == _ID)
_PARTS = select(answer_parts.c.text).where(answer_parts.c.answer_id == _ID).order_by(answer_parts.c.offset)
_EXPIRED = select(answers.c.id).where(_RUNNING, answers.c.lease_until < bindparam("now"))
_ANSWER = _columns(answers, "id", "left_out")
_ANSWERS = select(*_ANSWER).where(answers.c.conversation_id == _ID, _OWNED).order_by(answers.c.id)
_NEWEST_ANSWER = select(*_ANSWER).where(answers.c.conversation_id == _ID, _OWNED).order_by(answers.c.id.desc()).limit(1)
_ANSWER_BY_ID = select(*_ANSWER).where(answers.c.id == _ID, _OWNED)
_ASK_TO_STOP = (
    update(answers)
    .where(answers.c.conversation_id == _ID, _OWNED, _RUNNING)
    .values(stopping=True)
    .returning(answers.c.id)
)
_ANSWERED = answers.join(messages, messages.c.id == answers.c.message_id)
_TEXT = (
    select(func.substr(messages.c.content, bindparam("start", type_=answer_parts.c.offset.type)))
    .select_from(_ANSWERED)
    .where(answers.c.id == _ID, _OWNED)
)
_LENGTH = select(func.length(messages.c.content)).select_from(_ANSWERED).where(answers.c.id == _ID, _OWNED)
_PART_END = answer_parts.c.offset + func.length(answer_parts.c.text)
_PARTS_FROM = (
    select(answer_parts.c.offset, answer_parts.c.text)
    .join(answers)
    .where(answer_parts.c.answer_id == _ID, _OWNED, bindparam("start") < _PART_END)
    .order_by(answer_parts.c.offset)
)
_PARTS_LENGTH = (
    select(func.max(_PART_END)).select_from(answer_parts.join(answers)).where(answer_parts.c.answer_id == _ID, _OWNED)
)

_STATED = answers.c.prompt_tokens.is_not(None) & answers.c.completion_tokens.is_not(None)
# Both databases write a time, as a text in UTC, with its day in front.
_DAY = func.substr(cast(answers.c.started_at, Text), 1, 10)
_USAGE = (
    select(
        _DAY,
        providers.c.name,
        answers.c.requested_model,
        func.count(),
        func.sum(case((_STATED, answers.c.prompt_tokens), else_=func.coalesce(answers.c.prompt_estimate, 0))),
        func.sum(case((_STATED, answers.c.completion_tokens), else_=answers.c.completion_estimate)),
        func.max(case((_STATED, 0), else_=1)),
    )
    .join(providers, providers.c.id == answers.c.provider_id)
    .where(
        _OWNED,
        answers.c.started_at >= bindparam("first", type_=answers.c.started_at.type),
        answers.c.started_at <= bindparam("last", type_=answers.c.started_at.type),
        _STATED | (answers.c.completion_estimate > 0),
    )
    .group_by(_DAY, providers.c.id, providers.c.name, answers.c.requested_model)
    .order_by(_DAY, providers.c.id, answers.c.requested_model)
)

_REMEMBERED = select(idempotency_keys.c.fingerprint, idempotency_keys.c.led_to, idempotency_keys.c.created_at).where(
    idempotency_keys.c.user_id == _OWNER,
    idempotency_keys.c.key == bindparam("name"),
    idempotency_keys.c.created_at >= bindparam("since"),
)
_FORGET = delete(idempotency_keys).where(
    idempotency_keys.c.user_id == _OWNER, idempotency_keys.c.key == bindparam("name")
)
_FORGET_OLD = delete(idempotency_keys).where(idempotency_keys.c.created_at < bindparam("before"))

_ADD_KEY = (
    insert(api_keys)
    .from_select(
        ["user_id", "provider_id", "nickname", "sealed", "created_at"],
        select(
            users.c.id,
            bindparam("provider", type_=api_keys.c.provider_id.type),
            bindparam("nickname", type_=api_keys.c.nickname.type),
            literal(b"", api_keys.c.sealed.type),
            bindparam("now", type_=api_keys.c.created_at.type),
        ).where(users.c.id == _OWNER),
    )
    .returning(api_keys.c.id)
)
_SEAL = update(api_keys).where(api_keys.c.id == _ID, api_keys.c.user_id == _OWNER).values(sealed=bindparam("new"))
_KEY = select(api_keys).where(api_keys.c.user_id == _OWNER, api_keys.c.nickname == bindparam("name"))
_KEYS = select(api_keys).where(api_keys.c.user_id == _OWNER).order_by(api_keys.c.id)
_RENAME_KEY = (
    update(api_keys)
    .where(api_keys.c.user_id == _OWNER, api_keys.c.nickname == bindparam("name"))
    .values(nickname=bindparam("new"))
)
_DELETE_KEY = (
    delete(api_keys)
    .where(api_keys.c.user_id == _OWNER, api_keys.c.nickname == bindparam("name"))
    .returning(api_keys.c.id)
)
_STOP_USERS_OF_KEY = (
    update(answers)
    .where(
        answers.c.api_key_id.in_(
            select(api_keys.c.id).where(api_keys.c.user_id == _OWNER, api_keys.c.nickname == bindparam("name"))
        ),
        _RUNNING,
    )
    .values(stopping=True)
    .returning(answers.c.id)
)
_KEYS_AFTER = select(api_keys).where(api_keys.c.id > _ID).order_by(api_keys.c.id).limit(bindparam("most"))

_ASKABLE = providers.outerjoin(models, (models.c.provider_id == providers.c.id) & ~models.c.retired)
_EVERY = providers.outerjoin(models)
_CATALOGUE = {
    retired: select(providers, models).select_from(source).order_by(providers.c.id, models.c.id)
    for retired, source in ((False, _ASKABLE), (True, _EVERY))
}
_PROVIDER = _CATALOGUE[True].where(providers.c.id == _ID)


# -- Repositories ------------------------------------------------------------------------------------------------------


@final
class SqlTransaction(Transaction):
    """The repositories over one connection, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self.users = SqlUsers(connection)
        self.sessions = SqlSessions(connection)
        self.second_factors = SqlSecondFactors(connection)
        self.guesses = SqlGuesses(connection)
        self.audit = SqlAudit(connection)
        self.conversations = SqlConversations(connection)
        self.messages = SqlMessages(connection)
        self.answers = SqlAnswers(connection)
        self.api_keys = SqlApiKeys(connection)
        self.catalogue = SqlCatalogue(connection)
        self.idempotency = SqlIdempotency(connection)


class _Repository:
    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection


@final
class SqlUsers(_Repository, Users):
    """Accounts in ``users``."""

    def add(self, username: str, email: str, profile: Profile, password_hash: str, now: datetime) -> User:
        """Insert; a name that is taken breaks a unique constraint."""
        stated = {name: getattr(profile, name) for name in PROFILE_FIELDS}
        user_id = self._connection.execute(
            _ADD_USER,
            {
                "username": username,
                "email": email,
                **stated,
                "password_hash": password_hash,
                "created_at": now,
                "username_folded": folded(username),
                "email_folded": folded(email),
            },
        ).scalar_one()
        return User(
            id=user_id,
            username=username,
            email=email,
            **stated,
            password_hash=password_hash,
            created_at=now,
            disabled_at=None,
        )

    def taken(self, username: str, email: str) -> list[str]:
        """Look both names up at once."""
        names = {"username": folded(username), "email": folded(email)}
        rows = self._connection.execute(_USERS_TAKEN, names).fetchall()
        return [field for index, field in enumerate(names) if any(row[index] == names[field] for row in rows)]

    def get(self, user_id: int) -> User:
        """Read by id."""
        row = self._connection.execute(_USER_BY_ID, {"the_id": user_id}).first()
        if row is None:
            raise NotAuthenticated("The account does not exist any more.")
        return User(*row)

    def require_enabled(self, user_id: int) -> None:
        """Look for an enabled one by id."""
        if self._connection.execute(_ENABLED_USER, {"the_id": user_id}).first() is None:
            raise NotAuthenticated("The account is disabled, or does not exist any more.")

    def by_username(self, username: str) -> User | None:
        """Read by folded name."""
        row = self._connection.execute(_USER_BY_NAME, {"folded": folded(username)}).first()
        return None if row is None else User(*row)

    def save_profile(self, user_id: int, profile: Profile) -> None:
        """Update the six columns."""
        values = {f"new_{name}": getattr(profile, name) for name in PROFILE_FIELDS}
        self._update(_SAVE_PROFILE, {"the_id": user_id, **values})

    def all(self) -> list[User]:
        """Read in the order of ids."""
        return [User(*row) for row in self._connection.execute(_USERS).fetchall()]

    def disable(self, user_id: int, now: datetime) -> None:
        """Update the account and its running answers."""
        self._update(_SAVE_DISABLED_AT, {"the_id": user_id, "new": now})
        self._connection.execute(_STOP_ALL_OF_OWNER, {"owner": user_id})

    def enable(self, user_id: int) -> None:
        """Update the account."""
        self._update(_SAVE_DISABLED_AT, {"the_id": user_id, "new": None})

    def delete(self, user_id: int) -> list[int]:
        """Delete by id, after taking the person out of the audit; foreign keys take the rest along."""
        self._connection.execute(_ANONYMISE, {"owner": user_id})
        running = self._connection.execute(_RUNNING_OF_OWNER, {"owner": user_id}).fetchall()
        self._update(_DELETE_USER, {"the_id": user_id})
        return sorted(row[0] for row in running)

    def save_password_hash(self, user_id: int, password_hash: str) -> None:
        """Update the hash, and delete the offer."""
        self._update(_SAVE_PASSWORD_HASH, {"the_id": user_id, "new": password_hash})
        self._connection.execute(_WITHDRAW_RESET, {"the_id": user_id})

    def save_names(self, user_id: int, username: str, email: str) -> None:
        """Update both; a name that is taken breaks a unique constraint."""
        names = {"username": username, "email": email}
        values = {f"new_{name}": text for name, text in names.items()}
        values |= {f"new_{name}_folded": folded(text) for name, text in names.items()}
        self._update(_SAVE_NAMES, {"the_id": user_id, **values})

    def offer_reset(self, user_id: int, digest: bytes, until: datetime) -> None:
        """Insert in place of an earlier offer."""
        self._connection.execute(_WITHDRAW_RESET, {"the_id": user_id})
        self._connection.execute(_OFFER_RESET, {"user_id": user_id, "digest": digest, "until": until})

    def offered_reset(self, digest: bytes, now: datetime) -> User | None:
        """Read by digest."""
        row = self._connection.execute(_OFFERED_RESET, {"digest": digest, "now": now}).first()
        return None if row is None else User(*row)

    def _update(self, statement: Any, values: dict[str, object]) -> None:  # noqa: ANN401 - UPDATE or DELETE
        if not self._connection.execute(statement, values).rowcount:
            raise NotAuthenticated("The account does not exist any more.")


@final
class SqlSessions(_Repository, Sessions):
    """Sessions in ``sessions``."""

    def open(self, owner: int, user_agent: str, now: datetime) -> Session:
        """Insert on behalf of an existing user."""
        values = {"owner": owner, "agent": user_agent, "now": now}
        session_id = self._connection.execute(_OPEN_SESSION, values).scalar()
        if session_id is None:
            raise NotAuthenticated("The account does not exist any more.")
        return Session(session_id, owner, now, now, user_agent)

    def require(self, session_id: int, *, owner: int) -> None:
        """Look for it by its id."""
        if self._connection.execute(_REQUIRE_SESSION, {"the_id": session_id, "owner": owner}).first() is None:
            raise _session_is_over()

    def use(
        self, session_id: int, now: datetime, *, owner: int, used_since: datetime, opened_since: datetime
    ) -> Session:
        """Update it where its time is not over."""
        values = {
            "the_id": session_id, "owner": owner, "now": now, "used_since": used_since, "opened_since": opened_since,
        }  # fmt: skip
        row = self._connection.execute(_USE_SESSION, values).first()
        if row is None:
            raise _session_is_over()
        return Session(*row)

    def of(self, owner: int) -> list[Session]:
        """Read by the index over an owner's."""
        return [Session(*row) for row in self._connection.execute(_SESSIONS, {"owner": owner}).fetchall()]

    def end(self, session_id: int, *, owner: int) -> bool:
        """Delete by id and owner."""
        return bool(self._connection.execute(_END_SESSION, {"the_id": session_id, "owner": owner}).rowcount)

    def end_all(self, owner: int, *, but: int | None = None) -> None:
        """Delete by owner."""
        self._connection.execute(_END_SESSIONS, {"owner": owner, "but": but or 0})

    def forget(self, *, used_before: datetime, opened_before: datetime) -> None:
        """Delete by the indexes over times."""
        self._connection.execute(_FORGET_SESSIONS, {"used_before": used_before, "opened_before": opened_before})


def _session_is_over() -> NotAuthenticated:
    return NotAuthenticated("The session is over. Sign in again.")


@final
class SqlSecondFactors(_Repository, SecondFactors):
    """Authenticator apps in ``second_factors``, digests of recovery codes in ``recovery_codes``."""

    def get(self, user_id: int) -> SecondFactor | None:
        """Read by account."""
        row = self._connection.execute(_FACTOR, {"the_id": user_id}).first()
        return None if row is None else SecondFactor(*row)

    def enroll(self, user_id: int, sealed: bytes) -> None:
        """Insert in place of what was not enabled."""
        factor = self.get(user_id)
        if factor is not None and factor.enabled:
            raise SecondFactorOn
        self._connection.execute(_FORGET_FACTOR, {"the_id": user_id})
        values = {"user_id": user_id, "sealed": sealed, "enabled_at": None, "last_counter": 0}
        self._connection.execute(_ENROLL, values)

    def enable(self, factor: SecondFactor, counter: int, recovery: Sequence[bytes], now: datetime) -> bool:
        """Update what is still as it was seen, and insert the digests."""
        values = {"the_id": factor.user_id, "seen": factor.sealed, "counter": counter, "now": now}
        if not self._connection.execute(_ENABLE_FACTOR, values).rowcount:
            return False
        rows = [{"user_id": factor.user_id, "digest": digest} for digest in recovery]
        if rows:
            self._connection.execute(_ADD_RECOVERY_CODES, rows)
        return True

    def spend(self, factor: SecondFactor, counter: int) -> bool:
        """Update the counter where it is smaller."""
        values = {"the_id": factor.user_id, "seen": factor.sealed, "counter": counter}
        return bool(self._connection.execute(_SPEND, values).rowcount)

    def spend_recovery(self, user_id: int, digest: bytes) -> bool:
        """Delete by digest."""
        return bool(self._connection.execute(_SPEND_RECOVERY, {"the_id": user_id, "digest": digest}).rowcount)

    def recovery_left(self, user_id: int) -> int:
        """Count by account."""
        return int(self._connection.execute(_RECOVERY_LEFT, {"the_id": user_id}).scalar_one())

    def remove(self, user_id: int) -> bool:
        """Delete from both."""
        self._connection.execute(_FORGET_RECOVERY_CODES, {"the_id": user_id})
        return bool(self._connection.execute(_FORGET_FACTOR, {"the_id": user_id}).rowcount)

    def after(self, user_id: int, limit: int) -> list[SecondFactor]:
        """Read in the order of accounts."""
        rows = self._connection.execute(_FACTORS_AFTER, {"the_id": user_id, "most": limit}).fetchall()
        return [SecondFactor(*row) for row in rows]

    def reseal(self, factor: SecondFactor, sealed: bytes) -> None:
        """Update what is still as it was seen."""
        values = {"the_id": factor.user_id, "seen": factor.sealed, "new": sealed}
        self._connection.execute(_RESEAL_FACTOR, values)


@final
class SqlGuesses(_Repository, Guesses):
    """Failures in ``guesses``: a time for each key."""

    def until(self, keys: Collection[bytes]) -> dict[bytes, datetime]:
        """Read them at once."""
        rows = self._connection.execute(_UNTIL, {"keys": list(keys)}).fetchall()
        return {bytes(key): until for key, until in rows}

    def save(self, key: bytes, until: datetime) -> None:
        """Update, or insert; of two who insert at once, the primary key lets one pass."""
        if not self._connection.execute(_SAVE_GUESS, {"name": key, "new": until}).rowcount:
            self._connection.execute(_ADD_GUESS, {"key": key, "until": until})

    def forget(self, keys: Collection[bytes], before: datetime) -> None:
        """Delete by key, and by the index over times."""
        self._connection.execute(_FORGET_GUESSES, {"keys": list(keys)})
        self._connection.execute(_FORGET_OLD_GUESSES, {"before": before})


@final
class SqlAudit(_Repository, Audit):
    """Entries in ``audit``."""

    def add(self, act: Act, user_id: int | None, origin: Origin, now: datetime, note: str = "") -> None:
        """Insert."""
        values = {
            "at": now, "act": act.value, "user_id": user_id, "operator": origin.operator, "address": origin.address,
            "request_id": origin.request_id, "note": note,
        }  # fmt: skip
        self._connection.execute(_ADD_ENTRY, values)

    def of(self, user_id: int) -> list[AuditEntry]:
        """Read by the index over whom they concern."""
        return _entries(self._connection.execute(_ENTRIES_OF, {"the_id": user_id}).fetchall())

    def after(self, entry_id: int, limit: int) -> list[AuditEntry]:
        """Read in the order of ids."""
        return _entries(self._connection.execute(_ENTRIES_AFTER, {"the_id": entry_id, "most": limit}).fetchall())

    def forget(self, before: datetime) -> None:
        """Delete by the index over times."""
        self._connection.execute(_FORGET_ENTRIES, {"before": before})


def _entries(rows: Iterable[Sequence[Any]]) -> list[AuditEntry]:
    return [AuditEntry(row[0], row[1], Act(row[2]), *row[3:]) for row in rows]


@final
class SqlConversations(_Repository, Conversations):
    """Conversations in ``conversations``."""

    def add(self, owner: int, title: str, now: datetime) -> Conversation:
        """Insert on behalf of an existing user."""
        values = {"owner": owner, "title": title, "now": now}
        conversation_id = self._connection.execute(_ADD_CONVERSATION, values).scalar()
        if conversation_id is None:
            raise NotAuthenticated("The account does not exist any more.")
        return Conversation(conversation_id, owner, title, now)

    def get(self, conversation_id: int, *, owner: int) -> Conversation:
        """Read by id and owner."""
        row = self._connection.execute(_CONVERSATION, {"the_id": conversation_id, "owner": owner}).first()
        if row is None:
            raise ConversationNotFound
        return Conversation(*row)

    def of(self, owner: int) -> list[Conversation]:
        """Read by the index that has them in this order."""
        return [Conversation(*row) for row in self._connection.execute(_CONVERSATIONS, {"owner": owner}).fetchall()]

    def rename(self, conversation_id: int, title: str, *, owner: int) -> None:
        """Update by id and owner."""
        self._change(_RENAME, {"the_id": conversation_id, "owner": owner, "new": title})

    def delete(self, conversation_id: int, *, owner: int) -> None:
        """Delete by id and owner; foreign keys take the rest along."""
        self._change(_DELETE_CONVERSATION, {"the_id": conversation_id, "owner": owner})

    def _change(self, statement: Any, values: dict[str, object]) -> None:  # noqa: ANN401 - UPDATE or DELETE
        if not self._connection.execute(statement, values).rowcount:
            raise ConversationNotFound


@final
class SqlMessages(_Repository, Messages):
    """What was said, in ``messages``."""

    def add(self, conversation_id: int, role: Role, content: str, now: datetime, *, owner: int) -> Message:
        """Insert into a conversation of the owner's."""
        values = {"the_id": conversation_id, "owner": owner, "role": role.value, "content": content, "now": now}
        message_id = self._connection.execute(_ADD_MESSAGE, values).scalar()
        if message_id is None:
            raise ConversationNotFound
        return Message(message_id, conversation_id, role, content, now)

    def of(self, conversation_id: int, *, owner: int) -> list[Message]:
        """Read in the order of ids."""
        return _messages(self._connection.execute(_MESSAGES, {"the_id": conversation_id, "owner": owner}).fetchall())

    def system(self, conversation_id: int, *, owner: int) -> Message | None:
        """Read the first with that role."""
        rows = self._connection.execute(_SYSTEM_MESSAGE, {"the_id": conversation_id, "owner": owner}).fetchall()
        return next(iter(_messages(rows)), None)

    def count(self, conversation_id: int, *, owner: int, up_to: int) -> int:
        """Count by the index over a conversation's messages."""
        values = {"the_id": conversation_id, "owner": owner, "last": up_to}
        return int(self._connection.execute(_COUNT_MESSAGES, values).scalar_one())

    def newest_first(self, conversation_id: int, *, owner: int, up_to: int | None = None) -> Iterator[Message]:
        """Read page by page."""
        before = 2**63 - 1 if up_to is None else up_to + 1
        while True:
            values = {"the_id": conversation_id, "owner": owner, "before": before}
            rows = self._connection.execute(_MESSAGES_BEFORE, values).fetchall()
            yield from _messages(rows)
            if len(rows) < PAGE:
                return
            before = rows[-1][0]


_ROLES = {role.value: role for role in Role}


def _messages(rows: Iterable[Sequence[Any]]) -> list[Message]:
    return [Message(row[0], row[1], _ROLES[row[2]], row[3], row[4]) for row in rows]


@final
class SqlAnswers(_Repository, Answers):
    """Records of answers in ``answers``, the growing text in ``answer_parts``."""

    def begin(self, asked: Begin) -> Answer:
        """Insert into a free slot; where two race for the conversation or the slot, a unique index decides."""
        running = self._connection.execute(_RUNNING_OF_OWNER, {"owner": asked.owner}).fetchall()
        for answer_id, conversation_id, _ in running:
            if conversation_id == asked.question.conversation_id:
                raise AnswerRunning(answer_id=answer_id)
        taken = {slot for _, _, slot in running}
        if len(taken) >= asked.most:
            raise TooManyAnswers(retry_after=1)
        slot = next(slot for slot in range(1, asked.most + 1) if slot not in taken)
        answer_id = self._connection.execute(
            _BEGIN,
            {
                "conversation_id": asked.question.conversation_id,
                "question_id": asked.question.id,
                "state": AnswerState.RUNNING.value,
                "requested_model": asked.model,
                "started_at": asked.now,
                "provider_id": asked.provider_id,
                "lease_until": asked.lease_until,
                "stopping": False,
                "user_id": asked.owner,
                "slot": slot,
                "left_out": asked.left_out,
                "prompt_estimate": asked.prompt_estimate,
                "api_key_id": asked.api_key_id,
            },
        ).scalar_one()
        thread, question = asked.question.conversation_id, asked.question.id
        state = AnswerState.RUNNING
        return Answer(answer_id, thread, question, state, asked.model, asked.now, left_out=asked.left_out)

    def checkpoint(self, appended: Sequence[Appended], running: Sequence[int], lease_until: datetime) -> Standing:
        """Insert the new pieces of all answers at once."""
        dialect = self._connection.dialect.name
        statements = _CHECKPOINT[dialect]
        rows = self._connection.execute(statements.still_running, {"ids": json.dumps(list(running))}).fetchall()
        standing = Standing(frozenset(row[0] for row in rows), frozenset(row[0] for row in rows if row[1]))
        if rows:
            ids = json.dumps(sorted(standing.running))
            values = {"ids": ids, "older": lease_until - LEASE_SLACK, "lease": lease_until}
            self._connection.execute(statements.prolong, values)
        pieces = [
            (piece.answer_id, piece.offset, piece.text) for piece in appended if piece.answer_id in standing.running
        ]
        if pieces:
            if dialect == "postgresql":  # SQLite has one writer at a time
                self._connection.execute(statements.touch, {"ids": json.dumps(sorted(piece[0] for piece in pieces))})
            self._connection.execute(statements.append, {"pieces": json.dumps(pieces)})
        return standing

    def end(self, answer_id: int, outcome: Outcome, text: str, now: datetime) -> bool:
        """Insert the message and update the record, both guarded by the state."""
        message_id = None
        if text:
            # Out of the conversation, but still what that answer said: a repeated request follows it.
            if self._connection.execute(_KEEP_EARLIER_ANSWER, {"the_id": answer_id}).rowcount:
                self._connection.execute(_FORGET_EARLIER_ANSWER, {"the_id": answer_id})
            values = {"the_id": answer_id, "content": text, "now": now}
            message_id = self._connection.execute(_ADD_ANSWER_MESSAGE, values).scalar()
            if message_id is None:
                return False
        usage = outcome.usage
        ended = self._connection.execute(
            _END,
            {
                "the_id": answer_id,
                "new_state": outcome.state.value,
                "new_finish_reason": outcome.finish_reason,
                "new_model": outcome.model,
                "new_prompt_tokens": usage.prompt_tokens if usage else None,
                "new_completion_tokens": usage.completion_tokens if usage else None,
                "new_reason": outcome.reason,
                "new_ended_at": now,
                "new_message_id": message_id,
                "new_completion_estimate": estimated_tokens(text) if text else 0,
                "new_left_out": outcome.left_out,
            },
        ).rowcount
        self._connection.execute(_FORGET_PARTS, {"the_id": answer_id})
        return bool(ended)

    def end_expired(self, now: datetime, *, sparing: Collection[int]) -> list[int]:
        """Find them by the index over leases, and end each with its parts."""
        rows = self._connection.execute(_EXPIRED, {"now": now}).fetchall()
        expired = sorted(answer_id for (answer_id,) in rows if answer_id not in sparing)
        for answer_id in expired:
            parts = self._connection.execute(_PARTS, {"the_id": answer_id}).scalars()
            self.end(answer_id, Outcome(AnswerState.INTERRUPTED, reason="lost"), "".join(parts), now)
        return expired

    def ask_to_stop(self, conversation_id: int, *, owner: int) -> int:
        """Set the mark that its process looks at with each checkpoint."""
        answer_id = self._connection.execute(_ASK_TO_STOP, {"the_id": conversation_id, "owner": owner}).scalar()
        if answer_id is None:
            raise AnswerNotFound("Nothing is being answered in this conversation.")
        return int(answer_id)

    def newest(self, conversation_id: int, *, owner: int) -> Answer:
        """Read the one with the greatest id."""
        return self._one(_NEWEST_ANSWER, conversation_id, owner)

    def of(self, conversation_id: int, *, owner: int) -> list[Answer]:
        """Read in the order of ids."""
        rows = self._connection.execute(_ANSWERS, {"the_id": conversation_id, "owner": owner}).fetchall()
        return [_answer(row) for row in rows]

    def get(self, answer_id: int, *, owner: int) -> Answer:
        """Read by id and owner."""
        return self._one(_ANSWER_BY_ID, answer_id, owner)

    def text(self, answer_id: int, offset: int, *, owner: int) -> str:
        """Read the message, or, while there is none, those parts that reach beyond the offset."""
        values = {"the_id": answer_id, "owner": owner}
        whole = self._connection.execute(_TEXT, {**values, "start": offset + 1}).scalar()
        if whole is not None:
            return str(whole)
        parts = self._connection.execute(_PARTS_FROM, {**values, "start": offset}).fetchall()
        return "".join(text for _, text in parts)[offset - parts[0][0] :] if parts else ""

    def length(self, answer_id: int, *, owner: int) -> int:
        """Measure the message, or, while there is none, the parts."""
        values = {"the_id": answer_id, "owner": owner}
        return (
            self._connection.execute(_LENGTH, values).scalar()
            or self._connection.execute(_PARTS_LENGTH, values).scalar()
            or 0
        )

    def usage(self, owner: int, first: date, last: date) -> list[DayOfUsage]:
        """Sum up by the index over an owner's times."""
        values = {
            "owner": owner,
            "first": datetime.combine(first, time.min, UTC),
            "last": datetime.combine(last, time.max, UTC),
        }
        rows = self._connection.execute(_USAGE, values).fetchall()
        return [
            DayOfUsage(date.fromisoformat(day), provider, model, count, int(sent), int(said), estimated=bool(estimated))
            for day, provider, model, count, sent, said, estimated in rows
        ]

    def _one(self, statement: Any, the_id: int, owner: int) -> Answer:  # noqa: ANN401 - any SELECT of an answer
        row = self._connection.execute(statement, {"the_id": the_id, "owner": owner}).first()
        if row is None:
            raise AnswerNotFound
        return _answer(row)


def _answer(row: Sequence[Any]) -> Answer:
    answer_id, conversation_id, question_id, state, *rest = row
    return Answer(answer_id, conversation_id, question_id, AnswerState(state), *rest)


@final
class SqlIdempotency(_Repository, Idempotency):
    """Idempotency keys in ``idempotency_keys``."""

    def find(self, owner: int, key: str, fingerprint: bytes, since: datetime) -> Remembered | None:
        """Read by owner and key, and compare."""
        row = self._connection.execute(_REMEMBERED, {"owner": owner, "name": key, "since": since}).first()
        if row is None:
            return None
        if bytes(row[0]) != fingerprint:
            raise IdempotencyKeyReused
        return Remembered(row[1], row[2])

    def remember(
        self, owner: int, key: str, fingerprint: bytes, led_to: int, now: datetime, *, conversation: int | None = None
    ) -> None:
        """Insert in place of what has expired; of two at once, the primary key lets one pass."""
        self._connection.execute(_FORGET, {"owner": owner, "name": key})
        values = {
            "user_id": owner, "key": key, "fingerprint": fingerprint, "led_to": led_to, "created_at": now,
            "conversation_id": conversation,
        }  # fmt: skip
        self._connection.execute(insert(idempotency_keys), values)

    def forget(self, before: datetime) -> None:
        """Delete by the index over times."""
        self._connection.execute(_FORGET_OLD, {"before": before})


@final
class SqlApiKeys(_Repository, ApiKeys):
    """Stored keys in ``api_keys``."""

    def add(self, owner: int, provider_id: int, nickname: str, now: datetime) -> ApiKey:
        """Insert on behalf of an existing user; a nickname that is taken breaks a unique constraint."""
        values = {"owner": owner, "provider": provider_id, "nickname": nickname, "now": now}
        key_id = self._connection.execute(_ADD_KEY, values).scalar()
        if key_id is None:
            raise NotAuthenticated("The account does not exist any more.")
        return ApiKey(key_id, owner, provider_id, nickname, b"", now)

    def seal(self, key_id: int, sealed: bytes, *, owner: int) -> None:
        """Update by id and owner."""
        if not self._connection.execute(_SEAL, {"the_id": key_id, "owner": owner, "new": sealed}).rowcount:
            raise ApiKeyNotFound

    def get(self, nickname: str, *, owner: int) -> ApiKey:
        """Read by owner and nickname."""
        row = self._connection.execute(_KEY, {"owner": owner, "name": nickname}).first()
        if row is None:
            raise ApiKeyNotFound
        return ApiKey(*row)

    def of(self, owner: int) -> list[ApiKey]:
        """Read in the order of ids."""
        return [ApiKey(*row) for row in self._connection.execute(_KEYS, {"owner": owner}).fetchall()]

    def rename(self, nickname: str, new: str, *, owner: int) -> None:
        """Update by owner and nickname, after looking whether the new one is free."""
        if new != nickname and self._connection.execute(_KEY, {"owner": owner, "name": new}).first() is not None:
            self.get(nickname, owner=owner)
            raise InvalidInput.of(FieldError("new_nickname", "is taken already by another of your keys"))
        if not self._connection.execute(_RENAME_KEY, {"owner": owner, "name": nickname, "new": new}).rowcount:
            raise ApiKeyNotFound

    def delete(self, nickname: str, *, owner: int) -> list[int]:
        """Mark what uses it, then delete by owner and nickname."""
        values = {"owner": owner, "name": nickname}
        using = self._connection.execute(_STOP_USERS_OF_KEY, values).scalars().all()
        if self._connection.execute(_DELETE_KEY, values).scalar() is None:
            raise ApiKeyNotFound
        return sorted(using)

    def after(self, key_id: int, limit: int) -> list[ApiKey]:
        """Read in the order of ids."""
        rows = self._connection.execute(_KEYS_AFTER, {"the_id": key_id, "most": limit}).fetchall()
        return [ApiKey(*row) for row in rows]


@final
class SqlCatalogue(_Repository, Catalogue):
    """Providers and models in ``providers`` and ``models``; both numbered here, so that ids are the same everywhere."""

    def providers(self, *, retired: bool = False) -> list[Provider]:
        """Read all in one statement."""
        return _providers(self._connection.execute(_CATALOGUE[retired]).fetchall())

    def get(self, provider_id: int) -> Provider:
        """Read one with its models in one statement."""
        return _providers(self._connection.execute(_PROVIDER, {"the_id": provider_id}).fetchall())[0]

    def add_provider(self, name: str) -> Provider:
        """Insert under the next number."""
        provider = Provider(self._next_id(providers), name, ())
        self._connection.execute(insert(providers), {"id": provider.id, "name": name})
        return provider

    def add_model(self, provider_id: int, spec: ModelSpec) -> Model:
        """Insert under the next number."""
        model = Model.of(self._next_id(models), provider_id, spec)
        self._connection.execute(insert(models), _row(model))
        return model

    def save_model(self, model: Model) -> None:
        """Update by id."""
        self._connection.execute(update(models).where(models.c.id == model.id), _row(model))

    def _next_id(self, table: Table) -> int:
        return (self._connection.execute(select(func.max(table.c.id))).scalar() or 0) + 1


def _row(model: Model) -> dict[str, object]:
    return {column.name: getattr(model, column.name) for column in models.c}


def _providers(rows: Iterable[Sequence[Any]]) -> list[Provider]:
    found: dict[int, tuple[str, list[Model]]] = {}
    for provider_id, name, *model in rows:
        of_provider = found.setdefault(provider_id, (name, []))[1]
        if model[0] is not None:
            of_provider.append(Model(*model))
    return [Provider(provider_id, name, tuple(its_models)) for provider_id, (name, its_models) in found.items()]
