"""Registering, signing in, staying signed in, and the profile."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from dependency_injector import providers

from baio_adapters.memory import MemoryDatabase
from baio_domain.entities import NOWHERE, PROFILE_FIELDS, Caller, Origin, Profile, User
from baio_domain.errors import (
    BadCredentials,
    FieldError,
    Forbidden,
    InvalidInput,
    InvitationInvalid,
    InvitationRequired,
    NotAuthenticated,
    RegistrationClosed,
    TooManyRegistrations,
)
from baio_domain.one_time_codes import counter_at, one_time_code
from baio_domain.use_cases.accounts import RegistrationPolicy
from tests.unit.world import (
    COMMON_PASSWORD,
    HASHING_SECONDS,
    PASSWORD,
    PROFILE,
    START,
    BAiO,
    Link,
    later,
    seconds,
    text_of,
)


async def register(baio: BAiO, *, invitation: str | None = None, origin: Origin = NOWHERE, **changes: str) -> User:
    fields = {"username": "olenor", "email": "ole.normann@example.no", "password": PASSWORD} | changes
    profile = replace(PROFILE, **{name: fields.pop(name) for name in PROFILE_FIELDS if name in fields})
    names = {name: fields[name] for name in ("username", "email", "password")}
    user: User = await baio.register(profile=profile, invitation=invitation, origin=origin, **names)
    return user


async def refused_fields(baio: BAiO, **changes: Any) -> list[str]:
    with pytest.raises(InvalidInput) as refused:
        await register(baio, **changes)
    for error in refused.value.errors:
        assert error.field in refused.value.detail
        assert error.message in refused.value.detail
    return [error.field for error in refused.value.errors]


def disable(baio: BAiO, caller: Caller) -> None:
    # No use case disables an account; an operator does, in the database.
    assert isinstance(baio.database, MemoryDatabase)
    users = baio.database._tables.users
    users[caller.user_id] = replace(users[caller.user_id], disabled_at=START)


def forget(baio: BAiO, caller: Caller) -> None:
    assert isinstance(baio.database, MemoryDatabase)
    del baio.database._tables.users[caller.user_id]


# -- Registering -------------------------------------------------------------------------------------------------------


async def test_an_account_is_stored_as_it_was_stated_and_its_password_is_not(baio: BAiO) -> None:
    user = await register(baio)
    info = await baio.get_info(Caller(user.id))
    assert info == user
    assert (info.username, info.email) == ("olenor", "ole.normann@example.no")
    assert Profile(*(getattr(info, name) for name in PROFILE_FIELDS)) == PROFILE
    assert START < info.created_at <= baio.clock.now()
    assert PASSWORD not in repr(info)
    assert info.password_hash not in repr(info)
    assert PASSWORD not in info.password_hash


async def test_surrounding_spaces_are_dropped_but_never_from_a_password(baio: BAiO) -> None:
    padded: dict[str, Any] = {name: f" \t{getattr(PROFILE, name)}\n" for name in PROFILE_FIELDS}
    user = await register(baio, username=" olenor ", email="\tole@example.no ", password=f" {PASSWORD} ", **padded)
    assert (user.username, user.email) == ("olenor", "ole@example.no")
    assert Profile(*(getattr(user, name) for name in PROFILE_FIELDS)) == PROFILE
    with pytest.raises(BadCredentials):
        await baio.sign_in("olenor", PASSWORD)
    assert (await baio.sign_in("olenor", f" {PASSWORD} ")).access


async def test_r9_the_last_four_may_be_empty(baio: BAiO) -> None:
    empty: dict[str, Any] = {"country": "", "affiliation": "", "position": "", "field_of_study": ""}
    user = await register(baio, **empty)
    assert [getattr(user, name) for name in empty] == ["", "", "", ""]


@pytest.mark.parametrize("field", ["first_name", "last_name", "username", "email"])
@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u3000"])
async def test_r9_a_required_field_must_not_be_blank(field: str, blank: str, baio: BAiO) -> None:
    assert await refused_fields(baio, **{field: blank}) == [field]


@pytest.mark.parametrize("field", [*PROFILE_FIELDS, "username"])
async def test_r9_a_field_has_at_most_150_characters(field: str, baio: BAiO) -> None:
    changes: dict[str, Any] = {field: f" {'å' * 150} "}
    assert await refused_fields(baio, **{field: "å" * 151}) == [field]
    assert getattr(await register(baio, **changes), field) == "å" * 150


async def test_r9_an_email_has_at_most_254_characters(baio: BAiO) -> None:
    longest = f"ole@{'.'.join(['x' * 60] * 4)}.museum"
    assert len(longest) == 254
    assert await refused_fields(baio, email=f"o{longest}") == ["email"]
    assert await refused_fields(baio, email="o" * 254) == ["email"]
    assert (await register(baio, email=longest)).email == longest


@pytest.mark.parametrize("field", [*PROFILE_FIELDS, "username", "email"])
@pytest.mark.parametrize("control", ["\0", "\n", "\x1b", "\u202e"])
async def test_a_field_holds_no_control_characters(field: str, control: str, baio: BAiO) -> None:
    assert await refused_fields(baio, **{field: f"ole{control}@example.no"}) == [field]


EMAILS = ["ole@example.no", "o.l-e+baio@mail.example.co.uk", "ole@münchen.de", "Øle@example.no", "o@e.no"]


@pytest.mark.parametrize("email", EMAILS)
async def test_an_email_that_is_one_is_accepted(email: str, baio: BAiO) -> None:
    assert (await register(baio, email=email)).email == email


@pytest.mark.parametrize(
    "email",
    ["ole", "@example.no", "ole@", "ole@example", "ole@@example.no", "o le@example.no", "ole@.no", "ole@example..no",
     "ole@example.no.", "ole@example.n", f"{'o' * 65}@example.no"],
)  # fmt: skip
async def test_r9_a_malformed_email_is_refused(email: str, baio: BAiO) -> None:
    assert await refused_fields(baio, email=email) == ["email"]


@pytest.mark.parametrize(
    "password",
    ["", "short12", "12345678901", "٣٤٥٦٧٨٩٠", "x" * 1025, COMMON_PASSWORD, "CORRECT Horse", "olenor12", "Normann1",
     "ole.normann", "NORMANN ole", "ole.normann@example.no"],
)  # fmt: skip
async def test_r9_a_weak_password_is_refused(password: str, baio: BAiO) -> None:
    assert await refused_fields(baio, password=password) == ["password"]


@pytest.mark.parametrize("password", ["8 chars!", "x" * 1024, "1234567x", PASSWORD, "    a   ", "passordæøå"])
async def test_r9_a_password_of_8_to_1024_characters_is_accepted(password: str, baio: BAiO) -> None:
    await register(baio, password=password)
    assert (await baio.sign_in("olenor", password)).access


async def test_r9_every_bad_field_is_named_at_once(baio: BAiO) -> None:
    await register(baio)
    bad = {"first_name": " ", "country": "x" * 151, "username": "x" * 151, "email": "nowhere", "password": "12345678"}
    assert sorted(await refused_fields(baio, **bad)) == sorted(bad)


async def test_what_is_taken_is_only_said_when_everything_else_is_right(baio: BAiO) -> None:
    await register(baio, username="olenor")
    taken = {"username": "Olenor", "email": "OLE.NORMANN@EXAMPLE.NO"}
    assert await refused_fields(baio, **taken, password="short") == ["password"]
    assert await refused_fields(baio, **taken) == ["username", "email"]


@pytest.mark.parametrize("username", ["olenor", "OLENOR", " OleNor ", "\uff4flenor"])
async def test_r9_a_username_is_taken_in_any_spelling(username: str, baio: BAiO) -> None:
    await register(baio)
    assert await refused_fields(baio, username=username, email="another@example.no") == ["username"]


async def test_r9_an_email_is_taken_in_any_spelling(baio: BAiO) -> None:
    await register(baio)
    assert await refused_fields(baio, username="another", email="Ole.Normann@EXAMPLE.no") == ["email"]
    assert await refused_fields(baio) == ["username", "email"]


async def test_of_two_who_register_one_name_at_once_one_gets_it(baio: BAiO) -> None:
    registering = [register(baio, email=f"{number}@example.no") for number in range(10)]
    results = await asyncio.gather(*registering, return_exceptions=True)
    assert [type(result) for result in results].count(User) == 1
    refusals = [result for result in results if isinstance(result, InvalidInput)]
    assert [refusal.errors for refusal in refusals] == [(FieldError("username", "is already taken"),)] * 9


async def test_a_password_that_is_refused_is_not_repeated(baio: BAiO) -> None:
    with pytest.raises(InvalidInput) as refused:
        await register(baio, password="olenor12")
    assert "olenor12" not in repr((refused.value, refused.value.errors))


# -- Signing in --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("username", ["olenor", "OLENOR", " OleNor\n"])
async def test_a_sign_in_gives_an_access_and_a_refresh_token(username: str, baio: BAiO) -> None:
    user = await register(baio)
    tokens = await baio.sign_in(username, PASSWORD)
    [session] = await baio.get_sessions(Caller(user.id))
    assert baio.tokens.verify(tokens.access, "access") == Caller(user.id, session.token_id)
    assert baio.tokens.verify(tokens.refresh, "refresh") == Caller(user.id, session.token_id)


async def test_r10_every_failed_sign_in_is_refused_alike_after_the_same_time(baio: BAiO) -> None:
    await register(baio)
    disabled = await register(baio, username="kari", email="kari@example.no")
    disable(baio, Caller(disabled.id))
    refusals = set()
    for username, password in [("olenor", "wrong"), ("nobody", PASSWORD), ("kari", PASSWORD), ("kari", "wrong")]:
        begun = seconds()
        with pytest.raises(BadCredentials) as refused:
            await baio.sign_in(username, password)
        error = refused.value
        refusals.add((error.slug, error.title, error.detail, error.errors, error.retry_after, seconds() - begun))
    assert len({refusal[:-1] for refusal in refusals}) == 1
    times = [refusal[-1] for refusal in refusals]
    assert min(times) == pytest.approx(max(times))


async def test_a_sign_in_renews_a_hash_that_was_made_with_other_parameters(baio: BAiO) -> None:
    user = await register(baio)
    baio.hasher.round = 2
    with pytest.raises(BadCredentials):
        await baio.sign_in("olenor", "wrong")
    assert (await baio.get_info(Caller(user.id))).password_hash == user.password_hash
    await baio.sign_in("olenor", PASSWORD)
    renewed = (await baio.get_info(Caller(user.id))).password_hash
    assert renewed != user.password_hash
    assert not baio.hasher.outdated(renewed)
    await baio.sign_in("olenor", PASSWORD)
    assert (await baio.get_info(Caller(user.id))).password_hash == renewed


async def test_a_password_counts_to_the_letter(baio: BAiO) -> None:
    await register(baio)
    for wrong in (PASSWORD.upper(), PASSWORD + " ", PASSWORD[:-1], ""):
        with pytest.raises(BadCredentials):
            await baio.sign_in("olenor", wrong)


# -- Staying signed in -------------------------------------------------------------------------------------------------


async def test_r20_a_refresh_token_gives_new_access_tokens_and_stays_valid(baio: BAiO) -> None:
    user = await register(baio)
    tokens = await baio.sign_in("olenor", PASSWORD)
    renewed = {tokens.access, await baio.refresh(tokens.refresh), await baio.refresh(tokens.refresh)}
    assert len(renewed) == 3
    for access in renewed:
        await baio.validate_token(access)
        assert baio.tokens.verify(access, "access").user_id == user.id


async def test_r20_an_access_token_does_not_refresh_and_a_refresh_token_gives_no_access(baio: BAiO) -> None:
    await register(baio)
    tokens = await baio.sign_in("olenor", PASSWORD)
    with pytest.raises(NotAuthenticated):
        await baio.refresh(tokens.access)
    with pytest.raises(NotAuthenticated):
        await baio.validate_token(tokens.refresh)


async def test_r20_an_access_token_lives_15_minutes_and_is_renewed_by_its_refresh_token() -> None:
    baio = BAiO()
    await register(baio)
    tokens = await baio.sign_in("olenor", PASSWORD)
    await later(15 * 60 - 1).wait()
    await baio.validate_token(tokens.access)
    await later(1).wait()
    with pytest.raises(NotAuthenticated):
        await baio.validate_token(tokens.access)
    await baio.validate_token(await baio.refresh(tokens.refresh))


@pytest.mark.parametrize("token", ["", "nonsense", "access/1/2999-01-01T00:00:00+00:00"])
async def test_what_is_no_token_is_refused(token: str, baio: BAiO) -> None:
    with pytest.raises(NotAuthenticated):
        await baio.validate_token(token)
    with pytest.raises(NotAuthenticated):
        await baio.refresh(token)


Act = Callable[[BAiO, Caller, int], Awaitable[object]]
ACTS: dict[str, Act] = {
    "getInfo": lambda baio, caller, _: baio.get_info(caller),
    "updateInfo": lambda baio, caller, _: baio.update_info(caller, {"country": "Sweden"}),
    "createConversation": lambda baio, caller, _: baio.create_conversation(caller, ""),
    "getConversation": lambda baio, caller, conversation: baio.get_conversation(caller, conversation),
    "getConversations": lambda baio, caller, _: baio.get_conversations(caller),
    "renameConversation": lambda baio, caller, conversation: baio.rename_conversation(caller, conversation, "x"),
    "deleteConversation": lambda baio, caller, conversation: baio.delete_conversation(caller, conversation),
    "addAPIKey": lambda baio, caller, _: baio.add_api_key(caller, key="sk-x", nickname="x", provider=None),
    "getApiKeys": lambda baio, caller, _: baio.get_api_keys(caller),
    "getLLMProviders": lambda baio, caller, _: baio.get_providers(caller),
    "sendMessage": lambda baio, caller, conversation: baio.ask(caller, conversation),
    "regenerateAnswer": lambda baio, caller, conversation: baio.regenerate(caller, conversation),
    "followAnswer": lambda baio, caller, conversation: baio.follow(caller, conversation),
    "stopAnswer": lambda baio, caller, conversation: baio.stop_answer(caller, conversation),
    "getAnswers": lambda baio, caller, conversation: baio.get_answers(caller, conversation),
}


@pytest.mark.parametrize("shut_out", [disable, forget])
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS.keys())
async def test_an_account_that_is_disabled_or_gone_is_shut_out_with_its_next_request(
    act: Act, shut_out: Callable[[BAiO, Caller], None], baio: BAiO, caller: Caller, conversation: int
) -> None:
    await text_of(await baio.ask(caller, conversation))
    tokens = await baio.sign_in("olenor", PASSWORD)
    shut_out(baio, caller)
    assert isinstance(baio.database, MemoryDatabase)
    before = repr(baio.database._tables)
    with pytest.raises(NotAuthenticated):
        await act(baio, caller, conversation)
    with pytest.raises(NotAuthenticated):
        await baio.validate_token(tokens.access)
    with pytest.raises(NotAuthenticated):
        await baio.refresh(tokens.refresh)
    assert repr(baio.database._tables) == before


# -- The profile -------------------------------------------------------------------------------------------------------


async def test_what_is_not_sent_stays_as_it_is(baio: BAiO) -> None:
    user = await register(baio)
    changed = await baio.update_info(Caller(user.id), {"country": " Sweden ", "position": ""})
    assert changed == replace(user, country="Sweden", position="")
    assert await baio.get_info(Caller(user.id)) == changed
    assert await baio.update_info(Caller(user.id), {}) == changed


async def test_a_profile_is_changed_for_its_owner_alone(baio: BAiO, caller: Caller, other: Caller) -> None:
    before = await baio.get_info(other)
    await baio.update_info(caller, dict.fromkeys(PROFILE_FIELDS, "changed"))
    assert await baio.get_info(other) == before


@pytest.mark.parametrize("field", ["username", "email", "password"])
async def test_r6_what_needs_a_second_factor_is_refused_whatever_else_is_sent(
    field: str, baio: BAiO, caller: Caller
) -> None:
    before = await baio.get_info(caller)
    with pytest.raises(Forbidden) as refused:
        await baio.update_info(caller, {"country": "Sweden", "first_name": "", field: "x"})
    assert [error.field for error in refused.value.errors] == [field]
    assert await baio.get_info(caller) == before


async def test_a_profile_keeps_the_rules_of_the_registration_and_names_every_bad_field(
    baio: BAiO, caller: Caller
) -> None:
    before = await baio.get_info(caller)
    with pytest.raises(InvalidInput) as refused:
        await baio.update_info(caller, {"first_name": " ", "country": "x" * 151, "position": "a\nb"})
    assert [error.field for error in refused.value.errors] == ["first_name", "country", "position"]
    assert await baio.get_info(caller) == before


# -- Readiness ---------------------------------------------------------------------------------------------------------


async def test_requests_can_be_served_while_the_database_is_there_and_no_shutdown_is_under_way() -> None:
    link = Link(MemoryDatabase())
    baio = BAiO(link)
    await baio.check_readiness()
    link.is_cut = True
    with pytest.raises(type(link.failure)):
        await baio.check_readiness()
    link.is_cut = False
    await baio.check_readiness()
    await baio.answering.drain(0)
    with pytest.raises(type(link.failure)):
        await baio.check_readiness()


# Who may register, and how often


def registering(baio: BAiO, **policy: Any) -> BAiO:
    """The same service under this policy."""
    baio._container.registration_policy.override(providers.Object(RegistrationPolicy(**policy)))
    return baio


async def test_registrations_are_limited_per_network_whether_or_not_they_succeed(baio: BAiO) -> None:
    registering(baio, per_hour_and_network=3)
    here, there = Origin("10.0.0.1"), Origin("10.0.0.2")
    await register(baio, origin=here)
    assert await refused_fields(baio, origin=here) == ["username", "email"]
    assert await refused_fields(baio, origin=here, password="short") == [
        "password"
    ]  # costs nothing, and counts nothing
    assert await refused_fields(baio, origin=here) == ["username", "email"]
    with pytest.raises(TooManyRegistrations) as refused:
        await register(baio, username="kari", email="kari@example.no", origin=here)
    assert refused.value.retry_after is not None
    assert 0 < refused.value.retry_after <= 1200
    await register(baio, username="kari", email="kari@example.no", origin=there)


async def test_registrations_are_limited_in_total(baio: BAiO) -> None:
    registering(baio, per_hour_and_network=0, per_hour=2)
    for number in range(2):
        await register(baio, username=f"u{number}", email=f"u{number}@example.no", origin=Origin(f"10.0.0.{number}"))
    with pytest.raises(TooManyRegistrations):
        await register(baio, origin=Origin("10.0.1.1"))
    baio.clock.skipped = timedelta(minutes=30)
    await register(baio, origin=Origin("10.0.1.1"))


async def test_where_registration_is_closed_only_the_administrator_makes_accounts(baio: BAiO) -> None:
    registering(baio, mode="closed")
    with pytest.raises(RegistrationClosed):
        await register(baio)
    made = await baio.create_user(username="olenor", email="ole@example.no", password=PASSWORD, profile=PROFILE)
    assert (await baio.sign_in("olenor", PASSWORD)).access
    assert made.username == "olenor"


async def test_an_invitation_lets_one_person_register_within_seven_days(baio: BAiO) -> None:
    registering(baio, mode="invited")
    with pytest.raises(InvitationRequired):
        await register(baio)
    code = (await baio.invite(None, NOWHERE)).code
    for wrong in ("", code[:-1], code[::-1]):
        with pytest.raises(InvitationInvalid):
            await register(baio, invitation=wrong)
    assert await refused_fields(baio, invitation=code, password="short") == ["password"]
    await register(baio, invitation=code)
    with pytest.raises(InvitationInvalid):
        await register(baio, username="kari", email="kari@example.no", invitation=code)
    late = (await baio.invite(None, NOWHERE)).code
    baio.clock.skipped = timedelta(days=7, seconds=1)
    with pytest.raises(InvitationInvalid):
        await register(baio, username="kari", email="kari@example.no", invitation=late)


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(days=365)])
async def test_an_invitation_of_a_clock_that_was_ahead_does_not_work_until_then(ahead: timedelta, baio: BAiO) -> None:
    registering(baio, mode="invited")
    baio.clock.skipped = ahead
    code = (await baio.invite(None, NOWHERE)).code
    baio.clock.skipped = timedelta(0)
    with pytest.raises(InvitationInvalid):
        await register(baio, invitation=code)
    baio.clock.skipped = ahead + timedelta(minutes=1)
    await register(baio, invitation=code)


async def test_an_invitation_to_an_address_is_for_that_address(baio: BAiO) -> None:
    registering(baio, mode="invited")
    code = (await baio.invite(" Kari@Example.no ", NOWHERE)).code
    with pytest.raises(InvitationInvalid):
        await register(baio, invitation=code)
    await register(baio, username="kari", email="kari@EXAMPLE.no", invitation=code)
    with pytest.raises(InvalidInput):
        await baio.invite("nowhere", NOWHERE)


async def test_of_two_who_register_with_one_invitation_at_once_one_succeeds(baio: BAiO) -> None:
    registering(baio, mode="invited")
    code = (await baio.invite(None, NOWHERE)).code
    both = (register(baio, username=f"u{n}", email=f"u{n}@example.no", invitation=code) for n in range(2))
    done = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(type(each).__name__ for each in done) == ["InvitationInvalid", "User"]


# A renewed hash


async def test_a_renewed_hash_does_not_undo_a_reset_that_happened_meanwhile(baio: BAiO) -> None:
    await register(baio)
    baio.hasher.round = 2
    signing_in = asyncio.create_task(baio.sign_in("olenor", PASSWORD))
    await later(0.15).wait()  # the password is verified, and the new hash is being made
    await baio.database.write(lambda tx: tx.users.save_password_hash(1, "2 tesertfa"))
    await signing_in
    assert (await baio.sign_in("olenor", "aftreset")).access
    with pytest.raises(BadCredentials):
        await baio.sign_in("olenor", PASSWORD)


async def test_a_renewed_hash_leaves_a_pending_link_alone(baio: BAiO) -> None:
    await register(baio)
    link = await baio.offer_password_reset("olenor", NOWHERE)
    baio.hasher.round = 2
    await baio.sign_in("olenor", PASSWORD)
    await baio.redeem_reset(link, "anotherPassword1", NOWHERE)
    assert (await baio.sign_in("olenor", "anotherPassword1")).access


async def test_credentials_are_proved_before_a_new_password_is_hashed(baio: BAiO, caller: Caller) -> None:
    seed = (await baio.enroll_two_factor(caller, PASSWORD)).secret
    code = one_time_code(seed, counter_at(baio.clock.now()))
    await baio.confirm_two_factor(caller, code)
    before = seconds()
    with pytest.raises(BadCredentials):
        await baio.update_credentials(caller, password="wrong", code="1", changes={"password": "anotherPassword1"})
    assert seconds() - before == pytest.approx(HASHING_SECONDS)
