"""The calls of tools in a stream of OpenAI's protocol, which arrive as fragments.

Servers differ in how they say to which call a fragment belongs, and in whether arguments are pieces or repeated whole.
"""

import json
import re
from collections.abc import Collection
from typing import Any

from baio_domain.ports import Called

MAX_ARGUMENTS = 256 * 1024
"""Characters of arguments that are kept of one call; more are dropped, and BAiO refuses fewer already."""

MAX_CALLS = 64
"""Calls that are kept of one stream; more are dropped, and BAiO runs fewer already."""

_DECORATED = re.compile(r"(?:functions?[.:])?([\w-]+?)(?::\d+)?(?:<\|.*)?", re.DOTALL)

_OWN_MEMBERS = frozenset({"index", "id", "type", "function"})


class GrowingCalls:
    """Puts the calls of one stream together. ``offered`` are the names of the tools that the model may call."""

    __slots__ = ("_calls", "_offered")

    def __init__(self, offered: Collection[str]) -> None:
        self._calls: list[_GrowingCall] = []
        self._offered = offered

    def add(self, fragments: object) -> None:
        """Note the ``tool_calls`` of one event."""
        for fragment in fragments if isinstance(fragments, list) else [fragments]:
            if isinstance(fragment, dict):
                self._add(fragment)

    def whole(self) -> list[Called]:
        """The calls, once the stream has ended; never before, for the beginning of arguments can be valid, too.

        A call without a name can't be run or answered, so there is none.
        """
        return [
            Called(self._plain(call.name), call.whole_arguments(), call.opaque or None)
            for call in self._calls
            if call.name
        ]

    def _plain(self, name: str) -> str:
        """The name without what the format of the model has around it, as in Kimi's ``functions.gc_content:0``."""
        found = _DECORATED.fullmatch(name)
        return found[1] if name not in self._offered and found and found[1] in self._offered else name

    def _name_so_far(self, call: "_GrowingCall", piece: str) -> str | None:
        """The name of a call with one more piece of it, or all of it so far; None where the piece is another name."""
        if not call.name or call.name in self._offered or call.has_arguments:
            return None
        name = piece if piece.startswith(call.name) else call.name + piece
        return name if any(each.startswith(name) for each in self._offered) else None

    def _add(self, fragment: dict[str, Any]) -> None:
        function = fragment.get("function")
        function = function if isinstance(function, dict) else {}
        index, name, arguments = fragment.get("index"), _text(function.get("name")), function.get("arguments")
        if arguments is not None and not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)  # Ollama's native form
        arguments = arguments or ""
        call = self._find(_text(fragment.get("id")), index, name, arguments)
        if call is None:
            if len(self._calls) == MAX_CALLS:
                return
            call = _GrowingCall(index)
            self._calls.append(call)
        call.id = call.id or _text(fragment.get("id"))
        call.name = self._name_so_far(call, name) or call.name or name
        call.grow(arguments)
        call.opaque |= {key: value for key, value in fragment.items() if key not in _OWN_MEMBERS and value is not None}

    def _find(self, id_: str, index: object, name: str, arguments: str) -> "_GrowingCall | None":
        """The call to which a fragment belongs, None for a new one.

        The id counts, else the index, else the latest call is meant. Some servers give all calls one index, or one id;
        others begin a call at the index of the one before, and go on at its own.
        """
        for call in reversed(self._calls):
            same_place = index is None or call.index is None or call.index == index
            if same_place and (not id_ or call.id in (id_, "")):
                if name and self._name_so_far(call, name):
                    return call
                follows = call.is_followed_by(name, arguments, addressed=bool(id_) or index is not None)
                return None if follows else call
        latest = self._calls[-1] if self._calls else None
        return None if id_ or name or latest is None or latest.is_whole else latest


class _GrowingCall:
    """One call, as far as it has arrived."""

    __slots__ = ("_cumulative", "_length", "_parts", "id", "index", "name", "opaque")

    def __init__(self, index: object) -> None:
        self.index = index
        self.id = self.name = ""
        self.opaque: dict[str, Any] = {}
        self._parts: list[str] = []
        self._length = 0
        self._cumulative = False

    def is_followed_by(self, name: str, arguments: str, *, addressed: bool) -> bool:
        """Whether a fragment with this name is the beginning of another call, although it seems to be of this one."""
        if not name or not self.name:
            return False
        if name != self.name:
            return True
        if not _is_object(self._text()):
            return False
        return arguments != self._text() if arguments else not addressed

    @property
    def has_arguments(self) -> bool:
        """Whether any of its arguments have arrived."""
        return self._length > 0

    @property
    def is_whole(self) -> bool:
        """Whether its arguments are complete."""
        return _is_object(self._text())

    def grow(self, arguments: str) -> None:
        """Note more arguments: a piece, or all so far, which servers such as Qianfan's send each time."""
        if len(arguments) >= self._length >= 2 and arguments.startswith(self._text()):
            self._cumulative = self._cumulative or not _is_object(self._text())
            if self._cumulative:
                self._parts, self._length = [arguments], len(arguments)
                return
        if self._length < MAX_ARGUMENTS:
            self._parts.append(arguments)
            self._length += len(arguments)

    def whole_arguments(self) -> str:
        """The arguments. Some servers send them all once more at the end."""
        text = self._text().strip()
        if text in ("", "null"):
            return "{}"
        try:
            _, end = json.JSONDecoder().raw_decode(text)
        except (ValueError, RecursionError):
            return text
        first, rest = text[:end], text[end:]
        return first if not rest.replace(first, "").strip() else text

    def _text(self) -> str:
        return "".join(self._parts)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
