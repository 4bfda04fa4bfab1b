"""``baio chat``: the terminal client. It calls the same use cases as the HTTP API, in its own process.

Answers go to standard output as they arrive. If one question is asked, nothing else goes there; everything else is
printed on standard error. In a conversation the event loop runs only while a question is answered. Between
questions ``input`` blocks the process, so that line editing and Ctrl-C work as usual.
"""

import asyncio
import codecs
import contextlib
import hashlib
import io
import os
import re
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import make_url

from baio_api.container import Container
from baio_api.logs import configure_logging
from baio_api.screen import Wrapped, print_status, waiting
from baio_api.settings import Settings, SettingsError
from baio_domain.answering import LEASE, REAP_SECONDS, Followable
from baio_domain.commands import read_command
from baio_domain.entities import (
    MAX_TITLE_LENGTH,
    AnswerState,
    Caller,
    Conversation,
    Model,
    Profile,
    Provider,
    Role,
    StoredSequence,
    User,
)
from baio_domain.errors import (
    AnswerNotFound,
    AnswerRunning,
    ApiKeyNotFound,
    BaioError,
    ConversationNotFound,
    FieldError,
    InvalidInput,
    NotAuthenticated,
    TooManyAnswers,
)
from baio_domain.handles import handle_id, label
from baio_domain.sequence_files import SequenceFile
from baio_domain.text import folded, storable
from baio_domain.use_cases.api_keys import StoredKey
from baio_domain.use_cases.conversations import Thread
from baio_domain.use_cases.sequences import SequencePart

EMBEDDED_PROVIDER = "BAiO local (demo)"
"""The provider of the embedded model, which needs neither a key nor the internet."""

RECENT_CONVERSATIONS = 10
"""How many conversations are listed at the start."""

MAX_SUGGESTED_MODELS = 40
"""How many models the error about an unknown model names."""

MAX_QUESTION_BYTES = 16 * 2**20
"""How much of standard input is read for a question; no model can take as much."""

MAX_FILE_BYTES = 16 * 2**20
"""The longest file of sequences, as over HTTP."""

_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}

MAX_ID_DIGITS = 18
"""Every number with this many digits fits into an id."""

INTERRUPTED = 128 + signal.SIGINT
"""The exit status after Ctrl-C."""

HELP = """\
Every line is a question in the current conversation. Ctrl-C stops an answer and keeps the text so far.
  /list      list your conversations
  /open ID   continue a conversation
  /new       start a new conversation with the next question
  /attach X  attach a file of sequences, or a sequence such as seq_17, to the next question
  /TOOL ...  run a tool, such as /gc_content ACGT; no model is asked
  /quit      quit; so do Ctrl-D and, at the prompt, Ctrl-C"""

_EXIT_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def chat(
    settings: Settings, *, question: str | None, model: str | None, key_env: str | None, conversation: str | None
) -> int:
    """Ask one question, or start an interactive conversation if there is no question and standard input is a terminal.

    ``key_env`` names the environment variable with the key for the model's provider; ``conversation`` is the id of a
    conversation to continue. Returns the exit status: 0 if the answer is complete, 1 if it is not, and 128 plus the
    signal's number after a signal. Raises SettingsError or BaioError if no question could be asked.
    """
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a character that the terminal lacks must not raise
    # At its default level the server's log would appear between the lines of answers.
    configure_logging("WARNING" if settings.log_level.upper() == "INFO" else settings.log_level)
    if question is None and not sys.stdin.isatty():
        question = _read_stdin()
    if question is not None and not question.strip():
        raise InvalidInput.of(FieldError("question", "must not be blank"))
    settings.ensure_secret()
    container = Container(settings=settings)
    with _opened(container) as (runner, opened):
        for gateway in container.gateways().values():
            opened.push_async_callback(gateway.aclose)
        # At exit nobody waits for a running answer, so it gets no time to finish.
        runner.run(opened.enter_async_context(container.answering().running(0)))
        session = _start_session(runner, container, settings, model, key_env, question)
        if conversation is not None:
            _open_conversation(runner, session, conversation, show=question is None)
        _print_status(session.model_label)
        if question is not None:
            return runner.run(session.ask(question.rstrip()))
        return _run_prompt(runner, session)


def add_sequences(settings: Settings, file: Path, *, conversation: str | None) -> int:
    """Store the sequences of a file for this terminal's user, and print a line about each.

    ``conversation`` is the id of a conversation in which their names are known. Returns the exit status 0. Raises
    SettingsError or BaioError if nothing was stored.
    """
    configure_logging("WARNING" if settings.log_level.upper() == "INFO" else settings.log_level)
    settings.ensure_secret()
    container = Container(settings=settings)
    with _opened(container) as (runner, _):
        session = _ChatSession(container, _local_user(runner, container, settings), "", "", "")
        if conversation is not None:
            _open_conversation(runner, session, conversation, show=False)
        for sequence in runner.run(session.add(file)):
            print(label(sequence))
    return 0


@contextlib.contextmanager
def _opened(container: Container) -> Iterator[tuple[asyncio.Runner, contextlib.AsyncExitStack]]:
    """Inside, the database can be used; in the end it is closed, the tools' process ends, and so does what is added."""
    with asyncio.Runner() as runner:
        opened = contextlib.AsyncExitStack()
        opened.callback(container.database().close)
        try:
            opened.push_async_callback(container.toolbox().aclose)
            runner.run(container.database().check())
            yield runner, opened
        finally:
            runner.run(opened.aclose())


def _read_file(file: Path) -> str:
    """The text of a file. Raises InvalidInput if there is none that can be read."""
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise InvalidInput(f"{file} is longer than {MAX_FILE_BYTES // 2**20} MiB: divide it")
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InvalidInput(f"can't read {file}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{file} is not text in UTF-8: unpack or convert it") from None


def _read_stdin() -> str:
    """All of standard input. Raises InvalidInput if it is too long, or not in the encoding of this terminal."""
    encoding = sys.stdin.encoding
    data = sys.stdin.buffer.read(MAX_QUESTION_BYTES + 1)
    if len(data) > MAX_QUESTION_BYTES:
        raise InvalidInput(f"standard input is longer than {MAX_QUESTION_BYTES // 2**20} MiB")
    other = next((name for mark, name in _BYTE_ORDER_MARKS.items() if data.startswith(mark)), None)
    if other is None and b"\0" in data[:4] and encoding.upper() == "UTF-8":
        other = "UTF-16"  # without its mark
    try:
        if other is None:
            return data.removeprefix(codecs.BOM_UTF8).decode(encoding)
    except UnicodeDecodeError as error:
        byte = f"byte {data[error.start]:#04x} at position {error.start}"
        raise InvalidInput(f"standard input is not {encoding.upper()} ({byte}): convert it, as iconv does") from None
    raise InvalidInput(
        f"standard input is {other}, not {encoding.upper()}: convert it, as iconv -f {other} -t {encoding.upper()} does"
    )


# -- Starting ----------------------------------------------------------------------------------------------------------


def _start_session(
    runner: asyncio.Runner,
    container: Container,
    settings: Settings,
    model: str | None,
    key_env: str | None,
    question: str | None,
) -> "_ChatSession":
    caller = _local_user(runner, container, settings)
    if model is None and question is not None and _is_command(container, question):
        return _ChatSession(container, caller, "", "", "BAiO alone, without a model")
    known: list[Provider] = runner.run(container.get_providers()(caller))
    provider, chosen = _find_model([each for each in known if each.name in container.gateways()], model)
    nickname = _store_key(runner, container, caller, provider, key_env)
    return _ChatSession(container, caller, chosen.identifier, nickname, f"{provider.name}: {chosen.name}")


def _is_command(container: Container, question: str) -> bool:
    return read_command(question, container.toolbox().specs()) is not None


def _local_user(runner: asyncio.Runner, container: Container, settings: Settings) -> Caller:
    """The account of this terminal's user in this database, created on first use. Nobody can sign in to it.

    A file in the data folder holds its id and username. Both must match: if the database was emptied or replaced, the
    id may belong to another account.
    """
    url = make_url(settings.database).set(password="")
    if settings.embedded:
        url = url.set(database=str(Path(url.database or "").resolve()))
    path = settings.data_path / f"terminal_user_{hashlib.sha256(str(url).encode()).hexdigest()[:16]}"
    with contextlib.suppress(FileNotFoundError):
        with contextlib.suppress(ValueError, NotAuthenticated):
            user_id, username = path.read_text().split()
            found: User = runner.run(container.get_info()(Caller(int(user_id))))
            if found.username == username:
                return Caller(found.id)
        path.unlink()
    username = f"terminal-{secrets.token_hex(16)}"
    made: User = runner.run(
        container.create_user()(
            username=username,
            email=f"{username}@terminal.invalid",
            password=secrets.token_urlsafe(32),
            profile=Profile("Terminal", "User"),
        )
    )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent)  # mode 0600
    with os.fdopen(handle, "w") as file:
        file.write(f"{made.id} {username}")
    try:
        os.link(draft, path)
    except FileExistsError:  # another terminal was faster: use its account
        return _local_user(runner, container, settings)
    finally:
        Path(draft).unlink()
    return Caller(made.id)


def _find_model(providers: Sequence[Provider], wanted: str | None) -> tuple[Provider, Model]:
    """The model with this identifier or name. PROVIDER/IDENTIFIER picks one that several providers offer."""
    offered = [(provider, model) for provider in providers for model in provider.models]
    if not offered:
        raise SettingsError("there are no models yet: run `baio load_llm_data`")
    if wanted is None:
        found = [(provider, model) for provider, model in offered if provider.name == EMBEDDED_PROVIDER][:1]
    else:
        found = [
            (provider, model)
            for provider, model in offered
            if folded(wanted.strip())
            in {folded(name) for name in (model.identifier, model.name, f"{provider.name}/{model.identifier}")}
        ]
    if len(found) == 1:
        return found[0]
    if wanted is None:
        raise SettingsError(
            "there is no embedded model (`pip install 'baio[local]'` and `baio runserver` set it up): choose another"
            " model with --model, and name the environment variable with its provider's key with --key-env"
        )
    problem = "several providers offer that model; choose one of" if found else "there is no such model; choose one of"
    names = [f"{provider.name}/{model.identifier}" for provider, model in found or offered]
    more = f" and {len(names) - MAX_SUGGESTED_MODELS} more" if len(names) > MAX_SUGGESTED_MODELS else ""
    raise InvalidInput.of(FieldError("--model", f"{problem} {', '.join(names[:MAX_SUGGESTED_MODELS])}{more}"))


def _store_key(
    runner: asyncio.Runner, container: Container, caller: Caller, provider: Provider, key_env: str | None
) -> str:
    """Store the key and return its nickname, which contains the key's fingerprint. The key stored before is deleted."""
    source, key = "no key", "not-needed"
    if key_env is not None:
        # Errors don't repeat the name, because a user may have passed the key itself by mistake.
        source, key = key_env, os.environ.get(key_env, "").strip()
        if not key:
            raise InvalidInput.of(FieldError("--key-env", "this environment variable is not set, or is empty"))
    elif provider.name != EMBEDDED_PROVIDER:
        raise InvalidInput.of(
            FieldError("--key-env", f"is missing: name the environment variable that holds a key for {provider.name}")
        )
    prefix = f"{source} in the terminal "
    nickname = prefix + container.box().fingerprint("terminal", provider.name, key).hex()[:12]

    def stored() -> list[str]:
        keys: list[StoredKey] = runner.run(container.get_api_keys()(caller))
        return [each.nickname for each in keys if each.provider.id == provider.id and each.nickname.startswith(prefix)]

    if nickname not in (before := stored()):
        try:
            runner.run(container.add_api_key()(caller, key=key, nickname=nickname, provider=provider.name))
        except InvalidInput:
            if nickname not in stored():  # otherwise another terminal was faster
                raise
    for old in before:
        if old != nickname:
            with contextlib.suppress(ApiKeyNotFound):
                runner.run(container.delete_api_key()(caller, old))
    return nickname


# -- Asking ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _ChatSession:
    """The user, the model and its display name, the key, and the conversation: None before the first question."""

    container: Container
    caller: Caller
    model: str
    nickname: str
    model_label: str
    conversation: int | None = None
    attached: list[int] = field(default_factory=list)  # to the next question

    async def add(self, file: Path) -> list[StoredSequence]:
        """Store the sequences of a file, in the conversation if there is one. Raises BaioError."""
        content = _read_file(file)
        _print_status(f"{file.name}: {len(content):,} characters; reading")
        async with waiting():
            added: list[StoredSequence] = await self.container.add_sequences()(
                self.caller, SequenceFile(content), conversation_id=self.conversation
            )
        _print_status(f"{len(added):,} sequence{'s' if len(added) != 1 else ''}")
        return added

    async def attach(self, wanted: str) -> None:
        """Attach a stored sequence by its handle, or those of a file, to the next question. Raises BaioError."""
        number = handle_id(wanted)
        if number is not None:
            found: SequencePart = await self.container.get_sequence()(self.caller, number)
            sequences = [found.sequence]
        else:
            sequences = await self.add(Path(wanted))
        for sequence in sequences:
            _print_status(f"attached to the next question: {label(sequence)}")
        self.attached += [sequence.id for sequence in sequences]

    async def ask(self, question: str) -> int:
        """Ask, print the answer as it arrives, and print how it ended. Returns the exit status.

        Ctrl-C or a termination signal stops the answer and keeps its text. A second one exits without waiting.
        """
        question = storable(question)
        if self.conversation is None:
            title = " ".join(_printable(question).split())[:MAX_TITLE_LENGTH]
            created: Thread = await self.container.create_conversation()(self.caller, title)
            self.conversation = created.id
            _print_status(f"conversation {created.id} (--conversation {created.id} continues it)")
        with _exit_on_signal() as exit_status:
            answer = await self._send(self.conversation, question, exit_status)
            if answer is None:
                return exit_status.result()
            stopping = asyncio.create_task(self._stop_at_exit(self.conversation, exit_status))
            try:
                shown, error = await _print_answer(answer, exit_status)
            finally:
                stopping.cancel()
        state = answer.outcome.state if answer.outcome else None
        if error is not None:
            _print_status(f"baio: {error.detail}")
        elif state is AnswerState.STOPPED:
            _print_status("Stopped; the text so far is kept." if shown else "Stopped before any text.")
        elif state is AnswerState.TRUNCATED:
            _print_status("Truncated: the answer is not complete.")
        if exit_status.done():
            return exit_status.result()
        return 0 if state is AnswerState.COMPLETE else 1

    async def _send(self, conversation: int, question: str, exit_status: asyncio.Future[int]) -> Followable | None:
        """Send the question. Returns None if the user exits while another answer is still running.

        Waits for the other answer as long as it takes to end the answers of a process that was killed.
        """
        loop, told = asyncio.get_running_loop(), False
        give_up_at = loop.time() + LEASE.total_seconds() + 2 * REAP_SECONDS
        while not exit_status.done():
            try:
                answer: Followable = await self.container.send_message()(
                    self.caller,
                    conversation_id=conversation,
                    apikey_nickname=self.nickname,
                    content=question,
                    model=self.model,
                    sequence_ids=self.attached,
                )
            except (AnswerRunning, TooManyAnswers) as error:
                if loop.time() > give_up_at:
                    raise
                if not told:
                    _print_status(f"{error.detail}; waiting")
                told = True
                await asyncio.wait([exit_status], timeout=1)
            else:
                self.attached = []
                return answer
        return None

    async def _stop_at_exit(self, conversation: int, exit_status: asyncio.Future[int]) -> None:
        await asyncio.wait([exit_status])
        try:
            await self.container.stop_answer()(self.caller, conversation)
        except AnswerNotFound:
            pass  # it has ended already
        except BaioError as error:
            _print_status(f"baio: {error.detail}")


@contextlib.contextmanager
def _exit_on_signal() -> Iterator[asyncio.Future[int]]:
    """Inside, the first termination signal sets the exit status in the future; a second one has its usual effect."""
    loop = asyncio.get_running_loop()
    exit_status: asyncio.Future[int] = loop.create_future()
    # Signals that are ignored stay ignored: under nohup, and in background jobs.
    usual = {
        number: signal.getsignal(number) for number in _EXIT_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN
    }

    def on_signal(number: int, _: object) -> None:
        signal.signal(number, usual[signal.Signals(number)])
        loop.call_soon_threadsafe(_request_exit, exit_status, 128 + number)

    for number in usual:
        signal.signal(number, on_signal)
    try:
        yield exit_status
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def _request_exit(exit_status: asyncio.Future[int], status: int) -> None:
    if not exit_status.done():
        exit_status.set_result(status)


async def _print_answer(answer: Followable, exit_status: asyncio.Future[int]) -> tuple[bool, BaioError | None]:
    """Print the answer as it arrives. Returns whether there was text, and the error that cut it, or None."""
    error: BaioError | None = None
    any_text, last, wrapped = False, "\n", Wrapped.for_stdout()

    async def show(text: str) -> None:
        nonlocal last
        last = text or last
        # In a thread: a slow reader must not delay the storing of the answer.
        problem = await asyncio.to_thread(_write_stdout, text)
        if problem is not None:
            _print_status(f"baio: can't write the answer: {problem}")
            _request_exit(exit_status, 1)

    try:
        async with aclosing(answer.follow()) as pieces:
            async with waiting():
                text = await anext(pieces, None)
            while text is not None:
                any_text = True
                await show(wrapped.feed(_printable(text)) if wrapped else _printable(text))
                text = await anext(pieces, None)
    except BaioError as cut:
        error = cut
    if not last.endswith("\n"):
        await asyncio.to_thread(_write_stdout, "\n")
    return any_text, error


def _write_stdout(text: str) -> str | None:
    """Write and flush. Returns what went wrong, or None; after an error standard output is discarded."""
    try:
        print(text, end="", flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # also for the final flush
        return error.strerror or "no reason given"
    return None


# -- The prompt --------------------------------------------------------------------------------------------------------


def _run_prompt(runner: asyncio.Runner, session: _ChatSession) -> int:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401, PLC0415 - adds line editing to ``input``; importing it needs a terminal
    if session.conversation is None:
        _list_conversations(runner, session, RECENT_CONVERSATIONS)
    _print_status("/help explains the commands; Ctrl-D quits.")
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            _print_status("")
            return 0
        if line == "/quit":
            return 0
        try:
            status = _handle_line(runner, session, line)
        except BaioError as error:
            _print_status(f"baio: {error.detail}")
            continue
        if status not in (0, 1, INTERRUPTED):
            return status


def _handle_line(runner: asyncio.Runner, session: _ChatSession, line: str) -> int:
    """Run the command, or ask the question. Returns the answer's exit status."""
    match line.split():
        case []:
            pass
        case ["/list"]:
            _list_conversations(runner, session)
        case ["/new"]:
            session.conversation = None
        case ["/attach", _, *_]:
            runner.run(session.attach(os.path.expanduser(line.removeprefix("/attach").strip())))  # noqa: PTH111
        case ["/open", wanted]:
            _open_conversation(runner, session, wanted, show=True)
        case [command, *_] if command.startswith("/") and not _is_command(session.container, line):
            _print_status(HELP)
        case _:
            return runner.run(session.ask(line))
    return 0


def _list_conversations(runner: asyncio.Runner, session: _ChatSession, limit: int | None = None) -> None:
    async def listed() -> list[Conversation]:
        return [each async for page in session.container.get_conversations()(session.caller) for each in page]

    for each in runner.run(listed())[:limit]:
        _print_status(f"{each.id:>6}  {each.created_at.astimezone():%Y-%m-%d %H:%M}  {each.title}")


def _open_conversation(runner: asyncio.Runner, session: _ChatSession, wanted: str, *, show: bool) -> None:
    """Continue a conversation of the local user. Raises ConversationNotFound."""
    if not wanted.isdecimal() or len(wanted) > MAX_ID_DIGITS:
        raise ConversationNotFound
    conversation: Thread = runner.run(session.container.get_conversation()(session.caller, int(wanted)))
    session.conversation = conversation.id
    if show:
        runner.run(_print_messages(conversation))


async def _print_messages(conversation: Thread) -> None:
    async for page in conversation.pages():
        for message in page:
            if message.role is not Role.SYSTEM:
                print("> " * (message.role is Role.USER) + _printable(message.content))


def _printable(text: str) -> str:
    """The text without control characters except tab and line feed, so that a model can't control the terminal."""
    return _CONTROL_CHARACTERS.sub("", text)


def _print_status(text: str) -> None:
    """Print something that is not part of the answer on standard error."""
    print_status(_printable(text))
