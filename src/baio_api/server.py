"""The server process: it binds the port, prints its address, and at shutdown lets running answers finish."""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from baio_api.lean_imports import lean_imports

with lean_imports("watchfiles"):  # for reloading on changes, which we never do
    import uvicorn
    from uvicorn.supervisors import Multiprocess

from baio_api.container import Container, open_metrics
from baio_api.logs import configure_logging
from baio_api.protocol import Config, Limits
from baio_api.settings import Settings, SettingsError
from baio_domain.answering import Answering
from baio_domain.errors import CatalogueEmpty

if sys.platform != "win32":
    import resource
    from multiprocessing import forkserver

LAST_CONNECTIONS_SECONDS = 4
"""How long connections may take to close after every answer has ended."""

HUNG_SECONDS = 30
"""How long a worker may be frozen before it is killed and replaced. One that resumes earlier loses no answer."""


@contextlib.contextmanager
def draining_on_signal(answering: Answering, seconds: float) -> Iterator[None]:
    """Inside, SIGTERM and Ctrl-C first let running answers finish, for so many seconds, and then reach the server.

    Meanwhile the server still listens, so that a new question gets 503 with Retry-After instead of a closed port. A
    second Ctrl-C stops the server at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can handle signals
        return
    loop = asyncio.get_running_loop()
    draining: list[asyncio.Task[None]] = []
    originals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, frame: FrameType | None) -> None:
        if not draining:
            draining.append(loop.create_task(drain_then(number, frame)))
        elif number == signal.SIGINT:
            pass_on(number, frame)

    async def drain_then(number: int, frame: FrameType | None) -> None:
        await answering.drain(seconds)
        pass_on(number, frame)

    def pass_on(number: int, frame: FrameType | None) -> None:
        handler = originals[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in originals:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in originals.items():
            signal.signal(number, handler)


def serve(settings: Settings, host: str, port: int, workers: int) -> int:
    """Serve until a signal arrives, and return the exit status. Raises SettingsError if the server can't start."""
    settings.ensure_secret()
    configure_logging(settings.log_level)
    _check_startup(settings)
    try:
        listening = socket.create_server((host, port), family=_family(host), backlog=2048)
    except OSError as error:
        raise SettingsError(f"can't listen on {host}:{port}: {error.strerror or error}") from None
    reports, metrics_address = open_metrics(settings) or (None, None)
    limits = Limits(
        head_seconds=settings.request_head_seconds,
        body_seconds=settings.between_body_seconds,
        descriptors=_raise_descriptor_limit(),
        half_close=settings.on_disconnect == "continue",
    )
    config = Config(
        app="baio_api.app:app_from_environment",
        limits=limits,
        reports=reports,
        stalled_client_seconds=settings.stalled_client_seconds,
        factory=True,
        workers=workers,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_worker_healthcheck=HUNG_SECONDS,
        timeout_graceful_shutdown=LAST_CONNECTIONS_SECONDS,
    )
    _print_addresses(settings, listening, metrics_address)
    if workers > 1:
        end_with_parent()
        _fork_workers()
        Multiprocess(config, sockets=[listening]).run()
        return 0
    server = uvicorn.Server(config)
    server.run(sockets=[listening])
    return 0 if server.started else 3


def end_with_parent() -> None:
    """Let this process end as after SIGTERM when the process that has started it is gone, if Python has started it.

    Otherwise, workers whose parent was killed would run forever and hold the port, and nothing would stop them.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="baio-parent", daemon=True).start()


def _fork_workers() -> None:
    """Fork workers from one process that has imported everything and has no threads, where the system can.

    They start in a fraction of the time, also those that replace others, and share the memory of what is imported.
    """
    if sys.platform == "win32":
        return
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["baio_api.worker_imports"])
    with contextlib.suppress(OSError):  # its socket needs a folder for temporary files whose path is short
        forkserver.ensure_running()
        uvicorn._subprocess.spawn = forks  # type: ignore[assignment]  # noqa: SLF001 - uvicorn has no setting for it


def _raise_descriptor_limit() -> int:
    """Raise this process's limit of open descriptors as far as the system permits, and return it.

    Worker processes inherit it.
    """
    if sys.platform == "win32":
        return sys.maxsize
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses an infinite one
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _check_startup(settings: Settings) -> None:
    container = Container(settings=settings)
    try:
        asyncio.run(container.check_startup()())
    except CatalogueEmpty as error:
        raise SettingsError(f"{error.detail}: run `baio load_llm_data`") from None
    finally:
        container.database().close()


def _print_addresses(settings: Settings, listening: socket.socket, metrics_address: str | None) -> None:
    host, port, *_ = listening.getsockname()
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    data = settings.data_path / "baio.sqlite3" if not settings.database_url else "as set by BAIO_DATABASE_URL"
    lines = [
        f"BAiO listens on {address}/",
        f"  documentation  {address}/docs",
        f"  data           {data}",
        *([f"  metrics        {metrics_address}"] if metrics_address else []),
        "  stop it with Ctrl-C",
    ]
    print("\n".join(lines), flush=True)
