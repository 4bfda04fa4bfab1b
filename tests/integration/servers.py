"""The real thing, started for tests: a BAiO server as its own process, and clients that speak to it as users do."""

import asyncio
import contextlib
import ipaddress
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2
import psutil
from sqlalchemy import Engine, func, literal, select, union_all

from baio_adapters.passwords import Argon2Hasher
from baio_adapters.sql.database import engine_for
from baio_adapters.sql.tables import metadata
from baio_api.container import Container
from baio_api.settings import Settings
from baio_domain.entities import PROFILE_FIELDS, Origin, Profile
from baio_domain.one_time_codes import counter_at, one_time_code
from baio_domain.ports.secrets import PasswordHasher
from baio_domain.session_opening import SignedIn
from tests.integration.processes import Process, run

SECRET = "kT7xw2Qm9Lf4Zs8Rb1Vc6Nd3Hj5Pg0Ya"
PASSWORD = "oleSterktPassord123"
KEY = "sk-test-0123456789abcdefghijklmnop"

_numbers = itertools.count(1)
_addresses = map(str, map(ipaddress.ip_address, itertools.count(0x0A000001)))  # 10.0.0.1 and on; threads take them, too


def eventually(true: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether this becomes true in time."""
    give_up_at, pause = time.monotonic() + seconds, 0.02
    while not true():
        if time.monotonic() > give_up_at:
            return False
        time.sleep(pause)
        pause = min(1.2 * pause, 0.25)  # a long wait takes no CPU time from tests beside it
    return True


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until it is true, or fail."""
    assert eventually(true, seconds), "it did not come true in time"


def problem(response: httpx2.Response, status: int = 400) -> dict[str, Any]:
    """Check that this is a refusal in the one form, and return it; one below /v1 as if it had this form, too."""
    assert response.status_code == status, response.text[:500]
    if response.url.path.startswith("/v1/"):
        return _openai_problem(response)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"]
    found: dict[str, Any] = response.json()
    assert list(found)[:4] == ["type", "title", "status", "detail"]
    assert set(list(found)[4:]) <= {"errors", "answer_id", "scope"}
    assert found["status"] == status
    assert re.fullmatch(r"urn:baio:error:[a-z-]+", found["type"])
    assert all(found[name] and isinstance(found[name], str) for name in ("type", "title", "detail"))
    return found


def _openai_problem(response: httpx2.Response) -> dict[str, Any]:
    """Check that this is an error in OpenAI's form, and return it as a problem."""
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    body = response.json()
    assert list(body) == ["error"]
    error = body["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert re.fullmatch(r"[a-z_]+", error["type"])
    assert re.fullmatch(r"[a-z_]+", error["code"])
    slug = {"invalid_api_key": "not_authenticated"}.get(error["code"], error["code"]).replace("_", "-")
    said = [each.partition(": ") for each in re.split("; (?!taken: )", error["message"])] if error["param"] else []
    errors = [{"field": field, "message": message} for field, _, message in said if message]
    assert not errors or errors[0]["field"] == error["param"]
    kind, detail = f"urn:baio:error:{slug}", error["message"]
    return {"type": kind, "title": slug, "status": response.status_code, "detail": detail, "errors": errors}


def named(response: httpx2.Response, status: int = 400) -> set[str]:
    """The fields that a refusal of bad input names."""
    errors = problem(response, status)["errors"]
    assert all(set(error) == {"field", "message"} and error["message"] for error in errors)
    return {error["field"] for error in errors}


_ROWS = union_all(
    *(
        select(literal(table.name), func.count()).select_from(table)
        for table in metadata.sorted_tables
        if table.name not in ("audit", "guesses")
    )
)


class Server:
    """A running server: where it listens, its process and settings, and everything it has printed so far."""

    def __init__(self, process: Process, log: Path, address: str, settings: Settings) -> None:
        self.process = process
        self.address = address
        self.settings = settings
        self.database = settings.database
        self._log = log
        self._entrance: Container | None = None
        self._engine: Engine | None = None

    @contextlib.contextmanager
    def entrance(self) -> Iterator[Container]:
        """The server's use cases on its database, in this process: users register there, and hashing takes no time."""
        container = self._entrance or entrance_of(self.settings)
        try:
            yield container
        finally:
            if container is not self._entrance:
                container.database().close()

    @contextlib.contextmanager
    def entrance_kept_open(self) -> Iterator[None]:
        """Inside, all users take one entrance: opening one costs ten times as much as registering."""
        self._entrance, self._engine = entrance_of(self.settings), engine_for(self.database)
        try:
            yield
        finally:
            self._entrance.database().close()
            self._engine.dispose()
            self._entrance = self._engine = None

    @property
    def log(self) -> str:
        """Standard output and error so far."""
        return self._log.read_text()

    def client(self, **options: Any) -> httpx2.Client:
        """A client without account, at an address of its own where the server trusts what this machine says of that."""
        # The address is plain HTTP; loading certificates for it would be what takes the time in most tests.
        client = httpx2.Client(base_url=self.address, timeout=60, trust_env=False, verify=False, **options)
        client.headers.setdefault("X-Forwarded-For", next(_addresses))
        return client

    @contextlib.contextmanager
    def engine(self) -> Iterator[Engine]:
        """The server's database, looked at from outside."""
        engine = self._engine or engine_for(self.database)
        try:
            yield engine
        finally:
            if engine is not self._engine:
                engine.dispose()

    def rows(self) -> dict[str, int]:
        """How many rows each table has, except those about everybody: the audit, and failures by address."""
        with self.engine() as engine, engine.connect() as connection:
            return dict(connection.execute(_ROWS).fetchall())

    def cpu_seconds(self) -> float:
        """The CPU time of the server's processes so far, which other work on the machine hardly changes."""
        main = psutil.Process(self.process.pid)
        return sum(sum(each.cpu_times()[:2]) for each in (main, *main.children(recursive=True)))

    def workers(self) -> list[psutil.Process]:
        """The workers of a server that has several: children of the process that they are forked from."""
        children = psutil.Process(self.process.pid).children()
        forking = [each for each in children if "forkserver" in "".join(each.cmdline())]
        return [worker for each in forking for worker in each.children()]

    def stop(self, seconds: float = 40) -> int:
        """Ask the process to end, and wait until it has; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


@contextlib.contextmanager
def running_server(
    folder: Path, environment: Mapping[str, str], *arguments: str, descriptors: tuple[int, int] | None = None
) -> Iterator[Server]:
    """Start ``baio runserver`` on a free port with this environment and nothing else of BAiO's; kill it at the end.

    The embedded model is off unless the environment says otherwise: most tests would only wait for it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    log.write_text("")  # not what an earlier server in this folder has said
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BAIO_", "OPENAI_"))}
    given = {"BAIO_DATA_DIR": str(folder), "BAIO_LOCAL_MODEL": "off", **environment}
    process = Process(
        ["runserver", "--port", "0", *arguments],
        env={**inherited, **given},
        cwd=folder,
        stdout=str(log),
        descriptors=descriptors,
    )
    try:
        yield Server(process, log, _wait_until_ready(process, log), Settings.from_environment(given))
    finally:
        process.kill()  # its workers too, which would outlive it


def baio(environment: Mapping[str, str], *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """Run one command to its end: in this environment only, with a home of its own, without the embedded model."""
    with tempfile.TemporaryDirectory() as home:
        return run(arguments, env={"PATH": "", "HOME": home, "BAIO_LOCAL_MODEL": "off", **environment}, typed=typed)


def _wait_until_ready(process: Process, log: Path) -> str:
    while process.poll() is None:
        found = re.search(r"listens on (http://\S+?)/\s", log.read_text())
        if found:
            with contextlib.suppress(httpx2.TransportError):
                httpx2.get(f"{found[1]}/health/ready", timeout=60, trust_env=False, verify=False)
                return found[1]
        time.sleep(0.02)
    raise RuntimeError(f"the server did not start:\n{log.read_text()}")


class Wire:
    """One request on a socket of its own, and its response as it is on the wire, chunk by chunk."""

    def __init__(
        self, server: Server, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> None:
        where = urlsplit(server.address)
        assert where.hostname is not None
        content = b"" if body is None else json.dumps(body).encode()
        lines = {
            "Host": where.netloc,
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
            "Connection": "close",
            **(headers or {}),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._socket = socket.create_connection((where.hostname, where.port), timeout=30)
        try:
            self._socket.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + content)
        except OSError:  # a server that was killed
            self._socket.close()
            raise
        self._file = self._socket.makefile("rb")
        self._head: tuple[int, dict[str, str]] | None = None

    @property
    def status(self) -> int:
        """The status of the response."""
        return self._read_head()[0]

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the response, their names in small letters."""
        return self._read_head()[1]

    def chunk(self) -> bytes | None:
        """The next chunk: b"" is the closing one, None the end of the connection without it."""
        self._read_head()
        try:
            size = self._file.readline()
            if not size.endswith(b"\r\n"):
                return None
            data = self._file.read(int(size, 16))
            end = self._file.read(2)
        except ConnectionResetError:
            return None
        if len(end) < 2:  # the connection has ended within the chunk
            return None
        assert end == b"\r\n"
        return data

    def chunks(self) -> tuple[list[bytes], bool]:
        """All further chunks, and whether the closing one came."""
        found: list[bytes] = []
        while chunk := self.chunk():
            found.append(chunk)
        return found, chunk == b""

    def rest(self) -> bytes:
        """The rest of the connection, whatever it is."""
        self._read_head()
        return self._file.read()

    def close(self) -> None:
        """Leave."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_head(self) -> tuple[int, dict[str, str]]:
        if self._head is None:
            status = int(self._file.readline().split()[1])
            headers: dict[str, str] = {}
            while line := self._file.readline().rstrip(b"\r\n"):
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            self._head = status, headers
        return self._head


def registration(**changes: str) -> dict[str, str]:
    """The body of a registration under names that nobody has yet.

    The username ends with no number: one that comes from an institution is given a number where it is taken.
    """
    number = next(_numbers)
    return {
        "first_name": "Ole",
        "last_name": "Normann",
        "username": f"olenor{number}x",
        "email": f"ole.normann{number}@example.no",
        "password": PASSWORD,
        "country": "Norway",
        "affiliation": "University of Bergen",
        "position": "scientist",
        "field_of_study": "AI researcher",
        **changes,
    }


class _KnownHash(PasswordHasher):
    """Argon2's hash of ``PASSWORD``, made once: hashing would take most of the suite's time."""

    hash_of_password = Argon2Hasher()._argon2.hash(PASSWORD)

    async def hash(self, password: str, *, network: str = "") -> str:
        del network
        assert password == PASSWORD
        return self.hash_of_password

    async def verify(self, password: str, password_hash: str | None, *, network: str = "") -> bool:
        del network
        return (password, password_hash) == (PASSWORD, self.hash_of_password)

    def outdated(self, _: str) -> bool:
        return False


def entrance_of(settings: Settings) -> Container:
    """The use cases of a server, with passwords that are hashed already."""
    container = Container(settings=settings)
    container.hasher.override(_KnownHash())
    return container


async def _enrol(container: Container, account: Mapping[str, str], origin: Origin) -> SignedIn:
    """Register and sign in as the routes do."""
    names = {name: account[name] for name in ("username", "email", "password")}
    profile = Profile(**{name: account[name] for name in PROFILE_FIELDS})
    await container.register()(**names, profile=profile, origin=origin)
    signed_in: SignedIn = await container.sign_in()(account["username"], account["password"], None, origin)
    return signed_in


async def _grant(settings: Settings, username: str) -> None:
    """Mark the account as the command does."""
    container = Container(settings=settings)
    try:
        await container.grant_admin()(username, Origin(operator="root"))
    finally:
        container.database().close()


class User:
    """A researcher with an account: an HTTP client that is signed in, and what one does with it first."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.account = registration()
        self.http = server.client()
        address = self.http.headers["X-Forwarded-For"] if server.settings.trusted_proxies else "127.0.0.1"
        origin = Origin(address, self.http.headers["User-Agent"])
        with ThreadPoolExecutor(1) as thread, server.entrance() as container:
            # A thread, because an asynchronous test has a loop of its own.
            self._hold(thread.submit(asyncio.run, _enrol(container, self.account, origin)).result())

    def sign_in(self, **more: str) -> None:
        """Open another session, and go on in that one."""
        known = {name: self.account[name] for name in ("username", "password")}
        answered = self.http.post("/user/auth/", json={**known, **more})
        assert answered.status_code == 200, answered.text
        self._hold(SignedIn(**answered.json()))

    def enable_two_factor(self) -> list[str]:
        """Enable two-factor authentication; the recovery codes."""
        secret = self.http.post("/user/enrollTwoFactor/", json={"password": PASSWORD}).json()["secret"]
        code = one_time_code(secret, counter_at(datetime.now(UTC)))
        confirmed = self.http.post("/user/confirmTwoFactor/", json={"code": code})
        assert confirmed.status_code == 200, confirmed.text
        codes: list[str] = confirmed.json()["recovery_codes"]
        return codes

    def become_administrator(self) -> None:
        """Enable two-factor authentication, be marked, and sign in with a code."""
        codes = self.enable_two_factor()
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, _grant(self.server.settings, self.account["username"])).result()
        self.sign_in(code=codes[0])

    def _hold(self, signed_in: SignedIn) -> None:
        self.access, self.refresh = signed_in.access, signed_in.refresh
        self.http.headers["Authorization"] = f"Bearer {self.access}"

    def add_key(self, nickname: str = "OpenAI Key", key: str = KEY) -> str:
        """Store a key; its nickname."""
        assert self.http.post("/chat/addAPIKey/", json={"key": key, "nickname": nickname}).status_code == 201
        return nickname

    def begin(self, title: str = "New Research Topic") -> int:
        """Begin a conversation; its id."""
        begun = self.http.post("/chat/createConversation/", json={"title": title})
        assert begun.status_code == 201, begun.text
        return int(begun.json()["id"])

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

    def wire(self, path: str, body: object, **headers: str) -> Wire:
        """Send something on a socket of its own."""
        return Wire(self.server, "POST", path, body, {"Authorization": f"Bearer {self.access}", **headers})
