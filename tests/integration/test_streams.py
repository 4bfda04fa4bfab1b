"""Streams end with the session that opened them, in the process where it ended and in every other one."""

import copy
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from tests.integration.answers import ended, said, send
from tests.integration.conftest import NewDatabase, lasting_server_on, server_on
from tests.integration.scripted_provider import ScriptedProvider, gated
from tests.integration.servers import Server, User, Wire
from tests.integration.test_administration import administer
from tests.integration.test_follow import EVENTS, follow, parsed

ANOTHER = "enHeltAnnenSetning7"


class Two(NamedTuple):
    """Two worker processes on one database."""

    here: Server
    there: Server


@pytest.fixture(scope="module")
def workers(
    new_database: NewDatabase, provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Two]:
    """Two servers on one database."""
    url = new_database.prepared()
    with (
        lasting_server_on(tmp_path_factory.mktemp("here"), url, provider) as here,
        server_on(tmp_path_factory.mktemp("there"), url, provider) as there,
    ):
        yield Two(here, there)


@pytest.fixture
def here(workers: Two) -> Iterator[User]:
    """A researcher with a key, at the one worker."""
    someone = User(workers.here)
    someone.add_key()
    yield someone
    someone.http.close()


End = Callable[[User], object]
ENDS: dict[str, End] = {
    "logout": lambda user: user.http.post("/user/logout/", json={"refresh": user.refresh}),
    "logoutEverywhere": lambda user: user.http.post("/user/logoutEverywhere/"),
    "reset": lambda user: administer(user, "resetpassword", user.account["username"], typed=f"{ANOTHER}\n"),
}


def at(worker: Server, user: User) -> User:
    """The same session, at this worker."""
    same = copy.copy(user)
    same.server = worker
    return same


def is_cut(wire: Wire) -> bool:
    """Whether the rest of the stream is empty, and has no end."""
    return wire.chunks() == ([], False)


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_streams_of_a_session_end_with_it_on_every_worker_and_the_answer_goes_on(
    end: End, here: User, workers: Two, provider: ScriptedProvider, gate: threading.Event
) -> None:
    provider.script(gated(gate, ("A codon",), (" is.",)))
    conversation, there = here.begin(), at(workers.there, here)
    with ExitStack() as stack:
        asking = stack.enter_context(send(here, conversation))
        assert asking.chunk() == b"A codon"
        texts = [stack.enter_context(follow(each, conversation)) for each in (here, there)]
        events = [stack.enter_context(follow(each, conversation, **EVENTS)) for each in (here, there)]
        waiting = stack.enter_context(follow(there, conversation, len("A codon")))
        for wire in texts:
            assert wire.chunk() == b"A codon"
        for wire in events:
            assert b"A codon" in (wire.chunk() or b"")
        end(here)
        assert all(is_cut(wire) for wire in (asking, *texts))
        for wire in events:
            chunks, properly = wire.chunks()
            [error] = parsed(b"".join(chunks).decode())
            assert (error.name, error.data["status"], properly) == ("error", 401, True)
        assert waiting.status == 401
        assert json.loads(waiting.rest())["type"] == "urn:baio:error:not-authenticated"
        gate.set()
    here.sign_in(**({"password": ANOTHER} if end is ENDS["reset"] else {}))
    assert ended(here, conversation)["state"] == "complete"
    assert said(here, conversation)[-1] == ("baio", "A codon is.")


def test_streams_of_a_disabled_account_show_no_word_more_on_every_worker(
    here: User, workers: Two, provider: ScriptedProvider, gate: threading.Event
) -> None:
    provider.script(gated(gate, ("A codon",), (" is.",)))
    conversation = here.begin()
    with ExitStack() as stack:
        wires = [stack.enter_context(send(here, conversation))]
        assert wires[0].chunk() == b"A codon"
        wires += [stack.enter_context(follow(each, conversation)) for each in (here, at(workers.there, here))]
        assert [wire.chunk() for wire in wires[1:]] == [b"A codon"] * 2
        assert administer(here, "disableuser", here.account["username"]).returncode == 0
        # Usually they end as those of stopped answers; one that has not within a second is cut.
        assert [wire.chunks()[0] for wire in wires] == [[]] * 3
    gate.set()
    assert administer(here, "enableuser", here.account["username"]).returncode == 0
    here.sign_in()
    assert ended(here, conversation)["state"] == "stopped"


def test_streams_of_other_sessions_go_on(
    here: User, workers: Two, provider: ScriptedProvider, gate: threading.Event
) -> None:
    provider.script(gated(gate, ("A codon",), (" is.",)))
    conversation, ending = here.begin(), at(workers.there, here)
    here.sign_in()
    with ExitStack() as stack:
        asking = stack.enter_context(send(here, conversation))
        assert asking.chunk() == b"A codon"
        cut, kept = [stack.enter_context(follow(each, conversation)) for each in (ending, at(workers.there, here))]
        assert (cut.chunk(), kept.chunk()) == (b"A codon", b"A codon")
        here.http.post("/user/logout/", json={"refresh": ending.refresh})
        assert is_cut(cut)
        gate.set()
        assert asking.chunks() == kept.chunks() == ([b" is."], True)
