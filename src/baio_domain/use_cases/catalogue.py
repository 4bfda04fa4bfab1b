"""The catalogue: the providers and their models."""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from baio_domain.entities import Caller, Model, ModelSpec, Provider, ProviderSpec, model_spec_problems
from baio_domain.errors import BaioError
from baio_domain.ports import Database, Gateways, Transaction
from baio_domain.session_check import session_checked
from baio_domain.text import folded

logger = logging.getLogger("baio.providers")

LIST_TIMEOUT_SECONDS = 60.0
"""How long one provider may take to list its models."""


@dataclass(frozen=True, slots=True)
class GetProviders:
    """List all providers with the models that they offer now."""

    database: Database

    async def __call__(self, caller: Caller) -> list[Provider]:
        """Return them by id."""
        return await self.database.read(session_checked(caller, lambda tx: tx.catalogue.providers()))


@dataclass(frozen=True, slots=True)
class ListedModels:
    """The providers with the models that they list now, and remarks about those that could not be asked."""

    specs: list[ProviderSpec]
    remarks: list[str]


@dataclass(frozen=True, slots=True)
class ListModels:
    """Ask the providers for their current models.

    - An open-ended provider that responds has the models that it lists.
    - If a gateway defines the models itself, a remark names those that the provider does not list.
    - A provider that fails or takes too long does not affect other providers, and a model that can't be offered does
      not affect other models. A remark names each of them.
    """

    gateways: Gateways

    async def __call__(self, keys: Mapping[str, str]) -> ListedModels:
        """Ask, with ``keys`` by the provider's name in any case; no error of a provider's is raised."""
        by_name = {folded(name): key for name, key in keys.items()}
        known = {folded(name) for name in self.gateways}
        listed = ListedModels([], [f"{name}: there is no such provider" for name in keys if folded(name) not in known])
        for name, gateway in self.gateways.items():
            spec, key = gateway.provider, by_name.get(folded(name))
            if key is not None or spec.open_ended:
                try:
                    async with asyncio.timeout(LIST_TIMEOUT_SECONDS):
                        models = await gateway.list_models(key=key or "none")
                except TimeoutError:
                    listed.remarks.append(f"{name} could not be asked for its models: it took too long")
                except BaioError as error:
                    listed.remarks.append(f"{name} could not be asked for its models: {error.detail}")
                except Exception:
                    # A gateway broke its contract, which must not cost the other providers their models.
                    logger.exception("gateway failed", extra={"provider": name})
                    listed.remarks.append(f"{name} could not be asked for its models: its gateway failed")
                else:
                    if models is not None:
                        models, skipped = _offered(models)
                        if skipped:
                            listed.remarks.append(f"{name} lists models that are skipped: {'; '.join(skipped)}")
                    listed.remarks.extend(_remarks(spec, models))
                    if models is not None and spec.open_ended:
                        spec = ProviderSpec(name, tuple(models))
            listed.specs.append(spec)
        return listed


def _offered(models: Sequence[ModelSpec]) -> tuple[list[ModelSpec], list[str]]:
    """The models that can be offered, and why the others can't."""
    offered: dict[str, ModelSpec] = {}
    remarks: list[str] = []
    for number, model in enumerate(models, 1):
        if problems := list(model_spec_problems(model)):
            remarks.append(f"number {number}: {problems[0]}")
        elif model.identifier in offered:
            remarks.append(f"number {number}: {model.identifier} is listed twice")
        else:
            offered[model.identifier] = model
    return list(offered.values()), remarks


def _remarks(spec: ProviderSpec, listed: list[ModelSpec] | None) -> Iterator[str]:
    if listed is None:
        yield f"{spec.name} can't be asked for its models"
    elif not spec.open_ended:
        identifiers = {model.identifier for model in listed}
        for model in spec.models:
            if model.identifier not in identifiers:
                yield f"{spec.name} does not list {model.identifier}: it may refuse questions to it"


@dataclass(frozen=True, slots=True)
class LoadCatalogue:
    """Bring the stored providers and models in line with the installed gateways.

    - Ids are given once and kept for good.
    - A model that no gateway names any more is retired, not deleted; one that comes back has its old id.
    - An open-ended provider has only the models that it has listed itself; they stay until it lists others.
    """

    database: Database

    async def __call__(self, specs: Sequence[ProviderSpec]) -> list[str]:
        """Load them and return a line of text for each change; none the second time."""

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
