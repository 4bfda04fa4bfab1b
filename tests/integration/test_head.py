"""HEAD wherever GET works: the same headers, no body, and nothing that goes on after it."""

import threading

import httpx2
import pytest

from tests.integration.answers import last, send
from tests.integration.operations import OPERATIONS
from tests.integration.scripted_provider import ScriptedProvider, gated, refuse
from tests.integration.servers import User, Wire, problem, until
from tests.integration.test_follow import AFTER, EVENTS, SHOWN, text_of
from tests.integration.test_pages import fill

PAGES = ["/", "/docs", "/docs/openapi.json", "/docs/assets/swagger-ui.css", "/resetPassword", "/nowhere"]
VARYING = {"date", "x-request-id", "transfer-encoding"}


def compared(response: httpx2.Response) -> tuple[int, dict[str, str]]:
    """Status and headers, except those that differ from one response to the next."""
    return response.status_code, {name: text for name, text in response.headers.items() if name not in VARYING}


def head(user: User, path: str, **headers: str) -> Wire:
    """HEAD on a socket of its own."""
    return Wire(user.server, "HEAD", path, headers={"Authorization": f"Bearer {user.access}", **headers})


def test_every_get_has_a_head_with_the_same_headers_and_no_body(asker: User) -> None:
    conversation = asker.begin()
    asker.ask(conversation)
    query = f"?conversation_id={conversation}"
    gets = [each.path for each in OPERATIONS.values() if each.method == "GET"]
    paths = [*PAGES, *gets, *(f"{path}{query}" for path in gets)]
    with asker.server.client() as stranger:
        for http in (asker.http, stranger):
            for path in paths:
                (status, expected), (head_status, found) = compared(http.get(path)), compared(headed := http.head(path))
                if path.startswith("/user/exportData/"):  # it is longer each time, because it tells of each look
                    assert expected.pop("content-length", "0") <= found.pop("content-length", "0")
                assert (head_status, found) == (status, expected), path
                assert headed.content == b""
    for path in ("/health/live", f"/chat/getConversation/{query}", f"/chat/followAnswer/{query}", "/nowhere"):
        with head(asker, path) as wire:
            assert wire.status
            assert wire.rest() == b""


def test_head_is_refused_where_there_is_only_post(asker: User, provider: ScriptedProvider) -> None:
    for each in OPERATIONS.values():
        if each.method == "POST":
            assert asker.http.head(each.path).status_code == 405
    assert provider.requests == []
    problem(asker.http.put("/user/getInfo/"), 405)
    assert "HEAD" in asker.http.put("/user/getInfo/").headers["allow"]
    assert "HEAD" not in asker.http.put("/chat/sendMessage/").headers["allow"]


@pytest.mark.parametrize("shown", [(), (SHOWN,)], ids=["before the first text", "with text"])
@pytest.mark.parametrize("accept", [{}, EVENTS], ids=["text", "events"])
def test_head_does_not_wait_for_a_running_answer_and_does_not_stop_it(
    asker: User, provider: ScriptedProvider, gate: threading.Event, shown: tuple[str, ...], accept: dict[str, str]
) -> None:
    conversation = asker.begin()
    provider.script(gated(gate, shown, AFTER))
    logged = len(asker.server.log)
    with send(asker, conversation) as wire:
        provider.wait_for_requests(1)
        answer_id = last(asker, conversation)["id"]
        # More than a user may read at once: each ends with its headers.
        for _ in range(25):
            with head(asker, f"/chat/followAnswer/?conversation_id={conversation}", **accept) as headed:
                assert headed.status == 200
                assert headed.headers["x-answer-id"] == str(answer_id)
                assert headed.headers["content-type"].startswith(accept.get("Accept", "text/plain"))
                assert headed.rest() == b""
        until(lambda: asker.server.log[logged:].count("/chat/followAnswer") == 25)
        gate.set()
        assert text_of(wire) == "".join((*shown, *AFTER))
    assert "Traceback" not in asker.server.log[logged:]


def test_head_of_a_failed_answer_is_its_error(asker: User, provider: ScriptedProvider) -> None:
    conversation = asker.begin()
    provider.script(refuse(401))
    asker.ask(conversation)
    with head(asker, f"/chat/followAnswer/?conversation_id={conversation}") as headed:
        assert headed.status == 424
        assert headed.rest() == b""


def test_head_of_what_is_long_ends_at_once(asker: User) -> None:
    conversation = asker.begin()
    fill(asker, conversation, *["x" * 500_000] * 20)
    logged = len(asker.server.log)
    for path in (f"/chat/getConversation/?conversation_id={conversation}", "/user/exportData/"):
        with head(asker, path) as headed:
            assert headed.status == 200
            assert "content-length" not in headed.headers
            assert headed.rest() == b""
    until(lambda: asker.server.log[logged:].count('"method": "HEAD"') == 2)
    assert "Traceback" not in asker.server.log[logged:]
