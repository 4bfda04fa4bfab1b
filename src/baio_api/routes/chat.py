"""/chat/: the endpoints of conversations, answers, tools and keys."""

from litestar import Router
from litestar.types import BeforeRequestHookHandler

from baio_api.auth import SECURITY
from baio_api.routes import answers, api_keys, branching, conversations, retention, tools
from baio_api.routes.imports import import_router


def chat_router(bearer: BeforeRequestHookHandler, max_import_bytes: int = 134_217_728) -> Router:
    """The endpoints under /chat/. All need a token. A file to import may have so many bytes."""
    return Router(
        "/chat",
        route_handlers=[
            *conversations.HANDLERS,
            *branching.HANDLERS,
            *retention.HANDLERS,
            import_router(max_import_bytes),
            *answers.HANDLERS,
            *tools.HANDLERS,
            *api_keys.HANDLERS,
        ],
        before_request=bearer,
        security=SECURITY,
        tags=["chat"],
    )
