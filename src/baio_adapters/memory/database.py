"""Transactions over copies of the tables."""

from collections.abc import Callable
from typing import TypeVar, final

from baio_adapters.memory.answers import MemoryAnswers
from baio_adapters.memory.api_keys import MemoryApiKeys
from baio_adapters.memory.api_tokens import MemoryApiTokens
from baio_adapters.memory.audit import MemoryAudit
from baio_adapters.memory.catalogue import MemoryCatalogue
from baio_adapters.memory.conversations import MemoryConversations, MemoryMessages
from baio_adapters.memory.failed_attempts import MemoryFailedAttempts
from baio_adapters.memory.filings import MemoryFilings
from baio_adapters.memory.idempotency import MemoryIdempotency
from baio_adapters.memory.identities import MemoryIdentities
from baio_adapters.memory.imports import MemoryImports
from baio_adapters.memory.invitations import MemoryInvitations
from baio_adapters.memory.known_networks import MemoryKnownNetworks
from baio_adapters.memory.ledger import MemoryLedger
from baio_adapters.memory.retentions import MemoryRetentions
from baio_adapters.memory.second_factors import MemorySecondFactors
from baio_adapters.memory.sequences import MemorySequences
from baio_adapters.memory.sessions import MemorySessions
from baio_adapters.memory.settings import MemoryPresets, MemorySettings
from baio_adapters.memory.sign_ins import MemorySignIns
from baio_adapters.memory.tables import Tables
from baio_adapters.memory.tool_calls import MemoryToolCalls
from baio_adapters.memory.users import MemoryUsers
from baio_domain.ports import Database, Transaction

T = TypeVar("T")


@final
class MemoryDatabase(Database):
    """Keeps everything in this process until it ends. One unit of work runs at a time."""

    def __init__(self) -> None:
        self._tables = Tables()

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` on a snapshot. What it writes is discarded."""
        return work(MemoryTransaction(self._tables.copy()))

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` on a copy, which becomes the database when it returns."""
        tables = self._tables.copy()
        result = work(MemoryTransaction(tables))
        self._tables = tables
        return result

    async def delete_all_data(self) -> int:
        """Keep the catalogue and the last ids only."""
        before = self._tables
        self._tables = Tables(providers=before.providers, models=before.models, last_ids=before.last_ids)
        return before.rows - self._tables.rows

    async def check(self) -> None:
        """A dict is always reachable, and has no schema."""

    async def check_writable(self) -> None:
        """A dict can always be written."""

    def close(self) -> None:
        """There is nothing to close."""


@final
class MemoryTransaction(Transaction):
    """The repositories over one copy of the tables."""

    def __init__(self, tables: Tables) -> None:
        self.users = MemoryUsers(tables)
        self.sessions = MemorySessions(tables)
        self.api_tokens = MemoryApiTokens(tables)
        self.second_factors = MemorySecondFactors(tables)
        self.failed_attempts = MemoryFailedAttempts(tables)
        self.known_networks = MemoryKnownNetworks(tables)
        self.invitations = MemoryInvitations(tables)
        self.identities = MemoryIdentities(tables)
        self.sign_ins = MemorySignIns(tables)
        self.audit = MemoryAudit(tables)
        self.conversations = MemoryConversations(tables)
        self.filings = MemoryFilings(tables)
        self.retentions = MemoryRetentions(tables)
        self.imports = MemoryImports(tables)
        self.messages = MemoryMessages(tables)
        self.settings = MemorySettings(tables)
        self.presets = MemoryPresets(tables)
        self.answers = MemoryAnswers(tables)
        self.ledger = MemoryLedger(tables)
        self.api_keys = MemoryApiKeys(tables)
        self.catalogue = MemoryCatalogue(tables)
        self.idempotency = MemoryIdempotency(tables)
        self.tool_calls = MemoryToolCalls(tables)
        self.sequences = MemorySequences(tables)
