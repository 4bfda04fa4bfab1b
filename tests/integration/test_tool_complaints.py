"""What users of comparable systems complain about, with BAiO's own tools and both protocols on a real socket.

Complaints 5 and 6 are about processes, too: ``test_running_calls``. Complaint 14 is about sequences by handle.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from baio_adapters.biology.toolbox import WorkerToolbox
from baio_adapters.llm.anthropic import AnthropicGateway
from baio_adapters.llm.openai import OpenAIGateway
from baio_adapters.memory import MemoryDatabase
from baio_adapters.scripted_tools import ScriptedToolbox
from baio_domain.answering import Followable, StoredAnswer
from baio_domain.entities import AnswerState, Caller, CallState, ModelSpec, ProviderSpec, ToolCall
from baio_domain.ports import GatewayOptions, LLMGateway
from baio_domain.prompts import ENDED_ON_RESULTS
from baio_domain.rounds import MAX_ROUNDS, TOOL_CALL_AS_TEXT
from baio_domain.tool_records import MAX_SHOWN
from baio_domain.tools import Toolbox
from tests.integration.scripted_provider import (
    ScriptedProvider,
    answer,
    call_tools,
    delta,
    events,
    finished,
    refuse,
)
from tests.integration.test_gateway_contract import sent_calls
from tests.unit.world import BAiO

pytestmark = pytest.mark.anyio

SPEC = ProviderSpec("OpenAI", (ModelSpec("gpt-4o-mini", "GPT-4o mini", 16_000, 2_000, tools=True),))
GC = ("gc_content", '{"sequence": "ACGTTGCAGG"}')
OTHER_GC = ("gc_content", '{"sequence": "AAAT"}')
LINE = "**60.00 %** (6 of 10)"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def toolbox(anyio_backend: str) -> AsyncIterator[WorkerToolbox]:
    """BAiO's tools in their process."""
    del anyio_backend
    installed = WorkerToolbox()
    yield installed
    await installed.aclose()


@pytest.fixture(params=[OpenAIGateway, AnthropicGateway])
async def gateway(request: pytest.FixtureRequest, provider: ScriptedProvider) -> AsyncIterator[LLMGateway]:
    """A gateway of each protocol to the scripted provider."""
    made: LLMGateway = request.param(GatewayOptions(base_url=provider.base_url, provider=SPEC))
    yield made
    await made.aclose()


class Person:
    """Somebody who asks in one conversation."""

    def __init__(self, baio: BAiO, caller: Caller, thread: int, provider: ScriptedProvider) -> None:
        self.baio, self.caller, self.thread, self._provider = baio, caller, thread, provider

    async def ask(self, content: str = "What is its GC content?") -> tuple[str, Followable]:
        """Ask, and read the whole answer, whether or not it is cut."""
        answer = await self.baio.ask(self.caller, self.thread, content)
        return "".join([text async for text in answer.follow()]), answer

    async def calls(self, answer: Followable) -> list[ToolCall]:
        """The records of an answer's calls."""
        return await self.baio.get_tool_calls(self.caller, answer_id=answer.answer.id)

    @property
    def sent(self) -> list[Any]:
        """The calls of the last request with their results. Each is paired, or this fails."""
        return list(sent_calls(self._provider.requests[-1].body["messages"]))


async def someone(baio: BAiO, gateway: LLMGateway, provider: ScriptedProvider) -> Person:
    """A researcher whose provider is behind this gateway."""
    baio.gateways["OpenAI"] = gateway
    await baio.load_catalogue([SPEC])
    caller = await baio.someone()
    return Person(baio, caller, await baio.begin(caller), provider)


@pytest.fixture
async def person(gateway: LLMGateway, provider: ScriptedProvider, toolbox: Toolbox) -> AsyncIterator[Person]:
    baio = BAiO(tools=toolbox)
    async with baio.answering.running(0):
        yield await someone(baio, gateway, provider)


async def test_complaint_1_after_two_rounds_the_stored_answer_is_what_was_streamed(
    person: Person, provider: ScriptedProvider
) -> None:
    provider.script(call_tools([GC]), call_tools([OTHER_GC], "Next."), answer("It is ", "60 %."))
    text, ended = await person.ask()
    assert text.endswith("It is 60 %.")
    assert (await person.baio.messages(person.caller, person.thread))[-1] == ("baio", text)
    assert ended.outcome is not None
    assert ended.outcome.state is AnswerState.COMPLETE


@pytest.mark.parametrize("gateway", [OpenAIGateway], indirect=True)
async def test_complaint_2_calls_without_index_are_run(person: Person, provider: ScriptedProvider) -> None:
    calls = [
        {"id": str(place), "function": {"name": name, "arguments": raw}}
        for place, (name, raw) in enumerate([GC, OTHER_GC])
    ]
    provider.script(events(*(delta(tool_calls=[call]) for call in calls), finished("tool_calls")), answer("60 %."))
    text, first = await person.ask()
    assert LINE in text
    assert len(await person.calls(first)) == len(calls)


@pytest.mark.parametrize("reason", ["stop", "end_turn"])
async def test_complaint_3_calls_are_run_although_the_finish_reason_says_that_all_is_said(
    reason: str, person: Person, provider: ScriptedProvider
) -> None:
    provider.script(call_tools([GC], reason=reason), answer("60 %."))
    text, _ = await person.ask()
    assert LINE in text
    assert text.endswith("60 %.")


async def test_complaint_4_the_next_question_has_the_results_of_the_first(
    person: Person, provider: ScriptedProvider
) -> None:
    provider.script(call_tools([GC], "Let me see."), answer("60 %."))
    _, first = await person.ask()
    await person.ask("Are you sure?")
    [(name, arguments, result)] = person.sent
    [record] = await person.calls(first)
    assert (name, arguments, result) == (GC[0], json.loads(GC[1]), record.shown)
    assert LINE not in json.dumps(provider.requests[-1].body["messages"])


async def test_complaint_6_a_conversation_goes_on_after_a_process_died_between_call_and_result(
    gateway: LLMGateway, provider: ScriptedProvider
) -> None:
    database, roll, tools = MemoryDatabase(), dict[int, bool](), ScriptedToolbox()
    dying = BAiO(database, roll=roll, tools=tools)
    tools.script(asyncio.Event())
    async with dying.answering.running(0):
        person = await someone(dying, gateway, provider)
        provider.script(call_tools([("echo", '{"text": "A"}')], "See:"))
        running = await dying.ask(person.caller, person.thread)
        async with aclosing(running.follow_events()) as following:
            while not isinstance(await anext(following), ToolCall):
                pass
        async with aclosing(StoredAnswer(database, running.answer, person.caller.user_id).follow()) as stored:
            assert (await anext(stored)).startswith("See:")
        worker, now = dying.answering.worker or 0, dying.clock.now()
        await database.write(lambda tx: tx.answers.end_of_workers({worker}, now, except_ids=[]))
        assert [call.state for call in await person.calls(running)] == [CallState.CANCELLED]
        text, _ = await person.ask("And now?")
        assert text
        [(name, _, result)] = person.sent
        assert (name, json.loads(result)["error"]) == ("echo", "cancelled")
        assert ENDED_ON_RESULTS in json.dumps(provider.requests[-1].body["messages"])


async def test_complaint_7_results_of_calls_of_one_round_are_sent_in_the_order_of_the_calls(
    person: Person, provider: ScriptedProvider
) -> None:
    slow = ("reverse_complement", json.dumps({"sequence": "ACGT" * 5_000}))
    provider.script(call_tools([slow, GC]), answer("Both."))
    await person.ask()
    assert [name for name, _, _ in person.sent] == ["reverse_complement", "gc_content"]


async def test_complaint_8_trimming_and_halving_part_no_call_from_its_result(
    person: Person, provider: ScriptedProvider
) -> None:
    for number in range(20):
        arguments = json.dumps({"sequence": "ACGT" * 500 + "A" * number})
        provider.script(call_tools([("reverse_complement", arguments)], "See:"), answer("There."))
        await person.ask(f"Question {number}?")
    before = len(person.sent)
    provider.script(refuse(400, code="context_length_exceeded", says="prompt is too long"))
    text, _ = await person.ask("The last one?")
    assert text
    assert 0 < len(person.sent) < before < 20
    assert provider.requests[-1].body["messages"][-1]["content"] == "The last one?"


async def test_complaint_9_a_big_result_is_short_for_the_model_and_whole_in_the_record(
    person: Person, provider: ScriptedProvider
) -> None:
    provider.script(call_tools([("find_motif", json.dumps({"sequence": "ACGT" * 500, "motif": "A"}))]), answer("Many."))
    _, first = await person.ask()
    [(_, _, result)] = person.sent
    assert len(result) <= MAX_SHOWN
    [record] = await person.calls(first)
    assert record.result is not None
    assert len(record.result) > 2 * MAX_SHOWN
    await person.ask("And then?")
    assert person.sent[-1][2] == result


async def test_complaint_10_a_model_that_always_calls_is_ended_and_the_same_call_is_run_once(
    person: Person, provider: ScriptedProvider
) -> None:
    provider.always(call_tools([GC]))
    text, ended = await person.ask()
    assert text.count(LINE) == 1
    assert len(await person.calls(ended)) == 1
    assert len(provider.requests) == MAX_ROUNDS + 1
    assert ended.outcome is not None
    assert (ended.outcome.state, ended.outcome.reason) == (AnswerState.TRUNCATED, "tool-rounds")


async def test_complaint_11_the_right_number_stands_in_the_text_and_the_record_knows_that_it_is_not_repeated(
    person: Person, provider: ScriptedProvider
) -> None:
    provider.script(call_tools([GC]), answer("It is 66.40 %."))
    text, first = await person.ask()
    assert LINE in text
    assert [record.quoted for record in await person.calls(first)] == [False]
    provider.script(answer("gc_content says: 61.00 %."))
    text, second = await person.ask("Once more?")
    assert text == "gc_content says: 61.00 %."
    assert await person.calls(second) == []


async def test_complaint_12_what_the_model_needs_is_in_what_it_reads(
    person: Person, provider: ScriptedProvider
) -> None:
    digest = ("restriction_digest", '{"sequence": "AAAAGAATTCTTTTGAATTCAA", "enzymes": ["EcoRI"]}')
    provider.script(call_tools([digest]), answer("Three."))
    _, ended = await person.ask()
    [(_, _, result)] = person.sent
    [record] = await person.calls(ended)
    assert json.loads(result)["fragments"] == json.loads(record.result or "{}")["fragments"] != []


async def test_complaint_13_a_call_written_as_text_is_shown_and_noted(
    person: Person, provider: ScriptedProvider
) -> None:
    written = '<tool_call>{"name": "gc_content", "arguments": {"sequence": "ACGT"}}</tool_call>'
    provider.script(answer(written))
    text, ended = await person.ask()
    assert text == written
    assert await person.calls(ended) == []
    assert ended.outcome is not None
    assert ended.outcome.reason == TOOL_CALL_AS_TEXT


async def test_complaint_15_a_model_that_takes_no_tools_is_asked_without_them(
    person: Person, provider: ScriptedProvider
) -> None:
    provider.script(refuse(400, says="llama-3 does not support tools"), answer("About 60 %."), answer("Yes."))
    assert (await person.ask())[0] == "About 60 %."
    assert (await person.ask())[0] == "Yes."
    assert ["tools" in request.body for request in provider.requests] == [True, False, False]


@pytest.mark.parametrize("gateway", [OpenAIGateway], indirect=True)
async def test_the_wire_of_llama_cpp_is_understood(person: Person, provider: ScriptedProvider) -> None:
    """The frame of each event is recorded from the embedded model's server; the calls in it follow llama.cpp's source.

    The template of the embedded model's weights does not know tools, and it answers with text.
    """

    def event(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"finish_reason": finish, "index": 0, "delta": delta}
        frame = {"created": 1795733161, "id": "chatcmpl-qnrS8vphdHUq4HrDCZ1HPZrFmFj5hjpk", "model": "smollm2-135m"}
        return {"choices": [choice], **frame, "system_fingerprint": "b0-unknown", "object": "chat.completion.chunk"}

    function = {"name": "gc_content", "arguments": "{"}
    begun = {"index": 0, "id": "RJSyLUQbbmv9FY2Tkl5sQaCgOFHEbGVN", "type": "function", "function": function}
    rest = [{"index": 0, "function": {"arguments": piece}} for piece in ('"sequence', '":"', "ACGTT", 'GCAGG"}')]
    usage = {"completion_tokens": 15, "prompt_tokens": 42, "total_tokens": 57}
    provider.script(
        events(
            event({"role": "assistant", "content": None}),
            *(event({"tool_calls": [fragment]}) for fragment in (begun, *rest)),
            event({}, "tool_calls"),
            {**event({}), "choices": [], "usage": usage, "timings": {"cache_n": 0, "prompt_n": 42}},
        ),
        answer("60 %."),
    )
    text, ended = await person.ask()
    assert LINE in text
    assert text.endswith("60 %.")
    assert ended.outcome is not None
    assert ended.outcome.usage is not None
    assert ended.outcome.usage.prompt_tokens > usage["prompt_tokens"]
