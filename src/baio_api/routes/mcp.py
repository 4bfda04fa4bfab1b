"""/mcp: BAiO's tools for clients of the Model Context Protocol (streamable HTTP, without sessions, answers in JSON).

It speaks the revision 2026-07-28, in which each request says all that is needed, and the earlier ones, in which a
client begins with ``initialize``. BAiO keeps nothing between requests in either case, so any worker serves each.
"""

import asyncio
import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec
from litestar import Request, Response, Router, post
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.status_codes import HTTP_415_UNSUPPORTED_MEDIA_TYPE
from litestar.types import BeforeRequestHookHandler
from msgspec import UNSET

from baio_api.auth import SECURITY, Authenticated
from baio_api.bodies import media_type_of
from baio_api.json_rpc import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    Accepted,
    RpcError,
    RpcRequest,
    read_request,
    rpc_bug_response,
    rpc_domain_error_response,
    rpc_error_response,
    rpc_http_error_response,
    rpc_response,
)
from baio_domain.entities import Caller, CallState, Scope, ToolCall
from baio_domain.errors import BaioError, Forbidden, NotAuthenticated, TooManyToolRuns
from baio_domain.tools import ToolSpec
from baio_domain.use_cases.tools import GetTools, RunTool

NEWEST = "2026-07-28"
"""The revision without ``initialize``."""

WITH_INITIALIZE = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
"""The earlier revisions, the newest first."""

VERSIONS = (NEWEST, *WITH_INITIALIZE)

HEADER_MISMATCH = -32020
UNSUPPORTED_VERSION = -32022

TTL_MS = 300_000
"""How long a client may keep the list of tools, which changes only with an installation."""

WAITS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""How long a call waits for a place, again and again, in seconds."""

_META = "io.modelcontextprotocol/"

CALL_ID = "baio/call_id"
"""The key of a call's id in the metadata of its result."""

INSTRUCTIONS = (
    "BAiO computes with DNA, RNA and protein sequences exactly: call its tools instead of counting letters. A sequence"
    " that the user has stored in BAiO is given by its handle, such as seq_17. Cite a value by the number of its call."
)

HEADERS = ("MCP-Protocol-Version", "Mcp-Method", "Mcp-Name")
"""What clients in browsers send besides."""


@post("/mcp", status_code=200, include_in_schema=False, opt={"scope": Scope.TOOLS})
async def serve_mcp(
    request: Authenticated, get_tools: NamedDependency[GetTools], run_tool: NamedDependency[RunTool]
) -> Response[bytes]:
    """Serve one request of the Model Context Protocol."""
    if media_type_of(request, "") != "application/json":
        raise HTTPException(
            "Send JSON with the header Content-Type: application/json.", status_code=HTTP_415_UNSUPPORTED_MEDIA_TYPE
        )
    message = read_request(await request.body())
    is_newest = _check_version(request, message)
    if message.id is UNSET:
        return Accepted()
    try:
        result = await _result(message, request.user, get_tools, run_tool, is_newest=is_newest)
    except RpcError as error:
        error.request_id = message.id
        if not is_newest:
            error.status = HTTPStatus.OK  # an earlier client takes 404 for the end of a session
        raise
    if is_newest:
        result = {"resultType": "complete", **result, "_meta": {**_server(), **result.get("_meta", {})}}
    return rpc_response(message.id, result=result)


async def _result(
    message: RpcRequest, caller: Caller, get_tools: GetTools, run_tool: RunTool, *, is_newest: bool
) -> dict[str, Any]:
    params = message.params or {}
    match message.method:
        case "tools/list":
            if params.get("cursor") is not None:
                raise RpcError(INVALID_PARAMS, "There is no such page: the list of tools has one.")
            return {"tools": [_tool(spec) for spec in await get_tools(caller)], **(_KEPT if is_newest else {})}
        case "tools/call":
            return await _called(params, caller, await get_tools(caller), run_tool)
        case "server/discover" if is_newest:
            supported = {"supportedVersions": VERSIONS, "capabilities": {"tools": {}}}
            return {**supported, "instructions": INSTRUCTIONS, **_KEPT}
        case "initialize" if not is_newest:
            asked = params.get("protocolVersion")
            return {
                "protocolVersion": asked if asked in WITH_INITIALIZE else WITH_INITIALIZE[0],
                "capabilities": {"tools": {"listChanged": False}},
                "serverInfo": _implementation(),
                "instructions": INSTRUCTIONS,
            }
        case "ping" if not is_newest:
            return {}
    raise RpcError(METHOD_NOT_FOUND, "There is no such method here.", HTTPStatus.NOT_FOUND)


_KEPT = {"ttlMs": TTL_MS, "cacheScope": "private"}


async def _called(
    params: Mapping[str, Any], caller: Caller, tools: Sequence[ToolSpec], run_tool: RunTool
) -> dict[str, Any]:
    name, arguments = params.get("name"), params.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, dict | None):
        raise RpcError(INVALID_PARAMS, "A call has the `name` of a tool, and `arguments`, which are an object.")
    if name not in {spec.name for spec in tools}:
        raise RpcError(
            INVALID_PARAMS, f"There is no such tool. The tools are {', '.join(spec.name for spec in tools)}."
        )
    try:
        call = await _run(run_tool, caller, name, arguments or {})
    except (NotAuthenticated, Forbidden):
        raise
    except BaioError as error:
        return {"content": [_text(error.detail)], "isError": True}  # the model can read what to do
    return _computed(call)


async def _run(run_tool: RunTool, caller: Caller, name: str, arguments: Mapping[str, Any]) -> ToolCall:
    """Run the tool, and wait a little for a place: a model calls several tools at once, and can't wait itself."""
    for seconds in WAITS:
        try:
            return await run_tool(caller, name, arguments)
        except TooManyToolRuns:
            await asyncio.sleep(seconds)
    return await run_tool(caller, name, arguments)


def _computed(call: ToolCall) -> dict[str, Any]:
    """What a model gets to read of a call, and the number of its record.

    Only what was computed is structured: a refusal says in words what to do.
    """
    shown = call.shown or "{}"
    result: dict[str, Any] = {
        "content": [_text(shown), _text(f"This is call {call.id} in BAiO's records.")],
        "isError": call.state is not CallState.DONE,
        "_meta": {CALL_ID: call.id},
    }
    if call.state is CallState.DONE:
        result["structuredContent"] = msgspec.Raw(shown)
    return result


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _tool(spec: ToolSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "description": f"{spec.description} {spec.definition}",
        "inputSchema": spec.parameters,
        # A call stores its record, so it is not read-only. It reaches nothing outside of BAiO.
        "annotations": {"destructiveHint": False, "openWorldHint": False},
    }


def _implementation() -> dict[str, str]:
    return {"name": "BAiO", "version": version("baio")}


def _server() -> dict[str, object]:
    return {f"{_META}serverInfo": _implementation()}


# -- Which revision a request is of ------------------------------------------------------------------------------------


def _check_version(request: Request[Any, Any, Any], message: RpcRequest) -> bool:
    """Whether the request is of the newest revision, as header and body agree. Raises RpcError."""
    header = request.headers.get("mcp-protocol-version")
    meta = (message.params or {}).get("_meta")
    said = meta.get(f"{_META}protocolVersion") if isinstance(meta, dict) else None
    request_id = None if message.id is UNSET else message.id
    for wanted in (said, header):
        if wanted is not None and wanted not in VERSIONS:
            data = {"supported": VERSIONS, "requested": wanted}
            raise RpcError(UNSUPPORTED_VERSION, "Unsupported protocol version", data=data, request_id=request_id)
    if NEWEST not in (said, header):
        return False
    try:
        if message.id is not UNSET:
            _check_headers(request, message, header, said, meta)
    except RpcError as error:
        error.request_id = request_id
        raise
    return True


def _check_headers(
    request: Request[Any, Any, Any], message: RpcRequest, header: str | None, said: object, meta: object
) -> None:
    if not isinstance(meta, dict) or said is None or not isinstance(meta.get(f"{_META}clientCapabilities"), dict):
        wanted = "`_meta` with protocolVersion and clientCapabilities"
        raise RpcError(INVALID_PARAMS, f"Requests of revision {NEWEST} have {wanted}.")
    expected: dict[str, object] = {"MCP-Protocol-Version": said, "Mcp-Method": message.method}
    found: dict[str, object] = {"MCP-Protocol-Version": header, "Mcp-Method": request.headers.get("mcp-method")}
    if message.method == "tools/call":
        expected["Mcp-Name"] = (message.params or {}).get("name")
        found["Mcp-Name"] = _decoded(request.headers.get("mcp-name"))
    for name, value in expected.items():
        if found[name] is None or found[name] != value:
            raise RpcError(HEADER_MISMATCH, f"Header mismatch: {name} is missing, or is not what the body says")


def _decoded(value: str | None) -> str | None:
    """The value of a header that may be written as Base64."""
    if value is None or not (value.startswith("=?base64?") and value.endswith("?=")):
        return value
    try:
        return base64.b64decode(value[9:-2], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def mcp_router(bearer: BeforeRequestHookHandler, may_come_from: Callable[[str], bool]) -> Router:
    """The endpoint. Pages may use it if their origin ``may_come_from`` there."""

    async def guard(request: Request[Any, Any, Any]) -> None:
        # A page that a user only visits could have a name of its own resolve to this machine; its origin says so.
        origin = request.headers.get("origin")
        if origin is not None and not may_come_from(origin):
            raise Forbidden("This server does not allow requests of pages from this origin.")
        await bearer(request)

    return Router(
        "/",
        route_handlers=[serve_mcp],
        before_request=guard,
        security=SECURITY,
        exception_handlers={
            RpcError: rpc_error_response,
            BaioError: rpc_domain_error_response,
            HTTPException: rpc_http_error_response,
            Exception: rpc_bug_response,
        },
    )
