"""What every storage promises about API tokens."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from baio_domain.entities import ApiToken, Scope
from baio_domain.errors import AccountNotFound, ApiTokenNotFound, InvalidInput
from baio_domain.ports import Database
from tests.store_contract import LATER, NOBODY, NOW, TEXTS, disable, read, someone

SCOPES = (Scope.READ, Scope.ASK)
MOMENT = timedelta(microseconds=1)


async def token_of(
    database: Database, owner: int, name: str = "notebook", *, digest: bytes = b"", until: datetime | None = None
) -> ApiToken:
    """A new token."""
    digest = digest or f"{owner} {name}".encode()
    return await database.write(
        lambda tx: tx.api_tokens.add(owner, name, SCOPES, NOW, until, ending="x7Rq", digest=digest)
    )


async def tokens_of(database: Database, owner: int) -> list[ApiToken]:
    """The owner's tokens."""
    return await database.read(lambda tx: tx.api_tokens.of(owner))


async def found(database: Database, token: ApiToken) -> ApiToken | None:
    """The token as it is found."""
    return await database.read(lambda tx: tx.api_tokens.find(token.digest))


class TokensContract:
    """The tests, for a ``database`` fixture."""

    async def test_a_token_is_found_by_its_digest_and_listed_for_its_owner(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        digest = bytes(range(32))
        first = await token_of(database, owner, "\N{DNA DOUBLE HELIX}", digest=digest, until=LATER)
        name = "\N{DNA DOUBLE HELIX}"
        assert first == ApiToken(first.id, owner, name, SCOPES, NOW, LATER, None, "x7Rq", digest)
        second = await token_of(database, owner, TEXTS["quotes"])
        assert await found(database, first) == first
        assert (await found(database, second)) == replace(second, expires_at=None)
        assert await found(database, replace(first, digest=digest[:-1])) is None
        assert await tokens_of(database, owner) == [second, first]
        assert await tokens_of(database, other) == []
        with pytest.raises(AccountNotFound):
            await token_of(database, NOBODY)

    async def test_tokens_have_names_of_their_own(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        mine = await token_of(database, owner)
        with pytest.raises(InvalidInput, match="name: is already taken"):
            await token_of(database, owner, digest=b"another")
        theirs = await token_of(database, other)
        for name in ("Notebook", "another"):
            with pytest.raises(ApiTokenNotFound):
                await database.write(lambda tx, name=name: tx.api_tokens.revoke(name, owner=owner))  # type: ignore[misc]
        await database.write(lambda tx: tx.api_tokens.revoke("notebook", owner=owner))
        assert await found(database, mine) is None
        assert await found(database, theirs) == theirs
        again = await token_of(database, owner)
        assert again.id > max(mine.id, theirs.id)

    async def test_all_tokens_of_an_owner_are_revoked_and_those_that_have_expired_forgotten(
        self, database: Database
    ) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        theirs = await token_of(database, other, until=NOW)
        for_ever = await token_of(database, owner, "for ever")
        over = await token_of(database, owner, "over", until=LATER)
        going_on = await token_of(database, owner, "going on", until=LATER + MOMENT)
        await database.write(lambda tx: tx.api_tokens.forget_expired(LATER, owner=owner))
        assert await tokens_of(database, owner) == [going_on, for_ever]
        assert await found(database, over) is None
        await database.write(lambda tx: tx.api_tokens.revoke_all(owner))
        assert await tokens_of(database, owner) == []
        assert await tokens_of(database, other) == [theirs]

    async def test_a_disabled_accounts_tokens_are_not_found(self, database: Database) -> None:
        owner = await someone(database)
        token = await token_of(database, owner)
        await disable(database, owner)
        assert await found(database, token) is None
        assert await tokens_of(database, owner) == [token]

    async def test_which_of_many_tokens_are_active_is_one_question(self, database: Database) -> None:
        owner, other, gone = [await someone(database, name) for name in ("olenor", "kari", "per")]
        mine, theirs = await token_of(database, owner), await token_of(database, other, until=LATER + MOMENT)
        over = await token_of(database, owner, "over", until=LATER)
        disabled = await token_of(database, gone)
        await disable(database, gone)
        asked = [mine.digest, theirs.digest, over.digest, disabled.digest, b"none", b"", bytes(1000)]
        assert await read(database, lambda tx: tx.api_tokens.active(asked, LATER)) == {mine.digest, theirs.digest}
        assert await read(database, lambda tx: tx.api_tokens.active([], LATER)) == frozenset()

    async def test_when_tokens_were_last_used_is_stored_for_all_at_once(self, database: Database) -> None:
        owner, other = await someone(database), await someone(database, "kari")
        mine, theirs, unused = [await token_of(database, *each) for each in ((owner,), (other,), (owner, "unused"))]
        times = {mine.digest: LATER, theirs.digest: NOW, b"gone": LATER}
        await database.write(lambda tx: tx.api_tokens.note_used(times))
        await database.write(lambda tx: tx.api_tokens.note_used({}))
        assert await tokens_of(database, owner) == [unused, replace(mine, last_used_at=LATER)]
        assert await tokens_of(database, other) == [replace(theirs, last_used_at=NOW)]
