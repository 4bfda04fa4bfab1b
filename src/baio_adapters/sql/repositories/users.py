"""Accounts."""

from datetime import datetime
from typing import Any, final

from sqlalchemy import Text, bindparam, cast, delete, func, insert, literal, select, update

from baio_adapters.sql.repositories.answers import SELECT_RUNNING_ANSWERS, STOP_RUNNING_ANSWERS
from baio_adapters.sql.repositories.audit import ANONYMISE_ENTRIES, ANONYMISE_OPERATOR
from baio_adapters.sql.repositories.indexed_texts import note_deletion
from baio_adapters.sql.repositories.repository import ID, Repository, begin_deletion, columns, insert_for_owner
from baio_adapters.sql.tables import (
    api_keys,
    api_tokens,
    conversations,
    idempotency_keys,
    identities,
    known_networks,
    password_resets,
    presets,
    recovery_codes,
    second_factors,
    sequences,
    sessions,
    tool_calls,
    usage,
    users,
)
from baio_domain.entities import PROFILE_FIELDS, Profile, User
from baio_domain.errors import AccountNotFound
from baio_domain.ports import Users
from baio_domain.text import name_key

_COLUMNS = columns(users, "id", "administrator")
_USER_BY_ID = select(*_COLUMNS).where(users.c.id == ID)
_ENABLED_USER = select(users.c.id).where(users.c.id == ID, users.c.disabled_at.is_(None))
_USER_BY_NAME = select(*_COLUMNS).where(users.c.username_folded == bindparam("folded"))
_NAMES_TAKEN = select(users.c.username_folded, users.c.email_folded).where(
    (users.c.username_folded == bindparam("username")) | (users.c.email_folded == bindparam("email"))
)
_ADD_USER = insert(users).returning(users.c.id)
_SAVE_PROFILE = (
    update(users).where(users.c.id == ID).values({name: bindparam(f"new_{name}") for name in PROFILE_FIELDS})
)
_TOUCH = update(users).where(users.c.id == ID).values(created_at=users.c.created_at)
_PAGE = (
    select(*_COLUMNS)
    .where(users.c.id > ID, users.c.deleted_at.is_(None))
    .order_by(users.c.id)
    .limit(bindparam("limit"))
)
# Not LIKE, for which some characters of names stand for others, and which every language sorts in its own way.
_PREFIX = bindparam("prefix", type_=users.c.username.type)
_PAGE_WITH_PREFIX = _PAGE.where(
    (func.substr(users.c.username_folded, 1, func.length(_PREFIX)) == _PREFIX)
    | (func.substr(users.c.email_folded, 1, func.length(_PREFIX)) == _PREFIX)
)
_MARK_ADMINISTRATOR = update(users).where(users.c.id == ID).values(administrator=bindparam("new"))
_SAVE_DISABLED_AT = update(users).where(users.c.id == ID).values(disabled_at=bindparam("new"))
_DELETE_USER = delete(users).where(users.c.id == ID)

# What lets somebody in, or tells about them. No foreign key to these has to look for answers.
_DELETE_ACCESS = [
    delete(table).where(table.c.user_id == ID)
    for table in (
        sessions, api_tokens, identities, second_factors, recovery_codes, password_resets, known_networks,
        idempotency_keys, presets, usage,
    )
]  # fmt: skip
_EMPTY_KEYS = update(api_keys).where(api_keys.c.user_id == ID).values(sealed=b"", nickname=cast(api_keys.c.id, Text))
# No username and no email has a control character, so nobody has these names, and nobody can ask for them.
_DELETED_NAME = literal("\x7f").concat(cast(users.c.id, Text))
_MARK_DELETED = (
    update(users)
    .where(users.c.id == ID)
    .values(
        dict.fromkeys(("username", "email", "username_folded", "email_folded"), _DELETED_NAME)
        | dict.fromkeys((*PROFILE_FIELDS, "password_hash"), "")
        | dict.fromkeys(("disabled_at", "deleted_at"), bindparam("now"))
        | {"administrator": False}
    )
)
_ANY_DELETED = select(users.c.id).where(users.c.deleted_at.is_not(None)).order_by(users.c.id).limit(1)
_DELETED = _ANY_DELETED.with_for_update(skip_locked=True)
# By table, the next rows with their bytes, and the deletion of one.
_LEFT = [
    (
        select(table.c.id, table.c.stored_bytes)
        .where(table.c.user_id == ID)
        .order_by(table.c.id)
        .limit(bindparam("limit")),
        delete(table).where(table.c.id == ID),
    )
    for table in (conversations, sequences, tool_calls)
]
_SAVE_PASSWORD_HASH = update(users).where(users.c.id == ID).values(password_hash=bindparam("new"))
_RENEW_PASSWORD_HASH = _SAVE_PASSWORD_HASH.where(users.c.password_hash == bindparam("old"))

_SAVE_NAMES = (
    update(users)
    .where(users.c.id == ID)
    .values({name: bindparam(f"new_{name}") for name in ("username", "email", "username_folded", "email_folded")})
)
_ADD_RESET = insert_for_owner(password_resets, "digest", "until")
_DELETE_RESET = delete(password_resets).where(password_resets.c.user_id == ID)
_USER_BY_RESET = (
    select(*_COLUMNS)
    .join(password_resets)
    .where(
        password_resets.c.digest == bindparam("digest"),
        password_resets.c.until > bindparam("now"),
        password_resets.c.until <= bindparam("latest"),
    )
)


@final
class SqlUsers(Repository, Users):
    """Accounts in ``users``, pending password resets in ``password_resets``."""

    def add(self, username: str, email: str, profile: Profile, password_hash: str, now: datetime) -> User:
        """Insert. A name that is taken breaks a unique constraint."""
        profile_values = {name: getattr(profile, name) for name in PROFILE_FIELDS}
        user_id = self._connection.execute(
            _ADD_USER,
            {
                "username": username,
                "email": email,
                **profile_values,
                "password_hash": password_hash,
                "created_at": now,
                "username_folded": name_key(username),
                "email_folded": name_key(email),
            },
        ).scalar_one()
        return User(
            id=user_id,
            username=username,
            email=email,
            **profile_values,
            password_hash=password_hash,
            created_at=now,
            disabled_at=None,
        )

    def taken(self, username: str, email: str) -> list[str]:
        """Look up both names in one statement."""
        names = {"username": name_key(username), "email": name_key(email)}
        rows = self._connection.execute(_NAMES_TAKEN, names).fetchall()
        return [field for index, field in enumerate(names) if any(row[index] == names[field] for row in rows)]

    def get(self, user_id: int) -> User:
        """Read by id."""
        row = self._connection.execute(_USER_BY_ID, {"id_": user_id}).first()
        if row is None:
            raise AccountNotFound
        return User(*row)

    def is_enabled(self, user_id: int) -> bool:
        """Read by id."""
        return self._connection.execute(_ENABLED_USER, {"id_": user_id}).first() is not None

    def lock(self, user_id: int) -> None:
        """Change nothing, so that it conflicts with another such change. SQLite has one writer at a time anyway."""
        if self._connection.dialect.name == "postgresql":
            self._connection.execute(_TOUCH, {"id_": user_id})

    def by_username(self, username: str) -> User | None:
        """Read by case-folded name."""
        row = self._connection.execute(_USER_BY_NAME, {"folded": name_key(username)}).first()
        return None if row is None else User(*row)

    def save_profile(self, user_id: int, profile: Profile) -> None:
        """Update the columns of the profile."""
        values = {f"new_{name}": getattr(profile, name) for name in PROFILE_FIELDS}
        self._change(_SAVE_PROFILE, {"id_": user_id, **values})

    def page(self, *, after: int, limit: int, prefix: str = "") -> list[User]:
        """Read in the order of ids."""
        folded, values = name_key(prefix), {"id_": after, "limit": limit}
        if folded:
            rows = self._connection.execute(_PAGE_WITH_PREFIX, {**values, "prefix": folded}).fetchall()
        else:
            rows = self._connection.execute(_PAGE, values).fetchall()
        return [User(*row) for row in rows]

    def mark_administrator(self, user_id: int, *, administrator: bool) -> None:
        """Update the account."""
        self._change(_MARK_ADMINISTRATOR, {"id_": user_id, "new": administrator})

    def disable(self, user_id: int, now: datetime) -> None:
        """Update the account and its running answers."""
        self._change(_SAVE_DISABLED_AT, {"id_": user_id, "new": now})
        self._connection.execute(STOP_RUNNING_ANSWERS, {"owner": user_id})

    def enable(self, user_id: int) -> None:
        """Update the account."""
        self._change(_SAVE_DISABLED_AT, {"id_": user_id, "new": None})

    def delete(self, user_id: int) -> list[int]:
        """Anonymise the audit log, then delete by id; foreign keys cascade to the rest."""
        running = self._leave(user_id)
        self._change(_DELETE_USER, {"id_": user_id})
        note_deletion(self._connection)
        return running

    def begin_deletion(self, user_id: int, now: datetime) -> list[int]:
        """Delete what lets somebody in, and empty the account and its keys, which answers name."""
        running = self._leave(user_id)
        self._connection.execute(STOP_RUNNING_ANSWERS, {"owner": user_id})
        for statement in (*_DELETE_ACCESS, _EMPTY_KEYS):
            self._connection.execute(statement, {"id_": user_id})
        self._change(_MARK_DELETED, {"id_": user_id, "now": now})
        return running

    def any_deletion(self) -> bool:
        """Look for one by its index."""
        return self._connection.execute(_ANY_DELETED).first() is not None

    def continue_deletion(self, *, count: int, size: int) -> None:
        """Lock the account, so that one process does so at a time; delete row by row, and in the end the account."""
        user_id = self._connection.execute(_DELETED).scalar()
        if user_id is None:
            return
        begin_deletion(self._connection)
        for search, deletion in _LEFT:
            rows = self._connection.execute(search, {"id_": user_id, "limit": count}).fetchall()
            for row_id, stored in rows:
                if size <= 0:
                    break
                self._connection.execute(deletion, {"id_": row_id})
                size -= stored
            if rows:
                break
        else:
            self._change(_DELETE_USER, {"id_": user_id})
        note_deletion(self._connection)

    def _leave(self, user_id: int) -> list[int]:
        """Begin a deletion, and anonymise the audit log; the ids of the answers that are running."""
        begin_deletion(self._connection)
        for statement in (ANONYMISE_ENTRIES, ANONYMISE_OPERATOR):
            self._connection.execute(statement, {"owner": user_id})
        return sorted(self._connection.execute(SELECT_RUNNING_ANSWERS, {"owner": user_id}).scalars())

    def save_password_hash(self, user_id: int, password_hash: str) -> None:
        """Update the hash and delete the pending reset."""
        self._change(_SAVE_PASSWORD_HASH, {"id_": user_id, "new": password_hash})
        self._connection.execute(_DELETE_RESET, {"id_": user_id})

    def renew_password_hash(self, user_id: int, old: str, new: str) -> bool:
        """Update the hash where it is still the old one."""
        values = {"id_": user_id, "old": old, "new": new}
        return bool(self._connection.execute(_RENEW_PASSWORD_HASH, values).rowcount)

    def save_names(self, user_id: int, username: str, email: str) -> None:
        """Update both. A name that is taken breaks a unique constraint."""
        names = {"username": username, "email": email}
        values = {f"new_{name}": text for name, text in names.items()}
        values |= {f"new_{name}_folded": name_key(text) for name, text in names.items()}
        self._change(_SAVE_NAMES, {"id_": user_id, **values})

    def save_password_reset(self, user_id: int, digest: bytes, until: datetime) -> None:
        """Delete an earlier reset, then insert."""
        self._connection.execute(_DELETE_RESET, {"id_": user_id})
        values = {"owner": user_id, "digest": digest, "until": until}
        if self._connection.execute(_ADD_RESET, values).scalar() is None:
            raise AccountNotFound

    def by_password_reset(self, digest: bytes, now: datetime, latest: datetime) -> User | None:
        """Read by digest."""
        row = self._connection.execute(_USER_BY_RESET, {"digest": digest, "now": now, "latest": latest}).first()
        return None if row is None else User(*row)

    def _change(self, statement: Any, values: dict[str, object]) -> None:  # noqa: ANN401 - UPDATE or DELETE
        if not self._connection.execute(statement, values).rowcount:
            raise AccountNotFound
