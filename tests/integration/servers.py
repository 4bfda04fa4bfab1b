"""The real thing, started for tests: a BAiO server as its own process, and clients that speak to it as users do."""

import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2

SECRET = "kT7xw2Qm9Lf4Zs8Rb1Vc6Nd3Hj5Pg0Ya"
PASSWORD = "oleSterktPassord123"
KEY = "sk-test-0123456789abcdefghijklmnop"

_numbers = itertools.count(1)


class Server:
    """A running server: where it listens, its process, and everything it has printed so far."""

    def __init__(self, process: subprocess.Popen[str], log: Path, address: str) -> None:
        self.process = process
        self.address = address
        self._log = log

    @property
    def log(self) -> str:
        """Standard output and error so far."""
        return self._log.read_text()

    def client(self, **options: Any) -> httpx2.Client:
        """A client without account."""
        return httpx2.Client(base_url=self.address, timeout=60, trust_env=False, **options)

    def stop(self, seconds: float = 40) -> int:
        """Ask the process to end, and wait until it has; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


@contextlib.contextmanager
def running_server(folder: Path, environment: Mapping[str, str], *arguments: str) -> Iterator[Server]:
    """Start ``baio runserver`` on a free port with this environment and nothing else of BAiO's; kill it at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BAIO_", "OPENAI_"))}
    command = [sys.executable, "-m", "baio_api.cli", "runserver", "--port", "0", *arguments]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            env={**inherited, "BAIO_DATA_DIR": str(folder), **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
        )
    try:
        yield Server(process, log, _wait_until_ready(process, log))
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[str], log: Path) -> str:
    while process.poll() is None:
        found = re.search(r"listens on (http://\S+?)/\s", log.read_text())
        if found:
            with contextlib.suppress(httpx2.TransportError):
                httpx2.get(f"{found[1]}/health/ready", timeout=60, trust_env=False)
                return found[1]
    raise RuntimeError(f"the server did not start:\n{log.read_text()}")


def registration(**changes: str) -> dict[str, str]:
    """The body of a registration under names that nobody has yet."""
    number = next(_numbers)
    return {
        "first_name": "Ole",
        "last_name": "Normann",
        "username": f"olenor{number}",
        "email": f"ole.normann{number}@example.no",
        "password": PASSWORD,
        "country": "Norway",
        "affiliation": "University of Bergen",
        "position": "scientist",
        "field_of_study": "AI researcher",
        **changes,
    }


class User:
    """A researcher with an account: an HTTP client that is signed in, and what one does with it first."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.account = registration()
        self.http = server.client()
        assert self.http.post("/user/register/", json=self.account).status_code == 201
        signed_in = self.http.post(
            "/user/auth/", json={"username": self.account["username"], "password": self.account["password"]}
        ).json()
        self.access: str = signed_in["access"]
        self.refresh: str = signed_in["refresh"]
        self.http.headers["Authorization"] = f"Bearer {self.access}"

    def add_key(self, nickname: str = "OpenAI Key", key: str = KEY) -> str:
        """Store a key; its nickname."""
        assert self.http.post("/chat/addAPIKey/", json={"key": key, "nickname": nickname}).status_code == 201
        return nickname

    def begin(self, title: str = "New Research Topic") -> int:
        """Begin a conversation; its id."""
        conversation_id: int = self.http.post("/chat/createConversation/", json={"title": title}).json()["id"]
        return conversation_id

    def messages(self, conversation_id: int) -> list[tuple[str, str]]:
        """What was said in the conversation, as (role, content)."""
        found = self.http.get("/chat/getConversation/", params={"conversation_id": conversation_id}).json()
        return [(message["role"], message["content"]) for message in found["messages"]]

    def question(self, conversation_id: int, content: str = "What is a codon?", **changes: Any) -> dict[str, Any]:
        """The body of a question."""
        return {
            "conversation_id": conversation_id,
            "apikey_nickname": "OpenAI Key",
            "content": content,
            "model": "gpt-4o-mini",
            **changes,
        }

    def ask(self, conversation_id: int, content: str = "What is a codon?", **changes: Any) -> httpx2.Response:
        """Ask, and read the whole answer."""
        return self.http.post("/chat/sendMessage/", json=self.question(conversation_id, content, **changes))
