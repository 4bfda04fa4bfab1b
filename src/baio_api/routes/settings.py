"""Endpoints of settings and presets."""

from litestar import get, post
from litestar.di import NamedDependency

from baio_api.auth import Authenticated
from baio_api.openapi import operation
from baio_api.responses import JSONString
from baio_api.routes.parameters import ConversationId
from baio_api.schemas.settings import (
    ChangeSettingsRequest,
    CreatePresetRequest,
    DeletePresetRequest,
    PresetInfo,
    SettingsInfo,
    preset_info,
    settings_info,
)
from baio_domain.entities import Scope
from baio_domain.use_cases.settings import ChangeSettings, CreatePreset, DeletePreset, GetPresets, GetSettings


@get("/getSettings", **operation("getSettings", GetSettings, 404, scope=Scope.READ))
async def read_settings(
    conversation_id: ConversationId, request: Authenticated, get_settings: NamedDependency[GetSettings]
) -> SettingsInfo:
    """Read how a conversation is answered."""
    return settings_info(await get_settings(request.user, conversation_id))


@post("/changeSettings", status_code=200, **operation("changeSettings", ChangeSettings, 404, 409, scope=Scope.ASK))
async def change_settings_of_conversation(
    data: ChangeSettingsRequest, request: Authenticated, change_settings: NamedDependency[ChangeSettings]
) -> SettingsInfo:
    """Change how a conversation is answered."""
    return settings_info(await change_settings(request.user, data.conversation_id, data.sent))


@post("/createPreset", **operation("createPreset", CreatePreset, 404, 409, scope=Scope.EDIT))
async def new_preset(
    data: CreatePresetRequest, request: Authenticated, create_preset: NamedDependency[CreatePreset]
) -> PresetInfo:
    """Create a preset."""
    return preset_info(await create_preset(request.user, data.name, data.sent))


@get("/getPresets", **operation("getPresets", GetPresets, scope=Scope.READ))
async def list_presets(request: Authenticated, get_presets: NamedDependency[GetPresets]) -> list[PresetInfo]:
    """List the caller's presets."""
    return [preset_info(preset) for preset in await get_presets(request.user)]


@post(
    "/deletePreset",
    status_code=200,
    **operation(
        "deletePreset", DeletePreset, 404, example="Preset For clinicians successfully deleted", scope=Scope.EDIT
    ),
)
async def remove_preset(
    data: DeletePresetRequest, request: Authenticated, delete_preset: NamedDependency[DeletePreset]
) -> JSONString:
    """Delete a preset."""
    await delete_preset(request.user, data.name)
    return JSONString(f"Preset {data.name} successfully deleted")


HANDLERS = [
    read_settings,
    change_settings_of_conversation,
    new_preset,
    list_presets,
    remove_preset,
]
