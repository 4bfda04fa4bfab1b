"""The life of one answer: ask the provider, relay its text, store checkpoints, end in exactly one state.

An answer belongs to its conversation, not to the connection that asked for it. ``Answering`` owns one task per running
answer. Any number of clients can follow its text, from any character on, and leave without consequence.

                             ┌── finish reason ────────────▶ complete
                             ├── length, filter, our cap ──▶ truncated
    begin ──▶ running ───────┼── stop ─────────────────────▶ stopped
                             ├── provider fails ───────────▶ failed
                             └── shutdown, dead worker ────▶ interrupted

Text is held in memory and appended to the database twice a second, in one transaction for all running answers. When an
answer ends, its text becomes BAiO's message and the checkpoints are deleted.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from baio_domain.entities import Answer, AnswerState, CallState, Model, Outcome, ToolCall, Usage
from baio_domain.errors import (
    AnswerInterrupted,
    BaioError,
    ParametersRefused,
    PromptRefused,
    PromptTooLong,
    ProviderBroken,
    ProviderTooSlow,
    Unavailable,
    error_of,
)
from baio_domain.idempotency import IDEMPOTENCY_KEY_LIFETIME
from baio_domain.pages import PAGE_SIZE
from baio_domain.parameters import Parameters
from baio_domain.ports import (
    NO_EXTRAS,
    NO_METRICS,
    TOOL_ROUNDS,
    AnswerPart,
    Called,
    Clock,
    Database,
    EndedAnswer,
    Extras,
    Finished,
    GatewayItem,
    GatewayStream,
    LLMGateway,
    Metrics,
    RollCall,
    Thinking,
    Transaction,
    Workers,
    openai_finish_reason,
)
from baio_domain.prompts import Prompt, Turn
from baio_domain.rate_limits import CLOCK_TOLERANCE
from baio_domain.text import storable
from baio_domain.tool_records import CANCELLED
from baio_domain.tools import ToolSpec

logger = logging.getLogger("baio.answers")

LEASE = timedelta(seconds=20)
"""How long an answer counts as running without a checkpoint from its process."""

FROZEN = timedelta(seconds=60)
"""The same for a process that is known to hold its lock: it may be frozen, and resume later."""

CHECKPOINT_SECONDS = 0.5
"""How often new text is stored and requests to stop are noticed; a crash loses less than a second of text."""

POLL_SECONDS = 0.25
"""How often followers here poll the answer of another process."""

CATCH_UP_TIMEOUT_SECONDS = 3.0
"""How long a follower who has already seen more than is stored waits for the checkpoint."""

STOP_TIMEOUT_SECONDS = 40.0
"""How long a request to stop waits for another process, whose lease may have to expire first."""

CLOSE_TIMEOUT_SECONDS = 5.0
"""How long closing a provider's stream may take."""

ROLL_CALL_SECONDS = 0.5
"""How often BAiO looks for dead processes."""

REAP_SECONDS = 5.0
"""How often BAiO looks for expired leases."""

GRACE_SECONDS = LEASE.total_seconds() / 2
"""How long no lease counts as expired after a time when nobody could renew one: time for all to renew them."""

SAVE_TIMEOUT_SECONDS = 30.0
"""How long BAiO retries storing the final state of an answer while the database is unavailable."""

BLOCK = 512
"""Characters after which small pieces of text are joined, so that a long answer needs only the memory of its text."""

MAX_PIECE_LENGTH = 65_536
"""Characters handed to a follower at once, so that a slow reader holds no copy of a long answer."""

MAX_TOKEN_COUNT = 1_000_000_000
"""The highest plausible count of tokens. No model reads that many, and the sum over many answers can be stored."""

MAX_METADATA_LENGTH = 500
"""Characters of a finish reason or a model's name that are stored."""


@dataclass(frozen=True, slots=True)
class AnswerLimits:
    """The limits of one answer: deadlines on its text (not on bytes) in seconds, and its length in characters.

    Silence is at most ``first_text_seconds`` before the first text and ``between_text_seconds`` after it; thinking does
    not count as silence. The whole answer takes at most ``answer_seconds``, plus at most ``thinking_seconds`` of
    thinking.
    """

    first_text_seconds: float = 60.0
    between_text_seconds: float = 30.0
    answer_seconds: float = 600.0
    thinking_seconds: float = 600.0
    max_chars: int = 1_000_000


AnswerItem = str | Thinking | ToolCall
"""What a follower of events gets: text, thinking, and the records of calls, each when it begins and when it ends."""


@dataclass(frozen=True, slots=True)
class Noted:
    """A remark for the answer's record, if it ends without an error."""

    reason: str


SourceStream = AsyncGenerator[GatewayItem | ToolCall | Noted, None]
"""An answer as it arrives from a gateway, with the records of calls where tools are run."""


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """The request to a provider for one answer. ``left_out`` messages of the conversation are not in the prompt.

    A gateway that knows none gets no ``parameters`` and no ``extras``. ``unused`` has the names of parameters that are
    not sent; one that the provider refuses is added. ``tools`` are those that the client runs itself.
    ``halved`` says whether the prompt was halved already because the provider found it too long.
    """

    gateway: LLMGateway
    key: str = field(repr=False)
    model: Model
    prompt: Prompt
    left_out: int = 0
    halved: bool = False
    parameters: Parameters = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    tools: Sequence[ToolSpec] = ()
    extras: Extras = field(default_factory=lambda: NO_EXTRAS)

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self.gateway.provider.name

    def stream(self) -> SourceStream:
        """The answer as it arrives. Sends nothing before the first ``anext``."""
        return self.ask(self.prompt.sent, self.tools)

    def ask(self, prompt: Sequence[Turn], tools: Sequence[ToolSpec] = ()) -> GatewayStream:
        """The provider's answer to this prompt. ``tools`` are for a ToolGateway."""
        more: dict[str, Any] = {"tools": tools} if tools else {}
        if self.parameters:
            more["parameters"] = self.parameters
        if self.extras:
            more["extras"] = self.extras
        return self.gateway.stream(key=self.key, model=self.model, prompt=prompt, **more)

    def after(self, refusal: BaioError, *, shown: bool) -> "ProviderRequest | None":
        """The same without parameters that were refused, or once with half of the prompt if that was too long.

        None after the first text.
        """
        if shown:
            return None
        if isinstance(refusal, ParametersRefused):
            return self._without(refusal.names)
        half = self.prompt.halved() if isinstance(refusal, PromptTooLong) and not self.halved else None
        if half is None:
            return None
        left_out = self.left_out + len(self.prompt.messages) - len(half.messages)
        return replace(self, prompt=half, left_out=left_out, halved=True)

    def _without(self, names: Sequence[str]) -> "ProviderRequest | None":
        left = {name: value for name, value in self.parameters.items() if name not in names}
        refused = [name for name in names if name in self.parameters]
        if not refused:
            return None
        logger.info("parameters refused", extra={"model": self.model.identifier, "parameters": " ".join(refused)})
        return replace(self, parameters=left, unused=(*self.unused, *refused))


class AnswerSource(Protocol):
    """The source of an answer: a provider, a provider and tools, or only BAiO."""

    @property
    def provider(self) -> str:
        """The name of the provider that is asked."""

    @property
    def left_out(self) -> int:
        """How many messages of the conversation the model is not sent."""

    @property
    def unused(self) -> Sequence[str]:
        """The parameters that the model is not sent."""

    def stream(self) -> SourceStream:
        """The answer as it arrives.

        A call stands at the end of the text so far. Its record comes when it begins and when it ends, then its line.
        """

    def after(self, refusal: BaioError, *, shown: bool) -> "AnswerSource | None":
        """How to continue after ``stream`` has raised this: the next source, or None if there is no other way.

        ``shown`` says whether the answer has text.
        """


class _Listener:
    """What a follower of events has still to hear besides text.

    It is what the model has thought since, or the end of it if it is long, and the calls that have begun or ended
    since. Those that it begins with come before any text, later ones in their place.
    """

    __slots__ = ("_calls", "_first", "_thoughts", "news")

    def __init__(self, calls: Iterable[ToolCall]) -> None:
        self._thoughts = ""
        self._calls = deque(calls)
        self._first = len(self._calls)
        self.news = bool(self._calls)

    def think(self, text: str) -> None:
        """Note more thoughts."""
        self._thoughts = (self._thoughts + text)[-MAX_PIECE_LENGTH:]
        self.news = True

    def note_call(self, call: ToolCall) -> None:
        """Note a call as it is now."""
        self._calls.append(call)
        self.news = True

    def take(self, answer: "LiveAnswer", offset: int) -> AnswerItem | None:
        """The next item for somebody who has the text to this character, or None: then there are no more ``news``."""
        if self._thoughts:
            thoughts, self._thoughts = self._thoughts, ""
            return Thinking(thoughts)
        if not self._calls:
            self.news = False
            return None
        room = 0 if self._first else max(0, min(self._calls[0].offset - offset, MAX_PIECE_LENGTH))
        if text := answer.text_from(offset)[:room]:
            return text
        self._first = max(0, self._first - 1)
        return self._calls.popleft()


class LiveAnswer:
    """A running answer's text as it grows, and its whole text once it has ended, for any number of followers."""

    __slots__ = (
        "_blocks", "_blocks_length", "_calls", "_listeners", "_tail", "_waiters", "answer", "called", "error", "length",
        "outcome", "saved", "unused",
    )  # fmt: skip

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.error: BaioError | None = None
        self.outcome: Outcome | None = None
        self.called: list[Called] = []
        """The calls of tools that the client runs itself. They are after all text."""
        self.unused: Sequence[str] = ()
        """The parameters that the model is not sent."""
        self.length = 0
        self.saved = 0
        self._blocks: list[str] = []
        self._blocks_length = 0
        self._tail: list[str] = []
        self._calls: dict[int, ToolCall] = {}
        self._listeners: list[_Listener] = []
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def text(self) -> str:
        """All of the text so far."""
        return self.text_from(0)

    def text_from(self, offset: int) -> str:
        """The text from this character on."""
        if offset >= self._blocks_length:
            return "".join(self._tail)[offset - self._blocks_length :]
        # Whole blocks before the offset need not be joined only to be cut off again.
        start = self._blocks_length
        for index in range(len(self._blocks) - 1, -1, -1):
            start -= len(self._blocks[index])
            if start <= offset:
                return "".join(self._blocks[index:] + self._tail)[offset - start :]
        raise AssertionError  # the first block starts at 0, and no offset is below

    def append(self, text: str) -> None:
        """Add text and wake the followers."""
        self._tail.append(text)
        self.length += len(text)
        if self.length - self._blocks_length >= BLOCK:
            self._blocks.append("".join(self._tail))
            self._tail.clear()
            self._blocks_length = self.length
        self._wake()

    def think(self, text: str) -> None:
        """Tell those who follow the thinking. It is not kept."""
        if text and self._listeners:
            for listener in self._listeners:
                listener.think(text)
            self._wake()

    def note_call(self, call: ToolCall) -> None:
        """Note a call that begins or has ended, before its line, and tell those who follow events."""
        self._calls[call.id] = call
        for listener in self._listeners:
            listener.note_call(call)
        self._wake()

    def end(self, outcome: Outcome, error: BaioError | None) -> None:
        """Set how it ended, and wake the followers for the last time. A call that still runs is cancelled."""
        for call in self._calls.values():
            if call.state is CallState.RUNNING:
                self.note_call(replace(call, state=CANCELLED.state, shown=CANCELLED.shown))
        self.outcome = outcome
        self.error = error
        self._wake()

    async def ended(self) -> None:
        """Wait for the end."""
        while self.outcome is None:
            await self._more()

    def follow(self, offset: int = 0) -> AsyncGenerator[str, None]:
        """Yield the text from this character on, in the largest available pieces, until the answer has ended.

        Raises the error of an answer that was cut off, after its last text.
        """
        return self._follow(offset, nullcontext())

    def follow_events(self, offset: int = 0) -> AsyncGenerator[AnswerItem, None]:
        """As ``follow``, with what the model thinks from now on, and with calls.

        First come the calls that end beyond ``offset``, as they are then. Later ones come in their place in the text.
        """
        return self._follow(offset, self._listening(offset))

    async def _follow(
        self, offset: int, listening: AbstractContextManager["_Listener | None"]
    ) -> AsyncGenerator[Any, None]:
        with listening as listener:
            while True:
                if listener is not None and listener.news:
                    if (item := listener.take(self, offset)) is not None:
                        offset += len(item) if isinstance(item, str) else 0
                        yield item
                elif self.length > offset:
                    last = self._tail[-1] if self._tail else ""
                    text = last if len(last) == self.length - offset else self.text_from(offset)[:MAX_PIECE_LENGTH]
                    offset += len(text)
                    yield text
                elif self.outcome is not None:
                    if self.error is not None:
                        raise self.error
                    return
                else:
                    await self._more()

    @contextmanager
    def _listening(self, offset: int) -> Iterator["_Listener"]:
        listener = _Listener(call for call in self._calls.values() if ends_beyond(call, offset))
        self._listeners.append(listener)
        try:
            yield listener
        finally:
            self._listeners.remove(listener)

    def _more(self) -> asyncio.Future[None]:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return waiter

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()


class _StoredCalls:
    """The calls of an answer in the database, of which a follower is told as they change."""

    __slots__ = ("_after", "_answer_id", "_database", "_owner", "_told")

    def __init__(self, database: Database, answer_id: int, owner: int) -> None:
        self._database = database
        self._answer_id = answer_id
        self._owner = owner
        self._after = 0  # the newest call that has ended, and so have all before it
        self._told: ToolCall | None = None

    async def news(self, end: float) -> AsyncGenerator[ToolCall, None]:
        """The calls that are new or have changed, up to this character, to which the text is known."""
        while calls := await self._database.read(self._next):
            for call in calls:
                if call.offset > end:
                    return
                if call != self._told:
                    self._told = call
                    yield call
                if call.state is CallState.RUNNING:
                    return
                self._after = call.id

    def _next(self, tx: Transaction) -> list[ToolCall]:
        return tx.tool_calls.page(owner=self._owner, answer_id=self._answer_id, after=self._after, size=PAGE_SIZE)


class StoredAnswer:
    """An answer read from the database: it has ended, or it runs in another process."""

    __slots__ = ("_database", "_owner", "answer", "error", "outcome")

    def __init__(self, database: Database, answer: Answer, owner: int) -> None:
        self._database = database
        self._owner = owner
        self.answer = answer
        self.error: BaioError | None = None
        self.outcome: Outcome | None = None

    def follow(self, offset: int = 0) -> AsyncGenerator[str, None]:
        """As ``LiveAnswer.follow``. The text of another process arrives with its checkpoints."""
        return self._follow(offset, None)

    def follow_events(self, offset: int = 0) -> AsyncGenerator[AnswerItem, None]:
        """As ``LiveAnswer.follow_events``, but thinking is not stored."""
        return self._follow(offset, _StoredCalls(self._database, self.answer.id, self._owner))

    async def _follow(self, offset: int, calls: _StoredCalls | None) -> AsyncGenerator[Any, None]:
        first = True
        while True:
            text, start = await self._read_from(offset), offset
            known = math.inf if self.outcome else start + len(text)
            async for call in calls.news(known) if calls else _nothing():
                if first and ends_beyond(call, start):
                    yield call
                elif not first:
                    for piece in _pieces(text[offset - start : max(call.offset - start, 0)]):
                        yield piece
                    offset = max(call.offset, offset)
                    yield call
            for piece in _pieces(text[offset - start :]):
                yield piece
            offset, first = start + len(text), False
            if self.outcome is not None:
                if self.error is not None:
                    raise self.error
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _read_from(self, offset: int) -> str:
        answer_id, owner = self.answer.id, self._owner

        def read(tx: Transaction) -> tuple[Answer, str]:
            return tx.answers.get(answer_id, owner=owner), tx.answers.text(answer_id, offset, owner=owner)

        self.answer, text = await self._database.read(read)
        if self.answer.state is not AnswerState.RUNNING:
            self.outcome = outcome_of(self.answer)
            self.error = _error_of(self.answer, has_text=bool(offset or text)) if self.answer.cut else None
        return text


async def _nothing() -> AsyncGenerator[ToolCall, None]:
    return
    yield


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), MAX_PIECE_LENGTH):
        yield text[start : start + MAX_PIECE_LENGTH]


def ends_beyond(call: ToolCall, offset: int) -> bool:
    """Whether the line about a call ends beyond this character. A call without a line counts as one character."""
    return call.offset + max(call.length, 1) > offset


Followable = LiveAnswer | StoredAnswer
"""An answer to follow. After ``follow`` has ended, ``outcome`` says how, and ``error`` why it was cut off (or None)."""


def outcome_of(answer: Answer) -> Outcome:
    """How an ended answer ended."""
    usage = None
    if answer.prompt_tokens is not None and answer.completion_tokens is not None:
        usage = Usage(answer.prompt_tokens, answer.completion_tokens, answer.thinking_tokens)
    return Outcome(
        answer.state, answer.finish_reason, answer.model, usage, answer.reason, thinking_seconds=answer.thinking_seconds
    )


def _error_of(answer: Answer, *, has_text: bool) -> BaioError:
    if answer.state is AnswerState.FAILED and answer.finish_reason is not None:
        return failure_of(answer.finish_reason, has_text=has_text)
    return error_of(answer.reason)


class _Run:
    """The task of one answer, with its deadlines and the reason why it was cancelled."""

    __slots__ = (
        "_deadline", "_limits", "_loop", "_thought", "_timer", "began_at", "cancelled_as", "first_text_at",
        "last_sign_at", "live", "provider_done", "task", "thinking_since",
    )  # fmt: skip

    def __init__(self, live: LiveAnswer, limits: AnswerLimits) -> None:
        self.live = live
        self.task: asyncio.Task[None] | None = None
        self.cancelled_as: tuple[Outcome, BaioError | None] | None = None
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self.began_at = self.last_sign_at = self._loop.time()  # the last sign of text or thinking
        self.first_text_at: float | None = None
        self._deadline = self.began_at + limits.answer_seconds
        self.thinking_since: float | None = None
        self._thought: float | None = None  # seconds, without the thinking that goes on
        self.provider_done = False
        self._timer = self._loop.call_at(self._look_again_at(), self._check_deadline)

    def cancel(self, state: AnswerState, error: BaioError | None = None, reason: str | None = None) -> None:
        """End the answer in this state. Only the first call counts, and none after the provider has finished."""
        if self.cancelled_as is None and not self.provider_done:
            self.cancelled_as = Outcome(state, reason=reason), error
            self._timer.cancel()
            if self.task is not None:  # a task that has not begun would never run if it were cancelled
                self.task.cancel()

    def begin(self) -> bool:
        """Note that the task has begun; it calls this itself. Returns whether it should go on."""
        self.task = asyncio.current_task()
        return self.cancelled_as is None

    def end(self) -> None:
        """Switch off deadlines and cancellation: only storing is left."""
        self.end_thinking()
        self._timer.cancel()
        self.provider_done = True

    def note_thinking(self) -> None:
        """Note a sign that the model thinks."""
        self.last_sign_at = self._loop.time()
        if self.thinking_since is None:
            self.thinking_since = self.last_sign_at

    def end_thinking(self) -> None:
        """Note that the thinking, if there is any, has ended with text or with the answer."""
        self._thought, self.thinking_since = self.thought, None

    def note_call(self, item: ToolCall | Called) -> None:
        """Note a call that BAiO runs, or one for the client. In a conversation, a call for a client means nothing."""
        if isinstance(item, ToolCall):
            self.end_thinking()
            self.last_sign_at = self._loop.time()
            self.live.note_call(item)
        elif not self.live.answer.stored:
            self.live.called.append(item)

    @property
    def thought(self) -> float | None:
        """How long the model has thought so far, in seconds; None if it has not."""
        if self.thinking_since is None:
            return self._thought
        return (self._thought or 0.0) + self._loop.time() - self.thinking_since

    def _due(self) -> float:
        waited_for = self._limits.between_text_seconds if self.live.length else self._limits.first_text_seconds
        return min(self._deadline + (self.thought or 0.0), self.last_sign_at + waited_for, self._thinking_due())

    def _thinking_due(self) -> float:
        if self.thinking_since is None:
            return math.inf
        return self.thinking_since + self._limits.thinking_seconds - (self._thought or 0.0)

    def _look_again_at(self) -> float:
        # The first text and the first thinking bring the deadline forward, so the check can't sleep for longer.
        soon = self._loop.time() + min(self._limits.between_text_seconds, self._limits.thinking_seconds)
        return min(self._due(), soon)

    def _check_deadline(self) -> None:
        # The timer is set again only when it fires, not with every text: a text costs one assignment.
        now = self._loop.time()
        if now < self._due():
            self._timer = self._loop.call_at(self._look_again_at(), self._check_deadline)
        else:
            thought_too_long = now >= self._thinking_due()
            detail = (
                "The model thought for too long." if thought_too_long else "The provider sent no more text in time."
            )
            error = ProviderTooSlow(detail)
            self.cancel(AnswerState.FAILED, error, error.slug)


class Answering:
    """Runs answers. There is one instance per process, active inside ``running``; it owns the task of every answer."""

    def __init__(
        self, database: Database, clock: Clock, limits: AnswerLimits, workers: Workers, metrics: Metrics = NO_METRICS
    ) -> None:
        self.worker: int | None = None
        """The number under which this process holds its lock."""
        self._database = database
        self._clock = clock
        self._limits = limits
        self._workers = workers
        self._metrics = metrics
        self._roll = RollCall()
        self._runs: dict[int, _Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._storing = asyncio.Lock()
        self._closing = False
        self._reaped_at: datetime  # or the time of the start
        self._reap_from = 0.0
        self._warn_from = 0.0

    @asynccontextmanager
    async def running(self, drain_seconds: float) -> AsyncIterator[None]:
        """Store checkpoints and end the answers of dead processes while inside; drain on exit.

        An answer that still runs ``drain_seconds`` after the exit began is stored as interrupted.
        """
        self._reaped_at = self._clock.now()
        await self._attempt(self._call_the_roll)  # the answers of a predecessor have ended before the first request
        keepers = [
            asyncio.create_task(self._every(CHECKPOINT_SECONDS, self._checkpoint)),
            asyncio.create_task(self._every(ROLL_CALL_SECONDS, self._call_the_roll)),
            asyncio.create_task(self._every(REAP_SECONDS, self._reap)),
        ]
        try:
            yield
        finally:
            await self.drain(drain_seconds)
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            self._workers.leave()

    @property
    def count(self) -> int:
        """How many answers run in this process."""
        return len(self._runs)

    def refuse_when_closing(self) -> None:
        """Raise Unavailable if this process is shutting down, because a new answer would be cut off."""
        if self._closing:
            raise Unavailable("The server is restarting.", retry_after=5)

    def start(self, answer: Answer, source: AnswerSource) -> LiveAnswer:
        """Send the request and run the answer in a task of its own, independent of the caller."""
        live = LiveAnswer(answer)
        run = _Run(live, self._limits)
        task = asyncio.create_task(self._drive(run, source))
        self._runs[answer.id] = run
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return live

    def live(self, answer_id: int) -> LiveAnswer | None:
        """The answer if it runs in this process."""
        run = self._runs.get(answer_id)
        return run.live if run else None

    def stop(self, answer_id: int) -> None:
        """Stop the answer if it runs in this process; its text so far is stored if its conversation still exists."""
        if run := self._runs.get(answer_id):
            run.cancel(AnswerState.STOPPED)

    def stop_all(self, conversation_id: int) -> None:
        """Stop what runs in this process for the conversation."""
        for run in list(self._runs.values()):
            if run.live.answer.conversation_id == conversation_id:
                run.cancel(AnswerState.STOPPED)

    async def drain(self, seconds: float) -> None:
        """Start no new answers, let running ones finish for this long, then interrupt and store the rest."""
        self._closing = True
        give_up_at = asyncio.get_running_loop().time() + seconds
        # In a loop: a question that was on its way to the database may still start an answer.
        while self._tasks and (left := give_up_at - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._tasks, timeout=left)
        for run in list(self._runs.values()):
            run.cancel(AnswerState.INTERRUPTED, AnswerInterrupted("The server is restarting."), "restart")
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _drive(self, run: _Run, source: AnswerSource) -> None:
        live, left_out = run.live, source.left_out
        live.unused = source.unused
        outcome, error = Outcome(AnswerState.INTERRUPTED), None
        stream = source.stream()
        try:
            goes_on = run.begin()
            while goes_on:
                try:
                    outcome, error = await self._relay(run, stream)
                    goes_on = False
                except BaioError as refusal:
                    again = source.after(refusal, shown=live.length > 0)
                    if again is None:
                        raise
                    await self._close(stream)
                    source, stream = again, again.stream()
                    live.unused = source.unused
        except asyncio.CancelledError:
            error = AnswerInterrupted()  # unless ``run`` cancelled it, and knows why
        except BaioError as refusal:
            outcome, error = Outcome(AnswerState.FAILED, reason=refusal.slug), refusal
        except Exception:
            # A gateway broke its contract. The caller gets an error, the log the traceback.
            logger.exception("gateway failed", extra={"answer_id": live.answer.id})
            error = ProviderBroken()
            outcome = Outcome(AnswerState.FAILED, reason=error.slug)
        if run.cancelled_as is not None:
            outcome, error = run.cancelled_as
        run.end()
        await self._close(stream)
        thought = None if run.thought is None else round(run.thought, 3)
        outcome = replace(outcome, thinking_seconds=thought, unused_parameters=tuple(source.unused) or None)
        if left_out != source.left_out:
            outcome = replace(outcome, left_out=source.left_out)
        error = await self._store_end(live, outcome) or error
        del self._runs[live.answer.id]
        live.end(outcome, error)
        self._measure(run, source.provider, outcome)
        if error is not None:
            logger.info("answer cut", extra={"answer_id": live.answer.id, "state": outcome.state, "cause": error.slug})

    def _measure(self, run: _Run, provider: str, outcome: Outcome) -> None:
        first = None if run.first_text_at is None else run.first_text_at - run.began_at
        seconds = asyncio.get_running_loop().time() - run.began_at
        model = run.live.answer.requested_model
        self._metrics.answer_ended(EndedAnswer(provider, model, outcome.state, seconds, first, outcome.usage))

    async def _relay(self, run: _Run, stream: SourceStream) -> tuple[Outcome, BaioError | None]:
        live, loop = run.live, asyncio.get_running_loop()
        room, note = self._limits.max_chars - live.length, None
        async for item in stream:
            if isinstance(item, str):
                if run.thinking_since is not None:
                    run.end_thinking()
                text = storable(item)
                run.last_sign_at = loop.time()
                if run.first_text_at is None:
                    run.first_text_at = run.last_sign_at
                if len(text) >= room:
                    live.append(text[:room])
                    return Outcome(AnswerState.TRUNCATED, finish_reason="length", reason="longest-answer"), None
                room -= len(text)
                live.append(text)
            elif isinstance(item, Thinking):
                run.note_thinking()
                live.think(storable(item.text))
            elif isinstance(item, Finished):
                return self._finished(live, item, note)
            elif isinstance(item, Noted):
                note = item.reason
            else:
                run.note_call(item)
        error = ProviderBroken("The provider ended the answer without finishing it.")
        return Outcome(AnswerState.FAILED, reason=error.slug), error

    async def _close(self, stream: SourceStream) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await stream.aclose()
        except Exception:
            # The answer has ended; an error of the provider's while closing changes nothing.
            logger.exception("provider not closed")

    def _finished(self, live: LiveAnswer, finished: Finished, note: str | None) -> tuple[Outcome, BaioError | None]:
        answered = bool(live.length or live.called)
        state = finished.state if answered else AnswerState.FAILED
        error = failure_of(finished.reason, has_text=answered) if state is AnswerState.FAILED else None
        model = storable(finished.model)[:MAX_METADATA_LENGTH] if finished.model else None
        finish_reason = storable(finished.reason)[:MAX_METADATA_LENGTH]
        reason = error.slug if error else TOOL_ROUNDS if finished.reason == TOOL_ROUNDS else note
        return Outcome(state, finish_reason, model, _plausible(finished.usage), reason), error

    async def _store_end(self, live: LiveAnswer, outcome: Outcome) -> BaioError | None:
        """Store the final state. Returns the error for the followers when that failed.

        If what the provider said about the answer can't be stored, the text is stored without it.
        """
        answer_id, text, now = live.answer.id, live.text, self._clock.now()
        text_alone = Outcome(outcome.state, reason=outcome.reason, left_out=outcome.left_out)
        loop = asyncio.get_running_loop()
        give_up_at, pause = loop.time() + SAVE_TIMEOUT_SECONDS, 0.05

        def end(tx: Transaction) -> bool:
            return tx.answers.end(answer_id, outcome, text, now)

        while True:
            try:
                ended = await self._database.write(end)
            except Unavailable as error:
                if loop.time() + pause > give_up_at:
                    logger.exception("answer not stored", extra={"answer_id": answer_id, "characters": len(text)})
                    return error
                await asyncio.sleep(pause)
                pause = min(2 * pause, 2.0)
            except Exception:
                logger.exception("answer not stored", extra={"answer_id": answer_id, "characters": len(text)})
                if outcome == text_alone:
                    return AnswerInterrupted()
                outcome = text_alone
            else:
                return None if ended else AnswerInterrupted("The answer was ended elsewhere.")

    async def _checkpoint(self) -> None:
        async with self._storing:  # a later checkpoint must not be overtaken by an earlier one
            await self._store_checkpoint()

    async def _store_checkpoint(self) -> None:
        running = list(self._runs.values())
        if not running:
            return
        ids = [run.live.answer.id for run in running]
        appended = [
            AnswerPart(run.live.answer.id, run.live.saved, run.live.text_from(run.live.saved))
            for run in running
            if run.live.length > run.live.saved and run.live.answer.stored
        ]
        lease_until, worker = self._clock.now() + LEASE, self.worker
        began_at = asyncio.get_running_loop().time()
        standing = await self._database.write(lambda tx: tx.answers.checkpoint(appended, ids, lease_until, worker))
        self._metrics.checkpoint_stored(asyncio.get_running_loop().time() - began_at)
        for piece in appended:
            if run := self._runs.get(piece.answer_id):
                run.live.saved = piece.offset + len(piece.text)
        for run in running:
            if run.live.answer.id in standing.stopping:
                run.cancel(AnswerState.STOPPED)
            elif run.live.answer.id not in standing.running:
                run.cancel(AnswerState.INTERRUPTED, AnswerInterrupted("The answer was ended elsewhere."))

    async def _call_the_roll(self) -> None:
        """Hold the lock of this process, and end the answers of processes that have died."""
        worker = await self._workers.enroll()
        if worker != self.worker:
            self.worker = worker
            await self._checkpoint()  # at once: under the number before, the running answers seem to be a dead one's
        others = await self._database.read(lambda tx: tx.answers.workers()) - {worker}
        self._roll = await self._workers.judge(others)
        if dead := self._roll.dead:
            now, mine = self._clock.now(), frozenset(self._runs)
            lost = await self._database.write(lambda tx: tx.answers.end_of_workers(dead, now, except_ids=mine))
            self._log_lost(lost)

    async def _reap(self) -> None:
        now, loop_time = self._clock.now(), asyncio.get_running_loop().time()
        if now - self._reaped_at > timedelta(seconds=2 * REAP_SECONDS):
            # This process was frozen, and others with it, or the clock was set: no lease says anything yet.
            self._reap_from = loop_time + GRACE_SECONDS
        self._reaped_at = now
        if loop_time < self._reap_from:
            return
        mine, alive = frozenset(self._runs), self._roll.alive  # mine run, whatever their leases say

        def reap(tx: Transaction) -> list[int]:
            tx.idempotency.forget(now - IDEMPOTENCY_KEY_LIFETIME, now)
            latest = now + LEASE + CLOCK_TOLERANCE
            return [
                *tx.answers.end_expired(now, latest, except_ids=mine, except_workers=alive),
                *tx.answers.end_expired(now - (FROZEN - LEASE), latest, except_ids=mine),
            ]

        self._log_lost(await self._database.write(reap))

    def _log_lost(self, lost: list[int]) -> None:
        for answer_id in lost:
            logger.warning("answer interrupted", extra={"answer_id": answer_id})

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self._attempt(work)

    async def _attempt(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Unavailable as error:
            now = asyncio.get_running_loop().time()
            if now >= self._warn_from:  # not twice a second, for as long as it lasts
                logger.warning("database unavailable", extra={"cause": error.detail})
                self._warn_from = now + REAP_SECONDS
            self._reap_from = now + GRACE_SECONDS  # no process could renew its leases meanwhile
        except Exception:
            # These loops renew the leases of all running answers: a bug in one round must not end them.
            logger.exception("keeping answers failed")


def failure_of(finish_reason: str, *, has_text: bool) -> BaioError:
    """Why an answer failed that ended with this finish reason.

    An answer without text is a failure, whatever the provider calls it.
    """
    term = openai_finish_reason(finish_reason)
    if has_text or Finished(finish_reason).state is AnswerState.FAILED:
        return ProviderBroken("The provider says that it could not finish the answer.")
    if term == "content_filter":
        return PromptRefused("The provider's filter, or the model, refuses to answer this question.")
    if term == "length":
        return ProviderBroken("The model used up the answer's length before its first text, probably by thinking.")
    return ProviderBroken("The provider finished without any text.")


def _plausible(usage: Usage | None) -> Usage | None:
    """The provider's counts, None if one of them is impossible."""
    if usage is None:
        return None
    counts = usage.prompt_tokens, usage.completion_tokens, usage.thinking_tokens, usage.cached_tokens
    possible = all(count is None or (type(count) is int and 0 <= count <= MAX_TOKEN_COUNT) for count in counts)
    return usage if possible else None
