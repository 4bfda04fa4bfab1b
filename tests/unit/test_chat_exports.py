"""Reading exports of chat services, and the files that only look like one."""

import asyncio
import contextlib
import io
import json
import zipfile
from datetime import UTC, datetime
from typing import Any

import pytest

from baio_adapters.chat_exports import MAX_PARTS, QUICK_PARTS, FileReader, digest_of, threads_in
from baio_adapters.chat_exports.json_items import MAX_ITEM_BYTES, PIECE_BYTES, TooLong, items
from baio_adapters.chat_exports.trees import MAX_BRANCHES
from baio_adapters.chat_exports.values import time_of
from baio_domain.entities import AnswerState, Role
from baio_domain.errors import InvalidInput
from baio_domain.ports import ExportedThread, UnreadableThread

Node = dict[str, Any]


def read(document: Any) -> list[ExportedThread | UnreadableThread]:  # noqa: ANN401 - whatever JSON has
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return list(threads_in(io.BytesIO(raw)))


def threads(document: Any) -> list[ExportedThread]:  # noqa: ANN401 - as above
    found = read(document)
    assert all(isinstance(each, ExportedThread) for each in found), found
    return found  # type: ignore[return-value]


def said(thread: ExportedThread | UnreadableThread) -> list[tuple[str, str]]:
    assert isinstance(thread, ExportedThread), thread
    return [(each.role.value, each.content) for each in thread.messages]


def reasons(document: Any) -> list[str]:  # noqa: ANN401 - as above
    return [each.reason for each in read(document) if isinstance(each, UnreadableThread)]


def refusal(raw: bytes) -> str:
    with pytest.raises(InvalidInput) as refused:
        read(raw)
    [error] = refused.value.errors
    assert error.field == "file"
    return error.message


# -- ChatGPT -----------------------------------------------------------------------------------------------------------


def node(name: str, parent: str | None, role: str = "user", text: str | None = None, **more: Any) -> dict[str, Node]:
    message = {
        "id": name, "author": {"role": role, "name": None, "metadata": {}}, "create_time": more.pop("at", None),
        "content": {"content_type": "text", "parts": [name if text is None else text]},
        "status": "finished_successfully", "end_turn": None, "weight": 1.0, "metadata": {}, "recipient": "all",
    }  # fmt: skip
    return {name: {"id": name, "message": {**message, **more}, "parent": parent, "children": []}}


ROOT = {"root": {"id": "root", "message": None, "parent": None, "children": ["q1"]}}


def chat(*nodes: dict[str, Node], current: str | None = None, **fields: Any) -> Node:
    mapping: dict[str, Node] = dict(ROOT)
    for each in nodes:
        mapping |= each
    return {
        "title": "Codons", "create_time": 1700000000.5, "update_time": 1700000009.0, "mapping": mapping,
        "current_node": current, "conversation_id": "6b1", "default_model_slug": None, **fields,
    }  # fmt: skip


TALK = (
    node("q1", "root", at=1700000001.0),
    node("a1", "q1", "assistant", at=1700000002.25, metadata={"model_slug": "gpt-4o"}),
)


def test_a_conversation_of_chatgpt_keeps_order_times_and_model() -> None:
    [thread] = threads([chat(*TALK, current="a1")])
    assert (thread.source, thread.title, thread.branch) == ("ChatGPT", "Codons", 0)
    assert thread.created_at == datetime(2023, 11, 14, 22, 13, 20, 500_000, UTC)
    assert said(thread) == [("user", "q1"), ("baio", "a1")]
    assert [each.model for each in thread.messages] == [None, "gpt-4o"]
    assert thread.messages[1].created_at == datetime(2023, 11, 14, 22, 13, 22, 250_000, UTC)


def test_what_is_shown_comes_first_and_the_other_branches_newest_first() -> None:
    nodes = (
        *TALK,
        node("a1b", "q1", "assistant", at=1700000003.0),
        node("q2", "a1b", at=1700000004.0),
        node("a2", "q2", "assistant", at=1700000005.0),
        node("q2 changed", "a1b", at=1700000006.0),
    )
    found = threads([chat(*nodes, current="a1")])
    assert [[each.content for each in thread.messages] for thread in found] == [
        ["q1", "a1"], ["q1", "a1b", "q2 changed"], ["q1", "a1b", "q2", "a2"],
    ]  # fmt: skip
    assert [thread.branch for thread in found] == [0, 1, 2]
    # Without a current node, or with one that is not there, the newest end is shown.
    for current in (None, "gone", 7):
        assert [each.content for each in threads([chat(*nodes, current=current)])[0].messages][-1] == "q2 changed"  # type: ignore[arg-type]


def test_a_branch_that_shows_nothing_else_is_no_conversation() -> None:
    nodes = (*TALK, node("failed", "q1", "assistant", ""), node("note", "a1", "system"), node("tool", "a1", "tool"))
    assert [said(each) for each in threads([chat(*nodes, current="a1")])] == [[("user", "q1"), ("baio", "a1")]]


def test_what_chatgpt_does_not_show_is_left_out_and_what_follows_it_is_not() -> None:
    hidden = {"is_visually_hidden_from_conversation": True}
    nodes = (
        node(
            "profile", "root", content={"content_type": "user_editable_context", "user_profile": "{}"}, metadata=hidden
        ),
        node("hidden", "profile", metadata=hidden),
        node("system", "hidden", "system", metadata={"is_user_system_message": True}),
        node("q1", "system"),
        node("thoughts", "q1", "assistant", content={"content_type": "thoughts", "thoughts": [{"content": "Hm"}]}),
        node("search", "thoughts", "assistant", recipient="web", content={"content_type": "code", "text": "search()"}),
        node("result", "search", "tool", content={"content_type": "execution_output", "text": "42"}),
        node("recap", "result", "assistant", content={"content_type": "reasoning_recap", "content": "5 s"}),
        node("draft", "recap", "assistant", weight=0.0),
        node("a1", "draft", "assistant", "See\ue200cite\ue202turn0search1\ue201 there."),
    )
    [thread] = threads([chat(*nodes, current="a1")])
    assert said(thread) == [("user", "q1"), ("baio", "See there.")]


def test_parts_that_are_no_text_are_named() -> None:
    parts = [
        {"content_type": "image_asset_pointer", "asset_pointer": "file-service://f1", "width": 1},
        {"content_type": "audio_transcription", "text": "spoken", "direction": "in"},
        {"content_type": "audio_asset_pointer"}, None, "", 7, "What is this?",
    ]  # fmt: skip
    attached = {"attachments": [{"id": "f1", "name": "gel.png"}, {}, None]}
    nodes = (
        node("q1", "root", content={"content_type": "multimodal_text", "parts": parts}, metadata=attached),
        node("a1", "q1", "assistant", content={"content_type": "code", "language": "python", "text": "print(1)"}),
    )
    assert said(threads([chat(*nodes, current="a1")])[0]) == [
        ("user", "[image]\n\nspoken\n\nWhat is this?\n\n[attachment: gel.png]"), ("baio", "```\nprint(1)\n```"),
    ]  # fmt: skip


def canvas(call: object, to: str = "canmore.create_textdoc", **more: Any) -> Node:
    return {"recipient": to, "content": {"content_type": "text", "parts": [json.dumps(call)], **more}}


def test_documents_of_a_canvas_are_said() -> None:
    text = {"name": "Essay", "type": "document", "content": "# PCR\n\n\ue203Heat\ue204."}
    code = {"name": "tm", "type": "code/python", "content": "x = '```'"}
    in_code = {"content_type": "code", "language": "json", "text": json.dumps(code)}
    whole, part = ({"updates": [{"pattern": each, "replacement": "New."}]} for each in (".*", "Heat"))
    nodes = (
        node("q1", "root"),
        node("a1", "q1", "assistant", **canvas(text)),
        node("result", "a1", "tool", "Successfully created"),
        node("a2", "result", "assistant", recipient="canmore.create_textdoc", content=in_code),
        node("a3", "a2", "assistant", **canvas(whole, "canmore.update_textdoc")),
        node("a4", "a3", "assistant", **canvas(part, "canmore.update_textdoc")),
        node("a5", "a4", "assistant", **canvas("no JSON", parts=["[" * 100_000])),
        node("a6", "a5", "assistant", "Done."),
    )
    [thread] = threads([chat(*nodes, current="a6")])
    assert said(thread) == [
        ("user", "q1"), ("baio", "[document: Essay]\n\n# PCR\n\nHeat."),
        ("baio", "[document: tm]\n\n````\nx = '```'\n````"), ("baio", "[document]\n\nNew."), ("baio", "Done."),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("marked", "shown"),
    [
        ('by \ue200entity\ue202["people","Barbara McClintock",0]\ue201 on maize', "by Barbara McClintock on maize"),
        ('\ue200entity\ue202["gene"]\ue201a\ue200entity\ue202{\ue201b\ue200entity\ue202[0,1]\ue201', "ab"),
        ("see \ue200url\ue202NCBI\ue202https://ncbi.nlm.nih.gov\ue201.", "see [NCBI](https://ncbi.nlm.nih.gov)."),
        ("cut off \ue200cite\ue202turn0", "cut off "),
        ("a\ue200cite\ue202turn0search1\ue202turn0search2\ue201b", "ab"),
    ],
)
def test_names_and_links_in_marks_are_shown_and_sources_are_not(marked: str, shown: str) -> None:
    nodes = (node("q1", "root"), node("a1", "q1", "assistant", marked))
    assert said(threads([chat(*nodes, current="a1")])[0])[-1] == ("baio", shown)


def test_nodes_without_children_parents_metadata_or_message_are_read() -> None:
    slim: dict[str, Any] = {
        "root": {"id": "root", "message": None, "parent": None},
        "q1": {"message": {"author": {"role": "user"}, "content": {"parts": ["q1"]}}, "parent": "root"},
        "a1": {"message": {"author": {"role": "assistant"}, "content": {"parts": ["a1"]}}, "parent": "q1"},
        "odd": None, "odder": {"message": "text"},
    }  # fmt: skip
    [thread] = threads([{"mapping": slim, "default_model_slug": "gpt-5"}])
    assert (thread.title, thread.created_at, said(thread)) == ("", None, [("user", "q1"), ("baio", "a1")])
    assert thread.messages[1].model == "gpt-5"
    by_children: Node = {name: {**each, "parent": None, "children": below} for (name, each), below in zip(
        [item for item in slim.items() if item[0] in ("root", "q1", "a1")], (["q1"], ["a1"], []), strict=True
    )}  # fmt: skip
    assert said(threads([{"mapping": by_children}])[0]) == [("user", "q1"), ("baio", "a1")]


def test_circles_and_orphans_end_where_they_begin() -> None:
    circle = (node("q1", "a1"), node("a1", "q1", "assistant"))
    assert said(threads([chat(*circle, current="a1")])[0]) == [("user", "q1"), ("baio", "a1")]
    itself = node("q1", "q1")
    assert said(threads([chat(itself, current="q1")])[0]) == [("user", "q1")]
    orphan = (*TALK, node("q9", "never was"), node("a9", "q9", "assistant"))
    assert [said(each) for each in threads([chat(*orphan, current="a1")])] == [
        [("user", "q1"), ("baio", "a1")], [("user", "q9"), ("baio", "a9")],
    ]  # fmt: skip


def test_of_very_many_branches_the_newest_are_read() -> None:
    nodes = [node(f"a{number}", "q1", "assistant", at=1700000002.0 + number) for number in range(MAX_BRANCHES + 30)]
    found = read([chat(TALK[0], *nodes, current="a0")])
    assert [each.title for each in found] == ["Codons"] * (MAX_BRANCHES + 2)
    assert said(found[1])[-1] == ("baio", f"a{MAX_BRANCHES + 29}")
    assert isinstance(found[-1], UnreadableThread)
    assert "branches" in found[-1].reason


# -- Claude ------------------------------------------------------------------------------------------------------------


def claude(*messages: Node, **fields: Any) -> Node:
    return {
        "uuid": "c1", "name": "Codons", "summary": "", "created_at": "2024-05-01T10:00:00.123456Z",
        "updated_at": "2024-05-01T10:00:09Z", "account": {"uuid": "x"}, "chat_messages": list(messages), **fields,
    }  # fmt: skip


def spoken(sender: str, text: str, *blocks: Node, **more: Any) -> Node:
    return {
        "uuid": text, "text": text, "content": list(blocks), "sender": sender, "attachments": [], "files": [],
        "created_at": "2024-05-01T10:00:01Z", "updated_at": "2024-05-01T10:00:01Z", **more,
    }  # fmt: skip


def block(text: str) -> Node:
    return {"start_timestamp": None, "type": "text", "text": text, "citations": []}


def test_a_conversation_of_claude_keeps_order_and_times() -> None:
    [thread] = threads([claude(spoken("human", "q1"), spoken("assistant", "a1", block("a1")))])
    assert (thread.source, thread.title, said(thread)) == ("Claude", "Codons", [("user", "q1"), ("baio", "a1")])
    assert thread.created_at == datetime(2024, 5, 1, 10, 0, 0, 123_456, UTC)
    assert thread.messages[0].created_at == datetime(2024, 5, 1, 10, 0, 1, tzinfo=UTC)
    assert thread.messages[1].model is None


def test_the_blocks_of_a_message_count_more_than_its_text() -> None:
    unsupported = "```\nThis block is not supported on your current device yet.\n```"
    tool = {"type": "tool_use", "name": "artifacts", "input": {}}
    messages = (
        spoken("human", "", block("q1"), attachments=[{"file_name": "seq.fa", "extracted_content": ">x\nACGT"}],
               files=[{"file_name": "gel.png"}]),
        spoken("assistant", unsupported, {"type": "thinking", "thinking": "Hm"}, block("one"), tool, block("two")),
        spoken("human", "q2"),
        spoken("assistant", unsupported, tool),
        spoken("system", "note"),
    )  # fmt: skip
    assert said(threads([claude(*messages)])[0]) == [
        ("user", "q1\n\n[attachment: seq.fa]\n>x\nACGT\n\n[attachment: gel.png]"),
        ("baio", "one\n\ntwo"), ("user", "q2"),
    ]  # fmt: skip


def artifact(command: str, content: object, kind: str = "text/markdown") -> Node:
    given = {"command": command, "title": "Essay", "type": kind, "content": content}
    return {"type": "tool_use", "name": "artifacts", "input": given}


def test_artifacts_and_voice_notes_of_claude_are_said() -> None:
    blocks = (
        block("Here:"), artifact("create", "# PCR"), {"type": "tool_result", "content": [block("OK")]},
        artifact("update", None), artifact("rewrite", "x = 1", "application/vnd.ant.code"), artifact("create", None),
        {"type": "tool_use", "name": "artifacts", "input": None}, {"type": "tool_use", "name": "bash", "input": {}},
    )  # fmt: skip
    messages = (
        spoken("human", "", {"type": "voice_note", "title": "t", "text": "spoken"}),
        spoken("assistant", "", *blocks),
        spoken("human", "", attachments=[{"file_name": "", "extracted_content": "pasted"}]),
    )
    assert said(threads([claude(*messages)])[0]) == [
        ("user", "spoken"),
        ("baio", "Here:\n\n[document: Essay]\n\n# PCR\n\n[document: Essay]\n\n```\nx = 1\n```"),
        ("user", "[attachment]\npasted"),
    ]  # fmt: skip


def test_a_tree_of_claude_has_branches() -> None:
    root = "00000000-0000-4000-8000-000000000000"
    messages = (
        spoken("human", "q1", parent_message_uuid=root),
        spoken("assistant", "a1", parent_message_uuid="q1"),
        spoken("human", "q1 changed", parent_message_uuid=root),
        spoken("assistant", "a1 changed", parent_message_uuid="q1 changed", model="claude-3"),
    )
    found = threads([claude(*messages, current_leaf_message_uuid="a1")])
    assert [[each.content for each in thread.messages] for thread in found] == [
        ["q1", "a1"], ["q1 changed", "a1 changed"],
    ]  # fmt: skip
    assert found[1].messages[1].model == "claude-3"


@pytest.mark.parametrize("messages", [[], [{}], [None, 7, "text"], [spoken("human", " \n")]])
def test_a_conversation_without_messages_is_skipped(messages: list[Any]) -> None:
    for document in (claude(*messages), chat(), {"messages": messages, "title": "Codons"}):
        [found] = read([document])
        assert found == UnreadableThread("Codons", "has no messages")


# -- BAiO --------------------------------------------------------------------------------------------------------------


def test_an_export_of_baio_keeps_models_states_and_the_system_message() -> None:
    time = "2024-01-15T10:0{}:00.000001Z"
    answer = {
        "id": 7,
        "state": "stopped",
        "requested_model": "gpt-4o",
        "model": "gpt-4o-2024",
        "ended_at": time.format(2),
    }
    conversation = {
        "id": 1, "title": "Codons", "created_at": time.format(0), "answers": [answer],
        "messages": [
            {"role": "system", "content": "Be brief.", "created_at": time.format(0)},
            {"role": "user", "content": "q1", "created_at": time.format(1)},
            {"role": "baio", "content": "a1", "created_at": time.format(2)},
        ],
    }  # fmt: skip
    document = {
        "account": {"username": "conversations", "x": ["{", '"']},
        "api_keys": [],
        "conversations": [conversation],
    }
    [thread] = threads({**document, "audit": [{"act": "signed-in"}]})
    assert (thread.source, thread.title, thread.system) == ("BAiO", "Codons", "Be brief.")
    assert thread.messages[1].model == "gpt-4o-2024"
    assert thread.messages[1].state is AnswerState.STOPPED
    assert [each.role for each in thread.messages] == [Role.USER, Role.BAIO]


# -- Files -------------------------------------------------------------------------------------------------------------


def archive(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name.replace("__", "/").replace("_json", ".json"), content)
    return packed.getvalue()


def test_an_archive_is_read_without_unpacking_it_first_numbered_files_in_their_order() -> None:
    one, two = (json.dumps([chat(*TALK, current="a1", title=name)]).encode() for name in ("One", "Two"))
    packed = archive(**{"conversations-001_json": two, "conversations-000_json": one, "chat.html": b"<html>"})
    assert [each.title for each in threads(packed)] == ["One", "Two"]
    assert [each.title for each in threads(archive(export__conversations_json=one, users_json=b"[]"))] == ["One"]


@pytest.mark.parametrize(
    "name",
    ["conversations (1).json", "conversations 2.json", "x/conversations--chunk-001.json", "x\\conversations.json"],
)
def test_an_archive_that_was_packed_again_is_read(name: str) -> None:
    talk = json.dumps([chat(*TALK, current="a1")]).encode()
    packed = io.BytesIO(archive(**{name: talk, "chat.html": b""}))
    with zipfile.ZipFile(packed, "a") as made:
        made.writestr("__MACOSX/conversations.json", b"\0\5\x16\7")
    assert [type(each) for each in read(packed.getvalue())] == [ExportedThread]


def test_one_broken_file_costs_no_other() -> None:
    good = json.dumps([chat(*TALK, current="a1")]).encode()
    packed = archive(**{"conversations-000_json": b"", "conversations-001_json": good, "conversations-002_json": b"x"})
    first, second, third = read(packed)
    assert isinstance(second, ExportedThread)
    assert [each.reason for each in (first, third) if isinstance(each, UnreadableThread)] == [
        "conversations-000.json is empty", "conversations-002.json is not a file of JSON with conversations",
    ]  # fmt: skip


def test_one_broken_conversation_costs_no_other() -> None:
    good = json.dumps(chat(*TALK, current="a1"))
    broken = ['{"title": "x", "mapping": {]}', "7", "null", '{"title": "Odd"}', "[[]]", '{"mapping": [], "title": 3}']
    deep = '{"title":"deep","mapping":' + "[" * 200_000 + "]" * 200_000 + "}"
    found = read(f"[{good}, {', '.join([*broken, deep])}, {good}]".encode())
    assert [isinstance(each, ExportedThread) for each in found] == [True, *[False] * (len(found) - 2), True]
    assert {each.reason for each in found if isinstance(each, UnreadableThread)} == {
        "is not valid JSON", "is no conversation of a known export",
    }  # fmt: skip


def test_a_conversation_of_very_many_values_is_read_patiently_or_not_at_all() -> None:
    many = chat(*TALK, current="a1", plugins=[[], "a", 1.5, None, {"b": True}] * (QUICK_PARTS // 4))
    assert [said(each) for each in threads([many])] == [[("user", "q1"), ("baio", "a1")]]
    assert reasons(b'[{"mapping": [' + b"1," * QUICK_PARTS + b"]}]") == ["is not valid JSON"]
    assert reasons(b"[[" + b"0," * MAX_PARTS + b"1,2]]") == ["has more than 500,000 parts"]


def test_text_that_no_database_holds_is_made_such() -> None:
    document = json.dumps([chat(node("q1", "root", text="a\0b\ud800c \N{DNA DOUBLE HELIX}"), title="T\0\n x" * 100)])
    [thread] = threads(document.encode())
    assert thread.messages[0].content == "a\ufffdb\ufffdc \N{DNA DOUBLE HELIX}"
    assert len(thread.title) <= 255
    assert "\n" not in thread.title


def test_what_is_no_export_is_refused() -> None:
    for raw in (b"", b" \n", b"%PDF-1.7", b'"text"', b"\x00" * 10, b"<html>"):
        assert refusal(raw) in {"is empty", "is not a file of JSON with conversations"}
    assert read([]) == []
    assert reasons({}) == ["is no conversation of a known export"]
    assert reasons({"conversations": [{}]}) == ["is no conversation of a known export"]
    assert reasons(b"[{") == reasons(b'[{"title": "x') == reasons(b'{"a": 1') == [
        "is incomplete: the file ends in the middle"
    ]  # fmt: skip


def test_archives_that_are_none_are_refused() -> None:
    whole = archive(conversations_json=json.dumps([chat(*TALK)]).encode())
    assert "damaged" in refusal(whole[:-10])
    assert "damaged" in refusal(b"PK\x03\x04" + b"x" * 100)
    assert "no conversations.json" in refusal(archive(users_json=b"[]"))
    many = bytearray(whole)
    many[-10:-6] = (9_000_000).to_bytes(4, "little")  # the size of the list of files
    assert "too large an archive" in refusal(bytes(many))
    assert "too large an archive" in refusal(whole[:-22] + b"PK\x06\x07" + bytes(16) + whole[-22:])


def test_a_bomb_is_judged_by_its_size_before_it_is_unpacked() -> None:
    small = archive(conversations_json=b"[]" + b" " * 100_000)
    at = small.rfind(b"PK\x01\x02")
    bomb = bytearray(small)
    bomb[at + 24 : at + 28] = (2**32 - 2).to_bytes(4, "little")
    assert "more than 1,073,741,824 bytes" in refusal(bytes(bomb))


def test_a_damaged_member_ends_where_it_is_damaged() -> None:
    packed = bytearray(
        archive(conversations_json=json.dumps([chat(*TALK, title=str(n)) for n in range(2_000)]).encode())
    )
    packed[len(packed) // 2] ^= 0xFF
    found = read(bytes(packed))
    assert isinstance(found[0], ExportedThread)
    assert isinstance(found[-1], UnreadableThread)


class Counting(io.BytesIO):
    largest = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.largest = max(self.largest, size or 0)
        return super().read(size)


def test_a_conversation_that_is_too_long_is_skipped_and_never_held() -> None:
    long = b'{"mapping": {}, "title": "' + b"x" * (MAX_ITEM_BYTES + PIECE_BYTES) + b'"}'
    file = Counting(b"[" + long + b', {"a": 1}]')
    found = list(items(file))
    assert found == [TooLong(), b'{"a": 1}']
    assert file.largest == PIECE_BYTES
    assert list(items(io.BytesIO(long))) == [TooLong()]


@pytest.mark.parametrize("before", range(PIECE_BYTES - 12, PIECE_BYTES + 2))
def test_nothing_depends_on_where_a_piece_of_the_file_ends(before: int) -> None:
    first = '{"a": "' + "x" * before + '"}'
    second = '{"\\\\": "]}\\"[", "b": [{}, "\\u0041", "\\\\"]}'
    expected = [first.encode(), second.encode()]
    assert list(items(io.BytesIO(f"[{first},{second}]".encode()))) == expected
    assert list(items(io.BytesIO(f'{{"conversations": [{first},{second}], "x": []}}'.encode()))) == expected
    assert list(items(io.BytesIO(b"\xef\xbb\xbf \n" + f"[{second}]".encode()))) == expected[1:]


@pytest.mark.parametrize(
    "value", [None, True, "soon", "", float("nan"), float("inf"), -1e300, 10**400, -1, "0001-01-01T00:00:00Z", [], {}]
)
def test_what_is_no_time_is_none(value: object) -> None:
    assert time_of(value) is None


@pytest.mark.parametrize(
    "value", [1700000000, 1700000000.0, 1700000000000, "2023-11-14T22:13:20Z", "2023-11-14T22:13:20"]
)
def test_times_are_read_in_every_form(value: object) -> None:
    assert time_of(value) == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


class Noting(io.BytesIO):
    """A file that notes whether it is read on an event loop."""

    on_loop = False

    def read(self, size: int | None = -1, /) -> bytes:
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop()
            self.on_loop = True
        return super().read(size)


def test_the_event_loop_goes_on_while_a_file_is_read() -> None:
    file = Noting(json.dumps([chat(*TALK, current="a1")] * 3).encode())

    async def look() -> tuple[str, int]:
        reader = FileReader()
        return await reader.digest(file), len([each async for each in reader.read(file)])

    with asyncio.Runner() as runner:
        assert runner.run(look()) == (digest_of(file), 3)
    assert not file.on_loop
