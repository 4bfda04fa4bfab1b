"""An answer in rounds: the model calls tools, BAiO runs them, and the model is asked again with their results.

    ask with tools ──▶ text ──▶ no calls ──▶ finished
         ▲               │
         └── results ◀── calls, one after another, each with a record and a line in the text

BAiO runs nothing before the provider's stream has ended. Then it runs the calls, whatever the finish reason says.
"""

import asyncio
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache

from baio_domain.answering import Noted, ProviderRequest, SourceStream
from baio_domain.entities import CallState, Model, ToolCall, Usage
from baio_domain.errors import BaioError, ToolsRefused, Unavailable
from baio_domain.ports import (
    TOOL_ROUNDS,
    Called,
    Finished,
    GatewayStream,
    Thinking,
    openai_finish_reason,
)
from baio_domain.prompts import Turn, UsedTool, estimated_tokens, joined
from baio_domain.text import storable
from baio_domain.tool_calls import unknown_tool
from baio_domain.tool_records import is_quoted, line_of, read_arguments, readable_arguments
from baio_domain.tool_runs import ToolRunner
from baio_domain.tools import ToolOutcome, ToolRefused, ToolSpec, ToolState, canonical_json, error_result

logger = logging.getLogger("baio.answers")

MAX_ROUNDS = 8
"""How often a model is asked with tools for one answer. Then it is asked once more without."""

MAX_CALLS = 16
"""How many calls of one round BAiO runs; it drops the others without telling the model, which can make them again."""

CALL_SECONDS = 10.0
"""How long one call may take."""

ALL_CALLS_SECONDS = 30.0
"""How long all calls of an answer may take together."""

TOOLS_PART = 4
"""The offered tools take at most a quarter of the context window; BAiO's own take about 2,100 tokens."""

MIN_WINDOW = 16_000
"""Tokens of the smallest context window in which tools and their results leave room for a conversation."""

ANSWER_NOW = "Answer now with what you have. You can't call tools any more."
"""The message to the model when its rounds are used up."""


TOOL_CALL_AS_TEXT = "tool-call-as-text"
"""The reason in the record of an answer whose model wrote a call as text: it was shown, and not run."""


def takes_tools(model: Model) -> bool:
    """Whether the model is offered tools, if its gateway knows any."""
    return model.tools and model.context_window >= MIN_WINDOW


def offered(specs: Sequence[ToolSpec], model: Model, question: str) -> Sequence[ToolSpec]:
    """The tools that a model is offered with a question: as many as fit in their part of its window, in their order.

    No model is involved. A tool that the question names comes first, then the others in the order of installation:
    BAiO's own first.
    """
    room = model.context_window // TOOLS_PART
    chosen = set()
    for spec in sorted(specs, key=lambda spec: spec.name not in question):
        cost = estimated_tokens(spec.told)
        if cost <= room:
            room -= cost
            chosen.add(spec.name)
    return [spec for spec in specs if spec.name in chosen]


@dataclass(slots=True)
class ToolRounds:
    """An answer whose model can call these tools, and what has happened in its rounds so far.

    The request's gateway is a ToolGateway.

    ``refusing`` has the ids of the models whose provider refused the tools; one that does is added, and is asked again
    without them.
    """

    request: ProviderRequest
    tools: Sequence[ToolSpec]
    runner: ToolRunner
    owner: int
    answer_id: int
    refusing: set[int]
    plain: bool = field(init=False)  # whether the provider refused the tools, now or before
    round: int = field(default=1, init=False)
    # What the model has said in this round, what it has called, and how that ended:
    said: list[str] = field(default_factory=list, init=False)
    calls: list[Called] = field(default_factory=list, init=False)
    end: Finished | None = field(default=None, init=False)
    offset: int = field(default=0, init=False)  # in the text of the answer
    paragraph: bool = field(default=True, init=False)  # whether the next text begins one
    turns: list[Turn] = field(default_factory=list, init=False)
    usage: list[Usage | None] = field(default_factory=list, init=False)
    records: dict[tuple[str, str], ToolCall] = field(default_factory=dict, init=False)
    seconds: float = field(default=0.0, init=False)  # that calls took

    def __post_init__(self) -> None:
        """See whether the provider refused the tools before."""
        self.plain = self.request.model.id in self.refusing

    @property
    def provider(self) -> str:
        """The name of the provider that is asked."""
        return self.request.provider

    @property
    def left_out(self) -> int:
        """How many messages of the conversation are not in the prompt."""
        return self.request.left_out

    @property
    def unused(self) -> Sequence[str]:
        """The parameters that the model is not sent."""
        return self.request.unused

    def after(self, refusal: BaioError, *, shown: bool) -> "ToolRounds | None":
        """The same from this round on, asked without tools, or as the request is; None after text of the round."""
        del shown  # text of earlier rounds is no hindrance
        model = self.request.model
        if isinstance(refusal, ToolsRefused) and not (self.said or self.turns or self.plain):
            self.plain = True
            self.refusing.add(model.id)
            logger.warning("model takes no tools", extra={"model": model.identifier, "answer_id": self.answer_id})
            return self
        smaller = self.request.after(refusal, shown=bool(self.said))
        if smaller is None:
            return None
        self.request = smaller
        return self

    async def stream(self) -> SourceStream:
        """The answer from this round on, all rounds as one, with BAiO's lines and the sum of the tokens."""
        while True:
            async with aclosing(self._round()) as items:
                async for item in items:
                    yield item
            if self.end is None:
                return  # the provider has cut it
            self.usage.append(self.end.usage)
            await self._note_quoted()
            if not self.calls or self.round > MAX_ROUNDS:
                if self.plain or writes_call("".join(self.said), self.tools):
                    yield Noted(ToolsRefused.slug if self.plain else TOOL_CALL_AS_TEXT)
                yield Finished(TOOL_ROUNDS if self._calls_on() else self.end.reason, self.end.model, _sum(self.usage))
                return
            async with aclosing(self._lines()) as lines:
                async for line in lines:
                    yield line
            self.round += 1
            self.request = replace(self.request, halved=False)  # what came since may be too long, too

    async def _round(self) -> GatewayStream:
        """What the model says when it is asked once."""
        self.said, self.calls, self.end = [], [], None
        async with aclosing(self._ask()) as stream:
            async for item in stream:
                if isinstance(item, Called):
                    self.calls.append(item)
                elif isinstance(item, Finished):
                    self.end = item
                else:
                    self._note_said(item)
                    yield item

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

    def _calls_on(self) -> bool:
        """Whether the model, asked for an answer without tools, wants to call some, or says nothing."""
        wants = self.calls or (self.end and openai_finish_reason(self.end.reason) == "tool_calls")
        return self.round > MAX_ROUNDS and bool(wants or not "".join(self.said).strip())

    async def _note_quoted(self) -> None:
        """Note which values of earlier rounds the model repeats in this one."""
        text = "".join(self.said)
        quoted = [key for key, record in self.records.items() if not record.quoted and is_quoted(record.line, text)]
        self.records |= {key: replace(self.records[key], quoted=True) for key in quoted}
        with suppress(Unavailable):  # the answer does not depend on it
            await self.runner.note_quoted([self.records[key].id for key in quoted])

    def _ask(self) -> GatewayStream:
        """The stream of this round: with tools, unless the model takes none or has had its rounds."""
        request = self.request
        if self.plain or self.round > MAX_ROUNDS:
            return request.ask(joined((*request.prompt.as_text.sent, *told_as_text(self.turns))))
        return request.ask((*request.prompt.sent, *self.turns), self.tools)

    def _note_said(self, item: str | Thinking) -> None:
        if isinstance(item, str):
            self.said.append(item)
            self._note(item)

    def _note(self, text: str) -> None:
        self.offset += len(storable(text))
        self.paragraph = text.endswith("\n\n")

    async def _run(self, call: Called) -> SourceStream:
        """Run a call and keep its record, which is told as it begins and as it ends, and then its line."""
        runner = self.runner
        new = runner.new(
            self.owner, call.name, call.arguments, answer_id=self.answer_id, round_=self.round, offset=self.offset
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
        names = [tool.name for tool in self.tools]
        if call.name not in names:
            return unknown_tool(call.name, names, {})
        loop = asyncio.get_running_loop()
        began_at, left = loop.time(), ALL_CALLS_SECONDS - self.seconds
        try:
            async with asyncio.timeout(min(CALL_SECONDS, left)):
                return await self.runner.compute(
                    call.name, call.arguments, owner=self.owner, conversation_id=conversation_id
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
    names = tuple(tool.name for tool in tools)
    return bool(names) and _written_call(names).search(text) is not None


@lru_cache
def _written_call(tools: tuple[str, ...]) -> re.Pattern[str]:
    names = "|".join(map(re.escape, tools))
    tagged = rf"(?:<\W?(?:\w+:)?(?:tool|function|invoke|python_tag)|\[TOOL_CALLS\]).{{0,100}}?\b(?:{names})\b"
    bare = rf'"name"\s*:\s*"(?:{names})"\s*,\s*"(?:arguments|parameters)"'
    return re.compile(f"{tagged}|{bare}", re.DOTALL)


def results_as_text(turns: Iterable[Turn]) -> Iterator[Turn]:
    """The turns for a request without tools: the results of their calls are told as text."""
    for turn in turns:
        yield Turn(turn.role, turn.content)
        if turn.calls:
            results = "\n".join(f"{call.name}({call.arguments}) = {call.result}" for call in turn.calls)
            yield Turn("user", f"The tools' results:\n{results}")


def told_as_text(turns: Sequence[Turn]) -> Iterator[Turn]:
    """The rounds of an answer for a request without tools: their results are told as text, and an answer is due."""
    yield from results_as_text(turns)
    if turns:
        yield Turn("user", ANSWER_NOW)


def _sum(counts: Sequence[Usage | None]) -> Usage | None:
    """The tokens of all rounds, None if a round was not counted."""
    known = [each for each in counts if each is not None]
    if len(known) < len(counts):
        return None
    thinking = [each.thinking_tokens for each in known if each.thinking_tokens is not None]
    cached = [each.cached_tokens for each in known if each.cached_tokens is not None]
    return Usage(
        sum(each.prompt_tokens for each in known),
        sum(each.completion_tokens for each in known),
        sum(thinking) if thinking else None,
        sum(cached) if cached else None,
    )
