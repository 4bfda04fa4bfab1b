"""Calls of tools: arguments are checked and completed, and every result or error of a function becomes an outcome.

The schema of a tool is an object of named parameters. Each has ``type`` (string, integer, number, boolean or array),
and may have ``description``, ``default``, ``enum``, ``minimum``, ``maximum``, and for arrays ``items``, ``minItems``
and ``maxItems``. These are the keywords that every provider of models understands.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from baio_domain.entities import UnstoredSequence
from baio_domain.sequences import MAX_NAME_LENGTH, KnownSequence, unstored
from baio_domain.text import one_line, quoted
from baio_domain.tools import (
    MAX_PRODUCTS,
    MAX_RESULT_BYTES,
    MAX_SHOWN_LETTERS,
    Computed,
    Place,
    Product,
    Tool,
    ToolOutcome,
    ToolRefused,
    ToolState,
    canonical_json,
    error_result,
)

Schema = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Arguments:
    """The complete arguments of a call: defaults filled in, None for what is optional and has none.

    ``coerced`` names those that came in another JSON type.
    """

    values: dict[str, object]
    coerced: tuple[str, ...] = ()


def complete_arguments(parameters: Schema, given: Mapping[str, object]) -> Arguments:
    """The arguments of a call under a tool's schema.

    A value that came as text of the right type is converted, and so is one value in place of a list; text that is
    wanted is never taken apart. Raises ToolRefused: ``bad-arguments``, or ``out-of-range`` for a value of the right
    type that the schema does not allow.
    """
    properties = cast("Mapping[str, Schema]", parameters["properties"])
    required = cast("list[str]", parameters.get("required", []))
    unknown = [quoted(name) for name in given if name not in properties]
    if unknown:
        raise ToolRefused(
            "bad-arguments", f"There is no parameter {', '.join(unknown)}. The parameters are: {', '.join(properties)}."
        )
    missing = [name for name in required if given.get(name) is None]
    if missing:
        raise ToolRefused("bad-arguments", f"Missing: {', '.join(missing)}. {_described(properties, missing)}".strip())
    values: dict[str, object] = {}
    coerced = []
    for name, schema in properties.items():
        value = given.get(name)
        if value is None:
            values[name] = schema.get("default")
            continue
        values[name] = _converted(name, value, schema)
        if type(values[name]) is not type(value):
            coerced.append(name)
    return Arguments(values, tuple(coerced))


def perform(tool: Tool, arguments: Arguments, known: Mapping[str, KnownSequence] | None = None) -> ToolOutcome:
    """Call a tool's function with complete arguments. Its errors are outcomes.

    ``known`` are stored sequences, which the function gets in the place of their handles in the arguments.
    """

    def outcome(state: ToolState, result: Mapping[str, object], computed: Computed | None = None) -> ToolOutcome:
        inputs, line, products = (computed.inputs, computed.line, computed.products) if computed else ((), "", ())
        return ToolOutcome(
            state, arguments.values, result, inputs, line, tool.spec.library, arguments.coerced, _to_store(products)
        )

    try:
        computed = tool.function(**{**arguments.values, **(known or {})})
        size = len(canonical_json(computed.result).encode())
    except ToolRefused as refused:
        return outcome(ToolState.REFUSED, error_result(refused.error, refused.detail))
    except MemoryError:
        error = error_result("out-of-memory", "The computation needs more memory than a tool may use. Ask for less.")
        return outcome(ToolState.FAILED, error)
    except Exception as error:  # noqa: BLE001 - a lab's tool may raise anything
        detail = f"The tool has a mistake ({type(error).__name__}). Tell its maintainer."
        return outcome(ToolState.FAILED, error_result("tool-error", detail))
    if size > MAX_RESULT_BYTES:
        detail = f"The result has {size:,} bytes; at most {MAX_RESULT_BYTES:,} are possible. Ask for less at once."
        return outcome(ToolState.REFUSED, error_result("too-long", detail))
    return outcome(ToolState.DONE, computed.result, computed)


def unknown_tool(name: str, known: Iterable[str], arguments: Mapping[str, object]) -> ToolOutcome:
    """The outcome of a call of a tool that does not exist; it lists those that do."""
    detail = f"There is no tool {quoted(name)}. The tools are: {', '.join(known)}."
    return ToolOutcome(ToolState.REFUSED, arguments, error_result("unknown-tool", detail))


def _to_store(products: Sequence[Product]) -> dict[Place, UnstoredSequence]:
    """The long ones of a call's products."""
    long = [each for each in products if len(each.letters) > MAX_SHOWN_LETTERS]
    return {
        each.place: unstored(each.letters, one_line(each.name, MAX_NAME_LENGTH), each.molecule, each.topology)
        for each in long[:MAX_PRODUCTS]
    }


def _described(properties: Mapping[str, Schema], names: list[str]) -> str:
    said = {name: properties[name].get("description") for name in names}
    return " ".join(f"{name}: {text}" for name, text in said.items() if text)


def _converted(name: str, value: object, schema: Schema) -> object:
    kind = cast("str", schema["type"])
    converted = _TYPES[kind](value)
    if converted is None:
        raise ToolRefused("bad-arguments", f"{name} must be of type {kind}, not {quoted(value)}.")
    if isinstance(converted, list):
        items = cast("Schema", schema["items"])
        converted = [_converted(f"an item of {name}", item, items) for item in converted]
    _check_range(name, converted, schema)
    return converted


def _check_range(name: str, value: object, schema: Schema) -> None:
    allowed = cast("list[object]", schema.get("enum", []))
    if allowed and value not in allowed:
        raise ToolRefused("out-of-range", f"{name} must be one of {_listed(allowed)}, not {quoted(value)}.")
    if isinstance(value, int | float):
        low, high = cast("float", schema.get("minimum", -math.inf)), cast("float", schema.get("maximum", math.inf))
        if not low <= value <= high:
            raise ToolRefused("out-of-range", f"{name} must be {_between(low, high)}, not {quoted(value)}.")
    if isinstance(value, list):
        few, many = cast("int", schema.get("minItems", 0)), cast("float", schema.get("maxItems", math.inf))
        if not few <= len(value) <= many:
            raise ToolRefused("out-of-range", f"{name} must have {_between(few, many)} items, not {len(value)}.")


def _listed(values: list[object]) -> str:
    return ", ".join(str(value) for value in values)


def _between(low: float, high: float) -> str:
    if high == math.inf:
        return f"at least {low}"
    return f"at most {high}" if low == -math.inf else f"{low} to {high}"


def _string(value: object) -> str | None:
    if isinstance(value, dict) and value.keys() == {"value", "unit"}:
        value = f"{value['value']} {value['unit']}"  # a quantity, as many write it in JSON
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)  # a choice such as 1, of a parameter whose other choices are words
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None  # half of a surrogate pair is no text
    return value


def _number(value: object) -> float | None:
    read = _decoded(value)
    if isinstance(read, bool) or not isinstance(read, int | float):
        return None
    return read if abs(read) < 2**53 else None  # beyond it, and for NaN, JSON's readers differ


def _integer(value: object) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number == int(number) else None


def _boolean(value: object) -> bool | None:
    read = _decoded(value.lower() if isinstance(value, str) else value)
    return read if isinstance(read, bool) else None


def _array(value: object) -> list[object] | None:
    read = _decoded(value)
    if isinstance(read, list):
        return read
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return None


def _decoded(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


_TYPES: Mapping[str, Callable[[object], object]] = {
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "array": _array,
}
