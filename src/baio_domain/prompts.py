"""Prompts: the conversation as turns, trimmed to the model's context window."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from baio_domain.entities import CallState, Message, Model, PastCall, Role
from baio_domain.tool_records import CANCELLED, readable_arguments
from baio_domain.tools import ToolSpec

SYSTEM_PROMPT = "You are BAiO, a chat bot who is an expert on biology and genomic data."
"""The first message of every conversation."""

BYTES_PER_TOKEN = 3
"""A careful estimate: English has about 4 UTF-8 bytes to a token, sequences and other scripts fewer."""

ENDED_ON_RESULTS = "(The answer ended here.)"
"""Closes an answer that ended on the results of its calls: many servers refuse a question right after them."""

TOKENS_PER_TURN = 4
"""Tokens that a turn costs besides its text (OpenAI's cookbook: 3 for the frame, 1 for the role)."""


@dataclass(frozen=True, slots=True)
class UsedTool:
    """A call of a tool together with its result, so that nothing can separate them.

    ``id`` is nine letters and digits, and unique in the prompt: Mistral takes no others. ``arguments`` is the text of a
    JSON object, ``result`` what the model gets to read. ``failed`` says that the result is an error. ``opaque`` is that
    of the model's own call in this answer (``ports.Called``).
    """

    id: str
    name: str
    arguments: str
    result: str
    failed: bool = False
    opaque: object = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One message in the form that providers accept.

    ``calls`` are those that the assistant made after its text, with their results. Only a ``ToolGateway`` gets such
    turns. ``opaque`` is that of the ``Finished`` with which this turn ended.
    """

    role: Literal["system", "user", "assistant"]
    content: str
    calls: tuple[UsedTool, ...] = ()
    opaque: object = None

    @property
    def tokens(self) -> int:
        """About how many tokens it costs."""
        calls = sum(estimated_tokens(call.name + call.arguments + call.result) for call in self.calls)
        return estimated_tokens(self.content) + calls


_ROLES: Mapping[Role, Literal["system", "user", "assistant"]] = {
    Role.SYSTEM: "system",
    Role.USER: "user",
    Role.BAIO: "assistant",
}


def estimated_tokens(content: str) -> int:
    """About how many tokens a turn with this text costs; for prose rather too many than too few."""
    return len(content.encode(errors="replace")) // BYTES_PER_TOKEN + TOKENS_PER_TURN


def estimated_completion_tokens(text: str) -> int:
    """About how many completion tokens an answer with this text costs; 0 if the text is empty."""
    return estimated_tokens(text) if text else 0


@dataclass(frozen=True, slots=True)
class Told:
    """A message as the model reads it: as text, or, if its model called tools, in rounds.

    ``rounds`` are the turns of such an answer with calls and results, and without BAiO's lines about them.
    """

    text: Turn
    rounds: tuple[Turn, ...] = ()

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The turns that the model reads."""
        return self.rounds or (self.text,)

    @property
    def tokens(self) -> int:
        """About how many tokens these are."""
        return sum(turn.tokens for turn in self.turns)

    @property
    def as_text(self) -> "Told":
        """The same for a model that is offered no tools."""
        return replace(self, rounds=())


@dataclass(frozen=True, slots=True)
class Prompt:
    """The messages that a model reads, oldest first. The first ``pinned`` are never dropped.

    ``cut_at`` is the newest message of the conversation that was left out, None if there is none.
    """

    messages: tuple[Told, ...]
    pinned: int = 0
    cut_at: Message | None = None

    @property
    def tokens(self) -> int:
        """About how many tokens these are."""
        return sum(message.tokens for message in self.messages)

    @property
    def as_text(self) -> "Prompt":
        """The same for a model that is offered no tools."""
        return replace(self, messages=tuple(message.as_text for message in self.messages))

    @property
    def sent(self) -> tuple[Turn, ...]:
        """The turns as a provider gets them: those of all messages, ``joined``."""
        return joined(turn for message in self.messages for turn in message.turns)

    def halved(self) -> "Prompt | None":
        """The newest half of the prompt, or None if nothing can be dropped. The newest message always stays.

        An answer whose question is dropped is dropped, too.
        """
        costs = [message.tokens for message in self.messages]
        excess, first = sum(costs) - sum(costs) // 2, self.pinned
        while first < len(costs) - 1 and excess > 0:
            excess -= costs[first]
            first += 1
        while first < len(costs) - 1 and self.messages[first].text.role == "assistant":
            first += 1
        if first == self.pinned:
            return None
        return replace(self, messages=self.messages[: self.pinned] + self.messages[first:])


def joined(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """The turns without blank ones, and without answers to only those. Neighbours with the same role are merged.

    Many servers refuse a prompt that does not begin with the user, or in which the roles don't alternate. Calls have
    separate turns, because their results come between.
    """
    merged: list[Turn] = []
    for turn in turns:
        before = merged[-1] if merged else Turn("system", "")
        blank = not (turn.content.strip() or turn.calls)
        if blank or (before.role, turn.role) == ("system", "assistant"):
            continue
        if merged and before.role == turn.role and not before.calls:
            content = "\n\n".join(filter(str.strip, (before.content, turn.content)))
            merged[-1] = replace(turn, content=content)
        else:
            merged.append(turn)
    return tuple(merged)


def build_prompt(
    system: Message | None,
    newest_first: Iterable[Message],
    model: Model,
    calls: Iterable[PastCall] = (),
    tools: Iterable[ToolSpec] = (),
) -> Prompt:
    """The system message, then as much of the conversation as the model can read.

    ``newest_first`` is read only as far as needed, and so are ``calls``, those of the conversation's answers, newest
    first; a model without tools gets none. Messages that don't fit are dropped from the oldest on, without gaps, and an
    answer whose question is dropped is dropped, too: a conversation begins with the user. An answer whose calls don't
    fit becomes text. The system message and the newest message are always kept, even where these two are too long (the
    provider then says so). Room for an answer is kept free: the model's maximum output, but at most a quarter of its
    context window. So is room for the ``tools`` that are offered with it.
    """
    room = model.context_window - min(model.max_output_tokens, model.context_window // 4)
    room -= sum(estimated_tokens(tool.told) for tool in tools)
    if system is not None:
        room -= estimated_tokens(system.content)
    kept: list[tuple[Message, Told]] = []
    cut_at = None
    for message, made in _beside(newest_first, calls):
        told = Told(Turn(_ROLES[message.role], message.content), _rounds(message.content, made))
        if told.tokens > room:
            told = told.as_text
        room -= told.tokens
        if room < 0 and kept:
            cut_at = message
            break
        kept.append((message, told))
    while len(kept) > 1 and kept[-1][0].role is Role.BAIO:
        cut_at, _ = kept.pop()
    messages = [told for _, told in reversed(kept)]
    if system is not None:
        messages.insert(0, Told(Turn("system" if model.system_role else "user", system.content)))
    return Prompt(tuple(messages), 0 if system is None else 1, cut_at)


def _beside(newest_first: Iterable[Message], calls: Iterable[PastCall]) -> Iterator[tuple[Message, Sequence[PastCall]]]:
    """The messages except the system's, each with the calls of its answer, oldest first."""
    groups = groupby(calls, key=lambda call: call.message_id)
    answered, made = float("inf"), list[PastCall]()
    for message in newest_first:
        if message.role is Role.BAIO:  # before the first answer, no call needs to be read
            while answered > message.id:
                answered, group = next(groups, (0, iter(())))
                made = list(group)[::-1]
        if message.role is not Role.SYSTEM:
            yield message, made if answered == message.id else ()


def _rounds(content: str, calls: Sequence[PastCall]) -> tuple[Turn, ...]:
    """An answer's turns with calls: what its model said before those of each round, and after the last ones."""
    turns, place = [], 0
    for _, group in groupby(calls, key=lambda call: call.round):
        made = list(group)
        said = content[place : made[0].offset].strip()
        turns.append(Turn("assistant", said, tuple(map(_used, made))))
        place = made[-1].offset + made[-1].length
    if turns:
        turns.append(Turn("assistant", content[place:].strip() or ENDED_ON_RESULTS))
    return tuple(turns)


def _used(call: PastCall) -> UsedTool:
    """A call of an earlier answer. Nine characters hold more ids than there will be calls."""
    failed = call.state is not CallState.DONE
    arguments, result = readable_arguments(call.raw_arguments), call.shown or CANCELLED.shown
    return UsedTool(f"p{call.id:08x}"[-9:], call.tool, arguments, result, failed)
