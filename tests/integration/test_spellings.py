"""Names, passwords and bodies from other alphabets, keyboards and machines, as their owners send them."""

import json
import unicodedata

import httpx2
import pytest
from argon2 import PasswordHasher
from sqlalchemy import select, text, update

from baio_adapters.sql import migrations
from baio_adapters.sql.database import engine_for
from baio_adapters.sql.tables import users
from tests.integration.conftest import NewDatabase
from tests.integration.servers import Server, User, named, registration
from tests.unit.test_text import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_taken_as_it_is_and_found_without_what_nobody_sees(server: Server, name: str) -> None:
    account = registration(first_name=name)
    account["username"] = f"{name} {account['username']}"
    with server.client() as client:
        assert client.post("/user/register/", json=account).status_code == 201
        typed = unicodedata.normalize("NFKC", account["username"].replace("\u200c", "").replace("\u200d", ""))
        signed_in = client.post("/user/auth/", json={"username": typed, "password": account["password"]})
        assert signed_in.status_code == 200
        client.headers["Authorization"] = f"Bearer {signed_in.json()['access']}"
        found = client.get("/user/getInfo/").json()
    assert (found["first_name"], found["username"]) == (name, account["username"])


def test_a_username_that_looks_like_another_is_taken(server: Server, user: User) -> None:
    with server.client() as client:
        for lookalike in ("{}\ufe0f", "\u200b{}", "{}\u3164", "\u3000{}\xa0"):
            again = registration(username=lookalike.format(user.account["username"]))
            assert named(client.post("/user/register/", json=again)) == {"username"}


@pytest.mark.parametrize("name", ["\u200b", "\u3164", "\u2800 \ufe0f"])
def test_a_name_that_nobody_can_see_is_blank(server: Server, name: str) -> None:
    with server.client() as client:
        refused = client.post("/user/register/", json=registration(username=name, last_name=name))
    assert named(refused) == {"username", "last_name"}
    assert {each["message"] for each in refused.json()["errors"]} == {"must not be blank"}


def test_a_password_is_the_same_composed_and_decomposed(server: Server) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Blåbærsyltetøy på brød") for form in ("NFC", "NFD"))
    for chosen, typed in ((composed, decomposed), (decomposed, composed)):
        account = registration(password=chosen)
        with server.client() as client:
            assert client.post("/user/register/", json=account).status_code == 201
            assert client.post("/user/auth/", json={**account, "password": typed}).status_code == 200


def test_a_hash_of_a_password_as_it_was_typed_still_works(user: User) -> None:
    typed = unicodedata.normalize("NFD", "Blåbærsyltetøy på brød")
    with user.server.engine() as engine, engine.begin() as connection:
        older = PasswordHasher(time_cost=1, memory_cost=46 * 1024, parallelism=1).hash(typed)
        mine = users.c.username == user.account["username"]
        connection.execute(update(users).where(mine).values(password_hash=older))
    assert user.http.post("/user/auth/", json={**user.account, "password": typed}).status_code == 200


def test_a_byte_order_mark_before_a_body_or_a_question_is_nothing(user: User) -> None:
    user.add_key()
    conversation = user.begin()
    body = json.dumps(user.question(conversation, "\ufeffWhat is a codon?")).encode()
    headers = {"Content-Type": "application/json"}
    answered: httpx2.Response = user.http.post("/chat/sendMessage/", content=b"\xef\xbb\xbf" + body, headers=headers)
    assert answered.status_code == 200
    assert user.messages(conversation)[1] == ("user", "What is a codon?")
    blank = user.http.post("/chat/sendMessage/", json=user.question(conversation, "\ufeff \n"))
    assert named(blank) == {"content"}


def test_accounts_of_before_are_found_by_how_their_names_look_and_no_two_become_one(new_database: NewDatabase) -> None:
    url = new_database()
    migrations.upgrade(url, "0006")
    names = {"ole  olsen": "ole olsen", "kari\ufe0f": "kari", "per": "per", "per\ufe0f": "per\ufe0f"}
    engine = engine_for(url)
    with engine.begin() as connection:
        later = ("id", "disabled_at", "deleted_at", "stored_bytes", "administrator")  # or empty
        for number, name in enumerate(names):
            row = {each.name: "" for each in users.c if each.name not in later}
            row |= {
                "username": name,
                "username_folded": name,
                "email": f"{number}@x.no",
                "email_folded": f"{number}@x.no",
            }
            row["created_at"] = "2026-01-01 00:00:00"
            columns = ", ".join(row)
            values = ", ".join(f":{each}" for each in row)
            connection.execute(text(f"INSERT INTO users ({columns}) VALUES ({values})"), row)
    migrations.upgrade(url)
    with engine.connect() as connection:
        found = {row[0]: row[1] for row in connection.execute(select(users.c.username, users.c.username_folded))}
    engine.dispose()
    assert found == names
