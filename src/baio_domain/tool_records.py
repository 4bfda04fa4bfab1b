"""The records of tool calls: their contents, the origin of their inputs, and the line about each call.

Everything here is a pure function. ``baio_domain.tool_runs`` runs tools and stores the records.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from baio_domain.entities import (
    CallInput,
    CallState,
    EndedCall,
    InputOrigin,
    InputSource,
    Message,
    Role,
    ToolCall,
)
from baio_domain.sequences import cleaned_letters
from baio_domain.text import storable
from baio_domain.tools import (
    MAX_SHOWN_LETTERS,
    Place,
    ToolInput,
    ToolOutcome,
    ToolRefused,
    ToolState,
    canonical_json,
    canonical_sha256,
    error_result,
)

MAX_ARGUMENT_BYTES = 64 * 1024
"""The longest arguments of a call, as they are sent."""

MAX_DEPTH = 32
"""How deep arguments may be nested: what can be read can then be written, too."""

MAX_SHOWN = 4_000
"""Characters of a result that a model gets to read."""

MAX_SEARCHED = 2_000_000
"""Characters of a conversation that are searched for the origin of inputs, from the newest message back."""

MAX_NAMED = 5
"""Products that a headline names by their handles."""

WHOLE_WORD_LENGTH = 12
"""Letters of the shortest sequence that may be a part of a word: "CAT" in "catalyst" does not count."""

_STATES: Mapping[ToolState, CallState] = {
    ToolState.DONE: CallState.DONE,
    ToolState.REFUSED: CallState.REFUSED,
    ToolState.FAILED: CallState.FAILED,
    ToolState.BUSY: CallState.FAILED,
    ToolState.CANCELLED: CallState.CANCELLED,
}


def read_arguments(raw: str) -> dict[str, object]:
    """The arguments of a call from the text that was sent: an object of JSON, or nothing for none.

    Text that holds such an object as JSON text, as some models write it, is read as well. Raises ToolRefused with
    ``bad-arguments`` or ``too-long``. Numbers that JSON has not, and deep nesting, are bad arguments.
    """
    if len(raw.encode(errors="replace")) > MAX_ARGUMENT_BYTES:
        raise ToolRefused("too-long", f"The arguments are longer than {MAX_ARGUMENT_BYTES:,} bytes. Give shorter ones.")
    try:
        value = json.loads(raw) if raw.strip() else {}
        if isinstance(value, str):
            value = json.loads(value)
        if depth_of(value) > MAX_DEPTH:
            raise ToolRefused("bad-arguments", f"The arguments are nested deeper than {MAX_DEPTH} levels.")
        canonical_json(value)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ToolRefused("bad-arguments", "The arguments are not an object of JSON. Send one, such as {}.")
    return value


def readable_arguments(raw: str) -> str:
    """The arguments of a call as a request to a provider repeats them: ``{}`` where the model's own can't be read."""
    try:
        return canonical_json(read_arguments(raw))
    except ToolRefused:
        return "{}"


def depth_of(value: object) -> int:
    """How many levels of objects and lists of JSON there are, and one for what they hold."""
    level, depth = [value], 0
    while level:
        depth += 1
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each if isinstance(each, list) else ())
        ]
    return depth


def refused(error: ToolRefused) -> ToolOutcome:
    """The outcome of a call whose arguments can't be read."""
    return ToolOutcome(ToolState.REFUSED, {}, error_result(error.error, error.detail))


NO_HANDLES: Mapping[Place, str] = {}


def ended_call(
    outcome: ToolOutcome, inputs: Iterable[CallInput] = (), length: int = 0, handles: Mapping[Place, str] = NO_HANDLES
) -> EndedCall:
    """What is kept of a call that ended. ``length`` is that of the line about it in the answer's text.

    ``handles`` are the stored products, by their places in the result.
    """
    inputs = tuple(inputs)
    error = None if outcome.state is ToolState.DONE else str(outcome.result["error"])
    result = storable(canonical_json(outcome.result))
    shown = _without_long_texts(outcome.result) if any(each.sequence_id for each in inputs) else outcome.result
    return EndedCall(
        _STATES[outcome.state],
        storable(canonical_json(outcome.arguments)),
        inputs,
        result,
        hashlib.sha256(result.encode()).hexdigest(),
        shown_result(shown, handles),
        error,
        " ".join(storable(outcome.line + _stored_as(list(handles.values()))).split()),
        length,
    )


_CANCELLED = error_result("cancelled", "The answer ended before this call did.")
CANCELLED = EndedCall(
    CallState.CANCELLED,
    None,
    (),
    canonical_json(_CANCELLED),
    canonical_sha256(_CANCELLED),
    canonical_json(_CANCELLED),
    "cancelled",
)
"""How a call ends that still runs when its answer ends."""


# -- What a model gets to read -----------------------------------------------------------------------------------------


_ROOM = ((200, 2_000), (100, 1_000), (50, 500), (20, 200), (10, 100), (5, 50), (2, 20), (0, 10))
"""How many items of lists and letters of texts are kept, as many as fit."""


def shown_result(result: Mapping[str, object], handles: Mapping[Place, str] = NO_HANDLES) -> str:
    """A result as JSON of at most ``MAX_SHOWN`` characters, with the handles of stored products in their places.

    Where it is longer, lists become ``{"first": the first items, "total": how many there are}``, and so do long texts.
    """
    if handles:
        result = _with_handles(result, handles)
    whole = storable(canonical_json(result))
    if len(whole) <= MAX_SHOWN:
        return whole
    for items, letters in _ROOM:
        shorter = storable(canonical_json(_cut(result, items, letters)))
        if len(shorter) <= MAX_SHOWN:
            return shorter
    return canonical_json(
        error_result("too-long", "The result is too long to be shown. The record of the call has it.")
    )


def _with_handles(result: Mapping[str, object], handles: Mapping[Place, str]) -> Mapping[str, object]:
    copy: Any = json.loads(canonical_json(result))
    for place, handle in handles.items():
        inner = copy
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = handle
    return cast("Mapping[str, object]", copy)


def _without_long_texts(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """The same without texts of more letters than a model may read of a stored sequence."""
    if isinstance(value, str):
        return value if len(value) <= MAX_SHOWN_LETTERS else {"total": len(value)}
    if isinstance(value, list | tuple):
        return [_without_long_texts(each) for each in value]
    if isinstance(value, Mapping):
        return {name: _without_long_texts(each) for name, each in value.items()}
    return value


def _stored_as(handles: Sequence[str]) -> str:
    """What a headline says about stored products."""
    if not handles:
        return ""
    more = len(handles) - MAX_NAMED
    named = ", ".join(handles[:MAX_NAMED])
    return f", stored as {named}{f' and {more:,} more' if more > 0 else ''}"


def _cut(value: object, items: int, letters: int) -> object:
    if isinstance(value, str) and len(value) > letters:
        return {"first": value[:letters], "total": len(value)}
    if isinstance(value, list | tuple):
        kept = [_cut(each, items, letters) for each in value[:items]]
        return kept if len(value) <= items else {"first": kept, "total": len(value)}
    if isinstance(value, Mapping):
        return {name: _cut(each, items, letters) for name, each in value.items()}
    return value


# -- The line about a call ---------------------------------------------------------------------------------------------


def line_of(call: ToolCall) -> str:
    """The line that BAiO writes about a call: its headline, or why there is no value, then how to cite it.

    It is a paragraph of Markdown, without the blank lines around it. It says when the model wrote a sequence itself.
    """
    if call.state is CallState.DONE:
        said = f"{call.line}."
        if any(each.origin.source is InputSource.MODEL for each in call.inputs):
            said += " The model wrote this sequence itself."
    else:
        detail = json.loads(call.result or "{}").get("detail", "It has no result.")
        said = f"{call.tool} has no result: {detail}"
    tool = ", ".join(filter(None, [f"{call.tool} {call.version}".strip(), call.library]))
    return storable(f"> {said} {tool} [call {call.id}]")


_BOLD = re.compile(r"\*\*(.+?)\*\*")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def is_quoted(line: str, text: str) -> bool:
    """Whether a text repeats the value of a headline: each number in its bold part, or all of that if it has none.

    Numbers are compared whole, without the commas between thousands.
    """
    value = " ".join(_BOLD.findall(line))
    numbers = _numbers(value)
    if numbers:
        return numbers <= _numbers(text)
    return bool(value) and value.casefold() in text.casefold()


def _numbers(text: str) -> set[str]:
    return {number.rstrip(",").replace(",", "") for number in _NUMBER.findall(text)}


# -- Where inputs come from --------------------------------------------------------------------------------------------


def letters_of(item: ToolInput | CallInput, arguments: Mapping[str, object]) -> str | None:
    """The letters of an input, which are looked for in the conversation; None where its argument is no text.

    A protein's final ``*`` is none of its letters. Where a lab's own tool cleans its arguments in another way than
    BAiO, it is BAiO's way that counts here.
    """
    argument = arguments.get(item.argument)
    if not isinstance(argument, str):
        return None
    letters = cleaned_letters(argument)
    protein = letters.removesuffix("*")
    digest = hashlib.sha256(protein.encode(errors="surrogatepass")).hexdigest()
    return protein if digest == item.sha256 else letters


def traced_input(item: ToolInput, origin: InputOrigin, sequence_id: int | None = None) -> CallInput:
    """An input with its origin, as the record keeps it."""
    name = None if item.name is None else storable(item.name)
    return CallInput(item.argument, name, item.length, item.sha256, item.cleaned, origin, sequence_id)


def find_origin(letters: str, messages: Iterable[Message], results: Iterable[tuple[int, str]]) -> InputOrigin:
    """Where the letters of an input are found first, newest first: in the user's messages, then in earlier results.

    ``messages`` are all of the conversation, ``results`` the ids of calls with their results. Both are read only until
    the letters are found, or ``MAX_SEARCHED`` characters are read. Case, spaces, line breaks and digits between letters
    don't matter. Fewer than ``WHOLE_WORD_LENGTH`` letters count only as whole words.
    """
    room = MAX_SEARCHED
    for message in messages:
        room -= len(message.content)
        if room < 0:
            break
        if message.role is Role.USER and (span := _span(letters, message.content)):
            return InputOrigin(InputSource.MESSAGE, message.id, *span)
    room = MAX_SEARCHED
    for call_id, text in results:
        room -= len(text)
        if room < 0:
            break
        if _span(letters, text):
            return InputOrigin(InputSource.CALL, call_id)
    return InputOrigin(InputSource.MODEL)


_IGNORED = re.compile(r"[\s\d\u200b-\u200f\u2060\ufeff]+")


def _span(letters: str, text: str) -> tuple[int, int] | None:
    """The first place of the letters in the text, as start and end in characters of the text."""
    kept = _upper(_IGNORED.sub("", text))
    at = kept.find(letters) if letters else -1
    if at < 0:
        return None
    places = list(_places(text))
    while at >= 0:
        start, end = places[at], places[at + len(letters) - 1] + 1
        if len(letters) >= WHOLE_WORD_LENGTH or not (
            text[start - 1 : start].isalpha() or text[end : end + 1].isalpha()
        ):
            return start, end
        at = kept.find(letters, at + 1)
    return None


def _places(text: str) -> Iterator[int]:
    """The places of the characters that are not ignored."""
    begin = 0
    for gap in _IGNORED.finditer(text):
        yield from range(begin, gap.start())
        begin = gap.end()
    yield from range(begin, len(text))


_TO_UPPER = str.maketrans("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def _upper(text: str) -> str:
    # Not ``upper``: that changes the length of some texts.
    return text.translate(_TO_UPPER)
