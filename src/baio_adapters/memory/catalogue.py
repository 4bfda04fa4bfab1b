"""Providers and their models."""

from typing import final

from baio_adapters.memory.repository import Repository
from baio_domain.entities import Model, ModelSpec, Provider
from baio_domain.ports import Catalogue


@final
class MemoryCatalogue(Repository, Catalogue):
    """Providers and models in ``Tables.providers`` and ``Tables.models``."""

    def providers(self, *, retired: bool = False) -> list[Provider]:
        return [self._provider(provider_id, retired=retired) for provider_id in self._tables.providers]

    def get(self, provider_id: int) -> Provider:
        return self._provider(provider_id, retired=True)

    def add_provider(self, name: str) -> Provider:
        provider = Provider(self._tables.next_id("providers"), name, ())
        self._tables.providers[provider.id] = name
        return provider

    def add_model(self, provider_id: int, spec: ModelSpec) -> Model:
        model = Model.of(self._tables.next_id("models"), provider_id, spec)
        self._tables.models[model.id] = model
        return model

    def save_model(self, model: Model) -> None:
        self._tables.models[model.id] = model

    def _provider(self, provider_id: int, *, retired: bool) -> Provider:
        models = (
            model
            for model in self._tables.models.values()
            if model.provider_id == provider_id and (retired or not model.retired)
        )
        return Provider(provider_id, self._tables.providers[provider_id], tuple(models))
