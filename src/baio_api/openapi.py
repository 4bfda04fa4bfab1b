"""The OpenAPI document: what Litestar derives from the handlers, completed by what it can't know."""

import inspect
from http import HTTPStatus
from pathlib import Path
from typing import Any

import litestar_offline_docs
from litestar import Litestar, Router
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.openapi.spec import (
    Components,
    Example,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Reference,
    Schema,
    SecurityScheme,
)
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType
from litestar.static_files import create_static_files_router

from baio_api.examples import EXAMPLES
from baio_api.schemas import Problem

DOCS_PATH = "/docs"
MEDIA_TYPE = "application/problem+json"

_DESCRIPTION_BY_STATUS = {
    400: "The request is not valid; `errors` names every bad field.",
    401: "The access token is missing, malformed, expired or revoked; refresh it and send the request again.",
    403: "Not allowed.",
    404: "Does not exist for this caller.",
    409: (
        "Something else is in the way: the conversation is being answered (`answer_id`), what was stored encrypted"
        " can't be opened, or two-factor authentication is on already, or not begun with."
    ),
    413: "The body is too large.",
    415: "The body does not claim to be JSON.",
    422: "The Idempotency-Key was used for another request within 24 hours.",
    424: "The provider refuses the API key.",
    429: (
        "The provider limits this key, too many of the user's questions are being answered, or too many attempts to"
        " sign in, or to prove who one is, have failed; see `Retry-After`."
    ),
    502: "The provider is down or answers badly.",
    503: "The service is not available at the moment; `Retry-After` says when to try again.",
    504: "The provider is too slow.",
}


def operation(name: str, use_case: type[object], *statuses: int, body: bool = False) -> dict[str, Any]:
    """What a route says of itself: its id, the use case's docstring as its description, and its error responses.

    ``statuses`` are the refusals besides 503, and besides 413 and 415 for one that takes a body.
    """
    described = inspect.cleandoc(use_case.__doc__ or "")
    every = sorted({*statuses, 503, *((413, 415) if body else ())})
    return {
        "operation_id": name,
        "summary": described.partition("\n")[0],
        "description": described,
        "responses": {
            status: ResponseSpec(
                Problem, description=_DESCRIPTION_BY_STATUS[status], media_type=MEDIA_TYPE, generate_examples=False
            )
            for status in every
        },
    }


def openapi_config(version: str) -> OpenAPIConfig:
    """The document's head, and the page that shows it, from files of our own."""
    assets = f"{DOCS_PATH}/assets"
    return OpenAPIConfig(
        title="BAiO",
        version=version,
        description=(
            "A chat service for researchers in biology and genomics. Every path answers with and without its trailing "
            "slash. Every response carries `X-Request-ID`. Every error is `application/problem+json` (RFC 9457)."
        ),
        path=DOCS_PATH,
        use_handler_docstrings=True,
        components=Components(
            security_schemes={"Bearer": SecurityScheme("http", scheme="bearer", bearer_format="JWT")}
        ),
        render_plugins=[
            SwaggerRenderPlugin(
                path="/",
                js_url=f"{assets}/swagger-ui-bundle.js",
                css_url=f"{assets}/swagger-ui.css",
                standalone_preset_js_url=f"{assets}/swagger-ui-standalone-preset.js",
                favicon="",
            )
        ],
    )


def docs_assets() -> Router:
    """The page's scripts and styles, from an installed package instead of the internet."""
    return create_static_files_router(
        f"{DOCS_PATH}/assets",
        [Path(litestar_offline_docs.__file__).with_name("static")],
        include_in_schema=False,
    )


def complete(app: Litestar) -> None:
    """Put into the document what only people know: slashes, examples, headers, the streamed answer."""
    document = app.openapi_schema
    paths = document.paths or {}
    document.paths = {path if path.startswith("/health") else f"{path}/": item for path, item in paths.items()}
    for item in paths.values():
        for operation in (item.get, item.post):
            if operation is not None:
                _complete(operation)


def _complete(operation: Operation) -> None:
    example_requests, example_response = EXAMPLES.get(operation.operation_id or "", (None, None))
    _complete_request(operation, example_requests)
    responses = operation.responses or {}
    for status, response in responses.items():
        if isinstance(response, Reference):
            continue
        response.headers = {name: _HEADERS[name] for name in ("X-Request-ID", *_HEADERS_OF_STATUS.get(status, ()))}
        if status.startswith("2"):
            _complete_success(operation, response, example_response)
    if operation.operation_id == "validateToken":
        success = responses["200"]
        assert isinstance(success, OpenAPIResponse)  # noqa: S101 - Litestar writes no references here
        refused = {"application/json": OpenAPIMediaType(schema=_schema_of(success))}
        responses["401"] = OpenAPIResponse(
            description="The token does not hold.", content=refused, headers=success.headers
        )


def _complete_request(operation: Operation, examples: dict[str, Any] | None) -> None:
    for parameter in operation.parameters or []:
        if not isinstance(parameter, Reference) and parameter.param_in == "query":
            parameter.schema = _QUERY.get(parameter.name, _NUMBER)
    body = operation.request_body
    if body is not None and not isinstance(body, Reference):
        body.required = operation.operation_id != "createConversation"
        for media in body.content.values():
            media.examples = {name: Example(value=value) for name, value in (examples or {}).items()}


_TEXT = Schema(type=OpenAPIType.STRING)
_NUMBER = Schema(type=OpenAPIType.INTEGER)
_DAY = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE)

# Queries arrive as text and are read by the routes; what is not here is an integer.
_QUERY = {"from": _DAY, "to": _DAY, "context": Schema(type=OpenAPIType.BOOLEAN, default=False)}

_HEADERS = {
    "X-Request-ID": OpenAPIHeader(description="Names this request in the server's log.", schema=_TEXT),
    "X-Answer-ID": OpenAPIHeader(description="Names the answer in getAnswers.", schema=_NUMBER),
    "Retry-After": OpenAPIHeader(description="Seconds after which to try again.", schema=_NUMBER),
    "WWW-Authenticate": OpenAPIHeader(description="`Bearer`", schema=_TEXT),
}
_HEADERS_OF_STATUS = {"401": ["WWW-Authenticate"], "429": ["Retry-After"], "503": ["Retry-After"]}


def _schema_of(response: OpenAPIResponse) -> Any:  # noqa: ANN401 - Schema or Reference
    return next(iter((response.content or {}).values())).schema


def _complete_success(operation: Operation, response: OpenAPIResponse, answered: object) -> None:
    response.description = HTTPStatus(200).phrase
    if operation.operation_id in {"sendMessage", "regenerateAnswer", "followAnswer"}:
        response.description = (
            "The answer's text as it arrives. As plain text the body ends properly only when the answer did: a cut "
            "answer leaves the response without its closing chunk. With `Accept: text/event-stream` it is a stream of "
            'events: `delta` (`{"text"}`, with the offset after it as id), then `end` (`{"state", '
            '"finish_reason", "usage"}`) or `error` (a problem).'
        )
        response.content = {
            "text/plain": OpenAPIMediaType(schema=_TEXT),
            "text/event-stream": OpenAPIMediaType(schema=_TEXT),
        }
        response.headers = {name: _HEADERS[name] for name in ("X-Request-ID", "X-Answer-ID")}
    for media in (response.content or {}).values():
        if answered is not None:
            media.examples = {"contract": Example(value=answered)}
        if operation.operation_id in {
            "renameConversation",
            "deleteConversation",
            "renameAPIKey",
            "deleteAPIKey",
            "deleteAccount",
            "logout",
            "logoutEverywhere",
            "disableTwoFactor",
            "resetPassword",
        }:
            media.schema = _TEXT
