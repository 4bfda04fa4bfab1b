"""API tokens."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import final

from baio_adapters.memory.repository import Repository
from baio_domain.entities import ApiToken, Scope
from baio_domain.errors import ApiTokenNotFound, InvalidInput, token_name_taken
from baio_domain.ports import ApiTokens


@final
class MemoryApiTokens(Repository, ApiTokens):
    """Tokens in ``Tables.api_tokens``."""

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
        user = self._tables.user(owner)
        if any(each.name == name for each in self.of(owner)):
            raise InvalidInput.of(token_name_taken())
        token_id = self._tables.next_id("api_tokens")
        token = ApiToken(token_id, user.id, name, scopes, now, expires_at, None, ending, digest)
        self._tables.api_tokens[token_id] = token
        return token

    def find(self, digest: bytes) -> ApiToken | None:
        for token in self._tables.api_tokens.values():
            if token.digest == digest and self._tables.users[token.user_id].disabled_at is None:
                return token
        return None

    def of(self, owner: int) -> list[ApiToken]:
        return [each for each in reversed(self._tables.api_tokens.values()) if each.user_id == owner]

    def revoke(self, name: str, *, owner: int) -> None:
        if not any(each.name == name for each in self.of(owner)):
            raise ApiTokenNotFound
        self._keep(lambda each: (each.user_id, each.name) != (owner, name))

    def revoke_all(self, owner: int) -> None:
        self._keep(lambda each: each.user_id != owner)

    def forget_expired(self, now: datetime, *, owner: int) -> None:
        self._keep(lambda each: each.user_id != owner or not each.has_expired(now))

    def active(self, digests: Collection[bytes], now: datetime) -> frozenset[bytes]:
        found = [token for digest in digests if (token := self.find(digest)) is not None]
        return frozenset(token.digest for token in found if not token.has_expired(now))

    def note_used(self, times: Mapping[bytes, datetime]) -> None:
        self._tables.api_tokens = {
            k: replace(v, last_used_at=times.get(v.digest, v.last_used_at)) for k, v in self._tables.api_tokens.items()
        }

    def _keep(self, rule: Callable[[ApiToken], bool]) -> None:
        self._tables.api_tokens = {k: v for k, v in self._tables.api_tokens.items() if rule(v)}
