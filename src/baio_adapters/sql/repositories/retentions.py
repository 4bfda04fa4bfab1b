"""How long conversations are kept."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, final

from sqlalchemy import ColumnElement, bindparam, exists, func, select, update

from baio_adapters.sql.repositories.answers import IS_RUNNING
from baio_adapters.sql.repositories.conversations import delete_conversation
from baio_adapters.sql.repositories.repository import ID, OWNER, Repository, begin_deletion
from baio_adapters.sql.tables import answers, conversations
from baio_domain.entities import TEMPORARY, Retention, RetentionPolicy
from baio_domain.errors import ConversationNotFound
from baio_domain.ports import Retentions

_BY_ID_AND_OWNER = (conversations.c.id == ID, conversations.c.user_id == OWNER)
_RETENTION = select(
    func.coalesce(conversations.c.updated_at, conversations.c.created_at),
    conversations.c.kept,
    conversations.c.temporary,
    conversations.c.imported_at,
).where(*_BY_ID_AND_OWNER)
_KEEP = update(conversations).where(*_BY_ID_AND_OWNER).values(kept=bindparam("new"))
_MAKE_TEMPORARY = update(conversations).where(*_BY_ID_AND_OWNER).values(temporary=True)
_NOTE_ACTIVITY = update(conversations).where(*_BY_ID_AND_OWNER).values(updated_at=bindparam("now"))


def _due(*conditions: ColumnElement[bool]) -> Any:  # noqa: ANN401 - a SELECT
    """Ids, owners and sizes of conversations without activity since then, in the order of the index on activity."""
    before = bindparam("before", type_=conversations.c.updated_at.type)
    since_import = conversations.c.imported_at.is_(None) | (conversations.c.imported_at < before)
    answered = exists().where(answers.c.conversation_id == conversations.c.id, IS_RUNNING)
    return (
        select(conversations.c.id, conversations.c.user_id, conversations.c.stored_bytes)
        .where(conversations.c.updated_at < before, since_import, ~answered, *conditions)
        .order_by(conversations.c.updated_at)
        .limit(bindparam("limit"))
    )


# By whether they must be temporary, and whether those that their owners keep stay.
_DUE = {
    (temporary, spare): _due(
        *([conversations.c.temporary] if temporary else []), *([~conversations.c.kept] if spare else [])
    )
    for temporary in (True, False)
    for spare in (True, False)
}
# What somebody changes just now is not due any more.
_LOCKED = {key: search.with_for_update(skip_locked=True, of=conversations) for key, search in _DUE.items()}
_IS_AHEAD = conversations.c.updated_at > bindparam("latest", type_=conversations.c.updated_at.type)
_FUTURE = select(conversations.c.id).where(_IS_AHEAD).limit(1)
_CORRECT_FUTURE = update(conversations).where(_IS_AHEAD).values(updated_at=bindparam("latest"))


@final
class SqlRetentions(Repository, Retentions):
    """Columns of ``conversations``."""

    def get(self, conversation_id: int, *, owner: int) -> Retention:
        """Read by id and owner."""
        row = self._connection.execute(_RETENTION, {"id_": conversation_id, "owner": owner}).first()
        if row is None:
            raise ConversationNotFound
        return Retention(*row)

    def keep(self, conversation_id: int, *, kept: bool, owner: int) -> None:
        """Update by id and owner."""
        self._change(_KEEP, {"id_": conversation_id, "owner": owner, "new": kept})

    def make_temporary(self, conversation_id: int, *, owner: int) -> None:
        """Update by id and owner."""
        self._change(_MAKE_TEMPORARY, {"id_": conversation_id, "owner": owner})

    def note_activity(self, conversation_id: int, now: datetime, *, owner: int) -> None:
        """Update by id and owner."""
        self._change(_NOTE_ACTIVITY, {"id_": conversation_id, "owner": owner, "now": now})

    def any_due(self, policy: RetentionPolicy, now: datetime, latest: datetime) -> bool:
        """Look for one by the indexes on activity."""
        ahead = self._connection.execute(_FUTURE, {"latest": latest}).first()
        return bool(ahead or any(self._connection.execute(*each).first() for each in _searches(_DUE, policy, now, 1)))

    def delete_due(self, policy: RetentionPolicy, now: datetime, *, count: int, size: int) -> int:
        """Find and lock them by the indexes on activity, then delete each as its owner would."""
        found: dict[int, tuple[int, int]] = {}
        for each in _searches(_LOCKED, policy, now, count):
            found |= {row[0]: (row[1], row[2]) for row in self._connection.execute(*each).fetchall()}
        due: list[tuple[int, int]] = []
        for id_, (owner, stored) in list(found.items())[:count]:
            if size <= 0:
                break
            due.append((id_, owner))
            size -= stored
        if due:
            begin_deletion(self._connection)
        for id_, owner in due:
            delete_conversation(self._connection, id_, owner)
        return len(due)

    def correct_future(self, latest: datetime) -> None:
        """Update by the index on activity."""
        self._connection.execute(_CORRECT_FUTURE, {"latest": latest})

    def _change(self, statement: Any, values: dict[str, object]) -> None:  # noqa: ANN401 - an UPDATE
        if not self._connection.execute(statement, values).rowcount:
            raise ConversationNotFound


def _searches(
    searches: Mapping[tuple[bool, bool], Any], policy: RetentionPolicy, now: datetime, limit: int
) -> Iterator[tuple[Any, dict[str, object]]]:
    """The statements that find what is due, with their parameters."""
    periods: list[tuple[bool, timedelta]] = [(True, TEMPORARY)]
    if policy.period is not None:
        periods.append((False, policy.period))
    for temporary, period in periods:
        yield searches[temporary, policy.keeping_allowed], {"before": now - period, "limit": limit}
