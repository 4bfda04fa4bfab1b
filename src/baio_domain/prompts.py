"""Prompts: the conversation as turns, trimmed to the model's context window."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from baio_domain.entities import Message, Model, Role

SYSTEM_PROMPT = "You are BAiO, a chat bot who is an expert on biology and genomic data."
"""The first message of every conversation."""

BYTES_PER_TOKEN = 3
"""A careful estimate: English has about 4 UTF-8 bytes to a token, sequences and other scripts fewer."""

TOKENS_PER_TURN = 4
"""Tokens that a turn costs besides its text (OpenAI's cookbook: 3 for the frame, 1 for the role)."""


@dataclass(frozen=True, slots=True)
class UsedTool:
    """A call of a tool together with its result, so that nothing can part them.

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
    """One message in the form that providers take.

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
class Prompt:
    """The messages that a model gets to read, oldest first. The first ``pinned`` turns are never dropped.

    ``cut_at`` is the newest message of the conversation that was left out, None where none was.
    """

    turns: tuple[Turn, ...]
    pinned: int = 0
    cut_at: Message | None = None

    @property
    def tokens(self) -> int:
        """About how many tokens these are."""
        return sum(estimated_tokens(turn.content) for turn in self.turns)

    @property
    def sent(self) -> tuple[Turn, ...]:
        """The turns as a provider gets them.

        Blank turns are left out, and answers to nothing but blank turns. Neighbours with the same role are merged.
        Many servers refuse a prompt that does not begin with the user, or in which the roles don't alternate.
        """
        merged: list[Turn] = []
        for turn in self.turns:
            before = merged[-1].role if merged else "system"
            if not turn.content.strip() or (before, turn.role) == ("system", "assistant"):
                continue
            if before == turn.role and merged:
                merged[-1] = Turn(turn.role, f"{merged[-1].content}\n\n{turn.content}")
            else:
                merged.append(turn)
        return tuple(merged)

    def halved(self) -> "Prompt | None":
        """The newest half of the prompt, or None where nothing can be dropped. The newest turn always stays.

        An answer whose question is dropped is dropped, too.
        """
        costs = [estimated_tokens(turn.content) for turn in self.turns]
        excess, first = sum(costs) - sum(costs) // 2, self.pinned
        while first < len(costs) - 1 and excess > 0:
            excess -= costs[first]
            first += 1
        while first < len(costs) - 1 and self.turns[first].role == "assistant":
            first += 1
        if first == self.pinned:
            return None
        return Prompt(self.turns[: self.pinned] + self.turns[first:], self.pinned, self.cut_at)


def build_prompt(system: Message | None, newest_first: Iterable[Message], model: Model) -> Prompt:
    """The system message, then as much of the conversation as the model can read.

    ``newest_first`` is read only as far as needed. What does not fit is dropped from the oldest on, without gaps, and
    an answer whose question is dropped is dropped, too: a conversation begins with the user. The system message and the
    newest message are always kept, even where these two are too long (the provider then says so). Room for an answer is
    kept free: the model's maximum output, but at most a quarter of its context window.
    """
    room = model.context_window - min(model.max_output_tokens, model.context_window // 4)
    if system is not None:
        room -= estimated_tokens(system.content)
    kept: list[Message] = []
    cut_at = None
    for message in newest_first:
        if message.role is Role.SYSTEM:
            continue
        room -= estimated_tokens(message.content)
        if room < 0 and kept:
            cut_at = message
            break
        kept.append(message)
    while len(kept) > 1 and kept[-1].role is Role.BAIO:
        cut_at = kept.pop()
    turns = [Turn(_ROLES[message.role], message.content) for message in reversed(kept)]
    if system is not None:
        turns.insert(0, Turn("system" if model.system_role else "user", system.content))
    return Prompt(tuple(turns), 0 if system is None else 1, cut_at)
