"""OpenID Connect as a relying party: the authorization code flow with PKCE, and back-channel logout."""

import base64
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, final
from urllib.parse import quote_plus, urlencode

import msgspec
from msgspec import Meta

from baio_adapters.oidc.http import Fault, Http
from baio_adapters.oidc.keys import LEEWAY_SECONDS, unverified_issuer
from baio_adapters.oidc.server import Document, Server
from baio_adapters.oidc.sign_in_file import Registration
from baio_domain.errors import InstitutionUnavailable, SignInInvalid
from baio_domain.identities import MAX_SUBJECT_LENGTH, Claims, Institution, Logout
from baio_domain.ports import IdentityProviders

logger = logging.getLogger("baio.sign_in")

MAX_CODE_LENGTH = 8_192

LOGOUT_SECONDS = 600
"""How old a logout token may be: so long it is remembered that it has counted."""

LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"

_Subject = Annotated[str, Meta(min_length=1, max_length=MAX_SUBJECT_LENGTH)]
_Session = Annotated[str, Meta(min_length=1, max_length=500)]


class _IdToken(msgspec.Struct):
    """What every ID token has (OpenID Connect Core 1.0, section 2)."""

    iss: str
    sub: _Subject
    aud: str | list[str]
    exp: int | float
    iat: int | float
    nonce: str
    azp: str | None = None
    sid: _Session | None = None


class _LogoutToken(msgspec.Struct):
    """What a logout token has (OpenID Connect Back-Channel Logout 1.0, section 2.4)."""

    iss: str
    aud: str | list[str]
    iat: int | float
    jti: _Session
    events: dict[str, Any]
    sub: _Subject | None = None
    sid: _Session | None = None


class _Tokens(msgspec.Struct):
    id_token: str
    access_token: str | None = None
    token_type: str = "Bearer"  # noqa: S105 - not a password


@final
class OidcProviders(IdentityProviders):
    """The institutions of the registrations. ``redirect_uri`` is where each sends browsers back to."""

    def __init__(
        self, registrations: Sequence[Registration], redirect_uri: str, proxy_to: Callable[[str], str | None]
    ) -> None:
        self._http = Http()
        self._redirect_uri = redirect_uri
        self._clients = {
            each.institution.name: _Client(each, Server(each.institution.issuer, self._http, proxy_to), redirect_uri)
            for each in registrations
        }

    @property
    def institutions(self) -> Sequence[Institution]:
        """In the order of the registrations."""
        return [each.institution for each in self._clients.values()]

    async def sign_in_url(self, institution: Institution, *, state: str, nonce: str, challenge: str) -> str:
        """The authorization endpoint, with the request in its query."""
        client = self._clients[institution.name]
        with _told(institution):
            return await client.sign_in_url(state, nonce, challenge)

    async def claims(
        self, institution: Institution, *, code: str, issuer: str | None, nonce: str, verifier: str
    ) -> Claims:
        """Exchange the code for an ID token, and ask the userinfo endpoint, if there is one."""
        client = self._clients[institution.name]
        with _told(institution):
            return await client.claims(code, issuer, nonce, verifier)

    async def logout(self, token: str) -> Logout:
        """Verify the token with the keys of the institution that it names."""
        try:
            issuer = unverified_issuer(token)
        except Fault:
            raise SignInInvalid from None
        for client in self._clients.values():
            if client.institution.issuer == issuer:
                with _told(client.institution):
                    return await client.logout(token)
        raise SignInInvalid

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()


@contextmanager
def _told(institution: Institution) -> Iterator[None]:
    """Tell the administrator's log why something failed, and the caller that it did."""
    try:
        yield
    except Fault as fault:
        logger.warning("sign-in with %s failed: %s", institution.name, fault.reason)
        raise InstitutionUnavailable(retry_after=5) if fault.temporary else SignInInvalid from None


@final
class _Client:
    """BAiO as a client of one institution."""

    def __init__(self, registration: Registration, server: Server, redirect_uri: str) -> None:
        self._registration = registration
        self._server = server
        self._redirect_uri = redirect_uri

    @property
    def institution(self) -> Institution:
        return self._registration.institution

    async def sign_in_url(self, state: str, nonce: str, challenge: str) -> str:
        document = await self._server.document()
        query = urlencode(
            {
                "response_type": "code",
                "client_id": self._registration.client_id,
                "redirect_uri": self._redirect_uri,
                "scope": " ".join(self._registration.scopes),
                "state": state,
                "nonce": nonce,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
            }
        )
        endpoint = document.authorization_endpoint.partition("#")[0]
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{query}"

    async def claims(self, code: str, issuer: str | None, nonce: str, verifier: str) -> Claims:
        document = await self._server.document()
        if issuer is None and document.authorization_response_iss_parameter_supported:
            raise Fault("the browser came back without the issuer that it should name", temporary=False)
        if len(code) > MAX_CODE_LENGTH:
            raise Fault("the code is too long", temporary=False)
        tokens = await self._exchange(document, code, verifier)
        header, values = await self._server.verified(tokens.id_token)
        token = _believed(values, _IdToken)
        _refuse_type(header, {"jwt"})
        self._check_audience(token.iss, token.aud, token.azp)
        if token.nonce != nonce:
            raise Fault("the ID token belongs to another sign-in", temporary=False)
        values = {**await self._userinfo(document, tokens, token.sub), **values}
        return Claims(token.iss, token.sub, token.sid, values)

    async def logout(self, token: str) -> Logout:
        header, values = await self._server.verified(token)
        message = _believed(values, _LogoutToken)
        _refuse_type(header, {"jwt", "logout+jwt"})
        self._check_audience(message.iss, message.aud, None)
        now = time.time()
        if not isinstance(message.events.get(LOGOUT_EVENT), dict) or "nonce" in values:
            raise Fault("a token is no logout token", temporary=False)
        if message.sub is None and message.sid is None:
            raise Fault("a logout token says nobody's", temporary=False)
        if message.iat < now - LOGOUT_SECONDS - LEEWAY_SECONDS:
            raise Fault("a logout token is too old", temporary=False)
        until = datetime.fromtimestamp(now + LOGOUT_SECONDS + 2 * LEEWAY_SECONDS, UTC)
        return Logout(message.iss, message.sub, message.sid, message.jti, until)

    async def _exchange(self, document: Document, code: str, verifier: str) -> _Tokens:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": verifier,
        }
        headers = {}
        client_id, secret = self._registration.client_id, self._registration.client_secret
        if not secret:
            form["client_id"] = client_id
        elif self._sends_secret_in_header(document):
            # Both are encoded as in a form before they are joined (RFC 6749, section 2.3.1).
            pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": client_id, "client_secret": secret}
        status, answer = await self._server.post(document.token_endpoint, form, headers)
        if status != HTTPStatus.OK:
            raise Fault(f"the code was refused: {_error_code(answer)} ({status})", temporary=status >= 500)
        try:
            return msgspec.convert(answer, _Tokens)
        except msgspec.ValidationError:
            raise Fault("there is no ID token: are the scopes complete?", temporary=False) from None

    def _sends_secret_in_header(self, document: Document) -> bool:
        methods = document.token_endpoint_auth_methods_supported
        if self._registration.client_auth is not None:
            return self._registration.client_auth == "client_secret_basic"
        if "client_secret_basic" in methods:
            return True
        if "client_secret_post" in methods:
            return False
        raise Fault("it takes no client secret, neither in a header nor in a form", temporary=False)

    async def _userinfo(self, document: Document, tokens: _Tokens, subject: str) -> dict[str, Any]:
        """Its claims; the ID token's, which are signed, come before them."""
        url = document.userinfo_endpoint
        if not (url and self._registration.userinfo and tokens.access_token):
            return {}
        if tokens.token_type.lower() != "bearer" or not tokens.access_token.isascii():
            raise Fault("the access token is of a type that is not known", temporary=False)
        answer = await self._server.get(url, {"Authorization": f"Bearer {tokens.access_token}"})
        if answer.get("sub") != subject:
            raise Fault("userinfo is about somebody else", temporary=False)
        return answer

    def _check_audience(self, issuer: str, audience: str | list[str], presenter: str | None) -> None:
        client_id, audiences = self._registration.client_id, [audience] if isinstance(audience, str) else audience
        if issuer != self.institution.issuer:
            raise Fault("a token is from another issuer", temporary=False)
        if client_id not in audiences or presenter not in (None, client_id):
            raise Fault("a token is for another client", temporary=False)


def _believed(values: Mapping[str, Any], kind: type[msgspec.Struct]) -> Any:  # noqa: ANN401 - of that kind
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise Fault(f"a token's claims are not valid: {error}", temporary=False) from None


def _refuse_type(header: Mapping[str, Any], allowed: set[str]) -> None:
    """Refuse a token that says that it is something else (RFC 8725, section 3.11)."""
    kind = header.get("typ")
    if kind is not None and str(kind).lower().removeprefix("application/") not in allowed:
        raise Fault("a token is of another type", temporary=False)


def _error_code(answer: Mapping[str, Any]) -> str:
    """The error code of a refusal, if it is one that a log can have."""
    code = answer.get("error")
    known = isinstance(code, str) and len(code) <= 40 and code.replace("_", "").isalnum() and code.isascii()
    return str(code) if known else "no error code"
