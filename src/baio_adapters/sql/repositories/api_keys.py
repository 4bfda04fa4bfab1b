"""Stored API keys."""

from datetime import datetime
from typing import final

from sqlalchemy import bindparam, delete, select, update

from baio_adapters.sql.repositories.answers import IS_RUNNING
from baio_adapters.sql.repositories.catalogue import SqlCatalogue
from baio_adapters.sql.repositories.repository import ID, OWNER, Repository, begin_deletion, insert_for_owner
from baio_adapters.sql.tables import answers, api_keys, models, providers
from baio_domain.entities import ApiKey, Model, Provider
from baio_domain.errors import AccountNotFound, ApiKeyNotFound, InvalidInput, nickname_taken
from baio_domain.ports import ApiKeys

_ADD_KEY = insert_for_owner(api_keys, "provider_id", "nickname", "sealed", "created_at")
_SAVE_SEALED = update(api_keys).where(api_keys.c.id == ID, api_keys.c.user_id == OWNER).values(sealed=bindparam("new"))
_BY_NICKNAME = (api_keys.c.user_id == OWNER, api_keys.c.nickname == bindparam("name"))
_KEY_COLUMNS = len(api_keys.c)
_KEY = select(api_keys).where(*_BY_NICKNAME)
_WITH_PROVIDER = (
    select(
        *api_keys.c,
        select(providers.c.name).where(providers.c.id == api_keys.c.provider_id).scalar_subquery(),
        *models.c,
    )
    .outerjoin_from(
        api_keys,
        models,
        (models.c.provider_id == api_keys.c.provider_id)
        & (models.c.identifier == bindparam("model"))
        & ~models.c.retired,
    )
    .where(*_BY_NICKNAME)
)
_KEYS = select(api_keys).where(api_keys.c.user_id == OWNER).order_by(api_keys.c.id)
_RENAME_KEY = update(api_keys).where(*_BY_NICKNAME).values(nickname=bindparam("new"))
_DELETE_KEY = delete(api_keys).where(*_BY_NICKNAME).returning(api_keys.c.id)
_STOP_ANSWERS_USING_KEY = (
    update(answers)
    .where(answers.c.api_key_id.in_(select(api_keys.c.id).where(*_BY_NICKNAME)), IS_RUNNING)
    .values(stopping=True)
    .returning(answers.c.id)
)
# Keys of accounts that are being deleted are empty.
_KEYS_AFTER = (
    select(api_keys)
    .where(api_keys.c.id > ID, api_keys.c.sealed != b"")
    .order_by(api_keys.c.id)
    .limit(bindparam("limit"))
)


@final
class SqlApiKeys(Repository, ApiKeys):
    """Stored keys in ``api_keys``."""

    def add(self, owner: int, provider_id: int, nickname: str, now: datetime) -> ApiKey:
        """Insert, if the user exists. A nickname that is taken breaks a unique constraint."""
        values = {
            "owner": owner, "provider_id": provider_id, "nickname": nickname, "sealed": b"", "created_at": now
        }  # fmt: skip
        key_id = self._connection.execute(_ADD_KEY, values).scalar()
        if key_id is None:
            raise AccountNotFound
        return ApiKey(key_id, owner, provider_id, nickname, b"", now)

    def save_sealed(self, key_id: int, sealed: bytes, *, owner: int) -> None:
        """Update by id and owner."""
        if not self._connection.execute(_SAVE_SEALED, {"id_": key_id, "owner": owner, "new": sealed}).rowcount:
            raise ApiKeyNotFound

    def get(self, nickname: str, *, owner: int) -> ApiKey:
        """Read by owner and nickname."""
        row = self._connection.execute(_KEY, {"owner": owner, "name": nickname}).first()
        if row is None:
            raise ApiKeyNotFound
        return ApiKey(*row)

    def with_provider(self, nickname: str, model: str, *, owner: int) -> tuple[ApiKey, Provider]:
        """Read all in one statement, if the model has exactly this identifier."""
        values = {"owner": owner, "name": nickname, "model": model}
        row = self._connection.execute(_WITH_PROVIDER, values).first()
        if row is None:
            raise ApiKeyNotFound
        key = ApiKey(*row[:_KEY_COLUMNS])
        name, *wanted = row[_KEY_COLUMNS:]
        if wanted[0] is None:
            return key, SqlCatalogue(self._connection).get(key.provider_id)
        return key, Provider(key.provider_id, name, (Model(*wanted),))

    def of(self, owner: int) -> list[ApiKey]:
        """Read in the order of ids."""
        return [ApiKey(*row) for row in self._connection.execute(_KEYS, {"owner": owner}).fetchall()]

    def rename(self, nickname: str, new: str, *, owner: int) -> None:
        """Check that the new nickname is free, then update by owner and nickname."""
        if new != nickname and self._connection.execute(_KEY, {"owner": owner, "name": new}).first() is not None:
            self.get(nickname, owner=owner)
            raise InvalidInput.of(nickname_taken("new_nickname"))
        if not self._connection.execute(_RENAME_KEY, {"owner": owner, "name": nickname, "new": new}).rowcount:
            raise ApiKeyNotFound

    def delete(self, nickname: str, *, owner: int) -> list[int]:
        """Mark the answers that use it, then delete by owner and nickname."""
        begin_deletion(self._connection)
        values = {"owner": owner, "name": nickname}
        using = self._connection.execute(_STOP_ANSWERS_USING_KEY, values).scalars().all()
        if self._connection.execute(_DELETE_KEY, values).scalar() is None:
            raise ApiKeyNotFound
        return sorted(using)

    def after(self, key_id: int, limit: int) -> list[ApiKey]:
        """Read in the order of ids."""
        rows = self._connection.execute(_KEYS_AFTER, {"id_": key_id, "limit": limit}).fetchall()
        return [ApiKey(*row) for row in rows]
