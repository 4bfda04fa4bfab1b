"""Gateways to models. Every one of them, BAiO's own included, is found through its entry point."""

from importlib.metadata import entry_points

from baio_domain.ports import GatewayFactory

GROUP = "baio.llm_gateways"


def installed_gateways() -> dict[str, GatewayFactory]:
    """The installed gateways' factories by the name of their entry point, OpenAI's first, the others by name.

    A gateway's module is loaded here, so this is slow (openai's package takes half a second).
    """
    points = sorted(entry_points(group=GROUP), key=lambda point: (point.name != "openai", point.name))
    return {point.name: point.load() for point in points}
