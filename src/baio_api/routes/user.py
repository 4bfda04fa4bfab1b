"""/user/: accounts and tokens."""

import msgspec
from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.types import Guard

from baio_api.auth import SECURITY, Authenticated
from baio_api.openapi import operation
from baio_api.responses import JSONString
from baio_api.schemas import (
    AccessToken,
    AnswerRecordWithContext,
    AuthRequest,
    DeleteAccountRequest,
    ExportedAccount,
    ExportedConversation,
    ExportedData,
    ExportedKey,
    MessageInfo,
    ProfileInfo,
    RefreshRequest,
    RegisterRequest,
    Tokens,
    TokenVerdict,
    UpdateInfoRequest,
    UserInfo,
    ValidateTokenRequest,
)
from baio_domain.entities import PROFILE_FIELDS, Profile
from baio_domain.errors import NotAuthenticated
from baio_domain.use_cases.accounts import (
    DeleteAccount,
    ExportData,
    GetInfo,
    Refresh,
    Register,
    SignIn,
    UpdateInfo,
    ValidateToken,
)


@post("/register", **operation("register", Register, 400, body=True))
async def register_user(data: RegisterRequest, register: NamedDependency[Register]) -> UserInfo:
    """Register a new user."""
    profile = Profile(*(getattr(data, name) for name in PROFILE_FIELDS))
    user = await register(username=data.username, email=data.email, password=data.password, profile=profile)
    return msgspec.convert(user, UserInfo, from_attributes=True)


@post("/auth", status_code=200, **operation("auth", SignIn, 400, body=True))
async def authenticate(data: AuthRequest, sign_in: NamedDependency[SignIn]) -> Tokens:
    """Sign in."""
    return msgspec.convert(await sign_in(data.username, data.password), Tokens, from_attributes=True)


@post(
    "/refresh",
    status_code=200,
    **operation("refresh", Refresh, 400, 401, body=True),
)
async def refresh_token(data: RefreshRequest, refresh: NamedDependency[Refresh]) -> AccessToken:
    """Get a new access token."""
    return AccessToken(await refresh(data.refresh))


@post(
    "/validateToken",
    status_code=200,
    **operation("validateToken", ValidateToken, 400, body=True),
)
async def validate(
    data: ValidateTokenRequest, validate_token: NamedDependency[ValidateToken]
) -> Response[TokenVerdict]:
    """Ask whether an access token holds."""
    try:
        await validate_token(data.token)
    except NotAuthenticated as refusal:
        return Response(TokenVerdict(valid=False, error=refusal.detail), status_code=401)
    return Response(TokenVerdict(valid=True), status_code=200)


@get("/getInfo", security=SECURITY, **operation("getInfo", GetInfo, 401))
async def read_info(request: Authenticated, get_info: NamedDependency[GetInfo]) -> UserInfo:
    """Read one's own account."""
    return msgspec.convert(await get_info(request.user), UserInfo, from_attributes=True)


@post(
    "/updateInfo",
    status_code=200,
    security=SECURITY,
    **operation("updateInfo", UpdateInfo, 400, 401, 403, body=True),
)
async def change_info(
    data: UpdateInfoRequest, request: Authenticated, update_info: NamedDependency[UpdateInfo]
) -> ProfileInfo:
    """Change what one says about oneself."""
    changes = {name: value for name in PROFILE_FIELDS if (value := getattr(data, name)) is not msgspec.UNSET}
    return msgspec.convert(await update_info(request.user, changes), ProfileInfo, from_attributes=True)


@get("/exportData", security=SECURITY, **operation("exportData", ExportData, 401))
async def export(request: Authenticated, export_data: NamedDependency[ExportData]) -> ExportedData:
    """Get everything that is stored about oneself."""
    kept = await export_data(request.user)
    keys = [ExportedKey(key.nickname, key.provider.name, key.created_at) for key in kept.api_keys]
    conversations = [
        ExportedConversation(
            each.conversation.id,
            each.conversation.title,
            each.conversation.created_at,
            msgspec.convert(each.messages, list[MessageInfo], from_attributes=True),
            msgspec.convert(each.answers, list[AnswerRecordWithContext], from_attributes=True),
        )
        for each in kept.conversations
    ]
    return ExportedData(msgspec.convert(kept.account, ExportedAccount, from_attributes=True), keys, conversations)


@post(
    "/deleteAccount",
    status_code=200,
    security=SECURITY,
    **operation("deleteAccount", DeleteAccount, 400, 401, body=True),
)
async def leave(
    data: DeleteAccountRequest, request: Authenticated, delete_account: NamedDependency[DeleteAccount]
) -> JSONString:
    """Delete one's own account."""
    await delete_account(request.user, data.password)
    return JSONString("Account deleted")


def user_router(bearer: Guard) -> Router:
    """The endpoints under /user/, those with accounts behind the guard."""
    anybody = [register_user, authenticate, refresh_token, validate]
    signed_in = Router("/", route_handlers=[read_info, change_info, export, leave], guards=[bearer])
    return Router("/user", route_handlers=[*anybody, signed_in], tags=["user"])
