"""Conversations: create, list, read, rename and delete them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from functools import partial

from baio_domain.answering import Answering
from baio_domain.entities import (
    AnsweredMessage,
    AnswerState,
    Caller,
    Conversation,
    Message,
    Role,
    refuse,
    title_problems,
)
from baio_domain.idempotency import IdempotentRequest, idempotency_problems
from baio_domain.pages import PAGE_SIZE, by_id, one_page, pages
from baio_domain.ports import PAGE_ROWS, Clock, Database, SecretBox, Transaction
from baio_domain.prompts import SYSTEM_PROMPT
from baio_domain.quotas import Quotas
from baio_domain.session_check import session_checked


@dataclass(frozen=True, slots=True)
class Thread:
    """A conversation with its messages, in the order in which they were written.

    For a long conversation, and if each message comes with its answer, ``messages`` is empty, and ``more`` yields all
    of them in ``pages``.
    """

    id: int
    title: str
    messages: list[Message]
    more: AsyncIterator[list[Message] | list[AnsweredMessage]] | None = field(default=None, compare=False)

    def pages(self) -> AsyncIterator[list[Message] | list[AnsweredMessage]]:
        """All messages in pages. Can be read once."""
        return self.more or one_page(self.messages)


@dataclass(frozen=True, slots=True)
class CreateConversation:
    """Create a conversation.

    - The title has at most 255 characters and may be empty or missing.
    - Its first message is the system message that defines BAiO's role.
    - The same idempotency key with the same request, within 24 hours, creates nothing again and gives the same
      response; with another request it is refused.
    - A temporary one is deleted a day after its last activity.
    - The number of a user's conversations is limited.
    - With the name of a preset, it has that preset's settings.
    """

    database: Database
    box: SecretBox
    clock: Clock
    quotas: Quotas

    async def __call__(
        self,
        caller: Caller,
        title: str,
        idempotency_key: str | None = None,
        *,
        preset: str | None = None,
        temporary: bool = False,
    ) -> Thread:
        """Create it and return it with its system message.

        Raises InvalidInput, IdempotencyKeyReused, PresetNotFound or TooManyConversations.
        """
        refuse([*title_problems(title), *idempotency_problems(idempotency_key)])
        owner, now = caller.user_id, self.clock.now()
        kind = (["temporary"] if temporary else []) + ([] if preset is None else ["preset", preset])
        fingerprint = self.box.fingerprint("createConversation", title, *kind)
        request = IdempotentRequest(owner, idempotency_key, fingerprint, now)

        def create(tx: Transaction) -> Thread:
            before = request.find(tx)
            if before is not None:
                # As it was then, even if it was changed or deleted since.
                system = Message(0, before.result_id, Role.SYSTEM, SYSTEM_PROMPT, before.created_at)
                return Thread(before.result_id, title, [system])
            self.quotas.check_conversations(tx, owner)
            conversation = tx.conversations.add(owner, title, now)
            system = tx.messages.add(conversation.id, Role.SYSTEM, SYSTEM_PROMPT, now, owner=owner)
            if temporary:
                tx.retentions.make_temporary(conversation.id, owner=owner)
            if preset is not None:
                settings = tx.presets.get(preset.strip(), owner=owner).settings
                tx.settings.save(conversation.id, settings, owner=owner)
            request.record(tx, conversation.id)
            return Thread(conversation.id, conversation.title, [system])

        return await self.database.write(session_checked(caller, create))


@dataclass(frozen=True, slots=True)
class GetConversation:
    """Read one conversation with its messages, in the order they were written, the system message first.

    - A conversation that belongs to somebody else does not exist.
    - BAiO sends a long one while reading it, page by page: each page shows the data at the moment when it is read.
    - With ``answers``, each of BAiO's messages has its answer's id, state, and the reason if it did not end well. After
      each question comes its newest answer, too, if that is not stored as a message: one that is running, with its text
      so far, or one that has ended without any text. It comes after the older answer that it would replace.
    """

    database: Database
    answering: Answering

    async def __call__(self, caller: Caller, conversation_id: int, *, answers: bool = False) -> Thread:
        """Return it, or raise ConversationNotFound. With ``answers``, its pages are of AnsweredMessage."""

        def read(tx: Transaction) -> Thread:
            conversation = tx.conversations.get(conversation_id, owner=caller.user_id)
            if answers:
                return Thread(conversation.id, conversation.title, [], self._answered_pages(caller, conversation_id))
            if conversation.stored_bytes > PAGE_SIZE:
                return Thread(conversation.id, conversation.title, [], self._pages(caller, conversation_id))
            messages = tx.messages.of(conversation_id, owner=caller.user_id)
            return Thread(conversation.id, conversation.title, messages)

        return await self.database.read(session_checked(caller, read))

    def _pages(self, caller: Caller, conversation_id: int) -> AsyncIterator[list[Message]]:
        def read(tx: Transaction, after: int) -> list[Message]:
            tx.conversations.get(conversation_id, owner=caller.user_id)
            return tx.messages.page(conversation_id, owner=caller.user_id, after=after, size=PAGE_SIZE)

        return pages(self.database, caller, read, 0, by_id)

    async def _answered_pages(self, caller: Caller, conversation_id: int) -> AsyncIterator[list[AnsweredMessage]]:
        place: _Place | None = _Place()
        while place is not None:
            read = partial(_answered_page, conversation_id, caller.user_id, place)
            page, place = await self.database.read(session_checked(caller, read))
            if page and page[-1].state is AnswerState.RUNNING:
                page.append(self._as_shown(page.pop()))
            if page:
                yield page

    def _as_shown(self, running: AnsweredMessage) -> AnsweredMessage:
        """The answer with the text that its followers have, of which the newest is not stored yet."""
        live = self.answering.live(running.answer_id or 0)
        return running if live is None else replace(running, content=live.text)


@dataclass(frozen=True, slots=True)
class _Place:
    """How far a conversation has been read: the last message, and the last question if its newest answer is to come."""

    after: int = 0
    question: int | None = None


def _answered_page(
    conversation_id: int, owner: int, place: _Place, tx: Transaction
) -> tuple[list[AnsweredMessage], _Place | None]:
    """The messages after this place, and the place after them, or None where there can be no more."""
    tx.conversations.get(conversation_id, owner=owner)
    messages = tx.messages.page(conversation_id, owner=owner, after=place.after, size=PAGE_SIZE)
    ids = [*([] if place.question is None else [place.question]), *(message.id for message in messages)]
    if not ids:
        return [], None
    answers = tx.answers.of_messages(conversation_id, owner=owner, first=ids[0], last=ids[-1])
    waiting = None if place.question is None else answers.get(place.question)
    if not messages:
        if waiting is None:
            return [], None
        return [AnsweredMessage.unsaid(waiting, tx.answers.text(waiting.id, 0, owner=owner))], None
    page = []
    for message in messages:
        answer = answers.get(message.id)
        if message.role is Role.USER:
            if waiting is not None:  # it has ended without text, or this question would have been refused
                page.append(AnsweredMessage.unsaid(waiting, ""))
            waiting = answer
            page.append(AnsweredMessage.of(message))
        else:
            if waiting is not None and answer is not None and answer.id == waiting.id:
                waiting = None
            page.append(AnsweredMessage.of(message, answer))
    return page, _Place(messages[-1].id, None if waiting is None else waiting.question_id)


@dataclass(frozen=True, slots=True)
class GetConversations:
    """List one's own conversations, newest first."""

    database: Database

    def __call__(self, caller: Caller) -> AsyncIterator[list[Conversation]]:
        """Return ``pages`` of them by creation, newest first; ties by id, newest first."""

        def read(tx: Transaction, before: Conversation | None) -> list[Conversation]:
            return tx.conversations.page(caller.user_id, before=before, limit=PAGE_ROWS)

        return pages(self.database, caller, read, None, lambda each: each, limit=PAGE_ROWS)


@dataclass(frozen=True, slots=True)
class RenameConversation:
    """Give a conversation another title of at most 255 characters, possibly empty."""

    database: Database

    async def __call__(self, caller: Caller, conversation_id: int, title: str) -> None:
        """Rename it, or raise InvalidInput or ConversationNotFound."""
        refuse(title_problems(title))
        await self.database.write(
            session_checked(caller, lambda tx: tx.conversations.rename(conversation_id, title, owner=caller.user_id))
        )


@dataclass(frozen=True, slots=True)
class DeleteConversation:
    """Delete a conversation for good, with its messages. A running answer is stopped."""

    database: Database
    answering: Answering

    async def __call__(self, caller: Caller, conversation_id: int) -> None:
        """Delete it, or raise ConversationNotFound."""
        await self.database.write(
            session_checked(caller, lambda tx: tx.conversations.delete(conversation_id, owner=caller.user_id))
        )
        self.answering.stop_all(conversation_id)
