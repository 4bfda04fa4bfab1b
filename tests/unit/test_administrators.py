"""Who may administer, and that it is asked in every transaction."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from baio_domain.entities import NOWHERE, Act, Caller, DayOfUsage, Origin, Usage, UsedTokens
from baio_domain.errors import (
    BaioError,
    InvalidInput,
    NotAdministrator,
    NotAuthenticated,
    OwnAccount,
    SecondFactorMissing,
    SignedInWithoutCode,
)
from baio_domain.one_time_codes import counter_at, one_time_code
from baio_domain.ports import Transaction
from tests.unit.world import PASSWORD, START, BAiO

ROOT = Origin(operator="root")
THERE = Origin("10.0.0.9", "Firefox", "request-9")


async def enable_second_factor(baio: BAiO, caller: Caller) -> str:
    """Enable it; its secret."""
    secret: str = (await baio.enroll_two_factor(caller, PASSWORD)).secret
    await baio.confirm_two_factor(caller, one_time_code(secret, counter_at(baio.clock.now())))
    return secret


async def signed_in(baio: BAiO, username: str, secret: str | None = None) -> Caller:
    """A caller in a new session, a code after the last one was used."""
    code = None
    if secret is not None:
        await asyncio.sleep(30)
        code = one_time_code(secret, counter_at(baio.clock.now()))
    tokens = await baio.sign_in(username, PASSWORD, code, THERE)
    return replace(baio.tokens.verify(tokens.access, "access"), origin=THERE)


async def administrator(baio: BAiO, username: str = "admin") -> Caller:
    """Somebody who may administer."""
    secret = await enable_second_factor(baio, await baio.someone(username, key=False))
    await baio.grant_admin(username, ROOT)
    return await signed_in(baio, username, secret)


async def acts(baio: BAiO, by: Caller) -> list[type[BaioError] | None]:
    """What each act of an administrator is refused with."""

    async def refusal(act: object) -> type[BaioError] | None:
        try:
            await act  # type: ignore[misc]
        except BaioError as error:
            return type(error)
        return None

    return [
        await refusal(each)
        for each in (
            baio.list_users(by),
            baio.disable_user("kari", by),
            baio.enable_user("kari", by),
            baio.invite(None, by),
            baio.read_audit(by=by),
            baio.read_audit("kari", by=by),
            baio.report_usage(by),
            baio.report_usage(by, username="kari"),
        )
    ]


@pytest.mark.usefixtures("other")
async def test_an_administrator_needs_a_mark_a_second_factor_and_a_session_opened_with_a_code(baio: BAiO) -> None:
    await baio.someone("admin", key=False)
    before = await signed_in(baio, "admin")
    assert set(await acts(baio, before)) == {NotAdministrator}
    await baio.grant_admin("ADMIN", ROOT)
    assert set(await acts(baio, before)) == {SecondFactorMissing}
    secret = await enable_second_factor(baio, before)
    assert set(await acts(baio, before)) == {SignedInWithoutCode}
    after = await signed_in(baio, "admin", secret)
    assert set(await acts(baio, after)) == {None}
    await baio.revoke_admin("admin", ROOT)
    assert set(await acts(baio, after)) == {NotAdministrator}
    assert [(each.act, each.operator) for each in await baio.read_audit("admin")][-1] == (
        Act.ADMINISTRATOR_REVOKED,
        "root",
    )


@pytest.mark.usefixtures("other")
async def test_a_session_that_was_opened_with_an_institution_needs_no_code(baio: BAiO) -> None:
    await baio.someone("admin", key=False)
    await baio.grant_admin("admin", ROOT)
    admin = await signed_in(baio, "admin")

    def open_with_institution(tx: Transaction) -> None:
        identity = tx.identities.add(admin.user_id, "https://login.example.no", "ole", baio.clock.now())
        session = next(each for each in tx.sessions.of(admin.user_id) if each.token_id == admin.session_id)
        tx.identities.opened(session, identity.id, None)

    await baio.database.write(open_with_institution)
    assert set(await acts(baio, admin)) == {None}
    assert set(await acts(baio, await signed_in(baio, "admin"))) == {SecondFactorMissing}


@pytest.mark.usefixtures("other")
async def test_what_is_no_session_administers_nothing(baio: BAiO) -> None:
    admin = await administrator(baio)
    assert set(await acts(baio, replace(admin, session_id=None))) == {NotAdministrator}
    assert set(await acts(baio, replace(admin, session_id="0" * 32))) == {NotAuthenticated}


@pytest.mark.usefixtures("other")
async def test_a_second_factor_that_is_gone_takes_the_power_along(baio: BAiO) -> None:
    secret = await enable_second_factor(baio, await baio.someone("admin", key=False))
    await baio.grant_admin("admin", ROOT)
    admin = await signed_in(baio, "admin", secret)
    await asyncio.sleep(30)
    await baio.disable_two_factor(admin, PASSWORD, one_time_code(secret, counter_at(baio.clock.now())))
    assert set(await acts(baio, admin)) == {SecondFactorMissing}
    await enable_second_factor(baio, admin)
    assert set(await acts(baio, admin)) == {SignedInWithoutCode}


async def test_a_clock_that_was_ahead_shuts_no_administrator_out(baio: BAiO) -> None:
    baio.clock.skipped = timedelta(days=365)
    secret = await enable_second_factor(baio, await baio.someone("admin", key=False))
    await baio.grant_admin("admin", ROOT)
    baio.clock.skipped = timedelta(0)
    assert await baio.list_users(await signed_in(baio, "admin", secret))


async def test_an_administrator_disables_others_and_never_the_own_account(baio: BAiO) -> None:
    admin, _ = await administrator(baio), await baio.someone("kari", key=False)
    kari = await signed_in(baio, "kari")
    done = await baio.disable_user("KARI", admin)
    assert (done.user.username, done.user.disabled_at) == ("kari", baio.clock.now())
    with pytest.raises(NotAuthenticated):
        await baio.get_info(kari)
    with pytest.raises(OwnAccount):
        await baio.disable_user("admin", admin)
    with pytest.raises(InvalidInput):
        await baio.disable_user("nobody", admin)
    assert (await baio.enable_user("kari", admin)).user.disabled_at is None
    entries = [each for each in await baio.read_audit("kari") if each.operator]
    assert [each.act for each in entries] == [Act.ACCOUNT_DISABLED, Act.ACCOUNT_ENABLED]
    assert {(each.operator, each.operator_id, each.address, each.request_id) for each in entries} == {
        ("admin", admin.user_id, THERE.address, THERE.request_id)
    }
    await baio.disable_user("admin", ROOT)  # who works on the server can also undo it
    with pytest.raises(NotAuthenticated):
        await baio.list_users(admin)


async def test_the_export_of_an_account_does_not_say_where_an_administrator_was(baio: BAiO) -> None:
    admin, caller = await administrator(baio), await baio.someone()
    await baio.disable_user("olenor", admin)
    await baio.enable_user("olenor", admin)
    exported = await baio.export_data(caller)
    found = [each async for page in exported.audit for each in page if each.operator]
    assert [(each.operator, each.address) for each in found] == [("admin", "")] * 2
    assert exported.account.administrator is False
    assert (await baio.export_data(admin)).account.administrator is True


async def test_accounts_are_listed_in_pages_that_miss_none(baio: BAiO) -> None:
    admin = await administrator(baio)
    for name in ("ole", "olenor", "kari"):
        await baio.someone(name, key=False)

    async def listed(**asked: object) -> tuple[list[str], int | None]:
        page = await baio.list_users(admin, **asked)
        return [each.user.username for each in page.accounts], page.next

    assert await listed() == (["admin", "ole", "olenor", "kari"], None)
    names, after = await listed(limit=2)
    assert names == ["admin", "ole"]
    await baio.someone("new", key=False)
    assert await listed(after=after, limit=2) == (["olenor", "kari"], 4)
    assert await listed(after=4) == (["new"], None)
    assert await listed(query="OLE") == (["ole", "olenor"], None)
    assert await listed(query="OLE", limit=1) == (["ole"], 2)
    assert await listed(after=2**62) == ([], None)
    page = await baio.list_users(admin, query="admin")
    assert [(each.two_factor, each.user.administrator) for each in page.accounts] == [(True, True)]
    bad = {"query": "a" * 255, "after": -1, "limit": 0}
    for each in (bad, {**bad, "query": "a\0", "limit": 1_001}):
        with pytest.raises(InvalidInput) as refused:
            await baio.list_users(admin, **each)
        assert {error.field for error in refused.value.errors} == set(bad)


async def test_the_audit_is_chosen_by_account_kind_and_day_and_read_on_from_an_entry(baio: BAiO) -> None:
    admin = await administrator(baio)
    everything = await baio.read_audit(by=admin)
    assert await baio.read_audit(by=admin, after=everything[1].id) == everything[2:]
    assert await baio.read_audit(by=admin, act="registered") == everything[:1]
    assert await baio.read_audit(by=admin, first=START.date(), last=START.date()) == everything
    assert await baio.read_audit(by=admin, first=START.date() + timedelta(1)) == []
    assert await baio.read_audit(by=admin, last=START.date() - timedelta(1)) == []
    assert await baio.read_audit(by=admin, last=type(START.date()).max) == everything
    wrong: dict[str, Any] = {"act": "x", "first": START.date(), "last": START.date() - timedelta(1), "after": -1}
    with pytest.raises(InvalidInput) as refused:
        await baio.read_audit(by=admin, **wrong)
    assert {error.field for error in refused.value.errors} == {"act", "first", "after"}
    for nobody in ("nobody", "a\0", "a" * 10_000, ""):
        with pytest.raises(InvalidInput) as refused:
            await baio.read_audit(nobody, by=admin)
        assert [error.field for error in refused.value.errors] == ["username"]


async def test_pages_end_with_the_power_to_read_them(baio: BAiO) -> None:
    admin = await administrator(baio)

    def fill(tx: Transaction) -> None:
        for _ in range(2_000):
            tx.audit.add(Act.SIGNED_OUT, None, NOWHERE, START)

    await baio.database.write(fill)
    pages = baio.pages_of_audit(admin)
    assert len(await anext(pages)) == 1_024
    await baio.revoke_admin("admin", ROOT)
    with pytest.raises(NotAdministrator):
        await anext(pages)


async def test_the_usage_of_all_accounts_is_read_page_by_page(baio: BAiO) -> None:
    admin, caller = await administrator(baio), await baio.someone()
    day = START.date()
    models = [f"model {number:04}" for number in range(1_030)]

    def use(tx: Transaction) -> None:
        for owner in (admin.user_id, caller.user_id):
            for model in models:
                tx.ledger.add(UsedTokens(owner, day, 1, model, Usage(3, 2), estimated=False))

    await baio.database.write(use)
    rows = await baio.report_usage(admin)
    assert [name for name, _ in rows] == ["admin"] * 1_030 + ["olenor"] * 1_030
    assert [each.usage.model for _, each in rows] == models * 2
    name, one = (await baio.report_usage(admin, username="OLENOR"))[0]
    assert (name, one.usage) == ("olenor", DayOfUsage(day, "OpenAI", models[0], 1, 3, 2, estimated=False))
    assert await baio.report_usage(admin, first=day + timedelta(1), last=day + timedelta(2)) == []
    for wrong in ({"first": day, "last": day - timedelta(1)}, {"username": "nobody"}):
        with pytest.raises(InvalidInput):
            await baio.report_usage(admin, **wrong)
