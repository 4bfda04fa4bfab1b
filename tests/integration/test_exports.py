"""Exports of a conversation over HTTP: the three formats, long conversations, and their verification by the command."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import jsonschema_rs

from baio_api.schemas.exports import json_schema
from tests.integration.conftest import once
from tests.integration.processes import run
from tests.integration.scripted_provider import ScriptedProvider, answer, call_tools
from tests.integration.servers import User, named
from tests.integration.test_pages import TEXTS, fill
from tests.integration.test_tool_calls import command

MEDIA_TYPES = {
    "markdown": ("text/markdown; charset=utf-8", "md"),
    "json": ("application/json", "json"),
    "eln": ("application/vnd.eln+zip", "eln"),
}
PLASMID = "gaattcACGTTGCAACGTTGCAggatccTTTTGAATTCAA"


def export(user: User, conversation: int, form: str) -> bytes:
    found = user.http.get("/chat/exportConversation/", params={"conversation_id": conversation, "format": form})
    media_type, suffix = MEDIA_TYPES[form]
    assert found.status_code == 200, found.text
    assert found.headers["content-type"] == media_type
    assert found.headers["content-disposition"] == f'attachment; filename="baio-conversation-{conversation}.{suffix}"'
    return found.content


def test_a_question_is_computed_exported_and_verified_from_the_file_alone(user: User, tmp_path: Path) -> None:
    conversation = user.begin()
    command(user, conversation, f"/restriction_digest topology=circular enzymes=EcoRI,BamHI\n>pTest\n{PLASMID}")
    command(user, conversation, "/gc_content AC-GT")
    document = json.loads(export(user, conversation, "json"))
    jsonschema_rs.validator_for(json_schema()).validate(document)
    calls = user.http.get("/chat/getToolCalls/", params={"conversation_id": conversation}).json()
    assert document["tool_calls"] == calls
    archive = export(user, conversation, "eln")
    assert archive == export(user, conversation, "eln")
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        [fasta] = [name for name in opened.namelist() if name.endswith(".fasta")]
        assert opened.read(fasta) == f">pTest\n{PLASMID.upper()}\n".encode()
        assert calls[0]["inputs"][0]["sha256"] == hashlib.sha256(PLASMID.upper().encode()).hexdigest()
        assert any(name.endswith("-fragments.csv") for name in opened.namelist())
    path = tmp_path / "export.eln"
    path.write_bytes(archive)
    verified = run(["verify", str(path)], env={})
    assert verified.returncode == 0, verified.stderr
    assert verified.stdout.splitlines()[-1] == "2 same, 0 DIFFERENT, 0 MISSING, 0 left out"
    document["tool_calls"][0]["result"]["cuts"] += 1
    path.write_text(json.dumps(document))
    verified = run(["verify", str(path)], env={})
    assert verified.returncode == 1
    assert "DIFFERENT  call" in verified.stdout
    path.write_bytes(b"")
    assert run(["verify", str(path)], env={}).returncode == 2


def test_a_file_is_attached_asked_about_through_a_model_recorded_exported_and_verified(
    asker: User, provider: ScriptedProvider, tmp_path: Path
) -> None:
    user, conversation = asker, asker.begin()
    body = {"name": "pTest", "content": PLASMID, "topology": "circular", "conversation_id": conversation}
    made = user.http.post("/chat/addSequences/", json=body)
    assert made.status_code == 201, made.text
    [stored] = made.json()
    handle = f"seq_{stored['id']}"
    digest = ("restriction_digest", json.dumps({"sequence": handle, "enzymes": ["EcoRI", "BamHI"]}))
    provider.script(call_tools([digest]), answer("Three cuts."))
    text = user.ask(conversation, "Where is it cut?", sequence_ids=[stored["id"]]).text
    [call] = user.http.get("/chat/getToolCalls/", params={"conversation_id": conversation}).json()
    assert (call["state"], call["result"]["cuts"]) == ("done", 3)
    assert call["line"] in text
    document = json.loads(export(user, conversation, "json"))
    assert document["tool_calls"] == [call]
    jsonschema_rs.validator_for(json_schema()).validate(document)
    [sequence] = document["sequences"]
    assert sequence["letters"] == PLASMID.upper()
    assert (sequence["handle"], sequence["topology"], sequence["sha256"]) == (handle, "circular", stored["sha256"])
    archive = export(user, conversation, "eln")
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        genbank = opened.read(f"baio-conversation-{conversation}/conversation/sequences/{handle}.gb").decode()
    assert genbank.startswith("LOCUS       pTest")
    assert "circular" in genbank.splitlines()[0]
    (tmp_path / "export.eln").write_bytes(archive)
    verified = run(["verify", str(tmp_path / "export.eln")], env={})
    assert (verified.returncode, verified.stdout.splitlines()[-1]) == (0, "1 same, 0 DIFFERENT, 0 MISSING, 0 left out")


def test_the_way_from_a_file_to_a_citation_is_as_the_page_says(user: User, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "biology.md").read_text().partition("## From a file to a citation")[2]
    commands, said = page.partition("\n## ")[0].split("The answer is the line to trust")
    lines = commands.splitlines(keepends=True)
    script = textwrap.dedent("".join(line for line in lines if line.startswith(("    ", "\n"))))
    environment = {
        "BAIO": user.server.address,
        "ACCESS": user.access,
        "CONVERSATION": str(user.begin()),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    command = ["bash", "-e", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    def shown(text: str) -> str:  # ids count up, versions of libraries change
        return re.sub(r"call \d+", "call 1", re.sub(r"Biopython [\d.]+", "Biopython", text))

    for line in (line.strip() for line in said.splitlines() if line.startswith("    ")):
        assert shown(line) in shown(done.stdout), done.stdout


@once
def test_a_long_conversation_is_whole_in_every_format(user: User) -> None:
    conversation = user.begin()
    fill(user, conversation, *TEXTS)
    markdown, document = export(user, conversation, "markdown"), export(user, conversation, "json")
    assert all(f"```text\n{each}\n```\n".encode() in markdown for each in TEXTS)
    said: list[dict[str, Any]] = json.loads(document)["messages"]
    assert [each["content"] for each in said[1:]] == TEXTS
    with zipfile.ZipFile(io.BytesIO(export(user, conversation, "eln"))) as opened:
        folder = f"baio-conversation-{conversation}/conversation"
        assert opened.read(f"{folder}/conversation.json") == document
        assert opened.read(f"{folder}/conversation.md") == markdown


@once
def test_an_export_has_three_formats_and_markdown_is_the_default(user: User) -> None:
    conversation = user.begin()
    asked = {"conversation_id": conversation}
    assert user.http.get("/chat/exportConversation/", params=asked).content == export(user, conversation, "markdown")
    assert named(user.http.get("/chat/exportConversation/", params={**asked, "format": "pdf"})) == {"format"}
    for accept in ("application/json", "text/html", "*/*;q=0"):  # the parameter alone decides
        answered = user.http.get("/chat/exportConversation/", params=asked, headers={"Accept": accept})
        assert answered.headers["content-type"] == MEDIA_TYPES["markdown"][0]
