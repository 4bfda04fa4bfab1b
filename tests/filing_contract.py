"""What every storage promises about conversations that are found and kept in order."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from baio_domain.entities import FiledConversation, Role
from baio_domain.errors import ConversationNotFound
from baio_domain.ports import Database, Transaction
from tests.store_contract import COMPLETE, LATER, NOW, ask, conversation_of, delete, read, say, someone


def ids_of(found: list[FiledConversation]) -> list[int]:
    return [each.conversation.id for each in found]


class FilingContract:
    """The tests, for a ``database`` fixture."""

    async def test_conversations_are_found_pinned_ones_first_then_by_activity(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        ids = [await conversation_of(database, owner) for _ in range(5)]
        await conversation_of(database, other)

        def keep_in_order(tx: Transaction) -> None:
            tx.messages.add(ids[1], Role.USER, "?", LATER, owner=owner)
            tx.filings.pin(ids[0], pinned=True, owner=owner)
            tx.filings.archive(ids[2], archived=True, owner=owner)
            tx.filings.tag(ids[3], ["PCR", "BRCA1"], owner=owner)
            tx.filings.tag(ids[4], ["PCR"], owner=owner)

        await database.write(keep_in_order)
        whole = await database.read(lambda tx: tx.filings.find(owner))
        assert ids_of(whole) == [ids[0], ids[1], ids[4], ids[3]]
        assert [each.filing.tags for each in whole] == [(), (), ("PCR",), ("BRCA1", "PCR")]
        assert [each.filing.updated_at for each in whole] == [NOW, LATER, NOW, NOW]
        assert whole[0].conversation == await database.read(lambda tx: tx.conversations.get(ids[0], owner=owner))
        assert whole[3].filing == await database.read(lambda tx: tx.filings.of(ids[3], owner=owner))
        assert ids_of(await database.read(lambda tx: tx.filings.find(owner, archived=True))) == [ids[2]]
        assert ids_of(await database.read(lambda tx: tx.filings.find(owner, tag="BRCA1"))) == [ids[3]]
        assert await database.read(lambda tx: tx.filings.find(other, tag="BRCA1")) == []

    async def test_a_question_and_the_end_of_an_answer_are_activity_and_order_is_none(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner, now=NOW - timedelta(days=1))
        answer = await ask(database, owner, conversation)

        async def activity() -> datetime:
            return (await database.read(lambda tx: tx.filings.of(conversation, owner=owner))).updated_at

        assert await activity() == NOW
        await database.write(lambda tx: tx.answers.end(answer.id, COMPLETE, "", LATER))
        assert await activity() == LATER
        await database.write(lambda tx: tx.filings.tag(conversation, ["PCR"], owner=owner))
        await database.write(lambda tx: tx.conversations.rename(conversation, "Other", owner=owner))
        assert await activity() == LATER

    async def test_they_go_on_after_one_that_was_deleted_pinned_or_asked_meanwhile(self, database: Database) -> None:
        owner = await someone(database)
        ids = [await conversation_of(database, owner) for _ in range(5)]
        await database.write(lambda tx: tx.filings.pin(ids[1], pinned=True, owner=owner))
        whole = await database.read(lambda tx: tx.filings.find(owner))

        def after(tx: Transaction, place: FiledConversation, limit: int) -> list[FiledConversation]:
            return tx.filings.find(owner, before=place, limit=limit)

        for at, each in enumerate(whole):
            assert await read(database, after, each, 10) == whole[at + 1 :]
            assert await read(database, after, each, 2) == whole[at + 1 : at + 3]
        await delete(database, owner, ids[3])
        await conversation_of(database, owner)
        await say(database, owner, ids[4], "?")
        await database.write(lambda tx: tx.filings.pin(ids[4], pinned=True, owner=owner))
        assert ids_of(await read(database, after, whole[2], 10)) == [ids[2], ids[0]]

    async def test_tags_are_counted_and_replaced_and_go_with_their_conversation(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        first, second = await conversation_of(database, owner), await conversation_of(database, owner)
        await database.write(lambda tx: tx.filings.tag(first, ["Ås", "b", "B", "Ω"], owner=owner))
        await database.write(lambda tx: tx.filings.tag(second, ["b"], owner=owner))
        assert await database.read(lambda tx: list(tx.filings.tags(owner).items())) == [
            ("B", 1), ("b", 2), ("Ås", 1), ("Ω", 1),
        ]  # fmt: skip
        assert await database.read(lambda tx: tx.filings.tags(other)) == {}
        await database.write(lambda tx: tx.filings.tag(first, [], owner=owner))
        assert await database.read(lambda tx: tx.filings.tags(owner)) == {"b": 1}
        await delete(database, owner, second)
        assert await database.read(lambda tx: tx.filings.tags(owner)) == {}

    async def test_only_its_owner_keeps_a_conversation_in_order(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        conversation = await conversation_of(database, owner)
        await database.write(lambda tx: tx.filings.tag(conversation, ["PCR"], owner=owner))
        before = await database.read(lambda tx: tx.filings.of(conversation, owner=owner))
        changes: list[Callable[[Transaction], object]] = [
            lambda tx: tx.filings.pin(conversation, pinned=True, owner=other),
            lambda tx: tx.filings.archive(conversation, archived=True, owner=other),
            lambda tx: tx.filings.tag(conversation, [], owner=other),
            lambda tx: tx.filings.of(conversation, owner=other),
        ]
        for change in changes:
            with pytest.raises(ConversationNotFound):
                await database.write(change)
        assert await database.read(lambda tx: tx.filings.of(conversation, owner=owner)) == before
