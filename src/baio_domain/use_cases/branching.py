"""Branches: a conversation continues in another direction, and the old one stays."""

from dataclasses import dataclass

from baio_domain.copies import copy_conversation, message_of
from baio_domain.entities import Caller, Conversation, refuse, title_problems
from baio_domain.idempotency import IdempotentRequest, idempotency_problems
from baio_domain.ports import Clock, Database, SecretBox, Transaction
from baio_domain.quotas import Quotas
from baio_domain.session_check import session_checked


@dataclass(frozen=True, slots=True)
class BranchConversation:
    """Copy a conversation up to a message into a new one. The old one stays as it is.

    - With a message, the branch has everything before it; without one, everything. Before a question, the next question
      is a changed one; before an answer, the branch ends with its question, which can then be asked again.
    - The records of the answers, and of the tools' calls that they made, are copied, with their times. Where BAiO's
      text cites a call, the branch cites its own record of it.
    - Answers that are running, that a later one replaced, or that have no text are left out. The copy counts towards
      the user's stored text, but not as usage.
    - Without a title, the branch has the old one's title.
    - The number of a user's conversations is limited, and so is a user's stored text.
    - The same idempotency key with the same request, within 24 hours, makes no second branch and gives the same one.
    """

    database: Database
    box: SecretBox
    clock: Clock
    quotas: Quotas

    async def __call__(
        self,
        caller: Caller,
        conversation_id: int,
        message_id: int | None = None,
        title: str | None = None,
        idempotency_key: str | None = None,
    ) -> Conversation:
        """Branch it and return the branch.

        Raises InvalidInput, ConversationNotFound, MessageNotFound, TooManyConversations, StorageFull or
        IdempotencyKeyReused.
        """
        refuse([*title_problems(title or ""), *idempotency_problems(idempotency_key)])
        owner, now = caller.user_id, self.clock.now()
        asked = [str(conversation_id), str(message_id)] + ([] if title is None else [title])
        request = IdempotentRequest(owner, idempotency_key, self.box.fingerprint("branch", *asked), now)

        def branch(tx: Transaction) -> Conversation:
            before = request.find(tx)
            if before is not None:
                return tx.conversations.get(before.result_id, owner=owner)
            source = tx.conversations.get(conversation_id, owner=owner)
            end = None if message_id is None else message_of(tx, conversation_id, message_id, owner=owner)
            named = source.title if title is None else title
            made = copy_conversation(tx, source, end=end, title=named, now=now, quotas=self.quotas)
            request.record(tx, made.conversation.id)
            return made.conversation

        return await self.database.write(session_checked(caller, branch))
