"""PostgreSQL as an administrator may have set it up: for other programs, with few rights, in another encoding."""

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from sqlalchemy import make_url, text

from baio_adapters.sql.database import UNIT_OF_WORK, engine_for
from baio_adapters.sql.trouble import FORBIDDEN
from tests.integration.answers import said
from tests.integration.conftest import NewDatabase, server_on, settings_for
from tests.integration.scripted_provider import ScriptedProvider, answer
from tests.integration.servers import User, baio, problem
from tests.integration.test_database_trouble import administrator

QUESTION = "Was heißt 密码子, İ 🧬?"
ANSWER = ("A codon: ", "コドン 🧬", ".")

FOR_OTHER_PROGRAMS = {
    "datestyle": "German, DMY",
    "client_encoding": "LATIN1",
    "timezone": "Asia/Kathmandu",
    "default_transaction_isolation": "serializable",
    "bytea_output": "escape",
}

IN_ENVIRONMENT = {"PGDATESTYLE": "SQL, DMY", "PGCLIENTENCODING": "LATIN1", "PGTZ": "Asia/Tokyo"}


@pytest.fixture
def url(postgresql: NewDatabase) -> str:
    """A database with schema and catalogue."""
    return postgresql.prepared()


@pytest.fixture
def role(url: str) -> Iterator[str]:
    """A role that owns nothing, for a test."""
    name = f"baio_{uuid.uuid4().hex}"
    with administrator(url) as engine, engine.connect() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN"))
        yield name
        connection.execute(text(f"DROP ROLE {name}"))


def as_role(url: str, role: str) -> str:
    """The URL of the same database for this role."""
    return make_url(url).set(username=role, password=None).render_as_string(hide_password=False)


def change(url: str, *statements: str) -> None:
    """Execute these statements as the superuser, in the database itself."""
    engine = engine_for(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def shown(url: str, *names: str, settings: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """What these settings are in a session; without others, it is a migration's."""
    with engine_for(url, settings=settings).connect() as connection:
        return [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in names]


@pytest.mark.parametrize("by", ["the database", "the environment"])
def test_settings_for_other_programs_change_no_letter_and_no_time(
    url: str, provider: ScriptedProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    provider.always(answer(*ANSWER))
    environment = {}
    if by == "the database":
        name = make_url(url).database
        change(url, *(f"ALTER DATABASE {name} SET {each} = '{value}'" for each, value in FOR_OTHER_PROGRAMS.items()))
    else:
        environment = IN_ENVIRONMENT
    for name, value in environment.items():  # for the entrance through which the user registers
        monkeypatch.setenv(name, value)
    with server_on(tmp_path, url, provider, **environment) as server:
        asker = User(server)
        asker.add_key()
        conversation = asker.begin()
        assert asker.ask(conversation, QUESTION).status_code == 200
        assert said(asker, conversation) == [("user", QUESTION), ("baio", "".join(ANSWER))]
        found = asker.http.get("/chat/findConversations/", params={"query": "密码"}).json()["conversations"]
        assert [each["id"] for each in found] == [conversation]
        for path in ("/user/getSessions/", "/chat/getUsage/", "/user/exportData/"):
            assert asker.http.get(path).status_code == 200
        assert '"level": "error"' not in server.log
        asker.http.close()


def test_a_migration_takes_as_long_as_it_takes_and_a_unit_of_work_does_not(url: str) -> None:
    limits = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    name = make_url(url).database
    change(url, *(f"ALTER DATABASE {name} SET {each} = '7s'" for each in limits))
    assert shown(url, *limits) == ["0", "0", "0"]
    assert shown(url, *limits, settings=UNIT_OF_WORK) == ["10s", "5s", "30s"]


def test_parameters_of_the_url_hold(url: str) -> None:
    more = {"options": "-c search_path=lab,public", "application_name": "lab"}
    with_more = make_url(url).update_query_dict(more).render_as_string(hide_password=False)
    assert shown(with_more, "search_path", "application_name", "timezone") == ["lab,public", "lab", "UTC"]
    assert shown(url, "application_name") == ["baio"]


def test_a_host_that_is_away_is_passed_over_where_several_are_named(url: str) -> None:
    host = make_url(url).query["host"]
    several = make_url(url).update_query_dict({"host": ["/nowhere", str(host)], "target_session_attrs": "read-write"})
    assert shown(several.render_as_string(hide_password=False), "timezone") == ["UTC"]


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_can_not_store_every_text_is_one_line(
    url: str, provider: ScriptedProvider, tmp_path: Path, encoding: str
) -> None:
    name = f"baio_test_{uuid.uuid4().hex}"
    with administrator(url) as engine, engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"))
    other = make_url(url).set(database=name).render_as_string(hide_password=False)
    environment = {"BAIO_DATA_DIR": str(tmp_path), **settings_for(other, provider)}
    for command in (["migrate"], ["runserver", "--port", "0"]):
        done = baio(environment, *command)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"baio: The database has the encoding {encoding}, BAiO needs UTF8: ")
        assert done.stderr.count("\n") == 1


def test_a_migration_without_the_rights_is_one_line_that_says_which(
    postgresql: NewDatabase, provider: ScriptedProvider, tmp_path: Path, role: str
) -> None:
    empty = postgresql()
    change(empty, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # as it is since PostgreSQL 15
    done = baio({"BAIO_DATA_DIR": str(tmp_path), **settings_for(as_role(empty, role), provider)}, "migrate")
    refused = f"baio: {FORBIDDEN} (permission denied for schema public)\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", refused)


def test_a_right_that_is_missing_is_503_until_it_is_granted(
    url: str, provider: ScriptedProvider, tmp_path: Path, role: str
) -> None:
    change(url, *(f"GRANT ALL ON ALL {each} IN SCHEMA public TO {role}" for each in ("TABLES", "SEQUENCES")))
    with server_on(tmp_path, as_role(url, role), provider) as server:
        asker = User(server)
        asker.add_key()
        conversation = asker.begin()
        change(url, f"REVOKE INSERT ON messages FROM {role}")
        assert problem(asker.ask(conversation), 503)["detail"] == FORBIDDEN
        change(url, f"GRANT INSERT ON messages TO {role}")
        assert asker.ask(conversation).status_code == 200
        assert "Traceback" not in server.log
        asker.http.close()
    change(url, f"DROP OWNED BY {role}")
