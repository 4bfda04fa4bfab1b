"""Gateways to models. All of them, including BAiO's own, are found through their entry points."""

from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points

from baio_domain.ports import GatewayFactory

ENTRY_POINT_GROUP = "baio.llm_gateways"


class MissingExtra(LookupError):
    """A gateway's dependencies are not installed; the message is one line that says how to install them."""


def installed_gateways() -> dict[str, GatewayFactory]:
    """The installed gateways' factories by the name of their entry point: OpenAI's first, the others by name.

    A gateway without its extra is left out. This imports the gateways' modules, but no SDK.
    """
    loaded: dict[str, GatewayFactory] = {}
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: (point.name != "openai", point.name)):
        with suppress(MissingExtra):
            loaded[point.name] = _load(point)
    return loaded


def gateway_factory(name: str) -> GatewayFactory:
    """The factory of the gateway whose entry point has this name.

    Raises LookupError, with one line that says what to do, if there is no such gateway or its extra is not installed.
    """
    points = entry_points(group=ENTRY_POINT_GROUP)
    if name not in points.names:
        raise LookupError(f"unknown gateway {name!r}; available: {', '.join(sorted(points.names))}")
    return _load(points[name])


def _load(point: EntryPoint) -> GatewayFactory:
    try:
        factory: GatewayFactory = point.load()
    except ModuleNotFoundError:
        # By convention, a gateway's extra has the name of its entry point.
        if point.dist is None or point.name not in (point.dist.metadata.get_all("Provides-Extra") or ()):
            raise
        command = f"pip install '{point.dist.name}[{point.name}]'"
        raise MissingExtra(f"{point.name.capitalize()} needs an extra: {command}") from None
    return factory
