"""A title that a model suggests."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass

from baio_domain.entities import (
    Caller,
    Role,
    Usage,
    UsedTokens,
)
from baio_domain.errors import ProviderBroken, ProviderTooSlow, QuestionNotFound
from baio_domain.ports import Clock, Database, Finished, Gateways, SecretBox, Transaction
from baio_domain.prompts import Turn, estimated_completion_tokens, estimated_tokens
from baio_domain.quotas import AtOnce
from baio_domain.session_check import session_checked
from baio_domain.titles import title_in
from baio_domain.use_cases.messaging import Choice, choose

ASKED_CHARACTERS = 4000
"""Characters of the first question that the model gets to read."""

INSTRUCTION = (
    "Write a title for a conversation that begins with the question below. The title has at most eight words, is in the"
    " language of the question, and has no quotation marks. Answer with the title only.\n\n"
)

MAX_CHARACTERS = 2000
"""Characters of an answer that are read: some models think aloud before the title."""


@dataclass(frozen=True, slots=True)
class SuggestedTitle:
    """The title, and what it cost; None if the provider did not count its tokens."""

    title: str
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class _Asked:
    choice: Choice
    prompt: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class SuggestTitle:
    """Ask a model for a title of the conversation. Nothing is renamed: that is another request.

    - The model reads only the first 4,000 characters of the first question.
    - If key or model is left out, those of the conversation's settings apply.
    - The tokens count in getUsage, like those of an answer. `usage` is null if the provider did not count them.
    - The title is one line. It is at most 60 characters long.
    - The number of answers and titles that a user has at once is limited.
    """

    database: Database
    gateways: Gateways
    box: SecretBox
    clock: Clock
    timeout_seconds: float
    at_once: AtOnce

    async def __call__(
        self, caller: Caller, conversation_id: int, apikey_nickname: str | None = None, model: str | None = None
    ) -> SuggestedTitle:
        """Ask, count, and return the title.

        Raises InvalidInput (apikey_nickname, model), ConversationNotFound, QuestionNotFound, ApiKeyNotFound,
        ModelNotFound, ApiKeyUnreadable, TooManyAnswers, Unavailable or ProviderFailure.
        """

        def prepare(tx: Transaction) -> _Asked:
            return self._prepare(tx, caller.user_id, conversation_id, apikey_nickname, model)

        with self.at_once.one(caller.user_id):
            asked = await self.database.read(session_checked(caller, prepare))
            try:
                async with asyncio.timeout(self.timeout_seconds):
                    text, usage = await _answer(asked)
            except TimeoutError:
                raise ProviderTooSlow(f"{asked.choice.provider.name} did not write a title in time.") from None
            await self._count(caller.user_id, asked, text, usage)
        if not (title := title_in(text)):
            raise ProviderBroken(f"{asked.choice.provider.name} wrote no title.")
        return SuggestedTitle(title, usage)

    def _prepare(
        self, tx: Transaction, owner: int, conversation_id: int, nickname: str | None, model: str | None
    ) -> _Asked:
        settings = tx.settings.opening(conversation_id, owner=owner).settings
        choice = choose(tx, settings, nickname, model, self.gateways, self.box, owner=owner)
        page = tx.messages.page(conversation_id, owner=owner, after=0, size=1)
        while page and page[-1].role is not Role.USER:
            page = tx.messages.page(conversation_id, owner=owner, after=page[-1].id, size=1)
        if not page:
            raise QuestionNotFound
        return _Asked(choice, (Turn("user", INSTRUCTION + page[-1].content[:ASKED_CHARACTERS]),))

    async def _count(self, owner: int, asked: _Asked, text: str, usage: Usage | None) -> None:
        """Count what was used; where the provider wrote nothing and counted nothing, nothing was."""
        if usage is None and not text:
            return
        estimate = Usage(
            sum(estimated_tokens(turn.content) for turn in asked.prompt), estimated_completion_tokens(text)
        )
        used = UsedTokens(
            owner,
            self.clock.now().date(),
            asked.choice.provider.id,
            asked.choice.model.identifier,
            usage or estimate,
            estimated=usage is None,
        )
        await self.database.write(lambda tx: tx.ledger.add(used))


async def _answer(asked: _Asked) -> tuple[str, Usage | None]:
    """The model's answer, up to ``MAX_CHARACTERS``, and its tokens."""
    choice, text, usage = asked.choice, "", None
    async with aclosing(choice.gateway.stream(key=choice.key, model=choice.model, prompt=asked.prompt)) as stream:
        async for item in stream:
            if isinstance(item, str):
                text += item
            elif isinstance(item, Finished):
                usage = item.usage
            if len(text) > MAX_CHARACTERS:
                break
    return text, usage
