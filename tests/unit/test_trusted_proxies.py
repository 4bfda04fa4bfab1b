"""Whose word about a client's address is taken: a proxy's about the hop that it saw, and nobody else's."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baio_api.middleware import MAX_HOPS, TrustedProxiesMiddleware

PROXIES = ["127.0.0.1", "10.0.0.0/8", "2001:db8:1::/48"]
STRANGER = "198.51.100.7"


def seen(peer: str | None, *lines: str | bytes, proto: tuple[bytes, ...] = ()) -> tuple[str | None, str]:
    """The client's address and the scheme that the application sees, with these lines of X-Forwarded-For."""
    found: list[Any] = []

    async def app(scope: dict[str, Any], *_: object) -> None:
        found.append(scope)

    headers = [(b"x-forwarded-for", line.encode() if isinstance(line, str) else line) for line in lines]
    scope: dict[str, Any] = {
        "type": "http",
        "client": None if peer is None else (peer, 1),
        "scheme": "http",
        "headers": [(b"host", b"x"), *headers, *((b"x-forwarded-proto", each) for each in proto)],
    }
    asyncio.run(TrustedProxiesMiddleware(app, PROXIES)(scope, None, None))  # type: ignore[arg-type]
    [scope] = found
    return None if scope["client"] is None else scope["client"][0], scope["scheme"]


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        # The nearest hop that is not a proxy.
        ((STRANGER,), STRANGER),
        ((f"203.0.113.1, {STRANGER}",), STRANGER),
        ((f"203.0.113.1, {STRANGER}, 10.0.0.2, 10.0.0.3",), STRANGER),
        (("203.0.113.1", f"{STRANGER},10.0.0.2"), STRANGER),
        # Where all are proxies, what the nearest one wrote.
        (("10.66.66.66, 10.1.1.1",), "10.1.1.1"),
        (("10.66.66.66", "127.0.0.1", "10.1.1.1"), "10.1.1.1"),
        (("10.1.1.1",), "10.1.1.1"),
        (("127.0.0.1",), "127.0.0.1"),
        # Forms of an address.
        (("198.51.100.7:5678",), STRANGER),
        (("[2001:db8::1]:443",), "2001:db8::1"),
        (("[2001:db8::1]",), "2001:db8::1"),
        (("2001:db8:0::1",), "2001:db8::1"),
        (("2001:DB8::1, 2001:db8:1::5",), "2001:db8::1"),
        (("fe80::1%eth0",), "fe80::1"),
        (("::ffff:198.51.100.7, ::ffff:10.0.0.2",), STRANGER),
        # What is no address says nothing, and nothing before it counts.
        (("",), "127.0.0.1"),
        ((",",), "127.0.0.1"),
        ((f"{STRANGER}, ",), "127.0.0.1"),
        ((f"{STRANGER}, unknown",), "127.0.0.1"),
        ((f"{STRANGER}, unix:",), "127.0.0.1"),
        ((f"{STRANGER}, 10.0.0.2:x",), "127.0.0.1"),
        ((f"{STRANGER}, 10.0.0.2:123456",), "127.0.0.1"),
        ((f"{STRANGER}, [::1",), "127.0.0.1"),
        ((f"{STRANGER}, []",), "127.0.0.1"),
        ((f'{STRANGER}, "10.0.0.2"',), "127.0.0.1"),
        ((f"{STRANGER}, 010.0.0.2",), "127.0.0.1"),
        ((f"{STRANGER}, 10.0.0.2; {STRANGER}",), "127.0.0.1"),
        ((f"{STRANGER}, unknown, 10.0.0.2",), "10.0.0.2"),
        ((f"{STRANGER}".encode() + b",\xff\xfe", "10.0.0.2"), "10.0.0.2"),
    ],
)
def test_the_client_is_the_nearest_hop_that_is_not_a_proxy(lines: tuple[str | bytes, ...], client: str) -> None:
    assert seen("127.0.0.1", *lines)[0] == client
    assert seen("::ffff:127.0.0.1", *lines)[0] in (client, f"::ffff:{client}")


@pytest.mark.parametrize("peer", ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "", "no address", None])
def test_a_peer_that_is_not_a_proxy_is_not_believed(peer: str | None) -> None:
    assert seen(peer, STRANGER, proto=(b"https",)) == (peer, "http")


@given(st.lists(st.text(max_size=30).map(lambda text: text.encode("utf-8", "replace")), max_size=4))
def test_whatever_a_client_writes_its_address_is_the_one_that_the_proxy_saw(forged: list[bytes]) -> None:
    assert seen("127.0.0.1", *forged, STRANGER)[0] == STRANGER
    assert seen("10.0.0.1", *forged, f"{STRANGER}, 10.0.0.2")[0] == STRANGER
    assert seen("10.0.0.1", b",".join([*forged, STRANGER.encode()]))[0] == STRANGER


def test_no_more_than_the_last_entries_are_looked_at() -> None:
    proxies = ["10.0.0.2"] * (MAX_HOPS - 1)
    assert seen("127.0.0.1", ",".join([STRANGER, *proxies]))[0] == STRANGER
    assert seen("127.0.0.1", ",".join([STRANGER, *proxies, "10.0.0.3"]))[0] == "10.0.0.3"


@pytest.mark.parametrize(
    ("values", "scheme"),
    [((), "http"), ((b"https",), "https"), ((b"https", b" http "), "http"), ((b"gopher",), "http"), ((b"",), "http")],
)
def test_the_scheme_is_the_proxys(values: tuple[bytes, ...], scheme: str) -> None:
    assert seen("127.0.0.1", proto=values) == ("127.0.0.1", scheme)
