"""Logging: one structured line per event, as JSON unless standard error is a terminal."""

import logging
import sys
from functools import partial
from typing import TextIO

from baio_api.lean_imports import lean_imports
from baio_domain.api_tokens import ENDING_LENGTH

# For tracebacks that we never show: 10 MB of every process. Nothing else in BAiO imports structlog, so that this holds
# whichever module is imported first.
with lean_imports("rich"):
    import structlog

ACCESS = "baio.access"

access_logger = structlog.get_logger()
"""Writes one line per request. It is the only one that does not go through ``logging``, which takes twice as long."""


def configure_logging(level: str) -> None:
    """Send the logs of BAiO and of every library to standard error, in one format."""
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
    for chatty in ("httpx2", "httpcore2", "openai", "asyncio", "alembic"):
        # At DEBUG these log whole requests: prompts, and some of them headers.
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            _add_access_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *rendering,
        ],
        logger_factory=partial(_Lines, handler),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLogger(ACCESS).getEffectiveLevel()),
        cache_logger_on_first_use=True,
    )


class _Lines:
    """Writes lines where a handler of ``logging`` writes its own, and as whole."""

    def __init__(self, handler: "logging.StreamHandler[TextIO]", *_: object) -> None:
        self._handler = handler

    def info(self, line: str) -> None:
        """Write a line. As in ``logging``, no request fails if that fails."""
        handler = self._handler
        handler.acquire()
        try:
            handler.stream.write(line + handler.terminator)
            handler.flush()
        except (OSError, ValueError):
            pass
        finally:
            handler.release()


def _add_access_name(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event["logger"] = ACCESS
    return event


def begin_request(request_id: str) -> None:
    """Add the id to everything that this request logs, and drop what an earlier one has bound."""
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)


def bind_user(user_id: int) -> None:
    """Add the user's id to everything that this request logs from now on."""
    structlog.contextvars.bind_contextvars(user=user_id)


def bind_token(token: str) -> None:
    """Add to everything that this request logs how its API token ends, as its owner sees it in the list of tokens."""
    structlog.contextvars.bind_contextvars(api_token=token[-ENDING_LENGTH:])


def request_id() -> str:
    """The id of the current request, empty outside of one."""
    return str(structlog.contextvars.get_contextvars().get("request_id", ""))


def _drop_color(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event.pop("color_message", None)  # uvicorn's message again, for its own formatter
    return event


def _not_a_cut_answer(record: logging.LogRecord) -> bool:
    # A cut answer ends without its closing chunk on purpose (R23); baio.answers has logged the reason.
    return "without completing response" not in record.getMessage()
