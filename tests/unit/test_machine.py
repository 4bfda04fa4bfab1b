"""Everything that can be done, in any order, compared with a model of what should come of it."""

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from baio_adapters.llm.scripted import Step
from baio_adapters.memory import MemoryDatabase
from baio_domain.answering import AnswerLimits
from baio_domain.entities import AnswerState, Caller
from baio_domain.errors import (
    AnswerNotFound,
    AnswerRunning,
    ApiKeyNotFound,
    BadCredentials,
    ConversationNotFound,
    InvalidInput,
    KeyRefused,
    ProviderBroken,
    QuestionNotFound,
    TooManyAnswers,
)
from baio_domain.ports import Finished
from baio_domain.titles import title_of
from tests.unit.world import KEY, OPENAI, OTHER, PASSWORD, PROFILE, BAiO, VirtualTimeLoop, heard

T = TypeVar("T")

NAMES = ["ole", "Ole", "OLE", "kari", "Kari", "per"]
TITLES = st.sampled_from(["", "a", "b", "\N{DNA DOUBLE HELIX}"])
TEXTS = st.text("ACGT \N{DNA DOUBLE HELIX}", min_size=1, max_size=6)
ANSWERS_PER_USER = 2
LIMITS = AnswerLimits()


@dataclass
class Said:
    """A conversation as it should be: the last question has the answer that ``answered`` says it has."""

    title: str
    messages: list[tuple[str, str]] = field(default_factory=list)
    answers: list[AnswerState] = field(default_factory=list)
    running: list[str] | None = None
    due: float = 0.0


@dataclass
class Person:
    """An account as it should be."""

    name: str
    caller: Caller
    conversations: dict[int, Said] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)

    @property
    def running(self) -> int:
        """How many answers run for them."""
        return sum(said.running is not None for said in self.conversations.values())


class Machine(RuleBasedStateMachine):
    """Two processes over one database, and what their users should see."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.people: dict[str, Person] = {}
        self.ids: list[int] = []
        self.database = MemoryDatabase()
        self.processes = [BAiO(self.database, answers_per_user=ANSWERS_PER_USER) for _ in range(2)]
        self.alive: list[AbstractAsyncContextManager[None]] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def start(self) -> None:
        self.run(self.processes[0].load_catalogue([OPENAI, OTHER]))
        for process in self.processes:
            self.alive.append(process.answering.running(drain_seconds=0))
            self.run(self.alive[-1].__aenter__())
        self.run(self.begin_with("ole"))
        self.run(self.begin_with("kari"))

    async def begin_with(self, name: str) -> None:
        caller = await self.processes[0].someone(name)
        self.people[name] = Person(name, caller, keys=["OpenAI Key"])
        conversation = await self.processes[0].begin(caller, "")
        self.people[name].conversations[conversation] = Said("")
        self.ids.append(conversation)

    def teardown(self) -> None:
        for process in self.alive:
            self.run(process.__aexit__(None, None, None))
        for person in self.people.values():
            for conversation, said in person.conversations.items():
                if said.running is not None:
                    # Nothing that was shown is lost when the processes end.
                    self.ended(said, AnswerState.INTERRUPTED)
                    messages = self.run(self.processes[0].messages(person.caller, conversation))
                    assert messages == said.messages
        self.loop.close()

    # -- What people do ------------------------------------------------------------------------------------------------

    people_st = st.runner().flatmap(lambda self: st.sampled_from(sorted(self.people)))
    conversations_st = st.runner().flatmap(lambda self: st.sampled_from([*self.ids, 10_000]))
    processes_st = st.sampled_from([0, 1])

    @rule(name=st.sampled_from(NAMES), process=processes_st)
    def register(self, name: str, process: int) -> None:
        email = f"{name}@example.no"
        work = self.processes[process].register(username=name, email=email, password=PASSWORD, profile=PROFILE)
        if name.lower() in self.people:
            with pytest.raises(InvalidInput):
                self.run(work)
        else:
            self.people[name.lower()] = Person(name.lower(), Caller(self.run(work).id))

    @rule(name=st.sampled_from(NAMES), password=st.sampled_from([PASSWORD, "wrong"]), process=processes_st)
    def sign_in(self, name: str, password: str, process: int) -> None:
        baio = self.processes[process]
        if password == PASSWORD and name.lower() in self.people:
            tokens = self.run(baio.sign_in(name, password))
            self.run(baio.validate_token(tokens.access))
            assert f"access/{self.people[name.lower()].caller.user_id}/" in tokens.access
        else:
            with pytest.raises(BadCredentials):
                self.run(baio.sign_in(name, password))

    @rule(name=people_st, title=TITLES, process=processes_st)
    def create(self, name: str, title: str, process: int) -> None:
        person = self.people[name]
        conversation = self.run(self.processes[process].begin(person.caller, title))
        assert conversation > max(self.ids)
        self.ids.append(conversation)
        person.conversations[conversation] = Said(title)

    @rule(name=people_st, conversation=conversations_st, title=TITLES, process=processes_st)
    def rename(self, name: str, conversation: int, title: str, process: int) -> None:
        person = self.people[name]
        work = self.processes[process].rename_conversation(person.caller, conversation, title)
        if conversation in person.conversations:
            self.run(work)
            person.conversations[conversation].title = title
        else:
            with pytest.raises(ConversationNotFound):
                self.run(work)

    @rule(name=people_st, conversation=conversations_st, process=processes_st)
    def delete(self, name: str, conversation: int, process: int) -> None:
        person = self.people[name]
        work = self.processes[process].delete_conversation(person.caller, conversation)
        if conversation in person.conversations:
            self.run(work)
            del person.conversations[conversation]
            self.pass_time(1)  # the process that runs its answer has noticed by then
        else:
            with pytest.raises(ConversationNotFound):
                self.run(work)

    @rule(name=people_st, nickname=st.sampled_from(["OpenAI Key", "Second"]), process=processes_st)
    def add_key(self, name: str, nickname: str, process: int) -> None:
        person = self.people[name]
        work = self.processes[process].add_api_key(person.caller, key=KEY, nickname=nickname, provider=None)
        if nickname in person.keys:
            with pytest.raises(InvalidInput):
                self.run(work)
        else:
            self.run(work)
            person.keys.append(nickname)

    @rule(
        name=people_st,
        conversation=conversations_st,
        content=TEXTS.filter(str.strip),
        texts=st.lists(TEXTS, max_size=4),
        end=st.sampled_from(["stop", "length", "cut", "refused", "later", "later"]),
        again=st.booleans(),
        process=processes_st,
    )
    def ask(
        self,
        *,
        name: str,
        conversation: int,
        content: str,
        texts: list[str],
        end: str,
        again: bool,
        process: int,
    ) -> None:
        person, baio = self.people[name], self.processes[process]
        before = len(baio.openai.asked)
        ends: dict[str, list[Step]] = {"stop": [Finished("stop")], "length": [Finished("length")], "cut": []}
        ends |= {"refused": [KeyRefused()], "later": [asyncio.Event()]}
        baio.openai._scripts.clear()
        baio.openai.script(*texts, *ends[end])
        work = baio.regenerate(person.caller, conversation) if again else baio.ask(person.caller, conversation, content)
        refused = self.refusal(person, conversation, again=again)
        if refused is not None:
            with pytest.raises(refused):
                self.run(work)
            assert len(baio.openai.asked) == before
            return
        answer = self.run(work)
        said = person.conversations[conversation]
        if not again:
            said.messages.append(("user", content))
        if not said.title and [role for role, _ in said.messages].count("user") == 1:
            said.title = title_of(said.messages[0][1])
        said.running = texts
        said.due = self.loop.time() + (LIMITS.between_text_seconds if texts else LIMITS.first_text_seconds)
        if end == "later":
            return
        text, error = self.run(heard(answer))
        assert text == "".join(texts)
        failed = end in ("cut", "refused") or not texts
        wanted = KeyRefused if end == "refused" else ProviderBroken if failed else type(None)
        assert isinstance(error, wanted)
        complete = AnswerState.COMPLETE if end == "stop" else AnswerState.TRUNCATED
        self.ended(said, AnswerState.FAILED if failed else complete)

    def refusal(self, person: Person, conversation: int, *, again: bool) -> type[Exception] | None:
        said = person.conversations.get(conversation)
        if said is None:
            return ConversationNotFound
        if again and not any(role == "user" for role, _ in said.messages):
            return QuestionNotFound
        if "OpenAI Key" not in person.keys:
            return ApiKeyNotFound
        if said.running is not None:
            return AnswerRunning
        return TooManyAnswers if person.running >= ANSWERS_PER_USER else None

    def ended(self, said: Said, state: AnswerState) -> None:
        assert said.running is not None
        text = "".join(said.running)
        if text:
            if said.messages[-1][0] == "baio":
                said.messages.pop()  # it takes the place of the earlier answer to the same question
            said.messages.append(("baio", text))
        said.answers.append(state)
        said.running = None

    @rule(name=people_st, conversation=conversations_st, process=processes_st)
    def stop(self, name: str, conversation: int, process: int) -> None:
        person = self.people[name]
        said = person.conversations.get(conversation)
        work = self.processes[process].stop_answer(person.caller, conversation)
        if said is None or said.running is None:
            with pytest.raises(AnswerNotFound):
                self.run(work)
        else:
            state = self.run(work).state
            assert state is AnswerState.STOPPED or (state is AnswerState.FAILED and said.due <= self.loop.time())
            self.ended(said, state)
            self.pass_time(0)

    @rule(name=people_st, conversation=conversations_st, process=processes_st)
    def follow(self, name: str, conversation: int, process: int) -> None:
        person, baio = self.people[name], self.processes[process]
        said = person.conversations.get(conversation)
        if said is None or (not said.answers and said.running is None):
            with pytest.raises(AnswerNotFound):
                self.run(baio.follow(person.caller, conversation))
        elif said.running is None:
            text, error = self.run(heard(self.run(baio.follow(person.caller, conversation))))
            assert (error is not None) == (said.answers[-1] in (AnswerState.FAILED, AnswerState.INTERRUPTED))
            assert text == "" or said.messages[-1] == ("baio", text)

    @rule(delay=st.floats(0.1, 8) | st.just(70.0))
    def wait(self, delay: float) -> None:
        self.pass_time(delay)

    def pass_time(self, delay: float) -> None:
        """Wait, and expect that providers who have been silent for too long are given up."""
        self.run(asyncio.sleep(delay))
        running = [
            said
            for person in self.people.values()
            for said in person.conversations.values()
            if said.running is not None
        ]
        while any(abs(said.due - self.loop.time()) < 0.01 for said in running):
            self.run(asyncio.sleep(0.02))
        for said in running:
            if said.due < self.loop.time():
                self.ended(said, AnswerState.FAILED)

    # -- What must always hold -----------------------------------------------------------------------------------------

    @invariant()
    def everybody_sees_their_own_and_nobody_elses(self) -> None:
        for person in self.people.values():
            for baio in self.processes:
                listed = self.run(baio.get_conversations(person.caller))
                assert [each.id for each in listed] == sorted(person.conversations, reverse=True)
                assert {each.id: each.title for each in listed} == {
                    conversation: said.title for conversation, said in person.conversations.items()
                }
                keys = self.run(baio.get_api_keys(person.caller))
                assert [key.nickname for key in keys] == person.keys

    @invariant()
    def every_conversation_is_as_it_was_said(self) -> None:
        for person in self.people.values():
            for conversation, said in person.conversations.items():
                assert self.run(self.processes[0].messages(person.caller, conversation)) == said.messages
                for stranger in self.people.values():
                    if stranger is not person:
                        with pytest.raises(ConversationNotFound):
                            self.run(self.processes[0].get_conversation(stranger.caller, conversation))

    @invariant()
    def no_answer_is_lost_and_at_most_one_runs_in_a_conversation(self) -> None:
        for person in self.people.values():
            for conversation, said in person.conversations.items():
                records = self.run(self.processes[0].get_answers(person.caller, conversation))
                running = [AnswerState.RUNNING] if said.running is not None else []
                assert [record.state for record in records] == said.answers + running


Machine.TestCase.settings = settings(max_examples=25, stateful_step_count=25)
TestEverything = Machine.TestCase
