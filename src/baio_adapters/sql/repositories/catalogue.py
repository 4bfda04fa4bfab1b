"""Providers and their models."""

from collections.abc import Iterable, Sequence
from typing import Any, final

from sqlalchemy import Table, func, insert, select, update

from baio_adapters.sql.repositories.repository import ID, Repository
from baio_adapters.sql.tables import models, providers
from baio_domain.entities import Model, ModelSpec, Provider
from baio_domain.ports import Catalogue

_WITHOUT_RETIRED = providers.outerjoin(models, (models.c.provider_id == providers.c.id) & ~models.c.retired)
_WITH_RETIRED = providers.outerjoin(models)
_CATALOGUE = {
    retired: select(providers, models).select_from(source).order_by(providers.c.id, models.c.id)
    for retired, source in ((False, _WITHOUT_RETIRED), (True, _WITH_RETIRED))
}
_PROVIDER = _CATALOGUE[True].where(providers.c.id == ID)


@final
class SqlCatalogue(Repository, Catalogue):
    """Providers and models in ``providers`` and ``models``. Ids are assigned here: every database has the same."""

    def providers(self, *, retired: bool = False) -> list[Provider]:
        """Read all in one statement."""
        return _providers(self._connection.execute(_CATALOGUE[retired]).fetchall())

    def get(self, provider_id: int) -> Provider:
        """Read it with its models in one statement."""
        return _providers(self._connection.execute(_PROVIDER, {"id_": provider_id}).fetchall())[0]

    def add_provider(self, name: str) -> Provider:
        """Insert with the next id."""
        provider = Provider(self._next_id(providers), name, ())
        self._connection.execute(insert(providers), {"id": provider.id, "name": name})
        return provider

    def add_model(self, provider_id: int, spec: ModelSpec) -> Model:
        """Insert with the next id."""
        model = Model.of(self._next_id(models), provider_id, spec)
        self._connection.execute(insert(models), _row(model))
        return model

    def save_model(self, model: Model) -> None:
        """Update by id."""
        self._connection.execute(update(models).where(models.c.id == model.id), _row(model))

    def _next_id(self, table: Table) -> int:
        return (self._connection.execute(select(func.max(table.c.id))).scalar() or 0) + 1


def _row(model: Model) -> dict[str, object]:
    return {column.key: getattr(model, column.key) for column in models.c}


def _providers(rows: Iterable[Sequence[Any]]) -> list[Provider]:
    found: dict[int, tuple[str, list[Model]]] = {}
    for provider_id, name, *model in rows:
        its_models = found.setdefault(provider_id, (name, []))[1]
        if model[0] is not None:
            its_models.append(Model(*model))
    return [Provider(provider_id, name, tuple(its_models)) for provider_id, (name, its_models) in found.items()]
