"""What every database must do with stored sequences. It is used together with ``store_contract.StoreContract``."""

import hashlib
import json
import zlib
from dataclasses import replace
from typing import Any

import pytest

from baio_domain.entities import InputOrigin, InputSource, SequenceContent, StoredSequence
from baio_domain.errors import AccountNotFound, ConversationNotFound, InvalidInput, SequenceNotFound
from baio_domain.ports import Database, NewSequence, SequenceMention, Transaction
from tests.store_contract import NOBODY, NOW, conversation_of, delete, read, say, someone

FROM_FILE = InputOrigin(InputSource.FILE)
FROM_MESSAGE = InputOrigin(InputSource.MESSAGE, 812, 40, 1882)


def a_sequence(owner: int, letters: str = "GAATTC", **more: Any) -> NewSequence:
    """A new sequence, with one feature."""
    features = json.dumps([{"kind": "CDS"}]).encode()
    content = SequenceContent(zlib.compress(letters.encode()), zlib.compress(features))
    digest = hashlib.sha256(letters.encode()).hexdigest()
    new = NewSequence(
        owner, "pUC19", "a cloning vector", "DNA", "circular", len(letters), 1, digest, "genbank", FROM_FILE, NOW,
        content, len(letters) + len(features),
    )  # fmt: skip
    return replace(new, **more)


async def add_sequence(database: Database, owner: int, letters: str = "GAATTC", **more: Any) -> StoredSequence:
    """Store it."""
    return await database.write(lambda tx: tx.sequences.add(a_sequence(owner, letters, **more)))


async def ids_of(database: Database, owner: int, **asked: Any) -> list[int]:
    """The ids of a page."""
    return [each.id for each in await database.read(lambda tx: tx.sequences.page(owner, **asked))]


def content_of(tx: Transaction, owner: int, sequence_id: int) -> SequenceContent:
    return tx.sequences.content(sequence_id, owner=owner)


class SequencesContract:
    """The promises of ``ports.Sequences``."""

    async def test_a_sequence_is_stored_as_it_is(self, database: Database) -> None:
        owner = await someone(database)
        for origin in (FROM_FILE, FROM_MESSAGE, InputOrigin(InputSource.CALL, 3)):
            new = a_sequence(owner, name=f"p\N{DNA DOUBLE HELIX}{origin.id}", origin=origin)
            stored = await database.write(lambda tx, new=new: tx.sequences.add(new))  # type: ignore[misc]
            assert stored == StoredSequence(
                stored.id, owner, new.name, new.description, "DNA", "circular", 6, 1, new.sha256, "genbank", origin, NOW
            )
            assert await database.read(lambda tx, s=stored: tx.sequences.get(s.id, owner=owner)) == stored  # type: ignore[misc]
            assert await read(database, content_of, owner, stored.id) == new.content

    async def test_the_same_letters_topology_and_name_are_one_sequence(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        one = await add_sequence(database, owner)
        again = await add_sequence(database, owner, description="other words")
        assert again == one
        others = [
            await add_sequence(database, owner, "GAATTG"),
            await add_sequence(database, owner, topology="linear"),
            await add_sequence(database, owner, name="pUC18"),
            await add_sequence(database, other),
        ]
        assert len({one.id, *(each.id for each in others)}) == 5
        size = a_sequence(owner).stored_bytes
        assert await database.read(lambda tx: tx.sequences.stored(owner)) == (4, 4 * size)
        assert await database.read(lambda tx: tx.sequences.find(one.sha256, "circular", "pUC19", owner=owner)) == one
        assert await database.read(lambda tx: tx.sequences.find(one.sha256, "circular", "pUC", owner=owner)) is None

    async def test_another_user_has_no_part_in_a_sequence(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        sequence, here = await add_sequence(database, owner), await conversation_of(database, other)
        for attempt in (
            lambda tx: tx.sequences.get(sequence.id, owner=other),
            lambda tx: tx.sequences.content(sequence.id, owner=other),
            lambda tx: tx.sequences.rename(sequence.id, "mine", owner=other),
            lambda tx: tx.sequences.attach(sequence.id, here, owner=other),
            lambda tx: tx.sequences.delete(sequence.id, owner=other),
            lambda tx: tx.sequences.get(NOBODY, owner=owner),
        ):
            with pytest.raises(SequenceNotFound):
                await database.write(attempt)
        with pytest.raises(ConversationNotFound):
            await database.write(lambda tx: tx.sequences.attach(sequence.id, here, owner=owner))
        with pytest.raises(ConversationNotFound):
            await add_sequence(database, owner, conversation_id=here)
        with pytest.raises(AccountNotFound):
            await add_sequence(database, NOBODY)
        assert await ids_of(database, other) == []
        assert await ids_of(database, other, conversation_id=here) == []

    async def test_sequences_are_listed_newest_first_page_by_page(self, database: Database) -> None:
        owner = await someone(database)
        here, there = await conversation_of(database, owner), await conversation_of(database, owner)
        ids = [
            (await add_sequence(database, owner, "A" * n, conversation_id=here if n % 2 else there)).id
            for n in range(1, 6)
        ]
        assert await ids_of(database, owner) == ids[::-1]
        assert await ids_of(database, owner, before=ids[3], limit=2) == ids[2:0:-1]
        assert await ids_of(database, owner, conversation_id=here) == ids[::-2]
        assert await ids_of(database, owner, conversation_id=here, before=ids[4], limit=1) == [ids[2]]

    async def test_a_name_is_looked_for_in_one_conversation_alone(self, database: Database) -> None:
        owner = await someone(database)
        here, there = await conversation_of(database, owner), await conversation_of(database, owner)
        one = await add_sequence(database, owner, conversation_id=here)
        await database.write(lambda tx: tx.sequences.attach(one.id, here, owner=owner))

        def named(tx: Transaction, name: str, conversation: int) -> list[int]:
            return [each.id for each in tx.sequences.named(name, conversation, owner=owner)]

        assert await read(database, named, "pUC19", here) == [one.id]
        assert await read(database, named, "puc19", here) == []
        assert await read(database, named, "pUC19", there) == []
        more = [(await add_sequence(database, owner, letters, conversation_id=here)).id for letters in ("A", "C")]
        assert await read(database, named, "pUC19", here) == [one.id, more[0]]

    async def test_a_sequence_can_be_renamed_but_not_to_be_the_same_as_another(self, database: Database) -> None:
        owner = await someone(database)
        one, two = await add_sequence(database, owner), await add_sequence(database, owner, name="pUC18")
        await database.write(lambda tx: tx.sequences.rename(one.id, "pUC19 new", owner=owner))
        await database.write(lambda tx: tx.sequences.rename(two.id, "pUC18", owner=owner))
        assert await database.read(lambda tx: tx.sequences.get(one.id, owner=owner)) == replace(one, name="pUC19 new")
        with pytest.raises(InvalidInput, match="name"):
            await database.write(lambda tx: tx.sequences.rename(two.id, "pUC19 new", owner=owner))
        with pytest.raises(SequenceNotFound):
            await database.write(lambda tx: tx.sequences.rename(NOBODY, "x", owner=owner))

    async def test_a_deleted_sequence_is_in_no_conversation(self, database: Database) -> None:
        owner = await someone(database)
        here = await conversation_of(database, owner)
        sequence = await add_sequence(database, owner, conversation_id=here)
        await database.write(lambda tx: tx.sequences.delete(sequence.id, owner=owner))
        assert await ids_of(database, owner, conversation_id=here) == []
        assert await database.read(lambda tx: tx.sequences.stored(owner)) == (0, 0)
        assert (await add_sequence(database, owner)).id > sequence.id

    async def test_what_was_pasted_goes_with_its_last_conversation_and_a_file_stays(self, database: Database) -> None:
        owner = await someone(database)
        here, there = await conversation_of(database, owner), await conversation_of(database, owner)
        file = await add_sequence(database, owner, "A", conversation_id=here)
        pasted, both, added = [
            await add_sequence(database, owner, letters, origin=FROM_MESSAGE, conversation_id=here)
            for letters in ("C", "G", "T")
        ]
        await database.write(lambda tx: tx.sequences.attach(both.id, there, owner=owner))
        assert (await add_sequence(database, owner, "T")) == replace(added, origin=FROM_FILE)
        await add_sequence(database, owner, "A", origin=FROM_MESSAGE)
        await delete(database, owner, here)
        assert await ids_of(database, owner) == [added.id, both.id, file.id]
        with pytest.raises(SequenceNotFound):
            await read(database, content_of, owner, pasted.id)
        await delete(database, owner, there)
        assert await ids_of(database, owner) == [added.id, file.id]

    async def test_mentions_are_kept_in_order_and_go_with_their_sequence(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        here, there = await conversation_of(database, owner), await conversation_of(database, owner)
        one, two = await add_sequence(database, owner, "A"), await add_sequence(database, owner, "C")
        [question] = await say(database, owner, here, "A and C?")
        [elsewhere] = await say(database, owner, there, "A?")

        def mention(tx: Transaction) -> None:
            tx.sequences.mention(question, two.id, None, owner=owner)
            tx.sequences.mention(question, one.id, (0, 1), owner=owner)
            tx.sequences.mention(elsewhere, one.id, (0, 1), owner=owner)

        def mentions(tx: Transaction, caller: int) -> list[SequenceMention]:
            return tx.sequences.mentions(here, owner=caller)

        await database.write(mention)
        expected = [SequenceMention(question.id, two), SequenceMention(question.id, one, 0, 1)]
        assert await read(database, mentions, owner) == expected
        assert await read(database, mentions, other) == []
        assert await ids_of(database, owner, conversation_id=here) == [two.id, one.id]
        with pytest.raises(SequenceNotFound):
            await database.write(lambda tx: tx.sequences.mention(question, one.id, None, owner=other))
        await database.write(lambda tx: tx.sequences.delete(two.id, owner=owner))
        assert await read(database, mentions, owner) == expected[1:]
        await delete(database, owner, here)
        assert await read(database, mentions, owner) == []

    async def test_sequences_go_with_their_account(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        await add_sequence(database, owner, conversation_id=await conversation_of(database, owner))
        kept = await add_sequence(database, other)
        await database.write(lambda tx: tx.users.delete(owner))
        assert await ids_of(database, owner) == []
        assert await ids_of(database, other) == [kept.id]
