"""Tools without a model: list and run them, read the records of their calls, and compute a call again."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass

from baio_domain.entities import Caller, InputOrigin, InputSource, ToolCall, refuse
from baio_domain.errors import AnswerNotFound, FieldError, InputGone, InvalidInput, Unavailable
from baio_domain.idempotency import IdempotentRequest, idempotency_problems
from baio_domain.pages import PAGE_SIZE, by_id, pages
from baio_domain.ports import Database, SecretBox, Transaction
from baio_domain.quotas import AtOnce, Quotas
from baio_domain.session_check import session_checked
from baio_domain.tool_records import MAX_ARGUMENT_BYTES, ended_call
from baio_domain.tool_runs import ToolRunner, traced
from baio_domain.tools import Toolbox, ToolSpec, ToolState


@dataclass(frozen=True, slots=True)
class GetTools:
    """List the installed tools, with the parameters of each as JSON Schema, as models read them."""

    database: Database
    toolbox: Toolbox

    async def __call__(self, caller: Caller) -> Sequence[ToolSpec]:
        """Return them in the order in which models are offered them."""
        return await self.database.read(session_checked(caller, lambda _: self.toolbox.specs()))


@dataclass(frozen=True, slots=True)
class RunTool:
    """Run a tool, and store the record of the call. This needs no model and no API key.

    - The record belongs to the conversation, if one is named, otherwise only to the user.
    - A stored sequence is given by its handle, such as `seq_17`, or in a conversation by its name. A product of more
      than 200 letters is stored as a sequence, too.
    - If a tool can't compute with these arguments, the response is a record, too: its state is `refused`, and its
      result says what to do.
    - The arguments have at most 64 KiB as JSON. Records count towards the text that a user may store, and the number of
      tools that a user runs at once is limited.
    - The same idempotency key with the same request, within 24 hours, stores nothing again and gives the same record;
      with another request it is refused.
    """

    runner: ToolRunner
    box: SecretBox
    quotas: Quotas
    at_once: AtOnce

    async def __call__(
        self,
        caller: Caller,
        tool: str,
        arguments: Mapping[str, object],
        conversation_id: int | None = None,
        idempotency_key: str | None = None,
    ) -> ToolCall:
        """Return the record.

        Raises InvalidInput (tool, arguments, idempotency_key), ConversationNotFound, StorageFull, TooManyToolRuns,
        IdempotencyKeyReused, Unavailable, or ToolCallNotFound if the key's record was deleted.
        """
        owner, raw = caller.user_id, _as_json(arguments)
        refuse([*self._problems(tool, raw), *idempotency_problems(idempotency_key)])
        fingerprint = self.box.fingerprint("runTool", tool, raw, str(conversation_id))
        request = IdempotentRequest(owner, idempotency_key, fingerprint, self.runner.clock.now())

        def find(tx: Transaction) -> ToolCall | None:
            before = request.find(tx)
            return None if before is None else tx.tool_calls.get(before.result_id, owner=owner)

        def check(tx: Transaction) -> ToolCall | None:
            if conversation_id is not None:
                tx.conversations.get(conversation_id, owner=owner)
            if (before := find(tx)) is None:
                self.quotas.check_text(tx, owner, raw, stores=False)
            return before

        before = await self.runner.database.read(session_checked(caller, check))
        if before is not None:
            return before
        new = self.runner.new(owner, tool, raw, conversation_id=conversation_id)
        with self.at_once.one(owner):
            outcome = await self.runner.compute(tool, raw, owner=owner, conversation_id=conversation_id)
        if outcome.state in (ToolState.BUSY, ToolState.CANCELLED):  # it was not run; another time it may be
            raise Unavailable(str(outcome.result["detail"]), retry_after=1)
        origin = InputOrigin(InputSource.REQUEST)
        now = self.runner.clock.now()

        def store(tx: Transaction) -> ToolCall:
            if before := find(tx):  # the same request, at the same time
                return before
            self.quotas.check_text(tx, owner, raw)
            call = tx.tool_calls.begin(new)
            inputs = traced(tx, outcome, owner, lambda _: origin)
            ended = self.runner.ended(tx, call, outcome, inputs, now)
            tx.tool_calls.end(call, ended, now)
            request.record(tx, call.id, conversation=conversation_id)
            return ended.of(call, now)

        return await self.runner.database.write(session_checked(caller, store))

    def _problems(self, tool: str, raw: str) -> Iterator[FieldError]:
        if self.runner.spec(tool) is None:
            names = ", ".join(spec.name for spec in self.runner.toolbox.specs())
            yield FieldError("tool", f"is not one of {names}")
        if len(raw.encode(errors="replace")) > MAX_ARGUMENT_BYTES:
            yield FieldError("arguments", f"must have at most {MAX_ARGUMENT_BYTES:,} bytes as JSON")


def _as_json(arguments: Mapping[str, object]) -> str:
    try:
        return json.dumps(arguments, ensure_ascii=False)
    except RecursionError:
        raise InvalidInput.of(FieldError("arguments", "is nested too deeply")) from None


@dataclass(frozen=True, slots=True)
class GetToolCalls:
    """Read the records of tools' calls, oldest first: those of an answer, of a conversation, or in no conversation.

    A researcher cites them to document how a value was computed. A call that is still running has no result yet. BAiO
    sends long lists while reading them, page by page: each page shows the data at the moment when it is read.
    """

    database: Database

    def __call__(
        self, caller: Caller, *, conversation_id: int | None = None, answer_id: int | None = None
    ) -> AsyncIterator[list[ToolCall]]:
        """Return ``pages`` of the records. Reading one raises ConversationNotFound or AnswerNotFound."""
        owner = caller.user_id

        def read(tx: Transaction, after: int) -> list[ToolCall]:
            if conversation_id is not None:
                tx.conversations.get(conversation_id, owner=owner)
            if answer_id is not None:
                answer = tx.answers.get(answer_id, owner=owner)
                if conversation_id not in (None, answer.conversation_id):
                    raise AnswerNotFound
            return tx.tool_calls.page(
                owner=owner, conversation_id=conversation_id, answer_id=answer_id, after=after, size=PAGE_SIZE
            )

        return pages(self.database, caller, read, 0, by_id)


@dataclass(frozen=True, slots=True)
class ToolVerdict:
    """Whether a recomputed call has the same result, and the tool that computed it now."""

    equal: bool
    result_sha256: str
    library: str


@dataclass(frozen=True, slots=True)
class VerifyToolCall:
    """Compute a call again, from the arguments in its record, with the tool as it is installed now.

    `equal` says whether the result is the same to the last digit. Nothing is stored. If a stored sequence that the call
    used is deleted, it can't be computed again: the error is `input-gone`.
    """

    runner: ToolRunner
    at_once: AtOnce

    async def __call__(self, caller: Caller, call_id: int) -> ToolVerdict:
        """Return the verdict.

        Raises ToolCallNotFound, TooManyToolRuns, InputGone, or Unavailable if it can't be computed now.
        """
        call = await self.runner.database.read(
            session_checked(caller, lambda tx: tx.tool_calls.get(call_id, owner=caller.user_id))
        )
        with self.at_once.one(caller.user_id):
            outcome = await self.runner.compute_again(call)
        gone = outcome.result.get("error") == "unknown-handle" and call.error != "unknown-handle"
        if gone and outcome.state is ToolState.REFUSED:
            kept = ", ".join(f"{each.length:,} letters, SHA-256 {each.sha256}" for each in call.inputs)
            raise InputGone(f"A sequence that this call used has been deleted. Its record has: {kept}.")
        if outcome.state not in (ToolState.DONE, ToolState.REFUSED):
            raise Unavailable(str(outcome.result["detail"]), retry_after=1)
        again = ended_call(outcome).result_sha256
        return ToolVerdict(again == call.result_sha256, again, outcome.library)


@dataclass(frozen=True, slots=True)
class DeleteToolCall:
    """Delete the record of a call that belongs to no conversation. Other records go with their conversation."""

    database: Database

    async def __call__(self, caller: Caller, call_id: int) -> None:
        """Delete it, or raise ToolCallNotFound."""
        await self.database.write(
            session_checked(caller, lambda tx: tx.tool_calls.delete(call_id, owner=caller.user_id))
        )
