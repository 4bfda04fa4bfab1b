"""Guessing passwords: limited for an account at an address, for an address, and as a whole. Nobody is locked out."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baio_domain.entities import Act, Caller, Origin, SecondFactor
from baio_domain.errors import BadCredentials, BaioError, SecondFactorRequired, TooManyAttempts
from baio_domain.ports import Transaction
from baio_domain.rate_limits import NETWORK_LIMIT, PASSWORD_LIMIT, SERVICE_LIMIT, RateLimit
from tests.unit.world import HASHING_SECONDS, PASSWORD, BAiO, later, seconds

NOW = datetime(2024, 1, 15, tzinfo=UTC)
HERE, THERE = Origin("10.0.0.1"), Origin("10.0.0.2")


async def sign_in(baio: BAiO, password: str, origin: Origin = HERE, username: str = "olenor") -> BaioError | None:
    """Sign in; the error, or None."""
    try:
        await baio.sign_in(username, password, None, origin)
    except BaioError as error:
        return error
    return None


async def fail(baio: BAiO, times: int, origin: Origin = HERE, username: str = "olenor") -> None:
    for _ in range(times):
        assert isinstance(await sign_in(baio, "wrong", origin, username), BadCredentials)


@given(st.integers(1, 20), st.integers(1, 600), st.lists(st.integers(0, 1200), max_size=60))
def test_in_any_time_there_are_never_more_failures_than_allowed(burst: int, interval: int, pauses: list[int]) -> None:
    limit = RateLimit(burst, timedelta(seconds=interval))
    until, now, failures = None, NOW, list[datetime]()
    for pause in pauses:
        now += timedelta(seconds=pause)
        wait = limit.wait(until, now)
        now += wait
        assert limit.wait(until, now) == timedelta(0)  # what it says to wait is enough
        until = limit.after_failure(until, now)
        failures.append(now)
    for first, start in enumerate(failures):
        for last in range(first, len(failures)):
            seconds = (failures[last] - start).total_seconds()
            assert last - first + 1 <= burst + seconds // interval


@pytest.mark.usefixtures("caller")
async def test_an_account_is_guessed_at_20_times_from_one_address_and_then_once_a_minute(baio: BAiO) -> None:
    await fail(baio, 20)
    for password in ("wrong", PASSWORD):
        refused = await sign_in(baio, password)
        assert isinstance(refused, TooManyAttempts)
        assert refused.retry_after == pytest.approx(60, abs=5)
    baio.clock.skipped = timedelta(seconds=60)
    await fail(baio, 1)
    assert isinstance(await sign_in(baio, PASSWORD), TooManyAttempts)


@pytest.mark.usefixtures("caller")
async def test_the_right_password_from_elsewhere_still_works(baio: BAiO) -> None:
    await fail(baio, 20)
    assert await sign_in(baio, PASSWORD, THERE) is None
    assert await sign_in(baio, PASSWORD, Origin("2001:db8::1")) is None


@pytest.mark.usefixtures("caller")
async def test_a_right_password_forgets_the_wrong_ones(baio: BAiO) -> None:
    for _ in range(3):
        await fail(baio, 19)
        assert await sign_in(baio, PASSWORD) is None


@pytest.mark.usefixtures("caller")
async def test_the_spelling_of_a_name_makes_no_second_account_to_guess_at(baio: BAiO) -> None:
    await fail(baio, 10)
    await fail(baio, 10, username=" OLENOR ")
    assert isinstance(await sign_in(baio, PASSWORD), TooManyAttempts)


async def test_names_that_nobody_has_are_limited_alike(baio: BAiO) -> None:
    await fail(baio, 20, username="nobody")
    assert isinstance(await sign_in(baio, PASSWORD, username="nobody"), TooManyAttempts)


async def test_names_that_are_too_long_are_limited_as_one_that_nobody_has(baio: BAiO) -> None:
    for number in range(20):
        await fail(baio, 1, username=f"{number:02}".ljust(151, "\u0300"))
    assert isinstance(await sign_in(baio, PASSWORD, username="olenor".ljust(151, "x")), TooManyAttempts)


async def test_one_address_guesses_at_many_accounts_100_times_and_then_every_6_seconds(baio: BAiO) -> None:
    for number in range(NETWORK_LIMIT.burst):
        await fail(baio, 1, username=f"nobody{number}")
    baio_is_slow = timedelta(seconds=NETWORK_LIMIT.burst * 0.1)  # each attempt has taken its time
    refused = [await sign_in(baio, "wrong", username=f"other{number}") for number in range(5)]
    assert sum(isinstance(error, TooManyAttempts) for error in refused) >= 5 - baio_is_slow / NETWORK_LIMIT.interval
    assert await sign_in(baio, "wrong", THERE, "nobody1")
    assert isinstance(await sign_in(baio, "wrong", THERE, "nobody1"), BadCredentials)


@pytest.mark.parametrize(
    ("one", "another", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("unix", "unix", True),
    ],
)
@pytest.mark.usefixtures("caller")
async def test_an_ipv6_network_counts_as_one_address(
    one: str,
    another: str,
    same: bool,  # noqa: FBT001 - a case of the table
    baio: BAiO,
) -> None:
    await fail(baio, 20, Origin(one))
    assert isinstance(await sign_in(baio, PASSWORD, Origin(another)), TooManyAttempts) == same


def in_one_48(number: int) -> Origin:
    """Another /64 of the same /48."""
    return Origin(f"2001:db8:0:{number:x}::1")


@pytest.mark.usefixtures("caller")
async def test_guesses_from_one_48_at_one_account_are_limited_together(baio: BAiO) -> None:
    answered = [await sign_in(baio, "wrong", in_one_48(number * 512)) for number in range(467)]
    assert sum(isinstance(error, BadCredentials) for error in answered) < 467 / 4


async def test_guesses_from_one_56_at_many_accounts_are_limited_together(baio: BAiO) -> None:
    allowed = 0
    for number in range(300):
        allowed += isinstance(await sign_in(baio, "wrong", in_one_48(number % 256), f"n{number}"), BadCredentials)
    slow = 300 * HASHING_SECONDS / 6 * 2  # what becomes free while the attempts take their time
    assert NETWORK_LIMIT.burst * 2 <= allowed <= NETWORK_LIMIT.burst * 2 + slow + 1


@pytest.mark.usefixtures("caller")
async def test_beyond_100_failures_in_a_row_unknown_networks_wait_and_the_owners_own_never(baio: BAiO) -> None:
    assert await sign_in(baio, PASSWORD, HERE) is None  # a network that is known from now on
    for number in range(100):
        await fail(baio, 1, Origin(f"198.51.100.{number}"))
    refused = await sign_in(baio, PASSWORD, THERE)
    assert isinstance(refused, TooManyAttempts)
    assert refused.retry_after is not None
    assert refused.retry_after <= 60
    assert await sign_in(baio, PASSWORD, HERE) is None
    # The owner's sign-in ends the row of failures.
    assert await sign_in(baio, PASSWORD, THERE) is None


async def test_a_name_that_nobody_has_answers_unknown_networks_alike(baio: BAiO) -> None:
    for number in range(100):
        await fail(baio, 1, Origin(f"198.51.100.{number}"), "nobody")
    assert isinstance(await sign_in(baio, PASSWORD, THERE, "nobody"), TooManyAttempts)


@pytest.mark.usefixtures("caller")
async def test_signing_in_in_a_loop_is_limited_and_no_failure(baio: BAiO) -> None:
    refusals = [error for _ in range(150) if (error := await sign_in(baio, PASSWORD)) is not None]
    assert refusals
    assert {type(error) for error in refusals} == {TooManyAttempts}
    assert Act.SIGN_IN_FAILED not in [entry.act for entry in await baio.read_audit("olenor")]


@pytest.mark.usefixtures("caller")
async def test_a_username_that_is_too_long_is_an_unknown_one_after_the_same_time(baio: BAiO) -> None:
    taken = list[float]()
    for username in ("nobody", "e\u0301\u0323" * 300_000):
        before = seconds()
        assert isinstance(await sign_in(baio, PASSWORD, username=username), BadCredentials)
        taken.append(seconds() - before)
    assert taken[0] == pytest.approx(taken[1])


@pytest.mark.usefixtures("caller")
async def test_when_the_whole_service_is_attacked_each_address_has_one_failure_and_others_get_in(baio: BAiO) -> None:
    await fail(baio, 1, THERE)
    key = baio.box.fingerprint("guesses", "service")
    full = baio.clock.now() + SERVICE_LIMIT.interval * (SERVICE_LIMIT.burst + 30)
    await baio.database.write(lambda tx: tx.failed_attempts.save_arrival_time(key, full))
    refused = await sign_in(baio, PASSWORD, THERE)
    assert isinstance(refused, TooManyAttempts)
    assert refused.retry_after is not None
    assert refused.retry_after <= 6
    assert await sign_in(baio, PASSWORD, HERE) is None
    await fail(baio, 1, HERE)
    assert isinstance(await sign_in(baio, PASSWORD, HERE), TooManyAttempts)
    baio.clock.skipped = timedelta(seconds=7)
    assert await sign_in(baio, PASSWORD, HERE) is None


@pytest.mark.usefixtures("caller")
async def test_a_thousand_failures_from_everywhere_are_an_attack(baio: BAiO) -> None:
    key = baio.box.fingerprint("guesses", "service")
    for number in range(30):
        await fail(baio, 1, Origin(f"10.1.0.{number}"), f"nobody{number}")
    until = (await baio.database.read(lambda tx: tx.failed_attempts.arrival_times([key])))[key]
    assert timedelta(seconds=20) < until - baio.clock.now() <= timedelta(seconds=30)


@pytest.mark.usefixtures("caller")
async def test_many_guesses_at_once_learn_no_more_than_one_after_the_other(baio: BAiO) -> None:
    kinds = [type(error) for error in await asyncio.gather(*(sign_in(baio, "wrong") for _ in range(100)))]
    assert kinds.count(BadCredentials) == PASSWORD_LIMIT.burst
    assert kinds.count(TooManyAttempts) == 100 - PASSWORD_LIMIT.burst
    assert isinstance(await sign_in(baio, PASSWORD), TooManyAttempts)


async def test_many_right_passwords_at_once_are_all_let_in(baio: BAiO, caller: Caller) -> None:
    assert await asyncio.gather(*(sign_in(baio, PASSWORD) for _ in range(50))) == [None] * 50
    assert len(await baio.get_sessions(caller)) == 50


@pytest.mark.parametrize("meanwhile", ["second factor", "password", "disabled", "deleted", "renamed"])
async def test_what_changes_while_the_password_is_checked_counts(meanwhile: str, baio: BAiO, caller: Caller) -> None:
    signing_in = asyncio.create_task(sign_in(baio, PASSWORD))
    await later(HASHING_SECONDS / 2).wait()

    def change(tx: Transaction) -> None:
        if meanwhile == "second factor":
            tx.second_factors.enroll(caller.user_id, b"seed")
            tx.second_factors.enable(SecondFactor(caller.user_id, b"seed", None, 0), 1, [], NOW)
        elif meanwhile == "password":
            tx.users.save_password_hash(caller.user_id, "1 another")
        elif meanwhile == "disabled":
            tx.users.disable(caller.user_id, NOW)
        elif meanwhile == "deleted":
            tx.users.delete(caller.user_id)
        else:
            tx.users.save_names(caller.user_id, "another", "another@example.no")

    await baio.database.write(change)
    error = await signing_in
    assert isinstance(error, SecondFactorRequired if meanwhile == "second factor" else BadCredentials)
    assert await baio.database.read(lambda tx: tx.sessions.of(caller.user_id)) == []


async def test_a_stolen_access_token_guesses_no_more_passwords_than_a_sign_in(baio: BAiO, caller: Caller) -> None:
    stolen = Caller(caller.user_id, None, THERE)
    for number in range(PASSWORD_LIMIT.burst + 1):
        with pytest.raises(TooManyAttempts if number == PASSWORD_LIMIT.burst else BadCredentials):
            await baio.delete_account(stolen, "wrong")
    with pytest.raises(TooManyAttempts):
        await baio.enroll_two_factor(stolen, PASSWORD)
    assert await sign_in(baio, PASSWORD, HERE) is None


@pytest.mark.usefixtures("caller")
async def test_failures_are_in_the_audit_and_hold_no_name_that_nobody_has(baio: BAiO) -> None:
    await sign_in(baio, "wrong", Origin("10.0.0.1", "Firefox", "request-1"))
    await sign_in(baio, "wrong", username=PASSWORD)  # typed into the wrong field
    known, unknown = [entry for entry in await baio.read_audit() if entry.act is Act.SIGN_IN_FAILED]
    assert (known.username, known.address, known.request_id) == ("olenor", "10.0.0.1", "request-1")
    assert known.note == "bad-credentials"
    assert (unknown.user_id, unknown.username) == (None, None)
    assert PASSWORD not in repr(await baio.read_audit())
