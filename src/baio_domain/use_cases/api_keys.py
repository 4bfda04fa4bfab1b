"""Users' API keys: store, list, rename and delete them, and check one with its provider."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from baio_domain.answering import Answering
from baio_domain.entities import Act, ApiKey, Caller, Provider, key_problems, refuse
from baio_domain.errors import BaioError, FieldError, KeyRefused
from baio_domain.idempotency import IdempotentRequest, idempotency_problems
from baio_domain.ports import Clock, Database, Gateways, SecretBox, Transaction
from baio_domain.quotas import AtOnce, Quotas
from baio_domain.session_check import session_checked
from baio_domain.text import folded

DEFAULT_PROVIDER = 1
"""The id of the provider of a key that names none: OpenAI."""

MAX_ID_DIGITS = 18
"""Digits that every id fits into."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A stored key as its owner may see it: everything except the key."""

    nickname: str
    provider: Provider
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AddApiKey:
    """Store an API key, encrypted, for the caller only.

    - The provider is given by id, or by name in any case; the default is OpenAI.
    - Key and nickname are trimmed and must not be blank. The nickname has at most 255 characters and is unique among
      the user's own. The key has at most 4,096 characters, printable ASCII without spaces.
    - A key is never shown again.
    - The same idempotency key with the same request, within 24 hours, stores nothing again and gives the same
      response; with another request it is refused.
    - The number of a user's keys is limited.
    """

    database: Database
    box: SecretBox
    clock: Clock
    quotas: Quotas

    async def __call__(
        self,
        caller: Caller,
        *,
        key: str,
        nickname: str,
        provider: int | str | None,
        idempotency_key: str | None = None,
    ) -> ApiKey:
        """Store it and return its record.

        Raises InvalidInput naming every bad field, IdempotencyKeyReused or TooManyApiKeys.
        """
        problems = [*key_problems(key, nickname), *idempotency_problems(idempotency_key)]
        fingerprint = self.box.fingerprint("addAPIKey", key, nickname, str(provider))
        key, nickname = key.strip(), nickname.strip()
        owner, now = caller.user_id, self.clock.now()
        request = IdempotentRequest(owner, idempotency_key, fingerprint, now)

        def add(tx: Transaction) -> ApiKey:
            before = request.find(tx)
            if before is not None:
                return ApiKey(before.result_id, owner, 0, nickname, b"", before.created_at)
            chosen = _named(tx.catalogue.providers(), provider)
            unknown = [] if chosen else [FieldError("provider", "is not a provider known here")]
            refuse([*problems, *unknown])
            assert chosen is not None  # noqa: S101 - refused just above; this tells the type checker
            self.quotas.check_api_keys(tx, owner)
            stored = tx.api_keys.add(owner, chosen.id, nickname, now)
            sealed = self.box.seal(key, kind="api key", owner=owner, row_id=stored.id)
            tx.api_keys.save_sealed(stored.id, sealed, owner=owner)
            tx.audit.add(Act.API_KEY_ADDED, owner, caller.origin, now, chosen.name)
            request.record(tx, stored.id)
            return stored

        return await self.database.write(session_checked(caller, add))


def _named(providers: Sequence[Provider], wanted: int | str | None) -> Provider | None:
    """The provider with this id or name."""
    if wanted is None:
        wanted = DEFAULT_PROVIDER
    elif isinstance(wanted, str) and len(wanted) <= MAX_ID_DIGITS and wanted.strip().isdecimal():
        wanted = int(wanted)
    for provider in providers:
        if wanted == provider.id or (isinstance(wanted, str) and folded(wanted.strip()) == folded(provider.name)):
            return provider
    return None


@dataclass(frozen=True, slots=True)
class GetApiKeys:
    """List one's own keys by nickname, each with its provider and the provider's models, in the order of adding."""

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
    """Give one of one's own keys another nickname, under the same rules as a new one."""

    database: Database
    clock: Clock

    async def __call__(self, caller: Caller, nickname: str, new_nickname: str) -> str:
        """Rename it and return its new nickname. Raises InvalidInput naming ``new_nickname``, or ApiKeyNotFound."""
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
    """Delete one of one's own keys. Running answers that use it are stopped and keep their text so far."""

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

        # Answers in other processes see the stop mark with their next checkpoint.
        for answer_id in await self.database.write(session_checked(caller, delete)):
            self.answering.stop(answer_id)
        return name


@dataclass(frozen=True, slots=True)
class CheckedKey:
    """The provider's verdict on a key: ``valid`` is None if BAiO can't find out, and ``reason`` says why."""

    nickname: str
    valid: bool | None
    reason: str


@dataclass(frozen=True, slots=True)
class CheckApiKey:
    """Ask the provider whether it accepts one of one's own keys, without spending anything.

    - ``valid`` is true, false, or null if BAiO can't find out now; ``reason`` says why.
    - The number of keys that a user tests at once is limited.
    """

    database: Database
    box: SecretBox
    gateways: Gateways
    timeout_seconds: float
    at_once: AtOnce

    async def __call__(self, caller: Caller, nickname: str) -> CheckedKey:
        """Ask, and return the result. Raises ApiKeyNotFound, ApiKeyUnreadable or TooManyKeyTests."""
        with self.at_once.one(caller.user_id):
            return await self._check(caller, nickname)

    async def _check(self, caller: Caller, nickname: str) -> CheckedKey:

        def read(tx: Transaction) -> tuple[ApiKey, Provider]:
            stored = tx.api_keys.get(nickname.strip(), owner=caller.user_id)
            return stored, tx.catalogue.get(stored.provider_id)

        stored, provider = await self.database.read(session_checked(caller, read))
        key = self.box.open(stored.sealed, kind="api key", owner=caller.user_id, row_id=stored.id)
        gateway = self.gateways.get(provider.name)
        if gateway is None:
            return CheckedKey(stored.nickname, None, f"This server has no gateway to {provider.name} at the moment.")
        try:
            async with asyncio.timeout(self.timeout_seconds):
                checked = await gateway.check_key(key=key)
        except KeyRefused:
            return CheckedKey(stored.nickname, valid=False, reason=f"{provider.name} refuses the key.")
        except TimeoutError:
            return CheckedKey(stored.nickname, None, f"{provider.name} did not answer in time.")
        except BaioError as error:
            return CheckedKey(stored.nickname, None, error.detail)
        if not checked:
            return CheckedKey(stored.nickname, None, f"{provider.name} checks a key only when it answers a question.")
        return CheckedKey(stored.nickname, valid=True, reason=f"{provider.name} accepts the key.")
