"""Settings of conversations, and presets."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, final

from sqlalchemy import bindparam, delete, exists, insert, select, update

from baio_adapters.sql.repositories.repository import ID, OWNER, Repository, insert_for_owner
from baio_adapters.sql.tables import (
    api_keys,
    conversation_sequences,
    conversations,
    messages,
    presets,
    settings,
    tool_calls,
)
from baio_domain.entities import UNCHANGED, ChatSettings, Message, Preset, Role
from baio_domain.errors import AccountNotFound, ApiKeyNotFound, ConversationNotFound, PresetNotFound
from baio_domain.ports import Opening, Presets, Settings

_CHOSEN = ("system", "model", "api_key_id", "parameters", "tools")
_SAID = messages.alias()
# Nearly always the first message: no more of them are read.
_SYSTEM_MESSAGE = (
    select(_SAID.c.id)
    .where(_SAID.c.conversation_id == ID, _SAID.c.role == Role.SYSTEM.value)
    .order_by(_SAID.c.id)
    .limit(1)
    .scalar_subquery()
)
_OPENING = (
    select(
        *messages.c,
        settings.c.system,
        settings.c.model,
        api_keys.c.nickname,
        settings.c.parameters,
        settings.c.tools,
        exists().where(conversation_sequences.c.conversation_id == ID),
        exists().where(tool_calls.c.conversation_id == ID),
    )
    .select_from(
        conversations.outerjoin(settings, settings.c.conversation_id == conversations.c.id)
        .outerjoin(api_keys, api_keys.c.id == settings.c.api_key_id)
        .outerjoin(messages, messages.c.id == _SYSTEM_MESSAGE)
    )
    .where(conversations.c.id == ID, conversations.c.user_id == OWNER)
)
_KEY_ID = select(api_keys.c.id).where(api_keys.c.user_id == OWNER, api_keys.c.nickname == bindparam("name"))
_DELETE_SETTINGS = delete(settings).where(settings.c.conversation_id == ID)
_ADD_SETTINGS = insert(settings)
_COUNT_BYTES = (
    update(conversations)
    .where(conversations.c.id == ID, conversations.c.user_id == OWNER)
    .values(stored_bytes=conversations.c.stored_bytes + bindparam("more"))
)
_PRESETS = (
    select(
        presets.c.id,
        presets.c.user_id,
        presets.c.name,
        presets.c.created_at,
        presets.c.system,
        presets.c.model,
        api_keys.c.nickname,
        presets.c.parameters,
        presets.c.tools,
    )
    .select_from(presets.outerjoin(api_keys, api_keys.c.id == presets.c.api_key_id))
    .where(presets.c.user_id == OWNER)
)
_PRESETS_IN_ORDER = _PRESETS.order_by(presets.c.id)
_PRESET = _PRESETS.where(presets.c.name == bindparam("name"))
_ADD_PRESET = insert_for_owner(presets, "name", "created_at", *_CHOSEN)
_DELETE_PRESET = delete(presets).where(presets.c.user_id == OWNER, presets.c.name == bindparam("name"))


class _WithKeys(Repository):
    def _columns(self, chosen: ChatSettings, owner: int) -> dict[str, object]:
        """The values of the columns. Raises ApiKeyNotFound."""
        key_id = None
        if chosen.apikey_nickname is not None:
            values = {"owner": owner, "name": chosen.apikey_nickname}
            key_id = self._connection.execute(_KEY_ID, values).scalar()
            if key_id is None:
                raise ApiKeyNotFound
        tools = None if chosen.tools is None else json.dumps(chosen.tools)
        row = (chosen.system, chosen.model, key_id, json.dumps(dict(chosen.parameters)), tools)
        return dict(zip(_CHOSEN, row, strict=True))


@final
class SqlSettings(_WithKeys, Settings):
    """Settings in ``settings``, where a conversation for which nothing is set has no row."""

    def opening(self, conversation_id: int, *, owner: int) -> Opening:
        """Read all of it in one statement."""
        row = self._connection.execute(_OPENING, {"id_": conversation_id, "owner": owner}).first()
        if row is None:
            raise ConversationNotFound
        id_, conversation, _, content, created_at, *chosen, sequences, calls = row
        system = None if id_ is None else Message(id_, conversation, Role.SYSTEM, content, created_at)
        return Opening(system, _settings(chosen), sequences=bool(sequences), calls=bool(calls))

    def save(self, conversation_id: int, settings: ChatSettings, *, owner: int) -> None:
        """Delete what there was, and insert unless nothing is set."""
        before = self.opening(conversation_id, owner=owner).settings
        columns = self._columns(settings, owner)
        self._connection.execute(_DELETE_SETTINGS, {"id_": conversation_id})
        if settings != UNCHANGED:
            self._connection.execute(_ADD_SETTINGS, {"conversation_id": conversation_id, **columns})
        counted = {"id_": conversation_id, "owner": owner, "more": settings.stored_bytes - before.stored_bytes}
        self._connection.execute(_COUNT_BYTES, counted)


@final
class SqlPresets(_WithKeys, Presets):
    """Presets in ``presets``."""

    def add(self, owner: int, name: str, settings: ChatSettings, now: datetime) -> Preset:
        """Insert, if the user exists. A name that is taken breaks a unique constraint."""
        columns = self._columns(settings, owner)
        values = {"owner": owner, "name": name, "created_at": now, **columns}
        preset_id = self._connection.execute(_ADD_PRESET, values).scalar()
        if preset_id is None:
            raise AccountNotFound
        return Preset(preset_id, owner, name, now, settings)

    def get(self, name: str, *, owner: int) -> Preset:
        """Read by owner and name."""
        row = self._connection.execute(_PRESET, {"owner": owner, "name": name}).first()
        if row is None:
            raise PresetNotFound
        return _preset(row)

    def of(self, owner: int) -> list[Preset]:
        """Read in the order of ids."""
        return [_preset(row) for row in self._connection.execute(_PRESETS_IN_ORDER, {"owner": owner}).fetchall()]

    def delete(self, name: str, *, owner: int) -> None:
        """Delete by owner and name."""
        if not self._connection.execute(_DELETE_PRESET, {"owner": owner, "name": name}).rowcount:
            raise PresetNotFound


def _settings(row: Sequence[Any]) -> ChatSettings:
    system, model, nickname, parameters, tools = row
    if parameters is None:
        return UNCHANGED
    names = None if tools is None else tuple(json.loads(tools))
    return ChatSettings(system, model, nickname, json.loads(parameters), names)


def _preset(row: Sequence[Any]) -> Preset:
    id_, owner, name, created_at, *chosen = row
    return Preset(id_, owner, name, created_at, _settings(chosen))
