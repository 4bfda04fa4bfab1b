"""Conversations and their messages."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import final

from baio_adapters.memory.repository import Repository
from baio_domain.entities import Conversation, InputSource, Message, Role
from baio_domain.errors import ConversationNotFound
from baio_domain.ports import PAGE_ROWS, Conversations, Messages


@final
class MemoryConversations(Repository, Conversations):
    """Conversations in ``Tables.conversations``."""

    def add(self, owner: int, title: str, now: datetime) -> Conversation:
        user = self._tables.user(owner)
        conversation = Conversation(self._tables.next_id("conversations"), user.id, title, now)
        self._tables.conversations[conversation.id] = conversation
        return conversation

    def get(self, conversation_id: int, *, owner: int) -> Conversation:
        if not self._tables.owns(conversation_id, owner):
            raise ConversationNotFound
        return self._tables.conversations[conversation_id]

    def page(self, owner: int, *, before: Conversation | None = None, limit: int = PAGE_ROWS) -> list[Conversation]:
        mine = [each for each in self._tables.conversations.values() if each.user_id == owner]
        if before is not None:
            mine = [each for each in mine if (each.created_at, each.id) < (before.created_at, before.id)]
        return sorted(mine, key=lambda each: (each.created_at, each.id), reverse=True)[:limit]

    def stored(self, owner: int) -> tuple[int, int]:
        mine = [each.stored_bytes for each in self._tables.conversations.values() if each.user_id == owner]
        loose = [
            call.stored_bytes
            for call in self._tables.tool_calls.values()
            if call.user_id == owner and call.conversation_id is None
        ]
        return len(mine), sum(mine) + sum(loose)

    def rename(self, conversation_id: int, title: str, *, owner: int) -> None:
        conversation = self.get(conversation_id, owner=owner)
        self._tables.conversations[conversation_id] = replace(conversation, title=title)

    def delete(self, conversation_id: int, *, owner: int) -> None:
        self.get(conversation_id, owner=owner)
        del self._tables.conversations[conversation_id]
        tables = self._tables
        tables.messages = {k: v for k, v in tables.messages.items() if v.conversation_id != conversation_id}
        tables.answers = {k: v for k, v in tables.answers.items() if v.answer.conversation_id != conversation_id}
        tables.tool_calls = {k: v for k, v in tables.tool_calls.items() if v.conversation_id != conversation_id}
        tables.idempotency = {k: v for k, v in tables.idempotency.items() if v[2] != conversation_id}
        kept_messages = tables.messages.keys()
        tables.sequence_mentions = {k: v for k, v in tables.sequence_mentions.items() if v[0] in kept_messages}
        its = {k[1] for k in tables.conversation_sequences if k[0] == conversation_id}
        tables.conversation_sequences = {k: None for k in tables.conversation_sequences if k[0] != conversation_id}
        kept = {k[1] for k in tables.conversation_sequences}
        kept |= {k for k, v in tables.sequences.items() if v.sequence.origin.source is InputSource.FILE}
        tables.delete_sequences(its - kept)


@final
class MemoryMessages(Repository, Messages):
    """Messages in ``Tables.messages``."""

    def add(self, conversation_id: int, role: Role, content: str, now: datetime, *, owner: int) -> Message:
        if not self._tables.owns(conversation_id, owner):
            raise ConversationNotFound
        return self._tables.add_message(conversation_id, role, content, now)

    def of(self, conversation_id: int, *, owner: int) -> list[Message]:
        if not self._tables.owns(conversation_id, owner):
            return []
        return [each for each in self._tables.messages.values() if each.conversation_id == conversation_id]

    def page(self, conversation_id: int, *, owner: int, after: int, size: int) -> list[Message]:
        found: list[Message] = []
        for message in self.of(conversation_id, owner=owner):
            if message.id > after and size > 0 and len(found) < PAGE_ROWS:
                found.append(message)
                size -= len(message.content)
        return found

    def system(self, conversation_id: int, *, owner: int) -> Message | None:
        return next((each for each in self.of(conversation_id, owner=owner) if each.role is Role.SYSTEM), None)

    def count(self, conversation_id: int, *, owner: int, up_to: int) -> int:
        said = self.of(conversation_id, owner=owner)
        return sum(message.id <= up_to and message.role is not Role.SYSTEM for message in said)

    def iter_newest_first(self, conversation_id: int, *, owner: int, up_to: int | None = None) -> Iterator[Message]:
        said = self.of(conversation_id, owner=owner)
        return (message for message in reversed(said) if up_to is None or message.id <= up_to)
