"""Signing in with institutions by the rules, in a world whose time leaps."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, final

import pytest
from dependency_injector import providers

from baio_domain.entities import NOWHERE, Act, Caller, Origin
from baio_domain.errors import (
    AccountDisabled,
    AccountRequired,
    BadCredentials,
    EmailTaken,
    IdentityNotAllowed,
    InstitutionUnavailable,
    LastWayIn,
    PasswordSignInOff,
    RecentSignInRequired,
    RegistrationClosed,
    SignInExpired,
    TooManyIdentities,
    TooManySignIns,
)
from baio_domain.identities import (
    MAX_IDENTITIES,
    ClaimNames,
    Claims,
    Institution,
    Logout,
    challenge_of,
    return_to_problems,
)
from baio_domain.ports import IdentityProviders
from tests.unit.world import PASSWORD, PROFILE, BAiO

ISSUER = "https://login.example.no"
UNI = Institution("uni", "University", ISSUER)
OTHER = Institution("other", "Other", "https://login.example.org")
VERIFIER = "v" * 43
RETURN_TO = "http://localhost:3000/in"


@final
class Honest(IdentityProviders):
    """Institutions where the code is the subject, and which say of each what ``people`` has."""

    def __init__(self) -> None:
        self.institutions_now: list[Institution] = [UNI, OTHER]
        self.people: dict[str, dict[str, object]] = {}
        self.down = False

    @property
    def institutions(self) -> Sequence[Institution]:
        """Those of now."""
        return self.institutions_now

    async def sign_in_url(self, institution: Institution, *, state: str, nonce: str, challenge: str) -> str:
        """An address that ends in the state."""
        if self.down:
            raise InstitutionUnavailable
        return f"{institution.issuer}/{nonce}/{challenge}/{state}"

    async def claims(
        self, institution: Institution, *, code: str, issuer: str | None, nonce: str, verifier: str
    ) -> Claims:
        """Whatever is known of the person."""
        del issuer, nonce, verifier
        return Claims(institution.issuer, code, None, self.people.get(code, {}))

    async def logout(self, token: str) -> Logout:
        """Nobody signs out here."""
        raise NotImplementedError(token)

    async def aclose(self) -> None:
        """Nothing is open."""


class World(BAiO):
    """A world with institutions."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.there = Honest()
        self._container.identity_providers.override(providers.Object(self.there))

    async def begin_there(self, provider: str = "uni", origin: Origin = NOWHERE) -> str:
        """The state of a sign-in that has begun."""
        url: str = await self.start_sign_in(provider, RETURN_TO, challenge_of(VERIFIER), origin)
        return url.rpartition("/")[2]

    async def come_back(self, subject: str, provider: str = "uni") -> str:
        """What is behind the ``#``."""
        state = await self.begin_there(provider)
        back: str = await self.finish_sign_in(state=state, code=subject, issuer=None, error="")
        return back.partition("#")[2]

    async def ticket(self, subject: str, provider: str = "uni") -> str:
        """A ticket."""
        return (await self.come_back(subject, provider)).removeprefix("ticket=")

    async def enter(self, subject: str, provider: str = "uni") -> Caller:
        """Somebody who is signed in."""
        tokens = await self.redeem_sign_in(await self.ticket(subject, provider), VERIFIER)
        return self.tokens.verify(tokens.access, "access")

    async def failures(self) -> list[tuple[int | None, str]]:
        """The failures of the audit: whose, and why."""
        return [(each.user_id, each.note) for each in await self.read_audit() if each.act is Act.SIGN_IN_FAILED]


@pytest.fixture
def world() -> World:
    return World()


# -- Times and limits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("minutes", "in_time"), [(9.9, True), (10.1, False), (-1.0, False)])
async def test_somebody_has_ten_minutes_at_the_institution(world: World, minutes: float, in_time: bool) -> None:  # noqa: FBT001 - a parameter
    state = await world.begin_there()
    world.clock.skipped = timedelta(minutes=minutes)
    if in_time:
        assert await world.finish_sign_in(state=state, code="ole", issuer=None, error="")
    else:
        with pytest.raises(SignInExpired):
            await world.finish_sign_in(state=state, code="ole", issuer=None, error="")


@pytest.mark.parametrize(("seconds", "in_time"), [(59, True), (61, False), (-61, False)])
async def test_a_ticket_works_for_a_minute(world: World, seconds: int, in_time: bool) -> None:  # noqa: FBT001 - a parameter
    ticket = await world.ticket("ole")
    world.clock.skipped = timedelta(seconds=seconds)
    if in_time:
        assert await world.redeem_sign_in(ticket, VERIFIER)
    else:
        with pytest.raises(SignInExpired):
            await world.redeem_sign_in(ticket, VERIFIER)


@pytest.mark.parametrize(("seconds", "in_time"), [(299, True), (301, False)])
async def test_a_sign_in_proves_for_five_minutes_who_an_account_without_password_is(
    world: World,
    seconds: int,
    in_time: bool,  # noqa: FBT001 - a parameter
) -> None:
    caller = await world.enter("ole")
    world.clock.skipped = timedelta(seconds=seconds)
    if in_time:
        assert await world.enroll_two_factor(caller, "")
    else:
        with pytest.raises(RecentSignInRequired):
            await world.enroll_two_factor(caller, "")
        tokens = await world.redeem_sign_in(await world.ticket("ole"), VERIFIER)
        assert await world.enroll_two_factor(world.tokens.verify(tokens.access, "access"), "")


async def test_a_session_that_was_not_opened_at_the_institution_proves_nothing(world: World) -> None:
    caller = await world.enter("ole")
    # As `baio chat` acts, on the machine of the server.
    with pytest.raises(RecentSignInRequired):
        await world.delete_account(Caller(caller.user_id), "")


async def test_a_network_begins_a_thousand_sign_ins_at_once_and_then_one_each_second(world: World) -> None:
    for _ in range(1000):
        await world.begin_there(origin=Origin("2001:db8::1"))
    for address in ("2001:db8::1", "2001:db8:0:0:ffff::2"):
        with pytest.raises(TooManySignIns) as refusal:
            await world.begin_there(origin=Origin(address))
        assert 0 < (refusal.value.retry_after or 0) <= 1
    assert await world.begin_there(origin=Origin("192.0.2.1"))
    world.clock.skipped = timedelta(seconds=1.1)
    assert await world.begin_there(origin=Origin("2001:db8::1"))


async def test_what_cannot_begin_is_not_stored(world: World) -> None:
    world.there.down = True
    with pytest.raises(InstitutionUnavailable):
        await world.begin_there()
    assert await world.database.read(lambda tx: tx.sign_ins.count()) == 0


async def test_an_account_has_so_many_identities_at_most(world: World) -> None:
    caller = await world.enter("0")
    for number in range(1, MAX_IDENTITIES):
        await world.link_identity(caller, await world.ticket(str(number)), VERIFIER, password="")
    ticket = await world.ticket("too many")
    with pytest.raises(TooManyIdentities):
        await world.link_identity(caller, ticket, VERIFIER, password="")
    assert await world.redeem_sign_in(ticket, VERIFIER)  # it was not used up


# -- Who gets in -------------------------------------------------------------------------------------------------------


async def test_where_no_accounts_are_made_only_who_has_one_gets_in(world: World) -> None:
    await world.enter("ole")
    world.there.institutions_now = [replace(UNI, new_accounts=False)]
    await world.enter("ole")
    with pytest.raises(AccountRequired):
        await world.enter("kari")
    assert await world.failures() == [(None, "account-required")]


async def test_a_disabled_account_does_not_get_in(world: World) -> None:
    caller = await world.enter("ole")
    username = (await world.get_info(caller)).username
    await world.disable_user(username, NOWHERE)
    with pytest.raises(AccountDisabled):
        await world.enter("ole")
    assert await world.failures() == [(caller.user_id, "account-disabled")]


async def test_who_is_in_no_group_that_is_allowed_does_not_get_in_any_more(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.enter("ole")
    world.there.institutions_now = [replace(UNI, allowed={"groups": frozenset({"bio"})})]
    world.there.people["ole"] = {"name": "Ole", "roles": ["secret role"]}
    assert await world.come_back("ole") == f"error={IdentityNotAllowed.slug}"
    # The administrator learns which claims there are, and nothing that they say.
    assert caplog.messages == ["sign-in with uni refused: no allowed value of groups; it sends name, roles"]
    world.there.people["ole"] = {"groups": ["chem", "bio"]}
    await world.enter("ole")


async def test_an_institution_that_is_taken_out_signs_nobody_in_and_is_no_way_in(world: World) -> None:
    caller = await world.enter("ole")
    await world.link_identity(caller, await world.ticket("ole", "other"), VERIFIER, password="")
    [first, second] = [each.identity.id for each in await world.get_identities(caller)]
    state = await world.begin_there()
    world.there.institutions_now = [OTHER]
    with pytest.raises(SignInExpired):
        await world.finish_sign_in(state=state, code="ole", issuer=None, error="")
    with pytest.raises(LastWayIn):
        await world.unlink_identity(caller, second, password="")
    await world.unlink_identity(caller, first, password="")
    assert [each.institution for each in await world.get_identities(caller)] == [OTHER]


async def test_of_two_unlinked_at_once_one_stays() -> None:
    world = World(password_sign_in="off")
    user = await world.create_user(username="olenor", email="ole@example.no", password=PASSWORD, profile=PROFILE)
    caller = Caller(user.id)
    for provider in ("uni", "other"):
        await world.link_identity(caller, await world.ticket("ole", provider), VERIFIER, password=PASSWORD)
    both = [each.identity.id for each in await world.get_identities(caller)]
    unlinking = (world.unlink_identity(caller, each, password=PASSWORD) for each in both)
    done = await asyncio.gather(*unlinking, return_exceptions=True)
    assert {type(each) for each in done} == {type(None), LastWayIn}


async def test_a_password_that_nobody_may_sign_in_with_is_no_way_in() -> None:
    for switch, kept in (("on", False), ("off", True)):
        world = World(password_sign_in=switch)
        profile = {"email": "ole@example.no", "profile": PROFILE}
        user = await world.create_user(username="olenor", password=PASSWORD, **profile)
        caller = Caller(user.id)
        await world.link_identity(caller, await world.ticket("ole"), VERIFIER, password=PASSWORD)
        [linked] = await world.get_identities(caller)
        if kept:
            with pytest.raises(LastWayIn):
                await world.unlink_identity(caller, linked.identity.id, password=PASSWORD)
        else:
            await world.unlink_identity(caller, linked.identity.id, password=PASSWORD)


async def test_with_passwords_off_nobody_signs_in_or_registers_with_one_and_the_administrator_can_set_one() -> None:
    world = World(password_sign_in="off")
    assert not (await world.get_sign_in_providers()).passwords
    await world.create_user(username="olenor", email="ole@example.no", password=PASSWORD, profile=PROFILE)
    for password in (PASSWORD, "wrong"):
        with pytest.raises(PasswordSignInOff):
            await world.sign_in("olenor", password)
    with pytest.raises(RegistrationClosed):
        await world.register(username="kari", email="kari@example.no", password=PASSWORD, profile=PROFILE)
    await world.enter("ole")
    await world.reset_password("olenor", f"{PASSWORD}2", NOWHERE)
    on = World(database=world.database)
    assert await on.sign_in("olenor", f"{PASSWORD}2")


async def test_an_administrator_gives_a_password_to_an_account_without_one(world: World) -> None:
    caller = await world.enter("ole")
    username = (await world.get_info(caller)).username
    await world.reset_password(username, PASSWORD, NOWHERE)
    tokens = await world.sign_in(username, PASSWORD)
    with pytest.raises(BadCredentials):
        await world.enroll_two_factor(world.tokens.verify(tokens.access, "access"), "")


async def test_names_and_addresses_that_others_have_are_not_taken(world: World) -> None:
    await world.someone("olenor", key=False)
    world.there.people["1"] = {"preferred_username": "OleNor", "email": "new@example.no"}
    world.there.people["2"] = {"preferred_username": "x", "email": "OLENOR@example.no", "email_verified": True}
    assert (await world.get_info(await world.enter("1"))).username == "OleNor2"
    with pytest.raises(EmailTaken):
        await world.enter("2")
    assert await world.failures() == [(None, "email-taken")]


async def test_when_all_names_are_taken_a_random_one_is_found(world: World) -> None:
    for number in range(15):
        world.there.people[str(number)] = {"preferred_username": "ole"}
    names = [(await world.get_info(await world.enter(str(number)))).username for number in range(15)]
    assert names[:9] == ["ole", *(f"ole{number}" for number in range(2, 10))]
    assert len(set(names)) == 15


# -- The rules about what an institution says --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "admitted"),
    [
        ({"groups": ["a", "bio"]}, True),
        ({"groups": "bio"}, True),
        ({"realm_access": {"roles": ["bio-user"]}}, True),
        ({"https://n.example/claims/affiliation": ["employee@uib.no"]}, True),
        ({"groups": "bio chem"}, False),
        ({"groups": ["Bio", "bio ", " bio"]}, False),
        ({"groups": [["bio"], {"bio": "bio"}, True, None]}, False),
        ({"groups": {"bio": "bio"}}, False),
        ({"realm_access": ["bio-user"]}, False),
        ({"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://x"}}}, False),
        ({}, False),
    ],
)
def test_one_value_of_one_claim_is_needed_where_there_is_a_list(values: dict[str, object], admitted: bool) -> None:  # noqa: FBT001 - a parameter
    allowed = {
        "groups": frozenset({"bio"}),
        "realm_access.roles": frozenset({"bio-user"}),
        "https://n.example/claims/affiliation": frozenset({"employee@uib.no"}),
    }
    claims = Claims(ISSUER, "ole", None, values)
    assert replace(UNI, allowed=allowed).admits(claims) is admitted
    assert UNI.admits(claims)


@pytest.mark.parametrize(
    ("values", "made"),
    [
        ({"given_name": "Ole", "family_name": "Normann", "name": "x"}, ("Ole", "Ole", "Normann", "")),
        ({"name": "Ole Einar Bjørndalen"}, ("Ole Einar", "Ole Einar", "Bjørndalen", "")),
        ({"name": "孔丘"}, ("孔丘", "孔丘", "", "")),
        ({"family_name": "Suharto"}, ("Suharto", "Suharto", "Suharto", "")),
        ({"email": "ole@example.no"}, ("ole", "ole", "", "ole@example.no")),
        ({"email": "ole@example.no\nBcc: x"}, ("user", "user", "", "")),
        ({"email": f"{'x' * 64}@{'y' * 200}.no"}, ("user", "user", "", "")),
        ({"preferred_username": "@uib.no"}, ("user", "user", "", "")),
        ({"preferred_username": "\u202eadmin\x00"}, ("admin", "admin", "", "")),
    ],
)
def test_an_account_is_made_of_what_there_is(values: dict[str, object], made: tuple[str, ...]) -> None:
    found = UNI.assertion(Claims(ISSUER, "ole", None, values))
    assert (found.username, found.first_name, found.last_name, found.email) == made
    assert found.stored_email


def test_claims_have_the_names_that_the_administrator_says() -> None:
    names = ClaimNames(username="https://n.example/eppn", email="contact.mail", first_name="a.b")
    values: dict[str, object] = {"https://n.example/eppn": "ole@uib.no", "contact": {"mail": "o@uib.no"}, "a.b": "Ole"}
    found = replace(UNI, claims=names).assertion(Claims(ISSUER, "ole", None, values))
    assert (found.username, found.email, found.first_name) == ("ole", "o@uib.no", "Ole")


@pytest.mark.parametrize(
    ("origin", "return_to", "allowed"),
    [
        ("https://baio.example.org", "https://baio.example.org/x", True),
        ("https://baio.example.org:443", "https://BAIO.example.org/x", True),
        ("https://baio.example.org", "https://baio.example.org:443", True),
        ("http://baio.example.org", "http://baio.example.org:80/?a#", False),
        ("https://baio.example.org", "http://baio.example.org/", False),
        ("https://baio.example.org", "https://baio.example.org:8443/", False),
        ("https://baio.example.org", "https://baio.example.org.evil.example/", False),
        ("https://baio.example.org:4", "https://baio.example.org:43/", False),
        ("*", "https://evil.example/", False),
        ("*", "http://localhost:1/", True),
    ],
)
def test_a_browser_goes_back_to_an_origin_to_the_letter(origin: str, return_to: str, allowed: bool) -> None:  # noqa: FBT001 - a parameter
    assert bool(list(return_to_problems(return_to, [origin]))) is not allowed
