"""API tokens."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, final

from sqlalchemy import bindparam, delete, or_, select, update

from baio_adapters.sql.repositories.repository import OWNER, Repository, insert_for_owner
from baio_adapters.sql.tables import api_tokens, users
from baio_domain.entities import ApiToken, Scope
from baio_domain.errors import AccountNotFound, ApiTokenNotFound
from baio_domain.ports import ApiTokens

_NOW = bindparam("now", type_=api_tokens.c.created_at.type)
_ADD = insert_for_owner(api_tokens, "name", "scopes", "created_at", "expires_at", "ending", "digest")
_FIND = select(api_tokens).join(users).where(api_tokens.c.digest == bindparam("digest"), users.c.disabled_at.is_(None))
_OF_OWNER = select(api_tokens).where(api_tokens.c.user_id == OWNER).order_by(api_tokens.c.id.desc())
_REVOKE = delete(api_tokens).where(api_tokens.c.user_id == OWNER, api_tokens.c.name == bindparam("name"))
_REVOKE_ALL = delete(api_tokens).where(api_tokens.c.user_id == OWNER)
_FORGET_EXPIRED = delete(api_tokens).where(api_tokens.c.user_id == OWNER, api_tokens.c.expires_at <= _NOW)
_ACTIVE = (
    select(api_tokens.c.digest)
    .join(users)
    .where(
        api_tokens.c.digest.in_(bindparam("digests", expanding=True)),
        or_(api_tokens.c.expires_at.is_(None), api_tokens.c.expires_at > _NOW),
        users.c.disabled_at.is_(None),
    )
)
_NOTE_USED = (
    update(api_tokens)
    .where(api_tokens.c.digest == bindparam("of_digest"))
    .values(last_used_at=bindparam("at", type_=api_tokens.c.last_used_at.type))
)


@final
class SqlApiTokens(Repository, ApiTokens):
    """Tokens in ``api_tokens``."""

    def add(
        self,
        owner: int,
        name: str,
        scopes: tuple[Scope, ...],
        now: datetime,
        expires_at: datetime | None,
        *,
        ending: str,
        digest: bytes,
    ) -> ApiToken:
        """Insert, if the user exists. A name that is taken breaks a unique constraint."""
        values = {
            "owner": owner, "name": name, "scopes": " ".join(scopes), "created_at": now, "expires_at": expires_at,
            "ending": ending, "digest": digest,
        }  # fmt: skip
        token_id = self._connection.execute(_ADD, values).scalar()
        if token_id is None:
            raise AccountNotFound
        return ApiToken(token_id, owner, name, scopes, now, expires_at, None, ending, digest)

    def find(self, digest: bytes) -> ApiToken | None:
        """Read by digest, joined with the account."""
        row = self._connection.execute(_FIND, {"digest": digest}).first()
        return None if row is None else _token(row)

    def of(self, owner: int) -> list[ApiToken]:
        """Read in descending order of ids."""
        return [_token(row) for row in self._connection.execute(_OF_OWNER, {"owner": owner}).fetchall()]

    def revoke(self, name: str, *, owner: int) -> None:
        """Delete by owner and name."""
        if not self._connection.execute(_REVOKE, {"owner": owner, "name": name}).rowcount:
            raise ApiTokenNotFound

    def revoke_all(self, owner: int) -> None:
        """Delete by owner."""
        self._connection.execute(_REVOKE_ALL, {"owner": owner})

    def forget_expired(self, now: datetime, *, owner: int) -> None:
        """Delete by owner and time."""
        self._connection.execute(_FORGET_EXPIRED, {"owner": owner, "now": now})

    def active(self, digests: Collection[bytes], now: datetime) -> frozenset[bytes]:
        """Read all by digest, joined with the accounts."""
        found = self._connection.execute(_ACTIVE, {"digests": list(digests), "now": now})
        return frozenset(bytes(digest) for digest in found.scalars().all())

    def note_used(self, times: Mapping[bytes, datetime]) -> None:
        """Update each by digest, in one order, so that processes that do the same don't wait for each other."""
        rows = [{"of_digest": digest, "at": times[digest]} for digest in sorted(times)]
        if rows:
            self._connection.execute(_NOTE_USED, rows)


def _token(row: Sequence[Any]) -> ApiToken:
    id_, owner, name, scopes, created_at, expires_at, last_used_at, ending, digest = row
    chosen = tuple(map(Scope, scopes.split()))
    return ApiToken(id_, owner, name, chosen, created_at, expires_at, last_used_at, ending, bytes(digest))
