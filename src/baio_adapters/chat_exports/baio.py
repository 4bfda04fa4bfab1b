"""BAiO's own export: each conversation has ``messages``, and ``answers`` with how they came about."""

from collections.abc import Iterator
from typing import Any

from baio_adapters.chat_exports.values import dict_of, list_of, model_of, text_of, time_of, title_of
from baio_domain.entities import AnswerState, Role
from baio_domain.ports import ExportedMessage, ExportedThread

SOURCE = "BAiO"

_STATES = {state.value: state for state in AnswerState if state is not AnswerState.RUNNING}


def baio_thread(thread: dict[str, Any]) -> Iterator[ExportedThread]:
    """The conversation. An answer is the message that was stored when it ended."""
    records = {text_of(each.get("ended_at")): each for each in map(dict_of, list_of(thread.get("answers")))}
    system: str | None = None
    messages = []
    for each in map(dict_of, thread["messages"]):
        role, content, written = text_of(each.get("role")), text_of(each.get("content")), each.get("created_at")
        if role == "system":
            system = system or content
        elif role in ("user", "baio") and content.strip():
            record = records.get(text_of(written), {}) if role == "baio" else {}
            model = model_of(record.get("model")) or model_of(record.get("requested_model"))
            state = _STATES.get(text_of(record.get("state")), AnswerState.COMPLETE)
            messages.append(ExportedMessage(Role(role), content, time_of(written), model, state))
    if messages:
        created_at = time_of(thread.get("created_at"))
        yield ExportedThread(SOURCE, title_of(thread), created_at, tuple(messages), system=system)
