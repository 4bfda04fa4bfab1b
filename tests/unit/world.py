"""A whole BAiO in memory, on an event loop whose time leaps: minutes of waiting pass at once, and always alike."""

import asyncio
import hashlib
import itertools
import selectors
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar, final

from baio_adapters.llm.scripted import ScriptedGateway
from baio_adapters.memory import MemoryDatabase
from baio_domain.answering import Answering, AnswerLimits, Followable
from baio_domain.authentication import Authenticator
from baio_domain.entities import Answer, Caller, ModelSpec, Profile, ProviderSpec, Session, SessionLimits
from baio_domain.errors import ApiKeyUnreadable, BaioError, NotAuthenticated, Unavailable
from baio_domain.ports import (
    Clock,
    Database,
    LLMGateway,
    PasswordHasher,
    SecretBox,
    SecretKind,
    TokenIssuer,
    Transaction,
)
from baio_domain.use_cases import (
    accounts,
    administration,
    conversations,
    health,
    messaging,
    providers,
    second_factor,
    sessions,
)

T = TypeVar("T")

MAX_WAIT_SECONDS = 7200.0
"""How long a test may wait in all, in seconds of the loop's own time; none that works comes near."""


@final
class Leap(selectors.SelectSelector):
    """Waits for nothing: where nothing is ready, time leaps to when something is due."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Look what is ready, and let ``timeout`` pass where nothing is."""
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everything waits for something that never comes")
            self.now += timeout
            if self.now > MAX_WAIT_SECONDS:
                raise RuntimeError(f"{MAX_WAIT_SECONDS} seconds have passed, and the test still waits")
        return ready


@final
class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that starts at 0 and whose time passes only while everybody waits."""

    def __init__(self) -> None:
        self._leap = Leap()
        super().__init__(self._leap)

    def time(self) -> float:
        """Seconds of this loop's own time."""
        return self._leap.now


START = datetime(2024, 1, 15, 10, 0, 0, 1, UTC)
"""The time of day at which every loop begins."""


def seconds() -> float:
    """How long the loop has been running, by its own time."""
    return asyncio.get_running_loop().time()


def later(delay: float) -> asyncio.Event:
    """An event that happens in so many seconds."""
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(delay, event.set)
    return event


@final
class LoopClock(Clock):
    """The loop's time as the time of day. ``skipped`` is for days in which nothing happens."""

    def __init__(self) -> None:
        self.skipped = timedelta(0)

    def now(self) -> datetime:
        """As long after ``START`` as the loop has been running, and what was skipped."""
        return START + timedelta(seconds=seconds()) + self.skipped


HASHING_SECONDS = 0.1


@final
class QuickHasher(PasswordHasher):
    """Hashes that hide nothing and take no time but the loop's. ``round`` stands for the parameters of the day."""

    def __init__(self) -> None:
        self.round = 1

    async def hash(self, password: str) -> str:
        """The round and the password backwards."""
        await asyncio.sleep(HASHING_SECONDS)
        return f"{self.round} {password[::-1]}"

    async def verify(self, password: str, password_hash: str | None) -> bool:
        """Compare, whether or not there is something to compare with."""
        await asyncio.sleep(HASHING_SECONDS)
        return password_hash is not None and password_hash.partition(" ")[2] == password[::-1]

    def outdated(self, password_hash: str) -> bool:
        """Whether the round is another one."""
        return not password_hash.startswith(f"{self.round} ")


SESSION_LIMITS = SessionLimits(idle=timedelta(days=1), whole=timedelta(days=30))
KEEP_AUDIT = timedelta(days=180)

LIFETIMES = {"access": timedelta(minutes=15), "refresh": timedelta(days=1)}


@final
class PlainTokens(TokenIssuer):
    """Tokens that say in plain text what they are; good for an honest world."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._numbers = itertools.count(1)

    def issue(self, session: Session, kind: Literal["access", "refresh"], until: datetime) -> str:
        """Kind, user, session, end and number."""
        end = min(self._clock.now() + LIFETIMES[kind], until).isoformat()
        return f"{kind}/{session.user_id}/{session.id}/{end}/{next(self._numbers)}"

    def verify(self, token: str, kind: Literal["access", "refresh"]) -> Caller:
        """Read it back."""
        match token.split("/"):
            case [found, user, session, until, _] if found == kind and self._clock.now() < datetime.fromisoformat(
                until
            ):
                return Caller(int(user), int(session))
        raise NotAuthenticated("The token is not valid.")


@final
class PlainBox(SecretBox):
    """Secrets written backwards, with the name of their place in front."""

    def seal(self, secret: str, *, owner: int, key_id: int, what: SecretKind = "api key") -> bytes:
        """Write it."""
        return f"{what}/{owner}/{key_id}/{secret[::-1]}".encode()

    def is_current(self, sealed: bytes) -> bool:
        """Always: there is no key that could be exchanged."""
        return bool(sealed)

    def open(self, sealed: bytes, *, owner: int, key_id: int, what: SecretKind = "api key") -> str:
        """Read it in its place, and in no other."""
        place = f"{what}/{owner}/{key_id}/"
        text = sealed.decode()
        if not text.startswith(place):
            raise ApiKeyUnreadable
        return text.removeprefix(place)[::-1]

    def fingerprint(self, *parts: str) -> bytes:
        """A plain hash of the parts."""
        return hashlib.sha256(repr(parts).encode()).digest()


@final
class Link(Database):
    """The way from one process to the database, which can be cut, and held up."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.is_cut = False
        self.failure: Exception = Unavailable("The link is cut.")
        self.held: asyncio.Event | None = None
        self.refused = 0

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Pass it on."""
        self._pass()
        return await self.database.read(work)

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Pass it on, after it was held up."""
        if self.held is not None:
            await self.held.wait()
        self._pass()
        return await self.database.write(work)

    async def delete_all_data(self) -> int:
        """Pass it on."""
        self._pass()
        return await self.database.delete_all_data()

    async def check(self) -> None:
        """Pass it on."""
        self._pass()
        await self.database.check()

    def close(self) -> None:
        """Nothing is held open."""

    def _pass(self) -> None:
        if self.is_cut:
            self.refused += 1
            raise self.failure


OPENAI = ProviderSpec(
    "OpenAI",
    (
        ModelSpec("gpt-4o", "GPT-4o", 128_000, 16_384),
        ModelSpec("gpt-4o-mini", "GPT-4o mini", 128_000, 16_384),
        ModelSpec("o1-preview", "OpenAI o1-preview", 128_000, 32_768, system_role=False),
        ModelSpec("o1-mini", "OpenAI o1-mini", 128_000, 65_536, system_role=False),
    ),
)
OTHER = ProviderSpec("OtherProvider", (ModelSpec("x", "ModelX", 8_000, 2_000), ModelSpec("y", "ModelY", 8_000, 2_000)))

PASSWORD = "oleSterktPassord123"
COMMON_PASSWORD = "correct horse"
KEY = "sk-test-0123456789"
PROFILE = Profile("Ole", "Normann", "Norway", "University of Bergen", "scientist", "AI researcher")
QUESTION = "What is a codon?"


class BAiO:
    """One process: every use case over one database, asking scripted models. Answers run inside ``answering.running``.

    Two of these over one database are two processes.
    """

    def __init__(
        self,
        database: Database | None = None,
        limits: AnswerLimits | None = None,
        *,
        answers_per_user: int = 3,
    ) -> None:
        self.database = database or MemoryDatabase()
        self.clock = LoopClock()
        self.hasher = QuickHasher()
        self.tokens = PlainTokens(self.clock)
        self.box = PlainBox()
        self.openai = ScriptedGateway(OPENAI)
        self.gateways: dict[str, LLMGateway] = {"OpenAI": self.openai, "OtherProvider": ScriptedGateway(OTHER)}
        self.answering = Answering(self.database, self.clock, limits or AnswerLimits())
        self.asker = messaging.AnswerStarter(self.answering, self.box, self.gateways, self.clock, answers_per_user)

        self.register = accounts.Register(self.database, self.hasher, self.clock, frozenset({COMMON_PASSWORD}))
        common = frozenset({COMMON_PASSWORD})
        self.authenticator = Authenticator(self.database, self.hasher, self.box, self.clock)
        self.sign_in = sessions.SignIn(
            self.database, self.hasher, self.tokens, self.authenticator, self.clock, SESSION_LIMITS, KEEP_AUDIT
        )
        self.refresh = sessions.Refresh(self.database, self.tokens, self.clock, SESSION_LIMITS)
        self.validate_token = sessions.ValidateToken(self.database, self.tokens)
        self.sign_out = sessions.SignOut(self.database, self.tokens, self.clock)
        self.sign_out_everywhere = sessions.SignOutEverywhere(self.database, self.clock)
        self.get_sessions = sessions.GetSessions(self.database, self.clock, SESSION_LIMITS)
        self.enroll_two_factor = second_factor.EnrollTwoFactor(self.authenticator, self.box)
        self.confirm_two_factor = second_factor.ConfirmTwoFactor(self.database, self.authenticator, self.clock)
        self.disable_two_factor = second_factor.DisableTwoFactor(self.authenticator, self.clock)
        self.get_two_factor = second_factor.GetTwoFactor(self.database)
        self.get_info = accounts.GetInfo(self.database)
        self.update_info = accounts.UpdateInfo(self.database, self.clock)
        self.update_credentials = accounts.UpdateCredentials(
            self.database, self.hasher, self.authenticator, self.clock, common
        )
        self.redeem_reset = accounts.RedeemReset(self.database, self.hasher, self.clock, common)
        self.export_data = accounts.ExportData(self.database, self.clock)
        self.delete_account = accounts.DeleteAccount(self.authenticator, self.clock, self.answering)
        self.disable_user = administration.DisableUser(self.database, self.clock)
        self.enable_user = administration.EnableUser(self.database, self.clock)
        self.reset_password = administration.ResetPassword(self.database, self.hasher, self.clock, common)
        self.offer_password_reset = administration.OfferPasswordReset(self.database, self.clock)
        self.reset_two_factor = administration.ResetTwoFactor(self.database, self.clock)
        self.read_audit = administration.ReadAudit(self.database)
        self.create_conversation = conversations.CreateConversation(self.database, self.box, self.clock)
        self.get_conversation = conversations.GetConversation(self.database)
        self.get_conversations = conversations.GetConversations(self.database)
        self.rename_conversation = conversations.RenameConversation(self.database)
        self.delete_conversation = conversations.DeleteConversation(self.database, self.answering)
        self.add_api_key = providers.AddApiKey(self.database, self.box, self.clock)
        self.get_api_keys = providers.GetApiKeys(self.database)
        self.get_providers = providers.GetProviders(self.database)
        self.load_catalogue = providers.LoadCatalogue(self.database)
        self.send_message = messaging.SendMessage(self.database, self.asker)
        self.regenerate_answer = messaging.RegenerateAnswer(self.database, self.asker)
        self.follow_answer = messaging.FollowAnswer(self.database, self.answering)
        self.stop_answer = messaging.StopAnswer(self.database, self.answering)
        self.get_answers = messaging.GetAnswers(self.database)
        self.check_readiness = health.CheckReadiness(self.database, self.answering)

    async def someone(self, username: str = "olenor", *, key: bool = True) -> Caller:
        """A new account, with a key to ask OpenAI with."""
        email = f"{username}@example.no"
        user = await self.register(username=username, email=email, password=PASSWORD, profile=PROFILE)
        caller = Caller(user.id)
        if key:
            await self.add_api_key(caller, key=KEY, nickname="OpenAI Key", provider=None)
        return caller

    async def begin(self, caller: Caller, title: str = "New Research Topic") -> int:
        """A new conversation's id."""
        return (await self.create_conversation(caller, title)).id

    async def ask(
        self, caller: Caller, conversation_id: int, content: str = QUESTION, *, idempotency_key: str | None = None
    ) -> Followable:
        """Ask gpt-4o-mini, and return the answer to follow."""
        return await self.send_message(
            caller,
            conversation_id=conversation_id,
            apikey_nickname="OpenAI Key",
            content=content,
            model="gpt-4o-mini",
            idempotency_key=idempotency_key,
        )

    async def follow(self, caller: Caller, conversation_id: int, offset: int = 0) -> Followable:
        """The conversation's newest answer, from this character on."""
        return await self.follow_answer(caller, conversation_id=conversation_id, offset=offset)

    async def regenerate(self, caller: Caller, conversation_id: int, model: str = "gpt-4o-mini") -> Followable:
        """Ask the last question again."""
        return await self.regenerate_answer(
            caller, conversation_id=conversation_id, apikey_nickname="OpenAI Key", model=model
        )

    async def messages(self, caller: Caller, conversation_id: int) -> list[tuple[str, str]]:
        """What was said after the system message, as (role, content)."""
        thread = await self.get_conversation(caller, conversation_id)
        return [(message.role.value, message.content) for message in thread.messages[1:]]

    async def newest(self, caller: Caller, conversation_id: int) -> Answer:
        """The record of the conversation's newest answer."""
        return (await self.get_answers(caller, conversation_id))[-1]


async def heard(answer: Followable, offset: int = 0) -> tuple[str, BaioError | None]:
    """All that a follower gets from this character on: the text, and the error where it was cut."""
    pieces: list[str] = []
    try:
        async for text in answer.follow(offset):
            pieces.append(text)  # noqa: PERF401 - what came before an error counts
    except BaioError as error:
        return "".join(pieces), error
    return "".join(pieces), None


async def text_of(answer: Followable, offset: int = 0) -> str:
    """All that a follower gets of an answer that is not cut."""
    text, error = await heard(answer, offset)
    assert error is None
    return text
