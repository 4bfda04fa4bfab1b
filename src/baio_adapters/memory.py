"""The whole database over dicts, with real commit and rollback: for unit tests, and for services that forget."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime
from typing import Any, TypeVar, final

from baio_domain.entities import (
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
    Catalogue,
    CheckpointResult,
    Conversations,
    Database,
    FailedAttempts,
    Idempotency,
    IdempotencyRecord,
    Messages,
    NewAnswer,
    SecondFactors,
    Sessions,
    Transaction,
    Users,
)
from baio_domain.prompts import estimated_tokens

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _AnswerRow:
    answer: Answer
    new: NewAnswer
    lease_until: datetime
    text: str = ""
    stopping: bool = False
    message_id: int | None = None
    completion_estimate: int = 0


@dataclass(slots=True)
class _Tables:
    """All rows. Entities are frozen, so a copy of the dicts is a snapshot."""

    users: dict[int, User] = field(default_factory=dict)
    resets: dict[int, tuple[bytes, datetime]] = field(default_factory=dict)
    sessions: dict[int, Session] = field(default_factory=dict)
    second_factors: dict[int, SecondFactor] = field(default_factory=dict)
    recovery_codes: dict[tuple[int, bytes], None] = field(default_factory=dict)
    failed_attempts: dict[bytes, datetime] = field(default_factory=dict)
    audit: dict[int, AuditEntry] = field(default_factory=dict)
    conversations: dict[int, Conversation] = field(default_factory=dict)
    messages: dict[int, Message] = field(default_factory=dict)
    answers: dict[int, _AnswerRow] = field(default_factory=dict)
    api_keys: dict[int, ApiKey] = field(default_factory=dict)
    providers: dict[int, str] = field(default_factory=dict)
    models: dict[int, Model] = field(default_factory=dict)
    idempotency: dict[tuple[int, str], tuple[bytes, IdempotencyRecord, int | None]] = field(default_factory=dict)
    last_ids: dict[str, int] = field(default_factory=dict)

    def copy(self) -> "_Tables":
        return _Tables(*(getattr(self, each.name).copy() for each in fields(self)))

    def next_id(self, table: str) -> int:
        self.last_ids[table] = self.last_ids.get(table, 0) + 1
        return self.last_ids[table]

    def owns(self, conversation_id: int, owner: int) -> bool:
        conversation = self.conversations.get(conversation_id)
        return conversation is not None and conversation.user_id == owner


@final
class MemoryDatabase(Database):
    """Keeps everything in this process, until it ends. One unit of work runs at a time."""

    def __init__(self) -> None:
        self._tables = _Tables()

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` on a snapshot; what it writes is dropped."""
        return work(_MemoryTransaction(self._tables.copy()))

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` on a copy, which becomes the database when it returns."""
        tables = self._tables.copy()
        result = work(_MemoryTransaction(tables))
        self._tables = tables
        return result

    async def check(self) -> None:
        """There is nothing to reach and no schema to miss."""

    def close(self) -> None:
        """There is nothing to let go of."""


class _MemoryTransaction(Transaction):
    def __init__(self, tables: _Tables) -> None:
        self.users = _MemoryUsers(tables)
        self.sessions = _MemorySessions(tables)
        self.second_factors = _MemorySecondFactors(tables)
        self.failed_attempts = _MemoryFailedAttempts(tables)
        self.audit = _MemoryAudit(tables)
        self.conversations = _MemoryConversations(tables)
        self.messages = _MemoryMessages(tables)
        self.answers = _MemoryAnswers(tables)
        self.api_keys = _MemoryApiKeys(tables)
        self.catalogue = _MemoryCatalogue(tables)
        self.idempotency = _MemoryIdempotency(tables)


class _Repository:
    def __init__(self, tables: _Tables) -> None:
        self._tables = tables


@final
class _MemoryUsers(_Repository, Users):
    def add(self, username: str, email: str, profile: Profile, password_hash: str, now: datetime) -> User:
        taken = self.taken(username, email)
        if taken:
            raise InvalidInput.of(*(FieldError(name, "is taken already") for name in taken))
        user = User(
            id=self._tables.next_id("users"),
            username=username,
            email=email,
            **_values(profile),
            password_hash=password_hash,
            created_at=now,
            disabled_at=None,
        )
        self._tables.users[user.id] = user
        return user

    def taken(self, username: str, email: str) -> list[str]:
        users = self._tables.users.values()
        names = {folded(user.username) for user in users}
        emails = {folded(user.email) for user in users}
        return ["username"] * (folded(username) in names) + ["email"] * (folded(email) in emails)

    def get(self, user_id: int) -> User:
        try:
            return self._tables.users[user_id]
        except KeyError:
            raise NotAuthenticated("The account does not exist any more.") from None

    def require_enabled(self, user_id: int) -> None:
        if self.get(user_id).disabled_at is not None:
            raise NotAuthenticated("The account is disabled.")

    def by_username(self, username: str) -> User | None:
        key = folded(username)
        return next((user for user in self._tables.users.values() if folded(user.username) == key), None)

    def save_profile(self, user_id: int, profile: Profile) -> None:
        self._tables.users[user_id] = replace(self.get(user_id), **_values(profile))

    def all(self) -> list[User]:
        return [self._tables.users[user_id] for user_id in sorted(self._tables.users)]

    def disable(self, user_id: int, now: datetime) -> None:
        self._tables.users[user_id] = replace(self.get(user_id), disabled_at=now)
        for row in list(self._tables.answers.values()):
            running = row.answer.state is AnswerState.RUNNING
            if running and self._tables.owns(row.answer.conversation_id, user_id):
                self._tables.answers[row.answer.id] = replace(row, stopping=True)

    def enable(self, user_id: int) -> None:
        self._tables.users[user_id] = replace(self.get(user_id), disabled_at=None)

    def delete(self, user_id: int) -> list[int]:
        self.get(user_id)
        tables = self._tables
        threads = {each.id for each in tables.conversations.values() if each.user_id == user_id}
        mine = {k: v for k, v in tables.answers.items() if v.answer.conversation_id in threads}
        del tables.users[user_id]
        tables.resets.pop(user_id, None)
        tables.sessions = {k: v for k, v in tables.sessions.items() if v.user_id != user_id}
        tables.second_factors.pop(user_id, None)
        tables.recovery_codes = {k: None for k in tables.recovery_codes if k[0] != user_id}
        tables.audit = {
            k: replace(v, user_id=None, username=None, address="") if v.user_id == user_id else v
            for k, v in tables.audit.items()
        }
        tables.conversations = {k: v for k, v in tables.conversations.items() if k not in threads}
        tables.messages = {k: v for k, v in tables.messages.items() if v.conversation_id not in threads}
        tables.answers = {k: v for k, v in tables.answers.items() if k not in mine}
        tables.api_keys = {k: v for k, v in tables.api_keys.items() if v.user_id != user_id}
        tables.idempotency = {k: v for k, v in tables.idempotency.items() if k[0] != user_id}
        return sorted(k for k, v in mine.items() if v.answer.state is AnswerState.RUNNING)

    def save_password_hash(self, user_id: int, password_hash: str) -> None:
        self._tables.users[user_id] = replace(self.get(user_id), password_hash=password_hash)
        self._tables.resets.pop(user_id, None)

    def save_names(self, user_id: int, username: str, email: str) -> None:
        user = self.get(user_id)
        others = [each for each in self._tables.users.values() if each.id != user_id]
        taken = [
            name
            for name, wanted in (("username", username), ("email", email))
            if folded(wanted) in {folded(str(getattr(each, name))) for each in others}
        ]
        if taken:
            raise InvalidInput.of(*(FieldError(name, "is taken already") for name in taken))
        self._tables.users[user_id] = replace(user, username=username, email=email)

    def offer_reset(self, user_id: int, digest: bytes, until: datetime) -> None:
        self.get(user_id)
        self._tables.resets[user_id] = (digest, until)

    def offered_reset(self, digest: bytes, now: datetime) -> User | None:
        offers = self._tables.resets.items()
        found = next((k for k, (offered, until) in offers if offered == digest and until > now), None)
        return None if found is None else self._tables.users[found]


@final
class _MemorySessions(_Repository, Sessions):
    def open(self, owner: int, user_agent: str, now: datetime) -> Session:
        if owner not in self._tables.users:
            raise NotAuthenticated("The account does not exist any more.")
        session = Session(self._tables.next_id("sessions"), owner, now, now, user_agent)
        self._tables.sessions[session.id] = session
        return session

    def require(self, session_id: int, *, owner: int) -> None:
        self._standing(session_id, owner)

    def use(
        self, session_id: int, now: datetime, *, owner: int, used_since: datetime, opened_since: datetime
    ) -> Session:
        session = self._standing(session_id, owner)
        if session.last_used_at < used_since or session.created_at < opened_since:
            raise NotAuthenticated("The session is over. Sign in again.")
        self._tables.sessions[session_id] = replace(session, last_used_at=now)
        return self._tables.sessions[session_id]

    def of(self, owner: int) -> list[Session]:
        return [each for each in reversed(self._tables.sessions.values()) if each.user_id == owner]

    def end(self, session_id: int, *, owner: int) -> bool:
        session = self._tables.sessions.get(session_id)
        if session is None or session.user_id != owner:
            return False
        del self._tables.sessions[session_id]
        return True

    def end_all(self, owner: int, *, but: int | None = None) -> None:
        self._keep(lambda each: each.user_id != owner or each.id == but)

    def forget(self, *, used_before: datetime, opened_before: datetime) -> None:
        self._keep(lambda each: each.last_used_at >= used_before and each.created_at >= opened_before)

    def _standing(self, session_id: int, owner: int) -> Session:
        session, user = self._tables.sessions.get(session_id), self._tables.users.get(owner)
        if session is None or session.user_id != owner or user is None or user.disabled_at is not None:
            raise NotAuthenticated("The session is over. Sign in again.")
        return session

    def _keep(self, rule: Callable[[Session], bool]) -> None:
        self._tables.sessions = {k: v for k, v in self._tables.sessions.items() if rule(v)}


@final
class _MemorySecondFactors(_Repository, SecondFactors):
    def get(self, user_id: int) -> SecondFactor | None:
        return self._tables.second_factors.get(user_id)

    def enroll(self, user_id: int, sealed: bytes) -> None:
        factor = self.get(user_id)
        if factor is not None and factor.enabled:
            raise SecondFactorOn
        if user_id not in self._tables.users:
            raise NotAuthenticated("The account does not exist any more.")
        self._tables.second_factors[user_id] = SecondFactor(user_id, sealed, None, 0)

    def enable(self, factor: SecondFactor, counter: int, recovery: Sequence[bytes], now: datetime) -> bool:
        current = self.get(factor.user_id)
        if current is None or current.enabled or current.sealed != factor.sealed:
            return False
        self._tables.second_factors[factor.user_id] = replace(current, enabled_at=now, last_counter=counter)
        self._tables.recovery_codes.update({(factor.user_id, digest): None for digest in recovery})
        return True

    def spend(self, factor: SecondFactor, counter: int) -> bool:
        current = self.get(factor.user_id)
        if current is None or current.sealed != factor.sealed or current.last_counter >= counter:
            return False
        self._tables.second_factors[factor.user_id] = replace(current, last_counter=counter)
        return True

    def spend_recovery(self, user_id: int, digest: bytes) -> bool:
        there = (user_id, digest) in self._tables.recovery_codes
        self._tables.recovery_codes.pop((user_id, digest), None)
        return there

    def recovery_left(self, user_id: int) -> int:
        return sum(owner == user_id for owner, _ in self._tables.recovery_codes)

    def remove(self, user_id: int) -> bool:
        self._tables.recovery_codes = {k: None for k in self._tables.recovery_codes if k[0] != user_id}
        return self._tables.second_factors.pop(user_id, None) is not None

    def after(self, user_id: int, limit: int) -> list[SecondFactor]:
        later = (self._tables.second_factors[k] for k in sorted(self._tables.second_factors) if k > user_id)
        return list(later)[:limit]

    def reseal(self, factor: SecondFactor, sealed: bytes) -> None:
        current = self.get(factor.user_id)
        if current is not None and current.sealed == factor.sealed:
            self._tables.second_factors[factor.user_id] = replace(current, sealed=sealed)


@final
class _MemoryFailedAttempts(_Repository, FailedAttempts):
    def until(self, keys: Collection[bytes]) -> dict[bytes, datetime]:
        return {key: self._tables.failed_attempts[key] for key in keys if key in self._tables.failed_attempts}

    def save(self, key: bytes, until: datetime) -> None:
        self._tables.failed_attempts[key] = until

    def forget(self, keys: Collection[bytes], before: datetime) -> None:
        kept = {k: v for k, v in self._tables.failed_attempts.items() if k not in keys and v >= before}
        self._tables.failed_attempts = kept


@final
class _MemoryAudit(_Repository, Audit):
    def add(self, act: Act, user_id: int | None, origin: Origin, now: datetime, note: str = "") -> None:
        entry_id = self._tables.next_id("audit")
        self._tables.audit[entry_id] = AuditEntry(
            entry_id, now, act, user_id, origin.operator, origin.address, origin.request_id, note
        )

    def of(self, user_id: int) -> list[AuditEntry]:
        return [self._named(each) for each in self._tables.audit.values() if each.user_id == user_id]

    def after(self, entry_id: int, limit: int) -> list[AuditEntry]:
        return [self._named(each) for each in self._tables.audit.values() if each.id > entry_id][:limit]

    def forget(self, before: datetime) -> None:
        self._tables.audit = {k: v for k, v in self._tables.audit.items() if v.at >= before}

    def _named(self, entry: AuditEntry) -> AuditEntry:
        user = self._tables.users.get(entry.user_id) if entry.user_id is not None else None
        return replace(entry, username=user.username if user else None)


@final
class _MemoryConversations(_Repository, Conversations):
    def add(self, owner: int, title: str, now: datetime) -> Conversation:
        if owner not in self._tables.users:
            raise NotAuthenticated("The account does not exist any more.")
        conversation = Conversation(self._tables.next_id("conversations"), owner, title, now)
        self._tables.conversations[conversation.id] = conversation
        return conversation

    def get(self, conversation_id: int, *, owner: int) -> Conversation:
        if not self._tables.owns(conversation_id, owner):
            raise ConversationNotFound
        return self._tables.conversations[conversation_id]

    def of(self, owner: int) -> list[Conversation]:
        mine = [each for each in self._tables.conversations.values() if each.user_id == owner]
        return sorted(mine, key=lambda each: (each.created_at, each.id), reverse=True)

    def rename(self, conversation_id: int, title: str, *, owner: int) -> None:
        conversation = self.get(conversation_id, owner=owner)
        self._tables.conversations[conversation_id] = replace(conversation, title=title)

    def delete(self, conversation_id: int, *, owner: int) -> None:
        self.get(conversation_id, owner=owner)
        del self._tables.conversations[conversation_id]
        tables = self._tables
        tables.messages = {k: v for k, v in tables.messages.items() if v.conversation_id != conversation_id}
        tables.answers = {k: v for k, v in tables.answers.items() if v.answer.conversation_id != conversation_id}
        tables.idempotency = {k: v for k, v in tables.idempotency.items() if v[2] != conversation_id}


@final
class _MemoryMessages(_Repository, Messages):
    def add(self, conversation_id: int, role: Role, content: str, now: datetime, *, owner: int) -> Message:
        if not self._tables.owns(conversation_id, owner):
            raise ConversationNotFound
        return _append(self._tables, conversation_id, role, content, now)

    def of(self, conversation_id: int, *, owner: int) -> list[Message]:
        if not self._tables.owns(conversation_id, owner):
            return []
        return [each for each in self._tables.messages.values() if each.conversation_id == conversation_id]

    def system(self, conversation_id: int, *, owner: int) -> Message | None:
        return next((each for each in self.of(conversation_id, owner=owner) if each.role is Role.SYSTEM), None)

    def count(self, conversation_id: int, *, owner: int, up_to: int) -> int:
        said = self.of(conversation_id, owner=owner)
        return sum(message.id <= up_to and message.role is not Role.SYSTEM for message in said)

    def newest_first(self, conversation_id: int, *, owner: int, up_to: int | None = None) -> Iterator[Message]:
        said = self.of(conversation_id, owner=owner)
        return (message for message in reversed(said) if up_to is None or message.id <= up_to)


def _append(tables: _Tables, conversation_id: int, role: Role, content: str, now: datetime) -> Message:
    message = Message(tables.next_id("messages"), conversation_id, role, content, now)
    tables.messages[message.id] = message
    return message


@final
class _MemoryAnswers(_Repository, Answers):
    def begin(self, new: NewAnswer) -> Answer:
        tables = self._tables
        mine = [row for row in self._running() if tables.owns(row.answer.conversation_id, new.owner)]
        for row in mine:
            if row.answer.conversation_id == new.question.conversation_id:
                raise AnswerRunning(answer_id=row.answer.id)
        if len(mine) >= new.max_running:
            raise TooManyAnswers(retry_after=1)
        answer = Answer(
            tables.next_id("answers"),
            new.question.conversation_id,
            new.question.id,
            AnswerState.RUNNING,
            new.model,
            new.now,
            left_out=new.left_out,
        )
        tables.answers[answer.id] = _AnswerRow(answer, new, new.lease_until)
        return answer

    def checkpoint(
        self, appended: Sequence[Appended], running: Sequence[int], lease_until: datetime
    ) -> CheckpointResult:
        rows = self._tables.answers
        still = {row.answer.id for row in self._running()} & set(running)
        for answer_id in still:
            rows[answer_id] = replace(rows[answer_id], lease_until=lease_until)
        for piece in appended:
            if piece.answer_id in still:
                row = rows[piece.answer_id]
                rows[piece.answer_id] = replace(row, text=row.text[: piece.offset] + piece.text)
        return CheckpointResult(
            frozenset(still), frozenset(answer_id for answer_id in still if rows[answer_id].stopping)
        )

    def end(self, answer_id: int, outcome: Outcome, text: str, now: datetime) -> bool:
        row = self._tables.answers.get(answer_id)
        if row is None or row.answer.state is not AnswerState.RUNNING:
            return False
        message_id = None
        if text:
            for other in list(self._tables.answers.values()):
                if other.answer.question_id == row.answer.question_id and other.message_id is not None:
                    said = self._tables.messages.pop(other.message_id)
                    self._tables.answers[other.answer.id] = replace(other, text=said.content, message_id=None)
            message_id = _append(self._tables, row.answer.conversation_id, Role.BAIO, text, now).id
        usage = outcome.usage
        ended = replace(
            row.answer,
            state=outcome.state,
            finish_reason=outcome.finish_reason,
            model=outcome.model,
            prompt_tokens=usage.prompt_tokens if usage else None,
            completion_tokens=usage.completion_tokens if usage else None,
            reason=outcome.reason,
            ended_at=now,
            left_out=row.answer.left_out if outcome.left_out is None else outcome.left_out,
        )
        self._tables.answers[answer_id] = replace(
            row,
            answer=ended,
            text="",
            message_id=message_id,
            completion_estimate=estimated_tokens(text) if text else 0,
        )
        return True

    def end_expired(self, now: datetime, *, sparing: Collection[int]) -> list[int]:
        expired = [row for row in self._running() if row.lease_until < now and row.answer.id not in sparing]
        for row in expired:
            self.end(row.answer.id, Outcome(AnswerState.INTERRUPTED, reason="lost"), row.text, now)
        return [row.answer.id for row in expired]

    def ask_to_stop(self, conversation_id: int, *, owner: int) -> int:
        for row in self._running():
            if row.answer.conversation_id == conversation_id and self._tables.owns(conversation_id, owner):
                self._tables.answers[row.answer.id] = replace(row, stopping=True)
                return row.answer.id
        raise AnswerNotFound("Nothing is being answered in this conversation.")

    def newest(self, conversation_id: int, *, owner: int) -> Answer:
        answers = self.of(conversation_id, owner=owner)
        if not answers:
            raise AnswerNotFound
        return answers[-1]

    def of(self, conversation_id: int, *, owner: int) -> list[Answer]:
        if not self._tables.owns(conversation_id, owner):
            return []
        rows = self._tables.answers.values()
        return [row.answer for row in rows if row.answer.conversation_id == conversation_id]

    def get(self, answer_id: int, *, owner: int) -> Answer:
        row = self._tables.answers.get(answer_id)
        if row is None or not self._tables.owns(row.answer.conversation_id, owner):
            raise AnswerNotFound
        return row.answer

    def text(self, answer_id: int, offset: int, *, owner: int) -> str:
        row = self._tables.answers.get(answer_id)
        if row is None or not self._tables.owns(row.answer.conversation_id, owner):
            return ""
        message = self._tables.messages.get(row.message_id or 0)
        return (message.content if message else row.text)[offset:]

    def length(self, answer_id: int, *, owner: int) -> int:
        return len(self.text(answer_id, 0, owner=owner))

    def usage(self, owner: int, first: date, last: date) -> list[DayOfUsage]:
        found: dict[tuple[date, int, str], DayOfUsage] = {}
        for row in self._tables.answers.values():
            answer, day = row.answer, row.answer.started_at.date()
            estimated = answer.prompt_tokens is None or answer.completion_tokens is None
            mine = self._tables.owns(answer.conversation_id, owner) and first <= day <= last
            if not mine or (estimated and not row.completion_estimate):
                continue
            key = (day, row.new.provider_id, answer.requested_model)
            name = self._tables.providers[row.new.provider_id]
            before = found.get(key, DayOfUsage(day, name, answer.requested_model, 0, 0, 0, estimated=False))
            found[key] = replace(
                before,
                answers=before.answers + 1,
                prompt_tokens=before.prompt_tokens
                + (row.new.prompt_estimate if estimated else answer.prompt_tokens or 0),
                completion_tokens=before.completion_tokens
                + (row.completion_estimate if estimated else answer.completion_tokens or 0),
                estimated=before.estimated or estimated,
            )
        return [found[key] for key in sorted(found)]

    def _running(self) -> Iterable[_AnswerRow]:
        return [row for row in self._tables.answers.values() if row.answer.state is AnswerState.RUNNING]


@final
class _MemoryIdempotency(_Repository, Idempotency):
    def find(self, owner: int, key: str, fingerprint: bytes, since: datetime) -> IdempotencyRecord | None:
        kept = self._tables.idempotency.get((owner, key))
        if kept is None or kept[1].created_at < since:
            return None
        if kept[0] != fingerprint:
            raise IdempotencyKeyReused
        return kept[1]

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
        self._tables.idempotency[owner, key] = (fingerprint, IdempotencyRecord(result_id, now), conversation)

    def forget(self, before: datetime) -> None:
        kept = self._tables.idempotency.items()
        self._tables.idempotency = {key: value for key, value in kept if value[1].created_at >= before}


@final
class _MemoryApiKeys(_Repository, ApiKeys):
    def add(self, owner: int, provider_id: int, nickname: str, now: datetime) -> ApiKey:
        if owner not in self._tables.users:
            raise NotAuthenticated("The account does not exist any more.")
        if any(key.nickname == nickname for key in self.of(owner)):
            raise InvalidInput.of(FieldError("nickname", "is taken already by another of your keys"))
        key = ApiKey(self._tables.next_id("api_keys"), owner, provider_id, nickname, b"", now)
        self._tables.api_keys[key.id] = key
        return key

    def seal(self, key_id: int, sealed: bytes, *, owner: int) -> None:
        key = self._tables.api_keys.get(key_id)
        if key is None or key.user_id != owner:
            raise ApiKeyNotFound
        self._tables.api_keys[key_id] = replace(key, sealed=sealed)

    def get(self, nickname: str, *, owner: int) -> ApiKey:
        for key in self.of(owner):
            if key.nickname == nickname:
                return key
        raise ApiKeyNotFound

    def of(self, owner: int) -> list[ApiKey]:
        return [key for key in self._tables.api_keys.values() if key.user_id == owner]

    def rename(self, nickname: str, new: str, *, owner: int) -> None:
        key = self.get(nickname, owner=owner)
        if any(other.nickname == new and other.id != key.id for other in self.of(owner)):
            raise InvalidInput.of(FieldError("new_nickname", "is taken already by another of your keys"))
        self._tables.api_keys[key.id] = replace(key, nickname=new)

    def delete(self, nickname: str, *, owner: int) -> list[int]:
        key = self.get(nickname, owner=owner)
        del self._tables.api_keys[key.id]
        rows = self._tables.answers.values()
        using = [row for row in rows if row.new.api_key_id == key.id and row.answer.state is AnswerState.RUNNING]
        for row in using:
            self._tables.answers[row.answer.id] = replace(row, stopping=True)
        return [row.answer.id for row in using]

    def after(self, key_id: int, limit: int) -> list[ApiKey]:
        keys = self._tables.api_keys
        return [keys[each] for each in sorted(keys) if each > key_id][:limit]


@final
class _MemoryCatalogue(_Repository, Catalogue):
    def providers(self, *, retired: bool = False) -> list[Provider]:
        return [self._provider(provider_id, retired=retired) for provider_id in self._tables.providers]

    def get(self, provider_id: int) -> Provider:
        return self._provider(provider_id, retired=True)

    def add_provider(self, name: str) -> Provider:
        provider = Provider(self._tables.next_id("providers"), name, ())
        self._tables.providers[provider.id] = name
        return provider

    def add_model(self, provider_id: int, spec: ModelSpec) -> Model:
        model = Model.of(self._tables.next_id("models"), provider_id, spec)
        self._tables.models[model.id] = model
        return model

    def save_model(self, model: Model) -> None:
        self._tables.models[model.id] = model

    def _provider(self, provider_id: int, *, retired: bool) -> Provider:
        models = (
            model
            for model in self._tables.models.values()
            if model.provider_id == provider_id and (retired or not model.retired)
        )
        return Provider(provider_id, self._tables.providers[provider_id], tuple(models))


def _values(entity: Any) -> dict[str, Any]:  # noqa: ANN401 - any dataclass, whose fields are of any type
    return {each.name: getattr(entity, each.name) for each in fields(entity)}
