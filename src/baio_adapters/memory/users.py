"""Accounts."""

from collections.abc import Collection
from dataclasses import asdict, replace
from datetime import datetime
from typing import final

from baio_adapters.memory.repository import Repository
from baio_domain.entities import DELETED_OPERATOR, AnswerState, AuditEntry, Profile, User
from baio_domain.errors import InvalidInput, name_taken
from baio_domain.ports import Users
from baio_domain.text import name_key


@final
class MemoryUsers(Repository, Users):
    """Accounts in ``Tables.users``, password resets in ``Tables.password_resets``."""

    def add(self, username: str, email: str, profile: Profile, password_hash: str, now: datetime) -> User:
        _refuse_taken(self.taken(username, email))
        user = User(
            id=self._tables.next_id("users"),
            username=username,
            email=email,
            **asdict(profile),
            password_hash=password_hash,
            created_at=now,
            disabled_at=None,
        )
        self._tables.users[user.id] = user
        return user

    def taken(self, username: str, email: str) -> list[str]:
        return _taken(self._tables.users.values(), username, email)

    def get(self, user_id: int) -> User:
        return self._tables.user(user_id)

    def is_enabled(self, user_id: int) -> bool:
        user = self._tables.users.get(user_id)
        return user is not None and user.disabled_at is None

    def lock(self, user_id: int) -> None:
        """Do nothing: one unit of work runs at a time."""

    def by_username(self, username: str) -> User | None:
        key = name_key(username)
        return next((user for user in self._tables.users.values() if name_key(user.username) == key), None)

    def save_profile(self, user_id: int, profile: Profile) -> None:
        self._tables.users[user_id] = replace(self.get(user_id), **asdict(profile))

    def page(self, *, after: int, limit: int, prefix: str = "") -> list[User]:
        folded = name_key(prefix)
        later = [user for user_id, user in sorted(self._tables.users.items()) if user_id > after]
        found = [each for each in later if _begins(each.username, folded) or _begins(each.email, folded)]
        return found[:limit]

    def mark_administrator(self, user_id: int, *, administrator: bool) -> None:
        self._tables.users[user_id] = replace(self.get(user_id), administrator=administrator)

    def disable(self, user_id: int, now: datetime) -> None:
        self._tables.users[user_id] = replace(self.get(user_id), disabled_at=now)
        for row in list(self._tables.answers.values()):
            if row.answer.state is AnswerState.RUNNING and row.new.owner == user_id:
                self._tables.answers[row.answer.id] = replace(row, stopping=True)

    def enable(self, user_id: int) -> None:
        self._tables.users[user_id] = replace(self.get(user_id), disabled_at=None)

    def delete(self, user_id: int) -> list[int]:
        self.get(user_id)
        tables = self._tables
        threads = {each.id for each in tables.conversations.values() if each.user_id == user_id}
        mine = {k: v for k, v in tables.answers.items() if v.new.owner == user_id}
        del tables.users[user_id]
        tables.password_resets.pop(user_id, None)
        tables.keep_sessions(lambda each: each.user_id != user_id)
        tables.api_tokens = {k: v for k, v in tables.api_tokens.items() if v.user_id != user_id}
        tables.identities = {k: v for k, v in tables.identities.items() if v.user_id != user_id}
        tables.second_factors.pop(user_id, None)
        tables.recovery_codes = {k: None for k in tables.recovery_codes if k[0] != user_id}
        tables.known_networks = {k: v for k, v in tables.known_networks.items() if k[0] != user_id}
        tables.audit = {k: _anonymous(v, user_id) for k, v in tables.audit.items()}
        tables.conversations = {k: v for k, v in tables.conversations.items() if k not in threads}
        tables.filings = {k: v for k, v in tables.filings.items() if k not in threads}
        tables.retentions = {k: v for k, v in tables.retentions.items() if k not in threads}
        tables.imports = {k: v for k, v in tables.imports.items() if k not in threads}
        tables.messages = {k: v for k, v in tables.messages.items() if v.conversation_id not in threads}
        tables.answers = {k: v for k, v in tables.answers.items() if k not in mine}
        tables.settings = {k: v for k, v in tables.settings.items() if k in tables.conversations}
        tables.presets = {k: v for k, v in tables.presets.items() if v[0].user_id != user_id}
        tables.usage = {k: v for k, v in tables.usage.items() if k[0] != user_id}
        tables.api_keys = {k: v for k, v in tables.api_keys.items() if v.user_id != user_id}
        tables.idempotency = {k: v for k, v in tables.idempotency.items() if k[0] != user_id}
        tables.tool_calls = {k: v for k, v in tables.tool_calls.items() if v.user_id != user_id}
        tables.delete_sequences({k for k, v in tables.sequences.items() if v.sequence.user_id == user_id})
        return sorted(k for k, v in mine.items() if v.answer.state is AnswerState.RUNNING)

    def begin_deletion(self, user_id: int, now: datetime) -> list[int]:
        """Delete everything at once: here nobody waits for it."""
        del now
        return self.delete(user_id)

    def any_deletion(self) -> bool:
        return False

    def continue_deletion(self, *, count: int, size: int) -> None:
        """Do nothing: there is nothing left."""

    def save_password_hash(self, user_id: int, password_hash: str) -> None:
        self._tables.users[user_id] = replace(self.get(user_id), password_hash=password_hash)
        self._tables.password_resets.pop(user_id, None)

    def renew_password_hash(self, user_id: int, old: str, new: str) -> bool:
        user = self._tables.users.get(user_id)
        if user is None or user.password_hash != old:
            return False
        self._tables.users[user_id] = replace(user, password_hash=new)
        return True

    def save_names(self, user_id: int, username: str, email: str) -> None:
        user = self.get(user_id)
        others = [each for each in self._tables.users.values() if each.id != user_id]
        _refuse_taken(_taken(others, username, email))
        self._tables.users[user_id] = replace(user, username=username, email=email)

    def save_password_reset(self, user_id: int, digest: bytes, until: datetime) -> None:
        self.get(user_id)
        self._tables.password_resets[user_id] = (digest, until)

    def by_password_reset(self, digest: bytes, now: datetime, latest: datetime) -> User | None:
        resets = self._tables.password_resets.items()
        found = next((k for k, (known, until) in resets if known == digest and now < until <= latest), None)
        return None if found is None else self._tables.users[found]


def _begins(name: str, folded: str) -> bool:
    return name_key(name).startswith(folded)


def _anonymous(entry: AuditEntry, user_id: int) -> AuditEntry:
    """The entry without this account. The address is that of whoever acted."""
    if entry.user_id == user_id:
        entry = replace(entry, user_id=None, address=entry.address if entry.operator_id is not None else "")
    if entry.operator_id == user_id:
        entry = replace(entry, operator=DELETED_OPERATOR, address="")
    return entry


def _taken(users: Collection[User], username: str, email: str) -> list[str]:
    names = {"username": name_key(username), "email": name_key(email)}
    return [field for field, name in names.items() if any(name_key(getattr(user, field)) == name for user in users)]


def _refuse_taken(fields: list[str]) -> None:
    if fields:
        raise InvalidInput.of(*map(name_taken, fields))
