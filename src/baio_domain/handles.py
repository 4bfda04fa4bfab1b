"""Handles and names of stored sequences in the arguments of tools.

A handle such as ``seq_17`` stands for a stored sequence of the caller's, wherever a parameter takes text. Where it
takes a sequence, a name that is unique in the conversation works as well. Only the process that runs the tool inserts
the letters.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from baio_domain.entities import StoredSequence
from baio_domain.errors import SequenceNotFound
from baio_domain.ports import Transaction
from baio_domain.sequences import MAX_NAME_LENGTH
from baio_domain.text import one_line, quoted
from baio_domain.tools import GivenSequence, ToolInput, ToolRefused, ToolSpec

# Models repeat what they have read of it, such as ``seq_19 (1,012 nt)`` or ``[seq_17 "pUC19": DNA, linear, 9 nt]``.
_HANDLE = re.compile(r"""\[?seq_(\d{1,18})(?:\s+["(].*)?\]?""", re.IGNORECASE | re.DOTALL)
_NUCLEOTIDES = frozenset("ACGTUNacgtun")


@dataclass(frozen=True, slots=True)
class Resolved:
    """Arguments in which handles stand for all stored sequences, and these sequences by their parameters."""

    arguments: Mapping[str, object]
    given: Mapping[str, GivenSequence]


def handle_id(text: object) -> int | None:
    """The id in a handle, or None if the value is none."""
    match = _HANDLE.fullmatch(text.strip()) if isinstance(text, str) else None
    return int(match[1]) if match else None


def may_name_sequences(arguments: Mapping[str, object]) -> bool:
    """Whether an argument could be a handle or a name. A page full of letters is neither."""
    return any(isinstance(value, str) and len(value) <= 2 * MAX_NAME_LENGTH for value in arguments.values())


def resolve(
    tx: Transaction, spec: ToolSpec, arguments: Mapping[str, object], *, owner: int, conversation_id: int | None
) -> Resolved:
    """Find what the arguments name. A circle is one for the tool, too, unless the arguments say otherwise.

    Raises ToolRefused: ``unknown-handle``, or ``ambiguous-name``.
    """
    found: dict[str, StoredSequence] = {}
    for parameter, value in arguments.items():
        if isinstance(value, str) and _takes_text(spec, parameter):
            sequence = _named(tx, value.strip(), owner, conversation_id, by_name=parameter in spec.sequences)
            if sequence is not None:
                found[parameter] = sequence
    handles = {parameter: sequence.handle for parameter, sequence in found.items()}
    return Resolved(
        {**arguments, **handles, **_topology(spec, arguments, found)},
        {
            parameter: GivenSequence(sequence, tx.sequences.content(sequence.id, owner=owner))
            for parameter, sequence in found.items()
        },
    )


def given_sequence(
    tx: Transaction, item: ToolInput, arguments: Mapping[str, object], *, owner: int
) -> StoredSequence | None:
    """The stored sequence that a call was given as this input; None if it was given letters, or it is deleted."""
    sequence_id = handle_id(arguments.get(item.argument))
    if sequence_id is None:
        return None
    try:
        return tx.sequences.get(sequence_id, owner=owner)
    except SequenceNotFound:
        return None


def label(sequence: StoredSequence) -> str:
    """A stored sequence as a model reads of it: ``seq_17 "pUC19": DNA, circular, 2,686 nt, 12 features``."""
    features = f", {sequence.features:,} feature{'s' if sequence.features != 1 else ''}" if sequence.features else ""
    shape = "" if sequence.molecule == "protein" else f", {sequence.topology}"
    name = one_line(sequence.name, MAX_NAME_LENGTH).replace('"', "'")
    size = f"{sequence.length:,} {sequence.unit}"
    return f'{sequence.handle} "{name}": {sequence.molecule}{shape}, {size}{features}'


def short_label(sequence: StoredSequence) -> str:
    """A product as a model reads of it: ``seq_19 (1,012 nt)``."""
    return f"{sequence.handle} ({sequence.length:,} {sequence.unit})"


def _takes_text(spec: ToolSpec, parameter: str) -> bool:
    schema = cast("Mapping[str, Mapping[str, object]]", spec.parameters["properties"]).get(parameter, {})
    return schema.get("type") == "string" and "enum" not in schema


def _named(
    tx: Transaction, text: str, owner: int, conversation_id: int | None, *, by_name: bool
) -> StoredSequence | None:
    """The sequence that a text names, or None if it is no handle and no name."""
    sequence_id = handle_id(text)
    named = []
    if conversation_id is not None and (by_name or sequence_id is not None) and _may_be_name(text):
        named = tx.sequences.named(text, conversation_id, owner=owner)
    if sequence_id is None:
        _refuse_several(text, named)
        return named[0] if named else None
    try:
        sequence = tx.sequences.get(sequence_id, owner=owner)
    except SequenceNotFound:
        others = f" The sequence with that name is {named[0].handle}." if named else ""
        raise ToolRefused(
            "unknown-handle", f"There is no sequence {quoted(text)}.{others or ' Give its letters, or add it.'}"
        ) from None
    # Files often call their sequences seq_1, seq_2 and so on.
    _refuse_several(text, [sequence, *(each for each in named if each.id != sequence.id)])
    return sequence


def _may_be_name(text: str) -> bool:
    """Letters of nucleotides alone are letters: a gene may be called CAT."""
    return 0 < len(text) <= MAX_NAME_LENGTH and not _NUCLEOTIDES.issuperset(text)


def _refuse_several(text: str, meant: list[StoredSequence]) -> None:
    if len(meant) > 1:
        handles = " or ".join(each.handle for each in meant)
        raise ToolRefused("ambiguous-name", f"{quoted(text)} can mean {handles}. Rename one, or give another handle.")


def _topology(
    spec: ToolSpec, arguments: Mapping[str, object], found: Mapping[str, StoredSequence]
) -> dict[str, object]:
    main = found.get(spec.sequences[0]) if spec.sequences else None
    takes = "topology" in cast("Mapping[str, object]", spec.parameters["properties"])
    if main is None or not takes or arguments.get("topology") is not None:
        return {}
    return {"topology": main.topology}
