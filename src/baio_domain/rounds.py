"""An answer in rounds: the model calls tools, BAiO runs them, and the model is asked again with their results.

    ask with tools ──▶ text ──▶ no calls ──▶ finished
         ▲               │
         └── results ◀── calls, one after another, each with a record and a line in the text

Nothing is run before the provider's stream has ended. Then calls are run, whatever its finish reason says.
"""

import asyncio
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace

from baio_domain.answering import Noted, ProviderRequest, SourceStream
from baio_domain.entities import CallState, Model, ToolCall, Usage
from baio_domain.errors import PromptTooLong, ToolsRefused, Unavailable
from baio_domain.ports import TOOL_ROUNDS, Called, Finished, GatewayStream, Thinking, ToolGateway
from baio_domain.prompts import Turn, UsedTool, joined
from baio_domain.text import storable
from baio_domain.tool_records import is_quoted, line_of, read_arguments, readable_arguments
from baio_domain.tool_runs import ToolRunner
from baio_domain.tools import ToolOutcome, ToolRefused, ToolSpec, ToolState, canonical_json, error_result

logger = logging.getLogger("baio.answers")

MAX_ROUNDS = 8
"""How often a model is asked with tools for one answer. Then it is asked once more without."""

MAX_CALLS = 16
"""How many calls of one round are run; the model is not told of the others, and can make them again."""

CALL_SECONDS = 10.0
"""How long one call may take."""

ALL_CALLS_SECONDS = 30.0
"""How long all calls of an answer may take together."""

MIN_WINDOW = 16_000
"""Tokens of the smallest context window in which tools and their results leave room for a conversation."""

ANSWER_NOW = "Answer now with what you have. You can't call tools any more."
"""What the model is told when its rounds are used up."""


TOOL_CALL_AS_TEXT = "tool-call-as-text"
"""The reason in the record of an answer whose model wrote a call as text: it was shown, and not run."""


def takes_tools(model: Model) -> bool:
    """Whether the model is offered tools, if its gateway knows any."""
    return model.tools and model.context_window >= MIN_WINDOW


@dataclass(frozen=True, slots=True)
class ToolRounds:
    """An answer whose model can call tools.

    ``refusing`` has the ids of the models whose provider refused the tools; one that does is added, and is asked again
    without them.
    """

    request: ProviderRequest
    gateway: ToolGateway
    runner: ToolRunner
    owner: int
    answer_id: int
    refusing: set[int]

    @property
    def left_out(self) -> int:
        """How many messages of the conversation are not in the prompt."""
        return self.request.left_out

    def with_half_prompt(self) -> "ToolRounds | None":
        """The same answer with half of the prompt, None where it can't be halved."""
        half = self.request.with_half_prompt()
        return None if half is None else replace(self, request=half)

    def stream(self) -> SourceStream:
        """The answer as from a gateway: all rounds as one, with BAiO's lines, and with the sum of the tokens."""
        return _Answer(self, self.request, plain=self.request.model.id in self.refusing).stream()


@dataclass(slots=True)
class _Answer:
    """What has happened in the rounds so far."""

    source: ToolRounds
    request: ProviderRequest
    plain: bool  # whether the provider refused the tools, now or before
    round: int = 1
    said: list[str] = field(default_factory=list)  # by the model in this round, as are ``calls`` and ``end``
    calls: list[Called] = field(default_factory=list)
    end: Finished | None = None
    offset: int = 0  # in the text of the answer
    paragraph: bool = True  # whether the next text begins one
    turns: list[Turn] = field(default_factory=list)
    usage: list[Usage | None] = field(default_factory=list)
    records: dict[tuple[str, str], ToolCall] = field(default_factory=dict)
    seconds: float = 0.0  # that calls took

    async def stream(self) -> SourceStream:
        """All rounds, one after another."""
        while True:
            async with aclosing(self._round()) as items:
                async for item in items:
                    yield item
            if self.end is None:
                return  # the provider has cut it
            self.usage.append(self.end.usage)
            await self._note_quoted()
            if not self.calls or self.round > MAX_ROUNDS:
                if self.plain or writes_call("".join(self.said), self.source.runner.toolbox.specs()):
                    yield Noted(ToolsRefused.slug if self.plain else TOOL_CALL_AS_TEXT)
                yield Finished(TOOL_ROUNDS if self.calls else self.end.reason, self.end.model, _sum(self.usage))
                return
            async with aclosing(self._lines()) as lines:
                async for line in lines:
                    yield line
            self.round += 1

    async def _round(self) -> GatewayStream:
        """What the model says when it is asked once, or again in another way if it refuses before its first text."""
        while True:
            self.said, self.calls, self.end = [], [], None
            try:
                async with aclosing(self._ask()) as stream:
                    async for item in stream:
                        if isinstance(item, Called):
                            self.calls.append(item)
                        elif isinstance(item, Finished):
                            self.end = item
                        else:
                            self._note_said(item)
                            yield item
            except (ToolsRefused, PromptTooLong) as error:
                self._adapt(error)
            else:
                return

    async def _lines(self) -> SourceStream:
        """Run the calls of this round, and keep them with their results for the next one."""
        used = []
        for place, call in enumerate(self.calls[:MAX_CALLS]):
            if not self.paragraph:
                self._note("\n\n")
                yield "\n\n"
            if _key(call) not in self.records:  # else it has its result
                async with aclosing(self._run(call)) as items:
                    async for item in items:
                        yield item
            used.append(self._used(call, f"r{self.round:04d}{place:04d}"))
        opaque = self.end.opaque if self.end else None
        self.turns.append(Turn("assistant", "".join(self.said), tuple(used), opaque))

    async def _note_quoted(self) -> None:
        """Note which values of earlier rounds the model repeats in this one."""
        text = "".join(self.said)
        quoted = [key for key, record in self.records.items() if not record.quoted and is_quoted(record.line, text)]
        self.records |= {key: replace(self.records[key], quoted=True) for key in quoted}
        with suppress(Unavailable):  # the answer does not depend on it
            await self.source.runner.note_quoted([self.records[key].id for key in quoted])

    def _ask(self) -> GatewayStream:
        """The stream of this round: with tools, unless the model takes none or has had its rounds."""
        gateway, request = self.source.gateway, self.request
        if self.plain or self.round > MAX_ROUNDS:
            sent = joined((*request.prompt.as_text.sent, *told_as_text(self.turns)))
            return gateway.stream(key=request.key, model=request.model, prompt=sent)
        tools = self.source.runner.toolbox.specs()
        sent = (*request.prompt.sent, *self.turns)
        return gateway.stream(key=request.key, model=request.model, prompt=sent, tools=tools)

    def _adapt(self, error: ToolsRefused | PromptTooLong) -> None:
        """Ask in another way, or raise the error where there is none.

        A prompt that is too long before the first call is halved by whoever reads the stream.
        """
        if isinstance(error, ToolsRefused) and not (self.said or self.turns or self.plain):
            model = self.request.model
            self.plain = True
            self.source.refusing.add(model.id)
            extra = {"model": model.identifier, "answer_id": self.source.answer_id}
            logger.warning("model takes no tools", extra=extra)
        elif isinstance(error, PromptTooLong) and self.turns and not self.said:
            half = self.request.with_half_prompt()
            if half is None:
                raise error
            self.request = half
        else:
            raise error

    def _note_said(self, item: str | Thinking) -> None:
        if isinstance(item, str):
            self.said.append(item)
            self._note(item)

    def _note(self, text: str) -> None:
        self.offset += len(storable(text))
        self.paragraph = text.endswith("\n\n")

    async def _run(self, call: Called) -> SourceStream:
        """Run a call and keep its record, which is told as it begins and as it ends, and then its line."""
        runner, source = self.source.runner, self.source
        new = runner.new(
            source.owner, call.name, call.arguments, answer_id=source.answer_id, round_=self.round, offset=self.offset
        )
        record = await runner.begin(new)
        yield record
        outcome = await self._compute(call, record.conversation_id)
        self.records[_key(call)] = record = await runner.end(record, outcome)
        yield record
        if record.length:
            line = f"{line_of(record)}\n\n"
            self._note(line)
            yield line

    async def _compute(self, call: Called, conversation_id: int | None) -> ToolOutcome:
        loop = asyncio.get_running_loop()
        began_at, left = loop.time(), ALL_CALLS_SECONDS - self.seconds
        try:
            async with asyncio.timeout(min(CALL_SECONDS, left)):
                return await self.source.runner.compute(
                    call.name, call.arguments, owner=self.source.owner, conversation_id=conversation_id
                )
        except TimeoutError:
            detail = "The computation took too long. Ask for less, or answer without it."
            return ToolOutcome(ToolState.FAILED, {}, error_result("time-limit", detail))
        finally:
            self.seconds += loop.time() - began_at

    def _used(self, call: Called, id_: str) -> UsedTool:
        record = self.records[_key(call)]
        failed = record.state is not CallState.DONE
        return UsedTool(id_, call.name, readable_arguments(call.arguments), record.shown or "", failed, call.opaque)


def _key(call: Called) -> tuple[str, str]:
    """What makes two calls the same: the tool and the arguments, however they are spelled."""
    try:
        return call.name, canonical_json(read_arguments(call.arguments))
    except ToolRefused:
        return call.name, f"unreadable {call.arguments}"


def writes_call(text: str, tools: Iterable[ToolSpec]) -> bool:
    """Whether a model has written a call of one of these tools into its text, in a form of some open model."""
    names = "|".join(re.escape(tool.name) for tool in tools)
    tagged = rf"(?:<\W?(?:\w+:)?(?:tool|function|invoke|python_tag)|\[TOOL_CALLS\]).{{0,100}}?\b(?:{names})\b"
    bare = rf'"name"\s*:\s*"(?:{names})"\s*,\s*"(?:arguments|parameters)"'
    return bool(names) and re.search(f"{tagged}|{bare}", text, re.DOTALL) is not None


def told_as_text(turns: Sequence[Turn]) -> Iterator[Turn]:
    """The rounds of an answer for a request without tools: their results are told as text, and an answer is due."""
    for turn in turns:
        yield Turn(turn.role, turn.content)
        results = "\n".join(f"{call.name}({call.arguments}) = {call.result}" for call in turn.calls)
        yield Turn("user", f"The tools' results:\n{results}")
    if turns:
        yield Turn("user", ANSWER_NOW)


def _sum(counts: Sequence[Usage | None]) -> Usage | None:
    """The tokens of all rounds, None if a round was not counted."""
    known = [each for each in counts if each is not None]
    if len(known) < len(counts):
        return None
    thinking = [each.thinking_tokens for each in known if each.thinking_tokens is not None]
    return Usage(
        sum(each.prompt_tokens for each in known),
        sum(each.completion_tokens for each in known),
        sum(thinking) if thinking else None,
    )
