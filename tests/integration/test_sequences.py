"""Stored sequences over HTTP: added from files, named by handles, and kept from every provider."""

import hashlib
import json
import random
from typing import Any

import httpx2
import pytest

from tests.integration.conftest import once
from tests.integration.scripted_provider import ScriptedProvider, answer, call_tools
from tests.integration.servers import User, named, problem

INFO = [
    "id", "handle", "name", "description", "molecule", "topology", "length", "features", "sha256", "format", "origin",
    "created_at",
]  # fmt: skip
FROM_FILE = {"source": "file", "id": None, "start": None, "end": None}
PLASMID = "GAATTC" + "ACGGT" * 100 + "GGATCC" + "TTGCA" * 100


def genbank(letters: str, name: str = "pMade", genes: int = 2, topology: str = "circular") -> str:
    """A GenBank record with a gene every 500 letters."""
    table = "".join(
        f"     CDS             {'complement(' * (n % 2)}{500 * n + 1}..{500 * n + 300}{')' * (n % 2)}\n"
        f'                     /gene="gene{n}"\n                     /product="a made protein"\n'
        for n in range(genes)
    )
    rows = "".join(f"{index + 1:>9} {letters[index : index + 60].lower()}\n" for index in range(0, len(letters), 60))
    return (
        f"LOCUS       {name:<16} {len(letters)} bp    DNA     {topology} SYN 01-JAN-2024\n"
        f"DEFINITION  A made plasmid.\nFEATURES             Location/Qualifiers\n{table}ORIGIN\n{rows}//\n"
    )


def add(user: User, content: str, **more: Any) -> list[dict[str, Any]]:
    """Add a file; the records of its sequences."""
    headers = {"Idempotency-Key": more.pop("key")} if "key" in more else {}
    made = user.http.post("/chat/addSequences/", json={"content": content, **more}, headers=headers)
    assert made.status_code == 201, made.text
    records: list[dict[str, Any]] = made.json()
    return records


def listed(user: User, **query: int) -> list[dict[str, Any]]:
    found = user.http.get("/chat/getSequences/", params=query)
    assert found.status_code == 200, found.text
    records: list[dict[str, Any]] = found.json()
    return records


def read(user: User, sequence_id: int, **query: Any) -> httpx2.Response:
    found = user.http.get("/chat/getSequence/", params={"sequence_id": sequence_id, **query})
    assert found.status_code == 200, found.text
    return found


def run(user: User, tool: str, conversation: int | None = None, **arguments: Any) -> dict[str, Any]:
    body = {"tool": tool, "arguments": arguments, "conversation_id": conversation}
    made = user.http.post("/chat/runTool/", json=body)
    assert made.status_code == 201, made.text
    record: dict[str, Any] = made.json()
    return record


def letters_sent(provider: ScriptedProvider, letters: str) -> bool:
    """Whether any 30 letters of a sequence, or of its other strand, are in a request to the provider."""
    sent = "".join(json.dumps(request.body).upper() for request in provider.requests)
    other = letters[::-1].translate(str.maketrans("ACGT", "TGCA"))
    return any(strand[index : index + 30] in sent for strand in (letters, other) for index in range(len(strand) - 29))


def test_a_genbank_file_is_added_listed_read_renamed_and_deleted(user: User) -> None:
    conversation = user.begin()
    [record] = add(user, genbank(PLASMID), conversation_id=conversation)
    assert list(record) == INFO
    assert record == record | {
        "handle": f"seq_{record['id']}",
        "name": "pMade",
        "description": "A made plasmid",
        "molecule": "DNA",
        "topology": "circular",
        "length": len(PLASMID),
        "features": 2,
        "sha256": hashlib.sha256(PLASMID.encode()).hexdigest(),
        "format": "genbank",
        "origin": FROM_FILE,
    }
    assert listed(user) == listed(user, conversation_id=conversation) == [record]
    whole = read(user, record["id"]).json()
    assert whole["sequence"] == record
    assert (whole["start"], whole["end"], whole["letters"], whole["features_total"]) == (1, len(PLASMID), None, 2)
    assert whole["features"][1] == {
        "kind": "CDS",
        "location": "complement(501..800)",
        "qualifiers": [["gene", "gene1"], ["product", "a made protein"]],
    }
    part = read(user, record["id"], start=1000, end=8, features_after=1).json()
    assert (part["letters"], part["features"]) == (PLASMID[999:] + PLASMID[:8], [])
    fasta = read(user, record["id"], format="fasta").text
    assert fasta.partition("\n")[0] == ">pMade A made plasmid"
    assert fasta.partition("\n")[2].replace("\n", "") == PLASMID
    again = add(user, read(user, record["id"], format="genbank").text)
    assert again == [record]
    renamed = user.http.post("/chat/renameSequence/", json={"sequence_id": record["id"], "name": "pMine"})
    assert renamed.json() == "Sequence successfully renamed to pMine"
    assert listed(user) == [record | {"name": "pMine"}]
    deleted = user.http.post("/chat/deleteSequence/", json={"sequence_id": record["id"]})
    assert deleted.json() == f"Sequence with id={record['id']} successfully deleted"
    assert listed(user) == []
    problem(user.http.get("/chat/getSequence/", params={"sequence_id": record["id"]}), 404)


def test_a_file_that_is_wrong_anywhere_is_refused_as_a_whole(user: User) -> None:
    for content, line, reason in (
        (f">one\nACGT\n>two\nACJ{'T' * 60}\n", 4, "J is no nucleotide code"),
        (genbank(PLASMID).replace(f"{len(PLASMID)} bp", "1013 bp"), 1, "the record says 1,013 letters"),
        (">one\n>two\nACGT\n", 1, "a sequence without letters"),
        ("@read\nACGT\n+\nIII\n", 4, "3 qualities for 4 letters"),
    ):
        refused = problem(user.http.post("/chat/addSequences/", json={"content": content, "molecule": "DNA"}), 400)
        assert refused["type"].endswith("sequence-file-refused")
        assert refused["errors"][0]["field"] == "content"
        assert f"line {line}: {reason}" in refused["detail"]
    second = problem(user.http.post("/chat/addSequences/", json={"content": ">a\nACGT\n>b\nACGT", "name": "x"}), 400)
    assert "line 3: a second sequence" in second["detail"]
    fields = {"content": " ", "format": "gff", "molecule": "dna", "topology": "ring", "name": "a\nb"}
    assert named(user.http.post("/chat/addSequences/", json=fields)) == fields.keys()
    assert listed(user) == []


def test_a_repeated_request_stores_nothing_again(user: User) -> None:
    [record] = add(user, ">one\nACGT", key="the key")
    assert add(user, ">one\nACGT", key="the key") == [record]
    assert add(user, ">one\nACGT") == [record]
    headers = {"Idempotency-Key": "the key"}
    problem(user.http.post("/chat/addSequences/", json={"content": ">one\nACGG"}, headers=headers), 422)
    assert len(listed(user)) == 1


@once
def test_the_same_letters_with_other_features_are_stored_besides(user: User) -> None:
    plain, annotated = f">pMade\n{PLASMID}\n", genbank(PLASMID, topology="linear")
    [bare] = add(user, plain)
    [first] = add(user, annotated, key="annotated")
    assert (bare["name"], bare["features"], first["name"], first["features"]) == ("pMade", 0, "pMade (2)", 2)
    assert add(user, annotated, key="annotated") == add(user, annotated) == [first]
    assert add(user, plain) == [bare]
    [other, same] = add(user, genbank(PLASMID, genes=1, topology="linear") + annotated)
    assert (other["name"], other["features"], same) == ("pMade (3)", 1, first)
    assert [each["name"] for each in listed(user)] == ["pMade (3)", "pMade (2)", "pMade"]
    extracted = run(user, "extract", sequence=first["handle"], feature="gene1")
    assert extracted["result"]["length"] == 300
    [dna, protein] = (add(user, "ACGTACGT", name="x", molecule=kind)[0] for kind in ("DNA", "protein"))
    assert (dna["molecule"], protein["molecule"], protein["name"]) == ("DNA", "protein", "x (2)")
    assert add(user, genbank(PLASMID) + genbank(PLASMID, genes=1))[1]["name"] == "pMade (2)"


def test_a_file_may_be_larger_than_other_bodies_but_not_larger_than_its_own_limit(user: User) -> None:
    letters = "ACGTTGCA" * 250_000
    [record] = add(user, letters, name="long")
    assert record["length"] == 2_000_000
    too_long = {"content": "A" * 16_777_216}
    problem(user.http.post("/chat/addSequences/", json=too_long), 413)
    problem(user.http.post("/chat/runTool/", json={"tool": "gc_content", "arguments": {"sequence": letters}}), 413)
    assert run(user, "gc_content", sequence=record["handle"])["result"]["gc_percent"] == 50
    run(user, "reverse_complement", sequence=record["handle"])
    product = listed(user)[0]
    assert (product["length"], product["origin"]["source"]) == (2_000_000, "call")


def test_tools_take_handles_and_names_with_what_the_record_knows(user: User) -> None:
    conversation = user.begin()
    [record] = add(user, genbank(PLASMID), conversation_id=conversation)
    handle = record["handle"]
    digest = run(user, "restriction_digest", conversation, sequence="pMade", enzymes=["EcoRI", "BamHI"])
    assert (digest["arguments"]["sequence"], digest["arguments"]["topology"]) == (handle, "circular")
    assert [each["length"] for each in digest["result"]["fragments"]] == [506, 506]
    given: dict[str, Any] = digest["inputs"][0]
    assert (given["sequence_id"], given["origin"], given["cleaned"]) == (record["id"], FROM_FILE, [])
    assert (given["name"], given["length"], given["sha256"]) == ("pMade", record["length"], record["sha256"])
    products = listed(user, conversation_id=conversation)[:2]
    assert [each["origin"] for each in products] == [{**FROM_FILE, "source": "call", "id": digest["id"]}] * 2
    shown = json.loads(digest["shown"])["fragments"]
    assert [each["sequence"] for each in shown] == [f"{each['handle']} (506 nt)" for each in products[::-1]]
    assert digest["line"].count("seq_") == 2
    gene = run(user, "extract", sequence=handle, feature="gene1")
    assert gene["result"]["letters"] == PLASMID[500:800][::-1].translate(str.maketrans("ACGT", "TGCA"))
    described = run(user, "describe_sequence", sequence=f" {handle.upper()} ")["result"]
    assert (described["topology"], described["features_total"], described["features"][1]["name"]) == (
        "circular", 2, "gene1",
    )  # fmt: skip
    unknown = run(user, "gc_content", sequence=f"seq_{record['id'] + 10_000}")
    assert (unknown["state"], unknown["error"]) == ("refused", "unknown-handle")
    missing = run(user, "extract", sequence=handle, feature="gene7")
    assert "CDS gene0 at 1..300" in missing["result"]["detail"]


def test_a_stored_sequence_is_what_its_record_says(user: User) -> None:
    [primer] = add(user, "GAYTGGTTYCARYTNATHMGN", name="degenerate", molecule="DNA")
    assert run(user, "gc_content", sequence=primer["handle"])["result"]["ambiguous"] == 8
    [dna] = add(user, "ATGGCCGGATCC", name="cds")
    [peptide] = add(user, "GATTACA", name="peptide", molecule="protein")
    for tool, record, arguments, error, detail in (
        ("protein_properties", dna, {}, "not-a-protein-sequence", "is stored as DNA. Translate it"),
        ("molecular_weight", dna, {"molecule": "protein"}, "not-a-protein-sequence", "is stored as DNA"),
        ("gc_content", peptide, {}, "not-a-nucleotide-sequence", "is stored as a protein"),
        ("restriction_sites", peptide, {"enzymes": ["EcoRI"]}, "not-a-nucleotide-sequence", "is stored as a protein"),
    ):
        result = run(user, tool, sequence=record["handle"], **arguments)["result"]
        assert (result["error"], detail in result["detail"]) == (error, True), result
    assert run(user, "protein_properties", sequence=peptide["handle"])["result"]["length"] == 7


def test_a_call_is_verified_until_its_sequence_is_deleted(user: User) -> None:
    [record] = add(user, ">one\nGGCCA")
    call = run(user, "gc_content", sequence=record["handle"])
    verified = user.http.post("/chat/verifyToolCall/", json={"id": call["id"]})
    assert verified.json()["equal"] is True
    user.http.post("/chat/deleteSequence/", json={"sequence_id": record["id"]})
    gone = problem(user.http.post("/chat/verifyToolCall/", json={"id": call["id"]}), 409)
    assert gone["type"].endswith("input-gone")
    assert record["sha256"] in gone["detail"]


def test_a_genome_is_asked_about_and_answered_through_a_model_that_never_sees_it(
    user: User, provider: ScriptedProvider
) -> None:
    letters = "".join(random.Random(16).choices("ACGT", k=580_000))
    conversation, _ = user.begin(), user.add_key()
    [record] = add(user, genbank(letters, "genome", genes=1_100), conversation_id=conversation)
    handle = record["handle"]
    asked = [
        ("gc_content", json.dumps({"sequence": handle})),
        ("extract", json.dumps({"sequence": "genome", "feature": "gene3"})),
        ("restriction_digest", json.dumps({"sequence": handle, "enzymes": ["EcoRI"]})),
        ("pairwise_align", json.dumps({"a": handle, "b": handle})),
    ]
    provider.script(call_tools(asked), answer("It is about half."), answer("As I said."))
    text = user.ask(conversation, "How much GC has it?", sequence_ids=[record["id"]]).text
    percent = f"{100 * sum(map(letters.count, 'GC')) / len(letters):.2f} %"
    assert f"**{percent}**" in text
    calls = user.http.get("/chat/getToolCalls/", params={"conversation_id": conversation}).json()
    assert [each["state"] for each in calls] == ["done", "done", "done", "refused"]
    assert calls[0]["inputs"][0]["origin"] == FROM_FILE
    user.ask(conversation, "Are you sure?")
    label = f'[{handle} "genome": DNA, circular, 580,000 nt, 1,100 features]'
    assert label in provider.requests[0].body["messages"][-1]["content"]
    assert any(label in str(each["content"]) for each in provider.requests[-1].body["messages"])
    assert len(provider.requests) == 3
    windows = {letters[index : index + 30] for index in range(len(letters) - 29)}
    sent = "".join(json.dumps(request.body).upper() for request in provider.requests)
    product = read(user, record["id"], start=1501, end=1800).json()["letters"]
    assert not any(sent[index : index + 30] in windows for index in range(len(sent) - 29))
    assert not letters_sent(provider, product)


def test_what_is_pasted_is_a_sequence_and_the_message_stays(user: User, provider: ScriptedProvider) -> None:
    conversation, _ = user.begin(), user.add_key()
    short, long = PLASMID[:90], "".join(random.Random(5).choices("ACGT", k=1_842))
    question = f"Compare {short} with this:\n>long one\n{long}\nThanks."
    provider.script(answer("Yes."), answer("Again."))
    user.ask(conversation, question)
    user.ask(conversation, "And now?")
    newest, pasted = listed(user, conversation_id=conversation)
    message = user.http.get("/chat/getConversation/", params={"conversation_id": conversation}).json()["messages"][1]
    assert message["content"] == question
    origin = newest["origin"]
    assert origin["source"] == "message"
    assert question[origin["start"] : origin["end"]] == f">long one\n{long}"
    assert (pasted["length"], newest["name"], newest["length"]) == (90, "long", 1_842)
    told = (
        f'Compare {short} = {pasted["handle"]} with this:\n[{newest["handle"]} "long": DNA, linear, 1,842 nt]\nThanks.'
    )
    for request in provider.requests:
        assert request.body["messages"][1]["content"] == told
    user.http.post("/chat/deleteConversation/", json={"conversation_id": conversation})
    assert listed(user) == []


@pytest.mark.parametrize("count", [1_030])
@once
def test_a_long_list_of_sequences_is_whole(user: User, count: int) -> None:
    for first in (0, 1_000):
        add(user, "".join(f">s{n}\n{'A' * n}\n" for n in range(first + 1, min(first + 1_000, count) + 1)))
    assert [each["length"] for each in listed(user)] == list(range(count, 0, -1))
    refused = user.http.post("/chat/addSequences/", json={"content": ">x\nAC\n" * 1_001})
    assert problem(refused, 400)["type"].endswith("too-many-records")
