"""The Dockerfile's steps, one by one, without a container: python manage.py test deploy/test_container.py.

They install everything anew, which takes a minute or more, so the suite does not run this. Where the system permits it,
what is built is read-only, the server is the first process of a PID namespace, and it runs under another account.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest
from tests.integration.answers import paced
from tests.integration.scripted_provider import ScriptedProvider
from tests.integration.servers import KEY, PASSWORD, registration

PROJECT = Path(__file__).parents[1]
DOCKERFILE = (PROJECT / "Dockerfile").read_text("utf-8")
PIECES = [f"{number} µ🧬 " for number in range(30)]

CONFINED = """
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
mount -o remount,ro,bind "$1"
mount -t proc proc /proc
shift
exec "$@"
"""


def steps() -> list[str]:
    """The steps of the image without the model, in the order of the Dockerfile."""
    found = re.findall(r"(?m)^RUN sh \S*build\.sh (\w+)(?: &&.*)?$", DOCKERFILE)
    return [step for step in found if step != "model"]


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A folder with what the steps have made."""
    folder = Path(tempfile.mkdtemp(prefix="baio-container-"))
    folder.chmod(0o755)  # another account gets through
    environment = {**os.environ, "ROOT": str(folder / "root"), "PYTHON": os.environ.get("PYTHON", sys.executable)}
    (folder / "root" / "opt").mkdir(parents=True)
    try:
        for step in steps():
            subprocess.run(["sh", "deploy/build.sh", step], cwd=PROJECT, env=environment, check=True)
        yield folder / "root"
    finally:
        shutil.rmtree(folder)


def other_account(root: Path) -> list[str]:
    """What runs a command under the image's account, if that can be had here."""
    as_other = ["setpriv", "--reuid=10001", "--regid=10001", "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
    # In a further process: the first one may still get through folders that are root's alone.
    further = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'pass'], check=True)"
    return as_other if _works([*as_other, str(root / "opt/baio/bin/python"), "-c", further]) else []


def confined(root: Path) -> list[str]:
    """What runs a command as PID 1, with a read-only root, if that can be had here."""
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", CONFINED, "confined", str(root)]
    return command if _works([*command, "true"]) else []


def _works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def files_of(root: Path) -> dict[Path, float]:
    return {path: path.lstat().st_mtime for path in (root / "opt").rglob("*")}


def test_what_is_built_serves_read_only_is_healthy_and_drains(root: Path, tmp_path: Path) -> None:
    assert steps() == ["packages", "baio", "finish", "data"]
    account, before = other_account(root), files_of(root)
    assert not [path for path in before if path.name in ("hatchling", "pip")]
    data = root.parent / "data"  # a volume
    shutil.copytree(root / "data", data)
    if account:
        os.chown(data, 10001, 10001)
    log = tmp_path / "log"
    with ScriptedProvider() as provider, log.open("w") as output:
        provider.always(paced(*PIECES, delay=0.1))
        environment = {
            "PATH": f"{root}/opt/baio/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(data),
            "BAIO_DATA_DIR": str(data),
            "BAIO_LOCAL_MODEL": "off",
            "BAIO_OPENAI_BASE_URL": provider.base_url,
            "BAIO_METRICS": "127.0.0.1:0",
        }
        baio = [str(root / "opt/baio/bin/baio"), "runserver", "--port", "0", "--workers", "2"]
        before_baio = confined(root)
        outer = subprocess.Popen(
            [*before_baio, *account, *baio], env=environment, stdout=output, stderr=output, cwd="/"
        )
        try:
            address = _address(outer, log)
            server = psutil.Process(outer.pid).children()[0] if before_baio else psutil.Process(outer.pid)
            assert server.cmdline()[1] == baio[0]  # no shell is in between
            assert _is_healthy(root, address)
            metrics = re.search(r"metrics +(http://\S+)", log.read_text())
            assert metrics is not None
            assert "baio_workers" in httpx2.get(metrics[1], trust_env=False).text
            assert _read_while_it_stops(address, server) == "".join(PIECES)
            assert outer.wait(60) == 0
        finally:
            outer.kill()
    assert files_of(root) == before
    print(f"\nread-only and PID 1: {bool(before_baio)}, another account: {bool(account)}")


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    give_up_at = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < give_up_at:
        if found := re.search(r"listens on (http://\S+?)/\s", log.read_text()):
            try:
                if httpx2.get(f"{found[1]}/health/ready", trust_env=False).status_code == 200:
                    return found[1]
            except httpx2.TransportError:
                pass
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def _is_healthy(root: Path, address: str) -> bool:
    """What the Dockerfile's HEALTHCHECK says, in an environment with a proxy that nobody is to ask."""
    found = re.search(r"(?s)HEALTHCHECK [^[]+(\[.*?\])\n", DOCKERFILE)
    assert found is not None
    command = json.loads(found[1].replace("\\\n", ""))
    command[0] = f"{root}{command[0]}"
    command[-1] = command[-1].replace("8000", address.rpartition(":")[2])
    environment = {"http_proxy": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"}
    return subprocess.run(command, env=environment, check=False).returncode == 0


def _read_while_it_stops(address: str, server: psutil.Process) -> str:
    """Ask, and stop the server after the first text: all that was read."""
    account = registration()
    with httpx2.Client(base_url=address, timeout=60, trust_env=False) as client:
        assert client.post("/user/register/", json=account).status_code == 201
        signed_in = client.post("/user/auth/", json={"username": account["username"], "password": PASSWORD}).json()
        client.headers["Authorization"] = f"Bearer {signed_in['access']}"
        client.post("/chat/addAPIKey/", json={"key": KEY, "nickname": "OpenAI Key"})
        conversation = client.post("/chat/createConversation/", json={"title": "Codons"}).json()["id"]
        question = {"apikey_nickname": "OpenAI Key", "content": "What is a codon?", "model": "gpt-4o-mini"}
        asked = {"conversation_id": conversation, **question}
        with client.stream("POST", "/chat/sendMessage/", json=asked) as response:
            read = ""
            for text in response.iter_text():
                if not read:
                    server.send_signal(signal.SIGTERM)
                read += text
    return read
