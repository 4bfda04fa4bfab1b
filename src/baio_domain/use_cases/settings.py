"""Settings: how a conversation is answered, and presets for new conversations."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from baio_domain.entities import (
    UNCHANGED,
    Caller,
    ChatSettings,
    Model,
    Preset,
    Provider,
    preset_name_problems,
    refuse,
    system_problems,
)
from baio_domain.errors import FieldError, InvalidInput, TooManyPresets
from baio_domain.parameters import PARAMETERS, Accepted, Value, parameter_problems
from baio_domain.ports import Clock, Database, Gateways, LLMGateway, Transaction, accepted_by
from baio_domain.quotas import Quotas
from baio_domain.session_check import session_checked
from baio_domain.tools import Toolbox

MAX_PRESETS = 100
"""How many presets one user may have."""

Changes = Mapping[str, object]
"""New values by the fields of ``ChatSettings``; None removes a value. ``parameters`` are changes, too."""


@dataclass(frozen=True, slots=True)
class SettingsCheck:
    """The ports that checking settings needs, for every use case that stores some."""

    gateways: Gateways
    toolbox: Toolbox

    def changed(
        self,
        tx: Transaction,
        owner: int,
        before: ChatSettings,
        changes: Changes,
        besides: Sequence[FieldError] = (),
    ) -> ChatSettings:
        """The settings with these changes.

        Raises InvalidInput naming every field that is wrong with them, and what is wrong ``besides``; or
        ApiKeyNotFound.
        """
        settings = _with_changes(before, changes)
        provider = self._provider(tx, owner, settings)
        problems = [*besides, *system_problems(settings.system)]
        model: Model | None = None
        if settings.model is not None:
            model, wrong = _model(tx, provider, settings.model)
            problems += wrong if changes.keys() & {"model", "apikey_nickname"} else []
        if changes.keys() & {"parameters", "model", "apikey_nickname"}:
            problems += parameter_problems(settings.parameters, self._accepted(provider, model))
        problems += self._tool_problems(settings)
        refuse(problems)
        return settings

    def _provider(self, tx: Transaction, owner: int, settings: ChatSettings) -> Provider | None:
        if settings.apikey_nickname is None:
            return None
        return tx.catalogue.get(tx.api_keys.get(settings.apikey_nickname, owner=owner).provider_id)

    def _accepted(self, provider: Provider | None, model: Model | None) -> Mapping[str, Accepted]:
        """The parameters that can be set: all, as long as nobody knows who will be asked."""
        if provider is None:
            return PARAMETERS
        gateway = self.gateways.get(provider.name)
        return accepted_for(gateway, model) if gateway else {}

    def _tool_problems(self, settings: ChatSettings) -> Iterator[FieldError]:
        names = [spec.name for spec in self.toolbox.specs()]
        if not set(settings.tools or ()).issubset(names):
            yield FieldError("tools", f"has names of no tool; available: {', '.join(names) or 'none'}")


def accepted_for(gateway: LLMGateway, model: Model | None) -> dict[str, Accepted]:
    """The parameters that the gateway takes for this model, whose answers have a longest length."""
    accepted = accepted_by(gateway, model.identifier if model else None)
    longest = accepted.get("max_output_tokens")
    if model is not None and longest is not None:
        accepted["max_output_tokens"] = replace(longest, most=model.max_output_tokens)
    return accepted


def _model(tx: Transaction, provider: Provider | None, name: str) -> tuple[Model | None, list[FieldError]]:
    """The model with this name, or why there is none. Without a provider, it may be that of any."""
    if provider is not None:
        try:
            return provider.model(name), []
        except InvalidInput as error:
            return None, list(error.errors)
    for each in tx.catalogue.providers():
        if _model(tx, each, name)[0] is not None:
            return None, []  # which provider will be asked is not known
    return None, [FieldError("model", "no provider has such a model")]


def _with_changes(before: ChatSettings, changes: Changes) -> ChatSettings:
    new = {name: changes[name] for name in ("system", "model", "apikey_nickname") if name in changes}
    new = {name: text.strip() if name != "system" and isinstance(text, str) else text for name, text in new.items()}
    if "parameters" in changes:
        new["parameters"] = _merged(before.parameters, changes["parameters"])
    if "tools" in changes:
        tools = changes["tools"]
        new["tools"] = tuple(dict.fromkeys(tools)) if isinstance(tools, list | tuple) else None
    return replace(before, **new)  # type: ignore[arg-type]


def _merged(before: Mapping[str, Value], changes: object) -> dict[str, Value]:
    if not isinstance(changes, Mapping):
        return {}
    merged = {**before, **changes}
    ordered = [*PARAMETERS, *(name for name in merged if name not in PARAMETERS)]
    return {name: merged[name] for name in ordered if merged.get(name) is not None}


@dataclass(frozen=True, slots=True)
class GetSettings:
    """Read how a conversation is answered: system message, model, key, parameters and tools. Null means as usual."""

    database: Database

    async def __call__(self, caller: Caller, conversation_id: int) -> ChatSettings:
        """Return the settings, or raise ConversationNotFound."""
        return await self.database.read(
            session_checked(caller, lambda tx: tx.settings.opening(conversation_id, owner=caller.user_id).settings)
        )


@dataclass(frozen=True, slots=True)
class ChangeSettings:
    """Change how a conversation is answered, from the next question on.

    - Null removes a value, and a missing field stays as it is. This applies to each of the parameters, too.
    - `system` replaces the system message that the model receives; the conversation keeps its own. It has at most
      32,000 characters; if it is blank, the model gets no system message.
    - Key and model apply if a question names none. A setting follows a key that is renamed, and ends with one that is
      deleted.
    - BAiO refuses a parameter or a value that the model or its provider is known not to accept, and names the accepted
      ones. If only the provider refuses a parameter, it is left out, and the answer's record says so.
    - `tools` are the names of the offered tools; an empty list means none.
    """

    database: Database
    check: SettingsCheck
    quotas: Quotas

    async def __call__(self, caller: Caller, conversation_id: int, changes: Changes) -> ChatSettings:
        """Return the new settings. Raises InvalidInput, ConversationNotFound, ApiKeyNotFound or StorageFull."""
        owner = caller.user_id

        def change(tx: Transaction) -> ChatSettings:
            before = tx.settings.opening(conversation_id, owner=owner).settings
            settings = self.check.changed(tx, owner, before, changes)
            if settings.stored_bytes > before.stored_bytes:
                self.quotas.check_text(tx, owner, settings.system or "")
            tx.settings.save(conversation_id, settings, owner=owner)
            return settings

        return await self.database.write(session_checked(caller, change))


@dataclass(frozen=True, slots=True)
class CreatePreset:
    """Store settings under a name, for new conversations.

    - The name has at most 100 characters and is unique for its user. A user has at most 100 presets.
    - The settings are checked like those of a conversation.
    """

    database: Database
    check: SettingsCheck
    clock: Clock

    async def __call__(self, caller: Caller, name: str, chosen: Changes) -> Preset:
        """Store and return it. Raises InvalidInput, ApiKeyNotFound or TooManyPresets."""
        owner, now, name_errors = caller.user_id, self.clock.now(), list(preset_name_problems(name))

        def create(tx: Transaction) -> Preset:
            settings = self.check.changed(tx, owner, UNCHANGED, chosen, name_errors)
            if len(tx.presets.of(owner)) >= MAX_PRESETS:
                raise TooManyPresets
            return tx.presets.add(owner, name.strip(), settings, now)

        return await self.database.write(session_checked(caller, create))


@dataclass(frozen=True, slots=True)
class GetPresets:
    """List one's own presets, oldest first."""

    database: Database

    async def __call__(self, caller: Caller) -> list[Preset]:
        """Return them."""
        return await self.database.read(session_checked(caller, lambda tx: tx.presets.of(caller.user_id)))


@dataclass(frozen=True, slots=True)
class DeletePreset:
    """Delete a preset. Conversations that were created with it keep their settings."""

    database: Database

    async def __call__(self, caller: Caller, name: str) -> None:
        """Delete it, or raise PresetNotFound."""
        await self.database.write(
            session_checked(caller, lambda tx: tx.presets.delete(name.strip(), owner=caller.user_id))
        )
