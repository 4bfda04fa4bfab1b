"""Records of tools' calls: what is kept and shown, the line in the answer, and where inputs come from."""

import hashlib
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baio_domain.entities import CallInput, CallState, InputOrigin, InputSource, Message, Role, ToolCall
from baio_domain.sequences import cleaned_letters
from baio_domain.tool_records import (
    MAX_ARGUMENT_BYTES,
    MAX_SEARCHED,
    MAX_SHOWN,
    ended_call,
    find_origin,
    is_quoted,
    letters_of,
    line_of,
    read_arguments,
    shown_result,
)
from baio_domain.tools import ToolInput, ToolOutcome, ToolRefused, ToolState, canonical_json, error_result
from tests.unit.world import START

BY_MODEL = InputOrigin(InputSource.MODEL)


# -- Arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", ['{"a": 1}', ' {"a":1}\n', '"{\\"a\\": 1}"'])
def test_arguments_are_an_object_of_json_even_if_it_is_written_as_text(raw: str) -> None:
    assert read_arguments(raw) == {"a": 1}


def test_no_text_is_no_arguments() -> None:
    assert read_arguments(" ") == {}


@pytest.mark.parametrize(
    "raw",
    [
        "[1]",
        "1",
        "null",
        "{",
        '"x"',
        "[" * 20_000,
        '{"a":' * 40 + "1" + "}" * 40,
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": 1}{"a": 1}',
    ],
)
def test_other_text_is_refused(raw: str) -> None:
    with pytest.raises(ToolRefused, match="bad-arguments"):
        read_arguments(raw)


def test_arguments_have_at_most_64_kib() -> None:
    frame = len('{"a":""}')
    assert read_arguments('{"a":"%s"}' % ("x" * (MAX_ARGUMENT_BYTES - frame)))
    with pytest.raises(ToolRefused, match="too-long"):
        read_arguments('{"a":"%s"}' % ("x" * (MAX_ARGUMENT_BYTES - frame + 1)))


# -- What is kept ------------------------------------------------------------------------------------------------------


def test_the_hash_is_that_of_the_result_as_it_is_kept() -> None:
    ended = ended_call(ToolOutcome(ToolState.DONE, {"b": None, "a": "\ud800"}, {"z": 1.0, "a": "\N{DNA DOUBLE HELIX}"}))
    assert ended.result == '{"a":"\N{DNA DOUBLE HELIX}","z":1.0}'
    assert ended.result_sha256 == hashlib.sha256(ended.result.encode()).hexdigest()
    assert ended.arguments == '{"a":"\ufffd","b":null}'
    assert (ended.state, ended.error) == (CallState.DONE, None)


@pytest.mark.parametrize(
    ("state", "kept"), [("refused", "refused"), ("failed", "failed"), ("busy", "failed"), ("cancelled", "cancelled")]
)
def test_a_call_that_is_not_done_keeps_its_error(state: str, kept: str) -> None:
    ended = ended_call(ToolOutcome(ToolState(state), {}, error_result("slug", "detail")))
    assert (ended.state, ended.error) == (CallState(kept), "slug")


# -- What is shown -----------------------------------------------------------------------------------------------------


def test_a_short_result_is_shown_whole() -> None:
    assert shown_result({"b": [1, 2], "a": "x"}) == '{"a":"x","b":[1,2]}'


def test_of_a_long_result_lists_and_texts_show_their_beginning_and_how_long_they_are() -> None:
    shown = json.loads(
        shown_result({"count": 5000, "hits": [{"start": n} for n in range(5000)], "sequence": "ACGT" * 999})
    )
    assert shown["count"] == 5000
    assert shown["hits"]["total"] == 5000
    assert shown["hits"]["first"][:2] == [{"start": 0}, {"start": 1}]
    assert shown["sequence"] == {"first": ("ACGT" * 999)[: len(shown["sequence"]["first"])], "total": 3996}


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=3000),
    lambda inner: st.lists(inner, max_size=300) | st.dictionaries(st.text(max_size=50), inner, max_size=200),
    max_leaves=50,
)


@settings(max_examples=30)
@given(st.dictionaries(st.text(), JSON))
def test_every_result_is_shown_as_json_that_is_short_enough(result: dict[str, Any]) -> None:
    shown = shown_result(result)
    assert len(shown) <= MAX_SHOWN
    json.loads(shown)


def test_a_result_with_too_many_names_is_shown_as_an_error() -> None:
    assert json.loads(shown_result({str(number): 1 for number in range(5000)}))["error"] == "too-long"


# -- The line ----------------------------------------------------------------------------------------------------------


def call(**fields: Any) -> ToolCall:
    """A call that is done."""
    given: dict[str, Any] = {
        "id": 41, "user_id": 1, "conversation_id": 1, "answer_id": 7, "round": 1, "tool": "gc_content", "version": "1",
        "library": "Biopython 1.88", "definition": "", "raw_arguments": "{}", "offset": 0, "started_at": START,
        "state": CallState.DONE, "line": "GC content of pUC19 (2,686 nt): **50.67 %** (1,361 of 2,686)",
    }  # fmt: skip
    return ToolCall(**(given | fields))


def test_the_line_names_the_value_and_how_to_cite_it() -> None:
    assert line_of(call()) == (
        "> GC content of pUC19 (2,686 nt): **50.67 %** (1,361 of 2,686). gc_content 1, Biopython 1.88 [call 41]"
    )
    assert line_of(call(library="")).endswith(". gc_content 1 [call 41]")


def test_the_line_says_when_the_model_wrote_a_sequence_itself() -> None:
    written = CallInput("sequence", None, 4, "ab", (), BY_MODEL)
    assert ". The model wrote this sequence itself. gc_content 1" in line_of(call(inputs=(written,)))


def test_the_line_of_a_call_without_a_value_says_what_to_do() -> None:
    refused = call(state=CallState.REFUSED, line="", result=canonical_json(error_result("gaps", "Give no gaps.")))
    assert line_of(refused) == "> gc_content has no result: Give no gaps. gc_content 1, Biopython 1.88 [call 41]"


@pytest.mark.parametrize(
    ("line", "text", "quoted"),
    [
        ("GC: **50.67 %** (1,361 of 2,686)", "It is 50.67%.", True),
        ("GC: **50.67 %**", "It is 150.67 %.", False),
        ("Length: **640 nt**", "It has 6640 nt.", False),
        ("Length: **2,686 nt**", "It has 2686 nt.", True),
        ("Length: **2686 nt**", "It has 2,686, and more.", True),
        ("Cuts: **3** of **4**", "3 cuts", False),
        ("Cuts: **3** of **4**", "3 of 4 cuts", True),
        ("Site: **GAATTC**", "the site gaattc", True),
        ("No value", "No value", False),
    ],
)
def test_a_value_is_quoted_if_its_numbers_are(line: str, text: str, quoted: bool) -> None:  # noqa: FBT001 - a case
    assert is_quoted(line, text) is quoted


# -- Origins -----------------------------------------------------------------------------------------------------------


def message(number: int, content: str, role: Role = Role.USER) -> Message:
    return Message(number, 1, role, content, START)


def origin(letters: str, *contents: str, results: tuple[tuple[int, str], ...] = ()) -> InputOrigin:
    """Where the letters are found in a conversation, whose first message is the newest."""
    return find_origin(letters, [message(9 - place, content) for place, content in enumerate(contents)], results)


@pytest.mark.parametrize(
    "content",
    [
        "GC of acgttgcaacgtacgt please",
        "GC of\n>name\nACGTTGCA\nACGTACGT\nplease",
        "        1 acgttgcaac gtacgt\n//",
        "xxACGTTGCAACGTACGTxx",
        "\N{LATIN SMALL LIGATURE FI}\N{LATIN SMALL LETTER SHARP S} ACGTTGCAACGTACGT",
    ],
)
def test_letters_are_found_however_they_were_written(content: str) -> None:
    found = origin("ACGTTGCAACGTACGT", "Thanks.", content)
    assert (found.source, found.id) == (InputSource.MESSAGE, 8)
    assert cleaned_letters(content[found.start : found.end]) == "ACGTTGCAACGTACGT"


def test_the_newest_message_comes_first_and_messages_come_before_results() -> None:
    letters = "ACGTTGCAACGT"
    results = ((40, '{"sequence":"ACGTTGCAACGT"}'), (39, '{"sequence":"ACGTTGCAACGT"}'))
    assert origin(letters, letters, letters, results=results) == InputOrigin(InputSource.MESSAGE, 9, 0, 12)
    assert origin(letters, "no", results=results) == InputOrigin(InputSource.CALL, 40)
    assert origin(letters, "no", results=((40, "{}"),)) == BY_MODEL


def test_what_somebody_else_said_is_no_origin() -> None:
    said = [message(1, "ACGTTGCAACGT", Role.BAIO), message(2, "ACGTTGCAACGT", Role.SYSTEM)]
    assert find_origin("ACGTTGCAACGT", said, ()) == BY_MODEL


@pytest.mark.parametrize(("content", "found"), [("catalyst", False), ("the CAT", True), ("what a cat, a catcat", True)])
def test_few_letters_are_found_only_as_a_word(content: str, found: bool) -> None:  # noqa: FBT001 - a case
    assert (origin("CAT", content) != BY_MODEL) is found


def test_no_letters_come_from_nowhere() -> None:
    assert origin("", "text") == BY_MODEL


def test_only_so_much_of_a_long_conversation_is_read() -> None:
    read = []

    def messages() -> Any:  # noqa: ANN401 - an iterator
        for number in range(100, 0, -1):
            read.append(number)
            yield message(number, "ACGTTGCA " * 50_000, Role.BAIO)

    assert find_origin("TTTTTTTTTTTT", messages(), ((n, "x" * 500_000) for n in range(100))) == BY_MODEL
    assert len(read) == MAX_SEARCHED // 450_000 + 1


def test_an_unkind_message_takes_no_longer_than_its_length_allows() -> None:
    begin = time.process_time()
    for letters in ("AA", "AAAAAAAAAAA", "A" * 60_000 + "C"):
        assert origin(letters, "A" * 1_000_000 + "B") == BY_MODEL
        assert origin(letters, "xA " * 500_000 + "B") == BY_MODEL
    assert time.process_time() - begin < 20


def test_letters_are_those_that_the_tool_has_cleaned() -> None:
    item = ToolInput("sequence", "x", 4, hashlib.sha256(b"ACGT").hexdigest())
    for argument in (">x\nac gt", "ACGT*", " acgt "):
        assert letters_of(item, {"sequence": argument}) == "ACGT"
    assert letters_of(item, {"sequence": 1}) is None
    assert letters_of(item, {}) is None


def test_letters_that_a_labs_tool_cleans_in_another_way_are_cleaned_in_baios() -> None:
    item = ToolInput("sequence", "x", 4, hashlib.sha256(b"acgt").hexdigest())
    assert letters_of(item, {"sequence": "a c-g\nt"}) == "AC-GT"


def test_a_protein_that_the_user_gave_with_its_stop_sign_is_the_users() -> None:
    protein = "MKVSTAGRNDHW"
    item = ToolInput("sequence", None, len(protein), hashlib.sha256(protein.encode()).hexdigest(), ("stop",))
    letters = letters_of(item, {"sequence": f"{protein}*"})
    assert letters is not None
    message = Message(7, 1, Role.USER, f"Its mass: {protein}*", START)
    assert find_origin(letters, [message], []) == InputOrigin(InputSource.MESSAGE, 7, 10, 22)
