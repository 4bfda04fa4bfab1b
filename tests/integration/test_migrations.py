"""The way of a database's schema through its versions, up and down, on SQLite and on PostgreSQL."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select, text

from baio_adapters.sql import migrations
from baio_adapters.sql.database import SqlDatabase, engine_for
from baio_adapters.sql.repositories.indexed_texts import PROPOSED, looked_up
from baio_adapters.sql.tables import answers, indexed_texts, is_ours, metadata
from baio_domain.entities import (
    Act,
    AnswerState,
    ChatSettings,
    ModelSpec,
    Origin,
    Outcome,
    ProviderSpec,
    Scope,
    SecondFactor,
)
from baio_domain.identities import Assertion, StartedSignIn
from baio_domain.ports import NewToolCall, Transaction
from baio_domain.use_cases.catalogue import LoadCatalogue
from tests.integration.conftest import NewDatabase

pytest.register_assert_rewrite("tests.store_contract", "tests.sequences_contract")

from tests.sequences_contract import a_sequence  # noqa: E402
from tests.store_contract import (  # noqa: E402 - not before its asserts can speak
    COMPLETE,
    add_key,
    ask,
    ask_again,
    checkpoint,
    conversation_of,
    end,
    someone,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def url(new_database: NewDatabase) -> str:
    """An empty database of each kind."""
    return new_database()


def tables_of(url: str) -> set[str]:
    engine = engine_for(url)
    with engine.connect() as connection:
        found = set(inspect(connection).get_table_names())
    engine.dispose()
    return {name for name in found if is_ours(name, "table")} - {"alembic_version"}


def versions() -> list[str]:
    """All versions, oldest first."""
    scripts = ScriptDirectory.from_config(migrations.config(""))
    return [script.revision for script in scripts.walk_revisions()][::-1]


def version_of(url: str) -> str | None:
    engine = engine_for(url)
    with engine.connect() as connection:
        found = migrations.current(connection)
    engine.dispose()
    return found


async def fill(url: str) -> None:
    """At least a row in every table."""
    database = SqlDatabase(url)
    await LoadCatalogue(database)([ProviderSpec("OpenAI", (ModelSpec("gpt-4o", "GPT-4o", 128_000, 16_384),))])
    owner = await someone(database)
    await end(database, await ask(database, owner, await conversation_of(database, owner)), "text")
    await checkpoint(database, (await ask(database, owner, await conversation_of(database, owner)), 0, "half"))
    await add_key(database, owner, "key")
    tagged = await conversation_of(database, owner)
    await database.write(lambda tx: tx.filings.tag(tagged, ["PCR"], owner=owner))
    now = (await database.read(lambda tx: tx.users.get(owner))).created_at
    await database.write(lambda tx: tx.idempotency.remember(owner, "k", b"mark", 1, now))
    await database.write(lambda tx: account_of(tx, owner, now))
    database.close()


def account_of(tx: Transaction, owner: int, now: datetime) -> None:
    """What belongs to an account besides."""
    tx.tool_calls.begin(NewToolCall(owner, "tool", "1", "", "", "{}", now))
    here = tx.conversations.page(owner)[-1].id
    sequence = tx.sequences.add(a_sequence(owner, conversation_id=here))
    tx.sequences.mention(next(tx.messages.iter_newest_first(here, owner=owner)), sequence.id, None, owner=owner)
    tx.settings.save(here, ChatSettings("Be brief."), owner=owner)
    tx.presets.add(owner, "preset", ChatSettings("Be brief."), now)
    session = tx.sessions.open(owner, "a browser", now)
    tx.identities.opened(session, tx.identities.add(owner, "https://login.example.no", "ole", now).id, None)
    tx.sign_ins.start(b"state", StartedSignIn("uni", "http://localhost:3000/", "c" * 43), now)
    about = Assertion("uni", "https://login.example.no", "ole", None, "ole", "", "Ole", "")
    tx.sign_ins.add_ticket(b"ticket", "c" * 43, about, now)
    tx.api_tokens.add(owner, "notebook", (Scope.READ,), now, now, ending="x7Rq", digest=b"digest")
    tx.api_tokens.note_used({b"digest": now})
    tx.second_factors.enroll(owner, b"seed")
    tx.second_factors.enable(SecondFactor(owner, b"seed", None, 0), 1, [b"code"], now)
    tx.users.save_password_reset(owner, b"link", now)
    tx.failed_attempts.save_arrival_time(b"key", now)
    tx.known_networks.remember(owner, b"network", now)
    tx.invitations.add(b"code", "ole@example.no", now)
    tx.audit.add(Act.SIGNED_IN, owner, Origin(address="10.0.0.1"), now)


def contents_of(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table."""
    engine = engine_for(url)
    with engine.connect() as connection:
        found = {
            name: sorted((tuple(row) for row in connection.execute(table.select())), key=repr)
            for name, table in metadata.tables.items()
        }
    engine.dispose()
    return found


def test_the_newest_version_is_the_one_that_the_scripts_say() -> None:
    scripts = ScriptDirectory.from_config(migrations.config(""))
    assert migrations.head() == scripts.get_current_head()
    assert scripts.get_heads() == [migrations.head()]
    assert versions() == [f"{number:04}" for number in range(1, len(versions()) + 1)]


def test_up_down_to_nothing_and_up_again(url: str) -> None:
    assert version_of(url) is None
    for _ in range(2):
        migrations.upgrade(url)
        assert version_of(url) == migrations.head()
        assert tables_of(url) == set(metadata.tables)
        asyncio.run(fill(url))
        assert all(contents_of(url).values())
        migrations.downgrade(url, "base")
        assert version_of(url) is None
        assert tables_of(url) == set()


def test_every_version_can_be_taken_back_and_made_again_with_the_same_result(url: str) -> None:
    made: dict[str, set[str]] = {}
    for version in versions():
        migrations.upgrade(url, version)
        assert version_of(url) == version
        made[version] = tables_of(url)
    asyncio.run(fill(url))
    for version, below in zip(versions()[::-1], [*versions()[-2::-1], "base"], strict=True):
        assert tables_of(url) == made[version]
        migrations.downgrade(url, below)
    for version in versions():
        migrations.upgrade(url, version)
        assert tables_of(url) == made[version]


def test_bringing_a_database_up_to_date_that_is_up_to_date_loses_nothing(url: str) -> None:
    migrations.upgrade(url)
    asyncio.run(fill(url))
    before = contents_of(url)
    assert all(before.values())
    migrations.upgrade(url)
    assert contents_of(url) == before


ADDED_SINCE = {
    "sessions", "second_factors", "recovery_codes", "password_resets", "guesses", "audit", "known_networks",
    "invitations", "tool_calls", "sequences", "conversation_sequences", "sequence_mentions", "conversation_tags",
    "indexed_texts", "usage", "settings", "presets", "api_tokens", "identities", "identity_sessions", "sign_ins",
    "tickets",
}  # fmt: skip
"""Tables that the first version had not: taken back, their rows are gone."""


def test_a_version_taken_back_and_made_again_keeps_every_row_and_uses_no_id_again(url: str) -> None:
    migrations.upgrade(url)
    asyncio.run(fill(url))
    engine = engine_for(url)
    with engine.begin() as connection:
        newest = max(row.id for row in connection.execute(answers.select()))
        connection.execute(answers.delete().where(answers.c.id == newest))
    before = contents_of(url)
    migrations.downgrade(url, versions()[0])
    migrations.upgrade(url)
    after = contents_of(url)
    kept_rows = {name: len(rows) for name, rows in before.items() if name not in ADDED_SINCE}
    assert {name: len(rows) for name, rows in after.items() if name not in ADDED_SINCE} == kept_rows
    with engine.begin() as connection:
        kept = dict(connection.execute(answers.select()).mappings().one())
        del kept["id"]
        again = connection.execute(answers.insert().values(kept).returning(answers.c.id)).scalar_one()
    engine.dispose()
    assert again > newest


def test_what_was_stored_before_it_was_counted_is_counted_as_if_it_had_been(url: str) -> None:
    async def write() -> None:
        database = SqlDatabase(url)
        await LoadCatalogue(database)([ProviderSpec("OpenAI", (ModelSpec("gpt-4o", "GPT-4o", 128_000, 16_384),))])
        owner = await someone(database)
        await conversation_of(database, owner)
        first = await ask(database, owner, await conversation_of(database, owner), "\N{DNA DOUBLE HELIX}?")
        await end(database, first, "Å")
        await end(database, await ask_again(database, owner, first), "B")
        running = await ask(database, owner, await conversation_of(database, owner))
        await checkpoint(database, (running, 0, "half "), (running, 5, "an answer"))
        database.close()

    def counted() -> list[tuple[object, ...]]:
        return [(row[0], row[4]) for row in contents_of(url)["conversations"]]

    migrations.upgrade(url)
    asyncio.run(write())
    before = counted()
    assert len({size for _, size in before}) == 3
    migrations.downgrade(url, "0004")
    migrations.upgrade(url)
    assert counted() == before


def test_an_answer_that_no_provider_was_asked_for_survives_the_way_back_and_counts_for_nothing(url: str) -> None:
    async def write() -> None:
        database = SqlDatabase(url)
        await LoadCatalogue(database)([ProviderSpec("OpenAI", (ModelSpec("gpt-4o", "GPT-4o", 128_000, 16_384),))])
        owner = await someone(database)
        running = await ask(database, owner, await conversation_of(database, owner))
        await checkpoint(database, (running, 0, "half an answer"))
        await end(database, await ask(database, owner, await conversation_of(database, owner)), "> 50 %")
        database.close()

    def stored() -> list[tuple[object, ...]]:
        engine = engine_for(url)
        columns = [answers.c[name] for name in ("id", "state", "message_id", "provider_id", "completion_estimate")]
        with engine.connect() as connection:
            rows = [tuple(row) for row in connection.execute(select(*columns).order_by(answers.c.id))]
        engine.dispose()
        return rows

    migrations.upgrade(url)
    asyncio.run(write())
    engine = engine_for(url)
    with engine.begin() as connection:
        connection.execute(answers.update().where(answers.c.state == "complete").values(provider_id=None))
    engine.dispose()
    (running, _), parts = stored(), contents_of(url)["answer_parts"]
    migrations.downgrade(url, "0008")
    migrations.upgrade(url)
    assert stored() == [running, (2, "complete", 3, 1, 0)]
    assert contents_of(url)["answer_parts"] == parts


def test_the_ledger_begins_with_what_is_known_of_answers(url: str) -> None:
    async def write() -> None:
        database = SqlDatabase(url)
        await LoadCatalogue(database)([ProviderSpec("OpenAI", (ModelSpec("gpt-4o", "GPT-4o", 128_000, 16_384),))])
        owner = await someone(database)
        conversation = await conversation_of(database, owner)
        for outcome in (COMPLETE, COMPLETE, Outcome(AnswerState.STOPPED)):
            await end(database, await ask(database, owner, conversation), "text", outcome)
        await end(database, await ask(database, owner, conversation), "", Outcome(AnswerState.FAILED, reason="x"))
        await ask(database, owner, conversation)
        database.close()

    migrations.upgrade(url)
    asyncio.run(write())
    before = contents_of(url)["usage"]
    assert len(before) == 1
    migrations.downgrade(url, "0011")
    migrations.upgrade(url)
    assert contents_of(url)["usage"] == before


def test_texts_that_were_found_by_other_words_are_indexed_again(url: str) -> None:
    async def write() -> int:
        database = SqlDatabase(url)
        owner = await someone(database)
        conversation = await conversation_of(database, owner, "كِتَابُ")
        await ask(database, owner, conversation, "a co\u00addon and कोशिका")
        await conversation_of(database, owner, "plain words")
        database.close()
        return owner

    def proposed(word: str) -> int:
        with engine.connect() as connection:
            query = {"looked_up": looked_up(word, owner, engine.dialect.name)}
            return len(connection.execute(select(indexed_texts.c.id).where(PROPOSED[engine.dialect.name]), query).all())

    migrations.upgrade(url)
    owner = asyncio.run(write())
    before = contents_of(url)["indexed_texts"]
    migrations.downgrade(url, "0020")
    engine = engine_for(url)
    with engine.begin() as connection:  # as the version before has written them
        for new, old in {"كتاب": "ك ت اب", "a codon and कोशिका": "a co don and क श क"}.items():
            row = dict(connection.execute(select(indexed_texts).where(indexed_texts.c.words == new)).mappings().one())
            connection.execute(indexed_texts.delete().where(indexed_texts.c.id == row["id"]))
            connection.execute(indexed_texts.insert().values({**row, "words": old}))
    assert [proposed(word) for word in ("كتاب", "codon", "don", "plain")] == [0, 0, 1, 1]
    migrations.upgrade(url)
    assert contents_of(url)["indexed_texts"] == before
    assert [proposed(word) for word in ("كتاب", "codon", "don", "plain")] == [1, 1, 0, 1]
    engine.dispose()


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(
        connection,
        opts={
            "compare_type": True,
            "compare_server_default": True,
            "target_metadata": metadata,
            "include_name": is_ours,
        },
    )
    return list(compare_metadata(context, metadata))


def test_the_migrations_make_exactly_the_tables_that_the_code_has(url: str) -> None:
    migrations.upgrade(url)
    engine = engine_for(url)
    with engine.connect() as connection:
        assert differences(connection) == []
    with engine.begin() as connection:
        connection.execute(text("DROP INDEX ix_messages_conversation_id_id"))
    with engine.connect() as connection:
        assert len(differences(connection)) == 1
    engine.dispose()


def test_writing_a_migration_for_tables_that_have_not_changed_writes_none(url: str) -> None:
    migrations.upgrade(url)
    assert migrations.revise(url, "nothing") == []


UPGRADE = "import sys; from baio_adapters.sql import migrations; migrations.upgrade(sys.argv[1])"
WAITING = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
LOCKS = text("SELECT pg_advisory_lock(lock) FROM unnest(ARRAY[:lock]::bigint[]) AS lock")


@contextmanager
def all_held_up(url: str, processes: list[subprocess.Popen[str]]) -> Iterator[None]:
    """On PostgreSQL, hold every process up until all are there, so that each has seen the database as it was before."""
    engine = engine_for(url).execution_options(isolation_level="AUTOCOMMIT")
    if engine.dialect.name == "sqlite":
        yield
        return
    lock = int(re.findall(r"MIGRATION_LOCK = (\w+)", (ROOT / "alembic" / "env.py").read_text())[0], 16)
    with engine.connect() as connection:
        connection.execute(LOCKS, {"lock": lock})
        yield
        while connection.execute(WAITING).scalar_one() < len(processes):
            assert not any(process.poll() for process in processes)
    engine.dispose()


def test_four_processes_may_bring_one_database_up_to_date_at_once(url: str) -> None:
    command = [sys.executable, "-W", "error", "-c", UPGRADE, url]
    processes: list[subprocess.Popen[str]] = []
    with all_held_up(url, processes):
        processes += [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0, 0], "\n".join(said)
    assert version_of(url) == migrations.head()
    assert tables_of(url) == set(metadata.tables)
