"""Tools: deterministic functions that a model can call, or a user without any model.

A tool computes one thing exactly. Models read its spec; its function takes the arguments by name and returns the
result, or raises ``ToolRefused``. Tools run behind the port ``Toolbox``.
"""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from baio_domain.entities import SequenceContent, StoredSequence, UnstoredSequence

MAX_RESULT_BYTES = 256 * 1024
"""The longest result, as canonical JSON. A tool cuts long lists itself and says so."""


MAX_SHOWN_LETTERS = 200
"""Letters of the longest product that a model reads as letters. A longer one is stored and has a handle."""

MAX_PRODUCTS = 50
"""How many products of a call are stored."""


class ToolState(StrEnum):
    """How a call ended.

    ``REFUSED``: the arguments can't be computed with. ``FAILED``: the tool did not finish. ``BUSY``: too many calls are
    waiting. ``CANCELLED``: the user no longer wants it.
    """

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    BUSY = "busy"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What a tool is.

    ``description`` tells the model when to use it and when not. ``definition`` is one sentence that names the method.
    ``parameters`` is the JSON Schema of the arguments. ``library`` is the library
    that computes, with its version, or "". The version changes whenever the same arguments can give another result.
    ``sequences`` are the parameters that take sequences, the main one first: there a stored sequence can be given by
    its name. By its handle it can be given as any text. ``strict`` asks the provider for arguments that follow the
    schema exactly; not every provider can.
    """

    name: str
    version: int | str
    description: str
    definition: str
    parameters: Mapping[str, object]
    library: str = ""
    sequences: tuple[str, ...] = ()
    strict: bool = False
    told: str = field(init=False, repr=False, compare=False)
    """What a model gets to read of it, as text."""

    def __post_init__(self) -> None:
        """Write down once what every question measures."""
        told = f"{self.name} {self.description} {canonical_json(self.parameters)}"
        object.__setattr__(self, "told", told)


@dataclass(frozen=True, slots=True)
class ToolInput:
    """A sequence that a call was given.

    ``argument`` is the argument's name, ``name`` the sequence's own from its FASTA header. ``length`` and ``sha256``
    are those of the cleaned upper-case letters. ``cleaned`` says what cleaning removed or changed.
    """

    argument: str
    name: str | None
    length: int
    sha256: str
    cleaned: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GivenSequence:
    """A stored sequence that a call is given by its handle or name."""

    sequence: StoredSequence
    content: SequenceContent


Place = tuple[str | int, ...]
"""Where something stands in a result: the keys and indices on the way to it."""


@dataclass(frozen=True, slots=True)
class Product:
    """A sequence that a tool has made. ``place`` is where a model reads its handle in the result."""

    place: Place
    name: str
    letters: str = field(repr=False)
    molecule: str = "DNA"
    topology: str = "linear"


@dataclass(frozen=True, slots=True)
class Computed:
    """What a tool's function returns.

    ``result`` is an object of JSON, with floats rounded as the tool's definition says. ``line`` is the headline for a
    user, one line of Markdown without a full stop; numbers are formatted there and nowhere else. Long ``products`` are
    stored, the first ``MAX_PRODUCTS`` of them.
    """

    result: Mapping[str, object]
    line: str
    inputs: tuple[ToolInput, ...] = ()
    products: tuple[Product, ...] = ()


class ToolRefused(Exception):
    """A tool can't compute with these arguments. ``error`` is a slug, ``detail`` says what is wrong and what to do."""

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(f"{error}: {detail}")
        self.error = error
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that can be installed: the type of an entry point in the group ``baio.tools``.

    ``function`` is called with every parameter by name, defaults filled in; a parameter that has no default and is not
    given is None. It is deterministic: the same arguments give the same result on every machine. It runs in a separate
    process without environment, so it may use CPU time, but not the network.
    """

    spec: ToolSpec
    function: Callable[..., Computed]


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """A call that ended.

    ``arguments`` are complete, with defaults filled in. ``result`` of a call that is not done is ``{"error": slug,
    "detail": what to do}``. ``line`` is the headline of a done call, else "". ``coerced`` names the arguments that came
    in another JSON type than the schema asks for. ``products`` are the sequences to store, by their places.
    """

    state: ToolState
    arguments: Mapping[str, object]
    result: Mapping[str, object]
    inputs: tuple[ToolInput, ...] = ()
    line: str = ""
    library: str = ""
    coerced: tuple[str, ...] = field(default=())
    products: Mapping[Place, UnstoredSequence] = field(default_factory=dict)


def error_result(error: str, detail: str) -> dict[str, object]:
    """The result of a call that is not done."""
    return {"error": error, "detail": detail}


def canonical_json(value: object) -> str:
    """The one JSON text of a value: sorted keys, no spaces. Raises ValueError or TypeError if it has none."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_sha256(value: object) -> str:
    """The SHA-256 of a value's canonical JSON in UTF-8, in hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


NOTHING_GIVEN: Mapping[str, GivenSequence] = {}
"""What a call is given whose arguments name no stored sequence."""


class Toolbox(Protocol):
    """Runs the installed tools. One toolbox serves all users."""

    @abstractmethod
    def specs(self) -> Sequence[ToolSpec]:
        """The specs of all tools, in the order in which they are offered."""

    @abstractmethod
    async def run(
        self, name: str, arguments: Mapping[str, object], given: Mapping[str, GivenSequence] = NOTHING_GIVEN
    ) -> ToolOutcome:
        """Call a tool. ``given`` has the sequences for which there are handles in the arguments, by parameter.

        It never raises for what it is asked: an unknown name and bad arguments are outcomes that say what to do.
        Cancelling the task that waits for it ends the computation within a second.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """End all calls, which are then cancelled, and what runs them."""
