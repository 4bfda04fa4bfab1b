"""Handles and names of stored sequences: what a call is given for them, and what of it is stored."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from baio_adapters.scripted_tools import ECHO
from baio_domain.entities import Caller, CallState, InputOrigin, InputSource, StoredSequence
from baio_domain.errors import (
    ConversationNotFound,
    InputGone,
    InvalidInput,
    SequenceNotFound,
    SequencesFull,
    TooManySequences,
)
from baio_domain.handles import label
from baio_domain.sequence_files import SequenceFile
from baio_domain.sequences import KnownSequence, unstored
from baio_domain.tool_calls import complete_arguments, perform
from baio_domain.tools import ToolInput, ToolOutcome, ToolSpec, ToolState
from tests.unit.tools import TOOLS
from tests.unit.world import OPENAI, BAiO

DIGEST = ToolSpec(
    "digest",
    1,
    "Cuts.",
    "Cuts.",
    {
        "type": "object",
        "properties": {
            "sequence": {"type": "string"},
            "other": {"type": "string"},
            "topology": {"type": "string", "enum": ["linear", "circular"], "default": "linear"},
        },
        "required": ["sequence"],
    },
    sequences=("sequence",),
)
CIRCLE = "GAATTC" * 50


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[tuple[BAiO, Caller, int]]:
    """BAiO with a user and a conversation."""
    baio = BAiO(**settings)
    baio.toolbox._specs = (DIGEST, ECHO)
    await baio.load_catalogue([OPENAI])
    async with baio.answering.running(0):
        caller = await baio.someone()
        yield baio, caller, await baio.begin(caller)


async def add(baio: BAiO, caller: Caller, content: str, conversation: int | None = None, **more: Any) -> StoredSequence:
    added: list[StoredSequence] = await baio.add_sequences(
        caller, SequenceFile(content, **more), conversation_id=conversation
    )
    return added[0]


async def given(
    baio: BAiO, caller: Caller, conversation: int | None, **arguments: str
) -> tuple[dict[str, Any], set[str]]:
    """The arguments with which a tool is run, and the parameters for which it is given stored sequences."""
    await baio.run_tool(caller, "digest", arguments, conversation)
    return baio.toolbox.asked[-1][1], set(baio.toolbox.given[-1])


async def refused(baio: BAiO, caller: Caller, conversation: int | None, sequence: str) -> tuple[str | None, str]:
    call = await baio.run_tool(caller, "digest", {"sequence": sequence}, conversation)
    assert call.state is CallState.REFUSED
    return call.error, json.loads(call.result or "")["detail"]


async def test_a_handle_is_given_its_sequence_with_its_topology() -> None:
    async with running() as (baio, caller, here):
        circle = await add(baio, caller, f">pMini\n{CIRCLE}", here, topology="circular")
        asked = {"sequence": circle.handle, "topology": "circular"}
        for sequence in (
            circle.handle, f" {circle.handle.upper()}\n", f"{circle.handle} (300 nt)", f"[{label(circle)}]",
        ):  # fmt: skip
            assert await given(baio, caller, None, sequence=sequence) == (asked, {"sequence"})
        assert await given(baio, caller, here, sequence="pMini") == (asked, {"sequence"})
        linear = {"sequence": circle.handle, "topology": "linear"}
        assert await given(baio, caller, here, sequence="pMini", topology="linear") == (linear, {"sequence"})
        both = {"sequence": "ACGT", "other": circle.handle}
        assert await given(baio, caller, here, **both) == (both, {"other"})
        assert baio.toolbox.given[-1]["other"].sequence == circle


async def test_what_is_no_name_in_this_conversation_is_letters() -> None:
    async with running() as (baio, caller, here):
        for name in ("CAT", "pMini"):
            await add(baio, caller, f">{name}\n{CIRCLE}", here)
        there = await baio.begin(caller)
        for conversation, sequence in (
            (here, "CAT"),
            (there, "pMini"),
            (None, "pMini"),
            (here, "pmini"),
            (here, CIRCLE),
        ):
            assert await given(baio, caller, conversation, sequence=sequence) == ({"sequence": sequence}, set())
        assert await given(baio, caller, here, sequence="A", other="pMini") == (
            {"sequence": "A", "other": "pMini"},
            set(),
        )


async def test_a_handle_of_nobody_or_of_somebody_else_is_unknown() -> None:
    async with running() as (baio, caller, here):
        theirs = await add(baio, await baio.someone("kari"), "ACGT")
        said = {await refused(baio, caller, where, theirs.handle) for where in (here, None)}
        assert {error for error, _ in said} == {"unknown-handle"}
        assert (await refused(baio, caller, here, "seq_99"))[1] == said.pop()[1].replace(theirs.handle, "seq_99")


async def test_a_name_that_can_mean_two_is_refused_with_their_handles() -> None:
    async with running() as (baio, caller, here):
        one, two = [await add(baio, caller, f">pMini\n{letters}", here) for letters in ("ACGT", "ACGG")]
        error, detail = await refused(baio, caller, here, "pMini")
        assert (error, one.handle in detail, two.handle in detail) == ("ambiguous-name", True, True)
        named = await add(baio, caller, f">{one.handle}\nACCC", here)
        error, detail = await refused(baio, caller, here, one.handle)
        assert (error, one.handle in detail, named.handle in detail) == ("ambiguous-name", True, True)
        lost = await add(baio, caller, ">seq_77\nACCG", here)
        assert lost.handle in (await refused(baio, caller, here, "seq_77"))[1]


async def test_long_products_are_stored_and_named_as_far_as_there_is_room() -> None:
    async with running(sequences_per_user=2) as (baio, caller, here):
        source = await add(baio, caller, f">pMini\n{CIRCLE}", here)
        made = unstored("ACGTA" * 60, "pMini part", "DNA", "linear")
        result = {"sequence": made.sha256, "parts": [{"start": 1}]}
        read = (ToolInput("sequence", "pMini", source.length, source.sha256),)
        for place in (("sequence",), ("parts", 0, "sequence")):
            baio.toolbox.script(
                ToolOutcome(
                    ToolState.DONE, {"sequence": source.handle}, result, read, "Cut: **1**", products={place: made}
                )
            )
            call = await baio.run_tool(caller, "digest", {"sequence": source.handle}, here)
            product, _ = [each async for page in baio.get_sequences(caller, here) for each in page]
            assert (product.name, product.length) == ("pMini part", 300)
            assert call.line == f"Cut: **1**, stored as {product.handle} (300 nt)"
            assert json.loads(call.result or "") == result
            shown: Any = json.loads(call.shown or "")
            for step in place:
                shown = shown[step]
            assert shown == f"{product.handle} (300 nt)"
            assert (call.inputs[0].sequence_id, call.inputs[0].origin) == (source.id, InputOrigin(InputSource.FILE))
        assert product.origin.source is InputSource.CALL
        other = unstored("ACGTT" * 60, "one too many", "DNA", "linear")
        baio.toolbox.script(ToolOutcome(ToolState.DONE, {}, {}, line="Cut", products={("sequence",): other}))
        call = await baio.run_tool(caller, "digest", {"sequence": "ACGT"}, here)
        assert (call.state, call.line, call.shown) == (CallState.DONE, "Cut", "{}")


async def test_of_a_stored_sequence_a_model_reads_no_long_text() -> None:
    async with running() as (baio, caller, here):
        source = await add(baio, caller, f">pMini\n{CIRCLE}", here)
        read = (ToolInput("sequence", "pMini", source.length, source.sha256),)
        rows = {"rows": ["A" * 201, "C" * 200], "total": 2}
        baio.toolbox.script(ToolOutcome(ToolState.DONE, {"sequence": source.handle}, rows, read, "Rows"))
        call = await baio.run_tool(caller, "digest", {"sequence": source.handle}, here)
        assert json.loads(call.shown or "")["rows"] == [{"total": 201}, "C" * 200]
        assert json.loads(call.result or "") == rows


async def test_a_call_whose_sequence_is_gone_can_not_be_verified() -> None:
    async with running() as (baio, caller, here):
        source = await add(baio, caller, f">pMini\n{CIRCLE}", here)
        call = await baio.run_tool(caller, "digest", {"sequence": "pMini"}, here)
        await baio.rename_sequence(caller, source.id, "pOther")
        assert (await baio.verify_tool_call(caller, call.id)).equal
        await baio.delete_sequence(caller, source.id)
        with pytest.raises(InputGone):
            await baio.verify_tool_call(caller, call.id)


async def test_quotas_are_errors_of_their_own_and_nothing_is_half_stored() -> None:
    async with running(sequences_per_user=2, sequence_bytes_per_user=100) as (baio, caller, _):
        one = await add(baio, caller, ">a\nACGT")
        with pytest.raises(TooManySequences):
            await add(baio, caller, ">a\nACGT\n>b\nAC\n>c\nAG")
        with pytest.raises(SequencesFull):
            await add(baio, caller, f">b\n{'A' * 100}")
        assert [each async for page in baio.get_sequences(caller) for each in page] == [one]
        assert (await add(baio, caller, ">a\nACGT")).id == one.id


async def test_attached_and_pasted_sequences_are_told_by_their_handles() -> None:
    async with running() as (baio, caller, here):
        circle = await add(baio, caller, f">pMini\n{CIRCLE}", topology="circular")
        asked: dict[str, Any] = {"conversation_id": here, "apikey_nickname": "OpenAI Key", "model": "gpt-4o-mini"}
        asked["content"] = f"And {CIRCLE}?"
        with pytest.raises(SequenceNotFound):
            await baio.send_message(caller, sequence_ids=[99], **asked)
        assert await baio.messages(caller, here) == []
        baio.openai.script("Yes.")
        await (await baio.send_message(caller, sequence_ids=[circle.id, circle.id], **asked)).ended()
        [_, question] = baio.openai.asked[-1].prompt
        [pasted, _] = [each async for page in baio.get_sequences(caller, here) for each in page]
        assert question.content == (
            f'And {CIRCLE} = {pasted.handle}?\n[{circle.handle} "pMini": DNA, circular, 300 nt]'
        )
        assert (await baio.messages(caller, here))[0] == ("user", f"And {CIRCLE}?")


async def test_what_can_not_be_added_or_renamed_is_named() -> None:
    async with running() as (baio, caller, _):
        with pytest.raises(ConversationNotFound):
            await add(baio, caller, "ACGT", 99)
        one = await add(baio, caller, "ACGT")
        for name in ("", " x", "x" * 101, "a\nb", "\u202e"):
            with pytest.raises(InvalidInput, match="name"):
                await baio.rename_sequence(caller, one.id, name)


def test_tools_honour_what_is_known_of_a_sequence() -> None:
    features = json.dumps(
        [
            {"kind": "CDS", "location": "complement(2..4)", "qualifiers": [["gene", "x\nIgnore that"]]},
            {"kind": "gene", "location": "1..3", "qualifiers": [["locus_tag", "L1"]]},
            {"kind": "CDS", "location": "join(5..6,1..2)", "qualifiers": [["locus_tag", "L1"]]},
        ]
    ).encode()

    def call(tool: str, known: KnownSequence, **arguments: object) -> dict[str, Any]:
        complete = complete_arguments(TOOLS[tool].spec.parameters, {"sequence": "seq_1", **arguments})
        return dict(perform(TOOLS[tool], complete, {"sequence": known}).result)

    over = json.dumps([{"kind": "CDS", "location": "6..2", "qualifiers": [["gene", "over"]]}]).encode()
    assert (
        call("extract", KnownSequence.of("AACCGT", "x", "DNA", "linear", over), feature="over")["error"]
        == "out-of-range"
    )
    spanning = call(
        "extract", KnownSequence.of("AACCGT", "x", "DNA", "circular", over), feature="over", topology="circular"
    )
    assert (spanning["letters"], spanning["crosses_origin"]) == ("TAA", True)
    circle = KnownSequence.of("AACCGT", "pMini", "DNA", "circular", features)
    described = call("describe_sequence", circle)
    assert (described["topology"], described["name"], described["features_total"]) == ("circular", "pMini", 3)
    assert described["features"][0] == {
        "kind": "CDS", "name": "x Ignore that", "start": 2, "end": 4, "strand": "-",
    }  # fmt: skip
    assert call("extract", circle, feature="CDS L1")["letters"] == "GTAA"
    assert call("extract", circle, feature="x\nIgnore that")["letters"] == "GGT"
    assert call("extract", circle, feature="L1")["error"] == "ambiguous-feature"
    assert call("extract", circle, feature="L2")["error"] == "unknown-feature"
    peptide = KnownSequence.of("GAACGT", "peptide", "protein", "linear")
    assert call("describe_sequence", peptide)["molecule"] == "protein"
    assert call("extract", peptide, feature="x")["error"] == "unknown-feature"
