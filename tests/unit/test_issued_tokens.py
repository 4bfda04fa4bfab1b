"""What the issuer of tokens remembers of those that it has verified."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from baio_adapters.tokens import MAX_VERIFIED, JwtIssuer
from baio_domain.entities import Caller, Session
from baio_domain.errors import NotAuthenticated

NOW = datetime.now(UTC)
SESSION = Session(1, 7, NOW, NOW, "", "0" * 32)
OLD, NEW = b"k" * 32, b"n" * 32
"""Two secrets."""


@pytest.fixture
def secrets() -> list[bytes]:
    return [OLD]


@pytest.fixture
def issuer(secrets: list[bytes]) -> JwtIssuer:
    return JwtIssuer(lambda: tuple(secrets), access_seconds=60, refresh_seconds=60)


def issued(issuer: JwtIssuer, until: datetime | None = None) -> str:
    return issuer.issue(SESSION, "access", until or datetime.now(UTC) + timedelta(minutes=1))


def test_a_token_is_verified_once_and_counts_only_as_its_own_kind(issuer: JwtIssuer) -> None:
    token = issued(issuer)
    first = issuer.verify(token, "access")
    assert first == Caller(7, "0" * 32)
    assert issuer.verify(token, "access") is first
    with pytest.raises(NotAuthenticated):
        issuer.verify(token, "refresh")
    with pytest.raises(NotAuthenticated):
        issuer.verify(token[:-1] + ("A" if token[-1] != "A" else "B"), "access")


def test_a_remembered_token_ends_when_it_says(issuer: JwtIssuer) -> None:
    token = issued(issuer, datetime.now(UTC) + timedelta(seconds=2))
    issuer.verify(token, "access")
    [(until, _)] = issuer._verified.values()
    while time.time() < until:
        time.sleep(0.05)
    with pytest.raises(NotAuthenticated, match="has expired"):
        issuer.verify(token, "access")


def test_an_exchanged_secret_forgets_all_tokens_that_it_has_signed(issuer: JwtIssuer, secrets: list[bytes]) -> None:
    token = issued(issuer)
    issuer.verify(token, "access")
    secrets[:] = [NEW, OLD]
    assert issuer.verify(token, "access").user_id == 7
    secrets[:] = [NEW]
    with pytest.raises(NotAuthenticated):
        issuer.verify(token, "access")


def test_only_so_many_tokens_are_remembered_and_the_oldest_is_forgotten_first(issuer: JwtIssuer) -> None:
    tokens = [issued(issuer) for _ in range(2)]
    issuer.verify(tokens[0], "access")
    oldest = next(iter(issuer._verified))
    issuer._verified.update({("access", b"%d" % number): (0, Caller(1)) for number in range(MAX_VERIFIED - 1)})
    issuer.verify(tokens[1], "access")
    assert len(issuer._verified) == MAX_VERIFIED
    assert oldest not in issuer._verified
