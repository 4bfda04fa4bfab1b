"""Settings of conversations, and presets."""

from dataclasses import replace
from datetime import datetime
from typing import final

from baio_adapters.memory.repository import Repository
from baio_domain.entities import UNCHANGED, ApiKey, ChatSettings, Preset, Role
from baio_domain.errors import ApiKeyNotFound, ConversationNotFound, InvalidInput, PresetNotFound, preset_name_taken
from baio_domain.ports import Opening, Presets, Settings


class _WithKeys(Repository):
    """Settings are kept with the id of their key in place of its nickname."""

    def _kept(self, settings: ChatSettings, owner: int) -> tuple[ChatSettings, int | None]:
        nickname = settings.apikey_nickname
        if nickname is None:
            return settings, None
        for key in self._tables.api_keys.values():
            if (key.user_id, key.nickname) == (owner, nickname):
                return settings, key.id
        raise ApiKeyNotFound

    def _told(self, kept: tuple[ChatSettings, int | None]) -> ChatSettings:
        settings, key_id = kept
        key: ApiKey | None = self._tables.api_keys.get(key_id or 0)
        return replace(settings, apikey_nickname=None if key is None else key.nickname)


@final
class MemorySettings(_WithKeys, Settings):
    """Settings in ``Tables.settings``."""

    def opening(self, conversation_id: int, *, owner: int) -> Opening:
        if not self._tables.owns(conversation_id, owner):
            raise ConversationNotFound
        said = (each for each in self._tables.messages.values() if each.conversation_id == conversation_id)
        system = next((each for each in said if each.role is Role.SYSTEM), None)
        return Opening(
            system,
            self._told(self._tables.settings.get(conversation_id, (UNCHANGED, None))),
            sequences=any(conversation == conversation_id for conversation, _ in self._tables.conversation_sequences),
            calls=any(call.conversation_id == conversation_id for call in self._tables.tool_calls.values()),
        )

    def save(self, conversation_id: int, settings: ChatSettings, *, owner: int) -> None:
        before = self.opening(conversation_id, owner=owner).settings
        self._tables.settings[conversation_id] = self._kept(settings, owner)
        if settings == UNCHANGED:
            del self._tables.settings[conversation_id]
        self._tables.count_bytes(conversation_id, settings.stored_bytes - before.stored_bytes)


@final
class MemoryPresets(_WithKeys, Presets):
    """Presets in ``Tables.presets``."""

    def add(self, owner: int, name: str, settings: ChatSettings, now: datetime) -> Preset:
        user = self._tables.user(owner)
        kept = self._kept(settings, owner)
        if any(preset.name == name for preset in self.of(owner)):
            raise InvalidInput.of(preset_name_taken())
        preset = Preset(self._tables.next_id("presets"), user.id, name, now, settings)
        self._tables.presets[preset.id] = (preset, kept[1])
        return preset

    def get(self, name: str, *, owner: int) -> Preset:
        for preset in self.of(owner):
            if preset.name == name:
                return preset
        raise PresetNotFound

    def of(self, owner: int) -> list[Preset]:
        mine = [(preset, key) for preset, key in self._tables.presets.values() if preset.user_id == owner]
        return [replace(preset, settings=self._told((preset.settings, key))) for preset, key in mine]

    def delete(self, name: str, *, owner: int) -> None:
        del self._tables.presets[self.get(name, owner=owner).id]
