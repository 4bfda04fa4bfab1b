#!/usr/bin/env python3
"""BAiO's one entry: ``python manage.py COMMAND ...`` is the ``baio`` command, with its environment taken care of.

The first use makes ``.venv`` beside this file and installs what the lock names, by hash; later ones start at once.
Inside another environment that has ``baio`` nothing is installed and that one is used. What is said here goes to
stderr: stdout belongs to the command.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import venv
from pathlib import Path
from typing import TextIO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# Annotated so that a Python too old for what follows stops at this line, and quotes it.
NEEDED: str = "BAiO needs Python 3.11, 3.12 or 3.13"


def objection(major: int, minor: int) -> str:
    """Say in one line why this version of Python will not do; nothing if it will."""
    if (3, 11) <= (major, minor) < (3, 14):
        return ""
    return f"{NEEDED}, but this is {major}.{minor}: {sys.executable}"


if __name__ == "__main__" and objection(*sys.version_info[:2]):  # before anything that an old Python cannot run
    sys.exit(objection(*sys.version_info[:2]))

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
RUNTIME = ROOT / "requirements.txt"
TEST = ROOT / "requirements-test.txt"
LOCAL = ROOT / "requirements-local.txt"  # not every machine can have this, and BAiO goes on without it

# Concurrent calls lock this file, and it says what is installed: for which Python and place, then a stamp per lock.
STATE = VENV / "manage.state"
HERE = f"{sys.implementation.cache_tag} {ROOT}"
UNFINISHED = "unfinished"


def program(environment: Path, name: str) -> Path:
    """Say where an environment keeps a program."""
    return environment / "Scripts" / f"{name}.exe" if sys.platform == "win32" else environment / "bin" / name


def say(text: str, end: str = "\n") -> None:
    """Tell the user."""
    print(text, end=end, file=sys.stderr, flush=True)


def stamp(lock: Path) -> str:
    """Sum up what an installation from this lock rests on; the settings of tools are no part of it."""
    sections = re.split(r"(?m)^(?=\[)", (ROOT / "pyproject.toml").read_text("utf-8"))
    packaging = [text for text in sections if text.startswith(("[build-system", "[project", "[tool.hatch"))]
    return hashlib.sha256("\0".join([HERE, *packaging, lock.read_text("utf-8")]).encode()).hexdigest()


def noted() -> list[str]:
    """Read what is known about .venv; nothing if it is new or somebody else's."""
    return STATE.read_text("utf-8").splitlines() if STATE.exists() else []


def ready(lock: Path) -> bool:
    """Tell whether .venv holds what this lock names."""
    return stamp(lock) in noted() and program(VENV, "python").exists() and program(VENV, "baio").exists()


def usable() -> bool:
    """Tell whether .venv has a Python that runs, is of this version, and was not moved here."""
    question = [str(program(VENV, "python")), "-Ic", "import sys; print(sys.implementation.cache_tag)"]
    try:
        answer = subprocess.run(question, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return False
    return answer == sys.implementation.cache_tag and noted()[:1] in ([], [HERE])


def clear() -> None:
    """Empty .venv, except for the note that this is going on."""
    for entry in VENV.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry != STATE:
            entry.unlink()


def take_turn(state: TextIO) -> None:
    """Lock the file, after any other call that installs; however its holder ends, the lock ends with it."""
    waiting = "Another call is installing: waiting for it."
    if sys.platform == "win32":
        state.seek(1 << 20)  # what is locked cannot be read by others, so it is not what the file says
        while True:
            try:
                return msvcrt.locking(state.fileno(), msvcrt.LK_LOCK, 1)  # gives up after ten seconds
            except OSError:
                say(waiting)
    else:
        try:
            fcntl.flock(state, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(waiting)
            fcntl.flock(state, fcntl.LOCK_EX)


def run(state: TextIO, *module: str, total: int = 0) -> None:
    """Run a module with .venv's Python: steps of the total are shown in one line, complaints as they come."""
    # -I: what PYTHONPATH offers is not installed. -u: the line is to move with the work.
    command = [str(program(VENV, "python")), "-I", "-u", "-m", *module]
    # It holds the lock, too: if only this process is killed, the next call still waits for that one.
    shared = () if sys.platform == "win32" else (state.fileno(),)
    terminal, width, count = sys.stderr.isatty(), shutil.get_terminal_size().columns - 1, 0
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8", errors="replace", pass_fds=shared
    ) as process:
        for line in process.stdout or ():
            if line.startswith("Ignoring "):  # for other platforms
                total -= 1
            step = line.startswith(("Collecting ", "Processing ", "Requirement already satisfied: "))
            count += step
            text = f"  [{count}/{total}] {re.split(' [(]from| in ', line.strip())[0]}"[:width]
            if terminal and total:
                say(text.ljust(width), "\r")
            elif total and step and (count % 20 == 0 or count == total):
                say(text)
    if process.returncode:
        hint = "apt install python3-venv, on Debian" if module[0] == "ensurepip" else "is the network there?"
        sys.exit(f"{module[0]} failed and says why above ({hint}); the next call starts over.")


def install(lock: Path) -> None:
    """Make .venv hold what the lock names, and the project itself, from whatever is there."""
    VENV.mkdir(exist_ok=True)
    with STATE.open("a") as state:
        take_turn(state)
        if ready(lock):
            return
        known, kept = noted(), usable()
        done = [HERE, *map(stamp, [RUNTIME, TEST] if lock == TEST else [RUNTIME])]  # TEST holds all of RUNTIME
        STATE.write_text(UNFINISHED, "utf-8")
        task = "Bringing .venv up to date with" if known and kept else "Making .venv from"
        say(f"{task} {lock.name}; this may take a minute.")
        if not kept:
            clear()
        if not (known and kept):
            venv.create(VENV, symlinks=sys.platform != "win32")
            run(state, "ensurepip", "--upgrade", "--default-pip")
        pip = ("pip", "--no-input", "--disable-pip-version-check", "install", "--progress-bar=off", "--no-deps")
        total = len(re.findall(r"(?m)^\w.*==", lock.read_text("utf-8")))
        run(state, *pip, "--require-hashes", "--requirement", str(lock), total=total)
        # --no-index: the build backend, too, has come from the lock.
        run(state, *pip, "--no-build-isolation", "--no-index", "--editable", ".")
        say("Done.".ljust((shutil.get_terminal_size().columns - 1) * sys.stderr.isatty()))
        STATE.write_text("\n".join(done), "utf-8")


def add_local_model() -> None:
    """Install what the embedded model's server needs, as built; where there is none for this machine, say so once."""
    with STATE.open("a") as state:
        take_turn(state)
        if stamp(LOCAL) in noted():
            return
        say(f"Adding the embedded model's server from {LOCAL.name} (BAIO_LOCAL_MODEL=off leaves it out).")
        pip = [str(program(VENV, "python")), "-I", "-m", "pip", "--no-input", "--disable-pip-version-check", "install"]
        pip += ["--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement", str(LOCAL)]
        if subprocess.run(pip, cwd=ROOT, stdout=sys.stderr, check=False).returncode:
            say("Going on without the embedded model: pip says above why this machine can't have its server.")
        STATE.write_text("\n".join([*noted(), stamp(LOCAL)]), "utf-8")


def wants_local_model(arguments: list[str]) -> bool:
    """Tell whether this command may ask the embedded model."""
    off = "--no-local-model" in arguments or os.environ.get("BAIO_LOCAL_MODEL") == "off"
    return arguments[0] in ("runserver", "chat") and not off


def main() -> None:
    """Find or make the environment, and hand over to its ``baio``."""
    arguments = sys.argv[1:] or ["--help"]
    environment = Path(sys.prefix)
    ours = environment.resolve() == VENV and STATE.exists()
    if sys.prefix == sys.base_prefix or ours or not program(environment, "baio").exists():
        environment = VENV
        lock = TEST if arguments[0] in ("check", "test") else RUNTIME
        if not ready(lock):
            install(lock)
        if LOCAL.exists() and wants_local_model(arguments) and stamp(LOCAL) not in noted():
            add_local_model()
    command = [str(program(environment, "baio")), *arguments]
    if sys.platform == "win32":
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which decides how to end
        sys.exit(subprocess.call(command))
    os.execv(command[0], command)  # noqa: S606 - exactly: no shell


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("\nInterrupted; the next call starts over.")
        sys.exit(130)
