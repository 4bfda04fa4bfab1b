"""Exports of a conversation, and their verification: formats, escaping, hashes, and files that are no exports."""

import csv
import hashlib
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baio_api.exports import FORMATS, file_name
from baio_api.exports.markdown import code, headline, plain
from baio_api.exports.tables import safe, tables
from baio_api.schemas.exports import ExportedDocument, json_schema
from baio_api.verification import ExportError, Finding, Verdict, read_export, verified_calls
from baio_domain.entities import Caller, InputOrigin, InputSource, SequenceContent
from baio_domain.errors import ConversationNotFound
from baio_domain.ports import Finished, NewSequence
from baio_domain.tools import ToolInput, ToolOutcome, ToolState, error_result
from baio_domain.use_cases.exports import ConversationExport
from tests.unit.test_tools_without_a_model import command, running
from tests.unit.world import BAiO, text_of

LETTERS = "ACGTTGCAACGT"
FASTA = f">pUC19 <b>\n{LETTERS}"
SEQUENCE = ToolInput("text", "pUC19 <b>", 12, hashlib.sha256(LETTERS.encode()).hexdigest(), ("header",))
DOCS = Path(__file__).parents[2] / "docs"


def digest(*, line: str = "Digest of pUC19: **2 fragments**", **result: Any) -> ToolOutcome:
    fragments = [{"start": 1, "left": {"enzyme": "=EcoRI"}}, {"start": -5, "left": None, "gene": "SEPT2"}]
    found = {"fragments": fragments, "cuts": 2, **result}
    return ToolOutcome(ToolState.DONE, {"text": FASTA}, found, (SEQUENCE,), line, "Lib 2")


@asynccontextmanager
async def conversation(*outcomes: ToolOutcome, title: str = "Plasmids") -> AsyncIterator[tuple[BAiO, Caller, int]]:
    """A conversation with a command for each outcome."""
    async with running() as (baio, caller):
        begun = await baio.begin(caller, title)
        for outcome in outcomes:
            baio.toolbox.script(outcome)
            await text_of(await command(baio, caller, begun, f"/echo\n{FASTA}"))
        yield baio, caller, begun


async def exported(baio: BAiO, caller: Caller, begun: int, form: str) -> bytes:
    export: ConversationExport = await baio.export_conversation(caller, begun)
    pieces = [piece async for piece in FORMATS[form].pieces(export)]
    return b"".join(piece.encode() if isinstance(piece, str) else piece for piece in pieces)


async def findings(baio: BAiO, path: Path, data: bytes) -> list[Finding]:
    export = read_export(written(path, data))
    return [*export.files, *[each async for each in verified_calls(export.document, baio.toolbox)]]


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# -- JSON --------------------------------------------------------------------------------------------------------------


async def test_the_json_validates_against_the_published_schema() -> None:
    validator = jsonschema_rs.validator_for(json_schema())
    async with conversation(digest(), ToolOutcome(ToolState.REFUSED, {}, error_result("gaps", "No."))) as here:
        document = json.loads(await exported(*here, "json"))
        validator.validate(document)
        assert [each["role"] for each in document["messages"]] == ["system", "user", "baio", "user", "baio"]
        message = {each["id"]: each for each in document["messages"]}[
            document["tool_calls"][0]["inputs"][0]["origin"]["id"]
        ]
        assert FASTA in message["content"]
        assert document["messages"][2]["answer_id"] == document["answers"][0]["id"]
        assert not validator.is_valid({**document, "tool_calls": [{"id": 1}]})
    validator.validate(ExportedDocument.examples["contract"])


def test_the_documentation_has_the_schema() -> None:
    published = json.loads((DOCS / "conversation-export.schema.json").read_text())
    assert published == json_schema()


# -- Markdown ----------------------------------------------------------------------------------------------------------


async def test_the_markdown_reads_like_a_methods_section() -> None:
    async with conversation(digest(), title="Plasmids *and* <b>") as here:
        text = (await exported(*here, "markdown")).decode()
    assert text.startswith("# Plasmids \\*and\\* \\<b\\>\n\nConversation 1 with BAiO, begun 2024-01-15 10:00:00 UTC.")
    assert re.findall("^#+ .*", text, re.MULTILINE)[1:6] == [
        "## Methods", "### Models", "### Tools", "### Calls", "## Conversation"
    ]  # fmt: skip
    for said in (
        "- `echo` 1: The text as it is.",
        "**Call 1**, `echo` 1, 2024-01-15 10:00:00 UTC. Digest of pUC19: **2 fragments**.",
        f"- Input `text`: pUC19 \\<b\\>, 12 letters, SHA-256 `{SEQUENCE.sha256}`, from message 2, characters",
        "- Result: SHA-256 `",
        "### Answer by `BAiO`, complete, message 3,",
    ):
        assert said in text


async def test_what_somebody_wrote_can_not_leave_its_block() -> None:
    async with running() as (baio, caller):
        begun = await baio.begin(caller)
        await baio.add_api_key(caller, key="sk-test-0123456789", nickname="OpenAI Key", provider=None)
        evil = "````\n# Heading\n![x](http://tracker.example/x.png) <script>alert(1)</script>\r```\n~~~"
        baio.openai.script(evil, Finished("stop"))
        await text_of(await baio.ask(caller, begun, "~~~\n``` x"))
        text = (await exported(baio, caller, begun, "markdown")).decode()
    assert f"`````text\n{evil}\n`````\n" in text
    outside = re.sub(r"^(`{3,})text\n.*?\n\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "tracker" not in outside
    assert "Heading" not in outside


@given(st.text("`*_[]<>&~|$\\ab \n\r\u2028"))
def test_a_text_is_one_line_in_which_nothing_is_markup(text: str) -> None:
    shown = plain(text)
    assert len(shown.splitlines()) <= 1
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]<>&~|$]", shown)
    ticks = re.match("`+", code(text))
    assert ticks
    assert ticks[0] not in code(text)[len(ticks[0]) : -len(ticks[0])].replace(ticks[0] + "`", "")


def test_a_headline_keeps_what_is_bold_and_escapes_the_rest() -> None:
    assert headline("Protein of <i>: **MM*W** (4 of 4)") == "Protein of \\<i\\>: **MM\\*W** (4 of 4)"


# -- .eln --------------------------------------------------------------------------------------------------------------


def opened(data: bytes) -> tuple[str, dict[str, bytes], list[dict[str, Any]]]:
    """The root folder of an archive, its files by their names in it, and the graph of its metadata."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        roots = {name.partition("/")[0] for name in archive.namelist()}
        [root] = roots
        files = {name.removeprefix(f"{root}/"): archive.read(name) for name in archive.namelist()}
        assert len(files) == len(archive.namelist())
    return root, files, json.loads(files["ro-crate-metadata.json"])["@graph"]


async def test_the_archive_follows_the_specification_of_the_eln_format_and_of_ro_crate() -> None:
    async with conversation(digest(), digest()) as here:
        root, files, graph = opened(await exported(*here, "eln"))
    assert root == "baio-conversation-1"
    assert all(re.fullmatch(r"[A-Za-z0-9_./-]+", name) and ".." not in name for name in files)
    entities = {each["@id"]: each for each in graph}
    assert len(entities) == len(graph)
    assert all(str(value) for each in graph for value in each.values())
    descriptor, top = entities["ro-crate-metadata.json"], entities["./"]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert {"version", "sdPublisher", "dateCreated"} <= descriptor.keys()
    assert {"name", "description", "license", "datePublished", "author", "mentions"} <= top.keys()
    assert top["hasPart"] == [{"@id": "./conversation/"}]
    dataset = entities["./conversation/"]
    parts = [each["@id"] for each in dataset["hasPart"]]
    assert sorted(parts) == sorted(f"./{name}" for name in files if name != "ro-crate-metadata.json")
    for part in parts:
        entity, data = entities[part], files[part.removeprefix("./")]
        assert entity["@type"] == "File"
        assert entity["sha256"] == hashlib.sha256(data).hexdigest()
        assert entity["contentSize"] == str(len(data))
        assert entity["name"] == part.rpartition("/")[2]
        assert re.fullmatch(r"\w+/[\w.-]+(;\w+=[^;]+)*", entity["encodingFormat"])  # as the RO-Crate validator asks
        assert entity["author"] == dataset["author"]
    # Whatever is referred to is there.
    assert set(re.findall(r'\{"@id": ?"([^"]+)"\}', json.dumps(graph))) - entities.keys() == {
        "https://w3id.org/ro/crate/1.1"
    }


async def test_sequences_and_tables_are_files_and_a_sequence_is_one_file() -> None:
    async with conversation(digest(), digest()) as here:
        _, files, graph = opened(await exported(*here, "eln"))
        assert files["conversation/conversation.json"] == await exported(*here, "json")
        assert files["conversation/conversation.md"] == await exported(*here, "markdown")
    [sequence] = [name for name in files if name.endswith(".fasta")]
    assert files[sequence] == f"{FASTA}\n".encode()
    assert [name for name in files if name.endswith(".csv")] == [
        "conversation/tables/call-1-1-fragments.csv", "conversation/tables/call-2-1-fragments.csv"
    ]  # fmt: skip
    call = next(each for each in graph if each["@id"] == "#call-2")
    assert call["object"] == [{"@id": f"./{sequence}"}]
    assert call["result"] == [{"@id": "./conversation/tables/call-2-1-fragments.csv"}]


async def test_what_came_of_each_call_is_a_value_that_notebooks_show() -> None:
    async with conversation(digest(), ToolOutcome(ToolState.REFUSED, {}, error_result("gaps", "No."))) as here:
        _, _, graph = opened(await exported(*here, "eln"))
    entities = {each["@id"]: each for each in graph}
    values = [entities[each["@id"]] for each in entities["./conversation/"]["variableMeasured"]]
    assert {each["@type"] for each in values} == {"PropertyValue"}
    assert [(each["propertyID"], each["value"]) for each in values] == [
        ("Software", f"BAiO {version('baio')}"),
        ("Call 1", "echo: Digest of pUC19: 2 fragments"),
        ("Call 2", "echo: refused: gaps"),
    ]


async def test_an_entry_has_no_licence_that_is_only_a_dead_link() -> None:
    async with conversation() as here:
        _, _, graph = opened(await exported(*here, "eln"))
    entities = {each["@id"]: each for each in graph}
    assert entities["./"]["license"] == {"@id": "#rights"}
    assert "license" not in entities["./conversation/"]
    assert entities["./conversation/"]["description"] not in entities["./conversation/"]["text"]  # some show both


async def test_names_in_the_archive_are_safe_whatever_a_tool_calls_its_lists() -> None:
    lists: dict[str, Any] = {
        name: [{"a": 1}] for name in ("../../etc/passwd", "..\\x", "a/b", "a\\b", "Ä", "CON", "x" * 300, "")
    }
    async with conversation(digest(**lists)) as here:
        _, files, _ = opened(await exported(*here, "eln"))
    names = [name for name in files if name.endswith(".csv")]
    assert len(names) == 9
    assert all(re.fullmatch(r"conversation/tables/call-1-\d-[A-Za-z0-9-]{0,40}\.csv", name) for name in names)


@pytest.mark.parametrize("form", FORMATS)
async def test_the_same_conversation_is_exported_to_the_same_bytes(form: str) -> None:
    async with conversation(digest()) as here:
        assert await exported(*here, form) == await exported(*here, form)
        baio, caller, begun = here
        assert re.fullmatch(r"[a-z0-9.-]+", file_name(await baio.export_conversation(caller, begun), FORMATS[form]))


async def test_what_is_somebody_elses_is_not_exported() -> None:
    async with conversation() as (baio, _, begun):
        with pytest.raises(ConversationNotFound):
            await baio.export_conversation(await baio.someone("kari"), begun)


# -- Tables ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "SEPT2", "MARCH1", "Mar-1", "MARC1", "DEC1", "1-Dec", "Sep 2", "OKT4", "März 3", "2310009E13", "1E5", "1/2",
        "3-4", "12:30", "007", "50 %", "$5", "=1+1", "+1", "-1+2", "@SUM(A1)", "\t=1", "\r=1", " =1", "\uff1d1", "\n",
        '=HYPERLINK("http://x.example")',
    ],
)  # fmt: skip
def test_a_text_that_a_spreadsheet_would_run_or_change_is_kept_as_text(text: str) -> None:
    assert safe(text) == f"'{text}"


@pytest.mark.parametrize(
    "text", ["EcoRI", "ACGT", "5'", "3'", "Tth111I", "TP53", "MARCHING", "May", "seq_17", "", "p.R248W"]
)
def test_any_other_text_is_as_it_was(text: str) -> None:
    assert safe(text) == text


def test_a_table_has_a_column_for_each_value() -> None:
    [(name, text)] = tables(digest().result)
    assert name == "fragments"
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        ["start", "left.enzyme", "left", "gene"], ["1", "'=EcoRI", "", ""], ["-5", "", "", "'SEPT2"]
    ]  # fmt: skip
    assert text.endswith("\r\n")


# -- Verification ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "eln"])
async def test_each_call_is_computed_again_and_what_differs_is_named(tmp_path: Path, form: str) -> None:
    refused = ToolOutcome(ToolState.REFUSED, {"text": "A-C"}, error_result("gaps", "No."))
    failed = ToolOutcome(ToolState.FAILED, {}, error_result("time-limit", "Too slow."))
    async with conversation(digest(), refused, failed, digest(), digest()) as (baio, caller, begun):
        data = await exported(baio, caller, begun, form)
        baio.toolbox.script(digest())
        baio.toolbox.script(refused)
        baio.toolbox.script(digest(cuts=3))
        baio.toolbox.script(failed)
        found = await findings(baio, tmp_path / "export", data)
    assert [(each.subject, each.verdict) for each in found] == [
        ("call 1, echo 1", Verdict.SAME),
        ("call 2, echo 1", Verdict.SAME),
        ("call 3, echo 1", Verdict.LEFT_OUT),
        ("call 4, echo 1", Verdict.DIFFERENT),
        ("call 5, echo 1", Verdict.MISSING),
    ]
    assert found[3].remarks == ("another result: cuts",)
    assert found[4].remarks == ("it can't be computed here: Too slow.",)


async def test_versions_tools_and_results_that_were_changed_are_named(tmp_path: Path) -> None:
    async with conversation(digest(), digest(), digest()) as (baio, caller, begun):
        document = json.loads(await exported(baio, caller, begun, "json"))
        first, second, third = document["tool_calls"]
        first |= {"version": "0", "library": "Lib 1"}
        second["result"]["cuts"] = 9
        third["tool"] = "blast"
        for _ in range(2):
            baio.toolbox.script(digest())
        found = await findings(baio, tmp_path / "export", json.dumps(document, indent=2).encode())
    assert [each.verdict for each in found] == [Verdict.SAME, Verdict.DIFFERENT, Verdict.MISSING]
    assert found[0].remarks == ("version 0 of the tool then, 1 here", "Lib 1 then, none here")
    assert found[1].remarks == ("the result in the file is not the one that was recorded",)
    assert found[2].remarks == ("there is no such tool here",)


async def test_a_call_that_was_given_a_stored_sequence_is_computed_with_the_letters_in_the_file(tmp_path: Path) -> None:
    async with running() as (baio, caller):
        begun = await baio.begin(caller)
        content = SequenceContent(zlib.compress(LETTERS.encode()), zlib.compress(b"[]"))
        facts = ("pUC19", "", "DNA", "circular", 12, 0, SEQUENCE.sha256, "fasta", InputOrigin(InputSource.FILE))
        new = NewSequence(caller.user_id, *facts, baio.clock.now(), content, 100, begun)
        stored = await baio.database.write(lambda tx: tx.sequences.add(new))
        made = ToolOutcome(ToolState.DONE, {"text": stored.handle}, {"length": 12}, (SEQUENCE,), "Length: **12**")
        for _ in range(3):
            baio.toolbox.script(made)
        await baio.run_tool(caller, "echo", {"text": stored.handle}, begun)
        document = json.loads(await exported(baio, caller, begun, "json"))
        _, files, graph = opened(await exported(baio, caller, begun, "eln"))
        [same] = await findings(baio, tmp_path / "export", json.dumps(document).encode())
        [sequence] = document["sequences"]
        changed = {**document, "sequences": [{**sequence, "letters": "ACGT"}]}
        [other] = await findings(baio, tmp_path / "export", json.dumps(changed).encode())
        [none] = await findings(baio, tmp_path / "export", json.dumps({**document, "sequences": []}).encode())
    assert (same.verdict, same.remarks) == (Verdict.SAME, ())
    assert zlib.decompress(baio.toolbox.given[-2]["text"].content.letters) == LETTERS.encode()
    assert other.remarks == (f"the letters of {stored.handle} in the file are not those that were given then",)
    assert (none.verdict, none.remarks) == (Verdict.MISSING, (f"the file has no sequence {stored.handle}",))
    assert files[f"conversation/sequences/{stored.handle}.gb"].startswith(b"LOCUS       pUC19")
    call = next(each for each in graph if each["@id"] == "#call-1")
    assert call["object"] == [{"@id": f"./conversation/sequences/{stored.handle}.gb"}]


async def test_a_file_of_the_archive_that_was_changed_or_removed_is_named(tmp_path: Path) -> None:
    async with conversation(digest()) as (baio, caller, begun):
        data = await exported(baio, caller, begun, "eln")
        changed = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(changed, "w") as new:
            for name in old.namelist():
                if not name.endswith(".csv"):
                    new.writestr(name, old.read(name) + (b"A" if name.endswith(".fasta") else b""))
        baio.toolbox.script(digest())
        found = await findings(baio, tmp_path / "export", changed.getvalue())
    verdicts = {each.subject.rpartition(".")[2]: each.verdict for each in found[:2]}
    assert verdicts == {"fasta": Verdict.DIFFERENT, "csv": Verdict.MISSING}
    assert found[2].verdict is Verdict.SAME


def zipped(*files: tuple[str, bytes], **options: Any) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in files:
            with pytest.warns(UserWarning, match="Duplicate") if name in archive.namelist() else nullcontext():
                archive.writestr(name, data)
    return written.getvalue()


DOCUMENT = ("r/conversation/conversation.json", b'{"format":"baio-conversation","version":1,"tool_calls":[]}')


def lying(data: bytes) -> bytes:
    """An archive whose end says that its directory is longer than any."""
    return data[:-10] + struct.pack("<I", 2**31) + data[-6:]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no exported conversation"),
        (b"# Plasmids\n", "export the conversation as json or eln"),
        (b'{"format": "other", "version": 1, "tool_calls": []}', "no exported conversation"),
        (b'{"format": "baio-conversation", "version": 2, "tool_calls": []}', "has version 2"),
        (b'{"format":"baio-conversation","version":1,"tool_calls":[],"x":' + b"[" * 100_000, "nested too deeply"),
        (b'{"format":"baio-conversation","version":1,"tool_calls":[{"id":"\xff"}]}', "no exported conversation"),
        (b"PK\x03\x04", "its end is missing"),
        (b"PK\x03\x04" + b"\0" * 100, "its end is missing"),
        (zipped(("r/x", b"")), "has no file r/conversation/conversation.json"),
        (zipped(DOCUMENT), "has no file r/ro-crate-metadata.json"),
        (zipped(DOCUMENT, ("r/ro-crate-metadata.json", b"[]")), "can't be read"),
        (zipped(DOCUMENT, DOCUMENT), "same name"),
        (lying(zipped(DOCUMENT)), "more files"),
        (zipped(DOCUMENT)[:-40] + zipped(DOCUMENT)[-22:], "no archive that can be read"),
    ],
)
def test_what_is_no_export_is_refused_with_the_reason(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(ExportError, match=re.escape(why)):
        read_export(written(tmp_path / "export", data))


def declared(data: bytes, size: int) -> bytes:
    """The archive, whose directory says that its first file has this size."""
    at = data.index(b"PK\x01\x02") + 24
    return data[:at] + struct.pack("<I", size) + data[at + 4 :]


@pytest.mark.parametrize(
    ("size", "why"),
    [
        (257 * 2**20, "longer than 256 MiB"),
        (1025 * 2**20, "more than 1,024 MiB"),
        (10, "no archive that can be read"),  # it is longer than it says
    ],
)
def test_a_bomb_is_judged_by_its_size_before_it_is_unpacked(tmp_path: Path, size: int, why: str) -> None:
    with pytest.raises(ExportError, match=why):
        read_export(written(tmp_path / "bomb.eln", declared(zipped(DOCUMENT), size)))


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    huge = tmp_path / "huge.json"
    with huge.open("wb") as file:
        file.truncate(2**30 + 1)  # without a block on the disk
    with pytest.raises(ExportError, match=r"larger than 1,024 MiB"):
        read_export(huge)
    with pytest.raises(ExportError, match="no such file"):
        read_export(tmp_path / "none")


async def test_a_call_is_computed_again_with_all_its_arguments_however_long_the_defaults_make_them() -> None:
    async with running() as (baio, caller):
        text = "A" * (65_536 - len('{"text": ""}'))
        complete = {"text": text, "more": "default"}
        for _ in range(2):
            baio.toolbox.script(ToolOutcome(ToolState.DONE, complete, {"length": len(text)}))
        call = await baio.run_tool(caller, "echo", {"text": text})
        assert (await baio.verify_tool_call(caller, call.id)).equal
        assert baio.toolbox.asked == [("echo", {"text": text}), ("echo", complete)]
