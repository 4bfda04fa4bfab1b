"""The HTTP application."""

import gc
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from multiprocessing.connection import Connection

from litestar import Litestar, Router
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp

from baio_api.auth import bearer_guard
from baio_api.bodies import JSONBody
from baio_api.container import USE_CASES, Container, report_metrics
from baio_api.errors import bug_response, domain_error_response, http_error_response, problem_for_docs_404
from baio_api.lean_imports import lean_imports
from baio_api.logs import configure_logging
from baio_api.middleware import (
    HeadMiddleware,
    PreflightMiddleware,
    RequestLogMiddleware,
    RequestMetricsMiddleware,
    SecurityHeadersMiddleware,
    TrustedProxiesMiddleware,
)
from baio_api.openapi import docs_assets, openapi_config
from baio_api.private_files import keep_private
from baio_api.query import QUERY_DECODERS
from baio_api.routes import mcp
from baio_api.routes.admin import admin_router
from baio_api.routes.chat import chat_router
from baio_api.routes.completions import SDK_HEADERS, UNUSED_PARAMETERS, completions_router
from baio_api.routes.health import health_router
from baio_api.routes.pages import pages_router
from baio_api.routes.user import user_router
from baio_api.server import draining_on_signal, end_with_parent
from baio_api.settings import Settings
from baio_domain.errors import BaioError
from baio_domain.ports import NO_METRICS, Level


def create_app(container: Container) -> ASGIApp:
    """Build the application from the container. Override the container's providers before the call."""
    settings: Settings = container.settings()
    bearer = bearer_guard(container.tokens(), container.admit_token())
    metrics = container.metrics()

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        # Long streams keep many objects alive for minutes, and a collection stalls every stream at once. So what
        # exists now is exempted from collection, and collections become rarer.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 1000)
        answering = container.answering()
        with metrics.watching(_levels(container)):
            async with (
                answering.running(settings.drain_seconds),
                container.streams().running(),
                container.keeper().running(),
                container.last_uses().running(),
            ):
                with draining_on_signal(answering, settings.drain_seconds):
                    yield
            for gateway in container.gateways().values():
                await gateway.aclose()
            await container.identity_providers().aclose()
            await container.toolbox().aclose()
            container.database().close()

    provided = {name: _provide(getattr(container, name)()) for name in USE_CASES}
    chat = chat_router(bearer, settings.max_import_bytes, settings.max_sequence_bytes)
    cors = CORSConfig(
        allow_origins=settings.origins,
        allow_credentials=settings.cors_credentials,
        allow_headers=[
            "Authorization",
            "Content-Type",
            "Idempotency-Key",
            "Last-Event-ID",
            "X-Request-ID",
            *mcp.HEADERS,
            *SDK_HEADERS,
        ],
        allow_methods=["GET", "HEAD", "POST"],
        expose_headers=[
            "Content-Disposition",
            "Retry-After",
            "X-Answer-ID",
            "X-Conversation-ID",
            "X-Request-ID",
            UNUSED_PARAMETERS,
        ],
        max_age=600,
    )
    routers = [
        user_router(bearer),
        chat,
        completions_router(bearer, settings.max_completion_bytes),
        admin_router(bearer),
        health_router(),
        mcp.mcp_router(bearer, cors.is_origin_allowed),
    ]
    for router in routers:
        _give_use_cases(router, provided)
    with lean_imports("pydantic"):  # 10 MB of every process; Litestar has plugins for them
        app = Litestar(
            route_handlers=[*routers, pages_router(), docs_assets()],
            dto=JSONBody,
            return_dto=None,
            type_decoders=QUERY_DECODERS,
            state=State(
                {"open_stream": container.open_stream(), "leave_answer": container.leave_answer()}, deep_copy=False
            ),
            exception_handlers={
                BaioError: domain_error_response,
                HTTPException: http_error_response,
                Exception: bug_response,
            },
            cors_config=cors,
            after_request=problem_for_docs_404,
            request_max_body_size=settings.max_body_bytes,
            openapi_config=openapi_config(version("baio")),
            lifespan=[lifespan],
            logging_config=None,
        )
    measured = app if metrics is NO_METRICS else RequestMetricsMiddleware(app, metrics)
    proxied = TrustedProxiesMiddleware(measured, settings.proxies) if settings.proxies else measured
    return SecurityHeadersMiddleware(RequestLogMiddleware(HeadMiddleware(PreflightMiddleware(proxied))))


def _provide(use_case: object) -> Provide:
    def provided() -> object:
        return use_case

    return Provide(provided, sync_to_thread=False)


def _give_use_cases(router: Router, provided: Mapping[str, Provide]) -> None:
    """Give each handler only what it takes: Litestar compares all dependencies of each handler with each other."""
    for route in router.routes:
        for handler in getattr(route, "route_handlers", []):
            taken = inspect.signature(handler.fn).parameters
            handler.dependencies = {name: provide for name, provide in provided.items() if name in taken}


def _levels(container: Container) -> dict[Level, Callable[[], int]]:
    """What metrics watch."""
    answering, streams, hasher, toolbox = (
        container.answering(), container.streams(), container.hasher(), container.toolbox()
    )  # fmt: skip
    return {
        "running_answers": lambda: answering.count,
        "open_streams": lambda: streams.count,
        "waiting_passwords": lambda: hasher.waiting,
        "tool_processes": lambda: toolbox.processes,
    }


def app_from_environment(reports: Callable[[], Connection] | None = None) -> ASGIApp:
    """Build the application from the environment: the factory that a server process calls.

    What ``reports`` returns is where the process reports its metrics.
    """
    end_with_parent()
    settings = Settings.from_environment()
    keep_private(settings)
    configure_logging(settings.log_level)
    settings.ensure_secret()
    container = Container(settings=settings)
    if reports is not None:
        report_metrics(container, reports())
    return create_app(container)
