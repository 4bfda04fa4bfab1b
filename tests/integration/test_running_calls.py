"""Calls that run when their answer or their server ends, with BAiO's own tools in their process.

The process of the tools is halted, so that a call in it runs until it is killed.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.answers import ended, send, stop
from tests.integration.conftest import NewDatabase, once, server_on
from tests.integration.scripted_provider import ScriptedProvider, answer, call_tools
from tests.integration.servers import Server, User, eventually, until
from tests.integration.test_gateway_contract import sent_calls
from tests.integration.test_tool_calls import calls, run

GC = ("gc_content", '{"sequence": "ACGTTGCAGG"}')


def children(pid: int) -> Iterator[int]:
    """The processes below this one."""
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield int(child)
            yield from children(int(child))


def is_gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def halted_tools(user: User, server: Server) -> int:
    """Halt the process of the tools; its id."""
    run(user)  # so that there is one
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(server.process.pid)}
    [pid] = [pid for pid, command in commands.items() if b"biology" in command]
    os.kill(pid, signal.SIGSTOP)
    return pid


def begin_call(user: User, provider: ScriptedProvider) -> int:
    """Ask for an answer whose call does not end; its conversation, once it runs and some text is stored."""
    conversation = user.begin()
    provider.script(call_tools([GC], "Let me see: "))
    send(user, conversation).close()
    until(lambda: [call["state"] for call in calls(user, conversation_id=conversation)] == ["running"])
    until(lambda: user.server.rows()["answer_parts"] > 0)
    return conversation


@once
def test_complaint_5_stopping_the_answer_kills_its_call(
    asker: User, server: Server, provider: ScriptedProvider
) -> None:
    pid = halted_tools(asker, server)
    conversation = begin_call(asker, provider)
    assert stop(asker, conversation).json()["state"] == "stopped"
    assert eventually(lambda: is_gone(pid))
    assert [call["state"] for call in calls(asker, conversation_id=conversation)] == ["cancelled"]
    assert run(asker)["state"] == "done"


@once
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_complaint_6_a_conversation_whose_process_ended_during_a_call_goes_on_and_can_be_exported(
    sent: signal.Signals, new_database: NewDatabase, provider: ScriptedProvider, tmp_path: Path
) -> None:
    url = new_database.prepared()
    with server_on(tmp_path, url, provider, BAIO_DRAIN_SECONDS="0") as server:
        user = User(server)
        with user.http:
            user.add_key()
            pid = halted_tools(user, server)
            conversation = begin_call(user, provider)
        server.process.send_signal(sent)
        server.process.wait(60)
        if sent is signal.SIGKILL:
            os.kill(pid, signal.SIGCONT)  # it learns that its parent has ended when it reads
        assert eventually(lambda: is_gone(pid))
    with server_on(tmp_path, url, provider) as server, server.client(headers=dict(user.http.headers)) as user.http:
        assert ended(user, conversation)["state"] == "interrupted"
        assert [call["state"] for call in calls(user, conversation_id=conversation)] == ["cancelled"]
        provider.script(answer("60 %."))
        assert user.ask(conversation, "And now?").text == "60 %."
        [(name, _, result)] = sent_calls(provider.requests[-1].body["messages"])
        assert (name, "cancelled" in result) == ("gc_content", True)
        [exported] = user.http.get("/user/exportData/").json()["conversations"]
        assert [call["state"] for call in exported["tool_calls"]] == ["cancelled"]
