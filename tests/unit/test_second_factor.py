"""Two-factor authentication: codes after the RFCs, what needs one, and that each works once."""

import asyncio
import base64
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from baio_domain.entities import Act, Caller, Origin
from baio_domain.errors import (
    BadCredentials,
    BaioError,
    InvalidInput,
    NotAuthenticated,
    NotEnrolled,
    SecondFactorMissing,
    SecondFactorOn,
    SecondFactorRequired,
    TooManyAttempts,
    WrongCode,
)
from baio_domain.one_time_codes import (
    MAX_CODE_LENGTH,
    counter_at,
    counter_of,
    digest_of,
    is_one_time,
    new_seed,
    one_time_code,
    recovery_codes,
)
from baio_domain.use_cases.second_factor import TwoFactorState
from tests.unit.world import PASSWORD, BAiO

ANOTHER = "enHeltAnnenSetning7"

# -- Codes -------------------------------------------------------------------------------------------------------------

RFC_SEED = base64.b32encode(b"12345678901234567890").decode()


def test_codes_are_those_of_rfc_4226_appendix_d() -> None:
    assert [one_time_code(RFC_SEED, counter) for counter in range(10)] == [
        "755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "94287082"), (1111111109, "07081804"), (1111111111, "14050471"),
        (1234567890, "89005924"), (2000000000, "69279037"), (20000000000, "65353130"),
    ],
)  # fmt: skip
def test_codes_are_the_last_six_digits_of_rfc_6238_appendix_b(seconds: int, code: str) -> None:
    moment = datetime.fromtimestamp(seconds, UTC)
    assert one_time_code(RFC_SEED, counter_at(moment)) == code[-6:]


def test_a_code_counts_one_step_either_way_and_only_after_the_last_one() -> None:
    now = datetime(2024, 1, 15, 10, 0, 15, tzinfo=UTC)
    step = counter_at(now)
    found = {each: counter_of(one_time_code(RFC_SEED, step + each), RFC_SEED, now, after=0) for each in range(-3, 4)}
    assert found == {-3: None, -2: None, -1: step - 1, 0: step, 1: step + 1, 2: None, 3: None}
    assert counter_of(one_time_code(RFC_SEED, step), RFC_SEED, now, after=step) is None
    assert counter_of(one_time_code(RFC_SEED, step + 1), RFC_SEED, now, after=step) == step + 1


def test_a_code_is_read_with_the_spaces_and_dashes_that_people_type() -> None:
    now = datetime.fromtimestamp(59, UTC)
    for spelled in ("287082", " 287 082\n", "287-082"):
        assert is_one_time(spelled)
        assert counter_of(spelled, RFC_SEED, now, after=0) == 1
    assert is_one_time("287082".ljust(MAX_CODE_LENGTH))
    for other in ("28708", "2870820", "٢٨٧٠٨٢", "28708x", "", "287082".ljust(MAX_CODE_LENGTH + 1)):
        assert not is_one_time(other)
        assert counter_of(other, RFC_SEED, now, after=0) is None


def test_seeds_and_recovery_codes_are_long_random_and_distinct() -> None:
    seeds = {new_seed() for _ in range(100)}
    assert len(seeds) == 100
    assert {len(base64.b32decode(seed)) for seed in seeds} == {20}
    codes = [code for _ in range(10) for code in recovery_codes()]
    assert len(set(codes)) == 100
    assert {len(code.replace("-", "")) for code in codes} == {24}
    assert digest_of(codes[0].upper().replace("-", " ")) == digest_of(codes[0])
    assert not any(map(is_one_time, codes))


# -- Turning it on and off ---------------------------------------------------------------------------------------------


class App:
    """An authenticator app, at the time of day of this BAiO."""

    def __init__(self, baio: BAiO, seed: str) -> None:
        self.baio = baio
        self.seed = seed
        self.recovery: list[str] = []

    def code(self, ahead: int = 0) -> str:
        """The code of this step, or of one after or before it."""
        return one_time_code(self.seed, counter_at(self.baio.clock.now()) + ahead)

    def next_code(self) -> str:
        """A code that was not used, after so long a wait."""
        self.baio.clock.skipped += timedelta(seconds=60)
        return self.code()

    def wrong_code(self) -> str:
        """A code of no step nearby."""
        near = {self.code(step) for step in range(-5, 6)}
        return next(text for number in range(20) if (text := f"{number:06}") not in near)


async def enrolled(baio: BAiO, caller: Caller) -> App:
    """An app with two-factor authentication on."""
    app = App(baio, (await baio.enroll_two_factor(caller, PASSWORD)).secret)
    app.recovery = await baio.confirm_two_factor(caller, app.code())
    baio.clock.skipped += timedelta(seconds=60)
    return app


@pytest.fixture
async def app(baio: BAiO, caller: Caller) -> App:
    return await enrolled(baio, caller)


async def signed_in(baio: BAiO, code: str | None = None) -> Caller:
    """The caller in a new session."""
    return baio.tokens.verify((await baio.sign_in("olenor", PASSWORD, code)).access, "access")


async def test_it_is_on_once_the_first_code_was_confirmed(baio: BAiO, caller: Caller) -> None:
    enrolment = await baio.enroll_two_factor(caller, PASSWORD)
    uri = urlsplit(enrolment.otpauth_uri)
    assert (uri.scheme, uri.netloc, uri.path) == ("otpauth", "totp", "/BAiO:olenor")
    assert parse_qs(uri.query) == {
        "secret": [enrolment.secret], "issuer": ["BAiO"], "algorithm": ["SHA1"], "digits": ["6"], "period": ["30"],
    }  # fmt: skip
    await signed_in(baio)
    assert (await baio.get_two_factor(caller)).enabled is False
    app = App(baio, enrolment.secret)
    for wrong in (app.wrong_code(), "", "x"):
        with pytest.raises(WrongCode):
            await baio.confirm_two_factor(caller, wrong)
    codes = await baio.confirm_two_factor(caller, app.code())
    assert len(set(codes)) == 10
    assert await baio.get_two_factor(caller) == TwoFactorState(enabled=True, recovery_codes_left=10)
    with pytest.raises(SecondFactorRequired):
        await baio.sign_in("olenor", PASSWORD)


async def test_beginning_again_replaces_the_secret_until_it_is_on(baio: BAiO, caller: Caller) -> None:
    with pytest.raises(NotEnrolled):
        await baio.confirm_two_factor(caller, "123456")
    first, second = [App(baio, (await baio.enroll_two_factor(caller, PASSWORD)).secret) for _ in range(2)]
    with pytest.raises(WrongCode):
        await baio.confirm_two_factor(caller, first.code())
    await baio.confirm_two_factor(caller, second.code())
    with pytest.raises(SecondFactorOn):
        await baio.enroll_two_factor(caller, PASSWORD)
    with pytest.raises(SecondFactorOn):
        await baio.confirm_two_factor(caller, second.code())


async def test_it_needs_the_password_to_begin_and_both_to_end(baio: BAiO, caller: Caller) -> None:
    with pytest.raises(BadCredentials):
        await baio.enroll_two_factor(caller, "wrong")
    with pytest.raises(SecondFactorMissing):
        await baio.disable_two_factor(caller, PASSWORD, "123456")
    app = await enrolled(baio, caller)
    with pytest.raises(BadCredentials):
        await baio.disable_two_factor(caller, "wrong", app.code())
    with pytest.raises(WrongCode):
        await baio.disable_two_factor(caller, PASSWORD, app.wrong_code())
    await baio.disable_two_factor(caller, PASSWORD, app.code())
    await signed_in(baio)
    with pytest.raises(SecondFactorMissing):
        await baio.disable_two_factor(caller, PASSWORD, app.recovery[0])


# -- Each code once ----------------------------------------------------------------------------------------------------


async def test_a_code_works_once_and_none_before_it_after_it(baio: BAiO, app: App) -> None:
    current, previous = app.code(), app.code(-1)
    await signed_in(baio, current)
    for used in (current, previous):
        with pytest.raises(WrongCode):
            await signed_in(baio, used)
    await signed_in(baio, app.code(1))
    with pytest.raises(WrongCode):
        await signed_in(baio, app.code(1))


async def test_the_code_that_confirmed_does_not_sign_in(baio: BAiO, caller: Caller) -> None:
    app = App(baio, (await baio.enroll_two_factor(caller, PASSWORD)).secret)
    await baio.confirm_two_factor(caller, app.code())
    with pytest.raises(WrongCode):
        await signed_in(baio, app.code())


async def test_a_recovery_code_works_once_in_any_spelling(baio: BAiO, app: App, caller: Caller) -> None:
    await signed_in(baio, app.recovery[0].upper().replace("-", " "))
    with pytest.raises(WrongCode):
        await signed_in(baio, app.recovery[0])
    await signed_in(baio, app.recovery[1])
    assert (await baio.get_two_factor(caller)).recovery_codes_left == 8
    acts = [entry.act for entry in await baio.read_audit("olenor")]
    assert acts.count(Act.RECOVERY_CODE_USED) == 2


@pytest.mark.parametrize("kind", ["one-time", "recovery"])
async def test_of_two_uses_of_one_code_at_once_one_is_accepted(kind: str, baio: BAiO, app: App) -> None:
    code = app.code() if kind == "one-time" else app.recovery[0]
    results = await asyncio.gather(*(signed_in(baio, code) for _ in range(4)), return_exceptions=True)
    assert sorted(type(each).__name__ for each in results) == ["Caller", "WrongCode", "WrongCode", "WrongCode"]


async def test_a_code_is_asked_for_only_after_the_right_password(baio: BAiO, app: App) -> None:
    for code in (None, app.code(), app.recovery[0]):
        with pytest.raises(BadCredentials):
            await baio.sign_in("olenor", "wrong", code)
    for code in (None, "", "  "):
        with pytest.raises(SecondFactorRequired):
            await signed_in(baio, code)
    await signed_in(baio, app.code())  # none of those has used it up


@pytest.mark.usefixtures("caller")
async def test_who_has_it_off_signs_in_whatever_code_is_sent(baio: BAiO) -> None:
    await signed_in(baio, "123456")


# -- Guessing ----------------------------------------------------------------------------------------------------------

HERE, THERE = Origin("10.0.0.1"), Origin("10.0.0.2")


async def guess(baio: BAiO, code: str, origin: Origin) -> BaioError | None:
    """Sign in with the right password and this code."""
    try:
        await baio.sign_in("olenor", PASSWORD, code, origin)
    except BaioError as error:
        return error
    return None


async def test_six_wrong_codes_are_one_too_many_even_for_the_right_one(baio: BAiO, app: App) -> None:
    wrong = [await guess(baio, app.wrong_code(), HERE) for _ in range(6)]
    assert [type(error) for error in wrong] == [WrongCode] * 5 + [TooManyAttempts]
    assert isinstance(await guess(baio, app.code(), HERE), TooManyAttempts)
    assert isinstance(await guess(baio, app.recovery[0], HERE), TooManyAttempts)
    assert await guess(baio, app.code(), THERE) is None
    waited = wrong[-1]
    assert waited is not None
    assert waited.retry_after is not None
    baio.clock.skipped += timedelta(seconds=waited.retry_after)
    assert await guess(baio, app.code(), HERE) is None


async def test_codes_are_not_guessed_from_many_addresses_and_the_owner_gets_in_by_a_recovery_code(
    baio: BAiO, app: App
) -> None:
    places = [Origin(f"10.0.1.{number}") for number in range(30)]
    wrong = [await guess(baio, app.wrong_code(), place) for place in places]
    assert [type(error) for error in wrong] == [WrongCode] * 10 + [TooManyAttempts] * 20
    assert isinstance(await guess(baio, app.next_code(), THERE), TooManyAttempts)
    assert await guess(baio, app.recovery[0], THERE) is None


async def test_recovery_codes_are_limited_like_codes(baio: BAiO, app: App) -> None:
    wrong = [await guess(baio, "aaaaaa-bbbbbb-cccccc-dddddd", HERE) for _ in range(6)]
    assert [type(error) for error in wrong] == [WrongCode] * 5 + [TooManyAttempts]
    assert isinstance(await guess(baio, app.recovery[0], HERE), TooManyAttempts)
    assert await guess(baio, app.recovery[0], THERE) is None


async def test_the_first_code_is_limited_as_well(baio: BAiO, caller: Caller) -> None:
    app = App(baio, (await baio.enroll_two_factor(caller, PASSWORD)).secret)
    errors: list[type[BaioError]] = []
    for _ in range(6):
        with pytest.raises(BaioError) as refused:
            await baio.confirm_two_factor(caller, app.wrong_code())
        errors.append(type(refused.value))
    assert errors == [WrongCode] * 5 + [TooManyAttempts]
    with pytest.raises(TooManyAttempts):
        await baio.confirm_two_factor(caller, app.code())


# -- What needs it -----------------------------------------------------------------------------------------------------


async def change(baio: BAiO, caller: Caller, code: str, current: str = PASSWORD, **changes: str) -> None:
    await baio.update_credentials(caller, password=current, code=code, changes=changes)


async def test_credentials_are_changed_with_password_and_code_and_other_sessions_end(baio: BAiO, app: App) -> None:
    mine, another = await signed_in(baio, app.code()), await signed_in(baio, app.next_code())
    await change(baio, mine, app.next_code(), username=" OleN ", email="ole@example.no", password=ANOTHER)
    info = await baio.get_info(mine)
    assert (info.username, info.email) == ("OleN", "ole@example.no")
    with pytest.raises(NotAuthenticated):
        await baio.get_info(another)
    with pytest.raises(BadCredentials):
        await baio.sign_in("olenor", PASSWORD, app.next_code())
    await baio.sign_in("olen", ANOTHER, app.next_code())
    changed = next(entry for entry in await baio.read_audit("olen") if entry.act is Act.CREDENTIALS_CHANGED)
    assert changed.note == "email password username"


async def test_credentials_are_not_changed_without_both(baio: BAiO, caller: Caller) -> None:
    with pytest.raises(SecondFactorMissing):
        await change(baio, caller, "123456", email="ole@example.no")
    app = await enrolled(baio, caller)
    before = await baio.get_info(caller)
    for password, code, error in (
        ("wrong", app.code(), BadCredentials),
        (PASSWORD, app.wrong_code(), WrongCode),
        (PASSWORD, "", SecondFactorRequired),
    ):
        with pytest.raises(error):
            await change(baio, caller, code, password, email="ole@example.no")
    assert await baio.get_info(caller) == before


async def test_new_credentials_keep_the_rules_and_a_refused_change_uses_no_code_up(
    baio: BAiO, app: App, caller: Caller, other: Caller
) -> None:
    refused: dict[str, dict[str, str]] = {
        "username": {"username": "KARI"},
        "email": {"email": "nobody"},
        "password": {"password": "olenor12"},
    }
    code = app.code()
    for field, changes in refused.items():
        with pytest.raises(InvalidInput) as error:
            await change(baio, caller, code, **changes)
        assert [each.field for each in error.value.errors] == [field]
    with pytest.raises(InvalidInput, match="Send a username"):
        await change(baio, caller, code)
    await change(baio, caller, code, password=ANOTHER)
    assert other.user_id


async def test_a_password_may_be_close_to_the_old_name_but_not_to_the_new_one(baio: BAiO, caller: Caller) -> None:
    app = await enrolled(baio, caller)
    with pytest.raises(InvalidInput, match="too close"):
        await change(baio, caller, app.code(), username="hildegard", password="hildegard1")
    assert (await baio.get_info(caller)).username == "olenor"


@pytest.mark.parametrize("way", ["reset", "link"])
async def test_a_reset_password_leaves_the_second_factor_on(way: str, baio: BAiO, app: App) -> None:
    root = Origin(operator="root")
    if way == "reset":
        await baio.reset_password("olenor", ANOTHER, root)
    else:
        await baio.redeem_reset(await baio.offer_password_reset("olenor", root), ANOTHER, HERE)
    with pytest.raises(SecondFactorRequired):
        await baio.sign_in("olenor", ANOTHER)
    await baio.sign_in("olenor", ANOTHER, app.code())


async def test_an_account_with_it_on_is_deleted_with_a_code_alone(baio: BAiO, app: App, caller: Caller) -> None:
    with pytest.raises(SecondFactorRequired):
        await baio.delete_account(caller, PASSWORD)
    with pytest.raises(WrongCode):
        await baio.delete_account(caller, PASSWORD, app.wrong_code())
    await baio.delete_account(caller, PASSWORD, app.code())
    with pytest.raises(BadCredentials):
        await baio.sign_in("olenor", PASSWORD, app.recovery[0])


async def test_the_administrator_turns_it_off_for_who_has_lost_everything(baio: BAiO, caller: Caller) -> None:
    with pytest.raises(InvalidInput, match="username"):
        await baio.reset_two_factor("olenor", Origin(operator="root"))
    app = await enrolled(baio, caller)
    await baio.reset_two_factor("olenor", Origin(operator="root"))
    await signed_in(baio)
    entry = [entry for entry in await baio.read_audit("olenor") if entry.act is Act.TWO_FACTOR_DISABLED][-1]
    assert entry.operator == "root"
    assert app.recovery
