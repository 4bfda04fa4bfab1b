"""Answers: ask a question, follow, stop and regenerate its answer, and read the records."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from baio_domain.answering import (
    CATCH_UP_TIMEOUT_SECONDS,
    LEASE,
    POLL_SECONDS,
    STOP_TIMEOUT_SECONDS,
    Answering,
    AnswerSource,
    Followable,
    ProviderRequest,
    StoredAnswer,
)
from baio_domain.commands import Command, CommandRun, read_command
from baio_domain.entities import (
    Answer,
    AnswerState,
    Caller,
    DayOfUsage,
    InputOrigin,
    InputSource,
    Message,
    Role,
    content_problems,
    refuse,
)
from baio_domain.errors import (
    AnswerNotFound,
    FieldError,
    QuestionNotFound,
    SequencesFull,
    TooManySequences,
    Unavailable,
)
from baio_domain.idempotency import IdempotentRequest, idempotency_problems
from baio_domain.pages import by_id, pages
from baio_domain.pasted import Pasted, find_pasted, mentions_by_message, told
from baio_domain.ports import PAGE_ROWS, Clock, Database, Gateways, NewAnswer, SecretBox, ToolGateway, Transaction
from baio_domain.prompts import build_prompt
from baio_domain.quotas import Quotas
from baio_domain.rounds import ToolRounds, takes_tools
from baio_domain.session_check import session_checked
from baio_domain.streams import Stream, Streams
from baio_domain.tool_runs import ToolRunner, new_sequence, store_sequences

MAX_AT_ONCE = 20_000
"""Characters of the longest question in which pasted sequences are looked for without a thread."""

BAIO = "BAiO"
"""What the record of an answer names as the model where BAiO answers alone."""

PreparedAnswer = tuple[Answer, AnswerSource]
"""The record of an answer that is about to run, and what it comes from."""


@dataclass(frozen=True, slots=True)
class AnswerReader:
    """The ports that following an answer needs, for every use case that gives one to follow."""

    database: Database
    answering: Answering

    async def follow(self, answer: Answer, offset: int, *, owner: int) -> Followable:
        """The answer to follow, or raise InvalidInput naming ``offset`` where the text so far is shorter."""
        live = self.answering.live(answer.id)
        length = live.length if live else await self._stored_length(answer, offset, owner)
        if not 0 <= offset <= length:
            refuse([FieldError("offset", f"is not between 0 and {length}, the length of the answer so far")])
        return live or StoredAnswer(self.database, answer, owner)

    async def _stored_length(self, answer: Answer, wanted: int, owner: int) -> int:
        # The process of the answer shows text before it stores it: a client may have seen more than is stored.
        def look(tx: Transaction) -> tuple[Answer, int]:
            return tx.answers.get(answer.id, owner=owner), tx.answers.length(answer.id, owner=owner)

        give_up_at = asyncio.get_running_loop().time() + CATCH_UP_TIMEOUT_SECONDS
        while True:
            record, length = await self.database.read(look)
            late = asyncio.get_running_loop().time() > give_up_at
            if length >= wanted or record.state is not AnswerState.RUNNING or late:
                return length
            await asyncio.sleep(POLL_SECONDS)


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """A request to answer a question of a conversation, and the character from which on its answer is to be followed.

    ``kind`` and ``content`` only tell one request from another.
    """

    kind: str
    conversation_id: int
    apikey_nickname: str
    model: str
    idempotency_key: str | None
    offset: int
    content: str = ""


@dataclass(frozen=True, slots=True)
class AnswerStarter:
    """The ports that starting an answer needs, for every use case that starts one."""

    database: Database
    reader: AnswerReader
    answering: Answering
    box: SecretBox
    gateways: Gateways
    clock: Clock
    answers_per_user: int
    quotas: Quotas
    runner: ToolRunner
    refusing: set[int] = field(default_factory=set)
    """The ids of models whose provider refused tools since this process began."""

    async def start(
        self, caller: Caller, asked: AnswerRequest, question: Callable[[Transaction, datetime], Message]
    ) -> Followable:
        """Start the answer to the ``question``, or return the one that this request has started before.

        An offset makes sense only for the latter; for a new answer it is refused, and nothing is asked.
        """
        self.answering.refuse_when_closing()
        owner, now = caller.user_id, self.clock.now()
        parts = (str(asked.conversation_id), asked.apikey_nickname, asked.content, asked.model)
        fingerprint = self.box.fingerprint(asked.kind, *parts)
        request = IdempotentRequest(owner, asked.idempotency_key, fingerprint, now)

        def begin(tx: Transaction) -> Answer | PreparedAnswer:
            before = request.find(tx)
            if before is not None:
                return tx.answers.get(before.result_id, owner=owner)
            if asked.offset:
                refuse([FieldError("offset", "is possible only when a request is repeated with its idempotency key")])
            prepared = self._prepare(tx, question(tx, now), caller, asked.apikey_nickname, asked.model)
            request.record(tx, prepared[0].id, conversation=asked.conversation_id)
            return prepared

        result = await self.database.write(session_checked(caller, begin))
        if isinstance(result, Answer):
            return await self.reader.follow(result, asked.offset, owner=owner)
        return self.answering.start(*result)

    def _prepare(
        self, tx: Transaction, question: Message, caller: Caller, apikey_nickname: str, model: str
    ) -> PreparedAnswer:
        """Record the answer as running and prepare what it comes from; nothing is sent yet."""
        command = read_command(question.content, self.runner.toolbox.specs())
        if command is not None:
            return self._prepare_command(tx, question, caller.user_id, command)
        stored = tx.api_keys.get(apikey_nickname.strip(), owner=caller.user_id)
        provider = tx.catalogue.get(stored.provider_id)
        chosen = provider.model(model)
        gateway = self.gateways.get(provider.name)
        if gateway is None:
            raise Unavailable(f"This server has no gateway to {provider.name}.")
        key = self.box.open(stored.sealed, kind="api key", owner=caller.user_id, row_id=stored.id)
        owner, thread, now = caller.user_id, question.conversation_id, self.clock.now()
        tool_gateway = gateway if isinstance(gateway, ToolGateway) and takes_tools(chosen) else None
        history = tx.messages.iter_newest_first(thread, owner=owner, up_to=question.id)
        calls = (
            tx.tool_calls.past(thread, owner=owner, up_to=question.id)
            if tool_gateway and chosen.id not in self.refusing
            else ()
        )
        mentions = mentions_by_message(tx.sequences.mentions(thread, owner=owner))
        asked = (replace(each, content=told(each.content, mentions.get(each.id, ()))) for each in history)
        prompt = build_prompt(tx.messages.system(thread, owner=owner), asked, chosen, calls)
        left_out = tx.messages.count(thread, owner=owner, up_to=prompt.cut_at.id) if prompt.cut_at else 0
        answer = tx.answers.begin(
            NewAnswer(
                question,
                owner,
                provider.id,
                chosen.identifier,
                now,
                lease_until=now + LEASE,
                max_running=self.answers_per_user,
                left_out=left_out,
                prompt_estimate=prompt.tokens,
                api_key_id=stored.id,
                worker=self.answering.worker,
            )
        )
        request = ProviderRequest(gateway, key, chosen, prompt, left_out)
        if tool_gateway is not None:
            return answer, ToolRounds(request, tool_gateway, self.runner, owner, answer.id, self.refusing)
        return answer, request

    def _prepare_command(self, tx: Transaction, question: Message, owner: int, command: Command) -> PreparedAnswer:
        """Record the answer to a command as running: no provider is asked, so no key and no model is needed."""
        now = self.clock.now()
        answer = tx.answers.begin(
            NewAnswer(
                question,
                owner,
                None,
                BAIO,
                now,
                lease_until=now + LEASE,
                max_running=self.answers_per_user,
                worker=self.answering.worker,
            )
        )
        return answer, CommandRun(self.runner, command, owner, answer.id)


@dataclass(frozen=True, slots=True)
class SendMessage:
    """Ask a question in a conversation and stream the model's answer.

    - The question is stored before the provider is called, the answer when it ends. Messages are in the order of
      storing.
    - The model is one of the key's provider, named by identifier or display name in any case.
    - The provider is sent the system message and the conversation in order, trimmed from the oldest to what the model
      can read.
    - A question that begins with a slash and the name of a tool, such as `/gc_content ACGT`, is answered by BAiO alone
      with the tool's result: no provider is asked, and no API key is needed. Its arguments are `name=value`, or without
      a name the first parameter's, to which the lines below belong.
    - `sequence_ids` are stored sequences that the question is about: the model is told their handles, names and sizes,
      not their letters. FASTA, GenBank and runs of 60 letters or more in the question are stored as sequences, too; the
      model is told the letters of those with up to 1,000.
    - Nothing is sent to the client before the provider has begun to answer; until then a failure is an error response.
    - The answer is finished and stored whether or not the client stays.
    - While a conversation is being answered, a second question is refused with the running answer's id. The number of
      a user's running answers is limited, and so is the text that a user stores.
    - The same idempotency key with the same request, within 24 hours, asks nothing again: it gives the same answer
      from its start, or, as events, from the last event on that the client has received. With another request it is
      refused.
    """

    starter: AnswerStarter

    async def __call__(  # noqa: PLR0913 - each is a part of the request
        self,
        caller: Caller,
        *,
        conversation_id: int,
        apikey_nickname: str,
        content: str,
        model: str,
        idempotency_key: str | None = None,
        sequence_ids: Sequence[int] = (),
        offset: int = 0,
    ) -> Followable:
        """Ask, and return the answer to follow from character ``offset`` on.

        Raises InvalidInput (content, model, idempotency_key, offset), ConversationNotFound, SequenceNotFound,
        ApiKeyNotFound, ApiKeyUnreadable, AnswerRunning, TooManyAnswers, StorageFull, IdempotencyKeyReused or
        Unavailable. Following the answer raises the provider's errors.
        """
        content = content.removeprefix("\ufeff")  # a byte order mark, as files begin with
        refuse([*content_problems(content), *idempotency_problems(idempotency_key)])
        owner, quotas, attached = caller.user_id, self.starter.quotas, tuple(dict.fromkeys(sequence_ids))
        pasted = await asyncio.to_thread(find_pasted, content) if len(content) > MAX_AT_ONCE else find_pasted(content)

        def question(tx: Transaction, now: datetime) -> Message:
            quotas.check_text(tx, owner, content)
            message = tx.messages.add(conversation_id, Role.USER, content, now, owner=owner)
            with suppress(SequencesFull, TooManySequences):  # the question can be answered without handles
                self._keep(tx, message, pasted, owner)
            for sequence_id in attached:
                tx.sequences.mention(message, sequence_id, None, owner=owner)
            return message

        asked = AnswerRequest(
            "sendMessage",
            conversation_id,
            apikey_nickname,
            model,
            idempotency_key,
            offset,
            "\0".join([content, *map(str, attached)]),
        )
        return await self.starter.start(caller, asked, question)

    def _keep(self, tx: Transaction, message: Message, pasted: Sequence[Pasted], owner: int) -> None:
        """Store what is pasted into the question, as far as it is not stored."""
        spans = [(each.start, each.end) for each in pasted]
        new = [
            new_sequence(
                each.sequence,
                owner,
                InputOrigin(InputSource.MESSAGE, message.id, *span),
                message.created_at,
                format_=each.format,
            )
            for each, span in zip(pasted, spans, strict=True)
        ]
        for sequence, span in zip(store_sequences(tx, self.starter.quotas, owner, new), spans, strict=True):
            tx.sequences.mention(message, sequence.id, span, owner=owner)


@dataclass(frozen=True, slots=True)
class RegenerateAnswer:
    """Ask the conversation's last question again, and stream the new answer.

    - The new answer replaces the old one when it ends, and only if it has text.
    - Everything else is as for a new question, the idempotency key included.
    """

    starter: AnswerStarter

    async def __call__(
        self,
        caller: Caller,
        *,
        conversation_id: int,
        apikey_nickname: str,
        model: str,
        idempotency_key: str | None = None,
        offset: int = 0,
    ) -> Followable:
        """Ask again, and return the answer to follow. Raises what SendMessage raises, and QuestionNotFound."""
        refuse(idempotency_problems(idempotency_key))
        owner, quotas = caller.user_id, self.starter.quotas

        def question(tx: Transaction, _: datetime) -> Message:
            tx.conversations.get(conversation_id, owner=owner)
            said = tx.messages.iter_newest_first(conversation_id, owner=owner)
            last = next((message for message in said if message.role is Role.USER), None)
            if last is None:
                raise QuestionNotFound
            quotas.check_text(tx, owner)
            return last

        asked = AnswerRequest("regenerate", conversation_id, apikey_nickname, model, idempotency_key, offset)
        return await self.starter.start(caller, asked, question)


@dataclass(frozen=True, slots=True)
class FollowAnswer:
    """Stream one of the conversation's answers, from any character on: the newest one, or the one with this id.

    - A client that comes back names its answer: the newest one may be another by then.
    - The text so far comes at once, then the rest as it arrives, with the same end as the original stream.
    - It works after the answer has ended too, and from any process on the same database.
    - ``offset`` counts Unicode characters; an offset beyond the end is refused.
    """

    reader: AnswerReader

    async def __call__(
        self, caller: Caller, *, conversation_id: int, answer_id: int | None = None, offset: int
    ) -> Followable:
        """Return the answer to follow, or raise AnswerNotFound or InvalidInput naming ``offset``."""
        owner = caller.user_id

        def find(tx: Transaction) -> Answer:
            if answer_id is None:
                return tx.answers.newest(conversation_id, owner=owner)
            answer = tx.answers.get(answer_id, owner=owner)
            if answer.conversation_id != conversation_id:
                raise AnswerNotFound
            return answer

        answer = await self.reader.database.read(session_checked(caller, find))
        return await self.reader.follow(answer, offset, owner=owner)


@dataclass(frozen=True, slots=True)
class StopAnswer:
    """Stop the conversation's running answer; its text so far is kept.

    It works as soon as the question is stored, and from any process on the same database. It returns once the final
    state is stored; an answer that ends by itself meanwhile keeps its own state.
    """

    database: Database
    answering: Answering

    async def __call__(self, caller: Caller, conversation_id: int) -> Answer:
        """Stop it and return its final record, or raise AnswerNotFound where nothing runs."""
        owner = caller.user_id
        answer_id = await self.database.write(
            session_checked(caller, lambda tx: tx.answers.request_stop(conversation_id, owner=owner))
        )
        self.answering.stop(answer_id)
        if live := self.answering.live(answer_id):
            await live.ended()
        give_up_at = asyncio.get_running_loop().time() + STOP_TIMEOUT_SECONDS
        while True:
            answer = await self.database.read(
                session_checked(caller, lambda tx: tx.answers.get(answer_id, owner=owner))
            )
            if answer.state is not AnswerState.RUNNING:
                return answer
            if asyncio.get_running_loop().time() > give_up_at:
                raise Unavailable("The process of this answer does not respond.", retry_after=5)
            await asyncio.sleep(POLL_SECONDS)


@dataclass(frozen=True, slots=True)
class GetAnswers:
    """Read the records of a conversation's answers: state, models, finish reason, token usage and times.

    A researcher cites them to document how a text was produced. Oldest first; null where something is not known.
    """

    database: Database

    def __call__(self, caller: Caller, conversation_id: int) -> AsyncIterator[list[Answer]]:
        """Return ``pages`` of the records. Reading one raises ConversationNotFound."""

        def read(tx: Transaction, after: int) -> list[Answer]:
            tx.conversations.get(conversation_id, owner=caller.user_id)
            return tx.answers.page(conversation_id, owner=caller.user_id, after=after, limit=PAGE_ROWS)

        return pages(self.database, caller, read, 0, by_id, limit=PAGE_ROWS)


@dataclass(frozen=True, slots=True)
class GetUsage:
    """Read the token usage of one's own answers per day (UTC), provider and model, oldest day first.

    - An answer counts for the day on which it began. Both limits are included; without them it is the last 30 days.
    - Tokens are the provider's count. Where it sent none they are estimated from the text, and ``estimated`` is true.
    - Answers of deleted conversations do not count.
    """

    database: Database
    clock: Clock

    async def __call__(self, caller: Caller, first: date | None, last: date | None) -> list[DayOfUsage]:
        """Return one record per day, provider and model, or raise InvalidInput naming ``first``."""
        until = last or self.clock.now().date()
        since = first or date.fromordinal(max(1, until.toordinal() - 29))
        if since > until:
            refuse([FieldError("first", "is after the last day")])
        return await self.database.read(
            session_checked(caller, lambda tx: tx.answers.usage(caller.user_id, since, until))
        )


@dataclass(frozen=True, slots=True)
class LeaveAnswer:
    """A client has disconnected from its running answer: ``stops`` says whether that stops the answer."""

    answering: Answering
    stops: bool

    def __call__(self, answer: Followable) -> None:
        """Stop the answer if that is what leaving means here."""
        if self.stops:
            self.answering.stop(answer.answer.id)


@dataclass(frozen=True, slots=True)
class OpenStream:
    """A client begins to read a response that is streamed. How many a user reads at once in one process is limited."""

    streams: Streams

    def __call__(self, caller: Caller, *, asking: bool = False) -> Stream:
        """Count it until it is closed, or raise TooManyStreams. What is read keeps nobody from ``asking``."""
        return self.streams.open(caller, asking=asking)
