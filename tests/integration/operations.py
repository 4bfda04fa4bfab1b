"""Every operation of the API, taken from its routes: for tests that try all of them."""

import re
from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter

from baio_api.query import sent_name
from baio_api.routes.admin import admin_router
from baio_api.routes.chat import chat_router
from baio_api.routes.completions import completions_router
from baio_api.routes.health import health_router
from baio_api.routes.user import user_router


@dataclass(frozen=True)
class Operation:
    """One operation: its path as documented, whether it needs a token, and what may be sent.

    ``scope`` is the one that an API token needs, None where none is enough.
    """

    name: str
    method: str
    path: str
    bearer: bool
    query: frozenset[str]
    body: frozenset[str]
    takes_file: bool
    scope: str | None

    @property
    def fields(self) -> frozenset[str]:
        """The names of the query parameters and of the body's fields."""
        return self.query | self.body

    def send(self, http: httpx2.Client, sent: dict[str, Any]) -> httpx2.Response:
        """Send this in the query or in the body."""
        return http.get(self.path, params=sent) if self.method == "GET" else http.post(self.path, json=sent)


def _operation(path: str, handler: HTTPRouteHandler) -> Operation:
    parameters = handler.parsed_fn_signature.parameters
    queries = (each for each in parameters.values() if isinstance(each.kwarg_definition, QueryParameter))
    data = parameters.get("data")
    return Operation(
        name=str(handler.operation_id),
        method=next(iter(handler.http_methods)),
        path=path if path.startswith("/health") else f"{re.sub(':[a-z]+}', '}', path)}/",
        bearer=bool(handler.resolve_security()),
        query=frozenset(map(sent_name, queries)),
        body=frozenset(each.encode_name for each in msgspec.structs.fields(data.annotation)) if data else frozenset(),
        takes_file=bool(handler.opt.get("files")),
        scope=handler.opt.get("scope"),
    )


def _unguarded(*_: object) -> None:
    """Stands for the guard: nothing is sent to these routes."""


OPERATIONS = {
    operation.name: operation
    for router in (
        user_router(_unguarded),
        chat_router(_unguarded, 1024),
        completions_router(_unguarded),
        admin_router(_unguarded),
        health_router(),
    )
    for route in router.routes
    for handler in getattr(route, "route_handlers", [])
    if handler.operation_id is not None  # else it answers OPTIONS
    for operation in [_operation(route.path, handler)]
}
