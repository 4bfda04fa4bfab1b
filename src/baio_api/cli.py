"""The command line. Each command imports what it needs when it runs, so that ``baio --help`` answers at once."""

import argparse
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from datetime import date
    from typing import Any

    from baio_api.settings import Settings
    from baio_domain.entities import AuditEntry, Origin
    from baio_domain.prices import PricedUsage

CHECKOUT = Path(__file__).parents[2]
PYTHON = (sys.executable, "-m")


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    _open_closed_streams()
    parser = _parser()
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help()
        return 0
    from baio_api.secret_file import SecretFileError
    from baio_api.settings import SettingsError
    from baio_domain.errors import BaioError, Unavailable

    try:
        status: int = args.run(args)
    except (SettingsError, SecretFileError, BaioError) as error:
        said = ""
        if isinstance(error, Unavailable):
            from baio_adapters.sql.trouble import servers_words

            said = servers_words(error)
        print(f"baio: {error}", *([f"({said})"] if said else []), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return status


def _open_closed_streams() -> None:
    """Give standard streams that are closed, as some daemons start programs, to nobody.

    The next file or socket that is opened would have the number of such a stream, and get what is written to it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(descriptor, True)  # noqa: FBT003 - for workers
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="baio",
        description="The backend of a chat service for researchers in biology and genomics.",
        epilog="Settings come from the environment (BAIO_*); docs/operations.md lists them.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    def command(name: str, summary: str, run: object) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=summary, description=summary)
        made.set_defaults(run=run)
        return made

    serve = command("runserver", "start the server", _runserver)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=_port, default=8000, help="port to listen on, 0 for a free one (default: 8000)")
    serve.add_argument("--workers", type=_workers, default=1, help="worker processes (default: 1)")
    serve.add_argument("--no-local-model", action="store_true", help="run without the embedded model")
    talk = command("chat", "ask a model in this terminal, without a server", _chat)
    talk.add_argument(
        "question",
        nargs="?",
        help="the question; without it, start a conversation, or read the question from standard input",
    )
    talk.add_argument("--model", metavar="NAME", help="a model's identifier or name (default: the embedded model)")
    talk.add_argument(
        "--key-env",
        metavar="NAME",
        help="environment variable with the key for the model's provider; the key is stored encrypted,"
        " and replaces an earlier one (required, except for the embedded model)",
    )
    talk.add_argument("--conversation", metavar="ID", help="continue this conversation")
    add = command(
        "addsequences", "store the sequences of a file for `baio chat`, and print their handles", _add_sequences
    )
    add.add_argument("file", type=Path, metavar="FILE", help="FASTA, GenBank, EMBL, FASTQ or bare letters")
    add.add_argument("--conversation", metavar="ID", help="a conversation that can use their names")
    command("check", "run the quick checks: style, format, types, architecture and the unit tests", _quick_check)
    test = command("test", "run every check of the project: all tests, style, format, types and architecture", _test)
    test.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments for pytest; with any, only pytest runs")
    flush = command("flush", "delete all accounts, keys and conversations; their ids are not used again", _flush)
    flush.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    revise = command("makemigrations", "write a migration for changed tables (developers)", _makemigrations)
    revise.add_argument("-m", "--message", default="change tables", help="what the migration does")
    command("migrate", "upgrade the database schema to this version", _migrate)
    doctor = command(
        "doctor",
        "check this installation and print one line for each check; exit status 1 if anything is wrong",
        _doctor,
    )
    doctor.add_argument(
        "--online",
        nargs="*",
        metavar="PROVIDER",
        help="also check that these providers answer (default: all of them); this is free of charge",
    )
    backup = command("backup", "write a snapshot of the embedded database to a new file, while servers run", _backup)
    backup.add_argument("file", type=Path, metavar="FILE", help="the new file; it appears complete or not at all")
    backup.add_argument(
        "--with-secret",
        action="store_true",
        help="include the secret, without which stored API keys can't be decrypted",
    )
    restore = command("restore", "replace the embedded database with a backup; everybody signs in again", _restore)
    restore.add_argument("file", type=Path, metavar="FILE", help="a file that `baio backup` wrote")
    copy = command("copy", "copy everything from the embedded database to an empty one on PostgreSQL", _copy)
    copy.add_argument("--to", required=True, metavar="URL", help="postgresql://user:password@host/database")
    rotate = command("rotate_keys", "re-encrypt stored secrets under a new master key", _rotate_keys)
    rotate.add_argument(
        "--forget-old",
        action="store_true",
        help="then drop the old embedded secrets; tokens signed with them are no longer valid",
    )
    _add_account_commands(command)
    _add_commands_of_models_and_tools(command)
    return parser


def _add_account_commands(command: Callable[[str, str, object], argparse.ArgumentParser]) -> None:
    """Add the commands about accounts."""
    create = command("createuser", "create an account; prompts for the password", _create_user)
    create.add_argument("username", help="the name to sign in with")
    for option, meaning in (
        ("--email", "the email address"),
        ("--first-name", "the first name"),
        ("--last-name", "the last name"),
    ):
        create.add_argument(option, required=True, metavar="TEXT", help=f"{meaning} (required)")
    invite = command("invite", "print a code for one registration within seven days", _invite)
    invite.add_argument("--email", metavar="ADDRESS", help="only an account with this email address")
    _add_import_arguments(command("import", "import conversations from an export of BAiO, ChatGPT or Claude", _import))
    command("listusers", "list all accounts", _list_users)
    for name, summary, run in (
        ("disableuser", "disable an account at once; nothing is deleted", _disable_user),
        ("enableuser", "enable a disabled account", _enable_user),
        ("grantadmin", "let an account with two-factor authentication administer the others over HTTP", _grant_admin),
        ("revokeadmin", "take that away from an account, from its next request on", _revoke_admin),
        ("resettwofactor", "disable the two-factor authentication of a user who has lost it", _reset_two_factor),
    ):
        command(name, summary, run).add_argument("username", help="the account's username")
    reset = command("resetpassword", "set a new password for an account; prompts for it", _reset_password)
    reset.add_argument("username", help="the account's username")
    reset.add_argument(
        "--link",
        nargs="?",
        const="http://localhost:8000",
        metavar="URL",
        help="print a link instead, where the user sets the password once, within an hour"
        " (URL: where users reach the server, default: %(const)s)",
    )
    audit = command("audit", "show the audit log: what was done to accounts, by whom and from where", _audit)
    audit.add_argument("--user", metavar="USERNAME", help="only entries about this account")
    audit.add_argument("--last", type=_count, metavar="N", help="only the last N entries")
    _add_options_of_usage(
        command(
            "usage", "show what the answers of all accounts cost, by account, day (UTC), provider and model", _usage
        )
    )


def _add_commands_of_models_and_tools(command: Callable[[str, str, object], argparse.ArgumentParser]) -> None:
    """Add the commands about models, and about what tools have computed."""
    load = command("load_llm_data", "load the providers and models into the database", _load_llm_data)
    load.add_argument("--sync", action="store_true", help="also ask the providers for their current models")
    load.add_argument(
        "--key-env",
        action="append",
        default=[],
        metavar="PROVIDER=NAME",
        type=_key_of_provider,
        help="with --sync: an environment variable with a key for this provider; the key is not stored",
    )
    verify = command(
        "verify", "recompute the tool calls of an exported conversation; exit status 1 if anything differs", _verify
    )
    verify.add_argument("file", type=Path, metavar="FILE", help="an export as json or eln")
    bench = command(
        "benchmark-model",
        "ask a model questions about sequences with and without tools, and count hits",
        _benchmark_model,
    )
    bench.add_argument(
        "--model", required=True, metavar="NAME", help="a model's identifier or name, or PROVIDER/IDENTIFIER (required)"
    )
    bench.add_argument("--key-env", metavar="NAME", help="environment variable with the key for the model's provider")
    bench.add_argument("--questions", type=_count, metavar="N", help="only the first N of the questions")
    bench.add_argument("--yes", action="store_true", help="do not ask for confirmation")


def _add_options_of_usage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--user", metavar="USERNAME", help="only this account")
    parser.add_argument(
        "--from", dest="first", type=_day, metavar="DAY", help="the first day (default: 30 days in all)"
    )
    parser.add_argument("--to", dest="last", type=_day, metavar="DAY", help="the last day, included (default: today)")
    parser.add_argument("--csv", action="store_true", help="write comma-separated values, for a spreadsheet")


def _day(text: str) -> "date":
    from datetime import date

    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: write a day such as 2026-01-31") from None


def _add_import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="the JSON file, or the zip archive that it came in")
    parser.add_argument("--user", required=True, metavar="NAME", help="the account to import them for (required)")


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError("not between 0 and 65535")
    return port


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return count


def _workers(text: str) -> int:
    workers = int(text)
    if not 1 <= workers <= 128:
        raise argparse.ArgumentTypeError("not between 1 and 128")
    return workers


def _runserver(args: argparse.Namespace) -> int:
    from baio_api.container import Container
    from baio_api.server import serve

    if args.no_local_model:
        os.environ["BAIO_LOCAL_MODEL"] = "off"  # for the workers, too
    settings = _settings()
    container = Container(settings=settings)  # for its errors: reported here once, and not by each worker
    if settings.providers or settings.providers_file:
        container.gateways()
        container.prices()
    container.identity_providers()
    if settings.embedded:
        settings.ensure_secret()
        _set_up_local_model(settings)
        _bring_up_to_date(settings)
    return serve(settings, args.host, args.port, args.workers)


def _set_up_local_model(settings: "Settings") -> None:
    """Fetch the embedded model's weights if they are wanted and missing; where that fails, say why and go on."""
    from importlib.util import find_spec

    from baio_adapters.llm.weights import DownloadError, fetch

    if settings.local_model or settings.local_model_file:
        return
    without = "baio: going on without the embedded model"
    if find_spec("xllamacpp") is None:
        print(f"{without}: its server is not installed (pip install 'baio[local]')", file=sys.stderr)
        return
    print("Fetching the embedded model, 100 MB, once (BAIO_LOCAL_MODEL=off leaves it out).", file=sys.stderr)
    try:
        fetch(settings.models_path)
    except DownloadError as why:
        print(f"{without}: {why}", file=sys.stderr)


def _chat(args: argparse.Namespace) -> int:
    from baio_api.terminal import chat

    settings = _settings()
    if args.model is None:
        _set_up_local_model(settings)
    if settings.embedded:
        _bring_up_to_date(settings)
    return chat(
        settings, question=args.question, model=args.model, key_env=args.key_env, conversation=args.conversation
    )


def _add_sequences(args: argparse.Namespace) -> int:
    from baio_api.terminal import add_sequences

    settings = _settings()
    if settings.embedded:
        _bring_up_to_date(settings)
    return add_sequences(settings, args.file, conversation=args.conversation)


def _bring_up_to_date(settings: "Settings") -> None:
    """Migrate the embedded database and load its catalogue."""
    from baio_adapters.sql import migrations
    from baio_adapters.sql.database import engine_for
    from baio_adapters.sql.trouble import reported

    engine = engine_for(settings.database)
    with reported(), engine.begin() as connection:
        outdated = migrations.problem(connection) is not None
    engine.dispose()
    if outdated:
        migrations.upgrade(settings.database)
    _load_catalogue(settings)


def _test(args: argparse.Namespace) -> int:
    if args.arguments:
        print("baio: these tests only; style, format, types and architecture are not checked", file=sys.stderr)
        return _pytest(*args.arguments)
    # Many tests wait more than they compute; and what each process starts for its tests takes memory.
    processes = str(min(3 * (os.cpu_count() or 1), 8))
    return _check("--numprocesses", processes)


def _quick_check(_: argparse.Namespace) -> int:
    return _check("tests/unit")


def _check(*tests: str) -> int:
    """Run pytest with these arguments, and beside it every check that runs nothing."""
    from concurrent.futures import ThreadPoolExecutor

    if not (CHECKOUT / "tests").is_dir():
        print("baio: the tests are in the source checkout; run `python manage.py test` there", file=sys.stderr)
        return 2
    checks = {
        "style": [*PYTHON, "ruff", "check", "--quiet", "."],
        "format": [*PYTHON, "ruff", "format", "--check", "--quiet", "."],
        "types": [*PYTHON, "mypy"],
        "architecture": [str(Path(sys.executable).with_name("lint-imports"))],
    }

    def passes(name: str) -> bool:
        done = subprocess.run(  # noqa: S603 - our own commands
            checks[name], cwd=CHECKOUT, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        passed = done.returncode == 0
        print(f"\n== {name}: passed" if passed else f"\n== {name}: FAILED\n{done.stdout}", flush=True)
        return passed

    with ThreadPoolExecutor(len(checks)) as threads:
        passed = threads.map(passes, checks)
        status = _pytest(*tests)
        failed = [name for name, good in zip(checks, passed, strict=True) if not good]
    if failed:
        print(f"baio: also failed, besides the tests: {', '.join(failed)}", file=sys.stderr)
    return status or bool(failed)


def _pytest(*arguments: str) -> int:
    # Tests start hundreds of processes. Without bytecode, each would compile everything anew.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run([*PYTHON, "pytest", *arguments], cwd=CHECKOUT, env=environment, check=False).returncode  # noqa: S603


def _flush(args: argparse.Namespace) -> int:
    settings = _settings()
    where = _shown(settings.database)
    if not args.yes:
        try:
            answer = input(f"Delete every account, key and conversation in {where}? Type yes: ")
        except EOFError:
            answer = ""
        if answer.strip() != "yes":
            print("Nothing was deleted.")
            return 1
    rows = _with_use_case("delete_all_data", lambda delete: delete(_operator()), settings)
    print(f"Deleted {rows} rows from {where}.")
    return 0


def _makemigrations(args: argparse.Namespace) -> int:
    import tempfile

    from baio_adapters.sql import migrations

    if not (CHECKOUT / "alembic").is_dir():
        print("baio: migrations are written in the source checkout", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        # Compared with what the migrations create, not with any existing database.
        url = f"sqlite:///{Path(folder) / 'empty.sqlite3'}"
        migrations.upgrade(url)
        written = migrations.revise(url, args.message)
    for path in written:
        print(f"Wrote {path.relative_to(CHECKOUT)}; read it before you keep it.")
    if not written:
        print("The tables have not changed.")
    return 0


def _migrate(_: argparse.Namespace) -> int:
    from baio_adapters.sql import migrations

    settings = _settings()
    migrations.upgrade(settings.database)
    print(f"{_shown(settings.database)} has schema {migrations.head()}, the newest.")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    import asyncio

    from baio_api.doctor import findings
    from baio_api.settings import Settings

    async def report() -> int:
        wrong = 0
        async for each in findings(Settings.from_environment(), online=args.online):
            print(f"{'ok   ' if each.good else 'WRONG'}  {each.name:<16}  {_one_line(each.found)}", flush=True)
            wrong += not each.good
        return wrong

    if wrong := asyncio.run(report()):
        print(f"{wrong} of these {'is' if wrong == 1 else 'are'} wrong.")
    return int(bool(wrong))


def _verify(args: argparse.Namespace) -> int:
    import asyncio
    from collections import Counter
    from contextlib import aclosing

    from baio_adapters.biology.toolbox import WorkerToolbox
    from baio_api.verification import ExportError, Finding, Verdict, read_export, verified_calls

    found: Counter[Verdict] = Counter()

    def show(finding: Finding) -> None:
        found[finding.verdict] += 1
        print(_one_line(f"{finding.verdict:<9}  {finding.subject}  {'; '.join(finding.remarks)}".rstrip()), flush=True)

    async def verify() -> None:
        for finding in export.files:
            show(finding)
        async with aclosing(WorkerToolbox()) as toolbox:
            async for finding in verified_calls(export.document, toolbox):
                show(finding)

    try:
        export = read_export(args.file)
    except ExportError as why:
        print(f"baio: {args.file}: {why}", file=sys.stderr)
        return 2
    asyncio.run(verify())
    print(", ".join(f"{found[each]} {each}" for each in Verdict))
    return int(bool(found[Verdict.DIFFERENT] or found[Verdict.MISSING]))


def _benchmark_model(args: argparse.Namespace) -> int:
    import asyncio
    import secrets

    from msgspec.structs import replace

    from baio_api.container import in_memory
    from baio_api.logs import configure_logging
    from baio_api.model_benchmark import run_benchmark
    from baio_api.settings import Settings, SettingsError

    key = os.environ.get(args.key_env, "").strip() if args.key_env else "not-needed"
    if not key:
        raise SettingsError("--key-env: this environment variable is not set, or is empty")
    configure_logging("ERROR")  # progress goes to standard error

    def agreed(costs: str) -> bool:
        print(costs, file=sys.stderr)
        if args.yes:
            return True
        try:
            print("Continue? Type yes: ", end="", file=sys.stderr, flush=True)
            return input().strip() == "yes"
        except EOFError:
            return False

    def progress(text: str) -> None:
        print(_one_line(text), file=sys.stderr)

    container = in_memory(replace(Settings.from_environment(), secret_key=secrets.token_hex(32)))
    table = asyncio.run(run_benchmark(container, args.model, key, args.questions, agreed, progress))
    print(table or "Nothing was asked.")
    return 0 if table else 1


def _backup(args: argparse.Namespace) -> int:
    from baio_adapters.sql.backup import back_up

    settings = _settings()
    secrets = [secret.decode() for secret in settings.secrets()] if args.with_secret else []
    with _backup_progress() as progress:
        size = back_up(_embedded_database(settings), args.file, secrets, progress)
    print(f"Wrote {args.file}, {size:,} bytes, {'with' if secrets else 'without'} the secret.")
    return 0


def _restore(args: argparse.Namespace) -> int:
    from baio_adapters.sql.backup import restore

    settings = _settings()
    with _backup_progress() as progress:
        restored = restore(args.file, _embedded_database(settings), progress)
    print(f"Restored {args.file}. All sessions and API tokens have ended: everybody signs in again.")
    if restored.before:
        print(f"The previous database is in {restored.before}.")
    known = _known_secrets(settings)
    if restored.secrets and not settings.secret_key:
        settings.secret_file.replace([*restored.secrets, *(each for each in known if each not in restored.secrets)])
    elif not restored.secrets and not known:
        print("baio: the backup does not include its secret: stored API keys can't be decrypted", file=sys.stderr)
    elif restored.secrets and not set(restored.secrets) & set(known):
        print(
            "baio: BAIO_SECRET_KEY is not the secret of this backup: add its secret to BAIO_PREVIOUS_SECRET_KEYS",
            file=sys.stderr,
        )
    return 0


def _copy(args: argparse.Namespace) -> int:
    from baio_adapters.sql.backup import copy_to
    from baio_api.settings import SettingsError

    settings = _settings()
    _embedded_database(settings)
    if not args.to.startswith(("postgresql://", "postgresql+psycopg://")):
        raise SettingsError("--to must begin with postgresql://")
    with _backup_progress() as progress:
        rows = copy_to(settings.database, args.to, progress)
    print("\n".join(f"{name:<20}{count:>10}" for name, count in rows.items()))
    print(f"Copied and compared {sum(rows.values())} rows. Set BAIO_DATABASE_URL to the new database, and", end=" ")
    print(
        "BAIO_SECRET_KEY to the secret that this one has."
        if settings.secret_key
        else f"BAIO_SECRET_KEY to the first line of {settings.secret_file.path}."
    )
    return 0


def _known_secrets(settings: "Settings") -> list[str]:
    """The secrets of this installation; none if it has no secret file yet, or a damaged one."""
    from baio_domain.errors import Unavailable

    try:
        return [secret.decode() for secret in settings.secrets()]
    except Unavailable:
        return []


def _embedded_database(settings: "Settings") -> Path:
    from baio_api.settings import SettingsError

    if settings.database_file is None:
        raise SettingsError("this is for the embedded database; use pg_dump and pg_restore with PostgreSQL")
    return settings.database_file


@contextmanager
def _backup_progress() -> "Iterator[Callable[[str, int, int], None]]":
    """Shows a bar on a terminal, and nothing elsewhere. Inside, a BackupError becomes a SettingsError."""
    from baio_adapters.sql.backup import BackupError
    from baio_api.settings import SettingsError

    visible = sys.stderr.isatty()

    def show(task: str, done: int, total: int) -> None:
        if visible:
            filled = 30 * done // max(total, 1)
            print(f"\r{task:<10} [{'#' * filled:<30}] {100 * done // max(total, 1):>3} %", end="", file=sys.stderr)

    try:
        yield show
    except BackupError as error:
        raise SettingsError(str(error)) from None
    finally:
        if visible:
            print(file=sys.stderr)


def _rotate_keys(args: argparse.Namespace) -> int:
    from datetime import UTC, datetime, timedelta

    from baio_api.settings import SettingsError

    settings = _settings()
    settings.ensure_secret()
    in_a_file = not settings.secret_key
    if args.forget_old and not in_a_file:
        raise SettingsError(
            "--forget-old is for the secret file: remove BAIO_PREVIOUS_SECRET_KEYS instead, and restart"
        )
    if not in_a_file and len(settings.secrets()) == 1:
        raise SettingsError(
            "set BAIO_SECRET_KEY to the new secret and BAIO_PREVIOUS_SECRET_KEYS to the old one, restart the servers,"
            " and run this again"
        )
    if in_a_file and len(settings.secrets()) == 1 and not args.forget_old:
        settings.secret_file.add()
        print(f"Made a new secret in {settings.secret_file.path}; running servers notice it.")
    rotated = _with_use_case("rotate_keys", lambda rotate: rotate(_operator()), settings)
    print(f"Re-encrypted {rotated.renewed} keys; {rotated.current} were already under the newest secret.")
    if rotated.unreadable:
        print(
            f"{rotated.unreadable} keys can't be decrypted with any of the secrets; their owners must add them again."
        )
    if args.forget_old:
        print(f"Dropped {settings.secret_file.forget_old()} old secrets. Tokens signed with them are no longer valid.")
        return 0
    until = datetime.now(UTC) + timedelta(seconds=max(settings.refresh_token_seconds, 86_400))
    old = f"the old lines of {settings.secret_file.path}" if in_a_file else "BAIO_PREVIOUS_SECRET_KEYS"
    print(
        f"No stored key needs {old} any more. Tokens signed with the old secret expire by {until:%Y-%m-%d %H:%M} UTC;"
        f" after that you can remove it"
        f"{' (baio rotate_keys --forget-old)' if in_a_file else ''}."
    )
    return 0


def _load_llm_data(args: argparse.Namespace) -> int:
    keys = dict(args.key_env) if args.sync else None
    changes = _load_catalogue(_settings(), keys)
    print("\n".join(changes) or "The catalogue is up to date.")
    return 0


def _key_of_provider(text: str) -> tuple[str, str]:
    provider, equals, name = text.rpartition("=")
    if not (provider and equals and os.environ.get(name)):
        raise argparse.ArgumentTypeError(f"{text}: write PROVIDER=NAME, with a variable NAME that is set")
    return provider, os.environ[name]


def _create_user(args: argparse.Namespace) -> int:
    from baio_domain.entities import Profile

    password, profile = _read_password(), Profile(args.first_name, args.last_name)
    return _administer(
        "create_user",
        lambda create: create(
            username=args.username, email=args.email, password=password, profile=profile, origin=_operator()
        ),
        "Created the account {}.",
    )


def _invite(args: argparse.Namespace) -> int:
    print(_with_use_case("invite", lambda invite: invite(args.email, _operator())).code)
    print("The code works once, within seven days: send it as `invitation` when registering.", file=sys.stderr)
    return 0


def _import(args: argparse.Namespace) -> int:
    from baio_api.settings import SettingsError

    async def report(import_for_user: "Any") -> "Counter[str]":  # noqa: ANN401 - the use case
        counted: Counter[str] = Counter()
        async for each in import_for_user(args.user, file, _operator()):
            counted[each.outcome.value] += 1
            columns = (f"{each.outcome.value:<8}", f"{each.messages:>5} messages", each.title or "-", each.reason)
            print("  ".join(map(_one_line, columns)).rstrip(), flush=True)
        return counted

    try:
        file = args.file.open("rb")
    except OSError as error:
        raise SettingsError(f"can't read {args.file}: {error.strerror or error}") from None
    with file:
        counted = _with_use_case("import_for_user", report)
    print(f"{counted['imported']} imported, {counted['present']} already there, {counted['skipped']} skipped.")
    return 0


def _list_users(_: argparse.Namespace) -> int:
    async def show(list_users: "Any") -> None:  # noqa: ANN401 - the use case
        after: int | None = 0
        while after is not None:
            page = await list_users(_operator(), after=after)
            for each in page.accounts:
                user = each.user
                state = f"disabled {user.disabled_at:%Y-%m-%d}" if user.disabled_at else "enabled"
                mark = "  administrator" if user.administrator else ""
                line = f"{user.id:>6}  {user.created_at:%Y-%m-%d}  {state:<19}  {user.username}  <{user.email}>{mark}"
                print(_one_line(line))
            after = page.next

    _with_use_case("list_users", show)
    return 0


def _disable_user(args: argparse.Namespace) -> int:
    done = _with_use_case("disable_user", lambda disable: disable(args.username, _operator()))
    print(f"Disabled {done.user.username}.")
    return 0


def _enable_user(args: argparse.Namespace) -> int:
    done = _with_use_case("enable_user", lambda enable: enable(args.username, _operator()))
    print(f"Enabled {done.user.username}.")
    return 0


def _grant_admin(args: argparse.Namespace) -> int:
    done = _with_use_case("grant_admin", lambda grant: grant(args.username, _operator()))
    print(f"{done.user.username} is an administrator.")
    if not done.two_factor:
        print("baio: it works once two-factor authentication is enabled and the user signs in again", file=sys.stderr)
    return 0


def _revoke_admin(args: argparse.Namespace) -> int:
    done = _with_use_case("revoke_admin", lambda revoke: revoke(args.username, _operator()))
    print(f"{done.user.username} is not an administrator.")
    return 0


def _reset_password(args: argparse.Namespace) -> int:
    if args.link is None:
        password = _read_password()
        return _administer(
            "reset_password", lambda reset: reset(args.username, password, _operator()), "{} has a new password."
        )
    secret = _with_use_case("offer_password_reset", lambda offer: offer(args.username, _operator()))
    print(f"{args.link.rstrip('/')}/resetPassword#{secret}")
    print("The link works once, within an hour. Give it only to the account's owner.", file=sys.stderr)
    return 0


def _reset_two_factor(args: argparse.Namespace) -> int:
    return _administer(
        "reset_two_factor",
        lambda reset: reset(args.username, _operator()),
        "{} now signs in with only the password.",
    )


def _audit(args: argparse.Namespace) -> int:
    from collections import deque

    def show(entry: "AuditEntry") -> None:
        who = entry.username or "-"
        by = f"administrator {entry.operator} {entry.address}".rstrip() if entry.operator else entry.address or "-"
        columns = (f"{entry.at:%Y-%m-%dT%H:%M:%S.%fZ}", entry.act, who, by, entry.request_id or "-", entry.note)
        print("  ".join(map(_one_line, columns)).rstrip())

    async def read(read_audit: "Any") -> None:  # noqa: ANN401 - the use case
        newest: deque[AuditEntry] = deque(maxlen=args.last or None)
        async for page in read_audit(_operator(), username=args.user):
            if args.last:
                newest.extend(page)
                continue
            for entry in page:
                show(entry)
        for entry in newest:
            show(entry)

    _with_use_case("read_audit", read)
    return 0


def _usage(args: argparse.Namespace) -> int:
    from baio_api.usage_report import as_csv, as_text

    async def read(report: "Any") -> "list[tuple[str, PricedUsage]]":  # noqa: ANN401 - the use case
        pages = report(_operator(), args.first, args.last, username=args.user)
        return [row async for page in pages for row in page]

    rows = _with_use_case("report_usage", read)
    if args.csv:
        as_csv(rows, sys.stdout)
    else:
        for line in as_text(rows):
            print(_one_line(line))
    return 0


def _one_line(text: str) -> str:
    """The text with line breaks and control characters escaped: it can neither break the line nor drive a terminal."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def _operator() -> "Origin":
    """The origin of what this command does: the account of the operating system."""
    from getpass import getuser

    from baio_domain.entities import Origin

    try:
        return Origin(operator=getuser())
    except (KeyError, OSError):  # a user without a name, as in some containers
        return Origin(operator=f"uid {os.getuid()}")


def _administer(use_case: str, work: "Callable[[Any], Awaitable[Any]]", said: str) -> int:
    print(said.format(_with_use_case(use_case, work).username))
    return 0


def _with_use_case(name: str, work: "Callable[[Any], Awaitable[Any]]", settings: "Settings | None" = None) -> "Any":  # noqa: ANN401 - what it returns
    import asyncio

    from baio_api.container import Container

    settings = settings or _settings()
    settings.ensure_secret()
    container = Container(settings=settings)

    async def run() -> object:
        await container.database().check()
        return await work(getattr(container, name)())

    try:
        return asyncio.run(run())
    finally:
        container.database().close()


def _read_password() -> str:
    """A password typed twice on a terminal, or a line of standard input; never an argument, which others can read."""
    from getpass import getpass

    from baio_api.settings import SettingsError

    if not sys.stdin.isatty():
        return sys.stdin.readline().removesuffix("\n")
    password = getpass("Password: ")
    if getpass("Again: ") != password:
        raise SettingsError("the two passwords differ")
    return password


def _settings() -> "Settings":
    from baio_api.private_files import keep_private
    from baio_api.settings import Settings, SettingsError

    settings = Settings.from_environment()
    remarks = keep_private(settings)
    if settings.embedded:
        try:
            settings.data_path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"can't create the folder {settings.data_path}: {error.strerror or error}") from None
    for remark in remarks:
        print(f"baio: {remark}", file=sys.stderr)
    return settings


def _load_catalogue(settings: "Settings", keys: "dict[str, str] | None" = None) -> list[str]:
    """Load the catalogue and return a line per change; with ``keys`` by provider's name, ask the providers first."""
    import asyncio

    from baio_api.container import Container

    container = Container(settings=settings)

    async def load() -> list[str]:
        gateways = container.gateways()
        await container.database().check()
        remarks: list[str] = []
        specs = [gateway.provider for gateway in gateways.values()]
        if keys is not None:
            try:
                listed = await container.list_models()(keys)
                specs, remarks = listed.specs, listed.remarks
            finally:
                for gateway in gateways.values():
                    await gateway.aclose()
        changes: list[str] = await container.load_catalogue()(specs)
        return [*remarks, *changes]

    try:
        return asyncio.run(load())
    finally:
        container.database().close()


def _shown(url: str) -> str:
    """The URL without its password."""
    from sqlalchemy import make_url

    return make_url(url).render_as_string(hide_password=True)


if __name__ == "__main__":
    sys.exit(main())
