"""One institution's server: its document and keys, fetched when they are needed, and kept for a while."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar, final
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from baio_adapters.oidc.http import Fault, Http
from baio_adapters.oidc.keys import Key, UnknownKey, keys_in, verified
from baio_adapters.oidc.sign_in_file import is_safe

T = TypeVar("T")

KEPT_SECONDS = 3600.0
"""How long a document and keys count as current: so long a key that was withdrawn is believed at most."""

STALE_SECONDS = 86_400.0
"""How long the document is used where it can't be fetched again. Keys are not: one may have been withdrawn."""

RETRY_SECONDS = 5.0
"""How long after a failure nothing is fetched again."""

NEW_KEY_SECONDS = 30.0
"""How often an unknown key may have the keys fetched before their time."""

_Url = Annotated[str, Meta(max_length=2000)]


class Document(msgspec.Struct, frozen=True):
    """What BAiO needs of an institution's configuration (OpenID Connect Discovery 1.0, section 3)."""

    issuer: str
    authorization_endpoint: _Url
    token_endpoint: _Url
    jwks_uri: _Url
    userinfo_endpoint: _Url | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False

    @property
    def urls(self) -> list[str]:
        """All of its addresses."""
        urls = (self.authorization_endpoint, self.token_endpoint, self.jwks_uri, self.userinfo_endpoint)
        return [url for url in urls if url is not None]


@final
class Server:
    """One institution's server. It is asked once at a time, whoever waits."""

    def __init__(self, issuer: str, http: Http, proxy_to: Callable[[str], str | None]) -> None:
        self._issuer = issuer
        self._http = http
        self._proxy_to = proxy_to
        self._document = _Kept(self._fetch_document, STALE_SECONDS)
        self._keys = _Kept(self._fetch_keys, 0.0)

    async def document(self) -> Document:
        """Its document, or raise Fault."""
        return await self._document.current()

    async def verified(self, token: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Header and claims of a token that it has signed, or raise Fault. A new key is fetched once."""
        try:
            return verified(token, await self._keys.current())
        except UnknownKey:
            if not await self._keys.renew(NEW_KEY_SECONDS):
                raise
            return verified(token, await self._keys.current())

    async def get(self, url: str, headers: Mapping[str, str]) -> dict[str, Any]:
        """The JSON object at one of its addresses, or raise Fault."""
        return await self._http.get(url, proxy=self._proxy_to(url), headers=headers)

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        """Status and JSON object of the answer to a form, or raise Fault."""
        return await self._http.post(url, form, proxy=self._proxy_to(url), headers=headers)

    async def _fetch_document(self) -> Document:
        found = await self.get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration", {})
        try:
            document = msgspec.convert(found, Document)
        except msgspec.ValidationError as error:
            raise Fault(f"its document is not valid: {error}") from None
        if document.issuer != self._issuer:
            raise Fault("its document is that of another issuer: write the issuer exactly as the document has it")
        if not all(is_safe(url) and urlsplit(url).hostname for url in document.urls):
            raise Fault("its document has an address without TLS")
        return document

    async def _fetch_keys(self) -> list[Key]:
        return keys_in(await self.get((await self.document()).jwks_uri, {}))


@dataclass(slots=True)
class _Value(Generic[T]):
    value: T
    fetched_at: float


class _Kept(Generic[T]):
    """Something that is fetched when it is needed and not current.

    Nobody fetches it twice at once, nor soon after a failure.
    """

    def __init__(self, fetch: Callable[[], Awaitable[T]], stale_seconds: float) -> None:
        self._fetch = fetch
        self._stale_seconds = stale_seconds
        self._value: _Value[T] | None = None
        self._failure = "", -RETRY_SECONDS  # the last one: why, and when
        self._lock = asyncio.Lock()

    async def current(self) -> T:
        """The value, fetched if it is not current. Raises Fault, unless an older one will do."""
        kept = self._younger_than(KEPT_SECONDS)
        if kept is None:
            async with self._lock:
                kept = self._younger_than(KEPT_SECONDS) or await self._renewed()
        return kept.value

    async def renew(self, seconds: float) -> bool:
        """Fetch it before its time, unless that was done within so many seconds. Raises Fault."""
        async with self._lock:
            if self._younger_than(seconds) is not None:
                return False
            await self._renewed()
            return True

    def _younger_than(self, seconds: float) -> _Value[T] | None:
        kept = self._value
        return kept if kept is not None and time.monotonic() - kept.fetched_at < seconds else None

    async def _renewed(self) -> _Value[T]:
        reason, failed_at = self._failure
        if time.monotonic() - failed_at >= RETRY_SECONDS:
            try:
                self._value = fresh = _Value(await self._fetch(), time.monotonic())
            except Fault as fault:
                reason = fault.reason
                self._failure = reason, time.monotonic()
            else:
                return fresh
        kept = self._younger_than(self._stale_seconds)
        if kept is None:
            raise Fault(reason)  # a passing one: whatever it is, an administrator of one side can mend it
        return kept
