"""Networks from which the owners of accounts have signed in."""

from datetime import datetime
from typing import final

from sqlalchemy import bindparam, delete, select, update

from baio_adapters.sql.repositories.repository import ID, Repository, insert_for_owner
from baio_adapters.sql.tables import known_networks
from baio_domain.ports import MAX_KNOWN_NETWORKS, KnownNetworks

_BY_DIGEST = (known_networks.c.user_id == ID, known_networks.c.digest == bindparam("network"))
_IS_KNOWN = select(known_networks.c.user_id).where(*_BY_DIGEST)
_UPDATE = update(known_networks).where(*_BY_DIGEST).values(last_used_at=bindparam("now"))
_ADD = insert_for_owner(known_networks, "digest", "last_used_at")
_KEPT = (
    select(known_networks.c.digest)
    .where(known_networks.c.user_id == ID)
    .order_by(known_networks.c.last_used_at.desc(), known_networks.c.digest)
    .limit(MAX_KNOWN_NETWORKS)
)
_DELETE_EXCESS = delete(known_networks).where(known_networks.c.user_id == ID, known_networks.c.digest.not_in(_KEPT))


@final
class SqlKnownNetworks(Repository, KnownNetworks):
    """Digests in ``known_networks``."""

    def is_known(self, user_id: int, digest: bytes) -> bool:
        """Read by the primary key."""
        return self._connection.execute(_IS_KNOWN, {"id_": user_id, "network": digest}).first() is not None

    def remember(self, user_id: int, digest: bytes, now: datetime) -> None:
        """Update, or insert and delete what is too much."""
        if not self._connection.execute(_UPDATE, {"id_": user_id, "network": digest, "now": now}).rowcount:
            self._connection.execute(_ADD, {"owner": user_id, "digest": digest, "last_used_at": now})
            self._connection.execute(_DELETE_EXCESS, {"id_": user_id})
