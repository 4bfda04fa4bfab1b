"""Commands: questions that call a tool, which BAiO answers itself.

The first line of a command is a slash, a tool's name and arguments: ``name=value``, or without a name the value of the
tool's first parameter. The lines below it belong to that value, too, so that a sequence can be pasted. A value with
spaces stands in quotation marks; a quantity, such as ``c1=100 uM``, and a list, such as ``enzymes=EcoRI, BamHI``, need
none. What chats and phones do to text doesn't matter: code blocks, curly quotation marks, a capital at the beginning.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import cast

from baio_domain.answering import SourceStream
from baio_domain.entities import CallState
from baio_domain.errors import BaioError
from baio_domain.ports import Finished
from baio_domain.tool_records import line_of
from baio_domain.tool_runs import ToolRunner
from baio_domain.tools import ToolSpec, canonical_json

_WORD = re.compile(r'[A-Za-z_]\w*="[^"]*"(?!\S)|\S+')
_NAMED = re.compile(r"([A-Za-z_]\w*)=(.*)")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)\w*[ \t]*\r?$", re.MULTILINE)
_QUOTES = str.maketrans("\u201c\u201d\u201e", '"""')
_JOINS = (",", ";", "+", "&")
_NUMBER = re.compile(r"\d[\d.,]*(?:e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Command:
    """A call of a tool that a user has written as a question."""

    tool: str
    arguments: Mapping[str, str]


def read_command(question: str, tools: Collection[ToolSpec]) -> Command | None:
    """The command in a question, or None if it does not begin with a slash and the name of a tool."""
    first, _, below = question.partition("\n")
    slash, *words = _WORD.findall(first.translate(_QUOTES)) or [""]
    spec = next((spec for spec in tools if slash.lower().replace("-", "_") == f"/{spec.name}"), None)
    if spec is None:
        return None
    properties = cast("Mapping[str, Mapping[str, object]]", spec.parameters["properties"])
    parameter = next(iter(properties), "")
    # A FASTA header may have names and values of its own.
    header = next((place for place, word in enumerate(words) if word.startswith(">")), len(words))
    arguments: dict[str, str] = {}
    plain = []
    quantity = ""  # the argument whose unit may come now
    listed = ""  # the argument whose list may go on
    for place, word in enumerate(words):
        named = _NAMED.fullmatch(word) if place < header else None
        if named:
            name, value = named[1], named[2].strip("`")
            arguments[name] = value[1:-1] if value[:1] == value[-1:] == '"' and len(value) > 1 else value
            quantity = name if _NUMBER.fullmatch(value) and _is_text(properties.get(name, {})) else ""
            listed = name if properties.get(name, {}).get("type") == "array" else ""
        elif listed and place < header and (word.startswith(_JOINS) or arguments[listed].endswith(_JOINS)):
            arguments[listed] += word
        elif quantity and place < header:
            arguments[quantity] += f" {word}"
            quantity = ""
        else:
            plain.append(word.strip("`"))
            listed = ""
    value = "\n".join(filter(str.strip, [arguments.get(parameter, ""), " ".join(plain), _FENCE.sub("", below)]))
    if value:
        arguments[parameter] = value
    return Command(spec.name, arguments)


def _is_text(schema: Mapping[str, object]) -> bool:
    return schema.get("type") == "string" and "enum" not in schema


@dataclass(frozen=True, slots=True)
class CommandRun:
    """An answer for which no provider is asked: its text is the line about one call of a tool."""

    runner: ToolRunner
    command: Command
    owner: int
    answer_id: int
    provider: str = "BAiO"
    left_out: int = 0
    unused: tuple[str, ...] = ()

    async def stream(self) -> SourceStream:
        """The answer, as from a gateway."""
        runner, raw = self.runner, canonical_json(self.command.arguments)
        call = await runner.begin(runner.new(self.owner, self.command.tool, raw, answer_id=self.answer_id))
        yield call
        outcome = await runner.compute(call.tool, raw, owner=self.owner, conversation_id=call.conversation_id)
        call = await runner.end(call, outcome, always_noted=True)
        yield call
        if call.state is not CallState.CANCELLED:
            yield line_of(call)
        yield Finished("stop")

    def after(self, refusal: BaioError, *, shown: bool) -> None:
        """None: nobody else can be asked."""
        del refusal, shown
