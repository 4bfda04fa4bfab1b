"""What every storage promises about identities at institutions, and sign-ins with them."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from baio_domain.entities import Session
from baio_domain.errors import AccountNotFound, IdentityNotFound
from baio_domain.identities import Assertion, StartedSignIn
from baio_domain.ports import Database, Transaction
from tests.store_contract import LATER, NOBODY, NOW, someone

ISSUER, OTHER = "https://login.example.no", "https://login.example.org"
BEGUN = StartedSignIn("uni", "http://localhost:3000/in", "c" * 43)
SOON = NOW + timedelta(minutes=1)
LATEST = NOW + timedelta(minutes=10)


def asserted(subject: str = "ole", session: str | None = None, issuer: str = ISSUER) -> Assertion:
    return Assertion("uni", issuer, subject, session, "ole", "ole@example.no", "Ole", "Normann")


def opened(tx: Transaction, owner: int, subject: str, theirs: str | None = None, issuer: str = ISSUER) -> Session:
    """A session of an identity, which is new if nobody has it."""
    identity = tx.identities.find(issuer, subject) or tx.identities.add(owner, issuer, subject, NOW)
    session = tx.sessions.open(owner, "a browser", NOW)
    tx.identities.opened(session, identity.id, theirs)
    return session


class IdentitiesContract:
    """The tests, for a ``database`` fixture."""

    async def test_an_identity_is_found_by_issuer_and_subject_to_the_letter(self, database: Database) -> None:
        owner = await someone(database)
        made = await database.write(lambda tx: tx.identities.add(owner, ISSUER, "Ole \u00c5", NOW))
        assert (made.user_id, made.created_at, made.last_used_at) == (owner, NOW, NOW)
        near = [
            (ISSUER, "ole \u00e5"),
            (ISSUER, "Ole A\u030a"),
            (ISSUER, "Ole \u00c5 "),
            (OTHER, "Ole \u00c5"),
            (ISSUER, ""),
        ]
        found = await database.read(lambda tx: [tx.identities.find(*each) for each in [(ISSUER, "Ole \u00c5"), *near]])
        assert found == [made, None, None, None, None, None]

    async def test_identities_are_their_owners_and_in_order(self, database: Database) -> None:
        ole, kari = await someone(database, "ole"), await someone(database, "kari")
        first = await database.write(lambda tx: tx.identities.add(ole, ISSUER, "2", NOW))
        second = await database.write(lambda tx: tx.identities.add(ole, OTHER, "1", NOW))
        await database.write(lambda tx: tx.identities.use(second.id, LATER, owner=ole))
        for owner, identity in ((kari, first.id), (ole, NOBODY)):
            await database.write(lambda tx, o=owner, i=identity: tx.identities.use(i, LATER, owner=o))  # type: ignore[misc]
            with pytest.raises(IdentityNotFound):
                await database.write(lambda tx, o=owner, i=identity: tx.identities.remove(i, owner=o))  # type: ignore[misc]
        listed = await database.read(lambda tx: tx.identities.of(ole))
        assert [(each.id, each.last_used_at) for each in listed] == [(first.id, NOW), (second.id, LATER)]
        assert await database.read(lambda tx: tx.identities.of(kari)) == []
        await database.write(lambda tx: tx.identities.remove(first.id, owner=ole))
        assert [each.id for each in await database.read(lambda tx: tx.identities.of(ole))] == [second.id]
        with pytest.raises(AccountNotFound):
            await database.write(lambda tx: tx.identities.add(NOBODY, ISSUER, "3", NOW))

    async def test_an_identity_goes_with_its_account_and_is_free_again(self, database: Database) -> None:
        ole, kari = await someone(database, "ole"), await someone(database, "kari")
        await database.write(lambda tx: opened(tx, ole, "1"))
        await database.write(lambda tx: tx.users.delete(ole))
        assert await database.read(lambda tx: tx.identities.find(ISSUER, "1")) is None
        assert (await database.write(lambda tx: tx.identities.add(kari, ISSUER, "1", NOW))).user_id == kari

    async def test_when_a_session_was_opened_with_an_identity_is_known_to_its_owner(self, database: Database) -> None:
        ole, kari = await someone(database, "ole"), await someone(database, "kari")
        session = await database.write(lambda tx: opened(tx, ole, "1"))
        plain = await database.write(lambda tx: tx.sessions.open(ole, "a browser", NOW))

        def times(tx: Transaction) -> list[object]:
            asked = ((session.token_id, ole), (session.token_id, kari), (plain.token_id, ole), ("0" * 32, ole))
            return [tx.identities.opened_at(token, owner=owner) for token, owner in asked]

        assert await database.read(times) == [NOW, None, None, None]
        await database.write(lambda tx: tx.sessions.end(session.token_id, owner=ole))
        assert (await database.read(times))[0] is None

    async def test_the_sessions_of_an_identity_end_and_no_others(self, database: Database) -> None:
        ole, kari = await someone(database, "ole"), await someone(database, "kari")
        here, there = [await database.write(lambda tx: opened(tx, ole, "1")) for _ in range(2)]
        plain = await database.write(lambda tx: tx.sessions.open(ole, "a browser", NOW))
        other = await database.write(lambda tx: opened(tx, ole, "2"))
        identity = (await database.read(lambda tx: tx.identities.of(ole)))[0].id
        await database.write(lambda tx: tx.identities.end_sessions(identity, owner=kari))
        assert len(await database.read(lambda tx: tx.sessions.of(ole))) == 4
        await database.write(lambda tx: tx.identities.end_sessions(identity, owner=ole, except_token_id=here.token_id))
        left = {each.token_id for each in await database.read(lambda tx: tx.sessions.of(ole))}
        assert left == {here.token_id, plain.token_id, other.token_id}
        assert there.token_id not in left

    @pytest.mark.parametrize(
        ("subject", "theirs", "left"),
        [
            ("1", None, {"1 elsewhere", "2", "2 in s", "none"}),
            ("1", "s", {"1 in t", "1 elsewhere", "2", "2 in s", "none"}),
            (None, "s", {"1", "1 in t", "1 elsewhere", "2", "none"}),
            ("3", None, {"1", "1 in s", "1 in t", "1 elsewhere", "2", "2 in s", "none"}),
            (None, None, {"1", "1 in s", "1 in t", "1 elsewhere", "2", "2 in s", "none"}),
        ],
    )
    async def test_what_an_institution_says_has_ended_ends(
        self, subject: str | None, theirs: str | None, left: set[str], database: Database
    ) -> None:
        ole, kari = await someone(database, "ole"), await someone(database, "kari")

        def fill(tx: Transaction) -> dict[str, tuple[str, int]]:
            sessions = {
                "1": (opened(tx, ole, "1"), ole),
                "1 in s": (opened(tx, ole, "1", "s"), ole),
                "1 in t": (opened(tx, ole, "1", "t"), ole),
                "1 elsewhere": (opened(tx, kari, "1", "s", OTHER), kari),
                "2": (opened(tx, kari, "2"), kari),
                "2 in s": (opened(tx, kari, "2", "s"), kari),
                "none": (tx.sessions.open(ole, "a browser", NOW), ole),
            }
            return {name: (session.token_id, owner) for name, (session, owner) in sessions.items()}

        sessions = await database.write(fill)
        ended = await database.write(lambda tx: tx.identities.end_sessions_at(ISSUER, subject, theirs))
        alive: Callable[[Transaction], set[str]] = lambda tx: {  # noqa: E731 - a unit of work
            name for name, (token, owner) in sessions.items() if tx.sessions.is_active(token, owner=owner)
        }
        assert await database.read(alive) == left
        assert ended == sorted({sessions[name][1] for name in sessions.keys() - left})

    async def test_a_beginning_is_taken_once_and_in_its_time(self, database: Database) -> None:
        def take(digest: bytes, at_minute: int) -> Callable[[Transaction], StartedSignIn | None]:
            now = NOW + timedelta(minutes=at_minute)
            return lambda tx: tx.sign_ins.take(digest, now, now + timedelta(minutes=10))

        for digest in (b"one", b"two", b"three"):
            await database.write(lambda tx, d=digest: tx.sign_ins.start(d, BEGUN, LATEST))  # type: ignore[misc]
        assert await database.read(lambda tx: tx.sign_ins.count()) == 3
        assert [await database.write(take(b"one", 9)) for _ in range(2)] == [BEGUN, None]
        assert await database.write(take(b"two", 10)) is None
        assert await database.write(take(b"three", -1)) is None  # from a clock that was ahead
        assert await database.write(take(b"none", 0)) is None
        assert await database.read(lambda tx: tx.sign_ins.count()) == 0

    async def test_a_ticket_is_for_whoever_has_the_verifier_and_used_once(self, database: Database) -> None:
        about = asserted("subject", "their session")
        await database.write(lambda tx: tx.sign_ins.add_ticket(b"one", "c" * 43, about, SOON))

        def look(tx: Transaction) -> list[Assertion | None]:
            asked = [
                (b"one", "c" * 43, NOW),
                (b"one", "d" * 43, NOW),
                (b"two", "c" * 43, NOW),
                (b"one", "c" * 43, SOON),
            ]
            return [tx.sign_ins.ticket(*each, SOON) for each in asked]

        assert await database.read(look) == [about, None, None, None]
        before = NOW - timedelta(hours=1)  # it is from a clock that was ahead
        assert await database.read(lambda tx: tx.sign_ins.ticket(b"one", "c" * 43, before, before)) is None
        used = [await database.write(lambda tx: tx.sign_ins.use_ticket(b"one")) for _ in range(2)]
        assert used == [True, False]

    async def test_tickets_for_what_has_ended_are_cancelled(self, database: Database) -> None:
        tickets = {
            b"1": asserted("1"),
            b"1 in s": asserted("1", "s"),
            b"1 in t": asserted("1", "t"),
            b"2 in s": asserted("2", "s"),
            b"elsewhere": asserted("1", "s", OTHER),
        }

        async def left_after(subject: str | None, theirs: str | None) -> set[bytes]:
            def cancel(tx: Transaction) -> set[bytes]:
                for digest, about in tickets.items():
                    tx.sign_ins.use_ticket(digest)
                    tx.sign_ins.add_ticket(digest, "c" * 43, about, SOON)
                tx.sign_ins.cancel(ISSUER, subject, theirs)
                return {each for each in tickets if tx.sign_ins.ticket(each, "c" * 43, NOW, SOON)}

            return await database.write(cancel)

        assert await left_after("1", None) == {b"2 in s", b"elsewhere"}
        assert await left_after("1", "s") == {b"1 in t", b"2 in s", b"elsewhere"}
        assert await left_after(None, "s") == {b"1", b"1 in t", b"elsewhere"}
        assert await left_after(None, None) == tickets.keys()

    async def test_what_has_expired_is_forgotten(self, database: Database) -> None:
        def fill(tx: Transaction) -> None:
            tx.sign_ins.start(b"old", BEGUN, NOW)
            tx.sign_ins.start(b"new", BEGUN, LATER)
            tx.sign_ins.add_ticket(b"old", "c" * 43, asserted(), NOW)
            tx.sign_ins.add_ticket(b"new", "c" * 43, asserted(), LATER)
            tx.sign_ins.forget(NOW + timedelta(microseconds=1))

        await database.write(fill)
        assert await database.read(lambda tx: tx.sign_ins.count()) == 1
        left = await database.write(lambda tx: [tx.sign_ins.use_ticket(each) for each in (b"old", b"new")])
        assert left == [False, True]
