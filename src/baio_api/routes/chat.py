"""/chat/: the endpoints of conversations, settings, answers, tools and keys."""

from litestar import Router
from litestar.types import BeforeRequestHookHandler

from baio_api.auth import SECURITY
from baio_api.routes import answers, api_keys, conversations, settings, tools, usage


def chat_router(bearer: BeforeRequestHookHandler) -> Router:
    """The endpoints under /chat/. All need a token."""
    return Router(
        "/chat",
        route_handlers=[
            *conversations.HANDLERS,
            *settings.HANDLERS,
            *answers.HANDLERS,
            *usage.HANDLERS,
            *tools.HANDLERS,
            *api_keys.HANDLERS,
        ],
        before_request=bearer,
        security=SECURITY,
        tags=["chat"],
    )
