"""Accounts, their sessions and their second factors."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, final

from sqlalchemy import bindparam, delete, exists, func, insert, select, update

from baio_adapters.sql.repositories.answers import RUNNING_OF_OWNER, STOP_ALL_OF_OWNER
from baio_adapters.sql.repositories.audit import ANONYMISE
from baio_adapters.sql.repositories.repository import ID, OWNER, Repository, columns
from baio_adapters.sql.tables import password_resets, recovery_codes, second_factors, sessions, users
from baio_domain.entities import PROFILE_FIELDS, Profile, SecondFactor, Session, User, folded
from baio_domain.errors import NotAuthenticated, SecondFactorOn
from baio_domain.ports import SecondFactors, Sessions, Users

_USER = columns(users, "id", "disabled_at")
_USER_BY_ID = select(*_USER).where(users.c.id == ID)
_ENABLED_USER = select(users.c.id).where(users.c.id == ID, users.c.disabled_at.is_(None))
_USER_BY_NAME = select(*_USER).where(users.c.username_folded == bindparam("folded"))
_USERS_TAKEN = select(users.c.username_folded, users.c.email_folded).where(
    (users.c.username_folded == bindparam("username")) | (users.c.email_folded == bindparam("email"))
)
_ADD_USER = insert(users).returning(users.c.id)
_SAVE_PROFILE = (
    update(users).where(users.c.id == ID).values({name: bindparam(f"new_{name}") for name in PROFILE_FIELDS})
)
_USERS = select(*_USER).order_by(users.c.id)
_SAVE_DISABLED_AT = update(users).where(users.c.id == ID).values(disabled_at=bindparam("new"))
_DELETE_USER = delete(users).where(users.c.id == ID)
_SAVE_PASSWORD_HASH = update(users).where(users.c.id == ID).values(password_hash=bindparam("new"))

_SAVE_NAMES = (
    update(users)
    .where(users.c.id == ID)
    .values({name: bindparam(f"new_{name}") for name in ("username", "email", "username_folded", "email_folded")})
)
_OFFER_RESET = insert(password_resets)
_WITHDRAW_RESET = delete(password_resets).where(password_resets.c.user_id == ID)
_OFFERED_RESET = (
    select(*_USER)
    .join(password_resets)
    .where(password_resets.c.digest == bindparam("digest"), password_resets.c.until > bindparam("now"))
)

_SESSION_STANDS = (sessions.c.id == ID, sessions.c.user_id == OWNER)
_REQUIRE_SESSION = select(sessions.c.id).join(users).where(*_SESSION_STANDS, users.c.disabled_at.is_(None))
_OPEN_SESSION = (
    insert(sessions)
    .from_select(
        ["user_id", "created_at", "last_used_at", "user_agent"],
        select(
            users.c.id,
            bindparam("now", type_=sessions.c.created_at.type),
            bindparam("now", type_=sessions.c.created_at.type),
            bindparam("agent", type_=sessions.c.user_agent.type),
        ).where(users.c.id == OWNER),
    )
    .returning(sessions.c.id)
)
_USE_SESSION = (
    update(sessions)
    .where(
        *_SESSION_STANDS,
        sessions.c.last_used_at >= bindparam("used_since"),
        sessions.c.created_at >= bindparam("opened_since"),
        exists().where(users.c.id == sessions.c.user_id, users.c.disabled_at.is_(None)),
    )
    .values(last_used_at=bindparam("now"))
    .returning(*sessions.c)
)
_SESSIONS = select(sessions).where(sessions.c.user_id == OWNER).order_by(sessions.c.id.desc())
_END_SESSION = delete(sessions).where(*_SESSION_STANDS)
_END_SESSIONS = delete(sessions).where(sessions.c.user_id == OWNER, sessions.c.id != bindparam("but"))
_FORGET_SESSIONS = delete(sessions).where(
    (sessions.c.last_used_at < bindparam("used_before")) | (sessions.c.created_at < bindparam("opened_before"))
)

_FACTOR = select(second_factors).where(second_factors.c.user_id == ID)
_ENROLL = insert(second_factors)
_FORGET_FACTOR = delete(second_factors).where(second_factors.c.user_id == ID)
_THE_FACTOR = update(second_factors).where(second_factors.c.user_id == ID, second_factors.c.sealed == bindparam("seen"))
_ENABLE_FACTOR = _THE_FACTOR.where(second_factors.c.enabled_at.is_(None)).values(
    enabled_at=bindparam("now"), last_counter=bindparam("counter")
)
_SPEND = _THE_FACTOR.where(second_factors.c.last_counter < bindparam("counter")).values(
    last_counter=bindparam("counter")
)
_RESEAL_FACTOR = _THE_FACTOR.values(sealed=bindparam("new"))
_FACTORS_AFTER = (
    select(second_factors)
    .where(second_factors.c.user_id > ID)
    .order_by(second_factors.c.user_id)
    .limit(bindparam("limit"))
)
_ADD_RECOVERY_CODES = insert(recovery_codes)
_SPEND_RECOVERY = delete(recovery_codes).where(
    recovery_codes.c.user_id == ID, recovery_codes.c.digest == bindparam("digest")
)
_RECOVERY_LEFT = select(func.count()).where(recovery_codes.c.user_id == ID)
_FORGET_RECOVERY_CODES = delete(recovery_codes).where(recovery_codes.c.user_id == ID)


@final
class SqlUsers(Repository, Users):
    """Accounts in ``users``."""

    def add(self, username: str, email: str, profile: Profile, password_hash: str, now: datetime) -> User:
        """Insert; a name that is taken breaks a unique constraint."""
        stated = {name: getattr(profile, name) for name in PROFILE_FIELDS}
        user_id = self._connection.execute(
            _ADD_USER,
            {
                "username": username,
                "email": email,
                **stated,
                "password_hash": password_hash,
                "created_at": now,
                "username_folded": folded(username),
                "email_folded": folded(email),
            },
        ).scalar_one()
        return User(
            id=user_id,
            username=username,
            email=email,
            **stated,
            password_hash=password_hash,
            created_at=now,
            disabled_at=None,
        )

    def taken(self, username: str, email: str) -> list[str]:
        """Look both names up at once."""
        names = {"username": folded(username), "email": folded(email)}
        rows = self._connection.execute(_USERS_TAKEN, names).fetchall()
        return [field for index, field in enumerate(names) if any(row[index] == names[field] for row in rows)]

    def get(self, user_id: int) -> User:
        """Read by id."""
        row = self._connection.execute(_USER_BY_ID, {"the_id": user_id}).first()
        if row is None:
            raise NotAuthenticated("The account does not exist any more.")
        return User(*row)

    def require_enabled(self, user_id: int) -> None:
        """Look for an enabled one by id."""
        if self._connection.execute(_ENABLED_USER, {"the_id": user_id}).first() is None:
            raise NotAuthenticated("The account is disabled, or does not exist any more.")

    def by_username(self, username: str) -> User | None:
        """Read by folded name."""
        row = self._connection.execute(_USER_BY_NAME, {"folded": folded(username)}).first()
        return None if row is None else User(*row)

    def save_profile(self, user_id: int, profile: Profile) -> None:
        """Update the six columns."""
        values = {f"new_{name}": getattr(profile, name) for name in PROFILE_FIELDS}
        self._update(_SAVE_PROFILE, {"the_id": user_id, **values})

    def all(self) -> list[User]:
        """Read in the order of ids."""
        return [User(*row) for row in self._connection.execute(_USERS).fetchall()]

    def disable(self, user_id: int, now: datetime) -> None:
        """Update the account and its running answers."""
        self._update(_SAVE_DISABLED_AT, {"the_id": user_id, "new": now})
        self._connection.execute(STOP_ALL_OF_OWNER, {"owner": user_id})

    def enable(self, user_id: int) -> None:
        """Update the account."""
        self._update(_SAVE_DISABLED_AT, {"the_id": user_id, "new": None})

    def delete(self, user_id: int) -> list[int]:
        """Delete by id, after taking the person out of the audit; foreign keys take the rest along."""
        self._connection.execute(ANONYMISE, {"owner": user_id})
        running = self._connection.execute(RUNNING_OF_OWNER, {"owner": user_id}).fetchall()
        self._update(_DELETE_USER, {"the_id": user_id})
        return sorted(row[0] for row in running)

    def save_password_hash(self, user_id: int, password_hash: str) -> None:
        """Update the hash, and delete the offer."""
        self._update(_SAVE_PASSWORD_HASH, {"the_id": user_id, "new": password_hash})
        self._connection.execute(_WITHDRAW_RESET, {"the_id": user_id})

    def save_names(self, user_id: int, username: str, email: str) -> None:
        """Update both; a name that is taken breaks a unique constraint."""
        names = {"username": username, "email": email}
        values = {f"new_{name}": text for name, text in names.items()}
        values |= {f"new_{name}_folded": folded(text) for name, text in names.items()}
        self._update(_SAVE_NAMES, {"the_id": user_id, **values})

    def offer_reset(self, user_id: int, digest: bytes, until: datetime) -> None:
        """Insert in place of an earlier offer."""
        self._connection.execute(_WITHDRAW_RESET, {"the_id": user_id})
        self._connection.execute(_OFFER_RESET, {"user_id": user_id, "digest": digest, "until": until})

    def offered_reset(self, digest: bytes, now: datetime) -> User | None:
        """Read by digest."""
        row = self._connection.execute(_OFFERED_RESET, {"digest": digest, "now": now}).first()
        return None if row is None else User(*row)

    def _update(self, statement: Any, values: dict[str, object]) -> None:  # noqa: ANN401 - UPDATE or DELETE
        if not self._connection.execute(statement, values).rowcount:
            raise NotAuthenticated("The account does not exist any more.")


@final
class SqlSessions(Repository, Sessions):
    """Sessions in ``sessions``."""

    def open(self, owner: int, user_agent: str, now: datetime) -> Session:
        """Insert on behalf of an existing user."""
        values = {"owner": owner, "agent": user_agent, "now": now}
        session_id = self._connection.execute(_OPEN_SESSION, values).scalar()
        if session_id is None:
            raise NotAuthenticated("The account does not exist any more.")
        return Session(session_id, owner, now, now, user_agent)

    def require(self, session_id: int, *, owner: int) -> None:
        """Look for it by its id."""
        if self._connection.execute(_REQUIRE_SESSION, {"the_id": session_id, "owner": owner}).first() is None:
            raise _session_is_over()

    def use(
        self, session_id: int, now: datetime, *, owner: int, used_since: datetime, opened_since: datetime
    ) -> Session:
        """Update it where its time is not over."""
        values = {
            "the_id": session_id, "owner": owner, "now": now, "used_since": used_since, "opened_since": opened_since,
        }  # fmt: skip
        row = self._connection.execute(_USE_SESSION, values).first()
        if row is None:
            raise _session_is_over()
        return Session(*row)

    def of(self, owner: int) -> list[Session]:
        """Read by the index over an owner's."""
        return [Session(*row) for row in self._connection.execute(_SESSIONS, {"owner": owner}).fetchall()]

    def end(self, session_id: int, *, owner: int) -> bool:
        """Delete by id and owner."""
        return bool(self._connection.execute(_END_SESSION, {"the_id": session_id, "owner": owner}).rowcount)

    def end_all(self, owner: int, *, but: int | None = None) -> None:
        """Delete by owner."""
        self._connection.execute(_END_SESSIONS, {"owner": owner, "but": but or 0})

    def forget(self, *, used_before: datetime, opened_before: datetime) -> None:
        """Delete by the indexes over times."""
        self._connection.execute(_FORGET_SESSIONS, {"used_before": used_before, "opened_before": opened_before})


def _session_is_over() -> NotAuthenticated:
    return NotAuthenticated("The session is over. Sign in again.")


@final
class SqlSecondFactors(Repository, SecondFactors):
    """Authenticator apps in ``second_factors``, digests of recovery codes in ``recovery_codes``."""

    def get(self, user_id: int) -> SecondFactor | None:
        """Read by account."""
        row = self._connection.execute(_FACTOR, {"the_id": user_id}).first()
        return None if row is None else SecondFactor(*row)

    def enroll(self, user_id: int, sealed: bytes) -> None:
        """Insert in place of what was not enabled."""
        factor = self.get(user_id)
        if factor is not None and factor.enabled:
            raise SecondFactorOn
        self._connection.execute(_FORGET_FACTOR, {"the_id": user_id})
        values = {"user_id": user_id, "sealed": sealed, "enabled_at": None, "last_counter": 0}
        self._connection.execute(_ENROLL, values)

    def enable(self, factor: SecondFactor, counter: int, recovery: Sequence[bytes], now: datetime) -> bool:
        """Update what is still as it was seen, and insert the digests."""
        values = {"the_id": factor.user_id, "seen": factor.sealed, "counter": counter, "now": now}
        if not self._connection.execute(_ENABLE_FACTOR, values).rowcount:
            return False
        rows = [{"user_id": factor.user_id, "digest": digest} for digest in recovery]
        if rows:
            self._connection.execute(_ADD_RECOVERY_CODES, rows)
        return True

    def spend(self, factor: SecondFactor, counter: int) -> bool:
        """Update the counter where it is smaller."""
        values = {"the_id": factor.user_id, "seen": factor.sealed, "counter": counter}
        return bool(self._connection.execute(_SPEND, values).rowcount)

    def spend_recovery(self, user_id: int, digest: bytes) -> bool:
        """Delete by digest."""
        return bool(self._connection.execute(_SPEND_RECOVERY, {"the_id": user_id, "digest": digest}).rowcount)

    def recovery_left(self, user_id: int) -> int:
        """Count by account."""
        return int(self._connection.execute(_RECOVERY_LEFT, {"the_id": user_id}).scalar_one())

    def remove(self, user_id: int) -> bool:
        """Delete from both."""
        self._connection.execute(_FORGET_RECOVERY_CODES, {"the_id": user_id})
        return bool(self._connection.execute(_FORGET_FACTOR, {"the_id": user_id}).rowcount)

    def after(self, user_id: int, limit: int) -> list[SecondFactor]:
        """Read in the order of accounts."""
        rows = self._connection.execute(_FACTORS_AFTER, {"the_id": user_id, "limit": limit}).fetchall()
        return [SecondFactor(*row) for row in rows]

    def reseal(self, factor: SecondFactor, sealed: bytes) -> None:
        """Update what is still as it was seen."""
        values = {"the_id": factor.user_id, "seen": factor.sealed, "new": sealed}
        self._connection.execute(_RESEAL_FACTOR, values)
