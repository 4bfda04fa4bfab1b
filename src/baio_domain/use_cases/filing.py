"""Many conversations kept in order: find them, tag, pin, archive and delete them."""

import base64
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from baio_domain.answering import Answering
from baio_domain.entities import Caller, Conversation, FiledConversation, Filing, refuse, tag_problems, tidy_tags
from baio_domain.errors import ConversationNotFound, FieldError
from baio_domain.finding import snippet_of, words_of
from baio_domain.ports import Database, Transaction
from baio_domain.session_check import session_checked

MAX_FOUND = 100
"""Conversations in one response."""

MAX_DELETED = 1000
"""Conversations that one request names to delete them."""


@dataclass(frozen=True, slots=True)
class FoundConversation:
    """A conversation, its filing, and the place of the query's words."""

    conversation: Conversation
    filing: Filing
    snippet: str | None


@dataclass(frozen=True, slots=True)
class FoundConversations:
    """Some conversations, and the cursor of the next ones, or None if there are no more."""

    conversations: list[FoundConversation]
    next: str | None


@dataclass(frozen=True, slots=True)
class FindConversations:
    """Find one's own conversations: pinned ones first, then by activity, newest first.

    - With ``query``, only conversations in whose title, questions or answers its words follow each other; the last may
      be the beginning of a word. Case, accents, vowel points and invisible characters don't count; everything else that
      is no letter or digit separates words. A query without any word finds nothing; an empty one finds everything.
    - ``snippet`` is one line of at most 160 characters around the words, from the newest message that has them. It is
      null without a query, and if only the title has the words.
    - In a long text, only the first 100,000 characters and 16,000 words are found.
    - The time of a conversation's last question, or of the end of its last answer, is its activity.
    - Archived conversations are left out; with ``archived``, only they are found.
    - With ``tag``, only conversations with exactly this tag are found.
    - ``limit`` is 1 to 100. ``next`` is null, or the value of ``before`` for the conversations after these. It stays
      valid whatever is added or deleted. A conversation that becomes active between two requests moves to the top.
    """

    database: Database

    async def __call__(
        self,
        caller: Caller,
        *,
        query: str | None = None,
        before: str | None = None,
        limit: int = 50,
        archived: bool = False,
        tag: str | None = None,
    ) -> FoundConversations:
        """Return them. Raises InvalidInput that names ``before``, ``limit`` or ``tag``."""
        tags = [] if tag is None else tidy_tags([tag])
        place = None if before is None else _place_of(before)
        refuse(_find_problems(limit, tags, wrong_cursor=before is not None and place is None))

        words = words_of(query) if query and not query.isspace() else None

        def read(tx: Transaction) -> list[FiledConversation]:
            if words == "":
                return []
            return tx.filings.find(
                caller.user_id,
                archived=archived,
                tag=next(iter(tags), None),
                query=words,
                before=place,
                limit=limit + 1,
            )

        rows = await self.database.read(session_checked(caller, read))
        found = [FoundConversation(each.conversation, each.filing, _snippet(each.said, words)) for each in rows[:limit]]
        return FoundConversations(found, _cursor(rows[limit - 1]) if len(rows) > limit else None)


def _snippet(said: str | None, words: str | None) -> str | None:
    return snippet_of(said, words) if said is not None and words else None


def _find_problems(limit: int, tags: Sequence[str], *, wrong_cursor: bool) -> Iterator[FieldError]:
    if wrong_cursor:
        yield FieldError("before", "is no value of next")
    if not 1 <= limit <= MAX_FOUND:
        yield FieldError("limit", f"must be 1 to {MAX_FOUND}")
    yield from tag_problems(tags, "tag")


def _cursor(filed: FiledConversation) -> str:
    """The conversation's place in the list, as a text for URLs that means nothing to clients."""
    place = [filed.filing.pinned, filed.filing.updated_at.isoformat(), filed.conversation.id]
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def _place_of(cursor: str) -> FiledConversation | None:
    """The place that ``_cursor`` has written down, or None where it has written no such thing."""
    try:
        decoded = base64.b64decode(cursor + "=" * (-len(cursor) % 4), "-_", validate=True)
        pinned, updated_at, id_ = json.loads(decoded)
        time = datetime.fromisoformat(updated_at).astimezone(UTC)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
    if type(pinned) is not bool or type(id_) is not int or not 0 < id_ < 2**63:
        return None
    place = FiledConversation(Conversation(id_, 0, "", time), Filing(time, pinned))
    return place if _cursor(place) == cursor else None


@dataclass(frozen=True, slots=True)
class TagConversation:
    """Replace the tags of a conversation; an empty list removes all.

    - At most 20 tags of at most 50 characters each. They are trimmed, and duplicates count once.
    - Case counts: ``PCR`` and ``pcr`` are two tags.
    """

    database: Database

    async def __call__(self, caller: Caller, conversation_id: int, tags: Sequence[str]) -> Filing:
        """Return how it is kept now. Raises InvalidInput or ConversationNotFound."""
        new, owner = tidy_tags(tags), caller.user_id
        refuse(tag_problems(new))
        return await _filed(
            self.database, caller, conversation_id, lambda tx: tx.filings.tag(conversation_id, new, owner=owner)
        )


@dataclass(frozen=True, slots=True)
class PinConversation:
    """Pin a conversation, so that it is found first, or undo that."""

    database: Database

    async def __call__(self, caller: Caller, conversation_id: int, *, pinned: bool) -> Filing:
        """Return how it is kept now, or raise ConversationNotFound."""
        owner = caller.user_id
        return await _filed(
            self.database,
            caller,
            conversation_id,
            lambda tx: tx.filings.pin(conversation_id, pinned=pinned, owner=owner),
        )


@dataclass(frozen=True, slots=True)
class ArchiveConversation:
    """Archive a conversation, so that it is found only among archived ones, or undo that. It can still be asked."""

    database: Database

    async def __call__(self, caller: Caller, conversation_id: int, *, archived: bool) -> Filing:
        """Return how it is kept now, or raise ConversationNotFound."""
        owner = caller.user_id
        return await _filed(
            self.database,
            caller,
            conversation_id,
            lambda tx: tx.filings.archive(conversation_id, archived=archived, owner=owner),
        )


async def _filed(
    database: Database, caller: Caller, conversation_id: int, change: Callable[[Transaction], None]
) -> Filing:
    """Change how a conversation is kept, and return how it is kept then."""

    def work(tx: Transaction) -> Filing:
        change(tx)
        return tx.filings.of(conversation_id, owner=caller.user_id)

    return await database.write(session_checked(caller, work))


@dataclass(frozen=True, slots=True)
class GetTags:
    """List the tags of one's own conversations, sorted by their code points, each with the number of conversations."""

    database: Database

    async def __call__(self, caller: Caller) -> dict[str, int]:
        """Return the counts by tag."""
        return await self.database.read(session_checked(caller, lambda tx: tx.filings.tags(caller.user_id)))


@dataclass(frozen=True, slots=True)
class DeletedConversations:
    """The number of deleted conversations, and the ids that did not exist."""

    deleted: int
    not_found: list[int]


@dataclass(frozen=True, slots=True)
class DeleteConversations:
    """Delete many conversations for good, like deleting a single one: those with these ids, or all archived ones.

    - At most 1,000 ids. Ids of no conversation of one's own are skipped and named in ``not_found``: a request that is
      repeated deletes the rest.
    - They are deleted one by one, so that nobody waits for all of them. If the request breaks off, some are already
      deleted.
    """

    database: Database
    answering: Answering

    async def __call__(
        self, caller: Caller, ids: Sequence[int] | None = None, *, archived: bool = False
    ) -> DeletedConversations:
        """Delete them, and say which. Raises InvalidInput that names ``conversation_ids`` or ``archived``."""
        refuse(delete_problems(ids, archived=archived))
        deleted, not_found = 0, []
        async for conversation_id in self._archived(caller) if ids is None else _each(dict.fromkeys(ids)):
            if await self._delete(caller, conversation_id):
                deleted += 1
            else:
                not_found.append(conversation_id)
        return DeletedConversations(deleted, not_found if ids is not None else [])

    async def _delete(self, caller: Caller, conversation_id: int) -> bool:
        try:
            await self.database.write(
                session_checked(caller, lambda tx: tx.conversations.delete(conversation_id, owner=caller.user_id))
            )
        except ConversationNotFound:
            return False
        self.answering.stop_all(conversation_id)
        return True

    async def _archived(self, caller: Caller) -> AsyncIterator[int]:
        """The ids of all that are archived, page by page."""
        page: list[FiledConversation] = []
        while True:
            last = page[-1] if page else None

            def read(tx: Transaction, before: FiledConversation | None = last) -> list[FiledConversation]:
                return tx.filings.find(caller.user_id, archived=True, before=before, limit=MAX_FOUND)

            page = await self.database.read(session_checked(caller, read))
            if not page:
                return
            for each in page:
                yield each.conversation.id


async def _each(ids: Iterable[int]) -> AsyncIterator[int]:
    for conversation_id in ids:
        yield conversation_id


def delete_problems(ids: Sequence[int] | None, *, archived: bool) -> Iterator[FieldError]:
    """Why the request is ambiguous, or names too much."""
    if (ids is None) is not archived:
        yield FieldError("conversation_ids", "is required, or archived must be true, and not both")
        yield FieldError("archived", "must be true where there are no conversation_ids, and only there")
    if ids is not None and len(ids) > MAX_DELETED:
        yield FieldError("conversation_ids", f"must be at most {MAX_DELETED}")
