"""A whole installation, from its first command to a restored backup: python manage.py test deploy/test_installation.py.

PostgreSQL, two workers, nginx with the configuration of this folder, an institution's sign-in server, an API token, the
sample notebook, metrics, and a backup that PostgreSQL's tools write and restore. It needs nginx, so the suite does not
run it. Every step prints a line.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx2
import pytest
from benchmarks.stage import postgresql
from tests.integration.answers import paced
from tests.integration.institution_clients import Client
from tests.integration.scripted_provider import ScriptedProvider, answer
from tests.integration.servers import KEY, SECRET, Server, baio, running_server, until
from tests.integration.test_real_institution import PERSON, institution_process, ticket_of
from tests.integration.test_strangers import back_up, restore

PROJECT = Path(__file__).parents[1]
NOTEBOOK = PROJECT / "examples" / "notebook.ipynb"


def step(text: str) -> None:
    """Say what is done next."""
    print(f"  {text}", file=sys.stderr, flush=True)


def free_port() -> int:
    """A port that nobody uses."""
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


def listens(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Whether the process listens by now."""
    assert process.poll() is None, "nginx says above why it ended"
    with closing(socket.socket()) as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def nginx(folder: Path, address: str, port: int) -> Iterator[str]:
    """Run nginx with the configuration of this folder, in front of this address."""
    program = shutil.which("nginx") or pytest.fail("this needs nginx: apt install nginx, on Debian")
    given = (PROJECT / "deploy" / "nginx.conf").read_text("utf-8")
    changed = given.replace("http://baio:8000", address).replace("listen 80", f"listen 127.0.0.1:{port}")
    assert changed.count(str(port)) == changed.count(address) == 1
    file = folder / "nginx.conf"
    file.write_text(f"daemon off;\npid {folder}/nginx.pid;\nerror_log {folder}/nginx.log;\n{changed}")
    with subprocess.Popen([program, "-p", str(folder), "-c", str(file)]) as process:
        try:
            until(lambda: listens(port, process))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


class Behind(Server):
    """A server that is reached through nginx."""

    def __init__(self, server: Server, address: str) -> None:
        super().__init__(server.process, server._log, address, server.settings)  # noqa: SLF001 - the same server


def run_notebook(folder: Path, address: str, token: str) -> None:
    """Run every cell in order, in a process of its own."""
    cells = [each for each in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if each["cell_type"] == "code"]
    script = "\n\n".join("".join(each["source"]) for each in cells)
    environment = {**os.environ, "BAIO_URL": address, "BAIO_TOKEN": token}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_whole_installation_from_its_first_command_to_a_restored_backup(tmp_path: Path) -> None:
    with ExitStack() as stack:
        step("PostgreSQL, a model's provider, and the institution's sign-in server are started")
        url = stack.enter_context(postgresql(tmp_path / "postgresql", "")).replace("+psycopg", "")
        provider = stack.enter_context(ScriptedProvider())
        issuer = stack.enter_context(institution_process(tmp_path))
        port, metrics_port = free_port(), free_port()
        environment = {
            "BAIO_DATABASE_URL": url,
            "BAIO_SECRET_KEY": SECRET,
            "BAIO_OPENAI_BASE_URL": provider.base_url,
            "BAIO_TRUSTED_PROXIES": "127.0.0.1",
            "BAIO_METRICS": f"127.0.0.1:{metrics_port}",
            "BAIO_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "BAIO_CORS_ORIGINS": "http://localhost:3000",
            "BAIO_SIGN_IN_ISSUER": issuer,
            "BAIO_SIGN_IN_CLIENT_ID": "baio",
            "BAIO_SIGN_IN_CLIENT_SECRET": "a+secret/with=signs",
        }
        step("baio migrate, baio load_llm_data, baio runserver --workers 2, nginx")
        for command in ("migrate", "load_llm_data"):
            baio({**environment, "BAIO_DATA_DIR": str(tmp_path)}, command)
        with running_server(tmp_path / "server", environment, "--workers", "2") as inner:
            address = stack.enter_context(nginx(tmp_path, inner.address, port))
            server = Behind(inner, address)
            headers = sign_in(server)
            with server.client(headers=headers) as http:
                conversation = ask(http, provider)
                use_token(http, provider, tmp_path, address)
                watch(metrics_port)
            step("a backup is written while the server runs, and more is asked afterwards")
            back_up(url, tmp_path / "backup")
            with server.client(headers=headers) as http:
                assert http.post("/chat/createConversation/", json={"title": "Too late"}).status_code == 201
        step("the backup is restored, and the server is started again")
        restore(url, tmp_path / "backup")
        with running_server(tmp_path / "again", environment, "--workers", "2") as inner:
            server = Behind(inner, stack.enter_context(nginx(tmp_path / "again", inner.address, free_port())))
            with server.client(headers=sign_in(server)) as http:
                listed = http.get("/chat/getConversations/").json()
                assert [each["id"] for each in listed][-1] == conversation
                assert "Too late" not in {each["title"] for each in listed}
                read = http.get("/chat/getConversation/", params={"conversation_id": conversation}).json()
                assert read["messages"][-1]["content"] == "A codon is three nucleotides."
    step("done")


def sign_in(server: Server) -> dict[str, str]:
    """Sign in with the institution."""
    step("somebody signs in with the institution, in a browser")
    with server.client() as http:
        client = Client(server, http)
        signed_in = client.redeem(ticket_of(client, PERSON["sub"]))
    assert signed_in.status_code == 200, signed_in.text
    return {"Authorization": f"Bearer {signed_in.json()['access']}"}


def ask(http: httpx2.Client, provider: ScriptedProvider) -> int:
    """Store a key, ask, and see the answer arrive piece by piece through nginx; the conversation's id."""
    step("a key is stored, a question is asked, and the answer streams through nginx")
    provider.script(paced("A codon ", "is three ", "nucleotides.", delay=0.2))
    assert http.post("/chat/addAPIKey/", json={"key": KEY, "nickname": "lab"}).status_code == 201
    conversation: int = http.post("/chat/createConversation/", json={"title": "Codons"}).json()["id"]
    body = {"conversation_id": conversation, "apikey_nickname": "lab", "model": "gpt-4o-mini", "content": "A codon?"}
    with http.stream("POST", "/chat/sendMessage/", json=body) as answered:
        assert [*answered.iter_text()] == ["A codon ", "is three ", "nucleotides."]
    return conversation


def use_token(http: httpx2.Client, provider: ScriptedProvider, folder: Path, address: str) -> None:
    """Create an API token, and run the notebook with it."""
    step("an API token is created, and the notebook asks, streams and exports with it")
    provider.script(answer("Three nucleotides."), answer("It is ", "57.1 %."))
    made = http.post("/user/createToken/", json={"name": "notebook", "scopes": ["read", "ask"], "password": ""})
    assert made.status_code == 201, made.text
    run_notebook(folder, address, made.json()["token"])


def watch(port: int) -> None:
    """Scrape the metrics of both workers."""
    step("metrics are scraped")
    metric = re.compile(r'(?m)^baio_answers_total\{.*state="complete".*\} (\S+)$')

    def counted() -> bool:
        text = httpx2.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
        return sum(map(float, metric.findall(text))) == 3

    until(counted)
