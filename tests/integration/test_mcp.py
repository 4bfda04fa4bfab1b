"""/mcp, with the official client of the Model Context Protocol, and with what no client should send."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from baio_api.routes.mcp import NEWEST, VERSIONS, WITH_INITIALIZE
from baio_domain.api_tokens import new_token
from tests.integration.conftest import once
from tests.integration.servers import PASSWORD, Server, User

pytestmark = [pytest.mark.two_workers, pytest.mark.anyio]  # nothing is kept between requests, so either may be asked

Message = dict[str, Any]


@pytest.fixture
def anyio_backend() -> str:
    """The loop of the official client."""
    return "asyncio"


@pytest.fixture(scope="module")
def user(server: Server) -> Iterator[User]:
    """Somebody with a token for tools."""
    someone = User(server)
    yield someone
    someone.http.close()


def token_of(user: User, name: str, *scopes: str) -> str:
    """A new token."""
    body = {"name": name, "scopes": scopes, "password": PASSWORD}
    token: str = user.http.post("/user/createToken/", json=body).json()["token"]
    return token


@pytest.fixture(scope="module")
def token(user: User) -> str:
    """The token."""
    return token_of(user, "MCP", "tools")


@asynccontextmanager
async def connected(user: User, token: str, mode: Literal["auto", "legacy"] = "auto") -> AsyncIterator[Client]:
    """The official client, as its documentation has it."""
    headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": user.http.headers["X-Forwarded-For"]}
    async with httpx2.AsyncClient(headers=headers, trust_env=False, timeout=60) as http:
        transport = streamable_http_client(f"{user.server.address}/mcp", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield client


@pytest.fixture
def post(user: User, token: str) -> Iterator[Callable[..., httpx2.Response]]:
    """Posts a body as a client of an earlier revision does, which sends no metadata."""
    with user.server.client(headers={"Authorization": f"Bearer {token}"}) as client:

        def send(body: object, path: str = "/mcp", **headers: str) -> httpx2.Response:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            return client.post(path, content=content, headers={"Content-Type": "application/json", **names})

        yield send


def request(method: str, request_id: int | str = 1, **params: Any) -> Message:
    """A request of an earlier revision."""
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}


META: Message = {
    "io.modelcontextprotocol/protocolVersion": NEWEST,
    "io.modelcontextprotocol/clientCapabilities": {},
}


def newest(method: str, meta: Message | None = None, **params: Any) -> Message:
    """A request of the newest revision."""
    return request(method, _meta=META if meta is None else meta, **params)


def headers_of(method: str, name: str | None = None) -> dict[str, str]:
    """The headers that go with one."""
    found = {"MCP_Protocol_Version": NEWEST, "Mcp_Method": method}
    return found if name is None else {**found, "Mcp_Name": name}


def error(response: httpx2.Response, status: int) -> Message:
    """The error in JSON-RPC's form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    found: Message = response.json()
    assert list(found) == ["jsonrpc", "id", "error"]
    assert isinstance(found["error"]["code"], int)
    assert found["error"]["message"]
    return found


async def called(client: Client, name: str, arguments: Message) -> Message:
    """The result of a call."""
    found: Message = (await client.call_tool(name, arguments)).model_dump(by_alias=True, mode="json")
    return found


# -- The official client -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "version"), [("auto", NEWEST), ("legacy", WITH_INITIALIZE[0])])
async def test_the_official_client_lists_the_tools_and_runs_them(
    user: User, token: str, mode: Literal["auto", "legacy"], version: str
) -> None:
    async with connected(user, token, mode) as client:
        assert client.protocol_version == version
        assert client.server_info is not None
        assert client.server_info.name == "BAiO"
        listed = (await client.list_tools()).tools
        result = await called(client, "gc_content", {"sequence": "ACGTTGCA"})
        refused = await called(client, "gc_content", {"sequence": "!"})
        with pytest.raises(MCPError, match="no such tool"):
            await client.call_tool("no_such_tool", {})
    known = user.http.get("/chat/getTools/").json()
    assert [(each.name, each.input_schema) for each in listed] == [(each["name"], each["parameters"]) for each in known]
    calls = {each["id"]: each for each in user.http.get("/chat/getToolCalls/").json()}
    call = calls[result["_meta"]["baio/call_id"]]
    assert not result["isError"]
    assert result["structuredContent"] == json.loads(result["content"][0]["text"]) == call["result"]
    assert (call["state"], call["arguments"]["sequence"]) == ("done", "ACGTTGCA")
    assert refused["isError"]
    assert refused["structuredContent"] is None
    assert "no nucleotide code" in refused["content"][0]["text"]
    assert calls[refused["_meta"]["baio/call_id"]]["state"] == "refused"


async def test_a_stored_sequence_is_given_by_its_handle_and_its_letters_stay(user: User, token: str) -> None:
    letters = "ACGTTGCA" * 100
    body = {"content": f">long\n{letters}", "name": "long"}
    [stored] = user.http.post("/chat/addSequences/", json=body).json()
    async with connected(user, token) as client:
        result = await called(client, "reverse_complement", {"sequence": stored["handle"]})
    assert not result["isError"]
    assert letters[:40] not in json.dumps(result)
    made = user.http.get("/chat/getSequences/").json()[0]
    assert made["length"] == len(letters)
    assert made["handle"] in result["content"][0]["text"]


async def test_a_model_may_call_more_tools_at_once_than_run_at_once(user: User, token: str) -> None:
    async with connected(user, token) as client:
        calls = [called(client, "gc_content", {"sequence": "ACGT" * length}) for length in range(1, 13)]
        results = await asyncio.gather(*calls)
    assert [each["structuredContent"]["length"] for each in results] == [4 * length for length in range(1, 13)]


async def test_without_the_scope_or_with_no_token_the_official_client_says_why(user: User) -> None:
    for bad, message in ((token_of(user, "reader", "read"), "tools"), (new_token(), "API token")):
        with pytest.raises((BaseExceptionGroup, MCPError)) as raised:
            async with connected(user, bad):
                pass
        found: BaseException = raised.value
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        assert message in str(found)


# -- Earlier revisions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [*WITH_INITIALIZE, "1999-01-01", None, 7])
@once
def test_initialize_agrees_on_a_revision_and_begins_no_session(
    post: Callable[..., httpx2.Response], asked: object
) -> None:
    answered = post(request("initialize", 0, protocolVersion=asked, capabilities={}, clientInfo={}))
    assert answered.status_code == 200
    assert answered.json()["id"] == 0
    agreed = asked if asked in WITH_INITIALIZE else WITH_INITIALIZE[0]
    assert answered.json()["result"]["protocolVersion"] == agreed
    assert answered.json()["result"]["capabilities"] == {"tools": {"listChanged": False}}
    assert "mcp-session-id" not in answered.headers
    listed = post(request("tools/list", "x"), MCP_Protocol_Version=str(agreed), Mcp_Session_Id="unknown")
    assert listed.json()["id"] == "x"
    assert list(listed.json()["result"]) == ["tools"]


@once
def test_notifications_are_accepted_without_a_body_and_do_nothing(
    post: Callable[..., httpx2.Response], user: User
) -> None:
    before = len(user.http.get("/chat/getToolCalls/").json())
    call = {"name": "gc_content", "arguments": {"sequence": "ACGT"}}
    for method, params in (("notifications/initialized", None), ("notifications/unknown", {}), ("tools/call", call)):
        accepted = post({"jsonrpc": "2.0", "method": method, "params": params})
        assert (accepted.status_code, accepted.content) == (202, b"")
        assert accepted.headers["content-length"] == "0"
        assert "content-type" not in accepted.headers
    assert len(user.http.get("/chat/getToolCalls/").json()) == before


@once
def test_an_unknown_method_is_an_error_that_ends_no_earlier_clients_session(
    post: Callable[..., httpx2.Response],
) -> None:
    assert post(request("ping")).json() == {"jsonrpc": "2.0", "id": 1, "result": {}}
    for method in ("resources/list", "prompts/list", "logging/setLevel", "server/discover", "", "x" * 10_000):
        refused = error(post(request(method)), 200)
        assert (refused["id"], refused["error"]["code"]) == (1, -32601)
        assert "data" not in refused["error"]


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"name": 7},
        {"name": None},
        {"name": "no_such_tool"},
        {"name": "gc_content", "arguments": []},
        {"name": "gc_content", "arguments": "ACGT"},
        {"name": "gc_content\0"},
    ],
)
@once
def test_a_call_that_is_none_is_an_error_of_the_protocol(post: Callable[..., httpx2.Response], params: Message) -> None:
    assert error(post(request("tools/call", **params)), 200)["error"]["code"] == -32602
    assert error(post(request("tools/list", cursor="x")), 200)["error"]["code"] == -32602


@pytest.mark.parametrize(
    "arguments",
    [{}, {"sequence": None}, {"sequence": 7}, {"sequence": "ACGT", "other": 1}, {"sequence": ["A"] * 3}, None],
)
@once
def test_arguments_that_the_tool_refuses_are_a_result_that_the_model_can_read(
    post: Callable[..., httpx2.Response], arguments: Message | None
) -> None:
    result = post(request("tools/call", name="molar_amount", arguments=arguments)).json()["result"]
    assert result["isError"] is True
    assert "structuredContent" not in result
    assert all(list(part) == ["type", "text"] and part["text"] for part in result["content"])


@once
def test_arguments_that_are_too_long_are_a_result_and_are_not_recorded(
    post: Callable[..., httpx2.Response], user: User
) -> None:
    before = len(user.http.get("/chat/getToolCalls/").json())
    called = post(request("tools/call", name="gc_content", arguments={"sequence": "A" * 70_000}))
    assert called.json()["result"]["isError"] is True
    assert "65,536 bytes" in called.json()["result"]["content"][0]["text"]
    assert len(user.http.get("/chat/getToolCalls/").json()) == before


# -- The newest revision -----------------------------------------------------------------------------------------------


@once
def test_each_request_of_the_newest_revision_says_all_and_is_answered_with_all(
    post: Callable[..., httpx2.Response],
) -> None:
    found = post(newest("server/discover"), **headers_of("server/discover")).json()["result"]
    assert (found["resultType"], found["supportedVersions"]) == ("complete", list(VERSIONS))
    assert (found["cacheScope"], found["capabilities"]) == ("private", {"tools": {}})
    listed = post(newest("tools/list"), **headers_of("tools/list")).json()["result"]
    assert {"resultType", "tools", "ttlMs", "cacheScope", "_meta"} == listed.keys()
    arguments = {"sequence": "ACGT"}
    in_base64 = f"=?base64?{base64.b64encode(b'gc_content').decode()}?="
    for name in ("gc_content", in_base64):
        body = newest("tools/call", name="gc_content", arguments=arguments)
        result = post(body, **headers_of("tools/call", name)).json()["result"]
        assert result["structuredContent"]["gc_percent"] == 50
        assert result["resultType"] == "complete"
        assert result["_meta"].keys() == {"io.modelcontextprotocol/serverInfo", "baio/call_id"}
    for gone in ("ping", "initialize", "subscriptions/listen"):
        assert error(post(newest(gone), **headers_of(gone)), 404)["error"]["code"] == -32601


@once
def test_headers_that_are_not_what_the_body_says_are_refused(post: Callable[..., httpx2.Response]) -> None:
    call = newest("tools/call", name="gc_content", arguments={"sequence": "ACGT"})
    right = headers_of("tools/call", "gc_content")
    for wrong in (
        {"MCP_Protocol_Version": WITH_INITIALIZE[0]},
        {"Mcp_Method": "tools/list"},
        {"Mcp_Method": "TOOLS/CALL"},
        {"Mcp_Name": "translate"},
        {"Mcp_Name": "=?base64?!?="},
        {"Mcp_Name": "=?base64?/w==?="},
    ):
        refused = error(post(call, **{**right, **wrong}), 400)
        assert (refused["id"], refused["error"]["code"]) == (1, -32020)
    for missing in right:
        kept = {name: value for name, value in right.items() if name != missing}
        assert error(post(call, **kept), 400)["error"]["code"] == -32020


@once
def test_a_revision_that_is_unknown_is_answered_with_those_that_are_known(
    post: Callable[..., httpx2.Response],
) -> None:
    for unknown in ("1900-01-01", "", "2026-07-28 "):
        meta = {**META, "io.modelcontextprotocol/protocolVersion": unknown}
        for body, headers in ((newest("tools/list", meta), {}), (request("tools/list"), {"MCP_Protocol_Version": "9"})):
            refused = error(post(body, **headers), 400)
            assert (refused["id"], refused["error"]["code"]) == (1, -32022)
            assert refused["error"]["data"]["supported"] == list(VERSIONS)
    incomplete: list[Message] = [{}, {**META, "io.modelcontextprotocol/clientCapabilities": None}, {"x": 1}]
    for meta in incomplete:
        refused = error(post(newest("tools/list", meta), **headers_of("tools/list")), 400)
        assert refused["error"]["code"] == -32602


# -- What no client should send ----------------------------------------------------------------------------------------

NO_REQUESTS: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", -32700),
    "no JSON": (b"{", -32700),
    "no UTF-8": (b'{"jsonrpc": "2.0", "id": 1, "method": "\xff"}', -32700),
    "deeply nested": (b"[" * 100_000, -32700),
    "a batch": (b'[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]', -32600),
    "an empty batch": (b"[]", -32600),
    "a text": (b'"ping"', -32600),
    "null": (b"null", -32600),
    "no version": (b'{"id": 1, "method": "ping"}', -32600),
    "another version": (b'{"jsonrpc": "1.0", "id": 1, "method": "ping"}', -32600),
    "no method": (b'{"jsonrpc": "2.0", "id": 1}', -32600),
    "a method that is no text": (b'{"jsonrpc": "2.0", "id": 1, "method": 7}', -32600),
    "the id null": (b'{"jsonrpc": "2.0", "id": null, "method": "ping"}', -32600),
    "the id a fraction": (b'{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}', -32600),
    "the id an object": (b'{"jsonrpc": "2.0", "id": {}, "method": "ping"}', -32600),
    "the id true": (b'{"jsonrpc": "2.0", "id": true, "method": "ping"}', -32600),
    "parameters in a list": (b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}', -32600),
    "a response": (b'{"jsonrpc": "2.0", "id": 1, "result": {}}', -32600),
}


@pytest.mark.parametrize(("body", "code"), NO_REQUESTS.values(), ids=NO_REQUESTS.keys())
@once
def test_a_body_that_is_no_request_is_refused(post: Callable[..., httpx2.Response], body: bytes, code: int) -> None:
    refused = error(post(body), 400)
    assert refused["id"] is None
    assert refused["error"]["code"] == code


@once
def test_ids_come_back_as_they_were_sent_and_both_spellings_of_the_path_are_the_same(
    post: Callable[..., httpx2.Response],
) -> None:
    for request_id in (0, -1, 2**63, "", "\N{DNA DOUBLE HELIX}", "1"):
        for path in ("/mcp", "/mcp/"):
            assert post(request("ping", request_id), path).json()["id"] == request_id
    bom = b"\xef\xbb\xbf" + json.dumps(request("ping")).encode()
    assert post(bom).json()["result"] == {}
    for accept in ("application/json", "*/*", "text/event-stream", "application/json, text/event-stream"):
        assert post(request("ping"), Accept=accept).headers["content-type"] == "application/json"


@once
def test_http_refuses_in_the_form_of_json_rpc(post: Callable[..., httpx2.Response], user: User) -> None:
    too_large = error(post(b'{"jsonrpc": "2.0", "x": "' + b"a" * 1_048_576 + b'"}'), 413)
    assert too_large["error"]["data"]["type"] == "urn:baio:error:request-entity-too-large"
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert error(post(request("ping"), Content_Type=kind), 415)["error"]["code"] == 415
    with user.server.client() as stranger:
        refused = stranger.post("/mcp", json=request("ping"))
        assert error(refused, 401)["error"]["data"]["type"] == "urn:baio:error:not-authenticated"
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        for method in ("GET", "DELETE", "PUT", "HEAD"):
            other = stranger.request(method, "/mcp", headers={"Accept": "text/event-stream"})
            assert other.status_code == 405
            assert "POST" in other.headers["Allow"]
    reader = token_of(user, "another reader", "read", "ask", "edit")
    refused = post(request("ping"), Authorization=f"Bearer {reader}")
    assert error(refused, 403)["error"]["data"]["scope"] == "tools"
    assert 'scope="tools"' in refused.headers["WWW-Authenticate"]
    assert reader not in refused.text


@once
def test_pages_of_other_origins_are_refused_and_those_of_the_setting_are_not(
    post: Callable[..., httpx2.Response], user: User
) -> None:
    assert post(request("ping"), Origin="http://localhost:3000").json()["result"] == {}
    own = user.server.address
    for origin in ("http://evil.example", "null", "", own, "http://localhost:3000.evil.example", "http://localhost"):
        refused = error(post(request("ping"), Origin=origin, Authorization="Bearer none"), 403)
        assert refused["id"] is None
    asked = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "authorization,content-type,mcp-method,mcp-name,mcp-protocol-version"
    with user.server.client() as page:
        assert page.options("/mcp", headers=asked).status_code == 204


def test_a_revoked_token_is_refused_with_the_next_request(post: Callable[..., httpx2.Response], user: User) -> None:
    short = token_of(user, "short", "tools")
    assert post(request("ping"), Authorization=f"Bearer {short}").status_code == 200
    assert user.http.post("/user/revokeToken/", json={"name": "short"}).status_code == 200
    for _ in range(3):
        error(post(request("tools/list"), Authorization=f"Bearer {short}"), 401)


def test_a_sessions_access_token_is_taken_too(post: Callable[..., httpx2.Response], user: User) -> None:
    assert post(request("ping"), Authorization=f"Bearer {user.access}").json()["result"] == {}
