"""Claude's export: each conversation is a list ``chat_messages``, and some have the tree of them as well.

What differs from one year's export to the next: messages whose text is only in blocks, or beside them, where it also
has a sentence in place of each block that is no text; conversations without name, and messages without time.
"""

from collections.abc import Iterator
from typing import Any

from baio_adapters.chat_exports.trees import MAX_BRANCHES, Node, lines
from baio_adapters.chat_exports.values import dict_of, document_of, list_of, model_of, text_of, time_of, title_of
from baio_domain.entities import Role
from baio_domain.ports import ExportedMessage, ExportedThread, UnreadableThread

SOURCE = "Claude"

_ROLES = {"human": Role.USER, "user": Role.USER, "assistant": Role.BAIO}


def claude_threads(thread: dict[str, Any]) -> Iterator[ExportedThread | UnreadableThread]:
    """The shown branch of a conversation, then its other branches."""
    title, created_at = title_of(thread), time_of(thread.get("created_at"))
    nodes = _nodes([dict_of(each) for each in thread["chat_messages"]], model_of(thread.get("model")))
    for number, line in enumerate(lines(nodes, text_of(thread.get("current_leaf_message_uuid")))):
        if number > MAX_BRANCHES:
            yield UnreadableThread(title, f"has more than {MAX_BRANCHES} branches; the oldest are left out")
            return
        yield ExportedThread(SOURCE, title, created_at, line, branch=number)


def _nodes(messages: list[dict[str, Any]], model: str | None) -> dict[str, Node]:
    """The tree. A list without parents is a tree with one branch."""
    has_parents = any(text_of(each.get("parent_message_uuid")) for each in messages)
    nodes: dict[str, Node] = {}
    before: str | None = None
    for number, each in enumerate(messages):
        name = (text_of(each.get("uuid")) if has_parents else "") or f"message {number}"
        parent = text_of(each.get("parent_message_uuid")) if has_parents else before
        nodes[name] = Node(parent, _message(each, model))
        before = name
    return nodes


def _message(message: dict[str, Any], model: str | None) -> ExportedMessage | None:
    """The message, or None if nothing is said in it."""
    role = _ROLES.get(text_of(message.get("sender")))
    if role is None:
        return None
    blocks = [dict_of(each) for each in list_of(message.get("content"))]
    texts = [_text(each) for each in blocks]
    if not any(each.strip() for each in texts) and not any(each.get("type") for each in blocks):
        texts = [text_of(message.get("text"))]
    text = "\n\n".join(each for each in [*texts, *_attached(message)] if each.strip())
    if not text:
        return None
    spoke = (model_of(message.get("model")) or model) if role is Role.BAIO else None
    return ExportedMessage(role, text, time_of(message.get("created_at")), spoke)


def _text(block: dict[str, Any]) -> str:
    """What is said in a block, aloud or not, or the document that it writes. A change of one has only a part of it."""
    if block.get("type") in ("text", "voice_note"):
        return text_of(block.get("text"))
    document = dict_of(block.get("input"))
    if block.get("type") != "tool_use" or block.get("name") != "artifacts" or document.get("command") == "update":
        return ""
    is_code = text_of(document.get("type")) not in ("text/markdown", "text/plain")
    return document_of(document.get("title"), document.get("content"), is_code=is_code)


def _attached(message: dict[str, Any]) -> Iterator[str]:
    """The files that were sent along, with the text that the model got to read."""
    for each in [*list_of(message.get("attachments")), *list_of(message.get("files"))]:
        name, text = text_of(dict_of(each).get("file_name")), text_of(dict_of(each).get("extracted_content"))
        if name or text.strip():
            yield f"[attachment: {name}]\n{text}".replace("[attachment: ]", "[attachment]", 1).strip()
