"""Which models there are, and the keys to ask them with."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from baio_domain.answering import IDEMPOTENCY_KEY_LIFETIME, Answering
from baio_domain.entities import (
    Act,
    ApiKey,
    Caller,
    Model,
    ModelSpec,
    Provider,
    ProviderSpec,
    SecondFactor,
    folded,
    idempotency_problems,
    key_problems,
    refuse,
)
from baio_domain.errors import ApiKeyNotFound, ApiKeyUnreadable, BaioError, FieldError, KeyRefused
from baio_domain.ports import Clock, Database, Gateways, SecretBox, SecretKind, Transaction
from baio_domain.session_check import session_checked

DEFAULT_PROVIDER = 1
"""The provider of a key that names none: OpenAI."""

MAX_ID_DIGITS = 19
"""Digits of the largest id."""

PAGE = 100
"""Stored keys that are looked at in one transaction while they are sealed anew."""


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
                before = tx.idempotency.find(
                    caller.user_id, idempotency_key, mark, since=now - IDEMPOTENCY_KEY_LIFETIME
                )
                if before is not None:
                    return ApiKey(before.result_id, caller.user_id, 0, nickname, b"", before.created_at)
            chosen = _chosen(tx.catalogue.providers(), provider)
            unknown = [] if chosen else [FieldError("provider", "is not a provider known here")]
            refuse([*problems, *unknown])
            assert chosen is not None  # noqa: S101 - refused just above; this tells the type checker
            stored = tx.api_keys.add(caller.user_id, chosen.id, nickname, now)
            sealed = self.box.seal(key, owner=caller.user_id, key_id=stored.id)
            tx.api_keys.save_sealed(stored.id, sealed, owner=caller.user_id)
            tx.audit.add(Act.API_KEY_ADDED, caller.user_id, caller.origin, now, chosen.name)
            if idempotency_key is not None:
                tx.idempotency.remember(caller.user_id, idempotency_key, mark, stored.id, now)
            return stored

        return await self.database.write(session_checked(caller, add))


def _chosen(providers: Sequence[Provider], wanted: int | str | None) -> Provider | None:
    if wanted is None:
        wanted = DEFAULT_PROVIDER
    elif isinstance(wanted, str) and wanted.strip().isdecimal() and len(wanted) < MAX_ID_DIGITS:
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
        return await self.database.read(session_checked(caller, lambda tx: stored_keys(tx, caller.user_id)))


def stored_keys(tx: Transaction, owner: int) -> list[StoredKey]:
    """The owner's keys, in the order of adding."""
    keys = tx.api_keys.of(owner)
    providers = {provider.id: provider for provider in tx.catalogue.providers()} if keys else {}
    return [StoredKey(key.nickname, providers[key.provider_id], key.created_at) for key in keys]


@dataclass(frozen=True, slots=True)
class RenameApiKey:
    """Give one of one's own keys another nickname; the same rules hold for it as for a first one."""

    database: Database
    clock: Clock

    async def __call__(self, caller: Caller, nickname: str, new_nickname: str) -> str:
        """Rename it and return the nickname it has now.

        Raises InvalidInput naming ``new_nickname``, or ApiKeyNotFound.
        """
        new = new_nickname.strip()
        refuse(FieldError("new_nickname", each.message) for each in key_problems("any", new))
        now = self.clock.now()

        def rename(tx: Transaction) -> None:
            tx.api_keys.rename(nickname.strip(), new, owner=caller.user_id)
            tx.audit.add(Act.API_KEY_RENAMED, caller.user_id, caller.origin, now)

        await self.database.write(session_checked(caller, rename))
        return new


@dataclass(frozen=True, slots=True)
class DeleteApiKey:
    """Delete one of one's own keys. Answers that are being given with it are stopped, and their text so far is kept."""

    database: Database
    answering: Answering
    clock: Clock

    async def __call__(self, caller: Caller, nickname: str) -> str:
        """Delete it and return its nickname, or raise ApiKeyNotFound."""
        name = nickname.strip()
        now = self.clock.now()

        def delete(tx: Transaction) -> list[int]:
            using = tx.api_keys.delete(name, owner=caller.user_id)
            tx.audit.add(Act.API_KEY_DELETED, caller.user_id, caller.origin, now)
            return using

        for answer_id in await self.database.write(
            session_checked(caller, delete)
        ):  # those in other processes see the mark with their next checkpoint
            self.answering.stop(answer_id)
        return name


@dataclass(frozen=True, slots=True)
class CheckedKey:
    """What the provider thinks of a key: ``valid`` is None where that can't be said, and ``reason`` says why."""

    nickname: str
    valid: bool | None
    reason: str


@dataclass(frozen=True, slots=True)
class CheckApiKey:
    """Ask the provider whether it takes one of one's own keys, without spending anything.

    ``valid`` is true, false, or null where that can't be found out now; ``reason`` says which it is and why.
    """

    database: Database
    box: SecretBox
    gateways: Gateways
    seconds: float

    async def __call__(self, caller: Caller, nickname: str) -> CheckedKey:
        """Ask and return what it says; raises ApiKeyNotFound or ApiKeyUnreadable."""

        def read(tx: Transaction) -> tuple[ApiKey, Provider]:
            stored = tx.api_keys.get(nickname.strip(), owner=caller.user_id)
            return stored, tx.catalogue.get(stored.provider_id)

        stored, provider = await self.database.read(session_checked(caller, read))
        key = self.box.open(stored.sealed, owner=caller.user_id, key_id=stored.id)
        gateway = self.gateways.get(provider.name)
        if gateway is None:
            return CheckedKey(stored.nickname, None, f"This server has no gateway to {provider.name} at the moment.")
        try:
            async with asyncio.timeout(self.seconds):
                known = await gateway.check_key(key=key)
        except KeyRefused:
            return CheckedKey(stored.nickname, valid=False, reason=f"{provider.name} refuses the key.")
        except TimeoutError:
            return CheckedKey(stored.nickname, None, f"{provider.name} did not answer in time.")
        except BaioError as error:
            return CheckedKey(stored.nickname, None, error.detail)
        if not known:
            return CheckedKey(stored.nickname, None, f"{provider.name} can only be asked by asking a model.")
        return CheckedKey(stored.nickname, valid=True, reason=f"{provider.name} accepts the key.")


@dataclass(frozen=True, slots=True)
class Rotated:
    """What became of what is kept encrypted: sealed anew, under the newest master key before, and not opened by any."""

    renewed: int
    current: int
    unreadable: int


@dataclass(frozen=True, slots=True)
class RotateKeys:
    """Encrypt all that is kept encrypted, API keys and seeds, under the newest master key.

    Servers may run meanwhile, and it may be run again.
    """

    database: Database
    box: SecretBox

    async def __call__(self) -> Rotated:
        """Do so page by page; a key that no master key opens stays as it is."""
        counts = {"renewed": 0, "current": 0, "unreadable": 0}
        last = 0
        while page := await self.database.read(lambda tx, last=last: tx.api_keys.after(last, PAGE)):  # type: ignore[misc]
            for stored in page:
                counts[await self._renew(stored)] += 1
            last = page[-1].id
        last = 0
        while some := await self.database.read(lambda tx, last=last: tx.second_factors.after(last, PAGE)):  # type: ignore[misc]
            for factor in some:
                counts[await self._renew_seed(factor)] += 1
            last = some[-1].user_id
        return Rotated(**counts)

    async def _renew(self, stored: ApiKey) -> str:
        found, sealed = self._sealed_anew(stored.sealed, stored.user_id, stored.id, "api key")
        if sealed is not None:
            with contextlib.suppress(ApiKeyNotFound):  # deleted meanwhile
                await self.database.write(lambda tx: tx.api_keys.save_sealed(stored.id, sealed, owner=stored.user_id))
        return found

    async def _renew_seed(self, factor: SecondFactor) -> str:
        found, sealed = self._sealed_anew(factor.sealed, factor.user_id, factor.user_id, "two-factor seed")
        if sealed is not None:
            await self.database.write(lambda tx: tx.second_factors.save_sealed(factor, sealed))
        return found

    def _sealed_anew(self, sealed: bytes, owner: int, key_id: int, what: SecretKind) -> tuple[str, bytes | None]:
        if self.box.is_current(sealed):
            return "current", None
        try:
            secret = self.box.open(sealed, owner=owner, key_id=key_id, what=what)
        except ApiKeyUnreadable:
            return "unreadable", None
        return "renewed", self.box.seal(secret, owner=owner, key_id=key_id, what=what)


@dataclass(frozen=True, slots=True)
class GetProviders:
    """List all providers with the models that can be asked."""

    database: Database

    async def __call__(self, caller: Caller) -> list[Provider]:
        """Return them by id."""
        return await self.database.read(session_checked(caller, lambda tx: tx.catalogue.providers()))


@dataclass(frozen=True, slots=True)
class LoadCatalogue:
    """Bring the stored providers and models in line with the installed gateways.

    - Ids are given once and kept for ever.
    - A model that no gateway names any more is retired, not deleted; one that comes back has its old id.
    - Of an open-ended provider only those models are known that it has listed itself; they stay until it lists others.
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
                if not spec.open_ended:
                    changes += _load_models(tx, provider, spec.models)
            for provider in stored.values():
                changes += _load_models(tx, provider, ())
            return changes

        return await self.database.write(load)


async def listed_models(gateways: Gateways, keys: Mapping[str, str]) -> tuple[list[ProviderSpec], list[str]]:
    """The providers with the models that they list now, and remarks for people on those that could not be asked.

    Of an open-ended provider that answers, what it lists is what there is. Where a gateway brings the models itself, a
    remark says which of them the provider does not list. ``keys`` are by the provider's name, in any spelling.
    """
    by_name = {folded(name): key for name, key in keys.items()}
    specs, remarks = (
        [],
        [f"{name}: there is no such provider" for name in keys if folded(name) not in map(folded, gateways)],
    )
    for name, gateway in gateways.items():
        specs.append(gateway.provider)
        key = by_name.get(folded(name))
        if key is None and not gateway.provider.open_ended:
            continue
        try:
            listed = await gateway.list_models(key=key or "none")
        except BaioError as error:
            remarks.append(f"{name} could not be asked for its models: {error.detail}")
            continue
        if listed is None:
            remarks.append(f"{name} can't be asked for its models")
        elif gateway.provider.open_ended:
            specs[-1] = ProviderSpec(name, tuple(listed))
        else:
            there = {each.identifier for each in listed}
            gone = [model for model in gateway.provider.models if model.identifier not in there]
            remarks += [f"{name} does not list {model.identifier}: asking it may be refused" for model in gone]
    return specs, remarks


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
