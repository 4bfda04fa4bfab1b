"""Runs tools, and stores the records of their calls."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from baio_domain.entities import CallInput, CallState, EndedCall, InputOrigin, InputSource, Role, ToolCall
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
from baio_domain.tools import Toolbox, ToolOutcome, ToolRefused, ToolSpec


@dataclass(frozen=True, slots=True)
class ToolRunner:
    """Runs tools for users and for answers. A call of an answer is stored when it begins and when it ends.

    ``begin``, ``compute`` and ``end`` are the three steps of such a call. Between them it is ``running`` for all who
    look; if its answer ends first, it ends as cancelled, in the same transaction.
    """

    database: Database
    toolbox: Toolbox
    clock: Clock

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

    async def end(self, call: ToolCall, outcome: ToolOutcome, *, with_line: bool) -> ToolCall:
        """Find where the inputs come from, and store how the call ended. Returns the record as it is then.

        ``with_line`` says whether ``line_of`` the returned call is written into the answer's text, at the offset of the
        call. If the call has ended already, the returned record says how.
        """
        inputs = await self._traced(call, outcome)
        ended = ended_call(outcome, inputs)
        now = self.clock.now()
        record = _with(call, ended)
        if with_line:
            ended = replace(ended, length=len(line_of(record)))

        def store(tx: Transaction) -> ToolCall:
            tx.tool_calls.end(call, ended, now)
            return tx.tool_calls.get(call.id, owner=call.user_id)

        return await self.database.write(store)

    async def _traced(self, call: ToolCall, outcome: ToolOutcome) -> list[CallInput]:
        sought = [(item, letters_of(item, outcome.arguments)) for item in outcome.inputs]
        if not sought:
            return []
        conversation = call.conversation_id
        if conversation is None:
            return [traced_input(item, InputOrigin(InputSource.REQUEST)) for item, _ in sought]

        def find(tx: Transaction) -> list[CallInput]:
            return [
                traced_input(
                    item,
                    InputOrigin(InputSource.MODEL)
                    if letters is None
                    else find_origin(
                        letters,
                        _asked(tx, conversation, call.user_id),
                        tx.tool_calls.results(conversation, owner=call.user_id),
                    ),
                )
                for item, letters in sought
            ]

        return await self.database.read(find)


def _asked(tx: Transaction, conversation_id: int, owner: int) -> Iterator[tuple[int, str]]:
    """The user's messages with their ids, newest first. What others said counts as empty text."""
    for message in tx.messages.iter_newest_first(conversation_id, owner=owner):
        yield message.id, message.content if message.role is Role.USER else ""


def _kept(raw_arguments: str) -> str:
    """As much of the arguments as is kept."""
    return storable(raw_arguments).encode()[:MAX_ARGUMENT_BYTES].decode(errors="ignore")
