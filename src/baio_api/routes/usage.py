"""The endpoint of what answers cost."""

from typing import Annotated

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from baio_api.auth import Authenticated
from baio_api.errors import renamed_fields
from baio_api.openapi import operation
from baio_api.query import Day, Flag
from baio_api.routes.parameters import NO
from baio_api.schemas.usage import Cost, PricedUsage, PricedUsageOfDay, UsageOfDay
from baio_domain.entities import Scope
from baio_domain.prices import Totals
from baio_domain.use_cases.usage import GetUsage

FirstDay = Annotated[
    Day | None,
    QueryParameter(name="from", description="The first day (UTC). By default, the 29th day before the last one."),
]

LastDay = Annotated[
    Day | None, QueryParameter(name="to", description="The last day (UTC), included. By default, today.")
]

WithMoney = Annotated[
    Flag, QueryParameter(description="Whether to say what it cost, by the prices that this installation knows.")
]


@get("/getUsage", **operation("getUsage", GetUsage, scope=Scope.READ))
async def read_usage(
    request: Authenticated,
    get_usage: NamedDependency[GetUsage],
    first: FirstDay = None,
    last: LastDay = None,
    money: WithMoney = NO,
) -> PricedUsage | list[UsageOfDay]:
    """Read how many tokens the caller's own answers used, and what they cost."""
    with renamed_fields({"first": "from", "last": "to"}):
        priced = await get_usage(request.user, first, last)
    if not money:
        return msgspec.convert([each.usage for each in priced], list[UsageOfDay], from_attributes=True)
    totals = Totals(priced)
    days = [PricedUsageOfDay.of(each) for each in priced]
    return PricedUsage(days, [Cost.of(total) for total in totals.sums], totals.unpriced_answers)


HANDLERS = [read_usage]
