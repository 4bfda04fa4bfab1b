"""Stored API keys."""

from dataclasses import replace
from datetime import datetime
from typing import final

from baio_adapters.memory.catalogue import MemoryCatalogue
from baio_adapters.memory.repository import Repository
from baio_domain.entities import AnswerState, ApiKey, Provider
from baio_domain.errors import ApiKeyNotFound, InvalidInput, nickname_taken
from baio_domain.ports import ApiKeys


@final
class MemoryApiKeys(Repository, ApiKeys):
    """Stored keys in ``Tables.api_keys``."""

    def add(self, owner: int, provider_id: int, nickname: str, now: datetime) -> ApiKey:
        user = self._tables.user(owner)
        if any(key.nickname == nickname for key in self.of(owner)):
            raise InvalidInput.of(nickname_taken())
        key = ApiKey(self._tables.next_id("api_keys"), user.id, provider_id, nickname, b"", now)
        self._tables.api_keys[key.id] = key
        return key

    def save_sealed(self, key_id: int, sealed: bytes, *, owner: int) -> None:
        key = self._tables.api_keys.get(key_id)
        if key is None or key.user_id != owner:
            raise ApiKeyNotFound
        self._tables.api_keys[key_id] = replace(key, sealed=sealed)

    def get(self, nickname: str, *, owner: int) -> ApiKey:
        for key in self.of(owner):
            if key.nickname == nickname:
                return key
        raise ApiKeyNotFound

    def with_provider(self, nickname: str, model: str, *, owner: int) -> tuple[ApiKey, Provider]:
        key = self.get(nickname, owner=owner)
        provider = MemoryCatalogue(self._tables).get(key.provider_id)
        wanted = tuple(each for each in provider.models if each.identifier == model and not each.retired)
        return key, replace(provider, models=wanted) if wanted else provider

    def of(self, owner: int) -> list[ApiKey]:
        return [key for key in self._tables.api_keys.values() if key.user_id == owner]

    def rename(self, nickname: str, new: str, *, owner: int) -> None:
        key = self.get(nickname, owner=owner)
        if any(other.nickname == new and other.id != key.id for other in self.of(owner)):
            raise InvalidInput.of(nickname_taken("new_nickname"))
        self._tables.api_keys[key.id] = replace(key, nickname=new)

    def delete(self, nickname: str, *, owner: int) -> list[int]:
        key = self.get(nickname, owner=owner)
        del self._tables.api_keys[key.id]
        rows = self._tables.answers.values()
        using = [row for row in rows if row.new.api_key_id == key.id and row.answer.state is AnswerState.RUNNING]
        for row in using:
            self._tables.answers[row.answer.id] = replace(row, stopping=True)
        return [row.answer.id for row in using]

    def after(self, key_id: int, limit: int) -> list[ApiKey]:
        keys = self._tables.api_keys
        return [keys[each] for each in sorted(keys) if each > key_id][:limit]
