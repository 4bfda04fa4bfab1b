"""ChatGPT's export: each conversation is a tree of nodes in ``mapping``, and ``current_node`` the end of what is shown.

What differs from one year's export to the next: conversations without title or times, nodes without ``children`` or
message, messages without metadata, the model named only by the conversation, hidden messages with the user's profile,
and several numbered files.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from baio_adapters.chat_exports.trees import MAX_BRANCHES, Node, lines
from baio_adapters.chat_exports.values import (
    dict_of,
    document_of,
    fenced,
    list_of,
    model_of,
    text_of,
    time_of,
    title_of,
)
from baio_domain.entities import Role
from baio_domain.ports import ExportedMessage, ExportedThread, UnreadableThread

SOURCE = "ChatGPT"

_ROLES = {"user": Role.USER, "assistant": Role.BAIO}
_SHOWN = {"text", "multimodal_text", "code"}
"""Kinds of content that are said. The others are thoughts, results of tools, and what the service adds."""

_MARK = re.compile("\ue200([^\ue200\ue201]{0,2000})(?:\ue201|\\Z)|[\ue203-\ue206]")
"""References to web pages and names of things, between letters that no font has; the last one may be cut off."""

_CANVAS = {"canmore.create_textdoc", "canmore.update_textdoc"}
"""To whom a message with a document goes, which is shown beside the conversation."""


def chatgpt_threads(thread: dict[str, Any]) -> Iterator[ExportedThread | UnreadableThread]:
    """The shown branch of a conversation, then its other branches."""
    title, model = title_of(thread), model_of(thread.get("default_model_slug"))
    nodes = _nodes(dict_of(thread["mapping"]), model)
    created_at = time_of(thread.get("create_time"))
    for number, line in enumerate(lines(nodes, text_of(thread.get("current_node")))):
        if number > MAX_BRANCHES:
            yield UnreadableThread(title, f"has more than {MAX_BRANCHES} branches; the oldest are left out")
            return
        yield ExportedThread(SOURCE, title, created_at, line, branch=number)


def _nodes(mapping: dict[str, Any], model: str | None) -> dict[str, Node]:
    """The tree, in the order of the messages' times; nodes without a time stay where they are."""
    parents: dict[str, str] = {}
    for name, node in mapping.items():
        for child in list_of(dict_of(node).get("children")):
            if isinstance(child, str) and child != name:
                parents.setdefault(child, name)
    found: list[tuple[float, str, Node]] = []
    latest = 0.0
    for name, each in mapping.items():
        node = dict_of(each)
        message = _message(dict_of(node.get("message")), model)
        parent = node.get("parent")
        own = parent if isinstance(parent, str) and parent in mapping else parents.get(name)
        time = time_of(dict_of(node.get("message")).get("create_time"))
        latest = time.timestamp() if time else latest
        found.append((latest, name, Node(own, message)))
    return {name: node for _, name, node in sorted(found, key=lambda each: each[0])}


def _message(message: dict[str, Any], model: str | None) -> ExportedMessage | None:
    """The message, or None if it is not shown."""
    role = _ROLES.get(text_of(dict_of(message.get("author")).get("role")))
    metadata, content = dict_of(message.get("metadata")), dict_of(message.get("content"))
    hidden = metadata.get("is_visually_hidden_from_conversation") or metadata.get("is_user_system_message")
    recipient = text_of(message.get("recipient")) or "all"
    said = content.get("content_type", "text") in _SHOWN and (recipient == "all" or recipient in _CANVAS)
    if role is None or hidden or not said or message.get("weight") == 0:
        return None
    attached = [text_of(dict_of(each).get("name")) for each in list_of(metadata.get("attachments"))]
    texts = [*_parts(content), *(f"[attachment: {name}]" for name in attached if name)]
    if recipient in _CANVAS:
        texts = [_document(content)]
    text = _MARK.sub(_meant, "\n\n".join(each for each in texts if each.strip()))
    if not text.strip():
        return None
    spoke = (model_of(metadata.get("model_slug")) or model) if role is Role.BAIO else None
    return ExportedMessage(role, text, time_of(message.get("create_time")), spoke)


def _parts(content: dict[str, Any]) -> Iterator[str]:
    """The texts of a message; what is none is named."""
    if content.get("content_type") == "code":
        yield fenced(text_of(content.get("text"))) if text_of(content.get("text")).strip() else ""
    for part in list_of(content.get("parts")):
        if isinstance(part, str):
            yield text_of(part)
        elif isinstance(part, dict):
            kind = text_of(part.get("content_type"))
            yield text_of(part.get("text")) or ("[image]" if kind.startswith("image") else "")


def _document(content: dict[str, Any]) -> str:
    """The document, if the message has all of it: most changes are only patterns and what to put there."""
    call = _json_of(text_of(content.get("text")) or "".join(map(text_of, list_of(content.get("parts")))))
    if isinstance(call.get("content"), str):
        is_code = text_of(call.get("type")).startswith("code")
        return document_of(call.get("name"), call["content"], is_code=is_code)
    changes = [dict_of(each) for each in list_of(call.get("updates"))]
    if len(changes) == 1 and changes[0].get("pattern") == ".*":
        return document_of(call.get("name"), changes[0].get("replacement"), is_code=False)
    return ""


def _meant(mark: re.Match[str]) -> str:
    """What is shown in the place of a mark: the name of a thing or of a link; of a source, nothing."""
    kind, _, rest = (mark[1] or "").partition("\ue202")
    if kind == "url":
        label, _, address = rest.partition("\ue202")
        return f"[{label}]({address})" if address else label
    names = _json_of(f'{{"names": {rest}}}').get("names") if kind == "entity" else None
    return "".join(map(text_of, list_of(names)[1:2]))


def _json_of(text: str) -> dict[str, Any]:
    try:
        return dict_of(json.loads(text))
    except (ValueError, RecursionError):
        return {}
