"""The deployed web client, which must work untouched: what it sends, from where, and what it reads."""

import codecs
import threading
from collections.abc import Iterator

import httpx2
import pytest

from tests.integration.scripted_provider import ScriptedProvider, answer, cut_after, gated, refuse
from tests.integration.servers import PASSWORD, Server, problem, registration

ORIGIN = "http://localhost:3000"
ELSEWHERE = "https://elsewhere.example.org"
POSTED = [
    "/user/register/",
    "/user/auth/",
    "/user/refresh/",
    "/user/validateToken/",
    "/user/updateInfo/",
    "/chat/createConversation/",
    "/chat/renameConversation/",
    "/chat/deleteConversation/",
    "/chat/addAPIKey/",
    "/chat/sendMessage/",
]
GOT = [
    "/user/getInfo/",
    "/chat/getConversation/",
    "/chat/getConversations/",
    "/chat/getApiKeys/",
    "/chat/getLLMProviders/",
]


class Browser:
    """A browser with the page from an origin: it asks before it sends, and reads only what it may."""

    def __init__(self, server: Server, origin: str = ORIGIN) -> None:
        self.http = server.client()
        self.origin = origin
        self.access = ""
        self.refresh = ""

    def preflight(self, method: str, path: str) -> httpx2.Response:
        """Ask whether such a request may be sent."""
        return self.http.options(
            path,
            headers={
                "Origin": self.origin,
                "Access-Control-Request-Method": method,
                "Access-Control-Request-Headers": "authorization,content-type",
            },
        )

    def headers(self) -> dict[str, str]:
        """What the page sends with every call."""
        token = {"Authorization": f"Bearer {self.access}"} if self.access else {}
        return {"Origin": self.origin, "Content-Type": "application/json", **token}

    def fetch(self, method: str, path: str, body: object = None) -> httpx2.Response:
        """Ask, send, and check that the page may read the answer; on 401 refresh and send once more."""
        assert self.preflight(method, path).status_code == 204
        response = self.http.request(method, path, headers=self.headers(), json=body)
        assert response.headers["access-control-allow-origin"] == self.origin
        if response.status_code == 401 and path != "/user/refresh/":
            renewed = self.fetch("POST", "/user/refresh/", {"refresh": self.refresh})
            assert renewed.status_code == 200
            self.access = renewed.json()["access"]
            response = self.http.request(method, path, headers=self.headers(), json=body)
        return response


@pytest.fixture
def browser(server: Server) -> Iterator[Browser]:
    """A browser with the client's page."""
    opened = Browser(server)
    yield opened
    opened.http.close()


@pytest.fixture
def signed_in(browser: Browser) -> Browser:
    """A browser with a user who has an account."""
    account = registration()
    assert browser.fetch("POST", "/user/register/", account).status_code == 201
    tokens = browser.fetch("POST", "/user/auth/", {"username": account["username"], "password": PASSWORD}).json()
    browser.access, browser.refresh = tokens["access"], tokens["refresh"]
    return browser


def test_from_the_first_page_to_the_first_answer(signed_in: Browser, provider: ScriptedProvider) -> None:
    gate = threading.Event()
    provider.script(gated(gate, ("A codon 🧬 is ",), ("three nucleotides.",)))
    fetch = signed_in.fetch
    assert fetch("POST", "/user/validateToken/", {"token": signed_in.access}).json() == {"valid": True}
    added = fetch("POST", "/chat/addAPIKey/", {"name": "My key", "apiProvider": "1", "apiKey": "sk-0123456789"})
    assert added.json()["nickname"] == "My key"
    key = fetch("GET", "/chat/getApiKeys/").json()[0]
    model = key["provider"]["models"][1]["name"]
    conversation = fetch("POST", "/chat/createConversation/", {"title": "New Research Topic"}).json()
    assert [message["role"] for message in conversation["messages"]] == ["system"]
    body = {
        "conversation_id": conversation["id"],
        "apikey_nickname": key["nickname"],
        "content": "What is a codon?",
        "model": model,
    }
    assert signed_in.preflight("POST", "/chat/sendMessage/").status_code == 204
    read = ""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with signed_in.http.stream("POST", "/chat/sendMessage/", headers=signed_in.headers(), json=body) as response:
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == ORIGIN
        for part in response.iter_raw():
            read += decoder.decode(part)
            assert not gate.is_set() or read != "A codon 🧬 is "
            gate.set()
    assert read == "A codon 🧬 is three nucleotides."
    listed = fetch("GET", "/chat/getConversations/").json()
    assert [each["title"] for each in listed] == ["New Research Topic"]
    shown = fetch("GET", f"/chat/getConversation/?conversation_id={listed[0]['id']}").json()
    assert [message["content"] for message in shown["messages"]][1:] == ["What is a codon?", read]


def test_an_expired_access_token_is_refreshed_once_and_the_request_sent_again(signed_in: Browser) -> None:
    access, refresh = signed_in.access, signed_in.refresh
    signed_in.access = f"{access[:-4]}AAAA"
    assert signed_in.fetch("GET", "/user/getInfo/").status_code == 200
    assert signed_in.access not in (access, f"{access[:-4]}AAAA")
    assert signed_in.refresh == refresh
    assert signed_in.fetch("POST", "/user/validateToken/", {"token": signed_in.access}).json() == {"valid": True}


def test_a_token_that_does_not_hold_signs_the_user_out_and_is_not_taken_for_an_expired_one(browser: Browser) -> None:
    verdict = browser.http.post("/user/validateToken/", json={"token": "x"}, headers=browser.headers())
    assert verdict.json()["valid"] is not True
    assert verdict.headers["access-control-allow-origin"] == ORIGIN


def test_what_went_wrong_can_be_shown(signed_in: Browser, provider: ScriptedProvider) -> None:
    failed = signed_in.fetch("POST", "/user/auth/", {"username": "nobody", "password": "nothing at all"})
    assert failed.status_code == 400
    assert failed.json()["detail"]
    registered = signed_in.fetch("POST", "/user/register/", {"username": ""})
    assert (registered.status_code, bool(registered.json()["errors"])) == (400, True)
    signed_in.fetch("POST", "/chat/addAPIKey/", {"name": "My key", "apiProvider": 1, "apiKey": "sk-0123456789"})
    conversation = signed_in.fetch("POST", "/chat/createConversation/", {}).json()["id"]
    provider.script(refuse(401), answer("Yes."))
    question = {"conversation_id": conversation, "apikey_nickname": "My key", "content": "?", "model": "GPT-4o"}
    # Not 401: that would make the client refresh its token and ask, and pay, again.
    refused = signed_in.fetch("POST", "/chat/sendMessage/", question)
    assert refused.status_code == 424
    assert len(provider.requests) == 1
    assert signed_in.fetch("POST", "/chat/sendMessage/", question).text == "Yes."


def test_a_broken_stream_rejects_the_reader(signed_in: Browser, provider: ScriptedProvider) -> None:
    signed_in.fetch("POST", "/chat/addAPIKey/", {"name": "My key", "apiProvider": "1", "apiKey": "sk-0123456789"})
    conversation = signed_in.fetch("POST", "/chat/createConversation/", {}).json()["id"]
    provider.script(cut_after("A codon "))
    question = {"conversation_id": conversation, "apikey_nickname": "My key", "content": "?", "model": "GPT-4o"}
    with signed_in.http.stream("POST", "/chat/sendMessage/", headers=signed_in.headers(), json=question) as response:
        assert response.headers["access-control-allow-origin"] == ORIGIN
        parts = response.iter_raw()
        assert next(parts) == b"A codon "
        with pytest.raises(httpx2.RemoteProtocolError):
            next(parts)


def test_every_call_is_allowed_beforehand_from_the_clients_origin(browser: Browser) -> None:
    for method, paths in (("POST", POSTED), ("GET", GOT)):
        for path in paths:
            allowed = browser.preflight(method, path)
            assert allowed.status_code == 204
            assert allowed.headers["access-control-allow-origin"] == ORIGIN
            assert method in allowed.headers["access-control-allow-methods"]
            headers = {name.strip().lower() for name in allowed.headers["access-control-allow-headers"].split(",")}
            assert {"authorization", "content-type", "idempotency-key", "last-event-id"} <= headers
            assert "Origin" in allowed.headers["vary"]
            assert "access-control-allow-credentials" not in allowed.headers


def test_no_call_is_allowed_from_another_origin(server: Server) -> None:
    for origin in (ELSEWHERE, "null", "http://localhost:3001", f"{ORIGIN}.example.org", "https://localhost:3000"):
        browser = Browser(server, origin)
        for method, path in (("POST", "/chat/sendMessage/"), ("GET", "/user/getInfo/")):
            assert "access-control-allow-origin" not in browser.preflight(method, path).headers
            answered = browser.http.request(method, path, headers=browser.headers())
            assert "access-control-allow-origin" not in answered.headers
        browser.http.close()


def test_a_refused_preflight_is_a_problem(server: Server) -> None:
    with server.client() as http:
        allowed = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
        for changed, named in (
            ({"Origin": ELSEWHERE}, "Origin"),
            ({"Access-Control-Request-Method": "PUT"}, "method"),
            ({"Access-Control-Request-Headers": "authorization, x-unknown"}, "headers"),
            ({"Origin": ELSEWHERE, "Access-Control-Request-Method": "PUT"}, "method, Origin"),
        ):
            for path in ("/chat/sendMessage/", "/nowhere"):
                refused = problem(http.options(path, headers={**allowed, **changed}))
                assert refused["type"] == "urn:baio:error:bad-request"
                assert refused["detail"].endswith(f" {named}.")
        assert http.options("/chat/sendMessage/", headers=allowed).status_code == 204
        assert http.options(
            "/chat/getAnswers/", headers={**allowed, "Access-Control-Request-Method": "HEAD"}
        ).is_success
        assert http.options("/user/auth/").status_code == 204


def test_what_the_client_may_read_is_exposed_on_answers_errors_and_streams(
    signed_in: Browser, provider: ScriptedProvider
) -> None:
    signed_in.fetch("POST", "/chat/addAPIKey/", {"name": "My key", "apiProvider": "1", "apiKey": "sk-0123456789"})
    conversation = signed_in.fetch("POST", "/chat/createConversation/", {}).json()["id"]
    provider.script(answer("Yes."), refuse(429, retry_after=7))
    question = {"conversation_id": conversation, "apikey_nickname": "My key", "content": "?", "model": "GPT-4o"}
    answers = [
        signed_in.fetch("GET", "/user/getInfo/"),
        signed_in.fetch("POST", "/chat/sendMessage/", question),
        signed_in.fetch("POST", "/chat/sendMessage/", question),
        signed_in.fetch("GET", "/chat/getConversation/"),
        signed_in.http.get("/nowhere", headers=signed_in.headers()),
        signed_in.http.put("/user/getInfo/", headers=signed_in.headers()),
        signed_in.http.post("/user/auth/", content=b"x" * 2**21, headers=signed_in.headers()),
        signed_in.http.get("/user/getInfo/", headers={**signed_in.headers(), "Authorization": "Bearer x"}),
    ]
    assert [each.status_code for each in answers] == [200, 200, 429, 400, 404, 405, 413, 401]
    for each in answers:
        assert each.headers["access-control-allow-origin"] == ORIGIN, each.status_code
        exposed = {name.strip().lower() for name in each.headers["access-control-expose-headers"].split(",")}
        assert {"x-answer-id", "x-request-id", "retry-after"} <= exposed
        assert each.headers["x-request-id"]
