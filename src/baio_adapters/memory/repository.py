"""What every repository has: the tables."""

from baio_adapters.memory.tables import Tables


class Repository:
    """Part of a transaction over one copy of the tables."""

    __slots__ = ("_tables",)

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
