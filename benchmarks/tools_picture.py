"""Draw what tools do: ``python -m benchmarks.tools_picture`` records two pictures for ``docs/`` from a real server.

``answer-tools.svg`` is an answer with two calls, from a model that follows a script: the answer, its events, and the
record of the first call. ``citation.svg`` is the way of one value from a file to its verification.
"""

import argparse
import asyncio
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import wrap
from typing import Any
from xml.sax.saxutils import escape

import httpx2

from benchmarks.process import ROOT
from benchmarks.stage import Person, Stage

DOCS = ROOT / "docs"

PRIMER = "GTAAAACGACGGCCAGTGAATTC"
QUESTION = f"What are the GC content and the melting temperature of {PRIMER}?"
CALLS = [("gc_content", {"sequence": PRIMER}), ("melting_temperature", {"sequence": PRIMER})]
BEFORE, AFTER = "Let me compute both.", "The primer has 47.83 % GC, which is in the usual range."

FASTA = ">pTest a small plasmid\nGAATTCACGTTGCAACGTTGCAGGATCCTTTTGAATTCAA\n"

Event = tuple[str, str, dict[str, Any]]
"""The name, the id and the data of an event."""

Row = tuple[str, str]
"""The class of a line of a picture, and its text."""


@dataclass(slots=True)
class Run:
    """What happened."""

    events: list[Event] = field(default_factory=list)
    stored: str = ""
    records: list[dict[str, Any]] = field(default_factory=list)
    citation: list[Row] = field(default_factory=list)


# -- The run -----------------------------------------------------------------------------------------------------------


def _chunk(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "gpt-4o-mini", "choices": [choice]}
    return b"data: %b\n\n" % json.dumps(chunk).encode()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A provider of OpenAI's protocol that calls both tools, and answers once it has their results."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    asked = json.loads(await reader.readexactly(int(length.partition(b":")[2])))
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
    if asked["messages"][-1]["role"] == "tool":
        writer.write(_chunk({"content": AFTER}) + _chunk({}, "stop"))
    else:
        calls = [
            {"index": place, "id": f"c{place}", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for place, (name, arguments) in enumerate(CALLS)
        ]
        writer.write(_chunk({"content": BEFORE}) + _chunk({"tool_calls": calls}) + _chunk({}, "tool_calls"))
    writer.write(b"data: [DONE]\n\n")
    await writer.drain()
    writer.close()


async def record(folder: Path) -> Run:
    """Ask the question, and read the answer, its events and its records."""
    async with await asyncio.start_server(_serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        stage = await asyncio.to_thread(Stage.build, folder / "stage", provider=port)
        (person,) = await asyncio.to_thread(stage.people, ["olenor"])
        server = await asyncio.to_thread(stage.server)
        try:
            return await _run(person, f"http://127.0.0.1:{server.port}", folder / "citation.eln")
        finally:
            await asyncio.to_thread(server.__exit__)


async def _run(person: Person, address: str, file: Path) -> Run:
    headers = {"Authorization": f"Bearer {person.token}"}
    async with httpx2.AsyncClient(base_url=address, headers=headers, trust_env=False, timeout=60) as client:
        run = await _ask(client, person.conversations[0])
        run.citation = await _cite(client, file)
    return run


async def _ask(client: httpx2.AsyncClient, conversation: int) -> Run:
    run = Run()
    body = {
        "conversation_id": conversation,
        "apikey_nickname": "OpenAI Key",
        "content": QUESTION,
        "model": "gpt-4o-mini",
    }
    where = {"conversation_id": conversation}
    answered = await client.post("/chat/sendMessage/", json=body, headers={"Accept": "text/event-stream"})
    for block in answered.text.split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in block.splitlines())
        if "event" in fields:
            run.events.append((fields["event"], fields.get("id", ""), json.loads(fields["data"])))
    run.records = (await client.get("/chat/getToolCalls/", params=where)).json()
    run.stored = (await client.get("/chat/getConversation/", params=where)).json()["messages"][-1]["content"]
    if run.stored != "".join(data["text"] for name, _, data in run.events if name == "delta"):
        raise RuntimeError(f"the stored answer is another than the streamed one: {run.stored!r}")
    return run


async def _cite(client: httpx2.AsyncClient, file: Path) -> list[Row]:
    """Attach a sequence, ask, export and verify: the lines of the picture."""
    conversation = (await client.post("/chat/createConversation/", json={"title": "Plasmid design"})).json()["id"]
    attached = {"content": FASTA, "topology": "circular", "conversation_id": conversation}
    (sequence,) = (await client.post("/chat/addSequences/", json=attached)).json()
    question = f"/restriction_digest {sequence['handle']} enzymes=EcoRI,BamHI"
    body = {"conversation_id": conversation, "apikey_nickname": "", "model": "", "content": question}
    answered = await client.post("/chat/sendMessage/", json=body)
    where = {"conversation_id": conversation}
    (call,) = (await client.get("/chat/getToolCalls/", params=where)).json()
    exported = await client.get("/chat/exportConversation/", params={**where, "format": "eln"})
    await asyncio.to_thread(file.write_bytes, exported.content)
    verify = [sys.executable, "-m", "baio_api.cli", "verify", str(file)]
    verified = await asyncio.to_thread(subprocess.run, verify, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(io.BytesIO(exported.content)) as archive:
        names = archive.namelist()
    return [
        ("title", "1. Attach pTest.fasta"),
        ("", f"{sequence['handle']}  {sequence['name']}, {sequence['length']} nt, {sequence['topology']}"),
        ("key", f"sha256         {sequence['sha256']}"),
        ("title", "2. Ask"),
        *(("", line) for line in wrap(question, COLUMNS)),
        ("title", "3. Read the line"),
        *(("baio", line) for line in wrap(answered.text, COLUMNS)),
        ("title", "4. Look at the record"),
        ("key", f"inputs.sha256  {call['inputs'][0]['sha256']}"),
        ("tool", f"result_sha256  {call['result_sha256']}"),
        ("title", "5. Export citation.eln"),
        *(("", name.partition("/")[2]) for name in names),
        ("title", "6. baio verify citation.eln"),
        *(("baio", line) for line in verified.stdout.splitlines()),
    ]


# -- The picture -------------------------------------------------------------------------------------------------------

WIDTH, MARGIN, LINE, COLUMNS = 980, 28, 20, 116
STYLE = """
  text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #c9d1d9; }
  .title { font-size: 15px; font-weight: 600; fill: #f0f6fc; }
  .baio { fill: #3fb950; } .tool { fill: #e3b341; } .key { fill: #58a6ff; }
"""

SHOWN = ("tool", "version", "library", "arguments", "inputs", "result", "result_sha256", "state", "offset", "length")


def answer_rows(run: Run) -> list[Row]:
    """The answer, its events, and the record of the first call."""
    rows: list[Row] = [("title", f"The answer to: {QUESTION}")]
    for paragraph in run.stored.split("\n\n"):
        rows += [("baio" if paragraph.startswith(">") else "", line) for line in wrap(paragraph, COLUMNS)] + [("", "")]
    rows[-1:] = [("title", "Its events")]
    for name, id_, data in run.events:
        text = f"{name:6}{id_ and 'id ' + id_:7} {json.dumps(data, ensure_ascii=False)}"
        rows.append(("tool" if name == "tool" else "", _short(text)))
    rows.append(("title", "The record of the first call, from getToolCalls"))
    for key in (*SHOWN, "quoted"):
        rows.append(("key", _short(f"{key:15}{json.dumps(run.records[0][key], ensure_ascii=False)}")))
    return rows


def draw(title: str, rows: list[Row]) -> str:
    """A picture of these lines, as SVG. There is space around each title."""
    spaced = [each for row in rows for each in ((("", ""), row, ("", "")) if row[0] == "title" else (row,))][1:]
    height = 2 * MARGIN + LINE * len(spaced)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{title}</title>",
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" rx="10" fill="#0d1117"/>',
        *(
            f'<text class="{kind}" x="{MARGIN}" y="{MARGIN + LINE * (place + 1) - 6}" xml:space="preserve">'
            f"{escape(line)}</text>"
            for place, (kind, line) in enumerate(spaced)
            if line
        ),
        "</svg>",
        "",
    ]
    return "\n".join(parts)


def _short(text: str) -> str:
    return text if len(text) <= COLUMNS else f"{text[: COLUMNS - 1]}…"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tools_picture", description=__doc__)
    parser.add_argument("--to", type=Path, default=DOCS, help="the folder to write to (default: docs/)")
    target = parser.parse_args().to
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        run = asyncio.run(record(Path(folder)))
    title = "An answer with two calls of tools, its events and the record of the first call"
    (target / "answer-tools.svg").write_text(draw(title, answer_rows(run)), "utf-8")
    title = "A value on its way from a file through question, line, record and export to its verification"
    (target / "citation.svg").write_text(draw(title, run.citation), "utf-8")
    print(f"Wrote answer-tools.svg and citation.svg to {target}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
