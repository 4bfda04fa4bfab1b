"""Answers survive: two processes over one database, whatever their users, their provider and their power supply do.

Hypothesis asks, follows, leaves, stops, regenerates, deletes, crashes and restarts in any order, in virtual time. What
comes of it is judged by every commit there was, by what each follower was shown, and by what the provider had sent.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Container, Coroutine, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, TypeVar, final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from baio_adapters.llm.scripted import ScriptedGateway, Step
from baio_adapters.memory import MemoryDatabase
from baio_adapters.memory.tables import AnswerRow, Tables
from baio_domain.answering import CHECKPOINT_SECONDS, LEASE, POLL_SECONDS, REAP_SECONDS, AnswerLimits, Followable
from baio_domain.entities import Answer, AnswerState, Caller, Message, Role, Usage
from baio_domain.errors import (
    AnswerNotFound,
    AnswerRunning,
    BaioError,
    ConversationNotFound,
    IdempotencyKeyReused,
    InvalidInput,
    KeyRefused,
    QuestionNotFound,
    TooManyAnswers,
    Unavailable,
    error_of,
)
from baio_domain.ports import Database, Finished, Transaction
from baio_domain.use_cases.messaging import LeaveAnswer
from tests.unit.world import OPENAI, BAiO, VirtualTimeLoop

T = TypeVar("T")

ANSWERS_PER_USER = 2
LIMITS = AnswerLimits(first_text_seconds=8, between_text_seconds=5, answer_seconds=60)

LATENCY = 0.01
"""How long it is to the database, and back again: what may happen meanwhile does."""

LITTLE = 0.1
"""A few latencies: what happens at once has happened by then."""

LOSS = CHECKPOINT_SECONDS + LITTLE
"""How much of what was shown a crash may cost."""

RECOVERY = 2.0
"""How long after a crash an answer may still seem to run."""

LONGEST = 40.0
"""How long an answer and its slowest reader take at most."""

NAMED, COUNTED = "gpt-4o-mini-2024-07-18", Usage(31, 4)


class End(Enum):
    """How the provider ends an answer."""

    FINISHED = "finished"
    CAPPED = "capped"
    REFUSED = "refused"
    CUT = "cut"
    SILENT = "silent"


@dataclass(frozen=True)
class Script:
    """What the provider does: so many seconds before each text, and before the end."""

    pauses: tuple[float, ...]
    end: End
    last_pause: float

    def steps(self, number: int) -> Iterator[Step]:
        """Play it, with texts that nobody else's script has."""
        loop = asyncio.get_running_loop()
        for text, after in self.texts(number):
            yield _in(loop, after)
            yield text
        yield _in(loop, sum(self.pauses) + self.last_pause)
        if self.end is End.SILENT:
            yield asyncio.Event()
        elif self.end is End.REFUSED:
            yield KeyRefused()
        elif self.end is not End.CUT:
            yield Finished("stop" if self.end is End.FINISHED else "length", NAMED, COUNTED)

    def texts(self, number: int) -> list[tuple[str, float]]:
        """Each text, and after how many seconds it is sent."""
        return [(f"{number}.{index} ", after) for index, after in enumerate(itertools.accumulate(self.pauses))]

    @property
    def lasts(self) -> float:
        """After how many seconds the answer has ended, where nothing else ends it."""
        if self.end is not End.SILENT:
            return sum(self.pauses) + self.last_pause
        return sum(self.pauses) + (LIMITS.between_text_seconds if self.pauses else LIMITS.first_text_seconds)

    @property
    def outcome(self) -> tuple[AnswerState, str | None]:
        """The state that such an answer ends in, and the reason."""
        if self.end in (End.FINISHED, End.CAPPED) and self.pauses:
            return AnswerState.COMPLETE if self.end is End.FINISHED else AnswerState.TRUNCATED, None
        reasons = {End.REFUSED: "key-refused", End.SILENT: "provider-too-slow"}
        return AnswerState.FAILED, reasons.get(self.end, "provider-broken")


def _in(loop: asyncio.AbstractEventLoop, seconds: float) -> asyncio.Event:
    event = asyncio.Event()
    if seconds:
        loop.call_later(seconds, event.set)
    else:
        event.set()
    return event


class Commit(NamedTuple):
    """What the database held from a moment on."""

    at: float
    tables: Tables


@final
class Wire(Database):
    """One process's way to the database. Once its process is dead, nothing passes, and nobody learns that."""

    def __init__(self, database: MemoryDatabase, commits: list[Commit]) -> None:
        self.database = database
        self.commits = commits
        self.is_dead = False

    async def read(self, work: Callable[[Transaction], T]) -> T:
        async with self._there_and_back():
            return await self.database.read(work)

    async def write(self, work: Callable[[Transaction], T]) -> T:
        async with self._there_and_back():
            result = await self.database.write(work)
            self.commits.append(Commit(asyncio.get_running_loop().time(), self.database._tables))
            return result

    async def delete_all_data(self) -> int:
        return await self.database.delete_all_data()

    async def check(self) -> None:
        """It is there."""

    async def check_writable(self) -> None:
        """It can be written."""

    def close(self) -> None:
        """Nothing is open."""

    @asynccontextmanager
    async def _there_and_back(self) -> AsyncIterator[None]:
        await self._pass()
        yield
        await self._pass()

    async def _pass(self) -> None:
        if not self.is_dead:
            await asyncio.sleep(LATENCY)
        if self.is_dead:
            raise asyncio.CancelledError


@final
class Process:
    """A BAiO that can be drained, or die."""

    def __init__(self, database: MemoryDatabase, commits: list[Commit], roll: dict[int, bool]) -> None:
        self.wire = Wire(database, commits)
        self.baio = BAiO(self.wire, LIMITS, roll=roll, answers_per_user=ANSWERS_PER_USER)
        self.requests: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.get_running_loop()
        self.began_at = self._loop.time()
        self._over = asyncio.Event()
        self._life = asyncio.create_task(self._live())

    async def _live(self) -> None:
        async with self.baio.answering.running(drain_seconds=0):
            await self._over.wait()

    def begin(self, request: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Let a request run in this process, until it has ended or the process has."""
        task = self._loop.create_task(request)
        self.requests.add(task)
        task.add_done_callback(self.requests.discard)
        return task

    async def drain(self, seconds: float) -> None:
        """End as on SIGTERM: first its answers, then its requests."""
        await self.baio.answering.drain(seconds)
        await asyncio.sleep(LATENCY)  # its followers are shown the end
        self._over.set()
        await self._life
        await _ended(self.requests)

    async def die(self) -> None:
        """End as on SIGKILL: nothing is stored and nobody is told."""
        self.wire.is_dead = True
        self.baio.workers.leave()  # as the system does for it
        await _ended(self.requests | self.baio.answering._tasks)
        await _ended({self._life})


async def _ended(tasks: "set[asyncio.Task[Any]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(eq=False)
class Given:
    """An answer as its provider gives it, and what may have kept it from ending so."""

    conversation: int
    question_id: int
    process: Process
    number: int
    script: Script
    asked_at: float
    shown: str = ""
    may_end_as: set[AnswerState] = field(default_factory=set)
    died_at: float | None = None

    @property
    def text(self) -> str:
        """All of it."""
        return self.sent_by(float("inf"))

    @property
    def due(self) -> float:
        """When it ends by itself."""
        return self.asked_at + self.script.lasts

    def sent_by(self, moment: float) -> str:
        """What the provider had sent by then."""
        return "".join(text for text, after in self.script.texts(self.number) if self.asked_at + after <= moment)


@dataclass(eq=False)
class Ended:
    """How the database says that an answer ended."""

    at: float
    record: Answer
    text: str


@dataclass(eq=False, repr=False)
class Follower:
    """Somebody who follows an answer, and what they were shown. A slow one rests after each text."""

    answer: Followable
    process: Process
    offset: int
    rest: float
    since: float
    too_late: bool
    shown: str = ""
    error: BaioError | None = None
    is_at_the_end: bool = False
    is_judged: bool = False

    def __repr__(self) -> str:
        return f"<who follows answer {self.answer.answer.id} from {self.offset}>"

    def __post_init__(self) -> None:
        self.task = self.process.begin(self._read())

    async def _read(self) -> None:
        try:
            async with aclosing(self.answer.follow(self.offset)) as texts:
                async for text in texts:
                    self.shown += text
                    await asyncio.sleep(self.rest)
        except BaioError as error:
            self.error = error
        self.is_at_the_end = True


@dataclass(eq=False)
class SecretKind:
    """A request under an idempotency key, and the answer it led to, or None where a crash came first."""

    key: str
    conversation: int
    content: str
    answer_id: int | None


@dataclass(eq=False)
class Request:
    """A question to ask, or the last one again where it has no content."""

    process: Process
    content: str | None
    key: str | None = None


RHYTHMS = [(), (0.0,), (0.0, 0.0, 0.0), (0.3, 0.7), (0.0, 2.0, 0.3), (0.3, 0.7, 0.7, 2.0, 2.0), (4.5,) * 6]

scripts = st.builds(
    Script,
    pauses=st.sampled_from(RHYTHMS),
    end=st.sampled_from(End),
    last_pause=st.sampled_from([0.0, 0.4, 3.0]),
)
anywhere = st.runner().flatmap(lambda self: st.sampled_from(sorted(self.owners)))
busy = st.runner().flatmap(lambda self: st.sampled_from(self.busy() or sorted(self.owners)))
answered = st.runner().flatmap(lambda self: st.sampled_from(self.answered() or sorted(self.owners)))
quiet = st.runner().flatmap(lambda self: st.sampled_from(self.quiet() or sorted(self.owners)))
kept_requests = st.runner().flatmap(lambda self: st.sampled_from(list(self.kept.values())))
superseded = st.runner().flatmap(lambda self: st.sampled_from(self.superseded() or list(self.kept.values())))
followers = st.runner().flatmap(lambda self: st.sampled_from(self.followers))
processes = st.sampled_from([0, 1])
at_work = st.runner().flatmap(lambda self: st.sampled_from(self.at_work() or [0, 1]))
keyed = st.sampled_from([True, True, False])
rests = st.sampled_from([0.0, 0.0, 1.5])


class Survival(RuleBasedStateMachine):
    """Two processes over one database, and all that became of what was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.database = MemoryDatabase()
        self.commits: list[Commit] = []
        self.gateways: list[ScriptedGateway] = []
        self.processes: list[Process] = []
        self.numbers = itertools.count(1)
        self.callers: list[Caller] = []
        self.owners: dict[int, Caller] = {}
        self.roll: dict[int, bool] = {}
        self.given: dict[int, Given] = {}
        self.ended: dict[int, Ended] = {}
        self.questions: dict[int, list[str]] = {}
        self.deleted_at: dict[int, float] = {}
        self.kept: dict[str, SecretKind] = {}
        self.followers: list[Follower] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @property
    def tables(self) -> Tables:
        return self.database._tables

    # -- What is done --------------------------------------------------------------------------------------------------

    @initialize()
    def two_processes_begin(self) -> None:
        self.run(self._begin())

    async def _begin(self) -> None:
        self.processes = [self._process(), self._process()]
        baio = self.processes[0].baio
        await baio.load_catalogue([OPENAI])
        self.callers = [await baio.someone("olenor"), await baio.someone("kari")]
        for caller in (self.callers[0], self.callers[0], *self.callers):
            self.owners[await baio.begin(caller)] = caller
        self.commits[:] = [Commit(self.loop.time(), self.tables)]

    @rule(process=processes, conversation=quiet | anywhere, script=scripts, keyed=keyed, rest=rests)
    def a_question_is_asked(self, process: int, conversation: int, script: Script, *, keyed: bool, rest: float) -> None:
        self.run(self._ask(conversation, script, [self._question(process, keyed=keyed)], rest=rest))

    @rule(process=processes, conversation=answered | anywhere, script=scripts, rest=rests)
    def the_last_question_is_asked_again(self, process: int, conversation: int, script: Script, rest: float) -> None:
        self.run(self._ask(conversation, script, [Request(self.processes[process], None)], rest=rest))

    @rule(
        at=st.lists(processes, min_size=2, max_size=4),
        conversation=quiet | anywhere,
        script=scripts,
        again=st.integers(0, 2),
    )
    def many_ask_at_once(self, at: list[int], conversation: int, script: Script, again: int) -> None:
        requests = [self._question(process, keyed=True) for process in at]
        requests[:again] = [Request(request.process, None) for request in requests[:again]]
        self.run(self._ask(conversation, script, requests))

    @rule(
        process=processes,
        conversation=quiet | anywhere,
        script=scripts,
        moment=st.sampled_from([0.0, 0.5, 1.5, 2.5]),
    )
    def a_process_crashes_while_it_is_asked(
        self, process: int, conversation: int, script: Script, moment: float
    ) -> None:
        request = self._question(process, keyed=True)
        self.run(self._ask(conversation, script, [request], crash_after=moment * LATENCY))

    @precondition(lambda self: self.kept)
    @rule(process=processes, kept=superseded | kept_requests, script=scripts, rest=rests)
    def a_request_is_repeated_under_its_key(self, process: int, kept: SecretKind, script: Script, rest: float) -> None:
        if kept.answer_id is None:
            request = Request(self.processes[process], kept.content, kept.key)
            self.run(self._ask(kept.conversation, script, [request], rest=rest))
            return
        answer = self.run(self._send(self.processes[process], kept.conversation, kept.content, kept.key))
        if kept.conversation in self.tables.conversations:
            assert not isinstance(answer, BaioError)
            assert answer.answer.id == kept.answer_id
            self._follow(answer, self.processes[process], 0, rest)
        else:
            assert isinstance(answer, ConversationNotFound)  # the key went with it

    @precondition(lambda self: any(kept.answer_id for kept in self.kept.values()))
    @rule(process=processes, kept=kept_requests, conversation=quiet | anywhere)
    def another_request_is_made_under_a_key(self, process: int, kept: SecretKind, conversation: int) -> None:
        known = kept.answer_id is not None and kept.conversation in self.tables.conversations
        if known and self.owners[conversation] == self.owners[kept.conversation]:
            answer = self.run(self._send(self.processes[process], conversation, "Another question?", kept.key))
            assert isinstance(answer, IdempotencyKeyReused)

    @rule(process=processes, conversation=busy | anywhere, share=st.sampled_from([0.5, 1.0, 1.0]), rest=rests)
    def an_answer_is_followed_from_where_somebody_was(
        self, process: int, conversation: int, share: float, rest: float
    ) -> None:
        rows = self._rows(conversation)
        newest = self.given[rows[-1].answer.id] if rows else None
        offset = int(share * len(newest.shown)) if newest else 0
        where = self.processes[process]
        answer = self.run(
            _said(where.baio.follow_answer(self.owners[conversation], conversation_id=conversation, offset=offset))
        )
        if newest is None:
            assert isinstance(answer, AnswerNotFound)
        elif isinstance(answer, BaioError):
            assert isinstance(answer, InvalidInput)
            assert newest.died_at is not None
            assert offset > len(newest.sent_by(newest.died_at - LOSS))
        else:
            assert answer.answer.id == rows[-1].answer.id
            self._follow(answer, where, offset, rest)

    @precondition(lambda self: self.followers)
    @rule(follower=followers, stops=st.sampled_from([False, False, True]))
    def a_follower_leaves(self, follower: Follower, *, stops: bool) -> None:
        if follower.task.done():
            return
        if stops:
            self._may_end(AnswerState.STOPPED, lambda given: given is self.given[follower.answer.answer.id])
        LeaveAnswer(follower.process.baio.answering, stops)(follower.answer)
        self.run(_ended({follower.task}))

    @rule(process=processes, conversation=busy | anywhere)
    def an_answer_is_stopped(self, process: int, conversation: int) -> None:
        running = self._running(conversation)
        self._may_end(AnswerState.STOPPED, lambda given: given.conversation == conversation)
        where, begun = self.processes[process], self.loop.time()
        answer = self.run(_said(where.baio.stop_answer(self.owners[conversation], conversation)))
        took = self.loop.time() - begun
        if isinstance(answer, BaioError):
            assert isinstance(answer, AnswerNotFound)
            assert not running or not self._running(conversation)
            return
        given = self.given[answer.id]
        assert [row.answer.id for row in running] == [answer.id]
        assert self.tables.answers[answer.id].answer == answer
        assert took < (RECOVERY if given.died_at is not None else LITTLE if where is given.process else 1)

    @rule(process=processes, conversation=busy | anywhere)
    def a_conversation_is_deleted_and_another_begun(self, process: int, conversation: int) -> None:
        there = conversation in self.tables.conversations
        self.deleted_at.setdefault(conversation, self.loop.time())
        deleting = self.processes[process].baio.delete_conversation(self.owners[conversation], conversation)
        refusal = self.run(_said(deleting))
        assert isinstance(refusal, type(None) if there else ConversationNotFound)
        assert conversation not in self.tables.conversations
        another = self.run(self.processes[process].baio.begin(self.owners[conversation]))
        assert another > max(self.owners)
        self.owners[another] = self.owners[conversation]

    @precondition(lambda self: self.busy())
    @rule(process=at_work)
    def a_process_crashes(self, process: int) -> None:
        self.run(self._crash(self.processes[process]))

    @rule(process=at_work, seconds=st.sampled_from([0.0, 1.0, 4.0, 20.0]), conversation=quiet | anywhere)
    def a_process_is_restarted(self, process: int, seconds: float, conversation: int) -> None:
        self.run(self._restart(process, seconds, conversation))

    @rule(seconds=st.sampled_from([0.1, 0.7, 1.1, 2.3, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self._let_pass(seconds)

    # -- How it is done ------------------------------------------------------------------------------------------------

    def _let_pass(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    def _question(self, process: int, *, keyed: bool) -> Request:
        number = next(self.numbers)
        return Request(self.processes[process], f"Question {number}?", f"key {number}" if keyed else None)

    async def _send(self, process: Process, conversation: int, content: str, key: str | None) -> Followable | BaioError:
        return await _said(process.baio.ask(self.owners[conversation], conversation, content, idempotency_key=key))

    async def _request(self, conversation: int, request: Request) -> Followable | BaioError:
        if request.content is None:
            return await _said(request.process.baio.regenerate(self.owners[conversation], conversation))
        return await self._send(request.process, conversation, request.content, request.key)

    async def _ask(
        self,
        conversation: int,
        script: Script,
        requests: Sequence[Request],
        *,
        rest: float = 0.0,
        crash_after: float | None = None,
    ) -> None:
        """Ask, once or often at once, and expect of each answer what the script says, or the right refusal."""
        before, asked_at = set(self.tables.answers), self.loop.time()
        refusals = [self._refusals(conversation, request) for request in requests]
        numbers = {request.process: [next(self.numbers) for _ in requests] for request in requests}
        for process, number in [(process, number) for process, mine in numbers.items() for number in mine]:
            process.baio.openai.script(*script.steps(number))
        asking = [request.process.begin(self._request(conversation, request)) for request in requests]
        if crash_after is not None:
            await asyncio.sleep(crash_after)
            await self._crash(requests[0].process)
        said = await asyncio.gather(*asking, return_exceptions=True)

        for row in [row for answer_id, row in self.tables.answers.items() if answer_id not in before]:
            # One that nobody was told of is there only where its process crashed before it could tell.
            request = requests[[_may_lead_to(answer, row) for answer in said].index(True)]
            self._expect(row, request, script, numbers[request.process].pop(0), asked_at)
        for request, answer, refusal in zip(requests, said, refusals, strict=True):
            self._judge_reply(conversation, request, answer, refusal)
            if not isinstance(answer, BaseException) and not request.process.wire.is_dead:
                self._follow(answer, request.process, 0, rest)
        if crash_after is None and not all(refusals):
            assert not all(isinstance(answer, BaioError) for answer in said)
        await asyncio.sleep(LATENCY)
        for process in numbers:
            process.baio.openai._scripts.clear()  # of those that were refused

    def _judge_reply(
        self, conversation: int, request: Request, answer: Followable | BaseException, refusal: set[type[BaioError]]
    ) -> None:
        if isinstance(answer, BaioError):
            # Where nothing stood in the way, or a slot has become free meanwhile, another of these may.
            another = {AnswerRunning} if not refusal or TooManyAnswers in refusal else set()
            assert type(answer) in refusal | another
            if isinstance(answer, AnswerRunning):
                assert self.given[int(answer.members["answer_id"])].conversation == conversation
        elif isinstance(answer, BaseException):
            assert request.process.wire.is_dead
            if request.key is not None and request.content is not None:
                self.kept.setdefault(request.key, SecretKind(request.key, conversation, request.content, None))

    def _refusals(self, conversation: int, request: Request) -> set[type[BaioError]]:
        """How a request may be refused now; not at all where there is nothing here."""
        if conversation not in self.tables.conversations:
            return {ConversationNotFound}
        if request.content is None and not self.questions.get(conversation):
            return {QuestionNotFound, AnswerRunning}
        running = [row.answer.conversation_id for row in self._running()]
        mine = [each for each in running if self.owners[each] == self.owners[conversation]]
        refusals: set[type[BaioError]] = {AnswerRunning} if conversation in mine else set()
        return refusals | ({TooManyAnswers} if len(mine) >= ANSWERS_PER_USER else set())

    def _expect(self, row: AnswerRow, request: Request, script: Script, number: int, asked_at: float) -> None:
        """Expect of this answer what its provider's script says."""
        answer, question = row.answer, self.tables.messages[row.answer.question_id]
        given = Given(answer.conversation_id, question.id, request.process, number, script, asked_at)
        self.given[answer.id] = given
        if request.content is not None:
            assert question.content == request.content
            self.questions.setdefault(answer.conversation_id, []).append(question.content)
        if request.key is not None:
            self.kept[request.key] = SecretKind(request.key, answer.conversation_id, question.content, answer.id)
        if request.process.wire.is_dead:
            self._has_died(given)

    def _follow(self, answer: Followable, process: Process, offset: int, rest: float) -> None:
        row = self.tables.answers.get(answer.answer.id)
        replaced = row is not None and row.message_id is not None and row.message_id not in self.tables.messages
        self.followers.append(Follower(answer, process, offset, rest, self.loop.time(), replaced))

    def _process(self) -> Process:
        process = Process(self.database, self.commits, self.roll)
        self.gateways.append(process.baio.openai)
        return process

    async def _crash(self, process: Process) -> None:
        await process.die()
        self.processes[self.processes.index(process)] = self._process()
        for row in self._running():
            given = self.given.get(row.answer.id)
            if given is not None and given.process is process:
                self._has_died(given)

    def _has_died(self, given: Given) -> None:
        given.died_at = self.loop.time()
        given.may_end_as.add(AnswerState.INTERRUPTED)

    async def _restart(self, index: int, seconds: float, conversation: int) -> None:
        process, begun = self.processes[index], self.loop.time()
        self._may_end(
            AnswerState.INTERRUPTED, lambda given: given.process is process and given.due > begun + seconds - LITTLE
        )
        draining = asyncio.create_task(process.drain(seconds))
        await asyncio.sleep(LATENCY)
        refusal = await self._send(process, conversation, "In vain?", None)
        assert isinstance(refusal, Unavailable)
        assert refusal.retry_after is not None
        await draining
        assert self.loop.time() - begun < seconds + LITTLE
        assert process not in [self.given[row.answer.id].process for row in self._running()]
        self.processes[index] = self._process()

    def busy(self) -> list[int]:
        """Where something is being answered."""
        return [row.answer.conversation_id for row in self._running()]

    def quiet(self) -> list[int]:
        """Where nothing is being answered."""
        return sorted(self.tables.conversations.keys() - set(self.busy()))

    def superseded(self) -> list[SecretKind]:
        """Which requests led to answers that were replaced."""
        said = {message.content for message in self.tables.messages.values()}
        texts = {kept: self.ended[kept.answer_id].text for kept in self.kept.values() if kept.answer_id in self.ended}
        return [kept for kept, text in texts.items() if text and text not in said and self.is_there(kept)]

    def answered(self) -> list[int]:
        """Where an answer could be replaced."""
        messages = self.tables.messages.values()
        return sorted({each.conversation_id for each in messages if each.role is Role.BAIO} - set(self.busy()))

    def at_work(self) -> list[int]:
        """Which processes answer something."""
        return [index for index, process in enumerate(self.processes) if process.baio.answering._runs]

    def _may_end(self, state: AnswerState, which: Callable[[Given], bool]) -> None:
        for row in self._running():
            if which(self.given[row.answer.id]):
                self.given[row.answer.id].may_end_as.add(state)

    def _rows(self, conversation: int) -> list[AnswerRow]:
        return [row for row in self.tables.answers.values() if row.answer.conversation_id == conversation]

    def _running(self, conversation: int | None = None) -> list[AnswerRow]:
        rows = self.tables.answers.values() if conversation is None else self._rows(conversation)
        return [row for row in rows if row.answer.state is AnswerState.RUNNING]

    # -- What must always hold -----------------------------------------------------------------------------------------

    @invariant()
    def all_is_well(self) -> None:
        records = self.run(self._records())
        self.every_commit_was_right()
        self.every_question_is_there_once_and_in_order()
        self.every_answer_has_one_record(records)
        self.every_answer_ends_as_its_provider_or_somebody_else_ended_it()
        self.every_follower_is_shown_what_is_stored_in_the_end()
        self.no_provider_is_kept_on_the_line_for_an_answer_that_has_ended()
        self.every_answer_is_paid_for_once_and_its_model_is_told_the_truth()

    async def _records(self) -> list[list[Answer]]:
        asked = [(process, conversation) for process in self.processes for conversation in self.tables.conversations]
        records: list[list[Answer]] = await asyncio.gather(
            *(process.baio.get_answers(self.owners[conversation], conversation) for process, conversation in asked)
        )
        return records

    def every_commit_was_right(self) -> None:
        for before, after in itertools.pairwise(self.commits):
            _judge_tables(after.tables)
            self._judge_change(before.tables, after)
        del self.commits[:-1]

    def _judge_change(self, before: Tables, after: Commit) -> None:
        rows, messages, there = after.tables.answers, after.tables.messages, after.tables.conversations
        for row in rows.values():
            assert row.answer.id in before.answers or row.answer.state is AnswerState.RUNNING
        ended = [row for row in before.answers.values() if _in_place(row, there)]
        answered_anew = set()
        for row in ended:
            now = rows[row.answer.id]
            if row.answer.state is not AnswerState.RUNNING:
                assert now.answer == row.answer, "a final state has changed"
                continue
            text = now.text if now.message_id is None else messages[now.message_id].content
            assert text.startswith(row.text), "a checkpoint was lost"
            if now.answer.state is not AnswerState.RUNNING:
                self.ended[row.answer.id] = Ended(after.at, now.answer, text)
                if text:
                    answered_anew.add(row.answer.question_id)
        replaced = {row.message_id for row in before.answers.values() if row.answer.question_id in answered_anew}
        for message in before.messages.values():
            if message.conversation_id in there:
                assert messages.get(message.id) == message or (message.id not in messages and message.id in replaced)

    def every_question_is_there_once_and_in_order(self) -> None:
        for conversation in self.tables.conversations:
            messages = [each for each in self.tables.messages.values() if each.conversation_id == conversation]
            asked = [message.content for message in messages if message.role is Role.USER]
            assert asked == self.questions.get(conversation, [])

    def every_answer_has_one_record(self, records: list[list[Answer]]) -> None:
        rows = [[row.answer.id for row in self._rows(conversation)] for conversation in self.tables.conversations]
        assert [[record.id for record in each] for each in records] == rows * len(self.processes)
        there = [answer_id for answer_id, given in self.given.items() if self.is_there(given)]
        assert sorted(itertools.chain(*rows)) == there

    def is_there(self, given: Given | SecretKind) -> bool:
        return given.conversation in self.tables.conversations

    def every_answer_ends_as_its_provider_or_somebody_else_ended_it(self) -> None:
        now, guarded_since = self.loop.time(), min(process.began_at for process in self.processes)
        for answer_id, given in self.given.items():
            if answer_id in self.ended:
                _judge_end(given, self.ended[answer_id])
            elif self.is_there(given) and given.died_at is None:
                assert now < given.due + LITTLE
            elif self.is_there(given) and given.died_at is not None:
                assert now < max(given.died_at, guarded_since) + RECOVERY

    def every_follower_is_shown_what_is_stored_in_the_end(self) -> None:
        for follower in self.followers:
            given, ended = self.given[follower.answer.answer.id], self.ended.get(follower.answer.answer.id)
            seen = given.text[: follower.offset] + follower.shown
            assert given.text.startswith(seen)
            given.shown = max(given.shown, seen, key=len)
            if ended is not None and given.died_at is None:
                assert ended.text.startswith(seen)
            if follower.is_at_the_end and not follower.is_judged:
                self._judge_last_words(follower, seen, ended)
                follower.is_judged = True
            elif not follower.task.done() and follower.rest == 0:
                self._judge_pace(follower, given, seen, ended)

    def _judge_last_words(self, follower: Follower, seen: str, ended: Ended | None) -> None:
        if follower.answer.answer.conversation_id in self.deleted_at and follower.error is not None:
            return
        assert ended is not None
        if follower.too_late and seen != ended.text:
            assert follower.error is not None, "a text that was replaced is shown as an empty one, properly ended"
        else:
            assert seen == ended.text
            assert type(follower.error) is (type(error_of(ended.record.reason)) if ended.record.cut else type(None))

    def _judge_pace(self, follower: Follower, given: Given, seen: str, ended: Ended | None) -> None:
        lag = LITTLE if follower.process is given.process else CHECKPOINT_SECONDS + POLL_SECONDS + LITTLE
        before = self.loop.time() - lag
        if before < follower.since:
            return
        assert ended is None or ended.at > before, "nobody told them of the end"
        if given.died_at is None and not given.may_end_as and given.conversation not in self.deleted_at:
            assert seen.startswith(given.sent_by(before))

    def no_provider_is_kept_on_the_line_for_an_answer_that_has_ended(self) -> None:
        for process in self.processes:
            running = process.baio.answering._runs
            assert len(process.baio.openai.asked) - process.baio.openai.closed <= len(running)
            for answer_id in running.keys() - {row.answer.id for row in self._running()}:
                ended, deleted_at = self.ended.get(answer_id), self.deleted_at.get(self.given[answer_id].conversation)
                ended_at = ended.at if ended is not None else deleted_at
                assert ended_at is not None
                assert self.loop.time() - ended_at < LOSS

    def every_answer_is_paid_for_once_and_its_model_is_told_the_truth(self) -> None:
        asked = [each for gateway in self.gateways for each in gateway.asked]
        wanted = Counter(given.question_id for given in self.given.values())
        ids = {message.content: message.id for message in self.tables.messages.values() if message.role is Role.USER}
        known = set(itertools.chain(*self.questions.values()))
        # A question that got no answer is part of the same turn as the next one.
        newest = [(each, each.prompt[-1].content.rpartition("\n\n")[2]) for each in asked]
        for question, times in Counter(question for _, question in newest).items():
            assert question in known
            assert question not in ids or times <= wanted[ids[question]]
        assert len(asked) <= len(self.given)
        for each, question in newest:
            last = self.tables.messages.get(ids.get(question, 0))
            if last is not None:
                assert "\n\n".join(turn.content for turn in each.prompt) == "\n\n".join(
                    message.content
                    for message in self.tables.messages.values()
                    if message.conversation_id == last.conversation_id and message.id <= last.id
                )

    def teardown(self) -> None:
        try:
            if self.processes:
                self._let_pass(LEASE.total_seconds() + REAP_SECONDS + LONGEST)
                self.all_is_well()
                assert not self._running()
                assert all(follower.task.done() for follower in self.followers)
                for process in self.processes:
                    self.run(process.drain(0))
                assert not self.run(_others())
        finally:
            self.run(_ended(asyncio.all_tasks(self.loop)))
            self.run(self.loop.shutdown_asyncgens())
            self.loop.close()


async def _others() -> "set[asyncio.Task[Any]]":
    return asyncio.all_tasks() - {asyncio.current_task()}


async def _said(request: Coroutine[Any, Any, T]) -> T | BaioError:
    try:
        return await request
    except BaioError as refusal:
        return refusal


def _may_lead_to(answer: Followable | BaseException, row: AnswerRow) -> bool:
    if isinstance(answer, BaseException):
        return isinstance(answer, asyncio.CancelledError)
    return answer.answer.id == row.answer.id


def _in_place(row: AnswerRow, conversations: Container[int]) -> bool:
    return row.answer.conversation_id in conversations


def _judge_tables(tables: Tables) -> None:
    """Whatever was done, no database may hold anything else."""
    running = [row.answer.conversation_id for row in tables.answers.values() if row.answer.state is AnswerState.RUNNING]
    assert len(running) == len(set(running)), "two answers in one conversation"
    busy = Counter(tables.conversations[conversation].user_id for conversation in running)
    assert max(busy.values(), default=0) <= ANSWERS_PER_USER
    owned = [message.conversation_id for message in tables.messages.values()]
    owned += [row.answer.conversation_id for row in tables.answers.values()]
    assert tables.conversations.keys() >= set(owned), "a deleted conversation has left something behind"
    # What BAiO says belongs to one answer each, and follows the question that it answers.
    said = [row for row in tables.answers.values() if row.message_id in tables.messages]
    questions = {row.message_id: row.answer.question_id for row in said}
    assert len(questions) == len(said)
    last: dict[int, Message] = {}
    for message in tables.messages.values():
        if message.role is Role.BAIO:
            assert questions.pop(message.id) == last[message.conversation_id].id
        last[message.conversation_id] = message
    assert not questions


def _judge_end(given: Given, ended: Ended) -> None:
    record, text = ended.record, ended.text
    assert record.requested_model == "gpt-4o-mini"
    assert record.ended_at is not None
    assert record.started_at <= record.ended_at
    if (record.state, record.reason) == given.script.outcome:
        assert given.due <= ended.at < given.due + LITTLE
        assert text == given.text
        told = given.script.end in (End.FINISHED, End.CAPPED)
        reason = {End.FINISHED: "stop", End.CAPPED: "length"}.get(given.script.end)
        assert (record.finish_reason, record.model) == (reason, NAMED if told else None)
        usage = (record.prompt_tokens, record.completion_tokens)
        assert usage == ((COUNTED.prompt_tokens, COUNTED.completion_tokens) if told else (None, None))
        return
    assert record.state in given.may_end_as
    if record.reason == "lost":
        assert given.died_at is not None
        assert text.startswith(given.sent_by(given.died_at - LOSS))
        assert given.sent_by(given.died_at).startswith(text)
    else:
        assert text.startswith(given.sent_by(ended.at - LITTLE))
        assert given.sent_by(ended.at).startswith(text)


Survival.TestCase.settings = settings(max_examples=60, stateful_step_count=50, derandomize=True)
TestSurvival = Survival.TestCase
