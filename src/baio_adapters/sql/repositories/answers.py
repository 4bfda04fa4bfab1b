"""The records of answers, and their text while it grows."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, final

from sqlalchemy import (
    Executable,
    Text,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal,
    literal_column,
    select,
    text,
    update,
)

from baio_adapters.sql.repositories.repository import ID, OWNER, Repository, columns
from baio_adapters.sql.tables import answer_parts, answers, messages, providers
from baio_domain.entities import Answer, AnswerState, DayOfUsage, Outcome, Role
from baio_domain.errors import AnswerNotFound, AnswerRunning, TooManyAnswers
from baio_domain.ports import AnswerPart, Answers, CheckpointResult, NewAnswer
from baio_domain.prompts import estimated_completion_tokens

MIN_LEASE_EXTENSION = timedelta(seconds=5)
"""A lease is written again only when it would gain more than this: not a row per answer and second."""


# Written out, not as a parameter: a partial index serves only a condition that is known when the query is planned.
RUNNING = answers.c.state == literal_column(f"'{AnswerState.RUNNING.value}'")
_OWNED = answers.c.user_id == OWNER
STOP_ALL_OF_OWNER = update(answers).where(_OWNED, RUNNING).values(stopping=True)
RUNNING_OF_OWNER = select(answers.c.id, answers.c.conversation_id, answers.c.slot).where(_OWNED, RUNNING)
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
            still_running=select(answers.c.id, answers.c.stopping).where(listed, RUNNING),
            prolong=update(answers)
            .where(listed, RUNNING, answers.c.lease_until < bindparam("older"))
            .values(lease_until=bindparam("lease")),
            # Changes nothing, but is in the way of an end at the same time: one of the two then runs again and sees
            # the other.
            touch=update(answers).where(listed, RUNNING).values(stopping=answers.c.stopping),
            # A checkpoint of which nobody knows whether it was stored is stored again, and may have grown.
            append=text(
                f'INSERT INTO answer_parts (answer_id, "offset", text) {_PIECES[dialect]}'
                ' ON CONFLICT (answer_id, "offset") DO UPDATE SET text = excluded.text'
            ),
        )


_CHECKPOINT = {dialect: _Checkpoint.of(dialect) for dialect in _LISTED}
_OLD = answers.alias()
_KEEP_EARLIER_ANSWER = (
    insert(answer_parts)
    .from_select(
        ["answer_id", "offset", "text"],
        select(_OLD.c.id, literal(0), messages.c.content)
        .join(messages, messages.c.id == _OLD.c.message_id)
        .join(answers, answers.c.question_id == _OLD.c.question_id)
        .where(answers.c.id == ID, RUNNING),
    )
    .returning(answer_parts.c.answer_id)
)
_FORGET_EARLIER_ANSWER = delete(messages).where(
    messages.c.id.in_(
        select(_OLD.c.message_id)
        .join(answers, answers.c.question_id == _OLD.c.question_id)
        .where(answers.c.id == ID, RUNNING, _OLD.c.message_id.is_not(None))
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
        ).where(answers.c.id == ID, RUNNING),
    )
    .returning(messages.c.id)
)
_END = (
    update(answers)
    .where(answers.c.id == ID, RUNNING)
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
_FORGET_PARTS = delete(answer_parts).where(answer_parts.c.answer_id == ID)
_PARTS = select(answer_parts.c.text).where(answer_parts.c.answer_id == ID).order_by(answer_parts.c.offset)
_EXPIRED = select(answers.c.id).where(RUNNING, answers.c.lease_until < bindparam("now"))
_ANSWER = columns(answers, "id", "left_out")
_ANSWERS = select(*_ANSWER).where(answers.c.conversation_id == ID, _OWNED).order_by(answers.c.id)
_NEWEST_ANSWER = select(*_ANSWER).where(answers.c.conversation_id == ID, _OWNED).order_by(answers.c.id.desc()).limit(1)
_ANSWER_BY_ID = select(*_ANSWER).where(answers.c.id == ID, _OWNED)
_ASK_TO_STOP = (
    update(answers)
    .where(answers.c.conversation_id == ID, _OWNED, RUNNING)
    .values(stopping=True)
    .returning(answers.c.id)
)
_ANSWERED = answers.join(messages, messages.c.id == answers.c.message_id)
_TEXT = (
    select(func.substr(messages.c.content, bindparam("start", type_=answer_parts.c.offset.type)))
    .select_from(_ANSWERED)
    .where(answers.c.id == ID, _OWNED)
)
_LENGTH = select(func.length(messages.c.content)).select_from(_ANSWERED).where(answers.c.id == ID, _OWNED)
_PART_END = answer_parts.c.offset + func.length(answer_parts.c.text)
_PARTS_FROM = (
    select(answer_parts.c.offset, answer_parts.c.text)
    .join(answers)
    .where(answer_parts.c.answer_id == ID, _OWNED, bindparam("start") < _PART_END)
    .order_by(answer_parts.c.offset)
)
_PARTS_LENGTH = (
    select(func.max(_PART_END)).select_from(answer_parts.join(answers)).where(answer_parts.c.answer_id == ID, _OWNED)
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


@final
class SqlAnswers(Repository, Answers):
    """Records of answers in ``answers``, the growing text in ``answer_parts``."""

    def begin(self, new: NewAnswer) -> Answer:
        """Insert into a free slot; where two race for the conversation or the slot, a unique index decides."""
        running = self._connection.execute(RUNNING_OF_OWNER, {"owner": new.owner}).fetchall()
        for answer_id, conversation_id, _ in running:
            if conversation_id == new.question.conversation_id:
                raise AnswerRunning(answer_id=answer_id)
        taken = {slot for _, _, slot in running}
        if len(taken) >= new.max_running:
            raise TooManyAnswers(retry_after=1)
        slot = next(slot for slot in range(1, new.max_running + 1) if slot not in taken)
        answer_id = self._connection.execute(
            _BEGIN,
            {
                "conversation_id": new.question.conversation_id,
                "question_id": new.question.id,
                "state": AnswerState.RUNNING.value,
                "requested_model": new.model,
                "started_at": new.now,
                "provider_id": new.provider_id,
                "lease_until": new.lease_until,
                "stopping": False,
                "user_id": new.owner,
                "slot": slot,
                "left_out": new.left_out,
                "prompt_estimate": new.prompt_estimate,
                "api_key_id": new.api_key_id,
            },
        ).scalar_one()
        thread, question = new.question.conversation_id, new.question.id
        state = AnswerState.RUNNING
        return Answer(answer_id, thread, question, state, new.model, new.now, left_out=new.left_out)

    def checkpoint(
        self, parts: Sequence[AnswerPart], running: Sequence[int], lease_until: datetime
    ) -> CheckpointResult:
        """Insert the new pieces of all answers at once."""
        dialect = self._connection.dialect.name
        statements = _CHECKPOINT[dialect]
        rows = self._connection.execute(statements.still_running, {"ids": json.dumps(list(running))}).fetchall()
        standing = CheckpointResult(frozenset(row[0] for row in rows), frozenset(row[0] for row in rows if row[1]))
        if rows:
            ids = json.dumps(sorted(standing.running))
            values = {"ids": ids, "older": lease_until - MIN_LEASE_EXTENSION, "lease": lease_until}
            self._connection.execute(statements.prolong, values)
        pieces = [(piece.answer_id, piece.offset, piece.text) for piece in parts if piece.answer_id in standing.running]
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
            if self._connection.execute(_KEEP_EARLIER_ANSWER, {"the_id": answer_id}).first() is not None:
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
                "new_completion_estimate": estimated_completion_tokens(text),
                "new_left_out": outcome.left_out,
            },
        ).rowcount
        self._connection.execute(_FORGET_PARTS, {"the_id": answer_id})
        return bool(ended)

    def end_expired(self, now: datetime, *, except_ids: Collection[int]) -> list[int]:
        """Find them by the index over leases, and end each with its parts."""
        rows = self._connection.execute(_EXPIRED, {"now": now}).fetchall()
        expired = sorted(answer_id for (answer_id,) in rows if answer_id not in except_ids)
        for answer_id in expired:
            parts = self._connection.execute(_PARTS, {"the_id": answer_id}).scalars()
            self.end(answer_id, Outcome(AnswerState.INTERRUPTED, reason="lost"), "".join(parts), now)
        return expired

    def request_stop(self, conversation_id: int, *, owner: int) -> int:
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
