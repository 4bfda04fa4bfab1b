"""The JSON of the health endpoints."""

from typing import ClassVar

import msgspec

from baio_api.schemas.common import Examples


class Health(msgspec.Struct, frozen=True):
    """Whether the service is alive, or ready."""

    examples: ClassVar[Examples] = {"contract": {"status": "ok"}}

    status: str
