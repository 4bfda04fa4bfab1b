"""Quantities with units as people write them, read exactly: "100 uM", "1.5 ng/µL", "3 kb", "1e6 copies"."""

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

from baio_domain.text import quoted
from baio_domain.tools import ToolRefused

MAX_CHARACTERS = 60

VOLUME, MASS, AMOUNT, COPIES, LENGTH, NUMBER = "volume", "mass", "amount", "copies", "length", "number"
MOLAR, MASS_CONCENTRATION, COPIES_PER_VOLUME = (
    "molar concentration",
    "mass concentration",
    "number per volume",
)

_SUPERSCRIPTS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")
_QUANTITY = re.compile(
    r"(?:(?P<number>(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)"
    r"(?:e(?P<e>[-+]?\d{1,2})|\s*[x*·]\s*10\^?(?P<times>(?<=\^)\d{1,2}|[-+]\d{1,2}))?"
    r"|10\^(?P<power>[-+]?\d{1,2}))"
    r"\s*(?P<unit>[^\d\s.,^+-].*)?",
    re.IGNORECASE,
)
_PREFIXES = {
    "a": -18, "f": -15, "p": -12, "n": -9, "u": -6, "μ": -6, "mc": -6, "m": -3, "c": -2, "d": -1, "": 0, "k": 3,
}  # fmt: skip
_SIMPLE = re.compile(r"(mc|[afpnuμmcdk])?(mol|M|g|L|l|U)")
_CUBED = re.compile(r"\b(?:(dm|cm|mm)\^?(-?)3|(cc))$", re.IGNORECASE)
_CUBES = {"dm": "L", "cm": "mL", "cc": "mL", "mm": "uL"}
"""Litres of cubes: 1 dm³ is 1 L."""

_WORDS = re.compile(
    "(?P<prefix>femto|pico|nano|micro|milli|centi|deci|kilo)?(?P<base>molar|moles?|mol|grams?|lit(?:er|re)s?|units?)"
    "|(?P<short>mc|[afpnuμmk])mol(?:es?)",
    re.IGNORECASE,
)
_PREFIX_WORDS = {
    "femto": "f", "pico": "p", "nano": "n", "micro": "u", "milli": "m", "centi": "c", "deci": "d", "kilo": "k", "": "",
}  # fmt: skip
_BASE_WORDS = {"molar": "M", "mo": "mol", "gr": "g", "li": "L", "un": "U"}
_KINDS = {"mol": AMOUNT, "M": MOLAR, "g": MASS, "L": VOLUME, "U": "activity"}
_COUNTED = {
    "": (NUMBER, 1), "copies": (COPIES, 1), "copy": (COPIES, 1), "molecules": (COPIES, 1), "molecule": (COPIES, 1),
    "bp": (LENGTH, 1), "nt": (LENGTH, 1), "b": (LENGTH, 1), "bases": (LENGTH, 1), "kb": (LENGTH, 1_000),
    "kbp": (LENGTH, 1_000), "knt": (LENGTH, 1_000), "mb": (LENGTH, 1_000_000), "mbp": (LENGTH, 1_000_000),
    "gb": (LENGTH, 1_000_000_000), "gbp": (LENGTH, 1_000_000_000),
    "x": ("fold concentration", 1), "%": ("percentage", 1),
}  # fmt: skip
_CONCENTRATIONS = {
    AMOUNT: MOLAR,
    MASS: MASS_CONCENTRATION,
    "activity": "activity concentration",
    COPIES: COPIES_PER_VOLUME,
}
CONCENTRATIONS = (*_CONCENTRATIONS.values(), "fold concentration", "percentage")

UNITS = "pM to M, ng/µL, mg/mL, g/L, fg to g, fmol to mol, nL to L, bp, kb, copies, U/µL, x and %"


@dataclass(frozen=True, slots=True)
class Quantity:
    """A quantity: its kind, its exact value in mol, g, L, bp and their ratios, and its unit as it was written."""

    kind: str
    value: Fraction
    unit: str
    factor: Fraction

    @property
    def written(self) -> dict[str, object]:
        """As a result shows it: in its own unit."""
        return {"value": significant(self.value / self.factor), "unit": self.unit}

    def __str__(self) -> str:
        return f"{significant(self.value / self.factor):g} {self.unit}".strip()


def quantity(argument: str, text: str) -> Quantity:
    """Read a quantity above 0.

    Raises ToolRefused: ``not-a-quantity`` if it is no number with a unit, ``unknown-unit``, or ``out-of-range``.
    """
    match = _QUANTITY.fullmatch(_plain(text)) if len(text) <= MAX_CHARACTERS else None
    if not match:
        raise ToolRefused(
            "not-a-quantity",
            f"{argument} is {quoted(text) or 'empty'}. Give a number above 0 with its unit, such as 1.5 ng/µL.",
        )
    power = int(match["power"] or match["times"] or match["e"] or 0)
    number = Fraction((match["number"] or "1").replace(",", "")) * Fraction(10) ** power
    if number <= 0:
        raise ToolRefused("out-of-range", f"{argument} must be above 0, not {quoted(text)}.")
    unit = (match["unit"] or "").strip()
    known = _unit(unit)
    if known is None:
        raise ToolRefused("unknown-unit", f"{argument} has the unit {quoted(unit)}. Known are {UNITS}.")
    return Quantity(known[0], number * known[1], unit, known[1])


def of_kind(argument: str, text: str, *kinds: str) -> Quantity:
    """Read a quantity of one of these kinds; raises ToolRefused, ``units-differ``, for another kind.

    A number without a unit is a length or a number of copies, where nothing else is possible.
    """
    read = quantity(argument, text)
    if read.kind == NUMBER and kinds in ((LENGTH,), (COPIES,)):
        return Quantity(kinds[0], read.value, COPIES if kinds == (COPIES,) else "bp", read.factor)
    if read.kind not in kinds:
        wanted = kinds[0] if len(kinds) == 1 else "concentration"
        a = "an" if wanted.startswith("a") else "a"
        raise ToolRefused(
            "units-differ",
            f"{argument} is {quoted(text)}, and must be {a} {wanted}. Give it with such a unit: {UNITS}.",
        )
    return read


def in_unit(kind: str, value: Fraction, unit: str) -> Quantity:
    """A computed quantity in a unit."""
    known = _unit(unit)
    return Quantity(kind, value, unit, known[1] if known else Fraction(1))


def volume_of(value: Fraction) -> Quantity:
    """A computed volume in the unit of the pipette or cylinder that measures it."""
    unit = "µL" if value < Fraction(1, 1_000) else "mL" if value < 1 else "L"
    return in_unit(VOLUME, value, unit)


def significant(value: Fraction, digits: int = 6) -> float:
    """A value with so many significant digits."""
    return float(f"{float(value):.{digits}g}")


def _plain(text: str) -> str:
    """A text in ASCII's digits, with ^ before superscripts, one kind of minus and one kind of micro."""
    raised = unicodedata.normalize("NFKC", _SUPERSCRIPTS.sub(lambda found: f"^{found[0]}", text))
    return raised.replace("\N{MINUS SIGN}", "-").replace("\N{MULTIPLICATION SIGN}", "x").strip()


def _unit(text: str) -> tuple[str, Fraction] | None:
    """The kind of a unit, and its factor to mol, g, L, bp and their ratios."""
    plain = re.sub(r"\s+per\s+", "/", _plain(text), flags=re.IGNORECASE)
    plain = _CUBED.sub(lambda cube: _CUBES[(cube[1] or cube[3]).lower()] + ("^-1" if cube[2] else ""), plain)
    plain = re.sub(r"\s*[·*.]?\s*([a-zμ]?l)\^?-1$", r"/\1", plain, flags=re.IGNORECASE)
    over, slash, under = (part.strip() for part in plain.partition("/"))
    first = _simple(over)
    if not slash:
        return first
    second = _simple(under)
    if first is None or second is None or second[0] != VOLUME or first[0] not in _CONCENTRATIONS:
        return None
    return _CONCENTRATIONS[first[0]], first[1] / second[1]


def _simple(text: str) -> tuple[str, Fraction] | None:
    """A unit without a ratio; where the case makes no sense, it doesn't matter: "nm" of a concentration is nM."""
    word = _abbreviated(text)
    if word.lower() in _COUNTED:
        kind, factor = _COUNTED[word.lower()]
        return kind, Fraction(factor)
    match = _SIMPLE.fullmatch(word) or _SIMPLE.fullmatch(_usual(word))
    if not match:
        return None
    base = "L" if match[2] == "l" else match[2]
    return _KINDS[base], Fraction(10) ** _PREFIXES[match[1] or ""]


def _abbreviated(text: str) -> str:
    """A unit in words, such as nanomolar, in letters."""
    match = _WORDS.fullmatch(text)
    if not match:
        return text
    if match["short"]:
        return f"{match['short']}mol"
    base = match["base"].lower()
    return _PREFIX_WORDS[(match["prefix"] or "").lower()] + (_BASE_WORDS.get(base) or _BASE_WORDS[base[:2]])


def _usual(word: str) -> str:
    lower = word.lower()
    return f"{lower[:-1]}{lower[-1:].upper()}" if lower[-1:] in ("m", "u") else lower
