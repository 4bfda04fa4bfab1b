"""/chat/: the endpoints of conversations, answers, tools and keys."""

from litestar import Router
from litestar.types import BeforeRequestHookHandler

from baio_api.auth import SECURITY
from baio_api.routes import answers, api_keys, conversations, exports, sequences, tools


def chat_router(bearer: BeforeRequestHookHandler, max_sequence_bytes: int) -> Router:
    """The endpoints under /chat/. All need a token."""
    return Router(
        "/chat",
        route_handlers=[
            *conversations.HANDLERS,
            *answers.HANDLERS,
            *tools.HANDLERS,
            *exports.HANDLERS,
            *sequences.HANDLERS,
            sequences.uploads(max_sequence_bytes),
            *api_keys.HANDLERS,
        ],
        before_request=bearer,
        security=SECURITY,
        tags=["chat"],
    )
