"""Error responses: the status, the body (problem details, RFC 9457), and what is logged."""

import logging
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.enums import MediaType
from litestar.exceptions import HTTPException, ValidationException

from baio_api.bodies import decode
from baio_api.query import sent_name
from baio_api.schemas.completions import OpenAIError, OpenAIErrorBody
from baio_api.schemas.problems import BadField, Problem
from baio_domain import errors
from baio_domain.errors import BaioError, FieldError, InvalidInput, ScopeMissing

logger = logging.getLogger("baio.http")

MEDIA_TYPE = "application/problem+json"

STATUS_BY_KIND: dict[type[BaioError], HTTPStatus] = {
    errors.InvalidInput: HTTPStatus.BAD_REQUEST,
    errors.NotAuthenticated: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.IdempotencyKeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.TooMany: HTTPStatus.TOO_MANY_REQUESTS,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.KeyRefused: HTTPStatus.FAILED_DEPENDENCY,
    errors.ProviderTooSlow: HTTPStatus.GATEWAY_TIMEOUT,
    errors.ProviderFailure: HTTPStatus.BAD_GATEWAY,
}
"""Maps the domain's kinds of errors to statuses. The nearest base class counts."""


HTTP_ERRORS: dict[HTTPStatus, tuple[str, str]] = {
    HTTPStatus.BAD_REQUEST: ("bad-request", "Bad Request"),
    HTTPStatus.NOT_FOUND: ("not-found", "Not Found"),
    HTTPStatus.METHOD_NOT_ALLOWED: ("method-not-allowed", "Method Not Allowed"),
    HTTPStatus.REQUEST_TIMEOUT: ("request-timeout", "Request Timeout"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("request-entity-too-large", "Request Entity Too Large"),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: ("unsupported-media-type", "Unsupported Media Type"),
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: ("request-header-fields-too-large", "Request Header Fields Too Large"),
    HTTPStatus.INTERNAL_SERVER_ERROR: ("internal", "Internal server error"),
}
"""The slug and title of each error of HTTP, which the domain does not know. Python's phrases differ by its version."""

PROBLEM_TYPES = sorted(
    f"urn:baio:error:{slug}"
    for slug in {*(kind.slug for kind in errors.every_error()), *(slug for slug, _ in HTTP_ERRORS.values())}
)
"""Every ``type`` that a problem can have."""


def status_of(kind: type[BaioError]) -> HTTPStatus:
    """The status of an error of this kind."""
    return next(STATUS_BY_KIND[each] for each in kind.__mro__ if each in STATUS_BY_KIND)


def problem_of(error: BaioError) -> Problem:
    """The body of the response for an error of the domain."""
    return Problem(
        type=f"urn:baio:error:{error.slug}",
        title=error.title,
        status=status_of(type(error)),
        detail=error.detail,
        errors=[BadField(each.field, each.message) for each in error.errors] or msgspec.UNSET,
        **error.members,  # type: ignore[arg-type]  # a member that the contract names is a field of Problem
    )


@contextmanager
def renamed_fields(names: Mapping[str, str]) -> Iterator[None]:
    """Inside, errors name the fields of the request instead of the domain's parameters.

    ``renamed_fields({"first": "from"})`` turns ``{"field": "first", ...}`` into ``{"field": "from", ...}``.
    """
    try:
        yield
    except InvalidInput as error:
        renamed = InvalidInput.of(
            *(FieldError(names.get(each.field, each.field), each.message) for each in error.errors)
        )
        if error.detail == InvalidInput.of(*error.errors).detail:
            error.detail = renamed.detail
        error.errors = renamed.errors
        raise


def domain_error_response(request: Request[Any, Any, Any], error: BaioError) -> Response[bytes]:
    """The response for an error of the domain."""
    status = status_of(type(error))
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, ScopeMissing):
        headers["WWW-Authenticate"] = f'Bearer error="insufficient_scope", scope="{error.members["scope"]}"'  # RFC 6750
    if status is HTTPStatus.CONFLICT and is_openai_path(request.scope["path"]):
        headers["X-Should-Retry"] = "false"  # to OpenAI's clients, 409 is a lock that will soon be free
    return _response(request, problem_of(error), headers)


def http_error_response(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """The response for an error that Litestar raises: an unknown path, a wrong method, a bad parameter."""
    if isinstance(error, ValidationException):
        return domain_error_response(request, _invalid_input(request, error))
    status = HTTPStatus(error.status_code)
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        if error.detail != "client disconnected prematurely":
            return bug_response(request, error)
        status = HTTPStatus.BAD_REQUEST  # for the log only: the client has left
    detail = {
        HTTPStatus.NOT_FOUND: _nothing_at(request.scope["path"]),
        HTTPStatus.METHOD_NOT_ALLOWED: "This path does not support this method.",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large.",
    }.get(status, error.detail)
    headers = {name: value for name, value in (error.headers or {}).items() if name.lower() == "allow"}
    headers = {name: value.replace("GET", "GET, HEAD") for name, value in headers.items()}  # see HeadMiddleware
    return _response(request, problem_of_status(status, detail), headers)


def problem_of_status(status: HTTPStatus, detail: str) -> Problem:
    """The body of the response for an error of HTTP."""
    slug, title = HTTP_ERRORS.get(status, HTTP_ERRORS[HTTPStatus.BAD_REQUEST])
    return Problem(f"urn:baio:error:{slug}", title, status, detail)


async def problem_for_docs_404(response: Response[Any]) -> Response[Any]:
    """Replace Litestar's own 404 page under /docs by a problem, as everywhere else. An ``after_request`` hook."""
    if response.status_code == HTTPStatus.NOT_FOUND and response.media_type == MediaType.HTML:
        status = HTTPStatus.NOT_FOUND
        return _response(None, problem_of_status(status, "There is nothing at this path."), {})
    return response


def bug_response(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The response for any other exception: a bug, logged once with its traceback."""
    logger.error("unexpected error", exc_info=error)
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    detail = "This is a bug in the server. Its log has the details under the X-Request-ID of this response."
    return _response(request, problem_of_status(status, detail), {})


# -- OpenAI's form, below /v1 ------------------------------------------------------------------------------------------

_OPENAI_CODES = {
    "not-authenticated": "invalid_api_key",
    "model-refused": "model_not_found",
    "prompt-too-long": "context_length_exceeded",
    "provider-rate-limited": "rate_limit_exceeded",
}
"""OpenAI's own codes, by which clients decide. The others are the slugs."""

_OPENAI_PARAMS = {"model-refused": "model", "prompt-too-long": "messages", "tools-refused": "tools"}

_OPENAI_WORDS = {
    "prompt-too-long": "The messages are too long: this model's maximum context length is exceeded"
    " (context_length_exceeded).",
}
"""Messages in which clients look for OpenAI's own words, instead of the code."""

_OPENAI_TYPES = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}


def openai_error_of(problem: Problem) -> OpenAIErrorBody:
    """An error in OpenAI's form."""
    slug = problem.type.rpartition(":")[2]
    server = "server_error" if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    param = problem.errors[0].field if problem.errors else _OPENAI_PARAMS.get(slug)
    code = _OPENAI_CODES.get(slug, slug.replace("-", "_"))
    kind = _OPENAI_TYPES.get(HTTPStatus(problem.status), server)
    return OpenAIErrorBody(OpenAIError(_OPENAI_WORDS.get(slug, problem.detail), kind, param, code))


def is_openai_path(path: str) -> bool:
    """Whether this path, or one below it, is of OpenAI's API."""
    return path.lstrip("/").partition("/")[0] == "v1"


def error_body(path: str, problem: Problem) -> tuple[bytes, str]:
    """The body of an error at this path, and its media type."""
    if is_openai_path(path):
        return msgspec.json.encode(openai_error_of(problem)), MediaType.JSON.value
    return msgspec.json.encode(problem), MEDIA_TYPE


def _nothing_at(path: str) -> str:
    if is_openai_path(path):
        return "There is nothing at this path. Of OpenAI's API there are /v1/models and /v1/chat/completions."
    if path.rstrip("/").endswith("/chat/completions"):
        return "There is nothing at this path. The base URL for clients of OpenAI's API ends with /v1."
    return "There is nothing at this path."


def _invalid_input(request: Request[Any, Any, Any], error: ValidationException) -> BaioError:
    extra = [each for each in error.extra if isinstance(each, dict)] if isinstance(error.extra, list) else []
    parameters = [each for each in extra if each.get("key") != "data"]
    if parameters:
        declared = request.route_handler.parsed_fn_signature.parameters
        return InvalidInput.of(*(FieldError(sent_name(declared[each["key"]]), each["message"]) for each in parameters))
    missing = _MISSING_PARAMETER.search(error.detail)
    if missing:
        return InvalidInput.of(FieldError(missing[1], "is required"))
    # Litestar does not decode an empty body. Decoding an empty object names every field that is missing.
    field = request.route_handler.parsed_data_field
    if field is None:
        return InvalidInput()
    try:
        empty = decode(b"{}", field.annotation)
    except BaioError as refusal:
        return refusal
    given = {name: value for name, value in msgspec.structs.asdict(empty).items() if value is not msgspec.UNSET}
    found = tuple(empty.rule_errors(given))
    return InvalidInput.of(*found) if found else InvalidInput("The body is empty.")


_MISSING_PARAMETER = re.compile(r"Missing required query parameter '(\w+)'")


def _response(request: Request[Any, Any, Any] | None, problem: Problem, headers: dict[str, str]) -> Response[bytes]:
    body, media_type = error_body(request.scope["path"] if request else "", problem)
    return Response(body, status_code=problem.status, media_type=media_type, headers=headers)
