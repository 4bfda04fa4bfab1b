"""The domain's repositories as SQL. Ownership stands in the WHERE clause of every read and every write."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, final

from sqlalchemy import (
    BindParameter,
    Connection,
    Index,
    Table,
    UniqueConstraint,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from baio_adapters.sql.tables import (
    answer_parts,
    answers,
    api_keys,
    conversations,
    messages,
    metadata,
    models,
    providers,
    users,
)
from baio_domain.entities import (
    PROFILE_FIELDS,
    Answer,
    AnswerState,
    ApiKey,
    Conversation,
    Message,
    Model,
    ModelSpec,
    Outcome,
    Profile,
    Provider,
    Role,
    Usage,
    User,
    folded,
)
from baio_domain.errors import (
    AnswerRunning,
    ApiKeyNotFound,
    BaioError,
    ConversationNotFound,
    FieldError,
    InvalidInput,
    NotAuthenticated,
)
from baio_domain.ports import (
    Answers,
    ApiKeys,
    Appended,
    Catalogue,
    Conversations,
    Messages,
    Transaction,
    Users,
)

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


def refusal(error: IntegrityError) -> BaioError | None:
    """What a broken constraint means to the caller, or None where breaking it is a bug."""
    name = constraint_name(error)
    if name in _TAKEN:
        return InvalidInput.of(_TAKEN[name])
    return AnswerRunning() if name == "uq_answers_running" else None


def constraint_name(error: IntegrityError) -> str:
    """The name of the constraint that was broken; SQLite only tells its columns."""
    diagnostics = getattr(error.orig, "diag", None)
    if diagnostics is not None:
        return str(diagnostics.constraint_name)
    return _UNIQUE_BY_COLUMNS.get(str(error.orig).removeprefix("UNIQUE constraint failed: "), "")


def _unique_by_columns() -> Iterator[tuple[str, str]]:
    for table in metadata.tables.values():
        for rule in (*table.constraints, *table.indexes):
            if isinstance(rule, UniqueConstraint) or (isinstance(rule, Index) and rule.unique):
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
_USER_BY_NAME = select(*_USER).where(users.c.username_folded == bindparam("folded"))
_USERS_TAKEN = select(users.c.username_folded, users.c.email_folded).where(
    (users.c.username_folded == bindparam("username")) | (users.c.email_folded == bindparam("email"))
)
_ADD_USER = insert(users).returning(users.c.id)
_SAVE_PROFILE = (
    update(users).where(users.c.id == _ID).values({name: bindparam(f"new_{name}") for name in PROFILE_FIELDS})
)
_SAVE_PASSWORD_HASH = update(users).where(users.c.id == _ID).values(password_hash=bindparam("new"))

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
_MESSAGES_BEFORE = (
    select(messages)
    .where(messages.c.conversation_id == _ID, messages.c.id < bindparam("before"), _OWNS)
    .order_by(messages.c.id.desc())
    .limit(PAGE)
)

_RUNNING = answers.c.state == AnswerState.RUNNING.value
_BEGIN = (
    insert(answers)
    .from_select(
        [
            "conversation_id", "question_id", "provider_id", "requested_model", "state", "started_at", "lease_until",
        ],
        select(
            bindparam("conversation", type_=answers.c.conversation_id.type),
            bindparam("question", type_=answers.c.question_id.type),
            bindparam("provider", type_=answers.c.provider_id.type),
            bindparam("model", type_=answers.c.requested_model.type),
            literal(AnswerState.RUNNING.value),
            bindparam("now", type_=answers.c.started_at.type),
            bindparam("lease", type_=answers.c.lease_until.type),
        ).where(~exists().where(answers.c.conversation_id == bindparam("conversation"), _RUNNING)),
    )
    .returning(answers.c.id)
)  # fmt: skip
_RUNNING_OF = select(answers.c.id).where(answers.c.conversation_id == _ID, _RUNNING)
_STILL_RUNNING = select(answers.c.id).where(answers.c.id.in_(bindparam("ids", expanding=True)), _RUNNING)
_PROLONG = (
    update(answers)
    .where(answers.c.id.in_(bindparam("ids", expanding=True)), _RUNNING, answers.c.lease_until < bindparam("older"))
    .values(lease_until=bindparam("lease"))
)
_APPEND = insert(answer_parts)
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
                "message_id",
            )
        }
    )
)  # fmt: skip
_FORGET_PARTS = delete(answer_parts).where(answer_parts.c.answer_id == _ID)
_PARTS = select(answer_parts.c.text).where(answer_parts.c.answer_id == _ID).order_by(answer_parts.c.offset)
_EXPIRED = select(answers.c.id).where(_RUNNING, answers.c.lease_until < bindparam("now")).order_by(answers.c.id)
_ANSWER = _columns(answers, "id", "started_at")
_OUTCOME = [
    answers.c.state,
    answers.c.finish_reason,
    answers.c.model,
    answers.c.prompt_tokens,
    answers.c.completion_tokens,
    answers.c.reason,
]
_LATEST = (
    select(*_ANSWER, *_OUTCOME).where(answers.c.conversation_id == _ID, _OWNS).order_by(answers.c.id.desc()).limit(1)
)

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

_ASKABLE = providers.outerjoin(models, (models.c.provider_id == providers.c.id) & ~models.c.retired)
_EVERY = providers.outerjoin(models)
_CATALOGUE = {
    retired: select(providers, models).select_from(source).order_by(providers.c.id, models.c.id)
    for retired, source in ((False, _ASKABLE), (True, _EVERY))
}
_PROVIDER = _CATALOGUE[False].where(providers.c.id == _ID)


# -- Repositories ------------------------------------------------------------------------------------------------------


@final
class SqlTransaction(Transaction):
    """The repositories over one connection, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self.users = SqlUsers(connection)
        self.conversations = SqlConversations(connection)
        self.messages = SqlMessages(connection)
        self.answers = SqlAnswers(connection)
        self.api_keys = SqlApiKeys(connection)
        self.catalogue = SqlCatalogue(connection)


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

    def by_username(self, username: str) -> User | None:
        """Read by folded name."""
        row = self._connection.execute(_USER_BY_NAME, {"folded": folded(username)}).first()
        return None if row is None else User(*row)

    def save_profile(self, user_id: int, profile: Profile) -> None:
        """Update the six columns."""
        values = {f"new_{name}": getattr(profile, name) for name in PROFILE_FIELDS}
        self._update(_SAVE_PROFILE, {"the_id": user_id, **values})

    def save_password_hash(self, user_id: int, password_hash: str) -> None:
        """Update the hash."""
        self._update(_SAVE_PASSWORD_HASH, {"the_id": user_id, "new": password_hash})

    def _update(self, statement: Any, values: dict[str, object]) -> None:  # noqa: ANN401 - any UPDATE
        if not self._connection.execute(statement, values).rowcount:
            raise NotAuthenticated("The account does not exist any more.")


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

    def newest_first(self, conversation_id: int, *, owner: int) -> Iterator[Message]:
        """Read page by page."""
        before = 2**63 - 1
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

    def begin(self, question: Message, provider_id: int, model: str, now: datetime, lease_until: datetime) -> Answer:
        """Insert unless one runs; where two race, the unique index decides."""
        values = {
            "conversation": question.conversation_id,
            "question": question.id,
            "provider": provider_id,
            "model": model,
            "now": now,
            "lease": lease_until,
        }
        answer_id = self._connection.execute(_BEGIN, values).scalar()
        if answer_id is None:
            in_the_way = self._connection.execute(_RUNNING_OF, {"the_id": question.conversation_id}).scalar_one()
            raise AnswerRunning(answer_id=in_the_way)
        return Answer(answer_id, question.conversation_id, question.id, AnswerState.RUNNING, model, now)

    def checkpoint(self, appended: Sequence[Appended], running: Sequence[int], lease_until: datetime) -> frozenset[int]:
        """Insert the new pieces of all answers at once."""
        still = frozenset(self._connection.execute(_STILL_RUNNING, {"ids": list(running)}).scalars())
        if still:
            values = {"ids": sorted(still), "older": lease_until - LEASE_SLACK, "lease": lease_until}
            self._connection.execute(_PROLONG, values)
        pieces = [
            {"answer_id": piece.answer_id, "offset": piece.offset, "text": piece.text}
            for piece in appended
            if piece.answer_id in still
        ]
        if pieces:
            self._connection.execute(_APPEND, pieces)
        return still

    def end(self, answer_id: int, outcome: Outcome, text: str, now: datetime) -> bool:
        """Insert the message and update the record, both guarded by the state."""
        message_id = None
        if text:
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
            },
        ).rowcount
        self._connection.execute(_FORGET_PARTS, {"the_id": answer_id})
        return bool(ended)

    def end_expired(self, now: datetime) -> list[int]:
        """Find them by the index over leases, and end each with its parts."""
        expired = [row[0] for row in self._connection.execute(_EXPIRED, {"now": now}).fetchall()]
        for answer_id in expired:
            parts = self._connection.execute(_PARTS, {"the_id": answer_id}).scalars()
            self.end(answer_id, Outcome(AnswerState.INTERRUPTED, reason="lost"), "".join(parts), now)
        return expired

    def latest(self, conversation_id: int, *, owner: int) -> tuple[Answer, Outcome] | None:
        """Read the one with the greatest id."""
        row = self._connection.execute(_LATEST, {"the_id": conversation_id, "owner": owner}).first()
        if row is None:
            return None
        answer_id, conversation_id, question_id, state, requested, started, _, finish, model, asked, answered, why = row
        usage = None if asked is None or answered is None else Usage(asked, answered)
        state = AnswerState(state)
        answer = Answer(answer_id, conversation_id, question_id, state, requested, started)
        return answer, Outcome(state, finish, model, usage, why)


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
        model = Model(
            self._next_id(models), provider_id, spec.identifier, spec.name, spec.context_window, spec.longest_answer,
            spec.system_role, retired=False,
        )  # fmt: skip
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
