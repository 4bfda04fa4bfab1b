"""Sessions."""

import json
from collections.abc import Collection
from datetime import datetime
from typing import final

from sqlalchemy import bindparam, case, delete, exists, select, update

from baio_adapters.sql.repositories.repository import OWNER, Repository, delete_before, in_json, insert_for_owner
from baio_adapters.sql.tables import sessions, users
from baio_domain.entities import Session, new_token_id
from baio_domain.errors import AccountNotFound
from baio_domain.ports import Sessions

_BY_TOKEN_ID_AND_OWNER = (sessions.c.token_id == bindparam("token"), sessions.c.user_id == OWNER)
_ACTIVE_SESSION = select(sessions.c.id).join(users).where(*_BY_TOKEN_ID_AND_OWNER, users.c.disabled_at.is_(None))
_OPEN_SESSION = insert_for_owner(sessions, "created_at", "last_used_at", "user_agent", "token_id")
_NOW = bindparam("now", type_=sessions.c.created_at.type)
_USE_SESSION = (
    update(sessions)
    .where(
        *_BY_TOKEN_ID_AND_OWNER,
        sessions.c.last_used_at >= bindparam("used_since"),
        sessions.c.created_at >= bindparam("opened_since"),
        exists().where(users.c.id == sessions.c.user_id, users.c.disabled_at.is_(None)),
    )
    .values(
        last_used_at=_NOW,
        created_at=case((sessions.c.created_at > _NOW, _NOW), else_=sessions.c.created_at),
    )
    .returning(*sessions.c)
)
_SESSIONS = select(sessions).where(sessions.c.user_id == OWNER).order_by(sessions.c.id.desc())
_END_SESSION = delete(sessions).where(*_BY_TOKEN_ID_AND_OWNER)
_END_SESSIONS = delete(sessions).where(sessions.c.user_id == OWNER, sessions.c.token_id != bindparam("except_token_id"))
_OLDEST_KEPT = (
    select(sessions.c.id)
    .where(sessions.c.user_id == OWNER)
    .order_by(sessions.c.id.desc())
    .limit(1)
    .offset(bindparam("others"))
    .scalar_subquery()
)
_END_OLDEST = delete(sessions).where(sessions.c.user_id == OWNER, sessions.c.id < _OLDEST_KEPT)
_ACTIVE_SESSIONS = {
    dialect: select(sessions.c.token_id).join(users).where(listed, users.c.disabled_at.is_(None))
    for dialect, listed in in_json(sessions.c.token_id, "TEXT").items()
}
_DELETE_UNUSED_SESSIONS = delete_before(sessions.c.last_used_at, "used_before")
_DELETE_OLD_SESSIONS = delete_before(sessions.c.created_at, "opened_before")


@final
class SqlSessions(Repository, Sessions):
    """Sessions in ``sessions``."""

    def open(self, owner: int, user_agent: str, now: datetime) -> Session:
        """Insert, if the user exists."""
        token_id = new_token_id()
        values = {
            "owner": owner, "created_at": now, "last_used_at": now, "user_agent": user_agent, "token_id": token_id,
        }  # fmt: skip
        session_id = self._connection.execute(_OPEN_SESSION, values).scalar()
        if session_id is None:
            raise AccountNotFound
        return Session(session_id, owner, now, now, user_agent, token_id)

    def is_active(self, token_id: str, *, owner: int) -> bool:
        """Read by token id and owner, joined with the account."""
        return self._connection.execute(_ACTIVE_SESSION, {"token": token_id, "owner": owner}).first() is not None

    def use(
        self, token_id: str, now: datetime, *, owner: int, used_since: datetime, opened_since: datetime
    ) -> Session | None:
        """Update by token id and owner, unless it has expired."""
        values = {
            "token": token_id, "owner": owner, "now": now, "used_since": used_since, "opened_since": opened_since,
        }  # fmt: skip
        row = self._connection.execute(_USE_SESSION, values).first()
        return None if row is None else Session(*row)

    def of(self, owner: int) -> list[Session]:
        """Read in descending order of ids."""
        return [Session(*row) for row in self._connection.execute(_SESSIONS, {"owner": owner}).fetchall()]

    def end(self, token_id: str, *, owner: int) -> bool:
        """Delete by token id and owner."""
        return bool(self._connection.execute(_END_SESSION, {"token": token_id, "owner": owner}).rowcount)

    def end_all(self, owner: int, *, except_token_id: str | None = None) -> None:
        """Delete by owner."""
        self._connection.execute(_END_SESSIONS, {"owner": owner, "except_token_id": except_token_id or ""})

    def end_oldest(self, owner: int, *, keep: int) -> None:
        """Delete those with a smaller id than the oldest that is kept."""
        self._connection.execute(_END_OLDEST, {"owner": owner, "others": keep - 1})

    def active(self, token_ids: Collection[str]) -> frozenset[str]:
        """Read all by token id, joined with the accounts."""
        statement = _ACTIVE_SESSIONS[self._connection.dialect.name]
        return frozenset(self._connection.execute(statement, {"listed": json.dumps(list(token_ids))}).scalars().all())

    def forget(self, *, used_before: datetime, opened_before: datetime) -> None:
        """Delete by the indexes on both times."""
        self._connection.execute(_DELETE_UNUSED_SESSIONS, {"used_before": used_before})
        self._connection.execute(_DELETE_OLD_SESSIONS, {"opened_before": opened_before})
