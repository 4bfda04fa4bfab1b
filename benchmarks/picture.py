"""Draw an answer arriving: ``python -m benchmarks.picture`` records a run and writes ``docs/answer-arriving.svg``.

A real server answers over HTTP, from a model that follows a script. The client loses its connection in the middle of
the answer, comes back while the model still writes, and follows the answer from the character where it was cut.
"""

import argparse
import asyncio
import itertools
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import TextWrapper
from xml.sax.saxutils import escape

import httpx2

from benchmarks.process import ROOT
from benchmarks.stage import Person, Stage

PICTURE = ROOT / "docs" / "answer-arriving.svg"

QUESTION = "What is a codon?"
ANSWER = (
    "A codon is three consecutive nucleotides of messenger RNA. The ribosome reads one codon after another, and each "
    "names the amino acid to add next. With four bases there are 64 codons: 61 stand for the 20 amino acids, so most "
    "amino acids have several, and three (UAA, UAG and UGA) end the protein. AUG starts it and stands for methionine."
)
LEAVES_AFTER = ANSWER.index("The ribosome reads") + len("The ribosome reads")
RETURNS_AFTER = ANSWER.index("61 stand")
"""The client leaves and returns when it has received, or the model has written, so many characters."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text and when it was sent or received, in seconds since the question."""

    at: float
    text: str


@dataclass(slots=True)
class Run:
    """What happened: what the model wrote, and what each of the two connections received."""

    written: list[Piece] = field(default_factory=list)
    first: list[Piece] = field(default_factory=list)
    second: list[Piece] = field(default_factory=list)
    left_at: float = 0.0
    returned_at: float = 0.0
    ended_at: float = 0.0
    state: str = ""
    stored: str = ""

    @property
    def received(self) -> str:
        """The text that the client has at the end."""
        return "".join(piece.text for piece in (*self.first, *self.second))


# -- The run -----------------------------------------------------------------------------------------------------------


class Model:
    """A provider of OpenAI's protocol that writes the answer word by word, at the pace of a real one."""

    def __init__(self) -> None:
        self.begin(Run())

    def begin(self, run: Run) -> None:
        """Write the next answer into this run, whose question is asked now."""
        self.run = run
        self.began = time.monotonic()
        self.client_left = asyncio.Event()
        self.client_may_return = asyncio.Event()

    def now(self) -> float:
        """Seconds since the question."""
        return time.monotonic() - self.began

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one question, and write the answer."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        pace, written = random.Random(7), 0
        for word in ANSWER.replace(" ", " \0").split("\0"):
            await asyncio.sleep(pace.uniform(0.03, 0.08))
            if written >= LEAVES_AFTER:
                await self.client_left.wait()
            writer.write(_event({"content": word}))
            self.run.written.append(Piece(self.now(), word))
            written += len(word)
            if written >= RETURNS_AFTER:
                self.client_may_return.set()
        writer.write(_event({}, "stop") + b"data: [DONE]\n\n")
        await writer.drain()
        writer.close()


def _event(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "gpt-4o-mini", "choices": [choice]}
    return b"data: %b\n\n" % json.dumps(chunk).encode()


async def record(folder: Path) -> Run:
    """Ask the question, leave, come back; raises RuntimeError if any text was lost."""
    model = Model()
    async with await asyncio.start_server(model.serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        stage = await asyncio.to_thread(Stage.build, folder / "stage", provider=port)
        (person,) = await asyncio.to_thread(stage.people, ["olenor"], conversations=2)
        server = await asyncio.to_thread(stage.server)
        try:
            for conversation in person.conversations:  # the first one warms the server up
                run = Run()
                await _ask(run, model, person, conversation, f"http://127.0.0.1:{server.port}")
        finally:
            await asyncio.to_thread(server.__exit__)
    if not run.received == run.stored == ANSWER:
        raise RuntimeError(f"text was lost: received {run.received!r}, stored {run.stored!r}")
    return run


async def _ask(run: Run, model: Model, person: Person, conversation: int, address: str) -> None:
    headers = {"Authorization": f"Bearer {person.token}", "Accept": "text/event-stream"}
    body = {
        "conversation_id": conversation,
        "apikey_nickname": "OpenAI Key",
        "content": QUESTION,
        "model": "gpt-4o-mini",
    }
    async with httpx2.AsyncClient(base_url=address, headers=headers, trust_env=False, timeout=60) as client:
        model.begin(run)
        async with client.stream("POST", "/chat/sendMessage/", json=body) as response:
            async for name, data in _events(response):
                if name == "delta":
                    run.first.append(Piece(model.now(), data["text"]))
                if len(run.received) >= LEAVES_AFTER:
                    break
        run.left_at = model.now()
        model.client_left.set()
        await model.client_may_return.wait()
        run.returned_at = model.now()
        where = {"conversation_id": conversation, "offset": len(run.received)}
        async with client.stream("GET", "/chat/followAnswer/", params=where) as response:
            async for name, data in _events(response):
                if name == "delta":
                    run.second.append(Piece(model.now(), data["text"]))
                else:
                    run.state = data.get("state", name)
        run.ended_at = model.now()
        stored = await client.get("/chat/getConversation/", params={"conversation_id": conversation})
        run.stored = stored.json()["messages"][-1]["content"]


async def _events(response: httpx2.Response) -> AsyncIterator[tuple[str, dict[str, str]]]:
    response.raise_for_status()
    name = ""
    async for line in response.aiter_lines():
        key, _, value = line.partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            yield name, json.loads(value)


# -- The picture -------------------------------------------------------------------------------------------------------

WIDTH, MARGIN, LEFT, RIGHT = 880, 28, 170, 852
MODEL, FIRST, SECOND, AXIS = 124, 178, 232, 278
LETTER, LINE = 8.43, 22
"""Pixels that one character of the answer takes, and pixels from one line to the next."""

STYLE = """
  text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #c9d1d9; }
  .title { font-size: 15px; font-weight: 600; fill: #f0f6fc; } .small { font-size: 11.5px; fill: #8b949e; }
  .answer { font-size: 14px; } .end { text-anchor: end; } .middle { text-anchor: middle; } .rail { stroke: #30363d; }
  .seen { fill: #58a6ff; } .missed { fill: #e3b341; } .live { fill: #3fb950; }
  .cut { fill: #ff7b72; } path.cut { stroke: #ff7b72; }
  .band { fill: #e3b341; fill-opacity: .16; } .away { fill: #e3b341; fill-opacity: .07; }
"""

Kind = Callable[[int], str]
"""How the character at a position arrived: seen over the first connection, missed, or live over the second."""


def draw(run: Run) -> str:
    """The picture of a run, as SVG: when each piece was written and received, and how each part of the text arrived."""
    first, caught_up = sum(len(piece.text) for piece in run.first), run.second[0]
    lines = _lines(run.received)
    height = AXIS + 82 + LINE * len(lines)

    def kind(position: int) -> str:
        return "seen" if position < first else "missed" if position < first + len(caught_up.text) else "live"

    left, back, caught, end = (_x(run, at) for at in (run.left_at, run.returned_at, caught_up.at, run.ended_at))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>An answer arrives over two connections, and no text is lost</title>",
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" rx="10" fill="#0d1117"/>',
        _text(MARGIN, 42, f'POST /chat/sendMessage/ "{QUESTION}"', "title"),
        _text(MARGIN, 64, "Each tick is a piece of the answer: written by the model, received by the client.", "small"),
        f'<rect class="away" x="{left}" y="82" width="{back - left:.1f}" height="{AXIS - 98}"/>',
        _text((left + back) / 2, 98, "no connection", "small middle"),
        *_lane(run, MODEL, "model", run.written, 0, kind),
        *_lane(run, FIRST, "connection 1", run.first, 0, kind),
        f'<path class="cut" stroke-width="2" d="M{left + 5:.1f} {FIRST - 6}l12 12m0 -12l-12 12"/>',
        _text(left + 24, FIRST - 8, f"lost after {first} characters", "small cut"),
        *_lane(run, SECOND, "connection 2", run.second, first, kind),
        _text(back - 8, SECOND - 8, f"GET /chat/followAnswer/?offset={first}", "small end"),
        f'<rect class="missed" x="{caught - 2:.1f}" y="{SECOND - 14}" width="4" height="28"/>',
        _text(caught - 8, SECOND + 18, f"{len(caught_up.text)} characters at once", "small missed end"),
        _text(end, SECOND + 24, run.state, "small live end"),
        *(_text(_x(run, second), AXIS, f"{second} s", "small") for second in range(int(run.ended_at) + 1)),
    ]
    for number, (start, line) in enumerate(lines):
        parts += _coloured(line, start, AXIS + 40 + LINE * number, kind)
    counts = f"{len(ANSWER)} characters written, {len(run.received)} received, {len(run.stored)} stored"
    return "\n".join([*parts, _text(MARGIN, height - 24, counts, "title"), "</svg>", ""])


def _x(run: Run, at: float) -> float:
    return LEFT + (RIGHT - LEFT) * at / run.ended_at


def _text(x: float, y: float, content: str, classes: str = "") -> str:
    return f'<text class="{classes}" x="{x:.1f}" y="{y:.1f}">{escape(content)}</text>'


def _lane(run: Run, y: int, label: str, pieces: list[Piece], position: int, kind: Kind) -> list[str]:
    """One rail with its pieces as ticks; the first piece begins at this position of the answer."""
    parts = [_text(MARGIN, y + 4, label), f'<path class="rail" d="M{LEFT} {y}H{RIGHT}"/>']
    for piece in pieces:
        parts.append(
            f'<rect class="{kind(position)}" x="{_x(run, piece.at) - 1:.1f}" y="{y - 9}" width="2.5" height="18"/>'
        )
        position += len(piece.text)
    return parts


def _lines(answer: str) -> list[tuple[int, str]]:
    """The answer in lines that fit, each with the position of its first character."""
    found, start = [], 0
    for line in TextWrapper(int((RIGHT - MARGIN) / LETTER)).wrap(answer):
        start = answer.index(line, start)
        found.append((start, line))
        start += len(line)
    return found


def _coloured(line: str, start: int, y: float, kind: Kind) -> list[str]:
    """One line of the answer, with a colour for each way in which its characters arrived."""
    parts, x = [], float(MARGIN)
    for name, positions in itertools.groupby(range(start, start + len(line)), kind):
        characters = "".join(line[position - start] for position in positions)
        shown = characters.rstrip()
        width = len(shown) * LETTER
        if name == "missed":
            parts.append(
                f'<rect class="band" x="{x - 3:.1f}" y="{y - 15}" width="{width + 6:.1f}" height="20" rx="3"/>'
            )
        parts.append(f'<text class="answer {name}" x="{x:.1f}" y="{y}" textLength="{width:.1f}">{escape(shown)}</text>')
        x += len(characters) * LETTER
    return parts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.picture", description=__doc__)
    parser.add_argument(
        "--to", type=Path, default=PICTURE, help="the file to write (default: docs/answer-arriving.svg)"
    )
    target = parser.parse_args().to
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        target.write_text(draw(asyncio.run(record(Path(folder)))), "utf-8")
    print(f"Wrote {target}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
