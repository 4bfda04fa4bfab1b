"""Endpoints of tools and of the records of their calls."""

from typing import Annotated

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from baio_api.auth import Authenticated
from baio_api.errors import renamed_fields
from baio_api.openapi import operation
from baio_api.query import Integer
from baio_api.responses import JSONString, LongJSON, tool_call_pages
from baio_api.routes.parameters import IdempotencyKey
from baio_api.schemas.tools import RunToolRequest, ToolCallRecord, ToolCallRequest, ToolInfo, VerifiedToolCall
from baio_domain.entities import Scope
from baio_domain.use_cases.tools import DeleteToolCall, GetToolCalls, GetTools, RunTool, VerifyToolCall

CallsOfConversation = Annotated[
    Integer | None, QueryParameter(description="The conversation. By default, the calls in no conversation.")
]

CallsOfAnswer = Annotated[
    Integer | None, QueryParameter(description="The answer, as in X-Answer-ID. By default, all of the conversation's.")
]


@get("/getTools", **operation("getTools", GetTools, scope=Scope.TOOLS))
async def list_tools(request: Authenticated, get_tools: NamedDependency[GetTools]) -> list[ToolInfo]:
    """List the tools."""
    return [ToolInfo.of(spec) for spec in await get_tools(request.user)]


@post("/runTool", **operation("runTool", RunTool, 404, 409, 422, 429, scope=Scope.TOOLS))
async def use_tool(
    data: RunToolRequest,
    request: Authenticated,
    run_tool: NamedDependency[RunTool],
    idempotency_key: IdempotencyKey = None,
) -> ToolCallRecord:
    """Run a tool."""
    with renamed_fields({"idempotency_key": "Idempotency-Key"}):
        call = await run_tool(request.user, data.tool, data.arguments, data.conversation_id, idempotency_key)
    return ToolCallRecord.of(call)


@get("/getToolCalls", **operation("getToolCalls", GetToolCalls, 404, 429, scope=Scope.READ))
async def list_tool_calls(
    request: Authenticated,
    get_tool_calls: NamedDependency[GetToolCalls],
    conversation_id: CallsOfConversation = None,
    answer_id: CallsOfAnswer = None,
) -> LongJSON[list[ToolCallRecord]]:
    """Read the records of tools' calls."""
    calls = get_tool_calls(request.user, conversation_id=conversation_id, answer_id=answer_id)
    return await LongJSON.begin(tool_call_pages(calls), request)


@post(
    "/verifyToolCall", status_code=200, **operation("verifyToolCall", VerifyToolCall, 404, 409, 429, scope=Scope.TOOLS)
)
async def compute_again(
    data: ToolCallRequest, request: Authenticated, verify_tool_call: NamedDependency[VerifyToolCall]
) -> VerifiedToolCall:
    """Compute a call again."""
    return msgspec.convert(await verify_tool_call(request.user, data.id), VerifiedToolCall, from_attributes=True)


@post(
    "/deleteToolCall",
    status_code=200,
    **operation(
        "deleteToolCall", DeleteToolCall, 404, example="Call with id=41 successfully deleted", scope=Scope.EDIT
    ),
)
async def remove_tool_call(
    data: ToolCallRequest, request: Authenticated, delete_tool_call: NamedDependency[DeleteToolCall]
) -> JSONString:
    """Delete the record of a call."""
    await delete_tool_call(request.user, data.id)
    return JSONString(f"Call with id={data.id} successfully deleted")


HANDLERS = [
    list_tools,
    use_tool,
    list_tool_calls,
    compute_again,
    remove_tool_call,
]
