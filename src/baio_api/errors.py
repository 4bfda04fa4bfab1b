"""Every error that leaves by HTTP: its status, what is said and what is logged. Problem details after RFC 9457."""

import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.enums import MediaType
from litestar.exceptions import HTTPException, ValidationException

from baio_api.bodies import decode
from baio_api.query import sent_name
from baio_api.schemas import BadField, Problem
from baio_domain import errors
from baio_domain.errors import BaioError, FieldError, InvalidInput

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
"""The one table between the domain's kinds and HTTP; the nearest kind counts."""


def status_of(kind: type[BaioError]) -> HTTPStatus:
    """The status of an error of this kind."""
    return next(STATUS_BY_KIND[each] for each in kind.__mro__ if each in STATUS_BY_KIND)


def problem_of(error: BaioError) -> Problem:
    """A refusal of the domain's, in the one shape."""
    return Problem(
        type=f"urn:baio:error:{error.slug}",
        title=error.title,
        status=status_of(type(error)),
        detail=error.detail,
        errors=[BadField(each.field, each.message) for each in error.errors] or msgspec.UNSET,
        **error.members,  # type: ignore[arg-type]  # a member that the contract names is a field of Problem
    )


@contextmanager
def renamed_fields(**names: str) -> Iterator[None]:
    """Inside, errors about a parameter of the domain name the field of the request that it came from.

    ``renamed_fields(first="from")`` turns ``{"field": "first", ...}`` into ``{"field": "from", ...}``.
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


def answer_refusal(request: Request[Any, Any, Any], error: BaioError) -> Response[bytes]:
    """A refusal of the domain's, as a problem."""
    del request
    status = status_of(type(error))
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return _response(problem_of(error), headers)


def answer_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """An error that Litestar found: no such path, a method or a parameter it does not take, a body too large."""
    if isinstance(error, ValidationException):
        return answer_refusal(request, _refusal(request, error))
    status = HTTPStatus(error.status_code)
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        if error.detail != "client disconnected prematurely":
            return answer_bug(request, error)
        status = HTTPStatus.BAD_REQUEST  # for the log: nobody is there to read it
    detail = {
        HTTPStatus.NOT_FOUND: "There is nothing at this path.",
        HTTPStatus.METHOD_NOT_ALLOWED: "This path does not take this method.",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large.",
    }.get(status, error.detail)
    slug = status.phrase.lower().replace(" ", "-")
    headers = {name: value for name, value in (error.headers or {}).items() if name.lower() == "allow"}
    return _response(Problem(f"urn:baio:error:{slug}", status.phrase, status, detail), headers)


async def no_page_for_nothing(response: Response[Any]) -> Response[Any]:
    """The response, but for Litestar's own page that says 404 under /docs: that is a problem, as anywhere else."""
    if response.status_code == HTTPStatus.NOT_FOUND and response.media_type == MediaType.HTML:
        status = HTTPStatus.NOT_FOUND
        return _response(
            Problem("urn:baio:error:not-found", status.phrase, status, "There is nothing at this path."), {}
        )
    return response


def answer_bug(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Anything else: a bug, logged once with its traceback and disclosed to nobody."""
    del request
    logger.error("unexpected error", exc_info=error)
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    problem = Problem(
        "urn:baio:error:internal",
        "Something went wrong here",
        status,
        "This is the server's fault. Its log has the details under the X-Request-ID of this response.",
    )
    return _response(problem, {})


def _refusal(request: Request[Any, Any, Any], error: ValidationException) -> BaioError:
    extra = [each for each in error.extra if isinstance(each, dict)] if isinstance(error.extra, list) else []
    parameters = [each for each in extra if each.get("key") != "data"]
    if parameters:
        declared = request.route_handler.parsed_fn_signature.parameters
        return InvalidInput.of(*(FieldError(sent_name(declared[each["key"]]), each["message"]) for each in parameters))
    missing = _MISSING_PARAMETER.search(error.detail)
    if missing:
        return InvalidInput.of(FieldError(missing[1], "is required"))
    # An empty body never reaches the decoder. Decoding an object without keys names all that is missing.
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


def _response(problem: Problem, headers: dict[str, str]) -> Response[bytes]:
    return Response(msgspec.json.encode(problem), status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)
