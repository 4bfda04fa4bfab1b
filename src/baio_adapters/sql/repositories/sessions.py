"""Sessions."""

import json
from collections.abc import Collection
from datetime import datetime
from typing import final

from sqlalchemy import bindparam, delete, exists, select, update

from baio_adapters.sql.repositories.repository import ID, OWNER, Repository, id_in_json, insert_for_owner
from baio_adapters.sql.tables import sessions, users
from baio_domain.entities import Session
from baio_domain.errors import AccountNotFound
from baio_domain.ports import Sessions

_BY_ID_AND_OWNER = (sessions.c.id == ID, sessions.c.user_id == OWNER)
_ACTIVE_SESSION = select(sessions.c.id).join(users).where(*_BY_ID_AND_OWNER, users.c.disabled_at.is_(None))
_OPEN_SESSION = insert_for_owner(sessions, "created_at", "last_used_at", "user_agent")
_USE_SESSION = (
    update(sessions)
    .where(
        *_BY_ID_AND_OWNER,
        sessions.c.last_used_at >= bindparam("used_since"),
        sessions.c.created_at >= bindparam("opened_since"),
        exists().where(users.c.id == sessions.c.user_id, users.c.disabled_at.is_(None)),
    )
    .values(last_used_at=bindparam("now"))
    .returning(*sessions.c)
)
_SESSIONS = select(sessions).where(sessions.c.user_id == OWNER).order_by(sessions.c.id.desc())
_END_SESSION = delete(sessions).where(*_BY_ID_AND_OWNER)
_END_SESSIONS = delete(sessions).where(sessions.c.user_id == OWNER, sessions.c.id != bindparam("except_id"))
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
    dialect: select(sessions.c.id).join(users).where(listed, users.c.disabled_at.is_(None))
    for dialect, listed in id_in_json(sessions).items()
}
_DELETE_EXPIRED_SESSIONS = delete(sessions).where(
    (sessions.c.last_used_at < bindparam("used_before")) | (sessions.c.created_at < bindparam("opened_before"))
)


@final
class SqlSessions(Repository, Sessions):
    """Sessions in ``sessions``."""

    def open(self, owner: int, user_agent: str, now: datetime) -> Session:
        """Insert, if the user exists."""
        values = {"owner": owner, "created_at": now, "last_used_at": now, "user_agent": user_agent}
        session_id = self._connection.execute(_OPEN_SESSION, values).scalar()
        if session_id is None:
            raise AccountNotFound
        return Session(session_id, owner, now, now, user_agent)

    def is_active(self, session_id: int, *, owner: int) -> bool:
        """Read by id and owner, joined with the account."""
        return self._connection.execute(_ACTIVE_SESSION, {"id_": session_id, "owner": owner}).first() is not None

    def use(
        self, session_id: int, now: datetime, *, owner: int, used_since: datetime, opened_since: datetime
    ) -> Session | None:
        """Update by id and owner, unless it has expired."""
        values = {
            "id_": session_id, "owner": owner, "now": now, "used_since": used_since, "opened_since": opened_since,
        }  # fmt: skip
        row = self._connection.execute(_USE_SESSION, values).first()
        return None if row is None else Session(*row)

    def of(self, owner: int) -> list[Session]:
        """Read in descending order of ids."""
        return [Session(*row) for row in self._connection.execute(_SESSIONS, {"owner": owner}).fetchall()]

    def end(self, session_id: int, *, owner: int) -> bool:
        """Delete by id and owner."""
        return bool(self._connection.execute(_END_SESSION, {"id_": session_id, "owner": owner}).rowcount)

    def end_all(self, owner: int, *, except_id: int | None = None) -> None:
        """Delete by owner."""
        self._connection.execute(_END_SESSIONS, {"owner": owner, "except_id": except_id or 0})

    def end_oldest(self, owner: int, *, keep: int) -> None:
        """Delete those with a smaller id than the oldest that is kept."""
        self._connection.execute(_END_OLDEST, {"owner": owner, "others": keep - 1})

    def active(self, session_ids: Collection[int]) -> frozenset[int]:
        """Read all by id, joined with the accounts."""
        statement = _ACTIVE_SESSIONS[self._connection.dialect.name]
        return frozenset(self._connection.execute(statement, {"ids": json.dumps(list(session_ids))}).scalars().all())

    def forget(self, *, used_before: datetime, opened_before: datetime) -> None:
        """Delete by the indexes on both times."""
        self._connection.execute(_DELETE_EXPIRED_SESSIONS, {"used_before": used_before, "opened_before": opened_before})
