"""Which conversations were imported."""

from datetime import datetime
from typing import final

from sqlalchemy import bindparam, select, update

from baio_adapters.sql.repositories.repository import ID, OWNER, Repository
from baio_adapters.sql.tables import conversations
from baio_domain.errors import ConversationNotFound
from baio_domain.ports import Imports

_FIND = select(conversations.c.id).where(
    conversations.c.user_id == OWNER, conversations.c.import_digest == bindparam("digest")
)
_MARK = (
    update(conversations)
    .where(conversations.c.id == ID, conversations.c.user_id == OWNER)
    .values(import_digest=bindparam("digest"), imported_at=bindparam("now"))
)


@final
class SqlImports(Repository, Imports):
    """Columns of ``conversations``."""

    def find(self, digest: bytes, *, owner: int) -> int | None:
        """Read by the index on owners and digests."""
        found: int | None = self._connection.execute(_FIND, {"owner": owner, "digest": digest}).scalar()
        return found

    def mark(self, conversation_id: int, digest: bytes, now: datetime, *, owner: int) -> None:
        """Update by id and owner. If two transactions mark the same, the unique index rejects one."""
        values = {"id_": conversation_id, "owner": owner, "digest": digest, "now": now}
        if not self._connection.execute(_MARK, values).rowcount:
            raise ConversationNotFound
