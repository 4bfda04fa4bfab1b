"""The OpenAPI document: what Litestar derives from the handlers, completed with what it leaves out.

Everything is derived from the handler: its return type, its parameters, its body, and what ``operation`` says of it.
"""

import inspect
import typing
from collections.abc import Iterator, Mapping
from dataclasses import replace
from enum import Enum
from functools import cache
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import litestar_offline_docs
import msgspec
from litestar import Litestar, Request, Router
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import (
    Components,
    Contact,
    Example,
    License,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
    SecurityScheme,
    Tag,
)
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType
from litestar.routes import HTTPRoute
from litestar.static_files import create_static_files_router

from baio_api import schemas
from baio_api.errors import MEDIA_TYPE, PROBLEM_TYPES, is_openai_path
from baio_api.exports import FORMATS, Format
from baio_api.exports.document import JSON_TYPE
from baio_api.query import Integer, parameter_schemas
from baio_api.responses import EVENTS, NDJSON, AnswerStream, Download, JSONLines, JSONString
from baio_api.routes.pages import DocsPage
from baio_api.schemas.answers import AnswerEvent
from baio_api.schemas.completions import EXAMPLE_CHUNKS, OpenAIErrorBody
from baio_api.schemas.exports import ExportedDocument
from baio_api.schemas.problems import Problem
from baio_domain.entities import Scope

DOCS_PATH = "/docs"

_DESCRIPTION_BY_STATUS = {
    400: "The request is not valid. `errors` names every bad field.",
    401: "The access token is missing, malformed, expired or revoked. Refresh it and send the request again.",
    403: "Not allowed. An API token lacks the `scope` for this, or no API token can do it.",
    404: "Not found, or owned by another user.",
    409: (
        "The current state does not allow this: an answer is running in the conversation (`answer_id`), stored data"
        " can't be decrypted, two-factor authentication is enabled already or was not started, or an account without"
        " password must sign in with its institution once more."
    ),
    413: "The body is too large.",
    415: "The content type of the body is not JSON.",
    422: "The Idempotency-Key was used for another request within 24 hours.",
    424: "The provider rejects the API key.",
    429: (
        "The provider limits this key, too many of the user's answers are running, or too many attempts to sign in or"
        " to confirm a password or code have failed. See `Retry-After`."
    ),
    502: "The provider is down, or its response is not usable.",
    503: "The service is temporarily unavailable. `Retry-After` says when to try again.",
    504: "The provider did not respond in time.",
}


def operation(
    name: str,
    use_case: type[object],
    *statuses: int,
    example: str | None = None,
    files: Mapping[str, Any] | None = None,
    responses: Mapping[int, ResponseSpec] | None = None,
    scope: Scope | None = None,
) -> dict[str, Any]:
    """A route's description of itself: its id, its text, which is the use case's docstring, and its errors.

    ``statuses`` are the errors that can't be derived. The document adds 503, 400 for an operation with parameters or a
    body, 401 for one that needs a token, and 413 and 415 for one with a body. ``example`` is a response that is a text;
    Structs have their own ``examples``. ``files`` are examples of a body that is a file, by media type.
    ``responses`` are those that are neither successes nor problems. ``scope`` is what an API token needs for it;
    without one, no API token can do it.
    """
    description = inspect.cleandoc(use_case.__doc__ or "")
    if scope is not None:
        description += f"\n\nAn API token needs the scope `{scope}`."
    return {
        "operation_id": name,
        "summary": description.partition("\n")[0],
        "description": description,
        "responses": {
            **{status: _problem_spec(status) for status in (*statuses, 503)},
            **(responses or {}),
        },
        "opt": {"example": example, "files": files, "scope": scope},
    }


class _SharedSpec(ResponseSpec):
    """Litestar copies every router in depth; hundreds of these would be a third of what its start costs."""

    def __deepcopy__(self, memo: dict[int, object]) -> "_SharedSpec":
        """Return itself: nobody changes it."""
        return self


@cache
def _problem_spec(status: int) -> ResponseSpec:
    return _SharedSpec(
        Problem, description=_DESCRIPTION_BY_STATUS[status], media_type=MEDIA_TYPE, generate_examples=False
    )


def openapi_config(version: str) -> OpenAPIConfig:
    """The document's title and description, and the page that shows it with files from this server."""
    return OpenAPIConfig(
        title="BAiO",
        version=version,
        description=(
            "A chat service for researchers in biology and genomics. Every path works with and without its trailing "
            "slash. Every response has the header `X-Request-ID`. Every error is `application/problem+json` (RFC "
            "9457), except below `/v1`."
            "\n\nTo try the operations here, press Authorize and paste the `access` token that `POST /user/auth/` "
            "returns, not the `refresh` token, or an API token."
        ),
        path=DOCS_PATH,
        use_handler_docstrings=True,
        components=Components(
            security_schemes={"Bearer": SecurityScheme("http", scheme="bearer", bearer_format="JWT")}
        ),
        # Nothing is needed where an operation does not say otherwise.
        security=[],
        tags=[
            Tag("user", "Accounts, sessions and two-factor authentication."),
            Tag("chat", "Conversations, answers, models and API keys."),
            Tag("v1", "A part of OpenAI's API, for its clients."),
            Tag("admin", "What administrators do with accounts. Nothing of what users ask or store is read here."),
            Tag("health", "Whether the service is alive and ready, for load balancers and supervisors."),
        ],
        license=License("MIT", identifier="MIT"),
        contact=Contact(name="The BAiO authors"),
        render_plugins=[DocsPage(path="/"), Document()],
    )


def docs_assets() -> Router:
    """The page's scripts and styles, served from an installed package instead of a CDN."""
    return create_static_files_router(
        f"{DOCS_PATH}/assets",
        [Path(litestar_offline_docs.__file__).with_name("static")],
        include_in_schema=False,
    )


class Document(JsonRenderPlugin):
    """The OpenAPI document as JSON. It is made when somebody reads it: most servers never need it."""

    def __init__(self) -> None:
        super().__init__(path="/openapi.json")
        self._document: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The completed document."""
        del openapi_schema  # Litestar's own
        if self._document is None:
            _complete_document(request.app)
            self._document = self.render_json(request, request.app.openapi_schema.to_schema())
        return self._document


def _complete_document(app: Litestar) -> None:
    """Add to the document what Litestar leaves out: slashes, derived errors, examples, headers, streamed answers.

    The schemas of Structs are msgspec's own: they have descriptions, formats and bounds, and a field that may be
    missing has its plain type.
    """
    document = app.openapi_schema
    document.components.schemas = _components()  # type: ignore[assignment]  # JSON already
    paths = document.paths or {}
    document.paths = {path if path.startswith("/health") else f"{path}/": item for path, item in paths.items()}
    handlers = {
        handler.operation_id: handler
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
    }
    for path, item in paths.items():
        for operation in (item.get, item.post):
            if operation is not None:
                _complete(operation, handlers[operation.operation_id])
                if is_openai_path(path):
                    _complete_openai(operation)


def _complete(operation: Operation, handler: HTTPRouteHandler) -> None:
    responses = operation.responses or {}
    if files := handler.opt.get("files"):
        operation.request_body = RequestBody(
            {
                each: OpenAPIMediaType(
                    schema=_FILE if isinstance(example, str) else _JSON_FILE, examples=_named({"contract": example})
                )
                for each, example in files.items()
            },
            required=True,
        )
    for status in _derived_errors(operation):
        responses[status] = OpenAPIResponse(
            description=_DESCRIPTION_BY_STATUS[int(status)], content={MEDIA_TYPE: OpenAPIMediaType(schema=_PROBLEM)}
        )
    operation.responses = dict(sorted(responses.items()))
    schemas_by_name = parameter_schemas(handler)
    for parameter in operation.parameters or []:
        if isinstance(parameter, Parameter):
            parameter.schema = schemas_by_name[parameter.name]
    if isinstance(operation.request_body, RequestBody) and not files:
        field = handler.parsed_fn_signature.parameters["data"]
        operation.request_body.required = field.is_required
        for media in operation.request_body.content.values():
            media.examples = _named(_examples(field.annotation))
    for status, response in operation.responses.items():
        if isinstance(response, OpenAPIResponse):
            is_problem = MEDIA_TYPE in (response.content or {})
            response.headers = _headers("X-Request-ID", *(_HEADERS_OF_STATUS.get(status, ()) if is_problem else ()))
            if status.startswith(("2", "3")):
                _complete_success(response, handler)


def _complete_openai(operation: Operation) -> None:
    """Errors have OpenAI's form, and a completion may be a stream of chunks."""
    for response in (operation.responses or {}).values():
        if isinstance(response, OpenAPIResponse) and MEDIA_TYPE in (response.content or {}):
            response.content = {JSON_TYPE: OpenAPIMediaType(schema=_OPENAI_ERROR)}
    completion = (operation.responses or {}).get("200")
    if operation.operation_id == "createChatCompletion" and isinstance(completion, OpenAPIResponse):
        chunks = OpenAPIMediaType(schema=Schema(), examples=_named({"contract": EXAMPLE_CHUNKS}))
        completion.description = "A completion; with `stream`, chunks in the form of OpenAI's, and `[DONE]` at the end."
        completion.content = {**(completion.content or {}), EVENTS: chunks}
        completion.headers = _headers("X-Request-ID", "X-Answer-ID", "X-Conversation-ID", "X-Unused-Parameters")


def _components() -> dict[str, dict[str, Any]]:
    """The schema of every Struct, of the enums that they use, and of events."""
    structs = [
        each for module in iter_modules(schemas.__path__) for each in _structs(f"{schemas.__name__}.{module.name}")
    ]
    template = "#/components/schemas/{name}"
    (event, *_), components = msgspec.json.schema_components([AnswerEvent, *structs], ref_template=template)
    description = "An event of a streamed answer, with its `data` decoded."
    components["AnswerEvent"] = {"title": "AnswerEvent", "description": description, **event}
    for schema in components.values():
        for each in (schema, *schema.get("properties", {}).values()):
            each.pop("default", None)  # generators take a field with a default for one that is always there
            if "enum" in each:
                values = each.pop("enum")
                each.update(
                    {"type": "string" if isinstance(values[0], str) else "integer"},
                    **({"enum": values} if len(values) > 1 else {"const": values[0]}),
                )
    components["Problem"]["properties"]["type"]["enum"] = PROBLEM_TYPES
    return dict(sorted(components.items()))


def _structs(module: str) -> Iterator[type[msgspec.Struct]]:
    """The Structs that a module defines, except those that others only extend."""
    for name, each in vars(import_module(module)).items():
        is_own = isinstance(each, type) and issubclass(each, msgspec.Struct) and each.__module__ == module
        if is_own and not name.startswith("_"):
            yield each


def _derived_errors(operation: Operation) -> set[str]:
    """The statuses that follow from what the operation takes."""
    statuses = set()
    if operation.parameters or operation.request_body:
        statuses |= {"400"}
    if operation.request_body:
        statuses |= {"413", "415"}
    if operation.security:
        statuses |= {"401", "403"}
    return statuses


def _complete_success(response: OpenAPIResponse, handler: HTTPRouteHandler) -> None:
    if handler.status_code == HTTPStatus.SEE_OTHER:
        response.description, response.content = "The browser goes on to the address in `Location`.", None
        response.headers = _headers("X-Request-ID", "Location")
        return
    response.description = HTTPStatus.OK.phrase
    returned = handler.parsed_return_field.annotation
    examples = _examples(returned)
    if returned in (JSONString, AnswerStream):
        examples = {"contract": handler.opt["example"]}
    if returned is JSONString:
        response.content = {"application/json": OpenAPIMediaType(schema=_TEXT)}
    elif returned is AnswerStream:
        response.description = AnswerStream.description
        response.content = {"text/plain": OpenAPIMediaType(schema=_TEXT)}
        response.headers = _headers("X-Request-ID", "X-Answer-ID", "X-Conversation-ID")
    for media in (response.content or {}).values():
        media.examples = _named(examples)
        if isinstance(media.schema, Schema) and media.schema.one_of:
            # An empty list fits every kind of list, and oneOf would refuse what fits two.
            media.schema.any_of, media.schema.one_of = media.schema.one_of, None
    if typing.get_origin(returned) is JSONLines:
        [line] = typing.get_args(returned)
        schema = Reference(ref=f"#/components/schemas/{line.__name__}")
        response.description = "A line of JSON for each."
        response.content = {NDJSON: OpenAPIMediaType(schema=schema, examples=_named(examples))}
    if returned is Download:
        response.description = "The file, as an attachment."
        response.content = {form.media_type: _exported(form) for form in FORMATS.values()}
        response.headers = _headers("X-Request-ID", "Content-Disposition")
    if returned is AnswerStream and response.content is not None:
        examples = _named({"contract": AnswerStream.example_events})
        response.content[EVENTS] = OpenAPIMediaType(schema=_EVENTS, examples=examples)


def _exported(form: Format) -> OpenAPIMediaType:
    """What the document says of a format of exports."""
    if form.media_type == JSON_TYPE:
        schema = Reference(ref=f"#/components/schemas/{ExportedDocument.__name__}")
        return OpenAPIMediaType(schema=schema, examples=_named(ExportedDocument.examples))
    as_text = form.media_type.startswith("text/")
    example = "# Plasmid design\n\n## Methods\n" if as_text else "(a ZIP file)"
    return OpenAPIMediaType(schema=_TEXT if as_text else _BINARY, examples=_named({"contract": example}))


def _examples(annotation: Any) -> dict[str, Any]:  # noqa: ANN401 - any annotation
    """The examples of a Struct; of a list, one with all those of its items; of anything else, those of its first type.

    The first type of ``X | None`` and of ``Response[X]`` is X.
    """
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        examples: dict[str, Any] = annotation.__dict__.get("examples", {})
        return examples
    first = next(iter(typing.get_args(annotation)), None)
    if typing.get_origin(annotation) is list:
        items = _examples(first)
        return {"contract": list(items.values())} if items else {}
    return {} if first is None else _examples(first)


def _named(examples: Mapping[str, Any]) -> dict[str, Example | Reference]:
    return {name: Example(value=_with_nulls(value)) for name, value in examples.items()}


class _Null(Enum):
    """Litestar leaves out what is None, and puts the value of an enumeration's member into the document."""

    NULL = None


def _with_nulls(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return {name: _with_nulls(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_with_nulls(each) for each in value]
    return _Null.NULL if value is None else value


def _headers(*names: str) -> dict[str, OpenAPIHeader | Reference]:
    return {name: _HEADERS[name] for name in names}


_PROBLEM = Reference(ref="#/components/schemas/Problem")
_OPENAI_ERROR = Reference(ref=f"#/components/schemas/{OpenAIErrorBody.__name__}")
_TEXT = Schema(type=OpenAPIType.STRING)
_BINARY = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
_JSON_FILE = Schema(description="The file as it is.")
_FILE = Schema(type=OpenAPIType.STRING, format="binary")  # type: ignore[arg-type]  # the enum lacks it
_NUMBER = Schema(type=OpenAPIType.INTEGER, minimum=0)
_ID = replace(Integer.schema, minimum=1)
_EVENTS = Schema(
    type=OpenAPIType.STRING,
    description="Server-sent events, each with its `data` as JSON.",
    content_media_type=EVENTS,
    content_schema=Schema(type=OpenAPIType.ARRAY, items=Reference(ref="#/components/schemas/AnswerEvent")),
)

_HEADERS = {
    "Content-Disposition": OpenAPIHeader(description="`attachment`, with the name of the file.", schema=_TEXT),
    "X-Request-ID": OpenAPIHeader(description="The id of this request in the server's log.", schema=_TEXT),
    "X-Answer-ID": OpenAPIHeader(description="The id of the answer, as in getAnswers.", schema=_ID),
    "X-Conversation-ID": OpenAPIHeader(description="The id of the answer's conversation.", schema=_ID),
    "X-Unused-Parameters": OpenAPIHeader(
        description="The parameters that the provider has refused, and that were left out.", schema=_TEXT
    ),
    "Location": OpenAPIHeader(description="Where the browser goes next.", schema=_TEXT),
    "Retry-After": OpenAPIHeader(description="Seconds to wait before trying again.", schema=_NUMBER),
    "WWW-Authenticate": OpenAPIHeader(description="`Bearer`", schema=_TEXT),
}
_HEADERS_OF_STATUS = {"401": ["WWW-Authenticate"], "429": ["Retry-After"], "503": ["Retry-After"]}
