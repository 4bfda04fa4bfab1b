"""Sessions: opened by a sign-in, used by a refresh, ended by those who have the right to."""

from datetime import timedelta

import pytest

from baio_domain.entities import NOWHERE, Act, Caller, Origin
from baio_domain.errors import BaioError, InvalidInput, NotAuthenticated
from tests.unit.world import PASSWORD, START, BAiO, text_of

HERE = Origin("10.0.0.1", "Firefox", "request-1")


async def signed_in(baio: BAiO, username: str = "olenor", origin: Origin = HERE) -> tuple[Caller, str]:
    """A caller in a new session, and its refresh token."""
    tokens = await baio.sign_in(username, PASSWORD, None, origin)
    return baio.tokens.verify(tokens.access, "access"), tokens.refresh


async def shut_out(baio: BAiO, caller: Caller, refresh: str) -> None:
    """Nothing of the session is worth anything any more."""
    with pytest.raises(NotAuthenticated):
        await baio.get_info(caller)
    with pytest.raises(NotAuthenticated):
        await baio.refresh(refresh)


async def acts(baio: BAiO, username: str = "olenor") -> list[tuple[Act, str, str]]:
    """What the audit says of the account: act, address and note."""
    return [(entry.act, entry.address, entry.note) for entry in await baio.read_audit(username)]


@pytest.mark.usefixtures("caller")
async def test_each_sign_in_opens_a_session_that_says_when_and_with_what(baio: BAiO) -> None:
    first, _ = await signed_in(baio)
    second, _ = await signed_in(baio, origin=Origin("10.0.0.2", "x" * 1000, "request-2"))
    sessions = await baio.get_sessions(second)
    assert [session.token_id for session in sessions] == [second.session_id, first.session_id]
    assert [session.user_agent for session in sessions] == ["x" * 300, "Firefox"]
    assert all(session.created_at == session.last_used_at > START for session in sessions)


async def test_a_session_is_used_when_an_access_token_is_got_from_it(baio: BAiO, caller: Caller, other: Caller) -> None:
    await baio.sign_in("kari", PASSWORD)
    mine, refresh = await signed_in(baio)
    baio.clock.skipped = timedelta(hours=3)
    await baio.get_info(mine)
    [session] = await baio.get_sessions(mine)
    assert session.last_used_at == session.created_at
    await baio.refresh(refresh)
    [session] = await baio.get_sessions(mine)
    assert session.last_used_at - session.created_at >= timedelta(hours=3)
    [theirs] = await baio.get_sessions(other)
    assert theirs.last_used_at == theirs.created_at
    assert caller.session_id is None


async def test_a_session_ends_when_it_is_not_used_for_a_day(baio: BAiO, caller: Caller) -> None:
    mine, refresh = await signed_in(baio)
    baio.clock.skipped = timedelta(hours=23)
    await baio.refresh(refresh)
    baio.clock.skipped = timedelta(hours=25)
    with pytest.raises(NotAuthenticated):  # the token's own day is over, the session goes on for those that live longer
        await baio.refresh(refresh)
    assert len(await baio.get_sessions(mine)) == 1
    baio.clock.skipped = timedelta(hours=48)
    assert await baio.get_sessions(caller) == []


async def test_no_token_outlives_its_sessions_30_days(baio: BAiO, caller: Caller) -> None:
    tokens = await baio.sign_in("olenor", PASSWORD)
    session = (await baio.get_sessions(caller))[0]
    end = session.created_at + timedelta(days=30)
    assert baio.tokens.issue(session, "refresh", end - timedelta(days=29, hours=12)) != tokens.refresh
    baio.clock.skipped = timedelta(days=30) - timedelta(minutes=5)
    late = baio.tokens.issue(session, "access", end)
    baio.tokens.verify(late, "access")
    baio.clock.skipped = timedelta(days=30)
    with pytest.raises(NotAuthenticated):
        baio.tokens.verify(late, "access")


async def test_the_next_sign_in_of_anybody_clears_away_what_is_over(baio: BAiO, caller: Caller, other: Caller) -> None:
    await baio.sign_in("olenor", PASSWORD)
    baio.clock.skipped = timedelta(days=2)
    await baio.sign_in("kari", PASSWORD)
    assert len(await baio.database.read(lambda tx: tx.sessions.of(other.user_id))) == 1
    assert await baio.database.read(lambda tx: tx.sessions.of(caller.user_id)) == []


@pytest.mark.usefixtures("caller")
async def test_a_sign_out_ends_that_session_alone_and_twice_is_no_error(baio: BAiO) -> None:
    first, refresh = await signed_in(baio)
    second, _ = await signed_in(baio)
    for _ in range(2):
        await baio.sign_out(refresh, HERE)
    await shut_out(baio, first, refresh)
    assert [session.token_id for session in await baio.get_sessions(second)] == [second.session_id]
    assert (await acts(baio)).count((Act.SIGNED_OUT, "10.0.0.1", "")) == 1


@pytest.mark.parametrize("kind", ["nonsense", "access"])
async def test_only_a_refresh_token_signs_out(kind: str, baio: BAiO, caller: Caller) -> None:
    tokens = await baio.sign_in("olenor", PASSWORD)
    with pytest.raises(InvalidInput, match="refresh"):
        await baio.sign_out(tokens.access if kind == "access" else kind)
    assert len(await baio.get_sessions(caller)) == 1


@pytest.mark.usefixtures("caller", "other")
async def test_signing_out_everywhere_ends_all_of_ones_own_and_nobody_elses(baio: BAiO) -> None:
    sessions = [await signed_in(baio) for _ in range(3)]
    theirs, _ = await signed_in(baio, "kari")
    await baio.sign_out_everywhere(sessions[1][0])
    for mine, refresh in sessions:
        await shut_out(baio, mine, refresh)
    await baio.get_info(theirs)


async def test_a_running_answer_goes_on_when_its_session_ends(baio: BAiO, caller: Caller, conversation: int) -> None:
    mine, refresh = await signed_in(baio)
    answer = await baio.ask(mine, conversation)
    await baio.sign_out(refresh)
    assert await text_of(answer)
    assert len(await baio.messages(caller, conversation)) == 2


@pytest.mark.parametrize("act", ["disable", "reset", "link", "two-factor", "delete"])
async def test_what_the_administrator_or_the_owner_does_ends_every_session(
    act: str, baio: BAiO, caller: Caller
) -> None:
    sessions = [await signed_in(baio) for _ in range(2)]
    root = Origin(operator="root")
    if act == "disable":
        await baio.disable_user("olenor", root)
        await baio.enable_user("olenor", root)
    elif act == "reset":
        await baio.reset_password("olenor", "enHeltAnnenSetning7", root)
    elif act == "link":
        secret = await baio.offer_password_reset("olenor", root)
        await baio.redeem_reset(secret, "enHeltAnnenSetning7", HERE)
    elif act == "two-factor":
        await baio.enroll_two_factor(caller, PASSWORD)
        await baio.reset_two_factor("olenor", root)
    else:
        await baio.delete_account(caller, PASSWORD)
    for mine, refresh in sessions:
        await shut_out(baio, mine, refresh)


@pytest.mark.usefixtures("caller")
async def test_a_link_sets_a_password_once_within_an_hour_by_the_rules(baio: BAiO) -> None:
    root = Origin(operator="root")
    stale = await baio.offer_password_reset("olenor", root)
    secret = await baio.offer_password_reset("OLENOR", root)
    tried: list[BaioError] = []
    for token, password in [(stale, "enHeltAnnenSetning7"), ("x", "enHeltAnnenSetning7"), (secret, "olenor123")]:
        with pytest.raises(InvalidInput) as refused:
            await baio.redeem_reset(token, password, NOWHERE)
        tried.append(refused.value)
    assert [error.errors[0].field for error in tried] == ["token", "token", "password"]
    baio.clock.skipped = timedelta(hours=1, seconds=1)
    with pytest.raises(InvalidInput, match="token"):
        await baio.redeem_reset(secret, "enHeltAnnenSetning7", NOWHERE)
    baio.clock.skipped = timedelta(minutes=59)
    await baio.redeem_reset(secret, "enHeltAnnenSetning7", HERE)
    with pytest.raises(InvalidInput, match="token"):
        await baio.redeem_reset(secret, "enTredjeSetning77", NOWHERE)
    await baio.sign_in("olenor", "enHeltAnnenSetning7")
    assert (Act.PASSWORD_RESET, "10.0.0.1", "") in await acts(baio)


@pytest.mark.usefixtures("caller")
async def test_a_sign_in_half_a_year_later_needs_no_other_password(baio: BAiO) -> None:
    baio.clock.skipped = timedelta(days=183)
    await signed_in(baio)


@pytest.mark.usefixtures("caller")
async def test_the_audit_is_kept_for_180_days(baio: BAiO) -> None:
    await baio.sign_in("olenor", PASSWORD)
    baio.clock.skipped = timedelta(days=179)
    await baio.sign_in("olenor", PASSWORD)
    assert len(await acts(baio)) == 4
    baio.clock.skipped = timedelta(days=181)
    await baio.sign_in("olenor", PASSWORD)
    assert [act for act, _, _ in await acts(baio)] == [Act.SIGNED_IN, Act.SIGNED_IN]
