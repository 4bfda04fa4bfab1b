"""The records of tools' calls."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import datetime
from typing import final

from baio_adapters.memory.repository import Repository
from baio_domain.entities import AnswerState, CallState, EndedCall, PastCall, ToolCall
from baio_domain.errors import AnswerNotFound, ConversationNotFound, ToolCallNotFound
from baio_domain.ports import PAGE_ROWS, NewToolCall, ToolCalls


@final
class MemoryToolCalls(Repository, ToolCalls):
    """Calls in ``Tables.tool_calls``."""

    def begin(self, new: NewToolCall) -> ToolCall:
        tables, conversation_id = self._tables, new.conversation_id
        if new.answer_id is not None:
            row = tables.answers.get(new.answer_id)
            if row is None or row.answer.state is not AnswerState.RUNNING or row.new.owner != new.owner:
                raise AnswerNotFound
            conversation_id = row.answer.conversation_id
        tables.user(new.owner)
        if conversation_id is not None and not tables.owns(conversation_id, new.owner):
            raise ConversationNotFound
        call = ToolCall(
            tables.next_id("tool_calls"),
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
        self._store(call, call.stored_bytes)
        return call

    def end(self, call: ToolCall, ended: EndedCall, now: datetime) -> bool:
        stored = self._tables.tool_calls.get(call.id)
        if stored is None or stored.state is not CallState.RUNNING:
            return False
        after = ended.of(stored, now)
        self._store(after, after.stored_bytes - stored.stored_bytes)
        return True

    def note_quoted(self, call_ids: Collection[int]) -> None:
        for call_id in self._tables.tool_calls.keys() & call_ids:
            self._tables.tool_calls[call_id] = replace(self._tables.tool_calls[call_id], quoted=True)

    def get(self, call_id: int, *, owner: int) -> ToolCall:
        call = self._tables.tool_calls.get(call_id)
        if call is None or call.user_id != owner:
            raise ToolCallNotFound
        return call

    def page(
        self,
        *,
        owner: int,
        conversation_id: int | None = None,
        answer_id: int | None = None,
        after: int = 0,
        size: int,
    ) -> list[ToolCall]:
        found: list[ToolCall] = []
        for call in self._tables.tool_calls.values():
            asked = call.conversation_id == conversation_id if answer_id is None else call.answer_id == answer_id
            if asked and call.user_id == owner and call.id > after and size > 0 and len(found) < PAGE_ROWS:
                found.append(call)
                size -= call.stored_bytes
        return found

    def past(self, conversation_id: int, *, owner: int, up_to: int) -> Iterator[PastCall]:
        for call in self._newest_first(conversation_id, owner):
            message_id = None if call.answer_id is None else self._tables.answers[call.answer_id].message_id
            if message_id is not None and message_id <= up_to:
                yield PastCall(
                    call.id,
                    message_id,
                    call.round,
                    call.tool,
                    call.raw_arguments,
                    call.state,
                    call.shown,
                    call.offset,
                    call.length,
                )

    def results(self, conversation_id: int, *, owner: int) -> Iterator[tuple[int, str]]:
        for call in self._newest_first(conversation_id, owner):
            if call.state is CallState.DONE and call.result is not None:
                yield call.id, call.result

    def delete(self, call_id: int, *, owner: int) -> None:
        call = self.get(call_id, owner=owner)
        if call.conversation_id is not None:
            raise ToolCallNotFound
        del self._tables.tool_calls[call_id]

    def _newest_first(self, conversation_id: int, owner: int) -> Iterator[ToolCall]:
        calls = reversed(self._tables.tool_calls.values())
        return (call for call in calls if call.conversation_id == conversation_id and call.user_id == owner)

    def _store(self, call: ToolCall, more: int) -> None:
        self._tables.tool_calls[call.id] = call
        if call.conversation_id is not None:
            self._tables.count_bytes(call.conversation_id, more)
