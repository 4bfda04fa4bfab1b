"""How long conversations are kept: the rules of the server, and exempting a conversation."""

from dataclasses import dataclass
from datetime import datetime

from baio_domain.entities import Caller, Retention, RetentionPolicy
from baio_domain.errors import KeepingNotAllowed
from baio_domain.ports import Database, Transaction
from baio_domain.session_check import session_checked


@dataclass(frozen=True, slots=True)
class KeptConversation:
    """How long one conversation is kept. ``goes_at`` is None for forever."""

    id: int
    retention: Retention
    goes_at: datetime | None


@dataclass(frozen=True, slots=True)
class KeepConversation:
    """Exempt a conversation from deletion after its time, or undo that.

    - If the administrator does not allow it, it is refused, and earlier exemptions don't count. Undoing is always
      allowed.
    - A temporary conversation can be exempted, too.
    """

    database: Database
    policy: RetentionPolicy

    async def __call__(self, caller: Caller, conversation_id: int, *, kept: bool = True) -> KeptConversation:
        """Exempt it, or not, and return how long it is kept. Raises KeepingNotAllowed or ConversationNotFound."""
        owner = caller.user_id

        def keep(tx: Transaction) -> Retention:
            tx.conversations.get(conversation_id, owner=owner)
            if kept and not self.policy.keeping_allowed:
                raise KeepingNotAllowed
            tx.retentions.keep(conversation_id, kept=kept, owner=owner)
            return tx.retentions.get(conversation_id, owner=owner)

        retention = await self.database.write(session_checked(caller, keep))
        return KeptConversation(conversation_id, retention, self.policy.goes_at(retention))


@dataclass(frozen=True, slots=True)
class GetRetention:
    """Read how long conversations are kept here, and how long one of the caller's is.

    - A conversation without activity for that long is deleted with everything that belongs to it. A new question, the
      end of an answer, and asking again count as activity; reading does not. An imported conversation was active when
      it was imported.
    - A temporary conversation is deleted a day after its last activity.
    - While a conversation is being answered, it stays.
    """

    database: Database
    policy: RetentionPolicy

    async def __call__(
        self, caller: Caller, conversation_id: int | None = None
    ) -> tuple[RetentionPolicy, KeptConversation | None]:
        """Return what holds for all, and for this conversation, or raise ConversationNotFound."""

        def read(tx: Transaction) -> Retention | None:
            return None if conversation_id is None else tx.retentions.get(conversation_id, owner=caller.user_id)

        retention = await self.database.read(session_checked(caller, read))
        if retention is None or conversation_id is None:
            return self.policy, None
        return self.policy, KeptConversation(conversation_id, retention, self.policy.goes_at(retention))
