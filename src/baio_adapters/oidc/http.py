"""The requests to an institution's servers, with limits of time and size."""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, final

import aiohttp
import httpx2
import msgspec

MAX_BODY_BYTES = 262_144
"""The longest answer that is read: documents of institutions have a few kilobytes."""

SECONDS = 10.0
"""How long one request may take, from connecting to the last byte."""


class Fault(Exception):
    """Why something at an institution failed, for the administrator's log: no secret, and nothing that a server wrote.

    ``temporary`` is False where the same would fail again.
    """

    def __init__(self, reason: str, *, temporary: bool = True) -> None:
        self.reason = reason
        self.temporary = temporary
        super().__init__(reason)


@final
class Http:
    """The connections to all institutions. It keeps no cookies, follows no redirects, and reads no compressed answer.

    It trusts the certificate authorities of the machine, or only those in ``SSL_CERT_FILE``.
    """

    def __init__(self) -> None:
        self._open: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()

    async def get(
        self, url: str, *, proxy: str | None, headers: Mapping[str, str] = MappingProxyType({})
    ) -> dict[str, Any]:
        """The JSON object at this URL, or raise Fault."""
        status, answer = await self._request("GET", url, proxy, headers, None)
        if status != HTTPStatus.OK:
            raise Fault(f"status {status} for {_shown(url)}", temporary=_is_temporary(status))
        return answer

    async def post(
        self, url: str, form: Mapping[str, str], *, proxy: str | None, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, Any]]:
        """The status of the answer to this form, and its JSON object, or raise Fault."""
        return await self._request("POST", url, proxy, headers, form)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._open is not None:
            await self._open.close()

    async def _request(
        self, method: str, url: str, proxy: str | None, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> tuple[int, dict[str, Any]]:
        sent = {"Accept": "application/json", "Accept-Encoding": "identity", **headers}
        try:
            session = await self._session()
            async with (
                asyncio.timeout(SECONDS),
                session.request(method, url, data=form, headers=sent, proxy=proxy, allow_redirects=False) as response,
            ):
                if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                    raise Fault(f"a compressed answer from {_shown(url)}")
                body = await _whole(response, url)
                status = response.status
        except TimeoutError:
            raise Fault(f"no answer within {SECONDS:g} s from {_shown(url)}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Fault(f"{type(error).__name__} at {_shown(url)}") from None
        try:
            answer = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError, ValueError):
            answer = None
        if not isinstance(answer, dict):
            raise Fault(f"status {status} without a JSON object from {_shown(url)}", temporary=_is_temporary(status))
        return status, answer

    async def _session(self) -> aiohttp.ClientSession:
        async with self._opening:
            if self._open is None:
                context = await asyncio.to_thread(httpx2.create_ssl_context)  # it reads hundreds of certificates
                self._open = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=context),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=aiohttp.ClientTimeout(total=SECONDS),
                    trust_env=False,
                    auto_decompress=False,
                )
            return self._open


async def _whole(response: aiohttp.ClientResponse, url: str) -> bytes:
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise Fault(f"more than {MAX_BODY_BYTES:,} bytes from {_shown(url)}")
    return bytes(body)


def _is_temporary(status: int) -> bool:
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS


def _shown(url: str) -> str:
    return url.partition("?")[0]
