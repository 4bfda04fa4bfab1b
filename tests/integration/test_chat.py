"""``baio chat`` as people and scripts use it: over pipes, and on a real terminal whose Ctrl-C is one."""

import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import psutil
import pytest
from sqlalchemy import Executable, insert, make_url
from sqlalchemy import select as query

from baio_adapters.sql.database import engine_for
from baio_adapters.sql.tables import answers, api_keys, conversations, messages, users
from baio_api.terminal import _find_model
from baio_domain.entities import Model, ModelSpec, Provider
from baio_domain.errors import InvalidInput
from tests.integration.conftest import NewDatabase, on_sqlite, once, settings_for
from tests.integration.processes import Process, run
from tests.integration.scripted_provider import (
    Behaviour,
    ScriptedProvider,
    answer,
    cut_after,
    endless,
    gated,
    hang_after,
    refuse,
    silence,
)

KEY = "sk-canary-terminal-5d20c9e1"
ASK = ("--model", "gpt-4o-mini", "--key-env", "LAB_KEY")
CODON = "A codon is three nucleotides."

BAIO = (sys.executable, "-m", "baio_api.cli")
PRELUDE = (
    sys.executable,
    "-c",
    # Signals have their usual meaning, even where the tests run in the background or under nohup, which ignore some of
    # them.
    """\
import os, signal, sys
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
""",
)


@dataclass(frozen=True)
class Place:
    """Somebody's account on some machine: a data folder, a database, a provider, and an environment with a key."""

    folder: Path
    database: str
    environment: Mapping[str, str]

    def start(self, *arguments: str, **changes: str) -> subprocess.Popen[str]:
        """Start ``baio chat`` on pipes."""
        pipe = subprocess.PIPE
        environment = {**self.environment, **changes}
        command = [*PRELUDE, *BAIO, "chat", *arguments]
        return subprocess.Popen(
            command, env=environment, cwd=self.folder, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )

    def chat(self, *arguments: str, said: str = "", **changes: str) -> subprocess.CompletedProcess[str]:
        """Run ``baio chat`` to its end, not on a terminal."""
        environment = {**self.environment, **changes}
        return run(["chat", *arguments], env=environment, cwd=self.folder, typed=said)

    def said(self, conversation: int) -> list[tuple[str, str]]:
        """The stored messages of the conversation except the system message, as (role, content)."""
        wanted = query(messages.c.role, messages.c.content).where(messages.c.conversation_id == conversation)
        return [(role, content) for role, content in self.rows(wanted.order_by(messages.c.id)) if role != "system"]

    def states(self, conversation: int) -> list[str]:
        """How the conversation's answers ended."""
        wanted = query(answers.c.state).where(answers.c.conversation_id == conversation).order_by(answers.c.id)
        return [row[0] for row in self.rows(wanted)]

    def rows(self, wanted: Executable) -> list[tuple[Any, ...]]:
        """The rows that a statement finds; it may also change some."""
        engine = engine_for(self.database)
        with engine.begin() as connection:
            result = connection.execute(wanted)
            found = [tuple(row) for row in result] if result.returns_rows else []
        engine.dispose()
        return found


@pytest.fixture
def place(new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path) -> Place:
    """A place where nobody has talked yet."""
    return place_at(new_database.prepared(), provider, tmp_path)


@once
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_trouble(place: Place, closed: str) -> None:
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", *BAIO, "chat", "/gc_content ACGT"]
    done = subprocess.run(
        command, env=dict(place.environment), cwd=place.folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert ("50.00 %" in done.stdout) == (">&-" not in closed.replace("2>&-", ""))
    assert place.states(1) == ["complete"]


def place_at(url: str, provider: ScriptedProvider, folder: Path) -> Place:
    """A place with this database."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BAIO_", "OPENAI_"))}
    given = {"BAIO_DATA_DIR": str(folder), "LAB_KEY": KEY, "TERM": "dumb", **settings_for(url, provider)}
    return Place(folder, url, {**inherited, **given})


class Terminal:
    """``baio chat`` on a terminal of its own; ``screen`` is all that it has shown."""

    def __init__(self, place: Place, *arguments: str, **changes: str) -> None:
        self._keyboard, other = pty.openpty()
        self.screen = ""
        self._raw = b""
        name = os.ttyname(other)  # whoever opens it in a session without a terminal gets it as the controlling one
        environment = {**place.environment, **changes}
        self.process = Process(["chat", *arguments], env=environment, cwd=place.folder, stdin=name, stdout=name)
        while not self.screen and self._read():  # until it has the terminal, this end must not be the last one
            pass
        os.close(other)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._keyboard, keys.encode())

    def shows(self, pattern: str) -> re.Match[str]:
        """Wait until the screen shows it, and forget what was shown up to there."""
        give_up_at = time.monotonic() + 30
        while not (found := re.search(pattern, self.screen)):
            assert time.monotonic() < give_up_at, f"{pattern!r} is not in {self.screen!r}"
            assert self._read(), f"it ended without {pattern!r}: {self.screen!r}"
        self.screen = self.screen[found.end() :]
        return found

    def status(self) -> int:
        """Wait for the end, reading all that is shown; the exit status."""
        while self._read():
            pass
        return self.process.wait(30)

    def _read(self) -> bool:
        if not select.select([self._keyboard], [], [], 30)[0]:
            return False
        try:
            data = os.read(self._keyboard, 65_536)
        except OSError:  # how Linux says that nobody has the terminal any more
            return False
        self._raw += data
        self.screen += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._keyboard)


def conversation_in(stderr: str) -> int:
    """The conversation that was named."""
    found = re.search(r"conversation (\d+)", stderr)
    assert found, stderr
    return int(found[1])


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line with which nothing was asked."""
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("baio: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


# -- One question ------------------------------------------------------------------------------------------------------


def test_the_answer_alone_is_on_standard_output_and_it_is_stored(place: Place, provider: ScriptedProvider) -> None:
    done = place.chat(*ASK, "What is a codon?")
    assert (done.returncode, done.stdout) == (0, f"{CODON}\n"), done.stderr
    assert "GPT-4o mini" in done.stderr
    assert place.said(conversation_in(done.stderr)) == [("user", "What is a codon?"), ("baio", CODON)]
    assert [request.headers["authorization"] for request in provider.requests] == [f"Bearer {KEY}"]


def test_text_is_shown_as_it_arrives(place: Place, provider: ScriptedProvider) -> None:
    gate = threading.Event()
    provider.script(gated(gate, ("A codon ",), ("is short.",)))
    with place.start(*ASK, "What is a codon?") as process:
        assert process.stdout is not None
        assert process.stdout.read(8) == "A codon "
        gate.set()
        assert process.communicate(timeout=60)[0] == "is short.\n"


def test_a_conversation_is_resumed_with_all_that_was_said(place: Place, provider: ScriptedProvider) -> None:
    number = conversation_in(place.chat(*ASK, "What is a codon?").stderr)
    provider.script(answer("Stop codons end a protein."))
    done = place.chat(*ASK, "--conversation", str(number), "And a stop codon?")
    assert (done.returncode, done.stdout) == (0, "Stop codons end a protein.\n")
    sent = [turn["content"] for turn in provider.requests[-1].body["messages"]]
    assert sent[1:] == ["What is a codon?", CODON, "And a stop codon?"]
    assert len(place.said(number)) == 4
    assert len(place.rows(query(users.c.id))) == 1


@on_sqlite
def test_the_question_is_read_from_standard_input_when_that_is_no_terminal(place: Place) -> None:
    done = place.chat(*ASK, said="What is\na codon? µ🧬\n")
    assert (done.returncode, done.stdout) == (0, f"{CODON}\n")
    assert place.said(conversation_in(done.stderr))[0] == ("user", "What is\na codon? µ🧬")


@on_sqlite
def test_standard_input_in_another_encoding_is_refused_by_name_and_a_byte_order_mark_is_nothing(place: Place) -> None:
    def asked(data: bytes, **changes: str) -> tuple[int, str]:
        environment = {**place.environment, "PYTHONIOENCODING": "utf-8", **changes}
        done = subprocess.run(
            [*BAIO, "chat", *ASK], check=False, env=environment, cwd=place.folder, input=data, capture_output=True
        )
        return done.returncode, (done.stdout + done.stderr).decode()

    question = "Hva gjør et enzym?"
    for data, why in (
        (question.encode("utf-16"), "UTF-16, not UTF-8"),
        (question.encode("utf-16-le"), "UTF-16, not UTF-8"),
        (question.encode("utf-32"), "UTF-32, not UTF-8"),
        (question.encode("latin-1"), "not UTF-8 (byte 0xf8 at position 6)"),
        (b"x" * (16 * 2**20 + 1), "longer than 16 MiB"),
    ):
        status, said = asked(data)
        assert (status, said.count("\n")) == (2, 1), said
        assert said.startswith("baio: standard input is ")
        assert why in said
    assert asked(question.encode("utf-8-sig"))[0] == 0
    assert asked(question.encode("latin-1"), PYTHONIOENCODING="latin-1")[0] == 0
    assert place.rows(query(messages.c.content).where(messages.c.role == "user")) == [(question,)] * 2


@on_sqlite
def test_the_title_is_made_from_the_first_question(place: Place) -> None:
    place.chat(*ASK, "\x1b[2JWhat\n is a codon? " + "long " * 200)
    [(title,)] = place.rows(query(conversations.c.title))
    assert isinstance(title, str)
    assert title.startswith("[2JWhat is a codon? long long")
    assert len(title) == 255


@on_sqlite
def test_what_a_model_sends_to_command_the_terminal_does_not_reach_it(place: Place, provider: ScriptedProvider) -> None:
    provider.script(answer("\x1b]0;owned\x07\x1b[31mred\x9b2J\x90\x00\r\ttab\n", "\x7f\x08end"))
    done = place.chat(*ASK, "What is a codon?")
    assert done.stdout == "]0;owned[31mred2J\ufffd\ttab\nend\n"
    for changes, escapes in (
        ({"TERM": "xterm"}, {"\x1b[2m", "\x1b[0m"}),  # what is said beside is dim
        ({"TERM": "xterm", "NO_COLOR": "1"}, set()),
        ({"TERM": "dumb"}, set()),
    ):
        provider.script(answer("\x1b]0;owned\x07\x1b[31mred\n"))
        with Terminal(place, *ASK, "What is a codon?", **changes) as terminal:
            assert terminal.status() == 0
            assert "]0;owned[31mred" in terminal.screen
            assert set(re.findall(r"\x1b..?.?", terminal.screen)) == escapes


@on_sqlite
def test_on_a_terminal_words_stay_whole_and_something_moves_until_there_are_any(
    place: Place, provider: ScriptedProvider, gate: threading.Event
) -> None:
    words = "Deoxyribonucleic acid carries genetic instructions "
    provider.script(gated(gate, (), (words,) * 4))
    with Terminal(place, *ASK, "What is DNA?") as terminal:
        terminal.shows(r"\r\|\r/\r-\r\\\r\|")
        gate.set()
        assert terminal.status() == 0
        shown = terminal.screen.partition("\r \r")[2]
    assert shown.split() == words.split() * 4
    lines = shown.splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) < 80
    piped = place.chat(*ASK, "What is DNA?")
    assert piped.stdout == CODON + "\n"
    assert "\r" not in piped.stderr


# -- Endings -----------------------------------------------------------------------------------------------------------


def test_ctrl_c_stops_the_answer_keeps_it_and_closes_the_providers_connection(
    place: Place, provider: ScriptedProvider
) -> None:
    provider.script(hang_after("Half an answer"))
    with Terminal(place, *ASK, "What is a codon?") as terminal:
        number = int(terminal.shows(r"conversation (\d+)")[1])
        terminal.shows("Half an answer")
        terminal.type("\x03")
        provider.wait_until_left()
        terminal.shows("the text so far is kept")
        assert terminal.status() == 130
    assert place.said(number) == [("user", "What is a codon?"), ("baio", "Half an answer")]
    assert place.states(number) == ["stopped"]


@on_sqlite
def test_ctrl_c_before_the_first_text_stops_the_question(place: Place, provider: ScriptedProvider) -> None:
    provider.script(silence())
    with place.start(*ASK, "What is a codon?") as process:
        provider.wait_for_requests(1, 30)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Stopped before any text." in err
    assert "kept" not in err
    assert place.states(conversation_in(err)) == ["stopped"]
    assert "Traceback" not in err


@on_sqlite
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminal_that_is_closed_or_a_process_that_is_told_to_end_keeps_the_text(
    place: Place, provider: ScriptedProvider, number: signal.Signals
) -> None:
    provider.script(hang_after("Half an answer"))
    with place.start(*ASK, "What is a codon?") as process:
        assert process.stdout is not None
        process.stdout.read(14)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    conversation = conversation_in(err)
    assert place.said(conversation)[1:] == [("baio", "Half an answer")]
    assert place.states(conversation) == ["stopped"]


@on_sqlite
def test_an_answer_that_nobody_reads_any_more_is_stopped(place: Place, provider: ScriptedProvider) -> None:
    provider.script(endless("more of it "))
    with place.start(*ASK, "What is a codon?") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(4)
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(60) == 1
    provider.wait_until_left()
    assert "Traceback" not in err
    assert "Exception" not in err
    assert place.states(conversation_in(err)) == ["stopped"]


@pytest.mark.parametrize(
    ("behaviour", "shown", "state"),
    [
        (refuse(401, code="invalid_api_key"), "", "failed"),
        (refuse(429, retry_after=7), "", "failed"),
        (cut_after("Half an answer"), "Half an answer\n", "failed"),
        (answer("Half an answer", finish="length"), "Half an answer\n", "truncated"),
    ],
)
@on_sqlite
def test_an_answer_that_is_not_whole_ends_with_1_and_one_line_that_says_why(
    place: Place, provider: ScriptedProvider, behaviour: Behaviour, shown: str, state: str
) -> None:
    provider.script(behaviour)
    done = place.chat(*ASK, "What is a codon?")
    assert (done.returncode, done.stdout) == (1, shown)
    *_, conversation, why = done.stderr.splitlines()
    assert why.startswith(("baio: ", "Truncated: "))
    assert "provider-says-secret-things" not in done.stderr
    assert place.states(conversation_in(conversation)) == [state]


def test_a_conversation_whose_terminal_was_killed_is_gone_on_with(place: Place, provider: ScriptedProvider) -> None:
    provider.script(hang_after("Half an answer"))
    with place.start(*ASK, "What is a codon?") as process:
        assert process.stdout is not None
        process.stdout.read(14)
        time.sleep(1)  # by then it is stored
        process.kill()
        number = conversation_in(process.communicate()[1])
    done = place.chat(*ASK, "--conversation", str(number), "Go on.")
    assert (done.returncode, done.stdout) == (0, f"{CODON}\n"), done.stderr
    ended_at, lease_until = place.rows(query(answers.c.ended_at, answers.c.lease_until).order_by(answers.c.id))[0]
    assert ended_at < lease_until
    assert [text for _, text in place.said(number)] == ["What is a codon?", "Half an answer", "Go on.", CODON]


# -- Models and keys ---------------------------------------------------------------------------------------------------


@on_sqlite
def test_what_can_not_be_asked_is_one_line_and_leaves_no_conversation(place: Place, provider: ScriptedProvider) -> None:
    codon = "What is a codon?"
    unknown = refusal(place.chat("--model", "gpt-99", "--key-env", "LAB_KEY", codon))
    assert "no such model" in unknown
    assert "OpenAI/gpt-4o-mini" in unknown
    assert "--key-env: is missing" in refusal(place.chat("--model", "gpt-4o-mini", codon))
    assert "--key-env" in refusal(place.chat("--model", "gpt-4o-mini", "--key-env", KEY, codon))
    assert "--key-env" in refusal(place.chat(*ASK, codon, LAB_KEY=" "))
    assert "ASCII" in refusal(place.chat(*ASK, codon, LAB_KEY="schlüssel"))
    assert "question: must not be blank" in refusal(place.chat(*ASK, said=" \n"))
    for wrong in ("1", "-1", "9" * 30):
        assert "no such conversation" in refusal(place.chat(*ASK, f"--conversation={wrong}", codon))
    assert place.rows(query(conversations.c.id)) == []
    assert provider.requests == []


def test_a_model_is_found_by_every_name_and_one_that_several_providers_have_by_both() -> None:
    def offering(number: int, name: str, *identifiers: str) -> Provider:
        specs = [ModelSpec(identifier, identifier.upper().replace("-", " "), 1, 1) for identifier in identifiers]
        return Provider(number, name, tuple(Model.of(index, number, spec) for index, spec in enumerate(specs)))

    providers = [offering(1, "OpenAI", "gpt-4o", "o1"), offering(2, "Elsewhere", "gpt-4o", "phi-3")]
    for wanted in ("phi-3", " Phi 3", "elsewhere/PHI-3"):
        assert _find_model(providers, wanted)[1].identifier == "phi-3"
    assert _find_model(providers, "Elsewhere/gpt-4o")[0].name == "Elsewhere"
    with pytest.raises(InvalidInput, match=r"several providers .* one of OpenAI/gpt-4o, Elsewhere/gpt-4o$"):
        _find_model(providers, "gpt-4o")
    with pytest.raises(
        InvalidInput, match=r"no such model; choose one of OpenAI/gpt-4o, OpenAI/o1, Elsewhere/gpt-4o, Elsewhere/phi-3$"
    ):
        _find_model(providers, "gpt")
    with pytest.raises(InvalidInput, match=r"no such model; choose one of All/m0, .*, All/m39 and 260 more$"):
        _find_model([offering(3, "All", *(f"m{number}" for number in range(300)))], "gpt")


@on_sqlite
def test_where_no_model_is_named_and_there_is_no_embedded_one_it_says_how_to_name_one(place: Place) -> None:
    without = refusal(place.chat("What is a codon?", BAIO_LOCAL_MODEL="off"))
    assert "no embedded model" in without
    assert "--model" in without


@on_sqlite
def test_a_tool_is_run_without_any_model_or_key(place: Place, provider: ScriptedProvider) -> None:
    told = place.chat("/gc_content ACGTTGCA")
    assert told.returncode == 0, told.stderr
    assert "**50.00 %** (4 of 8). gc_content 1" in told.stdout
    assert provider.requests == []


def test_the_key_is_in_no_output_no_argument_no_log_and_no_file(place: Place, provider: ScriptedProvider) -> None:
    gate = threading.Event()
    provider.script(gated(gate, ("A codon ",), ("is short.",)), refuse(401))
    loud = {"BAIO_LOG_LEVEL": "DEBUG", "OPENAI_LOG": "debug"}
    with place.start(*ASK, "What is a codon?", **loud) as process:
        assert process.stdout is not None
        process.stdout.read(8)
        arguments = " ".join(psutil.Process(process.pid).cmdline())
        gate.set()
        shown = process.communicate(timeout=60)
    refused = place.chat(*ASK, "And a stop codon?", **loud)
    assert len(provider.requests) == 2  # the key was there all the time
    stored = b"".join(path.read_bytes() for path in place.folder.iterdir() if path.is_file())
    kept = place.rows(query(api_keys.c.nickname, api_keys.c.sealed))
    assert "LAB_KEY" in arguments
    assert "LAB_KEY" in str(kept)
    if make_url(place.database).get_backend_name() == "sqlite":
        stored += Path(str(make_url(place.database).database)).read_bytes()
        assert b"LAB_KEY" in stored
    for text in (arguments, *shown, refused.stdout, refused.stderr, str(kept), stored.decode("latin-1")):
        assert KEY not in text


def test_a_key_is_stored_once_and_another_one_takes_its_place(place: Place, provider: ScriptedProvider) -> None:
    for key in ("sk-first", "sk-first", "sk-second"):
        assert place.chat(*ASK, "What is a codon?", LAB_KEY=key).returncode == 0
    sent = [request.headers["authorization"] for request in provider.requests]
    assert sent == ["Bearer sk-first", "Bearer sk-first", "Bearer sk-second"]
    assert len(place.rows(query(api_keys.c.id))) == 1


# -- The local user ----------------------------------------------------------------------------------------------------


def test_the_account_is_made_once_even_by_terminals_that_begin_together(place: Place) -> None:
    together = [place.start(*ASK, f"Question {number}?") for number in range(3)]
    for process in together:
        with process:
            process.communicate(timeout=60)
        assert process.returncode == 0
    assert len(place.rows(query(conversations.c.user_id).distinct())) == 1
    [file] = place.folder.glob("terminal_user_*")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_after_a_flush_there_is_another_account(place: Place) -> None:
    number = conversation_in(place.chat(*ASK, "What is a codon?").stderr)
    assert run(["flush", "--yes"], env=place.environment).returncode == 0
    assert "no such conversation" in refusal(place.chat(*ASK, f"--conversation={number}", "Go on."))
    assert place.chat(*ASK, "What is a codon?").returncode == 0
    assert len(place.rows(query(users.c.id))) == 1


@on_sqlite
def test_in_another_database_under_the_same_name_nobodys_account_is_taken(
    place: Place, new_database: NewDatabase
) -> None:
    assert place.chat(*ASK, "What is a codon?").returncode == 0
    [(taken,)] = place.rows(query(users.c.id))
    path = Path(str(make_url(place.database).database))
    path.unlink()
    Path(str(make_url(new_database.prepared()).database)).rename(path)
    given = ("id", "created_at", "disabled_at", "deleted_at", "administrator")
    somebody = {each.name: "x" for each in users.c if each.name not in given}
    place.rows(insert(users).values(**somebody, id=taken, created_at=datetime.now(UTC)))
    assert place.chat(*ASK, "What is a codon?").returncode == 0
    [(owner,)] = place.rows(query(conversations.c.user_id))
    assert owner != taken


def test_nothing_needs_to_be_set_up_for_an_embedded_database(provider: ScriptedProvider, tmp_path: Path) -> None:
    place = place_at(f"sqlite:///{tmp_path / 'baio.sqlite3'}", provider, tmp_path)
    set_up = {"BAIO_DATABASE_URL", "BAIO_SECRET_KEY"}
    environment = {name: value for name, value in place.environment.items() if name not in set_up}
    place = Place(tmp_path, place.database, environment)
    done = place.chat(*ASK, "What is a codon?")
    assert (done.returncode, done.stdout) == (0, f"{CODON}\n"), done.stderr
    assert place.said(conversation_in(done.stderr))[1:] == [("baio", CODON)]


# -- A conversation on a terminal --------------------------------------------------------------------------------------


def test_a_conversation_on_a_terminal_from_its_first_question_to_its_end(
    place: Place, provider: ScriptedProvider
) -> None:
    earlier = conversation_in(place.chat(*ASK, "What is an exon?").stderr)
    provider.script(answer("Three nucleotides."), hang_after("A stop codon"), answer("It is a promoter."))
    with Terminal(place, *ASK) as terminal:
        terminal.shows(rf" {earlier}  \d{{4}}-\d\d-\d\d \d\d:\d\d  What is an exon\?")
        terminal.shows("> ")
        terminal.type("What is a codon?\n")
        number = int(terminal.shows(r"conversation (\d+)")[1])
        terminal.shows(r"Three nucleotides\.\n")
        terminal.shows("> ")
        terminal.type("And a stop codon?\n")
        terminal.shows("\r \rA stop codon")
        terminal.type("\x03")
        terminal.shows("the text so far is kept")
        terminal.shows("> ")
        terminal.type("/help\n")
        terminal.shows("/open ID")
        terminal.type("/list\n")
        terminal.shows(rf" {number}  .*  What is a codon\?[^\n]*\n[^\n]* {earlier}  ")
        terminal.type("/open 999999\n")
        terminal.shows("no such conversation")
        terminal.type(f"/open {earlier}\n")
        terminal.shows(rf"> What is an exon\?\n{re.escape(CODON)}\n")
        terminal.type("/new\n")
        terminal.shows("> ")
        terminal.type("What is TATA?\n")
        another = int(terminal.shows(r"conversation (\d+)")[1])
        terminal.shows(r"It is a promoter\.\n")
        terminal.shows("> ")
        terminal.type("\x04")
        assert terminal.status() == 0
    assert [text for _, text in place.said(number)] == [
        "What is a codon?", "Three nucleotides.", "And a stop codon?", "A stop codon",
    ]  # fmt: skip
    assert place.states(number) == ["complete", "stopped"]
    assert len(place.said(earlier)) == 2
    assert place.said(another) == [("user", "What is TATA?"), ("baio", "It is a promoter.")]


@on_sqlite
def test_a_conversation_is_opened_at_once_and_left_with_ctrl_c_at_the_prompt(place: Place) -> None:
    number = conversation_in(place.chat(*ASK, "What is a codon?").stderr)
    with Terminal(place, *ASK, "--conversation", str(number)) as terminal:
        terminal.shows(rf"> What is a codon\?\n{re.escape(CODON)}\n")
        terminal.shows("> ")
        terminal.type("\x03\n")  # what comes between the prompt and the wait for keys, Python notices with the next key
        assert terminal.status() == 130
        assert "Traceback" not in terminal.screen


@on_sqlite
def test_a_failure_does_not_end_a_conversation(place: Place, provider: ScriptedProvider) -> None:
    provider.script(refuse(401), answer("Three nucleotides."))
    with Terminal(place, *ASK) as terminal:
        terminal.shows("> ")
        terminal.type("What is a codon?\n")
        terminal.shows("baio: ")
        terminal.shows("> ")
        terminal.type("Please.\n")
        terminal.shows(r"Three nucleotides\.\n")
        terminal.shows("> ")
        terminal.type("/quit\n")
        assert terminal.status() == 0
