"""Endpoints of providers and API keys."""

import msgspec
from litestar import get, post
from litestar.di import NamedDependency

from baio_api.auth import Authenticated
from baio_api.errors import renamed_fields
from baio_api.openapi import operation
from baio_api.responses import JSONString
from baio_api.routes.answers import HEADER_FIELDS
from baio_api.routes.parameters import IdempotencyKey
from baio_api.schemas.api_keys import (
    AddApiKeyRequest,
    AddedApiKey,
    ApiKeyInfo,
    CheckedApiKey,
    DeleteApiKeyRequest,
    ProviderInfo,
    RenameApiKeyRequest,
    TestApiKeyRequest,
)
from baio_domain.entities import Scope
from baio_domain.use_cases.api_keys import AddApiKey, CheckApiKey, DeleteApiKey, GetApiKeys, RenameApiKey
from baio_domain.use_cases.catalogue import GetProviders


@get("/getLLMProviders", **operation("getLLMProviders", GetProviders, scope=Scope.READ))
async def list_providers(request: Authenticated, get_providers: NamedDependency[GetProviders]) -> list[ProviderInfo]:
    """List the providers and their models."""
    return msgspec.convert(await get_providers(request.user), list[ProviderInfo], from_attributes=True)


@post("/addAPIKey", **operation("addAPIKey", AddApiKey, 409, 422))
async def store_key(
    request: Authenticated,
    data: AddApiKeyRequest,
    add_api_key: NamedDependency[AddApiKey],
    idempotency_key: IdempotencyKey = None,
) -> AddedApiKey:
    """Store an API key."""
    # Each part comes under one of two names, and errors use the one that the client has used.
    sent_as = {
        part: other if getattr(data, part) is msgspec.UNSET and getattr(data, other) is not msgspec.UNSET else part
        for part, other in (("key", "apiKey"), ("nickname", "name"), ("provider", "apiProvider"))
    }
    key, nickname, provider = (getattr(data, name) for name in sent_as.values())
    with renamed_fields(sent_as | HEADER_FIELDS):
        stored = await add_api_key(
            request.user,
            key=key or "",
            nickname=nickname or "",
            provider=None if provider is msgspec.UNSET else provider,
            idempotency_key=idempotency_key,
        )
    return AddedApiKey(nickname=stored.nickname, user=stored.user_id)


@get("/getApiKeys", **operation("getApiKeys", GetApiKeys, scope=Scope.READ))
async def list_keys(request: Authenticated, get_api_keys: NamedDependency[GetApiKeys]) -> list[ApiKeyInfo]:
    """List the caller's API keys."""
    return msgspec.convert(await get_api_keys(request.user), list[ApiKeyInfo], from_attributes=True)


@post(
    "/deleteAPIKey",
    status_code=200,
    **operation("deleteAPIKey", DeleteApiKey, 404, example="API key OpenAI Key successfully deleted"),
)
async def remove_key(
    data: DeleteApiKeyRequest, request: Authenticated, delete_api_key: NamedDependency[DeleteApiKey]
) -> JSONString:
    """Delete an API key."""
    return JSONString(f"API key {await delete_api_key(request.user, data.nickname)} successfully deleted")


@post(
    "/renameAPIKey",
    status_code=200,
    **operation("renameAPIKey", RenameApiKey, 404, example="API key successfully renamed to Lab Key"),
)
async def change_nickname(
    data: RenameApiKeyRequest, request: Authenticated, rename_api_key: NamedDependency[RenameApiKey]
) -> JSONString:
    """Rename an API key."""
    nickname = await rename_api_key(request.user, data.nickname, data.new_nickname)
    return JSONString(f"API key successfully renamed to {nickname}")


@post("/testAPIKey", status_code=200, **operation("testAPIKey", CheckApiKey, 404, 409, 429))
async def test_key(
    data: TestApiKeyRequest, request: Authenticated, check_api_key: NamedDependency[CheckApiKey]
) -> CheckedApiKey:
    """Ask the provider whether it accepts an API key."""
    return msgspec.convert(await check_api_key(request.user, data.nickname), CheckedApiKey, from_attributes=True)


HANDLERS = [
    list_providers,
    store_key,
    list_keys,
    remove_key,
    change_nickname,
    test_key,
]
