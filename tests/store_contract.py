"""What every database must do: one test suite for the port, run by the tests of each adapter.

Subclass ``StoreContract`` and give it a fixture ``database``: an open, empty database of the newest schema.
"""

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Concatenate, ParamSpec, TypeVar

import pytest

from baio_domain.entities import (
    DELETED_OPERATOR,
    NOWHERE,
    RECORD_BYTES,
    UNCHANGED,
    Act,
    Answer,
    AnswerState,
    ApiKey,
    CallInput,
    CallState,
    ChatSettings,
    Conversation,
    DayOfUsage,
    EndedCall,
    InputOrigin,
    InputSource,
    Message,
    Model,
    ModelSpec,
    Origin,
    Outcome,
    PastCall,
    Profile,
    ProviderSpec,
    Retention,
    RetentionPolicy,
    Role,
    SecondFactor,
    Session,
    ToolCall,
    Usage,
    UsedSettings,
    UsedTokens,
)
from baio_domain.errors import (
    AccountNotFound,
    AnswerNotFound,
    AnswerRunning,
    ApiKeyNotFound,
    BaioError,
    ConversationNotFound,
    IdempotencyKeyReused,
    InvalidInput,
    PresetNotFound,
    SecondFactorOn,
    ToolCallNotFound,
    TooManyAnswers,
)
from baio_domain.ports import (
    EVERYTHING,
    MAX_AUDIT_ENTRIES,
    PAGE_ROWS,
    AnswerPart,
    AuditFilter,
    Database,
    IdempotencyRecord,
    NewAnswer,
    NewToolCall,
    Opening,
    PlaceInLedger,
    Transaction,
    UsageOfAccount,
)
from baio_domain.prompts import estimated_tokens
from baio_domain.use_cases.catalogue import LoadCatalogue

P = ParamSpec("P")
T = TypeVar("T")

NOW = datetime(2024, 1, 15, 10, 0, 0, 123456, UTC)
LEASE = timedelta(seconds=20)
LATER = NOW + timedelta(minutes=10)

FAR = NOW + timedelta(days=3650)
"""Further ahead than anything in these tests."""
NOBODY = 2**62
FOR_EVER = RetentionPolicy()
PROFILE = Profile("Ole", "Normann", "Norway", "University of Bergen", "scientist", "AI researcher")
COMPLETE = Outcome(AnswerState.COMPLETE, "stop", "gpt-4o-2024-08-06", Usage(31, 4))

CHOSEN = ChatSettings("Be brief.", "gpt-4o", None, {"temperature": 0.2, "seed": 7}, ("tool",))

TEXTS = {
    "empty": "",
    "blank": " \t\r\n ",
    "quotes": """'; DROP TABLE users; -- " % _ \\ \\0 %s %(x)s :x ? $1""",
    "emoji": "\N{DNA DOUBLE HELIX}\N{MAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER}",
    "decomposed": "A\u030a",
    "composed": "\u00c5",
    "right to left": "שלום \u202eabc\u202c",
    "replacement": "\ufffd\uffff\U0010ffff",
    "long": "ACGT" * 250_000 + "\N{DNA DOUBLE HELIX}",
}
each_text = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())


# -- What tests begin with ---------------------------------------------------------------------------------------------


async def someone(database: Database, name: str = "olenor") -> int:
    """A new account's id."""
    email = f"{name}@example.no"
    return (await database.write(lambda tx: tx.users.add(name, email, PROFILE, "hash", NOW))).id


async def disable(database: Database, user_id: int) -> None:
    """Disable the account."""
    await database.write(lambda tx: tx.users.disable(user_id, LATER))


async def conversation_of(database: Database, owner: int, title: str = "", now: datetime = NOW) -> int:
    """A new conversation's id."""
    return (await database.write(lambda tx: tx.conversations.add(owner, title, now))).id


async def delete(database: Database, owner: int, conversation: int) -> None:
    """Delete the conversation."""
    await database.write(lambda tx: tx.conversations.delete(conversation, owner=owner))


async def conversations_of(database: Database, owner: int) -> list[Conversation]:
    """The owner's conversations."""
    return await database.read(lambda tx: tx.conversations.page(owner))


async def count(database: Database, tokens: UsedTokens) -> None:
    """Count an answer in the ledger."""
    await database.write(lambda tx: tx.ledger.add(tokens))


async def opening_of(database: Database, owner: int, conversation: int) -> Opening:
    """The conversation's system message and settings."""
    return await database.read(lambda tx: tx.settings.opening(conversation, owner=owner))


async def save_settings(database: Database, owner: int, conversation: int, settings: ChatSettings) -> None:
    """Replace the conversation's settings."""
    await database.write(lambda tx: tx.settings.save(conversation, settings, owner=owner))


async def say(
    database: Database, owner: int, conversation: int, *contents: str, role: Role = Role.USER
) -> list[Message]:
    """These messages, stored in one unit of work."""
    return await database.write(
        lambda tx: [tx.messages.add(conversation, role, content, NOW, owner=owner) for content in contents]
    )


async def spoken(database: Database, owner: int, conversation: int) -> list[tuple[str, str]]:
    """What was said in the conversation, as (role, content)."""
    messages = await database.read(lambda tx: tx.messages.of(conversation, owner=owner))
    return [(message.role.value, message.content) for message in messages]


FULLWIDTH = "".join(chr(ord(letter) + 0xFEE0) for letter in "olenor")


def ensure_provider(tx: Transaction) -> int:
    """The id of a provider; if there is none, one is added."""
    providers = tx.catalogue.providers()
    return (providers[0] if providers else tx.catalogue.add_provider("OpenAI")).id


def begin(
    tx: Transaction,
    question: Message,
    owner: int,
    now: datetime = NOW,
    lease: timedelta = LEASE,
    max_running: int = 100,
    worker: int | None = None,
) -> Answer:
    """A running answer to the question."""
    return tx.answers.begin(
        NewAnswer(question, owner, ensure_provider(tx), "gpt-4o", now, now + lease, max_running, worker=worker)
    )


async def ask(
    database: Database,
    owner: int,
    conversation: int,
    content: str = "?",
    *,
    lease: timedelta = LEASE,
    worker: int | None = None,
) -> Answer:
    """A question and its running answer."""

    def work(tx: Transaction) -> Answer:
        question = tx.messages.add(conversation, Role.USER, content, NOW, owner=owner)
        return begin(tx, question, owner, lease=lease, worker=worker)

    return await database.write(work)


async def ask_unstored(
    database: Database, owner: int, *, max_running: int = 100, worker: int | None = None, key_id: int | None = None
) -> Answer:
    """A running answer in no conversation."""

    def work(tx: Transaction) -> Answer:
        return tx.answers.begin(
            NewAnswer(
                None,
                owner,
                ensure_provider(tx),
                "gpt-4o",
                NOW,
                NOW + LEASE,
                max_running,
                prompt_estimate=9,
                api_key_id=key_id,
                worker=worker,
            )
        )

    return await database.write(work)


async def ask_again(database: Database, owner: int, earlier: Answer) -> Answer:
    """Another running answer to the same question."""

    def work(tx: Transaction) -> Answer:
        said = tx.messages.of(earlier.conversation_id, owner=owner)
        return begin(tx, next(each for each in said if each.id == earlier.question_id), owner)

    return await database.write(work)


async def end(database: Database, answer: Answer, text: str, outcome: Outcome = COMPLETE) -> bool:
    """End the answer with this text."""
    return await database.write(lambda tx: tx.answers.end(answer.id, outcome, text, LATER))


async def checkpoint(database: Database, *pieces: tuple[Answer, int, str], lease_until: datetime = NOW + LEASE) -> None:
    """Store parts of running answers."""
    appended = [AnswerPart(answer.id, offset, text) for answer, offset, text in pieces]
    ids = sorted({piece.answer_id for piece in appended})
    await database.write(lambda tx: tx.answers.checkpoint(appended, ids, lease_until))


async def expire(database: Database, now: datetime = LATER, sparing: tuple[int, ...] = ()) -> list[int]:
    """End the answers that have expired by then."""
    return await database.write(lambda tx: tx.answers.end_expired(now, FAR, except_ids=sparing))


DEAD = 2**61 + 1
"""The number of a worker."""


async def bury(database: Database, workers: set[int], sparing: tuple[int, ...] = ()) -> list[int]:
    """End the answers of these workers."""
    return await database.write(lambda tx: tx.answers.end_of_workers(workers, LATER, except_ids=sparing))


async def text_of(database: Database, owner: int, answer: Answer, offset: int = 0) -> str:
    """The answer's stored text."""
    return await database.read(lambda tx: tx.answers.text(answer.id, offset, owner=owner))


async def answers_of(database: Database, owner: int, conversation: int) -> list[Answer]:
    """The records of the conversation's answers."""
    return await database.read(lambda tx: tx.answers.page(conversation, owner=owner))


async def length_of(database: Database, owner: int, answer: Answer) -> int:
    """How long the answer's stored text is."""
    return await database.read(lambda tx: tx.answers.length(answer.id, owner=owner))


async def record_of(database: Database, owner: int, answer: Answer) -> Answer:
    """The answer's record as it is now."""
    return await database.read(lambda tx: tx.answers.get(answer.id, owner=owner))


async def add_key(database: Database, owner: int, nickname: str, sealed: bytes = b"sealed") -> int:
    """A stored key's id."""

    def work(tx: Transaction) -> int:
        key = tx.api_keys.add(owner, ensure_provider(tx), nickname, NOW)
        tx.api_keys.save_sealed(key.id, sealed, owner=owner)
        return key.id

    return await database.write(work)


async def key_of(database: Database, owner: int, nickname: str) -> ApiKey:
    """The key with this nickname."""
    return await database.read(lambda tx: tx.api_keys.get(nickname, owner=owner))


async def keys_of(database: Database, owner: int) -> list[ApiKey]:
    """The owner's keys."""
    return await database.read(lambda tx: tx.api_keys.of(owner))


def meanwhile(act: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T:
    """Do it during a unit of work: on the event loop if the work runs in another thread, otherwise right here."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run_coroutine_threadsafe(act, loop).result(timeout=60)
    try:
        act.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("a database without threads must not wait")


async def all_of(acts: list[Awaitable[T]]) -> tuple[list[T], list[BaioError]]:
    """Do all at once; return the results and the refusals. Any other exception is a failure."""
    results = await asyncio.gather(*acts, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, BaioError):
            raise result
    done = [result for result in results if not isinstance(result, BaseException)]
    return done, [result for result in results if isinstance(result, BaioError)]


async def read(
    database: Database, act: Callable[Concatenate[Transaction, P], T], *arguments: P.args, **named: P.kwargs
) -> T:
    """Do it on a snapshot, with these arguments."""
    return await database.read(lambda tx: act(tx, *arguments, **named))


async def write(
    database: Database, act: Callable[Concatenate[Transaction, P], T], *arguments: P.args, **named: P.kwargs
) -> T:
    """Do it and commit, with these arguments."""
    return await database.write(lambda tx: act(tx, *arguments, **named))


async def refusal_of(
    database: Database, act: Callable[Concatenate[Transaction, P], object], *arguments: P.args, **named: P.kwargs
) -> tuple[object, ...]:
    """Everything that distinguishes one refusal from another."""
    with pytest.raises(BaioError) as refused:
        await write(database, act, *arguments, **named)
    error = refused.value
    return type(error), error.detail, error.errors, error.retry_after, tuple(error.members)


# -- The suite ---------------------------------------------------------------------------------------------------------


class StoreContract:
    """Every obligation of ``baio_domain.ports.Database`` and of the repositories in it."""

    # -- Accounts ------------------------------------------------------------------------------------------------------

    @each_text
    async def test_an_account_is_read_back_as_it_was_stored(self, text: str, database: Database) -> None:
        if len(text) > 1000:
            text = text[:1000]  # a name is indexed
        profile = Profile(text, text, text, text, text, text)
        stored = await database.write(lambda tx: tx.users.add(f"o{text}", f"e{text}", profile, text, NOW))
        assert (stored.username, stored.email, stored.password_hash) == (f"o{text}", f"e{text}", text)
        assert (stored.created_at, stored.disabled_at) == (NOW, None)
        assert await database.read(lambda tx: tx.users.get(stored.id)) == stored
        assert await database.read(lambda tx: tx.users.by_username(f"o{text}")) == stored

    SPELLINGS = (
        ("olenor", "OLENOR"), ("olenor", FULLWIDTH), ("Straße", "STRASSE"), ("ﬁnn", "FINN"),
        ("\u212bse", "a\u030aSE"), ("ΣΊΣΥΦΟΣ", "σίσυφος"),
    )  # fmt: skip

    @pytest.mark.parametrize(("one", "two"), SPELLINGS)
    async def test_a_username_is_taken_in_any_spelling(self, one: str, two: str, database: Database) -> None:
        stored = await database.write(lambda tx: tx.users.add(one, "one@example.no", PROFILE, "hash", NOW))
        with pytest.raises(InvalidInput) as refused:
            await database.write(lambda tx: tx.users.add(two, "two@example.no", PROFILE, "hash", NOW))
        assert [error.field for error in refused.value.errors] == ["username"]
        assert await database.read(lambda tx: tx.users.taken(two, "two@example.no")) == ["username"]
        assert await database.read(lambda tx: tx.users.by_username(two)) == stored

    @pytest.mark.parametrize(("one", "two"), SPELLINGS)
    async def test_an_email_is_taken_in_any_spelling(self, one: str, two: str, database: Database) -> None:
        await database.write(lambda tx: tx.users.add("one", f"{one}@example.no", PROFILE, "hash", NOW))
        with pytest.raises(InvalidInput) as refused:
            await database.write(lambda tx: tx.users.add("two", f"{two}@EXAMPLE.no", PROFILE, "hash", NOW))
        assert [error.field for error in refused.value.errors] == ["email"]
        assert await database.read(lambda tx: tx.users.taken("two", f"{two}@EXAMPLE.no")) == ["email"]
        assert await database.read(lambda tx: tx.users.by_username("two")) is None

    async def test_both_names_can_be_taken_by_one_account_or_by_two(self, database: Database) -> None:
        await someone(database, "ole")
        await someone(database, "kari")

        async def taken(username: str, email: str) -> list[str]:
            return await database.read(lambda tx: tx.users.taken(username, email))

        assert await taken("OLE", "Ole@example.no") == ["username", "email"]
        assert await taken("ole", "kari@example.no") == ["username", "email"]
        assert await taken("per", "per@example.no") == []
        assert await taken("ole@example.no", "ole") == []
        with pytest.raises(InvalidInput) as refused:
            await someone(database, "OLE")
        assert {error.field for error in refused.value.errors} <= {"username", "email"}
        assert refused.value.errors

    async def test_an_account_that_is_not_there_is_nobodys(self, database: Database) -> None:
        await someone(database)
        assert await database.read(lambda tx: tx.users.by_username("olenor@example.no")) is None
        acts: list[Callable[[Transaction], object]] = [
            lambda tx: tx.users.get(NOBODY),
            lambda tx: tx.users.save_profile(NOBODY, PROFILE),
            lambda tx: tx.users.save_password_hash(NOBODY, "hash"),
            lambda tx: tx.users.disable(NOBODY, NOW),
            lambda tx: tx.users.enable(NOBODY),
            lambda tx: tx.users.save_password_reset(NOBODY, b"digest", LATER),
            lambda tx: tx.second_factors.enroll(NOBODY, b"seed"),
            lambda tx: tx.conversations.add(NOBODY, "", NOW),
            lambda tx: tx.api_keys.add(NOBODY, ensure_provider(tx), "nickname", NOW),
        ]
        for act in acts:
            with pytest.raises(AccountNotFound):
                await database.write(act)
        assert await database.read(lambda tx: tx.users.is_enabled(NOBODY)) is False

    async def test_a_disabled_account_is_still_there_and_not_enabled(self, database: Database) -> None:
        ole, kari = await someone(database, "ole"), await someone(database, "kari")
        before = await database.read(lambda tx: tx.users.get(ole))
        assert await database.read(lambda tx: tx.users.is_enabled(ole)) is True
        await disable(database, ole)
        assert await database.read(lambda tx: tx.users.is_enabled(ole)) is False
        assert await database.read(lambda tx: tx.users.is_enabled(kari)) is True
        after = await database.read(lambda tx: tx.users.get(ole))
        assert after.disabled_at is not None
        assert after.disabled_at.utcoffset() == timedelta()
        assert replace(after, disabled_at=None) == before
        assert await database.read(lambda tx: tx.users.by_username("ole")) == after
        assert await database.read(lambda tx: tx.users.taken("ole", "x@example.no")) == ["username"]

    async def test_saving_a_profile_or_a_hash_changes_that_and_nobody_else(self, database: Database) -> None:
        ole, kari = await someone(database, "ole"), await someone(database, "kari")
        before = await database.read(lambda tx: (tx.users.get(ole), tx.users.get(kari)))
        profile = Profile("a", "b", "", "d", "e", "")
        await database.write(lambda tx: tx.users.save_profile(ole, profile))
        await database.write(lambda tx: tx.users.save_password_hash(ole, "new"))
        after = await database.read(lambda tx: (tx.users.get(ole), tx.users.get(kari)))
        assert after[0] == replace(
            before[0], first_name="a", last_name="b", country="", affiliation="d", position="e", field_of_study="",
            password_hash="new",
        )  # fmt: skip
        assert after[1] == before[1]

    async def test_of_many_who_take_one_name_at_once_one_gets_it(self, database: Database) -> None:
        def add(number: int) -> Callable[[Transaction], object]:
            return lambda tx: tx.users.add("olenor", f"{number}@example.no", PROFILE, "hash", NOW)

        done, refusals = await all_of([database.write(add(number)) for number in range(20)])
        assert len(done) == 1
        assert {type(refusal) for refusal in refusals} == {InvalidInput}
        assert {error.field for refusal in refusals for error in refusal.errors} == {"username"}

    # -- Conversations -------------------------------------------------------------------------------------------------

    @each_text
    async def test_a_conversation_is_read_back_as_it_was_stored(self, text: str, database: Database) -> None:
        owner = await someone(database)
        stored = await database.write(lambda tx: tx.conversations.add(owner, text, NOW))
        assert (stored.user_id, stored.title, stored.created_at) == (owner, text, NOW)
        assert await database.read(lambda tx: tx.conversations.get(stored.id, owner=owner)) == stored
        assert await database.read(lambda tx: tx.conversations.page(owner)) == [stored]
        await database.write(lambda tx: tx.conversations.rename(stored.id, f"{text}!", owner=owner))
        renamed = await database.read(lambda tx: tx.conversations.get(stored.id, owner=owner))
        assert renamed == replace(stored, title=f"{text}!")

    async def test_conversations_are_listed_newest_first_and_ties_by_id(self, database: Database) -> None:
        owner, other = await someone(database, "ole"), await someone(database, "kari")
        times = [NOW, NOW + timedelta(microseconds=1), NOW, NOW - timedelta(days=1), NOW.replace(microsecond=0), NOW]
        ids = []
        for time in times:
            ids.append(await conversation_of(database, owner, now=time))
            await conversation_of(database, other)
        listed = await database.read(lambda tx: tx.conversations.page(owner))
        assert [each.id for each in listed] == [ids[1], ids[5], ids[2], ids[0], ids[4], ids[3]]
        assert await database.read(lambda tx: tx.conversations.page(NOBODY)) == []

    async def test_conversations_are_read_page_by_page_in_their_order(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        for time in (NOW, LATER, NOW, LATER, NOW):
            await conversation_of(database, owner, now=time)
            await conversation_of(database, other, now=time)

        def listed(tx: Transaction, before: Conversation | None, limit: int, owner: int = owner) -> list[Conversation]:
            return tx.conversations.page(owner, before=before, limit=limit)

        whole = await read(database, listed, None, PAGE_ROWS)
        assert len(whole) == 5
        for size in (1, 2, 5, 6):
            found = [page := await read(database, listed, None, size)]
            while page:
                found.append(page := await read(database, listed, page[-1], size))
            assert all(len(page) <= size for page in found)
            assert [each for page in found for each in page] == whole
        await delete(database, owner, whole[1].id)
        assert await read(database, listed, whole[1], 10) == whole[2:]
        assert {each.user_id for each in await read(database, listed, whole[0], 10, other)} == {other}

    async def test_messages_are_read_page_by_page_each_of_about_the_wanted_size(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        conversation = await conversation_of(database, owner)
        said = await say(database, owner, conversation, "four", "\N{DNA DOUBLE HELIX}" * 4, "", "x" * 100, "end")

        def page(tx: Transaction, after: int, size: int, owner: int = owner) -> list[Message]:
            return tx.messages.page(conversation, owner=owner, after=after, size=size)

        assert await read(database, page, 0, 4) == said[:1]
        assert await read(database, page, 0, 5) == said[:2]
        assert await read(database, page, said[1].id, 1) == said[2:4]
        assert await read(database, page, said[3].id, 1) == said[4:]
        assert await read(database, page, 0, 10**9) == said
        assert await read(database, page, said[4].id, 10**9) == []
        assert await read(database, page, 0, 10**9, other) == []

    async def test_a_page_of_messages_ends_after_so_many_however_short_they_are(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        said = await say(database, owner, conversation, *[""] * (PAGE_ROWS + 1))
        assert (
            await read(database, lambda tx: tx.messages.page(conversation, owner=owner, after=0, size=1)) == said[:-1]
        )

    async def test_what_is_stored_is_counted_for_its_owner(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")

        async def stored(owner: int = owner) -> tuple[int, int]:
            return await database.read(lambda tx: tx.conversations.stored(owner))

        assert await stored() == (0, 0)
        conversation = await conversation_of(database, owner)
        assert await stored() == (1, 0)
        await say(database, owner, conversation, "\N{DNA DOUBLE HELIX}ab", "")
        assert await stored() == (1, 6 + 2 * RECORD_BYTES)
        with pytest.raises(ConversationNotFound):
            await say(database, other, conversation, "not mine")
        answer = await ask(database, owner, conversation, "?")
        counted = 7 + 3 * RECORD_BYTES
        await checkpoint(database, (answer, 0, "text of a running answer"))
        assert await stored() == (1, counted)
        assert await end(database, answer, "Å") is True
        assert await end(database, answer, "too late") is False
        counted += 2 + 2 * RECORD_BYTES
        assert await stored() == (1, counted)
        second = await ask_again(database, owner, answer)
        await end(database, second, "B")  # replaces the first, whose text stays
        counted += 1 + 2 * RECORD_BYTES
        assert await stored() == (1, counted)
        await end(database, await ask_again(database, owner, answer), "", Outcome(AnswerState.FAILED, reason="x"))
        counted += RECORD_BYTES
        lost = await conversation_of(database, owner)
        await checkpoint(database, (await ask(database, owner, lost, ""), 0, "lost"))
        await expire(database)
        assert await stored() == (2, counted + 4 + 3 * RECORD_BYTES)
        assert (
            await read(database, lambda tx: tx.conversations.get(conversation, owner=owner))
        ).stored_bytes == counted
        assert await stored(other) == (0, 0)
        await delete(database, owner, lost)
        assert await stored() == (1, counted)

    async def test_of_units_of_work_at_once_that_lock_an_account_each_sees_what_the_others_stored(
        self, database: Database
    ) -> None:
        owner, other = await someone(database), await someone(database, "kari")

        def up_to_seven(tx: Transaction, owner: int) -> None:
            tx.users.lock(owner)
            if tx.conversations.stored(owner)[0] < 7:
                tx.conversations.add(owner, "", NOW)

        await asyncio.gather(*(write(database, up_to_seven, each) for _ in range(15) for each in (owner, other)))
        for each in (owner, other):
            assert (await read(database, lambda tx, each=each: tx.conversations.stored(each)))[0] == 7  # type: ignore[misc]

    async def test_ids_are_never_used_again(self, database: Database) -> None:
        owner = await someone(database)
        used = []
        for _ in range(3):
            newest = await conversation_of(database, owner)
            question = await ask(database, owner, newest)
            used.append((newest, question.question_id, question.id))
            await delete(database, owner, newest)
        for earlier, after in itertools.pairwise(used):
            assert all(one < two for one, two in zip(earlier, after, strict=True))

    async def test_what_is_somebody_elses_is_exactly_like_what_does_not_exist(self, database: Database) -> None:
        ole, kari = await someone(database, "ole"), await someone(database, "kari")
        theirs = await conversation_of(database, kari, "Kari's")
        answer = await ask(database, kari, theirs)
        await checkpoint(database, (answer, 0, "text"))
        key = await add_key(database, kari, "Kari's")
        before = await database.read(lambda tx: self._everything_of(tx, kari))

        refused: list[tuple[Callable[[Transaction, Any], object], list[object]]] = [
            (lambda tx, id_: tx.conversations.get(id_, owner=ole), [theirs, NOBODY, 0, -1]),
            (lambda tx, id_: tx.conversations.rename(id_, "mine now", owner=ole), [theirs, NOBODY, 0, -1]),
            (lambda tx, id_: tx.conversations.delete(id_, owner=ole), [theirs, NOBODY, 0, -1]),
            (lambda tx, id_: tx.messages.add(id_, Role.USER, "mine", NOW, owner=ole), [theirs, NOBODY, 0, -1]),
            (lambda tx, id_: tx.answers.newest(id_, owner=ole), [theirs, NOBODY, 0, -1]),
            (lambda tx, id_: tx.answers.request_stop(id_, owner=ole), [theirs, NOBODY, 0, -1]),
            (lambda tx, id_: tx.answers.get(id_, owner=ole), [answer.id, NOBODY, 0, -1]),
            (lambda tx, name: tx.api_keys.get(name, owner=ole), ["Kari's", "none", ""]),
            (lambda tx, id_: tx.api_keys.save_sealed(id_, b"mine now", owner=ole), [key, NOBODY, 0, -1]),
        ]
        for act, things in refused:
            assert len({await refusal_of(database, act, thing) for thing in things}) == 1
        nothing: list[tuple[Callable[[Transaction, int], object], object, int]] = [
            (lambda tx, id_: tx.messages.of(id_, owner=ole), [], theirs),
            (lambda tx, id_: list(tx.messages.iter_newest_first(id_, owner=ole)), [], theirs),
            (lambda tx, id_: tx.answers.page(id_, owner=ole), [], theirs),
            (lambda tx, id_: tx.answers.text(id_, 0, owner=ole), "", answer.id),
            (lambda tx, id_: tx.answers.length(id_, owner=ole), 0, answer.id),
        ]
        for look, expected, thing in nothing:
            for id_ in (thing, NOBODY, 0, -1):
                assert await read(database, look, id_) == expected
        assert await database.read(lambda tx: tx.api_keys.of(ole)) == []
        assert await database.read(lambda tx: tx.conversations.page(ole)) == []

        assert await database.read(lambda tx: self._everything_of(tx, kari)) == before

    @staticmethod
    def _everything_of(tx: Transaction, owner: int) -> object:
        return [
            tx.users.get(owner),
            tx.api_keys.of(owner),
            [
                (each, tx.messages.of(each.id, owner=owner), tx.answers.page(each.id, owner=owner))
                for each in tx.conversations.page(owner)
            ],
        ]

    async def test_deleting_a_conversation_takes_all_of_it_along_and_nothing_else(self, database: Database) -> None:
        owner = await someone(database)
        gone, kept = await conversation_of(database, owner), await conversation_of(database, owner)
        ended, running = await ask(database, owner, gone), await ask(database, owner, kept)
        await end(database, ended, "text")
        ended_too = await ask_again(database, owner, ended)
        await checkpoint(database, (ended_too, 0, "half"), (running, 0, "half"))
        await add_key(database, owner, "key")
        before = await database.read(lambda tx: tx.messages.of(kept, owner=owner))

        await database.write(lambda tx: tx.conversations.delete(gone, owner=owner))
        assert [each.id for each in await database.read(lambda tx: tx.conversations.page(owner))] == [kept]
        assert await spoken(database, owner, gone) == []
        assert await database.read(lambda tx: tx.answers.page(gone, owner=owner)) == []
        for answer in (ended, ended_too):
            assert await text_of(database, owner, answer) == ""
            with pytest.raises(AnswerNotFound):
                await record_of(database, owner, answer)
        with pytest.raises(ConversationNotFound):
            await database.write(lambda tx: tx.conversations.delete(gone, owner=owner))
        assert await database.read(lambda tx: tx.messages.of(kept, owner=owner)) == before
        assert await text_of(database, owner, running) == "half"
        assert len(await database.read(lambda tx: tx.api_keys.of(owner))) == 1

    # -- How long conversations are kept, and imports ------------------------------------------------------------------

    async def test_activity_is_what_stores_a_message_or_ends_an_answer_or_is_noted(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)

        async def active_at() -> datetime:
            retention = await database.read(lambda tx: tx.retentions.get(conversation, owner=owner))
            assert retention == Retention(retention.updated_at)
            return retention.updated_at

        assert await active_at() == NOW
        answer = await ask(database, owner, conversation)
        await end(database, answer, "")
        assert await active_at() == LATER
        latest = LATER + LEASE
        await database.write(lambda tx: tx.messages.add(conversation, Role.USER, "?", latest, owner=owner))
        assert await active_at() == latest
        await database.write(lambda tx: tx.retentions.note_activity(conversation, FAR, owner=owner))
        await database.write(lambda tx: tx.conversations.rename(conversation, "Codons", owner=owner))
        assert await active_at() == FAR
        assert await database.read(lambda tx: tx.retentions.any_due(FOR_EVER, LATER, latest))
        await database.write(lambda tx: tx.retentions.correct_future(latest))
        assert await active_at() == latest
        assert not await database.read(lambda tx: tx.retentions.any_due(FOR_EVER, LATER, latest))

    async def test_what_is_due_is_deleted_with_all_that_belongs_to_it_oldest_activity_first(
        self, database: Database
    ) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        ids = [await conversation_of(database, who, now=NOW + LEASE * n) for n, who in enumerate([owner, other] * 3)]
        await end(database, await ask(database, owner, ids[0]), "text")  # active LATER
        await database.write(lambda tx: tx.retentions.keep(ids[1], kept=True, owner=other))
        running = await ask(database, other, ids[3])
        await database.write(lambda tx: tx.imports.mark(ids[4], b"digest", FAR, owner=owner))
        policy, now = RetentionPolicy(timedelta(days=90)), NOW + timedelta(days=90)

        async def delete_due(at: datetime, policy: RetentionPolicy = policy, count: int = 10, size: int = 2**20) -> int:
            due = await database.read(lambda tx: tx.retentions.any_due(policy, at, FAR))
            deleted = await database.write(lambda tx: tx.retentions.delete_due(policy, at, count=count, size=size))
            assert due == bool(deleted)
            return deleted

        async def there() -> list[int]:
            return sorted([each.id for who in (owner, other) for each in await conversations_of(database, who)])

        assert await delete_due(now) == 0
        assert await delete_due(now + LEASE * 20, FOR_EVER) == 0
        assert await delete_due(now + LEASE * 20, count=1) == 1
        assert await there() == [ids[0], ids[1], ids[3], ids[4], ids[5]]
        assert await delete_due(now + LEASE * 20) == 1
        assert await delete_due(FAR) == 1
        assert await there() == [ids[1], ids[3], ids[4]]
        assert not await spoken(database, owner, ids[0])
        await end(database, running, "text")
        not_allowed = RetentionPolicy(policy.period, keeping_allowed=False)
        assert await delete_due(FAR, not_allowed) == 2
        assert await there() == [ids[4]]
        assert await delete_due(FAR + timedelta(days=91)) == 1

    async def test_a_temporary_conversation_is_due_after_a_day_whatever_else_holds(self, database: Database) -> None:
        owner = await someone(database)
        lasting, temporary, kept = [await conversation_of(database, owner) for _ in range(3)]
        for each in (temporary, kept):
            await database.write(lambda tx, each=each: tx.retentions.make_temporary(each, owner=owner))  # type: ignore[misc]
        await database.write(lambda tx: tx.retentions.keep(kept, kept=True, owner=owner))
        expected = Retention(NOW, kept=True, temporary=True)
        assert await database.read(lambda tx: tx.retentions.get(kept, owner=owner)) == expected
        day = NOW + timedelta(days=1)
        for at, found in ((day, 0), (day + LEASE, 1)):
            assert (
                await database.write(
                    lambda tx, at=at: tx.retentions.delete_due(FOR_EVER, at, count=10, size=2**20)  # type: ignore[misc]
                )
                == found
            )
        assert [each.id for each in await conversations_of(database, owner)] == [kept, lasting]
        await database.write(lambda tx: tx.retentions.keep(kept, kept=False, owner=owner))
        assert await database.write(lambda tx: tx.retentions.delete_due(FOR_EVER, FAR, count=10, size=2**20)) == 1

    async def test_only_one_conversation_exceeds_the_size_of_a_step(self, database: Database) -> None:
        owner = await someone(database)
        for _ in range(5):
            conversation = await conversation_of(database, owner)
            await say(database, owner, conversation, "x" * 1_000)
        policy = RetentionPolicy(timedelta(days=1))
        steps = [
            await database.write(lambda tx: tx.retentions.delete_due(policy, FAR, count=10, size=1_500))
            for _ in range(4)
        ]
        assert steps == [2, 2, 1, 0]

    async def test_retention_and_imports_are_the_owners(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        conversation = await conversation_of(database, owner)
        works: list[Callable[[Transaction], object]] = [
            lambda tx: tx.retentions.get(conversation, owner=other),
            lambda tx: tx.retentions.keep(conversation, kept=True, owner=other),
            lambda tx: tx.retentions.make_temporary(conversation, owner=other),
            lambda tx: tx.retentions.note_activity(conversation, FAR, owner=other),
            lambda tx: tx.imports.mark(conversation, b"digest", NOW, owner=other),
        ]
        for work in works:
            with pytest.raises(ConversationNotFound):
                await database.write(work)
        assert await database.read(lambda tx: tx.retentions.get(conversation, owner=owner)) == Retention(NOW)

    async def test_an_import_is_found_by_its_digest_until_it_is_deleted(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        conversation = await conversation_of(database, owner)

        async def found(who: int) -> int | None:
            return await database.read(lambda tx: tx.imports.find(b"digest", owner=who))

        assert await found(owner) is None
        await database.write(lambda tx: tx.imports.mark(conversation, b"digest", LATER, owner=owner))
        assert (await found(owner), await found(other)) == (conversation, None)
        retention = await database.read(lambda tx: tx.retentions.get(conversation, owner=owner))
        assert retention == Retention(NOW, imported_at=LATER)
        await delete(database, owner, conversation)
        assert await found(owner) is None

    # -- Messages ------------------------------------------------------------------------------------------------------

    @each_text
    async def test_a_message_is_read_back_as_it_was_stored(self, text: str, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        for role in Role:
            [stored] = await say(database, owner, conversation, text, role=role)
            assert (stored.conversation_id, stored.role, stored.content) == (conversation, role, text)
            assert stored.created_at == NOW
            assert (await database.read(lambda tx: tx.messages.of(conversation, owner=owner)))[-1] == stored

    async def test_messages_are_in_the_order_of_writing_whatever_the_times_say(self, database: Database) -> None:
        owner = await someone(database)
        conversation, second = await conversation_of(database, owner), await conversation_of(database, owner)

        def write(tx: Transaction) -> None:
            for number in range(10):
                time = NOW - timedelta(hours=number % 4)
                tx.messages.add(conversation, Role.USER, str(number), time, owner=owner)
                tx.messages.add(second, Role.USER, "elsewhere", NOW, owner=owner)

        await database.write(write)
        assert [text for _, text in await spoken(database, owner, conversation)] == list("0123456789")

    @pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 200, 250])
    async def test_messages_are_read_from_the_newest_back_however_many_they_are(
        self, count: int, database: Database
    ) -> None:
        owner = await someone(database)
        conversation, second = await conversation_of(database, owner), await conversation_of(database, owner)
        await say(database, owner, second, "elsewhere")
        messages = await say(database, owner, conversation, *(str(number) for number in range(count)))
        await say(database, owner, second, "elsewhere")

        def back(up_to: int | None) -> Callable[[Transaction], list[Message]]:
            return lambda tx: list(tx.messages.iter_newest_first(conversation, owner=owner, up_to=up_to))

        assert await database.read(back(None)) == messages[::-1]
        for place in {0, count // 2, count - 1} if count else set():
            assert await database.read(back(messages[place].id)) == messages[place::-1]
            assert await database.read(back(messages[place].id - 1)) == (messages[place - 1 :: -1] if place else [])

    async def test_the_system_message_is_found_wherever_it_stands(self, database: Database) -> None:
        owner = await someone(database)
        conversation, second = await conversation_of(database, owner), await conversation_of(database, owner)
        await say(database, owner, second, "elsewhere", role=Role.SYSTEM)
        await say(database, owner, conversation, "question")
        assert (await opening_of(database, owner, conversation)).system is None
        [system] = await say(database, owner, conversation, "You are BAiO.", role=Role.SYSTEM)
        await say(database, owner, conversation, "another", role=Role.SYSTEM)
        assert (await opening_of(database, owner, conversation)).system == system

    # -- Settings ------------------------------------------------------------------------------------------------------

    async def test_settings_are_as_saved_and_none_are_as_usual(self, database: Database) -> None:
        owner = await someone(database)
        conversation, other = await conversation_of(database, owner), await conversation_of(database, owner)
        await add_key(database, owner, "key")
        assert (await opening_of(database, owner, conversation)).settings == UNCHANGED
        for settings in (CHOSEN, ChatSettings(tools=()), replace(CHOSEN, apikey_nickname="key"), UNCHANGED):
            await save_settings(database, owner, conversation, settings)
            assert (await opening_of(database, owner, conversation)).settings == settings
            assert (await opening_of(database, owner, other)).settings == UNCHANGED

    async def test_settings_are_those_of_their_owner_and_name_keys_of_their_owner(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        conversation = await conversation_of(database, owner)
        await add_key(database, other, "key")
        with pytest.raises(ApiKeyNotFound):
            await save_settings(database, owner, conversation, ChatSettings(apikey_nickname="key"))
        for work in (save_settings(database, other, conversation, CHOSEN), opening_of(database, other, conversation)):
            with pytest.raises(ConversationNotFound):
                await work
        with pytest.raises(ApiKeyNotFound):
            await database.write(lambda tx: tx.presets.add(owner, "p", ChatSettings(apikey_nickname="key"), NOW))

    async def test_settings_follow_their_key_and_lose_one_that_is_deleted(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        await add_key(database, owner, "key")
        chosen = replace(CHOSEN, apikey_nickname="key")
        await save_settings(database, owner, conversation, chosen)
        await database.write(lambda tx: tx.presets.add(owner, "preset", chosen, NOW))

        async def nicknames() -> set[str | None]:
            preset = await database.read(lambda tx: tx.presets.get("preset", owner=owner))
            settings = (await opening_of(database, owner, conversation)).settings
            assert replace(settings, apikey_nickname=None) == CHOSEN
            return {settings.apikey_nickname, preset.settings.apikey_nickname}

        await database.write(lambda tx: tx.api_keys.rename("key", "lab", owner=owner))
        assert await nicknames() == {"lab"}
        await database.write(lambda tx: tx.api_keys.delete("lab", owner=owner))
        assert await nicknames() == {None}

    @each_text
    async def test_settings_count_what_they_store(self, database: Database, text: str) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        for settings in (ChatSettings(text), ChatSettings(f"{text}{text}"), UNCHANGED):
            await save_settings(database, owner, conversation, settings)
            stored = await database.read(lambda tx: tx.conversations.get(conversation, owner=owner))
            assert stored.stored_bytes == len((settings.system or "").encode())

    async def test_presets_have_names_of_their_own_and_are_in_order(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        made = [
            await database.write(lambda tx, name=name: tx.presets.add(owner, name, CHOSEN, NOW))  # type: ignore[misc]
            for name in ("b", "a")
        ]
        assert await database.read(lambda tx: tx.presets.of(owner)) == made
        assert await database.read(lambda tx: tx.presets.of(other)) == []
        with pytest.raises(InvalidInput, match="name: is already taken"):
            await database.write(lambda tx: tx.presets.add(owner, "a", UNCHANGED, NOW))
        for work in (
            lambda tx: tx.presets.get("c", owner=owner),
            lambda tx: tx.presets.get("a", owner=other),
            lambda tx: tx.presets.delete("a", owner=other),
        ):
            with pytest.raises(PresetNotFound):
                await database.write(work)
        await database.write(lambda tx: tx.presets.delete("b", owner=owner))
        assert await database.read(lambda tx: tx.presets.of(owner)) == made[1:]
        with pytest.raises(AccountNotFound):
            await database.write(lambda tx: tx.presets.add(NOBODY, "a", UNCHANGED, NOW))

    async def test_with_what_an_answer_was_made_is_known_and_counts(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        used = [
            UsedSettings(),
            UsedSettings("Be brief. \N{DNA DOUBLE HELIX}", {"seed": 7}, ()),
            UsedSettings(left_out=("seed",)),
        ]
        answers = []
        for settings in used:

            def begin_with(tx: Transaction, settings: UsedSettings = settings) -> Answer:
                question = tx.messages.add(conversation, Role.USER, "?", NOW, owner=owner)
                provider = ensure_provider(tx)
                new = NewAnswer(question, owner, provider, "m", NOW, NOW + LEASE, max_running=1, settings=settings)
                return tx.answers.begin(new)

            answers.append(await database.write(begin_with))
            before = (await database.read(lambda tx: tx.conversations.get(conversation, owner=owner))).stored_bytes
            await end(database, answers[-1], "", COMPLETE)
            after = (await database.read(lambda tx: tx.conversations.get(conversation, owner=owner))).stored_bytes
            assert after - before == RECORD_BYTES + len((settings.text or "").encode())

        def known(tx: Transaction) -> dict[int, UsedSettings]:
            return tx.answers.settings(conversation, owner=owner, first=answers[0].id, last=answers[-1].id)

        assert await database.read(known) == {answers[1].id: used[1], answers[2].id: used[2]}
        other = await someone(database, "kari")
        assert await database.read(lambda tx: tx.answers.settings(conversation, owner=other, first=0, last=99)) == {}

    async def test_parameters_that_the_provider_refused_are_noted_at_the_end(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        answer = await ask(database, owner, conversation)
        await end(database, answer, "text", replace(COMPLETE, unused_parameters=("top_p", "seed")))
        found = await database.read(
            lambda tx: tx.answers.settings(conversation, owner=owner, first=answer.id, last=answer.id)
        )
        assert found == {answer.id: UsedSettings(left_out=("top_p", "seed"))}

    # -- Answers: their lives ------------------------------------------------------------------------------------------

    async def test_a_running_answer_is_recorded(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        answer = await ask(database, owner, conversation)
        assert (answer.conversation_id, answer.state) == (conversation, AnswerState.RUNNING)
        assert (answer.requested_model, answer.started_at) == ("gpt-4o", NOW)
        assert (answer.finish_reason, answer.model, answer.reason, answer.ended_at) == (None, None, None, None)
        assert await record_of(database, owner, answer) == answer
        assert await database.read(lambda tx: tx.answers.newest(conversation, owner=owner)) == answer
        assert await database.read(lambda tx: tx.answers.page(conversation, owner=owner)) == [answer]

    async def test_a_conversation_without_answers_has_no_newest_one(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        with pytest.raises(AnswerNotFound):
            await database.read(lambda tx: tx.answers.newest(conversation, owner=owner))
        assert await database.read(lambda tx: tx.answers.page(conversation, owner=owner)) == []

    async def test_answers_are_read_page_by_page(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        conversation = await conversation_of(database, owner)
        answers = []
        for number in range(3):
            answer = await ask(database, owner, conversation)
            await end(database, answer, str(number))
            answers.append(await record_of(database, owner, answer))

        def page(tx: Transaction, after: int, limit: int, owner: int = owner) -> list[Answer]:
            return tx.answers.page(conversation, owner=owner, after=after, limit=limit)

        assert await read(database, page, 0, 2) == answers[:2]
        assert await read(database, page, answers[1].id, 2) == answers[2:]
        assert await read(database, page, answers[2].id, 2) == []
        assert await read(database, page, 0, 2, other) == []

    async def test_messages_have_their_answers_and_questions_their_newest_one(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        conversation, elsewhere = await conversation_of(database, owner), await conversation_of(database, owner)
        first = await ask(database, owner, conversation)
        await end(database, first, "first")
        await end(database, await ask(database, owner, elsewhere), "elsewhere")
        replaced = await ask(database, owner, conversation)
        await end(database, replaced, "replaced")
        second = await ask_again(database, owner, replaced)
        await end(database, second, "second")
        failed = await ask_again(database, owner, replaced)
        await end(database, failed, "", Outcome(AnswerState.FAILED, reason="x"))
        running = await ask(database, owner, conversation)
        said = await read(database, lambda tx: tx.messages.of(conversation, owner=owner))
        questions = [message.id for message in said if message.role is Role.USER]
        texts = {message.content: message.id for message in said if message.role is Role.BAIO}

        def of_messages(tx: Transaction, first: int, last: int, owner: int = owner) -> dict[int, Answer]:
            return tx.answers.of_messages(conversation, owner=owner, first=first, last=last)

        whole = {
            questions[0]: await record_of(database, owner, first),
            texts["first"]: await record_of(database, owner, first),
            questions[1]: await record_of(database, owner, failed),
            texts["second"]: await record_of(database, owner, second),
            questions[2]: running,
        }
        assert await read(database, of_messages, said[0].id, said[-1].id) == whole
        some = {message_id: whole[message_id] for message_id in (texts["first"], questions[1])}
        assert await read(database, of_messages, texts["first"], questions[1]) == some
        assert await read(database, of_messages, said[-1].id + 1, 2**63 - 1) == {}
        assert await read(database, of_messages, said[0].id, said[-1].id, other) == {}

    async def test_every_kept_text_that_is_in_no_message_is_found(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        conversation = await conversation_of(database, owner)
        first = await ask(database, owner, conversation)
        await end(database, first, "first")
        failed = await ask_again(database, owner, first)
        await end(database, failed, "", Outcome(AnswerState.FAILED, reason="x"))
        second = await ask_again(database, owner, first)
        await end(database, second, "second")
        await end(database, await ask_again(database, owner, first), "third")
        running = await ask(database, owner, conversation)
        await checkpoint(database, (running, 0, "half "), (running, 5, "an answer"))

        def texts(tx: Transaction, owner: int) -> list[tuple[int, str]]:
            found: list[tuple[int, str]] = []
            while (
                text := tx.answers.next_text(conversation, owner=owner, after=found[-1][0] if found else 0)
            ) is not None:
                found.append(text)
            return found

        kept = [(first.id, "first"), (second.id, "second")]
        assert await read(database, texts, owner) == [*kept, (running.id, "half an answer")]
        await end(database, running, "half an answer.")
        assert await read(database, texts, owner) == kept
        assert await read(database, texts, other) == []

    @pytest.mark.parametrize(
        "outcome",
        [COMPLETE, Outcome(AnswerState.TRUNCATED, "length", reason="longest-answer"), Outcome(AnswerState.STOPPED),
         Outcome(AnswerState.FAILED, reason="key-refused"), Outcome(AnswerState.COMPLETE, usage=Usage(0, 0)),
         Outcome(AnswerState.COMPLETE, usage=Usage(2**40, 2**40)), Outcome(AnswerState.INTERRUPTED, None, "m\u030a"),
         Outcome(AnswerState.COMPLETE, usage=Usage(1, 9, 8), thinking_seconds=0.125)],
    )  # fmt: skip
    async def test_an_ended_answer_is_recorded_as_it_ended(self, outcome: Outcome, database: Database) -> None:
        owner = await someone(database)
        answer = await ask(database, owner, await conversation_of(database, owner))
        assert await end(database, answer, "text", outcome)
        record = await record_of(database, owner, answer)
        usage = outcome.usage
        assert record == replace(
            answer,
            state=outcome.state,
            finish_reason=outcome.finish_reason,
            model=outcome.model,
            prompt_tokens=usage.prompt_tokens if usage else None,
            completion_tokens=usage.completion_tokens if usage else None,
            reason=outcome.reason,
            ended_at=LATER,
            thinking_seconds=outcome.thinking_seconds,
            thinking_tokens=usage.thinking_tokens if usage else None,
        )

    @each_text
    async def test_the_text_of_an_ended_answer_is_baios_message_unless_it_is_empty(
        self, text: str, database: Database
    ) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        answer = await ask(database, owner, conversation)
        assert await end(database, answer, text)
        messages = await database.read(lambda tx: tx.messages.of(conversation, owner=owner))
        assert [(each.role, each.content) for each in messages[1:]] == ([(Role.BAIO, text)] if text else [])
        assert [each.created_at for each in messages[1:]] == ([LATER] if text else [])
        assert await text_of(database, owner, answer) == text

    async def test_an_answer_ends_once(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        answer = await ask(database, owner, conversation)
        assert await end(database, answer, "first") is True
        record = await record_of(database, owner, answer)
        assert await end(database, answer, "second", Outcome(AnswerState.FAILED)) is False
        assert await end(database, answer, "", Outcome(AnswerState.FAILED)) is False
        assert await record_of(database, owner, answer) == record
        assert await spoken(database, owner, conversation) == [("user", "?"), ("baio", "first")]

    async def test_an_answer_that_is_gone_cannot_be_ended(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        answer = await ask(database, owner, conversation)
        await checkpoint(database, (answer, 0, "half"))
        await database.write(lambda tx: tx.conversations.delete(conversation, owner=owner))
        assert await end(database, answer, "text") is False
        assert await end(database, answer, "") is False
        assert await database.write(lambda tx: tx.answers.end(NOBODY, COMPLETE, "text", NOW)) is False
        assert await spoken(database, owner, conversation) == []
        assert await text_of(database, owner, answer) == ""

    async def test_a_conversation_has_one_running_answer_and_says_which(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        answer = await ask(database, owner, conversation)
        elsewhere = await ask(database, owner, await conversation_of(database, owner))
        with pytest.raises(AnswerRunning) as refused:
            await ask(database, owner, conversation, "and now?")
        assert refused.value.members == {"answer_id": answer.id}
        assert await spoken(database, owner, conversation) == [("user", "?")]
        await end(database, answer, "")
        after = await ask(database, owner, conversation, "and now?")
        assert len({answer.id, elsewhere.id, after.id}) == 3
        answers = await database.read(lambda tx: tx.answers.page(conversation, owner=owner))
        assert [each.id for each in answers] == [answer.id, after.id]
        assert await database.read(lambda tx: tx.answers.newest(conversation, owner=owner)) == after

    async def test_an_owner_has_at_most_so_many_running_answers(self, database: Database) -> None:
        owner, other = await someone(database, "ole"), await someone(database, "kari")

        def ask_with(max_running: int, conversation: int, by: int) -> Callable[[Transaction], Answer]:
            def work(tx: Transaction) -> Answer:
                question = tx.messages.add(conversation, Role.USER, "?", NOW, owner=by)
                return begin(tx, question, by, max_running=max_running)

            return work

        async def asked(max_running: int, by: int = owner) -> Answer:
            return await database.write(ask_with(max_running, await conversation_of(database, by), by))

        first, second = await asked(2), await asked(2)
        with pytest.raises(TooManyAnswers) as refused:
            await asked(2)
        assert refused.value.retry_after is not None
        await asked(2, other)
        third = await asked(3)
        await end(database, first, "")
        # Fewer are allowed now than before, and two run, whichever two they are.
        for max_running in (1, 2):
            with pytest.raises(TooManyAnswers):
                await asked(max_running)
        await end(database, second, "")
        with pytest.raises(TooManyAnswers):
            await asked(1)
        await end(database, third, "")
        assert (await asked(1)).state is AnswerState.RUNNING

    async def test_answers_in_no_conversation_count_among_those_that_run(self, database: Database) -> None:
        owner, other = await someone(database, "ole"), await someone(database, "kari")
        conversation = await conversation_of(database, owner)
        first, second = [await ask_unstored(database, owner, max_running=3) for _ in range(2)]
        assert (first.conversation_id, first.question_id, first.stored) == (0, 0, False)
        assert await record_of(database, owner, first) == first
        stored = await ask(database, owner, conversation)
        with pytest.raises(TooManyAnswers):
            await ask_unstored(database, owner, max_running=3)
        await ask_unstored(database, other, max_running=1)
        assert await end(database, first, "text")
        assert (await ask_unstored(database, owner, max_running=3)).id not in (first.id, second.id, stored.id)

    async def test_of_an_answer_in_no_conversation_only_its_tokens_are_left(self, database: Database) -> None:
        owner, other, day = await someone(database), await someone(database, "kari"), NOW.date()
        counted, estimated, mute = [await ask_unstored(database, owner) for _ in range(3)]
        await checkpoint(database, (counted, 0, ""))
        assert await end(database, counted, "", Outcome(AnswerState.COMPLETE, "tool_calls", usage=Usage(31, 4)))
        assert await end(database, estimated, "some text", Outcome(AnswerState.STOPPED))
        assert await end(database, mute, "", Outcome(AnswerState.FAILED, reason="provider-broken"))
        for answer in (counted, estimated, mute):
            assert await end(database, answer, "text") is False
            with pytest.raises(AnswerNotFound):
                await record_of(database, owner, answer)
            assert await text_of(database, owner, answer) == ""
        completion = 4 + estimated_tokens("some text")
        row = DayOfUsage(day, "OpenAI", "gpt-4o", 2, 31 + 9, completion, estimated=True)
        assert await database.read(lambda tx: tx.ledger.of(owner, day, day)) == [row]
        assert await database.read(lambda tx: tx.ledger.of(other, day, day)) == []

    async def test_answers_in_no_conversation_end_with_their_worker_and_lease(self, database: Database) -> None:
        owner = await someone(database)
        dead, expired, spared = [await ask_unstored(database, owner, worker=each) for each in (DEAD, None, None)]
        assert await bury(database, {DEAD}) == [dead.id]
        assert await expire(database, sparing=(spared.id,)) == [expired.id]
        for answer in (dead, expired):
            with pytest.raises(AnswerNotFound):
                await record_of(database, owner, answer)
        assert (await record_of(database, owner, spared)).state is AnswerState.RUNNING
        assert await database.read(lambda tx: tx.ledger.of(owner, NOW.date(), NOW.date())) == []

    async def test_answers_in_no_conversation_are_asked_to_stop_with_key_and_account(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")

        def add_key(tx: Transaction) -> int:
            return tx.api_keys.add(owner, ensure_provider(tx), "key", NOW).id

        key_id = await database.write(add_key)
        with_key, without, others = (
            await ask_unstored(database, owner, key_id=key_id),
            await ask_unstored(database, owner),
            await ask_unstored(database, other),
        )
        ids = [with_key.id, without.id, others.id]

        async def stopping() -> frozenset[int]:
            return (await database.write(lambda tx: tx.answers.checkpoint([], ids, NOW + LEASE))).stopping

        assert await database.write(lambda tx: tx.api_keys.delete("key", owner=owner)) == [with_key.id]
        assert await stopping() == {with_key.id}
        await disable(database, owner)
        assert await stopping() == {with_key.id, without.id}
        assert await database.write(lambda tx: tx.users.delete(owner)) == [with_key.id, without.id]
        assert (await database.write(lambda tx: tx.answers.checkpoint([], ids, NOW + LEASE))).running == {others.id}

    async def test_a_new_answer_takes_the_place_of_the_old_one_to_the_same_question(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        first = await ask(database, owner, conversation, "first?")
        await end(database, first, "One.")
        second = await ask(database, owner, conversation, "second?")
        await end(database, second, "Two.")
        again = await ask_again(database, owner, second)
        assert again.question_id == second.question_id
        assert (await spoken(database, owner, conversation))[-1] == ("baio", "Two.")
        await end(database, again, "Two again.")
        said = [("user", "first?"), ("baio", "One."), ("user", "second?"), ("baio", "Two again.")]
        assert await spoken(database, owner, conversation) == said
        assert await text_of(database, owner, again) == "Two again."
        assert await text_of(database, owner, second) == "Two."
        assert await text_of(database, owner, first) == "One."
        assert (await record_of(database, owner, second)).state is AnswerState.COMPLETE

        for number in range(3):
            once_more = await ask_again(database, owner, second)
            await checkpoint(database, (once_more, 0, "Two"))
            await end(database, once_more, f"Two, {number}.")
        said[-1] = ("baio", "Two, 2.")
        assert await spoken(database, owner, conversation) == said
        answers = await answers_of(database, owner, conversation)
        texts = [await text_of(database, owner, answer) for answer in answers]
        assert texts == ["One.", "Two.", "Two again.", "Two, 0.", "Two, 1.", "Two, 2."]
        assert [await length_of(database, owner, answer) for answer in answers] == [len(text) for text in texts]

        without_text = await ask_again(database, owner, second)
        await end(database, without_text, "", Outcome(AnswerState.FAILED))
        assert await spoken(database, owner, conversation) == said
        assert await end(database, without_text, "too late") is False
        assert await end(database, second, "too late") is False
        assert await spoken(database, owner, conversation) == said

    # -- Answers: checkpoints and leases -------------------------------------------------------------------------------

    async def test_checkpoints_are_joined_in_order(self, database: Database) -> None:
        owner = await someone(database)
        one = await ask(database, owner, await conversation_of(database, owner))
        two = await ask(database, owner, await conversation_of(database, owner))
        await checkpoint(database, (one, 0, "a\N{DNA DOUBLE HELIX}"), (two, 0, "x"))
        await checkpoint(database, (one, 2, "cd"))
        await checkpoint(database, (two, 1, "y"), (one, 4, "e" * 12))
        await checkpoint(database, (one, 16, "f"))
        whole = "a\N{DNA DOUBLE HELIX}cd" + "e" * 12 + "f"
        for offset in range(len(whole) + 2):
            assert await text_of(database, owner, one, offset) == whole[offset:]
        assert await text_of(database, owner, two) == "xy"
        for answer, text in ((one, whole), (two, "xy")):
            assert await length_of(database, owner, answer) == len(text)

    async def test_an_answer_without_text_yet_has_none(self, database: Database) -> None:
        owner = await someone(database)
        answer = await ask(database, owner, await conversation_of(database, owner))
        assert await text_of(database, owner, answer) == ""
        assert await text_of(database, owner, answer, 5) == ""
        assert await length_of(database, owner, answer) == 0

    @each_text
    async def test_a_checkpoint_is_read_back_as_it_was_stored(self, text: str, database: Database) -> None:
        text = text or "not nothing: an empty piece is none"
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        answer = await ask(database, owner, conversation)
        await checkpoint(database, (answer, 0, text))
        await checkpoint(database, (answer, len(text), text))
        assert await text_of(database, owner, answer, 1) == (text * 2)[1:]
        assert await length_of(database, owner, answer) == 2 * len(text)
        assert await expire(database) == [answer.id]
        assert (await spoken(database, owner, conversation))[-1] == ("baio", text * 2)
        assert await length_of(database, owner, answer) == 2 * len(text)

    async def test_a_checkpoint_that_is_sent_again_stores_its_text_once(self, database: Database) -> None:
        # The commit arrived, its confirmation did not: the process sends all that is not confirmed, and what is new.
        owner = await someone(database)
        answer = await ask(database, owner, await conversation_of(database, owner))
        await checkpoint(database, (answer, 0, "ab"))
        await checkpoint(database, (answer, 2, "cd"))
        await checkpoint(database, (answer, 2, "cdef"))
        assert await text_of(database, owner, answer) == "abcdef"
        await checkpoint(database, (answer, 6, "g"))
        assert await text_of(database, owner, answer) == "abcdefg"

    async def test_a_checkpoint_says_what_still_runs_and_what_to_stop(self, database: Database) -> None:
        owner = await someone(database)
        conversations = [await conversation_of(database, owner) for _ in range(4)]
        running, ended, deleted, stopping = [await ask(database, owner, each) for each in conversations]
        await end(database, ended, "")
        await database.write(lambda tx: tx.conversations.delete(conversations[2], owner=owner))
        assert await database.write(lambda tx: tx.answers.request_stop(conversations[3], owner=owner)) == stopping.id
        ids = [running.id, ended.id, deleted.id, stopping.id, NOBODY]
        standing = await database.write(lambda tx: tx.answers.checkpoint([], ids, NOW + LEASE))
        assert standing.running == {running.id, stopping.id}
        assert standing.stopping == {stopping.id}
        nothing = await database.write(lambda tx: tx.answers.checkpoint([], [], NOW + LEASE))
        assert (nothing.running, nothing.stopping) == (frozenset(), frozenset())

    async def test_the_text_of_an_answer_that_no_longer_runs_is_not_stored(self, database: Database) -> None:
        owner = await someone(database)
        conversation, gone = await conversation_of(database, owner), await conversation_of(database, owner)
        running = await ask(database, owner, await conversation_of(database, owner))
        ended, deleted = await ask(database, owner, conversation), await ask(database, owner, gone)
        await end(database, ended, "text")
        await database.write(lambda tx: tx.conversations.delete(gone, owner=owner))
        await checkpoint(database, (ended, 4, " more"), (deleted, 0, "more"), (running, 0, "running"))
        assert await text_of(database, owner, ended) == "text"
        assert await text_of(database, owner, deleted) == ""
        assert await text_of(database, owner, running) == "running"
        assert await spoken(database, owner, conversation) == [("user", "?"), ("baio", "text")]

    async def test_an_answer_whose_lease_is_over_ends_as_interrupted_with_its_checkpoints(
        self, database: Database
    ) -> None:
        owner = await someone(database)
        conversations = [await conversation_of(database, owner) for _ in range(5)]
        short, mute, long, prolonged, spared = [
            await ask(database, owner, each, lease=lease)
            for each, lease in zip(conversations, [LEASE, LEASE, 10 * LEASE, LEASE, LEASE], strict=True)
        ]
        await checkpoint(database, (short, 0, "some "), (spared, 0, "some"))
        await checkpoint(database, (short, 5, "text"))
        await checkpoint(database, (prolonged, 0, "alive"), lease_until=NOW + 10 * LEASE)
        assert await expire(database, NOW) == []
        now = NOW + LEASE + timedelta(seconds=1)
        assert await expire(database, now, (spared.id,)) == [short.id, mute.id]
        record = await record_of(database, owner, short)
        assert (record.state, record.reason, record.ended_at) == (AnswerState.INTERRUPTED, "lost", now)
        assert await spoken(database, owner, conversations[0]) == [("user", "?"), ("baio", "some text")]
        assert await spoken(database, owner, conversations[1]) == [("user", "?")]
        for answer in (long, prolonged, spared):
            assert (await record_of(database, owner, answer)).state is AnswerState.RUNNING
        assert await expire(database, now, (spared.id,)) == []
        assert await end(database, short, "too late") is False
        assert await expire(database, now) == [spared.id]

    async def test_the_answers_of_a_dead_worker_end_as_interrupted_with_their_checkpoints(
        self, database: Database
    ) -> None:
        owner = await someone(database)
        conversations = [await conversation_of(database, owner) for _ in range(6)]
        told, mute, other, free, spared, over = [
            await ask(database, owner, each, worker=worker)
            for each, worker in zip(conversations, [DEAD, DEAD, 2, None, DEAD, DEAD], strict=True)
        ]
        await database.write(lambda tx: tx.answers.checkpoint([AnswerPart(told.id, 0, "half")], [told.id], LATER, DEAD))
        await end(database, over, "whole")
        assert await database.read(lambda tx: tx.answers.workers()) == {DEAD, 2}
        assert await bury(database, {DEAD, 3}, (spared.id,)) == [told.id, mute.id]
        record = await record_of(database, owner, told)
        assert (record.state, record.reason, record.ended_at) == (AnswerState.INTERRUPTED, "lost", LATER)
        assert [await spoken(database, owner, each) for each in conversations[:2]] == [
            [("user", "?"), ("baio", "half")],
            [("user", "?")],
        ]
        for answer in (other, free, spared):
            assert (await record_of(database, owner, answer)).state is AnswerState.RUNNING
        assert await bury(database, {DEAD}) == [spared.id]
        assert await bury(database, {DEAD}) == []
        assert await database.read(lambda tx: tx.answers.workers()) == {2}

    async def test_a_checkpoint_says_under_which_number_its_worker_lives_now(self, database: Database) -> None:
        owner = await someone(database)
        moved, left = [
            await ask(database, owner, await conversation_of(database, owner), worker=DEAD) for _ in range(2)
        ]
        await database.write(lambda tx: tx.answers.checkpoint([], [moved.id], NOW + LEASE, 2))
        assert await database.read(lambda tx: tx.answers.workers()) == {DEAD, 2}
        assert await bury(database, {DEAD}) == [left.id]
        await checkpoint(database, (moved, 0, "without a lock"))
        assert await database.read(lambda tx: tx.answers.workers()) == frozenset()

    async def test_an_answer_of_a_worker_that_lives_is_spared_though_its_lease_is_over(
        self, database: Database
    ) -> None:
        owner = await someone(database)
        alive, unknown, free = [
            await ask(database, owner, await conversation_of(database, owner), worker=worker) for worker in (2, 3, None)
        ]

        def reap(tx: Transaction) -> list[int]:
            return tx.answers.end_expired(LATER, FAR, except_ids=(), except_workers={2})

        assert await database.write(reap) == [unknown.id, free.id]
        assert await expire(database) == [alive.id]

    async def test_the_checkpoints_of_an_ended_answer_are_not_kept(self, database: Database) -> None:
        owner = await someone(database)
        answer = await ask(database, owner, await conversation_of(database, owner))
        await checkpoint(database, (answer, 0, "checkpointed"))
        await end(database, answer, "", Outcome(AnswerState.FAILED))
        assert await text_of(database, owner, answer) == ""
        assert await length_of(database, owner, answer) == 0

    async def test_asking_to_stop_finds_the_running_answer_and_nothing_else(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        with pytest.raises(AnswerNotFound):
            await database.write(lambda tx: tx.answers.request_stop(conversation, owner=owner))
        ended = await ask(database, owner, conversation)
        await end(database, ended, "text")
        with pytest.raises(AnswerNotFound):
            await database.write(lambda tx: tx.answers.request_stop(conversation, owner=owner))
        running = await ask_again(database, owner, ended)
        for _ in range(2):
            assert await database.write(lambda tx: tx.answers.request_stop(conversation, owner=owner)) == running.id
        assert (await record_of(database, owner, running)).state is AnswerState.RUNNING
        assert await end(database, running, "more", Outcome(AnswerState.STOPPED))
        after = await ask_again(database, owner, ended)
        standing = await database.write(lambda tx: tx.answers.checkpoint([], [after.id], NOW + LEASE))
        assert standing.stopping == frozenset()

    # -- Answers: many at once -----------------------------------------------------------------------------------------

    async def test_of_many_questions_at_once_in_one_conversation_one_is_answered(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        await database.write(ensure_provider)
        done, refusals = await all_of([ask(database, owner, conversation, str(number)) for number in range(40)])
        [answer] = done
        assert {type(refusal) for refusal in refusals} == {AnswerRunning}
        assert {refusal.members["answer_id"] for refusal in refusals} == {answer.id}
        assert len(await spoken(database, owner, conversation)) == 1

    @pytest.mark.parametrize("max_running", [1, 3, 40])
    async def test_of_many_questions_at_once_by_one_owner_as_many_as_allowed_are_answered(
        self, max_running: int, database: Database
    ) -> None:
        owner = await someone(database)
        conversations = [await conversation_of(database, owner) for _ in range(40)]
        await database.write(ensure_provider)

        def ask_in(conversation: int) -> Callable[[Transaction], Answer]:
            def work(tx: Transaction) -> Answer:
                question = tx.messages.add(conversation, Role.USER, "?", NOW, owner=owner)
                return begin(tx, question, owner, max_running=max_running)

            return work

        done, refusals = await all_of([database.write(ask_in(each)) for each in conversations])
        assert {type(refusal) for refusal in refusals} <= {TooManyAnswers}
        assert len(done) == max_running

    async def test_an_answer_that_ends_in_many_places_at_once_ends_in_one(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        for _ in range(5):
            answer = await ask(database, owner, conversation)
            await checkpoint(database, (answer, 0, "checkpointed"))

            async def reap(answer: Answer = answer) -> bool:
                return answer.id in await expire(database)

            acts: list[Awaitable[bool]] = [end(database, answer, f"text {number}") for number in range(8)]
            done, refusals = await all_of([*acts, reap(), reap()])
            assert sorted(done) == [False] * 9 + [True]
            assert refusals == []
        roles = [role for role, _ in await spoken(database, owner, conversation)]
        assert roles == ["user", "baio"] * 5

    async def test_a_question_in_a_conversation_that_is_being_deleted_is_refused_or_deleted_with_it(
        self, database: Database
    ) -> None:
        owner = await someone(database)
        await database.write(ensure_provider)
        for _ in range(5):
            conversation = await conversation_of(database, owner)
            acts: list[Awaitable[object]] = [ask(database, owner, conversation) for _ in range(6)]
            acts.insert(3, delete(database, owner, conversation))
            _, refusals = await all_of(acts)
            assert {type(refusal) for refusal in refusals} <= {ConversationNotFound, AnswerRunning}
            assert await spoken(database, owner, conversation) == []
            assert await answers_of(database, owner, conversation) == []

    # -- Keys ----------------------------------------------------------------------------------------------------------

    async def test_a_key_is_reserved_without_and_read_back_with_its_ciphertext(self, database: Database) -> None:
        owner = await someone(database)
        sealed = bytes(range(256)) * 20
        provider = await database.write(ensure_provider)
        key = await database.write(lambda tx: tx.api_keys.add(owner, provider, "OpenAI Key", NOW))
        assert (key.user_id, key.provider_id, key.nickname, key.sealed, key.created_at) == (
            owner, provider, "OpenAI Key", b"", NOW,
        )  # fmt: skip
        assert await database.read(lambda tx: tx.api_keys.get("OpenAI Key", owner=owner)) == key
        await database.write(lambda tx: tx.api_keys.save_sealed(key.id, sealed, owner=owner))
        read = await database.read(lambda tx: tx.api_keys.get("OpenAI Key", owner=owner))
        assert read == replace(key, sealed=sealed)
        assert isinstance(read.sealed, bytes)
        assert await database.read(lambda tx: tx.api_keys.of(owner)) == [read]

    async def test_a_nickname_is_unique_among_one_owners_keys_to_the_letter(self, database: Database) -> None:
        ole, kari = await someone(database, "ole"), await someone(database, "kari")
        names = ["OpenAI Key", "openai key", "OpenAI Key ", "A\u030a", "\u00c5", "\N{KEY}"]
        for name in names:
            await add_key(database, ole, name, name.encode())
        await add_key(database, kari, "OpenAI Key", b"kari's")
        for name in names:
            with pytest.raises(InvalidInput) as refused:
                await add_key(database, ole, name)
            assert [error.field for error in refused.value.errors] == ["nickname"]
            assert (await key_of(database, ole, name)).sealed == name.encode()
        assert (await key_of(database, kari, "OpenAI Key")).sealed == b"kari's"
        with pytest.raises(ApiKeyNotFound):
            await key_of(database, ole, "OPENAI KEY")

    async def test_keys_are_listed_in_the_order_of_adding(self, database: Database) -> None:
        ole, kari = await someone(database, "ole"), await someone(database, "kari")
        for name in "zambq":
            await add_key(database, ole, name)
            await add_key(database, kari, name)
        await database.write(lambda tx: tx.api_keys.save_sealed(tx.api_keys.get("z", owner=ole).id, b"new", owner=ole))
        for owner in (ole, kari):
            listed = await keys_of(database, owner)
            assert [key.nickname for key in listed] == list("zambq")
            assert {key.user_id for key in listed} == {owner}

    async def test_of_many_keys_under_one_nickname_at_once_one_is_stored(self, database: Database) -> None:
        owner = await someone(database)
        await database.write(ensure_provider)
        done, refusals = await all_of([add_key(database, owner, "key", bytes([number])) for number in range(20)])
        assert len(done) == 1
        assert {type(refusal) for refusal in refusals} == {InvalidInput}
        assert {error.field for refusal in refusals for error in refusal.errors} == {"nickname"}
        assert len(await database.read(lambda tx: tx.api_keys.of(owner))) == 1

    # -- Idempotency ---------------------------------------------------------------------------------------------------

    async def test_what_a_request_led_to_is_remembered_for_its_owner_and_its_key(self, database: Database) -> None:
        ole, kari = await someone(database, "ole"), await someone(database, "kari")

        async def found(owner: int, key: str, mark: bytes, since: datetime = NOW - LEASE) -> IdempotencyRecord | None:
            return await database.read(lambda tx: tx.idempotency.find(owner, key, mark, since))

        assert await found(ole, "k", b"mark") is None
        await database.write(lambda tx: tx.idempotency.remember(ole, "k", b"\x00\xffmark", 2**40, NOW))
        assert await found(ole, "k", b"\x00\xffmark") == IdempotencyRecord(2**40, NOW)
        assert await found(kari, "k", b"\x00\xffmark") is None
        for key in ("K", "k ", "", "\N{KEY}"):
            assert await found(ole, key, b"\x00\xffmark") is None
        with pytest.raises(IdempotencyKeyReused):
            await found(ole, "k", b"another")
        assert await found(ole, "k", b"\x00\xffmark", since=NOW) == IdempotencyRecord(2**40, NOW)
        for mark in (b"\x00\xffmark", b"another"):
            assert await found(ole, "k", mark, since=NOW + timedelta(microseconds=1)) is None

    async def test_a_key_that_has_expired_can_be_used_again(self, database: Database) -> None:
        owner = await someone(database)
        await database.write(lambda tx: tx.idempotency.remember(owner, "k", b"old", 1, NOW))
        await database.write(lambda tx: tx.idempotency.remember(owner, "k", b"new", 2, LATER))
        found = await database.read(lambda tx: tx.idempotency.find(owner, "k", b"new", NOW))
        assert found == IdempotencyRecord(2, LATER)

    async def test_forgetting_drops_what_is_older_and_nothing_else(self, database: Database) -> None:
        ole, kari = await someone(database, "ole"), await someone(database, "kari")
        older = NOW - timedelta(microseconds=1)

        def remember(tx: Transaction) -> None:
            for owner in (ole, kari):
                for number, time in enumerate((older, NOW, LATER)):
                    tx.idempotency.remember(owner, str(number), b"mark", number, time)

        await database.write(remember)
        await database.write(lambda tx: tx.idempotency.forget(NOW, FAR))

        def kept(tx: Transaction, owner: int) -> list[bool]:
            return [tx.idempotency.find(owner, str(number), b"mark", older) is not None for number in range(3)]

        for owner in (ole, kari):
            assert await read(database, kept, owner) == [False, True, True]

    async def test_the_newest_results_of_an_owner_are_kept_and_the_others_forgotten(self, database: Database) -> None:
        ole, kari = await someone(database, "ole"), await someone(database, "kari")

        def remember(tx: Transaction) -> None:
            for owner in (ole, kari):
                for number in range(5):
                    tx.idempotency.remember(owner, f"{number}", b"", number, NOW + timedelta(seconds=number))

        def kept(tx: Transaction, owner: int) -> list[str]:
            return [key for key, _ in tx.idempotency.page(owner, after="", limit=10)]

        await database.write(remember)
        for keep in (6, 5):
            await database.write(lambda tx, keep=keep: tx.idempotency.forget_oldest(ole, keep=keep))  # type: ignore[misc]
            assert await read(database, kept, ole) == ["0", "1", "2", "3", "4"]
        await database.write(lambda tx: tx.idempotency.forget_oldest(ole, keep=2))
        assert await read(database, kept, ole) == ["3", "4"]
        assert await read(database, kept, kari) == ["0", "1", "2", "3", "4"]

    async def test_results_are_read_page_by_page(self, database: Database) -> None:
        ole, kari = await someone(database, "ole"), await someone(database, "kari")
        keys = ["b", "A", "\N{KEY}", "a", "å", " "]
        for number, key in enumerate(keys):
            await database.write(lambda tx, k=key, n=number: tx.idempotency.remember(ole, k, b"", n, NOW))  # type: ignore[misc]
        found: dict[str, IdempotencyRecord] = {}
        after = ""
        while page := await read(database, lambda tx, after=after: tx.idempotency.page(ole, after=after, limit=4)):  # type: ignore[misc]
            found |= page
            after = page[-1][0]
        assert found == {key: IdempotencyRecord(number, NOW) for number, key in enumerate(keys)}
        assert await read(database, lambda tx: tx.idempotency.page(kari, after="", limit=4)) == []

    async def test_the_same_request_many_times_at_once_happens_once(self, database: Database) -> None:
        owner = await someone(database)
        await database.write(ensure_provider)

        def create(tx: Transaction) -> int:
            before = tx.idempotency.find(owner, "k", b"mark", NOW - LEASE)
            if before is not None:
                return before.result_id
            created = tx.conversations.add(owner, "once", NOW)
            tx.idempotency.remember(owner, "k", b"mark", created.id, NOW)
            return created.id

        done, refusals = await all_of([database.write(create) for _ in range(40)])
        assert (len(set(done)), refusals) == (1, [])
        assert [each.id for each in await database.read(lambda tx: tx.conversations.page(owner))] == done[:1]

    async def test_the_same_request_many_times_at_once_happens_once_where_it_takes_a_name(
        self, database: Database
    ) -> None:
        owner = await someone(database)
        await database.write(ensure_provider)

        def store(tx: Transaction) -> int:
            before = tx.idempotency.find(owner, "k", b"mark", NOW - LEASE)
            if before is not None:
                return before.result_id
            created = tx.api_keys.add(owner, 1, "once", NOW)
            tx.idempotency.remember(owner, "k", b"mark", created.id, NOW)
            return created.id

        done, refusals = await all_of([database.write(store) for _ in range(40)])
        assert (len(set(done)), refusals) == (1, [])
        assert [each.id for each in await database.read(lambda tx: tx.api_keys.of(owner))] == done[:1]

    # -- The catalogue -------------------------------------------------------------------------------------------------

    async def test_providers_and_models_are_numbered_from_1_in_the_order_of_adding(self, database: Database) -> None:
        assert await database.read(lambda tx: tx.catalogue.providers(retired=True)) == []
        specs = [ModelSpec(f"m{number}", f"M {number}", 1000 + number, 100, bool(number % 2)) for number in range(4)]

        def fill(tx: Transaction) -> None:
            zeta, alpha = tx.catalogue.add_provider("Zeta"), tx.catalogue.add_provider("Alpha")
            for number, provider in enumerate((alpha, zeta, zeta, alpha)):
                tx.catalogue.add_model(provider.id, specs[number])

        await database.write(fill)
        zeta, alpha = await database.read(lambda tx: tx.catalogue.providers())
        assert [(zeta.id, zeta.name), (alpha.id, alpha.name)] == [(1, "Zeta"), (2, "Alpha")]
        assert [model.id for model in zeta.models] == [2, 3]
        assert [model.id for model in alpha.models] == [1, 4]
        for model in (*zeta.models, *alpha.models):
            spec = specs[model.id - 1]
            assert (model.identifier, model.name, model.context_window, model.max_output_tokens, model.system_role) == (
                spec.identifier, spec.name, spec.context_window, spec.max_output_tokens, spec.system_role,
            )  # fmt: skip
            assert isinstance(model.system_role, bool)
            assert model.retired is False
        assert await database.read(lambda tx: tx.catalogue.get(2)) == alpha
        with pytest.raises(LookupError):
            await database.read(lambda tx: tx.catalogue.get(3))

    async def test_a_key_comes_with_the_model_of_its_provider_or_with_all_of_them(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "other")
        specs = [ModelSpec(f"m{number}", f"M {number}", 1000, 100) for number in range(3)]

        def fill(tx: Transaction) -> ApiKey:
            p, q = tx.catalogue.add_provider("P"), tx.catalogue.add_provider("Q")
            models = [tx.catalogue.add_model(provider.id, spec) for provider in (p, q) for spec in specs]
            tx.catalogue.save_model(replace(models[5], retired=True))
            return tx.api_keys.add(owner, q.id, "key", NOW)

        key = await database.write(fill)
        whole = await database.read(lambda tx: tx.catalogue.get(key.provider_id))

        async def models_with(wanted: str) -> tuple[Model, ...]:
            found = await database.read(lambda tx: tx.api_keys.with_provider("key", wanted, owner=owner))
            assert (found[0], found[1].id, found[1].name) == (key, whole.id, "Q")
            return found[1].models

        assert await models_with("m1") == whole.models[1:2]
        for wanted in ("M 1", "M1", "m2", "", "none"):
            assert await models_with(wanted) == whole.models
        for nickname, asking in (("other", owner), ("key", other)):
            with pytest.raises(ApiKeyNotFound):
                await database.read(lambda tx: tx.api_keys.with_provider(nickname, "m1", owner=asking))  # noqa: B023

    async def test_a_retired_model_is_shown_on_request_only_and_keeps_its_id(self, database: Database) -> None:
        spec = ProviderSpec("P", tuple(ModelSpec(f"m{number}", f"M{number}", 1000, 100) for number in range(3)))
        load = LoadCatalogue(database)
        assert len(await load([spec])) == 4
        assert await load([spec]) == []
        whole = await database.read(lambda tx: tx.catalogue.providers())
        assert len(await load([replace(spec, models=spec.models[1:])])) == 1
        assert await load([replace(spec, models=spec.models[1:])]) == []
        [shown] = await database.read(lambda tx: tx.catalogue.providers())
        [everything] = await database.read(lambda tx: tx.catalogue.providers(retired=True))
        assert [model.id for model in shown.models] == [2, 3]
        assert [(model.id, model.retired) for model in everything.models] == [(1, True), (2, False), (3, False)]
        assert await database.read(lambda tx: tx.catalogue.get(1)) == everything
        await load([ProviderSpec("Q", (ModelSpec("q", "Q", 1000, 100),)), spec])
        assert (await database.read(lambda tx: tx.catalogue.providers()))[0] == whole[0]
        assert [model.id for model in (await database.read(lambda tx: tx.catalogue.get(2))).models] == [4]

    async def test_saving_a_model_replaces_everything_but_its_ids(self, database: Database) -> None:
        def fill(tx: Transaction) -> None:
            provider = tx.catalogue.add_provider("P")
            for number in range(2):
                tx.catalogue.add_model(provider.id, ModelSpec(f"m{number}", f"M{number}", 1000, 100))

        await database.write(fill)
        [before] = await database.read(lambda tx: tx.catalogue.providers())
        changed = replace(
            before.models[0], identifier="x", name="X", context_window=9, max_output_tokens=8, system_role=False
        )
        await database.write(lambda tx: tx.catalogue.save_model(changed))
        [after] = await database.read(lambda tx: tx.catalogue.providers())
        assert after.models == (changed, before.models[1])

    async def test_a_provider_without_models_is_listed(self, database: Database) -> None:
        await database.write(lambda tx: tx.catalogue.add_provider("Empty"))
        shown = await database.read(lambda tx: tx.catalogue.providers())
        assert shown == await database.read(lambda tx: tx.catalogue.providers(retired=True))
        assert [(provider.id, provider.name, provider.models) for provider in shown] == [(1, "Empty", ())]
        assert (await database.read(lambda tx: tx.catalogue.get(1))).models == ()

    # -- Units of work -------------------------------------------------------------------------------------------------

    async def test_a_unit_of_work_gives_what_its_function_returns(self, database: Database) -> None:
        thing = object()
        assert await database.read(lambda _: thing) is thing
        assert await database.write(lambda _: thing) is thing

    @pytest.mark.parametrize("error", [ConversationNotFound(), LookupError("a bug"), KeyboardInterrupt()], ids=repr)
    async def test_when_a_unit_of_work_raises_nothing_happened(self, error: BaseException, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner, "before")
        answer = await ask(database, owner, conversation)
        before = await database.read(lambda tx: self._everything_of(tx, owner))

        def fail(tx: Transaction) -> None:
            tx.users.add("kari", "kari@example.no", PROFILE, "hash", NOW)
            tx.users.save_profile(owner, Profile("lost", "lost"))
            tx.conversations.rename(conversation, "lost", owner=owner)
            tx.messages.add(conversation, Role.USER, "lost", NOW, owner=owner)
            tx.answers.checkpoint([AnswerPart(answer.id, 0, "lost")], [answer.id], NOW + LEASE)
            tx.answers.end(answer.id, COMPLETE, "lost", NOW)
            tx.api_keys.add(owner, ensure_provider(tx), "lost", NOW)
            tx.catalogue.add_model(1, ModelSpec("lost", "Lost", 1, 1))
            tx.idempotency.remember(owner, "k", b"lost", 1, NOW)
            tx.conversations.delete(conversation, owner=owner)
            raise error

        with pytest.raises(type(error)) as raised:
            await database.write(fail)
        assert raised.value is error
        assert await database.read(lambda tx: self._everything_of(tx, owner)) == before
        assert await database.read(lambda tx: tx.users.by_username("kari")) is None
        assert await database.read(lambda tx: tx.catalogue.get(1).models) == ()
        assert await text_of(database, owner, answer) == ""
        assert await database.read(lambda tx: tx.idempotency.find(owner, "k", b"mark", NOW)) is None

    async def test_a_unit_of_work_sees_what_it_has_written(self, database: Database) -> None:
        def work(tx: Transaction) -> None:
            owner = tx.users.add("ole", "ole@example.no", PROFILE, "hash", NOW).id
            conversation = tx.conversations.add(owner, "a", NOW)
            tx.conversations.rename(conversation.id, "b", owner=owner)
            question = tx.messages.add(conversation.id, Role.USER, "?", NOW, owner=owner)
            answer = begin(tx, question, owner)
            tx.answers.checkpoint([AnswerPart(answer.id, 0, "half")], [answer.id], NOW + LEASE)
            assert tx.users.taken("OLE", "x@example.no") == ["username"]
            assert [each.title for each in tx.conversations.page(owner)] == ["b"]
            assert tx.answers.text(answer.id, 0, owner=owner) == "half"
            assert tx.answers.end(answer.id, COMPLETE, "whole", NOW)
            assert tx.answers.newest(conversation.id, owner=owner).state is AnswerState.COMPLETE
            assert [each.content for each in tx.messages.iter_newest_first(conversation.id, owner=owner)] == [
                "whole",
                "?",
            ]

        await database.write(work)

    async def test_a_read_sees_one_moment_whatever_is_written_meanwhile(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        messages = await say(database, owner, conversation, *(str(number) for number in range(250)))
        loop = asyncio.get_running_loop()

        def look(tx: Transaction) -> None:
            before = tx.conversations.page(owner)
            back = tx.messages.iter_newest_first(conversation, owner=owner)
            assert next(back) == messages[-1]
            meanwhile(conversation_of(database, owner), loop)
            meanwhile(say(database, owner, conversation, "meanwhile"), loop)
            meanwhile(database.write(lambda tx: tx.users.save_profile(owner, Profile("new", "new"))), loop)
            assert tx.conversations.page(owner) == before
            assert [next(back) for _ in range(200)] == messages[-2:-202:-1]
            assert tx.messages.of(conversation, owner=owner) == messages
            assert tx.users.get(owner).first_name == "Ole"

        await database.read(look)
        assert len(await database.read(lambda tx: tx.conversations.page(owner))) == 2
        assert (await spoken(database, owner, conversation))[-1] == ("user", "meanwhile")

    async def test_200_changes_at_once_of_what_was_read_lose_none(self, database: Database) -> None:
        owner = await someone(database)
        await database.write(lambda tx: tx.users.save_profile(owner, replace(PROFILE, country="0")))

        def count(tx: Transaction) -> None:
            counted = int(tx.users.get(owner).country)
            tx.users.save_profile(owner, replace(PROFILE, country=str(counted + 1)))

        await asyncio.gather(*(database.write(count) for _ in range(200)))
        assert (await database.read(lambda tx: tx.users.get(owner))).country == "200"

    @pytest.mark.parametrize(
        "time",
        [NOW, NOW.replace(microsecond=0), NOW.replace(microsecond=1), NOW.replace(microsecond=999_999),
         datetime(1999, 12, 31, 23, 59, 59, 999_999, UTC), datetime(2999, 2, 28, tzinfo=UTC),
         datetime(2024, 3, 31, 1, 30, tzinfo=UTC)],
        ids=str,
    )  # fmt: skip
    async def test_times_come_back_in_utc_to_the_microsecond(self, time: datetime, database: Database) -> None:
        user = await database.write(lambda tx: tx.users.add("ole", "ole@example.no", PROFILE, "hash", time))
        owner = user.id

        def write(tx: Transaction) -> None:
            conversation = tx.conversations.add(owner, "", time)
            question = tx.messages.add(conversation.id, Role.USER, "?", time, owner=owner)
            answer = begin(tx, question, owner, time)
            tx.answers.end(answer.id, COMPLETE, "text", time)
            tx.api_keys.add(owner, ensure_provider(tx), "key", time)
            tx.idempotency.remember(owner, "k", b"mark", 1, time)

        def read(tx: Transaction) -> list[datetime | None]:
            [conversation] = tx.conversations.page(owner)
            question, text = tx.messages.of(conversation.id, owner=owner)
            answer = tx.answers.newest(conversation.id, owner=owner)
            remembered = tx.idempotency.find(owner, "k", b"mark", time)
            found = [tx.users.get(owner), conversation, question, text, *tx.api_keys.of(owner), remembered]
            return [*(each.created_at if each else None for each in found), answer.started_at, answer.ended_at]

        await database.write(write)
        times = await database.read(read)
        assert times == [time] * 8
        for each in times:
            assert each is not None
            assert each.utcoffset() == timedelta()

    async def test_deleting_all_data_keeps_the_catalogue_and_uses_no_id_again(self, database: Database) -> None:
        def fill(tx: Transaction, owner: int) -> None:
            tx.users.save_password_reset(owner, b"link", LATER)
            tx.sessions.open(owner, "", NOW)
            tx.failed_attempts.save_arrival_time(b"key", LATER)
            tx.audit.add(Act.SIGNED_IN, owner, Origin(), NOW)
            tx.idempotency.remember(owner, "k", b"mark", 1, NOW)

        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        answer = await ask(database, owner, conversation)
        await end(database, answer, "text")
        key = await add_key(database, owner, "key")
        factor = await enabled_factor(database, owner, b"one", b"two")
        await write(database, fill, owner)
        session = (await sessions_of(database, owner))[0]
        catalogue = await database.read(lambda tx: tx.catalogue.providers())

        # The account, its conversation, two messages, an answer, its usage, a key, a second factor, two recovery codes,
        # and the five rows from above.
        assert await database.delete_all_data() == 15
        assert await database.read(lambda tx: tx.users.page(after=0, limit=10)) == []
        assert await database.read(lambda tx: tx.users.by_password_reset(b"link", NOW, FAR)) is None
        assert await database.read(lambda tx: tx.second_factors.after(0, 10)) == []
        assert await use_recovery_code(database, factor.user_id, b"one") is False
        assert await database.read(lambda tx: tx.failed_attempts.arrival_times([b"key"])) == {}
        assert await database.read(lambda tx: tx.audit.page(EVERYTHING, after=0, limit=10)) == []
        assert await database.read(lambda tx: tx.idempotency.find(owner, "k", b"other", NOW)) is None
        assert await database.read(lambda tx: tx.catalogue.providers()) == catalogue
        assert catalogue != []

        after = await someone(database)
        again = await ask(database, after, await conversation_of(database, after))
        opened = await database.write(lambda tx: tx.sessions.open(after, "", NOW))
        assert after > owner
        assert (again.id > answer.id, again.conversation_id > answer.conversation_id) == (True, True)
        assert again.question_id > answer.question_id
        assert await add_key(database, after, "key") > key
        assert opened.id > session.id
        assert await database.delete_all_data() == 6
        assert await database.delete_all_data() == 0

    async def test_a_database_of_the_newest_schema_is_fine(self, database: Database) -> None:
        await database.check()
        await database.check_writable()

    # -- Leaving, keys all their life, and what answers cost -----------------------------------------------------------

    async def test_a_deleted_account_takes_everything_along_and_says_what_was_running(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        conversation = await conversation_of(database, owner)
        await end(database, await ask(database, owner, conversation), "text")
        running = await ask(database, owner, conversation)
        await add_key(database, owner, "key")
        kept = await ask(database, other, await conversation_of(database, other))

        assert await database.write(lambda tx: tx.users.delete(owner)) == [running.id]
        assert await database.read(lambda tx: tx.users.by_username("olenor")) is None
        assert await spoken(database, owner, conversation) == []
        assert await answers_of(database, owner, conversation) == []
        assert await keys_of(database, owner) == []
        assert await end(database, running, "late") is False
        assert (await record_of(database, other, kept)).state is AnswerState.RUNNING
        with pytest.raises(AccountNotFound):
            await database.write(lambda tx: tx.users.delete(owner))

    async def test_what_a_large_account_leaves_goes_bit_by_bit_and_nobody_finds_it_meanwhile(
        self, database: Database
    ) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        conversations = [await conversation_of(database, owner) for _ in range(5)]
        answers = [await ask(database, owner, each) for each in conversations]
        for answer in answers[1:]:
            await end(database, answer, "text")
        await add_key(database, owner, "key")
        session = await database.write(lambda tx: tx.sessions.open(owner, "", NOW))
        kept = await ask(database, other, await conversation_of(database, other))

        assert await database.write(lambda tx: tx.users.begin_deletion(owner, NOW)) == [answers[0].id]
        assert await database.read(lambda tx: tx.users.by_username("olenor")) is None
        assert await database.read(lambda tx: tx.users.is_enabled(owner)) is False
        assert await database.read(lambda tx: tx.sessions.is_active(session.token_id, owner=owner)) is False
        assert [each.id for each in await database.read(lambda tx: tx.users.page(after=0, limit=9))] == [other]
        assert await database.read(lambda tx: tx.api_keys.after(0, 9)) == []
        assert (await database.read(lambda tx: tx.ledger.of(owner, NOW.date(), FAR.date()))) == []
        again = await someone(database)

        steps = 0
        while await database.read(lambda tx: tx.users.any_deletion()):
            await database.write(lambda tx: tx.users.continue_deletion(count=2, size=2**20))
            steps += 1
            assert steps < 10
        for each in conversations:
            assert await spoken(database, owner, each) == []
            assert await answers_of(database, owner, each) == []
        assert await keys_of(database, owner) == []
        with pytest.raises(AccountNotFound):
            await database.write(lambda tx: tx.users.begin_deletion(owner, NOW))
        assert [each.id for each in await database.read(lambda tx: tx.users.page(after=0, limit=9))] == [other, again]
        assert (await record_of(database, other, kept)).state is AnswerState.RUNNING
        await database.write(lambda tx: tx.users.continue_deletion(count=2, size=2**20))

    async def test_a_key_is_renamed_unless_the_name_is_taken(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        await add_key(database, owner, "one")
        await add_key(database, owner, "two")
        await add_key(database, other, "three")
        await database.write(lambda tx: tx.api_keys.rename("one", "three", owner=owner))
        await database.write(lambda tx: tx.api_keys.rename("two", "two", owner=owner))
        assert [key.nickname for key in await keys_of(database, owner)] == ["three", "two"]
        with pytest.raises(InvalidInput, match="new_nickname"):
            await database.write(lambda tx: tx.api_keys.rename("two", "three", owner=owner))
        for absent in ("one", "nothing"):
            with pytest.raises(ApiKeyNotFound):
                await database.write(lambda tx, absent=absent: tx.api_keys.rename(absent, "new", owner=owner))  # type: ignore[misc]
        assert [key.nickname for key in await keys_of(database, other)] == ["three"]

    async def test_a_deleted_key_is_gone_for_its_owner_alone(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        for each in (owner, other):
            await add_key(database, each, "key")
        assert await database.write(lambda tx: tx.api_keys.delete("key", owner=owner)) == []
        assert await keys_of(database, owner) == []
        assert len(await keys_of(database, other)) == 1
        with pytest.raises(ApiKeyNotFound):
            await database.write(lambda tx: tx.api_keys.delete("key", owner=owner))

    async def test_keys_are_read_page_by_page_whoever_owns_them(self, database: Database) -> None:
        ids = []
        for name in ("olenor", "kari"):
            owner = await someone(database, name)
            ids += [await add_key(database, owner, str(number)) for number in range(3)]
        first = await database.read(lambda tx: tx.api_keys.after(0, 4))
        rest = await database.read(lambda tx: tx.api_keys.after(first[-1].id, 4))
        assert [key.id for key in (*first, *rest)] == ids
        assert await database.read(lambda tx: tx.api_keys.after(ids[-1], 4)) == []

    async def test_usage_is_summed_up_by_day_and_model(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        conversation = await conversation_of(database, owner)
        counted = Outcome(AnswerState.COMPLETE, "stop", usage=Usage(10, 5))
        for outcome in (counted, counted, Outcome(AnswerState.COMPLETE, "stop")):
            await end(database, await ask(database, owner, conversation), "some text", outcome)
        await end(database, await ask(database, owner, conversation), "", Outcome(AnswerState.FAILED, reason="x"))
        await ask(database, owner, conversation)
        day = NOW.date()
        [row] = await database.read(lambda tx: tx.ledger.of(owner, day, day))
        assert (row.date, row.answers, row.estimated) == (day, 3, True)
        assert row.completion_tokens == 10 + estimated_tokens("some text")
        assert await database.read(lambda tx: tx.ledger.of(other, day, day)) == []
        assert await database.read(lambda tx: tx.ledger.of(owner, day + timedelta(1), day + timedelta(1))) == []

    async def test_an_answer_of_which_nothing_is_stored_is_counted_too(self, database: Database) -> None:
        owner, day = await someone(database), NOW.date()
        provider_id = await database.write(lambda tx: tx.catalogue.add_provider("OpenAI").id)
        for used, estimated in ((Usage(5, 2, cached_tokens=3), False), (Usage(1, 1), True)):
            tokens = UsedTokens(owner, day, provider_id, "gpt-4o", used, estimated=estimated)
            await count(database, tokens)
        [row] = await database.read(lambda tx: tx.ledger.of(owner, day, day))
        assert row == DayOfUsage(day, "OpenAI", "gpt-4o", 2, 6, 3, estimated=True, cached_tokens=3)

    async def test_the_ledger_outlives_conversations_and_goes_with_the_account(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        day = NOW.date()
        for user in (owner, other):
            conversation = await conversation_of(database, user)
            cached = Outcome(AnswerState.COMPLETE, "stop", usage=Usage(10, 5, cached_tokens=4))
            await end(database, await ask(database, user, conversation), "text", cached)
            await end(database, await ask(database, user, conversation), "text", COMPLETE)
            await delete(database, user, conversation)
        [row] = await database.read(lambda tx: tx.ledger.of(owner, day, day))
        assert (row.answers, row.prompt_tokens, row.completion_tokens, row.cached_tokens) == (2, 41, 9, 4)
        assert not row.estimated

        async def of_all(first: date, last: date, after: PlaceInLedger, limit: int = 10) -> list[UsageOfAccount]:
            return await database.read(lambda tx: tx.ledger.page(first, last, after=after, limit=limit))

        mine, theirs = await of_all(day, day, PlaceInLedger())
        assert (mine.username, mine.usage, theirs.username, theirs.usage) == ("olenor", row, "kari", row)
        assert mine.place < theirs.place
        assert await of_all(day, day, PlaceInLedger(), 1) == [mine]
        assert await of_all(day, day, mine.place) == [theirs]
        assert await of_all(day, day, theirs.place) == []
        await database.write(lambda tx: tx.users.delete(owner))
        assert await of_all(day, day, PlaceInLedger()) == [theirs]
        assert await of_all(day + timedelta(1), FAR.date(), PlaceInLedger()) == []

    async def test_the_ledger_is_sorted_by_day_and_model(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        for days, model in ((1, "b"), (0, "c"), (1, "a")):

            def begin_later(tx: Transaction, days: int = days, model: str = model) -> Answer:
                question = tx.messages.add(conversation, Role.USER, "?", NOW, owner=owner)
                now = NOW + timedelta(days=days)
                return tx.answers.begin(
                    NewAnswer(question, owner, ensure_provider(tx), model, now, now + LEASE, max_running=1)
                )

            await end(database, await database.write(begin_later), "text", COMPLETE)
        found = await database.read(lambda tx: tx.ledger.of(owner, NOW.date(), FAR.date()))
        assert [(row.date - NOW.date(), row.model) for row in found] == [
            (timedelta(0), "c"), (timedelta(1), "a"), (timedelta(1), "b")
        ]  # fmt: skip

    async def test_what_was_left_out_is_as_begun_unless_the_end_says_otherwise(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        answer = await ask(database, owner, conversation)
        assert answer.left_out == 0
        await end(database, answer, "text", Outcome(AnswerState.COMPLETE, "stop", left_out=4))
        assert (await record_of(database, owner, answer)).left_out == 4

    async def test_a_deleted_conversation_takes_along_what_requests_about_it_led_to(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)

        def remember(tx: Transaction) -> None:
            tx.idempotency.remember(owner, "about it", b"1", 1, NOW, conversation=conversation)
            tx.idempotency.remember(owner, "besides", b"2", 2, NOW)

        await database.write(remember)
        await delete(database, owner, conversation)
        assert await database.read(lambda tx: tx.idempotency.find(owner, "about it", b"other", NOW)) is None
        assert await database.read(lambda tx: tx.idempotency.find(owner, "besides", b"2", NOW)) is not None

    async def test_messages_are_counted_up_to_one_without_the_system_message(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        conversation = await conversation_of(database, owner)
        roles = (Role.SYSTEM, Role.USER, Role.BAIO, Role.USER)
        ids = [(await say(database, owner, conversation, "x", role=role))[0].id for role in roles]

        def counted(tx: Transaction) -> list[int]:
            return [tx.messages.count(conversation, owner=owner, up_to=each) for each in ids]

        assert await database.read(counted) == [0, 1, 2, 3]
        assert await database.read(lambda tx: tx.messages.count(conversation, owner=other, up_to=ids[-1])) == 0

    # -- Sessions ------------------------------------------------------------------------------------------------------

    async def test_a_session_is_read_back_and_stands_for_its_owner_alone(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        opened = await database.write(lambda tx: tx.sessions.open(owner, "Firefox \N{DNA DOUBLE HELIX}", NOW))
        assert opened == Session(opened.id, owner, NOW, NOW, "Firefox \N{DNA DOUBLE HELIX}", opened.token_id)
        assert re.fullmatch("[0-9a-f]{32}", opened.token_id)
        later = await database.write(lambda tx: tx.sessions.open(owner, "", NOW))
        assert await sessions_of(database, owner) == [later, opened]
        assert await sessions_of(database, other) == []
        assert await database.read(lambda tx: tx.sessions.is_active(opened.token_id, owner=owner)) is True
        for token_id, asking in ((opened.token_id, other), (str(opened.id), owner), (opened.token_id, NOBODY)):
            await over(database, token_id, asking)
        assert later.token_id != opened.token_id
        with pytest.raises(AccountNotFound):
            await database.write(lambda tx: tx.sessions.open(NOBODY, "", NOW))

    async def test_a_session_that_is_used_says_when(self, database: Database) -> None:
        owner = await someone(database)
        opened = await database.write(lambda tx: tx.sessions.open(owner, "", NOW))
        used = await use(database, opened, LATER)
        assert used == replace(opened, last_used_at=LATER)
        assert await sessions_of(database, owner) == [used]

    async def test_a_session_whose_time_is_over_is_not_used(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        opened = await database.write(lambda tx: tx.sessions.open(owner, "", NOW))
        moment = timedelta(microseconds=1)
        assert await use(database, opened, NOW, used_since=NOW, opened_since=NOW) == opened
        for used_since, opened_since, asking in (
            (NOW + moment, NOW, owner),
            (NOW, NOW + moment, owner),
            (NOW, NOW, other),
        ):
            assert await use(database, replace(opened, user_id=asking), LATER, used_since, opened_since) is None
        assert await sessions_of(database, owner) == [opened]

    async def test_a_disabled_accounts_sessions_do_not_stand(self, database: Database) -> None:
        owner = await someone(database)
        opened = await database.write(lambda tx: tx.sessions.open(owner, "", NOW))
        await disable(database, owner)
        await over(database, opened.token_id, owner)
        assert await use(database, opened, LATER) is None

    async def test_sessions_end_one_by_one_or_all_at_once(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        mine = [await database.write(lambda tx: tx.sessions.open(owner, "", NOW)) for _ in range(4)]
        theirs = await database.write(lambda tx: tx.sessions.open(other, "", NOW))
        assert await database.write(lambda tx: tx.sessions.end(mine[0].token_id, owner=other)) is False
        assert await database.write(lambda tx: tx.sessions.end(mine[0].token_id, owner=owner)) is True
        assert await database.write(lambda tx: tx.sessions.end(mine[0].token_id, owner=owner)) is False
        await over(database, mine[0].token_id, owner)
        await database.write(lambda tx: tx.sessions.end_all(owner, except_token_id=mine[2].token_id))
        assert await sessions_of(database, owner) == [mine[2]]
        await database.write(lambda tx: tx.sessions.end_all(owner))
        assert await sessions_of(database, owner) == []
        assert await sessions_of(database, other) == [theirs]
        again = await database.write(lambda tx: tx.sessions.open(owner, "", NOW))
        assert again.id > mine[3].id  # an old token never fits a new session

    async def test_the_newest_sessions_of_an_owner_go_on_and_the_others_end(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        theirs = await database.write(lambda tx: tx.sessions.open(other, "", NOW))
        mine = [await database.write(lambda tx: tx.sessions.open(owner, "", NOW)) for _ in range(4)]
        for keep in (5, 4):
            await database.write(lambda tx, keep=keep: tx.sessions.end_oldest(owner, keep=keep))  # type: ignore[misc]
            assert len(await sessions_of(database, owner)) == 4
        await database.write(lambda tx: tx.sessions.end_oldest(owner, keep=2))
        assert await sessions_of(database, owner) == [mine[3], mine[2]]
        assert await sessions_of(database, other) == [theirs]

    async def test_which_of_many_sessions_are_active_is_one_question(self, database: Database) -> None:
        owner, other, gone = [await someone(database, name) for name in ("olenor", "kari", "per")]
        mine, ended, theirs, disabled = [
            (await database.write(lambda tx, each=each: tx.sessions.open(each, "", NOW))).token_id  # type: ignore[misc]
            for each in (owner, owner, other, gone)
        ]
        await database.write(lambda tx: tx.sessions.end(ended, owner=owner))
        await disable(database, gone)
        asked = [mine, ended, theirs, disabled, "none", "'; --", ""]
        assert await read(database, lambda tx: tx.sessions.active(asked)) == {mine, theirs}
        assert await read(database, lambda tx: tx.sessions.active([])) == frozenset()

    async def test_sessions_whose_time_is_over_are_forgotten_whoever_owns_them(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        old = await database.write(lambda tx: tx.sessions.open(owner, "", NOW))
        unused = await database.write(lambda tx: tx.sessions.open(other, "", LATER))
        kept = await use(database, await database.write(lambda tx: tx.sessions.open(owner, "", LATER)), LATER + LEASE)
        await use(database, old, LATER + LEASE)

        def forget(tx: Transaction) -> None:
            tx.sessions.forget(used_before=LATER + LEASE, opened_before=LATER)

        await database.write(forget)
        assert await sessions_of(database, owner) == [kept]
        assert await sessions_of(database, other) == []
        await over(database, unused.token_id, other)

    # -- Second factors ------------------------------------------------------------------------------------------------

    async def test_a_second_factor_is_enrolled_replaced_and_enabled_once(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        assert await factor_of(database, owner) is None
        for seed in (b"first", b"second"):
            await database.write(lambda tx, seed=seed: tx.second_factors.enroll(owner, seed))  # type: ignore[misc]
        enrolled = await factor_of(database, owner)
        assert enrolled == SecondFactor(owner, b"second", None, 0)
        assert enrolled.enabled is False
        assert await enable(database, replace(enrolled, sealed=b"first"), 7) is False
        assert await enable(database, replace(enrolled, user_id=other), 7) is False
        assert await enable(database, enrolled, 7, b"one", b"two") is True
        assert await factor_of(database, owner) == SecondFactor(owner, b"second", NOW, 7)
        assert await enable(database, enrolled, 8, b"three") is False
        with pytest.raises(SecondFactorOn):
            await database.write(lambda tx: tx.second_factors.enroll(owner, b"third"))
        assert await database.read(lambda tx: tx.second_factors.count_recovery_codes(owner)) == 2
        assert await factor_of(database, other) is None

    async def test_the_code_of_a_step_is_accepted_once_and_none_before_it(self, database: Database) -> None:
        factor = await enabled_factor(database, await someone(database), counter=7)
        accepted = [await spend(database, factor, counter) for counter in (6, 7, 9, 9, 8, 10)]
        assert accepted == [False, False, True, False, False, True]
        assert await spend(database, replace(factor, sealed=b"another"), 11) is False

    async def test_a_recovery_code_is_accepted_once_and_for_its_owner(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        for each in (owner, other):
            await enabled_factor(database, each, b"same", b"%d" % each)
        tried = [(owner, b"none"), (owner, b"%d" % other), (owner, b"same"), (owner, b"same"), (other, b"same")]
        assert [await use_recovery_code(database, *each) for each in tried] == [False, False, True, False, True]
        assert await database.read(lambda tx: tx.second_factors.count_recovery_codes(owner)) == 1

    async def test_of_many_uses_of_one_code_at_once_one_is_accepted(self, database: Database) -> None:
        owner = await someone(database)
        factor = await enabled_factor(database, owner, b"code")
        by_code = await asyncio.gather(*(spend(database, factor, 9) for _ in range(20)))
        by_recovery = await asyncio.gather(*(use_recovery_code(database, owner, b"code") for _ in range(20)))
        assert (sum(by_code), sum(by_recovery)) == (1, 1)

    async def test_a_second_factor_that_is_removed_takes_its_recovery_codes_along(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        for each in (owner, other):
            await enabled_factor(database, each, b"code")
        assert await database.write(lambda tx: tx.second_factors.remove(owner)) is True
        assert await database.write(lambda tx: tx.second_factors.remove(owner)) is False
        assert await factor_of(database, owner) is None
        assert await use_recovery_code(database, owner, b"code") is False
        assert await use_recovery_code(database, other, b"code") is True

    async def test_second_factors_are_read_page_by_page_and_sealed_anew(self, database: Database) -> None:
        owners = [await someone(database, name) for name in ("ole", "kari", "per")]
        factors = [await enabled_factor(database, owner) for owner in owners]
        first = await database.read(lambda tx: tx.second_factors.after(0, 2))
        rest = await database.read(lambda tx: tx.second_factors.after(first[-1].user_id, 2))
        assert [*first, *rest] == factors
        await database.write(lambda tx: tx.second_factors.save_sealed(factors[0], b"anew"))
        await database.write(lambda tx: tx.second_factors.save_sealed(replace(factors[1], sealed=b"stale"), b"anew"))
        found = [await factor_of(database, owner) for owner in owners]
        assert found == [replace(factors[0], sealed=b"anew"), *factors[1:]]

    # -- Names, offers, guesses and the audit --------------------------------------------------------------------------

    async def test_names_are_changed_unless_somebody_else_has_them(self, database: Database) -> None:
        owner = await someone(database)
        await someone(database, "kari")
        await database.write(lambda tx: tx.users.save_names(owner, "OleNor", "ole@example.no"))
        user = await database.read(lambda tx: tx.users.get(owner))
        assert (user.username, user.email) == ("OleNor", "ole@example.no")
        assert await database.read(lambda tx: tx.users.by_username("olenor")) == user
        for username, email, field in (("KARI", "ole@example.no", "username"), ("ole", "Kari@Example.no", "email")):

            def change(tx: Transaction, username: str = username, email: str = email) -> None:
                tx.users.save_names(owner, username, email)

            with pytest.raises(InvalidInput, match=field):
                await database.write(change)
        assert await database.read(lambda tx: tx.users.get(owner)) == user
        with pytest.raises(AccountNotFound):
            await database.write(lambda tx: tx.users.save_names(NOBODY, "nobody", "nobody@example.no"))

    async def test_an_offer_to_reset_a_password_stands_until_used_replaced_or_too_old(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")

        async def offered(digest: bytes, now: datetime = NOW, latest: datetime = FAR) -> int | None:
            found = await database.read(lambda tx: tx.users.by_password_reset(digest, now, latest))
            return found.id if found else None

        for user_id, digest in ((owner, b"first"), (owner, b"second"), (other, b"theirs")):
            await database.write(lambda tx, u=user_id, d=digest: tx.users.save_password_reset(u, d, LATER))  # type: ignore[misc]
        assert [await offered(digest) for digest in (b"first", b"second", b"theirs")] == [None, owner, other]
        assert await offered(b"second", LATER) is None
        await database.write(lambda tx: tx.users.save_password_hash(owner, "new"))
        assert [await offered(digest) for digest in (b"second", b"theirs")] == [None, other]

    async def test_failures_are_remembered_by_key_until_their_time(self, database: Database) -> None:
        keys = [b"one", b"two", b"\x00\xff"]

        async def known() -> dict[bytes, datetime]:
            return await database.read(lambda tx: tx.failed_attempts.arrival_times([*keys, b"none"]))

        assert await known() == {}
        for key, until in ((keys[0], NOW), (keys[1], NOW), (keys[2], LATER), (keys[0], LATER)):
            await database.write(lambda tx, k=key, u=until: tx.failed_attempts.save_arrival_time(k, u))  # type: ignore[misc]
        assert await known() == {keys[0]: LATER, keys[1]: NOW, keys[2]: LATER}
        await database.write(lambda tx: tx.failed_attempts.forget([keys[2]], LATER))
        assert await known() == {keys[0]: LATER}

    async def test_failures_at_once_are_all_counted(self, database: Database) -> None:
        def fail(tx: Transaction) -> None:
            until = tx.failed_attempts.arrival_times([b"key"]).get(b"key", NOW)
            tx.failed_attempts.save_arrival_time(b"key", until + timedelta(minutes=1))

        await asyncio.gather(*(database.write(fail) for _ in range(20)))
        assert await database.read(lambda tx: tx.failed_attempts.arrival_times([b"key"])) == {
            b"key": NOW + timedelta(minutes=20)
        }

    async def test_a_network_is_known_to_one_account_and_the_50_last_ones_are_kept(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")

        async def known(user_id: int, digest: bytes) -> bool:
            return await database.read(lambda tx: tx.known_networks.is_known(user_id, digest))

        def remember(number: int) -> Callable[[Transaction], None]:
            now = NOW + timedelta(minutes=number)
            return lambda tx: tx.known_networks.remember(owner, b"%d" % number, now)

        for number in range(50):
            await database.write(remember(number))
        await database.write(lambda tx: tx.known_networks.remember(owner, b"0", LATER + LEASE + timedelta(days=1)))
        await database.write(remember(50))
        assert [await known(owner, b"%d" % number) for number in (0, 1, 2, 50)] == [True, False, True, True]
        assert await known(other, b"50") is False
        await database.write(lambda tx: tx.users.delete(owner))
        assert await known(owner, b"50") is False

    async def test_an_invitation_is_valid_for_its_address_and_time_and_used_once(self, database: Database) -> None:
        def invite(tx: Transaction) -> None:
            tx.invitations.add(b"anybody", None, LATER)
            tx.invitations.add(b"kari", "Kari@Example.NO", LATER)

        async def valid(digest: bytes, email: str, now: datetime = NOW, latest: datetime = FAR) -> bool:
            return await database.read(lambda tx: tx.invitations.is_valid(digest, email, now, latest))

        await database.write(invite)
        assert await valid(b"anybody", "ole@example.no")
        assert await valid(b"kari", "kari@example.no")
        assert not await valid(b"kari", "ole@example.no")
        assert not await valid(b"nobody", "ole@example.no")
        assert not await valid(b"anybody", "ole@example.no", now=LATER)
        assert not await valid(b"anybody", "ole@example.no", latest=LATER - LEASE)
        assert await database.write(lambda tx: tx.invitations.use(b"anybody")) is True
        assert await database.write(lambda tx: tx.invitations.use(b"anybody")) is False
        await database.write(lambda tx: tx.invitations.forget(LATER))
        assert not await valid(b"kari", "kari@example.no")

    async def test_a_hash_is_renewed_only_where_it_is_still_the_old_one(self, database: Database) -> None:
        owner = await someone(database)
        old = (await database.read(lambda tx: tx.users.get(owner))).password_hash
        await database.write(lambda tx: tx.users.save_password_reset(owner, b"link", LATER))
        assert await database.write(lambda tx: tx.users.renew_password_hash(owner, "another", "new")) is False
        assert await database.write(lambda tx: tx.users.renew_password_hash(owner, old, "new")) is True
        assert (await database.read(lambda tx: tx.users.get(owner))).password_hash == "new"
        assert await database.read(lambda tx: tx.users.by_password_reset(b"link", NOW, FAR)) is not None
        assert await database.write(lambda tx: tx.users.renew_password_hash(NOBODY, old, "new")) is False

    async def test_the_audit_says_who_what_when_and_from_where(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        here = Origin("2001:db8::1", "Firefox", "request", "")

        def act(tx: Transaction) -> None:
            tx.audit.add(Act.SIGNED_IN, owner, here, NOW, "password")
            tx.audit.add(Act.ACCOUNT_DISABLED, other, Origin(operator="root"), LATER)
            tx.audit.add(Act.SIGN_IN_FAILED, None, here, LATER, "bad-credentials")

        await database.write(act)
        mine, theirs, nobodys = await database.read(lambda tx: tx.audit.page(EVERYTHING, after=0, limit=10))
        assert (mine.act, mine.user_id, mine.username, mine.at) == (Act.SIGNED_IN, owner, "olenor", NOW)
        assert (mine.address, mine.request_id, mine.operator, mine.note) == ("2001:db8::1", "request", "", "password")
        assert (theirs.username, theirs.operator, theirs.address) == ("kari", "root", "")
        assert (nobodys.user_id, nobodys.username) == (None, None)
        assert await database.read(lambda tx: tx.audit.page(EVERYTHING, after=mine.id, limit=1)) == [theirs]
        assert await database.read(lambda tx: tx.audit.page(AuditFilter(other), after=0, limit=10_000)) == [theirs]
        await database.write(lambda tx: tx.audit.forget(LATER))
        assert await database.read(lambda tx: tx.audit.page(EVERYTHING, after=0, limit=10)) == [theirs, nobodys]

    async def test_however_many_entries_are_old_some_are_deleted_at_a_time(self, database: Database) -> None:
        def act(tx: Transaction) -> None:
            for number in range(2_100):
                tx.audit.add(Act.SIGN_IN_FAILED, None, NOWHERE, NOW + timedelta(seconds=number), str(number))

        await database.write(act)
        before, left = NOW + timedelta(seconds=2_099), 2_100
        while left > 1:
            await database.write(lambda tx: tx.audit.forget(before))
            entries = await database.read(lambda tx: tx.audit.page(EVERYTHING, after=0, limit=10_000))
            assert 1 <= len(entries) < left
            assert [each.note for each in entries] == [str(number) for number in range(2_100 - len(entries), 2_100)]
            left = len(entries)

    async def test_the_audit_of_an_account_is_read_page_by_page(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        for _ in range(3):
            for each in (owner, other, None):
                await database.write(lambda tx, each=each: tx.audit.add(Act.SIGNED_IN, each, Origin(), NOW))  # type: ignore[misc]
        whole = await read(database, lambda tx: tx.audit.page(AuditFilter(owner), after=0, limit=10_000))
        assert await read(database, lambda tx: tx.audit.page(AuditFilter(owner), after=0, limit=2)) == whole[:2]
        assert (
            await read(database, lambda tx: tx.audit.page(AuditFilter(owner), after=whole[1].id, limit=2)) == whole[2:]
        )

    async def test_the_audit_keeps_so_many_of_the_newest_entries_of_a_kind_for_an_account(
        self, database: Database
    ) -> None:
        owner, other = await someone(database), await someone(database, "kari")

        def add(tx: Transaction, number: int, act: Act, user_id: int | None) -> None:
            for _ in range(number):
                tx.audit.add(act, user_id, Origin(), NOW)

        async def ids(user_id: int) -> list[int]:
            return [
                each.id
                for each in await read(database, lambda tx: tx.audit.page(AuditFilter(user_id), after=0, limit=10_000))
                if each.act == Act.SIGNED_IN
            ]

        for each in (owner, other, None):
            await write(database, add, 1, Act.SIGNED_IN, each)
            await write(database, add, 1, Act.PASSWORD_RESET, each)
        await write(database, add, MAX_AUDIT_ENTRIES - 1, Act.SIGNED_IN, owner)
        before = await ids(owner)
        assert len(before) == MAX_AUDIT_ENTRIES
        await write(database, add, 2, Act.SIGNED_IN, owner)
        after = await ids(owner)
        assert len(after) == MAX_AUDIT_ENTRIES
        assert after[:-2] == before[2:]
        assert await ids(other) != []
        kept = await read(database, lambda tx: tx.audit.page(EVERYTHING, after=0, limit=10))
        assert [each.act for each in kept if each.user_id is None] == [Act.SIGNED_IN, Act.PASSWORD_RESET]
        assert sum(each.act is Act.PASSWORD_RESET for each in kept) == 3

    async def test_entries_of_the_audit_are_chosen(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")

        def add(tx: Transaction) -> None:
            for user_id, act, at in (
                (owner, Act.SIGNED_IN, NOW), (other, Act.SIGNED_IN, LATER), (owner, Act.SIGNED_OUT, FAR),
            ):  # fmt: skip
                tx.audit.add(act, user_id, Origin(), at)

        async def chosen(which: AuditFilter) -> list[int]:
            return [each.id for each in await read(database, lambda tx: tx.audit.page(which, after=0, limit=10))]

        await database.write(add)
        first, second, third = await chosen(EVERYTHING)
        assert await chosen(AuditFilter(owner)) == [first, third]
        assert await chosen(AuditFilter(act=Act.SIGNED_IN)) == [first, second]
        assert await chosen(AuditFilter(owner, Act.SIGNED_OUT)) == [third]
        assert await chosen(AuditFilter(since=LATER)) == [second, third]
        assert await chosen(AuditFilter(until=LATER)) == [first]
        assert await chosen(AuditFilter(owner, Act.SIGNED_IN, NOW, LATER)) == [first]
        assert await chosen(AuditFilter(NOBODY)) == []

    async def test_the_audit_says_which_administrator_acted_until_that_account_is_deleted(
        self, database: Database
    ) -> None:
        owner, admin = await someone(database), await someone(database, "admin")
        there = Origin("10.0.0.9", "Firefox", "request", "admin", admin)
        await database.write(lambda tx: tx.audit.add(Act.ACCOUNT_DISABLED, owner, there, NOW))
        await database.write(lambda tx: tx.audit.add(Act.ACCOUNT_ENABLED, owner, Origin(operator="root"), NOW))
        before, by_root = await read(database, lambda tx: tx.audit.page(EVERYTHING, after=0, limit=10))
        assert (before.operator, before.operator_id, before.address) == ("admin", admin, "10.0.0.9")
        assert (by_root.operator, by_root.operator_id) == ("root", None)
        await database.write(lambda tx: tx.users.delete(owner))
        nobodys = replace(before, user_id=None, username=None)
        assert await read(database, lambda tx: tx.audit.page(EVERYTHING, after=0, limit=1)) == [nobodys]
        await database.write(lambda tx: tx.users.delete(admin))
        without = replace(nobodys, operator=DELETED_OPERATOR, address="")
        assert await read(database, lambda tx: tx.audit.page(EVERYTHING, after=0, limit=1)) == [without]

    async def test_accounts_are_listed_page_by_page_and_found_by_how_a_name_begins(self, database: Database) -> None:
        ids = [await someone(database, name) for name in ("Ole_Nor", "olenor", "kari", "STRASSE%", "\u00d8le")]

        async def found(prefix: str, after: int = 0, limit: int = 10) -> list[int]:
            users = await read(database, lambda tx: tx.users.page(after=after, limit=limit, prefix=prefix))
            return [each.id for each in users]

        assert await found("") == ids
        assert await found("", limit=2) == ids[:2]
        assert await found("", after=ids[1], limit=2) == ids[2:4]
        assert await found("ole") == await found("OLE") == await found("o\u200ble") == ids[:2]
        assert await found("ole", after=ids[0]) == ids[1:2]
        assert await found("ole_") == ids[:1]
        assert await found("ole%") == await found("%") == await found("_") == await found("le") == []
        assert await found("stra\u00dfe%") == ids[3:4]
        assert await found("\u00f8") == ids[4:]
        assert await found("kari@example") == ids[2:3]
        assert await found("a" * 10_000) == []

    async def test_an_account_is_marked_as_an_administrators(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")

        async def marked() -> list[bool]:
            users = await read(database, lambda tx: tx.users.page(after=0, limit=10))
            return [each.administrator for each in users]

        assert await marked() == [False, False]
        await database.write(lambda tx: tx.users.mark_administrator(other, administrator=True))
        assert await marked() == [False, True]
        user = await read(database, lambda tx: tx.users.by_username("kari"))
        assert user is not None
        assert user.administrator
        await database.write(lambda tx: tx.users.mark_administrator(other, administrator=False))
        assert await marked() == [False, False]
        with pytest.raises(AccountNotFound):
            await database.write(lambda tx: tx.users.mark_administrator(NOBODY, administrator=True))
        assert await read(database, lambda tx: tx.users.get(owner)) is not None

    async def test_it_is_known_of_many_accounts_which_have_a_second_factor(self, database: Database) -> None:
        owners = [await someone(database, name) for name in ("ole", "kari", "per")]
        for each in owners[:2]:
            await database.write(lambda tx, each=each: tx.second_factors.enroll(each, b"seed"))  # type: ignore[misc]
        factor = await read(database, lambda tx: tx.second_factors.get(owners[0]))
        assert factor is not None
        assert await database.write(lambda tx: tx.second_factors.enable(factor, 1, [], NOW))
        assert await read(database, lambda tx: tx.second_factors.enabled_for([*owners, NOBODY])) == {owners[0]}
        assert await read(database, lambda tx: tx.second_factors.enabled_for([])) == frozenset()

    async def test_a_deleted_account_leaves_its_acts_without_the_person(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        here = Origin("10.0.0.1", "Firefox", "request", "")
        for each in (owner, other):
            await database.write(lambda tx, each=each: tx.audit.add(Act.SIGNED_IN, each, here, NOW))  # type: ignore[misc]
        before = await database.read(lambda tx: tx.audit.page(EVERYTHING, after=0, limit=10))
        await database.write(lambda tx: tx.users.delete(owner))
        after = await database.read(lambda tx: tx.audit.page(EVERYTHING, after=0, limit=10))
        assert after == [replace(before[0], user_id=None, username=None, address=""), before[1]]

    # -- Calls of tools ------------------------------------------------------------------------------------------------

    @each_text
    async def test_a_call_is_read_back_as_it_began_and_as_it_ended(self, text: str, database: Database) -> None:
        owner = await someone(database)
        answer = await ask(database, owner, await conversation_of(database, owner))
        call = await begin_call(database, owner, answer, raw_arguments=text, offset=7, round=2)
        assert call == ToolCall(
            call.id, owner, answer.conversation_id, answer.id, 2, "tool", "1", "Biopython 1.88", "what it does",
            text, 7, NOW,
        )  # fmt: skip
        assert await call_of(database, owner, call.id) == call
        origin = InputOrigin(InputSource.MESSAGE, 812, 40, 1882)
        inputs = (CallInput("sequence", text[:100], 4, "ab", ("case", "spaces"), origin),)
        ended = EndedCall(CallState.DONE, "{}", inputs, f'{{"a":"{text}"}}', "cd", text, None, text[:200], 9)
        assert await database.write(lambda tx: tx.tool_calls.end(call, ended, LATER))
        after = await call_of(database, owner, call.id)
        assert after == replace(
            call, **{each.name: getattr(ended, each.name) for each in fields(ended)}, ended_at=LATER
        )
        await database.write(lambda tx: tx.tool_calls.note_quoted([call.id]))
        await database.write(lambda tx: tx.tool_calls.note_quoted([]))
        assert await call_of(database, owner, call.id) == replace(after, quoted=True)

    async def test_a_call_ends_once(self, database: Database) -> None:
        owner = await someone(database)
        call = await begin_call(database, owner)
        assert await end_call(database, call, error="first")
        stored = await stored_bytes_of(database, owner)
        assert not await end_call(database, call, error="second")
        assert not await end_call(database, replace(call, id=NOBODY))
        assert (await call_of(database, owner, call.id)).error == "first"
        assert await stored_bytes_of(database, owner) == stored

    async def test_a_call_that_runs_when_its_answer_ends_is_cancelled_with_it(self, database: Database) -> None:
        owner = await someone(database)
        ended, lost, runs = [
            await ask(database, owner, await conversation_of(database, owner), lease=lease)
            for lease in (LEASE, LEASE, LATER - NOW + LEASE)
        ]
        calls = [await begin_call(database, owner, answer) for answer in (ended, ended, lost, runs)]
        await end_call(database, calls[0])
        await end(database, ended, "text")
        await expire(database)
        states = [(await call_of(database, owner, call.id)).state.value for call in calls]
        assert states == ["done", "cancelled", "cancelled", "running"]
        cancelled = await call_of(database, owner, calls[2].id)
        assert (cancelled.error, cancelled.ended_at, cancelled.shown) == ("cancelled", LATER, cancelled.result)
        assert not await end_call(database, calls[2])

    async def test_no_call_begins_for_an_answer_that_does_not_run(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        answer = await ask(database, owner, await conversation_of(database, owner))
        with pytest.raises(AnswerNotFound):
            await begin_call(database, other, answer)
        await end(database, answer, "text")
        for gone in (answer, replace(answer, id=NOBODY)):
            with pytest.raises(AnswerNotFound):
                await begin_call(database, owner, gone)

    async def test_a_call_without_answer_needs_its_conversation_or_its_user(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        conversation = await conversation_of(database, owner)
        assert (await begin_call(database, owner, conversation_id=conversation)).conversation_id == conversation
        with pytest.raises(ConversationNotFound):
            await begin_call(database, other, conversation_id=conversation)
        with pytest.raises(AccountNotFound):
            await begin_call(database, NOBODY)

    async def test_calls_are_listed_by_answer_by_conversation_and_without_one(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        first = await ask(database, owner, await conversation_of(database, owner))
        here = first.conversation_id
        await begin_call(database, other)
        loose = [await begin_call(database, owner) for _ in range(2)]
        of_first = await begin_call(database, owner, first)
        without_answer = await begin_call(database, owner, conversation_id=here)
        await end(database, first, "text")
        of_second = await begin_call(database, owner, await ask(database, owner, here))
        lists: list[tuple[dict[str, Any], list[ToolCall]]] = [
            ({}, loose),
            ({"conversation_id": here}, [of_first, without_answer, of_second]),
            ({"answer_id": first.id}, [of_first]),
            ({"conversation_id": here, "after": of_first.id}, [without_answer, of_second]),
        ]
        for asked, expected in lists:
            listed_ids = [call.id for call in await calls_of(database, owner, **asked)]
            assert listed_ids == [call.id for call in expected]
            if asked:
                assert await calls_of(database, other, **asked) == []
        with pytest.raises(ToolCallNotFound):
            await call_of(database, other, loose[0].id)

    async def test_a_page_of_calls_ends_when_it_is_large_enough(self, database: Database) -> None:
        owner = await someone(database)
        for _ in range(4):
            await end_call(database, await begin_call(database, owner), result="x" * 1000)
        ids = [call.id for call in await calls_of(database, owner)]
        for size, count in ((1, 1), (1000, 1), (2000, 2), (10_000, 4)):
            page = await calls_of(database, owner, after=0, size=size)
            assert [call.id for call in page] == ids[:count]

    async def test_what_calls_store_is_counted_and_no_longer_when_they_are_gone(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        sizes: list[int] = []
        for place in (None, conversation):
            call = await begin_call(database, owner, conversation_id=place, raw_arguments="\N{DNA DOUBLE HELIX}")
            assert await stored_bytes_of(database, owner) == sum(sizes) + call.stored_bytes
            await end_call(database, call, result="x" * 5000)
            sizes.append((await call_of(database, owner, call.id)).stored_bytes)
            assert await stored_bytes_of(database, owner) == sum(sizes)
        [loose] = await calls_of(database, owner)
        [bound] = await calls_of(database, owner, conversation_id=conversation)
        for call_id, caller in ((bound.id, owner), (loose.id, await someone(database, "kari")), (NOBODY, owner)):
            with pytest.raises(ToolCallNotFound):
                await write(database, _delete_call, call_id, caller)
        await write(database, _delete_call, loose.id, owner)
        assert await stored_bytes_of(database, owner) == sizes[1]
        await delete(database, owner, conversation)
        assert await stored_bytes_of(database, owner) == 0
        assert await calls_of(database, owner, conversation_id=conversation) == []

    async def test_the_calls_of_messages_come_newest_first_beside_them(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        conversation = await conversation_of(database, owner)
        await begin_call(database, owner, conversation_id=conversation)
        expected, answered = [], []
        for number in range(3):
            answer = await ask(database, owner, conversation)
            calls = [await begin_call(database, owner, answer, raw_arguments=str(each)) for each in range(number)]
            for call in calls:
                await end_call(database, call, shown=f"shown {call.id}")
            await end(database, answer, f"text {number}")
            said = (await database.read(lambda tx: tx.messages.of(conversation, owner=owner)))[-1].id
            answered.append(said)
            expected += [
                PastCall(each.id, said, 1, "tool", each.raw_arguments, CallState.DONE, f"shown {each.id}", 0, 0)
                for each in calls
            ]
        failed = await ask(database, owner, conversation)
        await begin_call(database, owner, failed)
        await end(database, failed, "")

        def past(tx: Transaction, caller: int, up_to: int) -> list[PastCall]:
            return list(tx.tool_calls.past(conversation, owner=caller, up_to=up_to))

        assert await read(database, past, owner, NOBODY) == expected[::-1]
        assert await read(database, past, owner, answered[1]) == expected[:1]
        assert await read(database, past, other, NOBODY) == []

    async def test_more_calls_than_are_fetched_at_once_are_read_to_the_first(self, database: Database) -> None:
        owner = await someone(database)
        answer = await ask(database, owner, await conversation_of(database, owner))
        calls = [await begin_call(database, owner, answer) for _ in range(70)]
        for call in calls:
            await end_call(database, call, result=str(call.id))
        await end(database, answer, "text")
        here = answer.conversation_id
        newest_first = [call.id for call in reversed(calls)]
        past = await database.read(lambda tx: list(tx.tool_calls.past(here, owner=owner, up_to=NOBODY)))
        assert [each.id for each in past] == newest_first
        results = await database.read(lambda tx: list(tx.tool_calls.results(here, owner=owner)))
        assert results == [(call_id, str(call_id)) for call_id in newest_first]

    async def test_only_done_calls_have_results_to_be_found(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        for state in (CallState.DONE, CallState.REFUSED, CallState.DONE):
            await end_call(database, await begin_call(database, owner, conversation_id=conversation), state=state)
        await begin_call(database, owner, conversation_id=conversation)

        def results(tx: Transaction, caller: int) -> list[tuple[int, str]]:
            return list(tx.tool_calls.results(conversation, owner=caller))

        done = [
            call.id
            for call in await calls_of(database, owner, conversation_id=conversation)
            if call.state is CallState.DONE
        ]
        assert [call_id for call_id, _ in await read(database, results, owner)] == done[::-1]
        assert await read(database, results, await someone(database, "kari")) == []

    async def test_an_answer_that_no_provider_was_asked_for_costs_nothing(self, database: Database) -> None:
        owner = await someone(database)
        conversation = await conversation_of(database, owner)

        def begin_alone(tx: Transaction) -> Answer:
            question = tx.messages.add(conversation, Role.USER, "/tool", NOW, owner=owner)
            return tx.answers.begin(NewAnswer(question, owner, None, "BAiO", NOW, NOW + LEASE, max_running=1))

        answer = await database.write(begin_alone)
        await end(database, answer, "> 50 %", Outcome(AnswerState.COMPLETE, "stop"))
        assert (await record_of(database, owner, answer)).state is AnswerState.COMPLETE
        today = NOW.date()
        assert await database.read(lambda tx: tx.ledger.of(owner, today, today)) == []


async def begin_call(
    database: Database, owner: int, answer: Answer | None = None, *, conversation_id: int | None = None, **more: Any
) -> ToolCall:
    """A running call."""
    new = NewToolCall(
        owner,
        "tool",
        "1",
        "Biopython 1.88",
        "what it does",
        **({"raw_arguments": "{}"} | more),
        now=NOW,
        conversation_id=conversation_id,
        answer_id=answer.id if answer else None,
    )
    return await database.write(lambda tx: tx.tool_calls.begin(new))


async def end_call(database: Database, call: ToolCall, **more: Any) -> bool:
    """End the call, as done unless something else is asked for."""
    fields_ = {
        "state": CallState.DONE, "arguments": "{}", "inputs": (), "result": "{}", "result_sha256": "ab", "shown": "{}",
    }  # fmt: skip
    ended = EndedCall(**(fields_ | more))
    return await database.write(lambda tx: tx.tool_calls.end(call, ended, LATER))


async def call_of(database: Database, owner: int, call_id: int) -> ToolCall:
    """The record as it is now."""
    return await database.read(lambda tx: tx.tool_calls.get(call_id, owner=owner))


async def calls_of(database: Database, owner: int, *, size: int = 2**20, **asked: Any) -> list[ToolCall]:
    """A page of records."""
    return await database.read(lambda tx: tx.tool_calls.page(owner=owner, size=size, **asked))


async def stored_bytes_of(database: Database, owner: int) -> int:
    """How much is stored for the owner, without the records of messages and answers that there are not."""
    return (await database.read(lambda tx: tx.conversations.stored(owner)))[1]


def _delete_call(tx: Transaction, call_id: int, owner: int) -> None:
    tx.tool_calls.delete(call_id, owner=owner)


async def sessions_of(database: Database, owner: int) -> list[Session]:
    """The owner's sessions, newest first."""
    return await database.read(lambda tx: tx.sessions.of(owner))


async def over(database: Database, token_id: str, owner: int) -> None:
    """The session is not active."""
    assert await database.read(lambda tx: tx.sessions.is_active(token_id, owner=owner)) is False


async def use(
    database: Database,
    session: Session,
    now: datetime,
    used_since: datetime = NOW,
    opened_since: datetime = NOW,
) -> Session | None:
    """Use the session on behalf of its owner."""

    def work(tx: Transaction) -> Session | None:
        return tx.sessions.use(
            session.token_id, now, owner=session.user_id, used_since=used_since, opened_since=opened_since
        )

    return await database.write(work)


async def factor_of(database: Database, owner: int) -> SecondFactor | None:
    """The owner's second factor."""
    return await database.read(lambda tx: tx.second_factors.get(owner))


async def enable(database: Database, factor: SecondFactor, counter: int, *digests: bytes) -> bool:
    """Enable the second factor."""
    return await database.write(lambda tx: tx.second_factors.enable(factor, counter, digests, NOW))


async def enabled_factor(database: Database, owner: int, *digests: bytes, counter: int = 1) -> SecondFactor:
    """A new second factor, enabled."""
    await database.write(lambda tx: tx.second_factors.enroll(owner, b"seed"))
    enrolled = SecondFactor(owner, b"seed", None, 0)
    assert await enable(database, enrolled, counter, *digests)
    return replace(enrolled, enabled_at=NOW, last_counter=counter)


async def spend(database: Database, factor: SecondFactor, counter: int, latest: int = 1000) -> bool:
    """Use the code of a step."""
    return await database.write(lambda tx: tx.second_factors.use_code(factor, counter, latest))


async def use_recovery_code(database: Database, owner: int, digest: bytes) -> bool:
    """Use a recovery code."""
    return await database.write(lambda tx: tx.second_factors.use_recovery_code(owner, digest))
