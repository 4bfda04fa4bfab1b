"""The JSON of settings and presets."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from baio_api.bodies import Body
from baio_api.schemas.common import Examples, SentId, Time
from baio_domain.entities import MAX_SYSTEM_LENGTH, ChatSettings, Preset, preset_name_problems, system_problems
from baio_domain.errors import FieldError
from baio_domain.parameters import LEVELS

_EXAMPLE: dict[str, Any] = {
    "system": "Answer in two sentences, for a clinician.",
    "model": "gpt-4o-mini",
    "apikey_nickname": "OpenAI Key",
    "parameters": {"temperature": 0.2, "max_output_tokens": 800},
    "tools": ["gc_content", "translate"],
}

SentParameters = Annotated[
    dict[str, float | int | str | None],
    Meta(
        extra_json_schema={
            "properties": {
                "temperature": {"type": ["number", "null"]},
                "top_p": {"type": ["number", "null"]},
                "max_output_tokens": {"type": ["integer", "null"]},
                "reasoning_effort": {"enum": [*LEVELS, None]},
                "seed": {"type": ["integer", "null"]},
            }
        }
    ),
]
"""Parameters in a request. Null removes one."""


class SettingsInfo(msgspec.Struct, frozen=True):
    """How a conversation is answered. Null means as usual."""

    examples: ClassVar[Examples] = {"contract": _EXAMPLE}

    system: str | None
    model: str | None
    apikey_nickname: str | None
    parameters: dict[str, float | int | str]
    tools: list[str] | None


class PresetInfo(SettingsInfo, frozen=True, kw_only=True):
    """Settings under a name."""

    examples: ClassVar[Examples] = {
        "contract": {"name": "For clinicians", "created_at": "2024-01-15T10:00:00.000001Z", **_EXAMPLE}
    }

    name: str
    created_at: Time


class _Chosen(Body, frozen=True, kw_only=True):
    """What can be set."""

    system: Annotated[str, Meta(extra_json_schema={"maxLength": MAX_SYSTEM_LENGTH})] | UnsetType | None = UNSET
    model: str | UnsetType | None = UNSET
    apikey_nickname: str | UnsetType | None = UNSET
    parameters: SentParameters | UnsetType | None = UNSET
    tools: list[str] | UnsetType | None = UNSET

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """The rule for system messages."""
        yield from system_problems(fields.get("system"))

    @property
    def sent(self) -> dict[str, object]:
        """What was sent, null included."""
        values = {name: getattr(self, name) for name in _Chosen.__struct_fields__}
        return {name: value for name, value in values.items() if value is not UNSET}


class ChangeSettingsRequest(_Chosen, frozen=True, kw_only=True):
    """The conversation, and the changes. Null removes a value; a missing field stays as it is."""

    examples: ClassVar[Examples] = {
        "contract": {"conversation_id": 1, **_EXAMPLE, "tools": None},
        "one": {"conversation_id": 1, "parameters": {"temperature": None}},
    }

    conversation_id: SentId


class CreatePresetRequest(_Chosen, frozen=True, kw_only=True):
    """A name, and the settings."""

    examples: ClassVar[Examples] = {"contract": {"name": "For clinicians", **_EXAMPLE, "tools": []}}

    nonblank_fields: ClassVar = frozenset({"name"})

    name: str

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """The rules for names and system messages."""
        if "name" in fields:
            yield from preset_name_problems(fields["name"])
        yield from super().rule_errors(fields)


class DeletePresetRequest(Body, frozen=True):
    """The preset to delete."""

    examples: ClassVar[Examples] = {"contract": {"name": "For clinicians"}}

    name: str


class UsedSettingsInfo(msgspec.Struct, frozen=True):
    """The settings of an answer. ``system`` and ``tools`` are null if they were as usual.

    ``left_out`` are the parameters that were set, but that the model or its provider does not accept.
    """

    examples: ClassVar[Examples] = {
        "contract": {
            "system": "Answer in two sentences, for a clinician.",
            "parameters": {"temperature": 0.2},
            "tools": ["gc_content", "translate"],
            "left_out": ["seed"],
        }
    }

    system: str | None
    parameters: dict[str, float | int | str]
    tools: list[str] | None
    left_out: list[str]


def settings_info(settings: ChatSettings) -> SettingsInfo:
    """The JSON of settings."""
    return msgspec.convert(settings, SettingsInfo, from_attributes=True)


def preset_info(preset: Preset) -> PresetInfo:
    """The JSON of a preset."""
    fields = msgspec.structs.asdict(settings_info(preset.settings))
    return PresetInfo(name=preset.name, created_at=preset.created_at, **fields)
