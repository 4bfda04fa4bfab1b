"""Ask a question and get an answer."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from baio_domain.answering import LEASE, Answering, LiveAnswer
from baio_domain.entities import Answer, Caller, Role, content_problems, refuse
from baio_domain.errors import Unavailable
from baio_domain.ports import Clock, Database, Finished, Gateways, SecretBox, Transaction
from baio_domain.prompts import prompt


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
    - While a conversation is being answered, a second question is refused.
    """

    database: Database
    answering: Answering
    box: SecretBox
    gateways: Gateways
    clock: Clock

    async def __call__(
        self, caller: Caller, *, conversation_id: int, apikey_nickname: str, content: str, model: str
    ) -> LiveAnswer:
        """Ask, and return the running answer once its first text is there; follow it for the text.

        Raises InvalidInput (content, model), ConversationNotFound, ApiKeyNotFound, ApiKeyUnreadable, AnswerRunning,
        Unavailable, or what the provider refused with.
        """
        refuse(content_problems(content))
        self.answering.refuse_when_closing()
        now = self.clock.now()

        def ask(tx: Transaction) -> tuple[Answer, AsyncGenerator[str | Finished, None]]:
            owner = caller.user_id
            stored = tx.api_keys.get(apikey_nickname.strip(), owner=owner)
            provider = tx.catalogue.get(stored.provider_id)
            chosen = provider.model(model)
            gateway = self.gateways.get(provider.name)
            if gateway is None:
                raise Unavailable(f"This server has no gateway to {provider.name}.")
            key = self.box.open(stored.sealed, owner=owner, key_id=stored.id)
            question = tx.messages.add(conversation_id, Role.USER, content, now, owner=owner)
            answer = tx.answers.begin(question, provider.id, chosen.identifier, now, now + LEASE)
            system = tx.messages.system(conversation_id, owner=owner)
            turns = prompt(system, tx.messages.newest_first(conversation_id, owner=owner), chosen)
            return answer, gateway.stream(key=key, model=chosen, prompt=turns)

        answer, stream = await self.database.write(ask)
        live = self.answering.start(answer, stream)
        await live.started()
        return live
