"""/admin/: what administrators do over HTTP. They need a session; no other kind of token is admitted."""

from collections.abc import AsyncIterator
from typing import Annotated

from litestar import Router, get, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from litestar.types import BeforeRequestHookHandler

from baio_api.auth import SECURITY, Authenticated
from baio_api.errors import renamed_fields
from baio_api.openapi import operation
from baio_api.query import Day, Integer
from baio_api.responses import JSONLines, LongJSON, as_pages
from baio_api.routes.usage import FirstDay, LastDay
from baio_api.schemas.admin import (
    AccountInfo,
    AccountRequest,
    AccountsPage,
    AuditLine,
    InvitationInfo,
    InviteUserRequest,
    UsageOfAccount,
    UsageOfAccounts,
)
from baio_api.schemas.usage import Cost
from baio_domain.prices import PricedUsage, Totals
from baio_domain.use_cases.administration import MAX_ACCOUNTS, DisableUser, EnableUser, Invite, ListUsers, ReadAudit
from baio_domain.use_cases.usage import ReportUsage

HUNDRED = Integer(100)
START = Integer(0)
ANYBODY = InviteUserRequest()

Prefix = Annotated[
    str | None,
    QueryParameter(
        name="query", description="The beginning of the username or the email address. By default, all are listed."
    ),
]
AfterAccount = Annotated[
    Integer, QueryParameter(description="`next` of the response with the accounts before these, or 0 for the first.")
]
Limit = Annotated[
    Integer,
    QueryParameter(
        description="How many accounts the response has at most.", schema_extra={"minimum": 1, "maximum": MAX_ACCOUNTS}
    ),
]
OfAccount = Annotated[
    str | None, QueryParameter(description="The username of the account that it is about. By default, all accounts.")
]
OfKind = Annotated[str | None, QueryParameter(description="The `act` of the entries. By default, all kinds.")]
AfterEntry = Annotated[
    Integer, QueryParameter(description="The `id` of the last entry that the client has, or 0 for the first.")
]
FirstDayOfAudit = Annotated[
    Day | None, QueryParameter(name="from", description="The first day (UTC). By default, the oldest one.")
]


@get("/getUsers", **operation("getUsers", ListUsers, 403))
async def list_accounts(
    request: Authenticated,
    list_users: NamedDependency[ListUsers],
    prefix: Prefix = None,
    after: AfterAccount = START,
    limit: Limit = HUNDRED,
) -> AccountsPage:
    """List the accounts."""
    found = await list_users(request.user, query=prefix, after=after, limit=limit)
    return AccountsPage([AccountInfo.of(each) for each in found.accounts], found.next)


@post("/disableUser", status_code=200, **operation("disableUser", DisableUser, 403, 409))
async def disable_account(
    data: AccountRequest, request: Authenticated, disable_user: NamedDependency[DisableUser]
) -> AccountInfo:
    """Disable an account."""
    return AccountInfo.of(await disable_user(data.username, request.user))


@post("/enableUser", status_code=200, **operation("enableUser", EnableUser, 403))
async def enable_account(
    data: AccountRequest, request: Authenticated, enable_user: NamedDependency[EnableUser]
) -> AccountInfo:
    """Enable an account."""
    return AccountInfo.of(await enable_user(data.username, request.user))


@post("/inviteUser", **operation("inviteUser", Invite, 403))
async def make_invitation(
    request: Authenticated, invite: NamedDependency[Invite], data: InviteUserRequest = ANYBODY
) -> InvitationInfo:
    """Invite somebody."""
    made = await invite(data.email, request.user)
    return InvitationInfo(made.code, made.email, made.until)


@get("/getAudit", **operation("getAudit", ReadAudit, 403, 429))
async def stream_audit(
    request: Authenticated,
    read_audit: NamedDependency[ReadAudit],
    username: OfAccount = None,
    act: OfKind = None,
    first: FirstDayOfAudit = None,
    last: LastDay = None,
    after: AfterEntry = START,
) -> JSONLines[AuditLine]:
    """Read the audit log."""
    with renamed_fields({"first": "from", "last": "to"}):
        entries = read_audit(request.user, username=username, act=act, first=first, last=last, after=after)
        return await JSONLines.begin(as_pages(AuditLine, entries), request)


@get("/getUsage", **operation("getUsageOfAll", ReportUsage, 403, 429))
async def report(
    request: Authenticated,
    report_usage: NamedDependency[ReportUsage],
    first: FirstDay = None,
    last: LastDay = None,
    username: OfAccount = None,
) -> LongJSON[UsageOfAccounts]:
    """Read what the answers of all accounts cost."""
    sums = Totals()
    rows = report_usage(request.user, first, last, username=username)
    document = {
        "days": _rows(rows, sums),
        "totals": lambda: [Cost.of(total) for total in sums.sums],
        "unpriced_answers": lambda: sums.unpriced_answers,
    }
    with renamed_fields({"first": "from", "last": "to"}):
        return await LongJSON.begin(document, request)


async def _rows(
    pages: AsyncIterator[list[tuple[str, PricedUsage]]], sums: Totals
) -> AsyncIterator[list[UsageOfAccount]]:
    async for page in pages:
        sums.add(each for _, each in page)
        yield [UsageOfAccount.of(each, username=name) for name, each in page]


def admin_router(bearer: BeforeRequestHookHandler) -> Router:
    """The endpoints under /admin/. All need a token of a session; who is an administrator, each use case checks."""
    return Router(
        "/admin",
        route_handlers=[
            list_accounts, disable_account, enable_account, make_invitation, stream_audit, report,
        ],
        before_request=bearer,
        security=SECURITY,
        tags=["admin"],
    )  # fmt: skip
