"""How conversations are kept in order."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any, final

from baio_adapters.memory.repository import Repository
from baio_domain.entities import FiledConversation, Filing
from baio_domain.errors import ConversationNotFound
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
        before: FiledConversation | None = None,
        limit: int = PAGE_ROWS,
    ) -> list[FiledConversation]:
        found = [
            each
            for each in self._filed(owner)
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

    def _filed(self, owner: int) -> Iterator[FiledConversation]:
        for each in self._tables.conversations.values():
            if each.user_id == owner:
                yield FiledConversation(each, self._tables.filings[each.id])

    def _change(self, conversation_id: int, owner: int, **changes: Any) -> None:
        self._tables.filings[conversation_id] = replace(self.of(conversation_id, owner=owner), **changes)


def _place(filed: FiledConversation) -> tuple[bool, datetime, int]:
    return filed.filing.pinned, filed.filing.updated_at, filed.conversation.id
