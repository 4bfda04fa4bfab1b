"""A web client that signs in with an institution, and the browser that goes there and comes back."""

import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2

from baio_domain.identities import challenge_of
from tests.integration.scripted_institution import Institution, came_back
from tests.integration.servers import Server

RETURN_TO = "http://localhost:3000/signed-in?from=here"


@dataclass
class Client:
    """Its verifier, and its connection to the server."""

    server: Server
    http: httpx2.Client
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    def start(self, provider: str = "uni", **changes: Any) -> httpx2.Response:
        """Begin to sign in."""
        body = {"provider": provider, "return_to": RETURN_TO, "challenge": challenge_of(self.verifier)}
        return self.http.post("/user/startSignIn/", json={**body, **changes})

    def came_back(self, query: dict[str, Any]) -> httpx2.Response:
        """What the browser gets that comes back from an institution, with a cookie and a header of its own."""
        with self.server.client(headers={"Accept": "text/html", "Cookie": "other=1"}) as browser:
            return browser.get(f"/user/finishSignIn/?{came_back(query)}", follow_redirects=False)

    def at(self, institution: Institution, subject: str, **changes: Any) -> dict[str, str]:
        """Go there, sign in, and come back to the page of this client: what is behind the ``#`` of its address."""
        started = self.start(institution.name)
        assert started.status_code == 200, started.text
        return fragment_of(self.came_back(institution.signs_in(started.json()["url"], subject) | changes))

    def ticket(self, institution: Institution, subject: str) -> str:
        """The ticket of somebody who has signed in there."""
        return self.at(institution, subject)["ticket"]

    def redeem(self, ticket: str, **more: Any) -> httpx2.Response:
        """Try to sign in with a ticket."""
        return self.http.post("/user/redeemSignIn/", json={"ticket": ticket, "verifier": self.verifier, **more})

    def sign_in(self, institution: Institution, subject: str, **more: Any) -> dict[str, str]:
        """Sign in; the headers of the session."""
        signed_in = self.redeem(self.ticket(institution, subject), **more)
        assert signed_in.status_code == 200, signed_in.text
        return {"Authorization": f"Bearer {signed_in.json()['access']}"}


def fragment_of(response: httpx2.Response) -> dict[str, str]:
    """What is behind the ``#`` of the address to which a browser is sent, which is that of the client."""
    assert response.status_code == 303, response.text
    before, _, fragment = response.headers["location"].partition("#")
    assert before == RETURN_TO
    assert response.content == b""
    assert "set-cookie" not in response.headers
    found = parse_qs(fragment, strict_parsing=True)
    assert urlsplit(response.headers["location"]).fragment == fragment
    return {name: value for name, [value] in found.items()}
