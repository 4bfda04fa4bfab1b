"""The parameters of a request to a model: their names, and the form and range in which a provider accepts them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from baio_domain.errors import FieldError

Value = float | int | str

Parameters = Mapping[str, Value]
"""Values by the names of ``PARAMETERS``."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """How a parameter is accepted; None where it is as elsewhere.

    ``sent_as`` is its name in a request; a dot stands for a level of nesting. Numbers are from ``least`` to ``most``.
    A text is one of ``levels``.
    """

    sent_as: str | None = None
    least: float | None = None
    most: float | None = None
    levels: tuple[str, ...] | None = None

    def over(self, base: "Accepted") -> "Accepted":
        """This rule, completed from ``base``."""
        return Accepted(
            base.sent_as if self.sent_as is None else self.sent_as,
            base.least if self.least is None else self.least,
            base.most if self.most is None else self.most,
            base.levels if self.levels is None else self.levels,
        )


LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""All levels of effort that any provider has."""

MAX_TOKENS = 100_000_000

PARAMETERS: Mapping[str, Accepted] = {
    "temperature": Accepted(least=0, most=2),
    "top_p": Accepted(least=0, most=1),
    "max_output_tokens": Accepted(least=1, most=MAX_TOKENS),
    "reasoning_effort": Accepted(levels=LEVELS),
    "seed": Accepted(least=-(2**63), most=2**63 - 1),
}
"""Every parameter, with the widest range that any provider accepts."""

INTEGERS = frozenset({"max_output_tokens", "seed"})

Rules = Mapping[str, Accepted | None]
"""How parameters are accepted, by name; None for one that is not accepted."""


def rules_over(rules: Rules, base: Rules) -> dict[str, Accepted | None]:
    """These rules, completed from ``base``."""
    merged = dict(base)
    for name, rule in rules.items():
        below = base.get(name)
        merged[name] = rule if rule is None or below is None else rule.over(below)
    return merged


def taken(*rules: Rules) -> dict[str, Accepted]:
    """The parameters accepted by these rules, the more specific ones last."""
    merged: dict[str, Accepted | None] = {}
    for each in rules:
        merged = rules_over(each, merged)
    return {name: rule for name in PARAMETERS if (rule := merged.get(name)) is not None}


def parameter_problems(parameters: Parameters, accepted: Mapping[str, Accepted]) -> Iterator[FieldError]:
    """Everything that is wrong with these parameters if only ``accepted`` are accepted."""
    for name, value in parameters.items():
        if problem := _problem(name, value, accepted):
            yield FieldError(f"parameters.{name}" if name in PARAMETERS else "parameters", problem)


def fitting(parameters: Parameters, accepted: Mapping[str, Accepted]) -> tuple[dict[str, Value], list[str]]:
    """The accepted parameters, and the names of the others."""
    left_out = [name for name, value in parameters.items() if _problem(name, value, accepted)]
    return {name: value for name, value in parameters.items() if name not in left_out}, left_out


def fields_of(parameters: Parameters, accepted: Mapping[str, Accepted]) -> dict[str, object]:
    """The fields of a request for these parameters."""
    fields: dict[str, object] = {}
    for name, value in parameters.items():
        *outer, last = _path(name, accepted)
        place = fields
        for each in outer:
            place = place.setdefault(each, {})  # type: ignore[assignment]
        place[last] = value
    return fields


def sent_names(parameters: Parameters, accepted: Mapping[str, Accepted]) -> dict[str, str]:
    """By every name under which a provider may speak of one of these parameters, the parameter."""
    names = {".".join(_path(name, accepted)): name for name in parameters}
    return names | {path.rpartition(".")[2]: name for path, name in names.items()}


def _path(name: str, accepted: Mapping[str, Accepted]) -> Sequence[str]:
    rule = accepted.get(name)
    return ((rule.sent_as if rule else None) or name).split(".")


def _problem(name: str, value: Value, accepted: Mapping[str, Accepted]) -> str | None:
    if name not in accepted:
        shown = name if name in PARAMETERS else "an unknown parameter"
        return f"{shown} is not accepted (accepted: {', '.join(accepted) or 'none'})"
    rule = accepted[name].over(PARAMETERS[name])
    if rule.levels is not None:
        return None if value in rule.levels else f"must be one of: {', '.join(rule.levels)}"
    if name in INTEGERS and type(value) is not int:
        return "must be an integer"
    if isinstance(value, str | bool) or not isfinite(value):
        return "must be a number"
    least, most = rule.least or 0, rule.most or 0
    return None if least <= value <= most else f"must be from {_number(least)} to {_number(most)}"


def _number(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)
