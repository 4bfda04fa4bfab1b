"""The terminal: the second driving adapter, beside HTTP. It drives the same use cases, in its own process.

An answer goes to standard output as it is written, and nothing else does when one question is asked; all the rest is
said on standard error. A conversation on a terminal runs the event loop while there is something to do: between two
questions ``input`` has the process, with the line editing and the Ctrl-C that one expects of it.
"""

import asyncio
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
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url

from baio_api.container import Container
from baio_api.logs import configure_logging
from baio_api.settings import Settings, SettingsError
from baio_domain.answering import LEASE, REAP_SECONDS, Followable, storable
from baio_domain.entities import (
    MAX_TITLE_LENGTH,
    AnswerState,
    Caller,
    Conversation,
    Model,
    Profile,
    Provider,
    Role,
    User,
    folded,
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
from baio_domain.use_cases.api_keys import StoredKey
from baio_domain.use_cases.conversations import Thread

EMBEDDED = "BAiO local (demo)"
"""The provider of the model that needs neither a key nor the internet."""

RECENT = 10
"""How many conversations are listed unasked."""

MAX_SUGGESTED_MODELS = 40
"""How many models are named to somebody who asked for one that is not there."""

MAX_ID_DIGITS = 18
"""Digits that every id can have."""

INTERRUPTED = 128 + signal.SIGINT
"""The exit status after Ctrl-C."""

HELP = """\
Every line is a question in the current conversation. Ctrl-C stops an answer and keeps it.
  /list      your conversations
  /open ID   go on with one
  /new       begin another with the next question
  /quit      leave, as do Ctrl-D and, at the prompt, Ctrl-C"""

_ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def chat(
    settings: Settings, *, question: str | None, model: str | None, key_env: str | None, conversation: str | None
) -> int:
    """Ask one question, or hold a conversation where none is given and standard input is a terminal.

    ``key_env`` names the environment variable with the key for the model's provider; ``conversation`` is the id of the
    one to go on with. Returns the exit status: 0 when the answer is complete, 1 when it is not, 128 and the signal's
    number after one. Raises SettingsError or BaioError when nothing was asked.
    """
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that can't show a character is no reason to end
    # What the default level lets through is for the log of a server; here it would stand between the lines of answers.
    configure_logging("WARNING" if settings.log_level.upper() == "INFO" else settings.log_level)
    if question is None and not sys.stdin.isatty():
        question = sys.stdin.read()
    if question is not None and not question.strip():
        raise InvalidInput.of(FieldError("question", "must not be blank"))
    container = Container(settings=settings.with_secret_key())
    with asyncio.Runner() as runner:
        opened = contextlib.AsyncExitStack()
        opened.callback(container.database().close)
        try:
            for gateway in container.gateways().values():
                opened.push_async_callback(gateway.aclose)
            runner.run(container.database().check())
            # Whoever leaves in the middle of an answer has nobody to finish it for: no time to drain.
            runner.run(opened.enter_async_context(container.answering().running(0)))
            talk = _begin(runner, container, settings, model, key_env)
            if conversation is not None:
                _open(runner, talk, conversation, show=question is None)
            _say(talk.model_label)
            if question is not None:
                return runner.run(talk.ask(question.rstrip()))
            return _converse(runner, talk)
        finally:
            runner.run(opened.aclose())


# -- Beginning ---------------------------------------------------------------------------------------------------------


def _begin(
    runner: asyncio.Runner, container: Container, settings: Settings, model: str | None, key_env: str | None
) -> "_Talk":
    caller = _local_user(runner, container, settings)
    known: list[Provider] = runner.run(container.get_providers()(caller))
    provider, chosen = _choose([each for each in known if each.name in container.gateways()], model)
    nickname = _stored_key(runner, container, caller, provider, key_env)
    return _Talk(container, caller, chosen.identifier, nickname, f"{provider.name}: {chosen.name}")


def _local_user(runner: asyncio.Runner, container: Container, settings: Settings) -> Caller:
    """The account of whoever uses this terminal with this database, made on first use; nobody can sign in to it.

    A file in the data folder has its id and username. Both must fit: in a database that was emptied, or is another
    one under the same address, the id may be somebody else's.
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
    except FileExistsError:  # another terminal was faster: its account is the one
        return _local_user(runner, container, settings)
    finally:
        Path(draft).unlink()
    return Caller(made.id)


def _choose(providers: Sequence[Provider], wanted: str | None) -> tuple[Provider, Model]:
    """The model that is meant, by identifier or name, or by PROVIDER/IDENTIFIER where several providers have it."""
    offered = [(provider, model) for provider in providers for model in provider.models]
    if not offered:
        raise SettingsError("there are no models to ask yet: run `baio load_llm_data`")
    if wanted is None:
        found = [(provider, model) for provider, model in offered if provider.name == EMBEDDED][:1]
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
            "there is no embedded model here (`pip install 'baio[local]'` and `baio runserver` set it up): "
            "name another with --model, and with --key-env the variable that holds its provider's key"
        )
    problem = "several providers have that model; name one of" if found else "there is no such model; there are"
    names = [f"{provider.name}/{model.identifier}" for provider, model in found or offered]
    more = f" and {len(names) - MAX_SUGGESTED_MODELS} more" if len(names) > MAX_SUGGESTED_MODELS else ""
    raise InvalidInput.of(FieldError("--model", f"{problem} {', '.join(names[:MAX_SUGGESTED_MODELS])}{more}"))


def _stored_key(
    runner: asyncio.Runner, container: Container, caller: Caller, provider: Provider, key_env: str | None
) -> str:
    """The nickname under which the key is stored, which tells keys apart; one that was there before it is deleted."""
    source, key = "no key", "not-needed"
    if key_env is not None:
        # The name is not repeated in refusals: somebody may have put the key itself there.
        source, key = key_env, os.environ.get(key_env, "").strip()
        if not key:
            raise InvalidInput.of(FieldError("--key-env", "there is no such environment variable, or it is empty"))
    elif provider.name != EMBEDDED:
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
            if nickname not in stored():  # else another terminal was faster
                raise
    for old in before:
        if old != nickname:
            with contextlib.suppress(ApiKeyNotFound):
                runner.run(container.delete_api_key()(caller, old))
    return nickname


# -- Talking -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Talk:
    """Who talks with which model, called ``model_label`` for people, and where; None before the first question."""

    container: Container
    caller: Caller
    model: str
    nickname: str
    model_label: str
    conversation: int | None = None

    async def ask(self, question: str) -> int:
        """Ask, show the answer as it comes, and say how it ended; the exit status.

        Ctrl-C, and a signal to end, stop the answer and keep its text; a second one does not wait for that.
        """
        question = storable(question)
        if self.conversation is None:
            title = " ".join(_shown(question).split())[:MAX_TITLE_LENGTH]
            begun: Thread = await self.container.create_conversation()(self.caller, title)
            self.conversation = begun.id
            _say(f"conversation {begun.id} (--conversation {begun.id} goes on with it)")
        with _leaving() as leaving:
            answer = await self._send(self.conversation, question, leaving)
            if answer is None:
                return leaving.result()
            stopping = asyncio.create_task(self._stop(self.conversation, leaving))
            try:
                error = await _show(answer, leaving)
            finally:
                stopping.cancel()
        state = answer.outcome.state if answer.outcome else None
        if error is not None:
            _say(f"baio: {error.detail}")
        elif state is AnswerState.STOPPED:
            _say("Stopped; the text so far is kept.")
        elif state is AnswerState.TRUNCATED:
            _say("Truncated: there would have been more to say.")
        if leaving.done():
            return leaving.result()
        return 0 if state is AnswerState.COMPLETE else 1

    async def _send(self, conversation: int, question: str, leaving: asyncio.Future[int]) -> Followable | None:
        """Ask; None when the asker leaves while another answer is in the way.

        That is waited for as long as an answer may take to end whose process was killed.
        """
        loop, told = asyncio.get_running_loop(), False
        give_up_at = loop.time() + LEASE.total_seconds() + 2 * REAP_SECONDS
        while not leaving.done():
            try:
                answer: Followable = await self.container.send_message()(
                    self.caller,
                    conversation_id=conversation,
                    apikey_nickname=self.nickname,
                    content=question,
                    model=self.model,
                )
            except (AnswerRunning, TooManyAnswers) as error:
                if loop.time() > give_up_at:
                    raise
                if not told:
                    _say(f"{error.detail}; waiting")
                told = True
                await asyncio.wait([leaving], timeout=1)
            else:
                return answer
        return None

    async def _stop(self, conversation: int, leaving: asyncio.Future[int]) -> None:
        await asyncio.wait([leaving])
        try:
            await self.container.stop_answer()(self.caller, conversation)
        except AnswerNotFound:
            pass  # it has ended by itself
        except BaioError as error:
            _say(f"baio: {error.detail}")


@contextlib.contextmanager
def _leaving() -> Iterator[asyncio.Future[int]]:
    """While inside, the first signal to end gives the exit status that it asks for; the next has its usual effect."""
    loop = asyncio.get_running_loop()
    leaving: asyncio.Future[int] = loop.create_future()
    # What is ignored stays ignored: nohup, and a shell's jobs in the background.
    usual = {number: signal.getsignal(number) for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN}

    def on_signal(number: int, _: object) -> None:
        signal.signal(number, usual[signal.Signals(number)])
        loop.call_soon_threadsafe(_leave, leaving, 128 + number)

    for number in usual:
        signal.signal(number, on_signal)
    try:
        yield leaving
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def _leave(leaving: asyncio.Future[int], status: int) -> None:
    if not leaving.done():
        leaving.set_result(status)


async def _show(answer: Followable, leaving: asyncio.Future[int]) -> BaioError | None:
    """Write the answer as it comes; returns why it was cut, if it was."""
    error, last = None, "\n"
    try:
        async for text in answer.follow():
            last = _shown(text) or last
            # In a thread: a reader that takes its time must not keep the answer from being stored.
            problem = await asyncio.to_thread(_write, _shown(text))
            if problem is not None:
                _say(f"baio: the answer can't be written: {problem}")
                _leave(leaving, 1)
    except BaioError as cut:
        error = cut
    if not last.endswith("\n"):
        await asyncio.to_thread(_write, "\n")
    return error


def _write(text: str) -> str | None:
    """Write to standard output at once; what is wrong where that can't be done, and then never again."""
    try:
        print(text, end="", flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left to flush at the end, too
        return error.strerror or "no reason given"
    return None


# -- Conversing --------------------------------------------------------------------------------------------------------


def _converse(runner: asyncio.Runner, talk: _Talk) -> int:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401, PLC0415 - gives ``input`` its line editing; even to be imported it needs a terminal
    if talk.conversation is None:
        _list(runner, talk, RECENT)
    _say("/help explains the commands; Ctrl-D leaves.")
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            _say("")
            return 0
        if line == "/quit":
            return 0
        try:
            status = _obey(runner, talk, line)
        except BaioError as error:
            _say(f"baio: {error.detail}")
            continue
        if status not in (0, 1, INTERRUPTED):
            return status


def _obey(runner: asyncio.Runner, talk: _Talk, line: str) -> int:
    """Do what the line says, or ask it; the answer's exit status."""
    match line.split():
        case []:
            pass
        case ["/list"]:
            _list(runner, talk)
        case ["/new"]:
            talk.conversation = None
        case ["/open", wanted]:
            _open(runner, talk, wanted, show=True)
        case [command, *_] if command.startswith("/"):
            _say(HELP)
        case _:
            return runner.run(talk.ask(line))
    return 0


def _list(runner: asyncio.Runner, talk: _Talk, limit: int | None = None) -> None:
    conversations: list[Conversation] = runner.run(talk.container.get_conversations()(talk.caller))
    for each in conversations[:limit]:
        _say(f"{each.id:>6}  {each.created_at.astimezone():%Y-%m-%d %H:%M}  {each.title}")


def _open(runner: asyncio.Runner, talk: _Talk, wanted: str, *, show: bool) -> None:
    """Go on with a conversation of the local user's, or raise ConversationNotFound."""
    if not wanted.isdecimal() or len(wanted) > MAX_ID_DIGITS:
        raise ConversationNotFound
    thread: Thread = runner.run(talk.container.get_conversation()(talk.caller, int(wanted)))
    talk.conversation = thread.id
    for message in thread.messages if show else []:
        if message.role is not Role.SYSTEM:
            print("> " * (message.role is Role.USER) + _shown(message.content))


def _shown(text: str) -> str:
    """The text without control characters other than tab and line feed: a model can't command the terminal."""
    return _CONTROL.sub("", text)


def _say(text: str) -> None:
    """Say something beside the answer."""
    text = _shown(text)
    print(f"\x1b[2m{text}\x1b[0m" if sys.stderr.isatty() else text, file=sys.stderr, flush=True)
