"""A real model on a socket: the embedded model's server, used like any provider with OpenAI's protocol.

    with LocalModel() as model:
        ...  # a client needs model.base_url, model.alias and model.key

The weights are kept in the user's cache, so they are downloaded only once.
"""

from pathlib import Path
from types import TracebackType
from typing import Self

import platformdirs

from baio_adapters.llm.local import DEMO_MODEL, _ServerProcess, provider_for
from baio_adapters.llm.weights import fetch


def weights() -> Path:
    """The path of the weights, which are downloaded if they are missing."""
    return fetch(platformdirs.user_cache_path("baio") / "models")


class LocalModel:
    """The running server. A client needs its ``base_url``, ``alias`` and ``key``."""

    alias = DEMO_MODEL.identifier

    def __enter__(self) -> Self:
        file = str(weights())
        self._server = _ServerProcess(file, provider_for(file))
        self.base_url, self.key = self._server.base_url, self._server.key
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.kill()
