"""The export of one conversation: everything that a researcher needs to cite it and to recompute its values."""

import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from baio_domain.entities import Answer, Caller, Conversation, Role, SequenceContent, StoredSequence, ToolCall
from baio_domain.errors import SequenceNotFound
from baio_domain.pages import PAGE_SIZE, pages
from baio_domain.ports import Database, Transaction
from baio_domain.sequence_files import SequenceFiles
from baio_domain.session_check import session_checked
from baio_domain.use_cases.messaging import GetAnswers
from baio_domain.use_cases.sequences import GetSequences
from baio_domain.use_cases.tools import GetToolCalls


@dataclass(frozen=True, slots=True)
class CitedMessage:
    """A message with its id, by which the inputs of calls name it; one of BAiO's with its answer's record."""

    id: int
    role: Role
    content: str
    created_at: datetime
    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class CitedSequence:
    """A stored sequence with its letters and the JSON of its features, as the tools received it."""

    sequence: StoredSequence
    content: SequenceContent
    letters: str
    features: bytes


@dataclass(frozen=True, slots=True)
class ConversationExport:
    """A conversation with everything that documents it.

    Each list can be read several times, from its first page each time: a document may mention the same things in
    several places, and needs the memory of one page.
    """

    conversation: Conversation
    author: str
    messages: Callable[[], AsyncIterator[list[CitedMessage]]]
    answers: Callable[[], AsyncIterator[list[Answer]]]
    tool_calls: Callable[[], AsyncIterator[list[ToolCall]]]
    sequences: Callable[[], AsyncIterator[list[CitedSequence]]]
    files: SequenceFiles


@dataclass(frozen=True, slots=True)
class ExportConversation:
    """Export one conversation with its models, dates, and the records of its tools' calls, so that it can be cited.

    - `markdown` reads like a methods section. `json` follows the published schema. `eln` is The ELN Consortium's
      format, a ZIP file: the same two documents, sequences as files, tables as CSV, and the SHA-256 of each file.
    - Stored sequences are included that belong to the conversation or were given to one of its calls, with their
      letters, so that the calls can be computed from only the file.
    - A conversation that does not change is exported to the same bytes every time.
    - BAiO sends it while reading it, page by page: each page shows the data at the moment when it is read. An answer's
      text is exported once the answer has ended; of several answers to a question, only the newest is.
    """

    database: Database
    get_answers: GetAnswers
    get_tool_calls: GetToolCalls
    get_sequences: GetSequences
    files: SequenceFiles

    async def __call__(self, caller: Caller, conversation_id: int) -> ConversationExport:
        """Return what ``pages`` yield, or raise ConversationNotFound."""
        owner = caller.user_id

        def begin(tx: Transaction) -> ConversationExport:
            author = tx.users.get(owner)
            return ConversationExport(
                tx.conversations.get(conversation_id, owner=owner),
                f"{author.first_name} {author.last_name}",
                lambda: self._messages(caller, conversation_id),
                lambda: self.get_answers(caller, conversation_id),
                lambda: self.get_tool_calls(caller, conversation_id=conversation_id),
                lambda: self._sequences(caller, conversation_id),
                self.files,
            )

        return await self.database.read(session_checked(caller, begin))

    def _messages(self, caller: Caller, conversation_id: int) -> AsyncIterator[list[CitedMessage]]:
        owner = caller.user_id

        def read(tx: Transaction, after: int) -> list[CitedMessage]:
            tx.conversations.get(conversation_id, owner=owner)
            messages = tx.messages.page(conversation_id, owner=owner, after=after, size=PAGE_SIZE)
            if not messages:
                return []
            first, last = messages[0].id, messages[-1].id
            answers = tx.answers.of_messages(conversation_id, owner=owner, first=first, last=last)
            return [
                CitedMessage(
                    each.id,
                    each.role,
                    each.content,
                    each.created_at,
                    answers.get(each.id) if each.role is Role.BAIO else None,
                )
                for each in messages
            ]

        return pages(self.database, caller, read, 0, lambda message: message.id)

    async def _sequences(self, caller: Caller, conversation_id: int) -> AsyncIterator[list[CitedSequence]]:
        """Each in a page of its own, in the order of their ids. Those that have been deleted are left out."""
        ids = {
            each.sequence_id
            async for calls in self.get_tool_calls(caller, conversation_id=conversation_id)
            for call in calls
            for each in call.inputs
            if each.sequence_id is not None
        }
        async for sequences in self.get_sequences(caller, conversation_id):
            ids.update(each.id for each in sequences)
        for sequence_id in sorted(ids):
            with suppress(SequenceNotFound):
                yield [await self.database.read(session_checked(caller, partial(_cited, sequence_id, caller.user_id)))]


def _cited(sequence_id: int, owner: int, tx: Transaction) -> CitedSequence:
    # Here, because a transaction has a thread of its own: for a genome it takes so long that streams would wait.
    content = tx.sequences.content(sequence_id, owner=owner)
    letters = zlib.decompress(content.letters).decode()
    return CitedSequence(
        tx.sequences.get(sequence_id, owner=owner), content, letters, zlib.decompress(content.features)
    )
