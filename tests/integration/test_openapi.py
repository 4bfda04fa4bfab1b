"""The OpenAPI document: complete, valid, shown by a page that loads nothing from elsewhere, and kept by the server."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator
from schemathesis import BaseSchema, GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.core.result import Err

from tests.integration.conftest import NewDatabase, lasting_server_on
from tests.integration.operations import OPERATIONS
from tests.integration.scripted_provider import ScriptedProvider, answer, cut_after
from tests.integration.servers import Server, User

PROBLEM = "application/problem+json"
Document = dict[str, Any]

# What clients rely on: method, path, whether a token is needed, whether there is a body, and the statuses besides 503,
# 401 for an operation with a token, and 413 and 415 for one with a body. A later operation needs no entry here.
CONTRACT: dict[str, tuple[str, str, bool, bool, set[int]]] = {
    "register": ("post", "/user/register/", False, True, {201, 400}),
    "auth": ("post", "/user/auth/", False, True, {200, 400, 409, 429}),
    "refresh": ("post", "/user/refresh/", False, True, {200, 400, 401}),
    "validateToken": ("post", "/user/validateToken/", False, True, {200, 400, 401}),
    "getInfo": ("get", "/user/getInfo/", True, False, {200}),
    "updateInfo": ("post", "/user/updateInfo/", True, True, {200, 400, 403}),
    "updateCredentials": ("post", "/user/updateCredentials/", True, True, {200, 400, 403, 409, 429}),
    "enrollTwoFactor": ("post", "/user/enrollTwoFactor/", True, True, {200, 400, 409, 429}),
    "confirmTwoFactor": ("post", "/user/confirmTwoFactor/", True, True, {200, 400, 409, 429}),
    "disableTwoFactor": ("post", "/user/disableTwoFactor/", True, True, {200, 400, 403, 409, 429}),
    "getTwoFactor": ("get", "/user/getTwoFactor/", True, False, {200}),
    "getSessions": ("get", "/user/getSessions/", True, False, {200}),
    "logout": ("post", "/user/logout/", False, True, {200, 400}),
    "logoutEverywhere": ("post", "/user/logoutEverywhere/", True, False, {200}),
    "resetPassword": ("post", "/user/resetPassword/", False, True, {200, 400}),
    "exportData": ("get", "/user/exportData/", True, False, {200, 429}),
    "deleteAccount": ("post", "/user/deleteAccount/", True, True, {200, 400, 409, 429}),
    "getConversation": ("get", "/chat/getConversation/", True, False, {200, 400, 404, 429}),
    "getConversations": ("get", "/chat/getConversations/", True, False, {200, 429}),
    "createConversation": ("post", "/chat/createConversation/", True, True, {201, 400, 404, 409, 422}),
    "renameConversation": ("post", "/chat/renameConversation/", True, True, {200, 400, 404}),
    "deleteConversation": ("post", "/chat/deleteConversation/", True, True, {200, 400, 404}),
    "addAPIKey": ("post", "/chat/addAPIKey/", True, True, {201, 400, 409, 422}),
    "getApiKeys": ("get", "/chat/getApiKeys/", True, False, {200}),
    "deleteAPIKey": ("post", "/chat/deleteAPIKey/", True, True, {200, 400, 404}),
    "renameAPIKey": ("post", "/chat/renameAPIKey/", True, True, {200, 400, 404}),
    "testAPIKey": ("post", "/chat/testAPIKey/", True, True, {200, 400, 404, 409, 429}),
    "getUsage": ("get", "/chat/getUsage/", True, False, {200, 400}),
    "getLLMProviders": ("get", "/chat/getLLMProviders/", True, False, {200}),
    "sendMessage": ("post", "/chat/sendMessage/", True, True, {200, 400, 404, 409, 422, 424, 429, 502, 504}),
    "regenerateAnswer": ("post", "/chat/regenerateAnswer/", True, True, {200, 400, 404, 409, 422, 424, 429, 502, 504}),
    "followAnswer": ("get", "/chat/followAnswer/", True, False, {200, 400, 404, 424, 429, 502, 504}),
    "stopAnswer": ("post", "/chat/stopAnswer/", True, True, {200, 400, 404}),
    "getAnswers": ("get", "/chat/getAnswers/", True, False, {200, 400, 404, 429}),
}

_ACCOUNT = {
    "first_name": "Ole",
    "last_name": "Normann",
    "username": "olenor",
    "email": "ole.normann@example.no",
    "country": "Norway",
    "affiliation": "University of Bergen",
    "position": "scientist",
    "field_of_study": "AI researcher",
}
_PROFILE = {name: text for name, text in _ACCOUNT.items() if name not in ("username", "email")}

# The contract's examples: what is sent, and what comes back.
EXAMPLES: dict[str, tuple[Any, Any]] = {
    "getInfo": (None, _ACCOUNT),
    "updateInfo": (_PROFILE, _PROFILE),
    "register": ({**_ACCOUNT, "password": "oleSterktPassord123"}, _ACCOUNT),
    "auth": (
        {"username": "olenor", "password": "oleSterktPassord123"},
        {"refresh": "%REFRESH_TOKEN%", "access": "%ACCESS_TOKEN%"},
    ),
    "refresh": ({"refresh": "%REFRESH_TOKEN%"}, {"access": "%NEW_ACCESS_TOKEN%"}),
    "renameConversation": (
        {"conversation_id": 1, "title": "Updated Discussion"},
        "Conversation successfully renamed to Updated Discussion",
    ),
    "deleteConversation": ({"conversation_id": 1}, "Conversation with id=1 successfully deleted"),
    "addAPIKey": ({"key": "sk-...", "nickname": "OpenAI Key"}, {"nickname": "OpenAI Key", "user": 1}),
    "sendMessage": (
        {
            "conversation_id": 1,
            "apikey_nickname": "OpenAI Key",
            "content": "What are the applications of AI in genomics?",
            "model": "gpt-4o-mini",
        },
        None,
    ),
}


@pytest.fixture(scope="module")
def documented(
    sqlite: NewDatabase, provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server on SQLite; what it documents does not depend on its database."""
    with lasting_server_on(tmp_path_factory.mktemp("documented"), sqlite.prepared(), provider) as running:
        yield running


@pytest.fixture(scope="module")
def reader(documented: Server) -> Iterator[httpx2.Client]:
    """Somebody who reads."""
    with documented.client() as client:
        yield client


@pytest.fixture(scope="module")
def document(reader: httpx2.Client) -> Document:
    """The document."""
    found: Document = reader.get("/docs/openapi.json").json()
    return found


def operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    """Every operation with its path and method."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def operation(document: Document, name: str) -> Document:
    """The operation of this name."""
    found: Document = next(each for _, _, each in operations(document) if each["operationId"] == name)
    return found


def test_the_document_has_every_operation_of_the_routes(document: Document) -> None:
    found = {
        each["operationId"]: (method.upper(), path, "security" in each, "requestBody" in each)
        for path, method, each in operations(document)
    }
    assert found == {
        each.name: (each.method, each.path, each.bearer, each.takes_file or bool(each.body))
        for each in OPERATIONS.values()
    }


def test_every_operation_of_the_contract_is_there_under_its_path_with_every_status(document: Document) -> None:
    found = {}
    for path, method, each in operations(document):
        statuses = {int(status) for status in each["responses"]}
        found[each["operationId"]] = (method, path, "security" in each, "requestBody" in each, statuses)
    expected = {
        name: (
            method,
            path,
            bearer,
            body,
            {*statuses, 503, *({401, 403} if bearer else ()), *({413, 415} if body else ())},
        )
        for name, (method, path, bearer, body, statuses) in CONTRACT.items()
    }
    assert {name: found.get(name) for name in expected} == expected
    assert all(each["security"] == [{"Bearer": []}] for _, _, each in operations(document) if "security" in each)
    assert document["components"]["securitySchemes"]["Bearer"] == {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
    }


def test_every_error_is_a_problem_and_every_response_says_that_it_has_an_id(document: Document) -> None:
    for path, _, each in operations(document):
        assert each["summary"]
        for status, response in each["responses"].items():
            if not path.startswith("/health"):
                assert "X-Request-ID" in response["headers"], (path, status)
            if status.startswith("3"):
                assert "Location" in response["headers"]
                assert "content" not in response
            if status.startswith(("2", "3")) or (each["operationId"], status) == ("validateToken", "401"):
                continue
            kind, name = ("application/json", "OpenAIErrorBody") if path.startswith("/v1/") else (PROBLEM, "Problem")
            assert response["content"] == {kind: {"schema": {"$ref": f"#/components/schemas/{name}"}}}, (path, status)
            assert response["description"]
            assert ("Retry-After" in response["headers"]) == (status in ("429", "503"))
            assert ("WWW-Authenticate" in response["headers"]) == (status == "401")
    problem = document["components"]["schemas"]["Problem"]
    assert list(problem["properties"])[:4] == ["type", "title", "status", "detail"]
    assert set(problem["required"]) == {"type", "title", "status", "detail"}


def test_answers_are_documented_as_text_and_as_events(document: Document) -> None:
    for name in ("sendMessage", "regenerateAnswer", "followAnswer"):
        response = operation(document, name)["responses"]["200"]
        assert set(response["content"]) == {"text/plain", "text/event-stream"}
        assert "X-Answer-ID" in response["headers"]


def test_the_examples_are_the_contracts(document: Document) -> None:
    for name, (sent, received) in EXAMPLES.items():
        each = operation(document, name)
        if sent is not None:
            assert each["requestBody"]["content"]["application/json"]["examples"]["contract"]["value"] == sent
        if received is not None:
            success = next(each["responses"][status] for status in ("200", "201") if status in each["responses"])
            assert success["content"]["application/json"]["examples"]["contract"]["value"] == received
            assert list(success["content"]["application/json"]["examples"]["contract"]["value"]) == list(received)


def test_every_example_fits_its_schema(document: Document) -> None:
    checked = 0
    for _, _, each in operations(document):
        bodies = [each.get("requestBody", {}), *each["responses"].values()]
        for media in (media for body in bodies for media in body.get("content", {}).values()):
            schema = {**media["schema"], "components": document["components"]}
            for example in media.get("examples", {}).values():
                Draft202012Validator(schema).validate(example["value"])
                checked += 1
    assert checked > 30


def test_an_example_has_its_nulls(document: Document) -> None:
    [media] = operation(document, "getConversation")["responses"]["200"]["content"].values()
    system, *_, running = media["examples"]["answers"]["value"]["messages"]
    assert [system[name] for name in ("answer_id", "state", "reason")] == [None] * 3
    assert [running[name] for name in ("answer_id", "state", "reason")] == [7, "running", None]


def test_every_request_and_every_success_has_an_example(document: Document) -> None:
    for path, _, each in operations(document):
        successes = [response for status, response in each["responses"].items() if status.startswith("2")]
        for body in (*successes, *([each["requestBody"]] if "requestBody" in each else [])):
            for media in body["content"].values():
                assert media.get("examples"), path


def test_only_what_may_be_missing_is_optional(document: Document) -> None:
    assert operation(document, "createConversation")["requestBody"]["required"] is False
    assert operation(document, "sendMessage")["requestBody"]["required"] is True
    schemas = document["components"]["schemas"]
    assert set(schemas["RegisterRequest"]["required"]) == {"first_name", "last_name", "username", "email", "password"}
    assert not schemas["UpdateInfoRequest"].get("required")
    assert set(schemas["SendMessageRequest"]["required"]) == {"conversation_id", "content"}


def schemas(node: object, name: str = "") -> Iterator[tuple[str, Document]]:
    """Every JSON object in the document, with its name in the object or list that it is in."""
    if isinstance(node, dict):
        yield name, node
        for key, each in node.items():
            if key not in ("examples", "example"):
                yield from schemas(each, key)
    elif isinstance(node, list):
        for each in node:
            yield from schemas(each, name)


def test_an_operation_without_security_needs_no_token(document: Document) -> None:
    assert document["security"] == []
    assert "security" not in operation(document, "auth")


def test_every_tag_is_declared_with_a_description(document: Document) -> None:
    declared = {tag["name"]: tag["description"] for tag in document["tags"]}
    assert {tag for _, _, each in operations(document) for tag in each["tags"]} == declared.keys()
    assert all(declared.values())


def test_every_parameter_says_what_it_is_and_what_its_absence_means(document: Document) -> None:
    parameters = [parameter for _, _, each in operations(document) for parameter in each.get("parameters", [])]
    assert parameters
    for parameter in parameters:
        schema, description = parameter["schema"], parameter["description"]
        assert isinstance(schema["type"], str), parameter["name"]
        assert "oneOf" not in schema
        if not parameter["required"] and parameter["in"] == "query":
            assert "default" in schema or "By default" in description, parameter["name"]


def test_what_has_one_type_is_written_as_that_type(document: Document) -> None:
    for name, each in schemas(document):
        assert "oneOf" not in each, name
        assert len(each.get("anyOf", [1, 2])) > 1, name


def test_ids_and_counts_are_bounded_64_bit_integers_and_times_say_so(document: Document) -> None:
    integers, times = set(), set()
    for name, each in schemas(document):
        if re.fullmatch(r"(.+_)?id", name) and each.get("type") == "integer":
            integers.add(name)
            assert (each["format"], each["maximum"]) == ("int64", 2**63 - 1)
            assert "minimum" in each
        if re.fullmatch(r"(.+_)?(tokens|out|left)", name) and each.get("type") == "integer":
            integers.add(name)
            assert (each["format"], each["minimum"]) == ("int64", 0)
        if re.fullmatch(r"(.+_)?at", name):
            times.add(name)
            assert each.get("format", "date-time") == "date-time"
            assert "date-time" in str(each)
    assert {"id", "conversation_id", "answer_id", "result_id", "left_out", "recovery_codes_left"} <= integers
    assert {"at", "created_at", "last_used_at", "ended_at", "two_factor_enabled_at"} <= times


def test_every_component_is_used_and_every_list_says_what_is_in_it(document: Document) -> None:
    text = json.dumps(document)
    unused = {name for name in document["components"]["schemas"] if f'"#/components/schemas/{name}"' not in text}
    assert unused == set()
    assert [name for name, each in schemas(document) if each.get("type") == "array" and "items" not in each] == []


def test_every_component_is_described(document: Document) -> None:
    components = document["components"]["schemas"]
    assert [name for name, each in components.items() if not each.get("description")] == []


def events(text: str) -> list[Document]:
    """The events of a stream, their data decoded, as AnswerEvent describes them."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            number = {"id": int(fields["id"])} if "id" in fields else {}
            found.append({"event": fields["event"], **number, "data": json.loads(fields["data"])})
    return found


def test_the_events_of_answers_are_as_documented(
    document: Document, researcher: User, provider: ScriptedProvider
) -> None:
    media = operation(document, "followAnswer")["responses"]["200"]["content"]["text/event-stream"]
    assert media["schema"]["contentMediaType"] == "text/event-stream"
    validator = Draft202012Validator({**media["schema"]["contentSchema"], "components": document["components"]})
    conversation = researcher.http.get("/chat/getConversations/").json()[0]["id"]
    streams = [media["examples"]["contract"]["value"]]
    for behaviour in (answer("Half an", " answer."), cut_after("Half an")):
        provider.script(behaviour)
        headers = {"Accept": "text/event-stream"}
        question = researcher.question(conversation)
        streams.append(researcher.http.post("/chat/sendMessage/", json=question, headers=headers).text)
    for stream in streams:
        found = events(stream)
        validator.validate(found)
        assert found[0]["id"] == len(found[0]["data"]["text"])
    assert [events(stream)[-1]["event"] for stream in streams] == ["end", "end", "error"]
    assert not validator.is_valid([{"event": "delta", "data": {"text": "without its id"}}])
    assert not validator.is_valid([{"event": "end", "data": {"type": "urn:baio:error:provider-broken"}}])


def test_the_document_is_valid_openapi_3_1(document: Document) -> None:
    assert document["openapi"].startswith("3.1.")
    schema = schemathesis.openapi.from_dict(document)
    schema.validate()
    found = list(schema.get_all_operations())
    assert len(found) == len(OPERATIONS)
    assert not [each for each in found if isinstance(each, Err)]


# -- The page ----------------------------------------------------------------------------------------------------------


class Loads(HTMLParser):
    """Collects what a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take what a browser would fetch."""
        if tag != "a":
            self.found += [value for name, value in attrs if name in ("src", "href", "srcset", "action") and value]


@pytest.mark.parametrize("address", ["/docs", "/docs/"])
def test_the_page_and_all_it_loads_come_from_the_server_below_any_prefix(reader: httpx2.Client, address: str) -> None:
    page = reader.get(address)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    parser = Loads()
    parser.feed(page.text)
    found = [*parser.found, re.findall(r"url: '(.*?)'", page.text)[0]]
    assert len(found) >= 3
    for each in found:
        assert not each.startswith("/")
        assert not re.match(r"(\w+:)?//", each), each
        prefixed = urljoin(f"/baio/service{address}", each)
        loaded = reader.get(prefixed.removeprefix("/baio/service"))
        assert (loaded.status_code, bool(loaded.content)) == (200, True), each
        if each.endswith(".css"):
            assert not re.findall(r"url\(\s*[\"']?(?:https?:)?//|@import", loaded.text)
    assert not re.findall(r"https?://", page.text)


def test_the_servers_address_in_a_browser_says_what_this_is_and_leads_to_the_documentation(
    reader: httpx2.Client,
) -> None:
    page = reader.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert re.findall(r'href="(.*?)"', page.text) == ["docs"]
    assert "'unsafe-inline'" not in page.headers["content-security-policy"]


def test_the_document_says_which_token_to_paste(document: Document) -> None:
    assert "`access` token" in document["info"]["description"]


@pytest.mark.parametrize("path", ["/docs/nothing", "/docs/assets/nothing.js", "/docs/redoc", "/docs/assets/../../x"])
def test_what_the_page_does_not_have_is_a_problem_like_elsewhere(reader: httpx2.Client, path: str) -> None:
    missing = reader.get(path)
    assert (missing.status_code, missing.headers["content-type"]) == (404, PROBLEM)


def test_the_package_with_the_pages_files_is_installed() -> None:
    import litestar_offline_docs

    assert (Path(litestar_offline_docs.__file__).with_name("static") / "swagger-ui-bundle.js").stat().st_size > 10**6


# -- The server keeps it -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema(documented: Server, document: Document) -> BaseSchema:
    """The document as schemathesis reads it."""
    loaded = schemathesis.openapi.from_dict(document)
    loaded.config.update(base_url=documented.address)
    return loaded


@pytest.fixture
def researcher(documented: Server) -> Iterator[User]:
    """Somebody with a conversation and a key, until a request deletes the account."""
    someone = User(documented)
    someone.add_key()
    someone.begin()
    yield someone
    someone.http.close()


AS_TOLD, OTHERWISE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
ATTEMPTS = [
    *((name, AS_TOLD) for name in OPERATIONS),
    *((name, OTHERWISE) for name, each in OPERATIONS.items() if each.fields),
]


@pytest.mark.parametrize(("name", "mode"), ATTEMPTS, ids=[f"{name} {mode.value}" for name, mode in ATTEMPTS])
def test_the_server_answers_as_documented_whatever_it_is_sent(
    schema: BaseSchema, researcher: User, name: str, mode: GenerationMode
) -> None:
    operation = OPERATIONS[name]
    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_headers_conformance,
        response_schema_conformance,
    ]
    if operation.path.startswith("/admin/"):
        researcher.become_administrator()
    headers = {"Authorization": f"Bearer {researcher.access}"} if operation.bearer else {}
    conversation = researcher.http.get("/chat/getConversations/").json()[0]["id"]

    @settings(
        max_examples=15,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[operation.path][operation.method].as_strategy(generation_mode=mode), number=st.integers(0, 1))
    def answers(case: schemathesis.Case[Any], number: int) -> None:
        if number and mode is AS_TOLD and isinstance(case.body, dict) and "conversation_id" in case.body:
            # Now and then what is asked for is there.
            case.body = {
                **case.body,
                "conversation_id": conversation,
                "apikey_nickname": "OpenAI Key",
                "model": "gpt-4o",
            }
        case.call_and_validate(headers=headers, checks=checks)

    answers()
