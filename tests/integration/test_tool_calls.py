"""Tools over HTTP without a model or a key: run, commands, records, verification, export and deletion."""

import hashlib
import json
from typing import Any

import pytest

from tests.integration.conftest import once
from tests.integration.scripted_provider import ScriptedProvider
from tests.integration.servers import User, named, problem

RECORD = [
    "id", "conversation_id", "answer_id", "tool", "version", "library", "definition", "arguments", "inputs", "result",
    "result_sha256", "shown", "state", "error", "line", "offset", "length", "quoted", "started_at", "ended_at",
]  # fmt: skip
FASTA = ">pTest a plasmid\nacgtTGCA acgt\nNN"


def run(user: User, tool: str = "gc_content", **body: Any) -> dict[str, Any]:
    """Run the tool; the record."""
    made = user.http.post("/chat/runTool/", json={"tool": tool, "arguments": {"sequence": FASTA}, **body})
    assert made.status_code == 201, made.text
    record: dict[str, Any] = made.json()
    assert list(record) == RECORD
    return record


def calls(user: User, **query: int) -> list[dict[str, Any]]:
    found = user.http.get("/chat/getToolCalls/", params=query)
    assert found.status_code == 200, found.text
    listed: list[dict[str, Any]] = found.json()
    return listed


def command(user: User, conversation: int, content: str, **headers: str) -> str:
    """Ask with a key and a model that there are not; what is streamed."""
    body = {"conversation_id": conversation, "apikey_nickname": "none", "model": "none", "content": content}
    answered = user.http.post("/chat/sendMessage/", json=body, headers=headers)
    assert answered.status_code == 200, answered.text
    return answered.text


def test_every_tool_is_listed_as_models_get_it(user: User) -> None:
    tools = user.http.get("/chat/getTools/").json()
    assert {"gc_content", "restriction_digest"} <= {each["name"] for each in tools}
    for each in tools:
        assert list(each) == ["name", "version", "description", "definition", "parameters", "library"]
        assert each["parameters"]["type"] == "object"


def test_a_record_says_all_that_is_needed_to_cite_a_value(user: User) -> None:
    record = run(user)
    assert record["arguments"]["ambiguous"] == "remove"
    canonical = json.dumps(record["result"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert record["result_sha256"] == hashlib.sha256(canonical.encode()).hexdigest()
    assert record["inputs"] == [
        {
            "argument": "sequence",
            "name": "pTest a plasmid",
            "length": 14,
            "sha256": hashlib.sha256(b"ACGTTGCAACGTNN").hexdigest(),
            "cleaned": ["header", "line-breaks", "spaces", "case"],
            "origin": {"source": "request", "id": None, "start": None, "end": None},
            "sequence_id": None,
        }
    ]
    assert (record["state"], record["error"], record["length"], record["quoted"]) == ("done", "", 0, False)
    source = ", ".join(filter(None, ["gc_content 1", record["library"]]))
    assert record["line"].endswith(f"**50.00 %** (6 of 12). {source} [call {record['id']}]")
    assert calls(user)[-1] == record
    verdict = {"equal": True, "result_sha256": record["result_sha256"], "library": record["library"]}
    assert user.http.post("/chat/verifyToolCall/", json={"id": record["id"]}).json() == verdict


def test_a_refusal_is_a_record_that_says_what_to_do(user: User) -> None:
    record = run(user, arguments={"sequence": "ACGTQ"})
    assert (record["state"], record["error"], record["line"]) == ("refused", "not-a-nucleotide-sequence", "")
    assert "position 5" in record["result"]["detail"]


@once
def test_what_is_no_call_is_named(user: User) -> None:
    for field, body in (
        ("tool", {"tool": "blast"}),
        ("arguments", {"arguments": {"sequence": "A" * 65_536}}),
    ):
        sent = {"tool": "gc_content", "arguments": {"sequence": "ACGT"}, **body}
        assert named(user.http.post("/chat/runTool/", json=sent)) == {field}
    deep = b'{"tool": "gc_content", "arguments": {"sequence": ' + b"[" * 200 + b"]" * 200 + b"}}"
    assert user.http.post("/chat/runTool/", content=deep).json()["error"] == "bad-arguments"


def test_a_command_is_answered_without_a_key_and_recorded_with_its_answer(
    user: User, provider: ScriptedProvider
) -> None:
    conversation = user.begin()
    question = f"/gc_content window=4 step=4\n{FASTA}"
    line = command(user, conversation, question)
    assert "**50.00 %**" in line
    assert line.startswith("> GC content of pTest")
    assert user.messages(conversation)[1:] == [("user", question), ("baio", line)]
    [answer] = user.http.get("/chat/getAnswers/", params={"conversation_id": conversation}).json()
    assert (answer["state"], answer["requested_model"], answer["model"]) == ("complete", "BAiO", None)
    [record] = calls(user, answer_id=answer["id"])
    assert calls(user, conversation_id=conversation) == [record]
    assert (record["line"], record["offset"], record["length"]) == (line, 0, len(line))
    origin = record["inputs"][0]["origin"]
    assert origin["source"] == "message"
    assert question[origin["start"] : origin["end"]] == FASTA.partition("\n")[2]
    assert user.http.get("/chat/getUsage/").json() == []
    assert provider.requests == []


def test_a_command_is_streamed_as_events_and_followed_like_any_answer(user: User) -> None:
    conversation = user.begin()
    sent = command(user, conversation, "/reverse_complement AAAC", Accept="text/event-stream")
    names = [event.partition("\n")[0] for event in sent.split("\n\n")[:-1]]
    assert names == ["event: tool", "event: tool", "event: delta", "event: end"]
    line = user.messages(conversation)[-1][1]
    assert "GTTT" in line
    [record] = calls(user, conversation_id=conversation)
    told = [json.loads(event.partition("data: ")[2]) for event in sent.split("\n\n")[:2]]
    known = {"call_id": record["id"], "tool": "reverse_complement"}
    assert told == [
        {**known, "state": "running", "arguments": {"sequence": "AAAC"}, "result": None},
        {**known, "state": "done", "arguments": record["arguments"], "result": record["result"]},
    ]
    followed = user.http.get("/chat/followAnswer/", params={"conversation_id": conversation, "offset": 2})
    assert followed.text == line[2:]


def test_a_command_that_is_refused_says_why_in_its_answer(user: User) -> None:
    conversation = user.begin()
    said = command(user, conversation, "/gc_content AC-GT")
    assert said.startswith("> gc_content has no result: There is a gap (-) at position 3.")
    assert calls(user, conversation_id=conversation)[0]["state"] == "refused"


def test_records_are_exported_and_go_with_what_they_belong_to(user: User) -> None:
    conversation = user.begin()
    command(user, conversation, "/gc_content ACGT")
    bound, loose = run(user, conversation_id=conversation), run(user)
    export = user.http.get("/user/exportData/").json()
    [exported] = [each for each in export["conversations"] if each["id"] == conversation]
    assert exported["tool_calls"] == calls(user, conversation_id=conversation)
    assert exported["tool_calls"][-1] == bound
    assert export["tool_calls"] == [loose]
    problem(user.http.post("/chat/deleteToolCall/", json={"id": bound["id"]}), 404)
    assert user.http.post("/chat/deleteToolCall/", json={"id": loose["id"]}).status_code == 200
    assert user.http.post("/chat/deleteConversation/", json={"conversation_id": conversation}).status_code == 200
    for record in (bound, loose):
        problem(user.http.post("/chat/verifyToolCall/", json={"id": record["id"]}), 404)
    assert calls(user) == []


@pytest.mark.parametrize("count", [30])
@once
def test_a_long_list_of_records_is_whole(user: User, count: int) -> None:
    conversation = user.begin()
    letters = "ACGTTGCA" * 2000
    ids = [
        run(user, "reverse_complement", arguments={"sequence": letters}, conversation_id=conversation)["id"]
        for _ in range(count)
    ]
    assert [each["id"] for each in calls(user, conversation_id=conversation)] == ids
