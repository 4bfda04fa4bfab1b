"""GET /metrics of a real server with two workers: what it counts, what it never says, and that it outlives workers."""

import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.integration.answers import send
from tests.integration.conftest import NewDatabase, once, server_on, settings_for
from tests.integration.scripted_provider import ScriptedProvider, gated
from tests.integration.servers import KEY, Server, User, baio, until

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "baio.json"


@pytest.fixture(scope="module")
def server(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with two workers and metrics."""
    folder, url = tmp_path_factory.mktemp("metrics"), new_database.prepared()
    with server_on(folder, url, provider, "--workers", "2", BAIO_METRICS="127.0.0.1:0") as running:
        yield running


def address(server: Server) -> str:
    found = re.search(r"metrics +(http://\S+)", server.log)
    assert found is not None
    return found[1]


def scrape(server: Server) -> str:
    answered = httpx2.get(address(server), timeout=60, trust_env=False, verify=False)
    assert answered.status_code == 200
    return answered.text


def shown(server: Server) -> dict[str, float]:
    """Every series, and its value."""
    return {name: float(value) for name, value in re.findall(r"(?m)^(\w+(?:\{.*\})?) (\S+)$", scrape(server))}


def rises(server: Server, before: dict[str, float], **by: float) -> None:
    """Wait until a series of each of these metrics has risen by so much; several of one metric are added up."""

    def total(series: dict[str, float], name: str) -> float:
        return sum(value for each, value in series.items() if each.partition("{")[0] == name)

    def risen() -> bool:
        after = shown(server)
        return all(total(after, name) - total(before, name) >= amount for name, amount in by.items())

    until(risen)


def test_a_question_is_counted_by_route_provider_and_model_and_watched_while_it_is_answered(
    server: Server, asker: User, provider: ScriptedProvider, gate: threading.Event
) -> None:
    before = shown(server)
    provider.script(gated(gate, ("A codon is ",), ("three nucleotides.",)))
    with send(asker, asker.begin()) as wire:
        assert wire.chunk()
        until(lambda: shown(server)["baio_running_answers"] == shown(server)["baio_open_streams"] == 1)
        rises(server, before, baio_checkpoint_seconds_count=1)
        gate.set()
        wire.chunks()
    rises(server, before, baio_answers_total=1)
    until(lambda: shown(server)["baio_running_answers"] == shown(server)["baio_open_streams"] == 0)
    expected = (
        'baio_http_requests_total{method="POST",route="/chat/sendMessage",status="200"}',
        'baio_http_response_start_seconds_count{route="/chat/sendMessage"}',
        'baio_answers_total{provider="OpenAI",state="complete"}',
        'baio_answer_first_text_seconds_count{provider="OpenAI"}',
        'baio_answer_seconds_count{provider="OpenAI"}',
        'baio_answer_tokens_total{direction="in",model="gpt-4o-mini",provider="OpenAI"}',
        'baio_answer_tokens_total{direction="out",model="gpt-4o-mini",provider="OpenAI"}',
        'baio_transaction_seconds_count{kind="read"}',
        'baio_transaction_seconds_count{kind="write"}',
    )
    until(lambda: not [each for each in expected if shown(server).get(each, 0) <= before.get(each, 0)])


def test_sign_ins_and_tools_are_counted(server: Server, user: User) -> None:
    before = shown(server)
    user.sign_in()
    for sequence in ("ACGT", "no sequence"):
        user.http.post("/chat/runTool/", json={"tool": "gc_content", "arguments": {"sequence": sequence}})
    user.http.post("/chat/runTool/", json={"tool": "no_such_tool", "arguments": {}})
    rises(server, before, baio_password_hash_seconds_count=1, baio_tool_calls_total=2)
    after = shown(server)
    assert after["baio_tool_process_starts_total"] >= 1
    called = {name for name, value in after.items() if "baio_tool_calls_total" in name and value}
    assert called == {f'baio_tool_calls_total{{state="{state}",tool="gc_content"}}' for state in ("done", "refused")}
    assert after["baio_tool_processes"] >= 1
    assert after["baio_waiting_passwords"] == 0


def test_no_metric_says_who_asked_or_what(server: Server, asker: User) -> None:
    before, secret = shown(server), "kinesin7hydrolase"
    conversation = asker.begin(secret)
    asker.ask(conversation, f"What is {secret}?")
    with server.client() as client:
        for path in (
            f"/{secret}",
            f"/chat/getConversation/{secret}",
            f"/chat/getConversation/?conversation_id={secret}",
        ):
            client.get(path, headers={"User-Agent": secret, "X-Request-ID": secret})
        client.request(secret.upper(), "/")
        client.post("/user/auth/", json={"username": secret, "password": secret})
    nowhere = 'baio_http_requests_total{method="GET",route="unmatched",status="404"}'
    wrong = 'baio_http_requests_total{method="POST",route="/user/auth",status="400"}'  # no account has such a name
    until(lambda: shown(server).get(nowhere, 0) >= before.get(nowhere, 0) + 2)
    until(lambda: shown(server).get(wrong, 0) > before.get(wrong, 0))
    rises(server, before, baio_answers_total=1)
    text = scrape(server)
    for private in (secret, secret.upper(), asker.account["username"], asker.account["email"], KEY, "127.0.0.1"):
        assert private not in text
    named = set(re.findall(r'route="([^"]*)"', text))
    assert named <= {"unmatched", *(re.sub(r"/$", "", each) or "/" for each in paths_of(server))}


def paths_of(server: Server) -> list[str]:
    with server.client() as client:
        return ["/health/ready", "/health/live", *client.get("/docs/openapi.json").json()["paths"]]


def test_a_killed_worker_takes_only_what_went_up_and_down_with_it(server: Server, user: User) -> None:
    user.http.get("/user/getInfo/")
    workers = server.workers()
    until(lambda: shown(server)["baio_workers"] == 2)
    before = shown(server)
    os.kill(workers[0].pid, signal.SIGKILL)
    until(lambda: shown(server)["baio_workers"] == 1)
    until(lambda: shown(server)["baio_workers"] == 2)  # its successor reports
    after = shown(server)
    for series, value in before.items():
        if re.match(r"\w+_(total|count|sum|bucket)\b", series):
            assert after[series] >= value, series
    asked = 'baio_http_requests_total{method="GET",route="/user/getTwoFactor",status="200"}'
    for _ in range(4):
        assert user.http.get("/user/getTwoFactor/").status_code == 200
    until(lambda: shown(server).get(asked, 0) - before.get(asked, 0) == 4)  # by both workers, each once


@once
def test_there_are_metrics_at_one_address_only_and_nothing_else_there(server: Server) -> None:
    with server.client() as client:
        assert client.get("/metrics").status_code == 404
    there = httpx2.Client(base_url=address(server).removesuffix("/metrics"), trust_env=False, verify=False, timeout=60)
    with there:
        for path, status in (("/", 404), ("/metrics/x", 404), ("/metrics?name[]=up", 200), ("//metrics", 404)):
            assert there.get(path).status_code == status, path
        assert there.post("/metrics").status_code == 501
        head = there.head("/metrics")
        assert (head.status_code, head.content) == (200, b"")
        accepted = there.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
        assert accepted.headers["content-type"].startswith("application/openmetrics-text")
        assert accepted.text.endswith("# EOF\n")


@once
def test_clients_that_send_nothing_do_not_keep_others_from_the_metrics(server: Server) -> None:
    host, port = address(server).removeprefix("http://").removesuffix("/metrics").split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(8)]
    try:
        until(lambda: "baio_workers 2.0" in scrape(server))
    finally:
        for each in silent:
            each.close()


@once
def test_every_metric_of_the_dashboard_is_one_that_the_server_shows(server: Server, asker: User) -> None:
    asker.ask(asker.begin())
    asker.http.post("/chat/runTool/", json={"tool": "gc_content", "arguments": {"sequence": "ACGT"}})
    until(lambda: "baio_answer_tokens_total{" in scrape(server) and "baio_tool_calls_total{" in scrape(server))
    text = scrape(server)
    known = set(re.findall(r"(?m)^(\w+)", text))
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert len(expressions) > 10
    named = {name for each in expressions for name in re.findall(r"\bbaio_\w+", each)}
    assert named <= known
    labels = {
        name for each in expressions for group in re.findall(r"by \(([^)]*)\)", each) for name in group.split(", ")
    }
    assert labels <= {"le", *re.findall(r"[{,](\w+)=", text)}
    described = set(re.findall(r"(?m)^# TYPE (\w+)", text))
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in named} >= described - {"baio_info"}


@once
def test_an_address_that_is_taken_refuses_the_start(server: Server, provider: ScriptedProvider, tmp_path: Path) -> None:
    taken = address(server).removeprefix("http://").removesuffix("/metrics")
    environment = settings_for(server.database, provider) | {"BAIO_METRICS": taken, "BAIO_DATA_DIR": str(tmp_path)}
    done = baio(environment, "runserver", "--port", "0")
    assert done.returncode == 2
    assert f"BAIO_METRICS: can't listen on {taken}" in done.stderr
