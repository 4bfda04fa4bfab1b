"""Tools. All of them, including BAiO's own, are found through their entry points."""

import logging
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points

from baio_domain.tools import Tool

ENTRY_POINT_GROUP = "baio.tools"

logger = logging.getLogger("baio.tools")


def installed_tools() -> dict[str, Tool]:
    """The installed tools by their names: BAiO's own first, the others by name.

    A tool that can't be used costs no other: it is left out and logged. This imports the tools' modules.
    """
    points = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: (not _is_own(point), point.name))
    found: dict[str, Tool] = {}
    for point in points:
        try:
            found[point.name] = _load(point, found)
        except Exception as error:  # noqa: BLE001 - a lab's module may raise anything
            logger.warning("tool left out", extra={"tool": point.name, "why": f"{type(error).__name__}: {error}"})
    return found


def _is_own(point: EntryPoint) -> bool:
    return point.value.startswith("baio_adapters.")


def _load(point: EntryPoint, others: Mapping[str, Tool]) -> Tool:
    if point.name in others:
        raise ValueError("another tool has this name")
    tool = point.load()
    if not isinstance(tool, Tool):
        raise TypeError(f"{point.value} is no Tool")
    if tool.spec.name != point.name:
        raise ValueError(f"its name is {tool.spec.name!r}")
    return tool
