"""How conversations are kept in order."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any, final

from baio_adapters.memory.repository import Repository
from baio_domain.entities import FiledConversation, Filing, Role
from baio_domain.errors import ConversationNotFound
from baio_domain.finding import occurs, words_of
from baio_domain.ports import PAGE_ROWS, Filings


@final
class MemoryFilings(Repository, Filings):
    """Filings in ``Tables.filings``."""

    def find(
        self,
        owner: int,
        *,
        archived: bool = False,
        tag: str | None = None,
        query: str | None = None,
        before: FiledConversation | None = None,
        limit: int = PAGE_ROWS,
    ) -> list[FiledConversation]:
        found = [
            each
            for each in self._filed(owner, query)
            if each.filing.archived is archived
            and (tag is None or tag in each.filing.tags)
            and (before is None or _place(each) < _place(before))
        ]
        return sorted(found, key=_place, reverse=True)[:limit]

    def of(self, conversation_id: int, *, owner: int) -> Filing:
        if not self._tables.owns(conversation_id, owner):
            raise ConversationNotFound
        return self._tables.filings[conversation_id]

    def pin(self, conversation_id: int, *, pinned: bool, owner: int) -> None:
        self._change(conversation_id, owner, pinned=pinned)

    def archive(self, conversation_id: int, *, archived: bool, owner: int) -> None:
        self._change(conversation_id, owner, archived=archived)

    def tag(self, conversation_id: int, tags: Collection[str], *, owner: int) -> None:
        self._change(conversation_id, owner, tags=tuple(sorted(tags)))

    def tags(self, owner: int) -> dict[str, int]:
        return dict(sorted(Counter(tag for each in self._filed(owner) for tag in each.filing.tags).items()))

    def _filed(self, owner: int, query: str | None = None) -> Iterator[FiledConversation]:
        for each in self._tables.conversations.values():
            if each.user_id == owner:
                said = None if query is None else self._said(each.id, query)
                if query is None or said is not None or occurs(query, words_of(each.title)):
                    yield FiledConversation(each, self._tables.filings[each.id], said)

    def _said(self, conversation_id: int, query: str) -> str | None:
        said = (
            each.content
            for each in reversed(self._tables.messages.values())
            if each.conversation_id == conversation_id and each.role is not Role.SYSTEM
        )
        return next((content for content in said if occurs(query, words_of(content))), None)

    def _change(self, conversation_id: int, owner: int, **changes: Any) -> None:
        self._tables.filings[conversation_id] = replace(self.of(conversation_id, owner=owner), **changes)


def _place(filed: FiledConversation) -> tuple[bool, datetime, int]:
    return filed.filing.pinned, filed.filing.updated_at, filed.conversation.id
