"""The address that Prometheus asks: ``GET /metrics``, and nothing else."""

import socket
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, final
from urllib.parse import urlsplit

from baio_adapters.metrics.measures import Measures

PATH = "/metrics"

CLIENT_SECONDS = 10.0
"""How long a client may take to send its request, and to take its response."""

MAX_CLIENTS = 16
"""How many clients are served at once. Further connections are closed."""


@final
class MetricsPage(ThreadingHTTPServer):
    """Serves the metrics from threads of its own, from when it is made until the process ends. Raises OSError."""

    daemon_threads = True

    def __init__(self, host: str, port: int, measures: Measures) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.measures = measures
        self._places = threading.BoundedSemaphore(MAX_CLIENTS)
        super().__init__((host, port), _Handler)
        threading.Thread(target=self.serve_forever, name="baio-metrics", daemon=True).start()

    @property
    def address(self) -> str:
        """Its URL."""
        host, port, *_ = self.socket.getsockname()
        return f"http://{f'[{host}]' if ':' in host else host}:{port}{PATH}"

    def server_bind(self) -> None:
        """Bind, without asking a name server for this machine's name, which can take long."""
        if sys.platform != "win32":  # there it would let two programs share the port
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as socketserver has them
        """Serve a client in a thread, if there is a place."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as above
        """Serve it, and free its place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as above
        """Do nothing: the client has left, or is too slow."""


class _Handler(BaseHTTPRequestHandler):
    server: MetricsPage
    timeout = CLIENT_SECONDS
    server_version, sys_version = "BAiO", ""

    def do_GET(self) -> None:
        """Serve the metrics."""
        if urlsplit(self.path).path != PATH:
            self.send_error(HTTPStatus.NOT_FOUND, explain=f"There is only {PATH} here.")
            return
        body, content_type = self.server.measures.exposition(self.headers.get("Accept", ""))
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - http.server's name
        """Log nothing: Prometheus asks every few seconds."""
