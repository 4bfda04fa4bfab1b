"""Endpoints of API tokens. No API token can use them."""

from litestar import get, post
from litestar.di import NamedDependency

from baio_api.auth import Authenticated
from baio_api.openapi import operation
from baio_api.responses import JSONString
from baio_api.schemas.api_tokens import CreatedTokenInfo, CreateTokenRequest, RevokeTokenRequest, TokenInfo
from baio_domain.use_cases.api_tokens import CreateToken, GetTokens, RevokeToken


@post("/createToken", **operation("createToken", CreateToken, 409, 429))
async def new_token(
    data: CreateTokenRequest, request: Authenticated, create_token: NamedDependency[CreateToken]
) -> CreatedTokenInfo:
    """Create an API token."""
    created = await create_token(
        request.user,
        name=data.name,
        scopes=data.scopes,
        password=data.password,
        expires_at=data.expires_at,
        code=data.code,
    )
    return CreatedTokenInfo.of(created.stored, created.token)


@get("/getTokens", **operation("getTokens", GetTokens))
async def list_tokens(request: Authenticated, get_tokens: NamedDependency[GetTokens]) -> list[TokenInfo]:
    """List the caller's API tokens."""
    return [TokenInfo.of(each) for each in await get_tokens(request.user)]


@post(
    "/revokeToken",
    status_code=200,
    **operation("revokeToken", RevokeToken, 404, example="API token Notebook on the lab's server successfully revoked"),
)
async def revoke(
    data: RevokeTokenRequest, request: Authenticated, revoke_token: NamedDependency[RevokeToken]
) -> JSONString:
    """Revoke an API token."""
    await revoke_token(request.user, data.name)
    return JSONString(f"API token {data.name.strip()} successfully revoked")


HANDLERS = [new_token, list_tokens, revoke]
