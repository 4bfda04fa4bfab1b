"""``baio doctor``: a line for each check, and an exit status of 1 if anything is wrong."""

import re
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, make_url, text, update

from baio_adapters.sql.database import engine_for
from baio_adapters.sql.tables import api_keys, audit, models, users
from tests.integration.conftest import NewDatabase, on_postgresql, on_sqlite, settings_for
from tests.integration.scripted_institution import PUBLIC_URL, ScriptedInstitutions
from tests.integration.scripted_provider import ScriptedProvider
from tests.integration.servers import User, baio, running_server

Lines = dict[str, tuple[str, str]]


def doctor(environment: dict[str, str], *arguments: str) -> tuple[int, Lines]:
    """What it says: each check with its verdict and what was found."""
    done = baio(environment, "doctor", *arguments)
    assert done.stderr == ""
    found = re.findall(r"(?m)^(ok   |WRONG)  (.+?)  +(.*)$", done.stdout)
    return done.returncode, {name: (verdict.strip(), said) for verdict, name, said in found}


@pytest.fixture
def environment(new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path) -> dict[str, str]:
    """An installation in order, on each database, with an account that has a key."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    made = {**settings_for(new_database.prepared(), provider), "BAIO_DATA_DIR": str(folder)}
    with running_server(folder, made) as server:
        user = User(server)
        user.add_key()
        user.http.close()
    return made


def change(environment: dict[str, str], statement: object) -> None:
    engine = engine_for(environment["BAIO_DATABASE_URL"])
    with engine.begin() as connection:
        connection.execute(statement)  # type: ignore[call-overload]
    engine.dispose()


def test_an_installation_in_order_is_ok_in_every_line(environment: dict[str, str]) -> None:
    status, lines = doctor(environment, "--online", "openai")
    assert {verdict for verdict, _ in lines.values()} == {"ok"}
    assert status == 0
    assert {"versions", "data folder", "disk space", "secret", "database", "schema", "writing", "clock"} <= set(lines)
    assert {"administrators", "catalogue", "stored keys", "descriptors", "proxies", "provider OpenAI"} <= set(lines)
    assert environment["BAIO_SECRET_KEY"] not in str(lines)
    assert doctor(environment)[1]["provider OpenAI"] == ("ok", "configured (--online asks it)")


def test_each_thing_that_is_wrong_is_named(environment: dict[str, str]) -> None:
    folder = Path(environment["BAIO_DATA_DIR"])
    folder.chmod(0o755)
    change(environment, delete(models))
    change(environment, update(api_keys).values(sealed=b"garbage"))
    change(environment, update(users).values(administrator=True))
    change(environment, update(audit).values(at=datetime.now(UTC) + timedelta(days=2)))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    status, lines = doctor({**environment, "BAIO_OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1"}, "--online", "openai")
    wrong = {name for name, (verdict, _) in lines.items() if verdict == "WRONG"}
    assert (status, wrong) == (
        1,
        {"data folder", "clock", "administrators", "catalogue", "stored keys", "provider OpenAI"},
    )
    assert lines["administrators"][1].startswith("without two-factor authentication: olenor")
    assert "chmod 700" in lines["data folder"][1]
    assert "baio load_llm_data" in lines["catalogue"][1]
    assert "1 can't be decrypted" in lines["stored keys"][1]
    change(environment, text("UPDATE alembic_version SET version_num = '0001'"))
    status, lines = doctor(environment)
    assert (status, lines["database"][0]) == (1, "WRONG")
    assert "run `baio migrate`" in lines["database"][1]


def test_institutions_are_listed_and_online_each_is_asked_for_its_document(
    institutions: ScriptedInstitutions, tmp_path: Path
) -> None:
    here, away = institutions.institution("here"), institutions.institution("away")
    file = institutions.write(tmp_path / "sign-in.toml", "here", "away")
    environment = {
        "BAIO_DATA_DIR": str(tmp_path / "later"),
        "BAIO_SIGN_IN_FILE": str(file),
        "BAIO_PUBLIC_URL": PUBLIC_URL,
    }
    _, lines = doctor(environment)
    listed = {name: lines[f"sign-in with {name}"] for name in ("here", "away")}
    assert listed == {"here": ("ok", here.issuer), "away": ("ok", away.issuer)}
    assert here.requests == []
    away.answers["/.well-known/openid-configuration"] = lambda: (404, b"{}")
    done = baio(environment, "doctor", "--online", "openai")
    assert done.returncode == 1
    assert f"ok     sign-in with here  {here.issuer}\n" in done.stdout
    assert re.search(
        rf"(?m)^WRONG  sign-in with away  {re.escape(away.issuer)}: The institution's sign-in", done.stdout
    )
    assert "sign-in with away failed: status 404 for" in done.stderr


@on_sqlite
def test_a_damaged_or_exposed_database_is_named(environment: dict[str, str]) -> None:
    database = Path(make_url(environment["BAIO_DATABASE_URL"]).database or "")
    database.chmod(0o644)
    assert doctor(environment)[1]["files"] == ("WRONG", "other users can read baio.sqlite3 (chmod 600)")
    content = bytearray(database.read_bytes())
    content[4096 * 3 : 4096 * 20] = b"\xff" * 4096 * 17
    database.write_bytes(content)
    status, lines = doctor(environment)
    assert (status, lines["database"][0]) == (1, "WRONG")
    assert "damaged" in lines["database"][1]


@on_postgresql
def test_a_database_that_is_away_is_named_without_its_password(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    away = {**environment, "BAIO_DATABASE_URL": f"postgresql://baio:hunter2@127.0.0.1:{port}/baio"}
    status, lines = doctor(away)
    assert (status, lines["database"][0]) == (1, "WRONG")
    assert "hunter2" not in str(lines)


def test_before_the_first_start_nothing_is_wrong_and_nothing_is_made(
    provider: ScriptedProvider, tmp_path: Path
) -> None:
    folder = tmp_path / "later"
    status, lines = doctor({"BAIO_DATA_DIR": str(folder), "BAIO_OPENAI_BASE_URL": provider.base_url})
    assert (status, lines["database"][0]) == (0, "ok")
    assert not folder.exists()
