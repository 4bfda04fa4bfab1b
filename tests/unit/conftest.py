"""A BAiO for each test, on a loop of its own."""

from collections.abc import AsyncIterator
from typing import Any

import hypothesis
import pytest

from baio_domain.entities import Caller
from tests.unit.world import OPENAI, OTHER, BAiO, VirtualTimeLoop

# A busy machine is no failure, and these tests leave nothing on the disk.
hypothesis.settings.register_profile("unit", deadline=None, database=None)
hypothesis.settings.load_profile("unit")


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


@pytest.fixture
async def baio() -> AsyncIterator[BAiO]:
    process = BAiO()
    await process.load_catalogue([OPENAI, OTHER])
    async with process.answering.running(drain_seconds=0):
        yield process


@pytest.fixture
async def caller(baio: BAiO) -> Caller:
    """Somebody with an account and a key."""
    return await baio.someone()


@pytest.fixture
async def other(baio: BAiO) -> Caller:
    """Somebody else."""
    return await baio.someone("kari")


@pytest.fixture
async def conversation(baio: BAiO, caller: Caller) -> int:
    """A conversation of the caller's, without questions."""
    return await baio.begin(caller)
