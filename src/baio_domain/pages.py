"""Long lists are read page by page, so that they need the memory of a page, and no connection between two pages."""

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TypeVar

from baio_domain.entities import Answer, AuditEntry, Caller, Message, StoredSequence, ToolCall
from baio_domain.ports import Database, Transaction
from baio_domain.session_check import session_checked

T = TypeVar("T")
K = TypeVar("K")

PAGE_SIZE = 262_144
"""The text of a page of messages in characters. A conversation that stores no more bytes is read at once."""


def pages(
    database: Database,
    caller: Caller,
    read: Callable[[Transaction, K], list[T]],
    after: K,
    key: Callable[[T], K],
    *,
    limit: int = 1,
) -> AsyncIterator[list[T]]:
    """The pages of a list of the caller's; see ``admitted_pages``. Raises what ``session_checked`` raises, too."""
    return admitted_pages(database, partial(session_checked, caller), read, after, key, limit=limit)


async def admitted_pages(
    database: Database,
    admit: Callable[[Callable[[Transaction], list[T]]], Callable[[Transaction], list[T]]],
    read: Callable[[Transaction, K], list[T]],
    after: K,
    key: Callable[[T], K],
    *,
    limit: int = 1,
) -> AsyncIterator[list[T]]:
    """Yield pages of a list, each read in a transaction of its own, until one has fewer than ``limit`` items.

    ``admit`` wraps the work of each transaction in the check of who asks. ``read`` gets ``after``, and then the ``key``
    of the last item of the page before. Each page shows the database as it is at that moment, and is read only when it
    is asked for. Raises what ``admit`` and ``read`` raise.

    A page belongs to the caller, who can empty it to free its memory.
    """
    while True:
        page = await database.read(admit(partial(_read, read, after)))
        length = len(page)
        if length:
            after = key(page[-1])
            yield page
        if length < limit:
            return


def _read(read: Callable[[Transaction, K], list[T]], after: K, tx: Transaction) -> list[T]:
    return read(tx, after)


def by_id(item: Message | Answer | AuditEntry | ToolCall | StoredSequence) -> int:
    """The key of lists in the order of ids."""
    return item.id


async def one_page(items: Sequence[T]) -> AsyncIterator[list[T]]:
    """What has been read already, as ``pages`` would yield it."""
    if items:
        yield list(items)
