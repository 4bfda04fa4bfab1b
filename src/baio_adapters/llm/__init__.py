"""Gateways to models. Every one of them, BAiO's own included, is found through its entry point."""

from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points

from baio_domain.ports import GatewayFactory

GROUP = "baio.llm_gateways"


class ExtraMissing(LookupError):
    """What a gateway needs is not installed; says in one line how to install it."""


def installed_gateways() -> dict[str, GatewayFactory]:
    """The installed gateways' factories by the name of their entry point, OpenAI's first, the others by name.

    One whose extra is not installed is left out. A gateway's module is loaded here, so this is slow (openai's package
    takes half a second).
    """
    loaded: dict[str, GatewayFactory] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name != "openai", point.name)):
        with suppress(ExtraMissing):
            loaded[point.name] = _load(point)
    return loaded


def gateway_factory(name: str) -> GatewayFactory:
    """The factory of the gateway whose entry point has this name.

    Raises LookupError, with one line that says what to do, where there is none or its extra is not installed.
    """
    points = entry_points(group=GROUP)
    if name not in points.names:
        raise LookupError(f"There is no gateway {name!r}; there are {', '.join(sorted(points.names))}.")
    return _load(points[name])


def _load(point: EntryPoint) -> GatewayFactory:
    try:
        factory: GatewayFactory = point.load()
    except ModuleNotFoundError:
        # By convention the extra that a gateway needs is called as the gateway is.
        if point.dist is None or point.name not in (point.dist.metadata.get_all("Provides-Extra") or ()):
            raise
        needed = f"pip install '{point.dist.name}[{point.name}]'"
        raise ExtraMissing(f"{point.name.capitalize()} needs an extra: {needed}") from None
    return factory
