"""Chat completions: answers to messages that the client keeps itself, and the available models."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from baio_domain.answering import LEASE, Followable, ProviderRequest
from baio_domain.entities import (
    ApiKey,
    Caller,
    ChatSettings,
    Message,
    Model,
    Provider,
    Role,
    refuse,
    system_problems,
)
from baio_domain.errors import FieldError, InvalidInput, ModelNotFound
from baio_domain.idempotency import idempotency_problems
from baio_domain.parameters import Parameters, parameter_problems
from baio_domain.pasted import Pasted
from baio_domain.ports import NO_EXTRAS, Database, Extras, NewAnswer, ToolGateway, Transaction
from baio_domain.prompts import SYSTEM_PROMPT, Prompt, Told, Turn, estimated_tokens, joined
from baio_domain.rounds import results_as_text
from baio_domain.session_check import session_checked
from baio_domain.text import folded, quoted
from baio_domain.titles import title_of
from baio_domain.tools import ToolSpec, canonical_json
from baio_domain.use_cases.messaging import (
    AnswerRequest,
    AnswerStarter,
    Choice,
    PreparedAnswer,
    add_question,
    choice_of,
    extras_problems,
    pasted_in,
)
from baio_domain.use_cases.settings import accepted_for

DEFAULT_PRESET = "default"
"""The name of the preset whose key counts where several have a model."""

MAX_NAMED = 10
"""Names of models that a refusal proposes."""


@dataclass(frozen=True, slots=True)
class OfferedModel:
    """A model of one of the user's keys. ``id`` names both: the nickname of the key, a slash, and the identifier."""

    key: ApiKey
    provider: Provider
    model: Model

    @property
    def id(self) -> str:
        """The nickname of the key, a slash, and the model's identifier."""
        return f"{self.key.nickname}/{self.model.identifier}"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request for an answer. ``turns`` are the client's messages; calls in them come with their results.

    ``tools`` are those that the client runs itself. With ``store``, it becomes a conversation.
    """

    model: str
    turns: Sequence[Turn]
    tools: Sequence[ToolSpec] = ()
    parameters: Parameters = field(default_factory=dict)
    extras: Extras = field(default_factory=lambda: NO_EXTRAS)
    store: bool = False

    def problems(self) -> Iterator[FieldError]:
        """Its problems, whichever model is asked."""
        turns = joined(self.turns)
        if not turns or not (turns[-1].role == "user" or turns[-1].calls):
            yield FieldError("messages", "must end with a message of the user that is not blank, or with results")
        if self.store and (self.tools or any(turn.calls for turn in turns)):
            yield FieldError("store", "is not possible with tools of yours, because a conversation has only texts")
        if self.extras.get("tool_choice", "auto") not in ("auto", "none") and not self.tools:
            yield FieldError("tool_choice", "needs tools")
        if self.store:
            system = turns[0].content if turns and turns[0].role == "system" else None
            yield from (FieldError("messages", f"system: {each.message}") for each in system_problems(system))


@dataclass(frozen=True, slots=True)
class CompleteChat:
    """Answer a list of messages, in the form of OpenAI's chat completions.

    - BAiO stores only the cost of the answer. With `store`, the messages become a conversation, and the answer is like
      any other answer in it, with BAiO's tools.
    - The model is named as in the list of models: the nickname of the key, a slash, and the model. The model is enough
      if only one key has it, or if one of the keys is that of the preset `default`.
    - System messages, wherever they stand, come first. Neighbouring messages of the same role are joined. Nothing is
      left out if the model's window is too small: that is an error.
    - The client runs its tools itself, and sends their results with the next request.
    - BAiO refuses parameters that it knows the model or its provider not to accept. If only the provider refuses them,
      they are left out, and the response says so.
    - An answer that is not stored ends when the client leaves. The number of a user's running answers is limited.
    """

    starter: AnswerStarter

    async def __call__(self, caller: Caller, asked: ChatRequest, *, idempotency_key: str | None = None) -> Followable:
        """Ask, and return the answer to follow. Only a stored one has an idempotency key.

        Raises InvalidInput (messages, model, store, tools, tool_choice, parameters, extras), ModelNotFound,
        ApiKeyUnreadable, TooManyAnswers, TooManyConversations, StorageFull, IdempotencyKeyReused or Unavailable.
        Following the answer raises the provider's errors.
        """
        refuse(asked.problems())
        if asked.store:
            return await self._stored(caller, asked, idempotency_key)
        starter = self.starter
        starter.answering.refuse_when_closing()
        prompt, now = _prompt(asked), starter.clock.now()

        def begin(tx: Transaction) -> PreparedAnswer:
            choice = self._choose(tx, caller.user_id, asked)[1]
            if asked.tools and not isinstance(choice.gateway, ToolGateway):
                refuse([FieldError("tools", f"are not accepted by {choice.provider.name}")])
            sent = prompt if choice.model.system_role else _without_system_role(prompt)
            answer = tx.answers.begin(
                NewAnswer(
                    None,
                    caller.user_id,
                    choice.provider.id,
                    choice.model.identifier,
                    now,
                    lease_until=now + LEASE,
                    max_running=starter.answers_per_user,
                    prompt_estimate=sent.tokens + sum(estimated_tokens(tool.told) for tool in asked.tools),
                    api_key_id=choice.api_key_id,
                    worker=starter.answering.worker,
                )
            )
            request = ProviderRequest(
                choice.gateway,
                choice.key,
                choice.model,
                sent,
                halved=True,  # that the prompt is too long is for the client to know
                parameters=asked.parameters,
                tools=asked.tools,
                extras=asked.extras,
            )
            return answer, request

        return starter.answering.start(*await starter.database.write(session_checked(caller, begin)))

    async def _stored(self, caller: Caller, asked: ChatRequest, idempotency_key: str | None) -> Followable:
        """Make a conversation of it, and start the answer there."""
        refuse(idempotency_problems(idempotency_key))
        *earlier, question = joined(asked.turns)
        pasted = await pasted_in(question.content)
        chosen = {name: value for name, value in asked.extras.items() if name not in _ABOUT_TOOLS}

        def begin(tx: Transaction, now: datetime) -> Message:
            return self._converse(tx, caller.user_id, asked, earlier, (question, pasted), now)

        content = [asked.model, [[turn.role, turn.content] for turn in asked.turns], dict(asked.parameters)]
        request = AnswerRequest(
            "completion",
            0,
            None,
            None,
            idempotency_key,
            0,
            canonical_json([*content, dict(asked.extras)]),
            extras=chosen,
        )
        return await self.starter.start(caller, request, begin)

    def _converse(
        self,
        tx: Transaction,
        owner: int,
        asked: ChatRequest,
        earlier: Sequence[Turn],
        last: tuple[Turn, Sequence[Pasted]],
        now: datetime,
    ) -> Message:
        """Store a new conversation with these messages and settings; its last question."""
        quotas, (question, pasted) = self.starter.quotas, last
        offered, _ = self._choose(tx, owner, asked)
        said = [turn for turn in earlier if turn.role != "system"]
        quotas.check_conversations(tx, owner)
        quotas.check_text(tx, owner, "".join(turn.content for turn in (*earlier, question)))
        first = next((turn for turn in said if turn.role == "user"), question)
        conversation = tx.conversations.add(owner, title_of(first.content) or "", now)
        tx.messages.add(conversation.id, Role.SYSTEM, SYSTEM_PROMPT, now, owner=owner)
        tools = () if "response_format" in asked.extras or asked.extras.get("tool_choice") == "none" else None
        system = next((turn.content for turn in earlier if turn.role == "system"), None)
        settings = ChatSettings(system, offered.model.identifier, offered.key.nickname, asked.parameters, tools)
        tx.settings.save(conversation.id, settings, owner=owner)
        for turn in said:
            role = Role.USER if turn.role == "user" else Role.BAIO
            tx.messages.add(conversation.id, role, turn.content, now, owner=owner)
        return add_question(tx, quotas, conversation.id, question.content, pasted, now, owner=owner)

    def _choose(self, tx: Transaction, owner: int, asked: ChatRequest) -> tuple[OfferedModel, Choice]:
        """Find key and model, and refuse what these do not take."""
        offered = find_model(tx, owner, asked.model)
        choice = choice_of(offered.key, offered.provider, offered.model, self.starter.gateways, self.starter.box)
        accepted = accepted_for(choice.gateway, choice.model)
        refuse([*parameter_problems(asked.parameters, accepted), *extras_problems(choice, asked.extras)])
        return offered, choice


_ABOUT_TOOLS = frozenset({"tool_choice", "parallel_tool_calls"})


def _prompt(asked: ChatRequest) -> Prompt:
    """The messages as they are sent. Without tools, calls and their results are told as text."""
    turns = asked.turns if asked.tools else results_as_text(asked.turns)
    return Prompt(tuple(map(Told, joined(turns))))


def _without_system_role(prompt: Prompt) -> Prompt:
    """The same for a model that takes no message of the system."""
    texts = (told.text for told in prompt.messages)
    return Prompt(tuple(Told(replace(turn, role="user") if turn.role == "system" else turn) for turn in texts))


@dataclass(frozen=True, slots=True)
class GetChatModels:
    """List the models of all keys of the user, as they are named in requests for chat completions."""

    database: Database

    async def __call__(self, caller: Caller) -> list[OfferedModel]:
        """Return them, key by key, oldest first."""

        def read(tx: Transaction) -> list[OfferedModel]:
            return list(_offered(tx, tx.api_keys.of(caller.user_id)))

        return await self.database.read(session_checked(caller, read))


@dataclass(frozen=True, slots=True)
class GetChatModel:
    """Find a model as a request for a chat completion does."""

    database: Database

    async def __call__(self, caller: Caller, model: str) -> OfferedModel:
        """Return it, or raise ModelNotFound, or InvalidInput (model) where several keys have it."""
        return await self.database.read(session_checked(caller, lambda tx: find_model(tx, caller.user_id, model)))


def find_model(tx: Transaction, owner: int, name: str) -> OfferedModel:
    """The model with this name: after a nickname and a slash, or by itself if only one key has it.

    Raises ModelNotFound, or InvalidInput (model).
    """
    name = name.strip()
    if not name:
        refuse([FieldError("model", "must not be blank")])
    keys, providers = tx.api_keys.of(owner), dict[int, Provider]()

    def look(key: ApiKey, name: str) -> OfferedModel | None:
        provider = providers.get(key.provider_id)
        if provider is None:
            provider = providers[key.provider_id] = tx.catalogue.get(key.provider_id)
        try:
            return OfferedModel(key, provider, provider.model(name))
        except InvalidInput:
            return None

    # A nickname can have slashes, and so can a model's identifier: the longest nickname is tried first.
    for key in sorted(keys, key=lambda key: -len(key.nickname)):
        if name.startswith(f"{key.nickname}/") and (found := look(key, name[len(key.nickname) + 1 :])):
            return found
    having = [found for key in keys if (found := look(key, name))]
    if not having:
        raise ModelNotFound(
            f"None of your API keys has the model {quoted(name)}. The list of models has the names of all.",
            errors=(FieldError("model", "is no model of your API keys"),),
        )
    if len(having) > 1:
        presets = (preset for preset in tx.presets.of(owner) if folded(preset.name) == DEFAULT_PRESET)
        preferred = {preset.settings.apikey_nickname for preset in presets}
        having = [found for found in having if found.key.nickname in preferred] or having
    if len(having) > 1:
        names = " or ".join(quoted(found.id) for found in having[:MAX_NAMED])
        refuse([FieldError("model", f"is a model of several of your API keys: write {names}")])
    return having[0]


def _offered(tx: Transaction, keys: Sequence[ApiKey]) -> Iterator[OfferedModel]:
    providers = {each.id: each for each in tx.catalogue.providers()} if keys else {}
    for key in keys:
        provider = providers[key.provider_id]
        yield from (OfferedModel(key, provider, model) for model in provider.models if not model.retired)
