"""The records of answers, and their text while it grows."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, final

from sqlalchemy import (
    ColumnElement,
    Executable,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    literal_column,
    select,
    text,
    union_all,
    update,
)

from baio_adapters.sql.repositories.indexed_texts import index_answer
from baio_adapters.sql.repositories.ledger import ADD_TO_DAY, INTO_DAY, SqlLedger
from baio_adapters.sql.repositories.repository import ID, OWNER, Repository, columns, in_json
from baio_adapters.sql.tables import answer_parts, answers, conversations, messages, tool_calls
from baio_domain.entities import (
    RECORD_BYTES,
    Answer,
    AnswerState,
    CallState,
    Outcome,
    Role,
    Usage,
    UsedSettings,
    UsedTokens,
    stored_size,
)
from baio_domain.errors import AnswerNotFound, AnswerRunning, TooManyAnswers
from baio_domain.ports import PAGE_ROWS, AnswerPart, Answers, CheckpointResult, NewAnswer
from baio_domain.prompts import estimated_completion_tokens
from baio_domain.tool_records import CANCELLED

MIN_LEASE_EXTENSION = timedelta(seconds=5)
"""A lease is extended only if it gains more than this, so that not every checkpoint writes every row."""


# A literal, not a parameter: a partial index is used only if its condition is known when the query is planned.
RUNNING: ColumnElement[str] = literal_column(f"'{AnswerState.RUNNING.value}'")
IS_RUNNING = answers.c.state == RUNNING
_OWNED = answers.c.user_id == OWNER
STOP_RUNNING_ANSWERS = update(answers).where(_OWNED, IS_RUNNING).values(stopping=True)
SELECT_RUNNING_ANSWERS = select(answers.c.id).where(_OWNED, IS_RUNNING)
# The index on slots has all that these read; no row of the table is read.
_SLOTS = (
    select(func.count().label("count"), func.coalesce(func.max(answers.c.slot), 0).label("highest"))
    .where(_OWNED, IS_RUNNING)
    .subquery()
)
_RUNNING_HERE = select(answers.c.id).where(answers.c.conversation_id == ID, _OWNED, IS_RUNNING)
_NEXT = answers.alias()
_IS_TAKEN = exists().where(_NEXT.c.user_id == OWNER, _NEXT.c.state == RUNNING)
_LOWEST_FREE_SLOT = case(
    (~_IS_TAKEN.where(_NEXT.c.slot == 1), 1),
    else_=select(answers.c.slot + 1)
    .where(_OWNED, IS_RUNNING, ~_IS_TAKEN.where(_NEXT.c.slot == answers.c.slot + 1))
    .order_by(answers.c.slot)
    .limit(1)
    .scalar_subquery(),
)
_GIVEN = (
    "conversation_id", "question_id", "state", "requested_model", "started_at", "provider_id", "lease_until",
    "stopping", "user_id", "left_out", "prompt_estimate", "api_key_id", "worker", "settings", "unused_parameters",
)  # fmt: skip
# The slot above the highest that is taken, or the lowest free one where that would be above the limit.
_ADD_ANSWER = (
    insert(answers)
    .from_select(
        [*_GIVEN, "slot"],
        select(
            *(bindparam(f"new_{name}", type_=answers.c[name].type) for name in _GIVEN),
            case((_SLOTS.c.highest < bindparam("limit"), _SLOTS.c.highest + 1), else_=_LOWEST_FREE_SLOT),
        ).where(_SLOTS.c.count < bindparam("limit"), ~_RUNNING_HERE.exists()),
    )
    .returning(answers.c.id)
)

# A checkpoint covers hundreds of answers.
_ID_IN_JSON = in_json(answers.c.id, "BIGINT")
_PARTS_IN_JSON = {
    "sqlite": "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')"
    " FROM json_each(:parts) WHERE true",
    "postgresql": "SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS INTEGER), value ->> 2"
    " FROM json_array_elements(CAST(:parts AS JSON))",
}


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """The statements of a checkpoint in one dialect."""

    still_running: Executable
    extend_leases: Executable
    touch: Executable
    append: Executable

    @classmethod
    def of(cls, dialect: str) -> "_Checkpoint":
        listed = _ID_IN_JSON[dialect]
        return cls(
            still_running=select(answers.c.id, answers.c.stopping).where(listed, IS_RUNNING),
            extend_leases=update(answers)
            .where(
                listed,
                IS_RUNNING,
                (answers.c.lease_until < bindparam("due"))
                | (answers.c.lease_until > bindparam("lease"))
                | answers.c.worker.is_distinct_from(bindparam("by", type_=answers.c.worker.type)),
            )
            .values(lease_until=bindparam("lease"), worker=bindparam("by")),
            # Changes nothing, but conflicts with a transaction that ends the answer at the same time: one of the two
            # is run again and sees the other's changes.
            touch=update(answers).where(listed, IS_RUNNING).values(stopping=answers.c.stopping),
            # After a lost connection, a checkpoint may be stored a second time, with more text.
            append=text(
                f'INSERT INTO answer_parts (answer_id, "offset", text) {_PARTS_IN_JSON[dialect]}'
                ' ON CONFLICT (answer_id, "offset") DO UPDATE SET text = excluded.text'
            ),
        )


_CHECKPOINT = {dialect: _Checkpoint.of(dialect) for dialect in _ID_IN_JSON}
_EARLIER = answers.alias()
_ITS_QUESTION = select(answers.c.question_id).where(answers.c.id == ID).scalar_subquery()
# Two statements of the end are needed only after an earlier answer, and only after a checkpoint.
_COUNT_ANSWER = (
    update(conversations)
    .where(conversations.c.id.in_(select(answers.c.conversation_id).where(answers.c.id == ID, IS_RUNNING)))
    .values(
        stored_bytes=conversations.c.stored_bytes
        + bindparam("more")
        + select(func.coalesce(func.length(answers.c.settings), 0)).where(answers.c.id == ID).scalar_subquery(),
        updated_at=bindparam("now"),
    )
    .returning(
        # SQLAlchemy names columns without their tables here, so each subquery reads one table.
        exists().where(_EARLIER.c.question_id == _ITS_QUESTION, _EARLIER.c.id != ID),
        exists().where(answer_parts.c.answer_id == ID),
    )
)
_KEEP_EARLIER_TEXT = (
    insert(answer_parts)
    .from_select(
        ["answer_id", "offset", "text"],
        select(_EARLIER.c.id, literal(0), messages.c.content)
        .join(messages, messages.c.id == _EARLIER.c.message_id)
        .join(answers, answers.c.question_id == _EARLIER.c.question_id)
        .where(answers.c.id == ID, IS_RUNNING),
    )
    .returning(answer_parts.c.answer_id)
)
_DELETE_EARLIER_MESSAGE = delete(messages).where(
    messages.c.id.in_(
        select(_EARLIER.c.message_id)
        .join(answers, answers.c.question_id == _EARLIER.c.question_id)
        .where(answers.c.id == ID, IS_RUNNING, _EARLIER.c.message_id.is_not(None))
    )
)
_ADD_MESSAGE = (
    insert(messages)
    .from_select(
        ["conversation_id", "role", "content", "created_at"],
        select(
            answers.c.conversation_id,
            literal(Role.BAIO.value),
            bindparam("content", type_=messages.c.content.type),
            bindparam("now", type_=messages.c.created_at.type),
        ).where(answers.c.id == ID, IS_RUNNING),
    )
    .returning(messages.c.id)
)
_CALL_RUNS = (tool_calls.c.answer_id == ID) & (tool_calls.c.state == literal_column(f"'{CallState.RUNNING.value}'"))
_END_ANSWER = (
    update(answers)
    .where(answers.c.id == ID, IS_RUNNING)
    .values(
        {
            name: bindparam(f"new_{name}")
            for name in (
                "state", "finish_reason", "model", "prompt_tokens", "completion_tokens", "reason", "ended_at",
                "message_id", "completion_estimate", "thinking_seconds", "thinking_tokens",
            )
        }
        | {
            "left_out": func.coalesce(bindparam("new_left_out"), answers.c.left_out),
            "unused_parameters": func.coalesce(bindparam("new_unused"), answers.c.unused_parameters),
        }
    )
    .returning(exists().where(_CALL_RUNS))
)  # fmt: skip
_CANCEL_CALLS = (
    update(tool_calls)
    .where(_CALL_RUNS)
    .values(
        state=CANCELLED.state.value,
        result=CANCELLED.result,
        result_sha256=CANCELLED.result_sha256,
        shown=CANCELLED.shown,
        error=CANCELLED.error,
        ended_at=bindparam("now", type_=tool_calls.c.ended_at.type),
    )
)
_END_UNSTORED = (
    delete(answers)
    .where(answers.c.id == ID, IS_RUNNING, answers.c.conversation_id.is_(None))
    .returning(
        answers.c.user_id,
        answers.c.started_at,
        answers.c.provider_id,
        answers.c.requested_model,
        answers.c.prompt_estimate,
    )
)
_DELETE_PARTS = delete(answer_parts).where(answer_parts.c.answer_id == ID)
_PARTS = select(answer_parts.c.text).where(answer_parts.c.answer_id == ID).order_by(answer_parts.c.offset)
# Two statements in one, so that each uses the index on leases.
_EXPIRED = union_all(
    select(answers.c.id, answers.c.worker).where(IS_RUNNING, answers.c.lease_until < bindparam("now")),
    select(answers.c.id, answers.c.worker).where(IS_RUNNING, answers.c.lease_until > bindparam("latest")),
)
# Numbers of workers begin with 1. With a lower bound, both databases read only the part of the index without nulls.
_WORKERS = select(answers.c.worker).where(IS_RUNNING, answers.c.worker > 0).distinct()
_OF_WORKERS = {
    dialect: select(answers.c.id).where(in_json(answers.c.worker, "BIGINT")[dialect], IS_RUNNING)
    for dialect in _ID_IN_JSON
}
_COLUMNS = columns(answers, "id", "thinking_tokens")
_ANSWERS = (
    select(*_COLUMNS)
    .where(answers.c.conversation_id == ID, _OWNED, answers.c.id > bindparam("after"))
    .order_by(answers.c.id)
    .limit(bindparam("limit"))
)
_SETTINGS = select(answers.c.id, answers.c.settings, answers.c.unused_parameters).where(
    answers.c.conversation_id == ID,
    _OWNED,
    answers.c.id.between(bindparam("first"), bindparam("last")),
    answers.c.settings.is_not(None) | answers.c.unused_parameters.is_not(None),
)
_OTHER = answers.alias()
_ITS_ANSWER = func.coalesce(
    select(func.max(_OTHER.c.id)).where(_OTHER.c.question_id == messages.c.id).scalar_subquery(),
    select(func.max(_OTHER.c.id)).where(_OTHER.c.message_id == messages.c.id).scalar_subquery(),
)
_ANSWERS_OF_MESSAGES = (
    select(messages.c.id, *_COLUMNS)
    .select_from(messages.join(answers, answers.c.id == _ITS_ANSWER))
    .where(messages.c.conversation_id == ID, messages.c.id.between(bindparam("first"), bindparam("last")), _OWNED)
)
_NEXT_WITH_PARTS = (
    select(answers.c.id)
    .where(
        answers.c.conversation_id == ID,
        _OWNED,
        answers.c.id > bindparam("after"),
        exists().where(answer_parts.c.answer_id == answers.c.id),
    )
    .order_by(answers.c.id)
    .limit(1)
)
_NEWEST_ANSWER = select(*_COLUMNS).where(answers.c.conversation_id == ID, _OWNED).order_by(answers.c.id.desc()).limit(1)
_ANSWER_BY_ID = select(*_COLUMNS).where(answers.c.id == ID, _OWNED)
_REQUEST_STOP = (
    update(answers)
    .where(answers.c.conversation_id == ID, _OWNED, IS_RUNNING)
    .values(stopping=True)
    .returning(answers.c.id)
)
_WITH_MESSAGE = answers.join(messages, messages.c.id == answers.c.message_id)
_MESSAGE_TEXT = (
    select(func.substr(messages.c.content, bindparam("start", type_=answer_parts.c.offset.type)))
    .select_from(_WITH_MESSAGE)
    .where(answers.c.id == ID, _OWNED)
)
_MESSAGE_LENGTH = select(func.length(messages.c.content)).select_from(_WITH_MESSAGE).where(answers.c.id == ID, _OWNED)
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

# In both databases, a time as text is in UTC and begins with the date.
_COUNT_USAGE = text(
    INTO_DAY  # noqa: S608 - all of it is constant
    + " SELECT user_id, substr(CAST(started_at AS TEXT), 1, 10), provider_id, requested_model, 1,"
    " coalesce(prompt_tokens, prompt_estimate, 0), coalesce(completion_tokens, completion_estimate), prompt_tokens IS"
    " NULL, CAST(:cached AS BIGINT)"
    " FROM answers WHERE id = :id_ AND provider_id IS NOT NULL"
    " AND (prompt_tokens IS NOT NULL OR completion_estimate > 0)" + ADD_TO_DAY
)


@final
class SqlAnswers(Repository, Answers):
    """Answers in ``answers``, the text of running ones in ``answer_parts``."""

    def begin(self, new: NewAnswer) -> Answer:
        """Insert with a free slot. If two transactions want one conversation or slot, a unique index rejects one."""
        question = new.question
        conversation_id = question.conversation_id if question else None
        answer_id = self._connection.execute(
            _ADD_ANSWER,
            {
                "owner": new.owner,
                "id_": conversation_id,
                "limit": new.max_running,
                "new_conversation_id": conversation_id,
                "new_question_id": question.id if question else None,
                "new_state": AnswerState.RUNNING.value,
                "new_requested_model": new.model,
                "new_started_at": new.now,
                "new_provider_id": new.provider_id,
                "new_lease_until": new.lease_until,
                "new_stopping": False,
                "new_user_id": new.owner,
                "new_left_out": new.left_out,
                "new_prompt_estimate": new.prompt_estimate,
                "new_api_key_id": new.api_key_id,
                "new_worker": new.worker,
                "new_settings": new.settings.text,
                "new_unused_parameters": _names(new.settings.left_out),
            },
        ).scalar()
        if answer_id is None:
            running = self._connection.execute(_RUNNING_HERE, {"id_": conversation_id, "owner": new.owner}).scalar()
            raise TooManyAnswers(retry_after=1) if running is None else AnswerRunning(answer_id=running)
        return Answer(
            answer_id,
            question.conversation_id if question else 0,
            question.id if question else 0,
            AnswerState.RUNNING,
            new.model,
            new.now,
            left_out=new.left_out,
        )

    def checkpoint(
        self, parts: Sequence[AnswerPart], running: Sequence[int], lease_until: datetime, worker: int | None = None
    ) -> CheckpointResult:
        """Insert the parts of all answers in one statement."""
        dialect = self._connection.dialect.name
        statements = _CHECKPOINT[dialect]
        rows = self._connection.execute(statements.still_running, {"listed": json.dumps(list(running))}).fetchall()
        result = CheckpointResult(frozenset(row[0] for row in rows), frozenset(row[0] for row in rows if row[1]))
        if rows:
            ids = json.dumps(sorted(result.running))
            values = {"listed": ids, "due": lease_until - MIN_LEASE_EXTENSION, "lease": lease_until, "by": worker}
            self._connection.execute(statements.extend_leases, values)
        new = [(part.answer_id, part.offset, part.text) for part in parts if part.answer_id in result.running]
        if new:
            if dialect == "postgresql":  # SQLite has one writer at a time
                self._connection.execute(statements.touch, {"listed": json.dumps(sorted(part[0] for part in new))})
            self._connection.execute(statements.append, {"parts": json.dumps(new)})
        return result

    def end(self, answer_id: int, outcome: Outcome, text: str, now: datetime) -> bool:
        """Count what is stored, insert the message and update the record, all only if it is still running."""
        counted = {"id_": answer_id, "more": RECORD_BYTES + (stored_size(text) if text else 0), "now": now}
        row = self._connection.execute(_COUNT_ANSWER, counted).first()
        if row is None:
            return self._end_unstored(answer_id, outcome, text)
        is_repeated, has_parts = row
        message_id = None
        if text:
            # The message leaves the conversation, but its text stays with its answer, for repeated requests.
            if is_repeated and self._connection.execute(_KEEP_EARLIER_TEXT, {"id_": answer_id}).first() is not None:
                self._connection.execute(_DELETE_EARLIER_MESSAGE, {"id_": answer_id})
            values = {"id_": answer_id, "content": text, "now": now}
            message_id = self._connection.execute(_ADD_MESSAGE, values).scalar_one()
        usage = outcome.usage
        call_runs = self._connection.execute(
            _END_ANSWER,
            {
                "id_": answer_id,
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
                "new_unused": _names(outcome.unused_parameters),
                "new_thinking_seconds": outcome.thinking_seconds,
                "new_thinking_tokens": usage.thinking_tokens if usage else None,
            },
        ).scalar_one()
        if text:
            index_answer(self._connection, text, answer_id)
        cached = (usage.cached_tokens if usage else None) or 0
        self._connection.execute(_COUNT_USAGE, {"id_": answer_id, "cached": cached})
        if has_parts:
            self._connection.execute(_DELETE_PARTS, {"id_": answer_id})
        if call_runs:
            self._connection.execute(_CANCEL_CALLS, {"id_": answer_id, "now": now})
        return True

    def end_expired(
        self, now: datetime, latest: datetime, *, except_ids: Collection[int], except_workers: Collection[int] = ()
    ) -> list[int]:
        """Find them by the index on leases."""
        rows = self._connection.execute(_EXPIRED, {"now": now, "latest": latest}).fetchall()
        expired = [id_ for id_, worker in rows if id_ not in except_ids and worker not in except_workers]
        return self._end_lost(expired, now)

    def workers(self) -> frozenset[int]:
        """Read only from the index on workers."""
        return frozenset(self._connection.execute(_WORKERS).scalars())

    def end_of_workers(self, workers: Collection[int], now: datetime, *, except_ids: Collection[int]) -> list[int]:
        """Find them by the index on workers."""
        statement = _OF_WORKERS[self._connection.dialect.name]
        found = self._connection.execute(statement, {"listed": json.dumps(sorted(workers))}).scalars()
        return self._end_lost([answer_id for answer_id in found if answer_id not in except_ids], now)

    def request_stop(self, conversation_id: int, *, owner: int) -> int:
        """Set the mark that its process reads with each checkpoint."""
        answer_id = self._connection.execute(_REQUEST_STOP, {"id_": conversation_id, "owner": owner}).scalar()
        if answer_id is None:
            raise AnswerNotFound("Nothing is being answered in this conversation.")
        return int(answer_id)

    def newest(self, conversation_id: int, *, owner: int) -> Answer:
        """Read the one with the highest id."""
        return self._one(_NEWEST_ANSWER, conversation_id, owner)

    def page(self, conversation_id: int, *, owner: int, after: int = 0, limit: int = PAGE_ROWS) -> list[Answer]:
        """Read in the order of ids."""
        values = {"id_": conversation_id, "owner": owner, "after": after, "limit": limit}
        return [_answer(row) for row in self._connection.execute(_ANSWERS, values).fetchall()]

    def settings(self, conversation_id: int, *, owner: int, first: int, last: int) -> dict[int, UsedSettings]:
        """Read by the index on conversations."""
        values = {"id_": conversation_id, "owner": owner, "first": first, "last": last}
        rows = self._connection.execute(_SETTINGS, values).fetchall()
        return {row[0]: UsedSettings.of(row[1], json.loads(row[2] or "[]")) for row in rows}

    def of_messages(self, conversation_id: int, *, owner: int, first: int, last: int) -> dict[int, Answer]:
        """Find the messages by conversation, and their answers by the indexes on questions and messages."""
        values = {"id_": conversation_id, "owner": owner, "first": first, "last": last}
        rows = self._connection.execute(_ANSWERS_OF_MESSAGES, values).fetchall()
        return {row[0]: _answer(row[1:]) for row in rows}

    def next_text(self, conversation_id: int, *, owner: int, after: int) -> tuple[int, str] | None:
        """Find the next answer with parts."""
        values = {"id_": conversation_id, "owner": owner, "after": after}
        answer_id = self._connection.execute(_NEXT_WITH_PARTS, values).scalar()
        return None if answer_id is None else (answer_id, self.text(answer_id, 0, owner=owner))

    def get(self, answer_id: int, *, owner: int) -> Answer:
        """Read by id and owner."""
        return self._one(_ANSWER_BY_ID, answer_id, owner)

    def text(self, answer_id: int, offset: int, *, owner: int) -> str:
        """Read the message or, if there is none, the parts that end after the offset."""
        values = {"id_": answer_id, "owner": owner}
        whole = self._connection.execute(_MESSAGE_TEXT, {**values, "start": offset + 1}).scalar()
        if whole is not None:
            return str(whole)
        parts = self._connection.execute(_PARTS_FROM, {**values, "start": offset}).fetchall()
        return "".join(text for _, text in parts)[offset - parts[0][0] :] if parts else ""

    def length(self, answer_id: int, *, owner: int) -> int:
        """Measure the message or, if there is none, the parts."""
        values = {"id_": answer_id, "owner": owner}
        return (
            self._connection.execute(_MESSAGE_LENGTH, values).scalar()
            or self._connection.execute(_PARTS_LENGTH, values).scalar()
            or 0
        )

    def _end_lost(self, ids: Collection[int], now: datetime) -> list[int]:
        """End each with its parts."""
        for answer_id in sorted(ids):
            parts = self._connection.execute(_PARTS, {"id_": answer_id}).scalars()
            self.end(answer_id, Outcome(AnswerState.INTERRUPTED, reason="lost"), "".join(parts), now)
        return sorted(ids)

    def _end_unstored(self, answer_id: int, outcome: Outcome, text: str) -> bool:
        """End an answer in no conversation: delete its record, and count its tokens."""
        row = self._connection.execute(_END_UNSTORED, {"id_": answer_id}).first()
        if row is None:
            return False
        usage, estimate = outcome.usage, Usage(row.prompt_estimate, estimated_completion_tokens(text))
        if usage or estimate.completion_tokens:
            day, model = row.started_at.date(), row.requested_model
            used = UsedTokens(row.user_id, day, row.provider_id, model, usage or estimate, estimated=usage is None)
            SqlLedger(self._connection).add(used)
        return True

    def _one(self, statement: Any, id_: int, owner: int) -> Answer:  # noqa: ANN401 - any SELECT of an answer
        row = self._connection.execute(statement, {"id_": id_, "owner": owner}).first()
        if row is None:
            raise AnswerNotFound
        return _answer(row)


def _names(names: Sequence[str] | None) -> str | None:
    return json.dumps(names) if names else None


def _answer(row: Sequence[Any]) -> Answer:
    answer_id, conversation_id, question_id, state, *rest = row
    return Answer(answer_id, conversation_id or 0, question_id or 0, AnswerState(state), *rest)
