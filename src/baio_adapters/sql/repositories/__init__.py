"""The domain's repositories in SQL. The WHERE clause of every read and write checks the owner."""

from typing import final

from sqlalchemy import Connection

from baio_adapters.sql.repositories.answers import SqlAnswers
from baio_adapters.sql.repositories.api_keys import SqlApiKeys
from baio_adapters.sql.repositories.api_tokens import SqlApiTokens
from baio_adapters.sql.repositories.audit import SqlAudit
from baio_adapters.sql.repositories.catalogue import SqlCatalogue
from baio_adapters.sql.repositories.conversations import SqlConversations, SqlMessages
from baio_adapters.sql.repositories.failed_attempts import SqlFailedAttempts
from baio_adapters.sql.repositories.filings import SqlFilings
from baio_adapters.sql.repositories.idempotency import SqlIdempotency
from baio_adapters.sql.repositories.identities import SqlIdentities
from baio_adapters.sql.repositories.imports import SqlImports
from baio_adapters.sql.repositories.invitations import SqlInvitations
from baio_adapters.sql.repositories.known_networks import SqlKnownNetworks
from baio_adapters.sql.repositories.ledger import SqlLedger
from baio_adapters.sql.repositories.retentions import SqlRetentions
from baio_adapters.sql.repositories.second_factors import SqlSecondFactors
from baio_adapters.sql.repositories.sequences import SqlSequences
from baio_adapters.sql.repositories.sessions import SqlSessions
from baio_adapters.sql.repositories.settings import SqlPresets, SqlSettings
from baio_adapters.sql.repositories.sign_ins import SqlSignIns
from baio_adapters.sql.repositories.tool_calls import SqlToolCalls
from baio_adapters.sql.repositories.users import SqlUsers
from baio_domain.ports import Transaction


@final
class SqlTransaction(Transaction):
    """The repositories on one connection, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self.users = SqlUsers(connection)
        self.sessions = SqlSessions(connection)
        self.api_tokens = SqlApiTokens(connection)
        self.second_factors = SqlSecondFactors(connection)
        self.failed_attempts = SqlFailedAttempts(connection)
        self.known_networks = SqlKnownNetworks(connection)
        self.invitations = SqlInvitations(connection)
        self.identities = SqlIdentities(connection)
        self.sign_ins = SqlSignIns(connection)
        self.audit = SqlAudit(connection)
        self.conversations = SqlConversations(connection)
        self.filings = SqlFilings(connection)
        self.retentions = SqlRetentions(connection)
        self.imports = SqlImports(connection)
        self.messages = SqlMessages(connection)
        self.settings = SqlSettings(connection)
        self.presets = SqlPresets(connection)
        self.answers = SqlAnswers(connection)
        self.ledger = SqlLedger(connection)
        self.api_keys = SqlApiKeys(connection)
        self.catalogue = SqlCatalogue(connection)
        self.idempotency = SqlIdempotency(connection)
        self.tool_calls = SqlToolCalls(connection)
        self.sequences = SqlSequences(connection)
