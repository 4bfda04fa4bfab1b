"""A whole database in dicts, with real commit and rollback, for unit tests and for services that store nothing."""

from baio_adapters.memory.database import MemoryDatabase
from baio_adapters.memory.workers import MemoryWorkers

__all__ = ["MemoryDatabase", "MemoryWorkers"]
