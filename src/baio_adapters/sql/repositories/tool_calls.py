"""The records of tools' calls."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, final

from sqlalchemy import bindparam, delete, func, insert, literal_column, select, update

from baio_adapters.sql.repositories.answers import IS_RUNNING
from baio_adapters.sql.repositories.repository import ID, OWNER, Repository, begin_deletion, columns, in_json
from baio_adapters.sql.tables import answers, conversations, tool_calls, users
from baio_domain.entities import CallInput, CallState, EndedCall, InputOrigin, InputSource, PastCall, ToolCall
from baio_domain.errors import AccountNotFound, AnswerNotFound, ConversationNotFound, ToolCallNotFound
from baio_domain.ports import PAGE_ROWS, NewToolCall, ToolCalls

CALLS_FETCHED = 32
"""Calls that are fetched at once for a prompt."""

RESULTS_FETCHED = 4
"""Results that are fetched at once: few, because each can be long."""

_OWNED = tool_calls.c.user_id == OWNER
_CALL_RUNS = tool_calls.c.state == literal_column(f"'{CallState.RUNNING.value}'")
# Changes nothing, but conflicts with a transaction that ends the answer at the same time: one of the two is run again
# and sees the other's changes, so that no call runs on after its answer.
_TOUCH_ANSWER = (
    update(answers)
    .where(answers.c.id == ID, answers.c.user_id == OWNER, IS_RUNNING)
    .values(stopping=answers.c.stopping)
    .returning(answers.c.conversation_id)
)
_COUNT_FOR_CONVERSATION = (
    update(conversations)
    .where(conversations.c.id == ID, conversations.c.user_id == OWNER)
    .values(stored_bytes=conversations.c.stored_bytes + bindparam("more"))
)
_COUNT_FOR_USER = update(users).where(users.c.id == OWNER).values(stored_bytes=users.c.stored_bytes + bindparam("more"))
_ADD = insert(tool_calls).returning(tool_calls.c.id)
_ENDED = ("state", "arguments", "inputs", "result", "result_sha256", "shown", "error", "line", "length")
_END = (
    update(tool_calls)
    .where(tool_calls.c.id == ID, _CALL_RUNS)
    .values({name: bindparam(f"new_{name}") for name in (*_ENDED, "ended_at", "stored_bytes")})
)
_NOTE_QUOTED = {
    dialect: update(tool_calls).where(listed).values(quoted=True)
    for dialect, listed in in_json(tool_calls.c.id, "BIGINT").items()
}
_COLUMNS = columns(tool_calls, "id", "ended_at")
_BY_ID = select(*_COLUMNS).where(tool_calls.c.id == ID, _OWNED)
_AFTER = (
    select(*_COLUMNS).where(_OWNED, tool_calls.c.id > bindparam("after")).order_by(tool_calls.c.id).limit(PAGE_ROWS)
)
_PAST = (
    select(
        tool_calls.c.id,
        answers.c.message_id,
        *(tool_calls.c[name] for name in ("round", "tool", "raw_arguments", "state", "shown", "offset", "length")),
    )
    .join(answers, answers.c.id == tool_calls.c.answer_id)
    .where(
        tool_calls.c.conversation_id == ID,
        _OWNED,
        tool_calls.c.id < bindparam("before"),
        answers.c.message_id <= bindparam("last"),
    )
    .order_by(tool_calls.c.id.desc())
    .limit(CALLS_FETCHED)
)
_RESULTS = (
    select(tool_calls.c.id, tool_calls.c.result)
    .where(
        tool_calls.c.conversation_id == ID,
        _OWNED,
        tool_calls.c.id < bindparam("before"),
        tool_calls.c.state == CallState.DONE.value,
    )
    .order_by(tool_calls.c.id.desc())
    .limit(RESULTS_FETCHED)
)
_DELETE = (
    delete(tool_calls)
    .where(tool_calls.c.id == ID, _OWNED, tool_calls.c.conversation_id.is_(None))
    .returning(tool_calls.c.stored_bytes)
)


def _pages(condition: Any) -> dict[str, Any]:  # noqa: ANN401 - a condition of SQLAlchemy
    """By dialect, the calls under this condition. SQLite hands out one row at a time; PostgreSQL sends all at once."""
    rows = _AFTER.where(condition)
    before = func.sum(tool_calls.c.stored_bytes).over(order_by=tool_calls.c.id) - tool_calls.c.stored_bytes
    sized = rows.add_columns(before.label("before")).subquery()
    within = select(*(sized.c[each.name] for each in _COLUMNS)).where(sized.c.before < bindparam("size"))
    return {"sqlite": rows.add_columns(tool_calls.c.stored_bytes), "postgresql": within.order_by(sized.c.id)}


_OF_ANSWER = _pages(tool_calls.c.answer_id == ID)
_OF_CONVERSATION = _pages(tool_calls.c.conversation_id == ID)
_OF_USER = _pages(tool_calls.c.conversation_id.is_(None))


@final
class SqlToolCalls(Repository, ToolCalls):
    """Calls in ``tool_calls``. Their bytes are counted in the conversation or the account that they belong to."""

    def begin(self, new: NewToolCall) -> ToolCall:
        """Touch the answer if there is one, count the bytes, and insert."""
        conversation_id = new.conversation_id
        if new.answer_id is not None:
            values = {"id_": new.answer_id, "owner": new.owner}
            conversation_id = self._connection.execute(_TOUCH_ANSWER, values).scalar()
            if conversation_id is None:
                raise AnswerNotFound
        call = ToolCall(
            0,
            new.owner,
            conversation_id,
            new.answer_id,
            new.round,
            new.tool,
            new.version,
            new.library,
            new.definition,
            new.raw_arguments,
            new.offset,
            new.now,
        )
        if not self._count(call, call.stored_bytes):
            raise AccountNotFound if conversation_id is None else ConversationNotFound
        row = {each.name: getattr(call, each.name) for each in _COLUMNS[1:]}
        row |= {"state": call.state.value, "inputs": "[]", "stored_bytes": call.stored_bytes}
        return replace(call, id=self._connection.execute(_ADD, row).scalar_one())

    def end(self, call: ToolCall, ended: EndedCall, now: datetime) -> bool:
        """Update it if it runs, and count what came to it."""
        after = ended.of(call, now)
        values = {f"new_{name}": getattr(ended, name) for name in _ENDED}
        values |= {
            "id_": call.id,
            "new_state": ended.state.value,
            "new_inputs": json.dumps([asdict(each) for each in ended.inputs]),
            "new_ended_at": now,
            "new_stored_bytes": after.stored_bytes,
        }
        if not self._connection.execute(_END, values).rowcount:
            return False
        self._count(call, after.stored_bytes - call.stored_bytes)
        return True

    def note_quoted(self, call_ids: Collection[int]) -> None:
        """Update all of them in one statement."""
        if call_ids:
            statement = _NOTE_QUOTED[self._connection.dialect.name]
            self._connection.execute(statement, {"listed": json.dumps(sorted(call_ids))})

    def get(self, call_id: int, *, owner: int) -> ToolCall:
        """Read by id and owner."""
        row = self._connection.execute(_BY_ID, {"id_": call_id, "owner": owner}).first()
        if row is None:
            raise ToolCallNotFound
        return _call(row)

    def page(
        self,
        *,
        owner: int,
        conversation_id: int | None = None,
        answer_id: int | None = None,
        after: int = 0,
        size: int,
    ) -> list[ToolCall]:
        """Fetch one by one until there is enough."""
        statements, id_ = _OF_USER, 0
        if conversation_id is not None:
            statements, id_ = _OF_CONVERSATION, conversation_id
        if answer_id is not None:
            statements, id_ = _OF_ANSWER, answer_id
        found = []
        values = {"id_": id_, "owner": owner, "after": after, "size": size}
        with self._connection.execute(statements[self._connection.dialect.name], values) as result:
            while size > 0 and (row := result.fetchone()) is not None:
                found.append(_call(row))
                size -= found[-1].stored_bytes
        return found

    def past(self, conversation_id: int, *, owner: int, up_to: int) -> Iterator[PastCall]:
        """Read page by page."""
        values: dict[str, object] = {"id_": conversation_id, "owner": owner, "last": up_to}
        for row in self._newest_first(_PAST, values, CALLS_FETCHED):
            yield replace(PastCall(*row), state=CallState(row[5]))

    def results(self, conversation_id: int, *, owner: int) -> Iterator[tuple[int, str]]:
        """Read page by page."""
        values: dict[str, object] = {"id_": conversation_id, "owner": owner}
        for call_id, result in self._newest_first(_RESULTS, values, RESULTS_FETCHED):
            yield int(call_id), str(result)

    def delete(self, call_id: int, *, owner: int) -> None:
        """Delete by id and owner, and count what is gone."""
        begin_deletion(self._connection)
        size = self._connection.execute(_DELETE, {"id_": call_id, "owner": owner}).scalar()
        if size is None:
            raise ToolCallNotFound
        self._connection.execute(_COUNT_FOR_USER, {"owner": owner, "more": -size})

    def _count(self, call: ToolCall, more: int) -> bool:
        if call.conversation_id is None:
            counted = self._connection.execute(_COUNT_FOR_USER, {"owner": call.user_id, "more": more})
        else:
            values = {"id_": call.conversation_id, "owner": call.user_id, "more": more}
            counted = self._connection.execute(_COUNT_FOR_CONVERSATION, values)
        return bool(counted.rowcount)

    def _newest_first(self, statement: Any, values: dict[str, object], fetched: int) -> Iterator[Sequence[Any]]:  # noqa: ANN401 - a SELECT
        before = 2**63 - 1
        while True:
            rows = self._connection.execute(statement, {**values, "before": before}).fetchall()
            yield from rows
            if len(rows) < fetched:
                return
            before = rows[-1][0]


def _call(row: Sequence[Any]) -> ToolCall:
    values = dict(zip((each.name for each in _COLUMNS), row, strict=False))
    values["state"] = CallState(values["state"])
    values["inputs"] = tuple(map(_input, json.loads(values["inputs"])))
    return ToolCall(**values)


def _input(stored: dict[str, Any]) -> CallInput:
    origin = stored["origin"]
    return CallInput(
        **{
            **stored,
            "cleaned": tuple(stored["cleaned"]),
            "origin": InputOrigin(**{**origin, "source": InputSource(origin["source"])}),
        }
    )
