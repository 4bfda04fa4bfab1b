"""Conversations as trees: each change of a question, and each further answer, is a branch."""

from collections.abc import Iterator
from dataclasses import dataclass

from baio_domain.ports import ExportedMessage

MAX_BRANCHES = 20
"""Branches of one conversation besides what is shown."""

MAX_LEAVES = 200
"""Ends of branches that are looked at; many differ in nothing that is shown."""


@dataclass(frozen=True, slots=True)
class Node:
    """A place in the tree. ``message`` is None where nothing is shown, ``parent`` where it begins."""

    parent: str | None
    message: ExportedMessage | None


def lines(nodes: dict[str, Node], current: str | None) -> Iterator[tuple[ExportedMessage, ...]]:
    """The messages on the way to ``current``, then those of each other branch, newest first.

    ``nodes`` are in the order of their times, as far as that is known. Without a ``current`` that exists, the last end
    is what is shown. A branch with nothing to show besides what another has is left out. Where a parent is missing, or
    the tree runs in a circle, the way begins there.
    """
    inner = {node.parent for node in nodes.values()}
    leaves = [name for name in reversed(nodes) if name not in inner]
    if current not in nodes:
        current = leaves[0] if leaves else next(reversed(nodes), None)
    found: list[tuple[ExportedMessage, ...]] = []
    for leaf in [current, *(each for each in leaves if each != current)][: MAX_LEAVES + 1]:
        line = _way_to(nodes, leaf)
        if line and not any(line == other[: len(line)] for other in found):
            found.append(line)
            yield line


def _way_to(nodes: dict[str, Node], name: str | None) -> tuple[ExportedMessage, ...]:
    way: list[ExportedMessage] = []
    seen: set[str] = set()
    while name is not None and name in nodes and name not in seen:
        seen.add(name)
        node = nodes[name]
        if node.message is not None:
            way.append(node.message)
        name = node.parent
    return tuple(reversed(way))
