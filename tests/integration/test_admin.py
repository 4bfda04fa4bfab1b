"""What administrators do over HTTP, and what nobody else does."""

import json
import re
import typing
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
import msgspec
import psutil
import pytest
from sqlalchemy import delete, insert

from baio_adapters.sql.tables import audit, metadata
from baio_domain.entities import Act
from tests.integration.operations import OPERATIONS
from tests.integration.scripted_provider import ScriptedProvider, answer
from tests.integration.servers import PASSWORD, Server, User, Wire, named, problem
from tests.integration.test_administration import administer

pytestmark = pytest.mark.two_workers  # what one of them has done, the other must know with the very next request

ADMIN = [each for each in OPERATIONS.values() if each.path.startswith("/admin/")]
MIB = 2**20


@pytest.fixture(scope="module")
def admin(server: Server) -> Iterator[User]:
    """An administrator."""
    someone = User(server)
    someone.become_administrator()
    yield someone
    someone.http.close()


def lines(response: httpx2.Response) -> list[dict[str, Any]]:
    """The lines of a response."""
    assert (response.status_code, response.headers["content-type"]) == (200, "application/x-ndjson")
    assert response.text.endswith("\n") or not response.text
    return [json.loads(line) for line in response.text.splitlines()]


def audit_of(admin: User, **chosen: Any) -> list[dict[str, Any]]:
    """Entries of the audit log."""
    return lines(admin.http.get("/admin/getAudit/", params=chosen))


def last_entry(admin: User) -> int:
    """The id of the newest entry."""
    return int(audit_of(admin)[-1]["id"])


def kind(response: httpx2.Response, status: int = 403) -> str:
    """The type of a refusal."""
    return str(problem(response, status)["type"]).removeprefix("urn:baio:error:")


def refusals(user: User) -> set[str]:
    """What all operations of administrators are refused with."""
    bodies = {"disableUser": {"username": "kari"}, "enableUser": {"username": "kari"}}
    return {kind(each.send(user.http, bodies.get(each.name, {}))) for each in ADMIN}


# -- Who ---------------------------------------------------------------------------------------------------------------


def test_only_a_marked_account_with_a_second_factor_gets_in_and_from_its_next_request_on_no_more(user: User) -> None:
    name = user.account["username"]
    assert refusals(user) == {"not-administrator"}
    granted = administer(user, "grantadmin", name.upper())
    assert (granted.returncode, granted.stdout) == (0, f"{name} is an administrator.\n")
    assert "two-factor authentication" in granted.stderr
    assert refusals(user) == {"second-factor-missing"}
    detail = problem(user.http.get("/admin/getUsers/"), 403)["detail"]
    assert "enable it, then sign in again" in detail
    codes = user.enable_two_factor()
    assert refusals(user) == {"signed-in-without-code"}
    user.sign_in(code=codes[0])
    assert user.http.get("/admin/getUsers/").status_code == 200
    assert administer(user, "grantadmin", name).stderr == ""
    assert f"{name}  <{user.account['email']}>  administrator\n" in administer(user, "listusers").stdout
    revoked = administer(user, "revokeadmin", name)
    assert (revoked.returncode, revoked.stdout) == (0, f"{name} is not an administrator.\n")
    assert refusals(user) == {"not-administrator"}
    shown = administer(user, "audit", "--user", name).stdout
    assert re.findall(r"  (administrator-\w+)  ", shown) == ["administrator-granted", "administrator-revoked"]
    assert f"{user.account['email']}>\n" in administer(user, "listusers").stdout


@pytest.mark.parametrize("command", ["grantadmin", "revokeadmin"])
def test_only_an_account_that_is_there_is_marked(user: User, command: str) -> None:
    refused = administer(user, command, "nobody")
    assert (refused.returncode, refused.stderr) == (2, "baio: username: there is no such account\n")


def test_the_export_says_whether_the_account_is_an_administrators(admin: User, user: User) -> None:
    marks = [each.http.get("/user/exportData/").json()["account"]["administrator"] for each in (admin, user)]
    assert marks == [True, False]


def test_a_session_that_has_ended_administers_nothing(server: Server) -> None:
    with closing((gone := User(server)).http):
        gone.become_administrator()
        assert gone.http.get("/admin/getUsers/").status_code == 200
        assert gone.http.post("/user/logout/", json={"refresh": gone.refresh}).status_code == 200
        assert {each.send(gone.http, {"username": "kari"}).status_code for each in ADMIN} == {401}


# -- Accounts ----------------------------------------------------------------------------------------------------------


def test_an_account_is_disabled_and_enabled_and_the_audit_says_by_whom(admin: User, user: User) -> None:
    name, before = user.account["username"], last_entry(admin)
    admin.http.headers["X-Request-ID"] = "the-request"
    disabled = admin.http.post("/admin/disableUser/", json={"username": name.upper()})
    del admin.http.headers["X-Request-ID"]
    assert disabled.status_code == 200
    assert list(disabled.json()) == [
        "id", "username", "email", "first_name", "last_name", "created_at", "disabled_at", "administrator",
        "two_factor",
    ]  # fmt: skip
    assert disabled.json()["disabled_at"]
    problem(user.http.get("/user/getInfo/"), 401)
    problem(user.http.post("/user/refresh/", json={"refresh": user.refresh}), 401)
    enabled = admin.http.post("/admin/enableUser/", json={"username": name})
    assert enabled.json() == {**disabled.json(), "disabled_at": None}
    problem(user.http.get("/user/getInfo/"), 401)  # its sessions have ended, for good
    user.sign_in()
    off, on, _ = audit_of(admin, username=name, after=before)
    assert {key: off[key] for key in ("act", "username", "operator", "operator_id", "address", "request_id")} == {
        "act": "account-disabled",
        "username": name,
        "operator": admin.account["username"],
        "operator_id": id_of(admin),
        "address": admin.http.headers["X-Forwarded-For"],
        "request_id": "the-request",
    }
    assert on["act"] == "account-enabled"
    by = f"administrator {admin.account['username']} {admin.http.headers['X-Forwarded-For']}"
    assert by in administer(admin, "audit", "--user", name).stdout
    seen = [each for each in user.http.get("/user/exportData/").json()["audit"] if each["operator"]]
    assert {each["address"] for each in seen} == {""}  # where the administrator was is not the user's
    for path in ("/admin/disableUser/", "/admin/enableUser/"):
        assert named(admin.http.post(path, json={"username": "nobody"})) == {"username"}


def test_nobody_disables_the_own_account(admin: User) -> None:
    for spelling in (admin.account["username"], f" {admin.account['username'].upper()}\u200b"):
        assert kind(admin.http.post("/admin/disableUser/", json={"username": spelling}), 409) == "own-account"
    assert admin.http.get("/admin/getUsers/").status_code == 200


def test_of_two_administrators_who_disable_each_other_at_once_one_remains(server: Server) -> None:
    for _ in range(3):
        pair = User(server), User(server)
        for each in pair:
            each.become_administrator()
        with ThreadPoolExecutor(2) as threads:
            done = list(threads.map(disable, pair, reversed(pair)))
        assert sorted(each.status_code for each in done) == [200, 401]
        for each in pair:
            each.http.close()


def disable(by: User, user: User) -> httpx2.Response:
    """Let one disable another."""
    return by.http.post("/admin/disableUser/", json={"username": user.account["username"]})


def id_of(user: User) -> int:
    """The account's id."""
    return int(user.http.get("/user/exportData/").json()["account"]["id"])


def test_all_accounts_are_listed_once_while_others_come(admin: User, user: User, other: User, server: Server) -> None:
    """Those since this test has begun: the server has many more."""
    found: list[str] = []
    after: int | None = id_of(user) - 1
    while after is not None:
        page = admin.http.get("/admin/getUsers/", params={"after": after, "limit": 1}).json()
        found += [each["username"] for each in page["users"]]
        after = page["next"]
        if len(found) == 1:
            with closing((third := User(server)).http):
                pass
    assert found == [each.account["username"] for each in (user, other, third)]
    whole = admin.http.get("/admin/getUsers/", params={"after": id_of(user) - 1}).json()
    assert [each["username"] for each in whole["users"]] == found
    assert whole["next"] is None


def test_accounts_are_found_by_how_username_or_address_begins(admin: User, user: User) -> None:
    name, after = user.account["username"], id_of(user) - 1

    def found(query: str) -> list[str]:
        page = admin.http.get("/admin/getUsers/", params={"query": query, "after": after}).json()
        return [each["username"] for each in page["users"]]

    for query in ("", "olenor", name, name.upper(), user.account["email"]):
        assert found(query) == [name], query
    for query in ("%", "_lenor", "lenor", "no such name"):
        assert found(query) == [], query
    wrong: list[tuple[str, Any]] = [
        ("query", "x" * 255), ("query", "a\0b"), ("after", -1), ("limit", 0), ("limit", 1001),
    ]  # fmt: skip
    for field, value in wrong:
        assert named(admin.http.get("/admin/getUsers/", params={field: value})) == {field}


def test_an_invitation_is_told_once(admin: User) -> None:
    before = last_entry(admin)
    made = admin.http.post("/admin/inviteUser/", json={"email": " Kari@Example.no "})
    assert made.status_code == 201
    assert list(made.json()) == ["invitation", "email", "until"]
    code = made.json()["invitation"]
    assert re.fullmatch(r"[0-9a-f]{64}", code)
    assert made.json()["email"] == "Kari@Example.no"
    assert datetime.fromisoformat(made.json()["until"]) > datetime.now(UTC) + timedelta(days=6)
    assert admin.http.post("/admin/inviteUser/").json()["email"] is None
    entries = audit_of(admin, act="invited", after=before)
    assert [(each["operator"], each["user_id"]) for each in entries] == [(admin.account["username"], None)] * 2
    assert code not in json.dumps(audit_of(admin))
    assert code not in admin.server.log
    for wrong in ("", "kari", "kari@exam\nple.no", "a" * 300):
        assert named(admin.http.post("/admin/inviteUser/", json={"email": wrong})) == {"email"}


# -- The audit log -----------------------------------------------------------------------------------------------------


def test_the_audit_is_read_on_from_an_entry_and_chosen(admin: User, user: User) -> None:
    name = user.account["username"]
    everything = audit_of(admin)
    assert [each["id"] for each in everything] == sorted({each["id"] for each in everything})
    after = everything[-3]["id"]
    assert audit_of(admin, after=after)[:2] == everything[-2:]
    assert [each["act"] for each in audit_of(admin, username=name.upper())] == ["registered", "signed-in"]
    assert {each["act"] for each in audit_of(admin, act="registered")} == {"registered"}
    today = datetime.now(UTC).date()
    yesterday, tomorrow = (str(today + timedelta(days)) for days in (-1, 1))
    assert audit_of(admin, username=name, **{"from": yesterday, "to": tomorrow})
    assert audit_of(admin, username=name, **{"from": tomorrow}) == audit_of(admin, username=name, to=yesterday) == []
    for wrong in ({"username": "nobody"}, {"username": "\0"}, {"act": "x"}, {"after": "x"}, {"after": -1}):
        assert named(admin.http.get("/admin/getAudit/", params=wrong)) == set(wrong)
    wrong_days = {"from": tomorrow, "to": yesterday}
    assert named(admin.http.get("/admin/getAudit/", params=wrong_days)) == {"from"}


@pytest.fixture
def long_audit(server: Server) -> Iterator[int]:
    """Many more entries, which are gone afterwards; how many."""
    row = {
        "at": datetime.now(UTC), "act": Act.SIGN_IN_FAILED.value, "operator": "", "address": "192.0.2.7",
        "request_id": "of-long-audit", "note": "x" * 1_000,
    }  # fmt: skip
    with server.engine() as engine:
        with engine.begin() as connection:
            connection.execute(insert(audit), [row] * 20_000)
        yield 20_000
        with engine.begin() as connection:
            connection.execute(delete(audit).where(audit.c.request_id == row["request_id"]))


def begun(user: User, path: str) -> Wire:
    """A long response of which one chunk is read."""
    wire = Wire(user.server, "GET", path, headers={"Authorization": f"Bearer {user.access}"})
    assert wire.chunk()
    return wire


def test_a_long_audit_costs_bounded_memory_and_is_cut_when_the_mark_is_taken_away(
    server: Server, long_audit: int, record_property: Callable[[str, object], None]
) -> None:
    with closing((reader := User(server)).http):
        reader.become_administrator()
        processes = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
        before = sum(each.memory_info().rss for each in processes)
        with ExitStack() as stack:
            wires = [stack.enter_context(begun(reader, "/admin/getAudit/")) for _ in range(12)]
            grown = (sum(each.memory_info().rss for each in processes) - before) / MIB
            record_property("MiB by which the servers have grown", round(grown, 1))
            assert grown < 100
            first, properly = wires[0].chunks()
            assert properly
            assert b"".join(first).count(b"\n") > long_audit - 1_024
            assert administer(reader, "revokeadmin", reader.account["username"]).returncode == 0
            rest, properly = wires[1].chunks()
            assert not properly
            assert b"".join(rest).count(b"\n") < long_audit


# -- Usage -------------------------------------------------------------------------------------------------------------


def test_the_usage_of_all_accounts_is_the_sum_of_what_each_of_them_sees(
    admin: User, user: User, other: User, provider: ScriptedProvider
) -> None:
    for asker, models in ((user, ("gpt-4o", "gpt-4o-mini")), (other, ("gpt-4o",))):
        asker.add_key()
        for model in models:
            provider.script(answer("A codon."))
            assert asker.ask(asker.begin(), model=model).status_code == 200
    found = admin.http.get("/admin/getUsage/").json()
    assert list(found) == ["days", "totals", "unpriced_answers"]
    for asker in (user, other):
        theirs = asker.http.get("/chat/getUsage/", params={"money": "true"}).json()
        name = asker.account["username"]
        rows = [dict(each) for each in found["days"] if each["username"] == name]
        assert [{key: row[key] for key in row if key != "username"} for row in rows] == theirs["days"]
        alone = admin.http.get("/admin/getUsage/", params={"username": name.upper()}).json()
        assert alone == {**theirs, "days": rows}
    sums: dict[str, Decimal] = {}
    for each in found["days"]:
        if each["cost"]:
            currency = each["cost"]["currency"]
            sums[currency] = sums.get(currency, Decimal(0)) + Decimal(each["cost"]["amount"])
    assert {each["currency"]: Decimal(each["amount"]) for each in found["totals"]} == sums
    assert found["unpriced_answers"] == sum(each["answers"] for each in found["days"] if not each["cost"])
    assert sums
    nothing = admin.http.get("/admin/getUsage/", params={"from": "2001-01-01", "to": "2001-01-31"}).json()
    assert nothing == {"days": [], "totals": [], "unpriced_answers": 0}
    for wrong in ({"from": "2026-02-01", "to": "2026-01-31"}, {"username": "nobody"}):
        assert named(admin.http.get("/admin/getUsage/", params=wrong)) == {next(iter(wrong))}


# -- What nobody else may read -----------------------------------------------------------------------------------------

OF_ACCOUNTS = {"users", "second_factors", "invitations", "audit", "usage", "providers"}
"""The tables about accounts and not about what users ask, are answered, or store."""

NAMED_OTHERWISE = {
    "users", "next", "two_factor",  # a list, its cursor, and whether second_factors.enabled_at is set
    "invitation", "days", "date", "provider", "cost", "totals", "unpriced_answers", "amount", "currency",
}  # fmt: skip


def fields_of(kind: Any) -> Iterator[str]:  # noqa: ANN401 - any annotation
    """The names of all fields of a Struct, and of those in it."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for field in msgspec.structs.fields(kind):
            yield field.name
            yield from fields_of(field.type)
    for each in typing.get_args(kind):
        yield from fields_of(each)


def test_no_response_to_an_administrator_has_a_field_of_what_users_ask_store_or_keep_secret() -> None:
    from baio_api.routes.admin import admin_router

    async def nothing(_: object) -> None:
        """Stand for the guard."""

    handlers = [handler for route in admin_router(nothing).routes for handler in getattr(route, "route_handlers", [])]
    responses = [each.parsed_return_field.annotation for each in handlers if each.operation_id]
    assert len(responses) == len(ADMIN)
    shown = {name for each in responses for name in fields_of(each)}
    known = {column.name for table in metadata.sorted_tables if table.name in OF_ACCOUNTS for column in table.columns}
    foreign = {
        column.name for table in metadata.sorted_tables if table.name not in OF_ACCOUNTS for column in table.columns
    }
    assert shown - known == NAMED_OTHERWISE - known
    assert NAMED_OTHERWISE & foreign == set()
    assert shown & (foreign - known) == set()
    assert shown & {"password_hash", "sealed", "digest", "username_folded", "email_folded"} == set()
    assert {"title", "content", "words", "text", "letters", "nickname", "arguments", "result"} <= foreign - shown


def test_nothing_of_what_a_user_has_written_or_stored_reaches_an_administrator(
    admin: User, user: User, provider: ScriptedProvider
) -> None:
    provider.script(answer("Canary of the answer."))
    user.add_key("canary nickname", "sk-canary-key-0123456789")
    conversation = user.begin("canary title")
    post = user.http.post
    asked = user.question(conversation, "canary question?", apikey_nickname="canary nickname")
    assert post("/chat/sendMessage/", json=asked).status_code == 200
    tags = {"conversation_id": conversation, "tags": ["canary tag"]}
    assert post("/chat/tagConversation/", json=tags).status_code == 200
    settings = {"conversation_id": conversation, "system": "canary system"}
    assert post("/chat/changeSettings/", json=settings).status_code == 200
    assert post("/chat/createPreset/", json={"name": "canary preset"}).status_code == 201
    sequence = {"content": ">canary sequence\nACGTACGTTTTACGT"}
    assert post("/chat/addSequences/", json=sequence).status_code == 201
    computed = {"tool": "gc_content", "arguments": {"sequence": "GGGTTTAAACCCGGGATATAT"}}
    assert post("/chat/runTool/", json=computed).status_code == 201
    assert post("/user/auth/", json={"username": "canary nobody", "password": "canary"}).status_code == 400
    name = {"username": user.account["username"]}
    seen = "".join(each.send(admin.http, name if "username" in each.fields else {}).text for each in ADMIN)
    seen += admin.http.get("/admin/getAudit/").text + admin.http.get("/admin/getUsage/").text
    assert user.account["username"] in seen
    for canary in ("canary", "Canary", "GGGTTTAAACCC", "ACGTACGT", PASSWORD, user.access, user.refresh):
        assert canary not in seen
