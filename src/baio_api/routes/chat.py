"""/chat/: the endpoints of conversations, settings, answers, tools and keys."""

from litestar import Router
from litestar.types import BeforeRequestHookHandler

from baio_api.auth import SECURITY
from baio_api.routes import (
    answers,
    api_keys,
    branching,
    conversations,
    exports,
    filing,
    retention,
    sequences,
    settings,
    tools,
    usage,
)
from baio_api.routes.imports import import_router


def chat_router(
    bearer: BeforeRequestHookHandler, max_import_bytes: int = 134_217_728, max_sequence_bytes: int = 16_777_216
) -> Router:
    """The endpoints under /chat/. All need a token. Files to import, and files of sequences, may have so many bytes."""
    return Router(
        "/chat",
        route_handlers=[
            *conversations.HANDLERS,
            *retention.HANDLERS,
            import_router(max_import_bytes),
            *settings.HANDLERS,
            *answers.HANDLERS,
            *tools.HANDLERS,
            *sequences.HANDLERS,
            sequences.uploads(max_sequence_bytes),
            *exports.HANDLERS,
            *filing.HANDLERS,
            *branching.HANDLERS,
            *usage.HANDLERS,
            *api_keys.HANDLERS,
        ],
        before_request=bearer,
        security=SECURITY,
        tags=["chat"],
    )
