"""Which models there are, and the keys to ask them with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from baio_domain.answering import REMEMBER
from baio_domain.authorization import acting
from baio_domain.entities import (
    ApiKey,
    Caller,
    Model,
    ModelSpec,
    Provider,
    ProviderSpec,
    folded,
    idempotency_problems,
    key_problems,
    refuse,
)
from baio_domain.errors import FieldError
from baio_domain.ports import Clock, Database, SecretBox, Transaction

DEFAULT_PROVIDER = 1
"""The provider of a key that names none: OpenAI."""

LONGEST_ID = 19
"""Digits of the largest id."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A stored key as its owner may see it: everything but the key."""

    nickname: str
    provider: Provider
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AddApiKey:
    """Store an API key, encrypted, for oneself alone.

    - The provider is named by id, or by name in any spelling; without one it is OpenAI.
    - Key and nickname are trimmed and must not be blank; the nickname has at most 255 characters and is unique among
      one's own, the key has at most 4,096, printable ASCII without spaces.
    - A key is never shown again.
    - The same idempotency key with the same request, within 24 hours, stores nothing again and gives the same
      response; with another request it is refused.
    """

    database: Database
    box: SecretBox
    clock: Clock

    async def __call__(
        self,
        caller: Caller,
        *,
        key: str,
        nickname: str,
        provider: int | str | None,
        idempotency_key: str | None = None,
    ) -> ApiKey:
        """Store it and return its record, or raise InvalidInput naming every bad field, or IdempotencyKeyReused."""
        problems = [*key_problems(key, nickname), *idempotency_problems(idempotency_key)]
        mark = self.box.fingerprint("addAPIKey", key, nickname, str(provider))
        key, nickname = key.strip(), nickname.strip()
        now = self.clock.now()

        def add(tx: Transaction) -> ApiKey:
            if idempotency_key is not None:
                before = tx.idempotency.find(caller.user_id, idempotency_key, mark, since=now - REMEMBER)
                if before is not None:
                    return ApiKey(before.led_to, caller.user_id, 0, nickname, b"", before.created_at)
            chosen = _chosen(tx.catalogue.providers(), provider)
            unknown = [] if chosen else [FieldError("provider", "is not a provider known here")]
            refuse([*problems, *unknown])
            assert chosen is not None  # noqa: S101 - refused just above; this tells the type checker
            stored = tx.api_keys.add(caller.user_id, chosen.id, nickname, now)
            sealed = self.box.seal(key, owner=caller.user_id, key_id=stored.id)
            tx.api_keys.seal(stored.id, sealed, owner=caller.user_id)
            if idempotency_key is not None:
                tx.idempotency.remember(caller.user_id, idempotency_key, mark, stored.id, now)
            return stored

        return await self.database.write(acting(caller, add))


def _chosen(providers: Sequence[Provider], wanted: int | str | None) -> Provider | None:
    if wanted is None:
        wanted = DEFAULT_PROVIDER
    elif isinstance(wanted, str) and wanted.strip().isdecimal() and len(wanted) < LONGEST_ID:
        wanted = int(wanted)
    for provider in providers:
        if wanted == provider.id or (isinstance(wanted, str) and folded(wanted.strip()) == folded(provider.name)):
            return provider
    return None


@dataclass(frozen=True, slots=True)
class GetApiKeys:
    """List one's own keys by nickname, each with its provider and that provider's models, in the order of adding."""

    database: Database

    async def __call__(self, caller: Caller) -> list[StoredKey]:
        """Return them without the keys themselves."""

        def read(tx: Transaction) -> list[StoredKey]:
            keys = tx.api_keys.of(caller.user_id)
            providers = {provider.id: provider for provider in tx.catalogue.providers()} if keys else {}
            return [StoredKey(key.nickname, providers[key.provider_id], key.created_at) for key in keys]

        return await self.database.read(acting(caller, read))


@dataclass(frozen=True, slots=True)
class GetProviders:
    """List all providers with the models that can be asked."""

    database: Database

    async def __call__(self, caller: Caller) -> list[Provider]:
        """Return them by id."""
        return await self.database.read(acting(caller, lambda tx: tx.catalogue.providers()))


@dataclass(frozen=True, slots=True)
class LoadCatalogue:
    """Bring the stored providers and models in line with the installed gateways.

    - Ids are given once and kept for ever.
    - A model that no gateway names any more is retired, not deleted; one that comes back has its old id.
    """

    database: Database

    async def __call__(self, specs: Sequence[ProviderSpec]) -> list[str]:
        """Load them and return a line for each change, for people; none the second time."""

        def load(tx: Transaction) -> list[str]:
            stored = {provider.name: provider for provider in tx.catalogue.providers(retired=True)}
            changes: list[str] = []
            for spec in specs:
                provider = stored.pop(spec.name, None)
                if provider is None:
                    provider = tx.catalogue.add_provider(spec.name)
                    changes.append(f"added provider {provider.name} (id {provider.id})")
                changes += _load_models(tx, provider, spec.models)
            for provider in stored.values():
                changes += _load_models(tx, provider, ())
            return changes

        return await self.database.write(load)


def _load_models(tx: Transaction, provider: Provider, specs: Sequence[ModelSpec]) -> Iterator[str]:
    stored = {model.identifier: model for model in provider.models}
    for spec in specs:
        old = stored.pop(spec.identifier, None)
        if old is None:
            model = tx.catalogue.add_model(provider.id, spec)
            yield f"added model {provider.name} {model.name} (id {model.id})"
            continue
        new = Model.of(old.id, old.provider_id, spec)
        if new != old:
            tx.catalogue.save_model(new)
            yield f"changed model {provider.name} {new.name} (id {new.id})"
    for gone in stored.values():
        if not gone.retired:
            tx.catalogue.save_model(replace(gone, retired=True))
            yield f"retired model {provider.name} {gone.name} (id {gone.id})"
