"""Calls of BAiO's own tools in this process."""

from typing import Any

from baio_adapters.biology import installed_tools
from baio_domain.tool_calls import complete_arguments, perform
from baio_domain.tools import ToolOutcome, ToolRefused, ToolState, error_result

TOOLS = installed_tools()


def call(name: str, **arguments: object) -> ToolOutcome:
    """Call a tool as the toolbox does, without its process."""
    tool = TOOLS[name]
    try:
        return perform(tool, complete_arguments(tool.spec.parameters, arguments))
    except ToolRefused as refused:
        return ToolOutcome(ToolState.REFUSED, arguments, error_result(refused.error, refused.detail))


def computed(name: str, **arguments: object) -> dict[str, Any]:
    """The result of a call that is done."""
    outcome = call(name, **arguments)
    assert outcome.state == "done", outcome.result
    return dict(outcome.result)


def refused(name: str, **arguments: object) -> tuple[str, str]:
    """The error and the detail of a call that is refused."""
    outcome = call(name, **arguments)
    assert outcome.state == "refused", outcome.result
    return str(outcome.result["error"]), str(outcome.result["detail"])
