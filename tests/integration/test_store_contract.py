"""The contract of every database, run on each: in memory, on SQLite and PostgreSQL; and what only SQL can break."""

import asyncio
import contextlib
import re
import traceback
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from dependency_injector import providers
from sqlalchemy import Connection, Engine, UniqueConstraint, create_engine, event, text
from sqlalchemy.exc import IntegrityError

from baio_adapters.llm.scripted import ScriptedGateway
from baio_adapters.memory import MemoryDatabase
from baio_adapters.scripted_tools import ScriptedToolbox
from baio_adapters.sql import migrations
from baio_adapters.sql.database import SqlDatabase
from baio_adapters.sql.repositories.conversations import FETCHED
from baio_adapters.sql.tables import metadata
from baio_api.container import Container
from baio_api.settings import Settings
from baio_domain.answering import LiveAnswer
from baio_domain.entities import (
    NOWHERE,
    Act,
    Answer,
    Caller,
    Conversation,
    FiledConversation,
    Filing,
    Message,
    ProviderSpec,
    RetentionPolicy,
    Role,
    Scope,
    SecondFactor,
)
from baio_domain.errors import BaioError, ConversationNotFound, Unavailable
from baio_domain.ports import (
    EVERYTHING,
    AnswerPart,
    AuditFilter,
    Database,
    NewAnswer,
    NewToolCall,
    PlaceInLedger,
    Transaction,
)
from baio_domain.session_check import session_checked
from tests.integration.conftest import NewDatabase
from tests.unit.world import OPENAI, PlainBox

pytest.register_assert_rewrite(
    "tests.store_contract", "tests.filing_contract", "tests.identities_contract", "tests.sequences_contract"
)

from tests.filing_contract import FilingContract  # noqa: E402 - not before its asserts can speak
from tests.identities_contract import BEGUN, ISSUER, IdentitiesContract, asserted, opened  # noqa: E402
from tests.sequences_contract import SequencesContract, a_sequence  # noqa: E402
from tests.store_contract import (  # noqa: E402 - not before its asserts can speak
    CHOSEN,
    COMPLETE,
    FAR,
    LATER,
    LEASE,
    NOW,
    StoreContract,
    add_key,
    ask,
    begin,
    checkpoint,
    conversation_of,
    end,
    ensure_provider,
    meanwhile,
    say,
    someone,
    spoken,
    write,
)
from tests.tokens_contract import TokensContract  # noqa: E402


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def url(new_database: NewDatabase) -> str:
    made = new_database()
    migrations.upgrade(made)
    return made


def rows(connection: Connection, table: str) -> int:
    return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


@pytest.fixture(scope="module")
def kept_open(url: str) -> Iterator[SqlDatabase]:
    """A database that stays open: its connections and compiled statements serve every test of the contract."""
    database = SqlDatabase(url)
    yield database
    database.close()


def emptied(database: SqlDatabase) -> SqlDatabase:
    """The database, without what other tests have left in it."""
    with database._writer.engine.begin() as connection:
        if connection.dialect.name == "postgresql":  # where deleted rows stay, and each deletion would read them all
            connection.exec_driver_sql(f"TRUNCATE {', '.join(metadata.tables)}")
        else:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
    return database


@pytest.fixture
def sql(url: str) -> Iterator[SqlDatabase]:
    """An empty database of a test's own, which may listen to its connections."""
    database = SqlDatabase(url)
    yield emptied(database)
    database.close()


class TestMemory(StoreContract, FilingContract, IdentitiesContract, SequencesContract, TokensContract):
    @pytest.fixture
    def database(self) -> Database:
        return MemoryDatabase()


class TestSql(StoreContract, FilingContract, IdentitiesContract, SequencesContract, TokensContract):
    @pytest.fixture
    def database(self, kept_open: SqlDatabase) -> Database:
        return emptied(kept_open)


# -- Indexes -----------------------------------------------------------------------------------------------------------


def test_every_foreign_key_that_a_deletion_follows_has_an_index() -> None:
    """Else each deletion reads the whole table that refers to what is deleted."""
    for table in metadata.tables.values():
        whole = [each.columns for each in table.indexes if each.kwargs["postgresql_where"] is None]
        unique = [each.columns for each in table.constraints if isinstance(each, UniqueConstraint)]
        first = {next(iter(each)).name for each in (*whole, *unique, table.primary_key.columns)}
        followed = {key.parent.name for key in table.foreign_keys if key.ondelete is not None}
        assert followed <= first, table.name


Statement = tuple[str, Any]


def statements_of(database: SqlDatabase, work: Callable[[Transaction], object]) -> list[Statement]:
    """What a unit of work sends to the database, with its parameters; it changes nothing."""
    sent: list[Statement] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, _x: object, many: bool) -> None:  # noqa: ANN401, FBT001 - SQLAlchemy's signature
        if statement.upper().startswith(("SELECT", "UPDATE", "DELETE")):
            sent.append((statement, parameters[0] if many else parameters))

    engine: Engine = database._writer.engine
    event.listen(engine, "before_cursor_execute", note)

    def undone(tx: Transaction) -> None:
        work(tx)
        raise _UndoError

    try:
        with contextlib.suppress(BaioError, _UndoError):
            asyncio.run(database.write(undone))
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return sent


class _UndoError(Exception):
    """Rolls a transaction back."""


def plan_of(database: SqlDatabase, statement: Statement, *switched_off: str) -> list[str]:
    """How the database goes about it, a line for each step; on PostgreSQL without these ways, where there is another.

    On tables as small as a test's, reading and sorting everything is right. The question is what is possible.
    """
    with database._writer.engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            for way in switched_off:
                connection.execute(text(f"SET LOCAL enable_{way} = off"))
            found = connection.exec_driver_sql(f"EXPLAIN (COSTS OFF) {statement[0]}", statement[1]).fetchall()
        else:
            found = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement[0]}", statement[1]).fetchall()
        return [str(row[-1]) for row in found]


def sorts(plan: list[str]) -> bool:
    return any("USE TEMP B-TREE" in step or "Sort" in step for step in plan)


PARTIAL = {
    index.name
    for table in metadata.tables.values()
    for index in table.indexes
    if index.kwargs.get("postgresql_where") is not None
}
"""Indexes of a few rows, such as those of running answers: reading all of one is not reading everything."""


def reads_everything(plan: list[str]) -> bool:
    for step, below in zip(plan, [*plan[1:], ""], strict=True):
        by_index = re.search(r"(?:Index (?:Only )?Scan(?: Backward)? using|Bitmap Index Scan on) (\w+)", step)
        without_condition = by_index and "Index Cond" not in below and by_index[1] not in PARTIAL
        # what the statement brings, has found before, or finds by full text; and a table of one row
        of_no_table = re.search(
            r"json_each|CONSTANT ROW|SCAN (texts|with_words|anon_1|text_index_deletions)$|VIRTUAL TABLE INDEX 0:M", step
        )
        if (step.strip().startswith("SCAN") and not of_no_table) or "Seq Scan" in step or without_condition:
            return True
    return False


@pytest.fixture(scope="module")
def filled(new_database: NewDatabase) -> Iterator[SqlDatabase]:
    """Many owners with many conversations, messages, answers and keys, and statistics; no test changes them."""
    url = new_database()
    migrations.upgrade(url)
    sql = SqlDatabase(url)

    async def fill() -> None:
        owners = [await someone(sql, f"user{number}") for number in range(5)]

        def write(tx: Transaction) -> None:
            ensure_provider(tx)
            for owner in owners:
                tx.users.save_password_reset(owner, b"link of %d" % owner, LATER)
                for number in range(40):
                    conversation = tx.conversations.add(owner, str(number), NOW + timedelta(minutes=number))
                    tx.filings.tag(conversation.id, [f"tag {number % 3}"], owner=owner)
                    tx.messages.add(conversation.id, Role.SYSTEM, "system", NOW, owner=owner)
                    question = tx.messages.add(conversation.id, Role.USER, "?", NOW, owner=owner)
                    answer = begin(tx, question, owner)
                    tx.answers.checkpoint([AnswerPart(answer.id, 0, "text")], [answer.id], NOW + LEASE, number)
                    if number % 10 == 0:
                        tx.answers.end(answer.id, COMPLETE, "text", NOW)
                    tx.tool_calls.begin(NewToolCall(owner, "tool", "1", "", "", "{}", NOW, conversation.id))
                    tx.tool_calls.begin(NewToolCall(owner, "tool", "1", "", "", "{}", NOW))
                    made = tx.sequences.add(a_sequence(owner, "A" * (number + 1), conversation_id=conversation.id))
                    tx.sequences.mention(question, made.id, (0, 1), owner=owner)
                    tx.api_keys.add(owner, 1, f"key {number}", NOW)
                    tx.settings.save(conversation.id, CHOSEN, owner=owner)
                    tx.presets.add(owner, f"preset {number}", CHOSEN, NOW)
                    tx.idempotency.remember(owner, f"key {number}", b"mark", 1, NOW)
                    opened(tx, owner, f"{owner} {number}", f"{owner} {number}")
                    tx.sign_ins.start(b"%d %d" % (owner, number), BEGUN, LATER)
                    tx.sign_ins.add_ticket(b"%d %d" % (owner, number), "c" * 43, asserted(), LATER)
                    digest = b"digest %d of %d" % (number, owner)
                    tx.api_tokens.add(owner, f"{number}", (Scope.READ,), NOW, LATER, ending="x7Rq", digest=digest)
                    tx.failed_attempts.save_arrival_time(b"key %d" % number, NOW)
                    tx.audit.add(Act.SIGNED_IN, owner, NOWHERE, NOW)

        await sql.write(write)

    asyncio.run(fill())
    with sql._writer.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    yield sql
    sql.close()


PLACE = FiledConversation(Conversation(20, 1, "", NOW), Filing(NOW))
QUESTION = Message(1, 1, Role.USER, "?", NOW)

LISTS: dict[str, Callable[[Transaction], object]] = {
    "conversations": lambda tx: tx.conversations.page(1),
    "found conversations": lambda tx: tx.filings.find(2**40),
    "found conversations with a tag": lambda tx: tx.filings.find(2**40, tag="PCR", before=PLACE),
    "messages": lambda tx: tx.messages.of(1, owner=1),
    "messages from the newest back": lambda tx: list(tx.messages.iter_newest_first(1, owner=1)),
    "messages from one back": lambda tx: list(tx.messages.iter_newest_first(1, owner=1, up_to=2**40)),
    "keys": lambda tx: tx.api_keys.of(1),
    "answers": lambda tx: tx.answers.page(1, owner=1),
    "usage": lambda tx: tx.ledger.of(1, NOW.date(), FAR.date()),
    "presets": lambda tx: tx.presets.of(1),
    "sessions": lambda tx: tx.sessions.of(1),
    "identities": lambda tx: tx.identities.of(1),
    "API tokens": lambda tx: tx.api_tokens.of(1),
    "audit of an account": lambda tx: tx.audit.page(AuditFilter(1), after=0, limit=10),
    "audit": lambda tx: tx.audit.page(EVERYTHING, after=5, limit=10),
    "page of conversations": lambda tx: tx.conversations.page(1, before=Conversation(20, 1, "", NOW), limit=10),
    "page of messages": lambda tx: tx.messages.page(1, owner=1, after=1, size=10),
    "page of answers": lambda tx: tx.answers.page(1, owner=1, after=1, limit=10),
    "next kept text": lambda tx: tx.answers.next_text(1, owner=1, after=0),
    "calls of an answer": lambda tx: tx.tool_calls.page(owner=1, answer_id=1, size=10),
    "calls of a conversation": lambda tx: tx.tool_calls.page(owner=1, conversation_id=1, after=1, size=10),
    "calls in no conversation": lambda tx: tx.tool_calls.page(owner=1, size=10),
    "calls for a prompt": lambda tx: list(tx.tool_calls.past(1, owner=1, up_to=50)),
    "results of calls": lambda tx: list(tx.tool_calls.results(1, owner=1)),
    "audit of a kind": lambda tx: tx.audit.page(AuditFilter(act=Act.SIGNED_IN), after=5, limit=10),
    "audit of an account and a kind": lambda tx: tx.audit.page(AuditFilter(1, Act.SIGNED_IN), after=5, limit=10),
    "accounts": lambda tx: tx.users.page(after=1, limit=10),
    "accounts whose names begin so": lambda tx: tx.users.page(after=1, limit=10, prefix="user"),
    "usage of all": lambda tx: tx.ledger.page(NOW.date(), FAR.date(), after=PlaceInLedger(1, NOW.date(), 1), limit=10),
    "sequences": lambda tx: tx.sequences.page(1, limit=10),
    "sequences of a conversation": lambda tx: tx.sequences.page(1, conversation_id=1, before=50, limit=10),
    "sequences with a name": lambda tx: tx.sequences.named("name", 1, owner=1),
    "page of idempotency keys": lambda tx: tx.idempotency.page(1, after="key 1", limit=10),
}


def a_place_that_has_become_free(tx: Transaction) -> None:
    owner = tx.users.by_username("user1").id  # type: ignore[union-attr]
    ended = tx.conversations.page(owner, limit=2)[1].id
    tx.answers.end(tx.answers.newest(ended, owner=owner).id, COMPLETE, "", NOW)
    question = next(tx.messages.iter_newest_first(ended, owner=owner))
    tx.answers.begin(NewAnswer(question, owner, 1, "gpt-4o", NOW, NOW + LEASE, max_running=36))


POLICY = RetentionPolicy(timedelta(days=90))

FOUND: dict[str, Callable[[Transaction], object]] = {
    "user": lambda tx: tx.users.by_username("user1"),
    "names that are taken": lambda tx: tx.users.taken("user1", "user1@example.no"),
    "key": lambda tx: tx.api_keys.get("key 1", owner=tx.users.by_username("user1").id),  # type: ignore[union-attr]
    "key with its provider": lambda tx: tx.api_keys.with_provider("key 1", "gpt-4o", owner=1),
    "opening": lambda tx: tx.settings.opening(1, owner=1),
    "settings of answers": lambda tx: tx.answers.settings(1, owner=1, first=1, last=2**40),
    "preset": lambda tx: tx.presets.get("preset 1", owner=1),
    "a place for an answer": lambda tx: tx.answers.begin(
        NewAnswer(QUESTION, 1, 1, "gpt-4o", NOW, NOW + LEASE, max_running=0)
    ),
    "a place that has become free": a_place_that_has_become_free,
    "running answers": lambda tx: tx.answers.checkpoint([AnswerPart(1, 0, "x")], [1, 2, 3], LATER),
    "text": lambda tx: (tx.answers.text(1, 5, owner=1), tx.answers.length(1, owner=1)),
    "leases that are over": lambda tx: tx.answers.end_expired(NOW - LEASE, FAR, except_ids=()),
    "workers with answers": lambda tx: tx.answers.workers(),
    "answers of workers": lambda tx: tx.answers.end_of_workers([1, 2], NOW, except_ids=()),
    "answers of messages": lambda tx: tx.answers.of_messages(1, owner=1, first=1, last=50),
    "who has a second factor": lambda tx: tx.second_factors.enabled_for([1, 2, 3]),
    "what a request led to": lambda tx: tx.idempotency.find(1, "key 1", b"mark", NOW),
    "what is to be forgotten": lambda tx: tx.idempotency.forget(NOW - LEASE, FAR),
    "enabled account": lambda tx: tx.users.is_enabled(1),
    "active session": lambda tx: tx.sessions.is_active("a" * 32, owner=1),
    "session": lambda tx: tx.sessions.use("a" * 32, NOW, owner=1, used_since=NOW, opened_since=NOW),
    "sessions of an owner": lambda tx: tx.sessions.end_all(1, except_token_id="a"),
    "sessions that are over": lambda tx: tx.sessions.forget(used_before=NOW - LEASE, opened_before=NOW - LEASE),
    "an API token": lambda tx: tx.api_tokens.find(b"digest 1 of 1"),
    "active API tokens": lambda tx: tx.api_tokens.active([b"digest 1 of 1", b"digest 2 of 1"], NOW),
    "API tokens that were used": lambda tx: tx.api_tokens.note_used({b"digest 1 of 1": NOW}),
    "an API token to revoke": lambda tx: tx.api_tokens.revoke("1", owner=tx.users.by_username("user1").id),  # type: ignore[union-attr]
    "API tokens of an owner": lambda tx: tx.api_tokens.revoke_all(1),
    "API tokens that have expired": lambda tx: tx.api_tokens.forget_expired(NOW, owner=1),
    "failures": lambda tx: tx.failed_attempts.arrival_times([b"key 1", b"key 2"]),
    "failures to be forgotten": lambda tx: tx.failed_attempts.forget([b"key 1"], NOW - LEASE),
    "texts with words": lambda tx: tx.filings.find(1, query="sys te", tag="tag 1", before=PLACE),
    "tags": lambda tx: (tx.filings.tags(1), tx.filings.of(1, owner=1), tx.filings.find(1)),
    "tags to be replaced": lambda tx: tx.filings.tag(1, ["PCR"], owner=1),
    "conversations that are due": lambda tx: tx.retentions.delete_due(POLICY, NOW, count=32, size=2**20),
    "conversations that are due where none is kept": lambda tx: tx.retentions.delete_due(
        RetentionPolicy(POLICY.period, keeping_allowed=False), NOW, count=32, size=2**20
    ),
    "whether any is due": lambda tx: tx.retentions.any_due(POLICY, NOW, NOW),
    "activity ahead of time": lambda tx: tx.retentions.correct_future(FAR),
    "how long one is kept": lambda tx: tx.retentions.get(1, owner=1),
    "an import": lambda tx: (tx.imports.find(b"digest", owner=1), tx.imports.mark(1, b"digest", NOW, owner=1)),
    "one to keep": lambda tx: tx.retentions.keep(1, kept=True, owner=1),
    "what is stored": lambda tx: tx.conversations.stored(1),
    "locked account": lambda tx: (tx.users.lock(1), tx.users.is_enabled(1)),
    "oldest sessions of an owner": lambda tx: tx.sessions.end_oldest(1, keep=5),
    "active sessions": lambda tx: tx.sessions.active(["a" * 32, "b" * 32]),
    "oldest idempotency keys of an owner": lambda tx: tx.idempotency.forget_oldest(1, keep=5),
    "audit entry": lambda tx: tx.audit.add(Act.SIGNED_IN, tx.users.by_username("user1").id, NOWHERE, NOW),  # type: ignore[union-attr]
    "audit to be forgotten": lambda tx: tx.audit.forget(NOW - LEASE),
    "a known network": lambda tx: tx.known_networks.is_known(1, b"network"),
    "a network to remember": lambda tx: tx.known_networks.remember(1, b"network 1", NOW),
    "an invitation": lambda tx: tx.invitations.is_valid(b"code", "ole@example.no", NOW, FAR),
    "an invitation to use": lambda tx: tx.invitations.use(b"code"),
    "an identity": lambda tx: tx.identities.find(ISSUER, "1 1"),
    "an identity to use": lambda tx: tx.identities.use(1, NOW, owner=1),
    "an identity to unlink": lambda tx: tx.identities.remove(2, owner=1),
    "when a session was opened": lambda tx: tx.identities.opened_at("a" * 32, owner=1),
    "sessions of an identity": lambda tx: tx.identities.end_sessions(1, owner=1),
    "sessions of a subject": lambda tx: tx.identities.end_sessions_at(ISSUER, "1 1", None),
    "sessions of a session": lambda tx: tx.identities.end_sessions_at(ISSUER, None, "1 3"),
    "sessions of both": lambda tx: tx.identities.end_sessions_at(ISSUER, "1 1", "1 1"),
    "a sign-in that has begun": lambda tx: tx.sign_ins.take(b"1 1", NOW, FAR),
    "a ticket": lambda tx: (tx.sign_ins.ticket(b"1 1", "c" * 43, NOW, FAR), tx.sign_ins.use_ticket(b"1 1")),
    "sign-ins that are over": lambda tx: tx.sign_ins.forget(NOW - LEASE),
    "recovery code": lambda tx: tx.second_factors.use_recovery_code(1, b"code"),
    "a call": lambda tx: tx.tool_calls.get(1, owner=1),
    "a call of an answer": lambda tx: tx.tool_calls.begin(NewToolCall(1, "tool", "1", "", "", "{}", NOW, answer_id=2)),
    "calls that are quoted": lambda tx: tx.tool_calls.note_quoted([1, 2]),
    "a call to delete": lambda tx: tx.tool_calls.delete(2, owner=1),
    "a sequence": lambda tx: (tx.sequences.get(1, owner=1), tx.sequences.content(1, owner=1)),
    "the same sequence": lambda tx: tx.sequences.find("ab", "linear", "name", owner=1),
    "a sequence to attach": lambda tx: tx.sequences.attach(1, 2, owner=1),
    "a sequence to delete": lambda tx: tx.sequences.delete(2, owner=1),
    "mentions": lambda tx: tx.sequences.mentions(1, owner=1),
    "sequences that are stored": lambda tx: tx.sequences.stored(1),
    "a conversation to delete": lambda tx: tx.conversations.delete(3, owner=1),
    "an answer with calls": lambda tx: tx.answers.end(2, COMPLETE, "text", NOW),
    "an offered reset": lambda tx: tx.users.by_password_reset(b"link", NOW, FAR),
}


@pytest.mark.parametrize("work", LISTS.values(), ids=LISTS.keys())
def test_every_list_has_an_index_that_serves_it(work: Callable[[Transaction], object], filled: SqlDatabase) -> None:
    statements = statements_of(filled, work)
    assert statements
    for statement in statements:
        assert "ORDER BY" in statement[0]
        plan = plan_of(filled, statement, "seqscan", "bitmapscan", "sort")
        assert not reads_everything(plan), "\n".join(plan)
        assert not sorts(plan), "\n".join(plan)


@pytest.mark.parametrize("work", FOUND.values(), ids=FOUND.keys())
def test_nothing_is_found_by_reading_everything(work: Callable[[Transaction], object], filled: SqlDatabase) -> None:
    statements = statements_of(filled, work)
    assert statements
    for statement in statements:
        plan = plan_of(filled, statement, "seqscan")
        assert not reads_everything(plan), "\n".join(plan)


@pytest.mark.parametrize("table", ["conversations", "sequences"])
def test_what_a_user_stores_is_summed_without_reading_its_rows(table: str, filled: SqlDatabase) -> None:
    [statement] = statements_of(filled, lambda tx: getattr(tx, table).stored(1))
    plan = plan_of(filled, statement, "seqscan", "bitmapscan")
    index = f"ix_{table}_user_id_stored_bytes"
    assert any(re.search(rf"(COVERING INDEX|Index Only Scan using) {index}", step) for step in plan), "\n".join(plan)


@pytest.mark.parametrize("session_id", [None, "a" * 32])
def test_the_check_of_a_session_costs_one_look_up(session_id: str | None, filled: SqlDatabase) -> None:
    assert len(statements_of(filled, session_checked(Caller(1, session_id), lambda _: None))) == 1


STATEMENT = re.compile(r"(SELECT|INSERT|UPDATE|DELETE)\b.*?(?:\bFROM|\bINTO|(?<=UPDATE))\s+(\w+)", re.DOTALL)
LISTED = re.compile(r"^\| `(\w+) (\w+)` \|", re.MULTILINE)


async def statements_of_questions(
    sql: SqlDatabase, provider: ProviderSpec, *contents: str
) -> list[list[tuple[str, ...]]]:
    """The kinds and tables of the statements of questions in one conversation, to the provider's first model."""
    container = Container(settings=Settings())
    parts = {"database": sql, "box": PlainBox(), "gateways": {"OpenAI": ScriptedGateway(provider)}}
    for name, part in parts.items():
        container.providers[name].override(providers.Object(part))
    container.toolbox.override(providers.Object(ScriptedToolbox()))
    await container.load_catalogue()([provider])
    owner = await someone(sql)
    session = await sql.write(lambda tx: tx.sessions.open(owner, "a browser", NOW))
    caller = Caller(owner, session.token_id)
    await container.add_api_key()(caller, key="sk-test-0123456789", nickname="key", provider=None)
    conversation = (await container.create_conversation()(caller, "T")).id
    sent: list[str] = []
    event.listen(sql._writer.engine, "before_cursor_execute", lambda *call: sent.append(call[2]))
    found = []
    for content in contents:
        sent.clear()
        answer = await container.send_message()(
            caller,
            conversation_id=conversation,
            apikey_nickname="key",
            content=content,
            model=provider.models[0].identifier,
        )
        assert isinstance(answer, LiveAnswer)
        await answer.ended()
        matches = [STATEMENT.match(without_parentheses(statement)) for statement in sent]
        found.append([match.groups() if match else () for match in matches])
    return found


def without_parentheses(statement: str) -> str:
    """A statement without its subqueries."""
    while (shorter := re.sub(r"\([^()]*\)", "", statement)) != statement:
        statement = shorter
    return statement


async def test_a_question_costs_the_statements_that_the_documentation_lists(sql: SqlDatabase) -> None:
    text_of_rules = (Path(__file__).parents[2] / "docs" / "answers.md").read_text()
    first, second = await statements_of_questions(sql, OPENAI, "Why?", "And then?")
    assert first == LISTED.findall(text_of_rules)
    assert len(first) == 15
    assert second == without_title(first)


async def test_a_question_looks_only_for_calls_and_sequences_that_there_are(sql: SqlDatabase) -> None:
    spec = replace(OPENAI, models=(replace(OPENAI.models[0], tools=True),))
    questions = ("Why?", "And then?", "/echo so", "With its call?", f"And {'ACGT' * 15}?", "Of that sequence?")
    _, plain, _, called, _, both = await statements_of_questions(sql, spec, *questions)
    calls, sequences = ("SELECT", "tool_calls"), ("SELECT", "conversation_sequences")
    assert calls not in plain
    assert called.count(calls) == 1
    assert [each for each in called if each != calls] == plain
    assert sequences not in called
    assert both.count(calls) == both.count(sequences) == 1
    assert [each for each in both if each not in (calls, sequences)] == plain


def without_title(statements: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The same without the one that entitles a conversation with its first question."""
    counted = statements.index(("UPDATE", "conversations"))
    titled = statements.index(("UPDATE", "conversations"), counted + 1)
    return statements[:titled] + statements[titled + 1 :]


def test_these_tests_would_notice_a_missing_index(filled: SqlDatabase) -> None:
    assert reads_everything(plan_of(filled, ("SELECT * FROM messages WHERE content = 'x'", ()), "seqscan"))
    by_another = ("SELECT * FROM messages WHERE conversation_id = 1 ORDER BY content", ())
    assert sorts(plan_of(filled, by_another, "seqscan", "sort"))
    assert not reads_everything(plan_of(filled, by_another, "seqscan"))


def test_whatever_is_deleted_with_something_else_is_found_by_an_index() -> None:
    cascading = 0
    for table in metadata.tables.values():
        whole = [index.columns for index in table.indexes if not index.dialect_kwargs]
        unique = [rule.columns for rule in table.constraints if isinstance(rule, UniqueConstraint)]
        led_by = {next(iter(columns)).name for columns in (*whole, *unique, table.primary_key.columns)}
        for key in table.foreign_keys:
            # Accounts are deleted by hand, if ever; conversations every day.
            if key.ondelete is not None and key.column.table.name != "users":
                cascading += 1
                assert key.parent.name in led_by, f"{table.name}.{key.parent.name}"
    assert cascading > 4


async def test_messages_are_fetched_page_by_page_as_they_are_read(sql: SqlDatabase) -> None:
    owner = await someone(sql)
    conversation = await conversation_of(sql, owner)
    await say(sql, owner, conversation, *(str(number) for number in range(1000)))
    fetched: list[int] = []

    def note(_c: object, cursor: Any, statement: str, _p: object, _x: object, _many: object) -> None:  # noqa: ANN401 - a driver's cursor
        if "FROM messages" in statement:
            fetched.append(cursor.rowcount)

    def look(tx: Transaction) -> None:
        back = tx.messages.iter_newest_first(conversation, owner=owner)
        assert fetched == []
        assert next(back).content == "999"
        assert len(fetched) == 1
        assert [next(back).content for _ in range(FETCHED - 1)][-1] == str(1000 - FETCHED)
        assert len(fetched) == 1
        assert next(back).content == str(999 - FETCHED)
        assert len(fetched) == 2

    event.listen(sql._reader.engine, "after_cursor_execute", note)
    await sql.read(look)


# -- What only SQL can break -------------------------------------------------------------------------------------------

# SQLite has one writer at a time, and no server.
on_postgresql = pytest.mark.parametrize("new_database", ["postgresql"], indirect=True)


@on_postgresql
async def test_a_checkpoint_and_an_end_at_once_leave_no_text_behind(sql: SqlDatabase) -> None:
    owner = await someone(sql)
    conversation = await conversation_of(sql, owner)
    answer, loop = await ask(sql, owner, conversation), asyncio.get_running_loop()
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    ends: list[Future[bool]] = []

    def work(tx: Transaction) -> None:
        tx.answers.checkpoint([AnswerPart(answer.id, 0, "half")], [answer.id], NOW + LEASE)
        if not ends:
            # It begins before this commits, and passes or waits for it.
            ends.append(asyncio.run_coroutine_threadsafe(end(sql, answer, "whole"), loop))
            with sql._writer.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                while not ends[0].done() and connection.execute(waiting).scalar_one() == 0:
                    pass

    await sql.write(work)
    assert await asyncio.wrap_future(ends[0])
    assert await spoken(sql, owner, conversation) == [("user", "?"), ("baio", "whole")]
    with sql._writer.engine.connect() as connection:
        assert rows(connection, "answer_parts") == 0


@on_postgresql
@pytest.mark.parametrize("kind", ["new", "again"])
async def test_a_question_at_the_same_time_keeps_what_is_due(kind: str, sql: SqlDatabase) -> None:
    owner = await someone(sql)
    conversation, loop = await conversation_of(sql, owner), asyncio.get_running_loop()
    [question] = await say(sql, owner, conversation, "?")
    seen: list[bool] = []

    def ask_now(tx: Transaction) -> None:
        if kind == "new":
            tx.messages.add(conversation, Role.USER, "another?", FAR, owner=owner)
        else:
            tx.retentions.note_activity(conversation, FAR, owner=owner)
            begin(tx, question, owner)

    def expire(tx: Transaction) -> int:
        seen.append(tx.retentions.any_due(POLICY, FAR, FAR))  # from here on it sees this moment
        if len(seen) == 1:
            meanwhile(write(sql, ask_now), loop)
        return tx.retentions.delete_due(POLICY, FAR, count=10, size=2**20)

    assert await sql.write(expire) == 0
    assert seen == [True, False]
    assert await spoken(sql, owner, conversation)


@on_postgresql
async def test_whoever_has_read_the_audit_up_to_an_entry_has_missed_none_before_it(sql: SqlDatabase) -> None:
    owner, loop = await someone(sql), asyncio.get_running_loop()
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    seen: list[int] = []
    later: list[Future[None]] = []

    async def entries(after: int = 0) -> list[int]:
        return [each.id for each in await sql.read(lambda tx: tx.audit.page(EVERYTHING, after=after, limit=10))]

    def add(tx: Transaction) -> None:
        tx.audit.add(Act.SIGNED_OUT, None, NOWHERE, NOW)

    def slowly(tx: Transaction) -> None:
        tx.audit.add(Act.SIGNED_IN, owner, NOWHERE, NOW)
        if not later:
            later.append(asyncio.run_coroutine_threadsafe(sql.write(add), loop))
            with sql._writer.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                while not later[0].done() and connection.execute(waiting).scalar_one() == 0:
                    pass
            seen.extend(meanwhile(entries(), loop))

    await sql.write(slowly)
    await asyncio.wrap_future(later[0])
    assert seen + await entries(max(seen, default=0)) == await entries()
    assert len(await entries()) == 2


@on_postgresql
async def test_an_end_and_then_a_checkpoint_of_an_older_moment_leave_no_text_behind(sql: SqlDatabase) -> None:
    owner = await someone(sql)
    conversation = await conversation_of(sql, owner)
    answer, loop = await ask(sql, owner, conversation), asyncio.get_running_loop()

    def work(tx: Transaction) -> frozenset[int]:
        tx.users.get(owner)  # from here on it sees this moment
        meanwhile(end(sql, answer, "whole"), loop)
        return tx.answers.checkpoint([AnswerPart(answer.id, 0, "half")], [answer.id], NOW + LEASE).running

    assert await sql.write(work) == frozenset()
    with sql._writer.engine.connect() as connection:
        assert rows(connection, "answer_parts") == 0


@on_postgresql
async def test_what_was_deleted_after_it_was_seen_is_not_found(sql: SqlDatabase) -> None:
    owner, loop = await someone(sql), asyncio.get_running_loop()
    conversation, second = await conversation_of(sql, owner), await conversation_of(sql, owner)
    answer = await ask(sql, owner, second)

    def delete_meanwhile(tx: Transaction, gone: int) -> None:
        seen = tx.conversations.page(owner)
        if gone in [each.id for each in seen]:
            meanwhile(sql.write(lambda tx: tx.conversations.delete(gone, owner=owner)), loop)

    def say_something(tx: Transaction) -> None:
        delete_meanwhile(tx, conversation)
        tx.messages.add(conversation, Role.USER, "?", NOW, owner=owner)

    def end_it(tx: Transaction) -> bool:
        delete_meanwhile(tx, second)
        return tx.answers.end(answer.id, COMPLETE, "text", NOW)

    with pytest.raises(ConversationNotFound):
        await sql.write(say_something)
    assert await sql.write(end_it) is False


async def test_the_slots_of_an_owner_are_within_the_limit_whichever_answers_have_ended(sql: SqlDatabase) -> None:
    owner = await someone(sql)

    async def begun(limit: int) -> Answer:
        conversation = await conversation_of(sql, owner)
        [question] = await say(sql, owner, conversation, "?")
        return await sql.write(lambda tx: begin(tx, question, owner, max_running=limit))

    def slots() -> dict[int, int]:
        with sql._writer.engine.connect() as connection:
            found = connection.execute(text("SELECT id, slot FROM answers WHERE state = 'running'")).fetchall()
        return {row.id: row.slot for row in found}

    running = [await begun(6) for _ in range(6)]
    assert sorted(slots().values()) == [1, 2, 3, 4, 5, 6]
    for place in (2, 0, 4, 4):
        await end(sql, running.pop(place), "")
        running.append(await begun(6))
        assert sorted(slots().values()) == [1, 2, 3, 4, 5, 6]
    # Slots above a limit that has become lower count, and no new one is above it.
    for answer in [each for each in running if slots()[each.id] < 6]:
        await end(sql, answer, "")
    lower = await begun(3)
    assert slots()[lower.id] == 1


async def test_an_ended_answer_keeps_none_of_its_checkpoints(sql: SqlDatabase) -> None:
    owner = await someone(sql)
    for number in range(3):
        answer = await ask(sql, owner, await conversation_of(sql, owner))
        await checkpoint(sql, (answer, 0, "a"))
        await checkpoint(sql, (answer, 1, "b"))
        await end(sql, answer, "text" * (number % 2))
    with sql._writer.engine.connect() as connection:
        assert rows(connection, "answer_parts") == 0


def remember(tx: Transaction, owner: int) -> None:
    tx.idempotency.remember(owner, "k", b"mark", 1, NOW)


def belongings(tx: Transaction, owner: int) -> None:
    tx.api_tokens.add(owner, "notebook", (Scope.READ,), NOW, None, ending="x7Rq", digest=b"digest of %d" % owner)
    tx.filings.tag(tx.conversations.page(owner)[0].id, ["PCR"], owner=owner)
    opened(tx, owner, f"{owner}")
    tx.second_factors.enroll(owner, b"seed")
    tx.second_factors.enable(SecondFactor(owner, b"seed", None, 0), 1, [b"code"], NOW)
    tx.users.save_password_reset(owner, b"link of %d" % owner, LATER)
    tx.known_networks.remember(owner, b"network", NOW)
    tx.tool_calls.begin(NewToolCall(owner, "tool", "1", "", "", "{}", NOW))
    here = tx.conversations.page(owner)[0].id
    sequence = tx.sequences.add(a_sequence(owner, conversation_id=here))
    tx.sequences.mention(next(tx.messages.iter_newest_first(here, owner=owner)), sequence.id, None, owner=owner)
    tx.presets.add(owner, "preset", CHOSEN, NOW)
    tx.settings.save(tx.conversations.add(owner, "", NOW).id, CHOSEN, owner=owner)


async def test_everything_of_a_deleted_account_goes_with_it(sql: SqlDatabase) -> None:
    for owner in (await someone(sql, "ole"), kept := await someone(sql, "kari")):
        answer = await ask(sql, owner, await conversation_of(sql, owner))
        await checkpoint(sql, (answer, 0, "half"))
        await end(sql, await ask(sql, owner, await conversation_of(sql, owner)), "text")
        await add_key(sql, owner, "key")
        await write(sql, remember, owner)
        await write(sql, belongings, owner)
    with sql._writer.engine.begin() as connection:
        kept_for_all = ("providers", "models", "guesses", "audit", "invitations", "sign_ins", "tickets")
        tables = [table for table in metadata.tables if table not in kept_for_all]
        before = {table: rows(connection, table) for table in tables}
        connection.execute(text("DELETE FROM users WHERE id <> :kept"), {"kept": kept})
        assert {table: 2 * rows(connection, table) for table in tables} == before
    assert len(tables) == 24


async def test_an_error_that_is_a_bug_shows_nothing_of_what_was_to_be_stored(sql: SqlDatabase) -> None:
    owner = await someone(sql)
    conversation = await conversation_of(sql, owner)
    [question] = await say(sql, owner, conversation, "?")
    # A provider that does not exist is the caller's mistake; its traceback goes to the log.
    asked = NewAnswer(question, owner, 999, "sk-secret", NOW, NOW + LEASE, max_running=1)
    with pytest.raises(IntegrityError) as raised:
        await sql.write(lambda tx: tx.answers.begin(asked))
    assert "sk-secret" not in "".join(traceback.format_exception(raised.value))


# -- Whether it can be used --------------------------------------------------------------------------------------------


async def test_check_says_when_the_schema_is_missing_and_how_to_make_it(new_database: NewDatabase) -> None:
    database = SqlDatabase(new_database())
    with pytest.raises(Unavailable, match=r"schema none.*needs 0.*baio migrate"):
        await database.check()
    database.close()


async def test_check_says_when_the_schema_is_another_ones(new_database: NewDatabase) -> None:
    url = new_database()
    migrations.upgrade(url)
    database = SqlDatabase(url)
    await database.check()
    with database._writer.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(Unavailable, match="schema 0000"):
        await database.check()
    database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def nowhere(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that is not there."""
    return {
        "sqlite": f"sqlite:///{tmp_path}/no/such/directory/baio.sqlite3",
        "postgresql": "postgresql://baio:hunter2@127.0.0.1:1/baio",
    }[str(request.param)]


async def test_a_database_that_is_not_there_is_unavailable_and_its_password_is_not_shown(nowhere: str) -> None:
    database = SqlDatabase(nowhere)
    acts: list[Coroutine[Any, Any, object]] = [
        database.read(lambda tx: tx.users.get(1)),
        database.write(lambda tx: tx.conversations.add(1, "", NOW)),
        database.check(),
    ]
    for act in acts:
        with pytest.raises(Unavailable) as refused:
            await act
        assert "hunter2" not in str(refused.value)
    database.close()


@on_postgresql
async def test_a_connection_that_the_server_has_dropped_is_not_the_next_callers_trouble(sql: SqlDatabase) -> None:
    owner = await someone(sql)
    admin = create_engine(sql._writer.engine.url, isolation_level="AUTOCOMMIT")
    kill = text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    with admin.connect() as connection:
        assert connection.execute(kill).scalar_one() >= 1
        assert (await sql.read(lambda tx: tx.users.get(owner))).id == owner

        def cut_off(tx: Transaction) -> None:
            tx.users.save_password_hash(owner, "lost")
            connection.execute(kill)
            tx.users.get(owner)

        with pytest.raises(Unavailable) as refused:
            await sql.write(cut_off)
    admin.dispose()
    assert refused.value.retry_after is not None
    assert (await sql.read(lambda tx: tx.users.get(owner))).password_hash == "hash"


async def test_two_processes_on_one_database_lose_nothing(url: str, sql: SqlDatabase) -> None:
    second = SqlDatabase(url)
    owner = await someone(sql)
    conversation = await conversation_of(sql, owner)
    await asyncio.gather(
        *(say(database, owner, conversation, str(number)) for number in range(50) for database in (sql, second))
    )
    said = await spoken(second, owner, conversation)
    assert sorted(said) == sorted([("user", str(number)) for number in range(50)] * 2)
    second.close()
