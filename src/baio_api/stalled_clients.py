"""HTTP connections whose client has stopped reading are closed: they would hold memory and descriptors forever."""

import asyncio
import logging
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

logger = logging.getLogger("baio.http")


class Config(uvicorn.Config):
    """uvicorn's configuration, and how long a client may read nothing of what is ready for it."""

    def __init__(self, *, stalled_client_seconds: float, **options: Any) -> None:
        super().__init__(**options)
        self.stalled_client_seconds = stalled_client_seconds


class StalledClients(HttpToolsProtocol):
    """Aborts a connection whose client has read nothing for a while, whatever the response is.

    asyncio calls ``pause_writing`` when the socket takes no more, and ``resume_writing`` when everything was taken, so
    a connection whose client reads costs nothing.
    """

    config: Config

    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Pause as soon as anything waits in this process: what has been sent in part must be read, too."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching, and cancel the timer that uvicorn leaves behind when the client resets the connection.

        The timer would hold the connection's objects, with all headers, until it fires.
        """
        self._stop_watching()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begin to watch whether the client reads."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Stop watching: the client has read."""
        self._stop_watching()
        super().resume_writing()

    def _watch(self) -> None:
        seconds = self.config.stalled_client_seconds
        unread = self.transport.get_write_buffer_size()
        self._stalled = asyncio.get_running_loop().call_later(seconds, self._look, unread)

    def _look(self, unread: int) -> None:
        # While it is paused nothing is added, so less means that the client reads, however slowly.
        if self.transport.get_write_buffer_size() < unread:
            self._watch()
        else:
            logger.info("client stalled")
            self.transport.abort()

    def _stop_watching(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
