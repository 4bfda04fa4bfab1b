"""What every storage promises about conversations that are found and kept in order."""

import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from baio_domain.entities import FiledConversation, Role
from baio_domain.errors import ConversationNotFound
from baio_domain.finding import occurs, words_of
from baio_domain.ports import Database, Transaction
from tests.queries import FOUND, NOT_FOUND
from tests.store_contract import (
    COMPLETE,
    LATER,
    NOW,
    ask,
    ask_again,
    checkpoint,
    conversation_of,
    delete,
    end,
    expire,
    read,
    say,
    someone,
)


def ids_of(found: list[FiledConversation]) -> list[int]:
    return [each.conversation.id for each in found]


async def found_by(database: Database, owner: int, query: str, **more: Any) -> list[FiledConversation]:
    """What the query finds, with its words as storage gets them."""
    return await database.read(lambda tx: tx.filings.find(owner, query=words_of(query), **more))


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

    async def test_each_query_finds_the_same_texts_everywhere(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        texts = [*FOUND.values(), *NOT_FOUND.values()]
        of: dict[int, str] = {}
        for text in texts:
            of[await conversation_of(database, owner)] = text
            await say(database, owner, list(of)[-1], text)
            await say(database, other, await conversation_of(database, other), text)
        for query in [*FOUND, *NOT_FOUND]:
            words = words_of(query)
            hits = await found_by(database, owner, query)
            assert {each.conversation.id for each in hits} == {
                conversation for conversation, text in of.items() if occurs(words, words_of(text))
            }, query
            assert all(each.said == of[each.conversation.id] for each in hits)
        assert {query for query, text in FOUND.items() if not occurs(words_of(query), words_of(text))} == set()

    async def test_titles_questions_and_answers_are_found_and_system_messages_are_not(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner, "Old title")

        async def finds(*queries: str) -> list[str | None]:
            return [each.said for query in queries for each in await found_by(database, owner, query)]

        await database.write(lambda tx: tx.messages.add(conversation, Role.SYSTEM, "system", NOW, owner=owner))
        answer = await ask(database, owner, conversation, "A question")
        await checkpoint(database, (answer, 0, "half an answer"))
        assert await finds("old tit", "questio", "system", "half") == [None, "A question"]
        await end(database, answer, "half an answer, whole now")
        assert await finds("answer who") == ["half an answer, whole now"]
        again = await ask_again(database, owner, answer)
        await end(database, again, "another one")
        assert await finds("half", "another") == ["another one"]
        await database.write(lambda tx: tx.conversations.rename(conversation, "New title", owner=owner))
        assert await finds("old", "new") == [None]
        await database.write(lambda tx: tx.conversations.rename(conversation, "", owner=owner))
        assert await finds("title", "new") == []
        lost = await ask(database, owner, conversation, "And then?")
        await checkpoint(database, (lost, 0, "interrupted"))
        await expire(database, LATER + timedelta(days=1))
        assert await finds("interrupted") == ["interrupted"]
        await delete(database, owner, conversation)
        assert await finds("question", "another", "interrupted") == []

    async def test_only_a_first_question_gives_a_title_and_only_where_there_is_none(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        untitled, titled = await conversation_of(database, owner), await conversation_of(database, owner, "Given")

        async def entitle(conversation: int, title: str, owner: int = owner) -> str:
            await database.write(lambda tx: tx.conversations.entitle(conversation, title, owner=owner))
            mine = owner
            return (await database.read(lambda tx: tx.conversations.get(conversation, owner=mine))).title

        assert await entitle(titled, "New") == "Given"
        await say(database, owner, untitled, "first")
        assert await entitle(untitled, "New") == "New"
        assert ids_of(await found_by(database, owner, "new")) == [untitled]
        assert await entitle(untitled, "Newer") == "New"
        await database.write(lambda tx: tx.conversations.rename(untitled, "", owner=owner))
        await say(database, owner, untitled, "second")
        assert await entitle(untitled, "Newest") == ""
        theirs = await conversation_of(database, other)
        with contextlib.suppress(ConversationNotFound):
            await entitle(theirs, "Mine")
        assert (await database.read(lambda tx: tx.conversations.get(theirs, owner=other))).title == ""

    async def test_what_is_found_is_in_the_order_of_all_and_has_its_newest_hit(self, database: Database) -> None:
        owner = await someone(database)
        ids = [await conversation_of(database, owner, "gene") for _ in range(6)]
        await say(database, owner, ids[4], "gene 1", "gene 2", "other")

        def keep_in_order(tx: Transaction) -> None:
            tx.filings.pin(ids[0], pinned=True, owner=owner)
            tx.filings.archive(ids[1], archived=True, owner=owner)
            tx.filings.tag(ids[2], ["PCR"], owner=owner)
            tx.conversations.rename(ids[3], "protein", owner=owner)

        await database.write(keep_in_order)
        whole = await found_by(database, owner, "gen")
        assert ids_of(whole) == [ids[0], ids[5], ids[4], ids[2]]
        assert [each.said for each in whole] == [None, None, "gene 2", None]
        for at, each in enumerate(whole):
            assert await found_by(database, owner, "gen", before=each) == whole[at + 1 :]
            assert await found_by(database, owner, "gen", before=each, limit=1) == whole[at + 1 : at + 2]
        assert ids_of(await found_by(database, owner, "gene", archived=True)) == [ids[1]]
        assert ids_of(await found_by(database, owner, "gene", tag="PCR")) == [ids[2]]
        assert await found_by(database, owner, "gene", tag="PCR", archived=True) == []

    async def test_words_are_found_among_thousands_of_texts_however_many_have_them(self, database: Database) -> None:
        owner, each_text = await someone(database), 40

        def write(tx: Transaction) -> list[int]:
            """Every n-th text has the word "every" with n. The phrase "in phrase" is rarer than its words."""
            ids = []
            for number in range(3000 // each_text * each_text):
                if number % each_text == 0:
                    ids.append(tx.conversations.add(owner, "", NOW + timedelta(seconds=number)).id)
                words = [f"every{n}" for n in (1, 90, 700, 2500) if number % n == 0]
                words.append("in phrase" if number % 450 == 0 else "phrase in")
                tx.messages.add(ids[-1], Role.USER, " ".join(words), NOW + timedelta(seconds=number), owner=owner)
            return ids[::-1]

        newest_first = await database.write(write)

        def having(n: int) -> list[int]:
            numbered = enumerate(reversed(newest_first))
            return [
                each
                for place, each in numbered
                if any(k % n == 0 for k in range(place * each_text, (place + 1) * each_text))
            ][::-1]

        for query, n in (("every1", 1), ("every90", 90), ("every700", 700), ("every2500", 2500), ("in phrase", 450)):
            found = having(n)
            for limit in (1, 5, 20, 100):
                page = await found_by(database, owner, query, limit=limit)
                assert ids_of(page) == found[:limit], (query, limit)
                if len(found) > limit:
                    assert (
                        ids_of(await found_by(database, owner, query, limit=limit, before=page[-1]))
                        == found[limit : 2 * limit]
                    )

    async def test_the_longest_texts_are_stored_and_found_by_their_beginning(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        texts = [
            "first " + "".join(f"{number:x} " for number in range(200_000)),
            "second " + "x" * 2**20,
            "third " + "\ufdfa" * 50_000,
            "fourth " + "".join(chr(0x20000 + number) for number in range(40_000)),
        ]
        await say(database, owner, conversation, *texts)
        for text in texts:
            [hit] = await found_by(database, owner, text[:9])
            assert hit.said is not None
            assert text.startswith(hit.said[:1000])

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
