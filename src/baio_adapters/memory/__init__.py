"""A whole database in dicts, with real commit and rollback, for unit tests and for services that store nothing."""

from baio_adapters.memory.database import MemoryDatabase

__all__ = ["MemoryDatabase"]
