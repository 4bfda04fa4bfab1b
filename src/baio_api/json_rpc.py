"""JSON-RPC 2.0, as the Model Context Protocol uses it: one request in each body, and errors in one form."""

import codecs
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.enums import MediaType
from litestar.exceptions import HTTPException
from litestar.response.base import ASGIResponse
from msgspec import UNSET, UnsetType

from baio_api.errors import bug_response, domain_error_response, http_error_response
from baio_domain.errors import BaioError

RequestId = str | int

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603


class RpcError(Exception):
    """A refusal in JSON-RPC's form. ``status`` is that of the response."""

    def __init__(
        self,
        code: int,
        message: str,
        status: HTTPStatus = HTTPStatus.BAD_REQUEST,
        data: object = UNSET,
        request_id: RequestId | None = None,
    ) -> None:
        self.code, self.message, self.status, self.data, self.request_id = code, message, status, data, request_id
        super().__init__(message)

    def response(self, headers: Mapping[str, str] | None = None) -> Response[bytes]:
        """The response. Its ``id`` is null where the request's could not be read."""
        error = {"code": self.code, "message": self.message}
        if self.data is not UNSET:
            error["data"] = self.data
        return rpc_response(self.request_id, error=error, status=self.status, headers=headers)


class RpcRequest(msgspec.Struct, frozen=True):
    """A request, or a notification, which has no ``id``."""

    jsonrpc: str
    method: str
    id: RequestId | UnsetType = UNSET
    params: dict[str, Any] | None = None


def read_request(body: bytes) -> RpcRequest:
    """The request in this body. Raises RpcError."""
    try:
        document = msgspec.json.decode(body.removeprefix(codecs.BOM_UTF8))
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise RpcError(PARSE_ERROR, "The body is not valid JSON.") from None
    if isinstance(document, list):
        raise RpcError(INVALID_REQUEST, "Batches are not supported: send each request by itself.")
    try:
        request = msgspec.convert(document, RpcRequest, strict=True)
    except msgspec.ValidationError as error:
        raise RpcError(INVALID_REQUEST, f"The body is no request of JSON-RPC: {error}.") from None
    if request.jsonrpc != "2.0":
        raise RpcError(INVALID_REQUEST, "The body is no request of JSON-RPC 2.0.")
    return request


class Accepted(Response[bytes]):
    """The response to a notification: no body, and no type of one, which some clients would try to read."""

    def __init__(self) -> None:
        super().__init__(b"", status_code=HTTPStatus.ACCEPTED)

    def to_asgi_response(self, *arguments: Any, **named: Any) -> ASGIResponse:
        """Litestar's own, without the header that it always sets."""
        response = super().to_asgi_response(*arguments, **named)
        del response.headers["content-type"]
        return response


def rpc_response(
    request_id: RequestId | None,
    *,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
    **outcome: object,
) -> Response[bytes]:
    """A response with this outcome, which is ``result`` or ``error``."""
    body = msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, **outcome})
    return Response(body, status_code=status, media_type=MediaType.JSON, headers=dict(headers or {}))


def _in_form(problem: Response[bytes]) -> Response[bytes]:
    """A problem in JSON-RPC's form. The code is the status, because the protocol has none for what HTTP refuses."""
    document = msgspec.json.decode(problem.content)
    status = HTTPStatus(document["status"])
    code = INTERNAL_ERROR if status is HTTPStatus.INTERNAL_SERVER_ERROR else status.value
    return RpcError(code, document["detail"], status, document).response(
        {name: value for name, value in problem.headers.items() if name.lower() != "content-type"}
    )


def rpc_error_response(request: Request[Any, Any, Any], error: RpcError) -> Response[bytes]:
    """The response for what is wrong with the request itself."""
    del request
    return error.response()


def rpc_domain_error_response(request: Request[Any, Any, Any], error: BaioError) -> Response[bytes]:
    """The response for an error of the domain, such as a token that was revoked."""
    return _in_form(domain_error_response(request, error))


def rpc_http_error_response(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """The response for an error that Litestar raises, such as a body that is too large."""
    return _in_form(http_error_response(request, error))


def rpc_bug_response(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The response for a bug, logged once with its traceback."""
    return _in_form(bug_response(request, error))
