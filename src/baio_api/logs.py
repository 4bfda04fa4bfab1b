"""Logs: one structured line per event, JSON when not read on a terminal; and one line per request."""

import logging
import re
import sys
import time
import uuid

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

# structlog loads rich where it is installed, for tracebacks that we never show: 10 MB of every process.
_without_rich = "rich" not in sys.modules
if _without_rich:
    sys.modules["rich"] = None  # type: ignore[assignment]  # what Python takes for "is not there"
import structlog  # noqa: E402

if _without_rich:
    del sys.modules["rich"]

access = structlog.stdlib.get_logger("baio.access")

_ACCEPTABLE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def configure_logging(level: str) -> None:
    """Send everything that is logged, by whichever library, to standard error in one form."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _drop_color,
    ]
    terminal = sys.stderr.isatty()
    # Tracebacks are plain: the pretty ones show the values of local variables, secrets among them.
    rendering: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if terminal
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.getLogger("uvicorn.error").addFilter(_not_a_cut_answer)
    for talkative in ("httpx2", "httpcore2", "openai", "asyncio", "alembic"):
        # At DEBUG they write whole requests: prompts, and once even headers.
        logging.getLogger(talkative).setLevel(logging.WARNING)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def bind_user(user_id: int) -> None:
    """Let whatever is logged from here on in this request say whose it is."""
    structlog.contextvars.bind_contextvars(user=user_id)


def request_id() -> str:
    """The id of the request that is being served, or nothing."""
    return str(structlog.contextvars.get_contextvars().get("request_id", ""))


def _drop_color(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event.pop("color_message", None)  # uvicorn's message once more, for its own formatter
    return event


def _not_a_cut_answer(record: logging.LogRecord) -> bool:
    # A cut answer leaves its response open on purpose; baio.answers has logged why.
    return "without completing response" not in record.getMessage()


_SAFETY = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
API = (
    *_SAFETY,
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
"""What every response says unless it says otherwise itself."""
_OWN = b"script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'"
PAGE = (
    *_SAFETY,
    (b"content-security-policy", b"default-src 'none'; %b; connect-src 'self'; frame-ancestors 'none'" % _OWN),
)
"""What the documentation's page needs: its own files, and the script that begins it."""


class RequestLog:
    """Around the whole application: gives every request an id, and logs one line when its response has ended.

    Every response also says that it is what it says it is, and that nothing may be loaded, framed or told on from it.

    The id is the client's ``X-Request-ID`` where that looks like an id, and goes back in ``X-Request-ID``; everything
    logged on the way carries it. Neither bodies nor query strings nor headers are logged.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = given if _ACCEPTABLE_ID.fullmatch(given) else uuid.uuid4().hex.encode()
        status = 0
        finished = False

        async def send_with_id(message: Message) -> None:
            nonlocal status, finished
            if message["type"] == "http.response.body":
                finished = not message.get("more_body", False)
            elif message["type"] == "http.response.start":
                status = message["status"]
                own = {name.lower() for name, _ in message["headers"]}
                added = PAGE if scope["path"].startswith("/docs") else API
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id),
                    *((name, value) for name, value in added if name not in own),
                ]
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id.decode())
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            access.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                finished=finished,
                milliseconds=round((time.perf_counter() - started) * 1000, 1),
            )
