"""A real model on a socket: the embedded one's server, to be asked as any provider of OpenAI's protocol is.

    with LocalModel() as model:
        ...  # model.base_url, model.alias and model.key are what a client needs

The weights are kept in the user's cache, so that they are fetched once.
"""

from pathlib import Path
from types import TracebackType
from typing import Self

import platformdirs

from baio_adapters.llm.local import DEMONSTRATION, _Child, provider_of
from baio_adapters.llm.weights import fetch


def weights() -> Path:
    """Where the weights are, after fetching them if they are not."""
    return fetch(platformdirs.user_cache_path("baio") / "models")


class LocalModel:
    """The running server: ``base_url``, ``alias`` and ``key`` are what a client needs."""

    alias = DEMONSTRATION.identifier

    def __enter__(self) -> Self:
        file = str(weights())
        self._child = _Child(file, provider_of(file))
        self.base_url, self.key = self._child.base_url, self._child.key
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.end()
