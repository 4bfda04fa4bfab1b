"""Tools without a model: run by a request or a command, recorded, verified, and deleted with what they belong to."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from baio_adapters.scripted_tools import ECHO
from baio_domain.commands import Command, read_command
from baio_domain.entities import AnswerState, Caller, CallState, InputOrigin, InputSource
from baio_domain.errors import (
    AnswerNotFound,
    ConversationNotFound,
    IdempotencyKeyReused,
    InvalidInput,
    StorageFull,
    ToolCallNotFound,
    TooManyToolRuns,
    Unavailable,
)
from baio_domain.ports import Finished
from baio_domain.tools import ToolInput, ToolOutcome, ToolSpec, ToolState, error_result
from tests.unit.world import OPENAI, BAiO, heard, text_of

LETTERS = "ACGTTGCAACGT"
SEQUENCE = ToolInput("text", "pUC19", 12, hashlib.sha256(LETTERS.encode()).hexdigest(), ("case",))


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[tuple[BAiO, Caller]]:
    """BAiO with one user, who has no key."""
    baio = BAiO(**settings)
    await baio.load_catalogue([OPENAI])
    async with baio.answering.running(0):
        yield baio, await baio.someone(key=False)


def done(text: str = LETTERS, *inputs: ToolInput) -> ToolOutcome:
    return ToolOutcome(
        ToolState.DONE, {"text": text}, {"gc": 6, "of": 12}, inputs, "GC of pUC19: **50.00 %** (6 of 12)", "Lib 2"
    )


def ended_as(state: ToolState, error: str) -> ToolOutcome:
    return ToolOutcome(state, {}, error_result(error, "Give something else."))


async def command(baio: BAiO, caller: Caller, conversation: int, content: str, **more: Any) -> Any:  # noqa: ANN401 - an answer to follow
    """Ask with a key and a model that there are not."""
    return await baio.send_message(
        caller, conversation_id=conversation, apikey_nickname="none", model="none", content=content, **more
    )


# -- Running -----------------------------------------------------------------------------------------------------------


async def test_a_tool_runs_without_conversation_and_its_record_is_the_users() -> None:
    async with running() as (baio, caller):
        baio.toolbox.script(done(LETTERS, SEQUENCE))
        call = await baio.run_tool(caller, "echo", {"text": LETTERS})
        assert (call.state, call.conversation_id, call.answer_id) == (CallState.DONE, None, None)
        assert call.raw_arguments == f'{{"text": "{LETTERS}"}}'
        assert call.result == '{"gc":6,"of":12}'
        assert call.result_sha256 == hashlib.sha256(call.result.encode()).hexdigest()
        assert call.inputs[0].origin == InputOrigin(InputSource.REQUEST)
        assert await baio.get_tool_calls(caller) == [call]
        assert await baio.get_tool_calls(await baio.someone("kari")) == []


async def test_a_tool_that_refuses_has_a_record_as_well() -> None:
    async with running() as (baio, caller):
        conversation = await baio.begin(caller)
        baio.toolbox.script(ended_as(ToolState.REFUSED, "gaps"))
        call = await baio.run_tool(caller, "echo", {"text": "A-C"}, conversation)
        assert (call.state, call.error, call.line) == (CallState.REFUSED, "gaps", "")
        assert await baio.get_tool_calls(caller, conversation_id=conversation) == [call]
        assert await baio.get_tool_calls(caller) == []


async def test_what_can_not_be_run_is_refused_before_anything_runs() -> None:
    async with running(stored_bytes_per_user=2000) as (baio, caller):
        conversation = await baio.begin(await baio.someone("kari"))
        for tool, arguments, here, error in (
            ("blast", {}, None, InvalidInput),
            ("echo", {"text": "A" * 65_536}, None, InvalidInput),
            ("echo", {"text": "A" * 3000}, None, StorageFull),
            ("echo", {}, conversation, ConversationNotFound),
        ):
            with pytest.raises(error):
                await baio.run_tool(caller, tool, arguments, here)
        assert baio.toolbox.asked == []
        assert await baio.get_tool_calls(caller) == []


async def test_a_tool_that_could_not_run_now_leaves_no_record() -> None:
    async with running() as (baio, caller):
        baio.toolbox.script(ended_as(ToolState.BUSY, "busy"))
        with pytest.raises(Unavailable):
            await baio.run_tool(caller, "echo", {})
        assert await baio.get_tool_calls(caller) == []


async def test_a_user_runs_so_many_tools_at_once_and_no_more() -> None:
    async with running(tool_runs_per_user=1) as (baio, caller):
        before = await baio.run_tool(caller, "echo", {})
        hold = asyncio.Event()
        baio.toolbox.script(hold, done())
        first = asyncio.create_task(baio.run_tool(caller, "echo", {}))
        await asyncio.sleep(1)
        for refused in (baio.run_tool(caller, "echo", {}), baio.verify_tool_call(caller, before.id)):
            with pytest.raises(TooManyToolRuns):
                await refused
        await baio.run_tool(await baio.someone("kari"), "echo", {})
        hold.set()
        await first
        await baio.run_tool(caller, "echo", {})


async def test_records_count_towards_what_a_user_may_store_until_they_are_deleted() -> None:
    async with running(stored_bytes_per_user=3000) as (baio, caller):
        conversation = await baio.begin(caller)
        call = await baio.run_tool(caller, "echo", {"text": "A" * 500})
        with pytest.raises(StorageFull, match="Delete"):
            await command(baio, caller, conversation, "x" * 1000)
        await baio.delete_tool_call(caller, call.id)
        await text_of(await command(baio, caller, conversation, "/echo " + "x" * 1000))


# -- Verifying, listing, deleting --------------------------------------------------------------------------------------


async def test_a_call_that_is_computed_again_is_equal_or_not() -> None:
    async with running() as (baio, caller):
        baio.toolbox.script(done())
        call = await baio.run_tool(caller, "echo", {"text": LETTERS})
        baio.toolbox.script(done())
        verdict = await baio.verify_tool_call(caller, call.id)
        assert (verdict.equal, verdict.result_sha256, verdict.library) == (True, call.result_sha256, "Lib 2")
        assert baio.toolbox.asked[-1] == ("echo", {"text": LETTERS})
        assert (await baio.verify_tool_call(caller, call.id)).equal is False
        baio.toolbox.script(ended_as(ToolState.FAILED, "time-limit"))
        with pytest.raises(Unavailable):
            await baio.verify_tool_call(caller, call.id)
        assert await baio.get_tool_calls(caller) == [call]


async def test_calls_of_another_user_do_not_exist() -> None:
    async with running() as (baio, caller):
        conversation = await baio.begin(caller)
        await text_of(await command(baio, caller, conversation, "/echo x"))
        call = await baio.run_tool(caller, "echo", {})
        kari = await baio.someone("kari")
        for act in (baio.verify_tool_call(kari, call.id), baio.delete_tool_call(kari, call.id)):
            with pytest.raises(ToolCallNotFound):
                await act
        with pytest.raises(ConversationNotFound):
            await baio.get_tool_calls(kari, conversation_id=conversation)
        with pytest.raises(AnswerNotFound):
            await baio.get_tool_calls(kari, answer_id=1)
        with pytest.raises(AnswerNotFound):
            await baio.get_tool_calls(caller, answer_id=1, conversation_id=await baio.begin(caller))


async def test_the_export_has_all_calls_and_deletion_leaves_none() -> None:
    async with running() as (baio, caller):
        conversation = await baio.begin(caller)
        await text_of(await command(baio, caller, conversation, "/echo x"))
        loose = await baio.run_tool(caller, "echo", {})
        export = await baio.export_data(caller)
        exported = [
            [call async for page in each.tool_calls for call in page]
            async for conversations in export.conversations
            for each in conversations
        ]
        assert exported == [await baio.get_tool_calls(caller, conversation_id=conversation)]
        assert [call async for page in export.tool_calls for call in page] == [loose]
        await baio.delete_conversation(caller, conversation)
        with pytest.raises(ToolCallNotFound):
            await baio.verify_tool_call(caller, exported[0][0].id)


# -- Commands ----------------------------------------------------------------------------------------------------------


async def test_a_command_is_answered_by_baio_alone_and_recorded() -> None:
    async with running() as (baio, caller):
        conversation = await baio.begin(caller)
        baio.toolbox.script(done(LETTERS, SEQUENCE))
        question = f"/echo acgt tgca\n{LETTERS[8:]}"
        line = "> GC of pUC19: **50.00 %** (6 of 12). echo 1 [call 1]"
        assert await text_of(await command(baio, caller, conversation, question)) == line
        assert await baio.messages(caller, conversation) == [("user", question), ("baio", line)]
        answer = await baio.newest(caller, conversation)
        assert (answer.state, answer.model, answer.requested_model) == (AnswerState.COMPLETE, None, "BAiO")
        assert (answer.prompt_tokens, answer.completion_tokens) == (None, None)
        [call] = await baio.get_tool_calls(caller, answer_id=answer.id)
        assert (call.offset, call.length, call.conversation_id) == (0, len(line), conversation)
        origin = call.inputs[0].origin
        assert question[origin.start : origin.end] == question.removeprefix("/echo ")
        assert await baio.get_usage(caller, None, None) == []
        assert baio.openai.asked == []


async def test_a_command_that_is_refused_says_why() -> None:
    async with running() as (baio, caller):
        baio.toolbox.script(ended_as(ToolState.REFUSED, "gaps"))
        conversation = await baio.begin(caller)
        said = await text_of(await command(baio, caller, conversation, "/echo A-C"))
        assert said == "> echo has no result: Give something else. echo 1 [call 1]"
        assert (await baio.newest(caller, conversation)).state is AnswerState.COMPLETE


async def test_a_command_is_repeated_with_its_key_and_answered_again_on_request() -> None:
    async with running(tool_notes="off") as (baio, caller):
        conversation = await baio.begin(caller)
        first = await text_of(await command(baio, caller, conversation, "/echo x", idempotency_key="k"))
        assert await text_of(await command(baio, caller, conversation, "/echo x", idempotency_key="k")) == first
        assert first == "> echo: **done**. echo 1 [call 1]"
        again = await text_of(await baio.regenerate(caller, conversation))
        assert again == "> echo: **done**. echo 1 [call 2]"
        assert await baio.messages(caller, conversation) == [("user", "/echo x"), ("baio", again)]


async def test_stopping_a_command_stops_its_tool_and_cancels_the_call() -> None:
    async with running() as (baio, caller):
        conversation = await baio.begin(caller)
        baio.toolbox.script(asyncio.Event(), done())
        answer = await command(baio, caller, conversation, "/echo x")
        await asyncio.sleep(1)
        assert (await baio.stop_answer(caller, conversation)).state is AnswerState.STOPPED
        assert await heard(answer) == ("", None)
        [call] = await baio.get_tool_calls(caller, conversation_id=conversation)
        assert (call.state, call.error, baio.toolbox.cancelled) == (CallState.CANCELLED, "cancelled", 1)


@pytest.mark.parametrize("content", ["/unknown ACGT", "x\n/echo x", "/echoes x", "/", "echo x", "What does /echo do?"])
async def test_what_is_no_command_is_an_ordinary_question(content: str) -> None:
    async with running() as (baio, caller):
        await baio.add_api_key(caller, key="sk", nickname="OpenAI Key", provider=None)
        baio.openai.script("text", Finished("stop"))
        await text_of(await baio.ask(caller, await baio.begin(caller), content))
        assert len(baio.openai.asked) == 1
        assert baio.toolbox.asked == []


DIGEST = ToolSpec(
    "digest",
    1,
    "",
    "",
    {"type": "object", "properties": {"sequence": {"type": "string"}, "enzymes": {"type": "array"}}},
)


@pytest.mark.parametrize(
    ("question", "arguments"),
    [
        ("/digest", {}),
        (" /digest ACGT ", {"sequence": "ACGT"}),
        ("/digest\n>pUC19 n=1\nACGT\nACGT\n", {"sequence": ">pUC19 n=1\nACGT\nACGT\n"}),
        ("/digest enzymes=EcoRI,BamHI ACGT ACGT\r\nACGT", {"enzymes": "EcoRI,BamHI", "sequence": "ACGT ACGT\nACGT"}),
        ("/digest ACGT enzymes=EcoRI", {"enzymes": "EcoRI", "sequence": "ACGT"}),
        ("/digest sequence=ACGT\nACGT", {"sequence": "ACGT\nACGT"}),
        ("/digest enzymes=EcoRI >pUC19 n=1\nACGT", {"enzymes": "EcoRI", "sequence": ">pUC19 n=1\nACGT"}),
        ("/digest unknown=1", {"unknown": "1"}),
        ("/digest enzymes=EcoRI, BamHI ACGT", {"enzymes": "EcoRI,BamHI", "sequence": "ACGT"}),
        ("/digest enzymes=EcoRI + BamHI ; NotI\nACGT", {"enzymes": "EcoRI+BamHI;NotI", "sequence": "ACGT"}),
        ("/digest enzymes=EcoRI, >a, b\nACGT", {"enzymes": "EcoRI,", "sequence": ">a, b\nACGT"}),
        ("/digest\n```fasta\n>a\nACGT\n```\n", {"sequence": "\n>a\nACGT\n\n"}),
        ("/digest `ACGT` enzymes=`EcoRI`", {"sequence": "ACGT", "enzymes": "EcoRI"}),
        ("/Digest ACGT", {"sequence": "ACGT"}),
    ],
)
def test_a_command_is_read_as_its_arguments(question: str, arguments: dict[str, str]) -> None:
    assert read_command(question, [ECHO, DIGEST]) == Command("digest", arguments)


MIX = ToolSpec(
    "mix",
    1,
    "",
    "",
    {
        "type": "object",
        "properties": {
            "c1": {"type": "string"},
            "c2": {"type": "string"},
            "times": {"type": "integer"},
            "cuts": {"type": "string", "enum": ["1", "2"]},
        },
    },
)


@pytest.mark.parametrize(
    ("question", "arguments"),
    [
        ("/mix c1=100 uM c2=10 uM", {"c1": "100 uM", "c2": "10 uM"}),
        ('/mix c1="100 uM" c2="10"', {"c1": "100 uM", "c2": "10"}),
        ("/mix c1=\u201c100 uM\u201d c2=\u201e10\u201c", {"c1": "100 uM", "c2": "10"}),
        ("/mix 100 uM c2=1.5e3 nM", {"c1": "100 uM", "c2": "1.5e3 nM"}),
        ("/mix c1=100uM c2=10 µM x", {"c1": "100uM\nx", "c2": "10 µM"}),
        ("/mix times=3 ACGT", {"times": "3", "c1": "ACGT"}),  # numbers and choices have no units
        ("/mix cuts=2 ACGT", {"cuts": "2", "c1": "ACGT"}),
        ('/mix c2="" ACGT', {"c2": "", "c1": "ACGT"}),
        ('/mix c2="a ACGT', {"c2": '"a', "c1": "ACGT"}),
        ("/mix c2=10 >x 5' end\nACGT", {"c2": "10", "c1": ">x 5' end\nACGT"}),
    ],
)
def test_a_quantity_has_its_unit_and_a_value_in_quotation_marks_its_spaces(
    question: str, arguments: dict[str, str]
) -> None:
    assert read_command(question, [MIX]) == Command("mix", arguments)


async def test_a_run_that_is_repeated_with_its_idempotency_key_has_one_record() -> None:
    baio = BAiO()
    async with baio.answering.running(1):
        caller = await baio.someone(key=False)
        thread = await baio.begin(caller)
        first = await baio.run_tool(caller, "echo", {"text": "A"}, thread, "key")
        assert await baio.run_tool(caller, "echo", {"text": "A"}, thread, "key") == first
        assert len(baio.toolbox.asked) == 1
        for arguments, where in (({"text": "B"}, thread), ({"text": "A"}, None)):
            with pytest.raises(IdempotencyKeyReused):
                await baio.run_tool(caller, "echo", arguments, where, "key")
        with pytest.raises(InvalidInput):
            await baio.run_tool(caller, "echo", {}, None, " ")
        assert await baio.get_tool_calls(caller, conversation_id=thread) == [first]


async def test_two_runs_with_one_idempotency_key_at_the_same_time_have_one_record() -> None:
    baio = BAiO()
    async with baio.answering.running(1):
        caller = await baio.someone(key=False)
        runs = [baio.run_tool(caller, "echo", {"text": "A"}, None, "key") for _ in range(2)]
        first, second = await asyncio.gather(*runs)
        assert first == second
        assert await baio.get_tool_calls(caller) == [first]
