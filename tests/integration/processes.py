"""The ``baio`` command as a process of its own, without the second that its imports take.

The processes are forked from one that has imported everything and done nothing else. Where a start itself is what is
tested, ``subprocess`` does it, as a shell would.
"""

import contextlib
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.integration.preloaded"])


class Process:
    """A running command: as much of ``subprocess.Popen`` as tests need."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        stdin: str = os.devnull,
        stdout: str,
        stderr: str | None = None,
        descriptors: tuple[int, int] | None = None,
    ) -> None:
        """Start it. Its streams are files by name; without a name of its own, standard error goes where output goes.

        ``descriptors`` are the soft and the hard limit of open ones.
        """
        self._process = _forks.Process(
            target=_run, args=([*arguments], {**env}, str(cwd), stdin, stdout, stderr, descriptors), daemon=False
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """The exit status, minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, and return the exit status."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("baio", timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()


def run(
    arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None, typed: str = "", timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stdin, stdout, stderr = (folder / each for each in ("stdin", "stdout", "stderr"))
        stdin.write_text(typed, "utf-8")
        process = Process(
            arguments, env=env, cwd=cwd or folder, stdin=str(stdin), stdout=str(stdout), stderr=str(stderr)
        )
        try:
            status = process.wait(timeout)
        finally:
            process.kill()
        with stdout.open(encoding="utf-8", newline="") as out, stderr.open(encoding="utf-8", newline="") as err:
            return subprocess.CompletedProcess(["baio", *arguments], status, out.read(), err.read())


def _run(
    arguments: list[str],
    env: dict[str, str],
    cwd: str,
    stdin: str,
    stdout: str,
    stderr: str | None,
    descriptors: tuple[int, int] | None,
) -> None:
    """Become the command."""
    os.setsid()
    if descriptors is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, descriptors)
    os.umask(0o022)  # the usual one of a shell, whatever this machine's is
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for ignored in (signal.SIGHUP, signal.SIGTERM):  # where the tests run under nohup
        signal.signal(ignored, signal.SIG_DFL)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None  # not where the process that was forked has its temporary files
    multiprocessing.current_process()._config.pop("tempdir", None)  # type: ignore[attr-defined]
    write = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for stream, name, flags in ((0, stdin, os.O_RDONLY), (1, stdout, write), (2, stderr, write)):
        descriptor = 1 if name is None else os.open(name, flags, 0o600)
        os.dup2(descriptor, stream)
        if descriptor > 2:
            os.close(descriptor)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = ["baio", *arguments]
    from baio_api.cli import main

    sys.exit(main(arguments))
