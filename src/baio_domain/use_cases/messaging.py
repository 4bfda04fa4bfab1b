"""Ask a question and get an answer; follow it, stop it, have it given again, and read how it came about."""

import asyncio
from dataclasses import dataclass
from datetime import date

from baio_domain.answering import (
    CATCH_UP_TIMEOUT_SECONDS,
    IDEMPOTENCY_KEY_LIFETIME,
    LEASE,
    POLL_SECONDS,
    STOP_TIMEOUT_SECONDS,
    Answering,
    Followable,
    ProviderRequest,
    StoredAnswer,
)
from baio_domain.entities import (
    Answer,
    AnswerState,
    Caller,
    DayOfUsage,
    Message,
    Role,
    content_problems,
    idempotency_problems,
    refuse,
)
from baio_domain.errors import FieldError, QuestionNotFound, Unavailable
from baio_domain.ports import Clock, Database, Gateways, NewAnswer, SecretBox, Transaction
from baio_domain.prompts import prompt
from baio_domain.session_check import session_checked

StartedAnswer = tuple[Answer, ProviderRequest]
"""An answer's record, and how its provider is asked."""


@dataclass(frozen=True, slots=True)
class AnswerStarter:
    """What asking a model takes, whichever question it is."""

    answering: Answering
    box: SecretBox
    gateways: Gateways
    clock: Clock
    answers_per_user: int

    def begin(
        self, tx: Transaction, question: Message, caller: Caller, apikey_nickname: str, model: str
    ) -> StartedAnswer:
        """Record the answer as running and say how to ask for it; nothing is sent yet."""
        stored = tx.api_keys.get(apikey_nickname.strip(), owner=caller.user_id)
        provider = tx.catalogue.get(stored.provider_id)
        chosen = provider.model(model)
        gateway = self.gateways.get(provider.name)
        if gateway is None:
            raise Unavailable(f"This server has no gateway to {provider.name}.")
        key = self.box.open(stored.sealed, owner=caller.user_id, key_id=stored.id)
        owner, thread, now = caller.user_id, question.conversation_id, self.clock.now()
        history = tx.messages.iter_newest_first(thread, owner=owner, up_to=question.id)
        asked = prompt(tx.messages.system(thread, owner=owner), history, chosen)
        left_out = tx.messages.count(thread, owner=owner, up_to=asked.cut_at.id) if asked.cut_at else 0
        answer = tx.answers.begin(
            NewAnswer(
                question, owner, provider.id, chosen.identifier, now, now + LEASE, self.answers_per_user,
                left_out, asked.tokens, stored.id,
            )
        )  # fmt: skip
        return answer, ProviderRequest(gateway, key, chosen, asked, left_out)


@dataclass(frozen=True, slots=True)
class SendMessage:
    """Ask a question in a conversation and stream the model's answer.

    - The question is stored before the provider is called, the answer when it ends; the order in the conversation is
      the order of writing.
    - The model is named by identifier or display name in any spelling, among the models of the key's provider.
    - The provider is sent the system message and the conversation in order, trimmed from the oldest to what the model
      can read.
    - Nothing is sent to the client before the provider has begun to answer; until then a failure is an error response.
    - The answer is finished and stored whether or not the client stays.
    - While a conversation is being answered, a second question is refused with the running answer's id; and a user has
      only so many running answers.
    - The same idempotency key with the same request, within 24 hours, asks nothing again: it gives the same answer
      from its start. With another request it is refused.
    """

    database: Database
    asker: AnswerStarter

    async def __call__(
        self,
        caller: Caller,
        *,
        conversation_id: int,
        apikey_nickname: str,
        content: str,
        model: str,
        idempotency_key: str | None = None,
    ) -> Followable:
        """Ask, and return the answer to follow.

        Raises InvalidInput (content, model), ConversationNotFound, ApiKeyNotFound, ApiKeyUnreadable, AnswerRunning,
        TooManyAnswers, IdempotencyKeyReused or Unavailable; what the provider refuses with, following raises.
        """
        refuse([*content_problems(content), *idempotency_problems(idempotency_key)])
        asker, owner, now = self.asker, caller.user_id, self.asker.clock.now()
        asker.answering.refuse_when_closing()
        mark = asker.box.fingerprint("sendMessage", str(conversation_id), apikey_nickname, content, model)

        def ask(tx: Transaction) -> Answer | StartedAnswer:
            if idempotency_key is not None:
                before = tx.idempotency.find(owner, idempotency_key, mark, since=now - IDEMPOTENCY_KEY_LIFETIME)
                if before is not None:
                    return tx.answers.get(before.result_id, owner=owner)
            question = tx.messages.add(conversation_id, Role.USER, content, now, owner=owner)
            begun = asker.begin(tx, question, caller, apikey_nickname, model)
            if idempotency_key is not None:
                tx.idempotency.remember(owner, idempotency_key, mark, begun[0].id, now, conversation=conversation_id)
            return begun

        asked = await self.database.write(session_checked(caller, ask))
        if isinstance(asked, Answer):
            return asker.answering.live(asked.id) or StoredAnswer(self.database, asked, owner)
        return asker.answering.start(*asked)


@dataclass(frozen=True, slots=True)
class RegenerateAnswer:
    """Ask the conversation's last question again, and stream the new answer.

    - The new answer takes the place of the old one when it ends, and only if it has text.
    - Everything else is as for a new question.
    """

    database: Database
    asker: AnswerStarter

    async def __call__(self, caller: Caller, *, conversation_id: int, apikey_nickname: str, model: str) -> Followable:
        """Ask again, and return the answer to follow; raises as SendMessage does, and QuestionNotFound."""
        self.asker.answering.refuse_when_closing()

        def ask(tx: Transaction) -> StartedAnswer:
            tx.conversations.get(conversation_id, owner=caller.user_id)
            said = tx.messages.iter_newest_first(conversation_id, owner=caller.user_id)
            question = next((message for message in said if message.role is Role.USER), None)
            if question is None:
                raise QuestionNotFound
            return self.asker.begin(tx, question, caller, apikey_nickname, model)

        return self.asker.answering.start(*await self.database.write(session_checked(caller, ask)))


@dataclass(frozen=True, slots=True)
class FollowAnswer:
    """Stream the conversation's newest answer from a character on.

    - What is there comes at once, then the rest as it arrives, to the same end as for whoever asked.
    - After the answer has ended too, and from any process on the same database.
    - ``offset`` counts Unicode characters; one past the end is refused.
    """

    database: Database
    answering: Answering

    async def __call__(self, caller: Caller, *, conversation_id: int, offset: int) -> Followable:
        """Return the answer to follow, or raise AnswerNotFound or InvalidInput naming ``offset``."""
        owner = caller.user_id
        answer = await self.database.read(
            session_checked(caller, lambda tx: tx.answers.newest(conversation_id, owner=owner))
        )
        live = self.answering.live(answer.id)
        length = live.length if live else await self._stored_length(answer, offset, owner)
        if not 0 <= offset <= length:
            refuse([FieldError("offset", f"is not between 0 and {length}, the characters there are")])
        return live or StoredAnswer(self.database, answer, owner)

    async def _stored_length(self, answer: Answer, wanted: int, owner: int) -> int:
        # The process that has the answer shows text before it stores it: a client may have seen what is on its way.
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
class StopAnswer:
    """Stop the conversation's running answer; its text so far is kept.

    Works from the moment the question is stored, and from any process on the same database. It returns once the final
    state is stored; an answer that ends by itself meanwhile has its own.
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
                raise Unavailable("The answer's process does not react.", retry_after=5)
            await asyncio.sleep(POLL_SECONDS)


@dataclass(frozen=True, slots=True)
class GetAnswers:
    """Read how a conversation's answers came about: state, models, finish reason, token usage and times.

    The record a researcher needs to say what produced a text. Oldest first; null where something is not known.
    """

    database: Database

    async def __call__(self, caller: Caller, conversation_id: int) -> list[Answer]:
        """Return the records, or raise ConversationNotFound."""

        def read(tx: Transaction) -> list[Answer]:
            tx.conversations.get(conversation_id, owner=caller.user_id)
            return tx.answers.of(conversation_id, owner=caller.user_id)

        return await self.database.read(session_checked(caller, read))


@dataclass(frozen=True, slots=True)
class GetUsage:
    """Read what one's own answers cost, in tokens, per day (UTC), provider and model; the oldest day first.

    - The days are those on which the answers began, the first and the last included; without them it is the last 30.
    - Tokens are what the provider counted; where it said nothing they are estimated from the text, and ``estimated``
      is true.
    - Answers of deleted conversations are gone, and don't count.
    """

    database: Database
    clock: Clock

    async def __call__(self, caller: Caller, first: date | None, last: date | None) -> list[DayOfUsage]:
        """Return a record per day, provider and model, or raise InvalidInput naming ``from``."""
        until = last or self.clock.now().date()
        since = first or date.fromordinal(max(1, until.toordinal() - 29))
        if since > until:
            refuse([FieldError("from", "is after the last day")])
        return await self.database.read(
            session_checked(caller, lambda tx: tx.answers.usage(caller.user_id, since, until))
        )


@dataclass(frozen=True, slots=True)
class LeaveAnswer:
    """A client has left while its answer was running: by default that changes nothing, or it stops the answer."""

    answering: Answering
    stops: bool

    def __call__(self, answer: Followable) -> None:
        """Do what leaving means here."""
        if self.stops:
            self.answering.stop(answer.answer.id)
