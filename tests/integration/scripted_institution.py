"""Institutions that speak OpenID Connect on a real socket, strictly, and lie where a test tells them to.

    with ScriptedInstitutions() as peer:
        uni = peer.institution("uni")
        back = uni.signs_in(url, "ole")     # what the browser is sent back to, after a person has signed in at ``url``

The token endpoint takes each code once, from its client, with the verifier of its challenge. What an institution says
is in its attributes; ``begin_anew`` makes it honest again.
"""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

Claims = dict[str, Any]
Answer = tuple[int, bytes]

CLIENT_ID, CLIENT_SECRET = "baio", "a+secret/with=signs%and:colon"
PUBLIC_URL = "https://baio.example.org/api"
CALLBACK = f"{PUBLIC_URL}/user/finishSignIn/"

RSA = [rsa.generate_private_key(65537, 2048) for _ in range(2)]
KEYS: dict[str, tuple[str, Any]] = {
    "rsa": ("RS256", RSA[0]),
    "pss": ("PS256", RSA[0]),
    "ec": ("ES256", ec.generate_private_key(ec.SECP256R1())),
    "ed": ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
}
ALGORITHMS = jwt.algorithms.get_default_algorithms()


def jwk_of(private: Any, algorithm: str, key_id: str | None) -> Claims:  # noqa: ANN401 - a key of any kind
    """The public key as a JWK."""
    public: Claims = ALGORITHMS[algorithm].to_jwk(private.public_key(), as_dict=True)
    return {**public, "use": "sig", **({} if key_id is None else {"kid": key_id})}


class Institution:
    """One issuer: what it says, and what it was asked."""

    def __init__(self, name: str, issuer: str) -> None:
        self.name = name
        self.issuer = issuer
        self.begin_anew()

    def begin_anew(self) -> None:
        """Be honest, and forget what was."""
        self.document: Claims = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize?kept=1",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "authorization_response_iss_parameter_supported": True,
        }
        self.keys: list[Claims] = [jwk_of(RSA[0], "RS256", "1")]
        self.people: dict[str, Claims] = {}
        self.userinfo: Callable[[Claims], Claims] = dict
        self.id_token: Callable[[Claims], str] = self.sign
        self.answers: dict[str, Callable[[], Answer]] = {}
        self.requests: list[tuple[str, Mapping[str, str], Claims]] = []
        self.codes: dict[str, Claims] = {}
        self.tokens: dict[str, str] = {}
        self.nonces: list[str] = []

    def sign(self, claims: Claims, key: str = "rsa", **header: object) -> str:
        """A token with these claims; ``kid`` is 1 unless the header has another, None for none."""
        algorithm, private = KEYS[key]
        headers = {name: value for name, value in {"kid": "1", **header}.items() if value is not None}
        return jwt.encode(claims, private, algorithm, headers)

    def claims(self, subject: str, nonce: str) -> Claims:
        """What an honest ID token says."""
        now = int(time.time())
        told = {"iss": self.issuer, "sub": subject, "aud": CLIENT_ID, "exp": now + 300, "iat": now}
        return {**told, "nonce": nonce, "sid": f"session of {subject}"}

    def logout_token(self, subject: str | None, session: str | None = None, key: str = "rsa", **changes: Any) -> str:
        """A logout token, as it should be but for the changes; a claim that is None is left out."""
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 120, "jti": secrets.token_hex(8)}
        claims |= {"sub": subject, "sid": session, "events": {"http://schemas.openid.net/event/backchannel-logout": {}}}
        claims |= changes
        return self.sign({k: v for k, v in claims.items() if v is not None}, key, typ="logout+jwt")

    def signs_in(self, url: str, subject: str, **changes: str) -> Claims:
        """The query with which the browser comes back, after a person has signed in at this address."""
        parts, asked = urlsplit(url), parse_qs(urlsplit(url).query)
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{self.issuer}/authorize"
        assert all(len(values) == 1 for values in asked.values())
        query = {name: values[0] for name, values in asked.items()}
        assert query["kept"] == "1"
        assert (query["response_type"], query["client_id"], query["redirect_uri"]) == ("code", CLIENT_ID, CALLBACK)
        assert query["code_challenge_method"] == "S256"
        assert "openid" in query["scope"].split()
        code = secrets.token_urlsafe(16)
        self.codes[code] = {**query, "subject": subject}
        return {"code": code, "state": query["state"], "iss": self.issuer, "session_state": "x"} | changes

    def answer(self, path: str, headers: Mapping[str, str], form: Claims) -> Answer:
        """The answer to a request."""
        self.requests.append((path, headers, form))
        if path in self.answers:
            return self.answers[path]()
        match path:
            case "/.well-known/openid-configuration":
                return _json(self.document)
            case "/keys":
                return _json({"keys": self.keys})
            case "/token":
                return self._token(headers, form)
            case "/userinfo":
                return self._userinfo(headers)
        return _json({"error": "not_found"}, 404)

    def _token(self, headers: Mapping[str, str], form: Claims) -> Answer:
        asked = self.codes.pop(form.get("code", ""), None)
        if self._client(headers, form) != (CLIENT_ID, CLIENT_SECRET):
            return _json({"error": "invalid_client"}, 401)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or (challenge, form["redirect_uri"]) != (asked["code_challenge"], asked["redirect_uri"]):
            return _json({"error": "invalid_grant"}, 400)
        access = secrets.token_urlsafe(16)
        self.tokens[access] = asked["subject"]
        self.nonces.append(asked["nonce"])
        id_token = self.id_token(self.claims(asked["subject"], asked["nonce"]))
        return _json({"id_token": id_token, "access_token": access, "token_type": "Bearer", "expires_in": 60})

    @staticmethod
    def _client(headers: Mapping[str, str], form: Claims) -> tuple[str, str]:
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        if scheme == "Basic":
            client_id, _, secret = base64.b64decode(sent).decode().partition(":")
            return unquote_plus(client_id), unquote_plus(secret)
        return form.get("client_id", ""), form.get("client_secret", "")

    def _userinfo(self, headers: Mapping[str, str]) -> Answer:
        subject = self.tokens.get(headers.get("authorization", "").removeprefix("Bearer "))
        if subject is None:
            return _json({"error": "invalid_token"}, 401)
        return _json(self.userinfo({"sub": subject, **self.people.get(subject, {})}))


def _json(value: object, status: int = 200) -> Answer:
    return status, json.dumps(value).encode()


class ScriptedInstitutions:
    """A server with an institution below each path, made when it is first asked for."""

    def __init__(self) -> None:
        self.institutions: dict[str, Institution] = {}
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer({})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                self._answer({name: values[0] for name, values in parse_qs(body, keep_blank_values=True).items()})

            def _answer(self, form: Claims) -> None:
                _, name, path = (urlsplit(self.path).path + "/").split("/", 2)
                headers = {each.lower(): value for each, value in self.headers.items()}
                status, body = peer.institution(name).answer(f"/{path.rstrip('/')}", headers, form)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                if 300 <= status < 400:
                    self.send_header("Location", body.decode())
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its signature
                """Say nothing."""

        class Listening(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A client that leaves is no error here."""

        self._server = Listening(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def institution(self, name: str) -> Institution:
        """The institution below this path."""
        where = f"http://127.0.0.1:{self._server.server_port}/{name}"
        return self.institutions.setdefault(name, Institution(name, where))

    def write(self, file: Path, *names: str, more: str = "") -> Path:
        """A sign-in file with these institutions."""
        entries = [
            f"[[institution]]\nname = {json.dumps(name)}\nlabel = {json.dumps(name.title())}\n"
            f"issuer = {json.dumps(self.institution(name).issuer)}\n"
            f"client_id = {json.dumps(CLIENT_ID)}\nclient_secret = {json.dumps(CLIENT_SECRET)}\n{more}"
            for name in names
        ]
        file.write_text("\n".join(entries))
        return file

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def came_back(query: Claims) -> str:
    """The query as a browser sends it."""
    return urlencode({name: value for name, value in query.items() if value is not None})
