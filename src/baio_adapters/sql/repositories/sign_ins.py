"""Sign-ins with institutions that have begun, and tickets."""

from dataclasses import astuple
from datetime import datetime
from typing import final

from sqlalchemy import bindparam, delete, func, insert, select

from baio_adapters.sql.repositories.repository import Repository, columns, delete_before
from baio_adapters.sql.tables import sign_ins, tickets
from baio_domain.identities import Assertion, StartedSignIn
from baio_domain.ports import SignIns

_ASSERTION = columns(tickets, "institution", "last_name")

_START = insert(sign_ins)
_COUNT = select(func.count()).select_from(sign_ins)
_TAKE = (
    delete(sign_ins)
    .where(sign_ins.c.digest == bindparam("known"))
    .returning(sign_ins.c.institution, sign_ins.c.return_to, sign_ins.c.challenge, sign_ins.c.until)
)
_ADD_TICKET = insert(tickets)
_TICKET = select(*_ASSERTION).where(
    tickets.c.digest == bindparam("known"),
    tickets.c.challenge == bindparam("proof"),
    tickets.c.until > bindparam("now"),
    tickets.c.until <= bindparam("latest"),
)
_USE_TICKET = delete(tickets).where(tickets.c.digest == bindparam("known"))
_OF_ISSUER = delete(tickets).where(tickets.c.issuer == bindparam("at"))
_SUBJECT = tickets.c.subject == bindparam("about", type_=tickets.c.subject.type)
_IN_THEIRS = tickets.c.their_session == bindparam("within", type_=tickets.c.their_session.type)
_CANCEL = {
    (True, False): _OF_ISSUER.where(_SUBJECT),
    (False, True): _OF_ISSUER.where(_IN_THEIRS),
    (True, True): _OF_ISSUER.where(_SUBJECT, _IN_THEIRS | tickets.c.their_session.is_(None)),
}
_FORGET = [delete_before(table.c.until) for table in (sign_ins, tickets)]


@final
class SqlSignIns(Repository, SignIns):
    """Beginnings in ``sign_ins``, tickets in ``tickets``."""

    def start(self, digest: bytes, started: StartedSignIn, until: datetime) -> None:
        """Insert."""
        values = dict(zip(("institution", "return_to", "challenge"), astuple(started), strict=True))
        self._connection.execute(_START, {"digest": digest, **values, "until": until})

    def count(self) -> int:
        """Count all rows, which are few."""
        return self._connection.execute(_COUNT).scalar_one()

    def take(self, digest: bytes, now: datetime, latest: datetime) -> StartedSignIn | None:
        """Delete by digest."""
        row = self._connection.execute(_TAKE, {"known": digest}).first()
        return StartedSignIn(*row[:3]) if row is not None and now < row.until <= latest else None

    def add_ticket(self, digest: bytes, challenge: str, assertion: Assertion, until: datetime) -> None:
        """Insert."""
        values = dict(zip((each.name for each in _ASSERTION), astuple(assertion), strict=True))
        self._connection.execute(_ADD_TICKET, {**values, "digest": digest, "challenge": challenge, "until": until})

    def ticket(self, digest: bytes, challenge: str, now: datetime, latest: datetime) -> Assertion | None:
        """Read by digest and challenge."""
        values = {"known": digest, "proof": challenge, "now": now, "latest": latest}
        row = self._connection.execute(_TICKET, values).first()
        return None if row is None else Assertion(*row)

    def use_ticket(self, digest: bytes) -> bool:
        """Delete by digest."""
        return bool(self._connection.execute(_USE_TICKET, {"known": digest}).rowcount)

    def cancel(self, issuer: str, subject: str | None, their_session: str | None) -> None:
        """Delete among the tickets, which live for a minute."""
        statement = _CANCEL.get((subject is not None, their_session is not None))
        if statement is not None:
            self._connection.execute(statement, {"at": issuer, "about": subject, "within": their_session})

    def forget(self, before: datetime) -> None:
        """Delete by the indexes on times."""
        for statement in _FORGET:
            self._connection.execute(statement, {"before": before})
