"""Runs tools, and stores the records of their calls."""

import json
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain, count

from baio_domain.entities import (
    CallInput,
    CallState,
    EndedCall,
    InputOrigin,
    InputSource,
    StoredSequence,
    ToolCall,
    UnstoredSequence,
)
from baio_domain.errors import SequencesFull, TooManySequences
from baio_domain.handles import given_sequence, may_name_sequences, resolve, short_label
from baio_domain.ports import Clock, Database, NewSequence, NewToolCall, Transaction
from baio_domain.quotas import Quotas
from baio_domain.sequences import MAX_NAME_LENGTH
from baio_domain.text import storable
from baio_domain.tool_records import (
    MAX_ARGUMENT_BYTES,
    ended_call,
    find_origin,
    letters_of,
    line_of,
    read_arguments,
    refused,
    traced_input,
)
from baio_domain.tools import Toolbox, ToolInput, ToolOutcome, ToolRefused, ToolSpec

DEFAULT_QUOTAS = Quotas()


@dataclass(frozen=True, slots=True)
class ToolRunner:
    """Runs tools for users and for answers. A call of an answer is stored when it begins and when it ends.

    ``begin``, ``compute`` and ``end`` are the three steps of such a call. Between them it is ``running`` for all who
    look; if its answer ends first, it ends as cancelled, in the same transaction. ``notes`` says whether answers get a
    line about each call that is done.
    """

    database: Database
    toolbox: Toolbox
    clock: Clock
    notes: bool = True
    quotas: Quotas = DEFAULT_QUOTAS

    def new(
        self,
        owner: int,
        tool: str,
        raw_arguments: str,
        *,
        conversation_id: int | None = None,
        answer_id: int | None = None,
        round_: int = 1,
        offset: int = 0,
    ) -> NewToolCall:
        """A call that begins now. A tool that is not installed has no version and no definition."""
        spec = self.spec(tool)
        return NewToolCall(
            owner,
            storable(tool),
            str(spec.version) if spec else "",
            spec.library if spec else "",
            spec.definition if spec else "",
            _kept(raw_arguments),
            self.clock.now(),
            conversation_id,
            answer_id,
            round_,
            offset,
        )

    def spec(self, tool: str) -> ToolSpec | None:
        """The spec of the tool with this name, if it is installed."""
        return next((spec for spec in self.toolbox.specs() if spec.name == tool), None)

    async def begin(self, new: NewToolCall) -> ToolCall:
        """Store the call as running. Raises what ``ToolCalls.begin`` raises."""
        return await self.database.write(lambda tx: tx.tool_calls.begin(new))

    async def compute(
        self, tool: str, raw_arguments: str, *, owner: int, conversation_id: int | None = None
    ) -> ToolOutcome:
        """Run the tool, for a user and perhaps in a conversation, whose stored sequences the arguments may name.

        Arguments that can't be read are an outcome, too.
        """
        try:
            return await self._run(tool, read_arguments(raw_arguments), owner, conversation_id)
        except ToolRefused as error:
            return refused(error)

    async def compute_again(self, call: ToolCall) -> ToolOutcome:
        """Run the tool as for this record: with its complete arguments, or with those that were refused."""
        owner, conversation_id = call.user_id, call.conversation_id
        if call.state is not CallState.DONE or call.arguments is None:
            return await self.compute(call.tool, call.raw_arguments, owner=owner, conversation_id=conversation_id)
        try:
            return await self._run(call.tool, json.loads(call.arguments), owner, conversation_id)
        except ToolRefused as error:
            return refused(error)

    async def _run(
        self, tool: str, arguments: Mapping[str, object], owner: int, conversation_id: int | None
    ) -> ToolOutcome:
        """Run the tool with the sequences that the arguments name. Raises ToolRefused where there are none."""
        spec = self.spec(tool)
        if spec is None or not may_name_sequences(arguments):
            return await self.toolbox.run(tool, arguments)
        resolved = await self.database.read(
            lambda tx: resolve(tx, spec, arguments, owner=owner, conversation_id=conversation_id)
        )
        return await self.toolbox.run(tool, resolved.arguments, resolved.given)

    async def end(self, call: ToolCall, outcome: ToolOutcome, *, always_noted: bool = False) -> ToolCall:
        """Find where the inputs come from, and store how the call ended, with its long products.

        Returns the record as it is then. If its ``length`` is not 0, the answer's text gets ``line_of`` it, at the
        call's offset: a done call where notes are on, and any call that is ``always_noted``. A call that had ended
        already is returned as it had ended.
        """
        inputs = await self.database.read(lambda tx: _traced(tx, call, outcome))
        now = self.clock.now()

        def store(tx: Transaction) -> ToolCall:
            if tx.tool_calls.get(call.id, owner=call.user_id).state is CallState.RUNNING:
                ended = self.ended(tx, call, outcome, inputs, now)
                if always_noted or (self.notes and ended.state is CallState.DONE):
                    ended = replace(ended, length=len(line_of(ended.of(call, now))))
                tx.tool_calls.end(call, ended, now)
            return tx.tool_calls.get(call.id, owner=call.user_id)

        return await self.database.write(store)

    def ended(
        self, tx: Transaction, call: ToolCall, outcome: ToolOutcome, inputs: Iterable[CallInput], now: datetime
    ) -> EndedCall:
        """What is kept of a call that ended; its long products are stored, as far as the user has room for them."""
        origin, here = InputOrigin(InputSource.CALL, call.id), call.conversation_id
        new = [
            new_sequence(product, call.user_id, origin, now, conversation_id=here)
            for product in outcome.products.values()
        ]
        handles = {}
        with suppress(SequencesFull, TooManySequences):  # a value is no worse for that
            stored = store_sequences(tx, self.quotas, call.user_id, new)
            handles = dict(zip(outcome.products, map(short_label, stored), strict=True))
        return ended_call(outcome, inputs, handles=handles)

    async def note_quoted(self, call_ids: Collection[int]) -> None:
        """Store that the model's own text repeats the values of these calls."""
        if call_ids:
            await self.database.write(lambda tx: tx.tool_calls.note_quoted(call_ids))


def _traced(tx: Transaction, call: ToolCall, outcome: ToolOutcome) -> list[CallInput]:
    """The inputs with their origins."""

    def origin_of_letters(item: ToolInput) -> InputOrigin:
        letters = letters_of(item, outcome.arguments)
        if letters is None or call.conversation_id is None:
            return InputOrigin(InputSource.MODEL)
        messages = tx.messages.iter_newest_first(call.conversation_id, owner=call.user_id)
        return find_origin(letters, messages, tx.tool_calls.results(call.conversation_id, owner=call.user_id))

    return traced(tx, outcome, call.user_id, origin_of_letters)


def traced(
    tx: Transaction, outcome: ToolOutcome, owner: int, origin_of_letters: Callable[[ToolInput], InputOrigin]
) -> list[CallInput]:
    """The inputs of a call as its record keeps them: a stored sequence has its own origin."""
    inputs = []
    for item in outcome.inputs:
        sequence = given_sequence(tx, item, outcome.arguments, owner=owner)
        origin = sequence.origin if sequence else origin_of_letters(item)
        inputs.append(traced_input(item, origin, sequence.id if sequence else None))
    return inputs


def store_sequences(
    tx: Transaction, quotas: Quotas, owner: int, sequences: Sequence[NewSequence]
) -> list[StoredSequence]:
    """Store the owner's sequences, or none of them, under names as ``named_apart`` gives.

    Raises TooManySequences or SequencesFull.
    """
    sequences = list(named_apart(tx, owner, sequences))
    missing = [
        each.stored_bytes
        for each in sequences
        if tx.sequences.find(each.sha256, each.topology, each.name, owner=owner) is None
    ]
    if missing:
        quotas.check_sequences(tx, owner, len(missing), sum(missing))
    return [tx.sequences.add(each) for each in sequences]


def named_apart(tx: Transaction, owner: int, sequences: Sequence[NewSequence]) -> Iterator[NewSequence]:
    """The sequences, with ``(2)`` behind a name that the same letters have already, but with other features.

    Letters without features are the same whatever features are stored with them. Another molecule is another sequence.
    """
    planned: dict[tuple[str, str, str], NewSequence] = {}

    def is_another(new: NewSequence) -> bool:
        """Whether the one that is stored, or will be, under the new one's name is another sequence."""
        key = new.sha256, new.topology, new.name
        other = planned.get(key) or tx.sequences.find(*key, owner=owner)
        if other is None or other.molecule != new.molecule or not new.features:
            return other is not None and other.molecule != new.molecule
        content = tx.sequences.content(other.id, owner=owner) if isinstance(other, StoredSequence) else other.content
        return zlib.decompress(content.features) != zlib.decompress(new.content.features)

    for new in sequences:
        endings = chain([""], (f" ({number})" for number in count(2)))
        candidates = (replace(new, name=f"{new.name[: MAX_NAME_LENGTH - len(end)]}{end}") for end in endings)
        named = next(each for each in candidates if not is_another(each))
        planned.setdefault((named.sha256, named.topology, named.name), named)
        yield named


def new_sequence(
    sequence: UnstoredSequence,
    owner: int,
    origin: InputOrigin,
    now: datetime,
    *,
    format_: str = "",
    conversation_id: int | None = None,
) -> NewSequence:
    """A sequence for ``Sequences.add``."""
    return NewSequence(
        owner,
        sequence.name,
        sequence.description,
        sequence.molecule,
        sequence.topology,
        sequence.length,
        sequence.features,
        sequence.sha256,
        format_,
        origin,
        now,
        sequence.content,
        sequence.stored_bytes,
        conversation_id,
    )


def _kept(raw_arguments: str) -> str:
    """As much of the arguments as is kept."""
    return storable(raw_arguments).encode()[:MAX_ARGUMENT_BYTES].decode(errors="ignore")
