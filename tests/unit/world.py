"""A whole BAiO in memory, on an event loop whose time leaps: minutes of waiting pass at once, and always alike."""

import asyncio
import hashlib
import itertools
import selectors
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, Literal, TypeVar, final

from dependency_injector import providers

from baio_adapters.chat_exports import digest_of, threads_in
from baio_adapters.llm.scripted import ScriptedGateway
from baio_adapters.memory import MemoryDatabase, MemoryWorkers
from baio_adapters.scripted_tools import ScriptedToolbox
from baio_api.container import USE_CASES, Container
from baio_api.settings import Settings
from baio_domain.administrators import Administrator
from baio_domain.answering import Answering, AnswerLimits, Followable
from baio_domain.entities import (
    NOWHERE,
    Answer,
    AuditEntry,
    Caller,
    Conversation,
    ModelSpec,
    Profile,
    ProviderSpec,
    Session,
    ToolCall,
)
from baio_domain.errors import BaioError, NotAuthenticated, Unavailable
from baio_domain.ports import (
    UNREADABLE,
    Clock,
    Database,
    ExportedThread,
    ExportReader,
    LLMGateway,
    PasswordHasher,
    SecretBox,
    SecretKind,
    TokenIssuer,
    Transaction,
    UnreadableThread,
)
from baio_domain.prices import PricedUsage
from baio_domain.tools import Toolbox
from baio_domain.use_cases.conversations import Thread

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

    async def hash(self, password: str, *, network: str = "") -> str:
        """The round and the password backwards."""
        del network
        await asyncio.sleep(HASHING_SECONDS)
        return f"{self.round} {password[::-1]}"

    async def verify(self, password: str, password_hash: str | None, *, network: str = "") -> bool:
        """Compare, whether or not there is something to compare with."""
        del network
        await asyncio.sleep(HASHING_SECONDS)
        return password_hash is not None and password_hash.partition(" ")[2] == password[::-1]

    def outdated(self, password_hash: str) -> bool:
        """Whether the round is another one."""
        return not password_hash.startswith(f"{self.round} ")


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
        return f"{kind}/{session.user_id}/{session.token_id}/{end}/{next(self._numbers)}"

    def verify(self, token: str, kind: Literal["access", "refresh"]) -> Caller:
        """Read it back."""
        match token.split("/"):
            case [found, user, session, until, _] if found == kind and self._clock.now() < datetime.fromisoformat(
                until
            ):
                return Caller(int(user), session)
        raise NotAuthenticated("The token is not valid.")


@final
class PlainBox(SecretBox):
    """Secrets written backwards, after their kind, owner and row."""

    def seal(self, secret: str, *, kind: SecretKind, owner: int, row_id: int) -> bytes:
        """Write it."""
        return f"{kind}/{owner}/{row_id}/{secret[::-1]}".encode()

    def open(self, sealed: bytes, *, kind: SecretKind, owner: int, row_id: int) -> str:
        """Read it in its place, and in no other."""
        place = f"{kind}/{owner}/{row_id}/"
        text = sealed.decode()
        if not text.startswith(place):
            raise UNREADABLE[kind]
        return text.removeprefix(place)[::-1]

    def is_current(self, sealed: bytes) -> bool:
        """Always: there is no key that could be exchanged."""
        return bool(sealed)

    def fingerprint(self, *parts: str) -> bytes:
        """A plain hash of the parts."""
        return hashlib.sha256(repr(parts).encode()).digest()


@final
class PromptReader(ExportReader):
    """Reads exports on the loop itself, as no thread lives in its time."""

    async def read(self, file: BinaryIO) -> AsyncIterator[ExportedThread | UnreadableThread]:
        """All that is in the file."""
        for each in threads_in(file):
            yield each

    async def digest(self, file: BinaryIO) -> str:
        """That of the file."""
        return digest_of(file)


@final
class Link(Database):
    """The way from one process to the database, which can be cut, and held up."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.is_cut = False
        self.failure: Exception = Unavailable("The link is cut.")
        self.held: asyncio.Event | None = None
        self.refused = 0
        self.reads = 0

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Pass it on."""
        self.reads += 1
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

    async def check_writable(self) -> None:
        """Pass it on."""
        self._pass()
        await self.database.check_writable()

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

    Two of these over one database are two processes. On one ``roll``, each knows whether the other lives.
    """

    def __init__(
        self,
        database: Database | None = None,
        limits: AnswerLimits | None = None,
        *,
        roll: dict[int, bool] | None = None,
        answers_per_user: int = 3,
        tools: Toolbox | None = None,
        **settings: Any,
    ) -> None:
        self.database = database or MemoryDatabase()
        self.workers = MemoryWorkers(roll)
        self.clock = LoopClock()
        self.hasher = QuickHasher()
        self.tokens = PlainTokens(self.clock)
        self.box = PlainBox()
        self.openai = ScriptedGateway(OPENAI)
        self.gateways: dict[str, LLMGateway] = {"OpenAI": self.openai, "OtherProvider": ScriptedGateway(OTHER)}
        self._container = Container(settings=Settings(answers_per_user=answers_per_user, **settings))
        self.toolbox = ScriptedToolbox()
        self.chat_exports = PromptReader()
        for port in ("database", "workers", "clock", "hasher", "tokens", "box", "gateways", "toolbox", "chat_exports"):
            self._container.providers[port].override(providers.Object(getattr(self, port)))
        if tools is not None:
            self._container.toolbox.override(providers.Object(tools))
        self._container.common_passwords.override(providers.Object(frozenset({COMMON_PASSWORD})))
        self._container.answer_limits.override(providers.Object(limits or AnswerLimits()))
        self.answering: Answering = self._container.answering()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whichever use case it is
        """A use case under its name in the container, such as ``send_message``."""
        if name not in USE_CASES:
            raise AttributeError(name)
        return getattr(self._container, name)()

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
        thread: Thread = await self.create_conversation(caller, title)
        return thread.id

    async def ask(
        self, caller: Caller, conversation_id: int, content: str = QUESTION, *, idempotency_key: str | None = None
    ) -> Followable:
        """Ask gpt-4o-mini, and return the answer to follow."""
        answer: Followable = await self.send_message(
            caller,
            conversation_id=conversation_id,
            apikey_nickname="OpenAI Key",
            content=content,
            model="gpt-4o-mini",
            idempotency_key=idempotency_key,
        )
        return answer

    async def follow(self, caller: Caller, conversation_id: int, offset: int = 0) -> Followable:
        """The conversation's newest answer, from this character on."""
        answer: Followable = await self.follow_answer(caller, conversation_id=conversation_id, offset=offset)
        return answer

    async def regenerate(self, caller: Caller, conversation_id: int, model: str = "gpt-4o-mini") -> Followable:
        """Ask the last question again."""
        answer: Followable = await self.regenerate_answer(
            caller, conversation_id=conversation_id, apikey_nickname="OpenAI Key", model=model
        )
        return answer

    async def messages(self, caller: Caller, conversation_id: int) -> list[tuple[str, str]]:
        """What was said after the system message, as (role, content)."""
        thread: Thread = await self.get_conversation(caller, conversation_id)
        said = [(message.role.value, message.content) async for page in thread.pages() for message in page]
        return said[1:]

    async def get_conversations(self, caller: Caller) -> list[Conversation]:
        """All conversations."""
        return [each async for page in self._container.get_conversations()(caller) for each in page]

    async def get_answers(self, caller: Caller, conversation_id: int) -> list[Answer]:
        """The records of all answers."""
        return [each async for page in self._container.get_answers()(caller, conversation_id) for each in page]

    def get_answers_of(self, caller: Caller, conversation_id: int, **asked: bool) -> AsyncIterator[list[Answer]]:
        """Pages of the records of all answers."""
        pages: AsyncIterator[list[Answer]] = self._container.get_answers()(caller, conversation_id, **asked)
        return pages

    async def read_audit(
        self, username: str | None = None, *, by: Administrator = NOWHERE, **chosen: Any
    ) -> list[AuditEntry]:
        """All entries of the audit log that are asked for."""
        return [each async for page in self.pages_of_audit(by, username=username, **chosen) for each in page]

    def pages_of_audit(self, by: Administrator, **chosen: Any) -> AsyncIterator[list[AuditEntry]]:
        """The same, page by page."""
        pages: AsyncIterator[list[AuditEntry]] = self._container.read_audit()(by, **chosen)
        return pages

    async def report_usage(self, by: Administrator, **asked: Any) -> list[tuple[str, PricedUsage]]:
        """What the answers of all accounts cost."""
        return [each async for page in self._container.report_usage()(by, **asked) for each in page]

    async def get_tool_calls(self, caller: Caller, **asked: int) -> list[ToolCall]:
        """All records of tools' calls that are asked for."""
        return [each async for page in self._container.get_tool_calls()(caller, **asked) for each in page]

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
