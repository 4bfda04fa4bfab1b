"""The ledger of what answers cost."""

from collections.abc import Sequence
from datetime import date
from typing import Any, final

from sqlalchemy import bindparam, select, text, tuple_

from baio_adapters.sql.repositories.repository import OWNER, Repository
from baio_adapters.sql.tables import providers, usage, users
from baio_domain.entities import DayOfUsage, UsedTokens
from baio_domain.ports import Ledger, PlaceInLedger, UsageOfAccount

INTO_DAY = (
    "INSERT INTO usage (user_id, day, provider_id, model, answers, prompt_tokens, completion_tokens, estimated,"
    " cached_tokens)"
)
"""How a statement begins that counts an answer. The values follow, then ``ADD_TO_DAY``."""

ADD_TO_DAY = (
    " ON CONFLICT (user_id, day, provider_id, model) DO UPDATE SET answers = usage.answers + 1,"
    " prompt_tokens = usage.prompt_tokens + excluded.prompt_tokens,"
    " completion_tokens = usage.completion_tokens + excluded.completion_tokens,"
    " estimated = usage.estimated OR excluded.estimated,"
    " cached_tokens = usage.cached_tokens + excluded.cached_tokens"
)

_ADD = text(
    INTO_DAY
    + " VALUES (:owner, :day, :provider_id, :model, 1, :prompt_tokens, :completion_tokens, :estimated, :cached)"
    + ADD_TO_DAY
)
_PROVIDER = select(providers.c.name).where(providers.c.id == usage.c.provider_id).scalar_subquery()
_DAYS = select(
    usage.c.day,
    _PROVIDER,
    usage.c.model,
    usage.c.answers,
    usage.c.prompt_tokens,
    usage.c.completion_tokens,
    usage.c.estimated,
    usage.c.cached_tokens,
).where(usage.c.day.between(bindparam("first"), bindparam("last")))
_IN_ORDER = (usage.c.day, usage.c.provider_id, usage.c.model)
_DAYS_OF = _DAYS.where(usage.c.user_id == OWNER).order_by(*_IN_ORDER)
_PLACE = (usage.c.user_id, *_IN_ORDER)
_USERNAME = select(users.c.username).where(users.c.id == usage.c.user_id).scalar_subquery()
_DAYS_OF_ALL = (
    _DAYS.add_columns(usage.c.user_id, usage.c.provider_id, _USERNAME)
    .where(tuple_(*_PLACE) > tuple_(*(bindparam(f"after_{each.name}", type_=each.type) for each in _PLACE)))
    .order_by(*_PLACE)
    .limit(bindparam("limit"))
)


@final
class SqlLedger(Repository, Ledger):
    """Counts in ``usage``, a row for each account, day, provider and model."""

    def add(self, used: UsedTokens) -> None:
        """Insert the row of this day, or add to it."""
        self._connection.execute(
            _ADD,
            {
                "owner": used.owner,
                "day": used.day.isoformat(),
                "provider_id": used.provider_id,
                "model": used.model,
                "prompt_tokens": used.usage.prompt_tokens,
                "completion_tokens": used.usage.completion_tokens,
                "estimated": used.estimated,
                "cached": used.usage.cached_tokens or 0,
            },
        )

    def of(self, owner: int, first: date, last: date) -> list[DayOfUsage]:
        """Read by the primary key, which has this order."""
        values = {"owner": owner, "first": first.isoformat(), "last": last.isoformat()}
        return [_day(row) for row in self._connection.execute(_DAYS_OF, values).fetchall()]

    def page(self, first: date, last: date, *, after: PlaceInLedger, limit: int) -> list[UsageOfAccount]:
        """Read in the order of the primary key."""
        values = {
            "first": first.isoformat(),
            "last": last.isoformat(),
            **{f"after_{name}": value for name, value in after._asdict().items()},
            "after_day": after.day.isoformat(),
            "limit": limit,
        }
        found = []
        for *row, user_id, provider_id, username in self._connection.execute(_DAYS_OF_ALL, values).fetchall():
            day = _day(row)
            found.append(UsageOfAccount(PlaceInLedger(user_id, day.date, provider_id, day.model), username, day))
        return found


def _day(row: Sequence[Any]) -> DayOfUsage:
    return DayOfUsage(date.fromisoformat(row[0]), *row[1:])
