"""Sign-ins with institutions that have begun, and tickets."""

from datetime import datetime
from typing import final

from baio_adapters.memory.identities import is_over
from baio_adapters.memory.repository import Repository
from baio_domain.identities import Assertion, StartedSignIn
from baio_domain.ports import SignIns


@final
class MemorySignIns(Repository, SignIns):
    """Beginnings in ``Tables.sign_ins``, tickets with their challenges in ``Tables.tickets``, each with its expiry."""

    def start(self, digest: bytes, started: StartedSignIn, until: datetime) -> None:
        self._tables.sign_ins[digest] = started, until

    def count(self) -> int:
        return len(self._tables.sign_ins)

    def take(self, digest: bytes, now: datetime, latest: datetime) -> StartedSignIn | None:
        started, until = self._tables.sign_ins.pop(digest, (None, now))
        return started if now < until <= latest else None

    def add_ticket(self, digest: bytes, challenge: str, assertion: Assertion, until: datetime) -> None:
        self._tables.tickets[digest] = assertion, challenge, until

    def ticket(self, digest: bytes, challenge: str, now: datetime, latest: datetime) -> Assertion | None:
        assertion, known, until = self._tables.tickets.get(digest, (None, "", now))
        return assertion if known == challenge and now < until <= latest else None

    def use_ticket(self, digest: bytes) -> bool:
        return self._tables.tickets.pop(digest, None) is not None

    def cancel(self, issuer: str, subject: str | None, their_session: str | None) -> None:
        def ended(each: Assertion) -> bool:
            return each.issuer == issuer and is_over(each.subject, each.session, subject, their_session)

        self._tables.tickets = {k: v for k, v in self._tables.tickets.items() if not ended(v[0])}

    def forget(self, before: datetime) -> None:
        self._tables.sign_ins = {k: v for k, v in self._tables.sign_ins.items() if v[1] >= before}
        self._tables.tickets = {k: v for k, v in self._tables.tickets.items() if v[2] >= before}
