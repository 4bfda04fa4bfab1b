"""Runs tools, and stores the records of their calls."""

import json
from collections.abc import Collection
from dataclasses import dataclass, replace

from baio_domain.entities import CallInput, CallState, InputOrigin, InputSource, ToolCall
from baio_domain.ports import Clock, Database, NewToolCall, Transaction
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

    async def compute(self, tool: str, raw_arguments: str) -> ToolOutcome:
        """Run the tool. Arguments that can't be read are an outcome, too."""
        try:
            arguments = read_arguments(raw_arguments)
        except ToolRefused as error:
            return refused(error)
        return await self.toolbox.run(tool, arguments)

    async def compute_again(self, call: ToolCall) -> ToolOutcome:
        """Run the tool as for this record: with its complete arguments, or with those that were refused."""
        if call.state is CallState.DONE and call.arguments is not None:
            return await self.toolbox.run(call.tool, json.loads(call.arguments))
        return await self.compute(call.tool, call.raw_arguments)

    async def end(self, call: ToolCall, outcome: ToolOutcome, *, always_noted: bool = False) -> ToolCall:
        """Find where the inputs come from, and store how the call ended. Returns the record as it is then.

        If its ``length`` is not 0, the answer's text gets ``line_of`` it, at the call's offset: a done call where notes
        are on, and any call that is ``always_noted``. A call that had ended already is returned as it had ended.
        """
        ended = ended_call(outcome, await self.database.read(lambda tx: _traced(tx, call, outcome)))
        now = self.clock.now()
        if always_noted or (self.notes and ended.state is CallState.DONE):
            ended = replace(ended, length=len(line_of(ended.of(call, now))))

        def store(tx: Transaction) -> ToolCall:
            tx.tool_calls.end(call, ended, now)
            return tx.tool_calls.get(call.id, owner=call.user_id)

        return await self.database.write(store)

    async def note_quoted(self, call_ids: Collection[int]) -> None:
        """Store that the model's own text repeats the values of these calls."""
        if call_ids:
            await self.database.write(lambda tx: tx.tool_calls.note_quoted(call_ids))


def _traced(tx: Transaction, call: ToolCall, outcome: ToolOutcome) -> list[CallInput]:
    """The inputs with their origins."""

    def origin_of(item: ToolInput) -> InputOrigin:
        letters = letters_of(item, outcome.arguments)
        if letters is None or call.conversation_id is None:
            return InputOrigin(InputSource.MODEL)
        messages = tx.messages.iter_newest_first(call.conversation_id, owner=call.user_id)
        return find_origin(letters, messages, tx.tool_calls.results(call.conversation_id, owner=call.user_id))

    return [traced_input(item, origin_of(item)) for item in outcome.inputs]


def _kept(raw_arguments: str) -> str:
    """As much of the arguments as is kept."""
    return storable(raw_arguments).encode()[:MAX_ARGUMENT_BYTES].decode(errors="ignore")
