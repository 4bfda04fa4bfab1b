"""Copies of conversations: the messages before some message, with the records of their answers and of tools' calls."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from baio_domain.answering import LEASE, outcome_of
from baio_domain.entities import (
    UNCHANGED,
    USUAL,
    Answer,
    CallInput,
    CallState,
    Conversation,
    EndedCall,
    InputSource,
    Message,
    Role,
    ToolCall,
    UsedSettings,
)
from baio_domain.errors import MessageNotFound
from baio_domain.pages import PAGE_SIZE
from baio_domain.ports import NewAnswer, NewToolCall, Transaction
from baio_domain.quotas import Quotas

AT_ONCE = 1_000_000
"""No limit of running answers: what is copied has ended."""

_CITED_CALL = re.compile(r"\[call (\d{1,18})\]")


@dataclass(frozen=True, slots=True)
class Copy:
    """A new conversation, and the last question that was copied into it; None if there is none."""

    conversation: Conversation
    question: Message | None


def message_of(tx: Transaction, conversation_id: int, message_id: int, *, owner: int) -> Message:
    """The message, or raise MessageNotFound."""
    # Nothing is before the first id, and a database can hold none that is lower.
    found = tx.messages.page(conversation_id, owner=owner, after=max(message_id, 1) - 1, size=1)
    if not found or found[0].id != message_id:
        raise MessageNotFound
    return found[0]


def copy_conversation(
    tx: Transaction,
    source: Conversation,
    *,
    end: Message | None,
    title: str,
    now: datetime,
    quotas: Quotas,
    with_end: bool = False,
) -> Copy:
    """Copy the messages before ``end``, or all of them, into a new conversation of the same owner.

    ``with_end`` says whether ``end`` is copied, too.

    - The system message and the settings are always copied. The copy of a temporary conversation is temporary.
    - The sequences of the conversation belong to the copy as well, and questions mention them as before.
    - Messages, answers and calls keep their times. Each answer that is a message is copied with its record and those of
      its calls. No provider was asked for the copy, so it counts for no usage.
    - An answer that is no message is left out: one that runs, was replaced, or has no text.
    - Calls that no answer made are copied if they began before ``end`` was written.
    - Where BAiO's text cites a call that is copied, the copy cites the call's copy. Questions stay as they are.

    Raises TooManyConversations or StorageFull.
    """
    quotas.check_conversations(tx, source.user_id)
    target = tx.conversations.add(source.user_id, title, now)
    if tx.retentions.get(source.id, owner=source.user_id).temporary:
        tx.retentions.make_temporary(target.id, owner=source.user_id)
    settings = tx.settings.opening(source.id, owner=source.user_id).settings
    if settings != UNCHANGED:
        tx.settings.save(target.id, settings, owner=source.user_id)
    copying = _Copying(tx, source, target.id)
    copying.copy_loose_calls(None if end is None else end.created_at)
    quotas.check_text(tx, source.user_id)
    last = None if end is None else end.id if with_end else end.id - 1
    for page in _pages(tx, source, last):
        copying.copy_messages(page)
        quotas.check_text(tx, source.user_id)  # as soon as it is clear, not after gigabytes
    copying.copy_sequences()
    tx.retentions.note_activity(target.id, now, owner=source.user_id)
    return Copy(target, copying.question)


def _pages(tx: Transaction, source: Conversation, last: int | None) -> Iterator[list[Message]]:
    after = 0
    while page := tx.messages.page(source.id, owner=source.user_id, after=after, size=PAGE_SIZE):
        yield [each for each in page if last is None or each.id <= last or each.role is Role.SYSTEM]
        after = page[-1].id
        if last is not None and after >= last:
            return


@dataclass(slots=True)
class _Copying:
    """What has been copied so far, as the ids of the copies by those of the originals."""

    tx: Transaction
    source: Conversation
    target: int
    question: Message | None = None
    answered: int = 0
    """The id of the original of ``question``."""
    messages: dict[int, int] = field(default_factory=dict)
    questions: dict[int, Message] = field(default_factory=dict)
    calls: dict[int, int] = field(default_factory=dict)

    def copy_messages(self, page: list[Message]) -> None:
        if not page:
            return
        answers = self.tx.answers.of_messages(
            self.source.id, owner=self.source.user_id, first=page[0].id, last=page[-1].id
        )
        ids = [each.id for each in answers.values()]
        settings = (
            self.tx.answers.settings(self.source.id, owner=self.source.user_id, first=min(ids), last=max(ids))
            if ids
            else {}
        )
        for message in page:
            answer = answers.get(message.id)
            if message.role is Role.BAIO and answer is not None and answer.question_id == self.answered:
                self._copy_answer(message, answer, settings.get(answer.id, USUAL))
            else:
                self._copy_message(message)

    def copy_sequences(self) -> None:
        """Let the sequences belong to the copy, too, so that handles stay valid and models get no letters instead."""
        sequences, owner, before = self.tx.sequences, self.source.user_id, None
        while page := sequences.page(owner, conversation_id=self.source.id, before=before):
            for sequence in page:
                sequences.attach(sequence.id, self.target, owner=owner)
            before = page[-1].id
        for each in sequences.mentions(self.source.id, owner=owner):
            if (question := self.questions.get(each.message_id)) is not None:
                span = None if each.start is None or each.end is None else (each.start, each.end)
                sequences.mention(question, each.sequence.id, span, owner=owner)

    def _copy_message(self, message: Message) -> None:
        copy = self.tx.messages.add(
            self.target, message.role, message.content, message.created_at, owner=self.source.user_id
        )
        self.messages[message.id] = copy.id
        if message.role is Role.USER:
            self.question, self.answered = copy, message.id
            self.questions[message.id] = copy

    def _copy_answer(self, message: Message, answer: Answer, settings: UsedSettings) -> None:
        assert self.question is not None  # noqa: S101 - tells the type checker
        begun = self.tx.answers.begin(
            NewAnswer(
                self.question,
                self.source.user_id,
                None,
                answer.requested_model,
                answer.started_at,
                lease_until=answer.started_at + LEASE,
                max_running=AT_ONCE,
                left_out=answer.left_out,
                settings=settings,
            )
        )
        quoted = [
            self._copy_call(call, message.content, begun.id)
            for call in self._calls(answer_id=answer.id)
            if call.state is not CallState.RUNNING
        ]
        self.tx.tool_calls.note_quoted([copy for copy, is_quoted in quoted if is_quoted])
        text, ended_at = self._recited(message.content), answer.ended_at or message.created_at
        self.tx.answers.end(begun.id, outcome_of(answer), text, ended_at)

    def copy_loose_calls(self, until: datetime | None) -> None:
        """Copy the conversation's calls that no answer made, and that began before ``until``."""
        for call in self._calls(conversation_id=self.source.id):
            early = until is None or call.started_at < until
            if call.answer_id is None and call.state is not CallState.RUNNING and early:
                self._copy_call(call, "", None)

    def _copy_call(self, call: ToolCall, text: str, answer_id: int | None) -> tuple[int, bool]:
        """Copy a call of an answer with this text; return the copy's id, and whether the text quotes it."""
        copy = self.tx.tool_calls.begin(
            NewToolCall(
                call.user_id,
                call.tool,
                call.version,
                call.library,
                call.definition,
                call.raw_arguments,
                call.started_at,
                self.target,
                answer_id,
                call.round,
                len(self._recited(text[: call.offset])),
            )
        )
        self.calls[call.id] = copy.id
        line = text[call.offset : call.offset + call.length]
        ended = EndedCall(
            call.state,
            call.arguments,
            tuple(map(self._traced, call.inputs)),
            call.result or "",
            call.result_sha256 or "",
            call.shown or "",
            call.error,
            call.line,
            len(self._recited(line)),
        )
        self.tx.tool_calls.end(copy, ended, call.ended_at or call.started_at)
        return copy.id, call.quoted

    def _traced(self, given: CallInput) -> CallInput:
        """The input of a copied call: where it comes from is copied, too."""
        copies = {InputSource.MESSAGE: self.messages, InputSource.CALL: self.calls}.get(given.origin.source, {})
        origin = given.origin.id
        return replace(given, origin=replace(given.origin, id=None if origin is None else copies.get(origin, origin)))

    def _recited(self, text: str) -> str:
        return _CITED_CALL.sub(lambda cited: f"[call {self.calls.get(int(cited[1]), cited[1])}]", text)

    def _calls(self, *, conversation_id: int | None = None, answer_id: int | None = None) -> Iterator[ToolCall]:
        owner, after = self.source.user_id, 0
        while page := self.tx.tool_calls.page(
            owner=owner, conversation_id=conversation_id, answer_id=answer_id, after=after, size=PAGE_SIZE
        ):
            yield from page
            after = page[-1].id
