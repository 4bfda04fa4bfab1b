"""The records of answers, and their text while it grows."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import final

from baio_adapters.memory.repository import Repository
from baio_adapters.memory.tables import AnswerRow
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
)
from baio_domain.errors import AnswerNotFound, AnswerRunning, TooManyAnswers
from baio_domain.ports import PAGE_ROWS, AnswerPart, Answers, CheckpointResult, NewAnswer
from baio_domain.prompts import estimated_completion_tokens
from baio_domain.tool_records import CANCELLED


@final
class MemoryAnswers(Repository, Answers):
    """Answers, with their growing text, in ``Tables.answers``."""

    def begin(self, new: NewAnswer) -> Answer:
        tables = self._tables
        mine, question = [row for row in self._running() if row.new.owner == new.owner], new.question
        for row in mine:
            if question and row.answer.conversation_id == question.conversation_id:
                raise AnswerRunning(answer_id=row.answer.id)
        if len(mine) >= new.max_running:
            raise TooManyAnswers(retry_after=1)
        answer = Answer(
            tables.next_id("answers"),
            question.conversation_id if question else 0,
            question.id if question else 0,
            AnswerState.RUNNING,
            new.model,
            new.now,
            left_out=new.left_out,
        )
        unused = new.settings.left_out
        tables.answers[answer.id] = AnswerRow(answer, new, new.lease_until, new.worker, unused_parameters=unused)
        return answer

    def checkpoint(
        self, parts: Sequence[AnswerPart], running: Sequence[int], lease_until: datetime, worker: int | None = None
    ) -> CheckpointResult:
        rows = self._tables.answers
        still = {row.answer.id for row in self._running()} & set(running)
        for answer_id in still:
            rows[answer_id] = replace(rows[answer_id], lease_until=lease_until, worker=worker)
        for part in parts:
            if part.answer_id in still:
                row = rows[part.answer_id]
                rows[part.answer_id] = replace(row, text=row.text[: part.offset] + part.text)
        return CheckpointResult(
            frozenset(still), frozenset(answer_id for answer_id in still if rows[answer_id].stopping)
        )

    def end(self, answer_id: int, outcome: Outcome, text: str, now: datetime) -> bool:
        row = self._tables.answers.get(answer_id)
        if row is None or row.answer.state is not AnswerState.RUNNING:
            return False
        if not row.answer.stored:
            del self._tables.answers[answer_id]
            self._count_usage(replace(row, completion_estimate=estimated_completion_tokens(text)), outcome.usage)
            return True
        used = (row.new.settings.text or "").encode()
        self._tables.count_bytes(row.answer.conversation_id, RECORD_BYTES + len(used))
        self._tables.note_activity(row.answer.conversation_id, now)
        message_id = None
        if text:
            for other in list(self._tables.answers.values()):
                if other.answer.question_id == row.answer.question_id and other.message_id is not None:
                    said = self._tables.messages.pop(other.message_id)
                    self._tables.answers[other.answer.id] = replace(other, text=said.content, message_id=None)
            message_id = self._tables.add_message(row.answer.conversation_id, Role.BAIO, text, now).id
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
            thinking_seconds=outcome.thinking_seconds,
            thinking_tokens=usage.thinking_tokens if usage else None,
        )
        estimate = estimated_completion_tokens(text)
        row = replace(row, answer=ended, text="", message_id=message_id, completion_estimate=estimate)
        if outcome.unused_parameters:
            row = replace(row, unused_parameters=outcome.unused_parameters)
        self._tables.answers[answer_id] = row
        self._count_usage(row, usage)
        for call in list(self._tables.tool_calls.values()):
            if call.answer_id == answer_id and call.state is CallState.RUNNING:
                self._tables.tool_calls[call.id] = CANCELLED.of(call, now)
        return True

    def end_expired(
        self, now: datetime, latest: datetime, *, except_ids: Collection[int], except_workers: Collection[int] = ()
    ) -> list[int]:
        expired = [
            row
            for row in self._running()
            if not now <= row.lease_until <= latest
            and row.answer.id not in except_ids
            and row.worker not in except_workers
        ]
        return self._end_lost(expired, now)

    def workers(self) -> frozenset[int]:
        return frozenset(row.worker for row in self._running() if row.worker is not None)

    def end_of_workers(self, workers: Collection[int], now: datetime, *, except_ids: Collection[int]) -> list[int]:
        lost = [row for row in self._running() if row.worker in workers and row.answer.id not in except_ids]
        return self._end_lost(lost, now)

    def request_stop(self, conversation_id: int, *, owner: int) -> int:
        for row in self._running():
            if row.answer.conversation_id == conversation_id and self._tables.owns(conversation_id, owner):
                self._tables.answers[row.answer.id] = replace(row, stopping=True)
                return row.answer.id
        raise AnswerNotFound("Nothing is being answered in this conversation.")

    def newest(self, conversation_id: int, *, owner: int) -> Answer:
        rows = self._rows_of(conversation_id, owner)
        if not rows:
            raise AnswerNotFound
        return rows[-1].answer

    def page(self, conversation_id: int, *, owner: int, after: int = 0, limit: int = PAGE_ROWS) -> list[Answer]:
        return [row.answer for row in self._rows_of(conversation_id, owner) if row.answer.id > after][:limit]

    def settings(self, conversation_id: int, *, owner: int, first: int, last: int) -> dict[int, UsedSettings]:
        rows = (row for row in self._rows_of(conversation_id, owner) if first <= row.answer.id <= last)
        found = {row.answer.id: replace(row.new.settings, left_out=row.unused_parameters) for row in rows}
        return {id_: used for id_, used in found.items() if used != UsedSettings()}

    def of_messages(self, conversation_id: int, *, owner: int, first: int, last: int) -> dict[int, Answer]:
        found: dict[int, Answer] = {}
        for row in self._rows_of(conversation_id, owner):
            found[row.answer.question_id] = row.answer  # the newest is the last
            if row.message_id is not None:
                found[row.message_id] = row.answer
        return {message_id: answer for message_id, answer in found.items() if first <= message_id <= last}

    def next_text(self, conversation_id: int, *, owner: int, after: int) -> tuple[int, str] | None:
        rows = self._rows_of(conversation_id, owner)
        return next(((row.answer.id, row.text) for row in rows if row.answer.id > after and row.text), None)

    def get(self, answer_id: int, *, owner: int) -> Answer:
        row = self._tables.answers.get(answer_id)
        if row is None or row.new.owner != owner:
            raise AnswerNotFound
        return row.answer

    def text(self, answer_id: int, offset: int, *, owner: int) -> str:
        row = self._tables.answers.get(answer_id)
        if row is None or row.new.owner != owner:
            return ""
        message = self._tables.messages.get(row.message_id or 0)
        return (message.content if message else row.text)[offset:]

    def length(self, answer_id: int, *, owner: int) -> int:
        return len(self.text(answer_id, 0, owner=owner))

    def _count_usage(self, row: AnswerRow, usage: Usage | None) -> None:
        answer, provider_id = row.answer, row.new.provider_id
        if provider_id is None or not (usage or row.completion_estimate):
            return
        counted = usage or Usage(row.new.prompt_estimate, row.completion_estimate)
        day, model = answer.started_at.date(), answer.requested_model
        self._tables.count_usage(UsedTokens(row.new.owner, day, provider_id, model, counted, estimated=usage is None))

    def _end_lost(self, rows: Sequence[AnswerRow], now: datetime) -> list[int]:
        for row in rows:
            self.end(row.answer.id, Outcome(AnswerState.INTERRUPTED, reason="lost"), row.text, now)
        return [row.answer.id for row in rows]

    def _rows_of(self, conversation_id: int, owner: int) -> list[AnswerRow]:
        if not self._tables.owns(conversation_id, owner):
            return []
        return [row for row in self._tables.answers.values() if row.answer.conversation_id == conversation_id]

    def _running(self) -> Iterable[AnswerRow]:
        return [row for row in self._tables.answers.values() if row.answer.state is AnswerState.RUNNING]
