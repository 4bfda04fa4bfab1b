"""The export of a conversation as Markdown (CommonMark), which reads like a methods section.

Nothing that a user, a model or a tool wrote can change the document: single lines are escaped, and the texts of
messages stand in code blocks whose fence is longer than any in them. So no picture is loaded and no HTML is run.
"""

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from baio_api.exports.document import software
from baio_domain.entities import Answer, CallInput, CallState, InputOrigin, InputSource, Role, ToolCall
from baio_domain.text import printable
from baio_domain.use_cases.exports import CitedMessage, ConversationExport

MARKDOWN_TYPE = "text/markdown"

MAX_VALUE = 60
"""Characters of an argument that are shown; the JSON export has all of them."""

_MARKUP = re.compile(r"([\\`*_\[\]<>&~|$])")
_BOLD = re.compile(r"(\*\*.+?\*\*)")
_TICKS = re.compile("`+")
_SPEAKERS = {Role.SYSTEM: "Instructions to the model", Role.USER: "User", Role.BAIO: "Answer"}


async def markdown_pieces(export: ConversationExport) -> AsyncGenerator[str, None]:
    """The document in pieces, as it is read."""
    conversation = export.conversation
    yield f"# {plain(conversation.title.strip() or f'Conversation {conversation.id}')}\n\n"
    begun = _time(conversation.created_at)
    yield f"Conversation {conversation.id} with BAiO, begun {begun}. Exported by {software()}.\n"
    yield (
        "\n## Methods\n\n"
        "The texts of answers were written by the language models named below. Values with the number of a call were"
        " computed by deterministic tools and not by a model. Each call is listed with the SHA-256 of its inputs (of"
        " their upper-case letters alone) and of its result (as JSON with sorted keys and without spaces). The JSON"
        " export of this conversation has all arguments and results; `baio verify` computes them again.\n"
    )
    async for piece in _models(export.answers()):
        yield piece
    async for piece in _tools(export.tool_calls()):
        yield piece
    async for piece in _calls(export.tool_calls()):
        yield piece
    yield "\n## Conversation\n"
    async for messages in export.messages():
        for message in messages:
            yield _said(message)


@dataclass(slots=True)
class _Use:
    """How often and when a model was asked."""

    answers: int
    first: datetime
    last: datetime


async def _models(answers: AsyncIterator[list[Answer]]) -> AsyncIterator[str]:
    uses: dict[tuple[str, str | None], _Use] = {}
    async for page in answers:
        for each in page:
            use = uses.setdefault((each.requested_model, each.model), _Use(0, each.started_at, each.started_at))
            use.answers += 1
            use.last = each.started_at
    if uses:
        yield "\n### Models\n\n"
    for (requested, model), use in uses.items():
        asked = "" if model in (None, requested) else f", asked for as {code(requested)}"
        many = f"{use.answers} answer{'s' if use.answers > 1 else ''}"
        yield f"- {code(model or requested)}{asked}: {many}, {_span(use.first, use.last)}\n"


async def _tools(calls: AsyncIterator[list[ToolCall]]) -> AsyncIterator[str]:
    tools: dict[tuple[str, str, str, str], None] = {}
    async for page in calls:
        tools.update(dict.fromkeys((each.tool, each.version, each.library, each.definition) for each in page))
    if tools:
        yield "\n### Tools\n\n"
    for tool, version, library, definition in tools:
        by = ", ".join(filter(None, [f"{code(tool)} {plain(version)}".strip(), plain(library)]))
        yield f"- {by}{f': {plain(definition)}' if definition else ''}\n"


async def _calls(calls: AsyncIterator[list[ToolCall]]) -> AsyncIterator[str]:
    heading = "\n### Calls\n"
    async for page in calls:
        for call in page:
            yield heading + _call(call)
            heading = ""


def _call(call: ToolCall) -> str:
    tool = ", ".join(filter(None, [f"{code(call.tool)} {plain(call.version)}".strip(), plain(call.library)]))
    lines = [f"\n**Call {call.id}**, {tool}, {_time(call.started_at)}. {_outcome(call)}\n"]
    arguments = json.loads(call.arguments or "{}")
    given = ", ".join(f"{code(name)} {_value(value)}" for name, value in arguments.items() if value is not None)
    if given:
        lines.append(f"- Arguments: {given}")
    lines += [f"- Input {_input(each)}" for each in call.inputs]
    if call.state is CallState.DONE:
        lines.append(f"- Result: SHA-256 `{call.result_sha256}`")
    return "\n".join(lines) + "\n"


def _outcome(call: ToolCall) -> str:
    if call.state is CallState.DONE:
        return f"{headline(call.line)}."
    detail = json.loads(call.result or "{}").get("detail", "")
    return f"No result, {call.state.value}: {plain(str(detail))}".rstrip()


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) <= MAX_VALUE:
        return code(text)
    return f"{code(f'{text[: MAX_VALUE // 2]}…')} ({len(text):,} characters)"


def _input(each: CallInput) -> str:
    name = f" {plain(each.name)}," if each.name else ""
    cleaned = f"; removed or changed: {plain(', '.join(each.cleaned))}" if each.cleaned else ""
    letters = f"{each.length:,} letters, SHA-256 `{each.sha256}`"
    return f"{code(each.argument)}:{name} {letters}, {_origin(each.origin)}{cleaned}"


def _origin(origin: InputOrigin) -> str:
    if origin.source is InputSource.MESSAGE:
        return f"from message {origin.id}, characters {(origin.start or 0) + 1:,} to {origin.end:,}"
    if origin.source is InputSource.CALL:
        return f"from the result of call {origin.id}"
    return "given with the call" if origin.source is InputSource.REQUEST else "written by the model"


def _said(message: CitedMessage) -> str:
    answer = message.answer
    by = f" by {code(answer.model or answer.requested_model)}, {answer.state.value}" if answer else ""
    heading = f"\n### {_SPEAKERS[message.role]}{by}, message {message.id}, {_time(message.created_at)}\n\n"
    fence = "`" * max(3, _longest_run(message.content) + 1)
    return f"{heading}{fence}text\n{message.content}\n{fence}\n"


def plain(text: str) -> str:
    """A text as one line that no Markdown changes."""
    return _escaped(" ".join(text.split()))


def headline(line: str) -> str:
    """A tool's headline: what is bold in it stays bold, and all else is plain."""
    return "".join(
        f"**{_escaped(part[2:-2])}**" if _BOLD.fullmatch(part) else _escaped(part) for part in _BOLD.split(line)
    )


def _escaped(text: str) -> str:
    return _MARKUP.sub(r"\\\1", printable(text))


def code(text: str) -> str:
    """A text as inline code."""
    shown = printable(" ".join(text.split()))
    ticks = "`" * (_longest_run(shown) + 1)
    pad = " " if shown.startswith("`") or shown.endswith("`") or not shown else ""
    return f"{ticks}{pad}{shown}{pad}{ticks}"


def _longest_run(text: str) -> int:
    return max(map(len, _TICKS.findall(text)), default=0)


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _span(first: datetime, last: datetime) -> str:
    return f"{first:%Y-%m-%d}" if first.date() == last.date() else f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
