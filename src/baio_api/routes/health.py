"""/health/: liveness and readiness, for load balancers and supervisors."""

from litestar import Router, get
from litestar.di import NamedDependency

from baio_api.openapi import operation
from baio_api.schemas.health import Health
from baio_domain.use_cases.health import CheckReadiness


@get("/live", operation_id="live", summary="Whether the process responds; nothing else is checked.")
async def live() -> Health:
    """Whether the process responds."""
    return Health("ok")


@get("/ready", **operation("ready", CheckReadiness))
async def ready(check_readiness: NamedDependency[CheckReadiness]) -> Health:
    """Whether requests can be served."""
    await check_readiness()
    return Health("ok")


def health_router() -> Router:
    """The endpoints under /health/."""
    return Router("/health", route_handlers=[live, ready], tags=["health"])
