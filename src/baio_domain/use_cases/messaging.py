"""Answers: ask a question, follow, stop and regenerate its answer, and read the records."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

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
from baio_domain.copies import copy_conversation, message_of
from baio_domain.entities import (
    UNCHANGED,
    USUAL,
    Answer,
    AnswerState,
    AnswerWithSettings,
    ApiKey,
    Caller,
    ChatSettings,
    InputOrigin,
    InputSource,
    Message,
    Model,
    Provider,
    Role,
    UsedSettings,
    content_problems,
    refuse,
)
from baio_domain.errors import (
    AnswerNotFound,
    ConversationNotFound,
    FieldError,
    QuestionNotFound,
    SequencesFull,
    TooManySequences,
    Unavailable,
)
from baio_domain.idempotency import IdempotentRequest, idempotency_problems
from baio_domain.pages import by_id, pages
from baio_domain.parameters import fitting
from baio_domain.pasted import Pasted, find_pasted, mentions_by_message, told
from baio_domain.ports import (
    NO_EXTRAS,
    PAGE_ROWS,
    Clock,
    Database,
    Extras,
    ExtrasGateway,
    Gateways,
    LLMGateway,
    NewAnswer,
    Opening,
    SecretBox,
    ToolGateway,
    Transaction,
    accepted_by,
)
from baio_domain.prompts import build_prompt
from baio_domain.quotas import Quotas
from baio_domain.rounds import ToolRounds, offered, takes_tools
from baio_domain.session_check import session_checked
from baio_domain.streams import Stream, Streams
from baio_domain.titles import title_of
from baio_domain.tool_runs import ToolRunner, new_sequence, store_sequences

MAX_AT_ONCE = 20_000
"""Characters of the longest question that is searched for pasted sequences without a thread."""

BAIO = "BAiO"
"""The name of the model in the record of an answer that BAiO itself gives."""

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
    """A request to answer a question of a conversation, and the character from which to follow its answer.

    ``kind`` and ``content`` only tell one request from another. Key and model are those of the conversation's settings
    where they are None. ``problems`` are what is wrong with the request besides. ``extras`` are sent to the provider,
    too.
    """

    kind: str
    conversation_id: int
    apikey_nickname: str | None
    model: str | None
    idempotency_key: str | None
    offset: int
    content: str = ""
    problems: Sequence[FieldError] = ()
    extras: Extras = field(default_factory=lambda: NO_EXTRAS)


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
        parts = (str(asked.conversation_id), asked.apikey_nickname or "", asked.content, asked.model or "")
        fingerprint = self.box.fingerprint(asked.kind, *parts)
        request = IdempotentRequest(owner, asked.idempotency_key, fingerprint, now)

        def begin(tx: Transaction) -> Answer | PreparedAnswer:
            before = request.find(tx)
            if before is not None:
                return tx.answers.get(before.result_id, owner=owner)
            if asked.offset:
                refuse([FieldError("offset", "is possible only when a request is repeated with its idempotency key")])
            if asked.problems:
                refuse([*asked.problems, *_missing(_settings_of(tx, asked, owner), asked.apikey_nickname, asked.model)])
            prepared = self._prepare(tx, question(tx, now), caller, asked)
            request.record(tx, prepared[0].id, conversation=prepared[0].conversation_id)
            return prepared

        result = await self.database.write(session_checked(caller, begin))
        if isinstance(result, Answer):
            return await self.reader.follow(result, asked.offset, owner=owner)
        return self.answering.start(*result)

    def _prepare(self, tx: Transaction, question: Message, caller: Caller, asked: AnswerRequest) -> PreparedAnswer:
        """Record the answer as running and prepare what it comes from; nothing is sent yet."""
        tools = self.runner.toolbox.specs()
        command = read_command(question.content, tools)
        if command is not None:
            return self._prepare_command(tx, question, caller.user_id, command)
        opening = tx.settings.opening(question.conversation_id, owner=caller.user_id)
        settings = opening.settings
        owner, thread, now = caller.user_id, question.conversation_id, self.clock.now()
        choice = choose(tx, settings, asked.apikey_nickname, asked.model, self.gateways, self.box, owner=owner)
        provider, chosen, gateway = choice.provider, choice.model, choice.gateway
        refuse(extras_problems(choice, asked.extras))
        parameters, unused = fitting(settings.parameters, accepted_by(gateway, chosen.identifier))
        if settings.tools is not None:
            tools = [tool for tool in tools if tool.name in settings.tools]
        takes = isinstance(gateway, ToolGateway) and takes_tools(chosen)
        tools = offered(tools, chosen, question.content) if takes else ()
        taken = () if chosen.id in self.refusing else tools
        history = tx.messages.iter_newest_first(thread, owner=owner, up_to=question.id)
        calls = tx.tool_calls.past(thread, owner=owner, up_to=question.id) if taken and opening.calls else ()
        mentions = mentions_by_message(tx.sequences.mentions(thread, owner=owner) if opening.sequences else ())
        asked_with = (replace(each, content=told(each.content, mentions.get(each.id, ()))) for each in history)
        prompt = build_prompt(_told_first(opening, question), asked_with, chosen, calls, taken)
        if len(prompt.messages) == prompt.pinned + 1:  # most likely it is the first question
            _entitle(tx, question, owner)
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
                api_key_id=choice.api_key_id,
                worker=self.answering.worker,
                settings=UsedSettings(settings.system, parameters, settings.tools, tuple(unused)),
            )
        )
        request = ProviderRequest(
            gateway,
            choice.key,
            chosen,
            prompt,
            left_out,
            parameters=parameters,
            unused=tuple(unused),
            extras=asked.extras,
        )
        if tools:
            return answer, ToolRounds(request, tools, self.runner, owner, answer.id, self.refusing)
        return answer, request

    def _prepare_command(self, tx: Transaction, question: Message, owner: int, command: Command) -> PreparedAnswer:
        """Record the answer to a command as running: no provider is asked, so no key and no model is needed."""
        now = self.clock.now()
        _entitle(tx, question, owner)
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


def _entitle(tx: Transaction, question: Message, owner: int) -> None:
    """Give the conversation a title if it has none and this is its first question."""
    if title := title_of(question.content):
        tx.conversations.entitle(question.conversation_id, title, owner=owner)


def _settings_of(tx: Transaction, asked: AnswerRequest, owner: int) -> ChatSettings:
    """The conversation's settings; none for one that the caller does not have."""
    try:
        return tx.settings.opening(asked.conversation_id, owner=owner).settings
    except ConversationNotFound:
        return UNCHANGED


@dataclass(frozen=True, slots=True)
class Choice:
    """Who is asked, and with which key."""

    provider: Provider
    model: Model
    gateway: LLMGateway
    key: str = field(repr=False)
    api_key_id: int


def choose(
    tx: Transaction,
    settings: ChatSettings,
    nickname: str | None,
    model: str | None,
    gateways: Gateways,
    box: SecretBox,
    *,
    owner: int,
) -> Choice:
    """Find the owner's key and its provider's model; those of the settings where none is named.

    Raises InvalidInput (apikey_nickname, model), ApiKeyNotFound, ApiKeyUnreadable or Unavailable.
    """
    refuse(_missing(settings, nickname, model))
    named = nickname if nickname is not None else settings.apikey_nickname or ""
    wanted = (model if model is not None else settings.model or "").strip()
    stored, provider = tx.api_keys.with_provider(named.strip(), wanted, owner=owner)
    chosen = provider.model(wanted)
    return choice_of(stored, provider, chosen, gateways, box)


def choice_of(stored: ApiKey, provider: Provider, model: Model, gateways: Gateways, box: SecretBox) -> Choice:
    """The choice of a stored key and a model of its provider. Raises ApiKeyUnreadable or Unavailable."""
    gateway = gateways.get(provider.name)
    if gateway is None:
        raise Unavailable(f"This server has no gateway to {provider.name}.")
    key = box.open(stored.sealed, kind="api key", owner=stored.user_id, row_id=stored.id)
    return Choice(provider, model, gateway, key, stored.id)


def extras_problems(choice: Choice, extras: Extras) -> Iterator[FieldError]:
    """Why these extras can't be sent to this provider."""
    taken = choice.gateway.extras if isinstance(choice.gateway, ExtrasGateway) else frozenset()
    for name in extras:
        if name not in taken:
            yield FieldError(name, f"is not accepted by {choice.provider.name}")


def _missing(settings: ChatSettings, nickname: str | None, model: str | None) -> Iterator[FieldError]:
    for name, value in (("apikey_nickname", nickname), ("model", model)):
        if value is None and getattr(settings, name) is None:
            yield FieldError(name, "is required, because the conversation's settings have none")


def _told_first(opening: Opening, question: Message) -> Message | None:
    """The system message for the model, whose text the settings can replace; None for a blank one."""
    system, text = opening.system, opening.settings.system
    if text is None:
        return system
    return replace(system or question, role=Role.SYSTEM, content=text) if text.strip() else None


@dataclass(frozen=True, slots=True)
class SendMessage:
    """Ask a question in a conversation and stream the model's answer.

    - A conversation without title gets one from its first question: the first clause, in at most 60 characters.
    - The question is stored before the provider is called, the answer when it ends. Messages are in the order of
      storing.
    - The model is one of the key's provider, given by identifier or display name in any case. Without key or model,
      those of the conversation's settings apply.
    - The provider gets the system message and the conversation in order, trimmed from the oldest message to what the
      model can read.
    - BAiO itself answers a question that begins with a slash and the name of a tool, such as `/gc_content ACGT`, with
      the tool's result: no provider is asked, and no API key is needed. Its arguments are `name=value`; a value without
      a name, and the lines below, belong to the first parameter.
    - `sequence_ids` are stored sequences that the question is about: the model gets their handles, names and sizes, not
      their letters. FASTA, GenBank and runs of 60 letters or more in the question are stored as sequences, too; of
      these, the model gets the letters of those with up to 1,000.
    - Nothing is sent to the client before the provider has begun to answer; until then a failure is an error response.
    - The answer is finished and stored whether or not the client stays.
    - While a conversation is being answered, a second question is refused with the running answer's id. The number of a
      user's running answers is limited, and so is a user's stored text.
    - The same idempotency key with the same request, within 24 hours, asks nothing again: it gives the same answer from
      its start, or, as events, after the last event that the client has received. With another request it is refused.
    """

    starter: AnswerStarter

    async def __call__(  # noqa: PLR0913 - each is a part of the request
        self,
        caller: Caller,
        *,
        conversation_id: int,
        apikey_nickname: str | None = None,
        content: str,
        model: str | None = None,
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
        problems = [*content_problems(content), *idempotency_problems(idempotency_key)]
        if apikey_nickname is not None and model is not None:
            refuse(problems)
        owner, quotas, attached = caller.user_id, self.starter.quotas, tuple(dict.fromkeys(sequence_ids))
        pasted = await pasted_in(content)

        def question(tx: Transaction, now: datetime) -> Message:
            message = add_question(tx, quotas, conversation_id, content, pasted, now, owner=owner)
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
            problems,
        )
        return await self.starter.start(caller, asked, question)


async def pasted_in(content: str) -> Sequence[Pasted]:
    """The sequences that are pasted into a question."""
    return await asyncio.to_thread(find_pasted, content) if len(content) > MAX_AT_ONCE else find_pasted(content)


def add_question(
    tx: Transaction,
    quotas: Quotas,
    conversation_id: int,
    content: str,
    pasted: Sequence[Pasted],
    now: datetime,
    *,
    owner: int,
) -> Message:
    """Store a question, and as sequences what is pasted into it. Raises StorageFull or ConversationNotFound."""
    quotas.check_text(tx, owner, content)
    message = tx.messages.add(conversation_id, Role.USER, content, now, owner=owner)
    with suppress(SequencesFull, TooManySequences):  # the question can be answered without handles
        _keep(tx, quotas, message, pasted, owner)
    return message


def _keep(tx: Transaction, quotas: Quotas, message: Message, pasted: Sequence[Pasted], owner: int) -> None:
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
    for sequence, span in zip(store_sequences(tx, quotas, owner, new), spans, strict=True):
        tx.sequences.mention(message, sequence.id, span, owner=owner)


@dataclass(frozen=True, slots=True)
class RegenerateAnswer:
    """Ask one of the conversation's questions again, the last one by default, and stream the new answer.

    - A message names the question: it is the question itself, or the answer to it.
    - The new answer to the last question replaces the old one when it ends, and only if it has text.
    - An earlier question is asked again in a branch: a new conversation with everything up to that question. The old
      conversation stays as it is. The response names the conversation that the answer belongs to.
    - Everything else is as for a new question, including the idempotency key.
    """

    starter: AnswerStarter

    async def __call__(
        self,
        caller: Caller,
        *,
        conversation_id: int,
        apikey_nickname: str | None = None,
        model: str | None = None,
        message_id: int | None = None,
        idempotency_key: str | None = None,
        offset: int = 0,
    ) -> Followable:
        """Ask again, and return the answer to follow.

        Raises what SendMessage raises, QuestionNotFound, MessageNotFound or TooManyConversations.
        """
        refuse(idempotency_problems(idempotency_key))
        owner, quotas = caller.user_id, self.starter.quotas

        def question(tx: Transaction, now: datetime) -> Message:
            conversation = tx.conversations.get(conversation_id, owner=owner)
            meant = last = _newest_question(tx, conversation_id, owner)
            if message_id is not None:
                named = message_of(tx, conversation_id, message_id, owner=owner)
                meant = _newest_question(tx, conversation_id, owner, up_to=named.id)
            quotas.check_text(tx, owner)
            if meant.id == last.id:
                tx.retentions.note_activity(conversation_id, now, owner=owner)
                return last
            title = conversation.title
            branch = copy_conversation(tx, conversation, end=meant, with_end=True, title=title, now=now, quotas=quotas)
            if branch.question is None:
                raise QuestionNotFound
            return branch.question

        which = "" if message_id is None else str(message_id)
        asked = AnswerRequest("regenerate", conversation_id, apikey_nickname, model, idempotency_key, offset, which)
        return await self.starter.start(caller, asked, question)


def _newest_question(tx: Transaction, conversation_id: int, owner: int, *, up_to: int | None = None) -> Message:
    """The newest question up to this message, or raise QuestionNotFound."""
    said = tx.messages.iter_newest_first(conversation_id, owner=owner, up_to=up_to)
    found = next((message for message in said if message.role is Role.USER), None)
    if found is None:
        raise QuestionNotFound
    return found


@dataclass(frozen=True, slots=True)
class FollowAnswer:
    """Stream one of the conversation's answers, from any character on: the newest one, or the one with this id.

    - A client that comes back should name its answer: the newest one may be another by then.
    - The text so far comes at once, then the rest as it arrives, with the same end as the original stream.
    - It also works after the answer has ended, and from any process on the same database.
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


def answers_with_settings(tx: Transaction, conversation_id: int, owner: int, after: int = 0) -> list[Answer]:
    """A page of the conversation's answers, each an AnswerWithSettings."""
    page = tx.answers.page(conversation_id, owner=owner, after=after, limit=PAGE_ROWS)
    if not page:
        return page
    used = tx.answers.settings(conversation_id, owner=owner, first=page[0].id, last=page[-1].id)
    return [AnswerWithSettings.of(answer, used.get(answer.id, USUAL)) for answer in page]


@dataclass(frozen=True, slots=True)
class GetAnswers:
    """Read the records of a conversation's answers: state, models, finish reason, token usage and times.

    A researcher cites them to document how a text was produced. Oldest first; unknown values are null. With
    ``settings``, each record has the settings of its answer.
    """

    database: Database

    def __call__(self, caller: Caller, conversation_id: int, *, settings: bool = False) -> AsyncIterator[list[Answer]]:
        """Return ``pages`` of the records. Reading one raises ConversationNotFound.

        With ``settings``, they are of AnswerWithSettings.
        """
        owner = caller.user_id

        def read(tx: Transaction, after: int) -> list[Answer]:
            tx.conversations.get(conversation_id, owner=owner)
            if settings:
                return answers_with_settings(tx, conversation_id, owner, after)
            return tx.answers.page(conversation_id, owner=owner, after=after, limit=PAGE_ROWS)

        return pages(self.database, caller, read, 0, by_id, limit=PAGE_ROWS)


@dataclass(frozen=True, slots=True)
class LeaveAnswer:
    """A client has disconnected from its running answer: ``stops`` says whether that stops the answer.

    An answer in no conversation is stopped in any case: nobody else can read it.
    """

    answering: Answering
    stops: bool

    def __call__(self, answer: Followable) -> None:
        """Stop the answer if that is what leaving means here."""
        if self.stops or not answer.answer.stored:
            self.answering.stop(answer.answer.id)


@dataclass(frozen=True, slots=True)
class OpenStream:
    """A client begins to read a streamed response. The number that a user reads at once in one process is limited."""

    streams: Streams

    def __call__(self, caller: Caller, *, asking: bool = False) -> Stream:
        """Count it until it is closed, or raise TooManyStreams. What is read keeps nobody from ``asking``."""
        return self.streams.open(caller, asking=asking)
