"""The endpoints of sign-in with institutions, and of identities."""

from typing import Annotated, Any
from urllib.parse import parse_qs

import msgspec
from litestar import MediaType, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.params import QueryParameter
from litestar.status_codes import HTTP_303_SEE_OTHER, HTTP_415_UNSUPPORTED_MEDIA_TYPE

from baio_api.auth import Authenticated, origin_of
from baio_api.bodies import media_type_of
from baio_api.middleware import is_head
from baio_api.openapi import operation
from baio_api.responses import JSONString
from baio_api.schemas.accounts import Tokens
from baio_api.schemas.identities import (
    IdentityInfo,
    LinkIdentityRequest,
    RedeemSignInRequest,
    SignInProvider,
    StartedSignIn,
    StartSignInRequest,
    UnlinkIdentityRequest,
    WaysToSignIn,
    identity_info,
)
from baio_domain.errors import InvalidInput, SignInExpired
from baio_domain.use_cases.identities import GetIdentities, LinkIdentity, UnlinkIdentity
from baio_domain.use_cases.institutions import (
    EndSignIn,
    FinishSignIn,
    GetSignInProviders,
    RedeemSignIn,
    StartSignIn,
)

FORM = "application/x-www-form-urlencoded"

MAX_FORM_FIELDS = 20

_STATE = QueryParameter(name="state", description="What startSignIn put into its address.")
_CODE = QueryParameter(description="The code that the institution issues if it signs somebody in.")
_ISSUER = QueryParameter(description="The issuer. By default, the institution does not name it.")
_ERROR = QueryParameter(description="Why the institution did not sign the person in.")


@get("/getSignInProviders", **operation("getSignInProviders", GetSignInProviders))
async def ways_to_sign_in(get_sign_in_providers: NamedDependency[GetSignInProviders]) -> WaysToSignIn:
    """List the ways to sign in."""
    ways = await get_sign_in_providers()
    return WaysToSignIn(ways.passwords, [SignInProvider(each.name, each.label) for each in ways.institutions])


@post("/startSignIn", status_code=200, **operation("startSignIn", StartSignIn, 429))
async def begin_sign_in(
    data: StartSignInRequest, request: Request[Any, Any, Any], start_sign_in: NamedDependency[StartSignIn]
) -> StartedSignIn:
    """Begin to sign in with an institution."""
    return StartedSignIn(await start_sign_in(data.provider, data.return_to, data.challenge, origin_of(request)))


@get(
    "/finishSignIn",
    status_code=HTTP_303_SEE_OTHER,
    **operation("finishSignIn", FinishSignIn),
)
async def end_at_institution(
    request: Request[Any, Any, Any],
    finish_sign_in: NamedDependency[FinishSignIn],
    state_: Annotated[str, _STATE] = "",  # Litestar has a state of its own
    code: Annotated[str, _CODE] = "",
    iss: Annotated[str | None, _ISSUER] = None,
    error: Annotated[str, _ERROR] = "",
) -> Response[bytes]:
    """Come back from an institution."""
    if is_head(request) or _is_only_a_look(request):
        raise SignInExpired
    address = await finish_sign_in(state=state_, code=code, issuer=iss, error=error, origin=origin_of(request))
    return Response(b"", status_code=HTTP_303_SEE_OTHER, media_type=MediaType.TEXT, headers={"Location": address})


def _is_only_a_look(request: Request[Any, Any, Any]) -> bool:
    """Whether a browser asks before the person does, who comes later: the sign-in must not be used up for nothing."""
    purposes = (request.headers.get(name, "") for name in ("sec-purpose", "purpose", "x-moz"))
    return any(purpose.lower().startswith(("prefetch", "preview")) for purpose in purposes)


@post("/redeemSignIn", status_code=200, **operation("redeemSignIn", RedeemSignIn, 403, 409, 429))
async def redeem_ticket(
    data: RedeemSignInRequest, request: Request[Any, Any, Any], redeem_sign_in: NamedDependency[RedeemSignIn]
) -> Tokens:
    """Sign in with a ticket."""
    signed_in = await redeem_sign_in(data.ticket, data.verifier, data.code, origin_of(request))
    return msgspec.convert(signed_in, Tokens, from_attributes=True)


@post(
    "/backchannelLogout",
    status_code=200,
    **operation(
        "backchannelLogout",
        EndSignIn,
        400,
        413,
        415,
        example="Signed out",
        files={FORM: {"logout_token": "%LOGOUT_TOKEN%"}},
    ),
)
async def signed_out_there(request: Request[Any, Any, Any], end_sign_in: NamedDependency[EndSignIn]) -> JSONString:
    """End the sessions of somebody who signed out at the institution."""
    if media_type_of(request, FORM) != FORM:
        raise HTTPException(f"Send a form of the type {FORM}.", status_code=HTTP_415_UNSUPPORTED_MEDIA_TYPE)
    try:
        form = parse_qs((await request.body()).decode("ascii"), max_num_fields=MAX_FORM_FIELDS)
    except ValueError:
        raise InvalidInput("The body is not a form.") from None
    tokens = form.get("logout_token", [""])
    await end_sign_in(tokens[0] if len(tokens) == 1 else "", origin_of(request))
    return JSONString("Signed out")


@get("/getIdentities", **operation("getIdentities", GetIdentities))
async def list_identities(request: Authenticated, get_identities: NamedDependency[GetIdentities]) -> list[IdentityInfo]:
    """List the caller's identities."""
    return [identity_info(each) for each in await get_identities(request.user)]


@post("/linkIdentity", status_code=200, **operation("linkIdentity", LinkIdentity, 403, 409, 429))
async def link(
    data: LinkIdentityRequest, request: Authenticated, link_identity: NamedDependency[LinkIdentity]
) -> IdentityInfo:
    """Link an identity to the caller's account."""
    linked = await link_identity(request.user, data.ticket, data.verifier, password=data.password, code=data.code)
    return identity_info(linked)


@post(
    "/unlinkIdentity",
    status_code=200,
    **operation("unlinkIdentity", UnlinkIdentity, 403, 404, 409, 429, example="Identity unlinked"),
)
async def unlink(
    data: UnlinkIdentityRequest, request: Authenticated, unlink_identity: NamedDependency[UnlinkIdentity]
) -> JSONString:
    """Unlink an identity from the caller's account."""
    await unlink_identity(request.user, data.identity_id, password=data.password, code=data.code)
    return JSONString("Identity unlinked")


OPEN_HANDLERS = [ways_to_sign_in, begin_sign_in, end_at_institution, redeem_ticket, signed_out_there]
"""Those that need no token."""

HANDLERS = [list_identities, link, unlink]
