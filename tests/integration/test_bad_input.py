"""Every endpoint against what nobody should send: refused in one form, naming what is wrong, and nothing stored."""

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.integration.conftest import once
from tests.integration.operations import OPERATIONS
from tests.integration.scripted_provider import ScriptedProvider
from tests.integration.servers import PASSWORD, Server, User, named, problem, registration, until

Body = dict[str, Any]

# Each endpoint that takes a body: its fields with the types that are right.
TEXTS: dict[str, type] = dict.fromkeys(("first_name", "last_name", "country", "affiliation", "position"), str)
SETTINGS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("system", "model", "apikey_nickname"), (str, type(None))),
    "parameters": (dict, type(None)),
    "tools": (list, type(None)),
}
FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "/user/register/": {
        **TEXTS,
        "field_of_study": str,
        "username": str,
        "email": str,
        "password": str,
        "invitation": (str, type(None)),
    },
    "/user/auth/": {"username": str, "password": str, "code": (str, type(None))},
    "/user/refresh/": {"refresh": str},
    "/user/validateToken/": {"token": str},
    "/user/updateInfo/": {**TEXTS, "field_of_study": str},
    "/user/updateCredentials/": {
        "current_password": str,
        "code": str,
        "username": str,
        "email": str,
        "password": str,
    },
    "/user/enrollTwoFactor/": {"password": str},
    "/user/confirmTwoFactor/": {"code": str},
    "/user/disableTwoFactor/": {"password": str, "code": str},
    "/user/logout/": {"refresh": str},
    "/user/resetPassword/": {"token": str, "password": str},
    "/user/deleteAccount/": {"password": str, "code": (str, type(None))},
    "/user/createToken/": {
        "name": str,
        "scopes": list,
        "password": str,
        "expires_at": (str, type(None)),
        "code": (str, type(None)),
    },
    "/user/revokeToken/": {"name": str},
    "/v1/chat/completions/": {
        "model": str,
        "messages": list,
        **dict.fromkeys(("stream", "store", "logprobs", "parallel_tool_calls"), (bool, type(None))),
        **dict.fromkeys(("stream_options", "response_format", "logit_bias"), (dict, type(None))),
        **dict.fromkeys(("temperature", "top_p", "frequency_penalty", "presence_penalty"), (float, int, type(None))),
        **dict.fromkeys(("max_completion_tokens", "max_tokens", "seed", "n"), (int, type(None))),
        **dict.fromkeys(("tools", "modalities"), (list, type(None))),
        **dict.fromkeys(("audio", "functions", "function_call"), (type(None),)),
        "tool_choice": (dict, type(None)),
        "stop": (str, list, type(None)),
        "reasoning_effort": (str, type(None)),
        "verbosity": (type(None),),
    },
    "/user/startSignIn/": {"provider": str, "return_to": str, "challenge": str},
    "/user/redeemSignIn/": {"ticket": str, "verifier": str, "code": (str, type(None))},
    "/user/linkIdentity/": {"ticket": str, "verifier": str, "password": str, "code": (str, type(None))},
    "/user/unlinkIdentity/": {"identity_id": int, "password": str, "code": (str, type(None))},
    "/chat/createConversation/": {"title": str, "temporary": bool, "preset": (str, type(None))},
    "/chat/keepConversation/": {"conversation_id": int, "kept": bool},
    "/chat/renameConversation/": {"conversation_id": int, "title": str},
    "/chat/deleteConversation/": {"conversation_id": int},
    "/chat/tagConversation/": {"conversation_id": int, "tags": list},
    "/chat/pinConversation/": {"conversation_id": int, "pinned": bool},
    "/chat/archiveConversation/": {"conversation_id": int, "archived": bool},
    "/chat/branchConversation/": {
        "conversation_id": int,
        "message_id": (int, type(None)),
        "title": (str, type(None)),
    },
    "/chat/suggestTitle/": {"conversation_id": int, "apikey_nickname": (str, type(None)), "model": (str, type(None))},
    "/chat/deleteConversations/": {"conversation_ids": (list, type(None)), "archived": bool},
    "/chat/addAPIKey/": {"key": str, "nickname": str, "provider": (int, str, type(None))},
    "/chat/deleteAPIKey/": {"nickname": str},
    "/chat/renameAPIKey/": {"nickname": str, "new_nickname": str},
    "/chat/testAPIKey/": {"nickname": str},
    "/chat/sendMessage/": {
        "conversation_id": int,
        "apikey_nickname": (str, type(None)),
        "content": str,
        "model": (str, type(None)),
        "sequence_ids": list,
    },
    "/chat/regenerateAnswer/": {
        "conversation_id": int,
        "apikey_nickname": (str, type(None)),
        "model": (str, type(None)),
        "message_id": (int, type(None)),
    },
    "/chat/changeSettings/": {"conversation_id": int, **SETTINGS},
    "/chat/createPreset/": {"name": str, **SETTINGS},
    "/chat/deletePreset/": {"name": str},
    "/chat/stopAnswer/": {"conversation_id": int},
    "/chat/runTool/": {"tool": str, "arguments": dict, "conversation_id": (int, type(None))},
    "/chat/verifyToolCall/": {"id": int},
    "/chat/deleteToolCall/": {"id": int},
    "/chat/addSequences/": {
        "content": str,
        **dict.fromkeys(("format", "name", "molecule", "topology"), (str, type(None))),
        "conversation_id": (int, type(None)),
    },
    "/chat/renameSequence/": {"sequence_id": int, "name": str},
    "/chat/deleteSequence/": {"sequence_id": int},
    "/admin/disableUser/": {"username": str},
    "/admin/enableUser/": {"username": str},
    "/admin/inviteUser/": {"email": (str, type(None))},
}
MAY_BE_EMPTY = {"/user/updateInfo/", "/chat/createConversation/", "/admin/inviteUser/"}
# One of two fields is needed, and test_filing.py has what happens without.
EITHER = {"/chat/deleteConversations/"}
# What takes away what the next question needs.
CHANGING = {
    "/chat/regenerateAnswer/",
    "/chat/stopAnswer/",
    "/chat/deleteConversation/",
    "/chat/deleteConversations/",
    "/chat/deleteAPIKey/",
    "/chat/renameAPIKey/",
    "/user/deleteAccount/",
    "/user/auth/",
    "/user/logout/",
    "/user/enrollTwoFactor/",
    "/user/createToken/",
    # What succeeds only in a state that this user is not in.
    "/user/updateCredentials/",
    "/user/confirmTwoFactor/",
    "/user/disableTwoFactor/",
    "/user/resetPassword/",
    "/user/redeemSignIn/",
    "/user/linkIdentity/",
    "/user/unlinkIdentity/",
    "/chat/verifyToolCall/",
    "/chat/deleteToolCall/",
    "/chat/deletePreset/",
    "/user/revokeToken/",
    "/chat/suggestTitle/",
    "/chat/renameSequence/",
    "/chat/deleteSequence/",
    "/admin/disableUser/",
    "/admin/enableUser/",
    "/admin/inviteUser/",
}
OPTIONAL = {
    "/v1/chat/completions/": FIELDS["/v1/chat/completions/"].keys() - {"model", "messages"},
    "/user/register/": {"country", "affiliation", "position", "field_of_study", "invitation"},
    "/user/auth/": {"code"},
    "/user/updateCredentials/": {"code", "username", "email", "password"},
    "/user/deleteAccount/": {"code"},
    "/user/createToken/": {"expires_at", "code"},
    "/user/redeemSignIn/": {"code"},
    "/user/linkIdentity/": {"password", "code"},
    "/user/unlinkIdentity/": {"password", "code"},
    "/chat/addAPIKey/": {"provider"},
    "/chat/changeSettings/": set(SETTINGS),
    "/chat/createPreset/": set(SETTINGS),
    "/chat/runTool/": {"conversation_id"},
    "/chat/sendMessage/": {"sequence_ids"},
    "/chat/addSequences/": {"format", "name", "molecule", "topology", "conversation_id"},
    "/chat/branchConversation/": {"message_id", "title"},
    "/chat/createConversation/": {"title", "temporary"},
    "/chat/keepConversation/": {"kept"},
    "/chat/regenerateAnswer/": {"message_id"},
    "/chat/suggestTitle/": {"apikey_nickname", "model"},
}

every_endpoint = pytest.mark.parametrize("path", FIELDS)


@pytest.fixture(scope="module")
def asker(server: Server) -> Iterator[User]:
    """Somebody with a key; one for all tests, as they are to change nothing."""
    someone = User(server)
    someone.add_key()
    yield someone
    someone.http.close()


@pytest.fixture(scope="module", autouse=True)
def _none_of_this_is_a_bug_in_the_servers_log(server: Server) -> Iterator[None]:
    logged = len(server.log)
    yield
    assert "Traceback" not in server.log[logged:]
    assert "unexpected error" not in server.log[logged:]


@pytest.fixture
def unchanged(server: Server, asker: User, provider: ScriptedProvider) -> Iterator[None]:
    """Check that the test stores nothing, and asks the provider nothing."""
    asker.begin()
    before, mine = server.rows(), asker.http.get("/user/getInfo/").json()
    yield
    assert server.rows() == before
    assert asker.http.get("/user/getInfo/").json() == mine
    assert provider.requests == []


def good(user: User, path: str) -> Body:
    """A body that this endpoint would take, were it not for one thing."""
    conversation = user.http.get("/chat/getConversations/").json()[0]["id"]
    account: Body = {**registration(), "invitation": None}
    settings: Body = {"system": "Be brief.", "model": None, "apikey_nickname": None, "parameters": {}, "tools": []}
    bodies: dict[str, Body] = {
        "/user/register/": account,
        "/user/auth/": {"username": user.account["username"], "password": PASSWORD, "code": None},
        "/user/refresh/": {"refresh": user.refresh},
        "/user/validateToken/": {"token": user.access},
        "/user/updateInfo/": {name: account[name] for name in FIELDS["/user/updateInfo/"]},
        "/user/updateCredentials/": {
            "current_password": PASSWORD,
            "code": "123456",
            **{name: account[name] for name in ("username", "email", "password")},
        },
        "/user/enrollTwoFactor/": {"password": PASSWORD},
        "/user/confirmTwoFactor/": {"code": "123456"},
        "/user/disableTwoFactor/": {"password": PASSWORD, "code": "123456"},
        "/user/logout/": {"refresh": user.refresh},
        "/user/resetPassword/": {"token": "token", "password": PASSWORD},
        "/user/deleteAccount/": {"password": PASSWORD, "code": None},
        "/user/createToken/": {
            "name": "Notebook",
            "scopes": ["read"],
            "password": PASSWORD,
            "expires_at": None,
            "code": None,
        },
        "/user/revokeToken/": {"name": "No such token"},
        "/v1/chat/completions/": {
            **dict.fromkeys(FIELDS["/v1/chat/completions/"]),
            "model": "OpenAI Key/gpt-4o-mini",
            "messages": [{"role": "user", "content": "What is a codon?"}],
        },
        "/user/startSignIn/": {"provider": "uni", "return_to": "http://localhost:3000/", "challenge": "c" * 43},
        "/user/redeemSignIn/": {"ticket": "ticket", "verifier": "v" * 43, "code": None},
        "/user/linkIdentity/": {"ticket": "ticket", "verifier": "v" * 43, "password": PASSWORD, "code": None},
        "/user/unlinkIdentity/": {"identity_id": 1, "password": PASSWORD, "code": None},
        "/chat/createConversation/": {"title": "New Research Topic", "temporary": False, "preset": None},
        "/chat/keepConversation/": {"conversation_id": conversation, "kept": True},
        "/chat/renameConversation/": {"conversation_id": conversation, "title": "Updated"},
        "/chat/deleteConversation/": {"conversation_id": conversation},
        "/chat/tagConversation/": {"conversation_id": conversation, "tags": ["PCR"]},
        "/chat/pinConversation/": {"conversation_id": conversation, "pinned": True},
        "/chat/archiveConversation/": {"conversation_id": conversation, "archived": True},
        "/chat/suggestTitle/": {
            "conversation_id": conversation,
            "apikey_nickname": "OpenAI Key",
            "model": "gpt-4o",
        },
        "/chat/branchConversation/": {"conversation_id": conversation, "message_id": None, "title": "A branch"},
        "/chat/deleteConversations/": {"conversation_ids": [conversation], "archived": False},
        "/chat/addAPIKey/": {"key": "sk-0123456789", "nickname": "Another", "provider": 1},
        "/chat/deleteAPIKey/": {"nickname": "OpenAI Key"},
        "/chat/renameAPIKey/": {"nickname": "OpenAI Key", "new_nickname": "Lab Key"},
        "/chat/testAPIKey/": {"nickname": "OpenAI Key"},
        "/chat/sendMessage/": {**user.question(conversation), "sequence_ids": []},
        "/chat/regenerateAnswer/": {
            "conversation_id": conversation,
            "apikey_nickname": "OpenAI Key",
            "model": "gpt-4o",
            "message_id": None,
        },
        "/chat/changeSettings/": {"conversation_id": conversation, **settings},
        "/chat/createPreset/": {"name": "Preset", **settings},
        "/chat/deletePreset/": {"name": "No such preset"},
        "/chat/stopAnswer/": {"conversation_id": conversation},
        "/chat/runTool/": {
            "tool": "gc_content",
            "arguments": {"sequence": "ACGT"},
            "conversation_id": conversation,
        },
        "/chat/verifyToolCall/": {"id": 1},
        "/chat/deleteToolCall/": {"id": 1},
        "/chat/addSequences/": {
            "content": ">one\nACGT",
            **dict.fromkeys(("format", "name", "molecule", "topology")),
            "conversation_id": conversation,
        },
        "/chat/renameSequence/": {"sequence_id": 1, "name": "new"},
        "/chat/deleteSequence/": {"sequence_id": 1},
        "/admin/disableUser/": {"username": user.account["username"]},
        "/admin/enableUser/": {"username": user.account["username"]},
        "/admin/inviteUser/": {"email": "kari@example.no"},
    }
    assert bodies[path].keys() == FIELDS[path].keys()
    return bodies[path]


def test_every_endpoint_that_takes_a_body_is_in_the_table() -> None:
    taken = {each.path: each.body for each in OPERATIONS.values() if each.body}
    other_spellings = {"apiKey", "name", "apiProvider"}
    taken["/chat/addAPIKey/"] -= other_spellings
    assert taken == {path: fields.keys() for path, fields in FIELDS.items()}


# -- Bodies that are none ----------------------------------------------------------------------------------------------

NO_OBJECTS = {
    "no JSON": b"{title: 1}",
    "half of one": b'{"conversation_id": 1, "title": "T',
    "two of them": b"{}{}",
    "null": b"null",
    "an array": b"[]",
    "an array of objects": b'[{"title": "T"}]',
    "a text": b'"title"',
    "a number": b"1",
    "deeply nested arrays": b"[" * 100_000,
    "deeply nested objects": b'{"a":' * 100_000,
    "well nested arrays": b'{"title":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "well nested objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "NaN": b'{"title": NaN}',
    "no UTF-8": b'{"title": "\xff\xfe"}',
    "a surrogate in UTF-8": b'{"title": "\xed\xa0\x80"}',
    "UTF-16": '{"title": "T"}'.encode("utf-16"),
    "NUL": b"\0",
    "a NUL behind": b"{}\0",
    "a form": b"title=T",
}


@pytest.mark.usefixtures("unchanged")
@every_endpoint
@once
def test_a_body_that_is_no_object_is_refused(asker: User, path: str) -> None:
    for name, body in NO_OBJECTS.items():
        refused = asker.http.post(path, content=body, headers={"Content-Type": "application/json"})
        assert refused.status_code == 400, name
        problem(refused)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("path", sorted(FIELDS.keys() - MAY_BE_EMPTY - EITHER))
@once
def test_an_empty_body_is_refused_naming_every_required_field(asker: User, path: str) -> None:
    required = FIELDS[path].keys() - OPTIONAL.get(path, set())
    for body in (b"", b"{}", b" \n", None):
        refused = asker.http.post(path, content=body)
        if body == b" \n":
            problem(refused)
        else:
            assert named(refused) == required


@pytest.mark.usefixtures("unchanged")
def test_where_everything_is_optional_an_empty_object_changes_nothing_and_no_body_is_refused(asker: User) -> None:
    assert asker.http.post("/user/updateInfo/", json={}).status_code == 200
    problem(asker.http.post("/user/updateInfo/", content=b""))


@pytest.mark.usefixtures("unchanged")
@every_endpoint
@once
def test_a_body_that_does_not_claim_to_be_json_is_415(asker: User, path: str) -> None:
    body = json.dumps(good(asker, path)).encode()
    for media_type in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "json",
        "*/*",
    ):
        problem(asker.http.post(path, content=body, headers={"Content-Type": media_type}), 415)


@pytest.mark.parametrize("media_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_a_json_content_type_is_taken_in_any_spelling(asker: User, media_type: str) -> None:
    headers = {"Content-Type": media_type}
    assert asker.http.post("/chat/createConversation/", content=b"{}", headers=headers).status_code == 201


# -- Fields ------------------------------------------------------------------------------------------------------------

WRONG: list[Any] = [None, True, 1.5, -1.0, [], ["x"], {}, {"a": 1}, 7, "1", "x"]


@pytest.mark.usefixtures("unchanged")
@every_endpoint
@once
def test_a_field_of_the_wrong_type_is_named(asker: User, path: str) -> None:
    body, wanted = good(asker, path), FIELDS[path]
    for field, right in wanted.items():
        for value in WRONG:
            kinds = right if isinstance(right, tuple) else (right,)
            if type(value) not in kinds:
                assert named(asker.http.post(path, json={**body, field: value})) == {field}, (field, value)


@pytest.mark.usefixtures("unchanged")
@every_endpoint
@once
def test_all_fields_of_the_wrong_type_are_named_at_once(asker: User, path: str) -> None:
    fields = named(asker.http.post(path, json={field: [1.5] for field in FIELDS[path]}))
    assert {field.partition("[")[0] for field in fields} == FIELDS[path].keys()  # which may name the place


@pytest.mark.usefixtures("unchanged")
@every_endpoint
def test_a_text_with_NUL_is_named(asker: User, path: str) -> None:
    body = good(asker, path)
    for field, right in FIELDS[path].items():
        if right is str:
            for text in ("\0", "a\0b"):
                assert named(asker.http.post(path, json={**body, field: text})) == {field}


@pytest.mark.usefixtures("unchanged")
@every_endpoint
@once
def test_a_text_with_half_a_character_is_refused(asker: User, path: str) -> None:
    body = good(asker, path)
    for field, right in FIELDS[path].items():
        if right is str:
            for half in ("\\ud83e", "\\udd13", "\\udd13\\ud83e", "x\\ud83ex"):
                sent = json.dumps({**body, field: "HERE"}).replace("HERE", half).encode()
                problem(asker.http.post(path, content=sent))


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("path", [path for path, fields in FIELDS.items() if "conversation_id" in fields])
def test_a_number_that_no_database_can_hold_is_refused_and_a_large_one_is_not_found(asker: User, path: str) -> None:
    body = good(asker, path)
    for number in (2**63, -(2**63) - 1, 10**30, 10**4000):
        sent = json.dumps({**body, "conversation_id": 0}).replace(": 0", f": {number}").encode()
        assert named(asker.http.post(path, content=sent)) == {"conversation_id"}
    for number in (2**63 - 1, -(2**63), 0, -1):
        problem(asker.http.post(path, json={**body, "conversation_id": number}), 404)
    for digits in ("1e400", "-1e400", "1e999999999", "9" * 100_000):
        sent = json.dumps({**body, "conversation_id": 0}).replace(": 0", f": {digits}").encode()
        problem(asker.http.post(path, content=sent))


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("number", ["1e400", "9" * 5000, "-0.0", str(2**64)])
def test_a_provider_that_is_no_id_is_refused(asker: User, number: str) -> None:
    sent = b'{"key": "sk-0123456789", "nickname": "Another", "provider": %b}' % number.encode()
    problem(asker.http.post("/chat/addAPIKey/", content=sent))


@pytest.mark.usefixtures("unchanged")
def test_a_provider_in_any_digits_is_refused_in_order(asker: User) -> None:
    for text in ("9" * 5000, "²", "\u0661\u0661", "1" + "0" * 4299, "-1", "1.0", "\t", "x" * 10_000):
        body = {"key": "sk-0123456789", "nickname": "Another", "provider": text}
        assert named(asker.http.post("/chat/addAPIKey/", json=body)) == {"provider"}, text[:20]


def test_unknown_keys_are_ignored_by_every_endpoint(asker: User) -> None:
    asker.begin()
    unknown = {"": 1, "__class__": {}, "user_id": 1, "id": -1, "a\0b": None, "x" * 1000: [[]]}
    statuses = {}
    for path in FIELDS:
        if path in CHANGING:
            continue
        statuses[path] = asker.http.post(path, json={**unknown, **good(asker, path)}).status_code
    creating = ("createConversation", "branchConversation", "addAPIKey", "runTool", "addSequences", "createPreset")
    creates = {"/user/register/", *(f"/chat/{name}/" for name in creating)}
    assert statuses == {path: 201 if path in creates else 200 for path in statuses}
    assert len(statuses) == len(FIELDS) - len(CHANGING)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("path", ["/chat/sendMessage/", "/chat/createConversation/", "/chat/addAPIKey/"])
@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
@once
def test_an_idempotency_key_that_is_none_is_named(asker: User, path: str, key: str) -> None:
    refused = asker.http.post(path, json=good(asker, path), headers={"Idempotency-Key": key})
    assert named(refused) == {"Idempotency-Key"}


# -- Size --------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchanged")
@every_endpoint
@once
def test_a_body_of_3_MiB_is_413_and_the_client_gets_to_read_it(asker: User, path: str) -> None:
    above = {"/chat/addSequences/": 16, "/v1/chat/completions/": 8}.get(path, 0) * 2**20  # as much more is allowed
    body = b'{"a": "%b"}' % (b"x" * (3 * 2**20 + above))
    problem(asker.http.post(path, content=body), 413)
    problem(asker.http.post(path, content=iter([body[at : at + 65_536] for at in range(0, len(body), 65_536)])), 413)
    assert asker.http.get("/user/getInfo/").status_code == 200


@once
def test_a_client_that_sends_all_of_a_large_body_before_it_reads_gets_the_413(asker: User) -> None:
    where = urlsplit(asker.server.address)
    head = (
        f"POST /chat/createConversation/ HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {asker.access}\r\n"
    )
    for size in (3 * 2**20, 32 * 2**20):
        length = f"Content-Length: {size}\r\n\r\n".encode() + b"x" * size
        chunk = b"10000\r\n%b\r\n" % (b"x" * 65_536)
        chunked = b"Transfer-Encoding: chunked\r\n\r\n" + chunk * (size // 65_536) + b"0\r\n\r\n"
        for rest in (length, chunked):
            with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
                connection.sendall(head.encode() + rest)
                received = b""
                while b'"status":413' not in received:
                    more = connection.recv(65_536)
                    assert more, received
                    received += more
            assert received.startswith(b"HTTP/1.1 413 ")
            assert b"application/problem+json" in received


# -- Queries -----------------------------------------------------------------------------------------------------------

NUMBERS = ["", "x", "1.5", "1e400", "nan", "0x1", "1_0", "1,2", "%00", "1%00", "%ff", "\u0661", "' OR 1=1 --", "null"]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("path", [each.path for each in OPERATIONS.values() if "conversation_id" in each.query])
def test_a_conversation_id_that_is_no_number_is_named(asker: User, path: str) -> None:
    optional = ("getToolCalls", "getSequences", "getRetention")  # they can do without
    if path not in [OPERATIONS[name].path for name in optional]:
        assert named(asker.http.get(path)) == {"conversation_id"}
        assert named(asker.http.get(path, params={"id": 1})) == {"conversation_id"}
    for text in NUMBERS:
        refused = asker.http.get(f"{path}?conversation_id={text}")
        assert refused.status_code == 400, text
        assert named(refused) == {"conversation_id"}
    for number in (0, -1, 2**63 - 1, 2**63, -(2**64), "9" * 400, "9" * 5000):
        problem(asker.http.get(path, params={"conversation_id": number}), 404)


@pytest.mark.usefixtures("unchanged")
@once
def test_a_query_with_several_and_strange_parameters_is_answered_in_order(asker: User) -> None:
    conversation = asker.http.get("/chat/getConversations/").json()[0]["id"]
    path = f"/chat/getConversation/?conversation_id={conversation}"
    for more in ("&x=1", "&x", "&&", "&=", "&%ff=%ff", "&" + "a=1&" * 500, f"&conversation_id={conversation}"):
        assert asker.http.get(path + more).status_code == 200, more


def test_an_offset_that_is_none_is_named(asker: User) -> None:
    conversation = asker.begin()
    asker.ask(conversation)
    path = f"/chat/followAnswer/?conversation_id={conversation}"
    for offset in ("x", "-1", "30", "1.5", "9" * 30, str(2**63)):
        assert named(asker.http.get(f"{path}&offset={offset}")) == {"offset"}, offset
    for last in ("x", "-1", "²", "30", "9" * 400):
        refused = asker.http.get(path, headers={b"Last-Event-ID": last.encode()})
        assert named(refused) == {"Last-Event-ID"}, last


# -- HTTP --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/user/", "/chat/getInfo/", "/user/getinfo/", "/user/getInfo/1", "/../etc/passwd", "/%00", "/%ff", "/health"],
)
@once
def test_an_unknown_path_is_404(asker: User, path: str) -> None:
    for method in ("GET", "POST"):
        problem(asker.http.request(method, path), 404)


@pytest.mark.usefixtures("unchanged")
@once
def test_another_method_is_405_and_says_which_are_allowed(asker: User) -> None:
    for operation in OPERATIONS.values():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - {operation.method}:
            refused = asker.http.request(method, operation.path)
            problem(refused, 405)
            assert operation.method in {each.strip() for each in refused.headers["allow"].split(",")}


@pytest.mark.parametrize(
    "request_line",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /user/getInfo/ HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
        b"POST /user/auth/ HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST /user/auth/ HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /user/auth/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
@once
def test_what_is_no_http_gets_400_and_the_server_goes_on(asker: User, request_line: bytes) -> None:
    where = urlsplit(asker.server.address)
    with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
        connection.sendall(request_line)
        connection.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert received.startswith(b"HTTP/1.1 400 ") or received == b""
    assert asker.http.get("/user/getInfo/").status_code == 200


@once
def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error_of_the_servers(asker: User) -> None:
    before = asker.server.log.count('"level": "error"')
    for number, path in enumerate(FIELDS):
        headers = {"Content-Length": "1000", "X-Request-ID": f"left-{number}."}
        asker.wire(path, {"title": "T"}, **headers).close()
        until(lambda name=f'"request_id": "left-{number}."': name in asker.server.log)  # type: ignore[misc]
    assert asker.http.get("/user/getInfo/").status_code == 200
    assert asker.server.log.count('"level": "error"') == before
