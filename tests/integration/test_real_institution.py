"""Signing in with a provider of OpenID Connect that somebody else has written, run as a process of its own."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx2
import pytest

from tests.integration.conftest import NewDatabase, server_on
from tests.integration.institution_clients import RETURN_TO, Client, fragment_of
from tests.integration.scripted_provider import ScriptedProvider
from tests.integration.servers import until

PERSON = {
    "sub": "76a7a061",
    "name": "Åse de la Cour",
    "preferred_username": "ase@uib.example",
    "email": "ase@uib.example",
}


@contextmanager
def institution_process(folder: Path) -> Iterator[str]:
    """The provider, which needs nothing but this machine; its issuer."""
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    log = (folder / "institution.log").open("w")
    started = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "oidc_provider_mock",
        "--port",
        str(port),
        "--require-nonce",
        "true",
    ]
    process = subprocess.Popen([*started, "--user-claims", json.dumps(PERSON)], stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, Path(log.name).read_text()
        try:
            return httpx2.get(f"{address}/.well-known/openid-configuration", trust_env=False).status_code == 200
        except httpx2.TransportError:
            return False

    try:
        until(answers)
        yield address
    finally:
        process.kill()
        process.wait()
        log.close()


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A provider that runs."""
    with institution_process(tmp_path_factory.mktemp("provider")) as issuer:
        yield issuer


def test_a_person_signs_in_in_a_browser_and_the_client_gets_tokens(
    issuer: str, sqlite: NewDatabase, provider: ScriptedProvider, tmp_path: Path
) -> None:
    settings = {
        "BAIO_PUBLIC_URL": "http://127.0.0.1:8000",
        "BAIO_SIGN_IN_ISSUER": issuer,
        "BAIO_SIGN_IN_CLIENT_ID": "baio",
        "BAIO_SIGN_IN_CLIENT_SECRET": "a+secret/with=signs",
        "BAIO_SIGN_IN_LABEL": "Universitetet",
        "BAIO_PASSWORD_SIGN_IN": "off",
    }
    with server_on(tmp_path, sqlite.prepared(), provider, **settings) as server, server.client() as http:
        client = Client(server, http)
        ways = {"passwords": False, "providers": [{"provider": "institution", "label": "Universitetet"}]}
        assert http.get("/user/getSignInProviders/").json() == ways
        refused = http.post("/user/auth/", json={"username": "ase", "password": "oleSterktPassord123"})
        assert refused.json()["type"] == "urn:baio:error:password-sign-in-off"
        signed_in = client.redeem(ticket_of(client, PERSON["sub"]))
        assert signed_in.status_code == 200
        headers = {"Authorization": f"Bearer {signed_in.json()['access']}"}
        account = http.get("/user/getInfo/", headers=headers).json()
        names = ("username", "email", "first_name", "last_name")
        assert [account[name] for name in names] == ["ase", PERSON["email"], "Åse de la", "Cour"]
        assert client.redeem(ticket_of(client, PERSON["sub"])).status_code == 200
        assert len(http.get("/user/getSessions/", headers=headers).json()) == 2
        assert "Traceback" not in server.log


def ticket_of(client: Client, subject: str) -> str:
    """Sign in as a browser does: the page, its form, and the way back."""
    started = client.start("institution")
    assert started.status_code == 200, started.text
    with httpx2.Client(trust_env=False, timeout=60) as browser:
        page = browser.get(started.json()["url"])
        assert "<form" in page.text, page.text
        action = re.search(r'<form[^>]*action="([^"]+)"', page.text)
        where = urljoin(str(page.url), action[1].replace("&amp;", "&")) if action else str(page.url)
        sent = browser.post(where, data={"sub": subject}, follow_redirects=False)
    back = urlsplit(sent.headers["location"])
    assert back.path == "/user/finishSignIn/"
    with client.server.client() as browser:
        finished = browser.get(f"{back.path}?{back.query}", follow_redirects=False)
    assert finished.headers["location"].startswith(RETURN_TO)
    return fragment_of(finished)["ticket"]
