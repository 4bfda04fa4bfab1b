"""API tokens: their form, whom they admit, what ends them, and when their use is stored."""

import asyncio
import re
import string
import zlib
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from baio_adapters.memory import MemoryDatabase
from baio_domain.api_tokens import NOTE_SECONDS, checksum, is_well_formed, new_token, token_digest
from baio_domain.entities import Act, Caller, Origin, Scope
from baio_domain.errors import (
    ApiTokenNotFound,
    BadCredentials,
    BaioError,
    InvalidInput,
    NotAuthenticated,
    ScopeMissing,
    SessionRequired,
    TooManyApiTokens,
)
from baio_domain.session_check import session_checked
from tests.unit.world import PASSWORD, START, BAiO, Link

ALL = tuple(Scope)
OPERATOR = Origin(operator="root")


async def make(baio: BAiO, caller: Caller, name: str = "notebook", scopes: tuple[str, ...] = ALL, **more: Any) -> str:
    created = await baio.create_token(caller, name=name, scopes=scopes, password=PASSWORD, **more)
    token: str = created.token
    return token


async def refusal(work: Awaitable[object]) -> BaioError:
    with pytest.raises(BaioError) as refused:
        await work
    return refused.value


# -- Form --------------------------------------------------------------------------------------------------------------


def test_a_token_has_its_prefix_190_random_bits_and_the_crc_of_them() -> None:
    tokens = {new_token() for _ in range(200)}
    assert len(tokens) == 200
    for token in tokens:
        assert re.fullmatch("baio_[0-9A-Za-z]{38}", token)
        value = 0
        for digit in token[37:]:
            value = value * 62 + "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".index(digit)
        assert value == zlib.crc32(token[5:37].encode())
        assert is_well_formed(token)
    assert set("".join(token[5:37] for token in tokens)) == set(string.digits + string.ascii_letters)


def test_a_small_checksum_is_padded() -> None:
    # The CRC-32 of these 32 characters begins with zeros in base 62.
    texts = (f"{number:032}" for number in range(2000))
    padded = [each for each in (checksum(text) for text in texts) if each.startswith("0")]
    assert padded
    assert all(len(each) == 6 for each in padded)


@pytest.mark.parametrize("position", [0, 4, 5, 20, 36, 37, 42])
def test_a_token_with_another_character_anywhere_is_refused(position: int) -> None:
    token = new_token()
    for other in "09azAZ_- \n\N{LATIN SMALL LETTER A WITH ACUTE}\N{ARABIC-INDIC DIGIT ONE}":
        if other != token[position]:
            assert not is_well_formed(token[:position] + other + token[position + 1 :])


@pytest.mark.parametrize("change", [str.upper, str.lower, lambda t: t + "0", lambda t: t[:-1], lambda t: t + "\n"])
def test_a_token_that_was_changed_is_refused(change: Callable[[str], str]) -> None:
    assert not is_well_formed(change(new_token()))


async def test_the_database_is_not_asked_for_a_misspelled_token() -> None:
    link = Link(MemoryDatabase())
    baio = BAiO(link)
    for token in ("baio_", "baio_" + "0" * 38, new_token()[:-1], "baio_" + "a" * 1_000_000):
        assert isinstance(await refusal(baio.admit_token(token, Scope.READ)), NotAuthenticated)
    assert link.reads == 0


# -- Who is admitted ---------------------------------------------------------------------------------------------------


async def test_a_token_admits_its_user_within_its_scopes(baio: BAiO, caller: Caller) -> None:
    token = await make(baio, caller, scopes=("ask", "read", "read"))
    admitted = await baio.admit_token(token, Scope.READ)
    assert (admitted.user_id, admitted.session_id) == (caller.user_id, None)
    assert (await baio.get_info(admitted)).username == "olenor"
    missing = await refusal(baio.admit_token(token, Scope.TOOLS))
    assert isinstance(missing, ScopeMissing)
    assert missing.members == {"scope": "tools"}
    assert isinstance(await refusal(baio.admit_token(token, None)), SessionRequired)
    assert isinstance(await refusal(baio.admit_token(new_token(), Scope.READ)), NotAuthenticated)


async def test_what_is_stored_and_shown_is_not_the_token(baio: BAiO, caller: Caller) -> None:
    token = await make(baio, caller)
    [stored] = await baio.get_tokens(caller)
    assert stored.digest == token_digest(token)
    assert token.endswith(stored.ending)
    assert len(stored.ending) == 4
    assert stored.ending in checksum(token[5:37])
    assert token[5:37] not in repr(stored)
    admitted = await baio.admit_token(token, Scope.READ)
    for shown in (repr(await baio.create_token(caller, name="b", scopes=ALL, password=PASSWORD)), repr(admitted)):
        assert "baio_" not in shown
        assert "digest" not in shown


async def test_the_scope_is_checked_in_the_transaction_too(baio: BAiO, caller: Caller) -> None:
    token = await make(baio, caller, scopes=("read",))
    admitted = await baio.admit_token(token, Scope.READ)
    forged = Caller(caller.user_id, token=type(admitted.token)(admitted.token.digest, Scope.ASK))
    assert isinstance(await refusal(baio.database.read(session_checked(forged, lambda _: None))), ScopeMissing)
    other = await baio.someone("kari")
    forged = Caller(other.user_id, token=admitted.token)
    assert isinstance(await refusal(baio.database.read(session_checked(forged, lambda _: None))), NotAuthenticated)


async def test_every_bad_field_is_named_at_once(baio: BAiO, caller: Caller) -> None:
    def fields(error: BaioError) -> set[str]:
        assert isinstance(error, InvalidInput)
        return {each.field for each in error.errors}

    async def bad(name: str, scopes: tuple[str, ...], expires_in: timedelta | None = None) -> set[str]:
        until = None if expires_in is None else baio.clock.now() + expires_in
        work = baio.create_token(caller, name=name, scopes=scopes, expires_at=until, password=PASSWORD)
        return fields(await refusal(work))

    assert await bad(" \N{ZERO WIDTH SPACE}", (), timedelta(0)) == {"name", "scopes", "expires_at"}
    assert await bad("n" * 101, ("read", "write"), timedelta(days=367)) == {"name", "scopes", "expires_at"}
    assert await bad("a\nb", ("READ",), timedelta(seconds=-1)) == {"name", "scopes", "expires_at"}
    await make(baio, caller, " notebook ")
    assert fields(await refusal(make(baio, caller, "notebook"))) == {"name"}
    await make(baio, await baio.someone("kari"), "notebook")


async def test_creating_needs_the_password_again(baio: BAiO, caller: Caller) -> None:
    work = baio.create_token(caller, name="notebook", scopes=ALL, password="not the password")
    assert isinstance(await refusal(work), BadCredentials)
    assert await baio.get_tokens(caller) == []


async def test_a_user_has_so_many_tokens_and_expired_ones_make_room() -> None:
    baio = BAiO(api_tokens_per_user=2)
    await baio.load_catalogue([])
    caller = await baio.someone(key=False)
    soon = baio.clock.now() + timedelta(hours=1)
    await make(baio, caller, "a", expires_at=soon)
    await make(baio, caller, "b")
    assert isinstance(await refusal(make(baio, caller, "c")), TooManyApiTokens)
    baio.clock.skipped += timedelta(hours=1)
    assert {each.name for each in await baio.get_tokens(caller)} == {"a", "b"}
    await make(baio, caller, "a")
    assert [each.name for each in await baio.get_tokens(caller)] == ["a", "b"]


# -- What ends a token -------------------------------------------------------------------------------------------------


async def test_a_token_expires_to_the_moment(baio: BAiO, caller: Caller) -> None:
    token = await make(baio, caller, expires_at=baio.clock.now() + timedelta(hours=1))
    baio.clock.skipped += timedelta(minutes=59)
    await baio.admit_token(token, Scope.READ)
    baio.clock.skipped += timedelta(minutes=1)
    assert isinstance(await refusal(baio.admit_token(token, Scope.READ)), NotAuthenticated)


@pytest.mark.parametrize(("days", "lasts"), [(30, timedelta(days=30)), (0, None)])
async def test_without_an_end_a_token_lasts_as_long_as_the_server_allows(days: int, lasts: timedelta | None) -> None:
    baio = BAiO(api_token_days=days)
    await baio.load_catalogue([])
    caller = await baio.someone(key=False)
    await make(baio, caller)
    [token] = await baio.get_tokens(caller)
    assert (token.expires_at and token.expires_at - token.created_at) == lasts
    within = baio.clock.now() + (lasts or timedelta(days=36_499))
    await make(baio, caller, "to the end", expires_at=within)
    beyond = await refusal(make(baio, caller, "beyond", expires_at=within + timedelta(days=2)))
    assert [each.field for each in beyond.errors] == ["expires_at"]


End = Callable[[BAiO, Caller], Awaitable[object]]
ENDS: dict[str, End] = {
    "revokeToken": lambda baio, caller: baio.revoke_token(caller, " notebook "),
    "logoutEverywhere": lambda baio, caller: baio.sign_out_everywhere(caller),
    "disableuser": lambda baio, _: baio.disable_user("olenor", OPERATOR),
    "resetpassword": lambda baio, _: baio.reset_password("olenor", "another long password", OPERATOR),
    "deleteAccount": lambda baio, caller: baio.delete_account(caller, PASSWORD),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
async def test_what_ends_a_token_ends_it_with_the_next_request_and_its_streams_within_a_second(end: End) -> None:
    link = Link(MemoryDatabase())
    here, there = BAiO(link), BAiO(link)
    await here.load_catalogue([])
    caller, other = await here.someone(key=False), await here.someone("kari", key=False)
    token, kept = await make(here, caller), await make(here, other)
    async with here.open_stream.streams.running(), there.open_stream.streams.running():
        admitted = [await baio.admit_token(token, Scope.READ) for baio in (here, there)]
        streams = [baio.open_stream(each) for baio, each in zip((here, there), admitted, strict=True)]
        goes_on = there.open_stream(await there.admit_token(kept, Scope.READ))
        await asyncio.sleep(5)
        assert {stream.error for stream in streams} == {None}
        await end(here, caller)
        for baio, each in zip((here, there), admitted, strict=True):
            # A request that was admitted before is refused in its transaction.
            assert isinstance(await refusal(baio.get_info(each)), NotAuthenticated)
            assert isinstance(await refusal(baio.admit_token(token, Scope.READ)), NotAuthenticated)
        await asyncio.sleep(1)
        assert {type(stream.error) for stream in streams} == {NotAuthenticated}
        assert "API token" in streams[0].error.detail
        assert goes_on.error is None
    assert (await there.get_info(await there.admit_token(kept, Scope.READ))).username == "kari"


async def test_a_token_of_an_account_that_was_disabled_does_not_come_back(baio: BAiO, caller: Caller) -> None:
    token = await make(baio, caller)
    await baio.disable_user("olenor", OPERATOR)
    await baio.enable_user("olenor", OPERATOR)
    assert isinstance(await refusal(baio.admit_token(token, Scope.READ)), NotAuthenticated)


async def test_streams_end_when_their_token_expires(baio: BAiO, caller: Caller) -> None:
    token = await make(baio, caller, expires_at=baio.clock.now() + timedelta(minutes=1))
    async with baio.open_stream.streams.running():
        stream = baio.open_stream(await baio.admit_token(token, Scope.READ))
        await asyncio.sleep(58)
        assert stream.error is None
        await asyncio.sleep(3)
        assert isinstance(stream.error, NotAuthenticated)


async def test_a_sign_out_of_one_session_ends_no_token(baio: BAiO, caller: Caller) -> None:
    signed_in = await baio.sign_in("olenor", PASSWORD)
    token = await make(baio, baio.tokens.verify(signed_in.access, "access"))
    await baio.sign_out(signed_in.refresh)
    await baio.admit_token(token, Scope.READ)
    assert isinstance(await refusal(baio.revoke_token(caller, "another")), ApiTokenNotFound)
    assert isinstance(await refusal(baio.revoke_token(await baio.someone("kari"), "notebook")), ApiTokenNotFound)
    await baio.admit_token(token, Scope.READ)


async def test_the_audit_says_what_was_done_to_tokens_and_not_which_they_are(baio: BAiO, caller: Caller) -> None:
    await make(baio, caller, "a secret project", scopes=("tools", "read"))
    await baio.revoke_token(caller, "a secret project")
    entries = [each for each in await baio.read_audit("olenor") if each.act in (Act.TOKEN_CREATED, Act.TOKEN_REVOKED)]
    assert [(each.act, each.note) for each in entries] == [(Act.TOKEN_CREATED, "read tools"), (Act.TOKEN_REVOKED, "")]


# -- When it was last used ---------------------------------------------------------------------------------------------


async def test_the_use_of_a_token_is_stored_in_the_background_and_once_a_minute() -> None:
    link = Link(MemoryDatabase())
    baio = BAiO(link)
    await baio.load_catalogue([])
    caller = await baio.someone(key=False)
    token = await make(baio, caller)

    async def last_used() -> timedelta | None:
        [stored] = await baio.get_tokens(caller)
        at: datetime | None = stored.last_used_at
        return None if at is None else at - START

    async with baio._container.last_uses().running():
        link.held = asyncio.Event()  # nothing can be written, and requests are admitted all the same
        first = baio.clock.now() - START
        await baio.admit_token(token, Scope.READ)
        await asyncio.sleep(NOTE_SECONDS + 1)
        assert await last_used() is None
        link.held.set()
        await asyncio.sleep(0.1)
        assert await last_used() == first
        for _ in range(5):
            await asyncio.sleep(9)
            await baio.admit_token(token, Scope.READ)
        assert await last_used() == first
        await asyncio.sleep(30)
        last = baio.clock.now() - START
        await baio.admit_token(token, Scope.READ)
    assert await last_used() == last  # the end of the process stores it


async def test_a_request_that_is_refused_is_no_use(baio: BAiO, caller: Caller) -> None:
    token = await make(baio, caller, scopes=("read",))
    async with baio._container.last_uses().running():
        for scope in (None, Scope.ASK):
            await refusal(baio.admit_token(token, scope))
    [stored] = await baio.get_tokens(caller)
    assert stored.last_used_at is None


async def test_uses_that_could_not_be_stored_are_no_trouble(baio: BAiO, caller: Caller) -> None:
    link = Link(baio.database)
    other = BAiO(link)
    token = await make(baio, caller)
    async with other._container.last_uses().running():
        await other.admit_token(token, Scope.READ)
        link.is_cut = True
        await asyncio.sleep(NOTE_SECONDS + 1)
        link.is_cut = False
        await other.admit_token(token, Scope.READ)
        await asyncio.sleep(NOTE_SECONDS + 1)
    [stored] = await baio.get_tokens(caller)
    assert stored.last_used_at is not None
