"""/user/: accounts, sessions and second factors."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.types import BeforeRequestHookHandler

from baio_api.auth import SECURITY, Authenticated, origin_of
from baio_api.errors import renamed_fields
from baio_api.openapi import operation
from baio_api.responses import JSONString, LongJSON, as_pages, tool_call_pages
from baio_api.routes import api_tokens, identities, retention
from baio_api.schemas.account_export import (
    ExportedAccount,
    ExportedAct,
    ExportedData,
    ExportedIdempotencyKey,
    ExportedIdentity,
    ExportedKey,
    ExportedSession,
    ExportedText,
    ExportedUsage,
)
from baio_api.schemas.accounts import (
    AccessToken,
    AuthRequest,
    ConfirmTwoFactorRequest,
    DeleteAccountRequest,
    DisableTwoFactorRequest,
    EnrollTwoFactorRequest,
    LogoutRequest,
    ProfileInfo,
    RecoveryCodes,
    RefreshRequest,
    RegisterRequest,
    ResetPasswordRequest,
    SessionInfo,
    Tokens,
    TokenVerdict,
    TwoFactorEnrolment,
    TwoFactorInfo,
    UpdateCredentialsRequest,
    UpdateInfoRequest,
    UserInfo,
    ValidateTokenRequest,
)
from baio_api.schemas.answers import AnswerRecordWithAll
from baio_api.schemas.api_tokens import TokenInfo
from baio_api.schemas.conversations import MessageInfo
from baio_api.schemas.sequences import SequenceInfo
from baio_api.schemas.settings import preset_info, settings_info
from baio_domain.entities import PROFILE_FIELDS, Profile, Scope
from baio_domain.errors import NotAuthenticated
from baio_domain.use_cases.accounts import (
    DeleteAccount,
    ExportData,
    ExportedConversation,
    GetInfo,
    RedeemReset,
    Register,
    UpdateCredentials,
    UpdateInfo,
)
from baio_domain.use_cases.second_factor import ConfirmTwoFactor, DisableTwoFactor, EnrollTwoFactor, GetTwoFactor
from baio_domain.use_cases.sessions import GetSessions, Refresh, SignIn, SignOut, SignOutEverywhere, ValidateToken

Unauthenticated = Request[Any, Any, Any]
"""A request that needs no token."""


@post("/register", **operation("register", Register))
async def register_user(
    data: RegisterRequest, request: Unauthenticated, register: NamedDependency[Register]
) -> UserInfo:
    """Register a new user."""
    profile = Profile(*(getattr(data, name) for name in PROFILE_FIELDS))
    user = await register(
        username=data.username,
        email=data.email,
        password=data.password,
        profile=profile,
        invitation=data.invitation,
        origin=origin_of(request),
    )
    return msgspec.convert(user, UserInfo, from_attributes=True)


@post("/auth", status_code=200, **operation("auth", SignIn, 409, 429))
async def authenticate(data: AuthRequest, request: Unauthenticated, sign_in: NamedDependency[SignIn]) -> Tokens:
    """Sign in."""
    signed_in = await sign_in(data.username, data.password, data.code, origin_of(request))
    return msgspec.convert(signed_in, Tokens, from_attributes=True)


@post(
    "/refresh",
    status_code=200,
    **operation("refresh", Refresh, 401),
)
async def refresh_token(data: RefreshRequest, refresh: NamedDependency[Refresh]) -> AccessToken:
    """Get a new access token."""
    return AccessToken(await refresh(data.refresh))


_NOT_VALID = ResponseSpec(TokenVerdict, description="The token is not valid.", generate_examples=False)


@post(
    "/validateToken",
    status_code=200,
    **operation("validateToken", ValidateToken, responses={401: _NOT_VALID}),
)
async def validate(
    data: ValidateTokenRequest, validate_token: NamedDependency[ValidateToken]
) -> Response[TokenVerdict]:
    """Check whether an access token is valid."""
    try:
        await validate_token(data.token)
    except NotAuthenticated as refusal:
        return Response(TokenVerdict(valid=False, error=refusal.detail), status_code=401)
    return Response(TokenVerdict(valid=True), status_code=200)


@post("/logout", status_code=200, **operation("logout", SignOut, example="Signed out"))
async def end_session(data: LogoutRequest, request: Unauthenticated, sign_out: NamedDependency[SignOut]) -> JSONString:
    """End one session."""
    with renamed_fields({"refresh_token": "refresh"}):
        await sign_out(data.refresh, origin_of(request))
    return JSONString("Signed out")


@post(
    "/resetPassword",
    status_code=200,
    **operation("resetPassword", RedeemReset, example="Password changed"),
)
async def redeem(
    data: ResetPasswordRequest, request: Unauthenticated, redeem_reset: NamedDependency[RedeemReset]
) -> JSONString:
    """Set a new password with the token of a link."""
    with renamed_fields({"secret": "token"}):
        await redeem_reset(data.token, data.password, origin_of(request))
    return JSONString("Password changed")


@post(
    "/logoutEverywhere",
    status_code=200,
    **operation("logoutEverywhere", SignOutEverywhere, example="Signed out everywhere"),
)
async def end_all_sessions(
    request: Authenticated, sign_out_everywhere: NamedDependency[SignOutEverywhere]
) -> JSONString:
    """End all sessions."""
    await sign_out_everywhere(request.user)
    return JSONString("Signed out everywhere")


@get("/getSessions", **operation("getSessions", GetSessions))
async def list_sessions(request: Authenticated, get_sessions: NamedDependency[GetSessions]) -> list[SessionInfo]:
    """List the caller's sessions."""
    return [
        SessionInfo(
            each.id,
            each.created_at,
            each.last_used_at,
            each.user_agent,
            current=each.token_id == request.user.session_id,
        )
        for each in await get_sessions(request.user)
    ]


@post(
    "/enrollTwoFactor",
    status_code=200,
    **operation("enrollTwoFactor", EnrollTwoFactor, 409, 429),
)
async def enroll(
    data: EnrollTwoFactorRequest, request: Authenticated, enroll_two_factor: NamedDependency[EnrollTwoFactor]
) -> TwoFactorEnrolment:
    """Start to enable two-factor authentication."""
    enrolment = await enroll_two_factor(request.user, data.password)
    import segno  # noqa: PLC0415 - few processes ever draw a code

    picture = segno.make(enrolment.otpauth_uri, micro=False).svg_inline(scale=4)
    return TwoFactorEnrolment(enrolment.secret, enrolment.otpauth_uri, picture)


@post(
    "/confirmTwoFactor",
    status_code=200,
    **operation("confirmTwoFactor", ConfirmTwoFactor, 409, 429),
)
async def confirm(
    data: ConfirmTwoFactorRequest, request: Authenticated, confirm_two_factor: NamedDependency[ConfirmTwoFactor]
) -> RecoveryCodes:
    """Enable two-factor authentication."""
    return RecoveryCodes(await confirm_two_factor(request.user, data.code))


@post(
    "/disableTwoFactor",
    status_code=200,
    **operation("disableTwoFactor", DisableTwoFactor, 403, 409, 429, example="Two-factor authentication disabled"),
)
async def disable(
    data: DisableTwoFactorRequest, request: Authenticated, disable_two_factor: NamedDependency[DisableTwoFactor]
) -> JSONString:
    """Disable two-factor authentication."""
    await disable_two_factor(request.user, data.password, data.code)
    return JSONString("Two-factor authentication disabled")


@get("/getTwoFactor", **operation("getTwoFactor", GetTwoFactor))
async def read_two_factor(request: Authenticated, get_two_factor: NamedDependency[GetTwoFactor]) -> TwoFactorInfo:
    """Check whether two-factor authentication is enabled."""
    return msgspec.convert(await get_two_factor(request.user), TwoFactorInfo, from_attributes=True)


@post(
    "/updateCredentials",
    status_code=200,
    **operation("updateCredentials", UpdateCredentials, 403, 409, 429),
)
async def change_credentials(
    data: UpdateCredentialsRequest, request: Authenticated, update_credentials: NamedDependency[UpdateCredentials]
) -> UserInfo:
    """Change username, email or password."""
    changes = {
        name: value for name in ("username", "email", "password") if (value := getattr(data, name)) is not msgspec.UNSET
    }
    user = await update_credentials(request.user, password=data.current_password, code=data.code, changes=changes)
    return msgspec.convert(user, UserInfo, from_attributes=True)


@get("/getInfo", **operation("getInfo", GetInfo, scope=Scope.READ))
async def read_info(request: Authenticated, get_info: NamedDependency[GetInfo]) -> UserInfo:
    """Read the caller's account."""
    return msgspec.convert(await get_info(request.user), UserInfo, from_attributes=True)


@post(
    "/updateInfo",
    status_code=200,
    **operation("updateInfo", UpdateInfo, 403),
)
async def change_info(
    data: UpdateInfoRequest, request: Authenticated, update_info: NamedDependency[UpdateInfo]
) -> ProfileInfo:
    """Change the caller's profile."""
    changes = {name: value for name in PROFILE_FIELDS if (value := getattr(data, name)) is not msgspec.UNSET}
    return msgspec.convert(await update_info(request.user, changes), ProfileInfo, from_attributes=True)


@get("/exportData", **operation("exportData", ExportData, 429))
async def export(request: Authenticated, export_data: NamedDependency[ExportData]) -> LongJSON[ExportedData]:
    """Get everything that is stored about the caller."""
    data = await export_data(request.user)
    keys = [ExportedKey(key.nickname, key.provider.name, key.created_at) for key in data.api_keys]
    document = {
        "account": msgspec.convert(data.account, ExportedAccount, from_attributes=True),
        "two_factor_enabled_at": data.two_factor_enabled_at,
        "sessions": msgspec.convert(data.sessions, list[ExportedSession], from_attributes=True),
        "api_tokens": [TokenInfo.of(each) for each in data.api_tokens],
        "api_keys": keys,
        "conversations": _exported(data.conversations),
        "audit": as_pages(ExportedAct, data.audit),
        "idempotency_keys": as_pages(ExportedIdempotencyKey, data.idempotency_keys),
        "tool_calls": tool_call_pages(data.tool_calls),
        "sequences": as_pages(SequenceInfo, data.sequences),
        "usage": msgspec.convert(data.usage, list[ExportedUsage], from_attributes=True),
        "presets": [preset_info(preset) for preset in data.presets],
        "identities": msgspec.convert(data.identities, list[ExportedIdentity], from_attributes=True),
    }
    return await LongJSON.begin(document, request)


async def _exported(conversations: AsyncIterator[list[ExportedConversation]]) -> AsyncIterator[list[dict[str, Any]]]:
    """Each conversation with the fields of ``schemas.ExportedConversation``."""
    async for page in conversations:
        yield [
            {
                "id": each.conversation.id,
                "title": each.conversation.title,
                "created_at": each.conversation.created_at,
                "updated_at": each.filing.updated_at,
                "tags": list(each.filing.tags),
                "pinned": each.filing.pinned,
                "archived": each.filing.archived,
                "kept": each.retention.kept,
                "temporary": each.retention.temporary,
                "goes_at": each.goes_at,
                "messages": as_pages(MessageInfo, each.messages),
                "answers": as_pages(AnswerRecordWithAll, each.answers),
                "kept_texts": as_pages(ExportedText, each.kept_texts),
                "tool_calls": tool_call_pages(each.tool_calls),
                "settings": settings_info(each.settings),
            }
            for each in page
        ]


@post(
    "/deleteAccount",
    status_code=200,
    **operation("deleteAccount", DeleteAccount, 409, 429, example="Account deleted"),
)
async def leave(
    data: DeleteAccountRequest, request: Authenticated, delete_account: NamedDependency[DeleteAccount]
) -> JSONString:
    """Delete the caller's account.

    What belongs to a large one is deleted within minutes. Nobody can read it meanwhile.
    """
    await delete_account(request.user, data.password, data.code)
    return JSONString("Account deleted")


def user_router(bearer: BeforeRequestHookHandler) -> Router:
    """The endpoints under /user/, with those that need a token behind the guard."""
    unguarded = [
        register_user, authenticate, refresh_token, validate, end_session, redeem, *identities.OPEN_HANDLERS,
    ]  # fmt: skip
    guarded = [
        read_info, change_info, change_credentials, end_all_sessions, list_sessions, enroll, confirm, disable,
        read_two_factor, export, leave, *retention.USER_HANDLERS, *api_tokens.HANDLERS, *identities.HANDLERS,
    ]  # fmt: skip
    return Router(
        "/user",
        route_handlers=[*unguarded, Router("/", route_handlers=guarded, before_request=bearer, security=SECURITY)],
        tags=["user"],
    )
