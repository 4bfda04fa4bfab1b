"""The whole database over dicts, with real commit and rollback: for unit tests, and for services that forget."""

from baio_adapters.memory.database import MemoryDatabase

__all__ = ["MemoryDatabase"]
