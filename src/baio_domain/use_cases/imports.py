"""Imports: conversations from the exports of chat services."""

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import BinaryIO

from baio_domain.answering import LEASE
from baio_domain.copies import AT_ONCE
from baio_domain.entities import MAX_TITLE_LENGTH, Act, Caller, Message, Origin, Outcome, Role, refuse
from baio_domain.errors import FieldError, InvalidInput, StorageFull, TooManyConversations
from baio_domain.idempotency import IdempotentRequest, idempotency_problems
from baio_domain.ports import (
    Clock,
    Database,
    ExportedMessage,
    ExportedThread,
    ExportReader,
    NewAnswer,
    SecretBox,
    Transaction,
    UnreadableThread,
)
from baio_domain.prompts import SYSTEM_PROMPT
from baio_domain.quotas import AtOnce, Quotas
from baio_domain.session_check import session_checked

MAX_MESSAGES = 5_000
"""Messages of a conversation that is imported: each costs a statement or more in one transaction."""

FINISH_REASON = "imported"
"""The finish reason of every imported answer, so that nobody takes its record for BAiO's own."""


class ImportOutcome(StrEnum):
    """The outcome for an exported conversation. ``PRESENT``: it was imported before, and is still there."""

    IMPORTED = "imported"
    PRESENT = "present"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class ImportedConversation:
    """The outcome for one conversation of an export: its id here, or the reason why it was skipped."""

    outcome: ImportOutcome
    title: str
    source: str = ""
    conversation_id: int | None = None
    messages: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ImportConversations:
    """Import conversations from an export of BAiO, ChatGPT or Claude, as the file or the zip archive that it came in.

    - The branch that the service shows becomes a conversation; each other branch becomes another one, with a number.
    - Messages keep their order, their times and the names of their models. Each answer has a record with the finish
      reason `imported`, which does not count as usage. Thoughts, tool calls and hidden messages are left out, except
      the documents that tool calls write; only the names of pictures and other files are kept.
    - The same conversation, recognized by its messages, is imported once. After it was deleted, it is imported again.
    - A conversation that can't be read, or for which there is no room, is skipped with a reason, and the others are
      imported.
    - The size of a file is limited, and of each conversation in it. A user can import one file at a time.
    - The same idempotency key with another file, within 24 hours, is refused.
    """

    database: Database
    clock: Clock
    quotas: Quotas
    box: SecretBox
    reader: ExportReader
    at_once: AtOnce

    async def __call__(
        self, caller: Caller, file: BinaryIO, idempotency_key: str | None = None
    ) -> AsyncIterator[ImportedConversation]:
        """Yield what became of each conversation, as soon as it is stored.

        Raises InvalidInput naming ``file`` if it is no export, TooManyImports or IdempotencyKeyReused.
        """
        refuse(idempotency_problems(idempotency_key))
        with self.at_once.one(caller.user_id):
            request = await self._request(caller, file, idempotency_key)
            first: int | None = None
            counted: Counter[ImportOutcome] = Counter()
            async for each in self.reader.read(file):
                done = await self._import(caller, each)
                counted[done.outcome] += 1
                first = first or done.conversation_id
                yield done
            await self.database.write(session_checked(caller, partial(self._end, caller, request, first, counted)))

    async def _request(self, caller: Caller, file: BinaryIO, key: str | None) -> IdempotentRequest:
        """This request, or raise IdempotencyKeyReused if it was another one under this key."""
        digest = await self.reader.digest(file) if key is not None else ""
        fingerprint = self.box.fingerprint("import", digest)
        request = IdempotentRequest(caller.user_id, key, fingerprint, self.clock.now())
        await self.database.read(session_checked(caller, request.find))
        return request

    def _end(
        self,
        caller: Caller,
        request: IdempotentRequest,
        first: int | None,
        counted: Counter[ImportOutcome],
        tx: Transaction,
    ) -> None:
        if first is not None and request.find(tx) is None:
            request.record(tx, first)
        note = ", ".join(f"{counted[each]} {each.value}" for each in ImportOutcome)
        tx.audit.add(Act.DATA_IMPORTED, caller.user_id, caller.origin, self.clock.now(), note)

    async def _import(self, caller: Caller, found: ExportedThread | UnreadableThread) -> ImportedConversation:
        if isinstance(found, UnreadableThread):
            return ImportedConversation(ImportOutcome.SKIPPED, found.title, reason=found.reason)
        title, count = _title_of(found), len(found.messages)
        if count > MAX_MESSAGES:
            reason = f"has more than {MAX_MESSAGES:,} messages"
            return ImportedConversation(ImportOutcome.SKIPPED, title, found.source, messages=count, reason=reason)
        store = partial(self._store, caller.user_id, found, title, self.clock.now())
        try:
            outcome, conversation_id = await self.database.write(session_checked(caller, store))
        except (StorageFull, TooManyConversations) as error:
            return ImportedConversation(ImportOutcome.SKIPPED, title, found.source, messages=count, reason=error.detail)
        return ImportedConversation(outcome, title, found.source, conversation_id, count)

    def _store(
        self, owner: int, thread: ExportedThread, title: str, now: datetime, tx: Transaction
    ) -> tuple[ImportOutcome, int]:
        digest = _digest_of(thread)
        known = tx.imports.find(digest, owner=owner)
        if known is not None:
            return ImportOutcome.PRESENT, known
        self.quotas.check_conversations(tx, owner)
        self.quotas.check_text(tx, owner, "".join(each.content for each in thread.messages))
        times = (each.created_at for each in thread.messages)
        began_at = min(thread.created_at or next(filter(None, times), now), now)
        conversation = tx.conversations.add(owner, title, began_at)
        tx.messages.add(conversation.id, Role.SYSTEM, thread.system or SYSTEM_PROMPT, began_at, owner=owner)
        _store_messages(tx, owner, conversation.id, thread, began_at, now)
        self.quotas.check_text(tx, owner)  # the records count, too
        tx.imports.mark(conversation.id, digest, now, owner=owner)
        return ImportOutcome.IMPORTED, conversation.id


@dataclass(frozen=True, slots=True)
class ImportForUser:
    """Import conversations for a user, as an administrator on the server itself."""

    database: Database
    imports: ImportConversations

    async def __call__(self, username: str, file: BinaryIO, origin: Origin) -> AsyncIterator[ImportedConversation]:
        """Yield what ImportConversations yields.

        Raises InvalidInput naming ``username`` if there is no such account, or ``file``.
        """
        user = await self.database.read(lambda tx: tx.users.by_username(username))
        if user is None:
            raise InvalidInput.of(FieldError("username", "is no account's"))
        async for each in self.imports(Caller(user.id, None, origin), file):
            yield each


def _store_messages(
    tx: Transaction, owner: int, conversation_id: int, thread: ExportedThread, began_at: datetime, now: datetime
) -> None:
    """Store what was said. A message without a time, or with one in the future, has that of the one before."""
    question: Message | None = None
    at = began_at
    for each in _joined(thread.messages):
        at = each.created_at if each.created_at is not None and each.created_at <= now else at
        if each.role is Role.USER or question is None:
            said = tx.messages.add(conversation_id, each.role, each.content, at, owner=owner)
            question = said if each.role is Role.USER else None
            continue
        model = each.model or thread.source
        answer = tx.answers.begin(
            NewAnswer(question, owner, None, model, at, lease_until=at + LEASE, max_running=AT_ONCE)
        )
        tx.answers.end(answer.id, Outcome(each.state, FINISH_REASON, each.model), each.content, at)


def _joined(messages: tuple[ExportedMessage, ...]) -> Iterator[ExportedMessage]:
    """The messages, with neighbours of the assistant joined: a question has one answer."""
    held: ExportedMessage | None = None
    for each in messages:
        if held is not None and held.role is each.role is Role.BAIO:
            text = f"{held.content}\n\n{each.content}"
            held = ExportedMessage(Role.BAIO, text, each.created_at, each.model or held.model, each.state)
            continue
        if held is not None:
            yield held
        held = each
    if held is not None:
        yield held


def _title_of(thread: ExportedThread) -> str:
    if not thread.branch:
        return thread.title
    number = f" (branch {thread.branch})"
    return f"{thread.title[: MAX_TITLE_LENGTH - len(number)]}{number}".strip()


def _digest_of(thread: ExportedThread) -> bytes:
    """What tells whether two conversations are the same: authors, texts and times of their messages."""
    digest = hashlib.sha256()
    for message in thread.messages:
        content = message.content.encode()
        digest.update(f"{message.role.value} {message.created_at} {len(content)} ".encode())
        digest.update(content)
    return digest.digest()
