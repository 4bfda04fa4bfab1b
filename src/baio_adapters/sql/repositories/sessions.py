"""Sessions."""

from datetime import datetime
from typing import final

from sqlalchemy import bindparam, delete, exists, insert, select, update

from baio_adapters.sql.repositories.repository import ID, OWNER, Repository
from baio_adapters.sql.tables import sessions, users
from baio_domain.entities import Session
from baio_domain.errors import NotAuthenticated
from baio_domain.ports import Sessions

_SESSION_STANDS = (sessions.c.id == ID, sessions.c.user_id == OWNER)
_REQUIRE_SESSION = select(sessions.c.id).join(users).where(*_SESSION_STANDS, users.c.disabled_at.is_(None))
_OPEN_SESSION = (
    insert(sessions)
    .from_select(
        ["user_id", "created_at", "last_used_at", "user_agent"],
        select(
            users.c.id,
            bindparam("now", type_=sessions.c.created_at.type),
            bindparam("now", type_=sessions.c.created_at.type),
            bindparam("agent", type_=sessions.c.user_agent.type),
        ).where(users.c.id == OWNER),
    )
    .returning(sessions.c.id)
)
_USE_SESSION = (
    update(sessions)
    .where(
        *_SESSION_STANDS,
        sessions.c.last_used_at >= bindparam("used_since"),
        sessions.c.created_at >= bindparam("opened_since"),
        exists().where(users.c.id == sessions.c.user_id, users.c.disabled_at.is_(None)),
    )
    .values(last_used_at=bindparam("now"))
    .returning(*sessions.c)
)
_SESSIONS = select(sessions).where(sessions.c.user_id == OWNER).order_by(sessions.c.id.desc())
_END_SESSION = delete(sessions).where(*_SESSION_STANDS)
_END_SESSIONS = delete(sessions).where(sessions.c.user_id == OWNER, sessions.c.id != bindparam("but"))
_FORGET_SESSIONS = delete(sessions).where(
    (sessions.c.last_used_at < bindparam("used_before")) | (sessions.c.created_at < bindparam("opened_before"))
)


@final
class SqlSessions(Repository, Sessions):
    """Sessions in ``sessions``."""

    def open(self, owner: int, user_agent: str, now: datetime) -> Session:
        """Insert on behalf of an existing user."""
        values = {"owner": owner, "agent": user_agent, "now": now}
        session_id = self._connection.execute(_OPEN_SESSION, values).scalar()
        if session_id is None:
            raise NotAuthenticated("The account does not exist any more.")
        return Session(session_id, owner, now, now, user_agent)

    def require(self, session_id: int, *, owner: int) -> None:
        """Look for it by its id."""
        if self._connection.execute(_REQUIRE_SESSION, {"the_id": session_id, "owner": owner}).first() is None:
            raise _session_is_over()

    def use(
        self, session_id: int, now: datetime, *, owner: int, used_since: datetime, opened_since: datetime
    ) -> Session:
        """Update it where its time is not over."""
        values = {
            "the_id": session_id, "owner": owner, "now": now, "used_since": used_since, "opened_since": opened_since,
        }  # fmt: skip
        row = self._connection.execute(_USE_SESSION, values).first()
        if row is None:
            raise _session_is_over()
        return Session(*row)

    def of(self, owner: int) -> list[Session]:
        """Read by the index over an owner's."""
        return [Session(*row) for row in self._connection.execute(_SESSIONS, {"owner": owner}).fetchall()]

    def end(self, session_id: int, *, owner: int) -> bool:
        """Delete by id and owner."""
        return bool(self._connection.execute(_END_SESSION, {"the_id": session_id, "owner": owner}).rowcount)

    def end_all(self, owner: int, *, but: int | None = None) -> None:
        """Delete by owner."""
        self._connection.execute(_END_SESSIONS, {"owner": owner, "but": but or 0})

    def forget(self, *, used_before: datetime, opened_before: datetime) -> None:
        """Delete by the indexes over times."""
        self._connection.execute(_FORGET_SESSIONS, {"used_before": used_before, "opened_before": opened_before})


def _session_is_over() -> NotAuthenticated:
    return NotAuthenticated("The session is over. Sign in again.")
