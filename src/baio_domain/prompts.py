"""What a model is asked: the conversation as turns, trimmed to what the model can read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from baio_domain.entities import Message, Model, Role

BYTES_PER_TOKEN = 3
"""A careful estimate: English has about 4 UTF-8 bytes to a token, sequences and other scripts fewer."""

TOKENS_PER_TURN = 4
"""What a turn costs besides its text (OpenAI's cookbook: 3 for the frame, 1 for the role)."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message as a provider reads it."""

    role: Literal["system", "user", "assistant"]
    content: str


_ROLES: Mapping[Role, Literal["system", "user", "assistant"]] = {
    Role.SYSTEM: "system",
    Role.USER: "user",
    Role.BAIO: "assistant",
}


def estimated_tokens(content: str) -> int:
    """About how many tokens a turn with this text costs; rather too many than too few for prose."""
    return len(content.encode(errors="replace")) // BYTES_PER_TOKEN + TOKENS_PER_TURN


def prompt(system: Message | None, newest_first: Iterable[Message], model: Model) -> list[Turn]:
    """The turns to send, oldest first: the system message, then as much of the conversation as the model can read.

    ``newest_first`` is read only as far as needed. What does not fit is dropped from the oldest on, without gaps; the
    system message and the newest message are always kept, even where they alone are too long (the provider then says
    so). Room for an answer is kept free: the model's longest, but no more than a quarter of its window.
    """
    room = model.context_window - min(model.longest_answer, model.context_window // 4)
    if system is not None:
        room -= estimated_tokens(system.content)
    kept: list[Message] = []
    for message in newest_first:
        if message.role is Role.SYSTEM:
            continue
        room -= estimated_tokens(message.content)
        if room < 0 and kept:
            break
        kept.append(message)
    turns = [Turn(_ROLES[message.role], message.content) for message in reversed(kept)]
    if system is not None:
        turns.insert(0, Turn("system" if model.system_role else "user", system.content))
    return turns
