"""Networks from which the owners of accounts have signed in."""

from datetime import datetime
from typing import final

from baio_adapters.memory.repository import Repository
from baio_domain.ports import MAX_KNOWN_NETWORKS, KnownNetworks


@final
class MemoryKnownNetworks(Repository, KnownNetworks):
    """Digests in ``Tables.known_networks``, each with the time of the last sign-in."""

    def is_known(self, user_id: int, digest: bytes) -> bool:
        return (user_id, digest) in self._tables.known_networks

    def remember(self, user_id: int, digest: bytes, now: datetime) -> None:
        networks = self._tables.known_networks
        networks[user_id, digest] = now
        mine = sorted((key for key in networks if key[0] == user_id), key=lambda key: networks[key], reverse=True)
        for key in mine[MAX_KNOWN_NETWORKS:]:
            del networks[key]
